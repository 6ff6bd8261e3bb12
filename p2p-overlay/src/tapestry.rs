//! Tapestry: routing digit by digit to the root of a key, with neighbours chosen by their distance in the network.
//!
//! Zhao, Huang, Stribling, Rhea, Joseph, Kubiatowicz, *Tapestry: a resilient global-scale overlay for service
//! deployment* (IEEE JSAC 22(1), 2004), with the insertion of Hildrum, Kubiatowicz, Rao, Zhao, *Distributed object
//! location in a dynamic network* (SPAA 2002).
//!
//! A key has 64 digits in base 16. At each level the next digit is resolved; where nobody has it, the next digit that
//! somebody has takes its place (surrogate routing, JSAC §II-B). So the root of a key is the node whose digits are the
//! fewest steps after the key's, the first digit first, and all agree on it as long as a slot is empty only if nobody
//! belongs in it (SPAA §2.2, Property 1). Whoever leaves does so without a word, as if it had died; voluntary deletion
//! (JSAC §III-C) is not built.
//!
//! In this order: [`Tapestry`] and its configuration, what the tables say about a key; in `levels` the tables, in
//! `join` how a node joins, in `multicast` how all who need it hear of it, in `upkeep` how it keeps its tables, in
//! `protocol` what comes in. `converged` computes the tables of a whole network, for experiments that start at rest; `whole` says what holds of one. On top of it are
//! [`Locate`] and [`TapestryObjects`], in `objects`.

mod converged;
mod join;
mod levels;
mod multicast;
mod objects;
mod protocol;
mod simulated;
mod upkeep;
mod whole;

use std::sync::Arc;
use std::time::Duration;

use p2p_core::{Key, Keyed, Pending, Time};
use serde::{Deserialize, Serialize};

use crate::doors::Doors;
use crate::lookup::LookupConfig;
use crate::routed::Routed;
use crate::structured::{Next, Overlay, Region, Replicas, SingleRoot};
use crate::subnets::SubnetLimits;

use levels::Levels;
use multicast::Multicast;
use protocol::TapestryTimer;
use upkeep::Asked;

pub use objects::{
    Locate, LocateError, LocateObject, Located, ObjectCommand, ObjectConfig, ObjectMsg, ObjectOutcome,
    PublishError, PublishObject, TapestryObjects, UnpublishObject,
};

/// A Tapestry node: a [`Protocol`](p2p_core::Protocol) and an [`Overlay`](crate::Overlay).
///
/// Two nodes form a network and find the root of a key:
///
/// ```
/// use p2p_core::sim::{Network, Sim};
/// use p2p_core::{Key, SimPeer};
/// use p2p_overlay::{Find, Lookup, Tapestry};
/// use std::time::Duration;
///
/// let mut sim = Sim::<Tapestry<SimPeer>>::new(1, Network::default());
/// let first = sim.spawn(|birth| Tapestry::create(birth.peer));
/// let second = sim.spawn(|birth| Tapestry::join(birth.peer, [first]));
/// sim.run_for(Duration::from_secs(10));
///
/// let (a, b) = (sim.handle(first), sim.handle(second));
/// let find = Find::key(Key::of(b"song.ogg"));
/// let found = sim.block_on(async { (a.lookup(find).await, b.lookup(find).await) });
/// assert_eq!(found.0.unwrap().root(), found.1.unwrap().root());
/// ```
pub type Tapestry<P> = Routed<TapestryTable<P>>;

impl<P: Keyed> Tapestry<P> {
    /// A node that starts a network of its own, for others to join.
    pub fn create(me: P) -> Tapestry<P> {
        Tapestry::with(me, [], TapestryConfig::default())
    }

    /// A node that joins the network of any of these peers, and tries again until it has.
    pub fn join(me: P, seeds: impl IntoIterator<Item = P>) -> Tapestry<P> {
        Tapestry::with(me, seeds, TapestryConfig::default())
    }

    /// A node with a configuration of its own; without seeds it starts a network.
    pub fn with(me: P, seeds: impl IntoIterator<Item = P>, config: TapestryConfig) -> Tapestry<P> {
        Routed::new(TapestryTable::new(me, seeds, config), config.lookup)
    }
}

impl<P: Keyed> SingleRoot for Tapestry<P> {
    fn next_if_claimed(&self, key: &Key, avoid: &[P]) -> Next<P> {
        self.next(key, avoid)
    }
}

