//! What is known of Tapestry, by the code that runs on the wire.

#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "what was measured is worth seeing")]

use std::time::Duration;

use p2p_core::SimPeer;
use p2p_core::sim::{Latency, Network, Session};
use p2p_overlay::measure::Experiment;
use p2p_overlay::{Mode, Tapestry, TapestryConfig};

/// A network that stays as it is.
fn at_rest() -> TapestryConfig {
    TapestryConfig { upkeep: Duration::ZERO, ..TapestryConfig::default() }
}

/// No message is so late that its sender is taken for dead.
fn steady() -> Network {
    Network { latency: Latency::Constant(Duration::from_millis(50)), ..Network::default() }
}

/// JSAC §II: static, every lookup ends at the one root, from wherever it starts, after about log16 N hops: 2.49, 3.32
/// and 4.15 at 10^3, 10^4 and 10^5 nodes (±5%: where few share a digit, there is less to resolve).
#[test]
fn the_path_is_the_logarithm_to_base_sixteen() {
    for (nodes, hops) in [(1000, 2.49), (10_000, 3.32), (100_000, 4.15)] {
        let experiment =
            Experiment { nodes, lookups: 4000, rate: 1000.0, network: steady(), ..Experiment::default() };
        let report = experiment.run::<Tapestry<SimPeer>>(at_rest());
        assert_eq!((report.success(), report.agreement()), (1.0, 1.0), "{nodes} nodes");
        let mean = report.hops.mean();
        println!("{nodes} nodes: {mean:.3} hops, expected {hops} ±5%; load {:?}", report.load);
        assert!((mean / hops - 1.0).abs() <= 0.05, "{mean} hops with {nodes} nodes");
        assert_eq!(report.load.mean(), 50.0, "every key is somebody's, and nobody else's");
    }
}

/// Every mode of travel finds the same roots.
#[test]
fn every_mode_finds_the_root() {
    for mode in [Mode::SemiRecursive, Mode::Recursive, Mode::iterative(1), Mode::iterative(3)] {
        let experiment =
            Experiment { mode: Some(mode), lookups: 2000, network: steady(), ..Experiment::default() };
        let report = experiment.run::<Tapestry<SimPeer>>(at_rest());
        assert_eq!((report.success(), report.agreement()), (1.0, 1.0), "{mode:?}");
    }
}

/// Bamboo's range (USENIX 2004), 1,000 nodes: at least 99% of lookups are right at a median session of 60 minutes and
/// 95% at 1.4 minutes, for under 900 bytes a node and second.
#[test]
fn lookups_under_churn() {
    for (minutes, success) in [(60.0, 0.99), (1.4, 0.95)] {
        let session = Session::Exponential { median: Duration::from_secs_f64(minutes * 60.0) };
        let experiment =
            Experiment { churn: Some(session), lookups: 4000, rate: 10.0, ..Experiment::default() };
        let report = experiment.run::<Tapestry<SimPeer>>(TapestryConfig::default());
        let (right, agree, bytes) = (report.success(), report.agreement(), report.bytes_per_node_s());
        println!(
            "{minutes} minutes: {right:.4} right, {agree:.4} agree, {bytes:.0} bytes a node and second, {:?} timeouts",
            report.timeouts
        );
        assert!(right >= success, "{right} right at {minutes} minutes");
        assert!(bytes < 900.0, "{bytes} bytes a node and second");
    }
}
