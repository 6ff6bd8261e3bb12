//! Napster live: a server and its clients over TCP, byte for byte, and over QUIC.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::net::SocketAddr;
use std::time::Duration;

use futures::StreamExt;
use p2p_core::foreign::TcpPeer;
use p2p_core::net::Node;
use p2p_core::net::tcp::{self, Running};
use p2p_core::{Contact, Limits, NoWorker};
use p2p_overlay::{
    Hit, Item, Napster, NapsterCodec, NapsterConfig, NapsterEvent, Place, Query, Reachable, Say, Scope,
    Search, of_address,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

async fn patient<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), future).await.expect("this step takes far too long")
}

fn loopback() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

type Tcp = Running<Napster<TcpPeer>>;

async fn server() -> Tcp {
    let server = Napster::server(NapsterConfig::default());
    tcp::spawn(server, NapsterCodec::server, Some(loopback()), Limits::default(), [NoWorker; 0])
        .await
        .unwrap()
}

/// A client that shares one item and is logged in; if it is `hidden`, nobody can connect to it.
async fn client(nick: &str, server: SocketAddr, song: &str, hidden: bool) -> Tcp {
    let mut client = Napster::client(nick, None, [of_address(server)], NapsterConfig::default());
    client.library_mut().unwrap().insert(Item::new(song, 7)).unwrap();
    let listen = (!hidden).then(loopback);
    let running =
        tcp::spawn(client, NapsterCodec::client, listen, Limits::default(), [NoWorker; 0]).await.unwrap();
    let mut events = running.handle().events();
    running.handle().ask(Reachable(running.local_addr().map(of_address))).await.unwrap().unwrap();
    // It logs in anew, to say where it is; or for the first time.
    loop {
        if let NapsterEvent::LoggedIn(_) = patient(events.next()).await.unwrap() {
            return running;
        }
    }
}

/// Searches until something is found: what is shared comes after the login.
async fn find<P: Place + Sync>(from: &dyn Search<P>, words: &str) -> Hit<P> {
    let found = async {
        loop {
            if let Some(hit) =
                from.search(Query::text(words), Scope { hits: 1, ..Scope::default() }).next().await
            {
                return hit;
            }
            tokio::task::yield_now().await;
        }
    };
    patient(found).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_over_tcp_find_each_other_and_push() {
    let server = server().await;
    let addr = server.local_addr().unwrap();
    let ada = client("ada", addr, "song of ada", false).await;
    let bob = client("bob", addr, "song of bob", false).await;
    let eve = client("eve", addr, "song of eve", true).await;
    let asker = ada.handle();
    let hit = find(&asker, "bob").await;
    let source = patient(asker.reach(&hit)).await.unwrap();
    assert_eq!(Some(source.addr()), bob.local_addr());
    let hit = find(&asker, "eve").await;
    let source = patient(asker.reach(&hit)).await.unwrap();
    assert!(matches!(source, TcpPeer::Accepted { .. }), "she has connected: {source:?}");
    let mut said = eve.handle().events();
    bob.handle().ask(Say { nick: "eve".into(), text: "hello there".into() }).await.unwrap().unwrap();
    let private = NapsterEvent::Private { nick: "bob".into(), text: "hello there".into() };
    while patient(said.next()).await.unwrap() != private {}
}

/// A client by hand: each byte as OpenNap has it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_frames_on_the_wire_are_opennaps() {
    let server = server().await;
    let _ada = client("ada", server.local_addr().unwrap(), "generic song.mp3", true).await;
    let mut stream = TcpStream::connect(server.local_addr().unwrap()).await.unwrap();
    let frame = |kind: u16, text: &str| {
        [&(text.len() as u16).to_le_bytes(), &kind.to_le_bytes(), text.as_bytes()].concat()
    };
    stream.write_all(&frame(2, "foo badpass 6699 \"nap v0.8\" 3")).await.unwrap();
    let mut received = Vec::new();
    loop {
        stream.write_all(&frame(200, "FILENAME CONTAINS \"generic\" MAX_RESULTS 10")).await.unwrap();
        loop {
            let mut header = [0; 4];
            patient(stream.read_exact(&mut header)).await.unwrap();
            let [a, b, c, d] = header;
            let mut text = vec![0; u16::from_le_bytes([a, b]).into()];
            patient(stream.read_exact(&mut text)).await.unwrap();
            received.push((u16::from_le_bytes([c, d]), String::from_utf8(text).unwrap()));
            if received.last().unwrap().0 == 202 {
                break;
            }
        }
        // What she shares comes after her login.
        if received.iter().any(|(kind, _)| *kind == 201) {
            break;
        }
    }
    assert_eq!(received[0].0, 3);
    let result = received.iter().find(|(kind, _)| *kind == 201).unwrap();
    assert_eq!(result.1, "\"generic song.mp3\" 00000000000000000000000000000000 7 0 0 0 ada 0 0");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_over_quic_find_each_other() {
    let bind = async || Node::builder().bind("127.0.0.1:0").await.unwrap();
    let (node, ada, bob) = (bind().await, bind().await, bind().await);
    node.spawn("napster/1", Napster::<Contact>::server(NapsterConfig::default())).unwrap();
    let join = |own: &Node, nick: &str| {
        let client = Napster::client(nick, Some(own.contact()), [node.contact()], NapsterConfig::default());
        own.spawn("napster/1", client).unwrap()
    };
    let (here, there) = (join(&ada, "ada"), join(&bob, "bob"));
    there.publish(Item::new("Blue Monday", 7)).await.unwrap();
    let hit = find(&here, "monday").await;
    assert_eq!(patient(here.reach(&hit)).await, Ok(bob.contact()));
}
