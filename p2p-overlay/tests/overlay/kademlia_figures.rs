//! What is known of Kademlia, by the code that runs on the wire.

#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "what was measured is worth seeing")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use p2p_core::sim::{Liar, Sim};
use p2p_core::{Key, Keyed, SimPeer};
use p2p_overlay::measure::{Experiment, mislead};
use p2p_overlay::{Find, Kademlia, KademliaConfig, RoutedMsg};

use crate::figures::{in_bamboos_range, steady};

/// A network that stays as it is.
fn at_rest() -> KademliaConfig {
    KademliaConfig { upkeep: Duration::ZERO, ..KademliaConfig::default() }
}

/// §2.3, and provable: at rest every lookup gives exactly the k = 20 closest nodes, in at most ⌈log2 N⌉ rounds.
#[test]
fn every_lookup_gives_the_k_closest() {
    for (nodes, lookups) in [(10, 200), (100, 1000), (1000, 2000), (10_000, 2000)] {
        let experiment =
            Experiment { nodes, lookups, replicas: 20, network: steady(), ..Experiment::default() };
        let report = experiment.run::<Kademlia<SimPeer>>(at_rest());
        assert_eq!((report.success(), report.agreement()), (1.0, 1.0), "{nodes} nodes");
        let rounds = u64::from(nodes.next_power_of_two().ilog2());
        println!("{nodes} nodes: {:?} rounds, at most {rounds}", report.hops);
        assert!(report.hops.max() <= rounds, "{} rounds with {nodes} nodes", report.hops.max());
    }
}

/// §4.2: buckets for b bits at a time shorten the path.
#[test]
fn wider_buckets_shorten_the_path() {
    let hops = |bits| {
        let experiment = Experiment { lookups: 2000, network: steady(), ..Experiment::default() };
        let config = KademliaConfig { bits, k: 4, ..at_rest() };
        let report = experiment.run::<Kademlia<SimPeer>>(config);
        assert_eq!(report.success(), 1.0, "b = {bits}");
        report.hops.mean()
    };
    let hops = [hops(1), hops(2), hops(4)];
    println!("hops with b = 1, 2, 4: {hops:?}");
    assert!(hops[1] < hops[0] - 0.2 && hops[2] < hops[1] - 0.2, "{hops:?}");
}

#[test]
fn lookups_in_bamboos_range() {
    in_bamboos_range::<Kademlia<SimPeer>>(KademliaConfig::default(), KademliaConfig::default());
}

/// S/Kademlia (Baumgart & Mies 2007), 10,000 nodes, k = 16, a fifth of them adversaries who name the adversaries
/// closest to what is looked for: over 8 disjoint paths at least 99% of lookups find the node that they look for.
#[test]
fn disjoint_paths_withstand_adversaries() {
    let (nodes, lookups) = (10_000, 500);
    let peers: Vec<SimPeer> = (0..nodes).map(SimPeer).collect();
    let lies = |peer: SimPeer| peer.0.is_multiple_of(5);
    let colluders: Vec<(Key, SimPeer)> =
        peers.iter().filter(|peer| lies(**peer)).map(|peer| (peer.key(), *peer)).collect();
    // The adversaries know what is looked for: they name these.
    let named: Arc<Mutex<Vec<SimPeer>>> = Arc::default();
    let found = |paths: u8| {
        let config = KademliaConfig { k: 16, paths, ..at_rest() };
        let mut sim = Sim::<Liar<Kademlia<SimPeer>>>::new(7, steady());
        for (node, &peer) in Kademlia::converged(&peers, config).into_iter().zip(&peers) {
            let named = named.clone();
            sim.spawn(|_| match lies(peer) {
                false => Liar::honest(node),
                true => Liar::new(node, move |_, to, msg| {
                    let RoutedMsg::Lookup(msg) = msg else { return vec![(to, msg)] };
                    let (to, msg) = mislead((peer, to), msg, &named.lock().unwrap(), true);
                    vec![(to, RoutedMsg::Lookup(msg))]
                }),
            });
        }
        let mut right = 0;
        for _ in 0..lookups {
            // Who looks is honest, and so is the node that is looked for.
            let mut honest = || loop {
                let peer = SimPeer(sim.workload_rng().below(nodes.into()) as u32);
                if !lies(peer) {
                    return peer;
                }
            };
            let (from, target) = (honest(), honest());
            let mut closest = colluders.clone();
            closest.sort_unstable_by_key(|(key, _)| key.xor(&target.key()));
            *named.lock().unwrap() = closest.iter().map(|(_, peer)| *peer).take(32).collect();
            sim.command(from, Find::key(target.key()));
            let until = sim.now() + Duration::from_secs(60);
            assert!(sim.run_to_outcome(until));
            let ended = sim.take_outcomes().pop().unwrap();
            right += u32::from(ended.outcome.is_ok_and(|found| found.root() == target));
        }
        f64::from(right) / f64::from(lookups)
    };
    let (one, eight) = (found(1), found(8));
    println!("found over one path: {one:.3}, over eight: {eight:.3}");
    assert!(eight >= 0.99, "{eight} over eight paths");
    assert!(one < eight, "one path is as good: the adversaries do no harm");
}
