//! Where a chain keeps its state, and how a block changes it: all of it or nothing.
//!
//! Every state machine keeps its state as values under keys. It sees them through a [`View`], which holds back what is
//! changed and remembers what was there before. So undoing a block is the same for every machine; a reorganisation
//! of any depth is one view over the store; and what it comes to, the new tip among it, goes into the store as one
//! [`Batch`], which a store takes in whole or not at all.

mod cached;
#[cfg(feature = "redb")]
mod redb;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use crate::codec::{Decode, Encode, InvalidEncoding, Reader, put_blob, put_count};

pub use cached::Cached;
#[cfg(feature = "redb")]
pub use redb::RedbStore;

/// What becomes of a key: a new value, or none.
pub type Batch = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// Keeps values under keys.
pub trait Store {
    /// A value.
    ///
    /// # Errors
    /// The storage failed.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;

    /// Hands over every value whose key begins so, in the order of the keys.
    ///
    /// # Errors
    /// The storage failed.
    fn scan(&self, prefix: &[u8], each: &mut dyn FnMut(&[u8], &[u8])) -> Result<(), StoreError>;

    /// Does all of this, or nothing; when it says so it is there to stay, but for a [`Cached`] one.
    ///
    /// # Errors
    /// The storage failed, and nothing has been done.
    fn commit(&mut self, batch: Batch) -> Result<(), StoreError>;
}

/// The storage failed: no block is to blame.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the storage failed: {0}")]
pub struct StoreError(pub String);

/// Keeps everything in memory: it is gone with the process.
#[derive(Clone, Debug, Default)]
pub struct MemoryStore(BTreeMap<Vec<u8>, Vec<u8>>);

impl MemoryStore {
    /// Everything that is kept, by key.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.0.iter().map(|(key, value)| (key.as_slice(), value.as_slice()))
    }
}

impl Store for MemoryStore {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.0.get(key).cloned())
    }

    fn scan(&self, prefix: &[u8], each: &mut dyn FnMut(&[u8], &[u8])) -> Result<(), StoreError> {
        let from = self.0.range(prefix.to_vec()..);
        let those = from.take_while(|(key, _)| key.starts_with(prefix));
        those.for_each(|(key, value)| each(key, value));
        Ok(())
    }

    fn commit(&mut self, batch: Batch) -> Result<(), StoreError> {
        for (key, value) in batch {
            match value {
                Some(value) => drop(self.0.insert(key, value)),
                None => drop(self.0.remove(&key)),
            }
        }
        Ok(())
    }
}

/// A store with changes that are held back.
pub struct View<'a> {
    store: &'a dyn Store,
    changes: BTreeMap<Vec<u8>, Change>,
    /// What was there before the changes since [`View::take_undo`].
    before: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    /// How often that was.
    round: u64,
    failure: RefCell<Option<StoreError>>,
}

/// What has become of a key.
struct Change {
    value: Option<Vec<u8>>,
    /// In which round what was there before is noted.
    round: u64,
}

impl<'a> View<'a> {
    /// A store as it is.
    pub fn new(store: &'a dyn Store) -> View<'a> {
        View { store, changes: BTreeMap::new(), before: Vec::new(), round: 0, failure: RefCell::default() }
    }

    /// A value as the changes leave it. If the store fails it is as if there were none, and all that follows from it is
    /// void: see [`failure`](View::failure).
    pub fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        match self.changes.get(key) {
            Some(change) => change.value.clone(),
            None => kept(self.store, &self.failure, key),
        }
    }

    /// A value that is decoded; `None` too, if it is not what it should be.
    pub fn read<T: Decode>(&self, key: &[u8]) -> Option<T> {
        T::from_bytes(&self.get(key)?).ok()
    }

    /// Sets a value; says whether there was one before. No key of a state machine begins with a zero byte: those are the
    /// chain's own.
    pub fn put(&mut self, key: Vec<u8>, value: Vec<u8>) -> bool {
        self.set(key, Some(value))
    }

    /// Removes a value; says whether there was one.
    pub fn remove(&mut self, key: Vec<u8>) -> bool {
        self.set(key, None)
    }

    fn set(&mut self, key: Vec<u8>, value: Option<Vec<u8>>) -> bool {
        assert!(key.first() != Some(&0), "a state machine's key begins with a zero byte");
        let round = self.round;
        match self.changes.entry(key) {
            Entry::Occupied(mut there) => {
                let Change { value: old, round: noted } = there.insert(Change { value, round });
                let existed = old.is_some();
                if noted != round {
                    self.before.push((there.key().clone(), old));
                }
                existed
            }
            Entry::Vacant(free) => {
                let old = kept(self.store, &self.failure, free.key());
                let existed = old.is_some();
                self.before.push((free.key().clone(), old));
                free.insert(Change { value, round });
                existed
            }
        }
    }

