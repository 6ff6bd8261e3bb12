//! A slot is empty only if nobody belongs in it (SPAA §2.2, Property 1), and every key has one root.

use std::time::Duration;

use p2p_core::sim::{
    Cut, Encoding, Fault, FaultMix, Latency, Network, Session, Sim, churn, random_faults, run_seeds,
};
use p2p_core::{Key, Keyed, Rng, Script, SimPeer};
use proptest::prelude::*;

use super::levels::{KEPT, LEVELS};
use super::*;
use crate::measure::Simulated;
use crate::structured::{Answer, Found, Maintenance};
use crate::trouble::{IN_PIECES, comes_back, troubled};

const SECOND: Duration = Duration::from_secs(1);
const QUICKLY: Duration = Duration::from_secs(2);
/// Not while a test runs.
const NEVER: Duration = Duration::from_secs(1 << 20);

/// A network at rest that joins, leaves and looks after itself from then on, so often.
fn world(seed: u64, nodes: u32, upkeep: Duration) -> Sim<Tapestry<SimPeer>> {
    let config = TapestryConfig { upkeep, probe: 2 * upkeep, ..TapestryConfig::default() };
    let network = Network {
        latency: Latency::Uniform(Duration::from_millis(10), Duration::from_millis(80)),
        encoding: Encoding::RoundTrip,
        ..Network::default()
    };
    let mut sim = Sim::<Tapestry<SimPeer>>::new(seed, network);
    sim.population(move |birth| {
        let seeds = birth.some(4);
        Tapestry::with(birth.peer, seeds, config)
    });
    let peers: Vec<SimPeer> = (0..nodes).map(SimPeer).collect();
    for node in Tapestry::converged(&peers, config) {
        sim.spawn(|_| node);
    }
    sim
}

/// Whether a slot of somebody is empty though somebody belongs in it, or has somebody dead.
fn hole(sim: &Sim<Tapestry<SimPeer>>) -> Option<String> {
    whole::is_whole(&sim.view()).err()
}

/// From every node the way leads to the same root, which alone says that the key is its own.
fn one_root_from_every_start(sim: &Sim<Tapestry<SimPeer>>, seed: u64) {
    let mut nodes: Vec<(Key, SimPeer)> = sim.alive().iter().map(|peer| (peer.key(), *peer)).collect();
    nodes.sort_unstable();
    let mut rng = Rng::new(seed);
    for _ in 0..100 {
        let key = rng.key();
        let root = Tapestry::owners(&nodes, &key, 1)[0];
        for (_, start) in &nodes {
            let mut at = *start;
            for _ in 0..=LEVELS * 16 {
                match sim.node(at).unwrap().table().next_hop(&key, &[]) {
                    Next::Toward(next) => at = next,
                    Next::Mine => break,
                    other => panic!("{at} says {other:?} of {key}"),
                }
            }
            assert_eq!(at, root, "the root of {key} from {start}");
        }
        let claim = sim.view().iter().filter(|(_, node)| node.table().region().contains(&key));
        assert_eq!(claim.map(|(peer, _)| peer).collect::<Vec<_>>(), [root], "{key}");
    }
}

#[track_caller]
fn is_whole(sim: &Sim<Tapestry<SimPeer>>, seed: u64) {
    assert_eq!(hole(sim), None);
    one_root_from_every_start(sim, seed);
}

/// An insertion leaves no hole: nothing is left for the upkeep to mend.
#[test]
fn a_network_grows_from_a_single_node() {
    run_seeds(10, |seed| {
        let mut sim = world(seed, 1, NEVER);
        for _ in 0..60 {
            sim.join();
            sim.run_for(2 * SECOND);
        }
        sim.run_for(30 * SECOND);
        is_whole(&sim, seed);
        sim.trace()
    });
}

