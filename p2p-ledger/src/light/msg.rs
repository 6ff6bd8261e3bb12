//! What light clients ask of full nodes, and what those answer.
//!
//! After BIP 157, where `getcfheaders` and `getcfilters` name a stretch of a chain by its first height and its last block, so
//! that nobody has to guess which branch is meant. Every question has a number, and whoever has not what is asked for says so.

use bytes::Bytes;
use p2p_core::{Key, payload};
use serde::{Deserialize, Serialize};

use crate::id::{BlockId, TxId};

/// The most filter hashes in one answer (BIP 157).
pub const MAX_FILTER_HASHES: usize = 2_000;
/// The most filters in one answer (BIP 157).
pub const MAX_FILTERS: usize = 1_000;
/// How many bytes of filters are enough for one answer.
pub const FILTER_BYTES: usize = 256 << 10;

/// Between light clients and full nodes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LightMsg {
    /// From a light client, who names its question. Answered by [`LightMsg::Answer`].
    Ask(u32, LightAsk),
    /// To a light client.
    Answer(u32, LightAnswer),
    /// To light clients who have asked something lately: a list of the headers of new blocks, at most
    /// [`MAX_ANNOUNCED`](crate::MAX_ANNOUNCED).
    New(#[serde(with = "payload")] Bytes),
}

/// What is asked. Where there is no such thing the answer is [`LightAnswer::Missing`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LightAsk {
    /// For the headers after the first of these that is on the other's chain, at most [`MAX_HEADERS`](crate::MAX_HEADERS):
    /// [`LightAnswer::Headers`].
    Headers(Vec<BlockId>),
    /// For the hashes of the filters of at most [`MAX_FILTER_HASHES`] blocks: [`LightAnswer::FilterHashes`].
    FilterHashes {
        /// The height of the first.
        from: u64,
        /// The last.
        to: BlockId,
    },
    /// For the filters of at most [`MAX_FILTERS`] blocks: [`LightAnswer::Filters`].
    Filters {
        /// The height of the first.
        from: u64,
        /// The last.
        to: BlockId,
    },
    /// For a block: [`LightAnswer::Block`].
    Block(BlockId),
    /// For what shows that a transaction is in a block: [`LightAnswer::Proof`].
    Proof {
        /// The block.
        block: BlockId,
        /// The transaction.
        transaction: TxId,
    },
    /// To have a transaction wait for a block: [`LightAnswer::Submitted`]. Who gives what cannot be read, or bad signatures time
    /// and again, is banned.
    Submit(#[serde(with = "payload")] Bytes),
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LightAnswer {
    /// Headers that follow each other.
    Headers {
        /// Where the sender's chain ends.
        tip: BlockId,
        /// A list of them: as many as may be, or all there are.
        #[serde(with = "payload")]
        headers: Bytes,
    },
    /// The hashes of filters.
    FilterHashes {
        /// The header of the filter before them.
        previous: Key,
        /// One for each block.
        hashes: Vec<Key>,
    },
    /// A list of filters: the first of those asked for, at least one, and about [`FILTER_BYTES`] at most.
    Filters(#[serde(with = "payload")] Bytes),
    /// A block.
    Block(#[serde(with = "payload")] Bytes),
    /// An [`Inclusion`](crate::Inclusion).
    Proof(#[serde(with = "payload")] Bytes),
    /// The transaction waits, or why it does not.
    Submitted(Option<String>),
    /// It is not there, or there is no room for the question now.
    Missing,
}

impl LightAsk {
    /// How many bytes it holds.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            LightAsk::Headers(locator) => 32 * locator.len(),
            LightAsk::Submit(bytes) => bytes.len(),
            LightAsk::FilterHashes { .. }
            | LightAsk::Filters { .. }
            | LightAsk::Block(_)
            | LightAsk::Proof { .. } => 64,
        }
    }
}

impl LightMsg {
    /// How many bytes it holds.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            LightMsg::Ask(_, ask) => ask.bytes(),
            LightMsg::New(bytes)
            | LightMsg::Answer(
                _,
                LightAnswer::Headers { headers: bytes, .. }
                | LightAnswer::Filters(bytes)
                | LightAnswer::Block(bytes)
                | LightAnswer::Proof(bytes),
            ) => bytes.len(),
            LightMsg::Answer(_, LightAnswer::FilterHashes { hashes, .. }) => 32 * hashes.len(),
            LightMsg::Answer(_, LightAnswer::Submitted(why)) => why.as_ref().map_or(0, String::len),
            LightMsg::Answer(_, LightAnswer::Missing) => 0,
        }
    }
}
