//! What this node keeps for others: peers of torrents, and items (BEP 44). In memory, bounded, for a while.
//!
//! Where there is no room what is furthest from this node's id has to go, since others keep that: filling a node up with
//! what is none of its business displaces nothing that is.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use p2p_core::{Key, Rng, Time};

use super::item::{MutableItem, target_of};
use super::krpc::{PutItem, Samples};

/// How much a node keeps for others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreLimits {
    /// Torrents. 2,000.
    pub torrents: usize,
    /// Peers of each. 200.
    pub peers_per_torrent: usize,
    /// How long a peer is kept after its last announcement; clients announce every 15 minutes or so. 30 minutes.
    pub peer_lifetime: Duration,
    /// Items, each of 1,164 bytes at most. 2,000.
    pub items: usize,
    /// How long an item is kept after it was last put (BEP 44). 2 hours.
    pub item_lifetime: Duration,
    /// How long the sample of torrents stays the same (BEP 51). 10 minutes, at most 6 hours.
    pub sample_interval: Duration,
}

impl Default for StoreLimits {
    fn default() -> StoreLimits {
        StoreLimits {
            torrents: 2000,
            peers_per_torrent: 200,
            peer_lifetime: Duration::from_secs(30 * 60),
            items: 2000,
            item_lifetime: Duration::from_secs(2 * 3600),
            sample_interval: Duration::from_secs(10 * 60),
        }
    }
}

/// Torrents in one sample: what fits a packet beside nodes.
const SAMPLED: usize = 20;

/// Something kept.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    pub(super) item: KeptItem,
    expires: Time,
}

/// What it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum KeptItem {
    Immutable(Bytes),
    Mutable(MutableItem),
}

/// Why something is not kept: BEP 44's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NotKept(pub(super) i64, pub(super) &'static str);

/// See the module's text.
#[derive(Clone, Debug)]
pub(super) struct Store {
    limits: StoreLimits,
    /// The peers of each torrent, and until when.
    torrents: BTreeMap<Key<20>, BTreeMap<SocketAddr, Time>>,
    items: BTreeMap<Key<20>, Kept>,
    sample: Vec<Key<20>>,
    sampled: Option<Time>,
}

impl Store {
    pub(super) fn new(limits: StoreLimits) -> Store {
        let (torrents, items) = (BTreeMap::new(), BTreeMap::new());
        Store { limits, torrents, items, sample: Vec::new(), sampled: None }
    }

    pub(super) fn torrents(&self) -> usize {
        self.torrents.len()
    }

    pub(super) fn items(&self) -> usize {
        self.items.len()
    }

    /// A peer has a torrent. Whether it is kept.
    pub(super) fn announce(&mut self, now: Time, me: &Key<20>, torrent: Key<20>, peer: SocketAddr) -> bool {
        if !self.torrents.contains_key(&torrent)
            && !make_room(&mut self.torrents, self.limits.torrents, me, &torrent)
        {
            return false;
        }
        let peers = self.torrents.entry(torrent).or_default();
        if !peers.contains_key(&peer) && peers.len() >= self.limits.peers_per_torrent {
            let first = peers.iter().min_by_key(|(_, until)| **until).map(|(peer, _)| *peer);
            first.and_then(|first| peers.remove(&first));
        }
        peers.insert(peer, now + self.limits.peer_lifetime);
        true
    }

    /// Some of a torrent's peers, chosen at random, of one kind of address.
    pub(super) fn peers(
        &self,
        now: Time,
        torrent: &Key<20>,
        v6: bool,
        most: usize,
        rng: &mut Rng,
    ) -> Vec<SocketAddr> {
        let peers = self.torrents.get(torrent).into_iter().flatten();
        let mut peers: Vec<SocketAddr> = peers
            .filter(|(peer, until)| **until > now && peer.is_ipv6() == v6)
            .map(|(peer, _)| *peer)
            .collect();
        if peers.len() > most {
            rng.shuffle(&mut peers);
            peers.truncate(most);
        }
        peers
    }

