//! What a chain is about: a trait, with coins, boards and registries behind it.

use std::fmt::Debug;

use crate::signature::Checks;
use crate::store::View;
use crate::transaction::Tx;

/// Where a block is in its chain, as far as its transactions may depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// How many blocks are before it.
    pub height: u64,
    /// The median time past of the block before it, in seconds since the Unix epoch: the time that locks go by (BIP 113).
    pub median_time: u64,
}

/// A state machine over a chain: what its transactions are, and what they do.
///
/// It has no memory of its own. Its state is what it reads and writes through a [`View`]; what it decides follows from
/// that and its arguments alone, so that every node decides alike.
pub trait State: Send + 'static {
    /// What its blocks hold.
    type Tx: Tx;
    /// Why a transaction or block is invalid.
    type Error: std::error::Error + Clone + PartialEq + Send + Sync + 'static;

    /// Does what one transaction does, in a block at this place after what is done already; says what it pays for that.
    /// Signatures are not checked but added to `checks`: which those are follows from the transaction and from what it uses up,
    /// wherever it stands, so that what was in a block need not be checked again. After an error the view is thrown away.
    ///
    /// # Errors
    /// It may not be there.
    fn apply(
        &self,
        view: &mut View<'_>,
        place: &Place,
        transaction: &Self::Tx,
        checks: &mut Checks,
    ) -> Result<u64, Self::Error>;

    /// Does what all transactions of a block do.
    ///
    /// # Errors
    /// One of them may not be there, or not all together.
    fn apply_block(
        &self,
        view: &mut View<'_>,
        place: &Place,
        transactions: &[Self::Tx],
        checks: &mut Checks,
    ) -> Result<(), Self::Error> {
        transactions.iter().try_for_each(|one| self.apply(view, place, one, checks).map(drop))
    }

    /// What a transaction uses up and what it makes, what it reads and what it changes, in names that no two machines of a chain
    /// share. Two that use up the same exclude each other; one that uses up what another makes comes after it; one that reads
    /// what another changes may be invalid after it. By nothing else can what is valid become invalid: a pool of waiting
    /// transactions goes by that.
    fn footprint(&self, transaction: &Self::Tx) -> Footprint;

    /// The transaction that a block at this place begins with, if there is such a thing; `fees` is what the others pay,
    /// `to` says who gets it, in the machine's own words.
    fn first(&self, place: &Place, fees: u64, to: &[u8]) -> Option<Self::Tx> {
        let _ = (place, fees, to);
        None
    }
}

/// What a transaction has to do with others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Footprint {
    /// What there can be one user of.
    pub uses: Vec<Vec<u8>>,
    /// What it makes for others to use.
    pub makes: Vec<Vec<u8>>,
    /// What must be as it is, and may be read by others too.
    pub reads: Vec<Vec<u8>>,
    /// What is not as it was for those that read it.
    pub changes: Vec<Vec<u8>>,
}
