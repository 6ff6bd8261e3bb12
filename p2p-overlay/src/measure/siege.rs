//! Lookups in a network some of whose nodes are adversaries, at rest.
//!
//! The adversaries are everywhere in the tables where nodes of their keys and subnets would be. They know each other,
//! and what is looked for: they answer with themselves. A lookup is right if it ends at the node that it should
//! end at, which is honest.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use p2p_core::sim::{Encoding, Histogram, Latency, Liar, Network, Sim};
use p2p_core::{Key, Keyed, Rng, SimPeer};

use super::Simulated;
use crate::lookup::mislead;
use crate::routed::{Routed, RoutedMsg};
use crate::structured::{Find, Implausible, Maintenance, Mode};

/// Who the adversaries are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attack {
    /// There are none.
    Nobody,
    /// Every fifth node.
    Liars,
    /// In one subnet, 3 for every 7 honest nodes; at most 256.
    Subnet,
    /// 32 around the key that is looked for: of 32 ids for every node, those that happened to be nearest. A tenth of the
    /// lookups is for each of ten keys, in a network of its own.
    Crowd,
}

/// Lookups under an attack.
#[derive(Clone, Copy, Debug)]
pub struct Siege {
    /// How many nodes; beside them there are the adversaries, but that liars are among them. 1000.
    pub nodes: u32,
    /// How many lookups, one after the other. 1000.
    pub lookups: u32,
    /// The seed of everything. 1.
    pub seed: u64,
    /// Who the adversaries are. Nobody.
    pub attack: Attack,
    /// How many peers each lookup wants. 1.
    pub replicas: u8,
    /// How lookups travel. In the overlay's own manner.
    pub mode: Option<Mode>,
}

impl Default for Siege {
    fn default() -> Siege {
        Siege { nodes: 1000, lookups: 1000, seed: 1, attack: Attack::Nobody, replicas: 1, mode: None }
    }
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Lookups.
    pub lookups: u32,
    /// Those that ended at the honest node that is responsible. For a crowd, whose nodes are responsible: those that named
    /// an honest node, if only as one beyond the crowd.
    pub right: u32,
    /// Those that ended at an adversary, are not right, and were not flagged.
    pub captured: u32,
    /// Those of whose answer the asker said that it is implausible.
    pub flagged: u32,
    /// Hops per lookup that has ended.
    pub hops: Histogram,
    /// Messages in all.
    pub messages: u64,
    /// Bytes in all.
    pub bytes: u64,
}

impl Outcome {
    /// A number of lookups as a part of all.
    pub fn share(&self, of: u32) -> f64 {
        f64::from(of) / f64::from(self.lookups.max(1))
    }
    /// Messages per lookup.
    pub fn messages_each(&self) -> f64 {
        self.messages as f64 / f64::from(self.lookups.max(1))
    }
    /// Bytes per lookup.
    pub fn bytes_each(&self) -> f64 {
        self.bytes as f64 / f64::from(self.lookups.max(1))
    }
}

/// How many ids of a crowd are nearest to a key.
const CROWD: usize = 32;
const CROWDED_KEYS: u32 = 10;

impl Siege {
    /// Builds the network, and looks keys up. The configuration should be of a network at rest.
    pub fn run<M: Maintenance<Peer = SimPeer>>(&self, config: <Routed<M> as Simulated>::Config) -> Outcome
    where
        Routed<M>: Simulated<Msg = RoutedMsg<SimPeer, M::Msg>>,
    {
        let mut outcome = Outcome::default();
        let networks = if self.attack == Attack::Crowd { CROWDED_KEYS } else { 1 };
        for network in 0..networks {
            let lookups = self.lookups / networks;
            let siege = Siege { lookups, seed: self.seed + u64::from(network), ..*self };
            siege.one_network::<M>(config, &mut outcome);
        }
        outcome
    }

