//! Which bodies are wanted, who has them, and who has been asked.
//!
//! Of whoever has shown headers up to a block it is believed that he has all bodies up to there, for nobody sends headers
//! whose bodies he has not. So a long chain comes from all neighbours at once, the lowest blocks first, a window of them from
//! each; who is silent loses his turn to another.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use p2p_core::{Peer, Time};

use crate::id::BlockId;

/// How many bodies are wanted at once, and how many neighbours are remembered to have one.
const MOST: usize = 1_024;
const MOST_OFFERS: usize = 8;
/// How many of them one neighbour brings in.
pub(super) const MOST_OF_ONE: usize = 128;
/// How often the time that a neighbour has is doubled at most, and how long it is then at most.
const MOST_DOUBLED: u32 = 4;
const MOST_TIME: Duration = Duration::from_secs(120);

/// The bodies that are wanted.
#[derive(Debug)]
pub(super) struct Bodies<P> {
    wanted: BTreeMap<BlockId, Body<P>>,
    /// Those that nobody has been asked for, the lowest first.
    idle: BTreeSet<(u64, BlockId)>,
    /// How many each has been asked for.
    flights: BTreeMap<P, usize>,
    /// Who was late with the last that it was asked for: it is asked for what nobody else has.
    slow: BTreeSet<P>,
    /// How often the time that each has is doubled: once for each body that was late, until others are in time.
    doubled: BTreeMap<P, u32>,
    /// Who has sent those that wait for others.
    givers: BTreeMap<BlockId, P>,
}

#[derive(Debug)]
struct Body<P> {
    height: u64,
    offers: Vec<P>,
    /// Who has had his turn.
    tried: Vec<P>,
    asked: Option<Asked<P>>,
    /// It is not to come in parts.
    whole: bool,
    /// Somebody was late with it.
    late: bool,
}

#[derive(Clone, Copy, Debug)]
struct Asked<P> {
    of: P,
    /// Until when; `None` once it has come.
    until: Option<Time>,
}

/// A question to be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Question<P> {
    pub(super) id: BlockId,
    pub(super) of: P,
    pub(super) height: u64,
    /// It is not to come in parts.
    pub(super) whole: bool,
}

