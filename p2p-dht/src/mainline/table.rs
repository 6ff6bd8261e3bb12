//! The routing table of one network: nodes that have answered, eight for each length of the prefix that their id shares
//! with this node's (BEP 5).
//!
//! It is not Kademlia's table of `p2p-overlay`: there a peer's name is its key, proved by the connection. Here an id is
//! only claimed, a node may come back with another one, and what counts is who has *answered at that address*: so nobody
//! is here by hearsay, or for asking. A node is good while it was heard from within 15 minutes, then questionable, and bad
//! when it was silent twice. A newcomer to a full bucket takes a bad node's place, or waits until the questionable ones
//! have been asked; ids that are bound to their address (BEP 42) go before ids that are not.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use p2p_core::{Key, Peer, Rng, Subnet, Time};
use p2p_overlay::SubnetLimits;

use super::id::{is_local, is_secure_id};
use super::krpc::Node;

/// Nodes in a bucket (BEP 5).
pub(super) const K: usize = 8;
/// Nodes that wait for a place in one.
const SPARES: usize = 8;
/// How long a node is good after it was heard from, and how long a bucket is fresh (BEP 5).
pub(super) const FRESH: Duration = Duration::from_secs(15 * 60);
/// A node is bad when it was silent this often in a row.
const BAD: u8 = 2;

/// Somebody who has answered.
#[derive(Clone, Debug)]
pub(super) struct Entry<P> {
    pub(super) id: Key<20>,
    pub(super) peer: P,
    pub(super) addr: SocketAddr,
    /// When it last answered, or asked.
    heard: Time,
    silent: u8,
    secure: bool,
}

impl<P> Entry<P> {
    fn is_good(&self, now: Time) -> bool {
        self.silent == 0 && now - self.heard < FRESH
    }

    fn is_bad(&self) -> bool {
        self.silent >= BAD
    }

    pub(super) fn node(&self) -> Node {
        Node { id: self.id, addr: self.addr }
    }
}

#[derive(Clone, Debug)]
struct Bucket<P> {
    nodes: Vec<Entry<P>>,
    /// The latest last.
    spares: Vec<Entry<P>>,
    changed: Time,
}

/// See the module's text. At most 160 buckets, of which no more than log2 of the network's size are ever filled.
#[derive(Clone, Debug)]
pub(super) struct Table<P> {
    me: Key<20>,
    buckets: Vec<Bucket<P>>,
    subnets: Option<SubnetLimits>,
}

impl<P: Peer> Table<P> {
    pub(super) fn new(me: Key<20>, subnets: Option<SubnetLimits>) -> Table<P> {
        Table { me, buckets: Vec::new(), subnets }
    }

    pub(super) fn me(&self) -> Key<20> {
        self.me
    }

    /// How many nodes there are.
    pub(super) fn len(&self) -> usize {
        self.buckets.iter().map(|bucket| bucket.nodes.len()).sum()
    }

    /// How many of them were not silent when they were last asked. After an outage there may be none, and many that were
    /// there before.
    pub(super) fn alive(&self) -> usize {
        self.all().filter(|entry| entry.silent == 0).count()
    }

    fn all(&self) -> impl Iterator<Item = &Entry<P>> {
        self.buckets.iter().flat_map(|bucket| &bucket.nodes)
    }

    fn level(&self, id: &Key<20>) -> Option<usize> {
        Some(self.me.common_prefix(id)).filter(|level| *level < Key::<20>::BITS)
    }

    /// The node at an address.
    pub(super) fn at(&self, peer: P) -> Option<&Entry<P>> {
        self.all().find(|entry| entry.peer == peer)
    }

    /// A node has answered. It is in the table now, or waits.
    pub(super) fn answered(&mut self, now: Time, id: Key<20>, peer: P, addr: SocketAddr) {
        let Some(level) = self.level(&id) else { return };
        self.forget(|entry| entry.peer == peer && entry.id != id);
        if self.buckets.len() <= level {
            self.buckets.resize_with(level + 1, || Bucket {
                nodes: Vec::new(),
                spares: Vec::new(),
                changed: now,
            });
        }
        let known = |entry: &&mut Entry<P>| entry.id == id;
        if let Some(entry) = self.buckets[level].nodes.iter_mut().find(known) {
            // Whoever says it is somebody else's id stays where the first one is, while that one lives.
            if entry.peer == peer {
                (entry.heard, entry.silent) = (now, 0);
                self.buckets[level].changed = now;
                return;
            }
            if !entry.is_bad() {
                return;
            }
            self.forget(|entry| entry.id == id);
        }
        let entry = Entry { id, peer, addr, heard: now, silent: 0, secure: is_secure_id(&id, addr.ip()) };
        self.buckets[level].spares.retain(|spare| spare.id != id && spare.peer != peer);
        let is_in = self.take_in(level, &entry);
        let bucket = &mut self.buckets[level];
        if is_in {
            bucket.changed = now;
        } else if bucket.spares.len() < SPARES || bucket.spares.iter().any(|spare| now - spare.heard >= FRESH)
        {
            bucket.spares.retain(|spare| now - spare.heard < FRESH);
            bucket.spares.push(entry);
        }
    }

