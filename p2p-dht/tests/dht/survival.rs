//! No acknowledged value is lost while fewer nodes fail between two repairs than keep it.
//!
//! Each seed is a world of its own: nodes die and come back with what they had, new ones join, messages are lost,
//! held back and cut off, clocks drift. Between two repairs all but one of the nodes that keep a value may die at
//! once, and often do; the value must be read in the end, by a node that does not keep it.

use std::collections::BTreeMap;

use crate::world::{Quick, SECOND, World, config, roots, world};
use p2p_core::sim::{FaultMix, Latency, Loss, Network, random_faults, run_seeds};
use p2p_core::{Key, Rng, SimPeer};
use p2p_dht::{Dht, Put, RecordKind, Slot, Stored};
use p2p_overlay::Replicas;

const NODES: u32 = 24;

/// A value that was acknowledged, and who published it.
struct Acknowledged {
    value: String,
    publisher: SimPeer,
}

fn holders<O: Quick>(sim: &World<O>, key: Key) -> Vec<SimPeer> {
    let slot = Slot { key, kind: RecordKind::Immutable };
    let holds = sim.view();
    let holds = holds.iter().filter(|(_, node)| node.held().any(|(held, _)| *held == slot));
    holds.map(|(peer, _)| peer).collect()
}

fn values_survive<O: Quick>(seed: u64) -> u64 {
    let network = Network {
        latency: Latency::Uniform(SECOND / 100, SECOND / 10),
        loss: Loss::Uniform(0.01),
        ..Network::default()
    };
    let mut sim = world::<O>(seed, NODES, network, config());
    let mut rng = Rng::stream(seed, 77);
    let mut acknowledged: BTreeMap<Key, Acknowledged> = BTreeMap::new();
    let mut dead: Vec<SimPeer> = Vec::new();
    for round in 0..6 {
        // Trouble that mends itself, while values are stored.
        let living = sim.alive().to_vec();
        let mix = FaultMix { crashes: 0, pauses: 2, cuts: 1, clogs: 3, drifts: 1 };
        sim.inject(random_faults(&mut rng, &living, 20 * SECOND, mix));
        for i in 0..6 {
            let publisher = *rng.choose(&living).unwrap();
            let value = format!("value {i} of round {round}");
            let node = sim.handle(publisher);
            let put = Put(value.clone().into());
            let stored = sim.block_on(async move { node.ask(put).await.unwrap() });
            // Whoever is cut off with one or two others takes the network for small: fewer copies are no promise.
            if let Ok(Stored { key, copies: 3.., .. }) = stored {
                acknowledged.insert(key, Acknowledged { value, publisher });
            }
        }
        sim.run_for(40 * SECOND);
        kill(&mut sim, &mut rng, &acknowledged, &mut dead);
        // Some come back, with what they had synced; others take the place of the rest.
        sim.run_for(20 * SECOND);
        if rng.chance(0.5) && !dead.is_empty() {
            let back = dead.swap_remove(rng.index(dead.len()));
            sim.restart(back);
        }
        while sim.alive().len() < NODES as usize {
            sim.join();
        }
        // A repair takes place.
        sim.run_for(150 * SECOND);
    }
    assert!(acknowledged.len() >= 18, "only {} of 36 puts succeeded", acknowledged.len());
    for (key, Acknowledged { value, .. }) in &acknowledged {
        let holders = holders(&sim, *key);
        let readers: Vec<SimPeer> =
            sim.alive().iter().copied().filter(|peer| !holders.contains(peer)).collect();
        let reader = sim.handle(*rng.choose(&readers).unwrap());
        let key = *key;
        let got = sim.block_on(async move { reader.get(key).await });
        assert_eq!(got.as_deref(), Ok(value.as_bytes()), "kept by {holders:?}");
    }
    sim.trace()
}

/// Those that keep a value because they should: whoever else has a copy, its publisher aside, is about to drop it.
fn replicas<O: Quick>(sim: &World<O>, key: Key) -> Vec<SimPeer> {
    let mut replicas = holders(sim, key);
    let roots = roots(sim, &key);
    let should = |peer: &SimPeer| match sim.node(*peer).map(|node| node.overlay()) {
        None => false,
        Some(overlay) => match overlay.replicas(&key, config().replicas.into()) {
            Replicas::Peers(peers) => peers.contains(peer),
            Replicas::Keys(_) => roots.iter().flatten().any(|root| root == peer),
        },
    };
    replicas.retain(should);
    replicas
}

/// Kills up to half of the nodes at once, the replicas of one of the values first; one replica of each value that is
/// not its publisher (who keeps it in any case) is left.
fn kill<O: Quick>(
    sim: &mut World<O>,
    rng: &mut Rng,
    acknowledged: &BTreeMap<Key, Acknowledged>,
    dead: &mut Vec<SimPeer>,
) {
    let mut left: BTreeMap<Key, Vec<SimPeer>> = BTreeMap::new();
    for (key, Acknowledged { publisher, .. }) in acknowledged {
        left.insert(*key, replicas(sim, *key).into_iter().filter(|peer| peer != publisher).collect());
    }
    let mut victims = sim.alive().to_vec();
    rng.shuffle(&mut victims);
    let targets: Vec<&Vec<SimPeer>> = left.values().collect();
    if let Some(target) = rng.choose(&targets) {
        victims.splice(0..0, target.iter().copied());
    }
    let mut killed = 0;
    for victim in victims {
        let last = left.values().any(|holders| holders.as_slice() == [victim]);
        if killed < NODES / 2 && !last && sim.node(victim).is_some() {
            sim.crash(victim);
            dead.push(victim);
            killed += 1;
            left.values_mut().for_each(|holders| holders.retain(|holder| *holder != victim));
        }
    }
}

fn acknowledged_values_survive<O: Quick>() {
    run_seeds(4, values_survive::<O>);
}

over_each_overlay!(acknowledged_values_survive);
