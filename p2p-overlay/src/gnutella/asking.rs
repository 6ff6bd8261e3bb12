//! What this node's users ask: searches, and connections to sources.

use std::collections::{BTreeMap, BTreeSet};

use bytes::{BufMut, Bytes, BytesMut};
use p2p_core::{Cx, OpId, PeerId, Time};

use super::codec::GnutellaMsg;
use super::descriptor::{Descriptor, Guid, Payload};
use super::passing::{QueryRoute, Way, criteria, item, needs_push};
use super::{Gnutella, GnutellaTimer};
use crate::place::Place;
use crate::search::{
    Cost, End, Fetch, Hit, MAX_HITS, Query, Reach, Scope, SearchError, SearchItem, SearchOutcome, Searched,
};

/// A search under way.
#[derive(Debug)]
pub(super) struct Searching {
    /// What is asked for, and what has come.
    asked: Collecting,
    /// The present radius, how much wider the next one is, and the widest.
    radius: u8,
    step: u8,
    last: u8,
}

/// What a search is for, and what has come of it.
#[derive(Debug)]
pub(crate) struct Collecting {
    pub query: Query,
    pub scope: Scope,
    pub deadline: Time,
    /// What has come, by source; as many as the scope wants at most.
    seen: BTreeSet<(PeerId, u32)>,
    /// And how many hits each source has given.
    sources: BTreeMap<PeerId, u16>,
    /// How many have come by each neighbour.
    ways: BTreeMap<PeerId, usize>,
    pub cost: Cost,
}

impl Collecting {
    pub(crate) fn new(query: Query, scope: Scope, now: Time) -> Collecting {
        Collecting {
            query,
            scope,
            deadline: now + scope.deadline,
            seen: BTreeSet::new(),
            sources: BTreeMap::new(),
            ways: BTreeMap::new(),
            cost: Cost::default(),
        }
    }

    /// How many hits are wanted.
    fn wanted(&self) -> usize {
        self.scope.hits.clamp(1, MAX_HITS) as usize
    }

    /// Whether as many have come.
    pub(crate) fn is_enough(&self) -> bool {
        self.seen.len() >= self.wanted()
    }

    /// How many have come.
    pub(crate) fn found(&self) -> usize {
        self.seen.len()
    }

    /// A query goes to so many neighbours.
    pub(crate) fn charge(&mut self, query: &Descriptor, neighbours: usize) {
        self.cost.messages += neighbours as u64;
        self.cost.bytes += (neighbours * query.wire_size()) as u64;
    }

    /// A query of its own has come around.
    pub(crate) fn came_back(&mut self, query: &Descriptor) {
        self.charge(query, 1);
        self.cost.duplicates += 1;
    }

    /// A hit comes by one of so many neighbours; what of it is new, of at most `most` from one source. But who a source is,
    /// it says itself: so of what is wanted each neighbour brings its share at most, which is a half where there are others,
    /// and no less than what one source may give.
    pub(crate) fn hits<P: Place>(
        &mut self,
        descriptor: &Descriptor,
        by: P,
        neighbours: usize,
        most: u16,
    ) -> Vec<Hit<P>> {
        let wanted = self.wanted();
        let share = wanted.div_ceil(neighbours.clamp(1, 2)).max(most.into());
        let by = by.account();
        let mut brought = self.ways.get(&by).copied().unwrap_or(0);
        let Payload::QueryHit(hit) = &descriptor.payload else { return Vec::new() };
        self.cost.messages += 1;
        self.cost.bytes += descriptor.wire_size() as u64;
        let push = needs_push(hit);
        let source = match push {
            // The half of its identifier that stays the same.
            true => PeerId::from_bytes(std::array::from_fn(|i| if i < 8 { hit.servent.0[i] } else { 0 })),
            false => hit.contact.id,
        };
        let mut news = Vec::new();
        for shared in &hit.results {
            let given = self.sources.get(&source).copied().unwrap_or(0);
            if given >= most || brought >= share || self.seen.len() >= wanted {
                break;
            }
            let Some(item) = item(shared) else { continue };
            if !self.seen.insert((source, shared.index)) {
                continue;
            }
            if given == 0 {
                self.cost.peers += 1;
            }
            self.sources.insert(source, given + 1);
            brought += 1;
            self.ways.insert(by, brought);
            let fetch = if push { Fetch::Push } else { Fetch::Direct(P::at(hit.contact, 0)) };
            let reference = reference(hit.servent, shared.index);
            news.push(Hit { item, fetch, reference });
        }
        if news.is_empty() {
            self.cost.duplicates += 1;
        }
        news
    }
}

impl<P: Place> Gnutella<P> {
    pub(super) fn begin_search(&mut self, cx: &mut Cx<'_, Self>, op: OpId, query: Query, scope: Scope) {
        let (radius, step, last) = match scope.reach {
            Reach::Auto => (self.config.ttl, 0, 0),
            Reach::Ttl(ttl) => (ttl, 0, 0),
            Reach::Ring { first, step, last } => (first, step, last.min(self.config.ttl)),
            Reach::Walk { .. } => return self.refuse(cx, op, SearchError::Unsupported),
        };
        if criteria(&query).is_none() {
            return self.refuse(cx, op, SearchError::BadQuery);
        }
        if self.searches.len() >= self.config.capacity {
            return self.refuse(cx, op, SearchError::Busy);
        }
        if self.neighbours().next().is_none() {
            return self.refuse(cx, op, SearchError::NotConnected);
        }
        let search = Searching {
            asked: Collecting::new(query, scope, cx.now()),
            radius: radius.min(self.config.ttl),
            step,
            last,
        };
        self.searches.insert(op, search);
        self.ask(cx, op);
    }

