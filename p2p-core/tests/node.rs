//! Nodes over QUIC on loopback: requests, streams, datagrams, and the connections under them.
#![cfg(feature = "net")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::time::Duration;

use bytes::Bytes;
use p2p_core::net::{DialError, Incoming, Node, OpenError, Refused, RequestError, StreamError, code};
use p2p_core::{Contact, Keypair, Limits};
use support::{echo, is_echoed, node, patient};
use tokio::sync::mpsc;

#[tokio::test]
async fn a_request_is_answered() {
    let (server, client) = (echo(Limits::default()).await, node(Limits::default()).await);
    for len in [0, 1, 2048, 2049, 100_000, 4 << 20] {
        let body = Bytes::from(vec![7; len]);
        let reply = patient(client.request(server.contact(), "echo/1", body.clone())).await.unwrap();
        assert_eq!(reply, body);
    }
    assert_eq!((client.stats().connections, client.stats().dialled), (1, 1));
    assert_eq!(server.stats().protocols["echo/1"].received, 6);
}

#[tokio::test]
async fn the_handler_knows_who_asks() {
    let (server, client) = (node(Limits::default()).await, node(Limits::default()).await);
    let whoami = |request: Incoming| async move { Ok(request.from.to_string().into()) };
    server.serve("whoami/1", whoami).unwrap();
    let reply = patient(client.request(server.contact(), "whoami/1", "")).await.unwrap();
    assert_eq!(reply, client.contact().to_string());
}

#[tokio::test]
async fn each_fault_has_its_name() {
    let (server, client) = (echo(Limits::default()).await, node(Limits::default()).await);
    server.serve("no/1", |_| async { Err(Refused(7)) }).unwrap();
    server.serve("panic/1", |_| async { panic!("a handler may do that") }).unwrap();
    let ask = |name: &'static str| patient(client.request(server.contact(), name, "x"));
    assert_eq!(ask("other/1").await, Err(RequestError::NotServed));
    assert_eq!(ask("no/1").await, Err(RequestError::Application(7)));
    assert_eq!(ask("panic/1").await, Err(RequestError::Abandoned));
    assert!(matches!(ask("").await, Err(RequestError::Open(OpenError::Name(_)))));
    let long = vec![0; (4 << 20) + 1];
    let long = client.request(server.contact(), "echo/1", long).await;
    assert!(matches!(long, Err(RequestError::TooLong { .. })));
    let own = client.request(client.contact(), "echo/1", "x").await;
    assert!(matches!(own, Err(RequestError::Open(OpenError::Dial(DialError::Invalid(_))))));
    assert_eq!(ask("echo/1").await.unwrap(), "x", "and the connection is as good as ever");
}

#[tokio::test]
async fn a_longer_request_than_the_server_takes_is_refused_by_name() {
    let server = node(Limits { request_bytes: 1000, ..Limits::default() }).await;
    server.serve("echo/1", |request: Incoming| async move { Ok(request.body) }).unwrap();
    let client = node(Limits::default()).await;
    let refused = patient(client.request(server.contact(), "echo/1", vec![0; 3 << 20])).await;
    assert_eq!(refused, Err(RequestError::Refused));
    assert_eq!(server.stats().drops[&p2p_core::net::Drop::TooLong], 1);
}

#[tokio::test]
async fn somebody_else_at_the_address_is_not_taken_for_the_peer() {
    let (server, client) = (echo(Limits::default()).await, node(Limits::default()).await);
    let expected = Keypair::generate().id();
    let contact = Contact::new(expected, server.contact().addr);
    let refused = patient(client.request(contact, "echo/1", "x")).await;
    let wrong = DialError::WrongKey { expected, found: server.id() };
    assert_eq!(refused, Err(RequestError::Open(OpenError::Dial(wrong))));
}

#[tokio::test]
async fn another_network_is_refused() {
    let server = echo(Limits::default()).await;
    let stranger = Node::builder().network("other").bind("127.0.0.1:0").await.unwrap();
    let refused = patient(stranger.request(server.contact(), "echo/1", "x")).await;
    assert!(
        matches!(refused, Err(RequestError::Open(OpenError::Dial(DialError::Refused { .. })))),
        "{refused:?}"
    );
}

