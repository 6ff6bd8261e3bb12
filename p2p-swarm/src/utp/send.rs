//! What is to be sent, and what was and is not acknowledged (BEP 29, "packet loss").
//!
//! Packets are made of what waits when there is room for them, and keep their bytes: sequence numbers count packets, so
//! what is sent again is sent as it was.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use p2p_core::Time;

use super::receive::AHEAD;

/// Packets on their way, at most: one less than anybody holds out of order.
const MAX_FLIGHT: usize = AHEAD - 1;
/// After so many packets behind it were acknowledged, or acknowledgements of what was known, a packet is lost. 3.
const DUPLICATES: usize = 3;

/// A packet that goes now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Outgoing {
    pub seq: u64,
    pub payload: Bytes,
    /// Nothing follows.
    pub last: bool,
}

/// A packet that was sent.
#[derive(Debug)]
struct Flight {
    payload: Bytes,
    last: bool,
    /// When it was sent, the last time.
    at: Time,
    times: u32,
    /// It has arrived, though one before it has not.
    arrived: bool,
}

/// What an acknowledgement has said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Acked {
    /// Bytes that are known to have arrived now.
    pub bytes: usize,
    /// Packets that are.
    pub packets: usize,
    /// How long the last of them was gone that was sent once: of others nobody knows which has arrived.
    pub took: Option<Duration>,
    /// The last packet that was found to be lost now.
    pub lost: Option<u64>,
}

/// The sending side.
#[derive(Debug)]
pub(super) struct Sender {
    waiting: VecDeque<Bytes>,
    waiting_bytes: usize,
    /// Nothing will be written any more; then, that this was sent.
    ending: bool,
    ended: bool,
    /// Sent, and not known to have arrived, or waiting for one that is not; the first is `first`.
    flight: VecDeque<Flight>,
    first: u64,
    flight_bytes: usize,
    /// Those that are taken for lost: they are not in `in_flight`.
    lost: BTreeSet<u64>,
    in_flight: usize,
    /// Bytes that are not known to have arrived: those on their way, and those that are lost.
    missing: usize,
    /// How many of the flight have arrived.
    early: usize,
    duplicates: usize,
}

impl Sender {
    /// `first` is the first sequence number that it takes.
    pub(super) fn new(first: u64) -> Sender {
        Sender {
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            ending: false,
            ended: false,
            flight: VecDeque::new(),
            first,
            flight_bytes: 0,
            lost: BTreeSet::new(),
            in_flight: 0,
            missing: 0,
            early: 0,
            duplicates: 0,
        }
    }

    pub(super) fn write(&mut self, bytes: Bytes) {
        if !bytes.is_empty() && !self.ending {
            self.waiting_bytes += bytes.len();
            self.waiting.push_back(bytes);
        }
    }

    /// Nothing follows.
    pub(super) fn end(&mut self) {
        self.ending = true;
    }

    pub(super) fn is_ending(&self) -> bool {
        self.ending
    }

    /// Whether all has arrived, and that nothing follows.
    pub(super) fn is_finished(&self) -> bool {
        self.ended && self.flight.is_empty()
    }

    /// Bytes that are kept: those that were not sent, and those that may have to be sent again.
    pub(super) fn held(&self) -> usize {
        self.waiting_bytes + self.flight_bytes
    }

    /// The first packet that is not known to have arrived, or that is not sent yet.
    pub(super) fn first(&self) -> u64 {
        self.first
    }

    /// The sequence number that is taken next.
    pub(super) fn next(&self) -> u64 {
        self.first + self.flight.len() as u64
    }

    /// Whether something is waited for.
    pub(super) fn is_waiting(&self) -> bool {
        !self.flight.is_empty()
    }

    /// Bytes on their way.
    pub(super) fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Bytes of the packet that goes next; 0 if none waits.
    pub(super) fn waits(&self, size: usize) -> usize {
        let lost = self.lost.first().map(|seq| self.flight[(seq - self.first) as usize].payload.len());
        lost.unwrap_or(size.min(self.waiting_bytes))
    }

