//! The overlays over real QUIC, on loopback: the same machines that the simulator runs.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use p2p_core::net::Node;
use p2p_core::{Contact, Handle, Key, Keyed, Wire};
use p2p_overlay::{
    Can, CanConfig, Chord, ChordConfig, ContentHash, Find, Freenet, FreenetBlock, FreenetConfig, Gossip,
    HyParViewConfig, Insert, Item, Kademlia, KademliaConfig, Locate, Lookup, LookupConfig, Maintenance, Mode,
    ObjectConfig, Overlay, Pastry, PastryConfig, PlumtreeConfig, PubSub, Query, Retrieve, Scope, Scribe,
    ScribeConfig, Search, SingleRoot, Subscription, Tapestry, TapestryConfig, TapestryObjects, TapestryTable,
    Topic,
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
        add(&mut network, &make).await;
    }
    network
}

/// Adds a node, which joins through the first.
async fn add<O>(network: &mut Network<O>, make: impl Fn(Contact, Option<Contact>) -> O)
where
    O: Overlay<Peer = Contact, Msg: Wire, Job = p2p_core::NoJob>,
{
    let node = Node::builder().bind("127.0.0.1:0").await.unwrap();
    let first = network.first().map(|(first, _)| first.contact());
    let overlay = node.spawn("overlay/1", make(node.contact(), first)).unwrap();
    network.push((node, overlay));
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

/// Sixteen nodes settle by every mode; five are lost, the first, through whom all have joined, among them; then one
/// joins in the same moment in which another is lost. Each time the others settle again.
async fn settles_and_mends<O>(make: impl Fn(Contact, Option<Contact>) -> O, distance: Distance)
where
    O: Overlay<Peer = Contact, Msg: Wire, Job = p2p_core::NoJob>,
{
    let mut network = start(16, &make).await;
    for mode in [Mode::SemiRecursive, Mode::Recursive, Mode::iterative(3)] {
        settles(&network, mode, distance).await;
    }
    network.drain(..5).for_each(drop);
    settles(&network, Mode::SemiRecursive, distance).await;
    settles(&network, Mode::iterative(3), distance).await;
    let leaver = network.remove(0);
    add(&mut network, &make).await;
    drop(leaver);
    settles(&network, Mode::SemiRecursive, distance).await;
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
    settles_and_mends(|me, seed| Can::with(me, seed, config), None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chord_over_quic_settles_and_mends() {
    let config = ChordConfig { stabilize: PERIOD, fingers: 4, ..ChordConfig::default() };
    let config = ChordConfig { lookup: patient(config.lookup), ..config };
    settles_and_mends(|me, seed| Chord::with(me, seed, config), Some(|node, key| key.distance(node))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kademlia_over_quic_settles_and_mends() {
    let config = KademliaConfig { upkeep: PERIOD, k: 4, ..KademliaConfig::default() };
    let config = KademliaConfig { lookup: patient(config.lookup), ..config };
    settles_and_mends(|me, seed| Kademlia::with(me, seed, config), Some(|node, key| node.xor(key))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pastry_over_quic_settles_and_mends() {
    let config = PastryConfig { upkeep: PERIOD, lease: 5 * PERIOD, ..PastryConfig::default() };
    let config = PastryConfig { lookup: patient(config.lookup), ..config };
    settles_and_mends(|me, seed| Pastry::with(me, seed, config), Some(|node, key| node.ring_gap(key))).await;
}

/// A subscription, and the numbers that came.
struct Reader {
    subscription: Subscription<Contact>,
    came: BTreeSet<u32>,
}

impl Reader {
    async fn new(pubsub: &Arc<dyn PubSub<Contact>>) -> Reader {
        let subscription = pubsub.subscribe(Topic::named("weather")).await.unwrap();
        Reader { subscription, came: BTreeSet::new() }
    }

    /// The next number, which has not come before.
    async fn next(&mut self) -> u32 {
        let message = self.subscription.next().await.unwrap().unwrap();
        let number = String::from_utf8(message.bytes.to_vec()).unwrap().parse().unwrap();
        assert!(self.came.insert(number), "{number} again");
        number
    }
}

/// Publishes ten messages until those ten have come to all, in order. Before the network has settled, as when nodes
/// still join or failures are yet to be noticed, some may come late or not at all.
async fn reach_all(publisher: &Arc<dyn PubSub<Contact>>, readers: &mut [Reader], published: &mut u32) {
    let reached = async {
        loop {
            let first = *published + 1;
            let mut all = true;
            for _ in 0..10 {
                *published += 1;
                let text = published.to_string();
                all &= publisher.publish(Topic::named("weather"), text.into()).await.is_ok();
            }
            for reader in readers.iter_mut() {
                let read = async {
                    let mut due = first;
                    while due <= *published {
                        match reader.next().await {
                            late if late < first => {}
                            next if next == due => due += 1,
                            _ => return false,
                        }
                    }
                    true
                };
                all &= tokio::time::timeout(Duration::from_secs(1), read).await == Ok(true);
            }
            if all {
                return;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(60), reached)
        .await
        .expect("ten messages never reach all in order");
}

/// All of eight nodes receive what is published; the root dies, then its heir, and the publisher is another node each
/// time.
async fn scribe_goes_on_when_its_root_dies<O>(make: impl Fn(Contact, Option<Contact>) -> O)
where
    O: SingleRoot<Peer = Contact, Msg: Wire, Job = p2p_core::NoJob>,
{
    let scribe = ScribeConfig {
        heartbeat: PERIOD,
        join_timeout: 2 * PERIOD,
        timeout: Duration::from_secs(1),
        ..ScribeConfig::default()
    };
    let mut network: Vec<(Node, Handle<Scribe<O>>)> = Vec::new();
    let mut first = None;
    for _ in 0..8 {
        let node = Node::builder().bind("127.0.0.1:0").await.unwrap();
        let handle = node.spawn("scribe/1", Scribe::new(make(node.contact(), first), scribe)).unwrap();
        first = first.or(Some(node.contact()));
        network.push((node, handle));
    }
    let pubsub = |handle: &Handle<Scribe<O>>| Arc::new(handle.clone()) as Arc<dyn PubSub<Contact>>;
    let weather = Topic::named("weather");
    let mut published = 0;
    let mut readers = Vec::new();
    for (_, handle) in &network {
        readers.push(Reader::new(&pubsub(handle)).await);
    }
    reach_all(&pubsub(&network[7].1), &mut readers, &mut published).await;
    for _ in 0..2 {
        let root = network[0].1.ask(Find::key(weather.0)).await.unwrap().unwrap().root();
        let at = network.iter().position(|(node, _)| node.contact() == root).unwrap();
        drop(readers.remove(at));
        drop(network.remove(at));
        reach_all(&pubsub(&network[3].1), &mut readers, &mut published).await;
    }
    network[0].1.unsubscribe(weather).await.unwrap();
    assert!(readers[0].subscription.next().await.is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scribe_over_can_over_quic_goes_on_when_its_root_dies() {
    let config = CanConfig { update: PERIOD, dimensions: 2, ..CanConfig::default() };
    let config = CanConfig { lookup: patient(config.lookup), ..config };
    scribe_goes_on_when_its_root_dies(|me, seed| Can::with(me, seed, config)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scribe_over_chord_over_quic_goes_on_when_its_root_dies() {
    let config = ChordConfig { stabilize: PERIOD, fingers: 4, ..ChordConfig::default() };
    let config = ChordConfig { lookup: patient(config.lookup), ..config };
    scribe_goes_on_when_its_root_dies(|me, seed| Chord::with(me, seed, config)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scribe_over_pastry_over_quic_goes_on_when_its_root_dies() {
    let config = PastryConfig { upkeep: PERIOD, lease: 5 * PERIOD, ..PastryConfig::default() };
    let config = PastryConfig { lookup: patient(config.lookup), ..config };
    scribe_goes_on_when_its_root_dies(|me, seed| Pastry::with(me, seed, config)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scribe_over_tapestry_over_quic_goes_on_when_its_root_dies() {
    let config = TapestryConfig { upkeep: PERIOD, probe: 2 * PERIOD, ..TapestryConfig::default() };
    let config = TapestryConfig { lookup: patient(config.lookup), ..config };
    scribe_goes_on_when_its_root_dies(|me, seed| Tapestry::with(me, seed, config)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gossip_over_quic_goes_on_when_nodes_die() {
    let membership = HyParViewConfig {
        upkeep: PERIOD,
        shuffle: 5 * PERIOD,
        timeout: Duration::from_secs(1),
        ..HyParViewConfig::default()
    };
    let mut network: Vec<(Node, Arc<dyn PubSub<Contact>>)> = Vec::new();
    let mut first = None;
    for _ in 0..8 {
        let node = Node::builder().bind("127.0.0.1:0").await.unwrap();
        let gossip = Gossip::with(node.contact(), first, membership, PlumtreeConfig::default());
        let handle = node.spawn("gossip/1", gossip).unwrap();
        first = first.or(Some(node.contact()));
        network.push((node, Arc::new(handle)));
    }
    let mut published = 0;
    let mut readers = Vec::new();
    for (_, pubsub) in &network {
        readers.push(Reader::new(pubsub).await);
    }
    reach_all(&network[7].1, &mut readers, &mut published).await;
    // The first is whom all have joined through.
    for _ in 0..3 {
        drop(network.remove(0));
        drop(readers.remove(0));
        reach_all(&network[3].1, &mut readers, &mut published).await;
    }
    // One of the full size, which travels on streams of its own.
    let large = vec![7; PlumtreeConfig::default().max_bytes];
    network[0].1.publish(Topic::named("weather"), large.clone().into()).await.unwrap();
    for Reader { subscription, .. } in &mut readers {
        let read = async { while subscription.next().await.unwrap().unwrap().bytes != large {} };
        tokio::time::timeout(Duration::from_secs(60), read).await.expect("the large one comes");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tapestry_over_quic_settles_and_mends() {
    let config = TapestryConfig { upkeep: PERIOD, probe: 2 * PERIOD, ..TapestryConfig::default() };
    let config = TapestryConfig { lookup: patient(config.lookup), ..config };
    settles_and_mends(
        |me, seed| Tapestry::with(me, seed, config),
        Some(|node, key| TapestryTable::<Contact>::distance(node, key).unwrap_or(Key::MAX)),
    )
    .await;
}

/// Every node publishes an object and finds the next one's; half of the nodes end, and the others still do.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tapestry_over_quic_locates_objects() {
    let config = TapestryConfig { upkeep: PERIOD, probe: 2 * PERIOD, ..TapestryConfig::default() };
    let objects = ObjectConfig { timeout: Duration::from_secs(1), settle: PERIOD, ..ObjectConfig::default() };
    let mut nodes: Vec<(Node, Arc<dyn Locate<Contact>>)> = Vec::new();
    for _ in 0..12 {
        let node = Node::builder().bind("127.0.0.1:0").await.unwrap();
        let first = nodes.first().map(|(first, _)| first.contact());
        let overlay = Tapestry::with(node.contact(), first, config);
        let handle = node.spawn("objects/1", TapestryObjects::new(overlay, objects)).unwrap();
        nodes.push((node, Arc::new(handle)));
    }
    let object = |node: &Node| Key::of(node.contact().id.as_bytes());
    for (node, objects) in &nodes {
        while objects.publish(object(node)).await.is_err() {}
    }
    for _ in 0..2 {
        let all = async {
            for (i, (_, asker)) in nodes.iter().enumerate() {
                let (server, _) = &nodes[(i + 1) % nodes.len()];
                while asker.locate(object(server)).await.map(|located| located.server) != Ok(server.contact())
                {
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(60), all).await.expect("every object is located");
        nodes.truncate(6);
    }
}

/// Every node inserts a block of the largest size, and another retrieves it. A name is found through the object-safe
/// vocabulary.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn freenet_over_quic_inserts_and_retrieves() {
    let mut nodes: Vec<(Node, Handle<Freenet<Contact>>)> = Vec::new();
    for _ in 0..8 {
        let node = Node::builder().bind("127.0.0.1:0").await.unwrap();
        let seeds = nodes.iter().rev().take(2).map(|(node, _)| node.contact());
        let freenet = Freenet::new(node.contact(), seeds, FreenetConfig::default());
        let handle = node.spawn("freenet/1", freenet).unwrap();
        nodes.push((node, handle));
    }
    let data = |i: usize| vec![i as u8; p2p_overlay::MAX_BLOCK];
    let retrieve = async |i: usize, key: Key| {
        // A node may still be joining, and a request may meet one that ends.
        let found = async {
            loop {
                if let Ok(data) = nodes[i].1.ask(Retrieve { key, htl: None }).await.unwrap() {
                    return data;
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(30), found).await.expect("nobody finds it")
    };
    let mut keys = Vec::new();
    for (i, (_, freenet)) in nodes.iter().enumerate() {
        // The first knows nobody until somebody has told it that they are there.
        let inserted = async {
            loop {
                if let Ok(inserted) =
                    freenet.ask(Insert(FreenetBlock::content(data(i)).unwrap())).await.unwrap()
                {
                    return inserted;
                }
            }
        };
        let inserted =
            tokio::time::timeout(Duration::from_secs(30), inserted).await.expect("nobody takes it");
        keys.push(inserted.key);
    }
    for (i, key) in keys.iter().enumerate() {
        assert_eq!(retrieve((i + 3) % keys.len(), *key).await, data(i));
    }
    let hash = ContentHash::Blake3(*keys[0].as_bytes());
    let search: Arc<dyn Search<Contact>> = Arc::new(nodes[7].1.clone());
    search.publish(Item::new("Blue Monday.mp3", 1).hash(hash)).await.unwrap();
    let search: Arc<dyn Search<Contact>> = Arc::new(nodes[2].1.clone());
    let mut hits = search.search(Query::text("monday blue mp3"), Scope::default());
    assert_eq!(hits.next().await.unwrap().item.hashes, [hash]);
    assert_eq!(hits.await.unwrap().cost.duplicates, 0);
}
