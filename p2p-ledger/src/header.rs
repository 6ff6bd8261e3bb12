//! Headers: of fixed size, each naming the one before it (Nakamoto 2008, §3, §4, §7).
//!
//! [`BlockHeader`] is ours, with a seal that its consensus looks at: [`Work`] or an [`Endorsement`]. [`BitcoinHeader`] is
//! Bitcoin's, in 80 bytes.

use p2p_core::Key;

use crate::codec::{Decode, Encode, InvalidEncoding, Reader};
use crate::id::{BlockId, Kind, put_reversed, reversed, twice};
use crate::target::Compact;

/// What a chain needs to know of a header, whatever its format.
pub trait Header: Encode + Decode + Clone + std::fmt::Debug + PartialEq + Send + Sync + 'static {
    /// Its name: the hash of all of it.
    fn id(&self) -> BlockId;
    /// The name of the one before it.
    fn previous(&self) -> BlockId;
    /// The root of the Merkle tree over its transactions.
    fn root(&self) -> Key;
    /// When it says it was made, in seconds since the Unix epoch.
    fn time(&self) -> u64;
    /// The height that it says it has, if it says so.
    fn height(&self) -> Option<u64> {
        None
    }
}

/// A header that work is put into.
pub trait WorkHeader: Header {
    /// A header that waits for its nonce. Formats that have no height leave that out, those with 32 bits of time the rest.
    fn draft(height: u64, previous: BlockId, root: Key, time: u64, bits: Compact) -> Self;
    /// The target that it claims to have met.
    fn bits(&self) -> Compact;
    /// With another nonce. Formats with a short nonce take its lowest bits.
    fn set_nonce(&mut self, nonce: u64);
}

/// A header of our own: 80 bytes and the seal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockHeader<S> {
    /// How many blocks are before it.
    pub height: u64,
    /// The block before it.
    pub previous: BlockId,
    /// The root of the Merkle tree over its transactions.
    pub root: Key,
    /// When it was made, in seconds since the Unix epoch.
    pub time: u64,
    /// Why it counts.
    pub seal: S,
}

/// The seal of proof of work: BLAKE3 over the header, as a number, is at most the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Work {
    /// The target.
    pub bits: Compact,
    /// What makes the hash low enough.
    pub nonce: u64,
}

/// The seal of proof of authority.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endorsement {
    /// Which of the signers, from 0.
    pub signer: u16,
    /// Its signature of the header without this.
    pub signature: [u8; 64],
}

impl<S> Header for BlockHeader<S>
where
    S: Encode + Decode + Clone + std::fmt::Debug + PartialEq + Send + Sync + 'static,
{
    fn id(&self) -> BlockId {
        let mut bytes = Vec::with_capacity(160);
        self.encode(&mut bytes);
        BlockId(Kind::Header.hash(&bytes))
    }

    fn previous(&self) -> BlockId {
        self.previous
    }

    fn root(&self) -> Key {
        self.root
    }

    fn time(&self) -> u64 {
        self.time
    }

    fn height(&self) -> Option<u64> {
        Some(self.height)
    }
}

impl WorkHeader for BlockHeader<Work> {
    fn draft(height: u64, previous: BlockId, root: Key, time: u64, bits: Compact) -> Self {
        BlockHeader { height, previous, root, time, seal: Work { bits, nonce: 0 } }
    }

    fn bits(&self) -> Compact {
        self.seal.bits
    }

    fn set_nonce(&mut self, nonce: u64) {
        self.seal.nonce = nonce;
    }
}

impl BlockHeader<Endorsement> {
    /// What the signer signs: everything but the signature.
    pub(crate) fn signed_hash(&self) -> Key {
        let mut bytes = Vec::with_capacity(86);
        self.encode_unsealed(&mut bytes);
        bytes.extend_from_slice(&self.seal.signer.to_le_bytes());
        Kind::Sealed.hash(&bytes)
    }
}

impl<S> BlockHeader<S> {
    fn encode_unsealed(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.height.to_le_bytes());
        self.previous.0.encode(out);
        self.root.encode(out);
        out.extend_from_slice(&self.time.to_le_bytes());
    }
}

impl<S: Encode> Encode for BlockHeader<S> {
    fn encode(&self, out: &mut Vec<u8>) {
        self.encode_unsealed(out);
        self.seal.encode(out);
    }
}

impl<S: Decode> Decode for BlockHeader<S> {
    fn decode(input: &mut Reader<'_>) -> Result<Self, InvalidEncoding> {
        Ok(BlockHeader {
            height: input.u64()?,
            previous: BlockId(Key::decode(input)?),
            root: Key::decode(input)?,
            time: input.u64()?,
            seal: S::decode(input)?,
        })
    }
}

