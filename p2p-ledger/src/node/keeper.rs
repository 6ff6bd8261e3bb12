//! The worker: the chain, what waits for it, and all that is slow.

use std::collections::VecDeque;
use std::fmt;

use bytes::Bytes;
use p2p_core::{Rng, Worker};

use super::bodies::MOST_OF_ONE;
use super::compact::{CompactBlock, Partial};
use super::job::{
    AddDone, BlockDone, Form, HeadersDone, LedgerDone, LedgerJob, Progress, Read, Refusal, Standing,
};
use super::msg::{MAX_ANNOUNCED, MAX_BLOCK, MAX_HEADERS, MAX_INVENTORY};
use super::orphans::Orphans;
use crate::block::MAX_TRANSACTIONS;
use crate::chain::{BlockError, BlockOf, Chain, Outcome};
use crate::codec::{Decode, Encode, decoded_list, encoded_list};
use crate::consensus::Consensus;
use crate::header::Header;
use crate::headers::{HeaderSync, Refused, SyncError, SyncStep};
use crate::id::{BlockId, TxId, WtxId};
use crate::ledger::LedgerError;
use crate::mining::template;
use crate::pool::{Pool, PoolError};
use crate::state::State;
use crate::store::Store;
use crate::transaction::Tx;

/// How far below its end a chain's blocks are sent in parts.
const LATE: u64 = 10;

/// Keeps a chain and a pool, and does the jobs of a [`LedgerNode`](crate::LedgerNode). One keeper does all of a node's jobs,
/// one after the other; how many threads check the signatures of one block its [`Verifier`](crate::Verifier) says.
///
/// A block is there to stay when its job is done, if the chain's store keeps its promise: with
/// [`RedbStore`](crate::RedbStore) it is, with [`Cached`](crate::Cached) only after the next flush, and with
/// [`MemoryStore`](crate::MemoryStore) for as long as the process lives. The pool is in memory.
pub struct Keeper<C: Consensus, S: State, D> {
    chain: Chain<C, S, D>,
    pool: Pool<S>,
    orphans: Orphans<S::Tx>,
    /// A peer's headers that are followed by themselves.
    sync: Option<HeaderSync<C>>,
    /// How many have been.
    syncs: u64,
}

impl<C: Consensus, S: State, D: Store> Keeper<C, S, D> {
    /// A keeper of this chain.
    ///
    /// # Panics
    /// If the chain takes blocks that are too large to travel: more than [`MAX_BLOCK`] bytes.
    pub fn new(chain: Chain<C, S, D>, pool: Pool<S>) -> Keeper<C, S, D> {
        assert!(
            chain.rules().block_bytes <= MAX_BLOCK,
            "blocks of more than {MAX_BLOCK} bytes cannot travel"
        );
        Keeper { chain, pool, orphans: Orphans::default(), sync: None, syncs: 0 }
    }

    /// The chain.
    pub fn chain(&self) -> &Chain<C, S, D> {
        &self.chain
    }

    /// What waits for a block.
    pub fn pool(&self) -> &Pool<S> {
        &self.pool
    }

    /// How many transactions wait for what they depend on: at most 100.
    pub fn orphans(&self) -> usize {
        self.orphans.len()
    }

    fn standing(&self) -> Standing {
        let headers = self.chain.headers();
        let (tip, best, locator) = (self.chain.tip(), headers.tip(), headers.locator());
        let block_bytes = self.chain.rules().block_bytes;
        Standing { tip, best, locator, pruned: self.chain.pruned(), block_bytes }
    }

    /// What the short names of a block are drawn with: nobody else can know it beforehand.
    fn nonce(&self, id: &BlockId) -> u64 {
        let secret = self.chain.secret(b"short names", id.0.as_bytes());
        secret.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
    }

    // ---- headers

    fn headers(&mut self, bytes: &Bytes, now: u64) -> HeadersDone {
        let (refused, count, shown) = match decoded_list::<C::Header>(bytes, MAX_HEADERS) {
            Err(error) => (Some(Refusal::Misbehaved(error.to_string())), 0, None),
            Ok(headers) => {
                let refused = self.chain.accept_headers(&headers, now).err();
                let known = headers.iter().rev().find_map(|one| self.chain.headers().place(&one.id()));
                (refused.map(|refused| refusal(&refused)), headers.len(), known)
            }
        };
        let wanted = shown.map_or_else(Vec::new, |shown| self.wanted(&shown.id, MOST_OF_ONE));
        HeadersDone { refused, count, shown, wanted, standing: self.standing() }
    }

