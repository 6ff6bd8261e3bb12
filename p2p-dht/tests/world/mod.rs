//! Hash tables in the simulator, over each overlay.

#![allow(dead_code, reason = "each test file uses some of it")]
#![allow(unreachable_pub, reason = "it is a part of each test file")]

use std::time::Duration;

use p2p_core::sim::{DiskModel, Network, Sim};
use p2p_core::{NoJob, SimPeer, Wire};
use p2p_dht::{DhtConfig, MemoryStore, Replicated};
use p2p_overlay::{Chord, ChordConfig, Kademlia, KademliaConfig, Overlay};

pub const SECOND: Duration = Duration::from_secs(1);

/// An overlay that settles within seconds.
pub trait Quick: Overlay<Peer = SimPeer, Job = NoJob, Msg: Wire> {
    fn quick(me: SimPeer, seeds: Vec<SimPeer>) -> Self;
}

impl Quick for Chord<SimPeer> {
    fn quick(me: SimPeer, seeds: Vec<SimPeer>) -> Self {
        let config = ChordConfig { stabilize: SECOND, fingers: 2, ..ChordConfig::default() };
        Chord::with(me, seeds, config)
    }
}

impl Quick for Kademlia<SimPeer> {
    fn quick(me: SimPeer, seeds: Vec<SimPeer>) -> Self {
        Kademlia::with(me, seeds, KademliaConfig { upkeep: 2 * SECOND, ..KademliaConfig::default() })
    }
}

pub type World<O> = Sim<Replicated<O>, MemoryStore<SimPeer>>;

/// Five replicas, compared every minute.
pub fn config() -> DhtConfig {
    DhtConfig {
        replicas: 5,
        write_quorum: 3,
        read_quorum: 3,
        timeout: 2 * SECOND,
        repair: 60 * SECOND,
        settle: SECOND,
        ..DhtConfig::default()
    }
}

/// Nodes that have joined one another and settled.
pub fn world<O: Quick>(seed: u64, nodes: u32, network: Network, config: DhtConfig) -> World<O> {
    let mut sim = World::<O>::with_workers(seed, network, DiskModel::default(), |_| MemoryStore::default());
    sim.population(move |birth| {
        let seeds = (0..3).filter_map(|_| birth.rng.choose(birth.alive).copied()).collect();
        Replicated::new(O::quick(birth.peer, seeds), config)
    });
    for _ in 0..nodes {
        sim.join();
        sim.run_for(SECOND / 4);
    }
    sim.run_for(60 * SECOND);
    sim
}
