//! `kv` as a user runs it: many processes, values in, processes killed, values out.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod support;

use std::process::Command;

use support::{Running, number};

fn kv(args: &[&str]) -> Result<String, String> {
    let output = Command::new(env!("CARGO_BIN_EXE_kv")).args(args).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap().trim_end().to_owned();
    match output.status.success() {
        true => Ok(text(output.stdout)),
        false => Err(text(output.stderr)),
    }
}

fn node(args: &[&str]) -> (Running, String) {
    let running = Running::start(Command::new(env!("CARGO_BIN_EXE_kv")).arg("node").args(args));
    let contact = running.says("contact");
    (running, contact)
}

/// A third of the processes are killed with `kill -9`, so that fewer than the replicas of a value die at once or all
/// that matter have been copied; every value is still read, through whoever is left.
fn values_survive_the_death_of_processes(overlay: &str) {
    let processes = number("P2P_PROCESSES", 8);
    let mut nodes = vec![node(&["--overlay", overlay])];
    for _ in 1..processes {
        let first = nodes[0].1.clone();
        nodes.push(node(&["--overlay", overlay, "--join", &first]));
    }
    let values: Vec<(String, String)> = (0..2 * processes)
        .map(|i| {
            let value = format!("value {i}");
            let said = kv(&["put", "--join", &nodes[i % processes].1, &value]).unwrap();
            (said.strip_prefix("key: ").unwrap().to_owned(), value)
        })
        .collect();
    // The first, through whom all have joined, is among them.
    for (running, _) in nodes.drain(..processes * 10 / 32) {
        drop(running);
    }
    for (i, (key, value)) in values.iter().enumerate() {
        let contact = &nodes[i % nodes.len()].1;
        assert_eq!(kv(&["get", "--join", contact, key]).as_ref(), Ok(value), "after the deaths");
    }
}

#[test]
fn values_survive_the_death_of_processes_over_kademlia() {
    values_survive_the_death_of_processes("kademlia");
}

#[test]
fn values_survive_the_death_of_processes_over_chord() {
    values_survive_the_death_of_processes("chord");
}

#[test]
fn values_survive_the_death_of_processes_over_pastry() {
    values_survive_the_death_of_processes("pastry");
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
