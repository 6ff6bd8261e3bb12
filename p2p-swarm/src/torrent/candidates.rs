//! Peers that one might connect to: who was heard of, and what became of trying.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use p2p_core::Time;

use super::address::is_somewhere;

/// Addresses that one torrent remembers. 1,000.
const MAX: usize = 1000;
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

    /// An address is heard of.
    pub(crate) fn add(&mut self, addr: SocketAddr) {
        if self.all.len() < MAX && is_somewhere(&addr) && !self.all.contains_key(&addr) {
            let turn = self.turn();
            self.all.insert(addr, Candidate { turn, failures: 0, not_before: Time::ZERO, busy: false });
        }
    }

    /// The next to try, which counts as busy then: of those that failed least the one that was not tried for longest.
    pub(crate) fn take(&mut self, now: Time) -> Option<SocketAddr> {
        let due = self.all.iter().filter(|(_, c)| !c.busy && c.not_before <= now);
        let addr = *due.min_by_key(|(_, c)| (c.failures, c.turn))?.0;
        let turn = self.turn();
        if let Some(candidate) = self.all.get_mut(&addr) {
            candidate.turn = turn;
            candidate.busy = true;
        }
        Some(addr)
    }

    /// A connection to it is there: made by this end, or by the other.
    pub(crate) fn connected(&mut self, addr: SocketAddr) {
        self.add(addr);
        if let Some(candidate) = self.all.get_mut(&addr) {
            candidate.busy = true;
            candidate.failures = 0;
        }
    }

    /// A connection to it could not be made, or did not last.
    pub(crate) fn lost(&mut self, addr: SocketAddr, now: Time) {
        if let Some(candidate) = self.all.get_mut(&addr) {
            candidate.busy = false;
            candidate.failures += 1;
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

    #[test]
    fn who_failed_waits_longer_each_time_and_is_forgotten() {
        let mut candidates = Candidates::default();
        candidates.add(addr(1));
        let mut now = Time::ZERO;
        for failure in 1..MAX_FAILURES {
            assert_eq!(candidates.take(now), Some(addr(1)));
            assert_eq!(candidates.take(now), None, "it is being tried");
            candidates.lost(addr(1), now);
            let pause = PAUSE * (1 << (failure - 1));
            assert_eq!(candidates.take(now + pause / 2), None, "failure {failure}");
            now += pause;
        }
        assert_eq!(candidates.take(now), Some(addr(1)));
        candidates.lost(addr(1), now);
        assert!(candidates.all.is_empty());
    }

    #[test]
    fn hearsay_is_bounded() {
        let mut candidates = Candidates::default();
        (1..5000).for_each(|n| candidates.add(addr(n)));
        assert_eq!(candidates.all.len(), MAX);
        candidates.add("0.0.0.0:1".parse().unwrap());
        assert_eq!(candidates.take(Time::ZERO), Some(addr(1)), "who was heard of first");
    }
}
