//! `lab swarm`: a BitTorrent swarm to which all come at once.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::Duration;

use p2p_swarm::torrent::Order;
use p2p_swarm::torrent::measure::{Crowd, CrowdReport, Leecher, Rarity};
use serde::Serialize;

use crate::plot::{Chart, charts};

/// What to simulate: seeds, and leechers that all come at once and go as soon as they have everything. By default with the lines
/// and the number of pieces of Legout et al. (SIGMETRICS 2007), and a quarter of their content.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// How many peers, the seeds among them.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(2..=100_000))]
    peers: u32,
    /// How many of them have everything from the beginning, and stay.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    seeds: u32,
    /// How many of the others send nothing.
    #[arg(long, default_value_t = 0)]
    free_riders: u32,
    /// How many kB/s a line sends; the leechers that send something have these in turn.
    #[arg(long, value_delimiter = ',', default_value = "20,50,200", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    uplink: Vec<u64>,
    /// How many kB/s a seed's line sends.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    seed_uplink: u64,
    /// How many pieces the content has.
    #[arg(long, default_value_t = 453, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pieces: u32,
    /// How many KiB a piece has: a power of two.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(16..=1024))]
    piece_kib: u32,
    /// To how many peers each sends at a time.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..=100))]
    slots: u8,
    /// Pieces are asked for in order, not the rarest first.
    #[arg(long)]
    sequential: bool,
    /// Who has everything stays, and sends on.
    #[arg(long)]
    stay: bool,
    /// The seed of everything: the same one gives the same run.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
    /// Draw when peers are done, how often pieces are there, and what peers get for what they give, as SVG.
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
}

/// What came out, as `--json` prints it.
#[derive(Serialize)]
struct Output {
    peers: u32,
    seeds: u32,
    free_riders: u32,
    bytes: u64,
    seed: u64,
    /// By uplink, the fastest first; free riders have 0.
    classes: Vec<Class>,
    pieces: Pieces,
    /// Spearman's coefficient of what leechers give and what they get a second.
    reciprocity: f64,
    /// Each leecher.
    leechers: Vec<Row>,
    events: u64,
    wall_s: f64,
    trace: String,
}

/// Leechers of one uplink.
#[derive(Serialize)]
struct Class {
    uplink: u64,
    leechers: usize,
    done: usize,
    took_s: Quartiles,
    up: Quartiles,
    down: Quartiles,
    /// What came from others than the seeds, a second.
    traded: Quartiles,
    /// The share of their time that the last hundredth of the pieces took.
    tail: Quartiles,
}

/// Of a distribution.
#[derive(Serialize)]
struct Quartiles {
    least: f64,
    first: f64,
    median: f64,
    third: f64,
    most: f64,
}

/// How the pieces were spread.
#[derive(Serialize)]
struct Pieces {
    /// When each had left the seeds, and how often over they had sent everything by then.
    spread_s: Option<f64>,
    spread_by: Option<f64>,
    /// How many were at the seeds alone again, at the worst, from then on and while half of the leechers were there.
    rare_again: u32,
    /// The mean share of its time for which a leecher wanted something of another.
    entropy: f64,
    /// Of those shares.
    interest: Quartiles,
    /// Second by second.
    copies: Vec<Copies>,
}

#[derive(Serialize)]
struct Copies {
    at_s: f64,
    peers: u32,
    /// Pieces at the seeds alone.
    rare: u32,
    least: u32,
    mean: f64,
    most: u32,
}

/// One leecher.
#[derive(Serialize)]
struct Row {
    uplink: u64,
    done: bool,
    took_s: f64,
    tail_s: Option<f64>,
    /// Bytes that it sent, and that came from seeds and from others.
    gave: u64,
    from_seeds: u64,
    from_others: u64,
}

#[expect(clippy::disallowed_types, reason = "wall time is what is measured")]
pub(crate) fn run(args: &Args) -> Result<(), Box<dyn Error>> {
    let crowd = crowd(args)?;
    let began = std::time::Instant::now();
    let report = crowd.run();
    let output = output(&crowd, &report, began.elapsed());
    if let Some(path) = &args.plot {
        draw(path, &output)?;
    }
    match args.json {
        true => print(&serde_json::to_string(&output)?),
        false => table(&output),
    }
    Ok(())
}

