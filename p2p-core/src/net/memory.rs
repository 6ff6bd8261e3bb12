//! An in-process network: the same [`Transport`] without sockets, for tests of what stands above it.
//!
//! A [`MemoryNetwork`] is a table of addresses. Connections are pairs of queues; a stream is a [pipe](pipe) with a
//! bounded buffer, so that a slow reader holds its writer up just as over QUIC.

mod pipe;

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::{Notify, mpsc};

pub(super) use pipe::{PipeReader, PipeWriter};

use super::stream::{RecvStream, SendStream};
use super::transport::{CloseReason, Connection, DatagramError, DialError, Lost, Transport};
use crate::{Contact, PeerId};

/// What an unread queue of a connection holds at most: streams, or datagrams.
const BACKLOG: usize = 256;
/// The longest datagram, in bytes.
const MAX_DATAGRAM: usize = 1200;

type Table = Mutex<BTreeMap<SocketAddr, (PeerId, mpsc::Sender<Arc<dyn Connection>>)>>;

/// A network inside this process; clones are the same network.
#[derive(Clone, Default)]
pub struct MemoryNetwork {
    table: Arc<Table>,
    ports: Arc<AtomicU64>,
}

impl MemoryNetwork {
    /// A place on it for a node with this id; give it to [`NodeBuilder::bind_on`](super::NodeBuilder::bind_on).
    pub fn join(&self, id: PeerId) -> Arc<dyn Transport> {
        let number = 1 + self.ports.fetch_add(1, Ordering::Relaxed);
        let host = Ipv4Addr::from(0x0a00_0000 | (number >> 16 & 0xff_ffff) as u32);
        let addr = SocketAddr::new(IpAddr::V4(host), (number & 0xffff) as u16);
        let (sender, incoming) = mpsc::channel(BACKLOG);
        lock(&self.table).insert(addr, (id, sender));
        let made = Mutex::new(Vec::new());
        let incoming = tokio::sync::Mutex::new(incoming);
        Arc::new(MemoryTransport { id, addr, table: self.table.clone(), incoming, made })
    }
}

impl fmt::Debug for MemoryNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MemoryNetwork({} nodes)", lock(&self.table).len())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

struct MemoryTransport {
    id: PeerId,
    addr: SocketAddr,
    table: Arc<Table>,
    incoming: tokio::sync::Mutex<mpsc::Receiver<Arc<dyn Connection>>>,
    made: Mutex<Vec<std::sync::Weak<Ends>>>,
}

impl MemoryTransport {
    fn note(&self, ends: &Arc<Ends>) {
        let mut made = lock(&self.made);
        made.retain(|ends| ends.strong_count() > 0);
        made.push(Arc::downgrade(ends));
    }
}

impl fmt::Debug for MemoryTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MemoryTransport({:?}@{})", self.id, self.addr)
    }
}

#[async_trait]
impl Transport for MemoryTransport {
    fn id(&self) -> PeerId {
        self.id
    }

    fn local_addr(&self) -> SocketAddr {
        self.addr
    }

    async fn dial(&self, to: Contact) -> Result<Arc<dyn Connection>, DialError> {
        let there = lock(&self.table).get(&to.addr).cloned();
        let (found, sender) = there.ok_or(DialError::TimedOut(to.addr))?;
        if found != to.id {
            return Err(DialError::WrongKey { expected: to.id, found });
        }
        let ends = Arc::new(Ends::default());
        self.note(&ends);
        let (ours, theirs) = MemoryConnection::pair(&ends, (self.id, self.addr), (to.id, to.addr));
        sender.send(Arc::new(theirs)).await.map_err(|_| DialError::TimedOut(to.addr))?;
        Ok(Arc::new(ours))
    }

    async fn accept(&self) -> Option<Arc<dyn Connection>> {
        self.incoming.lock().await.recv().await
    }

    async fn close(&self) {
        lock(&self.table).remove(&self.addr);
        for ends in std::mem::take(&mut *lock(&self.made)) {
            if let Some(ends) = ends.upgrade() {
                ends.close(self.id, CloseReason::Shutdown);
            }
        }
        let mut incoming = self.incoming.lock().await;
        while let Ok(waiting) = incoming.try_recv() {
            waiting.close(CloseReason::Shutdown);
        }
    }
}

impl Drop for MemoryTransport {
    fn drop(&mut self) {
        lock(&self.table).remove(&self.addr);
    }
}

/// What both ends of a connection know: who closed it and why.
#[derive(Debug, Default)]
struct Ends {
    closed: OnceLock<(PeerId, CloseReason)>,
    pipes: Mutex<Vec<std::sync::Weak<pipe::Pipe>>>,
    notify: Notify,
}

impl Ends {
    fn close(&self, by: PeerId, reason: CloseReason) {
        if self.closed.set((by, reason)).is_ok() {
            for pipe in std::mem::take(&mut *lock(&self.pipes)) {
                if let Some(pipe) = pipe.upgrade() {
                    pipe.lose(Lost::There(Some(reason)));
                }
            }
            self.notify.notify_waiters();
        }
    }

    fn lost(&self, me: PeerId) -> Option<Lost> {
        self.closed.get().map(|(by, reason)| if *by == me { Lost::Here } else { Lost::There(Some(*reason)) })
    }

    async fn closed(&self, me: PeerId) -> Lost {
        loop {
            let notified = self.notify.notified();
            if let Some(lost) = self.lost(me) {
                return lost;
            }
            notified.await;
        }
    }
}

type Both = (PipeWriter, PipeReader);

