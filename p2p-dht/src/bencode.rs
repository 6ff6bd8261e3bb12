//! Bencoding (BEP 3): integers, byte strings, lists and dictionaries, as torrents and KRPC write them.
//!
//! Reading copies nothing. [`Value::decode`] checks all bytes once, without recursion and without allocating, and the
//! [`Value`] that it gives is those bytes: [`Value::raw`] has them as they came, to be hashed (a torrent's `info`) or
//! checked against a signature (BEP 44's `v`). [`Value::decode_prefix`] stops where the value ends, for what is followed by
//! something else (a piece of metadata, BEP 9); the length of its `raw` is what it consumed.
//!
//! It is strict: what is accepted is the one encoding of what it means. No leading zeros, no `-0`, integers in 64 bits,
//! dictionaries with sorted keys, each once; at most [`MAX_DEPTH`] levels. [`Value::decode_unsorted`] takes the keys in
//! any order, since some programs wrote such torrents; how long the input may be is its reader's to decide.
//!
//! ```
//! use p2p_dht::bencode::{self, Value};
//!
//! let value = Value::decode(b"d4:infod6:lengthi5e4:name1:xe5:peersl1:a1:bee").unwrap();
//! let info = value.get("info").unwrap();
//! assert_eq!(info.raw(), b"d6:lengthi5e4:name1:xe");
//! assert_eq!(info.get("length").and_then(|length| length.as_int()), Some(5));
//! assert_eq!(value.get("peers").unwrap().items().filter_map(|peer| peer.as_bytes()).count(), 2);
//! assert!(Value::decode(b"d1:b0:1:a0:e").is_err());
//!
//! // The writer sorts keys itself where they do not come in order.
//! let written = bencode::dict(|d| {
//!     d.list("peers", |l| {
//!         l.bytes("a");
//!         l.bytes("b");
//!     });
//!     d.value("info", info);
//! });
//! assert_eq!(written, value.raw());
//! ```

mod write;

use std::fmt;

pub use write::{DictWriter, ListWriter, bytes, dict, dict_into, int, list};

/// How deep lists and dictionaries may stand in each other: what libtorrent allows, too. A torrent's file tree (BEP 52)
/// has a level per directory.
pub const MAX_DEPTH: usize = 100;

/// One value: the bytes that encode it, which have been checked.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Value<'a>(&'a [u8]);

/// What a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `i7e`
    Int,
    /// `4:spam`
    Bytes,
    /// `l…e`
    List,
    /// `d…e`
    Dict,
}

/// Whether a dictionary's keys must be sorted.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Keys {
    Sorted,
    AnyOrder,
}

impl<'a> Value<'a> {
    /// The value that these bytes are, all of them.
    ///
    /// # Errors
    /// They are no value, not the only encoding of it, or more follows.
    pub fn decode(bytes: &'a [u8]) -> Result<Value<'a>, Malformed> {
        whole(bytes, Keys::Sorted)
    }

    /// The value at the front of these bytes; `raw().len()` of them are its own.
    ///
    /// # Errors
    /// They do not begin with a value, or not with the only encoding of it.
    pub fn decode_prefix(bytes: &'a [u8]) -> Result<Value<'a>, Malformed> {
        Ok(Value(&bytes[..check(bytes, Keys::Sorted)?]))
    }

    /// As [`Value::decode`], but dictionaries may have their keys in any order, and more than once: the first counts.
    ///
    /// # Errors
    /// They are no value, or more follows.
    pub fn decode_unsorted(bytes: &'a [u8]) -> Result<Value<'a>, Malformed> {
        whole(bytes, Keys::AnyOrder)
    }

    /// The bytes that encode it, as they came.
    pub fn raw(&self) -> &'a [u8] {
        self.0
    }

    /// What it is.
    pub fn kind(&self) -> Kind {
        match self.0.first() {
            Some(b'i') => Kind::Int,
            Some(b'l') => Kind::List,
            Some(b'd') => Kind::Dict,
            _ => Kind::Bytes,
        }
    }

    /// The integer that it is.
    pub fn as_int(&self) -> Option<i64> {
        match token(self.0) {
            Ok((Token::Int(int), _)) => Some(int),
            _ => None,
        }
    }

    /// The byte string that it is.
    pub fn as_bytes(&self) -> Option<&'a [u8]> {
        match token(self.0) {
            Ok((Token::Bytes(bytes), _)) => Some(bytes),
            _ => None,
        }
    }

    /// The byte string of this length that it is: an id, a key, a signature.
    pub fn as_array<const N: usize>(&self) -> Option<&'a [u8; N]> {
        self.as_bytes()?.try_into().ok()
    }

