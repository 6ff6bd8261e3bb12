//! What a distributed hash table keeps: values under their hash, values signed by a publisher, who provides what, values
//! under any key, which whoever knows a secret may remove, and what an application [defines](crate::Validator).
//!
//! Every record says when it ends, in seconds since the Unix epoch. Its publisher decides that; copying a record never
//! changes it. An immutable value may be put again by anybody, with a new end; a signed one only by its publisher,
//! since the end is signed too.

use std::fmt;

use bytes::Bytes;
use p2p_core::{Key, Keypair, PeerId, Wire, payload};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::custom::{Custom, Rejection};

/// The longest value, in bytes: 64 KiB.
pub const MAX_VALUE: usize = 64 << 10;
/// The longest value that can be removed, in bytes: there may be many under one key. 1 KiB.
pub const MAX_REMOVABLE: usize = 1 << 10;
/// The longest salt of a signed value, in bytes.
pub const MAX_SALT: usize = 64;

/// One thing kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Record<P> {
    /// A value under its BLAKE3 hash.
    Immutable {
        /// At most [`MAX_VALUE`] bytes.
        #[serde(with = "payload")]
        value: Bytes,
        /// Seconds since the Unix epoch.
        expires: u64,
    },
    /// A value that its publisher may replace.
    Mutable(Signed),
    /// A peer has what this key names.
    Provider {
        /// The key of what it has.
        key: Key,
        /// Who has it. It is not signed: a peer says so itself, but the nodes that keep it pass it on unproved.
        peer: P,
        /// Seconds since the Unix epoch.
        expires: u64,
    },
    /// One of the values under a key that anybody may choose (OpenDHT, Rhea et al. SIGCOMM 2005, §3).
    Removable {
        /// The key.
        key: Key,
        /// At most [`MAX_REMOVABLE`] bytes.
        value: Bytes,
        /// The BLAKE3 hash of the secret that removes it. It is no name: whoever reads the value knows it, and may put others
        /// with it, which lie beside this one.
        owner: Key,
        /// Seconds since the Unix epoch.
        expires: u64,
    },
    /// Such a value is removed: nobody but whoever had the secret can say so, and until when nobody can put it again.
    Removed {
        /// The key.
        key: Key,
        /// The secret.
        secret: [u8; 32],
        /// The BLAKE3 hash of the value.
        value: Key,
        /// Seconds since the Unix epoch.
        expires: u64,
    },
    /// A record of an application's own.
    Custom(Custom),
}

/// A value signed by its publisher, under the key of the publisher and a salt.
///
/// ```
/// use p2p_core::Keypair;
/// use p2p_dht::Signed;
///
/// let keypair = Keypair::generate();
/// let signed = Signed::new(&keypair, "profile", 1, 2_000_000_000, "ada").unwrap();
/// assert_eq!(signed.key(), Signed::key_of(&keypair.id(), b"profile"));
/// assert!(signed.is_genuine());
/// ```
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signed {
    publisher: PeerId,
    salt: Bytes,
    sequence: u64,
    expires: u64,
    #[serde(with = "payload")]
    value: Bytes,
    /// Serde knows arrays of up to 32 bytes.
    signature: [[u8; 32]; 2],
}

impl Signed {
    /// Signs a value. Of two with one salt the one with the higher sequence number counts; a publisher that signs two
    /// different values with one number keeps either of them. `expires` is in seconds since the Unix epoch.
    ///
    /// A value must not end before the one that it replaces: else whoever has kept that one could store it again when the
    /// newer has ended. Replicas refuse it ([`Refusal::Lifetime`](crate::Refusal)).
    ///
    /// # Errors
    /// The value or the salt is too long.
    pub fn new(
        keypair: &Keypair,
        salt: impl Into<Bytes>,
        sequence: u64,
        expires: u64,
        value: impl Into<Bytes>,
    ) -> Result<Signed, InvalidRecord> {
        let (salt, value) = (salt.into(), value.into());
        let unsigned =
            Signed { publisher: keypair.id(), salt, sequence, expires, value, signature: [[0; 32]; 2] };
        unsigned.fits()?;
        let signature = keypair.sign(&unsigned.message());
        let (first, second) = signature.split_at(32);
        let halves = [first, second].map(|half| half.try_into().expect("64 bytes"));
        Ok(Signed { signature: halves, ..unsigned })
    }

    /// Where a publisher's value with this salt is kept.
    pub fn key_of(publisher: &PeerId, salt: &[u8]) -> Key {
        Key::of(&[b"p2p-dht mutable key\0".as_slice(), publisher.as_bytes(), salt].concat())
    }

