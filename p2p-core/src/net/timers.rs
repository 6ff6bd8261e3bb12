//! A machine's timers in the live world: set by name, fired by time.

use std::collections::BTreeSet;

use crate::Time;

/// The timers that are set. How many there are is the machine's to bound.
#[derive(Debug)]
pub(super) struct Timers<T> {
    /// Places in `slots`, sorted by timer.
    by_name: Vec<u32>,
    slots: Vec<Option<(T, Time)>>,
    free: Vec<u32>,
    by_time: BTreeSet<(Time, u32)>,
}

impl<T> Default for Timers<T> {
    fn default() -> Self {
        Timers { by_name: Vec::new(), slots: Vec::new(), free: Vec::new(), by_time: BTreeSet::new() }
    }
}

impl<T: Ord> Timers<T> {
    fn find(&self, timer: &T) -> Result<usize, usize> {
        self.by_name.binary_search_by(|&slot| match &self.slots[slot as usize] {
            Some((other, _)) => other.cmp(timer),
            None => unreachable!("a named slot is filled"),
        })
    }

    /// Sets a timer, replacing an equal one.
    pub(super) fn set(&mut self, due: Time, timer: T) {
        match self.find(&timer) {
            Ok(place) => {
                let slot = self.by_name[place];
                if let Some((_, old)) = self.slots[slot as usize].replace((timer, due)) {
                    self.by_time.remove(&(old, slot));
                }
                self.by_time.insert((due, slot));
            }
            Err(place) => {
                let slot = self.free.pop().unwrap_or_else(|| {
                    self.slots.push(None);
                    (self.slots.len() - 1) as u32
                });
                self.slots[slot as usize] = Some((timer, due));
                self.by_name.insert(place, slot);
                self.by_time.insert((due, slot));
            }
        }
    }

    /// Forgets a timer.
    pub(super) fn clear(&mut self, timer: &T) {
        if let Ok(place) = self.find(timer) {
            self.remove(place);
        }
    }

    fn remove(&mut self, place: usize) -> Option<T> {
        let slot = self.by_name.remove(place);
        let (timer, due) = self.slots[slot as usize].take()?;
        self.by_time.remove(&(due, slot));
        self.free.push(slot);
        Some(timer)
    }

    /// When the next is due.
    pub(super) fn next(&self) -> Option<Time> {
        self.by_time.first().map(|(due, _)| *due)
    }

    /// Takes the first that is due by `now`.
    pub(super) fn pop(&mut self, now: Time) -> Option<T> {
        let &(due, slot) = self.by_time.first()?;
        if due > now {
            return None;
        }
        let (timer, _) = self.slots[slot as usize].as_ref()?;
        let place = self.find(timer).ok()?;
        self.remove(place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(nanos: u64) -> Time {
        Time::from_nanos(nanos)
    }

    #[test]
    fn the_last_setting_counts() {
        let mut timers = Timers::default();
        timers.set(at(5), "a");
        timers.set(at(3), "b");
        timers.set(at(9), "b");
        timers.set(at(4), "c");
        timers.clear(&"c");
        assert_eq!(timers.next(), Some(at(5)));
        assert_eq!(timers.pop(at(4)), None);
        assert_eq!([timers.pop(at(9)), timers.pop(at(9)), timers.pop(at(9))], [Some("a"), Some("b"), None]);
        timers.set(at(1), "d");
        assert_eq!((timers.pop(at(1)), timers.slots.len()), (Some("d"), 3));
    }
}
