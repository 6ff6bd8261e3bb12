//! `mainline` as a user runs it: processes that announce, find, put and get; one that is gone and comes back.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod support;

use std::process::Command;

use support::Running;

const TORRENT: &str = "c12fe1c06bba254a9dc9f519b335aa7c1367a88a";

fn mainline(args: &[&str]) -> Result<String, String> {
    let output = Command::new(env!("CARGO_BIN_EXE_mainline")).args(args).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap().trim_end().to_owned();
    match output.status.success() {
        true => Ok(text(output.stdout)),
        false => Err(text(output.stderr)),
    }
}

fn node(args: &[&str]) -> (Running, String) {
    let listen = ["node", "--listen", "127.0.0.1:0"];
    let running = Running::start(Command::new(env!("CARGO_BIN_EXE_mainline")).args(listen).args(args));
    let address = running.says("address");
    (running, address)
}

#[test]
fn processes_announce_find_put_and_get_and_come_back_from_their_table() {
    let dir = std::env::temp_dir().join(format!("p2p-mainline-{}", std::process::id()));
    let data = dir.join("node").display().to_string();
    let (_first, first) = node(&[]);
    let mut nodes: Vec<(Running, String)> = (0..8).map(|_| node(&["--bootstrap", &first])).collect();
    nodes.push(node(&["--bootstrap", &first, "--data", &data]));
    let ids: Vec<String> = nodes.iter().map(|(node, _)| node.says("id")).collect();
    let through = |i: usize| nodes[i].1.clone();

    let stored = mainline(&["announce", "--bootstrap", &through(1), "--port", "51413", TORRENT]).unwrap();
    let stored: usize = stored.strip_prefix("stored: ").unwrap().parse().unwrap();
    assert!((8..=10).contains(&stored), "{stored}");
    assert_eq!(mainline(&["peers", "--bootstrap", &through(2), TORRENT]).unwrap(), "peer: 127.0.0.1:51413");

    let target = mainline(&["put", "--bootstrap", &through(3), "Hello World!"]).unwrap();
    // From BEP 44.
    assert_eq!(target, "target: e5f96f6f38320f0f33959cb4d3d656452117aadb");
    let target = target.strip_prefix("target: ").unwrap();
    assert_eq!(mainline(&["get", "--bootstrap", &through(4), target]).unwrap(), "Hello World!");

    let key = dir.join("key").display().to_string();
    let named = |through: &str, value: &str| {
        let said =
            mainline(&["put", "--bootstrap", through, "--data", &key, "--name", "greeting", value]).unwrap();
        said.lines().find_map(|line| line.strip_prefix("name: ")).unwrap().to_owned()
    };
    let name = named(&through(5), "hello");
    assert_eq!(mainline(&["get", "--bootstrap", &through(6), &name]).unwrap(), "hello");
    assert_eq!(named(&through(7), "good morning"), name);
    assert_eq!(mainline(&["get", "--bootstrap", &through(0), &name]).unwrap(), "good morning");

    // It needs no bootstrap host the second time, and is who it was.
    let (last, _) = nodes.pop().unwrap();
    let (ended_well, _) = last.interrupted();
    assert!(ended_well);
    let (again, address) = node(&["--data", &data]);
    assert_eq!(again.says("id"), *ids.last().unwrap());
    assert_eq!(mainline(&["get", "--bootstrap", &address, target]).unwrap(), "Hello World!");

    let nobody = mainline(&["peers", TORRENT]).unwrap_err();
    assert!(nobody.contains("--bootstrap"), "{nobody}");
    let unknown = mainline(&["get", "--bootstrap", &first, &"0".repeat(40)]).unwrap_err();
    assert!(unknown.contains("not found"), "{unknown}");
    std::fs::remove_dir_all(&dir).unwrap();
}