#[tokio::test]
async fn nobody_at_the_address() {
    let client = node(Limits { dial_timeout: Duration::from_millis(300), ..Limits::default() }).await;
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let contact = Contact::new(Keypair::generate().id(), socket.local_addr().unwrap());
    let failed = patient(client.open(contact, "x/1")).await;
    assert_eq!(failed.err(), Some(OpenError::Dial(DialError::TimedOut(contact.addr))));
}

#[tokio::test]
async fn a_stream_goes_both_ways() {
    let (server, client) = (node(Limits::default()).await, node(Limits::default()).await);
    server
        .serve_streams("shout/1", |_, mut send, mut recv| async move {
            while let Ok(Some(chunk)) = recv.read_chunk(usize::MAX).await {
                send.write_chunk(chunk.to_ascii_uppercase().into()).await.unwrap();
            }
            send.finish().unwrap();
        })
        .unwrap();
    let (mut send, mut recv) = patient(client.open(server.contact(), "shout/1")).await.unwrap();
    for word in ["one", "two"] {
        send.write(word.as_bytes()).await.unwrap();
        let mut answer = [0; 3];
        assert!(patient(recv.read_exact(&mut answer)).await.unwrap());
        assert_eq!(answer, word.to_ascii_uppercase().as_bytes());
    }
    send.finish().unwrap();
    assert_eq!(patient(recv.read_to_end(0)).await.unwrap(), "");

    let (_send, mut recv) = patient(client.open(server.contact(), "mumble/1")).await.unwrap();
    let refused = patient(recv.read_to_end(10)).await;
    assert_eq!(refused, Err(StreamError::Abandoned(code::NOT_SERVED.into())));
}

