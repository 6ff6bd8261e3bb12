//! One lookup: the nodes it has heard of, the nearest first, and whom to ask next.
//!
//! It is the same procedure as Kademlia's in `p2p-overlay` (`lookup/converge.rs`), but not the same code: that one speaks its
//! overlay's messages and takes a peer's key for granted; here an id is hearsay until its node answers, a node whose id is
//! not bound to its address does not count (BEP 42), and the lookup goes on until it has covered as much of the key
//! space, and as many subnets, as nodes around other keys do (`size.rs`).

use std::net::SocketAddr;

use bytes::Bytes;
use p2p_core::{Key, Peer, Subnet};

use super::id::{is_local, is_secure_id};
use super::krpc::Node;
use super::size::{Cover, share};
use super::table::K;

/// Nodes that a lookup remembers.
const MAX_KNOWN: usize = 128;
/// Nodes that it goes to at most, beyond those that are silent.
const MAX_COVER: usize = 32;
/// Questions that it asks at most: somebody may name ever nearer nodes.
const MAX_QUESTIONS: u16 = 256;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    New,
    Asked,
    /// Asked; others need not wait for it.
    Late,
    Answered,
    Silent,
}

/// A node that the lookup has heard of.
#[derive(Clone, Debug)]
pub(super) struct Known<P> {
    distance: Key<20>,
    pub(super) id: Option<Key<20>>,
    pub(super) peer: P,
    addr: SocketAddr,
    state: State,
    counts: bool,
    /// From its answer: to write there, and the sequence number of what it has.
    pub(super) token: Option<Bytes>,
    pub(super) sequence: Option<i64>,
}

/// See the module's text.
#[derive(Clone, Debug)]
pub(super) struct Lookup<P> {
    pub(super) target: Key<20>,
    pub(super) v6: bool,
    /// On whose behalf.
    pub(super) task: Option<u64>,
    /// The nearest first; those of whom no id is known last.
    known: Vec<Known<P>>,
    /// How many were asked.
    questions: u16,
    cover: Cover,
    enforce_ids: bool,
    one_per_ip: bool,
}

impl<P: Peer> Lookup<P> {
    pub(super) fn new(target: Key<20>, v6: bool, task: Option<u64>, cover: Cover) -> Lookup<P> {
        let known = Vec::new();
        Lookup { target, v6, task, known, questions: 0, cover, enforce_ids: true, one_per_ip: true }
    }

    /// Whether ids must be bound to addresses, and whether an address may have several nodes.
    pub(super) fn with(self, enforce_ids: bool, one_per_ip: bool) -> Lookup<P> {
        Lookup { enforce_ids, one_per_ip, ..self }
    }

    /// Notes a node, by hearsay, unless it is known or another is at its address that has not failed to answer there.
    pub(super) fn add(&mut self, id: Option<Key<20>>, peer: P, addr: SocketAddr) {
        let ip = addr.ip().to_canonical();
        let crowded = self.one_per_ip && !is_local(ip);
        let is_same = |known: &Known<P>| {
            let is_there = known.state != State::Silent && known.addr.ip().to_canonical() == ip;
            known.peer == peer || crowded && is_there
        };
        if !self.known.iter().any(is_same) {
            let (token, sequence, state) = (None, None, State::New);
            let known =
                Known { distance: Key::MAX, id: None, peer, addr, state, counts: true, token, sequence };
            self.place(known, id);
        }
    }

    /// Puts a node where its id belongs. Where there are too many, the furthest of the silent is forgotten, or of those that
    /// nobody has asked yet: what is only named does not drive out who has answered.
    fn place(&mut self, mut known: Known<P>, id: Option<Key<20>>) {
        known.id = id;
        known.distance = id.map_or(Key::MAX, |id| id.xor(&self.target));
        known.counts = !self.enforce_ids || id.is_none_or(|id| is_secure_id(&id, known.addr.ip()));
        let at = self.known.partition_point(|other| other.distance <= known.distance);
        self.known.insert(at, known);
        if self.known.len() > MAX_KNOWN {
            let last = |state| self.known.iter().rposition(|known| known.state == state);
            let least = last(State::Silent).or_else(|| last(State::New)).unwrap_or(MAX_KNOWN);
            self.known.remove(least);
        }
    }

    /// The nearest that are not silent, as far as the lookup has to go; those that it will not ask any more are as silent.
    fn covered(&self) -> impl Iterator<Item = usize> {
        let may_ask = self.questions < MAX_QUESTIONS;
        let (mut count, mut subnets, mut done) = (0, Vec::new(), false);
        let alive = self.known.iter().enumerate().filter(move |(_, known)| match known.state {
            State::Silent => false,
            State::New => may_ask,
            State::Asked | State::Late | State::Answered => true,
        });
        alive.map_while(move |(at, known)| {
            let enough = count >= K
                && share(&known.distance) >= self.cover.distance
                && subnets.len() >= self.cover.subnets;
            done |= enough || count >= MAX_COVER;
            let subnet = Subnet::of(known.addr.ip());
            if known.counts && !subnets.contains(&subnet) {
                subnets.push(subnet);
            }
            count += usize::from(known.counts);
            (!done).then_some(at)
        })
    }

