//! A point in an overlay's key space.
//!
//! Peers and objects share one space (Chord §2, Pastry §2, Kademlia §2.1): 256 bits among ourselves, 160
//! on the Mainline DHT. Every overlay measures it its own way, so the measures live here, side by side:
//! the ring's distance and intervals, XOR's distance and common prefix, and digits in base 2^b.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use serde::de::{self, SeqAccess, Visitor};
use serde::ser::SerializeTuple;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A key of `N` bytes, big-endian: byte 0 is the most significant. 32 bytes unless a foreign network says
/// otherwise.
///
/// ```
/// use p2p_core::Key;
///
/// let song: Key = Key::of(b"song.ogg");
/// let peer: Key = Key::of(b"peer");
/// assert_eq!(song.distance(&song), Key::ZERO);
/// assert_eq!(song.xor(&peer), peer.xor(&song));
/// assert_eq!(song.to_string().parse::<Key>().unwrap(), song);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key<const N: usize = 32>([u8; N]);

impl Key<32> {
    /// The key of an object: BLAKE3 of its bytes.
    pub fn of(bytes: &[u8]) -> Key {
        Key(*blake3::hash(bytes).as_bytes())
    }
}

impl<const N: usize> Key<N> {
    /// The smallest key.
    pub const ZERO: Self = Key([0; N]);
    /// The largest key.
    pub const MAX: Self = Key([0xff; N]);
    /// How many bits a key has.
    pub const BITS: usize = N * 8;

    /// The key with these bytes, most significant first.
    pub const fn new(bytes: [u8; N]) -> Self {
        Key(bytes)
    }

    /// The bytes, most significant first.
    pub const fn as_bytes(&self) -> &[u8; N] {
        &self.0
    }

    /// How far one walks clockwise from `self` to reach `to`: `to - self` modulo 2^BITS (Chord §4).
    #[inline]
    pub fn distance(&self, to: &Self) -> Self {
        let mut out = [0; N];
        let mut borrow = false;
        for end in (1..=N).rev().step_by(8) {
            let from = end.saturating_sub(8);
            let (d, b1) = limb(&to.0[from..end]).overflowing_sub(limb(&self.0[from..end]));
            let (d, b2) = d.overflowing_sub(u64::from(borrow));
            out[from..end].copy_from_slice(&d.to_be_bytes()[8 - (end - from)..]);
            borrow = b1 | b2;
        }
        Key(out)
    }

    /// The shorter way around the ring between two keys, in either direction (Pastry's numeric closeness).
    pub fn ring_gap(&self, other: &Self) -> Self {
        self.distance(other).min(other.distance(self))
    }

    /// `self + by` modulo 2^BITS.
    pub fn wrapping_add(&self, by: &Self) -> Self {
        let mut out = [0; N];
        let mut carry = false;
        for i in (0..N).rev() {
            let (s, c1) = self.0[i].overflowing_add(by.0[i]);
            let (s, c2) = s.overflowing_add(u8::from(carry));
            out[i] = s;
            carry = c1 | c2;
        }
        Key(out)
    }

    /// 2^exponent.
    ///
    /// # Panics
    /// If `exponent` is not below [`Key::BITS`].
    pub fn power_of_two(exponent: usize) -> Self {
        assert!(exponent < Self::BITS, "2^{exponent} does not fit a key of {} bits", Self::BITS);
        let mut out = [0; N];
        out[N - 1 - exponent / 8] = 1 << (exponent % 8);
        Key(out)
    }

    /// The largest `e` with 2^e ≤ self; `None` for zero.
    #[inline]
    pub fn ilog2(&self) -> Option<usize> {
        let zeros = self.leading_zeros();
        (zeros < Self::BITS).then(|| Self::BITS - 1 - zeros)
    }

    /// Whether `self` lies strictly between two points, walking clockwise from `after` to `before`. With
    /// `after == before` the walk goes once around, so everything but that point lies between.
    #[inline]
    pub fn is_between(&self, after: &Self, before: &Self) -> bool {
        match after < before {
            true => after < self && self < before,
            false => after < self || self < before,
        }
    }

    /// Whether `self` lies in the half-open arc `(after, upto]`: what a Chord node with predecessor `after`
    /// and key `upto` is responsible for. With `after == upto` that is the whole ring.
    #[inline]
    pub fn is_in_arc(&self, after: &Self, upto: &Self) -> bool {
        self == upto || self.is_between(after, upto)
    }

