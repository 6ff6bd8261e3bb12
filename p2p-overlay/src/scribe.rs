//! Scribe: a multicast tree for each topic, over any structured overlay in which a key has one root.
//!
//! Castro, Druschel, Kermarrec and Rowstron, *SCRIBE: a large-scale and decentralized application-level multicast
//! infrastructure* (IEEE JSAC 20(8), 2002); anycast after the same, *Scalable application-level anycast for highly
//! dynamic groups* (NGC 2003).
//!
//! The root of a topic is the node responsible for its key. Whoever subscribes sends a join towards it; the first node
//! on the way takes the newcomer for its child and, if it is not in the tree yet, joins in turn: so the tree is made of
//! the overlay's routes. There is no upcall on the way: the join is Scribe's own message, and each node asks
//! [`Overlay::next`](crate::Overlay::next) where it goes. A publisher looks the root up once and sends it its messages;
//! they go down the tree. A parent that is silent is replaced by joining again, a child that is silent is forgotten.
//!
//! What differs from the paper:
//!
//! - children know the whole path above them, and no node takes one that is on its own: no circle lasts longer than a
//!   heartbeat takes to go around. (The paper has no circles while the overlay's routes have none; ours may, where a
//!   child was pushed down.)
//! - a full node passes a newcomer down to one of its children, at random; the paper's bottleneck remover moves the
//!   child that is furthest away, which nobody here has measured.
//! - a join meets dead ends where the overlay's routes do (CAN's, around the dead); it goes around them as lookups do, and
//!   a dead end takes nobody for its child.
//! - a root that learns of another one becomes its child, and brings the whole tree along.
//!
//! It promises what [`PubSub`](crate::PubSub) does, and no more. A message that the root has taken is lost below a node
//! that has failed, until its children have noticed and joined again: where connections do not tell them,
//! [`ScribeConfig::patience`] after they last heard of it. If the root itself has failed it is lost for all until then.
//!
//! In this order: [`Scribe`] and its configuration, and how inputs are told apart. Then `request` (what users ask),
//! `msg`, `tree` (what a node keeps of a topic), `join`, `upkeep`, `publish` and `anycast`.

mod anycast;
mod join;
mod msg;
mod publish;
mod request;
mod tree;
mod upkeep;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use p2p_core::{Cx, Link, NoJob, OpId, Pending, Protocol, Time, Up};

use crate::pubsub::{Delivery, MAX_MESSAGE, Topic};
use crate::structured::{Looked, Next, SingleRoot};
use crate::trail::Trail;

use publish::Publishing;
use tree::{Member, Place, Tree};

pub use msg::{Join, ScribeMsg, Visit};
pub use request::{Anycast, AnycastError, Offer, ScribeCommand, ScribeOutcome};
pub use tree::Path;

/// A node of Scribe over the overlay `O`.
///
/// Its users hold a [`Handle`](p2p_core::Handle), which is a [`PubSub`](crate::PubSub):
///
/// ```
/// use futures::StreamExt;
/// use p2p_core::SimPeer;
/// use p2p_core::sim::{Network, Sim};
/// use p2p_overlay::{Chord, PubSub, Scribe, ScribeConfig, Topic};
/// use std::time::Duration;
///
/// type Node = Scribe<Chord<SimPeer>>;
/// let mut sim = Sim::<Node>::new(1, Network::default());
/// let first = sim.spawn(|birth| Node::new(Chord::create(birth.peer), ScribeConfig::default()));
/// for _ in 0..9 {
///     sim.spawn(|birth| Node::new(Chord::join(birth.peer, [first]), ScribeConfig::default()));
/// }
/// sim.run_for(Duration::from_secs(300));
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
///
/// Where a key has no single root there is no tree:
///
/// ```compile_fail,E0277
/// use p2p_core::SimPeer;
/// use p2p_overlay::{Kademlia, Scribe, ScribeConfig};
///
/// Scribe::new(Kademlia::create(SimPeer(0)), ScribeConfig::default());
/// ```
pub struct Scribe<O: SingleRoot> {
    overlay: O,
    config: ScribeConfig,
    /// At most [`ScribeConfig::max_topics`].
    trees: BTreeMap<Topic, Tree<O::Peer>>,
    /// Which topic each member is in.
    members: BTreeMap<OpId, Topic>,
    /// At most [`ScribeConfig::capacity`], with the anycasts.
    publishing: BTreeMap<OpId, Publishing>,
    /// Lookups, and the publishing or the user's own lookup that each is for.
    finds: BTreeMap<OpId, OpId>,
    /// Messages sent to roots.
    asked: Pending<O::Peer, OpId>,
    /// When [`ScribeTimer::Late`] fires.
    late: Option<Time>,
    /// Roots that have taken a message lately; at most [`ScribeConfig::max_topics`].
    roots: BTreeMap<Topic, O::Peer>,
    /// Anycasts of this node's users, by their tickets.
    anycasts: BTreeMap<u64, OpId>,
    /// The number of the last message published here.
    sequence: u64,
}

