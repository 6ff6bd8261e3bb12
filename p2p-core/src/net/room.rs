//! Room for the messages that a machine has yet to take in.
//!
//! What waits in a machine's inbox is bounded in bytes, and who finds no room waits for it: in one line, and each
//! peer once, however many streams it has opened. So whoever sends little waits for one message of each other peer at
//! the most, and a long message is not passed over for ever by short ones.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::PeerId;

/// The room of one machine: as many bytes as the limit, or one message that is longer.
#[derive(Debug)]
pub(super) struct Room {
    bytes: Arc<Semaphore>,
    most: u32,
}

/// What one message takes up, until this is dropped.
#[derive(Debug)]
pub(super) struct Held {
    _bytes: Option<OwnedSemaphorePermit>,
}

impl Room {
    pub(super) fn new(most: usize) -> Room {
        let most = most.clamp(1, Semaphore::MAX_PERMITS.min(u32::MAX as usize));
        Room { bytes: Arc::new(Semaphore::new(most)), most: most as u32 }
    }

    fn size(&self, len: usize) -> u32 {
        u32::try_from(len).map_or(self.most, |len| len.clamp(1, self.most))
    }

    /// Takes room for a message of `len` bytes; `None` if there is too little, or others wait.
    pub(super) fn try_enter(&self, len: usize) -> Option<Held> {
        match self.bytes.clone().try_acquire_many_owned(self.size(len)) {
            Ok(bytes) => Some(Held { _bytes: Some(bytes) }),
            Err(tokio::sync::TryAcquireError::NoPermits) => None,
            Err(tokio::sync::TryAcquireError::Closed) => Some(Held { _bytes: None }),
        }
    }

    /// Waits for room, in line.
    pub(super) async fn enter(&self, len: usize) -> Held {
        Held { _bytes: self.bytes.clone().acquire_many_owned(self.size(len)).await.ok() }
    }

    /// Nothing is taken in any more: nobody need wait.
    pub(super) fn close(&self) {
        self.bytes.close();
    }
}

/// Whose turn it is among the streams of each peer, with their number. No more entries than peers with streams of
/// messages.
#[derive(Default)]
pub(super) struct Turns(Mutex<BTreeMap<PeerId, (usize, Arc<Semaphore>)>>);

impl Turns {
    fn all(&self) -> MutexGuard<'_, BTreeMap<PeerId, (usize, Arc<Semaphore>)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A stream of a peer.
    pub(super) fn of(&self, peer: PeerId) -> Turn<'_> {
        let mut all = self.all();
        let (streams, turn) = all.entry(peer).or_insert_with(|| (0, Arc::new(Semaphore::new(1))));
        *streams += 1;
        Turn { turns: self, peer, turn: turn.clone() }
    }
}

/// One stream's part in its peer's turn.
pub(super) struct Turn<'a> {
    turns: &'a Turns,
    peer: PeerId,
    turn: Arc<Semaphore>,
}

impl Turn<'_> {
    /// Does something that may have to wait when no other stream of the peer does.
    pub(super) async fn take<T>(&self, wait: impl Future<Output = T>) -> T {
        // It is never closed.
        let _mine = self.turn.acquire().await;
        wait.await
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if let Entry::Occupied(mut entry) = self.turns.all().entry(self.peer) {
            entry.get_mut().0 -= 1;
            if entry.get().0 == 0 {
                entry.remove();
            }
        }
    }
}

impl fmt::Debug for Turn<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Turn({:?})", self.peer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;
    use futures::stream::{FuturesUnordered, StreamExt};

    #[test]
    fn a_message_longer_than_all_room_has_it_alone() {
        let room = Room::new(10);
        let long = room.try_enter(99).unwrap();
        assert!(room.try_enter(1).is_none());
        drop(long);
        let _short = room.try_enter(1).unwrap();
        assert!(room.try_enter(99).is_none());
    }

    #[test]
    fn a_peer_with_many_streams_stands_in_line_once() {
        let (room, turns) = (Room::new(10), Turns::default());
        let mut inside = room.try_enter(10).unwrap();
        let streams = [1, 1, 1, 2].map(|peer| turns.of(PeerId::from_bytes([peer; 32])));
        let waiting: FuturesUnordered<_> = streams
            .iter()
            .enumerate()
            .map(|(number, turn)| turn.take(room.enter(10)).map(move |held| (number, held)))
            .collect();
        let mut waiting = waiting;
        let mut order = Vec::new();
        while !waiting.is_empty() {
            assert!(waiting.next().now_or_never().is_none(), "there is no room");
            assert!(room.try_enter(1).is_none(), "nor is anybody passed over");
            drop(inside);
            let (number, held) = waiting.next().now_or_never().flatten().unwrap();
            order.push(number);
            inside = held;
        }
        drop(waiting);
        assert_eq!(order.iter().position(|number| *number == 3), Some(1), "{order:?}");
        drop(streams);
        assert!(turns.all().is_empty());
    }

    #[test]
    fn nobody_waits_for_a_machine_that_has_ended() {
        let room = Room::new(10);
        let _inside = room.try_enter(10);
        let waiting = room.enter(1);
        room.close();
        assert!(waiting.now_or_never().is_some() && room.try_enter(1).is_some());
    }
}
