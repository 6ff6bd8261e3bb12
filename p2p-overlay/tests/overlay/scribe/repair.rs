//! Trees mend over every overlay in which a key has one root, each in its own way: who is heir to a dead root, and when,
//! is the overlay's to say.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::time::Duration;

use p2p_core::sim::{Cut, Fault, FaultMix, Session, churn, random_faults, run_seeds};
use p2p_core::{Rng, SimPeer};
use p2p_overlay::measure::Simulated;
use p2p_overlay::{
    Can, CanConfig, Chord, Next, Overlay, Pastry, PastryConfig, ScribeConfig, SingleRoot, Tapestry,
    TapestryConfig, Topic,
};

use super::world::{World, topic, world};
use super::{SECOND, chord};

// Overlays that mend in seconds.

fn pastry() -> PastryConfig {
    PastryConfig { upkeep: 5 * SECOND, ..PastryConfig::default() }
}

fn tapestry() -> TapestryConfig {
    TapestryConfig { upkeep: 5 * SECOND, probe: 5 * SECOND, ..TapestryConfig::default() }
}

/// In two dimensions, where most dead ends are.
fn can() -> CanConfig {
    CanConfig { update: 5 * SECOND, dimensions: 2, ..CanConfig::default() }
}

/// Where connections tell nothing: whoever loses its parent notices within the patience and a heartbeat, 20 s, and then
/// asks one after the other, 2 s and 4 s each, until it finds somebody who is alive.
const RESUMES: Duration = Duration::from_secs(30);

fn forwarders_die<O: Simulated + SingleRoot>(seeds: u64, config: O::Config) {
    run_seeds(seeds, |seed| {
        let mut world: World<O> = world(seed, 100, config, ScribeConfig::default());
        world.subscribe_all(topic(0));
        world.sim.run_for(20 * SECOND);
        assert!(world.reaches_all(topic(0), SECOND));
        let forwarders = world.forwarders(topic(0));
        let victims: Vec<SimPeer> = forwarders.iter().step_by(3).copied().collect();
        // Over Pastry a tree is two levels deep, and few pass messages on.
        assert!(victims.len() > 3, "{} forwarders", forwarders.len());
        victims.iter().for_each(|peer| world.sim.crash(*peer));
        let took = world.recovers_in(topic(0), RESUMES);
        println!("seed {seed}: {} forwarders of 100 nodes die, after {took:?} all is well", victims.len());
        world.sim.run_for(120 * SECOND);
        world.check();
        world.sim.trace()
    });
}

#[test]
fn messages_reach_all_again_after_forwarders_die() {
    forwarders_die::<Chord<SimPeer>>(5, chord());
    forwarders_die::<Pastry<SimPeer>>(2, pastry());
    forwarders_die::<Tapestry<SimPeer>>(2, tapestry());
    forwarders_die::<Can<SimPeer>>(2, can());
}

fn the_root_dies<O: Simulated + SingleRoot>(seeds: u64, config: O::Config) {
    run_seeds(seeds, |seed| {
        let mut world: World<O> = world(seed, 100, config, ScribeConfig::default());
        world.subscribe_all(topic(0));
        world.sim.run_for(20 * SECOND);
        assert!(world.reaches_all(topic(0), SECOND));
        for _ in 0..3 {
            let root = world.root(topic(0));
            world.sim.crash(root);
            let took = world.recovers_in(topic(0), RESUMES);
            println!("seed {seed}: the root dies, after {took:?} all is well");
            world.sim.run_for(120 * SECOND);
            world.check();
        }
        world.sim.trace()
    });
}

#[test]
fn messages_reach_all_again_after_the_root_dies() {
    the_root_dies::<Chord<SimPeer>>(5, chord());
    the_root_dies::<Pastry<SimPeer>>(2, pastry());
    the_root_dies::<Tapestry<SimPeer>>(2, tapestry());
    the_root_dies::<Can<SimPeer>>(2, can());
}

