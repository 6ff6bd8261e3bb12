//! What this node keeps for others: peers of torrents, and items (BEP 44). In memory, bounded, for a while.
//!
//! Where there is no room what is furthest from this node's id has to go, since others keep that: filling a node up with
//! what is none of its business displaces nothing that is. Who floods it with what is near, torrents or items, or a torrent
//! with ports, displaces its own.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use p2p_core::{Key, Rng, Time};

use super::item::{MutableItem, target_of};
use super::krpc::{PutItem, Samples};
use super::sources::host_of;

/// How much a node keeps for others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreLimits {
    /// Torrents. 2,000.
    pub torrents: usize,
    /// Peers of each, of which eight at one host. 200.
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

/// Peers of a torrent at one host, as `sources` names it: any program there, and no flood of ports.
const PEERS_PER_HOST: usize = 8;
/// Where there is no room for all torrents, a host keeps one in so many of them that nobody else announces; and so with items
/// that nobody else puts.
const SHARE: usize = 16;

/// The peers of a torrent, and until when.
#[derive(Clone, Debug, Default)]
struct Torrent {
    peers: BTreeMap<SocketAddr, Time>,
    /// The host at which all of them are, if it is one.
    sole: Option<SocketAddr>,
}

impl Torrent {
    /// Takes a peer in, for the one of its host, or of all, that will be gone first if there are too many.
    fn insert(&mut self, peer: SocketAddr, until: Time, most: usize) {
        let host = host_of(peer);
        if !self.peers.contains_key(&peer) {
            let of_host = || self.peers.iter().filter(|(other, _)| host_of(**other) == host);
            let first = match of_host().count() >= PEERS_PER_HOST {
                true => of_host().min_by_key(|(_, until)| **until),
                false if self.peers.len() >= most => self.peers.iter().min_by_key(|(_, until)| **until),
                false => None,
            };
            if let Some(first) = first.map(|(peer, _)| *peer) {
                self.peers.remove(&first);
            }
        }
        self.peers.insert(peer, until);
    }
}

/// Something kept.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    pub(super) item: KeptItem,
    expires: Time,
    /// The host that alone has put it, if it is one.
    sole: Option<SocketAddr>,
}

/// How many torrents or items a host alone has brought.
#[derive(Clone, Debug, Default)]
struct Hosts(BTreeMap<SocketAddr, usize>);

impl Hosts {
    /// One more is a host's alone.
    fn own(&mut self, host: SocketAddr) {
        *self.0.entry(host).or_default() += 1;
    }

    /// One less is.
    fn disown(&mut self, host: SocketAddr) {
        if let Some(count) = self.0.get_mut(&host) {
            *count -= 1;
            if *count == 0 {
                self.0.remove(&host);
            }
        }
    }

    /// What has to go for one more, that a host brings, where there are as many as there may be; each comes with the host whose
    /// alone it is. Whoever has more than its share, with nobody else in any, has the furthest of those displaced, by others
    /// wherever theirs are and by itself for what is nearer. Where nobody has, the furthest of all has to go.
    fn displaced(
        &self,
        kept: impl ExactSizeIterator<Item = (Key<20>, Option<SocketAddr>)>,
        me: &Key<20>,
        new: &Key<20>,
        host: SocketAddr,
    ) -> Option<Key<20>> {
        let share = (kept.len() / SHARE).max(1);
        let has_share = self.0.get(&host).is_some_and(|count| *count >= share);
        let greedy = { self.0.iter() }.filter(|(_, count)| **count > share).max_by_key(|(_, count)| **count);
        let (of, anyhow) = match greedy {
            _ if has_share => (Some(host), false),
            Some((greedy, _)) => (Some(*greedy), true),
            None => (None, false),
        };
        let may_go = kept.filter(|(_, sole)| of.is_none() || *sole == of).map(|(key, _)| key);
        let furthest = may_go.max_by_key(|key| key.xor(me))?;
        (anyhow || new.xor(me) < furthest.xor(me)).then_some(furthest)
    }
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
    torrents: BTreeMap<Key<20>, Torrent>,
    torrent_hosts: Hosts,
    items: BTreeMap<Key<20>, Kept>,
    item_hosts: Hosts,
    sample: Vec<Key<20>>,
    sampled: Option<Time>,
}

impl Store {
    pub(super) fn new(limits: StoreLimits) -> Store {
        let (torrents, torrent_hosts, items, item_hosts) = Default::default();
        Store { limits, torrents, torrent_hosts, items, item_hosts, sample: Vec::new(), sampled: None }
    }