    /// A node has asked. It is good, if it has ever answered (BEP 5).
    pub(super) fn asked(&mut self, now: Time, id: &Key<20>, peer: P) -> bool {
        let nodes = self.buckets.iter_mut().flat_map(|bucket| &mut bucket.nodes);
        let entry = { nodes }.find(|entry| entry.peer == peer && entry.id == *id);
        if let Some(entry) = entry {
            entry.heard = now;
            return true;
        }
        false
    }

    /// Whether somebody with this id would have a place, or should wait for one, or was thought to be gone: then it is worth
    /// a ping.
    pub(super) fn wants(&self, now: Time, id: &Key<20>) -> bool {
        let Some(level) = self.level(id) else { return false };
        let Some(bucket) = self.buckets.get(level) else { return true };
        let mut known = bucket.nodes.iter().chain(&bucket.spares).filter(|entry| entry.id == *id);
        if let Some(known) = known.next() {
            return known.is_bad();
        }
        bucket.nodes.len() < K
            || bucket.spares.is_empty() && bucket.nodes.iter().any(|entry| !entry.is_good(now))
    }

    /// A node did not answer. When it is bad, one that waits has its place.
    pub(super) fn silent(&mut self, peer: P) {
        let mut at = None;
        for (level, bucket) in self.buckets.iter_mut().enumerate() {
            bucket.spares.retain(|spare| spare.peer != peer);
            if let Some(entry) = bucket.nodes.iter_mut().find(|entry| entry.peer == peer) {
                entry.silent = entry.silent.saturating_add(1);
                at = entry.is_bad().then_some(level);
            }
        }
        let Some(level) = at else { return };
        let spares = std::mem::take(&mut self.buckets[level].spares);
        let mut left = Vec::new();
        for spare in spares.into_iter().rev() {
            if !self.take_in(level, &spare) {
                left.insert(0, spare);
            }
        }
        self.buckets[level].spares = left;
    }

    fn forget(&mut self, which: impl Fn(&Entry<P>) -> bool) {
        for bucket in &mut self.buckets {
            bucket.nodes.retain(|entry| !which(entry));
            bucket.spares.retain(|entry| !which(entry));
        }
    }

    /// Takes a node in, if there may be one more of its subnet and there is room: in the place of the bad one at its address,
    /// which has come back with another id.
    fn take_in(&mut self, level: usize, new: &Entry<P>) -> bool {
        let is_in = self.fits(level, new) && self.buckets[level].take_in(new.clone());
        if is_in && self.subnets.is_some() {
            self.forget(|entry| replaces(new, entry));
        }
        is_in
    }

    /// Whether few enough of a node's subnet are here, and at its address nobody else who is not bad.
    fn fits(&self, level: usize, new: &Entry<P>) -> bool {
        let Some(limits) = self.subnets.filter(|_| !is_local(new.addr.ip())) else { return true };
        let subnet = |entry: &Entry<P>| Subnet::of(entry.addr.ip());
        let counts = |entry: &&Entry<P>| subnet(entry) == subnet(new) && !replaces(new, entry);
        let same = |entries: &[Entry<P>]| entries.iter().filter(counts).count();
        !self.all().any(|entry| ip(entry) == ip(new) && !entry.is_bad())
            && same(&self.buckets[level].nodes) < limits.group
            && self.buckets.iter().map(|bucket| same(&bucket.nodes)).sum::<usize>() < limits.table
    }

    /// The nodes closest to a key that were not silent when they were last asked, the closest first.
    pub(super) fn closest(&self, key: &Key<20>, n: usize) -> Vec<&Entry<P>> {
        self.nearest(key, n, |entry| entry.silent == 0)
    }

    /// Of all others the closest to a key.
    pub(super) fn lost(&self, key: &Key<20>, n: usize) -> Vec<&Entry<P>> {
        self.nearest(key, n, |entry| entry.silent > 0)
    }

    fn nearest(&self, key: &Key<20>, n: usize, which: impl Fn(&Entry<P>) -> bool) -> Vec<&Entry<P>> {
        let mut all: Vec<(Key<20>, &Entry<P>)> =
            self.all().filter(|entry| which(entry)).map(|entry| (entry.id.xor(key), entry)).collect();
        if all.len() > n {
            all.select_nth_unstable_by_key(n, |(distance, _)| *distance);
            all.truncate(n);
        }
        all.sort_unstable_by_key(|(distance, _)| *distance);
        all.into_iter().map(|(_, entry)| entry).collect()
    }

