//! What becomes of an overlay when much changes at once: how long until it is right again, and what that costs.
//!
//! An [`Upheaval`] lets a [`Strike`] fall on a network at rest: as many nodes again join within a minute, half of all die
//! in one moment, or a cut parts it into two halves for ten minutes, each of which takes the other for dead. From then on
//! some nodes look random keys up each second. The [`Aftermath`] says when these lookups were right again, by one
//! measure for all overlays: a lookup is right that ends within ten seconds at the node that a brute-force look at all
//! living nodes gives. Beside it stands when the overlay was [whole](Simulated::is_whole) again, by its own paper.
//!
//! ```
//! use p2p_core::SimPeer;
//! use p2p_overlay::measure::upheaval::{Strike, Upheaval};
//! use p2p_overlay::{Pastry, PastryConfig};
//!
//! let upheaval = Upheaval { nodes: 40, probes: 10, ..Upheaval::by(Strike::MassFailure) };
//! let aftermath = upheaval.run::<Pastry<SimPeer>>(PastryConfig::default());
//! assert_eq!(aftermath.alive, 20);
//! assert!(aftermath.converged().is_some_and(|took| took.as_secs() < 120));
//! ```

use std::collections::BTreeMap;
use std::time::Duration;

use p2p_core::sim::{Cut, Encoding, Fault, Latency, Network, Sim};
use p2p_core::{Key, Keyed, OpId, Rng, SimPeer};

use super::{Experiment, FAULTS, Simulated};
use crate::structured::Find;

/// What happens to the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strike {
    /// As many nodes as there are join within a minute, each through three that are alive, newcomers among them.
    MassJoin,
    /// Half of the nodes die in one moment.
    MassFailure,
    /// The network is cut into two halves for ten minutes, in which both go on being asked; then the cut is mended.
    Partition,
}

impl Strike {
    /// All there are.
    pub const ALL: [Strike; 3] = [Strike::MassJoin, Strike::MassFailure, Strike::Partition];
}

/// One strike on one network.
#[derive(Clone, Debug)]
pub struct Upheaval {
    /// What happens.
    pub strike: Strike,
    /// How many nodes there are before it. 1000.
    pub nodes: u32,
    /// How many lookups begin each second. 100.
    pub probes: usize,
    /// When to give up: so long after the strike. An hour.
    pub patience: Duration,
    /// The seed of everything. 1.
    pub seed: u64,
    /// The network between the nodes. Messages take 10 to 90 ms, so that none is so late that its receiver is taken for
    /// dead, and are measured.
    pub network: Network,
}

/// What came of it. Time counts from the end of the strike: the last newcomer has started, half have died, the cut is
/// mended.
#[derive(Clone, Debug, Default)]
pub struct Aftermath {
    /// Of each second: how many of the lookups that began in it were right, and how many there were.
    pub course: Vec<(u32, u32)>,
    /// After how long the overlay was [whole](Simulated::is_whole), and remained so; looked at every five seconds.
    pub whole: Option<Duration>,
    /// Why it was not, when last it was not.
    pub flaw: String,
    /// Bytes that all nodes together had sent by the end of each second since the strike began (a cut: since it was
    /// mended), lookups among them.
    pub bytes: Vec<u64>,
    /// Bytes a node and second in the minute before the strike.
    pub calm_bytes_per_node_s: f64,
    /// The share of lookups, in the last minute of a cut, that were right by a look at the nodes of their own half. 0
    /// for other strikes.
    pub apart: f64,
    /// Nodes that were alive at the end.
    pub alive: usize,
    /// The hash of all that happened.
    pub trace: u64,
}

/// How long a network at rest is watched before the strike.
const CALM: u64 = 60;
/// How long newcomers keep coming.
const CROWD: u64 = 60;
/// How long a cut lasts.
const APART: u64 = 600;
/// Lookups have to be right for so many seconds, then it is over.
const HOLD: usize = 60;
/// A lookup that takes more seconds than this is not right.
const LATE: usize = 10;
/// Shares of right lookups are those of so many seconds.
const WINDOW: usize = 10;
/// So many seconds apart the overlay's own invariant is looked at.
const LOOKS: usize = 5;
const SECOND: Duration = Duration::from_secs(1);

impl Aftermath {
    /// After how long, and from then on, at least this share of the lookups of any ten seconds were right; `None` if
    /// that was not seen for a minute.
    pub fn to_right(&self, share: f64) -> Option<Duration> {
        let enough = |window: &[(u32, u32)]| {
            let (right, asked) = window.iter().fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
            f64::from(right) >= share * f64::from(asked)
        };
        let last_wrong = self.course.windows(WINDOW).rposition(|window| !enough(window));
        let after = last_wrong.map_or(0, |second| second + 1);
        (after + HOLD <= self.course.len()).then(|| Duration::from_secs(after as u64))
    }

