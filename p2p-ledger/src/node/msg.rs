//! What nodes say to each other.
//!
//! What is hashed has its own encoding and travels as bytes, which the keeper reads: a machine that passes messages on has
//! no need to. Bytes that it cannot read are the sender's fault.

use bytes::Bytes;
use p2p_core::{Lane, Wire, payload};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::id::{BlockId, WtxId};
use crate::light::LightMsg;

/// The most headers in one answer.
pub const MAX_HEADERS: usize = 2_000;
/// The most headers that are announced at once; who lacks more asks.
pub const MAX_ANNOUNCED: usize = 8;
/// The most names by which somebody says where his chain is.
pub const MAX_LOCATOR: usize = 101;
/// The most transactions that are announced, or asked for, at once.
pub const MAX_INVENTORY: usize = 1_000;
/// The largest block that travels, in bytes; [`ChainRules::block_bytes`](crate::ChainRules) is at most that. It leaves room for
/// others of a node's messages on a link, which holds 4 MiB.
pub const MAX_BLOCK: usize = 3 << 20;

/// Longer ones travel on streams of their own.
const LARGE: usize = 4 << 10;

/// What nodes of a ledger say to each other; `M` is what those of the membership below do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LedgerMsg<M> {
    /// The membership's own.
    Membership(M),
    /// From whoever may lack headers. Answered by [`LedgerMsg::Headers`] with those after the first of these blocks that the
    /// other's state has come through, at most [`MAX_HEADERS`].
    GetHeaders {
        /// Names the question.
        id: u32,
        /// Blocks of the asker's chain, the last first.
        locator: Vec<BlockId>,
    },
    /// Headers that follow each other, whose bodies the sender has: an answer, or where there is no question the
    /// announcement of at most [`MAX_ANNOUNCED`] new blocks (BIP 130).
    Headers {
        /// The question.
        answers: Option<u32>,
        /// A list of headers.
        #[serde(with = "payload")]
        headers: Bytes,
    },
    /// Whether new blocks are to be sent as compact blocks unasked, from now on.
    Push(bool),
    /// A [`CompactBlock`](crate::CompactBlock): unasked, where the other wants it, or an answer to
    /// [`LedgerMsg::GetBlock`].
    Compact(#[serde(with = "payload")] Bytes),
    /// Asks for a block. Answered by [`LedgerMsg::Block`]; or by [`LedgerMsg::Compact`], if that is wanted and the block a late
    /// one.
    GetBlock {
        /// Which.
        id: BlockId,
        /// Whether a compact block is enough.
        compact: bool,
    },
    /// A block that was asked for; nothing, if it is not there.
    Block {
        /// Which.
        id: BlockId,
        /// The block.
        #[serde(with = "payload")]
        block: Bytes,
    },
    /// Asks for some of a block's transactions. Answered by [`LedgerMsg::Missing`], or by [`LedgerMsg::Block`] if it is an old
    /// one.
    GetMissing {
        /// Which block.
        id: BlockId,
        /// Which transactions, in order.
        at: Vec<u32>,
    },
    /// Those transactions.
    Missing {
        /// Of which block.
        id: BlockId,
        /// A list of transactions.
        #[serde(with = "payload")]
        transactions: Bytes,
    },
    /// From whoever keeps no bodies up to a height any more, to a new neighbour and in place of a block that was asked for
    /// (BIP 159 has a flag for it).
    Pruned(u64),
    /// Announces transactions that have come into the sender's pool, or answers [`LedgerMsg::GetPool`]. Answered by [`LedgerMsg::Want`].
    Have(Vec<WtxId>),
    /// Asks for transactions. Answered by [`LedgerMsg::Transactions`].
    Want(Vec<WtxId>),
    /// A list of transactions.
    Transactions(#[serde(with = "payload")] Bytes),
    /// From whoever may have missed transactions. Answered by [`LedgerMsg::Have`] with the names of what waits at the other: at
    /// most [`MAX_INVENTORY`], from this one on, and then from the first (BIP 35 asks for all).
    GetPool {
        /// Where to begin.
        from: WtxId,
    },
    /// From a light client, who need not be a neighbour, or to one.
    Light(LightMsg),
}

impl<M: Serialize + DeserializeOwned + Wire> Wire for LedgerMsg<M> {
    const MAX_BYTES: usize = if M::MAX_BYTES > MAX_BLOCK { M::MAX_BYTES } else { MAX_BLOCK } + 256;

    fn lane(&self) -> Lane {
        let len = match self {
            LedgerMsg::Membership(msg) => return msg.lane(),
            LedgerMsg::Light(msg) => msg.bytes(),
            LedgerMsg::GetHeaders { .. }
            | LedgerMsg::Push(_)
            | LedgerMsg::GetBlock { .. }
            | LedgerMsg::Pruned(_)
            | LedgerMsg::GetPool { .. } => 0,
            LedgerMsg::Headers { headers: bytes, .. }
            | LedgerMsg::Compact(bytes)
            | LedgerMsg::Block { block: bytes, .. }
            | LedgerMsg::Missing { transactions: bytes, .. }
            | LedgerMsg::Transactions(bytes) => bytes.len(),
            LedgerMsg::GetMissing { at, .. } => 4 * at.len(),
            LedgerMsg::Have(ids) | LedgerMsg::Want(ids) => 32 * ids.len(),
        };
        if len > LARGE { Lane::Bulk } else { Lane::Ordered }
    }
}
