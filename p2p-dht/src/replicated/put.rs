//! Storing: the record goes to the nodes responsible for its key, until enough of them have synced it.

use std::time::Duration;

use bytes::Bytes;
use p2p_core::{Cx, Key, NoJob, OpId};
use p2p_overlay::{Looked, LookupError, Overlay};

use super::{DhtMsg, DhtTimer, Question, Refusal, Replicated};
use crate::record::{InvalidRecord, Record, RecordKind, Slot};
use crate::request::{DhtOutcome, PutError, Stored};

/// How often the responsible nodes are looked up, where some of those found did not keep the record.
const ROUNDS: u8 = 4;

/// A record on its way to its replicas: at most [`ROUNDS`] times [`DhtConfig::replicas`](super::DhtConfig) of them.
#[derive(Clone, Debug)]
pub(super) struct Put<P> {
    record: Record<P>,
    slot: Slot<P>,
    expected: Option<u64>,
    /// Nobody waits for it: it is published again.
    again: bool,
    rounds_left: u8,
    /// How many lookups this round has begun, and whom they have found.
    tried: usize,
    located: Vec<P>,
    /// Lookups and answers that are still to come.
    finding: usize,
    waiting: usize,
    /// Somebody failed in this round.
    failed: bool,
    lookup_error: Option<LookupError>,
    /// Who has been asked in this round or before, and of all rounds the most.
    asked: Vec<P>,
    most: usize,
    stored: Vec<P>,
    refused: Vec<(P, Refusal)>,
}

impl<O: Overlay<Job = NoJob>> Replicated<O> {
    pub(super) fn put_value(&mut self, cx: &mut Cx<'_, Self>, op: OpId, value: Bytes) {
        let expires = self.until(cx, self.config.lifetime);
        self.begin_put(cx, op, Record::Immutable { value, expires }, None, false);
    }

    pub(super) fn provide(&mut self, cx: &mut Cx<'_, Self>, op: OpId, key: Key) {
        let expires = self.until(cx, self.config.lifetime);
        let peer = self.overlay.me();
        self.begin_put(cx, op, Record::Provider { key, peer, expires }, None, false);
    }

    /// This long from now, in seconds since the Unix epoch.
    pub(super) fn until(&self, cx: &Cx<'_, Self>, lifetime: Duration) -> u64 {
        cx.wall().saturating_add(lifetime).as_secs()
    }

