//! The pointers that a node keeps: who has an object, on which way it learnt it, and until when.

use std::collections::BTreeMap;
use std::ops::Bound;

use p2p_core::{Key, Peer, Time};

/// How many that have one object are kept for each of its roots: the nearest.
const MAX_SERVERS: usize = 16;

/// Somebody has an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pointer<P> {
    /// Which of the object's roots the way leads to.
    pub(super) root: u8,
    /// Who has it.
    pub(super) server: P,
    /// Until then.
    pub(super) until: Time,
    /// How far that one is along the way that the message came, in microseconds.
    pub(super) way: u32,
    /// To whom this node has passed it on; to nobody, if this node is the root.
    pub(super) next: Option<P>,
    /// The server has said so itself.
    pub(super) proved: bool,
}

/// By object. At most as many as the bound it was made with, and of each object 16 for each of its roots.
#[derive(Clone, Debug)]
pub(super) struct Pointers<P> {
    capacity: usize,
    kept: usize,
    objects: BTreeMap<Key, Vec<Pointer<P>>>,
}

impl<P: Peer> Pointers<P> {
    pub(super) fn with_capacity(capacity: usize) -> Pointers<P> {
        Pointers { capacity, kept: 0, objects: BTreeMap::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.kept
    }

    /// Those of an object.
    pub(super) fn of(&self, object: &Key) -> &[Pointer<P>] {
        self.objects.get(object).map_or(&[], Vec::as_slice)
    }

    /// The one on the way from a server to a root.
    pub(super) fn find(&self, object: &Key, root: u8, server: P) -> Option<&Pointer<P>> {
        self.of(object).iter().find(|pointer| pointer.root == root && pointer.server == server)
    }

    /// The nearest that has an object, some left out; of those alone who have said so themselves, if there are any.
    pub(super) fn nearest(&self, object: &Key, now: Time, avoid: &[P]) -> Option<P> {
        let all = self.of(object).iter().filter(|pointer| pointer.until > now);
        let all = all.filter(|pointer| !avoid.contains(&pointer.server));
        all.min_by_key(|pointer| (!pointer.proved, pointer.way, pointer.server)).map(|pointer| pointer.server)
    }

    /// Whether there is room for a server of whom others tell: nobody else has the object, and a quarter of all room is
    /// left, which is for those who have said so themselves.
    pub(super) fn has_room_for_hearsay(&self, object: &Key, root: u8) -> bool {
        self.kept < self.capacity - self.capacity / 4
            && self.of(object).iter().all(|other| other.root != root)
    }

    /// Keeps a pointer in the place of the one that there was, if there is room: of too many for one root the furthest
    /// is forgotten. What others say of a server that has spoken for itself does not shorten its time, nor does it move it.
    pub(super) fn keep(&mut self, object: Key, pointer: Pointer<P>) {
        let full = self.kept >= self.capacity;
        if full && !self.objects.contains_key(&object) {
            return;
        }
        let all = self.objects.entry(object).or_default();
        let before = all.len();
        let same = |other: &Pointer<P>| other.root == pointer.root && other.server == pointer.server;
        if let Some(known) = all.iter_mut().find(|other| same(other)) {
            let until = if pointer.proved { pointer.until } else { known.until.max(pointer.until) };
            let way = if known.proved && !pointer.proved { known.way } else { pointer.way };
            *known = Pointer { until, way, proved: known.proved || pointer.proved, ..pointer };
            return;
        }
        let same_root = || all.iter().enumerate().filter(|(_, other)| other.root == pointer.root);
        if same_root().count() >= MAX_SERVERS {
            let furthest = same_root().max_by_key(|(_, other)| other.way).map(|(at, other)| (at, other.way));
            match furthest {
                Some((at, way)) if way > pointer.way => all[at] = pointer,
                _ => {}
            }
        } else if !full {
            all.push(pointer);
        }
        self.kept += all.len() - before;
    }

    /// A server has said that it has an object.
    pub(super) fn prove(&mut self, object: &Key, server: P) {
        let all = self.objects.get_mut(object).into_iter().flatten();
        all.filter(|pointer| pointer.server == server).for_each(|pointer| pointer.proved = true);
    }

    /// Forgets some of an object's pointers.
    pub(super) fn forget(&mut self, object: &Key, which: impl Fn(&Pointer<P>) -> bool) {
        let Some(all) = self.objects.get_mut(object) else { return };
        let before = all.len();
        all.retain(|pointer| !which(pointer));
        self.kept -= before - all.len();
        if all.is_empty() {
            self.objects.remove(object);
        }
    }

    /// Forgets those that have ended.
    pub(super) fn expire(&mut self, now: Time) {
        self.objects.retain(|_, all| {
            all.retain(|pointer| pointer.until > now);
            !all.is_empty()
        });
        self.kept = self.objects.values().map(Vec::len).sum();
    }

    /// Some objects with pointers, those after this one in order.
    pub(super) fn after(&self, object: Option<Key>, n: usize) -> Vec<Key> {
        let from = object.map_or(Bound::Unbounded, Bound::Excluded);
        self.objects.range((from, Bound::Unbounded)).take(n).map(|(object, _)| *object).collect()
    }
}