    fn one_network<M: Maintenance<Peer = SimPeer>>(
        &self,
        config: <Routed<M> as Simulated>::Config,
        outcome: &mut Outcome,
    ) where
        Routed<M>: Simulated<Msg = RoutedMsg<SimPeer, M::Msg>>,
    {
        let crowded = Rng::new(self.seed).key();
        let honest: Vec<SimPeer> = (0..self.nodes).map(SimPeer).filter(|peer| !self.is_liar(*peer)).collect();
        let adversaries = self.adversaries::<M>(&crowded);
        let named: Arc<Mutex<Vec<SimPeer>>> = Arc::default();
        let mut sim =
            self.build::<M>(config, [honest.as_slice(), &adversaries].concat(), &adversaries, &named);

        let sorted = |peers: &[SimPeer]| {
            let mut nodes: Vec<(Key, SimPeer)> = peers.iter().map(|peer| (peer.key(), *peer)).collect();
            nodes.sort_unstable();
            nodes
        };
        let machine = |peer: &SimPeer| sim.node(*peer).map(Liar::machine);
        let places = Routed::<M>::places(&mut sim.alive().iter().filter_map(machine));
        let everybody = places.unwrap_or_else(|| sorted(sim.alive()));
        let accomplices = sorted(&adversaries);
        outcome.lookups += self.lookups;
        let before = sim.stats();
        for _ in 0..self.lookups {
            let from = honest[sim.workload_rng().index(honest.len())];
            let (key, owner) = loop {
                let key = if self.attack == Attack::Crowd { crowded } else { sim.workload_rng().key() };
                let place = sim.node(from).map_or(key, |node| node.machine().place(&key));
                let owner = Routed::<M>::owners(&everybody, &place, 1)[0];
                if self.attack == Attack::Crowd || !adversaries.contains(&owner) {
                    break (key, owner);
                }
            };
            if let Ok(mut named) = named.lock() {
                *named = Routed::<M>::owners(&accomplices, &key, CROWD);
            }
            sim.command(from, Find { mode: self.mode, ..Find::key(key).replicas(self.replicas) });
            let until = sim.now() + Duration::from_secs(120);
            sim.run_to_outcome(until);
            let Some(Ok(found)) = sim.take_outcomes().pop().map(|ended| ended.outcome) else { continue };
            let beyond = match &found.implausible {
                Some(Implausible::Dense { beyond }) => beyond.as_slice(),
                Some(Implausible::Thin) | None => &[],
            };
            let right = match self.attack {
                Attack::Crowd => found.peers.iter().chain(beyond).any(|peer| !adversaries.contains(peer)),
                Attack::Nobody | Attack::Liars | Attack::Subnet => found.root() == owner,
            };
            outcome.right += u32::from(right);
            let flagged = found.implausible.is_some();
            outcome.captured += u32::from(!right && !flagged && adversaries.contains(&found.root()));
            outcome.flagged += u32::from(flagged);
            outcome.hops.add(found.hops.into());
        }
        outcome.messages += sim.stats().sent - before.sent;
        outcome.bytes += sim.stats().bytes - before.bytes;
    }

    fn is_liar(&self, peer: SimPeer) -> bool {
        self.attack == Attack::Liars && peer.0.is_multiple_of(5)
    }

    fn adversaries<M: Maintenance>(&self, crowded: &Key) -> Vec<SimPeer> {
        match self.attack {
            Attack::Nobody => Vec::new(),
            Attack::Liars => (0..self.nodes).map(SimPeer).filter(|peer| self.is_liar(*peer)).collect(),
            Attack::Subnet => {
                let first = SimPeer::FIRST_IN_SHARED_SUBNET.0;
                (first..first + (self.nodes * 3 / 7).min(256)).map(SimPeer).collect()
            }
            Attack::Crowd => {
                let tried = self.nodes..self.nodes * (1 + CROWD as u32);
                let upto = |peer: &SimPeer| M::upto(&peer.key(), crowded).unwrap_or(1.0);
                let mut tried: Vec<(f64, SimPeer)> =
                    tried.map(SimPeer).map(|peer| (upto(&peer), peer)).collect();
                tried.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
                let mut crowd: Vec<SimPeer> = tried.iter().take(CROWD).map(|(_, peer)| *peer).collect();
                crowd.sort_unstable();
                crowd
            }
        }
    }

    /// The network at rest, of these members; the other numbers are of nodes that are dead.
    fn build<M: Maintenance<Peer = SimPeer>>(
        &self,
        config: <Routed<M> as Simulated>::Config,
        mut members: Vec<SimPeer>,
        adversaries: &[SimPeer],
        named: &Arc<Mutex<Vec<SimPeer>>>,
    ) -> Sim<Liar<Routed<M>>>
    where
        Routed<M>: Simulated<Msg = RoutedMsg<SimPeer, M::Msg>>,
    {
        members.sort_unstable();
        let latency = Latency::Constant(Duration::from_millis(50));
        let network = Network { latency, encoding: Encoding::Measure, ..Network::default() };
        let mut sim = Sim::new(self.seed, network);
        let mut next = 0;
        for (node, &peer) in Routed::<M>::converged(&members, config).into_iter().zip(&members) {
            for _ in next..peer.0 {
                let dead =
                    sim.spawn(|birth| Liar::honest(Routed::<M>::newcomer(birth.peer, Vec::new(), config)));
                sim.crash(dead);
            }
            next = peer.0 + 1;
            let named = named.clone();
            sim.spawn(|_| match adversaries.binary_search(&peer) {
                Err(_) => Liar::honest(node),
                Ok(_) => Liar::new(node, move |_, to, msg| {
                    let accomplices = named.lock().map_or_else(|_| Vec::new(), |named| named.clone());
                    match msg {
                        RoutedMsg::Lookup(msg) => {
                            let (to, msg) = mislead((peer, to), msg, &accomplices, M::CONVERGES);
                            vec![(to, RoutedMsg::Lookup(msg))]
                        }
                        upkeep @ RoutedMsg::Upkeep(_) => vec![(to, upkeep)],
                    }
                }),
            });
        }
        sim
    }
}
