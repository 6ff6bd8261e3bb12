//! The links of a machine when connections are lost, replaced or too many: everything arrives, or its loss is told.
//!
//! The other side is often a bare transport in memory, so that it does exactly what the test says.
#![cfg(feature = "net")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use p2p_core::net::{
    CloseReason, Connection, Drop, MemoryNetwork, Node, RecvStream, StreamError, Transport, code,
};
use p2p_core::{AskError, Contact, Down, Keypair, Limits, Link, Wire};
use support::patient;
use support::talker::{End, Event, Msg, Say, Talker};

fn end(network: &MemoryNetwork, limits: Limits) -> End {
    End::new(node(network, limits))
}

fn node(network: &MemoryNetwork, limits: Limits) -> Node {
    Node::builder().limits(limits).bind_on(network.join(Keypair::generate().id()))
}

fn bare(network: &MemoryNetwork) -> (Arc<dyn Transport>, Contact) {
    let bare = network.join(Keypair::generate().id());
    let contact = Contact::new(bare.id(), bare.local_addr());
    (bare, contact)
}

fn msg(number: u32) -> Msg {
    Msg::Ordered(number, vec![])
}

/// As much as makes the next write on a stream in memory wait for the reader.
fn big(number: u32) -> Msg {
    Msg::Ordered(number, vec![0; 300 << 10])
}

/// Reads the next message of a stream that has begun.
async fn read(stream: &mut RecvStream) -> Msg {
    let mut len = [0; 4];
    assert!(patient(stream.read_exact(&mut len)).await.unwrap());
    let mut frame = vec![0; u32::from_le_bytes(len) as usize];
    assert!(patient(stream.read_exact(&mut frame)).await.unwrap());
    Msg::from_bytes(&frame).unwrap()
}

/// The next stream of messages, and its first.
async fn accept(connection: &dyn Connection) -> (RecvStream, Msg) {
    let mut stream = patient(connection.accept_uni()).await.unwrap();
    let mut name = [0; 7];
    assert!(patient(stream.read_exact(&mut name)).await.unwrap());
    assert_eq!(&name, b"\x06talk/1");
    let first = read(&mut stream).await;
    (stream, first)
}

/// Dials a node, and waits until it knows: it tells where it sees us when it has taken the connection in.
async fn dial(bare: &dyn Transport, to: &Node) -> Arc<dyn Connection> {
    let connection = patient(bare.dial(to.contact())).await.unwrap();
    patient(connection.recv_datagram()).await.unwrap();
    connection
}

fn down(peer: Contact, why: Down) -> Event {
    Event::Link(peer, Link::Down(why))
}

// ---- on its way

#[tokio::test]
async fn what_the_transport_has_taken_waits_no_longer() {
    let network = MemoryNetwork::default();
    let server = end(&network, Limits { queue_bytes_per_peer: 100 << 10, ..Limits::default() });
    let (bare, bare_at) = bare(&network);
    let long = |number| Msg::Bulk(number, vec![0; 60 << 10]);
    server.say(bare_at, [long(0)]).await;
    let connection = patient(bare.accept()).await.unwrap();
    // None is read to its end, so none is delivered; yet whoever has got one may ask for the next.
    let mut unread = Vec::new();
    for number in 1..5 {
        unread.push(patient(connection.accept_uni()).await.unwrap());
        server.say(bare_at, [long(number)]).await;
    }
    assert!(server.node.stats().drops.is_empty());
}

// ---- too many

