//! What a block takes: those first that pay most for each byte, each together with what it depends on and is not taken yet.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use super::Pool;
use super::graph::Rate;
use crate::block::MAX_TRANSACTIONS;
use crate::chain::Chain;
use crate::consensus::Consensus;
use crate::id::TxId;
use crate::signature::Checks;
use crate::state::State;
use crate::store::{Store, StoreError};

/// How many packages in a row may not fit before a block is taken for full.
const MISSES: usize = 200;

impl<S: State> Pool<S> {
    /// The transactions for the next block, of at most so many bytes together and each after what it depends on, and what
    /// they pay. There are fewer than [`MAX_TRANSACTIONS`], so that one more may come first. What would not be valid any more
    /// is left out.
    ///
    /// # Errors
    /// The storage failed.
    pub fn select<C: Consensus, D: Store>(
        &self,
        chain: &Chain<C, S, D>,
        bytes: usize,
    ) -> Result<(Vec<S::Tx>, u64), StoreError> {
        let (place, mut view) = (chain.next_place(), chain.view());
        // What each would cost with what it depends on and is not taken; the best first, of these the first that came.
        let mut packages: BTreeMap<TxId, Rate> = BTreeMap::new();
        let mut best: BTreeSet<(Reverse<Rate>, u64, TxId)> = BTreeSet::new();
        for id in self.graph.in_order() {
            let Some(entry) = self.graph.get(&id) else { continue };
            let package = self.graph.package(entry);
            packages.insert(id, package);
            best.insert((Reverse(package), self.graph.order(&id), id));
        }
        let (mut taken, mut order, mut left, mut fees, mut misses) =
            (BTreeSet::new(), Vec::new(), bytes, 0u64, 0);
        while let Some((Reverse(package), _, id)) = best.pop_first() {
            if package.bytes as usize > left {
                misses += 1;
                match misses {
                    MISSES => break,
                    _ => continue,
                }
            }
            let family = self.graph.with_ancestors([id]);
            let new: BTreeSet<TxId> = family.difference(&taken).copied().collect();
            if taken.len() + new.len() >= MAX_TRANSACTIONS {
                continue;
            }
            // What fails half way is undone.
            let mut paid = 0u64;
            let fits = self.graph.sorted(&new).iter().filter_map(|id| self.graph.get(id)).all(|entry| {
                let done = chain.state().apply(&mut view, &place, &entry.transaction, &mut Checks::default());
                done.is_ok_and(|fee| {
                    paid = paid.saturating_add(fee);
                    true
                })
            });
            if let Some(failure) = view.failure() {
                return Err(failure);
            }
            let undo = view.take_undo();
            if !fits {
                view.undo(undo);
                continue;
            }
            (left, fees) = (left - package.bytes as usize, fees.saturating_add(paid));
            for one in self.graph.sorted(&new) {
                let own = self.graph.get(&one).map_or(Rate { fee: 0, bytes: 0 }, |entry| entry.own);
                best.remove(&(Reverse(packages[&one]), self.graph.order(&one), one));
                for after in self.graph.with_descendants([one]) {
                    let package = packages[&after];
                    if after != one && best.remove(&(Reverse(package), self.graph.order(&after), after)) {
                        packages.insert(after, package.less(own));
                        best.insert((Reverse(package.less(own)), self.graph.order(&after), after));
                    }
                }
                order.push(one);
                taken.insert(one);
            }
        }
        let transactions = order.iter().filter_map(|id| self.get(id).cloned()).collect();
        Ok((transactions, fees))
    }
}
