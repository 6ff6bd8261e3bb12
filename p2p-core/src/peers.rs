//! The host cache: where peers were last seen.
//!
//! A [`HostCache`] keeps, per peer, a few addresses with how each was learnt. What a handshake has proved is never
//! displaced by what the peer says of itself, nor that by what others say of it: otherwise anybody could make
//! us forget our peers, or have us dial a victim (Heilman et al., "Eclipse Attacks on Bitcoin's Peer-to-Peer Network",
//! 2015). But where dials have failed [`GIVEN_UP`] times in a row nobody is believed to be, whatever was proved once: that
//! makes room for anybody, or a cache full of the dead would refuse the living. It is bounded in all, per peer and per
//! subnet, and its file is replaced in one step.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{Contact, PeerId};

/// Addresses kept of one peer. 4: IPv4 and IPv6, an old and a new one.
pub const MAX_ADDRESSES: usize = 4;

/// After so many failed dials in a row an address is given up. 3.
pub const GIVEN_UP: u32 = 3;

/// How an address was learnt, the better the later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Learnt {
    /// Somebody else said so.
    Hearsay,
    /// The peer itself said so.
    Told,
    /// A handshake there has proved the peer's key.
    Proved,
}

/// One address of a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Address {
    /// Where.
    pub addr: SocketAddr,
    /// How it was learnt.
    pub learnt: Learnt,
    /// When it was last seen working, or heard of, since the Unix epoch.
    pub seen: Duration,
    /// Dials in a row that have failed.
    pub failures: u32,
}

/// Where peers were last seen; see the module's text. At most as many peers and as many addresses per subnet (a
/// /24 of IPv4, a /48 of IPv6) as it was made with, and [`MAX_ADDRESSES`] per peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostCache {
    peers: BTreeMap<PeerId, Vec<Address>>,
    subnets: BTreeMap<Subnet, usize>,
    most: usize,
    most_per_subnet: usize,
}

impl Default for HostCache {
    /// 4,096 peers, 64 addresses per subnet.
    fn default() -> Self {
        HostCache::new(4096, 64)
    }
}

/// Where an address is rented: a /24 of IPv4, a /48 of IPv6. Addresses within one cost next to nothing more, so it is
/// subnets, and not addresses, of which a bound counts how much anybody has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Subnet(IpAddr);

impl Subnet {
    /// The subnet of an address.
    ///
    /// ```
    /// use p2p_core::Subnet;
    ///
    /// let of = |ip: &str| Subnet::of(ip.parse().unwrap());
    /// assert_eq!(of("192.0.2.1"), of("192.0.2.200"));
    /// assert_ne!(of("192.0.2.1"), of("192.0.3.1"));
    /// assert_eq!(of("2001:db8:1::1"), of("2001:db8:1:2::3"));
    /// ```
    pub fn of(ip: IpAddr) -> Subnet {
        Subnet(match ip.to_canonical() {
            IpAddr::V4(ip) => Ipv4Addr::from_bits(ip.to_bits() & 0xffff_ff00).into(),
            IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() & !0u128 << 80).into(),
        })
    }
}

impl Address {
    /// Whether nobody has been there the last [`GIVEN_UP`] times.
    pub fn is_given_up(&self) -> bool {
        self.failures >= GIVEN_UP
    }

    /// What is worth keeping, and dialling, most comes last: who may be there, then proof, then few failures, then the
    /// newest.
    pub fn worth(&self) -> impl Ord + use<> {
        (!self.is_given_up(), self.learnt, std::cmp::Reverse(self.failures), self.seen)
    }

    /// Whether it makes room for what was learnt so.
    fn yields_to(&self, learnt: Learnt) -> bool {
        self.is_given_up() || self.learnt <= learnt
    }
}

impl HostCache {
    /// An empty cache of at most so many peers, and addresses per subnet. Loopback is one machine's own and not
    /// counted as a subnet.
    pub fn new(most: usize, most_per_subnet: usize) -> HostCache {
        HostCache { peers: BTreeMap::new(), subnets: BTreeMap::new(), most, most_per_subnet }
    }

