//! When the last ordered message between two peers arrives, so that the next does not overtake it.
//!
//! Only messages that are still under way matter, and a node seldom has any under way to more than two others: those
//! are kept with the node, whose memory is at hand when it sends. The rest go into one map for all nodes.

#![expect(clippy::disallowed_types, reason = "no adversary fills this map, and its order is never seen")]

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use super::SimPeer;
use crate::rng::mix;

/// The last arrivals of what one node has sent.
#[derive(Debug, Default)]
pub(super) struct Outbound {
    at: [u64; 2],
    to: [u32; 2],
    /// Until when there may be more in [`Arrivals`].
    more_until: u64,
}

/// The last arrivals of nodes that send to many. Those in the past are forgotten whenever the map has doubled.
#[derive(Debug, Default)]
pub(super) struct Arrivals {
    last: HashMap<u64, u64, BuildHasherDefault<Mixer>>,
    prune_at: usize,
}

impl Arrivals {
    /// When a message that could arrive at `at` does, not before the ones sent earlier.
    pub(super) fn next(&mut self, now: u64, from: SimPeer, out: &mut Outbound, to: SimPeer, at: u64) -> u64 {
        let known = (0..2).find(|&i| out.to[i] == to.0 && out.at[i] > now);
        if known.is_none() && out.more_until > now && self.last.contains_key(&pair(from, to)) {
            return self.next_of_many(now, from, out, to, at);
        }
        let Some(place) = known.or_else(|| (0..2).find(|&i| out.at[i] <= now)) else {
            return self.next_of_many(now, from, out, to, at);
        };
        out.to[place] = to.0;
        out.at[place] = at.max(out.at[place]);
        out.at[place]
    }

    fn next_of_many(&mut self, now: u64, from: SimPeer, out: &mut Outbound, to: SimPeer, at: u64) -> u64 {
        let last = self.last.entry(pair(from, to)).or_default();
        *last = at.max(*last);
        let at = *last;
        out.more_until = at.max(out.more_until);
        if self.last.len() > self.prune_at {
            self.last.retain(|_, last| *last > now);
            self.prune_at = (self.last.len() * 2).max(1 << 12);
        }
        at
    }
}

fn pair(from: SimPeer, to: SimPeer) -> u64 {
    u64::from(from.0) << 32 | u64::from(to.0)
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