/// Many join at once, or in the same moment, through members that have only just joined themselves: those who fill
/// holes for each other know each other, by the insertion alone.
#[test]
fn a_crowd_joins_at_once() {
    run_seeds(10, |seed| {
        let mut sim = world(seed, 1 + seed as u32 * 3, NEVER);
        for _ in 0..100 {
            sim.join();
            sim.run_for(Duration::from_millis(20 * (seed % 2)));
        }
        sim.run_for(300 * SECOND);
        is_whole(&sim, seed);
        sim.trace()
    });
}

#[test]
fn the_network_mends_after_churn() {
    run_seeds(10, |seed| {
        let mut sim = world(seed, 40, QUICKLY);
        let session = Session::Exponential { median: 45 * SECOND };
        sim.inject(churn(&mut Rng::stream(seed, 77), 40, 40, session, 120 * SECOND));
        sim.run_for(240 * SECOND);
        is_whole(&sim, seed);
        sim.trace()
    });
}

#[test]
fn the_network_mends_after_random_faults() {
    run_seeds(10, |seed| {
        let mut sim = world(seed, 40, QUICKLY);
        let peers = sim.alive().to_vec();
        let mix = FaultMix { crashes: 5, pauses: 4, cuts: 2, clogs: 6, drifts: 4 };
        sim.inject(random_faults(&mut Rng::stream(seed, 78), &peers, 60 * SECOND, mix));
        sim.run_for(300 * SECOND);
        is_whole(&sim, seed);
        sim.trace()
    });
}

/// Half is cut off until it has forgotten the other half; then the cut is mended.
#[test]
fn two_halves_become_one() {
    run_seeds(10, |seed| {
        let mut sim = world(seed, 40, QUICKLY);
        let (half, rest) = ((0..20).map(SimPeer), (20..40).map(SimPeer));
        sim.inject(vec![(Duration::ZERO, Fault::Cut(Cut::between(half, rest))), (300 * SECOND, Fault::Heal)]);
        sim.run_for(290 * SECOND);
        assert!(hole(&sim).is_some(), "nobody was forgotten");
        sim.run_for(610 * SECOND);
        is_whole(&sim, seed);
        sim.trace()
    });
}

/// The levels are in order, and each slot has at most three who belong there, the best first.
fn hold_their_prefix(levels: &Levels<SimPeer>, me: &Key) -> Result<(), String> {
    if !levels.all().is_sorted_by_key(|other| other.place()) {
        return Err("the slots are not in order".into());
    }
    let belongs = |other: &super::levels::Neighbour<SimPeer>| {
        let level = me.common_prefix(&other.peer.key()) / 4;
        other.place() == (level as u8, other.peer.key().digit(level, 4))
    };
    let holds = |slot: &&[super::levels::Neighbour<SimPeer>]| {
        let in_order = slot.is_sorted_by_key(|other| (!other.joined, other.is_doubtful()));
        slot.len() <= KEPT && in_order && slot.iter().all(belongs)
    };
    match levels.all().chunk_by(|a, b| a.place() == b.place()).find(|slot| !holds(slot)) {
        Some(slot) => Err(format!("a slot has {slot:?}")),
        None => Ok(()),
    }
}

#[test]
fn slots_hold_their_prefix_whatever_goes_wrong_and_none_is_empty_for_long() {
    run_seeds(3, |seed| {
        let config = TapestryConfig::default();
        troubled::<Tapestry<SimPeer>>(seed, config, IN_PIECES, 600 * SECOND, |sim| {
            sim.check_each_step(|_, node| hold_their_prefix(&node.table().levels, &node.table().key));
        })
    });
}

#[test]
fn who_is_back_joins_through_whoever_speaks_to_it() {
    comes_back::<Tapestry<SimPeer>>(TapestryConfig::default());
}

