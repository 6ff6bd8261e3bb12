//! Plumtree: broadcast along a tree that the broadcasts themselves make, over any [`Membership`].
//!
//! Leitão, Pereira and Rodrigues, *Epidemic broadcast trees* (SRDS 2007). A message goes to all neighbours at first;
//! who has it already says so, and that link is pruned from the tree (§3.4.1). What is left is a tree. Along the other
//! links messages are only announced, in batches: who misses one that it has heard of grafts the link of who announced
//! it (§3.4.2), and so the tree mends where nodes have failed. Where an announcement comes much sooner than the message
//! the tree takes that way (§3.4.3).
//!
//! **One tree for all topics.** Everybody in the network passes every message on; subscribing is a matter of the node
//! itself. So what a node keeps depends on its neighbours and on how much is published, and not on who makes up how
//! many topics, and there is no second network to join, to keep and to find back to for each. Where most nodes want few
//! of the messages it is the wrong tool: a network for each topic, which is another [`Gossip`](crate::Gossip) under a
//! name of its own on the same node, or [`Scribe`](crate::Scribe), whose trees lead to subscribers only.
//!
//! What differs from the paper:
//!
//! - messages are numbered by their publishers, without gaps. What was seen, however much, is a few numbers, and
//!   nothing
//!   comes twice because somebody has forgotten it. Announcements of many are short. A message that is missing shows by
//!   the next, and whoever grafts asks for that and all after it, so messages stay in order when the tree changes;
//! - who waits for a message waits for as long as others before it still come: a slow tree is no broken one;
//! - new neighbours tell each other what they have had lately, and all do now and then: what was lost with a node that
//!   failed is noticed, even if nothing follows. What was published before a node took part is not for it; so a newcomer
//!   says for how long it has, and is told what has come since;
//! - **flow**: a neighbour is sent no more than a window of what it has not said to have taken in. It says so, bit by
//!   bit, as its own subscribers read and its own neighbours keep up; so the pressure goes back to the publisher, whose
//!   `publish` waits, and everything is as fast as the slowest reader. But not slower than that: a neighbour that says
//!   nothing for [`PlumtreeConfig::stall`] holds nobody up any more: what is for it waits in a queue, then it is only
//!   told what there is, to fetch it, and after [`PlumtreeConfig::patience`] it is dropped, by name
//!   ([`Parting::Slow`](crate::Parting)). A subscriber that reads nothing for half as long holds nobody up either: what
//!   is for it waits, up to [`PlumtreeConfig::backlog`], then it is cut off, by name
//!   ([`PubSubError::Lagged`](crate::PubSubError)); its node, and other subscribers there, go on.
//!
//! What a node holds of messages is bounded by its configuration, in bytes, with 128 for each beside its own:
//! `keep_bytes`; a `window` and a `queue` for each neighbour; `backlog`; and 4 MiB of those that wait for their order.
//! With the defaults and five neighbours that is 61 MiB at the worst; mostly it is the same bytes in several places.
//! Beside it stands what its users have brought about: `capacity` messages of theirs, and in each subscriber's stream
//! [`MAX_WAITING`](p2p_core::MAX_WAITING).
//!
//! It promises what [`PubSub`](crate::PubSub) does. Any member can publish in another's name, or drop what it should
//! pass on; that others then take the true message for the false one is a weakness of all numbering (of Scribe's too).
//!
//! In this order: [`Plumtree`] and its configuration, and how inputs are told apart. Then `request` (what users ask),
//! `msg`, `streams` and `store` (what was seen, what is kept), `branch` (one neighbour), `readers` (this node's
//! subscribers), `tree` (push, announce, graft, prune), `flow` and `publish`.

mod branch;
mod flow;
mod msg;
mod publish;
mod readers;
mod request;
mod store;
mod streams;
mod tree;

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use p2p_core::{Cx, Keyed, Link, NoJob, OpId, Protocol, Time, Up, prefetch};

