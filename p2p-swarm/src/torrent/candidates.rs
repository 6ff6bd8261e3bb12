//! Peers that one might connect to: who was heard of, and what became of trying.
//!
//! What the user names has room always and comes first. What others tell is hearsay: it gets half of the room, and each
//! host that it names a few places, so that nobody fills the table, or has us call one host again and again. What trackers
//! tell comes before what other sources do, that before what peers tell, and takes its place where there is no other.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use p2p_core::Time;

use super::address::{Carrier, account, is_somewhere};

/// Addresses that one torrent remembers. 1,000.
const MAX: usize = 1000;
/// So many of them at most are hearsay. 500.
const MAX_HEARSAY: usize = MAX / 2;
/// After so many failures in a row an address is forgotten. 5.
const MAX_FAILURES: u32 = 5;
/// How long to wait after the first; doubled with each. 5 s.
const PAUSE: Duration = Duration::from_secs(5);

/// Of the addresses that a source tells so many may be one host's: behind one address there may be several peers. 4.
const MAX_OF_HOST: usize = 4;

/// Who has told of an address. The earlier are tried before the later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Origin {
    /// The user.
    User,
    /// A tracker.
    Tracker,
    /// A source at which anybody announces: the DHT, the local network.
    Open,
    /// A peer: this one itself, or another (BEP 11).
    Peer,
}

/// The peers that a torrent knows of, at most 1,000.
#[derive(Debug, Default)]
pub(crate) struct Candidates {
    all: BTreeMap<SocketAddr, Candidate>,
    next: u64,
}

#[derive(Debug)]
struct Candidate {
    origin: Origin,
    /// A tracker has told of it, whoever else has.
    tracked: bool,
    /// The order in which they were heard of, and tried.
    turn: u64,
    failures: u32,
    not_before: Time,
    /// There is a connection to it, or one is being made.
    busy: bool,
    /// It is left alone since there is no use for it, whatever became of it before.
    resting: bool,
    /// It was reached, and did not answer what was encrypted.
    clear: bool,
    /// Whether it speaks uTP, if that is known.
    utp: Option<bool>,
}

impl Candidate {
    fn is_due(&self, now: Time) -> bool {
        !self.busy && self.not_before <= now
    }
}

