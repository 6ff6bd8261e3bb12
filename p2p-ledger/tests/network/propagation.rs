//! How fast blocks get around, and how many are in vain. All times are the simulation's, so the machine does not matter.
//!
//! One hundred nodes, or `P2P_LEDGER_NODES`. `cargo test -p p2p-ledger --test network propagation -- --nocapture` prints what
//! was measured.
#![allow(clippy::print_stdout, reason = "it says what it has measured")]

use std::time::Duration;

use p2p_core::SimPeer;
use p2p_core::sim::{DiskModel, Network, Sim};
use p2p_ledger::measure::Forks;
use p2p_ledger::{
    Coins, Encode, Ledger, LedgerConfig, LedgerNode, Lock, Mined, PoolRules, Template, Tip, Transaction,
};
use p2p_overlay::HyParView;

use super::support::{Books, MATURITY, Pow, SUBSIDY, books, keypair, pay, spend};

type Node = LedgerNode<HyParView<SimPeer>, Pow, Coins>;
type World = Sim<Node, Books>;

fn size() -> u32 {
    std::env::var("P2P_LEDGER_NODES").ok().and_then(|text| text.parse().ok()).unwrap_or(100)
}

/// Links of 50 ms, and disks that take 2 ms.
fn world(nodes: u32) -> World {
    let workers = |_| books(Default::default(), PoolRules::default());
    let mut sim = World::with_workers(1, Network::default(), DiskModel::default(), workers);
    sim.population(|birth| {
        let seeds: Vec<SimPeer> = birth.rng.choose(birth.alive).copied().into_iter().collect();
        Node::new(HyParView::join(birth.peer, seeds), LedgerConfig::default())
    });
    for _ in 0..nodes {
        sim.join();
        sim.run_for(Duration::from_millis(50));
    }
    sim.run_for(Duration::from_secs(60));
    sim
}

fn mine(sim: &mut World, miner: SimPeer) -> Tip {
    let to = Lock::Key(keypair(1).id().into()).to_bytes();
    let handle = sim.handle(miner);
    sim.block_on(async move {
        let mut block = handle.ask(Template(to)).await.unwrap().unwrap();
        assert!(Pow::regtest().mine(&mut block.header, 0, 1 << 20));
        handle.ask(Mined(block)).await.unwrap().unwrap()
    })
}

fn somebody(sim: &mut World) -> SimPeer {
    let alive = sim.alive().to_vec();
    *sim.workload_rng().choose(&alive).unwrap()
}

/// How long each node takes to stand at a new block, in steps of 5 ms.
fn spread(sim: &mut World, tip: Tip) -> Vec<Duration> {
    let step = Duration::from_millis(5);
    let (mut waited, mut times) = (Duration::ZERO, Vec::new());
    let nodes = sim.alive().len();
    while times.len() < nodes {
        let there = sim.view().iter().filter(|(_, node)| node.tip() == Some(tip)).count();
        times.extend(std::iter::repeat_n(waited, there - times.len()));
        sim.run_for(step);
        waited += step;
        assert!(waited < Duration::from_secs(30), "{} of {nodes} have it", times.len());
    }
    times
}

/// Ten blocks of twenty payments that all have heard of.
#[test]
fn blocks_get_around_in_a_few_hops() {
    let mut sim = world(size());
    let miner = SimPeer(0);
    for _ in 0..30 {
        mine(&mut sim, miner);
    }
    sim.run_for(Duration::from_secs(15));
    let mut times = Vec::new();
    for round in 0..10 {
        let chain = sim.worker(miner).unwrap().chain();
        let old = chain.tip().height + 1 - MATURITY;
        let coins: Vec<_> = Coins::<p2p_ledger::NoPredicate>::all(chain.store())
            .filter(|(_, coin)| coin.output == pay(1, SUBSIDY) && coin.height <= old)
            .collect();
        let payments: Vec<Transaction> =
            coins.iter().take(20).map(|(at, _)| spend(1, *at, [pay(1, 400), pay(2, 500 - round)])).collect();
        let count = payments.len();
        for payment in payments {
            let at = somebody(&mut sim);
            let handle = sim.handle(at);
            sim.block_on(async move { Ledger::<Pow, Coins>::submit(&handle, payment).await }).unwrap();
        }
        sim.run_for(Duration::from_secs(10));
        assert_eq!(sim.worker(miner).unwrap().pool().len(), count, "all have come to the miner");
        let at = somebody(&mut sim);
        let tip = mine(&mut sim, at);
        times.extend(spread(&mut sim, tip));
    }
    times.sort_unstable();
    let share = |percent: usize| times[(times.len() - 1) * percent / 100];
    let (nodes, median, late) = (size(), share(50), share(99));
    println!(
        "{nodes} nodes, links of 50 ms: half of them have a block after {median:?}, 99 % after {late:?}"
    );
    // A random graph of degree 5 has a diameter of about log(n) / log(4); a hop is a link and two batches of the disk, or three
    // links where the block is announced first.
    let hops = f64::from(nodes).log10() / 4f64.log10() + 2.0;
    assert!(late.as_secs_f64() < hops * 0.165, "{late:?} for {hops} hops");
}

/// Blocks at random nodes, at several mean intervals: the shorter, the more are in vain.
#[test]
fn the_shorter_the_interval_the_more_blocks_are_in_vain() {
    let (nodes, blocks) = (size(), 100);
    let shares = [0.5, 2.0, 10.0].map(|interval| {
        let in_vain = Forks { nodes, interval, blocks, seed: 1 }.run().in_vain;
        println!("{nodes} nodes, a block every {interval} s: {in_vain} of {blocks} in vain");
        in_vain
    });
    assert!(shares[0] > shares[1] && shares[1] >= shares[2], "{shares:?}");
    assert!(shares[2] <= 10, "{shares:?}");
}
