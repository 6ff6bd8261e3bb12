//! Reading: the nodes responsible for a key are asked, until one has the value, or enough have said what they have.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use p2p_core::{Cx, Key, NoJob, OpId};
use p2p_overlay::{Looked, LookupError, MAX_REPLICAS, Overlay};

use super::put::{ROUNDS, may_pass};
use super::{DhtMsg, DhtTimer, Question, Replicated, Wanted};
use crate::record::{Record, RecordKind};
use crate::request::{DhtItem, DhtOutcome, GetError, Newest, Said};

/// A key whose replicas are being asked.
#[derive(Clone, Debug)]
pub(super) struct Get<P> {
    key: Key,
    wanted: Wanted,
    /// Only this node itself has been asked.
    here: bool,
    /// Whoever has it on the way to it has been asked, and nobody else.
    fetching: bool,
    /// How many lookups have begun, how many are still to end, and whom they have found.
    tried: usize,
    finding: usize,
    located: Vec<P>,
    lookup_error: Option<LookupError>,
    rounds_left: u8,
    /// To be asked, the first last.
    peers: Vec<P>,
    waiting: usize,
    silent: usize,
    /// Who has answered, with the sequence number of what it has.
    answered: Vec<(P, Option<u64>)>,
    newest: Option<Newest>,
    providers: Vec<P>,
    /// Values that can be removed, by where they are kept; and which were. Of each as many as a replica gives, at most.
    values: BTreeMap<RecordKind<P>, Bytes>,
    removed: BTreeSet<RecordKind<P>>,
}

impl<P: Ord> Get<P> {
    /// The values that nobody has removed.
    fn there(&self) -> impl Iterator<Item = &Bytes> {
        let there = self.values.iter().filter(|(kind, _)| !self.removed.contains(kind));
        there.map(|(_, value)| value)
    }

    /// Notes a value with a sequence number, if that is the highest.
    fn offer(&mut self, value: Newest) {
        if self.newest.as_ref().is_none_or(|newest| newest.sequence() < value.sequence()) {
            self.newest = Some(value);
        }
    }

    /// How many peers have been asked.
    fn asked(&self) -> usize {
        self.answered.len() + self.waiting + self.silent
    }

    /// How many must answer: where there are fewer nodes, all of them, as far as they have been looked for and the last lookups
    /// say so.
    fn needed(&self, quorum: usize) -> usize {
        match self.finding == 0 && self.lookup_error.is_none() {
            true => quorum.min(self.asked()),
            false => quorum,
        }
    }

    /// Whether only the newest that a quorum has counts.
    fn is_versioned(&self) -> bool {
        match self.wanted {
            Wanted::Mutable | Wanted::Custom(_) => true,
            Wanted::Immutable | Wanted::Providers | Wanted::Values => false,
        }
    }
}

impl<O: Overlay<Job = NoJob>> Replicated<O> {
    pub(super) fn begin_get(&mut self, cx: &mut Cx<'_, Self>, op: OpId, key: Key, wanted: Wanted) {
        let get = Get {
            key,
            wanted,
            // What is here, and cannot be outdated, need not be looked for.
            here: wanted == Wanted::Immutable && !self.index.of(key, wanted, 1).is_empty(),
            fetching: false,
            tried: 0,
            finding: 0,
            located: Vec::new(),
            lookup_error: None,
            rounds_left: ROUNDS - 1,
            peers: Vec::new(),
            waiting: 0,
            silent: 0,
            answered: Vec::new(),
            newest: None,
            providers: Vec::new(),
            values: BTreeMap::new(),
            removed: BTreeSet::new(),
        };
        if self.puts.len() + self.gets.len() >= self.config.capacity {
            return self.finish_get(cx, op, &get, Err(GetError::Busy));
        }
        if wanted == Wanted::Immutable
            && let Some(cached) = self.passing.cache.get(&key, cx.now(), cx.wall().as_secs())
        {
            let value = cached.value.clone();
            return self.finish_get(cx, op, &get, Ok(Some(value)));
        }
        let here = get.here;
        self.gets.insert(op, get);
        if here {
            return self.load_at(cx, op, self.overlay.me());
        }
        if wanted == Wanted::Immutable && self.fetch(cx, op, key) {
            if let Some(get) = self.gets.get_mut(&op) {
                (get.fetching, get.waiting) = (true, 1);
            }
            return;
        }
        self.locate_for_get(cx, op);
    }