/// How a node of Scribe behaves. The papers give no times; these are ours.
#[derive(Clone, Copy, Debug)]
pub struct ScribeConfig {
    /// The longest message that is published or passed on, in bytes. [`MAX_MESSAGE`], 64 KiB; at most that.
    pub max_bytes: usize,
    /// A parent that has nothing else to say is heard of this often at least (JSAC §III-B). 5 s. Zero: never, nobody
    /// notices who has died: for experiments on a network at rest.
    pub heartbeat: Duration,
    /// How many heartbeats may be missing before a child looks for another parent. 3.
    pub patience: u32,
    /// How often a child tells its parent that it is there; one that has not for three times as long is forgotten.
    /// 30 s.
    pub refresh: Duration,
    /// How long to wait for a parent before asking again, at first; then ever longer, up to eight times. 2 s.
    pub join_timeout: Duration,
    /// How long a root has to take a message. 4 s.
    pub timeout: Duration,
    /// How long a root that has taken a message is not looked up again. 60 s.
    pub root_lasts: Duration,
    /// How often a root is looked up for one message. 3.
    pub tries: u8,
    /// How long an anycast may take. 10 s.
    pub anycast_timeout: Duration,
    /// How many children a node has in one topic. 32; at least 2.
    pub max_children: usize,
    /// How many children a node has in all topics together. 8192.
    pub max_entries: usize,
    /// How many topics a node has, its own and those whose messages it passes on. 4096.
    pub max_topics: usize,
    /// How many messages of each topic a node remembers, so as not to pass them on twice. 256.
    pub window: usize,
    /// How many messages and anycasts of its users a node has under way at once. 256.
    pub capacity: usize,
}

impl Default for ScribeConfig {
    fn default() -> ScribeConfig {
        ScribeConfig {
            max_bytes: MAX_MESSAGE,
            heartbeat: Duration::from_secs(5),
            patience: 3,
            refresh: Duration::from_secs(30),
            join_timeout: Duration::from_secs(2),
            timeout: Duration::from_secs(4),
            root_lasts: Duration::from_secs(60),
            tries: 3,
            anycast_timeout: Duration::from_secs(10),
            max_children: 32,
            max_entries: 8192,
            max_topics: 4096,
            window: 256,
            capacity: 256,
        }
    }
}

impl ScribeConfig {
    /// How long a child waits for a sign of its parent before it looks for another.
    pub fn patience(&self) -> Duration {
        self.heartbeat * self.patience
    }
}

/// How many silent peers and dead ends a message remembers that is on its way to a root.
const AVOIDED: usize = 16;
/// What was passed on this often is dropped: it is going in circles.
const MAX_HOPS: u16 = 128;

/// The timers of a node of Scribe: at most two for each of its topics, one for each root it knows, and one for each
/// anycast.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ScribeTimer<T> {
    /// The overlay's own.
    Overlay(T),
    /// Nobody has answered that it is this node's parent.
    Join(Topic),
    /// Time to look after a tree.
    Upkeep(Topic),
    /// A root is late.
    Late,
    /// Time to look a root up again.
    Forget(Topic),
    /// An anycast has taken too long.
    Anycast(u64),
}

type Msg<O> = ScribeMsg<<O as Protocol>::Peer, <O as Protocol>::Msg>;

impl<O: SingleRoot<Job = NoJob>> Scribe<O> {
    /// A node that takes part in trees over this overlay.
    pub fn new(overlay: O, config: ScribeConfig) -> Scribe<O> {
        let config = ScribeConfig {
            max_bytes: config.max_bytes.min(MAX_MESSAGE),
            max_children: config.max_children.max(2),
            ..config
        };
        Scribe {
            overlay,
            config,
            trees: BTreeMap::new(),
            members: BTreeMap::new(),
            publishing: BTreeMap::new(),
            finds: BTreeMap::new(),
            asked: Pending::with_capacity(config.capacity),
            late: None,
            roots: BTreeMap::new(),
            anycasts: BTreeMap::new(),
            sequence: 0,
        }
    }

    /// The overlay.
    pub fn overlay(&self) -> &O {
        &self.overlay
    }

    /// The overlay, to be changed by hand: experiments do.
    pub fn overlay_mut(&mut self) -> &mut O {
        &mut self.overlay
    }