    fn sync(&mut self, begin: bool, bytes: &Bytes, now: u64) -> Result<SyncStep, Refusal> {
        let headers: Vec<C::Header> =
            decoded_list(bytes, MAX_HEADERS).map_err(|error| Refusal::Misbehaved(error.to_string()))?;
        if begin {
            self.syncs += 1;
            let secret = self.chain.secret(b"header sync", &self.syncs.to_le_bytes());
            let from = headers.first().map(Header::previous).unwrap_or(self.chain.headers().tip().id);
            self.sync = Some(HeaderSync::new(self.chain.headers(), &from, secret));
        }
        let mut sync = self.sync.take().ok_or(Refusal::Later)?;
        let step = self.chain.sync_headers(&mut sync, &headers, now).map_err(|error| match error {
            SyncError::Refused(refused) => refusal(&refused),
            SyncError::TooLong => Refusal::Misbehaved(error.to_string()),
            // It may have gone over to another branch in between.
            SyncError::LowWork { .. } | SyncError::Changed => Refusal::LowWork,
        })?;
        if let SyncStep::After(id) = step {
            // Who has more sends more at once: else one header at a time would keep others waiting for as long as one likes.
            let is_all = headers.len() < MAX_HEADERS && headers.last().is_some_and(|last| last.id() == id);
            if is_all {
                return Err(Refusal::LowWork);
            }
            self.sync = Some(sync);
        }
        Ok(step)
    }

    fn wanted(&self, end: &BlockId, most: usize) -> Vec<(u64, BlockId)> {
        let headers = self.chain.headers();
        let wanted = self.chain.wanted_to(end, most.min(MOST_OF_ONE)).into_iter();
        wanted.filter_map(|id| Some((headers.place(&id)?.height, id))).collect()
    }

    // ---- blocks

    fn accept(&mut self, block: BlockOf<C, S>, now: u64) -> BlockDone {
        let id = block.header.id();
        let accepted = self.chain.accept(block, now);
        self.accepted(id, accepted, now)
    }

    fn accept_own(&mut self, block: BlockOf<C, S>, now: u64) -> BlockDone {
        let id = block.header.id();
        let accepted = self.chain.accept_own(block, now);
        self.accepted(id, accepted, now)
    }

    /// What came of a block.
    fn accepted(
        &mut self,
        id: BlockId,
        accepted: Result<Outcome<S::Error>, BlockError>,
        now: u64,
    ) -> BlockDone {
        let mut done = empty(Some(id));
        match accepted {
            Ok(outcome) => self.follow(outcome, now, &mut done),
            Err(BlockError::Header(refused)) => done.refused = Some(refusal(&refused)),
            Err(BlockError::Mutated(_)) => done.refused = Some(Refusal::Mutated),
            Err(BlockError::Unworthy(_) | BlockError::Full) => done.refused = Some(Refusal::Later),
            Err(BlockError::Store(failure)) => {
                (done.refused, done.failure) = (Some(Refusal::Later), Some(failure.to_string()));
            }
        }
        done.place = self.chain.headers().place(&id);
        done
    }

    /// What follows from what has become of the chain.
    fn follow(&mut self, outcome: Outcome<S::Error>, now: u64, done: &mut BlockDone) {
        if let Err(failure) = self.pool.follow(&mut self.chain, &outcome, now) {
            // What is in it may be spent by now.
            self.pool.clear();
            done.failure = Some(failure.to_string());
        }
        done.invalid = outcome.invalid.iter().map(|(id, why)| (*id, why.to_string())).collect();
        let Outcome { disconnected, connected, failure, .. } = outcome;
        if let Some(failure) = failure {
            done.failure = Some(failure.to_string());
        }
        let Some(first) = connected.first() else { return };
        let headers = self.chain.headers();
        let fork = headers.header(first).map_or(BlockId::NONE, Header::previous);
        let late = &connected[connected.len().saturating_sub(MAX_ANNOUNCED)..];
        let late: Vec<C::Header> = late.iter().filter_map(|id| headers.header(id).cloned()).collect();
        // Who is still far behind has nothing to tell.
        let is_late = headers.tip().height < self.chain.tip().height + LATE;
        let block = if is_late { self.chain.block(&self.chain.tip().id) } else { Ok(None) };
        let compact =
            |block: BlockOf<C, S>| CompactBlock::of(&block, self.nonce(&block.header.id())).to_bytes();
        let compact = block.map(|block| block.map(compact));
        let compact = compact.unwrap_or_else(|failure| {
            done.failure = Some(failure.to_string());
            None
        });
        let connected_now = connected.iter().filter(|_| self.orphans.len() > 0);
        let made: Vec<S::Tx> = connected_now
            .filter_map(|id| self.chain.block(id).ok().flatten())
            .flat_map(|block| block.transactions)
            .collect();
        made.iter().for_each(|transaction| self.adopt(transaction, now, &mut done.admitted));
        done.progress = Some(Progress {
            standing: self.standing(),
            fork,
            disconnected,
            connected,
            compact: compact.unwrap_or_default().into(),
            headers: encoded_list(&late),
        });
    }

