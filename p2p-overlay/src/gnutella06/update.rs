//! How a query table travels: a reset, then patches that say what has changed (Rohrs §"Exchanging tables").
//!
//! A patch is a sequence of descriptors, whose data together, inflated if it is deflated, has a signed number of 1, 4 or
//! 8 bits for each slot: what is added to the slot's distance. Below zero, the word is there from now on; above, it is
//! not; zero leaves it. With one bit, a one turns the slot over. Four bits are what is sent: the living programs all
//! read those.
//!
//! In this order: the descriptor's payload ([`RouteUpdate`]), what sends ([`updates`]), what receives
//! ([`TableReader`]).

use bytes::{Buf, BufMut, Bytes, BytesMut};
use miniz_oxide::deflate::compress_to_vec_zlib;
use miniz_oxide::inflate::decompress_to_vec_zlib_with_limit;
use p2p_core::foreign::Malformed;
use serde::{Deserialize, Serialize};

use super::qrp::QueryTable;

/// A slot's distance to what is not there, as it is sent. Everybody's.
const INFINITY: u8 = 7;
/// The longest data of one patch, in bytes: programs take in 4 KiB.
const PATCH: usize = 4000;
/// What deflating may add to data that cannot be made shorter, and more.
const SLACK: usize = 1 << 10;
/// How hard to look for repetitions, from 0 to 10.
const LEVEL: u8 = 6;

/// The payload of a route-table-update descriptor (0x30).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RouteUpdate {
    /// Forget the table; another of this size begins, with nothing in it.
    Reset {
        /// How many slots.
        slots: u32,
        /// The distance of what is not there.
        infinity: u8,
    },
    /// A part of what has changed.
    Patch {
        /// Which part, from 1.
        number: u8,
        /// Of how many.
        of: u8,
        /// 0 for data as it is, 1 for data deflated, with zlib's head and sum.
        compressor: u8,
        /// How many bits each slot has: 1, 4 or 8.
        entry_bits: u8,
        /// A part of the data.
        data: Bytes,
    },
}

impl RouteUpdate {
    /// Its bytes on the wire of TCP.
    pub(crate) fn len(&self) -> usize {
        match self {
            RouteUpdate::Reset { .. } => 6,
            RouteUpdate::Patch { data, .. } => 5 + data.len(),
        }
    }

    /// Appends its bytes.
    pub(crate) fn encode(&self, out: &mut BytesMut) {
        match self {
            RouteUpdate::Reset { slots, infinity } => {
                out.put_u8(0);
                out.put_u32_le(*slots);
                out.put_u8(*infinity);
            }
            RouteUpdate::Patch { number, of, compressor, entry_bits, data } => {
                out.put_slice(&[1, *number, *of, *compressor, *entry_bits]);
                out.put_slice(data);
            }
        }
    }

    /// What a payload says, if it is one.
    pub(crate) fn decode(mut bytes: Bytes) -> Option<RouteUpdate> {
        match bytes.try_get_u8().ok()? {
            0 => {
                let (slots, infinity) = (bytes.try_get_u32_le().ok()?, bytes.try_get_u8().ok()?);
                bytes.is_empty().then_some(RouteUpdate::Reset { slots, infinity })
            }
            1 => {
                let &[number, of, compressor, entry_bits] = bytes.first_chunk::<4>()?;
                bytes.advance(4);
                Some(RouteUpdate::Patch { number, of, compressor, entry_bits, data: bytes })
            }
            _ => None,
        }
    }
}

/// What is sent to whoever has this old table, if any, to make it the new one. Nothing, if nothing has changed.
pub fn updates(old: Option<&QueryTable>, new: &QueryTable) -> Vec<RouteUpdate> {
    let old = old.filter(|old| old.bits() == new.bits());
    if old == Some(new) {
        return Vec::new();
    }
    let mut data = vec![0u8; new.slots() as usize / 2];
    // The first of two slots is in the upper half.
    let mut put = |slot: u32, step: u8| data[slot as usize / 2] |= step << (4 - slot % 2 * 4);
    let added = new.all_set().filter(|slot| !old.is_some_and(|old| old.get(*slot)));
    added.for_each(|slot| put(slot, 1u8.wrapping_sub(INFINITY) & 0xf));
    let removed = old.into_iter().flat_map(QueryTable::all_set).filter(|slot| !new.get(*slot));
    removed.for_each(|slot| put(slot, INFINITY - 1));
    let deflated = compress_to_vec_zlib(&data, LEVEL);
    let (compressor, data) = if deflated.len() < data.len() { (1, deflated) } else { (0, data) };
    let data = Bytes::from(data);
    let parts = data.len().div_ceil(PATCH);
    let patches = (0..parts).map(|part| RouteUpdate::Patch {
        number: part as u8 + 1,
        of: parts as u8,
        compressor,
        entry_bits: 4,
        data: data.slice(part * PATCH..data.len().min((part + 1) * PATCH)),
    });
    let reset = RouteUpdate::Reset { slots: new.slots(), infinity: INFINITY };
    old.is_none().then_some(reset).into_iter().chain(patches).collect()
}

