//! What this node's users ask.

use std::collections::{BTreeMap, BTreeSet};

use p2p_core::{Contact, Cx, OpId, PeerId, Wire};

use super::msg::{Reference, Source, sound};
use super::passing::Asker;
use super::word::Worth;
use super::{Kazaa, KazaaMsg, KazaaTimer, id_of};
use crate::place::{Place, is_somewhere};
use crate::promotion::Role;
use crate::search::{
    Cost, End, Fetch, Hit, MAX_HITS, Query, Reach, Scope, SearchError, SearchItem, SearchOutcome, Searched,
};

/// A search under way.
#[derive(Debug)]
pub(super) struct Searching<P> {
    id: u64,
    query: Query,
    scope: Scope,
    /// The super-nodes that were asked, one after the other.
    visited: Vec<P>,
    /// Those next to this one that were asked at first, if it is one.
    next: BTreeSet<PeerId>,
    /// What has come, by source and name; as many as the scope wants at most.
    seen: BTreeSet<(PeerId, String)>,
    /// And how many hits each source has given.
    sources: BTreeMap<PeerId, u16>,
    cost: Cost,
}

impl<P> Searching<P> {
    fn wanted(&self) -> usize {
        self.scope.hits.clamp(1, MAX_HITS) as usize
    }

    fn charge(&mut self, msg: &KazaaMsg, count: usize) {
        self.cost.messages += count as u64;
        self.cost.bytes += (count * msg.wire_len()) as u64;
    }
}

impl<P: Place> Kazaa<P> {
    pub(super) fn begin_search(&mut self, cx: &mut Cx<'_, Self>, op: OpId, query: Query, scope: Scope) {
        let refused = |error: SearchError| SearchOutcome::Searched(Err(error));
        let ttl = match scope.reach {
            Reach::Auto => self.config.ttl,
            Reach::Ttl(ttl) => ttl,
            Reach::Ring { .. } | Reach::Walk { .. } => {
                return cx.finish(op, refused(SearchError::Unsupported));
            }
        };
        let Some(query) = sound(&query) else { return cx.finish(op, refused(SearchError::BadQuery)) };
        if self.searches.len() >= self.config.capacity {
            return cx.finish(op, refused(SearchError::Busy));
        }
        let id = cx.rng().next_u64();
        let first = match (self.role(), self.parent()) {
            (Role::Leaf, Some(parent)) => Some(parent),
            // Its super-node is gone, and the next not found yet: it asks as a visitor.
            (Role::Leaf, None) => self.one_to_ask(cx, |_| true).map(|contact| self.dial(contact)),
            (Role::Ultrapeer, _) => None,
        };
        let alone = match self.role() {
            Role::Leaf => first.is_none(),
            Role::Ultrapeer => self.neighbours.is_empty(),
        };
        if alone {
            return cx.finish(op, refused(SearchError::NotConnected));
        }
        let search = Searching {
            id,
            query: query.clone(),
            scope,
            visited: Vec::new(),
            next: BTreeSet::new(),
            seen: BTreeSet::new(),
            sources: BTreeMap::new(),
            cost: Cost::default(),
        };
        let wanted = search.wanted();
        self.searches.insert(op, search);
        cx.set_timer(scope.deadline, KazaaTimer::Search(op));
        if scope.reach == Reach::Auto {
            cx.set_timer(self.config.wait, KazaaTimer::More(op));
        }
        match first {
            Some(first) => self.visit(cx, op, first, ttl),
            None => self.see_to(cx, Asker::Own(op), id, query, wanted, ttl),
        }
    }

    /// Asks a super-node.
    fn visit(&mut self, cx: &mut Cx<'_, Self>, op: OpId, peer: P, ttl: u8) {
        let Some(search) = self.searches.get_mut(&op) else { return };
        let wanted = search.wanted().saturating_sub(search.seen.len()).max(1) as u16;
        let ask = KazaaMsg::Ask { id: search.id, query: search.query.clone(), wanted, ttl };
        search.visited.push(peer);
        search.cost.peers += 1;
        search.charge(&ask, 1);
        self.tally.queries += 1;
        cx.send(peer, ask);
    }

    /// These neighbours are asked.
    pub(super) fn charge(&mut self, op: OpId, msg: &KazaaMsg, peers: &[P]) {
        if let Some(search) = self.searches.get_mut(&op) {
            search.cost.peers += peers.len() as u64;
            search.charge(msg, peers.len());
            search.next.extend(peers.iter().map(id_of));
        }
    }

    /// Somebody is no neighbour any more, and may have been none when a question came to it: it may be asked again.
    pub(super) fn unasked(&mut self, peer: &P) {
        let id = id_of(peer);
        for search in self.searches.values_mut() {
            search.next.remove(&id);
        }
    }

