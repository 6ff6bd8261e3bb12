//! Everybody wants the same value: how often those who keep it have to give it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use p2p_core::sim::{DiskModel, Liar, Sim};
use p2p_core::{Key, SimPeer};
use p2p_overlay::measure::Simulated;

use super::{Tally, at_rest, each, network};
use crate::client::Client;
use crate::replicated::{DhtConfig, DhtMsg, Replicated, Wanted};
use crate::request::{DhtCommand, DhtOutcome, Options};
use crate::store::MemoryStore;

/// Reads of one value.
#[derive(Clone, Copy, Debug)]
pub struct Hot {
    /// How many nodes. 1,000.
    pub nodes: u32,
    /// How often it is read, each time at a node by chance. 2,000.
    pub reads: u32,
    /// How long the value is, in bytes. 1,024.
    pub bytes: usize,
    /// The seed of everything. 1.
    pub seed: u64,
    /// How the table is configured: [`DhtConfig::cache_bytes`] above all.
    pub dht: DhtConfig,
}

impl Default for Hot {
    fn default() -> Hot {
        Hot { nodes: 1000, reads: 2000, bytes: 1024, seed: 1, dht: DhtConfig::default() }
    }
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct Served {
    /// The gets.
    pub gets: Tally,
    /// How often each of those who keep the value has given it, the most often first.
    pub keepers: Vec<u64>,
    /// How often others have passed it on, or have given it from what they had cached.
    pub others: u64,
}

impl Served {
    /// How often those who keep the value have given it, together, for each time that it was read.
    pub fn load(&self) -> f64 {
        self.keepers.iter().sum::<u64>() as f64 / f64::from(self.gets.asked.max(1))
    }
}

type World<O> = Sim<Liar<Replicated<O>>, MemoryStore<SimPeer>>;

impl Hot {
    /// Builds the network, stores the value and reads it. The overlay's configuration should be of a network at rest.
    pub fn run<O: Simulated>(&self, config: O::Config) -> Served {
        let dht = at_rest(self.dht);
        let workers = |_| MemoryStore::default();
        let mut sim = World::<O>::with_workers(self.seed, network(), DiskModel::default(), workers);
        let members: Vec<SimPeer> = (0..self.nodes).map(SimPeer).collect();
        let mut given: Vec<Arc<AtomicU64>> = Vec::new();
        for overlay in O::converged(&members, config) {
            let count = Arc::new(AtomicU64::new(0));
            given.push(count.clone());
            // Nobody lies: what each gives is counted.
            let counted = Liar::new(Replicated::new(overlay, dht), move |_, to, msg| {
                let gives = match &msg {
                    DhtMsg::Loaded { records, .. } => !records.is_empty(),
                    DhtMsg::Fetched { found, .. } => found.is_some(),
                    _ => false,
                };
                count.fetch_add(gives.into(), Ordering::Relaxed);
                vec![(to, msg)]
            });
            sim.spawn(|_| counted);
        }
        sim.run_for(Duration::from_secs(1));

        let value = Bytes::from(vec![7; self.bytes]);
        let key = Key::of(&value);
        let client = Client::at(SimPeer(u32::MAX), dht.lifetime);
        let options = Options { client: Some(client), ..Options::default() };
        let put = DhtCommand::With { command: Box::new(DhtCommand::Put { value }), options };
        let stored = |outcome| match outcome {
            DhtOutcome::Reported(outcome, _) => matches!(*outcome, DhtOutcome::Stored(Ok(_))),
            _ => false,
        };
        each(&mut sim, &members, std::iter::once(put), &mut Tally::default(), stored);

        let mut served = Served::default();
        let get = || DhtCommand::Get { key, wanted: Wanted::Immutable };
        let reads = (0..self.reads).map(|_| get());
        each(&mut sim, &members, reads, &mut served.gets, |outcome| {
            matches!(outcome, DhtOutcome::Value(Ok(_)))
        });
        for (&peer, given) in members.iter().zip(given) {
            let given = given.load(Ordering::Relaxed);
            match sim.node(peer).is_some_and(|node| node.machine().held().len() > 0) {
                true => served.keepers.push(given),
                false => served.others += given,
            }
        }
        served.keepers.sort_unstable_by(|a, b| b.cmp(a));
        served
    }
}
