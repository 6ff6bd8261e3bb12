//! To whom to send: tit-for-tat (Cohen 2003).
//!
//! Every ten seconds the peers that give most are unchoked, as many as there are slots; every thirty another, drawn at
//! random, gets a chance to show what it would give in return (the optimistic unchoke), and newcomers have three times
//! the chance of others, for they have nothing yet to give. Who was asked for something and has sent nothing for a minute
//! has snubbed us, and is unchoked by chance alone.
//!
//! Who has everything has nothing to get, and to send to the fastest would give all to a few. So it keeps those that it
//! unchoked last, and at two rounds of three lets one more in, drawn at random, in place of whoever has had it longest
//! (Legout et al. 2006, §II.C).

use std::cmp::Reverse;

use p2p_core::{Peer, Rng, Time};

/// A peer that wants something.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Candidate<P> {
    pub peer: P,
    /// What it gives, in bytes per second.
    pub gives: u64,
    pub snubs: bool,
    /// Since when it is unchoked, if it is.
    pub unchoked: Option<Time>,
    /// Whether it has come since the last optimistic unchoke.
    pub newcomer: bool,
}

/// Whom to unchoke of those that want something, while there is something to get: the best, but the last slot is for the
/// optimistic unchoke, which is somebody else if it was to be drawn.
pub(crate) fn leeching<P: Peer>(
    candidates: &[Candidate<P>],
    slots: usize,
    optimistic: &mut Option<P>,
    draw: bool,
    rng: &mut Rng,
) -> Vec<P> {
    if slots == 0 {
        return Vec::new();
    }
    let mut best: Vec<&Candidate<P>> = candidates.iter().filter(|c| !c.snubs && c.gives > 0).collect();
    // Among equals those that are unchoked already: to change is no good in itself.
    best.sort_by_key(|c| (Reverse(c.gives), c.unchoked.is_none(), c.peer));
    let mut chosen: Vec<P> = best.iter().take(slots.saturating_sub(1)).map(|c| c.peer).collect();
    let stays = optimistic.filter(|peer| candidates.iter().any(|c| c.peer == *peer));
    let rest: Vec<&Candidate<P>> = candidates.iter().filter(|c| !chosen.contains(&c.peer)).collect();
    *optimistic = match stays {
        Some(peer) if !draw && !chosen.contains(&peer) => Some(peer),
        _ => {
            let others: Vec<&Candidate<P>> = rest.iter().copied().filter(|c| Some(c.peer) != stays).collect();
            chance(if others.is_empty() { &rest } else { &others }, rng)
        }
    };
    chosen.extend(*optimistic);
    // Slots that nobody has earned are for anybody.
    while chosen.len() < slots {
        let left: Vec<&Candidate<P>> = candidates.iter().filter(|c| !chosen.contains(&c.peer)).collect();
        let kept = left.iter().copied().filter(|c| c.unchoked.is_some() && !c.snubs).map(|c| c.peer).min();
        let Some(next) = kept.or_else(|| chance(&left, rng)) else { break };
        chosen.push(next);
    }
    chosen
}

/// One of them; newcomers have three lots.
fn chance<P: Peer>(candidates: &[&Candidate<P>], rng: &mut Rng) -> Option<P> {
    let lots: Vec<P> = candidates.iter().flat_map(|c| vec![c.peer; if c.newcomer { 3 } else { 1 }]).collect();
    rng.choose(&lots).copied()
}

