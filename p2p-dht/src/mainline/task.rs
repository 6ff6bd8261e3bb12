//! What users ask: a task, of a lookup in each network, and then perhaps of writes to the nodes that were found.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use bytes::Bytes;
use p2p_core::{Cx, Key, OpId, PeerId, Time};

use super::item::{MutableItem, target_of, value_fits};
use super::krpc::{Node, PutItem, Query, Response};
use super::request::{MainlineCommand, MainlineError, MainlineOutcome, Refused, StoredAt};
use super::saved::SavedTable;
use super::seek::{LOOKUPS, MAX_PEERS};
use super::upkeep::Published;
use super::{Endpoint, Mainline, Question, StatusReport};

/// Something under way.
#[derive(Clone, Debug)]
pub(super) struct Task {
    /// Who waits for it; nobody, if it publishes again.
    pub(super) op: Option<OpId>,
    pub(super) what: What,
    pub(super) lookups: usize,
    /// Writes that wait for an answer.
    pub(super) writes: usize,
    /// Nodes that have answered.
    pub(super) answered: usize,
    stored: usize,
    refused: Vec<Refused>,
    /// Whether the item is to be published once it has been exchanged for what was there.
    publish: bool,
}

#[derive(Clone, Debug)]
pub(super) enum What {
    Find(Vec<Node>),
    Peers(BTreeSet<SocketAddr>),
    Announce { info_hash: Key<20>, port: Option<u16>, found: BTreeSet<SocketAddr> },
    GetImmutable { target: Key<20>, found: Option<Bytes> },
    GetMutable { publisher: PeerId, salt: Bytes, found: Option<MutableItem> },
    Put { item: PutItem, newest: Option<i64> },
}

impl What {
    fn is_put_at(&self, target: &Key<20>) -> bool {
        matches!(self, What::Put { item, .. } if item.target() == *target)
    }

    /// Whether something was found, by this node alone perhaps.
    fn has_found(&self) -> bool {
        match self {
            What::Find(nodes) => !nodes.is_empty(),
            What::Peers(found) => !found.is_empty(),
            What::GetImmutable { found, .. } => found.is_some(),
            What::GetMutable { found, .. } => found.is_some(),
            What::Announce { .. } | What::Put { .. } => false,
        }
    }

    fn target(&self, of: Key<20>) -> Key<20> {
        match self {
            What::Find(_) | What::Peers(_) => of,
            What::Announce { info_hash, .. } => *info_hash,
            What::GetImmutable { target, .. } => *target,
            What::GetMutable { publisher, salt, .. } => MutableItem::target_of(publisher, salt),
            What::Put { item, .. } => item.target(),
        }
    }
}

impl PutItem {
    /// Whether it may only take the place of a certain one.
    fn compares(&self) -> bool {
        matches!(self, PutItem::Mutable { cas: Some(_), .. })
    }

    /// Where it is kept.
    pub(super) fn target(&self) -> Key<20> {
        match self {
            PutItem::Immutable(value) => target_of(value),
            PutItem::Mutable { item, .. } => item.target(),
        }
    }

    /// Its sequence number, if it is signed.
    pub(super) fn sequence(&self) -> Option<i64> {
        match self {
            PutItem::Immutable(_) => None,
            PutItem::Mutable { item, .. } => Some(item.sequence()),
        }
    }
}

impl<P: Endpoint> Mainline<P> {
    pub(super) fn command(&mut self, cx: &mut Cx<'_, Self>, op: OpId, command: MainlineCommand) {
        let what = match command {
            MainlineCommand::FindNode { target } => {
                return self.begin(cx, Some(op), target, What::Find(Vec::new()));
            }
            MainlineCommand::GetPeers { info_hash } => {
                return self.begin(cx, Some(op), info_hash, What::Peers(BTreeSet::new()));
            }
            MainlineCommand::Announce { info_hash, port } => {
                if !self.may_publish(cx, op, info_hash) {
                    return;
                }
                self.published.insert(info_hash, Published::announced(cx.now(), &self.config, port));
                What::Announce { info_hash, port, found: BTreeSet::new() }
            }
            MainlineCommand::Put { item } => {
                let checked = match &item {
                    PutItem::Immutable(value) => value_fits(value),
                    PutItem::Mutable { item, .. } => item.fits(),
                };
                if let Err(why) = checked {
                    return cx.finish(op, MainlineOutcome::Stored(Err(MainlineError::Invalid(why))));
                }
                if !self.may_publish(cx, op, item.target()) {
                    return;
                }
                if !item.compares() {
                    self.publish(cx.now(), item.clone());
                }
                What::Put { item, newest: None }
            }
            MainlineCommand::GetImmutable { target } => What::GetImmutable { target, found: None },
            MainlineCommand::GetMutable { publisher, salt } => {
                What::GetMutable { publisher, salt, found: None }
            }
            MainlineCommand::Unpublish { target } => {
                self.published.remove(&target);
                for task in self.tasks.values_mut().filter(|task| task.what.is_put_at(&target)) {
                    task.publish = false;
                }
                return cx.finish(op, MainlineOutcome::Done);
            }
            MainlineCommand::KnowNode { addr } => {
                let peer = self.peer_at(addr);
                if self.is_reachable(addr) {
                    self.ask(cx, peer, Query::Ping, Question::Ping);
                }
                return cx.finish(op, MainlineOutcome::Done);
            }
            MainlineCommand::Sample { node, target } => {
                let query = Query::SampleInfohashes { target, want: None };
                let peer = self.peer_at(node);
                if !self.is_reachable(node) || !self.ask(cx, peer, query, Question::Sample(op)) {
                    cx.finish(op, MainlineOutcome::Samples(Err(MainlineError::Busy)));
                }
                return;
            }
            MainlineCommand::Status => {
                let report = Box::new(self.status());
                return cx.finish(op, MainlineOutcome::Status(report));
            }
            MainlineCommand::Save => {
                let saved = self.saved();
                return cx.finish(op, MainlineOutcome::Saved(saved));
            }
        };
        self.begin(cx, Some(op), Key::ZERO, what);
    }

