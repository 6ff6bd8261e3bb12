//! The contacts of a Kademlia node, and who may become one.
//!
//! They stand in one list in order of their distance, so that a bucket is a run of it, and the neighbourhood its
//! beginning. A bucket has room for k that live; a newcomer to a full one waits as a replacement until a contact is
//! silent (§4.1), and has to wait again if that one is heard from, since whoever has been here long will likely stay
//! (§2.2). The k nearest (or more, S/Kademlia §4.2) are contacts in any case: this is what the splits
//! of §2.4 come to.

use std::ops::Range;
use std::time::Duration;

use p2p_core::{Key, Keyed, Rng, Time};

use super::seats::{Contact, Seat, Seats, Times};
use crate::spot::{self, Xor};
use crate::subnets::SubnetLimits;

/// A peer and how far it is by exclusive or.
pub(super) type Spot<P> = spot::Spot<P, Xor>;

/// A contact is given up when it has been silent this often in a row (§4.1: messages get lost). Not if all others are
/// silent too: a node whose own line is down must not forget everybody.
const GIVE_UP: u8 = 5;
/// When all contacts have been silent this often, they are gone, or this node is.
const ALL_GONE: u8 = GIVE_UP + 1;

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
    contacts: Seats<P>,
    /// In waiting, by distance.
    waiting: Seats<P>,
    /// For each level, when something in its range was last looked up. A level that it does not reach has split from
    /// its last.
    looked_up: Vec<Time>,
    /// The neighbourhood is not the same as when last asked.
    changed: bool,
}

