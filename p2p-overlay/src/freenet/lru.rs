//! What was used least lately goes first (§3.4): the order that the store and the routing table share.

use std::collections::BTreeMap;

/// A map that knows which of its entries was used least lately. It has no bound of its own: who keeps one removes the
/// oldest.
#[derive(Debug)]
pub(super) struct Lru<K, V> {
    entries: BTreeMap<K, (V, u64)>,
    order: BTreeMap<u64, K>,
    tick: u64,
}

impl<K: Ord + Copy, V> Lru<K, V> {
    pub(super) const fn new() -> Lru<K, V> {
        Lru { entries: BTreeMap::new(), order: BTreeMap::new(), tick: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn entries(&self) -> &BTreeMap<K, (V, u64)> {
        &self.entries
    }

    /// Adds an entry as the one used last; gives back what was there.
    pub(super) fn insert(&mut self, key: K, value: V) -> Option<V> {
        let old = self.remove(&key);
        self.tick += 1;
        self.order.insert(self.tick, key);
        self.entries.insert(key, (value, self.tick));
        old
    }

    /// The entry of a key, which is now the one used last.
    pub(super) fn touch(&mut self, key: &K) -> Option<&V> {
        let (value, used) = self.entries.get_mut(key)?;
        self.order.remove(used);
        self.tick += 1;
        *used = self.tick;
        self.order.insert(self.tick, *key);
        Some(value)
    }

    pub(super) fn remove(&mut self, key: &K) -> Option<V> {
        let (value, used) = self.entries.remove(key)?;
        self.order.remove(&used);
        Some(value)
    }

    /// All values, to be changed: nothing of that counts as a use.
    pub(super) fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.entries.values_mut().map(|(value, _)| value)
    }

    /// Of those that are such, the one used least lately.
    pub(super) fn oldest(&self, is_it: impl Fn(&V) -> bool) -> Option<K> {
        let by_use = self.order.values();
        by_use.copied().find(|key| self.entries.get(key).is_some_and(|(value, _)| is_it(value)))
    }

    /// Takes out the one used least lately.
    pub(super) fn pop_oldest(&mut self) -> Option<(K, V)> {
        let (_, key) = self.order.pop_first()?;
        self.entries.remove(&key).map(|(value, _)| (key, value))
    }

    pub(super) fn retain(&mut self, keep: impl Fn(&V) -> bool) {
        self.entries.retain(|_, (value, _)| keep(value));
        let entries = &self.entries;
        self.order.retain(|_, key| entries.contains_key(key));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_one_used_least_lately_goes_first() {
        let mut lru = Lru::new();
        for key in 1..=4 {
            lru.insert(key, key * 10);
        }
        assert_eq!(lru.touch(&1), Some(&10));
        assert_eq!(lru.insert(2, 21), Some(20));
        lru.retain(|value| *value != 30);
        let order: Vec<_> = std::iter::from_fn(|| lru.pop_oldest()).collect();
        assert_eq!(order, [(4, 40), (1, 10), (2, 21)]);
    }
}