/// How a Tapestry node behaves. Digits have 4 bits, and a slot keeps a primary and two backups (JSAC §III-B).
#[derive(Clone, Copy, Debug)]
pub struct TapestryConfig {
    /// A node looks after its table this often on average, each time after half to one and a half of it: it compares a
    /// level with a neighbour, fills holes, and asks who was silent. 10 s. Zero: never, the table stays as it is, dead
    /// entries too: for experiments on a network at rest.
    pub upkeep: Duration,
    /// Every neighbour is asked once in so long whether it lives, and how far it is (JSAC §III-B's soft-state beacons).
    /// 20 s.
    pub probe: Duration,
    /// How many of its nearest neighbours a newcomer asks at each level for theirs, k (SPAA §4: O(log N)). 8.
    pub nearest: usize,
    /// How many peers of one subnet are neighbours, in all and at each level. No bound; where strangers may join,
    /// [`SubnetLimits::default`]. One that is too many is taken into a slot in which nobody else is, until somebody
    /// comes: were it left empty, nodes would not agree on roots. Backpointers are whoever points here.
    pub subnets: Option<SubnetLimits>,
    /// How lookups behave; the upkeep's questions have the same timeout, an insertion that of a whole lookup.
    pub lookup: LookupConfig,
}

impl Default for TapestryConfig {
    fn default() -> TapestryConfig {
        TapestryConfig {
            upkeep: Duration::from_secs(10),
            probe: Duration::from_secs(20),
            nearest: 8,
            subnets: None,
            lookup: LookupConfig::default(),
        }
    }
}

/// The most backpointers that are kept, and the most peers that greet a newcomer.
const MAX_BACKPOINTERS: usize = 256;
/// The most peers in one message.
const MAX_PEERS: usize = 128;
/// The most questions of the upkeep at a time. Whom others name, and newcomers of whom others tell, take no more than
/// half of them.
const MAX_ASKED: usize = 1024;

/// What a Tapestry node knows: three neighbours in each of the 15 slots of at most 64 levels, 256 backpointers, at
/// most 64 newcomers of whom it is spreading the word, and up to 48 peers through whom it finds back.
#[derive(Clone, Debug)]
pub struct TapestryTable<P> {
    me: P,
    key: Key,
    joined: bool,
    levels: Levels<P>,
    back: Vec<Back<P>>,
    /// Has found its surrogate, and is joining.
    entering: Option<Entering<P>>,
    /// The newcomers of whom this node is spreading the word.
    multicasts: Vec<Multicast<P>>,
    next_multicast: u32,
    /// Levels in which a slot has been emptied by a death: whoever shares as many digits may know who belongs there.
    holes: u64,
    /// The level at which a newcomer looks for nearer neighbours next.
    descent: Option<u8>,
    /// The neighbour that is asked next whether it lives.
    probed: usize,
    /// Questions of the upkeep; at most [`MAX_ASKED`].
    asked: Pending<P, Asked>,
    /// When the timer for late answers fires.
    late: Option<Time>,
    doors: Doors<P>,
    /// Shared where many nodes are configured alike.
    config: Arc<TapestryConfig>,
}

/// A peer that has this node in its table.
#[derive(Clone, Copy, Debug)]
struct Back<P> {
    peer: P,
    /// When it last said so, in seconds.
    seen: u32,
    /// How many digits both share.
    shared: u8,
}

/// A node that has found its surrogate.
#[derive(Clone, Debug)]
struct Entering<P> {
    /// Everybody who needs to has heard of it: it waits until then for those it was told of.
    spread: Option<Time>,
    /// Who has said so. At most [`MAX_BACKPOINTERS`].
    greeters: Vec<P>,
}

/// What Tapestry nodes say to keep their tables.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum TapestryMsg<P> {
    /// To a neighbour, or a peer that might become one: are you alive? Answered by [`TapestryMsg::Pong`]. From a node
    /// that has joined it is a backpointer too.
    Ping {
        /// Numbers the question.
        id: u32,
        /// The sender takes part.
        joined: bool,
    },
    /// It is.
    Pong {
        /// The number of the question.
        id: u32,
        /// The sender takes part.
        joined: bool,
    },
    /// To whoever shares `from` digits or more with the sender: whom do you know at these levels? Answered by
    /// [`TapestryMsg::Rows`] by those that have joined.
    GetRows {
        /// Numbers the question.
        id: u32,
        /// The first level.
        from: u8,
        /// The last.
        upto: u8,
    },
    /// Two neighbours of each slot; of one level alone, backpointers too.
    Rows {
        /// The number of the question.
        id: u32,
        /// They.
        peers: Vec<P>,
    },
    /// From a newcomer to its surrogate: make me known to all who need me. Answered by [`TapestryMsg::Inserted`].
    Insert {
        /// Numbers the question.
        id: u32,
    },
    /// To a newcomer: it is done; or the newcomer has to look for its surrogate again.
    Inserted {
        /// The number of the question.
        id: u32,
        /// It is done.
        done: bool,
    },
    /// The acknowledged multicast of SPAA §3, to one of each group that shares one digit more: there is a newcomer.
    /// Answered by [`TapestryMsg::Acknowledge`], when all to whom the word is passed on have answered.
    Multicast {
        /// Numbers the question.
        id: u32,
        /// Who.
        newcomer: P,
        /// Whoever shares this many digits with the newcomer is to hear of it.
        shared: u8,
        /// The receiver passes it on at this level and those after it.
        level: u8,
        /// After this many of its timeouts the sender wants an answer, whether all have answered or not.
        patience: u8,
    },
    /// All who could be reached have heard of the newcomer.
    Acknowledge {
        /// The number of the question.
        id: u32,
    },
    /// To a newcomer, from everybody who hears of it: the sender, and other newcomers that it knows of. Of two nodes
    /// that join at once, whoever is heard of second hears of the first. Not answered.
    Welcome {
        /// Newcomers that share as many digits.
        peers: Vec<P>,
    },
}

