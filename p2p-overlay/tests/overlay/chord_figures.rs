//! What Chord's authors measured (Stoica et al., ToN 11(1), 2003), by the code that runs on the wire.
//!
//! The rings of a simulation are few, and their nodes stand where chance put them: where a figure depends on that,
//! several seeds are averaged.

#![allow(clippy::print_stdout, reason = "what was measured is worth seeing")]

use std::time::Duration;

use p2p_core::sim::{Histogram, Session};
use p2p_core::{Key, Rng, SimPeer};
use p2p_overlay::measure::{Experiment, Report};
use p2p_overlay::{Chord, ChordConfig, LookupConfig, Mode, Overlay, Region};

use crate::figures::{in_bamboos_range, near, steady};

/// The paper's simulator: r = 20, timeouts after 500 ms. A lookup may meet dozens of dead nodes: it has time.
fn paper() -> ChordConfig {
    let lookup = LookupConfig { timeout: Duration::from_secs(60), ..LookupConfig::default() };
    ChordConfig { successors: 20, lookup, ..ChordConfig::default() }
}

/// The same on a ring that stays as it is.
fn at_rest() -> ChordConfig {
    ChordConfig { stabilize: Duration::ZERO, ..paper() }
}

fn run(experiment: Experiment, config: ChordConfig) -> Report {
    experiment.run::<Chord<SimPeer>>(config)
}

/// Fig. 10: static, fingers only. The mean path is 5.85 hops at 2^12 nodes (±3%) and half a hop longer with each
/// doubling (±5%); its distribution has its mode at 6, with probability .235 (±.015: three standard errors).
#[test]
fn the_path_is_half_the_logarithm() {
    let fingers_only = ChordConfig { successors: 1, ..at_rest() };
    let hops = |exponent: u32| {
        let nodes = 1u32 << exponent;
        let experiment =
            Experiment { nodes, lookups: 20_000, rate: 1000.0, network: steady(), ..Experiment::default() };
        let report = run(experiment, fingers_only);
        assert_eq!((report.success(), report.agreement()), (1.0, 1.0));
        report.hops
    };
    let (small, large) = (hops(8), hops(12));
    near("mean path at 2^12", large.mean(), 5.85, 0.03);
    near("hops per doubling", (large.mean() - small.mean()) / 4.0, 0.5, 0.05);
    assert_eq!(large.mode(), 6);
    assert!((large.share(6) - 0.235).abs() < 0.015, "P(6 hops) = {}", large.share(6));
}

/// Table II: 1,000 nodes, r = 20, a fraction p dies at once and nothing is repaired. Paths ±5%, timeouts ±20%, and
/// no lookup fails.
///
/// Each step, the last one to the owner too, meets p/(1 - p) dead nodes before a live one: our timeouts follow
/// (hops + 1)·p/(1 - p) within 8%. The table's 1.8 at p = .3 does not (its own neighbours do), and is not asserted.
#[test]
fn simultaneous_failures() {
    let table: [(f64, f64, Option<f64>); 6] = [
        (0.0, 3.8, None),
        (0.1, 3.9, Some(0.6)),
        (0.2, 4.1, Some(1.2)),
        (0.3, 4.3, None),
        (0.4, 4.6, Some(3.4)),
        (0.5, 5.2, Some(6.0)),
    ];
    for (fail, path, timeouts) in table {
        let reports: Vec<Report> = (1..=5)
            .map(|seed| {
                let experiment =
                    Experiment { fail, seed, lookups: 4000, network: steady(), ..Experiment::default() };
                run(experiment, at_rest())
            })
            .collect();
        assert!(reports.iter().all(|report| report.success() == 1.0), "a lookup failed at p = {fail}");
        let mean = |value: fn(&Report) -> f64| reports.iter().map(value).sum::<f64>() / 5.0;
        let hops = mean(|report| report.hops.mean());
        near(&format!("path at p = {fail}"), hops, path, 0.05);
        let measured = mean(|report| report.timeouts.mean());
        match fail {
            0.0 => assert_eq!(measured, 0.0),
            p => near(&format!("timeouts at p = {p}"), measured, (hops + 1.0) * p / (1.0 - p), 0.08),
        }
        if let Some(expected) = timeouts {
            near(&format!("timeouts at p = {fail}, by the table"), measured, expected, 0.2);
        }
    }
}

