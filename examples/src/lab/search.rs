//! `lab search`: what it costs to find something in a network without structure.

use std::error::Error;
use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;
use p2p_overlay::Reach;
use p2p_overlay::Replication;
use p2p_overlay::measure::search::{Copies, Report, Searches, Topology};
use p2p_overlay::measure::sharing::{self, Sharing};
use p2p_overlay::{Gnutella06Config, GnutellaConfig, KazaaConfig};
use serde::Serialize;

use crate::kinds::resident;
use crate::plot::{Panel, bars};

/// What to simulate: floods of every radius that find nothing; then three strategies, a flood of eight hops, a ring
/// that grows by two hops, and 32 walkers that ask back after every four steps, for items that one node in a thousand
/// has, one in a hundred, and one in twenty; then one walker among copies that are shared out in three ways; then both
/// versions of Gnutella, and KaZaA, on one workload.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The network: degrees at random, by a power law of exponent 2.3 from 2 to 200, or all the same.
    #[arg(long, value_enum, default_value_t = Kind::Random)]
    topology: Kind,
    /// The degree, where that is not said by the power law.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=1000))]
    degree: u32,
    /// How many nodes.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(100..=1_000_000))]
    nodes: u32,
    /// How many searches by each strategy.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    searches: u32,
    /// Nothing but this network, of all these nodes, on the workload on which the three are compared; and how fast it is
    /// simulated.
    #[arg(long, value_enum)]
    only: Option<Servents>,
    /// How many seconds that network has to form.
    #[arg(long, default_value_t = 600)]
    form: u64,
    /// The seed of everything: the same one gives the same runs.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
    /// Draw the strategies' messages, success, time and reach.
    #[arg(long, value_name = "FILE.svg")]
    plot: Option<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Random,
    Powerlaw,
    Regular,
}

/// Networks in which everybody shares some titles.
#[derive(Clone, Copy, ValueEnum)]
enum Servents {
    Gnutella04,
    Gnutella06,
    Kazaa,
}

const SHARES: [(&str, f64); 3] = [("0.1%", 0.001), ("1%", 0.01), ("5%", 0.05)];
const STRATEGIES: [(&str, Reach); 3] = [
    ("flood", Reach::Ttl(8)),
    ("ring", Reach::Ring { first: 2, step: 2, last: 8 }),
    ("walk", Reach::Walk { walkers: 32, check_every: 4, steps: 1024 }),
];
const REPLICATIONS: [(&str, Replication); 3] = [
    ("uniform", Replication::Uniform),
    ("proportional", Replication::Proportional),
    ("square root", Replication::SquareRoot),
];

#[derive(Serialize)]
struct Output {
    topology: Kind,
    degree: u32,
    nodes: u32,
    searches: u32,
    seed: u64,
    floods: Vec<Flood>,
    strategies: Vec<Row>,
    replication: Vec<Size>,
    networks: Vec<Network>,
}

/// A flood that finds nothing.
#[derive(Serialize)]
struct Flood {
    ttl: u8,
    reached: f64,
    messages: f64,
    trace: String,
}

#[derive(Serialize)]
struct Row {
    share: &'static str,
    strategy: &'static str,
    found: f64,
    messages: f64,
    messages_p99: u64,
    delay_p50_ms: u64,
    reached: f64,
    duplicates: f64,
    trace: String,
}

#[derive(Serialize)]
struct Size {
    copies: &'static str,
    steps: f64,
    trace: String,
}

/// A network in which everybody shares some titles and looks for others.
#[derive(Serialize)]
struct Network {
    network: &'static str,
    found: f64,
    messages: f64,
    delay_p50_ms: u64,
    /// Queries of a search that come to a node which passes them on, and to a leaf.
    load: [f64; 2],
    /// Bytes a second of the same.
    bytes: [f64; 2],
    trace: String,
}

/// One of the networks by itself, and what simulating it takes.
#[derive(Serialize)]
struct Alone {
    nodes: u32,
    searches: u32,
    seed: u64,
    network: Network,
    /// Once it has formed.
    events: u64,
    wall_s: f64,
    events_per_s: f64,
    bytes_per_node: u64,
}

