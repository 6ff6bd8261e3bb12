//! How CAN nodes keep their tables when nobody asks them anything.
//!
//! Now and then a node tells its neighbours of its zones ([`update`](super::update)) and looks after the gaps and the
//! zones too many ([`repair`](super::repair)); until it has a zone it tries to [`join`](super::join).

use p2p_core::{Cx, Keyed, Time};

use super::CanTable;
use crate::structured::Want;

/// What a lookup of the upkeep is for, as its tag. All others are for a newcomer's points, by their numbers.
pub(super) const MERGE: u32 = 0;
pub(super) const GAP: u32 = 1;
pub(super) const FIRST_POINT: u32 = 2;

impl<P: Keyed> CanTable<P> {
    pub(super) fn is_at_rest(&self) -> bool {
        self.config.update.is_zero()
    }

    pub(super) fn position(&self, peer: P) -> Option<usize> {
        self.neighbours.position(peer)
    }

    // ---- upkeep

    pub(super) fn look_after(&mut self, cx: &mut Cx<'_, Self>) {
        self.leave_if_cut_off(cx);
        let now = cx.now();
        let lately = |at: Time| now.since(at) < self.config.update * 3 / 4;
        let due = self.neighbours.iter().filter(|neighbour| !neighbour.exchanged.is_some_and(lately));
        let due: Vec<P> = due.map(|neighbour| neighbour.peer).collect();
        due.into_iter().for_each(|peer| self.ask(cx, peer, true));
        if self.shares_zones() {
            self.compare(cx);
        }
        self.repair(cx);
        self.reassign(cx);
        self.knock(cx);
    }

    fn knock(&mut self, cx: &mut Cx<'_, Self>) {
        let knows = |door| self.position(door).is_some();
        let via = self.doors.knock(self.neighbours.len(), knows, cx.rng());
        if via.is_some()
            && let Some(claim) = cx.rng().choose(&self.claims).copied()
        {
            let key = claim.zone.key(cx.rng());
            cx.emit(Want { tag: MERGE, key, replicas: 1, via });
        }
    }
}
