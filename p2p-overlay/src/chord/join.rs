//! How a Chord node joins (Zave 2015, §4).
//!
//! The newcomer looks up its own key, and takes the root and the root's successors as its own successors; stabilising
//! does the rest.

use p2p_core::{Cx, Keyed};

use super::ring::list;
use super::upkeep::JOIN;
use super::{ChordTable, Spot};
use crate::structured::{Found, Want};

impl<P: Keyed> ChordTable<P> {
    pub(super) fn try_to_join(&mut self, cx: &mut Cx<'_, Self>) {
        let Some(door) = self.doors.next() else {
            // Nobody whom it has met can be reached: it goes on alone.
            self.joined = true;
            return;
        };
        let replicas = self.most() as u8;
        cx.emit(Want { tag: JOIN, key: self.key, replicas, via: Some(door) });
    }

    pub(super) fn on_joined(&mut self, cx: &mut Cx<'_, Self>, found: &Found<P>) {
        if self.joined {
            return;
        }
        // This node may be among them, if it was here before.
        let peers: Vec<P> = found.peers.iter().copied().filter(|peer| *peer != self.me).collect();
        let Some((&first, then)) = peers.split_first() else { return };
        self.joined = true;
        self.doors.found();
        self.changed = true;
        self.precede(None);
        self.before.clear();
        self.fingers.clear();
        self.successors = list(&self.key, Spot::new(&self.key, first), then, &[], self.most());
        #[cfg(test)]
        if self.original {
            // As first published: the successor alone, until it is time to stabilise.
            return self.successors.truncate(1);
        }
        self.stabilize(cx);
    }
}
