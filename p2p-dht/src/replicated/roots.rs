//! Whose copies they are, where these lie at salted keys.
//!
//! The roots of an object's keys have nothing to do with each other (CAN §3.5, several hash functions; Tapestry, JSAC
//! §II-A, several roots). Who keeps a copy is told by its tables whether one of the keys is still its own, but hears
//! nothing of the nodes that the others lead to: their death, or that one has come in between, shows when the keys
//! are looked up. So a slice of records is surveyed before it is compared: the first r different roots of 2r keys are
//! those who should have it.
//!
//! A root that was found is remembered for some repairs, as long as it takes what it is offered for its own: a pass
//! over all records looks up a small part of their keys. What a peer says of other keys than the one that led to it is
//! of no account: one that claims them all would be the only one to get a copy.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use p2p_core::{Cx, Key, NoJob, OpId, Peer, Time};
use p2p_overlay::{Find, Looked, Next, Overlay, Region, Replicas};

use super::{DhtTimer, Replicated};
use crate::record::Slot;

/// How many lookups are under way at once, and how many more begin each [`PACE`].
const FINDS: usize = 16;
const PACE: Duration = Duration::from_millis(100);
/// A root is remembered for at least so many repairs, and for at most three times as many.
const REMEMBERED: u32 = 4;

/// Records whose roots are being looked for.
#[derive(Clone, Debug)]
pub(super) struct Survey<P> {
    /// What this node is responsible for.
    mine: Region,
    /// At most [`SLICE`](super::repair::SLICE) copies of them, those of one key together.
    records: Vec<Surveyed<P>>,
    /// Keys to be looked up, as the number of the record and that of its key: at most as many.
    queue: VecDeque<(usize, u8)>,
    /// At most [`FINDS`] of them.
    open: BTreeMap<OpId, (usize, u8)>,
}

/// The records of a key, and who should have them.
#[derive(Clone, Debug)]
pub(super) struct Surveyed<P> {
    pub(super) slots: Vec<Slot<P>>,
    /// What this node's tables say of their place.
    pub(super) standing: u64,
    /// The different roots of the keys that have been tried, this node perhaps among them, and of which key.
    pub(super) roots: Vec<(P, u8)>,
    /// There is a key whose root was not found.
    pub(super) incomplete: bool,
    keys: Vec<Key>,
    tried: usize,
    finding: usize,
}

/// Roots of other keys than this node's own, and until when they are remembered: at most
/// [`DhtConfig::max_records`](super::DhtConfig).
#[derive(Clone, Debug)]
pub(super) struct Roots<P> {
    of: BTreeMap<Key, (P, Time)>,
}

impl<P> Default for Survey<P> {
    fn default() -> Self {
        let (records, queue, open) = Default::default();
        Survey { mine: Region::Nothing, records, queue, open }
    }
}

impl<P> Default for Roots<P> {
    fn default() -> Self {
        Roots { of: BTreeMap::new() }
    }
}

impl<P: Peer> Surveyed<P> {
    fn is_root(&mut self, peer: P, nth: u8) {
        if self.roots.iter().all(|(root, _)| *root != peer) {
            self.roots.push((peer, nth));
        }
    }
}

impl<P> Survey<P> {
    pub(super) fn is_over(&self) -> bool {
        self.records.is_empty()
    }
}

impl<P: Peer> Roots<P> {
    pub(super) fn expire(&mut self, now: Time) {
        self.of.retain(|_, (_, until)| *until > now);
    }

    /// Forgets a peer; says whether it was anything's root.
    pub(super) fn forget_peer(&mut self, peer: P) -> bool {
        let before = self.of.len();
        self.of.retain(|_, (root, _)| *root != peer);
        self.of.len() < before
    }

    /// This peer is not the root of any of these keys.
    pub(super) fn forget(&mut self, keys: &[Key], peer: P) {
        for key in keys {
            if self.of.get(key).is_some_and(|(root, _)| *root == peer) {
                self.of.remove(key);
            }
        }
    }
}

impl<O: Overlay<Job = NoJob>> Replicated<O> {
    /// Whether copies lie at salted keys.
    pub(super) fn is_salted(&self) -> bool {
        matches!(self.overlay.replicas(&Key::ZERO, 1), Replicas::Keys(_))
    }

