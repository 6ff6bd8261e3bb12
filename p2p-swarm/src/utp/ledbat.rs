//! How much may be on its way at a time: LEDBAT (RFC 6817), so that packets queue for 100 ms and no more.
//!
//! - Below that the window grows, by a packet in a round trip where nothing queues and by less the nearer the target is
//!   (§2.4.2).
//! - Above it RFC 6817 takes back no faster than it gave, which takes minutes where windows are large. Here the window
//!   falls by as large a share as the delay is above the target, at most by half, in a round trip: that is LEDBAT++
//!   (draft-irtf-iccrg-ledbat-plus-plus §4.2).
//! - Lost packets halve it, once in a round trip; if nothing comes back at all it is one packet (§2.4.1).
//! - It begins with two packets, and doubles in each round trip until there is a delay near the target, or a loss, as
//!   libutp does; then it is what it was a round trip ago.

use std::time::Duration;

use p2p_core::Time;

use super::delay::Delays;

/// How long packets are to queue. 100 ms: the most that RFC 6817 allows (§2.5), and BEP 29's.
pub(super) const TARGET: Duration = Duration::from_millis(100);
/// Packets that a window grows by in a round trip, at most. 1 (RFC 6817 §2.5).
const GAIN: f64 = 1.0;
/// Packets of the least window but for that after silence, and of the first. 2 (RFC 6817 §2.5).
const MIN_PACKETS: f64 = 2.0;
/// Doubling ends when packets queue for this share of the target. 0.9, as in libutp.
const NEAR: f64 = 0.9;
/// By no more than this may a falling base of theirs raise ours: 10 ms, as in libutp. More is no clock's drift.
const MAX_DRIFT: u32 = 10_000;

/// The window of one direction of a connection.
#[derive(Debug)]
pub(super) struct Ledbat {
    /// Bytes in a packet.
    packet: f64,
    most: f64,
    window: f64,
    /// Up to this it doubles.
    threshold: f64,
    doubling: bool,
    /// How long our packets take.
    ours: Option<Delays>,
    /// How long theirs do.
    theirs: Option<Delays>,
}

impl Ledbat {
    pub(super) fn new(packet: usize, most: usize) -> Ledbat {
        let (packet, most) = (packet as f64, most as f64);
        let window = (MIN_PACKETS * packet).min(most);
        Ledbat { packet, most, window, threshold: most, doubling: true, ours: None, theirs: None }
    }

    /// Bytes that may be on their way.
    pub(super) fn window(&self) -> usize {
        self.window as usize
    }

    /// How long our packets queue.
    pub(super) fn queueing(&self) -> Duration {
        self.ours.as_ref().map_or(Duration::ZERO, Delays::queueing)
    }

    /// One of theirs took so long, by clocks that do not agree.
    pub(super) fn theirs_took(&mut self, difference: u32, now: Time) {
        let theirs = self.theirs.get_or_insert_with(|| Delays::new(difference, now));
        let base = theirs.base();
        theirs.add(difference, now);
        // A way that becomes shorter and shorter is a clock that runs slow; then the other direction becomes longer.
        let fallen = theirs.fallen_since(base).filter(|fallen| *fallen <= MAX_DRIFT);
        if let (Some(fallen), Some(ours)) = (fallen, &mut self.ours) {
            ours.raise(fallen);
        }
    }

    /// The other end says that one of ours took so long. A packet that this acknowledges was gone for `round_trip`, of
    /// which queueing is a part.
    pub(super) fn ours_took(&mut self, difference: u32, round_trip: Option<Duration>, now: Time) {
        let ours = self.ours.get_or_insert_with(|| Delays::new(difference, now));
        ours.add(difference, now);
        if let Some(excess) = round_trip.and_then(|most| ours.queueing().checked_sub(most)) {
            ours.raise(u32::try_from(excess.as_micros()).unwrap_or_default());
        }
    }

    /// So many bytes have arrived. `limited` says whether the window was full: what is not used does not grow.
    pub(super) fn acked(&mut self, bytes: usize, limited: bool) {
        let share = (bytes as f64 / self.window).min(1.0);
        let delay = self.queueing().as_secs_f64() / TARGET.as_secs_f64();
        if self.doubling && delay > NEAR {
            self.doubling = false;
            // What has queued so long was sent with half of this.
            self.window /= 2.0;
            self.threshold = self.window;
        } else if delay > 1.0 {
            self.window -= (bytes as f64).min(self.window) * (delay - 1.0).min(0.5);
        } else if limited && self.doubling {
            self.window += bytes as f64;
            self.doubling = self.window < self.threshold;
        } else if limited {
            self.window += GAIN * (1.0 - delay) * self.packet * share;
        }
        self.window = self.window.max(MIN_PACKETS * self.packet).min(self.most);
    }

    /// A packet was lost, the first in this round trip.
    pub(super) fn lost(&mut self) {
        self.doubling = false;
        self.window = (self.window / 2.0).max(MIN_PACKETS * self.packet).min(self.most);
        self.threshold = self.window;
    }

