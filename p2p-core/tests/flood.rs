//! Peers send messages as fast as they can while the machine takes none: what is kept of them stays within the
//! bounds, nothing is lost, and honest peers are served meanwhile and afterwards.
#![cfg(feature = "net")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use p2p_core::net::{Connection, Drop, Node, QuicTransport, Transport};
use p2p_core::{Keypair, Limits, PeerId, Wire};
use support::talker::{End, Msg, Talker};
use support::{Barrier, Opens, echo, is_echoed, node, patient};
use tokio::sync::watch;
use tokio::task::JoinHandle;

const INBOX: usize = 100;
const STREAMS: u32 = 4;
const MESSAGES: u32 = 10_000;

/// Which of the flood's streams a message is of, in its first byte.
fn message(stream: u32, number: u32) -> Msg {
    Msg::Ordered(number, vec![stream as u8; 1000])
}

type Taken = Vec<(PeerId, u8, u32)>;

/// A machine that takes nothing before the gate is opened. What it has taken is told.
fn gated(server: &Node) -> (Opens, watch::Receiver<Taken>) {
    let barrier = Barrier::default();
    let opens = barrier.opened_at_the_end();
    let (noted, taken) = watch::channel(Taken::new());
    let gated = Talker::answering(move |from, msg| {
        // Not on the runtime's time: tasks that this thread has at hand must go on.
        tokio::task::block_in_place(|| barrier.wait());
        if let Msg::Ordered(number, body) = msg {
            noted.send_modify(|taken| taken.push((from.id, body[0], *number)));
        }
        None
    });
    server.spawn("talk/1", gated).unwrap();
    (opens, taken)
}

/// A peer that has no machine, only connections.
async fn flooder(server: &Node, limits: &Limits) -> (Arc<QuicTransport>, Arc<dyn Connection>) {
    let at = "127.0.0.1:0".parse().unwrap();
    let flooder = QuicTransport::bind(Keypair::generate(), "p2p", at, limits).unwrap();
    let connection = patient(flooder.dial(server.contact())).await.unwrap();
    (flooder, connection)
}