    /// The topics that this node has to do with: its own, and those whose messages it passes on.
    pub fn topics(&self) -> impl ExactSizeIterator<Item = Topic> {
        self.trees.keys().copied()
    }

    /// Its children in a topic's tree.
    pub fn children(&self, topic: Topic) -> impl Iterator<Item = O::Peer> {
        self.trees.get(&topic).into_iter().flat_map(|tree| tree.children.keys().copied())
    }

    /// Its parent in a topic's tree: none at the root, or while it looks for one.
    pub fn parent(&self, topic: Topic) -> Option<O::Peer> {
        self.trees.get(&topic).and_then(Tree::parent)
    }

    /// Whether it is the root of a topic's tree.
    pub fn is_root(&self, topic: Topic) -> bool {
        self.trees.get(&topic).is_some_and(|tree| matches!(tree.place, Place::Root))
    }

    /// Whether it has subscribers or offers in a topic.
    pub fn is_member(&self, topic: Topic) -> bool {
        self.trees.get(&topic).is_some_and(|tree| !tree.members.is_empty())
    }

    /// Hands the overlay an input, and takes in what it says.
    fn below(&mut self, cx: &mut Cx<'_, Self>, input: impl FnOnce(&mut O, &mut Cx<'_, O>)) {
        let overlay = &mut self.overlay;
        let ups = cx.nest(
            ScribeMsg::Overlay,
            ScribeTimer::Overlay,
            |job: NoJob| match job {},
            |cx| input(overlay, cx),
        );
        for up in ups {
            match up {
                Up::Finished(find, looked) => {
                    if let Some(op) = self.finds.remove(&find) {
                        self.on_looked(cx, op, looked);
                    }
                }
                Up::Event(_) => self.check_roots(cx),
                Up::Item(_, ()) => {}
            }
        }
    }

    fn on_looked(&mut self, cx: &mut Cx<'_, Self>, op: OpId, looked: Looked<O::Peer>) {
        match self.publishing.contains_key(&op) {
            true => self.root_found(cx, op, looked),
            // The user's own: publishing takes its back when it ends.
            false => cx.finish(op, ScribeOutcome::Found(looked)),
        }
    }

    /// Where a message for a topic's root goes next. If `claimed`, its sender took this node for the root.
    fn next(&self, topic: Topic, claimed: bool, avoid: &[O::Peer]) -> Next<O::Peer> {
        match claimed {
            true => self.overlay.next_if_claimed(&topic.0, avoid),
            false => self.overlay.next(&topic.0, avoid),
        }
    }

    /// As [`Scribe::next`]; around a dead end, if this node is one.
    fn onward(&self, topic: Topic, claimed: bool, trail: &mut Trail<O::Peer>) -> Next<O::Peer> {
        match self.next(topic, claimed, &trail.avoid) {
            Next::Nowhere => self.around(topic, trail).map_or(Next::Nowhere, Next::Toward),
            next => next,
        }
    }

    /// Where a message goes that has got nowhere here.
    fn around(&self, topic: Topic, trail: &mut Trail<O::Peer>) -> Option<O::Peer> {
        let detour = self.overlay.detour(&topic.0, &trail.avoid);
        trail.around(self.overlay.me(), detour, AVOIDED)
    }

    /// Whether this node, if it is taken for a topic's root, knows of no other.
    fn may_be_root(&self, topic: Topic) -> bool {
        self.overlay.is_joined() && self.next(topic, true, &[]) == Next::Mine
    }

    /// What every input ends with.
    fn settle(&mut self, cx: &mut Cx<'_, Self>) {
        match self.asked.next_deadline() {
            next if next == self.late => return,
            Some(at) => cx.set_timer(at - cx.now(), ScribeTimer::Late),
            None => cx.clear_timer(ScribeTimer::Late),
        }
        self.late = self.asked.next_deadline();
    }
}

impl<O: SingleRoot<Job = NoJob>> Protocol for Scribe<O> {
    type Peer = O::Peer;
    type Msg = Msg<O>;
    type Timer = ScribeTimer<O::Timer>;
    type Command = ScribeCommand;
    type Item = Delivery<O::Peer>;
    type Outcome = ScribeOutcome<O::Peer>;
    type Event = ();
    type Job = NoJob;

    fn warm(&self) {
        self.overlay.warm();
    }

    fn on_start(&mut self, cx: &mut Cx<'_, Self>) {
        self.below(cx, |overlay, cx| overlay.on_start(cx));
    }