#[tokio::test]
async fn a_datagram_arrives() {
    let (server, client) = (node(Limits::default()).await, node(Limits::default()).await);
    let (sender, mut receiver) = mpsc::unbounded_channel();
    server.serve_datagrams("note/1", move |from, note| sender.send((from.id, note)).unwrap()).unwrap();
    patient(client.datagram(server.contact(), "note/1", "hello")).await.unwrap();
    assert_eq!(patient(receiver.recv()).await.unwrap(), (client.id(), "hello".into()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn simultaneous_dials_settle_on_one_connection() {
    for _ in 0..4 {
        let (a, b) = (echo(Limits::default()).await, echo(Limits::default()).await);
        let ask = |from: Node, to: Contact| async move {
            for _ in 0..50 {
                assert_eq!(from.request(to, "echo/1", "x").await.unwrap(), "x");
            }
        };
        let asked = futures::future::join(ask(a.clone(), b.contact()), ask(b.clone(), a.contact()));
        patient(asked).await;
        for node in [&a, &b] {
            patient(node.stats_when(|stats| stats.connections == 1)).await;
        }
        // Both use the same one: nothing new is dialled.
        let before = (a.stats().dialled, b.stats().dialled);
        patient(futures::future::join(ask(a.clone(), b.contact()), ask(b.clone(), a.contact()))).await;
        assert_eq!((a.stats().dialled, b.stats().dialled), before);
        assert_eq!((a.stats().connections, b.stats().connections), (1, 1));
    }
}

#[tokio::test]
async fn an_idle_connection_closes_and_comes_back() {
    let server = echo(Limits::default()).await;
    let client = node(Limits { idle_timeout: Duration::from_millis(40), ..Limits::default() }).await;
    for round in 1..=3 {
        assert_eq!(patient(client.request(server.contact(), "echo/1", "x")).await.unwrap(), "x");
        assert_eq!(client.stats().dialled, round);
        for node in [&client, &server] {
            patient(node.stats_when(|stats| stats.connections == 0)).await;
        }
    }
}

#[tokio::test]
async fn a_stream_in_use_is_not_idle() {
    let server = node(Limits { idle_timeout: Duration::from_millis(40), ..Limits::default() }).await;
    server
        .serve_streams("echo/1", |_, mut send, mut recv| async move {
            while let Ok(Some(chunk)) = recv.read_chunk(usize::MAX).await {
                send.write_chunk(chunk).await.unwrap();
            }
        })
        .unwrap();
    let client = node(Limits { idle_timeout: Duration::from_millis(40), ..Limits::default() }).await;
    let (mut send, mut recv) = patient(client.open(server.contact(), "echo/1")).await.unwrap();
    // Meanwhile connections that are not in use come and go.
    let other = echo(Limits::default()).await;
    for _ in 0..3 {
        is_echoed(&client, other.contact()).await;
        patient(client.stats_when(|stats| stats.connections == 1)).await;
    }
    send.write(b"still here").await.unwrap();
    assert_eq!(patient(recv.read_chunk(99)).await.unwrap().unwrap(), "still here");
}

#[tokio::test]
async fn a_peer_that_restarts_is_found_again() {
    let keypair = Keypair::generate();
    let start = |addr: String, keypair: Keypair| async move {
        let node = Node::builder().identity(keypair).bind(addr).await.unwrap();
        node.serve("echo/1", |request: Incoming| async move { Ok(request.body) }).unwrap();
        node
    };
    let client = node(Limits::default()).await;
    let server = start("127.0.0.1:0".into(), keypair.clone()).await;
    let contact = server.contact();
    assert_eq!(patient(client.request(contact, "echo/1", "x")).await.unwrap(), "x");
    server.shutdown().await;
    drop(server);
    patient(client.stats_when(|stats| stats.connections == 0)).await;
    let server = patient(async {
        loop {
            // The first endpoint's socket closes when its last task has noticed.
            let bound = Node::builder().identity(keypair.clone()).bind(contact.addr).await;
            match bound {
                Ok(node) => return node,
                Err(_) => tokio::task::yield_now().await,
            }
        }
    })
    .await;
    server.serve("echo/1", |request: Incoming| async move { Ok(request.body) }).unwrap();
    assert_eq!(patient(client.request(contact, "echo/1", "y")).await.unwrap(), "y");
}

#[tokio::test]
async fn shutting_down_lets_a_handler_answer() {
    let (server, client) = (node(Limits::default()).await, node(Limits::default()).await);
    let (entered, mut begun) = mpsc::unbounded_channel();
    let (go, gate) = tokio::sync::watch::channel(false);
    server
        .serve("slow/1", move |request: Incoming| {
            let (entered, mut gate) = (entered.clone(), gate.clone());
            async move {
                entered.send(()).unwrap();
                let _ = gate.wait_for(|open| *open).await;
                Ok(request.body)
            }
        })
        .unwrap();
    let asking = tokio::spawn({
        let (client, server) = (client.clone(), server.contact());
        async move { client.request(server, "slow/1", "x").await }
    });
    patient(begun.recv()).await.unwrap();
    let ending = tokio::spawn({
        let server = server.clone();
        async move { server.shutdown().await }
    });
    go.send(true).unwrap();
    assert_eq!(patient(asking).await.unwrap().unwrap(), "x");
    patient(ending).await.unwrap();
    let late = patient(server.request(client.contact(), "slow/1", "x")).await;
    assert_eq!(late, Err(RequestError::Open(OpenError::Dial(DialError::Shutdown))));
}

#[tokio::test]
async fn shutting_down_does_not_wait_for_ever() {
    let server = node(Limits { shutdown_deadline: Duration::from_millis(100), ..Limits::default() }).await;
    let (entered, mut begun) = mpsc::unbounded_channel();
    server
        .serve("never/1", move |_| {
            entered.send(()).unwrap();
            std::future::pending()
        })
        .unwrap();
    let client = node(Limits::default()).await;
    let asking = tokio::spawn({
        let (client, server) = (client.clone(), server.contact());
        async move { client.request(server, "never/1", "x").await }
    });
    patient(begun.recv()).await.unwrap();
    patient(server.shutdown()).await;
    assert!(matches!(patient(asking).await.unwrap(), Err(RequestError::Lost(_))));
}
