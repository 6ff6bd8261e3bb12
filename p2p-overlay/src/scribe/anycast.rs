//! A message for one member that takes it: a depth-first search of the tree (NGC 2003, §3).
//!
//! It goes towards the root until it meets the tree, and then from node to node: the children first, in random order
//! (the paper: the nearest first), then up. What it has to visit travels with it.

use bytes::Bytes;
use p2p_core::{Cx, NoJob, OpId, Peer};

use super::tree::Member;
use super::{AVOIDED, AnycastError, MAX_HOPS, Scribe, ScribeMsg, ScribeOutcome, ScribeTimer, Visit};
use crate::pubsub::{Delivery, Message, Topic};
use crate::structured::SingleRoot;
use crate::trail::Trail;

/// How many nodes of a tree an anycast visits, and how many it knows of that it has yet to visit.
const MAX_VISITS: usize = 64;

impl<O: SingleRoot<Job = NoJob>> Scribe<O> {
    pub(super) fn begin_anycast(&mut self, cx: &mut Cx<'_, Self>, op: OpId, topic: Topic, bytes: Bytes) {
        if let Err(error) = self.can_send(&bytes) {
            return cx.finish(op, ScribeOutcome::Anycast(Err(error.into())));
        }
        let ticket = cx.rng().next_u64();
        self.anycasts.insert(ticket, op);
        cx.set_timer(self.config.anycast_timeout, ScribeTimer::Anycast(ticket));
        self.on_anycast(
            cx,
            Visit {
                topic,
                origin: self.overlay.me(),
                ticket,
                hops: 0,
                claimed: false,
                trail: Trail::new(Vec::new()),
                visited: Vec::new(),
                to_visit: Vec::new(),
                bytes,
            },
        );
    }

    pub(super) fn on_anycast(&mut self, cx: &mut Cx<'_, Self>, mut visit: Visit<O::Peer>) {
        if visit.bytes.len() > self.config.max_bytes {
            return;
        }
        visit.trail.truncate(AVOIDED);
        visit.visited.truncate(MAX_VISITS);
        visit.to_visit.truncate(MAX_VISITS);
        let me = self.overlay.me();
        if visit.visited.contains(&me) {
            return; // Nobody honest sends it here again.
        }
        match self.trees.contains_key(&visit.topic) {
            true => self.visit(cx, visit),
            false if visit.visited.is_empty() && visit.to_visit.is_empty() => self.toward_the_tree(cx, visit),
            // This node has left the tree.
            false => self.visit_next(cx, visit),
        }
    }

    fn toward_the_tree(&mut self, cx: &mut Cx<'_, Self>, mut visit: Visit<O::Peer>) {
        visit.hops = visit.hops.saturating_add(1);
        match self.onward(visit.topic, visit.claimed, &mut visit.trail).hop() {
            Some((to, claimed)) if visit.hops <= MAX_HOPS => {
                cx.send(to, ScribeMsg::Anycast(Visit { claimed, ..visit }));
            }
            _ => self.not_taken(cx, &visit),
        }
    }

    /// This node is in the tree.
    fn visit(&mut self, cx: &mut Cx<'_, Self>, mut visit: Visit<O::Peer>) {
        let me = self.overlay.me();
        let Some(tree) = self.trees.get_mut(&visit.topic) else { return };
        visit.visited.push(me);
        let offers = tree.members.iter_mut().find_map(|(op, member)| match member {
            Member::Offer { left } => Some((*op, left)),
            Member::Subscriber { .. } => None,
        });
        // What an asker offers itself it does not ask others for.
        if let Some((op, left)) = offers.filter(|_| visit.origin != me) {
            *left -= 1;
            let over = *left == 0;
            let Visit { ticket, origin, bytes, .. } = visit;
            cx.item(op, Delivery::Message(Message { publisher: origin, bytes }));
            cx.send(origin, ScribeMsg::Taken { ticket });
            if over {
                self.remove_member(cx, op);
                cx.finish(op, ScribeOutcome::Ended(Ok(())));
            }
            return;
        }
        let mut children: Vec<O::Peer> = tree.children.keys().copied().collect();
        let parent = tree.parent();
        cx.rng().shuffle(&mut children);
        plan(&mut visit, parent, children);
        self.visit_next(cx, visit);
    }

    fn visit_next(&mut self, cx: &mut Cx<'_, Self>, mut visit: Visit<O::Peer>) {
        let next = visit.to_visit.pop().filter(|_| visit.visited.len() < MAX_VISITS);
        match next {
            Some(next) if next != self.overlay.me() => cx.send(next, ScribeMsg::Anycast(visit)),
            _ => self.not_taken(cx, &visit),
        }
    }

    fn not_taken(&mut self, cx: &mut Cx<'_, Self>, visit: &Visit<O::Peer>) {
        let (ticket, visited) = (visit.ticket, visit.visited.len() as u16);
        match visit.origin == self.overlay.me() {
            true => self.anycast_over(cx, ticket, Err(AnycastError::NotTaken { visited })),
            false => cx.send(visit.origin, ScribeMsg::NotTaken { ticket, visited }),
        }
    }

    /// An anycast of this node's users has ended.
    pub(super) fn anycast_over(
        &mut self,
        cx: &mut Cx<'_, Self>,
        ticket: u64,
        result: Result<O::Peer, AnycastError>,
    ) {
        if let Some(op) = self.anycasts.remove(&ticket) {
            cx.clear_timer(ScribeTimer::Anycast(ticket));
            cx.finish(op, ScribeOutcome::Anycast(result));
        }
    }
}

/// Adds who is next to a node: its children come first, its parent last of all.
fn plan<P: Peer>(visit: &mut Visit<P>, parent: Option<P>, children: Vec<P>) {
    let mut add = |at: Option<usize>, peer: P| {
        let known = visit.visited.contains(&peer) || visit.to_visit.contains(&peer);
        if !known && visit.to_visit.len() < MAX_VISITS {
            let at = at.unwrap_or(visit.to_visit.len());
            visit.to_visit.insert(at, peer);
        }
    };
    parent.into_iter().for_each(|parent| add(Some(0), parent));
    children.into_iter().for_each(|child| add(None, child));
}
