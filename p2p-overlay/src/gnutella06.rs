//! Gnutella 0.6: ultrapeers speak for their leaves, know by tables what those might have, and ask each other no further
//! than a search needs.
//!
//! *RFC-Gnutella 0.6* (Klingberg and Manfredi, 2002); *Ultrapeers* (Singla and Rohrs, 2002); *Query Routing for the
//! Gnutella Network* 0.4 (Rohrs, 2001); *Gnutella Dynamic Query Protocol* 0.1 (Fisk, 2003). Descriptors are those of
//! [`Gnutella`](crate::Gnutella) 0.4, with two more. Files are moved by [`Sharing`](crate::Sharing).
//!
//! - **A leaf** has a few ultrapeers. It sends them a table of what it shares, gets the queries that might match and no
//!   others, and passes nothing on.
//! - **An ultrapeer** has leaves and many other ultrapeers. A query on its last hop goes only to those whose tables say
//!   that they, or their leaves, might have something.
//! - **A search is guided** by the ultrapeer it begins at: a probe at first, then one neighbour after the other, each as
//!   far as what has come so far says, until enough has come. A leaf tells what it has, and when it has enough.
//! - **Roles** change by [`Promotion`]: what is needed is how full the ultrapeers are, which pongs tell.
//! - **Pushes** go back the way of the hit, over ultrapeers too, and bear the nonce of 0.4.
//! - **Limits**: token buckets for what one neighbour may send, hits apart, and for its own queries, as in 0.4; who
//!   goes and comes again finds them as it left them. Of a leaf's searches its share is guided at once, the newest; of
//!   another ultrapeer's queries a share is passed on. So one leaf leaves the others their shares, and a flood among
//!   ultrapeers leaves what leaves need. For one query the results are bounded that
//!   each neighbour brings, and each source gives. A table that is more than half full asks for everything: its leaf gets nothing.
//!
//! In this order: [`Gnutella06`], its configuration, how inputs are told apart. Then `handshake`, `codec` and `deflated`
//! (bytes), `qrp` and `update` (query tables), `ggep` (what pongs say beside), `neighbours` (who is connected, and as what),
//! `tables` (who gets which), `passing` (queries and hits of others), `guiding` (searches that are guided here),
//! `asking` (those of this node's users).

mod asking;
mod codec;
mod deflated;
mod ggep;
mod guiding;
mod handshake;
mod neighbours;
mod passing;
mod qrp;
mod tables;
mod update;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use p2p_core::{Contact, Cx, Down, HostCache, Learnt, Link, NoJob, OpId, PeerId, Protocol, Time, prefetch};

use crate::bucket::Rate;
use crate::few::Few;
use crate::gnutella::Guid;
use crate::gnutella::hosts::Hosts;
use crate::gnutella::passing::{wanted, wanted_of};
use crate::gnutella::pushing::Pushing;
use crate::place::Place;
use crate::promotion::{Promotion, PromotionConfig, Role};
use crate::recent::{Apart, Recent};
use crate::search::{Hit, Item, Library, SearchCommand, SearchError, SearchItem, SearchOutcome, Searcher};
use crate::sharing::{Sharer, Wanted};

use asking::Searching;
use ggep::Room;
use guiding::Guided;
use neighbours::{Account, Neighbour, State};
use passing::Route;
use tables::Made;

pub use codec::{Gnutella06Codec, Gnutella06Msg};
pub use handshake::Hello;
pub use qrp::{Asked, QueryTable, qrp_hash};
pub use update::{RouteUpdate, TableReader, updates};