    /// Bitwise exclusive or: Kademlia's distance (§2.1).
    #[inline]
    pub fn xor(&self, other: &Self) -> Self {
        let mut out = [0; N];
        for (o, (a, b)) in out.iter_mut().zip(self.0.iter().zip(&other.0)) {
            *o = a ^ b;
        }
        Key(out)
    }

    /// The bits that both have set.
    pub fn and(&self, other: &Self) -> Self {
        let mut out = self.0;
        out.iter_mut().zip(&other.0).for_each(|(o, b)| *o &= b);
        Key(out)
    }

    /// How many leading bits two keys share, 0 to [`Key::BITS`].
    #[inline]
    pub fn common_prefix(&self, other: &Self) -> usize {
        self.xor(other).leading_zeros()
    }

    /// How many of the leading bits are zero.
    #[inline]
    pub fn leading_zeros(&self) -> usize {
        match self.0.iter().position(|&byte| byte != 0) {
            Some(i) => i * 8 + self.0[i].leading_zeros() as usize,
            None => Self::BITS,
        }
    }

    /// Bit `i`, 0 being the most significant.
    ///
    /// # Panics
    /// If `i` is not below [`Key::BITS`].
    pub fn bit(&self, i: usize) -> bool {
        self.0[i / 8] >> (7 - i % 8) & 1 == 1
    }

    /// The key with bit `i` (0 the most significant) set to `to`.
    ///
    /// # Panics
    /// If `i` is not below [`Key::BITS`].
    pub fn with_bit(mut self, i: usize, to: bool) -> Self {
        let mask = 0x80 >> (i % 8);
        match to {
            true => self.0[i / 8] |= mask,
            false => self.0[i / 8] &= !mask,
        }
        self
    }

    /// Digit `i` in base 2^b, digit 0 being the most significant (Pastry §2, Tapestry §2). A last digit that
    /// BITS does not fill is as if zeros followed the key.
    ///
    /// # Panics
    /// If `b` is not 1 to 8 or the digit lies past the end of the key.
    pub fn digit(&self, i: usize, b: usize) -> u8 {
        assert!((1..=8).contains(&b), "a digit has 1 to 8 bits, not {b}");
        let first = i * b;
        let high = u16::from(self.0[first / 8]) << 8;
        let low = self.0.get(first / 8 + 1).map_or(0, |&byte| u16::from(byte));
        ((high | low) >> (16 - b - first % 8) & ((1 << b) - 1)) as u8
    }
}

/// Up to eight bytes as one number.
#[inline]
fn limb(bytes: &[u8]) -> u64 {
    let mut whole = [0; 8];
    whole[8 - bytes.len()..].copy_from_slice(bytes);
    u64::from_be_bytes(whole)
}

impl<const N: usize> Ord for Key<N> {
    /// As numbers. The first eight bytes nearly always decide: they are compared without a call.
    #[inline]
    fn cmp(&self, other: &Self) -> Ordering {
        let head = |key: &Self| key.0.first_chunk().map(|bytes| u64::from_be_bytes(*bytes));
        head(self).cmp(&head(other)).then_with(|| self.0.cmp(&other.0))
    }
}

impl<const N: usize> PartialOrd for Key<N> {
    #[inline]
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<const N: usize> fmt::Display for Key<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&data_encoding::HEXLOWER.encode(&self.0))
    }
}

impl<const N: usize> fmt::Debug for Key<N> {
    /// The first 32 bits: enough to tell keys apart in a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&data_encoding::HEXLOWER.encode(&self.0[..N.min(4)]))
    }
}

/// A text that is not a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a key is {expected} hexadecimal digits; {found:?} is not")]
pub struct ParseKeyError {
    expected: usize,
    found: String,
}

impl<const N: usize> FromStr for Key<N> {
    type Err = ParseKeyError;

    fn from_str(text: &str) -> Result<Self, ParseKeyError> {
        data_encoding::HEXLOWER_PERMISSIVE
            .decode(text.as_bytes())
            .ok()
            .and_then(|bytes| bytes.try_into().ok())
            .map(Key)
            .ok_or_else(|| ParseKeyError { expected: N * 2, found: text.chars().take(80).collect() })
    }
}

impl<const N: usize> Serialize for Key<N> {
    /// `N` raw bytes; hexadecimal where the format is for people.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            return serializer.collect_str(self);
        }
        let mut tuple = serializer.serialize_tuple(N)?;
        for byte in &self.0 {
            tuple.serialize_element(byte)?;
        }
        tuple.end()
    }
}