    /// Notes where a peer is said, or proved, to be. `false` if there is no room for what is worth as little.
    pub fn note(&mut self, contact: Contact, learnt: Learnt, now: Duration) -> bool {
        let Contact { id, addr } = contact;
        if let Some(known) = self.address(&id, addr) {
            known.learnt = known.learnt.max(learnt);
            if learnt >= known.learnt {
                known.seen = known.seen.max(now);
            }
            if learnt == Learnt::Proved {
                known.failures = 0;
            }
            return true;
        }
        let new = Address { addr, learnt, seen: now, failures: 0 };
        let crowded =
            self.subnets.get(&Subnet::of(addr.ip())).is_some_and(|&count| count >= self.most_per_subnet);
        if crowded && !addr.ip().is_loopback() {
            let net = Subnet::of(addr.ip());
            if !self.evict(learnt, |address| Subnet::of(address.addr.ip()) == net) {
                return false;
            }
        }
        let known = self.peers.get(&id).map_or(0, Vec::len);
        if known == 0 && self.peers.len() >= self.most && !self.forget_worst(learnt) {
            return false;
        }
        if known >= MAX_ADDRESSES {
            let addresses = self.peers.get(&id).into_iter().flatten();
            let Some(worst) = addresses.min_by_key(|address| address.worth()).copied() else { return false };
            if !worst.yields_to(learnt) {
                return false;
            }
            self.remove(&id, worst.addr);
        }
        *self.subnets.entry(Subnet::of(addr.ip())).or_default() += 1;
        self.peers.entry(id).or_default().push(new);
        true
    }

    /// Notes that a dial has failed.
    pub fn failed(&mut self, contact: Contact) {
        if let Some(known) = self.address(&contact.id, contact.addr) {
            known.failures = known.failures.saturating_add(1);
        }
    }

    /// A peer's addresses, the most promising first.
    pub fn addresses(&self, id: &PeerId) -> Vec<Address> {
        let mut addresses = self.peers.get(id).cloned().unwrap_or_default();
        addresses.sort_by_key(|address| std::cmp::Reverse(address.worth()));
        addresses
    }

    /// Every peer with its most promising address, the most promising first: whom to dial after a start.
    pub fn best(&self) -> Vec<Contact> {
        let mut best: Vec<_> = self.iter().collect();
        best.sort_by_key(|(_, address)| std::cmp::Reverse(address.worth()));
        best.into_iter().map(|(id, address)| Contact::new(id, address.addr)).collect()
    }

