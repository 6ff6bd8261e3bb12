//! The ledger as an application sees it.

use async_trait::async_trait;
use futures::stream::{BoxStream, StreamExt};
use p2p_core::{AskError, Handle, JobError, Key};
use p2p_overlay::Membership;

use crate::chain::BlockOf;
use crate::consensus::Consensus;
use crate::header::Header;
use crate::headers::Tip;
use crate::id::{BlockId, TxId};
use crate::inclusion::{Inclusion, InclusionOf};
use crate::node::{BlockAt, HeaderAt, LedgerEvent, LedgerNode, Standing, Status, Submit};
use crate::state::State;

/// What has become of the chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Where it stands.
    pub tip: Tip,
    /// The blocks that were undone, the last one first: none, but in a reorganisation.
    pub disconnected: Vec<BlockId>,
    /// The blocks that were done, the first one first.
    pub connected: Vec<BlockId>,
}

/// How far a scan has come along a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The height of the last block that was gone through; 0 if none was.
    pub height: u64,
    /// Its name.
    pub id: BlockId,
    /// What was gone by instead of blocks: the header of its filter; zero, if all blocks were looked at themselves.
    pub filters: Key,
}

impl Mark {
    /// Before the first block that can hold anything.
    pub const START: Mark = Mark { height: 0, id: BlockId::NONE, filters: Key::ZERO };
}

/// What a scan has come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scanned<B> {
    /// The next block that may be about what is looked for; those before it are not.
    Found(Mark, Box<B>),
    /// There is none up to where the chain stands.
    End(Mark),
    /// The chain does not lead, or does no longer lead, through the mark that the scan was to go on from, or what was
    /// skipped before it was skipped by a lie: go back to an earlier one.
    Gone,
}

