//! What nodes of the hash table say to each other. In order: storing, reading, comparing copies, reading along the way.

use p2p_core::{Key, Lane, Wire};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::fetch::Fetched;
use super::summary::{Part, Sum};
use crate::custom::Rejection;
use crate::record::{Record, Slot, Version};

/// What nodes of the hash table say to each other.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum DhtMsg<P, M> {
    /// The overlay's own.
    Overlay(M),
    /// From a publisher, or another replica: keep this. Answered by [`DhtMsg::Stored`].
    Store {
        /// Numbers the question.
        id: u32,
        /// The record.
        record: Record<P>,
        /// If a value with a sequence number is there already, it must have this one.
        expected: Option<u64>,
        /// Whether a replica copies it; otherwise somebody publishes it.
        copy: bool,
    },
    /// From a provider that says so of many keys: keep that it has what this one names, if you are one of those who keep
    /// it. Answered by [`DhtMsg::Stored`].
    Provide {
        /// Numbers the question.
        id: u32,
        /// The key.
        key: Key,
        /// When the record ends, in seconds since the Unix epoch.
        expires: u64,
    },
    /// Whether it is kept.
    Stored {
        /// The number of the question.
        id: u32,
        /// Or why not.
        result: Result<(), Refusal>,
    },
    /// From a reader: what is there? Answered by [`DhtMsg::Loaded`].
    Load {
        /// Numbers the question.
        id: u32,
        /// The key.
        key: Key,
        /// What of it.
        wanted: Wanted,
    },
    /// This is.
    Loaded {
        /// The number of the question.
        id: u32,
        /// At most one value, or some providers.
        records: Vec<Record<P>>,
    },
    /// From one replica to another: these should be at both. Answered by [`DhtMsg::Compared`].
    Offer {
        /// Numbers the question.
        id: u32,
        /// What the sender has; at most [`OFFERED`].
        copies: Vec<Offered<P>>,
    },
    /// What of an offer is missing: the offerer stores that.
    Compared {
        /// The number of the question.
        id: u32,
        /// For each copy offered.
        verdicts: Vec<Verdict>,
    },
    /// From one replica to another: all that both should have. Answered by [`DhtMsg::Summed`].
    Sum {
        /// Numbers the question.
        id: u32,
        /// Of what the sender has of that.
        sum: Sum,
    },
    /// Whether the sums are the same.
    Summed {
        /// The number of the question.
        id: u32,
        /// None, if they are; else the sum of each part, up to [`PARTS`](super::PARTS) of them: the asker offers what it has
        /// of those that differ.
        parts: Vec<Part>,
    },
    /// From a reader, or from whom he has asked: the value with this hash, from the first on the way to it that has it. Answered
    /// by [`DhtMsg::Fetched`].
    Fetch {
        /// Numbers the question.
        id: u32,
        /// The value's hash.
        key: Key,
        /// How many hops it may still go.
        hops: u8,
    },
    /// This is it; or it was not to be had this way.
    Fetched {
        /// The number of the question.
        id: u32,
        /// The value.
        found: Option<Fetched>,
    },
}

/// A copy, by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offered<P> {
    /// Where it is kept.
    pub slot: Slot<P>,
    /// Which copy it is.
    pub version: Version,
    /// Where copies lie at salted keys, which of the record's keys the receiver is taken for the root of; else 0.
    pub nth: u8,
}

/// How many copies are offered at once.
pub const OFFERED: usize = 32;

/// What of a key a reader wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Wanted {
    /// The value whose hash it is.
    Immutable,
    /// The signed value.
    Mutable,
    /// Who provides what it names.
    Providers,
    /// The values that can be removed, and what was.
    Values,
    /// What this namespace of an application's has.
    Custom(Key),
}

/// What a replica says about a copy that it is offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// It has this one, or a newer one.
    Has,
    /// It wants it.
    Wants,
    /// Somebody else is sending it already.
    Expects,
    /// It will not take it.
    Refuses,
}

/// Why a replica does not keep a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum Refusal {
    /// It is not a record.
    #[error("the record is not valid")]
    Invalid,
    /// It ends in the past, too far in the future, or before what it would replace.
    #[error(
        "the record has ended, ends before what it would replace, or lasts longer than the peer keeps records"
    )]
    Lifetime,
    /// There is a value with this sequence number, signed or an application's own; or the removal of this one (1).
    #[error("there is a value with sequence number {0}")]
    Conflict(u64),
    /// The replica has no room.
    #[error("the peer has no room")]
    Full,
    /// The peer is not one of those that keep this key, as far as it knows.
    #[error("the peer does not keep records of this key")]
    NotResponsible,
    /// The replica has too much to do.
    #[error("the peer is busy")]
    Busy,
    /// The replica's storage failed.
    #[error("the peer's storage failed")]
    Failed,
    /// The replica did not answer.
    #[error("the peer is silent")]
    Silent,
    /// The record is of an application's namespace for which the replica has no validator.
    #[error("the peer has no validator for the record's namespace")]
    Namespace,
    /// The replica's validator does not let it through.
    #[error("the application's validator at the peer does not let the record through: {0}")]
    Rejected(Rejection),
}

impl<P: Serialize + DeserializeOwned, M: Wire> Wire for DhtMsg<P, M> {
    /// A value of [`MAX_VALUE`](crate::MAX_VALUE) bytes, or [`OFFERED`] copies, or some providers.
    const MAX_BYTES: usize = 80 << 10;

    /// A large value holds nothing else up.
    fn lane(&self) -> Lane {
        let large = |record: &Record<P>| {
            matches!(record, Record::Immutable { value, .. } if value.len() > 4096)
                || matches!(record, Record::Mutable(signed) if signed.value().len() > 4096)
                || matches!(record, Record::Custom(custom) if custom.value.len() > 4096)
        };
        match self {
            DhtMsg::Overlay(msg) => msg.lane(),
            DhtMsg::Store { record, .. } if large(record) => Lane::Bulk,
            DhtMsg::Loaded { records, .. } if records.iter().any(large) => Lane::Bulk,
            DhtMsg::Fetched { found: Some(found), .. } if found.value.len() > 4096 => Lane::Bulk,
            // Each is short, but there may be many.
            DhtMsg::Loaded { records, .. } if records.len() > 4 => match records[0] {
                Record::Removable { .. } | Record::Removed { .. } => Lane::Bulk,
                Record::Immutable { .. }
                | Record::Mutable(_)
                | Record::Provider { .. }
                | Record::Custom(_) => Lane::Ordered,
            },
            _ => Lane::Ordered,
        }
    }
}
