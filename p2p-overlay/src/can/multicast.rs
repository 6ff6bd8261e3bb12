//! CAN's own multicast: a message floods the whole space, away from where it began.
//!
//! Ratnasamy, Handley, Karp & Shenker, *Application-level multicast using content-addressable networks* (NGC 2001).
//! There the members of each group form a CAN of their own; here one CAN carries all topics. **Every node gets every
//! message**, and hands those to its users that they have subscribed to: a message costs one transmission for each node
//! of the network, whoever wants it. So it is for networks in which most want most; where topics are many and each has
//! few subscribers, [`Scribe`](crate::Scribe) sends each message to those alone. There is nothing to be kept or mended
//! beyond the zones themselves, and no root through which all has to go.
//!
//! *Directed flooding* (multicast forwarding there, [`Spread::Directed`]): the publisher sends to all its neighbours;
//! whoever has received over dimension i sends on in the same direction, and both ways over each dimension before i;
//! nobody sends to where the message has come half-way around the space, and nobody sends on what it has had. If all
//! zones are alike each node receives each message once; if not, some do several times. Here it is also not sent to
//! whom the sender has just sent it itself; and whoever receives it a second time, over a later dimension or the other
//! way, sends it on where it has not yet: by the paper's rules what comes first decides, and whoever comes after such
//! a node on the way may be left out.
//!
//! *Once* ([`Spread::Once`], ours): each node knows where the flood began and the zones of its neighbours, so it can
//! tell of each neighbour whether it is that one's last step on the way from there, the last dimension first. Of
//! several that could send, exactly one does. The paper does so for a part of the neighbours, by one corner of their
//! zones.
//!
//! Where several nodes share a zone, whoever of them has it first hands it to the others.
//!
//! In this order: [`CanMulticast`] and its configuration, how inputs are told apart, publishing and passing on. Then
//! `request` (what users ask), `spread` (the geometry) and `seen`.

mod request;
mod seen;
mod spread;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use p2p_core::{Cx, Keyed, Lane, Link, NoJob, OpId, Protocol, Time, Up, Wire};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::protocol::CanTimer;
use super::{Can, CanMsg, Claim, MAX_NEIGHBOURS, Zone};
use crate::bucket::{Bucket, Rate};
use crate::pubsub::{Delivery, MAX_MESSAGE, Message, PubSubError, Topic, lane};
use crate::routed::{RoutedMsg, RoutedTimer};
use crate::structured::Overlay;

use seen::Seen;
use spread::{Way, Ways};

pub use request::{CanMulticastCommand, CanMulticastOutcome};

/// A node of a CAN that passes on what is published in it.
///
/// Its users hold a [`Handle`](p2p_core::Handle), which is a [`PubSub`](crate::PubSub):
///
/// ```
/// use futures::StreamExt;
/// use p2p_core::SimPeer;
/// use p2p_core::sim::{Network, Sim};
/// use p2p_overlay::{Can, CanMulticast, CanMulticastConfig, PubSub, Topic};
/// use std::time::Duration;
///
/// type Node = CanMulticast<SimPeer>;
/// let mut sim = Sim::<Node>::new(1, Network::default());
/// let first = sim.spawn(|birth| Node::new(Can::create(birth.peer), CanMulticastConfig::default()));
/// for _ in 0..9 {
///     sim.spawn(|birth| Node::new(Can::join(birth.peer, [first]), CanMulticastConfig::default()));
/// }
/// sim.run_for(Duration::from_secs(60));
///
/// let (here, there) = (sim.handle(SimPeer(3)), sim.handle(SimPeer(7)));
/// let message = sim.block_on(async move {
///     let weather = Topic::named("weather");
///     let mut subscription = there.subscribe(weather).await?;
///     here.publish(weather, "rain".into()).await?;
///     subscription.next().await.unwrap()
/// });
/// assert_eq!(message.unwrap().bytes, "rain");
/// ```
pub struct CanMulticast<P: Keyed> {
    can: Can<P>,
    config: CanMulticastConfig,
    /// The subscriptions of this node's users; at most [`CanMulticastConfig::max_topics`] topics.
    topics: BTreeMap<Topic, Vec<Subscriber>>,
    /// Lookups of this node's users, by those of the overlay.
    finds: BTreeMap<OpId, OpId>,
    /// At most [`CanMulticastConfig::window`].
    seen: Seen<P>,
    /// What each neighbour, and this node itself, may still send; at most twice as many as there are neighbours.
    allowances: BTreeMap<P, Bucket>,
    /// The number of the last message published here.
    sequence: u64,
}

