//! Lookups find the owner, around the dead too.

use std::time::Duration;

use p2p_core::sim::run_seeds;
use p2p_core::{Key, Rng, SimPeer};

use super::super::*;
use super::claims::script;
use super::{SECOND, network, quick};
use crate::structured::{Find, Maintenance, Mode, Overlay};

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

/// Greedy routing meets dead ends where many are dead. A quarter is, and nothing is repaired: at least 95% of what can
/// be reached is found. (A question remembers 64 peers to leave out; the silent ones that it meets are most of them.)
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
