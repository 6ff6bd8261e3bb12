//! What nodes of Scribe say to each other. In order: joining and leaving, keeping, publishing, anycast.

use bytes::Bytes;
use p2p_core::{Lane, Wire};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::tree::Path;
use crate::pubsub::{MAX_MESSAGE, Topic, lane};
use crate::trail::Trail;

/// What a message has beside its bytes, at most.
const LISTS: usize = 16 << 10;

/// What nodes of Scribe say to each other.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum ScribeMsg<P, M> {
    /// The overlay's own.
    Overlay(M),
    /// From whoever looks for a parent towards the root, until somebody takes it. Answered by
    /// [`ScribeMsg::Accepted`] or [`ScribeMsg::Refused`], straight to the child.
    Join(Join<P>),
    /// To a new child: the sender is its parent. Answered by [`ScribeMsg::Refresh`], or [`ScribeMsg::Leave`] if it has
    /// found another.
    Accepted {
        /// The topic.
        topic: Topic,
        /// The child's number for its question.
        ticket: u64,
        /// Who is above it now.
        path: Path<P>,
    },
    /// To whoever looks for a parent: there is no room.
    Refused {
        /// The topic.
        topic: Topic,
        /// The asker's number for its question.
        ticket: u64,
    },
    /// To a parent: the sender is no child of it any more, or never was.
    Leave {
        /// The topic.
        topic: Topic,
    },
    /// From a parent to its children, now and then if it has nothing else to say, and when the path changes.
    Heartbeat {
        /// The topic.
        topic: Topic,
        /// Who is above them.
        path: Path<P>,
    },
    /// From a child to its parent, now and then: it is still there.
    Refresh {
        /// The topic.
        topic: Topic,
    },
    /// To whoever says [`ScribeMsg::Refresh`] and is no child, or has to go: it has to look for another parent.
    Gone {
        /// The topic.
        topic: Topic,
    },
    /// From a publisher to the root. Answered by [`ScribeMsg::Published`].
    Publish {
        /// Numbers the question.
        id: u32,
        /// The topic.
        topic: Topic,
        /// The publisher's number for the message.
        sequence: u64,
        /// The message.
        #[serde(with = "p2p_core::payload")]
        bytes: Bytes,
    },
    /// To a publisher: whether the message is on its way.
    Published {
        /// The number of the question.
        id: u32,
        /// If not, the sender is not the root.
        taken: bool,
    },
    /// From a parent to its children.
    Multicast {
        /// The topic.
        topic: Topic,
        /// Who has published the message.
        publisher: P,
        /// Its number for the message.
        sequence: u64,
        /// The message.
        #[serde(with = "p2p_core::payload")]
        bytes: Bytes,
    },
    /// From whoever wants one member to take a message, towards the root until it meets the tree, then through that.
    /// Answered by [`ScribeMsg::Taken`] or [`ScribeMsg::NotTaken`], straight to the asker.
    Anycast(Visit<P>),
    /// The sender has taken an anycast.
    Taken {
        /// The asker's number for it.
        ticket: u64,
    },
    /// Nobody has.
    NotTaken {
        /// The asker's number for it.
        ticket: u64,
        /// How many nodes of the tree were visited.
        visited: u16,
    },
}

/// Somebody looks for a parent.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Join<P> {
    pub(super) topic: Topic,
    pub(super) child: P,
    /// The child's number for the question.
    pub(super) ticket: u64,
    /// How often it was passed on.
    pub(super) hops: u16,
    /// The sender takes the receiver for the root.
    pub(super) claimed: bool,
    /// From a parent that has no room to its child, which should take it.
    pub(super) down: bool,
    /// Who is silent, as far as the child knows, and how it goes around dead ends.
    pub(super) trail: Trail<P>,
}

/// A message for one member, on its way.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Visit<P> {
    pub(super) topic: Topic,
    pub(super) origin: P,
    /// The origin's number for it.
    pub(super) ticket: u64,
    /// How often it was passed on.
    pub(super) hops: u16,
    /// The sender takes the receiver for the root.
    pub(super) claimed: bool,
    /// How it goes around dead ends on its way to the tree.
    pub(super) trail: Trail<P>,
    /// The nodes of the tree that it has been at.
    pub(super) visited: Vec<P>,
    /// Those that it is to go to, the next one last.
    pub(super) to_visit: Vec<P>,
    #[serde(with = "p2p_core::payload")]
    pub(super) bytes: Bytes,
}

impl<P: Serialize + DeserializeOwned, M: Wire> Wire for ScribeMsg<P, M> {
    /// A message of [`MAX_MESSAGE`] bytes, with the lists of an anycast.
    const MAX_BYTES: usize =
        if M::MAX_BYTES > MAX_MESSAGE + LISTS { M::MAX_BYTES } else { MAX_MESSAGE + LISTS };

    fn lane(&self) -> Lane {
        match self {
            ScribeMsg::Overlay(msg) => msg.lane(),
            ScribeMsg::Publish { bytes, .. }
            | ScribeMsg::Multicast { bytes, .. }
            | ScribeMsg::Anycast(Visit { bytes, .. }) => lane(bytes),
            _ => Lane::Ordered,
        }
    }
}
