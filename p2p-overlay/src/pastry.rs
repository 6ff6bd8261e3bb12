//! Pastry: keys belong to the node that is numerically nearest, found digit by digit, by peers that are near in the
//! network.
//!
//! Rowstron & Druschel, *Pastry: scalable, decentralized object location and routing for large-scale peer-to-peer
//! systems* (Middleware 2001), whose sections are cited. That no two nodes take one key for theirs is after Castro,
//! Costa & Rowstron, *Performance and dependability of structured peer-to-peer overlays* (DSN 2004): a newcomer counts
//! when its whole leaf set knows it; and after FreePastry: who holds a key has a lease from its neighbour on that side.
//! Periodic recovery is Bamboo's (Rhea et al., *Handling churn in a DHT*, USENIX 2004).
//!
//! In this order: [`Pastry`] and its configuration, what the tables say about a key; in `leaves` and `rows` the
//! tables, in `join`, `leases` and `upkeep` how they are kept, in `protocol` what comes in. `converged` computes the tables of a whole network,
//! for experiments that start at rest; `whole` says what holds of one.

mod converged;
mod join;
mod leases;
mod leaves;
mod protocol;
mod rows;
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
use crate::structured::{Maintenance, Next, Region, Replicas, SingleRoot};
use crate::subnets::SubnetLimits;

use join::Joining;
use leaves::{Leaves, Spot};
use rows::{Neighbours, Rows};
use upkeep::Asked;

pub use leaves::Side;

/// A Pastry node: a [`Protocol`](p2p_core::Protocol) and an [`Overlay`](crate::Overlay).
///
/// Three nodes, and who is nearest to a key:
///
/// ```
/// use p2p_core::sim::{Network, Sim};
/// use p2p_core::{Key, Keyed, SimPeer};
/// use p2p_overlay::{Find, Lookup, Pastry};
/// use std::time::Duration;
///
/// let mut sim = Sim::<Pastry<SimPeer>>::new(1, Network::default());
/// let first = sim.spawn(|birth| Pastry::create(birth.peer));
/// let second = sim.spawn(|birth| Pastry::join(birth.peer, [first]));
/// let third = sim.spawn(|birth| Pastry::join(birth.peer, [first]));
/// sim.run_for(Duration::from_secs(20));
///
/// let key = Key::of(b"song.ogg");
/// let node = sim.handle(third);
/// let found = sim.block_on(async move { node.lookup(Find::key(key)).await }).unwrap();
/// let nearest = [first, second, third].into_iter().min_by_key(|peer| peer.key().ring_gap(&key));
/// assert_eq!(Some(found.root()), nearest);
/// ```
pub type Pastry<P> = Routed<PastryTable<P>>;

impl<P: Keyed> Pastry<P> {
    /// A node that starts a network of its own, for others to join.
    pub fn create(me: P) -> Pastry<P> {
        Pastry::with(me, [], PastryConfig::default())
    }

    /// A node that joins the network of any of these peers, and tries again until it has.
    pub fn join(me: P, seeds: impl IntoIterator<Item = P>) -> Pastry<P> {
        Pastry::with(me, seeds, PastryConfig::default())
    }

    /// A node with a configuration of its own; without seeds it starts a network.
    pub fn with(me: P, seeds: impl IntoIterator<Item = P>, config: PastryConfig) -> Pastry<P> {
        Routed::new(PastryTable::new(me, seeds, config), config.lookup)
    }
}

impl<P: Keyed> SingleRoot for Pastry<P> {
    fn next_if_claimed(&self, key: &Key, avoid: &[P]) -> Next<P> {
        self.table().next(key, avoid, true)
    }
}