    /// Where it is kept.
    pub fn key(&self) -> Key {
        Signed::key_of(&self.publisher, &self.salt)
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
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// When it ends, in seconds since the Unix epoch.
    pub fn expires(&self) -> u64 {
        self.expires
    }

    /// The value.
    pub fn value(&self) -> &Bytes {
        &self.value
    }

    /// Whether the publisher has signed all this.
    pub fn is_genuine(&self) -> bool {
        let signature: Vec<u8> = self.signature.concat();
        let signature: [u8; 64] = signature.try_into().expect("two halves of 32 bytes");
        self.publisher.verify(&self.message(), &signature)
    }

    fn fits(&self) -> Result<(), InvalidRecord> {
        if self.value.len() > MAX_VALUE {
            return Err(InvalidRecord::TooLong { len: self.value.len() });
        }
        match self.salt.len() {
            len if len > MAX_SALT => Err(InvalidRecord::Salt { len }),
            _ => Ok(()),
        }
    }

    /// What is signed: every field, each of known length but the value, which comes last.
    fn message(&self) -> Vec<u8> {
        let mut message = b"p2p-dht mutable record\0".to_vec();
        message.push(self.salt.len() as u8);
        message.extend_from_slice(&self.salt);
        message.extend_from_slice(&self.sequence.to_be_bytes());
        message.extend_from_slice(&self.expires.to_be_bytes());
        message.extend_from_slice(&self.value);
        message
    }
}

impl fmt::Debug for Signed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Signed { publisher, sequence, expires, value, .. } = self;
        write!(f, "Signed({publisher:?}, sequence {sequence}, {} bytes until {expires})", value.len())
    }
}

/// Where a record is kept: of one key there may be a value, a signed value, and any number of providers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Slot<P> {
    /// The key.
    pub key: Key,
    /// What of it.
    pub kind: RecordKind<P>,
}

impl<P> Slot<P> {
    /// Where a value under this key is kept, and that it is removed: of each pair of a secret's hash and a value's there is one.
    fn of_removable(key: Key, owner: &Key, value: &Key) -> Slot<P> {
        let pair = [owner.as_bytes().as_slice(), value.as_bytes()].concat();
        Slot { key, kind: RecordKind::Removable(Key::of(&pair)) }
    }
}

/// What kind of record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum RecordKind<P> {
    /// A value under its hash.
    Immutable,
    /// A signed value.
    Mutable,
    /// That this peer has what the key names.
    Provider(P),
    /// A value, or that it is removed, by the hash of two hashes: that of the secret, and that of the value.
    Removable(Key),
    /// What this namespace has.
    Custom(Key),
}

/// Tells copies of one record apart: the greater replaces the smaller. By the sequence number where there is one, and
/// then by when it ends; of two signed values that have both the same, by the value's hash, so that all replicas keep
/// one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Version {
    /// The sequence number of a signed value or of an application's own; 1 of what is removed; else 0.
    pub sequence: u64,
    /// When it ends, in seconds since the Unix epoch.
    pub expires: u64,
    /// The beginning of the hash of a signed value or of an application's own; else 0.
    pub hash: u64,
}

/// As a worker may keep it.
impl<P: Serialize + DeserializeOwned> Wire for Record<P> {
    /// A value of [`MAX_VALUE`] bytes, and what is said about it.
    const MAX_BYTES: usize = 80 << 10;
}

impl<P: Copy> Record<P> {
    /// Where it is kept. Hashes the value.
    pub fn slot(&self) -> Slot<P> {
        match self {
            Record::Immutable { value, .. } => Slot { key: Key::of(value), kind: RecordKind::Immutable },
            Record::Mutable(signed) => Slot { key: signed.key(), kind: RecordKind::Mutable },
            Record::Provider { key, peer, .. } => Slot { key: *key, kind: RecordKind::Provider(*peer) },
            Record::Removable { key, value, owner, .. } => Slot::of_removable(*key, owner, &Key::of(value)),
            Record::Removed { key, secret, value, .. } => Slot::of_removable(*key, &Key::of(secret), value),
            Record::Custom(custom) => Slot { key: custom.key, kind: RecordKind::Custom(custom.namespace) },
        }
    }

    /// Tells it from other copies.
    pub fn version(&self) -> Version {
        match self {
            Record::Immutable { expires, .. }
            | Record::Provider { expires, .. }
            | Record::Removable { expires, .. } => Version { expires: *expires, ..Version::default() },
            Record::Mutable(signed) => {
                let hash = beginning(&signed.value);
                Version { sequence: signed.sequence, expires: signed.expires, hash }
            }
            Record::Removed { expires, .. } => Version { sequence: 1, expires: *expires, hash: 0 },
            Record::Custom(custom) => {
                let hash = beginning(&custom.value);
                Version { sequence: custom.sequence, expires: custom.expires, hash }
            }
        }
    }

    /// When it ends, in seconds since the Unix epoch.
    pub fn expires(&self) -> u64 {
        match self {
            Record::Immutable { expires, .. }
            | Record::Provider { expires, .. }
            | Record::Removable { expires, .. }
            | Record::Removed { expires, .. } => *expires,
            Record::Mutable(signed) => signed.expires,
            Record::Custom(custom) => custom.expires,
        }
    }

    /// How much room it takes, in bytes.
    pub fn size(&self) -> usize {
        match self {
            Record::Immutable { value, .. } => value.len(),
            Record::Mutable(signed) => signed.value.len() + signed.salt.len() + 128,
            Record::Provider { .. } | Record::Removed { .. } => 128,
            Record::Removable { value, .. } => value.len() + 128,
            Record::Custom(custom) => custom.value.len() + 128,
        }
    }

