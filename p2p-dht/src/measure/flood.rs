//! Somebody puts whatever there is room for.
//!
//! Honest nodes put some records; then the flood comes, from a few nodes each of which has a subnet of its own; then honest
//! nodes put some more, and all that honest nodes have put is read.

use std::time::Duration;

use bytes::Bytes;
use p2p_core::sim::{DiskModel, Sim};
use p2p_core::{Key, SimPeer};
use p2p_overlay::measure::Simulated;

use super::{Tally, at_rest, each, network};
use crate::client::Client;
use crate::replicated::{Allocation, DhtConfig, Replicated, Wanted};
use crate::request::{DhtCommand, DhtOutcome, Options};
use crate::store::MemoryStore;

/// A flood of puts.
#[derive(Clone, Copy, Debug)]
pub struct Flood {
    /// How many nodes. 1,000; at most 16,384.
    pub nodes: u32,
    /// For how many records each has room. 32.
    pub room: usize,
    /// How many nodes flood. 1.
    pub flooders: u32,
    /// How many copies they put for each that there is room for. 2.
    pub flood: f64,
    /// How many records honest nodes put before the flood, and as many after it. 100.
    pub puts: u32,
    /// The seed of everything. 1.
    pub seed: u64,
    /// How the table is configured, but for its room.
    pub dht: DhtConfig,
}

impl Default for Flood {
    fn default() -> Flood {
        let dht = DhtConfig::default();
        Flood { nodes: 1000, room: 32, flooders: 1, flood: 2.0, puts: 100, seed: 1, dht }
    }
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct Flooded {
    /// What honest nodes put before the flood: acknowledged.
    pub before: Tally,
    /// The flood.
    pub flood: Tally,
    /// What honest nodes put after it.
    pub after: Tally,
    /// The gets of what was put before it.
    pub kept: Tally,
    /// The gets of what was put after it.
    pub read: Tally,
    /// The part of all room that the flood took.
    pub taken: f64,
}

type World<O> = Sim<Replicated<O>, MemoryStore<SimPeer>>;

impl Flood {
    /// Builds the network and floods it. The overlay's configuration should be of a network at rest.
    pub fn run<O: Simulated>(&self, config: O::Config) -> Flooded {
        let dht = DhtConfig { max_records: self.room, ..at_rest(self.dht) };
        let workers = |_| MemoryStore::default();
        let mut sim = World::<O>::with_workers(self.seed, network(), DiskModel::default(), workers);
        let members: Vec<SimPeer> = (0..self.nodes).map(SimPeer).collect();
        // Whoever floods does not keep to what it could keep itself.
        let boundless =
            DhtConfig { max_records: usize::MAX, allocation: Allocation::Threshold(u32::MAX), ..dht };
        for (overlay, peer) in O::converged(&members, config).into_iter().zip(&members) {
            let dht = if peer.0 < self.flooders { boundless } else { dht };
            sim.spawn(|_| Replicated::new(overlay, dht));
        }
        sim.run_for(Duration::from_secs(1));

        let (flooders, honest) = members.split_at(self.flooders as usize);
        let value = |what: &str, i: u64| Bytes::from(format!("{what} {i}"));
        let flood = f64::from(self.nodes) * self.room as f64 * self.flood / f64::from(dht.replicas);
        let mut flooded = Flooded::default();
        let mut copies = 0;
        let puts = |what: &'static str, n: u64| (0..n).map(move |i| value(what, i));
        put(&mut sim, honest, puts("before", self.puts.into()), &mut flooded.before, &mut 0);
        put(&mut sim, flooders, puts("flood", flood as u64), &mut flooded.flood, &mut copies);
        put(&mut sim, honest, puts("after", self.puts.into()), &mut flooded.after, &mut 0);
        get(&mut sim, honest, puts("before", self.puts.into()), &mut flooded.kept);
        get(&mut sim, honest, puts("after", self.puts.into()), &mut flooded.read);
        flooded.taken = copies as f64 / (f64::from(self.nodes) * self.room as f64);
        flooded
    }
}

/// Puts values, each at one of these nodes; adds up how many copies there are of those that are acknowledged.
fn put<O: Simulated>(
    sim: &mut World<O>,
    at: &[SimPeer],
    values: impl Iterator<Item = Bytes>,
    tally: &mut Tally,
    copies: &mut usize,
) {
    // For a client: what is a node's own that would publish again, and keep beside its room for others.
    let lifetime = DhtConfig::default().lifetime;
    let command = |value: Bytes| {
        let options = Options { client: Some(Client::at(SimPeer(u32::MAX), lifetime)), ..Options::default() };
        DhtCommand::With { command: Box::new(DhtCommand::Put { value }), options }
    };
    each(sim, at, values.map(command), tally, |outcome| match outcome {
        DhtOutcome::Reported(outcome, _) => match *outcome {
            DhtOutcome::Stored(Ok(stored)) => {
                *copies += stored.copies;
                true
            }
            _ => false,
        },
        _ => false,
    });
}

/// Reads values, each at one of these nodes.
fn get<O: Simulated>(
    sim: &mut World<O>,
    at: &[SimPeer],
    values: impl Iterator<Item = Bytes>,
    tally: &mut Tally,
) {
    let command = |value: Bytes| DhtCommand::Get { key: Key::of(&value), wanted: Wanted::Immutable };
    each(sim, at, values.map(command), tally, |outcome| matches!(outcome, DhtOutcome::Value(Ok(_))));
}
