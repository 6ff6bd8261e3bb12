//! How long Freenet's routes are (Clarke et al., 2000, §5): the paper's experiments, by the machine that runs everywhere.
//!
//! A network begins as a ring lattice, and its nodes insert and request at random; now and then the length of the paths
//! is taken, from a look at all nodes, so that nobody learns from it. It is counted in requests sent, those that led
//! nowhere or in a circle among them; one that does not end is as long as its hops to live.

use std::collections::BTreeSet;
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
    /// The hops to live of the workload's inserts (§5.1). 20.
    pub htl: u16,
    /// The hops to live of its requests. 500: the paper has 20, and 300 requests of 500 hops after every 100 steps.
    pub request_htl: u16,
    /// The hops to live of the paths that are measured (§5.1). 500.
    pub probe_htl: u16,
    /// The seed of everything.
    pub seed: u64,
}

impl Default for Routing {
    fn default() -> Routing {
        Routing { nodes: 1000, blocks: 50, routes: 250, htl: 20, request_htl: 500, probe_htl: 500, seed: 1 }
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
            max_htl: self.probe_htl.max(self.request_htl),
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
            let alive = self.sim.alive().to_vec();
            let rng = self.sim.workload_rng();
            let Some(node) = rng.choose(&alive).copied() else { return };
            let inserts = self.keys.is_empty() || rng.chance(0.5);
            let key = rng.choose(&self.keys).copied();
            match key.filter(|_| !inserts) {
                Some(key) => {
                    let htl = Some(self.shape.request_htl);
                    self.ask(node, FreenetCommand::Retrieve(Retrieve { key, htl }));
                }
                None => self.insert(node),
            }
        }
    }

    fn insert(&mut self, node: SimPeer) {
        self.next += 1;
        let Ok(block) = FreenetBlock::content(self.next.to_be_bytes().to_vec()) else { return };
        let key = block.key();
        if let Some(FreenetOutcome::Inserted(Ok(_))) = self.ask(node, FreenetCommand::Insert(block)) {
            self.keys.push(key);
        }
    }

    /// Asks a node, and waits until all is over.
    fn ask(&mut self, node: SimPeer, command: FreenetCommand<SimPeer>) -> Option<FreenetOutcome<SimPeer>> {
        self.sim.command(node, command);
        self.sim.run_until_quiet();
        self.sim.take_outcomes().pop().map(|ended| ended.outcome)
    }

    /// The lengths of so many paths, to keys that were inserted, from nodes at random that do not have them.
    pub fn paths(&mut self, probes: u32) -> Histogram {
        let alive = self.sim.alive().to_vec();
        let mut paths = Histogram::default();
        for _ in 0..probes {
            let rng = self.sim.workload_rng();
            let (Some(from), Some(key)) = (rng.choose(&alive).copied(), rng.choose(&self.keys).copied())
            else {
                break;
            };
            paths.add(self.path(from, key).into());
        }
        paths
    }

    /// How many requests it would take to find a key, as things are; the hops to live if they are too few. Nobody
    /// learns from it.
    pub fn path(&self, from: SimPeer, key: Key) -> u16 {
        let world = self.sim.view();
        let most = self.shape.probe_htl;
        if world.get(from).is_some_and(|node| node.holds(&key)) {
            return 0;
        }
        let whom = |peer: SimPeer, asker: Option<SimPeer>| {
            let mut seen = BTreeSet::from_iter(asker.into_iter().chain([peer]));
            let nearest = world.get(peer).map(|node| node.nearest(key).collect::<Vec<_>>());
            nearest.unwrap_or_default().into_iter().filter(move |next| seen.insert(*next))
        };
        let mut visited = BTreeSet::from([from]);
        // Who has the request and waits for somebody's answer.
        let mut way = vec![(from, whom(from, None))];
        let mut sent = 0;
        while let Some((here, others)) = way.last_mut() {
            let here = *here;
            let Some(next) = others.next() else {
                way.pop();
                continue;
            };
            sent += 1;
            if let Some(node) = world.get(next).filter(|_| visited.insert(next)) {
                if node.holds(&key) {
                    return sent;
                }
                way.push((next, whom(next, Some(here))));
            }
            if sent >= most {
                break;
            }
        }
        most
    }

    /// A true request, from which the network learns: how many it took, if it was found.
    pub fn request(&mut self, from: SimPeer, key: Key) -> Option<u64> {
        let sent =
            |sim: &Sim<Freenet<SimPeer>>| sim.view().iter().map(|(_, node)| node.tally().sent).sum::<u64>();
        let before = sent(&self.sim);
        let htl = Some(self.shape.probe_htl);
        let found = self.ask(from, FreenetCommand::Retrieve(Retrieve { key, htl }));
        matches!(found, Some(FreenetOutcome::Retrieved(Ok(_)))).then(|| sent(&self.sim) - before)
    }

    /// What has been inserted.
    pub fn keys(&self) -> &[Key] {
        &self.keys
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