#[tokio::test]
async fn a_newcomer_takes_the_place_of_the_peer_that_was_idle_longest() {
    let network = MemoryNetwork::default();
    let mut server = end(&network, Limits { links_per_protocol: 2, ..Limits::default() });
    let [a, b, c] = [(); 3].map(|()| end(&network, Limits::default()));
    let to = server.node.contact();
    let contacts = [&a, &b, &c].map(|end| end.node.contact());
    let mut expect = async |events: &[Event]| {
        for event in events {
            assert_eq!(server.next().await, *event);
        }
    };
    for (end, contact) in [&a, &b].into_iter().zip(contacts) {
        end.say(to, [msg(1)]).await;
        expect(&[Event::Link(contact, Link::Up), Event::Got(contact, msg(1))]).await;
    }
    a.say(to, [msg(2)]).await;
    expect(&[Event::Got(contacts[0], msg(2))]).await;
    c.say(to, [msg(3)]).await;
    let [a_at, b_at, c_at] = contacts;
    expect(&[down(b_at, Down::Idle), Event::Link(c_at, Link::Up), Event::Got(c_at, msg(3))]).await;
    // Who had to go comes back with its next message.
    b.say(to, [msg(4)]).await;
    expect(&[down(a_at, Down::Idle), Event::Link(b_at, Link::Up), Event::Got(b_at, msg(4))]).await;
    assert!(server.node.stats().drops.is_empty());
}

#[tokio::test]
async fn a_protocol_whose_links_are_all_in_use_refuses_both_ways_and_says_so() {
    let network = MemoryNetwork::default();
    let mut server = end(&network, Limits { links_per_protocol: 1, ..Limits::default() });
    let (deaf, deaf_at) = bare(&network);
    server.say(deaf_at, [big(0)]).await;
    let connection = patient(deaf.accept()).await.unwrap();
    let unread = patient(connection.accept_uni()).await.unwrap();
    server.say(deaf_at, [big(1), big(2)]).await;
    assert_eq!(server.next().await, Event::Link(deaf_at, Link::Up));

    let mut client = end(&network, Limits::default());
    client.say(server.node.contact(), [msg(1)]).await;
    assert_eq!(client.next().await, Event::Link(server.node.contact(), Link::Up));
    assert_eq!(client.next().await, down(server.node.contact(), Down::Overflow));
    assert_eq!(server.node.stats().drops[&Drop::Busy], 1);

    let (_somebody, at) = bare(&network);
    server.say(at, [msg(3)]).await;
    assert_eq!(server.next().await, down(at, Down::Overflow));
    assert_eq!(server.node.stats().drops[&Drop::Overflow], 1);
    drop(unread);
}

// ---- replaced

#[tokio::test]
async fn the_streams_of_a_replaced_connection_come_to_their_end() {
    let network = MemoryNetwork::default();
    let end = end(&network, Limits::default());
    let (bare, at) = bare(&network);
    let first = dial(&*bare, &end.node).await;
    end.say(at, [msg(1)]).await;
    let (mut stream, got) = accept(&*first).await;
    assert_eq!(got, msg(1));
    let second = dial(&*bare, &end.node).await;
    assert_eq!(patient(stream.read_chunk(1)).await, Ok(None), "nothing more comes here");
    end.say(at, [msg(2)]).await;
    assert_eq!(accept(&*second).await.1, msg(2));
}

#[tokio::test]
async fn what_is_lost_with_a_replaced_connection_is_told() {
    let network = MemoryNetwork::default();
    for message in [msg(1), Msg::Bulk(1, vec![])] {
        let mut end = end(&network, Limits::default());
        let (bare, at) = bare(&network);
        let first = dial(&*bare, &end.node).await;
        end.say(at, [message]).await;
        let unread = patient(first.accept_uni()).await.unwrap();
        assert_eq!(end.next().await, Event::Link(at, Link::Up));
        let second = dial(&*bare, &end.node).await;
        first.close(CloseReason::Settled);
        assert_eq!(end.next().await, down(at, Down::Closed));
        end.say(at, [msg(2)]).await;
        assert_eq!(accept(&*second).await.1, msg(2));
        drop(unread);
    }
}