/// Sends so many messages on a stream, and counts the bytes that were taken off its hands.
fn flood(
    connection: &Arc<dyn Connection>,
    messages: impl Iterator<Item = Msg> + Send + 'static,
    written: &Arc<AtomicU64>,
) -> JoinHandle<()> {
    let (connection, written) = (connection.clone(), written.clone());
    tokio::spawn(async move {
        let mut send = connection.open_uni().await.unwrap();
        send.write(b"\x06talk/1").await.unwrap();
        for message in messages {
            let bytes = message.to_bytes();
            let frame = [&(bytes.len() as u32).to_le_bytes(), &bytes[..]].concat();
            send.write(&frame).await.unwrap();
            written.fetch_add(frame.len() as u64, Ordering::Relaxed);
        }
        send.finish().unwrap();
        send.stopped().await.unwrap();
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_flood_of_messages_is_bounded_and_honest_peers_are_served() {
    let limits = Limits {
        inbox_messages: INBOX,
        stream_window: 128 << 10,
        connection_window: 1 << 20,
        ..Limits::default()
    };
    let server = echo(limits.clone()).await;
    let (opens, mut taken) = gated(&server);
    let (flooder, connection) = flooder(&server, &limits).await;
    let written = Arc::default();
    let messages = |stream| (0..MESSAGES).map(move |number| message(stream, number));
    let floods: Vec<_> = (0..STREAMS).map(|stream| flood(&connection, messages(stream), &written)).collect();
    // What the inbox holds, and the one in the machine's hands.
    let most = INBOX as u64 + 1;
    patient(server.stats_when(|stats| stats.protocols["talk/1"].received == most)).await;

    let honest = End::new(node(Limits::default()).await);
    for _ in 0..200 {
        is_echoed(&honest.node, server.contact()).await;
    }
    honest.say(server.contact(), [message(9, 7)]).await;
    for _ in 0..200 {
        is_echoed(&honest.node, server.contact()).await;
    }
    assert_eq!(server.stats().protocols["talk/1"].received, most, "there is no place for more");
    // Both ends' windows, a chunk in each reader's hands, and the messages above; of 40 MB that it wants to send.
    let kept = written.load(Ordering::Relaxed);
    let bound = 2 * u64::from(limits.connection_window) + u64::from(STREAMS) * (64 << 10) + (most + 1) * 1100;
    assert!(kept <= bound, "{kept} bytes of the flood are kept somewhere, the bound is {bound}");

    drop(opens);
    let its_own = |taken: &Taken| taken.iter().position(|(from, ..)| *from == honest.node.id());
    let before = its_own(&patient(taken.wait_for(|taken| its_own(taken).is_some())).await.unwrap()).unwrap();
    // Its reader stands in line with the flood's four; when it took its place there no counter shows.
    assert!(before < (STREAMS * MESSAGES / 2) as usize, "{before} of the flood went first");
    for stream in floods {
        patient(stream).await.unwrap();
    }
    let all = (STREAMS * MESSAGES + 1) as usize;
    let taken = patient(taken.wait_for(|taken| taken.len() == all)).await.unwrap();
    for stream in 0..STREAMS as u8 {
        let of_it = |&&(from, of, _): &&(PeerId, u8, u32)| from == flooder.id() && of == stream;
        assert!(taken.iter().filter(of_it).map(|(.., number)| *number).eq(0..MESSAGES));
    }
    assert!(server.stats().drops.is_empty(), "{:?}", server.stats().drops);
}

/// Peers with four streams each.
const PEERS: u32 = 3;
const LONG_MESSAGES: u32 = 20;
/// How many of the long ones an inbox has room for.
const ROOM: u64 = 10;

fn long(stream: u32, number: u32) -> Msg {
    Msg::Ordered(number, vec![stream as u8; 100_000])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_flood_of_long_messages_is_bounded_in_bytes_and_honest_peers_are_served() {
    let len = long(0, 0).wire_len();
    let limits = Limits {
        inbox_bytes: ROOM as usize * len,
        stream_window: 256 << 10,
        connection_window: 1 << 20,
        ..Limits::default()
    };
    let server = echo(limits.clone()).await;
    let (opens, mut taken) = gated(&server);
    let written = Arc::default();
    let messages = |stream| (0..LONG_MESSAGES).map(move |number| long(stream, number));
    let (mut flooders, mut floods) = (Vec::new(), Vec::new());
    for _ in 0..PEERS {
        let (transport, connection) = flooder(&server, &limits).await;
        floods.extend((0..STREAMS).map(|stream| flood(&connection, messages(stream), &written)));
        flooders.push(transport);
    }
    // What the inbox holds, and the one in the machine's hands.
    let most = ROOM + 1;
    patient(server.stats_when(|stats| stats.protocols["talk/1"].received >= most)).await;

    let honest = End::new(node(Limits::default()).await);
    for _ in 0..200 {
        is_echoed(&honest.node, server.contact()).await;
    }
    assert_eq!(server.stats().protocols["talk/1"].received, most);
    let datagram = Msg::Datagram(1).to_bytes();
    patient(honest.node.datagram(server.contact(), "talk/1", datagram)).await.unwrap();
    patient(server.stats_when(|stats| stats.drops.contains_key(&Drop::DatagramOverrun))).await;
    honest.say(server.contact(), [message(9, 7)]).await;
    for _ in 0..200 {
        is_echoed(&honest.node, server.contact()).await;
    }
    let stats = server.stats();
    assert_eq!(stats.protocols["talk/1"].received, most + 1, "none but the datagram, which was dropped");
    let streams = PEERS * STREAMS;
    assert!(stats.unfinished_bytes <= streams as usize * (len + 4), "{stats:?}");
    // Both ends' windows, a message and a chunk in each reader's hands, and the messages above; of 24 MB in all.
    let kept = written.load(Ordering::Relaxed);
    let windows = 2 * u64::from(limits.connection_window * PEERS);
    let bound = windows + u64::from(streams) * (len as u64 + (64 << 10)) + (most + 1) * len as u64;
    assert!(kept <= bound, "{kept} bytes of the flood are kept somewhere, the bound is {bound}");

    drop(opens);
    let all = (streams * LONG_MESSAGES + 1) as usize;
    let taken = patient(taken.wait_for(|taken| taken.len() == all)).await.unwrap();
    let before = taken.iter().position(|(from, ..)| *from == honest.node.id()).unwrap();
    assert!(before < all / 2, "{before} of the flood went first");
    for stream in floods {
        patient(stream).await.unwrap();
    }
    for (flooder, stream) in flooders.iter().flat_map(|flooder| (0..STREAMS as u8).map(move |s| (flooder, s)))
    {
        let of_it = |&&(from, of, _): &&(PeerId, u8, u32)| from == flooder.id() && of == stream;
        assert!(taken.iter().filter(of_it).map(|(.., number)| *number).eq(0..LONG_MESSAGES));
    }
    assert_eq!(server.stats().drops.into_iter().collect::<Vec<_>>(), [(Drop::DatagramOverrun, 1)]);
}

/// Where few messages fit, by number and by size, the streams of one peer do not wait for each other in a ring.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_streams_of_a_peer_share_a_small_inbox() {
    let len = message(0, 0).wire_len();
    let limits = Limits { inbox_messages: 1, inbox_bytes: len * 2, ..Limits::default() };
    let server = echo(limits.clone()).await;
    let (opens, mut taken) = gated(&server);
    let (_flooder, connection) = flooder(&server, &limits).await;
    let messages = |stream| (0..MESSAGES).map(move |number| message(stream, number));
    let floods = (0..2 * STREAMS).map(|stream| flood(&connection, messages(stream), &Arc::default()));
    let floods: Vec<_> = floods.collect();
    drop(opens);
    let all = (2 * STREAMS * MESSAGES) as usize;
    patient(taken.wait_for(|taken| taken.len() == all)).await.unwrap();
    for stream in floods {
        patient(stream).await.unwrap();
    }
}
