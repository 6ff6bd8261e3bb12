//! The super-nodes that a node knows: its cache, and what refresh lists bring to it.

use std::collections::BTreeMap;
use std::time::Duration;

use p2p_core::{Contact, Learnt, PeerId, Rng, Subnet, Time};

use super::msg::Known;
use crate::bucket::{Bucket, Rate};
use crate::place::is_somewhere;
use crate::recent::Recent;

/// How long somebody who was tried is left in peace.
const REST: Duration = Duration::from_secs(20);
/// Tries in a row that may fail before nobody is there any more. Hearsay has one.
const FAILURES: u8 = 3;
/// What nobody has seen for so long is forgotten.
const LASTS: Duration = Duration::from_secs(3600);
/// How many of one subnet are taken from hearsay.
const PER_SUBNET: usize = 64;
/// How long who has given false answers is not spoken to.
const BANNED: Duration = Duration::from_secs(3600);

/// At most as many super-nodes as it was made for, no more than 64 that are known by hearsay in one subnet; and up to
/// 64 who are banned. Hearsay displaces nobody who was met.
#[derive(Debug)]
pub(super) struct SuperNodes {
    most: usize,
    nodes: BTreeMap<PeerId, Entry>,
    hearsay: Bucket,
    banned: Recent<PeerId, Time>,
}

#[derive(Debug)]
struct Entry {
    contact: Contact,
    load: u16,
    /// When somebody met it last.
    seen: Time,
    /// From whom: by a meeting, from whoever has started this node, or by hearsay.
    learnt: Learnt,
    failures: u8,
    tried: Option<Time>,
}

impl SuperNodes {
    pub(super) fn new(most: usize) -> SuperNodes {
        SuperNodes { most, nodes: BTreeMap::new(), hearsay: Bucket::default(), banned: Recent::new(64) }
    }

    /// Somebody was there.
    pub(super) fn met(&mut self, contact: Contact, load: u16, now: Time) {
        self.note(contact, load, Learnt::Proved, now);
    }

    /// Whoever has started this node says that somebody is there.
    pub(super) fn seed(&mut self, contact: Contact, now: Time) {
        self.note(contact, 0, Learnt::Told, now);
    }

    fn note(&mut self, contact: Contact, load: u16, learnt: Learnt, seen: Time) {
        if !is_somewhere(&contact) || self.is_banned(&contact.id, seen) {
            return;
        }
        let tried = self.nodes.get(&contact.id).and_then(|entry| entry.tried);
        if self.make_room(&contact.id, learnt) {
            let entry = Entry { contact, load: load.min(1000), seen, learnt, failures: 0, tried };
            self.nodes.insert(contact.id, entry);
        }
    }

    /// Somebody is said to be there.
    pub(super) fn heard(&mut self, known: &Known, now: Time) {
        let Known { contact, load, age } = *known;
        let age = Duration::from_secs(age.into());
        if age >= LASTS || !is_somewhere(&contact) || self.is_banned(&contact.id, now) {
            return;
        }
        // Of who was met this node knows more itself.
        if self.nodes.contains_key(&contact.id) {
            return;
        }
        let subnet = Subnet::of(contact.addr.ip());
        let theirs = self
            .nodes
            .values()
            .filter(|entry| entry.learnt == Learnt::Hearsay && Subnet::of(entry.contact.addr.ip()) == subnet);
        let crowded = !contact.addr.ip().is_loopback() && theirs.count() >= PER_SUBNET;
        if !crowded && self.make_room(&contact.id, Learnt::Hearsay) {
            let seen = Time::from_nanos(now.as_nanos().saturating_sub(age.as_nanos() as u64));
            let entry = Entry {
                contact,
                load: load.min(1000),
                seen,
                learnt: Learnt::Hearsay,
                failures: 0,
                tried: None,
            };
            self.nodes.insert(contact.id, entry);
        }
    }

    /// Makes room for one more; whether there is some.
    fn make_room(&mut self, id: &PeerId, learnt: Learnt) -> bool {
        if self.nodes.contains_key(id) || self.nodes.len() < self.most {
            return true;
        }
        let worst = self.nodes.iter().min_by_key(|(_, entry)| (entry.learnt, entry.seen));
        let Some((&worst, entry)) = worst else { return false };
        if entry.learnt > learnt {
            return false;
        }
        self.nodes.remove(&worst);
        true
    }

    /// Nobody was there, or nobody who is a super-node.
    pub(super) fn failed(&mut self, contact: &Contact) {
        let Some(entry) = self.nodes.get_mut(&contact.id) else { return };
        entry.failures += 1;
        if entry.failures >= FAILURES || entry.learnt == Learnt::Hearsay {
            self.nodes.remove(&contact.id);
        }
    }

    /// Somebody gives false answers.
    pub(super) fn ban(&mut self, id: PeerId, now: Time) {
        self.nodes.remove(&id);
        self.banned.remove(&id);
        self.banned.insert(id, now);
    }

    pub(super) fn is_banned(&self, id: &PeerId, now: Time) -> bool {
        self.banned.get(id).is_some_and(|since| now.since(*since) < BANNED)
    }

    /// Forgets what is too old.
    pub(super) fn age(&mut self, now: Time) {
        self.nodes.retain(|_, entry| now.since(entry.seen) < LASTS);
    }

