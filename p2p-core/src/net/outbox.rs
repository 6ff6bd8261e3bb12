//! What waits to be sent to one peer by one protocol, and the task that sends it.
//!
//! A machine's messages are encoded into the queue at once; the task takes whatever has gathered while it was
//! writing and writes it in one go, so a burst is coalesced without a timer. The queue is bounded in bytes.

use std::future::pending;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::future::{BoxFuture, Either, select};
use tokio::sync::Notify;
use tokio::task::{JoinError, JoinSet};
use tokio::time::timeout;

use super::pool::{Link, Use};
use super::shared::Shared;
use super::stats::Drop as Dropped;
use super::stream::{SendStream, StreamError, code};
use super::transport::{DatagramError, DialError, Lost};
use crate::wire::Pieces;
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
    bulk: Vec<Pieces>,
    /// With their headers.
    datagrams: Vec<Bytes>,
    /// All of these, and what is being written.
    bytes: usize,
    /// More came than may.
    over: bool,
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
        queue.over |= !fits;
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
    pub(super) fn bulk(&self, stream: Pieces) -> Result<(), Overflow> {
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

    /// Whether everything is written.
    pub(super) fn is_idle(&self) -> bool {
        self.queue().bytes == 0
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
/// connection before it is used. Gives why it ended, if not by being finished with everything delivered.
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
        let mut sender = Sender::on(&link, &outbox, &shared);
        let ended = match sender.send(&header).await {
            Ok(Ended::Finished) => sender.end().await.map(|()| true),
            Ok(Ended::Retired) => sender.end().await.map(|()| false),
            Err(error) => Err(error),
        };
        match ended {
            Ok(true) => return None,
            Ok(false) => {}
            Err(StreamError::Lost(lost)) => return Some(link.down(lost)),
            Err(StreamError::Abandoned(number))
                if [code::OVERFLOW, code::BUSY].map(u64::from).contains(&number) =>
            {
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

/// Why an idle sender has something to do.
enum Woken {
    Queue,
    Retired,
    /// A bulk message is delivered, or not; or the ordered stream was given up by the peer.
    Stream(Result<(), StreamError>),
}

/// Sends on one connection.
struct Sender<'a> {
    shared: &'a Arc<Shared>,
    link: &'a Arc<Link>,
    outbox: &'a Arc<Outbox>,
    /// The stream of the ordered lane, once there was a message for it.
    stream: Option<Opened>,
    bulk: JoinSet<Result<(), StreamError>>,
    closed: BoxFuture<'a, Lost>,
}

impl<'a> Sender<'a> {
    fn on(link: &'a Arc<Link>, outbox: &'a Arc<Outbox>, shared: &'a Arc<Shared>) -> Sender<'a> {
        Sender { shared, link, outbox, stream: None, bulk: JoinSet::new(), closed: link.conn.closed() }
    }

    async fn send(&mut self, header: &Bytes) -> Result<Ended, StreamError> {
        loop {
            if self.link.retired() && !self.shared.draining() {
                return Ok(Ended::Retired);
            }
            match self.outbox.take() {
                Ok(work) => self.write(work, header).await?,
                Err(true) => return Ok(Ended::Finished),
                Err(false) => match self.idle().await {
                    Woken::Queue => {}
                    Woken::Retired => return Ok(Ended::Retired),
                    Woken::Stream(outcome) => outcome?,
                },
            }
        }
    }

    async fn write(&mut self, work: Queue, header: &Bytes) -> Result<(), StreamError> {
        self.link.touch();
        while let Some(done) = self.bulk.try_join_next() {
            delivered(done)?;
        }
        for datagram in work.datagrams {
            let len = datagram.len();
            match self.link.conn.send_datagram(datagram) {
                Err(DatagramError::Lost(lost)) => return Err(lost.into()),
                Err(DatagramError::TooLong { .. }) => self.shared.counters.drop(Dropped::TooLong),
                Ok(()) => {}
            }
            self.outbox.sent(len);
        }
        for message in work.bulk {
            self.bulk.spawn(send_bulk(self.link.clone(), self.outbox.clone(), message));
        }
        if work.ordered.is_empty() {
            return Ok(());
        }
        let stream = match &mut self.stream {
            Some(stream) => stream,
            None => {
                let mut opened = Opened::open(self.link, self.outbox).await?;
                opened.stream.write_chunk(header.clone()).await?;
                self.stream.insert(opened)
            }
        };
        let len = work.ordered.len();
        stream.stream.write_chunk(work.ordered.into()).await?;
        self.outbox.sent(len);
        Ok(())
    }

    /// Waits for something to do. A loss or a refusal by the peer shows here too, not at the next message only.
    async fn idle(&mut self) -> Woken {
        let Sender { link, outbox, stream, bulk, closed, .. } = self;
        let queue = pin!(outbox.wake.notified());
        let retired = pin!(link.until_retired());
        let refused = pin!(async {
            match stream {
                Some(opened) => opened.stream.stopped().await,
                None => pending().await,
            }
        });
        let sent = pin!(async {
            match bulk.join_next().await {
                Some(done) => delivered(done),
                None => pending().await,
            }
        });
        let streams = select(refused, sent);
        match select(select(queue, retired), select(streams, closed)).await {
            Either::Left((Either::Left(_), _)) => Woken::Queue,
            Either::Left((Either::Right(_), _)) => Woken::Retired,
            Either::Right((Either::Left((outcome, _)), _)) => Woken::Stream(outcome.factor_first().0),
            Either::Right((Either::Right((lost, _)), _)) => Woken::Stream(Err(lost.into())),
        }
    }

    /// Ends the streams, and waits until the peer has everything.
    async fn end(self) -> Result<(), StreamError> {
        let Sender { link, stream, mut bulk, .. } = self;
        let _hold = Use::new(link.clone());
        let all = async {
            if let Some(mut opened) = stream {
                let _ = opened.stream.finish();
                opened.stream.stopped().await?;
            }
            while let Some(done) = bulk.join_next().await {
                delivered(done)?;
            }
            Ok(())
        };
        timeout(MOVE, all).await.unwrap_or(Err(StreamError::Abandoned(code::TIMED_OUT.into())))
    }
}

fn delivered(done: Result<Result<(), StreamError>, JoinError>) -> Result<(), StreamError> {
    done.unwrap_or(Err(StreamError::Finished))
}

async fn send_bulk(link: Arc<Link>, outbox: Arc<Outbox>, message: Pieces) -> Result<(), StreamError> {
    let _hold = Use::new(link.clone());
    let len = message.len();
    let mut opened = Opened::open(&link, &outbox).await?;
    opened.stream.write_chunks(&mut message.into_chunks()).await?;
    // From here on QUIC has it, which has a bound of its own. Not only when it is acknowledged: by then the peer has
    // long asked for more.
    outbox.sent(len);
    opened.stream.finish()?;
    opened.stream.stopped().await
}

/// A stream of messages. If it is dropped because more came than may wait, the peer is told that.
struct Opened {
    stream: SendStream,
    outbox: Arc<Outbox>,
}

impl Opened {
    async fn open(link: &Link, outbox: &Arc<Outbox>) -> Result<Opened, StreamError> {
        Ok(Opened { stream: link.conn.open_uni().await?, outbox: outbox.clone() })
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        if self.outbox.queue().over {
            self.stream.reset(code::OVERFLOW);
        }
    }
}
