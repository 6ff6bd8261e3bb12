//! This node's subscribers, and what waits for them.
//!
//! A subscriber's stream has room for so many messages; what comes while it is full waits here, in a queue for each,
//! and while anything does, neighbours are not told that it is taken in. Nobody waits for a subscriber that has read
//! nothing for a while; if too much waits, whoever has most waiting is cut off.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use p2p_core::{MAX_WAITING, OpId, Peer, Time};

use super::streams::OVERHEAD;
use crate::pubsub::{Message, Topic};

/// The subscriptions of this node's users, of at most [`PlumtreeConfig::max_topics`](super::PlumtreeConfig) topics.
/// What waits for them has at most [`PlumtreeConfig::backlog`](super::PlumtreeConfig) bytes in all.
#[derive(Clone, Debug)]
pub(super) struct Readers<P> {
    topics: BTreeMap<Topic, BTreeSet<OpId>>,
    all: BTreeMap<OpId, Reader<P>>,
    /// Those for whom something waits.
    behind: BTreeSet<OpId>,
    bytes: usize,
}

#[derive(Clone, Debug)]
struct Reader<P> {
    topic: Topic,
    /// It was told that it receives what is published.
    joined: bool,
    /// What it was given and is not known to have read: at most [`MAX_WAITING`].
    unread: usize,
    /// What waits, each with when it was passed on.
    waiting: VecDeque<(u64, Message<P>)>,
    bytes: usize,
    /// When it last read, or began to be behind.
    since: Time,
    /// It has read nothing for long: nobody waits for it.
    stalled: bool,
}

impl<P: Peer> Readers<P> {
    pub(super) fn new() -> Readers<P> {
        Readers { topics: BTreeMap::new(), all: BTreeMap::new(), behind: BTreeSet::new(), bytes: 0 }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// How many topics.
    pub(super) fn topics(&self) -> usize {
        self.topics.len()
    }

    pub(super) fn has(&self, topic: &Topic) -> bool {
        self.topics.contains_key(topic)
    }

    /// A subscription; it may have been told already that it has begun.
    pub(super) fn insert(&mut self, op: OpId, topic: Topic, joined: bool, now: Time) {
        self.topics.entry(topic).or_default().insert(op);
        let (unread, waiting) = (usize::from(joined), VecDeque::new());
        self.all.insert(op, Reader { topic, joined, unread, waiting, bytes: 0, since: now, stalled: false });
    }

    pub(super) fn remove(&mut self, op: OpId) {
        let Some(reader) = self.all.remove(&op) else { return };
        self.behind.remove(&op);
        self.bytes -= reader.bytes;
        if let Some(of_topic) = self.topics.get_mut(&reader.topic) {
            of_topic.remove(&op);
            if of_topic.is_empty() {
                self.topics.remove(&reader.topic);
            }
        }
    }

    /// The subscriptions to a topic.
    pub(super) fn of(&self, topic: &Topic) -> Vec<OpId> {
        self.topics.get(topic).into_iter().flatten().copied().collect()
    }

    /// Those that are to be told that they receive what is published from now on.
    pub(super) fn join(&mut self, mut tell: impl FnMut(OpId)) {
        for (op, reader) in self.all.iter_mut().filter(|(_, reader)| !reader.joined) {
            reader.joined = true;
            reader.unread += 1;
            tell(*op);
        }
    }

    /// Has all subscribers of a topic given a message, at once or later.
    pub(super) fn deliver(
        &mut self,
        now: Time,
        passed: u64,
        topic: &Topic,
        message: &Message<P>,
        mut give: impl FnMut(OpId, Message<P>),
    ) {
        for op in self.topics.get(topic).into_iter().flatten() {
            let Some(reader) = self.all.get_mut(op) else { continue };
            if reader.waiting.is_empty() && reader.unread < MAX_WAITING {
                reader.unread += 1;
                give(*op, message.clone());
                continue;
            }
            if reader.waiting.is_empty() {
                reader.since = now;
                self.behind.insert(*op);
            }
            reader.bytes += size(message);
            self.bytes += size(message);
            reader.waiting.push_back((passed, message.clone()));
        }
    }

    /// A subscriber has read so many messages: gives it more.
    pub(super) fn read(&mut self, now: Time, op: OpId, items: usize, mut give: impl FnMut(OpId, Message<P>)) {
        let Some(reader) = self.all.get_mut(&op) else { return };
        reader.unread = reader.unread.saturating_sub(items);
        (reader.since, reader.stalled) = (now, false);
        while reader.unread < MAX_WAITING
            && let Some((_, message)) = reader.waiting.pop_front()
        {
            reader.bytes -= size(&message);
            self.bytes -= size(&message);
            reader.unread += 1;
            give(op, message);
        }
        if reader.waiting.is_empty() {
            self.behind.remove(&op);
        }
    }

    /// Whoever has most waiting, if in all more waits than may.
    pub(super) fn too_slow(&self, most: usize) -> Option<OpId> {
        let behind = self.behind.iter().filter_map(|op| Some((self.all.get(op)?.bytes, *op)));
        behind.max().map(|(_, op)| op).filter(|_| self.bytes > most)
    }

    fn waited_for(&self) -> impl Iterator<Item = &Reader<P>> {
        self.behind.iter().filter_map(|op| self.all.get(op)).filter(|reader| !reader.stalled)
    }

    /// Whether anybody is waited for.
    pub(super) fn is_behind(&self) -> bool {
        self.waited_for().next().is_some()
    }

    /// When the first message was passed on that somebody who is waited for has not been given.
    pub(super) fn first_waiting(&self) -> Option<u64> {
        self.waited_for().filter_map(|reader| reader.waiting.front()).map(|(passed, _)| *passed).min()
    }

    /// Waits no more for those who have read nothing for so long.
    pub(super) fn look(&mut self, now: Time, patience: Duration) {
        for op in &self.behind {
            if let Some(reader) = self.all.get_mut(op) {
                reader.stalled |= reader.since + patience <= now;
            }
        }
    }
}

fn size<P>(message: &Message<P>) -> usize {
    message.bytes.len() + OVERHEAD
}