impl Candidates {
    fn turn(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Somebody tells of an address. If there is no room it takes that of the least promising that was told by somebody
    /// whose word counts less.
    pub(crate) fn hear(&mut self, addr: SocketAddr, origin: Origin) {
        if let Some(candidate) = self.all.get_mut(&addr) {
            candidate.origin = candidate.origin.min(origin);
            candidate.tracked |= origin == Origin::Tracker;
            return;
        }
        if !is_somewhere(&addr) {
            return;
        }
        let hearsay = self.all.values().filter(|candidate| candidate.origin != Origin::User).count();
        let full = match origin {
            Origin::User => self.all.len() >= MAX,
            Origin::Tracker | Origin::Open | Origin::Peer => self.all.len() >= MAX || hearsay >= MAX_HEARSAY,
        };
        let host = account(addr.ip());
        let of_host = self.all.keys().filter(|other| account(other.ip()) == host).count();
        let most = match origin {
            _ if host.is_loopback() => MAX,
            Origin::User => MAX,
            Origin::Tracker | Origin::Open => MAX_OF_HOST,
            Origin::Peer => 1,
        };
        if of_host >= most {
            return;
        }
        if full {
            let less = self.all.iter().filter(|(_, c)| c.origin > origin && !c.busy);
            let worst = less.max_by_key(|(_, c)| (c.origin, c.failures, c.turn)).map(|(addr, _)| *addr);
            let Some(worst) = worst else { return };
            self.all.remove(&worst);
        }
        let turn = self.turn();
        let candidate = Candidate {
            origin,
            tracked: origin == Origin::Tracker,
            turn,
            failures: 0,
            not_before: Time::ZERO,
            busy: false,
            resting: false,
            clear: false,
            utp: None,
        };
        self.all.insert(addr, candidate);
    }

    /// Nobody but trackers may tell (BEP 27): who was told of by others alone is forgotten, and not dialled again if it
    /// is connected now.
    pub(crate) fn only_from_trackers(&mut self) {
        self.all.retain(|_, candidate| candidate.tracked);
    }

    /// Whether there is one to try.
    pub(crate) fn has_any(&self, now: Time) -> bool {
        self.all.values().any(|candidate| candidate.is_due(now))
    }

    /// The next to try, which counts as busy then: those that the user named first, and those that peers told of last; of those
    /// that failed least the one with the highest priority (BEP 40), or that was not tried for longest.
    pub(crate) fn take(
        &mut self,
        now: Time,
        priority: impl Fn(SocketAddr) -> Option<u32>,
    ) -> Option<SocketAddr> {
        let due = self.all.iter().filter(|(_, candidate)| candidate.is_due(now));
        let addr = *due.min_by_key(|(addr, c)| (c.origin, c.failures, Reverse(priority(**addr)), c.turn))?.0;
        let turn = self.turn();
        if let Some(candidate) = self.all.get_mut(&addr) {
            candidate.turn = turn;
            (candidate.busy, candidate.resting) = (true, false);
        }
        Some(addr)
    }

    /// A connection to it is there: made by this end, or by the other. It is remembered if it may be dialled again.
    pub(crate) fn connected(&mut self, addr: SocketAddr, remember: bool) {
        if remember {
            self.hear(addr, Origin::Peer);
        }
        if let Some(candidate) = self.all.get_mut(&addr) {
            candidate.busy = true;
        }
    }

    /// A connection to it could not be made, or did not last. If it was of use, what failed before is forgotten.
    pub(crate) fn lost(&mut self, addr: SocketAddr, now: Time, useful: bool) {
        if let Some(candidate) = self.all.get_mut(&addr) {
            (candidate.busy, candidate.resting) = (false, false);
            candidate.failures = if useful { 1 } else { candidate.failures + 1 };
            candidate.not_before = now + PAUSE * (1 << (candidate.failures - 1).min(8));
            if candidate.failures >= MAX_FAILURES {
                self.all.remove(&addr);
            }
        }
    }

    /// Whether it is to be spoken to in the clear.
    pub(crate) fn in_the_clear(&self, addr: &SocketAddr) -> bool {
        self.all.get(addr).is_some_and(|candidate| candidate.clear)
    }

    /// It did not answer what was encrypted: it is tried again at once, in the clear. Or that, and the other way round it
    /// waits its time.
    pub(crate) fn did_not_answer(&mut self, addr: SocketAddr, now: Time, encrypted: bool) {
        match self.all.get_mut(&addr) {
            Some(candidate) if encrypted => {
                candidate.clear = true;
                candidate.busy = false;
            }
            Some(candidate) => {
                candidate.clear = false;
                self.lost(addr, now, false);
            }
            None => {}
        }
    }

    /// It is known to speak uTP.
    pub(crate) fn speaks_utp(&mut self, addr: &SocketAddr) {
        if let Some(candidate) = self.all.get_mut(addr) {
            candidate.utp = Some(true);
        }
    }

    /// Whether it speaks uTP, if that is known.
    pub(crate) fn utp(&self, addr: &SocketAddr) -> Option<bool> {
        self.all.get(addr)?.utp
    }

    /// It could not be reached: over uTP, then it is tried again at once, over TCP; or over TCP, then it waits its time, and
    /// begins with uTP again.
    pub(crate) fn was_not_reached(&mut self, addr: SocketAddr, now: Time, by: Carrier) {
        let Some(candidate) = self.all.get_mut(&addr) else { return };
        match by {
            Carrier::Utp => {
                candidate.utp = Some(false);
                candidate.busy = false;
            }
            Carrier::Tcp => {
                candidate.utp = None;
                self.lost(addr, now, false);
            }
        }
    }

    /// It is not to be tried again before then.
    pub(crate) fn rest(&mut self, addr: SocketAddr, until: Time) {
        if let Some(candidate) = self.all.get_mut(&addr) {
            (candidate.busy, candidate.resting) = (false, true);
            candidate.not_before = until;
        }
    }

    /// Those that rest may be tried again.
    pub(crate) fn wake(&mut self) {
        let rest = self.all.values_mut().filter(|candidate| candidate.resting);
        rest.for_each(|candidate| candidate.not_before = Time::ZERO);
    }

    pub(crate) fn knows(&self, addr: &SocketAddr) -> bool {
        self.all.contains_key(addr)
    }

    pub(crate) fn forget(&mut self, addr: SocketAddr) {
        self.all.remove(&addr);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::IpAddr;

    fn addr(n: u16) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 1], n))
    }

    fn host(n: u16) -> SocketAddr {
        SocketAddr::from(([10, 0, (n / 256) as u8, n as u8], 1))
    }

    #[test]
    fn who_failed_waits_longer_each_time_and_is_forgotten() {
        let mut candidates = Candidates::default();
        candidates.hear(addr(1), Origin::Peer);
        let mut now = Time::ZERO;
        for failure in 1..MAX_FAILURES {
            assert_eq!(candidates.take(now, |_| None), Some(addr(1)));
            assert_eq!(candidates.take(now, |_| None), None, "it is being tried");
            candidates.connected(addr(1), true);
            candidates.lost(addr(1), now, false);
            let pause = PAUSE * (1 << (failure - 1));
            assert_eq!(candidates.take(now + pause / 2, |_| None), None, "failure {failure}");
            now += pause;
        }
        assert_eq!(candidates.take(now, |_| None), Some(addr(1)));
        candidates.lost(addr(1), now, true);
        assert_eq!(candidates.take(now + PAUSE, |_| None), Some(addr(1)), "it was of use");
        for _ in 1..MAX_FAILURES {
            candidates.lost(addr(1), now, false);
        }
        assert!(candidates.all.is_empty());
    }

    #[test]
    fn who_rests_may_be_woken_whatever_failed_before_and_who_has_failed_waits() {
        let mut candidates = Candidates::default();
        candidates.hear(host(1), Origin::Peer);
        assert_eq!(candidates.take(Time::ZERO, |_| None), Some(host(1)));
        // It broke once, and is made again.
        candidates.lost(host(1), Time::ZERO, true);
        let now = Time::ZERO + PAUSE;
        assert_eq!(candidates.take(now, |_| None), Some(host(1)));
        candidates.rest(host(1), now + 100 * PAUSE);
        candidates.hear(host(2), Origin::Peer);
        assert_eq!(candidates.take(now, |_| None), Some(host(2)));
        candidates.lost(host(2), now, false);
        assert_eq!(candidates.take(now, |_| None), None);
        candidates.wake();
        assert_eq!([(); 2].map(|()| candidates.take(now, |_| None)), [Some(host(1)), None]);
    }

    #[test]
    fn who_does_not_answer_over_utp_is_tried_over_tcp_at_once() {
        let mut candidates = Candidates::default();
        candidates.hear(addr(1), Origin::Peer);
        assert_eq!((candidates.take(Time::ZERO, |_| None), candidates.utp(&addr(1))), (Some(addr(1)), None));
        candidates.was_not_reached(addr(1), Time::ZERO, Carrier::Utp);
        assert_eq!(
            (candidates.take(Time::ZERO, |_| None), candidates.utp(&addr(1))),
            (Some(addr(1)), Some(false))
        );
        candidates.was_not_reached(addr(1), Time::ZERO, Carrier::Tcp);
        assert_eq!(
            (candidates.take(Time::ZERO, |_| None), candidates.utp(&addr(1))),
            (None, None),
            "then it waits"
        );
        candidates.speaks_utp(&addr(1));
        assert_eq!(candidates.utp(&addr(1)), Some(true));
    }

    #[test]
    fn hearsay_is_bounded() {
        let mut candidates = Candidates::default();
        (1..5000).for_each(|n| candidates.hear(host(n), Origin::Peer));
        assert_eq!(candidates.all.len(), MAX_HEARSAY);
        candidates.hear("0.0.0.0:1".parse().unwrap(), Origin::Peer);
        assert_eq!(candidates.take(Time::ZERO, |_| None), Some(host(1)), "who was heard of first");
    }

    #[test]
    fn a_host_has_one_place_in_hearsay() {
        let mut candidates = Candidates::default();
        (1..100).for_each(|n| candidates.hear(addr(n), Origin::Peer));
        candidates.hear("[::ffff:192.0.2.1]:7".parse().unwrap(), Origin::Peer);
        assert_eq!(candidates.all.len(), 1);
        (1..100).for_each(|n| candidates.forget(addr(n)));
        let six = |n: u16| SocketAddr::from(([0x2001, 0xdb8, 0, 0, n, n, n, n], n));
        (1..100).for_each(|n| candidates.hear(six(n), Origin::Peer));
        assert_eq!(candidates.all.len(), 1, "a /64 is one host");
        (1..100).for_each(|n| candidates.hear(SocketAddr::from(([127, 0, 0, 1], n)), Origin::Peer));
        assert_eq!(candidates.all.len(), 100, "but this machine has many");
    }

    #[test]
    fn what_the_user_names_has_room_and_comes_first() {
        let mut candidates = Candidates::default();
        (1..1000).for_each(|n| candidates.hear(host(n), Origin::Peer));
        (1..=MAX as u16).for_each(|n| candidates.hear(addr(n), Origin::User));
        assert_eq!(candidates.all.len(), MAX);
        assert!((1..=MAX as u16).all(|n| candidates.all.contains_key(&addr(n))));
        candidates.hear(addr(MAX as u16 + 1), Origin::User);
        assert_eq!(candidates.all.len(), MAX, "it ends somewhere");
        let mut candidates = Candidates::default();
        (1..10).for_each(|n| candidates.hear(host(n), Origin::Peer));
        candidates.hear(addr(1), Origin::User);
        candidates.hear(host(9), Origin::User);
        let first = [(); 2].map(|()| candidates.take(Time::ZERO, |_| None));
        assert_eq!(first, [Some(host(9)), Some(addr(1))], "the one that was heard of first");
    }
    #[test]
    fn what_trackers_tell_comes_before_what_peers_tell_and_takes_its_place() {
        let mut candidates = Candidates::default();
        (1..1000).for_each(|n| candidates.hear(host(n), Origin::Peer));
        (2000..2100).for_each(|n| candidates.hear(host(n), Origin::Tracker));
        assert_eq!(candidates.all.len(), MAX_HEARSAY);
        (1..10).for_each(|n| candidates.hear(addr(n), Origin::Tracker));
        let of_host = candidates.all.keys().filter(|known| known.ip() == addr(1).ip()).count();
        assert_eq!(of_host, MAX_OF_HOST);
        assert_eq!(candidates.take(Time::ZERO, |_| None), Some(host(2000)));
        (3000..4000).for_each(|n| candidates.hear(host(n), Origin::Peer));
        (3000..4000).for_each(|n| candidates.hear(host(n), Origin::Tracker));
        assert_eq!(candidates.all.len(), MAX_HEARSAY, "nor have trackers more room");
    }

    #[test]
    fn a_private_torrent_has_no_peers_but_its_trackers() {
        let mut candidates = Candidates::default();
        [(1, Origin::User), (2, Origin::Tracker), (3, Origin::Peer)]
            .into_iter()
            .for_each(|(n, origin)| candidates.hear(host(n), origin));
        // One that two have told of, and two that are connected.
        candidates.hear(host(4), Origin::User);
        candidates.hear(host(4), Origin::Tracker);
        [1, 3].into_iter().for_each(|n| candidates.connected(host(n), false));
        candidates.only_from_trackers();
        [1, 3].into_iter().for_each(|n| candidates.lost(host(n), Time::ZERO, true));
        assert_eq!(candidates.all.into_keys().collect::<Vec<_>>(), [host(2), host(4)]);
    }

    #[test]
    fn among_equals_the_highest_priority_is_first() {
        let mut candidates = Candidates::default();
        (1..=9).for_each(|n| candidates.hear(host(n), Origin::Peer));
        candidates.hear(host(10), Origin::Tracker);
        let priority = |addr: SocketAddr| {
            let IpAddr::V4(ip) = addr.ip() else { return None };
            Some(u32::from(ip.octets()[3]) * 5 % 11)
        };
        let mut order: Vec<SocketAddr> =
            std::iter::from_fn(|| candidates.take(Time::ZERO, priority)).collect();
        assert_eq!(order.remove(0), host(10), "whoever's word counts more");
        assert!(order.len() == 9 && order.is_sorted_by_key(|addr| Reverse(priority(*addr))));
    }
}
