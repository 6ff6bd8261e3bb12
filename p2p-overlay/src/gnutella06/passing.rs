//! What others ask and answer: queries go to leaves and to last hops by their tables, hits back the way that the query
//! has come, and pushes the way of the hit.

use p2p_core::{Contact, Cx, OpId};

use super::neighbours::Neighbour;
use super::{Asked, Gnutella06, Gnutella06Event, Gnutella06Msg};
use crate::gnutella::passing::{Shares, answers, hit_of, query};
use crate::gnutella::pushing::Pushed;
use crate::gnutella::{Descriptor, Guid, Payload};
use crate::place::Place;
use crate::promotion::Role;

/// The way that a query has come.
#[derive(Clone, Debug)]
pub(super) struct Route<P> {
    pub way: Way<P>,
    /// Results that have come for it.
    results: Shares<P>,
    /// How far it was asked to go.
    ttl: u8,
}

/// Whose a question is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way<P> {
    /// A user's of this node.
    Own(OpId),
    /// It came from this neighbour.
    Via(P),
}

impl<P> Route<P> {
    pub(super) fn new(way: Way<P>, ttl: u8) -> Route<P> {
        Route { way, results: Shares::default(), ttl }
    }
}

fn is_ultrapeer(neighbour: &Neighbour) -> bool {
    neighbour.role == Role::Ultrapeer
}

/// What tables are asked about a query.
pub(super) fn asked(payload: &Payload) -> Asked {
    match payload {
        Payload::Query { criteria, extension, .. } => Asked::new(&query(criteria, extension)),
        _ => Asked::default(),
    }
}

impl<P: Place> Gnutella06<P> {
    /// Somebody looks for something.
    pub(super) fn on_query(&mut self, cx: &mut Cx<'_, Self>, from: P, descriptor: Descriptor) {
        let (now, most) = (cx.now(), self.config.queries);
        let Some(neighbour) = self.neighbours.get_mut(&from) else { return };
        let asker = neighbour.role;
        // A leaf passes nobody's on.
        let own = descriptor.hops == 0 || asker == Role::Leaf;
        if own && !neighbour.account.queries.take(now, most) {
            self.tally.dropped += 1;
            return;
        }
        if let Some(route) = self.queries.get_mut(&descriptor.id) {
            // Whoever guides it has asked near at first, and now asks further: others may not have heard of it.
            let further = descriptor.ttl > route.ttl && asker == Role::Ultrapeer;
            let passes =
                matches!(route.way, Way::Via(via) if self.neighbours.get(&via).is_some_and(is_ultrapeer));
            if further && passes && self.promotion.role() == Role::Ultrapeer {
                route.ttl = descriptor.ttl;
                let words = asked(&descriptor.payload);
                return self.pass_on(cx, from, &words, descriptor);
            }
            self.tally.duplicates += 1;
            if let Way::Own(op) = route.way {
                self.came_back(op, &descriptor);
            }
            return;
        }
        let route = Route::new(Way::Via(from), descriptor.ttl);
        match asker {
            // It is guided here, if this is an ultrapeer.
            Role::Leaf => self.queries.insert_own(descriptor.id, route),
            Role::Ultrapeer => self.queries.insert(descriptor.id, route),
        }
        self.tally.reached += 1;
        self.answer(cx, from, &descriptor);
        match (self.role(), asker) {
            (Role::Leaf, _) => {}
            (Role::Ultrapeer, Role::Leaf) => {
                // Its hits are for it alone: it cannot have passed on another's question.
                self.begin_guiding(cx, Way::Via(from), descriptor.id, descriptor.payload);
            }
            (Role::Ultrapeer, Role::Ultrapeer) => {
                let words = asked(&descriptor.payload);
                self.ask_leaves(cx, Some(from), &words, &descriptor);
                self.pass_on(cx, from, &words, descriptor);
            }
        }
    }

    /// Says what of its own matches.
    fn answer(&mut self, cx: &mut Cx<'_, Self>, to: P, descriptor: &Descriptor) {
        for some in answers(&self.library, &descriptor.payload, self.config.results) {
            let servent = self.pushing.offer(self.servent, cx.rng());
            let hit = hit_of(self.listen, self.config.speed, some, servent);
            let ttl = descriptor.hops.saturating_add(1);
            self.tally.hits += 1;
            let payload = Payload::QueryHit(hit);
            self.tell(cx, to, Descriptor { id: descriptor.id, ttl, hops: 0, payload });
        }
    }

    /// Asks the leaves that might have it; how many.
    pub(super) fn ask_leaves(
        &mut self,
        cx: &mut Cx<'_, Self>,
        but: Option<P>,
        words: &Asked,
        descriptor: &Descriptor,
    ) -> usize {
        let leaves = self.up(Role::Leaf).filter(|(peer, _)| Some(*peer) != but);
        // Who has told no table shares nothing.
        let might =
            leaves.map(|(peer, leaf)| (peer, leaf.table().is_some_and(|table| table.may_match(words))));
        let mut asked = 0;
        for (peer, might) in might.collect::<Vec<(P, bool)>>() {
            if !might {
                self.tally.leaves_spared += 1;
                continue;
            }
            asked += 1;
            self.tally.to_leaves += 1;
            let hops = descriptor.hops.saturating_add(1);
            self.tell(cx, peer, Descriptor { ttl: 1, hops, ..descriptor.clone() });
        }
        asked
    }

