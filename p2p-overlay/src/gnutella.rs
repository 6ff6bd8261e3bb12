//! Gnutella 0.4: everybody asks all neighbours, who pass the question on; answers come back the same way.
//!
//! *The Gnutella Protocol Specification v0.4*, Clip2, in the annotated revision 1.6 of the Gnutella Developer Forum;
//! hashes of content after *HUGE 0.94*. The same machine runs in the simulator, over QUIC, and over TCP with the real
//! bytes ([`GnutellaCodec`]): see [`Place`] for what a peer is in each.
//!
//! What the specification leaves open, and what this servent does:
//!
//! - **Pongs are cached** (§3.2.2.1): a ping is answered for the neighbours' neighbours too, for some by chance, and
//!   passed on only while too few of them are known.
//! - **A full servent** takes a newcomer in as a guest: it answers one ping with whom it knows, and says goodbye.
//! - **What others say is hearsay.** An address in a hit is never dialled but by the user's own wish. One in a pong is
//!   dialled now and then only, and whoever has named several where nobody is, is no longer believed.
//! - **A push has to bear a nonce**: the servent identifier in each hit is half random, and only whoever has seen the
//!   hit can ask for a push, a few times. So nobody makes servents connect to whom they want.
//! - **Limits**: what one neighbour may send is bounded by a token bucket, hits by another, and who goes and comes
//!   again finds them as it left them; for one query the hits are bounded that each neighbour brings, and each source
//!   gives. Of what a neighbour may send, its own queries are a small part, and of all its
//!   queries only its share is passed on, so that those of the others still fit (after Daswani and Garcia-Molina,
//!   *Query-Flood DoS Attacks in Gnutella*, CCS 2002).
//!
//! In this order: [`Gnutella`], its configuration, and how inputs are told apart. Then `request` (what users ask),
//! `descriptor` and `codec` (bytes), `neighbours` (who is connected, pings), `hosts` (who might be), `passing`
//! (queries, hits and pushes of others), `pushing` (what both versions know of pushes), `asking` (those of this
//! node's users).

pub(crate) mod asking;
pub(crate) mod codec;
pub(crate) mod descriptor;
pub(crate) mod hosts;
mod neighbours;
pub(crate) mod passing;
pub(crate) mod pushing;
mod request;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use p2p_core::{Contact, Cx, Down, HostCache, Learnt, Link, NoJob, OpId, PeerId, Protocol};

use crate::bucket::Rate;
use crate::place::Place;
use crate::recent::{Apart, Recent};
use crate::search::{Library, SearchCommand, SearchError, SearchItem, SearchOutcome};

use asking::Searching;
use hosts::Hosts;
use neighbours::{Account, Neighbour, State};
use passing::QueryRoute;
use pushing::Pushing;

pub use codec::{GnutellaCodec, GnutellaMsg};
pub use descriptor::{Descriptor, Guid, Payload, Pong, QueryHit, Shared};
pub use request::{GnutellaCommand, GnutellaOutcome, Listen};

