//! What a node has, without the values: they are with its worker.
//!
//! Only the worker knows what is there. Each of its answers says so, and those of one key come in the order of their
//! jobs: so the last one is right. A record that goes is left out at once, and no answer to an earlier job may bring
//! it back: none goes while such a job is under way.

use std::collections::BTreeMap;
use std::ops::Bound;

use p2p_core::{Key, Peer};

use super::{DhtConfig, Wanted};
use crate::record::{RecordKind, Slot, Version};
use crate::store::StoreEntry;

/// A record that this node keeps.
#[derive(Clone, Copy, Debug)]
pub(super) struct Held {
    pub(super) version: Version,
    /// Seconds since the Unix epoch.
    pub(super) expires: u64,
    pub(super) size: usize,
    /// This node has published it.
    pub(super) own: bool,
    /// The replicas that all have it, as a fingerprint: nothing to repair as long as they stay the same.
    pub(super) confirmed: u64,
    /// The replicas that it is being compared with, and how many of them have not confirmed it.
    pub(super) comparing: u64,
    pub(super) unconfirmed: usize,
    /// This node is not among them, and they are as many as there should be.
    pub(super) surplus: bool,
}

impl Held {
    /// It is compared with the replicas that `standing` stands for, this many of them.
    pub(super) fn compare(&mut self, standing: u64, replicas: usize, surplus: bool) {
        (self.comparing, self.unconfirmed, self.surplus) = (standing, replicas, surplus);
        if replicas == 0 {
            self.confirmed = standing;
        }
    }
}

/// All records of a node: at most [`DhtConfig::max_records`] and [`DhtConfig::max_bytes`], what is being written
/// and what it has published itself included.
#[derive(Clone, Debug)]
pub(super) struct Index<P> {
    held: BTreeMap<Slot<P>, Held>,
    bytes: u64,
    /// Being written: how many, and their bytes.
    coming: (usize, u64),
    /// Jobs under way whose answer says what is in a slot.
    changing: BTreeMap<Slot<P>, usize>,
}

impl<P> Default for Index<P> {
    fn default() -> Self {
        Index { held: BTreeMap::new(), bytes: 0, coming: (0, 0), changing: BTreeMap::new() }
    }
}

impl<P: Peer> Index<P> {
    pub(super) fn iter(&self) -> impl ExactSizeIterator<Item = (&Slot<P>, &Held)> {
        self.held.iter()
    }

    /// Up to `n` slots after one, and from the first again after the last.
    pub(super) fn around(&self, after: Option<Slot<P>>, n: usize) -> Vec<Slot<P>> {
        let Some(after) = after else { return self.held.keys().take(n).copied().collect() };
        let rest = self.held.range((Bound::Excluded(after), Bound::Unbounded));
        let around = rest.chain(self.held.range(..=after)).map(|(slot, _)| *slot);
        around.take(n).collect()
    }

    pub(super) fn get(&self, slot: &Slot<P>) -> Option<&Held> {
        self.held.get(slot)
    }

    pub(super) fn get_mut(&mut self, slot: &Slot<P>) -> Option<&mut Held> {
        self.held.get_mut(slot)
    }

    /// The slots of a key that a reader wants, `most` at most.
    pub(super) fn of(&self, key: Key, wanted: Wanted, most: usize) -> Vec<Slot<P>> {
        let from = Slot { key, kind: RecordKind::Immutable };
        let of_key = self.held.range(from..).map(|(slot, _)| *slot).take_while(|slot| slot.key == key);
        let asked_for = of_key.filter(|slot| {
            matches!(
                (wanted, slot.kind),
                (Wanted::Immutable, RecordKind::Immutable)
                    | (Wanted::Mutable, RecordKind::Mutable)
                    | (Wanted::Providers, RecordKind::Provider(_))
            )
        });
        asked_for.take(most).collect()
    }

    /// Whether there is room for one more record.
    pub(super) fn has_room(&self, slot: &Slot<P>, size: usize, config: &DhtConfig) -> bool {
        if let Some(held) = self.held.get(slot) {
            let more = size.saturating_sub(held.size) as u64;
            return self.bytes + self.coming.1 + more <= config.max_bytes;
        }
        let providers = match slot.kind {
            RecordKind::Provider(_) => self.of(slot.key, Wanted::Providers, config.max_providers).len(),
            RecordKind::Immutable | RecordKind::Mutable => 0,
        };
        providers < config.max_providers
            && self.held.len() + self.coming.0 < config.max_records
            && self.bytes + self.coming.1 + size as u64 <= config.max_bytes
    }

    /// A record is being written.
    pub(super) fn begin(&mut self, slot: Slot<P>, size: usize) {
        self.coming.0 += 1;
        self.coming.1 += size as u64;
        *self.changing.entry(slot).or_default() += 1;
    }

    /// It has been, or has not.
    pub(super) fn end(&mut self, slot: &Slot<P>, size: usize) {
        self.coming.0 -= 1;
        self.coming.1 -= size as u64;
        match self.changing.get_mut(slot) {
            Some(jobs @ 2..) => *jobs -= 1,
            _ => drop(self.changing.remove(slot)),
        }
    }

    /// Whether a job is under way whose answer says what is in a slot.
    pub(super) fn is_changing(&self, slot: &Slot<P>) -> bool {
        self.changing.contains_key(slot)
    }

    /// Notes what the worker says is there.
    pub(super) fn set(&mut self, slot: &Slot<P>, there: Option<StoreEntry<P>>) {
        match there {
            Some(entry) => self.put(&entry),
            None => drop(self.remove(slot)),
        }
    }

    /// Notes what is there. A newer copy has to be confirmed anew.
    pub(super) fn put(&mut self, entry: &StoreEntry<P>) {
        let StoreEntry { slot, version, expires, size, own } = *entry;
        let old = self.held.get(&slot).copied();
        let same = old.filter(|old| old.version == version);
        let (confirmed, comparing, unconfirmed, surplus) =
            same.map_or((0, 0, 0, false), |old| (old.confirmed, old.comparing, old.unconfirmed, old.surplus));
        self.bytes = self.bytes + size as u64 - old.map_or(0, |old| old.size as u64);
        let held = Held { version, expires, size, own, confirmed, comparing, unconfirmed, surplus };
        self.held.insert(slot, held);
    }

    /// Lets go of a record; says what it was.
    pub(super) fn remove(&mut self, slot: &Slot<P>) -> Option<StoreEntry<P>> {
        let Held { version, expires, size, own, .. } = self.held.remove(slot)?;
        self.bytes -= size as u64;
        Some(StoreEntry { slot: *slot, version, expires, size, own })
    }
}
