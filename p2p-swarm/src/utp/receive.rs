//! What has come: in order, and what waits for something that is missing.

use std::collections::VecDeque;

use bytes::Bytes;

/// Packets that may be ahead of the first that is missing. 1,024, as in libutp; nobody has more on their way.
pub(super) const AHEAD: usize = 1024;

/// What became of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Came {
    /// It was the next.
    Next,
    /// It is early, or was there already: the sender should hear what is missing.
    Early,
    /// There is no room for it.
    Refused,
}

/// One packet that came early.
#[derive(Debug)]
struct Early {
    payload: Bytes,
    last: bool,
}

/// The receiving side. It holds at most `room` bytes and one packet, in at most 1,024 packets that are out of order.
#[derive(Debug)]
pub(super) struct Receiver {
    /// The next packet in order.
    next: u64,
    room: usize,
    /// In order, and not read yet.
    ready: VecDeque<Bytes>,
    ready_bytes: usize,
    /// Those after the next, which is missing: the first is `next + 1`.
    early: VecDeque<Option<Early>>,
    early_bytes: usize,
    /// Nothing follows what came in order.
    ended: bool,
    /// Bytes that the other end was told there is room for, and has not sent.
    promised: usize,
}

impl Receiver {
    /// `next` is the first packet that takes a sequence number.
    pub(super) fn new(next: u64, room: usize) -> Receiver {
        Receiver {
            next,
            room,
            ready: VecDeque::new(),
            ready_bytes: 0,
            early: VecDeque::new(),
            early_bytes: 0,
            ended: false,
            promised: room,
        }
    }

    /// The next packet in order.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// A packet that takes a sequence number; `last` says that none follows.
    pub(super) fn receive(&mut self, seq: u64, payload: Bytes, last: bool) -> Came {
        let Some(ahead) = seq.checked_sub(self.next) else { return Came::Early };
        let held = self.ready_bytes + self.early_bytes;
        let fits = held + payload.len() <= self.room || (ahead == 0 && self.ready.is_empty());
        if self.ended || !fits || ahead > AHEAD as u64 {
            return Came::Refused;
        }
        let length = payload.len();
        if ahead == 0 {
            self.promised = self.promised.saturating_sub(length);
            self.take(payload, last);
            while let Some(Some(early)) = self.early.pop_front() {
                self.early_bytes -= early.payload.len();
                self.take(early.payload, early.last);
            }
            return Came::Next;
        }
        let place = ahead as usize - 1;
        if self.early.len() <= place {
            self.early.resize_with(place + 1, || None);
        }
        if self.early[place].is_none() {
            self.promised = self.promised.saturating_sub(length);
            self.early_bytes += length;
            self.early[place] = Some(Early { payload, last });
        }
        Came::Early
    }

    /// The next in order.
    fn take(&mut self, payload: Bytes, last: bool) {
        // What comes after the last is nothing.
        if self.ended {
            return;
        }
        self.next += 1;
        self.ended = last;
        if !payload.is_empty() {
            self.ready_bytes += payload.len();
            self.ready.push_back(payload);
        }
    }

    pub(super) fn read(&mut self) -> Option<Bytes> {
        let bytes = self.ready.pop_front()?;
        self.ready_bytes -= bytes.len();
        Some(bytes)
    }

    /// Whether all is read that ever comes.
    pub(super) fn is_finished(&self) -> bool {
        self.ended && self.ready.is_empty()
    }

    /// Whether nothing is missing.
    pub(super) fn is_whole(&self) -> bool {
        self.early.is_empty()
    }

    /// How many more bytes there is room for.
    pub(super) fn window(&self) -> usize {
        self.room.saturating_sub(self.ready_bytes + self.early_bytes)
    }

    /// How many more bytes the other end is told there is room for. If it is less than a packet, that is no more than was
    /// promised before: nobody is to cut packets (RFC 1122 §4.2.3.3), or to hear that what is on its way has no room.
    pub(super) fn promise(&mut self, packet: usize) -> usize {
        let window = self.window();
        self.promised = if window < packet { self.promised.min(window) } else { window };
        self.promised
    }

    /// Whether there is room for a packet, and the other end does not know.
    pub(super) fn reopens(&self, packet: usize) -> bool {
        !self.ended && self.promised < packet && self.window() >= packet
    }

