//! The zones must tile the space, and everybody must know its neighbours, whenever all is quiet.

mod claims;
pub(super) mod geometry;
mod lookups;
mod realities;
mod sharing;

use std::time::Duration;

use p2p_core::sim::{
    Cut, Encoding, Fault, FaultMix, Latency, Network, Session, Sim, churn, random_faults, run_seeds,
};
use p2p_core::{Rng, SimPeer};

use super::zones::{abuts, volume};
use super::*;
use crate::trouble::{IN_PIECES, comes_back, troubled};

const SECOND: Duration = Duration::from_secs(1);

/// Networks that settle quickly.
fn quick(dimensions: u8) -> CanConfig {
    CanConfig { dimensions, update: 3 * SECOND, ..CanConfig::default() }
}

/// A network of `nodes` at rest that joins, leaves and updates from then on.
fn network(seed: u64, nodes: u32, config: CanConfig) -> Sim<Can<SimPeer>> {
    let network = Network {
        latency: Latency::Uniform(Duration::from_millis(10), Duration::from_millis(80)),
        encoding: Encoding::RoundTrip,
        ..Network::default()
    };
    let mut sim = Sim::<Can<SimPeer>>::new(seed, network);
    sim.population(move |birth| {
        let seeds = birth.some(4);
        Can::with(birth.peer, seeds, config)
    });
    let peers: Vec<SimPeer> = (0..nodes).map(SimPeer).collect();
    for node in Can::converged(&peers, config) {
        sim.spawn(|_| node);
    }
    sim
}

/// Zones tile the space, and neighbours know each other and each other's zones.
fn is_whole(sim: &Sim<Can<SimPeer>>) -> Result<(), String> {
    whole::is_whole(&sim.view())
}

/// Runs until the network is whole, at most this long; says how long it took.
#[track_caller]
fn settles(sim: &mut Sim<Can<SimPeer>>, within: Duration) -> Duration {
    let from = sim.now();
    let mut state = is_whole(sim);
    while state.is_err() && sim.now().since(from) < within {
        sim.run_for(SECOND);
        state = is_whole(sim);
    }
    if let Err(why) = state {
        panic!("not whole after {within:?}: {why}");
    }
    sim.now().since(from)
}

/// The share of zones that are some node's second or third.
fn surplus(sim: &Sim<Can<SimPeer>>) -> usize {
    sim.view().iter().map(|(_, node)| node.table().claims.len() - 1).sum()
}

#[test]
fn a_network_grows_from_a_single_node() {
    run_seeds(3, |seed| {
        for dimensions in 1..=4 {
            let mut sim = network(seed, 1, quick(dimensions));
            for _ in 0..40 {
                sim.join();
                sim.run_for(SECOND);
            }
            settles(&mut sim, 30 * SECOND);
        }
    });
}

/// Many join at once, through members that have only just joined themselves.
#[test]
fn a_crowd_joins_at_once() {
    run_seeds(10, |seed| {
        let mut sim = network(seed, 1, quick(2));
        for _ in 0..100 {
            sim.join();
            sim.run_for(Duration::from_millis(20));
        }
        settles(&mut sim, 120 * SECOND);
        sim.trace()
    });
}

#[test]
fn the_zone_of_a_dead_node_is_taken_over_within_seconds() {
    run_seeds(10, |seed| {
        let mut sim = network(seed, 40, quick(2));
        sim.run_for(10 * SECOND);
        sim.crash(SimPeer(seed as u32));
        let took = settles(&mut sim, 30 * SECOND);
        assert!(took < 15 * SECOND, "{took:?}");
        sim.trace()
    });
}

/// Of 60 nodes a third dies at once, neighbours among them.
#[test]
fn a_network_mends_after_many_deaths_side_by_side() {
    run_seeds(10, |seed| {
        let mut sim = network(seed, 60, quick(2));
        sim.run_for(10 * SECOND);
        let mut victims: Vec<SimPeer> = sim.alive().to_vec();
        Rng::stream(seed, 5).shuffle(&mut victims);
        victims.iter().take(20).for_each(|peer| sim.crash(*peer));
        settles(&mut sim, 300 * SECOND);
        sim.trace()
    });
}

/// By default settings: as many nodes again join within a minute; then half of all die at once.
#[test]
fn a_mass_join_and_a_mass_failure_end_well() {
    run_seeds(1, |seed| {
        let mut sim = network(seed, 100, CanConfig::default());
        sim.run_for(60 * SECOND);
        for _ in 0..100 {
            sim.join();
            sim.run_for(Duration::from_millis(600));
        }
        println!("100 nodes and 100 more: whole after {:?}", settles(&mut sim, 120 * SECOND));
        sim.run_for(60 * SECOND);
        let mut victims: Vec<SimPeer> = sim.alive().to_vec();
        Rng::stream(seed, 5).shuffle(&mut victims);
        victims.iter().take(100).for_each(|peer| sim.crash(*peer));
        println!("half of 200 nodes dead: whole after {:?}", settles(&mut sim, 900 * SECOND));
        sim.trace()
    });
}

