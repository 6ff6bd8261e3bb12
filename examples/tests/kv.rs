//! `kv` as a user runs it: many processes, values in, processes killed, values out.

#![allow(clippy::unwrap_used, reason = "a test may fail")]
#![allow(clippy::disallowed_types, reason = "what is waited for has a bound")]

mod support;

use std::process::Command;
use std::time::{Duration, Instant};

use support::{Running, number};

fn kv(args: &[&str]) -> Result<String, String> {
    let output = Command::new(env!("CARGO_BIN_EXE_kv")).args(args).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap().trim_end().to_owned();
    match output.status.success() {
        true => Ok(text(output.stdout)),
        false => Err(text(output.stderr)),
    }
}

fn start(args: &[&str]) -> Running {
    Running::start(Command::new(env!("CARGO_BIN_EXE_kv")).arg("node").args(args))
}

fn node(args: &[&str]) -> (Running, String) {
    let running = start(args);
    let contact = running.says("contact");
    (running, contact)
}

/// Tries until it is so: at most two minutes, in which every copy is compared with the others.
fn eventually(what: &str, is_so: impl Fn() -> Result<(), String>) {
    let until = Instant::now() + Duration::from_secs(120);
    while let Err(why) = is_so() {
        assert!(Instant::now() < until, "{what}: {why}");
    }
}

/// A network of processes over one overlay.
struct Network {
    overlay: &'static str,
    nodes: Vec<(Running, String)>,
    /// Keys and values.
    values: Vec<(String, String)>,
}

impl Network {
    /// `processes` nodes, and twice as many values, put through all but the first `doomed` of them.
    fn start(overlay: &'static str, processes: usize, doomed: usize) -> Network {
        let mut nodes = vec![node(&["--overlay", overlay])];
        for _ in 1..processes {
            let first = nodes[0].1.clone();
            nodes.push(node(&["--overlay", overlay, "--join", &first]));
        }
        let through = |i: usize| &nodes[doomed + i % (processes - doomed)].1;
        let put = |i: usize| {
            let value = format!("value {i}");
            let said = kv(&["put", "--join", through(i), &value]).unwrap();
            (said.strip_prefix("key: ").unwrap().to_owned(), value)
        };
        let values = (0..2 * processes).map(put).collect();
        Network { overlay, nodes, values }
    }

    /// Every value is read, and for a quarter of the keys three nodes name one and the same that lives.
    fn is_whole(&self) {
        for (i, (key, value)) in self.values.iter().enumerate() {
            let node = |j: usize| self.nodes[(i + j) % self.nodes.len()].1.as_str();
            eventually(value, || match kv(&["get", "--join", node(0), key])? {
                read if read == *value => Ok(()),
                read => Err(format!("{read} is read")),
            });
            if i % 4 == 0 {
                eventually(key, || self.agree(key, [0, 1, 2].map(node)));
            }
        }
    }

    /// Whether these nodes name the same one for a key, and it lives.
    fn agree(&self, key: &str, nodes: [&str; 3]) -> Result<(), String> {
        let found = nodes.map(|node| kv(&["find", "--join", node, key]));
        let root = found[0].clone()?;
        let lives = self.nodes.iter().any(|(_, contact)| root == format!("root: {contact}"));
        match lives && found.iter().all(|other| other.as_ref() == Ok(&root)) {
            true => Ok(()),
            false => Err(format!("{found:?}")),
        }
    }

    /// A node comes in the same moment in which the first of the others goes.
    fn one_comes_while_another(&mut self, goes: impl FnOnce(Running)) {
        let through = self.nodes[1].1.clone();
        let newcomer = start(&["--overlay", self.overlay, "--join", &through]);
        let (leaver, _) = self.nodes.remove(0);
        goes(leaver);
        let contact = newcomer.says("contact");
        self.nodes.push((newcomer, contact));
    }
}

/// A third of the processes are killed with `kill -9`; then one joins while another is killed, and one while another
/// leaves by itself. Whoever is left reads every value and agrees with the others on whose a key is. Whom a value was
/// put through stays: so that, whatever the lot, one copy does, from which the others are made again.
fn values_survive_the_death_of_processes(overlay: &'static str) {
    let processes = number("P2P_PROCESSES", 8);
    let third = processes * 10 / 32;
    let mut network = Network::start(overlay, processes, third + 2);
    // The first, through whom all have joined, is among them.
    network.nodes.drain(..third).for_each(drop);
    network.is_whole();
    network.one_comes_while_another(drop);
    network.is_whole();
    network.one_comes_while_another(|leaver| assert!(leaver.interrupted().0, "it ends well"));
    network.is_whole();
}

#[test]
fn values_survive_the_death_of_processes_over_can() {
    values_survive_the_death_of_processes("can");
}

