//! Keys and what is kept under them (§3.1): data that anybody can check.

use bytes::Bytes;
use p2p_core::{Key, Keypair, PeerId, payload};
use serde::{Deserialize, Serialize};

use super::request::FreenetError;

/// The longest data of one block, in bytes: longer files are split (§3.1). 32 KiB, as in Freenet's programs since 0.7.
pub const MAX_BLOCK: usize = 32 << 10;

/// Data that proves by itself that it belongs under its key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FreenetBlock {
    /// Under its content-hash key (CHK): BLAKE3 of the data.
    Content(#[serde(with = "payload")] Bytes),
    /// Under a keyword-signed key (KSK): the keyword gives a key pair, whose public half gives the key, and whose private
    /// half signs. Whoever knows the keyword can sign other data: it guards against nobody else.
    Keyword {
        /// The public half.
        signer: PeerId,
        /// Of the data, by the private half.
        signature: [[u8; 32]; 2],
        /// What was signed.
        #[serde(with = "payload")]
        data: Bytes,
    },
}

fn keypair(keyword: &str) -> Keypair {
    let seed = Key::of(&[b"freenet keyword\0", keyword.as_bytes()].concat());
    Keypair::from_seed(seed.as_bytes())
}

/// No content has this key: it is the hash of other bytes than a content of 32 bytes would be.
fn key_of(signer: &PeerId) -> Key {
    Key::of(&[b"freenet signer\0".as_slice(), signer.as_bytes()].concat())
}

fn signed(data: &[u8]) -> Vec<u8> {
    [b"freenet data\0", data].concat()
}

impl FreenetBlock {
    /// Data under its hash.
    ///
    /// # Errors
    /// [`FreenetError::TooLong`]: it is longer than [`MAX_BLOCK`].
    pub fn content(data: impl Into<Bytes>) -> Result<FreenetBlock, FreenetError> {
        let data = data.into();
        if data.len() > MAX_BLOCK { Err(FreenetError::TooLong) } else { Ok(FreenetBlock::Content(data)) }
    }

    /// Data under a keyword.
    ///
    /// # Errors
    /// [`FreenetError::TooLong`].
    pub fn keyword(keyword: &str, data: impl Into<Bytes>) -> Result<FreenetBlock, FreenetError> {
        let data = data.into();
        if data.len() > MAX_BLOCK {
            return Err(FreenetError::TooLong);
        }
        let keypair = keypair(keyword);
        let signature = keypair.sign(&signed(&data));
        let (mut first, mut second) = ([0; 32], [0; 32]);
        first.copy_from_slice(&signature[..32]);
        second.copy_from_slice(&signature[32..]);
        Ok(FreenetBlock::Keyword { signer: keypair.id(), signature: [first, second], data })
    }

    /// The key that a keyword stands for.
    pub fn keyword_key(keyword: &str) -> Key {
        key_of(&keypair(keyword).id())
    }

    /// The key it belongs under.
    pub fn key(&self) -> Key {
        match self {
            FreenetBlock::Content(data) => Key::of(data),
            FreenetBlock::Keyword { signer, .. } => key_of(signer),
        }
    }

    /// The data.
    pub fn data(&self) -> &Bytes {
        match self {
            FreenetBlock::Content(data) | FreenetBlock::Keyword { data, .. } => data,
        }
    }

    /// Whether it belongs under this key: what a node asks before it keeps a block or passes it on.
    pub fn belongs(&self, key: &Key) -> bool {
        let right = self.data().len() <= MAX_BLOCK && self.key() == *key;
        right
            && match self {
                FreenetBlock::Content(_) => true,
                FreenetBlock::Keyword { signer, signature, data } => {
                    let mut whole = [0; 64];
                    whole[..32].copy_from_slice(&signature[0]);
                    whole[32..].copy_from_slice(&signature[1]);
                    signer.verify(&signed(data), &whole)
                }
            }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_belongs_under_its_own_key_only() {
        let content = FreenetBlock::content("text").unwrap();
        let keyword = FreenetBlock::keyword("a word", "text").unwrap();
        assert_eq!(content.key(), Key::of(b"text"));
        assert_eq!(keyword.key(), FreenetBlock::keyword_key("a word"));
        assert!(content.belongs(&content.key()) && keyword.belongs(&keyword.key()));
        assert!(!content.belongs(&keyword.key()) && !keyword.belongs(&content.key()));
        let FreenetBlock::Keyword { signer, signature, .. } = keyword.clone() else { unreachable!() };
        let forged = FreenetBlock::Keyword { signer, signature, data: "other".into() };
        assert!(forged.key() == keyword.key() && !forged.belongs(&keyword.key()));
        assert_eq!(FreenetBlock::content(vec![0; MAX_BLOCK + 1]), Err(FreenetError::TooLong));
    }
}
