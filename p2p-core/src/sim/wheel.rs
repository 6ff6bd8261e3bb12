//! The event queue: a hierarchical timing wheel (Varghese & Lauck 1987) of 16-byte entries.
//!
//! Time is cut into ticks of 2^20 ns, and their numbers into digits of 12 bits. An entry waits in the level of the
//! highest digit in which its tick differs from the current one, so each digit of progress moves it down one level at
//! most, and what it stands for never moves. The entries of the current tick are sorted, so events happen in order of
//! their nanosecond, and within one in the order they were scheduled.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// When something happens, and where it is kept.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Entry {
    /// Nanoseconds since the beginning of the world.
    pub at: u64,
    /// In the upper half a number that counts the entries as they are scheduled (it may wrap: that reorders a tie, the
    /// same way in every run), in the lower half where the event is kept. Two words travel in registers, three fields
    /// would not.
    seq_and_slot: u64,
}

impl Entry {
    /// Where the event is kept.
    pub(super) fn slot(self) -> u32 {
        self.seq_and_slot as u32
    }
}

const TICK_BITS: u32 = 20;
/// A level has 2^12 slots: the lowest spans four seconds, so what waits for less, as messages and their deadlines do, is
/// placed but once.
const SLOT_BITS: u32 = 12;
const SLOTS: usize = 1 << SLOT_BITS;
const LEVELS: usize = (64 - TICK_BITS).div_ceil(SLOT_BITS) as usize;

#[derive(Debug)]
struct Level {
    slots: Vec<Vec<Entry>>,
    occupied: [u64; SLOTS / 64],
    /// Empty buffers, the last used last: their memory is near the processor, and a slot's turn may be long in coming.
    spare: Vec<Vec<Entry>>,
}

impl Level {
    fn new() -> Level {
        let slots = (0..SLOTS).map(|_| Vec::new()).collect();
        Level { slots, occupied: [0; SLOTS / 64], spare: Vec::new() }
    }

    fn push(&mut self, slot: usize, entry: Entry) {
        let entries = &mut self.slots[slot];
        if entries.capacity() == 0 {
            *entries = self.spare.pop().unwrap_or_default();
        }
        entries.push(entry);
        self.occupied[slot / 64] |= 1 << (slot % 64);
    }

    /// The first occupied slot after `slot`.
    fn next_after(&self, slot: usize) -> Option<usize> {
        let from = slot + 1;
        (from / 64..SLOTS / 64).find_map(|word| {
            let skip = if word == from / 64 { from % 64 } else { 0 };
            let bits = self.occupied[word] >> skip << skip;
            (bits != 0).then(|| word * 64 + bits.trailing_zeros() as usize)
        })
    }

    /// Takes what is in a slot.
    fn take(&mut self, slot: usize) -> Vec<Entry> {
        self.occupied[slot / 64] &= !(1 << (slot % 64));
        std::mem::take(&mut self.slots[slot])
    }

    /// Takes a buffer back.
    fn give_back(&mut self, entries: Vec<Entry>) {
        debug_assert!(entries.is_empty());
        self.spare.push(entries);
    }
}

#[derive(Debug)]
pub(super) struct Wheel {
    /// The tick whose entries are in `current` and `fresh`.
    tick: u64,
    /// Sorted, the earliest last.
    current: Vec<Entry>,
    /// Scheduled for the current tick, or before it, since it began.
    fresh: BinaryHeap<Reverse<Entry>>,
    levels: Vec<Level>,
    next_seq: u32,
}

impl Wheel {
    pub(super) fn new() -> Wheel {
        Wheel {
            tick: 0,
            current: Vec::new(),
            fresh: BinaryHeap::new(),
            levels: (0..LEVELS).map(|_| Level::new()).collect(),
            next_seq: 0,
        }
    }

    pub(super) fn push(&mut self, at: u64, slot: u32) {
        let seq_and_slot = u64::from(self.next_seq) << 32 | u64::from(slot);
        self.next_seq = self.next_seq.wrapping_add(1);
        self.place(Entry { at, seq_and_slot });
    }

