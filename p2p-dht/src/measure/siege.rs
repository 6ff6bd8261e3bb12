//! Puts and gets in a hash table some of whose nodes are adversaries.
//!
//! Values are put by honest nodes, one after the other, and then each is read by another. The adversaries know each other and
//! what is asked for: whom they name is nearest to the key. A put is right if it is acknowledged, a get if it comes to the
//! value that was put, acknowledged or not.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use p2p_core::sim::{DiskModel, Liar, Sim};
use p2p_core::{Key, Keyed, SimPeer};
use p2p_overlay::measure::Simulated;
use p2p_overlay::{Maintenance, Routed, RoutedMsg};

use super::adversary::{Malice, instead};
use super::{Tally, at_rest, network};
use crate::client::Client;
use crate::replicated::{DhtConfig, Replicated, Wanted};
use crate::request::{DhtCommand, DhtOutcome, Options};
use crate::store::MemoryStore;

/// Who the adversaries are, and what they do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attack {
    /// There are none.
    Nobody,
    /// Every fifth node drops all but the upkeep of its tables.
    Drop,
    /// Every fifth node leads lookups to its accomplices, acknowledges what it does not keep, and has nothing.
    Misroute,
    /// As many identities crowd around one key, [`SimPeer::CROWDED`], and lie likewise; everything is put under that key.
    Eclipse {
        /// How many.
        identities: u32,
        /// Whether each has a subnet of its own, and not 256 share one.
        scattered: bool,
    },
}

/// Puts and gets under an attack.
#[derive(Clone, Copy, Debug)]
pub struct Siege {
    /// How many nodes, every fifth of which may be an adversary; those who crowd come in addition. 1,000; at most 16,384.
    pub nodes: u32,
    /// How many values. 100; of those under one key as many as a node [gives](DhtConfig::max_providers).
    pub values: u32,
    /// The seed of everything. 1.
    pub seed: u64,
    /// The attack. Nobody.
    pub attack: Attack,
    /// How the table is configured.
    pub dht: DhtConfig,
}

impl Default for Siege {
    fn default() -> Siege {
        Siege { nodes: 1000, values: 100, seed: 1, attack: Attack::Nobody, dht: DhtConfig::default() }
    }
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// The puts.
    pub puts: Tally,
    /// The gets.
    pub gets: Tally,
}

/// How many accomplices an adversary names.
const NAMED: usize = 32;
/// How long an operation may take before it is given up.
const PATIENCE: Duration = Duration::from_secs(120);

type World<M> = Sim<Liar<Replicated<Routed<M>>>, MemoryStore<SimPeer>>;
/// Whom adversaries name.
type Named = Arc<Mutex<Vec<SimPeer>>>;

impl Siege {
    /// Builds the network, puts and reads. The overlay's configuration should be of a network at rest.
    pub fn run<M: Maintenance<Peer = SimPeer>>(&self, config: <Routed<M> as Simulated>::Config) -> Outcome
    where
        Routed<M>: Simulated<Msg = RoutedMsg<SimPeer, M::Msg>>,
    {
        let (honest, adversaries): (Vec<SimPeer>, Vec<SimPeer>) =
            self.members().into_iter().partition(|peer| self.malice(*peer).is_none());
        let named = Named::default();
        let mut sim = self.build::<M>(config, &named);
        let mut accomplices: Vec<(Key, SimPeer)> =
            adversaries.iter().map(|peer| (peer.key(), *peer)).collect();
        accomplices.sort_unstable();

        let client = Client::at(SimPeer(u32::MAX), self.dht.lifetime);
        let mut outcome = Outcome::default();
        for is_put in [true, false] {
            for i in 0..self.values {
                let value = Bytes::from(format!("value {i}"));
                let key = self.key(&value);
                if let Ok(mut named) = named.lock() {
                    *named = Routed::<M>::owners(&accomplices, &key, NAMED);
                }
                let from = honest[sim.workload_rng().index(honest.len())];
                let (tally, command) = match is_put {
                    true => (&mut outcome.puts, self.put(value.clone(), client)),
                    false => (&mut outcome.gets, self.get(key)),
                };
                let (before, began) = (sim.stats(), sim.now());
                let op = sim.command(from, command);
                let mut ended = None;
                while ended.is_none() && sim.run_to_outcome(began + PATIENCE) {
                    ended = sim.take_outcomes().into_iter().find(|ended| ended.op == op);
                }
                tally.asked += 1;
                tally.sent(before, sim.stats());
                tally.took_ms.add((sim.now() - began).as_millis() as u64);
                tally.right += u32::from(ended.is_some_and(|ended| is_right(ended.outcome, &value)));
            }
        }
        outcome
    }

