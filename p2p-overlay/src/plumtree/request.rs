//! What a user asks of the machine, and what comes back. The requests are those of [`Scribe`](crate::Scribe).

use async_trait::async_trait;
use bytes::Bytes;
use p2p_core::{Handle, Request};

use super::Plumtree;
use crate::membership::Membership;
use crate::pubsub::{Delivery, PubSub, PubSubError, Subscription, Topic, subscription};
use crate::scribe::{Publish, Subscribe, Unsubscribe};

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

impl<M: Membership> Request<Plumtree<M>> for Publish {
    type Item = Delivery<M::Peer>;
    type Reply = Result<(), PubSubError>;

    fn command(self) -> PlumtreeCommand {
        PlumtreeCommand::Publish { topic: self.topic, bytes: self.bytes }
    }
    fn item(_: Delivery<M::Peer>) -> Option<Delivery<M::Peer>> {
        None
    }
    fn reply(outcome: PlumtreeOutcome) -> Option<Result<(), PubSubError>> {
        match outcome {
            PlumtreeOutcome::Published(result) => Some(result),
            _ => None,
        }
    }
}

impl<M: Membership> Request<Plumtree<M>> for Subscribe {
    type Item = Delivery<M::Peer>;
    type Reply = Result<(), PubSubError>;

    fn command(self) -> PlumtreeCommand {
        PlumtreeCommand::Subscribe { topic: self.0 }
    }
    fn item(item: Delivery<M::Peer>) -> Option<Delivery<M::Peer>> {
        Some(item)
    }
    fn reply(outcome: PlumtreeOutcome) -> Option<Result<(), PubSubError>> {
        match outcome {
            PlumtreeOutcome::Ended(result) => Some(result),
            _ => None,
        }
    }
}

impl<M: Membership> Request<Plumtree<M>> for Unsubscribe {
    type Item = Delivery<M::Peer>;
    type Reply = ();

    fn command(self) -> PlumtreeCommand {
        PlumtreeCommand::Unsubscribe { topic: self.0 }
    }
    fn item(_: Delivery<M::Peer>) -> Option<Delivery<M::Peer>> {
        None
    }
    fn reply(outcome: PlumtreeOutcome) -> Option<()> {
        (outcome == PlumtreeOutcome::Unsubscribed).then_some(())
    }
}

impl<M: Membership> Request<Plumtree<M>> for Leave {
    type Item = Delivery<M::Peer>;
    type Reply = ();

    fn command(self) -> PlumtreeCommand {
        PlumtreeCommand::Leave
    }
    fn item(_: Delivery<M::Peer>) -> Option<Delivery<M::Peer>> {
        None
    }
    fn reply(outcome: PlumtreeOutcome) -> Option<()> {
        (outcome == PlumtreeOutcome::Left).then_some(())
    }
}

#[async_trait]
impl<M: Membership> PubSub<M::Peer> for Handle<Plumtree<M>> {
    async fn publish(&self, topic: Topic, bytes: Bytes) -> Result<(), PubSubError> {
        self.ask(Publish { topic, bytes }).await?
    }

    async fn subscribe(&self, topic: Topic) -> Result<Subscription<M::Peer>, PubSubError> {
        subscription(self.ask(Subscribe(topic))).await
    }

    async fn unsubscribe(&self, topic: Topic) -> Result<(), PubSubError> {
        Ok(self.ask(Unsubscribe(topic)).await?)
    }
}
