//! No two nodes take one key for theirs, and the leaves are right again when all is quiet.

use p2p_core::sim::{
    Encoding, Fault, FaultMix, Latency, Network, Session, Sim, View, churn, random_faults, run_seeds,
};
use p2p_core::{NoWorker, Rng, Script, SimPeer};
use proptest::prelude::*;

use super::*;
use crate::lookup::{Hint, LookupMsg};
use crate::routed::RoutedMsg;
use crate::structured::{Find, Mode};
use crate::trouble::{IN_ONE_PIECE, IN_PIECES, comes_back, troubled};

const SECOND: Duration = Duration::from_secs(1);
const MS: Duration = Duration::from_millis(1);

/// DSN 2004, *consistent routing*: at most one living node accepts a key. Looked at where it could go wrong: in the
/// middle between neighbours, beside it, and where nodes stand.
fn at_most_one_accepts(now: Time, view: &View<'_, Pastry<SimPeer>, NoWorker>) -> Result<(), String> {
    let mut ring: Vec<(Key, &PastryTable<SimPeer>)> =
        view.iter().map(|(_, node)| (node.table().key, node.table())).collect();
    ring.sort_unstable_by_key(|(key, _)| *key);
    let n = ring.len();
    for i in 0..n {
        let (here, there) = (ring[i].0, ring[(i + 1) % n].0);
        let half = middle(&here, &there);
        for key in [
            half,
            half.wrapping_add(&Key::power_of_two(0)),
            middle(&here, &half),
            middle(&half, &there),
            here,
        ] {
            let accepts = |table: &&PastryTable<SimPeer>| table.joined && table.may_answer_for(&key, now);
            let accept: Vec<SimPeer> =
                ring.iter().map(|(_, table)| *table).filter(accepts).map(|table| table.me).collect();
            if accept.len() > 1 {
                return Err(format!("at {now:?} {accept:?} accept {key:?}"));
            }
        }
    }
    Ok(())
}

fn world(seed: u64, nodes: u32, config: PastryConfig, careless: bool) -> Sim<Pastry<SimPeer>> {
    let network = Network {
        latency: Latency::Uniform(10 * MS, 80 * MS),
        encoding: Encoding::RoundTrip,
        ..Network::default()
    };
    let mut sim = Sim::<Pastry<SimPeer>>::new(seed, network);
    sim.population(move |birth| {
        let seeds = birth.some(4);
        let mut pastry = Pastry::with(birth.peer, seeds, config);
        pastry.table_mut().careless = careless;
        pastry
    });
    let peers: Vec<SimPeer> = (0..nodes).map(SimPeer).collect();
    for mut pastry in Pastry::converged(&peers, config) {
        pastry.table_mut().careless = careless;
        sim.spawn(|_| pastry);
    }
    sim
}

/// All know their true leaves, and have both leases.
fn is_ideal(sim: &Sim<Pastry<SimPeer>>) -> bool {
    whole::is_whole(&sim.view()).is_ok()
}

fn check(sim: &mut Sim<Pastry<SimPeer>>, every: Duration, span: Duration) -> Result<(), String> {
    let end = sim.now() + span;
    while sim.now() < end {
        sim.run_for(every);
        at_most_one_accepts(sim.now(), &sim.view())?;
    }
    Ok(())
}

fn either(seed: u64) -> PastryConfig {
    let recovery = if seed.is_multiple_of(2) { Recovery::Periodic } else { Recovery::Reactive };
    PastryConfig { recovery, ..PastryConfig::default() }
}

/// Of 24 nodes some crash and are back, some have slow clocks, messages are held up, and some stand still: for seconds,
/// or for so long that others take their keys over, and do not know of it when they go on.
fn in_trouble(seed: u64, careless: bool) -> Result<u64, String> {
    let mut sim = world(seed, 24, PastryConfig::default(), careless);
    let peers = sim.alive().to_vec();
    let mix = FaultMix { crashes: 3, pauses: 4, cuts: 0, clogs: 6, drifts: 4 };
    sim.inject(random_faults(&mut Rng::stream(seed, 78), &peers, 60 * SECOND, mix));
    sim.inject((0..4).map(|i| (10 * i * SECOND, Fault::Pause(peers[i as usize * 5], 20 * SECOND))).collect());
    check(&mut sim, 100 * MS, 120 * SECOND)?;
    sim.run_for(60 * SECOND);
    assert!(is_ideal(&sim), "not mended two minutes after the last fault");
    Ok(sim.trace())
}

