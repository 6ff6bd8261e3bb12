//! Peers and how far they are, as one node keeps them in its tables.

use std::cmp::Ordering;
use std::marker::PhantomData;

use p2p_core::{Key, Keyed};

/// How far it is from one key to another.
pub(crate) trait Metric: Copy {
    fn distance(from: &Key, to: &Key) -> Key;
}

/// Around the ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Clockwise;

impl Metric for Clockwise {
    #[inline]
    fn distance(from: &Key, to: &Key) -> Key {
        from.distance(to)
    }
}

/// By exclusive or.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Xor;

impl Metric for Xor {
    #[inline]
    fn distance(from: &Key, to: &Key) -> Key {
        from.xor(to)
    }
}

/// A peer and how far it is from its keeper: the node in whose table it is, or the key that is looked up.
///
/// Of the distance it has the first eight bytes: a table is a third as large so, and a large network is as fast as the
/// tables are small. Where these are equal the peer's key decides, which costs a hash, and hardly ever happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Spot<P, M> {
    /// The beginning of the distance.
    head: [u8; 8],
    /// Who stands there.
    pub(crate) peer: P,
    metric: PhantomData<M>,
}

impl<P: Keyed, M: Metric> Spot<P, M> {
    /// Where a peer stands.
    pub(crate) fn new(keeper: &Key, peer: P) -> Spot<P, M> {
        Spot::at(&M::distance(keeper, &peer.key()), peer)
    }

    /// Where a peer stands whose distance is known.
    #[inline]
    pub(crate) fn at(distance: &Key, peer: P) -> Spot<P, M> {
        Spot { head: head(distance), peer, metric: PhantomData }
    }

    /// The whole distance.
    pub(crate) fn distance(&self, keeper: &Key) -> Key {
        M::distance(keeper, &self.peer.key())
    }

    /// Which of two is nearer.
    #[inline]
    pub(crate) fn order(&self, other: &Spot<P, M>, keeper: &Key) -> Ordering {
        match self.head.cmp(&other.head) {
            Ordering::Equal if self.peer == other.peer => Ordering::Equal,
            Ordering::Equal => self.distance(keeper).cmp(&other.distance(keeper)),
            decided => decided,
        }
    }

    /// Whether it is nearer than another.
    #[inline]
    pub(crate) fn is_before(&self, other: &Spot<P, M>, keeper: &Key) -> bool {
        self.order(other, keeper).is_lt()
    }

    /// Whether it is nearer than this distance, at it, or further.
    #[inline]
    pub(crate) fn order_to(&self, distance: &Key, keeper: &Key) -> Ordering {
        self.head.cmp(&head(distance)).then_with(|| self.distance(keeper).cmp(distance))
    }

    /// Whether it is the keeper itself.
    pub(crate) fn is_keeper(&self, keeper: &Key) -> bool {
        self.order_to(&Key::ZERO, keeper).is_eq()
    }

    /// How many of the distance's leading bits are zero.
    #[inline]
    pub(crate) fn leading_zeros(&self, keeper: &Key) -> usize {
        match u64::from_be_bytes(self.head) {
            0 => self.distance(keeper).leading_zeros(),
            head => head.leading_zeros() as usize,
        }
    }

    /// The largest e with 2^e not above the distance; `None` for the keeper itself.
    pub(crate) fn ilog2(&self, keeper: &Key) -> Option<usize> {
        (Key::<32>::BITS - 1).checked_sub(self.leading_zeros(keeper))
    }

    /// The distance's `i`th digit of `b` bits, 1 to 8.
    pub(crate) fn digit(&self, i: usize, b: usize, keeper: &Key) -> u8 {
        match (i + 1) * b {
            end @ 0..=64 => (u64::from_be_bytes(self.head) >> (64 - end) & ((1 << b) - 1)) as u8,
            _ => self.distance(keeper).digit(i, b),
        }
    }
}

