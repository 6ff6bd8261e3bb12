//! What is done with what a connection brings.
//!
//! Every stream begins with the name of its protocol; every datagram too. A stream both ways is a request to a
//! handler or a conversation; a stream one way, or a datagram, is for a machine. Handlers wait side by side, in
//! number and in bytes bounded over all peers and fairly shared; above the bound a request is refused as busy.

use std::fmt;
use std::future::{Future, poll_fn};
use std::panic::AssertUnwindSafe;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;

use bytes::{Buf, Bytes};
use futures::FutureExt;
use tokio::sync::Notify;
use tokio::task::consume_budget;
use tracing::{Instrument, Span};

use super::deadlines::TooLate;
use super::pool::{Link, Use};
use super::shared::Shared;
use super::stats::{Drop as Dropped, ProtocolCounters};
use super::stream::{RecvStream, SendStream, StreamError, code};
use crate::{Contact, Down};

/// A request as its handler gets it.
#[derive(Debug, Clone)]
pub struct Incoming {
    /// Who asks: the id is proved, the address is where the connection comes from.
    pub from: Contact,
    /// What it sent.
    pub body: Bytes,
}

/// A handler's refusal, with a number of its own that the asker gets as
/// [`RequestError::Application`](super::RequestError::Application).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused(pub u32);

pub(super) type Reply = Pin<Box<dyn Future<Output = Result<Bytes, Refused>> + Send>>;
pub(super) type Conversation = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Who takes what comes under one name.
pub(super) enum Taker {
    Requests(Box<dyn Fn(Incoming) -> Reply + Send + Sync>),
    Streams(Box<dyn Fn(Contact, SendStream, RecvStream) -> Conversation + Send + Sync>),
    Datagrams(Box<dyn Fn(Contact, Bytes) + Send + Sync>),
    Machine(Arc<dyn Inbox>),
}

/// A running machine, as connections see it.
pub(super) trait Inbox: Send + Sync {
    /// Reads a stream of messages to its end.
    fn stream(self: Arc<Self>, link: Arc<Link>, stream: RecvStream) -> Conversation;
    /// Takes a datagram.
    fn datagram(&self, link: &Arc<Link>, bytes: &[u8]);
    /// The peer's last connection is gone.
    fn down(self: Arc<Self>, link: Arc<Link>, why: Down) -> Conversation;
    /// It takes nothing more: peers' streams are given up.
    fn end(&self);
}

/// One protocol that a node serves.
pub(super) struct Service {
    pub taker: Taker,
    pub counters: Arc<ProtocolCounters>,
}

impl Service {
    /// It is served no more.
    pub(super) fn end(&self) {
        match &self.taker {
            Taker::Machine(inbox) => inbox.end(),
            Taker::Requests(_) | Taker::Streams(_) | Taker::Datagrams(_) => {}
        }
    }
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Service({:?})", self.counters)
    }
}

/// What handlers use at once, over all peers.
#[derive(Debug, Default)]
pub(super) struct Load {
    handlers: AtomicUsize,
    bytes: AtomicUsize,
    left: Notify,
}

impl Load {
    /// Handlers now.
    pub(super) fn handlers(&self) -> usize {
        self.handlers.load(Ordering::Relaxed)
    }

    /// Bytes of request bodies now.
    pub(super) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Resolves when no handler runs.
    pub(super) async fn none(&self) {
        loop {
            let left = self.left.notified();
            if self.handlers.load(Ordering::Acquire) == 0 {
                return;
            }
            left.await;
        }
    }
}

/// One handler's share of the load; given back when dropped.
struct Share<'a> {
    shared: &'a Shared,
    link: &'a Link,
    bytes: usize,
}

