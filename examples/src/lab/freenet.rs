//! `lab freenet`: how long Freenet's routes are.

use std::error::Error;

use p2p_core::sim::Histogram;
use p2p_overlay::measure::freenet::Routing;
use serde::Serialize;

/// What to simulate: a ring lattice in which data is inserted and requested at random, as in Clarke et al. (2000), §5.1;
/// then a tenth of the nodes dies, again and again (§5.3).
#[derive(clap::Args)]
pub(crate) struct Args {
    /// How many nodes.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(5..=100_000))]
    nodes: u32,
    /// How many inserts and requests.
    #[arg(long, default_value_t = 5000, value_parser = clap::value_parser!(u32).range(1..))]
    steps: u32,
    /// The hops to live of the requests; inserts have 20.
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u16).range(1..=500))]
    htl: u16,
    /// How many paths are measured each time.
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..))]
    probes: u32,
    /// The seed of everything: the same one gives the same runs.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Output {
    nodes: u32,
    htl: u16,
    seed: u64,
    learning: Vec<Row>,
    failing: Vec<Row>,
    trace: String,
}

/// The quartiles of the lengths of paths, in requests.
#[derive(Serialize)]
struct Row {
    /// Steps done, or nodes that have died, in percent.
    after: u32,
    first: u64,
    median: u64,
    third: u64,
    /// Entries of a routing table, on average.
    routes: f64,
}

fn row(after: u32, paths: &Histogram, routes: f64) -> Row {
    let [first, median, third] = [25.0, 50.0, 75.0].map(|percent| paths.percentile(percent));
    Row { after, first, median, third, routes }
}

pub(crate) fn run(args: &Args) -> Result<(), Box<dyn Error>> {
    let Args { nodes, steps, htl, probes, seed, .. } = *args;
    let mut network = Routing { nodes, seed, request_htl: htl, ..Routing::default() }.start();
    let (mut learning, mut done) = (Vec::new(), 0);
    for share in [0.02, 0.1, 0.2, 0.4, 1.0] {
        let until = (f64::from(steps) * share) as u32;
        network.steps(until - done);
        done = until;
        learning.push(row(done, &network.paths(probes), network.routes()));
    }
    let mut failing = Vec::new();
    for dead in (10..=80).step_by(10) {
        // A tenth of all is so much of those that are left.
        network.fail(10.0 / f64::from(110 - dead));
        failing.push(row(dead, &network.paths(probes), network.routes()));
    }
    let trace = format!("{:016x}", network.trace());
    let output = Output { nodes, htl, seed, learning, failing, trace };
    match args.json {
        true => print(&serde_json::to_string(&output)?),
        false => table(&output),
    }
    Ok(())
}

fn table(output: &Output) {
    for (name, rows) in [("steps", &output.learning), ("dead, %", &output.failing)] {
        print(&format!("{name:<8} {:>8} {:>8} {:>8} {:>8}", "quarter", "median", "three", "routes"));
        for Row { after, first, median, third, routes } in rows {
            print(&format!("{after:<8} {first:>8} {median:>8} {third:>8} {routes:>8.0}"));
        }
    }
}

#[expect(clippy::print_stdout, reason = "the result of the program")]
fn print(text: &str) {
    println!("{text}");
}
