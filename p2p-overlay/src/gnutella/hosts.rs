//! Who might become a neighbour: the host cache, and what hearsay is worth.

use std::cmp::Reverse;
use std::time::Duration;

use p2p_core::{Contact, GIVEN_UP, HostCache, Learnt, PeerId, Time};

use crate::bucket::{Bucket, Rate};
use crate::place::{Place, is_somewhere};
use crate::recent::Recent;

/// How long somebody who was dialled is left in peace.
const REST: Duration = Duration::from_secs(30);

/// Known hosts; at most as many as the cache holds, and the last 256 dials.
#[derive(Debug)]
pub(crate) struct Hosts<P> {
    cache: HostCache,
    /// When each was dialled last.
    dialled: Recent<PeerId, Time>,
    /// Who has named those known by hearsay.
    named_by: Recent<PeerId, P>,
    hearsay: Bucket,
}

impl<P: Place> Hosts<P> {
    pub(crate) fn new(cache: HostCache) -> Hosts<P> {
        Hosts { cache, dialled: Recent::new(256), named_by: Recent::new(256), hearsay: Bucket::default() }
    }

    pub(crate) fn cache(&self) -> &HostCache {
        &self.cache
    }

    /// Knows these from an earlier run, beside those it knows; as many as their cache holds.
    pub(crate) fn remember(&mut self, saved: HostCache) {
        let told = std::mem::replace(&mut self.cache, saved);
        for (id, address) in told.iter() {
            self.cache.note(Contact::new(id, address.addr), address.learnt, address.seen);
        }
    }

    /// Somebody is said, by `by`, or known to be there.
    pub(crate) fn note(&mut self, contact: Contact, learnt: Learnt, wall: Duration, by: Option<P>) {
        if is_somewhere(&contact)
            && self.cache.note(contact, learnt, wall)
            && let (Learnt::Hearsay, Some(by)) = (learnt, by)
        {
            self.named_by.insert(contact.id, by);
        }
    }

    /// Whom to dial next, and whether that is known by hearsay only. `skip` is asked of each, with who has named it if
    /// somebody has. First come those never dialled, the proved before hearsay; then whoever was dialled longest ago,
    /// for who has just been full still is, however well it is known. Of hearsay the rate allows few: then the next one
    /// that is none.
    pub(crate) fn next(
        &mut self,
        now: Time,
        hearsay: Rate,
        mut skip: impl FnMut(&Contact, Option<&P>) -> bool,
    ) -> Option<(Contact, bool)> {
        // The best that is no hearsay, and the best that is.
        let mut next = [None, None];
        for (id, address) in self.cache.iter() {
            let by_hearsay = address.learnt == Learnt::Hearsay;
            // Hearsay has one dial.
            if address.failures >= if by_hearsay { 1 } else { GIVEN_UP } {
                continue;
            }
            let dialled = self.dialled.get(&id).copied();
            let rests = dialled.is_some_and(|at| now.since(at) < REST);
            let rank = (dialled, by_hearsay, Reverse(address.worth()));
            let contact = Contact::new(id, address.addr);
            let best = &mut next[usize::from(by_hearsay)];
            let is_later = best.as_ref().is_some_and(|(before, _)| *before <= rank);
            if !rests && !is_later && !skip(&contact, self.named_by.get(&id)) {
                *best = Some((rank, contact));
            }
        }
        let [known, heard] = next;
        let heard = heard.filter(|(rank, _)| known.as_ref().is_none_or(|(before, _)| rank < before));
        let heard = heard.filter(|_| self.hearsay.take(now, hearsay));
        let by_hearsay = heard.is_some();
        let (_, contact) = heard.or(known)?;
        Some((self.dial(contact, now), by_hearsay))
    }

    fn dial(&mut self, contact: Contact, now: Time) -> Contact {
        self.dialled.remove(&contact.id);
        self.dialled.insert(contact.id, now);
        contact
    }

