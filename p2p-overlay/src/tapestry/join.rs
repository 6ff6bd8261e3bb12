//! How a Tapestry node joins (SPAA §3 and §4).
//!
//! The newcomer looks up its own key, which gives its surrogate; copies the surrogate's levels as far as both share
//! digits, and asks each of those peers whether it lives; and has the surrogate make it known to all who need it
//! (`multicast`). Then it has joined, and says so to all it knows. Last it looks for nearer neighbours, level by level:
//! the nearest it knows who share as many digits are asked for theirs.

use p2p_core::{Cx, Keyed};

use super::levels::Levels;
use super::protocol::TapestryTimer;
use super::upkeep::{Asked, JOIN};
use super::{Entering, MAX_ASKED, MAX_BACKPOINTERS, TapestryMsg, TapestryTable};
use crate::structured::Want;

/// Newcomers that others name are asked while fewer questions wait.
const MAX_NAMED: usize = MAX_ASKED / 4;

impl<P: Keyed> TapestryTable<P> {
    pub(super) fn try_to_join(&mut self, cx: &mut Cx<'_, Self>) {
        if self.entering.is_some() {
            return; // It has its own timeouts.
        }
        let Some(door) = self.doors.next() else {
            // Nobody whom it has met can be reached: it goes on alone.
            self.joined = true;
            return;
        };
        cx.emit(Want { tag: JOIN, key: self.key, replicas: 1, via: Some(door) });
    }

    pub(super) fn on_surrogate(&mut self, cx: &mut Cx<'_, Self>, surrogate: P) {
        // Who was here before may be named itself.
        if !self.joined && self.entering.is_none() && surrogate != self.me {
            self.entering = Some(Entering { spread: None, greeters: Vec::new() });
            self.copy(cx, surrogate);
        }
    }

    pub(super) fn copy(&mut self, cx: &mut Cx<'_, Self>, from: P) {
        let upto = self.shared(&from.key());
        self.ask(cx, from, Asked::Copy, |id| TapestryMsg::GetRows { id, from: 0, upto });
    }

    pub(super) fn on_copied(&mut self, cx: &mut Cx<'_, Self>, from: P, peers: &[P]) {
        let joins = !self.joined && self.entering.is_some();
        for &peer in peers.iter().chain(&[from]) {
            self.consider(cx, peer, joins);
        }
        if joins {
            self.ask(cx, from, Asked::Insert, |id| TapestryMsg::Insert { id });
        }
    }

    pub(super) fn on_inserted(&mut self, cx: &mut Cx<'_, Self>, done: bool) {
        match &mut self.entering {
            Some(entering) if done => entering.spread = Some(cx.now() + self.config.lookup.timeout),
            _ => self.entering = None, // The timer tries again.
        }
    }

    /// Somebody has heard of this node.
    pub(super) fn on_welcome(&mut self, cx: &mut Cx<'_, Self>, from: P, peers: &[P]) {
        let Some(entering) = &mut self.entering else {
            // It was on its way for longer than the word that all have heard: its sender is told, as the others were.
            if self.joined {
                self.consider(cx, from, true);
            }
            return;
        };
        if entering.greeters.len() < MAX_BACKPOINTERS && !entering.greeters.contains(&from) {
            entering.greeters.push(from);
        }
        self.consider(cx, from, true);
        for &peer in peers {
            // Those that its surrogate has named, and whoever speaks for himself, have room however many others are named.
            if self.asked.len() < MAX_NAMED {
                self.consider(cx, peer, true);
            }
        }
    }

    /// Once all have heard of this node, and those it was told of have answered, it takes part, and says so. Whoever goes on
    /// telling it of others does not keep it out.
    pub(super) fn settle_in(&mut self, cx: &mut Cx<'_, Self>) {
        let Some(until) = self.entering.as_ref().and_then(|entering| entering.spread) else { return };
        let waits = || self.asked.iter().any(|(_, asked)| matches!(asked, Asked::Ping { .. }));
        if cx.now() < until && waits() {
            return;
        }
        let Some(entering) = self.entering.take() else { return };
        if self.neighbours().next().is_none() {
            return; // The surrogate has died.
        }
        self.joined = true;
        self.doors.found();
        let mut known: Vec<P> = self.levels.all().iter().map(|other| other.peer).collect();
        known.extend(entering.greeters.iter().filter(|peer| self.levels.find(**peer).is_none()));
        known.into_iter().for_each(|peer| self.ping(cx, peer));
        self.descent = Some(self.levels.depth().saturating_sub(1) as u8);
        self.descend(cx);
    }

    /// Asks the nearest who share as many digits for their neighbours at this level; then the level before it.
    pub(super) fn descend(&mut self, cx: &mut Cx<'_, Self>) {
        let Some(level) = self.descent else { return };
        for peer in Levels::nearest(self.levels.sharing(level.into()), self.config.nearest) {
            self.ask(cx, peer, Asked::Nearest, |id| TapestryMsg::GetRows { id, from: level, upto: level });
        }
        self.descent = level.checked_sub(1);
        // The answers, and those of whom they name.
        cx.set_timer(2 * self.config.lookup.hop_timeout, TapestryTimer::Nearest);
    }
}
