//! Hash tables in the simulator, over each overlay.

use std::time::Duration;

use p2p_core::sim::{DiskModel, Network, Sim};
use p2p_core::{Key, NoJob, SimPeer, Wire, Worker};
use p2p_dht::{DhtConfig, MemoryStore, Replicated, StoreJob};
use p2p_overlay::{
    Can, CanConfig, Chord, ChordConfig, Kademlia, KademliaConfig, Overlay, Pastry, PastryConfig, Replicas,
    Tapestry, TapestryConfig,
};

pub(crate) const SECOND: Duration = Duration::from_secs(1);

/// An overlay that settles within seconds.
pub(crate) trait Quick: Overlay<Peer = SimPeer, Job = NoJob, Msg: Wire> {
    fn quick(me: SimPeer, seeds: Vec<SimPeer>) -> Self;
}

impl Quick for Can<SimPeer> {
    fn quick(me: SimPeer, seeds: Vec<SimPeer>) -> Self {
        Can::with(me, seeds, CanConfig { update: SECOND, dimensions: 2, ..CanConfig::default() })
    }
}

impl Quick for Chord<SimPeer> {
    fn quick(me: SimPeer, seeds: Vec<SimPeer>) -> Self {
        let config = ChordConfig { stabilize: SECOND, fingers: 2, ..ChordConfig::default() };
        Chord::with(me, seeds, config)
    }
}

impl Quick for Kademlia<SimPeer> {
    fn quick(me: SimPeer, seeds: Vec<SimPeer>) -> Self {
        Kademlia::with(me, seeds, KademliaConfig { upkeep: 2 * SECOND, ..KademliaConfig::default() })
    }
}

impl Quick for Pastry<SimPeer> {
    fn quick(me: SimPeer, seeds: Vec<SimPeer>) -> Self {
        let config = PastryConfig { upkeep: SECOND, lease: 5 * SECOND, ..PastryConfig::default() };
        Pastry::with(me, seeds, config)
    }
}

impl Quick for Tapestry<SimPeer> {
    fn quick(me: SimPeer, seeds: Vec<SimPeer>) -> Self {
        let config = TapestryConfig { upkeep: SECOND, probe: 2 * SECOND, ..TapestryConfig::default() };
        Tapestry::with(me, seeds, config)
    }
}

/// What keeps a node's records.
pub(crate) trait Store: Worker<StoreJob<SimPeer>> + 'static {}
impl<W: Worker<StoreJob<SimPeer>> + 'static> Store for W {}

pub(crate) type World<O, W = MemoryStore<SimPeer>> = Sim<Replicated<O>, W>;

/// Five replicas, compared every minute.
pub(crate) fn config() -> DhtConfig {
    DhtConfig {
        replicas: 5,
        write_quorum: 3,
        read_quorum: 3,
        timeout: 2 * SECOND,
        repair: 60 * SECOND,
        settle: SECOND,
        ..DhtConfig::default()
    }
}

/// Nodes that have joined one another and settled.
pub(crate) fn world<O: Quick>(seed: u64, nodes: u32, network: Network, config: DhtConfig) -> World<O> {
    world_on(seed, nodes, network, config, MemoryStore::default)
}

/// The same, on another kind of store.
pub(crate) fn world_on<O: Quick, W: Store>(
    seed: u64,
    nodes: u32,
    network: Network,
    config: DhtConfig,
    store: fn() -> W,
) -> World<O, W> {
    let mut sim = World::<O, W>::with_workers(seed, network, DiskModel::default(), move |_| store());
    sim.population(move |birth| {
        let seeds = (0..3).filter_map(|_| birth.rng.choose(birth.alive).copied()).collect();
        Replicated::new(O::quick(birth.peer, seeds), config)
    });
    for _ in 0..nodes {
        sim.join();
        sim.run_for(SECOND / 4);
    }
    sim.run_for(60 * SECOND);
    sim
}

/// Where copies lie at salted keys, the nodes that should have one, by a look at all nodes: the first different roots.
pub(crate) fn roots<O: Quick, W: Store>(sim: &World<O, W>, key: &Key) -> Option<Vec<SimPeer>> {
    let replicas = usize::from(config().replicas);
    let nodes: Vec<_> = sim.view().iter().map(|(peer, node)| (peer, node.overlay().mine())).collect();
    let first = sim.node(nodes.first()?.0)?;
    let Replicas::Keys(keys) = first.overlay().replicas(key, 2 * replicas) else { return None };
    let mut roots = Vec::new();
    for key in keys {
        let root = nodes.iter().find(|(_, mine)| mine.contains(&key)).map(|(peer, _)| *peer);
        if let Some(root) = root.filter(|root| roots.len() < replicas && !roots.contains(root)) {
            roots.push(root);
        }
    }
    Some(roots)
}

/// How many copies of a record there should be.
pub(crate) fn copies<O: Quick, W: Store>(sim: &World<O, W>, key: &Key) -> usize {
    roots(sim, key).map_or(config().replicas.into(), |roots| roots.len())
}

/// Names each overlay's tests after it: `over_each_overlay!(a, b)` runs `a::<Chord>`, and so on.
#[allow(unused_macros, reason = "each test file uses some of it")]
macro_rules! over_each_overlay {
    ($($test:ident),* $(,)?) => {
        over_each_overlay!(@ over_can Can $($test)*);
        over_each_overlay!(@ over_chord Chord $($test)*);
        over_each_overlay!(@ over_kademlia Kademlia $($test)*);
        over_each_overlay!(@ over_pastry Pastry $($test)*);
        over_each_overlay!(@ over_tapestry Tapestry $($test)*);
    };
    (@ $module:ident $overlay:ident $($test:ident)*) => {
        mod $module {
            $(#[test] fn $test() { super::$test::<p2p_overlay::$overlay<p2p_core::SimPeer>>(); })*
        }
    };
}