/// How a Pastry node behaves.
#[derive(Clone, Copy, Debug)]
pub struct PastryConfig {
    /// How many bits a digit has, b (§2.1). 4; 1 to 4.
    pub bits: u8,
    /// How many leaves a node keeps, L, half of them on either side (§2.1). 16; 2 to 32.
    pub leaves: usize,
    /// How long a node may take keys for its own after its neighbour has last agreed; it asks three times as often,
    /// and a neighbour that does not ask is dead after so long. 6 s.
    pub lease: Duration,
    /// A node looks after its leaves, its routing table and its neighbourhood this often on average; each time after
    /// half to one and a half of it. 10 s. Zero: never, the tables stay as they are, dead entries too: for
    /// experiments on a network at rest.
    pub upkeep: Duration,
    /// What a node does when a leaf has died. [`Recovery::Periodic`].
    pub recovery: Recovery,
    /// How many peers of one subnet are in the routing table, in all and in each row. No bound; where strangers may
    /// join, [`SubnetLimits::default`]. Leaves are whoever stands there, or two nodes would take one key for theirs;
    /// and no question goes by the neighbourhood.
    pub subnets: Option<SubnetLimits>,
    /// How lookups behave; the upkeep's questions have the same timeout.
    pub lookup: LookupConfig,
}

/// What a node does when a leaf has died.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recovery {
    /// It asks the furthest leaf on that side for its own at once (§2.4, *node departure*). Under churn much is asked
    /// just when the network has least to spare.
    Reactive,
    /// It waits until it is time to compare leaves with one of them, as it does now and then (Bamboo §4.1).
    Periodic,
}

impl Default for PastryConfig {
    fn default() -> PastryConfig {
        PastryConfig {
            bits: 4,
            leaves: 16,
            lease: Duration::from_secs(6),
            upkeep: Duration::from_secs(10),
            recovery: Recovery::Periodic,
            subnets: None,
            lookup: LookupConfig::default(),
        }
    }
}

/// The most leaves that are kept or believed.
const MAX_LEAVES: usize = 32;
/// How many questions of the upkeep wait at once. Half of them are not for whomever others name.
const MAX_ASKED: usize = 256;

/// What a Pastry node knows: at most [`PastryConfig::leaves`] leaves, 2^b − 1 peers in each of the 128/b rows of its
/// routing table, the 32 nearest peers, and up to 48 peers through whom it finds back.
#[derive(Clone, Debug)]
pub struct PastryTable<P> {
    me: P,
    key: Key,
    /// All leaves know this node.
    joined: bool,
    leaves: Leaves<P>,
    rows: Rows<P>,
    neighbours: Neighbours<P>,
    /// With the neighbours ahead and behind.
    leases: [Lease<P>; 2],
    /// Until when nobody takes this node for dead who knows it: since it was last told to go on, or said hello to all.
    known_until: Time,
    /// Those who did not answer when this node said hello, and until when they may have a lease that nobody knows of.
    /// At most 32.
    unheard: Vec<(P, Time)>,
    /// The leaves that have said hello, and until when this node has promised not to take them for dead. At most 32.
    greeted: Vec<(P, Time)>,
    /// Silent when last asked: the question is asked again. At most 64.
    suspects: Vec<P>,
    joining: Option<Joining<P>>,
    /// Questions of the upkeep.
    asked: Pending<P, Asked>,
    doors: Doors<P>,
    /// The leaves are not the same as when last asked.
    changed: bool,
    /// Of the input that is being taken in.
    now: Time,
    config: Arc<PastryConfig>,
    /// It answers without leases.
    #[cfg(test)]
    careless: bool,
}

/// An agreement with the neighbour on one side, in both directions.
#[derive(Clone, Copy, Debug)]
struct Lease<P> {
    /// Until when it takes this node for alive, and leaves it what is nearer to it.
    from: Option<(P, Time)>,
    /// Until when this node does so for it.
    to: Option<(P, Time)>,
}

