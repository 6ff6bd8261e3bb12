//! Work in units for workers whom nobody trusts, in the shape of SETI@home (Anderson and others, *SETI@home: an
//! experiment in public-resource computing*, 2002): each unit goes to several of them, until enough agree.
//!
//! Who has taken a unit and does not answer in time is lost, and another gets it; an answer that comes late still counts.
//! Who answered otherwise than was agreed has a fault, and after three of them gets no more. A worker is a key, and
//! whoever has many keys has many votes: a quorum is worth something among workers who are not all one.

use std::collections::BTreeMap;
use std::time::Duration;

use p2p_core::PeerId;

/// Faults after which a worker gets no more.
const FAULTS: u32 = 3;
/// The most workers that are known.
const WORKERS: usize = 10_000;
/// Answers to one unit; when so many do not agree, it is disputed.
const ANSWERS: usize = 32;

/// What a worker does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// This unit.
    Unit(usize),
    /// All are taken: ask again.
    Wait,
    /// Nothing, since its answers were wrong, or too many others are there.
    Unwanted,
    /// Nothing: there is an answer to all.
    Finished,
}

/// What an answer has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It counts.
    Counted,
    /// With it there are enough.
    Agreed,
    /// It is not needed: the unit has its answer, or this worker has given one.
    Spare,
    /// There are 32 answers, and no quorum among them.
    Disputed,
}

/// Units, who works on them, and what has come of it. At most 10,000 workers, and 32 answers of each unit.
///
/// ```
/// use std::time::Duration;
/// use p2p_core::Keypair;
/// use p2p_examples::units::{Next, Taken, Units};
///
/// let [ada, bob, eve] = [(); 3].map(|()| Keypair::generate().id());
/// let mut units = Units::new(1, 2, Duration::from_secs(60));
/// let now = Duration::ZERO;
/// assert_eq!((units.next(ada, now), units.next(eve, now)), (Next::Unit(0), Next::Unit(0)));
/// assert_eq!(units.next(bob, now), Next::Wait, "two are at it");
/// assert_eq!((units.answer(ada, 0, 42), units.answer(eve, 0, 666)), (Taken::Counted, Taken::Counted));
/// assert_eq!((units.next(bob, now), units.answer(bob, 0, 42)), (Next::Unit(0), Taken::Agreed));
/// assert_eq!(units.answers().collect::<Vec<_>>(), [&42]);
/// ```
#[derive(Debug)]
pub struct Units<A> {
    quorum: usize,
    lease: Duration,
    units: Vec<Unit<A>>,
    /// How many are without an answer, and the first of them, or one before it.
    open: usize,
    first: usize,
    /// Faults of each worker.
    workers: BTreeMap<PeerId, u32>,
}

#[derive(Debug)]
struct Unit<A> {
    agreed: Option<A>,
    answers: Vec<(PeerId, A)>,
    /// Who works on it, and until when.
    leases: Vec<(PeerId, Duration)>,
}

impl<A: PartialEq + Clone> Units<A> {
    /// So many units; `quorum` equal answers are believed, and who does not answer within `lease` is lost.
    pub fn new(count: usize, quorum: usize, lease: Duration) -> Units<A> {
        let unit = || Unit { agreed: None, answers: Vec::new(), leases: Vec::new() };
        let units = std::iter::repeat_with(unit).take(count).collect();
        Units {
            quorum: quorum.clamp(1, ANSWERS),
            lease,
            units,
            open: count,
            first: 0,
            workers: BTreeMap::new(),
        }
    }

    /// What this worker does next; `now` is since any beginning.
    pub fn next(&mut self, worker: PeerId, now: Duration) -> Next {
        if self.open == 0 {
            self.workers.retain(|other, faults| *other != worker || *faults >= FAULTS);
            return Next::Finished;
        }
        if self.workers.len() >= WORKERS && !self.workers.contains_key(&worker) {
            return Next::Unwanted;
        }
        if *self.workers.entry(worker).or_default() >= FAULTS {
            return Next::Unwanted;
        }
        let quorum = self.quorum;
        while self.units.get(self.first).is_some_and(|unit| unit.agreed.is_some()) {
            self.first += 1;
        }
        let Some(free) = self.units[self.first..].iter_mut().position(|unit| unit.wants(worker, quorum, now))
        else {
            return Next::Wait;
        };
        let number = self.first + free;
        self.units[number].leases.push((worker, now + self.lease));
        Next::Unit(number)
    }

    /// A worker has an answer to a unit.
    pub fn answer(&mut self, worker: PeerId, number: usize, answer: A) -> Taken {
        let trusted = self.workers.get(&worker).is_some_and(|faults| *faults < FAULTS);
        let Some(unit) = self.units.get_mut(number).filter(|_| trusted) else { return Taken::Spare };
        unit.leases.retain(|(other, _)| *other != worker);
        if unit.agreed.is_some() || unit.answered(worker) {
            return Taken::Spare;
        }
        unit.answers.push((worker, answer.clone()));
        if unit.count(&answer) >= self.quorum {
            for (worker, other) in std::mem::take(&mut unit.answers) {
                if other != answer {
                    *self.workers.entry(worker).or_default() += 1;
                }
            }
            (unit.agreed, unit.leases) = (Some(answer), Vec::new());
            self.open -= 1;
            return Taken::Agreed;
        }
        if unit.answers.len() >= ANSWERS { Taken::Disputed } else { Taken::Counted }
    }

