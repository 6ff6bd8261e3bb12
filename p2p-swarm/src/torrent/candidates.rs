//! Peers that one might connect to: who was heard of, and what became of trying.
//!
//! What the user names has room always and comes first. What peers tell is hearsay: it gets half of the room, and each
//! host that it names one place, so that nobody fills the table, or has us call one host again and again.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use p2p_core::Time;

use super::address::is_somewhere;

/// Addresses that one torrent remembers. 1,000.
const MAX: usize = 1000;
/// So many of them at most are hearsay. 500.
const MAX_HEARSAY: usize = MAX / 2;
/// After so many failures in a row an address is forgotten. 5.
const MAX_FAILURES: u32 = 5;
/// How long to wait after the first; doubled with each. 5 s.
const PAUSE: Duration = Duration::from_secs(5);

/// The peers that a torrent knows of, at most 1,000.
#[derive(Debug, Default)]
pub(crate) struct Candidates {
    all: BTreeMap<SocketAddr, Candidate>,
    next: u64,
}

#[derive(Debug)]
struct Candidate {
    /// The user has named it.
    named: bool,
    /// The order in which they were heard of, and tried.
    turn: u64,
    failures: u32,
    not_before: Time,
    /// There is a connection to it, or one is being made.
    busy: bool,
}

impl Candidates {
    fn turn(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn add(&mut self, addr: SocketAddr, named: bool) {
        let turn = self.turn();
        self.all.insert(addr, Candidate { named, turn, failures: 0, not_before: Time::ZERO, busy: false });
    }

    /// The user names an address. If the table is full it takes the place of the least promising hearsay.
    pub(crate) fn name(&mut self, addr: SocketAddr) {
        if let Some(candidate) = self.all.get_mut(&addr) {
            candidate.named = true;
            return;
        }
        if !is_somewhere(&addr) {
            return;
        }
        if self.all.len() >= MAX {
            let hearsay = self.all.iter().filter(|(_, c)| !c.named && !c.busy);
            let Some(worst) = hearsay.max_by_key(|(_, c)| (c.failures, c.turn)).map(|(addr, _)| *addr) else {
                return;
            };
            self.all.remove(&worst);
        }
        self.add(addr, true);
    }

    /// Somebody tells of an address.
    pub(crate) fn hear(&mut self, addr: SocketAddr) {
        if self.all.len() >= MAX || !is_somewhere(&addr) || self.all.contains_key(&addr) {
            return;
        }
        let host = addr.ip().to_canonical();
        let known = |other: &SocketAddr| other.ip().to_canonical() == host && !host.is_loopback();
        let hearsay = self.all.values().filter(|candidate| !candidate.named).count();
        if hearsay < MAX_HEARSAY && !self.all.keys().any(known) {
            self.add(addr, false);
        }
    }

    /// The next to try, which counts as busy then: those that the user named first; of those that failed least the one
    /// that was not tried for longest.
    pub(crate) fn take(&mut self, now: Time) -> Option<SocketAddr> {
        let due = self.all.iter().filter(|(_, c)| !c.busy && c.not_before <= now);
        let addr = *due.min_by_key(|(_, c)| (!c.named, c.failures, c.turn))?.0;
        let turn = self.turn();
        if let Some(candidate) = self.all.get_mut(&addr) {
            candidate.turn = turn;
            candidate.busy = true;
        }
        Some(addr)
    }

    /// A connection to it is there: made by this end, or by the other.
    pub(crate) fn connected(&mut self, addr: SocketAddr) {
        self.hear(addr);
        if let Some(candidate) = self.all.get_mut(&addr) {
            candidate.busy = true;
        }
    }

    /// A connection to it could not be made, or did not last. If it was of use, what failed before is forgotten.
    pub(crate) fn lost(&mut self, addr: SocketAddr, now: Time, useful: bool) {
        if let Some(candidate) = self.all.get_mut(&addr) {
            candidate.busy = false;
            candidate.failures = if useful { 1 } else { candidate.failures + 1 };
            candidate.not_before = now + PAUSE * (1 << (candidate.failures - 1).min(8));
            if candidate.failures >= MAX_FAILURES {
                self.all.remove(&addr);
            }
        }
    }

    /// It is not to be tried again before then.
    pub(crate) fn rest(&mut self, addr: SocketAddr, until: Time) {
        if let Some(candidate) = self.all.get_mut(&addr) {
            candidate.busy = false;
            candidate.not_before = until;
        }
    }

    pub(crate) fn forget(&mut self, addr: SocketAddr) {
        self.all.remove(&addr);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(n: u16) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 1], n))
    }

    fn host(n: u16) -> SocketAddr {
        SocketAddr::from(([10, 0, (n / 256) as u8, n as u8], 1))
    }

    #[test]
    fn who_failed_waits_longer_each_time_and_is_forgotten() {
        let mut candidates = Candidates::default();
        candidates.hear(addr(1));
        let mut now = Time::ZERO;
        for failure in 1..MAX_FAILURES {
            assert_eq!(candidates.take(now), Some(addr(1)));
            assert_eq!(candidates.take(now), None, "it is being tried");
            candidates.connected(addr(1));
            candidates.lost(addr(1), now, false);
            let pause = PAUSE * (1 << (failure - 1));
            assert_eq!(candidates.take(now + pause / 2), None, "failure {failure}");
            now += pause;
        }
        assert_eq!(candidates.take(now), Some(addr(1)));
        candidates.lost(addr(1), now, true);
        assert_eq!(candidates.take(now + PAUSE), Some(addr(1)), "it was of use");
        for _ in 1..MAX_FAILURES {
            candidates.lost(addr(1), now, false);
        }
        assert!(candidates.all.is_empty());
    }

    #[test]
    fn hearsay_is_bounded() {
        let mut candidates = Candidates::default();
        (1..5000).for_each(|n| candidates.hear(host(n)));
        assert_eq!(candidates.all.len(), MAX_HEARSAY);
        candidates.hear("0.0.0.0:1".parse().unwrap());
        assert_eq!(candidates.take(Time::ZERO), Some(host(1)), "who was heard of first");
    }

    #[test]
    fn a_host_has_one_place_in_hearsay() {
        let mut candidates = Candidates::default();
        (1..100).for_each(|n| candidates.hear(addr(n)));
        candidates.hear("[::ffff:192.0.2.1]:7".parse().unwrap());
        assert_eq!(candidates.all.len(), 1);
        (1..100).for_each(|n| candidates.hear(SocketAddr::from(([127, 0, 0, 1], n))));
        assert_eq!(candidates.all.len(), 100, "but this machine has many");
    }

    #[test]
    fn what_the_user_names_has_room_and_comes_first() {
        let mut candidates = Candidates::default();
        (1..1000).for_each(|n| candidates.hear(host(n)));
        (1..=MAX as u16).for_each(|n| candidates.name(addr(n)));
        assert_eq!(candidates.all.len(), MAX);
        assert!((1..=MAX as u16).all(|n| candidates.all.contains_key(&addr(n))));
        candidates.name(addr(MAX as u16 + 1));
        assert_eq!(candidates.all.len(), MAX, "it ends somewhere");
        let mut candidates = Candidates::default();
        (1..10).for_each(|n| candidates.hear(host(n)));
        candidates.name(addr(1));
        candidates.name(host(9));
        let first = [(); 2].map(|()| candidates.take(Time::ZERO));
        assert_eq!(first, [Some(host(9)), Some(addr(1))], "the one that was heard of first");
    }
}
