//! Runs a [`Protocol`] on a node.
//!
//! One task owns the machine and feeds it; each peer it sends to has a task with an [outbox](super::outbox); each
//! stream of messages that a peer opens is read by a task of its own, which waits when the machine's inbox is
//! full, and so does the peer. The lanes: [`Lane::Datagram`] is a QUIC datagram, [`Lane::Ordered`] one stream per
//! peer and protocol that carries frames (4 bytes of length, little-endian, then the message), [`Lane::Bulk`]
//! a stream with one frame. All begin with the protocol's name. A machine's message to its own node comes straight
//! back.

use std::collections::{BTreeMap, VecDeque};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::{Arc, PoisonError};
use std::task::Poll;

use bytes::{Buf, Bytes, BytesMut};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::error::ServeError;
use super::outbox::{self, Outbox};
use super::pool::{Link as Connected, Use};
use super::runner::{Input, Runner};
use super::serve::{Conversation, Inbox, Taker};
use super::shared::{Phase, Shared, header};
use super::stats::{Drop as Dropped, ProtocolCounters};
use super::stream::{RecvStream, StreamError, code};
use super::transport::{CloseReason, DatagramError};
use super::worker::Crew;
use crate::protocol::{Down, Link, Protocol, Worker};
use crate::{Contact, Handle, Lane, PeerId, Wire};

/// Bytes of a stream that are read at once.
const CHUNK: usize = 64 << 10;

/// What connections tell the machine's task.
enum Note<M> {
    Message(Arc<Connected>, M),
    /// An outbox, by its number, has a connection.
    Up(u64, Arc<Connected>),
    /// An outbox has ended.
    Ended(u64, Contact, Option<Down>),
    /// The link to a peer is gone.
    Down(Contact, Down),
}

/// The inbox's end that connections have.
struct Port<M> {
    notes: mpsc::Sender<Note<M>>,
    shared: Arc<Shared>,
    counters: Arc<ProtocolCounters>,
}

struct Driver<P: Protocol> {
    runner: Runner<P>,
    name: String,
    header: Bytes,
    me: PeerId,
    shared: Arc<Shared>,
    port: Arc<Port<P::Msg>>,
    notes: mpsc::Receiver<Note<P::Msg>>,
    /// Everybody there is a link or an outbox to. At most [`Limits::links_per_protocol`](crate::Limits).
    peers: BTreeMap<PeerId, PeerState>,
    outboxes: u64,
    /// Links that came or went, to be told.
    links: VecDeque<(Contact, Link)>,
    /// Messages to this node itself.
    own: VecDeque<P::Msg>,
}

#[derive(Default)]
struct PeerState {
    link: Option<Arc<Connected>>,
    outbox: Option<(u64, Arc<Outbox>, JoinHandle<()>)>,
}

pub(super) fn spawn<P, W>(
    shared: &Arc<Shared>,
    name: &str,
    machine: P,
    workers: impl IntoIterator<Item = W>,
) -> Result<Handle<P>, ServeError>
where
    P: Protocol<Peer = Contact>,
    P::Msg: Wire,
    W: Worker<P::Job> + 'static,
{
    let header = header(name, 0).map_err(|_| ServeError::Name(name.into()))?.into();
    let limits = &shared.limits;
    let crew = Crew::start(name, workers, limits.jobs, limits.jobs_per_batch)
        .map_err(|error| ServeError::Thread(error.to_string()))?;
    let (sender, notes) = mpsc::channel(limits.inbox_messages.max(1));
    let port = Arc::new(Port { notes: sender, shared: shared.clone(), counters: shared.counters_of(name) });
    shared.register(name, Taker::Machine(port.clone()))?;
    let (runner, handle) = Runner::new(machine, shared.clock, crew);
    let driver = Driver {
        runner,
        name: name.into(),
        header,
        me: shared.transport.id(),
        shared: shared.clone(),
        port,
        notes,
        peers: BTreeMap::new(),
        outboxes: 0,
        links: VecDeque::new(),
        own: VecDeque::new(),
    };
    let mut machines = shared.machines.lock().unwrap_or_else(PoisonError::into_inner);
    machines.retain(|machine| !machine.is_finished());
    machines.push(tokio::spawn(driver.run()));
    Ok(handle)
}

