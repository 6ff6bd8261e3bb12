//! Transactions that depend on what has not come.
//!
//! What a transaction lacks cannot be told from what will never be: both are refused by the state machine. So each of those
//! waits for a while, few of them and not long, and is looked at again when something comes that makes what it uses.

use std::collections::{BTreeSet, VecDeque};

use crate::state::Footprint;
use crate::transaction::Tx;

/// How many wait, and how many bytes of them: 100 of the longest that a pool takes are 10 MB.
const MOST: usize = 100;
const MOST_BYTES: usize = 1 << 20;

/// Transactions that may yet be of use, the oldest first.
#[derive(Debug)]
pub(super) struct Orphans<T>(VecDeque<Orphan<T>>);

#[derive(Debug)]
struct Orphan<T> {
    transaction: T,
    uses: BTreeSet<Vec<u8>>,
    bytes: usize,
}

impl<T> Default for Orphans<T> {
    fn default() -> Self {
        Orphans(VecDeque::new())
    }
}

impl<T: Tx> Orphans<T> {
    /// Has one wait; the oldest go, if there are too many.
    pub(super) fn add(&mut self, transaction: T, footprint: Footprint) {
        let bytes = transaction.to_bytes().len();
        let wtxid = transaction.wtxid();
        if self.0.iter().any(|one| one.transaction.wtxid() == wtxid) {
            return;
        }
        self.0.push_back(Orphan { transaction, uses: footprint.uses.into_iter().collect(), bytes });
        let sum = |all: &VecDeque<Orphan<T>>| all.iter().map(|one| one.bytes).sum::<usize>();
        while self.0.len() > MOST || sum(&self.0) > MOST_BYTES {
            self.0.pop_front();
        }
    }

    /// Takes out those that use some of these.
    pub(super) fn that_use(&mut self, made: &[Vec<u8>]) -> Vec<T> {
        if self.0.is_empty() {
            return Vec::new();
        }
        let (ready, rest): (VecDeque<_>, VecDeque<_>) =
            self.0.drain(..).partition(|one| made.iter().any(|slot| one.uses.contains(slot)));
        self.0 = rest;
        ready.into_iter().map(|one| one.transaction).collect()
    }

    /// Forgets all.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}