/// Whatever way of recovery.
#[test]
fn at_most_one_node_accepts_a_key_under_churn() {
    run_seeds(4, |seed| {
        let mut sim = world(seed, 24, either(seed), false);
        let session = Session::Exponential { median: 45 * SECOND };
        sim.inject(churn(&mut Rng::stream(seed, 77), 24, 24, session, 120 * SECOND));
        check(&mut sim, 100 * MS, 120 * SECOND).unwrap();
        sim.run_for(120 * SECOND);
        assert!(is_ideal(&sim), "not mended two minutes after the last change");
        sim.trace()
    });
}

#[test]
fn at_most_one_node_accepts_a_key_whatever_goes_wrong() {
    run_seeds(4, |seed| in_trouble(seed, false).unwrap());
}

/// And messages are lost besides, while others come and go.
#[test]
fn at_most_one_node_accepts_a_key_while_messages_are_lost() {
    run_seeds(3, |seed| {
        troubled::<Pastry<SimPeer>>(seed, PastryConfig::default(), IN_ONE_PIECE, 600 * SECOND, |sim| {
            sim.check_world(256, |view| at_most_one_accepts(view.now, view));
        })
    });
}

#[test]
fn the_leaves_are_right_after_cuts_and_whatever_else_goes_wrong() {
    run_seeds(3, |seed| troubled::<Pastry<SimPeer>>(seed, either(seed), IN_PIECES, 600 * SECOND, |_| {}));
}

#[test]
fn who_is_back_joins_through_whoever_speaks_to_it() {
    comes_back::<Pastry<SimPeer>>(PastryConfig::default());
}

#[test]
fn without_leases_two_nodes_accept_one_key() {
    let broken = (1..=10).filter(|&seed| in_trouble(seed, true).is_err()).count();
    assert!(broken >= 8, "it went wrong in {broken} of 10 runs only");
}

#[test]
fn a_network_grows_from_a_single_node() {
    for recovery in [Recovery::Periodic, Recovery::Reactive] {
        let mut sim = world(1, 1, PastryConfig { recovery, ..PastryConfig::default() }, false);
        for _ in 0..40 {
            sim.join();
            check(&mut sim, 100 * MS, SECOND).unwrap();
        }
        sim.run_for(60 * SECOND);
        assert!(is_ideal(&sim));
    }
}

/// Many join at once, through members that have only just joined themselves.
#[test]
fn a_crowd_joins_at_once() {
    run_seeds(10, |seed| {
        let mut sim = world(seed, 1, PastryConfig::default(), false);
        for _ in 0..100 {
            sim.join();
            sim.run_for(20 * MS);
        }
        check(&mut sim, SECOND, 30 * SECOND).unwrap();
        sim.run_for(90 * SECOND);
        assert!(is_ideal(&sim));
        sim.trace()
    });
}

/// A neighbour that is silent is dead once its lease has run out; but if it has said hello meanwhile, after the time of
/// another, for which it counts on being known.
#[test]
fn a_leaf_that_has_said_hello_is_not_forgotten_at_once() {
    let peers: Vec<SimPeer> = (0..16).map(SimPeer).collect();
    let mut script = Script::new(Pastry::converged(&peers, PastryConfig::default()).swap_remove(0));
    let leaf = |script: &Script<Pastry<SimPeer>>, side| script.machine().table().leaves.first(side);
    let [hello, silent] = [Side::Ahead, Side::Behind].map(|side| leaf(&script, side).unwrap());
    // The leases that they have had from it have not run out yet.
    script.advance(6 * SECOND);
    script.message(hello, RoutedMsg::Upkeep(PastryMsg::Hello { id: 1, leaves: vec![silent] }));
    script.advance(5 * SECOND);
    assert_eq!(leaf(&script, Side::Ahead), Some(hello));
    assert_ne!(leaf(&script, Side::Behind), Some(silent));
    script.advance(7 * SECOND);
    assert_ne!(leaf(&script, Side::Ahead), Some(hello));
}

