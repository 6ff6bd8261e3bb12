//! What a node has seen of each publisher's messages, and what it has heard of and misses.
//!
//! A publisher numbers its messages without gaps, so what was seen of them is a few ranges, most often one, however
//! many there were; and a message that is missing shows by the next one.

use std::collections::{BTreeMap, VecDeque};

use p2p_core::{Peer, Time};
use serde::{Deserialize, Serialize};

use crate::pubsub::{Message, Topic};

/// One life of a publisher: what numbers its messages. Who starts again starts another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Source<P> {
    /// Who.
    pub publisher: P,
    /// Random.
    pub life: u64,
}

/// Numbers that come to the end of the range count as none.
pub(super) const MAX_NUMBER: u64 = 1 << 62;

/// Numbers that are there, as ranges with both ends, sorted, apart from each other. At most [`MAX_RANGES`]: the lowest
/// gap counts as filled then.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Ranges(Vec<(u64, u64)>);

const MAX_RANGES: usize = 64;

impl Ranges {
    /// Adds a number; says whether it is new.
    pub(super) fn insert(&mut self, number: u64) -> bool {
        // Mostly it is the next one.
        if let Some((_, last)) = self.0.last_mut()
            && number == *last + 1
        {
            *last = number;
            return true;
        }
        let at = self.0.partition_point(|(_, last)| *last < number);
        if self.0.get(at).is_some_and(|(first, _)| *first <= number) {
            return false;
        }
        let joins_left = at > 0 && self.0[at - 1].1 + 1 == number;
        let joins_right = self.0.get(at).is_some_and(|(first, _)| *first == number + 1);
        match (joins_left, joins_right) {
            (true, true) => {
                self.0[at - 1].1 = self.0[at].1;
                self.0.remove(at);
            }
            (true, false) => self.0[at - 1].1 = number,
            (false, true) => self.0[at].0 = number,
            (false, false) => {
                self.0.insert(at, (number, number));
                if self.0.len() > MAX_RANGES {
                    self.0[1].0 = self.0[0].0;
                    self.0.remove(0);
                }
            }
        }
        true
    }

    #[cfg(test)]
    fn contains(&self, number: u64) -> bool {
        let at = self.0.partition_point(|(_, last)| *last < number);
        self.0.get(at).is_some_and(|(first, _)| *first <= number)
    }

    /// How many.
    pub(super) fn len(&self) -> u64 {
        self.0.iter().map(|(first, last)| last - first + 1).sum()
    }

    /// The highest.
    pub(super) fn top(&self) -> Option<u64> {
        self.0.last().map(|(_, last)| *last)
    }

    /// The gaps between two numbers, both included.
    pub(super) fn gaps(&self, from: u64, to: u64) -> impl Iterator<Item = (u64, u64)> {
        let start = self.0.partition_point(|(_, last)| *last < from);
        let mut next = from;
        let mut ranges = self.0[start..].iter();
        std::iter::from_fn(move || {
            while next <= to {
                match ranges.next() {
                    Some((first, last)) => {
                        let gap = (next, first.saturating_sub(1).min(to));
                        let is_gap = *first > next;
                        next = last + 1;
                        if is_gap {
                            return Some(gap);
                        }
                    }
                    None => return Some((std::mem::replace(&mut next, to + 1), to)),
                }
            }
            None
        })
    }
}

/// The messages of one source.
#[derive(Clone, Debug)]
pub(super) struct Stream<P> {
    pub(super) seen: Ranges,
    /// Nothing below it is asked for.
    pub(super) base: u64,
    /// The highest number that somebody has.
    pub(super) announced: u64,
    /// Neighbours that have what is missing, whom to ask first first. No more than there are neighbours.
    pub(super) offers: VecDeque<P>,
    /// The lowest number missing when it was looked at, when that was, and how often it was asked for.
    pub(super) stuck: Option<Stuck>,
    /// By whom the latest message came, after how many steps.
    pub(super) parent: Option<(P, u16)>,
    pub(super) used: Time,
    /// The next number for this node's subscribers.
    next: u64,
    /// Messages that came before one with a lower number, for this node's subscribers.
    held: BTreeMap<u64, (Topic, Message<P>)>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Stuck {
    pub(super) at: u64,
    pub(super) since: Time,
    pub(super) asked: u32,
}

impl<P: Peer> Stream<P> {
    fn new(first: u64, now: Time) -> Stream<P> {
        Stream {
            seen: Ranges::default(),
            base: first,
            announced: first,
            offers: VecDeque::new(),
            stuck: None,
            parent: None,
            used: now,
            next: first,
            held: BTreeMap::new(),
        }
    }

    /// The numbers that are missing.
    pub(super) fn missing(&self) -> impl Iterator<Item = (u64, u64)> {
        self.seen.gaps(self.base, self.announced)
    }

    /// Somebody has messages up to a number.
    pub(super) fn offer(&mut self, by: P, up_to: u64) {
        self.announced = self.announced.max(up_to);
        if !self.offers.contains(&by) {
            self.offers.push_back(by);
        }
    }

    /// Nobody has what is missing.
    pub(super) fn give_up(&mut self) {
        self.base = self.announced + 1;
        self.stuck = None;
        self.offers.clear();
    }
}

/// The sources that a node knows: at most [`PlumtreeConfig::max_sources`](super::PlumtreeConfig); the one that was
/// quiet longest has to go.
#[derive(Clone, Debug)]
pub(super) struct Streams<P> {
    all: BTreeMap<Source<P>, Stream<P>>,
    most: usize,
    /// This node has been in the network for as long as messages are kept.
    pub(super) settled: bool,
    /// The bytes of all messages that are held, and so much for each.
    held: usize,
}

/// What a message counts beside its bytes.
pub(super) const OVERHEAD: usize = 128;
/// Of a source whose first message to come has a lower number the others are asked for.
const EARLY: u64 = 1024;
/// How many bytes of messages are held for their order.
const MAX_HELD: usize = 4 << 20;

impl<P: Peer> Streams<P> {
    pub(super) fn new(most: usize) -> Streams<P> {
        Streams { all: BTreeMap::new(), most: most.max(1), settled: false, held: 0 }
    }

