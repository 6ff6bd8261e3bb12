//! Everything in a simulation but the nodes: the event queue, the network, clocks, and where effects go.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use futures::channel::{mpsc, oneshot};

use super::arrivals::Outbound;
use super::disk::{Disk, DiskModel};
use super::fault::Fault;
use super::network::{Encoding, Fate, Net, Network};
use super::node::Body;
use super::slab::Slab;
use super::stats::Stats;
use super::wheel::Wheel;
use super::{Ended, SimPeer, stream};
use crate::handle::desk::{Call, Desk, Todo};
use crate::protocol::{Down, Effect, Job, JobId, Link, Protocol, Worker};
use crate::{Lane, Rng, Time, Wire};

/// Where virtual time begins, as the time of day: 2023-11-14 22:13:20 UTC.
pub(super) const EPOCH: Duration = Duration::from_secs(1_700_000_000);

pub(super) struct World<P: Protocol> {
    pub now: u64,
    pub steps: u64,
    pub trace: u64,
    pub stats: Stats,
    pub net: Net,
    pub disk: DiskModel,
    pub disk_rng: Rng,
    pub desks: BTreeMap<u32, Desk<P>>,
    pub outcomes: Vec<Ended<P>>,
    pub events: Option<Vec<(SimPeer, P::Event)>>,
    pub calls: mpsc::UnboundedReceiver<(u32, Call<P>)>,
    pub call_sender: mpsc::UnboundedSender<(u32, Call<P>)>,
    /// What follows from an input, to be done after it.
    pub todo: VecDeque<(SimPeer, Todo<P>)>,
    wheel: Wheel,
    messages: Slab<Parcel<P::Msg>>,
    others: Slab<Other<P>>,
    /// Nodes whose clocks drift.
    drifts: BTreeMap<u32, Drift>,
    /// To whom each is connected, sorted, where nodes hear of that.
    links: Vec<Vec<SimPeer>>,
}

/// A message on its way.
struct Parcel<M> {
    from: SimPeer,
    to: SimPeer,
    /// Its size, while it has yet to come in over the receiver's line.
    incoming: Option<u32>,
    msg: M,
}

enum Other<P: Protocol> {
    Timer {
        node: SimPeer,
        id: u32,
    },
    /// A timer that was cleared: its node need not be looked at.
    Cleared,
    Rare(Box<Rare<P>>),
}

/// What happens next.
pub(super) enum Happening<P: Protocol> {
    Message { from: SimPeer, to: SimPeer, msg: P::Msg },
    Timer { node: SimPeer, id: u32 },
    Rare(Box<Rare<P>>),
}

/// What happens seldom enough to be kept on the heap.
pub(super) enum Rare<P: Protocol> {
    Link(SimPeer, SimPeer, Link),
    DiskDone(SimPeer, u32),
    JobRefused(SimPeer, JobId, <P::Job as Job>::Done),
    Wake(oneshot::Sender<()>),
    Fault(Fault),
}

#[derive(Clone, Copy)]
struct Drift {
    since: u64,
    local: u64,
    ppm: i32,
}

/// The top bit of a queue entry's slot tells messages from the rest.
const OTHER: u32 = 1 << 31;

impl<P: Protocol<Peer = SimPeer>> World<P> {
    pub(super) fn new(seed: u64, network: Network, disk: DiskModel) -> World<P> {
        let (call_sender, calls) = mpsc::unbounded();
        World {
            now: 0,
            steps: 0,
            trace: 0,
            stats: Stats::default(),
            net: Net::new(network, seed, Rng::stream(seed, stream::NETWORK)),
            disk,
            disk_rng: Rng::stream(seed, stream::DISK),
            desks: BTreeMap::new(),
            outcomes: Vec::new(),
            events: None,
            calls,
            call_sender,
            todo: VecDeque::new(),
            wheel: Wheel::new(),
            messages: Slab::new(),
            others: Slab::new(),
            drifts: BTreeMap::new(),
            links: Vec::new(),
        }
    }

    pub(super) fn now(&self) -> Time {
        Time::from_nanos(self.now)
    }

    /// Takes the next event that is due by `limit` out of the queue, and moves time to it.
    #[inline]
    pub(super) fn next(&mut self, limit: u64) -> Option<Happening<P>> {
        loop {
            let entry = self.wheel.pop_until(limit)?;
            self.now = self.now.max(entry.at);
            if entry.slot() & OTHER != 0 {
                match self.others.take(entry.slot() & !OTHER)? {
                    Other::Timer { node, id } => return Some(Happening::Timer { node, id }),
                    Other::Cleared => continue,
                    Other::Rare(rare) => return Some(Happening::Rare(rare)),
                }
            }
            let mut parcel = self.messages.take(entry.slot())?;
            let Some(bytes) = parcel.incoming.take() else {
                return Some(Happening::Message { from: parcel.from, to: parcel.to, msg: parcel.msg });
            };
            match self.net.receive(self.now, parcel.to, bytes as usize) {
                Some(at) => self.push(at, parcel),
                None => self.overflow(parcel.from, parcel.to),
            }
        }
    }