    /// Nothing has come back for too long.
    pub(super) fn timed_out(&mut self) {
        self.threshold = (self.window / 2.0).max(MIN_PACKETS * self.packet);
        self.window = self.packet;
        self.doubling = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACKET: usize = 1000;

    /// A round trip in which every packet of a full window has queued for so many milliseconds.
    fn round_trip(ledbat: &mut Ledbat, queueing: u32, now: &mut Time) {
        *now += Duration::from_millis(100);
        let window = ledbat.window();
        for _ in 0..window / PACKET {
            ledbat.ours_took(7_000_000 + 1000 * queueing, None, *now);
            ledbat.acked(PACKET, true);
        }
    }

    fn started() -> (Ledbat, Time) {
        let mut ledbat = Ledbat::new(PACKET, 1 << 20);
        ledbat.ours_took(7_000_000, None, Time::ZERO);
        (ledbat, Time::ZERO)
    }

    #[test]
    fn the_window_doubles_until_packets_queue() {
        let (mut ledbat, mut now) = started();
        let mut windows = vec![ledbat.window()];
        for _ in 0..4 {
            round_trip(&mut ledbat, 10, &mut now);
            windows.push(ledbat.window());
        }
        assert_eq!(windows, [2000, 4000, 8000, 16_000, 32_000]);
        round_trip(&mut ledbat, 95, &mut now);
        let after = ledbat.window();
        assert!((16_000..17_200).contains(&after), "what it was when that was sent: {after}");
        round_trip(&mut ledbat, 0, &mut now);
        assert!((900..=1000).contains(&(ledbat.window() - after)), "and then by a packet at a time");
    }

    #[test]
    fn it_grows_by_less_the_nearer_the_target_is() {
        let (mut ledbat, mut now) = started();
        ledbat.lost();
        (0..50).for_each(|_| round_trip(&mut ledbat, 0, &mut now));
        let mut last = ledbat.window();
        for (queueing, expected) in [(50, 500), (90, 100), (100, 0)] {
            round_trip(&mut ledbat, queueing, &mut now);
            round_trip(&mut ledbat, queueing, &mut now);
            let grown = ledbat.window() - last;
            last = ledbat.window();
            // The first samples of a round trip still count what was before.
            assert!(grown.abs_diff(2 * expected) < 60, "{grown} in two at {queueing} ms");
        }
    }

    #[test]
    fn it_falls_by_as_much_as_the_delay_is_too_long() {
        for (queueing, expected) in [(110, 0.9), (130, 0.7), (400, 0.5)] {
            let (mut ledbat, mut now) = started();
            ledbat.lost();
            (0..60).for_each(|_| round_trip(&mut ledbat, 0, &mut now));
            let before = ledbat.window() as f64;
            round_trip(&mut ledbat, queueing, &mut now);
            let left = ledbat.window() as f64 / before;
            assert!((left - expected).abs() < 0.06, "{left} are left at {queueing} ms");
        }
    }

    #[test]
    fn what_is_not_used_does_not_grow() {
        let (mut ledbat, _) = started();
        ledbat.acked(PACKET, false);
        ledbat.lost();
        ledbat.acked(PACKET, false);
        assert_eq!(ledbat.window(), 2 * PACKET);
    }

    #[test]
    fn loss_halves_it_and_silence_leaves_one_packet() {
        let (mut ledbat, mut now) = started();
        (0..5).for_each(|_| round_trip(&mut ledbat, 0, &mut now));
        assert_eq!(ledbat.window(), 64_000);
        ledbat.lost();
        assert_eq!(ledbat.window(), 32_000);
        ledbat.timed_out();
        assert_eq!(ledbat.window(), PACKET);
        (0..4).for_each(|_| round_trip(&mut ledbat, 0, &mut now));
        assert!((16_000..18_000).contains(&ledbat.window()), "{}: it doubles to half", ledbat.window());
        (0..20).for_each(|_| ledbat.lost());
        assert_eq!(ledbat.window(), 2 * PACKET);
    }

    #[test]
    fn the_window_has_a_bound() {
        let (mut ledbat, mut now) = started();
        (0..20).for_each(|_| round_trip(&mut ledbat, 0, &mut now));
        assert_eq!(ledbat.window(), 1 << 20);
    }

    /// A clock that gains 10 ms in five minutes on the other (libutp has met that): what is measured one way rises, what
    /// is measured the other way falls.
    #[test]
    fn a_clock_that_runs_away_is_no_queue() {
        let (mut with, mut without) = (started().0, started().0);
        let mut now = Time::ZERO;
        for second in 0..600_u32 {
            now += Duration::from_secs(1);
            let drift = second * 10_000 / 300;
            for ledbat in [&mut with, &mut without] {
                ledbat.ours_took(7_000_000 + drift, None, now);
            }
            with.theirs_took(9_000_000 - drift, now);
        }
        assert!(with.queueing() < Duration::from_micros(100), "{:?}", with.queueing());
        assert!(without.queueing() > Duration::from_millis(19), "{:?}", without.queueing());
    }

    #[test]
    fn a_packet_queues_no_longer_than_it_was_gone() {
        let (mut ledbat, now) = started();
        (0..3).for_each(|_| ledbat.ours_took(7_900_000, Some(Duration::from_millis(60)), now));
        assert!(ledbat.queueing() <= Duration::from_millis(60), "{:?}", ledbat.queueing());
    }
}
