//! What moves when nodes come and go: what they kept, and little else.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::world::{Quick, SECOND, World, config, roots, world};
use p2p_core::sim::{DiskModel, Liar, Network, Sim, run_seeds};
use p2p_core::{Key, Rng, SimPeer, Wire, Worker};
use p2p_dht::{
    Dht, DhtCommand, DhtConfig, DhtMsg, DhtOutcome, MemoryStore, OFFERED, Offered, Record, Replicated,
    StoreJob, Verdict, Writer,
};
use p2p_overlay::{
    Can, Chord, ChordConfig, LookupMsg, Overlay, Replicas, RoutedMsg, Tapestry, TapestryConfig,
};

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

/// What nodes say to each other about copies, in bytes: those that travel, and all else.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Bytes {
    copies: usize,
    talk: usize,
}

type Counted = Sim<Liar<Replicated<Chord<SimPeer>>>, MemoryStore<SimPeer>>;

/// A ring at rest, in which every node already has what it should, and all that is said.
fn at_rest(nodes: u32, values: usize, config: DhtConfig) -> (Counted, Arc<Mutex<Bytes>>) {
    let said: Arc<Mutex<Bytes>> = Arc::default();
    let peers: Vec<SimPeer> = (0..nodes).map(SimPeer).collect();
    let ring = Chord::converged(&peers, ChordConfig { stabilize: SECOND, ..ChordConfig::default() });
    let mut stores: BTreeMap<SimPeer, MemoryStore<SimPeer>> = BTreeMap::new();
    for i in 0..values {
        let record = Record::Immutable { value: format!("value {i}").into(), expires: 1_900_000_000 };
        let slot = record.slot();
        let root = ring.iter().find(|node| node.mine().contains(&slot.key)).unwrap();
        let Replicas::Peers(keepers) = root.replicas(&slot.key, config.replicas.into()) else { panic!() };
        for keeper in keepers {
            let record = record.clone();
            let write = StoreJob::Write { record, slot, by: Writer::Replica, own: false, account: 0 };
            stores.entry(keeper).or_default().run(vec![write]);
        }
    }
    let workers = move |peer| stores.remove(&peer).unwrap_or_default();
    let mut sim = Counted::with_workers(1, Network::default(), DiskModel::default(), workers);
    for chord in ring {
        let said = said.clone();
        let listen = move |_: &mut Rng, to, msg: DhtMsg<SimPeer, _>| {
            let mut said = said.lock().unwrap();
            match &msg {
                DhtMsg::Overlay(_) => {}
                DhtMsg::Store { .. } => said.copies += msg.wire_len(),
                _ => said.talk += msg.wire_len(),
            }
            vec![(to, msg)]
        };
        sim.spawn(|_| Liar::new(Replicated::new(chord, config), listen));
    }
    (sim, said)
}

/// How many bytes it takes to name each copy that a node has to the others that should have it, and the answers.
fn by_name(sim: &Counted, replicas: usize) -> usize {
    let bytes = |(_, node): (SimPeer, &Liar<Replicated<Chord<SimPeer>>>)| {
        let held = node.machine().held();
        let copies: Vec<_> = held.map(|(slot, version)| Offered { slot: *slot, version, nth: 0 }).collect();
        let one = |copies: &[Offered<SimPeer>]| {
            let offer = DhtMsg::<SimPeer, ()>::Offer { id: 1000, copies: copies.to_vec() };
            let verdicts = vec![Verdict::Has; copies.len()];
            offer.wire_len() + DhtMsg::<SimPeer, ()>::Compared { id: 1000, verdicts }.wire_len()
        };
        (replicas - 1) * copies.chunks(OFFERED).map(one).sum::<usize>()
    };
    sim.view().iter().map(bytes).sum()
}

/// At 10,000 records a node a pass over all of them takes some messages of a few bytes; and when a node dies, or comes back
/// with nothing, little is said but what has to move.
#[test]
fn over_chord_nodes_at_rest_say_little_and_move_what_changed_hands() {
    let (nodes, replicas) = (16, 8);
    let records = std::env::var("P2P_RECORDS").map_or(500, |records| records.parse().unwrap());
    let config = DhtConfig {
        repair: 600 * SECOND,
        settle: 5 * SECOND,
        max_lifetime: Duration::from_secs(1 << 40),
        ..DhtConfig::default()
    };
    let (mut sim, said) = at_rest(nodes, records * nodes as usize / replicas, config);
    let take = || std::mem::take(&mut *said.lock().unwrap());
    sim.run_for(60 * SECOND);
    take();
    // On average each node makes ten passes.
    sim.run_for(6000 * SECOND);
    let (rest, before) = (take(), by_name(&sim, replicas));
    println!("a pass of a node with {records} records: {} bytes, by name {}", rest.talk / 160, before / 16);
    assert_eq!(rest.copies, 0, "nothing changes hands");
    assert!(rest.talk > 0 && rest.talk / 10 < before / 100, "{rest:?}; by name {before} each pass");

    let kept = sim.node(SimPeer(3)).unwrap().machine().held().len();
    sim.crash(SimPeer(3));
    sim.run_for(300 * SECOND);
    let death = take();
    let one = DhtMsg::<SimPeer, ()>::Store {
        id: 1000,
        record: Record::Immutable { value: "value 1000".into(), expires: 1_900_000_000 },
        expected: None,
        copy: true,
    };
    let lost = kept * one.wire_len();
    println!("a death: {death:?}; what it kept is {lost} bytes");
    assert!((lost * 9 / 10..lost * 11 / 10).contains(&death.copies), "{death:?}, of {lost}");
    assert!(death.talk < before / 5, "{death:?}; by name {before}");
}

