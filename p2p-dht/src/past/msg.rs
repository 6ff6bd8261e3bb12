//! What nodes of PAST say to each other. In order: inserting, reading, reclaiming, repairing.

use bytes::Bytes;
use p2p_core::{Key, Lane, Wire, payload};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::certificate::{Certificate, MAX_FILE, Reclaim};

/// How many files are offered at once.
pub(super) const OFFERED_FILES: usize = 64;

/// What nodes of PAST say to each other.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum PastMsg<P, M> {
    /// Pastry's own.
    Overlay(M),
    /// From an owner's node to the root, the node nearest to the file: have it kept. [`PastMsg::Receipt`]s come from those who
    /// do, and [`PastMsg::Inserted`] from the root.
    Insert {
        /// Numbers the question.
        id: u32,
        /// For the receipts.
        ticket: u32,
        /// What the owner has signed.
        certificate: Certificate,
        /// The content.
        #[serde(with = "payload")]
        content: Bytes,
    },
    /// From the root: whether all keep it who should.
    Inserted {
        /// The number of the question.
        id: u32,
        /// Or why not.
        result: Result<(), PastRefusal>,
    },
    /// From the root to the nodes nearest to the file, or from one that has it to one that should: keep this. Answered by
    /// [`PastMsg::Stored`].
    Store {
        /// Numbers the question.
        id: u32,
        /// What the owner has signed.
        certificate: Certificate,
        /// The content.
        #[serde(with = "payload")]
        content: Bytes,
        /// Who waits for a receipt, with this ticket.
        client: Option<(P, u32)>,
    },
    /// Whether it is kept.
    Stored {
        /// The number of the question.
        id: u32,
        /// Or why not.
        result: Result<(), PastRefusal>,
    },
    /// To an owner's node: the sender keeps the file, or has a pointer to who does in its place.
    Receipt {
        /// From the insert.
        ticket: u32,
        /// The file that is kept.
        file: Key,
        /// The hash of its content.
        content: Key,
        /// Whether it is a pointer.
        diverted: bool,
    },
    /// From a node that has no room to another of its leaves (§3.3): keep this in my place. Answered by [`PastMsg::Stored`].
    Divert {
        /// Numbers the question.
        id: u32,
        /// What the owner has signed.
        certificate: Certificate,
        /// The content.
        #[serde(with = "payload")]
        content: Bytes,
    },
    /// To all leaves: so many bytes are free here. Said at first, and when it has changed by a twentieth.
    Space {
        /// In bytes.
        free: u64,
    },
    /// From a reader: give me this. Answered by [`PastMsg::Fetched`].
    Fetch {
        /// Numbers the question.
        id: u32,
        /// The file.
        file: Key,
    },
    /// What there is of it.
    Fetched {
        /// The number of the question.
        id: u32,
        /// It.
        found: Fetched<P>,
    },
    /// From an owner's node: let this go. Answered by [`PastMsg::Reclaimed`].
    Reclaim {
        /// Numbers the question.
        id: u32,
        /// What the owner has signed.
        reclaim: Reclaim,
    },
    /// Whether it was there and is gone.
    Reclaimed {
        /// The number of the question.
        id: u32,
        /// Whether.
        freed: bool,
    },
    /// To a node that should have these: do you? Answered by [`PastMsg::Wanted`].
    Offer {
        /// Numbers the question.
        id: u32,
        /// At most 64, and how many should keep each.
        files: Vec<(Key, u8)>,
    },
    /// What is missing of an offer.
    Wanted {
        /// The number of the question.
        id: u32,
        /// Of each file.
        verdicts: Vec<Verdict>,
    },
}

/// What a node has of a file.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Fetched<P> {
    /// All of it.
    File {
        /// What the owner has signed.
        certificate: Certificate,
        /// The content.
        #[serde(with = "payload")]
        content: Bytes,
    },
    /// That this one has it.
    At(P),
    /// Nothing.
    Nothing,
}

/// What a node says about a file that it is offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// It has it, or a pointer to another who does.
    Has,
    /// It has a pointer to whoever asks.
    Points,
    /// It wants it.
    Wants,
    /// It does not want it now: it is writing it, or does not think that it should have it.
    Not,
}

/// Why a node does not keep a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum PastRefusal {
    /// It would fill too much of what is free there, and nobody else was found to keep it.
    #[error("the peer has no room for it")]
    Full,
    /// It keeps it already: it cannot be diverted there once more.
    #[error("the peer keeps it already")]
    Holds,
    /// Another content is there under this id.
    #[error("another content is there")]
    Exists,
    /// It is no file, or its owner has not signed it.
    #[error("the file is not valid")]
    Invalid,
    /// The node is not one that should keep it, as far as it knows.
    #[error("the peer does not keep files of this id")]
    NotResponsible,
    /// The node has too much to do.
    #[error("the peer is busy")]
    Busy,
    /// The node's storage failed.
    #[error("the peer's storage failed")]
    Failed,
    /// The node did not answer.
    #[error("the peer is silent")]
    Silent,
}

impl<P: Serialize + DeserializeOwned, M: Wire> Wire for PastMsg<P, M> {
    /// A file, and what is said about it.
    const MAX_BYTES: usize = MAX_FILE + (4 << 10) + M::MAX_BYTES;

    /// A file holds nothing else up.
    fn lane(&self) -> Lane {
        match self {
            PastMsg::Overlay(msg) => msg.lane(),
            PastMsg::Insert { content, .. }
            | PastMsg::Store { content, .. }
            | PastMsg::Divert { content, .. }
            | PastMsg::Fetched { found: Fetched::File { content, .. }, .. }
                if content.len() > 4096 =>
            {
                Lane::Bulk
            }
            _ => Lane::Ordered,
        }
    }
}
