//! An async user's end of a running protocol.
//!
//! A [`Handle`] is the same type over QUIC and in the simulator: a [`Request`] goes in as a command, its items
//! come back as a stream, its reply as a future, and dropping either takes the question back. Nothing here
//! needs an async runtime; the runner on the other side keeps a [`Desk`](desk::Desk).

mod ask;
pub(crate) mod desk;

use std::fmt;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::channel::{mpsc, oneshot};
use futures::future::{Either, select};
use futures::stream::Stream;

pub use ask::Ask;
use desk::Call;

use crate::protocol::{OpId, Protocol};

/// How many calls all handles of one runner may have open at a time, in operations, sleeps and subscriptions
/// together. The queue to the runner holds at most three entries for each.
pub const MAX_OPEN_CALLS: usize = 65_536;
/// How many items of one operation, or events of one subscription, wait for a slow reader.
pub const MAX_WAITING: usize = 1024;
/// After how many items read a machine is told that its asker has read them: see
/// [`Protocol::on_read`](crate::Protocol::on_read).
pub const READ_EVERY: usize = 32;

/// A typed question: a command, and how to read the answer to it.
pub trait Request<P: Protocol> {
    /// What comes on the way.
    type Item;
    /// What comes at the end.
    type Reply;

    /// The command that asks it.
    fn command(self) -> P::Command;
    /// This request's reading of an item; `None` if such an item does not belong to it.
    fn item(item: P::Item) -> Option<Self::Item>;
    /// This request's reading of an outcome; `None` if such an outcome does not belong to it.
    fn reply(outcome: P::Outcome) -> Option<Self::Reply>;
}

/// Why there is no reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    /// The caller has too much open at once: see [`MAX_OPEN_CALLS`].
    #[error("more than {MAX_OPEN_CALLS} calls are open: wait for some of them to end")]
    Busy,
    /// The caller did not read the items as fast as they came: see [`MAX_WAITING`].
    #[error("more than {MAX_WAITING} items were waiting to be read: read the stream as it comes")]
    Lagged,
    /// The protocol has stopped, or its node has died.
    #[error("the protocol has stopped")]
    Stopped,
    /// The protocol ended the command with an outcome of another kind: a mistake in its [`Request`].
    #[error("the outcome does not belong to the request: its Request and its machine disagree")]
    Mismatch,
}

/// The time was up first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not done in time")]
pub struct TimedOut;

/// Talks to one running protocol; cheap to clone.
///
/// ```
/// use p2p_core::{Cx, NoJob, OpId, Protocol, Request, SimPeer};
/// use p2p_core::sim::{Network, Sim};
///
/// /// Counts what it is asked.
/// struct Counter(u64);
/// struct Add(u64);
///
/// impl Protocol for Counter {
///     type Peer = SimPeer;
///     type Msg = ();
///     type Timer = ();
///     type Command = u64;
///     type Item = ();
///     type Outcome = u64;
///     type Event = ();
///     type Job = NoJob;
///     fn on_message(&mut self, _: &mut Cx<'_, Self>, _: SimPeer, _: ()) {}
///     fn on_command(&mut self, cx: &mut Cx<'_, Self>, op: OpId, add: u64) {
///         self.0 += add;
///         cx.finish(op, self.0);
///     }
/// }
/// impl Request<Counter> for Add {
///     type Item = ();
///     type Reply = u64;
///     fn command(self) -> u64 { self.0 }
///     fn item(_: ()) -> Option<()> { None }
///     fn reply(outcome: u64) -> Option<u64> { Some(outcome) }
/// }
///
/// let mut sim = Sim::<Counter>::new(1, Network::default());
/// let peer = sim.spawn(|_| Counter(0));
/// let counter = sim.handle(peer);
/// let total = sim.block_on(async move {
///     counter.ask(Add(2)).await?;
///     counter.ask(Add(3)).await
/// });
/// assert_eq!(total, Ok(5));
/// ```
pub struct Handle<P: Protocol> {
    send: Arc<dyn Fn(Call<P>) -> bool + Send + Sync>,
    open: Arc<OpenCalls>,
}

