//! Packets in batches, as the system takes and gives them.

use std::collections::VecDeque;
use std::io::IoSliceMut;
use std::net::SocketAddr;

use quinn::udp::{BATCH_SIZE, RecvMeta};

/// The most bytes at a time, to one peer or from one: the largest packet there can be.
const PLACE: usize = 65_535;
/// The most that one call sends: what IP and UDP put before it has to fit, too.
const RUN: usize = PLACE - 40 - 8;
/// Bytes of packets that wait to be sent; more are lost, as packets may be. 4 MiB.
const WAITING: usize = 4 << 20;

/// Packets that wait to be sent, one after the other in one buffer, which is at most half empty.
#[derive(Debug, Default)]
pub(super) struct Departures {
    bytes: Vec<u8>,
    /// So many of them are gone.
    gone: usize,
    /// To whom each goes, and how long it is.
    packets: VecDeque<(SocketAddr, usize)>,
}

/// Packets that go by one call: they lie one after the other, and are of one length but for the last, which may be
/// shorter.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Run<'a> {
    pub to: SocketAddr,
    pub length: usize,
    pub packets: usize,
    pub bytes: &'a [u8],
}

impl Departures {
    /// Appends a packet, unless there are too many.
    pub(super) fn push(&mut self, to: SocketAddr, write: impl FnOnce(&mut Vec<u8>)) {
        let begin = self.bytes.len();
        if begin - self.gone <= WAITING {
            write(&mut self.bytes);
            self.packets.push_back((to, self.bytes.len() - begin));
        }
    }

    /// What goes next, of at most so many packets.
    pub(super) fn run(&self, most: usize) -> Option<Run<'_>> {
        let &(to, length) = self.packets.front()?;
        let (mut packets, mut end, mut last) = (1, length, length);
        for &(other, next) in self.packets.iter().take(most).skip(1) {
            if other != to || last < length || next > length || end + next > RUN {
                break;
            }
            (packets, end, last) = (packets + 1, end + next, next);
        }
        Some(Run { to, length, packets, bytes: &self.bytes[self.gone..self.gone + end] })
    }

    /// So many packets at the front are gone.
    pub(super) fn sent(&mut self, packets: usize) {
        self.gone += self.packets.drain(..packets).map(|(_, length)| length).sum::<usize>();
        // No byte is moved for which not another is gone.
        if self.gone >= self.bytes.len() / 2 {
            self.bytes.drain(..self.gone);
            self.gone = 0;
        }
    }
}

/// Packets that have come: each call of the system fills some places, each with packets of one peer.
pub(super) struct Arrivals {
    places: Vec<u8>,
    filled: [RecvMeta; BATCH_SIZE],
    /// How many places are filled, which is looked at, and how much of it was.
    many: usize,
    place: usize,
    seen: usize,
}

impl Default for Arrivals {
    fn default() -> Arrivals {
        let places = vec![0; PLACE * BATCH_SIZE];
        Arrivals { places, filled: [RecvMeta::default(); BATCH_SIZE], many: 0, place: 0, seen: 0 }
    }
}

impl Arrivals {
    /// The next packet, if there is one that was not looked at.
    pub(super) fn next(&mut self) -> Option<(SocketAddr, &[u8])> {
        while self.place < self.many {
            let RecvMeta { addr, len, stride, .. } = self.filled[self.place];
            let begin = self.seen;
            if begin < len {
                self.seen = len.min(begin + stride.max(1));
                let place = self.place * PLACE;
                return Some((addr, &self.places[place + begin..place + self.seen]));
            }
            (self.place, self.seen) = (self.place + 1, 0);
        }
        None
    }

