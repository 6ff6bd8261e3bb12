//! Filters by which a node is told what transactions somebody wants, without being told quite which (BIP 37).

use crate::codec::{Decode, Encode, InvalidEncoding, Reader, put_compact_size};

/// The most bytes and functions of a filter that nodes take.
const MAX_BYTES: usize = 36_000;
const MAX_FUNCTIONS: u32 = 50;

/// A Bloom filter: a set that is said to have what it has, and now and then what it has not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bloom {
    bits: Vec<u8>,
    functions: u32,
    tweak: u32,
}

impl Bloom {
    /// The filter of these items, which is also said to have `odds` of all others. The tweak is any number, another one for
    /// each filter: it decides which others.
    pub fn new<'a>(
        items: impl IntoIterator<Item = &'a Vec<u8>, IntoIter: ExactSizeIterator>,
        odds: f64,
        tweak: u32,
    ) -> Bloom {
        let items = items.into_iter();
        let (count, ln2) = (items.len().max(1) as f64, std::f64::consts::LN_2);
        let bytes = -count * libm::log(odds.clamp(f64::MIN_POSITIVE, 0.5)) / (ln2 * ln2) / 8.0;
        let bytes = (bytes as usize).clamp(1, MAX_BYTES);
        let functions = ((bytes * 8) as f64 / count * ln2) as u32;
        let functions = functions.clamp(1, MAX_FUNCTIONS);
        let mut filter = Bloom { bits: vec![0; bytes], functions, tweak };
        for item in items {
            for function in 0..functions {
                let bit = filter.bit(function, item);
                filter.bits[bit / 8] |= 1 << (bit % 8);
            }
        }
        filter
    }

    /// Whether it is said to have an item. An empty filter has nothing.
    pub fn has(&self, item: &[u8]) -> bool {
        let set = |function| {
            let bit = self.bit(function, item);
            self.bits[bit / 8] >> (bit % 8) & 1 == 1
        };
        !self.bits.is_empty() && (0..self.functions).all(set)
    }

    fn bit(&self, function: u32, item: &[u8]) -> usize {
        let seed = function.wrapping_mul(0xfba4_c795).wrapping_add(self.tweak);
        murmur3(seed, item) as usize % (self.bits.len() * 8)
    }
}

/// MurmurHash3, x86, 32 bits (Appleby).
fn murmur3(seed: u32, bytes: &[u8]) -> u32 {
    let scramble = |k: u32| k.wrapping_mul(0xcc9e_2d51).rotate_left(15).wrapping_mul(0x1b87_3593);
    let (blocks, tail) = bytes.as_chunks::<4>();
    let mut hash = blocks.iter().fold(seed, |hash, block| {
        let hash = hash ^ scramble(u32::from_le_bytes(*block));
        hash.rotate_left(13).wrapping_mul(5).wrapping_add(0xe654_6b64)
    });
    let mut last = [0; 4];
    last[..tail.len()].copy_from_slice(tail);
    hash ^= scramble(u32::from_le_bytes(last));
    hash ^= bytes.len() as u32;
    hash = (hash ^ hash >> 16).wrapping_mul(0x85eb_ca6b);
    hash = (hash ^ hash >> 13).wrapping_mul(0xc2b2_ae35);
    hash ^ hash >> 16
}

/// Never to be added to by who has it (`BLOOM_UPDATE_NONE`).
const UPDATE_NONE: u8 = 0;

impl Encode for Bloom {
    fn encode(&self, out: &mut Vec<u8>) {
        put_compact_size(out, self.bits.len());
        out.extend_from_slice(&self.bits);
        out.extend_from_slice(&self.functions.to_le_bytes());
        out.extend_from_slice(&self.tweak.to_le_bytes());
        out.push(UPDATE_NONE);
    }
}

impl Decode for Bloom {
    fn decode(input: &mut Reader<'_>) -> Result<Bloom, InvalidEncoding> {
        let bytes = input.compact_size(MAX_BYTES)?;
        let bits = input.bytes(bytes)?.to_vec();
        let (functions, tweak, update) = (input.u32()?, input.u32()?, input.u8()?);
        match functions <= MAX_FUNCTIONS && update == UPDATE_NONE {
            true => Ok(Bloom { bits, functions, tweak }),
            false => Err(InvalidEncoding::NotCanonical("Bloom filter")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use data_encoding::HEXLOWER;

    /// Of the reference implementation's tests of its hash.
    #[test]
    fn murmur_hashes_are_those_of_the_reference() {
        let vectors: [(u32, u32, &[u8]); 9] = [
            (0x0000_0000, 0x0000_0000, b""),
            (0x6a39_6f08, 0xfba4_c795, b""),
            (0x81f1_6f39, 0xffff_ffff, b""),
            (0x514e_28b7, 0x0000_0000, &[0x00]),
            (0xea3f_0b17, 0xfba4_c795, &[0x00]),
            (0xfd6c_f10d, 0x0000_0000, &[0xff]),
            (0x8eb5_1c3d, 0x0000_0000, &[0x00, 0x11, 0x22]),
            (0xb447_1bf8, 0x0000_0000, &[0x00, 0x11, 0x22, 0x33]),
            (0xb469_8def, 0x0000_0000, &[0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88]),
        ];
        for (hash, seed, bytes) in vectors {
            assert_eq!(murmur3(seed, bytes), hash, "{bytes:?}");
        }
    }

    /// Of the reference implementation's tests: three items, one in a hundred, no tweak.
    #[test]
    fn a_filter_is_that_of_the_reference() {
        let item = |hex: &str| HEXLOWER.decode(hex.as_bytes()).unwrap();
        let items = [
            item("99108ad8ed9bb6274d3980bab5a85c048f0950c8"),
            item("b5a2c786d9ef4658287ced5914b37a1b4aa32eee"),
            item("b9300670b4c5366e95b2699e8b18bc75e5f729c5"),
        ];
        let filter = Bloom::new(&items, 0.01, 0);
        assert!(items.iter().all(|item| filter.has(item)));
        assert!(!filter.has(&item("19108ad8ed9bb6274d3980bab5a85c048f0950c8")));
        // There it ends in 01, BLOOM_UPDATE_ALL.
        assert_eq!(HEXLOWER.encode(&filter.to_bytes()), "03614e9b050000000000000000");
        assert_eq!(Bloom::from_bytes(&filter.to_bytes()), Ok(filter));
    }
}
