//! iroh-gossip with its default configuration, relays and lookups off: nodes are told where the first is.

use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use futures::future::BoxFuture;
use iroh::address_lookup::memory::MemoryLookup;
use iroh::protocol::Router;
use iroh_gossip::ALPN;
use iroh_gossip::api::{Event, GossipSender};
use iroh_gossip::net::Gossip;
use iroh_gossip::proto::TopicId;

use super::{Crowd, Heard, NODES};
use crate::iroh::{address, endpoint};

/// The nodes, and the way to publish at the first.
#[derive(Debug)]
pub struct IrohGossip {
    routers: Vec<Router>,
    first: GossipSender,
    /// They stay subscribed while these live.
    _senders: Vec<GossipSender>,
}

impl IrohGossip {
    /// Starts all; they join by the first.
    pub async fn start(heard: &Arc<Heard>) -> IrohGossip {
        let topic = TopicId::from_bytes([7; 32]);
        let (mut routers, mut senders): (Vec<Router>, Vec<GossipSender>) = Default::default();
        for number in 0..NODES {
            let endpoint = endpoint(ALPN).await;
            let seed = routers.first().map(|first| address(first.endpoint()));
            if let Some(seed) = seed.clone() {
                endpoint.address_lookup().unwrap().add(MemoryLookup::from_endpoint_info([seed]));
            }
            let gossip = Gossip::builder().spawn(endpoint.clone());
            routers.push(Router::builder(endpoint).accept(ALPN, gossip.clone()).spawn());
            let topic = gossip.subscribe(topic, seed.iter().map(|seed| seed.id).collect()).await.unwrap();
            let (sender, mut events) = topic.split();
            if seed.is_some() {
                events.joined().await.unwrap();
            }
            let mut ear = heard.ear(number);
            tokio::spawn(async move {
                while let Some(Ok(event)) = events.next().await {
                    if let Event::Received(message) = event {
                        ear.hear(&message.content);
                    }
                }
            });
            senders.push(sender);
        }
        IrohGossip { routers, first: senders.swap_remove(0), _senders: senders }
    }
}

impl Crowd for IrohGossip {
    fn name(&self) -> &'static str {
        "iroh-gossip"
    }

    fn publish(&self, messages: Box<dyn Iterator<Item = Bytes> + Send>) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            for message in messages {
                self.first.broadcast(message).await.unwrap();
            }
        })
    }

    fn stop(self: Box<Self>) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            for router in self.routers {
                router.shutdown().await.unwrap();
            }
        })
    }
}