    /// Whether no more tasks may begin.
    fn is_busy(&self) -> bool {
        self.tasks.len() >= self.config.tasks || self.lookups.len() + 2 > LOOKUPS
    }

    /// Whether one more may be published, beside those that are about to be; if not, that ends the command.
    fn may_publish(&self, cx: &mut Cx<'_, Self>, op: OpId, target: Key<20>) -> bool {
        let soon = self.tasks.values().filter(|task| task.publish).count();
        let has_room =
            self.published.len() + soon < self.config.published || self.published.contains_key(&target);
        let why_not = match (has_room, self.is_busy()) {
            (false, _) => MainlineError::Full,
            (true, true) => MainlineError::Busy,
            (true, false) => return true,
        };
        cx.finish(op, MainlineOutcome::Stored(Err(why_not)));
        false
    }

    /// Notes an item that is to be published again, unless a newer one is.
    fn publish(&mut self, now: Time, item: PutItem) {
        let target = item.target();
        if self.published.get(&target).is_none_or(|published| published.sequence() <= item.sequence()) {
            self.published.insert(target, Published::put(now, &self.config, item));
        }
    }

    /// Publishes something again, for nobody in particular.
    pub(super) fn publish_again(&mut self, cx: &mut Cx<'_, Self>, target: Key<20>, published: &Published) {
        let what = match published {
            Published::Peer { port, .. } => {
                What::Announce { info_hash: target, port: *port, found: BTreeSet::new() }
            }
            Published::Item { item, .. } => What::Put { item: item.clone(), newest: None },
        };
        self.begin(cx, None, target, what);
    }

    fn begin(&mut self, cx: &mut Cx<'_, Self>, op: Option<OpId>, target: Key<20>, what: What) {
        let target = what.target(target);
        let number = self.next_number();
        let publish = matches!(&what, What::Put { item, .. } if item.compares());
        let (lookups, writes, answered, stored, refused) = (0, 0, 0, 0, Vec::new());
        let mut task = Task { op, what, lookups, writes, answered, stored, refused, publish };
        if self.is_busy() {
            return task.fail(cx, MainlineError::Busy);
        }
        let networks: Vec<bool> = [false, true].into_iter().filter(|v6| self.side(*v6).is_some()).collect();
        task.lookups = networks.len();
        self.tasks.insert(number, task);
        // This node may be among those that keep it.
        let kept = self.kept(cx, &target);
        if self.read(cx, number, true, &kept) {
            return self.end(cx, number);
        }
        for v6 in networks {
            self.look_up(cx, target, v6, Some(number));
        }
        // A node in neither network has nobody to ask.
        self.end_if_done(cx, number);
    }

    /// What this node would answer itself.
    fn kept(&self, cx: &mut Cx<'_, Self>, target: &Key<20>) -> Response {
        let now = cx.now();
        let mut peers = |v6| self.store.peers(now, target, v6, MAX_PEERS, cx.rng());
        let values = [peers(false), peers(true)].concat();
        self.with_item(Response { values, ..Response::new(Key::ZERO) }, now, target, None)
    }

    /// A node has stored something, or has not.
    pub(super) fn on_stored(
        &mut self,
        cx: &mut Cx<'_, Self>,
        number: u64,
        result: Result<(), Option<Refused>>,
    ) {
        let Some(task) = self.tasks.get_mut(&number) else { return };
        task.writes = task.writes.saturating_sub(1);
        match result {
            Ok(()) => task.stored += 1,
            Err(refused) => task.refused.extend(refused),
        }
        self.end_if_done(cx, number);
    }

    pub(super) fn on_sampled(&mut self, cx: &mut Cx<'_, Self>, op: OpId, response: &Response) {
        let samples = response.samples.clone().ok_or(MainlineError::NoAnswer);
        cx.finish(op, MainlineOutcome::Samples(samples));
    }

    pub(super) fn end_if_done(&mut self, cx: &mut Cx<'_, Self>, number: u64) {
        if self.tasks.get(&number).is_some_and(|task| task.lookups == 0 && task.writes == 0) {
            self.end(cx, number);
        }
    }

