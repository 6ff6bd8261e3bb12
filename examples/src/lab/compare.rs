//! `lab compare`: all five structured overlays on one workload, so that an application chooses by numbers.

use std::error::Error;
use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;
use p2p_core::sim::Session;
use p2p_overlay::measure::Experiment;
use serde::Serialize;

use crate::kinds::{How, Kind, measure};
use crate::plot::{Panel, bars};

/// What to simulate: lookups of random keys, over messages that take 50 ms on average, in a network at rest, in one of
/// which a tenth has just died and nothing is repaired, and under churn. All overlays have their default
/// configurations, but that Chord stabilises every 5 s under churn, as its figures are measured.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// How many nodes.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(10..=1_000_000))]
    nodes: u32,
    /// How many lookups in each network.
    #[arg(long, default_value_t = 4000, value_parser = clap::value_parser!(u64).range(1..))]
    lookups: u64,
    /// The seed of everything: the same one gives the same runs.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
    /// Draw how many lookups are right, their hops, how long they take, and the traffic.
    #[arg(long, value_name = "FILE.svg")]
    plot: Option<PathBuf>,
}

/// The state of the network, with its name.
const WORKLOADS: [(&str, Workload); 4] = [
    ("static", Workload::Static),
    ("10% dead", Workload::Damaged),
    ("60 min", Workload::Churn(60.0)),
    ("1.4 min", Workload::Churn(1.4)),
];

#[derive(Clone, Copy)]
enum Workload {
    Static,
    Damaged,
    /// With this median session, in minutes.
    Churn(f64),
}

#[derive(Serialize)]
struct Output {
    nodes: u32,
    lookups: u64,
    seed: u64,
    rows: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    workload: &'static str,
    overlay: Kind,
    joined: f64,
    success: f64,
    success_of_all: f64,
    agreement: f64,
    hops: f64,
    timeouts: f64,
    latency_p50_ms: f64,
    latency_p99_ms: f64,
    bytes_per_node_s: f64,
    trace: String,
}

pub(crate) fn run(args: &Args) -> Result<(), Box<dyn Error>> {
    let rows = WORKLOADS.iter().flat_map(|&(name, workload)| {
        Kind::value_variants().iter().map(move |overlay| row(args, name, workload, *overlay))
    });
    let Args { nodes, lookups, seed, .. } = *args;
    let output = Output { nodes, lookups, seed, rows: rows.collect() };
    if let Some(path) = &args.plot {
        plot(path, &output)?;
    }
    match args.json {
        true => print(&serde_json::to_string(&output)?),
        false => table(&output),
    }
    Ok(())
}

fn row(args: &Args, name: &'static str, workload: Workload, overlay: Kind) -> Row {
    let Args { nodes, lookups, seed, .. } = *args;
    let still = Experiment { nodes, lookups, seed, ..Experiment::default() };
    let at_rest = How { at_rest: true, ..How::default() };
    let (experiment, how) = match workload {
        Workload::Static => (still, at_rest),
        Workload::Damaged => (Experiment { fail: 0.1, ..still }, at_rest),
        Workload::Churn(minutes) => {
            let median = Duration::from_secs_f64(60.0 * minutes);
            let churn = Some(Session::Exponential { median });
            (Experiment { churn, rate: 10.0, ..still }, How { often: true, ..How::default() })
        }
    };
    let report = measure(overlay, &experiment, how).report;
    let ms = |p| report.latency_us.percentile(p) as f64 / 1e3;
    Row {
        workload: name,
        overlay,
        joined: report.joined(),
        success: report.success(),
        success_of_all: report.success_of_all(),
        agreement: report.agreement(),
        hops: report.hops.mean(),
        timeouts: report.timeouts.mean(),
        latency_p50_ms: ms(50.0),
        latency_p99_ms: ms(99.0),
        bytes_per_node_s: report.bytes_per_node_s(),
        trace: format!("{:016x}", report.trace),
    }
}

#[expect(clippy::print_stdout, reason = "the result of the program")]
fn print(text: &str) {
    println!("{text}");
}

fn table(output: &Output) {
    print(&format!(
        "{:<9} {:<9} {:>7} {:>7} {:>7} {:>7} {:>6} {:>8} {:>8} {:>8} {:>8}",
        "network",
        "overlay",
        "joined",
        "right",
        "of all",
        "agree",
        "hops",
        "timeouts",
        "p50 ms",
        "p99 ms",
        "B/node/s"
    ));
    for row in &output.rows {
        print(&format!(
            "{:<9} {:<9} {:>7.4} {:>7.4} {:>7.4} {:>7.4} {:>6.2} {:>8.3} {:>8.0} {:>8.0} {:>8.0}",
            row.workload,
            format!("{:?}", row.overlay).to_lowercase(),
            row.joined,
            row.success,
            row.success_of_all,
            row.agreement,
            row.hops,
            row.timeouts,
            row.latency_p50_ms,
            row.latency_p99_ms,
            row.bytes_per_node_s,
        ));
    }
}

fn plot(path: &std::path::Path, output: &Output) -> Result<(), Box<dyn Error>> {
    let panel = |title, value: fn(&Row) -> f64| {
        let per_workload = output.rows.chunks(Kind::value_variants().len());
        Panel { title, values: per_workload.map(|rows| rows.iter().map(value).collect()).collect() }
    };
    let panels = [
        panel("lookups that are right, %", |row| 100.0 * row.success),
        panel("hops", |row| row.hops),
        panel("median time, ms", |row| row.latency_p50_ms),
        panel("bytes a node and second", |row| row.bytes_per_node_s),
    ];
    let names: Vec<String> =
        Kind::value_variants().iter().map(|kind| format!("{kind:?}").to_lowercase()).collect();
    let title = format!("{} nodes, {} lookups, seed {}", output.nodes, output.lookups, output.seed);
    bars(path, &title, &WORKLOADS.map(|(name, _)| name), &names, &panels)
}
