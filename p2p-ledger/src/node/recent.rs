//! A bounded memory of what has been seen lately.

use std::collections::BTreeSet;

/// Remembers the last so many values, or half of them.
#[derive(Clone, Debug)]
pub(super) struct Recent<T> {
    halves: [BTreeSet<T>; 2],
    half: usize,
}

impl<T: Ord> Recent<T> {
    pub(super) fn new(most: usize) -> Recent<T> {
        Recent { halves: [BTreeSet::new(), BTreeSet::new()], half: most.div_ceil(2).max(1) }
    }

    pub(super) fn contains(&self, value: &T) -> bool {
        self.halves.iter().any(|half| half.contains(value))
    }

    /// Remembers one; says whether it was not remembered before.
    pub(super) fn insert(&mut self, value: T) -> bool {
        if self.contains(&value) {
            return false;
        }
        if self.halves[0].len() >= self.half {
            self.halves[1] = std::mem::take(&mut self.halves[0]);
        }
        self.halves[0].insert(value);
        true
    }

    pub(super) fn clear(&mut self) {
        self.halves.iter_mut().for_each(BTreeSet::clear);
    }
}
