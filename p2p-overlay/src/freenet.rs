//! Freenet: data is stored and found by keys, along routes that nobody has laid out.
//!
//! Clarke, Sandberg, Wiley and Hong, *Freenet: A Distributed Anonymous Information Storage and Retrieval System*
//! (Designing Privacy Enhancing Technologies, LNCS 2009, 2000). Each node has a store and a table of who has had
//! which key. A request goes to whoever stands there beside the closest key; if that leads nowhere, or in a circle,
//! it comes back and goes to the next best (§3.2: depth first). Data comes back the way the request has gone, and
//! everybody on it keeps the data and learns where it came from. So nodes become known for keys that lie close
//! together, and routes short.
//!
//! What the paper leaves open, or what differs:
//!
//! - **Everything is checked.** A block proves its key ([`FreenetBlock`]), and what does not is neither kept nor
//!   passed on; who has sent it is forgotten.
//! - **One hop to live is one message.** A request costs no more requests than the hops it is given, dead ends,
//!   circles and silent nodes among them, but for those that chance adds at the last (§4). What a user asks for is
//!   given up to three hops less, by chance, so that a neighbour cannot tell from the number who has begun: the paper
//!   has a second number for this, the depth, by which answers are sent back. Here answers go where the request is
//!   remembered, and no depth is told.
//! - **A node says at once that it has passed a request on** (the paper's *Reply.Restart*, §4). Who does not say even
//!   that is gone: the request goes elsewhere, and the node is forgotten.
//! - **A newcomer's key is BLAKE3 of its identity**, which the connection proves. In §3.5 several nodes draw it
//!   together, so that nobody chooses it; here who wants a key that begins with n certain bits has to make 2^n
//!   identities.
//! - **A data source is hearsay**, and so is a newcomer of whom others tell. A node that it has never heard from is dialled
//!   now and then only, and takes no more than a quarter of the table from those that it has heard from.
//! - **Inserts in a small network**: one that cannot go as many hops as wanted (§3.3: it comes back to the inserter)
//!   is begun again with half of them.
//! - Replies do not say how far the data was. Nodes talk in the clear to each other, but for what the transport
//!   encrypts, and `Announce`d references are not anonymous.
//!
//! **As a [`Search`](crate::Search)** it finds by key alone: [`Query::content`](crate::Query::content) is a
//! content-hash key. There is no search by keyword: what is published is found by *all* words of its name, since
//! these together give a keyword-signed key, and under it lies the [`Item`](crate::Item), as the paper's indirect
//! files (§3.1). There is one item under one set of words, whoever publishes it first; another is a
//! [`BadItem`](crate::SearchError::BadItem). [`Search::publish`](crate::Search::publish) describes a content, and
//! [`Insert`] brings the content itself; nothing can be taken back, so `unpublish` always says no. A hit is fetched
//! with [`Retrieve`], by the hash; [`Search::reach`](crate::Search::reach) names the node itself, who asks the
//! others. Rings and walkers do not fit.
//!
//! In this order: [`FreenetConfig`], [`Freenet`], how inputs are told apart. Then `block` (keys and data), `store`
//! and `lru` (what a node keeps), `msg` (what nodes say), `passing` (requests on their way), `request` and `asking`
//! (users).

mod asking;
mod block;
mod lru;
mod msg;
mod passing;
mod request;
mod store;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use p2p_core::{Cx, Down, Key, Keyed, Link, NoJob, OpId, Protocol};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::bucket::{Bucket, Rate};
use crate::recent::Recent;
use crate::search::SearchItem;

use asking::User;
use passing::Pending;
use store::{Routes, Store};

pub(crate) use store::BLOCK_OVERHEAD;

pub use block::{FreenetBlock, MAX_BLOCK};
pub use msg::FreenetMsg;
pub use request::{FreenetCommand, FreenetError, FreenetOutcome, Insert, Inserted, Retrieve};