    pub(super) fn torrents(&self) -> usize {
        self.torrents.len()
    }

    pub(super) fn items(&self) -> usize {
        self.items.len()
    }

    /// A peer has a torrent. Whether it is kept.
    pub(super) fn announce(&mut self, now: Time, me: &Key<20>, torrent: Key<20>, peer: SocketAddr) -> bool {
        let (host, until) = (host_of(peer), now + self.limits.peer_lifetime);
        let is_new = !self.torrents.contains_key(&torrent);
        if is_new && !self.make_room_for_torrent(me, &torrent, host) {
            return false;
        }
        let kept = self.torrents.entry(torrent).or_default();
        kept.insert(peer, until, self.limits.peers_per_torrent);
        if is_new {
            kept.sole = Some(host);
            self.torrent_hosts.own(host);
        } else if let Some(sole) = kept.sole.take_if(|sole| *sole != host) {
            self.torrent_hosts.disown(sole);
        }
        true
    }

    fn make_room_for_torrent(&mut self, me: &Key<20>, new: &Key<20>, host: SocketAddr) -> bool {
        if self.torrents.len() < self.limits.torrents {
            return true;
        }
        let kept = self.torrents.iter().map(|(key, torrent)| (*key, torrent.sole));
        let Some(gone) = self.torrent_hosts.displaced(kept, me, new, host) else { return false };
        if let Some(sole) = self.torrents.remove(&gone).and_then(|gone| gone.sole) {
            self.torrent_hosts.disown(sole);
        }
        true
    }

