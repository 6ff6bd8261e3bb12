//! How much goes to a neighbour, and what becomes of one that does not keep up.

use p2p_core::Cx;

use super::msg::Push;
use super::store::Stored;
use super::{Plumtree, PlumtreeMsg, PlumtreeTimer};
use crate::membership::{Membership, MembershipCommand};

impl<M: Membership> Plumtree<M> {
    /// Sends a neighbour a message, as soon as there is room in its window. If too much waits for that it has to fetch
    /// messages from now on.
    pub(super) fn push(&mut self, cx: &mut Cx<'_, Self>, at: usize, message: Stored<M::Peer>) {
        if !self.branches[at].eager {
            return self.announce(cx, at, &message);
        }
        if self.branches[at].has_room(message.size(), self.config.window) {
            return self.transmit(cx, at, message);
        }
        if let Err(message) = self.branches[at].wait(message, self.config.queue) {
            self.make_lazy(cx, at);
            return self.announce(cx, at, &message);
        }
        self.mark(cx, at);
    }

    /// Has a neighbour say when it has taken in what it was sent, if that is to be known.
    fn mark(&mut self, cx: &mut Cx<'_, Self>, at: usize) {
        let branch = &mut self.branches[at];
        if let Some(mark) = branch.mark_all(cx.now(), self.config.window) {
            cx.send(branch.peer, PlumtreeMsg::Mark(mark));
            self.watch(cx);
        }
    }

    fn transmit(&mut self, cx: &mut Cx<'_, Self>, at: usize, message: Stored<M::Peer>) {
        let own = self.is_own(&message.source).then_some(message.number);
        let branch = &mut self.branches[at];
        let mark = branch.sent(cx.now(), &message, own, self.config.window);
        let Stored { source, number, topic, hops, bytes } = message;
        cx.send(branch.peer, PlumtreeMsg::Push(Push { source, number, topic, hops, mark, bytes }));
        if mark != 0 {
            self.watch(cx);
        }
    }

    fn watch(&mut self, cx: &mut Cx<'_, Self>) {
        if !self.set.flow {
            self.set.flow = true;
            cx.set_timer(self.config.stall / 2, PlumtreeTimer::Flow);
        }
    }

    pub(super) fn on_took(&mut self, cx: &mut Cx<'_, Self>, from: M::Peer, mark: u32) {
        let Some(at) = self.branch(from) else { return };
        let Some(own) = self.branches[at].took(mark) else { return };
        while let Some(message) = self.branches[at].next(self.config.window) {
            self.transmit(cx, at, message);
        }
        self.mark(cx, at);
        if let Some(own) = own {
            self.acknowledge(cx, own);
        }
    }

    pub(super) fn on_mark(&mut self, from: M::Peer, mark: u32) {
        if let Some(at) = self.branch(from) {
            self.branches[at].owe(mark);
        }
    }

    /// Whether somebody is waited for.
    pub(super) fn is_congested(&self) -> bool {
        self.branches.iter().any(|branch| branch.is_congested() && !branch.stalled)
    }

    /// Says that all is taken in.
    pub(super) fn answer_marks(&mut self, cx: &mut Cx<'_, Self>) {
        for branch in &mut self.branches {
            for mark in branch.owed.drain(..) {
                cx.send(branch.peer, PlumtreeMsg::Took(mark));
            }
        }
    }

    /// Who has left a mark unanswered for a while is asked again and holds nobody up; who has for long is dropped.
    pub(super) fn look_at_marks(&mut self, cx: &mut Cx<'_, Self>) {
        self.set.flow = false;
        let (now, mut slow) = (cx.now(), Vec::new());
        let mut any = false;
        for branch in &mut self.branches {
            let Some((mark, at)) = branch.oldest_mark() else { continue };
            any = true;
            if at + self.config.patience <= now {
                slow.push(branch.peer);
            } else if at + self.config.stall <= now {
                branch.stalled = true;
                cx.send(branch.peer, PlumtreeMsg::Mark(mark));
            }
        }
        for peer in slow {
            self.tell_membership(cx, MembershipCommand::Expel(peer));
        }
        if any {
            self.watch(cx);
        }
    }
}
