//! libp2p's gossipsub over QUIC, every node connected to every other. Its messages are signed unless said otherwise.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::future::BoxFuture;
use libp2p::gossipsub::{
    Behaviour, ConfigBuilder, Event, IdentTopic, MessageAuthenticity, PublishError, ValidationMode,
};
use libp2p::swarm::SwarmEvent;
use libp2p::{Multiaddr, Swarm, SwarmBuilder};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::{Crowd, Ear, Heard, NODES};

/// The nodes' tasks, and the way to the first.
#[derive(Debug)]
pub struct Gossipsub {
    tasks: Vec<JoinHandle<()>>,
    first: mpsc::Sender<Bytes>,
    signed: bool,
}

fn swarm(signed: bool) -> Swarm<Behaviour> {
    let behaviour = |key: &libp2p::identity::Keypair| {
        let (authenticity, mode) = match signed {
            true => (MessageAuthenticity::Signed(key.clone()), ValidationMode::Strict),
            false => (MessageAuthenticity::Author(key.public().to_peer_id()), ValidationMode::Permissive),
        };
        Behaviour::new(authenticity, ConfigBuilder::default().validation_mode(mode).build().unwrap()).unwrap()
    };
    SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_quic()
        .with_behaviour(behaviour)
        .unwrap()
        .with_swarm_config(|config| config.with_idle_connection_timeout(Duration::from_secs(600)))
        .build()
}

async fn drive(
    mut swarm: Swarm<Behaviour>,
    topic: IdentTopic,
    mut ear: Ear,
    mut messages: mpsc::Receiver<Bytes>,
    listening: oneshot::Sender<Multiaddr>,
) {
    swarm.listen_on("/ip4/127.0.0.1/udp/0/quic-v1".parse().unwrap()).unwrap();
    let (mut listening, mut refused, mut open) = (Some(listening), None::<Bytes>, true);
    loop {
        let event = tokio::select! {
            message = messages.recv(), if refused.is_none() && open => {
                match message {
                    Some(message) => refused = publish(&mut swarm, &topic, message),
                    None => open = false,
                }
                continue;
            }
            event = swarm.select_next_some() => event,
        };
        match event {
            SwarmEvent::NewListenAddr { address, .. } => {
                if let Some(listening) = listening.take() {
                    let _ = listening.send(address);
                }
            }
            SwarmEvent::Behaviour(Event::Message { message, .. }) => ear.hear(&message.data),
            _ => {}
        }
        refused = refused.and_then(|message| publish(&mut swarm, &topic, message));
    }
}

/// Publishes a message; gives it back if there is no room for it yet.
fn publish(swarm: &mut Swarm<Behaviour>, topic: &IdentTopic, message: Bytes) -> Option<Bytes> {
    match swarm.behaviour_mut().publish(topic.clone(), message.clone()) {
        Ok(_) => None,
        Err(PublishError::AllQueuesFull(_) | PublishError::NoPeersSubscribedToTopic) => Some(message),
        Err(error) => panic!("a message was not published: {error}"),
    }
}

impl Gossipsub {
    /// Starts all, and connects them.
    pub async fn start(heard: &Arc<Heard>, signed: bool) -> Gossipsub {
        let topic = IdentTopic::new("bench");
        let (mut tasks, mut senders, mut addresses) = (Vec::new(), Vec::new(), Vec::<Multiaddr>::new());
        for number in 0..NODES {
            let mut swarm = swarm(signed);
            swarm.behaviour_mut().subscribe(&topic).unwrap();
            for address in &addresses {
                swarm.dial(address.clone()).unwrap();
            }
            let id = *swarm.local_peer_id();
            let ((sender, messages), (listening, address)) = (mpsc::channel(1), oneshot::channel());
            tasks.push(tokio::spawn(drive(swarm, topic.clone(), heard.ear(number), messages, listening)));
            senders.push(sender);
            addresses.push(address.await.unwrap().with_p2p(id).unwrap());
        }
        Gossipsub { tasks, first: senders.swap_remove(0), signed }
    }
}

impl Crowd for Gossipsub {
    fn name(&self) -> &'static str {
        if self.signed { "gossipsub, signed" } else { "gossipsub, unsigned" }
    }

    fn publish(&self, messages: Box<dyn Iterator<Item = Bytes> + Send>) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            for message in messages {
                self.first.send(message).await.unwrap();
            }
        })
    }

    fn stop(self: Box<Self>) -> BoxFuture<'static, ()> {
        self.tasks.iter().for_each(JoinHandle::abort);
        Box::pin(std::future::ready(()))
    }
}
