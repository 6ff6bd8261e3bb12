//! What a node has, without the values: they are with its worker.
//!
//! Only the worker knows what is there. Each of its answers says so, and those of one key come in the order of their
//! jobs: so the last one is right. A record that goes is left out at once, and no answer to an earlier job may bring
//! it back: none goes while such a job is under way.
//!
//! Room is limited, and shared. What this node publishes itself takes what there is. Of the rest a publisher may take so
//! many times as much as is free ([`Allocation::Threshold`]; dynamic thresholds, Choudhury and Hahne 1998): as the node
//! fills up everybody may take less, and a few that come next still find some room. Or it takes its turn
//! ([`Allocation::Fair`], see `fair`). That a replica only copies what others have published, it says itself: what one
//! copies has a share of its own, of the same size, and no turns, so that a node which takes a neighbour's place need not
//! wait. Of the places for values under one key, and of those for its providers, everybody may take four times as many as
//! are free, whatever the allocation. What was taken is kept to its end, for it was acknowledged. Only a copy that others
//! should have by now, and of whom a write quorum says that it has it, makes room for another.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use p2p_core::{Key, Keyed};

use super::serve::SKEW;
use super::summary::{Name, name};
use super::{Allocation, DhtConfig, Wanted};
use crate::client::is_copier;
use crate::fair::FairShares;
use crate::record::{RecordKind, Slot, Version};
use crate::store::StoreEntry;

/// How many times as many of a key's places as are free one publisher may have.
const PLACES: usize = 4;

/// How many times as much as is free one neighbour may copy, where publishers take turns.
const COPIES: u64 = 4;

/// A record that this node keeps.
#[derive(Clone, Copy, Debug)]
pub(super) struct Held {
    pub(super) version: Version,
    /// Seconds since the Unix epoch.
    pub(super) expires: u64,
    pub(super) size: usize,
    /// This node has published it.
    pub(super) own: bool,
    /// Whose room it takes.
    account: u64,
    /// Tells it from other records and other copies.
    pub(super) name: Name,
    /// The other nodes that should have it, as a fingerprint; 0 as long as that is not known.
    pub(super) standing: u64,
    /// This node should have it too.
    pub(super) mine: bool,
    /// The replicas that all have it, as a fingerprint: nothing to repair as long as they stay the same. Where this node
    /// is one of them: those with which it has been summed up.
    pub(super) confirmed: u64,
    /// The replicas that it is being compared with, and how many of them have confirmed it, and how many have not.
    pub(super) comparing: u64,
    confirmations: usize,
    pub(super) unconfirmed: usize,
    /// This node is not among them, and they are as many as there should be.
    pub(super) surplus: bool,
}

impl Held {
    /// It is compared with the replicas that `standing` stands for, this many of them.
    pub(super) fn compare(&mut self, standing: u64, replicas: usize, surplus: bool) {
        (self.comparing, self.unconfirmed, self.surplus) = (standing, replicas, surplus);
        self.confirmations = 0;
        if replicas == 0 {
            self.confirmed = standing;
        }
    }
}

/// Room that is taken: records, and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Room {
    records: usize,
    bytes: u64,
}

impl Room {
    fn take(&mut self, size: usize) {
        self.records += 1;
        self.bytes += size as u64;
    }

    fn leave(&mut self, size: usize) {
        self.records -= 1;
        self.bytes -= size as u64;
    }
}

/// All records of a node: at most [`DhtConfig::max_records`] and [`DhtConfig::max_bytes`], what is being written
/// and what it has published itself included.
#[derive(Clone, Debug)]
pub(super) struct Index<P> {
    held: BTreeMap<Slot<P>, Held>,
    bytes: u64,
    /// What is being written.
    coming: Room,
    /// What each publisher has here, and what is being written for it. No more than there are records.
    accounts: BTreeMap<u64, Room>,
    /// Whose turn it is, and how many bytes a record counts as at least.
    fair: Option<(FairShares, u64)>,
    /// Copies that this node need not have any more, by when they end.
    spare: BTreeSet<(u64, Slot<P>)>,
    /// Slots of which a job under way says what is in them.
    changing: BTreeMap<Slot<P>, Changing>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Changing {
    jobs: usize,
    /// Whose room the last of them takes.
    account: u64,
}

impl<P: Keyed> Index<P> {
    pub(super) fn new(config: &DhtConfig) -> Index<P> {
        let fair = match config.allocation {
            Allocation::Threshold(_) => None,
            Allocation::Fair => {
                let longest = config.max_lifetime.as_secs().saturating_add(3 * SKEW);
                let least = config.max_bytes / config.max_records.max(1) as u64;
                Some((FairShares::new(config.max_bytes, longest), least))
            }
        };
        let (held, bytes, coming, accounts, spare, changing) = Default::default();
        Index { held, bytes, coming, accounts, fair, spare, changing }
    }

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
        let asked_for = of_key.filter(|slot| match (wanted, slot.kind) {
            (Wanted::Immutable, RecordKind::Immutable)
            | (Wanted::Mutable, RecordKind::Mutable)
            | (Wanted::Providers, RecordKind::Provider(_))
            | (Wanted::Values, RecordKind::Removable(_)) => true,
            (Wanted::Custom(wanted), RecordKind::Custom(namespace)) => wanted == namespace,
            _ => false,
        });
        asked_for.take(most).collect()
    }

