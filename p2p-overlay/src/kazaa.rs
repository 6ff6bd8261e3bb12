//! KaZaA: ordinary nodes tell a super-node what they share, and super-nodes ask each other.
//!
//! After *Understanding KaZaA* (Liang, Kumar, Ross, 2004) and *The FastTrack Overlay: A Measurement Study* (the same,
//! Computer Networks, 2006), which describe the network from outside: FastTrack's own messages were encrypted, were
//! never published, and nobody speaks them any more. So the messages here are this library's, over QUIC and in the
//! simulator; what nodes do with them is the papers'. The numbers are theirs where [`KazaaConfig`] says so.
//!
//! - **An ordinary node** has one super-node. It knows up to 200 of them from refresh lists, which are exchanged
//!   whenever two nodes connect; it probes some, takes the one that is nearest and emptiest, and uploads the name,
//!   size, hashes and description of all that it shares. It passes nothing on.
//! - **A super-node** has an index of what its ordinary nodes share, by words and by hash, and forgets one's items when
//!   it leaves. It knows 30 to 50 other super-nodes, rather near ones, and exchanges one of them every minute, so that
//!   the same question reaches others later.
//! - **A search** is answered from the index of the asker's super-node; if that is not enough, from those of its
//!   neighbours, which answer the super-node that asks and not the one from whom they have it. *Search more* takes it
//!   to another super-node, with neighbours of its own; [`Reach::Auto`](crate::Reach::Auto) does that until there is
//!   enough. By hash it finds all sources of one content.
//! - **Roles** change by [`Promotion`]. Who retires hands its ordinary nodes over, with what they share.
//!
//! What others may cost a node:
//!
//! - Each neighbour has a token bucket, and the questions of all super-nodes together another: ordinary nodes have
//!   theirs apart, so that a flood leaves them what they need. Strangers share a small one.
//! - Nobody says how much it has given to others: there is no participation level to inflate. How full a super-node is
//!   it does say; that weighs no more than as much again as the round-trip time, which is measured.
//! - Refresh lists name those only whom their sender has met, and who is known from them alone is dialled at a bounded
//!   rate. Hits go to nobody who has not asked for them: who answers a stranger's question offers first.
//! - Where nodes have keys ([`Kazaa::with_key`]), a hit names nobody who has not signed that it shares this, and where
//!   it is reached, not long ago: hits in another's name are dropped, and who passes them on is not spoken to. Super-nodes
//!   look at what their own tell them, and at what they hand on. One source gives one search a bounded number of hits.
//! - Now and then a node asks for what cannot be there. Who has it nevertheless, or gives hits that do not match, is
//!   not spoken to for an hour. Who only lies of items that match is not recognised; it has no more room than anybody.
//! - A source that accepts no connections connects to whoever asks its super-node for that, and nowhere else: the
//!   super-node passes on nobody's address but the asker's own, and where nodes have keys the source looks whether the
//!   asker has signed what it wants. A super-node that lies, or asks itself and says that it is elsewhere, turns each of
//!   its own on one host no more often than [`KazaaConfig::push_each`].
//!
//! In this order: [`Kazaa`], how inputs are told apart. Then `config`, `msg` (messages), `known` (refresh
//! lists), `neighbours` (who is connected), `probing` (whom to choose), `roles`, `word` (what nodes sign), `index` (what ordinary
//! nodes share), `passing` (questions of others), `asking` (those of this node's users), `reaching` (connections to sources).

mod asking;
mod config;
mod index;
mod known;
mod msg;
mod neighbours;
mod passing;
mod probing;
mod reaching;
mod roles;
mod word;

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use p2p_core::{Contact, Cx, Down, Keypair, Link, NoJob, OpId, PeerId, Protocol, Time};

use crate::bucket::Bucket;
use crate::place::Place;
use crate::promotion::{Promotion, Role};
use crate::recent::Recent;
use crate::search::{Library, SearchCommand, SearchItem, SearchOutcome, Searcher};

use asking::Searching;
use index::Index;
use known::SuperNodes;
use neighbours::{Account, Kind, Neighbour};
use passing::Asked;
use probing::Probing;
use reaching::Reaching;
use word::Signer;

pub use config::KazaaConfig;
pub use msg::{KazaaMsg, Known, Places, Shared, Source, Wish};
pub use word::Word;

