//! The zones must tile the space, and everybody must know its neighbours, whenever all is quiet.

use std::time::Duration;

use p2p_core::sim::{
    Cut, Encoding, Fault, FaultMix, Latency, Network, Session, Sim, churn, random_faults, run_seeds,
};
use p2p_core::{Key, Keyed, Rng, Script, SimPeer, Wire};
use proptest::prelude::*;

use super::zones::{abuts, gaps, merge, volume};
use super::*;
use crate::structured::{Find, Maintenance, Mode, Overlay};
use crate::trouble::{IN_PIECES, troubled};

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
        let seeds: Vec<SimPeer> = (0..4).filter_map(|_| birth.rng.choose(birth.alive).copied()).collect();
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

/// Whoever asks notices the death, its neighbours look at once, and the question is tried again until somebody has the
/// zone: long before the next update.
#[test]
fn a_lookup_for_the_zone_of_a_dead_node_ends_at_whoever_takes_it_over() {
    run_seeds(10, |seed| {
        let mut sim = network(seed, 40, CanConfig { update: 600 * SECOND, ..quick(2) });
        // The neighbours of all are told once.
        sim.run_for(1200 * SECOND);
        let victim = SimPeer(seed as u32 % 40);
        let zone = sim.node(victim).unwrap().table().claims[0].zone;
        let key = zone.key(&mut Rng::new(seed));
        sim.crash(victim);
        let (from, handle) = (sim.now(), sim.handle(SimPeer((seed as u32 + 1) % 40)));
        let found = sim.block_on(async move { handle.ask(Find::key(key)).await }).unwrap().unwrap();
        assert!(sim.node(found.root()).is_some_and(|node| node.mine().contains(&key)));
        let took = sim.now().since(from);
        assert!(took < 10 * SECOND, "{took:?}");
        sim.trace()
    });
}

