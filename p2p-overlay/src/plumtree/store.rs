//! The messages that a node keeps for a while, for those that miss them.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use p2p_core::{Peer, Time};

use super::streams::{OVERHEAD, Source};
use crate::pubsub::Topic;

/// A message on its way.
#[derive(Clone, Debug)]
pub(super) struct Stored<P> {
    pub(super) source: Source<P>,
    pub(super) number: u64,
    pub(super) topic: Topic,
    /// How many steps it had taken when it came here.
    pub(super) hops: u16,
    pub(super) bytes: Bytes,
}

impl<P> Stored<P> {
    pub(super) fn size(&self) -> usize {
        self.bytes.len() + OVERHEAD
    }
}

/// The latest messages: at most as many bytes as the bound, each counted with [`OVERHEAD`], and one more message.
#[derive(Clone, Debug)]
pub(super) struct Store<P> {
    messages: BTreeMap<(Source<P>, u64), Stored<P>>,
    order: VecDeque<(Time, Source<P>, u64)>,
    bytes: usize,
}

impl<P: Peer> Store<P> {
    pub(super) fn new() -> Store<P> {
        Store { messages: BTreeMap::new(), order: VecDeque::new(), bytes: 0 }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    pub(super) fn insert(&mut self, now: Time, message: Stored<P>, most: usize) {
        while self.bytes > most {
            self.remove_first();
        }
        self.bytes += message.size();
        self.order.push_back((now, message.source, message.number));
        if let Some(same) = self.messages.insert((message.source, message.number), message) {
            self.bytes -= same.size();
        }
    }

    fn remove_first(&mut self) {
        let Some((_, source, number)) = self.order.pop_front() else { return };
        if let Some(message) = self.messages.remove(&(source, number)) {
            self.bytes -= message.size();
        }
    }

    /// Forgets what came so long ago.
    pub(super) fn expire(&mut self, now: Time, after: Duration) {
        while self.order.front().is_some_and(|(at, ..)| *at + after <= now) {
            self.remove_first();
        }
    }

    pub(super) fn get(&self, source: Source<P>, number: u64) -> Option<&Stored<P>> {
        self.messages.get(&(source, number))
    }

    /// The messages of a source with these numbers, both included.
    pub(super) fn range(&self, source: Source<P>, from: u64, to: u64) -> impl Iterator<Item = &Stored<P>> {
        let numbers = (from <= to).then_some((source, from)..=(source, to));
        numbers.into_iter().flat_map(|numbers| self.messages.range(numbers)).map(|(_, message)| message)
    }

    /// The first and last number kept of each source, and after how many steps the last came; of the first `most`
    /// sources.
    pub(super) fn sources(&self, most: usize) -> Vec<(Source<P>, u64, u64, u16)> {
        let mut sources: Vec<(Source<P>, u64, u64, u16)> = Vec::new();
        for ((source, number), message) in &self.messages {
            if let Some((last, _, to, hops)) = sources.last_mut()
                && last == source
            {
                (*to, *hops) = (*number, message.hops);
            } else if sources.len() < most {
                sources.push((*source, *number, *number, message.hops));
            } else {
                break;
            }
        }
        sources
    }
}
