//! One chain in the end.

use std::time::Duration;

use p2p_core::sim::{Cut, DiskModel, Encoding, Fault, Latency, Loss, Network, Sim, run_seeds};
use p2p_core::{Handle, SimPeer};
use p2p_ledger::{
    Coins, Encode, LedgerCommand, LedgerConfig, LedgerNode, Lock, Mined, NoPredicate, OutPoint, PoolRules,
    Template, Tip,
};
use p2p_overlay::{HyParView, HyParViewConfig};

use super::support::{Audited, Pow, books, keypair, pay, spend};

pub(super) type Node = LedgerNode<HyParView<SimPeer>, Pow, Coins>;
pub(super) type World = Sim<Node, Audited>;

const PEOPLE: u8 = 5;

/// How many nodes: sixty, or `P2P_LEDGER_NODES`.
fn size() -> u32 {
    std::env::var("P2P_LEDGER_NODES").ok().and_then(|text| text.parse().ok()).unwrap_or(60)
}

pub(super) fn world(seed: u64, nodes: u32, network: Network) -> World {
    let disk = DiskModel { failures: 0.002, ..DiskModel::default() };
    let audited = |_| Audited::new(books(Default::default(), PoolRules::default()));
    peopled(World::with_workers(seed, network, disk, audited), nodes)
}

fn peopled(mut sim: World, nodes: u32) -> World {
    let config = HyParViewConfig { shuffle: Duration::from_secs(10), ..HyParViewConfig::default() };
    sim.population(move |birth| {
        let seeds: Vec<SimPeer> = birth.rng.choose(birth.alive).copied().into_iter().collect();
        Node::new(HyParView::with(birth.peer, seeds, config), LedgerConfig::default())
    });
    for _ in 0..nodes {
        sim.join();
        sim.run_for(Duration::from_millis(200));
    }
    sim.run_for(Duration::from_secs(20));
    sim
}

/// A node mines a block on what it takes for the tip, for one of the people. It may fail, as disks do.
fn mine(sim: &mut World, miner: SimPeer, person: u8) {
    let handle: Handle<Node> = sim.handle(miner);
    let to = Lock::Key(keypair(person).id().into()).to_bytes();
    let _ = sim.block_on(async move {
        let mut block = handle.ask(Template(to)).await.ok()?.ok()?;
        assert!(Pow::regtest().mine(&mut block.header, 0, 1 << 20));
        handle.ask(Mined(block)).await.ok()
    });
}

/// One of the people pays two others what he has in one coin, at a node, which knows the chain as it knows it.
fn somebody_pays(sim: &mut World, at: SimPeer) {
    let Some(chain) = sim.worker(at).map(|worker| worker.books.chain()) else { return };
    let next = chain.tip().height + 1;
    let coins: Vec<(OutPoint, u64, u8)> = Coins::<NoPredicate>::all(chain.store())
        .filter(|(_, coin)| coin.output.value > 200 && (!coin.is_new || coin.height + 3 <= next))
        .filter_map(|(point, coin)| {
            let owner = (1..=PEOPLE).find(|p| coin.output.lock == pay(*p, 0).lock)?;
            Some((point, coin.output.value, owner))
        })
        .collect();
    let rng = sim.workload_rng();
    let Some((coin, value, owner)) = rng.choose(&coins).copied() else { return };
    let (one, other) = (1 + rng.below(PEOPLE.into()) as u8, 1 + rng.below(PEOPLE.into()) as u8);
    let outputs = [pay(one, value / 2), pay(other, value - value / 2 - 100)];
    sim.command(at, LedgerCommand::Submit(spend(owner, coin, outputs)));
    sim.take_outcomes();
}

/// A while in which blocks come, every 10 s on average, and payments, every 2 s.
fn a_while(sim: &mut World, seconds: u64, miners: u32) {
    let until = sim.now() + Duration::from_secs(seconds);
    while sim.now() < until {
        let rng = sim.workload_rng();
        let (gap, coin) = (rng.exponential() * 1.67, rng.unit());
        sim.run_for(Duration::from_secs_f64(gap));
        let alive = sim.alive().to_vec();
        let Some(node) = sim.workload_rng().choose(&alive).copied() else { continue };
        if coin < 0.833 {
            somebody_pays(sim, node);
            continue;
        }
        let miner = SimPeer(sim.workload_rng().below(miners.into()) as u32);
        let person = 1 + sim.workload_rng().below(PEOPLE.into()) as u8;
        if sim.node(miner).is_some() {
            mine(sim, miner, person);
        }
    }
}

pub(super) fn tips(sim: &World) -> Vec<Tip> {
    sim.alive().iter().filter_map(|peer| Some(sim.worker(*peer)?.books.chain().tip())).collect()
}