/// A user of this node.
#[derive(Clone, Copy, Debug)]
struct Subscriber {
    op: OpId,
    /// It has been told that it receives messages from now on.
    joined: bool,
}

/// How messages spread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spread {
    /// By the rules of the paper: several ways lead to a node where zones are not alike, and some messages are sent
    /// twice; under churn no fewer are lost for it. Where delays vary two messages of one publisher may change places.
    Directed,
    /// One way leads to each node.
    Once,
}

/// How a node passes on messages.
#[derive(Clone, Copy, Debug)]
pub struct CanMulticastConfig {
    /// How messages spread. [`Spread::Once`]. Nodes may differ in it.
    pub spread: Spread,
    /// The longest message that is published or passed on, in bytes. [`MAX_MESSAGE`], 64 KiB; at most that.
    pub max_bytes: usize,
    /// How often a node takes a message from each neighbour, and publishes one itself: the rest of a neighbour's is
    /// dropped. All that is published in the network comes through each neighbour. 100 a second, 1000 at once.
    pub rate: Rate,
    /// How many messages a node remembers, so as not to take them twice. 4096.
    pub window: usize,
    /// How many topics a node subscribes to. 4096.
    pub max_topics: usize,
}

impl Default for CanMulticastConfig {
    fn default() -> CanMulticastConfig {
        CanMulticastConfig {
            spread: Spread::Once,
            max_bytes: MAX_MESSAGE,
            rate: Rate { every: Duration::from_millis(10), burst: 1000 },
            window: 4096,
            max_topics: 4096,
        }
    }
}

/// What nodes say to each other.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum CanMulticastMsg<P> {
    /// The overlay's own.
    Can(RoutedMsg<P, CanMsg<P>>),
    /// From neighbour to neighbour: a message for everybody. Not answered.
    Flood(Flood<P>),
}

/// A message on its way to everybody.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Flood<P> {
    topic: Topic,
    /// Who has published it.
    publisher: P,
    /// Its number for the message.
    sequence: u64,
    /// The zone in which it began.
    origin: Zone,
    /// The dimension over which it has come last, and whether to higher coordinates; `None` if it is handed to one with
    /// whom the sender shares its zone, who does not pass it on.
    way: Option<(u8, bool)>,
    #[serde(with = "p2p_core::payload")]
    bytes: Bytes,
}

impl<P: Serialize + DeserializeOwned> Wire for CanMulticastMsg<P> {
    /// A message of [`MAX_MESSAGE`] bytes with its header; the overlay's own are shorter.
    const MAX_BYTES: usize = MAX_MESSAGE + 1024;

    fn lane(&self) -> Lane {
        match self {
            CanMulticastMsg::Can(msg) => msg.lane(),
            CanMulticastMsg::Flood(flood) => lane(&flood.bytes),
        }
    }
}

impl<P: Keyed> CanMulticast<P> {
    /// A node that passes on what is published in this CAN.
    pub fn new(can: Can<P>, config: CanMulticastConfig) -> CanMulticast<P> {
        let config = CanMulticastConfig { max_bytes: config.max_bytes.min(MAX_MESSAGE), ..config };
        CanMulticast {
            can,
            config,
            topics: BTreeMap::new(),
            finds: BTreeMap::new(),
            seen: Seen::new(config.window),
            allowances: BTreeMap::new(),
            sequence: 0,
        }
    }

    /// The overlay.
    pub fn can(&self) -> &Can<P> {
        &self.can
    }

    /// Whether it has subscribers to a topic.
    pub fn is_member(&self, topic: Topic) -> bool {
        self.topics.contains_key(&topic)
    }

