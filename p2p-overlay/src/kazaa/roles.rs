//! Who is a super-node: the shared policy is asked, and who retires hands its ordinary nodes over.

use p2p_core::Cx;

use super::msg::{BATCH, Known, Shared};
use super::neighbours::Kind;
use super::{Kazaa, KazaaEvent, KazaaMsg, id_of};
use crate::place::Place;
use crate::promotion::{Need, Role, Standing, hand_over};

/// Others that an ordinary node is named when its super-node retires.
const HANDED: usize = 5;

impl<P: Place> Kazaa<P> {
    /// How many more ordinary nodes the super-nodes next to this one say that they would have. Nobody has more room
    /// than this node would have itself.
    fn rooms(&self) -> Vec<(P, usize)> {
        let most = self.config.leaves;
        self.up(Kind::Super).map(|(peer, other)| (peer, usize::from(other.room.ordinary).min(most))).collect()
    }

    /// Asks whether this node should have another role.
    pub(super) fn consider(&mut self, cx: &mut Cx<'_, Self>) {
        let standing = Standing {
            reachable: self.listen.is_some(),
            uptime: cx.now().since(self.started),
            bandwidth: self.config.speed,
        };
        let load = match self.role() {
            Role::Ultrapeer => self.room().load,
            // Who finds no super-node with room lacks one.
            Role::Leaf => {
                self.up(Kind::Parent).map(|(_, parent)| parent.room.load.min(1000)).next().unwrap_or(1000)
            }
        };
        let free: usize = self.rooms().iter().map(|(_, room)| room).sum();
        // It becomes an ordinary node itself.
        let need = Need { load, room: free > self.count(Kind::Ordinary) };
        let lot = cx.rng().below(1000) as u16;
        let Some(role) = self.promotion.consider(cx.now(), standing, need, lot) else { return };
        self.tally.changes += 1;
        cx.emit(KazaaEvent::Role(role));
        self.probing.clear();
        self.hand_over(cx);
        // The others have it as what it was: it comes to them anew.
        for peer in self.neighbours.keys().copied().collect::<Vec<P>>() {
            self.part(cx, peer, Vec::new());
        }
        self.look_for_neighbours(cx);
    }

    /// Sends each ordinary node to others that have room, and what it shares to the first of them.
    fn hand_over(&mut self, cx: &mut Cx<'_, Self>) {
        let ordinary: Vec<P> = self.ordinary_nodes().collect();
        for (node, to) in hand_over(&ordinary, &self.rooms(), HANDED) {
            if let Some(first) = to.first() {
                let items = self.index.items.items_of(&node).cloned();
                let items: Vec<Shared> =
                    items.map(|item| Shared { word: self.index.word(&node, &item.name), item }).collect();
                for some in items.chunks(BATCH) {
                    cx.send(*first, KazaaMsg::Entrust { who: id_of(&node), items: some.to_vec() });
                }
            }
            let known = |peer: P| {
                let other = self.neighbours.get(&peer)?;
                Some(Known { contact: other.contact?, load: other.room.load, age: 0 })
            };
            let known = to.into_iter().filter_map(known).collect();
            self.part(cx, node, known);
        }
    }
}