    /// Every peer with its most promising address, in order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (PeerId, &Address)> {
        self.peers
            .iter()
            .filter_map(|(id, addresses)| Some((*id, addresses.iter().max_by_key(|it| it.worth())?)))
    }

    /// How many peers it knows.
    pub fn len(&self) -> usize {
        self.peers.len()
    }

    /// Whether it knows nobody.
    pub fn is_empty(&self) -> bool {
        self.peers.is_empty()
    }

    fn address(&mut self, id: &PeerId, addr: SocketAddr) -> Option<&mut Address> {
        self.peers.get_mut(id)?.iter_mut().find(|address| address.addr == addr)
    }

    fn remove(&mut self, id: &PeerId, addr: SocketAddr) {
        if let Some(addresses) = self.peers.get_mut(id) {
            addresses.retain(|address| address.addr != addr);
            if addresses.is_empty() {
                self.peers.remove(id);
            }
        }
        if let Some(count) = self.subnets.get_mut(&Subnet::of(addr.ip())) {
            *count -= 1;
            if *count == 0 {
                self.subnets.remove(&Subnet::of(addr.ip()));
            }
        }
    }

    /// Makes room for an address by removing the least worthy one of some. `false` if all are worth more.
    fn evict(&mut self, learnt: Learnt, which: impl Fn(&Address) -> bool) -> bool {
        let all = self
            .peers
            .iter()
            .flat_map(|(id, addresses)| addresses.iter().map(move |address| (*id, *address)));
        let worst = all.filter(|(_, address)| which(address)).min_by_key(|(_, address)| address.worth());
        match worst {
            Some((id, address)) if address.yields_to(learnt) => {
                self.remove(&id, address.addr);
                true
            }
            _ => false,
        }
    }

    /// Makes room for a peer by forgetting the one whose best address is worth least.
    fn forget_worst(&mut self, learnt: Learnt) -> bool {
        let best = |addresses: &[Address]| addresses.iter().copied().max_by_key(Address::worth);
        let worst = self.peers.iter().min_by_key(|(_, addresses)| best(addresses).map(|best| best.worth()));
        let Some((&id, addresses)) = worst else { return true };
        if best(addresses).is_some_and(|best| !best.yields_to(learnt)) {
            return false;
        }
        for address in addresses.clone() {
            self.remove(&id, address.addr);
        }
        true
    }

    // ---- its file

    /// Writes it to a file, which is replaced in one step: a crash leaves the old one or the new one.
    ///
    /// # Errors
    /// The file cannot be written.
    #[allow(clippy::disallowed_methods, reason = "for programs, not for machines")]
    pub fn save(&self, path: impl AsRef<Path>) -> io::Result<()> {
        let path = path.as_ref();
        let bytes = postcard::to_allocvec(&(VERSION, &self.peers)).map_err(io::Error::other)?;
        let mut beside = path.as_os_str().to_owned();
        beside.push(".new");
        let mut file = std::fs::File::create(&beside)?;
        io::Write::write_all(&mut file, &bytes)?;
        file.sync_all()?;
        drop(file);
        std::fs::rename(&beside, path)
    }

    /// Adds what [`HostCache::save`] wrote, as far as there is room. What was proved then is still believed: the
    /// file is this program's own.
    ///
    /// # Errors
    /// The file cannot be read, is longer than a full cache's, or is no such file.
    #[allow(clippy::disallowed_methods, reason = "for programs, not for machines")]
    pub fn load(&mut self, path: impl AsRef<Path>) -> io::Result<()> {
        let file = std::fs::File::open(path)?;
        let mut bytes = Vec::new();
        // 33 bytes of id and count, and at most 40 for each address.
        let most = 64 + self.most.saturating_mul(33 + MAX_ADDRESSES * 40) as u64;
        io::Read::read_to_end(&mut io::Read::take(file, most), &mut bytes)?;
        let malformed = |_| io::Error::new(io::ErrorKind::InvalidData, "not a host cache of this version");
        let (version, peers): (u8, BTreeMap<PeerId, Vec<Address>>) =
            postcard::from_bytes(&bytes).map_err(malformed)?;
        if version != VERSION {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a host cache of another version"));
        }
        for (id, addresses) in peers {
            for address in addresses {
                if self.note(Contact::new(id, address.addr), address.learnt, address.seen)
                    && let Some(known) = self.address(&id, address.addr)
                {
                    known.failures = address.failures;
                }
            }
        }
        Ok(())
    }
}