    fn compact(&mut self, bytes: &Bytes, now: u64) -> LedgerDone<C, S> {
        let compact = match CompactBlock::<C::Header, S::Tx>::from_bytes(bytes) {
            Ok(compact) => compact,
            Err(error) => return block_refused(None, Refusal::Misbehaved(error.to_string())),
        };
        let id = compact.header.id();
        // The header comes first: no work is done for one that is worth nothing.
        if let Err(refused) = self.chain.accept_headers(std::slice::from_ref(&compact.header), now) {
            return block_refused(Some(id), refusal(&refused));
        }
        let place = self.chain.headers().place(&id);
        if self.chain.has_body(&id) || self.wanted(&id, 1).is_empty() {
            let done = BlockDone { place, refused: None, ..empty(Some(id)) };
            return LedgerDone::Block(Box::new(done));
        }
        let get = |id: &WtxId| self.pool.get_witnessed(id).cloned();
        let partial = Partial::new(compact, self.pool.witnessed(), get);
        match partial.missing().is_empty() {
            true => self.complete(partial, Vec::new(), now),
            false => LedgerDone::Partial(Box::new(partial)),
        }
    }

    fn complete(
        &mut self,
        partial: Partial<C::Header, S::Tx>,
        transactions: Vec<S::Tx>,
        now: u64,
    ) -> LedgerDone<C, S> {
        let id = partial.id();
        match partial.complete(transactions) {
            Ok(block) => LedgerDone::Block(Box::new(self.accept(block, now))),
            Err(error) => block_refused(Some(id), Refusal::Misbehaved(error.to_string())),
        }
    }

    fn read(&self, id: &BlockId, form: &Form) -> Read {
        let height = self.chain.headers().place(id).map_or(0, |place| place.height);
        let Ok(Some(block)) = self.chain.block(id) else {
            let is_gone = (1..=self.chain.pruned()).contains(&height);
            return if is_gone { Read::Pruned(self.chain.pruned()) } else { Read::Whole(Bytes::new()) };
        };
        let is_late = height + LATE > self.chain.tip().height;
        match form {
            Form::Compact if is_late => {
                Read::Compact(CompactBlock::of(&block, self.nonce(id)).to_bytes().into())
            }
            Form::Some(at) if is_late => {
                let of = |at: &u32| block.transactions.get(*at as usize).cloned();
                match at.iter().map(of).collect::<Option<Vec<S::Tx>>>() {
                    Some(transactions) => Read::Some(encoded_list(&transactions)),
                    None => Read::OutOfRange,
                }
            }
            Form::Whole | Form::Compact | Form::Some(_) => Read::Whole(block.to_bytes().into()),
        }
    }

    // ---- transactions

    fn add(&mut self, bytes: &Bytes, now: u64) -> AddDone {
        let mut done = AddDone::default();
        let transactions = match decoded_list::<S::Tx>(bytes, MAX_INVENTORY) {
            Ok(transactions) => transactions,
            Err(error) => {
                done.malformed = Some(error.to_string());
                return done;
            }
        };
        for transaction in transactions {
            let wtxid = transaction.wtxid();
            done.given.push(wtxid);
            match self.pool.add(&mut self.chain, transaction.clone(), now) {
                Ok(_) => {
                    done.admitted.push(wtxid);
                    self.adopt(&transaction, now, &mut done.admitted);
                }
                Err(PoolError::Known) => {}
                Err(PoolError::Invalid(_)) => {
                    let footprint = self.chain.state().footprint(&transaction);
                    self.orphans.add(transaction, footprint);
                    done.refused.push(wtxid);
                }
                Err(error) => {
                    done.unsigned += usize::from(error == PoolError::Signature);
                    done.refused.push(wtxid);
                }
            }
        }
        done
    }