    /// Hands the overlay an input, and takes in what it says.
    fn below(&mut self, cx: &mut Cx<'_, Self>, input: impl FnOnce(&mut Can<P>, &mut Cx<'_, Can<P>>)) {
        let was_joined = self.can.is_joined();
        let can = &mut self.can;
        let ups =
            cx.nest(CanMulticastMsg::Can, |timer| timer, |job: NoJob| match job {}, |cx| input(can, cx));
        for up in ups {
            match up {
                Up::Finished(find, looked) => {
                    if let Some(op) = self.finds.remove(&find) {
                        cx.finish(op, CanMulticastOutcome::Found(looked));
                    }
                }
                Up::Event(_) | Up::Item(_, ()) => {}
            }
        }
        if !was_joined && self.can.is_joined() {
            for subscriber in self.topics.values_mut().flatten().filter(|one| !one.joined) {
                subscriber.joined = true;
                cx.item(subscriber.op, Delivery::Joined);
            }
        }
    }

    fn may_send(&mut self, peer: P, now: Time) -> bool {
        if self.allowances.len() >= 2 * MAX_NEIGHBOURS && !self.allowances.contains_key(&peer) {
            let (table, me) = (self.can.table(), self.can.me());
            self.allowances.retain(|peer, _| *peer == me || table.claims_of(*peer).is_some());
            if self.allowances.len() >= 2 * MAX_NEIGHBOURS {
                return false;
            }
        }
        self.allowances.entry(peer).or_default().take(now, self.config.rate)
    }

    // ---- users

    fn publish(&mut self, cx: &mut Cx<'_, Self>, topic: Topic, bytes: Bytes) -> Result<(), PubSubError> {
        let (size, max) = (bytes.len(), self.config.max_bytes);
        if size > max {
            return Err(PubSubError::TooLarge { size, max });
        }
        let me = self.can.me();
        let claims = self.can.table().claims();
        let Some(origin) = claims.first().map(|claim| claim.zone).filter(|_| self.can.is_joined()) else {
            return Err(PubSubError::NotJoined);
        };
        if !self.may_send(me, cx.now()) {
            return Err(PubSubError::Busy);
        }
        // By the clock, so that a node that starts again does not repeat the numbers that others have seen.
        let clock = u64::try_from(cx.wall().as_micros()).unwrap_or(u64::MAX);
        self.sequence = clock.max(self.sequence.saturating_add(1));
        let sequence = self.sequence;
        let flood = Flood { topic, publisher: me, sequence, origin, way: None, bytes };
        self.take(cx, None, Ways::ALL, &flood);
        Ok(())
    }

    fn subscribe(&mut self, cx: &mut Cx<'_, Self>, op: OpId, topic: Topic) {
        if self.topics.len() >= self.config.max_topics && !self.topics.contains_key(&topic) {
            return cx.finish(op, CanMulticastOutcome::Ended(Err(PubSubError::TooManyTopics)));
        }
        let joined = self.can.is_joined();
        self.topics.entry(topic).or_default().push(Subscriber { op, joined });
        if joined {
            cx.item(op, Delivery::Joined);
        }
    }

    fn unsubscribe(&mut self, cx: &mut Cx<'_, Self>, topic: Topic) {
        for subscriber in self.topics.remove(&topic).into_iter().flatten() {
            cx.finish(subscriber.op, CanMulticastOutcome::Ended(Ok(())));
        }
    }

    // ---- passing on

    fn on_flood(&mut self, cx: &mut Cx<'_, Self>, from: P, flood: &Flood<P>) {
        let table = self.can.table();
        let is_sound = flood.bytes.len() <= self.config.max_bytes
            && flood.origin.space() == table.space()
            && flood.way.is_none_or(|(dimension, _)| dimension < table.space().dimensions());
        // From strangers nothing: the whole network would carry it.
        if is_sound && self.can.is_joined() && table.knows(from) && self.may_send(from, cx.now()) {
            let ways = match flood.way {
                Some((dimension, up)) => Way { dimension, up }.onward(),
                None => Ways::NONE,
            };
            self.take(cx, Some(from), ways, flood);
        }
    }

    /// Hands a message to its subscribers, and passes it on, where either has not been done.
    fn take(&mut self, cx: &mut Cx<'_, Self>, from: Option<P>, ways: Ways, flood: &Flood<P>) {
        let ways = if flood.publisher == self.can.me() { Ways::ALL } else { ways };
        let (new, is_first) = self.seen.insert(flood.publisher, flood.sequence, ways);
        if is_first {
            let Flood { topic, publisher, bytes, .. } = flood;
            for subscriber in self.topics.get(topic).into_iter().flatten() {
                let message = Message { publisher: *publisher, bytes: bytes.clone() };
                cx.item(subscriber.op, Delivery::Message(message));
            }
        }
        if ways == Ways::NONE {
            return; // Whoever has handed it on does the rest.
        }
        let next = match self.config.spread {
            Spread::Directed => self.directed(from, new, flood),
            Spread::Once if is_first => self.once(from, flood),
            Spread::Once => Vec::new(),
        };
        let mates = if is_first { self.can.table().all_mates() } else { Vec::new() };
        let mates = mates.into_iter().filter(|mate| Some(*mate) != from && *mate != flood.publisher);
        let next = next.into_iter().map(|(peer, Way { dimension, up })| (peer, Some((dimension, up))));
        for (peer, way) in next.chain(mates.map(|mate| (mate, None))) {
            cx.send(peer, CanMulticastMsg::Flood(Flood { way, ..flood.clone() }));
        }
    }

    /// To whom a message goes on by the paper's rules, and which way.
    fn directed(&self, from: Option<P>, ways: Ways, flood: &Flood<P>) -> Vec<(P, Way)> {
        if ways == Ways::NONE {
            return Vec::new();
        }
        let table = self.can.table();
        let crossing = |a: &[Claim], b: &[Claim]| spread::crossing_any(&flood.origin, a, b, ways);
        let sender = from.and_then(|peer| table.claims_of(peer)).unwrap_or_default();
        let others = table.neighbours().filter(|(peer, _)| Some(*peer) != from && *peer != flood.publisher);
        // Where the sender goes on itself, it does so these ways at least.
        let others = others.filter(|(_, claims)| crossing(sender, claims).is_none());
        others.filter_map(|(peer, claims)| Some((peer, crossing(table.claims(), claims)?))).collect()
    }

    /// To whom a message goes on if each neighbour is to have it once.
    fn once(&self, from: Option<P>, flood: &Flood<P>) -> Vec<(P, Way)> {
        let table = self.can.table();
        let others = table.neighbours().filter(|(peer, _)| Some(*peer) != from && *peer != flood.publisher);
        let is_next = |claims: &[Claim]| {
            claims.iter().any(|its| spread::is_last_before(&flood.origin, &its.zone, table.claims()))
        };
        let way = |claims| spread::crossing_any(&flood.origin, table.claims(), claims, Ways::ALL);
        others.filter(|(_, its)| is_next(its)).filter_map(|(peer, its)| Some((peer, way(its)?))).collect()
    }
}

