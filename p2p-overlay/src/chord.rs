//! Chord: a ring on which each key belongs to the first node at or after it.
//!
//! Stoica et al., *Chord: a scalable peer-to-peer lookup protocol for internet applications* (IEEE/ACM ToN 11(1),
//! 2003), with the join, stabilise and rectify operations of Zave, *How to make Chord correct* (2015) and
//! *Reasoning about identifier spaces* (IEEE TSE 2017): the protocol as first published can lose its ring.
//! Whoever leaves does so without a word, as if it had died; voluntary departures (ToN §IV-E) are not built.
//!
//! In this order: [`Chord`] and its configuration, what the tables say about a key; in `ring` lists of peers, in `join`
//! and `upkeep` how the tables are kept, in `protocol` what comes in. `virtuals` lets a host run several nodes. `converged` computes the tables of a
//! whole ring directly, for experiments that start from a network at rest; `whole` says what holds of one.

mod converged;
mod join;
mod protocol;
mod ring;
mod simulated;
mod upkeep;
mod virtuals;
mod whole;

use std::sync::Arc;
use std::time::Duration;

use p2p_core::{Key, Keyed, Pending};
use serde::{Deserialize, Serialize};

use crate::doors::Doors;
use crate::lookup::LookupConfig;
use crate::routed::Routed;
use crate::structured::{Maintenance, Next, Region, Replicas, SingleRoot};
use crate::subnets::SubnetLimits;

use crate::spot::{self, Clockwise};

use upkeep::Question;

pub use virtuals::{MAX_VIRTUAL, Virtual, VirtualChord, VirtualMsg};

/// A peer and how far it is clockwise.
type Spot<P> = spot::Spot<P, Clockwise>;

/// A Chord node: a [`Protocol`](p2p_core::Protocol) and an [`Overlay`](crate::Overlay).
///
/// Two nodes form a ring and find the owner of a key:
///
/// ```
/// use p2p_core::sim::{Network, Sim};
/// use p2p_core::{Key, SimPeer};
/// use p2p_overlay::{Chord, Find, Lookup};
/// use std::time::Duration;
///
/// let mut sim = Sim::<Chord<SimPeer>>::new(1, Network::default());
/// let first = sim.spawn(|birth| Chord::create(birth.peer));
/// let second = sim.spawn(|birth| Chord::join(birth.peer, [first]));
/// sim.run_for(Duration::from_secs(120));
///
/// let (a, b) = (sim.handle(first), sim.handle(second));
/// let find = Find::key(Key::of(b"song.ogg"));
/// let found = sim.block_on(async { (a.lookup(find).await, b.lookup(find).await) });
/// assert_eq!(found.0.unwrap().root(), found.1.unwrap().root());
/// ```
pub type Chord<P> = Routed<ChordTable<P>>;

impl<P: Keyed> Chord<P> {
    /// A node that starts a ring of its own, for others to join.
    pub fn create(me: P) -> Chord<P> {
        Chord::with(me, [], ChordConfig::default())
    }

    /// A node that joins the ring of any of these peers, and tries again until it has.
    pub fn join(me: P, seeds: impl IntoIterator<Item = P>) -> Chord<P> {
        Chord::with(me, seeds, ChordConfig::default())
    }

    /// A node with a configuration of its own; without seeds it starts a ring.
    pub fn with(me: P, seeds: impl IntoIterator<Item = P>, config: ChordConfig) -> Chord<P> {
        Routed::new(ChordTable::new(me, seeds, config), config.lookup)
    }
}

impl<P: Keyed> SingleRoot for Chord<P> {
    fn next_if_claimed(&self, key: &Key, avoid: &[P]) -> Next<P> {
        self.table().next(key, avoid, true)
    }
}

/// How a Chord node behaves.
#[derive(Clone, Copy, Debug)]
pub struct ChordConfig {
    /// How many successors a node keeps, r (ToN §IV-E3: 2·log2 N withstands half of all nodes failing). 16, at most
    /// 32.
    pub successors: usize,
    /// A node stabilises this often on average; each time after half to one and a half of it (ToN §VI-E: U(15, 45)
    /// seconds). 30 s. Zero: never, the tables stay as they are, dead entries too: for experiments on a ring at rest.
    pub stabilize: Duration,
    /// How many fingers are looked up again each time a node stabilises. 1.
    pub fingers: usize,
    /// How many peers of one subnet are fingers, by [`SubnetLimits::group`]: they are as few as a row. No bound; where
    /// strangers may join, [`SubnetLimits::default`]. One that would be too many gives way to one of those that follow
    /// it. Predecessors and successors are whoever stands there, or two nodes would take one key for theirs.
    pub subnets: Option<SubnetLimits>,
    /// How lookups behave; the upkeep's questions have the same timeout.
    pub lookup: LookupConfig,
}

