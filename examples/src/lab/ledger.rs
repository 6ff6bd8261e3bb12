//! `lab ledger`: chains by numbers. Races of an attacker beside Nakamoto's table, a selfish pool beside the formula, targets that
//! follow the work that is put in, blocks on their way, and how many of them are in vain.

use std::error::Error;
use std::path::PathBuf;
use std::time::Duration;

use p2p_ledger::measure::{DifficultySteps, Forks, Phase, Races, SelfishMining, Spread};
use p2p_ledger::{Retarget, attacker_success, attacker_success_exact, selfish_revenue};
use serde::Serialize;

/// What to simulate.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// How many nodes blocks get around among.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(2..=100_000))]
    nodes: u32,
    /// How many blocks get around, and how many are mined for each interval.
    #[arg(long, default_value_t = 100)]
    blocks: u32,
    /// The mean seconds between blocks, for each of which is counted how many are in vain.
    #[arg(long, value_delimiter = ',', default_value = "0.5,1,2,5,10")]
    intervals: Vec<f64>,
    /// How often the attacker races.
    #[arg(long, default_value_t = 10_000)]
    races: u32,
    /// The attacker's shares of all work.
    #[arg(long, value_delimiter = ',', default_value = "0.1,0.2,0.3")]
    shares: Vec<f64>,
    /// How deep the payment is at most.
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u32).range(1..=20))]
    depth: u32,
    /// How many blocks the selfish pool and the others find.
    #[arg(long, default_value_t = 20_000)]
    selfish: u64,
    /// The seed of everything: the same one gives the same run.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
    /// Draw the attacker's chances by depth, as SVG.
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
}

/// What came out, as `--json` prints it.
#[derive(Serialize)]
struct Output {
    seed: u64,
    races: Vec<Race>,
    selfish: Vec<Pool>,
    difficulty: Vec<Steps>,
    spread: Around,
    forks: Vec<InVain>,
}

/// The attacker's chance with a share q against a payment z blocks deep.
#[derive(Serialize)]
struct Race {
    q: f64,
    z: u32,
    simulated: f64,
    exact: f64,
    /// With the progress that the paper takes him to have.
    simulated_as_printed: f64,
    printed: f64,
}

/// The share of the chain that a selfish pool gets.
#[derive(Serialize)]
struct Pool {
    alpha: f64,
    gamma: f64,
    simulated: f64,
    formula: f64,
}

/// A chain whose miners come and go.
#[derive(Serialize)]
struct Steps {
    rule: &'static str,
    phases: Vec<Step>,
}

#[derive(Serialize)]
struct Step {
    rate: f64,
    /// The time between blocks in units of what it should be: of the first ten, and of the second half.
    at_first: f64,
    in_the_end: f64,
    /// After how many blocks the mean of ten was for the first time within a quarter of what it should be.
    settled: Option<usize>,
    difficulty: f64,
    intervals: Vec<f64>,
}

#[derive(Serialize)]
struct Around {
    nodes: u32,
    blocks: u32,
    median_ms: u64,
    p99_ms: u64,
    trace: String,
}

#[derive(Serialize)]
struct InVain {
    interval_s: f64,
    blocks: u32,
    in_vain: u32,
    trace: String,
}

pub(crate) fn run(args: &Args) -> Result<(), Box<dyn Error>> {
    if let Some(q) = args.shares.iter().find(|q| !(0.0..0.5).contains(*q)) {
        return Err(format!("--shares {q}: an attacker's share is at least 0 and less than 0.5").into());
    }
    if let Some(interval) = args.intervals.iter().find(|interval| !(0.01..=86_400.0).contains(*interval)) {
        return Err(format!("--intervals {interval}: it is between 0.01 and 86,400 s").into());
    }
    let output = Output {
        seed: args.seed,
        races: races(args),
        selfish: selfish(args),
        difficulty: difficulty(args),
        spread: spread(args),
        forks: args.intervals.iter().map(|interval| forks(args, *interval)).collect(),
    };
    if let Some(path) = &args.plot {
        draw(args, &output.races, path)?;
    }
    match args.json {
        true => print(&serde_json::to_string(&output)?),
        false => table(&output),
    }
    Ok(())
}

fn races(args: &Args) -> Vec<Race> {
    let one = |q: f64, z: u32| {
        let races = Races { q, z, races: args.races.max(1), seed: args.seed };
        Race {
            q,
            z,
            simulated: races.run(),
            exact: attacker_success_exact(q, z),
            simulated_as_printed: races.run_as_printed(),
            printed: attacker_success(q, z),
        }
    };
    args.shares.iter().flat_map(|q| (1..=args.depth).map(move |z| one(*q, z))).collect()
}

fn selfish(args: &Args) -> Vec<Pool> {
    let one = |(alpha, gamma)| {
        let simulated = SelfishMining { alpha, gamma, blocks: args.selfish, seed: args.seed }.run();
        Pool { alpha, gamma, simulated, formula: selfish_revenue(alpha, gamma) }
    };
    let shares = [0.1, 0.2, 0.25, 0.3, 1.0 / 3.0, 0.4, 0.45];
    let cases = [0.0, 0.5, 1.0].into_iter().flat_map(|gamma| shares.map(|alpha| (alpha, gamma)));
    cases.map(one).collect()
}