fn crowd(args: &Args) -> Result<Crowd, Box<dyn Error>> {
    let leechers = args.peers.saturating_sub(args.seeds);
    if leechers == 0 || args.free_riders > leechers {
        return Err(format!(
            "{} peers: {} seeds, a leecher and {} free riders are more",
            args.peers, args.seeds, args.free_riders
        )
        .into());
    }
    if !args.piece_kib.is_power_of_two() {
        return Err(format!("--piece-kib {}: it is a power of two, as 16, 32 or 64", args.piece_kib).into());
    }
    Ok(Crowd {
        peers: args.peers,
        seeds: args.seeds,
        free_riders: args.free_riders,
        uplinks: args.uplink.iter().map(|kilobytes| kilobytes * 1000).collect(),
        seed_uplink: args.seed_uplink * 1000,
        pieces: args.pieces,
        piece_length: args.piece_kib << 10,
        slots: args.slots.into(),
        order: if args.sequential { Order::Sequential } else { Order::Rarest },
        stay: args.stay,
        seed: args.seed,
        ..Crowd::default()
    })
}

fn quartiles(values: impl Iterator<Item = f64>) -> Quartiles {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let at =
        |quarters: usize| values.get(values.len().saturating_sub(1) * quarters / 4).copied().unwrap_or(0.0);
    Quartiles { least: at(0), first: at(1), median: at(2), third: at(3), most: at(4) }
}

fn output(crowd: &Crowd, report: &CrowdReport, wall: Duration) -> Output {
    let bytes = u64::from(crowd.pieces) * u64::from(crowd.piece_length);
    let mut uplinks: Vec<u64> = report.leechers.iter().map(|leecher| leecher.uplink).collect();
    uplinks.sort_unstable_by(|a, b| b.cmp(a));
    uplinks.dedup();
    let class = |uplink: u64| {
        let of = |value: fn(&Leecher) -> f64| quartiles(report.of_uplink(uplink).map(value));
        Class {
            uplink,
            leechers: report.of_uplink(uplink).count(),
            done: report.of_uplink(uplink).filter(|leecher| leecher.done).count(),
            took_s: of(|leecher| leecher.took.as_secs_f64()),
            up: of(Leecher::up),
            down: of(Leecher::down),
            traded: of(Leecher::traded),
            tail: quartiles(report.of_uplink(uplink).filter_map(Leecher::tail_share)),
        }
    };
    let copies = |rarity: &Rarity| {
        let Rarity { at, peers, rare, least, mean, most, .. } = *rarity;
        Copies { at_s: at.as_secs_f64(), peers, rare, least, mean, most }
    };
    let row = |leecher: &Leecher| Row {
        uplink: leecher.uplink,
        done: leecher.done,
        took_s: leecher.took.as_secs_f64(),
        tail_s: leecher.tail.map(|tail| tail.as_secs_f64()),
        gave: leecher.gave,
        from_seeds: leecher.from_seeds,
        from_others: leecher.from_others,
    };
    Output {
        peers: crowd.peers,
        seeds: crowd.seeds,
        free_riders: crowd.free_riders,
        bytes,
        seed: crowd.seed,
        classes: uplinks.into_iter().map(class).collect(),
        pieces: Pieces {
            spread_s: report.spread.map(|spread| spread.as_secs_f64()),
            spread_by: report.seeded().map(|seeded| seeded as f64 / bytes as f64),
            rare_again: report.rare_again(),
            entropy: report.entropy(),
            interest: quartiles(report.interest.iter().copied()),
            copies: report.rarity.iter().map(copies).collect(),
        },
        reciprocity: report.reciprocity(),
        leechers: report.leechers.iter().map(row).collect(),
        events: report.stats.events(),
        wall_s: wall.as_secs_f64(),
        trace: format!("{:016x}", report.trace),
    }
}

/// Of a series.
type Points = Vec<(f64, f64)>;

/// What leechers of one uplink are called.
fn name(uplink: u64) -> String {
    match uplink {
        0 => "free riders".to_owned(),
        up => format!("{} kB/s", up / 1000),
    }
}

