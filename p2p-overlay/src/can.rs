//! CAN: zones that tile a torus, each node routing to its neighbours.
//!
//! Ratnasamy, Francis, Handley, Karp & Shenker, *A scalable content-addressable network* (SIGCOMM 2001): a key is a
//! point in a d-dimensional torus (§2), a question goes to the neighbour whose zone is nearest to the point (§2.1), a
//! newcomer gets half of the zone in which a random point lies (§2.2), and the zone of a node that dies goes to the
//! smallest of its neighbours (§2.3). Of the improvements of §3: forwarding by progress over round-trip time (§3.3),
//! zones that several nodes share (§3.4) and splitting the largest zone nearby (§3.7). Whoever leaves does so without a
//! word, as if it had died: that it hands its zone over first (§2.3) is not built.
//!
//! In this order: [`Can`] and its configuration, what the tables say about a key; in `space` the geometry, in `zones`
//! who claims what, in `neighbours` who is around, in `join`, `update`, `repair` and `upkeep` how the tables are kept,
//! in `protocol` what comes in. `converged` computes the zones of a whole network, for experiments that start at rest (`simulated`); `whole` says
//! what holds of one. `realities` are several such networks in one; `multicast` floods one.

mod converged;
mod join;
mod multicast;
mod neighbours;
mod protocol;
mod realities;
mod repair;
mod simulated;
mod space;
mod update;
mod upkeep;
mod whole;
mod zones;

use std::sync::Arc;
use std::time::Duration;

use p2p_core::{Key, Keyed, Pending, Time};
use serde::{Deserialize, Serialize};

use crate::doors::Doors;
use crate::lookup::LookupConfig;
use crate::routed::Routed;
use crate::structured::{Maintenance, Next, Region, Replicas, SingleRoot};
use crate::subnets::SubnetLimits;

pub use multicast::{
    CanMulticast, CanMulticastCommand, CanMulticastConfig, CanMulticastMsg, CanMulticastOutcome, Flood,
    Spread,
};
pub use neighbours::Around;
pub use realities::{CanRealities, Realities, RealityMsg, RealityTimer};
pub use space::{Point, Space, Zone};
pub use zones::{Claim, Claims};

use join::Joining;
use neighbours::{Neighbour, Neighbours};
use repair::Fallen;

/// A CAN node: a [`Protocol`](p2p_core::Protocol) and an [`Overlay`](crate::Overlay).
///
/// Two nodes share the space and find the owner of a key:
///
/// ```
/// use p2p_core::sim::{Network, Sim};
/// use p2p_core::{Key, SimPeer};
/// use p2p_overlay::{Can, Find, Lookup};
/// use std::time::Duration;
///
/// let mut sim = Sim::<Can<SimPeer>>::new(1, Network::default());
/// let first = sim.spawn(|birth| Can::create(birth.peer));
/// let second = sim.spawn(|birth| Can::join(birth.peer, [first]));
/// sim.run_for(Duration::from_secs(10));
///
/// let (a, b) = (sim.handle(first), sim.handle(second));
/// let find = Find::key(Key::of(b"song.ogg"));
/// let found = sim.block_on(async { (a.lookup(find).await, b.lookup(find).await) });
/// assert_eq!(found.0.unwrap().root(), found.1.unwrap().root());
/// ```
pub type Can<P> = Routed<CanTable<P>>;

impl<P: Keyed> Can<P> {
    /// A node that starts a network of its own, for others to join.
    pub fn create(me: P) -> Can<P> {
        Can::with(me, [], CanConfig::default())
    }

    /// A node that joins the network of any of these peers, and tries again until it has.
    pub fn join(me: P, seeds: impl IntoIterator<Item = P>) -> Can<P> {
        Can::with(me, seeds, CanConfig::default())
    }

    /// A node with a configuration of its own; without seeds it starts a network.
    pub fn with(me: P, seeds: impl IntoIterator<Item = P>, config: CanConfig) -> Can<P> {
        Routed::new(CanTable::new(me, seeds, config), config.lookup)
    }
}

