//! Agreeing to be neighbours, parting, and finding another in somebody's place (DSN 2007 §4.3).

use std::time::Duration;

use p2p_core::{Cx, Keyed, Time};

use super::{HyParView, HyParViewMsg, HyParViewTimer, MAX_NAMED};
use crate::bucket::{Bucket, Rate};
use crate::membership::{Neighbour, Parting};
use crate::recent::Recent;

/// Somebody who was asked to be a neighbour.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked<P> {
    pub(super) peer: P,
    /// Whether it is wanted though somebody else has to go for it: a newcomer is.
    urgent: bool,
}

/// How often one stranger may have somebody go for it, or name others: every 2 s, 8 at once.
const STRANGER: Rate = Rate { every: Duration::from_secs(2), burst: 8 };
/// How often all of them: five in a second, and 200 at once, for networks in which all come together.
const STRANGERS: Rate = Rate { every: Duration::from_millis(200), burst: 200 };

/// How often those have come who are no neighbours.
#[derive(Debug)]
pub(super) struct Strangers<P> {
    each: Recent<P, Bucket>,
    all: Bucket,
}

impl<P: Ord> Default for Strangers<P> {
    fn default() -> Strangers<P> {
        Strangers { each: Recent::new(512), all: Bucket::default() }
    }
}

impl<P: Ord + Copy> Strangers<P> {
    /// Whether a stranger may once more.
    pub(super) fn may(&mut self, now: Time, peer: P) -> bool {
        self.each.insert(peer, Bucket::default());
        self.each.get_mut(&peer).is_some_and(|bucket| bucket.take(now, STRANGER))
            && self.all.take(now, STRANGERS)
    }
}

impl<P: Keyed> HyParView<P> {
    // ---- agreeing

    /// Asks somebody to be a neighbour; if many are asked already, nobody.
    pub(super) fn ask(&mut self, cx: &mut Cx<'_, Self>, peer: P, question: HyParViewMsg<P>) {
        let known = self.views.is_active(peer) || self.asked.iter().any(|asked| asked.peer == peer);
        if peer == self.me || known || self.asked.len() >= self.config.active {
            return;
        }
        let urgent = matches!(question, HyParViewMsg::Join | HyParViewMsg::Neighbour { urgent: true });
        self.asked.push(Asked { peer, urgent });
        cx.set_timer(self.config.timeout, HyParViewTimer::Asked(peer));
        cx.send(peer, question);
    }

    /// Somebody has answered, or never will. Gives what it was asked.
    fn answered(&mut self, cx: &mut Cx<'_, Self>, peer: P) -> Option<Asked<P>> {
        let at = self.asked.iter().position(|asked| asked.peer == peer)?;
        cx.clear_timer(HyParViewTimer::Asked(peer));
        Some(self.asked.swap_remove(at))
    }

    pub(super) fn on_neighbour(&mut self, cx: &mut Cx<'_, Self>, from: P, urgent: bool) {
        let has_room = self.has_room_for(from) || self.views.is_active(from);
        if has_room || urgent && self.strangers.may(cx.now(), from) {
            self.take_in(cx, from);
            return cx.send(from, HyParViewMsg::Accepted);
        }
        self.note(cx, from, &mut Vec::new());
        cx.send(from, HyParViewMsg::Refused);
    }

    pub(super) fn on_accepted(&mut self, cx: &mut Cx<'_, Self>, from: P) {
        if self.views.is_active(from) {
            return;
        }
        let room = self.has_room_for(from);
        match self.answered(cx, from) {
            Some(asked) if asked.urgent || room => {
                self.take_in(cx, from);
                self.joining = false;
                cx.clear_timer(HyParViewTimer::Join);
            }
            // Unasked, or others came first.
            Some(_) | None => self.disconnect(cx, from),
        }
    }

    pub(super) fn on_refused(&mut self, cx: &mut Cx<'_, Self>, from: P) {
        if self.answered(cx, from).is_some() {
            if self.refused.len() < self.config.passive {
                self.refused.push(from);
            }
            self.refill(cx, 1);
        }
    }

    /// Whether somebody can be a neighbour though nobody has to go for it.
    fn has_room_for(&self, peer: P) -> bool {
        self.views.active().len() < self.config.active && self.has_room_for_subnet_of(peer)
    }

    fn has_room_for_subnet_of(&self, peer: P) -> bool {
        let active = || self.views.active().iter().copied();
        self.config.subnets.is_none_or(|limits| limits.admit(peer, [], active()))
    }

    /// Whether not too many others are known of somebody's subnet.
    fn may_be_known(&self, peer: P) -> bool {
        let known = || self.views.active().iter().chain(self.views.passive()).copied();
        self.config.subnets.is_none_or(|limits| limits.admit(peer, known(), []))
    }

    /// Makes somebody a neighbour; if there is no room, a random other one has to go: of its subnet, if that has enough.
    pub(super) fn take_in(&mut self, cx: &mut Cx<'_, Self>, peer: P) {
        self.answered(cx, peer);
        self.doors.found_again(peer);
        if self.views.is_active(peer) {
            return;
        }
        let is_near = |other: P| other.subnet() == peer.subnet();
        let is_full = !self.has_room_for_subnet_of(peer);
        let may_go = |other: P| !is_full || is_near(other);
        if !self.has_room_for(peer)
            && let Some(other) = self.views.any_active(cx.rng(), may_go)
        {
            self.disconnect(cx, other);
            self.part(cx, other, Parting::Replaced);
            self.note(cx, other, &mut Vec::new());
        }
        if !self.may_be_known(peer)
            && let Some(other) = self.views.any_passive(cx.rng(), is_near)
        {
            self.views.forget(other);
        }
        self.views.insert(peer);
        self.doors.found();
        self.was_in = true;
        cx.emit(Neighbour::Up(peer));
    }