/// Nobody is banned: all are honest.
fn nobody_is_banned(sim: &World) {
    for (peer, node) in sim.view().iter() {
        assert_eq!(node.banned().next(), None, "{peer} has banned somebody");
    }
}

pub(super) fn all_agree(sim: &mut World, miner: SimPeer) -> Tip {
    // What waits for its turn goes its way, then one block more settles ties.
    sim.run_for(Duration::from_secs(30));
    for _ in 0..2 {
        mine(sim, miner, 1);
        sim.run_for(Duration::from_secs(45));
    }
    let tips = tips(sim);
    assert!(tips.iter().all(|tip| *tip == tips[0]), "{tips:?}");
    nobody_is_banned(sim);
    tips[0]
}

pub(super) fn rough() -> Network {
    Network {
        latency: Latency::Uniform(Duration::from_millis(20), Duration::from_millis(150)),
        loss: Loss::Uniform(0.01),
        links: Some(Duration::from_secs(2)),
        encoding: Encoding::RoundTrip,
        ..Network::default()
    }
}

/// Messages get lost, disks fail, a third of all nodes crash and start again, the network is cut in two halves that go
/// their own ways: in the end there is one chain, at every step of which all coins add up.
fn one_chain_in_the_end(seed: u64, nodes: u32) -> (u64, Tip) {
    let mut sim = world(seed, nodes, rough());
    a_while(&mut sim, 60, 4);

    let half = nodes / 2;
    sim.inject(vec![(
        Duration::ZERO,
        Fault::Cut(Cut::between((0..half).map(SimPeer), (half..nodes).map(SimPeer))),
    )]);
    // Two miners on either side.
    let either = [0, 1, half, half + 1];
    let mut apart = 0;
    for _ in 0..12 {
        let at = sim.workload_rng().index(4);
        sim.run_for(Duration::from_secs(5));
        mine(&mut sim, SimPeer(either[at]), 1 + at as u8);
        let node = sim.workload_rng().below(nodes.into()) as u32;
        somebody_pays(&mut sim, SimPeer(node));
        let (here, there) = (sim.worker(SimPeer(0)), sim.worker(SimPeer(half)));
        apart += u32::from(
            here.map(|worker| worker.books.chain().tip()) != there.map(|worker| worker.books.chain().tip()),
        );
    }
    assert!(apart > 0, "the halves went their own ways");
    sim.inject(vec![(Duration::ZERO, Fault::Heal)]);
    a_while(&mut sim, 40, 4);

    let third: Vec<SimPeer> = (4..nodes).step_by(3).map(SimPeer).collect();
    third.iter().for_each(|peer| sim.crash(*peer));
    a_while(&mut sim, 30, 4);
    third.iter().for_each(|peer| sim.restart(*peer));
    a_while(&mut sim, 30, 4);

    let tip = all_agree(&mut sim, SimPeer(0));
    assert!(tip.height >= 8, "{tip:?}");
    let paid: usize = (1..=tip.height)
        .filter_map(|height| {
            let chain = sim.worker(SimPeer(1))?.books.chain();
            chain.block(&chain.at(height)?).ok()?
        })
        .map(|block| block.transactions.len() - 1)
        .sum();
    assert!(paid > 3, "{paid} payments are in the chain");
    (sim.trace(), tip)
}

#[test]
fn one_chain_in_the_end_whatever_happens_on_the_way() {
    run_seeds(2, |seed| one_chain_in_the_end(seed, 30));
}

#[test]
fn one_chain_in_the_end_in_a_larger_network() {
    one_chain_in_the_end(1, size());
}

/// A node that comes late has the chain of those who were there, fetched from several of them: 400 blocks, or `P2P_BLOCKS`, but
/// no more than 10,000.
#[test]
fn a_newcomer_fetches_a_long_chain_from_several() {
    let blocks =
        std::env::var("P2P_BLOCKS").ok().and_then(|text| text.parse().ok()).unwrap_or(400).min(10_000);
    let blind = |_| Audited::blind(books(Default::default(), PoolRules::default()));
    let mut sim = peopled(World::with_workers(1, Network::default(), DiskModel::default(), blind), 6);
    for _ in 0..blocks {
        mine(&mut sim, SimPeer(0), 1);
    }
    sim.run_for(Duration::from_secs(20));
    let tip = tips(&sim)[0];
    assert_eq!(tip.height, blocks);
    let newcomer = sim.join();
    let began = sim.now();
    while sim.worker(newcomer).is_none_or(|worker| worker.books.chain().tip() != tip) {
        assert!(sim.now().since(began) < Duration::from_secs(60), "it gets nowhere");
        sim.run_for(Duration::from_millis(500));
    }
    let tips = tips(&sim);
    assert!(tips.iter().all(|tip| *tip == tips[0]));
    nobody_is_banned(&sim);
}
