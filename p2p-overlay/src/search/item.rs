//! What is shared and what is asked for: items, the words of their names, and hashes of their content.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::SearchError;

/// The longest name of an item, in bytes.
pub const MAX_NAME: usize = 255;
/// How many hashes an item has at most.
pub const MAX_HASHES: usize = 4;
/// How many bytes an item's metadata has at most, keys and values together.
pub const MAX_METADATA: usize = 1024;
/// How many words of a text count at most, and how long one is.
const MAX_WORDS: usize = 32;
const MAX_WORD: usize = 64;

/// A hash of a whole content. The text form is a URN: `urn:sha1:` and 32 letters of base 32, as Gnutella has it (HUGE
/// 0.94), or `urn:blake3:` and 64 digits of base 16.
///
/// ```
/// use p2p_overlay::ContentHash;
///
/// let hash: ContentHash = "urn:sha1:PLSTHIPQGSSZTS5FJUPAKUZWUGYQYPFB".parse().unwrap();
/// assert_eq!(hash.to_string(), "urn:sha1:PLSTHIPQGSSZTS5FJUPAKUZWUGYQYPFB");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ContentHash {
    /// BLAKE3, 32 bytes.
    Blake3([u8; 32]),
    /// SHA-1. Who wants to can make two contents with the same one.
    Sha1([u8; 20]),
}

const BLAKE3: &str = "urn:blake3:";
const SHA1: &str = "urn:sha1:";
const BASE32: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

impl fmt::Display for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ContentHash::Blake3(hash) => {
                f.write_str(BLAKE3)?;
                hash.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
            ContentHash::Sha1(hash) => {
                f.write_str(SHA1)?;
                // Twenty bytes are four times five, each eight letters.
                for five in hash.chunks(5) {
                    let bits = five.iter().fold(0u64, |bits, byte| bits << 8 | u64::from(*byte));
                    for letter in (0..8).rev() {
                        write!(f, "{}", char::from(BASE32[(bits >> (5 * letter)) as usize & 31]))?;
                    }
                }
                Ok(())
            }
        }
    }
}

impl fmt::Debug for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text is no hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a hash: expected urn:sha1: and 32 letters, or urn:blake3: and 64 hexadecimal digits")]
pub struct ParseHashError;

impl FromStr for ContentHash {
    type Err = ParseHashError;

    fn from_str(text: &str) -> Result<ContentHash, ParseHashError> {
        let after = |prefix: &str| {
            let start = text.get(..prefix.len())?;
            start.eq_ignore_ascii_case(prefix).then(|| &text.as_bytes()[prefix.len()..])
        };
        if let Some(digits) = after(BLAKE3) {
            let hash = decode::<32>(digits, 4, |digit| char::from(digit).to_digit(16));
            return hash.map(ContentHash::Blake3).ok_or(ParseHashError);
        }
        let letters = after(SHA1).ok_or(ParseHashError)?;
        let value = |letter: u8| {
            let letter = letter.to_ascii_uppercase();
            BASE32.iter().position(|known| *known == letter).map(|value| value as u32)
        };
        decode::<20>(letters, 5, value).map(ContentHash::Sha1).ok_or(ParseHashError)
    }
}

/// `N` bytes of digits that have `bits` bits each, and no more.
fn decode<const N: usize>(digits: &[u8], bits: u32, value: impl Fn(u8) -> Option<u32>) -> Option<[u8; N]> {
    if digits.len() * bits as usize != N * 8 {
        return None;
    }
    let mut out = [0; N];
    let (mut held, mut have, mut at) = (0u32, 0, 0);
    for digit in digits {
        held = held << bits | value(*digit)?;
        have += bits;
        if have >= 8 {
            have -= 8;
            out[at] = (held >> have) as u8;
            held &= (1 << have) - 1;
            at += 1;
        }
    }
    Some(out)
}

/// What is shared.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    /// What it is called. A node shares one item of each name.
    pub name: String,
    /// Its bytes.
    pub size: u64,
    /// Hashes of its content, if they are known.
    pub hashes: Vec<ContentHash>,
    /// What else is said of it: an artist, a bit rate. Searched like the name.
    pub metadata: Vec<(String, String)>,
}

impl Item {
    /// An item of which only the name and the size are known.
    pub fn new(name: impl Into<String>, size: u64) -> Item {
        Item { name: name.into(), size, ..Item::default() }
    }

    /// The same with a hash.
    pub fn hash(mut self, hash: ContentHash) -> Item {
        self.hashes.push(hash);
        self
    }

    /// Whether it keeps to the bounds; what came from outside is asked too.
    ///
    /// # Errors
    /// [`SearchError::BadItem`].
    pub fn check(&self) -> Result<(), SearchError> {
        let metadata: usize = self.metadata.iter().map(|(key, value)| key.len() + value.len() + 2).sum();
        let good = !self.name.is_empty()
            && self.name.len() <= MAX_NAME
            && !self.name.chars().any(char::is_control)
            && self.hashes.len() <= MAX_HASHES
            && metadata <= MAX_METADATA;
        if good { Ok(()) } else { Err(SearchError::BadItem) }
    }