/// Half of the nodes leave within ten minutes and others come, which subscribe too: of the members who are there from
/// before a message is published until it should have come, nine in ten receive it. (Ours: of the three or four nodes
/// above a member each is dead and not yet replaced for 18 s · ln 2 / 600 s, 2% of the time.) That is of all runs
/// together: one of them fares as its roots do, of which each costs everybody 18 s of the 1,200, 1.5%, by its death. They
/// are 1.4 on average; 11 of them, which with the other losses make a run of less than eight in ten, have a chance of 1
/// in 10^6. Of ten runs together 44 make less than nine in ten: 1 in 10^10.
fn members_come_and_go<O: Simulated + SingleRoot>(seeds: u64, config: O::Config) {
    let all = Mutex::new((0, 0, 0));
    run_seeds(seeds, |seed| {
        let mut world: World<O> = world(seed, 100, config, ScribeConfig::default());
        world.subscribe_all(topic(0));
        world.sim.run_for(20 * SECOND);
        let session = Session::Exponential { median: 600 * SECOND };
        world.sim.inject(churn(&mut Rng::stream(seed, 77), 100, 100, session, 1200 * SECOND));
        let (mut expected, mut received) = (0, 0);
        for _ in 0..240 {
            for peer in world.sim.alive().to_vec() {
                world.subscribe(topic(0), peer);
            }
            let members = world.members(topic(0));
            let alive = world.sim.alive().to_vec();
            let publisher = *world.sim.workload_rng().choose(&alive).unwrap();
            let text = world.publish(topic(0), publisher);
            world.sim.run_for(5 * SECOND);
            let there: BTreeSet<SimPeer> = world.members(topic(0)).intersection(&members).copied().collect();
            let got = world.receivers(topic(0), &text);
            let once: BTreeSet<SimPeer> = got.iter().copied().collect();
            assert_eq!(once.len(), got.len(), "somebody received {text:?} twice");
            expected += there.len();
            received += there.intersection(&once).count();
        }
        let share = received as f64 / expected as f64;
        println!("seed {seed}: {share:.4} of {expected} messages received");
        assert!(share > 0.8, "{share} received");
        let mut all = all.lock().unwrap();
        *all = (all.0 + received, all.1 + expected, all.2 + 1);
        drop(all);
        world.sim.run_for(300 * SECOND);
        world.check();
        world.sim.trace()
    });
    let (received, expected, runs) = all.into_inner().unwrap();
    assert!(runs < 10 || 10 * received > 9 * expected, "{received} of {expected} received");
}

#[test]
fn most_messages_arrive_under_churn() {
    members_come_and_go::<Chord<SimPeer>>(2, chord());
    members_come_and_go::<Pastry<SimPeer>>(1, pastry());
    members_come_and_go::<Tapestry<SimPeer>>(1, tapestry());
    members_come_and_go::<Can<SimPeer>>(1, can());
}

/// Nodes crash and come back, stop for a while, hear nothing of each other: when all is quiet there is one tree for
/// each topic.
fn much_goes_wrong<O: Simulated + SingleRoot>(seeds: u64, config: O::Config) {
    run_seeds(seeds, |seed| {
        let scribe = ScribeConfig { max_children: 4, ..ScribeConfig::default() };
        let mut world: World<O> = world(seed, 40, config, scribe);
        let mut rng = Rng::stream(seed, 7);
        for i in 0..8 {
            (0..20).for_each(|_| world.subscribe(topic(i), SimPeer(rng.below(40) as u32)));
        }
        world.sim.run_for(20 * SECOND);
        let peers = world.sim.alive().to_vec();
        let mix = FaultMix { crashes: 8, pauses: 8, cuts: 2, clogs: 8, drifts: 4 };
        world.sim.inject(random_faults(&mut Rng::stream(seed, 78), &peers, 120 * SECOND, mix));
        for i in 0..120 {
            let publisher = *rng.choose(world.sim.alive()).unwrap();
            world.publish(topic(i % 8), publisher);
            world.sim.run_for(SECOND);
        }
        world.sim.run_for(600 * SECOND);
        world.check();
        (0..8).for_each(|i| assert!(world.reaches_all(topic(i), 5 * SECOND), "{:?}", topic(i)));
        world.sim.trace()
    });
}

#[test]
fn there_is_one_tree_when_quiet() {
    much_goes_wrong::<Chord<SimPeer>>(10, chord());
    much_goes_wrong::<Pastry<SimPeer>>(2, pastry());
    much_goes_wrong::<Tapestry<SimPeer>>(2, tapestry());
    much_goes_wrong::<Can<SimPeer>>(2, can());
}