    /// The text that it is, if it is UTF-8.
    pub fn as_str(&self) -> Option<&'a str> {
        std::str::from_utf8(self.as_bytes()?).ok()
    }

    /// The values of a list, in order; none if it is no list.
    pub fn items(&self) -> Items<'a> {
        Items(inside(self.0, b'l'))
    }

    /// The keys and values of a dictionary, in order; none if it is no dictionary.
    pub fn entries(&self) -> Entries<'a> {
        Entries(Items(inside(self.0, b'd')))
    }

    /// What a dictionary has under a key. It reads on from the dictionary's front: who wants most of a large one walks its
    /// [`entries`](Value::entries) once.
    pub fn get(&self, key: impl AsRef<[u8]>) -> Option<Value<'a>> {
        self.entries().find(|(found, _)| *found == key.as_ref()).map(|(_, value)| value)
    }
}

impl fmt::Debug for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "bencode({})", self.0.escape_ascii())
    }
}

/// The values of a list.
#[derive(Clone, Debug)]
pub struct Items<'a>(&'a [u8]);

impl<'a> Iterator for Items<'a> {
    type Item = Value<'a>;

    fn next(&mut self) -> Option<Value<'a>> {
        let (value, rest) = self.0.split_at_checked(span(self.0)?)?;
        self.0 = rest;
        Some(Value(value))
    }
}

/// The keys and values of a dictionary.
#[derive(Clone, Debug)]
pub struct Entries<'a>(Items<'a>);

impl<'a> Iterator for Entries<'a> {
    type Item = (&'a [u8], Value<'a>);

    fn next(&mut self) -> Option<(&'a [u8], Value<'a>)> {
        Some((self.0.next()?.as_bytes()?, self.0.next()?))
    }
}

/// What stands between a container's first byte and its last.
fn inside(value: &[u8], open: u8) -> &[u8] {
    match value {
        [first, inside @ .., _] if *first == open => inside,
        _ => &[],
    }
}

/// How long the value at the front of checked bytes is; `None` at the end of its container.
fn span(bytes: &[u8]) -> Option<usize> {
    let mut rest = bytes;
    let mut depth = 0_usize;
    loop {
        let (read, after) = token(rest).ok()?;
        rest = after;
        match read {
            Token::List | Token::Dict => depth += 1,
            Token::End => depth = depth.checked_sub(1)?,
            Token::Int(_) | Token::Bytes(_) => {}
        }
        if depth == 0 {
            return Some(bytes.len() - rest.len());
        }
    }
}

fn whole(bytes: &[u8], keys: Keys) -> Result<Value<'_>, Malformed> {
    match check(bytes, keys)? {
        len if len < bytes.len() => Err(Malformed { at: len, flaw: Flaw::Trailing }),
        _ => Ok(Value(bytes)),
    }
}

/// A list or a dictionary that is not at its end yet.
#[derive(Clone, Copy)]
enum Open<'a> {
    List,
    Dict { last: Option<&'a [u8]> },
}

/// Checks the value at the front and says how long it is.
fn check(bytes: &[u8], keys: Keys) -> Result<usize, Malformed> {
    let mut open = [Open::List; MAX_DEPTH];
    let mut depth = 0_usize;
    let mut rest = bytes;
    loop {
        let at = bytes.len() - rest.len();
        let (read, after) = token(rest).map_err(|flaw| Malformed { at, flaw })?;
        rest = after;
        let inner = depth.checked_sub(1).map(|inner| &mut open[inner]);
        // In a dictionary a key stands here, or its end.
        let value = match (inner, read) {
            (None, Token::End) => Err(Flaw::NoValue { byte: b'e' }),
            (Some(_), Token::End) => {
                depth -= 1;
                Ok(None)
            }
            (Some(Open::Dict { last }), Token::Bytes(key)) => match last.replace(key) {
                Some(last) if keys == Keys::Sorted && key <= last => Err(Flaw::KeyOrder),
                _ => {
                    let at = bytes.len() - rest.len();
                    let (read, after) = token(rest).map_err(|flaw| Malformed { at, flaw })?;
                    rest = after;
                    match read {
                        Token::End => return Err(Malformed { at, flaw: Flaw::NoValue { byte: b'e' } }),
                        read => Ok(Some(read)),
                    }
                }
            },
            (Some(Open::Dict { .. }), _) => Err(Flaw::Key),
            (_, read) => Ok(Some(read)),
        };
        let opened = match value.map_err(|flaw| Malformed { at, flaw })? {
            Some(Token::List) => Some(Open::List),
            Some(Token::Dict) => Some(Open::Dict { last: None }),
            _ => None,
        };
        if let Some(opened) = opened {
            *open.get_mut(depth).ok_or(Malformed { at, flaw: Flaw::TooDeep })? = opened;
            depth += 1;
        }
        if depth == 0 {
            return Ok(bytes.len() - rest.len());
        }
    }
}

