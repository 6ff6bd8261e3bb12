//! What attacks do, and what the defences are worth, at a small scale; `lab sybil` has them at full size.

#![allow(missing_docs, reason = "a test")]
#![allow(clippy::print_stdout, reason = "what was measured is worth seeing")]

use std::time::Duration;

use p2p_core::SimPeer;
use p2p_dht::mainline::measure::{Eclipse, Eclipsed};
use p2p_dht::measure::Tally;
use p2p_dht::measure::flood::{Flood, Flooded};
use p2p_dht::measure::siege::{Attack, Outcome, Siege};
use p2p_dht::{Allocation, DhtConfig};
use p2p_overlay::{
    ChordConfig, ChordTable, Kademlia, KademliaConfig, KademliaTable, LookupConfig, PastryConfig,
    PastryTable, SubnetLimits,
};

/// How many nodes; at full size 10,000.
fn nodes() -> u32 {
    std::env::var("P2P_ATTACK_NODES").ok().and_then(|nodes| nodes.parse().ok()).unwrap_or(300)
}

fn siege(attack: Attack) -> Siege {
    Siege { nodes: nodes(), values: 100, attack, ..Siege::default() }
}

fn kademlia() -> KademliaConfig {
    KademliaConfig { upkeep: Duration::ZERO, ..KademliaConfig::default() }
}

fn say(what: &str, outcome: &Outcome) {
    let line = |tally: &Tally| {
        let (share, messages, bytes) = (tally.share(), tally.messages_each(), tally.bytes_each());
        format!("{share:.3} right, {messages:.0} messages, {bytes:.0} bytes, {:.0} ms", tally.took_ms.mean())
    };
    println!("{what}: puts {}; gets {}", line(&outcome.puts), line(&outcome.gets));
}

fn run(what: &str, attack: Attack, config: KademliaConfig) -> Outcome {
    let outcome = siege(attack).run::<KademliaTable<SimPeer>>(config);
    say(what, &outcome);
    outcome
}

#[test]
fn a_fifth_of_adversaries_loses_next_to_nothing_of_eight_copies() {
    let calm = run("nobody", Attack::Nobody, kademlia());
    assert_eq!((calm.puts.right, calm.gets.right), (100, 100));
    for attack in [Attack::Drop, Attack::Misroute] {
        let plain = run(&format!("{attack:?}"), attack, kademlia());
        let paths = run(&format!("{attack:?}, 8 paths"), attack, KademliaConfig { paths: 8, ..kademlia() });
        // S/Kademlia (2007), §5: lookups on eight paths succeed in 99 of 100 cases where a fifth are adversaries.
        assert!(paths.gets.share() >= 0.99, "{attack:?}: {:?}", paths.gets);
        assert!(plain.gets.right <= paths.gets.right, "{attack:?}: {:?}", plain.gets);
        assert!(paths.gets.messages > plain.gets.messages, "{attack:?}: what it costs");
    }
}

/// Sibling lists, limits on subnets and the density check cost something, and lose nothing.
#[test]
fn no_defence_is_in_the_way_of_puts_and_gets() {
    let lookup = LookupConfig { density_check: Some(1e-3), ..kademlia().lookup };
    let defences = [
        ("siblings", KademliaConfig { siblings: 16, ..kademlia() }),
        ("subnets", KademliaConfig { subnets: Some(SubnetLimits::default()), ..kademlia() }),
        ("density", KademliaConfig { lookup, ..kademlia() }),
    ];
    for (defence, config) in defences {
        let calm = run(&format!("nobody, {defence}"), Attack::Nobody, config);
        assert_eq!((calm.puts.right, calm.gets.right), (100, 100), "{defence}");
        let misrouted = run(&format!("Misroute, {defence}"), Attack::Misroute, config);
        assert!(misrouted.gets.share() >= 0.95, "{defence}: {:?}", misrouted.gets);
    }
}

