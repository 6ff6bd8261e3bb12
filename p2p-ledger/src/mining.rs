//! Mining: what the next block would be, and the search for a nonce.
//!
//! The search is a [`Job`]: a machine hands out ranges of nonces, small enough that a new tip is not kept waiting, to as
//! many workers as it has, and the one that finds says so. [`Solo`] keeps count of them. Whoever mines elsewhere takes the
//! header from [`Solo::header`] and brings it back with its nonce.

use p2p_core::{Job, JobError, Worker};

use crate::block::{Block, transactions_root};
use crate::chain::{BlockOf, Chain};
use crate::codec::Encode;
use crate::consensus::{Consensus, ProofOfWork};
use crate::header::WorkHeader;
use crate::pool::Pool;
use crate::state::State;
use crate::store::{Store, StoreError};

/// The next block, complete but for its header's seal: what pays most from the pool, and a first transaction that pays
/// `to`, in the words of [`State::first`]. `now` is the Unix time in seconds.
///
/// # Errors
/// The storage failed.
pub fn template<C: Consensus, S: State, D: Store>(
    chain: &Chain<C, S, D>,
    pool: &Pool<S>,
    to: &[u8],
    now: u64,
) -> Result<BlockOf<C, S>, StoreError> {
    let place = chain.next_place();
    let time = now.max(place.median_time + 1);
    let draft = |root| chain.with_past(|past| chain.headers().consensus().draft(past, root, time));
    // A header, a count of up to five bytes, and the first transaction, whose length does not depend on the fees.
    let first = chain.state().first(&place, 0, to);
    let header = draft(transactions_root::<S::Tx>(&[])).to_bytes().len();
    let reserved = header + 5 + first.map_or(0, |first| first.to_bytes().len());
    let (chosen, fees) = pool.select(chain, chain.rules().block_bytes.saturating_sub(reserved))?;
    let first = chain.state().first(&place, fees, to);
    let transactions: Vec<S::Tx> = first.into_iter().chain(chosen).collect();
    Ok(Block { header: draft(transactions_root(&transactions)), transactions })
}

/// A range of nonces to try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Search<H> {
    /// The header.
    pub header: H,
    /// The first nonce.
    pub from: u64,
    /// How many to try.
    pub attempts: u64,
}

/// What came of a [`Search`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Searched<H> {
    /// The header has a good nonce.
    Found(H),
    /// None of these nonces is good.
    Nothing,
    /// It was not done.
    Failed(JobError),
}

impl<H: WorkHeader + Send + 'static> Job for Search<H> {
    type Done = Searched<H>;

    fn failed(&self, why: JobError) -> Searched<H> {
        Searched::Failed(why)
    }
}

/// Tries nonces. Have one for each processor that is to mine.
#[derive(Clone, Debug)]
pub struct Miner<H>(pub ProofOfWork<H>);

impl<H: WorkHeader + Send + 'static> Worker<Search<H>> for Miner<H> {
    fn run(&mut self, batch: Vec<Search<H>>) -> Vec<Searched<H>> {
        let one = |search: Search<H>| {
            let Search { mut header, from, attempts } = search;
            match self.0.mine(&mut header, from, attempts) {
                true => Searched::Found(header),
                false => Searched::Nothing,
            }
        };
        batch.into_iter().map(one).collect()
    }
}

/// The search for one block's nonce, in ranges.
///
/// ```
/// use p2p_core::{Key, Worker};
/// use p2p_ledger::{Block, BlockHeader, BlockId, Miner, ProofOfWork, Solo, Transaction, Work};
///
/// let rules: ProofOfWork<BlockHeader<Work>> = ProofOfWork::regtest();
/// let seal = Work { bits: rules.limit, nonce: 0 };
/// let header = BlockHeader { height: 1, previous: BlockId::NONE, root: Key::ZERO, time: 1_600, seal };
/// let block: Block<_, Transaction> = Block { header, transactions: vec![] };
/// let (mut solo, mut miner) = (Solo::new(block, 16), Miner(rules));
/// let block = loop {
///     let done = miner.run(vec![solo.next_range()]).remove(0);
///     if let Some(block) = solo.done(done) {
///         break block;
///     }
/// };
/// assert_eq!(block.header.height, 1);
/// ```
#[derive(Clone, Debug)]
pub struct Solo<H, T> {
    block: Block<H, T>,
    attempts: u64,
    from: u64,
}

impl<H: WorkHeader, T: Clone> Solo<H, T> {
    /// A search for this block's nonce, so many at a time: 65,536 take some ten milliseconds.
    pub fn new(block: Block<H, T>, attempts: u64) -> Solo<H, T> {
        Solo { block, attempts, from: 0 }
    }

    /// The same from this nonce on: who looks for the same block's elsewhere should begin with another.
    #[must_use]
    pub fn starting_at(self, nonce: u64) -> Solo<H, T> {
        Solo { from: nonce, ..self }
    }

    /// The header that a nonce is looked for.
    pub fn header(&self) -> &H {
        &self.block.header
    }

    /// The next range. It may be handed out while others are not back.
    pub fn next_range(&mut self) -> Search<H> {
        let from = self.from;
        self.from = from.wrapping_add(self.attempts);
        Search { header: self.block.header.clone(), from, attempts: self.attempts }
    }

    /// Takes back what came of a range: the block, if it has its nonce. What belongs to another block is passed over, so
    /// after [`renew`](Solo::renew) late ranges do no harm.
    pub fn done(&self, done: Searched<H>) -> Option<Block<H, T>> {
        let Searched::Found(header) = done else { return None };
        let same =
            header.previous() == self.block.header.previous() && header.root() == self.block.header.root();
        same.then(|| Block { header, transactions: self.block.transactions.clone() })
    }

    /// Goes over to another block: the tip is a new one, or the pool has something better.
    pub fn renew(&mut self, block: Block<H, T>) {
        (self.block, self.from) = (block, 0);
    }
}
