//! A runner's side of its handles: who asked what, and who listens.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::channel::{mpsc, oneshot};

use super::AskError;
use crate::protocol::{OpId, Protocol};

/// What a [`Handle`](super::Handle) asks of the runner.
pub(crate) enum Call<P: Protocol> {
    /// Give the machine a command.
    Command {
        /// Its number.
        op: OpId,
        /// What is asked.
        command: P::Command,
        /// Where items go.
        items: mpsc::Sender<P::Item>,
        /// How many of them the asker has read since the machine was told.
        read: Arc<AtomicUsize>,
        /// Where the outcome goes.
        outcome: oneshot::Sender<Result<P::Outcome, AskError>>,
    },
    /// The asker is gone.
    Cancel(OpId),
    /// The asker has read items.
    Read(OpId),
    /// Send every event there too.
    Listen(mpsc::Sender<P::Event>),
    /// Answer after a while.
    Sleep(Duration, oneshot::Sender<()>),
}

/// What the runner has to do about a call.
pub(crate) enum Todo<P: Protocol> {
    /// Hand the machine a command.
    Command(OpId, P::Command),
    /// Tell the machine that an asker is gone.
    Cancel(OpId),
    /// Tell the machine that an asker has read so many items.
    Read(OpId, usize),
    /// Answer after a while.
    Sleep(Duration, oneshot::Sender<()>),
    /// Nothing.
    Nothing,
}

/// One node's open operations and listeners. It holds no more than its handles have open
/// ([`MAX_OPEN_CALLS`](super::MAX_OPEN_CALLS)).
pub(crate) struct Desk<P: Protocol> {
    open: BTreeMap<OpId, Asker<P>>,
    listeners: Vec<mpsc::Sender<P::Event>>,
}

struct Asker<P: Protocol> {
    items: mpsc::Sender<P::Item>,
    read: Arc<AtomicUsize>,
    outcome: oneshot::Sender<Result<P::Outcome, AskError>>,
}

impl<P: Protocol> Default for Desk<P> {
    fn default() -> Self {
        Desk { open: BTreeMap::new(), listeners: Vec::new() }
    }
}

impl<P: Protocol> Desk<P> {
    /// Notes a call.
    pub(crate) fn take(&mut self, call: Call<P>) -> Todo<P> {
        match call {
            Call::Command { op, command, items, read, outcome } => {
                self.open.insert(op, Asker { items, read, outcome });
                Todo::Command(op, command)
            }
            Call::Cancel(op) => match self.open.remove(&op) {
                Some(_) => Todo::Cancel(op),
                None => Todo::Nothing,
            },
            Call::Read(op) => match self.open.get(&op) {
                Some(asker) => Todo::Read(op, asker.read.swap(0, Ordering::Relaxed)),
                None => Todo::Nothing,
            },
            Call::Listen(listener) => {
                self.listeners.retain(|listener| !listener.is_closed());
                self.listeners.push(listener);
                Todo::Nothing
            }
            Call::Sleep(duration, sender) => Todo::Sleep(duration, sender),
        }
    }

    /// Passes an item on. If its asker reads too slowly the operation ends, and is to be cancelled. What nobody here has
    /// asked for counts as read.
    pub(crate) fn item(&mut self, op: OpId, item: P::Item) -> Todo<P> {
        let Some(asker) = self.open.get_mut(&op) else { return Todo::Read(op, 1) };
        match asker.items.try_send(item) {
            Err(error) if error.is_full() => {
                self.finish_with(op, Err(AskError::Lagged));
                Todo::Cancel(op)
            }
            _ => Todo::Nothing,
        }
    }

    /// Passes an outcome on. Says whether anybody here had asked.
    pub(crate) fn finish(&mut self, op: OpId, outcome: P::Outcome) -> Result<(), P::Outcome> {
        match self.open.contains_key(&op) {
            true => {
                self.finish_with(op, Ok(outcome));
                Ok(())
            }
            false => Err(outcome),
        }
    }

    fn finish_with(&mut self, op: OpId, outcome: Result<P::Outcome, AskError>) {
        if let Some(asker) = self.open.remove(&op) {
            let _ = asker.outcome.send(outcome);
        }
    }

    /// Passes an event on to whoever listens; a listener that is too far behind is let go.
    pub(crate) fn event(&mut self, event: &P::Event) {
        self.listeners.retain_mut(|listener| listener.try_send(event.clone()).is_ok());
    }
}

impl<P: Protocol> fmt::Debug for Desk<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Desk({} open, {} listeners)", self.open.len(), self.listeners.len())
    }
}

impl<P: Protocol> fmt::Debug for Call<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Call::Command { op, .. } => write!(f, "Command({op:?})"),
            Call::Cancel(op) => write!(f, "Cancel({op:?})"),
            Call::Read(op) => write!(f, "Read({op:?})"),
            Call::Listen(_) => f.write_str("Listen"),
            Call::Sleep(duration, _) => write!(f, "Sleep({duration:?})"),
        }
    }
}

impl<P: Protocol> fmt::Debug for Todo<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Todo::Command(op, _) => write!(f, "Command({op:?})"),
            Todo::Cancel(op) => write!(f, "Cancel({op:?})"),
            Todo::Read(op, items) => write!(f, "Read({op:?}, {items})"),
            Todo::Sleep(duration, _) => write!(f, "Sleep({duration:?})"),
            Todo::Nothing => f.write_str("Nothing"),
        }
    }
}