/// What a node has done; an experiment adds them up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KazaaTally {
    /// Questions sent to super-nodes, its own and others'.
    pub queries: u64,
    /// Questions that came for the first time.
    pub reached: u64,
    /// Questions that had come before.
    pub duplicates: u64,
    /// Messages with hits sent, its own and others'.
    pub hits: u64,
    /// Offers of hits.
    pub offers: u64,
    /// Questions for what cannot be there.
    pub decoys: u64,
    /// Those that it has banned.
    pub banned: u64,
    /// Messages that went over a limit, or led nowhere.
    pub dropped: u64,
    /// Hits and items that nobody has signed in whose name they are, and items that it had no time to look at.
    pub disbelieved: u64,
    /// Nodes probed, or asked as a visitor.
    pub dials: u64,
    /// Changes of its role.
    pub changes: u64,
}

/// A node of KaZaA, ordinary or super. It has at most [`KazaaConfig::leaves`] ordinary nodes and
/// [`KazaaConfig::degree`] super-nodes, knows [`KazaaConfig::known`] more, keeps [`KazaaConfig::index`] items of
/// others, and remembers [`KazaaConfig::asked`] and [`KazaaConfig::seen`] searches.
///
/// Its users hold a [`Handle`](p2p_core::Handle), which is a [`Search`](crate::Search):
///
/// ```
/// use futures::StreamExt;
/// use p2p_core::SimPeer;
/// use p2p_core::sim::{Network, Sim};
/// use p2p_overlay::{ContentHash, Item, Kazaa, KazaaConfig, Place, Query, Role, Scope, Search};
/// use std::time::Duration;
///
/// let mut sim = Sim::<Kazaa<SimPeer>>::new(1, Network::default());
/// for i in 0..20 {
///     let role = if i < 4 { Role::Ultrapeer } else { Role::Leaf };
///     sim.spawn(|birth| {
///         let seed = birth.alive.first().and_then(SimPeer::contact);
///         Kazaa::new(birth.peer.contact(), seed, role, KazaaConfig::default())
///     });
/// }
/// sim.run_for(Duration::from_secs(60));
///
/// // Two have the same content, under names of their own.
/// let hash = ContentHash::Blake3([7; 32]);
/// for (peer, name) in [(17, "Blue Monday.mp3"), (18, "new order - blue monday.mp3")] {
///     let there = sim.handle(SimPeer(peer));
///     let item = Item::new(name, 7_000_000).hash(hash);
///     sim.block_on(async move { there.publish(item).await.unwrap() });
/// }
/// let here = sim.handle(SimPeer(7));
/// let sources = sim.block_on(async move {
///     let hits = here.search(Query::content(hash), Scope { hits: 2, ..Scope::default() });
///     hits.collect::<Vec<_>>().await
/// });
/// assert_eq!(sources.len(), 2);
/// ```
pub struct Kazaa<P: Place> {
    config: KazaaConfig,
    /// Where others reach it.
    listen: Option<Contact>,
    started: Time,
    promotion: Promotion,
    /// Where nodes have keys.
    signer: Option<Signer>,
    library: Library,
    /// Of a super-node: what its ordinary nodes share.
    index: Index<P>,
    neighbours: BTreeMap<P, Neighbour>,
    /// Of those who have left, the last 512 at least.
    accounts: Recent<PeerId, Account>,
    seeds: Vec<Contact>,
    nodes: SuperNodes,
    /// Those that are probed to choose among them.
    probing: BTreeMap<P, Probing>,
    /// When it has exchanged a neighbour last, and asked for what cannot be there.
    exchanged: Time,
    lured: Time,
    /// When it has told its super-node last what it shares.
    told: Time,
    /// How far each question that has come was to go.
    seen: Recent<u64, u8>,
    /// Questions that this super-node sees to.
    asked: Recent<u64, Asked<P>>,
    /// To whom it has offered hits.
    offered: Recent<u64, P>,
    /// Whom it has asked for what cannot be there.
    decoys: Recent<u64, P>,
    /// What all super-nodes together have asked, what of that was passed on, what strangers have sent, what visitors
    /// have asked, and to whom this node has connected because its super-node said so.
    passing: Bucket,
    forwards: Bucket,
    strangers: Bucket,
    visits: Bucket,
    pushes: Bucket,
    /// The same of each host, the last 512 at least.
    pushed: Recent<SocketAddr, Bucket>,
    searches: BTreeMap<OpId, Searching<P>>,
    reaches: BTreeMap<OpId, Reaching>,
    /// The number of the last connection it has made.
    number: u64,
    tally: KazaaTally,
}

