//! `coin` as users run it: several nodes, some of which mine, wallets that pay each other, and processes that are killed.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod support;

use std::path::Path;
use std::process::Command;

use p2p_core::{Key, Wire};
use p2p_examples::ledger::{Founding, Terms};
use p2p_ledger::{
    Batch, Cached, Coins, Consensus, Encode, Fault, Header, Lock, MemoryStore, NoPredicate, Past, Pool,
    PoolRules, PublicKey, RedbStore, Refused, Store, template,
};
use ruint::aliases::U256;
use serde::{Deserialize, Serialize};
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

/// The chain's height at a node.
fn height(contact: &str) -> u64 {
    let status = coin(&["status", "--join", contact]).unwrap();
    said(&status, "tip").split_once(' ').unwrap().0.parse().unwrap()
}

/// The chain is long ahead of its schedule, and so a miner stamps a block as late as the others take it, to have the next ones for
/// nothing: they are hardly easier.
#[test]
fn a_time_ahead_makes_no_blocks_easy() {
    for spacing in [1, 10, 86_400] {
        let terms = Currency { subsidy: 50, maturity: 4 };
        let founding = Founding { time: 1_000_000, bits: 0x207f_ffff, spacing, terms };
        let (rules, mut chain, now) = (founding.rules(), founding.headers(), founding.time + 10);
        let mut add = |time: u64, now: u64| {
            let headers = chain.after(&[], usize::MAX);
            let first = chain.at(0).cloned();
            let all: Vec<_> = first.iter().chain(&headers).collect();
            let at = |height: u64| all.get(height as usize).copied();
            let past = Past::new(headers.len() as u64, &at);
            let mut next = rules.draft(&past, Key::ZERO, time.max(past.median_time() + 1));
            assert!(rules.mine(&mut next, 0, 1 << 20));
            chain.accept(std::slice::from_ref(&next), now).map(|_| next.seal.bits.target().unwrap())
        };
        for _ in 0..54 {
            add(0, now).unwrap();
        }
        let Err(Refused::Fault(Fault::TooNew { latest, .. })) = add(u64::MAX, now) else {
            panic!("a time at the end of all times is taken, {spacing} s apart");
        };
        let before = add(latest, now).unwrap();
        let after = add(latest + 1, latest).unwrap();
        assert!(after / before < U256::from(2), "{} times as easy, {spacing} s apart", after / before);
    }
}

/// Who mines ends, well; then the others agree on one chain, and say the same of it.
fn end_mining(nodes: &[&Node], miners: &mut Vec<Node>) -> String {
    let through = &nodes[0].contact;
    // The last one alone decides between two that were found at once.
    while let Some(miner) = miners.pop() {
        if miners.is_empty() {
            let higher = height(through) + 1;
            eventually("another block", || match height(through) {
                now if now >= higher => Ok(()),
                now => Err(format!("{now} of {higher}")),
            });
        }
        assert!(miner.running.interrupted().0, "it ends well");
    }
    eventually("one chain", || {
        let status = |one: &&Node| coin(&["status", "--join", &one.contact]);
        let all: Vec<String> = nodes.iter().map(status).collect::<Result<_, _>>()?;
        match all.iter().all(|one| *one == all[0]) {
            true => Ok(all[0].clone()),
            false => Err(format!("{all:?}")),
        }
    })
}

