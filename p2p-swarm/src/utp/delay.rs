//! How long packets have queued on their way, from clocks that do not agree (RFC 6817 §2.4.2 and §3.4).
//!
//! What the other end measures of a packet is when it came, by its clock, less when it was sent, by ours: the way's own
//! delay, the queues', and the clocks' offset. The least of minutes is the *base*: what is above it has queued. Clocks do
//! not run at one speed either, so the base is forgotten after some minutes; and where the other direction's base falls,
//! ours rises by as much.

use std::time::Duration;

use p2p_core::Time;

/// Minutes that the base looks back on: RFC 6817 names 10, libutp has 13. 13.
const MINUTES: usize = 13;
const MINUTE: Duration = Duration::from_secs(60);
/// The least of so many samples is how long the queues are now. 3, as in libutp.
const RECENT: usize = 3;

/// Samples of one direction, in microseconds; they wrap.
#[derive(Debug)]
pub(super) struct Delays {
    /// The least of each minute, the last one's at `minute`.
    least: [u32; MINUTES],
    minute: usize,
    since: Time,
    base: u32,
    recent: [u32; RECENT],
    next: usize,
}

/// Which of two is the earlier, where both wrap.
fn earlier(a: u32, b: u32) -> u32 {
    if (a.wrapping_sub(b) as i32) < 0 { a } else { b }
}

impl Delays {
    /// With the first sample.
    pub(super) fn new(sample: u32, now: Time) -> Delays {
        Delays {
            least: [sample; MINUTES],
            minute: 0,
            since: now,
            base: sample,
            recent: [u32::MAX; RECENT],
            next: 0,
        }
    }

    pub(super) fn add(&mut self, sample: u32, now: Time) {
        let minutes = (now - self.since).as_secs() / MINUTE.as_secs();
        for _ in 0..minutes.min(MINUTES as u64) {
            self.minute = (self.minute + 1) % MINUTES;
            self.least[self.minute] = sample;
        }
        if minutes > 0 {
            self.since += MINUTE * u32::try_from(minutes).unwrap_or(u32::MAX);
        }
        self.least[self.minute] = earlier(sample, self.least[self.minute]);
        self.base = self.least.into_iter().fold(sample, earlier);
        self.recent[self.next] = sample.wrapping_sub(self.base);
        self.next = (self.next + 1) % RECENT;
    }

    /// How long packets queue now.
    pub(super) fn queueing(&self) -> Duration {
        Duration::from_micros(self.recent.into_iter().min().unwrap_or_default().into())
    }

    /// How far the base has fallen since it was this.
    pub(super) fn fallen_since(&self, base: u32) -> Option<u32> {
        let fall = base.wrapping_sub(self.base);
        (fall > 0 && fall < 1 << 31).then_some(fall)
    }

    pub(super) fn base(&self) -> u32 {
        self.base
    }

    /// The base is later than was thought.
    pub(super) fn raise(&mut self, by: u32) {
        self.least.iter_mut().for_each(|least| *least = least.wrapping_add(by));
        self.base = self.base.wrapping_add(by);
        self.recent.iter_mut().for_each(|recent| *recent = recent.saturating_sub(by));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Time {
        Time::ZERO + Duration::from_secs(seconds)
    }

    fn micros(queueing: u64) -> Duration {
        Duration::from_micros(queueing)
    }

    #[test]
    fn what_is_above_the_least_has_queued() {
        let mut delays = Delays::new(5000, at(0));
        delays.add(5000, at(0));
        [9000, 8000, 7000].into_iter().for_each(|sample| delays.add(sample, at(1)));
        assert_eq!(delays.queueing(), micros(2000), "the least of the last three");
        delays.add(4000, at(2));
        delays.add(9000, at(2));
        delays.add(8000, at(2));
        delays.add(9000, at(2));
        assert_eq!((delays.base(), delays.queueing()), (4000, micros(4000)));
    }

    #[test]
    fn samples_may_wrap() {
        let mut delays = Delays::new(u32::MAX - 99, at(0));
        [900, 900, 900].into_iter().for_each(|sample| delays.add(sample, at(1)));
        assert_eq!(delays.queueing(), micros(1000));
        let mut delays = Delays::new(100, at(0));
        delays.add(u32::MAX - 99, at(1));
        assert_eq!(delays.base(), u32::MAX - 99, "and be the earlier for that");
    }

    #[test]
    fn the_base_is_forgotten_after_some_minutes() {
        let mut delays = Delays::new(1000, at(0));
        for second in 0..MINUTES as u64 * 60 {
            delays.add(3000, at(second));
            assert_eq!(delays.base(), 1000, "second {second}");
        }
        delays.add(3000, at(MINUTES as u64 * 60));
        assert_eq!(delays.base(), 3000);
        // However long nothing came.
        delays.add(1000, at(MINUTES as u64 * 60 + 1));
        delays.add(7000, at(1_000_000));
        assert_eq!((delays.base(), delays.queueing()), (7000, micros(0)));
    }

    #[test]
    fn a_base_that_is_raised_leaves_less_queueing() {
        let mut delays = Delays::new(1000, at(0));
        [5000, 5000, 5000].into_iter().for_each(|sample| delays.add(sample, at(1)));
        delays.raise(1500);
        assert_eq!((delays.base(), delays.queueing()), (2500, micros(2500)));
        assert_eq!((delays.fallen_since(3000), delays.fallen_since(2500)), (Some(500), None));
        assert_eq!(delays.fallen_since(2000), None, "it rose");
    }
}
