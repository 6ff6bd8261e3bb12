//! What users ask of a light client, beside [`Ledger`].

use std::fmt;

use async_trait::async_trait;
use futures::stream::{BoxStream, StreamExt};
use p2p_core::Handle;
use p2p_overlay::Membership;

use super::{LightEvent, LightNode};
use crate::chain::BlockOf;
use crate::consensus::Consensus;
use crate::headers::Tip;
use crate::id::TxId;
use crate::inclusion::InclusionOf;
use crate::ledger::{Change, Ledger, LedgerError, Mark, Scanned};
use crate::node::{BlockAt, HeaderAt, Status, Submit};
use crate::request::request;
use crate::state::State;

/// A command to a [`LightNode`]: see the typed requests, [`Status`], [`BlockAt`] and [`Submit`] among them.
pub enum LightCommand<P, S: State> {
    /// See [`Status`].
    Tip,
    /// See [`HeaderAt`].
    Header(u64),
    /// See [`BlockAt`].
    Block(u64),
    /// See [`Scan`].
    Scan(Scan),
    /// See [`Prove`].
    Prove(Prove),
    /// See [`Submit`].
    Submit(S::Tx),
    /// See [`Enlist`].
    Enlist(P),
}

/// How a command ended.
pub enum LightOutcome<C: Consensus, S: State> {
    /// Of [`Status`].
    Tip(Result<Tip, LedgerError>),
    /// Of [`HeaderAt`].
    Header(Result<Option<C::Header>, LedgerError>),
    /// Of [`BlockAt`].
    Block(Result<Option<BlockOf<C, S>>, LedgerError>),
    /// Of [`Scan`].
    Scanned(Result<Scanned<BlockOf<C, S>>, LedgerError>),
    /// Of [`Prove`].
    Proved(Result<Option<InclusionOf<C, S>>, LedgerError>),
    /// Of [`Submit`].
    Submitted(Result<TxId, LedgerError>),
    /// Of [`Enlist`].
    Enlisted(bool),
}

/// The next block that may be about something; see [`Ledger::scan`].
#[derive(Clone, Debug)]
pub struct Scan {
    /// How far it has come.
    pub after: Mark,
    /// About what.
    pub about: Vec<Vec<u8>>,
}

/// Shows that a transaction is in a block; see [`Ledger::prove`].
#[derive(Clone, Copy, Debug)]
pub struct Prove {
    /// The height of the block.
    pub height: u64,
    /// The transaction.
    pub transaction: TxId,
}

/// Asks one server more from now on; says whether it will: not if it has lied, or if there are 16, or 4 of its subnet.
#[derive(Clone, Copy, Debug)]
pub struct Enlist<P>(pub P);

request!([M: Membership, C: Consensus, S: State] LightNode<M, C, S>, Status,
    Result<Tip, LedgerError>, |self| LightCommand::Tip, LightOutcome::Tip);
request!([M: Membership, C: Consensus, S: State] LightNode<M, C, S>, HeaderAt,
    Result<Option<C::Header>, LedgerError>, |self| LightCommand::Header(self.0), LightOutcome::Header);
request!([M: Membership, C: Consensus, S: State] LightNode<M, C, S>, BlockAt,
    Result<Option<BlockOf<C, S>>, LedgerError>, |self| LightCommand::Block(self.0), LightOutcome::Block);
request!([M: Membership, C: Consensus, S: State] LightNode<M, C, S>, Scan,
    Result<Scanned<BlockOf<C, S>>, LedgerError>, |self| LightCommand::Scan(self), LightOutcome::Scanned);
request!([M: Membership, C: Consensus, S: State] LightNode<M, C, S>, Prove,
    Result<Option<InclusionOf<C, S>>, LedgerError>, |self| LightCommand::Prove(self), LightOutcome::Proved);
request!([M: Membership, C: Consensus, S: State] LightNode<M, C, S>, Submit<S::Tx>,
    Result<TxId, LedgerError>, |self| LightCommand::Submit(self.0), LightOutcome::Submitted);
request!([M: Membership, C: Consensus, S: State] LightNode<M, C, S>, Enlist<M::Peer>,
    bool, |self| LightCommand::Enlist(self.0), LightOutcome::Enlisted);

#[async_trait]
impl<M: Membership, C: Consensus, S: State> Ledger<C, S> for Handle<LightNode<M, C, S>> {
    async fn submit(&self, transaction: S::Tx) -> Result<TxId, LedgerError> {
        self.ask(Submit(transaction)).await?
    }

    async fn tip(&self) -> Result<Tip, LedgerError> {
        self.ask(Status).await?
    }

    async fn block(&self, height: u64) -> Result<Option<BlockOf<C, S>>, LedgerError> {
        self.ask(BlockAt(height)).await?
    }

    async fn header(&self, height: u64) -> Result<Option<C::Header>, LedgerError> {
        self.ask(HeaderAt(height)).await?
    }

    async fn scan(
        &self,
        after: Mark,
        about: &(dyn Fn() -> Vec<Vec<u8>> + Sync),
    ) -> Result<Scanned<BlockOf<C, S>>, LedgerError> {
        let about = about();
        self.ask(Scan { after, about }).await?
    }

    async fn prove(&self, height: u64, transaction: TxId) -> Result<Option<InclusionOf<C, S>>, LedgerError> {
        self.ask(Prove { height, transaction }).await?
    }

    fn follow(&self) -> BoxStream<'static, Change> {
        let changes = self.events().filter_map(|event| async move {
            match event {
                LightEvent::Changed(change) => Some((*change).clone()),
                LightEvent::Lied(..) => None,
            }
        });
        changes.boxed()
    }
}

impl<P: fmt::Debug, S: State> fmt::Debug for LightCommand<P, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LightCommand::Tip => f.write_str("Tip"),
            LightCommand::Header(height) => write!(f, "Header({height})"),
            LightCommand::Block(height) => write!(f, "Block({height})"),
            LightCommand::Scan(scan) => write!(f, "Scan(after {:?})", scan.after),
            LightCommand::Prove(prove) => write!(f, "{prove:?}"),
            LightCommand::Submit(transaction) => write!(f, "Submit({transaction:?})"),
            LightCommand::Enlist(peer) => write!(f, "Enlist({peer:?})"),
        }
    }
}

impl<C: Consensus, S: State> fmt::Debug for LightOutcome<C, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LightOutcome::Tip(result) => write!(f, "Tip({result:?})"),
            LightOutcome::Header(result) => write!(f, "Header({result:?})"),
            LightOutcome::Block(result) => write!(f, "Block({result:?})"),
            LightOutcome::Scanned(result) => write!(f, "Scanned({result:?})"),
            LightOutcome::Proved(result) => write!(f, "Proved({result:?})"),
            LightOutcome::Submitted(result) => write!(f, "Submitted({result:?})"),
            LightOutcome::Enlisted(is_asked) => write!(f, "Enlisted({is_asked})"),
        }
    }
}
