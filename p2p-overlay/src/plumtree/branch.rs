//! One neighbour: whether the tree leads to it, and how much may be sent to it.
//!
//! What is sent is counted, and every now and then, and with each message that travels on a stream of its own, goes a
//! *mark*; when the neighbour says that it has taken in what came up to the mark, there is room for more. What finds no
//! room waits here, in a queue with a bound.

use std::collections::VecDeque;

use p2p_core::{Peer, Time};

use super::msg::{Announced, LARGE};
use super::store::Stored;

/// One mark for so much of a window: whoever takes in that much in [`PlumtreeConfig::stall`](super::PlumtreeConfig) is
/// waited for.
pub(super) const SHARE: usize = 64;
/// How many marks a neighbour may leave unanswered, and how many of its own are remembered: as many messages longer
/// than [`LARGE`] as fit in a window.
const MAX_MARKS: usize = super::MAX_WINDOW / LARGE;

/// A neighbour. Its queue has at most as many bytes as [`PlumtreeConfig::queue`](super::PlumtreeConfig).
#[derive(Clone, Debug)]
pub(super) struct Branch<P> {
    pub(super) peer: P,
    /// The tree leads to it: it is sent messages, not announcements.
    pub(super) eager: bool,
    /// When it was last told to announce only.
    pub(super) pruned: Option<Time>,
    /// It was asked what has come since this node takes part, and has been told the same of this one.
    pub(super) asked: bool,
    pub(super) told: bool,
    /// What is to be announced to it.
    pub(super) announcements: Vec<Announced<P>>,
    /// Each with when it was passed on.
    queue: VecDeque<(u64, Stored<P>)>,
    queued: usize,
    /// Bytes sent and not known to be taken in.
    in_flight: usize,
    /// Of these, sent since the last mark.
    unmarked: usize,
    marks: VecDeque<Marked>,
    last_mark: u32,
    /// The latest of this node's own messages sent to it, and the latest that a mark has covered.
    own: Option<u64>,
    own_marked: Option<u64>,
    /// It has left a mark unanswered for long: nobody waits for it.
    pub(super) stalled: bool,
    /// Its marks that are to be answered, each with what had been passed on when it came.
    owed: Vec<(u32, u64)>,
}

/// A mark that is not answered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Marked {
    mark: u32,
    covers: usize,
    /// This node's own messages up to this number are covered.
    own: Option<u64>,
    /// On a stream of its own: it covers one message.
    alone: bool,
    pub(super) at: Time,
}

impl<P: Peer> Branch<P> {
    pub(super) fn new(peer: P) -> Branch<P> {
        Branch {
            peer,
            eager: true,
            pruned: None,
            asked: false,
            told: false,
            announcements: Vec::new(),
            queue: VecDeque::new(),
            queued: 0,
            in_flight: 0,
            unmarked: 0,
            marks: VecDeque::new(),
            last_mark: 0,
            own: None,
            own_marked: None,
            stalled: false,
            owed: Vec::new(),
        }
    }

