//! Sets of numbers below a bound.

/// A set of numbers below a bound: a blob's runs, a torrent's pieces. One bit for each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Bits {
    words: Vec<u64>,
    len: u64,
    count: u64,
}

impl Bits {
    /// None of `len`.
    pub(crate) fn new(len: u64) -> Bits {
        Bits { words: vec![0; len.div_ceil(64) as usize], len, count: 0 }
    }

    /// All of `len`.
    pub(crate) fn full(len: u64) -> Bits {
        let mut bits = Bits { words: vec![u64::MAX; len.div_ceil(64) as usize], len, count: len };
        if let Some(last) = bits.words.last_mut().filter(|_| !len.is_multiple_of(64)) {
            *last = (1 << (len % 64)) - 1;
        }
        bits
    }

    /// Takes one away; says whether it was there.
    pub(crate) fn remove(&mut self, one: u64) -> bool {
        let was = self.contains(one);
        if was {
            self.words[(one / 64) as usize] &= !(1 << (one % 64));
            self.count -= 1;
        }
        was
    }

    /// The bound.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// How many are there.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// As BitTorrent's bitfields are: the first is the highest bit of the first byte.
    pub(crate) fn to_bitfield(&self) -> Vec<u8> {
        let bytes = self.words.iter().flat_map(|word| word.to_le_bytes().map(u8::reverse_bits));
        bytes.take(self.len.div_ceil(8) as usize).collect()
    }

    /// What a bitfield says of `len`; `None` if it is for another number of them.
    pub(crate) fn from_bitfield(bitfield: &[u8], len: u64) -> Option<Bits> {
        let mut bits = Bits::new(len);
        for (i, byte) in bitfield.iter().enumerate() {
            *bits.words.get_mut(i / 8)? |= u64::from(byte.reverse_bits()) << (i % 8 * 8);
        }
        let spare = bits.words.last().is_some_and(|last| !len.is_multiple_of(64) && last >> (len % 64) != 0);
        bits.count = bits.words.iter().map(|word| u64::from(word.count_ones())).sum();
        Some(bits).filter(|_| !spare && bitfield.len() as u64 == len.div_ceil(8))
    }

    /// Adds one that is below the bound; says whether it is new.
    pub(crate) fn insert(&mut self, one: u64) -> bool {
        let Some(word) = self.words.get_mut((one / 64) as usize).filter(|_| one < self.len) else {
            return false;
        };
        let new = *word & (1 << (one % 64)) == 0;
        *word |= 1 << (one % 64);
        self.count += u64::from(new);
        new
    }

    pub(crate) fn contains(&self, one: u64) -> bool {
        self.words.get((one / 64) as usize).is_some_and(|word| word & (1 << (one % 64)) != 0)
    }

    /// Whether every one is there.
    pub(crate) fn is_full(&self) -> bool {
        self.count == self.len
    }

    /// The first from `from` on that is not there.
    pub(crate) fn first_missing(&self, from: u64) -> Option<u64> {
        let mut at = from;
        while at < self.len {
            let word = self.words[(at / 64) as usize] | ((1 << (at % 64)) - 1);
            let found = at / 64 * 64 + u64::from(word.trailing_ones());
            if word != u64::MAX {
                return Some(found).filter(|one| *one < self.len);
            }
            at = found;
        }
        None
    }

    /// Those that are there.
    pub(crate) fn iter(&self) -> impl Iterator<Item = u64> {
        let words = self.words.iter().zip(0..).filter(|(word, _)| **word != 0);
        words.flat_map(|(word, at)| {
            (0..64).filter(move |bit| word & (1 << bit) != 0).map(move |bit| at * 64 + bit)
        })
    }

    /// How many are there and in another set.
    pub(crate) fn common(&self, other: &Bits) -> u64 {
        self.words.iter().zip(&other.words).map(|(one, other)| u64::from((one & other).count_ones())).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn a_set_is_a_set(
            len in 1u64..300, put in prop::collection::vec(0u64..310, 0..300), from in 0u64..310,
            taken in prop::collection::vec(0u64..310, 0..30),
        ) {
            let (mut set, mut model) = (Bits::new(len), BTreeSet::new());
            for one in put {
                prop_assert_eq!(set.insert(one), one < len && model.insert(one));
            }
            for one in taken {
                prop_assert_eq!(set.remove(one), model.remove(&one));
            }
            prop_assert_eq!(set.iter().collect::<BTreeSet<_>>(), model.clone());
            prop_assert_eq!((set.is_full(), set.count()), (model.len() as u64 == len, model.len() as u64));
            let other = Bits::from_bitfield(&set.to_bitfield(), len).unwrap();
            prop_assert_eq!((set.common(&other), set.common(&Bits::new(len))), (set.count(), 0));
            prop_assert_eq!(set.first_missing(from), (from..len).find(|one| !model.contains(one)));
            prop_assert_eq!(Bits::from_bitfield(&set.to_bitfield(), len), Some(set));
            prop_assert!(Bits::full(len).is_full());
        }
    }

    #[test]
    fn a_bitfield_begins_with_its_highest_bit_and_has_no_bits_to_spare() {
        let bits = Bits::from_bitfield(&[0b1000_0001, 0b0100_0000], 10).unwrap();
        assert_eq!(bits.iter().collect::<Vec<_>>(), [0, 7, 9]);
        assert_eq!(Bits::full(10).to_bitfield(), [0xff, 0b1100_0000]);
        assert_eq!(Bits::from_bitfield(&[0, 0b0010_0000], 10), None, "there is no number 10");
        assert_eq!(Bits::from_bitfield(&[0], 10), None);
        assert_eq!(Bits::from_bitfield(&[0, 0, 0], 10), None);
        assert_eq!(Bits::from_bitfield(&[0; 100], 10), None);
    }
}