/// How a servent behaves. Where no specification gives a value, it is ours.
#[derive(Clone, Copy, Debug)]
pub struct Gnutella06Config {
    /// How many ultrapeers a leaf looks for. 3.
    pub hubs: usize,
    /// How many leaves an ultrapeer has at most (Ultrapeers §4). 30.
    pub leaves: usize,
    /// How many other ultrapeers it has at most (dynamic queries §2.3). 32.
    pub degree: usize,
    /// How many it looks for: fewer, at most two thirds, so that there is always room for who comes later. 22.
    pub wanted: usize,
    /// The furthest that a query goes among ultrapeers (dynamic queries §2.4). 3.
    pub ttl: u8,
    /// The most that TTL and hops of what others send may be together. 7.
    pub most_hops: u8,
    /// The slots of a query table, as a power of two. 16.
    pub table_bits: u8,
    /// How long it takes from a change of what is shared to the table that tells it, at most. 10 s.
    pub upkeep: Duration,
    /// A neighbour that says nothing for so long is given up. 35 s.
    pub silence: Duration,
    /// How long each step of a handshake may take. 10 s.
    pub dial_timeout: Duration,
    /// How long the ultrapeer that guides a search waits for each hop (dynamic queries §2.5.2). 2.4 s.
    pub hop_wait: Duration,
    /// How many results end the search of a leaf, or of a user who wants more than these (dynamic queries §2.5.2). 150.
    pub enough: u32,
    /// How many searches of its leaves an ultrapeer guides at once, each of [`Gnutella06Config::leaves`] an equal share:
    /// a leaf that asks for more has its newest guided. Those of its users are beside these. 256.
    pub guided: usize,
    /// How often it connects to somebody who asks for a push. Every second, 5 at once.
    pub push: Rate,
    /// How long a source has to connect, when it was asked to. 20 s.
    pub push_timeout: Duration,
    /// When roles change.
    pub promotion: PromotionConfig,
    /// How many descriptors one neighbour may send, hits, pongs and tables apart. One every 20 ms, 100 at once.
    pub descriptors: Rate,
    /// How many of them may be queries of its own, that nobody has passed on yet; all of a leaf's are. One every second,
    /// 20 at once.
    pub queries: Rate,
    /// How many queries of one ultrapeer go further than to its own leaves: each becomes as many as there are other
    /// ultrapeers. One every 500 ms, 20 at once: those of 32, to 31 each, are what a line of 1,000 kbit/s carries.
    pub passing: Rate,
    /// How many hits, pongs and tables. One every 10 ms, 200 at once.
    pub answers: Rate,
    /// How often somebody may connect, or change its query table, before it is sent away. Every 2 s, 20 at once: servents
    /// change theirs every 10 s or less often.
    pub tables: Rate,
    /// How often it dials whom it knows by hearsay only. Every 2 s, 10 at once.
    pub hearsay: Rate,
    /// How many results it passes on for one query, of those that come by one neighbour. 64.
    pub hits_per_query: u16,
    /// How many hits one source may give one search. 32.
    pub hits_per_source: u16,
    /// How many of its own items answer one query. 32.
    pub results: usize,
    /// How many items it shares. 10,000.
    pub items: usize,
    /// How many queries' ways it remembers, and how many servents' and pushes'. 8,192.
    pub routes: usize,
    /// How many searches of its users are under way at once. 64.
    pub capacity: usize,
    /// What its line carries, in kbit/s: it is told with each hit, and makes it eligible. 1,000.
    pub speed: u32,
}

impl Default for Gnutella06Config {
    fn default() -> Gnutella06Config {
        Gnutella06Config {
            hubs: 3,
            leaves: 30,
            degree: 32,
            wanted: 22,
            ttl: 3,
            most_hops: 7,
            table_bits: 16,
            upkeep: Duration::from_secs(10),
            silence: Duration::from_secs(35),
            dial_timeout: Duration::from_secs(10),
            hop_wait: Duration::from_millis(2400),
            enough: 150,
            guided: 256,
            push: Rate { every: Duration::from_secs(1), burst: 5 },
            push_timeout: Duration::from_secs(20),
            promotion: PromotionConfig::default(),
            descriptors: Rate { every: Duration::from_millis(20), burst: 100 },
            queries: Rate { every: Duration::from_secs(1), burst: 20 },
            passing: Rate { every: Duration::from_millis(500), burst: 20 },
            answers: Rate { every: Duration::from_millis(10), burst: 200 },
            tables: Rate { every: Duration::from_secs(2), burst: 20 },
            hearsay: Rate { every: Duration::from_secs(2), burst: 10 },
            hits_per_query: 64,
            hits_per_source: 32,
            results: 32,
            items: 10_000,
            routes: 8192,
            capacity: 64,
            speed: 1000,
        }
    }
}