#[test]
fn copies_lie_at_keys_of_their_own() {
    let (script, _) = script();
    let key = Key::of(b"song.ogg");
    let Replicas::Keys(keys) = Maintenance::replicas(script.machine(), &key, 4, false) else {
        panic!("peers")
    };
    assert_eq!((keys.len(), keys[0]), (4, key));
    let distinct: std::collections::BTreeSet<Key> = keys.into_iter().collect();
    assert_eq!(distinct.len(), 4);
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

/// A table of a network at rest, which goes on from there, and a neighbour of it.
fn script() -> (Script<CanTable<SimPeer>>, SimPeer) {
    let peers: Vec<SimPeer> = (0..64).map(SimPeer).collect();
    let table = Can::converged(&peers, quick(2)).swap_remove(7).table().clone();
    let neighbour = table.neighbours[0].peer;
    (Script::new(table), neighbour)
}

/// A peer tells its zones.
fn tells(script: &mut Script<CanTable<SimPeer>>, from: SimPeer, claims: Vec<Claim>) {
    let state = CanState { claims, neighbours: None };
    script.message(from, CanMsg::Update { id: 0, full: false, state });
}

#[test]
fn of_two_who_claim_one_zone_the_later_claim_holds() {
    let (mut script, neighbour) = script();
    let own = script.machine().claims[0];
    let older = Claim { version: own.version - 1, ..own };
    tells(&mut script, neighbour, vec![older]);
    assert_eq!(script.machine().claims, [own]);
    let (half, _) = own.split().unwrap();
    tells(&mut script, neighbour, vec![half]);
    let left: Vec<Claim> = own.without(&half.zone).collect();
    assert_eq!(script.machine().claims, left, "a newcomer to half of it");
    let winner = script.sent().into_iter().filter(|(to, _)| *to == neighbour);
    let told =
        winner.filter(|(_, msg)| matches!(msg, CanMsg::Update { state, .. } if state.neighbours.is_some()));
    assert_eq!(told.count(), 1, "it hears who is around");
    tells(&mut script, neighbour, vec![own.taken_over(), half]);
    assert!(!script.machine().joined, "whoever has lost everything joins again");
}

#[test]
fn of_two_claims_alike_that_of_the_lesser_key_holds() {
    let (mut script, _) = script();
    let (me, own) = (script.machine().me, script.machine().claims[0]);
    let others = || (100..).map(SimPeer);
    let (greater, lesser) =
        (others().find(|peer| peer.key() > me.key()), others().find(|peer| peer.key() < me.key()));
    tells(&mut script, greater.unwrap(), vec![own]);
    assert_eq!(script.machine().claims, [own]);
    tells(&mut script, lesser.unwrap(), vec![own]);
    assert_eq!(script.machine().claims, []);
}

#[test]
fn what_a_peer_says_of_others_is_a_reason_to_ask_them_and_no_more() {
    let (mut script, neighbour) = script();
    let own = script.machine().claims[0];
    let its = script.machine().neighbours[0].claims.clone();
    let before: Vec<SimPeer> = script.machine().neighbours().map(|(peer, _)| peer).collect();
    script.sent();
    let rival = SimPeer(999);
    let state = CanState { claims: its, neighbours: Some(vec![(rival, own.taken_over())]) };
    script.message(neighbour, CanMsg::Update { id: 0, full: false, state });
    assert_eq!(script.machine().claims, [own]);
    assert!(script.machine().neighbours().map(|(peer, _)| peer).eq(before));
    let asked =
        script.sent().into_iter().any(|(to, msg)| to == rival && matches!(msg, CanMsg::Update { .. }));
    assert!(asked);
}

#[test]
fn zones_that_nobody_asked_for_change_nothing() {
    let (mut script, neighbour) = script();
    let before = script.machine().claims.clone();
    let far = script.machine().space.whole();
    let all = Claim { zone: far, version: 99 };
    script.message(neighbour, CanMsg::Welcome { claims: vec![all], neighbours: vec![(neighbour, all)] });
    script.message(neighbour, CanMsg::Elsewhere { peer: SimPeer(3) });
    script.message(neighbour, CanMsg::Take { claim: all, neighbours: Vec::new() });
    tells(&mut script, neighbour, vec![Claim { zone: Space::new(3).whole(), version: 99 }]);
    assert_eq!(script.machine().claims, before);
    tells(&mut script, neighbour, vec![all; 1000]);
    assert!(script.machine().neighbours.iter().all(|other| other.claims.len() <= 32));
}

#[test]
fn a_dead_neighbours_zone_is_taken_over_by_the_smallest() {
    let (mut script, neighbour) = script();
    let claims = script.machine().neighbours[0].claims.clone();
    let other = (SimPeer(500), Claim { zone: claims[0].zone.sibling().unwrap(), version: 1 });
    let state = CanState { claims: claims.clone(), neighbours: Some(vec![other]) };
    script.message(neighbour, CanMsg::Update { id: 0, full: true, state });
    script.sent();
    Maintenance::silent(&mut script.machine().clone(), p2p_core::Time::ZERO, neighbour);
    let mut heard = Vec::new();
    // The others answer, this one does not.
    for _ in 0..100 {
        script.advance(Duration::from_millis(100));
        for (to, msg) in script.sent() {
            match msg {
                CanMsg::Update { id, .. } if to != neighbour => {
                    let its = script.machine().neighbours().find(|(peer, _)| *peer == to);
                    let claims = its.map_or(Vec::new(), |(_, claims)| claims.to_vec());
                    script.message(to, CanMsg::Updated { id, state: CanState { claims, neighbours: None } });
                }
                CanMsg::Fallen { peer } => heard.push((to, peer)),
                _ => {}
            }
        }
    }
    assert_eq!(heard, [(SimPeer(500), neighbour)], "its other neighbour is to see for itself");
    let zone = claims[0].zone;
    assert!(
        script.machine().claims.iter().any(|own| own.zone.covers(&zone)),
        "{:?}",
        script.machine().claims
    );
}

/// Greedy routing meets dead ends where many are dead. A quarter is, and nothing is repaired: at least 95% of what can
/// be reached is found. (A question remembers 32 peers to leave out; the silent ones that it meets are most of them.)
#[test]
fn a_question_finds_its_way_around_the_dead() {
    // Each dead node met costs half a second.
    let lookup = LookupConfig { timeout: 60 * SECOND, tries: 2, ..quick(2).lookup };
    let config = CanConfig { update: Duration::ZERO, lookup, ..quick(2) };
    let (mut dead_ends, mut asked, mut right) = (0, 0, 0);
    for seed in 1..=5 {
        let mut sim = network(seed, 300, config);
        let mut victims: Vec<SimPeer> = sim.alive().to_vec();
        Rng::stream(seed, 5).shuffle(&mut victims);
        victims.iter().take(75).for_each(|peer| sim.crash(*peer));
        let mut rng = Rng::new(seed);
        for _ in 0..100 {
            let key = rng.key();
            let mine = |peer: &&SimPeer| sim.node(**peer).is_some_and(|node| node.mine().contains(&key));
            let Some(owner) = sim.alive().iter().find(mine).copied() else { continue };
            let from = *rng.choose(sim.alive()).unwrap();
            // Some are cut off by the dead.
            let lives = |peer: &SimPeer| sim.node(*peer).is_some();
            let mut reached = vec![from];
            let mut next = 0;
            while let Some(peer) = reached.get(next).copied() {
                let around = sim.node(peer).unwrap().table().neighbours().map(|(other, _)| other);
                let new: Vec<SimPeer> =
                    around.filter(|other| lives(other) && !reached.contains(other)).collect();
                reached.extend(new);
                next += 1;
            }
            if !reached.contains(&owner) {
                continue;
            }
            let dead: Vec<SimPeer> = (0..300).map(SimPeer).filter(|peer| !lives(peer)).collect();
            let stuck = |node: &Can<SimPeer>| node.next(&key, &dead) == Next::Nowhere;
            dead_ends += usize::from(sim.view().iter().any(|(_, node)| stuck(node)));
            asked += 1;
            let handle = sim.handle(from);
            let found = sim.block_on(async move { handle.ask(Find::key(key)).await }).unwrap();
            right += usize::from(found.is_ok_and(|found| found.root() == owner));
        }
    }
    assert!(dead_ends * 2 > asked, "{dead_ends} of {asked} keys have dead ends");
    assert!(right * 100 >= asked * 95, "{right} of {asked} found");
}

#[test]
fn every_mode_finds_the_owner() {
    for mode in [Mode::SemiRecursive, Mode::Recursive, Mode::iterative(1), Mode::iterative(3)] {
        let mut sim = network(3, 100, CanConfig { update: Duration::ZERO, ..quick(2) });
        let mut rng = Rng::new(9);
        for _ in 0..50 {
            let key = rng.key();
            let owner = sim.view().iter().find(|(_, node)| node.mine().contains(&key)).map(|(peer, _)| peer);
            let handle = sim.handle(*rng.choose(sim.alive()).unwrap());
            let found = sim.block_on(async move { handle.ask(Find::key(key).mode(mode)).await }).unwrap();
            assert_eq!(found.ok().map(|found| found.root()), owner, "{mode:?}");
        }
    }
}

#[test]
fn a_zone_travels_in_a_few_bytes() {
    let mut zone = Space::new(2).whole();
    (0..18).for_each(|_| zone = zone.split().unwrap().1);
    let msg = CanMsg::Reassign {
        claim: Claim { zone, version: 36 },
        neighbours: vec![(SimPeer(1), Claim { zone, version: 0 })],
    };
    let bytes = msg.to_bytes();
    let CanMsg::<SimPeer>::Reassign { claim, neighbours } = CanMsg::from_bytes(&bytes).unwrap() else {
        panic!()
    };
    assert_eq!((claim.zone, neighbours[0].1.zone), (zone, zone));
    // Version, kind, dimensions, halvings; then a path that is too long, or dimensions that are too many.
    assert_eq!(bytes[2..5], [2, 18, 3]);
    for (at, byte) in [(2, 9), (3, 65), (3, 8)] {
        let mut forged = bytes.clone();
        forged[at] = byte;
        assert!(CanMsg::<SimPeer>::from_bytes(&forged).is_err(), "byte {at} is {byte}");
    }
}

/// A CAN grown by random joins: each picks a point and halves the zone that holds it.
fn grown(rng: &mut Rng, dimensions: u8, nodes: usize) -> Vec<Zone> {
    let space = Space::new(dimensions);
    let mut zones = vec![space.whole()];
    while zones.len() < nodes {
        let point = space.point(&rng.key());
        let at = zones.iter().position(|zone| zone.contains(&point)).unwrap();
        let (lower, upper) = zones.swap_remove(at).split().unwrap();
        zones.extend([lower, upper]);
    }
    zones
}

/// Greedy routing over the true neighbours: the hops to the owner.
fn route(zones: &[Zone], neighbours: &[Vec<usize>], mut at: usize, point: &Point) -> usize {
    let mut hops = 0;
    while !zones[at].contains(point) {
        at = *neighbours[at].iter().min_by_key(|&&n| zones[n].distance(point)).unwrap();
        hops += 1;
        assert!(hops < zones.len(), "greedy routing went in circles");
    }
    hops
}

#[test]
fn zones_tile_the_torus_and_neighbours_are_symmetric() {
    for dimensions in 1..=4 {
        let mut rng = Rng::new(dimensions.into());
        let zones = grown(&mut rng, dimensions, 200);
        let volume: f64 = zones.iter().map(|zone| 0.5f64.powi(zone.halvings().into())).sum();
        assert_eq!(volume, 1.0);
        for _ in 0..200 {
            let point = Space::new(dimensions).point(&rng.key());
            assert_eq!(zones.iter().filter(|zone| zone.contains(&point)).count(), 1);
        }
        for a in &zones {
            assert!(zones.iter().all(|b| a.is_neighbour(b) == b.is_neighbour(a)));
            assert!(!a.is_neighbour(a));
        }
    }
}

/// §2: a space cut into n equal zones has paths of (d/4)·n^(1/d) hops on average, and 2d neighbours each.
#[test]
fn paths_grow_with_the_dth_root() {
    for (dimensions, nodes, root) in [(2u8, 1024usize, 32.0), (3, 512, 8.0)] {
        let space = Space::new(dimensions);
        let mut zones = vec![space.whole()];
        while zones.len() < nodes {
            zones = zones.iter().flat_map(|zone| <[Zone; 2]>::from(zone.split().unwrap())).collect();
        }
        let near = |a: &Zone| (0..zones.len()).filter(|&b| a.is_neighbour(&zones[b])).collect::<Vec<_>>();
        let neighbours: Vec<Vec<usize>> = zones.iter().map(near).collect();
        assert!(neighbours.iter().all(|near| near.len() == 2 * usize::from(dimensions)));
        let mut rng = Rng::new(7);
        let lookups = 4000;
        let total: usize = (0..lookups)
            .map(|_| route(&zones, &neighbours, rng.index(nodes), &space.point(&rng.key())))
            .sum();
        let expected = f64::from(dimensions) / 4.0 * root;
        let mean = total as f64 / f64::from(lookups);
        assert!((mean / expected - 1.0).abs() < 0.05, "{mean} hops, {expected} expected");
    }
}

proptest! {
    #[test]
    fn random_bytes_are_no_danger(kind in 0u8..8, rest in prop::collection::vec(0u8..8, 0..300)) {
        let bytes = [&[1, kind], rest.as_slice()].concat();
        if let Ok(msg) = CanMsg::<SimPeer>::from_bytes(&bytes) {
            let (mut script, neighbour) = script();
            script.message(neighbour, msg);
            script.advance(5 * SECOND);
        }
    }

    /// Whatever is cut out of a zone, the rest and the hole are as large as the whole, and put together they are it.
    #[test]
    fn the_rest_and_the_hole_make_the_whole(
        dimensions in 1u8..=4, key: [u8; 32], depth in 0usize..40, more in 0usize..20
    ) {
        let space = Space::new(dimensions);
        let point = space.point(&Key::new(key));
        let down = |zone: Zone, steps| (0..steps).fold(zone, |zone: Zone, _| {
            let Some((lower, upper)) = zone.split() else { return zone };
            if lower.contains(&point) { lower } else { upper }
        });
        let whole = down(space.whole(), depth);
        let hole = down(whole, more);
        prop_assert!(whole.covers(&hole) && hole.overlaps(&whole));
        let claim = Claim { zone: whole, version: 5 };
        let mut claims: Vec<Claim> = claim.without(&hole).collect();
        prop_assert!(claims.iter().all(|part| !part.zone.overlaps(&hole)));
        claims.push(Claim { zone: hole, version: 5 });
        prop_assert_eq!(volume(&claims), whole.volume());
        merge(&mut claims);
        prop_assert_eq!(claims, [claim]);
    }

    /// Of a network without one node the neighbours of that one miss its zone, and nothing else; all others miss
    /// nothing.
    #[test]
    fn gaps_are_where_somebody_is_missing(
        dimensions in 1u8..=3, seed: u64, nodes in 2usize..40, missing: prop::sample::Index
    ) {
        let mut zones = grown(&mut Rng::new(seed), dimensions, nodes);
        let hole = zones.swap_remove(missing.index(nodes));
        for zone in &zones {
            let others: Vec<Zone> = zones.iter().filter(|other| *other != zone).copied().collect();
            let near: Vec<Zone> = others.iter().filter(|other| other.is_neighbour(zone)).copied().collect();
            let missed = gaps(&[Claim { zone: *zone, version: 0 }], &near);
            prop_assert_eq!(missed.is_empty(), !hole.is_neighbour(zone));
            let least = zone.halvings().min(hole.halvings());
            prop_assert!(missed.iter().all(|gap| gap.overlaps(&hole) && gap.halvings() >= least));
        }
    }

    #[test]
    fn a_split_is_undone_by_the_parent(dimensions in 1u8..=8, key: [u8; 32], turns in 1usize..100) {
        let space = Space::new(dimensions);
        let point = space.point(&Key::new(key));
        let mut zone = space.whole();
        for _ in 0..turns.min(32 * usize::from(dimensions)) {
            let (lower, upper) = zone.split().unwrap();
            prop_assert!(lower.contains(&point) != upper.contains(&point));
            // In one dimension the halves of the whole ring are both before and after each other.
            prop_assert_eq!(lower.sibling(), Some(upper));
            prop_assert_eq!(upper.sibling(), Some(lower));
            prop_assert_eq!(lower.parent(), Some((zone, false)));
            prop_assert_eq!(upper.parent(), Some((zone, true)));
            prop_assert!(lower.is_neighbour(&upper));
            zone = if lower.contains(&point) { lower } else { upper };
        }
        prop_assert_eq!(zone.distance(&point), 0);
    }
}
