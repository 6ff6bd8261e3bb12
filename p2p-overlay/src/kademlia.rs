//! Kademlia: keys belong to the nodes closest to them by exclusive or, and every message keeps the tables fresh.
//!
//! Maymounkov & Mazières, *Kademlia: a peer-to-peer information system based on the XOR metric* (IPTPS 2002, and its
//! longer version, whose sections are cited): buckets of k contacts that prefer the long-lived (§2.2), lookups that
//! end when the k closest have answered (§2.3), the relaxed splits that keep a node's own neighbourhood whole (§2.4),
//! replacement caches (§4.1) and wider buckets for fewer hops (§4.2). Lookups over disjoint paths are
//! those of Baumgart & Mies, *S/Kademlia* (2007), §4.4, and so are sibling lists, §4.2.
//!
//! In this order: [`Kademlia`] and its configuration, what the tables say about a key; in `buckets` the tables, in
//! `seats` how they lie in memory, in `join` and `upkeep` how they are kept, in `protocol` what comes in. `converged` computes the tables of a whole
//! network, for experiments that start at rest; `whole` says what holds of one.

mod buckets;
mod converged;
mod join;
mod protocol;
mod seats;
mod simulated;
mod upkeep;
mod whole;

use std::sync::Arc;
use std::time::Duration;

use p2p_core::{Key, Keyed, Pending};
use serde::{Deserialize, Serialize};

use crate::doors::Doors;
use crate::lookup::LookupConfig;
use crate::routed::Routed;
use crate::structured::{Mode, Next, Region, Replicas};
use crate::subnets::SubnetLimits;

use buckets::{Buckets, Spot};

/// A Kademlia node: a [`Protocol`](p2p_core::Protocol) and an [`Overlay`](crate::Overlay).
///
/// Three nodes, and who is closest to a key:
///
/// ```
/// use p2p_core::sim::{Network, Sim};
/// use p2p_core::{Key, Keyed, SimPeer};
/// use p2p_overlay::{Find, Kademlia, Lookup};
/// use std::time::Duration;
///
/// let mut sim = Sim::<Kademlia<SimPeer>>::new(1, Network::default());
/// let first = sim.spawn(|birth| Kademlia::create(birth.peer));
/// let second = sim.spawn(|birth| Kademlia::join(birth.peer, [first]));
/// let third = sim.spawn(|birth| Kademlia::join(birth.peer, [first]));
/// sim.run_for(Duration::from_secs(10));
///
/// let key = Key::of(b"song.ogg");
/// let node = sim.handle(third);
/// let found = sim.block_on(async move { node.lookup(Find::key(key).replicas(3)).await }).unwrap();
/// let mut closest = [first, second, third];
/// closest.sort_by_key(|peer| peer.key().xor(&key));
/// assert_eq!(found.peers, closest);
/// ```
pub type Kademlia<P> = Routed<KademliaTable<P>>;

impl<P: Keyed> Kademlia<P> {
    /// A node that starts a network of its own, for others to join.
    pub fn create(me: P) -> Kademlia<P> {
        Kademlia::with(me, [], KademliaConfig::default())
    }

    /// A node that joins the network of any of these peers, and tries again until it has.
    pub fn join(me: P, seeds: impl IntoIterator<Item = P>) -> Kademlia<P> {
        Kademlia::with(me, seeds, KademliaConfig::default())
    }

    /// A node with a configuration of its own; without seeds it starts a network.
    pub fn with(me: P, seeds: impl IntoIterator<Item = P>, config: KademliaConfig) -> Kademlia<P> {
        Routed::new(KademliaTable::new(me, seeds, config), config.lookup)
    }
}

/// How a Kademlia node behaves.
#[derive(Clone, Copy, Debug)]
pub struct KademliaConfig {
    /// How many contacts a bucket has, and how many of the closest nodes answer a lookup, k (§2.2). 20; 1 to 32.
    pub k: usize,
    /// How many contacts wait to take the place of one that has died, for each bucket (§4.1). 8.
    pub replacements: usize,
    /// How many bits a lookup step resolves, b (§4.2). 1; 1 to 8.
    pub bits: u8,
    /// A node looks after its neighbourhood and its buckets this often on average; each time after half to one and a
    /// half of it. 15 s. Zero: never, the tables stay as they are, dead entries too: for experiments on a network at
    /// rest.
    pub upkeep: Duration,
    /// A bucket in whose range nothing was looked up for this long is refreshed (§2.3). 1 h.
    pub refresh: Duration,
    /// How many siblings of a key a node is to know if it is one, s (S/Kademlia §4.2): then it keeps the η·s nearest
    /// whatever their bucket, η = 5, and not only the k nearest, so that with high probability all s are among them.
    /// A lookup for s peers gives them. 0: off; at most 16.
    pub siblings: usize,
    /// On how many paths that have no node in common an iterative lookup goes, d, so that liars on one cannot mislead the
    /// others (S/Kademlia §4.4). 1; 1 to 16.
    pub paths: u8,
    /// How many peers of one subnet are contacts, in all and in each bucket; of those in waiting as many in each. No
    /// bound; where strangers may join, [`SubnetLimits::default`]. It holds in a node's neighbourhood too: there is
    /// no ring to break, and who is kept out there is not found, but the next nearest are.
    pub subnets: Option<SubnetLimits>,
    /// How lookups behave; the upkeep's questions have the same timeout. Three at a time, α (§2.3).
    pub lookup: LookupConfig,
}

