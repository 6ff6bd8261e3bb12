//! No acknowledged value is lost while fewer nodes fail between two repairs than keep it.
//!
//! Each seed is a world of its own: nodes die and come back with what they had, new ones join, messages are lost,
//! held back and cut off, clocks drift. Between two repairs all but one of the nodes that keep a value may die at
//! once, and often do. A map says what was acknowledged: in the end every value must be read, by a node that does not keep
//! it, and of each publisher's signed values the last that was acknowledged, or one that he tried to store after it.

use std::collections::BTreeMap;

use crate::world::{Quick, SECOND, Store, World, config, roots, world_on};
use p2p_core::sim::{FaultMix, Latency, Loss, Network, SimFile, random_faults, run_seeds};
use p2p_core::{Key, Keypair, Rng, SimPeer};
use p2p_dht::{Dht, MemoryStore, Publish, Put, RecordKind, RedbStore, Signed, Slot, Stored, Version};
use p2p_overlay::{Chord, Kademlia, Replicas};

const NODES: u32 = 24;

/// What was acknowledged, and who published it.
#[derive(Default)]
struct Acknowledged {
    values: BTreeMap<Key, (String, SimPeer)>,
    signed: BTreeMap<Key, Register>,
}

/// The signed values of one publisher.
struct Register {
    keypair: Keypair,
    /// The sequence number of the last that was acknowledged, through this node; 0 if none was.
    last: u64,
    through: SimPeer,
    /// That of the last that was tried.
    tried: u64,
}

impl Register {
    fn value(&self, sequence: u64) -> String {
        format!("{} of {:?}", sequence, self.keypair.id())
    }
}

impl Acknowledged {
    /// The keys under which something is, with which sequence number at least, and through which node it was published.
    fn keys(&self) -> Vec<(Key, u64, SimPeer)> {
        let values = self.values.iter().map(|(key, (_, publisher))| (*key, 0, *publisher));
        let signed = self.signed.iter().filter(|(_, register)| register.last > 0);
        values.chain(signed.map(|(key, register)| (*key, register.last, register.through))).collect()
    }
}

/// Who has what is under a key, or something newer.
fn holders<O: Quick, W: Store>(sim: &World<O, W>, key: Key, sequence: u64) -> Vec<SimPeer> {
    let is = |slot: &Slot<SimPeer>| slot.key == key && !matches!(slot.kind, RecordKind::Provider(_));
    let is_new = |version: Version| version.sequence >= sequence;
    let holds = sim.view();
    let holds =
        holds.iter().filter(|(_, node)| node.held().any(|(held, version)| is(held) && is_new(version)));
    holds.map(|(peer, _)| peer).collect()
}

fn values_survive<O: Quick, W: Store>(seed: u64, store: fn() -> W) -> u64 {
    let network = Network {
        latency: Latency::Uniform(SECOND / 100, SECOND / 10),
        loss: Loss::Uniform(0.01),
        ..Network::default()
    };
    let mut sim = world_on::<O, W>(seed, NODES, network, config(), store);
    let mut rng = Rng::stream(seed, 77);
    let mut acknowledged = Acknowledged::default();
    for i in 0..4 {
        let keypair = Keypair::from_seed(&[i; 32]);
        let register = Register { last: 0, through: SimPeer(0), tried: 0, keypair };
        acknowledged.signed.insert(Signed::key_of(&register.keypair.id(), b""), register);
    }
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
                acknowledged.values.insert(key, (value, publisher));
            }
        }
        for register in acknowledged.signed.values_mut() {
            let until = sim.wall().as_secs() + 7 * 24 * 3600;
            let through = *rng.choose(&living).unwrap();
            let node = sim.handle(through);
            register.tried += 1;
            let (sequence, value) = (register.tried, register.value(register.tried));
            let signed = Signed::new(&register.keypair, "", sequence, until, value).unwrap();
            // In a row what one has acknowledged the next finds there: unless others were tried in between.
            let expected = (register.last + 1 == sequence && register.last > 0).then_some(register.last);
            let stored = sim.block_on(async move { node.ask(Publish { signed, expected }).await.unwrap() });
            if let Ok(Stored { copies: 3.., .. }) = stored {
                (register.last, register.through) = (sequence, through);
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
    assert!(acknowledged.values.len() >= 18, "only {} of 36 puts succeeded", acknowledged.values.len());
    assert!(acknowledged.signed.values().all(|register| register.last >= 2), "publishers do not get on");
    for (key, register) in &acknowledged.signed {
        let holders = holders(&sim, *key, register.last);
        let reader = sim.handle(*rng.choose(sim.alive()).unwrap());
        let publisher = register.keypair.id();
        let got = sim.block_on(async move { reader.latest(publisher, b"").await });
        let got = got.unwrap_or_else(|error| panic!("{error}; kept by {holders:?}"));
        let possible = register.last..=register.tried;
        assert!(possible.contains(&got.sequence()), "{got:?}, {possible:?} were acknowledged or tried");
        assert_eq!(*got.value(), register.value(got.sequence()));
    }
    for (key, (value, _)) in &acknowledged.values {
        let holders = holders(&sim, *key, 0);
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
fn replicas<O: Quick, W: Store>(sim: &World<O, W>, key: Key, sequence: u64) -> Vec<SimPeer> {
    let mut replicas = holders(sim, key, sequence);
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
fn kill<O: Quick, W: Store>(
    sim: &mut World<O, W>,
    rng: &mut Rng,
    acknowledged: &Acknowledged,
    dead: &mut Vec<SimPeer>,
) {
    let mut left: BTreeMap<Key, Vec<SimPeer>> = BTreeMap::new();
    for (key, sequence, publisher) in acknowledged.keys() {
        left.insert(
            key,
            replicas(sim, key, sequence).into_iter().filter(|peer| *peer != publisher).collect(),
        );
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
    run_seeds(4, |seed| values_survive::<O, _>(seed, MemoryStore::default));
}

/// Whoever dies loses what its disk had not synced, or a part of that, in the midst of a commit.
fn they_survive_on_disks_that_tear_writes<O: Quick>() {
    run_seeds(2, |seed| values_survive::<O, _>(seed, || RedbStore::on(SimFile::default()).unwrap()));
}

#[test]
fn over_chord_they_survive_on_disks_that_tear_writes() {
    they_survive_on_disks_that_tear_writes::<Chord<SimPeer>>();
}

#[test]
fn over_kademlia_they_survive_on_disks_that_tear_writes() {
    they_survive_on_disks_that_tear_writes::<Kademlia<SimPeer>>();
}

over_each_overlay!(acknowledged_values_survive);
