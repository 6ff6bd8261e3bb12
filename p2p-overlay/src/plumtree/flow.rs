//! How much goes to a neighbour and to this node's subscribers, and what becomes of those that do not keep up.

use p2p_core::{Cx, OpId};

use super::branch::Branch;
use super::msg::Push;
use super::store::Stored;
use super::streams::Source;
use super::{Plumtree, PlumtreeMsg, PlumtreeOutcome, PlumtreeTimer};
use crate::membership::{Membership, MembershipCommand};
use crate::pubsub::{Delivery, Message, PubSubError, Topic};

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
        if let Err(message) = self.branches[at].wait(self.passed, message, self.config.queue) {
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
            cx.set_timer(self.config.stall / 4, PlumtreeTimer::Flow);
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
        if mark != 0
            && let Some(at) = self.branch(from)
        {
            self.branches[at].owe(mark, self.passed);
            self.owing = true;
        }
    }

    /// Whether somebody is waited for.
    pub(super) fn is_congested(&self) -> bool {
        self.readers.is_behind() || self.branches.iter().any(|branch| branch.first_waiting().is_some())
    }

    /// Says what is taken in: that this node's subscribers have, or have room for, and all neighbours but the one that
    /// it came from. For that one nothing of it waits; and of two who send each other much each would wait for the
    /// other.
    pub(super) fn answer_marks(&mut self, cx: &mut Cx<'_, Self>) {
        if !self.owing {
            return;
        }
        for at in 0..self.branches.len() {
            if !self.branches[at].owes() {
                continue;
            }
            let others = self.branches.iter().enumerate().filter(|(other, _)| *other != at);
            let waiting = others.filter_map(|(_, branch)| branch.first_waiting());
            let here = self.readers.first_waiting().into_iter().chain(self.streams.first_due());
            let before = waiting.chain(here).min().unwrap_or(u64::MAX);
            let branch = &mut self.branches[at];
            let peer = branch.peer;
            branch.pay(before).for_each(|mark| cx.send(peer, PlumtreeMsg::Took(mark)));
        }
        self.owing = self.branches.iter().any(Branch::owes);
    }

    // ---- this node's subscribers

    /// Gives the subscribers of a topic a message. If more waits for them than may, the slowest are cut off.
    pub(super) fn deliver(&mut self, cx: &mut Cx<'_, Self>, topic: Topic, message: &Message<M::Peer>) {
        let now = cx.now();
        let give = |op, message| cx.item(op, Delivery::Message(message));
        self.readers.deliver(now, self.passed, &topic, message, give);
        while let Some(slow) = self.readers.too_slow(self.config.backlog) {
            self.leave(slow);
            cx.finish(slow, PlumtreeOutcome::Ended(Err(PubSubError::Lagged)));
        }
        if self.readers.is_behind() {
            self.watch(cx);
        }
    }

    /// A subscriber is gone. After the last one nothing waits for its order.
    pub(super) fn leave(&mut self, op: OpId) {
        self.readers.remove(op);
        if self.readers.is_empty() {
            self.streams.skip_held();
        }
    }

    /// Gives the subscribers what has waited for its order and whose turn has come, as they keep up. Neighbours were told
    /// that it is taken in, and have sent more meanwhile: at once it could be more than may wait for a subscriber.
    pub(super) fn deliver_due(&mut self, cx: &mut Cx<'_, Self>) {
        while !self.readers.is_behind()
            && let Some(source) = self.streams.any_due()
        {
            if let Some((topic, message)) = self.streams.next_due(&source) {
                self.deliver(cx, topic, &message);
            }
        }
    }

    /// Gives the subscribers all that is held of a source.
    pub(super) fn release(&mut self, cx: &mut Cx<'_, Self>, source: &Source<M::Peer>) {
        for (topic, message) in self.streams.release(source) {
            self.deliver(cx, topic, &message);
        }
    }

    /// A subscriber has read.
    pub(super) fn read(&mut self, cx: &mut Cx<'_, Self>, op: OpId, items: usize) {
        let now = cx.now();
        self.readers.read(now, op, items, |op, message| cx.item(op, Delivery::Message(message)));
        if self.readers.is_behind() {
            self.watch(cx);
        }
    }

    // ---- who does not keep up

    /// Who has left a mark unanswered for a while is asked again and holds nobody up; who has for long is dropped. A
    /// subscriber holds nobody up for half as long: its node is waited for meanwhile.
    pub(super) fn look_at_flow(&mut self, cx: &mut Cx<'_, Self>) {
        self.set.flow = false;
        let (now, mut slow) = (cx.now(), Vec::new());
        self.readers.look(now, self.config.stall / 2);
        let mut any = self.readers.is_behind();
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