    /// What is kept at a target.
    pub(super) fn item(&self, now: Time, target: &Key<20>) -> Option<&KeptItem> {
        self.items.get(target).filter(|kept| kept.expires > now).map(|kept| &kept.item)
    }

    /// Keeps an item, if it may (BEP 44). A signed one is checked last, since that costs most.
    pub(super) fn put(&mut self, now: Time, me: &Key<20>, item: PutItem) -> Result<(), NotKept> {
        let (target, item) = match item {
            PutItem::Immutable(value) => (target_of(&value), KeptItem::Immutable(value)),
            PutItem::Mutable { item, cas } => {
                let target = item.target();
                if let Some(KeptItem::Mutable(kept)) = self.item(now, &target) {
                    may_replace(kept, &item, cas)?;
                }
                if !item.is_genuine() {
                    return Err(NotKept(206, "invalid signature"));
                }
                (target, KeptItem::Mutable(item))
            }
        };
        if !self.items.contains_key(&target) && !make_room(&mut self.items, self.limits.items, me, &target) {
            return Err(NotKept(202, "no room for this"));
        }
        self.items.insert(target, Kept { item, expires: now + self.limits.item_lifetime });
        Ok(())
    }

    /// Some of the torrents that are known, the same for a while (BEP 51).
    pub(super) fn sample(&mut self, now: Time, rng: &mut Rng) -> Samples {
        let interval = self.limits.sample_interval.min(Duration::from_secs(6 * 3600));
        if self.sampled.is_none_or(|at| now - at >= interval) {
            let mut all: Vec<Key<20>> = self.torrents.keys().copied().collect();
            rng.shuffle(&mut all);
            all.truncate(SAMPLED);
            (self.sample, self.sampled) = (all, Some(now));
        }
        let left = self.sampled.map_or(interval, |at| interval.saturating_sub(now - at));
        Samples {
            info_hashes: self.sample.clone(),
            total: u32::try_from(self.torrents.len()).unwrap_or(u32::MAX),
            interval: left.as_secs() as u32,
        }
    }

    /// Forgets whatever is too old.
    pub(super) fn expire(&mut self, now: Time) {
        self.torrents.retain(|_, peers| {
            peers.retain(|_, until| *until > now);
            !peers.is_empty()
        });
        self.items.retain(|_, kept| kept.expires > now);
    }
}

/// Whether a newer item may take an older one's place.
fn may_replace(kept: &MutableItem, new: &MutableItem, cas: Option<i64>) -> Result<(), NotKept> {
    if cas.is_some_and(|cas| cas != kept.sequence) {
        return Err(NotKept(301, "CAS mismatch, re-read value and try again"));
    }
    let is_older = new.sequence < kept.sequence;
    if is_older || new.sequence == kept.sequence && new.value != kept.value {
        return Err(NotKept(302, "sequence number less than current"));
    }
    Ok(())
}