use crate::hyparview::{HyParView, HyParViewConfig};
use crate::membership::{Membership, MembershipCommand, Neighbour};
use crate::pubsub::Delivery;

use branch::Branch;
use publish::{Own, Waiting};
use readers::Readers;
use store::Store;
use streams::Streams;
use tree::When;

pub use msg::{Announced, MAX_BROADCAST, Missing, PlumtreeMsg, Push};
pub use request::{Leave, PlumtreeCommand, PlumtreeOutcome};
pub use streams::Source;

/// Plumtree over HyParView: what most want who want gossip.
///
/// Its users hold a [`Handle`](p2p_core::Handle), which is a [`PubSub`](crate::PubSub):
///
/// ```
/// use futures::StreamExt;
/// use p2p_core::SimPeer;
/// use p2p_core::sim::{Network, Sim};
/// use p2p_overlay::{Gossip, PubSub, Topic};
/// use std::time::Duration;
///
/// let mut sim = Sim::<Gossip<SimPeer>>::new(1, Network::default());
/// let first = sim.spawn(|birth| Gossip::create(birth.peer));
/// for _ in 0..9 {
///     sim.spawn(|birth| Gossip::join(birth.peer, [first]));
/// }
/// let (here, there) = (sim.handle(SimPeer(3)), sim.handle(SimPeer(7)));
/// sim.run_for(Duration::from_secs(10));
/// let message = sim.block_on(async move {
///     let weather = Topic::named("weather");
///     let mut subscription = there.subscribe(weather).await?;
///     here.publish(weather, "rain".into()).await?;
///     subscription.next().await.unwrap()
/// });
/// assert_eq!(message.unwrap().bytes, "rain");
/// ```
pub type Gossip<P> = Plumtree<HyParView<P>>;

impl<P: Keyed> Gossip<P> {
    /// A node that starts a network of its own, for others to join.
    pub fn create(me: P) -> Gossip<P> {
        Gossip::join(me, [])
    }

    /// A node that joins the network of any of these peers, and tries again until it has.
    pub fn join(me: P, seeds: impl IntoIterator<Item = P>) -> Gossip<P> {
        Gossip::with(me, seeds, HyParViewConfig::default(), PlumtreeConfig::default())
    }

    /// A node with configurations of its own; without seeds it starts a network.
    pub fn with(
        me: P,
        seeds: impl IntoIterator<Item = P>,
        membership: HyParViewConfig,
        config: PlumtreeConfig,
    ) -> Gossip<P> {
        Plumtree::new(HyParView::with(me, seeds, membership), config)
    }
}

/// A node of Plumtree over the membership `M`: see [`Gossip`] for the ready-made pair.
///
/// It says what its membership does: which neighbours come and go, and why.
pub struct Plumtree<M: Membership> {
    membership: M,
    config: Arc<PlumtreeConfig>,
    /// The neighbours, sorted.
    branches: Vec<Branch<M::Peer>>,
    streams: Streams<M::Peer>,
    store: Store<M::Peer>,
    /// This node's subscribers.
    readers: Readers<M::Peer>,
    /// Since when it takes part.
    joined: Option<Time>,
    /// Some neighbour may be owed an answer to a mark.
    owing: bool,
    /// How many messages were passed on.
    passed: u64,
    /// Once it has published.
    own: Option<Own>,
    /// Messages of this node's users that wait for the neighbours; with `unacknowledged` at most
    /// [`PlumtreeConfig::capacity`].
    waiting: VecDeque<Waiting>,
    /// Those that no neighbour has taken in yet, by their numbers.
    unacknowledged: VecDeque<(u64, OpId)>,
    /// Which timers are set.
    set: Set,
    counts: Counts,
}

#[derive(Clone, Copy, Debug, Default)]
struct Set {
    announce: bool,
    missing: bool,
    flow: bool,
    keep: bool,
}

