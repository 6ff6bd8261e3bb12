//! How long Freenet's routes are (Clarke et al., 2000, §5): the paper's experiments, by the machine that runs everywhere.
//!
//! A network begins as a ring lattice, and its nodes insert and request at random; now and then the length of the paths
//! is taken. It is counted in requests sent, those that led nowhere among them; one that fails counts as its hops to
//! live. What takes it are requests too, so they teach the network like the others: a step here is one of the workload.

use std::time::Duration;

use p2p_core::sim::{Histogram, Network, Sim};
use p2p_core::{Key, SimPeer};

use crate::Rate;
use crate::freenet::{
    BLOCK_OVERHEAD, Freenet, FreenetBlock, FreenetCommand, FreenetConfig, FreenetOutcome, Retrieve,
};

/// The shape of an experiment.
#[derive(Clone, Copy, Debug)]
pub struct Routing {
    /// How many nodes: each knows two on either side (§5.1). 1,000.
    pub nodes: u32,
    /// How many blocks fit a store (§5.1). 50.
    pub blocks: usize,
    /// How many entries a routing table has (§5.1). 250.
    pub routes: usize,
    /// The hops to live of the workload's inserts and requests (§5.1). 20.
    pub htl: u16,
    /// The hops to live of the requests that take the length of paths (§5.1). 500.
    pub probe_htl: u16,
    /// The seed of everything.
    pub seed: u64,
}

impl Default for Routing {
    fn default() -> Routing {
        Routing { nodes: 1000, blocks: 50, routes: 250, htl: 20, probe_htl: 500, seed: 1 }
    }
}

/// A network under way.
#[derive(Debug)]
pub struct Lattice {
    sim: Sim<Freenet<SimPeer>>,
    shape: Routing,
    /// What has been inserted.
    keys: Vec<Key>,
    /// The number of the next block.
    next: u64,
}

/// The data of a block: as long as its number.
const DATA: usize = 8;

impl Routing {
    /// The network as it begins.
    pub fn start(&self) -> Lattice {
        let network = Network { links: Some(Duration::from_millis(200)), ..Network::default() };
        let mut sim = Sim::new(self.seed, network);
        let unbounded = Rate { every: Duration::from_nanos(1), burst: 1000 };
        let config = FreenetConfig {
            htl: self.htl,
            max_htl: self.probe_htl,
            store: self.blocks * (DATA + BLOCK_OVERHEAD),
            routes: self.routes,
            requests: unbounded,
            hearsay: unbounded,
            announce: 0,
            ..FreenetConfig::default()
        };
        let nodes = self.nodes;
        for i in 0..nodes {
            let beside = [1, 2, nodes - 2, nodes - 1].map(|by| SimPeer((i + by) % nodes));
            sim.spawn(|birth| Freenet::new(birth.peer, beside, config));
        }
        Lattice { sim, shape: *self, keys: Vec::new(), next: 0 }
    }
}

impl Lattice {
    /// So many inserts and requests, half of each, one after the other, from nodes at random.
    pub fn steps(&mut self, steps: u32) {
        for _ in 0..steps {
            let rng = self.sim.workload_rng();
            let inserts = self.keys.is_empty() || rng.chance(0.5);
            let key = rng.choose(&self.keys).copied();
            match key.filter(|_| !inserts) {
                Some(key) => drop(self.ask(FreenetCommand::Retrieve(Retrieve { key, htl: None }))),
                None => self.insert(),
            }
        }
    }

    fn insert(&mut self) {
        self.next += 1;
        let Ok(block) = FreenetBlock::content(self.next.to_be_bytes().to_vec()) else { return };
        let key = block.key();
        if let Some(FreenetOutcome::Inserted(Ok(_))) = self.ask(FreenetCommand::Insert(block)) {
            self.keys.push(key);
        }
    }

    /// Asks a node at random, and waits until all is over.
    fn ask(&mut self, command: FreenetCommand<SimPeer>) -> Option<FreenetOutcome<SimPeer>> {
        let alive = self.sim.alive().to_vec();
        let node = *self.sim.workload_rng().choose(&alive)?;
        self.sim.command(node, command);
        self.sim.run_until_quiet();
        self.sim.take_outcomes().pop().map(|ended| ended.outcome)
    }

    fn sent(&self) -> u64 {
        self.sim.view().iter().map(|(_, node)| node.tally().sent).sum()
    }

    /// The lengths of so many paths, to keys that were inserted, from nodes at random.
    pub fn paths(&mut self, probes: u32) -> Histogram {
        let mut paths = Histogram::default();
        let mut before = self.sent();
        for _ in 0..probes {
            let Some(key) = self.sim.workload_rng().choose(&self.keys).copied() else { break };
            let htl = Some(self.shape.probe_htl);
            let found = self.ask(FreenetCommand::Retrieve(Retrieve { key, htl }));
            let after = self.sent();
            paths.add(match found {
                Some(FreenetOutcome::Retrieved(Ok(_))) => after - before,
                _ => u64::from(self.shape.probe_htl),
            });
            before = after;
        }
        paths
    }

    /// This share of the nodes that are alive dies, at random.
    pub fn fail(&mut self, share: f64) {
        let mut alive = self.sim.alive().to_vec();
        self.sim.workload_rng().shuffle(&mut alive);
        alive.truncate((alive.len() as f64 * share) as usize);
        alive.into_iter().for_each(|peer| self.sim.crash(peer));
    }

    /// The mean number of entries in a routing table.
    pub fn routes(&self) -> f64 {
        let sizes = self.sim.view().iter().map(|(_, node)| node.routes().count());
        sizes.sum::<usize>() as f64 / self.sim.alive().len().max(1) as f64
    }

    /// The hash of all that has happened.
    pub fn trace(&self) -> u64 {
        self.sim.trace()
    }
}
