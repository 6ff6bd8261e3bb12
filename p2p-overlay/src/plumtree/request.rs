//! What a user asks of the machine, and what comes back. The requests are those of every [`PubSub`](crate::PubSub).

use bytes::Bytes;

use super::Plumtree;
use crate::membership::Membership;
use crate::pubsub::{PubSubError, Publish, Subscribe, Topic, Unsubscribe, request};

/// A command to [`Plumtree`]: see the typed requests.
#[derive(Clone, Debug)]
pub enum PlumtreeCommand {
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
    /// See [`Leave`].
    Leave,
}

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlumtreeOutcome {
    /// Of [`Publish`].
    Published(Result<(), PubSubError>),
    /// Of [`Subscribe`], by [`Unsubscribe`].
    Ended(Result<(), PubSubError>),
    /// Of [`Unsubscribe`].
    Unsubscribed,
    /// Of [`Leave`].
    Left,
}

/// Says goodbye to all neighbours; the node takes no part from then on.
#[derive(Clone, Copy, Debug)]
pub struct Leave;

request!([M: Membership] Plumtree<M>, Publish, Result<(), PubSubError>,
    |this| PlumtreeCommand::Publish { topic: this.topic, bytes: this.bytes },
    PlumtreeOutcome::Published(result) => result);
request!([M: Membership] Plumtree<M>, Subscribe, Result<(), PubSubError>,
    |this| PlumtreeCommand::Subscribe { topic: this.0 },
    PlumtreeOutcome::Ended(result) => result);
request!([M: Membership] Plumtree<M>, Unsubscribe, (),
    |this| PlumtreeCommand::Unsubscribe { topic: this.0 },
    PlumtreeOutcome::Unsubscribed => ());
request!([M: Membership] Plumtree<M>, Leave, (),
    |_this| PlumtreeCommand::Leave,
    PlumtreeOutcome::Left => ());
