//! What a node has seen of each publisher's messages, and what it has heard of and misses.
//!
//! A publisher numbers its messages without gaps, so what was seen of them is a few ranges, most often one, however
//! many there were; and a message that is missing shows by the next one.

use std::collections::{BTreeMap, VecDeque};

use p2p_core::{Peer, Time, prefetch};
use serde::{Deserialize, Serialize};

use crate::few::Few;
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
/// gap counts as filled then. Mostly there is one, which lies in place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Ranges {
    before: Vec<(u64, u64)>,
    last: Option<(u64, u64)>,
}

const MAX_RANGES: usize = 64;

impl Ranges {
    /// Adds a number; says whether it is new.
    pub(super) fn insert(&mut self, number: u64) -> bool {
        let Some((first, last)) = &mut self.last else {
            self.last = Some((number, number));
            return true;
        };
        match number {
            // Mostly it is the next one.
            _ if number == *last + 1 => *last = number,
            _ if number > *last => {
                self.before.push((*first, *last));
                self.last = Some((number, number));
                self.trim();
            }
            _ if number >= *first => return false,
            _ if number + 1 == *first => {
                *first = number;
                if let Some((start, _)) = self.before.pop_if(|(_, end)| *end + 1 == number) {
                    *first = start;
                }
            }
            _ => return self.insert_before(number),
        }
        true
    }

    /// Adds a number that neither is in the last range nor touches it.
    fn insert_before(&mut self, number: u64) -> bool {
        let before = &mut self.before;
        let at = before.partition_point(|(_, last)| *last < number);
        if before.get(at).is_some_and(|(first, _)| *first <= number) {
            return false;
        }
        let joins_left = at > 0 && before[at - 1].1 + 1 == number;
        let joins_right = before.get(at).is_some_and(|(first, _)| *first == number + 1);
        match (joins_left, joins_right) {
            (true, true) => {
                before[at - 1].1 = before[at].1;
                before.remove(at);
            }
            (true, false) => before[at - 1].1 = number,
            (false, true) => before[at].0 = number,
            (false, false) => {
                before.insert(at, (number, number));
                self.trim();
            }
        }
        true
    }

    fn trim(&mut self) {
        if self.before.len() >= MAX_RANGES {
            self.before[1].0 = self.before[0].0;
            self.before.remove(0);
        }
    }

    #[cfg(test)]
    fn contains(&self, number: u64) -> bool {
        self.iter().any(|(first, last)| (*first..=*last).contains(&number))
    }

    fn iter(&self) -> impl Iterator<Item = &(u64, u64)> {
        self.before.iter().chain(&self.last)
    }

    /// How many.
    pub(super) fn len(&self) -> u64 {
        self.iter().map(|(first, last)| last - first + 1).sum()
    }

    /// The highest.
    pub(super) fn top(&self) -> Option<u64> {
        self.last.map(|(_, last)| last)
    }

    /// The gaps between two numbers, both included.
    #[inline]
    pub(super) fn gaps(&self, from: u64, to: u64) -> impl Iterator<Item = (u64, u64)> {
        let mut next = from;
        // Mostly there are none.
        let whole = self.last.is_some_and(|(first, last)| first <= from && to <= last);
        let start = match whole {
            true => {
                next = to + 1;
                self.before.len()
            }
            false => self.before.partition_point(|(_, last)| *last < from),
        };
        let mut ranges = self.before[start..].iter().chain(&self.last).filter(move |(_, last)| *last >= from);
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
    all: Few<Source<P>, Stream<P>>,
    most: usize,
    /// This node has been in the network for as long as messages are kept.
    pub(super) settled: bool,
    /// The bytes of all messages that are held, and [`OVERHEAD`] for each.
    held: usize,
    /// Sources of which messages are held whose turn has come, each with when the one was passed on that they had waited
    /// for, or that came next.
    due: BTreeMap<Source<P>, u64>,
}

/// What a message counts beside its bytes.
pub(super) const OVERHEAD: usize = 128;
/// Of a source whose first message to come has a lower number the others are asked for.
const EARLY: u64 = 1024;
/// How many bytes of messages are held for their order.
const MAX_HELD: usize = 4 << 20;

impl<P: Peer> Streams<P> {
    pub(super) fn new(most: usize) -> Streams<P> {
        Streams { all: Few::new(), most: most.max(1), settled: false, held: 0, due: BTreeMap::new() }
    }

    pub(super) fn get_mut(&mut self, source: &Source<P>) -> Option<&mut Stream<P>> {
        self.all.get_mut(source)
    }