proptest! {
    /// The steps of each digit, the first first.
    #[test]
    fn the_distance_is_that_of_the_digits(a: [u8; 32], b: [u8; 32]) {
        let (a, b) = (Key::new(a), Key::new(b));
        let distance = digits_after(&a, &b);
        for level in 0..LEVELS {
            let steps = (16 + a.digit(level, 4) - b.digit(level, 4)) % 16;
            prop_assert_eq!(distance.digit(level, 4), steps);
        }
    }

    /// The root that is found level by level is the node at the least distance.
    #[test]
    fn the_root_is_nearest(peers in prop::collection::btree_set(0u32..5000, 1..300), key: [u8; 32]) {
        let mut nodes: Vec<(Key, SimPeer)> = peers.iter().map(|i| (SimPeer(*i).key(), SimPeer(*i))).collect();
        nodes.sort_unstable();
        let key = Key::new(key);
        let nearest = nodes.iter().min_by_key(|(node, _)| digits_after(node, &key));
        prop_assert_eq!(Tapestry::owners(&nodes, &key, 1), [nearest.unwrap().1]);
    }

    /// Whatever comes and goes: each slot has at most three who belong there, those that are nearest first; and who is
    /// nearer to a key than the node itself comes in order of the distance's digits.
    #[test]
    fn slots_hold_their_prefix(
        events in prop::collection::vec((1u32..600, prop::option::of(1u64..1000), 0u8..4), 1..600),
        key: [u8; 32],
    ) {
        let (me, key) = (SimPeer(0).key(), Key::new(key));
        let mut levels = Levels::new(me, None);
        for (peer, rtt, what) in events {
            match what {
                0 => drop(levels.silent(SimPeer(peer))),
                1 => drop(levels.expect(SimPeer(peer))),
                _ => drop(levels.hear(SimPeer(peer), rtt.map(Duration::from_millis))),
            }
            prop_assert_eq!(hold_their_prefix(&levels, &me), Ok(()));
        }
        let own = digits_after(&me, &key);
        let nearer: Vec<Key> = levels.nearer(&key, &[]).map(|other| digits_after(&other.peer.key(), &key)).collect();
        prop_assert!(nearer.iter().all(|distance| *distance < own));
        let all = levels.all().iter().filter(|other| other.joined);
        let count = all.filter(|other| digits_after(&other.peer.key(), &key) < own).count();
        prop_assert_eq!(nearer.len(), count);
    }
}

/// A surrogate that answers something else than it was asked keeps nobody out: the newcomer tries again.
#[test]
fn an_answer_to_something_else_is_none() {
    let config = TapestryConfig::default();
    let mut script = Script::new(TapestryTable::new(SimPeer(0), [SimPeer(1)], config));
    let mut surrogate = || {
        script.advance(30 * SECOND);
        let tag = script.events().last()?.tag;
        let found = Found { peers: vec![SimPeer(1)], hops: 1, timeouts: 0, implausible: None };
        script.command(Answer { tag, looked: Ok(found) });
        let copy = script.sent().into_iter().find_map(|(_, msg)| match msg {
            TapestryMsg::GetRows { id, .. } => Some(id),
            _ => None,
        });
        let id = copy?;
        script.message(SimPeer(1), TapestryMsg::Pong { id, joined: true });
        Some(())
    };
    assert_eq!((surrogate(), surrogate()), (Some(()), Some(())));
}

/// What nobody has asked for, and levels that there are not, change nothing.
#[test]
fn nonsense_changes_nothing() {
    let peers: Vec<SimPeer> = (0..64).map(SimPeer).collect();
    let table = Tapestry::converged(&peers, TapestryConfig::default())[0].table().clone();
    let before: Vec<SimPeer> = table.neighbours().collect();
    let mut script = Script::new(table);
    let stranger = SimPeer(100);
    let multicast = |shared, level, patience| TapestryMsg::Multicast {
        id: 1,
        newcomer: stranger,
        shared,
        level,
        patience,
    };
    for msg in [
        TapestryMsg::Pong { id: 0, joined: true },
        TapestryMsg::Rows { id: 0, peers: vec![stranger; 1000] },
        TapestryMsg::Welcome { peers: vec![stranger; 1000] },
        TapestryMsg::Inserted { id: 0, done: true },
        TapestryMsg::Acknowledge { id: 0 },
        TapestryMsg::GetRows { id: 0, from: 255, upto: 255 },
        TapestryMsg::GetRows { id: 0, from: 9, upto: 3 },
        multicast(255, 255, 255),
        multicast(64, 0, 0),
    ] {
        script.message(stranger, msg);
    }
    assert!(script.machine().neighbours().eq(before));
    assert!(script.sent().iter().all(|(to, _)| *to == stranger), "nobody else is told or asked");
}

