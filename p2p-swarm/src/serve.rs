//! The providing side: who waits for what, and whose turn it is.
//!
//! Peers take turns, one run each, so that one that asks for much waits longer and nobody else does.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;

use p2p_core::Peer;

/// Peers with questions at a time; more are told to come later. 1,024.
const MAX_ASKERS: usize = 1024;

/// The questions `Q` that wait, and those that are being read for. At most `per_peer` wait of each of 1,024 peers, and
/// `reads` are under way.
#[derive(Debug)]
pub(crate) struct Serving<P, Q> {
    waiting: BTreeMap<P, VecDeque<Q>>,
    reading: BTreeMap<u64, (P, Q)>,
    /// Who had the last turn.
    last: Option<P>,
    next: u64,
    reads: usize,
    per_peer: usize,
}

impl<P: Peer, Q: Copy + PartialEq> Serving<P, Q> {
    pub(crate) fn new(reads: usize, per_peer: usize) -> Self {
        Serving { waiting: BTreeMap::new(), reading: BTreeMap::new(), last: None, next: 0, reads, per_peer }
    }

    /// Takes a question on; `false` if there are too many.
    pub(crate) fn ask(&mut self, peer: P, question: Q) -> bool {
        let full = self.waiting.len() >= MAX_ASKERS;
        if full && !self.waiting.contains_key(&peer) {
            return false;
        }
        let queue = self.waiting.entry(peer).or_default();
        if queue.len() >= self.per_peer {
            return false;
        }
        queue.push_back(question);
        true
    }

    /// The question whose turn it is, with a number to [end](Serving::read) it by, if another read may begin.
    pub(crate) fn turn(&mut self) -> Option<(u64, P, Q)> {
        self.turn_of(|_| true)
    }

    /// As [`Serving::turn`], of those peers who may have one.
    pub(crate) fn turn_of(&mut self, may: impl FnMut(P) -> bool) -> Option<(u64, P, Q)> {
        if self.reading.len() >= self.reads {
            return None;
        }
        let peer = next_of(&self.waiting, self.last, may)?;
        let queue = self.waiting.get_mut(&peer)?;
        let question = queue.pop_front();
        if queue.is_empty() {
            self.waiting.remove(&peer);
        }
        self.last = Some(peer);
        self.next += 1;
        let question = question?;
        self.reading.insert(self.next, (peer, question));
        Some((self.next, peer, question))
    }

    /// Whether anybody waits for a turn.
    pub(crate) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// A read is done: whose it was, if they are still there.
    pub(crate) fn read(&mut self, number: u64) -> Option<(P, Q)> {
        self.reading.remove(&number)
    }

    /// A peer is gone, or is told nothing more: what waited of it. What is being read for it goes on.
    pub(crate) fn gone(&mut self, peer: P) -> VecDeque<Q> {
        self.waiting.remove(&peer).unwrap_or_default()
    }

    /// A peer does not want an answer any more; says whether it still waited for its turn.
    pub(crate) fn withdraw(&mut self, peer: P, question: Q) -> bool {
        let Some(queue) = self.waiting.get_mut(&peer) else { return false };
        let at = queue.iter().position(|waiting| *waiting == question);
        let was = at.and_then(|at| queue.remove(at)).is_some();
        if queue.is_empty() {
            self.waiting.remove(&peer);
        }
        was
    }
}

/// Whose turn it is of those who stand in a line and may have one, after whoever had the last.
pub(crate) fn next_of<P: Peer, V>(
    line: &BTreeMap<P, V>,
    last: Option<P>,
    mut may: impl FnMut(P) -> bool,
) -> Option<P> {
    let behind = line.range((last.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded));
    let before = line.range((Bound::Unbounded, last.map_or(Bound::Unbounded, Bound::Included)));
    behind.chain(before).map(|(peer, _)| *peer).find(|peer| may(*peer))
}

#[cfg(test)]
mod tests {
    use super::*;
    use p2p_core::SimPeer;

    #[test]
    fn a_greedy_peer_does_not_starve_others() {
        let mut serving = Serving::new(100, 8);
        for id in 0..20 {
            assert_eq!(serving.ask(SimPeer(1), id), id < 8, "question {id}");
        }
        assert!(serving.ask(SimPeer(2), 0) && serving.ask(SimPeer(3), 0));
        let order: Vec<u32> = std::iter::from_fn(|| serving.turn()).map(|(_, peer, _)| peer.0).collect();
        assert_eq!(order, [1, 2, 3, 1, 1, 1, 1, 1, 1, 1]);
    }

    #[test]
    fn who_may_not_is_passed_over_and_loses_nothing() {
        let mut serving = Serving::new(100, 8);
        for peer in [1, 2, 3, 1, 2, 3] {
            assert!(serving.ask(SimPeer(peer), 0));
        }
        let mut turn = |may: &[u32]| serving.turn_of(|peer| may.contains(&peer.0)).map(|(_, peer, _)| peer.0);
        assert_eq!(
            [turn(&[1, 3]), turn(&[1, 3]), turn(&[]), turn(&[1, 2, 3])],
            [Some(1), Some(3), None, Some(1)]
        );
        assert_eq!([turn(&[2]), turn(&[2]), turn(&[2])], [Some(2), Some(2), None]);
    }

    #[test]
    fn reads_and_askers_are_bounded() {
        let mut serving = Serving::new(2, 8);
        let taken = (0..2000).filter(|peer| serving.ask(SimPeer(*peer), 0)).count();
        assert_eq!(taken, MAX_ASKERS);
        let (first, second) = (serving.turn().unwrap().0, serving.turn());
        assert!(second.is_some() && serving.turn().is_none());
        assert_eq!(serving.read(first).unwrap().0, SimPeer(0));
        assert!(serving.read(first).is_none(), "once");
        assert!(serving.turn().is_some());
    }

    #[test]
    fn what_is_withdrawn_has_no_turn() {
        let mut serving = Serving::new(8, 8);
        assert!((0..3).all(|id| serving.ask(SimPeer(1), id)));
        assert!(
            serving.withdraw(SimPeer(1), 1)
                && !serving.withdraw(SimPeer(1), 1)
                && !serving.withdraw(SimPeer(2), 0)
        );
        assert_eq!(serving.turn().map(|(_, _, id)| id), Some(0));
        assert_eq!(serving.gone(SimPeer(1)), [2]);
        assert!(serving.turn().is_none());
    }
}
