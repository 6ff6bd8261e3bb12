//! Runs a [`Protocol`] over plain TCP: the peers are connections, and a [`Codec`] makes messages of their bytes.
//!
//! Foreign networks (BitTorrent, Gnutella, Bitcoin) know their peers by connections, not keys. A machine dials by
//! sending to a [`TcpPeer::Dialled`] that it has made up; whoever dials us is a [`TcpPeer::Accepted`]. Each connection
//! has a codec of its own, which sees every message pass in both directions in the machine's order. So it may change
//! the stream's encoding in the middle (an encryption handshake, deflate, HTTP after GIV), and one listener serves
//! many torrents: the first message says which.

mod line;
mod secured;

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};

use super::clock::Clock;
use super::gate::{Gate, Verdict};
pub use super::plain::Running;
use super::plain::{self, Came, Network};
use super::room::Room;
pub use crate::foreign::{After, Codec, Malformed, Securing, TcpPeer};
use crate::protocol::{Down, Link};
use crate::{Limits, Protocol, Worker};
use line::{Line, Note, Port, carry};
pub use secured::Secured;

/// Runs a machine over TCP, with workers for its jobs if it has any. It accepts connections if `listen` says where;
/// `codec` makes each its codec. Must be called in a tokio runtime.
///
/// # Errors
/// The address cannot be bound, or there is no thread for a worker.
pub async fn spawn<P, C, W>(
    machine: P,
    codec: impl Fn(TcpPeer) -> C + Send + 'static,
    listen: Option<SocketAddr>,
    limits: Limits,
    workers: impl IntoIterator<Item = W>,
) -> std::io::Result<Running<P>>
where
    P: Protocol<Peer = TcpPeer>,
    C: Codec<Msg = P::Msg>,
    W: Worker<P::Job> + 'static,
{
    spawn_at(|_| machine, codec, listen, limits, workers).await
}

/// As [`spawn`], of a machine that tells others where it is: `machine` makes it of the address that it has got, with
/// the port that the system chose; of `None`, if it does not listen.
///
/// # Errors
/// As [`spawn`].
pub async fn spawn_at<P, C, W>(
    machine: impl FnOnce(Option<SocketAddr>) -> P,
    codec: impl Fn(TcpPeer) -> C + Send + 'static,
    listen: Option<SocketAddr>,
    limits: Limits,
    workers: impl IntoIterator<Item = W>,
) -> std::io::Result<Running<P>>
where
    P: Protocol<Peer = TcpPeer>,
    C: Codec<Msg = P::Msg>,
    W: Worker<P::Job> + 'static,
{
    let listener = match listen {
        Some(addr) => Some(TcpListener::bind(addr).await?),
        None => None,
    };
    let local = listener.as_ref().map(TcpListener::local_addr).transpose()?;
    let connections = Connections::new(codec, listener, &limits);
    plain::spawn("tcp", machine(local), connections, local, limits, workers)
}

/// A listener, if there is one, and every connection.
pub(super) struct Connections<C: Codec, F> {
    codec: F,
    listener: Option<TcpListener>,
    gate: Arc<Gate>,
    clock: Clock,
    limits: Limits,
    port: Port<C::Msg>,
    notes: mpsc::Receiver<Note<C::Msg>>,
    /// Every connection; at most [`Limits::connections`].
    lines: BTreeMap<TcpPeer, (Arc<Line<C>>, AbortHandle)>,
    /// Their tasks. They end with the machine, even if it panics.
    carriers: JoinSet<()>,
    accepted: u64,
    links: VecDeque<(TcpPeer, Link)>,
}

impl<C: Codec, F: Fn(TcpPeer) -> C> Connections<C, F> {
    pub(super) fn new(codec: F, listener: Option<TcpListener>, limits: &Limits) -> Connections<C, F> {
        let (sender, notes) = mpsc::channel(limits.inbox_messages.max(1));
        Connections {
            codec,
            listener,
            gate: Gate::new(limits.clone()),
            clock: Clock::start(),
            limits: limits.clone(),
            port: Port { notes: sender, room: Arc::new(Room::new(limits.inbox_bytes)) },
            notes,
            lines: BTreeMap::new(),
            carriers: JoinSet::new(),
            accepted: 0,
            links: VecDeque::new(),
        }
    }

    fn open(&mut self, peer: TcpPeer, stream: Option<TcpStream>) -> Option<Arc<Line<C>>> {
        let ip = peer.addr().ip();
        let pass = match peer {
            TcpPeer::Dialled { .. } => self.gate.dialled(ip)?,
            TcpPeer::Accepted { .. } => self.gate.accepted(ip)?,
        };
        let line = Line::new((self.codec)(peer));
        let carried = carry(line.clone(), peer, stream, self.limits.clone(), self.port.clone(), pass);
        while self.carriers.try_join_next().is_some() {}
        self.lines.insert(peer, (line.clone(), self.carriers.spawn(carried)));
        Some(line)
    }
}

impl<C: Codec, F: Fn(TcpPeer) -> C + Send + 'static> Network for Connections<C, F> {
    type Peer = TcpPeer;
    type Msg = C::Msg;

    fn send(&mut self, to: TcpPeer, msg: C::Msg) {
        let line = match (self.lines.get(&to), to) {
            (Some((line, _)), _) => line.clone(),
            (None, TcpPeer::Dialled { .. }) => match self.open(to, None) {
                Some(line) => line,
                None => return self.links.push_back((to, Link::Down(Down::Overflow))),
            },
            // It is gone, and that has been told.
            (None, TcpPeer::Accepted { .. }) => return,
        };
        if !line.push(msg, self.limits.queue_bytes_per_peer) {
            if let Some((_, task)) = self.lines.remove(&to) {
                task.abort();
            }
            self.links.push_back((to, Link::Down(Down::Overflow)));
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Came<TcpPeer, C::Msg>> {
        loop {
            if let Some((peer, link)) = self.links.pop_front() {
                return Poll::Ready(Came::Link(peer, link));
            }
            match self.notes.poll_recv(cx) {
                Poll::Ready(Some(Note::Message(peer, msg, _held))) if self.lines.contains_key(&peer) => {
                    return Poll::Ready(Came::Message(peer, msg));
                }
                Poll::Ready(Some(Note::Up(peer))) if self.lines.contains_key(&peer) => {
                    return Poll::Ready(Came::Link(peer, Link::Up));
                }
                Poll::Ready(Some(Note::Down(peer, why))) if self.lines.remove(&peer).is_some() => {
                    return Poll::Ready(Came::Link(peer, Link::Down(why)));
                }
                // What comes from a line that was taken down is nobody's any more.
                Poll::Ready(Some(_)) => continue,
                Poll::Ready(None) | Poll::Pending => {}
            }
            let Some(listener) = &self.listener else { return Poll::Pending };
            let Poll::Ready(Ok((stream, addr))) = listener.poll_accept(cx) else { return Poll::Pending };
            // TCP's own handshake has shown that the address is not forged.
            if self.gate.judge(self.clock.now(), addr.ip(), true) == Verdict::Accept {
                self.accepted += 1;
                self.open(TcpPeer::Accepted { addr, number: self.accepted }, Some(stream));
            }
        }
    }

    async fn finish(mut self) {
        self.notes.close();
        self.port.room.close();
        for (line, _) in self.lines.values() {
            line.close();
        }
        while self.carriers.join_next().await.is_some() {}
    }
}
