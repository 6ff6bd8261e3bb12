//! Several realities at once (§3.2).

use std::time::Duration;

use p2p_core::sim::{Encoding, Latency, Network, Session, Sim, churn, run_seeds};
use p2p_core::{Key, Rng, SimPeer};

use super::super::*;
use super::{SECOND, quick};
use crate::measure::Simulated;
use crate::structured::{Find, Overlay};
use crate::trouble::{IN_PIECES, troubled};

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

#[track_caller]
fn settles(sim: &mut Sim<Node>, within: Duration) {
    let until = sim.now() + within;
    while let Err(why) = Node::is_whole(&sim.view()) {
        assert!(sim.now() < until, "{why}");
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

#[test]
fn each_reality_is_whole_after_cuts_and_whatever_else_goes_wrong() {
    let config = CanConfig { realities: 2, ..quick(2) };
    run_seeds(3, |seed| troubled::<Node>(seed, config, IN_PIECES, 600 * SECOND, |_| {}));
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