    /// Not enough has come: another super-node is asked, with neighbours of its own; or there is none.
    pub(super) fn search_more(&mut self, cx: &mut Cx<'_, Self>, op: OpId) {
        let Some(search) = self.searches.get(&op) else { return };
        // Its first was the parent, if it is an ordinary node.
        let asked = search.visited.len();
        let most = self.config.more + usize::from(self.role() == Role::Leaf);
        // Neighbours are exchanged: who is one now may be none that was asked.
        let before: BTreeSet<PeerId> =
            search.visited.iter().map(id_of).chain(search.next.iter().copied()).collect();
        let fresh = |contact: &Contact| !before.contains(&contact.id);
        let next = if asked < most { self.one_to_ask(cx, fresh) } else { None };
        let Some(contact) = next else { return self.end(cx, op, End::Exhausted) };
        let peer = self.dial(contact);
        self.tally.dials += 1;
        cx.set_timer(self.config.wait, KazaaTimer::More(op));
        self.visit(cx, op, peer, self.config.ttl);
    }

    /// Whom a search has asked is no super-node: the next is asked at once.
    pub(super) fn next_visit(&mut self, cx: &mut Cx<'_, Self>, peer: &P) {
        if let Some(contact) = peer.contact().filter(|_| self.kind_of(peer).is_none()) {
            let waits = self.searches.iter().filter(|(_, search)| search.visited.last() == Some(peer));
            let waits: Vec<OpId> = waits.map(|(op, _)| *op).collect();
            if !waits.is_empty() {
                self.nodes.failed(&contact);
            }
            waits.into_iter().for_each(|op| self.search_more(cx, op));
        }
    }

    /// The search in which somebody was asked.
    pub(super) fn search_at(&self, peer: &P, id: u64) -> Option<OpId> {
        let search = self.searches.iter().find(|(_, search)| search.id == id);
        search.filter(|(_, search)| search.visited.contains(peer)).map(|(op, _)| *op)
    }

    /// Something has come for a user: from whom, if that was asked, and in whose index it is.
    pub(super) fn found(
        &mut self,
        cx: &mut Cx<'_, Self>,
        op: OpId,
        from: Option<P>,
        via: Contact,
        hits: Vec<Source>,
    ) {
        let own = self.listen.map(|own| own.id);
        let Some(search) = self.searches.get_mut(&op) else { return };
        let mut is_false = hits.iter().any(|hit| !hit.item.matches(&search.query));
        if from.is_some() {
            search.charge(&KazaaMsg::Results { id: search.id, via, hits: hits.clone() }, 1);
        }
        let (asked, before) = (!hits.is_empty(), search.seen.len());
        for hit in hits {
            let (id, item) = (hit.id, &hit.item);
            let given = search.sources.get(&id).copied().unwrap_or(0);
            let sound = item.check().is_ok() && item.matches(&search.query) && own != Some(id);
            if search.seen.len() >= search.wanted() || given >= self.config.hits_per_source || !sound {
                continue;
            }
            if search.seen.contains(&(id, item.name.clone())) {
                continue;
            }
            // What this node has itself, it has looked at.
            let signer = self.signer.as_ref().filter(|_| from.is_some());
            let worth = Self::worth(signer, &hit, cx.wall(), self.config.lifetime);
            if worth == Worth::Forged {
                // Nothing of what comes from there is looked at any more.
                self.tally.disbelieved += 1;
                is_false = true;
                break;
            }
            let Source { id, listen, item, .. } = hit;
            if worth == Worth::Over {
                continue;
            }
            search.seen.insert((id, item.name.clone()));
            search.sources.insert(id, given + 1);
            let reference = Reference { via, source: id, name: item.name.clone() }.to_bytes().into();
            let fetch = match listen.filter(|listen| is_somewhere(listen) && listen.id == id) {
                Some(listen) => Fetch::Direct(P::at(listen, 0)),
                None => Fetch::Push,
            };
            cx.item(op, SearchItem::Hit(Hit { item, fetch, reference }));
        }
        search.cost.duplicates += u64::from(asked && search.seen.len() == before);
        if search.seen.len() >= search.wanted() {
            self.end(cx, op, End::Enough);
        }
        // Who hands on what others say has looked at it.
        if let Some(from) = from.filter(|_| is_false) {
            self.ban(cx, from);
        }
    }

    /// A search has had its time.
    pub(super) fn too_late(&mut self, cx: &mut Cx<'_, Self>, op: OpId) {
        self.end(cx, op, End::Deadline);
    }

    fn end(&mut self, cx: &mut Cx<'_, Self>, op: OpId, end: End) {
        // What super-nodes have asked each other, nobody tells: the cost is not whole.
        if let Some(search) = self.forget_search(cx, op) {
            cx.finish(op, SearchOutcome::Searched(Ok(Searched { end, cost: search.cost })));
        }
    }

    /// Nobody waits for a search any more.
    pub(super) fn forget_search(&mut self, cx: &mut Cx<'_, Self>, op: OpId) -> Option<Searching<P>> {
        let search = self.searches.remove(&op)?;
        cx.clear_timer(KazaaTimer::Search(op));
        cx.clear_timer(KazaaTimer::More(op));
        Some(search)
    }
}
