//! `registry` as users run it: a name is claimed, changed and given away among nodes that are killed.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod support;

use support::{Node, eventually, run, said};

fn registry(args: &[&str]) -> Result<String, String> {
    run(env!("CARGO_BIN_EXE_registry"), args)
}

fn node(args: &[&str]) -> Node {
    Node::start(env!("CARGO_BIN_EXE_registry"), args)
}

#[test]
fn a_name_has_one_owner_who_gives_it_away() {
    let data = std::env::temp_dir().join(format!("p2p-registry-{}", std::process::id()));
    std::fs::create_dir_all(&data).unwrap();
    let at = |name: &str| data.join(name).to_str().unwrap().to_owned();
    let first = node(&["--spacing", "1", "--delay", "2", "--data", &at("first")]);
    let join = &*first.contact.clone();
    let mut miner = node(&["--join", join, "--mine", "--effort", "25", "--data", &at("miner")]);
    let keys = ["alice", "bob"].map(|name| said(&registry(&["key", "--key", &at(name)]).unwrap(), "key"));
    let does = |deed: &str, who: &str, args: &[&str]| {
        registry(&[&[deed, "--key", &at(who), "--join", join], args].concat())
    };
    let look = |value: &[&str]| registry(&[&["look", "--join", join, "ledgers"], value].concat());
    let owner = |text: &str| (said(text, "owner"), said(text, "moves"));

    assert!(look(&[]).unwrap_err().contains("nobody has claimed"));
    let claimed = does("claim", "alice", &["ledgers"]).unwrap();
    assert_eq!(said(&claimed, "owner"), keys[0]);
    let taken = does("claim", "bob", &["ledgers"]).unwrap_err();
    assert!(taken.contains("somebody has ledgers"), "{taken}");
    let not_his = {
        std::fs::write(at("page"), "all about ledgers").unwrap();
        does("set", "bob", &["ledgers", &at("page")]).unwrap_err()
    };
    assert!(not_his.contains("only the name's owner"), "{not_his}");

    does("set", "alice", &["ledgers", &at("page")]).unwrap();
    eventually("it stands for the page", || look(&[&at("page")]));
    std::fs::write(at("other page"), "nothing about ledgers").unwrap();
    assert!(look(&[&at("other page")]).unwrap_err().contains("is not what ledgers stands for"));

    // Whoever mines is killed, and goes on from its folder.
    miner.running.kill();
    let miner = node(&["--join", join, "--mine", "--effort", "25", "--data", &at("miner")]);
    assert!(miner.height > 0, "it has kept its chain");
    does("transfer", "alice", &["ledgers", &keys[1]]).unwrap();
    let moved = eventually("it is the other's", || match look(&[]) {
        Ok(text) if said(&text, "owner") == keys[1] => Ok(text),
        other => Err(format!("{other:?}")),
    });
    assert_eq!(owner(&moved), (keys[1].clone(), "2".to_owned()));
    let gone = does("set", "alice", &["ledgers", &at("other page")]).unwrap_err();
    assert!(gone.contains("only the name's owner"), "{gone}");
    does("set", "bob", &["ledgers", &at("other page")]).unwrap();
    eventually("it stands for the other page", || look(&[&at("other page")]));
    // Through the miner it is the same.
    let through = registry(&["look", "--join", &miner.contact, "ledgers", &at("other page")]).unwrap();
    assert_eq!(owner(&through), (keys[1].clone(), "3".to_owned()));
    drop((first, miner));
    std::fs::remove_dir_all(data).unwrap();
}
