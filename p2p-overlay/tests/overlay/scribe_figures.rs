//! What Scribe's authors measured (Castro et al., JSAC 20(8), 2002, §IV), by the code that runs on the wire.
//!
//! Their trees are over Pastry, whose routes are hardly longer than the direct way; a Chord node chooses nobody by
//! nearness. So over Chord the figures that depend on it are those that follow from its routes, and are said beside the
//! paper's. The paper's topology has routers, ours is a square without any: how often a message crosses one physical
//! link (its link stress) is not measured.

#![allow(clippy::print_stdout, reason = "what was measured is worth seeing")]

use std::time::Duration;

use p2p_core::SimPeer;
use p2p_overlay::measure::Experiment;
use p2p_overlay::measure::multicast::{Groups, Report};
use p2p_overlay::{Chord, ChordConfig, Pastry, PastryConfig, ScribeConfig};

fn at_rest() -> ChordConfig {
    ChordConfig { stabilize: Duration::ZERO, ..ChordConfig::default() }
}

fn run(groups: Groups) -> Report {
    let report = groups.run::<Chord<SimPeer>>(at_rest());
    assert_eq!((report.delivered, report.duplicates), (report.expected, 0));
    report
}

fn median(sorted: &[f64]) -> f64 {
    sorted[sorted.len() / 2]
}

/// §IV: of 100,000 nodes, 1,500 groups have 395,247 members, the smallest 11 and the largest all.
#[test]
fn groups_are_as_large_as_the_papers() {
    let groups = Groups { nodes: 100_000, ..Groups::default() };
    let sizes: Vec<usize> = (1..=1500).map(|rank| groups.size(rank)).collect();
    assert_eq!((sizes[0], sizes[1499], sizes.iter().sum()), (100_000, 11, 395_247));
}

/// §IV: with half of the groups the mean delay is at most 1.68 times the direct one, and the largest 1.69 times. Over
/// Chord each step takes as long as any way between two nodes, whatever the direct one is: the median is that of the
/// step to the root and the mean depth of a member (±10%). Trees are made of routes: they are as deep as lookups are
/// long, with the last hop (±5%).
#[test]
fn messages_are_late_by_the_depth_of_the_tree() {
    for nodes in [1000, 10_000] {
        let report = run(Groups { nodes, ..Groups::default() });
        let (rad, rmd, depth) = (median(&report.rad), median(&report.rmd), report.depth.mean());
        println!("{nodes} nodes: RAD {rad:.2}, RMD {rmd:.2}, depth {depth:.2}; over Pastry 1.68 and 1.69");
        assert!((rad / (1.0 + depth) - 1.0).abs() < 0.1, "RAD {rad} at a mean depth of {depth}");
        assert!(rmd < rad, "the latest wait for more steps, but from further away: {rmd}");
        let lookups = Experiment { nodes, rate: 1000.0, ..Experiment::default() };
        let path = lookups.run::<Chord<SimPeer>>(at_rest()).hops.mean() + 1.0;
        assert!((depth / path - 1.0).abs() < 0.05, "a depth of {depth}, and lookups of {path} hops");
    }
}

/// §IV, over Pastry, whose nodes have had five minutes to find out who is near. The paper's 1.68 and 1.69 are missed:
/// in a square without routers it is 2.28 and 2.04, for a message goes to the root, which is anywhere, and then to
/// the members by routes that are 1.36 times as long as the direct way (`pastry_figures`): 1 + 1.36, ±10%. It is less
/// than half of what it is over Chord.
#[test]
fn over_pastry_messages_are_hardly_later_than_by_the_root() {
    let groups = Groups { settle: Duration::from_secs(300), ..Groups::default() };
    let report = groups.run::<Pastry<SimPeer>>(PastryConfig::default());
    assert_eq!((report.delivered, report.duplicates), (report.expected, 0));
    let (rad, rmd) = (median(&report.rad), median(&report.rmd));
    println!("over Pastry: RAD {rad:.2}, RMD {rmd:.2}, depth {:.2}", report.depth.mean());
    assert!((rad / 2.36 - 1.0).abs() < 0.1, "RAD {rad}");
    assert!(rad < 0.5 * median(&run(Groups::default()).rad), "RAD {rad}");
}

/// §IV: children tables are small and even. With 100,000 nodes the paper has 2.4 of them a node with 6.2 entries, at
/// most 40 with 1,059. A tree has one entry less than nodes; over Chord more than half of these are no members but
/// pass messages on, for paths are longer. The most entries are far fewer, for they are bounded.
#[test]
fn children_tables_are_small_and_even() {
    let report = run(Groups { nodes: 10_000, ..Groups::default() });
    let (tables, entries) = (&report.tables, &report.entries);
    println!("tables a node: {tables:?}; entries: {entries:?}; copies: {:?}", report.copies);
    assert!(entries.mean() < 2.5 * report.expected as f64 / 10_000.0, "{entries:?}");
    assert!(entries.percentile(99.0) as f64 <= 6.0 * entries.mean(), "not even: {entries:?}");
    assert!(report.copies.max() <= ScribeConfig::default().max_children as u64, "{:?}", report.copies);
}

/// §IV, the bottleneck remover: with a bound of four children in each group the most loaded node sends fewer copies,
/// for a delay that is longer by no more than half.
#[test]
fn a_bound_on_children_spreads_the_load() {
    let free = run(Groups::default());
    let config = ScribeConfig { max_children: 4, ..ScribeConfig::default() };
    let bounded = run(Groups { config, ..Groups::default() });
    println!("copies {:?} and {:?}", free.copies, bounded.copies);
    assert!(bounded.copies.max() <= 4 && free.copies.max() > 16);
    assert!(bounded.entries.max() < free.entries.max(), "{:?} {:?}", bounded.entries, free.entries);
    assert!(median(&bounded.rad) < 1.5 * median(&free.rad));
}
