//! `board` as users run it: oil on its way from a producer over a carrier to a refinery, audited by whoever likes, among nodes
//! that are killed.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod support;

use std::path::Path;

use support::{Node, eventually, run, said};

fn board(args: &[&str]) -> Result<String, String> {
    run(env!("CARGO_BIN_EXE_board"), args)
}

fn node(args: &[&str]) -> Node {
    Node::start(env!("CARGO_BIN_EXE_board"), args)
}

/// Somebody with a key file, and how he is called by others.
struct Party {
    file: String,
    key: String,
}

impl Party {
    fn new(data: &Path, name: &str) -> Party {
        let file = data.join(name).to_str().unwrap().to_owned();
        let key = said(&board(&["key", "--key", &file]).unwrap(), "key");
        Party { file, key }
    }

    fn does(&self, deed: &str, joins: &[&str], args: &[&str]) -> Result<String, String> {
        board(&[&[deed, "--key", &self.file][..], joins, args].concat())
    }
}

#[test]
fn a_cargo_is_followed_by_parties_who_do_not_trust_each_other() {
    let data = std::env::temp_dir().join(format!("p2p-board-{}", std::process::id()));
    std::fs::create_dir_all(&data).unwrap();
    let at = |name: &str| data.join(name).to_str().unwrap().to_owned();
    let paper = |name: &str, text: &str| {
        std::fs::write(at(name), text).unwrap();
        at(name)
    };
    let first = node(&["--spacing", "1", "--data", &at("first")]);
    let join = &*first.contact.clone();
    let miner = node(&["--join", join, "--mine", "--effort", "25", "--data", &at("miner")]);
    let mut third = node(&["--join", join, "--data", &at("third")]);
    let joins = ["--join", join, "--join", &third.contact.clone()];

    // The producer opens a topic for the cargo, and lets the carrier and the refinery write.
    let [producer, carrier, refinery] =
        ["producer", "carrier", "refinery"].map(|name| Party::new(&data, name));
    let thief = Party::new(&data, "thief");
    let opened = producer.does("open", &joins, &["cargo 17"]).unwrap();
    let topic = said(&opened, "topic");
    let audit = |papers: &[&str]| board(&[&["audit"][..], &joins, &[&*topic], papers].concat());
    let events = |text: &str| text.lines().filter(|line| !line.starts_with("genuine")).count();
    let eventually_there = |count: usize| {
        eventually("it is in a block", || match audit(&[]) {
            Ok(text) if events(&text) == count => Ok(()),
            other => Err(format!("{count} of {other:?}")),
        });
    };
    eventually_there(1);
    producer.does("admit", &joins, &[&topic, &carrier.key]).unwrap();
    eventually_there(2);
    producer.does("admit", &joins, &[&topic, &refinery.key]).unwrap();
    eventually_there(3);

    // Each says what he has done. Who was not admitted is refused, and so is who has no right to admit.
    let loaded = paper("loaded.txt", "1,000 barrels put on board of Aurora, 12 May, Rotterdam");
    let carried = paper("carried.txt", "1,000 barrels on board of Aurora, 19 May, in Gdansk");
    let refined = paper("refined.txt", "998 barrels received from Aurora, 20 May");
    let lie = paper("lie.txt", "the cargo was lost at sea");
    producer.does("post", &joins, &[&topic, &loaded]).unwrap();
    carrier.does("post", &joins, &[&topic, &carried]).unwrap();
    let refused = thief.does("post", &joins, &[&topic, &lie]).unwrap_err();
    assert!(refused.contains("only a writer"), "{refused}");
    let refused = carrier.does("admit", &joins, &[&topic, &thief.key]).unwrap_err();
    assert!(refused.contains("only the topic's owner"), "{refused}");
    eventually_there(5);

    // A node is killed and comes back from its folder; it misses nothing.
    third.running.kill();
    refinery.does("post", &["--join", join], &[&topic, &refined]).unwrap();
    let third = node(&["--join", join, "--data", &at("third")]);
    assert!(third.height > 0, "it has kept its chain");
    let joins = ["--join", &*third.contact, "--join", join];
    let audit = |papers: &[&str]| board(&[&["audit"][..], &joins, &[&*topic], papers].concat());
    let text = eventually("everything is in blocks", || match audit(&[&loaded, &carried, &refined]) {
        Ok(text) if events(&text) == 6 => Ok(text),
        other => Err(format!("{other:?}")),
    });
    for (paper, party) in [(&loaded, &producer), (&carried, &carrier), (&refined, &refinery)] {
        assert_eq!(
            text.lines().filter(|line| **line == format!("genuine: {paper} {}", party.key)).count(),
            1,
            "{text}"
        );
    }

    // A paper that was altered afterwards is found out.
    let forged = paper("forged.txt", "1,000 barrels received from Aurora, 20 May");
    let found = audit(&[&loaded, &forged]).unwrap_err();
    assert!(found.contains("forged.txt is not what anybody has posted"), "{found}");

    // An outsider has the paper and a proof, and asks whom he likes.
    let proof = at("proof");
    board(&[&["prove"][..], &joins, &[&topic, &refined, &proof]].concat()).unwrap();
    let shown = board(&["check", "--join", join, &proof, &refined]).unwrap();
    assert_eq!((said(&shown, "topic"), said(&shown, "posted")), (topic.clone(), refinery.key.clone()));
    assert!(said(&shown, "confirmations").parse::<u64>().unwrap() >= 1);
    let refused = board(&["check", "--join", join, &proof, &forged]).unwrap_err();
    assert!(refused.contains("something else was posted"), "{refused}");
    let mut bytes = std::fs::read(&proof).unwrap();
    // The last sibling, or the last of where it is.
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&proof, bytes).unwrap();
    assert!(board(&["check", "--join", join, &proof, &refined]).is_err(), "it was altered");
    // On another board it shows nothing.
    board(&[&["prove"][..], &joins, &[&topic, &refined, &proof]].concat()).unwrap();
    let elsewhere = node(&[]);
    let refused = board(&["check", "--join", &elsewhere.contact, &proof, &refined]).unwrap_err();
    assert!(refused.contains("not on the chain"), "{refused}");
    let mixed = board(&["audit", "--join", join, "--join", &elsewhere.contact, &topic]).unwrap_err();
    assert!(mixed.contains("keeps another chain"), "{mixed}");
    drop((first, miner, third, elsewhere));
    std::fs::remove_dir_all(data).unwrap();
}