pub(crate) fn run(args: &Args) -> Result<(), Box<dyn Error>> {
    if let Some(which) = args.only {
        return alone(args, which);
    }
    let Args { topology, degree, nodes, searches, seed, .. } = *args;
    let shape = match topology {
        Kind::Random => Topology::Random { degree: degree.into() },
        Kind::Powerlaw => Topology::PowerLaw { exponent: 2.3, least: 2, most: 200 },
        Kind::Regular => Topology::Regular { degree },
    };
    let workload = Searches { topology: shape, nodes, searches, seed, ..Searches::default() };
    let floods = (1..=8).map(|ttl| flood(&workload, ttl));
    let strategies =
        SHARES.iter().flat_map(|share| STRATEGIES.iter().map(|how| row(&workload, *share, *how)));
    let replication = REPLICATIONS.iter().map(|(name, by)| size(&workload, name, *by));
    let output = Output {
        topology,
        degree,
        nodes,
        searches,
        seed,
        floods: floods.collect(),
        strategies: strategies.collect(),
        replication: replication.collect(),
        networks: networks(nodes, searches, seed),
    };
    if let Some(path) = &args.plot {
        plot(path, &output)?;
    }
    match args.json {
        true => print(&serde_json::to_string(&output)?),
        false => table(&output),
    }
    Ok(())
}

fn trace(report: &Report) -> String {
    format!("{:016x}", report.trace)
}

fn flood(workload: &Searches, ttl: u8) -> Flood {
    let report = Searches { copies: Copies::Share(0.0), reach: Reach::Ttl(ttl), ..*workload }.run();
    Flood { ttl, reached: report.reached(), messages: report.messages.mean(), trace: trace(&report) }
}

fn row(workload: &Searches, share: (&'static str, f64), strategy: (&'static str, Reach)) -> Row {
    let report = Searches { copies: Copies::Share(share.1), reach: strategy.1, ..*workload }.run();
    let each = |sum: u64| sum as f64 / f64::from(report.searches);
    Row {
        share: share.0,
        strategy: strategy.0,
        found: f64::from(report.found) / f64::from(report.searches),
        messages: report.messages.mean(),
        messages_p99: report.messages.percentile(99.0),
        delay_p50_ms: report.delays.percentile(50.0),
        reached: report.reached(),
        duplicates: each(report.tally.duplicates),
        trace: trace(&report),
    }
}

/// A fifth as many nodes, each with five of as many items as a twenty-fifth of all; thirty times as many searches.
fn size(workload: &Searches, name: &'static str, by: Replication) -> Size {
    let nodes = (workload.nodes / 5).max(100);
    let copies = Copies::Shelf { items: nodes / 5, per_node: 5, by };
    let reach = Reach::Walk { walkers: 1, check_every: 1, steps: 100_000 };
    let searches = workload.searches.saturating_mul(30);
    let report = Searches { nodes, copies, reach, searches, ..*workload }.run();
    Size { copies: name, steps: report.probes(), trace: trace(&report) }
}

/// At most 1,000 nodes: a flood asks all of them, for each search. Five hits are wanted.
fn networks(nodes: u32, searches: u32, seed: u64) -> Vec<Network> {
    let sharing = Sharing { nodes: nodes.min(1000), searches, hits: 5, seed, ..Sharing::default() };
    let all = [Servents::Gnutella04, Servents::Gnutella06, Servents::Kazaa];
    all.iter().map(|which| which.network(&which.form(&sharing).run())).collect()
}

impl Servents {
    fn form(self, sharing: &Sharing) -> sharing::Formed {
        match self {
            Servents::Gnutella04 => sharing.gnutella(GnutellaConfig::default()),
            Servents::Gnutella06 => sharing.gnutella06(Gnutella06Config::default()),
            Servents::Kazaa => sharing.kazaa(KazaaConfig::default()),
        }
    }

    fn network(self, report: &sharing::Report) -> Network {
        let network = match self {
            Servents::Gnutella04 => "gnutella 0.4",
            Servents::Gnutella06 => "gnutella 0.6",
            Servents::Kazaa => "kazaa",
        };
        Network {
            network,
            found: report.success(),
            messages: report.messages(),
            delay_p50_ms: report.delays.percentile(50.0),
            load: report.load(),
            bytes: report.bandwidth(),
            trace: format!("{:016x}", report.trace),
        }
    }
}