impl<P: Keyed> Protocol for CanMulticast<P> {
    type Peer = P;
    type Msg = CanMulticastMsg<P>;
    type Timer = RoutedTimer<CanTimer>;
    type Command = CanMulticastCommand;
    type Item = Delivery<P>;
    type Outcome = CanMulticastOutcome<P>;
    type Event = ();
    type Job = NoJob;

    fn warm(&self) {
        self.can.warm();
    }

    fn on_start(&mut self, cx: &mut Cx<'_, Self>) {
        self.below(cx, |can, cx| can.on_start(cx));
    }

    fn on_message(&mut self, cx: &mut Cx<'_, Self>, from: P, msg: Self::Msg) {
        match msg {
            CanMulticastMsg::Can(msg) => self.below(cx, |can, cx| can.on_message(cx, from, msg)),
            CanMulticastMsg::Flood(flood) => self.on_flood(cx, from, &flood),
        }
    }

    fn on_timer(&mut self, cx: &mut Cx<'_, Self>, timer: Self::Timer) {
        self.below(cx, |can, cx| can.on_timer(cx, timer));
    }

    fn on_command(&mut self, cx: &mut Cx<'_, Self>, op: OpId, command: CanMulticastCommand) {
        match command {
            CanMulticastCommand::Publish { topic, bytes } => {
                let published = self.publish(cx, topic, bytes);
                cx.finish(op, CanMulticastOutcome::Published(published));
            }
            CanMulticastCommand::Subscribe { topic } => self.subscribe(cx, op, topic),
            CanMulticastCommand::Unsubscribe { topic } => {
                self.unsubscribe(cx, topic);
                cx.finish(op, CanMulticastOutcome::Unsubscribed);
            }
            CanMulticastCommand::Find { find } => {
                let id = cx.op();
                self.finds.insert(id, op);
                self.below(cx, |can, cx| can.on_command(cx, id, find));
            }
        }
    }

    fn on_cancel(&mut self, cx: &mut Cx<'_, Self>, op: OpId) {
        self.topics.retain(|_, subscribers| {
            subscribers.retain(|subscriber| subscriber.op != op);
            !subscribers.is_empty()
        });
        let theirs = self.finds.iter().filter(|(_, of)| **of == op).map(|(find, _)| *find);
        for find in theirs.collect::<Vec<OpId>>() {
            self.finds.remove(&find);
            self.below(cx, |can, cx| can.on_cancel(cx, find));
        }
    }

    fn on_link(&mut self, cx: &mut Cx<'_, Self>, peer: P, link: Link) {
        self.below(cx, |can, cx| can.on_link(cx, peer, link));
    }
}

impl<P: Keyed> fmt::Debug for CanMulticast<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CanMulticast({} topics, {} seen)", self.topics.len(), self.seen.len())
    }
}

#[cfg(test)]
mod tests;
