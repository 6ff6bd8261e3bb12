//! What others ask: a super-node answers from its index, passes questions on to its neighbours, and hands what they
//! answer to whoever has asked.

use std::collections::BTreeMap;
use std::time::Duration;

use p2p_core::{Contact, Cx, OpId};

use super::msg::{BATCH, Shared, Source, sound};
use super::neighbours::Kind;
use super::word::Worth;
use super::{Kazaa, KazaaMsg, id_of};
use crate::place::{Place, is_somewhere};
use crate::promotion::Role;
use crate::search::{Item, Query};

/// A question that this super-node sees to.
#[derive(Debug)]
pub(super) struct Asked<P> {
    asker: Asker<P>,
    query: Query,
    wanted: usize,
    /// How many hits it has had,
    given: usize,
    /// and how many of each super-node that was asked: those next to this one then, whether they still are or not, and
    /// strangers whose offers were taken.
    given_by: BTreeMap<P, usize>,
    /// How many strangers these are.
    claims: usize,
}

/// Whose a question is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asker<P> {
    /// A user's of this node.
    Own(OpId),
    /// Somebody's who has asked this super-node.
    Peer(P),
}

/// How many strangers' offers one search takes.
const CLAIMS: usize = 64;

impl<P: Place> Kazaa<P> {
    /// What matches here, of anybody but the asker: this node's own, and what its ordinary nodes share.
    fn matching(&mut self, query: &Query, but: Option<&P>, most: usize, wall: Duration) -> Vec<Source> {
        let mut found = Vec::new();
        if let Some(listen) = self.listen.filter(|_| but.is_some()) {
            let each = most.min(self.config.hits_per_source.into());
            let items: Vec<Item> =
                self.library.find(query).take(each).map(|(_, item)| item.clone()).collect();
            for item in items {
                let Shared { item, word } = self.give_word(item, wall);
                found.push(Source { id: listen.id, listen: Some(listen), item, word });
            }
        }
        let others = self.index.items.find_some_of(query, self.config.hits_per_source.into());
        let others = others.filter(|(_, owner, _)| Some(*owner) != but).filter_map(|(_, owner, item)| {
            let owned = self.neighbours.get(owner)?;
            let word = self.index.word(owner, &item.name);
            Some(Source { id: id_of(owner), listen: owned.contact, item: item.clone(), word })
        });
        found.extend(others.take(most - found.len()));
        found
    }

    // ---- questions that begin here

    /// One of its own, or a visitor, looks for something.
    pub(super) fn on_ask(
        &mut self,
        cx: &mut Cx<'_, Self>,
        from: P,
        id: u64,
        query: &Query,
        wanted: u16,
        ttl: u8,
    ) {
        if self.role() == Role::Leaf {
            let known = self.list(cx, &from);
            return cx.send(from, KazaaMsg::Refuse { known });
        }
        // Each question becomes as many as there are neighbours.
        let (now, config) = (cx.now(), self.config);
        let takes = match self.neighbours.get_mut(&from) {
            Some(neighbour) => neighbour.account.queries.take(now, config.asks),
            None => self.visits.take(now, config.visits),
        };
        let Some(query) = sound(query).filter(|_| takes) else {
            self.tally.dropped += 1;
            return;
        };
        self.see_to(cx, Asker::Peer(from), id, query, wanted.into(), ttl);
    }