fn a_cut_is_mended<O: Simulated + SingleRoot>(seeds: u64, config: O::Config) {
    run_seeds(seeds, |seed| {
        let mut world: World<O> = world(seed, 40, config, ScribeConfig::default());
        world.subscribe_all(topic(0));
        world.sim.run_for(20 * SECOND);
        let half: Vec<SimPeer> = (0..40).filter(|i| i % 3 == 0).map(SimPeer).collect();
        let rest: Vec<SimPeer> = (0..40).filter(|i| i % 3 != 0).map(SimPeer).collect();
        world.sim.inject(vec![(Duration::ZERO, Fault::Cut(Cut::between(half.clone(), rest.clone())))]);
        world.sim.run_for(300 * SECOND);
        for side in [&half, &rest] {
            let text = world.publish(topic(0), side[1]);
            world.sim.run_for(20 * SECOND);
            assert_eq!(world.receivers(topic(0), &text), *side, "each half has its own tree");
        }
        world.sim.inject(vec![(Duration::ZERO, Fault::Heal)]);
        world.sim.run_for(1800 * SECOND);
        world.check();
        assert!(world.reaches_all(topic(0), 5 * SECOND));
        world.sim.trace()
    });
}

#[test]
fn two_halves_go_on_and_become_one_tree_again() {
    a_cut_is_mended::<Chord<SimPeer>>(3, chord());
    a_cut_is_mended::<Pastry<SimPeer>>(1, pastry());
    a_cut_is_mended::<Tapestry<SimPeer>>(1, tapestry());
    a_cut_is_mended::<Can<SimPeer>>(1, can());
}

/// A node's neighbours that live.
fn beside(world: &World<Can<SimPeer>>, peer: SimPeer) -> Vec<SimPeer> {
    let node = world.sim.node(peer).unwrap().machine().overlay();
    let neighbours = node.table().neighbours().map(|(other, _)| other);
    neighbours.filter(|other| world.sim.node(*other).is_some()).collect()
}

/// Whom a node can reach by those who live.
fn reached(world: &World<Can<SimPeer>>, from: SimPeer) -> BTreeSet<SimPeer> {
    let (mut reached, mut next) = (BTreeSet::from([from]), vec![from]);
    while let Some(peer) = next.pop() {
        next.extend(beside(world, peer).into_iter().filter(|other| reached.insert(*other)));
    }
    reached
}

/// Greedy routing over CAN meets dead ends where many are dead. A quarter is, and nothing is repaired: most who can be
/// reached get into the tree all the same. (Ours: 523 of 600; without detours 381. A join remembers 16 of the silent and of the dead ends, and
/// gives up where there are more.)
#[test]
fn a_join_finds_its_way_around_dead_ends() {
    let at_rest = CanConfig { update: Duration::ZERO, ..can() };
    let (mut dead_ends, mut topics, mut joined, mut members) = (0, 0, 0, 0);
    for seed in 1..=3 {
        let mut world: World<Can<SimPeer>> = world(seed, 200, at_rest, ScribeConfig::default());
        let mut peers = world.sim.alive().to_vec();
        Rng::stream(seed, 5).shuffle(&mut peers);
        let dead = peers.split_off(150);
        dead.iter().for_each(|peer| world.sim.crash(*peer));
        let owned = |topic: &Topic| {
            let is_mine = |peer: &&SimPeer| {
                world.sim.node(**peer).unwrap().machine().overlay().next(&topic.0, &[]) == Next::Mine
            };
            Some((*topic, *peers.iter().find(is_mine)?))
        };
        let owned: Vec<(Topic, SimPeer)> =
            (0..).map(topic).filter_map(|topic| owned(&topic)).take(10).collect();
        for (topic, owner) in &owned {
            let around = reached(&world, *owner);
            let is_stuck = |peer: &SimPeer| {
                world.sim.node(*peer).unwrap().machine().overlay().next(&topic.0, &dead) == Next::Nowhere
            };
            dead_ends += usize::from(around.iter().any(is_stuck));
            let some: Vec<SimPeer> =
                peers.iter().filter(|peer| around.contains(peer)).take(20).copied().collect();
            some.into_iter().for_each(|peer| world.subscribe(*topic, peer));
        }
        world.sim.run_for(900 * SECOND);
        for (topic, owner) in &owned {
            topics += 1;
            for member in world.members(*topic) {
                let up = |at: &SimPeer| world.sim.node(*at).and_then(|node| node.machine().parent(*topic));
                let root = std::iter::successors(Some(member), up).take(200).last();
                joined += usize::from(root == Some(*owner));
                members += 1;
            }
        }
    }
    println!("{dead_ends} of {topics} topics have dead ends; {joined} of {members} members are in the tree");
    assert!(2 * dead_ends > topics, "{dead_ends} of {topics} topics have dead ends");
    assert!(10 * joined > 8 * members, "{joined} of {members} members");
}
