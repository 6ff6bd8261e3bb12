//! The store and the routing table of a node (§3.4): both bounded, and both forget what was used least lately.

use p2p_core::{Key, Peer};

use super::block::FreenetBlock;
use super::lru::Lru;

/// What a block counts for beside its data, in bytes: its key and its places in the maps.
pub(crate) const BLOCK_OVERHEAD: usize = 128;

/// Blocks under their keys; so many bytes at most.
#[derive(Debug)]
pub(super) struct Store {
    blocks: Lru<Key, FreenetBlock>,
    bytes: usize,
    most: usize,
}

fn size(block: &FreenetBlock) -> usize {
    block.data().len() + BLOCK_OVERHEAD
}

impl Store {
    pub(super) const fn new(most: usize) -> Store {
        Store { blocks: Lru::new(), bytes: 0, most }
    }

    /// Keeps a block that has been checked, unless there is one under its key: what came first stays.
    pub(super) fn insert(&mut self, key: Key, block: FreenetBlock) {
        if self.blocks.touch(&key).is_some() {
            return;
        }
        self.bytes += size(&block);
        self.blocks.insert(key, block);
        while self.bytes > self.most {
            let Some((_, old)) = self.blocks.pop_oldest() else { break };
            self.bytes -= size(&old);
        }
    }

    /// The block of a key, which is now the one used last.
    pub(super) fn get(&mut self, key: &Key) -> Option<&FreenetBlock> {
        self.blocks.touch(key)
    }

    pub(super) fn holds(&self, key: &Key) -> bool {
        self.blocks.entries().contains_key(key)
    }

    pub(super) fn len(&self) -> usize {
        self.blocks.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

/// Who has had which key; so many entries at most. One peer may stand under several. Who is known by hearsay only takes
/// nobody's place under a key, and has a quarter of a full table at most: whoever names many displaces no more.
#[derive(Debug)]
pub(super) struct Routes<P> {
    entries: Lru<Key, Route<P>>,
    /// How many of them are hearsay.
    hearsay: usize,
    most: usize,
}

#[derive(Clone, Copy, Debug)]
struct Route<P> {
    peer: P,
    /// Whether it has said something itself.
    heard: bool,
}

impl<P: Peer> Routes<P> {
    pub(super) const fn new(most: usize) -> Routes<P> {
        Routes { entries: Lru::new(), hearsay: 0, most }
    }

    pub(super) fn insert(&mut self, key: Key, peer: P, heard: bool) {
        let known = self.entries.entries().get(&key).map(|(route, _)| *route);
        if known.is_some_and(|known| known.heard && !heard) {
            return;
        }
        self.hearsay -= usize::from(known.is_some_and(|known| !known.heard));
        self.hearsay += usize::from(!heard);
        self.entries.insert(key, Route { peer, heard });
        while self.entries.len() > self.most {
            let hearsay = self.hearsay * 4 > self.most;
            let Some(oldest) = self.entries.oldest(|route| !(hearsay && route.heard)) else { break };
            let route = self.entries.remove(&oldest);
            self.hearsay -= usize::from(route.is_some_and(|route| !route.heard));
        }
    }

    /// Somebody has said something for the first time.
    pub(super) fn heard(&mut self, peer: P) {
        for route in self.entries.values_mut().filter(|route| route.peer == peer && !route.heard) {
            route.heard = true;
            self.hearsay -= 1;
        }
    }

    pub(super) fn touch(&mut self, key: &Key) {
        self.entries.touch(key);
    }

    /// Somebody is gone, or lies.
    pub(super) fn forget(&mut self, peer: P) {
        self.entries.retain(|route| route.peer != peer);
        self.hearsay = self.entries.values_mut().filter(|route| !route.heard).count();
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (Key, P)> {
        self.entries.entries().iter().map(|(key, (route, _))| (*key, route.peer))
    }

    /// All entries, those with the closest keys first, by the shorter way around the ring.
    pub(super) fn nearest(&self, key: Key) -> impl Iterator<Item = (Key, P)> {
        let entries = self.entries.entries();
        let mut above = entries.range(key..).chain(entries.range(..key)).peekable();
        let mut below = entries.range(..key).rev().chain(entries.range(key..).rev()).peekable();
        // Either side goes all the way around; what is close on one is far on the other, so the first so many are all.
        let sorted = std::iter::from_fn(move || {
            let up = above.peek().map(|(other, _)| key.distance(other))?;
            let down = below.peek().map(|(other, _)| other.distance(&key))?;
            if up <= down { above.next() } else { below.next() }
        });
        sorted.take(entries.len()).map(|(key, (route, _))| (*key, route.peer))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn block(number: u8, len: usize) -> FreenetBlock {
        FreenetBlock::content(vec![number; len]).unwrap()
    }

    #[test]
    fn the_store_keeps_to_its_bytes_and_to_what_was_used() {
        let mut store = Store::new(3 * (100 + BLOCK_OVERHEAD));
        let keys: Vec<Key> = (0..3).map(|i| block(i, 100).key()).collect();
        (0..3).for_each(|i| store.insert(keys[usize::from(i)], block(i, 100)));
        assert!(store.get(&keys[0]).is_some());
        store.insert(block(9, 100).key(), block(9, 100));
        assert_eq!(keys.iter().map(|key| store.holds(key)).collect::<Vec<_>>(), [true, false, true]);
        store.insert(block(8, 1000).key(), block(8, 1000));
        assert_eq!((store.len(), store.bytes()), (0, 0), "what does not fit at all is not kept");
    }

    proptest! {
        #[test]
        fn routes_come_in_the_order_of_closeness(keys in prop::collection::btree_set(any::<[u8; 32]>(), 0..40), key: [u8; 32]) {
            let key = Key::new(key);
            let mut routes = Routes::new(100);
            let mut expected: Vec<Key> = keys.into_iter().map(Key::new).collect();
            for other in &expected {
                routes.insert(*other, 7u32, true);
            }
            expected.sort_by_key(|other| other.ring_gap(&key));
            let got: Vec<Key> = routes.nearest(key).map(|(key, _)| key).collect();
            prop_assert_eq!(got, expected);
        }
    }
}
