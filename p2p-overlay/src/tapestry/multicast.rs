//! How all who need a newcomer hear of it: the acknowledged multicast (SPAA §3).
//!
//! A newcomer fills a hole only in the tables of those who share as many digits with it as its surrogate does. The
//! surrogate passes the word on to one of each group that shares one digit more, those to one of each group of theirs,
//! and so on: each of them hears of it once. A node answers when all to whom it has passed the word on have answered;
//! when the surrogate has heard from all, the newcomer has joined.
//!
//! *Two at once.* Whoever hears of a newcomer has it in its table from then on, though nothing goes by it yet, and says
//! so to it ([`TapestryMsg::Welcome`]) with all other newcomers that it knows of. Were two nodes, A and B, to be
//! missing in each other's tables, one of them, say B, would be alone in its slot of A's table: then all who share with
//! B what A and B share hear of B, among them A's surrogate, which hears of A too. Whichever of the two it hears of
//! second is told of the first, and asks it whether it lives; so both know each other. That is what SPAA's pinned
//! pointers and watch lists are for. Where the word is lost with a node that dies, the upkeep mends it: neighbours
//! compare their levels.

use p2p_core::{Cx, Keyed};

use super::levels::Neighbour;
use super::upkeep::Asked;
use super::{MAX_ASKED, TapestryMsg, TapestryTable};
use crate::structured::Next;

/// A newcomer of whom this node is spreading the word.
#[derive(Clone, Debug)]
pub(super) struct Multicast<P> {
    id: u32,
    newcomer: P,
    shared: u8,
    parent: Parent<P>,
    /// How many have not answered.
    waiting: u16,
}

/// Who wants to hear when all have heard of it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Parent<P> {
    /// A node that has passed the word on, and its number for the question.
    Node(P, u32),
    /// The newcomer itself: this node is its surrogate.
    Newcomer(u32),
}

/// To whom the word is passed on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Child {
    multicast: u32,
    level: u8,
    digit: u8,
    patience: u8,
    /// Another of its group was silent.
    again: bool,
}

/// How many newcomers a node spreads the word of at once. One more has to try again.
const MAX_MULTICASTS: usize = 64;
/// How many timeouts the surrogate waits. Each node leaves those to whom it passes the word on less than half of its
/// own, so that where one is silent there is time for another.
const PATIENCE: u8 = 14;
/// The most newcomers in one welcome.
pub(super) const MAX_WELCOMED: usize = 32;

impl<P: Keyed> TapestryTable<P> {
    /// A newcomer takes this node for its surrogate.
    pub(super) fn on_insert(&mut self, cx: &mut Cx<'_, Self>, newcomer: P, id: u32) {
        let key = newcomer.key();
        let shared = (self.key.common_prefix(&key) / 4) as u8;
        if self.next_hop(&key, &[newcomer]) != Next::Mine {
            // Somebody else has come in between.
            return cx.send(newcomer, TapestryMsg::Inserted { id, done: false });
        }
        self.greet(cx, newcomer, shared);
        self.spread(cx, newcomer, shared, shared, PATIENCE, Parent::Newcomer(id));
    }

    /// There is a newcomer.
    pub(super) fn on_multicast(
        &mut self,
        cx: &mut Cx<'_, Self>,
        parent: Parent<P>,
        newcomer: P,
        shared: u8,
        level: u8,
        patience: u8,
    ) {
        let shares = self.key.common_prefix(&newcomer.key()) / 4;
        if newcomer == self.me || shares < shared.into() || level < shared {
            return parent.answer(cx, newcomer);
        }
        self.greet(cx, newcomer, shared);
        self.spread(cx, newcomer, shared, level, patience.min(PATIENCE), parent);
    }

    /// Takes a newcomer in, if there is room, and tells it who else has come.
    fn greet(&mut self, cx: &mut Cx<'_, Self>, newcomer: P, shared: u8) {
        self.levels.expect(newcomer);
        let others = self.levels.sharing(shared.into()).iter();
        let others = others.filter(|other| !other.joined && other.peer != newcomer);
        let peers = others.map(|other| other.peer).take(MAX_WELCOMED).collect();
        cx.send(newcomer, TapestryMsg::Welcome { peers });
    }