impl<P: Keyed> Spot<P, Clockwise> {
    /// Which of two is nearer to what is at this distance, whichever way around; of two that are as near, the one
    /// before it is.
    #[inline]
    pub(crate) fn order_around(&self, other: &Spot<P, Clockwise>, point: &Key, keeper: &Key) -> Ordering {
        let gap = |spot: &Self| {
            let past = u64::from_be_bytes(head(point)).wrapping_sub(u64::from_be_bytes(spot.head));
            past.min(past.wrapping_neg())
        };
        let (here, there) = (gap(self), gap(other));
        if here.abs_diff(there) > 2 {
            return here.cmp(&there);
        }
        // What was cut off may decide.
        let exact = |spot: &Self| {
            let at = spot.distance(keeper);
            let (past, before) = (at.distance(point), point.distance(&at));
            (past.min(before), before < past)
        };
        exact(self).cmp(&exact(other))
    }
}

impl<P: Keyed> Spot<P, Xor> {
    /// The same peer as somebody else sees it, who is at this distance from its keeper.
    #[inline]
    pub(crate) fn seen_from(&self, distance: &Key) -> Spot<P, Xor> {
        let head = u64::from_ne_bytes(self.head) ^ u64::from_ne_bytes(head(distance));
        Spot { head: head.to_ne_bytes(), ..*self }
    }
}

#[inline]
fn head(distance: &Key) -> [u8; 8] {
    let [a, b, c, d, e, f, g, h, ..] = *distance.as_bytes();
    [a, b, c, d, e, f, g, h]
}

#[cfg(test)]
mod tests {
    use p2p_core::SimPeer;
    use proptest::prelude::*;

    use super::*;

    /// A peer whose key says what it likes: keys with a common beginning.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
    struct Near(u8, u8);

    impl Keyed for Near {
        fn key(&self) -> Key {
            let mut key = [0; 32];
            (key[0], key[20]) = (self.0, self.1);
            Key::new(key)
        }
    }

    fn near() -> impl Strategy<Value = Near> {
        (0u8..4, any::<u8>()).prop_map(|(a, b)| Near(a, b))
    }

    fn agrees<M: Metric + std::fmt::Debug>(keeper: Near, a: Near, b: Near) -> Result<(), TestCaseError> {
        let keeper = keeper.key();
        let [far_a, far_b] = [a, b].map(|peer| M::distance(&keeper, &peer.key()));
        let [spot_a, spot_b] = [a, b].map(|peer| Spot::<_, M>::new(&keeper, peer));
        prop_assert_eq!(spot_a.order(&spot_b, &keeper), far_a.cmp(&far_b));
        prop_assert_eq!(spot_a.order_to(&far_b, &keeper), far_a.cmp(&far_b));
        prop_assert_eq!(spot_a.leading_zeros(&keeper), far_a.leading_zeros());
        prop_assert_eq!(spot_a.ilog2(&keeper), far_a.ilog2());
        for (i, b) in [(0, 8), (7, 8), (8, 8), (63, 1), (64, 1), (12, 5), (20, 8)] {
            prop_assert_eq!(spot_a.digit(i, b, &keeper), far_a.digit(i, b));
        }
        Ok(())
    }

    fn around(keeper: Near, a: Near, b: Near, point: Near) -> Result<(), TestCaseError> {
        let (keeper, point) = (keeper.key(), point.key());
        let [spot_a, spot_b] = [a, b].map(|peer| Spot::<_, Clockwise>::new(&keeper, peer));
        let expected = a.key().ring_gap(&point).cmp(&b.key().ring_gap(&point));
        let found = spot_a.order_around(&spot_b, &keeper.distance(&point), &keeper);
        match expected {
            Ordering::Equal if a == b => prop_assert_eq!(found, Ordering::Equal),
            Ordering::Equal => {
                prop_assert_eq!(found.is_lt(), a.key().distance(&point) < b.key().distance(&point));
            }
            _ => prop_assert_eq!(found, expected),
        }
        Ok(())
    }

    proptest! {
        /// Against whole distances, most of which are equal in their first eight bytes.
        #[test]
        fn eight_bytes_are_as_good_as_all(keeper in near(), a in near(), b in near(), point in near()) {
            agrees::<Clockwise>(keeper, a, b)?;
            agrees::<Xor>(keeper, a, b)?;
            around(keeper, a, b, point)?;
            let (keeper, key) = (keeper.key(), b.key());
            let seen = Spot::<_, Xor>::new(&keeper, a).seen_from(&keeper.xor(&key));
            prop_assert_eq!(seen, Spot::new(&key, a));
        }
    }

    #[test]
    fn a_spot_is_small() {
        assert_eq!(size_of::<Spot<SimPeer, Xor>>(), 12);
    }
}
