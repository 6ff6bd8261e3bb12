//! `lab gossip`: broadcasts in a network without structure, of which most may fail at once.

use std::error::Error;
use std::path::PathBuf;
use std::time::Duration;

use p2p_core::sim::Histogram;
use p2p_overlay::measure::gossip::{BroadcastReport, Broadcasts, Detections, Reach};
use serde::Serialize;

/// What to simulate.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// How many nodes.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(10..=1_000_000))]
    nodes: u32,
    /// How many messages are published before anybody fails, each by another node.
    #[arg(long, default_value_t = 50)]
    warm: u32,
    /// The shares of nodes that fail at once then, each in a network of its own.
    #[arg(long, value_delimiter = ',', default_value = "0.2,0.4,0.6,0.8")]
    fail: Vec<f64>,
    /// How many messages are published after that.
    #[arg(long, default_value_t = 60)]
    after: u32,
    /// How many seconds lie between two messages.
    #[arg(long, default_value_t = 2.0)]
    every: f64,
    /// Nobody hears of lost connections: neighbours find out by themselves who is dead.
    #[arg(long)]
    no_links: bool,
    /// How many members the SWIM group has in which 200 fail, a hundredth at a time; 0 for none.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(0..=4000))]
    members: u32,
    /// The seed of everything: the same one gives the same run.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
    /// Draw whom the messages reach after the failures, as SVG.
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
}

/// What came out, as `--json` prints it.
#[derive(Serialize)]
struct Output {
    nodes: u32,
    seed: u64,
    runs: Vec<Run>,
    /// In which period after a failure somebody first pinged who has failed.
    swim: Option<Detected>,
}

#[derive(Serialize)]
struct Run {
    fail: f64,
    /// Relative message redundancy: of the first message, and the mean of the second half of those before the failure.
    redundancy_first: f64,
    redundancy_stable: f64,
    hops_max: u16,
    /// The share of the survivors that each message reached before the next, by the seconds since the failure.
    reached: Vec<(f64, f64)>,
    /// Seconds after the failure from which on each message reached 99.9% of the survivors.
    recovered_s: Option<f64>,
    neighbours_mean: f64,
    events: u64,
    events_per_s: f64,
    wall_s: f64,
    trace: String,
}

#[derive(Serialize)]
struct Detected {
    members: u32,
    failures: u64,
    mean: f64,
    p99: u64,
    histogram: Vec<(u64, u64)>,
}

pub(crate) fn run(args: &Args) -> Result<(), Box<dyn Error>> {
    let runs: Vec<Run> = args.fail.iter().map(|fail| broadcasts(args, *fail)).collect();
    let swim = (args.members > 0).then(|| detections(args));
    if let Some(path) = &args.plot {
        let series: Vec<(String, &[(f64, f64)])> =
            runs.iter().map(|run| (format!("{:.0}% failed", run.fail * 100.0), &run.reached[..])).collect();
        let title = format!("share of the survivors reached, {} nodes", args.nodes);
        crate::plot::lines(path, &title, "seconds after the failure", &series)?;
    }
    let output = Output { nodes: args.nodes, seed: args.seed, runs, swim };
    match args.json {
        true => print(&serde_json::to_string(&output)?),
        false => table(&output),
    }
    Ok(())
}

#[expect(clippy::disallowed_types, reason = "wall time is what is measured")]
fn broadcasts(args: &Args, fail: f64) -> Run {
    let broadcasts = Broadcasts {
        nodes: args.nodes,
        seed: args.seed,
        warm: args.warm,
        fail: fail.clamp(0.0, 0.99),
        after: args.after,
        every: Duration::from_secs_f64(args.every.clamp(0.01, 3600.0)),
        links: if args.no_links { None } else { Broadcasts::default().links },
        ..Broadcasts::default()
    };
    let mut sim = broadcasts.build();
    let mut wall_s = 0.0;
    let report = broadcasts.measure(&mut sim, |sim, time| {
        let began = std::time::Instant::now();
        sim.run_for(time);
        wall_s += began.elapsed().as_secs_f64();
    });
    let BroadcastReport { before, after, active, stats, trace } = &report;
    let seconds = |reach: &Reach| reach.at.as_secs_f64();
    let last_bad = after.iter().rposition(|reach| reach.reached() < 0.999);
    let recovered = after.get(last_bad.map_or(0, |at| at + 1));
    Run {
        fail,
        redundancy_first: before.first().map_or(0.0, Reach::redundancy),
        redundancy_stable: report.stable(before.len() / 2),
        hops_max: before.iter().map(|reach| reach.hops).max().unwrap_or(0),
        reached: after.iter().map(|reach| (seconds(reach), reach.reached())).collect(),
        recovered_s: recovered.map(seconds),
        neighbours_mean: active.mean(),
        events: stats.events(),
        events_per_s: stats.events() as f64 / wall_s,
        wall_s,
        trace: format!("{trace:016x}"),
    }
}

fn detections(args: &Args) -> Detected {
    let at_once = (args.members / 100).max(1);
    let rounds = 200_u32.div_ceil(at_once);
    let periods: Histogram =
        Detections { members: args.members.max(10), rounds, at_once, seed: args.seed }.run();
    Detected {
        members: args.members,
        failures: periods.len(),
        mean: periods.mean(),
        p99: periods.percentile(99.0),
        histogram: periods.iter().collect(),
    }
}

#[expect(clippy::print_stdout, reason = "the result of the program")]
fn print(text: &str) {
    println!("{text}");
}

fn table(output: &Output) {
    print(&format!("{} nodes, seed {}", output.nodes, output.seed));
    for run in &output.runs {
        let Run { fail, redundancy_first, redundancy_stable, hops_max, .. } = run;
        print(&format!(
            "redundancy   {redundancy_first:.3} at first, {redundancy_stable:.4} when stable; {hops_max} hops at most"
        ));
        let reached =
            |at: f64| run.reached.iter().find(|(seconds, _)| *seconds >= at).map_or(0.0, |reach| reach.1);
        let recovered =
            run.recovered_s.map_or_else(|| "never".to_owned(), |seconds| format!("after {seconds:.0} s"));
        print(&format!(
            "{:>3.0}% fail     reached at once {:.4}, after 10 s {:.4}, 30 s {:.4}, 60 s {:.4}; all 99.9% {recovered}",
            fail * 100.0,
            reached(0.0),
            reached(10.0),
            reached(30.0),
            reached(60.0),
        ));
        print(&format!(
            "             {:.2} neighbours; {} events in {:.2} s, {:.2} million a second; trace {}",
            run.neighbours_mean,
            run.events,
            run.wall_s,
            run.events_per_s / 1e6,
            run.trace
        ));
    }
    if let Some(Detected { members, failures, mean, p99, .. }) = &output.swim {
        print(&format!(
            "SWIM         {members} members, {failures} failures: noticed in period {mean:.3} on average \
             (e/(e-1) = 1.582), p99 {p99}"
        ));
    }
}