impl<P: Keyed> SingleRoot for Can<P> {
    fn next_if_claimed(&self, key: &Key, avoid: &[P]) -> Next<P> {
        self.table().next(key, avoid, true)
    }
    fn detour(&self, key: &Key, avoid: &[P]) -> Option<P> {
        self.table().way_around(key, avoid)
    }
}

/// How a CAN node behaves.
#[derive(Clone, Copy, Debug)]
pub struct CanConfig {
    /// How many dimensions the space has, d (§2): the same at all nodes. 4; 1 to 8.
    pub dimensions: u8,
    /// A node exchanges what it knows with its neighbours this often on average; each time after half to one and a half
    /// of it. 15 s. Zero: never, the tables stay as they are, dead entries too: for experiments on a network at rest.
    pub update: Duration,
    /// How long a node waits before it takes over a dead neighbour's zone that is as large as its own; longer or
    /// shorter in proportion to its own volume (§2.3). 500 ms.
    pub takeover: Duration,
    /// A newcomer gets half of the largest zone among those of the node it has found and its neighbours (§3.7). Yes.
    pub uniform: bool,
    /// How many nodes share a zone (§3.4, MAXPEERS): a newcomer shares one until there are so many, then the zone is
    /// split and they are divided. All are responsible for its keys, and one of them is enough. A node knows those with
    /// whom it shares, and of each zone beside its own the nearest of those who share that. The same at all nodes. 1: a
    /// zone is one node's; at most 8.
    pub zone_peers: u8,
    /// In how many realities a node of [`CanRealities`] has a zone (§3.2). 1; at most 8, of at most 4 dimensions then.
    /// A node of [`Can`] has one.
    pub realities: u8,
    /// A question goes to the neighbour with the most progress per round-trip time (§3.3), not to the nearest. No.
    pub by_rtt: bool,
    /// A node gives none of its zones to a newcomer of whose subnet so many are its neighbours already, by
    /// [`SubnetLimits::table`]: it has to try elsewhere. No bound; where strangers may join, [`SubnetLimits::default`].
    /// Whoever holds a zone next to its own a node has to know, or nobody could route to it: so it is here that a
    /// table is kept from filling up. It keeps nobody out who lies: whoever claims a zone, with a version that is high
    /// enough, gets it, for the paper has nothing by which others could tell.
    pub subnets: Option<SubnetLimits>,
    /// How lookups behave; the upkeep's questions have the same timeout. While the zone of a dead node is being taken
    /// over, questions for it get nowhere: they are tried again each second, ten times in all.
    pub lookup: LookupConfig,
}

impl Default for CanConfig {
    fn default() -> CanConfig {
        CanConfig {
            dimensions: 4,
            update: Duration::from_secs(15),
            takeover: Duration::from_millis(500),
            uniform: true,
            zone_peers: 1,
            realities: 1,
            by_rtt: false,
            subnets: None,
            lookup: LookupConfig { tries: 10, pause: Duration::from_secs(1), ..LookupConfig::default() },
        }
    }
}

impl CanConfig {
    /// How many nodes share a zone, as far as so many can.
    fn peers_in_zone(&self) -> usize {
        self.zone_peers.clamp(1, 8).into()
    }
}

/// The most neighbours that are kept, or told.
const MAX_NEIGHBOURS: usize = 256;
/// The most questions of the upkeep at a time.
const MAX_ASKED: usize = 512;