    /// Whom to ask next, if one more may be asked.
    pub(super) fn next(&mut self, parallel: usize) -> Option<P> {
        let asked = self.known.iter().filter(|known| known.state == State::Asked).count();
        let new = { self.covered() }.find(|at| self.known[*at].state == State::New)?;
        if asked >= parallel {
            return None;
        }
        self.questions += 1;
        self.known[new].state = State::Asked;
        Some(self.known[new].peer)
    }

    /// What became of a question.
    pub(super) fn settle(&mut self, peer: P, state: State) {
        let open = |known: &&mut Known<P>| matches!(known.state, State::New | State::Asked | State::Late);
        if let Some(known) = self.known.iter_mut().filter(open).find(|known| known.peer == peer) {
            known.state = state;
        }
    }

    /// A node has answered, and said its id.
    pub(super) fn answered(&mut self, peer: P, id: Key<20>, token: Option<Bytes>, sequence: Option<i64>) {
        let Some(at) = self.known.iter().position(|known| known.peer == peer) else { return };
        let known = self.known.remove(at);
        self.place(Known { state: State::Answered, token, sequence, ..known }, Some(id));
    }

    /// Whether there is nobody left to ask or to wait for.
    pub(super) fn is_done(&self) -> bool {
        let open = |at: usize| !matches!(self.known[at].state, State::Answered);
        !self.covered().any(open)
    }

    /// Those that have answered and count, the nearest first, as far as the lookup went.
    pub(super) fn found(&self) -> impl Iterator<Item = &Known<P>> {
        let known = self.covered().map(|at| &self.known[at]);
        known.filter(|known| known.state == State::Answered && known.counts)
    }

    /// The distances of the nearest that count, as shares of the key space, and in how many subnets they are.
    pub(super) fn seen(&self) -> (Vec<f64>, usize) {
        let nearest: Vec<&Known<P>> = self.found().take(K).collect();
        let mut subnets: Vec<Subnet> = nearest.iter().map(|known| Subnet::of(known.addr.ip())).collect();
        subnets.sort_unstable();
        subnets.dedup();
        (nearest.iter().map(|known| share(&known.distance)).collect(), subnets.len())
    }
}

