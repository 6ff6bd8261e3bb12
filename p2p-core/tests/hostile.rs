//! What strangers throw at a node, and that honest peers are served meanwhile.
#![cfg(feature = "net")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::net::UdpSocket;
use std::time::Duration;

use p2p_core::net::{Drop, Node, Refusal};
use p2p_core::{Limits, Rng};
use support::{echo, is_echoed, node, patient};

async fn is_served(server: &Node) {
    let honest = node(Limits::default()).await;
    is_echoed(&honest, server.contact()).await;
    patient(honest.shutdown()).await;
}

/// The first packets of handshakes that never go on: dials whose answers go nowhere.
async fn first_packets(count: usize) -> Vec<Vec<u8>> {
    let trap = UdpSocket::bind("127.0.0.1:0").unwrap();
    let at = trap.local_addr().unwrap();
    let dialler = node(Limits::default()).await;
    for _ in 0..count {
        let nobody = p2p_core::Contact::new(p2p_core::Keypair::generate().id(), at);
        let dialler = dialler.clone();
        tokio::spawn(async move { dialler.open(nobody, "x/1").await.is_ok() });
    }
    let trapped = tokio::task::spawn_blocking(move || {
        // By connection id (RFC 9000 §17.2): a packet that is sent again is the same handshake.
        let mut packets = std::collections::BTreeMap::new();
        while packets.len() < count {
            let mut packet = vec![0; 2000];
            let len = trap.recv(&mut packet).unwrap();
            packet.truncate(len);
            packets.insert(packet[6..14].to_vec(), packet);
        }
        packets.into_values().collect()
    });
    patient(trapped).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_and_half_open_handshakes_keep_nobody_out() {
    let server =
        echo(Limits { handshakes_at_once: 32, dial_timeout: Duration::from_secs(2), ..Limits::default() })
            .await;
    let to = server.contact().addr;
    let mut rng = Rng::new(1);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let hellos = first_packets(60).await;
    for i in 0..2000 {
        let mut garbage = vec![0; rng.index(1400)];
        rng.fill(&mut garbage);
        socket.send_to(&garbage, to).unwrap();
        if i % 30 == 0
            && let Some(hello) = hellos.get(i / 30)
        {
            socket.send_to(hello, to).unwrap();
            tokio::task::yield_now().await;
        }
    }
    is_served(&server).await;
    // The garbage may have pushed some out of the socket's buffer, which is read empty by now: they come again, as
    // they would.
    for hello in &hellos {
        socket.send_to(hello, to).unwrap();
    }
    patient(server.stats_when(|stats| stats.refusals.of(Refusal::Unvalidated) > 0)).await;
    is_served(&server).await;
    assert_eq!(server.stats().accepted, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_connections_are_bounded_and_counted() {
    let attempts: usize = std::env::var("P2P_ATTEMPTS").ok().and_then(|n| n.parse().ok()).unwrap_or(1000);
    let limits = Limits {
        count_loopback: true,
        connections_per_address: 50,
        handshakes_per_address: 100_000,
        handshakes_per_subnet: 100_000,
        ..Limits::default()
    };
    let server = echo(limits).await;
    let mut connected = Vec::new();
    let mut refused = 0;
    // One after the other, so that it shows the bound and not the machine's speed.
    for _ in 0..attempts {
        let one = node(Limits::default()).await;
        match patient(one.request(server.contact(), "echo/1", "x")).await {
            Ok(reply) => {
                assert_eq!(reply, "x");
                connected.push(one);
            }
            Err(_) => refused += 1,
        }
    }
    assert_eq!((connected.len(), refused), (50, attempts - 50));
    let stats = server.stats();
    assert_eq!(stats.connections, 50);
    assert_eq!(stats.refusals.of(Refusal::AddressConnections), refused as u64);
    // Those who are in are served; when one goes another may come.
    assert!(patient(connected[0].request(server.contact(), "echo/1", "x")).await.is_ok());
    patient(connected.pop().unwrap().shutdown()).await;
    patient(server.stats_when(|stats| stats.connections < 50)).await;
    is_served(&server).await;
}

#[tokio::test]
async fn requests_without_end_are_refused_as_busy() {
    let limits = Limits { requests_at_once: 8, ..Limits::default() };
    let server = echo(limits).await;
    let flooder = node(Limits::default()).await;
    // Eight bodies that never end.
    let mut held = Vec::new();
    for _ in 0..8 {
        held.push(patient(flooder.open(server.contact(), "echo/1")).await.unwrap());
    }
    patient(server.stats_when(|stats| stats.protocols["echo/1"].received == 8)).await;
    let busy = patient(flooder.request(server.contact(), "echo/1", "x")).await;
    assert_eq!(busy, Err(p2p_core::net::RequestError::Busy));
    assert_eq!(server.stats().drops[&Drop::Busy], 1);
    held.clear();
    patient(async {
        while flooder.request(server.contact(), "echo/1", "x").await.is_err() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_peer_that_does_not_read_its_reply_keeps_nobody_out() {
    let limits =
        Limits { requests_at_once: 1, request_timeout: Duration::from_millis(200), ..Limits::default() };
    let server = echo(limits).await;
    server.serve("long/1", |_| async { Ok(vec![0; 1 << 20].into()) }).unwrap();
    let deaf = Limits { stream_window: 1 << 10, ..Limits::default() };
    let deaf = node(deaf).await;
    let (mut send, unread) = patient(deaf.open(server.contact(), "long/1")).await.unwrap();
    send.finish().unwrap();
    patient(server.stats_when(|stats| stats.drops.contains_key(&Drop::TimedOut))).await;
    is_served(&server).await;
    drop(unread);
}
