//! How CAN nodes close the gaps that others leave, and become one network again.
//!
//! *Takeover* (§2.3): a neighbour that has not answered three times is dead; its other neighbours are told to see for
//! themselves, and the smallest is the first to claim the zone. *Repair*: beside every zone there must be others all
//! around. Where nobody is known, a node looks up a key in the gap, and claims the place if that finds nobody: so
//! several failures side by side are mended, for which the paper looks around in expanding rings before the takeover.
//! *Reassignment* (§2.3): a node with several zones offers the smallest to whoever has the other half of its parent; if
//! that half is cut up, the question goes on into ever smaller zones until it meets two halves of one (a depth-first
//! search): there one node takes both, and the other is free. *Merge*, seldom: a node looks up a key of its own through
//! a peer that it has lost; if another network answers, the claims of both contest each other from there on, and
//! whoever loses all its zones joins again.

use p2p_core::{Cx, Health, Keyed, Time};

use super::neighbours::{Around, Neighbour};
use super::protocol::CanTimer;
use super::upkeep::GAP;
use super::zones::{Claims, MAX_ZONES, abuts, gaps, volume};
use super::{CanMsg, CanTable, Claim, Zone};
use crate::structured::Want;

/// A dead neighbour's zone.
#[derive(Clone, Debug)]
pub(super) struct Fallen<P> {
    pub(super) claim: Claim,
    /// Who was around it.
    told: Around<P>,
    /// When this node takes it over, if nobody has by then.
    at: Time,
}

const MAX_FALLEN: usize = 64;
/// A takeover comes after at most so many times [`CanConfig::takeover`](super::CanConfig::takeover).
const SLOWEST: u128 = 8;

impl<P: Keyed> CanTable<P> {
    // ---- the dead

    /// A peer did not answer.
    pub(super) fn on_silence(&mut self, cx: &mut Cx<'_, Self>, peer: P) {
        let Some(at) = self.position(peer).filter(|_| !self.is_asked(peer)) else { return };
        match self.neighbours[at].suspicion.missed() {
            Health::Dead => self.bury(cx, at),
            Health::Alive | Health::Suspected => self.ask(cx, peer, false),
        }
    }

    fn bury(&mut self, cx: &mut Cx<'_, Self>, at: usize) {
        let Neighbour { peer, claims, told, rumoured, .. } = self.neighbours.swap_remove(at);
        self.news();
        self.changed = true;
        self.doors.lose(peer);
        let told: Around<P> = told.iter().filter(|(other, _)| *other != peer).copied().collect();
        if !rumoured {
            let mut others: Vec<P> = told.iter().map(|(other, _)| *other).collect();
            others.sort_unstable();
            others.dedup();
            for other in others.into_iter().filter(|other| *other != peer && *other != self.me) {
                cx.send(other, CanMsg::Fallen { peer });
            }
        }
        let claims = if self.shares_zones() { self.succeed(cx, &claims, &told) } else { claims };
        let own = volume(&self.claims);
        for &claim in claims.iter().take(MAX_FALLEN.saturating_sub(self.fallen.len())) {
            // In quarters of the takeover's time.
            let quarters = (own / (claim.zone.volume() / 4).max(1)).min(4 * SLOWEST);
            let at = cx.now() + self.config.takeover * quarters as u32 / 4;
            self.fallen.push(Fallen { claim, told: told.clone(), at });
        }
        self.arm_takeover(cx);
        self.leave_if_cut_off(cx);
    }

    /// Of the zones of a dead neighbour those that nobody shares with it, as far as is known (§3.4). Where others do,
    /// one of them is the neighbour from now on.
    fn succeed(&mut self, cx: &mut Cx<'_, Self>, claims: &[Claim], told: &Around<P>) -> Claims {
        let mut left = Vec::new();
        for claim in claims {
            let is_held = |other: &Neighbour<P>| other.claims.contains(claim);
            if self.claims.contains(claim) || self.neighbours.iter().any(is_held) {
                continue;
            }
            let mut others = told.iter().filter(|(_, its)| its == claim).map(|(other, _)| *other);
            match others.find(|other| *other != self.me && self.position(*other).is_none()) {
                Some(heir) => {
                    self.place(heir, Claims::One(*claim), false);
                    if let Some(at) = self.position(heir) {
                        self.neighbours[at].told = told.clone();
                    }
                    self.ask(cx, heir, false);
                }
                None => left.push(*claim),
            }
        }
        left.into()
    }

    /// Everybody around is gone, and those around them: more likely it is this node that is cut off.
    pub(super) fn leave_if_cut_off(&mut self, cx: &mut Cx<'_, Self>) {
        let hopeless = |fallen: &Fallen<P>| fallen.told.iter().all(|(other, _)| *other == self.me);
        let owns_everything = self.claims.first().is_some_and(|claim| claim.zone.halvings() == 0);
        let is_alone = self.joined && self.neighbours.is_empty();
        if is_alone && !owns_everything && self.fallen.iter().all(hopeless) {
            self.leave(cx);
        }
    }

    fn arm_takeover(&self, cx: &mut Cx<'_, Self>) {
        match self.fallen.iter().map(|fallen| fallen.at).min() {
            Some(at) => cx.set_timer(at - cx.now(), CanTimer::Takeover),
            None => cx.clear_timer(CanTimer::Takeover),
        }
    }

