//! What comes of blocks that are taken in.

use crate::codec::InvalidEncoding;
use crate::headers::Refused;
use crate::id::BlockId;
use crate::store::StoreError;

/// What has become of the chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome<E> {
    /// The blocks that were undone, the last one first.
    pub disconnected: Vec<BlockId>,
    /// The blocks that were done, the first one first.
    pub connected: Vec<BlockId>,
    /// Blocks that have been found invalid, and why. All that follow them are given up.
    pub invalid: Vec<(BlockId, InvalidBlock<E>)>,
    /// The storage failed on the way to the next best branch: the chain goes over to it with the next block that comes.
    pub failure: Option<StoreError>,
}

impl<E> Default for Outcome<E> {
    fn default() -> Self {
        Outcome { disconnected: Vec::new(), connected: Vec::new(), invalid: Vec::new(), failure: None }
    }
}

/// Why a block is invalid, for ever.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidBlock<E> {
    /// What its transactions do is not allowed.
    #[error(transparent)]
    State(E),
    /// A signature is not good.
    #[error("a signature in it is not good")]
    Signature,
    /// It is too large.
    #[error("it has {found} bytes; at most {most} are allowed")]
    TooLarge {
        /// How many it has.
        found: usize,
        /// How many it may have.
        most: usize,
    },
    /// It cannot be read back: there are more transactions than [`MAX_TRANSACTIONS`](crate::MAX_TRANSACTIONS), or one of them
    /// is none. Nobody is sent such a block; who makes it himself hears of it here.
    #[error("nobody else could read it: {0}")]
    Encoding(InvalidEncoding),
}

/// Why a block was not taken in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BlockError {
    /// Its header was refused.
    #[error(transparent)]
    Header(#[from] Refused),
    /// The header does not commit to this body: somebody has altered it on the way. Ask somebody else.
    #[error("the block {0} has another body")]
    Mutated(BlockId),
    /// Neither has it as much work as the tip, nor is it part of a branch that has more.
    #[error("the block {0} is not worth its room")]
    Unworthy(BlockId),
    /// Too much is waiting, and all of it more useful.
    #[error("too many blocks are waiting for others")]
    Full,
    /// The storage failed; nothing has changed, and nothing was found out.
    #[error(transparent)]
    Store(#[from] StoreError),
}
