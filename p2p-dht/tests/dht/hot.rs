//! Values that many want are cached on the way to them, and end when they end.

#![allow(clippy::print_stdout, reason = "what was measured is worth seeing")]

use std::time::Duration;

use crate::world::{Quick, SECOND, config, world};
use p2p_core::sim::Network;
use p2p_core::{Key, SimPeer};
use p2p_dht::measure::hot::{Hot, Served};
use p2p_dht::{Client, Dht, DhtConfig, Gateway};
use p2p_overlay::measure::Simulated;
use p2p_overlay::{Chord, ChordConfig, Kademlia, KademliaConfig, Pastry, PastryConfig};

fn caching() -> DhtConfig {
    DhtConfig { cache_bytes: 1 << 20, ..config() }
}

/// Everybody reads it, so that caches are full of it; some who keep it die, and it is read on. But nobody gives it when it has
/// ended, and nobody but those who should keep it does so.
fn what_is_cached_ends_with_the_record<O: Quick>() {
    let mut sim = world::<O>(2, 20, Network::default(), caching());
    let gateway = sim.handle(SimPeer(3));
    let client = Client::at(SimPeer(999), 1200 * SECOND);
    let key = sim.block_on(async move { gateway.put_for(client, "a value".into()).await.unwrap() });
    let ends = sim.now() + 1200 * SECOND;
    let keepers = |sim: &crate::world::World<O>| {
        let view = sim.view();
        let keep = view.iter().filter(|(_, node)| node.held().any(|(slot, _)| slot.key == key));
        keep.map(|(peer, _)| peer).collect::<Vec<_>>()
    };
    let before = keepers(&sim);
    let read_by_all = |sim: &mut crate::world::World<O>| {
        let handles: Vec<_> = sim.alive().to_vec().into_iter().map(|peer| sim.handle(peer)).collect();
        sim.block_on(async move {
            let mut read = 0;
            for handle in &handles {
                read += usize::from(handle.get(key).await.is_ok_and(|value| value == "a value"));
            }
            read
        })
    };
    for _ in 0..3 {
        assert_eq!(read_by_all(&mut sim), 20);
    }
    assert_eq!(keepers(&sim), before, "a cached copy is kept by nobody");
    before.iter().take(2).for_each(|peer| sim.crash(*peer));
    assert_eq!(read_by_all(&mut sim), 18);
    sim.run_for(ends - sim.now() - 60 * SECOND);
    assert_eq!(read_by_all(&mut sim), 18, "just before it ends");
    sim.run_for(ends - sim.now() + SECOND);
    assert_eq!(read_by_all(&mut sim), 0, "it has ended");
}

over_each_overlay!(what_is_cached_ends_with_the_record);

/// Who has cached it gives it; and where nobody could give it, on the way or otherwise, it is not found.
#[test]
fn what_nobody_stored_is_not_found_on_the_way_either() {
    let mut sim = world::<Chord<SimPeer>>(1, 12, Network::default(), caching());
    let node = sim.handle(SimPeer(2));
    let got = sim.block_on(async move { node.get(Key::of(b"nothing")).await });
    assert!(matches!(got, Err(p2p_dht::GetError::NotFound { answered: 3.., silent: 0 })), "{got:?}");
}

fn served<O: Simulated>(what: &str, config: O::Config, cache_bytes: u64) -> Served {
    let dht = DhtConfig { cache_bytes, ..DhtConfig::default() };
    let served = Hot { nodes: 500, reads: 1500, dht, ..Hot::default() }.run::<O>(config);
    println!(
        "{what}, {cache_bytes} bytes of cache: given {:.3} times a get by those who keep it, {:?}; by others {}; {:.1} messages and \
         {:.0} bytes a get, {:.0} ms",
        served.load(),
        served.keepers,
        served.others,
        served.gets.messages_each(),
        served.gets.bytes_each(),
        served.gets.took_ms.mean(),
    );
    assert_eq!(served.gets.share(), 1.0, "{what}: every get comes to the value");
    served
}

/// Without caches those who keep a value give it at every get; with them a handful of times, whoever is busiest of them too.
fn caches_take_the_load_of_a_hot_key<O: Simulated>(what: &str, config: O::Config) {
    let (without, with) = (served::<O>(what, config, 0), served::<O>(what, config, 1 << 20));
    // At a node that keeps it a get costs nobody anything: 8 in 500.
    assert!(without.load() > 0.95, "{what}: {:?}", without.keepers);
    assert!(with.load() < without.load() / 5.0, "{what}: {:?}", with.keepers);
    assert!(with.keepers[0] < without.keepers[0] / 5, "{what}: {:?}", with.keepers);
    assert!(with.gets.messages_each() < without.gets.messages_each(), "{what}: it is no dearer");
}

#[test]
fn caches_take_the_load_of_a_hot_key_over_kademlia() {
    let config = KademliaConfig { upkeep: Duration::ZERO, ..KademliaConfig::default() };
    caches_take_the_load_of_a_hot_key::<Kademlia<SimPeer>>("Kademlia", config);
}

#[test]
fn caches_take_the_load_of_a_hot_key_over_chord() {
    let config = ChordConfig { stabilize: Duration::ZERO, ..ChordConfig::default() };
    caches_take_the_load_of_a_hot_key::<Chord<SimPeer>>("Chord", config);
}

#[test]
fn caches_take_the_load_of_a_hot_key_over_pastry() {
    let config = PastryConfig { upkeep: Duration::ZERO, ..PastryConfig::default() };
    caches_take_the_load_of_a_hot_key::<Pastry<SimPeer>>("Pastry", config);
}
