//! Runs a [`Protocol`] on a node.
//!
//! One task owns the machine and feeds it; each peer it sends to has a task with an [outbox](super::outbox); what
//! peers send comes by its [port](super::port), which waits when the machine's inbox is full. The lanes:
//! [`Lane::Datagram`] is a QUIC datagram, [`Lane::Ordered`] one stream per peer and protocol that carries frames (4
//! bytes of length, little-endian, then the message), [`Lane::Bulk`] a stream with one frame. All begin with the
//! protocol's name. A machine's message to its own node comes straight back.

use std::collections::{BTreeMap, VecDeque};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::{Arc, PoisonError};
use std::task::Poll;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};
use tracing::Instrument;

use super::error::ServeError;
use super::outbox::{self, Outbox};
use super::pool::Link as Connected;
use super::port::{Note, Port};
use super::runner::{Input, Runner};
use super::serve::{Service, Taker};
use super::shared::{Phase, Shared, header};
use super::stats::Drop as Dropped;
use super::transport::DatagramError;
use super::worker::Crew;
use crate::protocol::{Down, Link, Protocol, Worker};
use crate::wire::{self, Pieces};
use crate::{Contact, Handle, Lane, PeerId, Wire};

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
    /// The tasks of the outboxes, also of some that are let go and come to their end.
    writers: JoinSet<()>,
    /// Counts what is sent and received: the time by which a peer was idle longest.
    turn: u64,
    /// Links that came or went, to be told.
    links: VecDeque<(Contact, Link)>,
    /// Messages to this node itself, with their lengths: as many, and as many bytes, as an inbox has room for.
    own: VecDeque<(P::Msg, usize)>,
    own_bytes: usize,
    _place: Place,
}

/// A peer the machine talks with.
#[derive(Default)]
struct PeerState {
    /// The connections it has talked on since the link is up, the latest last: it is one link to the machine though
    /// one replaced another.
    links: Vec<Arc<Connected>>,
    writer: Option<Writer>,
    /// The turn of its latest message.
    used: u64,
}

/// An outbox and its task.
struct Writer {
    number: u64,
    outbox: Arc<Outbox>,
    task: AbortHandle,
}

/// A machine's name among the services, given back when the machine ends, even by a panic.
struct Place {
    shared: Arc<Shared>,
    name: String,
    service: Arc<Service>,
}