    /// The streams of a publisher: its lives.
    pub(super) fn of(&self, publisher: P) -> impl Iterator<Item = &Stream<P>> {
        let first = self.all.keys().partition_point(|source| source.publisher < publisher);
        let (sources, streams) = (&self.all.keys()[first..], &self.all.values()[first..]);
        let lives = sources.iter().zip(streams).take_while(move |(source, _)| source.publisher == publisher);
        lives.map(|(_, stream)| stream)
    }

    /// See [`Protocol::warm`](p2p_core::Protocol::warm).
    pub(super) fn warm(&self) {
        prefetch(self.all.keys());
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (&Source<P>, &mut Stream<P>)> {
        self.all.iter_mut()
    }

    /// The stream of a source; a new one that begins at `first`, if it is not known.
    pub(super) fn enter(&mut self, source: Source<P>, first: u64, now: Time) -> &mut Stream<P> {
        // Whatever a neighbour has kept of it was published when this node was there.
        let first = if self.settled && first < EARLY { 0 } else { first };
        if self.all.len() >= self.most && !self.all.contains_key(&source) {
            let quiet = self.all.iter().min_by_key(|(_, stream)| stream.used).map(|(source, _)| *source);
            if let Some(stream) = quiet.and_then(|quiet| self.all.remove(&quiet)) {
                self.held -= stream.held.values().map(size).sum::<usize>();
                self.due.retain(|due, _| self.all.contains_key(due));
            }
        }
        self.all.get_or_insert_with(source, || Stream::new(first, now))
    }

    /// Takes in a new message for this node's subscribers: gives it back if it is its turn. What comes before one with a
    /// lower number is held until that has come, see [`Streams::next_due`], and so is what comes while others wait.
    /// `passed` is when it was passed on.
    pub(super) fn in_order(
        &mut self,
        source: Source<P>,
        number: u64,
        passed: u64,
        message: (Topic, Message<P>),
    ) -> Option<(Topic, Message<P>)> {
        let Some(stream) = self.all.get_mut(&source) else { return Some(message) };
        if number < stream.next {
            return Some(message);
        }
        if number == stream.next && stream.held.is_empty() {
            stream.next += 1;
            return Some(message);
        }
        self.held += size(&message);
        stream.held.insert(number, message);
        if number == stream.next {
            self.due.entry(source).or_insert(passed);
        }
        None
    }

    /// Whether more is held than may.
    pub(super) fn is_overfull(&self) -> bool {
        self.held > MAX_HELD
    }

    /// Some source of which messages are held whose turn has come.
    pub(super) fn any_due(&self) -> Option<Source<P>> {
        self.due.first_key_value().map(|(source, _)| *source)
    }

    /// When the first message was passed on whose turn has come, and behind which others wait.
    pub(super) fn first_due(&self) -> Option<u64> {
        self.due.values().min().copied()
    }

    /// The next message held of a source, if it is its turn.
    pub(super) fn next_due(&mut self, source: &Source<P>) -> Option<(Topic, Message<P>)> {
        let next = self.all.get_mut(source).and_then(|stream| {
            let message = stream.held.remove(&stream.next)?;
            stream.next += 1;
            Some(message)
        });
        match &next {
            Some(message) => self.held -= size(message),
            None => drop(self.due.remove(source)),
        }
        next
    }

    /// All that are held of a source: what they have waited for comes later, or never.
    pub(super) fn release(&mut self, source: &Source<P>) -> Vec<(Topic, Message<P>)> {
        let Some(stream) = self.all.get_mut(source) else { return Vec::new() };
        self.due.remove(source);
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
        if let Some(stream) = self.all.get_mut(source) {
            stream.next = stream.next.max(number + 1);
        }
    }

    /// Nobody here wants what is held any more.
    pub(super) fn skip_held(&mut self) {
        for (_, stream) in self.all.iter_mut() {
            if let Some((last, _)) = std::mem::take(&mut stream.held).last_key_value() {
                stream.next = last + 1;
            }
        }
        self.held = 0;
        self.due.clear();
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
                prop_assert!(ranges.contains(number) && ranges.iter().count() <= MAX_RANGES);
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
                came.extend(streams.in_order(source, number, number, (Topic::named("t"), message)));
                came.extend(std::iter::from_fn(|| streams.next_due(&source)));
                prop_assert_eq!(streams.any_due(), None);
            }
            let texts: Vec<_> = came.iter().map(|(_, message)| message.bytes.clone()).collect();
            prop_assert_eq!(texts, (0..50).map(|n| n.to_string()).collect::<Vec<_>>());
            prop_assert_eq!(streams.held, 0);
        }
    }
}
