//! What was measured of a crowd, and the figures that papers give of it.

use std::time::Duration;

use p2p_core::sim::Stats;

/// What came of a [`Crowd`](super::Crowd).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CrowdReport {
    /// Those that had nothing: the contributors, and then the free riders.
    pub leechers: Vec<Leecher>,
    /// How often the pieces were there, once a second.
    pub rarity: Vec<Rarity>,
    /// When each piece had left the seeds, since the crowd came, if that was ever so. From then on the swarm is in what Legout
    /// et al. call its steady state (2006, §IV.A): no piece is rare, that is at the seeds alone.
    pub spread: Option<Duration>,
    /// In the steady state, of each leecher and each other that it was connected to for ten seconds at the least while both were
    /// leechers: the share of that time in which it wanted something of the other. Sorted.
    ///
    /// This is the ratio a/b by which Legout et al. characterise the entropy of a swarm (2006, §IV.A.1): where pieces are
    /// spread ideally everybody always has something for everybody, and each is 1.
    pub interest: Vec<f64>,
    /// What the simulator did.
    pub stats: Stats,
    /// Stands for all that happened.
    pub trace: u64,
}

/// A peer that had nothing in the beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Leecher {
    /// Bytes a second that its line sends; 0 for a free rider, whose line is not used.
    pub uplink: u64,
    /// Whether it has everything.
    pub done: bool,
    /// How long it took; if it is not done, until the end.
    pub took: Duration,
    /// How much of that was left when it had 99 of 100 pieces, if it is done; to a tenth of a second.
    pub tail: Option<Duration>,
    /// Bytes that it had sent by then.
    pub gave: u64,
    /// Bytes that had come from the seeds.
    pub from_seeds: u64,
    /// Bytes that had come from all others.
    pub from_others: u64,
}

/// How often the pieces are there among those that have come and not gone; the seeds do not count.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rarity {
    /// Since the crowd came.
    pub at: Duration,
    /// How many peers there are, the seeds apart.
    pub peers: u32,
    /// How many pieces are at the seeds alone.
    pub rare: u32,
    /// Bytes that the seeds have sent.
    pub seeded: u64,
    /// Copies of the rarest piece.
    pub least: u32,
    /// Copies of a piece on average.
    pub mean: f64,
    /// Copies of the most frequent.
    pub most: u32,
}

impl Leecher {
    fn per_second(&self, bytes: u64) -> f64 {
        bytes as f64 / self.took.as_secs_f64().max(1e-9)
    }

    /// Bytes a second that it gave.
    pub fn up(&self) -> f64 {
        self.per_second(self.gave)
    }

    /// Bytes a second that came to it.
    pub fn down(&self) -> f64 {
        self.per_second(self.from_seeds + self.from_others)
    }

    /// Bytes a second that came to it, what the seeds gave apart.
    pub fn traded(&self) -> f64 {
        self.per_second(self.from_others)
    }

    /// The share of its time that the last hundredth of the pieces took.
    pub fn tail_share(&self) -> Option<f64> {
        Some(self.tail?.as_secs_f64() / self.took.as_secs_f64().max(1e-9))
    }
}

impl CrowdReport {
    /// Those whose lines send as much as that; the free riders, if it is nothing.
    pub fn of_uplink(&self, uplink: u64) -> impl Iterator<Item = &Leecher> {
        self.leechers.iter().filter(move |leecher| leecher.uplink == uplink)
    }

    /// The mean of [`CrowdReport::interest`].
    pub fn entropy(&self) -> f64 {
        self.interest.iter().sum::<f64>() / self.interest.len().max(1) as f64
    }

    /// How many pieces were at the seeds alone again at one time, at the worst, in the steady state and while half of the leechers
    /// were there. None, if the rarest are asked for first.
    pub fn rare_again(&self) -> u32 {
        let half = self.leechers.len() as u32 / 2;
        let steady = |rarity: &&Rarity| self.spread.is_some_and(|at| rarity.at >= at) && rarity.peers >= half;
        self.rarity.iter().filter(steady).map(|rarity| rarity.rare).max().unwrap_or(0)
    }