    /// A packet of at most `size` bytes, if so many bytes may be on their way and the other end has so much `room` for what
    /// has not arrived: what was lost before what is new.
    pub(super) fn transmit(
        &mut self,
        size: usize,
        window: usize,
        room: usize,
        now: Time,
    ) -> Option<Outgoing> {
        let length = self.waits(size);
        if length > window.saturating_sub(self.in_flight) {
            return None;
        }
        if let Some(&seq) = self.lost.first() {
            // There was room when it was sent: this asks only whether there is any.
            if length > room {
                return None;
            }
            let flight = &mut self.flight[(seq - self.first) as usize];
            self.lost.remove(&seq);
            self.in_flight += length;
            (flight.at, flight.times) = (now, flight.times + 1);
            return Some(Outgoing { seq, payload: flight.payload.clone(), last: flight.last });
        }
        let last = length == 0 && self.ending && !self.ended;
        // What takes no room may always go.
        let fits = length == 0 || self.missing + length <= room;
        if (length == 0 && !last) || !fits || self.flight.len() >= MAX_FLIGHT {
            return None;
        }
        self.ended |= last;
        let (seq, payload) = (self.next(), self.take(length));
        self.in_flight += length;
        self.missing += length;
        self.flight_bytes += length;
        self.flight.push_back(Flight { payload: payload.clone(), last, at: now, times: 1, arrived: false });
        Some(Outgoing { seq, payload, last })
    }

    /// So many of the bytes that wait.
    fn take(&mut self, length: usize) -> Bytes {
        self.waiting_bytes -= length;
        let Some(front) = self.waiting.front_mut() else { return Bytes::new() };
        if front.len() > length {
            return front.split_to(length);
        }
        if front.len() == length {
            return self.waiting.pop_front().unwrap_or_default();
        }
        let mut packet = BytesMut::with_capacity(length);
        while packet.len() < length
            && let Some(front) = self.waiting.front_mut()
        {
            let part = front.split_to(front.len().min(length - packet.len()));
            packet.extend_from_slice(&part);
            if front.is_empty() {
                self.waiting.pop_front();
            }
        }
        packet.freeze()
    }

    /// All before `next` have arrived, and those of `selective`, whose first bit is `next + 1`. `duplicate` says that this
    /// may tell of a loss by saying nothing new. `None` if it acknowledges what was never sent, or is older than any packet
    /// that is still on its way.
    pub(super) fn acknowledge(
        &mut self,
        next: u64,
        selective: &[u8],
        duplicate: bool,
        now: Time,
    ) -> Option<Acked> {
        if next > self.next() || next + (AHEAD as u64) < self.first {
            return None;
        }
        let mut acked = Acked::default();
        if next < self.first {
            return Some(acked);
        }
        if next > self.first {
            self.duplicates = 0;
            while self.first < next {
                self.arrived(self.first, now, &mut acked);
                self.pop();
            }
        } else if duplicate && selective.is_empty() && !self.flight.is_empty() {
            self.duplicates += 1;
        }
        let most = self.flight.len().saturating_sub(1);
        for (byte, bits) in selective.iter().enumerate() {
            for bit in (0..8).filter(|bit| bits & 1 << bit != 0) {
                if byte * 8 + bit < most {
                    self.arrived(self.first + 1 + (byte * 8 + bit) as u64, now, &mut acked);
                }
            }
        }
        if self.early >= DUPLICATES || self.duplicates >= DUPLICATES {
            self.find_lost(&mut acked);
        }
        Some(acked)
    }

    /// A packet has arrived.
    fn arrived(&mut self, seq: u64, now: Time, acked: &mut Acked) {
        let Some(flight) = self.flight.get_mut((seq - self.first) as usize).filter(|f| !f.arrived) else {
            return;
        };
        flight.arrived = true;
        self.early += 1;
        let (length, took, times) = (flight.payload.len(), now - flight.at, flight.times);
        if !self.lost.remove(&seq) {
            self.in_flight -= length;
        }
        self.missing -= length;
        acked.bytes += length;
        acked.packets += 1;
        if times == 1 {
            acked.took = Some(took);
        }
    }