enum Token<'a> {
    Int(i64),
    Bytes(&'a [u8]),
    List,
    Dict,
    End,
}

/// The next token, and what follows it.
fn token(bytes: &[u8]) -> Result<(Token<'_>, &[u8]), Flaw> {
    let (first, rest) = bytes.split_first().ok_or(Flaw::Truncated)?;
    match first {
        b'i' => {
            let (digits, rest) = until(rest, b'e', 20, Flaw::Int)?;
            Ok((Token::Int(integer(digits).ok_or(Flaw::Int)?), rest))
        }
        b'0'..=b'9' => {
            let (digits, rest) = until(bytes, b':', 20, Flaw::Length)?;
            let len = integer(digits).and_then(|len| usize::try_from(len).ok()).ok_or(Flaw::Length)?;
            let (bytes, rest) = rest.split_at_checked(len).ok_or(Flaw::Truncated)?;
            Ok((Token::Bytes(bytes), rest))
        }
        b'l' => Ok((Token::List, rest)),
        b'd' => Ok((Token::Dict, rest)),
        b'e' => Ok((Token::End, rest)),
        byte => Err(Flaw::NoValue { byte: *byte }),
    }
}

/// What stands before the first `end`, at most `most` bytes, and what follows it.
fn until(bytes: &[u8], end: u8, most: usize, flaw: Flaw) -> Result<(&[u8], &[u8]), Flaw> {
    match bytes.iter().take(most + 1).position(|byte| *byte == end) {
        Some(len) => Ok((&bytes[..len], &bytes[len + 1..])),
        None if bytes.len() <= most && bytes.iter().all(|byte| matches!(byte, b'-' | b'0'..=b'9')) => {
            Err(Flaw::Truncated)
        }
        None => Err(flaw),
    }
}

/// The one way to write a number: no sign but a minus, no zeros in front, no `-0`.
fn integer(digits: &[u8]) -> Option<i64> {
    let canonical = match digits {
        [b'0'] => true,
        [b'-', first, ..] | [first, ..] => matches!(first, b'1'..=b'9'),
        [] => false,
    };
    // What remains is for the standard library: only digits, and 64 bits.
    std::str::from_utf8(digits).ok().filter(|_| canonical)?.parse().ok()
}

/// Bytes that are no value, or not the only encoding of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("byte {at}: {flaw}")]
pub struct Malformed {
    /// Where, from the front.
    pub at: usize,
    /// What is wrong.
    pub flaw: Flaw,
}

/// What is wrong with bytes that should be a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    /// They end in the middle. With more of them it might be one.
    #[error("the value is cut off")]
    Truncated,
    /// A value should begin here.
    #[error("expected i, l, d or a digit, not {:?}", char::from(*byte))]
    NoValue {
        /// What does.
        byte: u8,
    },
    /// Not the encoding of an integer of 64 bits.
    #[error("expected an integer of 64 bits without zeros in front")]
    Int,
    /// Not the encoding of a string's length.
    #[error("expected a string's length without zeros in front")]
    Length,
    /// A dictionary's key is no string.
    #[error("expected a string as a dictionary's key")]
    Key,
    /// A dictionary's keys are not sorted, or one is there twice.
    #[error("expected a dictionary's keys in order, each once")]
    KeyOrder,
    /// Too many levels.
    #[error("more than {MAX_DEPTH} lists and dictionaries in each other")]
    TooDeep,
    /// More follows.
    #[error("expected nothing after the value")]
    Trailing,
}

#[cfg(test)]
mod tests;
