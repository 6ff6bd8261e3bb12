//! Hosts that stand in several places.

#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a test may fail, and talk")]

use std::time::Duration;

use p2p_core::sim::{Latency, Network, Sim, run_seeds};
use p2p_core::{Key, Keyed, Rng, SimPeer};
use p2p_overlay::{ChordConfig, Find, Lookup, Overlay, Virtual, VirtualChord};

const HOSTS: u32 = 40;

fn world(seed: u64, nodes: u8) -> Sim<VirtualChord<SimPeer>> {
    let latency = Latency::Uniform(Duration::from_millis(1), Duration::from_millis(100));
    let mut sim = Sim::new(seed, Network { latency, ..Network::default() });
    let config = ChordConfig { stabilize: Duration::from_secs(5), fingers: 4, ..ChordConfig::default() };
    sim.population(move |birth| {
        let seeds: Vec<SimPeer> = birth.rng.choose(birth.alive).copied().into_iter().collect();
        VirtualChord::with(birth.peer, nodes, seeds, config)
    });
    for _ in 0..HOSTS {
        sim.join();
        sim.run_for(Duration::from_secs(2));
    }
    sim.run_for(Duration::from_secs(600));
    sim
}

/// The host of the first virtual node at or after a key, by a look at all of them.
fn owner(sim: &Sim<VirtualChord<SimPeer>>, nodes: u8, key: &Key) -> SimPeer {
    let all = sim.alive().iter().flat_map(|&peer| (0..nodes).map(move |index| Virtual { peer, index }));
    all.min_by_key(|node| key.distance(&node.key())).unwrap().peer
}

/// Hosts join, some die: from everywhere the same host is found for a key, and each key is one host's.
#[test]
fn the_host_of_the_first_node_after_a_key_is_found() {
    run_seeds(3, |seed| {
        let mut sim = world(seed, 4);
        (0..HOSTS / 5).for_each(|i| sim.crash(SimPeer(i * 5)));
        sim.run_for(Duration::from_secs(300));
        let mut rng = Rng::new(seed);
        for _ in 0..100 {
            let key = rng.key();
            let from = *rng.choose(sim.alive()).unwrap();
            let handle = sim.handle(from);
            let found = sim.block_on(async move { handle.lookup(Find::key(key).replicas(3)).await }).unwrap();
            let right = owner(&sim, 4, &key);
            assert_eq!(found.root(), right, "{key} from {from}");
            assert_eq!(found.peers.len(), 3, "three hosts, not three nodes");
            let says_so =
                sim.view().iter().filter(|(_, host)| host.mine().contains(&key)).map(|(peer, _)| peer);
            assert_eq!(says_so.collect::<Vec<_>>(), [right]);
        }
        sim.trace()
    });
}

/// Eight nodes a host even the load out: the host with most has less than half of what it has with one (fig. 9: the
/// 99th percentile falls from 4.7 to below 2.4 times the mean with five).
#[test]
fn more_nodes_even_the_load_out() {
    let most = |nodes| {
        let sim = world(9, nodes);
        let mut rng = Rng::new(3);
        let keys: Vec<Key> = (0..4000).map(|_| rng.key()).collect();
        let load = |host: &VirtualChord<SimPeer>| {
            let mine = host.mine();
            keys.iter().filter(|key| mine.contains(key)).count()
        };
        let loads: Vec<usize> = sim.view().iter().map(|(_, host)| load(host)).collect();
        assert_eq!(loads.iter().sum::<usize>(), keys.len(), "every key is somebody's");
        loads.into_iter().max().unwrap() as f64 / (keys.len() as f64 / f64::from(HOSTS))
    };
    let (one, eight) = (most(1), most(8));
    println!("the most loaded host: {one:.2} times the mean with one node, {eight:.2} with eight");
    assert!(eight < one / 2.0 && eight < 2.4, "{one} and {eight}");
}
