//! A key as text.

use std::fmt;
use std::str::FromStr;

use data_encoding::BASE32_NOPAD;

use crate::id::{Kind, PublicKey};
use crate::lock::Lock;

/// Whom to pay, on which chain. Its text form is 64 characters of lower-case base32, with a checksum: of mistyped ones one
/// of four thousand million goes unnoticed.
///
/// ```
/// use p2p_ledger::{Address, PublicKey};
///
/// let address = Address { chain: 1, key: PublicKey([7; 32]) };
/// assert_eq!(address.to_string().parse(), Ok(address));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Address {
    /// The chain's number.
    pub chain: u32,
    /// The key.
    pub key: PublicKey,
}

impl Address {
    /// What an output for it is locked by.
    pub fn lock(&self) -> Lock {
        Lock::Key(self.key)
    }

    fn bytes(&self) -> [u8; 40] {
        let mut bytes = [0; 40];
        bytes[..4].copy_from_slice(&self.chain.to_le_bytes());
        bytes[4..36].copy_from_slice(&self.key.0);
        let sum = Kind::Address.hash(&bytes[..36]);
        bytes[36..].copy_from_slice(&sum.as_bytes()[..4]);
        bytes
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE32_NOPAD.encode(&self.bytes()).to_ascii_lowercase())
    }
}

/// A text that is no address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "an address is 64 characters of base32 (a-z, 2-7), the last of which check the others; {0:?} is none: copy it again"
)]
pub struct ParseAddressError(String);

impl FromStr for Address {
    type Err = ParseAddressError;

    fn from_str(text: &str) -> Result<Address, ParseAddressError> {
        let read = || {
            let bytes = BASE32_NOPAD.decode(text.to_ascii_uppercase().as_bytes()).ok()?;
            let (chain, rest) = bytes.split_first_chunk::<4>()?;
            let (key, _) = rest.split_first_chunk::<32>()?;
            let address = Address { chain: u32::from_le_bytes(*chain), key: PublicKey(*key) };
            (address.bytes() == bytes[..]).then_some(address)
        };
        read().ok_or_else(|| ParseAddressError(text.chars().take(80).collect()))
    }
}
