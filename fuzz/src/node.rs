//! A node and a peer that sends it any bytes: on a stream both ways, on one of messages, or as a datagram.

use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use p2p_core::net::{CloseReason, Incoming, MemoryNetwork, Node, Transport};
use p2p_core::{Contact, Cx, Keypair, Limits, NoJob, OpId, Protocol};
use tokio::runtime::{Builder, Runtime};

use crate::Sample;

/// Takes any message.
struct Taker;

impl Protocol for Taker {
    type Peer = Contact;
    type Msg = Sample;
    type Timer = ();
    type Command = ();
    type Item = ();
    type Outcome = ();
    type Event = ();
    type Job = NoJob;

    fn on_message(&mut self, cx: &mut Cx<'_, Self>, from: Contact, msg: Sample) {
        // What it could decode it can send.
        cx.send(from, msg);
    }
    fn on_command(&mut self, cx: &mut Cx<'_, Self>, op: OpId, (): ()) {
        cx.finish(op, ());
    }
}

/// One node for all inputs: none may leave anything behind.
struct World {
    runtime: Runtime,
    node: Node,
    peer: Arc<dyn Transport>,
}

static WORLD: LazyLock<World> = LazyLock::new(|| {
    let runtime = Builder::new_current_thread().enable_time().build().expect("a runtime");
    let (node, peer) = runtime.block_on(async {
        let network = MemoryNetwork::default();
        let limits = Limits { request_bytes: 2000, ..Limits::default() };
        let node = Node::builder().limits(limits).bind_on(network.join(Keypair::from_seed(&[1; 32]).id()));
        node.serve("e", |request: Incoming| async move { Ok(request.body) }).expect("a free name");
        node.serve_datagrams("d", |_, _| {}).expect("a free name");
        node.spawn("m", Taker).expect("a free name");
        let peer = network.join(Keypair::from_seed(&[2; 32]).id());
        // An answer may come when the connection is gone: then the node dials.
        let called = peer.clone();
        tokio::spawn(async move {
            while let Some(connection) = called.accept().await {
                connection.close(CloseReason::Idle);
            }
        });
        (node, peer)
    });
    World { runtime, node, peer }
});

/// The first byte says how the others come, and how many at a time.
pub fn streams(bytes: &[u8]) {
    let Some((&how, bytes)) = bytes.split_first() else { return };
    let world = &*WORLD;
    world.runtime.block_on(async {
        let connection = world.peer.dial(world.node.contact()).await.expect("a connection");
        let chunks = bytes.chunks(1 + usize::from(how >> 2));
        match how & 3 {
            0 => {
                let (mut send, mut recv) = connection.open_bi().await.expect("a stream");
                for chunk in chunks {
                    if send.write(chunk).await.is_err() {
                        break;
                    }
                }
                let _ = send.finish();
                if let Ok(reply) = recv.read_to_end(4000).await {
                    assert_eq!(
                        Some(&reply[..]),
                        bytes.strip_prefix(b"\x01e"),
                        "only what was asked is answered"
                    );
                }
            }
            1 => {
                let mut send = connection.open_uni().await.expect("a stream");
                for chunk in chunks {
                    if send.write(chunk).await.is_err() {
                        break;
                    }
                }
                let _ = send.finish();
                let _ = send.stopped().await;
            }
            _ => {
                let _ = connection.send_datagram(Bytes::copy_from_slice(bytes));
            }
        }
        connection.close(CloseReason::Idle);
        // The node is as good as ever, and keeps nothing.
        let connection = world.peer.dial(world.node.contact()).await.expect("a connection");
        let (mut send, mut recv) = connection.open_bi().await.expect("a stream");
        send.write(b"\x01ehello").await.expect("an open stream");
        send.finish().expect("an open stream");
        assert_eq!(recv.read_to_end(100).await.expect("an answer"), "hello");
        connection.close(CloseReason::Idle);
        let quiet = |stats: &p2p_core::net::Stats| {
            stats.connections == 0 && stats.requests == 0 && stats.unfinished_bytes == 0
        };
        let stats = world.node.stats_when(quiet).await;
        assert_eq!(stats.request_bytes, 0);
    });
}
