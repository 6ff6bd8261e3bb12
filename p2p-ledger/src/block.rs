//! A block: a header and the transactions that it commits to.

use p2p_core::Key;

use crate::codec::{Decode, Encode, InvalidEncoding, Reader, put_list};
use crate::header::Header;
use crate::merkle::{MerkleProof, merkle_root};
use crate::transaction::Tx;

/// The most transactions of a block.
pub const MAX_TRANSACTIONS: usize = 100_000;

/// A header and its transactions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block<H, T> {
    /// The header.
    pub header: H,
    /// The transactions, in the order in which they take effect.
    pub transactions: Vec<T>,
}

impl<H: Header, T: Tx> Block<H, T> {
    /// Whether the header commits to these transactions. If not the header may still be good, and others may have what
    /// belongs to it.
    pub fn is_whole(&self) -> bool {
        transactions_root(&self.transactions) == self.header.root()
    }

    /// Shows whoever has the header that a transaction is in the block; `None` if there is none at this place.
    pub fn proof(&self, index: usize) -> Option<MerkleProof> {
        let leaves: Vec<Key> = self.transactions.iter().map(Tx::leaf).collect();
        MerkleProof::new(&leaves, index)
    }
}

/// The root of the Merkle tree over these transactions.
pub fn transactions_root<T: Tx>(transactions: &[T]) -> Key {
    let leaves: Vec<Key> = transactions.iter().map(Tx::leaf).collect();
    merkle_root(&leaves)
}

impl<H: Encode, T: Encode> Encode for Block<H, T> {
    fn encode(&self, out: &mut Vec<u8>) {
        self.header.encode(out);
        put_list(out, &self.transactions);
    }
}

impl<H: Decode, T: Decode> Decode for Block<H, T> {
    fn decode(input: &mut Reader<'_>) -> Result<Self, InvalidEncoding> {
        Ok(Block { header: H::decode(input)?, transactions: input.list(MAX_TRANSACTIONS)? })
    }
}
