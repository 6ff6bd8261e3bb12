//! What waits, and what depends on what.

use std::cmp::{Ordering, Reverse};
use std::collections::{BTreeMap, BTreeSet};

use p2p_core::Key;

use crate::id::{TxId, WtxId};
use crate::state::Footprint;

/// A fee for so many bytes. Compared by the fee for each byte, exactly.
#[derive(Clone, Copy, Debug)]
pub struct Rate {
    /// How much.
    pub fee: u64,
    /// For how many bytes.
    pub bytes: u64,
}

impl Rate {
    pub(super) fn and(self, other: Rate) -> Rate {
        Rate { fee: self.fee.saturating_add(other.fee), bytes: self.bytes.saturating_add(other.bytes) }
    }

    pub(super) fn less(self, other: Rate) -> Rate {
        Rate { fee: self.fee.saturating_sub(other.fee), bytes: self.bytes.saturating_sub(other.bytes) }
    }
}

impl Ord for Rate {
    fn cmp(&self, other: &Rate) -> Ordering {
        let cross = |one: &Rate, other: &Rate| u128::from(one.fee) * u128::from(other.bytes.max(1));
        cross(self, other).cmp(&cross(other, self))
    }
}

impl PartialOrd for Rate {
    fn partial_cmp(&self, other: &Rate) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Rate {
    fn eq(&self, other: &Rate) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Rate {}

#[derive(Clone, Debug)]
pub(super) struct Entry<T> {
    pub(super) transaction: T,
    pub(super) wtxid: WtxId,
    /// The hash of the signatures that were checked.
    pub(super) signatures: Key,
    pub(super) own: Rate,
    /// With all that depend on it.
    family: Rate,
    pub(super) arrived: u64,
    /// Parents have lower ones.
    order: u64,
    parents: BTreeSet<TxId>,
    children: BTreeSet<TxId>,
    footprint: Footprint,
}

impl<T> Entry<T> {
    pub(super) fn new(
        transaction: T,
        wtxid: WtxId,
        signatures: Key,
        own: Rate,
        arrived: u64,
        parents: BTreeSet<TxId>,
        footprint: Footprint,
    ) -> Entry<T> {
        let children = BTreeSet::new();
        let (family, order) = (own, 0);
        Entry { transaction, wtxid, signatures, own, family, arrived, order, parents, children, footprint }
    }

    /// What is lost with it, at best: it pays for itself, or those that depend on it pay for it.
    fn worth(&self) -> Rate {
        self.own.max(self.family)
    }
}

#[derive(Clone, Debug)]
pub(super) struct Graph<T> {
    entries: BTreeMap<TxId, Entry<T>>,
    by_wtxid: BTreeMap<WtxId, TxId>,
    /// Who uses up what, and who makes it.
    users: BTreeMap<Vec<u8>, TxId>,
    makers: BTreeMap<Vec<u8>, TxId>,
    /// Who reads what.
    readers: BTreeMap<Vec<u8>, BTreeSet<TxId>>,
    /// The least worth first, of these the last that came.
    by_worth: BTreeSet<(Rate, Reverse<u64>, TxId)>,
    bytes: usize,
    next: u64,
}

impl<T> Default for Graph<T> {
    fn default() -> Self {
        Graph {
            entries: BTreeMap::new(),
            by_wtxid: BTreeMap::new(),
            users: BTreeMap::new(),
            makers: BTreeMap::new(),
            readers: BTreeMap::new(),
            by_worth: BTreeSet::new(),
            bytes: 0,
            next: 0,
        }
    }
}

impl<T> Graph<T> {
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn by_wtxid(&self) -> &BTreeMap<WtxId, TxId> {
        &self.by_wtxid
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn get(&self, id: &TxId) -> Option<&Entry<T>> {
        self.entries.get(id)
    }

    /// Who uses up what this uses up.
    pub(super) fn users(&self, footprint: &Footprint) -> BTreeSet<TxId> {
        footprint.uses.iter().filter_map(|slot| self.users.get(slot).copied()).collect()
    }

    /// Who makes what this uses up.
    pub(super) fn makers(&self, footprint: &Footprint) -> BTreeSet<TxId> {
        footprint.uses.iter().filter_map(|slot| self.makers.get(slot).copied()).collect()
    }

    /// Who reads what this changes.
    pub(super) fn readers(&self, footprint: &Footprint) -> BTreeSet<TxId> {
        footprint.changes.iter().filter_map(|slot| self.readers.get(slot)).flatten().copied().collect()
    }

    /// What one pays with all that it depends on.
    pub(super) fn package(&self, entry: &Entry<T>) -> Rate {
        let before = self.with_ancestors(entry.parents.iter().copied());
        let rates = before.iter().filter_map(|id| self.entries.get(id)).map(|entry| entry.own);
        rates.fold(entry.own, Rate::and)
    }

    /// These and all that they depend on.
    pub(super) fn with_ancestors(&self, ids: impl IntoIterator<Item = TxId>) -> BTreeSet<TxId> {
        self.closure(ids, |entry| &entry.parents)
    }

    /// These and all that depend on them.
    pub(super) fn with_descendants(&self, ids: impl IntoIterator<Item = TxId>) -> BTreeSet<TxId> {
        self.closure(ids, |entry| &entry.children)
    }

    fn closure(
        &self,
        ids: impl IntoIterator<Item = TxId>,
        next: impl Fn(&Entry<T>) -> &BTreeSet<TxId>,
    ) -> BTreeSet<TxId> {
        let (mut found, mut open) = (BTreeSet::new(), ids.into_iter().collect::<Vec<_>>());
        while let Some(id) = open.pop() {
            if found.insert(id) {
                open.extend(self.entries.get(&id).into_iter().flat_map(&next).copied());
            }
        }
        found
    }

    /// Parents before children.
    pub(super) fn sorted(&self, ids: &BTreeSet<TxId>) -> Vec<TxId> {
        let mut sorted: Vec<TxId> = ids.iter().copied().collect();
        sorted.sort_by_key(|id| self.entries.get(id).map(|entry| entry.order));
        sorted
    }

    /// All, parents before children.
    pub(super) fn in_order(&self) -> Vec<TxId> {
        let mut all: Vec<(u64, TxId)> = self.entries.iter().map(|(id, entry)| (entry.order, *id)).collect();
        all.sort_unstable();
        all.into_iter().map(|(_, id)| id).collect()
    }

    /// When it came, among all.
    pub(super) fn order(&self, id: &TxId) -> u64 {
        self.entries.get(id).map_or(u64::MAX, |entry| entry.order)
    }

    /// Takes these out, parents before children.
    pub(super) fn take(&mut self, ids: &BTreeSet<TxId>) -> Vec<Entry<T>> {
        self.sorted(ids).iter().filter_map(|id| self.remove(id)).collect()
    }

    pub(super) fn into_entries(self) -> impl Iterator<Item = Entry<T>> {
        let mut all: Vec<Entry<T>> = self.entries.into_values().collect();
        all.sort_by_key(|entry| entry.order);
        all.into_iter()
    }

    pub(super) fn least_first(&self) -> impl Iterator<Item = (Rate, TxId)> {
        self.by_worth.iter().map(|(worth, _, id)| (*worth, *id))
    }

    pub(super) fn arrived_before(&self, time: u64) -> Vec<TxId> {
        self.entries.iter().filter(|(_, entry)| entry.arrived < time).map(|(id, _)| *id).collect()
    }

    pub(super) fn insert(&mut self, id: TxId, entry: Entry<T>) {
        let entry = Entry { order: self.next, ..entry };
        self.next += 1;
        self.bytes += entry.own.bytes as usize;
        self.users.extend(entry.footprint.uses.iter().map(|slot| (slot.clone(), id)));
        self.makers.extend(entry.footprint.makes.iter().map(|slot| (slot.clone(), id)));
        for slot in &entry.footprint.reads {
            self.readers.entry(slot.clone()).or_default().insert(id);
        }
        for parent in &entry.parents {
            if let Some(parent) = self.entries.get_mut(parent) {
                parent.children.insert(id);
            }
        }
        for ancestor in self.with_ancestors(entry.parents.iter().copied()) {
            self.change_family(&ancestor, |family| family.and(entry.own));
        }
        self.by_worth.insert((entry.worth(), Reverse(entry.order), id));
        self.by_wtxid.insert(entry.wtxid, id);
        self.entries.insert(id, entry);
    }

    /// Takes one out; what depends on it stays.
    pub(super) fn remove(&mut self, id: &TxId) -> Option<Entry<T>> {
        let ancestors = self.with_ancestors([*id]);
        let entry = self.entries.remove(id)?;
        self.by_wtxid.remove(&entry.wtxid);
        self.bytes -= entry.own.bytes as usize;
        self.by_worth.remove(&(entry.worth(), Reverse(entry.order), *id));
        for slot in &entry.footprint.uses {
            if self.users.get(slot) == Some(id) {
                self.users.remove(slot);
            }
        }
        for slot in &entry.footprint.makes {
            if self.makers.get(slot) == Some(id) {
                self.makers.remove(slot);
            }
        }
        for slot in &entry.footprint.reads {
            if let Some(readers) = self.readers.get_mut(slot) {
                readers.remove(id);
                if readers.is_empty() {
                    self.readers.remove(slot);
                }
            }
        }
        for parent in &entry.parents {
            if let Some(parent) = self.entries.get_mut(parent) {
                parent.children.remove(id);
            }
        }
        for child in &entry.children {
            if let Some(child) = self.entries.get_mut(child) {
                child.parents.remove(id);
            }
        }
        // Who depended on it through others no longer counts for its ancestors through it; who still does by another way is
        // counted again below.
        let ancestors: Vec<TxId> = ancestors.into_iter().filter(|ancestor| ancestor != id).collect();
        for ancestor in ancestors {
            let family = self.with_descendants([ancestor]);
            let sum = family.iter().filter_map(|id| self.entries.get(id)).map(|entry| entry.own);
            let sum = sum.reduce(Rate::and).unwrap_or(Rate { fee: 0, bytes: 0 });
            self.change_family(&ancestor, |_| sum);
        }
        Some(entry)
    }

    fn change_family(&mut self, id: &TxId, change: impl FnOnce(Rate) -> Rate) {
        if let Some(entry) = self.entries.get_mut(id) {
            self.by_worth.remove(&(entry.worth(), Reverse(entry.order), *id));
            entry.family = change(entry.family);
            self.by_worth.insert((entry.worth(), Reverse(entry.order), *id));
        }
    }

    /// That what is kept twice says the same.
    #[cfg(test)]
    pub(super) fn check(&self) {
        let sum: u64 = self.entries.values().map(|entry| entry.own.bytes).sum();
        assert_eq!((self.bytes as u64, self.by_worth.len()), (sum, self.entries.len()));
        assert_eq!(self.by_wtxid.len(), self.entries.len());
        for (id, entry) in &self.entries {
            let family = self.with_descendants([*id]);
            let sum = family.iter().map(|id| self.entries[id].own).reduce(Rate::and).unwrap();
            assert_eq!((sum.fee, sum.bytes), (entry.family.fee, entry.family.bytes));
            assert!(self.by_worth.contains(&(entry.worth(), Reverse(entry.order), *id)));
            assert!(entry.parents.iter().all(|parent| self.entries[parent].children.contains(id)));
            assert!(entry.parents.iter().all(|parent| self.entries[parent].order < entry.order));
            assert!(entry.children.iter().all(|child| self.entries[child].parents.contains(id)));
            assert!(entry.footprint.uses.iter().all(|slot| self.users[slot] == *id));
            assert!(entry.footprint.reads.iter().all(|slot| self.readers[slot].contains(id)));
        }
        let read: usize = self.entries.values().map(|entry| entry.footprint.reads.len()).sum();
        assert_eq!(self.readers.values().map(BTreeSet::len).sum::<usize>(), read);
        assert!(self.readers.values().all(|readers| !readers.is_empty()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use p2p_core::Rng;
    use proptest::prelude::*;

    #[test]
    fn rates_are_compared_without_rounding() {
        let rate = |fee, bytes| Rate { fee, bytes };
        assert!(rate(1, 3) < rate(u64::MAX / 3 + 1, u64::MAX) && rate(1, 3) == rate(2, 6));
        assert!(rate(u64::MAX, 2) > rate(u64::MAX, 3) && rate(0, 1) == rate(0, 9));
    }

    proptest! {
        /// Entries that use what others make come and go, alone or with all that depends on them.
        #[test]
        fn what_is_kept_twice_says_the_same_after_every_change(seed: u64) {
            let (mut rng, mut graph) = (Rng::new(seed), Graph::<()>::default());
            let slot = |n: u64| n.to_le_bytes().to_vec();
            let mut free: Vec<Vec<u8>> = (0..5).map(slot).collect();
            for n in 1..60u64 {
                if rng.chance(0.7) {
                    let count = rng.index(3).min(free.len());
                    let uses = (0..count).map(|_| free.swap_remove(rng.index(free.len()))).collect();
                    let makes: Vec<_> = (0..rng.below(3)).map(|i| slot(1_000 * n + i)).collect();
                    free.extend(makes.iter().cloned());
                    let reads = (0..3).filter(|_| rng.chance(0.3)).map(slot).collect();
                    let footprint = Footprint { uses, makes, reads, changes: Vec::new() };
                    let wtxid = WtxId(Key::of(&n.to_be_bytes()));
                    let own = Rate { fee: rng.below(100), bytes: 1 + rng.below(100) };
                    let parents = graph.makers(&footprint);
                    graph.insert(TxId(Key::of(&n.to_le_bytes())), Entry::new((), wtxid, Key::ZERO, own, n, parents, footprint));
                } else if let Some(id) = rng.choose(&graph.in_order()).copied() {
                    let going = match rng.chance(0.5) {
                        true => graph.with_descendants([id]),
                        // As when a block has taken it: with all that it depends on.
                        false => graph.with_ancestors([id]),
                    };
                    going.iter().for_each(|id| drop(graph.remove(id)));
                }
                graph.check();
            }
        }
    }
}