/// Strangers that say hello one after the other, each nearer than the one before, and name others, and are silent then, do not keep a
/// newcomer out.
#[test]
fn whoever_goes_on_saying_hello_keeps_nobody_out() {
    let there = SimPeer(1);
    let mut near: Vec<SimPeer> = (1000..200_000).map(SimPeer).collect();
    near.sort_by_key(|peer| SimPeer(0).key().ring_gap(&peer.key()));
    let mut strangers = near[..400].iter().rev();
    let mut script = Script::new(Pastry::with(SimPeer(0), [there], PastryConfig::default()));
    script.advance(Duration::ZERO);
    for id in 0..180 {
        for (to, msg) in script.sent() {
            let RoutedMsg::Upkeep(msg) = msg else { continue };
            let answer = match msg {
                _ if to != there => continue,
                PastryMsg::Join { id, .. } => PastryMsg::Path { id, row: vec![], next: None, leaves: vec![] },
                PastryMsg::Hello { id, .. } => PastryMsg::Leaves { id, leaves: vec![] },
                _ => continue,
            };
            script.message(to, RoutedMsg::Upkeep(answer));
        }
        let stranger = *strangers.next().unwrap();
        let leaves = near[..32].to_vec();
        script.message(stranger, RoutedMsg::Upkeep(PastryMsg::Hello { id, leaves }));
        script.advance(250 * MS);
    }
    let table = script.machine().table();
    assert!(table.joined && table.known_until > Time::ZERO + 40 * SECOND, "it is known, and stays so");
}

/// Those who answer a hello know of a newcomer for the time of a lease: if the last answer takes longer, or the newcomer
/// stands still, they are told again before it asks for a lease.
#[test]
fn who_was_greeted_too_long_ago_is_greeted_again() {
    let config = PastryConfig { lease: SECOND, ..PastryConfig::default() };
    let (there, silent) = (SimPeer(1), SimPeer(2));
    let mut script = Script::new(Pastry::with(SimPeer(0), [there], config));
    script.advance(Duration::ZERO);
    let mut greeted = 0;
    for _ in 0..100 {
        for (to, msg) in script.sent() {
            let RoutedMsg::Upkeep(msg) = msg else { continue };
            let answer = match msg {
                _ if to == silent => continue,
                PastryMsg::Join { id, .. } => {
                    PastryMsg::Path { id, row: vec![], next: None, leaves: vec![silent] }
                }
                PastryMsg::Hello { id, .. } => {
                    greeted += 1;
                    PastryMsg::Leaves { id, leaves: vec![silent] }
                }
                PastryMsg::Renew { .. } => {
                    assert_eq!(greeted, 2, "it asks for a lease once both have been told, or are dead");
                    return;
                }
                _ => continue,
            };
            script.message(there, RoutedMsg::Upkeep(answer));
        }
        script.advance(100 * MS);
    }
    panic!("it has not joined");
}

/// With leases and upkeep, as it runs.
#[test]
fn every_mode_finds_the_nearest() {
    for mode in [Mode::SemiRecursive, Mode::Recursive, Mode::iterative(1), Mode::iterative(3)] {
        let mut sim = world(3, 100, PastryConfig::default(), false);
        let mut rng = Rng::new(9);
        for _ in 0..50 {
            let key = rng.key();
            let nearest = sim.alive().iter().copied().min_by_key(|peer| peer.key().ring_gap(&key));
            let handle = sim.handle(*rng.choose(sim.alive()).unwrap());
            let found = sim.block_on(async move { handle.ask(Find::key(key).mode(mode)).await }).unwrap();
            assert_eq!(found.ok().map(|found| found.root()), nearest, "{mode:?}");
        }
    }
}

