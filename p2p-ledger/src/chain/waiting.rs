//! Bodies that wait for others, or for their branch to be the better one, and the room that there is for them.

use std::cmp::Reverse;

use super::rows::{BODY, WAITS, key};
use super::{BlockError, Chain};
use crate::consensus::Consensus;
use crate::headers::Entry;
use crate::state::State;
use crate::store::{Batch, Store, StoreError};

/// A body that waits: for others before it, or for its branch to be the better one.
#[derive(Clone, Debug)]
pub(super) struct Waiting {
    /// Its transactions as they are stored: decoded they would take many times as much. `None`: they are in the store.
    pub(super) body: Option<Vec<u8>>,
    /// When it and all before it were here; `None` as long as they are not.
    pub(super) complete: Option<u64>,
}

impl<C: Consensus, S: State, D: Store> Chain<C, S, D> {
    /// Sees which of those that wait are complete now.
    pub(super) fn settle(&mut self) {
        let index = self.headers.index();
        let lacking: Vec<u32> =
            self.waiting.iter().filter(|(_, one)| one.complete.is_none()).map(|(at, _)| *at).collect();
        // Parents come before their children.
        for at in lacking {
            if self.is_complete(index.entry(at).parent)
                && let Some(one) = self.waiting.get_mut(&at)
            {
                one.complete = Some(self.arrivals);
                self.arrivals += 1;
            }
        }
    }

    /// Whether the body of this header and all before it are here.
    pub(super) fn is_complete(&self, at: u32) -> bool {
        self.stored.contains(&at) || self.waiting.get(&at).is_some_and(|one| one.complete.is_some())
    }

    /// Whether the chain could not go over to the best branch of headers without this body: it does so as a whole, up to the
    /// first block with more work than the tip.
    fn is_needed(&self, at: u32) -> bool {
        let index = self.headers.index();
        index.fork(at) == at && index.entry(index.entry(at).parent).work <= self.tip().work
    }

    /// Where the body of the header `at` is to wait: in memory, for which it is handed back, if there is room or it need not
    /// wait at all; in the store if it is needed. To make room those go first that are not on the best branch of headers,
    /// then those farthest from the tip.
    pub(super) fn room_for(&mut self, at: u32, body: Vec<u8>) -> Result<Option<Vec<u8>>, BlockError> {
        let in_memory = |one: &Waiting| one.body.as_ref().map_or(0, Vec::len);
        let mut held: usize = self.waiting.values().map(in_memory).sum();
        let Entry { parent, work, .. } = *self.headers.index().entry(at);
        if work > self.tip().work && self.is_complete(parent) {
            return Ok(Some(body));
        }
        while held + body.len() > self.rules.waiting_bytes {
            let index = self.headers.index();
            let use_of = |at: u32| (index.fork(at) == at, Reverse(index.entry(at).height));
            let there = self.waiting.iter().filter(|(_, one)| one.body.is_some()).map(|(at, _)| *at);
            let least = there.min_by_key(|at| use_of(*at));
            let least = least.filter(|least| use_of(*least) < use_of(at) && !self.is_needed(*least));
            let Some(least) = least else {
                if !self.is_needed(at) {
                    return Err(BlockError::Full);
                }
                self.keep_waiting(at, body)?;
                return Ok(None);
            };
            held -= self.waiting.get(&least).map_or(0, in_memory);
            self.forget_waiting(&[least]);
        }
        Ok(Some(body))
    }

    /// Puts a body that waits into the store. Those there that are not on the best branch of headers any more go.
    fn keep_waiting(&mut self, at: u32, body: Vec<u8>) -> Result<(), StoreError> {
        let index = self.headers.index();
        let id = index.entry(at).id;
        let there = self.waiting.iter().filter(|(_, one)| one.body.is_none()).map(|(at, _)| *at);
        let going: Vec<u32> = there.filter(|at| index.fork(*at) != *at).collect();
        let mut batch: Batch = going
            .iter()
            .flat_map(|at| [BODY, WAITS].map(|what| (key(what, index.entry(*at).id), None)))
            .collect();
        batch.insert(key(BODY, id), Some(body));
        batch.insert(key(WAITS, id), Some(Vec::new()));
        self.store.commit(batch)?;
        self.forget_waiting(&going);
        Ok(())
    }

    /// Forgets bodies that wait, and that what follows them was complete.
    pub(super) fn forget_waiting(&mut self, going: &[u32]) {
        if going.is_empty() {
            return;
        }
        going.iter().for_each(|at| drop(self.waiting.remove(at)));
        self.waiting.values_mut().for_each(|one| one.complete = None);
        self.settle();
    }
}