#[tokio::test]
async fn what_was_coming_on_a_replaced_connection_and_is_lost_is_told() {
    let network = MemoryNetwork::default();
    let mut end = end(&network, Limits::default());
    let (bare, at) = bare(&network);
    let first = dial(&*bare, &end.node).await;
    let mut send = patient(first.open_uni()).await.unwrap();
    let bytes = msg(1).to_bytes();
    let frame = [b"\x06talk/1", &(bytes.len() as u32).to_le_bytes()[..], &bytes].concat();
    patient(send.write(&frame)).await.unwrap();
    assert_eq!(end.next().await, Event::Link(at, Link::Up));
    assert_eq!(end.next().await, Event::Got(at, msg(1)));
    let _second = dial(&*bare, &end.node).await;
    first.close(CloseReason::Settled);
    assert_eq!(end.next().await, down(at, Down::Closed));
}

// ---- lost

#[tokio::test]
async fn a_connection_that_is_closed_is_never_handed_out() {
    let network = MemoryNetwork::default();
    let end = end(&network, Limits::default());
    let (bare, at) = bare(&network);
    let next = async || patient(bare.accept()).await.unwrap();
    end.say(at, [Msg::Datagram(1)]).await;
    let connection = next().await;
    patient(connection.recv_datagram()).await.unwrap();

    // Nothing runs between the end of a connection and its next use: this runtime has one thread, and is busy here.
    connection.close(CloseReason::Idle);
    patient(end.node.open(at, "x/1")).await.unwrap();
    let connection = next().await;
    connection.close(CloseReason::Idle);
    patient(end.node.datagram(at, "x/1", "x")).await.unwrap();
    let connection = next().await;
    assert_eq!(patient(connection.recv_datagram()).await.unwrap(), "\x03x/1x");

    let said = end.talker.ask(Say(at, vec![Msg::Datagram(2)]));
    connection.close(CloseReason::Idle);
    patient(said).await.unwrap();
    let datagram = patient(next().await.recv_datagram()).await.unwrap();
    assert_eq!(Msg::from_bytes(&datagram[7..]), Ok(Msg::Datagram(2)));
}

// ---- a machine that ends

#[tokio::test]
async fn a_machine_that_panics_is_stopped_and_the_node_goes_on() {
    let network = MemoryNetwork::default();
    let fragile = Talker::answering(|_, msg| match msg {
        Msg::Ordered(13, _) => panic!("a machine may do that"),
        _ => None,
    });
    let mut server = End::with(node(&network, Limits::default()), fragile);
    let to = server.node.contact();
    let [mut idle, mut client] = [(); 2].map(|()| end(&network, Limits::default()));
    for end in [&mut idle, &mut client] {
        end.say(to, [msg(1)]).await;
        assert_eq!(end.next().await, Event::Link(to, Link::Up));
        assert_eq!(server.next().await, Event::Link(end.node.contact(), Link::Up));
        assert_eq!(server.next().await, Event::Got(end.node.contact(), msg(1)));
    }
    client.say(to, [msg(13)]).await;
    assert_eq!(idle.next().await, down(to, Down::Closed));
    assert_eq!(client.next().await, down(to, Down::Closed));
    assert_eq!(patient(server.talker.ask(Say(to, vec![]))).await, Err(AskError::Stopped));
    client.say(to, [msg(2)]).await;
    assert_eq!(client.next().await, Event::Link(to, Link::Up));
    assert_eq!(client.next().await, down(to, Down::Closed));
    assert_eq!(server.node.stats().drops[&Drop::NotServed], 1);

    let mut server = End::new(server.node);
    client.say(to, [msg(3)]).await;
    assert_eq!(server.next().await, Event::Link(client.node.contact(), Link::Up));
    assert_eq!(server.next().await, Event::Got(client.node.contact(), msg(3)));
}

#[tokio::test]
async fn a_machine_that_is_withdrawn_is_told_so_by_its_peers_streams() {
    let network = MemoryNetwork::default();
    let mut server = end(&network, Limits::default());
    let to = server.node.contact();
    let mut client = end(&network, Limits::default());
    client.say(to, [msg(1)]).await;
    assert_eq!(client.next().await, Event::Link(to, Link::Up));
    assert_eq!(server.next().await, Event::Link(client.node.contact(), Link::Up));
    server.node.withdraw("talk/1");
    assert_eq!(client.next().await, down(to, Down::Closed));
}