/// How a servent behaves. Where the specification gives no value, Ripeanu, Foster and Iamnitchi, *Mapping the Gnutella
/// Network* (IEEE Internet Computing, 2002), say what was common, or they are ours.
#[derive(Clone, Copy, Debug)]
pub struct GnutellaConfig {
    /// How many neighbours it looks for. 4.
    pub wanted: usize,
    /// How many it has at most, those who have come by themselves among them. 8.
    pub most: usize,
    /// How many guests it has beside them. 4.
    pub guests: usize,
    /// How far its own questions go, and the most that TTL and hops together may be (§3.1: up to 7 is valid). 7.
    pub ttl: u8,
    /// How often neighbours are pinged, and missing ones looked for. 10 s.
    pub upkeep: Duration,
    /// A neighbour that says nothing for so long is given up. 35 s.
    pub silence: Duration,
    /// How long somebody who is dialled has to accept. 10 s.
    pub dial_timeout: Duration,
    /// How many pongs answer one ping. 10.
    pub pongs: usize,
    /// How long a pong is worth telling others. 60 s.
    pub pong_lasts: Duration,
    /// How many descriptors one neighbour may send, hits and pongs apart. One every 10 ms, 160 at once. Of its queries
    /// as many are passed on as if each of [`GnutellaConfig::most`] neighbours had an equal share of that.
    pub descriptors: Rate,
    /// How many of them may be queries of its own, that nobody has passed on yet. One every second, 20 at once.
    pub queries: Rate,
    /// How many hits and pongs. One every 10 ms, 200 at once.
    pub answers: Rate,
    /// How often it dials whom it knows by hearsay only: most of those that a newcomer is told of are full. Every 5 s, 4 at
    /// once.
    pub hearsay: Rate,
    /// How many addresses a neighbour may name where nobody is, before it is no longer believed. 3.
    pub lies: u8,
    /// How often it connects to somebody who asks for a push. Every second, 5 at once.
    pub push: Rate,
    /// How many results it passes on for one query, of those that come by one neighbour. 64.
    pub hits_per_query: u16,
    /// How many hits one source may give one search. 32.
    pub hits_per_source: u16,
    /// How many of its own items answer one query. 32.
    pub results: usize,
    /// How many items it shares. 10,000.
    pub items: usize,
    /// How many pings, queries, and servents' ways it remembers, of each. 8,192.
    pub routes: usize,
    /// How many searches and pushes of its users are under way at once, of each. 64.
    pub capacity: usize,
    /// How long a ring of radius 1 has; one of radius r has r times as much. 1 s.
    pub ring: Duration,
    /// How long a source has to answer a push. 20 s.
    pub push_timeout: Duration,
    /// What its line carries, in kbit/s: it is told with each hit. 1,000.
    pub speed: u32,
}

impl Default for GnutellaConfig {
    fn default() -> GnutellaConfig {
        GnutellaConfig {
            wanted: 4,
            most: 8,
            guests: 4,
            ttl: 7,
            upkeep: Duration::from_secs(10),
            silence: Duration::from_secs(35),
            dial_timeout: Duration::from_secs(10),
            pongs: 10,
            pong_lasts: Duration::from_secs(60),
            descriptors: Rate { every: Duration::from_millis(10), burst: 160 },
            queries: Rate { every: Duration::from_secs(1), burst: 20 },
            answers: Rate { every: Duration::from_millis(10), burst: 200 },
            hearsay: Rate { every: Duration::from_secs(5), burst: 4 },
            lies: 3,
            push: Rate { every: Duration::from_secs(1), burst: 5 },
            hits_per_query: 64,
            hits_per_source: 32,
            results: 32,
            items: 10_000,
            routes: 8192,
            capacity: 64,
            ring: Duration::from_secs(1),
            push_timeout: Duration::from_secs(20),
            speed: 1000,
        }
    }
}

/// What a servent has done; an experiment adds them up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GnutellaTally {
    /// Queries sent, its own and others'.
    pub queries: u64,
    /// Queries that came for the first time.
    pub reached: u64,
    /// Pings and queries that had come before.
    pub duplicates: u64,
    /// Hits sent, its own and others'.
    pub hits: u64,
    /// Descriptors that went over a limit, or led nowhere.
    pub dropped: u64,
    /// Servents dialled, for neighbours or for a push.
    pub dials: u64,
    /// Of those, whom it knew by hearsay only.
    pub hearsay: u64,
}

