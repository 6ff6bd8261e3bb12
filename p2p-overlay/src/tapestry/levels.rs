//! The neighbours of a Tapestry node, by level and digit (JSAC §III-A).
//!
//! Whoever shares its first l digits with this node and differs in the next, which is d, belongs in slot (l, d). A slot
//! keeps the nearest it has heard of: the primary and two backups. All stand in one list, ordered by level, digit and
//! rank, so that a row is a run of it and a slot a run of that. The node itself fills its own digit's slot at each
//! level; it is not in the list.

use std::cmp::Reverse;
use std::time::Duration;

use p2p_core::{Key, Keyed, Proximity, Suspicion, prefetch};

use crate::subnets::SubnetLimits;

/// How many digits a key has; each is one level.
pub(super) const LEVELS: usize = Key::<32>::BITS / 4;
/// How many neighbours a slot keeps: the primary and two backups (JSAC §III-B).
pub(super) const KEPT: usize = 3;

/// A peer in a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Neighbour<P> {
    pub(super) peer: P,
    pub(super) proximity: Proximity,
    level: u8,
    digit: u8,
    /// How often it has been silent since it was last heard from.
    silent: u8,
    /// It takes part. Who is still joining is known, but nothing goes by it.
    pub(super) joined: bool,
}

impl<P> Neighbour<P> {
    /// Which stands first in a slot.
    fn rank(&self) -> (bool, bool, Proximity) {
        (!self.joined, self.silent > 0, self.proximity)
    }

    /// The slot that it is in.
    pub(super) fn place(&self) -> (u8, u8) {
        (self.level, self.digit)
    }

    /// It was asked in vain, and nothing has been heard from it since.
    pub(super) fn is_doubtful(&self) -> bool {
        self.silent > 0
    }
}

/// What a peer's silence came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Silence {
    /// It is not in the table.
    Stranger,
    /// It may be dead: it is to be asked again.
    Doubtful,
    /// It is dead, and has been left out. If nobody is left in its slot, that is of this level.
    Dead { hole: Option<u8> },
}

/// See the module's text. At most 64 levels of 15 slots of three.
#[derive(Clone, Debug)]
pub(super) struct Levels<P> {
    me: Key,
    subnets: Option<SubnetLimits>,
    slots: Vec<Neighbour<P>>,
    changed: bool,
}

impl<P: Keyed> Levels<P> {
    pub(super) fn new(me: Key, subnets: Option<SubnetLimits>) -> Levels<P> {
        Levels { me, subnets, slots: Vec::new(), changed: false }
    }

    /// All neighbours, by level and digit; each slot's primary first.
    pub(super) fn all(&self) -> &[Neighbour<P>] {
        &self.slots
    }

    /// How many levels have anybody, those without anybody before them counted too.
    pub(super) fn depth(&self) -> usize {
        self.slots.last().map_or(0, |last| usize::from(last.level) + 1)
    }

    /// Everybody who shares this many digits with this node, or more.
    pub(super) fn sharing(&self, digits: usize) -> &[Neighbour<P>] {
        &self.slots[self.slots.partition_point(|other| usize::from(other.level) < digits)..]
    }

    /// One level.
    pub(super) fn row(&self, level: usize) -> &[Neighbour<P>] {
        let from = self.sharing(level);
        &from[..from.partition_point(|other| usize::from(other.level) == level)]
    }

    /// One slot, the primary first.
    pub(super) fn slot(&self, level: usize, digit: u8) -> &[Neighbour<P>] {
        slot(self.row(level), digit)
    }

    pub(super) fn find(&self, peer: P) -> Option<&Neighbour<P>> {
        self.position(peer).map(|at| &self.slots[at])
    }

    /// Goes through the list: searches would wait for one line of memory after the other.
    fn position(&self, peer: P) -> Option<usize> {
        self.slots.iter().position(|other| other.peer == peer)
    }

    /// Where a peer with this key belongs; nowhere, if that is this node's own key.
    fn place(&self, key: &Key) -> Option<(u8, u8)> {
        let level = self.me.common_prefix(key) / 4;
        (level < LEVELS).then(|| (level as u8, key.digit(level, 4)))
    }

