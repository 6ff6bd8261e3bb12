//! `lab`: the protocols in the simulator, by numbers.
//!
//! ```sh
//! cargo run --release --bin lab -- overlay --overlay chord --nodes 10000 --lookups 20000 --seed 1
//! cargo run --release --bin lab -- compare --nodes 1000 --seed 1 --plot compare.svg
//! cargo run --release --bin lab -- multicast --overlay chord --nodes 10000 --groups 1500 --seed 1
//! cargo run --release --bin lab -- gossip --nodes 10000 --fail 0.2,0.4,0.6,0.8 --plot reach.svg
//! ```

mod compare;
mod gossip;
mod kinds;
mod multicast;
mod overlay;
mod plot;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// A simulation waits for memory more than for anything else, and this lays what belongs together closer together.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Runs protocols in the deterministic simulator and prints what they do.
#[derive(Parser)]
#[command(version)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Lookups in a structured overlay: static, with failures, or under churn.
    Overlay(overlay::Args),
    /// All five structured overlays on one workload: static, damaged, and under churn.
    Compare(compare::Args),
    /// Messages to many groups through the trees of Scribe: how late they come, and who does the work.
    Multicast(multicast::Args),
    /// Gossip: whom broadcasts reach, also when most nodes fail at once, and how soon a failure is noticed.
    Gossip(gossip::Args),
}

fn main() -> ExitCode {
    let done = match Args::parse().command {
        Command::Overlay(args) => overlay::run(&args),
        Command::Compare(args) => compare::run(&args),
        Command::Multicast(args) => multicast::run(&args),
        Command::Gossip(args) => gossip::run(&args),
    };
    p2p_examples::exit("lab", done)
}
