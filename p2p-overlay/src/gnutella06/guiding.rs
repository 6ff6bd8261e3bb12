//! Searches that are guided here: for a leaf, or for a user of this ultrapeer (*Gnutella Dynamic Query Protocol* §2.5).
//!
//! A probe asks the leaves, and a few ultrapeers that might have it, no further. What comes says how popular it is: so
//! many results from so many ultrapeers. Then one neighbour after the other is asked, chosen at random, each just as far
//! as would bring enough if all the rest were asked so far; and what comes makes the estimate better.

use std::collections::BTreeSet;

use p2p_core::{Cx, Time};

use super::passing::{Way, asked};
use super::{Asked, Gnutella06, Gnutella06Timer};
use crate::gnutella::passing::Shares;
use crate::gnutella::{Descriptor, Guid, Payload};
use crate::place::Place;
use crate::promotion::Role;
use crate::search::End;

/// The probe asks at most so many (§2.5.1), and no more than a third, so that the rest can be asked further.
const PROBED: usize = 10;
/// More ultrapeers are not asked for one query, however rare it is (§2.5.2).
const HORIZON: u64 = 200_000;

/// A search that is guided here. It has asked no more ultrapeers than there are neighbours, those gone not counted.
#[derive(Debug)]
pub(super) struct Guided<P> {
    pub way: Way<P>,
    begun: Time,
    payload: Payload,
    words: Asked,
    /// How many results have come, and how many would do.
    pub results: u32,
    enough: u32,
    /// How many of them by whom.
    shares: Shares<P>,
    /// Which neighbours have been asked,
    asked: BTreeSet<P>,
    /// and how many ultrapeers altogether, by their degrees.
    horizon: u64,
}

/// How many ultrapeers a query reaches, if the first has this degree and all others too.
fn horizon(degree: u16, ttl: u8) -> u64 {
    let wider = u64::from(degree).saturating_sub(1);
    let (mut ring, mut all) = (1u64, 0u64);
    for _ in 0..ttl {
        all = all.saturating_add(ring);
        ring = ring.saturating_mul(wider);
    }
    all
}

/// The TTL to ask a neighbour with: the least that reaches its share of the ultrapeers that have to be asked.
fn ttl(results: u32, enough: u32, asked: u64, left: u64, degree: u16, most: u8) -> u8 {
    let missing = u64::from(enough.saturating_sub(results));
    let needed = match results {
        0 => HORIZON,
        some => missing.saturating_mul(asked.max(1)) / u64::from(some),
    };
    let share = needed.min(HORIZON) / left.max(1);
    (1..most).find(|ttl| horizon(degree, *ttl) >= share).unwrap_or(most)
}

impl<P: Place> Gnutella06<P> {
    /// Begins with the leaves and a probe.
    pub(super) fn begin_guiding(&mut self, cx: &mut Cx<'_, Self>, way: Way<P>, id: Guid, payload: Payload) {
        if let Way::Via(leaf) = way {
            self.make_room(cx, leaf);
        }
        let (enough, from, hops) = match way {
            Way::Own(op) => (self.wanted_by(op).min(self.config.enough), None, 0),
            // It has other ultrapeers too.
            Way::Via(leaf) => (self.config.enough / self.config.hubs.max(1) as u32, Some(leaf), 1),
        };
        let words = asked(&payload);
        let descriptor = Descriptor { id, ttl: 1, hops, payload: payload.clone() };
        let leaves = self.ask_leaves(cx, from, &words, &descriptor);
        let might = self
            .up(Role::Ultrapeer)
            .filter(|(_, other)| other.table().is_some_and(|table| table.may_match(&words)));
        let mut might: Vec<P> = might.map(|(peer, _)| peer).collect();
        cx.rng().shuffle(&mut might);
        might.truncate(PROBED.min(self.ultrapeers().count().div_ceil(3)));
        let mut guided = Guided {
            way,
            begun: cx.now(),
            payload,
            words,
            results: 0,
            enough: enough.max(1),
            shares: Shares::default(),
            asked: BTreeSet::new(),
            // This ultrapeer itself.
            horizon: 1,
        };
        for peer in might {
            self.ask_ultrapeer(cx, peer, &guided.words, &descriptor);
            guided.asked.insert(peer);
            guided.horizon += 1;
        }
        if let Way::Own(op) = way {
            self.charge(op, &descriptor, leaves + guided.asked.len());
        }
        self.guided.insert(id, guided);
        cx.set_timer(self.config.hop_wait, Gnutella06Timer::Guide(id));
    }