/// Makes room for one more, unless everything there is nearer than it.
fn make_room<T>(kept: &mut BTreeMap<Key<20>, T>, most: usize, me: &Key<20>, new: &Key<20>) -> bool {
    if kept.len() < most {
        return true;
    }
    // The furthest is among those with the other first bit, at the end of theirs that is further.
    let Some(furthest) = kept.keys().max_by_key(|key| key.xor(me)).copied() else { return false };
    let is_nearer = new.xor(me) < furthest.xor(me);
    if is_nearer {
        kept.remove(&furthest);
    }
    is_nearer
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bencode;
    use p2p_core::Keypair;

    const ME: Key<20> = Key::new([0; 20]);

    fn store() -> Store {
        let limits = StoreLimits { torrents: 3, peers_per_torrent: 2, items: 3, ..StoreLimits::default() };
        Store::new(limits)
    }

    fn key(first: u8) -> Key<20> {
        let mut key = [0; 20];
        key[0] = first;
        Key::new(key)
    }

    fn peer(n: u8) -> SocketAddr {
        SocketAddr::from(([203, 0, 113, n], 6881))
    }

    fn minutes(minutes: u64) -> Time {
        Time::ZERO + Duration::from_secs(minutes * 60)
    }

    fn put(store: &mut Store, sequence: i64, value: &str, cas: Option<i64>) -> Result<(), NotKept> {
        let keypair = Keypair::from_seed(&[7; 32]);
        let item = MutableItem::new(&keypair, "", sequence, bencode::bytes(value)).unwrap();
        store.put(Time::ZERO, &ME, PutItem::Mutable { item, cas })
    }

    #[test]
    fn a_sequence_number_never_goes_back_and_stands_for_one_value() {
        let mut store = store();
        let code = |result: Result<(), NotKept>| result.unwrap_err().0;
        assert_eq!(put(&mut store, 3, "a", Some(77)), Ok(()), "without a value there is nothing to compare");
        assert_eq!(put(&mut store, 3, "a", None), Ok(()), "the same again keeps it alive");
        assert_eq!(code(put(&mut store, 3, "b", None)), 302);
        assert_eq!(code(put(&mut store, 2, "a", None)), 302);
        assert_eq!(code(put(&mut store, 4, "b", Some(2))), 301);
        assert_eq!(put(&mut store, 4, "b", Some(3)), Ok(()));
    }

    #[test]
    fn a_forged_item_is_not_kept() {
        let mut store = store();
        let item = MutableItem::new(&Keypair::from_seed(&[7; 32]), "", 1, bencode::bytes("a")).unwrap();
        let forged = MutableItem { sequence: 2, ..item };
        let result = store.put(Time::ZERO, &ME, PutItem::Mutable { item: forged, cas: None });
        assert_eq!(result, Err(NotKept(206, "invalid signature")));
        assert_eq!(store.items(), 0);
    }

    #[test]
    fn where_there_is_no_room_the_furthest_goes() {
        let mut store = store();
        for first in [1, 2, 3] {
            assert!(store.announce(minutes(0), &ME, key(first), peer(1)));
        }
        assert!(!store.announce(minutes(0), &ME, key(4), peer(1)), "it is further than all");
        assert!(store.announce(minutes(0), &ME, key(0), peer(1)));
        assert!(store.peers(minutes(0), &key(3), false, 9, &mut Rng::new(1)).is_empty());
    }

    #[test]
    fn peers_come_and_go() {
        let mut store = store();
        let mut rng = Rng::new(1);
        (1..4).for_each(|n| {
            store.announce(minutes(u64::from(n)), &ME, key(1), peer(n));
        });
        assert_eq!(store.peers(minutes(5), &key(1), false, 9, &mut rng), [peer(2), peer(3)]);
        assert_eq!(store.peers(minutes(5), &key(1), false, 1, &mut rng).len(), 1);
        assert!(store.peers(minutes(5), &key(1), true, 9, &mut rng).is_empty(), "no IPv6 peers for IPv4");
        assert_eq!(store.peers(minutes(32), &key(1), false, 9, &mut rng), [peer(3)]);
        store.expire(minutes(33));
        assert_eq!(store.torrents(), 0);
    }

    #[test]
    fn a_sample_stays_the_same_for_its_interval() {
        let mut store = Store::new(StoreLimits::default());
        let mut rng = Rng::new(1);
        let announce = |store: &mut Store, from: u8| {
            (from..from + 50).for_each(|n| {
                store.announce(minutes(0), &ME, key(n), peer(1));
            });
        };
        announce(&mut store, 0);
        let first = store.sample(minutes(0), &mut rng);
        assert_eq!((first.info_hashes.len(), first.total, first.interval), (SAMPLED, 50, 600));
        announce(&mut store, 100);
        let second = store.sample(minutes(4), &mut rng);
        assert_eq!(
            (second.info_hashes == first.info_hashes, second.total, second.interval),
            (true, 100, 360)
        );
        assert_ne!(store.sample(minutes(10), &mut rng).info_hashes, first.info_hashes);
    }
}