    /// Has all places filled anew: `fill` says how many were.
    pub(super) fn fill<E>(
        &mut self,
        fill: impl FnOnce(&mut [IoSliceMut<'_>], &mut [RecvMeta]) -> Result<usize, E>,
    ) -> Result<(), E> {
        let mut places = self.places.chunks_exact_mut(PLACE);
        let mut slices: [IoSliceMut<'_>; BATCH_SIZE] =
            std::array::from_fn(|_| IoSliceMut::new(places.next().unwrap_or_default()));
        self.many = fill(&mut slices, &mut self.filled)?;
        (self.place, self.seen) = (0, 0);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(port: u16) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 1], port))
    }

    #[test]
    fn packets_of_one_length_to_one_peer_go_at_once() {
        let mut waiting = Departures::default();
        for (to, packet) in [(1, "abcd"), (1, "efgh"), (1, "ij"), (1, "klmn"), (2, "opqr"), (2, "stuvw")] {
            waiting.push(peer(to), |bytes| bytes.extend_from_slice(packet.as_bytes()));
        }
        let mut runs = Vec::new();
        while let Some(Run { to, packets, length, bytes }) = waiting.run(64) {
            runs.push((to.port(), packets, length, String::from_utf8(bytes.to_vec()).unwrap()));
            waiting.sent(packets);
        }
        let expected = [(1, 3, 4, "abcdefghij"), (1, 1, 4, "klmn"), (2, 1, 4, "opqr"), (2, 1, 5, "stuvw")];
        assert_eq!(
            runs,
            expected.map(|(to, packets, length, bytes)| (to, packets, length, bytes.to_owned()))
        );
        assert!(waiting.bytes.is_empty());
    }

    #[test]
    fn a_run_is_no_longer_than_the_system_takes() {
        let mut waiting = Departures::default();
        (0..100).for_each(|_| waiting.push(peer(1), |bytes| bytes.resize(bytes.len() + 1200, 7)));
        assert_eq!(waiting.run(1).map(|run| run.packets), Some(1));
        assert_eq!(waiting.run(10).map(|run| run.packets), Some(10));
        assert_eq!(waiting.run(100).map(|run| run.packets), Some(RUN / 1200));
    }

    #[test]
    fn what_waits_is_bounded() {
        let mut waiting = Departures::default();
        (0..10_000).for_each(|_| waiting.push(peer(1), |bytes| bytes.resize(bytes.len() + 1000, 7)));
        assert!(waiting.bytes.len() <= WAITING + 1000);
        while let Some(Run { packets, .. }) = waiting.run(64) {
            waiting.sent(packets);
        }
        waiting.push(peer(2), |bytes| bytes.push(1));
        assert_eq!(waiting.run(64).map(|run| run.to), Some(peer(2)), "there is room again");
    }

    #[test]
    fn what_is_gone_makes_room_though_something_always_waits() {
        let mut waiting = Departures::default();
        for n in 0..1000_u16 {
            waiting.push(peer(n), |bytes| bytes.extend_from_slice(&n.to_be_bytes()));
            if n >= 5 {
                let run = waiting.run(1).unwrap();
                assert_eq!((run.to, run.bytes), (peer(n - 5), &(n - 5).to_be_bytes()[..]));
                waiting.sent(1);
            }
            assert!(waiting.bytes.len() <= 2 * 2 * 6, "{} bytes after {n}", waiting.bytes.len());
        }
    }

    #[test]
    fn what_came_at_once_is_taken_apart() {
        let mut arrivals = Arrivals::default();
        let put = |slices: &mut [IoSliceMut<'_>], metas: &mut [RecvMeta]| {
            slices[0][..10].copy_from_slice(b"abcdefghij");
            metas[0] = RecvMeta { addr: peer(1), len: 10, stride: 4, ..RecvMeta::default() };
            Ok::<_, ()>(1)
        };
        arrivals.fill(put).unwrap();
        let mut came = Vec::new();
        while let Some((from, packet)) = arrivals.next() {
            assert_eq!(from, peer(1));
            came.push(packet.to_vec());
        }
        assert_eq!(came, [&b"abcd"[..], b"efgh", b"ij"]);
    }
}
