//! Who gets which query table, and what is taken in of others.

use std::sync::Arc;

use p2p_core::Cx;

use super::update::{RouteUpdate, updates};
use super::{Gnutella06, Gnutella06Msg, QueryTable};
use crate::gnutella::{Descriptor, Guid, Payload};
use crate::place::Place;
use crate::promotion::Role;

/// What leads from one table, if there is one, to another.
#[derive(Debug)]
pub(super) struct Made {
    told: Option<Arc<QueryTable>>,
    table: Arc<QueryTable>,
    updates: Vec<RouteUpdate>,
}

fn is_same(one: Option<&Arc<QueryTable>>, other: Option<&Arc<QueryTable>>) -> bool {
    one.map(Arc::as_ptr) == other.map(Arc::as_ptr)
}

impl<P: Place> Gnutella06<P> {
    /// Makes the table anew if need be, and tells all ultrapeers what has changed.
    pub(super) fn tell_tables(&mut self, cx: &mut Cx<'_, Self>) {
        self.make_table();
        for peer in self.ultrapeers().collect::<Vec<P>>() {
            self.tell_table(cx, peer);
        }
    }

    fn make_table(&mut self) {
        let changed = std::mem::take(&mut self.changed);
        if changed {
            let mut own = QueryTable::new(self.config.table_bits);
            self.library.iter().for_each(|(_, item)| own.insert(item));
            self.own = own;
        }
        if !(std::mem::take(&mut self.stale) || changed) {
            return;
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
        if is_same(told.as_ref(), Some(&self.table)) {
            return;
        }
        // Most have been told the same, and are told the same now.
        let again = self.made.take().filter(|made| {
            Arc::ptr_eq(&made.table, &self.table) && is_same(made.told.as_ref(), told.as_ref())
        });
        let made = self.made.insert(again.unwrap_or_else(|| Made {
            updates: updates(told.as_deref(), &self.table),
            table: self.table.clone(),
            told,
        }));
        for update in &made.updates {
            let id = Guid::random(cx.rng());
            let payload = Payload::Route(update.clone());
            cx.send(peer, Gnutella06Msg::Descriptor(Descriptor { id, ttl: 1, hops: 0, payload }));
        }
    }

    /// A neighbour says what it might have.
    pub(super) fn on_route(&mut self, cx: &mut Cx<'_, Self>, from: P, update: &RouteUpdate) {
        let Some(neighbour) = self.neighbours.get_mut(&from) else { return };
        // A whole patch costs as much time as all of a table, however short it is.
        let whole = matches!(update, RouteUpdate::Patch { number, of, .. } if number == of);
        if whole && !neighbour.account.tables.take(cx.now(), self.config.tables) {
            return self.part(cx, from, "too many query tables", &[]);
        }
        self.stale |= neighbour.role == Role::Leaf;
        if neighbour.reader.apply(update).is_err() {
            // Nothing that it says later can be understood.
            self.part(cx, from, "bad query table", &[]);
        }
    }
}
