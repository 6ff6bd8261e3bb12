//! `lab sybil`: a hash table under attack, with each defence and without.

use std::error::Error;
use std::time::Duration;

use p2p_core::SimPeer;
use p2p_dht::mainline::measure::Eclipse;
use p2p_dht::measure::Tally;
use p2p_dht::measure::flood::Flood;
use p2p_dht::measure::siege::{Attack, Siege};
use p2p_dht::{Allocation, DhtConfig};
use p2p_overlay::{Kademlia, KademliaConfig, KademliaTable};
use serde::Serialize;

use crate::defences::Defence;

/// What to simulate: a table over Kademlia at rest, eight copies of each record. A fifth of the nodes are silent, or lie; 1,000
/// identities crowd around one key; somebody puts twice as much as there is room for.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// How many nodes; those who crowd come in addition.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(100..=16_000))]
    nodes: u32,
    /// How many values are put, and read.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    values: u32,
    /// How many identities crowd around one key.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    identities: u32,
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
    values: u32,
    identities: u32,
    seed: u64,
    sieges: Vec<SiegeRow>,
    floods: Vec<FloodRow>,
    mainline: Vec<MainlineRow>,
}

#[derive(Serialize)]
struct SiegeRow {
    attack: &'static str,
    defence: Defence,
    puts: Cost,
    gets: Cost,
}

#[derive(Serialize)]
struct FloodRow {
    flooders: u32,
    /// How publishers share the room.
    allocation: &'static str,
    /// The part of all room that the flood took.
    taken: f64,
    flood: Cost,
    /// What honest nodes put before the flood, and after it, and the gets of both.
    before: Cost,
    after: Cost,
    kept: Cost,
    read: Cost,
}

/// The eclipse of a torrent on Mainline.
#[derive(Serialize)]
struct MainlineRow {
    identities: u32,
    /// Ids that are not bound to addresses count for nothing (BEP 42).
    bound_ids: bool,
    /// Lookups go on as far as around other keys.
    cover: bool,
    announces: Cost,
    finds: Cost,
}

#[derive(Serialize)]
struct Cost {
    right: f64,
    messages: f64,
    bytes: f64,
    mean_ms: f64,
    p99_ms: u64,
}

impl From<&Tally> for Cost {
    fn from(tally: &Tally) -> Cost {
        Cost {
            right: tally.share(),
            messages: tally.messages_each(),
            bytes: tally.bytes_each(),
            mean_ms: tally.took_ms.mean(),
            p99_ms: tally.took_ms.percentile(99.0),
        }
    }
}

pub(crate) fn run(args: &Args) -> Result<(), Box<dyn Error>> {
    let Args { nodes, values, identities, seed, .. } = *args;
    let (sieges, floods, mainline) = (sieges(args), floods(args), mainline(args));
    let output = Output { nodes, values, identities, seed, sieges, floods, mainline };
    match args.json {
        true => print(&serde_json::to_string(&output)?),
        false => table(&output),
    }
    Ok(())
}

fn sieges(args: &Args) -> Vec<SiegeRow> {
    let Args { nodes, values, identities, seed, .. } = *args;
    let eclipse = |scattered| Attack::Eclipse { identities, scattered };
    let attacks = [
        ("nobody", Attack::Nobody),
        ("drop", Attack::Drop),
        ("misroute", Attack::Misroute),
        ("eclipse, 4 subnets", eclipse(false)),
        ("eclipse, scattered", eclipse(true)),
    ];
    let mut rows = Vec::new();
    for (name, attack) in attacks {
        for defence in Defence::ALL {
            let config = KademliaConfig { upkeep: Duration::ZERO, ..defence.kademlia() };
            // Of one key a node gives so many values.
            let values = if matches!(attack, Attack::Eclipse { .. }) { values.min(60) } else { values };
            let siege = Siege { nodes, values, seed, attack, dht: DhtConfig::default() };
            let outcome = siege.run::<KademliaTable<SimPeer>>(config);
            let (puts, gets) = (Cost::from(&outcome.puts), Cost::from(&outcome.gets));
            rows.push(SiegeRow { attack: name, defence, puts, gets });
        }
    }
    rows
}