/// The memory that this process has had at most, in bytes; where that is not told, what it has.
fn most_resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let most = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB"));
    most.and_then(|kilobytes| kilobytes.parse::<u64>().ok()).map_or_else(resident, |most| most << 10)
}

#[expect(clippy::disallowed_types, reason = "wall time is what is measured")]
fn alone(args: &Args, which: Servents) -> Result<(), Box<dyn Error>> {
    let Args { nodes, searches, seed, .. } = *args;
    let form = Duration::from_secs(args.form);
    let before = resident();
    let formed = which.form(&Sharing { nodes, searches, hits: 5, form, seed, ..Sharing::default() });
    let began = std::time::Instant::now();
    let report = formed.run();
    let wall_s = began.elapsed().as_secs_f64();
    let alone = Alone {
        nodes,
        searches,
        seed,
        network: which.network(&report),
        events: report.events,
        wall_s,
        events_per_s: report.events as f64 / wall_s,
        bytes_per_node: most_resident().saturating_sub(before) / u64::from(nodes),
    };
    if args.json {
        print(&serde_json::to_string(&alone)?);
        return Ok(());
    }
    print(&format!("{nodes} nodes, {searches} searches, seed {seed}"));
    print_networks(std::slice::from_ref(&alone.network));
    print(&format!(
        "once formed: {} events in {wall_s:.2} s, {:.2} million a second; {} bytes a node; trace {}",
        alone.events,
        alone.events_per_s / 1e6,
        alone.bytes_per_node,
        alone.network.trace
    ));
    Ok(())
}

#[expect(clippy::print_stdout, reason = "the result of the program")]
fn print(text: &str) {
    println!("{text}");
}

fn table(output: &Output) {
    print(&format!("{:<14} {:>8} {:>9}", "a flood of TTL", "reached", "messages"));
    for Flood { ttl, reached, messages, .. } in &output.floods {
        print(&format!("{ttl:<14} {reached:>8.0} {messages:>9.0}"));
    }
    print(&format!(
        "\n{:<6} {:<8} {:>7} {:>9} {:>7} {:>8} {:>8} {:>10}",
        "on", "strategy", "found", "messages", "p99", "p50 ms", "reached", "duplicates"
    ));
    for row in &output.strategies {
        print(&format!(
            "{:<6} {:<8} {:>7.3} {:>9.0} {:>7} {:>8} {:>8.0} {:>10.0}",
            row.share,
            row.strategy,
            row.found,
            row.messages,
            row.messages_p99,
            row.delay_p50_ms,
            row.reached,
            row.duplicates,
        ));
    }
    print(&format!("\n{:<14} {:>8}", "copies", "steps"));
    for Size { copies, steps, .. } in &output.replication {
        print(&format!("{copies:<14} {steps:>8.1}"));
    }
    print_networks(&output.networks);
}

fn print_networks(networks: &[Network]) {
    print(&format!(
        "\n{:<14} {:>7} {:>9} {:>8} {:>14} {:>7} {:>9} {:>7}",
        "network", "found", "messages", "p50 ms", "load: passing", "leaf", "bytes/s", "leaf"
    ));
    for row in networks {
        let ([passing, leaf], [bytes, of_leaf]) = (row.load, row.bytes);
        print(&format!(
            "{:<14} {:>7.3} {:>9.0} {:>8} {:>14.2} {:>7.2} {:>9.0} {:>7.0}",
            row.network, row.found, row.messages, row.delay_p50_ms, passing, leaf, bytes, of_leaf,
        ));
    }
}

fn plot(path: &std::path::Path, output: &Output) -> Result<(), Box<dyn Error>> {
    let panel = |title, value: fn(&Row) -> f64| {
        let per_share = output.strategies.chunks(STRATEGIES.len());
        Panel { title, values: per_share.map(|rows| rows.iter().map(value).collect()).collect() }
    };
    let panels = [
        panel("messages a search", |row| row.messages),
        panel("searches that find something, %", |row| 100.0 * row.found),
        panel("median time, ms", |row| row.delay_p50_ms as f64),
        panel("nodes reached", |row| row.reached),
    ];
    let names = STRATEGIES.map(|(name, _)| name.to_owned());
    let title = format!("{} nodes, {} searches, seed {}", output.nodes, output.searches, output.seed);
    bars(path, &title, &SHARES.map(|(name, _)| name), &names, &panels)
}