    /// Answers from the index, and asks the neighbours for the rest.
    pub(super) fn see_to(
        &mut self,
        cx: &mut Cx<'_, Self>,
        asker: Asker<P>,
        id: u64,
        query: Query,
        wanted: usize,
        ttl: u8,
    ) {
        let (wanted, ttl) =
            (wanted.clamp(1, crate::search::MAX_HITS as usize), ttl.min(self.config.most_hops));
        let but = match &asker {
            Asker::Own(_) => None,
            Asker::Peer(peer) => Some(peer),
        };
        // What has come from its first super-node as a question to this one was answered there.
        let answered = self.seen.get(&id).is_some();
        let found = if answered { Vec::new() } else { self.matching(&query, but, wanted, cx.wall()) };
        let given = found.len();
        let asked =
            Asked { asker, query: query.clone(), wanted, given, given_by: BTreeMap::new(), claims: 0 };
        if !self.asked.insert(id, asked) {
            self.tally.duplicates += 1;
            return;
        }
        self.reached(id, ttl);
        if let Some(listen) = self.listen {
            match asker {
                Asker::Own(op) => self.found(cx, op, None, listen, found),
                Asker::Peer(peer) if found.is_empty() => self.give(cx, peer, id, listen, found),
                Asker::Peer(peer) => {
                    found.chunks(BATCH).for_each(|some| self.give(cx, peer, id, listen, some.to_vec()));
                }
            }
        }
        if let (true, Some(origin)) = (given < wanted && ttl > 0, self.listen) {
            let question = KazaaMsg::Query { id, origin, query, ttl: ttl - 1 };
            let peers = self.pass_on(cx, but.copied(), &question);
            if let Asker::Own(op) = asker {
                self.charge(op, &question, &peers);
            }
            if let Some(asked) = self.asked.get_mut(&id) {
                asked.given_by.extend(peers.into_iter().map(|peer| (peer, 0)));
            }
        }
    }

    /// Notes that a question has come; whether it was new.
    fn reached(&mut self, id: u64, ttl: u8) -> bool {
        let new = self.seen.insert(id, ttl);
        match new {
            true => self.tally.reached += 1,
            false => self.tally.duplicates += 1,
        }
        new
    }

    fn give(&mut self, cx: &mut Cx<'_, Self>, to: P, id: u64, via: Contact, hits: Vec<Source>) {
        self.tally.hits += 1;
        cx.send(to, KazaaMsg::Results { id, via, hits });
    }

    /// Asks all super-nodes next to this one; who they are.
    fn pass_on(&mut self, cx: &mut Cx<'_, Self>, but: Option<P>, query: &KazaaMsg) -> Vec<P> {
        let peers: Vec<P> = self.super_nodes().filter(|peer| Some(*peer) != but).collect();
        self.tally.queries += peers.len() as u64;
        peers.iter().for_each(|peer| cx.send(*peer, query.clone()));
        peers
    }

    // ---- questions of other super-nodes

    /// Another super-node looks for something.
    pub(super) fn on_query(
        &mut self,
        cx: &mut Cx<'_, Self>,
        from: P,
        id: u64,
        origin: Contact,
        query: &Query,
        ttl: u8,
    ) {
        let (now, config) = (cx.now(), self.config);
        let Some(query) = sound(query).filter(|_| self.role() == Role::Ultrapeer && is_somewhere(&origin))
        else {
            return;
        };
        let Some(listen) = self.listen else { return };
        // Somebody wants what it was offered.
        if self.offered.get(&id) == Some(&from) {
            self.offered.remove(&id);
            let found = self.matching(&query, Some(&from), config.results, cx.wall());
            return self.give(cx, from, id, listen, found);
        }
        let neighbour = self.neighbours.get_mut(&from).filter(|one| one.up && one.kind == Kind::Super);
        let passes = neighbour.is_some_and(|neighbour| neighbour.account.queries.take(now, config.queries))
            && self.passing.take(now, config.passing);
        if !passes || origin.id == listen.id {
            self.tally.dropped += 1;
            return;
        }
        let ttl = ttl.min(config.most_hops);
        // It may have come by a longer way at first.
        let further = self.seen.get(&id).is_some_and(|before| *before < ttl);
        let new = self.reached(id, ttl);
        if new {
            self.answer(cx, from, id, origin, listen, &query);
        }
        if let Some(before) = self.seen.get_mut(&id).filter(|_| further) {
            *before = ttl;
        }
        if (new || further) && ttl > 0 && self.forwards.take(now, config.forwards) {
            self.pass_on(cx, Some(from), &KazaaMsg::Query { id, origin, query, ttl: ttl - 1 });
        }
    }

