//! How long to wait for an acknowledgement (BEP 29, "timeouts").

use std::time::Duration;

/// Before anything is known. 1 s.
const FIRST: Duration = Duration::from_secs(1);
/// The least. 500 ms.
const LEAST: Duration = Duration::from_millis(500);
/// The most. 60 s (RFC 6298 §2.5).
const MOST: Duration = Duration::from_secs(60);

/// Round-trip times, smoothed.
#[derive(Debug, Default)]
pub(super) struct RoundTrips {
    /// Their mean and how far they are from it.
    known: Option<(Duration, Duration)>,
    /// Timeouts since something was acknowledged.
    silent: u32,
}

impl RoundTrips {
    /// A packet that was sent once was acknowledged after so long.
    pub(super) fn add(&mut self, took: Duration) {
        self.known = Some(match self.known {
            None => (took, took / 2),
            Some((mean, off)) => ((mean * 7 + took) / 8, (off * 3 + mean.abs_diff(took)) / 4),
        });
    }

    /// Something was acknowledged.
    pub(super) fn heard(&mut self) {
        self.silent = 0;
    }

    /// Nothing was, for as long as [`RoundTrips::timeout`]: the next time it is twice as long. Says how often that was.
    pub(super) fn timed_out(&mut self) -> u32 {
        self.silent += 1;
        self.silent
    }

    /// How long to wait.
    pub(super) fn timeout(&self) -> Duration {
        let timeout = self.known.map_or(FIRST, |(mean, off)| (mean + off * 4).max(LEAST));
        (timeout * (1 << self.silent.min(10))).min(MOST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn it_follows_the_formula() {
        let mut times = RoundTrips::default();
        assert_eq!(times.timeout(), ms(1000));
        times.add(ms(400));
        assert_eq!(times.timeout(), ms(400 + 4 * 200));
        times.add(ms(800));
        // rtt += (800 - 400) / 8; rtt_var += (400 - 200) / 4.
        assert_eq!(times.timeout(), ms(450 + 4 * 250));
        (0..50).for_each(|_| times.add(ms(20)));
        assert_eq!(times.timeout(), ms(500), "the least there is");
    }

    #[test]
    fn silence_doubles_it_until_something_is_heard() {
        let mut times = RoundTrips::default();
        assert_eq!((times.timed_out(), times.timeout()), (1, ms(2000)));
        assert_eq!((times.timed_out(), times.timeout()), (2, ms(4000)));
        (0..30).for_each(|_| _ = times.timed_out());
        assert_eq!(times.timeout(), MOST);
        times.heard();
        assert_eq!(times.timeout(), FIRST);
    }
}