    /// Whether a peer that is not in the table would be taken in, however far it is.
    pub(super) fn has_room(&self, peer: P) -> bool {
        let Some((level, digit)) = self.place(&peer.key()) else { return false };
        let held = self.slot(level.into(), digit).len();
        held < KEPT && (held == 0 || self.fits(level, peer))
    }

    /// Whether there are few enough of a peer's subnet, in the table and at a level.
    fn fits(&self, level: u8, peer: P) -> bool {
        self.subnets.is_none_or(|limits| {
            let peers = |some: &[Neighbour<P>]| some.iter().map(|other| other.peer).collect::<Vec<P>>();
            limits.admit(peer, peers(&self.slots), peers(self.row(level.into())))
        })
    }

    // ---- who comes and goes

    /// A peer takes part, and this is how far it is, if that was measured. Says whether it is in the table now.
    pub(super) fn hear(&mut self, peer: P, rtt: Option<Duration>) -> bool {
        let proximity = rtt.map_or(Proximity::UNKNOWN, Proximity::of);
        self.hear_again(peer, rtt)
            || self.place(&peer.key()).is_some_and(|(level, digit)| {
                self.insert(Neighbour { peer, proximity, level, digit, silent: 0, joined: true })
            })
    }

    /// The same of somebody who is in the table. Says whether it is.
    pub(super) fn hear_again(&mut self, peer: P, rtt: Option<Duration>) -> bool {
        let Some(at) = self.position(peer) else { return false };
        let known = &mut self.slots[at];
        let was_joined = std::mem::replace(&mut known.joined, true);
        known.silent = 0;
        if let Some(rtt) = rtt {
            known.proximity.sample(rtt);
        }
        self.changed |= !was_joined;
        self.sort(at);
        true
    }

    /// Somebody is joining. Says whether it is in the table now.
    pub(super) fn expect(&mut self, peer: P) -> bool {
        if self.find(peer).is_some() {
            return true;
        }
        self.place(&peer.key()).is_some_and(|(level, digit)| {
            self.insert(Neighbour {
                peer,
                proximity: Proximity::UNKNOWN,
                level,
                digit,
                silent: 0,
                joined: false,
            })
        })
    }

    /// Takes a peer into its slot, in the place of the last if the slot is full and that one is clearly worse.
    fn insert(&mut self, new: Neighbour<P>) -> bool {
        let fits = self.fits(new.level, new.peer);
        let slot = self.slot(new.level.into(), new.digit);
        if !fits && !slot.is_empty() {
            return false;
        }
        let last = slot.last().filter(|_| slot.len() >= KEPT).copied();
        if let Some(last) = last {
            // Measured anew, a distance is never quite the same.
            let micros = |one: &Neighbour<P>| one.proximity.micros().unwrap_or(u32::MAX);
            let nearer = micros(&new) < micros(&last) - micros(&last) / 4;
            if !new.joined || last.joined && !last.is_doubtful() && !nearer {
                return false;
            }
            self.slots.retain(|other| other.peer != last.peer);
        }
        let rank = (new.place(), new.rank());
        let at = self.slots.partition_point(|other| (other.place(), other.rank()) <= rank);
        if self.slots.len() == self.slots.capacity() {
            // Most tables stay as large as they are, and there may be a hundred thousand.
            self.slots.reserve_exact(1 + self.slots.len() / 8);
        }
        self.slots.insert(at, new);
        self.changed = true;
        if self.subnets.is_some() && fits && new.joined {
            // Whoever is too many was here for want of another.
            let held: Vec<P> =
                self.slot(new.level.into(), new.digit).iter().map(|other| other.peer).collect();
            for peer in held {
                if peer != new.peer && !self.fits(new.level, peer) {
                    self.slots.retain(|other| other.peer != peer);
                }
            }
        }
        true
    }

