//! What the defences are worth, at a small scale; `lab defend` has them at full size.

#![allow(clippy::print_stdout, reason = "what was measured is worth seeing")]

use std::time::Duration;

use p2p_core::{Key, Keyed, Script, SimPeer};
use p2p_overlay::measure::siege::{Attack, Outcome, Siege};
use p2p_overlay::measure::{Experiment, Simulated, Start};
use p2p_overlay::{
    Can, CanConfig, CanMsg, ChordConfig, ChordTable, Kademlia, KademliaConfig, KademliaTable, LookupConfig,
    Overlay, PastryConfig, PastryTable, Replicas, RoutedMsg, SubnetLimits, TapestryConfig, TapestryTable,
};

/// Limits in proportion to networks of a few hundred nodes.
const LIMITS: Option<SubnetLimits> = Some(SubnetLimits { table: 4, group: 1 });

fn kademlia() -> KademliaConfig {
    KademliaConfig { upkeep: Duration::ZERO, ..KademliaConfig::default() }
}

fn chord() -> ChordConfig {
    ChordConfig { stabilize: Duration::ZERO, ..ChordConfig::default() }
}

fn pastry() -> PastryConfig {
    PastryConfig { upkeep: Duration::ZERO, ..PastryConfig::default() }
}

fn tapestry() -> TapestryConfig {
    TapestryConfig { upkeep: Duration::ZERO, ..TapestryConfig::default() }
}

fn siege(attack: Attack) -> Siege {
    Siege { nodes: 300, lookups: 200, attack, ..Siege::default() }
}

/// Three in ten nodes are adversaries in one subnet: with limits they capture no more than this part of the lookups that
/// they capture without, and without adversaries nobody is worse off.
fn limits_help(overlay: &str, part: f64, run: impl Fn(Siege, Option<SubnetLimits>) -> Outcome) {
    let [without, with] = [None, LIMITS].map(|limits| run(siege(Attack::Subnet), limits));
    println!("{overlay}: of 200, {} captured without limits, {} with", without.captured, with.captured);
    assert!(
        f64::from(with.captured) <= part * f64::from(without.captured),
        "{overlay}: {with:?}, without {without:?}"
    );
    let calm = run(siege(Attack::Nobody), LIMITS);
    assert!(calm.right >= 199, "{overlay}: {calm:?}");
}

#[test]
fn one_subnet_is_kept_out_of_kademlias_buckets() {
    limits_help("Kademlia", 0.5, |siege, subnets| {
        siege.run::<KademliaTable<SimPeer>>(KademliaConfig { subnets, ..kademlia() })
    });
}

#[test]
fn one_subnet_is_kept_out_of_chords_fingers() {
    // Half of the way goes by successors, who have no limits.
    limits_help("Chord", 0.9, |siege, subnets| {
        siege.run::<ChordTable<SimPeer>>(ChordConfig { subnets, ..chord() })
    });
}

#[test]
fn one_subnet_is_kept_out_of_pastrys_rows() {
    limits_help("Pastry", 0.5, |siege, subnets| {
        siege.run::<PastryTable<SimPeer>>(PastryConfig { subnets, ..pastry() })
    });
}

#[test]
fn one_subnet_is_kept_out_of_tapestrys_levels() {
    limits_help("Tapestry", 0.5, |siege, subnets| {
        siege.run::<TapestryTable<SimPeer>>(TapestryConfig { subnets, ..tapestry() })
    });
}

#[test]
fn one_subnet_gets_no_more_zones_next_to_each_other_in_can() {
    let config = CanConfig { subnets: LIMITS, ..CanConfig::default() };
    let mut script = Script::new(Can::with(SimPeer(0), [], config));
    let mut welcomed = |newcomer: SimPeer| {
        let join = CanMsg::Join { key: newcomer.key(), last: true };
        script.message(newcomer, RoutedMsg::Upkeep(join));
        let sent = script.sent();
        sent.iter()
            .any(|(to, msg)| *to == newcomer && matches!(msg, RoutedMsg::Upkeep(CanMsg::Welcome { .. })))
    };
    let first = SimPeer::FIRST_IN_SHARED_SUBNET.0;
    let shared: Vec<bool> = (first..first + 6).map(SimPeer).map(&mut welcomed).collect();
    assert_eq!(shared, [true, true, true, true, false, false]);
    assert!(welcomed(SimPeer(1)), "somebody else");
}