    /// The first is done with.
    fn pop(&mut self) {
        if let Some(flight) = self.flight.pop_front() {
            self.flight_bytes -= flight.payload.len();
            self.early -= usize::from(flight.arrived);
            self.first += 1;
        }
    }

    /// Finds packets that are lost: three behind them have arrived, or three acknowledgements have told of nothing new. A
    /// packet that was sent again already is left to the timeout, since what arrives now may have been sent before it.
    fn find_lost(&mut self, acked: &mut Acked) {
        let mut behind = self.flight.iter().enumerate().rev().filter(|(_, flight)| flight.arrived);
        let third = behind.nth(DUPLICATES - 1).map(|(place, _)| place);
        let first = (self.duplicates >= DUPLICATES).then_some(1);
        let until = third.into_iter().chain(first).max().unwrap_or(0);
        for (place, flight) in self.flight.iter().enumerate().take(until) {
            let seq = self.first + place as u64;
            if !flight.arrived && flight.times == 1 && self.lost.insert(seq) {
                self.in_flight -= flight.payload.len();
                acked.lost = Some(seq);
            }
        }
    }

    /// Nothing was acknowledged for too long: all that is on its way is lost.
    pub(super) fn timed_out(&mut self) {
        self.duplicates = 0;
        for (place, flight) in self.flight.iter().enumerate().filter(|(_, flight)| !flight.arrived) {
            if self.lost.insert(self.first + place as u64) {
                self.in_flight -= flight.payload.len();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: usize = 10;

    fn at(ms: u64) -> Time {
        Time::ZERO + Duration::from_millis(ms)
    }

    /// A sender of packets 100, 101, … of ten bytes each, of which so many are on their way.
    fn flying(packets: usize) -> Sender {
        let mut sender = Sender::new(100);
        sender.write(vec![7; 100 * SIZE].into());
        let sent = std::iter::from_fn(|| sender.transmit(SIZE, packets * SIZE, usize::MAX, at(0))).count();
        assert_eq!((sent, sender.in_flight()), (packets, packets * SIZE));
        sender
    }

    fn again(sender: &mut Sender, window: usize) -> Vec<u64> {
        std::iter::from_fn(|| sender.transmit(SIZE, window, usize::MAX, at(1)))
            .map(|packet| packet.seq)
            .collect()
    }

    #[test]
    fn small_writes_go_together_and_large_ones_are_cut() {
        let mut sender = Sender::new(1);
        for part in ["abc", "defg", "hijklmnopqrstuvw", "xyz"] {
            sender.write(Bytes::from_static(part.as_bytes()));
        }
        sender.end();
        sender.write(Bytes::from_static(b"too late"));
        let sent: Vec<_> = std::iter::from_fn(|| sender.transmit(SIZE, 1000, 1000, at(0)))
            .map(|packet| (packet.seq, String::from_utf8(packet.payload.to_vec()).unwrap(), packet.last))
            .collect();
        let expected =
            [(1, "abcdefghij", false), (2, "klmnopqrst", false), (3, "uvwxyz", false), (4, "", true)];
        assert_eq!(sent, expected.map(|(seq, payload, last)| (seq, payload.to_owned(), last)));
        assert!(!sender.is_finished());
        sender.acknowledge(5, &[], false, at(1)).unwrap();
        assert!(sender.is_finished() && sender.held() == 0);
    }

    #[test]
    fn what_is_acknowledged_makes_room() {
        let mut sender = flying(4);
        assert_eq!(sender.transmit(SIZE, 4 * SIZE, usize::MAX, at(1)), None);
        let acked = sender.acknowledge(102, &[], true, at(80)).unwrap();
        let took = Some(Duration::from_millis(80));
        assert_eq!(acked, Acked { bytes: 20, packets: 2, took, lost: None });
        assert_eq!(again(&mut sender, 4 * SIZE), [104, 105]);
        assert_eq!(sender.acknowledge(101, &[], true, at(90)), Some(Acked::default()), "that is old");
        assert_eq!(sender.acknowledge(107, &[], true, at(90)), None, "that was not sent");
    }

    #[test]
    fn a_packet_is_lost_when_three_behind_it_have_arrived() {
        let mut sender = flying(8);
        // 100 is missing; 101 and 102 are there.
        assert_eq!(sender.acknowledge(100, &[0b11], true, at(10)).unwrap().lost, None);
        // And so is 105: three behind 100, but not behind 103.
        assert_eq!(sender.acknowledge(100, &[0b1_0011], true, at(11)).unwrap().lost, Some(100));
        assert_eq!(again(&mut sender, 6 * SIZE), [100, 108], "four of them are on their way");
        // 106 and 107 arrive: 103 and 104 are lost, too; 100 was sent again already.
        assert_eq!(sender.acknowledge(100, &[0b111_0011], true, at(12)).unwrap().lost, Some(104));
        assert_eq!(again(&mut sender, 4 * SIZE), [103, 104]);
        let acked = sender.acknowledge(108, &[], true, at(21)).unwrap();
        assert_eq!((acked.packets, acked.took), (3, None), "nobody knows which of each has arrived");
    }

    #[test]
    fn three_acknowledgements_of_nothing_new_tell_of_a_loss() {
        let mut sender = flying(4);
        let mut lost = (0..4).map(|_| sender.acknowledge(100, &[], true, at(5)).unwrap().lost);
        assert_eq!([(); 4].map(|()| lost.next().unwrap()), [None, None, Some(100), None]);
        let mut sender = flying(4);
        (0..9).for_each(|_| assert_eq!(sender.acknowledge(100, &[], false, at(5)).unwrap().lost, None));
    }

    #[test]
    fn after_a_timeout_all_is_sent_again_but_what_has_arrived() {
        let mut sender = flying(4);
        sender.acknowledge(100, &[0b1], true, at(5)).unwrap();
        sender.timed_out();
        assert_eq!(sender.in_flight(), 0);
        assert_eq!(again(&mut sender, SIZE), [100]);
        assert_eq!(sender.acknowledge(102, &[], false, at(9)).unwrap().packets, 1);
        assert_eq!(again(&mut sender, 3 * SIZE), [102, 103, 104]);
    }

    #[test]
    fn no_more_packets_are_on_their_way_than_anybody_holds() {
        let mut sender = Sender::new(0);
        sender.write(vec![7; 3000].into());
        let sent = std::iter::from_fn(|| sender.transmit(1, usize::MAX, usize::MAX, at(0))).count();
        assert_eq!(sent, MAX_FLIGHT);
    }

    #[test]
    fn no_more_goes_than_there_is_room_for() {
        let mut sender = Sender::new(100);
        sender.write(vec![7; 45].into());
        let goes = |sender: &mut Sender, room| -> Vec<u64> {
            std::iter::from_fn(|| sender.transmit(SIZE, 1000, room, at(0))).map(|packet| packet.seq).collect()
        };
        let none = Vec::<u64>::new();
        assert_eq!(goes(&mut sender, SIZE - 1), none);
        assert_eq!(goes(&mut sender, 3 * SIZE + 9), [100, 101, 102]);
        // 101 has come, and takes some of the room.
        sender.acknowledge(100, &[0b1], true, at(5)).unwrap();
        assert_eq!(goes(&mut sender, 2 * SIZE + 9), none);
        sender.timed_out();
        assert_eq!(goes(&mut sender, SIZE - 1), none, "nor is what was lost sent to whoever has none");
        assert_eq!(goes(&mut sender, 2 * SIZE), [100, 102]);
        sender.acknowledge(103, &[], true, at(9)).unwrap();
        sender.end();
        assert_eq!(goes(&mut sender, 4), none, "first what waits");
        assert_eq!(goes(&mut sender, 15), [103, 104, 105], "the end takes no room");
    }

    #[test]
    fn hostile_masks_do_no_harm() {
        let mut sender = flying(4);
        let acked = sender.acknowledge(100, &[0xff; 252], true, at(5)).unwrap();
        assert_eq!((acked.packets, acked.lost), (3, Some(100)));
        assert_eq!(sender.acknowledge(104, &[0xff; 252], true, at(6)).unwrap().packets, 1);
        assert_eq!((sender.in_flight(), sender.held()), (0, 100 * SIZE - 40));
    }
}