/// What a node of Plumtree has counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Messages that came for the first time.
    pub received: u64,
    /// Messages that came again.
    pub duplicates: u64,
    /// Requests for what was missing.
    pub grafts: u64,
    /// How many steps the latest message had taken.
    pub hops: u16,
}

/// How a node of Plumtree behaves. The paper leaves the times to whoever runs it; these are ours.
#[derive(Clone, Copy, Debug)]
pub struct PlumtreeConfig {
    /// The longest message that is published or passed on, in bytes. [`MAX_BROADCAST`], 1 MiB; at most that.
    pub max_bytes: usize,
    /// How long announcements are gathered before they are sent. 50 ms.
    pub announce: Duration,
    /// How long a message that was announced may be missing before it is asked for, if none before it comes meanwhile
    /// (SRDS 2007 §3.4.2); half of that for each neighbour that is asked next. 500 ms.
    pub graft: Duration,
    /// By how many steps an announcement must be nearer to its publisher than the message for the tree to take that way
    /// (§3.4.3). 7, the paper's.
    pub threshold: u16,
    /// How long messages are kept for those that miss them. 30 s.
    pub keep: Duration,
    /// How many bytes of messages are kept, each counted with 128 more. 16 MiB.
    pub keep_bytes: usize,
    /// How often a node tells a neighbour what it has kept. 5 s.
    pub recent: Duration,
    /// How many bytes may be on the way to a neighbour that it has not said to have taken in, each message counted with
    /// 128 more; or one message. 1 MiB; at most 2.
    pub window: usize,
    /// How many bytes wait for a neighbour in whose window there is no room; what finds none there is announced. 4 MiB.
    pub queue: usize,
    /// How many bytes wait for this node's subscribers beside what their streams hold, in all, each message counted
    /// with 128 more for each of them. Whoever has most waiting is cut off then:
    /// [`PubSubError::Lagged`](crate::PubSubError). 16 MiB.
    pub backlog: usize,
    /// How long a neighbour may leave what was sent to it unanswered before nobody waits for it any more; half of it,
    /// how long a subscriber may read nothing. A neighbour is asked after every 64th of its window. 1 s.
    pub stall: Duration,
    /// How long until it is dropped. 10 s.
    pub patience: Duration,
    /// How many publishers' numbers are remembered. 1024.
    pub max_sources: usize,
    /// How many topics this node's users may subscribe to. 4096.
    pub max_topics: usize,
    /// How many messages of its users a node has under way at once. 1024.
    pub capacity: usize,
}

/// The largest window.
const MAX_WINDOW: usize = 2 << 20;

impl Default for PlumtreeConfig {
    fn default() -> PlumtreeConfig {
        PlumtreeConfig {
            max_bytes: MAX_BROADCAST,
            announce: Duration::from_millis(50),
            graft: Duration::from_millis(500),
            threshold: 7,
            keep: Duration::from_secs(30),
            keep_bytes: 16 << 20,
            recent: Duration::from_secs(5),
            window: 1 << 20,
            queue: 4 << 20,
            backlog: 16 << 20,
            stall: Duration::from_secs(1),
            patience: Duration::from_secs(10),
            max_sources: 1024,
            max_topics: 4096,
            capacity: 1024,
        }
    }
}

/// The timers of a node of Plumtree: five.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PlumtreeTimer<T> {
    /// The membership's own.
    Membership(T),
    /// Time to announce what was gathered.
    Announce,
    /// Time to see what is missing.
    Missing,
    /// Time to see who does not keep up.
    Flow,
    /// Time to tell of what is kept, and to forget what was kept for long.
    Keep,
    /// The node has been in the network for as long as messages are kept.
    Settled,
}

type Msg<M> = PlumtreeMsg<<M as Protocol>::Peer, <M as Protocol>::Msg>;

impl<M: Membership> Plumtree<M> {
    /// A node that broadcasts to the neighbours that this membership gives it.
    pub fn new(membership: M, config: PlumtreeConfig) -> Plumtree<M> {
        let config = PlumtreeConfig {
            max_bytes: config.max_bytes.min(MAX_BROADCAST),
            window: config.window.min(MAX_WINDOW),
            ..config
        };
        Plumtree::shared(membership, Arc::new(config))
    }