impl<'de, const N: usize> Deserialize<'de> for Key<N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes<const N: usize>;
        impl<'de, const N: usize> Visitor<'de> for Bytes<N> {
            type Value = Key<N>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a key of {N} bytes")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Key<N>, E> {
                text.parse().map_err(E::custom)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Key<N>, A::Error> {
                let mut bytes = [0; N];
                for (i, byte) in bytes.iter_mut().enumerate() {
                    *byte = seq.next_element()?.ok_or_else(|| de::Error::invalid_length(i, &self))?;
                }
                Ok(Key(bytes))
            }
        }
        match deserializer.is_human_readable() {
            true => deserializer.deserialize_str(Bytes),
            false => deserializer.deserialize_tuple(N, Bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn small(byte: u8) -> Key<1> {
        Key([byte])
    }

    #[test]
    fn an_interval_from_a_point_to_itself_is_the_whole_ring_without_it() {
        let p = small(7);
        assert!(small(8).is_between(&p, &p) && small(6).is_between(&p, &p));
        assert!(!p.is_between(&p, &p));
        assert!(p.is_in_arc(&p, &p), "the closed end brings the point itself back");
    }

    #[test]
    fn neighbouring_points_have_nothing_between_them() {
        assert!((0..=255).all(|k| !small(k).is_between(&small(255), &small(0))));
        assert!((0..=255).all(|k| small(k).is_in_arc(&small(255), &small(0)) == (k == 0)));
    }

    #[test]
    fn powers_of_two_and_their_logarithm() {
        for e in 0..Key::<20>::BITS {
            assert_eq!(Key::<20>::power_of_two(e).ilog2(), Some(e));
        }
        assert_eq!(Key::<20>::ZERO.ilog2(), None);
    }

    #[test]
    fn digits_of_three_bits_run_over_byte_borders() {
        let key = Key::<2>([0b1010_1110, 0b0111_0010]);
        // 101 011 10|0 111 001 0|00
        let digits: Vec<u8> = (0..6).map(|i| key.digit(i, 3)).collect();
        assert_eq!(digits, [0b101, 0b011, 0b100, 0b111, 0b001, 0b000]);
    }

    #[test]
    fn a_text_that_is_not_a_key_is_named() {
        let error = "xyz".parse::<Key>().unwrap_err().to_string();
        assert!(error.contains("64 hexadecimal digits") && error.contains("xyz"), "{error}");
    }

    proptest! {
        /// On one byte, against arithmetic that is plain to see.
        #[test]
        fn ring_arithmetic_agrees_with_integers(a: u8, b: u8, k: u8) {
            let (ka, kb, kk) = (small(a), small(b), small(k));
            prop_assert_eq!(ka.distance(&kb), small(b.wrapping_sub(a)));
            prop_assert_eq!(ka.wrapping_add(&kb), small(a.wrapping_add(b)));
            let steps = |from: u8, to: u8| if from == to { 256 } else { u32::from(to.wrapping_sub(from)) };
            let open = k != a && steps(a, k) < steps(a, b);
            prop_assert_eq!(kk.is_between(&ka, &kb), open, "{} in ({}, {})", k, a, b);
            prop_assert_eq!(kk.is_in_arc(&ka, &kb), open || k == b);
        }

        #[test]
        fn walking_the_distance_arrives(a: [u8; 32], b: [u8; 32]) {
            let (a, b) = (Key(a), Key(b));
            prop_assert_eq!(a.wrapping_add(&a.distance(&b)), b);
            prop_assert_eq!(a.ring_gap(&b), b.ring_gap(&a));
        }

        #[test]
        fn the_common_prefix_is_where_the_first_bit_differs(a: [u8; 20], i in 0usize..160) {
            let a = Key(a);
            let b = a.with_bit(i, !a.bit(i));
            prop_assert_eq!(a.common_prefix(&b), i);
        }

        #[test]
        fn digits_in_any_base_spell_the_bits(key: [u8; 4], b in 1usize..=8) {
            let key = Key(key);
            for i in 0..32usize.div_ceil(b) {
                let digit = (0..b).fold(0, |d, j| d << 1 | u8::from(i * b + j < 32 && key.bit(i * b + j)));
                prop_assert_eq!(key.digit(i, b), digit);
            }
        }

        #[test]
        fn text_and_bytes_come_back(key: [u8; 32]) {
            let key = Key(key);
            prop_assert_eq!(key.to_string().parse::<Key>().unwrap(), key);
            let bytes = postcard::to_allocvec(&key).unwrap();
            prop_assert_eq!(bytes.len(), 32);
            prop_assert_eq!(postcard::from_bytes::<Key>(&bytes).unwrap(), key);
        }
    }
}