/// What Pastry nodes say to each other beside lookups.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum PastryMsg<P> {
    /// From a newcomer to one node after the other on the way to its own key (§2.4). Answered by [`PastryMsg::Path`].
    Join {
        /// Numbers the question.
        id: u32,
        /// Peers found silent so far.
        avoid: Vec<P>,
    },
    /// What a node on the way can give.
    Path {
        /// The number of the question.
        id: u32,
        /// Its row for the newcomer.
        row: Vec<P>,
        /// Who is nearer; `None` from the nearest.
        next: Option<P>,
        /// The leaves of the nearest.
        leaves: Vec<P>,
    },
    /// From a newcomer to those who are to know it as a leaf, and between leaves now and then: these are mine.
    /// Answered by [`PastryMsg::Leaves`].
    Hello {
        /// Numbers the question.
        id: u32,
        /// The sender's leaves; none from a newcomer.
        leaves: Vec<P>,
    },
    /// The asked node's leaves, among whom the asker is if it is near enough.
    Leaves {
        /// The number of the question.
        id: u32,
        /// They.
        leaves: Vec<P>,
    },
    /// Who is in this row of yours? Answered by [`PastryMsg::Peers`].
    GetRow {
        /// Numbers the question.
        id: u32,
        /// Which.
        row: u8,
    },
    /// Who is near you in the network? Answered by [`PastryMsg::Peers`].
    GetNeighbours {
        /// Numbers the question.
        id: u32,
    },
    /// They.
    Peers {
        /// The number of the question.
        id: u32,
        /// At most 32.
        peers: Vec<P>,
    },
    /// Are you there, and how far away? Answered by [`PastryMsg::Pong`].
    Ping {
        /// Numbers the question.
        id: u32,
    },
    /// It is.
    Pong {
        /// The number of the question.
        id: u32,
    },
    /// To the neighbour on that side: may I go on? Answered by [`PastryMsg::Lease`].
    Renew {
        /// Numbers the question.
        id: u32,
        /// Where the receiver is, as the sender sees it.
        side: Side,
        /// Who did not answer when the sender said hello: if one of them may have a lease, it is to run out first.
        unheard: Vec<P>,
    },
    /// Whether it may.
    Lease {
        /// The number of the question.
        id: u32,
        /// For [`PastryConfig::lease`] from when it asked.
        granted: bool,
        /// Otherwise, who is between the two.
        between: Option<P>,
    },
}

impl<P: Keyed> PastryTable<P> {
    /// The tables of a node that has not joined yet; without seeds, of the only node of a new network.
    pub fn new(
        me: P,
        seeds: impl IntoIterator<Item = P>,
        config: impl Into<Arc<PastryConfig>>,
    ) -> PastryTable<P> {
        let (key, doors, config) = (me.key(), Doors::new(me, seeds), config.into());
        PastryTable {
            me,
            key,
            joined: doors.is_founder(),
            leaves: Leaves::new(key, config.leaves.clamp(2, MAX_LEAVES) / 2),
            rows: Rows::new(key, config.bits.clamp(1, 4).into(), config.subnets),
            neighbours: Neighbours::new(),
            leases: [Lease { from: None, to: None }; 2],
            known_until: Time::ZERO,
            unheard: Vec::new(),
            greeted: Vec::new(),
            suspects: Vec::new(),
            joining: None,
            asked: Pending::with_capacity(MAX_ASKED),
            doors,
            changed: false,
            now: Time::ZERO,
            config,
            #[cfg(test)]
            careless: false,
        }
    }

    /// Where this node stands.
    pub fn key(&self) -> Key {
        self.key
    }

    /// The leaves, those ahead first, the nearest first.
    pub fn leaves(&self) -> impl Iterator<Item = P> {
        self.leaves.peers()
    }

    /// The routing table's entries in a row, row 0 being of those that share no digit with this node.
    pub fn row(&self, row: usize) -> impl Iterator<Item = P> {
        self.rows.row(row)
    }

    /// The nearest peers in the network whatever their keys, the nearest first.
    pub fn neighbours(&self) -> impl ExactSizeIterator<Item = P> {
        self.neighbours.peers()
    }

