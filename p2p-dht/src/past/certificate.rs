//! What owners sign: that a file is theirs, and that they want its room back.

use std::fmt;
use std::ops::RangeInclusive;

use p2p_core::{Key, Keypair, PeerId};
use serde::{Deserialize, Serialize};

/// The longest file, in bytes: 1 MiB. One message carries it.
pub const MAX_FILE: usize = 1 << 20;
/// The longest name of a file, in bytes.
pub const MAX_FILE_NAME: usize = 255;
/// The most replicas of a file.
pub const MAX_COPIES: u8 = 16;

/// A file certificate (§2.1): what there is to know of a file but its content.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    owner: PeerId,
    name: Box<str>,
    salt: u32,
    replicas: u8,
    made: u64,
    size: u64,
    content: Key,
    /// Serde knows arrays of up to 32 bytes.
    signature: [[u8; 32]; 2],
}

/// Why something cannot be kept as a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidFile {
    /// It is too long.
    #[error("a file of {len} bytes; it may have {MAX_FILE}: CFS keeps longer ones, in blocks")]
    TooLong {
        /// How long it is, in bytes.
        len: usize,
    },
    /// Its name is too long.
    #[error("a name of {len} bytes; it may have {MAX_FILE_NAME}")]
    Name {
        /// How long it is, in bytes.
        len: usize,
    },
}

impl Certificate {
    /// Signs for a file: its name and salt, of which its id is made, its content, and how many are to keep it; and when this
    /// was `made`, in milliseconds since the Unix epoch, by which a [`Reclaim`] tells this insert from a later one.
    ///
    /// # Errors
    /// The file or its name is too long.
    pub fn new(
        owner: &Keypair,
        name: &str,
        salt: u32,
        replicas: u8,
        made: u64,
        content: &[u8],
    ) -> Result<Certificate, InvalidFile> {
        if content.len() > MAX_FILE {
            return Err(InvalidFile::TooLong { len: content.len() });
        }
        if name.len() > MAX_FILE_NAME {
            return Err(InvalidFile::Name { len: name.len() });
        }
        let (size, replicas) = (content.len() as u64, replicas.clamp(1, MAX_COPIES));
        let (name, content, signature) = (name.into(), Key::of(content), [[0; 32]; 2]);
        let unsigned =
            Certificate { owner: owner.id(), name, salt, replicas, made, size, content, signature };
        let signature = halves(owner.sign(&unsigned.message()));
        Ok(Certificate { signature, ..unsigned })
    }

    /// The id of an owner's file with this name and salt.
    pub fn file_id(owner: &PeerId, name: &str, salt: u32) -> Key {
        let id = [b"p2p-dht past file\0".as_slice(), owner.as_bytes(), &salt.to_be_bytes(), name.as_bytes()];
        Key::of(&id.concat())
    }

    /// The file's id.
    pub fn file(&self) -> Key {
        Certificate::file_id(&self.owner, &self.name, self.salt)
    }

    /// Whose file it is.
    pub fn owner(&self) -> PeerId {
        self.owner
    }

    /// What its owner calls it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How often it was diverted.
    pub fn salt(&self) -> u32 {
        self.salt
    }

    /// How many nodes are to keep it.
    pub fn replicas(&self) -> u8 {
        self.replicas
    }

    /// When it was signed, in milliseconds since the Unix epoch, as the owner says.
    pub fn made(&self) -> u64 {
        self.made
    }

    /// How many bytes the content has.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The content's BLAKE3 hash.
    pub fn content(&self) -> Key {
        self.content
    }

    /// What can be said without a look at hash and signature.
    pub(super) fn is_plausible(&self, content: &[u8]) -> bool {
        content.len() as u64 == self.size
            && content.len() <= MAX_FILE
            && self.name.len() <= MAX_FILE_NAME
            && (1..=MAX_COPIES).contains(&self.replicas)
    }

    /// Whether the owner has signed this, for this content.
    pub fn is_genuine(&self, content: &[u8]) -> bool {
        self.is_plausible(content)
            && Key::of(content) == self.content
            && self.owner.verify(&self.message(), &whole(&self.signature))
    }

