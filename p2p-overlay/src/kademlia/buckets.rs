//! The contacts of a Kademlia node, and who may become one.
//!
//! They stand in one list in order of their distance, so that a bucket is a run of it, and the neighbourhood its
//! beginning. A bucket has room for k that live; a newcomer to a full one waits as a replacement until a contact is
//! silent (§4.1), and has to wait again if that one is heard from, since whoever has been here long will likely stay
//! (§2.2). The k nearest (or more, S/Kademlia §4.2) are contacts in any case: this is what the splits
//! of §2.4 come to.

use std::time::Duration;

use p2p_core::{Key, Keyed, Rng, Time};

use crate::spot::{self, Xor};
use crate::subnets::SubnetLimits;

/// A peer and how far it is by exclusive or.
pub(super) type Spot<P> = spot::Spot<P, Xor>;

/// A peer that has been heard of from itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Contact<P> {
    pub(super) spot: Spot<P>,
    /// Since when it has been known.
    pub(super) since: Time,
    /// When it was last heard from; while it is silent, when that was last counted.
    pub(super) seen: Time,
    /// How often it has been silent since it was heard from.
    pub(super) silent: u8,
}

/// A contact is given up when it has been silent this often in a row (§4.1: messages get lost). Not if all others are
/// silent too: a node whose own line is down must not forget everybody.
const GIVE_UP: u8 = 5;
/// When all contacts have been silent this often, they are gone, or this node is.
const ALL_GONE: u8 = GIVE_UP + 1;

/// Of so many contacts one is read ahead: those that a binary search begins with.
const STRIDE: usize = 16;

/// See the module's text.
#[derive(Clone, Debug)]
pub(super) struct Buckets<P> {
    me: Key,
    k: usize,
    /// How many of the nearest are contacts in any case.
    near: usize,
    spares: usize,
    bits: u8,
    subnets: Option<SubnetLimits>,
    /// By distance.
    contacts: Vec<Contact<P>>,
    /// In waiting, by distance.
    waiting: Vec<Contact<P>>,
    /// For each level, when something in its range was last looked up. A level that it does not reach has split from
    /// its last.
    looked_up: Vec<Time>,
    /// The neighbourhood is not the same as when last asked.
    changed: bool,
}

/// A run of one level (the bits shared with this node, divided by b) and one digit.
type Bucket = (usize, u8);

impl<P: Keyed> Buckets<P> {
    pub(super) fn new(me: Key, k: usize, spares: usize, bits: u8) -> Buckets<P> {
        let (contacts, waiting, looked_up) = Default::default();
        let (near, subnets) = (k, None);
        Buckets { me, k, near, spares, bits, subnets, contacts, waiting, looked_up, changed: false }
    }

    /// With so many in the neighbourhood, and of each subnet.
    pub(super) fn with(self, near: usize, subnets: Option<SubnetLimits>) -> Buckets<P> {
        Buckets { near, subnets, ..self }
    }

    pub(super) fn me(&self) -> Key {
        self.me
    }

    /// The nearest first.
    pub(super) fn contacts(&self) -> impl ExactSizeIterator<Item = &Contact<P>> {
        self.contacts.iter()
    }

    /// Where a search among the contacts looks first.
    pub(super) fn warm(&self) -> u64 {
        let seen = self.contacts.iter().step_by(STRIDE).map(|contact| contact.seen.as_nanos());
        seen.fold((self.waiting.len() ^ self.looked_up.len()) as u64, |sum, seen| sum ^ seen)
    }

    pub(super) fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    fn bucket(&self, spot: &Spot<P>) -> Bucket {
        let bits = self.bits.into();
        let level = spot.leading_zeros(&self.me) / bits;
        (level, spot.digit(level, bits, &self.me))
    }

    /// The places of a bucket in a list that is sorted by distance: the nearer a bucket, the higher its level and the
    /// lower its digit.
    fn run(&self, list: &[Contact<P>], bucket: Bucket) -> std::ops::Range<usize> {
        let order = |contact: &Contact<P>| {
            let (level, digit) = self.bucket(&contact.spot);
            (std::cmp::Reverse(level), digit)
        };
        let wanted = (std::cmp::Reverse(bucket.0), bucket.1);
        let from = list.partition_point(|contact| order(contact) < wanted);
        from..from + list[from..].partition_point(|contact| order(contact) == wanted)
    }

