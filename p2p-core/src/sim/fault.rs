//! What goes wrong in a simulation, as plain data: a schedule of faults can be printed, replayed and shrunk.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::SimPeer;
use crate::Rng;

/// Something that happens to the network or its nodes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Fault {
    /// A node dies. Its memory is lost; what its worker had synced is not.
    Crash(SimPeer),
    /// A dead node starts again, made anew by [`Sim::population`](super::Sim::population), with its old worker.
    Restart(SimPeer),
    /// A new node starts, made by [`Sim::population`](super::Sim::population).
    Join,
    /// A node does nothing for a while; what comes to it waits.
    Pause(SimPeer, Duration),
    /// Messages stop getting through.
    Cut(Cut),
    /// All cuts are mended.
    Heal,
    /// Messages from one node to another are held back for a while, then all arrive.
    Clog(SimPeer, SimPeer, Duration),
    /// A node's clock runs fast by so many parts in a million; slow, if negative. More than ±900,000 is taken as that.
    Drift(SimPeer, i32),
}

/// A partition: who does not hear whom.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cut {
    from: Vec<SimPeer>,
    to: Vec<SimPeer>,
    two_way: bool,
}

impl Cut {
    /// Neither side hears the other.
    pub fn between(a: impl IntoIterator<Item = SimPeer>, b: impl IntoIterator<Item = SimPeer>) -> Cut {
        Cut { two_way: true, ..Cut::one_way(a, b) }
    }

    /// Messages from `from` to `to` are lost, those the other way arrive.
    pub fn one_way(from: impl IntoIterator<Item = SimPeer>, to: impl IntoIterator<Item = SimPeer>) -> Cut {
        let sorted = |peers: Vec<SimPeer>| {
            let mut peers = peers;
            peers.sort_unstable();
            peers
        };
        Cut { from: sorted(from.into_iter().collect()), to: sorted(to.into_iter().collect()), two_way: false }
    }

    /// Whether a message is stopped.
    pub(super) fn separates(&self, from: SimPeer, to: SimPeer) -> bool {
        let crosses =
            |a: SimPeer, b: SimPeer| self.from.binary_search(&a).is_ok() && self.to.binary_search(&b).is_ok();
        crosses(from, to) || self.two_way && crosses(to, from)
    }
}

/// Faults and when they happen, counted from when the schedule is handed to
/// [`Sim::inject`](super::Sim::inject).
pub type Schedule = Vec<(Duration, Fault)>;

/// How many of each fault [`random_faults`] puts in a schedule. Every fault that can end does so within the span.
#[derive(Clone, Copy, Debug, Default)]
pub struct FaultMix {
    /// Nodes that crash and restart later.
    pub crashes: usize,
    /// Nodes that stop for a while.
    pub pauses: usize,
    /// Partitions, one-way or two-way, each healed before the next.
    pub cuts: usize,
    /// Links that hold messages back.
    pub clogs: usize,
    /// Clocks that drift, by up to 1%.
    pub drifts: usize,
}

