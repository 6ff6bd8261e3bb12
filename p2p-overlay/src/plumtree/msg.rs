//! What nodes of Plumtree say to each other. In order: along the tree, beside it, about it, and how much.

use bytes::Bytes;
use p2p_core::{Lane, Wire};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::streams::Source;
use crate::pubsub::Topic;

/// The longest message that can be broadcast, in bytes.
pub const MAX_BROADCAST: usize = 1 << 20;
/// Longer ones travel on streams of their own.
pub(super) const LARGE: usize = 4 << 10;
/// How many announcements, or requests, a message has.
pub(super) const MAX_LISTED: usize = 32;

/// What nodes of Plumtree say to each other.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum PlumtreeMsg<P, M> {
    /// The membership's own.
    Membership(M),
    /// To neighbours along the tree: a message (eager push; SRDS 2007 §3.4, GOSSIP). Answered by
    /// [`PlumtreeMsg::Prune`] if it had come before.
    Push(Push<P>),
    /// To the other neighbours: the sender has these (lazy push, IHAVE). Answered by [`PlumtreeMsg::Graft`] if they do
    /// not come along the tree.
    Announce(Vec<Announced<P>>),
    /// To a new neighbour, and now and then to any: the latest that the sender has. Whoever knows the source and misses
    /// some takes it for [`PlumtreeMsg::Announce`].
    Recent(Vec<Announced<P>>),
    /// From who takes part for so many milliseconds only, to a new neighbour: what has come to it since? Answered by
    /// [`PlumtreeMsg::Had`], once.
    Since(u32),
    /// To who has asked: these have come since. What of them it has not had is for it, whatever else it knows of the
    /// source.
    Had(Vec<Announced<P>>),
    /// To a neighbour that has what is missing: it is to send that, and whatever comes from now on.
    Graft(Vec<Missing<P>>),
    /// To a neighbour: what it has sent had come before; it is to announce from now on.
    Prune,
    /// From who has sent something: is all that was sent up to here taken in? Answered by [`PlumtreeMsg::Took`].
    Mark(u32),
    /// To a neighbour: what it has sent up to this mark is taken in.
    Took(u32),
}

/// A message on its way.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Push<P> {
    pub(super) source: Source<P>,
    pub(super) number: u64,
    pub(super) topic: Topic,
    /// How many steps it has taken.
    pub(super) hops: u16,
    /// As [`PlumtreeMsg::Mark`]; none if it is 0.
    pub(super) mark: u32,
    #[serde(with = "p2p_core::payload")]
    pub(super) bytes: Bytes,
}

/// The sender has the messages of a source with these numbers, both included.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Announced<P> {
    pub(super) source: Source<P>,
    pub(super) from: u64,
    pub(super) to: u64,
    /// After how many steps the last of them came.
    pub(super) hops: u16,
}

/// The sender wants the messages of a source with these numbers, both included.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Missing<P> {
    pub(super) source: Source<P>,
    pub(super) ranges: Vec<(u64, u64)>,
}

impl<P: Serialize + DeserializeOwned, M: Wire> Wire for PlumtreeMsg<P, M> {
    /// A message of [`MAX_BROADCAST`] bytes with its header, or `MAX_LISTED` requests.
    const MAX_BYTES: usize =
        if M::MAX_BYTES > MAX_BROADCAST { M::MAX_BYTES } else { MAX_BROADCAST + (1 << 10) };

    fn lane(&self) -> Lane {
        match self {
            PlumtreeMsg::Membership(msg) => msg.lane(),
            PlumtreeMsg::Push(push) if push.bytes.len() > LARGE => Lane::Bulk,
            _ => Lane::Ordered,
        }
    }
}
