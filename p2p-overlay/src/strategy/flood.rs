//! Flooding, and rings that grow.

use p2p_core::{Cx, OpId};

use super::{Graph, Manner, Seeker, SeekerMsg};
use crate::search::End;

impl<G: Graph> Seeker<G> {
    /// Asks all neighbours, to the search's present radius.
    pub(super) fn flood(&mut self, cx: &mut Cx<'_, Self>, op: OpId) {
        let question = self.ask_anew(op);
        let hop = self.config.hop;
        let Some(search) = self.searches.get(&op) else { return };
        let Manner::Flood { radius, .. } = search.manner else { return };
        let left = search.deadline.since(cx.now());
        cx.set_timer((hop * (u32::from(radius) + 1)).min(left), op);
        if radius == 0 {
            return;
        }
        let (origin, query) = (self.me, search.query.clone());
        let msg = SeekerMsg::Flood { origin, question, ttl: radius - 1, query };
        let (asked, bytes) = (self.graph.neighbours().len() as u64, self.size(&msg));
        for neighbour in self.graph.neighbours() {
            cx.send(*neighbour, msg.clone());
        }
        self.tally.probes += asked;
        if let Some(search) = self.searches.get_mut(&op) {
            search.cost.messages += asked;
            search.cost.bytes += asked * bytes;
            search.cost.peers = asked;
        }
    }

    /// The present ring has had its time: asks a wider one, if there is any.
    pub(super) fn widen(&mut self, cx: &mut Cx<'_, Self>, op: OpId) {
        let Some(search) = self.searches.get_mut(&op) else { return };
        if search.deadline <= cx.now() {
            return self.end(cx, op, End::Deadline);
        }
        match &mut search.manner {
            Manner::Flood { radius, step, last } if *step > 0 && *radius < *last => {
                *radius = radius.saturating_add(*step).min(*last);
                self.flood(cx, op);
            }
            Manner::Flood { .. } | Manner::Walk { .. } => self.end(cx, op, End::Exhausted),
        }
    }

    /// A question of somebody else's comes: answers it, or passes it on.
    pub(super) fn on_flood(
        &mut self,
        cx: &mut Cx<'_, Self>,
        from: G::Peer,
        origin: G::Peer,
        question: u32,
        ttl: u8,
        query: G::Query,
    ) {
        if !self.is_new(origin, question) {
            return;
        }
        if self.graph.holds(&query) {
            self.tally.answers += 1;
            return cx.send(origin, SeekerMsg::Found { question });
        }
        let Some(ttl) = ttl.min(self.config.max_ttl).checked_sub(1) else { return };
        for neighbour in self.graph.neighbours() {
            if *neighbour != from && *neighbour != origin {
                self.tally.probes += 1;
                cx.send(*neighbour, SeekerMsg::Flood { origin, question, ttl, query: query.clone() });
            }
        }
    }
}
