//! Random numbers whose sequence never changes.
//!
//! The algorithm is xoshiro256++ of `rand_xoshiro`, seeded through SplitMix64; the distributions are
//! our own and use `libm` or integers, so that one seed gives one sequence on every machine.

use rand_core::{Rng as _, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;

/// A deterministic stream of random numbers. Not for secrets: keys come from the operating system.
///
/// ```
/// let mut a = p2p_core::Rng::new(7);
/// let mut b = p2p_core::Rng::new(7);
/// assert_eq!(a.next_u64(), b.next_u64());
/// assert!(a.below(6) < 6);
/// ```
#[derive(Clone, Debug)]
pub struct Rng(Xoshiro256PlusPlus);

impl Rng {
    /// The stream of this seed.
    pub fn new(seed: u64) -> Rng {
        Rng(Xoshiro256PlusPlus::seed_from_u64(seed))
    }

    /// Stream number `stream` of a seed: streams of one seed are as unrelated as those of different seeds.
    pub fn stream(seed: u64, stream: u64) -> Rng {
        Rng::new(mix(mix(seed) ^ mix(stream.wrapping_add(0x9e37_79b9_7f4a_7c15))))
    }

    /// Uniform over all 64-bit numbers.
    #[inline]
    pub fn next_u64(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// Uniform over `0..n`, without bias (Lemire 2019); 0 if `n` is 0.
    #[inline]
    pub fn below(&mut self, n: u64) -> u64 {
        let mut product = u128::from(self.next_u64()) * u128::from(n);
        if (product as u64) < n {
            let threshold = n.wrapping_neg() % n;
            while (product as u64) < threshold {
                product = u128::from(self.next_u64()) * u128::from(n);
            }
        }
        (product >> 64) as u64
    }

    /// An index into a slice of this length; 0 if it is empty.
    #[inline]
    pub fn index(&mut self, len: usize) -> usize {
        self.below(len as u64) as usize
    }

    /// Uniform over [0, 1), in steps of 2^-53.
    #[inline]
    pub fn unit(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }

    /// True with probability `p`. Draws nothing when `p` is 0 or less.
    #[inline]
    pub fn chance(&mut self, p: f64) -> bool {
        p > 0.0 && self.unit() < p
    }

    /// Exponential with mean 1.
    #[inline]
    pub fn exponential(&mut self) -> f64 {
        -libm::log(1.0 - self.unit())
    }

    /// Standard normal (Box and Muller's first value).
    pub fn normal(&mut self) -> f64 {
        let radius = libm::sqrt(2.0 * self.exponential());
        radius * libm::cos(2.0 * std::f64::consts::PI * self.unit())
    }

    /// A duration uniform over `[from, to)`; `from` if `to` is not later.
    pub fn duration(&mut self, from: std::time::Duration, to: std::time::Duration) -> std::time::Duration {
        let width = crate::time::nanos(to.saturating_sub(from));
        from + std::time::Duration::from_nanos(self.below(width))
    }

    /// Fills a buffer.
    pub fn fill(&mut self, out: &mut [u8]) {
        self.0.fill_bytes(out);
    }

    /// Uniform over the keys.
    pub fn key<const N: usize>(&mut self) -> crate::Key<N> {
        let mut bytes = [0; N];
        self.fill(&mut bytes);
        crate::Key::new(bytes)
    }

    /// One element, uniformly; `None` of an empty slice.
    pub fn choose<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        from.get(self.index(from.len()))
    }

    /// Puts a slice in uniformly random order.
    pub fn shuffle<T>(&mut self, slice: &mut [T]) {
        for i in (1..slice.len()).rev() {
            slice.swap(i, self.index(i + 1));
        }
    }
}

/// SplitMix64's finaliser: a bijection that scatters nearby numbers.
#[inline]
pub(crate) fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The reference: xoshiro256++ after SplitMix64(0), as its authors' C program prints it.
    #[test]
    fn the_sequence_is_the_published_one() {
        let mut rng = Rng::new(0);
        let first: Vec<u64> = (0..3).map(|_| rng.next_u64()).collect();
        assert_eq!(first, [0x5317_5d61_490b_23df, 0x61da_6f3d_c380_d507, 0x5c0f_df91_ec9a_7bfc]);
    }

    #[test]
    fn below_is_uniform() {
        let mut rng = Rng::new(1);
        let mut seen = [0u32; 7];
        (0..70_000).for_each(|_| seen[rng.index(7)] += 1);
        // Chi-squared with 6 degrees of freedom: above 22.5 once in 1,000 seeds.
        let chi: f64 = seen.iter().map(|&n| (f64::from(n) - 1e4).powi(2) / 1e4).sum();
        assert!(chi < 22.5, "{seen:?} chi² {chi}");
    }

    #[test]
    fn moments_of_the_distributions() {
        let mut rng = Rng::new(2);
        let n = 200_000;
        let mean = |sum: f64| sum / f64::from(n);
        let exponential = mean((0..n).map(|_| rng.exponential()).sum());
        assert!((exponential - 1.0).abs() < 5.0 / f64::from(n).sqrt(), "{exponential}");
        let normal: Vec<f64> = (0..n).map(|_| rng.normal()).collect();
        assert!(mean(normal.iter().sum()).abs() < 5.0 / f64::from(n).sqrt());
        assert!((mean(normal.iter().map(|x| x * x).sum()) - 1.0).abs() < 0.02);
    }

    #[test]
    fn streams_of_one_seed_differ() {
        let firsts: Vec<u64> = (0..100).map(|i| Rng::stream(9, i).next_u64()).collect();
        let distinct: std::collections::BTreeSet<_> = firsts.iter().collect();
        assert_eq!(distinct.len(), 100);
    }
}
