//! Many blocks in one write: changes gather in memory and go into the store behind all at once.
//!
//! A chain's first synchronisation changes the same coins again and again, and a disk syncs some thousand times a second
//! whatever it is given. As in Bitcoin Core (`CCoinsViewCache`, flushed with the tip that belongs to it), what blocks change
//! is held back until there is enough of it. As a flush takes the tip, bodies and undo data along, what the store
//! behind holds is always the chain at one of its blocks.

use super::{Batch, Store, StoreError};

/// A store before another one, that writes to it seldom.
///
/// What has not been flushed when the process dies is lost, the last blocks as a whole: the chain goes on from an earlier
/// one, and fetches them again. So a commit is not there to stay before [`flush`](Cached::flush), which whoever closes
/// the chain calls too.
///
/// ```
/// use p2p_ledger::{Batch, Cached, MemoryStore, Store};
///
/// let mut store = Cached::new(MemoryStore::default(), 1 << 20);
/// store.commit(Batch::from([(b"key".to_vec(), Some(b"value".to_vec()))])).unwrap();
/// assert_eq!(store.get(b"key").unwrap(), Some(b"value".to_vec()));
/// assert_eq!(store.behind().get(b"key").unwrap(), None);
/// store.flush().unwrap();
/// assert_eq!(store.behind().get(b"key").unwrap(), Some(b"value".to_vec()));
/// ```
#[derive(Clone, Debug)]
pub struct Cached<D> {
    behind: D,
    changes: Batch,
    bytes: usize,
    most: usize,
}

/// What an entry takes beside its bytes, about.
const ENTRY: usize = 96;

impl<D: Store> Cached<D> {
    /// Holds back about so many bytes of changes, or those of one commit, if that is more. A flush has a copy of them.
    pub fn new(behind: D, most: usize) -> Cached<D> {
        Cached { behind, changes: Batch::new(), bytes: 0, most }
    }

    /// The store behind, as it was at the last flush.
    pub fn behind(&self) -> &D {
        &self.behind
    }

    /// Writes all that is held back.
    ///
    /// # Errors
    /// The storage failed; it is held back still.
    pub fn flush(&mut self) -> Result<(), StoreError> {
        if self.changes.is_empty() {
            return Ok(());
        }
        // A copy, since it is needed again if this fails.
        self.behind.commit(self.changes.clone())?;
        (self.changes, self.bytes) = (Batch::new(), 0);
        Ok(())
    }
}

impl<D: Store> Store for Cached<D> {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        match self.changes.get(key) {
            Some(value) => Ok(value.clone()),
            None => self.behind.get(key),
        }
    }

    fn scan(&self, prefix: &[u8], each: &mut dyn FnMut(&[u8], &[u8])) -> Result<(), StoreError> {
        let held = self.changes.range(prefix.to_vec()..).take_while(|(key, _)| key.starts_with(prefix));
        let mut held = held.peekable();
        self.behind.scan(prefix, &mut |key, value| {
            while let Some((before, changed)) = held.next_if(|(before, _)| before.as_slice() < key) {
                changed.iter().for_each(|value| each(before, value));
            }
            match held.next_if(|(same, _)| same.as_slice() == key) {
                Some((_, changed)) => changed.iter().for_each(|value| each(key, value)),
                None => each(key, value),
            }
        })?;
        held.for_each(|(key, changed)| changed.iter().for_each(|value| each(key, value)));
        Ok(())
    }

    fn commit(&mut self, batch: Batch) -> Result<(), StoreError> {
        let size =
            |key: &[u8], value: &Option<Vec<u8>>| ENTRY + key.len() + value.as_ref().map_or(0, Vec::len);
        let new: usize = batch.iter().map(|(key, value)| size(key, value)).sum();
        if self.bytes + new > self.most {
            self.flush()?;
        }
        for (key, value) in batch {
            self.bytes += size(&key, &value);
            let len = key.len();
            if let Some(before) = self.changes.insert(key, value) {
                self.bytes -= ENTRY + len + before.map_or(0, |value| value.len());
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::MemoryStore;
    use proptest::prelude::*;

    proptest! {
        /// With whatever bound, it answers like a plain store; what is behind is as that was after one of the commits.
        #[test]
        fn it_answers_like_the_store_behind_it(
            batches in proptest::collection::vec(
                proptest::collection::btree_map(proptest::collection::vec(0u8..3, 1..3), proptest::option::of(any::<[u8; 2]>()), 0..6),
                1..12,
            ),
            most in 0usize..1500,
        ) {
            let (mut plain, mut cached) = (MemoryStore::default(), Cached::new(MemoryStore::default(), most));
            let all = |store: &dyn Store, prefix: &[u8]| {
                let mut found = Vec::new();
                store.scan(prefix, &mut |key, value| found.push((key.to_vec(), value.to_vec()))).unwrap();
                found
            };
            let mut past = vec![all(&plain, &[])];
            for batch in batches {
                let batch: Batch = batch.into_iter().map(|(key, value)| (key, value.map(|value| value.to_vec()))).collect();
                plain.commit(batch.clone()).unwrap();
                cached.commit(batch).unwrap();
                past.push(all(&plain, &[]));
                for prefix in [&[][..], &[1], &[1, 2]] {
                    prop_assert_eq!(all(&plain, prefix), all(&cached, prefix));
                    prop_assert_eq!(plain.get(prefix).unwrap(), cached.get(prefix).unwrap());
                }
                prop_assert!(past.contains(&all(cached.behind(), &[])));
                prop_assert!(cached.bytes <= most.max(6 * (ENTRY + 4)));
            }
            cached.flush().unwrap();
            prop_assert_eq!(all(&plain, &[]), all(cached.behind(), &[]));
        }
    }
}