    pub(super) fn on_takeover(&mut self, cx: &mut Cx<'_, Self>) {
        let now = cx.now();
        while let Some(due) = self.fallen.iter().position(|fallen| fallen.at <= now) {
            let Fallen { claim, told, .. } = self.fallen.swap_remove(due);
            let is_held =
                |other: &Neighbour<P>| other.claims.iter().any(|its| its.zone.overlaps(&claim.zone));
            if abuts(&self.claims, &claim.zone)
                && self.claims.len() < MAX_ZONES
                && !self.neighbours.iter().any(is_held)
            {
                self.hold(cx, &[claim.taken_over()], &told);
            }
        }
        self.arm_takeover(cx);
        self.leave_if_cut_off(cx);
    }

    // ---- repair

    /// Looks up a key in a place beside this node's zones where nobody is known to be.
    pub(super) fn repair(&mut self, cx: &mut Cx<'_, Self>) {
        let gaps = match self.whole {
            true => Vec::new(),
            false => self.gaps(),
        };
        self.whole = gaps.is_empty() && self.fallen.is_empty();
        if self.gap.is_none()
            && let Some(gap) = cx.rng().choose(&gaps).copied()
        {
            self.gap = Some(gap);
            let key = gap.key(cx.rng());
            cx.emit(Want { tag: GAP, key, replicas: 1, via: None });
        }
    }

    fn gaps(&self) -> Vec<Zone> {
        let claims = self.neighbours.iter().flat_map(|neighbour| neighbour.claims.iter());
        let mut known: Vec<Zone> = claims.map(|claim| claim.zone).collect();
        known.extend(self.fallen.iter().map(|fallen| fallen.claim.zone));
        gaps(&self.claims, &known)
    }

    /// Nobody was found in a gap: this node takes the place, if there is still nobody.
    pub(super) fn on_nobody(&mut self, cx: &mut Cx<'_, Self>, zone: Zone) {
        let known = self.neighbours.iter().flat_map(|neighbour| neighbour.claims.iter()).chain(&self.claims);
        let mut known = known.chain(self.fallen.iter().map(|fallen| &fallen.claim));
        if !known.any(|claim| claim.zone.overlaps(&zone))
            && abuts(&self.claims, &zone)
            && self.claims.len() < MAX_ZONES
        {
            self.hold(cx, &[Claim { zone, version: 0 }], &[]);
        }
    }

    // ---- reassignment

    pub(super) fn reassign(&mut self, cx: &mut Cx<'_, Self>) {
        if let Some(at) = self.claims.iter().position(|claim| self.is_left_to_another(claim)) {
            self.claims.remove(at);
            return self.moved(cx);
        }
        let Some(claim) = self.claims.last().copied().filter(|_| self.claims.len() > 1) else { return };
        self.pass_to_leaf(cx, &claim.zone, claim.taken_over(), &self.around());
    }

    /// Whether a zone, one of several, is shared with somebody who keeps it: who has no other, or the lesser key.
    fn is_left_to_another(&self, claim: &Claim) -> bool {
        let keeps = |other: &Neighbour<P>| {
            other.proved
                && other.suspicion.unanswered() == 0
                && other.claims.contains(claim)
                && (other.claims.len() == 1 || other.peer.key() < self.me.key())
        };
        self.shares_zones() && self.claims.len() > 1 && self.neighbours.iter().any(keeps)
    }

    /// Offers a zone to whoever has the other half of `leaf`'s parent, or passes the search on into that half.
    fn pass_to_leaf(&self, cx: &mut Cx<'_, Self>, leaf: &Zone, claim: Claim, neighbours: &[(P, Claim)]) {
        let Some(sibling) = leaf.sibling() else { return };
        let within = |other: &Neighbour<P>| {
            let mut its = other.claims.iter().map(|claim| claim.zone);
            its.rfind(|zone| sibling.covers(zone)).map(|zone| (zone.halvings(), zone, other.peer))
        };
        let Some((_, zone, peer)) = self.neighbours.iter().filter_map(within).max() else { return };
        let neighbours = neighbours.to_vec();
        match (zone == sibling, *leaf == claim.zone) {
            (true, true) => cx.send(peer, CanMsg::Take { claim, neighbours }),
            // A leaf whose node has other zones too: it has to give those away first.
            (true, false) => {}
            (false, _) => cx.send(peer, CanMsg::Reassign { claim, neighbours }),
        }
    }

    pub(super) fn on_reassign(&mut self, cx: &mut Cx<'_, Self>, claim: Claim, neighbours: &[(P, Claim)]) {
        let [own] = self.claims[..] else { return };
        if self.mates(&own).next().is_some() {
            // Those keep the zone that both share.
            self.claims.clear();
            return self.hold(cx, &[claim], neighbours);
        }
        let Some(sibling) = own.zone.sibling() else { return };
        let has_it = |other: &&Neighbour<P>| matches!(other.claims[..], [its] if its.zone == sibling);
        if let Some(other) = self.neighbours.iter().find(has_it) {
            // Two leaves: the other takes both, this node the zone that was offered.
            cx.send(other.peer, CanMsg::Take { claim: own.taken_over(), neighbours: self.around() });
            self.hold(cx, &[claim], neighbours);
        } else {
            // Only ever into smaller zones, so this ends.
            self.pass_to_leaf(cx, &own.zone, claim, neighbours);
        }
    }

    /// Whether an offered zone is to be had: it is in this space, and so far nobody has the better claim.
    pub(super) fn may_take(&self, claim: &Claim) -> bool {
        let better = |peer: P, its: &Claim| {
            its.zone.overlaps(&claim.zone) && its.version >= claim.version && peer != self.me
        };
        claim.zone.space() == self.space
            && self.joined
            && self.claims.len() < MAX_ZONES
            && !self.claims.iter().any(|own| own.zone.overlaps(&claim.zone))
            && !self.neighbours.iter().any(|other| other.claims.iter().any(|its| better(other.peer, its)))
    }
}