    // ---- room

    /// Whether there is room for one more record, of this publisher unless that is 0. In the place of what it has here
    /// already there is, for what takes no more: that nothing else fits is no reason to keep the older.
    pub(super) fn has_room(&self, slot: &Slot<P>, size: usize, account: u64, config: &DhtConfig) -> bool {
        let free_records = config.max_records.saturating_sub(self.held.len() + self.coming.records);
        let free_bytes = config.max_bytes.saturating_sub(self.bytes + self.coming.bytes);
        let before = self.held.get(slot);
        let more = size.saturating_sub(before.map_or(0, |held| held.size)) as u64;
        if more == 0 && before.is_some_and(|held| account == 0 || account == held.account) {
            return true;
        }
        if more > free_bytes {
            return false;
        }
        let share = match (account, config.allocation) {
            (0, _) => u64::MAX,
            (_, Allocation::Threshold(share)) => share.max(1).into(),
            (account, Allocation::Fair) if is_copier(account) => COPIES,
            (_, Allocation::Fair) => u64::MAX,
        };
        let taken = self.accounts.get(&account).copied().unwrap_or_default();
        if taken.bytes + more > free_bytes.saturating_mul(share) {
            return false;
        }
        if before.is_some() {
            return true;
        }
        self.has_place(slot, account, config)
            && free_records > 0
            && (taken.records as u64) < (free_records as u64).saturating_mul(share)
    }

    /// Whether a publisher may have one more of the places under a key, where they are numbered.
    fn has_place(&self, slot: &Slot<P>, account: u64, config: &DhtConfig) -> bool {
        let wanted = match slot.kind {
            RecordKind::Provider(_) => Wanted::Providers,
            RecordKind::Removable(_) => Wanted::Values,
            RecordKind::Immutable | RecordKind::Mutable | RecordKind::Custom(_) => return true,
        };
        let held = self.of(slot.key, wanted, config.max_providers);
        let of_held = held.iter().filter_map(|slot| self.held.get(slot)).map(|held| held.account);
        let from = Slot { key: slot.key, kind: RecordKind::Immutable };
        let coming = self.changing.range(from..).take_while(|(other, _)| other.key == slot.key);
        let alike =
            |other: &Slot<P>| std::mem::discriminant(&other.kind) == std::mem::discriminant(&slot.kind);
        let coming =
            coming.filter(|(other, _)| alike(other) && *other != slot && !self.held.contains_key(other));
        let accounts: Vec<u64> = of_held.chain(coming.map(|(_, changing)| changing.account)).collect();
        let free = config.max_providers.saturating_sub(accounts.len());
        let theirs = accounts.iter().filter(|other| **other == account).count();
        free > 0 && (account == 0 || theirs < PLACES * free)
    }

    /// Whether it is this publisher's turn to have room for a record from now until a time, where there are turns. A renewal
    /// takes one as well.
    pub(super) fn is_turn(&mut self, size: usize, account: u64, now: u64, until: u64) -> bool {
        match &mut self.fair {
            Some((fair, least)) if account != 0 && !is_copier(account) => {
                let coming = self.coming.bytes + self.coming.records as u64 * *least;
                fair.admit(account, (size as u64).max(*least), (now, until), coming)
            }
            _ => true,
        }
    }

    /// Whose room a record takes that this publisher stores: where it has no share left, and none is needed, that of
    /// whoever has stored what it replaces. Who renews the records of others frees no room for them to take again.
    pub(super) fn payer(&self, slot: &Slot<P>, size: usize, account: u64, config: &DhtConfig) -> u64 {
        match self.held.get(slot) {
            _ if self.fair.is_some() && !is_copier(account) => account,
            Some(held) if size <= held.size && !self.has_room(slot, size, account, config) => held.account,
            _ => account,
        }
    }

    /// The first to go if there is no room: a copy that this node need not have.
    pub(super) fn spare(&self) -> Option<Slot<P>> {
        let spare = self.spare.iter().map(|(_, slot)| *slot);
        spare.take(16).find(|slot| !self.is_changing(slot))
    }