    fn push(&mut self, at: u64, parcel: Parcel<P::Msg>) {
        let slot = self.messages.insert(parcel);
        debug_assert!(slot & OTHER == 0);
        self.wheel.push(at, slot);
    }

    fn push_other(&mut self, at: u64, other: Other<P>) -> u32 {
        let slot = self.others.insert(other);
        self.wheel.push(at, slot | OTHER);
        slot
    }

    /// Schedules a timer, and says where it is kept until then.
    pub(super) fn push_timer(&mut self, due: u64, node: SimPeer, id: u32) -> u32 {
        self.push_other(due, Other::Timer { node, id })
    }

    /// Forgets a timer that is scheduled.
    pub(super) fn drop_timer(&mut self, slot: u32) {
        if let Some(other) = self.others.get_mut(slot) {
            *other = Other::Cleared;
        }
    }

    /// Begins the next tick, if this one is over; says whether it did.
    #[inline]
    pub(super) fn begin_tick(&mut self, limit: u64) -> bool {
        self.wheel.begin_tick(limit)
    }

    /// Prefetches the event that comes when `n` others of this tick have happened.
    #[inline]
    pub(super) fn warm(&self, n: usize) {
        match self.wheel.ahead(n) {
            Some(slot) if slot & OTHER == 0 => self.messages.prefetch(slot),
            Some(slot) => self.others.prefetch(slot & !OTHER),
            None => {}
        }
    }

    /// The node to which that event happens.
    #[inline]
    pub(super) fn ahead(&self, n: usize) -> Option<SimPeer> {
        let slot = self.wheel.ahead(n)?;
        if slot & OTHER == 0 {
            return self.messages.get(slot).map(|parcel| parcel.to);
        }
        match self.others.get(slot & !OTHER)? {
            Other::Timer { node, .. } => Some(*node),
            Other::Cleared | Other::Rare(_) => None,
        }
    }

    pub(super) fn after(&mut self, nanos: u64, rare: Rare<P>) {
        self.push_other(self.now.saturating_add(nanos), Other::Rare(Box::new(rare)));
    }

    /// Keeps a message back until a paused node goes on.
    pub(super) fn hold(&mut self, until: u64, from: SimPeer, to: SimPeer, msg: P::Msg) {
        self.push(until, Parcel { from, to, incoming: None, msg });
    }

    /// Adds to the trace.
    #[inline]
    pub(super) fn note(&mut self, what: u64, kind: u64) {
        for word in [self.now, what, kind] {
            self.trace = (self.trace.rotate_left(5) ^ word).wrapping_mul(0x517c_c1b7_2722_0a95);
        }
    }

    // ---- effects

    /// Carries out what a machine did.
    #[inline]
    pub(super) fn apply<W: Worker<P::Job>>(
        &mut self,
        node: SimPeer,
        body: &mut Body<P, W>,
        effect: Effect<P>,
        workers: &mut dyn FnMut(SimPeer) -> W,
    ) where
        P::Msg: Wire,
    {
        match effect {
            Effect::Send(to, msg) => self.send(node, &mut body.outbound, to, msg),
            Effect::SetTimer(after, timer) => body.set_timer(self, node, after, timer),
            Effect::ClearTimer(timer) => body.clear_timer(self, &timer),
            Effect::Item(op, item) => {
                let todo = match self.desks.get_mut(&node.0) {
                    Some(desk) => desk.item(op, item),
                    None => Todo::Read(op, 1),
                };
                if !matches!(todo, Todo::Nothing) {
                    self.todo.push_back((node, todo));
                }
            }
            Effect::Finish(op, outcome) => {
                self.note(op.0, u64::from(node.0));
                let unasked = match self.desks.get_mut(&node.0) {
                    Some(desk) => desk.finish(op, outcome),
                    None => Err(outcome),
                };
                if let Err(outcome) = unasked {
                    self.outcomes.push(Ended { peer: node, op, at: self.now(), outcome });
                }
            }
            Effect::Emit(event) => {
                self.stats.said += 1;
                if let Some(desk) = self.desks.get_mut(&node.0) {
                    desk.event(&event);
                }
                if let Some(events) = &mut self.events {
                    events.push((node, event));
                }
            }
            Effect::Start(id, job) => {
                let disk = body.disk.get_or_insert_with(|| Box::new(Disk::new(workers(node))));
                disk.start(self, node, id, job);
            }
        }
    }

    fn send(&mut self, from: SimPeer, outbound: &mut Outbound, to: SimPeer, msg: P::Msg)
    where
        P::Msg: Wire,
    {
        self.stats.sent += 1;
        let lane = msg.lane();
        let (bytes, back) = self.encode(&msg);
        let msg = back.unwrap_or(msg);
        self.stats.bytes += bytes as u64;
        if self.net.config.links.is_some() {
            self.connect(from, to);
        }
        match self.net.send(self.now, from, outbound, to, lane, bytes) {
            Fate::Arrives(at, again) => {
                let incoming = self.net.has_lines().then_some(bytes as u32);
                if let Some(again) = again {
                    let copy = P::Msg::from_bytes(&msg.to_bytes()).expect("a message decodes from its bytes");
                    self.push(again, Parcel { from, to, incoming, msg: copy });
                }
                self.push(at, Parcel { from, to, incoming, msg });
            }
            Fate::Lost => self.stats.lost += 1,
            Fate::Cut => {
                self.stats.cut += 1;
                self.disconnect(from, to, Down::TimedOut);
            }
            Fate::Overflow => self.overflow(from, to),
        }
        debug_assert!(lane != Lane::Datagram || bytes <= 1200, "a datagram of {bytes} bytes fits no packet");
    }

