//! What things are called: hashes that cannot be taken for each other.
//!
//! Everything is hashed by BLAKE3 in its keyed mode, under a public key that says what it is (a *domain tag*): the hash of
//! a transaction is never that of a node of a Merkle tree, whatever their bytes are. A tag has the 32 bytes that a
//! key has, so it costs nothing.

use std::fmt;

use p2p_core::Key;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::codec::{Decode, Encode, InvalidEncoding, Reader};

/// What is hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// A transaction without its witnesses.
    Transaction,
    /// A transaction with them.
    Witnessed,
    /// A block's header.
    Header,
    /// A leaf of the Merkle tree over a block's transactions.
    Leaf,
    /// An inner node of it.
    Node,
    /// Its top and how many leaves there are.
    Root,
    /// The preimage of a lock.
    Preimage,
    /// A header without its seal, which an authority signs.
    Sealed,
    /// What a batch of signatures draws its coefficients from, and what is remembered of good ones.
    Signatures,
    /// A name that somebody is going to claim.
    Commitment,
    /// A topic of a board.
    Topic,
    /// What the short names of one block's transactions are drawn under.
    ShortIds,
    /// What is paid to, whose hash checks its text.
    Address,
}

impl Kind {
    const fn tag(self) -> &'static [u8; 32] {
        match self {
            Kind::Transaction => b"p2p-ledger/1 transaction        ",
            Kind::Witnessed => b"p2p-ledger/1 witnessed          ",
            Kind::Header => b"p2p-ledger/1 header             ",
            Kind::Leaf => b"p2p-ledger/1 merkle leaf        ",
            Kind::Node => b"p2p-ledger/1 merkle node        ",
            Kind::Root => b"p2p-ledger/1 merkle root        ",
            Kind::Preimage => b"p2p-ledger/1 preimage           ",
            Kind::Sealed => b"p2p-ledger/1 sealed header      ",
            Kind::Signatures => b"p2p-ledger/1 signatures         ",
            Kind::Commitment => b"p2p-ledger/1 name commitment    ",
            Kind::Topic => b"p2p-ledger/1 topic              ",
            Kind::ShortIds => b"p2p-ledger/1 short ids          ",
            Kind::Address => b"p2p-ledger/1 address            ",
        }
    }

    /// The hash of something of this kind.
    pub fn hash(self, bytes: &[u8]) -> Key {
        Key::new(*blake3::keyed_hash(self.tag(), bytes).as_bytes())
    }

    /// A hasher for something of this kind that comes in parts.
    pub(crate) fn hasher(self) -> blake3::Hasher {
        blake3::Hasher::new_keyed(self.tag())
    }
}

/// SHA-256 twice, as Bitcoin shows such hashes: the last byte first.
pub(crate) fn twice(bytes: &[u8]) -> Key {
    let mut hash: [u8; 32] = Sha256::digest(Sha256::digest(bytes)).into();
    hash.reverse();
    Key::new(hash)
}

/// A hash of Bitcoin's as it travels, the other way round than it is shown and kept.
pub(crate) fn reversed(input: &mut Reader<'_>) -> Result<Key, InvalidEncoding> {
    let mut bytes = input.array::<32>()?;
    bytes.reverse();
    Ok(Key::new(bytes))
}

/// Writes one.
pub(crate) fn put_reversed(out: &mut Vec<u8>, hash: &Key) {
    out.extend(hash.as_bytes().iter().rev());
}

/// Names a transaction by what it does: its witnesses, which others can write differently, do not count.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TxId(pub Key);

/// Names a transaction with its witnesses.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct WtxId(pub Key);

/// Names a block by its header's hash, as a number with the most significant byte first: that is what proof of work
/// compares, and how Bitcoin's hashes are shown.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct BlockId(pub Key);

impl BlockId {
    /// What the first block names as the one before it.
    pub const NONE: BlockId = BlockId(Key::ZERO);
}

impl fmt::Display for TxId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for WtxId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for BlockId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for TxId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TxId({:.8})", self.0.to_string())
    }
}

impl fmt::Debug for WtxId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WtxId({:.8})", self.0.to_string())
    }
}

impl fmt::Debug for BlockId {
    /// The last digits: those of a block with work begin with zeros.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BlockId(…{})", &self.0.to_string()[56..])
    }
}

impl Encode for Key {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.as_bytes());
    }
}

impl Decode for Key {
    fn decode(input: &mut Reader<'_>) -> Result<Key, InvalidEncoding> {
        input.array().map(Key::new)
    }
}

/// An ed25519 public key that owns something or has to sign something. Its 32 bytes need not be a point of the curve:
/// then nobody can.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey(pub [u8; 32]);

impl From<p2p_core::PeerId> for PublicKey {
    fn from(id: p2p_core::PeerId) -> PublicKey {
        PublicKey(*id.as_bytes())
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({:?})", p2p_core::PeerId::from_bytes(self.0))
    }
}

impl Encode for PublicKey {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0);
    }
}

impl Decode for PublicKey {
    fn decode(input: &mut Reader<'_>) -> Result<PublicKey, InvalidEncoding> {
        input.array().map(PublicKey)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KINDS: [Kind; 13] = [
        Kind::Transaction,
        Kind::Witnessed,
        Kind::Header,
        Kind::Leaf,
        Kind::Node,
        Kind::Root,
        Kind::Preimage,
        Kind::Sealed,
        Kind::Signatures,
        Kind::Commitment,
        Kind::Topic,
        Kind::ShortIds,
        Kind::Address,
    ];

    #[test]
    fn the_same_bytes_have_another_hash_as_each_kind_of_thing() {
        let mut hashes: Vec<Key> = KINDS.iter().map(|kind| kind.hash(b"the same")).collect();
        hashes.push(Key::of(b"the same"));
        hashes.sort();
        hashes.dedup();
        assert_eq!(hashes.len(), KINDS.len() + 1);
    }
}