/// A neighbour's table as its updates have made it. Between two patches it keeps the data of the sequence that has
/// begun: no more than the table's size and a kilobyte; inflated data is bounded by the table's size.
#[derive(Clone, Debug, Default)]
pub struct TableReader {
    table: Option<QueryTable>,
    /// A whole patch has come since the reset.
    whole: bool,
    sequence: Option<Sequence>,
}

/// A sequence of patches that has begun.
#[derive(Clone, Debug)]
struct Sequence {
    next: u8,
    of: u8,
    compressor: u8,
    entry_bits: u8,
    data: Vec<u8>,
}

impl TableReader {
    /// The table, as soon as all of it has come.
    pub fn table(&self) -> Option<&QueryTable> {
        self.table.as_ref().filter(|_| self.whole)
    }

    /// An update comes; says whether the table has changed by it.
    ///
    /// # Errors
    /// It is no update of this table, or does not follow the last one. The table is lost.
    pub fn apply(&mut self, update: &RouteUpdate) -> Result<bool, Malformed> {
        let applied = self.try_apply(update);
        if applied.is_err() {
            *self = TableReader::default();
        }
        applied
    }

    fn try_apply(&mut self, update: &RouteUpdate) -> Result<bool, Malformed> {
        let wrong = |why: &str| Err(Malformed(format!("a query table's patch {why}")));
        let (number, of, compressor, entry_bits, data) = match update {
            RouteUpdate::Reset { slots, .. } => {
                let table = Some(QueryTable::of_slots(*slots)?);
                *self = TableReader { table, ..TableReader::default() };
                return Ok(false);
            }
            RouteUpdate::Patch { number, of, compressor, entry_bits, data } => {
                (*number, *of, *compressor, *entry_bits, data)
            }
        };
        let Some(table) = &mut self.table else { return wrong("before any reset") };
        if ![1, 4, 8].contains(&entry_bits) || compressor > 1 || number == 0 || number > of {
            return wrong("with impossible numbers");
        }
        let size = table.slots() as usize * usize::from(entry_bits) / 8;
        let sequence = match (number, self.sequence.take()) {
            (1, _) => Sequence { next: 1, of, compressor, entry_bits, data: Vec::new() },
            (_, Some(sequence)) => sequence,
            (_, None) => return wrong("without a beginning"),
        };
        let mut sequence = sequence;
        let same = (sequence.of, sequence.compressor, sequence.entry_bits) == (of, compressor, entry_bits);
        if sequence.next != number || !same {
            return wrong("that does not follow the last one");
        }
        if sequence.data.len() + data.len() > size + SLACK {
            return wrong("longer than the table");
        }
        sequence.data.extend_from_slice(data);
        if number < of {
            sequence.next = number + 1;
            self.sequence = Some(sequence);
            return Ok(false);
        }
        let data = match compressor {
            1 => decompress_to_vec_zlib_with_limit(&sequence.data, size).unwrap_or_default(),
            _ => sequence.data,
        };
        if data.len() != size {
            return wrong("that does not have the table's size");
        }
        patch(table, entry_bits, &data);
        self.whole = true;
        Ok(true)
    }
}

