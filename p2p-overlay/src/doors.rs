//! The peers through whom a node finds back into its network.
//!
//! A network that was cut in two goes on as two networks: each half takes the other for dead, and forgets it. So that
//! they become one again when the cut is mended, every node remembers some whom it has lost, and asks one of them now
//! and then.

use std::time::Duration;

use p2p_core::{Peer, Rng};

/// The seeds that a node was given, and the peers that it has lost last. At most [`MOST`] of each.
#[derive(Clone, Debug)]
pub(crate) struct Doors<P> {
    seeds: Vec<P>,
    /// The latest last.
    lost: Vec<P>,
    /// How many have been tried since the node was shut out.
    tried: usize,
    /// It has been in the network.
    was_in: bool,
}

/// How many seeds, and how many lost peers, are remembered.
const MOST: usize = 16;

/// A node asks whether one of them leads to another network once in so many periods of its upkeep.
pub(crate) const SELDOM: u64 = 8;

/// How long a node waits for the first door; twice as long for each that follows.
const FIRST_TRY: Duration = Duration::from_secs(2);

impl<P: Peer> Doors<P> {
    /// The doors of a node that was given these seeds.
    pub(crate) fn new(me: P, seeds: impl IntoIterator<Item = P>) -> Doors<P> {
        let seeds = seeds.into_iter().filter(|seed| *seed != me).take(MOST).collect();
        Doors { seeds, lost: Vec::new(), tried: 0, was_in: false }
    }

    /// Whether the node was given no seeds: it has started its network.
    pub(crate) fn is_founder(&self) -> bool {
        self.seeds.is_empty()
    }

    /// A peer is taken for dead.
    pub(crate) fn lose(&mut self, peer: P) {
        self.lost.retain(|lost| *lost != peer);
        if self.lost.len() == MOST {
            self.lost.remove(0);
        }
        self.lost.push(peer);
    }

    /// A peer answers. Says whether it was taken for dead.
    pub(crate) fn found_again(&mut self, peer: P) -> bool {
        let lost = self.lost.len();
        self.lost.retain(|lost| *lost != peer);
        self.lost.len() < lost
    }

    /// The node is shut out: all doors are to be tried.
    pub(crate) fn begin(&mut self) {
        self.tried = 0;
    }

    /// The node has joined.
    pub(crate) fn found(&mut self) {
        self.was_in = true;
    }

    /// Whom to join through next, those lost last first; over and over. `None` after all were tried, if the node has
    /// started the network or was in it: it goes on alone, or nobody would be left to join. Whoever else does so is
    /// found again through the doors.
    pub(crate) fn next(&mut self) -> Option<P> {
        let doors = self.lost.iter().rev().chain(&self.seeds);
        let most = self.lost.len() + self.seeds.len();
        if (self.is_founder() || self.was_in) && self.tried >= most {
            return None;
        }
        let door = doors.copied().nth(self.tried % most);
        self.tried += 1;
        door
    }

    /// How long to wait on average before the next door is tried: not long at first, for whoever was asked may have
    /// been joining itself, then ever longer, up to a period of upkeep; and that long for the last one before it goes
    /// on alone.
    pub(crate) fn patience(&self, period: Duration) -> Duration {
        let last = (self.is_founder() || self.was_in) && self.tried + 1 >= self.lost.len() + self.seeds.len();
        match last {
            true => period,
            false => period.min(FIRST_TRY * (1 << self.tried.min(8))),
        }
    }

    /// One of them.
    pub(crate) fn any(&self, rng: &mut Rng) -> Option<P> {
        let most = self.lost.len() + self.seeds.len();
        let doors = self.lost.iter().chain(&self.seeds);
        (most > 0).then(|| rng.index(most)).and_then(|i| doors.copied().nth(i))
    }
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
}
