//! What users ask of a client.

use p2p_overlay::Place;

use super::BitcoinClient;
use super::merkle::MerkleBlock;
use super::transaction::{BitcoinBlock, BitcoinTransaction};
use crate::header::BitcoinHeader;
use crate::headers::Tip;
use crate::id::{BlockId, TxId};
use crate::ledger::{Mark, Scanned};
use crate::request::request;

/// A command to a [`BitcoinClient`]: see the typed requests.
#[derive(Clone, Debug)]
pub enum BitcoinCommand {
    /// See [`Status`].
    Status,
    /// See [`Synced`].
    Synced,
    /// See [`HeaderAt`].
    Header(HeaderAt),
    /// See [`HeadersAfter`].
    Headers(HeadersAfter),
    /// See [`Prove`].
    Prove(Prove),
    /// See [`Matching`].
    Matching(Matching),
    /// See [`Scan`].
    Scan(Scan),
}

/// How a command ended.
#[derive(Clone, Debug)]
pub enum BitcoinOutcome {
    /// Of [`Status`].
    Status(BitcoinStatus),
    /// Of [`Synced`].
    Synced(Result<Tip, BitcoinError>),
    /// Of [`HeaderAt`].
    Header(Option<BitcoinHeader>),
    /// Of [`HeadersAfter`].
    Headers(Vec<BitcoinHeader>),
    /// Of [`Prove`].
    Proved(Result<Option<Proved>, BitcoinError>),
    /// Of [`Matching`].
    Matched(Result<Vec<BitcoinTransaction>, BitcoinError>),
    /// Of [`Scan`].
    Scanned(Result<Scanned<BitcoinBlock>, BitcoinError>),
}

/// Why something is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BitcoinError {
    /// The block is not on the chain with the most work that any node has shown, or is no longer.
    #[error("block {0} is not on the chain")]
    NotOnChain(BlockId),
    /// No node could be reached in time that has it.
    #[error("no node could be reached that answers")]
    NoNode,
    /// No chain that a node has shown has the least work that it must have ([`HeaderRules::minimum_work`](crate::HeaderRules::minimum_work)).
    #[error("no node could be reached whose chain has the least work that it must have")]
    LowWork,
    /// None of the nodes serves the filters of blocks.
    #[error("no node that could be reached serves the filters of blocks (BIP 157)")]
    NoFilters,
    /// 64 questions are open.
    #[error("too much is asked at once")]
    Busy,
}

/// Where things stand, now.
#[derive(Clone, Copy, Debug)]
pub struct Status;

/// What [`Status`] says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BitcoinStatus {
    /// The end of the chain.
    pub tip: Tip,
    /// How many nodes are there.
    pub nodes: usize,
    /// Whether all of them have shown all headers that they have.
    pub is_synced: bool,
}

/// The end of the chain, once all nodes that are there have shown all headers that they have.
#[derive(Clone, Copy, Debug)]
pub struct Synced;

/// The chain's header at a height.
#[derive(Clone, Copy, Debug)]
pub struct HeaderAt(pub u64);

/// The chain's headers after the first of these that is on it, or after the very first header: at most 2,000. Whoever keeps them
/// on a disk asks so for what it has not.
#[derive(Clone, Debug)]
pub struct HeadersAfter(pub Vec<BlockId>);

/// Shows that a transaction is in a block of the chain; `None` if it is in no part of it.
#[derive(Clone, Copy, Debug)]
pub struct Prove {
    /// The block.
    pub block: BlockId,
    /// The transaction.
    pub transaction: TxId,
}

/// What [`Prove`] shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proved {
    /// The transaction.
    pub transaction: BitcoinTransaction,
    /// The height of the block.
    pub height: u64,
    /// How many blocks there are from this one on to the end of the chain.
    pub confirmations: u64,
    /// What shows it, for somebody else.
    pub proof: MerkleBlock,
}

/// The transactions of a block that are about some of these items, as [`BitcoinTransaction::is_about`] has it. By filters a
/// node may keep some to itself.
#[derive(Clone, Debug)]
pub struct Matching {
    /// The block.
    pub block: BlockId,
    /// Names of transactions, output points, keys or hashes of keys, as they travel.
    pub items: Vec<Vec<u8>>,
}

/// The next block of the chain after a mark that may be about some scripts: it pays to one, or spends what was paid to one. It is found
/// by the filters of blocks (BIP 157, 158), the same for everybody, so that no node learns the scripts; and the block is asked of a
/// node that is drawn by lot. Of the blocks that are about none of them one in 784,931 is found for each script, and so is one of whose
/// filter nodes say different things: look at its transactions. A mark whose filter header is zero need not be where a scan ended: it is
/// any block of the chain.
#[derive(Clone, Debug)]
pub struct Scan {
    /// How far the chain was looked at; [`Mark::START`] for all.
    pub after: Mark,
    /// Scripts of outputs, as they are in transactions.
    pub scripts: Vec<Vec<u8>>,
}

request!([P: Place] BitcoinClient<P>, Status, BitcoinStatus, |self| BitcoinCommand::Status,
    BitcoinOutcome::Status);
request!([P: Place] BitcoinClient<P>, Synced, Result<Tip, BitcoinError>, |self| BitcoinCommand::Synced,
    BitcoinOutcome::Synced);
request!([P: Place] BitcoinClient<P>, HeaderAt, Option<BitcoinHeader>, |self| BitcoinCommand::Header(self),
    BitcoinOutcome::Header);
request!([P: Place] BitcoinClient<P>, HeadersAfter, Vec<BitcoinHeader>, |self| BitcoinCommand::Headers(self),
    BitcoinOutcome::Headers);
request!([P: Place] BitcoinClient<P>, Prove, Result<Option<Proved>, BitcoinError>,
    |self| BitcoinCommand::Prove(self), BitcoinOutcome::Proved);
request!([P: Place] BitcoinClient<P>, Matching, Result<Vec<BitcoinTransaction>, BitcoinError>,
    |self| BitcoinCommand::Matching(self), BitcoinOutcome::Matched);
request!([P: Place] BitcoinClient<P>, Scan, Result<Scanned<BitcoinBlock>, BitcoinError>,
    |self| BitcoinCommand::Scan(self), BitcoinOutcome::Scanned);