    /// What a get that has asked along the way wants.
    pub(super) fn fetching(&self, op: OpId) -> Option<Key> {
        self.gets.get(&op).filter(|get| get.fetching).map(|get| get.key)
    }

    /// Whoever was asked along the way has answered, or has not.
    pub(super) fn fetch_ended(&mut self, cx: &mut Cx<'_, Self>, op: OpId, value: Option<Bytes>) {
        let Some(get) = self.gets.get_mut(&op).filter(|get| get.fetching) else { return };
        (get.fetching, get.waiting) = (false, 0);
        match value {
            None => self.locate_for_get(cx, op),
            Some(value) => {
                if let Some(get) = self.gets.remove(&op) {
                    self.finish_get(cx, op, &get, Ok(Some(value)));
                }
            }
        }
    }

    /// Lookups have failed, and too few peers were found: looks once more.
    pub(super) fn next_look(&mut self, cx: &mut Cx<'_, Self>, op: OpId) {
        let Some(get) = self.gets.get_mut(&op) else { return };
        get.rounds_left -= 1;
        (get.tried, get.lookup_error) = (0, None);
        self.locate_for_get(cx, op);
        self.advance_get(cx, op);
    }

    fn locate_for_get(&mut self, cx: &mut Cx<'_, Self>, op: OpId) {
        let Some(get) = self.gets.get(&op) else { return };
        // A value may still be where it was before nodes came in between.
        let n = match get.wanted {
            Wanted::Immutable => self.config.replicas.saturating_mul(2).min(MAX_REPLICAS),
            Wanted::Mutable | Wanted::Providers | Wanted::Values | Wanted::Custom(_) => self.config.replicas,
        };
        let finds = self.finds(get.key, n, get.tried, get.located.len());
        if let Some(get) = self.gets.get_mut(&op) {
            get.tried += finds.len();
            get.finding = finds.len();
        }
        self.look_up(cx, op, finds);
    }

    pub(super) fn get_located(&mut self, cx: &mut Cx<'_, Self>, op: OpId, looked: Looked<O::Peer>) {
        let Some(get) = self.gets.get_mut(&op) else { return };
        get.finding -= 1;
        match looked {
            Err(error) => get.lookup_error = Some(error),
            Ok(found) => {
                let mut new = found.peers;
                new.retain(|peer| !get.located.contains(peer));
                get.located.extend(&new);
                get.peers.extend(new.into_iter().rev());
            }
        }
        if get.finding == 0 {
            self.locate_for_get(cx, op);
        }
        self.advance_get(cx, op);
    }

    fn load_at(&mut self, cx: &mut Cx<'_, Self>, op: OpId, peer: O::Peer) {
        let Some(get) = self.gets.get_mut(&op) else { return };
        get.waiting += 1;
        let (key, wanted) = (get.key, get.wanted);
        self.note_asked(op, peer);
        if !self.ask(cx, peer, Question::Load(op), |id| DhtMsg::Load { id, key, wanted }) {
            self.get_silent(cx, op, peer);
        }
    }

    pub(super) fn get_silent(&mut self, cx: &mut Cx<'_, Self>, op: OpId, peer: O::Peer) {
        self.note_said(op, peer, Said::Silent);
        let Some(get) = self.gets.get_mut(&op) else { return };
        get.waiting -= 1;
        get.silent += 1;
        self.advance_get(cx, op);
    }