    /// A peer has been heard from.
    pub(super) fn heard(&mut self, now: Time, peer: P) {
        let spot = Spot::new(&self.me, peer);
        if spot.is_keeper(&self.me) {
            return;
        }
        match self.find(&spot) {
            Ok(at) => {
                self.changed |= self.contacts[at].silent > 0 && self.is_near(at);
                let contact = &mut self.contacts[at];
                contact.seen = now;
                if std::mem::take(&mut contact.silent) > 0 {
                    self.trim(&spot);
                }
            }
            Err(at) => {
                let since = self.find_waiting(&spot).map_or(now, |at| self.waiting[at].since);
                self.admit(at, Contact { spot, since, seen: now, silent: 0 });
            }
        }
    }

    fn find(&self, spot: &Spot<P>) -> Result<usize, usize> {
        self.contacts.binary_search_by(|contact| contact.spot.order(spot, &self.me))
    }

    fn find_waiting(&self, spot: &Spot<P>) -> Option<usize> {
        self.waiting.binary_search_by(|contact| contact.spot.order(spot, &self.me)).ok()
    }

    /// Where in one of the lists a peer stands, or would.
    fn place(&self, list: &[Contact<P>], spot: &Spot<P>) -> usize {
        list.partition_point(|contact| contact.spot.is_before(spot, &self.me))
    }

    /// Whether place `at` is among the nearest that are not silent.
    fn is_near(&self, at: usize) -> bool {
        let alive = |at: usize| self.contacts[..at].iter().filter(|contact| contact.silent == 0);
        at < self.near || alive(at).take(self.near).count() < self.near
    }

    /// Whether there are few enough contacts of a peer's subnet.
    fn fits(&self, spot: &Spot<P>) -> bool {
        self.subnets.is_none_or(|limits| {
            let peers = |contacts: &[Contact<P>]| contacts.iter().map(|contact| contact.spot.peer).collect();
            let (all, bucket): (Vec<P>, Vec<P>) =
                (peers(&self.contacts), peers(&self.contacts[self.run(&self.contacts, self.bucket(spot))]));
            limits.admit(spot.peer, all, bucket)
        })
    }

    fn admit(&mut self, at: usize, contact: Contact<P>) {
        let bucket = self.bucket(&contact.spot);
        let fits = self.fits(&contact.spot);
        if fits && self.is_near(at) {
            self.unwait(&contact.spot);
            self.contacts.insert(at, contact);
            self.changed = true;
            return self.trim(&contact.spot);
        }
        match fits && self.has_room(bucket) {
            true => {
                self.unwait(&contact.spot);
                self.contacts.insert(at, contact);
            }
            false => self.wait(contact, bucket),
        }
    }

    /// Whether fewer than k in a bucket live. The silent keep their places beside them, up to k more.
    fn has_room(&self, bucket: Bucket) -> bool {
        let run = self.run(&self.contacts, bucket);
        run.len() < self.k || run.len() < 2 * self.k && self.living(run) < self.k
    }

    fn living(&self, run: std::ops::Range<usize>) -> usize {
        self.contacts[run].iter().filter(|contact| contact.silent == 0).count()
    }

    /// One more lives. If it is among the nearest, one is not any more: where more than k live in that one's bucket
    /// whoever came last of those that are not among the nearest has to wait. If it is not, the same in its own.
    fn trim(&mut self, living: &Spot<P>) {
        let mut alive = self.contacts.iter().filter(|contact| contact.silent == 0);
        let Some(last) = alive.nth(self.near) else { return };
        let further = if living.is_before(&last.spot, &self.me) { &last.spot } else { living };
        let run = self.run(&self.contacts, self.bucket(further));
        let beyond = self.place(&self.contacts, &last.spot).max(run.start);
        let alive = (beyond..run.end).filter(|&i| self.contacts[i].silent == 0);
        if self.living(run.clone()) > self.k
            && let Some(newest) = alive.max_by_key(|&i| self.contacts[i].since)
        {
            let contact = self.contacts.remove(newest);
            self.wait(contact, self.bucket(&contact.spot));
        }
    }

    /// Notes a replacement; where too many wait, the one that was heard from longest ago is forgotten.
    fn wait(&mut self, contact: Contact<P>, bucket: Bucket) {
        self.unwait(&contact.spot);
        let run = self.run(&self.waiting, bucket);
        let others = || self.waiting[run.clone()].iter().map(|contact| contact.spot.peer);
        if self.subnets.is_some_and(|limits| !limits.admit(contact.spot.peer, [], others())) {
            return;
        }
        if run.len() >= self.spares
            && let Some(oldest) = run.min_by_key(|&i| self.waiting[i].seen)
        {
            self.waiting.remove(oldest);
        }
        if self.spares > 0 {
            let at = self.place(&self.waiting, &contact.spot);
            self.waiting.insert(at, contact);
        }
    }

