//! A token bucket: how often somebody may do something.

use std::time::Duration;

use p2p_core::Time;

/// Lets so many through at once, and one more for every interval; as the generic cell rate algorithm keeps it, in one
/// number (ITU-T I.371).
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Bucket {
    /// When it is full again.
    full: Time,
}

impl Bucket {
    /// Takes a token, if there is one.
    pub(crate) fn take(&mut self, now: Time, rate: Rate) -> bool {
        self.take_many(now, rate, 1)
    }

    /// Takes so many tokens at once, if they are there.
    pub(crate) fn take_many(&mut self, now: Time, rate: Rate, tokens: u32) -> bool {
        let full = self.full.max(now) + rate.every.saturating_mul(tokens);
        let passes = full.since(now) <= rate.every * rate.burst.max(1);
        if passes {
            self.full = full;
        }
        passes
    }
}

/// How fast a bucket fills.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// How long one more takes.
    pub every: Duration,
    /// How many may come at once after a pause. At least 1.
    pub burst: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_then_one_for_every_interval() {
        let rate = Rate { every: Duration::from_millis(100), burst: 5 };
        let mut bucket = Bucket::default();
        let mut passed =
            |at: u64| (0..20).filter(|_| bucket.take(Time::from_nanos(at * 1_000_000), rate)).count();
        assert_eq!([passed(0), passed(99), passed(100), passed(350), passed(10_000)], [5, 0, 1, 2, 5]);
    }
}
