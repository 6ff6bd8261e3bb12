//! When all is quiet again, whatever has happened, those responsible for a key agree on who they are: what storage
//! relies on.

use std::time::Duration;

use p2p_core::sim::{Cut, Fault, Latency, Network, Sim, run_seeds};
use p2p_core::{Keyed, Rng, SimPeer};
use p2p_overlay::measure::{Experiment, Simulated, Start};
use p2p_overlay::{Chord, Kademlia, Pastry, Replicas};

const MS: Duration = Duration::from_millis(1);

/// Each of the eight nodes that a look at all nodes makes responsible for a key names the same eight.
fn holders_agree<O: Simulated>(sim: &Sim<O>, seed: u64) {
    let mut nodes: Vec<_> = sim.view().iter().map(|(peer, _)| (peer.key(), peer)).collect();
    nodes.sort_unstable();
    let mut rng = Rng::new(seed);
    for _ in 0..200 {
        let key = rng.key();
        let owners = O::owners(&nodes, &key, 8);
        for owner in &owners {
            let says = sim.node(*owner).map(|node| node.replicas(&key, 8));
            assert_eq!(says, Some(Replicas::Peers(owners.clone())), "{owner} of {key}");
        }
    }
}

/// From networks in which everybody knows everybody to such in which few do.
fn joined<O: Simulated<Config: Default>>(seed: u64) -> (Sim<O>, u32) {
    let nodes = [15, 25, 40, 80][seed as usize % 4];
    // No message is so late that its sender is taken for dead.
    let network = Network { latency: Latency::Uniform(MS, 100 * MS), ..Network::default() };
    let experiment = Experiment { nodes, seed, network, start: Start::Joined, ..Experiment::default() };
    (experiment.build(O::Config::default()), nodes)
}

/// A fifth of the nodes dies.
fn after_deaths<O: Simulated<Config: Default>>() {
    run_seeds(4, |seed| {
        let (mut sim, nodes) = joined::<O>(seed);
        (0..nodes / 5).for_each(|i| sim.crash(SimPeer(i * 5)));
        sim.run_for(Duration::from_secs(900));
        holders_agree(&sim, seed);
        sim.trace()
    });
}

/// The network is cut in two for an hour: each half goes on by itself. Then the cut is mended.
fn after_a_cut<O: Simulated<Config: Default>>() {
    run_seeds(4, |seed| {
        let (mut sim, nodes) = joined::<O>(seed);
        let half = (0..nodes).filter(|i| i % 3 == 0).map(SimPeer);
        let rest = (0..nodes).filter(|i| i % 3 != 0).map(SimPeer);
        sim.inject(vec![
            (Duration::ZERO, Fault::Cut(Cut::between(half, rest))),
            (Duration::from_secs(3600), Fault::Heal),
        ]);
        sim.run_for(Duration::from_secs(7200));
        holders_agree(&sim, seed);
        sim.trace()
    });
}

#[test]
fn of_chord_after_deaths() {
    after_deaths::<Chord<SimPeer>>();
}

#[test]
fn of_chord_after_a_cut() {
    after_a_cut::<Chord<SimPeer>>();
}

#[test]
fn of_kademlia_after_deaths() {
    after_deaths::<Kademlia<SimPeer>>();
}

#[test]
fn of_kademlia_after_a_cut() {
    after_a_cut::<Kademlia<SimPeer>>();
}

#[test]
fn of_pastry_after_deaths() {
    after_deaths::<Pastry<SimPeer>>();
}

#[test]
fn of_pastry_after_a_cut() {
    after_a_cut::<Pastry<SimPeer>>();
}
