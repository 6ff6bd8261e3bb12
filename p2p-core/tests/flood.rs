//! One peer sends messages as fast as it can while the machine takes none: what is kept of it stays within the
//! bounds, nothing is lost, and honest peers are served meanwhile and afterwards.
#![cfg(feature = "net")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use p2p_core::net::{QuicTransport, Transport};
use p2p_core::{Keypair, Limits, PeerId, Wire};
use support::talker::{End, Msg, Talker};
use support::{Barrier, echo, is_echoed, node, patient};
use tokio::sync::watch;

const INBOX: usize = 100;
const STREAMS: u32 = 4;
const MESSAGES: u32 = 10_000;

/// Which of the flood's streams a message is of, in its first byte.
fn message(stream: u32, number: u32) -> Msg {
    Msg::Ordered(number, vec![stream as u8; 1000])
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
    let barrier = Barrier::default();
    let opens = barrier.opened_at_the_end();
    let (noted, mut taken) = watch::channel(Vec::<(PeerId, u8, u32)>::new());
    let gated = Talker::answering(move |from, msg| {
        // Not on the runtime's time: tasks that this thread has at hand must go on.
        tokio::task::block_in_place(|| barrier.wait());
        let Msg::Ordered(number, body) = msg else { return None };
        noted.send_modify(|taken| taken.push((from.id, body[0], *number)));
        None
    });
    server.spawn("talk/1", gated).unwrap();

    let flooder =
        QuicTransport::bind(Keypair::generate(), "p2p", "127.0.0.1:0".parse().unwrap(), &limits).unwrap();
    let connection = patient(flooder.dial(server.contact())).await.unwrap();
    let written = Arc::new(AtomicU64::new(0));
    let flood: Vec<_> = (0..STREAMS)
        .map(|stream| {
            let (connection, written) = (connection.clone(), written.clone());
            tokio::spawn(async move {
                let mut send = connection.open_uni().await.unwrap();
                send.write(b"\x06talk/1").await.unwrap();
                for number in 0..MESSAGES {
                    let mut bytes = Vec::new();
                    message(stream, number).encode(&mut bytes);
                    let frame = [&(bytes.len() as u32).to_le_bytes(), &bytes[..]].concat();
                    send.write(&frame).await.unwrap();
                    written.fetch_add(frame.len() as u64, Ordering::Relaxed);
                }
                send.finish().unwrap();
                send.stopped().await.unwrap();
            })
        })
        .collect();
    // What the inbox holds, the one in the machine's hands, and one in each reader's.
    let most = INBOX as u64 + 1 + u64::from(STREAMS);
    patient(server.stats_when(|stats| stats.protocols["talk/1"].received == most)).await;

    let honest = End::new(node(Limits::default()).await);
    for _ in 0..200 {
        is_echoed(&honest.node, server.contact()).await;
    }
    honest.say(server.contact(), [message(9, 7)]).await;
    let stats = patient(server.stats_when(|stats| stats.protocols["talk/1"].received > most)).await;
    assert_eq!(stats.protocols["talk/1"].received, most + 1, "the honest peer's only");
    // Both ends' windows, a chunk in each reader's hands, and the messages above; of 40 MB that it wants to send.
    let kept = written.load(Ordering::Relaxed);
    let bound = 2 * u64::from(limits.connection_window) + u64::from(STREAMS) * (64 << 10) + (most + 1) * 1100;
    assert!(kept <= bound, "{kept} bytes of the flood are kept somewhere, the bound is {bound}");

    drop(opens);
    let its_own =
        |taken: &Vec<(PeerId, u8, u32)>| taken.iter().position(|(from, ..)| *from == honest.node.id());
    let before = its_own(&patient(taken.wait_for(|taken| its_own(taken).is_some())).await.unwrap()).unwrap();
    // Its reader stands in line with the flood's four; when it took its place there no counter shows.
    assert!(before < (STREAMS * MESSAGES / 2) as usize, "{before} of the flood went first");
    for stream in flood {
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
