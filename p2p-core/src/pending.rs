//! Questions to peers that wait for an answer.
//!
//! Request and response over messages need the same care everywhere: the answer must come from the peer that
//! was asked, once, and in time. [`Pending`] keeps that list. It needs one timer of its machine: set it to
//! [`Pending::next_deadline`] and call [`Pending::expire`] when it fires.

use crate::Time;

/// What waits for an answer, by a number that the answer repeats. At most as many as the bound it was made
/// with.
///
/// ```
/// use p2p_core::{Pending, SimPeer, Time};
/// use std::time::Duration;
///
/// let mut asked: Pending<SimPeer, &str> = Pending::with_capacity(100);
/// let deadline = Time::ZERO + Duration::from_secs(1);
/// let id = asked.insert(SimPeer(1), deadline, "what is the time?").unwrap();
/// assert_eq!(asked.answer(id, SimPeer(2)), None, "somebody else answers");
/// assert_eq!(asked.get(id, SimPeer(1)), Some(&"what is the time?"));
/// assert_eq!(asked.answer(id, SimPeer(1)), Some("what is the time?"));
/// assert_eq!(asked.answer(id, SimPeer(1)), None, "only once");
/// ```
#[derive(Debug, Clone)]
pub struct Pending<P, T> {
    next: u32,
    capacity: usize,
    asked: Vec<Entry<P, T>>,
}

#[derive(Debug, Clone)]
struct Entry<P, T> {
    id: u32,
    peer: P,
    deadline: Time,
    what: T,
}

impl<P: Copy + Eq, T> Pending<P, T> {
    /// An empty list of at most `capacity` questions. Nothing is allocated yet.
    pub const fn with_capacity(capacity: usize) -> Self {
        Pending { next: 0, capacity, asked: Vec::new() }
    }

    /// Notes a question to `peer` and gives it a number.
    ///
    /// # Errors
    /// The list is full; `what` comes back.
    pub fn insert(&mut self, peer: P, deadline: Time, what: T) -> Result<u32, T> {
        if self.asked.len() >= self.capacity {
            return Err(what);
        }
        let id = self.next;
        self.next = self.next.wrapping_add(1);
        if self.asked.len() == self.asked.capacity() {
            // Most lists hold one or two questions, and there may be a hundred thousand lists.
            self.asked.reserve_exact(1 + self.asked.len() / 2);
        }
        self.asked.push(Entry { id, peer, deadline, what });
        Ok(id)
    }

    /// The question that `peer` answers; `None` if it was not asked that, or has answered, or is too late.
    pub fn answer(&mut self, id: u32, peer: P) -> Option<T> {
        let at = self.asked.iter().position(|entry| entry.id == id && entry.peer == peer)?;
        Some(self.asked.swap_remove(at).what)
    }

    /// The question with this number to `peer`, which goes on waiting.
    pub fn get(&self, id: u32, peer: P) -> Option<&T> {
        let entry = self.asked.iter().find(|entry| entry.id == id && entry.peer == peer)?;
        Some(&entry.what)
    }

    /// When the first question is due.
    pub fn next_deadline(&self) -> Option<Time> {
        self.asked.iter().map(|entry| entry.deadline).min()
    }

    /// Takes out a question that is due by `now`, the earliest first, until there is none.
    pub fn expire(&mut self, now: Time) -> Option<(P, T)> {
        let due = self.asked.iter().enumerate().filter(|(_, entry)| entry.deadline <= now);
        let (at, _) = due.min_by_key(|(_, entry)| (entry.deadline, entry.id))?;
        let entry = self.asked.swap_remove(at);
        Some((entry.peer, entry.what))
    }

    /// Takes out a question to a peer that cannot answer any more, until there is none.
    pub fn give_up(&mut self, peer: P) -> Option<T> {
        let at = self.asked.iter().position(|entry| entry.peer == peer)?;
        Some(self.asked.swap_remove(at).what)
    }

    /// [Prefetches](crate::prefetch) the list.
    pub fn warm(&self) {
        crate::prefetch(&self.asked[..]);
    }

    /// How many questions wait.
    pub fn len(&self) -> usize {
        self.asked.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.asked.is_empty()
    }

    /// Every question that waits, with the peer it went to.
    pub fn iter(&self) -> impl Iterator<Item = (P, &T)> {
        self.asked.iter().map(|entry| (entry.peer, &entry.what))
    }
}
