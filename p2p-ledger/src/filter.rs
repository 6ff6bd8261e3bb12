//! Filters: what a block is about, in so few bits that a light client takes those of all blocks.
//!
//! Whoever asks a server for the blocks of his keys tells it his keys. So the server gives every block's filter, always the
//! same, and who finds a key of his in one asks for the whole block (BIP 157). A filter is a Golomb-coded set (BIP 158, the
//! basic filter: P = 19, M = 784,931): what is in the block is hashed to numbers, these are sorted, and of each the distance
//! from the one before is written, a few bits each. What is in it is always found; what is not is found once in 784,931.
//!
//! A filter's header is a hash of it and of the header before, so that servers that differ can be told apart block by block.
//! What the items are is for the chain to say: of Bitcoin the scripts of all outputs and of all that is spent, but for empty
//! ones and those that begin with `OP_RETURN`. Of our own blocks they are what [`Tx::about`] says, which follows from the block
//! alone: so whoever has a block can tell which of two filters is a lie. `headers` is what somebody says of filters, and what is
//! believed.

mod headers;

use p2p_core::Key;
use siphasher::sip::SipHasher24;

use crate::codec::{InvalidEncoding, Reader, put_compact_size};
use crate::id::{BlockId, twice};
use crate::transaction::Tx;

pub(crate) use headers::{FilterHeaders, Said};

/// How many bits of a distance are written as they are; the rest of it is counted.
const BITS: u32 = 19;
/// Of how many items that are not in a filter one is found.
const ODDS: u64 = 784_931;

/// A set of items that can be asked for items.
///
/// ```
/// use p2p_ledger::Filter;
///
/// let key = [7; 16];
/// let filter = Filter::new(&key, [&b"one"[..], b"two"]);
/// assert!(filter.has_any(&key, [&b"two"[..], b"three"]));
/// assert!(!filter.has_any(&key, [&b"three"[..]]));
/// assert_eq!(Filter::from_bytes(filter.as_bytes().to_vec()).unwrap(), filter);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// As it travels: how many items, and their distances.
    bytes: Vec<u8>,
    count: u32,
    /// Where the distances begin.
    start: usize,
}