/// Kademlia's and Chord's and Pastry's checks: who crowds around a key is seen, and whom the crowd stands before is
/// named as long as anybody else may answer; who names accomplices is seen through; and chance is no attack.
fn density_tells(overlay: &str, names_beyond: bool, run: impl Fn(Siege, Option<f64>) -> Outcome) {
    let crowd = run(siege(Attack::Crowd), Some(1e-3));
    println!("{overlay}, a crowd: {crowd:?}");
    assert!(crowd.flagged >= 180, "{overlay}: {crowd:?}");
    assert!(!names_beyond || crowd.right >= 160, "{overlay}: {crowd:?}");
    let [without, with] = [None, Some(1e-3)].map(|check| run(siege(Attack::Liars), check));
    println!("{overlay}, liars: {without:?}, with the check {with:?}");
    assert!(with.right >= without.right, "{overlay}: {with:?}, without {without:?}");
    assert!(2 * with.captured <= without.captured, "{overlay}: {with:?}, without {without:?}");
    // A hundredth, with room for three standard deviations.
    let calm = run(Siege { lookups: 1000, ..siege(Attack::Nobody) }, Some(1e-2));
    println!("{overlay}, nobody: {calm:?}");
    assert!(calm.flagged <= 20, "{overlay}: {calm:?}");
    assert!(calm.right >= 999, "{overlay}: {calm:?}");
}

fn checked(lookup: LookupConfig, density_check: Option<f64>) -> LookupConfig {
    LookupConfig { density_check, ..lookup }
}

#[test]
fn kademlia_tells_a_crowd_and_liars() {
    density_tells("Kademlia", true, |siege, check| {
        let lookup = checked(kademlia().lookup, check);
        siege.run::<KademliaTable<SimPeer>>(KademliaConfig { lookup, ..kademlia() })
    });
}

#[test]
fn chord_tells_a_crowd_and_liars() {
    density_tells("Chord", false, |siege, check| {
        siege.run::<ChordTable<SimPeer>>(ChordConfig { lookup: checked(chord().lookup, check), ..chord() })
    });
}

#[test]
fn pastry_tells_a_crowd_and_liars() {
    density_tells("Pastry", false, |siege, check| {
        siege
            .run::<PastryTable<SimPeer>>(PastryConfig { lookup: checked(pastry().lookup, check), ..pastry() })
    });
}

/// Of the 16 closest to random keys, the part that know all 16.
fn know_their_siblings(experiment: &Experiment, config: KademliaConfig) -> f64 {
    let mut sim = experiment.build::<Kademlia<SimPeer>>(config);
    let mut nodes: Vec<(Key, SimPeer)> = sim.alive().iter().map(|peer| (peer.key(), *peer)).collect();
    nodes.sort_unstable();
    let (mut know, mut asked) = (0, 0);
    for _ in 0..100 {
        let key = sim.workload_rng().key();
        let siblings = Kademlia::<SimPeer>::owners(&nodes, &key, 16);
        let named = siblings.iter().filter_map(|peer| sim.node(*peer)).map(|node| node.replicas(&key, 16));
        for named in named {
            asked += 1;
            know += u32::from(named == Replicas::Peers(siblings.clone()));
        }
    }
    println!("{know} of {asked} know all 16 siblings");
    f64::from(know) / f64::from(asked)
}

/// S/Kademlia §4.2: with η·s neighbours nodes know all their siblings with high probability, also when they have found
/// them by themselves; with k = 8 alone they do not.
#[test]
fn siblings_know_each_other() {
    let listed = |config| KademliaConfig { siblings: 16, ..config };
    let narrow = |config| KademliaConfig { k: 8, ..config };
    let at_rest = Experiment::default();
    assert!(know_their_siblings(&at_rest, narrow(kademlia())) < 0.9);
    assert!(know_their_siblings(&at_rest, listed(narrow(kademlia()))) > 0.999);
    let joined = Experiment { nodes: 200, start: Start::Joined, ..Experiment::default() };
    assert!(know_their_siblings(&joined, listed(narrow(KademliaConfig::default()))) > 0.99);
}
