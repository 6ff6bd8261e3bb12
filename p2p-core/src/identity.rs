//! Who a peer is: an ed25519 key pair, and the public half as its name (RFC 8032).

use std::fmt;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use data_encoding::BASE32_NOPAD;
use ed25519_dalek::{Signer, SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::Key;

/// A peer's name: its ed25519 public key. A connection has proved it; in a message it is hearsay. Its text
/// form is 52 characters of lower-case base32.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PeerId([u8; 32]);

impl PeerId {
    /// The id with these bytes. They need not be a valid curve point: nobody can then prove to be this peer.
    pub const fn from_bytes(bytes: [u8; 32]) -> PeerId {
        PeerId(bytes)
    }

    /// The public key's bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Where this peer stands in an overlay: BLAKE3 of the id, so that a position cannot be chosen freely.
    pub fn key(&self) -> Key {
        Key::of(&self.0)
    }

    /// Whether this peer signed these bytes (strict: no small-order keys, no malleable signatures).
    pub fn verify(&self, message: &[u8], signature: &[u8; 64]) -> bool {
        let signature = ed25519_dalek::Signature::from_bytes(signature);
        VerifyingKey::from_bytes(&self.0).is_ok_and(|key| key.verify_strict(message, &signature).is_ok())
    }
}

impl fmt::Display for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE32_NOPAD.encode(&self.0).to_ascii_lowercase())
    }
}

impl fmt::Debug for PeerId {
    /// The first characters: enough to tell peers apart in a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_string()[..8])
    }
}

/// A text that is not a [`PeerId`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a peer id is 52 characters of base32 (a-z, 2-7); {0:?} is not")]
pub struct ParsePeerIdError(String);

impl FromStr for PeerId {
    type Err = ParsePeerIdError;

    fn from_str(text: &str) -> Result<PeerId, ParsePeerIdError> {
        BASE32_NOPAD
            .decode(text.to_ascii_uppercase().as_bytes())
            .ok()
            .and_then(|bytes| bytes.try_into().ok())
            .map(PeerId)
            .ok_or_else(|| ParsePeerIdError(text.chars().take(80).collect()))
    }
}

/// A peer's secret: an ed25519 key pair, wiped from memory when dropped and never printed.
///
/// ```
/// use p2p_core::Keypair;
///
/// let keypair = Keypair::generate();
/// let signature = keypair.sign(b"hello");
/// assert!(keypair.id().verify(b"hello", &signature));
/// assert!(!keypair.id().verify(b"hallo", &signature));
/// ```
#[derive(Clone)]
pub struct Keypair(SigningKey);

impl Keypair {
    /// A new key pair from the operating system's random source.
    ///
    /// # Panics
    /// If the operating system has no random numbers to give.
    pub fn generate() -> Keypair {
        let mut seed = Zeroizing::new([0; 32]);
        getrandom::fill(&mut *seed).expect("the operating system gives no random numbers");
        Keypair::from_seed(&seed)
    }

    /// The key pair of a 32-byte secret (RFC 8032 §5.1.5).
    pub fn from_seed(seed: &[u8; 32]) -> Keypair {
        Keypair(SigningKey::from_bytes(seed))
    }

    /// The public half.
    pub fn id(&self) -> PeerId {
        PeerId(self.0.verifying_key().to_bytes())
    }