impl<P> Driver<P>
where
    P: Protocol<Peer = Contact>,
    P::Msg: Wire,
{
    async fn run(mut self) {
        let mut phase = self.shared.phase.subscribe();
        let mut draining = pin!(async move {
            let _ = phase.wait_for(|phase| *phase > Phase::Running).await;
        });
        let mut out = Vec::new();
        self.runner.feed(Input::Start, &mut out);
        self.send_all(&mut out);
        let mut network_first = false;
        loop {
            network_first = !network_first;
            let input = if let Some((peer, link)) = self.links.pop_front() {
                Input::Link(peer, link)
            } else {
                let next = poll_fn(|cx| {
                    if draining.as_mut().poll(cx).is_ready() {
                        return Poll::Ready(None);
                    }
                    for network in [network_first, !network_first] {
                        if network {
                            if let Poll::Ready(Some(note)) = self.notes.poll_recv(cx) {
                                return Poll::Ready(Some(Next::Note(note)));
                            }
                        } else {
                            if let Some(msg) = self.own.pop_front() {
                                return Poll::Ready(Some(Next::Own(msg)));
                            }
                            if let Poll::Ready(input) = self.runner.poll(cx) {
                                return Poll::Ready(Some(Next::Input(input)));
                            }
                        }
                    }
                    Poll::Pending
                });
                match next.await {
                    None => break,
                    Some(Next::Input(input)) => input,
                    Some(Next::Own(msg)) => Input::Message(Contact::new(self.me, self.shared.addr()), msg),
                    Some(Next::Note(note)) => match self.note(note) {
                        Some(input) => input,
                        None => continue,
                    },
                }
            };
            // A link that is up is told before its first message.
            while let Some((peer, link)) = self.links.pop_front() {
                self.runner.feed(Input::Link(peer, link), &mut out);
                self.send_all(&mut out);
            }
            self.runner.feed(input, &mut out);
            self.send_all(&mut out);
        }
        self.finish().await;
    }

    /// What a note means for the machine. Changes of links are put in `links`.
    fn note(&mut self, note: Note<P::Msg>) -> Option<Input<P>> {
        match note {
            Note::Message(link, msg) => {
                let from = link.peer;
                self.up(link).then_some(Input::Message(from, msg))
            }
            Note::Up(number, link) => {
                let current = self.peers.get(&link.peer.id).and_then(|peer| peer.outbox.as_ref());
                if current.is_some_and(|(current, ..)| *current == number) {
                    self.up(link);
                }
                None
            }
            Note::Ended(number, peer, why) => {
                let state = self.peers.get_mut(&peer.id)?;
                state.outbox.take_if(|(current, ..)| *current == number)?;
                match why {
                    Some(why) => self.down(peer, why),
                    None => self.tidy(&peer.id),
                }
                None
            }
            Note::Down(peer, why) => {
                let state = self.peers.get(&peer.id)?;
                if state.link.is_some() {
                    self.down(peer, why);
                }
                None
            }
        }
    }

    /// Notes that there is a link to a peer. `false` if there are too many.
    fn up(&mut self, link: Arc<Connected>) -> bool {
        if !self.peers.contains_key(&link.peer.id)
            && self.peers.len() >= self.shared.limits.links_per_protocol
        {
            self.shared.counters.drop(Dropped::Busy);
            return false;
        }
        if link.dead() {
            // Its last messages; that it is gone has been told.
            return true;
        }
        let state = self.peers.entry(link.peer.id).or_default();
        if state.link.is_none() {
            self.links.push_back((link.peer, Link::Up));
        }
        state.link = Some(link);
        true
    }

    fn down(&mut self, peer: Contact, why: Down) {
        let state = self.peers.remove(&peer.id);
        if let Some((_, _, writer)) = state.and_then(|state| state.outbox) {
            writer.abort();
        }
        self.links.push_back((peer, Link::Down(why)));
    }

    fn tidy(&mut self, peer: &PeerId) {
        if self.peers.get(peer).is_some_and(|state| state.link.is_none() && state.outbox.is_none()) {
            self.peers.remove(peer);
        }
    }

    fn send_all(&mut self, out: &mut Vec<(Contact, P::Msg)>) {
        for (to, msg) in out.drain(..) {
            self.send(to, msg);
        }
    }

    fn send(&mut self, to: Contact, msg: P::Msg) {
        self.port.counters.sent.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        if to.id == self.me {
            match self.own.len() < self.shared.limits.inbox_messages {
                true => self.own.push_back(msg),
                false => self.shared.counters.drop(Dropped::Overflow),
            }
            return;
        }
        let full = self.peers.len() >= self.shared.limits.links_per_protocol;
        if full && !self.peers.contains_key(&to.id) {
            self.shared.counters.drop(Dropped::Overflow);
            self.links.push_back((to, Link::Down(Down::Overflow)));
            return;
        }
        let mut bytes = match msg.lane() {
            Lane::Ordered => Vec::new(),
            Lane::Datagram | Lane::Bulk => self.header.to_vec(),
        };
        let head = bytes.len();
        if msg.lane() == Lane::Bulk {
            bytes.extend_from_slice(&[0; 4]);
        }
        let start = bytes.len();
        msg.encode(&mut bytes);
        let len = bytes.len() - start;
        if len > P::Msg::MAX_BYTES {
            // The machine's mistake; its peers would take it for misbehaviour.
            tracing::error!(protocol = self.name, len, max = P::Msg::MAX_BYTES, "a message too long to send");
            debug_assert!(false, "a machine sent a message of {len} bytes");
            return self.shared.counters.drop(Dropped::TooLong);
        }
        let state = self.peers.entry(to.id).or_default();
        let queued = match msg.lane() {
            Lane::Ordered => {
                Self::outbox(&mut self.outboxes, state, &self.port, &self.header, to).ordered(&bytes)
            }
            Lane::Bulk => {
                bytes[head..start].copy_from_slice(&(len as u32).to_le_bytes());
                Self::outbox(&mut self.outboxes, state, &self.port, &self.header, to).bulk(bytes.into())
            }
            Lane::Datagram => match state.link.as_ref().filter(|link| link.usable()) {
                Some(link) => {
                    link.touch();
                    match link.conn.send_datagram(bytes.into()) {
                        Err(DatagramError::TooLong { .. }) => self.shared.counters.drop(Dropped::TooLong),
                        Err(DatagramError::Lost(_)) | Ok(()) => {}
                    }
                    Ok(())
                }
                None => Self::outbox(&mut self.outboxes, state, &self.port, &self.header, to)
                    .datagram(bytes.into()),
            },
        };
        if queued.is_err() {
            self.shared.counters.drop(Dropped::Overflow);
            self.down(to, Down::Overflow);
        }
    }

    /// The outbox to a peer, with its task.
    fn outbox<'a>(
        outboxes: &mut u64,
        state: &'a mut PeerState,
        port: &Arc<Port<P::Msg>>,
        header: &Bytes,
        to: Contact,
    ) -> &'a Outbox {
        let (_, outbox, _) = state.outbox.get_or_insert_with(|| {
            *outboxes += 1;
            let number = *outboxes;
            let outbox = Outbox::new(port.shared.limits.queue_bytes_per_peer);
            let (port, header, queue) = (port.clone(), header.clone(), outbox.clone());
            let task = tokio::spawn(async move {
                let up = |link| {
                    let port = port.clone();
                    async move { port.tell(Note::Up(number, link)).await }
                };
                let why = outbox::send(port.shared.clone(), to, header, queue, up).await;
                port.tell(Note::Ended(number, to, why)).await;
            });
            (number, outbox, task)
        });
        outbox
    }

    /// Sends what waits to be sent, then ends the machine.
    async fn finish(mut self) {
        // Nobody reads notes any more, and no task may wait for that.
        self.notes.close();
        let peers = std::mem::take(&mut self.peers);
        for (_, outbox, _) in peers.values().filter_map(|peer| peer.outbox.as_ref()) {
            outbox.finish();
        }
        for (_, _, task) in peers.into_values().filter_map(|peer| peer.outbox) {
            let _ = task.await;
        }
        self.runner.finish().await;
    }
}