/// What a servent has done; an experiment adds them up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gnutella06Tally {
    /// Queries sent to ultrapeers, its own and others'.
    pub queries: u64,
    /// Queries sent to leaves whose tables might match,
    pub to_leaves: u64,
    /// and not sent, because they do not.
    pub leaves_spared: u64,
    /// Queries on their last hop sent to ultrapeers whose tables might match, or are not there,
    pub last_hops: u64,
    /// and not sent, because they do not.
    pub last_hops_spared: u64,
    /// Queries that came for the first time.
    pub reached: u64,
    /// Queries that had come before.
    pub duplicates: u64,
    /// Hits sent, its own and others'.
    pub hits: u64,
    /// Descriptors that went over a limit, or led nowhere.
    pub dropped: u64,
    /// Servents dialled.
    pub dials: u64,
    /// Changes of its role.
    pub changes: u64,
}

/// A Gnutella 0.6 servent, leaf or ultrapeer. It has at most [`Gnutella06Config::leaves`] leaves and
/// [`Gnutella06Config::degree`] ultrapeers, handshakes under way among them, with a query table of at most 32 KiB of each;
/// it knows 512 hosts, remembers [`Gnutella06Config::routes`] queries and a quarter as many of its leaves and users, and
/// guides [`Gnutella06Config::guided`] of its leaves and [`Gnutella06Config::capacity`] of its users.
///
/// Its users hold a [`Handle`](p2p_core::Handle), which is a [`Search`](crate::Search):
///
/// ```
/// use futures::StreamExt;
/// use p2p_core::SimPeer;
/// use p2p_core::sim::{Network, Sim};
/// use p2p_overlay::{Gnutella06, Gnutella06Config, Item, Place, Query, Role, Scope, Search};
/// use std::time::Duration;
///
/// let mut sim = Sim::<Gnutella06<SimPeer>>::new(1, Network::default());
/// for i in 0..20 {
///     let role = if i < 4 { Role::Ultrapeer } else { Role::Leaf };
///     sim.spawn(|birth| {
///         let seed = birth.alive.first().and_then(SimPeer::contact);
///         Gnutella06::new(birth.peer.contact(), seed, role, Gnutella06Config::default())
///     });
/// }
/// sim.run_for(Duration::from_secs(60));
///
/// let (here, there) = (sim.handle(SimPeer(7)), sim.handle(SimPeer(17)));
/// sim.block_on(async move { there.publish(Item::new("Blue Monday.mp3", 7_000_000)).await.unwrap() });
/// // Until the ultrapeers have heard of it.
/// sim.run_for(Duration::from_secs(30));
/// let hit = sim.block_on(async move {
///     let mut hits = here.search(Query::text("monday"), Scope { hits: 1, ..Scope::default() });
///     hits.next().await.unwrap()
/// });
/// assert_eq!(hit.item.name, "Blue Monday.mp3");
/// ```
pub struct Gnutella06<P: Place> {
    config: Gnutella06Config,
    /// Where others reach it.
    listen: Option<Contact>,
    /// Its identifier; in hits the second half is random.
    servent: Guid,
    started: Time,
    promotion: Promotion,
    library: Library,
    /// Whether the table below lacks what is shared since.
    changed: bool,
    /// Whether it lacks what leaves have said, or who they are, since.
    stale: bool,
    /// What it shares itself.
    own: QueryTable,
    /// What it tells its neighbours: with its leaves' tables, if it is an ultrapeer.
    table: Arc<QueryTable>,
    /// What a neighbour was told of it last.
    made: Option<Made>,
    neighbours: Few<P, Neighbour>,
    /// Of those who have left, the last 512 at least.
    accounts: Recent<PeerId, Account>,
    /// What its pongs say of the room it has, and the bytes of that.
    told_room: (Room, Bytes),
    hosts: Hosts<P>,
    /// The ways that queries have come: of those that begin here, of its users and leaves, and of others.
    queries: Apart<Guid, Route<P>>,
    guided: BTreeMap<Guid, Guided<P>>,
    pushing: Pushing<P>,
    searches: BTreeMap<OpId, Searching>,
    /// The number of the last connection it has made.
    number: u64,
    tally: Gnutella06Tally,
}

/// The timers of a servent: one, and one for each handshake, each search, each query it guides, and each push.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Gnutella06Timer<P> {
    /// Time to look after neighbours, tables and the role.
    Upkeep,
    /// The next step of a handshake has not come.
    Dial(P),
    /// A search has had its time.
    Search(OpId),
    /// Whoever was asked last has had time to answer.
    Guide(Guid),
    /// A push was not answered.
    Reach(OpId),
}