    /// Passes another ultrapeer's question on, if that has asked no more than its share: on the last hop, to those who
    /// might have it.
    fn pass_on(&mut self, cx: &mut Cx<'_, Self>, from: P, words: &Asked, descriptor: Descriptor) {
        let Some(descriptor) = descriptor.onward() else { return };
        let (now, share) = (cx.now(), self.config.passing);
        if !self.neighbours.get_mut(&from).is_some_and(|from| from.account.passing.take(now, share)) {
            self.tally.dropped += 1;
            return;
        }
        for peer in self.ultrapeers().filter(|peer| *peer != from).collect::<Vec<P>>() {
            self.ask_ultrapeer(cx, peer, words, &descriptor);
        }
    }

    /// Asks an ultrapeer, unless it would pass the question on to nobody and has nothing itself; whether it did.
    pub(super) fn ask_ultrapeer(
        &mut self,
        cx: &mut Cx<'_, Self>,
        peer: P,
        words: &Asked,
        descriptor: &Descriptor,
    ) -> bool {
        if descriptor.ttl == 1 {
            let table = self.neighbours.get(&peer).and_then(|neighbour| neighbour.table());
            if table.is_some_and(|table| !table.may_match(words)) {
                self.tally.last_hops_spared += 1;
                return false;
            }
            self.tally.last_hops += 1;
        }
        self.tally.queries += 1;
        self.tell(cx, peer, descriptor.clone());
        true
    }

    /// Somebody has something.
    pub(super) fn on_hit(&mut self, cx: &mut Cx<'_, Self>, from: P, descriptor: Descriptor) {
        let Payload::QueryHit(hit) = &descriptor.payload else { return };
        let results = hit.results.len();
        let Some(route) = self.queries.get_mut(&descriptor.id) else {
            self.tally.dropped += 1;
            return;
        };
        let way = route.way;
        let is_own = matches!(way, Way::Own(_));
        // Nobody answers its own question.
        if way == Way::Via(from)
            || !is_own && route.results.add(from, results, self.config.hits_per_query) == 0
        {
            self.tally.dropped += 1;
            return;
        }
        self.pushing.on_hit(hit.servent, from, |known| self.neighbours.contains_key(known));
        self.count_results(&descriptor.id, from, results);
        match way {
            Way::Own(op) => self.on_own_hit(cx, from, op, &descriptor),
            Way::Via(via) => self.tally.hits += u64::from(self.pass_back(cx, via, descriptor)),
        }
    }

    /// Passes an answer back; says whether there was a way.
    fn pass_back(&mut self, cx: &mut Cx<'_, Self>, via: P, descriptor: Descriptor) -> bool {
        let Some(descriptor) = descriptor.onward().filter(|_| self.neighbours.contains_key(&via)) else {
            self.tally.dropped += 1;
            return false;
        };
        self.tell(cx, via, descriptor);
        true
    }

    /// Somebody wants a servent to connect to it.
    pub(super) fn on_push(&mut self, cx: &mut Cx<'_, Self>, from: P, descriptor: Descriptor) {
        let Payload::Push { servent, index, contact, .. } = descriptor.payload else { return };
        match self.pushing.on_push(descriptor.id, &servent, from) {
            Pushed::Again => self.tally.duplicates += 1,
            Pushed::Own => self.give(cx, servent, index, contact),
            Pushed::Via(via) => {
                self.pass_back(cx, via, descriptor);
            }
            Pushed::Nowhere => self.tally.dropped += 1,
        }
    }

    /// Connects to whoever has asked, if it is right to.
    fn give(&mut self, cx: &mut Cx<'_, Self>, servent: Guid, index: u32, contact: Contact) {
        let (now, rate) = (cx.now(), self.config.push);
        let Some(name) = self.pushing.gives(&self.library, &servent, index, &contact, now, rate) else {
            self.tally.dropped += 1;
            return;
        };
        self.number += 1;
        self.tally.dials += 1;
        let to = P::at(contact, self.number);
        cx.send(to, Gnutella06Msg::Give { index, servent, name });
        cx.emit(Gnutella06Event::Gives { to, index });
    }

    /// A leaf says how many results have come to it.
    pub(super) fn on_status(&mut self, cx: &mut Cx<'_, Self>, from: P, id: Guid, hits: u16) {
        let theirs = self.guided.get_mut(&id).filter(|guided| guided.way == Way::Via(from));
        match theirs {
            None => self.tally.dropped += 1,
            Some(_) if hits == u16::MAX => self.stop_guiding(cx, id),
            Some(guided) => guided.results = guided.results.max(hits.into()),
        }
    }
}
