//! What is not kept for ever: bodies and undo data of blocks that are final and deep.
//!
//! Nakamoto (2008, §7): "once the latest transaction in a coin is buried under enough blocks, the spent transactions before it
//! can be discarded". What is spent is no part of the state in any case; but bodies have it, and what undoes them. Both go when
//! their block is deeper than [`ChainRules::keep`](super::ChainRules::keep). Headers and filters stay, so the chain shows others
//! all of these, and the last blocks with their proofs.
//!
//! Only what is final goes, and what is final stays so: a branch that needs what is gone is never taken, not even by rules that
//! make less final, if the store is opened with such. What goes, goes in the batch that brings the block
//! that made it deep enough, so a store never lacks what it needs.

use super::rows::{BODY, HEADER, PRUNED, UNDO, key};
use super::{Chain, ChainRules};
use crate::consensus::Consensus;
use crate::headers::HeaderChain;
use crate::id::BlockId;
use crate::state::State;
use crate::store::{Batch, Store, StoreError};

/// How many heights are cleared at once: a chain that was kept whole so far is not cleared in one step.
const MOST: u64 = 1_000;

impl<C: Consensus, S: State, D: Store> Chain<C, S, D> {
    /// Up to which height bodies are not kept any more; 0 if all are.
    pub fn pruned(&self) -> u64 {
        self.pruned
    }

    /// Removes what is deep enough once the chain has this height; what follows the block at `fork` is just being written.
    pub(super) fn prune(&self, batch: &mut Batch, fork: u64, height: u64) -> Result<u64, StoreError> {
        let Some(keep) = self.rules.keep else { return Ok(self.pruned) };
        let deep = height.saturating_sub(keep).min(fork);
        let until = deep.min(self.pruned.saturating_add(MOST)).max(self.pruned);
        for height in self.pruned + 1..=until {
            // Blocks beside the chain among them.
            let prefix = [&[0, HEADER][..], &height.to_be_bytes()].concat();
            self.store.scan(&prefix, &mut |row, _| {
                for what in [BODY, UNDO] {
                    batch.insert([&[0, what], &row[prefix.len()..]].concat(), None);
                }
            })?;
        }
        if until > self.pruned {
            batch.insert(key(PRUNED, BlockId::NONE), Some(until.to_le_bytes().to_vec()));
        }
        Ok(until)
    }

    /// How far it was pruned when it was written.
    pub(super) fn load_pruned(&mut self) -> Result<(), StoreError> {
        let bytes = self.store.get(&key(PRUNED, BlockId::NONE))?;
        self.pruned = bytes.and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_le_bytes);
        Ok(())
    }
}

/// # Panics
/// If it would remove what is not final.
pub(super) fn check<C: Consensus>(rules: &ChainRules, headers: &HeaderChain<C>) {
    let Some(keep) = rules.keep else { return };
    let is_final = headers.finality().is_some_and(|depth| depth <= keep);
    assert!(
        is_final,
        "{keep} blocks are kept, and {:?} may be undone: only what is final may go",
        headers.finality()
    );
}