    /// A record is being written.
    pub(super) fn begin(&mut self, slot: Slot<P>, size: usize, account: u64) {
        self.coming.take(size);
        if account != 0 {
            self.accounts.entry(account).or_default().take(size);
        }
        let changing = self.changing.entry(slot).or_default();
        *changing = Changing { jobs: changing.jobs + 1, account };
    }

    /// It has been, or has not.
    pub(super) fn end(&mut self, slot: &Slot<P>, size: usize, account: u64) {
        self.coming.leave(size);
        self.leave(account, size);
        match self.changing.get_mut(slot) {
            Some(changing) if changing.jobs > 1 => changing.jobs -= 1,
            _ => drop(self.changing.remove(slot)),
        }
    }

    fn leave(&mut self, account: u64, size: usize) {
        if let Some(room) = self.accounts.get_mut(&account) {
            room.leave(size);
            if room.records == 0 {
                self.accounts.remove(&account);
            }
        }
    }

    /// Whether a job is under way whose answer says what is in a slot.
    pub(super) fn is_changing(&self, slot: &Slot<P>) -> bool {
        self.changing.contains_key(slot)
    }

    // ---- what is there

    /// Notes what the worker says is there.
    pub(super) fn set(&mut self, slot: &Slot<P>, there: Option<StoreEntry<P>>) {
        match there {
            Some(entry) => self.put(&entry),
            None => drop(self.remove(slot)),
        }
    }

    /// Notes what is there. A newer copy has to be confirmed anew.
    pub(super) fn put(&mut self, entry: &StoreEntry<P>) {
        let StoreEntry { slot, version, expires, size, own, account, replaced: _ } = *entry;
        let before = self.held.get(&slot).copied();
        if let Some(before) = before {
            self.take_out(&slot, &before);
        }
        let new = Held {
            version,
            expires,
            size,
            own,
            account,
            name: name(&slot, version),
            standing: before.map_or(0, |before| before.standing),
            mine: before.is_some_and(|before| before.mine),
            confirmed: 0,
            comparing: 0,
            confirmations: 0,
            unconfirmed: 0,
            surplus: false,
        };
        let same = before.filter(|before| before.version == version);
        let held = same.map_or(new, |before| Held { own, account, ..before });
        self.bytes += size as u64;
        if account != 0 {
            self.accounts.entry(account).or_default().take(size);
        }
        if let Some((fair, least)) = &mut self.fair {
            fair.give((size as u64).max(*least), expires);
        }
        self.held.insert(slot, held);
    }

    /// Lets go of what has ended.
    pub(super) fn forget_ended(&mut self, now: u64) {
        let ended = self.held.iter().filter(|(_, held)| held.expires <= now).map(|(slot, _)| *slot);
        for slot in ended.collect::<Vec<Slot<P>>>() {
            self.remove(&slot);
        }
    }

    /// Lets go of a record; says what it was.
    pub(super) fn remove(&mut self, slot: &Slot<P>) -> Option<StoreEntry<P>> {
        let held = self.held.remove(slot)?;
        self.take_out(slot, &held);
        let Held { version, expires, size, own, account, .. } = held;
        Some(StoreEntry { slot: *slot, version, expires, size, own, account, replaced: None })
    }

    fn take_out(&mut self, slot: &Slot<P>, held: &Held) {
        self.bytes -= held.size as u64;
        self.leave(held.account, held.size);
        if let Some((fair, least)) = &mut self.fair {
            fair.take_back((held.size as u64).max(*least), held.expires);
        }
        self.spare.remove(&(held.expires, *slot));
    }

    /// One more of the replicas that this copy is compared with has it; says whether all of them have. If `quorum` do,
    /// and this node should not have it, it is one that makes room for others.
    pub(super) fn confirm(&mut self, slot: &Slot<P>, version: Version, quorum: usize) -> bool {
        let Some(held) = self.held.get_mut(slot).filter(|held| held.version == version) else { return false };
        if held.unconfirmed == 0 {
            return false;
        }
        held.confirmations += 1;
        held.unconfirmed -= 1;
        if held.surplus && !held.own && held.confirmations >= quorum {
            self.spare.insert((held.expires, *slot));
        }
        if held.unconfirmed > 0 {
            return false;
        }
        held.confirmed = held.comparing;
        true
    }

    /// It is this node's to keep again, or who should have it is not known: it is no spare copy.
    pub(super) fn is_needed(&mut self, slot: &Slot<P>) {
        if let Some(held) = self.held.get(slot) {
            self.spare.remove(&(held.expires, *slot));
        }
    }
}