    pub(super) fn get_answered(
        &mut self,
        cx: &mut Cx<'_, Self>,
        op: OpId,
        from: O::Peer,
        records: Vec<Record<O::Peer>>,
    ) {
        self.note_said(op, from, if records.is_empty() { Said::Lacks } else { Said::Has });
        let Some(get) = self.gets.get_mut(&op) else { return };
        get.waiting -= 1;
        let now = cx.wall().as_secs();
        let mut sequence = None;
        // No single replica fills the list of providers.
        let most = match get.wanted {
            Wanted::Values => self.config.max_providers,
            Wanted::Immutable | Wanted::Mutable | Wanted::Providers | Wanted::Custom(_) => {
                self.config.max_providers.div_ceil(2)
            }
        };
        for record in records.into_iter().take(most) {
            match (get.wanted, record) {
                (Wanted::Immutable, Record::Immutable { value, expires }) if Key::of(&value) == get.key => {
                    let Some(get) = self.gets.remove(&op) else { return };
                    self.forget_finds(cx, op);
                    self.give_who_lacks(cx, &get, &value, expires);
                    return self.finish_get(cx, op, &get, Ok(Some(value)));
                }
                (Wanted::Mutable, Record::Mutable(signed))
                    if signed.key() == get.key && signed.expires() > now && signed.is_genuine() =>
                {
                    sequence = Some(signed.sequence());
                    get.offer(Newest::Signed(signed));
                }
                (Wanted::Custom(namespace), Record::Custom(custom))
                    if (custom.namespace, custom.key) == (namespace, get.key)
                        && custom.expires > now
                        && self.validators.check_custom(&custom).is_ok() =>
                {
                    sequence = Some(custom.sequence);
                    get.offer(Newest::Custom(custom));
                }
                (Wanted::Providers, Record::Provider { key, peer, .. }) if key == get.key => {
                    let many = get.providers.len() >= self.config.max_providers;
                    if !many && !get.providers.contains(&peer) {
                        get.providers.push(peer);
                        cx.item(op, DhtItem::Provider(peer));
                    }
                }
                (Wanted::Values, record @ (Record::Removable { key, .. } | Record::Removed { key, .. }))
                    if key == get.key && record.expires() > now && record.check().is_ok() =>
                {
                    let kind = record.slot().kind;
                    match record {
                        Record::Removable { value, .. } => drop(get.values.insert(kind, value)),
                        _ => drop(get.removed.insert(kind)),
                    }
                }
                // Not what was asked for.
                _ => {}
            }
        }
        get.answered.push((from, sequence));
        self.advance_get(cx, op);
    }

    /// Asks the next peers, or ends the get.
    fn advance_get(&mut self, cx: &mut Cx<'_, Self>, op: OpId) {
        let replicas = usize::from(self.config.replicas);
        let at_once = match self.gets.get(&op).map(|get| get.wanted) {
            Some(Wanted::Immutable) => self.config.parallel.max(1).into(),
            _ => replicas,
        };
        while let Some(get) = self.gets.get_mut(&op)
            && get.waiting < at_once
            && let Some(peer) = get.peers.pop()
        {
            self.load_at(cx, op, peer);
        }
        let (quorum_of, early) = (self.quorum_of(op, self.config.read_quorum), self.ends_early(op));
        let Some(get) = self.gets.get_mut(&op) else { return };
        let quorum = match get.wanted {
            Wanted::Immutable => false,
            Wanted::Mutable | Wanted::Custom(_) => true,
            Wanted::Providers | Wanted::Values => early,
        };
        let needed = get.needed(quorum_of);
        let answered = get.answered.len();
        let all_known = get.finding == 0 && needed > 0;
        let enough = quorum && (all_known && answered >= needed || early && answered >= quorum_of);
        if (get.finding > 0 || get.waiting > 0) && !enough {
            return;
        }
        if std::mem::take(&mut get.here) {
            // It was not here after all.
            get.answered.clear();
            return self.locate_for_get(cx, op);
        }
        let lost = get.is_versioned() && may_pass(get.lookup_error) && get.asked() < quorum_of;
        if lost && get.rounds_left > 0 {
            return cx.set_timer(self.config.settle, DhtTimer::Again(op));
        }
        self.conclude_get(cx, op);
    }