/// What a CAN node knows: at most 32 zones of its own, 256 neighbours with the neighbours that each has told (at most
/// 256 zones), 64 dead neighbours' zones that wait to be taken over, 512 questions, half of them to peers that others
/// have named, and up to 48 peers through whom it finds back.
#[derive(Clone, Debug)]
pub struct CanTable<P> {
    me: P,
    space: Space,
    joined: bool,
    /// Where this node is responsible. Usually one zone; more after takeovers, until they are merged or given away.
    claims: Vec<Claim>,
    neighbours: Neighbours<P>,
    /// What is left of dead neighbours.
    fallen: Vec<Fallen<P>>,
    /// Questions of the upkeep, and when they were sent.
    asked: Pending<P, Time>,
    joining: Option<Joining<P>>,
    /// How many points this node has tried to join at.
    points: u32,
    /// A place where nobody is known to be, while it is looked up.
    gap: Option<Zone>,
    /// Changes with what this node tells of itself and its neighbours.
    stamp: u32,
    /// What it tells of them, once it has told anybody.
    around: Option<Around<P>>,
    /// So far there is somebody all around its zones.
    whole: bool,
    doors: Doors<P>,
    /// The zones or the neighbours are not the same as when last asked.
    changed: bool,
    /// Shared where many nodes are configured alike.
    config: Arc<CanConfig>,
}

/// What CAN nodes say to keep their zones.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum CanMsg<P> {
    /// From a newcomer to the node in whose zone its point lies: give me half. Answered by [`CanMsg::Welcome`] or
    /// [`CanMsg::Elsewhere`].
    Join {
        /// The newcomer's point.
        key: Key,
        /// The receiver was named by [`CanMsg::Elsewhere`]: it shares its zone wherever the point lies.
        last: bool,
    },
    /// To a newcomer: that neighbour has a larger zone.
    Elsewhere {
        /// Whom to ask.
        peer: P,
    },
    /// To a newcomer: what is now its own.
    Welcome {
        /// Its zones.
        claims: Vec<Claim>,
        /// Who holds what around them.
        neighbours: Vec<(P, Claim)>,
    },
    /// To each neighbour now and then, and when the sender's zones have changed: these are my zones. Answered by
    /// [`CanMsg::Updated`].
    Update {
        /// Numbers the question.
        id: u32,
        /// The sender tells of its neighbours if they have changed, and the receiver is to do so too.
        full: bool,
        /// What the sender holds.
        state: CanState<P>,
    },
    /// The receiver's zones.
    Updated {
        /// The number of the question.
        id: u32,
        /// What it holds.
        state: CanState<P>,
    },
    /// To the neighbours of a node that seems dead: see for yourselves. Not answered.
    Fallen {
        /// Who seems dead.
        peer: P,
    },
    /// From a node with a zone too many to one in the other half of that zone's parent: find two leaves there that can
    /// become one, so that one of their nodes is free to take the zone. Passed on, each time to a smaller zone.
    Reassign {
        /// The zone, with the version under which it may be taken.
        claim: Claim,
        /// Who holds what around it.
        neighbours: Vec<(P, Claim)>,
    },
    /// To the node that has the other half: take this zone. The sender holds it until it hears that it was taken.
    Take {
        /// The zone, with the version under which it may be taken.
        claim: Claim,
        /// Who holds what around it.
        neighbours: Vec<(P, Claim)>,
    },
    /// To those who share a zone with the sender, which has just split it: this half is yours.
    Half {
        /// The zone as it was.
        whole: Claim,
        /// What of it is the receiver's now.
        half: Claim,
    },
}

/// What a node says of itself.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CanState<P> {
    /// Its zones.
    pub claims: Claims,
    /// Its neighbours and their zones; `None` if the receiver was told before.
    pub neighbours: Option<Around<P>>,
}

impl<P: Keyed> CanTable<P> {
    /// The tables of a node that has not joined yet; without seeds, of one that has the space to itself.
    pub fn new(me: P, seeds: impl IntoIterator<Item = P>, config: impl Into<Arc<CanConfig>>) -> CanTable<P> {
        let config = config.into();
        let space = Space::new(config.dimensions.clamp(1, 8));
        let doors = Doors::new(me, seeds);
        let mut table = CanTable {
            me,
            space,
            joined: false,
            claims: Vec::new(),
            neighbours: Neighbours::new(),
            fallen: Vec::new(),
            asked: Pending::with_capacity(MAX_ASKED),
            joining: None,
            points: upkeep::FIRST_POINT,
            gap: None,
            stamp: 1,
            around: None,
            whole: false,
            doors,
            changed: false,
            config,
        };
        if table.doors.is_founder() {
            table.own_everything();
        }
        table
    }