/// Why a ledger did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LedgerError {
    /// The transaction would not be valid in the next block: the caller's mistake, or somebody else was faster.
    #[error("the transaction is not valid: {0}")]
    Invalid(String),
    /// The transaction is valid, but this node does not take it in now.
    #[error("the node does not take the transaction in: {0}")]
    Refused(String),
    /// The block was not taken in.
    #[error("the block was not taken in: {0}")]
    Block(String),
    /// The block is not kept here any more ([`ChainRules::keep`](crate::ChainRules::keep)).
    #[error(
        "the block at height {height} is not kept here any more: ask a node that keeps all, or go by filters, as a light client"
    )]
    Pruned {
        /// Its height.
        height: u64,
    },
    /// The storage failed.
    #[error("{0}")]
    Storage(String),
    /// It was not done: too much is asked at once, or the worker has failed.
    #[error(transparent)]
    Job(#[from] JobError),
    /// No answer from the machine itself.
    #[error(transparent)]
    Ask(#[from] AskError),
    /// The ledger is at the other end of a connection, and that failed.
    #[error("the ledger could not be reached: {0}")]
    Remote(String),
}

/// A record that many keep together: submit, read, follow. Take an `Arc<dyn Ledger<C, S>>`, whose consensus and state machine
/// say what blocks and transactions are.
///
/// It is implemented for the [`Handle`] of a [`LedgerNode`], which can be asked more: [`Inspect`](crate::Inspect) its state,
/// and mine by [`Template`](crate::Template) and [`Mined`](crate::Mined).
#[async_trait]
pub trait Ledger<C: Consensus, S: State>: Send + Sync {
    /// Has a transaction wait for a block, here and with all who hear of it. One that waits already is no error. That it
    /// waits says nothing of whether it will ever be in a block.
    ///
    /// # Errors
    /// See [`LedgerError`].
    async fn submit(&self, transaction: S::Tx) -> Result<TxId, LedgerError>;

    /// Where the chain stands.
    ///
    /// # Errors
    /// See [`LedgerError`].
    async fn tip(&self) -> Result<Tip, LedgerError>;

    /// The block of the chain at a height, from 1 on; `None` if there is none. It holds the proof of every transaction in
    /// it: [`Block::proof`](crate::Block::proof).
    ///
    /// # Errors
    /// See [`LedgerError`].
    async fn block(&self, height: u64) -> Result<Option<BlockOf<C, S>>, LedgerError>;

    /// The header of the chain at a height; `None` if there is none.
    ///
    /// # Errors
    /// See [`LedgerError`].
    async fn header(&self, height: u64) -> Result<Option<C::Header>, LedgerError> {
        Ok(self.block(height).await?.map(|block| block.header))
    }

    /// The next block after a mark that may be about some of this ([`Tx::about`](crate::Tx::about)). Who has all blocks at hand
    /// gives one after the other, and does not ask what is looked for; a light client goes by filters. Nobody else is told.
    ///
    /// # Errors
    /// See [`LedgerError`].
    async fn scan(
        &self,
        after: Mark,
        about: &(dyn Fn() -> Vec<Vec<u8>> + Sync),
    ) -> Result<Scanned<BlockOf<C, S>>, LedgerError> {
        let _ = about;
        // What was gone by filters is to be gone through anew, from the first block on: if that can be done here.
        if after.filters != Key::ZERO {
            self.block(1).await?;
            return Ok(Scanned::Gone);
        }
        let Some(block) = self.block(after.height + 1).await? else {
            let stands = match after.height {
                0 => true,
                height => self.block(height).await?.is_some_and(|block| block.header.id() == after.id),
            };
            return Ok(if stands { Scanned::End(after) } else { Scanned::Gone });
        };
        let follows = after.height == 0 || block.header.previous() == after.id;
        if !follows {
            return Ok(Scanned::Gone);
        }
        let mark = Mark { height: after.height + 1, id: block.header.id(), filters: Key::ZERO };
        Ok(Scanned::Found(mark, Box::new(block)))
    }

    /// Shows that a transaction is in the block of the chain at a height; `None` if it is not.
    ///
    /// # Errors
    /// See [`LedgerError`].
    async fn prove(&self, height: u64, transaction: TxId) -> Result<Option<InclusionOf<C, S>>, LedgerError> {
        Ok(self.block(height).await?.and_then(|block| Inclusion::of(&block, transaction)))
    }

    /// How many blocks of the chain confirm what somebody shows: that which it is in, and those after it. `None` if it shows
    /// nothing, or its block is not on the chain, or does not say its height.
    ///
    /// # Errors
    /// See [`LedgerError`].
    async fn confirmations(&self, shown: &InclusionOf<C, S>) -> Result<Option<u64>, LedgerError> {
        let Some(height) = shown.header.height().filter(|_| shown.holds()) else { return Ok(None) };
        let tip = self.tip().await?;
        let is_there = self.header(height).await?.as_ref() == Some(&shown.header);
        Ok((is_there && height <= tip.height).then(|| tip.height - height + 1))
    }

    /// What becomes of the chain from now on. The stream ends when the node stops, or when its reader is so far behind that
    /// it has to begin anew: compare what has been read with [`block`](Ledger::block).
    fn follow(&self) -> BoxStream<'static, Change>;
}

#[async_trait]
impl<M: Membership, C: Consensus, S: State> Ledger<C, S> for Handle<LedgerNode<M, C, S>> {
    async fn submit(&self, transaction: S::Tx) -> Result<TxId, LedgerError> {
        self.ask(Submit(transaction)).await?
    }

    async fn tip(&self) -> Result<Tip, LedgerError> {
        let Standing { tip, .. } = self.ask(Status).await??;
        Ok(tip)
    }

    async fn block(&self, height: u64) -> Result<Option<BlockOf<C, S>>, LedgerError> {
        self.ask(BlockAt(height)).await?
    }

    async fn header(&self, height: u64) -> Result<Option<C::Header>, LedgerError> {
        self.ask(HeaderAt(height)).await?
    }

    fn follow(&self) -> BoxStream<'static, Change> {
        let changes = self.events().filter_map(|event| async move {
            match event {
                LedgerEvent::Changed(change) => Some((*change).clone()),
                LedgerEvent::Neighbour(_) | LedgerEvent::Banned(..) | LedgerEvent::Failed(_) => None,
            }
        });
        changes.boxed()
    }
}
