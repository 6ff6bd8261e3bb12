//! Whether the nodes that a lookup has found stand as densely as nodes do.
//!
//! Ids are as good as chance, so wherever one looks the nodes are as dense, within what chance allows. Where they are
//! not, somebody may be at work: who hides the nodes next to a key and names accomplices, leaves them too thin (Castro
//! et al., *Secure routing for structured peer-to-peer overlay networks*, OSDI 2002, §5.2: the routing failure test);
//! who has tried ids until some were next to the key, makes them too dense (Sridhar et al., *Content censorship in the
//! InterPlanetary File System*, NDSS 2024). The asker compares them with its own neighbours.
//!
//! *The law*: if the own m-th neighbour leaves v of the key space before it, and the i-th node at the key u, and nodes
//! stand by chance, then u / (u + v) is as a Beta(i, m) variable: below x as often as of i + m − 1 throws that each hit
//! with probability x at least i hit. So how likely an answer is can be told exactly, with nothing to be tuned but how
//! many false alarms one puts up with. The nodes counted are the first, second, fourth, and so on: accomplices may
//! stand before honest ones. The last of them tells if the nodes are too thin.
//!
//! *What then*: the lookup is tried otherwise, iteratively. If the answer was too thin, on disjoint paths where there are
//! any, and whatever is nearer counts. If it was too dense, the crowd is left out, and who is found beyond it is told
//! beside the answer ([`Implausible::Dense`]): an alarm may be false, and then the answer is right as it is.
//!
//! *What it does not show*: a crowd around the asker itself passes for how dense nodes are. And where the root alone
//! answers (Chord, Pastry) it can name nodes that are not there.

use std::cmp::Ordering;

use p2p_core::{Cx, Key, Keyed};

use super::{AVOIDED, Begun, Lookups, Purpose};
use crate::routed::Routed;
use crate::structured::{Found, Implausible, Maintenance, Mode};

/// How many peers a lookup asks for so that there is something to be counted.
const SAMPLE: u8 = 16;
/// How a lookup is tried again.
const OTHERWISE: Mode = Mode::iterative(3);
/// On how many paths, if its answer was too thin (S/Kademlia §5: 8 withstand a fifth of liars). If it was too dense one will
/// do: whom a crowd stands before any honest node can tell.
const PAST_LIARS: u8 = 8;

/// What an answer came to before it was tried otherwise.
#[derive(Clone, Debug)]
pub(super) struct Suspect<P> {
    is_dense: bool,
    /// As many as were asked for.
    answer: Found<P>,
    /// Who is not asked any more. At most [`AVOIDED`].
    left_out: Vec<P>,
}

/// What is wrong with the nodes around a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// So many of the first.
    Dense(usize),
    Thin,
}

/// The part of the key space that a distance is.
pub(crate) fn part(distance: &Key) -> f64 {
    let [a, b, c, d, e, f, g, h, ..] = *distance.as_bytes();
    u64::from_be_bytes([a, b, c, d, e, f, g, h]) as f64 / 18_446_744_073_709_551_616.0
}

/// How likely it is that of `throws`, each of which hits with this probability, at least so many hit.
fn at_least(hits: usize, throws: usize, probability: f64) -> f64 {
    if probability >= 1.0 {
        return 1.0;
    }
    // That exactly so many hit: factor by factor, so that nothing overflows.
    let mut exactly = 1.0;
    for i in 0..hits.min(throws) {
        exactly *= (throws - i) as f64 / (i + 1) as f64 * probability;
    }
    for _ in hits..throws {
        exactly *= 1.0 - probability;
    }
    let mut sum = 0.0;
    for i in hits..=throws {
        sum += exactly;
        exactly *= (throws - i) as f64 / (i + 1) as f64 * probability / (1.0 - probability);
    }
    sum
}

/// Compares the parts of the key space up to the nodes around a key, the nearest first, with that which the asker's
/// nearest take up.
fn judge((neighbours, taken): (usize, f64), upto: &[f64], false_alarms: f64) -> Option<Verdict> {
    let counted = upto.len().checked_ilog2()? + 1;
    if neighbours == 0 || taken <= 0.0 {
        return None;
    }
    // Each of the tests, and the one the other way, has its share of the false alarms.
    let rare = false_alarms / f64::from(counted + 1);
    let share = |i: usize| upto[i - 1] / (upto[i - 1] + taken);
    let nodes = |i: usize| i + neighbours - 1;
    let is_dense = |i: &usize| at_least(*i, nodes(*i), share(*i)) < rare;
    let last = 1 << (counted - 1);
    let is_thin = || at_least(neighbours, nodes(last), 1.0 - share(last)) < rare;
    let dense = (0..counted).rev().map(|e| 1 << e).find(is_dense).map(Verdict::Dense);
    dense.or_else(|| is_thin().then_some(Verdict::Thin))
}

impl<P: Keyed> Lookups<P> {
    /// How many peers a lookup asks for that wants so many.
    pub(super) fn sample(&self, purpose: Purpose, wanted: u8) -> u8 {
        match (purpose, self.config.density_check) {
            (Purpose::User(_), Some(_)) => wanted.max(SAMPLE),
            _ => wanted,
        }
    }

