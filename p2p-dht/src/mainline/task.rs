//! What users ask: a task, of a lookup in each network, and then perhaps of writes to the nodes that were found.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use bytes::Bytes;
use p2p_core::{Cx, Key, OpId, PeerId};

use super::id::{is_local, is_somewhere};
use super::item::{MutableItem, target_of, value_fits};
use super::krpc::{Node, PutItem, Query, Response, Want};
use super::lookup::{Lookup, State};
use super::request::{MainlineCommand, MainlineError, MainlineItem, MainlineOutcome, Refused, StoredAt};
use super::saved::SavedTable;
use super::table::K;
use super::upkeep::Published;
use super::{Endpoint, Mainline, Question, StatusReport};

/// Lookups at once, those for upkeep among them.
const LOOKUPS: usize = 512;
/// Peers of one torrent that a task finds: fewer than may wait to be read.
const MAX_PEERS: usize = 1000;

/// Something under way.
#[derive(Clone, Debug)]
pub(super) struct Task {
    /// Who waits for it; nobody, if it publishes again.
    op: Option<OpId>,
    what: What,
    lookups: usize,
    /// Writes that wait for an answer.
    writes: usize,
    /// Nodes that have answered.
    answered: usize,
    stored: usize,
    refused: Vec<Refused>,
}

#[derive(Clone, Debug)]
enum What {
    Find(Vec<Node>),
    Peers(BTreeSet<SocketAddr>),
    Announce { info_hash: Key<20>, port: Option<u16> },
    GetImmutable { target: Key<20>, found: Option<Bytes> },
    GetMutable { publisher: PeerId, salt: Bytes, found: Option<MutableItem> },
    Put { item: PutItem, newest: Option<i64> },
}

impl What {
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
    /// Where it is kept.
    pub(super) fn target(&self) -> Key<20> {
        match self {
            PutItem::Immutable(value) => target_of(value),
            PutItem::Mutable { item, .. } => item.target(),
        }
    }