    /// Messages wait for it.
    pub(super) fn is_congested(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Whether a message of this size can be sent now.
    pub(super) fn has_room(&self, size: usize, window: usize) -> bool {
        self.queue.is_empty() && self.fits(size, window)
    }

    fn fits(&self, size: usize, window: usize) -> bool {
        (self.in_flight == 0 || self.in_flight + size <= window) && self.marks.len() < MAX_MARKS
    }

    /// When the first message was passed on that waits for it, if it is waited for.
    pub(super) fn first_waiting(&self) -> Option<u64> {
        self.queue.front().filter(|_| !self.stalled).map(|(passed, _)| *passed)
    }

    /// Puts a message at the end of the queue; gives it back if there is no room for it.
    pub(super) fn wait(&mut self, passed: u64, message: Stored<P>, most: usize) -> Result<(), Stored<P>> {
        let size = message.size();
        if self.queued + size > most && self.queued > 0 {
            return Err(message);
        }
        self.queued += size;
        self.queue.push_back((passed, message));
        Ok(())
    }

    /// The next message that waits, if it can be sent now.
    pub(super) fn next(&mut self, window: usize) -> Option<Stored<P>> {
        let size = self.queue.front()?.1.size();
        if !self.fits(size, window) {
            return None;
        }
        self.queued -= size;
        self.queue.pop_front().map(|(_, message)| message)
    }

    /// Nothing is sent from the queue any more: what was in it.
    pub(super) fn give_up(&mut self) -> impl Iterator<Item = Stored<P>> + use<P> {
        self.queued = 0;
        std::mem::take(&mut self.queue).into_iter().map(|(_, message)| message)
    }

    /// Counts a message that is sent; `own` is its number if it is this node's own. Gives its mark; 0 for none.
    pub(super) fn sent(&mut self, now: Time, message: &Stored<P>, own: Option<u64>, window: usize) -> u32 {
        let size = message.size();
        self.in_flight += size;
        self.own = self.own.max(own);
        if message.bytes.len() > LARGE {
            return self.mark(now, size, own, true);
        }
        self.unmarked += size;
        self.mark_all(now, window).unwrap_or(0)
    }

    /// A mark for all that have none, if one is due: when they have used up some of the window; and, one at a time, for
    /// this node's own messages, for which their publisher waits, or if others wait for room.
    pub(super) fn mark_all(&mut self, now: Time, window: usize) -> Option<u32> {
        let awaited = self.own > self.own_marked || self.is_congested();
        let one = awaited && self.marks.iter().all(|marked| marked.alone);
        if self.unmarked == 0 || !(one || self.unmarked >= window / SHARE) {
            return None;
        }
        let covers = std::mem::take(&mut self.unmarked);
        self.own_marked = self.own;
        Some(self.mark(now, covers, self.own, false))
    }

    fn mark(&mut self, at: Time, covers: usize, own: Option<u64>, alone: bool) -> u32 {
        self.last_mark = self.last_mark.wrapping_add(1).max(1);
        self.marks.push_back(Marked { mark: self.last_mark, covers, own, alone, at });
        self.last_mark
    }

    /// What it was sent up to a mark is taken in; `None` if there is no such mark. Gives up to which number this node's
    /// own messages are covered, if any is.
    pub(super) fn took(&mut self, mark: u32) -> Option<Option<u64>> {
        let at = self.marks.iter().position(|marked| marked.mark == mark)?;
        let marked = self.marks.remove(at)?;
        self.in_flight -= marked.covers;
        self.stalled = false;
        Some(marked.own)
    }

    /// The latest of this node's own messages of which it has yet to say that it has taken them in.
    pub(super) fn awaited(&self) -> Option<u64> {
        let unmarked = self.own.filter(|_| self.unmarked > 0 && self.own > self.own_marked);
        self.marks.iter().filter_map(|marked| marked.own).chain(unmarked).max()
    }

    /// Notes a mark of the neighbour's, to be answered when all is taken in that was passed on so far; 0 is none.
    /// Whoever sends more than it may gets no answer.
    pub(super) fn owe(&mut self, mark: u32, passed: u64) {
        if mark != 0 && self.owed.len() < MAX_MARKS && self.owed.iter().all(|(owed, _)| *owed != mark) {
            self.owed.push((mark, passed));
        }
    }

    /// Whether any mark is to be answered.
    pub(super) fn owes(&self) -> bool {
        !self.owed.is_empty()
    }

    /// The marks to be answered when all is taken in that was passed on before this.
    pub(super) fn pay(&mut self, before: u64) -> impl Iterator<Item = u32> {
        self.owed.extract_if(.., move |(_, passed)| *passed < before).map(|(mark, _)| mark)
    }

    /// The mark that has waited longest.
    pub(super) fn oldest_mark(&self) -> Option<(u32, Time)> {
        self.marks.front().map(|marked| (marked.mark, marked.at))
    }
}