impl<P: Peer> Bodies<P> {
    pub(super) fn new() -> Bodies<P> {
        Bodies {
            wanted: BTreeMap::new(),
            idle: BTreeSet::new(),
            flights: BTreeMap::new(),
            slow: BTreeSet::new(),
            doubled: BTreeMap::new(),
            givers: BTreeMap::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.wanted.len()
    }

    /// Whether there are few enough of this peer's to want more.
    pub(super) fn is_low(&self, peer: P) -> bool {
        let of_it = |body: &Body<P>| body.offers.contains(&peer);
        self.has_room(peer) && !self.idle.iter().any(|(_, id)| self.wanted.get(id).is_some_and(of_it))
    }

    /// Nobody fills the list.
    fn has_room(&self, peer: P) -> bool {
        let of_it = self.wanted.values().filter(|body| body.offers.contains(&peer));
        self.wanted.len() < MOST && of_it.count() < MOST_OF_ONE
    }

    /// A body is wanted that this peer has.
    pub(super) fn want(&mut self, height: u64, id: BlockId, offer: P) {
        if let Some(body) = self.wanted.get_mut(&id) {
            if !body.offers.contains(&offer) && body.offers.len() < MOST_OFFERS {
                body.offers.push(offer);
            }
        } else if self.has_room(offer) {
            let (offers, tried) = (vec![offer], Vec::new());
            self.wanted.insert(id, Body { height, offers, tried, asked: None, whole: false, late: false });
            self.idle.insert((height, id));
        }
    }

    /// Whether a body is wanted, and nobody but this peer has been asked for it.
    pub(super) fn is_free_for(&self, id: &BlockId, peer: P) -> bool {
        self.wanted.get(id).is_some_and(|body| body.asked.is_none_or(|asked| asked.of == peer))
    }

    /// Whether this peer has been asked for it, and it has not come.
    pub(super) fn is_asked(&self, id: &BlockId, of: P) -> bool {
        let asked = self.wanted.get(id).and_then(|body| body.asked);
        asked.is_some_and(|asked| asked.of == of && asked.until.is_some())
    }

    /// Whether this peer may send it: it was asked, if perhaps too long ago, or could have been, and it has not come.
    pub(super) fn may_come(&self, id: &BlockId, from: P) -> bool {
        let is_open = |body: &Body<P>| body.asked.is_none_or(|asked| asked.until.is_some());
        let offered = self.wanted.get(id).is_some_and(|body| body.offers.contains(&from) && is_open(body));
        offered || self.is_asked(id, from)
    }

    /// Until when a peer has time that is asked now.
    pub(super) fn until(&self, of: P, now: Time, timeout: Duration) -> Time {
        let doubled = self.doubled.get(&of).copied().unwrap_or(0);
        now + timeout.saturating_mul(1 << doubled).min(MOST_TIME.max(timeout))
    }

    /// Notes that a peer has been asked.
    pub(super) fn ask(&mut self, id: &BlockId, of: P, until: Time) {
        self.release(id);
        if let Some(body) = self.wanted.get_mut(id) {
            body.asked = Some(Asked { of, until: Some(until) });
            self.idle.remove(&(body.height, *id));
            *self.flights.entry(of).or_default() += 1;
        }
    }

    /// The next question, to whoever of those that `may` be asked has least to do; it is noted as asked.
    pub(super) fn next(
        &mut self,
        now: Time,
        timeout: Duration,
        window: usize,
        may: impl Fn(P) -> bool,
    ) -> Option<Question<P>> {
        let room = |flights: &BTreeMap<P, usize>, peer: P| {
            may(peer) && flights.get(&peer).is_none_or(|flights| *flights < window)
        };
        let mut found = None;
        for (height, id) in &self.idle {
            let Some(body) = self.wanted.get_mut(id) else { continue };
            let is_open = |offer: &P| !body.tried.contains(offer) && !self.slow.contains(offer);
            if !body.offers.iter().any(is_open) {
                body.tried.clear();
            }
            let open = body.offers.iter().filter(|offer| !body.tried.contains(offer));
            let all_slow = body.offers.iter().all(|offer| self.slow.contains(offer));
            let open = open.filter(|offer| all_slow || !self.slow.contains(offer));
            let open = open.filter(|offer| room(&self.flights, **offer));
            let least = open.min_by_key(|offer| self.flights.get(offer).copied().unwrap_or(0));
            if let Some(of) = least.copied() {
                found = Some(Question { id: *id, of, height: *height, whole: body.whole });
                break;
            }
        }
        let question = found?;
        let until = self.until(question.of, now, timeout);
        self.ask(&question.id, question.of, until);
        Some(question)
    }

    /// A body has come, and is looked at. Whoever was asked for it need not send it any more.
    pub(super) fn came(&mut self, id: &BlockId, from: P) {
        self.slow.remove(&from);
        let asked = self.release(id);
        if let Some(body) = self.wanted.get_mut(id) {
            self.idle.remove(&(body.height, *id));
            *self.flights.entry(from).or_default() += 1;
            if asked == Some(from)
                && !body.late
                && let Some(doubled) = self.doubled.get_mut(&from)
            {
                *doubled -= 1;
                if *doubled == 0 {
                    self.doubled.remove(&from);
                }
            }
            body.asked = Some(Asked { of: from, until: None });
            if self.givers.len() >= 4 * MOST {
                self.givers.pop_first();
            }
            self.givers.insert(*id, from);
        }
    }

    /// It is not wanted any more.
    pub(super) fn done(&mut self, id: &BlockId) {
        self.release(id);
        if let Some(body) = self.wanted.remove(id) {
            self.idle.remove(&(body.height, *id));
        }
    }

    /// It is part of the chain, or never will be; who has sent it?
    pub(super) fn settle(&mut self, id: &BlockId) -> Option<P> {
        self.done(id);
        self.givers.remove(id)
    }

    /// Who was asked has had his turn: somebody else is to be asked, or he again for the whole block.
    pub(super) fn again(&mut self, id: &BlockId, whole: bool) {
        let Some(of) = self.release(id) else { return };
        if let Some(body) = self.wanted.get_mut(id) {
            match whole && !body.whole {
                true => body.whole = true,
                false => body.tried.push(of),
            }
            self.idle.insert((body.height, *id));
        }
    }

    /// Takes the question back; says who was asked.
    fn release(&mut self, id: &BlockId) -> Option<P> {
        let asked = self.wanted.get_mut(id)?.asked.take()?;
        if let Some(flights) = self.flights.get_mut(&asked.of) {
            *flights -= 1;
            if *flights == 0 {
                self.flights.remove(&asked.of);
            }
        }
        Some(asked.of)
    }

    /// Those that are late; they may be asked for again.
    pub(super) fn late(&mut self, now: Time) -> Vec<(BlockId, P)> {
        let late = self.wanted.iter().filter_map(|(id, body)| {
            let asked = body.asked.filter(|asked| asked.until.is_some_and(|until| until <= now))?;
            Some((*id, asked.of))
        });
        let late: Vec<(BlockId, P)> = late.collect();
        for (id, of) in &late {
            self.slow.insert(*of);
            let doubled = self.doubled.entry(*of).or_default();
            *doubled = (*doubled + 1).min(MOST_DOUBLED);
            self.again(id, false);
            if let Some(body) = self.wanted.get_mut(id) {
                (body.whole, body.late) = (true, true);
            }
        }
        late
    }

    /// A peer is gone: what nobody else has is not wanted until somebody shows that he has it.
    pub(super) fn forget(&mut self, peer: P) {
        self.slow.remove(&peer);
        self.doubled.remove(&peer);
        self.take_back(peer, u64::MAX);
        // If it comes back, it has been asked for nothing.
        self.flights.remove(&peer);
    }

    /// A peer has no bodies up to this height.
    pub(super) fn take_back(&mut self, peer: P, height: u64) {
        let of_it = |body: &Body<P>| body.height <= height && body.offers.contains(&peer);
        let ids: Vec<BlockId> =
            self.wanted.iter().filter(|(_, body)| of_it(body)).map(|(id, _)| *id).collect();
        for id in ids {
            let Some(body) = self.wanted.get_mut(&id) else { continue };
            body.offers.retain(|offer| *offer != peer);
            // What has come is looked at whoever is gone.
            let is_here = body.asked.is_some_and(|asked| asked.until.is_none());
            if body.offers.is_empty() && !is_here {
                self.done(&id);
            } else if self.is_asked(&id, peer) {
                self.again(&id, true);
            }
        }
    }

    /// What is wanted is to be found out anew: a block has been found invalid.
    pub(super) fn forget_idle(&mut self) {
        for (_, id) in std::mem::take(&mut self.idle) {
            self.wanted.remove(&id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use p2p_core::{Key, SimPeer};

    const TIMEOUT: Duration = Duration::from_secs(10);
    const ONE: SimPeer = SimPeer(1);
    const OTHER: SimPeer = SimPeer(2);

    fn id(height: u64) -> BlockId {
        BlockId(Key::of(&height.to_le_bytes()))
    }

    /// Whom each is asked of for the time being is what is counted.
    fn check(bodies: &Bodies<SimPeer>) {
        let mut flights: BTreeMap<SimPeer, usize> = BTreeMap::new();
        for asked in bodies.wanted.values().filter_map(|body| body.asked) {
            *flights.entry(asked.of).or_default() += 1;
        }
        assert_eq!(bodies.flights, flights);
    }

    #[test]
    fn what_comes_late_is_taken_from_whoever_sends_it_first() {
        let mut bodies = Bodies::new();
        let mut now = Time::ZERO;
        bodies.want(1, id(1), ONE);
        let next =
            |bodies: &mut Bodies<SimPeer>, now| bodies.next(now, TIMEOUT, 3, |_| true).map(|one| one.of);
        assert_eq!(next(&mut bodies, now), Some(ONE));
        bodies.want(1, id(1), OTHER);
        assert!(bodies.may_come(&id(1), OTHER));
        assert!(!bodies.may_come(&id(1), SimPeer(3)), "it never said that it has it");
        now += TIMEOUT;
        assert_eq!(bodies.late(now), [(id(1), ONE)]);
        assert_eq!(next(&mut bodies, now), Some(OTHER));
        check(&bodies);
        assert!(bodies.may_come(&id(1), ONE));
        bodies.came(&id(1), ONE);
        check(&bodies);
        assert!(!bodies.may_come(&id(1), OTHER) && !bodies.may_come(&id(1), ONE), "it is here");
        bodies.done(&id(1));
        check(&bodies);
        assert!(bodies.flights.is_empty());
    }

    #[test]
    fn whoever_keeps_his_bodies_leaves_room_for_others() {
        let mut bodies = Bodies::new();
        (0..2_000).for_each(|height| bodies.want(height, id(height), ONE));
        assert_eq!(bodies.len(), MOST_OF_ONE);
        assert!(!bodies.is_low(ONE) && bodies.is_low(OTHER));
        bodies.want(1, id(9_999), OTHER);
        assert!(bodies.may_come(&id(9_999), OTHER));
        assert!(!bodies.is_low(OTHER), "it is to be asked for first");
    }

    #[test]
    fn who_is_slow_has_more_time_until_it_is_in_time_again() {
        let mut bodies = Bodies::new();
        let mut now = Time::ZERO;
        for seconds in [10, 20, 40, 80, 120, 120] {
            bodies.want(1, id(1), ONE);
            bodies.next(now, TIMEOUT, 3, |_| true).unwrap();
            assert_eq!(bodies.late(now + Duration::from_millis(1_000 * seconds - 1)), []);
            now += Duration::from_secs(seconds);
            assert_eq!(bodies.late(now).len(), 1);
            check(&bodies);
        }
        bodies.done(&id(1));
        for (height, seconds) in [(2, 80), (3, 40), (4, 20), (5, 10), (6, 10)] {
            bodies.want(height, id(height), ONE);
            bodies.next(now, TIMEOUT, 3, |_| true).unwrap();
            bodies.came(&id(height), ONE);
            check(&bodies);
            assert_eq!(bodies.until(ONE, now, TIMEOUT), now + Duration::from_secs(seconds));
            bodies.done(&id(height));
        }
        bodies.forget(ONE);
        assert!(bodies.flights.is_empty());
    }
}