impl<P: Keyed> TapestryTable<P> {
    /// The tables of a node that has not joined yet; without seeds, of the only node of a new network.
    pub fn new(
        me: P,
        seeds: impl IntoIterator<Item = P>,
        config: impl Into<Arc<TapestryConfig>>,
    ) -> TapestryTable<P> {
        let doors = Doors::new(me, seeds);
        let config: Arc<TapestryConfig> = config.into();
        let key = me.key();
        TapestryTable {
            me,
            key,
            joined: doors.is_founder(),
            levels: Levels::new(key, config.subnets),
            back: Vec::new(),
            entering: None,
            multicasts: Vec::new(),
            next_multicast: 0,
            holes: 0,
            descent: None,
            probed: 0,
            asked: Pending::with_capacity(MAX_ASKED),
            late: None,
            doors,
            config,
        }
    }

    /// Where this node stands.
    pub fn key(&self) -> Key {
        self.key
    }

    /// The neighbours that have joined, by level and digit; of each slot the primary first.
    pub fn neighbours(&self) -> impl Iterator<Item = P> {
        self.levels.all().iter().filter(|other| other.joined).map(|other| other.peer)
    }

    /// The neighbours whose first `level` digits are this node's and whose next is `digit`, in base 16; the primary
    /// first.
    pub fn slot(&self, level: usize, digit: u8) -> impl Iterator<Item = P> {
        self.levels.slot(level, digit).iter().filter(|other| other.joined).map(|other| other.peer)
    }

    /// The round trip to a neighbour, once it has been measured.
    pub fn rtt(&self, peer: P) -> Option<Duration> {
        self.levels.find(peer)?.proximity.rtt()
    }

    /// How long a peer has to answer.
    pub(crate) fn hop_timeout(&self) -> Duration {
        self.config.lookup.hop_timeout
    }

    /// Who has this node in its table, as far as that is known.
    pub fn backpointers(&self) -> impl ExactSizeIterator<Item = P> {
        self.back.iter().map(|back| back.peer)
    }

    /// The best next hop. Each resolves a digit more, or has a digit that comes sooner after the key's: no way leads in
    /// a circle.
    fn next_hop(&self, key: &Key, avoid: &[P]) -> Next<P> {
        if !self.joined {
            return Next::Nowhere;
        }
        self.levels.nearer(key, avoid).next().map_or(Next::Mine, |next| Next::Toward(next.peer))
    }

    /// Up to `n` neighbours that are nearer to a key, the nearest first.
    fn nearest(&self, key: &Key, n: usize, avoid: &[P]) -> Vec<P> {
        self.levels.nearer(key, avoid).take(n).map(|other| other.peer).collect()
    }

    /// An object has several roots: those of its key, and of its key with a salt (JSAC §II-A).
    fn replica_set(key: &Key, n: usize) -> Replicas<P> {
        Replicas::at_salted(key, n)
    }

    fn region(&self) -> Region {
        match self.joined {
            true => Region::Digits(self.levels.taken()),
            false => Region::Nothing,
        }
    }
}

/// How far a key is from another, by its digits: how many steps each comes after the other's, the first digit first.
fn digits_after(of: &Key, key: &Key) -> Key {
    let mut steps = [0; 32];
    for (out, (a, b)) in steps.iter_mut().zip(of.as_bytes().iter().zip(key.as_bytes())) {
        *out = a.wrapping_sub(b & 0xf0) & 0xf0 | a.wrapping_sub(b & 0x0f) & 0x0f;
    }
    Key::new(steps)
}

#[cfg(test)]
mod tests;