const VERSION: u8 = 1;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn peer(number: u8, addr: &str) -> Contact {
        Contact::new(PeerId::from_bytes([number; 32]), addr.parse().unwrap())
    }

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn hearsay_never_displaces_what_is_proved() {
        let mut cache = HostCache::new(1, 64);
        assert!(cache.note(peer(1, "192.0.2.1:1"), Learnt::Proved, at(1)));
        assert!(!cache.note(peer(2, "198.51.100.1:1"), Learnt::Hearsay, at(9)), "no room for another peer");
        for host in 1..100 {
            cache.note(peer(1, &format!("203.0.113.{host}:1")), Learnt::Hearsay, at(9));
        }
        let addresses = cache.addresses(&PeerId::from_bytes([1; 32]));
        assert_eq!((addresses.len(), addresses[0].learnt), (MAX_ADDRESSES, Learnt::Proved));
        assert_eq!(cache.best()[0].addr, "192.0.2.1:1".parse().unwrap());
        assert!(cache.note(peer(2, "198.51.100.1:1"), Learnt::Proved, at(9)), "proof has room");
    }

    /// A servent that has been there for long, and has met many who are gone, still hears of those who are there.
    #[test]
    fn a_full_cache_of_the_dead_takes_in_the_living() {
        let mut cache = HostCache::new(20, 64);
        let known = |number: u8| peer(number, &format!("192.0.{number}.1:1"));
        for number in 1..=20 {
            cache.note(known(number), Learnt::Proved, at(u64::from(number)));
        }
        let heard = |number: u8| peer(number, &format!("203.0.{number}.1:1"));
        // The first is there; the others are not, which shows only after some dials.
        for dial in 1..=GIVEN_UP {
            assert!(!cache.note(heard(100), Learnt::Hearsay, at(50)), "{dial}: they may still be there");
            (2..=20).for_each(|number| cache.failed(known(number)));
        }
        for number in 100..119 {
            assert!(cache.note(heard(number), Learnt::Hearsay, at(60)), "{number}");
        }
        let best = cache.best();
        assert_eq!((cache.len(), best[0]), (20, known(1)), "who is there stays");
        assert_eq!(
            best[1..].iter().filter(|contact| contact.addr.ip().to_string().starts_with("203")).count(),
            19
        );
        // Hearsay displaces hearsay, and not the one who is there.
        assert!(cache.note(heard(120), Learnt::Hearsay, at(70)));
        assert_eq!(cache.best()[0], known(1));
        // Whom a handshake proves again is there again.
        let mut cache = HostCache::new(1, 64);
        cache.note(known(1), Learnt::Proved, at(1));
        (0..GIVEN_UP).for_each(|_| cache.failed(known(1)));
        cache.note(known(1), Learnt::Proved, at(2));
        assert!(!cache.note(heard(2), Learnt::Hearsay, at(3)));
    }

    #[test]
    fn a_subnet_is_bounded() {
        let mut cache = HostCache::new(1000, 3);
        let note = |cache: &mut HostCache, number: u8, learnt| {
            cache.note(peer(number, &format!("192.0.2.{number}:1")), learnt, at(u64::from(number)))
        };
        for number in 1..=3 {
            assert!(note(&mut cache, number, Learnt::Proved));
        }
        assert!(!note(&mut cache, 4, Learnt::Told));
        assert!(note(&mut cache, 5, Learnt::Proved), "the oldest makes room");
        assert_eq!(cache.len(), 3);
    }

    #[test]
    fn failures_and_age_tell_which_to_dial_first() {
        let mut cache = HostCache::default();
        cache.note(peer(1, "192.0.2.1:1"), Learnt::Proved, at(5));
        cache.note(peer(1, "192.0.2.2:1"), Learnt::Proved, at(1));
        cache.failed(peer(1, "192.0.2.1:1"));
        let first = |cache: &HostCache| cache.addresses(&PeerId::from_bytes([1; 32]))[0].addr;
        assert_eq!(first(&cache), "192.0.2.2:1".parse().unwrap());
        cache.note(peer(1, "192.0.2.1:1"), Learnt::Proved, at(6));
        assert_eq!(first(&cache), "192.0.2.1:1".parse().unwrap());
    }

    #[test]
    fn it_comes_back_from_its_file() {
        let path = std::env::temp_dir().join(format!("p2p-host-cache-{}", std::process::id()));
        let mut cache = HostCache::default();
        cache.note(peer(1, "192.0.2.1:1"), Learnt::Proved, at(5));
        cache.note(peer(2, "[2001:db8::1]:1"), Learnt::Hearsay, at(6));
        cache.failed(peer(2, "[2001:db8::1]:1"));
        cache.save(&path).unwrap();
        let mut loaded = HostCache::default();
        loaded.load(&path).unwrap();
        assert_eq!(loaded, cache);
        std::fs::write(&path, [0xff; 100]).unwrap();
        assert_eq!(loaded.load(&path).unwrap_err().kind(), io::ErrorKind::InvalidData);
        std::fs::remove_file(&path).unwrap();
    }

    proptest! {
        #[test]
        fn it_stays_in_its_bounds(notes in prop::collection::vec((0u8..30, 0u8..4, 0u8..6, 0u8..3), 0..300)) {
            let mut cache = HostCache::new(10, 5);
            for (id, net, host, learnt) in notes {
                let learnt = [Learnt::Hearsay, Learnt::Told, Learnt::Proved][usize::from(learnt)];
                cache.note(peer(id, &format!("192.0.{net}.{host}:1")), learnt, at(u64::from(host)));
                prop_assert!(cache.len() <= 10);
                prop_assert!(cache.subnets.values().all(|count| *count <= 5));
                let addresses: usize = cache.peers.values().map(Vec::len).sum();
                prop_assert_eq!(addresses, cache.subnets.values().sum::<usize>());
                prop_assert!(cache.peers.values().all(|all| (1..=MAX_ADDRESSES).contains(&all.len())));
            }
        }
    }
}
