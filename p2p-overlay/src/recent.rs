//! A bounded memory of what has come lately: of what was seen, or which way something came.

use std::collections::BTreeMap;

/// The newest entries of an endless stream: the last half of its bound at least, all of it at most. An entry is
/// forgotten with the others of its time, so that a flood of new ones costs no search for the oldest.
#[derive(Clone, Debug)]
pub(crate) struct Recent<K, V> {
    half: usize,
    new: BTreeMap<K, V>,
    old: BTreeMap<K, V>,
}

impl<K: Ord, V> Recent<K, V> {
    /// An empty one of at most so many entries.
    pub(crate) const fn new(most: usize) -> Recent<K, V> {
        Recent { half: most.div_ceil(2), new: BTreeMap::new(), old: BTreeMap::new() }
    }

    /// Notes an entry if there is none of this key; says whether there was none.
    pub(crate) fn insert(&mut self, key: K, value: V) -> bool {
        if self.get(&key).is_some() {
            return false;
        }
        if self.new.len() >= self.half {
            self.old = std::mem::take(&mut self.new);
        }
        self.new.insert(key, value);
        true
    }

    /// Notes an entry, in the place of what is noted of its key.
    pub(crate) fn put(&mut self, key: K, value: V) {
        self.remove(&key);
        self.insert(key, value);
    }

    /// What is noted of a key.
    pub(crate) fn get(&self, key: &K) -> Option<&V> {
        self.new.get(key).or_else(|| self.old.get(key))
    }

    /// The same, to be changed.
    pub(crate) fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        self.new.get_mut(key).or_else(|| self.old.get_mut(key))
    }

    /// The key of an entry of which this holds.
    pub(crate) fn find(&self, is_it: impl Fn(&K, &V) -> bool) -> Option<&K> {
        let all = self.new.iter().chain(&self.old);
        all.into_iter().find(|(key, value)| is_it(key, value)).map(|(key, _)| key)
    }

    /// Forgets a key.
    pub(crate) fn remove(&mut self, key: &K) -> Option<V> {
        self.new.remove(key).or_else(|| self.old.remove(key))
    }
}

/// Two such memories: what a node keeps for its own, and what others make it keep, who so displace nothing of its own.
#[derive(Clone, Debug)]
pub(crate) struct Apart<K, V> {
    own: Recent<K, V>,
    others: Recent<K, V>,
}

impl<K: Ord, V> Apart<K, V> {
    /// An empty one of at most so many entries of others, and a quarter as many of its own.
    pub(crate) const fn new(most: usize) -> Apart<K, V> {
        Apart { own: Recent::new(most.div_ceil(4)), others: Recent::new(most) }
    }

    /// Notes an entry of its own.
    pub(crate) fn insert_own(&mut self, key: K, value: V) {
        self.own.put(key, value);
    }

    /// Notes an entry of others.
    pub(crate) fn insert(&mut self, key: K, value: V) {
        self.others.insert(key, value);
    }

    /// What is noted of a key.
    pub(crate) fn get(&self, key: &K) -> Option<&V> {
        self.own.get(key).or_else(|| self.others.get(key))
    }

    /// The same, to be changed.
    pub(crate) fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        match self.own.get_mut(key) {
            Some(value) => Some(value),
            None => self.others.get_mut(key),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_newest_half_is_always_there(keys in prop::collection::vec(0u8..200, 0..300), most in 1usize..40) {
            let mut recent = Recent::new(most);
            let mut inserted = Vec::new();
            for key in keys {
                if recent.insert(key, ()) {
                    inserted.push(key);
                }
                prop_assert!(recent.new.len() + recent.old.len() <= 2 * most.div_ceil(2));
                let newest = inserted.iter().rev().take(most / 2);
                prop_assert!(newest.into_iter().all(|key| recent.get(key).is_some()));
            }
        }
    }
}
