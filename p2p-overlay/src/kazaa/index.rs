//! What ordinary nodes share: the index of a super-node, and what an ordinary node tells of itself.

use std::collections::BTreeMap;
use std::time::Duration;

use p2p_core::{Cx, Key, OpId, PeerId, Time};

use super::msg::{BATCH, digest};
use super::neighbours::Kind;
use super::{Kazaa, KazaaMsg, id_of};
use crate::place::Place;
use crate::promotion::Role;
use crate::search::{Item, Library, SearchOutcome};

/// How long what was handed over waits for its owner.
const WAITS: Duration = Duration::from_secs(60);

/// Items of ordinary nodes, and of those who may come; as many as it was made for, of both together.
#[derive(Debug)]
pub(super) struct Index<P> {
    most: usize,
    pub items: Library<P>,
    entrusted: BTreeMap<PeerId, (Vec<Item>, Time)>,
}

impl<P: Place> Index<P> {
    pub(super) fn new(most: usize) -> Index<P> {
        Index { most, items: Library::new(most), entrusted: BTreeMap::new() }
    }

    fn is_full(&self) -> bool {
        let waiting: usize = self.entrusted.values().map(|(items, _)| items.len()).sum();
        self.items.len() + waiting >= self.most
    }

    /// A neighbour has left.
    pub(super) fn forget(&mut self, peer: &P) {
        self.items.remove_all_of(peer);
    }

    /// Forgets what nobody has come for.
    pub(super) fn expire(&mut self, now: Time) {
        self.entrusted.retain(|_, (_, at)| now.since(*at) < WAITS);
    }

    /// Notes an item, if there is room for it.
    fn insert(&mut self, peer: &P, item: Item, each: usize) {
        let there = self.items.get_of(peer, &item.name).is_some();
        if there || self.items.count_of(peer) < each && !self.is_full() {
            // What cannot be shared is not: nobody is told.
            let _: Result<u32, _> = self.items.insert_of(*peer, item);
        }
    }
}

impl<P: Place> Kazaa<P> {
    // ---- at an ordinary node

    /// What it tells of.
    pub(super) fn shared(&self) -> impl Iterator<Item = &Item> {
        self.library.iter().take(self.config.items_each).map(|(_, item)| item)
    }

    /// Tells a new super-node what this node shares.
    pub(super) fn upload(&mut self, cx: &mut Cx<'_, Self>, parent: P) {
        let items: Vec<Item> = self.shared().cloned().collect();
        for some in items.chunks(BATCH) {
            cx.send(parent, KazaaMsg::Share(some.to_vec()));
        }
    }

    pub(super) fn publish(&mut self, cx: &mut Cx<'_, Self>, op: OpId, item: Item) {
        let published = self.library.insert(item.clone()).map(drop);
        if let (Ok(()), Some(parent)) = (published, self.parent()) {
            cx.send(parent, KazaaMsg::Share(vec![item]));
        }
        cx.finish(op, SearchOutcome::Published(published));
    }

    pub(super) fn unpublish(&mut self, cx: &mut Cx<'_, Self>, op: OpId, name: String) {
        let removed = self.library.remove(&name).is_some();
        if let Some(parent) = self.parent().filter(|_| removed) {
            cx.send(parent, KazaaMsg::Unshare(name));
        }
        cx.finish(op, SearchOutcome::Unpublished(removed));
    }

    // ---- at its super-node

    pub(super) fn on_share(&mut self, from: &P, items: Vec<Item>) {
        if self.kind_of(from) != Some(Kind::Ordinary) {
            self.tally.dropped += 1;
            return;
        }
        for item in items.into_iter().take(BATCH) {
            self.index.insert(from, item, self.config.items_each);
        }
    }

    pub(super) fn on_unshare(&mut self, from: &P, name: &str) {
        self.index.items.remove_of(from, name);
    }

    /// A super-node retires, and sends one of its own.
    pub(super) fn on_entrust(&mut self, cx: &Cx<'_, Self>, from: &P, who: PeerId, items: Vec<Item>) {
        let room = self.index.entrusted.contains_key(&who) || self.index.entrusted.len() < self.config.leaves;
        if self.role() == Role::Leaf || self.kind_of(from) != Some(Kind::Super) || !room {
            self.tally.dropped += 1;
            return;
        }
        for item in items.into_iter().take(BATCH) {
            let full = self.index.is_full();
            let (waiting, _) = self.index.entrusted.entry(who).or_insert_with(|| (Vec::new(), cx.now()));
            if !full && waiting.len() < self.config.items_each && item.check().is_ok() {
                waiting.push(item);
            }
        }
    }

    /// Somebody has come who may have been handed over; whether what it shares is here. It is not found before, and
    /// only if it is what its owner says that it is.
    pub(super) fn take_over(&mut self, peer: &P, expected: Key) -> bool {
        let Some((items, _)) = self.index.entrusted.remove(&id_of(peer)) else { return false };
        let same = digest(items.iter()) == expected;
        if same {
            for item in items {
                self.index.insert(peer, item, self.config.items_each);
            }
        }
        same
    }
}