impl Default for ChordConfig {
    fn default() -> ChordConfig {
        ChordConfig {
            successors: 16,
            stabilize: Duration::from_secs(30),
            fingers: 1,
            subnets: None,
            lookup: LookupConfig::default(),
        }
    }
}

/// The most successors that are kept or believed.
const MAX_SUCCESSORS: usize = 32;
/// Where fingers are bounded by subnet, of so many peers one is chosen.
const CHOICES: usize = 8;

/// What a Chord node knows of its ring: at most 32 predecessors, 32 successors and 256 fingers, and up to 48 peers
/// through whom it finds back.
///
/// All are kept as distances, clockwise from this node, so comparing them takes no arithmetic.
#[derive(Clone, Debug)]
pub struct ChordTable<P> {
    me: P,
    key: Key,
    joined: bool,
    predecessor: Option<Spot<P>>,
    /// Those before the predecessor, the nearest first, as it has told: so that a node that holds copies knows of which
    /// roots, also between the predecessor's death and the next notice. Nothing of the ring depends on them. They are
    /// not proved, no more than a successor's successors are; whoever drops a copy has each of them confirm it.
    before: Vec<Spot<P>>,
    /// Ordered by offset, no two alike.
    successors: Vec<Spot<P>>,
    /// The finger of exponent e (the root of me + 2^e) is at 255 - e. Those that lead no further than the successor
    /// are not kept.
    fingers: Vec<Option<Spot<P>>>,
    next_finger: u8,
    /// Silent when last asked: no question goes on to them while they are asked again. At most 64.
    suspects: Vec<P>,
    /// Questions of the upkeep.
    asked: Pending<P, Question<P>>,
    doors: Doors<P>,
    /// The predecessor or the successors are not the same as when last asked.
    changed: bool,
    /// Shared where many nodes are configured alike.
    config: Arc<ChordConfig>,
    #[cfg(test)]
    pub(crate) original: bool,
}

/// What Chord nodes say to keep the ring.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum ChordMsg<P> {
    /// To a successor, or a predecessor whose life is in doubt: who are your neighbours? Answered by
    /// [`ChordMsg::State`].
    GetState {
        /// Numbers the question.
        id: u32,
    },
    /// A node's neighbours.
    State {
        /// The number of the question.
        id: u32,
        /// Its predecessor.
        predecessor: Option<P>,
        /// Its successors, the nearest first.
        successors: Vec<P>,
    },
    /// To the successor, after stabilising: the sender might be its predecessor. Zave's *rectify*; not answered.
    Notify {
        /// Who comes before the sender, the nearest first.
        before: Vec<P>,
    },
}

impl<P: Keyed> ChordTable<P> {
    /// The tables of a node that has not joined yet; without seeds, of the only node of a new ring.
    pub fn new(
        me: P,
        seeds: impl IntoIterator<Item = P>,
        config: impl Into<Arc<ChordConfig>>,
    ) -> ChordTable<P> {
        let doors = Doors::new(me, seeds);
        ChordTable {
            me,
            key: me.key(),
            joined: doors.is_founder(),
            predecessor: None,
            before: Vec::new(),
            successors: Vec::new(),
            fingers: Vec::new(),
            next_finger: 0,
            suspects: Vec::new(),
            asked: Pending::with_capacity(64),
            doors,
            changed: false,
            config: config.into(),
            #[cfg(test)]
            original: false,
        }
    }

    /// How many successors are kept.
    fn most(&self) -> usize {
        self.config.successors.clamp(1, MAX_SUCCESSORS)
    }

    /// Where this node stands.
    pub fn key(&self) -> Key {
        self.key
    }

    /// Who comes before this node, if it knows.
    pub fn predecessor(&self) -> Option<P> {
        self.predecessor.map(|spot| spot.peer)
    }

    /// Who comes after this node, the nearest first. Nobody, if it is alone.
    pub fn successors(&self) -> impl ExactSizeIterator<Item = P> {
        self.successors.iter().map(|spot| spot.peer)
    }

    /// The fingers that lead further than the successor, each with its exponent.
    pub fn fingers(&self) -> impl Iterator<Item = (usize, P)> {
        let known = self.fingers.iter().enumerate();
        known.filter_map(|(i, spot)| spot.map(|spot| (Key::<32>::BITS - 1 - i, spot.peer)))
    }

    /// Whether a peer may be the finger at an index: there are few enough of its subnet.
    fn may_be_finger(&self, index: usize, peer: P) -> bool {
        self.config.subnets.is_none_or(|limits| {
            let others = self.fingers.iter().enumerate().filter(|(i, _)| *i != index);
            limits.admit(peer, [], others.filter_map(|(_, spot)| spot.map(|spot| spot.peer)))
        })
    }