/// A random schedule over `span` for these nodes, in order of time.
pub fn random_faults(rng: &mut Rng, peers: &[SimPeer], span: Duration, mix: FaultMix) -> Schedule {
    let mut schedule = Schedule::new();
    let mut victims = peers.to_vec();
    rng.shuffle(&mut victims);
    for &peer in victims.iter().take(mix.crashes) {
        let down = rng.duration(Duration::ZERO, span * 2 / 3);
        let up = rng.duration(down, span);
        schedule.extend([(down, Fault::Crash(peer)), (up, Fault::Restart(peer))]);
    }
    let some = |rng: &mut Rng| rng.choose(peers).copied();
    for _ in 0..mix.pauses {
        let (at, long) = (rng.duration(Duration::ZERO, span), rng.duration(Duration::ZERO, span / 10));
        schedule.extend(some(rng).map(|peer| (at, Fault::Pause(peer, long))));
    }
    for i in 0..mix.cuts as u32 {
        let slice = span / mix.cuts as u32;
        let begin = slice * i + rng.duration(Duration::ZERO, slice / 2);
        rng.shuffle(&mut victims);
        let (a, b) = victims.split_at(1 + rng.index(victims.len().saturating_sub(1)));
        let (a, b) = (a.iter().copied(), b.iter().copied());
        let cut = if rng.chance(0.5) { Cut::between(a, b) } else { Cut::one_way(a, b) };
        schedule.extend([(begin, Fault::Cut(cut)), (begin + slice / 2, Fault::Heal)]);
    }
    for _ in 0..mix.clogs {
        let (at, long) = (rng.duration(Duration::ZERO, span), rng.duration(Duration::ZERO, span / 10));
        schedule.extend(some(rng).zip(some(rng)).map(|(a, b)| (at, Fault::Clog(a, b, long))));
    }
    for _ in 0..mix.drifts {
        let at = rng.duration(Duration::ZERO, span);
        let ppm = rng.below(20_000) as i32 - 10_000;
        schedule.extend(some(rng).map(|peer| (at, Fault::Drift(peer, ppm))));
    }
    schedule.sort_by_key(|&(at, _)| at);
    schedule
}

/// The shortest schedule it finds that still fails, by leaving out ever smaller parts (Zeller & Hildebrandt's
/// ddmin, 2002). `fails` runs the scenario; it is called some n² times at worst.
///
/// ```
/// use p2p_core::sim::{Fault, SimPeer, shrink};
/// use std::time::Duration;
///
/// let schedule = (0..50).map(|i| (Duration::from_secs(i), Fault::Crash(SimPeer(i as u32)))).collect();
/// let both = |schedule: &Vec<_>| {
///     let crashed = |n| schedule.iter().any(|(_, fault)| *fault == Fault::Crash(SimPeer(n)));
///     crashed(7) && crashed(31)
/// };
/// assert_eq!(shrink(schedule, both).len(), 2);
/// ```
pub fn shrink(schedule: Schedule, mut fails: impl FnMut(&Schedule) -> bool) -> Schedule {
    let mut best = schedule;
    let mut chunk = best.len().div_ceil(2);
    while chunk > 0 && !best.is_empty() {
        let mut start = 0;
        let before = best.len();
        while start < best.len() {
            let end = (start + chunk).min(best.len());
            let without: Schedule = best[..start].iter().chain(&best[end..]).cloned().collect();
            match fails(&without) {
                true => best = without,
                false => start = end,
            }
        }
        if chunk > 1 || best.len() == before {
            chunk /= 2;
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_has_a_direction() {
        let (a, b) = (SimPeer(1), SimPeer(2));
        let one_way = Cut::one_way([a], [b]);
        assert!(one_way.separates(a, b) && !one_way.separates(b, a));
        let two_way = Cut::between([a], [b]);
        assert!(two_way.separates(a, b) && two_way.separates(b, a) && !two_way.separates(a, a));
    }

    #[test]
    fn a_random_schedule_mends_what_it_breaks() {
        let peers: Vec<SimPeer> = (0..20).map(SimPeer).collect();
        let mix = FaultMix { crashes: 5, pauses: 3, cuts: 4, clogs: 3, drifts: 2 };
        let schedule = random_faults(&mut Rng::new(3), &peers, Duration::from_secs(100), mix);
        let count = |is: fn(&Fault) -> bool| schedule.iter().filter(|(_, fault)| is(fault)).count();
        assert_eq!(count(|f| matches!(f, Fault::Crash(_))), count(|f| matches!(f, Fault::Restart(_))));
        assert_eq!(count(|f| matches!(f, Fault::Cut(_))), count(|f| matches!(f, Fault::Heal)));
        assert_eq!(schedule.len(), 2 * 5 + 3 + 2 * 4 + 3 + 2);
        assert!(schedule.is_sorted_by_key(|&(at, _)| at));
    }
}
