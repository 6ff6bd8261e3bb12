//! What moves when nodes come and go: what they kept, and little else.

use std::sync::{Arc, Mutex};

use crate::world::{Quick, SECOND, World, config, roots, world};
use p2p_core::sim::{DiskModel, Liar, Network, Sim, run_seeds};
use p2p_core::{Key, Rng, SimPeer};
use p2p_dht::{Dht, DhtCommand, DhtConfig, DhtMsg, DhtOutcome, MemoryStore, Replicated, Verdict};
use p2p_overlay::{Can, Chord, ChordConfig, LookupMsg, RoutedMsg, Tapestry, TapestryConfig};

const NODES: u32 = 40;
const VALUES: usize = 200;

/// What was said to offers.
#[derive(Default)]
struct Heard {
    has: usize,
    wants: usize,
    refuses: usize,
}

/// Who has lost its predecessor does not take all that it keeps for its own, and offers it to those who come after it.
#[test]
fn over_chord_only_what_the_dead_kept_is_offered() {
    run_seeds(5, |seed| {
        let heard: Arc<Mutex<Heard>> = Arc::default();
        // No pass over all records falls into the time that is looked at.
        let config = DhtConfig { repair: 3600 * SECOND, ..config() };
        let workers = |_| MemoryStore::default();
        let mut sim = Sim::<Liar<Replicated<Chord<SimPeer>>>, MemoryStore<SimPeer>>::with_workers(
            seed,
            Network::default(),
            DiskModel::default(),
            workers,
        );
        let peers: Vec<SimPeer> = (0..NODES).map(SimPeer).collect();
        for chord in Chord::converged(&peers, ChordConfig::default()) {
            let heard = heard.clone();
            let listen = move |_: &mut Rng, to, msg| {
                if let DhtMsg::Compared { verdicts, .. } = &msg {
                    let mut heard = heard.lock().unwrap();
                    for verdict in verdicts {
                        match verdict {
                            Verdict::Has | Verdict::Expects => heard.has += 1,
                            Verdict::Wants => heard.wants += 1,
                            Verdict::Refuses => heard.refuses += 1,
                        }
                    }
                }
                vec![(to, msg)]
            };
            sim.spawn(|_| Liar::new(Replicated::new(chord, config), listen));
        }
        for i in 0..VALUES {
            let value = format!("value {i}").into();
            sim.command(SimPeer(i as u32 % NODES), DhtCommand::Put { value });
            let until = sim.now() + 10 * SECOND;
            assert!(sim.run_to_outcome(until));
            let outcome = sim.take_outcomes().pop().unwrap().outcome;
            assert!(matches!(outcome, DhtOutcome::Stored(Ok(_))), "{outcome:?}");
        }
        sim.run_for(300 * SECOND);
        let victim = SimPeer(seed as u32 % NODES);
        let kept = sim.node(victim).unwrap().machine().held().len();
        sim.crash(victim);
        *heard.lock().unwrap() = Heard::default();
        sim.run_for(50 * SECOND);
        let Heard { has, wants, refuses } = *heard.lock().unwrap();
        println!("it kept {kept}; {has} offered and there, {wants} wanted, {refuses} refused");
        assert_eq!(refuses, 0, "{has} were there, {wants} were wanted");
        assert!((1..=kept).contains(&wants), "{wants} of {kept} were wanted");
        sim.trace()
    });
}

/// Who keeps a value that it has not published.
fn keepers<O: Quick>(sim: &World<O>, key: &Key) -> Vec<SimPeer> {
    let view = sim.view();
    let keeps = view.iter().filter(|(_, node)| node.held().any(|(slot, _)| slot.key == *key));
    keeps.map(|(peer, _)| peer).collect()
}

/// Where copies lie at salted keys: nodes die and come, and soon the roots of a value keep it; when nobody remembers
/// those who were roots before, nobody else does.
fn the_roots_and_nobody_else_keep_a_value<O: Quick>() {
    run_seeds(2, |seed| {
        let mut sim = world::<O>(seed, 24, Network::default(), config());
        // The publisher, which keeps what it has published, dies first of all.
        let publisher = sim.handle(SimPeer(3));
        let keys = sim.block_on(async move {
            let mut keys = Vec::new();
            for i in 0..60 {
                keys.push(publisher.put(format!("value {i}").into()).await.unwrap());
            }
            keys
        });
        sim.crash(SimPeer(3));
        for round in 0..3 {
            sim.crash(SimPeer(5 + 2 * round));
            sim.join();
            sim.join();
            sim.run_for(100 * SECOND);
        }
        let compare = |sim: &World<O>, nobody_else: bool| {
            for key in &keys {
                let mut roots = roots(sim, key).expect("salted keys");
                roots.sort_unstable();
                let mut keepers = keepers(sim, key);
                keepers.retain(|keeper| nobody_else || roots.contains(keeper));
                assert_eq!(keepers, roots, "{key}");
            }
        };
        // Two repairs, then as many as a root is remembered for.
        sim.run_for(200 * SECOND);
        compare(&sim, false);
        sim.run_for(1000 * SECOND);
        compare(&sim, true);
        sim.trace()
    });
}

#[test]
fn over_can_the_roots_and_nobody_else_keep_a_value() {
    the_roots_and_nobody_else_keep_a_value::<Can<SimPeer>>();
}

#[test]
fn over_tapestry_the_roots_and_nobody_else_keep_a_value() {
    the_roots_and_nobody_else_keep_a_value::<Tapestry<SimPeer>>();
}

/// Whose a key is, is remembered: where nothing changes, repairs look a small part of the keys up.
#[test]
fn repairs_at_rest_look_few_keys_up() {
    let answers: Arc<Mutex<usize>> = Arc::default();
    let workers = |_| MemoryStore::default();
    let mut sim = Sim::<Liar<Replicated<Tapestry<SimPeer>>>, MemoryStore<SimPeer>>::with_workers(
        1,
        Network::default(),
        DiskModel::default(),
        workers,
    );
    let peers: Vec<SimPeer> = (0..NODES).map(SimPeer).collect();
    for tapestry in Tapestry::converged(&peers, TapestryConfig::default()) {
        let answers = answers.clone();
        let listen = move |_: &mut Rng, to, msg| {
            if let DhtMsg::Overlay(RoutedMsg::Lookup(LookupMsg::Found { .. })) = &msg {
                *answers.lock().unwrap() += 1;
            }
            vec![(to, msg)]
        };
        sim.spawn(|_| Liar::new(Replicated::new(tapestry, config()), listen));
    }
    for i in 0..VALUES {
        let value = format!("value {i}").into();
        sim.command(SimPeer(i as u32 % NODES), DhtCommand::Put { value });
    }
    sim.run_for(600 * SECOND);
    let copies: usize = sim.view().iter().map(|(_, node)| node.machine().held().len()).sum();
    *answers.lock().unwrap() = 0;
    sim.run_for(600 * SECOND);
    // Ten repairs, in each of which every copy is compared with four others.
    let (looked_up, compared) = (*answers.lock().unwrap(), 10 * 4 * copies);
    println!("{looked_up} lookups for {compared} comparisons");
    assert!((1..compared / 5).contains(&looked_up), "{looked_up} lookups for {compared} comparisons");
}