    /// What the store failed with, if it did: then nothing that the view has said counts.
    pub fn failure(&self) -> Option<StoreError> {
        self.failure.borrow().clone()
    }

    /// What undoes the changes made since this was asked before.
    pub(crate) fn take_undo(&mut self) -> Undo {
        self.round += 1;
        Undo(std::mem::take(&mut self.before))
    }

    /// Undoes changes.
    pub(crate) fn undo(&mut self, undo: Undo) {
        // Of an earlier round: what comes next notes it as what was there before.
        let round = self.round;
        self.round += 1;
        self.changes.extend(undo.0.into_iter().map(|(key, value)| (key, Change { value, round })));
    }

    /// All changes.
    pub(crate) fn into_changes(self) -> Batch {
        self.changes.into_iter().map(|(key, change)| (key, change.value)).collect()
    }
}

/// What the store has, if it does not fail.
fn kept(store: &dyn Store, failure: &RefCell<Option<StoreError>>, key: &[u8]) -> Option<Vec<u8>> {
    store.get(key).unwrap_or_else(|error| {
        failure.borrow_mut().get_or_insert(error);
        None
    })
}

impl std::fmt::Debug for View<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "View({} changes)", self.changes.len())
    }
}

/// What a block's changes replaced.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Undo(Vec<(Vec<u8>, Option<Vec<u8>>)>);

impl Encode for Undo {
    fn encode(&self, out: &mut Vec<u8>) {
        put_count(out, self.0.len());
        for (key, value) in &self.0 {
            put_blob(out, key);
            match value {
                Some(value) => {
                    out.push(1);
                    put_blob(out, value);
                }
                None => out.push(0),
            }
        }
    }
}

impl Decode for Undo {
    /// Nobody sends this. It is as large as what the state machine has written, so what is there is the only bound.
    fn decode(input: &mut Reader<'_>) -> Result<Undo, InvalidEncoding> {
        let count = input.count(usize::MAX)?;
        let change = |_| {
            let key = input.blob(usize::MAX)?;
            let value = match input.u8()? {
                0 => None,
                1 => Some(input.blob(usize::MAX)?),
                tag => return Err(InvalidEncoding::Unknown { what: "value", tag }),
            };
            Ok((key, value))
        };
        (0..count).map(change).collect::<Result<_, _>>().map(Undo)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Blocks of changes over a store, undone from the last: each leaves what was there before it.
        #[test]
        fn undoing_blocks_leads_back_through_every_state(
            blocks in proptest::collection::vec(proptest::collection::vec((1u8..7, proptest::option::of(any::<u8>())), 0..9), 1..6),
        ) {
            let mut store = MemoryStore::default();
            store.commit((1..4u8).map(|key| (vec![key], Some(vec![key]))).collect()).unwrap();
            let mut view = View::new(&store);
            let state = |view: &View<'_>| (1..7u8).map(|key| view.get(&[key])).collect::<Vec<_>>();
            let mut undos = Vec::new();
            for block in blocks {
                let before = state(&view);
                for (key, value) in block {
                    match value {
                        Some(value) => prop_assert_eq!(view.get(&[key]).is_some(), view.put(vec![key], vec![value])),
                        None => prop_assert_eq!(view.get(&[key]).is_some(), view.remove(vec![key])),
                    }
                }
                let undo = view.take_undo();
                prop_assert_eq!(&Undo::from_bytes(&undo.to_bytes()).unwrap(), &undo);
                undos.push((before, undo));
            }
            for (before, undo) in undos.into_iter().rev() {
                view.undo(undo);
                prop_assert_eq!(state(&view), before);
            }
        }
    }

    #[test]
    fn a_store_that_fails_is_heard_of() {
        struct Broken;
        impl Store for Broken {
            fn get(&self, _: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
                Err(StoreError("the disk is gone".into()))
            }
            fn scan(&self, _: &[u8], _: &mut dyn FnMut(&[u8], &[u8])) -> Result<(), StoreError> {
                Err(StoreError("the disk is gone".into()))
            }
            fn commit(&mut self, _: Batch) -> Result<(), StoreError> {
                Err(StoreError("the disk is gone".into()))
            }
        }
        let view = View::new(&Broken);
        assert_eq!((view.failure(), view.get(b"key")), (None, None));
        assert_eq!(view.failure(), Some(StoreError("the disk is gone".into())));
    }
}