    /// This node is alone, as far as it knows. Whoever else is there after all has the better claim.
    fn own_everything(&mut self) {
        self.joined = true;
        self.claims = vec![Claim { zone: self.space.whole(), version: 0 }];
        self.forget_around();
        self.changed = true;
    }

    /// The space.
    pub fn space(&self) -> Space {
        self.space
    }

    /// The zones of this node, the largest first.
    pub fn claims(&self) -> &[Claim] {
        &self.claims
    }

    /// The neighbours, each with its zones as it has told them.
    pub fn neighbours(&self) -> impl ExactSizeIterator<Item = (P, &[Claim])> {
        self.neighbours.iter().map(|neighbour| (neighbour.peer, &*neighbour.claims))
    }

    /// The zones of a neighbour, as it has told them; `None` if it is none.
    fn claims_of(&self, peer: P) -> Option<&[Claim]> {
        Some(&self.neighbours[self.position(peer)?].claims)
    }

    /// How far it is from some zones to a point, squared.
    fn distance_from(claims: &[Claim], point: &Point) -> u128 {
        claims.iter().map(|claim| claim.zone.distance(point)).min().unwrap_or(u128::MAX)
    }

    /// Whether a peer is a neighbour, or shares the zone of one, as that has told.
    fn knows(&self, peer: P) -> bool {
        let shares = |other: &Neighbour<P>| {
            other.told.iter().any(|(mate, claim)| *mate == peer && other.claims.contains(claim))
        };
        self.position(peer).is_some() || self.shares_zones() && self.neighbours.iter().any(shares)
    }

    /// How far it is from a neighbour's zones to the point of a key, squared.
    fn distance_of(&self, peer: P, key: &Key) -> u128 {
        CanTable::<P>::distance_from(self.claims_of(peer).unwrap_or_default(), &self.space.point(key))
    }

    /// The best next hop: see [`Maintenance::next`](crate::Maintenance::next).
    fn next_hop(&self, key: &Key, avoid: &[P]) -> Next<P> {
        if !self.joined {
            return Next::Nowhere;
        }
        let point = self.space.point(key);
        let own = CanTable::<P>::distance_from(&self.claims, &point);
        if own == 0 {
            return Next::Mine;
        }
        let mut best: Option<(Rank, P)> = None;
        for neighbour in self.neighbours.iter() {
            let distance = CanTable::<P>::distance_from(&neighbour.claims, &point);
            if distance == 0 {
                // If they are dead nobody can answer until the zone is taken over.
                let mut owners = [neighbour.peer].into_iter().chain(self.others_of(neighbour, &point));
                return owners.find(|owner| !avoid.contains(owner)).map_or(Next::Nowhere, Next::Root);
            }
            if distance < own && !avoid.contains(&neighbour.peer) {
                let rank = self.rank(neighbour, own, distance);
                if best.is_none_or(|(other, _)| rank < other) {
                    best = Some((rank, neighbour.peer));
                }
            }
        }
        best.map_or(Next::Nowhere, |(_, peer)| Next::Toward(peer))
    }

    /// Which of the neighbours that are nearer to a point is the best next hop: less is better. Those that were silent
    /// come last.
    fn rank(&self, neighbour: &Neighbour<P>, own: u128, distance: u128) -> Rank {
        let silent = neighbour.suspicion.unanswered() > 0;
        let progress = || (own as f64).sqrt() - (distance as f64).sqrt();
        let cost = match (self.config.by_rtt, neighbour.proximity.micros()) {
            (false, _) => 0.0,
            (true, None) => f64::MAX,
            (true, Some(micros)) => f64::from(micros) / progress().max(1.0),
        };
        Rank { silent, cost, distance }
    }

