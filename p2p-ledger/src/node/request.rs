//! What users ask of the machine beside [`Ledger`](crate::Ledger).

use std::fmt;

use futures::channel::oneshot;
use p2p_core::{AskError, Handle};
use p2p_overlay::Membership;

use super::LedgerNode;
use super::job::{Look, Standing};
use crate::chain::BlockOf;
use crate::consensus::Consensus;
use crate::headers::Tip;
use crate::id::TxId;
use crate::ledger::LedgerError;
use crate::request::request;
use crate::state::State;
use crate::store::View;

/// A command to [`LedgerNode`]: see the typed requests.
pub enum LedgerCommand<C: Consensus, S: State> {
    /// See [`Submit`].
    Submit(S::Tx),
    /// See [`Status`].
    Status,
    /// See [`BlockAt`].
    BlockAt(u64),
    /// See [`HeaderAt`].
    HeaderAt(u64),
    /// See [`Inspect`].
    Inspect(Look<S>),
    /// See [`Template`].
    Template(Vec<u8>),
    /// See [`Mined`].
    Mined(BlockOf<C, S>),
}

/// How a command ended.
pub enum LedgerOutcome<C: Consensus, S: State> {
    /// Of [`Submit`].
    Submitted(Result<TxId, LedgerError>),
    /// Of [`Status`].
    Status(Result<Standing, LedgerError>),
    /// Of [`BlockAt`].
    Block(Result<Option<BlockOf<C, S>>, LedgerError>),
    /// Of [`HeaderAt`].
    Header(Result<Option<C::Header>, LedgerError>),
    /// Of [`Inspect`].
    Inspected(Result<(), LedgerError>),
    /// Of [`Template`].
    Template(Result<BlockOf<C, S>, LedgerError>),
    /// Of [`Mined`].
    Mined(Result<Tip, LedgerError>),
}

/// Has a transaction wait for a block; see [`Ledger::submit`](crate::Ledger::submit).
#[derive(Clone, Debug)]
pub struct Submit<T>(pub T);

/// Where the chain and its headers stand.
#[derive(Clone, Copy, Debug)]
pub struct Status;

/// The block of the chain at a height.
#[derive(Clone, Copy, Debug)]
pub struct BlockAt(pub u64);

/// The header of the chain at a height, from 1 on.
#[derive(Clone, Copy, Debug)]
pub struct HeaderAt(pub u64);

/// Looks at the state, while nothing changes it: keep it short, for all else waits. [`inspect`] brings back what it sees.
pub struct Inspect<S>(pub Look<S>);

/// The next block but for its header's seal, with the reward for `to`, in the words of [`State::first`].
#[derive(Clone, Debug)]
pub struct Template(pub Vec<u8>);

/// Takes in a block that this node's user has made, and tells others of it. What comes back is where the chain stands then:
/// at the block, unless another one was first.
#[derive(Clone, Debug)]
pub struct Mined<B>(pub B);

/// Asks something of the state of a node, as it is at a tip.
///
/// # Errors
/// See [`LedgerError`].
pub async fn inspect<M: Membership, C: Consensus, S: State, T: Send + 'static>(
    handle: &Handle<LedgerNode<M, C, S>>,
    look: impl FnOnce(&S, &View<'_>, Tip) -> T + Send + 'static,
) -> Result<T, LedgerError> {
    let (sender, seen) = oneshot::channel();
    let look: Look<S> = Box::new(move |state, view, tip| drop(sender.send(look(state, view, tip))));
    handle.ask(Inspect(look)).await??;
    seen.await.map_err(|_| LedgerError::Ask(AskError::Stopped))
}

request!([M: Membership, C: Consensus, S: State] LedgerNode<M, C, S>, Submit<S::Tx>,
    Result<TxId, LedgerError>, |self| LedgerCommand::Submit(self.0), LedgerOutcome::Submitted);
request!([M: Membership, C: Consensus, S: State] LedgerNode<M, C, S>, Status,
    Result<Standing, LedgerError>, |self| LedgerCommand::Status, LedgerOutcome::Status);
request!([M: Membership, C: Consensus, S: State] LedgerNode<M, C, S>, BlockAt,
    Result<Option<BlockOf<C, S>>, LedgerError>, |self| LedgerCommand::BlockAt(self.0), LedgerOutcome::Block);
request!([M: Membership, C: Consensus, S: State] LedgerNode<M, C, S>, HeaderAt,
    Result<Option<C::Header>, LedgerError>, |self| LedgerCommand::HeaderAt(self.0), LedgerOutcome::Header);
request!([M: Membership, C: Consensus, S: State] LedgerNode<M, C, S>, Inspect<S>,
    Result<(), LedgerError>, |self| LedgerCommand::Inspect(self.0), LedgerOutcome::Inspected);
request!([M: Membership, C: Consensus, S: State] LedgerNode<M, C, S>, Template,
    Result<BlockOf<C, S>, LedgerError>, |self| LedgerCommand::Template(self.0), LedgerOutcome::Template);
request!([M: Membership, C: Consensus, S: State] LedgerNode<M, C, S>, Mined<BlockOf<C, S>>,
    Result<Tip, LedgerError>, |self| LedgerCommand::Mined(self.0), LedgerOutcome::Mined);

impl<S> fmt::Debug for Inspect<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Inspect")
    }
}

impl<C: Consensus, S: State> fmt::Debug for LedgerCommand<C, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LedgerCommand::Submit(transaction) => write!(f, "Submit({transaction:?})"),
            LedgerCommand::Status => f.write_str("Status"),
            LedgerCommand::BlockAt(height) => write!(f, "BlockAt({height})"),
            LedgerCommand::HeaderAt(height) => write!(f, "HeaderAt({height})"),
            LedgerCommand::Inspect(_) => f.write_str("Inspect"),
            LedgerCommand::Template(to) => write!(f, "Template({to:?})"),
            LedgerCommand::Mined(block) => write!(f, "Mined({block:?})"),
        }
    }
}

impl<C: Consensus, S: State> fmt::Debug for LedgerOutcome<C, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LedgerOutcome::Submitted(result) => write!(f, "Submitted({result:?})"),
            LedgerOutcome::Status(result) => write!(f, "Status({result:?})"),
            LedgerOutcome::Block(result) => write!(f, "Block({result:?})"),
            LedgerOutcome::Header(result) => write!(f, "Header({result:?})"),
            LedgerOutcome::Inspected(result) => write!(f, "Inspected({result:?})"),
            LedgerOutcome::Template(result) => write!(f, "Template({result:?})"),
            LedgerOutcome::Mined(result) => write!(f, "Mined({result:?})"),
        }
    }
}