struct MemoryConnection {
    me: PeerId,
    peer: PeerId,
    remote: SocketAddr,
    ends: Arc<Ends>,
    bi: (mpsc::Sender<Both>, tokio::sync::Mutex<mpsc::Receiver<Both>>),
    uni: (mpsc::Sender<PipeReader>, tokio::sync::Mutex<mpsc::Receiver<PipeReader>>),
    datagrams: (mpsc::Sender<Bytes>, tokio::sync::Mutex<mpsc::Receiver<Bytes>>),
    sent: AtomicU64,
}

impl MemoryConnection {
    fn pair(ends: &Arc<Ends>, a: (PeerId, SocketAddr), b: (PeerId, SocketAddr)) -> (Self, Self) {
        let (bi_ab, bi_ba) = (mpsc::channel(BACKLOG), mpsc::channel(BACKLOG));
        let (uni_ab, uni_ba) = (mpsc::channel(BACKLOG), mpsc::channel(BACKLOG));
        let (dg_ab, dg_ba) = (mpsc::channel(BACKLOG), mpsc::channel(BACKLOG));
        let end = |me: PeerId, to: (PeerId, SocketAddr), bi: (_, _), uni: (_, _), dg: (_, _)| Self {
            me,
            peer: to.0,
            remote: to.1,
            ends: ends.clone(),
            bi: (bi.0, tokio::sync::Mutex::new(bi.1)),
            uni: (uni.0, tokio::sync::Mutex::new(uni.1)),
            datagrams: (dg.0, tokio::sync::Mutex::new(dg.1)),
            sent: AtomicU64::new(0),
        };
        (
            end(a.0, b, (bi_ab.0, bi_ba.1), (uni_ab.0, uni_ba.1), (dg_ab.0, dg_ba.1)),
            end(b.0, a, (bi_ba.0, bi_ab.1), (uni_ba.0, uni_ab.1), (dg_ba.0, dg_ab.1)),
        )
    }

    fn pipe(&self) -> Both {
        let (writer, reader, pipe) = pipe::pipe();
        let mut pipes = lock(&self.ends.pipes);
        if pipes.len() > 2 * BACKLOG {
            pipes.retain(|pipe| pipe.strong_count() > 0);
        }
        pipes.push(pipe);
        (writer, reader)
    }

    fn alive(&self) -> Result<(), Lost> {
        self.ends.lost(self.me).map_or(Ok(()), Err)
    }

    /// The next of a queue, unless the connection is lost first.
    async fn next<T>(&self, queue: &tokio::sync::Mutex<mpsc::Receiver<T>>) -> Result<T, Lost> {
        let next = async { queue.lock().await.recv().await };
        let (next, closed) = (std::pin::pin!(next), std::pin::pin!(self.ends.closed(self.me)));
        match futures::future::select(next, closed).await {
            futures::future::Either::Left((Some(next), _)) => Ok(next),
            futures::future::Either::Left((None, _)) => Err(Lost::There(None)),
            futures::future::Either::Right((lost, _)) => Err(lost),
        }
    }

    async fn give<T>(&self, queue: &mpsc::Sender<T>, what: T) -> Result<(), Lost> {
        let (give, closed) = (std::pin::pin!(queue.send(what)), std::pin::pin!(self.ends.closed(self.me)));
        match futures::future::select(give, closed).await {
            futures::future::Either::Left((given, _)) => given.map_err(|_| Lost::There(None)),
            futures::future::Either::Right((lost, _)) => Err(lost),
        }
    }
}

impl fmt::Debug for MemoryConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MemoryConnection({:?} to {:?})", self.me, self.peer)
    }
}

#[async_trait]
impl Connection for MemoryConnection {
    fn peer(&self) -> PeerId {
        self.peer
    }

    fn remote_addr(&self) -> SocketAddr {
        self.remote
    }

    async fn open_bi(&self) -> Result<(SendStream, RecvStream), Lost> {
        self.alive()?;
        let ((to, theirs_in), (from, ours_in)) = (self.pipe(), self.pipe());
        self.give(&self.bi.0, (from, theirs_in)).await?;
        Ok((SendStream::memory(to), RecvStream::memory(ours_in)))
    }

    async fn open_uni(&self) -> Result<SendStream, Lost> {
        self.alive()?;
        let (to, theirs_in) = self.pipe();
        self.give(&self.uni.0, theirs_in).await?;
        Ok(SendStream::memory(to))
    }

    async fn accept_bi(&self) -> Result<(SendStream, RecvStream), Lost> {
        let (to, from) = self.next(&self.bi.1).await?;
        Ok((SendStream::memory(to), RecvStream::memory(from)))
    }

    async fn accept_uni(&self) -> Result<RecvStream, Lost> {
        self.next(&self.uni.1).await.map(RecvStream::memory)
    }

    fn send_datagram(&self, bytes: Bytes) -> Result<(), DatagramError> {
        self.alive()?;
        if bytes.len() > MAX_DATAGRAM {
            return Err(DatagramError::TooLong { len: bytes.len(), max: MAX_DATAGRAM });
        }
        self.sent.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        let _ = self.datagrams.0.try_send(bytes);
        Ok(())
    }

    async fn recv_datagram(&self) -> Result<Bytes, Lost> {
        self.next(&self.datagrams.1).await
    }

    fn max_datagram(&self) -> usize {
        MAX_DATAGRAM
    }

    fn close(&self, reason: CloseReason) {
        self.ends.close(self.me, reason);
    }

    async fn closed(&self) -> Lost {
        self.ends.closed(self.me).await
    }

    fn lost(&self) -> Option<Lost> {
        self.ends.lost(self.me)
    }

    fn activity(&self) -> u64 {
        // What is written is there at once: there is nothing on the way that a user does not know of.
        self.sent.load(Ordering::Relaxed)
    }

    fn rtt(&self) -> Option<Duration> {
        None
    }

    fn bytes(&self) -> (u64, u64) {
        (self.sent.load(Ordering::Relaxed), 0)
    }
}
