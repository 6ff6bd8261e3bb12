//! `lab storage`: PAST filled to the brim, with and without its diversions.

use std::error::Error;

use p2p_dht::past::measure::Filling;
use serde::Serialize;

/// What to simulate: nodes that give 27 MB each on average, and files as web proxies see them, five replicas of each (Rowstron & Druschel, SOSP 2001, §5.1).
#[derive(clap::Args)]
pub(crate) struct Args {
    /// How many nodes; the paper has 2,250.
    #[arg(long, default_value_t = 2250, value_parser = clap::value_parser!(u32).range(10..=100_000))]
    nodes: u32,
    /// How many files for each node; the paper has 828.
    #[arg(long, default_value_t = 828, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    files: u32,
    /// Pastry's leaves, l.
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u16).range(8..=32))]
    leaves: u16,
    /// What part of its free room a node gives to a file, t_pri.
    #[arg(long, default_value_t = 0.1)]
    primary: f64,
    /// The same for a replica in another node's place, t_div; 0: none.
    #[arg(long, default_value_t = 0.05)]
    diverted: f64,
    /// No file is tried under another salt.
    #[arg(long)]
    no_file_diversion: bool,
    /// Neither diversion, and nodes take what fits: as --primary 1 --diverted 0 --no-file-diversion.
    #[arg(long)]
    plain: bool,
    /// The seed of everything: the same one gives the same run.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Output {
    nodes: u32,
    leaves: u16,
    seed: u64,
    files: u64,
    rejected: f64,
    utilisation: f64,
    rejected_at_95: Option<f64>,
    file_diverted: f64,
    replica_diverted: f64,
    mean_bytes_kept: f64,
    mean_bytes_rejected: f64,
    trace: String,
}

#[expect(clippy::print_stdout, reason = "the result of the program")]
pub(crate) fn run(args: &Args) -> Result<(), Box<dyn Error>> {
    let Args { nodes, files, leaves, primary, diverted, seed, .. } = *args;
    let filling = match args.plain {
        true => Filling {
            nodes,
            files,
            leaves: leaves.into(),
            primary: 1.0,
            diverted: 0.0,
            file_diversion: false,
            seed,
        },
        false => {
            let file_diversion = !args.no_file_diversion;
            Filling { nodes, files, leaves: leaves.into(), primary, diverted, file_diversion, seed }
        }
    };
    let filled = filling.run();
    let output = Output {
        nodes,
        leaves,
        seed,
        files: filled.files,
        rejected: filled.rejected(),
        utilisation: filled.utilisation,
        rejected_at_95: filled.rejected_at_95,
        file_diverted: filled.file_diverted,
        replica_diverted: filled.replica_diverted,
        mean_bytes_kept: filled.mean_kept,
        mean_bytes_rejected: filled.mean_rejected,
        trace: format!("{:016x}", filled.trace),
    };
    if args.json {
        println!("{}", serde_json::to_string(&output)?);
        return Ok(());
    }
    println!("{} files for {nodes} nodes with {leaves} leaves each", output.files);
    println!("rejected          {:>9.2} %", 100.0 * output.rejected);
    println!("utilisation       {:>9.2} %", 100.0 * output.utilisation);
    if let Some(rejected) = output.rejected_at_95 {
        println!("until 95% are taken{:>8.2} % are rejected", 100.0 * rejected);
    }
    println!("files diverted    {:>9.2} % of those kept", 100.0 * output.file_diverted);
    println!("replicas diverted {:>9.2} %", 100.0 * output.replica_diverted);
    println!(
        "mean size         {:>9.0} bytes of those kept, {:.0} of those rejected",
        output.mean_bytes_kept, output.mean_bytes_rejected
    );
    println!("trace             {}", output.trace);
    Ok(())
}
