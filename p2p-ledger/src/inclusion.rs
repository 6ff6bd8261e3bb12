//! A transaction that is shown to be in a block, to whoever has the headers (Nakamoto 2008, §8).

use crate::block::Block;
use crate::codec::{Decode, Encode, InvalidEncoding, Reader};
use crate::consensus::Consensus;
use crate::header::Header;
use crate::id::TxId;
use crate::merkle::MerkleProof;
use crate::state::State;
use crate::transaction::Tx;

/// A transaction, the header of its block, and what connects them. It can be handed to anybody: whether the header is on the
/// chain he has to know himself ([`Ledger::confirmations`](crate::Ledger::confirmations)).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inclusion<H, T> {
    /// The header.
    pub header: H,
    /// The transaction, witnesses and all.
    pub transaction: T,
    /// Where in the block it is.
    pub proof: MerkleProof,
}

/// What shows a transaction of a chain with this consensus and state.
pub type InclusionOf<C, S> = Inclusion<<C as Consensus>::Header, <S as State>::Tx>;

impl<H: Header, T: Tx> Inclusion<H, T> {
    /// Shows that a transaction is in a block; `None` if it is not.
    pub fn of(block: &Block<H, T>, id: TxId) -> Option<Inclusion<H, T>> {
        let index = block.transactions.iter().position(|one| one.id() == id)?;
        let transaction = block.transactions[index].clone();
        Some(Inclusion { header: block.header.clone(), transaction, proof: block.proof(index)? })
    }

    /// Whether it shows what it says: that the block with this header has this transaction.
    pub fn holds(&self) -> bool {
        self.proof.shows(&self.header.root(), &self.transaction.leaf())
    }
}

impl<H: Encode, T: Encode> Encode for Inclusion<H, T> {
    fn encode(&self, out: &mut Vec<u8>) {
        self.header.encode(out);
        self.transaction.encode(out);
        self.proof.encode(out);
    }
}

impl<H: Decode, T: Decode> Decode for Inclusion<H, T> {
    fn decode(input: &mut Reader<'_>) -> Result<Self, InvalidEncoding> {
        Ok(Inclusion {
            header: H::decode(input)?,
            transaction: T::decode(input)?,
            proof: MerkleProof::decode(input)?,
        })
    }
}