/// Where one node alone answers for a key, whoever is on the way may say that it is the one.
#[test]
fn rings_lose_what_kademlia_does_not() {
    let chord = ChordConfig { stabilize: Duration::ZERO, ..ChordConfig::default() };
    let pastry = PastryConfig { upkeep: Duration::ZERO, ..PastryConfig::default() };
    let plain = siege(Attack::Misroute).run::<KademliaTable<SimPeer>>(kademlia());
    let chord = siege(Attack::Misroute).run::<ChordTable<SimPeer>>(chord);
    let pastry = siege(Attack::Misroute).run::<PastryTable<SimPeer>>(pastry);
    say("Chord, misrouted", &chord);
    say("Pastry, misrouted", &pastry);
    assert!(chord.gets.right < plain.gets.right && pastry.gets.right < plain.gets.right);
}

/// A thousand identities next to one key have all of what is under it: each put is acknowledged, by them. Limits on subnets are
/// no defence against whoever has as many addresses.
#[test]
fn an_eclipse_of_one_key_is_complete() {
    let scattered = Attack::Eclipse { identities: 1000, scattered: true };
    let siege = Siege { values: 30, ..siege(scattered) };
    let plain = siege.run::<KademliaTable<SimPeer>>(kademlia());
    say("eclipse", &plain);
    assert_eq!((plain.puts.right, plain.gets.right), (30, 0));
    let subnets = Some(SubnetLimits::default());
    let limited = siege.run::<KademliaTable<SimPeer>>(KademliaConfig { subnets, ..kademlia() });
    say("eclipse, limits on subnets", &limited);
    assert_eq!(limited.gets.right, 0);
}

fn flood(allocation: Allocation) -> Flooded {
    let dht = DhtConfig { allocation, ..DhtConfig::default() };
    let flood = Flood { nodes: nodes(), puts: nodes() / 10, dht, ..Flood::default() };
    let flooded = flood.run::<Kademlia<SimPeer>>(kademlia());
    println!(
        "{allocation:?}: {:.3} of the room is the flood's; of honest puts {:.3} before and {:.3} after it; read {:.3} and {:.3}",
        flooded.taken,
        flooded.before.share(),
        flooded.after.share(),
        flooded.kept.share(),
        flooded.read.share(),
    );
    flooded
}

/// One publisher that puts twice as much as there is room for takes nearly all where nothing bounds it; by thresholds no more
/// than four fifths, and others find room. What was there before the flood stays in either case.
#[test]
fn a_flood_of_puts_leaves_room_where_publishers_have_shares() {
    let unbounded = flood(Allocation::Threshold(u32::MAX));
    assert!(unbounded.taken > 0.8 && unbounded.after.share() < 0.5, "{unbounded:?}");
    let bounded = flood(Allocation::Threshold(4));
    // Of 32 records 26: with 25 there were still four times as many.
    assert!(bounded.taken <= 26.0 / 32.0 && bounded.after.share() >= 0.99, "{bounded:?}");
    for flooded in [&unbounded, &bounded] {
        assert_eq!((flooded.before.share(), flooded.kept.share()), (1.0, 1.0));
    }
    assert!(bounded.read.share() >= 0.99);
}

/// On Mainline twenty identities next to a torrent hide it from lookups that end at the eight nearest; not from those that go on
/// as far as around other keys. Where ids are bound to addresses ten times as many do not hide all of it.
#[test]
fn a_crowded_torrent_is_found_by_those_who_look_further_or_heed_bound_ids() {
    let eclipse = Eclipse {
        nodes: nodes(),
        identities: 20,
        announces: 10,
        enforce_ids: false,
        cover: false,
        ..Eclipse::default()
    };
    let plain = eclipse.run();
    let covered = Eclipse { cover: true, ..eclipse }.run();
    let bound = Eclipse { identities: 200, enforce_ids: true, ..eclipse }.run();
    for (what, eclipsed) in [("eight nearest", &plain), ("cover", &covered), ("bound ids", &bound)] {
        let Eclipsed { announces, finds } = eclipsed;
        println!(
            "Mainline, {what}: {:.2} announced, {:.2} found; {:.0} and {:.0} messages",
            announces.share(),
            finds.share(),
            announces.messages_each(),
            finds.messages_each(),
        );
    }
    assert_eq!(plain.finds.right, 0, "{plain:?}");
    assert!(covered.finds.right >= 8, "{covered:?}");
    assert!(bound.finds.right > plain.finds.right, "{bound:?}");
}