    /// Bytes that the seeds had sent when each piece had left them, if that was ever so: little more than all pieces once, if
    /// nobody asks a seed for what others have.
    pub fn seeded(&self) -> Option<u64> {
        self.rarity.iter().find(|rarity| Some(rarity.at) == self.spread).map(|rarity| rarity.seeded)
    }

    /// How well what leechers get follows what they give: Spearman's coefficient between [`Leecher::up`] and
    /// [`Leecher::down`], 1 if whoever gives more always gets more, 0 if one has nothing to do with the other.
    pub fn reciprocity(&self) -> f64 {
        let of = |value: fn(&Leecher) -> f64| ranks(&self.leechers.iter().map(value).collect::<Vec<_>>());
        correlation(&of(Leecher::up), &of(Leecher::down))
    }
}

/// The place of each value among all; equal ones share theirs.
fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|a, b| values[*a].total_cmp(&values[*b]));
    let mut ranks = vec![0.0; values.len()];
    let mut first = 0;
    for equal in order.chunk_by(|a, b| values[*a] == values[*b]) {
        let rank = first as f64 + (equal.len() - 1) as f64 / 2.0;
        equal.iter().for_each(|at| ranks[*at] = rank);
        first += equal.len();
    }
    ranks
}

/// Pearson's coefficient; 0 where one of the two never changes.
fn correlation(xs: &[f64], ys: &[f64]) -> f64 {
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len().max(1) as f64;
    let (x, y) = (mean(xs), mean(ys));
    let product = |of: fn(f64, f64) -> f64| xs.iter().zip(ys).map(|(a, b)| of(a - x, b - y)).sum::<f64>();
    let spread = (product(|a, _| a * a) * product(|_, b| b * b)).sqrt();
    if spread > 0.0 { product(|a, b| a * b) / spread } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_values_share_their_rank() {
        assert_eq!(ranks(&[3.0, 1.0, 3.0, 2.0]), [2.5, 0.0, 2.5, 1.0]);
        assert_eq!(ranks(&[]), [0.0; 0]);
    }

    #[test]
    fn what_follows_is_told_from_what_does_not() {
        let report = |pairs: &[(u64, u64)]| {
            let leecher = |&(gave, from_others): &(u64, u64)| Leecher {
                took: Duration::from_secs(1),
                gave,
                from_others,
                ..Leecher::default()
            };
            CrowdReport { leechers: pairs.iter().map(leecher).collect(), ..CrowdReport::default() }
        };
        assert!((report(&[(1, 10), (2, 11), (9, 12)]).reciprocity() - 1.0).abs() < 1e-9);
        assert!((report(&[(1, 12), (2, 11), (9, 10)]).reciprocity() + 1.0).abs() < 1e-9);
        assert_eq!(report(&[(1, 7), (2, 7), (9, 7)]).reciprocity(), 0.0);
        // Of 4 values by hand: the squares of the differences of the ranks are 1, 1, 0 and 0: 1 - 6 * 2 / (4 * 15).
        assert!((report(&[(1, 2), (2, 1), (3, 3), (4, 4)]).reciprocity() - 0.8).abs() < 1e-9);
    }

    #[test]
    fn what_is_rare_before_all_has_left_the_seeds_and_when_most_are_gone_does_not_count() {
        let rarity = |at, peers, rare| Rarity {
            at: Duration::from_secs(at),
            peers,
            rare,
            seeded: at * 100,
            least: 0,
            mean: 10.0,
            most: 20,
        };
        let report = CrowdReport {
            leechers: vec![Leecher::default(); 20],
            rarity: vec![rarity(1, 20, 9), rarity(2, 20, 0), rarity(3, 11, 3), rarity(4, 9, 5)],
            spread: Some(Duration::from_secs(2)),
            ..CrowdReport::default()
        };
        assert_eq!((report.rare_again(), report.seeded()), (3, Some(200)));
    }
}