    /// Looks for the roots of these records, `all` or those that concern this node otherwise than when they were last
    /// confirmed.
    pub(super) fn begin_survey(&mut self, cx: &mut Cx<'_, Self>, slots: Vec<Slot<O::Peer>>, all: bool) {
        if !self.overlay.is_joined() {
            return self.go_on(cx);
        }
        let now = cx.wall().as_secs();
        let mine = self.overlay.mine();
        let mut records: Vec<Surveyed<O::Peer>> = Vec::new();
        for of_key in slots.chunk_by(|a, b| a.key == b.key) {
            let keys = self.keys(&of_key[0].key).unwrap_or_default();
            let standing = own_keys(&keys, &mine);
            let mut slots = of_key.to_vec();
            slots.retain(|slot| {
                let held = self.index.get_mut(slot).filter(|held| held.expires > now);
                let held = held.filter(|held| all || held.confirmed != standing);
                // Whatever goes wrong from now on, it is looked at again when neighbours have changed.
                held.map(|held| held.confirmed = 0).is_some()
            });
            if !slots.is_empty() {
                let (roots, incomplete, tried, finding) = (Vec::new(), false, 0, 0);
                records.push(Surveyed { slots, standing, roots, incomplete, keys, tried, finding });
            }
        }
        let count = records.len();
        self.repair.survey = Survey { mine, records, ..Survey::default() };
        (0..count).for_each(|index| self.try_keys(index));
        self.survey(cx);
    }

    /// Takes as many keys of a record as roots are missing, and again, as long as all are known already.
    fn try_keys(&mut self, index: usize) {
        let (me, wanted) = (self.overlay.me(), usize::from(self.config.replicas));
        let Survey { mine, records, queue, .. } = &mut self.repair.survey;
        let record = &mut records[index];
        while record.finding == 0 && record.roots.len() < wanted && record.tried < record.keys.len() {
            let upto = record.keys.len().min(record.tried + wanted - record.roots.len());
            for nth in record.tried..upto {
                let key = &record.keys[nth];
                let known = match mine.contains(key) {
                    true => Some(me),
                    false => self.repair.roots.of.get(key).map(|(root, _)| *root),
                };
                match known {
                    Some(root) => record.is_root(root, nth as u8),
                    None => {
                        record.finding += 1;
                        queue.push_back((index, nth as u8));
                    }
                }
            }
            record.tried = upto;
        }
    }

    /// Begins some lookups; when all have ended, the records are compared.
    pub(super) fn survey(&mut self, cx: &mut Cx<'_, Self>) {
        for _ in self.repair.survey.open.len()..FINDS {
            let Survey { records, queue, open, .. } = &mut self.repair.survey;
            let Some((index, nth)) = queue.pop_front() else { break };
            let (id, key) = (cx.op(), records[index].keys[usize::from(nth)]);
            open.insert(id, (index, nth));
            self.below(cx, |overlay, cx| overlay.on_command(cx, id, Find::key(key)));
        }
        let Survey { records, queue, open, .. } = &mut self.repair.survey;
        if !queue.is_empty() || !open.is_empty() {
            return cx.set_timer(PACE, DhtTimer::Slice);
        }
        let records = std::mem::take(records);
        self.compare_surveyed(cx, records);
    }

    pub(super) fn root_found(&mut self, cx: &mut Cx<'_, Self>, id: OpId, looked: Looked<O::Peer>) {
        let Some((index, nth)) = self.repair.survey.open.remove(&id) else { return };
        let record = &mut self.repair.survey.records[index];
        record.finding -= 1;
        match looked {
            Err(_) => record.incomplete = true,
            Ok(found) => {
                let (root, key) = (found.root(), record.keys[usize::from(nth)]);
                record.is_root(root, nth);
                if root != self.overlay.me() && self.repair.roots.of.len() < self.config.max_records {
                    let least = self.config.repair * REMEMBERED;
                    let until = cx.now() + cx.rng().duration(least, least * 3);
                    self.repair.roots.of.insert(key, (root, until));
                }
            }
        }
        self.try_keys(index);
    }

    /// Whether this node is the root of this one of a record's keys. Where it cannot tell, it is.
    pub(super) fn is_nth_root(&self, key: &Key, nth: u8) -> bool {
        let keys = self.keys(key).unwrap_or_default();
        let key = keys.get(usize::from(nth));
        !self.overlay.is_joined() || key.is_some_and(|key| self.overlay.next(key, &[]) == Next::Mine)
    }

    /// What this node's tables say of a record's place: at salted keys, which of them are its own.
    pub(super) fn own_standing(&self, keys: &[Key]) -> u64 {
        own_keys(keys, &self.overlay.mine())
    }
}

/// Which keys lie in a region: never zero.
fn own_keys(keys: &[Key], mine: &Region) -> u64 {
    keys.iter().fold(1, |own, key| own << 1 | u64::from(mine.contains(key)))
}
