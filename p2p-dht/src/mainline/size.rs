//! How many nodes there are, and how far one must go to store: a defence against a vertical Sybil attack.
//!
//! Whoever puts many nodes around one key is nearer to it than anybody else can be, and eight of them are all that a
//! plain lookup finds. But around other keys the network is as dense as it is: from there it is known how far the eighth
//! nearest is, as a rule, and how many subnets the nearest are in. A store goes on until it has covered both, and so
//! reaches honest nodes as well (as the `mainline` crate does).

use p2p_core::Key;

/// What was seen of the last lookups: this many.
const REMEMBERED: usize = 15;

/// Densities as lookups saw them. The median counts, so that what one key's neighbourhood looks like does not.
#[derive(Clone, Debug, Default)]
pub(super) struct Sizes {
    sizes: Vec<f64>,
    subnets: Vec<usize>,
    next: usize,
}

/// How far a store must go, beside to the nearest k.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Cover {
    /// Up to this distance, as a share of the key space.
    pub(super) distance: f64,
    /// Into so many subnets.
    pub(super) subnets: usize,
}

impl Sizes {
    /// A lookup has ended: the k nearest are so far away, and in so many subnets.
    pub(super) fn saw(&mut self, distances: &[f64], subnets: usize) {
        let (Some(last), true) = (distances.last(), distances.len() > 1) else { return };
        // The k-th of n is expected at k / (n + 1) of the space; this estimate has no bias.
        let size = (distances.len() - 1) as f64 / last.max(f64::MIN_POSITIVE);
        if self.sizes.len() < REMEMBERED {
            self.sizes.push(size);
            self.subnets.push(subnets);
            return;
        }
        self.sizes[self.next] = size;
        self.subnets[self.next] = subnets;
        self.next = (self.next + 1) % REMEMBERED;
    }

    /// How many nodes there seem to be.
    pub(super) fn estimate(&self) -> Option<f64> {
        let mut sizes = self.sizes.clone();
        sizes.sort_unstable_by(f64::total_cmp);
        sizes.get(sizes.len() / 2).copied()
    }

    /// How far the next store must go.
    pub(super) fn cover(&self, k: usize) -> Cover {
        let mut subnets = self.subnets.clone();
        subnets.sort_unstable();
        Cover {
            distance: self.estimate().map_or(0.0, |size| k as f64 / (size + 1.0)),
            subnets: subnets.get(subnets.len() / 2).copied().unwrap_or(0),
        }
    }
}

/// A distance as a share of the key space.
pub(super) fn share(distance: &Key<20>) -> f64 {
    let first = distance.as_bytes().iter().take(8).fold(0, |first, byte| first << 8 | u64::from(*byte));
    first as f64 / (1_u128 << 64) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use p2p_core::Rng;

    #[test]
    fn the_size_of_a_network_is_seen_and_one_crowded_key_does_not_change_it() {
        let mut rng = Rng::new(3);
        let nodes: Vec<Key<20>> = (0..5000).map(|_| rng.key()).collect();
        let mut sizes = Sizes::default();
        let look = |sizes: &mut Sizes, target: Key<20>, crowd: f64| {
            let mut near: Vec<f64> = nodes.iter().map(|node| share(&node.xor(&target)) / crowd).collect();
            near.sort_unstable_by(f64::total_cmp);
            near.truncate(8);
            sizes.saw(&near, 8);
        };
        (0..REMEMBERED).for_each(|_| look(&mut sizes, rng.key(), 1.0));
        let seen = sizes.estimate().unwrap();
        // The median of 15 estimates by eight nodes each: standard error about 13%.
        assert!((3000.0..8000.0).contains(&seen), "{seen}");
        look(&mut sizes, rng.key(), 1e6);
        assert!((2500.0..9000.0).contains(&sizes.estimate().unwrap()));
        assert_eq!(sizes.cover(8).subnets, 8);
    }
}