/// A Gnutella 0.4 servent. It has at most [`GnutellaConfig::most`] neighbours and [`GnutellaConfig::guests`], with ten
/// pongs of each, knows 512 hosts, and remembers [`GnutellaConfig::routes`] pings, queries and ways to servents, and a
/// quarter as many queries of its users.
///
/// Its users hold a [`Handle`](p2p_core::Handle), which is a [`Search`](crate::Search):
///
/// ```
/// use futures::StreamExt;
/// use p2p_core::SimPeer;
/// use p2p_core::sim::{Network, Sim};
/// use p2p_overlay::{Gnutella, GnutellaConfig, Item, Place, Query, Scope, Search};
/// use std::time::Duration;
///
/// let mut sim = Sim::<Gnutella<SimPeer>>::new(1, Network::default());
/// for _ in 0..20 {
///     sim.spawn(|birth| {
///         let seed = birth.alive.first().and_then(SimPeer::contact);
///         Gnutella::new(birth.peer.contact(), seed, GnutellaConfig::default())
///     });
/// }
/// sim.run_for(Duration::from_secs(120));
///
/// let (here, there) = (sim.handle(SimPeer(3)), sim.handle(SimPeer(17)));
/// let (hit, searched) = sim.block_on(async move {
///     there.publish(Item::new("Blue Monday.mp3", 7_000_000)).await.unwrap();
///     let mut hits = here.search(Query::text("monday"), Scope { hits: 1, ..Scope::default() });
///     (hits.next().await.unwrap(), hits.await.unwrap())
/// });
/// assert_eq!(hit.item.name, "Blue Monday.mp3");
/// assert!(searched.cost.messages > 1 && !searched.cost.whole);
/// ```
pub struct Gnutella<P: Place> {
    config: GnutellaConfig,
    /// Where others reach it.
    listen: Option<Contact>,
    /// Its identifier; in hits the second half is random.
    servent: Guid,
    library: Library,
    neighbours: BTreeMap<P, Neighbour>,
    /// Of those who have left, the last 512 at least.
    accounts: Recent<PeerId, Account>,
    hosts: Hosts<P>,
    /// The ways that pings have come; `None` for its own.
    pings: Recent<Guid, Option<P>>,
    /// The ways that queries have come: of its users', and of others'.
    queries: Apart<Guid, QueryRoute<P>>,
    pushing: Pushing<P>,
    searches: BTreeMap<OpId, Searching>,
    /// The number of the last connection it has made.
    number: u64,
    tally: GnutellaTally,
}

/// The timers of a servent: one, and one for each neighbour that is dialled, each search and each push.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum GnutellaTimer<P> {
    /// Time to ping neighbours and to look for missing ones.
    Upkeep,
    /// Somebody has not accepted.
    Dial(P),
    /// A ring, or a search, has had its time.
    Search(OpId),
    /// A push was not answered.
    Reach(OpId),
}

/// What a servent says unasked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GnutellaEvent<P> {
    /// A neighbour is there.
    Up(P),
    /// A neighbour is gone.
    Down(P),
    /// Somebody has asked for a push: the servent has connected to them, and gives them the item of this number.
    Gives {
        /// Over this connection.
        to: P,
        /// See [`Library::get`].
        index: u32,
    },
}

impl<P: Place> Gnutella<P> {
    /// A servent that others reach there, if they do, and that joins through these.
    pub fn new(
        listen: Option<Contact>,
        seeds: impl IntoIterator<Item = Contact>,
        config: GnutellaConfig,
    ) -> Gnutella<P> {
        let mut hosts = Hosts::new(HostCache::new(512, 64));
        for seed in seeds {
            hosts.note(seed, Learnt::Told, Duration::ZERO, None);
        }
        Gnutella {
            config: GnutellaConfig { ttl: config.ttl.max(1), ..config },
            listen,
            servent: Guid([0; 16]),
            library: Library::new(config.items),
            neighbours: BTreeMap::new(),
            accounts: Recent::new(1024),
            hosts,
            pings: Recent::new(config.routes),
            queries: Apart::new(config.routes),
            pushing: Pushing::new(config.routes),
            searches: BTreeMap::new(),
            number: 0,
            tally: GnutellaTally::default(),
        }
    }

    /// A servent that knows these hosts too, from its last run; as many as their cache holds.
    pub fn with_hosts(mut self, hosts: HostCache) -> Gnutella<P> {
        self.hosts.remember(hosts);
        self
    }

    /// The hosts it knows, to be saved, and given to [`Gnutella::with_hosts`].
    pub fn hosts(&self) -> &HostCache {
        self.hosts.cache()
    }

    /// What it shares.
    pub fn library(&self) -> &Library {
        &self.library
    }

    /// What it shares, to be changed: programs do so before they start it.
    pub fn library_mut(&mut self) -> &mut Library {
        &mut self.library
    }

    /// Its neighbours, without guests.
    pub fn neighbours(&self) -> impl Iterator<Item = P> {
        self.neighbours.iter().filter(|(_, neighbour)| neighbour.is_up()).map(|(peer, _)| *peer)
    }