    fn unwait(&mut self, spot: &Spot<P>) {
        if let Some(at) = self.find_waiting(spot) {
            self.waiting.remove(at);
        }
    }

    /// A peer did not answer: one of those that wait stands in for it. The contact that is lost, if one is.
    /// Silences less than `apart` from each other are one: several questions met the same stall, or the same death.
    pub(super) fn silent(&mut self, now: Time, apart: Duration, peer: P) -> Option<P> {
        let spot = Spot::new(&self.me, peer);
        self.unwait(&spot);
        let at = self.find(&spot).ok()?;
        if self.contacts[at].silent > 0 && now - self.contacts[at].seen < apart {
            return None;
        }
        self.changed |= self.contacts[at].silent == 0 && self.is_near(at);
        let contact = &mut self.contacts[at];
        contact.silent = contact.silent.saturating_add(1);
        contact.seen = now;
        let given_up = contact.silent >= GIVE_UP && self.contacts.iter().any(|contact| contact.silent == 0);
        if given_up {
            self.contacts.remove(at);
        }
        let bucket = self.bucket(&spot);
        let run = self.run(&self.waiting, bucket);
        if self.has_room(bucket)
            && let Some(latest) =
                run.filter(|&i| self.fits(&self.waiting[i].spot)).max_by_key(|&i| self.waiting[i].seen)
        {
            let replacement = self.waiting.remove(latest);
            let at = self.place(&self.contacts, &replacement.spot);
            self.contacts.insert(at, replacement);
        }
        given_up.then_some(peer)
    }

    /// Whether there are contacts, and all have been silent for long.
    pub(super) fn are_all_gone(&self) -> bool {
        !self.contacts.is_empty() && self.contacts.iter().all(|contact| contact.silent >= ALL_GONE)
    }

    /// Forgets all contacts, and names them, the nearest last.
    pub(super) fn clear(&mut self) -> impl Iterator<Item = P> + use<P> {
        self.changed = true;
        self.waiting.clear();
        std::mem::take(&mut self.contacts).into_iter().rev().map(|contact| contact.spot.peer)
    }

    /// The contacts closest to a key, as seen from there, some left out and the silent last resort.
    pub(super) fn closest(&self, key: &Key, n: usize, avoid: &[P]) -> Vec<Spot<P>> {
        let target = self.me.xor(key);
        let level = target.leading_zeros();
        let from = self.contacts.partition_point(|contact| self.level(contact) > level);
        let upto = from + self.contacts[from..].partition_point(|contact| self.level(contact) == level);
        let sort = |found: &mut [Spot<P>]| found.sort_unstable_by(|a, b| a.order(b, key));
        // Those that differ from this node first where the key does; then those that agree with it there; then
        // those that differ earlier, the later the nearer.
        let mut found: Vec<Spot<P>> = Vec::with_capacity(n);
        let rest = self.contacts[upto..].chunk_by(|a, b| self.level(a) == self.level(b));
        for group in [&self.contacts[from..upto], &self.contacts[..from]].into_iter().chain(rest) {
            let begin = found.len();
            let usable =
                group.iter().filter(|contact| contact.silent == 0 && !avoid.contains(&contact.spot.peer));
            found.extend(usable.map(|contact| contact.spot.seen_from(&target)));
            sort(&mut found[begin..]);
            if found.len() >= n {
                found.truncate(n);
                return found;
            }
        }
        if found.is_empty() && avoid.is_empty() {
            // All have been silent: it may be this node's line.
            found.extend(self.contacts.iter().map(|contact| contact.spot.seen_from(&target)));
            sort(&mut found);
            found.truncate(n);
        }
        found
    }

    /// The bit in which a contact differs from this node first.
    fn level(&self, contact: &Contact<P>) -> usize {
        contact.spot.leading_zeros(&self.me)
    }

    /// The bits in which some contact differs from this node first.
    pub(super) fn occupied(&self) -> Key {
        let alive = self.contacts.iter().filter(|contact| contact.silent == 0);
        alive.fold(Key::ZERO, |mask, contact| match self.level(contact) {
            level @ 0..256 => mask.with_bit(level, true),
            _ => mask,
        })
    }