    fn make_room_for_item(&mut self, me: &Key<20>, new: &Key<20>, host: SocketAddr) -> bool {
        if self.items.len() < self.limits.items {
            return true;
        }
        let kept = self.items.iter().map(|(target, kept)| (*target, kept.sole));
        let Some(gone) = self.item_hosts.displaced(kept, me, new, host) else { return false };
        if let Some(sole) = self.items.remove(&gone).and_then(|gone| gone.sole) {
            self.item_hosts.disown(sole);
        }
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
        let peers = self.torrents.get(torrent).into_iter().flat_map(|torrent| &torrent.peers);
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
    pub(super) fn put(
        &mut self,
        now: Time,
        me: &Key<20>,
        item: PutItem,
        from: SocketAddr,
    ) -> Result<(), NotKept> {
        let host = host_of(from);
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
        let is_new = !self.items.contains_key(&target);
        if is_new && !self.make_room_for_item(me, &target, host) {
            return Err(NotKept(202, "no room for this"));
        }
        let expires = now + self.limits.item_lifetime;
        let kept = self.items.entry(target).or_insert_with(|| Kept {
            item: item.clone(),
            expires,
            sole: Some(host),
        });
        (kept.item, kept.expires) = (item, expires);
        if is_new {
            self.item_hosts.own(host);
        } else if let Some(sole) = kept.sole.take_if(|sole| *sole != host) {
            self.item_hosts.disown(sole);
        }
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
        self.torrent_hosts.0.clear();
        self.torrents.retain(|_, torrent| {
            torrent.peers.retain(|_, until| *until > now);
            let mut hosts = torrent.peers.keys().map(|peer| host_of(*peer));
            let Some(first) = hosts.next() else { return false };
            torrent.sole = hosts.all(|host| host == first).then_some(first);
            if let Some(sole) = torrent.sole {
                self.torrent_hosts.own(sole);
            }
            true
        });
        self.items.retain(|_, kept| {
            let is_kept = kept.expires > now;
            if let Some(sole) = kept.sole.filter(|_| !is_kept) {
                self.item_hosts.disown(sole);
            }
            is_kept
        });
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
        store.put(Time::ZERO, &ME, PutItem::Mutable { item, cas }, peer(1))
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
        let result = store.put(Time::ZERO, &ME, PutItem::Mutable { item: forged, cas: None }, peer(1));
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

    #[test]
    fn a_host_is_eight_peers_of_a_torrent_at_most() {
        let mut store = Store::new(StoreLimits::default());
        let of = |text: &str, port: u16| SocketAddr::new(text.parse().unwrap(), port);
        store.announce(minutes(0), &ME, key(1), of("203.0.113.1", 1));
        for port in 1..300 {
            store.announce(
                minutes(1) + Duration::from_secs(port.into()),
                &ME,
                key(1),
                of("198.51.100.1", port),
            );
            let ip = format!("2001:db8::{port:x}");
            store.announce(minutes(1) + Duration::from_secs(port.into()), &ME, key(1), of(&ip, port));
        }
        let ports = |v6| {
            let peers = store.peers(minutes(7), &key(1), v6, 200, &mut Rng::new(1));
            peers.iter().map(SocketAddr::port).collect::<Vec<u16>>()
        };
        assert_eq!(ports(true), (292..300).collect::<Vec<u16>>(), "a /64 is one host");
        let own = [(292..300).collect::<Vec<u16>>(), vec![1]].concat();
        assert_eq!(ports(false), own, "the latest, and the other host's");
    }

    #[test]
    fn a_host_alone_does_not_keep_others_torrents_out() {
        let limits = StoreLimits { torrents: 32, ..StoreLimits::default() };
        let mut store = Store::new(limits);
        assert!((0..32).all(|n| store.announce(minutes(0), &ME, key(n), peer(1))), "there was room");
        assert!(!store.announce(minutes(0), &ME, key(40), peer(1)));
        // Further than all of those.
        for n in 100..200 {
            let is_kept = store.announce(minutes(1), &ME, key(n), peer(n));
            assert_eq!(is_kept, n < 130, "{n}");
        }
        let held = |first| !store.peers(minutes(1), &key(first), false, 9, &mut Rng::new(1)).is_empty();
        assert_eq!((0..32).filter(|n| held(*n)).collect::<Vec<u8>>(), [0, 1], "one in sixteen, the nearest");
        assert_eq!((store.torrents(), (100..130).filter(|n| held(*n)).count()), (32, 30));
        // What others have, too, is not that host's alone.
        let mut store = Store::new(limits);
        for n in 0..32 {
            store.announce(minutes(0), &ME, key(n), peer(1));
            store.announce(minutes(0), &ME, key(n), peer(2));
        }
        assert!(!store.announce(minutes(1), &ME, key(100), peer(3)));
        // Once those others are gone, it is.
        for n in 0..32 {
            store.announce(minutes(20), &ME, key(n), peer(1));
        }
        store.expire(minutes(31));
        assert!(store.announce(minutes(31), &ME, key(100), peer(3)));
    }

    #[test]
    fn a_host_alone_does_not_keep_others_items_out() {
        let limits = StoreLimits { items: 32, ..StoreLimits::default() };
        let mut store = Store::new(limits);
        let item = |i: u32| PutItem::Immutable(bencode::bytes(format!("item {i}")).into());
        let target = |i: u32| match item(i) {
            PutItem::Immutable(value) => target_of(&value),
            PutItem::Mutable { .. } => unreachable!(),
        };
        // What is nearest of many is ground by one host, the furthest of them are others'.
        let mut by_distance: Vec<u32> = (0..200).collect();
        by_distance.sort_by_key(|i| target(*i).xor(&ME));
        let (near, far) = (&by_distance[..32], &by_distance[100..130]);
        let mut put = |now: u64, i: u32, from: u8| store.put(minutes(now), &ME, item(i), peer(from)).is_ok();
        assert!(near.iter().all(|i| put(0, *i, 1)), "there was room");
        assert!(!put(0, by_distance[40], 1));
        assert!((10..).zip(far).all(|(from, i)| put(1, *i, from)), "further, and others'");
        assert!(!put(1, by_distance[150], 99), "nobody has more than a share now");
        let held = |store: &Store, of: &[u32]| {
            of.iter().filter(|i| store.item(minutes(1), &target(**i)).is_some()).count()
        };
        assert_eq!((held(&store, &near[..2]), held(&store, near), held(&store, far)), (2, 2, 30));
        // What others put, too, is not that host's alone; and what has ended is nobody's.
        let mut store = Store::new(limits);
        for i in near {
            store.put(minutes(0), &ME, item(*i), peer(1)).unwrap();
            store.put(minutes(0), &ME, item(*i), peer(2)).unwrap();
        }
        assert!(store.put(minutes(1), &ME, item(far[0]), peer(3)).is_err());
        store.expire(minutes(120));
        assert_eq!((store.items(), store.item_hosts.0.len()), (0, 0));
        store.put(minutes(120), &ME, item(far[0]), peer(1)).unwrap();
        store.expire(minutes(240));
        assert!(store.item_hosts.0.is_empty());
    }
}