    /// How many units have no answer yet.
    pub fn open(&self) -> usize {
        self.open
    }

    /// What was agreed on so far.
    pub fn answers(&self) -> impl Iterator<Item = &A> {
        self.units.iter().filter_map(|unit| unit.agreed.as_ref())
    }

    /// How many workers have not heard that all is finished, if it is, and would be glad to.
    pub fn unaware(&self) -> usize {
        self.workers.values().filter(|faults| **faults < FAULTS).count()
    }

    /// Who gets no more work.
    pub fn unwanted(&self) -> impl Iterator<Item = PeerId> {
        self.workers.iter().filter(|(_, faults)| **faults >= FAULTS).map(|(worker, _)| *worker)
    }
}

impl<A: PartialEq> Unit<A> {
    fn answered(&self, worker: PeerId) -> bool {
        self.answers.iter().any(|(other, _)| *other == worker)
    }

    fn count(&self, answer: &A) -> usize {
        self.answers.iter().filter(|(_, other)| other == answer).count()
    }

    /// Whether one more should work on it, and this one may.
    fn wants(&mut self, worker: PeerId, quorum: usize, now: Duration) -> bool {
        if self.agreed.is_some() || self.answers.len() >= ANSWERS || self.answered(worker) {
            return false;
        }
        self.leases.retain(|(_, until)| now < *until);
        let most = self.answers.iter().map(|(_, answer)| self.count(answer)).max().unwrap_or(0);
        let mine = self.leases.iter().any(|(other, _)| *other == worker);
        !mine && self.leases.len() < quorum - most.min(quorum)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use p2p_core::Keypair;

    const LEASE: Duration = Duration::from_secs(10);

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn workers<const N: usize>() -> [PeerId; N] {
        [(); N].map(|()| Keypair::generate().id())
    }

    #[test]
    fn who_does_not_answer_is_replaced_and_still_heard() {
        let [ada, bob, eve] = workers();
        let mut units = Units::new(1, 2, LEASE);
        assert_eq!((units.next(ada, at(0)), units.next(bob, at(1))), (Next::Unit(0), Next::Unit(0)));
        assert_eq!((units.next(eve, at(9)), units.next(ada, at(9))), (Next::Wait, Next::Wait));
        assert_eq!((units.next(eve, at(10)), units.next(eve, at(10))), (Next::Unit(0), Next::Wait));
        assert_eq!((units.answer(eve, 0, 1), units.answer(ada, 0, 1)), (Taken::Counted, Taken::Agreed));
        assert_eq!((units.answer(bob, 0, 1), units.next(bob, at(11))), (Taken::Spare, Next::Finished));
        assert_eq!((units.unaware(), units.next(eve, at(12)), units.unaware()), (2, Next::Finished, 1));
    }

    #[test]
    fn one_worker_is_one_vote() {
        let [ada, bob, stranger] = workers();
        let mut units = Units::new(2, 2, LEASE);
        units.next(ada, at(0));
        assert_eq!((units.answer(ada, 0, 1), units.answer(ada, 0, 1)), (Taken::Counted, Taken::Spare));
        assert_eq!(units.next(ada, at(0)), Next::Unit(1), "not the same again");
        assert_eq!(units.answer(stranger, 0, 1), Taken::Spare, "who never asked has no vote");
        assert_eq!((units.next(bob, at(0)), units.answer(bob, 0, 2)), (Next::Unit(0), Taken::Counted));
        assert_eq!((units.answer(bob, 7, 2), units.open()), (Taken::Spare, 2));
    }

    #[test]
    fn who_is_wrong_three_times_gets_no_more() {
        let [ada, bob, liar] = workers();
        let mut units = Units::new(5, 2, LEASE);
        for unit in 0..3 {
            assert_eq!(units.next(liar, at(0)), Next::Unit(unit));
            assert_eq!(units.answer(liar, unit, 666), Taken::Counted);
            for honest in [ada, bob] {
                assert_eq!(units.next(honest, at(0)), Next::Unit(unit));
                units.answer(honest, unit, 42);
            }
        }
        assert_eq!((units.next(liar, at(0)), units.answer(liar, 3, 666)), (Next::Unwanted, Taken::Spare));
        assert_eq!((units.answers().collect::<Vec<_>>(), units.open()), (vec![&42; 3], 2));
        assert!(units.unwanted().eq([liar]));
    }

    #[test]
    fn what_nobody_agrees_on_is_disputed() {
        let mut units = Units::new(1, 2, LEASE);
        let answers = workers::<ANSWERS>().into_iter().enumerate().map(|(answer, worker)| {
            assert_eq!(units.next(worker, at(0)), Next::Unit(0));
            units.answer(worker, 0, answer)
        });
        let answers: Vec<Taken> = answers.collect();
        assert_eq!(answers.iter().position(|taken| *taken == Taken::Disputed), Some(ANSWERS - 1));
        assert_eq!(units.next(Keypair::generate().id(), at(0)), Next::Wait);
    }
}