impl Drop for Place {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!(protocol = self.name, "a machine has panicked: it is stopped");
        }
        self.shared.vacate(&self.name, &self.service);
    }
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
    let port = Arc::new(Port::new(sender, shared, name));
    let service = shared.register(name, Taker::Machine(port.clone()))?;
    let place = Place { shared: shared.clone(), name: name.into(), service };
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
        writers: JoinSet::new(),
        turn: 0,
        links: VecDeque::new(),
        own: VecDeque::new(),
        own_bytes: 0,
        _place: place,
    };
    let mut machines = shared.machines.lock().unwrap_or_else(PoisonError::into_inner);
    machines.retain(|machine| !machine.is_finished());
    let span = tracing::debug_span!(parent: None, "protocol", name);
    machines.push(tokio::spawn(driver.run().instrument(span)));
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
                            if let Some((msg, len)) = self.own.pop_front() {
                                self.own_bytes -= len;
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
        while self.writers.try_join_next().is_some() {}
        match note {
            // From here on it is no longer in the inbox.
            Note::Message(source, msg, _held) => match self.up(&source.link) {
                true => Some(Input::Message(source.link.peer, msg)),
                false => {
                    self.shared.counters.drop(Dropped::Busy);
                    source.refused.notify_one();
                    None
                }
            },
            Note::Up(number, link) => {
                let current = self.peers.get(&link.peer.id).and_then(|peer| peer.writer.as_ref());
                if current.is_some_and(|writer| writer.number == number) {
                    self.up(&link);
                }
                None
            }
            Note::Ended(number, peer, why) => {
                let state = self.peers.get_mut(&peer.id)?;
                state.writer.take_if(|writer| writer.number == number)?;
                match why {
                    Some(why) => self.down(peer, why),
                    None if state.links.is_empty() => drop(self.peers.remove(&peer.id)),
                    None => {}
                }
                None
            }
            Note::Down(link, why) => {
                let state = self.peers.get(&link.peer.id)?;
                // If not, it was told before.
                if state.links.iter().any(|on| Arc::ptr_eq(on, &link)) {
                    self.down(link.peer, why);
                }
                None
            }
        }
    }

    /// Notes that there is a link to a peer. `false` if there are too many.
    fn up(&mut self, link: &Arc<Connected>) -> bool {
        if !self.peers.contains_key(&link.peer.id) {
            if link.dead() {
                // Its last messages; that it is gone has been told.
                return true;
            }
            if !self.room() {
                return false;
            }
        }
        self.turn += 1;
        let state = self.peers.entry(link.peer.id).or_default();
        state.used = self.turn;
        if state.links.is_empty() {
            self.links.push_back((link.peer, Link::Up));
        }
        if state.links.last().is_none_or(|latest| !Arc::ptr_eq(latest, link)) {
            state.links.retain(|on| !Arc::ptr_eq(on, link) && !on.dead());
            state.links.push(link.clone());
        }
        true
    }

    /// Has room for another peer, if need be in the place of the one that was idle longest.
    fn room(&mut self) -> bool {
        if self.peers.len() < self.shared.limits.links_per_protocol {
            return true;
        }
        let idle = self.peers.iter().filter(|(_, state)| {
            !state.links.is_empty() && state.writer.as_ref().is_none_or(|writer| writer.outbox.is_idle())
        });
        let Some((&id, _)) = idle.min_by_key(|(_, state)| state.used) else { return false };
        let Some(state) = self.peers.remove(&id) else { return false };
        if let Some(writer) = state.writer {
            // What it has sent arrives, unless too many have to be waited for already.
            match self.writers.len() < 2 * self.shared.limits.links_per_protocol {
                true => writer.outbox.finish(),
                false => writer.task.abort(),
            }
        }
        if let Some(latest) = state.links.last() {
            self.links.push_back((latest.peer, Link::Down(Down::Idle)));
        }
        true
    }

    fn down(&mut self, peer: Contact, why: Down) {
        let state = self.peers.remove(&peer.id);
        if let Some(writer) = state.and_then(|state| state.writer) {
            writer.task.abort();
        }
        self.links.push_back((peer, Link::Down(why)));
    }

    fn send_all(&mut self, out: &mut Vec<(Contact, P::Msg)>) {
        for (to, msg) in out.drain(..) {
            self.send(to, msg);
        }
    }

    fn send(&mut self, to: Contact, msg: P::Msg) {
        self.port.counters.sent();
        if to.id == self.me {
            return self.send_to_self(msg);
        }
        if !self.peers.contains_key(&to.id) && !self.room() {
            self.shared.counters.drop(Dropped::Overflow);
            self.links.push_back((to, Link::Down(Down::Overflow)));
            return;
        }
        let mut before = match msg.lane() {
            Lane::Ordered => Vec::new(),
            Lane::Datagram | Lane::Bulk => self.header.to_vec(),
        };
        let head = before.len();
        if msg.lane() == Lane::Bulk {
            before.extend_from_slice(&[0; 4]);
        }
        let start = before.len();
        let mut bytes = match msg.lane() {
            Lane::Bulk => wire::pieces(&msg, before),
            Lane::Ordered | Lane::Datagram => {
                msg.encode(&mut before);
                Pieces::after(before)
            }
        };
        let len = bytes.len() - start;
        if len > P::Msg::MAX_BYTES {
            // The machine's mistake; its peers would take it for misbehaviour.
            tracing::error!(protocol = self.name, len, max = P::Msg::MAX_BYTES, "a message too long to send");
            debug_assert!(false, "a machine sent a message of {len} bytes");
            return self.shared.counters.drop(Dropped::TooLong);
        }
        self.turn += 1;
        let state = self.peers.entry(to.id).or_default();
        state.used = self.turn;
        let queued = match msg.lane() {
            Lane::Ordered => self.outbox(to).ordered(&bytes.first),
            Lane::Bulk => {
                bytes.first[head..start].copy_from_slice(&(len as u32).to_le_bytes());
                self.outbox(to).bulk(bytes)
            }
            Lane::Datagram => match state.links.last().filter(|link| link.usable()) {
                Some(link) => {
                    link.touch();
                    match link.conn.send_datagram(bytes.first.into()) {
                        Err(DatagramError::TooLong { .. }) => self.shared.counters.drop(Dropped::TooLong),
                        Err(DatagramError::Lost(_)) | Ok(()) => {}
                    }
                    Ok(())
                }
                None => self.outbox(to).datagram(bytes.first.into()),
            },
        };
        if queued.is_err() {
            self.shared.counters.drop(Dropped::Overflow);
            self.down(to, Down::Overflow);
        }
    }

    fn send_to_self(&mut self, msg: P::Msg) {
        let (limits, len) = (&self.shared.limits, msg.wire_len());
        let fits = self.own.is_empty() || self.own_bytes.saturating_add(len) <= limits.inbox_bytes;
        if !fits || self.own.len() >= limits.inbox_messages {
            return self.shared.counters.drop(Dropped::Overflow);
        }
        self.own_bytes += len;
        self.own.push_back((msg, len));
    }

    /// The outbox to a peer, with its task.
    fn outbox(&mut self, to: Contact) -> &Outbox {
        let state = self.peers.entry(to.id).or_default();
        let writer = state.writer.get_or_insert_with(|| {
            let number = self.turn;
            let outbox = Outbox::new(self.shared.limits.queue_bytes_per_peer);
            let (port, header, queue) = (self.port.clone(), self.header.clone(), outbox.clone());
            let task = async move {
                let up = |link| {
                    let port = port.clone();
                    async move { port.tell(Note::Up(number, link)).await }
                };
                let why = outbox::send(port.shared.clone(), to, header, queue, up).await;
                port.tell(Note::Ended(number, to, why)).await;
            };
            let task = self.writers.spawn(task.instrument(tracing::trace_span!("outbox", ?to)));
            Writer { number, outbox, task }
        });
        &writer.outbox
    }

    /// Sends what waits to be sent, then ends the machine.
    async fn finish(mut self) {
        // Nobody reads notes any more, and no task may wait for that.
        self.notes.close();
        self.port.close();
        for writer in self.peers.values().filter_map(|peer| peer.writer.as_ref()) {
            writer.outbox.finish();
        }
        while self.writers.join_next().await.is_some() {}
        self.runner.finish().await;
    }
}

enum Next<P: Protocol> {
    Note(Note<P::Msg>),
    Own(P::Msg),
    Input(Input<P>),
}