    /// Every field, each of known length but the name, which comes last.
    fn message(&self) -> Vec<u8> {
        let mut message = b"p2p-dht past certificate\0".to_vec();
        message.extend_from_slice(&self.salt.to_be_bytes());
        message.push(self.replicas);
        message.extend_from_slice(&self.made.to_be_bytes());
        message.extend_from_slice(&self.size.to_be_bytes());
        message.extend_from_slice(self.content.as_bytes());
        message.extend_from_slice(self.name.as_bytes());
        message
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Certificate { owner, name, salt, size, .. } = self;
        write!(f, "Certificate({name:?} of {owner:?}, salt {salt}, {size} bytes)")
    }
}

/// A reclaim certificate (§2.1): the owner does not need a file any more. It says when that was inserted: whoever says it again
/// later frees nothing that was inserted since.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reclaim {
    owner: PeerId,
    file: Key,
    from: u64,
    until: u64,
    signature: [[u8; 32]; 2],
}

impl Reclaim {
    /// Signs for it: for what was [made](Certificate::made) then.
    pub fn new(owner: &Keypair, file: Key, made: RangeInclusive<u64>) -> Reclaim {
        let (from, until) = made.into_inner();
        let unsigned = Reclaim { owner: owner.id(), file, from, until, signature: [[0; 32]; 2] };
        Reclaim { signature: halves(owner.sign(&unsigned.message())), ..unsigned }
    }

    /// Which file.
    pub fn file(&self) -> Key {
        self.file
    }

    /// Whether the owner of a file has signed this, and for this insert of it.
    pub fn frees(&self, certificate: &Certificate) -> bool {
        certificate.owner == self.owner
            && (self.from..=self.until).contains(&certificate.made)
            && certificate.file() == self.file
            && self.owner.verify(&self.message(), &whole(&self.signature))
    }

    fn message(&self) -> Vec<u8> {
        let (from, until) = (self.from.to_be_bytes(), self.until.to_be_bytes());
        [b"p2p-dht past reclaim\0".as_slice(), self.file.as_bytes(), &from, &until].concat()
    }
}

fn halves(signature: [u8; 64]) -> [[u8; 32]; 2] {
    let (first, second) = signature.split_at(32);
    [first, second].map(|half| half.try_into().expect("64 bytes"))
}

fn whole(signature: &[[u8; 32]; 2]) -> [u8; 64] {
    signature.concat().try_into().expect("two halves of 32 bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_of_any_field_breaks_the_certificate() {
        let [ada, bob] = [1, 2].map(|seed| Keypair::from_seed(&[seed; 32]));
        let good = Certificate::new(&ada, "song", 1, 5, 1000, b"la la").expect("it fits");
        assert!(good.is_genuine(b"la la"));
        assert!(!good.is_genuine(b"la lo") && !good.is_genuine(b"la la la"));
        let forged = [
            Certificate { owner: bob.id(), ..good.clone() },
            Certificate { name: "gong".into(), ..good.clone() },
            Certificate { salt: 2, ..good.clone() },
            Certificate { replicas: 4, ..good.clone() },
            Certificate { made: 1001, ..good.clone() },
        ];
        assert!(forged.iter().all(|forged| !forged.is_genuine(b"la la")));
        let reclaim = |owner: &Keypair, made| Reclaim::new(owner, good.file(), made);
        assert!(reclaim(&ada, 0..=1000).frees(&good) && reclaim(&ada, 1000..=1000).frees(&good));
        assert!(!reclaim(&ada, 0..=999).frees(&good) && !reclaim(&ada, 1001..=2000).frees(&good));
        assert!(!Reclaim { until: 1000, ..reclaim(&ada, 0..=999) }.frees(&good));
        assert!(!Reclaim { from: 1000, ..reclaim(&ada, 1001..=2000) }.frees(&good));
        assert!(!reclaim(&bob, 0..=1000).frees(&good));
        assert!(!Reclaim { owner: ada.id(), ..reclaim(&bob, 0..=1000) }.frees(&good));
        let other = Certificate::new(&ada, "song", 2, 5, 1000, b"la la").expect("it fits");
        assert!(!Reclaim::new(&ada, other.file(), 0..=1000).frees(&good));
    }

    #[test]
    fn what_is_too_long_is_not_signed() {
        let ada = Keypair::from_seed(&[1; 32]);
        let long = vec![0; MAX_FILE + 1];
        let error = Certificate::new(&ada, "song", 0, 5, 0, &long).unwrap_err();
        assert_eq!(error, InvalidFile::TooLong { len: MAX_FILE + 1 });
        let error = Certificate::new(&ada, &"x".repeat(256), 0, 5, 0, b"").unwrap_err();
        assert_eq!(error, InvalidFile::Name { len: 256 });
    }
}
