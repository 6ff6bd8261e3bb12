//! What attacks and crowds do to a hash table, and what each defence is worth: experiments by numbers, as
//! [`p2p_overlay::measure`] has them for lookups.
//!
//! In [`siege`] some nodes are adversaries, or crowd around one key; in [`flood`] somebody puts whatever there is room for; in
//! [`hot`] everybody wants the same.
//! Networks are at rest: their tables are computed, and nobody looks after them while the experiment lasts, so that what an
//! operation costs is what was sent for it. A defence is a configuration: of the overlay, or of the table.
//!
//! ```
//! use p2p_core::SimPeer;
//! use p2p_dht::measure::siege::{Attack, Siege};
//! use p2p_overlay::{KademliaConfig, KademliaTable};
//! use std::time::Duration;
//!
//! let at_rest = KademliaConfig { upkeep: Duration::ZERO, ..KademliaConfig::default() };
//! let siege = Siege { nodes: 100, values: 20, attack: Attack::Misroute, ..Siege::default() };
//! let outcome = siege.run::<KademliaTable<SimPeer>>(at_rest);
//! assert!(outcome.gets.share() > 0.5, "of values that were put {} were read", outcome.gets.share());
//! ```

mod adversary;
pub mod flood;
pub mod hot;
pub mod siege;

use std::collections::BTreeMap;
use std::time::Duration;

use p2p_core::sim::{Encoding, Histogram, Latency, Network, Sim, Stats};
use p2p_core::{OpId, Protocol, SimPeer, Time, Wire};

use crate::replicated::DhtConfig;
use crate::request::{DhtCommand, DhtOutcome};
use crate::store::{MemoryStore, StoreJob};

/// What operations of one kind came to, and what they cost.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// How many there were.
    pub asked: u32,
    /// How many came to what they should.
    pub right: u32,
    /// Messages that were sent meanwhile, in all.
    pub messages: u64,
    /// Their bytes.
    pub bytes: u64,
    /// How long each took, in milliseconds.
    pub took_ms: Histogram,
}

impl Tally {
    /// The part that came to what it should.
    pub fn share(&self) -> f64 {
        f64::from(self.right) / f64::from(self.asked.max(1))
    }

    /// Messages for each.
    pub fn messages_each(&self) -> f64 {
        self.messages as f64 / f64::from(self.asked.max(1))
    }

    /// Bytes for each.
    pub fn bytes_each(&self) -> f64 {
        self.bytes as f64 / f64::from(self.asked.max(1))
    }

    /// Adds what was sent between two looks.
    pub(crate) fn sent(&mut self, before: Stats, after: Stats) {
        self.messages += after.sent - before.sent;
        self.bytes += after.bytes - before.bytes;
    }
}

/// A message takes 50 ms, and is as long as it is.
fn network() -> Network {
    let latency = Latency::Constant(Duration::from_millis(50));
    Network { latency, encoding: Encoding::Measure, ..Network::default() }
}

/// As a table is configured, but that its nodes do not compare their copies while an experiment lasts.
fn at_rest(dht: DhtConfig) -> DhtConfig {
    DhtConfig { repair: 30 * dht.lifetime, ..dht }
}

/// How many operations are under way at once.
const WINDOW: usize = 64;

/// Gives commands, each to one of these nodes, a few at a time.
fn each<M>(
    sim: &mut Sim<M, MemoryStore<SimPeer>>,
    at: &[SimPeer],
    mut commands: impl Iterator<Item = DhtCommand<SimPeer>>,
    tally: &mut Tally,
    mut is_right: impl FnMut(DhtOutcome<SimPeer>) -> bool,
) where
    M: Protocol<
            Peer = SimPeer,
            Msg: Wire,
            Command = DhtCommand<SimPeer>,
            Outcome = DhtOutcome<SimPeer>,
            Job = StoreJob<SimPeer>,
        >,
{
    let before = sim.stats();
    let mut open: BTreeMap<OpId, Time> = BTreeMap::new();
    loop {
        while open.len() < WINDOW
            && let Some(command) = commands.next()
        {
            let peer = at[sim.workload_rng().index(at.len())];
            open.insert(sim.command(peer, command), sim.now());
            tally.asked += 1;
        }
        let until = sim.now() + Duration::from_secs(600);
        if open.is_empty() || !sim.run_to_outcome(until) {
            break;
        }
        for ended in sim.take_outcomes() {
            if let Some(began) = open.remove(&ended.op) {
                tally.took_ms.add((ended.at - began).as_millis() as u64);
                tally.right += u32::from(is_right(ended.outcome));
            }
        }
    }
    tally.sent(before, sim.stats());
}
