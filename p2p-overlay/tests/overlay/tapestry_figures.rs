//! What is known of Tapestry, by the code that runs on the wire.

#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "what was measured is worth seeing")]

use std::collections::BTreeMap;
use std::time::Duration;

use p2p_core::sim::{Encoding, Histogram, Latency, Network, Session, Sim, churn};
use p2p_core::{Key, OpId, Rng, SimPeer, Time};
use p2p_overlay::measure::Experiment;
use p2p_overlay::{
    Mode, ObjectCommand, ObjectConfig, ObjectOutcome, Overlay, Tapestry, TapestryConfig, TapestryObjects,
};

use crate::figures::{in_bamboos_range, steady};

/// A network that stays as it is.
fn at_rest() -> TapestryConfig {
    TapestryConfig { upkeep: Duration::ZERO, ..TapestryConfig::default() }
}

/// JSAC §II: static, every lookup ends at the one root, from wherever it starts, after about log16 N hops: 2.49, 3.32
/// and 4.15 at 10^3, 10^4 and 10^5 nodes (±5%: where few share a digit, there is less to resolve).
#[test]
fn the_path_is_the_logarithm_to_base_sixteen() {
    for (nodes, hops) in [(1000, 2.49), (10_000, 3.32), (100_000, 4.15)] {
        let experiment =
            Experiment { nodes, lookups: 4000, rate: 1000.0, network: steady(), ..Experiment::default() };
        let report = experiment.run::<Tapestry<SimPeer>>(at_rest());
        assert_eq!((report.success(), report.agreement()), (1.0, 1.0), "{nodes} nodes");
        let mean = report.hops.mean();
        println!("{nodes} nodes: {mean:.3} hops, expected {hops} ±5%; load {:?}", report.load);
        assert!((mean / hops - 1.0).abs() <= 0.05, "{mean} hops with {nodes} nodes");
        assert_eq!(report.load.mean(), 50.0, "every key is somebody's, and nobody else's");
    }
}

/// Every mode of travel finds the same roots.
#[test]
fn every_mode_finds_the_root() {
    for mode in [Mode::SemiRecursive, Mode::Recursive, Mode::iterative(1), Mode::iterative(3)] {
        let experiment =
            Experiment { mode: Some(mode), lookups: 2000, network: steady(), ..Experiment::default() };
        let report = experiment.run::<Tapestry<SimPeer>>(at_rest());
        assert_eq!((report.success(), report.agreement()), (1.0, 1.0), "{mode:?}");
    }
}

#[test]
fn lookups_in_bamboos_range() {
    in_bamboos_range::<Tapestry<SimPeer>>(TapestryConfig::default(), TapestryConfig::default());
}

const SECOND: Duration = Duration::from_secs(1);

/// A network with objects, at rest at first.
fn with_objects(
    seed: u64,
    nodes: u32,
    network: Network,
    config: TapestryConfig,
) -> Sim<TapestryObjects<SimPeer>> {
    let mut sim = Sim::<TapestryObjects<SimPeer>>::new(seed, network);
    sim.population(move |birth| {
        let seeds = birth.some(3);
        TapestryObjects::new(Tapestry::with(birth.peer, seeds, config), ObjectConfig::default())
    });
    let peers: Vec<SimPeer> = (0..nodes).map(SimPeer).collect();
    for node in Tapestry::converged(&peers, config) {
        sim.spawn(|_| TapestryObjects::new(node, ObjectConfig::default()));
    }
    sim
}

/// Somebody who has joined.
fn anybody(sim: &mut Sim<TapestryObjects<SimPeer>>) -> SimPeer {
    loop {
        let at = sim.workload_rng().next_u64() as usize % sim.alive().len();
        let peer = sim.alive()[at];
        if sim.node(peer).is_some_and(|node| node.overlay().is_joined()) {
            return peer;
        }
    }
}

/// Publishes objects at nodes anywhere, and says where each is.
fn publish(sim: &mut Sim<TapestryObjects<SimPeer>>, objects: usize) -> Vec<(Key, SimPeer)> {
    let place = |sim: &mut Sim<_>| {
        let (object, server) = (sim.workload_rng().key(), anybody(sim));
        sim.command(server, ObjectCommand::Publish(object));
        (object, server)
    };
    (0..objects).map(|_| place(sim)).collect()
}

/// JSAC §V: static, every object is located, in about log16 N hops (2.49), and one more to whoever has it.
#[test]
fn every_object_is_located() {
    let mut sim = with_objects(1, 1000, steady(), at_rest());
    let objects = publish(&mut sim, 500);
    sim.run_for(5 * SECOND);
    for ended in sim.take_outcomes() {
        assert!(
            matches!(ended.outcome, ObjectOutcome::Published(Ok(4))),
            "all roots know: {:?}",
            ended.outcome
        );
    }
    let mut hops = Histogram::default();
    for (object, server) in objects.iter().cycle().take(5000) {
        let from = anybody(&mut sim);
        sim.command(from, ObjectCommand::Locate(*object));
        let until = sim.now() + 30 * SECOND;
        assert!(sim.run_to_outcome(until));
        let ended = sim.take_outcomes().pop().unwrap();
        let ObjectOutcome::Located(Ok(located)) = ended.outcome else { panic!("{:?}", ended.outcome) };
        assert_eq!(located.server, *server);
        hops.add(located.hops.into());
    }
    println!("located after {hops:?} hops");
    assert!(hops.mean() <= 3.49, "{} hops", hops.mean());
}

