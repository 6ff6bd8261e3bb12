//! What Pastry's authors measured (Rowstron & Druschel, Middleware 2001), by the code that runs on the wire.

#![allow(clippy::print_stdout, reason = "what was measured is worth seeing")]

use std::time::Duration;

use p2p_core::sim::{Histogram, Latency, Network};
use p2p_core::{Key, Keyed, SimPeer};
use p2p_overlay::measure::{Experiment, Report, Simulated, Start};
use p2p_overlay::{Mode, Next, Overlay, Pastry, PastryConfig, Replicas};

use crate::figures::{in_bamboos_range, near, steady};

/// A network that stays as it is.
fn at_rest() -> PastryConfig {
    PastryConfig { upkeep: Duration::ZERO, ..PastryConfig::default() }
}

fn run(experiment: Experiment, config: PastryConfig) -> Report {
    experiment.run::<Pastry<SimPeer>>(config)
}

/// Fig. 4: b = 4, L = 16, static: 2.48, 3.00, 3.26 and 4.02 hops with 1,000 to 100,000 nodes (±3%), below ⌈log16 N⌉.
/// Fig. 5: with 100,000 nodes .0006, .016, .16, .63 and .18 of the lookups take one to five hops (±.03 of all, and the
/// rare ones ±40% of their own: they add up to .987), none takes six.
#[test]
fn the_path_is_the_logarithm_to_base_16() {
    for (nodes, hops) in [(1000, 2.48), (5000, 3.00), (10_000, 3.26), (100_000, 4.02)] {
        let experiment =
            Experiment { nodes, lookups: 20_000, rate: 1000.0, network: steady(), ..Experiment::default() };
        let report = run(experiment, at_rest());
        assert_eq!((report.success(), report.agreement()), (1.0, 1.0), "{nodes} nodes");
        near(&format!("hops of {nodes} nodes"), report.hops.mean(), hops, 0.03);
        assert!(report.hops.mean() <= f64::from(nodes.ilog2() / 4 + 1));
        if nodes == 100_000 {
            for (hops, share) in [(1, 0.0006), (2, 0.016), (3, 0.16), (4, 0.63), (5, 0.18), (6, 0.0)] {
                let measured = report.hops.share(hops);
                println!("P({hops} hops) = {measured:.4}, expected {share}");
                let off = f64::min(0.03, 0.4 * share + 0.0002);
                assert!((measured - share).abs() <= off, "P({hops} hops) = {measured}, not {share}");
            }
        }
    }
}

/// Fig. 10, by the ratios: when a tenth of 5,000 nodes has died at once the path is 2.96/2.73 as long as before, and
/// when the tables are repaired 2.74/2.73 (±3%).
#[test]
fn simultaneous_failures() {
    let experiment = |fail| Experiment {
        nodes: 5000,
        fail,
        lookups: 20_000,
        rate: 1000.0,
        network: steady(),
        ..Experiment::default()
    };
    let before = run(experiment(0.0), at_rest()).hops.mean();
    let unrepaired = run(experiment(0.1), at_rest());
    let mut sim = experiment(0.1).build::<Pastry<SimPeer>>(PastryConfig::default());
    sim.run_for(Duration::from_secs(600));
    let repaired = experiment(0.1).look_up(&mut sim);
    assert_eq!((unrepaired.success(), repaired.success()), (1.0, 1.0));
    near("path unrepaired, to before", unrepaired.hops.mean() / before, 2.96 / 2.73, 0.03);
    near("path repaired, to before", repaired.hops.mean() / before, 2.74 / 2.73, 0.03);
}

/// Fig. 6: on a plane the routes are at most 30 to 40% longer than the way straight there. What a lookup takes is the
/// route and the way back, which is the route again when it is recursive.
#[test]
fn routes_are_nearly_as_short_as_the_direct_way() {
    let experiment = |start, mode| Experiment {
        start,
        mode,
        lookups: 5000,
        network: Network { latency: Latency::Plane(Duration::from_millis(100)), ..Network::default() },
        ..Experiment::default()
    };
    let stretch = |start, config| {
        let mut sim = experiment(start, None).build::<Pastry<SimPeer>>(config);
        let mut took = |mode| experiment(start, mode).look_up(&mut sim).latency_us.mean();
        let (there, back) = (took(Some(Mode::Recursive)) / 2.0, took(None));
        there / (back - there)
    };
    let (near, any) = (stretch(Start::Joined, PastryConfig::default()), stretch(Start::Converged, at_rest()));
    println!("routes to the direct way: {near:.2}, with entries that chance has chosen {any:.2}");
    assert!(near < 1.4, "{near}");
    assert!(any > near + 0.5, "{any} without regard to the network");
}

/// Fig. 8: of the five nodes that are nearest to a key, the copies of what is stored there, a request comes upon the one
/// that is nearest to its start in 76% of all cases, and upon one of the two nearest in 92%. As in the paper, whoever
/// knows the five sends it to the one that is nearest to itself.
#[test]
fn the_copy_that_is_found_is_a_near_one() {
    const COPIES: usize = 5;
    let network = Network { latency: Latency::Plane(Duration::from_millis(100)), ..Network::default() };
    let experiment = Experiment { start: Start::Joined, network, ..Experiment::default() };
    let mut sim = experiment.build::<Pastry<SimPeer>>(PastryConfig::default());
    let mut nodes: Vec<(Key, SimPeer)> = sim.alive().iter().map(|peer| (peer.key(), *peer)).collect();
    nodes.sort_unstable();
    let mut ranks = Histogram::default();
    for i in 0..5000 {
        let (from, key) = (nodes[i % nodes.len()].1, sim.workload_rng().key());
        let mut copies = <Pastry<SimPeer> as Simulated>::owners(&nodes, &key, COPIES);
        if copies.contains(&from) {
            continue;
        }
        copies.sort_by_key(|copy| sim.latency(from, *copy));
        let mut at = from;
        let found = loop {
            let node = sim.node(at).unwrap();
            at = match (node.replicas(&key, COPIES), node.next(&key, &[])) {
                (Replicas::Peers(known), _) if known.len() == COPIES => {
                    known.into_iter().min_by_key(|copy| sim.latency(at, *copy)).unwrap()
                }
                (_, Next::Toward(peer) | Next::Root(peer)) => peer,
                other => panic!("{other:?} at {at:?}"),
            };
            if let Some(rank) = copies.iter().position(|copy| *copy == at) {
                break rank;
            }
        };
        ranks.add(found as u64);
    }
    let (nearest, two) = (ranks.share(0), ranks.share(0) + ranks.share(1));
    println!("the nearest of five {nearest:.3}, one of the two nearest {two:.3}");
    // Without the paper's estimate of when the five are near, it stays below its figures; by chance it would be .2 and .4.
    assert!(nearest > 0.6 && two > 0.8, "{nearest} and {two}");
}

#[test]
fn lookups_in_bamboos_range() {
    in_bamboos_range::<Pastry<SimPeer>>(PastryConfig::default(), PastryConfig::default());
}
