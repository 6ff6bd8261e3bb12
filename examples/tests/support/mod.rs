//! Programs that run beside a test, and folders for them.

#![allow(dead_code, unreachable_pub, unused_imports, reason = "each test file uses some of it")]
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::unwrap_used,
    reason = "it has files; what is waited for has a bound; a test may fail"
)]

mod folder;

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

pub use folder::{Folder, same};

/// How long a program may take that is waited for.
const LONGEST: Duration = Duration::from_secs(600);

/// A running program; ended by its process id when dropped, as by `kill -9`.
pub struct Running {
    child: Child,
    pub input: ChildStdin,
    said: mpsc::Receiver<String>,
}

impl Running {
    pub fn start(command: &mut Command) -> Running {
        let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = piped.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let (sender, said) = mpsc::channel();
        std::thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Running { input: child.stdin.take().unwrap(), child, said }
    }

    /// The next line it prints.
    pub fn hears(&self) -> String {
        self.said.recv_timeout(Duration::from_secs(90)).expect("nothing was heard in 90 s")
    }

    /// The next line it prints, if it comes soon.
    pub fn hears_soon(&self) -> Option<String> {
        self.said.recv_timeout(Duration::from_millis(500)).ok()
    }

    /// What follows `name: ` in the first line from now on that begins so.
    pub fn says(&self, name: &str) -> String {
        loop {
            if let Some(value) = self.hears().strip_prefix(name).and_then(|rest| rest.strip_prefix(": ")) {
                return value.to_owned();
            }
        }
    }

    /// How many bytes of memory it has had at most.
    pub fn most_memory(&self) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() << 10
    }

    /// How many bytes it has read from files.
    pub fn has_read(&self) -> u64 {
        let io = std::fs::read_to_string(format!("/proc/{}/io", self.child.id())).unwrap();
        io.lines().find_map(|line| line.strip_prefix("rchar: ")).unwrap().parse().unwrap()
    }

    /// Its number among the processes.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal.
    pub fn signal(&self, name: &str) {
        let kill = format!("kill -{name} {}", self.child.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
    }

    /// The name in the first line from now on that is `name: value`.
    pub fn hears_of(&self, value: &str) -> String {
        loop {
            let line = self.hears();
            if let Some((name, _)) = line.split_once(": ").filter(|(_, said)| *said == value) {
                return name.to_owned();
            }
        }
    }

    /// Ends it as `kill -9` does.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Ends it as a user does at the terminal, with `^C`; see [`Running::ends`].
    pub fn interrupted(self) -> (bool, Vec<String>) {
        self.signal("INT");
        self.ends()
    }

    /// Whether it ends well, and what it has printed by then: in ten minutes at most.
    pub fn ends(mut self) -> (bool, Vec<String>) {
        let (until, mut lines) = (Instant::now() + LONGEST, Vec::new());
        loop {
            match self.said.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(line) => lines.push(line),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {
                    panic!("process {} has not ended in {LONGEST:?}, and has said {lines:?}", self.id())
                }
            }
        }
        (self.child.wait().unwrap().success(), lines)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a program to its end; what it has printed, or said of its failure.
pub fn run(program: &str, args: &[&str]) -> Result<String, String> {
    run_with_input(program, args, "")
}

/// The same, with a line on its standard input.
pub fn run_with_input(program: &str, args: &[&str], line: &str) -> Result<String, String> {
    let mut command = Command::new(program);
    let piped = command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = piped.spawn().unwrap();
    // It may not want it.
    let _ = writeln!(child.stdin.take().unwrap(), "{line}");
    let output = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap().trim_end().to_owned();
    match output.status.success() {
        true => Ok(text(output.stdout)),
        false => Err(text(output.stderr)),
    }
}

/// What follows `name: `.
pub fn said(text: &str, name: &str) -> String {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    line.unwrap_or_else(|| panic!("no {name} in {text}")).to_owned()
}

/// Tries until it is so: at most two minutes.
pub fn eventually<T>(what: &str, mut is_so: impl FnMut() -> Result<T, String>) -> T {
    let until = Instant::now() + Duration::from_secs(120);
    loop {
        match is_so() {
            Ok(value) => return value,
            Err(why) => assert!(Instant::now() < until, "{what}: {why}"),
        }
    }
}

/// A node of a ledger, how high its chain was when it started, and where it is found.
pub struct Node {
    pub running: Running,
    pub height: u64,
    pub contact: String,
}

impl Node {
    pub fn start(program: &str, args: &[&str]) -> Node {
        let running = Running::start(Command::new(program).arg("node").args(args));
        let height = running.says("height").parse().unwrap();
        let contact = running.says("contact");
        Node { running, height, contact }
    }
}

/// A number from the environment: full sizes are for the second tier.
pub fn number(name: &str, default: usize) -> usize {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}
