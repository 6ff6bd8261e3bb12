//! Query routing: a table of which words somebody might have something for.
//!
//! Rohrs, *Query Routing for the Gnutella Network*, version 0.4 (2001). Words and URNs are hashed to as many bits as the
//! table has; of the routing distances that the paper has in the slots only "there" and "not there" are left, as in all
//! programs: a leaf is one hop away.
//!
//! In this order: the hash ([`qrp_hash`]), the table ([`QueryTable`]).

use p2p_core::foreign::Malformed;

use crate::search::{ContentHash, Item, Query};

/// The smallest and the largest table, as powers of two. The largest is 32 KiB in memory, 128 KiB on its way.
pub(super) const BITS: std::ops::RangeInclusive<u8> = 8..=18;

/// The hash of a word to a number of `bits` bits, at most 32 (§"Hashing"): bytes of ASCII letters in small, four at a
/// time combined by exclusive or, times the golden ratio; the upper bits of the lower half.
///
/// ```
/// assert_eq!(p2p_overlay::qrp_hash("3nJa9", 10), 581);
/// ```
pub fn qrp_hash(word: &str, bits: u8) -> u32 {
    let lower = word.bytes().map(|byte| u32::from(byte.to_ascii_lowercase()));
    let folded = lower.enumerate().fold(0u32, |folded, (at, byte)| folded ^ byte << (at % 4 * 8));
    let product = folded.wrapping_mul(0x4F1B_BCDC);
    product.checked_shr(32 - u32::from(bits.min(32))).unwrap_or(0)
}

/// Which hashes are there: two to the power of 8 to 18 slots. While few are set they are a list, for most servents share
/// little and have many neighbours; a table of which one slot in 32 is set takes as much memory either way.
#[derive(Clone)]
pub struct QueryTable {
    bits: u8,
    /// How many are set.
    set: u32,
    slots: Slots,
}

#[derive(Clone)]
enum Slots {
    /// Those that are set, sorted.
    Few(Vec<u32>),
    /// A bit for each.
    Bits(Box<[u64]>),
}

impl QueryTable {
    /// An empty table of two to the power of `bits` slots, between 8 and 18.
    pub fn new(bits: u8) -> QueryTable {
        let bits = bits.clamp(*BITS.start(), *BITS.end());
        QueryTable { bits, set: 0, slots: Slots::Few(Vec::new()) }
    }

    /// An empty table of so many slots.
    ///
    /// # Errors
    /// Not a power of two, or not one that is taken in.
    pub(super) fn of_slots(slots: u32) -> Result<QueryTable, Malformed> {
        let bits = slots.trailing_zeros() as u8;
        if !slots.is_power_of_two() || !BITS.contains(&bits) {
            return Err(Malformed(format!("a query table of {slots} slots; expected 2^8 to 2^18")));
        }
        Ok(QueryTable::new(bits))
    }

    /// How many slots it has, as a power of two.
    pub fn bits(&self) -> u8 {
        self.bits
    }

    /// How many slots it has.
    pub fn slots(&self) -> u32 {
        1 << self.bits
    }

    /// How many of them are set.
    pub fn set(&self) -> u32 {
        self.set
    }

    /// Whether so many are set that it tells nothing: more than half. Whoever sends such a table asks for everything.
    pub fn is_saturated(&self) -> bool {
        self.set > self.slots() / 2
    }

    /// Whether a slot is set.
    pub(super) fn get(&self, slot: u32) -> bool {
        match &self.slots {
            Slots::Few(few) => few.binary_search(&slot).is_ok(),
            Slots::Bits(bits) => {
                bits.get(slot as usize / 64).is_some_and(|word| word >> (slot % 64) & 1 == 1)
            }
        }
    }

    /// The slots that are set, in order.
    pub(super) fn all_set(&self) -> impl Iterator<Item = u32> {
        let (few, bits): (&[u32], &[u64]) = match &self.slots {
            Slots::Few(few) => (few, &[]),
            Slots::Bits(bits) => (&[], bits),
        };
        let of_word = |(at, word): (u32, &u64)| {
            let mut left = *word;
            std::iter::from_fn(move || {
                let slot = (left != 0).then(|| at * 64 + left.trailing_zeros())?;
                left &= left - 1;
                Some(slot)
            })
        };
        few.iter().copied().chain((0..).zip(bits).flat_map(of_word))
    }

