//! Contacts in order of their distance, laid out so that to find one reads little memory.
//!
//! Where there are many nodes, as in a simulation, each look into a table waits for memory. So what a search reads
//! stands apart from the times, and it is known where each level ends (the contacts that share so many leading bits with
//! the keeper): a search reads the seats of one level.

use std::ops::Range;

use p2p_core::{Key, Keyed, Time, prefetch};

use super::buckets::Spot;

/// A peer that has been heard of from itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Contact<P> {
    pub(super) seat: Seat<P>,
    pub(super) times: Times,
}

/// What a search reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seat<P> {
    pub(super) spot: Spot<P>,
    /// How often it has been silent since it was heard from.
    pub(super) silent: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Times {
    /// Since when it has been known.
    pub(super) since: Time,
    /// When it was last heard from; while it is silent, when that was last counted.
    pub(super) seen: Time,
}

impl<P> Seat<P> {
    pub(super) fn is_alive(&self) -> bool {
        self.silent == 0
    }
}

/// See the module's text.
#[derive(Clone, Debug)]
pub(super) struct Seats<P> {
    seats: Vec<Seat<P>>,
    times: Vec<Times>,
    /// How many are silent.
    silent: u32,
    /// How many share at least so many leading bits with the keeper: the nearer, the more.
    ends: Vec<u32>,
}

impl<P: Keyed> Seats<P> {
    pub(super) const fn new() -> Seats<P> {
        Seats { seats: Vec::new(), times: Vec::new(), silent: 0, ends: Vec::new() }
    }

    /// The nearest first.
    pub(super) fn all(&self) -> &[Seat<P>] {
        &self.seats
    }

    /// Those that are not silent.
    pub(super) fn alive(&self) -> impl Iterator<Item = &Seat<P>> {
        self.seats.iter().filter(|seat| seat.is_alive())
    }

    pub(super) fn get(&self, at: usize) -> Contact<P> {
        Contact { seat: self.seats[at], times: self.times[at] }
    }

    pub(super) fn times(&self, at: usize) -> Times {
        self.times[at]
    }

    /// The places of those that are silent.
    pub(super) fn silent(&self) -> impl Iterator<Item = usize> {
        // Mostly there are none, and then nothing is read.
        let all = (0..self.seats.len()).filter(|&at| !self.seats[at].is_alive());
        all.take(self.silent as usize)
    }

    /// It was heard from. Whether it was silent before.
    pub(super) fn hear(&mut self, at: usize, now: Time) -> bool {
        self.times[at].seen = now;
        let was_silent = std::mem::take(&mut self.seats[at].silent) > 0;
        self.silent -= u32::from(was_silent);
        was_silent
    }

    /// It was silent once more. How often it has been now.
    pub(super) fn miss(&mut self, at: usize, now: Time) -> u8 {
        self.times[at].seen = now;
        let Seat { silent, .. } = &mut self.seats[at];
        self.silent += u32::from(*silent == 0);
        *silent = silent.saturating_add(1);
        *silent
    }

    pub(super) fn set_times(&mut self, at: usize, times: Times) {
        self.times[at] = times;
    }

    /// The places of those that share this many leading bits with the keeper, and not one more.
    #[inline]
    pub(super) fn level(&self, bits: usize) -> Range<usize> {
        let end = |bits: usize| self.ends.get(bits).map_or(0, |end| *end as usize);
        end(bits + 1)..end(bits)
    }

    /// The bits shared with the nearest, and one more.
    pub(super) fn levels(&self) -> usize {
        self.ends.len()
    }

    /// Where a peer stands, or would.
    #[inline]
    pub(super) fn find(&self, spot: &Spot<P>, keeper: &Key) -> Result<usize, usize> {
        let level = self.level(spot.leading_zeros(keeper));
        let found = self.seats[level.clone()].binary_search_by(|seat| seat.spot.order(spot, keeper));
        found.map(|at| level.start + at).map_err(|at| level.start + at)
    }

    /// Puts a contact where [`Seats::find`] says that it would stand.
    pub(super) fn insert(&mut self, at: usize, contact: Contact<P>, keeper: &Key) {
        if self.seats.len() == self.seats.capacity() {
            let more = 1 + self.seats.len() / 8;
            self.seats.reserve_exact(more);
            self.times.reserve_exact(more);
        }
        self.seats.insert(at, contact.seat);
        self.times.insert(at, contact.times);
        self.silent += u32::from(!contact.seat.is_alive());
        self.count(&contact.seat.spot, keeper);
    }

    fn count(&mut self, spot: &Spot<P>, keeper: &Key) {
        let level = spot.leading_zeros(keeper);
        self.ends.resize(self.ends.len().max(level + 1), 0);
        self.ends[..=level].iter_mut().for_each(|end| *end += 1);
    }

    pub(super) fn remove(&mut self, at: usize, keeper: &Key) -> Contact<P> {
        let contact = Contact { seat: self.seats.remove(at), times: self.times.remove(at) };
        self.silent -= u32::from(!contact.seat.is_alive());
        self.ends[..=contact.seat.spot.leading_zeros(keeper)].iter_mut().for_each(|end| *end -= 1);
        while self.ends.last() == Some(&0) {
            self.ends.pop();
        }
        contact
    }

    /// All of a network at rest at once, in any order.
    pub(super) fn fill(&mut self, mut contacts: Vec<Contact<P>>, keeper: &Key) {
        contacts.sort_unstable_by(|a, b| a.seat.spot.order(&b.seat.spot, keeper));
        contacts.dedup_by_key(|contact| contact.seat.spot.peer);
        self.seats = contacts.iter().map(|contact| contact.seat).collect();
        self.times = contacts.iter().map(|contact| contact.times).collect();
        self.silent = contacts.iter().filter(|contact| !contact.seat.is_alive()).count() as u32;
        contacts.iter().for_each(|contact| self.count(&contact.seat.spot, keeper));
        self.ends.shrink_to_fit();
    }

    /// Where searches begin: among the nearest, and among the furthest, which are half of all keys.
    pub(super) fn warm(&self) {
        prefetch(&self.ends[..]);
        let (first, last) = (self.seats.len().min(16), self.seats.len().saturating_sub(20));
        prefetch(&self.seats[..first]);
        prefetch(&self.seats[last..]);
    }
}

#[cfg(test)]
mod tests {
    use p2p_core::SimPeer;

    #[test]
    fn a_seat_is_small() {
        assert_eq!(size_of::<super::Seat<SimPeer>>(), 16);
    }
}