impl<P: Keyed> Buckets<P> {
    pub(super) fn new(me: Key, k: usize, spares: usize, bits: u8) -> Buckets<P> {
        let (contacts, waiting, looked_up) = (Seats::new(), Seats::new(), Vec::new());
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
    pub(super) fn contacts(&self) -> impl ExactSizeIterator<Item = Contact<P>> {
        (0..self.contacts.all().len()).map(|at| self.contacts.get(at))
    }

    pub(super) fn warm(&self) {
        self.contacts.warm();
    }

    pub(super) fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// The places of a peer's bucket in a list: of those that share as many bits with this node, those whose next b bits
    /// are the same.
    fn run(&self, list: &Seats<P>, spot: &Spot<P>) -> Range<usize> {
        let (bits, zeros) = (usize::from(self.bits), spot.leading_zeros(&self.me));
        let level = list.level(zeros);
        if bits == 1 {
            return level;
        }
        let digit = |spot: &Spot<P>| spot.digit(zeros / bits, bits, &self.me);
        let seats = &list.all()[level.clone()];
        let from = seats.partition_point(|seat| digit(&seat.spot) < digit(spot));
        let len = seats[from..].partition_point(|seat| digit(&seat.spot) == digit(spot));
        level.start + from..level.start + from + len
    }

    /// A peer has been heard from.
    pub(super) fn heard(&mut self, now: Time, peer: P) {
        let spot = Spot::new(&self.me, peer);
        if spot.is_keeper(&self.me) {
            return;
        }
        match self.find(&spot) {
            Ok(at) => {
                if self.contacts.hear(at, now) {
                    self.changed |= self.is_near(at);
                    self.trim(&spot);
                }
            }
            Err(at) => {
                let since = self.find_waiting(&spot).map_or(now, |at| self.waiting.times(at).since);
                let times = Times { since, seen: now };
                self.admit(at, Contact { seat: Seat { spot, silent: 0 }, times });
            }
        }
    }

    fn find(&self, spot: &Spot<P>) -> Result<usize, usize> {
        self.contacts.find(spot, &self.me)
    }

    fn find_waiting(&self, spot: &Spot<P>) -> Option<usize> {
        self.waiting.find(spot, &self.me).ok()
    }

    /// Whether place `at` is among the nearest that are not silent.
    fn is_near(&self, at: usize) -> bool {
        at < self.near || living(&self.contacts.all()[..at]).take(self.near).count() < self.near
    }

    /// Whether there are few enough contacts of a peer's subnet.
    fn fits(&self, spot: &Spot<P>) -> bool {
        self.subnets.is_none_or(|limits| {
            let all = self.contacts.all();
            let peers = |seats: &[Seat<P>]| -> Vec<P> { seats.iter().map(|seat| seat.spot.peer).collect() };
            limits.admit(spot.peer, peers(all), peers(&all[self.run(&self.contacts, spot)]))
        })
    }

    fn admit(&mut self, at: usize, contact: Contact<P>) {
        let spot = contact.seat.spot;
        let fits = self.fits(&spot);
        if fits && self.is_near(at) {
            self.unwait(&spot);
            self.contacts.insert(at, contact, &self.me);
            self.changed = true;
            return self.trim(&spot);
        }
        match fits && self.has_room(&spot) {
            true => {
                self.unwait(&spot);
                self.contacts.insert(at, contact, &self.me);
            }
            false => self.wait(contact),
        }
    }

    /// Whether fewer than k in a peer's bucket live. The silent keep their places beside them, up to k more.
    fn has_room(&self, spot: &Spot<P>) -> bool {
        let bucket = &self.contacts.all()[self.run(&self.contacts, spot)];
        bucket.len() < self.k || bucket.len() < 2 * self.k && living(bucket).count() < self.k
    }

    /// One more lives. If it is among the nearest, one is not any more: where more than k live in that one's bucket
    /// whoever came last of those that are not among the nearest has to wait. If it is not, the same in its own.
    fn trim(&mut self, spot: &Spot<P>) {
        let Some(last) = self.contacts.alive().nth(self.near).map(|seat| seat.spot) else { return };
        let further = if spot.is_before(&last, &self.me) { &last } else { spot };
        let run = self.run(&self.contacts, further);
        let seats = self.contacts.all();
        let (Ok(place) | Err(place)) = self.find(&last);
        let beyond = (place.max(run.start)..run.end).filter(|&i| seats[i].is_alive());
        if living(&seats[run]).count() > self.k
            && let Some(newest) = beyond.max_by_key(|&i| self.contacts.times(i).since)
        {
            let contact = self.contacts.remove(newest, &self.me);
            self.wait(contact);
        }
    }

    /// Notes a replacement; where too many wait, the one that was heard from longest ago is forgotten.
    fn wait(&mut self, contact: Contact<P>) {
        let spot = contact.seat.spot;
        if let Some(at) = self.find_waiting(&spot) {
            self.waiting.set_times(at, contact.times);
            return;
        }
        let run = self.run(&self.waiting, &spot);
        let others = || self.waiting.all()[run.clone()].iter().map(|seat| seat.spot.peer);
        if self.subnets.is_some_and(|limits| !limits.admit(spot.peer, [], others())) {
            return;
        }
        if run.len() >= self.spares
            && let Some(oldest) = run.min_by_key(|&i| self.waiting.times(i).seen)
        {
            self.waiting.remove(oldest, &self.me);
        }
        if self.spares > 0
            && let Err(at) = self.waiting.find(&spot, &self.me)
        {
            self.waiting.insert(at, contact, &self.me);
        }
    }

    fn unwait(&mut self, spot: &Spot<P>) {
        if let Some(at) = self.find_waiting(spot) {
            self.waiting.remove(at, &self.me);
        }
    }

    /// A peer did not answer: one of those that wait stands in for it. The contact that is lost, if one is.
    /// Silences less than `apart` from each other are one: several questions met the same stall, or the same death.
    pub(super) fn silent(&mut self, now: Time, apart: Duration, peer: P) -> Option<P> {
        let spot = Spot::new(&self.me, peer);
        self.unwait(&spot);
        let at = self.find(&spot).ok()?;
        let was_alive = self.contacts.all()[at].is_alive();
        if !was_alive && now - self.contacts.times(at).seen < apart {
            return None;
        }
        self.changed |= was_alive && self.is_near(at);
        let given_up = self.contacts.miss(at, now) >= GIVE_UP && self.contacts.alive().next().is_some();
        if given_up {
            self.contacts.remove(at, &self.me);
        }
        let run = self.run(&self.waiting, &spot);
        let fits = |&i: &usize| self.fits(&self.waiting.all()[i].spot);
        if self.has_room(&spot)
            && let Some(latest) = run.filter(fits).max_by_key(|&i| self.waiting.times(i).seen)
        {
            let replacement = self.waiting.remove(latest, &self.me);
            if let Err(at) = self.find(&replacement.seat.spot) {
                self.contacts.insert(at, replacement, &self.me);
            }
        }
        given_up.then_some(peer)
    }

    /// Whether there are contacts, and all have been silent for long.
    pub(super) fn are_all_gone(&self) -> bool {
        let all = self.contacts.all();
        !all.is_empty() && all.iter().all(|seat| seat.silent >= ALL_GONE)
    }

    /// Forgets all contacts, and names them, the nearest last.
    pub(super) fn clear(&mut self) -> impl Iterator<Item = P> + use<P> {
        self.changed = true;
        self.waiting = Seats::new();
        let contacts = std::mem::replace(&mut self.contacts, Seats::new());
        let peers: Vec<P> = contacts.all().iter().rev().map(|seat| seat.spot.peer).collect();
        peers.into_iter()
    }

    /// The contacts closest to a key, as seen from there, some left out and the silent last resort.
    pub(super) fn closest(&self, key: &Key, n: usize, avoid: &[P]) -> Vec<Spot<P>> {
        let target = self.me.xor(key);
        let own = target.leading_zeros();
        // Those that differ from this node first where the key does; then those that agree with it there; then
        // those that differ earlier, the later the nearer.
        let mut found: Vec<Spot<P>> = Vec::with_capacity(n);
        let same = self.contacts.level(own);
        let nearer = 0..same.start;
        let rest = (0..own.min(self.contacts.levels())).rev().map(|level| self.contacts.level(level));
        for group in [same, nearer].into_iter().chain(rest) {
            let begin = found.len();
            let usable = living(&self.contacts.all()[group]).filter(|seat| !avoid.contains(&seat.spot.peer));
            usable.for_each(|seat| keep_nearest(&mut found, begin, n, seat.spot.seen_from(&target), key));
            if found.len() >= n {
                return found;
            }
        }
        if found.is_empty() && avoid.is_empty() {
            // All have been silent: it may be this node's line.
            let all = self.contacts.all().iter();
            all.for_each(|seat| keep_nearest(&mut found, 0, n, seat.spot.seen_from(&target), key));
        }
        found
    }

    /// The bits in which some contact differs from this node first.
    pub(super) fn occupied(&self) -> Key {
        let levels = (0..self.contacts.levels().min(Key::<32>::BITS))
            .filter(|&level| living(&self.contacts.all()[self.contacts.level(level)]).next().is_some());
        levels.fold(Key::ZERO, |mask, level| mask.with_bit(level, true))
    }

    /// The bits shared with the nearest contact.
    pub(super) fn deepest(&self) -> Option<usize> {
        self.contacts.levels().checked_sub(1)
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
        self.contacts.alive().take(self.near).map(|seat| seat.spot.peer).collect()
    }

    /// How many they are, and how far the last of them is.
    pub(super) fn neighbourhood(&self) -> Option<(usize, Key)> {
        let (at, last) = self.contacts.alive().take(self.near).enumerate().last()?;
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
        let seats = self.contacts.all();
        let seen = |&i: &usize| self.contacts.times(i).seen;
        let old = |i: &usize| now - seen(i) >= age;
        let alive = |i: &usize| seats[*i].is_alive();
        let near = (0..seats.len()).filter(alive).take(self.near).filter(old);
        let mut doubtful: Vec<usize> = self.contacts.silent().chain(near).collect();
        let mut waiting = self.waiting.all();
        while let Some(first) = waiting.first() {
            waiting = &waiting[self.run(&self.waiting, &first.spot).len()..];
            let bucket = self.run(&self.contacts, &first.spot);
            doubtful.extend(bucket.filter(alive).min_by_key(seen).filter(old));
        }
        doubtful.sort_unstable();
        doubtful.dedup();
        doubtful.into_iter().map(|i| seats[i].spot.peer).collect()
    }

    /// Puts contacts in as they are, for a network that is at rest.
    pub(super) fn fill(&mut self, contacts: impl Iterator<Item = Spot<P>>) {
        let times = Times { since: Time::ZERO, seen: Time::ZERO };
        let contacts = contacts.map(|spot| Contact { seat: Seat { spot, silent: 0 }, times });
        if self.subnets.is_none() {
            return self.contacts.fill(contacts.collect(), &self.me);
        }
        for contact in contacts {
            if let Err(at) = self.find(&contact.seat.spot) {
                self.admit(at, contact);
            }
        }
        self.waiting = Seats::new();
    }

    /// Puts one more in, if it fits; says whether there was room for it but for its subnet.
    pub(super) fn fill_one(&mut self, spot: Spot<P>) -> bool {
        let Err(at) = self.find(&spot) else { return true };
        let has_room = self.has_room(&spot) || self.is_near(at);
        if has_room {
            let times = Times { since: Time::ZERO, seen: Time::ZERO };
            self.admit(at, Contact { seat: Seat { spot, silent: 0 }, times });
            self.waiting = Seats::new();
        }
        has_room
    }

    /// Whether enough contacts are nearer than a peer.
    pub(super) fn is_beyond_the_nearest(&self, spot: &Spot<P>) -> bool {
        let (Ok(at) | Err(at)) = self.find(spot);
        at >= self.near
    }
}

/// Those that are not silent.
fn living<P>(seats: &[Seat<P>]) -> impl Iterator<Item = &Seat<P>> {
    seats.iter().filter(|seat| seat.is_alive())
}

/// Puts a peer in its place among the at most `n` nearest to a key, of which those from `begin` on are in question.
fn keep_nearest<P: Keyed>(found: &mut Vec<Spot<P>>, begin: usize, n: usize, spot: Spot<P>, key: &Key) {
    if found.len() >= n {
        if !found[begin..].last().is_some_and(|last| spot.is_before(last, key)) {
            return;
        }
        found.pop();
    }
    let at = begin + found[begin..].partition_point(|other| other.is_before(&spot, key));
    found.insert(at, spot);
}