impl Filter {
    /// The filter of these items, each of which counts once. The key is another one for each block: see
    /// [`Filter::key`].
    ///
    /// # Panics
    /// If there are 2^32 items.
    pub fn new<'a>(key: &[u8; 16], items: impl IntoIterator<Item = &'a [u8]>) -> Filter {
        let mut items: Vec<&[u8]> = items.into_iter().collect();
        items.sort_unstable();
        items.dedup();
        let count = u32::try_from(items.len()).expect("fewer than 2^32 items");
        let numbers = hashed(key, count, items);
        let mut bytes = Vec::new();
        put_compact_size(&mut bytes, count as usize);
        let (start, mut last) = (bytes.len(), 0);
        let mut out = BitWriter { bytes, free: 0 };
        for number in numbers {
            let distance = number - last;
            (0..distance >> BITS).for_each(|_| out.put(true));
            out.put(false);
            (0..BITS).rev().for_each(|bit| out.put(distance >> bit & 1 == 1));
            last = number;
        }
        Filter { bytes: out.bytes, count, start }
    }

    /// The filter of a block of our own with these transactions.
    pub fn of<T: Tx>(block: &BlockId, transactions: &[T]) -> Filter {
        let items: Vec<Vec<u8>> = transactions.iter().flat_map(Tx::about).collect();
        Filter::new(&Filter::key(block), items.iter().map(Vec::as_slice))
    }

    /// The key of a block's filter: of Bitcoin's blocks the first 16 bytes of the hash as it travels (BIP 158), and so of ours.
    pub fn key(block: &BlockId) -> [u8; 16] {
        let mut key = [0; 16];
        key.iter_mut().zip(block.0.as_bytes().iter().rev()).for_each(|(byte, last)| *byte = *last);
        key
    }

    /// A filter that has come from somebody. That it is sound says nothing of whether it is the block's: its
    /// [`header`](Filter::header) does, where several servers agree.
    ///
    /// # Errors
    /// It is none: its count is not how counts are written, or its distances end early, or something follows them.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Filter, InvalidEncoding> {
        let mut input = Reader::new(&bytes);
        let count = input.compact_size(u32::MAX as usize)? as u32;
        let start = bytes.len() - input.left();
        let filter = Filter { bytes, count, start };
        let mut bits = filter.bits();
        let mut last = 0u64;
        for _ in 0..count {
            let distance = bits.distance().ok_or(InvalidEncoding::NotCanonical("filter"))?;
            last = last.checked_add(distance).ok_or(InvalidEncoding::NotCanonical("filter"))?;
        }
        let rest = bits.rest();
        let is_whole = last < u64::from(count) * ODDS || count == 0;
        match rest < 8 && is_whole && (0..rest).all(|_| bits.next() == Some(false)) {
            true => Ok(filter),
            false => Err(InvalidEncoding::NotCanonical("filter")),
        }
    }

    /// The filter as it travels.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// How many items are in it.
    pub fn len(&self) -> usize {
        self.count as usize
    }

    /// Whether nothing is.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The numbers that stand for its items, from the least.
    fn numbers(&self) -> impl Iterator<Item = u64> {
        let (mut bits, mut last) = (self.bits(), 0u64);
        (0..self.count).map_while(move |_| {
            last = last.saturating_add(bits.distance()?);
            Some(last)
        })
    }

    /// Whether any of these is in it, as far as can be told.
    pub fn has_any<'a>(&self, key: &[u8; 16], items: impl IntoIterator<Item = &'a [u8]>) -> bool {
        let wanted = hashed(key, self.count, items);
        let mut wanted = wanted.iter().peekable();
        for number in self.numbers() {
            while wanted.next_if(|wanted| **wanted < number).is_some() {}
            match wanted.peek() {
                None => return false,
                Some(wanted) if **wanted == number => return true,
                Some(_) => {}
            }
        }
        false
    }

    /// Whether all of these are in it, as far as can be told.
    pub fn has_all<'a>(&self, key: &[u8; 16], items: impl IntoIterator<Item = &'a [u8]>) -> bool {
        let wanted = hashed(key, self.count, items);
        let mut wanted = wanted.iter().peekable();
        for number in self.numbers() {
            while wanted.next_if(|wanted| **wanted == number).is_some() {}
            match wanted.peek() {
                None => return true,
                Some(wanted) if **wanted < number => return false,
                Some(_) => {}
            }
        }
        wanted.peek().is_none()
    }

    /// The filter's hash. As Bitcoin shows hashes: the last byte first.
    pub fn hash(&self) -> Key {
        twice(&self.bytes)
    }

    /// The filter's header, after that of the block before; before the first block it is zero.
    pub fn header(&self, previous: &Key) -> Key {
        Filter::header_of(&self.hash(), previous)
    }

    /// The header of the filter with this hash.
    pub fn header_of(hash: &Key, previous: &Key) -> Key {
        let mut both = [*hash.as_bytes(), *previous.as_bytes()];
        both.iter_mut().for_each(|hash| hash.reverse());
        twice(both.as_flattened())
    }

    fn bits(&self) -> BitReader<'_> {
        BitReader { bytes: &self.bytes[self.start..], at: 0 }
    }
}

/// Items as numbers, in order: evenly spread below how many there are times the odds.
fn hashed<'a>(key: &[u8; 16], count: u32, items: impl IntoIterator<Item = &'a [u8]>) -> Vec<u64> {
    let range = u128::from(u64::from(count) * ODDS);
    let hasher = SipHasher24::new_with_key(key);
    let number = |item| ((u128::from(hasher.hash(item)) * range) >> 64) as u64;
    let mut numbers: Vec<u64> = items.into_iter().map(number).collect();
    numbers.sort_unstable();
    numbers
}

struct BitWriter {
    bytes: Vec<u8>,
    /// How many bits of the last byte are free.
    free: u32,
}