    pub(super) fn get_mut(&mut self, source: &Source<P>) -> Option<&mut Stream<P>> {
        self.all.get_mut(source)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&Source<P>, &Stream<P>)> {
        self.all.iter()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (&Source<P>, &mut Stream<P>)> {
        self.all.iter_mut()
    }

    /// The stream of a source; a new one that begins at `first`, if it is not known.
    pub(super) fn enter(&mut self, source: Source<P>, first: u64, now: Time) -> &mut Stream<P> {
        // Whatever a neighbour has kept of it was published when this node was there.
        let first = if self.settled && first < EARLY { 0 } else { first };
        if !self.all.contains_key(&source) && self.all.len() >= self.most {
            let quiet = self.all.iter().min_by_key(|(_, stream)| stream.used).map(|(source, _)| *source);
            if let Some(stream) = quiet.and_then(|quiet| self.all.remove(&quiet)) {
                self.held -= stream.held.values().map(size).sum::<usize>();
            }
        }
        self.all.entry(source).or_insert_with(|| Stream::new(first, now))
    }

    /// Takes in a new message for this node's subscribers, and gives those whose turn it is. What comes before one
    /// with a lower number waits for that, unless too much does.
    pub(super) fn in_order(
        &mut self,
        source: Source<P>,
        number: u64,
        message: (Topic, Message<P>),
    ) -> Vec<(Topic, Message<P>)> {
        let Some(stream) = self.all.get_mut(&source) else { return vec![message] };
        if number < stream.next {
            return vec![message];
        }
        if number == stream.next && stream.held.is_empty() {
            stream.next += 1;
            return vec![message];
        }
        self.held += size(&message);
        stream.held.insert(number, message);
        match self.held > MAX_HELD {
            true => self.release(&source),
            false => self.due(&source),
        }
    }

    /// Those held whose turn it is.
    fn due(&mut self, source: &Source<P>) -> Vec<(Topic, Message<P>)> {
        let Some(stream) = self.all.get_mut(source) else { return Vec::new() };
        let mut due = Vec::new();
        while let Some(message) = stream.held.remove(&stream.next) {
            self.held -= size(&message);
            stream.next += 1;
            due.push(message);
        }
        due
    }

    /// All that are held of a source: what they have waited for comes later, or never.
    pub(super) fn release(&mut self, source: &Source<P>) -> Vec<(Topic, Message<P>)> {
        let Some(stream) = self.all.get_mut(source) else { return Vec::new() };
        let held = std::mem::take(&mut stream.held);
        if let Some((last, _)) = held.last_key_value() {
            stream.next = last + 1;
        }
        let messages: Vec<(Topic, Message<P>)> = held.into_values().collect();
        self.held -= messages.iter().map(size).sum::<usize>();
        messages
    }

    /// Notes a message that nobody here wants.
    pub(super) fn skip(&mut self, source: &Source<P>, number: u64) {
        if let Some(stream) = self.all.get_mut(source)
            && stream.held.is_empty()
        {
            stream.next = stream.next.max(number + 1);
        }
    }
}

fn size<P>((_, message): &(Topic, Message<P>)) -> usize {
    message.bytes.len() + OVERHEAD
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use p2p_core::SimPeer;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn ranges_are_a_set(numbers in prop::collection::vec(0u64..120, 0..200)) {
            let (mut ranges, mut set) = (Ranges::default(), BTreeSet::new());
            for number in numbers {
                prop_assert_eq!(ranges.insert(number), set.insert(number));
            }
            prop_assert_eq!(ranges.top(), set.last().copied());
            for (from, to) in [(0, 130), (17, 40), (60, 59)] {
                let gaps: Vec<u64> = ranges.gaps(from, to).flat_map(|(first, last)| first..=last).collect();
                let want: Vec<u64> = (from..=to).filter(|number| !set.contains(number)).collect();
                prop_assert_eq!(gaps, want);
                prop_assert!((from..to).all(|number| ranges.contains(number) == set.contains(&number)));
            }
        }

        #[test]
        fn ranges_are_few(numbers in prop::collection::vec(0u64..MAX_NUMBER, 0..200)) {
            let mut ranges = Ranges::default();
            for number in numbers {
                ranges.insert(number);
                prop_assert!(ranges.contains(number) && ranges.0.len() <= MAX_RANGES);
            }
        }

        #[test]
        fn messages_come_in_order_and_once(order in Just((0u64..50).collect::<Vec<_>>()).prop_shuffle()) {
            let source = Source { publisher: SimPeer(1), life: 1 };
            let mut streams = Streams::new(4);
            streams.enter(source, 0, Time::ZERO);
            let mut came = Vec::new();
            for number in order {
                let message = Message { publisher: SimPeer(1), bytes: number.to_string().into() };
                came.extend(streams.in_order(source, number, (Topic::named("t"), message)));
            }
            let texts: Vec<_> = came.iter().map(|(_, message)| message.bytes.clone()).collect();
            prop_assert_eq!(texts, (0..50).map(|n| n.to_string()).collect::<Vec<_>>());
            prop_assert_eq!(streams.held, 0);
        }
    }
}
