//! Replicas find out in two small messages that they have the same.
//!
//! Two nodes share the records that both should keep: where the regions in which each is one of the replicas overlap, be
//! they arcs, prefixes or boxes. Each sums its own up: the hash of their names, in the order of their keys. If the sums
//! differ, the one that was asked gives a sum for each of up to [`PARTS`] stretches of keys, cut so that it has as many
//! records in each: a Merkle tree of two levels (Cates, *Robust and efficient data management for a distributed hash table*,
//! 2003, §3, has one of many). Then copies are offered by name, as `repair` does it, of the parts that differ: when a region
//! has changed hands these are its own.
//!
//! Of a part that another lacks all replicas would offer the same copies. One of them, by lot, does so at once; the
//! others ask again somewhat later, and offer what is still missing.
//!
//! A peer that claims to have the same is believed, as is one that says of a copy that it has it.

use std::collections::BTreeMap;
use std::time::Duration;

use p2p_core::{Cx, Keyed, NoJob, Time};
use p2p_overlay::Overlay;
use serde::{Deserialize, Serialize};

use super::{DhtMsg, Question, Replicated};
use crate::record::{RecordKind, Slot, Version};

/// How many parts there are at most.
pub const PARTS: usize = 256;
/// How many records are in a part, if there are not too many.
const PER_PART: usize = 8;

/// Stands for one copy of one record.
pub(super) type Name = u128;

/// The hash of some names.
pub type Sum = [u8; 16];

/// What a copy is called.
pub(super) fn name<P: Keyed>(slot: &Slot<P>, version: Version) -> Name {
    let mut hasher = blake3::Hasher::new();
    hasher.update(slot.key.as_bytes());
    match &slot.kind {
        RecordKind::Immutable => hasher.update(&[0]),
        RecordKind::Mutable => hasher.update(&[1]),
        RecordKind::Provider(peer) => hasher.update(&[2]).update(peer.key().as_bytes()),
        RecordKind::Removable(owner) => hasher.update(&[3]).update(owner.as_bytes()),
        RecordKind::Custom(namespace) => hasher.update(&[4]).update(namespace.as_bytes()),
    };
    let Version { sequence, expires, hash } = version;
    for number in [sequence, expires, hash] {
        hasher.update(&number.to_be_bytes());
    }
    u128::from_be_bytes(first_half(&hasher))
}

fn first_half(hasher: &blake3::Hasher) -> [u8; 16] {
    let hash = hasher.finalize();
    let (half, _) = hash.as_bytes().split_at(16);
    half.try_into().expect("16 of 32 bytes")
}

/// The sum of a stretch of keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// The keys after those of the part before, up to those that begin with these eight bytes.
    pub upto: u64,
    /// Of what there is.
    pub sum: Sum,
}

fn prefix<P>(slot: &Slot<P>) -> u64 {
    slot.key.as_bytes()[..8].iter().fold(0, |prefix, byte| prefix << 8 | u64::from(*byte))
}

fn sum<P>(names: &[(Name, Slot<P>)]) -> Sum {
    let mut hasher = blake3::Hasher::new();
    for (name, _) in names {
        hasher.update(&name.to_be_bytes());
    }
    first_half(&hasher)
}

/// Cuts what there is, in the order of its keys, into parts.
fn parts<P>(names: &[(Name, Slot<P>)]) -> Vec<Part> {
    let size = names.len().div_ceil(PARTS).max(PER_PART);
    let (mut rest, mut parts) = (names, Vec::new());
    while rest.len() > size {
        let upto = prefix(&rest[size - 1].1);
        if upto == u64::MAX {
            break; // The last part goes that far.
        }
        let end = rest.partition_point(|(_, slot)| prefix(slot) <= upto);
        let (part, after) = rest.split_at(end);
        parts.push(Part { upto, sum: sum(part) });
        rest = after;
    }
    parts.push(Part { upto: u64::MAX, sum: sum(rest) });
    parts
}

/// What there is, in the order of its keys, in those parts that differ.
fn differing<'a, P>(names: &'a [(Name, Slot<P>)], parts: &[Part]) -> Vec<&'a (Name, Slot<P>)> {
    let (mut rest, mut differing) = (names, Vec::new());
    for part in parts {
        let end = rest.partition_point(|(_, slot)| prefix(slot) <= part.upto);
        let (ours, after) = rest.split_at(end);
        if sum(ours) != part.sum {
            differing.extend(ours);
        }
        rest = after;
    }
    differing
}

