//! What users of any machine that carries messages ask of it, as typed requests; most users have [`PubSub`].
//!
//! A machine that takes [`Publish`], [`Subscribe`] and [`Unsubscribe`] is a [`PubSub`] by its handle.

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, StreamExt};
use p2p_core::{Ask, AskError, Handle, Protocol, Request};

use super::{Message, PubSub, PubSubError, Subscription, Topic};

/// What a subscriber is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delivery<P> {
    /// The subscriber receives what is published from now on.
    Joined,
    /// A message of the topic.
    Message(Message<P>),
}

/// Sends a message to all subscribers of a topic. Done when somebody who passes it on has it.
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

/// All that the requests of a machine have in common but their command and their outcome.
macro_rules! request {
    ([$($generics:tt)*] $machine:ty, $request:ty, $reply:ty, |$this:ident| $command:expr,
     $outcome:pat => $result:expr) => {
        impl<$($generics)*> p2p_core::Request<$machine> for $request {
            type Item = <$machine as p2p_core::Protocol>::Item;
            type Reply = $reply;

            fn command(self) -> <$machine as p2p_core::Protocol>::Command {
                let $this = self;
                $command
            }
            fn item(item: Self::Item) -> Option<Self::Item> {
                Some(item)
            }
            fn reply(outcome: <$machine as p2p_core::Protocol>::Outcome) -> Option<$reply> {
                match outcome {
                    $outcome => Some($result),
                    _ => None,
                }
            }
        }
    };
}

pub(crate) use request;

#[async_trait]
impl<N> PubSub<N::Peer> for Handle<N>
where
    N: Protocol<Item = Delivery<<N as Protocol>::Peer>>,
    Publish: Request<N, Item = Delivery<N::Peer>, Reply = Result<(), PubSubError>>,
    Subscribe: Request<N, Item = Delivery<N::Peer>, Reply = Result<(), PubSubError>>,
    Unsubscribe: Request<N, Item = Delivery<N::Peer>, Reply = ()>,
{
    async fn publish(&self, topic: Topic, bytes: Bytes) -> Result<(), PubSubError> {
        self.ask(Publish { topic, bytes }).await?
    }

    async fn subscribe(&self, topic: Topic) -> Result<Subscription<N::Peer>, PubSubError> {
        let mut messages = self.ask(Subscribe(topic));
        match messages.next().await {
            Some(_joined) => Ok(Subscription::new(stream::unfold(Some(messages), next_message))),
            None => Err(end(messages.await).err().unwrap_or(PubSubError::Ask(AskError::Stopped))),
        }
    }

    async fn unsubscribe(&self, topic: Topic) -> Result<(), PubSubError> {
        Ok(self.ask(Unsubscribe(topic)).await?)
    }
}

type Received<P> = Result<Message<P>, PubSubError>;

/// The next message, or why there are no more.
async fn next_message<N>(
    messages: Option<Ask<N, Subscribe>>,
) -> Option<(Received<N::Peer>, Option<Ask<N, Subscribe>>)>
where
    N: Protocol,
    Subscribe: Request<N, Item = Delivery<N::Peer>, Reply = Result<(), PubSubError>>,
{
    let mut messages = messages?;
    loop {
        match messages.next().await {
            Some(Delivery::Message(message)) => return Some((Ok(message), Some(messages))),
            Some(Delivery::Joined) => {}
            None => return end(messages.await).err().map(|error| (Err(error), None)),
        }
    }
}

fn end(reply: Result<Result<(), PubSubError>, AskError>) -> Result<(), PubSubError> {
    reply?
}