impl Encode for Work {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.bits.0.to_le_bytes());
        out.extend_from_slice(&self.nonce.to_le_bytes());
    }
}

impl Decode for Work {
    fn decode(input: &mut Reader<'_>) -> Result<Work, InvalidEncoding> {
        Ok(Work { bits: Compact(input.u32()?), nonce: input.u64()? })
    }
}

impl Encode for Endorsement {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.signer.to_le_bytes());
        out.extend_from_slice(&self.signature);
    }
}

impl Decode for Endorsement {
    fn decode(input: &mut Reader<'_>) -> Result<Endorsement, InvalidEncoding> {
        Ok(Endorsement { signer: input.u16()?, signature: input.array()? })
    }
}

/// A header of Bitcoin: 80 bytes, named by SHA-256 twice. On the wire hashes stand the other way round than they are shown
/// and compared, which is how they are kept here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BitcoinHeader {
    /// Which rules the miner knows (BIP 9).
    pub version: u32,
    /// The block before it.
    pub previous: BlockId,
    /// The root of Bitcoin's own Merkle tree over the transactions' ids.
    pub root: Key,
    /// When it was made, in seconds since the Unix epoch.
    pub time: u32,
    /// The target.
    pub bits: Compact,
    /// What makes the hash low enough.
    pub nonce: u32,
}

impl Header for BitcoinHeader {
    fn id(&self) -> BlockId {
        let mut bytes = Vec::with_capacity(80);
        self.encode(&mut bytes);
        BlockId(twice(&bytes))
    }

    fn previous(&self) -> BlockId {
        self.previous
    }

    fn root(&self) -> Key {
        self.root
    }

    fn time(&self) -> u64 {
        u64::from(self.time)
    }
}

impl WorkHeader for BitcoinHeader {
    /// With version bits of BIP 9, none of them set.
    fn draft(_: u64, previous: BlockId, root: Key, time: u64, bits: Compact) -> Self {
        BitcoinHeader { version: 1 << 29, previous, root, time: time as u32, bits, nonce: 0 }
    }

    fn bits(&self) -> Compact {
        self.bits
    }

    fn set_nonce(&mut self, nonce: u64) {
        self.nonce = nonce as u32;
    }
}

impl Encode for BitcoinHeader {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.version.to_le_bytes());
        put_reversed(out, &self.previous.0);
        put_reversed(out, &self.root);
        out.extend_from_slice(&self.time.to_le_bytes());
        out.extend_from_slice(&self.bits.0.to_le_bytes());
        out.extend_from_slice(&self.nonce.to_le_bytes());
    }
}

impl Decode for BitcoinHeader {
    fn decode(input: &mut Reader<'_>) -> Result<BitcoinHeader, InvalidEncoding> {
        let version = input.u32()?;
        let (previous, root) = (BlockId(reversed(input)?), reversed(input)?);
        Ok(BitcoinHeader {
            version,
            previous,
            root,
            time: input.u32()?,
            bits: Compact(input.u32()?),
            nonce: input.u32()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn headers_come_back_and_have_their_size(
            numbers: (u32, u64, u64, u32, u64), hashes: ([u8; 32], [u8; 32]), signer: u16,
        ) {
            let (version, height, time, bits, nonce) = numbers;
            let (previous, root) = (BlockId(Key::new(hashes.0)), Key::new(hashes.1));
            let work = Work { bits: Compact(bits), nonce };
            let ours = BlockHeader { height, previous, root, time, seal: work };
            prop_assert_eq!(ours.to_bytes().len(), 92);
            prop_assert_eq!(&BlockHeader::<Work>::from_bytes(&ours.to_bytes()).unwrap(), &ours);
            let seal = Endorsement { signer, signature: [signer as u8; 64] };
            let endorsed = BlockHeader { height, previous, root, time, seal };
            prop_assert_eq!(endorsed.to_bytes().len(), 146);
            prop_assert_eq!(&BlockHeader::<Endorsement>::from_bytes(&endorsed.to_bytes()).unwrap(), &endorsed);
            let bitcoin = BitcoinHeader {
                version, previous, root, time: time as u32, bits: Compact(bits), nonce: nonce as u32,
            };
            prop_assert_eq!(bitcoin.to_bytes().len(), 80);
            prop_assert_eq!(BitcoinHeader::from_bytes(&bitcoin.to_bytes()).unwrap(), bitcoin);
        }
    }
}