/// The timers of a node: two, one for each neighbour to be, two for each search and one for each push.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum KazaaTimer<P> {
    /// Time to look after neighbours and the role.
    Upkeep,
    /// Those who were probed have had time to answer.
    Choose,
    /// Somebody has not said whether this node is welcome.
    Join(P),
    /// A search has had its time.
    Search(OpId),
    /// Those who were asked have had time to answer: others are.
    More(OpId),
    /// A source has not connected.
    Reach(OpId),
}

/// What a node says unasked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KazaaEvent<P> {
    /// A neighbour is there.
    Up(P),
    /// A neighbour is gone.
    Down(P),
    /// It has another role from now on.
    Role(Role),
    /// Somebody wants an item and cannot connect: the node has connected to them.
    Sends {
        /// To whom.
        to: P,
        /// The item's name.
        name: String,
    },
}

/// Who a peer is. Those of which nothing follows from the name are all one.
fn id_of<P: Place>(peer: &P) -> PeerId {
    peer.contact().map_or(PeerId::from_bytes([0; 32]), |contact| contact.id)
}

impl<P: Place> Kazaa<P> {
    /// A node that others reach there, if they do, that joins through these and begins in this role. The first of a
    /// network is a super-node, and a super-node has to be reached.
    pub fn new(
        listen: Option<Contact>,
        seeds: impl IntoIterator<Item = Contact>,
        role: Role,
        config: KazaaConfig,
    ) -> Kazaa<P> {
        Kazaa {
            config,
            listen,
            started: Time::ZERO,
            promotion: Promotion::new(role, Time::ZERO, config.promotion),
            signer: None,
            library: Library::new(config.items),
            index: Index::new(config.index),
            neighbours: BTreeMap::new(),
            accounts: Recent::new(1024),
            seeds: seeds.into_iter().collect(),
            nodes: SuperNodes::new(config.known),
            probing: BTreeMap::new(),
            exchanged: Time::ZERO,
            lured: Time::ZERO,
            told: Time::ZERO,
            seen: Recent::new(config.seen),
            asked: Recent::new(config.asked),
            offered: Recent::new(config.asked),
            decoys: Recent::new(64),
            passing: Bucket::default(),
            forwards: Bucket::default(),
            strangers: Bucket::default(),
            visits: Bucket::default(),
            pushes: Bucket::default(),
            pushed: Recent::new(1024),
            searches: BTreeMap::new(),
            reaches: BTreeMap::new(),
            number: 0,
            tally: KazaaTally::default(),
        }
    }

    /// The same in a network of keys: it signs what it shares, and believes no hit whose source has not. `keypair` is
    /// what proves this node's id to others; all nodes of one network have one, or none has.
    pub fn with_key(self, keypair: Keypair) -> Kazaa<P> {
        Kazaa { signer: Some(Signer::new(keypair)), ..self }
    }

    /// The super-nodes it knows, to be saved, and given as seeds to its next run.
    pub fn known(&self) -> impl Iterator<Item = Contact> {
        self.nodes.iter()
    }

    /// What it shares.
    pub fn library(&self) -> &Library {
        &self.library
    }

    /// What it shares, to be changed: programs do so before they start it.
    pub fn library_mut(&mut self) -> &mut Library {
        if let Some(signer) = &mut self.signer {
            signer.forget_all();
        }
        &mut self.library
    }

    /// What it is.
    pub fn role(&self) -> Role {
        self.promotion.role()
    }

    /// The super-node of an ordinary node.
    pub fn parent(&self) -> Option<P> {
        self.up(Kind::Parent).map(|(peer, _)| peer).next()
    }

    /// The super-nodes next to a super-node.
    pub fn super_nodes(&self) -> impl Iterator<Item = P> {
        self.up(Kind::Super).map(|(peer, _)| peer)
    }

    /// The ordinary nodes of a super-node.
    pub fn ordinary_nodes(&self) -> impl Iterator<Item = P> {
        self.up(Kind::Ordinary).map(|(peer, _)| peer)
    }

    /// How many items of an ordinary node's a super-node has in its index.
    pub fn indexed(&self, peer: &P) -> usize {
        self.index.items.count_of(peer)
    }

    /// What it has done.
    pub fn tally(&self) -> KazaaTally {
        self.tally
    }

    /// A new name for who is there.
    fn dial(&mut self, contact: Contact) -> P {
        self.number += 1;
        P::at(contact, self.number)
    }
}

impl<P: Place> Protocol for Kazaa<P> {
    type Peer = P;
    type Msg = KazaaMsg;
    type Timer = KazaaTimer<P>;
    type Command = SearchCommand<P>;
    type Item = SearchItem<P>;
    type Outcome = SearchOutcome<P>;
    type Event = KazaaEvent<P>;
    type Job = NoJob;

