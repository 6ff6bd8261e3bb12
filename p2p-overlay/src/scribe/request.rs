//! What a user asks of the machine, and what comes back.
//!
//! Most users have [`PubSub`](crate::PubSub); these are for those who want anycast, or to run the machine inside
//! another.

use bytes::Bytes;
use p2p_core::NoJob;

use super::Scribe;
use crate::pubsub::{PubSubError, Publish, Subscribe, Topic, Unsubscribe, request};
use crate::structured::{Find, Looked, SingleRoot};

/// A command to [`Scribe`]: see the typed requests.
#[derive(Clone, Debug)]
pub enum ScribeCommand {
    /// See [`Publish`].
    Publish {
        /// The topic.
        topic: Topic,
        /// The message.
        bytes: Bytes,
    },
    /// See [`Subscribe`].
    Subscribe {
        /// The topic.
        topic: Topic,
    },
    /// See [`Unsubscribe`].
    Unsubscribe {
        /// The topic.
        topic: Topic,
    },
    /// See [`Offer`].
    Offer {
        /// The topic.
        topic: Topic,
        /// How many anycasts are taken.
        times: u32,
    },
    /// See [`Anycast`].
    Anycast {
        /// The topic.
        topic: Topic,
        /// The message.
        bytes: Bytes,
    },
    /// See [`Find`].
    Find {
        /// The lookup.
        find: Find,
    },
}

/// How a command ended.
#[derive(Clone, Debug)]
pub enum ScribeOutcome<P> {
    /// Of [`Publish`].
    Published(Result<(), PubSubError>),
    /// Of [`Subscribe`], by [`Unsubscribe`]; of [`Offer`], when as many were taken as were offered.
    Ended(Result<(), PubSubError>),
    /// Of [`Unsubscribe`].
    Unsubscribed,
    /// Of [`Anycast`]: who has taken it.
    Anycast(Result<P, AnycastError>),
    /// Of [`Find`].
    Found(Looked<P>),
}

/// Why nobody took a message, as far as the asker knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AnycastError {
    /// It cannot be sent.
    #[error(transparent)]
    Send(#[from] PubSubError),
    /// Nobody who was visited takes one.
    #[error("none of the {visited} nodes visited takes it")]
    NotTaken {
        /// How many nodes of the tree were visited: none, where nobody has joined it.
        visited: u16,
    },
    /// It was lost on its way, or the answer was. Somebody may have taken it.
    #[error("no answer in time; somebody may have taken it")]
    NoAnswer,
}

/// Takes so many anycasts, as items, until it is taken back.
#[derive(Clone, Copy, Debug)]
pub struct Offer {
    /// The topic.
    pub topic: Topic,
    /// How many.
    pub times: u32,
}

/// Sends a message to one of those who [`Offer`] to take it, another node than this one. Says who has taken it. At most
/// one has; of the tree's nodes no more than 64 are visited.
#[derive(Clone, Debug)]
pub struct Anycast {
    /// The topic.
    pub topic: Topic,
    /// The message.
    pub bytes: Bytes,
}

request!([O: SingleRoot<Job = NoJob>] Scribe<O>, Publish, Result<(), PubSubError>,
    |this| ScribeCommand::Publish { topic: this.topic, bytes: this.bytes },
    ScribeOutcome::Published(result) => result);
request!([O: SingleRoot<Job = NoJob>] Scribe<O>, Subscribe, Result<(), PubSubError>,
    |this| ScribeCommand::Subscribe { topic: this.0 },
    ScribeOutcome::Ended(result) => result);
request!([O: SingleRoot<Job = NoJob>] Scribe<O>, Unsubscribe, (),
    |this| ScribeCommand::Unsubscribe { topic: this.0 },
    ScribeOutcome::Unsubscribed => ());
request!([O: SingleRoot<Job = NoJob>] Scribe<O>, Offer, Result<(), PubSubError>,
    |this| ScribeCommand::Offer { topic: this.topic, times: this.times },
    ScribeOutcome::Ended(result) => result);
request!([O: SingleRoot<Job = NoJob>] Scribe<O>, Anycast, Result<O::Peer, AnycastError>,
    |this| ScribeCommand::Anycast { topic: this.topic, bytes: this.bytes },
    ScribeOutcome::Anycast(result) => result);
request!([O: SingleRoot<Job = NoJob>] Scribe<O>, Find, Looked<O::Peer>,
    |this| ScribeCommand::Find { find: this },
    ScribeOutcome::Found(looked) => looked);
