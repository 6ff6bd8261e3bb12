//! The lookups of tasks, and of upkeep: whom they begin with, what is made of answers, and the writes at their end.

use std::net::SocketAddr;

use bytes::Bytes;
use p2p_core::{Cx, Key, PeerId};

use super::id::{is_local, is_somewhere};
use super::item::{MutableItem, target_of};
use super::krpc::{Node, PutItem, Query, Response, Want};
use super::lookup::{Lookup, State};
use super::request::MainlineItem;
use super::size::Cover;
use super::table::K;
use super::task::{What, is_outdated};
use super::{Endpoint, Mainline, Question};

/// Lookups at once, those for upkeep among them.
pub(super) const LOOKUPS: usize = 512;
/// Nodes that were there before, of the last run and of this one, that whoever knows few asks again in one lookup.
const SAVED: usize = 8 * K;
const LOST: usize = 4 * K;
/// Nodes that are taken from one answer, twice as many as it should name (BEP 5): one that lies has few chances.
const NAMED: usize = 2 * K;
/// Peers of one torrent that a task finds: fewer than may wait to be read.
pub(super) const MAX_PEERS: usize = 1000;

impl<P: Endpoint> Mainline<P> {
    /// Begins a lookup in one network.
    pub(super) fn look_up(&mut self, cx: &mut Cx<'_, Self>, target: Key<20>, v6: bool, task: Option<u64>) {
        let Some(side) = self.side(v6) else { return };
        if self.lookups.len() >= LOOKUPS {
            return;
        }
        let (enforce, one_per_ip) = (self.config.enforce_ids, self.config.subnets.is_some());
        let cover = if self.config.cover { side.sizes.cover(K) } else { Cover::default() };
        let mut lookup = Lookup::new(target, v6, task, cover).with(enforce, one_per_ip);
        for entry in side.table.closest(&target, 2 * K) {
            lookup.add(Some(entry.id), entry.peer, entry.addr);
        }
        // Whoever knows few asks those that it was told of, and those that have fallen silent: it may be this node's own
        // network that was away.
        if side.table.alive() < K {
            let saved = self.config.saved.iter().flat_map(|saved| &saved.nodes);
            let mut saved: Vec<&Node> = saved.filter(|node| node.addr.is_ipv6() == v6).collect();
            saved.sort_unstable_by_key(|node| node.id.xor(&target));
            let saved = saved.into_iter().take(SAVED).map(|node| (Some(node.id), node.addr));
            let named = self.config.bootstrap.iter().map(|addr| (None, addr.addr()));
            for (id, addr) in named.chain(saved).filter(|(_, addr)| addr.is_ipv6() == v6) {
                if self.is_reachable(addr) {
                    lookup.add(id, self.peer_at(addr), addr);
                }
            }
            for entry in side.table.lost(&target, LOST) {
                lookup.add(Some(entry.id), entry.peer, entry.addr);
            }
        }
        let number = self.next_number();
        self.lookups.insert(number, lookup);
        self.go_on(cx, number);
    }

    /// Whether this node can send there.
    pub(super) fn is_reachable(&self, addr: SocketAddr) -> bool {
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
        let Some(lookup) = self.lookups.get(&number) else { return };
        let (task, target) = (lookup.task, lookup.target);
        let sequence = response.value.as_ref().and(response.sequence);
        if let Some(lookup) = self.lookups.get_mut(&number) {
            match Some(response.id) == me {
                // This node itself, by another of its addresses.
                true => lookup.settle(from, State::Silent),
                false => lookup.answered(from, response.id, response.token.clone(), sequence),
            }
        }
        let named = if v6 { &response.nodes6 } else { &response.nodes };
        let named = named.iter().flatten().map(|node| (node.id, node.addr.addr()));
        let mut named: Vec<(Key<20>, SocketAddr)> = named
            .filter(|(id, addr)| {
                // Nobody far away knows who is in this node's own network.
                let is_private = is_local(addr.ip()) && !is_local(from.addr().ip());
                Some(*id) != me && addr.is_ipv6() == v6 && !is_private && self.is_reachable(*addr)
            })
            .collect();
        named.sort_by_key(|(id, _)| id.xor(&target));
        for (id, addr) in named.into_iter().take(NAMED) {
            let peer = self.peer_at(addr);
            if let Some(lookup) = self.lookups.get_mut(&number) {
                lookup.add(Some(id), peer, addr);
            }
        }
        self.meet_other_network(cx, response, v6);
        if let Some(task) = task {
            self.tasks.get_mut(&task).into_iter().for_each(|task| task.answered += 1);
            if self.read(cx, task, is_local(from.addr().ip()), response) {
                return self.end(cx, task);
            }
        }
        self.go_on(cx, number);
    }

    /// Takes what an answer says into a task, of somebody in this node's own network or not; whether that is all that it
    /// wanted to know.
    pub(super) fn read(&mut self, cx: &mut Cx<'_, Self>, task: u64, near: bool, response: &Response) -> bool {
        let Some(task) = self.tasks.get_mut(&task) else { return false };
        let op = task.op;
        match &mut task.what {
            What::Find(_) => false,
            What::Peers(found) | What::Announce { found, .. } => {
                // Nobody far away knows who is in this node's own network.
                let may_know = |ip| near || !is_local(ip);
                for peer in &response.values {
                    let is_there = is_somewhere(peer.ip(), peer.port()) && may_know(peer.ip());
                    if found.len() < MAX_PEERS && is_there && found.insert(*peer) {
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
            What::Announce { info_hash, port, .. } => {
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

/// Compare-and-swap is asked of those alone that have something to compare (BEP 44), and with what each of them has: one that
/// has missed the last value is to take this one all the same.
fn put(item: &PutItem, token: Bytes, there: Option<i64>) -> Query {
    let item = match item {
        PutItem::Mutable { item, cas } => PutItem::Mutable { item: item.clone(), cas: cas.and(there) },
        PutItem::Immutable(value) => PutItem::Immutable(value.clone()),
    };
    Query::Put { token, item: Box::new(item) }
}
