//! One question in progress: a future of its reply and a stream of its items.

use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use futures::channel::{mpsc, oneshot};
use futures::stream::Stream;

use super::desk::Call;
use super::{AskError, Handle, MAX_WAITING, Permit, READ_EVERY, Request};
use crate::protocol::{OpId, Protocol};

/// A question in progress, from [`Handle::ask`]. As a stream it yields the items and ends when the last has
/// been read; as a future it gives the reply. Dropping it cancels the operation.
#[must_use = "dropping an Ask cancels it: await it"]
pub struct Ask<P: Protocol, R> {
    state: State<P>,
    request: PhantomData<fn(R)>,
}

enum State<P: Protocol> {
    Asked {
        op: OpId,
        handle: Handle<P>,
        items: mpsc::Receiver<P::Item>,
        /// How many were read and not told yet.
        read: Arc<AtomicUsize>,
        outcome: oneshot::Receiver<Result<P::Outcome, AskError>>,
        _permit: Permit,
    },
    Refused,
    Done,
}

impl<P: Protocol, R: Request<P>> Ask<P, R> {
    pub(super) fn start(handle: &Handle<P>, request: R) -> Ask<P, R> {
        let Some(permit) = handle.open.enter() else {
            return Ask { state: State::Refused, request: PhantomData };
        };
        let (item_sender, items) = mpsc::channel(MAX_WAITING);
        let (sender, outcome) = oneshot::channel();
        let op = handle.open.op();
        let read = Arc::new(AtomicUsize::new(0));
        // If the runner is gone, so is `sender`, and the future says `Stopped`.
        (handle.send)(Call::Command {
            op,
            command: request.command(),
            items: item_sender,
            read: read.clone(),
            outcome: sender,
        });
        let state = State::Asked { op, handle: handle.clone(), items, read, outcome, _permit: permit };
        Ask { state, request: PhantomData }
    }
}

impl<P: Protocol, R: Request<P>> Future for Ask<P, R> {
    type Output = Result<R::Reply, AskError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let ended = match &mut self.state {
            State::Asked { outcome, .. } => match Pin::new(outcome).poll(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(Ok(outcome))) => R::reply(outcome).ok_or(AskError::Mismatch),
                Poll::Ready(Ok(Err(error))) => Err(error),
                Poll::Ready(Err(oneshot::Canceled)) => Err(AskError::Stopped),
            },
            State::Refused => Err(AskError::Busy),
            State::Done => panic!("an Ask was polled after it was ready"),
        };
        self.state = State::Done;
        Poll::Ready(ended)
    }
}

impl<P: Protocol, R: Request<P>> Stream for Ask<P, R> {
    type Item = R::Item;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<R::Item>> {
        let State::Asked { op, handle, items, read, .. } = &mut self.state else { return Poll::Ready(None) };
        loop {
            match Pin::new(&mut *items).poll_next(cx) {
                Poll::Ready(Some(item)) => {
                    // Told once, until the runner has taken them all.
                    if read.fetch_add(1, Ordering::Relaxed) + 1 == READ_EVERY {
                        (handle.send)(Call::Read(*op));
                    }
                    if let Some(item) = R::item(item) {
                        return Poll::Ready(Some(item));
                    }
                }
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

// Nothing in it is pinned in place.
impl<P: Protocol, R> Unpin for Ask<P, R> {}

impl<P: Protocol, R> Drop for Ask<P, R> {
    fn drop(&mut self) {
        if let State::Asked { op, handle, .. } = &self.state {
            (handle.send)(Call::Cancel(*op));
        }
    }
}

impl<P: Protocol, R> fmt::Debug for Ask<P, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.state {
            State::Asked { op, .. } => write!(f, "Ask({op:?})"),
            State::Refused => f.write_str("Ask(refused)"),
            State::Done => f.write_str("Ask(done)"),
        }
    }
}