fn floods(args: &Args) -> Vec<FloodRow> {
    let Args { nodes, values, seed, .. } = *args;
    let config = KademliaConfig { upkeep: Duration::ZERO, ..KademliaConfig::default() };
    let mut rows = Vec::new();
    for flooders in [1, 10] {
        let allocations = [
            ("none", Allocation::Threshold(u32::MAX)),
            ("threshold", DhtConfig::default().allocation),
            ("fair", Allocation::Fair),
        ];
        for (name, allocation) in allocations {
            let dht = DhtConfig { allocation, ..DhtConfig::default() };
            let flood = Flood { nodes, flooders, puts: values / 2, seed, dht, ..Flood::default() };
            let flooded = flood.run::<Kademlia<SimPeer>>(config);
            rows.push(FloodRow {
                flooders,
                allocation: name,
                taken: flooded.taken,
                flood: Cost::from(&flooded.flood),
                before: Cost::from(&flooded.before),
                after: Cost::from(&flooded.after),
                kept: Cost::from(&flooded.kept),
                read: Cost::from(&flooded.read),
            });
        }
    }
    rows
}

fn mainline(args: &Args) -> Vec<MainlineRow> {
    let Args { nodes, values, seed, .. } = *args;
    let mut rows = Vec::new();
    for identities in [20, args.identities] {
        for (enforce_ids, cover) in [(false, false), (false, true), (true, false)] {
            let announces = values.min(50);
            let eclipse = Eclipse { nodes, identities, announces, enforce_ids, cover, seed };
            let eclipsed = eclipse.run();
            let (announces, finds) = (Cost::from(&eclipsed.announces), Cost::from(&eclipsed.finds));
            rows.push(MainlineRow { identities, bound_ids: enforce_ids, cover, announces, finds });
        }
    }
    rows
}

#[expect(clippy::print_stdout, reason = "the result of the program")]
fn print(text: &str) {
    println!("{text}");
}

fn table(output: &Output) {
    let cost = |cost: &Cost| {
        let Cost { right, messages, bytes, mean_ms, p99_ms } = cost;
        format!("{right:>7.4} {messages:>8.1} {bytes:>8.0} {mean_ms:>7.0} {p99_ms:>7}")
    };
    print(&format!("{:<28} {:<41} {}", "", "puts", "gets"));
    let columns = format!("{:>7} {:>8} {:>8} {:>7} {:>7}", "right", "messages", "bytes", "ms", "p99");
    print(&format!("{:<19} {:<8} {columns} {columns}", "attack", "defence"));
    for row in &output.sieges {
        let defence = format!("{:?}", row.defence).to_lowercase();
        print(&format!("{:<19} {defence:<8} {} {}", row.attack, cost(&row.puts), cost(&row.gets)));
    }
    print("");
    print(&format!(
        "{:<8} {:<10} {:>6} {:>6} {:>14} {:>7} {:>7} {:>7} {:>7}",
        "flooders", "allocation", "taken", "flood", "messages each", "before", "kept", "after", "read"
    ));
    for row in &output.floods {
        print(&format!(
            "{:<8} {:<10} {:>6.3} {:>6.3} {:>14.1} {:>7.3} {:>7.3} {:>7.3} {:>7.3}",
            row.flooders,
            row.allocation,
            row.taken,
            row.flood.right,
            row.flood.messages,
            row.before.right,
            row.kept.right,
            row.after.right,
            row.read.right,
        ));
    }
    print("");
    print(&format!("{:<28} {:<41} {}", "Mainline", "announcements", "finds"));
    print(&format!("{:<10} {:<9} {:<7} {columns} {columns}", "identities", "bound ids", "cover"));
    for row in &output.mainline {
        let (announces, finds) = (cost(&row.announces), cost(&row.finds));
        let MainlineRow { identities, bound_ids, cover, .. } = row;
        print(&format!("{identities:<10} {bound_ids:<9} {cover:<7} {announces} {finds}"));
    }
}
