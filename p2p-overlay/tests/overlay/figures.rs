//! What the figures of several overlays have in common.

#![allow(clippy::print_stdout, reason = "what was measured is worth seeing")]

use std::time::Duration;

use p2p_core::sim::{Latency, Network, Session};
use p2p_overlay::measure::{Experiment, Simulated};

/// No message is so late that its sender is taken for dead.
pub(crate) fn steady() -> Network {
    Network { latency: Latency::Constant(Duration::from_millis(50)), ..Network::default() }
}

/// Fails unless a figure is the expected one within a tolerance, a part of it.
#[track_caller]
pub(crate) fn near(what: &str, measured: f64, expected: f64, tolerance: f64) {
    let percent = tolerance * 100.0;
    println!("{what}: {measured:.3}, expected {expected} ±{percent:.0}%");
    assert!(
        (measured / expected - 1.0).abs() <= tolerance,
        "{what}: {measured}, not {expected} ±{percent:.0}%"
    );
}

/// Bamboo's range (USENIX 2004), 1,000 nodes: at least 99% of lookups are right at a median session of 60 minutes and
/// 95% at 1.4 minutes, for under 900 bytes a node and second.
pub(crate) fn in_bamboos_range<O: Simulated>(calm: O::Config, restless: O::Config) {
    for (minutes, success, config) in [(60.0, 0.99, calm), (1.4, 0.95, restless)] {
        let session = Session::Exponential { median: Duration::from_secs_f64(minutes * 60.0) };
        // In the second tier as many as the tables in the results are made of.
        let lookups = if std::env::var_os("P2P_SEEDS").is_some() { 4000 } else { 1500 };
        let experiment = Experiment { churn: Some(session), lookups, rate: 10.0, ..Experiment::default() };
        let report = experiment.run::<O>(config);
        let (right, agree, bytes) = (report.success(), report.agreement(), report.bytes_per_node_s());
        println!(
            "{minutes} minutes: {right:.4} right, {agree:.4} agree, {bytes:.0} bytes a node and second, {:?} timeouts, {:.4} \
             of the living take part",
            report.timeouts,
            report.joined()
        );
        assert!(right >= success, "{right} right at {minutes} minutes");
        assert!(bytes < 900.0, "{bytes} bytes a node and second");
    }
}
