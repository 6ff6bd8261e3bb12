//! Chord over real QUIC, on loopback: the same machine that the simulator runs.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::sync::Arc;
use std::time::Duration;

use p2p_core::net::Node;
use p2p_core::{Contact, Handle, Key, Keyed};
use p2p_overlay::{Chord, ChordConfig, Find, Lookup, LookupConfig, Mode};

type Ring = Vec<(Node, Handle<Chord<Contact>>)>;

/// A ring that settles in seconds.
fn quick() -> ChordConfig {
    let lookup = LookupConfig { timeout: Duration::from_secs(3), ..LookupConfig::default() };
    ChordConfig { stabilize: Duration::from_millis(200), fingers: 4, lookup, ..ChordConfig::default() }
}

async fn start(nodes: usize) -> Ring {
    let mut ring: Ring = Vec::new();
    for _ in 0..nodes {
        let node = Node::builder().bind("127.0.0.1:0").await.unwrap();
        let seeds: Vec<Contact> = ring.first().map(|(first, _)| first.contact()).into_iter().collect();
        let chord = node.spawn("chord/1", Chord::with(node.contact(), seeds, quick())).unwrap();
        ring.push((node, chord));
    }
    ring
}

/// Who owns a key, by a look at all nodes.
fn owner(ring: &Ring, key: &Key) -> Contact {
    let contacts = ring.iter().map(|(node, _)| node.contact());
    contacts.min_by_key(|contact| key.distance(&contact.key())).unwrap()
}

/// Looks keys up from every node until all answers are right, as they are once the ring has settled.
async fn settles(ring: &Ring, mode: Mode) {
    let settled = async {
        loop {
            let mut right = true;
            for (i, (_, chord)) in ring.iter().enumerate() {
                let key = Key::of(format!("key {i}").as_bytes());
                let overlay: Arc<dyn Lookup<Contact>> = Arc::new(chord.clone());
                let found = overlay.lookup(Find::key(key).mode(mode)).await;
                right &= found.is_ok_and(|found| found.root() == owner(ring, &key));
            }
            if right {
                return;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(60), settled).await.expect("the ring does not settle");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ring_over_quic_settles_and_mends() {
    let mut ring = start(16).await;
    for mode in [Mode::SemiRecursive, Mode::Recursive, Mode::Iterative { parallel: 3 }] {
        settles(&ring, mode).await;
    }
    // Five die, the first, through whom all have joined, among them.
    for (node, _) in ring.drain(..5) {
        drop(node);
    }
    settles(&ring, Mode::SemiRecursive).await;
}
