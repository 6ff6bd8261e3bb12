//! The ledger as an application sees it.

use async_trait::async_trait;
use futures::stream::{BoxStream, StreamExt};
use p2p_core::{AskError, Handle, JobError};
use p2p_overlay::Membership;

use crate::chain::BlockOf;
use crate::consensus::Consensus;
use crate::headers::Tip;
use crate::id::{BlockId, TxId};
use crate::node::{BlockAt, LedgerEvent, LedgerNode, Standing, Status, Submit};
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