#[test]
fn values_survive_the_death_of_processes_over_chord() {
    values_survive_the_death_of_processes("chord");
}

#[test]
fn values_survive_the_death_of_processes_over_kademlia() {
    values_survive_the_death_of_processes("kademlia");
}

#[test]
fn values_survive_the_death_of_processes_over_pastry() {
    values_survive_the_death_of_processes("pastry");
}

#[test]
fn values_survive_the_death_of_processes_over_tapestry() {
    values_survive_the_death_of_processes("tapestry");
}

/// Every process of a network is killed with `kill -9`, and all start again from their folders, at other addresses: every
/// value is read, through every node, and so is a name.
fn a_network_that_was_killed_as_a_whole_has_all_its_values(overlay: &str) {
    let processes = number("P2P_PROCESSES", 8);
    let data = std::env::temp_dir().join(format!("p2p-kv-{overlay}-{}", std::process::id()));
    let folder = |i: usize| data.join(i.to_string()).to_str().unwrap().to_owned();
    let network = || {
        let mut nodes = vec![node(&["--overlay", overlay, "--data", &folder(0)])];
        for i in 1..processes {
            let first = nodes[0].1.clone();
            nodes.push(node(&["--overlay", overlay, "--data", &folder(i), "--join", &first]));
        }
        nodes
    };
    std::fs::create_dir_all(&data).unwrap();
    let before = network();
    let through = |i: usize| before[i % processes].1.as_str();
    let put = |i: usize| {
        let value = format!("value {i}");
        let said = kv(&["put", "--join", through(i), &value]).unwrap();
        (said.strip_prefix("key: ").unwrap().to_owned(), value)
    };
    let mut values: Vec<(String, String)> = (0..2 * processes).map(put).collect();
    let me = data.join("me").to_str().unwrap().to_owned();
    let named = kv(&["put", "--join", through(1), "--data", &me, "--name", "greeting", "hello"]).unwrap();
    values.push((named.strip_prefix("name: ").unwrap().to_owned(), "hello".to_owned()));
    // Two nodes cannot share a folder; which one is in use, is said.
    let refused = kv(&["node", "--overlay", overlay, "--data", &folder(0)]).unwrap_err();
    assert!(refused.contains("records.redb is in use"), "{refused}");
    let mut killed: Vec<Running> = before.into_iter().map(|(running, _)| running).collect();
    killed.iter_mut().for_each(Running::kill);

    let after = network();
    for (i, (key, value)) in values.iter().enumerate() {
        eventually(value, || match kv(&["get", "--join", &after[i % processes].1, key])? {
            read if read == *value => Ok(()),
            read => Err(format!("{read} is read")),
        });
    }
    drop(after);
    std::fs::remove_dir_all(data).unwrap();
}

#[test]
fn over_kademlia_a_network_that_was_killed_as_a_whole_has_all_its_values() {
    a_network_that_was_killed_as_a_whole_has_all_its_values("kademlia");
}

#[test]
fn over_chord_a_network_that_was_killed_as_a_whole_has_all_its_values() {
    a_network_that_was_killed_as_a_whole_has_all_its_values("chord");
}

#[test]
fn a_name_leads_to_the_newest_value() {
    let data = std::env::temp_dir().join(format!("p2p-kv-{}", std::process::id()));
    let folder = data.to_str().unwrap();
    let (_first, first) = node(&[]);
    let (_second, second) = node(&["--join", &first]);
    let put = |value| kv(&["put", "--join", &first, "--data", folder, "--name", "greeting", value]);
    let name = put("hello").unwrap().strip_prefix("name: ").unwrap().to_owned();
    assert_eq!(kv(&["get", "--join", &second, &name]).unwrap(), "hello");
    assert_eq!(put("hello again").unwrap(), format!("name: {name}"));
    assert_eq!(kv(&["get", "--join", &second, &name]).unwrap(), "hello again");
    std::fs::remove_dir_all(data).unwrap();
}

#[test]
fn what_is_wrong_is_said() {
    assert!(kv(&["get", &"00".repeat(32)]).unwrap_err().contains("--join"));
    let (running, contact) = node(&[]);
    let nothing = kv(&["get", "--join", &contact, &"00".repeat(32)]).unwrap_err();
    assert!(nothing.contains("not found"), "{nothing}");
    assert!(kv(&["get", "--join", &contact, "xyz"]).unwrap_err().contains("64 hexadecimal digits"));
    assert!(kv(&["node", "--join", "nonsense"]).unwrap_err().contains("p2p://"));
    drop(running);
    assert!(kv(&["get", "--join", &contact, &"00".repeat(32)]).unwrap_err().contains(&contact));
}
