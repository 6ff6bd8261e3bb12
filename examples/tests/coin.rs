//! `coin` as users run it: several nodes, some of which mine, wallets that pay each other, and processes that are killed.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod support;

use std::path::Path;
use std::process::Command;

use support::{Node, Running, eventually, number, run_with_input, said};

const PASSWORD: &str = "correct horse battery staple";

/// Runs it to its end, with a password on its standard input.
fn coin(args: &[&str]) -> Result<String, String> {
    run_with_input(env!("CARGO_BIN_EXE_coin"), args, PASSWORD)
}

fn node(args: &[&str]) -> Node {
    Node::start(env!("CARGO_BIN_EXE_coin"), args)
}

struct Purse<'a> {
    file: String,
    data: &'a Path,
}

impl<'a> Purse<'a> {
    fn new(data: &'a Path, name: &str, through: &str) -> (Purse<'a>, String) {
        let purse = Purse { file: data.join(name).to_str().unwrap().to_owned(), data };
        let address = said(&purse.does(through, &["new"]).unwrap(), "address");
        (purse, address)
    }

    fn does(&self, through: &str, deed: &[&str]) -> Result<String, String> {
        assert!(self.data.exists());
        coin(&[&["wallet", "--file", &self.file, "--join", through], deed].concat())
    }

    /// What can be spent, what waits for maturity, and what comes back from payments.
    fn has(&self, through: &str) -> [u64; 3] {
        let text = self.does(through, &["balance"]).unwrap();
        ["ready", "new", "pending"].map(|name| said(&text, name).parse().unwrap())
    }
}

/// Two or more nodes mine, payments flow, a node that mines and one that does not are killed with `kill -9` and start again
/// from their folders: all agree in the end on one chain, and what all wallets have is what there is.
#[test]
fn a_currency_survives_the_death_of_its_nodes() {
    let processes = number("P2P_PROCESSES", 5).clamp(5, 12);
    let data = std::env::temp_dir().join(format!("p2p-coin-{}", std::process::id()));
    std::fs::create_dir_all(&data).unwrap();
    let folder = |name: &str| data.join(name).to_str().unwrap().to_owned();
    let first = node(&["--spacing", "1", "--maturity", "4", "--data", &folder("first")]);
    let join = &*first.contact.clone();
    let (alice, alices) = Purse::new(&data, "alice", join);
    let (bob, bobs) = Purse::new(&data, "bob", join);
    let (carol, _) = Purse::new(&data, "carol", join);
    assert!(alice.does(join, &["new"]).is_err(), "a wallet is not written over");

    let effort = ["--effort", "25"];
    let mines = |name: &str, address: &str| {
        node(&[&["--join", join, "--data", &folder(name), "--mine", address][..], &effort].concat())
    };
    let mut miners = vec![mines("miner 0", &alices), mines("miner 1", &bobs)];
    miners.extend((2..processes / 3).map(|i| mines(&format!("miner {i}"), &bobs)));
    let mut others: Vec<Node> = (0..processes - 1 - miners.len())
        .map(|i| node(&["--join", join, "--data", &folder(&format!("other {i}"))]))
        .collect();

    // Both have something to spend.
    for (purse, through) in [(&alice, &others[0].contact), (&bob, &others[1].contact)] {
        eventually("coins to spend", || match purse.has(through) {
            [ready, ..] if ready > 1_000_000_000 => Ok(()),
            has => Err(format!("{has:?}")),
        });
    }
    let mut paid = 0;
    let mut pay = |from: &Purse<'_>, through: &str, amount: u64| {
        let to = said(&carol.does(through, &["address"]).unwrap(), "address");
        let amount_text = amount.to_string();
        let sent = from.does(through, &["send", &to, &amount_text]).unwrap();
        assert_eq!(said(&sent, "transaction").len(), 64);
        paid += amount;
    };
    pay(&alice, &others[0].contact, 123_456);
    pay(&bob, &others[1].contact, 1_000);
    // Twice before there is a block.
    pay(&alice, &others[1].contact, 77_000_000);

    // One that has acknowledged a chain of some height is killed, and one that mines.
    let status = |contact: &str| coin(&["status", "--join", contact]);
    let height = |contact: &str| -> u64 {
        said(&status(contact).unwrap(), "tip").split_once(' ').unwrap().0.parse().unwrap()
    };
    let acknowledged = height(&others[0].contact);
    others[0].running.kill();
    miners[1].running.kill();
    pay(&alice, join, 5_000_000);
    others[0] = node(&["--join", join, "--data", &folder("other 0")]);
    assert!(others[0].height >= acknowledged, "{} of {acknowledged}", others[0].height);
    miners[1] = mines("miner 1", &bobs);
    pay(&bob, &others[0].contact, 2_000);

    let through = others[0].contact.clone();
    eventually("payments in blocks", || match carol.has(&through) {
        [ready, 0, 0] if ready == paid => Ok(()),
        has => Err(format!("{has:?} of {paid}")),
    });
    let higher = height(&through) + 3;
    eventually("it goes on", || match height(&through) {
        now if now >= higher => Ok(()),
        now => Err(format!("{now} of {higher}")),
    });

    // Who mines ends, well; the others agree. A last block may be lost with its miner, and with it a payment: it waits
    // again then, until somebody mines.
    others.push(first);
    let purses = [&alice, &bob, &carol];
    let agreed = loop {
        for miner in miners.drain(..) {
            assert!(miner.running.interrupted().0, "it ends well");
        }
        let agreed = eventually("one chain", || {
            let all: Vec<String> = others.iter().map(|one| status(&one.contact)).collect::<Result<_, _>>()?;
            match all.iter().all(|one| *one == all[0]) {
                true => Ok(all[0].clone()),
                false => Err(format!("{all:?}")),
            }
        });
        if purses.iter().all(|purse| purse.has(&through)[2] == 0) {
            break agreed;
        }
        miners.push(mines("miner 0", &alices));
        eventually("payments in blocks again", || match carol.has(&through) {
            [ready, 0, 0] if ready == paid => Ok(()),
            has => Err(format!("{has:?} of {paid}")),
        });
    };
    let supply: u64 = said(&agreed, "supply").parse().unwrap();
    for one in &others {
        let has: u64 = purses.iter().map(|purse| purse.has(&one.contact).iter().sum::<u64>()).sum();
        assert_eq!(has, supply, "as {} sees it", one.contact);
    }
    let history = carol.does(&others[0].contact, &["history"]).unwrap();
    assert_eq!(history.lines().count(), 5, "{history}");
    drop(others);
    std::fs::remove_dir_all(data).unwrap();
}

