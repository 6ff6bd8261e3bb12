//! What lookups say between nodes.

use p2p_core::Key;
use serde::{Deserialize, Serialize};

use super::hop::Task;

/// What lookups say between nodes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum LookupMsg<P> {
    /// From each node to the next: find the root. Answered by [`LookupMsg::Accepted`] at once.
    Forward {
        /// Numbers the question between these two.
        hop: u32,
        /// The question.
        task: Task<P>,
    },
    /// To the sender of a [`LookupMsg::Forward`]: this node takes care of it.
    Accepted {
        /// The number of the question.
        hop: u32,
    },
    /// From the root to the asker, or back along the path: here it is.
    Found {
        /// The asker's number for the lookup.
        ticket: u64,
        /// The root first.
        peers: Vec<P>,
        /// How often the question was passed on.
        hops: u16,
        /// How many peers were silent on the way.
        timeouts: u16,
    },
    /// To the asker: the question went in circles, or nobody nearer is known.
    Lost {
        /// The asker's number for the lookup.
        ticket: u64,
    },
    /// From the asker of an iterative lookup to one node after the other. Answered by [`LookupMsg::Answer`].
    Ask {
        /// Numbers the question between these two.
        id: u32,
        /// The key.
        key: Key,
        /// How many peers are wanted.
        replicas: u8,
        /// Somebody said that the asked node is the root.
        claimed: bool,
        /// Peers found silent so far, or left out.
        avoid: Vec<P>,
    },
    /// What the asked node knows.
    Answer {
        /// The number of the question.
        id: u32,
        /// It.
        hint: Hint<P>,
    },
}

/// An answer to an iterative question.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Hint<P> {
    /// The asked node is the root; the peers that hold copies, itself first.
    Mine(Vec<P>),
    /// The root should be the first of these that is alive.
    Root(Vec<P>),
    /// These are nearer.
    Toward(Vec<P>),
    /// Nobody can say right now: ask again soon ([`Next::Later`](crate::Next::Later)).
    Later,
}