/// What a servent says unasked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gnutella06Event<P> {
    /// A neighbour is there.
    Up(P),
    /// A neighbour is gone.
    Down(P),
    /// It has another role from now on.
    Role(Role),
    /// Somebody has asked for a push: the servent has connected to them, and gives them the item of this number.
    Gives {
        /// Over this connection.
        to: P,
        /// See [`Library::get`].
        index: u32,
    },
}

impl<P: Place> Gnutella06<P> {
    /// A servent that others reach there, if they do, that joins through these and begins in this role. The first of a
    /// network is an ultrapeer.
    pub fn new(
        listen: Option<Contact>,
        seeds: impl IntoIterator<Item = Contact>,
        role: Role,
        config: Gnutella06Config,
    ) -> Gnutella06<P> {
        let mut hosts = Hosts::new(HostCache::new(512, 64));
        for seed in seeds {
            hosts.note(seed, Learnt::Told, Duration::ZERO, None);
        }
        let table = QueryTable::new(config.table_bits);
        Gnutella06 {
            config: Gnutella06Config { ttl: config.ttl.max(1), ..config },
            listen,
            servent: Guid([0; 16]),
            started: Time::ZERO,
            promotion: Promotion::new(role, Time::ZERO, config.promotion),
            library: Library::new(config.items),
            changed: true,
            stale: true,
            own: table.clone(),
            table: Arc::new(table),
            made: None,
            neighbours: Few::new(),
            accounts: Recent::new(1024),
            told_room: (Room::default(), Room::default().write()),
            hosts,
            queries: Apart::new(config.routes),
            guided: BTreeMap::new(),
            pushing: Pushing::new(config.routes),
            searches: BTreeMap::new(),
            number: 0,
            tally: Gnutella06Tally::default(),
        }
    }

    /// A servent that knows these hosts too, from its last run; as many as their cache holds.
    ///
    /// ```
    /// use p2p_core::SimPeer;
    /// use p2p_core::sim::{Network, Sim};
    /// use p2p_overlay::{Gnutella06, Gnutella06Config, Place, Role};
    /// use std::time::Duration;
    ///
    /// let mut sim = Sim::<Gnutella06<SimPeer>>::new(1, Network::default());
    /// let config = Gnutella06Config::default();
    /// for _ in 0..3 {
    ///     sim.spawn(|birth| {
    ///         let seed = birth.alive.first().and_then(SimPeer::contact);
    ///         Gnutella06::new(birth.peer.contact(), seed, Role::Ultrapeer, config)
    ///     });
    /// }
    /// sim.run_for(Duration::from_secs(60));
    /// let saved = sim.node(SimPeer(2)).unwrap().hosts().clone();
    ///
    /// let again = sim.spawn(|_| Gnutella06::new(None, [], Role::Leaf, config).with_hosts(saved));
    /// sim.run_for(Duration::from_secs(10));
    /// assert!(sim.node(again).unwrap().ultrapeers().next().is_some());
    /// ```
    pub fn with_hosts(mut self, hosts: HostCache) -> Gnutella06<P> {
        self.hosts.remember(hosts);
        self
    }

    /// The hosts it knows, to be saved, and given to [`Gnutella06::with_hosts`].
    pub fn hosts(&self) -> &HostCache {
        self.hosts.cache()
    }

    /// What it shares.
    pub fn library(&self) -> &Library {
        &self.library
    }

    /// What it shares, to be changed: programs do so before they start it.
    pub fn library_mut(&mut self) -> &mut Library {
        self.changed = true;
        &mut self.library
    }

    /// What it is.
    pub fn role(&self) -> Role {
        self.promotion.role()
    }

    /// The ultrapeers it is connected to.
    pub fn ultrapeers(&self) -> impl Iterator<Item = P> {
        self.up(Role::Ultrapeer).map(|(peer, _)| peer)
    }

    /// Its leaves.
    pub fn leaves(&self) -> impl Iterator<Item = P> {
        self.up(Role::Leaf).map(|(peer, _)| peer)
    }

    /// What it has done.
    pub fn tally(&self) -> Gnutella06Tally {
        self.tally
    }