fn difficulty(args: &Args) -> Vec<Steps> {
    let rules = [
        ("every 144 blocks", Retarget::Window { blocks: 144 }),
        ("ASERT, half-life of 288 spacings", Retarget::Asert { half_life: 288 * 600 }),
        ("ASERT, half-life of 10 spacings", Retarget::Asert { half_life: 10 * 600 }),
    ];
    let one = |(rule, retarget)| {
        let phases = vec![(576, 1.0), (1_152, 4.0), (1_152, 1.0)];
        let phases = DifficultySteps { retarget, spacing: 600, phases, seed: args.seed }.run();
        Steps { rule, phases: phases.into_iter().map(step).collect() }
    };
    rules.into_iter().map(one).collect()
}

fn step(phase: Phase) -> Step {
    let Phase { rate, intervals, difficulty } = phase;
    let mean = |some: &[f64]| some.iter().sum::<f64>() / some.len().max(1) as f64;
    let settled = intervals.iter().position(|interval| (0.75..1.25).contains(interval));
    Step {
        rate,
        at_first: intervals.first().copied().unwrap_or(0.0),
        in_the_end: mean(&intervals[intervals.len() / 2..]),
        settled: settled.map(|tens| 10 * tens),
        difficulty,
        intervals,
    }
}

fn spread(args: &Args) -> Around {
    let (times, trace) = Spread { nodes: args.nodes, blocks: args.blocks.max(1), seed: args.seed }.run();
    let share = |percent: usize| times.get(times.len().saturating_sub(1) * percent / 100).map_or(0, ms);
    Around {
        nodes: args.nodes,
        blocks: args.blocks,
        median_ms: share(50),
        p99_ms: share(99),
        trace: format!("{trace:016x}"),
    }
}

fn ms(time: &Duration) -> u64 {
    time.as_millis() as u64
}

fn forks(args: &Args, interval: f64) -> InVain {
    let report = Forks { nodes: args.nodes, interval, blocks: args.blocks, seed: args.seed }.run();
    InVain {
        interval_s: interval,
        blocks: args.blocks,
        in_vain: report.in_vain,
        trace: format!("{:016x}", report.trace),
    }
}

fn draw(args: &Args, races: &[Race], path: &std::path::Path) -> Result<(), Box<dyn Error>> {
    let mut series: Vec<(String, Vec<(f64, f64)>)> = Vec::new();
    for q in &args.shares {
        let of = |value: fn(&Race) -> f64| {
            races.iter().filter(|race| race.q == *q).map(|race| (f64::from(race.z), value(race))).collect()
        };
        series.push((format!("q = {q}, simulated"), of(|race| race.simulated)));
        series.push((format!("q = {q}, exact"), of(|race| race.exact)));
    }
    let series: Vec<(String, &[(f64, f64)])> =
        series.iter().map(|(name, points)| (name.clone(), &points[..])).collect();
    let title = format!("the attacker's chance, {} races each", args.races);
    crate::plot::lines(path, &title, "how many blocks deep the payment is", &series)
}

#[expect(clippy::print_stdout, reason = "the result of the program")]
fn print(text: &str) {
    println!("{text}");
}

fn table(output: &Output) {
    print(&format!("seed {}", output.seed));
    print("an attacker's races     q   z   simulated     exact   as printed: simulated   the paper");
    for Race { q, z, simulated, exact, simulated_as_printed, printed } in &output.races {
        print(&format!(
            "                     {q:.2}  {z:>2}   {simulated:>9.5}  {exact:>8.5}   {simulated_as_printed:>21.5}  {printed:>10.5}"
        ));
    }
    print("a selfish pool      alpha  gamma   simulated   formula");
    for Pool { alpha, gamma, simulated, formula } in &output.selfish {
        print(&format!("                    {alpha:.3}   {gamma:.1}   {simulated:>10.4}  {formula:>8.4}"));
    }
    for Steps { rule, phases } in &output.difficulty {
        print(&format!("targets by: {rule}"));
        for Step { rate, at_first, in_the_end, settled, difficulty, .. } in phases {
            let settled =
                settled.map_or_else(|| "never".to_owned(), |blocks| format!("after {blocks} blocks"));
            print(&format!(
                "    {rate:>4.1} of the work: {at_first:.2} of the interval at first, {in_the_end:.2} in the end, right {settled}; difficulty {difficulty:.2}"
            ));
        }
    }
    let Around { nodes, blocks, median_ms, p99_ms, trace } = &output.spread;
    print(&format!(
        "{blocks} blocks among {nodes} nodes, links of 50 ms: half have one after {median_ms} ms, 99 % after {p99_ms} ms; trace {trace}"
    ));
    for InVain { interval_s, blocks, in_vain, trace } in &output.forks {
        print(&format!("a block every {interval_s} s: {in_vain} of {blocks} in vain; trace {trace}"));
    }
}