/// How a node behaves. Where the paper gives no value, it is ours.
#[derive(Clone, Copy, Debug)]
pub struct FreenetConfig {
    /// How many hops its users' requests and inserts have to live (§5.1). 20.
    pub htl: u16,
    /// The most that others' have, whatever they say. 40.
    pub max_htl: u16,
    /// How likely a request with one hop to live goes on with one (§4: "with finite probability"). 0.25.
    pub past_last: f64,
    /// How likely a node says that it is the source of what it passes on (§3.2). 0.05.
    pub claims: f64,
    /// The bytes of its store, 128 for each block included. 64 MiB.
    pub store: usize,
    /// The entries of its routing table (§5.1). 250.
    pub routes: usize,
    /// How many requests are under way through it, its users' among them; one neighbour has a quarter at most. 1,024.
    pub pending: usize,
    /// How many of them are its users'. 64.
    pub capacity: usize,
    /// How many requests it remembers that have come, so that none goes in a circle. 8,192.
    pub seen: usize,
    /// How many neighbours it knows the limits of, and to have been there. 1,024.
    pub neighbours: usize,
    /// How long a node has to say that it has passed a request on; for the answer it has as much for each hop. 2 s.
    pub hop: Duration,
    /// How many requests, inserts and newcomers one neighbour may send. One every 50 ms, 50 at once.
    pub requests: Rate,
    /// How often it dials whom it knows by hearsay only. One a second, 20 at once.
    pub hearsay: Rate,
    /// How far a newcomer is made known (§5.2). 10 hops.
    pub announce: u16,
}

impl Default for FreenetConfig {
    fn default() -> FreenetConfig {
        FreenetConfig {
            htl: 20,
            max_htl: 40,
            past_last: 0.25,
            claims: 0.05,
            store: 64 << 20,
            routes: 250,
            pending: 1024,
            capacity: 64,
            seen: 8192,
            neighbours: 1024,
            hop: Duration::from_secs(2),
            requests: Rate { every: Duration::from_millis(50), burst: 50 },
            hearsay: Rate { every: Duration::from_secs(1), burst: 20 },
            announce: 10,
        }
    }
}

/// What a node has done; an experiment adds them up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FreenetTally {
    /// Requests and inserts that it has sent to a next node.
    pub sent: u64,
    /// Requests that have come in a circle.
    pub circles: u64,
    /// Requests answered from its store.
    pub served: u64,
    /// Blocks that did not belong under their key.
    pub forged: u64,
    /// What went over a limit.
    pub limited: u64,
    /// Nodes that said nothing, or were not there.
    pub silent: u64,
}

/// A Freenet node. Its store has at most [`FreenetConfig::store`] bytes and its table [`FreenetConfig::routes`]
/// entries; it has at most [`FreenetConfig::pending`] requests under way, each of which remembers no more nodes than it
/// had hops to live; it remembers [`FreenetConfig::seen`] requests and [`FreenetConfig::neighbours`] neighbours.
///
/// ```
/// use p2p_core::SimPeer;
/// use p2p_core::sim::{Network, Sim};
/// use p2p_overlay::{Freenet, FreenetBlock, FreenetConfig, Insert, Item, Query, Retrieve, Scope, Search};
/// use std::time::Duration;
///
/// let mut sim = Sim::<Freenet<SimPeer>>::new(1, Network::default());
/// for _ in 0..20 {
///     sim.spawn(|birth| Freenet::new(birth.peer, birth.alive.last().copied(), FreenetConfig::default()));
/// }
/// sim.run_for(Duration::from_secs(10));
///
/// let (here, there) = (sim.handle(SimPeer(3)), sim.handle(SimPeer(17)));
/// let block = FreenetBlock::content("How does it feel").unwrap();
/// let data = sim.block_on(async move {
///     let inserted = there.ask(Insert(block)).await.unwrap().unwrap();
///     here.ask(Retrieve { key: inserted.key, htl: None }).await.unwrap().unwrap()
/// });
/// assert_eq!(data, "How does it feel");
/// ```
pub struct Freenet<P: Keyed> {
    me: P,
    config: FreenetConfig,
    /// Through whom it has joined, and finds back if it has lost everybody else.
    seeds: Vec<P>,
    store: Store,
    routes: Routes<P>,
    pending: BTreeMap<u64, Pending<P>>,
    seen: Recent<u64, ()>,
    /// Who has said something, and how much they may.
    neighbours: Recent<P, Bucket>,
    hearsay: Bucket,
    users: BTreeMap<OpId, User>,
    tally: FreenetTally,
}

/// The timers of a node: one for each request under way, and one for each search.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FreenetTimer {
    /// The next node has not answered.
    Pending(u64),
    /// A search has had its time.
    Deadline(OpId),
}

impl<P: Keyed + Serialize + DeserializeOwned> Freenet<P> {
    /// A node of this name that knows these others.
    pub fn new(me: P, seeds: impl IntoIterator<Item = P>, config: FreenetConfig) -> Freenet<P> {
        let seeds: Vec<P> = seeds.into_iter().filter(|seed| *seed != me).take(config.routes).collect();
        let mut routes = Routes::new(config.routes);
        seeds.iter().for_each(|seed| routes.insert(seed.key(), *seed, true));
        Freenet {
            me,
            config,
            seeds,
            store: Store::new(config.store),
            routes,
            pending: BTreeMap::new(),
            seen: Recent::new(config.seen),
            neighbours: Recent::new(config.neighbours),
            hearsay: Bucket::default(),
            users: BTreeMap::new(),
            tally: FreenetTally::default(),
        }
    }