/// Whoever invents newcomers over and over leaves a node half of its questions.
#[test]
fn invented_newcomers_take_no_more_than_half_of_the_questions() {
    let peers: Vec<SimPeer> = (0..64).map(SimPeer).collect();
    let table = Tapestry::converged(&peers, TapestryConfig::default())[0].table().clone();
    let mut script = Script::new(table);
    for i in 0..1000 {
        let newcomer = SimPeer(1000 + i);
        script.message(
            SimPeer(1),
            TapestryMsg::Multicast { id: i, newcomer, shared: 0, level: 0, patience: 14 },
        );
    }
    let told = script.sent().iter().filter(|(_, msg)| matches!(msg, TapestryMsg::Multicast { .. })).count();
    assert!((64..=MAX_ASKED / 2).contains(&told), "{told} questions");
}

/// A stranger that goes on naming newcomers does not keep one out.
#[test]
fn whoever_goes_on_naming_others_keeps_nobody_out() {
    let config = TapestryConfig::default();
    let mut script = Script::new(TapestryTable::new(SimPeer(0), [SimPeer(1)], config));
    let tag = script.events().last().unwrap().tag;
    let found = Found { peers: vec![SimPeer(1)], hops: 1, timeouts: 0, implausible: None };
    script.command(Answer { tag, looked: Ok(found) });
    let mut named = 100;
    for _ in 0..60 {
        for (to, msg) in script.sent() {
            let answer = match msg {
                _ if to != SimPeer(1) => continue,
                TapestryMsg::GetRows { id, .. } => TapestryMsg::Rows { id, peers: vec![] },
                TapestryMsg::Ping { id, .. } => TapestryMsg::Pong { id, joined: true },
                TapestryMsg::Insert { id } => TapestryMsg::Inserted { id, done: true },
                _ => continue,
            };
            script.message(to, answer);
        }
        named += 8;
        let peers = (named..named + 8).map(SimPeer).collect();
        script.message(SimPeer(99), TapestryMsg::Welcome { peers });
        script.advance(SECOND / 4);
    }
    assert!(script.machine().is_joined());
}

/// Of two who join at once whoever is heard of second is told of the first, and the first of the second.
#[test]
fn newcomers_hear_of_each_other() {
    let peers: Vec<SimPeer> = (0..64).map(SimPeer).collect();
    let table = Tapestry::converged(&peers, TapestryConfig::default())[0].table().clone();
    let mut fitting = (100..).map(SimPeer).filter(|peer| table.levels.has_room(*peer));
    let (a, b) = (fitting.next().unwrap(), fitting.next().unwrap());
    let mut script = Script::new(table.clone());
    let mut hears_of = |newcomer| {
        let msg = TapestryMsg::Multicast { id: 1, newcomer, shared: 0, level: 0, patience: 6 };
        script.message(peers[1], msg);
        script.sent()
    };
    let (first, second) = (hears_of(a), hears_of(b));
    let welcome = |sent: &[(SimPeer, TapestryMsg<SimPeer>)], newcomer| {
        sent.iter().find_map(|(to, msg)| match msg {
            TapestryMsg::Welcome { peers } if *to == newcomer => Some(peers.clone()),
            _ => None,
        })
    };
    assert_eq!(welcome(&first, a), Some(vec![]));
    assert_eq!(welcome(&second, b), Some(vec![a]));
    let passed_on = second.iter().any(|(to, msg)| *to == a && matches!(msg, TapestryMsg::Multicast { .. }));
    assert!(passed_on, "the first hears of the second");
    let goes_by = Maintenance::candidates(script.machine(), &a.key(), 99, &[]);
    assert!(!goes_by.contains(&a), "nothing goes by a newcomer before it has joined");
}
