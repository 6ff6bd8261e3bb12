//! `lab flood`: messages to everybody by CAN's own multicast.

use std::error::Error;

use clap::ValueEnum;
use p2p_overlay::measure::flood::{Floods, Report};
use p2p_overlay::{CanConfig, CanMulticastConfig, Spread};
use serde::Serialize;

/// What to simulate.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// By the paper's rules, or one way to each node.
    #[arg(long, value_enum, default_value_t = By::Once)]
    spread: By,
    /// How many dimensions the space has.
    #[arg(long, value_name = "D", default_value_t = CanConfig::default().dimensions,
          value_parser = clap::value_parser!(u8).range(1..=8))]
    dimensions: u8,
    /// Zones are as joins by chance cut them, without uniform partitioning.
    #[arg(long)]
    uneven: bool,
    /// How many nodes.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(2..=1_000_000))]
    nodes: u32,
    /// How many messages, each from a node given by chance.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    messages: u32,
    /// The seed of everything: the same one gives the same run.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
enum By {
    Directed,
    Once,
}

/// What came out, as `--json` prints it.
#[derive(Serialize)]
struct Output {
    spread: By,
    dimensions: u8,
    uneven: bool,
    nodes: u32,
    seed: u64,
    messages: u64,
    expected: u64,
    delivered: u64,
    sent_per_node: f64,
    bytes_per_node: f64,
    rad_p50: f64,
    rmd_p50: f64,
    trace: String,
}

pub(crate) fn run(args: &Args) -> Result<(), Box<dyn Error>> {
    let spread = match args.spread {
        By::Directed => Spread::Directed,
        By::Once => Spread::Once,
    };
    let floods = Floods {
        nodes: args.nodes,
        messages: args.messages,
        seed: args.seed,
        config: CanMulticastConfig { spread, ..CanMulticastConfig::default() },
        ..Floods::default()
    };
    let can = CanConfig { dimensions: args.dimensions, uniform: !args.uneven, ..CanConfig::default() };
    let output = output(args, &floods.run(can));
    match args.json {
        true => print(&serde_json::to_string(&output)?),
        false => table(&output),
    }
    Ok(())
}

fn output(args: &Args, report: &Report) -> Output {
    let median = |sorted: &[f64]| sorted.get(sorted.len() / 2).copied().unwrap_or(0.0);
    Output {
        spread: args.spread,
        dimensions: args.dimensions,
        uneven: args.uneven,
        nodes: args.nodes,
        seed: args.seed,
        messages: report.messages,
        expected: report.expected,
        delivered: report.delivered,
        sent_per_node: report.sent_per_node(),
        bytes_per_node: report.bytes as f64 / report.expected as f64,
        rad_p50: median(&report.rad),
        rmd_p50: median(&report.rmd),
        trace: format!("{:016x}", report.trace),
    }
}

#[expect(clippy::print_stdout, reason = "the result of the program")]
fn print(text: &str) {
    println!("{text}");
}

fn table(output: &Output) {
    let Output { expected, delivered, sent_per_node, bytes_per_node, rad_p50, rmd_p50, .. } = output;
    let rows = [
        ("messages", format!("{delivered} of {expected} received")),
        ("sent", format!("{sent_per_node:.3} times for each node, {bytes_per_node:.0} bytes a message")),
        ("mean delay", format!("{rad_p50:.2} times the direct one (RAD, median of the messages)")),
        ("max delay", format!("{rmd_p50:.2} times the direct one (RMD)")),
        ("trace", output.trace.clone()),
    ];
    rows.into_iter().for_each(|(name, value)| print(&format!("{name:<12} {value}")));
}
