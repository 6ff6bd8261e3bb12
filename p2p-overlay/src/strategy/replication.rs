//! How many copies of each item there should be.

/// How copies are shared out among items by how often they are asked for (Cohen and Shenker 2002, §3). A search by
/// random probes looks at n / r nodes until it meets one of r copies among n nodes, so the mean search size is Σ qᵢ·n /
/// rᵢ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replication {
    /// As many of each: what nobody asks for takes as much room as what all do.
    Uniform,
    /// By how often they are asked for: as many searches as there are copies find each. What many have asked for and
    /// kept is shared out so by itself.
    Proportional,
    /// By the square root of that: the least mean search size that there is (§4, theorem 2). Whoever keeps a copy at
    /// as many nodes as a search has looked at comes near it.
    SquareRoot,
}

impl Replication {
    /// How many copies each item gets, in the order of `rates`, which say how often each is asked for; `total`
    /// altogether, and one of each at least. What rounding leaves over goes to those that are short of most, the first
    /// first.
    ///
    /// ```
    /// use p2p_overlay::Replication;
    ///
    /// assert_eq!(Replication::SquareRoot.allocate(&[4.0, 1.0], 30), [20, 10]);
    /// assert_eq!(Replication::Proportional.allocate(&[4.0, 1.0], 30), [24, 6]);
    /// ```
    pub fn allocate(&self, rates: &[f64], total: u64) -> Vec<u64> {
        let weight = |rate: f64| match self {
            Replication::Uniform => 1.0,
            Replication::Proportional => rate.max(0.0),
            Replication::SquareRoot => libm::sqrt(rate.max(0.0)),
        };
        let sum: f64 = rates.iter().map(|rate| weight(*rate)).sum();
        let due = |rate: f64| if sum > 0.0 { weight(rate) / sum * total as f64 } else { 0.0 };
        let mut copies: Vec<u64> = rates.iter().map(|rate| (due(*rate) as u64).max(1)).collect();
        let mut short: Vec<usize> = (0..rates.len()).collect();
        short.sort_by(|a, b| {
            let lacks = |i: &usize| due(rates[*i]) - copies[*i] as f64;
            lacks(b).total_cmp(&lacks(a)).then(a.cmp(b))
        });
        let left = total.saturating_sub(copies.iter().sum());
        short.iter().cycle().take(left.min(rates.len() as u64) as usize).for_each(|i| copies[*i] += 1);
        copies
    }

    /// The mean search size in units of the number of nodes, for items asked for at these rates: Σ qᵢ / rᵢ.
    pub fn search_size(rates: &[f64], copies: &[u64]) -> f64 {
        let sum: f64 = rates.iter().sum();
        rates.iter().zip(copies).map(|(rate, copies)| rate / sum / *copies as f64).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Cohen and Shenker, §4: with Zipf's law of exponent 1 over 10^4 items the best is (Σ √qᵢ)² / m = 0.40 of uniform,
    /// and proportional is no better than uniform. So many copies that rounding does not matter.
    #[test]
    fn the_square_root_needs_two_fifths_of_uniform() {
        let rates: Vec<f64> = (1..=10_000).map(|rank| 1.0 / f64::from(rank)).collect();
        let size = |replication: Replication| {
            Replication::search_size(&rates, &replication.allocate(&rates, 100_000_000))
        };
        let uniform = size(Replication::Uniform);
        let (root, proportional) =
            (size(Replication::SquareRoot) / uniform, size(Replication::Proportional) / uniform);
        assert!((root - 0.403).abs() < 0.003, "{root}");
        assert!((proportional - 1.0).abs() < 0.01, "{proportional}");
    }

    proptest! {
        #[test]
        fn all_copies_are_given_out(rates in prop::collection::vec(0.001f64..100.0, 1..50), total in 50u64..10_000) {
            for replication in [Replication::Uniform, Replication::Proportional, Replication::SquareRoot] {
                let copies = replication.allocate(&rates, total);
                prop_assert!(copies.iter().all(|copies| *copies >= 1));
                // Items that would have less than one have one: as many more there may be.
                let sum: u64 = copies.iter().sum();
                prop_assert!(sum >= total && sum <= total + rates.len() as u64, "{sum} of {total}");
            }
        }

        /// Theorem 2 of the paper: no allocation beats the square root's, but for rounding.
        #[test]
        fn nothing_beats_the_square_root(
            rates in prop::collection::vec(0.01f64..100.0, 2..20),
            other in prop::collection::vec(0.01f64..100.0, 20),
        ) {
            let size = |copies: &[u64]| Replication::search_size(&rates, copies);
            let best = Replication::SquareRoot.allocate(&rates, 10_000_000);
            let other = Replication::Proportional.allocate(&other[..rates.len()], 10_000_000);
            prop_assert!(size(&best) <= size(&other) * 1.001);
        }
    }
}
