//! Nodes that come and go, as a schedule.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use super::fault::{Fault, Schedule};
use super::peer::SimPeer;
use crate::Rng;

/// How long nodes stay.
#[derive(Clone, Copy, Debug)]
pub enum Session {
    /// Memoryless: leaving is a Poisson process.
    Exponential {
        /// Half of the sessions are shorter.
        median: Duration,
    },
    /// Weibull: with a shape below 1, who has stayed long stays longer.
    Weibull {
        /// Half of the sessions are shorter.
        median: Duration,
        /// k. Measurements of deployed systems found 0.34 to 0.59 (Stutzbach & Rejaie 2006).
        shape: f64,
    },
    /// Pareto: heavy-tailed.
    Pareto {
        /// Half of the sessions are shorter.
        median: Duration,
        /// α. The mean is finite above 1.
        shape: f64,
    },
}

impl Session {
    /// One session's length.
    pub fn sample(&self, rng: &mut Rng) -> Duration {
        let survival = 1.0 - rng.unit();
        let ln2 = std::f64::consts::LN_2;
        let (median, factor) = match *self {
            Session::Exponential { median } => (median, -libm::log(survival) / ln2),
            Session::Weibull { median, shape } => {
                (median, libm::pow(-libm::log(survival) / ln2, 1.0 / shape))
            }
            Session::Pareto { median, shape } => (median, libm::pow(0.5 / survival, 1.0 / shape)),
        };
        // Far beyond any simulation's end, and still a Duration.
        Duration::from_secs_f64((median.as_secs_f64() * factor).min(1e9))
    }
}

/// A constant population under churn: each of the nodes `0..population` leaves when its session ends, by a
/// crash, and a new node joins at that moment. New nodes are numbered on from `next`.
pub fn churn(rng: &mut Rng, population: u32, next: u32, session: Session, span: Duration) -> Schedule {
    let mut leaving: BinaryHeap<Reverse<(Duration, u32)>> =
        (0..population).map(|node| Reverse((session.sample(rng), node))).collect();
    let mut schedule = Schedule::new();
    let mut joined = next;
    while let Some(Reverse((at, node))) = leaving.pop() {
        if at >= span {
            break;
        }
        schedule.extend([(at, Fault::Crash(SimPeer(node))), (at, Fault::Join)]);
        leaving.push(Reverse((at + session.sample(rng), joined)));
        joined += 1;
    }
    schedule
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_the_sessions_are_shorter_than_the_median() {
        let median = Duration::from_secs(60);
        let sessions = [
            Session::Exponential { median },
            Session::Weibull { median, shape: 0.5 },
            Session::Pareto { median, shape: 1.5 },
        ];
        for session in sessions {
            let mut rng = Rng::new(5);
            let shorter = (0..40_000).filter(|_| session.sample(&mut rng) < median).count();
            assert!((19_600..20_400).contains(&shorter), "{session:?}: {shorter} of 40,000");
        }
    }

    #[test]
    fn the_population_stays_and_leaves_at_the_poisson_rate() {
        let session = Session::Exponential { median: Duration::from_secs(60) };
        let schedule = churn(&mut Rng::new(6), 1000, 1000, session, Duration::from_secs(600));
        let joins = schedule.iter().filter(|(_, fault)| *fault == Fault::Join).count();
        // Rate N·ln 2/median: 1,000 · 0.0116 · 600 s = 6,931, standard deviation 83.
        assert!((6680..7180).contains(&joins), "{joins}");
        assert_eq!(schedule.len(), joins * 2);
    }
}
