//! Much is published at once, with few lookups.

use crate::world::{Quick, SECOND, World, config, copies, world};
use p2p_core::sim::Network;
use p2p_core::{Key, SimPeer};
use p2p_dht::{Dht, DhtConfig, Provide, ProvideAll, Withdraw};
use p2p_overlay::{Chord, Kademlia, Pastry, Tapestry};

fn key(i: u32) -> Key {
    Key::of(&i.to_be_bytes())
}

fn keys(n: u32) -> Vec<Key> {
    (0..n).map(key).collect()
}

/// Who says that it provides something, as so many nodes know.
fn known<O: Quick>(sim: &World<O>, key: &Key) -> usize {
    sim.view().iter().filter(|(_, node)| node.held().any(|(slot, _)| slot.key == *key)).count()
}

/// Six hundred keys in a network of 24 nodes: a lookup or two where others begin to keep the keys. Says how many lookups and
/// messages it took, and how many messages each key takes by itself.
fn few_lookups_publish_many_keys<O: Quick>(most: u32) -> (u32, u64, u64) {
    let config = DhtConfig { max_providers: 8, ..config() };
    let mut sim = world::<O>(1, 24, Network::default(), config);
    let (node, reader) = (sim.handle(SimPeer(3)), sim.handle(SimPeer(20)));
    let one_by_one = sim.handle(SimPeer(4));
    let before = sim.stats().delivered;
    sim.block_on(async move {
        for key in (5000..5050).map(key) {
            one_by_one.ask(Provide(key)).await.unwrap().unwrap();
        }
    });
    let single = (sim.stats().delivered - before) / 50;
    let before = sim.stats().delivered;
    let swept = sim.block_on(async move { node.ask(ProvideAll(keys(600))).await.unwrap().unwrap() });
    let messages = sim.stats().delivered - before;
    assert_eq!((swept.stored, swept.failed), (600, 0), "{swept:?}");
    assert!(swept.lookups <= most, "{swept:?}");
    // The overlay's upkeep, which goes on meanwhile, is in both.
    assert!(messages / 600 < single / 3, "{messages}");
    sim.run_for(5 * SECOND);
    for i in (0..600).step_by(50) {
        let reader = reader.clone();
        let found = sim.block_on(async move { reader.providers(key(i)).await });
        assert_eq!(found, Ok(vec![SimPeer(3)]), "{i}");
        assert!(known(&sim, &key(i)) >= copies(&sim, &key(i)), "{i} is known to {}", known(&sim, &key(i)));
    }
    (swept.lookups, messages, single)
}

#[test]
fn over_chord_few_lookups_publish_many_keys() {
    println!("{:?}", few_lookups_publish_many_keys::<Chord<SimPeer>>(60));
}

#[test]
fn over_kademlia_few_lookups_publish_many_keys() {
    println!("{:?}", few_lookups_publish_many_keys::<Kademlia<SimPeer>>(80));
}

#[test]
fn over_pastry_few_lookups_publish_many_keys() {
    println!("{:?}", few_lookups_publish_many_keys::<Pastry<SimPeer>>(80));
}

/// Where copies lie at salted keys every key is looked up; it is done all the same.
#[test]
fn over_tapestry_all_keys_are_looked_up_and_published() {
    let mut sim = world::<Tapestry<SimPeer>>(1, 16, Network::default(), config());
    let (node, reader) = (sim.handle(SimPeer(3)), sim.handle(SimPeer(12)));
    let swept = sim.block_on(async move { node.ask(ProvideAll(keys(100))).await.unwrap().unwrap() });
    assert!(swept.stored == 100 && swept.lookups >= 100, "{swept:?}");
    let found = sim.block_on(async move { reader.providers(key(77)).await });
    assert_eq!(found, Ok(vec![SimPeer(3)]));
}

/// What was published together is published again together, for as long as it is not withdrawn.
#[test]
fn what_was_published_together_goes_on_being_so() {
    let config = DhtConfig { lifetime: 600 * SECOND, republish: 200 * SECOND, ..config() };
    let mut sim = world::<Chord<SimPeer>>(3, 12, Network::default(), config);
    let (node, reader) = (sim.handle(SimPeer(3)), sim.handle(SimPeer(5)));
    sim.block_on(async move {
        node.ask(ProvideAll(keys(200))).await.unwrap().unwrap();
        node.ask(Withdraw::provider(key(7))).await.unwrap().unwrap();
    });
    sim.run_for(1500 * SECOND);
    let (withdrawn, others) = sim.block_on(async move {
        let withdrawn = reader.providers(key(7)).await;
        let mut others = 0;
        for key in keys(200) {
            others += usize::from(reader.providers(key).await == Ok(vec![SimPeer(3)]));
        }
        (withdrawn, others)
    });
    assert!(withdrawn.is_err());
    assert_eq!(others, 199);
}

#[test]
fn more_than_there_is_room_for_is_said() {
    let config = DhtConfig { max_records: 100, ..config() };
    let mut sim = world::<Chord<SimPeer>>(3, 8, Network::default(), config);
    let node = sim.handle(SimPeer(3));
    let swept = sim.block_on(async move { node.ask(ProvideAll(keys(1000))).await.unwrap().unwrap() });
    assert!(swept.failed >= 800 && swept.stored + swept.failed == 1000, "{swept:?}");
    assert!(!swept.failures.is_empty() && swept.failures.len() <= 64);
}
