//! How a Kademlia node joins (§2.3).
//!
//! The newcomer looks up its own key by a node it knows, then a key in each bucket further away than its nearest
//! neighbour. Everybody whom it asks learns of it.

use p2p_core::{Cx, Keyed};

use super::KademliaTable;
use super::upkeep::{EXPLORE, JOIN};
use crate::structured::Want;

impl<P: Keyed> KademliaTable<P> {
    pub(super) fn try_to_join(&mut self, cx: &mut Cx<'_, Self>) {
        let Some(door) = self.doors.next() else {
            // Nobody whom it has met can be reached: it goes on alone.
            self.joined = true;
            return;
        };
        let replicas = self.config.most() as u8;
        cx.emit(Want { tag: JOIN, key: self.key(), replicas, via: Some(door) });
    }

    /// Those nearest to this node have answered: it takes part.
    pub(super) fn on_joined(&mut self, cx: &mut Cx<'_, Self>) {
        self.joined = true;
        self.doors.found();
        self.exploring = self.buckets.deepest();
        self.explore(cx);
    }

    /// Looks up a key in the next bucket, towards the furthest.
    pub(super) fn explore(&mut self, cx: &mut Cx<'_, Self>) {
        let Some(level) = self.exploring else { return };
        self.exploring = level.checked_sub(1);
        self.want(cx, EXPLORE, level);
    }
}