    /// The time that its user gives a get is over: who has not answered is silent.
    pub(super) fn get_overdue(&mut self, cx: &mut Cx<'_, Self>, op: OpId) {
        if let Some(get) = self.gets.get_mut(&op) {
            get.silent += std::mem::take(&mut get.waiting);
            self.conclude_get(cx, op);
        }
    }

    /// Ends a get with what there is.
    fn conclude_get(&mut self, cx: &mut Cx<'_, Self>, op: OpId) {
        let quorum = self.quorum_of(op, self.config.read_quorum);
        let Some(get) = self.gets.remove(&op) else { return };
        self.forget_finds(cx, op);
        let needed = get.needed(quorum);
        let (answered, silent) = (get.answered.len(), get.silent);
        let lookup_error = match get.asked() {
            0 => get.lookup_error.or(Some(LookupError::NoAnswer { timeouts: 0 })),
            _ => get.lookup_error,
        };
        let result = match lookup_error {
            Some(error) if answered == 0 => Err(error.into()),
            _ if get.is_versioned() && answered < needed => {
                let newest = get.newest.clone().map(Box::new);
                Err(GetError::Partial { answered, needed, silent, newest })
            }
            _ if get.newest.is_none() && get.providers.is_empty() && get.there().next().is_none() => {
                Err(GetError::NotFound { answered, silent })
            }
            _ => Ok(None),
        };
        self.renew_the_outdated(cx, &get);
        self.finish_get(cx, op, &get, result);
    }

    /// Replicas that gave an older value than others, or none, get the newest.
    fn renew_the_outdated(&mut self, cx: &mut Cx<'_, Self>, get: &Get<O::Peer>) {
        let Some(newest) = &get.newest else { return };
        for (peer, sequence) in &get.answered {
            if sequence.is_none_or(|sequence| sequence < newest.sequence()) {
                let record = match newest.clone() {
                    Newest::Signed(signed) => Record::Mutable(signed),
                    Newest::Custom(custom) => Record::Custom(custom),
                };
                // The answer is of no interest: the number stands for no question.
                self.tell(cx, *peer, DhtMsg::Store { id: u32::MAX, record, expected: None, copy: true });
            }
        }
    }

    /// Those among the replicas that were asked first and do not have a value get it.
    fn give_who_lacks(&mut self, cx: &mut Cx<'_, Self>, get: &Get<O::Peer>, value: &Bytes, expires: u64) {
        let replicas = get.located.iter().take(self.config.replicas.into());
        for peer in replicas.filter(|peer| get.answered.iter().any(|(answered, _)| answered == *peer)) {
            let record = Record::Immutable { value: value.clone(), expires };
            self.tell(cx, *peer, DhtMsg::Store { id: u32::MAX, record, expected: None, copy: true });
        }
    }

    fn finish_get(
        &mut self,
        cx: &mut Cx<'_, Self>,
        op: OpId,
        get: &Get<O::Peer>,
        result: Result<Option<Bytes>, GetError>,
    ) {
        let not_found = GetError::NotFound { answered: get.answered.len(), silent: get.silent };
        let outcome = match get.wanted {
            Wanted::Immutable => DhtOutcome::Value(result.and_then(|value| value.ok_or(not_found))),
            Wanted::Mutable => DhtOutcome::Signed(result.and_then(|_| match get.newest.clone() {
                Some(Newest::Signed(signed)) => Ok(signed),
                Some(Newest::Custom(_)) | None => Err(not_found),
            })),
            Wanted::Custom(_) => DhtOutcome::Custom(result.and_then(|_| match get.newest.clone() {
                Some(Newest::Custom(custom)) => Ok(custom),
                Some(Newest::Signed(_)) | None => Err(not_found),
            })),
            Wanted::Providers => DhtOutcome::Providers(result.map(|_| get.providers.clone())),
            Wanted::Values => DhtOutcome::Values(result.map(|_| get.there().cloned().collect())),
        };
        self.end_call(cx, op, outcome);
    }
}
