//! What nodes say to each other (§4).

use p2p_core::{Key, Lane, Wire};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::FreenetBlock;

/// A message from node to node. `id` is a random number of the request, the same on all of its way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FreenetMsg<P> {
    /// Who has this? Answered by [`FreenetMsg::Data`] or [`FreenetMsg::Failed`], after [`FreenetMsg::Working`] if others
    /// are asked.
    Request {
        /// Of the request.
        id: u64,
        /// How many nodes it may still go to, the receiver among them.
        htl: u16,
        /// What is asked for.
        key: Key,
    },
    /// Somebody wants to insert under this key. Answered by [`FreenetMsg::Data`] if it is there, by
    /// [`FreenetMsg::Accept`] if it is not, or by [`FreenetMsg::Failed`].
    Insert {
        /// Of the insert.
        id: u64,
        /// At how many nodes, the receiver among them.
        htl: u16,
        /// The key.
        key: Key,
    },
    /// The sender has passed the request on: the answer takes longer (*Reply.Restart*).
    Working {
        /// Of the request.
        id: u64,
    },
    /// The sender cannot go on: it has seen the request before, or nobody it knows has the data. With hops left to live
    /// the receiver tries another (*Request.Continue*), with none it is not found (*Reply.NotFound*).
    Failed {
        /// Of the request.
        id: u64,
        /// The hops left.
        htl: u16,
    },
    /// The data, back on the way of the request; everybody on it keeps it (*Send.Data*).
    Data {
        /// Of the request or insert.
        id: u64,
        /// Who has had it, or says so.
        source: P,
        /// What proves its key.
        block: FreenetBlock,
    },
    /// Nothing is there under the key: the block may come (*Reply.Insert*).
    Accept {
        /// Of the insert.
        id: u64,
    },
    /// The block, on the way of the insert (*Send.Insert*). Answered by [`FreenetMsg::Stored`], which the paper does not
    /// have: without it whoever inserts cannot know when it may go.
    Send {
        /// Of the insert.
        id: u64,
        /// Who inserts it, or says so.
        source: P,
        /// What proves its key.
        block: FreenetBlock,
    },
    /// Back on the way of an insert: the block has come to its end, and everybody on it keeps it; or it has come as far as
    /// those go who are still there.
    Stored {
        /// Of the insert.
        id: u64,
    },
    /// Somebody has joined: the receiver notes it under its key, and tells another while there are hops left (§3.5).
    Announce {
        /// The newcomer.
        node: P,
        /// How many nodes are told, the receiver among them.
        htl: u16,
    },
}

impl<P> FreenetMsg<P> {
    /// The request it belongs to.
    pub(super) fn id(&self) -> Option<u64> {
        match self {
            FreenetMsg::Request { id, .. }
            | FreenetMsg::Insert { id, .. }
            | FreenetMsg::Working { id }
            | FreenetMsg::Failed { id, .. }
            | FreenetMsg::Data { id, .. }
            | FreenetMsg::Accept { id }
            | FreenetMsg::Send { id, .. }
            | FreenetMsg::Stored { id } => Some(*id),
            FreenetMsg::Announce { .. } => None,
        }
    }
}

impl<P: Serialize + DeserializeOwned> Wire for FreenetMsg<P> {
    /// Blocks go on streams of their own and hold up nobody.
    fn lane(&self) -> Lane {
        match self {
            FreenetMsg::Data { .. } | FreenetMsg::Send { .. } => Lane::Bulk,
            _ => Lane::Ordered,
        }
    }
}
