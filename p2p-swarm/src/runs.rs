//! Runs: what is asked for at a time, and the set of those that are there.
//!
//! A run is 16 groups, 256 KiB, and begins at a multiple of that; a blob's last run may be shorter. One size keeps the
//! messages' bound tight, makes nonsense impossible to ask for, and lets a set of runs be one bit for each.

use std::ops::Range;

use crate::tree::{GROUP, group_count, span};

/// Groups in a run.
pub(crate) const RUN_GROUPS: u64 = 16;
/// Bytes in a run.
pub(crate) const RUN: usize = GROUP * RUN_GROUPS as usize;

/// How many runs a blob of this size has, at least one.
pub(crate) fn run_count(size: u64) -> u64 {
    group_count(size).div_ceil(RUN_GROUPS)
}

/// The groups of a run.
pub(crate) fn groups_of(size: u64, run: u64) -> Range<u64> {
    let start = run.saturating_mul(RUN_GROUPS);
    start..start.saturating_add(RUN_GROUPS).min(group_count(size))
}

/// The bytes of a run.
pub(crate) fn bytes_of(size: u64, run: u64) -> Range<u64> {
    span(size, &groups_of(size, run))
}

/// A set of runs of one blob.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RunSet {
    words: Vec<u64>,
    len: u64,
    count: u64,
}

impl RunSet {
    /// None of `len` runs.
    pub(crate) fn new(len: u64) -> RunSet {
        RunSet { words: vec![0; len.div_ceil(64) as usize], len, count: 0 }
    }

    /// Adds a run of the blob; says whether it is new.
    pub(crate) fn insert(&mut self, run: u64) -> bool {
        let Some(word) = self.words.get_mut((run / 64) as usize).filter(|_| run < self.len) else {
            return false;
        };
        let new = *word & (1 << (run % 64)) == 0;
        *word |= 1 << (run % 64);
        self.count += u64::from(new);
        new
    }

    pub(crate) fn contains(&self, run: u64) -> bool {
        self.words.get((run / 64) as usize).is_some_and(|word| word & (1 << (run % 64)) != 0)
    }

    /// Whether every run is there.
    pub(crate) fn is_full(&self) -> bool {
        self.count == self.len
    }

    /// The first run from `from` on that is not there.
    pub(crate) fn first_missing(&self, from: u64) -> Option<u64> {
        let mut at = from;
        while at < self.len {
            let word = self.words[(at / 64) as usize] | ((1 << (at % 64)) - 1);
            let found = at / 64 * 64 + u64::from(word.trailing_ones());
            if word != u64::MAX {
                return Some(found).filter(|run| *run < self.len);
            }
            at = found;
        }
        None
    }

    /// The runs that are there.
    pub(crate) fn iter(&self) -> impl Iterator<Item = u64> {
        (0..self.len).filter(|run| self.contains(*run))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_blob_is_its_runs() {
        for size in [0, 1, RUN as u64 - 1, RUN as u64, RUN as u64 + 1, 5 * RUN as u64] {
            let runs = run_count(size);
            assert_eq!(bytes_of(size, 0).start, 0);
            assert_eq!(bytes_of(size, runs - 1).end, size);
            assert!(groups_of(size, runs).is_empty(), "{size} bytes have no run {runs}");
        }
    }

    proptest! {
        #[test]
        fn a_set_is_a_set(len in 1u64..300, runs in prop::collection::vec(0u64..310, 0..300), from in 0u64..310) {
            let (mut set, mut model) = (RunSet::new(len), BTreeSet::new());
            for run in runs {
                prop_assert_eq!(set.insert(run), run < len && model.insert(run));
            }
            prop_assert_eq!(set.iter().collect::<BTreeSet<_>>(), model.clone());
            prop_assert_eq!(set.is_full(), model.len() as u64 == len);
            prop_assert_eq!(set.first_missing(from), (from..len).find(|run| !model.contains(run)));
        }
    }
}