fn draw(path: &Path, output: &Output) -> Result<(), Box<dyn Error>> {
    let of_classes = |points: &dyn Fn(&[&Row]) -> Points| {
        let series = |class: &Class| {
            let rows: Vec<&Row> = output.leechers.iter().filter(|row| row.uplink == class.uplink).collect();
            (name(class.uplink), points(&rows))
        };
        output.classes.iter().map(series).collect::<Vec<_>>()
    };
    let done = of_classes(&|rows| {
        let mut times: Vec<f64> = rows.iter().filter(|row| row.done).map(|row| row.took_s).collect();
        times.sort_by(f64::total_cmp);
        let share = |i: usize| (i + 1) as f64 / rows.len() as f64;
        times.iter().enumerate().map(|(i, time)| (*time, share(i))).collect()
    });
    let rate = |bytes: u64, row: &Row| bytes as f64 / row.took_s.max(1e-9) / 1e3;
    let traded = of_classes(&|rows| {
        rows.iter().map(|row| (rate(row.gave, row), rate(row.from_seeds + row.from_others, row))).collect()
    });
    let tails = of_classes(&|rows| {
        rows.iter().filter_map(|row| Some((row.took_s, row.tail_s? / row.took_s.max(1e-9) * 100.0))).collect()
    });
    let copies = |name: &str, value: fn(&Copies) -> f64| {
        let points = output.pieces.copies.iter().map(|copies| (copies.at_s, value(copies)));
        (name.to_owned(), points.collect::<Points>())
    };
    let copies = [
        copies("the most frequent", |copies| copies.most.into()),
        copies("on average", |copies| copies.mean),
        copies("the rarest", |copies| copies.least.into()),
        copies("leechers that are there", |copies| copies.peers.into()),
    ];
    let series = [&done[..], &copies, &traded, &tails]
        .map(|all| all.iter().map(|(name, points)| (name.clone(), &points[..])).collect::<Vec<_>>());
    let chart = |at: usize, title, x, y, scattered| Chart { title, x, y, series: &series[at], scattered };
    let title = format!("{} peers, {} seeds, seed {}", output.peers, output.seeds, output.seed);
    charts(
        path,
        &title,
        &[
            chart(0, "share of the leechers that are done", "seconds", "", false),
            chart(1, "copies of pieces among the leechers", "seconds", "", false),
            chart(2, "what leechers get for what they give", "gave, kB/s", "got, kB/s", true),
            chart(3, "the last hundredth of the pieces", "whole time, s", "of the time, %", true),
        ],
    )
}

#[expect(clippy::print_stdout, reason = "the result of the program")]
fn print(text: &str) {
    println!("{text}");
}

fn table(output: &Output) {
    let Output { peers, seeds, bytes, seed, .. } = output;
    print(&format!("{peers} peers, {seeds} of them seeds, {:.1} MB, seed {seed}", *bytes as f64 / 1e6));
    print(&format!(
        "{:<12} {:>6} {:>6}   {:^24}   {:^24}   {:^24}   {:>6}",
        "", "peers", "done", "took, s", "gave, kB/s", "got, kB/s", "tail"
    ));
    for Class { uplink, leechers, done, took_s, up, down, tail, .. } in &output.classes {
        let three = |of: &Quartiles, unit: f64| {
            format!("{:>7.1} {:>7.1} {:>7.1}", of.least / unit, of.median / unit, of.most / unit)
        };
        print(&format!(
            "{:<12} {leechers:>6} {done:>6}   {:^24}   {:^24}   {:^24}   {:>5.2}%",
            name(*uplink),
            three(took_s, 1.0),
            three(up, 1e3),
            three(down, 1e3),
            tail.median * 100.0
        ));
    }
    print("             least, median and most; of the tail, the last hundredth of the pieces, the median");
    let Pieces { spread_s, spread_by, rare_again, entropy, interest, .. } = &output.pieces;
    let spread = match spread_s.zip(*spread_by) {
        Some((at, by)) => format!("after {at:.0} s, when they had sent everything {by:.2} times"),
        None => "never".to_owned(),
    };
    print(&format!("pieces       had all left the seeds {spread}; {rare_again} were rare again"));
    print(&format!(
        "entropy      {entropy:.4}; quartiles {:.4}, {:.4}, {:.4}",
        interest.first, interest.median, interest.third
    ));
    print(&format!("reciprocity  {:.3}", output.reciprocity));
    let Output { events, wall_s, trace, .. } = output;
    print(&format!(
        "{events} events in {wall_s:.2} s, {:.2} million a second; trace {trace}",
        *events as f64 / wall_s / 1e6
    ));
}