    /// Nobody was there. Whoever has said so, if it was hearsay.
    pub(crate) fn failed(&mut self, contact: Contact) -> Option<P> {
        self.cache.failed(contact);
        self.named_by.remove(&contact.id)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::place::of_address;
    use p2p_core::SimPeer;

    const RATE: Rate = Rate { every: Duration::from_secs(10), burst: 2 };

    fn contact(host: u8) -> Contact {
        of_address(std::net::SocketAddr::from(([192, 0, 2, host], 6346)))
    }

    fn at(seconds: u64) -> Time {
        Time::ZERO + Duration::from_secs(seconds)
    }

    #[test]
    fn hearsay_is_dialled_last_and_seldom() {
        let mut hosts = Hosts::<SimPeer>::new(HostCache::new(100, 100));
        for host in 2..30 {
            hosts.note(contact(host), Learnt::Hearsay, Duration::from_secs(9), Some(SimPeer(7)));
        }
        hosts.note(contact(1), Learnt::Proved, Duration::from_secs(1), None);
        let mut dialled = |now| std::iter::from_fn(|| hosts.next(at(now), RATE, |_, _| false)).count();
        assert_eq!([dialled(100), dialled(101), dialled(111), dialled(125)], [3, 0, 1, 1]);
        assert_eq!(dialled(145), 3, "two by hearsay, and the one that has rested");
    }

    /// More are known than the rate lets dial before the first may be dialled again.
    #[test]
    fn all_that_is_said_gets_its_turn() {
        let mut hosts = Hosts::<SimPeer>::new(HostCache::new(100, 100));
        let rate = Rate { every: Duration::from_secs(10), burst: 1 };
        let mut dialled = BTreeSet::new();
        for turn in 0..30 {
            for host in 1..=30 {
                hosts.note(contact(host), Learnt::Hearsay, Duration::from_secs(turn), Some(SimPeer(7)));
            }
            dialled.extend(hosts.next(at(10 * turn), rate, |_, _| false).map(|(contact, _)| contact.addr));
        }
        assert_eq!(dialled.len(), 30);
    }

    /// Eight are well known, and full: a servent that looks for two neighbours asks others as well.
    #[test]
    fn who_is_full_keeps_nobody_from_being_dialled() {
        let mut hosts = Hosts::<SimPeer>::new(HostCache::new(100, 100));
        (1..=8).for_each(|host| hosts.note(contact(host), Learnt::Proved, Duration::ZERO, None));
        for host in 11..=16 {
            hosts.note(contact(host), Learnt::Hearsay, Duration::ZERO, Some(SimPeer(7)));
        }
        let rate = Rate { every: Duration::from_secs(10), burst: 1 };
        let mut by_hearsay = Vec::new();
        for turn in 0..12 {
            let two = [(); 2].map(|()| hosts.next(at(10 * turn), rate, |_, _| false));
            assert!(two[0].is_some(), "what is known has its turn too, for hearsay is dialled seldom");
            by_hearsay.extend(two.into_iter().flatten().filter(|(_, by_hearsay)| *by_hearsay));
        }
        assert_eq!(by_hearsay.iter().map(|(contact, _)| contact.id).collect::<BTreeSet<_>>().len(), 6);
    }

    #[test]
    fn saved_hosts_are_known_beside_the_seeds() {
        let mut hosts = Hosts::<SimPeer>::new(HostCache::new(100, 100));
        hosts.note(contact(1), Learnt::Told, Duration::ZERO, None);
        let mut saved = HostCache::new(100, 100);
        saved.note(contact(2), Learnt::Proved, Duration::from_secs(1));
        hosts.remember(saved);
        assert_eq!(hosts.cache().best(), [contact(2), contact(1)]);
    }

    #[test]
    fn who_has_named_nobody_is_known() {
        let mut hosts = Hosts::new(HostCache::new(100, 100));
        hosts.note(contact(1), Learnt::Hearsay, Duration::ZERO, Some(SimPeer(7)));
        assert_eq!(hosts.failed(contact(1)), Some(SimPeer(7)));
        assert_eq!(hosts.failed(contact(1)), None);
        assert_eq!(hosts.next(at(100), RATE, |_, _| false), None, "hearsay that was wrong");
        hosts.note(contact(2), Learnt::Proved, Duration::ZERO, None);
        for _ in 0..2 {
            hosts.failed(contact(2));
        }
        assert_eq!(hosts.next(at(100), RATE, |_, _| false), Some((contact(2), false)));
        hosts.failed(contact(2));
        assert_eq!(hosts.next(at(1000), RATE, |_, _| false), None, "three times in a row");
    }
}