    /// A user's command is over.
    fn done(&self, cx: &mut Cx<'_, Self>, op: OpId, outcome: SearchOutcome<P>) {
        cx.finish(op, outcome);
    }
}

impl<P: Place> Protocol for Gnutella06<P> {
    type Peer = P;
    type Msg = Gnutella06Msg;
    type Timer = Gnutella06Timer<P>;
    type Command = SearchCommand<P>;
    type Item = SearchItem<P>;
    type Outcome = SearchOutcome<P>;
    type Event = Gnutella06Event<P>;
    type Job = NoJob;

    fn warm(&self) {
        prefetch(self.neighbours.keys());
    }

    fn on_start(&mut self, cx: &mut Cx<'_, Self>) {
        self.servent = Guid::random(cx.rng());
        self.started = cx.now();
        self.promotion = Promotion::new(self.role(), cx.now(), self.config.promotion);
        self.look_for_neighbours(cx);
        let first = cx.rng().duration(Duration::ZERO, self.config.upkeep);
        cx.set_timer(first, Gnutella06Timer::Upkeep);
    }

    fn on_message(&mut self, cx: &mut Cx<'_, Self>, from: P, msg: Gnutella06Msg) {
        match msg {
            Gnutella06Msg::Connect(hello) => self.on_connect(cx, from, hello.checked()),
            Gnutella06Msg::Welcome(hello) => self.on_welcome(cx, from, hello.checked()),
            Gnutella06Msg::Agree(hello) => self.on_agree(cx, from, hello.checked()),
            Gnutella06Msg::Refuse(tries) => self.on_refuse(cx, from, tries),
            Gnutella06Msg::Descriptor(descriptor) => self.on_descriptor(cx, from, descriptor),
            Gnutella06Msg::Give { index, servent, .. } => self.on_give(cx, from, index, servent),
        }
    }

    fn on_timer(&mut self, cx: &mut Cx<'_, Self>, timer: Self::Timer) {
        match timer {
            Gnutella06Timer::Upkeep => self.upkeep(cx),
            Gnutella06Timer::Dial(peer) => {
                if self.neighbours.get(&peer).is_some_and(|neighbour| neighbour.state != State::Up) {
                    self.lost(cx, peer, Some(Down::TimedOut));
                }
            }
            Gnutella06Timer::Search(op) => self.too_late(cx, op),
            Gnutella06Timer::Guide(id) => self.guide(cx, id),
            Gnutella06Timer::Reach(op) => {
                if self.pushing.forget(op) {
                    self.done(cx, op, SearchOutcome::Reached(Err(SearchError::Unreachable)));
                }
            }
        }
    }

    fn on_command(&mut self, cx: &mut Cx<'_, Self>, op: OpId, command: Self::Command) {
        match command {
            SearchCommand::Publish(item) => {
                let published = self.library.insert(item).map(drop);
                self.changed = true;
                self.done(cx, op, SearchOutcome::Published(published));
            }
            SearchCommand::Unpublish(name) => {
                let removed = self.library.remove(&name).is_some();
                self.changed = true;
                self.done(cx, op, SearchOutcome::Unpublished(removed));
            }
            SearchCommand::Search(query, scope) => self.begin_search(cx, op, query, scope),
            SearchCommand::Reach(hit) => self.reach(cx, op, hit),
        }
    }

    fn on_cancel(&mut self, cx: &mut Cx<'_, Self>, op: OpId) {
        self.forget(cx, op);
        if self.pushing.forget(op) {
            cx.clear_timer(Gnutella06Timer::Reach(op));
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

impl<P: Place> Searcher for Gnutella06<P> {
    fn command(command: SearchCommand<P>) -> SearchCommand<P> {
        command
    }
    fn outcome(outcome: SearchOutcome<P>) -> Option<SearchOutcome<P>> {
        Some(outcome)
    }
}

impl<P: Place> Sharer for Gnutella06<P> {
    fn wanted(hit: &Hit<P>) -> Option<Wanted> {
        wanted(hit)
    }
    fn shared(&self, wanted: &Wanted) -> Option<&Item> {
        wanted_of(&self.library, wanted)
    }
}

impl<P: Place> fmt::Debug for Gnutella06<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Gnutella06({:?}, {} neighbours)", self.role(), self.neighbours.len())
    }
}

#[cfg(test)]
mod attacks;
#[cfg(test)]
mod tests;