    /// Whether the answer to one of the lookups begun here is to be believed, the nearest first. If not, and the lookup
    /// may be tried once more, it is tried otherwise, and there is no answer yet.
    pub(super) fn examine<M: Maintenance<Peer = P>>(
        &mut self,
        cx: &mut Cx<'_, Routed<M>>,
        table: &mut M,
        index: usize,
        mut answer: Found<P>,
    ) -> Option<Found<P>> {
        let lookup = &mut self.begun[index];
        let (Purpose::User(_), Some(false_alarms)) = (lookup.purpose, self.config.density_check) else {
            return Some(answer);
        };
        let key = lookup.find.key;
        let upto = |peer: &P| M::upto(&peer.key(), &key);
        let before = lookup.suspect.take();
        let mut left_out = before.as_ref().map_or_else(Vec::new, |before| before.left_out.clone());
        answer.peers.retain(|peer| !left_out.contains(peer));
        let root = answer.peers.first().copied();
        if let Some(before) = before.as_ref().filter(|before| !before.is_dense) {
            // Whoever is nearer counts, whichever way it was found.
            answer.peers.extend(&before.answer.peers);
            answer.peers.sort_by(|a, b| upto(a).partial_cmp(&upto(b)).unwrap_or(Ordering::Equal));
            answer.peers.dedup();
        }
        let mut parts: Vec<f64> = answer.peers.iter().filter_map(upto).filter(|part| *part > 0.0).collect();
        parts.sort_by(f64::total_cmp);
        let verdict = table.neighbourhood().and_then(|own| judge(own, &parts, false_alarms));
        let suspect = match (verdict, before) {
            (Some(Verdict::Dense(crowd)), before) => {
                left_out.extend(answer.peers.iter().take(crowd));
                left_out.truncate(AVOIDED);
                let answer = before.filter(|before| before.is_dense).map_or(answer, |before| before.answer);
                Suspect { is_dense: true, answer, left_out }
            }
            (_, Some(before)) if before.is_dense => {
                let implausible = Some(Implausible::Dense { beyond: answer.peers });
                return Some(Found { implausible, ..before.answer });
            }
            (Some(Verdict::Thin), _) => {
                // A root that may have lied is not asked again; where all have answered who were named, it does no harm.
                left_out.extend(root.filter(|_| !M::CONVERGES));
                Suspect { is_dense: false, answer, left_out }
            }
            (None, _) => return Some(answer),
        };
        lookup.mode = OTHERWISE;
        lookup.paths = if suspect.is_dense { 1 } else { PAST_LIARS };
        lookup.suspect = Some(Box::new(suspect));
        self.try_again(cx, table, index);
        None
    }
}

impl<P: Keyed> Begun<P> {
    /// The answer that was not believed, when it cannot be tried otherwise any more.
    pub(super) fn doubted(&mut self) -> Option<Found<P>> {
        let Suspect { is_dense, answer, .. } = *self.suspect.take()?;
        let implausible = match is_dense {
            true => Implausible::Dense { beyond: Vec::new() },
            false => Implausible::Thin,
        };
        Some(Found { implausible: Some(implausible), ..answer })
    }

    /// Who is not asked.
    pub(super) fn left_out(&self) -> &[P] {
        self.suspect.as_ref().map_or(&[], |suspect| suspect.left_out())
    }
}

impl<P> Suspect<P> {
    /// Who is not asked any more.
    pub(super) fn left_out(&self) -> &[P] {
        &self.left_out
    }
}

#[cfg(test)]
mod tests {
    use p2p_core::Rng;

    use super::*;

    #[test]
    fn throws_of_a_coin() {
        let near = |a: f64, b: f64| assert!((a / b - 1.0).abs() < 1e-12, "{a}, not {b}");
        near(at_least(2, 3, 0.5), 0.5);
        near(at_least(3, 3, 0.5), 0.125);
        near(at_least(1, 10, 0.1), 1.0 - 0.9f64.powi(10));
        near(at_least(0, 5, 0.3), 1.0);
        assert_eq!(at_least(16, 35, 1e-40), 0.0, "too small for a number, not for an answer");
    }

    /// The places of nodes that stand by chance, one on average in each unit: the first so many.
    fn by_chance(rng: &mut Rng, nodes: usize, density: f64) -> Vec<f64> {
        let mut at = 0.0;
        (0..nodes)
            .map(|_| {
                at += rng.exponential() / density;
                at
            })
            .collect()
    }

    fn alarms(density: f64, false_alarms: f64) -> f64 {
        let mut rng = Rng::new(1);
        let raised = (0..20_000).filter(|_| {
            let own = by_chance(&mut rng, 20, 1.0);
            let there = by_chance(&mut rng, 16, density);
            judge((20, own[19]), &there, false_alarms).is_some()
        });
        raised.count() as f64 / 20_000.0
    }

    #[test]
    fn chance_raises_no_more_false_alarms_than_were_put_up_with() {
        // The tests are not independent of each other: fewer than the bound, but not without reason.
        for false_alarms in [0.1, 0.01] {
            let raised = alarms(1.0, false_alarms);
            assert!(raised < false_alarms * 1.1 && raised > false_alarms / 5.0, "{raised} of {false_alarms}");
        }
    }

    #[test]
    fn a_crowd_and_a_desert_are_told() {
        assert!(alarms(8.0, 1e-3) > 0.99, "eight times as dense");
        assert!(alarms(0.125, 1e-3) > 0.99, "an eighth as dense");
    }

    #[test]
    fn one_node_too_near_is_told_though_the_others_are_honest() {
        let own = (20, 20.0);
        let mut there: Vec<f64> = (1..=15).map(f64::from).collect();
        assert_eq!(judge(own, &there, 1e-3), None);
        there.insert(0, 1e-5);
        assert_eq!(judge(own, &there, 1e-3), Some(Verdict::Dense(1)));
    }
}