    pub(super) fn begin_put(
        &mut self,
        cx: &mut Cx<'_, Self>,
        op: OpId,
        record: Record<O::Peer>,
        expected: Option<u64>,
        again: bool,
    ) {
        let fail = |cx: &mut Cx<'_, Self>, error| match again {
            true => {}
            false => cx.finish(op, DhtOutcome::Stored(Err(error))),
        };
        if let Err(invalid) = record.check() {
            return fail(cx, invalid.into());
        }
        if record.expires() > self.until(cx, self.config.max_lifetime)
            || record.expires() <= cx.wall().as_secs()
        {
            return fail(cx, InvalidRecord::Lifetime.into());
        }
        if self.puts.len() + self.gets.len() >= self.config.capacity {
            return fail(cx, PutError::Busy);
        }
        let (slot, size) = (record.slot(), record.size());
        if !self.index.has_room(&slot, size, &self.config) {
            return fail(cx, PutError::Full);
        }
        let put = Put {
            record,
            slot,
            expected,
            again,
            rounds_left: ROUNDS,
            tried: 0,
            located: Vec::new(),
            finding: 0,
            waiting: 0,
            failed: false,
            lookup_error: None,
            asked: Vec::new(),
            most: 0,
            stored: Vec::new(),
            refused: Vec::new(),
        };
        self.puts.insert(op, put);
        self.next_round(cx, op);
    }

    /// Looks the responsible nodes up. Who was not responsible may be now: nodes have come or gone, and they do not
    /// agree yet.
    pub(super) fn next_round(&mut self, cx: &mut Cx<'_, Self>, op: OpId) {
        let Some(put) = self.puts.get_mut(&op) else { return };
        let again = |peer: &O::Peer| put.refused.contains(&(*peer, Refusal::NotResponsible));
        put.asked.retain(|peer| !again(peer));
        put.refused.retain(|(_, refusal)| *refusal != Refusal::NotResponsible);
        put.rounds_left -= 1;
        put.failed = false;
        put.tried = 0;
        put.located.clear();
        self.locate_for_put(cx, op);
    }

    fn locate_for_put(&mut self, cx: &mut Cx<'_, Self>, op: OpId) {
        let Some(put) = self.puts.get(&op) else { return };
        let finds = self.finds(put.slot.key, self.config.replicas, put.tried, put.located.len());
        if let Some(put) = self.puts.get_mut(&op) {
            put.tried += finds.len();
            put.finding = finds.len();
        }
        self.look_up(cx, op, finds);
    }

    /// A lookup has ended.
    pub(super) fn put_located(&mut self, cx: &mut Cx<'_, Self>, op: OpId, looked: Looked<O::Peer>) {
        let Some(put) = self.puts.get_mut(&op) else { return };
        put.finding -= 1;
        match looked {
            Err(error) => put.lookup_error = Some(error),
            Ok(found) => {
                let mut new = found.peers;
                new.retain(|peer| !put.located.contains(peer));
                put.located.extend(&new);
                new.retain(|peer| !put.asked.contains(peer));
                put.asked.extend(&new);
                put.most = put.most.max(put.asked.len());
                put.waiting += new.len();
                for peer in new {
                    self.store_at(cx, op, peer);
                }
            }
        }
        if self.puts.get(&op).is_some_and(|put| put.finding == 0) {
            self.locate_for_put(cx, op);
        }
        self.advance_put(cx, op);
    }

    fn store_at(&mut self, cx: &mut Cx<'_, Self>, op: OpId, peer: O::Peer) {
        let Some(put) = self.puts.get(&op) else { return };
        let (record, expected) = (put.record.clone(), put.expected);
        let asked =
            self.ask(cx, peer, Question::Store(op), |id| DhtMsg::Store { id, record, expected, copy: false });
        if !asked {
            self.put_answered(cx, op, peer, Err(Refusal::Busy));
        }
    }

    /// A replica has answered, or will not.
    pub(super) fn put_answered(
        &mut self,
        cx: &mut Cx<'_, Self>,
        op: OpId,
        peer: O::Peer,
        result: Result<(), Refusal>,
    ) {
        let Some(put) = self.puts.get_mut(&op) else { return };
        put.waiting -= 1;
        match result {
            Ok(()) => put.stored.push(peer),
            Err(refusal) => {
                put.failed = true;
                put.refused.push((peer, refusal));
            }
        }
        self.advance_put(cx, op);
    }

    /// Ends the put, or looks for others in the place of those that failed.
    fn advance_put(&mut self, cx: &mut Cx<'_, Self>, op: OpId) {
        let Some(put) = self.puts.get(&op) else { return };
        if put.finding > 0 || put.waiting > 0 {
            return;
        }
        // One that speaks of a conflict may be lying, as long as enough others have stored it.
        let conflicts = put.refused.iter().filter_map(|(_, refusal)| match (refusal, put.slot.kind) {
            (Refusal::Conflict(sequence), RecordKind::Mutable) => Some(*sequence),
            _ => None,
        });
        let conflict = conflicts.max();
        let short = put.stored.len() < self.config.replicas.into();
        if put.failed && short && conflict.is_none() && put.rounds_left > 0 {
            let unsettled = put.refused.iter().any(|(_, refusal)| *refusal == Refusal::NotResponsible);
            return match unsettled {
                true => cx.set_timer(self.config.settle, DhtTimer::Again(op)),
                false => self.next_round(cx, op),
            };
        }
        let Some(put) = self.puts.remove(&op) else { return };
        let copies = put.stored.len();
        let needed = usize::from(self.config.write_quorum).min(put.most);
        let refusals: Vec<Refusal> = put.refused.iter().map(|(_, refusal)| *refusal).collect();
        let result = match (conflict, put.lookup_error) {
            (_, Some(error)) if copies == 0 => Err(error.into()),
            (Some(sequence), _) if copies < needed => Err(PutError::Conflict { sequence }),
            (None, _) if copies < needed => Err(PutError::Quorum { copies, needed, refusals }),
            _ => Ok(Stored { key: put.slot.key, copies, refusals }),
        };
        // What is published again may have been withdrawn meanwhile.
        if result.is_ok() && (!put.again || self.republished.contains_key(&put.slot)) {
            self.keep_own(cx, put.record, put.slot);
        }
        if put.again {
            return;
        }
        cx.finish(op, DhtOutcome::Stored(result));
    }
}