    /// The bits shared with the nearest contact.
    pub(super) fn deepest(&self) -> Option<usize> {
        self.contacts.first().map(|contact| self.level(contact))
    }

    // ---- freshness

    /// Something at this distance was looked up.
    pub(super) fn looked_up(&mut self, now: Time, key: &Key) {
        let level = self.me.xor(key).leading_zeros();
        if level < Key::<32>::BITS {
            // Levels that there are already have not split from this one now.
            self.split_to(self.deepest().unwrap_or(0).max(level));
            self.looked_up[level] = now;
        }
    }

    /// Has a level among those of which it is known when they were looked up: until it split, what was looked up in the
    /// one before it was in its range.
    fn split_to(&mut self, level: usize) {
        let last = self.looked_up.last().copied().unwrap_or(Time::ZERO);
        self.looked_up.resize(self.looked_up.len().max(level + 1), last);
    }

    /// The level in whose range nothing was looked up for longest, if that is `age` ago.
    pub(super) fn stalest(&mut self, now: Time, age: Duration) -> Option<usize> {
        let deepest = self.deepest()?;
        self.split_to(deepest);
        let stalest = (0..=deepest).min_by_key(|&level| self.looked_up[level])?;
        (now - self.looked_up[stalest] >= age).then_some(stalest)
    }

    /// A random key that shares this many bits with this node, and not one more.
    pub(super) fn key_at(&self, level: usize, rng: &mut Rng) -> Key {
        let mut key = rng.key();
        for bit in 0..level {
            key = key.with_bit(bit, self.me.bit(bit));
        }
        key.with_bit(level, !self.me.bit(level))
    }

    /// The nearest that are not silent.
    pub(super) fn near(&self) -> Vec<P> {
        let alive = self.contacts.iter().filter(|contact| contact.silent == 0);
        alive.take(self.near).map(|contact| contact.spot.peer).collect()
    }

    /// How many they are, and how far the last of them is.
    pub(super) fn neighbourhood(&self) -> Option<(usize, Key)> {
        let alive = self.contacts.iter().filter(|contact| contact.silent == 0).take(self.near);
        let (at, last) = alive.enumerate().last()?;
        Some((at + 1, last.spot.distance(&self.me)))
    }

    /// How many are kept of the nearest in any case.
    pub(super) fn most_near(&self) -> usize {
        self.near
    }

    /// Whether a peer is not a contact, but would be one of the nearest.
    pub(super) fn misses(&self, peer: P) -> bool {
        let spot = Spot::new(&self.me, peer);
        self.find(&spot).is_err_and(|at| self.is_near(at)) && self.fits(&spot)
    }

    /// Contacts whose life is in doubt: whoever was silent; of those not heard from for `age` the nearest, and in
    /// each bucket for which somebody waits the one that was heard from longest ago.
    pub(super) fn doubtful(&self, now: Time, age: Duration) -> Vec<P> {
        let old = |contact: &&Contact<P>| now - contact.seen >= age;
        let silent = self.contacts.iter().filter(|contact| contact.silent > 0);
        let alive = self.contacts.iter().filter(|contact| contact.silent == 0);
        let mut doubtful: Vec<&Contact<P>> = silent.chain(alive.take(self.near).filter(old)).collect();
        for bucket in self.waiting.chunk_by(|a, b| self.bucket(&a.spot) == self.bucket(&b.spot)) {
            let run = self.run(&self.contacts, self.bucket(&bucket[0].spot));
            let alive = self.contacts[run].iter().filter(|contact| contact.silent == 0);
            doubtful.extend(alive.min_by_key(|contact| contact.seen).filter(old));
        }
        doubtful.sort_unstable_by(|a, b| a.spot.order(&b.spot, &self.me));
        doubtful.dedup();
        doubtful.into_iter().map(|contact| contact.spot.peer).collect()
    }

    /// Puts contacts in as they are, for a network that is at rest.
    pub(super) fn fill(&mut self, mut contacts: Vec<Contact<P>>) {
        if self.subnets.is_some() {
            for contact in contacts {
                if let Err(at) = self.find(&contact.spot) {
                    self.admit(at, contact);
                }
            }
            return self.waiting.clear();
        }
        contacts.sort_unstable_by(|a, b| a.spot.order(&b.spot, &self.me));
        contacts.dedup_by_key(|contact| contact.spot.peer);
        self.contacts = contacts;
    }
}
