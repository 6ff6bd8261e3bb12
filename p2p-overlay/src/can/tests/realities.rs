//! Several realities at once (§3.2).

use std::time::Duration;

use p2p_core::sim::{Encoding, Latency, Network, Session, Sim, churn, run_seeds};
use p2p_core::{Key, Rng, SimPeer};

use super::super::*;
use super::{SECOND, quick};
use crate::measure::Simulated;
use crate::structured::{Find, Overlay};

type Node = CanRealities<SimPeer>;

fn network(seed: u64, nodes: u32, config: CanConfig) -> Sim<Node> {
    let network = Network {
        latency: Latency::Uniform(Duration::from_millis(10), Duration::from_millis(80)),
        encoding: Encoding::RoundTrip,
        ..Network::default()
    };
    let mut sim = Sim::<Node>::new(seed, network);
    sim.population(move |birth| {
        let seeds = birth.some(4);
        CanRealities::with(birth.peer, seeds, config)
    });
    let peers: Vec<SimPeer> = (0..nodes).map(SimPeer).collect();
    for node in <Node as Simulated>::converged(&peers, config) {
        sim.spawn(|_| node);
    }
    sim
}

/// The share of the space that is somebody's, in each reality.
fn covered(sim: &Sim<Node>) -> Vec<f64> {
    let view = sim.view();
    let nodes: Vec<&Node> = view.iter().map(|(_, node)| node).collect();
    let volume = |reality: usize| {
        let claims = nodes.iter().flat_map(|node| node.table().tables()[reality].claims());
        claims.map(|claim| claim.zone.volume()).sum::<u128>() as f64 / (1u128 << 126) as f64
    };
    (0..nodes[0].table().tables().len()).map(volume).collect()
}

#[track_caller]
fn settles(sim: &mut Sim<Node>, within: Duration) {
    let until = sim.now() + within;
    while covered(sim).iter().any(|share| *share != 1.0) {
        assert!(sim.now() < until, "{:?} of each reality are somebody's", covered(sim));
        sim.run_for(SECOND);
    }
}

#[test]
fn newcomers_find_a_zone_in_each_reality() {
    run_seeds(2, |seed| {
        let config = CanConfig { realities: 3, ..quick(2) };
        let mut sim = network(seed, 1, config);
        for _ in 0..40 {
            sim.join();
            sim.run_for(SECOND);
        }
        settles(&mut sim, 60 * SECOND);
        let view = sim.view();
        let outside = view.iter().flat_map(|(_, node)| node.table().tables()).filter(|table| !table.joined);
        assert_eq!(outside.count(), 0);
        sim.trace()
    });
}

#[test]
fn each_reality_mends_after_churn() {
    run_seeds(3, |seed| {
        let mut sim = network(seed, 40, CanConfig { realities: 2, ..quick(2) });
        let session = Session::Exponential { median: 45 * SECOND };
        sim.inject(churn(&mut Rng::stream(seed, 77), 40, 40, session, 120 * SECOND));
        sim.run_for(120 * SECOND);
        settles(&mut sim, 180 * SECOND);
        sim.trace()
    });
}

/// A lookup ends at the owner in any reality; one for a copy, in the reality to which its key leads.
#[test]
fn copies_lie_in_one_reality_each() {
    let mut sim = network(1, 60, CanConfig { realities: 3, update: Duration::ZERO, ..quick(2) });
    let key = Key::of(b"song.ogg");
    let owner = |sim: &Sim<Node>, reality: usize| {
        let owns = |node: &Node| node.table().tables()[reality].region().contains(&key);
        sim.view().iter().find(|(_, node)| owns(node)).map(|(peer, _)| peer).unwrap()
    };
    let owners: Vec<SimPeer> = (0..3).map(|reality| owner(&sim, reality)).collect();
    let Replicas::Keys(keys) = sim.node(SimPeer(7)).unwrap().replicas(&key, 3) else { panic!("peers") };
    let handle = sim.handle(SimPeer(7));
    let find = |key: Key| Find::key(key);
    for (key, owner) in keys.into_iter().zip(&owners) {
        let found = sim.block_on(async { handle.ask(find(key)).await }).unwrap().unwrap();
        assert_eq!(found.root(), *owner);
    }
    let found = sim.block_on(async { handle.ask(find(key)).await }).unwrap().unwrap();
    assert!(owners.contains(&found.root()));
}