enum Next<P: Protocol> {
    Note(Note<P::Msg>),
    Own(P::Msg),
    Input(Input<P>),
}

impl<M: Send> Port<M> {
    async fn tell(&self, note: Note<M>) {
        // If the machine is gone, nobody needs to know.
        let _ = self.notes.send(note).await;
    }
}

impl<M: Wire + Send + 'static> Port<M> {
    fn misbehaved(&self, link: &Connected, what: &dyn std::fmt::Display) {
        tracing::debug!(peer = ?link.peer, %what, "a peer misbehaved");
        self.shared.counters.drop(Dropped::Undecodable);
        link.close(CloseReason::Misbehaved, Down::Misbehaved);
    }

    /// Reads frames to the stream's end.
    async fn read(&self, link: &Arc<Connected>, mut stream: RecvStream) {
        let mut buffer = BytesMut::new();
        let mut hold = None;
        loop {
            let chunk = match stream.read_chunk(CHUNK).await {
                Ok(Some(chunk)) => chunk,
                Ok(None) if buffer.is_empty() => return,
                Ok(None) => return self.misbehaved(link, &"a stream that ends within a message"),
                Err(StreamError::Abandoned(number)) if number == u64::from(code::OVERFLOW) => {
                    return self.tell(Note::Down(link.peer, Down::Overflow)).await;
                }
                Err(_) => return,
            };
            link.touch();
            // Most chunks are whole frames: these are decoded in place.
            let gathered = !buffer.is_empty();
            if gathered {
                buffer.extend_from_slice(&chunk);
            }
            let mut rest: &[u8] = if gathered { &buffer } else { &chunk };
            let before = rest.len();
            while let Some(len) = rest.first_chunk::<4>().map(|len| u32::from_le_bytes(*len) as usize) {
                if len > M::MAX_BYTES {
                    return self.misbehaved(link, &format_args!("a message of {len} bytes"));
                }
                let Some(frame) = rest.get(4..4 + len) else { break };
                match M::from_bytes(frame) {
                    Ok(message) => {
                        self.counters.received.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                        self.tell(Note::Message(link.clone(), message)).await;
                    }
                    Err(error) => return self.misbehaved(link, &error),
                }
                rest = &rest[4 + len..];
            }
            let used = before - rest.len();
            match gathered {
                true => buffer.advance(used),
                false => buffer.extend_from_slice(&chunk[used..]),
            }
            // Room for the rest of a message, so that a long one is not moved again and again; but not for a mere
            // claim: an eighth of it must be there.
            if let Some(len) = buffer.first_chunk::<4>().map(|len| u32::from_le_bytes(*len) as usize)
                && buffer.len() >= len / 8
            {
                buffer.reserve((4 + len).saturating_sub(buffer.len()));
            }
            // In the middle of a message the link is in use.
            hold = match (buffer.is_empty(), hold) {
                (true, _) => None,
                (false, None) => Some(Use::new(link)),
                (false, held) => held,
            };
        }
    }
}

impl<M: Wire + Send + 'static> Inbox for Port<M> {
    fn stream(self: Arc<Self>, link: Arc<Connected>, stream: RecvStream) -> Conversation {
        Box::pin(async move { self.read(&link, stream).await })
    }

    fn datagram(&self, link: &Arc<Connected>, bytes: &[u8]) {
        match M::from_bytes(bytes) {
            Ok(message) => {
                self.counters.received.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                if self.notes.try_send(Note::Message(link.clone(), message)).is_err() {
                    self.shared.counters.drop(Dropped::DatagramOverrun);
                }
            }
            Err(error) => self.misbehaved(link, &error),
        }
    }

    fn down(self: Arc<Self>, peer: Contact, why: Down) -> Conversation {
        Box::pin(async move { self.tell(Note::Down(peer, why)).await })
    }
}
