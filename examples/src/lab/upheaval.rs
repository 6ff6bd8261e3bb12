//! `lab upheaval`: how long the structured overlays take to be right again after much has changed at once.

use std::error::Error;
use std::time::Duration;

use clap::ValueEnum;
use p2p_overlay::measure::Simulated;
use p2p_overlay::measure::upheaval::{Aftermath, Strike, Upheaval};
use serde::Serialize;

use crate::kinds::{How, Kind, Run, on};

/// What to simulate: as many nodes again join within a minute; half of all nodes die in one moment; the network is cut
/// into two halves for ten minutes. Each second after that random nodes look random keys up. Messages take 10 to 90 ms.
/// All overlays have their default configurations, but that Chord stabilises every 5 s.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Which overlay; by default all.
    #[arg(long, value_enum)]
    overlay: Option<Kind>,
    /// What happens; by default everything, one on each of three networks.
    #[arg(long, value_enum)]
    strike: Option<What>,
    /// How many nodes there are before.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(10..=1_000_000))]
    nodes: u32,
    /// How many lookups begin each second.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    probes: u32,
    /// When to give up, in seconds after it happened.
    #[arg(long, value_name = "S", default_value_t = 3600, value_parser = clap::value_parser!(u32).range(60..=86_400))]
    patience: u32,
    /// The seed of everything: the same one gives the same runs.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
enum What {
    MassJoin,
    MassFailure,
    Partition,
}

#[derive(Serialize)]
struct Output {
    nodes: u32,
    probes: u32,
    seed: u64,
    rows: Vec<Row>,
}

/// Times in seconds after it happened; `null`, if not within the patience.
#[derive(Serialize)]
struct Row {
    strike: What,
    overlay: Kind,
    to_90_percent_right_s: Option<u64>,
    to_99_percent_right_s: Option<u64>,
    to_all_right_s: Option<u64>,
    to_whole_s: Option<u64>,
    /// What was not as it should be, if it was not whole in the end.
    flaw: Option<String>,
    /// Of the first ten seconds.
    right_at_first: f64,
    bytes_per_node: f64,
    calm_bytes_per_node_s: f64,
    /// Of a partition: right within their own half, in its last minute.
    right_apart: Option<f64>,
    trace: String,
}

pub(crate) fn run(args: &Args) -> Result<(), Box<dyn Error>> {
    let strikes = args.strike.map_or(What::value_variants().to_vec(), |strike| vec![strike]);
    let kinds = args.overlay.map_or(Kind::value_variants().to_vec(), |overlay| vec![overlay]);
    if !args.json {
        head();
    }
    let mut rows = Vec::new();
    for strike in strikes {
        for overlay in &kinds {
            let row = row(args, strike, *overlay);
            if !args.json {
                line(&row);
            }
            rows.push(row);
        }
    }
    if args.json {
        let Args { nodes, probes, seed, .. } = *args;
        print(&serde_json::to_string(&Output { nodes, probes, seed, rows })?);
    }
    Ok(())
}

impl Run for Upheaval {
    type Output = Aftermath;

    fn run<O: Simulated>(self, config: O::Config) -> Aftermath {
        Upheaval::run::<O>(&self, config)
    }
}

fn row(args: &Args, strike: What, overlay: Kind) -> Row {
    let by = match strike {
        What::MassJoin => Strike::MassJoin,
        What::MassFailure => Strike::MassFailure,
        What::Partition => Strike::Partition,
    };
    let upheaval = Upheaval {
        nodes: args.nodes,
        probes: args.probes as usize,
        seed: args.seed,
        patience: Duration::from_secs(args.patience.into()),
        ..Upheaval::by(by)
    };
    let aftermath = on(overlay, How { often: true, ..How::default() }, upheaval);
    let seconds = |took: Option<Duration>| took.map(|took| took.as_secs());
    let first = aftermath.course.iter().take(10).fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    Row {
        strike,
        overlay,
        to_90_percent_right_s: seconds(aftermath.to_right(0.90)),
        to_99_percent_right_s: seconds(aftermath.to_right(0.99)),
        to_all_right_s: seconds(aftermath.to_all_right()),
        to_whole_s: seconds(aftermath.whole),
        flaw: aftermath.whole.is_none().then(|| aftermath.flaw.clone()),
        right_at_first: f64::from(first.0) / f64::from(first.1.max(1)),
        bytes_per_node: aftermath.bytes_per_node(),
        calm_bytes_per_node_s: aftermath.calm_bytes_per_node_s,
        right_apart: matches!(strike, What::Partition).then_some(aftermath.apart),
        trace: format!("{:016x}", aftermath.trace),
    }
}

#[expect(clippy::print_stdout, reason = "the result of the program")]
fn print(text: &str) {
    println!("{text}");
}

fn head() {
    print(&format!(
        "{:<13} {:<9} {:>8} {:>6} {:>6} {:>6} {:>7} {:>8} {:>9} {:>6}",
        "upheaval",
        "overlay",
        "at first",
        "90% s",
        "99% s",
        "all s",
        "whole s",
        "kB/node",
        "calm B/s",
        "apart"
    ));
}

fn line(row: &Row) {
    let seconds = |took: Option<u64>| took.map_or("never".into(), |took: u64| took.to_string());
    print(&format!(
        "{:<13} {:<9} {:>8.4} {:>6} {:>6} {:>6} {:>7} {:>8.1} {:>9.0} {:>6}",
        match row.strike {
            What::MassJoin => "mass join",
            What::MassFailure => "mass failure",
            What::Partition => "partition",
        },
        format!("{:?}", row.overlay).to_lowercase(),
        row.right_at_first,
        seconds(row.to_90_percent_right_s),
        seconds(row.to_99_percent_right_s),
        seconds(row.to_all_right_s),
        seconds(row.to_whole_s),
        row.bytes_per_node / 1e3,
        row.calm_bytes_per_node_s,
        row.right_apart.map_or("-".into(), |right| format!("{right:.4}")),
    ));
    if let Some(flaw) = &row.flaw {
        print(&format!("    not whole: {flaw}"));
    }
}
