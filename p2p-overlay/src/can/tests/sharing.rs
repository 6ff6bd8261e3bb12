//! Zones that several nodes share (§3.4).

use std::collections::BTreeMap;
use std::time::Duration;

use p2p_core::sim::{FaultMix, Session, Sim, churn, random_faults, run_seeds};
use p2p_core::{Rng, Script, SimPeer};

use super::super::*;
use super::{SECOND, network, quick, settles};
use crate::measure::Experiment;
use crate::structured::{Find, Maintenance, Overlay};
use crate::trouble::{IN_PIECES, troubled};

const PEERS: u8 = 3;

fn sharing(dimensions: u8) -> CanConfig {
    CanConfig { zone_peers: PEERS, ..quick(dimensions) }
}

/// How many nodes share each zone.
fn holders(sim: &Sim<Can<SimPeer>>) -> BTreeMap<Zone, Vec<SimPeer>> {
    let mut holders: BTreeMap<Zone, Vec<SimPeer>> = BTreeMap::new();
    for (peer, node) in sim.view().iter() {
        for claim in node.table().claims() {
            holders.entry(claim.zone).or_default().push(peer);
        }
    }
    holders
}

#[test]
fn newcomers_share_a_zone_until_it_is_full() {
    run_seeds(3, |seed| {
        let mut sim = network(seed, 1, sharing(2));
        for nodes in 2..=60 {
            sim.join();
            sim.run_for(2 * SECOND);
            if nodes == PEERS {
                assert_eq!(holders(&sim).len(), 1, "all share the whole space");
            }
        }
        settles(&mut sim, 60 * SECOND);
        let holders = holders(&sim);
        assert!(holders.values().all(|peers| peers.len() <= PEERS.into()), "{holders:?}");
        assert!((20..40).contains(&holders.len()), "{} zones", holders.len());
        sim.trace()
    });
}

/// Many join at once: for a moment more may share a zone than should.
#[test]
fn a_crowd_shares_zones() {
    run_seeds(5, |seed| {
        let mut sim = network(seed, 1, sharing(2));
        for _ in 0..100 {
            sim.join();
            sim.run_for(Duration::from_millis(50));
        }
        settles(&mut sim, 180 * SECOND);
        sim.trace()
    });
}

#[test]
fn a_network_that_shares_mends_after_churn() {
    run_seeds(5, |seed| {
        let mut sim = network(seed, 60, sharing(2 + (seed % 3) as u8));
        let session = Session::Exponential { median: 45 * SECOND };
        sim.inject(churn(&mut Rng::stream(seed, 77), 60, 60, session, 120 * SECOND));
        sim.run_for(120 * SECOND);
        settles(&mut sim, 180 * SECOND);
        sim.trace()
    });
}

#[test]
fn a_network_that_shares_mends_after_random_faults() {
    run_seeds(5, |seed| {
        let mut sim = network(seed, 40, sharing(3));
        let peers = sim.alive().to_vec();
        let mix = FaultMix { crashes: 5, pauses: 4, cuts: 2, clogs: 6, drifts: 4 };
        sim.inject(random_faults(&mut Rng::stream(seed, 78), &peers, 60 * SECOND, mix));
        sim.run_for(60 * SECOND);
        settles(&mut sim, 300 * SECOND);
        sim.trace()
    });
}

#[test]
fn shared_zones_tile_the_space_after_cuts_and_whatever_else_goes_wrong() {
    run_seeds(3, |seed| troubled::<Can<SimPeer>>(seed, sharing(2), IN_PIECES, 600 * SECOND, |_| {}));
}

