//! Ours: [`Gossip`] with its default configuration.

use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use futures::future::BoxFuture;
use p2p_core::net::Node;
use p2p_core::{Contact, Handle};
use p2p_overlay::{Gossip, PubSub, Publish, Topic};

use super::{Crowd, Heard, NODES};

/// How many messages are under way at once.
const UNDER_WAY: usize = 256;

/// The nodes, and the handle of the first.
#[derive(Debug)]
pub struct Ours {
    nodes: Vec<Node>,
    first: Handle<Gossip<Contact>>,
    topic: Topic,
}

impl Ours {
    /// Starts all; they join by the first.
    pub async fn start(heard: &Arc<Heard>) -> Ours {
        let topic = Topic::named("bench");
        let (mut nodes, mut handles): (Vec<Node>, Vec<Handle<_>>) = Default::default();
        for number in 0..NODES {
            let node = Node::builder().bind("127.0.0.1:0").await.unwrap();
            let seed = nodes.first().map(Node::contact);
            let handle = node.spawn("gossip/1", Gossip::join(node.contact(), seed)).unwrap();
            let mut ear = heard.ear(number);
            let mut messages = handle.subscribe(topic).await.unwrap();
            tokio::spawn(async move {
                // Until the node stops.
                while let Some(Ok(message)) = messages.next().await {
                    ear.hear(&message.bytes);
                }
            });
            nodes.push(node);
            handles.push(handle);
        }
        Ours { nodes, first: handles.swap_remove(0), topic }
    }
}

impl Crowd for Ours {
    fn name(&self) -> &'static str {
        "Gossip"
    }

    fn publish(&self, messages: Box<dyn Iterator<Item = Bytes> + Send>) -> BoxFuture<'_, ()> {
        let publish = |bytes| self.first.ask(Publish { topic: self.topic, bytes });
        let done = futures::stream::iter(messages).map(publish).buffered(UNDER_WAY);
        Box::pin(done.for_each(|done| async move { done.unwrap().unwrap() }))
    }

    fn stop(self: Box<Self>) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            for node in self.nodes {
                node.shutdown().await;
            }
        })
    }
}
