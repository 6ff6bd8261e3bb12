//! What strangers throw at a node, and that honest peers are served meanwhile.
#![cfg(feature = "net")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::net::UdpSocket;
use std::time::Duration;

use p2p_core::net::{Drop, Node, Refusal};
use p2p_core::{Limits, Rng, Wire};
use support::talker::{Msg, Talker};
use support::{Barrier, echo, is_echoed, node, patient};

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
    // They are given up in time, by name.
    let stats = patient(server.stats_when(|stats| stats.refusals.of(Refusal::TimedOut) > 0)).await;
    assert_eq!((stats.accepted, stats.unfinished_bytes, stats.requests), (2, 0, 0));
}

#[tokio::test]
async fn requests_without_end_keep_nobody_out() {
    let server = echo(Limits { requests_at_once: 8, ..Limits::default() }).await;
    let flooder = node(Limits::default()).await;
    // Half of what there is for bodies that never end.
    let mut held = Vec::new();
    for _ in 0..4 {
        held.push(patient(flooder.open(server.contact(), "echo/1")).await.unwrap());
    }
    patient(server.stats_when(|stats| stats.requests == 4)).await;
    let busy = patient(flooder.request(server.contact(), "echo/1", "x")).await;
    assert_eq!(busy, Err(p2p_core::net::RequestError::Busy));
    assert_eq!(server.stats().drops[&Drop::Busy], 1);
    is_served(&server).await;
    held.clear();
    patient(server.stats_when(|stats| stats.requests == 0)).await;
    is_echoed(&flooder, server.contact()).await;
}

#[tokio::test]
async fn bodies_without_end_are_bounded_and_keep_nobody_out() {
    let limits = Limits { requests_bytes_in_all: 200 << 10, connections: 16, ..Limits::default() };
    let server = echo(limits.clone()).await;
    let flooder = node(Limits::default()).await;
    let mut held = Vec::new();
    for _ in 0..20 {
        let (mut send, recv) = patient(flooder.open(server.contact(), "echo/1")).await.unwrap();
        // Whoever is refused may learn it while it still writes.
        let _ = patient(send.write(&[0; 60 << 10])).await;
        held.push((send, recv));
    }
    let stats = patient(server.stats_when(|stats| stats.drops.contains_key(&Drop::Busy))).await;
    assert!(stats.request_bytes <= limits.requests_bytes_in_all, "{stats:?}");
    let honest = node(Limits::default()).await;
    let body = vec![1; 10 << 10];
    let reply = patient(honest.request(server.contact(), "echo/1", body.clone())).await.unwrap();
    assert_eq!(reply, body);
    assert!(server.stats().request_bytes <= limits.requests_bytes_in_all);
    held.clear();
    patient(server.stats_when(|stats| stats.request_bytes == 0)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn datagrams_without_end_are_dropped_by_name_and_keep_nobody_out() {
    let server = echo(Limits { inbox_messages: 10, ..Limits::default() }).await;
    let barrier = Barrier::default();
    let _opens = barrier.opened_at_the_end();
    let gated = Talker::answering(move |_, _| {
        tokio::task::block_in_place(|| barrier.wait());
        None
    });
    server.spawn("talk/1", gated).unwrap();
    let flooder = node(Limits::default()).await;
    for _ in 0..1000 {
        patient(flooder.datagram(server.contact(), "talk/1", Msg::Datagram(1).to_bytes())).await.unwrap();
    }
    patient(server.stats_when(|stats| stats.drops.contains_key(&Drop::DatagramOverrun))).await;
    is_served(&server).await;
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