/// A zone is nobody's only when all who share it are dead: before that its keys are found as soon as somebody has been
/// asked in vain.
#[test]
fn the_death_of_one_who_shares_a_zone_loses_no_lookups() {
    run_seeds(3, |seed| {
        let mut sim = network(seed, 90, CanConfig { update: 60 * SECOND, ..sharing(2) });
        // All are told once of those around them.
        sim.run_for(120 * SECOND);
        let mut rng = Rng::new(seed);
        for _ in 0..10 {
            let shared: Vec<(Zone, Vec<SimPeer>)> =
                holders(&sim).into_iter().filter(|(_, peers)| peers.len() > 1).collect();
            let (zone, peers) = rng.choose(&shared).cloned().unwrap();
            sim.crash(*rng.choose(&peers).unwrap());
            for _ in 0..3 {
                let key = zone.key(&mut rng);
                let from = *rng.choose(sim.alive()).unwrap();
                let (began, handle) = (sim.now(), sim.handle(from));
                let found = sim.block_on(async move { handle.ask(Find::key(key)).await }).unwrap().unwrap();
                assert!(sim.node(found.root()).is_some_and(|node| node.mine().contains(&key)));
                let took = sim.now().since(began);
                assert!(took < 4 * SECOND, "{took:?}");
            }
        }
        sim.trace()
    });
}

/// Under churn lookups end at one of those who share the zone.
#[test]
fn lookups_in_shared_zones_under_churn() {
    let experiment = Experiment {
        nodes: 300,
        lookups: 1000,
        rate: 10.0,
        churn: Some(Session::Exponential { median: 600 * SECOND }),
        ..Experiment::default()
    };
    let report = experiment.run::<Can<SimPeer>>(CanConfig { zone_peers: PEERS, ..CanConfig::default() });
    println!("{:.4} right", report.success());
    assert!(report.success() > 0.99, "{}", report.success());
}

#[test]
fn copies_lie_with_those_who_share_the_zone() {
    let sim = network(1, 60, sharing(2));
    let (zone, peers) = holders(&sim).into_iter().max_by_key(|(_, peers)| peers.len()).unwrap();
    let key = zone.key(&mut Rng::new(1));
    for peer in &peers {
        let table = sim.node(*peer).unwrap().table();
        let Replicas::Peers(mut copies) = Maintenance::replicas(table, &key, 8, false) else {
            panic!("keys")
        };
        assert_eq!(copies[0], *peer);
        copies.sort_unstable();
        assert_eq!(copies, peers);
    }
}

/// A neighbour that names hundreds with whom it shares, and dies, does not keep its zone from being taken over.
#[test]
fn few_are_believed_to_share_a_zone() {
    let peers: Vec<SimPeer> = (0..60).map(SimPeer).collect();
    let table = Can::converged(&peers, sharing(2)).swap_remove(7).table().clone();
    let own = table.claims[0];
    let (liar, its) = table
        .neighbours
        .iter()
        .find(|other| !other.claims.contains(&own))
        .map(|other| (other.peer, other.claims.clone()))
        .unwrap();
    let mut script = Script::new(table);
    let named = (0..256).map(|i| (SimPeer(1000 + i), its[0])).collect();
    let state = CanState { claims: its, neighbours: Some(named) };
    script.message(liar, CanMsg::Update { id: 0, full: false, state });
    let told = script.machine().neighbours.iter().find(|other| other.peer == liar).map(|other| &other.told);
    assert_eq!(told.map(|told| told.len()), Some(16));
}

/// Half of a zone is for those who share it to give, and only of the zone as it is.
#[test]
fn a_half_that_nobody_may_give_changes_nothing() {
    let peers: Vec<SimPeer> = (0..60).map(SimPeer).collect();
    let table = Can::converged(&peers, sharing(2)).swap_remove(7).table().clone();
    let (own, neighbour) = (table.claims[0], table.neighbours[0].peer);
    let (half, _) = own.split().unwrap();
    let mut script = Script::new(table);
    let other = Claim { version: own.version + 1, ..own };
    let (later, _) = other.split().unwrap();
    for (from, whole, half) in [
        (SimPeer(1000), own, half),
        (neighbour, other, later),
        (neighbour, own, later),
        (neighbour, own, own),
        (neighbour, own, half.split().unwrap().0),
    ] {
        script.message(from, CanMsg::Half { whole, half });
        assert_eq!(script.machine().claims, [own]);
    }
    script.message(neighbour, CanMsg::Half { whole: own, half });
    assert_eq!(script.machine().claims, [half]);
}
