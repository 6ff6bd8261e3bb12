//! `lab`: the protocols in the simulator, by numbers.
//!
//! ```sh
//! cargo run --release --bin lab -- overlay --overlay chord --nodes 10000 --lookups 20000 --seed 1
//! cargo run --release --bin lab -- compare --nodes 1000 --seed 1 --plot compare.svg
//! cargo run --release --bin lab -- defend --nodes 1000 --seed 1
//! cargo run --release --bin lab -- upheaval --nodes 1000 --seed 1
//! cargo run --release --bin lab -- multicast --overlay chord --nodes 10000 --groups 1500 --seed 1
//! cargo run --release --bin lab -- flood --spread directed --nodes 1000 --seed 1
//! cargo run --release --bin lab -- search --topology random --nodes 10000 --searches 100 --seed 1
//! cargo run --release --bin lab -- gossip --nodes 10000 --fail 0.2,0.4,0.6,0.8 --plot reach.svg
//! cargo run --release --bin lab -- storage --nodes 2250 --seed 1
//! cargo run --release --bin lab -- swarm --peers 100 --free-riders 10 --seed 1 --plot swarm.svg
//! cargo run --release --bin lab -- sybil --nodes 10000 --seed 1
//! cargo run --release --bin lab -- freenet --nodes 1000 --steps 5000 --seed 1
//! cargo run --release --bin lab -- ledger --nodes 1000 --seed 1 --plot attacker.svg
//! ```

mod compare;
mod defences;
mod defend;
mod flood;
mod freenet;
mod gossip;
mod kinds;
mod ledger;
mod multicast;
mod overlay;
mod plot;
mod search;
mod storage;
mod swarm;
mod sybil;
mod upheaval;

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
    /// The defences of the structured overlays: what they cost, and what they are worth under attack.
    Defend(defend::Args),
    /// All five after a mass join, a mass failure and a partition: how long until they are right again.
    Upheaval(upheaval::Args),
    /// Messages to many groups through the trees of Scribe: how late they come, and who does the work.
    Multicast(multicast::Args),
    /// Messages to everybody by CAN's own multicast: how often they are sent, and how late they come.
    Flood(flood::Args),
    /// Freenet's routes: how long they are while the network learns, when it is larger, and when nodes die.
    Freenet(freenet::Args),
    /// Floods, rings and walkers in a network without structure: what they cost, and what they find.
    Search(search::Args),
    /// PAST filled to the brim: how many files it rejects, and how much room is left then.
    Storage(storage::Args),
    /// A BitTorrent swarm to which all come at once: how long each takes, how rare pieces get, and who gives and who gets.
    Swarm(swarm::Args),
    /// A hash table under attack: adversaries, an eclipse of one key, a flood of puts; with each defence and without.
    Sybil(sybil::Args),
    /// Chains: an attacker's races, a selfish pool, targets that follow the work, and how blocks get around.
    Ledger(ledger::Args),
    /// Gossip: whom broadcasts reach, also when most nodes fail at once, and how soon a failure is noticed.
    Gossip(gossip::Args),
}

fn main() -> ExitCode {
    let done = match Args::parse().command {
        Command::Overlay(args) => overlay::run(&args),
        Command::Compare(args) => compare::run(&args),
        Command::Defend(args) => defend::run(&args),
        Command::Upheaval(args) => upheaval::run(&args),
        Command::Multicast(args) => multicast::run(&args),
        Command::Flood(args) => flood::run(&args),
        Command::Freenet(args) => freenet::run(&args),
        Command::Search(args) => search::run(&args),
        Command::Storage(args) => storage::run(&args),
        Command::Swarm(args) => swarm::run(&args),
        Command::Sybil(args) => sybil::run(&args),
        Command::Ledger(args) => ledger::run(&args),
        Command::Gossip(args) => gossip::run(&args),
    };
    p2p_examples::exit("lab", done)
}
