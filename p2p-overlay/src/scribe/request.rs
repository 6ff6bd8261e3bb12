//! What a user asks of the machine, and what comes back.
//!
//! Most users have [`PubSub`]; these are for those who want anycast, or to run the machine inside another.

use async_trait::async_trait;
use bytes::Bytes;
use p2p_core::{Handle, NoJob, Request};

use super::Scribe;
use crate::pubsub::{PubSub, PubSubError, Subscription, Topic, subscription};
use crate::structured::{Find, Looked, SingleRoot};

pub use crate::pubsub::Delivery as ScribeItem;

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

/// Sends a message to all subscribers of a topic. Done when the root has it.
#[derive(Clone, Debug)]
pub struct Publish {
    /// The topic.
    pub topic: Topic,
    /// The message.
    pub bytes: Bytes,
}

/// Receives the messages of a topic, as items, until it is taken back.
#[derive(Clone, Copy, Debug)]
pub struct Subscribe(pub Topic);

/// Ends all subscriptions of this node to a topic.
#[derive(Clone, Copy, Debug)]
pub struct Unsubscribe(pub Topic);

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

/// All that requests have in common but their command and their outcome.
macro_rules! request {
    ($request:ty, $reply:ty, |$this:ident| $command:expr, $outcome:pat => $result:expr) => {
        impl<O: SingleRoot<Job = NoJob>> Request<Scribe<O>> for $request {
            type Item = ScribeItem<O::Peer>;
            type Reply = $reply;

            fn command(self) -> ScribeCommand {
                let $this = self;
                $command
            }
            fn item(item: ScribeItem<O::Peer>) -> Option<ScribeItem<O::Peer>> {
                Some(item)
            }
            fn reply(outcome: ScribeOutcome<O::Peer>) -> Option<$reply> {
                match outcome {
                    $outcome => Some($result),
                    _ => None,
                }
            }
        }
    };
}

request!(Publish, Result<(), PubSubError>,
    |this| ScribeCommand::Publish { topic: this.topic, bytes: this.bytes },
    ScribeOutcome::Published(result) => result);
request!(Subscribe, Result<(), PubSubError>,
    |this| ScribeCommand::Subscribe { topic: this.0 },
    ScribeOutcome::Ended(result) => result);
request!(Unsubscribe, (),
    |this| ScribeCommand::Unsubscribe { topic: this.0 },
    ScribeOutcome::Unsubscribed => ());
request!(Offer, Result<(), PubSubError>,
    |this| ScribeCommand::Offer { topic: this.topic, times: this.times },
    ScribeOutcome::Ended(result) => result);
request!(Anycast, Result<O::Peer, AnycastError>,
    |this| ScribeCommand::Anycast { topic: this.topic, bytes: this.bytes },
    ScribeOutcome::Anycast(result) => result);
request!(Find, Looked<O::Peer>,
    |this| ScribeCommand::Find { find: this },
    ScribeOutcome::Found(looked) => looked);

#[async_trait]
impl<O: SingleRoot<Job = NoJob>> PubSub<O::Peer> for Handle<Scribe<O>> {
    async fn publish(&self, topic: Topic, bytes: Bytes) -> Result<(), PubSubError> {
        self.ask(Publish { topic, bytes }).await?
    }

    async fn subscribe(&self, topic: Topic) -> Result<Subscription<O::Peer>, PubSubError> {
        subscription(self.ask(Subscribe(topic))).await
    }

    async fn unsubscribe(&self, topic: Topic) -> Result<(), PubSubError> {
        Ok(self.ask(Unsubscribe(topic)).await?)
    }
}