    fn place(&mut self, entry: Entry) {
        let tick = entry.at >> TICK_BITS;
        if tick <= self.tick {
            self.fresh.push(Reverse(entry));
            return;
        }
        let level = (tick ^ self.tick).ilog2() / SLOT_BITS;
        self.levels[level as usize].push((tick >> (SLOT_BITS * level)) as usize % SLOTS, entry);
    }

    /// Begins the next tick that has entries and begins by `limit`, if this one has none left; says whether it did.
    #[inline]
    pub(super) fn begin_tick(&mut self, limit: u64) -> bool {
        self.current.is_empty() && self.fresh.is_empty() && self.advance(limit >> TICK_BITS)
    }

    /// Where the event is kept that comes when `n` others have happened, of those that were scheduled before this tick
    /// began.
    #[inline]
    pub(super) fn ahead(&self, n: usize) -> Option<u32> {
        let at = self.current.len().checked_sub(n + 1)?;
        Some(self.current[at].slot())
    }

    /// The next entry, if it is due by `limit` (in nanoseconds).
    pub(super) fn pop_until(&mut self, limit: u64) -> Option<Entry> {
        loop {
            let from_fresh = match (self.fresh.peek(), self.current.last()) {
                (Some(Reverse(fresh)), Some(current)) => fresh < current,
                (Some(_), None) => true,
                (None, Some(_)) => false,
                (None, None) => match self.advance(limit >> TICK_BITS) {
                    true => continue,
                    false => return None,
                },
            };
            let next = match from_fresh {
                true => self.fresh.peek().map(|reverse| reverse.0),
                false => self.current.last().copied(),
            };
            next.filter(|entry| entry.at <= limit)?;
            return match from_fresh {
                true => self.fresh.pop().map(|reverse| reverse.0),
                false => self.current.pop(),
            };
        }
    }

    /// Goes on to the next tick that has entries and is not after `limit`; false if there is none.
    fn advance(&mut self, limit: u64) -> bool {
        let mut level = 0;
        while level < LEVELS {
            let shift = SLOT_BITS * level as u32;
            let here = (self.tick >> shift) as usize % SLOTS;
            let Some(slot) = self.levels[level].next_after(here) else {
                level += 1;
                continue;
            };
            let above = self.tick >> shift >> SLOT_BITS << SLOT_BITS;
            let tick = (above | slot as u64) << shift;
            if tick > limit {
                return false;
            }
            self.tick = tick;
            if level == 0 {
                let entries = self.levels[0].take(slot);
                let over = std::mem::replace(&mut self.current, entries);
                self.levels[0].give_back(over);
                self.current.sort_unstable_by(|a, b| b.cmp(a));
                return true;
            }
            let mut falling = self.levels[level].take(slot);
            falling.drain(..).for_each(|entry| self.place(entry));
            self.levels[level].give_back(falling);
            if !self.fresh.is_empty() {
                return true;
            }
            level = 0;
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Against a heap of (time, order of insertion), with pushes between the pops.
        #[test]
        fn events_come_in_order(steps in prop::collection::vec((0u64..64, any::<u64>(), any::<bool>()), 1..300)) {
            let mut wheel = Wheel::new();
            let mut model = BinaryHeap::new();
            let mut now = 0;
            for (order, (bits, noise, pop)) in steps.into_iter().enumerate() {
                let at = now + (noise >> (63 - bits.min(50)) >> 12);
                wheel.push(at, order as u32);
                model.push(Reverse((at, order as u32)));
                if pop {
                    let Reverse((at, slot)) = model.pop().unwrap();
                    prop_assert!(at == 0 || wheel.pop_until(at - 1).is_none());
                    let entry = wheel.pop_until(at).unwrap();
                    prop_assert_eq!((entry.at, entry.slot()), (at, slot));
                    now = at;
                }
            }
            while let Some(Reverse((at, slot))) = model.pop() {
                let entry = wheel.pop_until(u64::MAX).unwrap();
                prop_assert_eq!((entry.at, entry.slot()), (at, slot));
            }
            prop_assert!(wheel.pop_until(u64::MAX).is_none());
        }
    }
}
