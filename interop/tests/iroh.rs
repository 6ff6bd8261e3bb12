//! iroh endpoints and our nodes: both prove ed25519 keys by TLS 1.3 raw public keys (RFC 7250), so each dials the
//! other by id and address. Everything is on 127.0.0.1; iroh's relays, address lookup and port mapping are off.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::SocketAddr;
use std::time::Duration;

use iroh::endpoint::presets;
use iroh::{Endpoint, EndpointAddr, EndpointId, RelayMode};
use p2p_core::net::{DialError, Incoming, Node, OpenError, RequestError};
use p2p_core::{Contact, Keypair, PeerId};
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// ALPN: what the two call their network.
const NETWORK: &str = "interop/1";
/// More than a window of either side, so that flow control is part of the exchange.
const LONG: usize = 3 << 20;

async fn patient<T>(future: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(30), future).await.expect("this test's step takes far too long")
}

async fn iroh() -> Endpoint {
    let builder = Endpoint::builder(presets::Minimal)
        .relay_mode(RelayMode::Disabled)
        .clear_address_lookup()
        .clear_ip_transports()
        .bind_addr("127.0.0.1:0")
        .unwrap()
        .alpns(vec![NETWORK.into()]);
    patient(builder.bind()).await.unwrap()
}

/// Where an iroh endpoint can be dialled, in our terms.
fn contact(endpoint: &Endpoint) -> Contact {
    let addr: SocketAddr = endpoint.bound_sockets().into_iter().find(SocketAddr::is_ipv4).unwrap();
    Contact::new(PeerId::from_bytes(*endpoint.id().as_bytes()), addr)
}

/// Where a peer of ours can be dialled, in iroh's terms.
fn endpoint_addr(contact: Contact) -> EndpointAddr {
    EndpointAddr::new(EndpointId::from_bytes(contact.id.as_bytes()).unwrap()).with_ip_addr(contact.addr)
}

async fn node() -> Node {
    let node = Node::builder().network(NETWORK).bind("127.0.0.1:0").await.unwrap();
    node.serve("echo/1", |request: Incoming| async move { Ok(request.body) }).unwrap();
    node.serve("who/1", |request: Incoming| async move { Ok(request.from.id.to_string().into()) }).unwrap();
    node
}

/// A stream as our nodes begin it: a length byte, the protocol's name, then what it is about.
async fn ask(connection: &iroh::endpoint::Connection, protocol: &str, body: &[u8]) -> Vec<u8> {
    let (mut send, mut recv) = connection.open_bi().await.unwrap();
    let head = [&[protocol.len() as u8], protocol.as_bytes()].concat();
    let asked = async {
        send.write_all(&head).await.unwrap();
        send.write_all(body).await.unwrap();
        send.finish().unwrap();
    };
    let ((), reply) = tokio::join!(asked, recv.read_to_end(LONG));
    reply.unwrap()
}

/// An iroh endpoint that answers one connection's streams with what they bring, the name cut off, and gives
/// whose key it was.
fn serve_echo(endpoint: Endpoint) -> JoinHandle<PeerId> {
    tokio::spawn(async move {
        let connection = endpoint.accept().await.unwrap().await.unwrap();
        while let Ok((mut send, mut recv)) = connection.accept_bi().await {
            tokio::spawn(async move {
                let whole = recv.read_to_end(LONG + 256).await.unwrap();
                send.write_all(&whole[1 + usize::from(whole[0])..]).await.unwrap();
                send.finish().unwrap();
            });
        }
        PeerId::from_bytes(*connection.remote_id().as_bytes())
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn iroh_dials_a_node_by_id_and_address() {
    let (node, iroh) = (node().await, iroh().await);
    let connection = patient(iroh.connect(endpoint_addr(node.contact()), NETWORK.as_bytes())).await.unwrap();
    assert_eq!(connection.remote_id().as_bytes(), node.id().as_bytes());
    assert_eq!(patient(ask(&connection, "echo/1", b"hello")).await, b"hello");
    let long = vec![7; LONG];
    assert_eq!(patient(ask(&connection, "echo/1", &long)).await, long);
    let known_as = patient(ask(&connection, "who/1", b"")).await;
    assert_eq!(known_as, contact(&iroh).id.to_string().as_bytes(), "the node knows iroh by its key");
    connection.close(0u32.into(), b"");
    patient(iroh.close()).await;
    patient(node.shutdown()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_dials_iroh_by_id_and_address() {
    let (node, iroh) = (node().await, iroh().await);
    let serving = serve_echo(iroh.clone());
    let to = contact(&iroh);
    assert_eq!(patient(node.request(to, "echo/1", "hello")).await.unwrap(), "hello");
    let long = vec![7; LONG];
    assert_eq!(patient(node.request(to, "echo/1", long.clone())).await.unwrap(), long);
    let (mut send, mut recv) = patient(node.open(to, "talk/1")).await.unwrap();
    send.write(b"a stream").await.unwrap();
    send.finish().unwrap();
    assert_eq!(patient(recv.read_to_end(99)).await.unwrap(), "a stream");
    assert_eq!(node.stats().connections, 1);
    patient(node.shutdown()).await;
    assert_eq!(patient(serving).await.unwrap(), node.id(), "iroh knows the node by its key");
    patient(iroh.close()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_refuses_another_key_than_the_one_it_dialled() {
    let (node, iroh) = (node().await, iroh().await);
    let expected = Keypair::generate().id();
    let wrong = endpoint_addr(Contact::new(expected, node.contact().addr));
    assert!(patient(iroh.connect(wrong, NETWORK.as_bytes())).await.is_err());
    let accepting = tokio::spawn({
        let iroh = iroh.clone();
        async move { iroh.accept().await.unwrap().await.is_ok() }
    });
    let there = contact(&iroh);
    let refused = patient(node.request(Contact::new(expected, there.addr), "echo/1", "x")).await;
    let wrong = DialError::WrongKey { expected, found: there.id };
    assert_eq!(refused, Err(RequestError::Open(OpenError::Dial(wrong))));
    let _ = patient(accepting).await;
    patient(iroh.close()).await;
    patient(node.shutdown()).await;
}
