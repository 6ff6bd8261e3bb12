//! `lab defend`: what the defences of the structured overlays cost, and what they are worth.

use std::error::Error;
use std::time::Duration;

use p2p_core::SimPeer;
use p2p_core::sim::Session;
use p2p_overlay::measure::siege::{Attack, Outcome, Siege};
use p2p_overlay::measure::{Experiment, Simulated};
use p2p_overlay::{
    Can, CanConfig, Chord, ChordConfig, ChordTable, Kademlia, KademliaConfig, KademliaTable, Pastry,
    PastryConfig, PastryTable, Tapestry, TapestryConfig, TapestryTable,
};
use serde::Serialize;

use crate::defences::Defence;

/// What to simulate: each defence off and on, without an attack, under the attack that it is meant for, and under
/// churn.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// How many honest nodes; of those that lie a fifth are among them.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(100..=10_000))]
    nodes: u32,
    /// How many lookups each time.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    lookups: u32,
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
    lookups: u32,
    seed: u64,
    rows: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    overlay: &'static str,
    defence: Defence,
    /// Without one, under churn with a median session of an hour.
    attack: Option<&'static str>,
    right: f64,
    captured: f64,
    flagged: f64,
    hops: f64,
    messages: f64,
    bytes: f64,
    bytes_per_node_s: Option<f64>,
}

pub(crate) fn run(args: &Args) -> Result<(), Box<dyn Error>> {
    let mut rows = Vec::new();
    for defence in Defence::ALL {
        let subnets = defence.subnets();
        let config = defence.kademlia();
        let at_rest = KademliaConfig { upkeep: Duration::ZERO, ..config };
        besiege(args, &mut rows, "kademlia", defence, |siege| siege.run::<KademliaTable<SimPeer>>(at_rest));
        rows.push(under_churn::<Kademlia<SimPeer>>(args, "kademlia", defence, config));
        if matches!(defence, Defence::Paths | Defence::Siblings) {
            continue;
        }
        let config = ChordConfig::default();
        let (stabilize, lookup) = (Duration::from_secs(5), defence.guard(config.lookup));
        let config = ChordConfig { stabilize, fingers: 3, subnets, lookup, ..config };
        let at_rest = ChordConfig { stabilize: Duration::ZERO, ..config };
        besiege(args, &mut rows, "chord", defence, |siege| siege.run::<ChordTable<SimPeer>>(at_rest));
        rows.push(under_churn::<Chord<SimPeer>>(args, "chord", defence, config));
        let config = PastryConfig::default();
        let config = PastryConfig { subnets, lookup: defence.guard(config.lookup), ..config };
        let at_rest = PastryConfig { upkeep: Duration::ZERO, ..config };
        besiege(args, &mut rows, "pastry", defence, |siege| siege.run::<PastryTable<SimPeer>>(at_rest));
        rows.push(under_churn::<Pastry<SimPeer>>(args, "pastry", defence, config));
        if defence == Defence::Density {
            continue;
        }
        let config = TapestryConfig { subnets, ..TapestryConfig::default() };
        let at_rest = TapestryConfig { upkeep: Duration::ZERO, ..config };
        besiege(args, &mut rows, "tapestry", defence, |siege| siege.run::<TapestryTable<SimPeer>>(at_rest));
        rows.push(under_churn::<Tapestry<SimPeer>>(args, "tapestry", defence, config));
        // Its limits hold where a zone is given away: under churn.
        let config = CanConfig { subnets, ..CanConfig::default() };
        rows.push(under_churn::<Can<SimPeer>>(args, "can", defence, config));
    }
    let Args { nodes, lookups, seed, .. } = *args;
    let output = Output { nodes, lookups, seed, rows };
    match args.json {
        true => print(&serde_json::to_string(&output)?),
        false => table(&output),
    }
    Ok(())
}

/// The attacks that say something of a defence; without any, those of all.
fn besiege(
    args: &Args,
    rows: &mut Vec<Row>,
    overlay: &'static str,
    defence: Defence,
    run: impl Fn(Siege) -> Outcome,
) {
    let attacks: &[Attack] = match (defence, overlay) {
        (Defence::Nothing, "tapestry") | (Defence::Subnets, _) => &[Attack::Nobody, Attack::Subnet],
        (Defence::Nothing, _) => &[Attack::Nobody, Attack::Liars, Attack::Subnet, Attack::Crowd],
        (Defence::Paths, _) => &[Attack::Nobody, Attack::Liars],
        (Defence::Siblings, _) => &[Attack::Nobody],
        (Defence::Density, _) => &[Attack::Nobody, Attack::Liars, Attack::Crowd],
    };
    for &attack in attacks {
        // So that three in ten nodes are in the subnet, which has room for 256.
        let nodes = if attack == Attack::Subnet { args.nodes.min(597) } else { args.nodes };
        let siege = Siege { nodes, lookups: args.lookups, seed: args.seed, attack, ..Siege::default() };
        let outcome = run(siege);
        rows.push(Row {
            overlay,
            defence,
            attack: Some(match attack {
                Attack::Nobody => "nobody",
                Attack::Liars => "liars",
                Attack::Subnet => "subnet",
                Attack::Crowd => "crowd",
            }),
            right: outcome.share(outcome.right),
            captured: outcome.share(outcome.captured),
            flagged: outcome.share(outcome.flagged),
            hops: outcome.hops.mean(),
            messages: outcome.messages_each(),
            bytes: outcome.bytes_each(),
            bytes_per_node_s: None,
        });
    }
}

fn under_churn<O: Simulated>(args: &Args, overlay: &'static str, defence: Defence, config: O::Config) -> Row {
    let experiment = Experiment {
        nodes: args.nodes,
        lookups: 4 * u64::from(args.lookups),
        seed: args.seed,
        rate: 10.0,
        churn: Some(Session::Exponential { median: Duration::from_secs(3600) }),
        ..Experiment::default()
    };
    let report = experiment.run::<O>(config);
    let each = |of: u64| of as f64 / report.lookups.max(1) as f64;
    Row {
        overlay,
        defence,
        attack: None,
        right: report.success(),
        captured: 0.0,
        flagged: each(report.flagged),
        hops: report.hops.mean(),
        messages: each(report.stats.sent),
        bytes: each(report.stats.bytes),
        bytes_per_node_s: Some(report.bytes_per_node_s()),
    }
}

#[expect(clippy::print_stdout, reason = "the result of the program")]
fn print(text: &str) {
    println!("{text}");
}

fn table(output: &Output) {
    print(&format!(
        "{:<9} {:<9} {:<7} {:>7} {:>8} {:>8} {:>6} {:>9} {:>9} {:>9}",
        "overlay",
        "defence",
        "attack",
        "right",
        "captured",
        "flagged",
        "hops",
        "messages",
        "bytes",
        "B/node/s"
    ));
    for row in &output.rows {
        print(&format!(
            "{:<9} {:<9} {:<7} {:>7.4} {:>8.4} {:>8.4} {:>6.2} {:>9.1} {:>9.0} {:>9}",
            row.overlay,
            format!("{:?}", row.defence).to_lowercase(),
            row.attack.unwrap_or("churn"),
            row.right,
            row.captured,
            row.flagged,
            row.hops,
            row.messages,
            row.bytes,
            row.bytes_per_node_s.map_or_else(String::new, |bytes| format!("{bytes:.0}")),
        ));
    }
}