    /// Which packets are there beyond the next: a selective acknowledgement, in whole words of 32.
    pub(super) fn selective(&self) -> Vec<u8> {
        let mut mask = vec![0; self.early.len().div_ceil(32) * 4];
        for (bit, _) in self.early.iter().enumerate().filter(|(_, early)| early.is_some()) {
            mask[bit / 8] |= 1 << (bit % 8);
        }
        mask
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receiver() -> Receiver {
        Receiver::new(100, 20)
    }

    fn data(receiver: &mut Receiver, seq: u64, payload: &'static str) -> Came {
        receiver.receive(seq, Bytes::from_static(payload.as_bytes()), false)
    }

    fn read(receiver: &mut Receiver) -> String {
        let all: Vec<u8> = std::iter::from_fn(|| receiver.read()).flatten().collect();
        String::from_utf8(all).unwrap()
    }

    #[test]
    fn packets_are_read_in_order_once() {
        let mut receiver = receiver();
        assert_eq!(data(&mut receiver, 102, "c"), Came::Early);
        assert_eq!(data(&mut receiver, 101, "b"), Came::Early);
        assert_eq!(data(&mut receiver, 101, "x"), Came::Early, "it is there already");
        assert_eq!(read(&mut receiver), "");
        assert_eq!(data(&mut receiver, 100, "a"), Came::Next);
        assert_eq!(data(&mut receiver, 100, "y"), Came::Early, "that was long ago");
        assert_eq!((read(&mut receiver), receiver.next()), ("abc".into(), 103));
    }

    #[test]
    fn a_selective_acknowledgement_begins_two_after_the_last_in_order() {
        let mut receiver = receiver();
        assert!(receiver.selective().is_empty());
        // 99 is the last in order: bit 0 is 101.
        [101, 103, 109, 140].into_iter().for_each(|seq| _ = data(&mut receiver, seq, ""));
        assert_eq!(receiver.selective(), [0b101, 0b1, 0, 0, 0b1000_0000, 0, 0, 0]);
        data(&mut receiver, 100, "");
        assert_eq!(receiver.selective(), [0b100_0001, 0, 0, 0, 0b10_0000, 0, 0, 0]);
    }

    #[test]
    fn what_is_held_is_bounded() {
        let mut receiver = receiver();
        assert_eq!(data(&mut receiver, 102, "0123456789"), Came::Early);
        assert_eq!((receiver.window(), data(&mut receiver, 101, "01234567890")), (10, Came::Refused));
        assert_eq!(data(&mut receiver, 103, "0123456789"), Came::Early);
        assert_eq!((receiver.window(), data(&mut receiver, 104, "0")), (0, Came::Refused));
        // What all wait for is let in all the same.
        assert_eq!(data(&mut receiver, 100, "ab"), Came::Next);
        assert_eq!(data(&mut receiver, 101, "cd"), Came::Refused, "but for what is not read");
        assert_eq!(read(&mut receiver), "ab");
        assert_eq!(data(&mut receiver, 101, "cd"), Came::Next);
        assert_eq!(read(&mut receiver), "cd01234567890123456789");
        assert_eq!(data(&mut receiver, 104 + AHEAD as u64, ""), Came::Early);
        assert_eq!(data(&mut receiver, 105 + AHEAD as u64, ""), Came::Refused, "it is too far ahead");
    }

    #[test]
    fn room_for_less_than_a_packet_is_not_offered_nor_taken_back() {
        let mut receiver = receiver();
        assert_eq!(receiver.promise(10), 20);
        data(&mut receiver, 101, "0123456");
        data(&mut receiver, 101, "0123456");
        data(&mut receiver, 100, "abcdefg");
        assert_eq!(receiver.promise(10), 6, "the other end knows of this");
        data(&mut receiver, 102, "uvwxyz");
        assert_eq!((receiver.promise(10), receiver.reopens(10)), (0, false));
        assert_eq!(receiver.read().unwrap(), "abcdefg");
        assert_eq!((receiver.window(), receiver.promise(10), receiver.reopens(10)), (7, 0, false));
        assert_eq!(receiver.read().unwrap(), "0123456");
        assert!(receiver.reopens(10));
        assert_eq!((receiver.promise(10), receiver.reopens(10)), (14, false));
    }

    #[test]
    fn nothing_comes_after_the_last() {
        let mut receiver = receiver();
        assert_eq!(receiver.receive(101, Bytes::new(), true), Came::Early);
        data(&mut receiver, 102, "never");
        assert!(!receiver.is_finished());
        data(&mut receiver, 100, "a");
        assert!(!receiver.is_finished(), "that is not read yet");
        assert_eq!((read(&mut receiver), receiver.next()), ("a".into(), 102));
        assert!(receiver.is_finished());
        assert_eq!(data(&mut receiver, 102, "never"), Came::Refused);
    }
}