    /// Whom a question goes on to that has got into a dead end: the next best, if it is not for a zone whose owner is
    /// dead, for nobody can help there.
    fn way_around(&self, key: &Key, avoid: &[P]) -> Option<P> {
        let point = self.space.point(key);
        let owned = |claims: &[Claim]| claims.iter().any(|claim| claim.zone.contains(&point));
        let known = self.neighbours.iter().any(|neighbour| owned(&neighbour.claims));
        let fallen = self.fallen.iter().any(|fallen| fallen.claim.zone.contains(&point));
        match known || fallen || !self.joined {
            true => None,
            false => self.nearest(key, 1, avoid).first().copied(),
        }
    }

    /// Who shares the zone in which a point lies with a neighbour, as that one has told.
    fn others_of(&self, neighbour: &Neighbour<P>, point: &Point) -> impl Iterator<Item = P> {
        let shares = |claim: &Claim| claim.zone.contains(point) && neighbour.claims.contains(claim);
        let told = neighbour.told.iter().filter(|_| self.shares_zones());
        told.filter(move |(peer, claim)| *peer != self.me && shares(claim)).map(|(peer, _)| *peer)
    }

    /// Up to `n` neighbours, the nearest to a key first.
    fn nearest(&self, key: &Key, n: usize, avoid: &[P]) -> Vec<P> {
        let point = self.space.point(key);
        let others = self.neighbours.iter().filter(|neighbour| !avoid.contains(&neighbour.peer));
        let mut near: Vec<(bool, u128, P)> = others
            .map(|neighbour| {
                let distance = CanTable::<P>::distance_from(&neighbour.claims, &point);
                (neighbour.suspicion.unanswered() > 0, distance, neighbour.peer)
            })
            .collect();
        near.sort_unstable();
        near.into_iter().take(n).map(|(_, _, peer)| peer).collect()
    }

    /// Whether several nodes may hold one zone (§3.4).
    fn shares_zones(&self) -> bool {
        self.config.peers_in_zone() > 1
    }

    /// Those who share a zone with this node, as far as they are not silent.
    fn mates(&self, claim: &Claim) -> impl Iterator<Item = P> {
        let mates = self.neighbours.iter().filter(|other| other.suspicion.unanswered() == 0);
        mates.filter(|other| self.shares_zones() && other.claims.contains(claim)).map(|other| other.peer)
    }

    /// Those who share any of its zones with this node.
    fn all_mates(&self) -> Vec<P> {
        let is_mate = |other: &&Neighbour<P>| other.claims.iter().any(|claim| self.claims.contains(claim));
        let mates = self.neighbours.iter().filter(|_| self.shares_zones()).filter(is_mate);
        mates.map(|mate| mate.peer).collect()
    }

    /// Where copies of an object lie: with those who share the zone, if zones are shared; or else at its key and at
    /// hashes of that (§3.5: several hash functions).
    fn replica_set(&self, key: &Key, n: usize) -> Replicas<P> {
        if !self.shares_zones() {
            return Replicas::at_salted(key, n);
        }
        let point = self.space.point(key);
        let Some(own) = self.claims.iter().find(|claim| claim.zone.contains(&point)) else {
            return Replicas::Peers(Vec::new());
        };
        Replicas::Peers([self.me].into_iter().chain(self.mates(own)).take(n).collect())
    }

    fn region(&self) -> Region {
        match self.joined {
            true => Region::Boxes(self.claims.iter().map(|claim| claim.zone).collect()),
            false => Region::Nothing,
        }
    }
}

/// See [`CanTable::rank`]; compared part by part.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
struct Rank {
    silent: bool,
    cost: f64,
    distance: u128,
}

#[cfg(test)]
mod tests;
