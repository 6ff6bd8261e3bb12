//! When the last ordered message between two peers arrives, so that the next does not overtake it.

#![expect(clippy::disallowed_types, reason = "no adversary fills this map, and its order is never seen")]

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use super::SimPeer;
use crate::rng::mix;

/// The last arrivals. Those in the past are forgotten whenever the map has doubled.
#[derive(Debug, Default)]
pub(super) struct Arrivals {
    last: HashMap<u64, u64, BuildHasherDefault<Mixer>>,
    prune_at: usize,
}

impl Arrivals {
    /// When a message that could arrive at `at` does, not before the ones sent earlier.
    pub(super) fn next(&mut self, now: u64, from: SimPeer, to: SimPeer, at: u64) -> u64 {
        let last = self.last.entry(u64::from(from.0) << 32 | u64::from(to.0)).or_default();
        *last = at.max(*last);
        let at = *last;
        if self.last.len() > self.prune_at {
            self.last.retain(|_, last| *last > now);
            self.prune_at = (self.last.len() * 2).max(1 << 12);
        }
        at
    }
}

#[derive(Debug, Default)]
struct Mixer(u64);

impl Hasher for Mixer {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }
    fn write_u64(&mut self, number: u64) {
        self.0 = mix(self.0 ^ number);
    }
}
