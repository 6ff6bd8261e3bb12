//! `lab multicast`: trees of many groups on one structured overlay.

use std::error::Error;
use std::time::Duration;

use clap::ValueEnum;
use p2p_core::SimPeer;
use p2p_core::sim::Histogram;
use p2p_overlay::measure::multicast::{Groups, Report};
use p2p_overlay::{Can, Chord, Pastry, ScribeConfig, Tapestry};
use serde::Serialize;

use crate::kinds::How;

/// What to simulate.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Which overlay; of those in which a key has one root.
    #[arg(long, value_enum, default_value_t = Kind::Chord)]
    overlay: Kind,
    /// How many nodes.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(2..=1_000_000))]
    nodes: u32,
    /// How many groups; the r-th has nodes · r^-1.25 members, and two at least.
    #[arg(long, default_value_t = 1500, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    groups: u32,
    /// The seed of everything: the same one gives the same run.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many children a node has in one group; who comes after them is passed down.
    #[arg(long, default_value_t = ScribeConfig::default().max_children)]
    max_children: usize,
    /// How many simulated seconds the overlay looks after its tables before the groups are made: by then Pastry and
    /// Tapestry have chosen neighbours that are near. Without any it rests.
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    settle: u32,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Can,
    Chord,
    Pastry,
    Tapestry,
}

/// What came out, as `--json` prints it.
#[derive(Serialize)]
struct Output {
    overlay: Kind,
    nodes: u32,
    groups: u32,
    seed: u64,
    max_children: usize,
    expected: u64,
    delivered: u64,
    duplicates: u64,
    rad: Ratio,
    rmd: Ratio,
    tables_per_node: Spread,
    entries_per_node: Spread,
    copies_per_message: Spread,
    depth: Spread,
    trace: String,
}

/// Over all groups.
#[derive(Serialize)]
struct Ratio {
    mean: f64,
    p50: f64,
    max: f64,
}

#[derive(Serialize)]
struct Spread {
    mean: f64,
    p50: u64,
    p99: u64,
    max: u64,
}

pub(crate) fn run(args: &Args) -> Result<(), Box<dyn Error>> {
    let groups = Groups {
        nodes: args.nodes,
        groups: args.groups,
        seed: args.seed,
        settle: Duration::from_secs(args.settle.into()),
        config: ScribeConfig { max_children: args.max_children, ..ScribeConfig::default() },
        ..Groups::default()
    };
    let how = How { at_rest: args.settle == 0, ..How::default() };
    let report = match args.overlay {
        Kind::Can => groups.run::<Can<SimPeer>>(how.can()),
        Kind::Chord => groups.run::<Chord<SimPeer>>(how.chord()),
        Kind::Pastry => groups.run::<Pastry<SimPeer>>(how.pastry()),
        Kind::Tapestry => groups.run::<Tapestry<SimPeer>>(how.tapestry()),
    };
    let output = output(args, &report);
    match args.json {
        true => print(&serde_json::to_string(&output)?),
        false => table(&output),
    }
    Ok(())
}

fn output(args: &Args, report: &Report) -> Output {
    Output {
        overlay: args.overlay,
        nodes: args.nodes,
        groups: args.groups,
        seed: args.seed,
        max_children: args.max_children,
        expected: report.expected,
        delivered: report.delivered,
        duplicates: report.duplicates,
        rad: ratio(&report.rad),
        rmd: ratio(&report.rmd),
        tables_per_node: spread(&report.tables),
        entries_per_node: spread(&report.entries),
        copies_per_message: spread(&report.copies),
        depth: spread(&report.depth),
        trace: format!("{:016x}", report.trace),
    }
}

/// Of sorted ratios.
fn ratio(sorted: &[f64]) -> Ratio {
    let (count, last) = (sorted.len().max(1) as f64, sorted.last().copied());
    let p50 = sorted.get(sorted.len() / 2).copied();
    Ratio { mean: sorted.iter().sum::<f64>() / count, p50: p50.unwrap_or(0.0), max: last.unwrap_or(0.0) }
}

fn spread(histogram: &Histogram) -> Spread {
    let (p50, p99) = (histogram.percentile(50.0), histogram.percentile(99.0));
    Spread { mean: histogram.mean(), p50, p99, max: histogram.max() }
}

#[expect(clippy::print_stdout, reason = "the result of the program")]
fn print(text: &str) {
    println!("{text}");
}

fn table(output: &Output) {
    let Output { expected, delivered, duplicates, .. } = output;
    let ratio = |Ratio { mean, p50, max }: &Ratio| format!("mean {mean:.2}, p50 {p50:.2}, max {max:.2}");
    let spread =
        |Spread { mean, p50, p99, max }: &Spread| format!("mean {mean:.2}, p50 {p50}, p99 {p99}, max {max}");
    let rows = [
        ("messages", format!("{delivered} of {expected} received, {duplicates} twice")),
        (
            "mean delay",
            format!("{} times the direct one (RAD, of {} groups)", ratio(&output.rad), output.groups),
        ),
        ("max delay", format!("{} times the direct one (RMD)", ratio(&output.rmd))),
        ("tables", format!("{} a node (groups in which it has children)", spread(&output.tables_per_node))),
        ("entries", format!("{} a node (children in all groups)", spread(&output.entries_per_node))),
        (
            "copies",
            format!("{} of a message by each node that passes it on", spread(&output.copies_per_message)),
        ),
        ("depth", format!("{} below the root", spread(&output.depth))),
        ("trace", output.trace.clone()),
    ];
    rows.into_iter().for_each(|(name, value)| print(&format!("{name:<12} {value}")));
}