/// Somebody without a chain mines for a node elsewhere.
#[test]
fn a_miner_elsewhere_works_for_a_node() {
    let data = std::env::temp_dir().join(format!("p2p-coin-mine-{}", std::process::id()));
    std::fs::create_dir_all(&data).unwrap();
    let one = node(&["--spacing", "1", "--maturity", "1"]);
    let (purse, address) = Purse::new(&data, "purse", &one.contact);
    let mut command = Command::new(env!("CARGO_BIN_EXE_coin"));
    let miner = Running::start(command.args(["mine", "--join", &one.contact, "--effort", "50", &address]));
    while miner.says("mined").parse::<u64>().unwrap() < 3 {}
    drop(miner);
    let [ready, new, pending] = purse.has(&one.contact);
    assert!(ready >= 3 * 5_000_000_000 && pending == 0, "{ready} {new}");
    let other = node(&[]);
    let refused = coin(&["mine", "--join", &other.contact, &address]).unwrap_err();
    assert!(refused.contains("another currency"), "{refused}");
    drop((one, other));
    std::fs::remove_dir_all(data).unwrap();
}

/// A wallet that believes no node sees what it is paid, and pays: through two nodes, and when one of them is gone.
#[test]
fn a_light_wallet_sees_a_payment_and_pays() {
    let data = std::env::temp_dir().join(format!("p2p-coin-light-{}", std::process::id()));
    std::fs::create_dir_all(&data).unwrap();
    let first = node(&["--spacing", "1", "--maturity", "2"]);
    let join = &*first.contact.clone();
    let (rich, address) = Purse::new(&data, "rich", join);
    let miner = node(&["--join", join, "--mine", &address, "--effort", "25"]);
    let mut other = node(&["--join", join]);
    let light = |purse: &Purse<'_>, deed: &[&str]| {
        let both = ["wallet", "--file", &purse.file, "--light", "--join", join, "--join", &other.contact];
        coin(&[&both[..], deed].concat())
    };
    let (poor, _) = Purse::new(&data, "poor", join);
    let ready = |text: &str| said(text, "ready").parse::<u64>().unwrap();

    eventually("coins to spend", || match light(&rich, &["balance"]) {
        Ok(text) if ready(&text) > 1_000_000 => Ok(()),
        other => Err(format!("{other:?}")),
    });
    let to = said(&light(&poor, &["address"]).unwrap(), "address");
    light(&rich, &["send", &to, "1000000"]).unwrap();
    eventually("the payment", || match light(&poor, &["balance"]) {
        Ok(text) if ready(&text) == 1_000_000 => Ok(()),
        other => Err(format!("{other:?}")),
    });
    let too_much = light(&poor, &["send", &to, "2000000"]).unwrap_err();
    assert!(too_much.contains("can be spent now"), "{too_much}");

    // It pays back, and one of the nodes is gone meanwhile.
    let back = said(&rich.does(join, &["address"]).unwrap(), "address");
    other.running.kill();
    light(&poor, &["send", &back, "400000"]).unwrap();
    eventually("what comes back", || match light(&poor, &["balance"]) {
        Ok(text) if ready(&text) > 0 && ready(&text) < 600_000 && said(&text, "pending") == "0" => Ok(()),
        other => Err(format!("{other:?}")),
    });
    let history = light(&poor, &["history"]).unwrap();
    assert_eq!(history.lines().count(), 2, "{history}");
    let plain = poor.does(join, &["history"]).unwrap();
    assert_eq!(plain, history, "a node that is believed says the same");
    drop((first, miner));
    std::fs::remove_dir_all(data).unwrap();
}