    /// Those that have waited for what this one makes, and for what they make in turn.
    fn adopt(&mut self, transaction: &S::Tx, now: u64, admitted: &mut Vec<WtxId>) {
        if self.orphans.len() == 0 {
            return;
        }
        let mut made = VecDeque::from([self.chain.state().footprint(transaction).makes]);
        while let Some(slots) = made.pop_front() {
            for orphan in self.orphans.that_use(&slots) {
                let footprint = self.chain.state().footprint(&orphan);
                match self.pool.add(&mut self.chain, orphan.clone(), now) {
                    Ok(_) => {
                        admitted.push(orphan.wtxid());
                        made.push_back(footprint.makes);
                    }
                    // It may lack something else.
                    Err(PoolError::Invalid(_)) => self.orphans.add(orphan, footprint),
                    Err(_) => {}
                }
            }
        }
    }

    /// A transaction of somebody who wants to know what became of it.
    pub(super) fn submit(
        &mut self,
        transaction: S::Tx,
        now: u64,
    ) -> (Result<TxId, PoolError<S::Error>>, Vec<WtxId>) {
        let (id, wtxid) = (transaction.id(), transaction.wtxid());
        let result = self.pool.add(&mut self.chain, transaction.clone(), now);
        let mut admitted = Vec::new();
        let result = match result {
            Ok(_) => {
                admitted.push(wtxid);
                self.adopt(&transaction, now, &mut admitted);
                Ok(id)
            }
            Err(PoolError::Known) => Ok(id),
            Err(error) => Err(error),
        };
        (result, admitted)
    }

    fn waiting(&self, ids: &[WtxId]) -> Bytes {
        // Several such answers have room on a link.
        let (mut chosen, mut left) = (Vec::new(), MAX_BLOCK / 4);
        for transaction in ids.iter().take(MAX_INVENTORY).filter_map(|id| self.pool.get_witnessed(id)) {
            let bytes = transaction.to_bytes().len();
            if bytes + 8 > left && !chosen.is_empty() {
                break;
            }
            left = left.saturating_sub(bytes + 8);
            chosen.push(transaction.clone());
        }
        encoded_list(&chosen)
    }

