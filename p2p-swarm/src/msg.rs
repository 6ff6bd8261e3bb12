//! What peers of a swarm say to each other.

use bytes::Bytes;
use p2p_core::{Key, Lane, Wire, payload};
use serde::{Deserialize, Serialize};

use crate::runs::RUN;

/// What is said in a swarm. The fetcher asks, for one run at a time and as many at once as it will take; the provider
/// answers each question once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SwarmMsg {
    /// To a provider: send me this. Answered by [`SwarmMsg::Data`] or [`SwarmMsg::Refused`].
    Ask {
        /// Numbers the question.
        id: QuestionId,
        /// The blob.
        root: Key,
        /// Which part of it.
        part: Part,
    },
    /// A run, and what proves it.
    Data {
        /// The number of the question.
        id: QuestionId,
        /// The blob's size in bytes: a claim, unless this is the last run.
        size: u64,
        /// The siblings on the way up to the root, as [`verify`](crate::verify) wants them.
        proof: Vec<[u8; 32]>,
        /// The run.
        #[serde(with = "payload")]
        bytes: Bytes,
    },
    /// There will be no data.
    Refused {
        /// The number of the question.
        id: QuestionId,
        /// Why.
        why: Refusal,
    },
}

/// A question's number, as its asker chose it. An answer to somebody who has crashed and started again meanwhile must
/// not be taken for the answer to a new question, and an honest peer for a liar: hence the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuestionId {
    /// Drawn at random when the asker starts.
    pub session: u64,
    /// Counts its questions.
    pub number: u32,
}

/// Which run of a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Part {
    /// The last, which proves the size: for who does not know it.
    Last,
    /// This one: 16 groups, 256 KiB, from 0.
    Run(u64),
}

/// Why a provider does not send what it was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Refusal {
    /// It does not have that blob, or no more, or the blob does not have that run.
    NotShared,
    /// It has too much to do: ask again later.
    Busy,
}

impl Wire for SwarmMsg {
    /// A run with its proof, which has at most two values for each of 50 levels.
    const MAX_BYTES: usize = RUN + 100 * 32 + 64;

    fn lane(&self) -> Lane {
        match self {
            SwarmMsg::Data { .. } => Lane::Bulk,
            SwarmMsg::Ask { .. } | SwarmMsg::Refused { .. } => Lane::Ordered,
        }
    }
}
