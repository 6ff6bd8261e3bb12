//! What a user asks of the machine, and what comes back.

use bytes::Bytes;
use p2p_core::Keyed;

use super::CanMulticast;
use crate::pubsub::{PubSubError, Publish, Subscribe, Topic, Unsubscribe, request};
use crate::structured::{Find, Looked};

/// A command to [`CanMulticast`]: see the typed requests.
#[derive(Clone, Debug)]
pub enum CanMulticastCommand {
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
    /// See [`Find`].
    Find {
        /// The lookup.
        find: Find,
    },
}

/// How a command ended.
#[derive(Clone, Debug)]
pub enum CanMulticastOutcome<P> {
    /// Of [`Publish`].
    Published(Result<(), PubSubError>),
    /// Of [`Subscribe`], by [`Unsubscribe`].
    Ended(Result<(), PubSubError>),
    /// Of [`Unsubscribe`].
    Unsubscribed,
    /// Of [`Find`].
    Found(Looked<P>),
}

request!([P: Keyed] CanMulticast<P>, Publish, Result<(), PubSubError>,
    |this| CanMulticastCommand::Publish { topic: this.topic, bytes: this.bytes },
    CanMulticastOutcome::Published(result) => result);
request!([P: Keyed] CanMulticast<P>, Subscribe, Result<(), PubSubError>,
    |this| CanMulticastCommand::Subscribe { topic: this.0 },
    CanMulticastOutcome::Ended(result) => result);
request!([P: Keyed] CanMulticast<P>, Unsubscribe, (),
    |this| CanMulticastCommand::Unsubscribe { topic: this.0 },
    CanMulticastOutcome::Unsubscribed => ());
request!([P: Keyed] CanMulticast<P>, Find, Looked<P>,
    |this| CanMulticastCommand::Find { find: this },
    CanMulticastOutcome::Found(looked) => looked);