    /// Nodes to ask whether they are there: whoever was silent once, and in each bucket the one that was heard from longest
    /// ago, if that is too long; the longest first.
    pub(super) fn questionable(&self, now: Time, most: usize) -> Vec<P> {
        let mut found: Vec<&Entry<P>> = Vec::new();
        for bucket in &self.buckets {
            found.extend(bucket.nodes.iter().filter(|entry| entry.silent > 0 && !entry.is_bad()));
            let oldest =
                bucket.nodes.iter().filter(|entry| entry.silent == 0).min_by_key(|entry| entry.heard);
            found.extend(oldest.filter(|entry| !entry.is_good(now)));
        }
        found.sort_by_key(|entry| entry.heard);
        found.into_iter().take(most).map(|entry| entry.peer).collect()
    }

    /// A random id in the range of the bucket in which nothing has changed for longest, if that is too long; it counts as
    /// changed then.
    pub(super) fn stale(&mut self, now: Time, rng: &mut Rng) -> Option<Key<20>> {
        let stale = self.buckets.iter_mut().enumerate().min_by_key(|(_, bucket)| bucket.changed);
        let (level, bucket) = stale.filter(|(_, bucket)| now - bucket.changed >= FRESH)?;
        bucket.changed = now;
        let mut key = rng.key::<20>();
        for bit in 0..level {
            key = key.with_bit(bit, self.me.bit(bit));
        }
        Some(key.with_bit(level, !self.me.bit(level)))
    }

    /// All that are not bad.
    pub(super) fn entries(&self) -> impl Iterator<Item = &Entry<P>> {
        self.all().filter(|entry| !entry.is_bad())
    }

    /// The same, as others name them: what is saved. Of a node that has lost everybody, everybody.
    pub(super) fn nodes(&self) -> impl Iterator<Item = Node> {
        let has_lost_all = self.all().all(Entry::is_bad);
        self.all().filter(move |entry| has_lost_all || !entry.is_bad()).map(Entry::node)
    }
}

fn ip<P>(entry: &Entry<P>) -> IpAddr {
    entry.addr.ip().to_canonical()
}

/// Whether an entry is a bad one at the address of a new one, where each has one place.
fn replaces<P>(new: &Entry<P>, old: &Entry<P>) -> bool {
    old.is_bad() && ip(old) == ip(new) && !is_local(ip(new))
}

