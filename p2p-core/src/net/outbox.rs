//! What waits to be sent to one peer by one protocol, and the task that sends it.
//!
//! A machine's messages are encoded into the queue at once; the task takes whatever has gathered while it was
//! writing and writes it in one go, so a burst is coalesced without a timer. The queue is bounded in bytes.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::future::{Either, select};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::pool::{Link, Use};
use super::shared::Shared;
use super::stats::Drop as Dropped;
use super::stream::{SendStream, StreamError, code};
use super::transport::{DatagramError, DialError};
use crate::{Contact, Down};

/// How long a connection that is given up for another may take to deliver what was written on it.
const MOVE: Duration = Duration::from_secs(5);

/// The queue to one peer. At most as many bytes as the limit, and one message.
#[derive(Debug)]
pub(super) struct Outbox {
    queue: Mutex<Queue>,
    wake: Notify,
    most: usize,
}

#[derive(Debug, Default)]
struct Queue {
    /// Frames of the ordered lane.
    ordered: Vec<u8>,
    /// One message each, with the stream's header.
    bulk: Vec<Bytes>,
    /// With their headers.
    datagrams: Vec<Bytes>,
    /// All of these, and what is being written.
    bytes: usize,
    /// Nothing more will come.
    finishing: bool,
}

impl Queue {
    fn is_empty(&self) -> bool {
        self.ordered.is_empty() && self.bulk.is_empty() && self.datagrams.is_empty()
    }
}

/// More waits for the peer than may.
#[derive(Debug)]
pub(super) struct Overflow;