    fn key(&self, value: &Bytes) -> Key {
        match self.attack {
            Attack::Eclipse { .. } => SimPeer::CROWDED,
            Attack::Nobody | Attack::Drop | Attack::Misroute => Key::of(value),
        }
    }

    /// For a client: so it is no node's own, which that would publish again during the experiment.
    fn put(&self, value: Bytes, client: Client) -> DhtCommand<SimPeer> {
        let command = match self.attack {
            Attack::Eclipse { .. } => {
                let owner = Key::of(&value);
                DhtCommand::PutAt { key: SimPeer::CROWDED, value, owner }
            }
            Attack::Nobody | Attack::Drop | Attack::Misroute => DhtCommand::Put { value },
        };
        let options = Options { client: Some(client), ..Options::default() };
        DhtCommand::With { command: Box::new(command), options }
    }

    fn get(&self, key: Key) -> DhtCommand<SimPeer> {
        let wanted = match self.attack {
            Attack::Eclipse { .. } => Wanted::Values,
            Attack::Nobody | Attack::Drop | Attack::Misroute => Wanted::Immutable,
        };
        DhtCommand::Get { key, wanted }
    }

    /// What a node is an adversary by.
    fn malice(&self, peer: SimPeer) -> Option<Malice> {
        match self.attack {
            Attack::Drop => peer.0.is_multiple_of(5).then_some(Malice::Drops),
            Attack::Misroute => peer.0.is_multiple_of(5).then_some(Malice::Lies),
            Attack::Eclipse { .. } => (peer.0 != peer.index() as u32).then_some(Malice::Lies),
            Attack::Nobody => None,
        }
    }

    /// All nodes, in order of their numbers.
    fn members(&self) -> Vec<SimPeer> {
        let crowd = match self.attack {
            Attack::Eclipse { identities, scattered: true } => self.nodes..self.nodes + identities,
            Attack::Eclipse { identities, scattered: false } => {
                let first = SimPeer::FIRST_IN_SHARED_SUBNET.0;
                first..first + identities
            }
            Attack::Nobody | Attack::Drop | Attack::Misroute => 0..0,
        };
        (0..self.nodes).map(SimPeer).chain(crowd.map(SimPeer::crowding)).collect()
    }

    /// The network at rest; the numbers between those of its members are of nodes that are dead.
    fn build<M: Maintenance<Peer = SimPeer>>(
        &self,
        config: <Routed<M> as Simulated>::Config,
        named: &Named,
    ) -> World<M>
    where
        Routed<M>: Simulated<Msg = RoutedMsg<SimPeer, M::Msg>>,
    {
        let dht = at_rest(self.dht);
        let workers = |_| MemoryStore::default();
        let mut sim = World::<M>::with_workers(self.seed, network(), DiskModel::default(), workers);
        let members = self.members();
        let mut next = 0;
        for (overlay, &peer) in Routed::<M>::converged(&members, config).into_iter().zip(&members) {
            for _ in next..peer.index() {
                let dead = sim.spawn(|birth| {
                    let overlay = Routed::<M>::newcomer(birth.peer, Vec::new(), config);
                    Liar::honest(Replicated::new(overlay, dht))
                });
                sim.crash(dead);
            }
            next = peer.index() + 1;
            let node = Replicated::new(overlay, dht);
            let Some(malice) = self.malice(peer) else {
                sim.spawn(|_| Liar::honest(node));
                continue;
            };
            let named = named.clone();
            let liar = Liar::new(node, move |_, to, msg| {
                let accomplices = named.lock().map_or_else(|_| Vec::new(), |named| named.clone());
                instead(malice, (peer, to), msg, &accomplices, M::CONVERGES).into_iter().collect()
            });
            match self.attack {
                Attack::Eclipse { .. } => sim.spawn_crowding(|_| liar),
                Attack::Nobody | Attack::Drop | Attack::Misroute => sim.spawn(|_| liar),
            };
        }
        // What each node's worker has, nothing, is known.
        sim.run_for(Duration::from_secs(1));
        sim
    }
}

/// Whether a put is acknowledged, or a get comes to this value.
fn is_right(outcome: DhtOutcome<SimPeer>, value: &Bytes) -> bool {
    match outcome {
        DhtOutcome::Reported(outcome, _) => is_right(*outcome, value),
        DhtOutcome::Stored(stored) => stored.is_ok(),
        DhtOutcome::Value(got) => got.is_ok_and(|got| got == *value),
        DhtOutcome::Values(got) => got.is_ok_and(|got| got.contains(value)),
        DhtOutcome::Swept(_)
        | DhtOutcome::Withdrawn(_)
        | DhtOutcome::Signed(_)
        | DhtOutcome::Custom(_)
        | DhtOutcome::Providers(_)
        | DhtOutcome::Found(_) => false,
    }
}