/// Table III: 1,000 nodes, stabilising every U(15, 45) s, one lookup a second, nodes join and leave at a rate. The
/// path is about 3.9 (±5%); timeouts per lookup are at most the paper's, 0.05 to 0.46 (ours are fewer: a node
/// found dead leaves all tables of the one who found it); at most 15 of 10,000 lookups fail, as at the paper's
/// highest rate.
#[test]
fn lookups_under_churn() {
    for (rate, timeouts) in [(0.05, 0.05), (0.4, 0.46)] {
        let median = Duration::from_secs_f64(1000.0 / rate * std::f64::consts::LN_2);
        let churn = Some(Session::Exponential { median });
        let experiment = Experiment { churn, rate: 1.0, ..Experiment::default() };
        let report = run(experiment, paper());
        let failed = report.lookups - report.succeeded;
        println!("rate {rate}: {failed} of {} failed, {:?} timeouts", report.lookups, report.timeouts);
        near(&format!("path at rate {rate}"), report.hops.mean(), 3.9, 0.05);
        assert!(report.timeouts.mean() <= timeouts, "{:?}", report.timeouts);
        assert!(failed <= 15, "{failed} of {} lookups failed", report.lookups);
        assert!(report.agreement() >= 0.999, "agreement {}", report.agreement());
    }
}

/// At 1.4 minutes it stabilises every 5 s instead of every 30.
#[test]
fn lookups_in_bamboos_range() {
    let often = ChordConfig { stabilize: Duration::from_secs(5), fingers: 3, ..ChordConfig::default() };
    in_bamboos_range::<Chord<SimPeer>>(ChordConfig::default(), often);
}

/// Figs. 8 and 9: keys per host of 10^4 hosts with v virtual nodes each, of 10^6 keys (5·10^5 in fig. 8): the 99th
/// percentile ±5%, and the 1st ±.015, of two rings each: in one ring of five virtual nodes a host its standard deviation
/// is .007. The maximum, 9 to 10 means, is averaged over eight rings and asserted at
/// 8.5 to 11: it is the largest of 10^4 nearly exponential gaps, ln(10^4) + .577 = 9.8, with a standard deviation
/// of 1.28 in one ring.
#[test]
fn the_load_on_hosts() {
    let p99 = [(1, 4.7, 0.01), (2, 3.3, 0.06), (5, 2.4, 0.24), (10, 1.9, 0.39), (20, 1.65, 0.51)];
    for (virtual_nodes, p99, p1) in p99 {
        let rings = [0, 1].map(|ring| load(10_000, virtual_nodes, 1_000_000, ring));
        let share = |p| rings.iter().map(|load| load.percentile(p) as f64 / load.mean()).sum::<f64>() / 2.0;
        near(&format!("p99 with {virtual_nodes}"), share(99.0), p99, 0.05);
        let low = share(1.0);
        assert!((low - p1).abs() < 0.015, "p1 with {virtual_nodes}: {low}, expected {p1}");
    }
    let rings: Vec<Histogram> = (0..8).map(|ring| load(10_000, 1, 500_000, ring)).collect();
    let max = rings.iter().map(|load| load.max() as f64 / load.mean()).sum::<f64>() / 8.0;
    assert!((8.5..11.0).contains(&max), "max {max}");
    near("p99 of fig. 8", rings[0].percentile(99.0) as f64 / rings[0].mean(), 4.6, 0.05);
}

/// Keys per host, by what the nodes themselves say is theirs.
fn load(hosts: u32, virtual_nodes: u32, keys: usize, ring: u32) -> Histogram {
    let nodes = hosts * virtual_nodes;
    let peers: Vec<SimPeer> = (0..nodes).map(|i| SimPeer(ring * nodes + i)).collect();
    let mut rng = Rng::new(ring.into());
    let mut keys: Vec<Key> = (0..keys).map(|_| rng.key()).collect();
    keys.sort_unstable();
    let mut load = vec![0; hosts as usize];
    for node in Chord::converged(&peers, ChordConfig { successors: 1, ..at_rest() }) {
        let Region::Arcs(arcs) = node.mine() else { panic!("a ring has arcs") };
        let owned = |(after, upto): (Key, Key)| {
            let (after_at, upto_at) =
                (keys.partition_point(|key| *key <= after), keys.partition_point(|key| *key <= upto));
            if after < upto { upto_at - after_at } else { keys.len() - after_at + upto_at }
        };
        load[(node.me().0 / virtual_nodes % hosts) as usize] +=
            arcs.into_iter().map(owned).sum::<usize>() as u64;
    }
    load.into_iter().collect()
}

/// All modes find the same owners; they differ in what they cost.
#[test]
fn every_mode_finds_the_owner() {
    let sent: Vec<u64> = [Mode::SemiRecursive, Mode::iterative(1), Mode::Recursive, Mode::iterative(3)]
        .into_iter()
        .map(|mode| {
            let experiment =
                Experiment { mode: Some(mode), lookups: 4000, network: steady(), ..Experiment::default() };
            let report = run(experiment, at_rest());
            assert_eq!((report.success(), report.agreement()), (1.0, 1.0), "{mode:?}");
            report.stats.sent
        })
        .collect();
    assert!(sent.is_sorted(), "messages sent, the cheapest mode first: {sent:?}");
}
