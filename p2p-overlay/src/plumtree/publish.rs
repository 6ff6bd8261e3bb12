//! What this node's users publish, and what they subscribe to.

use bytes::Bytes;
use p2p_core::{Cx, OpId};

use super::branch::Branch;
use super::store::Stored;
use super::streams::Source;
use super::{Plumtree, PlumtreeOutcome};
use crate::membership::Membership;
use crate::pubsub::{Delivery, Message, PubSubError, Topic};

/// The numbers of this node's own messages.
#[derive(Clone, Copy, Debug)]
pub(super) struct Own {
    life: u64,
    next: u64,
}

/// A message that waits for the neighbours.
#[derive(Clone, Debug)]
pub(super) struct Waiting {
    op: OpId,
    topic: Topic,
    bytes: Bytes,
}

impl<M: Membership> Plumtree<M> {
    // ---- publishing

    pub(super) fn is_own(&self, source: &Source<M::Peer>) -> bool {
        self.own.is_some_and(|own| own.life == source.life) && source.publisher == self.membership.me()
    }

    pub(super) fn begin_publish(&mut self, cx: &mut Cx<'_, Self>, op: OpId, topic: Topic, bytes: Bytes) {
        let (size, max) = (bytes.len(), self.config.max_bytes);
        let error = if size > max {
            PubSubError::TooLarge { size, max }
        } else if !self.membership.is_joined() {
            PubSubError::NotJoined
        } else if self.waiting.len() + self.unacknowledged.len() >= self.config.capacity {
            PubSubError::Busy
        } else {
            // `settle` admits it, if nobody has to be waited for.
            return self.waiting.push_back(Waiting { op, topic, bytes });
        };
        cx.finish(op, PlumtreeOutcome::Published(Err(error)));
    }

    pub(super) fn admit_waiting(&mut self, cx: &mut Cx<'_, Self>) {
        while !self.waiting.is_empty()
            && !self.is_congested()
            && let Some(Waiting { op, topic, bytes }) = self.waiting.pop_front()
        {
            self.admit(cx, op, topic, bytes);
        }
    }

    fn admit(&mut self, cx: &mut Cx<'_, Self>, op: OpId, topic: Topic, bytes: Bytes) {
        let mut own = self.own.unwrap_or_else(|| Own { life: cx.rng().next_u64(), next: 0 });
        let number = own.next;
        own.next += 1;
        self.own = Some(own);
        let source = Source { publisher: self.membership.me(), life: own.life };
        let stream = self.streams.enter(source, number, cx.now());
        stream.seen.insert(number);
        (stream.used, stream.announced) = (cx.now(), number);
        match self.branches.is_empty() {
            true => cx.finish(op, PlumtreeOutcome::Published(Ok(()))),
            false => self.unacknowledged.push_back((number, op)),
        }
        // Where whoever the tree led to is gone it begins anew.
        if !self.branches.iter().any(|branch| branch.eager) {
            self.branches.iter_mut().for_each(|branch| branch.eager = true);
        }
        self.pass_on(cx, Stored { source, number, topic, hops: 0, bytes: bytes.clone() }, None);
        self.deliver(cx, topic, &Message { publisher: source.publisher, bytes });
    }

    /// A neighbour has taken in this node's messages up to a number.
    pub(super) fn acknowledge(&mut self, cx: &mut Cx<'_, Self>, up_to: u64) {
        let covered = self.unacknowledged.partition_point(|(number, _)| *number <= up_to);
        for (_, op) in self.unacknowledged.drain(..covered) {
            cx.finish(op, PlumtreeOutcome::Published(Ok(())));
        }
    }

    /// A new neighbour is sent what no other has taken in.
    pub(super) fn push_unacknowledged(&mut self, cx: &mut Cx<'_, Self>, at: usize) {
        self.push_own(cx, at, 0);
    }

    /// A neighbour is gone. What it alone was to say that it has taken in goes to another one: that may have it already,
    /// from those whom it went on to, and would never ask for it.
    pub(super) fn push_orphaned(&mut self, cx: &mut Cx<'_, Self>) {
        let awaited = self.branches.iter().filter_map(Branch::awaited).max();
        let first = awaited.map_or(0, |awaited| awaited + 1);
        if self.unacknowledged.back().is_some_and(|(last, _)| *last >= first) {
            let heir = self.branches.iter().position(|branch| branch.eager).unwrap_or(0);
            self.branches[heir].eager = true;
            self.push_own(cx, heir, first);
        }
    }

    /// Sends a neighbour those of this node's messages, from this number on, that nobody is known to have taken in.
    fn push_own(&mut self, cx: &mut Cx<'_, Self>, at: usize, first: u64) {
        let Some(own) = self.own else { return };
        let source = Source { publisher: self.membership.me(), life: own.life };
        let numbers = self.unacknowledged.iter().map(|(number, _)| *number).filter(|number| *number >= first);
        for number in numbers.collect::<Vec<_>>() {
            if let Some(message) = self.store.get(source, number).cloned() {
                self.push(cx, at, message);
            }
        }
    }

    /// Nobody is left to take messages in.
    pub(super) fn fail_unacknowledged(&mut self, cx: &mut Cx<'_, Self>) {
        let waiting = self.waiting.drain(..).map(|waiting| waiting.op);
        for op in self.unacknowledged.drain(..).map(|(_, op)| op).chain(waiting) {
            cx.finish(op, PlumtreeOutcome::Published(Err(PubSubError::NotJoined)));
        }
    }

    // ---- subscribing

    pub(super) fn subscribe(&mut self, cx: &mut Cx<'_, Self>, op: OpId, topic: Topic) {
        if self.readers.topics() >= self.config.max_topics && !self.readers.has(&topic) {
            return cx.finish(op, PlumtreeOutcome::Ended(Err(PubSubError::TooManyTopics)));
        }
        let joined = self.membership.is_joined();
        self.readers.insert(op, topic, joined, cx.now());
        if joined {
            cx.item(op, Delivery::Joined);
        }
    }

    /// Tells subscribers that they receive what is published from now on, if the node takes part.
    pub(super) fn tell_readers(&mut self, cx: &mut Cx<'_, Self>) {
        if self.membership.is_joined() {
            self.readers.join(|op| cx.item(op, Delivery::Joined));
        }
    }

    pub(super) fn unsubscribe(&mut self, cx: &mut Cx<'_, Self>, op: OpId, topic: Topic) {
        for reader in self.readers.of(&topic) {
            self.leave(reader);
            cx.finish(reader, PlumtreeOutcome::Ended(Ok(())));
        }
        cx.finish(op, PlumtreeOutcome::Unsubscribed);
    }

    /// Whoever asked is gone.
    pub(super) fn cancel(&mut self, op: OpId) {
        self.leave(op);
        self.waiting.retain(|waiting| waiting.op != op);
        self.unacknowledged.retain(|(_, asker)| *asker != op);
    }
}
