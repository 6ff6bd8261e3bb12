//! `lab overlay`: one workload on one structured overlay.

use std::error::Error;
use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;
use p2p_core::sim::{Encoding, Histogram, Latency, Network, Session, TransitStub};
use p2p_overlay::Mode;
use p2p_overlay::measure::{Experiment, Start};
use serde::Serialize;

use crate::kinds::{How, Kind, Measured, measure};

/// What to simulate.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Which overlay.
    #[arg(long, value_enum, default_value_t = Kind::Chord)]
    overlay: Kind,
    /// How many dimensions CAN's space has; by default 4.
    #[arg(long, value_name = "D", value_parser = clap::value_parser!(u8).range(1..=8))]
    dimensions: Option<u8>,
    /// How many nodes share one of CAN's zones; by default each has its own.
    #[arg(long, value_name = "PEERS", value_parser = clap::value_parser!(u8).range(1..=8))]
    zone_peers: Option<u8>,
    /// In how many realities CAN's nodes have a zone; by default one. Of at most 4 dimensions then.
    #[arg(long, value_name = "REALITIES", value_parser = clap::value_parser!(u8).range(1..=8))]
    realities: Option<u8>,
    /// How many simulated seconds the network looks after itself before the lookups begin: by then nodes have found out
    /// who is near.
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    settle: u32,
    /// How many nodes.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    nodes: u32,
    /// How many lookups.
    #[arg(long, default_value_t = 10_000)]
    lookups: u64,
    /// How many lookups begin per simulated second.
    #[arg(long, default_value_t = 100.0, value_parser = positive)]
    rate: f64,
    /// The seed of everything: the same one gives the same run.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The share of nodes that die at once before the lookups begin. Nothing is repaired then.
    #[arg(long, value_name = "P", default_value_t = 0.0, value_parser = share)]
    fail: f64,
    /// Nodes leave and are replaced; half of them stay no longer than this many seconds.
    #[arg(long, value_name = "MEDIAN_SESSION_S", value_parser = positive)]
    churn: Option<f64>,
    /// How the network comes to be: its tables computed, or its nodes joining one after the other.
    #[arg(long, value_enum, default_value_t = StartAs::Converged)]
    start: StartAs,
    /// How lookups travel; by default in the overlay's own manner.
    #[arg(long, value_enum)]
    mode: Option<Travel>,
    /// How long messages take: 50 ms on average, or up to 141 ms by the distance of nodes in a square.
    #[arg(long, value_enum, default_value_t = Delay::Exponential)]
    latency: Delay,
    /// No upkeep: the tables stay as they are. Always so with --fail.
    #[arg(long)]
    at_rest: bool,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
    /// Draw the distribution of the hops.
    #[arg(long, value_name = "FILE.svg")]
    plot: Option<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
enum StartAs {
    Converged,
    Joined,
}

#[derive(Clone, Copy, ValueEnum)]
enum Travel {
    Recursive,
    SemiRecursive,
    Iterative,
}

#[derive(Clone, Copy, ValueEnum)]
enum Delay {
    Constant,
    Exponential,
    Plane,
    TransitStub,
}

fn share(text: &str) -> Result<f64, String> {
    let share: f64 = text.parse().map_err(|_| format!("{text:?} is not a number"))?;
    (0.0..1.0).contains(&share).then_some(share).ok_or_else(|| "a share is at least 0 and below 1".into())
}

fn positive(text: &str) -> Result<f64, String> {
    let number: f64 = text.parse().map_err(|_| format!("{text:?} is not a number"))?;
    (number > 0.0 && number < 1e9)
        .then_some(number)
        .ok_or_else(|| "expected a number above 0 and below 10^9".into())
}

/// What came out, as `--json` prints it.
#[derive(Serialize)]
struct Output {
    overlay: Kind,
    nodes: u32,
    seed: u64,
    lookups: u64,
    success: f64,
    agreement: f64,
    hops: Hops,
    timeouts_mean: f64,
    latency_ms: LatencyMs,
    load: Load,
    bytes_per_node_s: f64,
    events: u64,
    events_per_s: f64,
    wall_s: f64,
    bytes_per_node: u64,
    start: StartAs,
    trace: String,
}

#[derive(Serialize)]
struct Hops {
    mean: f64,
    p50: u64,
    p99: u64,
    max: u64,
    histogram: Vec<(u64, u64)>,
}

#[derive(Serialize)]
struct LatencyMs {
    p50: f64,
    p99: f64,
}

#[derive(Serialize)]
struct Load {
    mean: f64,
    p1: u64,
    p99: u64,
    max: u64,
}