    /// Notes one who is no neighbour, unless enough are known of its subnet.
    pub(super) fn note(&mut self, cx: &mut Cx<'_, Self>, peer: P, instead: &mut Vec<P>) {
        if peer != self.me && self.may_be_known(peer) {
            self.views.note(cx.rng(), peer, self.config.passive, instead);
        }
    }

    // ---- parting

    /// Tells somebody that it is no neighbour, and of some to go on with.
    pub(super) fn disconnect(&mut self, cx: &mut Cx<'_, Self>, peer: P) {
        let others = self.views.some(cx.rng(), self.config.shuffle_active, self.config.shuffle_passive, peer);
        cx.send(peer, HyParViewMsg::Disconnect { stays: true, others });
    }

    fn part(&mut self, cx: &mut Cx<'_, Self>, peer: P, why: Parting) {
        if self.views.remove(peer) {
            cx.emit(Neighbour::Down(peer, why));
        }
    }

    pub(super) fn on_disconnect(&mut self, cx: &mut Cx<'_, Self>, from: P, stays: bool, others: Vec<P>) {
        // Whoever is no neighbour, and has not been asked to be one, has nothing to say here.
        if !self.views.is_active(from) && !self.asked.iter().any(|asked| asked.peer == from) {
            return;
        }
        others.into_iter().take(MAX_NAMED).for_each(|peer| self.note(cx, peer, &mut Vec::new()));
        if !stays {
            return self.gone(cx, from, Parting::Left);
        }
        self.answered(cx, from);
        self.part(cx, from, Parting::Replaced);
        self.note(cx, from, &mut Vec::new());
        if self.refused.len() < self.config.passive {
            self.refused.push(from);
        }
        self.replace(cx);
    }

    /// Somebody does not answer, or cannot be reached.
    pub(super) fn lose(&mut self, cx: &mut Cx<'_, Self>, peer: P, why: Parting) {
        if self.views.is_active(peer) {
            self.doors.lose(peer);
        }
        self.gone(cx, peer, why);
    }

    /// Forgets somebody.
    fn gone(&mut self, cx: &mut Cx<'_, Self>, peer: P, why: Parting) {
        let (asked, active) = (self.answered(cx, peer).is_some(), self.views.is_active(peer));
        self.views.forget(peer);
        self.part(cx, peer, why);
        if asked || active {
            self.replace(cx);
        }
    }

    pub(super) fn expel(&mut self, cx: &mut Cx<'_, Self>, peer: P) {
        if self.views.is_active(peer) {
            cx.send(peer, HyParViewMsg::Disconnect { stays: true, others: Vec::new() });
            self.lose(cx, peer, Parting::Slow);
        }
    }

    pub(super) fn leave(&mut self, cx: &mut Cx<'_, Self>) {
        self.left = true;
        for peer in self.views.active().to_vec() {
            cx.send(peer, HyParViewMsg::Disconnect { stays: false, others: Vec::new() });
            self.part(cx, peer, Parting::Left);
        }
        for asked in std::mem::take(&mut self.asked) {
            cx.clear_timer(HyParViewTimer::Asked(asked.peer));
        }
        for timer in [HyParViewTimer::Join, HyParViewTimer::Upkeep, HyParViewTimer::Shuffle] {
            cx.clear_timer(timer);
        }
    }

    // ---- replacing

    /// Looks for others in the place of those who are gone; through the doors, if it knows nobody any more.
    fn replace(&mut self, cx: &mut Cx<'_, Self>) {
        self.refill(cx, self.config.active);
        if self.views.active().is_empty()
            && self.asked.is_empty()
            && (self.was_in || !self.doors.is_founder())
        {
            self.begin_join(cx);
        }
    }

    /// Asks up to so many of the passive view to be neighbours, as far as there is room.
    pub(super) fn refill(&mut self, cx: &mut Cx<'_, Self>, most: usize) {
        for _ in 0..most {
            if self.views.active().len() + self.asked.len() >= self.config.active {
                return;
            }
            let urgent = self.views.active().is_empty();
            let free = |peer| {
                let asked = self.asked.iter().any(|asked| asked.peer == peer);
                !asked && self.has_room_for_subnet_of(peer) && (urgent || !self.refused.contains(&peer))
            };
            let Some(peer) = self.views.any_passive(cx.rng(), free) else { return };
            self.ask(cx, peer, HyParViewMsg::Neighbour { urgent });
        }
    }

    /// Looks after the neighbours, and for one more.
    pub(super) fn look_after(&mut self, cx: &mut Cx<'_, Self>) {
        let period = self.config.upkeep;
        let next = cx.rng().duration(period / 2, period * 3 / 2);
        cx.set_timer(next, HyParViewTimer::Upkeep);
        let mut lost = Vec::new();
        self.views.look_after(|peer| cx.send(peer, HyParViewMsg::Ping), |peer| lost.push(peer));
        for peer in lost {
            self.lose(cx, peer, Parting::Silent);
        }
        self.refill(cx, 1);
    }
}
