//! Why there is no answer, or not the one that was hoped for.

use bytes::Bytes;
use p2p_core::{AskError, JobError};
use p2p_overlay::LookupError;

use crate::custom::Custom;
use crate::record::{InvalidRecord, Signed};
use crate::replicated::Refusal;

/// Why a record is not stored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PutError {
    /// It cannot be: the caller's mistake.
    #[error(transparent)]
    Invalid(#[from] InvalidRecord),
    /// Nobody who could keep it was found.
    #[error(transparent)]
    Lookup(#[from] LookupError),
    /// Too few nodes have it. Those that do keep it.
    #[error("{copies} of the {needed} copies needed are stored; refused: {refusals:?}")]
    Quorum {
        /// How many have it.
        copies: usize,
        /// How many should.
        needed: usize,
        /// Why the others have not.
        refusals: Vec<Refusal>,
    },
    /// Another value with this sequence number is there: read it, and sign anew with a higher one.
    #[error("there is a value with sequence number {sequence}: read it and sign with a higher one")]
    Conflict {
        /// The highest found.
        sequence: u64,
    },
    /// Whoever knows its secret has removed it: until that ends nobody can put it again. Take another secret.
    #[error("this value with this secret was removed under this key: choose another secret")]
    Removed,
    /// This node has too much under way.
    #[error("too many puts and gets at once: wait for some to end")]
    Busy,
    /// This node has no room for what it publishes.
    #[error("no room for another record at this node: raise DhtConfig::max_records or max_bytes")]
    Full,
    /// Enough nodes have it, but this node could not write down that it publishes it: it ends in its time, unless it is put again.
    #[error("stored at enough nodes, but this one cannot write down that it publishes it: {0}")]
    Storage(JobError),
    /// The client has had its share of what this node puts for its clients.
    #[error(
        "this client has had its share of the room that the node takes for clients: wait until some of it has ended"
    )]
    Share,
    /// No answer from the machine itself.
    #[error(transparent)]
    Ask(#[from] AskError),
}

/// Why a record is still published.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WithdrawError {
    /// This node has too much under way.
    #[error("too many puts and gets at once: wait for some to end")]
    Busy,
    /// It cannot be written down.
    #[error("it is still published: {0}")]
    Storage(JobError),
}

/// A value with a sequence number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Newest {
    /// A signed one.
    Signed(Signed),
    /// An application's own.
    Custom(Custom),
}

impl Newest {
    /// Its sequence number.
    pub fn sequence(&self) -> u64 {
        match self {
            Newest::Signed(signed) => signed.sequence(),
            Newest::Custom(custom) => custom.sequence,
        }
    }

    /// The value.
    pub fn value(&self) -> &Bytes {
        match self {
            Newest::Signed(signed) => signed.value(),
            Newest::Custom(custom) => &custom.value,
        }
    }
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GetError {
    /// Nobody who could have it was found.
    #[error(transparent)]
    Lookup(#[from] LookupError),
    /// Nobody who should have it has it.
    #[error("not found: {answered} nodes do not have it, {silent} did not answer")]
    NotFound {
        /// How many answered.
        answered: usize,
        /// How many did not.
        silent: usize,
    },
    /// Too few have answered to know that this is the newest.
    #[error("{answered} of the {needed} answers needed; {silent} nodes were silent")]
    Partial {
        /// How many answered.
        answered: usize,
        /// How many should.
        needed: usize,
        /// How many did not.
        silent: usize,
        /// The newest of what they gave.
        newest: Option<Box<Newest>>,
    },
    /// This node has too much under way.
    #[error("too many puts and gets at once: wait for some to end")]
    Busy,
    /// No answer from the machine itself.
    #[error(transparent)]
    Ask(#[from] AskError),
}
