//! Where a node keeps its records: the jobs of the storage machine, and workers that do them.
//!
//! A write is acknowledged when its job comes back, so a worker answers only for what would survive a crash. That
//! of two copies the newer stays is decided here, where writes of one key come one after the other: workers ask
//! [`StoreEntry::after_write`]. In `memory` is a worker for simulations, in `redb` one that keeps records in a file.

mod memory;
#[cfg(feature = "redb")]
mod redb;

use p2p_core::{Job, JobError, Peer, Wire};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::client::is_copier;
use crate::record::{Record, RecordKind, Slot, Version};

pub use memory::MemoryStore;
#[cfg(feature = "redb")]
pub use redb::{RedbStore, StoreError};

/// What a storage machine asks of its worker.
#[derive(Clone, Debug)]
pub enum StoreJob<P> {
    /// Check a record and keep it, unless a newer copy is there.
    Write {
        /// The record.
        record: Record<P>,
        /// Where it is kept.
        slot: Slot<P>,
        /// Who stores it, and what it must replace.
        by: Writer,
        /// Whether this node has published it.
        own: bool,
        /// Whose room it takes: see [`StoreEntry::account`].
        account: u64,
    },
    /// Read these records, all of one key.
    Read(Vec<Slot<P>>),
    /// Note that this node does not publish a record any more.
    Disown(Slot<P>),
    /// Forget this copy of a record, if it is still the one that is there.
    Remove(Slot<P>, Version),
    /// Say what is there, in an order of the worker's own: asked at the start, one page at a time. Nothing is removed
    /// before all is known.
    Scan {
        /// The last of the page before.
        after: Option<Slot<P>>,
        /// How many are wanted; fewer come at the end alone.
        most: usize,
    },
}

/// Who has a record written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writer {
    /// Another replica, or this node for itself: the newer copy stays.
    Replica,
    /// A publisher. It is a conflict if a value with a sequence number, signed or an application's own, is not newer than what is
    /// there; if what is there must have a certain one and has not; and if the value was removed. Nothing whose
    /// end is signed may end before what it replaces, which could come back then.
    Publisher {
        /// That number.
        expected: Option<u64>,
    },
}

/// What comes back.
#[derive(Clone, Debug)]
pub enum StoreDone<P> {
    /// Of a write: what is there now.
    Written(Result<StoreEntry<P>, WriteError>),
    /// Of a read: those that are there.
    Read(Result<Vec<Record<P>>, JobError>),
    /// Of a removal, or of [`StoreJob::Disown`]: what is there now.
    Removed(Result<Option<StoreEntry<P>>, JobError>),
    /// Of a scan: the next page.
    Scanned(Result<Vec<StoreEntry<P>>, JobError>),
}

/// A record that is kept, without its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreEntry<P> {
    /// Where.
    pub slot: Slot<P>,
    /// Which copy.
    pub version: Version,
    /// When it ends, in seconds since the Unix epoch.
    pub expires: u64,
    /// How much room it takes, in bytes.
    pub size: usize,
    /// Whether this node has published it.
    pub own: bool,
    /// Stands for the publisher whose room at this node it takes; 0 if it takes nobody's.
    pub account: u64,
    /// The sequence number that was here just before, whoever brought this copy; `None` if nothing was.
    pub replaced: Option<u64>,
}

/// Why a record was not written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteError {
    /// It is not genuine.
    Invalid,
    /// There is a value with this sequence number, which is not lower, or not the one that was expected; or the
    /// value was removed (1).
    Conflict(u64),
    /// It ends before what it would replace.
    EndsBefore,
    /// The storage failed.
    Failed(JobError),
}

impl<P: Peer> Job for StoreJob<P> {
    type Done = StoreDone<P>;

    /// Jobs of one key are done in order.
    fn lane(&self) -> Option<u64> {
        let slot = match self {
            StoreJob::Write { slot, .. } | StoreJob::Remove(slot, _) | StoreJob::Disown(slot) => slot,
            StoreJob::Read(slots) => slots.first()?,
            StoreJob::Scan { .. } => return Some(0),
        };
        Some(slot.key.as_bytes()[..8].iter().fold(0, |lane, byte| lane << 8 | u64::from(*byte)))
    }

    fn failed(&self, why: JobError) -> StoreDone<P> {
        match self {
            StoreJob::Write { .. } => StoreDone::Written(Err(WriteError::Failed(why))),
            StoreJob::Read(_) => StoreDone::Read(Err(why)),
            StoreJob::Remove(..) | StoreJob::Disown(_) => StoreDone::Removed(Err(why)),
            StoreJob::Scan { .. } => StoreDone::Scanned(Err(why)),
        }
    }
}

/// As a worker may keep it.
impl<P: Serialize + DeserializeOwned> Wire for StoreEntry<P> {
    const MAX_BYTES: usize = 1024;
}

impl<P: Peer> StoreEntry<P> {
    /// What is known of a record.
    pub fn new(record: &Record<P>, slot: Slot<P>, own: bool, account: u64) -> StoreEntry<P> {
        let (version, expires, size) = (record.version(), record.expires(), record.size());
        StoreEntry { slot, version, expires, size, own, account, replaced: None }
    }

    /// What is there after `record` is written over `before`, and whether that is the new one.
    ///
    /// # Errors
    /// The record is not to be written.
    pub fn after_write(
        record: &Record<P>,
        slot: Slot<P>,
        own: bool,
        account: u64,
        by: Writer,
        before: Option<StoreEntry<P>>,
    ) -> Result<(StoreEntry<P>, bool), WriteError> {
        record.check().map_err(|_| WriteError::Invalid)?;
        let new = StoreEntry::new(record, slot, own, account);
        let Some(old) = before else { return Ok((new, true)) };
        let own = own || old.own;
        let (there, here) = (old.version, new.version);
        let is_same = (there.sequence, there.hash) == (here.sequence, here.hash);
        if let Writer::Publisher { expected } = by {
            // A swap that comes again has been made; but not if a copy has brought its value over that of another swap, to
            // which this replica has said yes: so of two swaps of one number no replica says yes to both.
            let is_made = |expected| old.replaced.is_none_or(|before| before <= expected);
            let same_value = is_same && expected.is_none_or(is_made);
            let conflict = match slot.kind {
                RecordKind::Mutable | RecordKind::Custom(_) => {
                    let outdated = there.sequence >= here.sequence;
                    !same_value && (outdated || expected.is_some_and(|expected| expected != there.sequence))
                }
                RecordKind::Removable(_) => there.sequence > here.sequence,
                RecordKind::Immutable | RecordKind::Provider(_) => false,
            };
            if conflict {
                return Err(WriteError::Conflict(there.sequence));
            }
            // Of a record whose end nobody has signed anybody could keep a later one out, by a later end of the older.
            let bound = !matches!(slot.kind, RecordKind::Custom(_));
            if bound && here.sequence > there.sequence && here.expires < there.expires {
                return Err(WriteError::EndsBefore);
            }
        }
        let replaced = if is_same { old.replaced } else { Some(there.sequence) };
        match new.version > old.version {
            // A copy that comes from another replica takes the room of whoever published it here.
            true if is_copier(account) && old.account != 0 || account == 0 => {
                Ok((StoreEntry { own, account: old.account, replaced, ..new }, true))
            }
            true => Ok((StoreEntry { own, replaced, ..new }, true)),
            false => Ok((StoreEntry { own, ..old }, false)),
        }
    }
}

#[cfg(all(test, feature = "redb"))]
mod tests;