#[test]
fn a_network_mends_after_churn() {
    run_seeds(10, |seed| {
        let dimensions = 2 + (seed % 3) as u8;
        let mut sim = network(seed, 40, quick(dimensions));
        let session = Session::Exponential { median: 45 * SECOND };
        sim.inject(churn(&mut Rng::stream(seed, 77), 40, 40, session, 120 * SECOND));
        sim.run_for(120 * SECOND);
        settles(&mut sim, 120 * SECOND);
        sim.trace()
    });
}

#[test]
fn a_network_mends_after_random_faults() {
    run_seeds(10, |seed| {
        let mut sim = network(seed, 24, quick(3));
        let peers = sim.alive().to_vec();
        let mix = FaultMix { crashes: 3, pauses: 4, cuts: 2, clogs: 6, drifts: 4 };
        sim.inject(random_faults(&mut Rng::stream(seed, 78), &peers, 60 * SECOND, mix));
        sim.run_for(60 * SECOND);
        settles(&mut sim, 180 * SECOND);
        sim.trace()
    });
}

/// No node claims a place twice, or keeps a neighbour that is none of its zones', whatever goes wrong; and then the
/// zones tile the space again.
#[test]
fn the_zones_tile_the_space_after_cuts_and_whatever_else_goes_wrong() {
    run_seeds(3, |seed| {
        troubled::<Can<SimPeer>>(seed, quick(2), IN_PIECES, 600 * SECOND, |sim| {
            sim.check_each_step(|_, node| {
                let claims = &node.table().claims;
                let twice = |i: usize| claims[..i].iter().any(|one| one.zone.overlaps(&claims[i].zone));
                let alone =
                    |other: &Neighbour<SimPeer>| !other.claims.iter().any(|its| abuts(claims, &its.zone));
                if (0..claims.len()).any(twice) {
                    return Err(format!("claims overlap: {claims:?}"));
                }
                match node.table().neighbours.iter().find(|other| alone(other)) {
                    Some(other) => {
                        Err(format!("{} is no neighbour of {claims:?}: {:?}", other.peer, other.claims))
                    }
                    None => Ok(()),
                }
            });
        })
    });
}

/// Both halves take each other's zones over; when the cut is mended they become one network again.
#[test]
fn two_halves_of_a_network_become_one_again() {
    run_seeds(5, |seed| {
        let nodes = [15, 25, 40, 60][seed as usize % 4];
        let mut sim = network(seed, nodes, quick(2));
        sim.run_for(10 * SECOND);
        let half = (0..nodes).filter(|i| i % 3 == 0).map(SimPeer);
        let rest = (0..nodes).filter(|i| i % 3 != 0).map(SimPeer);
        sim.inject(vec![(Duration::ZERO, Fault::Cut(Cut::between(half, rest))), (600 * SECOND, Fault::Heal)]);
        sim.run_for(600 * SECOND);
        assert!(is_whole(&sim).is_err(), "each half goes on by itself");
        println!(
            "{nodes} nodes cut in two for ten minutes: whole after {:?}",
            settles(&mut sim, 600 * SECOND)
        );
        sim.trace()
    });
}

/// Two networks of separate founders, and one node that was told of both.
#[test]
fn two_networks_that_hear_of_each_other_become_one() {
    run_seeds(5, |seed| {
        let mut sim = network(seed, 0, quick(2));
        let founders = [0, 1].map(|_| sim.spawn(|birth| Can::with(birth.peer, [], quick(2))));
        for i in 0..30 {
            sim.spawn(|birth| Can::with(birth.peer, [founders[i % 2]], quick(2)));
            sim.run_for(SECOND);
        }
        sim.run_for(30 * SECOND);
        let volume = |sim: &Sim<Can<SimPeer>>| {
            sim.view().iter().map(|(_, node)| volume(node.table().claims()) >> 120).sum::<u128>()
        };
        assert_eq!(volume(&sim), 2 << 6, "two networks");
        sim.spawn(|birth| Can::with(birth.peer, founders, quick(2)));
        settles(&mut sim, 600 * SECOND);
        sim.trace()
    });
}

#[test]
fn who_keeps_several_zones_gives_them_away() {
    run_seeds(5, |seed| {
        let mut sim = network(seed, 48, quick(2));
        (0..16).for_each(|i| sim.crash(SimPeer(i * 3)));
        settles(&mut sim, 300 * SECOND);
        sim.run_for(120 * SECOND);
        settles(&mut sim, 60 * SECOND);
        assert_eq!(surplus(&sim), 0, "zones that are not their node's only one");
        sim.trace()
    });
}

#[test]
fn who_is_back_joins_through_whoever_speaks_to_it() {
    comes_back::<Can<SimPeer>>(quick(2));
}
