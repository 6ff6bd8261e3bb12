//! Walkers, who ask back.

use p2p_core::{Cx, OpId};

use super::{Graph, Manner, Seeker, SeekerMsg, Walker};
use crate::search::{End, Reach};

/// A walker makes at most so many steps before it asks back, whatever its asker says: as many messages as one message
/// can cause.
const MAX_UNCHECKED: u16 = 64;

impl<G: Graph> Seeker<G> {
    /// Sends a search's walkers out, to random neighbours.
    pub(super) fn send_walkers(&mut self, cx: &mut Cx<'_, Self>, op: OpId) {
        let question = self.ask_anew(op);
        let Some(search) = self.searches.get(&op) else { return };
        let (walkers, check_every, left) = match search.scope.reach {
            Reach::Walk { walkers, check_every, steps } => (walkers, check_every, steps),
            Reach::Auto | Reach::Ttl(_) | Reach::Ring { .. } => (32, 4, 1024),
        };
        cx.set_timer(search.deadline.since(cx.now()), op);
        if walkers == 0 || left == 0 {
            return self.end(cx, op, End::Exhausted);
        }
        let query = search.query.clone();
        let walker = Walker { origin: self.me, question, check_every, steps: 0, fresh: 0, left, query };
        for _ in 0..walkers {
            self.step(cx, None, walker.clone());
        }
    }

    /// A walker goes on to a neighbour, if there is another not to where it comes from.
    fn step(&mut self, cx: &mut Cx<'_, Self>, from: Option<G::Peer>, mut walker: Walker<G::Peer, G::Query>) {
        let neighbours = self.graph.neighbours();
        let back =
            from.filter(|_| neighbours.len() > 1).and_then(|from| neighbours.iter().position(|n| *n == from));
        let choices = neighbours.len() - usize::from(back.is_some());
        let choice = cx.rng().index(choices);
        let skip = usize::from(back.is_some_and(|back| choice >= back));
        let Some(next) = neighbours.get(choice + skip).copied() else { return };
        walker.steps += 1;
        walker.left -= 1;
        self.tally.probes += 1;
        cx.send(next, SeekerMsg::Walk(walker));
    }

    /// A walker comes by, or is sent on by its asker.
    pub(super) fn on_walk(
        &mut self,
        cx: &mut Cx<'_, Self>,
        from: G::Peer,
        walker: Walker<G::Peer, G::Query>,
    ) {
        let mut walker = walker;
        walker.check_every = walker.check_every.clamp(1, MAX_UNCHECKED);
        if walker.steps == 0 {
            // It has been here, and goes on.
            if walker.left > 0 {
                self.step(cx, None, walker);
            }
            return;
        }
        walker.fresh = walker.fresh.saturating_add(self.is_new(walker.origin, walker.question).into());
        let found = walker.origin != self.me && self.graph.holds(&walker.query);
        if found || walker.steps >= walker.check_every || walker.left == 0 {
            self.tally.checks += 1;
            self.tally.answers += u64::from(found);
            let origin = walker.origin;
            return cx.send(origin, SeekerMsg::Check { walker, found });
        }
        self.step(cx, Some(from), walker);
    }

    /// A walker of this node's asks back from where it stands.
    pub(super) fn on_check(
        &mut self,
        cx: &mut Cx<'_, Self>,
        from: G::Peer,
        walker: Walker<G::Peer, G::Query>,
        found: bool,
    ) {
        let msg = SeekerMsg::Check { walker, found };
        let bytes = self.size(&msg);
        let SeekerMsg::Check { walker, .. } = msg else { return };
        if walker.origin != self.me {
            return;
        }
        let Some((op, search)) = self.search_of(walker.question) else { return };
        let Manner::Walk { walking } = &mut search.manner else { return };
        if *walking == 0 {
            return; // There is none of that many: somebody has made it up.
        }
        let steps = u64::from(walker.steps.min(MAX_UNCHECKED));
        search.cost.messages += steps + 1;
        search.cost.bytes += (steps + 1) * bytes;
        search.cost.peers += u64::from(walker.fresh).min(steps);
        search.cost.duplicates += steps.saturating_sub(walker.fresh.into());
        *walking -= 1;
        if found {
            self.found(cx, op, from);
        }
        let Some(search) = self.searches.get_mut(&op) else { return };
        let Manner::Walk { walking } = &mut search.manner else { return };
        if walker.left > 0 {
            *walking += 1;
            search.cost.messages += 1;
            search.cost.bytes += bytes;
            self.tally.checks += 1;
            return cx.send(from, SeekerMsg::Walk(Walker { steps: 0, fresh: 0, ..walker }));
        }
        if *walking == 0 {
            self.end(cx, op, End::Exhausted);
        }
    }
}