    /// The words it is found by.
    pub fn words(&self) -> BTreeSet<String> {
        let metadata = self.metadata.iter().flat_map(|(_, value)| words(value));
        words(&self.name).into_iter().chain(metadata).collect()
    }

    /// Whether it is what a query asks for: all words are among its own, and the hash, if one is asked for, is too.
    pub fn matches(&self, query: &Query) -> bool {
        let hash = query.hash().is_none_or(|hash| self.hashes.contains(&hash));
        hash && (query.words().is_empty() || {
            let own = self.words();
            query.words().iter().all(|word| own.contains(word))
        })
    }
}

/// The words of a text: runs of letters and digits, in small letters, each once; no more than 32, and none longer than
/// 64 bytes.
///
/// ```
/// let words = p2p_overlay::words("Blue_Monday (live).mp3");
/// assert_eq!(words, ["blue", "live", "monday", "mp3"]);
/// ```
pub fn words(text: &str) -> Vec<String> {
    let words = text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    let words = words.map(str::to_lowercase).filter(|word| word.len() <= MAX_WORD).take(MAX_WORDS);
    words.collect::<BTreeSet<String>>().into_iter().collect()
}

/// What is asked for: words that all have to be there, a hash, or both.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Query {
    words: Vec<String>,
    hash: Option<ContentHash>,
}

impl Query {
    /// Items with all words of this text.
    pub fn text(text: &str) -> Query {
        Query { words: words(text), hash: None }
    }

    /// Items with this content.
    pub fn content(hash: ContentHash) -> Query {
        Query { words: Vec::new(), hash: Some(hash) }
    }

    /// The same, of this content only.
    pub fn of(mut self, hash: ContentHash) -> Query {
        self.hash = Some(hash);
        self
    }

    /// The words, in order.
    pub fn words(&self) -> &[String] {
        &self.words
    }

    /// The hash.
    pub fn hash(&self) -> Option<ContentHash> {
        self.hash
    }

    /// Whether it asks for nothing.
    pub fn is_empty(&self) -> bool {
        self.words.is_empty() && self.hash.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn all_words_of_a_query_have_to_be_there() {
        let item =
            Item { metadata: vec![("artist".into(), "New Order".into())], ..Item::new("Blue Monday.mp3", 1) };
        assert!(item.matches(&Query::text("monday BLUE")));
        assert!(item.matches(&Query::text("order")));
        assert!(!item.matches(&Query::text("blue tuesday")));
        assert!(!item.matches(&Query::text("mon")), "a part of a word is no word");
    }

    #[test]
    fn a_hash_has_to_be_the_items_own() {
        let (one, two) = (ContentHash::Sha1([1; 20]), ContentHash::Blake3([2; 32]));
        let item = Item::new("a song", 1).hash(one);
        assert!(item.matches(&Query::content(one)) && item.matches(&Query::text("song").of(one)));
        assert!(!item.matches(&Query::content(two)) && !item.matches(&Query::text("other").of(one)));
    }

    /// The SHA-1 of nothing at all, as Gnutella's programs write it.
    #[test]
    fn sha1_is_written_in_base_32() {
        let empty = [
            0xda, 0x39, 0xa3, 0xee, 0x5e, 0x6b, 0x4b, 0x0d, 0x32, 0x55, 0xbf, 0xef, 0x95, 0x60, 0x18, 0x90,
            0xaf, 0xd8, 0x07, 0x09,
        ];
        assert_eq!(ContentHash::Sha1(empty).to_string(), "urn:sha1:3I42H3S6NNFQ2MSVX7XZKYAYSCX5QBYJ");
    }

    proptest! {
        #[test]
        fn a_hash_is_read_as_it_was_written(blake in any::<[u8; 32]>(), sha in any::<[u8; 20]>()) {
            for hash in [ContentHash::Blake3(blake), ContentHash::Sha1(sha)] {
                prop_assert_eq!(hash.to_string().parse(), Ok(hash));
                prop_assert_eq!(hash.to_string().to_lowercase().parse(), Ok(hash));
            }
        }

        #[test]
        fn what_is_no_hash_is_refused(text in "urn:(sha1|blake3):[a-zA-Z0-9]{0,70}") {
            if let Ok(hash) = text.parse::<ContentHash>() {
                prop_assert!(hash.to_string().eq_ignore_ascii_case(&text));
            }
        }

        #[test]
        fn words_are_bounded(text in "\\PC{0,400}") {
            let words = words(&text);
            prop_assert!(words.len() <= MAX_WORDS && words.iter().all(|word| word.len() <= MAX_WORD));
        }
    }
}
