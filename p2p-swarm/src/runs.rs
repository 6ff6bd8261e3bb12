//! Runs: what is asked for at a time.
//!
//! A run is 16 groups, 256 KiB, and begins at a multiple of that; a blob's last run may be shorter. One size keeps the
//! messages' bound tight, makes nonsense impossible to ask for, and lets a set of runs be one bit for each ([`Bits`](crate::bits)).

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blob_is_its_runs() {
        for size in [0, 1, RUN as u64 - 1, RUN as u64, RUN as u64 + 1, 5 * RUN as u64] {
            let runs = run_count(size);
            assert_eq!(bytes_of(size, 0).start, 0);
            assert_eq!(bytes_of(size, runs - 1).end, size);
            assert!(groups_of(size, runs).is_empty(), "{size} bytes have no run {runs}");
        }
    }
}