    /// Sets a slot, or clears it.
    pub(super) fn put(&mut self, slot: u32, there: bool) {
        if slot >= self.slots() {
            return;
        }
        match &mut self.slots {
            Slots::Few(few) => {
                // Mostly they come in order.
                let place = match few.last() {
                    Some(last) if *last >= slot => few.binary_search(&slot),
                    Some(_) | None => Err(few.len()),
                };
                match (place, there) {
                    (Ok(at), false) => drop(few.remove(at)),
                    (Err(at), true) => few.insert(at, slot),
                    (Ok(_), true) | (Err(_), false) => return,
                }
                if few.len() > 1 << (self.bits - 5) {
                    self.slots = Slots::Bits(bits_of(self.bits, few));
                }
            }
            Slots::Bits(bits) => {
                let Some(word) = bits.get_mut(slot as usize / 64) else { return };
                let mask = 1 << (slot % 64);
                if there == (*word & mask != 0) {
                    return;
                }
                *word ^= mask;
            }
        }
        match there {
            true => self.set += 1,
            false => self.set -= 1,
        }
    }

    /// Something with this word might be there.
    pub fn insert_word(&mut self, word: &str) {
        self.put(qrp_hash(word, self.bits), true);
    }

    /// This item is there: its words, and its hashes as URNs.
    pub fn insert(&mut self, item: &Item) {
        for word in item.words() {
            self.insert_word(&word);
        }
        for hash in &item.hashes {
            self.insert_word(&hash.to_string());
        }
    }

    /// Whatever another table has. It may be of another size: the upper bits of a hash are the hash in fewer bits.
    pub fn insert_all(&mut self, other: &QueryTable) {
        if other.bits == self.bits
            && let (Slots::Bits(bits), Slots::Bits(others)) = (&mut self.slots, &other.slots)
        {
            for (word, more) in bits.iter_mut().zip(others) {
                self.set += (more & !*word).count_ones();
                *word |= more;
            }
            return;
        }
        for slot in other.all_set() {
            match other.bits.checked_sub(self.bits) {
                Some(more) => self.put(slot >> more, true),
                None => {
                    let less = self.bits - other.bits;
                    (slot << less..(slot + 1) << less).for_each(|slot| self.put(slot, true));
                }
            }
        }
    }

    /// Whether something might match: no word of the query, nor its hash, is surely not there.
    pub fn may_match(&self, query: &Asked) -> bool {
        query.0.iter().all(|hash| self.get(hash >> (32 - self.bits)))
    }
}

/// A bit for each of the slots of a table.
fn bits_of(bits: u8, set: &[u32]) -> Box<[u64]> {
    let mut words: Box<[u64]> = vec![0; 1 << (bits - 6)].into();
    set.iter().for_each(|slot| words[*slot as usize / 64] |= 1 << (slot % 64));
    words
}

impl PartialEq for QueryTable {
    fn eq(&self, other: &QueryTable) -> bool {
        self.bits == other.bits
            && self.set == other.set
            && match (&self.slots, &other.slots) {
                (Slots::Bits(these), Slots::Bits(those)) => these == those,
                (Slots::Few(these), Slots::Few(those)) => these == those,
                (Slots::Few(_), Slots::Bits(_)) | (Slots::Bits(_), Slots::Few(_)) => {
                    self.all_set().eq(other.all_set())
                }
            }
    }
}

impl Eq for QueryTable {}

impl std::fmt::Debug for QueryTable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "QueryTable({} of {})", self.set, self.slots())
    }
}

/// A query's words and hash, hashed once for tables of all sizes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked(Vec<u32>);