    /// Signs a message.
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.0.sign(message).to_bytes()
    }

    /// The key pair in this file; a new one, saved there, if there is no such file.
    ///
    /// # Errors
    /// As [`Keypair::load`] and [`Keypair::save`].
    pub fn load_or_create(path: impl AsRef<Path>) -> Result<Keypair, KeyFileError> {
        let path = path.as_ref();
        match Keypair::load(path) {
            Err(KeyFileError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
            loaded => return loaded,
        }
        let keypair = Keypair::generate();
        match keypair.save(path) {
            // Another process made it between the two looks.
            Err(KeyFileError::Io { source, .. }) if source.kind() == io::ErrorKind::AlreadyExists => {
                Keypair::load(path)
            }
            saved => saved.map(|()| keypair),
        }
    }

    /// Reads a file written by [`Keypair::save`].
    ///
    /// # Errors
    /// The file cannot be read, holds something else, or others may read it too.
    #[allow(clippy::disallowed_methods, reason = "a key file is read before any runner exists")]
    pub fn load(path: impl AsRef<Path>) -> Result<Keypair, KeyFileError> {
        let path = path.as_ref();
        let io = |source| KeyFileError::Io { path: path.to_owned(), source };
        let file = std::fs::File::open(path).map_err(io)?;
        private(&file, path)?;
        let mut text = Zeroizing::new(String::new());
        // One byte too many, if there are: a longer file is no key file, whatever it begins with.
        file.take(LONGEST + 1).read_to_string(&mut text).map_err(io)?;
        let whole = Some(text.trim_end()).filter(|_| text.len() as u64 <= LONGEST);
        let seed = whole.and_then(|text| text.strip_prefix(PREFIX)).and_then(|base32| {
            Zeroizing::new(BASE32_NOPAD.decode(base32.to_ascii_uppercase().as_bytes()).ok()?)
                .as_slice()
                .try_into()
                .map(Zeroizing::<[u8; 32]>::new)
                .ok()
        });
        let seed = seed.ok_or_else(|| KeyFileError::Format { path: path.to_owned() })?;
        Ok(Keypair::from_seed(&seed))
    }

    /// Writes the secret to a new file that only its owner may read (`0600`), and syncs it.
    ///
    /// # Errors
    /// The file exists already or cannot be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<(), KeyFileError> {
        let path = path.as_ref();
        let seed = Zeroizing::new(self.0.to_bytes());
        let base32 = Zeroizing::new(BASE32_NOPAD.encode(&*seed).to_ascii_lowercase());
        let text = Zeroizing::new(format!("{PREFIX}{}\n", *base32));
        let mut options = std::fs::OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let written = options.open(path).and_then(|mut file| {
            file.write_all(text.as_bytes())?;
            file.sync_all()
        });
        written.map_err(|source| KeyFileError::Io { path: path.to_owned(), source })
    }
}

/// The longest key file, in bytes, blanks at its end included.
const LONGEST: u64 = 256;

const PREFIX: &str = "ed25519-secret ";

#[cfg(unix)]
fn private(file: &std::fs::File, path: &Path) -> Result<(), KeyFileError> {
    use std::os::unix::fs::PermissionsExt;
    let metadata = file.metadata().map_err(|source| KeyFileError::Io { path: path.to_owned(), source })?;
    match metadata.permissions().mode() & 0o077 {
        0 => Ok(()),
        _ => Err(KeyFileError::Exposed { path: path.to_owned() }),
    }
}

#[cfg(not(unix))]
fn private(_: &std::fs::File, _: &Path) -> Result<(), KeyFileError> {
    Ok(())
}

impl fmt::Debug for Keypair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keypair({:?}, secret)", self.id())
    }
}

/// Why a key file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// The file system said no.
    #[error("key file {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the file system said.
        source: io::Error,
    },
    /// It holds something else.
    #[error("{} is not a key file: expected one line, \"{PREFIX}\" and 52 characters of base32", path.display())]
    Format {
        /// The file.
        path: PathBuf,
    },
    /// Users other than the owner may read or write it.
    #[error("key file {} is open to other users: run `chmod 600` on it", path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 8032 §7.1, test 2.
    #[test]
    fn signatures_are_those_of_the_rfc() {
        let hex = |text: &str| data_encoding::HEXLOWER.decode(text.as_bytes()).unwrap();
        let seed = hex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb");
        let keypair = Keypair::from_seed(&seed.try_into().unwrap());
        let id = hex("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c");
        assert_eq!(keypair.id().as_bytes()[..], id);
        let signature = hex(
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c\
             387b2eaeb4302aeeb00d291612bb0c00",
        );
        assert_eq!(keypair.sign(&[0x72])[..], signature);
        assert!(keypair.id().verify(&[0x72], &keypair.sign(&[0x72])));
    }

    #[test]
    fn a_key_file_comes_back_and_only_the_owner_reads_it() {
        let dir = std::env::temp_dir().join(format!("p2p-key-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let path = dir.join("key");
        let made = Keypair::load_or_create(&path).unwrap();
        assert_eq!(Keypair::load_or_create(&path).unwrap().id(), made.id());
        assert!(matches!(made.save(&path), Err(KeyFileError::Io { .. })), "never overwrites");
        let text = std::fs::read_to_string(&path).unwrap();
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
            assert!(matches!(Keypair::load(&path), Err(KeyFileError::Exposed { .. })));
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        }
        std::fs::write(&path, "ed25519-secret short\n").unwrap();
        assert!(matches!(Keypair::load(&path), Err(KeyFileError::Format { .. })));
        std::fs::write(&path, format!("{text}{}x", " ".repeat(300))).unwrap();
        assert!(matches!(Keypair::load(&path), Err(KeyFileError::Format { .. })), "a key, and then more");
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn the_secret_is_not_printed() {
        let text = format!("{:?}", Keypair::from_seed(&[7; 32]));
        assert!(text.ends_with(", secret)") && text.len() < 30, "{text}");
    }
}