impl Default for KademliaConfig {
    fn default() -> KademliaConfig {
        KademliaConfig {
            k: 20,
            replacements: 8,
            bits: 1,
            upkeep: Duration::from_secs(15),
            refresh: Duration::from_secs(3600),
            siblings: 0,
            paths: 1,
            subnets: None,
            lookup: LookupConfig { mode: Mode::iterative(3), ..LookupConfig::default() },
        }
    }
}

impl KademliaConfig {
    /// k, within its bounds.
    fn most(&self) -> usize {
        self.k.clamp(1, MAX_K)
    }

    /// b, within its bounds.
    fn width(&self) -> u8 {
        self.bits.clamp(1, 8)
    }

    /// How many nodes of its neighbourhood a node knows: k, or η times as many as it keeps siblings.
    fn neighbourhood(&self) -> usize {
        self.most().max(ETA * self.siblings.min(MAX_SIBLINGS))
    }
}

/// The largest buckets.
const MAX_K: usize = 32;
/// How many questions of the upkeep wait at once. Half of them are not for whomever others name.
const MAX_ASKED: usize = 256;
/// S/Kademlia's η.
const ETA: usize = 5;
/// The most siblings: η times as many go into one message.
const MAX_SIBLINGS: usize = 16;

/// What a Kademlia node knows: at most k living contacts for each bucket and k silent ones, the k nearest (with
/// [`KademliaConfig::siblings`] five times as many as those) whatever their bucket, and at most
/// [`KademliaConfig::replacements`] in waiting for each; and up to 48 peers through whom it finds back.
#[derive(Clone, Debug)]
pub struct KademliaTable<P> {
    me: P,
    joined: bool,
    buckets: Buckets<P>,
    /// Pings, and questions for neighbours; at most [`MAX_ASKED`].
    asked: Pending<P, ()>,
    /// The level whose range is refreshed next, after joining: from the nearest bucket to the furthest.
    exploring: Option<usize>,
    doors: Doors<P>,
    /// Shared where many nodes are configured alike.
    config: Arc<KademliaConfig>,
}

/// What Kademlia nodes say beside lookups.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum KademliaMsg<P> {
    /// To a contact whose life is in doubt, or a peer that should be a contact: are you alive? Answered by
    /// [`KademliaMsg::Pong`].
    Ping {
        /// Numbers the question.
        id: u32,
    },
    /// It is.
    Pong {
        /// The number of the question.
        id: u32,
    },
    /// To one of the nearest contacts: who is near me? Answered by [`KademliaMsg::Neighbours`].
    GetNeighbours {
        /// Numbers the question.
        id: u32,
    },
    /// The contacts closest to whoever asked.
    Neighbours {
        /// The number of the question.
        id: u32,
        /// The closest first.
        peers: Vec<P>,
    },
}

impl<P: Keyed> KademliaTable<P> {
    /// The tables of a node that has not joined yet; without seeds, of the only node of a new network.
    pub fn new(
        me: P,
        seeds: impl IntoIterator<Item = P>,
        config: impl Into<Arc<KademliaConfig>>,
    ) -> KademliaTable<P> {
        let config = config.into();
        let doors = Doors::new(me, seeds);
        KademliaTable {
            me,
            joined: doors.is_founder(),
            buckets: Buckets::new(me.key(), config.most(), config.replacements, config.width())
                .with(config.neighbourhood(), config.subnets),
            asked: Pending::with_capacity(MAX_ASKED),
            exploring: None,
            doors,
            config,
        }
    }

    /// Where this node stands.
    pub fn key(&self) -> Key {
        self.buckets.me()
    }

    /// The contacts, the nearest first; those that were silent when last asked among them.
    pub fn contacts(&self) -> impl ExactSizeIterator<Item = P> {
        self.buckets.contacts().map(|contact| contact.seat.spot.peer)
    }

    fn next_hop(&self, key: &Key, avoid: &[P]) -> Next<P> {
        if !self.joined {
            return Next::Nowhere;
        }
        let own = self.key().xor(key);
        match self.buckets.closest(key, 1, avoid).first() {
            Some(spot) if spot.order_to(&own, key).is_lt() => Next::Toward(spot.peer),
            _ => Next::Mine,
        }
    }

    /// This node and its contacts, those closest to a key first.
    fn replica_set(&self, key: &Key, n: usize) -> Replicas<P> {
        let mut closest = self.buckets.closest(key, n, &[]);
        let own = Spot::at(&self.key().xor(key), self.me);
        closest.insert(closest.partition_point(|other| other.is_before(&own, key)), own);
        Replicas::Peers(closest.into_iter().map(|spot| spot.peer).take(n).collect())
    }

    /// A key is nearest to this node if it agrees with it in every bit for which there is a node that does not: what
    /// lies in an empty subtree falls to its sibling.
    fn region(&self) -> Region {
        match self.joined {
            true => Region::Bits { key: self.key(), mask: self.buckets.occupied() },
            false => Region::Nothing,
        }
    }
}

#[cfg(test)]
mod tests;