impl<P: Protocol> Handle<P> {
    /// A handle whose calls go to `send`, which says whether the runner is still there.
    pub(crate) fn new(
        open: Arc<OpenCalls>,
        send: impl Fn(Call<P>) -> bool + Send + Sync + 'static,
    ) -> Handle<P> {
        Handle { send: Arc::new(send), open }
    }

    /// Asks: await the result for the reply, or read its items first as a stream.
    pub fn ask<R: Request<P>>(&self, request: R) -> Ask<P, R> {
        Ask::start(self, request)
    }

    /// What the protocol says unasked, from now on.
    pub fn events(&self) -> Events<P::Event> {
        let (sender, receiver) = mpsc::channel(MAX_WAITING);
        let permit = self.open.enter();
        if permit.is_some() {
            (self.send)(Call::Listen(sender));
        }
        Events { receiver, _permit: permit }
    }

    /// Waits by the runner's clock: virtual time in the simulator.
    ///
    /// # Errors
    /// [`AskError::Busy`] or [`AskError::Stopped`].
    pub async fn sleep(&self, duration: Duration) -> Result<(), AskError> {
        let _permit = self.open.enter().ok_or(AskError::Busy)?;
        let (sender, receiver) = oneshot::channel();
        (self.send)(Call::Sleep(duration, sender));
        receiver.await.map_err(|_| AskError::Stopped)
    }

    /// The future's output if it is ready within `duration` by the runner's clock. Where the clock has stopped
    /// or cannot be asked, the future has all the time there is.
    ///
    /// # Errors
    /// It was not ready in time, and is dropped.
    pub async fn timeout<F: Future>(&self, duration: Duration, future: F) -> Result<F::Output, TimedOut> {
        match select(pin!(future), pin!(self.sleep(duration))).await {
            Either::Left((output, _)) => Ok(output),
            Either::Right((Ok(()), _)) => Err(TimedOut),
            Either::Right((Err(_), future)) => Ok(future.await),
        }
    }
}

impl<P: Protocol> Clone for Handle<P> {
    fn clone(&self) -> Self {
        Handle { send: self.send.clone(), open: self.open.clone() }
    }
}

impl<P: Protocol> fmt::Debug for Handle<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").field("open", &self.open).finish_non_exhaustive()
    }
}

/// What a protocol says unasked, as a stream. Up to [`MAX_WAITING`] events wait for the reader; the stream ends
/// when the protocol stops, or when the reader has fallen further behind than that.
#[derive(Debug)]
pub struct Events<E> {
    receiver: mpsc::Receiver<E>,
    _permit: Option<Permit>,
}

impl<E> Stream for Events<E> {
    type Item = E;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<E>> {
        Pin::new(&mut self.receiver).poll_next(cx)
    }
}

/// The calls that are open at one runner, numbered and counted.
#[derive(Debug, Default)]
pub(crate) struct OpenCalls {
    issued: AtomicU64,
    open: AtomicUsize,
}

/// User operations have the top bit set, so that a machine's own ([`Cx::op`](crate::Cx::op)) differ from them.
const USER: u64 = 1 << 63;

impl OpenCalls {
    /// A number for a user's operation.
    pub(crate) fn op(&self) -> OpId {
        OpId(USER | self.issued.fetch_add(1, Ordering::Relaxed))
    }

    fn enter(self: &Arc<Self>) -> Option<Permit> {
        let entered = self.open.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |open| {
            (open < MAX_OPEN_CALLS).then_some(open + 1)
        });
        entered.ok().map(|_| Permit(self.clone()))
    }
}

/// One open call; gives its place back when dropped.
#[derive(Debug)]
struct Permit(Arc<OpenCalls>);

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}
