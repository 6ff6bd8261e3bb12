//! Who gets which query table, and what is taken in of others.

use std::sync::Arc;

use p2p_core::Cx;

use super::update::{RouteUpdate, updates};
use super::{Gnutella06, QueryTable};
use crate::gnutella::{Descriptor, Guid, Payload};
use crate::place::Place;
use crate::promotion::Role;

impl<P: Place> Gnutella06<P> {
    /// Makes the table anew, and tells all ultrapeers what has changed.
    pub(super) fn tell_tables(&mut self, cx: &mut Cx<'_, Self>) {
        self.make_table();
        for peer in self.ultrapeers().collect::<Vec<P>>() {
            self.tell_table(cx, peer);
        }
    }

    fn make_table(&mut self) {
        if std::mem::take(&mut self.changed) {
            let mut own = QueryTable::new(self.config.table_bits);
            self.library.iter().for_each(|(_, item)| own.insert(item));
            self.own = own;
        }
        let mut table = self.own.clone();
        if self.role() == Role::Ultrapeer {
            let leaves = self.up(Role::Leaf).filter_map(|(_, leaf)| leaf.table());
            leaves.for_each(|leaf| table.insert_all(leaf));
        }
        if *self.table != table {
            self.table = Arc::new(table);
        }
    }

    /// Tells one ultrapeer what has changed since it was last told. Leaves are not told anything.
    pub(super) fn tell_table(&mut self, cx: &mut Cx<'_, Self>, peer: P) {
        let Some(neighbour) = self.neighbours.get_mut(&peer) else { return };
        if neighbour.role != Role::Ultrapeer || !neighbour.takes_tables {
            return;
        }
        let told = neighbour.told.replace(self.table.clone());
        if told.as_ref().is_some_and(|told| Arc::ptr_eq(told, &self.table)) {
            return;
        }
        for update in updates(told.as_deref(), &self.table) {
            let id = Guid::random(cx.rng());
            self.tell(cx, peer, Descriptor { id, ttl: 1, hops: 0, payload: Payload::Route(update) });
        }
    }

    /// A neighbour says what it might have.
    pub(super) fn on_route(&mut self, cx: &mut Cx<'_, Self>, from: P, update: &RouteUpdate) {
        let Some(neighbour) = self.neighbours.get_mut(&from) else { return };
        if neighbour.reader.apply(update).is_err() {
            // Nothing that it says later can be understood.
            self.part(cx, from, "bad query table", &[]);
        }
    }
}