impl<'a> Share<'a> {
    fn enter(shared: &'a Shared, link: &'a Link) -> Option<Share<'a>> {
        let share = Share { shared, link, bytes: 0 };
        let here = link.requests.fetch_add(1, Ordering::Relaxed) + 1;
        let in_all = shared.load.handlers.fetch_add(1, Ordering::SeqCst) + 1;
        shared.counters.changes.told();
        let limits = &shared.limits;
        limits.fair(here, in_all, limits.requests_at_once).then_some(share)
    }

    fn grow(&mut self, by: usize) -> Result<(), StreamError> {
        self.bytes += by;
        let here = self.link.request_bytes.fetch_add(by, Ordering::Relaxed) + by;
        let in_all = self.shared.load.bytes.fetch_add(by, Ordering::Relaxed) + by;
        let limits = &self.shared.limits;
        match limits.fair(here, in_all, limits.requests_bytes_in_all) {
            true => Ok(()),
            false => Err(StreamError::Abandoned(code::BUSY.into())),
        }
    }
}

impl Drop for Share<'_> {
    fn drop(&mut self) {
        let load = &self.shared.load;
        self.link.requests.fetch_sub(1, Ordering::Relaxed);
        self.link.request_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        load.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        if load.handlers.fetch_sub(1, Ordering::SeqCst) == 1 {
            load.left.notify_waiters();
        }
        self.link.touch();
        self.shared.counters.changes.told();
    }
}

/// A connection that a node serves.
struct Served {
    shared: Arc<Shared>,
    link: Arc<Link>,
}

/// Serves a connection until it is lost.
pub(super) fn attend(shared: &Arc<Shared>, link: &Arc<Link>, span: &Span) {
    let served = Arc::new(Served { shared: shared.clone(), link: link.clone() });
    let (on, within) = (served.clone(), span.clone());
    let task = async move {
        while let Ok((send, recv)) = on.link.conn.accept_bi().await {
            let mut taken = AssertUnwindSafe(take_bi(on.clone(), send, recv)).catch_unwind().boxed();
            // Most requests are answered at once, on the thread that has them before it: to wake another takes longer
            // than all the rest. The others get a task, so that they wait side by side.
            match poll_fn(|cx| Poll::Ready(taken.poll_unpin(cx))).await {
                Poll::Pending => spawn(&within, taken.map(drop)),
                // A peer whose requests do not end must not keep the thread from others.
                Poll::Ready(_) => consume_budget().await,
            }
        }
    };
    spawn(span, task);
    let (on, within) = (served.clone(), span.clone());
    let task = async move {
        while let Ok(recv) = on.link.conn.accept_uni().await {
            spawn(&within, take_uni(on.clone(), recv));
        }
    };
    spawn(span, task);
    let on = served.clone();
    let task = async move {
        while let Ok(datagram) = on.link.conn.recv_datagram().await {
            on.link.touch();
            take_datagram(&on.shared, &on.link, datagram);
        }
    };
    spawn(span, task);
    let task = async move {
        let Served { shared, link } = &*served;
        let lost = link.conn.closed().await;
        let why = link.down(lost);
        tracing::debug!(peer = ?link.peer, %lost, ?why, "a connection is gone");
        shared.count_bytes(link);
        let last = shared.pool.forget(link);
        shared.counters.changes.tell();
        if last {
            for inbox in shared.inboxes() {
                inbox.down(link.clone(), why).await;
            }
        }
    };
    spawn(span, task);
}

/// Spawns a task in a span, if anybody looks: to enter one that is disabled costs a request a twentieth of its time.
fn spawn(span: &Span, task: impl Future<Output = ()> + Send + 'static) {
    match span.is_disabled() {
        true => tokio::spawn(task),
        false => tokio::spawn(task.instrument(span.clone())),
    };
}

