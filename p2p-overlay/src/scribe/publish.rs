//! From the publisher to the root, and down the tree (JSAC §III-A).

use bytes::Bytes;
use p2p_core::{Cx, NoJob, OpId};

use super::tree::{Member, Tree};
use super::{Scribe, ScribeMsg, ScribeOutcome, ScribeTimer};
use crate::pubsub::{Delivery, Message, PubSubError, Topic};
use crate::structured::{Find, Looked, LookupError, Next, SingleRoot};

/// A message that the root has not taken yet.
#[derive(Clone, Debug)]
pub(super) struct Publishing {
    topic: Topic,
    sequence: u64,
    bytes: Bytes,
    tries_left: u8,
}

impl<O: SingleRoot<Job = NoJob>> Scribe<O> {
    pub(super) fn begin_publish(&mut self, cx: &mut Cx<'_, Self>, op: OpId, topic: Topic, bytes: Bytes) {
        if let Err(error) = self.can_send(&bytes) {
            return cx.finish(op, ScribeOutcome::Published(Err(error)));
        }
        // By the clock, so that a node that starts again does not repeat the numbers that others have seen.
        let clock = u64::try_from(cx.wall().as_micros()).unwrap_or(u64::MAX);
        self.sequence = clock.max(self.sequence.saturating_add(1));
        let message = Publishing { topic, sequence: self.sequence, bytes, tries_left: self.config.tries };
        self.publishing.insert(op, message);
        let next = self.next(topic, false, &[]);
        match self.roots.get(&topic) {
            _ if next == Next::Mine => self.root_is(cx, op, self.overlay.me()),
            Some(&root) => self.root_is(cx, op, root),
            None => self.look_for_the_root(cx, op),
        }
    }

    /// Whether a message may be published, or sent to anyone, now.
    pub(super) fn can_send(&self, bytes: &Bytes) -> Result<(), PubSubError> {
        let (size, max) = (bytes.len(), self.config.max_bytes);
        if size > max {
            return Err(PubSubError::TooLarge { size, max });
        }
        if !self.overlay.is_joined() {
            return Err(PubSubError::NotJoined);
        }
        match self.publishing.len() + self.anycasts.len() < self.config.capacity {
            true => Ok(()),
            false => Err(PubSubError::Busy),
        }
    }

    // ---- to the root

    fn look_for_the_root(&mut self, cx: &mut Cx<'_, Self>, op: OpId) {
        let Some(message) = self.publishing.get_mut(&op) else { return };
        let Some(tries_left) = message.tries_left.checked_sub(1) else {
            let timeouts = self.config.tries.into();
            return self.published(cx, op, Err(PubSubError::NoRoot(LookupError::NoAnswer { timeouts })));
        };
        message.tries_left = tries_left;
        let (key, find) = (message.topic.0, cx.op());
        self.finds.insert(find, op);
        self.below(cx, |overlay, cx| overlay.on_command(cx, find, Find::key(key)));
    }

    pub(super) fn root_found(&mut self, cx: &mut Cx<'_, Self>, op: OpId, looked: Looked<O::Peer>) {
        match looked {
            Ok(found) => self.root_is(cx, op, found.root()),
            Err(LookupError::NotJoined) => self.published(cx, op, Err(PubSubError::NotJoined)),
            Err(error) => self.published(cx, op, Err(PubSubError::NoRoot(error))),
        }
    }

    fn root_is(&mut self, cx: &mut Cx<'_, Self>, op: OpId, root: O::Peer) {
        let Some(message) = self.publishing.get(&op).cloned() else { return };
        let Publishing { topic, sequence, bytes, .. } = message;
        if root == self.overlay.me() {
            return match self.take(cx, topic, root, sequence, bytes) {
                true => self.published(cx, op, Ok(())),
                false => self.look_for_the_root(cx, op),
            };
        }
        match self.asked.insert(root, cx.now() + self.config.timeout, op) {
            Ok(id) => cx.send(root, ScribeMsg::Publish { id, topic, sequence, bytes }),
            Err(_) => self.published(cx, op, Err(PubSubError::Busy)),
        }
    }

    pub(super) fn on_published(&mut self, cx: &mut Cx<'_, Self>, from: O::Peer, id: u32, taken: bool) {
        let Some(op) = self.asked.answer(id, from) else { return };
        let Some(message) = self.publishing.get(&op) else { return };
        if !taken {
            return self.root_silent(cx, op);
        }
        let topic = message.topic;
        if self.roots.len() < self.config.max_topics && self.roots.insert(topic, from).is_none() {
            cx.set_timer(self.config.root_lasts, ScribeTimer::Forget(topic));
        }
        self.published(cx, op, Ok(()));
    }

    /// The root has not taken a message, or is none.
    pub(super) fn root_silent(&mut self, cx: &mut Cx<'_, Self>, op: OpId) {
        if let Some(message) = self.publishing.get(&op) {
            self.roots.remove(&message.topic);
            cx.clear_timer(ScribeTimer::Forget(message.topic));
            self.look_for_the_root(cx, op);
        }
    }

    fn published(&mut self, cx: &mut Cx<'_, Self>, op: OpId, result: Result<(), PubSubError>) {
        self.publishing.remove(&op);
        cx.finish(op, ScribeOutcome::Published(result));
    }

    // ---- at the root, and below it

    pub(super) fn on_publish(
        &mut self,
        cx: &mut Cx<'_, Self>,
        from: O::Peer,
        id: u32,
        topic: Topic,
        sequence: u64,
        bytes: Bytes,
    ) {
        if bytes.len() <= self.config.max_bytes {
            let taken = self.take(cx, topic, from, sequence, bytes);
            cx.send(from, ScribeMsg::Published { id, taken });
        }
    }

    /// Sends a message down the tree, if this node is its root. Where there is no tree nobody has subscribed.
    fn take(
        &mut self,
        cx: &mut Cx<'_, Self>,
        topic: Topic,
        publisher: O::Peer,
        sequence: u64,
        bytes: Bytes,
    ) -> bool {
        if !self.may_be_root(topic) {
            return false;
        }
        self.become_root(cx, topic);
        self.multicast(cx, topic, publisher, sequence, bytes);
        true
    }

    pub(super) fn on_multicast(
        &mut self,
        cx: &mut Cx<'_, Self>,
        from: O::Peer,
        topic: Topic,
        publisher: O::Peer,
        sequence: u64,
        bytes: Bytes,
    ) {
        let Some(tree) = self.trees.get_mut(&topic).filter(|tree| tree.parent() == Some(from)) else {
            return;
        };
        if bytes.len() <= self.config.max_bytes {
            tree.heard(cx.now());
            self.multicast(cx, topic, publisher, sequence, bytes);
        }
    }

    fn multicast(
        &mut self,
        cx: &mut Cx<'_, Self>,
        topic: Topic,
        publisher: O::Peer,
        sequence: u64,
        bytes: Bytes,
    ) {
        let Some(Tree { children, members, seen, told, .. }) = self.trees.get_mut(&topic) else { return };
        if !seen.insert(publisher, sequence) {
            return;
        }
        *told = cx.now();
        for child in children.keys() {
            let bytes = bytes.clone();
            cx.send(*child, ScribeMsg::Multicast { topic, publisher, sequence, bytes });
        }
        for (op, member) in members {
            let Member::Subscriber { joined } = member else { continue };
            if !std::mem::replace(joined, true) {
                cx.item(*op, Delivery::Joined);
            }
            cx.item(*op, Delivery::Message(Message { publisher, bytes: bytes.clone() }));
        }
    }
}