    fn on_start(&mut self, cx: &mut Cx<'_, Self>) {
        self.started = cx.now();
        self.exchanged = cx.now();
        self.lured = cx.now();
        self.promotion = Promotion::new(self.role(), cx.now(), self.config.promotion);
        self.look_for_neighbours(cx);
        let first = cx.rng().duration(Duration::ZERO, self.config.upkeep);
        cx.set_timer(first, KazaaTimer::Upkeep);
    }

    fn on_message(&mut self, cx: &mut Cx<'_, Self>, from: P, msg: KazaaMsg) {
        if !self.takes(cx, &from) {
            self.tally.dropped += 1;
            return;
        }
        match msg {
            KazaaMsg::Probe { nonce } => self.on_probe(cx, from, nonce),
            KazaaMsg::Room { nonce, room, neighbour } => self.on_room(cx, from, nonce, room, neighbour),
            KazaaMsg::Join { as_super, listen, digest } => self.on_join(cx, from, as_super, listen, digest),
            KazaaMsg::Welcome { room, entrusted, known } => {
                self.on_welcome(cx, from, room, entrusted, &known);
            }
            KazaaMsg::Refuse { known } => self.on_refuse(cx, from, &known),
            KazaaMsg::Bye { known } => self.on_bye(cx, from, &known),
            KazaaMsg::Share(items) => self.on_share(cx, &from, items),
            KazaaMsg::Unshare(name) => self.on_unshare(&from, &name),
            KazaaMsg::Entrust { who, items } => self.on_entrust(cx, &from, who, items),
            KazaaMsg::Ask { id, query, wanted, ttl } => self.on_ask(cx, from, id, &query, wanted, ttl),
            KazaaMsg::Query { id, origin, query, ttl } => self.on_query(cx, from, id, origin, &query, ttl),
            KazaaMsg::Offer { id, hits } => self.on_offer(cx, from, id, hits),
            KazaaMsg::Results { id, via, hits } => self.on_results(cx, from, id, via, hits),
            KazaaMsg::Push { source, wish } => self.on_push(cx, from, source, wish),
            KazaaMsg::Unreached { nonce } => self.on_unreached(cx, nonce),
            KazaaMsg::Dial(wish) => self.on_dial(cx, &from, wish),
            KazaaMsg::Give { nonce } => self.on_give(cx, from, nonce),
        }
    }

    fn on_timer(&mut self, cx: &mut Cx<'_, Self>, timer: Self::Timer) {
        match timer {
            KazaaTimer::Upkeep => self.upkeep(cx),
            KazaaTimer::Choose => self.choose(cx),
            KazaaTimer::Join(peer) => self.not_welcomed(cx, peer),
            KazaaTimer::Search(op) => self.too_late(cx, op),
            KazaaTimer::More(op) => self.search_more(cx, op),
            KazaaTimer::Reach(op) => self.not_reached(cx, op),
        }
    }

    fn on_command(&mut self, cx: &mut Cx<'_, Self>, op: OpId, command: Self::Command) {
        match command {
            SearchCommand::Publish(item) => self.publish(cx, op, item),
            SearchCommand::Unpublish(name) => self.unpublish(cx, op, name),
            SearchCommand::Search(query, scope) => self.begin_search(cx, op, query, scope),
            SearchCommand::Reach(hit) => self.begin_reach(cx, op, &hit),
        }
    }

    fn on_cancel(&mut self, cx: &mut Cx<'_, Self>, op: OpId) {
        self.forget_search(cx, op);
        self.forget_reach(cx, op);
    }

    fn on_link(&mut self, cx: &mut Cx<'_, Self>, peer: P, link: Link) {
        if let Link::Down(why) = link {
            // A connection that only rests comes back with the next message.
            if why != Down::Idle {
                self.unprobed(&peer);
                self.lost(cx, peer);
            }
        }
    }
}

impl<P: Place> Searcher for Kazaa<P> {
    fn command(command: SearchCommand<P>) -> SearchCommand<P> {
        command
    }
    fn outcome(outcome: SearchOutcome<P>) -> Option<SearchOutcome<P>> {
        Some(outcome)
    }
}

impl<P: Place> fmt::Debug for Kazaa<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Kazaa({:?}, {} neighbours)", self.role(), self.neighbours.len())
    }
}

#[cfg(test)]
mod attacks;
#[cfg(test)]
mod tests;