async fn take_bi(on: Arc<Served>, mut send: SendStream, mut recv: RecvStream) {
    let Served { shared, link } = &*on;
    let limits = &shared.limits;
    let share = Share::enter(shared, link);
    let Some(mut share) = share.filter(|_| !shared.draining()) else {
        return shared.refuse(Dropped::Busy, code::BUSY, send, recv);
    };
    let named = shared.in_time(pin!(recv.read_name())).await;
    match named {
        Ok(Ok(true)) => {}
        Ok(_) => return,
        Err(TooLate) => return shared.refuse(Dropped::TimedOut, code::TIMED_OUT, send, recv),
    }
    let Some(service) = recv.take_name(|name| shared.service(name)) else {
        return shared.refuse(Dropped::NotServed, code::NOT_SERVED, send, recv);
    };
    service.counters.received();
    match &service.taker {
        Taker::Requests(handler) => {
            let body = recv.read_to_end_counting(limits.request_bytes, |bytes| share.grow(bytes));
            let body = shared.in_time(pin!(body)).await;
            let body = match body {
                Ok(Ok(body)) => body,
                Ok(Err(StreamError::TooLong(_))) => {
                    return shared.refuse(Dropped::TooLong, code::TOO_LONG, send, recv);
                }
                Ok(Err(StreamError::Abandoned(number))) if number == u64::from(code::BUSY) => {
                    return shared.refuse(Dropped::Busy, code::BUSY, send, recv);
                }
                Ok(Err(_)) => return,
                Err(TooLate) => return shared.refuse(Dropped::TimedOut, code::TIMED_OUT, send, recv),
            };
            let reply = match handler(Incoming { from: link.peer, body }).await {
                Ok(reply) => reply,
                Err(Refused(number)) => return send.reset(code::APPLICATION.saturating_add(number)),
            };
            // A peer that does not read its reply must not keep its share of the load.
            let written = shared.in_time(pin!(send.write_chunk(reply))).await;
            match written {
                Ok(Ok(())) => {
                    let _ = send.finish();
                }
                Ok(Err(_)) => {}
                Err(TooLate) => shared.refuse(Dropped::TimedOut, code::TIMED_OUT, send, recv),
            }
        }
        Taker::Streams(handler) => {
            send.hold(Use::new(link.clone()));
            recv.hold(Use::new(link.clone()));
            handler(link.peer, send, recv).await;
        }
        Taker::Datagrams(_) | Taker::Machine(_) => {
            shared.refuse(Dropped::NotServed, code::NOT_SERVED, send, recv);
        }
    }
}

async fn take_uni(on: Arc<Served>, mut recv: RecvStream) {
    let Served { shared, link } = &*on;
    link.touch();
    let named = shared.in_time(pin!(recv.read_name())).await;
    match named {
        Ok(Ok(true)) => {}
        Ok(_) => return,
        Err(TooLate) => {
            shared.counters.drop(Dropped::TimedOut);
            return recv.stop(code::TIMED_OUT);
        }
    }
    // A peer that shuts down sees by the end of a stream to nobody that we have everything: see `Shared::flush`.
    let mut nobody = false;
    let service = recv.take_name(|name| {
        nobody = name.is_empty();
        shared.service(name)
    });
    match service.as_deref() {
        Some(Service { taker: Taker::Machine(inbox), .. }) => inbox.clone().stream(link.clone(), recv).await,
        _ if nobody => {}
        _ => {
            shared.counters.drop(Dropped::NotServed);
            recv.stop(code::NOT_SERVED);
        }
    }
}

fn take_datagram(shared: &Arc<Shared>, link: &Arc<Link>, mut datagram: Bytes) {
    let Some(&len) = datagram.first() else { return };
    let len = usize::from(len);
    if datagram.len() <= len {
        return shared.counters.drop(Dropped::Undecodable);
    }
    if len == 0 {
        return shared.observed(link, &datagram[1..]);
    }
    let name = datagram.slice(1..=len);
    datagram.advance(1 + len);
    let service = std::str::from_utf8(&name).ok().and_then(|name| shared.service(name));
    match service.as_deref() {
        Some(Service { taker: Taker::Machine(inbox), .. }) => inbox.datagram(link, &datagram),
        Some(Service { taker: Taker::Datagrams(handler), counters }) => {
            counters.received();
            handler(link.peer, datagram);
        }
        _ => shared.counters.drop(Dropped::NotServed),
    }
}