    /// What it has done.
    pub fn tally(&self) -> GnutellaTally {
        self.tally
    }

    /// A user's command is over.
    fn done(&self, cx: &mut Cx<'_, Self>, op: OpId, outcome: SearchOutcome<P>) {
        cx.finish(op, GnutellaOutcome::Search(outcome));
    }
}

impl<P: Place> Protocol for Gnutella<P> {
    type Peer = P;
    type Msg = GnutellaMsg;
    type Timer = GnutellaTimer<P>;
    type Command = GnutellaCommand<P>;
    type Item = SearchItem<P>;
    type Outcome = GnutellaOutcome<P>;
    type Event = GnutellaEvent<P>;
    type Job = NoJob;

    fn on_start(&mut self, cx: &mut Cx<'_, Self>) {
        self.servent = Guid::random(cx.rng());
        self.look_for_neighbours(cx);
        let first = cx.rng().duration(Duration::ZERO, self.config.upkeep);
        cx.set_timer(first, GnutellaTimer::Upkeep);
    }

    fn on_message(&mut self, cx: &mut Cx<'_, Self>, from: P, msg: GnutellaMsg) {
        match msg {
            GnutellaMsg::Connect => self.on_connect(cx, from),
            GnutellaMsg::Accept => self.on_accept(cx, from),
            GnutellaMsg::Refuse => self.lost(cx, from, None),
            GnutellaMsg::Descriptor(descriptor) => self.on_descriptor(cx, from, descriptor),
            GnutellaMsg::Give { index, servent, .. } => self.on_give(cx, from, index, servent),
        }
    }

    fn on_timer(&mut self, cx: &mut Cx<'_, Self>, timer: Self::Timer) {
        match timer {
            GnutellaTimer::Upkeep => self.upkeep(cx),
            GnutellaTimer::Dial(peer) => {
                if self.neighbours.get(&peer).is_some_and(|neighbour| neighbour.state == State::Dialled) {
                    self.lost(cx, peer, Some(Down::TimedOut));
                }
            }
            GnutellaTimer::Search(op) => self.widen(cx, op),
            GnutellaTimer::Reach(op) => {
                if self.pushing.forget(op) {
                    self.done(cx, op, SearchOutcome::Reached(Err(SearchError::Unreachable)));
                }
            }
        }
    }

    fn on_command(&mut self, cx: &mut Cx<'_, Self>, op: OpId, command: Self::Command) {
        match command {
            GnutellaCommand::Search(SearchCommand::Publish(item)) => {
                let published = self.library.insert(item).map(drop);
                self.done(cx, op, SearchOutcome::Published(published));
            }
            GnutellaCommand::Search(SearchCommand::Unpublish(name)) => {
                let removed = self.library.remove(&name).is_some();
                self.done(cx, op, SearchOutcome::Unpublished(removed));
            }
            GnutellaCommand::Search(SearchCommand::Search(query, scope)) => {
                self.begin_search(cx, op, query, scope);
            }
            GnutellaCommand::Search(SearchCommand::Reach(hit)) => self.begin_reach(cx, op, hit),
            GnutellaCommand::Listen(contact) => {
                self.listen = contact;
                cx.finish(op, GnutellaOutcome::Listens);
            }
        }
    }

    fn on_cancel(&mut self, cx: &mut Cx<'_, Self>, op: OpId) {
        if self.searches.remove(&op).is_some() {
            cx.clear_timer(GnutellaTimer::Search(op));
        }
        if self.pushing.forget(op) {
            cx.clear_timer(GnutellaTimer::Reach(op));
        }
    }

    fn on_link(&mut self, cx: &mut Cx<'_, Self>, peer: P, link: Link) {
        if let Link::Down(why) = link {
            // A connection that only rests comes back with the next ping.
            if why != Down::Idle {
                self.lost(cx, peer, Some(why));
            }
        }
    }
}

impl<P: Place> fmt::Debug for Gnutella<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Gnutella({} neighbours, {} items)", self.neighbours().count(), self.library.len())
    }
}

#[cfg(test)]
mod attacks;
#[cfg(test)]
mod tests;
