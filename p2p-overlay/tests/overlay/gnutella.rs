//! Gnutella live: 0.4 over TCP with the specification's bytes, and both versions over QUIC.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use p2p_core::foreign::TcpPeer;
use p2p_core::net::Node;
use p2p_core::net::tcp::{self, Running};
use p2p_core::{Contact, Handle, Limits, NoWorker};
use p2p_overlay::{
    Fetch, Gnutella, Gnutella06, Gnutella06Codec, Gnutella06Config, GnutellaCodec, GnutellaConfig, Hit, Item,
    Listen, Place, Query, Reach, Role, Scope, Search, of_address,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

async fn patient<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), future).await.expect("this step takes far too long")
}

/// Networks that settle in seconds.
fn config() -> GnutellaConfig {
    GnutellaConfig { upkeep: Duration::from_millis(200), wanted: 3, ..GnutellaConfig::default() }
}

fn loopback() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

type Tcp = Running<Gnutella<TcpPeer>>;

/// A servent that shares one item; if it is `hidden`, nobody can connect to it.
async fn servent(seed: Option<SocketAddr>, name: &str, hidden: bool) -> Tcp {
    let mut servent = Gnutella::new(None, seed.map(of_address), config());
    servent.library_mut().insert(Item::new(name, 7)).unwrap();
    let listen = (!hidden).then(loopback);
    let running =
        tcp::spawn(servent, GnutellaCodec::new, listen, Limits::default(), [NoWorker; 0]).await.unwrap();
    running.handle().ask(Listen(running.local_addr().map(of_address))).await.unwrap();
    running
}

/// Searches until something is found.
async fn find<P: Place + Sync>(from: &Arc<dyn Search<P>>, words: &str) -> Hit<P> {
    let scope = Scope { hits: 1, deadline: Duration::from_millis(500), reach: Reach::Auto };
    let found = async {
        loop {
            if let Some(hit) = from.search(Query::text(words), scope).next().await {
                return hit;
            }
            // Nobody is connected yet.
            tokio::task::yield_now().await;
        }
    };
    patient(found).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servents_over_tcp_find_each_other_and_push() {
    let first = servent(None, "song 0", false).await;
    let seed = first.local_addr();
    let mut servents = vec![first];
    for i in 1..8 {
        servents.push(servent(seed, &format!("song {i}"), false).await);
    }
    let _hidden = servent(seed, "rare", true).await;
    let asker: Arc<dyn Search<TcpPeer>> = Arc::new(servents[5].handle());
    let hit = find(&asker, "song 7").await;
    let Fetch::Direct(source) = hit.fetch else { panic!("{hit:?}") };
    assert_eq!(Some(source.addr()), servents[7].local_addr());
    let hit = find(&asker, "rare").await;
    assert_eq!((hit.item.size, hit.fetch), (7, Fetch::Push));
    let reached = patient(asker.reach(&hit)).await.unwrap();
    assert!(matches!(reached, TcpPeer::Accepted { .. }), "it has connected to the asker: {reached:?}");
}

/// An ultrapeer and two leaves of 0.6, whose connections are deflated.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leaves_over_tcp_find_each_other_through_their_ultrapeer() {
    let config = Gnutella06Config { upkeep: Duration::from_millis(200), ..Gnutella06Config::default() };
    let mut running: Vec<Running<Gnutella06<TcpPeer>>> = Vec::new();
    for (role, listen) in [(Role::Ultrapeer, Some(loopback())), (Role::Leaf, None), (Role::Leaf, None)] {
        let seed = running.first().and_then(Running::local_addr).map(of_address);
        let mut servent = Gnutella06::new(None, seed, role, config);
        servent.library_mut().insert(Item::new(format!("song {}", running.len()), 7)).unwrap();
        let codec = Gnutella06Codec::new;
        running.push(tcp::spawn(servent, codec, listen, Limits::default(), [NoWorker; 0]).await.unwrap());
    }
    for (from, to) in [(1, 2), (2, 1), (0, 2), (1, 0)] {
        let asker: Arc<dyn Search<TcpPeer>> = Arc::new(running[from].handle());
        let scope = Scope { hits: 1, deadline: Duration::from_millis(500), ..Scope::default() };
        let found = async {
            loop {
                // Its table may not be there yet.
                if let Some(hit) = asker.search(Query::text(&format!("song {to}")), scope).next().await {
                    return hit;
                }
            }
        };
        assert_eq!(patient(found).await.item.name, format!("song {to}"));
    }
}