    /// Passes the word on to one of each slot from a level on, and to all newcomers in it: they may know somebody whom
    /// nobody else knows yet.
    fn spread(
        &mut self,
        cx: &mut Cx<'_, Self>,
        newcomer: P,
        shared: u8,
        level: u8,
        patience: u8,
        parent: Parent<P>,
    ) {
        if self.multicasts.len() >= MAX_MULTICASTS {
            return; // Whoever asked tries again.
        }
        let id = self.next_multicast;
        self.next_multicast = id.wrapping_add(1);
        self.multicasts.push(Multicast { id, newcomer, shared, parent, waiting: 0 });
        let mut children: Vec<(P, u8, u8)> = Vec::new();
        for slot in self.levels.sharing(level.into()).chunk_by(|a, b| a.place() == b.place()) {
            let slot = slot.iter().filter(|other| other.peer != newcomer).enumerate();
            let told = slot.filter(|(rank, other)| *rank == 0 || !other.joined);
            children.extend(told.map(|(_, other)| child(other)));
        }
        for (peer, level, digit) in children {
            let patience = (patience / 2).saturating_sub(1);
            self.pass_on(cx, peer, Child { multicast: id, level, digit, patience, again: false });
        }
        let waits = self.multicasts.last().is_some_and(|multicast| multicast.waiting > 0);
        if !waits || patience == 0 {
            self.end(cx, id);
        }
    }

    fn pass_on(&mut self, cx: &mut Cx<'_, Self>, peer: P, child: Child) {
        let Child { multicast, level, patience, .. } = child;
        let Some(multicast) = self.multicasts.iter_mut().find(|other| other.id == multicast) else { return };
        let deadline = cx.now() + self.config.lookup.hop_timeout * (u32::from(patience) + 1);
        if self.asked.len() < MAX_ASKED / 2
            && let Ok(id) = self.asked.insert(peer, deadline, Asked::Child(child))
        {
            multicast.waiting += 1;
            let (newcomer, shared) = (multicast.newcomer, multicast.shared);
            cx.send(peer, TapestryMsg::Multicast { id, newcomer, shared, level: level + 1, patience });
        }
    }

    /// One of those to whom the word was passed on has answered.
    pub(super) fn on_acknowledged(&mut self, cx: &mut Cx<'_, Self>, child: Child) {
        let multicast = self.multicasts.iter_mut().find(|other| other.id == child.multicast);
        let Some(multicast) = multicast else { return };
        multicast.waiting = multicast.waiting.saturating_sub(1);
        if multicast.waiting == 0 {
            self.end(cx, child.multicast);
        }
    }

    /// One of them is silent: another of its slot is told, if there is one.
    pub(super) fn on_silent_child(&mut self, cx: &mut Cx<'_, Self>, peer: P, child: Child) {
        let slot = self.levels.slot(child.level.into(), child.digit);
        let other = slot.iter().find(|other| other.peer != peer && other.joined && !other.is_doubtful());
        if let Some(other) = other.filter(|_| !child.again) {
            self.pass_on(cx, other.peer, Child { again: true, ..child });
        }
        self.on_acknowledged(cx, child);
    }

    /// All have answered, or there is no time left.
    fn end(&mut self, cx: &mut Cx<'_, Self>, id: u32) {
        let Some(at) = self.multicasts.iter().position(|multicast| multicast.id == id) else { return };
        let multicast = self.multicasts.swap_remove(at);
        multicast.parent.answer(cx, multicast.newcomer);
    }
}

impl<P: Keyed> Parent<P> {
    /// All have heard of the newcomer.
    fn answer(self, cx: &mut Cx<'_, TapestryTable<P>>, newcomer: P) {
        match self {
            Parent::Node(parent, id) => cx.send(parent, TapestryMsg::Acknowledge { id }),
            Parent::Newcomer(id) => cx.send(newcomer, TapestryMsg::Inserted { id, done: true }),
        }
    }
}

fn child<P: Copy>(other: &Neighbour<P>) -> (P, u8, u8) {
    let (level, digit) = other.place();
    (other.peer, level, digit)
}