pub(crate) fn run(args: &Args) -> Result<(), Box<dyn Error>> {
    let how = How {
        at_rest: args.at_rest || args.fail > 0.0,
        dimensions: args.dimensions,
        zone_peers: args.zone_peers,
        realities: args.realities,
        ..How::default()
    };
    let output = output(args, &measure(args.overlay, &experiment(args), how));
    if let Some(path) = &args.plot {
        let title = format!("hops per lookup, {} nodes", args.nodes);
        crate::plot::histogram(path, &title, &output.hops.histogram)?;
    }
    match args.json {
        true => print(&serde_json::to_string(&output)?),
        false => table(&output),
    }
    Ok(())
}

fn experiment(args: &Args) -> Experiment {
    let mode = args.mode.map(|travel| match travel {
        Travel::Recursive => Mode::Recursive,
        Travel::SemiRecursive => Mode::SemiRecursive,
        Travel::Iterative => Mode::iterative(3),
    });
    let churn = args.churn.map(|median| Session::Exponential { median: Duration::from_secs_f64(median) });
    let start = match args.start {
        StartAs::Converged => Start::Converged,
        StartAs::Joined => Start::Joined,
    };
    let latency = match args.latency {
        Delay::Constant => Latency::Constant(Duration::from_millis(50)),
        Delay::Exponential => Latency::Exponential(Duration::from_millis(50)),
        Delay::Plane => Latency::Plane(Duration::from_millis(100)),
        Delay::TransitStub => Latency::TransitStub(TransitStub::default()),
    };
    Experiment {
        nodes: args.nodes,
        lookups: args.lookups,
        rate: args.rate,
        seed: args.seed,
        fail: args.fail,
        churn,
        start,
        settle: Duration::from_secs(args.settle.into()),
        replicas: 1,
        mode,
        network: Network { latency, encoding: Encoding::Measure, ..Network::default() },
    }
}

fn output(args: &Args, measured: &Measured) -> Output {
    let Measured { report, wall_s, bytes_per_node } = measured;
    let ms = |p| report.latency_us.percentile(p) as f64 / 1e3;
    let spread =
        |histogram: &Histogram| (histogram.percentile(50.0), histogram.percentile(99.0), histogram.max());
    let (p50, p99, max) = spread(&report.hops);
    let events = report.stats.events();
    Output {
        overlay: args.overlay,
        nodes: args.nodes,
        seed: args.seed,
        lookups: report.lookups,
        success: report.success(),
        agreement: report.agreement(),
        hops: Hops { mean: report.hops.mean(), p50, p99, max, histogram: report.hops.iter().collect() },
        timeouts_mean: report.timeouts.mean(),
        latency_ms: LatencyMs { p50: ms(50.0), p99: ms(99.0) },
        load: Load {
            mean: report.load.mean(),
            p1: report.load.percentile(1.0),
            p99: report.load.percentile(99.0),
            max: report.load.max(),
        },
        bytes_per_node_s: report.bytes_per_node_s(),
        events,
        events_per_s: events as f64 / wall_s,
        wall_s: *wall_s,
        bytes_per_node: *bytes_per_node,
        start: args.start,
        trace: format!("{:016x}", report.trace),
    }
}

#[expect(clippy::print_stdout, reason = "the result of the program")]
fn print(text: &str) {
    println!("{text}");
}

fn table(output: &Output) {
    let Output { hops, latency_ms, load, .. } = output;
    let rows = [
        (
            "lookups",
            format!(
                "{} ({:.4} right, {:.4} of the pairs agree)",
                output.lookups, output.success, output.agreement
            ),
        ),
        ("hops", format!("mean {:.3}, p50 {}, p99 {}, max {}", hops.mean, hops.p50, hops.p99, hops.max)),
        ("timeouts", format!("{:.3} per lookup", output.timeouts_mean)),
        ("latency", format!("p50 {:.1} ms, p99 {:.1} ms", latency_ms.p50, latency_ms.p99)),
        ("keys a node", format!("mean {:.1}, p1 {}, p99 {}, max {}", load.mean, load.p1, load.p99, load.max)),
        ("traffic", format!("{:.1} bytes a node and second", output.bytes_per_node_s)),
        (
            "simulation",
            format!(
                "{} events in {:.2} s, {:.2} million a second",
                output.events,
                output.wall_s,
                output.events_per_s / 1e6
            ),
        ),
        ("memory", format!("{} bytes a node", output.bytes_per_node)),
        ("trace", output.trace.clone()),
    ];
    rows.into_iter().for_each(|(name, value)| print(&format!("{name:<12} {value}")));
}
