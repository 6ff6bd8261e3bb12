//! The DHT of BitTorrent, "Mainline": the largest there is.
//!
//! [`Mainline`] is a node of it: KRPC over UDP (BEP 5), IPv4 and IPv6 (BEP 32), ids bound to addresses (BEP 42), read-only
//! nodes (BEP 43), items (BEP 44) and samples (BEP 51). Its peers are addresses, and it runs on the plain UDP driver
//! of `p2p-core` with [`KrpcCodec`] and [`MainlineConfig::live`], or in the simulator. There is no default bootstrap host:
//! the caller names one.
//!
//! In the order of a question's life: `krpc` is what packets say, `asked` the questions that wait, `table` who is known
//! to be there. A user's command becomes a `task` of lookups (`seek`, `lookup`), which end when they have gone far enough
//! (`size`), and then of writes. `serve` answers others, within what `sources` lets them cost; `token` is what they
//! must show to write into `store`, `secret` what it is made from. `upkeep` joins, refreshes, publishes again, and learns this node's own address.
//!
//! ```
//! use p2p_core::SimPeer;
//! use p2p_core::sim::{Network, Sim};
//! use p2p_dht::mainline::{Announce, Endpoint, GetPeers, Mainline, MainlineConfig};
//!
//! let mut sim = Sim::<Mainline<SimPeer>>::new(1, Network::default());
//! let first = sim.spawn(|_| Mainline::new(MainlineConfig::default()));
//! for _ in 0..20 {
//!     let bootstrap = vec![first.addr()];
//!     sim.spawn(|_| Mainline::new(MainlineConfig { bootstrap, ..MainlineConfig::default() }));
//! }
//! // They join, learn their addresses from each other, and take ids that those allow.
//! sim.run_for(std::time::Duration::from_secs(60));
//! let (seeder, leecher) = (sim.handle(SimPeer(5)), sim.handle(SimPeer(17)));
//! let torrent = p2p_core::Key::new([7; 20]);
//! let peers = sim.block_on(async move {
//!     seeder.ask(Announce { info_hash: torrent, port: Some(51413) }).await.unwrap().unwrap();
//!     leecher.ask(GetPeers(torrent)).await.unwrap().unwrap()
//! });
//! assert_eq!(peers, [std::net::SocketAddr::new(SimPeer(5).addr().ip(), 51413)]);
//! ```

mod asked;
mod handle;
mod id;
mod item;
mod krpc;
mod lookup;
pub mod measure;
mod request;
mod saved;
mod secret;
mod seek;
mod serve;
mod size;
mod sources;
mod store;
mod table;
mod task;
mod token;
mod upkeep;
mod votes;

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use p2p_core::{Cx, Key, NoJob, OpId, Peer, Protocol, SimPeer, Time};
use p2p_overlay::SubnetLimits;

pub use id::{is_secure_id, secure_id};
pub use item::{InvalidItem, MAX_ITEM, MAX_ITEM_SALT, MutableItem, target_of};
pub use krpc::{KrpcBody, KrpcCodec, KrpcMsg, Node, PutItem, Query, Response, Samples, Want};
pub use request::{
    Announce, FindNode, GetImmutable, GetMutable, GetPeers, KnowNode, MainlineCommand, MainlineError,
    MainlineItem, MainlineOutcome, PutImmutable, PutMutable, Refused, SampleInfohashes, Save, Status,
    StatusReport, StoredAt, Unpublish,
};
pub use saved::SavedTable;
pub use secret::Secret;
pub use store::StoreLimits;

use asked::{Asked, Lapsed};
use lookup::{Lookup, State};
use size::Sizes;
use sources::Sources;
use store::Store;
use table::Table;
use task::Task;
use token::Tokens;
use upkeep::Published;
use votes::Votes;

/// A peer of this network: an address.
pub trait Endpoint: Peer {
    /// Where it is. An IPv4 address is never written as one of IPv6.
    fn addr(&self) -> SocketAddr;
    /// The peer at an address.
    fn at(addr: SocketAddr) -> Self;
}

impl Endpoint for SocketAddr {
    fn addr(&self) -> SocketAddr {
        SocketAddr::new(self.ip().to_canonical(), self.port())
    }
    fn at(addr: SocketAddr) -> SocketAddr {
        addr
    }
}

