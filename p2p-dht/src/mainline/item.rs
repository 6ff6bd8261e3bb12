//! What BEP 44 keeps: values under their SHA-1, and values that the owner of a key may replace.
//!
//! A value is any bencoded value; it is hashed and signed as it is encoded, so it is kept as it came.

use std::fmt;

use bytes::Bytes;
use p2p_core::{Key, Keypair, PeerId};
use sha1::{Digest, Sha1};

use crate::bencode::{self, Value};

/// The longest value that nodes must keep, in bytes of its encoding.
pub const MAX_ITEM: usize = 1000;
/// The longest salt, in bytes.
pub const MAX_ITEM_SALT: usize = 64;

/// Where an immutable value is kept: the SHA-1 of its encoding.
pub fn target_of(encoded: &[u8]) -> Key<20> {
    Key::new(Sha1::digest(encoded).into())
}

/// A value signed by its publisher, who may replace it by one with a higher sequence number.
///
/// ```
/// use p2p_core::Keypair;
/// use p2p_dht::{bencode, mainline::MutableItem};
///
/// let keypair = Keypair::generate();
/// let item = MutableItem::new(&keypair, "profile", 1, bencode::bytes("ada")).unwrap();
/// assert_eq!(item.target(), MutableItem::target_of(&keypair.id(), b"profile"));
/// assert!(item.is_genuine());
/// assert_eq!(item.bytes(), Some(b"ada".as_slice()));
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct MutableItem {
    pub(super) publisher: PeerId,
    pub(super) salt: Bytes,
    pub(super) sequence: i64,
    pub(super) value: Bytes,
    pub(super) signature: [u8; 64],
}

impl MutableItem {
    /// Signs a value, which must be bencoded: see [`bencode::bytes`].
    ///
    /// # Errors
    /// What of it no node would take.
    pub fn new(
        keypair: &Keypair,
        salt: impl Into<Bytes>,
        sequence: i64,
        value: impl Into<Bytes>,
    ) -> Result<MutableItem, InvalidItem> {
        let (salt, value) = (salt.into(), value.into());
        let unsigned = MutableItem { publisher: keypair.id(), salt, sequence, value, signature: [0; 64] };
        unsigned.fits()?;
        let signature = keypair.sign(&unsigned.message());
        Ok(MutableItem { signature, ..unsigned })
    }

    /// A value that somebody has signed.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn signed(
        publisher: PeerId,
        salt: impl Into<Bytes>,
        sequence: i64,
        value: impl Into<Bytes>,
        signature: [u8; 64],
    ) -> Result<MutableItem, InvalidItem> {
        let item = MutableItem { publisher, salt: salt.into(), sequence, value: value.into(), signature };
        item.fits()?;
        item.is_genuine().then_some(item).ok_or(InvalidItem::Signature)
    }

    /// Where a publisher's value with this salt is kept.
    pub fn target_of(publisher: &PeerId, salt: &[u8]) -> Key<20> {
        Key::new(Sha1::new().chain_update(publisher.as_bytes()).chain_update(salt).finalize().into())
    }

    /// Where it is kept.
    pub fn target(&self) -> Key<20> {
        MutableItem::target_of(&self.publisher, &self.salt)
    }

    /// Who signed it.
    pub fn publisher(&self) -> PeerId {
        self.publisher
    }

    /// Tells the publisher's values apart.
    pub fn salt(&self) -> &[u8] {
        &self.salt
    }

    /// The higher, the newer.
    pub fn sequence(&self) -> i64 {
        self.sequence
    }

    /// The value as it is encoded.
    pub fn encoded(&self) -> &Bytes {
        &self.value
    }

    /// The value, if it is a byte string.
    pub fn bytes(&self) -> Option<&[u8]> {
        Value::decode(&self.value).ok()?.as_bytes()
    }

    /// The signature.
    pub fn signature(&self) -> &[u8; 64] {
        &self.signature
    }

    /// Whether the publisher has signed all this.
    pub fn is_genuine(&self) -> bool {
        self.publisher.verify(&self.message(), &self.signature)
    }

    pub(super) fn fits(&self) -> Result<(), InvalidItem> {
        if self.salt.len() > MAX_ITEM_SALT {
            return Err(InvalidItem::Salt { len: self.salt.len() });
        }
        if self.sequence < 0 {
            return Err(InvalidItem::Sequence { sequence: self.sequence });
        }
        value_fits(&self.value)
    }

    /// What is signed: the salt if there is one, the sequence number and the value, as in a dictionary.
    fn message(&self) -> Vec<u8> {
        let mut message = Vec::new();
        bencode::dict_into(&mut message, |d| {
            if !self.salt.is_empty() {
                d.bytes("salt", &self.salt);
            }
            d.int("seq", self.sequence);
        });
        // The entries without their dictionary, and the value, which is encoded already.
        let entries = message.len() - 1;
        [&message[1..entries], b"1:v", &self.value].concat()
    }
}

/// Whether a value is one, and short enough.
pub(super) fn value_fits(encoded: &[u8]) -> Result<(), InvalidItem> {
    match encoded.len() {
        len if len > MAX_ITEM => Err(InvalidItem::TooLong { len }),
        _ => Value::decode(encoded).map(|_| ()).map_err(InvalidItem::Encoding),
    }
}

impl fmt::Debug for MutableItem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let MutableItem { publisher, sequence, value, .. } = self;
        write!(f, "MutableItem({publisher:?}, sequence {sequence}, {} bytes)", value.len())
    }
}

/// Why something cannot be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidItem {
    /// The value is too long.
    #[error("a value of {len} bytes as it is encoded; nodes keep at most {MAX_ITEM}")]
    TooLong {
        /// How long it is, in bytes.
        len: usize,
    },
    /// The salt is too long.
    #[error("a salt of {len} bytes; it has at most {MAX_ITEM_SALT}")]
    Salt {
        /// How long it is, in bytes.
        len: usize,
    },
    /// The sequence number is negative.
    #[error("sequence number {sequence}; expected one from 0 on")]
    Sequence {
        /// What it is.
        sequence: i64,
    },
    /// The value is not bencoded.
    #[error("the value is not bencoded: {0}")]
    Encoding(bencode::Malformed),
    /// The publisher has not signed it.
    #[error("the signature is not the publisher's")]
    Signature,
}