    fn sequence(&self) -> Option<i64> {
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
                if !self.publish(cx, op, info_hash, Published::announced(cx.now(), &self.config, port)) {
                    return;
                }
                What::Announce { info_hash, port }
            }
            MainlineCommand::Put { item } => {
                let checked = match &item {
                    PutItem::Immutable(value) => value_fits(value),
                    PutItem::Mutable { item, .. } => item.fits(),
                };
                if let Err(why) = checked {
                    return cx.finish(op, MainlineOutcome::Stored(Err(MainlineError::Invalid(why))));
                }
                let published = Published::put(cx.now(), &self.config, item.clone());
                if !self.publish(cx, op, item.target(), published) {
                    return;
                }
                What::Put { item, newest: None }
            }
            MainlineCommand::GetImmutable { target } => What::GetImmutable { target, found: None },
            MainlineCommand::GetMutable { publisher, salt } => {
                What::GetMutable { publisher, salt, found: None }
            }
            MainlineCommand::Unpublish { target } => {
                self.published.remove(&target);
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

    /// Notes what is to be published again; if there is no room, that ends the command.
    fn publish(&mut self, cx: &mut Cx<'_, Self>, op: OpId, target: Key<20>, published: Published) -> bool {
        let has_room = self.published.len() < self.config.published || self.published.contains_key(&target);
        match has_room {
            true => {
                self.published.insert(target, published);
            }
            false => cx.finish(op, MainlineOutcome::Stored(Err(MainlineError::Full))),
        }
        has_room
    }

    /// Publishes something again, for nobody in particular.
    pub(super) fn publish_again(&mut self, cx: &mut Cx<'_, Self>, target: Key<20>, published: &Published) {
        let what = match published {
            Published::Peer { port, .. } => What::Announce { info_hash: target, port: *port },
            Published::Item { item, .. } => What::Put { item: item.clone(), newest: None },
        };
        self.begin(cx, None, target, what);
    }

    fn begin(&mut self, cx: &mut Cx<'_, Self>, op: Option<OpId>, target: Key<20>, what: What) {
        let target = what.target(target);
        let number = self.next_number();
        let mut task = Task { op, what, lookups: 0, writes: 0, answered: 0, stored: 0, refused: Vec::new() };
        if self.tasks.len() >= self.config.tasks || self.lookups.len() + 2 > LOOKUPS {
            return task.fail(cx, MainlineError::Busy);
        }
        let networks: Vec<bool> = [false, true].into_iter().filter(|v6| self.side(*v6).is_some()).collect();
        task.lookups = networks.len();
        self.tasks.insert(number, task);
        for v6 in networks {
            self.look_up(cx, target, v6, Some(number));
        }
    }

    // ---- lookups

    /// Begins a lookup in one network.
    pub(super) fn look_up(&mut self, cx: &mut Cx<'_, Self>, target: Key<20>, v6: bool, task: Option<u64>) {
        let Some(side) = self.side(v6) else { return };
        if self.lookups.len() >= LOOKUPS {
            return;
        }
        let (enforce, one_per_ip) = (self.config.enforce_ids, self.config.subnets.is_some());
        let cover = side.sizes.cover(K);
        let mut lookup = Lookup::new(target, v6, task, cover).with(enforce, one_per_ip);
        for entry in side.table.closest(&target, 2 * K) {
            lookup.add(Some(entry.id), entry.peer, entry.addr);
        }
        // Whoever knows few asks those that it was told of.
        if side.table.len() < K {
            let saved = self.config.saved.iter().flat_map(|saved| &saved.nodes);
            let saved = saved.map(|node| (Some(node.id), node.addr));
            let named = self.config.bootstrap.iter().map(|addr| (None, addr.addr()));
            for (id, addr) in named.chain(saved).filter(|(_, addr)| addr.is_ipv6() == v6) {
                if self.is_reachable(addr) {
                    lookup.add(id, self.peer_at(addr), addr);
                }
            }
        }
        let number = self.next_number();
        self.lookups.insert(number, lookup);
        self.go_on(cx, number);
    }

    /// Whether this node can send there.
    fn is_reachable(&self, addr: SocketAddr) -> bool {
        self.side(addr.is_ipv6()).is_some() && is_somewhere(addr.ip(), addr.port())
    }

    /// Asks as many as may be asked at a time, and ends a lookup when there is nobody left.
    fn go_on(&mut self, cx: &mut Cx<'_, Self>, number: u64) {
        let parallel = self.config.parallel.max(1);
        while let Some(lookup) = self.lookups.get_mut(&number) {
            let Some(peer) = lookup.next(parallel) else { break };
            let query = self.question(number);
            if !self.ask(cx, peer, query, Question::Lookup(number))
                && let Some(lookup) = self.lookups.get_mut(&number)
            {
                // Too much is under way: it is not this node's fault, but it is not asked.
                lookup.settle(peer, State::Silent);
            }
        }
        if self.lookups.get(&number).is_some_and(Lookup::is_done)
            && let Some(lookup) = self.lookups.remove(&number)
        {
            self.on_looked_up(cx, &lookup);
        }
    }

    fn question(&self, number: u64) -> Query {
        let Some(lookup) = self.lookups.get(&number) else { return Query::Ping };
        let target = lookup.target;
        // Whoever joins by both networks asks for the nodes of both (BEP 32).
        let both = self.side(false).is_some() && self.side(true).is_some();
        match lookup.task.and_then(|task| self.tasks.get(&task)).map(|task| &task.what) {
            None | Some(What::Find(_)) => {
                Query::FindNode { target, want: both.then_some(Want { n4: true, n6: true }) }
            }
            Some(What::Peers(_) | What::Announce { .. }) => Query::GetPeers { info_hash: target, want: None },
            Some(What::GetImmutable { .. } | What::GetMutable { .. } | What::Put { .. }) => {
                Query::Get { target, newer_than: None, want: None }
            }
        }
    }

    /// A node has answered a lookup's question.
    pub(super) fn on_found(&mut self, cx: &mut Cx<'_, Self>, number: u64, from: P, response: &Response) {
        let v6 = from.addr().is_ipv6();
        let me = self.id(v6);
        let Some(task) = self.lookups.get(&number).map(|lookup| lookup.task) else { return };
        let sequence = response.value.as_ref().and(response.sequence);
        if let Some(lookup) = self.lookups.get_mut(&number) {
            match Some(response.id) == me {
                // This node itself, by another of its addresses.
                true => lookup.settle(from, State::Silent),
                false => lookup.answered(from, response.id, response.token.clone(), sequence),
            }
        }
        let named = if v6 { &response.nodes6 } else { &response.nodes };
        for node in named.iter().flatten() {
            // Nobody far away knows who is in this node's own network.
            let is_private = is_local(node.addr.ip()) && !is_local(from.addr().ip());
            let (id, addr) = (node.id, node.addr.addr());
            if Some(id) == me || addr.is_ipv6() != v6 || is_private || !self.is_reachable(addr) {
                continue;
            }
            let peer = self.peer_at(addr);
            if let Some(lookup) = self.lookups.get_mut(&number) {
                lookup.add(Some(id), peer, addr);
            }
        }
        self.meet_other_network(cx, response, v6);
        if let Some(task) = task
            && self.read(cx, task, response)
        {
            return self.end(cx, task);
        }
        self.go_on(cx, number);
    }

    /// Takes what an answer says into a task; whether that is all that it wanted to know.
    fn read(&mut self, cx: &mut Cx<'_, Self>, task: u64, response: &Response) -> bool {
        let Some(task) = self.tasks.get_mut(&task) else { return false };
        task.answered += 1;
        let op = task.op;
        match &mut task.what {
            What::Find(_) | What::Announce { .. } => false,
            What::Peers(found) => {
                for peer in &response.values {
                    if found.len() < MAX_PEERS && is_somewhere(peer.ip(), peer.port()) && found.insert(*peer)
                    {
                        op.into_iter().for_each(|op| cx.item(op, MainlineItem::Peer(*peer)));
                    }
                }
                false
            }
            What::GetImmutable { target, found } => {
                let genuine = response.value.as_ref().filter(|value| target_of(value) == *target);
                *found = genuine.cloned();
                found.is_some()
            }
            What::GetMutable { publisher, salt, found } => {
                let newest = found.as_ref().map(MutableItem::sequence);
                if let Some(item) = signed(response, salt)
                    && item.publisher() == *publisher
                    && newest.is_none_or(|newest| item.sequence() > newest)
                    && item.is_genuine()
                {
                    op.into_iter().for_each(|op| cx.item(op, MainlineItem::Version(item.clone())));
                    *found = Some(item);
                }
                false
            }
            What::Put { item: PutItem::Mutable { item, .. }, newest } => {
                // Others' numbers count only if the publisher has signed them.
                let found = signed(response, item.salt());
                let found = found.filter(|found| found.publisher() == item.publisher());
                let found = found.filter(|found| newest.is_none_or(|newest| found.sequence() > newest));
                if let Some(found) = found.filter(MutableItem::is_genuine) {
                    *newest = Some(found.sequence());
                }
                false
            }
            What::Put { .. } => false,
        }
    }

    /// A node is late with its answer to a lookup, or did not give it.
    pub(super) fn on_silent(&mut self, cx: &mut Cx<'_, Self>, number: u64, peer: P, state: State) {
        if let Some(lookup) = self.lookups.get_mut(&number) {
            lookup.settle(peer, state);
            self.go_on(cx, number);
        }
    }

    fn on_looked_up(&mut self, cx: &mut Cx<'_, Self>, lookup: &Lookup<P>) {
        if let Some(side) = self.side_mut(lookup.v6) {
            let (distances, subnets) = lookup.seen();
            if distances.len() == K {
                side.sizes.saw(&distances, subnets);
            }
        }
        let Some(number) = lookup.task else { return };
        let Some(task) = self.tasks.get_mut(&number) else { return };
        task.lookups -= 1;
        if let What::Find(nodes) = &mut task.what {
            nodes.extend(lookup.found().filter_map(|known| known.node()));
        }
        let writes: Vec<(P, Query)> = match &task.what {
            What::Announce { info_hash, port } => {
                let (info_hash, port) = (*info_hash, *port);
                let announce = |token| Query::AnnouncePeer {
                    info_hash,
                    port: port.unwrap_or(0),
                    implied_port: port.is_none(),
                    token,
                };
                let found = lookup.found().filter_map(|known| Some((known.peer, known.token.clone()?)));
                found.map(|(peer, token)| (peer, announce(token))).collect()
            }
            What::Put { item, newest } if !is_outdated(item, *newest) => {
                let found = lookup.found().filter_map(|known| Some((known, known.token.clone()?)));
                found.map(|(known, token)| (known.peer, put(item, token, known.sequence))).collect()
            }
            _ => Vec::new(),
        };
        for (peer, query) in writes {
            if self.ask(cx, peer, query, Question::Store(number))
                && let Some(task) = self.tasks.get_mut(&number)
            {
                task.writes += 1;
            }
        }
        self.end_if_done(cx, number);
    }

    // ---- writes

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

    fn end_if_done(&mut self, cx: &mut Cx<'_, Self>, number: u64) {
        if self.tasks.get(&number).is_some_and(|task| task.lookups == 0 && task.writes == 0) {
            self.end(cx, number);
        }
    }

    fn end(&mut self, cx: &mut Cx<'_, Self>, number: u64) {
        let Some(task) = self.tasks.remove(&number) else { return };
        self.lookups.retain(|_, lookup| lookup.task != Some(number));
        if let What::Put { item, newest } = &task.what
            && is_outdated(item, *newest)
        {
            // Somebody has published a newer one: this one is over.
            self.published.remove(&item.target());
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

/// The signed item in an answer, unchecked.
fn signed(response: &Response, salt: &[u8]) -> Option<MutableItem> {
    let item = MutableItem {
        publisher: PeerId::from_bytes(response.publisher?),
        salt: Bytes::copy_from_slice(salt),
        sequence: response.sequence?,
        value: response.value.clone()?,
        signature: response.signature?,
    };
    item.fits().is_ok().then_some(item)
}

/// Whether a newer one is there, or not the one that was to be replaced.
fn is_outdated(item: &PutItem, newest: Option<i64>) -> bool {
    let (Some(newest), PutItem::Mutable { item, cas }) = (newest, item) else { return false };
    newest > item.sequence() || cas.is_some_and(|cas| cas != newest)
}

/// Compare-and-swap is asked of those alone that have something to compare (BEP 44), and with what each of them has: one that
/// has missed the last value is to take this one all the same.
fn put(item: &PutItem, token: Bytes, there: Option<i64>) -> Query {
    let item = match item {
        PutItem::Mutable { item, cas } => PutItem::Mutable { item: item.clone(), cas: cas.and(there) },
        PutItem::Immutable(value) => PutItem::Immutable(value.clone()),
    };
    Query::Put { token, item: Box::new(item) }
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

    fn finish<P: Endpoint>(self, cx: &mut Cx<'_, Mainline<P>>) {
        let Some(op) = self.op else { return };
        let answered = self.answered;
        if answered == 0 && !matches!(&self.what, What::Find(nodes) if !nodes.is_empty()) {
            return self.fail(cx, MainlineError::NotJoined);
        }
        let not_found = MainlineError::NotFound { answered };
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
                let conflicts = self.refused.iter().any(|refused| matches!(refused.code, 301 | 302));
                let conflict = is_outdated(&item, newest) || conflicts;
                let conflict = conflict.then(|| newest.or(item.sequence()));
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