    /// A leaf that has its share of searches under way gives up the oldest, which has asked the most.
    fn make_room(&mut self, cx: &mut Cx<'_, Self>, leaf: P) {
        let share = self.config.guided / self.config.leaves.max(1);
        let theirs = self.guided.iter().filter(|(_, guided)| guided.way == Way::Via(leaf));
        let theirs: Vec<(Time, Guid)> = theirs.map(|(id, guided)| (guided.begun, *id)).collect();
        let oldest = theirs.iter().min().filter(|_| theirs.len() >= share.max(1));
        if let Some((_, id)) = oldest {
            self.tally.dropped += 1;
            self.stop_guiding(cx, *id);
        }
    }

    /// Whoever was asked last has had time to answer: asks the next, or ends it.
    pub(super) fn guide(&mut self, cx: &mut Cx<'_, Self>, id: Guid) {
        let Some(mut guided) = self.guided.remove(&id) else { return };
        let mut left: Vec<P> = self.ultrapeers().filter(|peer| !guided.asked.contains(peer)).collect();
        let hops = u8::from(matches!(guided.way, Way::Via(_)));
        while guided.results < guided.enough && !left.is_empty() {
            let peer = left.swap_remove(cx.rng().index(left.len()));
            let Some(neighbour) = self.neighbours.get(&peer) else { continue };
            let (degree, most) = (neighbour.degree, neighbour.max_ttl);
            let others = left.len() as u64 + 1;
            let ttl = ttl(guided.results, guided.enough, guided.horizon, others, degree, most);
            let descriptor = Descriptor { id, ttl, hops, payload: guided.payload.clone() };
            guided.asked.insert(peer);
            guided.horizon = guided.horizon.saturating_add(horizon(degree, ttl));
            if self.ask_ultrapeer(cx, peer, &guided.words, &descriptor) {
                if let Way::Own(op) = guided.way {
                    self.charge(op, &descriptor, 1);
                }
                self.guided.insert(id, guided);
                return cx.set_timer(self.config.hop_wait * u32::from(ttl), Gnutella06Timer::Guide(id));
            }
        }
        if let Way::Own(op) = guided.way {
            self.end(cx, op, End::Exhausted);
        }
    }

    /// Results have come for a query, perhaps for one that is guided here: no neighbour alone makes it end.
    pub(super) fn count_results(&mut self, id: &Guid, by: P, results: usize) {
        if let Some(guided) = self.guided.get_mut(id) {
            let within = guided.shares.add(by, results, self.config.hits_per_source);
            guided.results = guided.results.saturating_add(within.into());
        }
    }

    /// Nobody is waiting for it any more.
    pub(super) fn stop_guiding(&mut self, cx: &mut Cx<'_, Self>, id: Guid) {
        if self.guided.remove(&id).is_some() {
            cx.clear_timer(Gnutella06Timer::Guide(id));
        }
    }

    /// Nobody is waiting for those that have come so any more, or this is a leaf now.
    pub(super) fn drop_guided(&mut self, cx: &mut Cx<'_, Self>, which: impl Fn(Way<P>) -> bool) {
        let dropped = self.guided.iter().filter(|(_, guided)| which(guided.way)).map(|(id, _)| *id);
        for id in dropped.collect::<Vec<Guid>>() {
            self.stop_guiding(cx, id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The proposal's own figures: a degree of 6 reaches 1, 6 and 31 ultrapeers.
    #[test]
    fn a_horizon_grows_with_the_degree() {
        assert_eq!([1, 2, 3].map(|ttl| horizon(6, ttl)), [1, 6, 31]);
        assert_eq!(horizon(32, 3), 1 + 31 + 31 * 31);
        assert_eq!((horizon(0, 7), horizon(1, 7)), (1, 1));
        assert!(horizon(u16::MAX, 255) == u64::MAX, "no overflow");
    }

    #[test]
    fn what_is_popular_is_not_asked_for_far() {
        // 10 ultrapeers gave 100 results: five more give the rest.
        assert_eq!(ttl(100, 150, 10, 20, 32, 3), 1);
        // 10 gave 5: 290 more, from 20 neighbours, are 14 each.
        assert_eq!(ttl(5, 150, 10, 20, 32, 3), 2);
        // 1,000 gave 1: 149,000 more.
        assert_eq!(ttl(1, 150, 1000, 20, 32, 3), 3);
        assert_eq!(ttl(0, 150, 10, 20, 32, 3), 3, "nothing is known");
        assert_eq!(ttl(0, 150, 10, 20, 32, 1), 1, "it wants none that go further");
    }
}