    pub(super) fn end(&mut self, cx: &mut Cx<'_, Self>, number: u64) {
        let Some(task) = self.tasks.remove(&number) else { return };
        self.lookups.retain(|_, lookup| lookup.task != Some(number));
        if let What::Put { item, newest } = &task.what {
            let target = item.target();
            let published = self.published.get(&target).and_then(Published::sequence);
            if published.is_some_and(|published| newest.is_some_and(|newest| newest > published)) {
                // Somebody has published a newer one than this node does: its own is over.
                self.published.remove(&target);
            }
            if task.publish && task.stored > 0 && !task.conflicts() {
                self.publish(cx.now(), item.clone());
            }
        }
        task.finish(cx);
    }

    /// Whoever asked is gone. What was to be published still is.
    pub(super) fn cancel(&mut self, op: OpId) {
        let number = self.tasks.iter().find(|(_, task)| task.op == Some(op)).map(|(number, _)| *number);
        let Some(number) = number else { return };
        let Some(task) = self.tasks.get_mut(&number) else { return };
        task.op = None;
        if !matches!(task.what, What::Announce { .. } | What::Put { .. }) {
            self.tasks.remove(&number);
            self.lookups.retain(|_, lookup| lookup.task != Some(number));
        }
    }

    fn status(&self) -> StatusReport {
        let of = |v6: bool| self.side(v6);
        StatusReport {
            ids: [false, true].map(|v6| self.id(v6)),
            nodes: [false, true].map(|v6| self.known(v6)),
            external: [false, true].map(|v6| of(v6).and_then(|side| side.external)),
            estimate: [false, true]
                .map(|v6| of(v6).and_then(|side| side.sizes.estimate()).map(|size| size as u64)),
            torrents: self.store.torrents(),
            items: self.store.items(),
            published: self.published.len(),
            port: self.config.port,
        }
    }

    fn saved(&self) -> SavedTable {
        let nodes = self.sides.iter().flatten().flat_map(|side| side.table.nodes());
        SavedTable { ids: [false, true].map(|v6| self.id(v6)), nodes: nodes.collect() }
    }
}

/// Whether a newer one is there, or not the one that was to be replaced.
pub(super) fn is_outdated(item: &PutItem, newest: Option<i64>) -> bool {
    let (Some(newest), PutItem::Mutable { item, cas }) = (newest, item) else { return false };
    newest > item.sequence() || cas.is_some_and(|cas| cas != newest)
}

impl Task {
    fn fail<P: Endpoint>(self, cx: &mut Cx<'_, Mainline<P>>, why: MainlineError) {
        let Some(op) = self.op else { return };
        cx.finish(
            op,
            match self.what {
                What::Find(_) => MainlineOutcome::Nodes(Err(why)),
                What::Peers(_) => MainlineOutcome::Peers(Err(why)),
                What::Announce { .. } | What::Put { .. } => MainlineOutcome::Stored(Err(why)),
                What::GetImmutable { .. } => MainlineOutcome::Immutable(Err(why)),
                What::GetMutable { .. } => MainlineOutcome::Mutable(Err(why)),
            },
        );
    }

    /// Whether another item is there than the one that this was to replace.
    fn conflicts(&self) -> bool {
        let is_conflict = |refused: &Refused| matches!(refused.code, 301 | 302);
        matches!(&self.what, What::Put { item, newest } if is_outdated(item, *newest))
            || self.refused.iter().any(is_conflict)
    }

    fn finish<P: Endpoint>(self, cx: &mut Cx<'_, Mainline<P>>) {
        let Some(op) = self.op else { return };
        let answered = self.answered;
        if answered == 0 && !self.what.has_found() {
            return self.fail(cx, MainlineError::NotJoined);
        }
        let (not_found, conflicts) = (MainlineError::NotFound { answered }, self.conflicts());
        let outcome = match self.what {
            What::Find(nodes) => MainlineOutcome::Nodes(Ok(nodes)),
            What::Peers(found) if found.is_empty() => MainlineOutcome::Peers(Err(not_found)),
            What::Peers(found) => MainlineOutcome::Peers(Ok(found.into_iter().collect())),
            What::GetImmutable { found, .. } => MainlineOutcome::Immutable(found.ok_or(not_found)),
            What::GetMutable { found, .. } => MainlineOutcome::Mutable(found.ok_or(not_found)),
            What::Announce { info_hash, .. } => {
                MainlineOutcome::Stored(stored(info_hash, self.stored, self.refused, None))
            }
            What::Put { item, newest } => {
                let conflict = conflicts.then(|| newest.or(item.sequence()));
                MainlineOutcome::Stored(stored(item.target(), self.stored, self.refused, conflict))
            }
        };
        cx.finish(op, outcome);
    }
}

fn stored(
    target: Key<20>,
    nodes: usize,
    refused: Vec<Refused>,
    conflict: Option<Option<i64>>,
) -> Result<StoredAt, MainlineError> {
    match (conflict, nodes) {
        (Some(sequence), _) => Err(MainlineError::Conflict { sequence, nodes }),
        (None, 0) => Err(MainlineError::NotStored { refused }),
        (None, nodes) => Ok(StoredAt { target, nodes, refused }),
    }
}