/// Each simulated peer has an IPv4 address in a subnet of its own, in the public part of the address space.
impl Endpoint for SimPeer {
    fn addr(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::from_bits(0x1000_0001_u32.wrapping_add(self.0 << 8)), 6881))
    }
    fn at(addr: SocketAddr) -> SimPeer {
        match addr.ip() {
            IpAddr::V4(ip) => SimPeer(ip.to_bits().wrapping_sub(0x1000_0001) >> 8),
            IpAddr::V6(_) => SimPeer(u32::MAX),
        }
    }
}

/// What a node does, and its bounds.
#[derive(Clone, Debug)]
pub struct MainlineConfig {
    /// Takes part in IPv4's network. Yes.
    pub ipv4: bool,
    /// Takes part in IPv6's network. No. With both, the socket is one of IPv6 that takes IPv4 too (`[::]`).
    pub ipv6: bool,
    /// Nodes to join through. None: whoever comes first waits for others.
    pub bootstrap: Vec<SocketAddr>,
    /// What was saved before: see [`Save`]. Nothing.
    pub saved: Option<SavedTable>,
    /// Asks, but answers nobody (BEP 43): for nodes that others cannot reach. No.
    pub read_only: bool,
    /// Whether nodes whose id is not bound to their address are neither written to nor counted (BEP 42). Yes.
    pub enforce_ids: bool,
    /// Whether lookups go on until they are as far from their key as the eighth nearest to other keys is, and in as many
    /// subnets: whoever crowds around a key is nearer. Yes.
    pub cover: bool,
    /// This node's address as others see it, if that is known; else they are asked. Unknown.
    pub external: Option<IpAddr>,
    /// Where this node's BitTorrent client listens, for what is announced through [`Dht`](crate::Dht). The port of this
    /// node's own socket.
    pub port: Option<u16>,
    /// Nodes that a lookup asks at a time. 4.
    pub parallel: usize,
    /// How long a lookup waits for a node before it asks another one beside it. 1 s.
    pub patience: Duration,
    /// How long an answer may take. 4 s.
    pub timeout: Duration,
    /// How many nodes of one subnet the routing table takes; nodes in private networks are not counted. As the default
    /// of [`SubnetLimits`], and one node per address.
    pub subnets: Option<SubnetLimits>,
    /// What is kept for others.
    pub store: StoreLimits,
    /// How often what this node announces is announced again. 15 minutes.
    pub announce_every: Duration,
    /// How often what this node has put is put again (BEP 44). 1 hour.
    pub put_every: Duration,
    /// How much this node publishes at once. 1,000.
    pub published: usize,
    /// What users may have under way at once. 256.
    pub tasks: usize,
    /// What this program calls itself, in each message (BEP 20).
    pub version: Option<[u8; 4]>,
    /// What others must not guess is made from this: the tokens that they show to write here, and the numbers of this node's
    /// questions. None: from the machine's own random source, as simulations need it, which live can be searched for. A
    /// live program takes [`MainlineConfig::live`].
    pub secret: Option<Secret>,
}

impl MainlineConfig {
    /// The default, with a [`Secret`] from the operating system: for each node that strangers can reach.
    ///
    /// # Panics
    /// If the operating system has no random numbers to give.
    pub fn live() -> MainlineConfig {
        MainlineConfig { secret: Some(Secret::generate()), ..MainlineConfig::default() }
    }
}

impl Default for MainlineConfig {
    fn default() -> MainlineConfig {
        MainlineConfig {
            ipv4: true,
            ipv6: false,
            bootstrap: Vec::new(),
            saved: None,
            read_only: false,
            enforce_ids: true,
            cover: true,
            external: None,
            port: None,
            parallel: 4,
            patience: Duration::from_secs(1),
            timeout: Duration::from_secs(4),
            subnets: Some(SubnetLimits::default()),
            store: StoreLimits::default(),
            announce_every: Duration::from_secs(15 * 60),
            put_every: Duration::from_secs(3600),
            published: 1000,
            tasks: 256,
            version: Some(*b"p2\0\x01"),
            secret: None,
        }
    }
}

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum MainlineTimer {
    /// A question is late, or over.
    Questions,
    /// Every minute: see `upkeep`.
    Upkeep,
}