    /// As [`Plumtree::new`], for many nodes that are configured alike.
    pub(crate) fn shared(membership: M, config: Arc<PlumtreeConfig>) -> Plumtree<M> {
        Plumtree {
            branches: membership.active().iter().copied().map(Branch::new).collect(),
            membership,
            streams: Streams::new(config.max_sources),
            config,
            store: Store::new(),
            readers: Readers::new(),
            joined: None,
            owing: false,
            passed: 0,
            own: None,
            waiting: VecDeque::new(),
            unacknowledged: VecDeque::new(),
            set: Set::default(),
            counts: Counts::default(),
        }
    }

    /// The membership.
    pub fn membership(&self) -> &M {
        &self.membership
    }

    /// What was counted so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// How many messages of a publisher have come here, or were published here.
    pub fn seen_of(&self, publisher: M::Peer) -> u64 {
        self.streams.of(publisher).map(|stream| stream.seen.len()).sum()
    }

    /// The neighbours that the tree leads to.
    pub fn eager(&self) -> impl Iterator<Item = M::Peer> {
        self.branches.iter().filter(|branch| branch.eager).map(|branch| branch.peer)
    }

    fn branch(&self, peer: M::Peer) -> Option<usize> {
        self.branches.binary_search_by(|branch| branch.peer.cmp(&peer)).ok()
    }

    /// Hands the membership an input, and takes in what it says.
    fn below(&mut self, cx: &mut Cx<'_, Self>, input: impl FnOnce(&mut M, &mut Cx<'_, M>)) {
        let membership = &mut self.membership;
        let ups = cx.nest(
            PlumtreeMsg::Membership,
            PlumtreeTimer::Membership,
            |job: NoJob| match job {},
            |cx| input(membership, cx),
        );
        for up in ups {
            match up {
                Up::Event(event) => {
                    match event {
                        Neighbour::Up(peer) => self.on_up(cx, peer),
                        Neighbour::Down(peer, _) => self.on_down(cx, peer),
                    }
                    cx.emit(event);
                }
                Up::Item(_, ()) | Up::Finished(_, ()) => {}
            }
        }
    }

    fn tell_membership(&mut self, cx: &mut Cx<'_, Self>, command: MembershipCommand<M::Peer>) {
        let op = cx.op();
        self.below(cx, |membership, cx| membership.on_command(cx, op, command));
    }

    fn on_up(&mut self, cx: &mut Cx<'_, Self>, peer: M::Peer) {
        let Err(at) = self.branches.binary_search_by(|branch| branch.peer.cmp(&peer)) else { return };
        self.branches.insert(at, Branch::new(peer));
        if self.branches.len() == 1 {
            self.streams.settled = false;
            cx.set_timer(self.config.keep, PlumtreeTimer::Settled);
        }
        self.tell_recent(cx, peer);
        self.ask_since(cx, peer);
        self.push_unacknowledged(cx, at);
        self.tell_readers(cx);
    }

    fn on_down(&mut self, cx: &mut Cx<'_, Self>, peer: M::Peer) {
        let Some(at) = self.branch(peer) else { return };
        self.branches.remove(at);
        for (_, stream) in self.streams.iter_mut() {
            stream.offers.retain(|offer| *offer != peer);
        }
        match self.branches.is_empty() {
            true => self.fail_unacknowledged(cx),
            false => self.push_orphaned(cx),
        }
    }

    /// What every input ends with.
    fn settle(&mut self, cx: &mut Cx<'_, Self>) {
        self.deliver_due(cx);
        self.answer_marks(cx);
        self.admit_waiting(cx);
    }
}

