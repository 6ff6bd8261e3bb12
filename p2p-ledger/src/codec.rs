//! The one encoding of everything that is hashed or signed.
//!
//! A value has exactly one encoding, and bytes that are not it are refused: what two nodes hash must be the same, and a
//! second spelling of a valid transaction would be a second id for it. So it is written by hand and knows no options.
//!
//! - Numbers are little-endian, of fixed width.
//! - Counts are unsigned LEB128, as short as can be, each with a bound that stands beside the type.
//! - An alternative is one byte, then its fields.
//! - Nothing follows the value: [`Decode::from_bytes`] takes all bytes or none.

use bytes::Bytes;

/// What can be written.
pub trait Encode {
    /// Appends the encoding.
    fn encode(&self, out: &mut Vec<u8>);

    /// The encoding alone.
    fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.encode(&mut out);
        out
    }
}

/// What can be read back.
pub trait Decode: Encode + Sized {
    /// Takes a value off the front of what is left.
    ///
    /// # Errors
    /// The bytes are not the encoding of a value.
    fn decode(input: &mut Reader<'_>) -> Result<Self, InvalidEncoding>;

    /// The value that these bytes, all of them, are the encoding of.
    ///
    /// # Errors
    /// There is no such value.
    fn from_bytes(bytes: &[u8]) -> Result<Self, InvalidEncoding> {
        let mut input = Reader::new(bytes);
        let value = Self::decode(&mut input)?;
        match input.left() {
            0 => Ok(value),
            left => Err(InvalidEncoding::Trailing { left }),
        }
    }
}

/// Why bytes are not the encoding of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidEncoding {
    /// They end too early.
    #[error("{wanted} bytes were to come, {left} are left")]
    TooShort {
        /// How many were to come.
        wanted: usize,
        /// How many are left.
        left: usize,
    },
    /// Something follows the value.
    #[error("{left} bytes follow the value; none may")]
    Trailing {
        /// How many bytes.
        left: usize,
    },
    /// A count goes over its bound.
    #[error("{count} of what there may be {most}")]
    TooMany {
        /// The count.
        count: u64,
        /// Its bound.
        most: usize,
    },
    /// A count could be written in fewer bytes.
    #[error("a count that is longer than it need be")]
    NotShortest,
    /// There is no alternative with this number.
    #[error("{tag} stands for no {what}")]
    Unknown {
        /// Of what.
        what: &'static str,
        /// The number.
        tag: u8,
    },
    /// It is well formed, but not how this value is written, or no value.
    #[error("not a valid {0}")]
    NotCanonical(&'static str),
}

/// What is left of an encoding.
#[derive(Clone, Debug)]
pub struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// All of it.
    pub const fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader(bytes)
    }

    /// How many bytes are left.
    pub const fn left(&self) -> usize {
        self.0.len()
    }

    /// The next bytes.
    ///
    /// # Errors
    /// There are fewer.
    pub fn bytes(&mut self, len: usize) -> Result<&'a [u8], InvalidEncoding> {
        let short = InvalidEncoding::TooShort { wanted: len, left: self.0.len() };
        let (head, rest) = self.0.split_at_checked(len).ok_or(short)?;
        self.0 = rest;
        Ok(head)
    }

    /// The next `N` bytes.
    ///
    /// # Errors
    /// There are fewer.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], InvalidEncoding> {
        let short = InvalidEncoding::TooShort { wanted: N, left: self.0.len() };
        let (head, rest) = self.0.split_first_chunk().ok_or(short)?;
        self.0 = rest;
        Ok(*head)
    }

    /// One byte.
    ///
    /// # Errors
    /// There is none.
    pub fn u8(&mut self) -> Result<u8, InvalidEncoding> {
        self.array().map(u8::from_le_bytes)
    }

    /// Two bytes.
    ///
    /// # Errors
    /// There are fewer.
    pub fn u16(&mut self) -> Result<u16, InvalidEncoding> {
        self.array().map(u16::from_le_bytes)
    }

    /// Four bytes.
    ///
    /// # Errors
    /// There are fewer.
    pub fn u32(&mut self) -> Result<u32, InvalidEncoding> {
        self.array().map(u32::from_le_bytes)
    }

    /// Eight bytes.
    ///
    /// # Errors
    /// There are fewer.
    pub fn u64(&mut self) -> Result<u64, InvalidEncoding> {
        self.array().map(u64::from_le_bytes)
    }

    /// A count of things of at least one byte each, which must all be there.
    ///
    /// # Errors
    /// There are more than `most`, or they cannot be there, or the count is not as short as can be.
    pub fn count(&mut self, most: usize) -> Result<usize, InvalidEncoding> {
        let mut count = 0u64;
        for shift in (0..63).step_by(7) {
            let byte = self.u8()?;
            count |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                let shortest = byte != 0 || shift == 0;
                let fits = usize::try_from(count).ok().filter(|count| *count <= most);
                return match (shortest, fits) {
                    (false, _) => Err(InvalidEncoding::NotShortest),
                    (true, None) => Err(InvalidEncoding::TooMany { count, most }),
                    (true, Some(count)) if count > self.left() => {
                        Err(InvalidEncoding::TooShort { wanted: count, left: self.left() })
                    }
                    (true, Some(count)) => Ok(count),
                };
            }
        }
        Err(InvalidEncoding::TooMany { count, most })
    }

    /// A count in Bitcoin's form, a `CompactSize`: a byte, or 0xfd, 0xfe or 0xff and two, four or eight more.
    ///
    /// # Errors
    /// There are more than `most`, or the count is not as short as can be. Whether so many can be there is not looked at.
    pub fn compact_size(&mut self, most: usize) -> Result<usize, InvalidEncoding> {
        let (count, least) = match self.u8()? {
            small @ 0..=0xfc => (u64::from(small), 0),
            0xfd => (u64::from(self.u16()?), 0xfd),
            0xfe => (u64::from(self.u32()?), 0x1_0000),
            0xff => (self.u64()?, 0x1_0000_0000),
        };
        if count < least {
            return Err(InvalidEncoding::NotShortest);
        }
        let fits = usize::try_from(count).ok().filter(|count| *count <= most);
        fits.ok_or(InvalidEncoding::TooMany { count, most })
    }

    /// A count and then so many values.
    ///
    /// # Errors
    /// There are more than `most`, or one is not valid.
    pub fn list<T: Decode>(&mut self, most: usize) -> Result<Vec<T>, InvalidEncoding> {
        let count = self.count(most)?;
        (0..count).map(|_| T::decode(self)).collect()
    }

    /// A count and then so many bytes.
    ///
    /// # Errors
    /// There are more than `most`, or fewer than the count says.
    pub fn blob(&mut self, most: usize) -> Result<Vec<u8>, InvalidEncoding> {
        let count = self.count(most)?;
        self.bytes(count).map(<[u8]>::to_vec)
    }
}