/// Changes a table by data of its size.
fn patch(table: &mut QueryTable, entry_bits: u8, data: &[u8]) {
    let per_byte = 8 / u32::from(entry_bits);
    // Mostly little changes.
    let changed = (0u32..).zip(data.chunks(64)).filter(|(_, some)| some.iter().any(|byte| *byte != 0));
    let bytes = changed.flat_map(|(at, some)| (at * 64..).zip(some));
    for (at, byte) in bytes.filter(|(_, byte)| **byte != 0) {
        for within in 0..per_byte {
            let slot = at * per_byte + within;
            // To the upper end, the first of a byte first.
            let step = byte << (within * u32::from(entry_bits));
            let step = (step as i8) >> (8 - entry_bits);
            match (entry_bits, step) {
                (_, 0) => {}
                (1, _) => table.put(slot, !table.get(slot)),
                (_, step) => table.put(slot, step < 0),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn patch_of(number: u8, of: u8, compressor: u8, entry_bits: u8, data: &[u8]) -> RouteUpdate {
        let data = Bytes::copy_from_slice(data);
        RouteUpdate::Patch { number, of, compressor, entry_bits, data }
    }

    fn reset(slots: u32) -> RouteUpdate {
        RouteUpdate::Reset { slots, infinity: INFINITY }
    }

    fn table(slots: &[u32]) -> QueryTable {
        let mut table = QueryTable::new(8);
        slots.iter().for_each(|slot| table.put(*slot, true));
        table
    }

    fn bytes(update: &RouteUpdate) -> Vec<u8> {
        let mut out = BytesMut::new();
        update.encode(&mut out);
        assert_eq!(out.len(), update.len());
        out.to_vec()
    }

    #[test]
    fn the_bytes_are_the_specifications() {
        assert_eq!(bytes(&reset(65536)), [0, 0, 0, 1, 0, 7]);
        assert_eq!(bytes(&patch_of(2, 3, 1, 4, &[9, 8])), [1, 2, 3, 1, 4, 9, 8]);
        for wrong in [&[][..], &[0, 0, 0, 1, 0], &[0, 0, 0, 1, 0, 7, 0], &[1, 1, 1, 0], &[2, 0, 0, 0, 0, 0]] {
            assert_eq!(RouteUpdate::decode(Bytes::copy_from_slice(wrong)), None, "{wrong:?}");
        }
    }

    /// Slots 0 and 3 of 256 are there: minus six is ten in four bits, 250 in eight.
    #[test]
    fn entries_of_all_widths_say_the_same() {
        let mut by_four = [0; 128];
        by_four[..2].copy_from_slice(&[0xa0, 0x0a]);
        let mut by_eight = [0; 256];
        (by_eight[0], by_eight[3]) = (250, 250);
        let mut by_one = [0; 32];
        by_one[0] = 0b1001_0000;
        for (entry_bits, data) in [(4, &by_four[..]), (8, &by_eight), (1, &by_one)] {
            let mut reader = TableReader::default();
            assert_eq!(reader.apply(&reset(256)), Ok(false));
            assert_eq!(reader.table(), None, "not before it is all there");
            assert_eq!(reader.apply(&patch_of(1, 1, 0, entry_bits, data)), Ok(true));
            assert_eq!(reader.table(), Some(&table(&[0, 3])), "{entry_bits} bits");
        }
    }

    /// A stream that zlib's own program has made of 128 zero bytes.
    #[test]
    fn zlibs_bytes_are_inflated() {
        let zeros = [0x78, 0x9c, 0x63, 0x60, 0x18, 0x58, 0x00, 0x00, 0x00, 0x80, 0x00, 0x01];
        let mut reader = TableReader::default();
        reader.apply(&reset(256)).unwrap();
        assert_eq!(reader.apply(&patch_of(1, 1, 1, 4, &zeros)), Ok(true));
        assert_eq!(reader.table(), Some(&table(&[])));
    }

    #[test]
    fn what_inflates_to_more_than_the_table_is_refused() {
        let bomb = compress_to_vec_zlib(&[0; 1 << 20], LEVEL);
        let mut reader = TableReader::default();
        reader.apply(&reset(256)).unwrap();
        assert!(bomb.len() < SLACK * 2);
        assert!(reader.apply(&patch_of(1, 1, 1, 4, &bomb)).is_err());
        assert!(reader.table.is_none() && reader.sequence.is_none());
    }

    #[test]
    fn patches_out_of_order_are_refused() {
        let wrong: [&[RouteUpdate]; 7] = [
            &[patch_of(1, 1, 0, 4, &[0; 128])],
            &[reset(256), patch_of(2, 2, 0, 4, &[0; 64])],
            &[reset(256), patch_of(1, 3, 0, 4, &[0; 64]), patch_of(3, 3, 0, 4, &[0; 64])],
            &[reset(256), patch_of(1, 2, 0, 4, &[0; 64]), patch_of(2, 2, 0, 8, &[0; 64])],
            &[reset(256), patch_of(1, 1, 0, 4, &[0; 127])],
            &[reset(256), patch_of(1, 2, 0, 4, &[0; 1153])],
            &[reset(256), patch_of(1, 1, 0, 3, &[0; 96])],
        ];
        for updates in wrong {
            let mut reader = TableReader::default();
            let (last, before) = updates.split_last().unwrap();
            assert!(before.iter().all(|update| reader.apply(update) == Ok(false)));
            assert!(reader.apply(last).is_err(), "{updates:?}");
        }
    }

    proptest! {
        /// One table after the other arrives as it was sent.
        #[test]
        fn tables_arrive(
            tables in prop::collection::vec((8u8..13, prop::collection::vec(any::<u32>(), 0..600)), 1..5),
        ) {
            let mut reader = TableReader::default();
            let mut old: Option<QueryTable> = None;
            for (bits, slots) in tables {
                let mut new = QueryTable::new(bits);
                slots.iter().for_each(|slot| new.put(slot % (1 << bits), true));
                for update in updates(old.as_ref(), &new) {
                    let again = RouteUpdate::decode(Bytes::from(bytes(&update)));
                    prop_assert_eq!(again.as_ref(), Some(&update));
                    reader.apply(&update).unwrap();
                }
                prop_assert_eq!(reader.table(), Some(&new));
                prop_assert_eq!(updates(reader.table(), &new), vec![]);
                old = Some(new);
            }
        }

        #[test]
        fn any_updates_are_survived(
            slots in 0u32..4096,
            patches in prop::collection::vec((0u8..3, 0u8..3, 0u8..3, 0u8..9, prop::collection::vec(any::<u8>(), 0..300)), 0..6),
        ) {
            let mut reader = TableReader::default();
            let _ = reader.apply(&reset(slots));
            for (number, of, compressor, entry_bits, data) in patches {
                let _ = reader.apply(&patch_of(number, of, compressor, entry_bits, &data));
                if let Some(sequence) = &reader.sequence {
                    prop_assert!(sequence.data.len() <= 4096 + SLACK);
                }
            }
        }
    }
}
