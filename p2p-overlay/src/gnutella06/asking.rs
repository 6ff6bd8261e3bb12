//! What this node's users ask.

use bytes::Bytes;
use p2p_core::{Cx, OpId};

use super::passing::{Route, Way};
use super::{Gnutella06, Gnutella06Msg, Gnutella06Timer};
use crate::gnutella::asking::{Collecting, referred};
use crate::gnutella::passing::criteria;
use crate::gnutella::{Descriptor, Guid, Payload};
use crate::place::Place;
use crate::promotion::Role;
use crate::search::{
    End, Fetch, Hit, MAX_HITS, Query, Reach, Scope, SearchError, SearchItem, SearchOutcome, Searched,
};

/// A leaf tells its ultrapeers what it has whenever so many results more have come.
const TOLD_EVERY: usize = 10;

/// A search under way.
#[derive(Debug)]
pub(super) struct Searching {
    id: Guid,
    asked: Collecting,
}

impl<P: Place> Gnutella06<P> {
    pub(super) fn begin_search(&mut self, cx: &mut Cx<'_, Self>, op: OpId, query: Query, scope: Scope) {
        let refused = |error: SearchError| SearchOutcome::Searched(Err(error));
        // Ultrapeers decide how far it goes.
        if scope.reach != Reach::Auto {
            return self.done(cx, op, refused(SearchError::Unsupported));
        }
        let Some((criteria, extension)) = criteria(&query) else {
            return self.done(cx, op, refused(SearchError::BadQuery));
        };
        if self.searches.len() >= self.config.capacity {
            return self.done(cx, op, refused(SearchError::Busy));
        }
        let hubs: Vec<P> = self.ultrapeers().collect();
        if hubs.is_empty() && self.leaves().next().is_none() {
            return self.done(cx, op, refused(SearchError::NotConnected));
        }
        let id = Guid::random(cx.rng());
        let mut asked = Collecting::new(query, scope, cx.now());
        cx.set_timer(scope.deadline, Gnutella06Timer::Search(op));
        self.queries.insert_own(id, Route::new(Way::Own(op), self.config.ttl));
        let payload = Payload::Query { min_speed: 0, criteria, extension };
        match self.role() {
            Role::Leaf => {
                let query = Descriptor { id, ttl: self.config.ttl, hops: 0, payload };
                asked.charge(&query, hubs.len());
                asked.cost.peers = hubs.len() as u64;
                self.tally.queries += hubs.len() as u64;
                self.searches.insert(op, Searching { id, asked });
                for hub in hubs {
                    self.tell(cx, hub, query.clone());
                }
            }
            Role::Ultrapeer => {
                self.searches.insert(op, Searching { id, asked });
                self.begin_guiding(cx, Way::Own(op), id, payload);
            }
        }
    }

    /// How many hits a user wants.
    pub(super) fn wanted_by(&self, op: OpId) -> u32 {
        self.searches.get(&op).map_or(1, |search| search.asked.scope.hits.clamp(1, MAX_HITS))
    }

    /// So many neighbours are asked for a user of this ultrapeer, each for the first time.
    pub(super) fn charge(&mut self, op: OpId, query: &Descriptor, neighbours: usize) {
        if let Some(search) = self.searches.get_mut(&op) {
            search.asked.charge(query, neighbours);
            search.asked.cost.peers += neighbours as u64;
        }
    }

    /// A query of its own has come around.
    pub(super) fn came_back(&mut self, op: OpId, query: &Descriptor) {
        if let Some(search) = self.searches.get_mut(&op) {
            search.asked.came_back(query);
        }
    }

    /// A hit for a query of its own.
    pub(super) fn on_own_hit(&mut self, cx: &mut Cx<'_, Self>, by: P, op: OpId, descriptor: &Descriptor) {
        let neighbours = self.neighbours.len();
        let Some(search) = self.searches.get_mut(&op) else { return };
        let before = search.asked.found();
        for hit in search.asked.hits(descriptor, by, neighbours, self.config.hits_per_source) {
            cx.item(op, SearchItem::Hit(hit));
        }
        let (id, found) = (search.id, search.asked.found());
        if search.asked.is_enough() {
            return self.end(cx, op, End::Enough);
        }
        if found / TOLD_EVERY > before / TOLD_EVERY {
            self.tell_status(cx, id, found.min(usize::from(u16::MAX - 1)) as u16);
        }
    }

