//! The overlays over real QUIC, on loopback: the same machines that the simulator runs.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::sync::Arc;
use std::time::Duration;

use p2p_core::net::Node;
use p2p_core::{Contact, Handle, Key, Keyed, Wire};
use p2p_overlay::{
    Can, CanConfig, Chord, ChordConfig, Find, Kademlia, KademliaConfig, Lookup, LookupConfig, Mode, Overlay,
};

type Network<O> = Vec<(Node, Handle<O>)>;

/// How far a node's key is from a key, by the overlay's measure; `None` if that does not say whose the key is.
type Distance = Option<fn(&Key, &Key) -> Key>;

async fn start<O>(nodes: usize, make: impl Fn(Contact, Option<Contact>) -> O) -> Network<O>
where
    O: Overlay<Peer = Contact, Msg: Wire, Job = p2p_core::NoJob>,
{
    let mut network: Network<O> = Vec::new();
    for _ in 0..nodes {
        let node = Node::builder().bind("127.0.0.1:0").await.unwrap();
        let first = network.first().map(|(first, _)| first.contact());
        let overlay = node.spawn("overlay/1", make(node.contact(), first)).unwrap();
        network.push((node, overlay));
    }
    network
}

/// Looks keys up from every node until all answers are those of a look at all nodes, as they are once the network has
/// settled; where keys do not say who that is, until two nodes each name one and the same that lives.
async fn settles<O: Overlay<Peer = Contact>>(network: &Network<O>, mode: Mode, distance: Distance) {
    let contacts = || network.iter().map(|(node, _)| node.contact());
    let look_up = async |i: usize, key: Key| {
        let overlay: Arc<dyn Lookup<Contact>> = Arc::new(network[i % network.len()].1.clone());
        overlay.lookup(Find::key(key).mode(mode)).await.ok().map(|found| found.root())
    };
    let settled = async {
        loop {
            let mut right = true;
            for i in 0..network.len() {
                let key = Key::of(format!("key {i}").as_bytes());
                let owner = match distance {
                    Some(distance) => contacts().min_by_key(|contact| distance(&contact.key(), &key)),
                    None => {
                        look_up(i + 1, key).await.filter(|owner| contacts().any(|contact| contact == *owner))
                    }
                };
                right &= owner.is_some() && look_up(i, key).await == owner;
            }
            if right {
                return;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(60), settled).await.expect("the network does not settle");
}

/// Settles by every mode, loses five nodes, the first, through whom all have joined, among them, and settles again.
async fn settles_and_mends<O: Overlay<Peer = Contact>>(mut network: Network<O>, distance: Distance) {
    for mode in [Mode::SemiRecursive, Mode::Recursive, Mode::iterative(3)] {
        settles(&network, mode, distance).await;
    }
    network.drain(..5).for_each(drop);
    settles(&network, Mode::SemiRecursive, distance).await;
    settles(&network, Mode::iterative(3), distance).await;
}

/// Networks that settle in seconds.
const PERIOD: Duration = Duration::from_millis(200);

fn patient(lookup: LookupConfig) -> LookupConfig {
    LookupConfig { timeout: Duration::from_secs(3), ..lookup }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn can_over_quic_settles_and_mends() {
    let config = CanConfig { update: PERIOD, dimensions: 2, ..CanConfig::default() };
    let config = CanConfig { lookup: patient(config.lookup), ..config };
    let network = start(16, |me, seed| Can::with(me, seed, config)).await;
    settles_and_mends(network, None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chord_over_quic_settles_and_mends() {
    let config = ChordConfig { stabilize: PERIOD, fingers: 4, ..ChordConfig::default() };
    let config = ChordConfig { lookup: patient(config.lookup), ..config };
    let ring = start(16, |me, seed| Chord::with(me, seed, config)).await;
    settles_and_mends(ring, Some(|node, key| key.distance(node))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kademlia_over_quic_settles_and_mends() {
    let config = KademliaConfig { upkeep: PERIOD, k: 4, ..KademliaConfig::default() };
    let config = KademliaConfig { lookup: patient(config.lookup), ..config };
    let network = start(16, |me, seed| Kademlia::with(me, seed, config)).await;
    settles_and_mends(network, Some(|node, key| node.xor(key))).await;
}
