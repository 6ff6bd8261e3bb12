//! What `lab upheaval` measures at 1,000 nodes, with 100: as many again join within a minute, half die in one moment, a
//! cut parts the network for ten minutes. Each overlay is right again, and whole, within a bound. So it is after a few of
//! a small network were cut off.

#![allow(clippy::print_stdout, reason = "what was measured is worth seeing")]

use std::time::Duration;

use p2p_core::SimPeer;
use p2p_core::sim::{Cut, Fault, run_seeds};
use p2p_overlay::measure::upheaval::{Strike, Upheaval};
use p2p_overlay::measure::{Experiment, Simulated};
use p2p_overlay::{
    Can, CanConfig, Chord, ChordConfig, Kademlia, KademliaConfig, Pastry, PastryConfig, Tapestry,
    TapestryConfig,
};

/// Chord stabilises as often as under churn.
fn often() -> ChordConfig {
    ChordConfig { stabilize: Duration::from_secs(5), fingers: 3, ..ChordConfig::default() }
}

/// Within so many seconds everything is right, and whole.
fn recovers<O: Simulated>(strike: Strike, config: O::Config, within: u64) {
    run_seeds(1, |seed| {
        let within = Duration::from_secs(within);
        // A minute in which nothing is wrong, and the time for the last answers, come after.
        let patience = within + Duration::from_secs(75);
        let upheaval = Upheaval { nodes: 100, probes: 20, seed, patience, ..Upheaval::by(strike) };
        let aftermath = upheaval.run::<O>(config);
        let (most, all, whole) = (aftermath.to_right(0.99), aftermath.to_all_right(), aftermath.whole);
        println!("{strike:?}: 99% right after {most:?}, all after {all:?}, whole after {whole:?}");
        assert!(aftermath.converged().is_some_and(|took| took <= within), "{}", aftermath.flaw);
        if strike == Strike::Partition {
            assert!(aftermath.apart > 0.99, "{} right in the halves", aftermath.apart);
        }
        aftermath.trace
    });
}

#[test]
fn can_recovers_from_a_mass_join() {
    recovers::<Can<SimPeer>>(Strike::MassJoin, CanConfig::default(), 300);
}

#[test]
fn can_recovers_from_a_mass_failure() {
    recovers::<Can<SimPeer>>(Strike::MassFailure, CanConfig::default(), 300);
}

#[test]
fn can_recovers_from_a_partition() {
    recovers::<Can<SimPeer>>(Strike::Partition, CanConfig::default(), 600);
}

#[test]
fn chord_recovers_from_a_mass_join() {
    recovers::<Chord<SimPeer>>(Strike::MassJoin, often(), 300);
}

#[test]
fn chord_recovers_from_a_mass_failure() {
    recovers::<Chord<SimPeer>>(Strike::MassFailure, often(), 300);
}

#[test]
fn chord_recovers_from_a_partition() {
    recovers::<Chord<SimPeer>>(Strike::Partition, often(), 600);
}

#[test]
fn kademlia_recovers_from_a_mass_join() {
    recovers::<Kademlia<SimPeer>>(Strike::MassJoin, KademliaConfig::default(), 300);
}

#[test]
fn kademlia_recovers_from_a_mass_failure() {
    recovers::<Kademlia<SimPeer>>(Strike::MassFailure, KademliaConfig::default(), 300);
}

#[test]
fn kademlia_recovers_from_a_partition() {
    recovers::<Kademlia<SimPeer>>(Strike::Partition, KademliaConfig::default(), 600);
}

#[test]
fn pastry_recovers_from_a_mass_join() {
    recovers::<Pastry<SimPeer>>(Strike::MassJoin, PastryConfig::default(), 300);
}

#[test]
fn pastry_recovers_from_a_mass_failure() {
    recovers::<Pastry<SimPeer>>(Strike::MassFailure, PastryConfig::default(), 300);
}

#[test]
fn pastry_recovers_from_a_partition() {
    recovers::<Pastry<SimPeer>>(Strike::Partition, PastryConfig::default(), 600);
}

#[test]
fn tapestry_recovers_from_a_mass_join() {
    recovers::<Tapestry<SimPeer>>(Strike::MassJoin, TapestryConfig::default(), 300);
}

#[test]
fn tapestry_recovers_from_a_mass_failure() {
    recovers::<Tapestry<SimPeer>>(Strike::MassFailure, TapestryConfig::default(), 300);
}

#[test]
fn tapestry_recovers_from_a_partition() {
    recovers::<Tapestry<SimPeer>>(Strike::Partition, TapestryConfig::default(), 600);
}

/// Three of twelve are cut off for so long that both parts take each other for dead. When the cut is mended, all are one
/// network again within two minutes, though few look for the others.
fn few_find_back<O: Simulated>(config: O::Config) {
    run_seeds(20, |seed| {
        let network = Upheaval::by(Strike::Partition).network;
        let mut sim = Experiment { nodes: 12, seed, network, ..Experiment::default() }.build::<O>(config);
        let (few, rest) = ((0..3).map(SimPeer), (3..12).map(SimPeer));
        sim.inject(vec![(Duration::ZERO, Fault::Cut(Cut::between(few, rest)))]);
        sim.run_for(Duration::from_secs(240));
        assert!(O::is_whole(&sim.view()).is_err(), "nobody was forgotten");
        sim.inject(vec![(Duration::ZERO, Fault::Heal)]);
        let is_whole = |_: &u64| {
            sim.run_for(Duration::from_secs(1));
            O::is_whole(&sim.view()).is_ok()
        };
        let took = (1..=120).find(is_whole);
        println!("whole after {took:?} s");
        assert!(took.is_some(), "{:?}", O::is_whole(&sim.view()));
        sim.trace()
    });
}

#[test]
fn few_find_back_into_can() {
    few_find_back::<Can<SimPeer>>(CanConfig::default());
}

#[test]
fn few_find_back_into_chord() {
    few_find_back::<Chord<SimPeer>>(often());
}

#[test]
fn few_find_back_into_kademlia() {
    few_find_back::<Kademlia<SimPeer>>(KademliaConfig::default());
}

#[test]
fn few_find_back_into_pastry() {
    few_find_back::<Pastry<SimPeer>>(PastryConfig::default());
}

#[test]
fn few_find_back_into_tapestry() {
    few_find_back::<Tapestry<SimPeer>>(TapestryConfig::default());
}
