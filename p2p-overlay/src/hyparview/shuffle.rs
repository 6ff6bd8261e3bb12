//! Mixing the views (DSN 2007 §4.4), and finding back to those who were lost.

use p2p_core::{Cx, Keyed};

use super::{HyParView, HyParViewMsg, HyParViewTimer, MAX_NAMED};
use crate::doors::SELDOM;

/// Once in so many shuffles a node changes one neighbour for another.
const RARELY: u64 = SELDOM * SELDOM;

/// A shuffle that this node has begun.
#[derive(Clone, Debug)]
pub(super) struct Shuffling<P> {
    /// Random, so that nobody who has not seen the question can answer it.
    ticket: u64,
    /// Whom it named: they are the first to make room for those whom the answer names.
    named: Vec<P>,
}

impl<P: Keyed> HyParView<P> {
    pub(super) fn shuffle(&mut self, cx: &mut Cx<'_, Self>) {
        let period = self.config.shuffle;
        let next = cx.rng().duration(period / 2, period * 3 / 2);
        cx.set_timer(next, HyParViewTimer::Shuffle);
        let was_refused = !std::mem::take(&mut self.refused).is_empty();
        let few = self.views.active().len() * 2 <= self.config.active;
        let chance = cx.rng().below(RARELY);
        // Another neighbour, whoever has to go for it: if this node has few, and nobody has room; and rarely in any case.
        if (few && was_refused || chance == 1)
            && let Some(other) = self.views.any_passive(cx.rng(), |_| true)
        {
            self.ask(cx, other, HyParViewMsg::Neighbour { urgent: true });
        }
        // Seldom, one who was lost: does it lead to another network? Who has few neighbours may be in a small part of one, where
        // few look: it tries every other time.
        let door = match chance.is_multiple_of(SELDOM) || few && chance % 2 == 1 {
            true => self.doors.any(cx.rng()).filter(|door| !self.views.is_active(*door)),
            false => None,
        };
        let to = door.or_else(|| self.views.any_active(cx.rng(), |_| true));
        let Some(to) = to else { return };
        let (active, passive) = (self.config.shuffle_active, self.config.shuffle_passive);
        let peers = self.views.some(cx.rng(), active, passive, to);
        let ticket = cx.rng().next_u64();
        let steps = if door.is_some() { 0 } else { self.config.shuffle_walk };
        self.shuffling = Some(Shuffling { ticket, named: peers.clone() });
        cx.send(to, HyParViewMsg::Shuffle { origin: self.me, ticket, steps, peers });
    }

    pub(super) fn on_shuffle(
        &mut self,
        cx: &mut Cx<'_, Self>,
        from: P,
        origin: P,
        ticket: u64,
        steps: u8,
        peers: Vec<P>,
    ) {
        // A stranger may speak for itself alone: nobody has answers sent to others.
        if origin == self.me || (origin != from && !self.views.is_active(from)) || peers.len() > MAX_NAMED {
            return;
        }
        if !self.views.is_active(from) && !self.strangers.may(cx.now(), from) {
            return;
        }
        let steps = steps.min(self.config.shuffle_walk);
        if steps > 0
            && let Some(next) = self.views.any_active(cx.rng(), |peer| peer != from && peer != origin)
        {
            return cx.send(next, HyParViewMsg::Shuffle { origin, ticket, steps: steps - 1, peers });
        }
        let mut mine = self.views.some(cx.rng(), 0, peers.len().max(1), origin);
        cx.send(origin, HyParViewMsg::Shuffled { ticket, peers: mine.clone() });
        for peer in peers.into_iter().chain([origin]) {
            self.note(cx, peer, &mut mine);
        }
    }

    pub(super) fn on_shuffled(&mut self, cx: &mut Cx<'_, Self>, from: P, ticket: u64, peers: Vec<P>) {
        let Some(mut shuffling) = self.shuffling.take_if(|shuffling| shuffling.ticket == ticket) else {
            return;
        };
        for peer in peers.into_iter().take(MAX_NAMED) {
            self.note(cx, peer, &mut shuffling.named);
        }
        if self.doors.has_lost(from) {
            // It lives: whatever has kept the two apart may have cut the network in two. Until it is a neighbour it stays a way
            // back.
            self.ask(cx, from, HyParViewMsg::Neighbour { urgent: true });
        }
    }
}
