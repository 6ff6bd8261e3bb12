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
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};

use super::clock::Clock;
use super::gate::{Gate, Verdict};
use super::plain::Alarm;
pub use super::plain::Running;
use super::room::Room;
use super::runner::{Input, Runner};
use super::worker::Crew;
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
    let crew = Crew::start("tcp", workers, limits.jobs, limits.jobs_per_batch)?;
    let (runner, handle) = Runner::new(machine(local), Clock::start(), crew);
    let (stop, stopped) = watch::channel(false);
    let (sender, notes) = mpsc::channel(limits.inbox_messages.max(1));
    let driver = Driver {
        runner,
        codec,
        gate: Gate::new(limits.clone()),
        limits: limits.clone(),
        port: Port { notes: sender, room: Arc::new(Room::new(limits.inbox_bytes)) },
        notes,
        lines: BTreeMap::new(),
        carriers: JoinSet::new(),
        accepted: 0,
        links: VecDeque::new(),
    };
    let task = tokio::spawn(driver.run(listener, stopped));
    Ok(Running { handle, local, stop, task, limits })
}

struct Driver<P: Protocol, C: Codec, F> {
    runner: Runner<P>,
    codec: F,
    gate: Arc<Gate>,
    limits: Limits,
    port: Port<P::Msg>,
    notes: mpsc::Receiver<Note<P::Msg>>,
    /// Every connection; at most [`Limits::connections`].
    lines: BTreeMap<TcpPeer, (Arc<Line<C>>, AbortHandle)>,
    /// Their tasks. They end with the machine, even if it panics.
    carriers: JoinSet<()>,
    accepted: u64,
    links: VecDeque<(TcpPeer, Link)>,
}

enum Next<P: Protocol> {
    Input(Input<P>),
    Note(Note<P::Msg>),
    Accepted(TcpStream, SocketAddr),
}

impl<P, C, F> Driver<P, C, F>
where
    P: Protocol<Peer = TcpPeer>,
    C: Codec<Msg = P::Msg>,
    F: Fn(TcpPeer) -> C + Send + 'static,
{
    async fn run(mut self, listener: Option<TcpListener>, mut stopped: watch::Receiver<bool>) {
        let _alarm = Alarm("tcp");
        let mut stopped = pin!(async move {
            let _ = stopped.wait_for(|stopped| *stopped).await;
        });
        let clock = Clock::start();
        let mut out = Vec::new();
        self.runner.feed(Input::Start, &mut out);
        let mut network_first = false;
        loop {
            for (to, msg) in out.drain(..) {
                self.send(to, msg);
            }
            if let Some((peer, link)) = self.links.pop_front() {
                self.runner.feed(Input::Link(peer, link), &mut out);
                continue;
            }
            network_first = !network_first;
            let next = poll_fn(|cx| {
                if stopped.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(None);
                }
                for network in [network_first, !network_first] {
                    if network {
                        if let Poll::Ready(Some(note)) = self.notes.poll_recv(cx) {
                            return Poll::Ready(Some(Next::Note(note)));
                        }
                        if let Some(Poll::Ready(Ok((stream, from)))) =
                            listener.as_ref().map(|listener| listener.poll_accept(cx))
                        {
                            return Poll::Ready(Some(Next::Accepted(stream, from)));
                        }
                    } else if let Poll::Ready(input) = self.runner.poll(cx) {
                        return Poll::Ready(Some(Next::Input(input)));
                    }
                }
                Poll::Pending
            });
            let input = match next.await {
                None => break,
                Some(Next::Input(input)) => input,
                // What comes from a line that was taken down is nobody's any more.
                Some(Next::Note(Note::Message(peer, msg, _held))) => match self.lines.contains_key(&peer) {
                    true => Input::Message(peer, msg),
                    false => continue,
                },
                Some(Next::Note(Note::Up(peer))) => match self.lines.contains_key(&peer) {
                    true => Input::Link(peer, Link::Up),
                    false => continue,
                },
                Some(Next::Note(Note::Down(peer, why))) => match self.lines.remove(&peer) {
                    Some(_) => Input::Link(peer, Link::Down(why)),
                    None => continue,
                },
                Some(Next::Accepted(stream, addr)) => {
                    // TCP's own handshake has shown that the address is not forged.
                    if self.gate.judge(clock.now(), addr.ip(), true) == Verdict::Accept {
                        self.accepted += 1;
                        let peer = TcpPeer::Accepted { addr, number: self.accepted };
                        self.open(peer, Some(stream));
                    }
                    continue;
                }
            };
            self.runner.feed(input, &mut out);
        }
        self.finish().await;
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

    fn send(&mut self, to: TcpPeer, msg: P::Msg) {
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

    async fn finish(mut self) {
        self.notes.close();
        self.port.room.close();
        for (line, _) in self.lines.values() {
            line.close();
        }
        while self.carriers.join_next().await.is_some() {}
        self.runner.finish().await;
    }
}