/// What a node says unasked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MainlineEvent {
    /// It has found nodes, in IPv4's network or in IPv6's.
    Joined {
        /// IPv6's.
        v6: bool,
    },
    /// Others agree on this node's address; it has an id now that is bound to it (BEP 42).
    Address {
        /// Which.
        ip: IpAddr,
        /// The id.
        id: Key<20>,
    },
}

/// What a question is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Question {
    /// To see whether somebody is there.
    Ping,
    /// A lookup's.
    Lookup(u64),
    /// A task's, that something be stored.
    Store(u64),
    /// A user's, for samples.
    Sample(OpId),
}

/// One of the two networks.
#[derive(Clone, Debug)]
struct Side<P> {
    table: Table<P>,
    sizes: Sizes,
    votes: Votes,
    external: Option<IpAddr>,
    joined: bool,
    /// When this node's own id was last looked up.
    sought: Option<Time>,
}

/// A node of the Mainline DHT: see the [module](self).
pub struct Mainline<P: Endpoint> {
    config: MainlineConfig,
    /// IPv4's network and IPv6's, once it has started.
    sides: [Option<Side<P>>; 2],
    tokens: Option<Tokens>,
    store: Store,
    sources: Sources,
    asked: Asked<P, Question>,
    /// When the timer for questions goes off.
    armed: Option<Time>,
    lookups: BTreeMap<u64, Lookup<P>>,
    tasks: BTreeMap<u64, Task>,
    published: BTreeMap<Key<20>, Published>,
    last: u64,
}

impl<P: Endpoint> Mainline<P> {
    /// A node.
    pub fn new(config: MainlineConfig) -> Mainline<P> {
        Mainline {
            sides: [None, None],
            tokens: None,
            store: Store::new(config.store),
            sources: Sources::default(),
            // Nobody is asked before the start, which has the secret.
            asked: Asked::new(&Secret::new([0; 32])),
            armed: None,
            lookups: BTreeMap::new(),
            tasks: BTreeMap::new(),
            published: BTreeMap::new(),
            last: 0,
            config,
        }
    }

    /// This node's id in IPv4's network, or in IPv6's; `None` before it has started, or if it is not there.
    pub fn id(&self, v6: bool) -> Option<Key<20>> {
        self.side(v6).map(|side| side.table.me())
    }

    /// How many nodes are in the routing table of IPv4's network, or of IPv6's.
    pub fn known(&self, v6: bool) -> usize {
        self.side(v6).map_or(0, |side| side.table.len())
    }

    fn side(&self, v6: bool) -> Option<&Side<P>> {
        self.sides[usize::from(v6)].as_ref()
    }

    fn side_mut(&mut self, v6: bool) -> Option<&mut Side<P>> {
        self.sides[usize::from(v6)].as_mut()
    }

    /// Whom to send to, to reach an address: a socket for both networks knows IPv4's by their names in IPv6.
    fn peer_at(&self, addr: SocketAddr) -> P {
        match addr {
            SocketAddr::V4(v4) if self.config.ipv6 => {
                P::at(SocketAddr::new(v4.ip().to_ipv6_mapped().into(), v4.port()))
            }
            addr => P::at(addr),
        }
    }