    fn work(&mut self, job: LedgerJob<C, S>) -> LedgerDone<C, S> {
        match job {
            LedgerJob::Stand { now } => {
                self.pool.expire(now);
                LedgerDone::Standing(self.standing())
            }
            LedgerJob::Headers { headers, now } => LedgerDone::Headers(self.headers(&headers, now)),
            LedgerJob::Sync { begin, headers, now } => {
                let step = self.sync(begin, &headers, now);
                LedgerDone::Synced(step, self.standing())
            }
            LedgerJob::EndSync => {
                self.sync = None;
                LedgerDone::Nothing
            }
            LedgerJob::After { locator } => {
                LedgerDone::After(encoded_list(&self.chain.after(&locator, MAX_HEADERS)))
            }
            LedgerJob::Wanted { end, most } => LedgerDone::Wanted(self.wanted(&end, most)),
            LedgerJob::Accept { id, block, now } => match BlockOf::<C, S>::from_bytes(&block) {
                Err(error) => block_refused(Some(id), Refusal::Misbehaved(error.to_string())),
                Ok(block) if block.header.id() != id => {
                    block_refused(Some(id), Refusal::Misbehaved("another block than was asked for".into()))
                }
                Ok(block) => LedgerDone::Block(Box::new(self.accept(block, now))),
            },
            LedgerJob::Mined { block, now } => LedgerDone::Block(Box::new(self.accept_own(block, now))),
            LedgerJob::Compact { compact, now } => self.compact(&compact, now),
            LedgerJob::Complete { partial, transactions, now } => {
                match decoded_list::<S::Tx>(&transactions, MAX_TRANSACTIONS) {
                    Ok(transactions) => self.complete(*partial, transactions, now),
                    Err(error) => block_refused(Some(partial.id()), Refusal::Misbehaved(error.to_string())),
                }
            }
            LedgerJob::Read { id, form } => LedgerDone::Read(self.read(&id, &form)),
            LedgerJob::HeaderAt { height } => {
                let id = self.chain.at(height).filter(|_| height > 0);
                LedgerDone::HeaderAt(id.and_then(|id| self.chain.headers().header(&id).cloned()))
            }
            LedgerJob::ReadAt { height } if (1..=self.chain.pruned()).contains(&height) => {
                LedgerDone::ReadAt(Err(LedgerError::Pruned { height }))
            }
            LedgerJob::ReadAt { height } => {
                let block = self.chain.at(height).map_or(Ok(None), |id| self.chain.block(&id));
                LedgerDone::ReadAt(block.map_err(|failure| LedgerError::Storage(failure.to_string())))
            }
            LedgerJob::Add { transactions, now } => LedgerDone::Added(self.add(&transactions, now)),
            LedgerJob::Submit { transaction, now } => {
                let (result, admitted) = self.submit(transaction, now);
                LedgerDone::Submitted(result.map_err(|error| not_submitted(&error)), admitted)
            }
            LedgerJob::Lacking { mut ids } => {
                ids.retain(|id| self.pool.get_witnessed(id).is_none());
                LedgerDone::Lacking(ids)
            }
            LedgerJob::Waiting { ids } => LedgerDone::Waiting(self.waiting(&ids)),
            LedgerJob::Pool { from } => LedgerDone::Pool(self.pool.witnessed_from(&from, MAX_INVENTORY)),
            LedgerJob::Inspect(look) => {
                look(self.chain.state(), &self.chain.view(), self.chain.tip());
                LedgerDone::Nothing
            }
            LedgerJob::Serve { ask, now } => LedgerDone::Served(self.serve(ask, now)),
            LedgerJob::Template { to, now } => {
                let block = template(&self.chain, &self.pool, &to, now);
                LedgerDone::Template(block.map_err(|failure| LedgerError::Storage(failure.to_string())))
            }
        }
    }
}

impl<C, S, D> Worker<LedgerJob<C, S>> for Keeper<C, S, D>
where
    C: Consensus,
    S: State,
    D: Store + Send,
{
    fn run(&mut self, batch: Vec<LedgerJob<C, S>>) -> Vec<LedgerDone<C, S>> {
        batch.into_iter().map(|job| self.work(job)).collect()
    }

    /// The chain is as it is in its store; nothing else is left.
    fn crash(&mut self, batch: Vec<LedgerJob<C, S>>, rng: &mut Rng) {
        let done = rng.below(batch.len() as u64 + 1) as usize;
        batch.into_iter().take(done).for_each(|job| drop(self.work(job)));
        self.pool.clear();
        self.orphans.clear();
        self.sync = None;
        // If the store fails here, so it will when next asked.
        let _ = self.chain.reopen();
    }
}

impl<C: Consensus, S: State, D> fmt::Debug for Keeper<C, S, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keeper({} in the pool, {} orphans)", self.pool.len(), self.orphans.len())
    }
}

fn empty(id: Option<BlockId>) -> BlockDone {
    BlockDone {
        id,
        place: None,
        refused: None,
        invalid: Vec::new(),
        progress: None,
        admitted: Vec::new(),
        failure: None,
    }
}

fn block_refused<C: Consensus, S: State>(id: Option<BlockId>, refused: Refusal) -> LedgerDone<C, S> {
    LedgerDone::Block(Box::new(BlockDone { refused: Some(refused), ..empty(id) }))
}

/// What its user is told.
fn not_submitted<E: std::fmt::Display>(error: &PoolError<E>) -> LedgerError {
    match error {
        PoolError::Store(failure) => LedgerError::Storage(failure.to_string()),
        PoolError::Invalid(_) | PoolError::Signature => LedgerError::Invalid(error.to_string()),
        _ => LedgerError::Refused(error.to_string()),
    }
}

fn refusal(refused: &Refused) -> Refusal {
    match refused {
        _ if refused.is_misbehaviour() => Refusal::Misbehaved(refused.to_string()),
        Refused::Unconnected(_) => Refusal::Unconnected,
        Refused::LowWork { .. } => Refusal::LowWork,
        _ => Refusal::Later,
    }
}