/// Writes a count.
pub fn put_count(out: &mut Vec<u8>, count: usize) {
    let mut left = count as u64;
    while left >= 0x80 {
        out.push(left as u8 | 0x80);
        left >>= 7;
    }
    out.push(left as u8);
}

/// Writes a count in Bitcoin's form.
pub fn put_compact_size(out: &mut Vec<u8>, count: usize) {
    match count as u64 {
        small @ 0..=0xfc => out.push(small as u8),
        two @ 0xfd..=0xffff => {
            out.push(0xfd);
            out.extend_from_slice(&(two as u16).to_le_bytes());
        }
        four @ 0x1_0000..=0xffff_ffff => {
            out.push(0xfe);
            out.extend_from_slice(&(four as u32).to_le_bytes());
        }
        eight => {
            out.push(0xff);
            out.extend_from_slice(&eight.to_le_bytes());
        }
    }
}

/// Writes a count and then so many values.
pub fn put_list<T: Encode>(out: &mut Vec<u8>, values: &[T]) {
    put_count(out, values.len());
    values.iter().for_each(|value| value.encode(out));
}

/// Writes a count and then so many bytes.
pub fn put_blob(out: &mut Vec<u8>, bytes: &[u8]) {
    put_count(out, bytes.len());
    out.extend_from_slice(bytes);
}

/// Values alone, as they travel.
pub(crate) fn encoded_list<T: Encode>(values: &[T]) -> Bytes {
    let mut out = Vec::new();
    put_list(&mut out, values);
    out.into()
}

/// The same, read.
pub(crate) fn decoded_list<T: Decode>(bytes: &[u8], most: usize) -> Result<Vec<T>, InvalidEncoding> {
    let mut input = Reader::new(bytes);
    let values = input.list(most)?;
    match input.left() {
        0 => Ok(values),
        left => Err(InvalidEncoding::Trailing { left }),
    }
}

/// Bytes that have an encoding of their own.
pub(crate) struct Blob(pub(crate) Vec<u8>);

impl Encode for Blob {
    fn encode(&self, out: &mut Vec<u8>) {
        put_blob(out, &self.0);
    }
}

impl Decode for Blob {
    fn decode(input: &mut Reader<'_>) -> Result<Blob, InvalidEncoding> {
        input.blob(usize::MAX).map(Blob)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_count_that_could_be_shorter_is_refused() {
        assert_eq!(Reader::new(&[0x80, 0x00]).count(9), Err(InvalidEncoding::NotShortest));
        assert_eq!(Reader::new(&[0x85, 0x00]).count(9), Err(InvalidEncoding::NotShortest));
        assert_eq!(Reader::new(&[0x00]).count(9), Ok(0));
    }

    #[test]
    fn a_count_over_its_bound_or_over_what_is_there_costs_nothing() {
        let huge = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
        assert!(matches!(Reader::new(&huge).count(9), Err(InvalidEncoding::TooMany { .. })));
        assert!(matches!(
            Reader::new(&[10, 0]).count(9),
            Err(InvalidEncoding::TooMany { count: 10, most: 9 })
        ));
        assert_eq!(Reader::new(&[9, 0]).count(9), Err(InvalidEncoding::TooShort { wanted: 9, left: 1 }));
    }

    proptest! {
        #[test]
        fn a_count_comes_back_and_has_one_spelling(count in 0usize..1 << 40, spelt: [u8; 6]) {
            let mut out = Vec::new();
            put_count(&mut out, count);
            let bytes = [out.clone(), vec![0; 300]].concat();
            let read = Reader::new(&bytes).count(usize::MAX);
            let there = bytes.len() - out.len();
            let expected = match count <= there {
                true => Ok(count),
                false => Err(InvalidEncoding::TooShort { wanted: count, left: there }),
            };
            prop_assert_eq!(read, expected);
            let padded = [spelt.as_slice(), &[0; 300]].concat();
            let mut input = Reader::new(&padded);
            if let Ok(count) = input.count(300) {
                let mut out = Vec::new();
                put_count(&mut out, count);
                prop_assert_eq!(&padded[..padded.len() - input.left()], &out[..]);
            }
        }
    }
}