    fn next_number(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    /// Asks somebody something; says whether the question is on its way.
    fn ask(&mut self, cx: &mut Cx<'_, Self>, to: P, query: Query, question: Question) -> bool {
        let Some(id) = self.id(to.addr().is_ipv6()) else { return false };
        let patience = (self.config.patience, self.config.timeout);
        let now = cx.now();
        let Some(number) = self.asked.insert(now, patience, to, question) else { return false };
        let body = KrpcBody::Query { id, read_only: self.config.read_only, query };
        let transaction = Bytes::copy_from_slice(&number.to_be_bytes());
        cx.send(to, KrpcMsg { transaction, version: self.config.version, ip: None, body });
        self.arm(cx);
        true
    }

    /// Sets the timer for questions, if it does not go off early enough.
    fn arm(&mut self, cx: &mut Cx<'_, Self>) {
        if let Some(due) = self.asked.next_due().filter(|due| self.armed.is_none_or(|armed| *due < armed)) {
            self.armed = Some(due);
            cx.set_timer(due - cx.now(), MainlineTimer::Questions);
        }
    }

    fn on_response(&mut self, cx: &mut Cx<'_, Self>, from: P, msg: &KrpcMsg, response: &Response) {
        let Some(question) = number_of(msg).and_then(|number| self.asked.answer(number, from)) else {
            return;
        };
        let (now, addr) = (cx.now(), from.addr());
        let Some(side) = self.side_mut(addr.is_ipv6()) else { return };
        if response.id != side.table.me() {
            side.table.answered(now, response.id, from, addr);
        }
        if let Some(ip) = msg.ip {
            self.on_vote(cx, addr, ip.ip());
        }
        match question {
            Question::Ping => {}
            Question::Lookup(lookup) => self.on_found(cx, lookup, from, response),
            Question::Store(task) => self.on_stored(cx, task, Ok(())),
            Question::Sample(op) => self.on_sampled(cx, op, response),
        }
        self.announce_joining(cx, addr.is_ipv6());
    }

    fn on_error(&mut self, cx: &mut Cx<'_, Self>, from: P, msg: &KrpcMsg, code: i64, text: &str) {
        let Some(question) = number_of(msg).and_then(|number| self.asked.answer(number, from)) else {
            return;
        };
        match question {
            Question::Ping => {}
            Question::Lookup(lookup) => self.on_silent(cx, lookup, from, State::Silent),
            Question::Store(task) => {
                self.on_stored(cx, task, Err(Some(Refused { code, text: text.to_owned() })));
            }
            Question::Sample(op) => cx.finish(op, MainlineOutcome::Samples(Err(MainlineError::NoAnswer))),
        }
    }

    fn on_questions_due(&mut self, cx: &mut Cx<'_, Self>) {
        self.armed = None;
        while let Some(lapsed) = self.asked.lapse(cx.now()) {
            match lapsed {
                Lapsed::Late(peer, Question::Lookup(lookup)) => {
                    self.on_silent(cx, lookup, peer, State::Late);
                }
                Lapsed::Late(..) => {}
                Lapsed::Dead(peer, question) => {
                    if let Some(side) = self.side_mut(peer.addr().is_ipv6()) {
                        side.table.silent(peer);
                    }
                    match question {
                        Question::Ping => {}
                        Question::Lookup(lookup) => self.on_silent(cx, lookup, peer, State::Silent),
                        Question::Store(task) => self.on_stored(cx, task, Err(None)),
                        Question::Sample(op) => {
                            cx.finish(op, MainlineOutcome::Samples(Err(MainlineError::NoAnswer)));
                        }
                    }
                }
            }
        }
        self.arm(cx);
    }
}

/// The number of the question that a message answers.
fn number_of(msg: &KrpcMsg) -> Option<u32> {
    Some(u32::from_be_bytes(msg.transaction.as_ref().try_into().ok()?))
}

impl<P: Endpoint> Protocol for Mainline<P> {
    type Peer = P;
    type Msg = KrpcMsg;
    type Timer = MainlineTimer;
    type Command = MainlineCommand;
    type Item = MainlineItem;
    type Outcome = MainlineOutcome;
    type Event = MainlineEvent;
    type Job = NoJob;

    fn on_start(&mut self, cx: &mut Cx<'_, Self>) {
        self.start(cx);
    }

    fn on_message(&mut self, cx: &mut Cx<'_, Self>, from: P, msg: KrpcMsg) {
        match &msg.body {
            KrpcBody::Query { id, read_only, query } => {
                self.on_query(cx, from, &msg, *id, *read_only, query.clone());
            }
            KrpcBody::Response(response) => self.on_response(cx, from, &msg, response),
            KrpcBody::Error { code, text } => self.on_error(cx, from, &msg, *code, text),
        }
    }

    fn on_timer(&mut self, cx: &mut Cx<'_, Self>, timer: MainlineTimer) {
        match timer {
            MainlineTimer::Questions => self.on_questions_due(cx),
            MainlineTimer::Upkeep => self.upkeep(cx),
        }
    }

    fn on_command(&mut self, cx: &mut Cx<'_, Self>, op: OpId, command: MainlineCommand) {
        self.command(cx, op, command);
    }

    fn on_cancel(&mut self, _: &mut Cx<'_, Self>, op: OpId) {
        self.cancel(op);
    }
}

impl<P: Endpoint> fmt::Debug for Mainline<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Mainline({:?}, {} nodes)",
            self.id(false).or(self.id(true)),
            self.known(false) + self.known(true)
        )
    }
}

#[cfg(test)]
mod tests;