impl Asked {
    /// Those of a query.
    pub fn new(query: &Query) -> Asked {
        let words = query.words().iter().map(|word| qrp_hash(word, 32));
        let hash = query.hash().map(|hash: ContentHash| qrp_hash(&hash.to_string(), 32));
        Asked(words.chain(hash).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The vectors of the specification's own test program.
    #[test]
    fn the_hash_is_the_specifications() {
        let thirteen = [
            ("", 0),
            ("eb", 6791),
            ("ebc", 7082),
            ("ebck", 6698),
            ("ebckl", 3179),
            ("ebcklm", 3235),
            ("ebcklme", 6438),
            ("ebcklmen", 1062),
            ("ebcklmenq", 3527),
        ];
        let sixteen = [
            ("", 0),
            ("n", 65003),
            ("nd", 54193),
            ("ndf", 4953),
            ("ndfl", 58201),
            ("ndfla", 34830),
            ("ndflal", 36910),
            ("ndflale", 34586),
            ("ndflalem", 37658),
            ("ndflaleme", 45559),
        ];
        let ten = [("3nja9", 581), ("3NJA9", 581), ("3nJa9", 581), ("7777a88a8a8a8", 342)];
        for (bits, cases) in [(13, &thirteen[..]), (16, &sixteen), (10, &ten)] {
            for (word, hash) in cases {
                assert_eq!(qrp_hash(word, bits), *hash, "{word:?} to {bits} bits");
            }
        }
    }

    #[test]
    fn a_table_of_half_its_slots_says_something_and_no_more() {
        let mut table = QueryTable::new(8);
        (0..128).for_each(|slot| table.put(slot, true));
        assert!(!table.is_saturated());
        table.put(128, true);
        assert!(table.is_saturated() && table.set() == 129);
        table.put(128, false);
        assert!(!table.is_saturated());
    }

    #[test]
    fn tables_that_nobody_takes_in_are_refused() {
        for slots in [0, 1, 128, 1000, 1 << 19, u32::MAX] {
            assert!(QueryTable::of_slots(slots).is_err(), "{slots}");
        }
        assert_eq!(QueryTable::of_slots(1 << 16).map(|table| table.bits()), Ok(16));
    }

    proptest! {
        /// A table never hides what is there, whatever the sizes of the tables that it has gone through.
        #[test]
        fn what_is_there_is_found(
            names in prop::collection::vec("[a-z]{1,8}( [a-z0-9]{1,8}){0,3}", 1..20),
            sizes in prop::collection::vec(8u8..=18, 1..4),
        ) {
            let mut tables = sizes.iter().map(|bits| QueryTable::new(*bits));
            let mut table = tables.next().unwrap();
            for name in &names {
                table.insert(&Item::new(name.clone(), 1).hash(ContentHash::Sha1([7; 20])));
            }
            for mut next in tables {
                next.insert_all(&table);
                table = next;
            }
            for name in &names {
                prop_assert!(table.may_match(&Asked::new(&Query::text(name))));
            }
            prop_assert!(table.may_match(&Asked::new(&Query::content(ContentHash::Sha1([7; 20])))));
            let counted = (0..table.slots()).filter(|slot| table.get(*slot)).count();
            prop_assert_eq!(counted as u32, table.set());
        }

        /// As a list and as bits, a table is a set.
        #[test]
        fn a_table_is_a_set(
            steps in prop::collection::vec((0u32..300, prop::bool::weighted(0.7)), 0..600),
            size in 8u8..=10,
        ) {
            let (mut table, mut set) = (QueryTable::new(size), std::collections::BTreeSet::new());
            for (slot, there) in steps {
                table.put(slot, there);
                if slot < table.slots() {
                    if there { set.insert(slot) } else { set.remove(&slot) };
                }
                prop_assert_eq!(table.set() as usize, set.len());
            }
            prop_assert!(table.all_set().eq(set.iter().copied()));
            let mut again = QueryTable::new(size);
            set.iter().for_each(|slot| again.put(*slot, true));
            prop_assert!(again == table, "however it came to be");
            let mut more = QueryTable::new(size);
            more.put(7, true);
            more.insert_all(&table);
            set.insert(7);
            prop_assert!(more.all_set().eq(set.iter().copied()) && more.set() as usize == set.len());
        }
    }
}
