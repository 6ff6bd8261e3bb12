//! What moves when a node dies: what it kept, and little else.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod world;

use std::sync::{Arc, Mutex};

use p2p_core::sim::{DiskModel, Liar, Network, Sim, run_seeds};
use p2p_core::{Rng, SimPeer};
use p2p_dht::{DhtCommand, DhtConfig, DhtMsg, DhtOutcome, MemoryStore, Replicated, Verdict};
use p2p_overlay::{Chord, ChordConfig};
use world::{SECOND, config};

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
