//! Questions that wait for an answer: each has a secret number, which its answer must repeat from the same address.
//!
//! Numbers must not be guessed by whoever cannot see the question, even if it has seen all that went before: they are keyed
//! hashes of a counter (not the counter itself, as `p2p_core::Pending`'s are), and a wrong guess ends nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use p2p_core::{Peer, Time};

use super::secret::Secret;

/// Questions at once.
const MOST: usize = 1024;

/// What waits for an answer.
#[derive(Clone, Debug)]
struct Open<P, Q> {
    peer: P,
    late: Time,
    dead: Time,
    question: Q,
}

/// A question that has waited for long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Lapsed<P, Q> {
    /// It may still be answered, but others need not wait for it.
    Late(P, Q),
    /// It is over.
    Dead(P, Q),
}

/// See the module's text. At most 1,024.
#[derive(Clone)]
pub(super) struct Asked<P, Q> {
    key: [u8; 32],
    count: u64,
    open: BTreeMap<u32, Open<P, Q>>,
    due: BTreeSet<(Time, u32)>,
}

impl<P: Peer, Q: Copy> Asked<P, Q> {
    pub(super) fn new(secret: &Secret) -> Asked<P, Q> {
        let key = secret.key("p2p-dht mainline: questions");
        Asked { key, count: 0, open: BTreeMap::new(), due: BTreeSet::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    /// Notes a question and gives it its number; `None` if there are too many.
    pub(super) fn insert(
        &mut self,
        now: Time,
        (late, dead): (Duration, Duration),
        peer: P,
        question: Q,
    ) -> Option<u32> {
        if self.open.len() >= MOST {
            return None;
        }
        let number = loop {
            self.count += 1;
            let hash = blake3::keyed_hash(&self.key, &self.count.to_be_bytes());
            let [a, b, c, d, ..] = *hash.as_bytes();
            let number = u32::from_be_bytes([a, b, c, d]);
            if !self.open.contains_key(&number) {
                break number;
            }
        };
        let open = Open { peer, late: now + late.min(dead), dead: now + dead, question };
        self.due.extend([(open.late, number), (open.dead, number)]);
        self.open.insert(number, open);
        Some(number)
    }

    /// The question that this answers.
    pub(super) fn answer(&mut self, number: u32, peer: P) -> Option<Q> {
        self.open.get(&number).filter(|open| open.peer == peer)?;
        self.remove(number).map(|open| open.question)
    }

    fn remove(&mut self, number: u32) -> Option<Open<P, Q>> {
        let open = self.open.remove(&number)?;
        self.due.remove(&(open.late, number));
        self.due.remove(&(open.dead, number));
        Some(open)
    }

    /// When the next is late, or over.
    pub(super) fn next_due(&self) -> Option<Time> {
        self.due.first().map(|(at, _)| *at)
    }

    /// Takes out what is late or over by now, one after the other.
    pub(super) fn lapse(&mut self, now: Time) -> Option<Lapsed<P, Q>> {
        let (at, number) = *self.due.first().filter(|(at, _)| *at <= now)?;
        self.due.remove(&(at, number));
        let open = self.open.get(&number)?;
        if at < open.dead {
            return Some(Lapsed::Late(open.peer, open.question));
        }
        self.remove(number).map(|open| Lapsed::Dead(open.peer, open.question))
    }

    /// Whether a peer has been asked something that waits.
    pub(super) fn waits_for(&self, peer: P) -> bool {
        self.open.values().any(|open| open.peer == peer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use p2p_core::SimPeer;

    #[test]
    fn a_question_is_late_then_over_and_a_wrong_guess_changes_nothing() {
        let mut asked = Asked::new(&Secret::new([1; 32]));
        let seconds = |seconds| Time::ZERO + Duration::from_secs(seconds);
        let patience = (Duration::from_secs(1), Duration::from_secs(3));
        let number = asked.insert(Time::ZERO, patience, SimPeer(1), 'a').unwrap();
        assert_eq!(asked.answer(number, SimPeer(2)), None);
        assert_eq!(asked.answer(number ^ 1, SimPeer(1)), None);
        assert_eq!(asked.lapse(seconds(0)), None);
        assert_eq!(asked.lapse(seconds(1)), Some(Lapsed::Late(SimPeer(1), 'a')));
        assert_eq!((asked.lapse(seconds(2)), asked.next_due()), (None, Some(seconds(3))));
        assert_eq!(asked.lapse(seconds(3)), Some(Lapsed::Dead(SimPeer(1), 'a')));
        assert_eq!((asked.lapse(seconds(9)), asked.len()), (None, 0));
        let number = asked.insert(Time::ZERO, patience, SimPeer(1), 'b').unwrap();
        assert_eq!(asked.answer(number, SimPeer(1)), Some('b'));
        assert_eq!((asked.answer(number, SimPeer(1)), asked.next_due()), (None, None));
    }
}
