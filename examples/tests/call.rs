//! `call` as users run it: a login server, super-nodes and users as processes; calls in each way, and deaths.

#![allow(clippy::unwrap_used, reason = "a test may fail")]
#![allow(clippy::disallowed_methods, reason = "it has files")]

mod support;

use std::process::Command;

use support::{Running, number};

fn call(args: &[&str]) -> Running {
    Running::start(Command::new(env!("CARGO_BIN_EXE_call")).args(args))
}

/// A login server, super-nodes, and users; every third user accepts no connections.
struct Network {
    login: (Running, String),
    hubs: Vec<(Running, String)>,
    users: Vec<(Running, String)>,
}

impl Network {
    /// So many processes in all.
    fn start(processes: usize) -> Network {
        let server = call(&["login-server"]);
        let login = server.says("login");
        let mut network = Network { login: (server, login), hubs: Vec::new(), users: Vec::new() };
        let hubs = (processes / 4).max(3);
        for i in 0..hubs {
            let hub = network.node(&format!("hub{i}"), &["--super-node"]);
            let contact = hub.says("contact");
            assert_eq!(hub.says("logged in"), format!("hub{i}"));
            network.hubs.push((hub, contact));
        }
        for i in 0..processes.saturating_sub(1 + hubs).max(2) {
            network.add(&format!("user{i}"), i % 3 == 2, &[]);
        }
        network
    }

    /// Starts a node that joins through two of the super-nodes.
    fn node(&self, name: &str, more: &[&str]) -> Running {
        let mut args = vec!["node", "--name", name, "--login", &self.login.1];
        for (_, hub) in self.hubs.iter().rev().take(2) {
            args.extend(["--join", hub]);
        }
        args.extend(more);
        call(&args)
    }

    fn add(&mut self, name: &str, firewalled: bool, more: &[&str]) {
        let more: Vec<&str> =
            firewalled.then_some("--firewalled").into_iter().chain(more.iter().copied()).collect();
        let user = self.node(name, &more);
        assert_eq!(user.says("logged in"), name);
        self.users.push((user, name.to_owned()));
    }

    /// Has somebody new call a user for two seconds: which way, and how each has heard the other.
    fn calls(&self, caller: &str, firewalled: bool, callee: &str) -> (String, [f64; 2]) {
        let mut more = vec!["--call", callee, "--seconds", "2"];
        if firewalled {
            more.push("--firewalled");
        }
        let calling = self.node(caller, &more);
        let way = calling.says("call");
        let here = share(&calling.says("heard"));
        let (there, _) = self.users.iter().find(|(_, name)| name == callee).unwrap();
        let there = share(&there.says("heard"));
        assert!(calling.ends().0, "it ends well");
        (way, [here, there])
    }
}

/// Of `ada direct: 99 of 100 frames, …`, how many have come.
fn share(heard: &str) -> f64 {
    let (_, counts) = heard.split_once(": ").unwrap();
    let mut words = counts.split(' ');
    let count: f64 = words.next().unwrap().parse().unwrap();
    assert_eq!(words.next(), Some("of"));
    count / words.next().unwrap().parse::<f64>().unwrap()
}

/// Nothing is lost on one machine but what comes before the other listens, and what a relay does not carry.
fn is_heard((way, heard): (String, [f64; 2]), expected: &str) {
    assert_eq!(way, expected);
    assert!(heard.iter().all(|share| *share > 0.9), "{way}: {heard:?}");
}

#[test]
fn calls_are_made_directly_reversed_and_through_a_super_node() {
    let network = Network::start(number("P2P_PROCESSES", 8));
    is_heard(network.calls("ada", false, "user0"), "user0 direct");
    if network.users.len() > 2 {
        is_heard(network.calls("bob", false, "user2"), "user2 reversed");
        is_heard(network.calls("eve", true, "user2"), "user2 relayed");
    }
    is_heard(network.calls("dan", true, "user1"), "user1 direct");
}

/// Whoever is told that a name is certified keeps it, even if the server is killed that moment.
#[test]
fn names_outlive_the_login_server() {
    let data = std::env::temp_dir().join(format!("p2p-call-names-{}", std::process::id()));
    let (server_data, ada_data) = (data.join("server"), data.join("ada"));
    let server =
        |listen: &str| call(&["login-server", "--data", server_data.to_str().unwrap(), "--listen", listen]);
    let ada = |login: &str| {
        call(&["node", "--name", "ada", "--login", login, "--data", ada_data.to_str().unwrap()])
    };
    let mut first = server("127.0.0.1:0");
    let login = first.says("login");
    let at_first = ada(&login);
    assert_eq!(at_first.says("logged in"), "ada");
    first.kill();
    drop(at_first);
    // It ended while it wrote another name.
    let names = server_data.join("names");
    let mut torn = std::fs::read(&names).unwrap();
    torn.extend(b"bob 0123456789");
    std::fs::write(&names, torn).unwrap();
    let addr = login.rsplit_once('@').unwrap().1;
    let mut second = server(addr);
    assert_eq!(second.says("login"), login);
    let thief =
        Command::new(env!("CARGO_BIN_EXE_call")).args(["node", "--name", "ada", "--login", &login]).output();
    let thief = thief.unwrap();
    let said = String::from_utf8(thief.stderr).unwrap();
    assert!(!thief.status.success() && said.contains("the name is taken"), "{said}");
    assert_eq!(ada(&login).says("logged in"), "ada");
    second.kill();
    // What was damaged is not taken for what was written.
    let mut damaged = std::fs::read(&names).unwrap();
    damaged[10] ^= 1;
    std::fs::write(&names, damaged).unwrap();
    let refused = Command::new(env!("CARGO_BIN_EXE_call"))
        .args(["login-server", "--data", server_data.to_str().unwrap()])
        .output()
        .unwrap();
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(!refused.status.success() && said.contains("line 1"), "{said}");
    std::fs::remove_dir_all(data).unwrap();
}

/// A third of the super-nodes dies while users watch each other; the login server once all are logged in.
#[test]
fn who_is_logged_in_goes_on_when_servers_die() {
    let mut network = Network::start(number("P2P_PROCESSES", 8));
    // Watches everybody, and two who are to come.
    let names: Vec<String> = network.users.iter().map(|(_, name)| name.clone()).collect();
    let mut more: Vec<&str> = names.iter().flat_map(|name| ["--buddy", name]).collect();
    more.extend(["--firewalled", "--buddy", "late", "--buddy", "latest"]);
    let watcher = network.node("watcher", &more);
    for _ in &names {
        let said = watcher.hears_of("online");
        assert!(names.contains(&said), "{said}");
    }
    network.add("late", true, &[]);
    assert_eq!(watcher.hears_of("online"), "late");
    // The last, through whom all have joined, are among them.
    let third = network.hubs.len() / 3;
    network.hubs.truncate(network.hubs.len() - third);
    network.add("latest", true, &[]);
    assert_eq!(watcher.hears_of("online"), "latest");

    // The caller is logged in before the server dies, and calls long after.
    let caller = network.node("caller", &["--call", "later", "--seconds", "1"]);
    assert_eq!(caller.says("logged in"), "caller");
    network.add("later", false, &[]);
    network.login.0.kill();
    assert_eq!(caller.says("call"), "later direct");
    assert!(caller.ends().0);

    // Who dies is missed when his time is over.
    let (gone, name) = network.users.remove(0);
    drop(gone);
    assert_eq!(watcher.hears_of("offline"), name);
}