impl Outbox {
    pub(super) fn new(most: usize) -> Arc<Outbox> {
        Arc::new(Outbox { queue: Mutex::default(), wake: Notify::new(), most })
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn grown(&self, mut queue: MutexGuard<'_, Queue>, by: usize) -> Result<(), Overflow> {
        let fits = queue.bytes == 0 || queue.bytes + by <= self.most;
        queue.bytes += by;
        drop(queue);
        self.wake.notify_one();
        if fits { Ok(()) } else { Err(Overflow) }
    }

    /// Adds a frame of the ordered lane.
    pub(super) fn ordered(&self, frame: &[u8]) -> Result<(), Overflow> {
        let mut queue = self.queue();
        queue.ordered.extend_from_slice(&(frame.len() as u32).to_le_bytes());
        queue.ordered.extend_from_slice(frame);
        self.grown(queue, 4 + frame.len())
    }

    /// Adds a whole stream.
    pub(super) fn bulk(&self, stream: Bytes) -> Result<(), Overflow> {
        let mut queue = self.queue();
        let len = stream.len();
        queue.bulk.push(stream);
        self.grown(queue, len)
    }

    /// Adds a datagram that waits for the connection.
    pub(super) fn datagram(&self, datagram: Bytes) -> Result<(), Overflow> {
        let mut queue = self.queue();
        let len = datagram.len();
        queue.datagrams.push(datagram);
        self.grown(queue, len)
    }

    /// Has the task end when everything is sent.
    pub(super) fn finish(&self) {
        self.queue().finishing = true;
        self.wake.notify_one();
    }

    fn sent(&self, bytes: usize) {
        let mut queue = self.queue();
        queue.bytes = queue.bytes.saturating_sub(bytes);
    }

    /// Resolves when something waits; `None` if nothing does and nothing will.
    async fn some(&self) -> Option<()> {
        loop {
            {
                let queue = self.queue();
                if !queue.is_empty() {
                    return Some(());
                }
                if queue.finishing {
                    return None;
                }
            }
            self.wake.notified().await;
        }
    }

    /// Whatever waits; if nothing does, whether nothing will.
    fn take(&self) -> Result<Queue, bool> {
        let mut queue = self.queue();
        if queue.is_empty() {
            return Err(queue.finishing);
        }
        Ok(Queue {
            ordered: std::mem::take(&mut queue.ordered),
            bulk: std::mem::take(&mut queue.bulk),
            datagrams: std::mem::take(&mut queue.datagrams),
            ..Queue::default()
        })
    }
}

/// Sends what comes into `outbox` until the connection is lost or the outbox is finished. `up` is told of every
/// connection before it is used. Gives why it ended, if not by being finished.
pub(super) async fn send<F: Future<Output = ()>>(
    shared: Arc<Shared>,
    to: Contact,
    header: Bytes,
    outbox: Arc<Outbox>,
    up: impl Fn(Arc<Link>) -> F,
) -> Option<Down> {
    loop {
        outbox.some().await?;
        let link = match shared.link(to).await {
            Ok(link) => link,
            Err(DialError::Shutdown) => return Some(Down::Shutdown),
            Err(DialError::TooMany) => return Some(Down::Overflow),
            Err(_) => return Some(Down::Unreachable),
        };
        up(link.clone()).await;
        match send_on(&shared, &link, &header, &outbox).await {
            Ok(Ended::Finished) => return None,
            Ok(Ended::Retired) => {}
            Err(StreamError::Lost(lost)) => return Some(link.down(lost)),
            Err(StreamError::Abandoned(number)) if number == u64::from(code::OVERFLOW) => {
                return Some(Down::Overflow);
            }
            Err(_) => return Some(Down::Closed),
        }
    }
}

enum Ended {
    Finished,
    /// The peer has another connection to go on with.
    Retired,
}

async fn send_on(
    shared: &Arc<Shared>,
    link: &Arc<Link>,
    header: &Bytes,
    outbox: &Arc<Outbox>,
) -> Result<Ended, StreamError> {
    let mut stream: Option<SendStream> = None;
    let mut bulk = JoinSet::new();
    let mut closed = link.conn.closed();
    loop {
        if link.retired() && !shared.draining() {
            end(stream, bulk).await;
            return Ok(Ended::Retired);
        }
        let work = match outbox.take() {
            Ok(work) => work,
            Err(true) => {
                end(stream, bulk).await;
                return Ok(Ended::Finished);
            }
            Err(false) => {
                let wake = std::pin::pin!(outbox.wake.notified());
                match select(wake, &mut closed).await {
                    Either::Left(_) => continue,
                    Either::Right(_) if link.retired() => return Ok(Ended::Retired),
                    Either::Right((lost, _)) => return Err(lost.into()),
                }
            }
        };
        link.touch();
        while bulk.try_join_next().is_some() {}
        for datagram in work.datagrams {
            let len = datagram.len();
            match link.conn.send_datagram(datagram) {
                Err(DatagramError::Lost(lost)) => return Err(lost.into()),
                Err(DatagramError::TooLong { .. }) => shared.counters.drop(Dropped::TooLong),
                Ok(()) => {}
            }
            outbox.sent(len);
        }
        for message in work.bulk {
            bulk.spawn(send_bulk(link.clone(), outbox.clone(), message));
        }
        if work.ordered.is_empty() {
            continue;
        }
        let stream = match &mut stream {
            Some(stream) => stream,
            None => {
                let mut opened = link.conn.open_uni().await?;
                // Dropped in the middle only when the queue went over its bound.
                opened.on_drop(code::OVERFLOW);
                opened.write_chunk(header.clone()).await?;
                stream.insert(opened)
            }
        };
        let len = work.ordered.len();
        stream.write_chunk(work.ordered.into()).await?;
        outbox.sent(len);
    }
}

async fn send_bulk(link: Arc<Link>, outbox: Arc<Outbox>, message: Bytes) -> Result<(), StreamError> {
    let _hold = Use::new(&link);
    let len = message.len();
    let mut stream = link.conn.open_uni().await?;
    stream.on_drop(code::OVERFLOW);
    let written = stream.write_chunk(message).await;
    outbox.sent(len);
    written?;
    stream.finish()
}

/// Ends streams so that the peer has everything.
async fn end(stream: Option<SendStream>, mut bulk: JoinSet<Result<(), StreamError>>) {
    let delivered = async {
        while bulk.join_next().await.is_some() {}
        if let Some(mut stream) = stream {
            let _ = stream.finish();
            let _ = stream.stopped().await;
        }
    };
    let _ = timeout(MOVE, delivered).await;
}