    /// The best next hop: see [`Maintenance::next`](crate::Maintenance::next).
    fn next_hop(&self, key: &Key, avoid: &[P], claimed: bool) -> Next<P> {
        if !self.joined {
            return Next::Nowhere;
        }
        let offset = self.key.distance(key);
        let usable = |spot: &&Spot<P>| !avoid.contains(&spot.peer);
        match self.predecessor.as_ref().filter(usable) {
            Some(predecessor) if offset == Key::ZERO || predecessor.order_to(&offset, &self.key).is_lt() => {
                return Next::Mine;
            }
            // A newcomer stands between whoever claims and this node.
            Some(predecessor) if claimed => return Next::Root(predecessor.peer),
            None if claimed || offset == Key::ZERO => return Next::Mine,
            _ => {}
        }
        // Who is suspected may be there all the same, and is asked if nobody else is left.
        let sure = |spot: &&Spot<P>| usable(spot) && !self.suspects.contains(&spot.peer);
        let closest = || {
            let sure = self.closest_preceding(&offset, sure);
            sure.or_else(|| self.closest_preceding(&offset, usable)).map(|spot| spot.peer)
        };
        let successors = || self.successors.iter();
        match successors().find(sure).or_else(|| successors().find(usable)) {
            None if self.successors.is_empty() => Next::Mine,
            Some(successor) if successor.order_to(&offset, &self.key).is_ge() => Next::Root(successor.peer),
            _ => closest().map_or(Next::Nowhere, Next::Toward),
        }
    }

    /// The last node known before an offset (ToN §IV-C, with the successor list as in §IV-E3).
    fn closest_preceding(&self, offset: &Key, usable: impl Fn(&&Spot<P>) -> bool) -> Option<&Spot<P>> {
        let precedes = |spot: &&Spot<P>| spot.order_to(offset, &self.key).is_lt() && usable(spot);
        let successor = self.successors.iter().rev().find(precedes);
        let exponent = offset.ilog2()?;
        let nearer = self.fingers.get(Key::<32>::BITS - 1 - exponent..).unwrap_or_default();
        let mut fingers = nearer.iter().flatten();
        let finger = fingers.find(precedes);
        finger.into_iter().chain(successor).max_by(|a, b| a.order(b, &self.key))
    }

    /// Up to `n` nodes before an offset, the nearest to it first.
    fn nearest(&self, key: &Key, n: usize, avoid: &[P]) -> Vec<P> {
        let offset = self.key.distance(key);
        let usable = |peer: &P| !avoid.contains(peer) && !self.suspects.contains(peer);
        let known = self.fingers.iter().flatten().chain(&self.successors);
        let mut before: Vec<&Spot<P>> =
            known.filter(|spot| spot.order_to(&offset, &self.key).is_lt() && usable(&spot.peer)).collect();
        before.sort_unstable_by(|a, b| b.order(a, &self.key));
        before.dedup();
        before.iter().take(n).map(|spot| spot.peer).collect()
    }

    /// The node at or after a key and those that follow it, as far as the ring is known without a gap. A node that
    /// knows nobody before it cannot tell what is its own, unless the asker says so.
    fn replica_set(&self, key: &Key, n: usize, claimed: bool) -> Replicas<P> {
        let offset = self.key.distance(key);
        let ahead = &self.successors;
        let behind: Vec<&Spot<P>> = self.before.iter().rev().chain(&self.predecessor).collect();
        let (last_ahead, first_behind) = (ahead.last(), behind.first());
        // In a small ring those before this node come after it too.
        let ends = last_ahead.zip(first_behind);
        let no_gap = ends.is_some_and(|(last, first)| !last.is_before(first, &self.key));
        let after = |spot: &&Spot<P>| spot.order_to(&offset, &self.key).is_ge();
        let mut peers: Vec<P> = Vec::new();
        if self.next_hop(key, &[], claimed) == Next::Mine {
            peers.push(self.me);
            peers.extend(self.successors());
        } else if last_ahead.as_ref().is_some_and(after) && !no_gap {
            peers.extend(ahead.iter().filter(after).map(|spot| spot.peer));
        } else if no_gap || first_behind.is_some_and(|first| !after(first)) {
            let mut known: Vec<&Spot<P>> = ahead.iter().chain(behind).filter(after).collect();
            known.sort_unstable_by(|a, b| a.order(b, &self.key));
            peers.extend(known.iter().map(|spot| spot.peer));
            peers.push(self.me);
            peers.extend(self.successors());
        }
        let mut once: Vec<P> = Vec::with_capacity(n);
        for peer in peers {
            if once.len() < n && !once.contains(&peer) {
                once.push(peer);
            }
        }
        Replicas::Peers(once)
    }

    fn region(&self) -> Region {
        match (&self.predecessor, self.successors.is_empty()) {
            (Some(predecessor), _) => Region::Arcs(vec![(predecessor.peer.key(), self.key)]),
            (None, true) if self.joined => Region::Arcs(vec![(self.key, self.key)]),
            _ => Region::Nothing,
        }
    }
}

#[cfg(test)]
mod tests;