    /// Asks all neighbours, to the present radius.
    fn ask(&mut self, cx: &mut Cx<'_, Self>, op: OpId) {
        let id = Guid::random(cx.rng());
        let peers: Vec<P> = self.neighbours().collect();
        let Some(search) = self.searches.get_mut(&op) else { return };
        let left = search.asked.deadline.since(cx.now());
        let ring = self.config.ring * u32::from(search.radius);
        // Nobody says when a flood is over: only a ring that a wider one follows has less time than the whole search.
        let wait = if search.step > 0 { ring.min(left) } else { left };
        cx.set_timer(wait, GnutellaTimer::Search(op));
        let Some((criteria, extension)) = criteria(&search.asked.query) else { return };
        if search.radius == 0 {
            return;
        }
        let payload = Payload::Query { min_speed: 0, criteria, extension };
        let query = Descriptor { id, ttl: search.radius, hops: 0, payload };
        search.asked.charge(&query, peers.len());
        search.asked.cost.peers = search.asked.cost.peers.max(peers.len() as u64);
        self.queries.insert_own(id, QueryRoute::new(Way::Own(op)));
        self.tally.queries += peers.len() as u64;
        for peer in peers {
            self.tell(cx, peer, query.clone());
        }
    }

    /// A ring, or the whole search, has had its time.
    pub(super) fn widen(&mut self, cx: &mut Cx<'_, Self>, op: OpId) {
        let Some(search) = self.searches.get_mut(&op) else { return };
        if search.asked.deadline <= cx.now() {
            return self.end(cx, op, End::Deadline);
        }
        if search.step == 0 || search.radius >= search.last {
            return self.end(cx, op, End::Exhausted);
        }
        search.radius = search.radius.saturating_add(search.step).min(search.last);
        self.ask(cx, op);
    }

    fn end(&mut self, cx: &mut Cx<'_, Self>, op: OpId, end: End) {
        let Some(search) = self.searches.remove(&op) else { return };
        cx.clear_timer(GnutellaTimer::Search(op));
        // What neighbours' neighbours have passed on, nobody tells: the cost is not whole.
        self.done(cx, op, SearchOutcome::Searched(Ok(Searched { end, cost: search.asked.cost })));
    }

    /// A query of its own has come around.
    pub(super) fn came_back(&mut self, op: OpId, query: &Descriptor) {
        if let Some(search) = self.searches.get_mut(&op) {
            search.asked.came_back(query);
        }
    }

    /// A hit for a query of its own.
    pub(super) fn on_own_hit(&mut self, cx: &mut Cx<'_, Self>, by: P, op: OpId, descriptor: &Descriptor) {
        let neighbours = self.neighbours().count();
        let Some(search) = self.searches.get_mut(&op) else { return };
        for hit in search.asked.hits(descriptor, by, neighbours, self.config.hits_per_source) {
            cx.item(op, SearchItem::Hit(hit));
        }
        if search.asked.is_enough() {
            self.end(cx, op, End::Enough);
        }
    }

    pub(super) fn begin_reach(&mut self, cx: &mut Cx<'_, Self>, op: OpId, hit: Hit<P>) {
        let Some((servent, index)) = referred(&hit.reference) else {
            return self.unreached(cx, op, SearchError::BadHit);
        };
        match hit.fetch {
            Fetch::Direct(peer) => {
                // A connection of its own.
                self.number += 1;
                let reached = peer.contact().map(|contact| P::at(contact, self.number));
                self.done(cx, op, SearchOutcome::Reached(reached.ok_or(SearchError::BadHit)));
            }
            Fetch::Relay(_) | Fetch::Ask => self.unreached(cx, op, SearchError::BadHit),
            Fetch::Push => {
                let via = self.pushing.way(&servent).filter(|via| self.neighbours.contains_key(via));
                // Two that accept no connections do not meet.
                let (Some(via), Some(contact)) = (via, self.listen) else {
                    return self.unreached(cx, op, SearchError::Unreachable);
                };
                if self.pushing.asked() >= self.config.capacity {
                    return self.unreached(cx, op, SearchError::Busy);
                }
                let extension = Bytes::new();
                let payload = Payload::Push { servent, index, contact, extension };
                let id = Guid::random(cx.rng());
                self.pushing.ask(op, id, servent, index);
                self.tell(cx, via, Descriptor { id, ttl: self.config.ttl, hops: 0, payload });
                cx.set_timer(self.config.push_timeout, GnutellaTimer::Reach(op));
            }
        }
    }

    fn refuse(&self, cx: &mut Cx<'_, Self>, op: OpId, error: SearchError) {
        self.done(cx, op, SearchOutcome::Searched(Err(error)));
    }

    fn unreached(&self, cx: &mut Cx<'_, Self>, op: OpId, error: SearchError) {
        self.done(cx, op, SearchOutcome::Reached(Err(error)));
    }

    /// Somebody has connected to give a file.
    pub(super) fn on_give(&mut self, cx: &mut Cx<'_, Self>, from: P, index: u32, servent: Guid) {
        let Some(op) = self.pushing.given(servent, index) else {
            return cx.send(from, GnutellaMsg::Refuse);
        };
        cx.clear_timer(GnutellaTimer::Reach(op));
        self.done(cx, op, SearchOutcome::Reached(Ok(from)));
    }
}

/// What a hit carries for a push.
fn reference(servent: Guid, index: u32) -> Bytes {
    let mut bytes = BytesMut::from(&servent.0[..]);
    bytes.put_u32(index);
    bytes.freeze()
}

pub(crate) fn referred(reference: &[u8]) -> Option<(Guid, u32)> {
    let (servent, index) = reference.split_first_chunk::<16>()?;
    Some((Guid(*servent), u32::from_be_bytes(index.try_into().ok()?)))
}
