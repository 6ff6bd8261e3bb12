//! libp2p over QUIC: `request-response` for requests, `libp2p-stream` for bulk.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::{AsyncReadExt, AsyncWriteExt, StreamExt};
use libp2p::request_response::{self, Message, ProtocolSupport};
use libp2p::swarm::{NetworkBehaviour, SwarmEvent};
use libp2p::{Multiaddr, PeerId, StreamProtocol, Swarm, SwarmBuilder};
use tokio::sync::{mpsc, oneshot};

use crate::{BODY, BULK, CHUNK, Side, rate};

const STREAM: StreamProtocol = StreamProtocol::new("/bulk/1");
const ECHO: StreamProtocol = StreamProtocol::new("/echo/1");

#[derive(NetworkBehaviour)]
#[behaviour(prelude = "libp2p::swarm::derive_prelude")]
struct Behaviour {
    requests: request_response::cbor::Behaviour<Vec<u8>, Vec<u8>>,
    streams: libp2p_stream::Behaviour,
}

/// A request, and who wants the reply.
type Ask = (Vec<u8>, oneshot::Sender<Vec<u8>>);

/// Two swarms, each driven by a task, and their connection.
#[allow(missing_debug_implementations, reason = "libp2p's control has none")]
pub struct Libp2p {
    server: PeerId,
    asks: mpsc::UnboundedSender<Ask>,
    streams: libp2p_stream::Control,
}

fn swarm() -> Swarm<Behaviour> {
    let behaviour = |_: &libp2p::identity::Keypair| {
        // As many at once as are measured: by default it is 100.
        let config = request_response::Config::default().with_max_concurrent_streams(1024);
        let requests = request_response::cbor::Behaviour::new([(ECHO, ProtocolSupport::Full)], config);
        Behaviour { requests, streams: libp2p_stream::Behaviour::new() }
    };
    SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_quic()
        .with_behaviour(behaviour)
        .unwrap()
        .with_swarm_config(|config| config.with_idle_connection_timeout(Duration::from_secs(600)))
        .build()
}

async fn serve(mut swarm: Swarm<Behaviour>, listening: oneshot::Sender<Multiaddr>) {
    swarm.listen_on("/ip4/127.0.0.1/udp/0/quic-v1".parse().unwrap()).unwrap();
    let mut listening = Some(listening);
    loop {
        match swarm.select_next_some().await {
            SwarmEvent::NewListenAddr { address, .. } => {
                if let Some(listening) = listening.take() {
                    let _ = listening.send(address);
                }
            }
            SwarmEvent::Behaviour(BehaviourEvent::Requests(request_response::Event::Message {
                message: Message::Request { request, channel, .. },
                ..
            })) => {
                swarm.behaviour_mut().requests.send_response(channel, request).unwrap();
            }
            _ => {}
        }
    }
}

async fn ask(
    mut swarm: Swarm<Behaviour>,
    server: PeerId,
    mut asks: mpsc::UnboundedReceiver<Ask>,
    connected: oneshot::Sender<()>,
) {
    let mut waiting = BTreeMap::new();
    let mut connected = Some(connected);
    loop {
        tokio::select! {
            ask = asks.recv() => {
                let Some((body, reply)) = ask else { return };
                waiting.insert(swarm.behaviour_mut().requests.send_request(&server, body), reply);
            }
            event = swarm.select_next_some() => match event {
                SwarmEvent::ConnectionEstablished { .. } => {
                    if let Some(connected) = connected.take() {
                        let _ = connected.send(());
                    }
                }
                SwarmEvent::Behaviour(BehaviourEvent::Requests(request_response::Event::Message {
                    message: Message::Response { request_id, response },
                    ..
                })) => {
                    let _ = waiting.remove(&request_id).unwrap().send(response);
                }
                SwarmEvent::Behaviour(BehaviourEvent::Requests(
                    request_response::Event::OutboundFailure { error, .. },
                )) => panic!("a request failed: {error}"),
                _ => {}
            },
        }
    }
}

impl Libp2p {
    /// Connects the two, and answers on one of them.
    pub async fn start() -> Libp2p {
        let (server, mut client) = (swarm(), swarm());
        let mut incoming = server.behaviour().streams.new_control().accept(STREAM).unwrap();
        tokio::spawn(async move {
            let mut buffer = vec![0; CHUNK];
            while let Some((_, mut stream)) = incoming.next().await {
                let mut total = 0;
                loop {
                    match stream.read(&mut buffer).await.unwrap() {
                        0 => break,
                        len => total += len,
                    }
                }
                stream.write_all(&total.to_le_bytes()).await.unwrap();
                stream.close().await.unwrap();
            }
        });
        let id = *server.local_peer_id();
        let (listening, address) = oneshot::channel();
        tokio::spawn(serve(server, listening));
        client.dial(address.await.unwrap().with_p2p(id).unwrap()).unwrap();
        let streams = client.behaviour().streams.new_control();
        let ((asks, asked), (connected, connection)) = (mpsc::unbounded_channel(), oneshot::channel());
        tokio::spawn(ask(client, id, asked, connected));
        connection.await.unwrap();
        Libp2p { server: id, asks, streams }
    }
}

impl Side for Libp2p {
    fn name(&self) -> &'static str {
        "libp2p"
    }

    fn bulk(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            let mut stream = self.streams.clone().open_stream(self.server, STREAM).await.unwrap();
            let chunk = vec![7; CHUNK];
            for _ in 0..BULK / CHUNK {
                stream.write_all(&chunk).await.unwrap();
            }
            stream.close().await.unwrap();
            let mut total = [0; 8];
            stream.read_exact(&mut total).await.unwrap();
            assert_eq!(total, BULK.to_le_bytes());
        })
    }

    fn requests(&self, outstanding: usize) -> BoxFuture<'_, f64> {
        let asks = self.asks.clone();
        Box::pin(rate(outstanding, move || {
            let (reply, replied) = oneshot::channel();
            asks.send((vec![7; BODY], reply)).unwrap();
            async move { assert_eq!(replied.await.unwrap().len(), BODY) }
        }))
    }
}
