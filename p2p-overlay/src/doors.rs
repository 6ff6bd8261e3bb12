//! The peers through whom a node finds back into its network.
//!
//! A network that was cut in two goes on as two networks: each half takes the other for dead, and forgets it. So that
//! they become one again when the cut is mended, every node remembers some whom it has lost, and asks one of them now
//! and then.
//!
//! Nor does a node that is outside depend on the few it was told of, which may all be dead by then: whoever takes part and
//! speaks to it, because it was here before or had almost joined, may be a door too; and at last anybody who does, though
//! most of them are newcomers themselves, which would join through this node.

use std::time::Duration;

use p2p_core::{Peer, Rng};

/// The seeds that a node was given, the peers that it has lost last, and those that spoke to it last while it was
/// outside. At most [`MOST`] of the first two each, and [`MET`] and [`STRANGERS`] of those.
#[derive(Clone, Debug)]
pub(crate) struct Doors<P> {
    seeds: Vec<P>,
    /// The latest last.
    lost: Vec<P>,
    /// Since it was shut out, the latest last.
    met: Vec<P>,
    /// The same, of those who may be outside too.
    strangers: Vec<P>,
    /// How many have been tried since the node was shut out.
    tried: usize,
    /// It has been in the network.
    was_in: bool,
}

/// How many seeds and lost peers are remembered.
const MOST: usize = 16;
/// How many of those met: who goes on alone tries them first, and strangers do not keep it from that for long.
const MET: usize = 4;
/// How many strangers.
const STRANGERS: usize = 2;

/// A node asks whether one of them leads to another network once in so many periods of its upkeep; more often if it knows
/// fewer.
pub(crate) const SELDOM: u64 = 8;

/// How long a node waits for the first door; twice as long for each that follows.
const FIRST_TRY: Duration = Duration::from_secs(2);

impl<P: Peer> Doors<P> {
    /// The doors of a node that was given these seeds; one that is given twice is one.
    pub(crate) fn new(me: P, seeds: impl IntoIterator<Item = P>) -> Doors<P> {
        let mut once: Vec<P> = Vec::new();
        for seed in seeds {
            if seed != me && !once.contains(&seed) && once.len() < MOST {
                once.push(seed);
            }
        }
        Doors {
            seeds: once,
            lost: Vec::new(),
            met: Vec::new(),
            strangers: Vec::new(),
            tried: 0,
            was_in: false,
        }
    }

    /// Whether the node was given no seeds: it has started its network.
    pub(crate) fn is_founder(&self) -> bool {
        self.seeds.is_empty()
    }

    /// A peer is taken for dead.
    pub(crate) fn lose(&mut self, peer: P) {
        note(&mut self.lost, peer, MOST);
    }

    /// A peer that takes part speaks to the node while it is outside.
    pub(crate) fn meet(&mut self, peer: P) {
        self.strangers.retain(|stranger| *stranger != peer);
        note(&mut self.met, peer, MET);
    }

    /// Somebody speaks to it.
    pub(crate) fn hear(&mut self, peer: P) {
        if !self.met.contains(&peer) {
            note(&mut self.strangers, peer, STRANGERS);
        }
    }

    /// Whether a peer is taken for dead.
    pub(crate) fn has_lost(&self, peer: P) -> bool {
        self.lost.contains(&peer)
    }

    /// A peer is there after all.
    pub(crate) fn found_again(&mut self, peer: P) {
        self.lost.retain(|lost| *lost != peer);
    }

    /// The node is shut out: all doors are to be tried.
    pub(crate) fn begin(&mut self) {
        self.tried = 0;
        self.forget_strangers();
    }

    /// The node has joined.
    pub(crate) fn found(&mut self) {
        self.was_in = true;
        self.forget_strangers();
    }

    fn forget_strangers(&mut self) {
        self.met.clear();
        self.strangers.clear();
    }

    /// After how many tries the node goes on alone, if it may.
    fn most(&self) -> Option<usize> {
        let most = self.lost.len() + self.seeds.len() + self.met.len();
        (self.is_founder() || self.was_in).then_some(most)
    }

    /// Whom to join through next, those lost last first, then the seeds, those met, and strangers; over and over. `None`
    /// after all but strangers were tried, if the node has started the network or was in it: it goes on alone, or nobody
    /// would be left to join. Whoever else does so is found again through the doors.
    pub(crate) fn next(&mut self) -> Option<P> {
        if self.most().is_some_and(|most| self.tried >= most) {
            return None;
        }
        let known = self.lost.iter().rev().chain(&self.seeds);
        let mut doors = known.chain(self.met.iter().rev()).chain(self.strangers.iter().rev());
        let all = self.lost.len() + self.seeds.len() + self.met.len() + self.strangers.len();
        let door = doors.nth(self.tried % all.max(1)).copied();
        self.tried += 1;
        door
    }

