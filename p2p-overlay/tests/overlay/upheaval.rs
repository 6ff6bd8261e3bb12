//! What `lab upheaval` measures at 1,000 nodes, with 100: as many again join within a minute, half die in one moment, a
//! cut parts the network for ten minutes. Each overlay is right again, and whole, within a bound.

#![allow(clippy::print_stdout, reason = "what was measured is worth seeing")]

use std::time::Duration;

use p2p_core::SimPeer;
use p2p_core::sim::run_seeds;
use p2p_overlay::measure::Simulated;
use p2p_overlay::measure::upheaval::{Strike, Upheaval};
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