    /// A leaf says how many results it has.
    fn tell_status(&self, cx: &mut Cx<'_, Self>, id: Guid, hits: u16) {
        if self.role() == Role::Leaf {
            for hub in self.ultrapeers() {
                self.tell(cx, hub, Descriptor { id, ttl: 1, hops: 0, payload: Payload::Status { hits } });
            }
        }
    }

    /// A search has had its time.
    pub(super) fn too_late(&mut self, cx: &mut Cx<'_, Self>, op: OpId) {
        self.end(cx, op, End::Deadline);
    }

    /// A search is over.
    pub(super) fn end(&mut self, cx: &mut Cx<'_, Self>, op: OpId, end: End) {
        // What others have passed on, nobody tells: the cost is not whole.
        if let Some(search) = self.forget(cx, op) {
            let searched = Searched { end, cost: search.asked.cost };
            self.done(cx, op, SearchOutcome::Searched(Ok(searched)));
        }
    }

    /// Nobody waits for a search any more: whoever guides it may stop.
    pub(super) fn forget(&mut self, cx: &mut Cx<'_, Self>, op: OpId) -> Option<Searching> {
        let search = self.searches.remove(&op)?;
        cx.clear_timer(Gnutella06Timer::Search(op));
        self.stop_guiding(cx, search.id);
        self.tell_status(cx, search.id, u16::MAX);
        Some(search)
    }

    /// A connection of its own to a source, or from it.
    pub(super) fn reach(&mut self, cx: &mut Cx<'_, Self>, op: OpId, hit: Hit<P>) {
        let reached = match (referred(&hit.reference), hit.fetch) {
            (Some(_), Fetch::Direct(peer)) => {
                self.number += 1;
                peer.contact().map(|contact| P::at(contact, self.number)).ok_or(SearchError::BadHit)
            }
            (Some((servent, index)), Fetch::Push) => match self.push(cx, op, servent, index) {
                Ok(()) => return,
                Err(error) => Err(error),
            },
            (None, _) | (_, Fetch::Ask | Fetch::Relay(_)) => Err(SearchError::BadHit),
        };
        self.done(cx, op, SearchOutcome::Reached(reached));
    }

    /// Asks a source to connect, back the way that its hit has come.
    fn push(
        &mut self,
        cx: &mut Cx<'_, Self>,
        op: OpId,
        servent: Guid,
        index: u32,
    ) -> Result<(), SearchError> {
        let via = self.pushing.way(&servent).filter(|via| self.neighbours.contains_key(via));
        // Two that accept no connections do not meet.
        let (Some(via), Some(contact)) = (via, self.listen) else { return Err(SearchError::Unreachable) };
        if self.pushing.asked() >= self.config.capacity {
            return Err(SearchError::Busy);
        }
        let payload = Payload::Push { servent, index, contact, extension: Bytes::new() };
        let id = Guid::random(cx.rng());
        self.pushing.ask(op, id, servent, index);
        self.tell(cx, via, Descriptor { id, ttl: self.config.most_hops, hops: 0, payload });
        cx.set_timer(self.config.push_timeout, Gnutella06Timer::Reach(op));
        Ok(())
    }

    /// Somebody has connected to give a file.
    pub(super) fn on_give(&mut self, cx: &mut Cx<'_, Self>, from: P, index: u32, servent: Guid) {
        match self.pushing.given(servent, index) {
            Some(op) => {
                cx.clear_timer(Gnutella06Timer::Reach(op));
                self.done(cx, op, SearchOutcome::Reached(Ok(from)));
            }
            // Where a peer has one connection for everything, a refusal would end more than this.
            None if self.neighbours.contains_key(&from) => {}
            None => cx.send(from, Gnutella06Msg::Refuse(Vec::new())),
        }
    }
}
