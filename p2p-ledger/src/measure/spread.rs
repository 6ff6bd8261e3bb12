//! How fast blocks get around among nodes, and how many are in vain. All times are the simulation's, so the machine does not
//! matter.

use std::time::Duration;

use p2p_core::sim::{DiskModel, Network, Sim};
use p2p_core::{Keypair, SimPeer};
use p2p_overlay::HyParView;

use super::{Pow, headers};
use crate::chain::{Chain, ChainRules};
use crate::codec::Encode;
use crate::coins::Coins;
use crate::headers::Tip;
use crate::lock::Lock;
use crate::node::{Keeper, LedgerConfig, LedgerNode, Mined, Template};
use crate::pool::{Pool, PoolRules};
use crate::signature::Verifier;
use crate::store::MemoryStore;

type Node = LedgerNode<HyParView<SimPeer>, Pow, Coins>;
type World = Sim<Node, Keeper<Pow, Coins, MemoryStore>>;

/// Blocks, one after the other, each at another node.
#[derive(Clone, Copy, Debug)]
pub struct Spread {
    /// How many nodes there are; links take 50 ms, disks 2 ms.
    pub nodes: u32,
    /// How many blocks.
    pub blocks: u32,
    /// The seed of everything.
    pub seed: u64,
}

impl Spread {
    /// How long each node takes to stand at each block, in steps of 5 ms, in order; and the trace.
    pub fn run(&self) -> (Vec<Duration>, u64) {
        let mut sim = world(self.nodes, self.seed);
        let mut times = Vec::new();
        for _ in 0..self.blocks {
            sim.run_for(Duration::from_secs(10));
            let at = somebody(&mut sim);
            let tip = mine(&mut sim, at);
            times.extend(spread(&mut sim, tip));
        }
        times.sort_unstable();
        (times, sim.trace())
    }
}

/// Blocks at random nodes, at random times.
#[derive(Clone, Copy, Debug)]
pub struct Forks {
    /// How many nodes there are; links take 50 ms, disks 2 ms.
    pub nodes: u32,
    /// How many seconds are between blocks, on average.
    pub interval: f64,
    /// How many blocks.
    pub blocks: u32,
    /// The seed of everything.
    pub seed: u64,
}

/// What came of [`Forks`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ForksReport {
    /// How many blocks are not on the chain in the end.
    pub in_vain: u32,
    /// The trace.
    pub trace: u64,
}

impl Forks {
    /// Mines them.
    pub fn run(&self) -> ForksReport {
        let mut sim = world(self.nodes, self.seed);
        for _ in 0..self.blocks {
            let gap = sim.workload_rng().exponential() * self.interval;
            sim.run_for(Duration::from_secs_f64(gap));
            let at = somebody(&mut sim);
            mine(&mut sim, at);
        }
        sim.run_for(Duration::from_secs(30));
        let height = sim.worker(SimPeer(0)).map_or(0, |keeper| keeper.chain().tip().height);
        ForksReport { in_vain: self.blocks - height as u32, trace: sim.trace() }
    }
}

fn world(nodes: u32, seed: u64) -> World {
    let keeper = |_| {
        let (store, verifier) = (MemoryStore::default(), Verifier::new([9; 32]));
        let chain = Chain::new(headers(), Coins::new(1, 1_000), store, verifier, ChainRules::default());
        Keeper::new(chain, Pool::new(PoolRules::default()))
    };
    let mut sim = World::with_workers(seed, Network::default(), DiskModel::default(), keeper);
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

fn mine(sim: &mut World, at: SimPeer) -> Tip {
    let to = Lock::Key(Keypair::from_seed(&[1; 32]).id().into()).to_bytes();
    let handle = sim.handle(at);
    sim.block_on(async move {
        let mut block = handle.ask(Template(to)).await.ok()?.ok()?;
        Pow::regtest().mine(&mut block.header, 0, 1 << 20).then_some(())?;
        handle.ask(Mined(block)).await.ok()?.ok()
    })
    .expect("a node that is alive takes in what it has made")
}

fn somebody(sim: &mut World) -> SimPeer {
    let alive = sim.alive().to_vec();
    sim.workload_rng().choose(&alive).copied().expect("nobody dies")
}

fn spread(sim: &mut World, tip: Tip) -> Vec<Duration> {
    let step = Duration::from_millis(5);
    let (mut waited, mut times) = (Duration::ZERO, Vec::new());
    let nodes = sim.alive().len();
    while times.len() < nodes && waited < Duration::from_secs(60) {
        let there = sim.view().iter().filter(|(_, node)| node.tip() == Some(tip)).count();
        times.extend(std::iter::repeat_n(waited, there.saturating_sub(times.len())));
        sim.run_for(step);
        waited += step;
    }
    times
}