/// A servent by hand: each byte as Clip2 has it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_bytes_on_the_wire_are_the_specifications() {
    let servent = servent(None, "Foobar.mp3", false).await;
    let addr = servent.local_addr().unwrap();
    let mut stream = TcpStream::connect(addr).await.unwrap();
    stream.write_all(b"GNUTELLA CONNECT/0.4\n\n").await.unwrap();
    let mut ok = [0; 13];
    patient(stream.read_exact(&mut ok)).await.unwrap();
    assert_eq!(&ok, b"GNUTELLA OK\n\n");

    // Identifier, kind, TTL, hops, length.
    let header = |id: u8, kind: u8, length: u8| [&[id; 16][..], &[kind, 1, 0, length, 0, 0, 0]].concat();
    let mut asked = header(1, 0x00, 0);
    asked.extend(header(2, 0x80, 9));
    asked.extend(b"\0\0foobar\0");
    stream.write_all(&asked).await.unwrap();
    let (mut pong, mut hit) = (None, None);
    while pong.is_none() || hit.is_none() {
        let mut header = [0; 23];
        patient(stream.read_exact(&mut header)).await.unwrap();
        let length = u32::from_le_bytes(header[19..].try_into().unwrap());
        let mut payload = vec![0; length as usize];
        patient(stream.read_exact(&mut payload)).await.unwrap();
        match header[16] {
            0x00 => {} // It wants to know who we are.
            0x01 => pong = Some((header, payload)),
            0x81 => hit = Some((header, payload)),
            other => panic!("kind {other:#x}"),
        }
    }
    let port = addr.port().to_le_bytes();
    let (header, payload) = pong.unwrap();
    assert_eq!(header, *[&[1; 16][..], &[0x01, 1, 0, 14, 0, 0, 0]].concat());
    assert_eq!(payload, [&port[..], &[127, 0, 0, 1], &[1, 0, 0, 0], &[0, 0, 0, 0]].concat());
    let (header, payload) = hit.unwrap();
    assert_eq!(header[..19], [&[2; 16][..], &[0x81, 1, 0]].concat());
    // One result, at 1,000 kbit/s: number 0, 7 bytes; no push needed; and 16 bytes of identifier.
    let expected =
        [&[1][..], &port, &[127, 0, 0, 1], &1000u32.to_le_bytes(), &[0; 4], &[7, 0, 0, 0]].concat();
    let expected = [&expected[..], b"Foobar.mp3\0\0", b"P2PR\x02\x00\x01"].concat();
    assert_eq!(payload[..payload.len() - 16], expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servents_over_quic_find_each_other_and_mend() {
    let mut network: Vec<(Node, Handle<Gnutella<Contact>>)> = Vec::new();
    for i in 0..12 {
        let node = Node::builder().bind("127.0.0.1:0").await.unwrap();
        let seed = network.first().map(|(first, _)| first.contact());
        let servent = Gnutella::new(Some(node.contact()), seed, config());
        let handle = node.spawn("gnutella/1", servent).unwrap();
        handle.publish(Item::new(format!("song {i}"), 7)).await.unwrap();
        network.push((node, handle));
    }
    let asker: Arc<dyn Search<Contact>> = Arc::new(network[11].1.clone());
    let hit = find(&asker, "song 6").await;
    assert_eq!(asker.reach(&hit).await, Ok(network[6].0.contact()));
    assert_eq!(asker.unpublish("song 11").await, Ok(true));
    // A third is gone, the one through whom all have joined among them.
    network.drain(..4).for_each(drop);
    find(&asker, "song 6").await;
}

/// Version 0.6: leaves are found through their ultrapeers, and one that accepts no connections makes one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leaves_over_quic_are_found_and_make_connections() {
    let config = Gnutella06Config {
        upkeep: Duration::from_millis(200),
        hop_wait: Duration::from_millis(100),
        ..Gnutella06Config::default()
    };
    let mut network: Vec<(Node, Handle<Gnutella06<Contact>>)> = Vec::new();
    for i in 0..9 {
        let node = Node::builder().bind("127.0.0.1:0").await.unwrap();
        let seeds: Vec<Contact> = network.iter().take(3).map(|(ultrapeer, _)| ultrapeer.contact()).collect();
        let (role, listens) = if i < 3 { (Role::Ultrapeer, true) } else { (Role::Leaf, i != 8) };
        let mut servent = Gnutella06::new(listens.then(|| node.contact()), seeds, role, config);
        servent.library_mut().insert(Item::new(format!("song {i}"), 7)).unwrap();
        let handle = node.spawn("gnutella06/1", servent).unwrap();
        network.push((node, handle));
    }
    let asker: Arc<dyn Search<Contact>> = Arc::new(network[3].1.clone());
    let hit = find(&asker, "song 7").await;
    assert_eq!(asker.reach(&hit).await, Ok(network[7].0.contact()));
    let hit = find(&asker, "song 8").await;
    assert_eq!(hit.fetch, Fetch::Push);
    assert_eq!(patient(asker.reach(&hit)).await.map(|peer| peer.id), Ok(network[8].0.id()));
}
