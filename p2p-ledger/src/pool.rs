//! Transactions that wait for a block.
//!
//! A pool holds what would be valid in the next block, after what it depends on: each newcomer is applied to the chain's
//! state by the state machine itself, so pool and chain never differ. Of what depends on what it knows only
//! [`Footprint`]s, so it serves every [`State`]. Its rules are those that Bitcoin Core has come to:
//!
//! - **Conflicts**: of two that use up the same, the later takes the place of the earlier, and of all that depend on it,
//!   if it pays more than all of them together, more for each byte than those it conflicts with, and for its own way through
//!   the network (BIP 125, for every transaction).
//! - **Dependence** is bounded: at most 25 before and 25 after each, and so is what one newcomer can cost.
//! - **Order**: a block takes those first that pay most for each byte, together with what they depend on. When there is no
//!   room those go first that pay least, together with what depends on them.
//! - **Reorganisation**: what was in blocks that are undone comes back, and everything is looked at anew.
//!
//! Everything here is this node's own policy; no rule of the chain depends on it.

mod graph;
mod select;

use std::collections::BTreeSet;

use p2p_core::Key;

use crate::chain::{Chain, Outcome};
use crate::codec::Encode;
use crate::consensus::Consensus;
use crate::id::{TxId, WtxId};
use crate::signature::Checks;
use crate::state::State;
use crate::store::{Store, StoreError, View};
use crate::transaction::Tx;

pub use graph::Rate;
use graph::{Entry, Graph};

/// What a pool holds, and what it refuses.
#[derive(Clone, Copy, Debug)]
pub struct PoolRules {
    /// How many bytes of transactions it holds, as they travel. In memory each takes about 1 KB more: where they are as short as a
    /// board's notices, six times as much in all. 32 MiB.
    pub bytes: usize,
    /// The longest transaction, in bytes. 100,000.
    pub transaction_bytes: usize,
    /// How many one may depend on, itself among them; and how many may depend on one. 25.
    pub family: usize,
    /// How many one may take the place of. 100.
    pub replaced: usize,
    /// How long one waits, in seconds. Two weeks.
    pub expiry: u64,
    /// What a replacement pays for its own way, for each 1,000 bytes. 0 for machines without fees, where nothing is
    /// replaced. 1,000.
    pub relay_fee: u64,
}

impl Default for PoolRules {
    fn default() -> Self {
        PoolRules {
            bytes: 32 << 20,
            transaction_bytes: 100_000,
            family: 25,
            replaced: 100,
            expiry: 14 * 24 * 3600,
            relay_fee: 1_000,
        }
    }
}

/// Why a transaction does not come into the pool.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PoolError<E> {
    /// It is there, perhaps with other witnesses.
    #[error("the transaction is in the pool")]
    Known,
    /// It would not be valid in the next block.
    #[error(transparent)]
    Invalid(E),
    /// A signature is not good.
    #[error("a signature is not good")]
    Signature,
    /// It is too long.
    #[error("a transaction of {found} bytes; at most {most} are taken")]
    TooLong {
        /// How long it is.
        found: usize,
        /// How long it may be.
        most: usize,
    },
    /// It depends on too many others, or too many on one of these.
    #[error("too many transactions that wait would depend on each other")]
    Dependence,
    /// It depends on what it would take the place of.
    #[error("it depends on a transaction that it conflicts with")]
    SelfConflict,
    /// It conflicts with others and does not pay enough to take their place.
    #[error("it conflicts with others; it pays {found}, and more than {needed} would take their place")]
    Underpaid {
        /// How much would be enough: this, and more for each byte than each of them.
        needed: u64,
        /// How much it pays.
        found: u64,
    },
    /// There is no room, and nothing that pays less.
    #[error("the pool is full of transactions that pay as much")]
    Full,
    /// The storage failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Transactions that wait for a block.
#[derive(Clone, Debug)]
pub struct Pool<S: State> {
    rules: PoolRules,
    graph: Graph<S::Tx>,
}

