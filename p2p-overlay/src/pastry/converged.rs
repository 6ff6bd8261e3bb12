//! The tables of a whole network, computed directly.

use std::sync::Arc;

use p2p_core::{Key, Keyed, Rng, Time};

use super::leaves::{Side, Spot};
use super::{Lease, Pastry, PastryConfig, PastryTable};

use crate::routed::Routed;

/// How often chance is asked for somebody in one place.
const CHOICES: usize = 8;

impl<P: Keyed> Pastry<P> {
    /// The nodes of a network at rest, in order of `peers`: each knows its leaves, and for each place of its routing
    /// table a peer that chance has chosen, if there is one.
    pub fn converged(peers: &[P], config: PastryConfig) -> Vec<Pastry<P>> {
        let mut ring: Vec<(Key, P)> = peers.iter().map(|peer| (peer.key(), *peer)).collect();
        ring.sort_unstable();
        let lookup = Arc::new(config.lookup);
        let config = Arc::new(config);
        let table = |peer: &P| PastryTable::in_ring(&ring, *peer, config.clone());
        peers.iter().map(|peer| Routed::new(table(peer), lookup.clone())).collect()
    }
}

impl<P: Keyed> PastryTable<P> {
    /// The tables of one of some sorted nodes.
    fn in_ring(ring: &[(Key, P)], me: P, config: Arc<PastryConfig>) -> PastryTable<P> {
        let mut table = PastryTable::new(me, [], config);
        let own = table.key;
        let i = ring.partition_point(|(key, _)| *key < own);
        let others = (ring.len() - 1).min(table.config.leaves.clamp(2, super::MAX_LEAVES) / 2);
        let spot = |at: usize| {
            let (key, peer) = ring[at % ring.len()];
            Spot::at(&own.distance(&key), peer)
        };
        let ahead = (1..=others).map(|n| spot(i + n)).collect();
        let behind = (1..=others).map(|n| spot(i + ring.len() - n)).collect();
        table.leaves = table.leaves.with(ahead, behind);
        let until = Time::ZERO + table.config.lease;
        table.known_until = until;
        for side in [Side::Behind, Side::Ahead] {
            let neighbour = table.leaves.first(side).map(|peer| (peer, until));
            table.leases[side as usize] = Lease { from: neighbour, to: neighbour };
        }
        table.fill_rows(ring);
        table
    }

    /// Down the tree: of those that share ever more digits, one for each other value of the next.
    fn fill_rows(&mut self, ring: &[(Key, P)]) {
        let own = self.key;
        let seed = own.as_bytes()[..8].iter().fold(0, |seed, byte| seed << 8 | u64::from(*byte));
        let mut rng = Rng::new(seed);
        let bits = usize::from(self.config.bits.clamp(1, 4));
        let mut subtree = ring;
        for row in 0.. {
            if subtree.len() <= 1 {
                return;
            }
            let mut rest = subtree;
            while let Some((first, _)) = rest.first() {
                let digit = first.digit(row, bits);
                let (same, others) =
                    rest.split_at(rest.partition_point(|(key, _)| key.digit(row, bits) <= digit));
                rest = others;
                match digit == own.digit(row, bits) {
                    true => subtree = same,
                    false => {
                        // Some may be too many of their subnet.
                        for _ in 0..CHOICES {
                            let (key, peer) = same[rng.index(same.len())];
                            self.rows.offer(&key, peer, None);
                            if !self.rows.misses(&key) {
                                break;
                            }
                        }
                    }
                }
            }
        }
    }
}