    /// Tells the one that has begun a search what is here, or that something is.
    fn answer(
        &mut self,
        cx: &mut Cx<'_, Self>,
        from: P,
        id: u64,
        origin: Contact,
        listen: Contact,
        query: &Query,
    ) {
        let found = self.matching(query, Some(&from), self.config.results.min(BATCH), cx.wall());
        if found.is_empty() {
            return;
        }
        if from.may_be(&origin) {
            return self.give(cx, from, id, listen, found);
        }
        // Nobody is sent what a third says that it has asked for.
        let (now, rate) = (cx.now(), self.config.offers);
        if !self.neighbours.get_mut(&from).is_some_and(|one| one.account.offers.take(now, rate)) {
            self.tally.dropped += 1;
            return;
        }
        let asker = self.dial(origin);
        self.offered.insert(id, asker);
        self.tally.offers += 1;
        cx.send(asker, KazaaMsg::Offer { id, hits: found.len() as u16 });
    }

    /// Somebody who is no neighbour has something.
    pub(super) fn on_offer(&mut self, cx: &mut Cx<'_, Self>, from: P, id: u64, hits: u16) {
        let asked = self.asked.get_mut(&id);
        let wanted = asked.filter(|one| hits > 0 && one.given < one.wanted && one.claims < CLAIMS);
        let (Some(asked), Some(origin)) = (wanted, self.listen) else {
            self.tally.dropped += 1;
            return;
        };
        asked.claims += 1;
        asked.given_by.entry(from).or_default();
        let query = asked.query.clone();
        self.tally.queries += 1;
        cx.send(from, KazaaMsg::Query { id, origin, query, ttl: 0 });
    }

    // ---- hits

    /// Somebody has something: for a user of this node, for one that has asked this super-node, or it cannot have it.
    pub(super) fn on_results(
        &mut self,
        cx: &mut Cx<'_, Self>,
        from: P,
        id: u64,
        via: Contact,
        hits: Vec<Source>,
    ) {
        if self.decoys.get(&id) == Some(&from) {
            if !hits.is_empty() {
                self.ban(cx, from);
            }
            return;
        }
        if let Some(op) = self.search_at(&from, id) {
            // Its parent, or whom it visits, hands on what others have.
            return self.found(cx, op, Some(from), via, hits);
        }
        let banned = self.nodes.is_banned(&id_of(&from), cx.now());
        let Some(asked) = self.asked.get_mut(&id).filter(|_| !banned) else {
            self.tally.dropped += 1;
            return;
        };
        let Some(theirs) = asked.given_by.get_mut(&from) else {
            self.tally.dropped += 1;
            return;
        };
        let most = self.config.results.saturating_sub(*theirs).min(asked.wanted.saturating_sub(asked.given));
        let mut is_false = hits.iter().any(|hit| !hit.item.matches(&asked.query));
        let mut hits = hits;
        hits.retain(|hit| hit.item.check().is_ok() && hit.item.matches(&asked.query));
        hits.truncate(most.min(BATCH));
        *theirs += hits.len();
        asked.given += hits.len();
        let asker = asked.asker;
        // Whose index it is, nobody says but who has it.
        let known = self.neighbours.get(&from).and_then(|one| one.contact);
        if let Some(via) = known.or_else(|| from.contact()).filter(|_| !hits.is_empty()) {
            match asker {
                Asker::Own(op) => self.found(cx, op, Some(from), via, hits),
                Asker::Peer(peer) => {
                    // Whoever has asked would take this node for the one who forges.
                    is_false |= self.leave_out_forged(&mut hits, cx.wall());
                    if !hits.is_empty() {
                        self.give(cx, peer, id, via, hits);
                    }
                }
            }
        }
        if is_false {
            self.ban(cx, from);
        }
    }

    /// Keeps the hits that their sources have signed, up to the first that is forged; whether there is one.
    fn leave_out_forged(&mut self, hits: &mut Vec<Source>, wall: Duration) -> bool {
        let mut forged = false;
        hits.retain(|hit| {
            let worth = match forged {
                true => return false,
                false => Self::worth(self.signer.as_ref(), hit, wall, self.config.lifetime),
            };
            forged |= worth == Worth::Forged;
            worth == Worth::Good
        });
        self.tally.disbelieved += u64::from(forged);
        forged
    }
}
