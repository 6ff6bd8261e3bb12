//! Counting what happened, and distributions with percentiles.

use std::collections::BTreeMap;
use std::fmt;

/// What a simulation did so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Messages handed to a machine.
    pub delivered: u64,
    /// Timers that fired and were still wanted.
    pub timers: u64,
    /// Messages that machines sent.
    pub sent: u64,
    /// Bytes of the messages sent; zero with [`Encoding::Ignore`](super::Encoding::Ignore).
    pub bytes: u64,
    /// Messages lost at random.
    pub lost: u64,
    /// Messages that a partition stopped.
    pub cut: u64,
    /// Messages to nodes that were dead when they came.
    pub undeliverable: u64,
    /// Messages that a full line did not take.
    pub overflowed: u64,
    /// What machines said unasked.
    pub said: u64,
    /// Jobs that workers did.
    pub jobs: u64,
    /// Jobs that failed, or found the queue full.
    pub jobs_failed: u64,
}

impl Stats {
    /// Events: delivered messages and timers that were still wanted.
    pub fn events(&self) -> u64 {
        self.delivered + self.timers
    }
}

/// A distribution of whole numbers, kept exactly.
///
/// ```
/// let hops: p2p_core::sim::Histogram = [3, 1, 2, 2].into_iter().collect();
/// assert_eq!((hops.mean(), hops.percentile(50.0), hops.max()), (2.0, 2, 3));
/// assert_eq!(hops.share(2), 0.5);
/// ```
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Histogram {
    counts: BTreeMap<u64, u64>,
    total: u64,
}

impl Histogram {
    /// Counts a value.
    pub fn add(&mut self, value: u64) {
        *self.counts.entry(value).or_default() += 1;
        self.total += 1;
    }

    /// How many values were counted.
    pub fn len(&self) -> u64 {
        self.total
    }

    /// Whether none was.
    pub fn is_empty(&self) -> bool {
        self.total == 0
    }

    /// The mean; 0 of nothing.
    pub fn mean(&self) -> f64 {
        let sum: u128 = self.counts.iter().map(|(&value, &n)| u128::from(value) * u128::from(n)).sum();
        sum as f64 / self.total.max(1) as f64
    }

    /// The smallest value that at least `p` percent of all values do not exceed (nearest rank); 0 of nothing.
    pub fn percentile(&self, p: f64) -> u64 {
        let rank = (libm::ceil(p / 100.0 * self.total as f64) as u64).max(1);
        let mut seen = 0;
        let found = self.counts.iter().find(|&(_, &n)| {
            seen += n;
            seen >= rank
        });
        found.map_or(self.max(), |(&value, _)| value)
    }

    /// The largest value; 0 of nothing.
    pub fn max(&self) -> u64 {
        self.counts.keys().next_back().copied().unwrap_or(0)
    }

    /// The share of the values that are exactly this.
    pub fn share(&self, value: u64) -> f64 {
        self.counts.get(&value).copied().unwrap_or(0) as f64 / self.total.max(1) as f64
    }

    /// The value counted most often, the smallest of several; 0 of nothing.
    pub fn mode(&self) -> u64 {
        let most = self.counts.iter().max_by_key(|&(&value, &n)| (n, std::cmp::Reverse(value)));
        most.map_or(0, |(&value, _)| value)
    }

    /// Each value and how often it was counted, in order.
    pub fn iter(&self) -> impl Iterator<Item = (u64, u64)> {
        self.counts.iter().map(|(&value, &n)| (value, n))
    }
}

impl FromIterator<u64> for Histogram {
    fn from_iter<I: IntoIterator<Item = u64>>(values: I) -> Histogram {
        let mut histogram = Histogram::default();
        values.into_iter().for_each(|value| histogram.add(value));
        histogram
    }
}

impl fmt::Debug for Histogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (p50, p99) = (self.percentile(50.0), self.percentile(99.0));
        write!(f, "n {} mean {:.3} p50 {p50} p99 {p99} max {}", self.total, self.mean(), self.max())
    }
}