    /// After how long, and from then on, every lookup was right; `None` if that was not seen for a minute.
    pub fn to_all_right(&self) -> Option<Duration> {
        let after = first_of_all_right(&self.course);
        (after + HOLD <= self.course.len()).then(|| Duration::from_secs(after as u64))
    }

    /// After how long every lookup was right, and the overlay whole.
    pub fn converged(&self) -> Option<Duration> {
        self.to_all_right().zip(self.whole).map(|(right, whole)| right.max(whole))
    }

    /// Bytes that each node sent on average until it had [converged](Aftermath::converged); until the end, if it never
    /// had.
    pub fn bytes_per_node(&self) -> f64 {
        let until = self.converged().map_or(usize::MAX, |took| took.as_secs() as usize);
        let bytes = self.bytes.get(until).or(self.bytes.last());
        bytes.map_or(0.0, |bytes| *bytes as f64 / self.alive.max(1) as f64)
    }
}

/// The first second from which on every lookup was right.
fn first_of_all_right(course: &[(u32, u32)]) -> usize {
    course.iter().rposition(|(right, asked)| right < asked).map_or(0, |second| second + 1)
}

impl Upheaval {
    /// A strike with everything else at its default.
    pub fn by(strike: Strike) -> Upheaval {
        Upheaval {
            strike,
            nodes: 1000,
            probes: 100,
            patience: Duration::from_secs(3600),
            seed: 1,
            network: Network {
                latency: Latency::Uniform(Duration::from_millis(10), Duration::from_millis(90)),
                encoding: Encoding::Measure,
                ..Network::default()
            },
        }
    }

    /// Builds the network, lets the strike fall, and watches until a minute has passed in which every lookup was right
    /// and the overlay is whole, or its patience is at an end.
    pub fn run<O: Simulated>(&self, config: O::Config) -> Aftermath {
        let Upheaval { nodes, seed, .. } = *self;
        let network = self.network.clone();
        let mut sim = Experiment { nodes, seed, network, ..Experiment::default() }.build::<O>(config);
        let sent = |sim: &Sim<O>| sim.stats().bytes;
        let calm_from = sent(&sim);
        self.watch(&mut sim, CALM, |_| 0);
        let calm = (sent(&sim) - calm_from) as f64 / f64::from(nodes) / CALM as f64;
        let mut aftermath = Aftermath { calm_bytes_per_node_s: calm, ..Aftermath::default() };
        let mut victims = sim.alive().to_vec();
        Rng::stream(seed, FAULTS).shuffle(&mut victims);
        victims.truncate(nodes as usize / 2);
        let mut began = sent(&sim);
        match self.strike {
            Strike::MassJoin => (0..nodes).for_each(|_| {
                sim.join();
                sim.run_for(Duration::from_secs(CROWD) / nodes);
            }),
            Strike::MassFailure => victims.into_iter().for_each(|peer| sim.crash(peer)),
            Strike::Partition => {
                victims.sort_unstable();
                let is_here = |peer: &SimPeer| victims.binary_search(peer).is_ok();
                let rest: Vec<SimPeer> = sim.alive().iter().copied().filter(|peer| !is_here(peer)).collect();
                sim.inject(vec![(Duration::ZERO, Fault::Cut(Cut::between(victims.clone(), rest)))]);
                let course = self.watch(&mut sim, APART, |peer| usize::from(is_here(&peer))).course;
                let last =
                    course.iter().rev().take(60).fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
                aftermath.apart = f64::from(last.0) / f64::from(last.1.max(1));
                sim.inject(vec![(Duration::ZERO, Fault::Heal)]);
                began = sent(&sim);
            }
        }
        self.recover(&mut sim, began, aftermath)
    }

    /// Asks for so many seconds, of which the last have answers to come.
    fn watch<O: Simulated>(&self, sim: &mut Sim<O>, seconds: u64, half: impl Fn(SimPeer) -> usize) -> Probes {
        let mut probes = Probes::default();
        for _ in 0..seconds {
            probes.second(sim, self.probes, &half);
        }
        probes.course.truncate(probes.course.len().saturating_sub(LATE));
        probes
    }