    /// A message's size, and what came back if it has been bytes.
    fn encode(&self, msg: &P::Msg) -> (usize, Option<P::Msg>)
    where
        P::Msg: Wire,
    {
        let checked = |bytes: usize| {
            let max = P::Msg::MAX_BYTES;
            assert!(bytes <= max, "a machine sent a message of {bytes} bytes; its type has at most {max}");
            bytes
        };
        match self.net.config.encoding {
            Encoding::Ignore => (0, None),
            Encoding::Measure => (checked(msg.wire_len()), None),
            Encoding::RoundTrip => {
                let bytes = msg.to_bytes();
                checked(bytes.len());
                let back = P::Msg::from_bytes(&bytes).expect("a message decodes from its bytes");
                assert!(back.to_bytes() == bytes, "a message changed on its way through bytes");
                (bytes.len(), Some(back))
            }
        }
    }

    // ---- connections

    /// Notes that two peers are connected, and tells both if they were not.
    fn connect(&mut self, a: SimPeer, b: SimPeer) {
        if a != b && self.set_link(a, b, true) {
            self.set_link(b, a, true);
            self.after(0, Rare::Link(a, b, Link::Up));
            self.after(0, Rare::Link(b, a, Link::Up));
        }
    }

    /// Tells both ends that they are no longer connected, after the time that takes to notice.
    fn disconnect(&mut self, a: SimPeer, b: SimPeer, why: Down) {
        let Some(noticed) = self.net.config.links else { return };
        if self.set_link(a, b, false) {
            self.set_link(b, a, false);
            let noticed = crate::time::nanos(noticed);
            self.after(noticed, Rare::Link(a, b, Link::Down(why)));
            self.after(noticed, Rare::Link(b, a, Link::Down(why)));
        }
    }

    /// To whom a peer is connected; `None` where nobody hears of that.
    pub(super) fn links_of(&self, peer: SimPeer) -> Option<&Vec<SimPeer>> {
        self.links.get(peer.index())
    }

    pub(super) fn links_of_dead(&mut self, peer: SimPeer) {
        for other in self.links_of(peer).cloned().unwrap_or_default() {
            self.disconnect(other, peer, Down::TimedOut);
        }
    }

    /// Notes that a peer is connected to another, or is not. Says whether that is new.
    fn set_link(&mut self, peer: SimPeer, other: SimPeer, is_up: bool) -> bool {
        if self.links.len() <= peer.index() {
            self.links.resize_with(peer.index() + 1, Vec::new);
        }
        let links = &mut self.links[peer.index()];
        match links.binary_search(&other) {
            Err(at) if is_up => links.insert(at, other),
            Ok(at) if !is_up => drop(links.remove(at)),
            _ => return false,
        }
        true
    }

    pub(super) fn undeliverable(&mut self, from: SimPeer, to: SimPeer) {
        self.stats.undeliverable += 1;
        self.disconnect(from, to, Down::Unreachable);
    }

    fn overflow(&mut self, from: SimPeer, to: SimPeer) {
        self.stats.overflowed += 1;
        self.disconnect(from, to, Down::Overflow);
    }

    // ---- clocks

    /// A node's clock, and the time of day by it.
    #[inline]
    pub(super) fn clock(&self, node: SimPeer) -> (Time, Duration) {
        let local = match self.drifts.is_empty() {
            true => self.now,
            false => self.drifts.get(&node.0).map_or(self.now, |drift| drift.local_at(self.now)),
        };
        (Time::from_nanos(local), EPOCH + Duration::from_nanos(local))
    }

    /// How long it takes in the world until a node's clock has gone on by `nanos`, and not less.
    pub(super) fn global(&self, node: SimPeer, nanos: u64) -> u64 {
        match self.drifts.get(&node.0) {
            // Both this and reading the clock round: one more makes up for the latter.
            Some(drift) => (u128::from(nanos) * 1_000_000).div_ceil(drift.rate()) as u64 + 1,
            None => nanos,
        }
    }

    pub(super) fn drift(&mut self, node: SimPeer, ppm: i32) {
        let local = self.clock(node).0.as_nanos();
        self.drifts.insert(node.0, Drift { since: self.now, local, ppm: ppm.clamp(-900_000, 900_000) });
    }
}

impl Drift {
    /// Local nanoseconds in a million global ones.
    fn rate(&self) -> u128 {
        (1_000_000 + i64::from(self.ppm)) as u128
    }

    fn local_at(&self, now: u64) -> u64 {
        self.local + (u128::from(now - self.since) * self.rate() / 1_000_000) as u64
    }
}
