//! A map of a few entries: keys in one sorted list, values in another, so that looking for a key reads little memory
//! and going through all reads it in a row.

/// Entries by key, sorted. Inserting moves all after it: for as many as a node has neighbours.
#[derive(Clone, Debug)]
pub(crate) struct Few<K, V> {
    keys: Vec<K>,
    values: Vec<V>,
}

impl<K, V> Few<K, V> {
    pub(crate) const fn new() -> Few<K, V> {
        Few { keys: Vec::new(), values: Vec::new() }
    }

    pub(crate) fn len(&self) -> usize {
        self.keys.len()
    }

    /// The keys, sorted.
    pub(crate) fn keys(&self) -> &[K] {
        &self.keys
    }

    /// The values, in the order of their keys.
    pub(crate) fn values(&self) -> &[V] {
        &self.values
    }

    /// All entries, by key, to be changed.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (&K, &mut V)> {
        self.keys.iter().zip(&mut self.values)
    }

    /// All entries, by key.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.keys.iter().zip(&self.values)
    }
}

impl<K: Ord, V> Few<K, V> {
    pub(crate) fn contains_key(&self, key: &K) -> bool {
        self.keys.binary_search(key).is_ok()
    }

    pub(crate) fn get(&self, key: &K) -> Option<&V> {
        self.keys.binary_search(key).ok().map(|at| &self.values[at])
    }

    pub(crate) fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        self.keys.binary_search(key).ok().map(|at| &mut self.values[at])
    }

    /// Adds an entry; gives what was there under the same key.
    pub(crate) fn insert(&mut self, key: K, value: V) -> Option<V> {
        match self.keys.binary_search(&key) {
            Ok(at) => Some(std::mem::replace(&mut self.values[at], value)),
            Err(at) => {
                self.keys.insert(at, key);
                self.values.insert(at, value);
                None
            }
        }
    }

    /// The entry of a key; a new one, if there is none.
    pub(crate) fn get_or_insert_with(&mut self, key: K, new: impl FnOnce() -> V) -> &mut V {
        let at = self.keys.binary_search(&key).unwrap_or_else(|at| {
            self.keys.insert(at, key);
            self.values.insert(at, new());
            at
        });
        &mut self.values[at]
    }

    pub(crate) fn remove(&mut self, key: &K) -> Option<V> {
        let at = self.keys.binary_search(key).ok()?;
        self.keys.remove(at);
        Some(self.values.remove(at))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_a_map(steps in prop::collection::vec((0u8..20, any::<Option<u8>>()), 0..100)) {
            let (mut few, mut map) = (Few::new(), BTreeMap::new());
            for (key, value) in steps {
                match value {
                    Some(value) => prop_assert_eq!(few.insert(key, value), map.insert(key, value)),
                    None if key % 2 == 0 => prop_assert_eq!(few.remove(&key), map.remove(&key)),
                    None => prop_assert_eq!(few.get_or_insert_with(key, || 7), map.entry(key).or_insert(7)),
                }
                prop_assert_eq!((few.get(&key), few.len()), (map.get(&key), map.len()));
                prop_assert_eq!(few.get_mut(&key).is_some(), few.contains_key(&key));
            }
            prop_assert!(few.iter_mut().map(|(key, value)| (*key, *value)).eq(map.clone()));
            prop_assert!(few.iter().eq(&map) && few.keys().iter().eq(map.keys()) && few.values().iter().eq(map.values()));
        }
    }
}