    fn recover<O: Simulated>(&self, sim: &mut Sim<O>, began: u64, aftermath: Aftermath) -> Aftermath {
        let mut probes = Probes::default();
        let mut bytes = vec![sim.stats().bytes - began];
        let (mut whole, mut flaw) = (None, String::new());
        for second in 0..self.patience.as_secs() as usize {
            if second.is_multiple_of(LOOKS) {
                match O::is_whole(&sim.view()) {
                    Ok(()) => whole = whole.or(Some(Duration::from_secs(second as u64))),
                    Err(why) => (whole, flaw) = (None, why),
                }
            }
            let sure = probes.course.len().saturating_sub(LATE);
            if whole.is_some() && first_of_all_right(&probes.course[..sure]) + HOLD <= sure {
                break;
            }
            probes.second(sim, self.probes, |_| 0);
            bytes.push(sim.stats().bytes - began);
        }
        let sure = probes.course.len().saturating_sub(LATE);
        probes.course.truncate(sure);
        let (alive, trace) = (sim.alive().len(), sim.trace());
        Aftermath { course: probes.course, whole, flaw, bytes, alive, trace, ..aftermath }
    }
}

/// Lookups, so many each second.
#[derive(Default)]
struct Probes {
    /// Right and asked, of each second.
    course: Vec<(u32, u32)>,
    /// Under way: in which second each began, by whom, and for what.
    asked: BTreeMap<OpId, (usize, SimPeer, Key)>,
}

impl Probes {
    /// Some nodes look random keys up; whatever has ended a second later is looked at, by the nodes of the asker's half.
    fn second<O: Simulated>(&mut self, sim: &mut Sim<O>, probes: usize, half: impl Fn(SimPeer) -> usize) {
        let now = self.course.len();
        for _ in 0..probes {
            let (at, key) = (sim.workload_rng().next_u64(), sim.workload_rng().key());
            let origin = sim.alive()[(at % sim.alive().len() as u64) as usize];
            let op = sim.command(origin, Find::key(key));
            self.asked.insert(op, (now, origin, key));
        }
        self.course.push((0, probes as u32));
        sim.run_for(SECOND);
        let halves = [0, 1].map(|which| places(sim, |peer| half(peer) == which));
        for ended in sim.take_outcomes() {
            let Some((began, origin, key)) = self.asked.remove(&ended.op) else { continue };
            let (Ok(found), Some(node)) = (ended.outcome, sim.node(origin)) else { continue };
            let owner = O::owners(&halves[half(origin)], &node.place(&key), 1);
            self.course[began].0 += u32::from(found.peers == owner);
        }
        self.asked.retain(|_, (began, ..)| *began + LATE > now);
    }
}

/// Where some of the living nodes stand, sorted.
fn places<O: Simulated>(sim: &Sim<O>, which: impl Fn(SimPeer) -> bool) -> Vec<(Key, SimPeer)> {
    let living: Vec<SimPeer> = sim.alive().iter().copied().filter(|peer| which(*peer)).collect();
    O::places(&mut living.iter().filter_map(|peer| sim.node(*peer))).unwrap_or_else(|| {
        let mut places: Vec<(Key, SimPeer)> = living.iter().map(|peer| (peer.key(), *peer)).collect();
        places.sort_unstable();
        places
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn aftermath(course: Vec<(u32, u32)>) -> Aftermath {
        Aftermath { course, ..Aftermath::default() }
    }

    #[test]
    fn what_is_right_has_to_stay_right_for_a_minute() {
        let wrong_at = |seconds: &[usize], length| {
            aftermath((0..length).map(|i| (if seconds.contains(&i) { 90 } else { 100 }, 100)).collect())
        };
        let seconds = Duration::from_secs;
        assert_eq!(wrong_at(&[], 60).to_all_right(), Some(seconds(0)));
        assert_eq!(wrong_at(&[], 59).to_all_right(), None);
        assert_eq!(wrong_at(&[3, 20], 81).to_all_right(), Some(seconds(21)));
        assert_eq!(wrong_at(&[3, 21], 81).to_all_right(), None);
        // One in a hundred of ten seconds' lookups were wrong, then two.
        assert_eq!(wrong_at(&[20], 81).to_right(0.99), Some(seconds(0)));
        assert_eq!(wrong_at(&[20, 29], 100).to_right(0.99), Some(seconds(21)));
    }

    #[test]
    fn bytes_count_until_it_has_converged() {
        let bytes = (0..100).map(|second| 10 * second).collect();
        let course: Vec<(u32, u32)> = (0..90).map(|i| (u32::from(i > 6), 1)).collect();
        let whole = Some(Duration::from_secs(5));
        let settled = Aftermath { bytes, whole, alive: 2, ..aftermath(course) };
        assert_eq!(settled.bytes_per_node(), 35.0);
        let later = Aftermath { whole: Some(Duration::from_secs(20)), ..settled.clone() };
        assert_eq!(later.bytes_per_node(), 100.0);
        assert_eq!(Aftermath { course: vec![(0, 1)], ..settled }.bytes_per_node(), 495.0);
    }
}
