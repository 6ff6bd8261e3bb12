//! What Pastry's authors measured (Rowstron & Druschel, Middleware 2001), by the code that runs on the wire.

#![allow(clippy::print_stdout, reason = "what was measured is worth seeing")]

use std::time::Duration;

use p2p_core::SimPeer;
use p2p_core::sim::{Latency, Network};
use p2p_overlay::measure::{Experiment, Report, Start};
use p2p_overlay::{Mode, Pastry, PastryConfig};

use crate::figures::{in_bamboos_range, near, steady};

/// A network that stays as it is.
fn at_rest() -> PastryConfig {
    PastryConfig { upkeep: Duration::ZERO, ..PastryConfig::default() }
}

fn run(experiment: Experiment, config: PastryConfig) -> Report {
    experiment.run::<Pastry<SimPeer>>(config)
}

/// Fig. 4: b = 4, L = 16, static: 2.48, 3.00, 3.26 and 4.02 hops with 1,000 to 100,000 nodes (±3%), below ⌈log16 N⌉.
/// Fig. 5: with 100,000 nodes .0006, .016, .16, .63 and .18 of the lookups take one to five hops (±.03: they add up
/// to .987), none takes six.
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
                assert!((measured - share).abs() < 0.03, "P({hops} hops) = {measured}, not {share}");
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

#[test]
fn lookups_in_bamboos_range() {
    in_bamboos_range::<Pastry<SimPeer>>(PastryConfig::default(), PastryConfig::default());
}