    /// Sorts the slot in which somebody stands.
    fn sort(&mut self, at: usize) {
        let place = self.slots[at].place();
        let is_of_slot = |other: &&Neighbour<P>| other.place() == place;
        let from = at - self.slots[..at].iter().rev().take_while(is_of_slot).count();
        let to = at + self.slots[at..].iter().take_while(is_of_slot).count();
        let slot = &mut self.slots[from..to];
        let primary = slot[0].peer;
        slot.sort_by_key(Neighbour::rank);
        self.changed |= slot[0].peer != primary;
    }

    /// A peer did not answer. As often in a row as it takes, it is dead.
    pub(super) fn silent(&mut self, peer: P) -> Silence {
        let Some(at) = self.position(peer) else {
            return Silence::Stranger;
        };
        let known = &mut self.slots[at];
        known.silent += 1;
        let (level, digit) = known.place();
        if known.joined && u32::from(known.silent) < Suspicion::DEAD_AFTER {
            self.sort(at);
            return Silence::Doubtful;
        }
        self.slots.remove(at);
        self.changed = true;
        Silence::Dead { hole: self.slot(level.into(), digit).is_empty().then_some(level) }
    }

    /// Takes over what was computed, in any order.
    pub(super) fn fill(&mut self, peers: impl IntoIterator<Item = (Key, P)>) {
        let all = peers.into_iter().filter_map(|(key, peer)| {
            let (level, digit) = self.place(&key)?;
            Some(Neighbour { peer, proximity: Proximity::UNKNOWN, level, digit, silent: 0, joined: true })
        });
        let all: Vec<Neighbour<P>> = all.collect();
        match self.subnets {
            None => self.slots = all,
            Some(_) => {
                for new in all {
                    self.insert(new);
                }
            }
        }
        self.slots.sort_by_key(Neighbour::place);
        self.slots.shrink_to_fit();
    }

    /// Whether anything has changed since this was last asked.
    pub(super) fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    // ---- what it says about a key

    /// Everybody who is nearer to a key than this node, the nearest first: at each level the slots from the key's digit
    /// on, around to this node's own; then, should those be empty, the next level (surrogate routing, JSAC §II-B).
    pub(super) fn nearer<'a>(
        &'a self,
        key: &'a Key,
        avoid: &'a [P],
    ) -> impl Iterator<Item = &'a Neighbour<P>> {
        let levels = (0..self.depth()).flat_map(move |level| {
            let (wanted, own) = (key.digit(level, 4), self.me.digit(level, 4));
            let row = if wanted == own { &[] } else { self.row(level) };
            (0..own.wrapping_sub(wanted) & 15).flat_map(move |step| slot(row, wanted.wrapping_add(step) & 15))
        });
        levels.filter(move |other| other.joined && !avoid.contains(&other.peer))
    }

    /// For each level the digits that lead on to the next: this node's own, and those before it that nobody has.
    pub(super) fn taken(&self) -> Vec<u16> {
        let taken = |level| {
            let row = self.row(level).iter().filter(|other| other.joined);
            let others = row.fold(0u16, |digits, other| digits | 1 << other.digit);
            let own = self.me.digit(level, 4);
            let digit = |back: u8| own.wrapping_sub(back) & 15;
            let free = (1..16).map(digit).take_while(|digit| others >> digit & 1 == 0);
            free.fold(1 << own, |digits, digit| digits | 1 << digit)
        };
        (0..self.depth()).map(taken).collect()
    }

    /// The nearest of some neighbours, by round trip; those of whom it is not known last.
    pub(super) fn nearest(among: &[Neighbour<P>], n: usize) -> Vec<P> {
        let mut joined: Vec<&Neighbour<P>> = among.iter().filter(|other| other.joined).collect();
        joined.sort_by_key(|other| (other.is_doubtful(), other.proximity, Reverse(other.level)));
        joined.into_iter().take(n).map(|other| other.peer).collect()
    }

    pub(super) fn warm(&self) {
        prefetch(&self.slots[..]);
    }
}

fn slot<P>(row: &[Neighbour<P>], digit: u8) -> &[Neighbour<P>] {
    let from = &row[row.partition_point(|other| other.digit < digit)..];
    &from[..from.partition_point(|other| other.digit == digit)]
}
