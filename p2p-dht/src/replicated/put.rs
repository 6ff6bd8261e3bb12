//! Storing: the record goes to the nodes responsible for its key, until enough of them have synced it.

use std::time::Duration;

use bytes::Bytes;
use p2p_core::{Cx, JobError, Key, NoJob, OpId};
use p2p_overlay::{Found, Looked, LookupError, Overlay};

use super::{DhtMsg, DhtTimer, Question, Refusal, Replicated};
use crate::client::Client;
use crate::record::{InvalidRecord, Record, RecordKind, Slot};
use crate::request::{DhtOutcome, PutError, Said, Stored};
use crate::store::StoreEntry;

/// How often the responsible nodes are looked up, where some of those found did not keep the record, or too few were found
/// because lookups failed.
pub(super) const ROUNDS: u8 = 4;

/// A record on its way to its replicas: at most [`ROUNDS`] times [`DhtConfig::replicas`](super::DhtConfig) of them.
#[derive(Clone, Debug)]
pub(super) struct Put<P> {
    record: Record<P>,
    slot: Slot<P>,
    expected: Option<u64>,
    /// Who has it put, if that is not this node.
    client: Option<Client>,
    /// It is this node's to publish again, and has to be kept here for that.
    own: bool,
    /// Nobody waits for it: it is published again.
    again: bool,
    /// Whoever has asked for it has been told how it went, and it goes on.
    told: bool,
    /// Enough have it, and it is being written down here, to be published again; or why it could not be.
    keeping: bool,
    unkept: Option<JobError>,
    /// How many nodes must have it before it counts as stored; and whether its user waits for no more than that.
    quorum: usize,
    early: bool,
    rounds_left: u8,
    /// Who is taken to keep its key without a lookup.
    known: Vec<P>,
    at_known: bool,
    lookups: u32,
    /// How many lookups this round has begun, and whom they have found.
    tried: usize,
    located: Vec<P>,
    /// Lookups and answers that are still to come.
    finding: usize,
    waiting: usize,
    /// Somebody failed in this round; or a lookup did.
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
        let expires = self.until(cx, self.lifetime_of(op));
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
        self.begin_put_at(cx, op, record, expected, again, Vec::new());
    }

    /// Stores a record, at those who are `known` to keep its key if there are any.
    pub(super) fn begin_put_at(
        &mut self,
        cx: &mut Cx<'_, Self>,
        op: OpId,
        record: Record<O::Peer>,
        expected: Option<u64>,
        again: bool,
        known: Vec<O::Peer>,
    ) {
        let nobody = again && !self.swept.contains_key(&op);
        let fail = |this: &mut Self, cx: &mut Cx<'_, Self>, error| match nobody {
            true => {}
            false => this.end_call(cx, op, DhtOutcome::Stored(Err(error))),
        };
        if let Err(invalid) = record.check().and_then(|()| self.validators.check(&record)) {
            return fail(self, cx, invalid.into());
        }
        let too_long = match record {
            Record::Immutable { .. } | Record::Mutable(_) => {
                record.expires() > self.until(cx, self.config.max_lifetime)
            }
            Record::Provider { .. } | Record::Removable { .. } | Record::Custom(_) => {
                record.expires() > self.until(cx, self.config.lifetime)
            }
            // How long it lasts nobody chooses.
            Record::Removed { .. } => false,
        };
        if too_long || record.expires() <= cx.wall().as_secs() {
            return fail(self, cx, InvalidRecord::Lifetime.into());
        }
        if self.puts.len() + self.gets.len() >= self.config.capacity {
            return fail(self, cx, PutError::Busy);
        }
        let (slot, size) = (record.slot(), record.size());
        let client = self.client_of(op).filter(|_| !matches!(record, Record::Provider { .. }));
        let own = client.is_none() && !matches!(slot.kind, RecordKind::Removable(_));
        if own && !self.make_room(cx, &slot, size, 0) {
            return fail(self, cx, PutError::Full);
        }
        if let Some(client) = client
            && !self.has_room_for(cx, client, &record, slot)
        {
            return fail(self, cx, PutError::Share);
        }
        let put = Put {
            record,
            slot,
            expected,
            client,
            own,
            again,
            told: false,
            keeping: false,
            unkept: None,
            quorum: self.quorum_of(op, self.config.write_quorum),
            early: self.ends_early(op),
            rounds_left: if known.is_empty() { ROUNDS } else { 1 },
            at_known: !known.is_empty(),
            known,
            lookups: 0,
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

    /// Whether a client may have this put; then it has, whatever becomes of it: there may be copies of what has failed.
    fn has_room_for(
        &mut self,
        cx: &Cx<'_, Self>,
        client: Client,
        record: &Record<O::Peer>,
        slot: Slot<O::Peer>,
    ) -> bool {
        let (size, now) = (record.size(), cx.wall().as_secs());
        let account = self.clients.payer(&slot, size, client.account, &self.config);
        let has_room = self.clients.has_room(&slot, size, account, &self.config)
            && self.clients.is_turn(size, account, now, record.expires());
        if has_room {
            self.clients.put(&StoreEntry::new(record, slot, false, account));
        }
        has_room
    }

    /// Looks the responsible nodes up. Who was not responsible may be now: nodes have come or gone, and they do not
    /// agree yet. Who was busy may have time.
    pub(super) fn next_round(&mut self, cx: &mut Cx<'_, Self>, op: OpId) {
        let Some(put) = self.puts.get_mut(&op) else { return };
        let again = |peer: &O::Peer| put.refused.iter().any(|(other, why)| other == peer && passes(*why));
        put.asked.retain(|peer| !again(peer));
        put.refused.retain(|(_, refusal)| !passes(*refusal));
        put.rounds_left -= 1;
        (put.failed, put.lookup_error) = (false, None);
        put.tried = 0;
        put.located.clear();
        self.locate_for_put(cx, op);
    }

    fn locate_for_put(&mut self, cx: &mut Cx<'_, Self>, op: OpId) {
        let Some(put) = self.puts.get_mut(&op) else { return };
        if put.at_known && put.tried == 0 {
            (put.tried, put.finding) = (1, 1);
            let found =
                Found { peers: std::mem::take(&mut put.known), hops: 0, timeouts: 0, implausible: None };
            return self.put_located(cx, op, Ok(found));
        }
        let (key, tried, located) = (put.slot.key, put.tried, put.located.len());
        let finds = self.finds(key, self.config.replicas, tried, located);
        if let Some(put) = self.puts.get_mut(&op) {
            put.tried += finds.len();
            put.finding = finds.len();
            put.lookups += finds.len() as u32;
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
        let (record, expected, at_known) = (put.record.clone(), put.expected, put.at_known);
        self.note_asked(op, peer);
        let asked = self.ask(cx, peer, Question::Store(op), |id| match record {
            Record::Provider { key, expires, .. } if at_known => DhtMsg::Provide { id, key, expires },
            record => DhtMsg::Store { id, record, expected, copy: false },
        });
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
        let said = match result {
            Ok(()) => Said::Has,
            Err(Refusal::Silent) => Said::Silent,
            Err(refusal) => Said::Refuses(refusal),
        };
        match result {
            Ok(()) => put.stored.push(peer),
            Err(refusal) => {
                put.failed = true;
                put.refused.push((peer, refusal));
            }
        }
        self.note_said(op, peer, said);
        if self.puts.get(&op).is_some_and(|put| put.early && put.stored.len() >= put.quorum) {
            self.conclude_put(cx, op);
        }
        self.advance_put(cx, op);
    }

    /// Ends the put, or looks for others in the place of those that failed.
    fn advance_put(&mut self, cx: &mut Cx<'_, Self>, op: OpId) {
        let Some(put) = self.puts.get_mut(&op) else { return };
        if put.finding > 0 || put.waiting > 0 || put.keeping {
            return;
        }
        let short = put.failed && put.stored.len() < self.config.replicas.into();
        let lost = may_pass(put.lookup_error) && put.stored.len() < put.quorum;
        if (short || lost) && put.conflict().is_none() && put.rounds_left > 0 {
            let unsettled = put.refused.iter().any(|(_, refusal)| passes(*refusal));
            return match unsettled || lost {
                true => cx.set_timer(self.config.settle, DhtTimer::Again(op)),
                false => self.next_round(cx, op),
            };
        }
        // What is published again may have been withdrawn meanwhile.
        let kept = !put.again || self.republished.contains_key(&put.slot);
        if kept && put.own && put.result().is_ok() {
            put.keeping = true;
            let (record, slot) = (put.record.clone(), put.slot);
            return self.keep_own(cx, op, record, slot);
        }
        self.end_put(cx, op);
    }

    /// What this node has put is written down, to be published again, or cannot be.
    pub(super) fn own_kept(&mut self, cx: &mut Cx<'_, Self>, op: OpId, unkept: Option<JobError>) {
        if let Some(put) = self.puts.get_mut(&op) {
            put.unkept = unkept;
            self.end_put(cx, op);
        }
    }

    fn end_put(&mut self, cx: &mut Cx<'_, Self>, op: OpId) {
        self.conclude_put(cx, op);
        self.puts.remove(&op);
    }

    /// Tells whoever has asked for it how a put has gone, once.
    pub(super) fn conclude_put(&mut self, cx: &mut Cx<'_, Self>, op: OpId) {
        let waited_for = |put: &&Put<O::Peer>| !put.again || self.swept.contains_key(&op);
        let Some(put) = self.puts.get(&op).filter(|put| !put.told).filter(waited_for) else { return };
        let result = put.result();
        if let Some(put) = self.puts.get_mut(&op) {
            put.told = true;
        }
        self.end_call(cx, op, DhtOutcome::Stored(result));
    }
}

/// Whether lookups have failed that another time may not: who knows nobody finds nobody.
pub(super) fn may_pass(error: Option<LookupError>) -> bool {
    error.is_some_and(|error| error != LookupError::NotJoined)
}

/// Whether whoever refuses a record so may take it a little later.
fn passes(refusal: Refusal) -> bool {
    matches!(refusal, Refusal::NotResponsible | Refusal::Busy)
}

impl<P: Copy> Put<P> {
    /// Whether somebody has refused the record for this reason.
    pub(super) fn was_refused(&self, why: Refusal) -> bool {
        self.refused.iter().any(|(_, refusal)| *refusal == why)
    }

    pub(super) fn client(&self) -> Option<Client> {
        self.client
    }

    /// Who was found to keep the key, in the last round.
    pub(super) fn keepers(&self) -> Vec<P> {
        self.located.clone()
    }

    pub(super) fn lookups(&self) -> u32 {
        self.lookups
    }

    /// How a put has gone so far.
    fn result(&self) -> Result<Stored, PutError> {
        // Where there are fewer nodes, all of them: as far as they have been looked for, and the last lookups say so.
        let all_known = self.finding == 0 && self.lookup_error.is_none();
        let most = if all_known { self.most.max(1) } else { usize::MAX };
        let (copies, needed) = (self.stored.len(), self.quorum.min(most));
        let mut refusals: Vec<Refusal> = self.refused.iter().map(|(_, refusal)| *refusal).collect();
        refusals.extend(std::iter::repeat_n(Refusal::Silent, self.waiting));
        if let Some(why) = self.unkept {
            return Err(PutError::Storage(why));
        }
        match (self.conflict(), self.lookup_error) {
            (_, Some(error)) if copies == 0 => Err(error.into()),
            (Some(sequence), _) if copies < needed => Err(match self.slot.kind {
                RecordKind::Removable(_) => PutError::Removed,
                RecordKind::Immutable
                | RecordKind::Mutable
                | RecordKind::Provider(_)
                | RecordKind::Custom(_) => PutError::Conflict { sequence },
            }),
            (None, _) if copies < needed => Err(PutError::Quorum { copies, needed, refusals }),
            _ => Ok(Stored { key: self.slot.key, copies, refusals }),
        }
    }

    /// The sequence number that speaks against it. One that speaks of a conflict may be lying, as long as enough others
    /// have stored it.
    fn conflict(&self) -> Option<u64> {
        let conflicts = self.refused.iter().filter_map(|(_, refusal)| match (refusal, self.slot.kind) {
            (
                Refusal::Conflict(sequence),
                RecordKind::Mutable | RecordKind::Removable(_) | RecordKind::Custom(_),
            ) => Some(*sequence),
            _ => None,
        });
        conflicts.max()
    }
}
