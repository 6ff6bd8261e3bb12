//! What ordinary nodes share: the index of a super-node, and what an ordinary node tells of itself.

use std::collections::BTreeMap;
use std::time::Duration;

use p2p_core::{Cx, Key, OpId, PeerId, Time};

use super::msg::{BATCH, Shared, Source, digest};
use super::neighbours::Kind;
use super::word::{Word, Worth};
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
    /// The word of each owner for each item, by name.
    words: BTreeMap<P, BTreeMap<String, Word>>,
    entrusted: BTreeMap<PeerId, (Vec<Shared>, Time)>,
}

impl<P: Place> Index<P> {
    pub(super) fn new(most: usize) -> Index<P> {
        Index { most, items: Library::new(most), words: BTreeMap::new(), entrusted: BTreeMap::new() }
    }

    fn is_full(&self) -> bool {
        let waiting: usize = self.entrusted.values().map(|(items, _)| items.len()).sum();
        self.items.len() + waiting >= self.most
    }

    /// A neighbour has left.
    pub(super) fn forget(&mut self, peer: &P) {
        self.items.remove_all_of(peer);
        self.words.remove(peer);
    }

    /// A neighbour shares something no longer.
    fn remove(&mut self, peer: &P, name: &str) {
        self.items.remove_of(peer, name);
        if let Some(words) = self.words.get_mut(peer) {
            words.remove(name);
        }
    }

    /// What a neighbour has said for an item.
    pub(super) fn word(&self, peer: &P, name: &str) -> Option<Word> {
        self.words.get(peer)?.get(name).copied()
    }

    /// Forgets what nobody has come for.
    pub(super) fn expire(&mut self, now: Time) {
        self.entrusted.retain(|_, (_, at)| now.since(*at) < WAITS);
    }

    /// Notes an item, if there is room for it.
    fn insert(&mut self, peer: &P, shared: Shared, each: usize) {
        let Shared { item, word } = shared;
        let name = item.name.clone();
        let has_room =
            self.items.get_of(peer, &name).is_some() || self.items.count_of(peer) < each && !self.is_full();
        // What cannot be shared is not: nobody is told.
        if has_room
            && self.items.insert_of(*peer, item).is_ok()
            && let Some(word) = word
        {
            self.words.entry(*peer).or_default().insert(name, word);
        }
    }
}

impl<P: Place> Kazaa<P> {
    // ---- at an ordinary node

    /// What it tells of.
    pub(super) fn shared(&mut self, wall: Duration) -> Vec<Shared> {
        let items = self.library.iter().take(self.config.items_each).map(|(_, item)| item.clone());
        items.collect::<Vec<Item>>().into_iter().map(|item| self.give_word(item, wall)).collect()
    }

    /// Tells a super-node what this node shares.
    pub(super) fn upload(&mut self, cx: &mut Cx<'_, Self>, parent: P) {
        self.told = cx.now();
        for some in self.shared(cx.wall()).chunks(BATCH) {
            cx.send(parent, KazaaMsg::Share(some.to_vec()));
        }
    }

    pub(super) fn publish(&mut self, cx: &mut Cx<'_, Self>, op: OpId, item: Item) {
        let published = self.library.insert(item.clone()).map(drop);
        if published.is_ok() {
            self.changed(&item.name);
        }
        if let (Ok(()), Some(parent)) = (published, self.parent()) {
            let shared = self.give_word(item, cx.wall());
            cx.send(parent, KazaaMsg::Share(vec![shared]));
        }
        cx.finish(op, SearchOutcome::Published(published));
    }

    pub(super) fn unpublish(&mut self, cx: &mut Cx<'_, Self>, op: OpId, name: String) {
        let removed = self.library.remove(&name).is_some();
        self.changed(&name);
        if let Some(parent) = self.parent().filter(|_| removed) {
            cx.send(parent, KazaaMsg::Unshare(name));
        }
        cx.finish(op, SearchOutcome::Unpublished(removed));
    }

    /// Its word for an item that it does not share any more, or not as it was, is not given again.
    fn changed(&mut self, name: &str) {
        if let Some(signer) = &mut self.signer {
            signer.forget(name);
        }
    }

    /// Its word is good for a while only: the super-node has it anew before that.
    pub(super) fn tell_again(&mut self, cx: &mut Cx<'_, Self>) {
        let parent = self.parent().filter(|_| self.signer.is_some());
        if let Some(parent) = parent.filter(|_| cx.now().since(self.told) >= self.config.lifetime / 4) {
            self.upload(cx, parent);
        }
    }

    // ---- at its super-node

    pub(super) fn on_share(&mut self, cx: &mut Cx<'_, Self>, from: &P, items: Vec<Shared>) {
        if self.kind_of(from) != Some(Kind::Ordinary) {
            self.tally.dropped += 1;
            return;
        }
        for shared in items.into_iter().take(BATCH) {
            self.take(cx, from, shared);
        }
    }

    /// Notes what one of its own shares, if it shows that it says so: others will look.
    fn take(&mut self, cx: &Cx<'_, Self>, from: &P, shared: Shared) {
        let listen = self.neighbours.get(from).and_then(|one| one.contact);
        let name = &shared.item.name;
        let same = shared.word.is_some() && self.index.word(from, name) == shared.word;
        if same && self.index.items.get_of(from, name) == Some(&shared.item) {
            return;
        }
        if self.signer.is_some() {
            let (now, rate) = (cx.now(), self.config.checks);
            let may = self.neighbours.get_mut(from).is_some_and(|one| one.account.checks.take(now, rate));
            let Shared { item, word } = shared.clone();
            let hit = Source { id: id_of(from), listen, item, word };
            if !may || Self::worth(self.signer.as_ref(), &hit, cx.wall(), self.config.lifetime) != Worth::Good
            {
                self.tally.disbelieved += 1;
                return;
            }
        }
        self.index.insert(from, shared, self.config.items_each);
    }

    pub(super) fn on_unshare(&mut self, from: &P, name: &str) {
        self.index.remove(from, name);
    }

    /// A super-node retires, and sends one of its own.
    pub(super) fn on_entrust(&mut self, cx: &Cx<'_, Self>, from: &P, who: PeerId, items: Vec<Shared>) {
        let room = self.index.entrusted.contains_key(&who) || self.index.entrusted.len() < self.config.leaves;
        if self.role() == Role::Leaf || self.kind_of(from) != Some(Kind::Super) || !room {
            self.tally.dropped += 1;
            return;
        }
        for item in items.into_iter().take(BATCH) {
            let full = self.index.is_full();
            let (waiting, _) = self.index.entrusted.entry(who).or_insert_with(|| (Vec::new(), cx.now()));
            if !full && waiting.len() < self.config.items_each && item.item.check().is_ok() {
                waiting.push(item);
            }
        }
    }

    /// Somebody has come who may have been handed over; whether what it shares is here. It is not found before, and
    /// only if it is what its owner says that it is.
    pub(super) fn take_over(&mut self, cx: &Cx<'_, Self>, peer: &P, expected: Key) -> bool {
        let Some((items, _)) = self.index.entrusted.remove(&id_of(peer)) else { return false };
        let same = digest(items.clone()) == expected;
        if same {
            items.into_iter().for_each(|shared| self.take(cx, peer, shared));
        }
        same
    }
}
