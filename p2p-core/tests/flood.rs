//! One peer sends messages as fast as it can while the machine takes none: what is kept of it stays within the
//! bounds, nothing is lost, and honest peers are served meanwhile and afterwards.
#![cfg(feature = "net")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use p2p_core::net::{Incoming, Node, QuicTransport, Transport};
use p2p_core::{Contact, Cx, Keypair, Lane, Limits, NoJob, OpId, PeerId, Protocol, Request, Wire};
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

const INBOX: usize = 100;
const STREAMS: u64 = 4;
const MESSAGES: u64 = 10_000;

async fn patient<T>(future: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(20), future).await.expect("this test's step takes far too long")
}

async fn until(what: impl Fn() -> bool) {
    patient(async {
        while !what() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
}

/// Which stream, which in it, and a kilobyte.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Msg(u64, u64, Vec<u8>);

impl Wire for Msg {
    const MAX_BYTES: usize = 1 << 11;
    fn lane(&self) -> Lane {
        Lane::Ordered
    }
}

/// Takes messages in while the gate is open, and notes from whom, in order.
#[derive(Clone, Default)]
struct Gated {
    open: Arc<AtomicBool>,
    taken: Arc<Mutex<Vec<(PeerId, u64, u64)>>>,
}

/// Opens the gate at the end, so that a failed test ends too.
struct Opens(Gated);

impl Drop for Opens {
    fn drop(&mut self) {
        self.0.open.store(true, Ordering::Relaxed);
    }
}

struct Tell(Contact, Msg);

impl Protocol for Gated {
    type Peer = Contact;
    type Msg = Msg;
    type Timer = ();
    type Command = Tell;
    type Item = ();
    type Outcome = ();
    type Event = ();
    type Job = NoJob;

    fn on_message(&mut self, _: &mut Cx<'_, Self>, from: Contact, msg: Msg) {
        if !self.open.load(Ordering::Relaxed) {
            // Not on the runtime's time: tasks that this thread has at hand must go on.
            tokio::task::block_in_place(|| {
                while !self.open.load(Ordering::Relaxed) {
                    std::thread::park_timeout(Duration::from_millis(1));
                }
            });
        }
        self.taken.lock().unwrap().push((from.id, msg.0, msg.1));
    }
    fn on_command(&mut self, cx: &mut Cx<'_, Self>, op: OpId, tell: Tell) {
        cx.send(tell.0, tell.1);
        cx.finish(op, ());
    }
}

impl Request<Gated> for Tell {
    type Item = ();
    type Reply = ();
    fn command(self) -> Tell {
        self
    }
    fn item((): ()) -> Option<()> {
        None
    }
    fn reply((): ()) -> Option<()> {
        Some(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_flood_of_messages_is_bounded_and_honest_peers_are_served() {
    let limits = Limits {
        inbox_messages: INBOX,
        stream_window: 128 << 10,
        connection_window: 1 << 20,
        ..Limits::default()
    };
    let server = Node::builder().limits(limits.clone()).bind("127.0.0.1:0").await.unwrap();
    let gated = Gated::default();
    let _opens = Opens(gated.clone());
    server.spawn("talk/1", gated.clone()).unwrap();
    server.serve("echo/1", |request: Incoming| async move { Ok(request.body) }).unwrap();

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
                    let mut message = Vec::new();
                    Msg(stream, number, vec![0; 1000]).encode(&mut message);
                    let frame = [&(message.len() as u32).to_le_bytes(), &message[..]].concat();
                    send.write(&frame).await.unwrap();
                    written.fetch_add(frame.len() as u64, Ordering::Relaxed);
                }
                send.finish().unwrap();
                send.stopped().await.unwrap();
            })
        })
        .collect();
    let received = || server.stats().protocols["talk/1"].received;
    // What the inbox holds, the one in the machine's hands, and one in each reader's.
    let most = INBOX as u64 + 1 + STREAMS;
    until(|| received() == most).await;

    let honest = Node::builder().bind("127.0.0.1:0").await.unwrap();
    let talker = honest.spawn("talk/1", Gated::default()).unwrap();
    for _ in 0..200 {
        assert_eq!(patient(honest.request(server.contact(), "echo/1", "x")).await.unwrap(), "x");
    }
    patient(talker.ask(Tell(server.contact(), Msg(0, 7, vec![])))).await.unwrap();
    until(|| received() == most + 1).await;
    assert_eq!(received(), most + 1, "the honest peer's only");
    // Both ends' windows, a chunk in each reader's hands, and the messages above; of 40 MB that it wants to send.
    let kept = written.load(Ordering::Relaxed);
    let bound = 2 * u64::from(limits.connection_window) + STREAMS * (64 << 10) + (most + 1) * 1100;
    assert!(kept <= bound, "{kept} bytes of the flood are kept somewhere, the bound is {bound}");

    gated.open.store(true, Ordering::Relaxed);
    let taken = || gated.taken.lock().unwrap();
    until(|| taken().iter().any(|(from, ..)| *from == honest.id())).await;
    let before = taken().iter().position(|(from, ..)| *from == honest.id()).unwrap();
    assert!(before as u64 <= 2 * most, "{before} of the flood went first");
    for stream in flood {
        patient(stream).await.unwrap();
    }
    until(|| taken().len() as u64 == STREAMS * MESSAGES + 1).await;
    for stream in 0..STREAMS {
        let of_it = |&&(from, of, _): &&(PeerId, u64, u64)| from == flooder.id() && of == stream;
        assert!(taken().iter().filter(of_it).map(|(.., number)| *number).eq(0..MESSAGES));
    }
    assert!(server.stats().drops.is_empty(), "{:?}", server.stats().drops);
}