/// Whether parts are as they may be: few, in order, and up to the last key.
fn are_parts(parts: &[Part]) -> bool {
    parts.len() <= PARTS
        && parts.is_sorted_by(|a, b| a.upto < b.upto)
        && parts.last().is_some_and(|last| last.upto == u64::MAX)
}

/// The other nodes that keep some records.
#[derive(Clone, Debug)]
pub(super) struct Group<P> {
    pub(super) peers: Vec<P>,
    /// The last pass that has seen it.
    pub(super) pass: u64,
}

/// Whom this node shares records with, and when each has asked for a sum last: no more of them than replicas of what is
/// kept.
#[derive(Clone, Debug)]
pub(super) struct Shared<P> {
    /// By their fingerprints.
    pub(super) groups: BTreeMap<u64, Group<P>>,
    asked: BTreeMap<P, Time>,
}

impl<P> Default for Shared<P> {
    fn default() -> Self {
        Shared { groups: BTreeMap::new(), asked: BTreeMap::new() }
    }
}

impl<P: Keyed> Shared<P> {
    /// Forgets who was not seen in the last pass over all records, or has not asked for long.
    pub(super) fn forget(&mut self, pass: u64, now: Time, long: Duration) {
        self.groups.retain(|_, group| group.pass >= pass);
        self.asked.retain(|_, at| now - *at < long);
    }
}

impl<O: Overlay<Job = NoJob>> Replicated<O> {
    /// What this node and a peer both should have and this node has, in the order of its keys.
    fn shared_with(&self, peer: O::Peer) -> Vec<(Name, Slot<O::Peer>)> {
        let groups = self.repair.shared.groups.iter();
        let with: Vec<u64> =
            groups.filter(|(_, group)| group.peers.contains(&peer)).map(|(standing, _)| *standing).collect();
        if with.is_empty() {
            return Vec::new();
        }
        let held = self.index.iter();
        let shared = held.filter(|(_, held)| held.mine && with.binary_search(&held.standing).is_ok());
        shared.map(|(slot, held)| (held.name, *slot)).collect()
    }

    /// The sum of all that this node shares with a peer.
    pub(super) fn sum_for(&self, peer: O::Peer) -> Sum {
        sum(&self.shared_with(peer))
    }

    /// Another replica has summed up what it shares with this node. Summing up takes a look at all records: who asks more
    /// often than there is reason to is not answered.
    pub(super) fn on_sum(&mut self, cx: &mut Cx<'_, Self>, from: O::Peer, id: u32, theirs: Sum) {
        let (now, least) = (cx.now(), self.config.settle / 4);
        let asked = &mut self.repair.shared.asked;
        if asked.get(&from).is_some_and(|last| now < *last + least) {
            return;
        }
        let names = self.shared_with(from);
        if !names.is_empty() {
            self.repair.shared.asked.insert(from, now);
        }
        let parts = if sum(&names) == theirs { Vec::new() } else { parts(&names) };
        self.tell(cx, from, DhtMsg::Summed { id, parts });
    }

    /// The other has the same, if there are no `parts`, or these are its sums.
    pub(super) fn summed(&mut self, cx: &mut Cx<'_, Self>, id: u64, from: O::Peer, parts: &[Part]) {
        let again = self.repair.again.remove(&from);
        if parts.is_empty() {
            return self.end_batch(cx, id);
        }
        if !are_parts(parts) {
            return self.offer_ignored(cx, id, from);
        }
        let now = cx.wall().as_secs();
        let names = self.shared_with(from);
        let missing = differing(&names, parts).into_iter().filter(|(name, slot)| {
            let held = self.index.get(slot).filter(|held| held.expires > now);
            held.is_some_and(|held| again || self.is_first(*name, held.standing, from))
        });
        let missing: Vec<Slot<O::Peer>> = missing.map(|(_, slot)| *slot).collect();
        if !again {
            self.sum_once_more(cx, from);
        }
        self.offer_copies(from, &missing);
        self.end_batch(cx, id);
    }

    /// Whether of the replicas of a record, without the one that lacks it, this node is the one to offer it first.
    fn is_first(&self, name: Name, standing: u64, lacks: O::Peer) -> bool {
        let Some(group) = self.repair.shared.groups.get(&standing) else { return true };
        // Whoever stands nearest to the record's name, which has nothing to do with its key.
        let lot = |peer: O::Peer| {
            let key = peer.key();
            let first = key.as_bytes()[..8].iter().fold(0, |first, byte| first << 8 | u64::from(*byte));
            first ^ name as u64
        };
        let me = lot(self.overlay.me());
        group.peers.iter().filter(|peer| **peer != lacks).all(|peer| lot(*peer) > me)
    }