impl BitWriter {
    fn put(&mut self, bit: bool) {
        if self.free == 0 {
            self.bytes.push(0);
            self.free = 8;
        }
        self.free -= 1;
        if let Some(last) = self.bytes.last_mut() {
            *last |= u8::from(bit) << self.free;
        }
    }
}

struct BitReader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl BitReader<'_> {
    fn next(&mut self) -> Option<bool> {
        let byte = self.bytes.get(self.at / 8)?;
        let bit = byte >> (7 - self.at % 8) & 1 == 1;
        self.at += 1;
        Some(bit)
    }

    /// How many are left.
    fn rest(&self) -> usize {
        8 * self.bytes.len() - self.at
    }

    fn distance(&mut self) -> Option<u64> {
        let mut distance = 0u64;
        while self.next()? {
            distance += 1;
        }
        for _ in 0..BITS {
            distance = distance << 1 | u64::from(self.next()?);
        }
        Some(distance)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn slices(items: &[Vec<u8>]) -> impl Iterator<Item = &[u8]> {
        items.iter().map(Vec::as_slice)
    }

    proptest! {
        #[test]
        fn what_is_in_it_is_found_and_it_comes_back(
            key: [u8; 16], items in proptest::collection::vec(any::<Vec<u8>>(), 0..40), others: Vec<[u8; 9]>,
        ) {
            let filter = Filter::new(&key, slices(&items));
            prop_assert_eq!(&Filter::from_bytes(filter.as_bytes().to_vec()).unwrap(), &filter);
            for item in &items {
                let also = others.iter().map(|other| &other[..]).chain([&item[..]]);
                prop_assert!(filter.has_any(&key, also));
            }
            prop_assert!(filter.has_all(&key, slices(&items)));
            // With one that is not they are not all.
            let more = others.iter().map(|other| &other[..]).filter(|other| !filter.has_any(&key, [*other]));
            for other in more.take(3) {
                prop_assert!(!filter.has_all(&key, slices(&items).chain([other])));
            }
            prop_assert!(!filter.has_any(&key, []));
            let longer = [filter.as_bytes(), &[0]].concat();
            prop_assert!(Filter::from_bytes(longer).is_err());
        }

        #[test]
        fn garbage_is_refused_without_a_panic(bytes: Vec<u8>) {
            if let Ok(filter) = Filter::from_bytes(bytes) {
                filter.has_any(&[0; 16], [&b"item"[..]]);
            }
        }
    }

    #[test]
    fn a_claimed_count_costs_nothing() {
        let claimed = [0xfe, 0xff, 0xff, 0xff, 0xff, 0x12, 0x34, 0x56];
        assert_eq!(Filter::from_bytes(claimed.to_vec()), Err(InvalidEncoding::NotCanonical("filter")));
        assert_eq!(Filter::from_bytes(vec![0xfd, 0xfc, 0]), Err(InvalidEncoding::NotShortest));
    }

    /// Of 2,000,000 that are not in it about as many are found as the odds say: 2.5.
    #[test]
    fn what_is_not_in_it_is_found_as_seldom_as_it_should_be() {
        let (key, items): ([u8; 16], Vec<[u8; 4]>) = ([3; 16], (0..2_000u32).map(u32::to_le_bytes).collect());
        let filter = Filter::new(&key, items.iter().map(|item| &item[..]));
        let (mut bits, mut number, mut there) = (filter.bits(), 0, std::collections::BTreeSet::new());
        while there.len() < 2_000 {
            number += bits.distance().unwrap();
            there.insert(number);
        }
        let others = (2_000..2_002_000u32).map(u32::to_le_bytes);
        let found = others.filter(|n| there.contains(&hashed(&key, 2_000, [&n[..]])[0])).count();
        assert!(found <= 10, "{found}: more than 10 come once in 3,500 times");
        let bits = 8.0 * filter.as_bytes().len() as f64 / 2_000.0;
        assert!((20.0..22.0).contains(&bits), "{bits} bits for each item");
    }
}