impl<S: State> Pool<S> {
    /// An empty pool.
    pub fn new(rules: PoolRules) -> Pool<S> {
        Pool { rules, graph: Graph::default() }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.graph.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many bytes they have.
    pub fn bytes(&self) -> usize {
        self.graph.bytes()
    }

    /// One that waits.
    pub fn get(&self, id: &TxId) -> Option<&S::Tx> {
        self.graph.get(id).map(|entry| &entry.transaction)
    }

    /// One that waits, by its name with its witnesses.
    pub fn get_witnessed(&self, id: &WtxId) -> Option<&S::Tx> {
        self.get(self.graph.by_wtxid().get(id)?)
    }

    /// The names of all that wait, with their witnesses, in no particular order.
    pub fn witnessed(&self) -> impl Iterator<Item = &WtxId> {
        self.graph.by_wtxid().keys()
    }

    /// So many of them at most: from this name on, and then from the first. What is told here depends on others stands after them.
    pub fn witnessed_from(&self, from: &WtxId, most: usize) -> Vec<WtxId> {
        let all = self.graph.by_wtxid();
        let some = all.range(from..).chain(all.range(..from)).take(most);
        let mut some: Vec<(u64, WtxId)> = some.map(|(wtxid, id)| (self.graph.order(id), *wtxid)).collect();
        some.sort_unstable();
        some.into_iter().map(|(_, wtxid)| wtxid).collect()
    }

    /// What one pays.
    pub fn fee(&self, id: &TxId) -> Option<u64> {
        self.graph.get(id).map(|entry| entry.own.fee)
    }

    /// All that wait, each after what it depends on.
    pub fn iter(&self) -> impl Iterator<Item = &S::Tx> {
        self.graph.in_order().into_iter().filter_map(|id| self.get(&id))
    }

    /// Takes in a transaction, at Unix time `now` in seconds; says which others it has taken the place of.
    ///
    /// # Errors
    /// Why it was not taken in; nothing has changed then. What is said of it holds for these witnesses: it is never
    /// remembered under an id that others could send too.
    pub fn add<C: Consensus, D: Store>(
        &mut self,
        chain: &mut Chain<C, S, D>,
        transaction: S::Tx,
        now: u64,
    ) -> Result<Vec<TxId>, PoolError<S::Error>> {
        self.admit(chain, transaction, now, Checked::No)
    }

    /// The same of one whose signatures may have been checked before.
    fn admit<C: Consensus, D: Store>(
        &mut self,
        chain: &mut Chain<C, S, D>,
        transaction: S::Tx,
        now: u64,
        checked: Checked,
    ) -> Result<Vec<TxId>, PoolError<S::Error>> {
        let id = transaction.id();
        if self.graph.get(&id).is_some() {
            return Err(PoolError::Known);
        }
        let (found, most) = (transaction.to_bytes().len(), self.rules.transaction_bytes);
        if found > most {
            return Err(PoolError::TooLong { found, most });
        }
        let footprint = chain.state().footprint(&transaction);
        let conflicts = self.graph.users(&footprint);
        let replaced = self.graph.with_descendants(conflicts.iter().copied());
        let parents = self.graph.makers(&footprint);
        let ancestors = self.graph.with_ancestors(parents.iter().copied());
        if ancestors.iter().any(|ancestor| replaced.contains(ancestor)) {
            return Err(PoolError::SelfConflict);
        }
        if ancestors.len() >= self.rules.family || replaced.len() > self.rules.replaced {
            return Err(PoolError::Dependence);
        }
        let crowded = |ancestor: &TxId| {
            let family = self.graph.with_descendants([*ancestor]);
            family.difference(&replaced).count() >= self.rules.family
        };
        if ancestors.iter().any(crowded) {
            return Err(PoolError::Dependence);
        }
        let (fee, checks) = self.check(chain, &transaction, &ancestors)?;
        let own = Rate { fee, bytes: found as u64 };
        self.check_replacement(own, &conflicts, &replaced)?;
        let evicted = self.make_room(own, &replaced, &ancestors)?;
        // What is dear to check comes last.
        let signatures = checks.digest();
        let are_checked = match checked {
            Checked::No => false,
            Checked::These(hash) => hash == signatures,
            Checked::All => true,
        };
        let are_good = are_checked || chain.verifier().verify(&checks);
        are_good.then_some(()).ok_or(PoolError::Signature)?;
        replaced.iter().chain(&evicted).for_each(|id| drop(self.graph.remove(id)));
        let wtxid = transaction.wtxid();
        self.graph.insert(id, Entry::new(transaction, wtxid, signatures, own, now, parents, footprint));
        Ok(replaced.into_iter().collect())
    }

    /// Applies it after what it depends on, to the state as it is; what it pays, and which signatures are to be checked.
    fn check<C: Consensus, D: Store>(
        &self,
        chain: &Chain<C, S, D>,
        transaction: &S::Tx,
        ancestors: &BTreeSet<TxId>,
    ) -> Result<(u64, Checks), PoolError<S::Error>> {
        let (place, mut view) = (chain.next_place(), chain.view());
        let (mut checks, mut checked) = (Checks::default(), Checks::default());
        for ancestor in self.graph.sorted(ancestors) {
            let Some(entry) = self.graph.get(&ancestor) else { continue };
            let done = chain.state().apply(&mut view, &place, &entry.transaction, &mut checked);
            done.map_err(|error| failed(&view, error))?;
        }
        let done = chain.state().apply(&mut view, &place, transaction, &mut checks);
        let fee = done.map_err(|error| failed(&view, error))?;
        view.failure().map_or(Ok((fee, checks)), |failure| Err(PoolError::Store(failure)))
    }

    fn check_replacement(
        &self,
        own: Rate,
        conflicts: &BTreeSet<TxId>,
        replaced: &BTreeSet<TxId>,
    ) -> Result<(), PoolError<S::Error>> {
        if conflicts.is_empty() {
            return Ok(());
        }
        let entries = |ids: &BTreeSet<TxId>| {
            ids.iter().filter_map(|id| self.graph.get(id)).map(|entry| entry.own).collect()
        };
        let (direct, all): (Vec<Rate>, Vec<Rate>) = (entries(conflicts), entries(replaced));
        let lost = all.iter().fold(0u64, |sum, rate| sum.saturating_add(rate.fee));
        let way = own.bytes.saturating_mul(self.rules.relay_fee).div_ceil(1_000);
        let needed = lost.saturating_add(way);
        let enough = own.fee > lost && own.fee >= needed && direct.iter().all(|rate| own > *rate);
        enough.then_some(()).ok_or(PoolError::Underpaid { needed, found: own.fee })
    }

    /// What has to go for the newcomer, beside what it takes the place of: whole packages that pay less.
    fn make_room(
        &self,
        own: Rate,
        replaced: &BTreeSet<TxId>,
        ancestors: &BTreeSet<TxId>,
    ) -> Result<BTreeSet<TxId>, PoolError<S::Error>> {
        let size = |ids: &BTreeSet<TxId>| -> usize {
            ids.iter().filter_map(|id| self.graph.get(id)).map(|entry| entry.own.bytes as usize).sum()
        };
        let mut going = BTreeSet::new();
        let mut left = self.graph.bytes() - size(replaced) + own.bytes as usize;
        let mut least = self.graph.least_first();
        while left > self.rules.bytes {
            let (worth, id) = least.next().ok_or(PoolError::Full)?;
            if replaced.contains(&id) || going.contains(&id) {
                continue;
            }
            if worth >= own || ancestors.contains(&id) {
                return Err(PoolError::Full);
            }
            let package = self.graph.with_descendants([id]);
            let package: BTreeSet<TxId> =
                package.into_iter().filter(|id| !replaced.contains(id) && !going.contains(id)).collect();
            left -= size(&package);
            going.extend(package);
        }
        Ok(going)
    }

    /// Follows the chain after it has changed: what is in its blocks goes, and what conflicts with that; what was in blocks
    /// that were undone comes back, if it can. What reads what the blocks change is looked at anew, but for its signatures; after a
    /// block was undone all is.
    ///
    /// # Errors
    /// The storage failed.
    pub fn follow<C: Consensus, D: Store>(
        &mut self,
        chain: &mut Chain<C, S, D>,
        outcome: &Outcome<S::Error>,
        now: u64,
    ) -> Result<(), StoreError> {
        let mut doubtful = BTreeSet::new();
        for id in &outcome.connected {
            for transaction in chain.block(id)?.into_iter().flat_map(|block| block.transactions) {
                self.graph.remove(&transaction.id());
                let footprint = chain.state().footprint(&transaction);
                self.graph.take(&self.graph.with_descendants(self.graph.users(&footprint)));
                doubtful.extend(self.graph.readers(&footprint));
            }
        }
        let mut again = Vec::new();
        for id in outcome.disconnected.iter().rev() {
            again.extend(chain.block(id)?.into_iter().flat_map(|block| block.transactions));
        }
        let waited = match outcome.disconnected.is_empty() {
            true => self.graph.take(&self.graph.with_descendants(doubtful)),
            false => std::mem::take(&mut self.graph).into_entries().collect(),
        };
        let waited = waited
            .into_iter()
            .map(|entry| (entry.transaction, entry.arrived, Checked::These(entry.signatures)));
        let again = again.into_iter().map(|one| (one, now, Checked::All));
        for (transaction, arrived, checked) in again.chain(waited) {
            // Another error: it is in the new branch, or cannot be any more, or never could alone, as a block's first.
            if let Err(PoolError::Store(failure)) = self.admit(chain, transaction, arrived, checked) {
                return Err(failure);
            }
        }
        Ok(())
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.graph = Graph::default();
    }

    /// Forgets those that have waited too long, and what depends on them; says which.
    pub fn expire(&mut self, now: u64) -> Vec<TxId> {
        let old = self.graph.arrived_before(now.saturating_sub(self.rules.expiry));
        let going = self.graph.with_descendants(old);
        going.iter().for_each(|id| drop(self.graph.remove(id)));
        going.into_iter().collect()
    }
}

/// Which signatures of a transaction are known to be good.
#[derive(Clone, Copy, Debug)]
enum Checked {
    /// None.
    No,
    /// Those with this hash: it has waited before.
    These(Key),
    /// All: it was in a block of the chain.
    All,
}

fn failed<E>(view: &View<'_>, error: E) -> PoolError<E> {
    view.failure().map_or(PoolError::Invalid(error), PoolError::Store)
}