// ---- unfinished

/// Bytes of a message of a megabyte that come.
const BEGUN: usize = 100 << 10;

#[tokio::test]
async fn unfinished_messages_are_bounded_per_connection_and_in_all() {
    let network = MemoryNetwork::default();
    let limits = Limits {
        unfinished_bytes_per_connection: 250 << 10,
        // Half of it for whoever comes first: six messages that have begun.
        unfinished_bytes: 12 * BEGUN,
        connections: 32,
        ..Limits::default()
    };
    let mut server = end(&network, limits.clone());
    let to = &server.node;
    let mut begun = Vec::new();
    for _ in 0..4 {
        let (bare, _) = bare(&network);
        let connection = dial(&*bare, to).await;
        for _ in 0..4 {
            let mut send = patient(connection.open_uni()).await.unwrap();
            let before = to.stats();
            patient(send.write(&[b"\x06talk/1", &(1u32 << 20).to_le_bytes()[..], &[0; BEGUN - 4]].concat()))
                .await
                .unwrap();
            let noted = |stats: &p2p_core::net::Stats| {
                stats.unfinished_bytes > before.unfinished_bytes || stats.drops != before.drops
            };
            patient(to.stats_when(noted)).await;
            begun.push((connection.clone(), bare.clone(), send));
        }
    }
    let stats = to.stats();
    // Two of each of the first three connections'.
    assert_eq!(stats.unfinished_bytes, 6 * BEGUN);
    assert_eq!(stats.drops[&Drop::Unfinished], 10);
    for (.., send) in &mut begun[2..4] {
        assert_eq!(patient(send.stopped()).await, Err(StreamError::Abandoned(code::OVERFLOW.into())));
    }

    // Who has little unfinished is served all the same.
    let (bare, _) = bare(&network);
    let honest = dial(&*bare, to).await;
    let mut send = patient(honest.open_uni()).await.unwrap();
    let message = Msg::Ordered(1, vec![7; 10_000]);
    let frame = [&(message.wire_len() as u32).to_le_bytes()[..], &message.to_bytes()].concat();
    patient(send.write(&[b"\x06talk/1", &frame[..9_000]].concat())).await.unwrap();
    patient(to.stats_when(|stats| stats.unfinished_bytes == 6 * BEGUN + 9_000)).await;
    patient(send.write(&frame[9_000..])).await.unwrap();
    let from = Contact::new(bare.id(), bare.local_addr());
    while server.next().await != Event::Got(from, message.clone()) {}
    begun.clear();
    patient(server.node.stats_when(|stats| stats.unfinished_bytes == 0)).await;
}

#[tokio::test]
async fn a_message_that_does_not_go_on_is_given_up() {
    let network = MemoryNetwork::default();
    let limits = Limits { request_timeout: Duration::from_millis(50), ..Limits::default() };
    let mut server = end(&network, limits);
    let (bare, at) = bare(&network);
    let connection = dial(&*bare, &server.node).await;
    let mut send = patient(connection.open_uni()).await.unwrap();
    let bytes = msg(1).to_bytes();
    let frame = [&(bytes.len() as u32).to_le_bytes()[..], &bytes].concat();
    patient(send.write(&[b"\x06talk/1", &frame[..], &frame[..5]].concat())).await.unwrap();
    assert_eq!(server.next().await, Event::Link(at, Link::Up));
    assert_eq!(server.next().await, Event::Got(at, msg(1)));
    assert_eq!(server.next().await, down(at, Down::TimedOut));
    assert_eq!(server.node.stats().drops[&Drop::TimedOut], 1);
    assert_eq!(patient(send.stopped()).await, Err(StreamError::Abandoned(code::TIMED_OUT.into())));
}