    /// Whom to try next, `count` at most, by chance and rather those with room: those who were met first, others as
    /// seldom as `hearsay` says. Who was tried just now comes last of either; or not at all, if they are to be left in
    /// peace.
    pub(super) fn choose(
        &mut self,
        now: Time,
        rng: &mut Rng,
        hearsay: Rate,
        count: usize,
        in_peace: bool,
        skip: impl Fn(&Contact) -> bool,
    ) -> Vec<Contact> {
        let tires = |entry: &Entry| entry.tried.is_some_and(|at| now.since(at) < REST);
        let there = self.nodes.values().filter(|entry| !in_peace || !tires(entry));
        let there = there.filter(|entry| !skip(&entry.contact));
        let rank = |entry: &Entry| (entry.learnt == Learnt::Hearsay, tires(entry), entry.load / 250);
        let mut there: Vec<((bool, bool, u16), Contact)> =
            there.map(|entry| (rank(entry), entry.contact)).collect();
        rng.shuffle(&mut there);
        there.sort_by_key(|(rank, _)| *rank);
        let mut chosen = Vec::new();
        for ((by_hearsay, ..), contact) in there {
            if chosen.len() >= count || by_hearsay && !self.hearsay.take(now, hearsay) {
                break;
            }
            if let Some(entry) = self.nodes.get_mut(&contact.id) {
                entry.tried = Some(now);
            }
            chosen.push(contact);
        }
        chosen
    }

    /// Somebody is left, and not to be tried again at once.
    pub(super) fn left(&mut self, contact: &Contact, now: Time) {
        if let Some(entry) = self.nodes.get_mut(&contact.id) {
            entry.tried = Some(now);
        }
    }

    /// What others are told: whom this node has met itself.
    pub(super) fn list(&self, now: Time, but: &PeerId) -> Vec<Known> {
        let others = self.nodes.values().filter(|entry| entry.contact.id != *but);
        let met = others.filter(|entry| entry.learnt == Learnt::Proved);
        let known = met.map(|entry| {
            let age = now.since(entry.seen).as_secs().min(u32::MAX.into()) as u32;
            Known { contact: entry.contact, load: entry.load, age }
        });
        known.collect()
    }

    /// All of them.
    pub(super) fn iter(&self) -> impl Iterator<Item = Contact> {
        self.nodes.values().map(|entry| entry.contact)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::place::of_address;

    const RATE: Rate = Rate { every: Duration::from_secs(10), burst: 2 };

    fn contact(host: u8) -> Contact {
        of_address(std::net::SocketAddr::from(([192, 0, 2, host], 1214)))
    }

    fn known(host: u8) -> Known {
        Known { contact: contact(host), load: 100, age: 60 }
    }

    fn at(seconds: u64) -> Time {
        Time::ZERO + Duration::from_secs(seconds)
    }

    fn chosen(nodes: &mut SuperNodes, seconds: u64) -> usize {
        nodes.choose(at(seconds), &mut Rng::new(1), RATE, 100, true, |_| false).len()
    }

    #[test]
    fn hearsay_displaces_nobody_who_was_met_and_is_tried_seldom() {
        let mut nodes = SuperNodes::new(5);
        (1..=3).for_each(|host| nodes.met(contact(host), 0, at(host.into())));
        (10..20).for_each(|host| nodes.heard(&known(host), at(100)));
        assert_eq!((nodes.iter().count(), nodes.list(at(100), &contact(99).id).len()), (5, 3));
        assert_eq!([chosen(&mut nodes, 100), chosen(&mut nodes, 101), chosen(&mut nodes, 125)], [5, 0, 5]);
        (4..=6).for_each(|host| nodes.met(contact(host), 0, at(200)));
        let hosts: Vec<Contact> =
            nodes.list(at(200), &contact(99).id).iter().map(|known| known.contact).collect();
        assert_eq!(hosts, (2..=6).map(contact).collect::<Vec<_>>(), "the one that was met first makes room");
    }

    #[test]
    fn who_is_not_there_is_forgotten() {
        let mut nodes = SuperNodes::new(5);
        nodes.met(contact(1), 0, at(0));
        nodes.heard(&known(2), at(0));
        for left in [1, 1, 0] {
            nodes.failed(&contact(1));
            nodes.failed(&contact(2));
            assert_eq!(nodes.iter().count(), left);
        }
        nodes.heard(&Known { age: 3600, ..known(3) }, at(0));
        assert!(nodes.is_empty(), "too old");
        nodes.met(contact(4), 0, at(0));
        nodes.age(at(3600));
        assert!(nodes.is_empty());
    }

    #[test]
    fn one_subnet_fills_no_list_by_hearsay() {
        let mut nodes = SuperNodes::new(200);
        (1..=200).for_each(|host| nodes.heard(&known(host), at(0)));
        assert_eq!(nodes.iter().count(), PER_SUBNET);
    }

    #[test]
    fn who_is_banned_is_not_taken_for_an_hour() {
        let mut nodes = SuperNodes::new(5);
        nodes.met(contact(1), 0, at(0));
        nodes.ban(contact(1).id, at(0));
        nodes.met(contact(1), 0, at(3599));
        assert!(nodes.is_empty());
        nodes.met(contact(1), 0, at(3600));
        assert!(!nodes.is_empty());
    }
}