/// Whom to unchoke of those that want something, when there is nothing to get.
pub(crate) fn seeding<P: Peer>(
    candidates: &[Candidate<P>],
    slots: usize,
    round: u64,
    rng: &mut Rng,
) -> Vec<P> {
    let mut kept: Vec<&Candidate<P>> = candidates.iter().filter(|c| c.unchoked.is_some()).collect();
    kept.sort_by_key(|c| (Reverse(c.unchoked), c.peer));
    let lets_in = !round.is_multiple_of(3) && candidates.len() > slots;
    let mut chosen: Vec<P> =
        kept.iter().take(slots - usize::from(lets_in && slots > 0)).map(|c| c.peer).collect();
    while chosen.len() < slots {
        let choked: Vec<P> = candidates.iter().filter(|c| c.unchoked.is_none()).map(|c| c.peer).collect();
        let left: Vec<P> = choked.into_iter().filter(|peer| !chosen.contains(peer)).collect();
        let Some(next) = rng.choose(&left) else { break };
        chosen.push(*next);
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;
    use p2p_core::SimPeer;
    use std::time::Duration;

    fn candidates(gives: &[u64]) -> Vec<Candidate<SimPeer>> {
        let candidate = |(i, gives): (usize, &u64)| Candidate {
            peer: SimPeer(i as u32),
            gives: *gives,
            snubs: false,
            unchoked: None,
            newcomer: false,
        };
        gives.iter().enumerate().map(candidate).collect()
    }

    #[test]
    fn the_best_are_unchoked_and_one_by_chance() {
        let mut all = candidates(&[50, 10, 40, 30, 20, 1, 0]);
        all[0].snubs = true;
        let mut rng = Rng::new(1);
        let mut optimistic = None;
        let chosen = leeching(&all, 4, &mut optimistic, true, &mut rng);
        assert_eq!(chosen[..3], [SimPeer(2), SimPeer(3), SimPeer(4)]);
        assert_eq!((chosen.len(), Some(chosen[3])), (4, optimistic));
        let first = optimistic;
        leeching(&all, 4, &mut optimistic, false, &mut rng);
        assert_eq!(optimistic, first, "it stays until the next is drawn");
        leeching(&all, 4, &mut optimistic, true, &mut rng);
        assert_ne!(optimistic, first);
    }

    #[test]
    fn newcomers_have_three_times_the_chance() {
        let mut all = candidates(&[0; 10]);
        all[7].newcomer = true;
        let mut rng = Rng::new(1);
        let hits = (0..3000).filter(|_| {
            let mut optimistic = None;
            leeching(&all, 1, &mut optimistic, true, &mut rng);
            optimistic == Some(SimPeer(7))
        });
        // 3 of 12 lots: 750, with a deviation of 24; four of them are room enough.
        let hits = hits.count();
        assert!((654..=846).contains(&hits), "{hits}");
    }

    #[test]
    fn no_slot_is_left_empty_while_somebody_wants_it() {
        let mut rng = Rng::new(1);
        assert_eq!(leeching(&candidates(&[0; 3]), 8, &mut None, true, &mut rng).len(), 3);
        assert_eq!(seeding(&candidates(&[0; 3]), 8, 1, &mut rng).len(), 3);
        assert!(leeching(&candidates(&[]), 8, &mut None, true, &mut rng).is_empty());
        assert!(seeding(&candidates(&[0; 3]), 0, 1, &mut rng).is_empty());
        assert!(
            leeching(&candidates(&[1; 3]), 0, &mut None, true, &mut rng).is_empty(),
            "who has no slots gives nothing"
        );
    }

    #[test]
    fn a_seeds_slots_go_round() {
        let mut all = candidates(&[0; 12]);
        let mut rng = Rng::new(1);
        let mut served = [0; 12];
        for round in 0..120 {
            let now = Time::ZERO + Duration::from_secs(10 * (round + 1));
            let chosen = seeding(&all, 4, round, &mut rng);
            assert_eq!(chosen.len(), 4);
            for candidate in &mut all {
                let is_in = chosen.contains(&candidate.peer);
                served[candidate.peer.index()] += usize::from(is_in);
                candidate.unchoked = is_in.then(|| candidate.unchoked.unwrap_or(now));
            }
        }
        // 480 turns for 12: 40 each, if all had the same. Who comes in stays for a few, and who that is is drawn.
        assert!(served.iter().all(|turns| (10..=80).contains(turns)), "{served:?}");
    }
}