    /// Whether it keeps the data of a key.
    pub fn holds(&self, key: &Key) -> bool {
        self.store.holds(key)
    }

    /// How many blocks it keeps.
    pub fn blocks(&self) -> usize {
        self.store.len()
    }

    /// How many bytes its store has, with what blocks count for beside their data.
    pub fn stored(&self) -> usize {
        self.store.bytes()
    }

    /// Its routing table: who has had which key, in the order of keys.
    pub fn routes(&self) -> impl Iterator<Item = (Key, P)> {
        self.routes.iter()
    }

    /// Whom it would ask for a key, the first first; one peer may come several times.
    pub fn nearest(&self, key: Key) -> impl Iterator<Item = P> {
        self.routes.nearest(key).map(|(_, peer)| peer)
    }

    /// How many requests are under way through it.
    pub fn pending(&self) -> usize {
        self.pending.len()
    }

    /// What it has done.
    pub fn tally(&self) -> FreenetTally {
        self.tally
    }
}

impl<P: Keyed + Serialize + DeserializeOwned> Protocol for Freenet<P> {
    type Peer = P;
    type Msg = FreenetMsg<P>;
    type Timer = FreenetTimer;
    type Command = FreenetCommand<P>;
    type Item = SearchItem<P>;
    type Outcome = FreenetOutcome<P>;
    type Event = ();
    type Job = NoJob;

    fn on_start(&mut self, cx: &mut Cx<'_, Self>) {
        if self.config.announce > 0 {
            for seed in &self.seeds {
                cx.send(*seed, FreenetMsg::Announce { node: self.me, htl: self.config.announce });
            }
        }
    }

    fn on_message(&mut self, cx: &mut Cx<'_, Self>, from: P, msg: FreenetMsg<P>) {
        if self.neighbours.insert(from, Bucket::default()) {
            self.routes.heard(from);
        }
        self.charge(&msg);
        match msg {
            FreenetMsg::Request { id, htl, key } => {
                self.on_request(cx, from, passing::What::Request, id, htl, key);
            }
            FreenetMsg::Insert { id, htl, key } => {
                self.on_request(cx, from, passing::What::Insert, id, htl, key);
            }
            FreenetMsg::Working { id } => self.on_working(cx, from, id),
            FreenetMsg::Failed { id, htl } => self.on_failed(cx, from, id, htl),
            FreenetMsg::Data { id, source, block } => self.on_data(cx, from, id, source, block),
            FreenetMsg::Accept { id } => self.on_accept(cx, from, id),
            FreenetMsg::Send { id, source, block } => self.on_send(cx, from, id, source, block),
            FreenetMsg::Stored { id } => self.on_stored(cx, from, id),
            FreenetMsg::Announce { node, htl } => self.on_announce(cx, from, node, htl),
        }
    }

    fn on_timer(&mut self, cx: &mut Cx<'_, Self>, timer: FreenetTimer) {
        match timer {
            FreenetTimer::Pending(id) => self.on_silence(cx, id),
            FreenetTimer::Deadline(op) => self.on_deadline(cx, op),
        }
    }

    fn on_command(&mut self, cx: &mut Cx<'_, Self>, op: OpId, command: FreenetCommand<P>) {
        match command {
            FreenetCommand::Search(command) => self.on_search(cx, op, command),
            FreenetCommand::Insert(block) => self.begin_insert(cx, op, block),
            FreenetCommand::Retrieve(retrieve) => self.begin_retrieve(cx, op, retrieve),
        }
    }

    fn on_cancel(&mut self, cx: &mut Cx<'_, Self>, op: OpId) {
        self.forget_user(cx, op);
    }

    fn on_link(&mut self, cx: &mut Cx<'_, Self>, peer: P, link: Link) {
        if let Link::Down(why) = link {
            // A connection that only rests comes back with the next request.
            if why != Down::Idle {
                self.lost(cx, peer);
            }
        }
    }
}

impl<P: Keyed> fmt::Debug for Freenet<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (blocks, routes) = (self.store.len(), self.routes.len());
        write!(f, "Freenet({:?}, {blocks} blocks, {routes} routes)", self.me)
    }
}

#[cfg(test)]
mod tests;