/// Who mines ends, and what all wallets have is what there is. A last block may be lost with its miner, and with it a payment: that
/// waits again then, until somebody mines.
fn agree(nodes: &[Node], mut miners: Vec<Node>, purses: &[&Purse<'_>], mines: impl Fn() -> Node) {
    let (all, through) = (nodes.iter().collect::<Vec<&Node>>(), &nodes[0].contact);
    let pending = || -> u64 { purses.iter().map(|purse| purse.has(through)[2]).sum() };
    let agreed = loop {
        let agreed = end_mining(&all, &mut miners);
        if pending() == 0 {
            break agreed;
        }
        miners.push(mines());
        eventually("payments in blocks again", || match pending() {
            0 => Ok(()),
            left => Err(format!("{left} are not")),
        });
    };
    let supply: u64 = said(&agreed, "supply").parse().unwrap();
    for one in nodes {
        let has: u64 = purses.iter().map(|purse| purse.has(&one.contact).iter().sum::<u64>()).sum();
        assert_eq!(has, supply, "as {} sees it", one.contact);
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

    others.push(first);
    agree(&others, miners, &[&alice, &bob, &carol], || mines("miner 0", &alices));
    assert_eq!(carol.has(&through), [paid, 0, 0]);
    let history = carol.does(&others[0].contact, &["history"]).unwrap();
    assert_eq!(history.lines().count(), 5, "{history}");
    drop(others);
    std::fs::remove_dir_all(data).unwrap();
}

/// Half of the nodes are killed at once, and come back where the others do not find them: two networks, each with half of the
/// miners, each of which has a payment of its own. Then one node of the first is killed and comes back, where it was, through the
/// second: the others of the first find it, and so the two are one again, one chain, and both payments are in it.
#[test]
fn a_partition_heals_and_no_payment_is_lost() {
    let processes = number("P2P_PROCESSES", 6).clamp(6, 12);
    let (mining, half) = (processes / 3, processes / 3);
    let data = std::env::temp_dir().join(format!("p2p-coin-parted-{}", std::process::id()));
    std::fs::create_dir_all(&data).unwrap();
    let folder = |name: &str, i: usize| data.join(format!("{name} {i}")).to_str().unwrap().to_owned();
    let listen = {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.local_addr().unwrap().to_string()
    };
    let mut near = vec![node(&["--spacing", "1", "--maturity", "4", "--data", &folder("near", 0)])];
    let join = near[0].contact.clone();
    near.push(node(&["--join", &join, "--listen", &listen, "--data", &folder("near", 1)]));
    near.extend((2..half).map(|i| node(&["--join", &join, "--data", &folder("near", i)])));
    let far = |join: &[&str], i: usize| node(&[&["--data", &folder("far", i)][..], join].concat());
    let mut others: Vec<Node> = (0..half).map(|i| far(&["--join", &join], i)).collect();

    let (alice, alices) = Purse::new(&data, "alice", &join);
    let (bob, bobs) = Purse::new(&data, "bob", &join);
    let (carol, _) = Purse::new(&data, "carol", &join);
    let carols = [(); 2].map(|()| said(&carol.does(&join, &["address"]).unwrap(), "address"));
    let mines = |join: &str, i: usize| {
        let to = [&alices, &bobs][i % 2];
        node(&["--join", join, "--data", &folder("miner", i), "--mine", to, "--effort", "25"])
    };
    let mut miners: Vec<Node> = (0..mining).map(|i| mines(&join, i)).collect();
    for (purse, through) in [(&alice, &near[0].contact), (&bob, &others[0].contact)] {
        eventually("coins to spend", || match purse.has(through) {
            [ready, ..] if ready > 1_000_000_000 => Ok(()),
            has => Err(format!("{has:?}")),
        });
    }

    // Both halves stand at one block: or a coin of the half that loses would be paid with, and that payment be none for ever.
    end_mining(&near.iter().chain(&others).collect::<Vec<&Node>>(), &mut miners);
    let acknowledged = height(&others[0].contact);
    others.iter_mut().for_each(|one| one.running.kill());
    others[0] = far(&[], 0);
    assert!(others[0].height >= acknowledged, "{} of {acknowledged}", others[0].height);
    let there = others[0].contact.clone();
    for (i, other) in others.iter_mut().enumerate().skip(1) {
        *other = far(&["--join", &there], i);
    }
    alice.does(&join, &["send", &carols[0], "123456"]).unwrap();
    bob.does(&there, &["send", &carols[1], "1000"]).unwrap();
    miners.extend((0..mining).map(|i| mines([&join, &there][i % 2], i)));
    let paid = |through: &str, amount: u64| {
        eventually("a payment in a block", || match carol.has(through) {
            [ready, 0, 0] if ready == amount => Ok(()),
            has => {
                let heights = [&join, &there].map(|contact| height(contact));
                Err(format!("{has:?} of {amount} at {through}; the halves are at {heights:?}"))
            }
        });
    };
    paid(&join, 123_456);
    paid(&there, 1_000);

    near[1].running.kill();
    near[1] = node(&["--join", &there, "--listen", &listen, "--data", &folder("near", 1)]);
    paid(&join, 124_456);
    paid(&there, 124_456);
    let all: Vec<Node> = near.into_iter().chain(others).collect();
    agree(&all, miners, &[&alice, &bob, &carol], || mines(&join, 0));
    assert_eq!(carol.has(&join), [124_456, 0, 0]);
    drop(all);
    std::fs::remove_dir_all(data).unwrap();
}

/// The currency that the program founds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Currency {
    subsidy: u64,
    maturity: u64,
}

impl Terms for Currency {
    const NAME: &'static str = "coin";
    type State = Coins;

    fn state(&self, chain: u32) -> Coins {
        Coins { maturity: self.maturity, ..Coins::new(chain, self.subsidy) }
    }
}

/// A node mines, keeps the last hundred bodies alone, and is killed while it does, time and again: it goes on where it was, and its
/// file has what it should have, and no more.
#[test]
fn a_pruning_node_that_is_killed_keeps_its_last_blocks_and_every_coin() {
    const SUBSIDY: u64 = 5_000_000_000;
    let data = std::env::temp_dir().join(format!("p2p-coin-pruned-{}", std::process::id()));
    let folder = data.join("node");
    std::fs::create_dir_all(&folder).unwrap();
    // A week behind its schedule, easy, and with times up to 75 s ahead: it makes some hundred blocks as fast as it can.
    let terms = Currency { subsidy: SUBSIDY, maturity: 4 };
    let now = Founding::new(1, terms.clone()).unwrap().time;
    let founding = Founding { time: now - 7 * 86_400, bits: 0x207f_ffff, spacing: 60, terms };
    std::fs::write(folder.join("founding"), founding.to_bytes()).unwrap();
    let prunes =
        |more: &[&str]| node(&[&["--data", folder.to_str().unwrap(), "--keep", "100"], more].concat());
    let (purse, address) = Purse::new(&data, "purse", &prunes(&[]).contact);

    let mut acknowledged: u64 = 0;
    for _ in 0..number("P2P_KILLS", 5).clamp(5, 50) {
        let mut miner = prunes(&["--mine", &address]);
        assert!(miner.height >= acknowledged, "{} of {acknowledged}", miner.height);
        for _ in 0..50 {
            acknowledged = miner.running.says("mined").parse().unwrap();
        }
        miner.running.kill();
    }
    let store = RedbStore::open(folder.join("chain.redb")).unwrap();
    let chain = founding.chain(store, Some(100), [7; 32]).unwrap();
    let tip = chain.tip();
    assert!(tip.height >= acknowledged && tip.height >= 250, "{tip:?} of {acknowledged}");
    for height in 1..=tip.height {
        let id = chain.headers().at(height).unwrap().id();
        let body = chain.block(&id).unwrap();
        assert_eq!(body.is_some(), height + 100 > tip.height, "height {height} of {}", tip.height);
    }
    let (mut rows, mut memory) = (Batch::new(), MemoryStore::default());
    let mut copy = |key: &[u8], value: &[u8]| drop(rows.insert(key.to_vec(), Some(value.to_vec())));
    chain.store().scan(&[], &mut copy).unwrap();
    memory.commit(rows).unwrap();
    let coins = Coins::<NoPredicate>::all(&memory);
    let made = tip.height * SUBSIDY;
    assert_eq!(coins.map(|(_, coin)| coin.output.value).sum::<u64>(), made);
    assert_eq!(chain.state().supply(&chain.view()), made);
    drop(chain);
    // Who looks for what is in a body that is gone is told so.
    let one = prunes(&[]);
    let refused = purse.does(&one.contact, &["balance"]).unwrap_err();
    assert!(refused.contains("not kept here any more"), "{refused}");
    drop(one);
    std::fs::remove_dir_all(data).unwrap();
}

/// A node without a chain fetches one, over the network and onto its disk, from a node that has 1,000 blocks, or `P2P_BLOCKS`, but
/// no more than 10,000; and has it when it is back.
#[test]
fn a_fresh_node_syncs_a_long_chain() {
    let blocks = number("P2P_BLOCKS", 1_000).min(10_000) as u64;
    let data = std::env::temp_dir().join(format!("p2p-coin-fresh-{}", std::process::id()));
    let folder = |name: &str| data.join(name).to_str().unwrap().to_owned();
    std::fs::create_dir_all(folder("old")).unwrap();
    // Its blocks are easy, and just in time until now: so they stay easy.
    let terms = Currency { subsidy: 50, maturity: 4 };
    let now = Founding::new(1, terms.clone()).unwrap().time;
    let founding = Founding { time: now - blocks, bits: 0x207f_ffff, spacing: 1, terms };
    std::fs::write(Path::new(&folder("old")).join("founding"), founding.to_bytes()).unwrap();
    let store = RedbStore::open(Path::new(&folder("old")).join("chain.redb")).unwrap();
    let mut chain = founding.chain(Cached::new(store, 64 << 20), None, [7; 32]).unwrap();
    let (pool, to) = (Pool::new(PoolRules::default()), Lock::Key(PublicKey([7; 32])).to_bytes());
    for height in 1..=blocks {
        let mut block = template(&chain, &pool, &to, founding.time + height).unwrap();
        assert!(founding.rules().mine(&mut block.header, 0, 1 << 20));
        chain.accept(block, now).unwrap();
    }
    let tip = chain.tip();
    assert_eq!(tip.height, blocks);
    chain.store_mut().flush().unwrap();
    drop(chain);

    let old = node(&["--data", &folder("old")]);
    assert_eq!(old.height, blocks);
    let join = ["--join", &old.contact, "--data", &folder("fresh")];
    let mut fresh = node(&join);
    assert_eq!(fresh.height, 0);
    for tenth in 1..=10 {
        eventually("another tenth of the chain", || match height(&fresh.contact) {
            height if height >= blocks * tenth / 10 => Ok(()),
            height => Err(format!("{height} of {blocks} blocks")),
        });
    }
    let status = coin(&["status", "--join", &fresh.contact]).unwrap();
    assert_eq!(said(&status, "tip"), format!("{blocks} {}", tip.id));
    assert_eq!(said(&status, "supply"), (50 * blocks).to_string());
    fresh.running.kill();
    assert_eq!(node(&join).height, blocks);
    drop(old);
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