impl<P> Bucket<P> {
    /// Takes a node in if there is room, a bad one, or one whose id is anybody's where the newcomer's is not.
    fn take_in(&mut self, new: Entry<P>) -> bool {
        let loose = |entry: &Entry<P>| new.secure && !entry.secure;
        let place = self.nodes.iter().position(Entry::is_bad).or_else(|| match self.nodes.len() {
            0..K => None,
            _ => self.nodes.iter().position(loose),
        });
        match place {
            Some(at) => self.nodes[at] = new,
            None if self.nodes.len() < K => self.nodes.push(new),
            None => return false,
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ME: Key<20> = Key::new([0; 20]);

    fn at(n: u8) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, n], 6881))
    }

    /// An id in the furthest bucket.
    fn far(n: u8) -> Key<20> {
        let mut id = [0; 20];
        (id[0], id[19]) = (0x80, n);
        Key::new(id)
    }

    fn minutes(minutes: u64) -> Time {
        Time::ZERO + Duration::from_secs(minutes * 60)
    }

    fn full() -> Table<SocketAddr> {
        let mut table = Table::new(ME, None);
        (0..8).for_each(|n| table.answered(minutes(0), far(n), at(n), at(n)));
        table
    }

    fn holds(table: &Table<SocketAddr>, n: u8) -> bool {
        table.at(at(n)).is_some()
    }

    #[test]
    fn whoever_has_been_here_long_stays() {
        let mut table = full();
        table.answered(minutes(1), far(9), at(9), at(9));
        assert!(!holds(&table, 9) && table.len() == 8);
    }

    #[test]
    fn who_is_silent_twice_makes_room_for_who_waits() {
        let mut table = full();
        table.answered(minutes(1), far(9), at(9), at(9));
        table.silent(at(3));
        assert!(holds(&table, 3) && !holds(&table, 9), "messages get lost");
        assert!(table.closest(&far(3), 8).iter().all(|entry| entry.peer != at(3)), "but it is not named");
        table.silent(at(3));
        assert!(!holds(&table, 3) && holds(&table, 9));
    }

    #[test]
    fn a_bad_node_stays_while_nobody_waits_and_is_good_when_it_answers() {
        let mut table = full();
        (0..3).for_each(|_| table.silent(at(3)));
        assert!(holds(&table, 3));
        table.answered(minutes(1), far(3), at(3), at(3));
        assert_eq!(table.closest(&far(3), 1)[0].peer, at(3));
    }

    #[test]
    fn after_fifteen_minutes_the_oldest_is_asked() {
        let mut table = full();
        assert!(table.questionable(minutes(14), 8).is_empty());
        table.answered(minutes(5), far(0), at(0), at(0));
        assert!(table.asked(minutes(5), &far(1), at(1)), "a question is a sign of life, too");
        assert_eq!(table.questionable(minutes(15), 8), [at(2)]);
        assert!(!table.asked(minutes(5), &far(2), at(1)), "not of another id");
    }

    #[test]
    fn an_id_belongs_to_the_address_that_had_it_first() {
        let mut table = full();
        table.answered(minutes(1), far(3), at(77), at(77));
        assert!(holds(&table, 3) && !holds(&table, 77));
        // Whoever takes another id gives up the one before.
        table.answered(minutes(1), far(9), at(3), at(3));
        assert!(table.len() == 8 && table.at(at(3)).unwrap().id == far(9));
    }

    #[test]
    fn a_bucket_in_which_nothing_happens_is_looked_up() {
        let mut table = full();
        let mut rng = Rng::new(1);
        assert_eq!(table.stale(minutes(14), &mut rng), None);
        let key = table.stale(minutes(15), &mut rng).unwrap();
        assert_eq!(key.common_prefix(&ME), 0);
        assert_eq!(table.stale(minutes(15), &mut rng), None);
    }

    #[test]
    fn one_address_has_one_place_and_a_subnet_two_in_a_bucket() {
        let public = |a: u8, b: u8, port: u16| SocketAddr::from(([203, 0, a, b], port));
        let mut table: Table<SocketAddr> = Table::new(ME, Some(SubnetLimits::default()));
        let nodes = [public(1, 1, 1), public(1, 1, 2), public(1, 2, 1), public(1, 3, 1), public(2, 1, 1)];
        for (n, addr) in (0..).zip(nodes) {
            table.answered(minutes(0), far(n), addr, addr);
        }
        let held: Vec<bool> = nodes.iter().map(|addr| table.at(*addr).is_some()).collect();
        assert_eq!(held, [true, false, true, false, true]);
    }

    /// Whether it comes after that is known, or before; and wherever the other one's place is.
    #[test]
    fn who_comes_back_to_its_address_with_another_id_takes_the_place_of_what_it_was() {
        let public = |host: u8, port: u16| SocketAddr::from(([203, 0, host, 1], port));
        let near = |n: u8| Key::new([&[0x40; 19][..], &[n]].concat().try_into().unwrap());
        let full = || {
            let mut table: Table<SocketAddr> = Table::new(ME, Some(SubnetLimits::default()));
            (0..8).for_each(|n| table.answered(minutes(0), far(n), public(n, 1), public(n, 1)));
            table
        };
        for again in [far(99), near(99)] {
            let mut table = full();
            let before = table.len();
            table.answered(minutes(1), again, public(3, 2), public(3, 2));
            assert!(table.at(public(3, 2)).is_none(), "the first may be there");
            (0..2).for_each(|_| table.silent(public(3, 1)));
            table.answered(minutes(2), again, public(3, 2), public(3, 2));
            assert_eq!((table.at(public(3, 1)).is_none(), table.at(public(3, 2)).is_some()), (true, true));
            assert_eq!(table.len(), before);
        }
        // It has waited.
        let mut table = full();
        table.answered(minutes(1), far(99), public(3, 2), public(3, 2));
        (0..2).for_each(|_| table.silent(public(3, 1)));
        assert_eq!((table.at(public(3, 1)).is_none(), table.at(public(3, 2)).is_some()), (true, true));
    }

    #[test]
    fn an_id_bound_to_its_address_goes_before_one_that_is_not() {
        let mut rng = Rng::new(2);
        let public = |n: u8| SocketAddr::from(([203, n, 113, 9], 6881));
        let mut table: Table<SocketAddr> = Table::new(ME, None);
        (0..8).for_each(|n| table.answered(minutes(0), far(n), public(n), public(n)));
        let secure = (0..).map(|_| super::super::id::secure_id(public(99).ip(), &mut rng));
        let secure = { secure }.take(1000).find(|id| id.bit(0));
        match secure {
            Some(id) => table.answered(minutes(1), id, public(99), public(99)),
            // None of this address' eight places is in that half: then the test says nothing.
            None => panic!("choose another address"),
        }
        assert!(table.at(public(99)).is_some() && table.len() == 8);
    }
}