    fn on_message(&mut self, cx: &mut Cx<'_, Self>, from: O::Peer, msg: Msg<O>) {
        match msg {
            ScribeMsg::Overlay(msg) => self.below(cx, |overlay, cx| overlay.on_message(cx, from, msg)),
            ScribeMsg::Join(join) => self.on_join(cx, from, join),
            ScribeMsg::Accepted { topic, ticket, path } => self.on_accepted(cx, from, topic, ticket, path),
            ScribeMsg::Refused { topic, ticket } => self.on_refused(topic, ticket),
            ScribeMsg::Leave { topic } => self.remove_child(cx, topic, from),
            ScribeMsg::Heartbeat { topic, path } => self.on_heartbeat(cx, from, topic, path),
            ScribeMsg::Refresh { topic } => self.on_refresh(cx, from, topic),
            ScribeMsg::Gone { topic } => self.on_gone(cx, from, topic),
            ScribeMsg::Publish { id, topic, sequence, bytes } => {
                self.on_publish(cx, from, id, topic, sequence, bytes);
            }
            ScribeMsg::Published { id, taken } => self.on_published(cx, from, id, taken),
            ScribeMsg::Multicast { topic, publisher, sequence, bytes } => {
                self.on_multicast(cx, from, topic, publisher, sequence, bytes);
            }
            ScribeMsg::Anycast(visit) => self.on_anycast(cx, visit),
            ScribeMsg::Taken { ticket } => self.anycast_over(cx, ticket, Ok(from)),
            ScribeMsg::NotTaken { ticket, visited } => {
                self.anycast_over(cx, ticket, Err(AnycastError::NotTaken { visited }));
            }
        }
        self.settle(cx);
    }

    fn on_timer(&mut self, cx: &mut Cx<'_, Self>, timer: Self::Timer) {
        match timer {
            ScribeTimer::Overlay(timer) => self.below(cx, |overlay, cx| overlay.on_timer(cx, timer)),
            ScribeTimer::Join(topic) => self.join_again(cx, topic),
            ScribeTimer::Upkeep(topic) => self.look_after(cx, topic),
            ScribeTimer::Late => {
                self.late = None;
                while let Some((_, op)) = self.asked.expire(cx.now()) {
                    self.root_silent(cx, op);
                }
            }
            ScribeTimer::Forget(topic) => drop(self.roots.remove(&topic)),
            ScribeTimer::Anycast(ticket) => self.anycast_over(cx, ticket, Err(AnycastError::NoAnswer)),
        }
        self.settle(cx);
    }

    fn on_command(&mut self, cx: &mut Cx<'_, Self>, op: OpId, command: ScribeCommand) {
        match command {
            ScribeCommand::Publish { topic, bytes } => self.begin_publish(cx, op, topic, bytes),
            ScribeCommand::Subscribe { topic } => {
                self.add_member(cx, op, topic, Member::Subscriber { joined: false });
            }
            ScribeCommand::Unsubscribe { topic } => self.unsubscribe(cx, op, topic),
            ScribeCommand::Offer { topic, times } => {
                self.add_member(cx, op, topic, Member::Offer { left: times });
            }
            ScribeCommand::Anycast { topic, bytes } => self.begin_anycast(cx, op, topic, bytes),
            ScribeCommand::Find { find } => {
                let id = cx.op();
                self.finds.insert(id, op);
                self.below(cx, |overlay, cx| overlay.on_command(cx, id, find));
            }
        }
        self.settle(cx);
    }

    fn on_cancel(&mut self, cx: &mut Cx<'_, Self>, op: OpId) {
        self.remove_member(cx, op);
        self.publishing.remove(&op);
        let ticket = self.anycasts.iter().find(|(_, of)| **of == op).map(|(ticket, _)| *ticket);
        if let Some(ticket) = ticket {
            self.anycasts.remove(&ticket);
            cx.clear_timer(ScribeTimer::Anycast(ticket));
        }
        let theirs = self.finds.iter().filter(|(_, of)| **of == op).map(|(find, _)| *find);
        for find in theirs.collect::<Vec<OpId>>() {
            self.finds.remove(&find);
            self.below(cx, |overlay, cx| overlay.on_cancel(cx, find));
        }
        self.settle(cx);
    }

    fn on_link(&mut self, cx: &mut Cx<'_, Self>, peer: O::Peer, link: Link) {
        self.below(cx, |overlay, cx| overlay.on_link(cx, peer, link));
        if let Link::Down(why) = link {
            self.on_link_down(cx, peer, why);
        }
        self.settle(cx);
    }
}

impl<O: SingleRoot> fmt::Debug for Scribe<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Scribe({} topics)", self.trees.len())
    }
}

#[cfg(test)]
mod tests;