impl<P> Known<P> {
    /// The node, once its id is known.
    pub(super) fn node(&self) -> Option<Node> {
        Some(Node { id: self.id?, addr: self.addr })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(subnet: u8, host: u8) -> SocketAddr {
        SocketAddr::from(([203, subnet, 113, host], 6881))
    }

    /// An id at this share of the key space from zero, out of 256.
    fn id(share: u8, rest: u8) -> Key<20> {
        let mut id = [rest; 20];
        id[0] = share;
        Key::new(id)
    }

    fn lookup(cover: Cover) -> Lookup<SocketAddr> {
        Lookup::new(Key::ZERO, false, None, cover).with(false, true)
    }

    /// Asks and answers until it is done; says who was found.
    fn run(lookup: &mut Lookup<SocketAddr>) -> Vec<u8> {
        while let Some(peer) = lookup.next(3) {
            let id = lookup.known.iter().find(|known| known.peer == peer).unwrap().id.unwrap();
            lookup.answered(peer, id, None, None);
        }
        assert!(lookup.is_done());
        lookup.found().map(|known| known.id.unwrap().as_bytes()[0]).collect()
    }

    #[test]
    fn the_eight_nearest_end_it() {
        let mut lookup = lookup(Cover::default());
        (0..20).for_each(|n| lookup.add(Some(id(n, 0)), at(n, 1), at(n, 1)));
        assert_eq!(run(&mut lookup), [0, 1, 2, 3, 4, 5, 6, 7]);
    }

    /// Ten thousand nodes of the adversary at one key are eight as far as a plain lookup sees. They are too near, and in
    /// too few subnets.
    #[test]
    fn a_crowd_at_a_key_does_not_end_a_lookup_before_it_has_met_others() {
        for cover in [Cover { distance: 11.5 / 256.0, subnets: 0 }, Cover { distance: 0.0, subnets: 5 }] {
            let mut lookup = lookup(cover);
            (0..12).for_each(|n| lookup.add(Some(id(0, n)), at(1, n), at(1, n)));
            (5..20).for_each(|n| lookup.add(Some(id(n, 0)), at(n, 1), at(n, 1)));
            let found = run(&mut lookup);
            let honest = found.iter().filter(|share| **share >= 5).count();
            assert!(honest >= 4, "{cover:?}: {found:?}");
        }
    }

    #[test]
    fn one_address_is_asked_once_and_the_silent_do_not_count() {
        let mut lookup = lookup(Cover::default());
        (0..20).for_each(|n| {
            lookup.add(Some(id(n, 0)), at(1, n % 10), SocketAddr::new(at(1, n % 10).ip(), n.into()));
        });
        assert_eq!(lookup.known.len(), 10);
        lookup.settle(at(1, 0), State::Silent);
        assert_eq!(run(&mut lookup), [1, 2, 3, 4, 5, 6, 7, 8]);
    }

    #[test]
    fn an_id_that_is_anybodys_is_asked_but_does_not_count() {
        let mut lookup = lookup(Cover::default()).with(true, true);
        (0..4).for_each(|n| lookup.add(Some(id(n, 0)), at(n, 1), at(n, 1)));
        let mut rng = p2p_core::Rng::new(1);
        for n in 10..18 {
            let id = super::super::id::secure_id(at(n, 1).ip(), &mut rng);
            lookup.add(Some(id), at(n, 1), at(n, 1));
        }
        let mut asked = 0;
        while let Some(peer) = lookup.next(3) {
            let id = lookup.known.iter().find(|known| known.peer == peer).unwrap().id.unwrap();
            lookup.answered(peer, id, None, None);
            asked += 1;
        }
        assert!(lookup.is_done());
        assert_eq!((asked, lookup.found().count()), (12, 8));
    }

    #[test]
    fn at_most_so_many_are_asked_at_a_time_but_nobody_waits_for_the_late() {
        let mut lookup = lookup(Cover::default());
        (0..20).for_each(|n| lookup.add(Some(id(n, 0)), at(n, 1), at(n, 1)));
        let asked: Vec<SocketAddr> = std::iter::from_fn(|| lookup.next(3)).collect();
        assert_eq!(asked.len(), 3);
        lookup.settle(asked[0], State::Late);
        assert!(lookup.next(3).is_some() && lookup.next(3).is_none());
        assert!(!lookup.is_done(), "the late may still answer");
    }

    /// Each node names one that is nearer, for ever; the honest ones were there before.
    #[test]
    fn a_lookup_asks_so_many_and_then_is_content_with_who_has_answered() {
        let mut lookup = lookup(Cover::default());
        (100..120).for_each(|n| lookup.add(Some(id(n, 0)), at(n, 1), at(n, 1)));
        let invented = |n: u16| {
            let mut id = [0; 20];
            id[1..3].copy_from_slice(&(u16::MAX - n).to_be_bytes());
            let [high, low] = n.to_be_bytes();
            (Key::new(id), SocketAddr::from(([11, high, low, 1], 1)))
        };
        let mut asked = 0;
        while let Some(peer) = lookup.next(1) {
            asked += 1;
            assert!(asked <= 1000);
            match lookup.known.iter().find(|known| known.peer == peer).unwrap().id.unwrap() {
                honest if honest.as_bytes()[0] > 0 => lookup.answered(peer, honest, None, None),
                _ => lookup.settle(peer, State::Silent),
            }
            let (id, addr) = invented(asked);
            lookup.add(Some(id), addr, addr);
        }
        assert_eq!(asked, MAX_QUESTIONS);
        assert!(lookup.is_done());
        assert!(lookup.found().count() >= 1 && lookup.found().all(|known| known.id.unwrap() >= id(100, 0)));
    }

    #[test]
    fn where_there_is_no_room_the_silent_go_first_and_who_has_answered_stays() {
        let mut lookup = lookup(Cover::default());
        (100..110).for_each(|n| lookup.add(Some(id(n, 0)), at(n, 1), at(n, 1)));
        (100..105).for_each(|n| lookup.answered(at(n, 1), id(n, 0), None, None));
        let near = |n: u8| SocketAddr::from(([11, 0, n, 1], 1));
        (0..118).for_each(|n| lookup.add(Some(id(0, n)), near(n), near(n)));
        assert_eq!(lookup.known.len(), MAX_KNOWN);
        (0..60).for_each(|n| lookup.settle(near(n), State::Silent));
        (118..178).for_each(|n| lookup.add(Some(id(0, n)), near(n), near(n)));
        let honest = |lookup: &Lookup<SocketAddr>| {
            lookup.known.iter().filter(|known| known.id >= Some(id(100, 0))).count()
        };
        assert_eq!((lookup.known.len(), honest(&lookup)), (MAX_KNOWN, 10));
        (178..200).for_each(|n| lookup.add(Some(id(0, n)), near(n), near(n)));
        assert_eq!((lookup.known.len(), honest(&lookup)), (MAX_KNOWN, 5));
    }

    #[test]
    fn a_wrong_port_keeps_the_right_one_out_only_while_it_may_answer() {
        let mut lookup = lookup(Cover::default());
        let (wrong, right) = (SocketAddr::new(at(1, 1).ip(), 1), at(1, 1));
        lookup.add(Some(id(1, 0)), wrong, wrong);
        lookup.add(Some(id(2, 0)), right, right);
        assert_eq!((lookup.next(3), lookup.next(3)), (Some(wrong), None));
        lookup.settle(wrong, State::Silent);
        lookup.add(Some(id(2, 0)), wrong, wrong);
        lookup.add(Some(id(2, 0)), right, right);
        assert_eq!((lookup.next(3), lookup.next(3)), (Some(right), None));
    }
}