    /// Questions for one peer.
    pub(super) fn ask_for_sum(&mut self, cx: &mut Cx<'_, Self>, to: O::Peer, batch: u64) -> bool {
        let sum = self.sum_for(to);
        self.ask(cx, to, Question::Sum(batch), |id| DhtMsg::Sum { id, sum })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use p2p_core::{Key, SimPeer};
    use proptest::prelude::*;

    fn names(seeds: impl IntoIterator<Item = u16>) -> Vec<(Name, Slot<SimPeer>)> {
        let slot = |seed: u16| Slot { key: Key::of(&seed.to_be_bytes()), kind: RecordKind::Immutable };
        let slots: std::collections::BTreeSet<_> = seeds.into_iter().map(slot).collect();
        slots.into_iter().map(|slot| (name(&slot, Version::default()), slot)).collect()
    }

    proptest! {
        /// Who lacks a stretch of keys, or some here and there, is offered these and few others.
        #[test]
        fn what_another_lacks_is_in_the_parts_that_differ(
            seeds in prop::collection::btree_set(any::<u16>(), 1..3000),
            from in any::<prop::sample::Index>(),
            count in 0usize..1000,
        ) {
            let all = names(seeds);
            let from = from.index(all.len());
            let gone = from..all.len().min(from + count);
            let mut less = all.clone();
            less.drain(gone.clone());
            let parts = parts(&less);
            prop_assert!(are_parts(&parts));
            let differ = differing(&all, &parts);
            prop_assert!(all[gone.clone()].iter().all(|lacks| differ.contains(&lacks)));
            let part = less.len().div_ceil(PARTS).max(PER_PART);
            prop_assert!(differ.len() <= gone.len() + 2 * part, "{} for {}", differ.len(), gone.len());
            // And who has more is offered what surrounds it.
            let (parts, part) = (super::parts(&all), all.len().div_ceil(PARTS).max(PER_PART));
            prop_assert!(differing(&less, &parts).len() <= 2 * part);
        }
    }

    /// Anybody may put as much as there is room for under the last of all keys.
    #[test]
    fn what_lies_at_the_last_keys_is_one_part() {
        let last = Key::new([0xff; 32]);
        let value = |owner: u8| Slot { key: last, kind: RecordKind::Removable(Key::of(&[owner])) };
        for (before, count) in [(0, 9), (0, 64), (20, 9), (3000, 64)] {
            let mut all = names(0..before);
            let values: std::collections::BTreeSet<Slot<SimPeer>> = (0..count).map(value).collect();
            all.extend(values.into_iter().map(|slot| (name(&slot, Version::default()), slot)));
            let parts = parts(&all);
            assert!(are_parts(&parts), "{before} records, and {count} under the last key: {parts:?}");
            assert!(differing(&all, &parts).is_empty());
            let less = &all[..all.len() - 1];
            assert_eq!(differing(less, &parts).last(), less.last().as_ref(), "one is missing at the end");
        }
    }

    #[test]
    fn what_is_no_list_of_parts_is_none() {
        let part = |upto| Part { upto, sum: [0; 16] };
        assert!(are_parts(&[part(1), part(u64::MAX)]));
        let last = u64::MAX;
        for wrong in
            [vec![], vec![part(1)], vec![part(2), part(1), part(last)], vec![part(1), part(1), part(last)]]
        {
            assert!(!are_parts(&wrong), "{wrong:?}");
        }
        let many: Vec<Part> = (0..PARTS as u64).map(part).chain([part(last)]).collect();
        assert!(!are_parts(&many));
    }

    #[test]
    fn each_part_of_a_name_counts() {
        let slot = |kind| Slot { key: Key::of(b"key"), kind };
        let version = |sequence, expires, hash| Version { sequence, expires, hash };
        let names = [
            name(&slot(RecordKind::Immutable), version(0, 0, 0)),
            name(&slot(RecordKind::Mutable), version(0, 0, 0)),
            name(&slot(RecordKind::Provider(SimPeer(1))), version(0, 0, 0)),
            name(&slot(RecordKind::Provider(SimPeer(2))), version(0, 0, 0)),
            name(&slot(RecordKind::Mutable), version(1, 0, 0)),
            name(&slot(RecordKind::Mutable), version(0, 1, 0)),
            name(&slot(RecordKind::Mutable), version(0, 0, 1)),
        ];
        let different: std::collections::BTreeSet<Name> = names.into_iter().collect();
        assert_eq!(different.len(), names.len());
    }
}
