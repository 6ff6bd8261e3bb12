//! Publishing much at once: one pass over the key space, and few lookups.
//!
//! Keys that follow one another are kept by the same nodes, or by nearly the same. So the keys are put in order, and who
//! keeps the first is looked up; the next are sent to the same nodes at once, who keep them if they are their own
//! ([`DhtMsg::Provide`](super::DhtMsg)). When one of them says that a key is not, who keeps that is looked up, and so on: some
//! lookups for each node of the network, whatever the number of keys. Where copies lie at salted keys, which have nothing to
//! do with each other, each key is looked up.
//!
//! What a node has said so it says again in the same way: with what is due it takes along what is due soon.

use std::collections::{BTreeMap, VecDeque};

use p2p_core::{Cx, Key, NoJob, OpId};
use p2p_overlay::Overlay;

use super::{DhtTimer, Refusal, Replicated};
use crate::record::{Record, RecordKind, Slot};
use crate::request::{DhtOutcome, PutError, Swept};

/// How many records are on their way at once.
const WINDOW: usize = 64;
/// How many failures are named.
const NAMED: usize = 64;
/// How many sweeps are under way at once.
const SWEEPS: usize = 8;
/// How many records a node publishes again in one sweep.
const AGAIN: usize = 4096;

/// Many records on their way.
#[derive(Clone, Debug)]
pub(super) struct Sweep<P> {
    /// Nobody waits for it: they are published again.
    again: bool,
    /// In order.
    left: VecDeque<Key>,
    /// At most [`WINDOW`] puts, and which of those who were known to keep its key each asks; it looks for itself if none.
    open: BTreeMap<OpId, (Key, Option<u32>)>,
    /// Who keeps the keys where the sweep is, and of how many such sets it is which.
    known: Vec<P>,
    which: u32,
    /// How many keys they have taken, and those before them: so many more may be on their way.
    run: usize,
    run_before: usize,
    swept: Swept,
}

impl<O: Overlay<Job = NoJob>> Replicated<O> {
    pub(super) fn begin_sweep(&mut self, cx: &mut Cx<'_, Self>, op: OpId, mut keys: Vec<Key>, again: bool) {
        if self.sweeps.len() >= SWEEPS {
            return match again {
                true => {}
                false => cx.finish(op, DhtOutcome::Swept(Err(PutError::Busy))),
            };
        }
        keys.sort_unstable();
        keys.dedup();
        let swept = Swept { stored: 0, failed: 0, failures: Vec::new(), lookups: 0 };
        let (open, known) = (BTreeMap::new(), Vec::new());
        let sweep = Sweep { again, left: keys.into(), open, known, which: 0, run: 0, run_before: 0, swept };
        self.sweeps.insert(op, sweep);
        self.sweeping.push_back(op);
    }

    /// Puts as many records on their way as may be; ends when all have arrived.
    pub(super) fn sweep_on(&mut self, cx: &mut Cx<'_, Self>, op: OpId) {
        loop {
            // There is room for what users ask, too.
            let room = self.config.capacity / 2;
            let crowded = self.puts.len() + self.gets.len() >= room || self.jobs.len() >= room;
            let expires = self.until(cx, self.config.lifetime);
            let (me, salted) = (self.overlay.me(), self.is_salted());
            let Some(sweep) = self.sweeps.get_mut(&op) else { return };
            let looking = !salted && sweep.open.values().any(|(_, knows)| knows.is_none());
            let window = if salted { WINDOW } else { sweep.run.max(sweep.run_before).clamp(4, WINDOW) };
            if looking || sweep.open.len() >= window {
                return;
            }
            if crowded && !sweep.open.is_empty() {
                return;
            }
            if crowded {
                return cx.set_timer(self.config.settle, DhtTimer::Sweep(op));
            }
            let Some(key) = sweep.left.pop_front() else { break };
            let withdrawn = !self.republished.contains_key(&Slot { key, kind: RecordKind::Provider(me) });
            if sweep.again && withdrawn {
                continue;
            }
            let put = cx.op();
            let known = sweep.known.clone();
            sweep.open.insert(put, (key, (!known.is_empty()).then_some(sweep.which)));
            self.swept.insert(put, op);
            let (record, again) = (Record::Provider { key, peer: me, expires }, sweep.again);
            self.begin_put_at(cx, put, record, None, again, known);
        }
        let over = self.sweeps.get(&op).is_some_and(|sweep| sweep.open.is_empty());
        if over
            && let Some(sweep) = self.sweeps.remove(&op)
            && !sweep.again
        {
            cx.finish(op, DhtOutcome::Swept(Ok(sweep.swept)));
        }
    }

    /// A put of a sweep has ended.
    pub(super) fn sweep_told(&mut self, op: OpId, put: OpId, outcome: DhtOutcome<O::Peer>) {
        let (ended, salted) = (self.puts.get(&put), self.is_salted());
        let Some(sweep) = self.sweeps.get_mut(&op) else { return };
        let Some((key, knew)) = sweep.open.remove(&put) else { return };
        self.sweeping.push_back(op);
        let moved = ended.is_some_and(|put| put.was_refused(Refusal::NotResponsible));
        match knew {
            // Here others begin.
            Some(which) if moved => {
                let at = sweep.left.partition_point(|other| *other < key);
                sweep.left.insert(at, key);
                if which == sweep.which && !sweep.known.is_empty() {
                    sweep.known.clear();
                    (sweep.run_before, sweep.run) = (sweep.run, 0);
                }
                return;
            }
            Some(_) => {}
            None => {
                sweep.swept.lookups += ended.map_or(0, |put| put.lookups());
                sweep.known = ended.filter(|_| !salted).map_or(Vec::new(), |put| put.keepers());
                sweep.which += 1;
            }
        }
        sweep.run += 1;
        match outcome {
            DhtOutcome::Stored(Err(error)) => {
                sweep.swept.failed += 1;
                if sweep.swept.failures.len() < NAMED {
                    sweep.swept.failures.push((key, error));
                }
            }
            _ => sweep.swept.stored += 1,
        }
    }
}

impl<O: Overlay<Job = NoJob>> Replicated<O> {
    /// Says again what this node provides, as far as it is due, or soon will be.
    pub(super) fn provide_again(&mut self, cx: &mut Cx<'_, Self>) {
        if self.sweeps.values().any(|sweep| sweep.again) {
            return;
        }
        let soon = cx.now() + self.config.republish / 4;
        let provided =
            self.republished.iter().filter(|(slot, _)| matches!(slot.kind, RecordKind::Provider(_)));
        let due = provided.filter(|(_, at)| **at <= soon).map(|(slot, _)| *slot);
        let due: Vec<Slot<O::Peer>> = due.take(AGAIN).collect();
        due.iter().for_each(|slot| self.published(cx, *slot));
        let op = cx.op();
        self.begin_sweep(cx, op, due.iter().map(|slot| slot.key).collect(), true);
    }

    /// Whoever has asked for a sweep is gone.
    pub(super) fn forget_sweep(&mut self, cx: &mut Cx<'_, Self>, op: OpId) {
        let Some(sweep) = self.sweeps.remove(&op) else { return };
        for put in sweep.open.into_keys() {
            self.swept.remove(&put);
            self.puts.remove(&put);
            self.forget_finds(cx, put);
        }
    }
}