    /// How long to wait on average before the next door is tried: not long at first, for whoever was asked may have
    /// been joining itself, then ever longer, up to a period of upkeep; and that long for the last one before it goes
    /// on alone.
    pub(crate) fn patience(&self, period: Duration) -> Duration {
        let is_last = self.most().is_some_and(|most| self.tried + 1 >= most);
        match is_last {
            true => period,
            false => period.min(FIRST_TRY * (1 << self.tried.min(8))),
        }
    }

    /// Whom to ask in this period of the upkeep whether it leads to another network, if anybody, of those whom the node
    /// does not know. Who knows few may be in a small part of one, where few look: all of a small network together ask
    /// once in a period.
    pub(crate) fn knock(&self, known: usize, knows: impl Fn(P) -> bool, rng: &mut Rng) -> Option<P> {
        let is_time = rng.below(SELDOM.min(1 + known as u64)) == 0;
        if is_time { self.one(|door| !knows(door), rng) } else { None }
    }

    /// One of those through whom the node finds back.
    pub(crate) fn any(&self, rng: &mut Rng) -> Option<P> {
        self.one(|_| true, rng)
    }

    fn one(&self, which: impl Fn(P) -> bool, rng: &mut Rng) -> Option<P> {
        let doors = || self.lost.iter().chain(&self.seeds).copied().filter(|door| which(*door));
        let most = doors().count();
        (most > 0).then(|| rng.index(most)).and_then(|i| doors().nth(i))
    }
}

/// Notes the latest.
fn note<P: Peer>(latest: &mut Vec<P>, peer: P, most: usize) {
    latest.retain(|other| *other != peer);
    if latest.len() == most {
        latest.remove(0);
    }
    latest.push(peer);
}

#[cfg(test)]
mod tests {
    use super::*;

    const PERIOD: Duration = Duration::from_secs(15);

    #[test]
    fn a_newcomer_tries_soon_and_then_ever_later() {
        let mut doors = Doors::new(0, [1, 2]);
        let waits = (0..5).map(|_| {
            let wait = doors.patience(PERIOD).as_secs();
            (doors.next(), wait)
        });
        assert_eq!(
            waits.collect::<Vec<_>>(),
            [(Some(1), 2), (Some(2), 4), (Some(1), 8), (Some(2), 15), (Some(1), 15)]
        );
    }

    #[test]
    fn who_was_in_waits_for_the_last_door_before_it_goes_on_alone() {
        let mut doors = Doors::new(0, [1, 2]);
        doors.found();
        doors.lose(3);
        doors.begin();
        let waits = (0..4).map(|_| {
            let wait = doors.patience(PERIOD).as_secs();
            (doors.next(), wait)
        });
        assert_eq!(waits.collect::<Vec<_>>(), [(Some(3), 2), (Some(1), 4), (Some(2), 15), (None, 15)]);
    }

    #[test]
    fn each_door_is_tried_once_in_a_round_and_whoever_was_met_last_of_all() {
        let mut doors = Doors::new(0, [1, 1, 1, 2]);
        doors.meet(7);
        doors.meet(8);
        doors.meet(7);
        let round: Vec<_> = (0..5).map(|_| doors.next()).collect();
        assert_eq!(round, [Some(1), Some(2), Some(7), Some(8), Some(1)]);
    }

    /// Two seeds, four that take part, and two strangers, of whom the first has turned out to take part.
    #[test]
    fn those_met_and_strangers_are_few_and_strangers_last() {
        let mut doors = Doors::new(0, [1, 2]);
        (0..100).for_each(|peer| doors.meet(100 + peer));
        (0..100).for_each(|stranger| doors.hear(200 + stranger));
        doors.meet(298);
        doors.hear(298);
        let round: Vec<_> = (0..8).filter_map(|_| doors.next()).collect();
        assert_eq!(round, [1, 2, 298, 199, 198, 197, 299, 1]);
    }

    #[test]
    fn all_of_a_small_network_together_knock_once_in_a_period() {
        let mut doors = Doors::new(0, [1, 2]);
        doors.lose(3);
        let rng = &mut Rng::new(1);
        let mut knocks = |known: usize| {
            let asked: Vec<_> = (0..8000).filter_map(|_| doors.knock(known, |door| door == 2, rng)).collect();
            assert!(!asked.contains(&2), "who is known leads nowhere else");
            (known + 1) * asked.len() / 80
        };
        for known in [1, 2, 4, 7] {
            let percent = knocks(known);
            assert!((90..110).contains(&percent), "{percent} knocks in 100 periods of {known} and one");
        }
        assert!((900..1100).contains(&knocks(79)), "one in eight periods each");
        assert_eq!(Doors::new(0, [1]).knock(0, |_| true, rng), None);
    }

    /// Whoever may go on alone does so whatever strangers say.
    #[test]
    fn strangers_keep_nobody_from_going_on_alone() {
        let mut doors = Doors::new(0, []);
        doors.lose(3);
        doors.begin();
        doors.hear(7);
        assert_eq!([doors.next(), doors.next()], [Some(3), None]);
    }
}