/// A node without leases that is asked says so, and its own lookup in every mode goes on as soon as it has them.
#[test]
fn who_has_no_lease_yet_says_later_and_waits_no_longer_than_for_that() {
    let peers: Vec<SimPeer> = (0..64).map(SimPeer).collect();
    for mode in [Mode::SemiRecursive, Mode::Recursive, Mode::iterative(1), Mode::iterative(3)] {
        let mut node = Pastry::converged(&peers, PastryConfig::default()).swap_remove(0);
        node.table_mut().leases = [Lease { from: None, to: None }; 2];
        let mut script = Script::new(node);
        let key = SimPeer(0).key();
        let ask = LookupMsg::Ask { id: 1, key, replicas: 1, claimed: true, avoid: vec![] };
        script.message(SimPeer(1), RoutedMsg::Lookup(ask));
        let later = script.sent().into_iter().any(|(to, msg)| {
            to == SimPeer(1)
                && matches!(msg, RoutedMsg::Lookup(LookupMsg::Answer { id: 1, hint: Hint::Later }))
        });
        assert!(later, "{mode:?}");
        script.command(Find::key(key).mode(mode));
        // It asks for its leases three times in the time that one lasts.
        let (lease, hop_timeout) = (PastryConfig::default().lease, LookupConfig::default().hop_timeout);
        let mut waited = Duration::ZERO;
        let looked = loop {
            if let Some((_, looked)) = script.outcomes().pop() {
                break looked;
            }
            for (to, msg) in script.sent() {
                if let RoutedMsg::Upkeep(PastryMsg::Renew { id, .. }) = msg {
                    let granted = PastryMsg::Lease { id, granted: true, between: None };
                    script.message(to, RoutedMsg::Upkeep(granted));
                }
            }
            assert!(waited <= lease / 3 + 2 * hop_timeout, "{mode:?}");
            script.advance(100 * MS);
            waited += 100 * MS;
        };
        assert_eq!(looked.map(|found| found.root()), Ok(SimPeer(0)), "{mode:?}");
    }
}

/// Whoever names strangers over and over does not keep a node from its leases.
#[test]
fn names_of_strangers_leave_room_for_the_leases() {
    let peers: Vec<SimPeer> = (0..64).map(SimPeer).collect();
    let mut script = Script::new(Pastry::converged(&peers, PastryConfig::default()).swap_remove(0));
    script.advance(10 * MS);
    script.sent();
    for id in 0..100 {
        let leaves = (0..32).map(|i| SimPeer(1000 + 32 * id + i)).collect();
        script.message(SimPeer(1), RoutedMsg::Upkeep(PastryMsg::Hello { id, leaves }));
    }
    let pings = script
        .sent()
        .iter()
        .filter(|(_, msg)| matches!(msg, RoutedMsg::Upkeep(PastryMsg::Ping { .. })))
        .count();
    assert!((16..=MAX_ASKED / 2).contains(&pings), "{pings} strangers are asked");
    script.advance(2 * SECOND);
    let renewed = script
        .sent()
        .iter()
        .filter(|(_, msg)| matches!(msg, RoutedMsg::Upkeep(PastryMsg::Renew { .. })))
        .count();
    assert!(renewed >= 2, "{renewed} leases are asked for");
}

proptest! {
    /// The leaves are those that sorting all peers gives, and so is the nearest to any point among them.
    #[test]
    fn the_leaves_are_the_nearest(
        peers in prop::collection::btree_set(1u32..5000, 1..60),
        gone in prop::collection::vec(any::<prop::sample::Index>(), 0..4),
        key: [u8; 32],
    ) {
        let (me, key) = (SimPeer(0), Key::new(key));
        let mut leaves = Leaves::new(me.key(), 8);
        let mut all: Vec<SimPeer> = peers.into_iter().map(SimPeer).collect();
        for peer in &all {
            leaves.insert(Spot::new(&me.key(), *peer));
        }
        all.sort_unstable_by_key(|peer| me.key().distance(&peer.key()));
        let most = all.len().min(8);
        let expected: Vec<SimPeer> = all[..most].iter().chain(all[all.len() - most..].iter().rev()).copied().collect();
        let mut once = expected.clone();
        once.sort_unstable();
        once.dedup();
        let mut known: Vec<SimPeer> = leaves.peers().collect();
        known.sort_unstable();
        prop_assert_eq!(&known, &once);
        prop_assert_eq!(leaves.last(Side::Ahead), Some(all[most - 1]));
        prop_assert_eq!(leaves.first(Side::Behind), all.last().copied());

        // What can be told for sure is what a look at all peers gives.
        all.push(me);
        all.sort_unstable_by_key(|peer| {
            let at = peer.key();
            (at.ring_gap(&key), key.distance(&at) < at.distance(&key))
        });
        let sure = leaves.nearest_to(me, &me.key().distance(&key));
        prop_assert_eq!(&sure[..], &all[..sure.len()]);
        if all.len() <= 9 {
            prop_assert_eq!(sure.len(), all.len(), "whoever knows everybody can tell all");
        }
        for index in gone {
            leaves.remove(*index.get(&once));
        }
        prop_assert_eq!(leaves.first(Side::Ahead).is_none(), leaves.first(Side::Behind).is_none());
    }
}