impl<M: Membership> Protocol for Plumtree<M> {
    type Peer = M::Peer;
    type Msg = Msg<M>;
    type Timer = PlumtreeTimer<M::Timer>;
    type Command = PlumtreeCommand;
    type Item = Delivery<M::Peer>;
    type Outcome = PlumtreeOutcome;
    type Event = Neighbour<M::Peer>;
    type Job = NoJob;

    fn warm(&self) {
        self.membership.warm();
        prefetch(&self.branches[..]);
        self.streams.warm();
    }

    fn on_start(&mut self, cx: &mut Cx<'_, Self>) {
        if !self.branches.is_empty() {
            cx.set_timer(self.config.keep, PlumtreeTimer::Settled);
        }
        self.joined = self.membership.is_joined().then(|| cx.now());
        self.below(cx, |membership, cx| membership.on_start(cx));
        self.settle(cx);
    }

    fn on_message(&mut self, cx: &mut Cx<'_, Self>, from: M::Peer, msg: Msg<M>) {
        match msg {
            PlumtreeMsg::Membership(msg) => {
                self.below(cx, |membership, cx| membership.on_message(cx, from, msg));
            }
            PlumtreeMsg::Push(push) => self.on_push(cx, from, push),
            PlumtreeMsg::Announce(announced) => self.on_announce(cx, from, &announced, When::Now),
            PlumtreeMsg::Recent(announced) => self.on_announce(cx, from, &announced, When::Lately),
            PlumtreeMsg::Since(ms) => self.on_since(cx, from, ms),
            PlumtreeMsg::Had(announced) => self.on_announce(cx, from, &announced, When::Since),
            PlumtreeMsg::Graft(wants) => self.on_graft(cx, from, &wants),
            PlumtreeMsg::Prune => self.on_prune(cx, from),
            PlumtreeMsg::Mark(mark) => self.on_mark(from, mark),
            PlumtreeMsg::Took(mark) => self.on_took(cx, from, mark),
        }
        self.settle(cx);
    }

    fn on_timer(&mut self, cx: &mut Cx<'_, Self>, timer: Self::Timer) {
        match timer {
            PlumtreeTimer::Membership(timer) => {
                self.below(cx, |membership, cx| membership.on_timer(cx, timer));
            }
            PlumtreeTimer::Announce => self.announce_all(cx),
            PlumtreeTimer::Missing => self.look_for_missing(cx),
            PlumtreeTimer::Flow => self.look_at_flow(cx),
            PlumtreeTimer::Keep => self.keep(cx),
            PlumtreeTimer::Settled => self.streams.settled = true,
        }
        self.settle(cx);
    }

    fn on_command(&mut self, cx: &mut Cx<'_, Self>, op: OpId, command: PlumtreeCommand) {
        match command {
            PlumtreeCommand::Publish { topic, bytes } => self.begin_publish(cx, op, topic, bytes),
            PlumtreeCommand::Subscribe { topic } => self.subscribe(cx, op, topic),
            PlumtreeCommand::Unsubscribe { topic } => self.unsubscribe(cx, op, topic),
            PlumtreeCommand::Leave => {
                self.tell_membership(cx, MembershipCommand::Leave);
                cx.finish(op, PlumtreeOutcome::Left);
            }
        }
        self.settle(cx);
    }

    fn on_cancel(&mut self, cx: &mut Cx<'_, Self>, op: OpId) {
        self.cancel(op);
        self.settle(cx);
    }

    fn on_read(&mut self, cx: &mut Cx<'_, Self>, op: OpId, items: usize) {
        self.read(cx, op, items);
        self.settle(cx);
    }

    fn on_link(&mut self, cx: &mut Cx<'_, Self>, peer: M::Peer, link: Link) {
        self.below(cx, |membership, cx| membership.on_link(cx, peer, link));
        self.settle(cx);
    }
}

impl<M: Membership> fmt::Debug for Plumtree<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (eager, all) = (self.eager().count(), self.branches.len());
        write!(f, "Plumtree({eager} of {all} neighbours, {} topics)", self.readers.topics())
    }
}

#[cfg(test)]
mod tests;
