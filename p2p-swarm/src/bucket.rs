//! How much of something may be done in a time.

use std::time::Duration;

use p2p_core::Time;

/// A token bucket: it fills at a rate, up to a bound, and whatever is done takes from it. What takes more than there is
/// may be done while there is anything, and then there is less than nothing: so on the average the rate is kept exactly.
#[derive(Clone, Debug)]
pub(crate) struct Bucket {
    /// Tokens in a second.
    rate: f64,
    most: f64,
    left: f64,
    at: Time,
}

impl Bucket {
    /// A full one.
    pub(crate) fn new(rate: f64, most: f64, now: Time) -> Bucket {
        Bucket { rate, most, left: most, at: now }
    }

    fn fill(&mut self, now: Time) {
        self.left = (self.left + (now - self.at).as_secs_f64() * self.rate).min(self.most);
        self.at = self.at.max(now);
    }

    /// Takes so many, if there is anything.
    pub(crate) fn take(&mut self, tokens: f64, now: Time) -> bool {
        let any = self.wait(now).is_zero();
        if any {
            self.spend(tokens);
        }
        any
    }

    /// How long until there is anything: no time if there is, for ever if it does not fill.
    pub(crate) fn wait(&mut self, now: Time) -> Duration {
        self.fill(now);
        match self.left > 0.0 {
            true => Duration::ZERO,
            // A timer does not know less than a nanosecond: a millisecond more, and there is something for certain.
            false => Duration::try_from_secs_f64(-self.left / self.rate)
                .map_or(Duration::MAX, |wait| wait.saturating_add(Duration::from_millis(1))),
        }
    }

    /// Whether there is as much as there ever is.
    pub(crate) fn is_full(&mut self, now: Time) -> bool {
        self.fill(now);
        self.left >= self.most
    }

    /// Takes so many, whether they are there or not.
    pub(crate) fn spend(&mut self, tokens: f64) {
        self.left -= tokens;
    }

    /// As [`Bucket::spend`], but for these alone nobody waits until there are more than so many below nothing again.
    pub(crate) fn spend_at_most(&mut self, tokens: f64, below: f64) {
        self.left = (self.left - tokens).max(self.left.min(-below));
    }

    /// From now on it fills at another rate, up to another bound. What is there stays, as far as it may; what is lacking
    /// is made up for in no more time than before.
    pub(crate) fn set_rate(&mut self, rate: f64, most: f64, now: Time) {
        self.fill(now);
        if self.left < 0.0 {
            self.left *= (rate / self.rate).min(1.0);
        }
        (self.rate, self.most, self.left) = (rate, most, self.left.min(most));
    }

    /// So many that were taken were not used.
    pub(crate) fn give_back(&mut self, tokens: f64) {
        self.left = (self.left + tokens).min(self.most);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn on_the_average_the_rate_is_kept() {
        let mut bucket = Bucket::new(10.0, 5.0, Time::ZERO);
        let mut taken = 0;
        for ms in 0..100_000 {
            if bucket.take(7.0, Time::ZERO + Duration::from_millis(ms)) {
                taken += 7;
            }
        }
        assert!((1000..=1012).contains(&taken), "{taken} in 100 s");
    }

    #[test]
    fn no_more_is_saved_than_the_bound() {
        let mut bucket = Bucket::new(10.0, 5.0, Time::ZERO);
        let later = Time::ZERO + Duration::from_secs(1000);
        assert_eq!((0..100).filter(|_| bucket.take(1.0, later)).count(), 5);
        bucket.give_back(100.0);
        assert_eq!((0..100).filter(|_| bucket.take(1.0, later)).count(), 5);
    }

    #[test]
    fn what_is_spent_to_a_bound_costs_no_more_and_leaves_what_was_spent_before() {
        let mut bucket = Bucket::new(10.0, 5.0, Time::ZERO);
        bucket.spend_at_most(3.0, 20.0);
        assert_eq!(bucket.left, 2.0);
        bucket.spend_at_most(1e9, 20.0);
        assert_eq!(bucket.left, -20.0);
        bucket.spend(10.0);
        bucket.spend_at_most(1e9, 20.0);
        assert_eq!(bucket.left, -30.0);
    }

    #[test]
    fn another_rate_holds_at_once_and_what_is_lacking_takes_no_longer() {
        let second = |at| Time::ZERO + Duration::from_secs(at);
        for (rate, lacking, wait) in [(100.0, -20.0, 0.2), (10.0, -20.0, 2.0), (1.0, -2.0, 2.0)] {
            let mut bucket = Bucket::new(10.0, 5.0, second(0));
            bucket.spend(25.0);
            bucket.set_rate(rate, rate / 2.0, second(0));
            assert_eq!(bucket.left, lacking, "{rate}");
            assert_eq!(bucket.wait(second(0)), Duration::from_secs_f64(wait) + Duration::from_millis(1));
            // A minute later it is full.
            assert!(bucket.wait(second(60)).is_zero() && bucket.left == rate / 2.0, "{rate}");
        }
        // What fills for the first time has nothing yet.
        let mut bucket = Bucket::new(0.0, 0.0, second(0));
        bucket.set_rate(10.0, 5.0, second(9));
        assert!(!bucket.take(1.0, second(9)) && bucket.take(1.0, second(10)));
        bucket.set_rate(0.0, 0.0, second(10));
        assert_eq!(bucket.wait(second(99)), Duration::MAX);
    }

    #[test]
    fn whoever_waits_as_long_as_it_says_finds_something() {
        let mut bucket = Bucket::new(3.0, 1.0, Time::ZERO);
        let mut now = Time::ZERO;
        for _ in 0..100 {
            assert!(bucket.take(7.0, now));
            let wait = bucket.wait(now);
            assert!(!wait.is_zero() && wait < Duration::from_secs(3));
            now += wait;
        }
        let mut never = Bucket::new(0.0, 0.0, Time::ZERO);
        assert_eq!(never.wait(now), Duration::MAX);
    }
}