    /// Where a key leads (§2.2), whatever the leases say.
    fn route(&self, key: &Key, avoid: &[P]) -> Next<P> {
        let point = self.key.distance(key);
        let own = Spot::at(&Key::ZERO, self.me);
        let nearer = |a: &&Spot<P>, b: &&Spot<P>| a.order_around(b, &point, &self.key);
        if self.leaves.cover(&point) {
            let usable = self.leaves.iter().filter(|spot| !avoid.contains(&spot.peer));
            let nearest = usable.chain([&own]).min_by(nearer).unwrap_or(&own).peer;
            return if nearest == self.me { Next::Mine } else { Next::Root(nearest) };
        }
        let usable = |peer: &P| !avoid.contains(peer) && !self.suspects.contains(peer);
        if let Some(peer) = self.rows.toward(key).filter(usable) {
            return Next::Toward(peer);
        }
        // The rare case: whoever shares as many digits, and is nearer. (Fewer digits, though nearer, would lead in
        // circles.)
        let row = self.rows.shared(key);
        let digits = row * usize::from(self.config.bits);
        let leaves = self.leaves.peers().filter(|peer| peer.key().common_prefix(key) >= digits);
        let known = self.rows.rows_from(row).chain(leaves).filter(usable);
        let spots: Vec<Spot<P>> = known.map(|peer| Spot::new(&self.key, peer)).collect();
        match spots.iter().chain([&own]).min_by(nearer) {
            Some(nearest) if nearest.peer != self.me => Next::Toward(nearest.peer),
            _ => Next::Nowhere,
        }
    }

    fn next_hop(&self, key: &Key, avoid: &[P]) -> Next<P> {
        if !self.joined {
            return Next::Nowhere;
        }
        match self.route(key, avoid) {
            Next::Mine if !self.may_answer_for(key, self.now) => Next::Later,
            next => next,
        }
    }

    /// Whether nobody else takes a key for its own: nobody nearer, who may be silent for a moment only, and not the
    /// neighbour on its side, by the lease.
    fn may_answer_for(&self, key: &Key, now: Time) -> bool {
        if self.is_at_rest() {
            return true;
        }
        if self.route(key, &[]) != Next::Mine {
            return false;
        }
        if self.leaves.is_empty() {
            return true;
        }
        #[cfg(test)]
        if self.careless {
            return true;
        }
        let side = match key.is_between(&self.key, &self.key.wrapping_add(&Key::power_of_two(255))) {
            true => Side::Ahead,
            false => Side::Behind,
        };
        self.has_lease(side, now)
    }

    /// Up to `n` peers that are nearer to a key, the best first: those that share more digits with it, then by their
    /// distance.
    fn nearest(&self, key: &Key, n: usize, avoid: &[P]) -> Vec<P> {
        let own = self.key.ring_gap(key);
        let known = self.leaves.peers().chain(self.rows.rows_from(0));
        let mut nearer: Vec<(usize, Key, P)> = known
            .filter(|peer| !avoid.contains(peer))
            .map(|peer| {
                let at = peer.key();
                (Key::<32>::BITS - at.common_prefix(key), at.ring_gap(key), peer)
            })
            .filter(|(_, gap, _)| *gap < own)
            .collect();
        nearer.sort_unstable();
        nearer.dedup();
        nearer.into_iter().take(n).map(|(_, _, peer)| peer).collect()
    }

    fn replica_set(&self, key: &Key, n: usize) -> Replicas<P> {
        let mut peers = match self.joined {
            true => self.leaves.nearest_to(self.me, &self.key.distance(key)),
            false => Vec::new(),
        };
        peers.truncate(n);
        Replicas::Peers(peers)
    }

    /// Half of the way to the neighbours.
    fn region(&self) -> Region {
        if !self.joined {
            return Region::Nothing;
        }
        let [behind, ahead] = [Side::Behind, Side::Ahead].map(|side| self.leaves.first(side));
        let (behind, ahead) = (behind.unwrap_or(self.me).key(), ahead.unwrap_or(self.me).key());
        Region::Arcs(vec![(middle(&behind, &self.key), middle(&self.key, &ahead))])
    }
}

/// Half of the way from one key to another, clockwise: the last point that is nearer to the first.
fn middle(from: &Key, to: &Key) -> Key {
    let mut half = *from.distance(to).as_bytes();
    let mut carry = 0;
    for byte in &mut half {
        (*byte, carry) = (*byte >> 1 | carry << 7, *byte & 1);
    }
    from.wrapping_add(&Key::new(half))
}

#[cfg(test)]
mod tests;
