//! The tables of a whole ring, computed directly.

use std::sync::Arc;

use p2p_core::{Key, Keyed};

use super::{CHOICES, Chord, ChordConfig, ChordTable, Spot};

use crate::routed::Routed;

impl<P: Keyed> Chord<P> {
    /// The nodes of a ring at rest, each with the tables that it would have in the end, in order of `peers`.
    /// Sorting aside it takes time in proportion to nodes × fingers.
    pub fn converged(peers: &[P], config: ChordConfig) -> Vec<Chord<P>> {
        let mut ring: Vec<(Key, P)> = peers.iter().map(|peer| (peer.key(), *peer)).collect();
        ring.sort_unstable();
        let lookup = Arc::new(config.lookup);
        let config = Arc::new(config);
        let mut tables: Vec<(P, ChordTable<P>)> =
            (0..ring.len()).map(|i| (ring[i].1, ChordTable::in_ring(&ring, i, config.clone()))).collect();
        tables.sort_unstable_by_key(|(peer, _)| *peer);
        let find = |peer: &P| tables.binary_search_by_key(peer, |(peer, _)| *peer).ok();
        let order: Vec<usize> = peers.iter().filter_map(find).collect();
        let mut tables: Vec<Option<ChordTable<P>>> =
            tables.into_iter().map(|(_, table)| Some(table)).collect();
        let tables = order.into_iter().filter_map(|i| tables[i].take());
        tables.map(|table| Routed::new(table, lookup.clone())).collect()
    }
}

impl<P: Keyed> ChordTable<P> {
    /// The tables of node `i` of a sorted ring.
    fn in_ring(ring: &[(Key, P)], i: usize, config: Arc<ChordConfig>) -> ChordTable<P> {
        let table = ChordTable::new(ring[i].1, [], config);
        let key = table.key;
        let nth = |n: usize| {
            let (at, peer) = ring[(i + n) % ring.len()];
            Spot::at(&key.distance(&at), peer)
        };
        let others = ring.len() - 1;
        let successors: Vec<Spot<P>> = (1..=others.min(table.most())).map(nth).collect();
        let mut before = (1..=others.min(table.most())).map(|n| nth(ring.len() - n));
        let predecessor = before.next();
        let before = before.collect();
        let mut table = ChordTable { predecessor, before, ..table };
        if let Some(first) = successors.first() {
            let shortest = first.ilog2(&key).map_or(0, |exponent| exponent + 1);
            for exponent in (shortest..Key::<32>::BITS).rev() {
                let start = key.wrapping_add(&Key::power_of_two(exponent));
                let at = ring.partition_point(|(key, _)| *key < start) + ring.len() - i;
                let root = nth(at % ring.len());
                let mut choices = (at..at + CHOICES).map(|at| nth(at % ring.len()));
                let fits = |spot: &Spot<P>| {
                    !spot.is_before(&root, &key) && table.may_be_finger(table.fingers.len(), spot.peer)
                };
                let chosen = choices.find(fits).filter(|_| first.is_before(&root, &key));
                table.fingers.push(chosen);
            }
        }
        ChordTable { successors, ..table }
    }
}
