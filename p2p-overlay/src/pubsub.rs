//! Publish and subscribe: a message to everyone who has asked for its topic.
//!
//! [`PubSub`] is what an application sees, whatever carries its messages: the trees of [`Scribe`](crate::Scribe) over a
//! structured overlay, the floods of [`CanMulticast`](crate::CanMulticast), or [`Gossip`](crate::Gossip) among all. All
//! of them keep to this:
//!
//! - a message reaches a subscriber at most once;
//! - it reaches all subscribers while nobody joins, leaves or fails, and all read what comes. When somebody joins,
//!   leaves or fails, messages may be lost until that is mended; nobody is told. Who needs every message numbers them,
//!   and asks for those that are missing;
//! - a subscriber that reads too slowly loses what it has no room for, and is told: its subscription ends with
//!   [`PubSubError::Lagged`]. [`Gossip`](crate::Gossip) has publishers wait for it first, as long as it reads at all;
//!   the others cut it off when [`MAX_WAITING`](p2p_core::MAX_WAITING) messages wait;
//! - messages of one publisher come in the order in which they were published, each when the one before was done, while
//!   the same holds and they are all small or all large ([`Lane`](p2p_core::Lane)); those of several publishers in any
//!   order;
//! - the publisher's name is as true as the nodes on the way are honest. Who may publish, and whether it was they, is
//!   for the application to say: it signs its messages.

mod request;

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{BoxStream, Stream, StreamExt};
use p2p_core::{AskError, Key, Lane};
use serde::{Deserialize, Serialize};

use crate::structured::LookupError;

pub use request::{Delivery, Publish, Subscribe, Unsubscribe};

pub(crate) use request::request;

/// The longest message that can be published, in bytes.
pub const MAX_MESSAGE: usize = 64 << 10;
/// Longer ones travel on streams of their own: a large message holds nothing else up.
const LARGE: usize = 4 << 10;

/// How a message travels.
pub(crate) fn lane(bytes: &Bytes) -> Lane {
    if bytes.len() > LARGE { Lane::Bulk } else { Lane::Ordered }
}

/// What messages are about: a point in the key space.
///
/// ```
/// use p2p_core::Key;
/// use p2p_overlay::Topic;
///
/// assert_eq!(Topic::named("weather"), Topic(Key::of(b"weather")));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Topic(pub Key);

impl Topic {
    /// The topic of this name: its BLAKE3 hash.
    pub fn named(name: &str) -> Topic {
        Topic(Key::of(name.as_bytes()))
    }
}

/// What was published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message<P> {
    /// By whom, as those say who passed it on.
    pub publisher: P,
    /// What.
    pub bytes: Bytes,
}

/// Why something was not published, or a subscription has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PubSubError {
    /// The message is too long: the caller's mistake.
    #[error("a message of {size} bytes; at most {max} can be published: split it")]
    TooLarge {
        /// Its bytes.
        size: usize,
        /// The most.
        max: usize,
    },
    /// This node takes no part in the network yet, or knows nobody any more. If it has just lost the last whom it knew,
    /// some may have received the message all the same.
    #[error("this node is not part of a network: join one first")]
    NotJoined,
    /// Nobody was found who takes the message in. Some may have received it all the same.
    #[error("nobody takes the message in: {0}")]
    NoRoot(LookupError),
    /// Too much is being published by this node at once.
    #[error("too many messages at once: wait for some to be taken in")]
    Busy,
    /// This node has too many topics, its own and those whose messages it passes on.
    #[error("too many topics at this node: leave some, or raise the configured bound")]
    TooManyTopics,
    /// The subscriber did not read as fast as messages came, and more were waiting than may: the rest is lost.
    /// Subscribe again.
    #[error("messages came faster than they were read: the subscription has ended")]
    Lagged,
    /// No answer from the protocol itself.
    #[error(transparent)]
    Ask(AskError),
}

impl From<AskError> for PubSubError {
    fn from(error: AskError) -> PubSubError {
        match error {
            AskError::Lagged => PubSubError::Lagged,
            AskError::Busy | AskError::Stopped | AskError::Mismatch => PubSubError::Ask(error),
        }
    }
}

/// A message to everyone who has asked for its topic. Take an `Arc<dyn PubSub<Contact>>`.
#[async_trait]
pub trait PubSub<P>: Send + Sync {
    /// Publishes a message; done when somebody who passes it on has it. That says nothing of who receives it.
    ///
    /// # Errors
    /// See [`PubSubError`].
    async fn publish(&self, topic: Topic, bytes: Bytes) -> Result<(), PubSubError>;

    /// The messages of a topic, this node's own too, from when this is done. It waits for as long as the node cannot
    /// take part in the topic.
    ///
    /// # Errors
    /// [`PubSubError::TooManyTopics`], or [`PubSubError::Ask`].
    async fn subscribe(&self, topic: Topic) -> Result<Subscription<P>, PubSubError>;

    /// Ends all subscriptions of this node to a topic, as if each were dropped: their streams end.
    ///
    /// # Errors
    /// [`PubSubError::Ask`].
    async fn unsubscribe(&self, topic: Topic) -> Result<(), PubSubError>;
}

/// The messages of a topic as they come. Dropping it unsubscribes. An error is the last item and says why there are no
/// more, [`PubSubError::Lagged`] for one; the stream ends without any after [`PubSub::unsubscribe`].
#[must_use = "dropping a Subscription unsubscribes"]
pub struct Subscription<P> {
    messages: BoxStream<'static, Result<Message<P>, PubSubError>>,
}

impl<P> Subscription<P> {
    /// For those who implement [`PubSub`]: dropping `messages` must unsubscribe.
    pub fn new(
        messages: impl Stream<Item = Result<Message<P>, PubSubError>> + Send + 'static,
    ) -> Subscription<P> {
        Subscription { messages: messages.boxed() }
    }
}

impl<P> Stream for Subscription<P> {
    type Item = Result<Message<P>, PubSubError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.messages.as_mut().poll_next(cx)
    }
}

impl<P> fmt::Debug for Subscription<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription").finish_non_exhaustive()
    }
}
