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
    /// Those of each source, by their numbers. Most come in order.
    sources: BTreeMap<Source<P>, VecDeque<Stored<P>>>,
    order: VecDeque<(Time, Source<P>, u64)>,
    bytes: usize,
}

impl<P: Peer> Store<P> {
    pub(super) fn new() -> Store<P> {
        Store { sources: BTreeMap::new(), order: VecDeque::new(), bytes: 0 }
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
        let of_source = self.sources.entry(message.source).or_insert_with(|| VecDeque::with_capacity(1));
        if of_source.back().is_none_or(|last| last.number < message.number) {
            return of_source.push_back(message);
        }
        match of_source.binary_search_by_key(&message.number, |kept| kept.number) {
            Ok(at) => self.bytes -= std::mem::replace(&mut of_source[at], message).size(),
            Err(at) => of_source.insert(at, message),
        }
    }

    fn remove_first(&mut self) {
        let Some((_, source, number)) = self.order.pop_front() else { return };
        let Some(of_source) = self.sources.get_mut(&source) else { return };
        let removed = match of_source.front().is_some_and(|first| first.number == number) {
            true => of_source.pop_front(),
            false => {
                let at = of_source.binary_search_by_key(&number, |kept| kept.number);
                at.ok().and_then(|at| of_source.remove(at))
            }
        };
        self.bytes -= removed.map_or(0, |message| message.size());
        if of_source.is_empty() {
            self.sources.remove(&source);
        }
    }

    /// Forgets what came so long ago.
    pub(super) fn expire(&mut self, now: Time, after: Duration) {
        while self.order.front().is_some_and(|(at, ..)| *at + after <= now) {
            self.remove_first();
        }
    }

    pub(super) fn get(&self, source: Source<P>, number: u64) -> Option<&Stored<P>> {
        self.range(source, number, number).next()
    }

    /// The messages of a source with these numbers, both included.
    pub(super) fn range(&self, source: Source<P>, from: u64, to: u64) -> impl Iterator<Item = &Stored<P>> {
        let of_source = self.sources.get(&source).into_iter();
        let from = of_source.map(move |kept| kept.range(kept.partition_point(|kept| kept.number < from)..));
        from.flatten().take_while(move |kept| kept.number <= to)
    }

    /// As [`Store::sources`], of what has come in this time, and of all sources.
    pub(super) fn since(&self, now: Time, time: Duration) -> Vec<(Source<P>, u64, u64, u16)> {
        let mut sources: BTreeMap<Source<P>, (u64, u64)> = BTreeMap::new();
        for (_, source, number) in self.order.iter().rev().take_while(|(at, ..)| *at + time >= now) {
            let (first, last) = sources.entry(*source).or_insert((*number, *number));
            (*first, *last) = ((*first).min(*number), (*last).max(*number));
        }
        let hops = |source, last| self.get(source, last).map_or(0, |message| message.hops);
        sources.into_iter().map(|(source, (first, last))| (source, first, last, hops(source, last))).collect()
    }

    /// The first and last number kept of each source, and after how many steps the last came; of the first `most`
    /// sources.
    pub(super) fn sources(&self, most: usize) -> Vec<(Source<P>, u64, u64, u16)> {
        let ends = |(source, kept): (&Source<P>, &VecDeque<Stored<P>>)| {
            let (first, last) = (kept.front()?, kept.back()?);
            Some((*source, first.number, last.number, last.hops))
        };
        self.sources.iter().filter_map(ends).take(most).collect()
    }
}

#[cfg(test)]
mod tests {
    use p2p_core::SimPeer;
    use proptest::prelude::*;

    use super::*;

    fn stored(publisher: u32, number: u64) -> Stored<SimPeer> {
        let source = Source { publisher: SimPeer(publisher), life: 7 };
        Stored { source, number, topic: Topic::named("t"), hops: number as u16, bytes: vec![0; 72].into() }
    }

    proptest! {
        /// Against a plain list of what came last.
        #[test]
        fn the_latest_are_kept(messages in prop::collection::vec((0u32..3, 0u64..30), 0..80), most in 1usize..30) {
            let (mut store, mut list) = (Store::new(), Vec::<(u64, u32, u64)>::new());
            for (second, (publisher, number)) in (0u64..).zip(messages) {
                // Nothing comes twice.
                if list.iter().any(|(_, of, kept)| (*of, *kept) == (publisher, number)) {
                    continue;
                }
                let now = Time::ZERO + Duration::from_secs(second);
                // Each is 200 bytes, and one more is kept.
                store.insert(now, stored(publisher, number), most * 200);
                list.push((second, publisher, number));
                list.drain(..list.len().saturating_sub(most + 1));
                store.expire(now, Duration::from_secs(20));
                list.retain(|(at, ..)| at + 20 > second);
                for of in 0..3 {
                    let source = Source { publisher: SimPeer(of), life: 7 };
                    let mut want: Vec<u64> = list.iter().filter(|one| one.1 == of).map(|one| one.2).collect();
                    want.sort();
                    let kept: Vec<u64> = store.range(source, 0, 99).map(|kept| kept.number).collect();
                    prop_assert_eq!(&kept, &want);
                    let middle: Vec<u64> = store.range(source, 10, 20).map(|kept| kept.number).collect();
                    prop_assert_eq!(middle, want.iter().copied().filter(|n| (10..=20).contains(n)).collect::<Vec<_>>());
                    let ends = store.sources(9).into_iter().find(|ends| ends.0 == source);
                    prop_assert_eq!(ends.map(|ends| (ends.1, ends.2)), want.first().copied().zip(want.last().copied()));
                    prop_assert_eq!(store.get(source, 5).is_some(), want.contains(&5));
                    let young = list.iter().filter(|one| one.1 == of && one.0 + 7 >= second).map(|one| one.2);
                    let since = store.since(now, Duration::from_secs(7)).into_iter().find(|ends| ends.0 == source);
                    prop_assert_eq!(since.map(|ends| (ends.1, ends.2)), young.clone().min().zip(young.max()));
                }
            }
        }
    }
}
