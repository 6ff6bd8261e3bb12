//! A worker that keeps records in memory.

use std::collections::BTreeMap;
use std::ops::Bound;

use p2p_core::{Peer, Worker};

use super::{StoreDone, StoreEntry, StoreJob};
use crate::record::{Record, Slot};

/// Keeps records in memory: they are gone with the process.
///
/// ```
/// use p2p_core::{SimPeer, Worker};
/// use p2p_dht::{MemoryStore, Record, StoreDone, StoreJob, Writer};
///
/// let mut store = MemoryStore::default();
/// let record: Record<SimPeer> = Record::Immutable { value: "hello".into(), expires: 2_000_000_000 };
/// let slot = record.slot();
/// let write = StoreJob::Write { record: record.clone(), slot, by: Writer::Replica, own: false, account: 0 };
/// let done = store.run(vec![write, StoreJob::Read(vec![slot])]);
/// assert!(matches!(&done[1], StoreDone::Read(Ok(records)) if *records == [record]));
/// ```
#[derive(Clone, Debug)]
pub struct MemoryStore<P> {
    records: BTreeMap<Slot<P>, (Record<P>, StoreEntry<P>)>,
}

impl<P> Default for MemoryStore<P> {
    fn default() -> Self {
        MemoryStore { records: BTreeMap::new() }
    }
}

impl<P: Peer> Worker<StoreJob<P>> for MemoryStore<P> {
    fn run(&mut self, batch: Vec<StoreJob<P>>) -> Vec<StoreDone<P>> {
        let one = |job| match job {
            StoreJob::Write { record, slot, by, own, account } => {
                let before = self.records.get(&slot).map(|(_, entry)| *entry);
                let after = StoreEntry::after_write(&record, slot, own, account, by, before);
                if let Ok((entry, is_new)) = after {
                    match self.records.get_mut(&slot) {
                        Some(kept) if !is_new => kept.1 = entry,
                        _ => drop(self.records.insert(slot, (record, entry))),
                    }
                }
                StoreDone::Written(after.map(|(entry, _)| entry))
            }
            StoreJob::Read(slots) => {
                let there = slots.iter().filter_map(|slot| self.records.get(slot));
                StoreDone::Read(Ok(there.map(|(record, _)| record.clone()).collect()))
            }
            StoreJob::Disown(slot) => {
                let there = self.records.get_mut(&slot).map(|(_, entry)| entry);
                StoreDone::Removed(Ok(there.map(|entry| {
                    entry.own = false;
                    *entry
                })))
            }
            StoreJob::Remove(slot, version) => {
                if self.records.get(&slot).is_some_and(|(_, entry)| entry.version == version) {
                    self.records.remove(&slot);
                }
                StoreDone::Removed(Ok(self.records.get(&slot).map(|(_, entry)| *entry)))
            }
            StoreJob::Scan { after, most } => {
                let from = after.map_or(Bound::Unbounded, Bound::Excluded);
                let rest = self.records.range((from, Bound::Unbounded)).map(|(_, (_, entry))| *entry);
                StoreDone::Scanned(Ok(rest.take(most).collect()))
            }
        };
        batch.into_iter().map(one).collect()
    }
}
