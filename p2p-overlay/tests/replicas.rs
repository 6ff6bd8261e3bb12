//! Where copies belong, as those say who hold them: what storage relies on.

use std::time::Duration;

use p2p_core::sim::run_seeds;
use p2p_core::{Rng, SimPeer};
use p2p_overlay::measure::{Experiment, Simulated, Start};
use p2p_overlay::{Chord, Kademlia, Replicas};

/// Nodes join, a fifth of them dies, and all is quiet again: then each of the eight nodes that a look at all nodes makes
/// responsible for a key names the same eight.
fn holders_agree<O: Simulated<Config: Default>>() {
    run_seeds(4, |seed| {
        // From rings in which everybody knows everybody to such in which few do.
        let nodes = [15, 25, 40, 80][seed as usize % 4];
        let experiment = Experiment { nodes, seed, start: Start::Joined, ..Experiment::default() };
        let mut sim = experiment.build::<O>(O::Config::default());
        for peer in (0..nodes / 5).map(|i| SimPeer(i * 5)) {
            sim.crash(peer);
        }
        sim.run_for(Duration::from_secs(900));
        let mut nodes: Vec<_> =
            sim.view().iter().map(|(peer, _)| (p2p_core::Keyed::key(&peer), peer)).collect();
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
        sim.trace()
    });
}

#[test]
fn of_chord() {
    holders_agree::<Chord<SimPeer>>();
}

#[test]
fn of_kademlia() {
    holders_agree::<Kademlia<SimPeer>>();
}