    /// Whether it fits, and, if it is signed, whether its publisher has signed it. What an application says of a record of its
    /// own, is not asked here.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(&self) -> Result<(), InvalidRecord> {
        match self {
            Record::Immutable { value, .. } if value.len() > MAX_VALUE => {
                Err(InvalidRecord::TooLong { len: value.len() })
            }
            Record::Custom(custom) if custom.value.len() > MAX_VALUE => {
                Err(InvalidRecord::TooLong { len: custom.value.len() })
            }
            Record::Removable { value, .. } if value.len() > MAX_REMOVABLE => {
                Err(InvalidRecord::TooLongToRemove { len: value.len() })
            }
            Record::Immutable { .. }
            | Record::Provider { .. }
            | Record::Removable { .. }
            | Record::Removed { .. }
            | Record::Custom(_) => Ok(()),
            Record::Mutable(signed) => {
                signed.fits()?;
                signed.is_genuine().then_some(()).ok_or(InvalidRecord::Signature)
            }
        }
    }
}

/// The first eight bytes of a hash.
fn beginning(value: &[u8]) -> u64 {
    let hash = blake3::hash(value);
    hash.as_bytes().iter().take(8).fold(0, |first, byte| first << 8 | u64::from(*byte))
}

/// Why something is not a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum InvalidRecord {
    /// The value is too long.
    #[error("a value of {len} bytes; at most {MAX_VALUE} are kept")]
    TooLong {
        /// How long it is, in bytes.
        len: usize,
    },
    /// The value that can be removed is too long.
    #[error("a value of {len} bytes; at most {MAX_REMOVABLE} are kept of one that can be removed")]
    TooLongToRemove {
        /// How long it is, in bytes.
        len: usize,
    },
    /// The salt is too long.
    #[error("a salt of {len} bytes; it has at most {MAX_SALT}")]
    Salt {
        /// How long it is, in bytes.
        len: usize,
    },
    /// The publisher has not signed it.
    #[error("the signature is not the publisher's")]
    Signature,
    /// It has ended, or ends later than is allowed.
    #[error("it ends in the past or too far in the future")]
    Lifetime,
    /// It is of an application's namespace for which this node has no validator.
    #[error("no validator for its namespace: give the node one, Replicated::with_validator")]
    Namespace,
    /// Its namespace's validator does not let it through.
    #[error("the application's validator does not let it through: {0}")]
    Rejected(Rejection),
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn signed(sequence: u64, value: &'static str) -> Signed {
        Signed::new(&Keypair::from_seed(&[7; 32]), "salt", sequence, 1000, value).expect("it fits")
    }

    #[test]
    fn a_change_of_any_field_breaks_the_signature() {
        let good = signed(3, "value");
        assert!(good.is_genuine());
        let forged = [
            Signed { publisher: Keypair::from_seed(&[8; 32]).id(), ..good.clone() },
            Signed { salt: "tlas".into(), ..good.clone() },
            Signed { sequence: 4, ..good.clone() },
            Signed { expires: 1001, ..good.clone() },
            Signed { value: "Value".into(), ..good.clone() },
            // A byte moved from the salt to the value.
            Signed { salt: "sal".into(), value: "tvalue".into(), ..good.clone() },
        ];
        for record in forged {
            assert_eq!(Record::<u8>::Mutable(record).check(), Err(InvalidRecord::Signature));
        }
    }

    #[test]
    fn what_is_too_long_is_not_signed_or_kept() {
        let keypair = Keypair::from_seed(&[7; 32]);
        let long = vec![0; MAX_VALUE + 1];
        let error = Signed::new(&keypair, "", 1, 1, long.clone()).unwrap_err();
        assert_eq!(error, InvalidRecord::TooLong { len: MAX_VALUE + 1 });
        assert!(Signed::new(&keypair, "", 1, 1, vec![0; MAX_VALUE]).is_ok());
        let error = Signed::new(&keypair, vec![0; MAX_SALT + 1], 1, 1, "").unwrap_err();
        assert_eq!(error, InvalidRecord::Salt { len: MAX_SALT + 1 });
        assert!(Record::<u8>::Immutable { value: long.into(), expires: 1 }.check().is_err());
    }

    #[test]
    fn a_value_that_spells_a_publishers_key_does_not_take_its_place() {
        let signed = signed(1, "value");
        let spelt = [b"p2p-dht mutable key\0".as_slice(), signed.publisher.as_bytes(), &signed.salt].concat();
        let record = Record::<u8>::Immutable { value: spelt.into(), expires: 1 };
        assert_eq!(record.slot().key, signed.key());
        assert_ne!(record.slot(), Record::Mutable(signed).slot());
    }

    proptest! {
        #[test]
        fn the_newer_replaces_the_older(a in 0u64..9, b in 0u64..9) {
            let version = |sequence, value| Record::<u8>::Mutable(signed(sequence, value)).version();
            prop_assert_eq!(version(a, "x") < version(b, "x"), a < b);
            prop_assert_ne!(version(a, "x"), version(b, "y"));
        }
    }
}