/// How many bytes of copies each node sends in each second, and all nodes of what they have published in each ten.
#[derive(Default)]
struct Storm {
    copies: BTreeMap<(SimPeer, u64), usize>,
    published: BTreeMap<u64, usize>,
}

/// All nodes of a network are killed at once, and start again within a second with what they had. While the ring comes
/// together again nobody knows what is whose; what they then send is little of what they have, and never more in a second
/// than they may; and what they have published they do not publish all at once.
#[test]
fn over_chord_a_mass_restart_is_no_storm() {
    const VALUES: u32 = 400;
    let storm: Arc<Mutex<Storm>> = Arc::default();
    let heard = storm.clone();
    let began = Arc::new(Mutex::new(p2p_core::Time::ZERO));
    let workers = |_| MemoryStore::default();
    let mut sim = Counted::with_workers(1, Network::default(), DiskModel::default(), workers);
    let rate = 20_000;
    let (settle, repair, republish) = (2 * SECOND, 600 * SECOND, 600 * SECOND);
    let config = DhtConfig { repair_rate: rate, settle, repair, republish, ..config() };
    let clock = began.clone();
    sim.population(move |birth| {
        let seeds = (0..3).filter_map(|_| birth.rng.choose(birth.alive).copied()).collect();
        let (me, heard, clock) = (birth.peer, heard.clone(), clock.clone());
        let listen = move |_: &mut Rng, to, msg: DhtMsg<SimPeer, _>| {
            if let DhtMsg::Store { copy, .. } = &msg {
                let second = clock.lock().unwrap().as_nanos() / 1_000_000_000;
                let mut heard = heard.lock().unwrap();
                match copy {
                    true => *heard.copies.entry((me, second)).or_default() += msg.wire_len(),
                    false => *heard.published.entry(second / 10).or_default() += msg.wire_len(),
                }
            }
            vec![(to, msg)]
        };
        Liar::new(Replicated::new(Chord::quick(me, seeds), config), listen)
    });
    let run_for = {
        let began = began.clone();
        move |sim: &mut Counted, seconds: u32| {
            for _ in 0..10 * seconds {
                *began.lock().unwrap() = sim.now();
                sim.run_for(SECOND / 10);
            }
        }
    };
    for _ in 0..24 {
        sim.join();
        run_for(&mut sim, 1);
    }
    run_for(&mut sim, 60);
    for i in 0..VALUES {
        let value = format!("{i:0>200}").into();
        sim.command(SimPeer(i % 24), DhtCommand::Put { value });
        let until = sim.now() + 10 * SECOND;
        assert!(sim.run_to_outcome(until));
        assert!(matches!(sim.take_outcomes().pop().unwrap().outcome, DhtOutcome::Stored(Ok(_))));
    }
    run_for(&mut sim, 120);
    let kept: usize = sim.view().iter().map(|(_, node)| node.machine().held().len() * 200).sum();
    let peers: Vec<SimPeer> = (0..24).map(SimPeer).collect();
    peers.iter().for_each(|peer| sim.crash(*peer));
    *storm.lock().unwrap() = Storm::default();
    for peer in &peers {
        sim.restart(*peer);
        sim.run_for(SECOND / 24);
    }
    // By then each has published once or twice.
    run_for(&mut sim, 1000);
    let Storm { copies, published } = std::mem::take(&mut *storm.lock().unwrap());
    let (sent, most) = (copies.values().sum::<usize>(), copies.values().max().copied().unwrap_or(0));
    let (again, published) =
        (published.values().sum::<usize>(), published.values().max().copied().unwrap_or(0));
    println!("of {kept} bytes kept {sent} were copied, at most {most} by one node in a second");
    println!("{again} bytes were published again, at most {published} in ten seconds");
    assert!(sent < kept / 4, "{sent} of {kept} bytes were copied");
    assert!(most < 3 * rate as usize, "{most} in a second");
    assert!(again > VALUES as usize * 1000, "each value to five nodes");
    assert!(published < again / 10, "{published} of {again} in ten seconds");
    let lost = (0..VALUES).filter(|i| {
        let key = Key::of(format!("{i:0>200}").as_bytes());
        let keepers = sim
            .view()
            .iter()
            .filter(|(_, node)| node.machine().held().any(|(slot, _)| slot.key == key))
            .count();
        keepers < 5
    });
    assert_eq!(lost.count(), 0);
}