/// JSAC §V, and Bamboo's range: over 95% of the objects whose publisher lives are located under churn.
#[test]
fn objects_under_churn() {
    for minutes in [60.0, 1.4] {
        let network = Network {
            latency: Latency::Exponential(Duration::from_millis(50)),
            encoding: Encoding::Measure,
            ..Network::default()
        };
        let mut sim = with_objects(1, 1000, network, TapestryConfig::default());
        let session = Session::Exponential { median: Duration::from_secs_f64(minutes * 60.0) };
        sim.inject(churn(&mut Rng::new(2), 1000, 1000, session, 900 * SECOND));
        let mut objects: Vec<(Time, Key, SimPeer)> = Vec::new();
        let mut asked: BTreeMap<OpId, SimPeer> = BTreeMap::new();
        let (mut located, mut lost) = (0u32, 0u32);
        let before = sim.stats();
        for second in 0..600 {
            let published = publish(&mut sim, 3).into_iter();
            objects.extend(published.map(|(object, server)| (sim.now(), object, server)));
            // Whose publisher has died is gone; and who has only just begun to publish is given a moment.
            objects.retain(|(_, _, server)| sim.node(*server).is_some());
            for _ in 0..10 {
                let (since, object, server) = *sim.workload_rng().choose(&objects).unwrap();
                if second >= 300 && sim.now() - since >= 10 * SECOND {
                    let from = anybody(&mut sim);
                    asked.insert(sim.command(from, ObjectCommand::Locate(object)), server);
                }
            }
            sim.run_for(SECOND);
            for ended in sim.take_outcomes() {
                let Some(server) = asked.remove(&ended.op) else { continue };
                match ended.outcome {
                    ObjectOutcome::Located(Ok(found)) if found.server == server => located += 1,
                    _ if sim.node(server).is_some() => lost += 1,
                    _ => {}
                }
            }
        }
        let bytes = (sim.stats().bytes - before.bytes) as f64 / 1000.0 / 600.0;
        let share = f64::from(located) / f64::from(located + lost);
        println!(
            "{minutes} minutes: {share:.4} of {} located, {bytes:.0} bytes a node and second",
            located + lost
        );
        assert!(located + lost > 2000 && share > 0.95, "{share} located at {minutes} minutes");
    }
}

/// What became of looking for objects, of some pairs of an asker and a publisher about as far from each other.
#[derive(Debug, Default)]
struct Pairs {
    /// Milliseconds to the publisher and back.
    direct: f64,
    /// Milliseconds until the publisher has answered.
    took: f64,
    hops: f64,
}

/// Looks for objects on a plane, and gives the sixth of the pairs that are nearest to each other, the next, and so on.
fn on_a_plane(config: TapestryConfig) -> Vec<Pairs> {
    let network = Network { latency: Latency::Plane(Duration::from_millis(100)), ..Network::default() };
    let mut sim = with_objects(1, 1000, network, config);
    // Chance chose the neighbours that it begins with.
    sim.run_for(900 * SECOND);
    let objects = publish(&mut sim, 500);
    sim.run_for(20 * SECOND);
    sim.take_outcomes();
    let mut found: Vec<(Duration, Duration, u32)> = Vec::new();
    for (object, server) in objects.iter().cycle().take(6000) {
        let (from, began) = (anybody(&mut sim), sim.now());
        sim.command(from, ObjectCommand::Locate(*object));
        assert!(sim.run_to_outcome(began + 30 * SECOND));
        let ended = sim.take_outcomes().pop().unwrap();
        let ObjectOutcome::Located(Ok(located)) = ended.outcome else { panic!("{:?}", ended.outcome) };
        if from != *server {
            found.push((2 * sim.latency(from, *server), ended.at - began, located.hops));
        }
    }
    found.sort_unstable();
    let sixths = found.chunks(found.len().div_ceil(6)).map(|part| {
        let mean =
            |of: fn(&(Duration, Duration, u32)) -> f64| part.iter().map(of).sum::<f64>() / part.len() as f64;
        Pairs {
            direct: mean(|pair| pair.0.as_secs_f64() * 1e3),
            took: mean(|pair| pair.1.as_secs_f64() * 1e3),
            hops: mean(|pair| pair.2.into()),
        }
    });
    sixths.collect()
}

/// JSAC §V-B, on a plane: the nearer an object, the sooner and after the fewer hops it is found. The stretch, which is
/// the time by that of asking the publisher itself, is *highest* for near objects all the same, because there a short
/// detour counts for much. Neighbours that are chosen by their distance are what keeps it
/// low: by at least a third for the nearest.
#[test]
fn near_objects_are_found_nearby() {
    let (near, chance) = (on_a_plane(TapestryConfig::default()), on_a_plane(at_rest()));
    for (what, pairs) in [("the nearest neighbours", &near), ("any neighbours", &chance)] {
        for Pairs { direct, took, hops } in pairs {
            println!(
                "{what}: {direct:.1} ms away, found in {took:.1} ms, stretch {:.2}, {hops:.2} hops",
                took / direct
            );
        }
    }
    assert!(near.is_sorted_by(|a, b| a.took < b.took), "{near:?}");
    assert!(near.is_sorted_by(|a, b| a.hops < b.hops), "{near:?}");
    assert!(near[0].took < chance[0].took * 2.0 / 3.0, "{near:?} {chance:?}");
}
