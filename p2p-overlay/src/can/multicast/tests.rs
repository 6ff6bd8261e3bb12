//! Everybody gets each message once; how many are sent for it; what strangers may do.

use std::collections::{BTreeMap, BTreeSet};

use p2p_core::sim::{Encoding, Latency, Network, Session, Sim, churn, run_seeds};
use p2p_core::{Rng, Script, SimPeer};
use proptest::prelude::*;

use super::super::tests::geometry::grown;
use super::super::zones::abuts;
use super::super::{CanConfig, CanTable, Claims, Neighbour, Space};
use super::*;
use crate::measure::Recorder;

type Node = Recorder<CanMulticast<SimPeer>>;

const SECOND: Duration = Duration::from_secs(1);
const MS: Duration = Duration::from_millis(1);
const TOPIC: &str = "all";

fn config(spread: Spread) -> CanMulticastConfig {
    CanMulticastConfig { spread, ..CanMulticastConfig::default() }
}

/// A world of nodes that stay as they are, and have all subscribed.
fn world(seed: u64, nodes: Vec<Can<SimPeer>>, spread: Spread) -> Sim<Node> {
    let network = Network {
        latency: Latency::Uniform(10 * MS, 100 * MS),
        encoding: Encoding::RoundTrip,
        ..Network::default()
    };
    let mut sim = Sim::<Node>::new(seed, network);
    for can in nodes {
        let peer = sim.spawn(|_| Recorder::new(CanMulticast::new(can, config(spread))));
        sim.command(peer, CanMulticastCommand::Subscribe { topic: Topic::named(TOPIC) });
    }
    sim
}

fn at_rest(dimensions: u8, uniform: bool) -> CanConfig {
    CanConfig { dimensions, uniform, update: Duration::ZERO, ..CanConfig::default() }
}

/// Nodes with one zone each, which know their neighbours.
fn holding(zones: &[Zone]) -> Vec<Can<SimPeer>> {
    let config = at_rest(zones[0].space().dimensions(), false);
    let claim = |zone: &Zone| Claim { zone: *zone, version: 1 };
    let table = |(i, zone): (usize, &Zone)| {
        let others = zones.iter().enumerate().filter(|(_, other)| abuts(&[claim(zone)], other));
        let neighbours = others
            .map(|(other, zone)| Neighbour::new(SimPeer(other as u32), Claims::One(claim(zone))))
            .collect();
        let table = CanTable::new(SimPeer(i as u32), [], config);
        let table = CanTable { claims: vec![claim(zone)], neighbours, ..table };
        crate::routed::Routed::new(table, config.lookup)
    };
    zones.iter().enumerate().map(table).collect()
}

/// A space cut evenly.
fn even(dimensions: u8, halvings: u32) -> Vec<Zone> {
    let mut zones = vec![Space::new(dimensions).whole()];
    for _ in 0..halvings {
        zones = zones.iter().flat_map(|zone| <[Zone; 2]>::from(zone.split().unwrap())).collect();
    }
    zones
}

fn publish(sim: &mut Sim<Node>, peer: SimPeer, text: &str) {
    let bytes = Bytes::copy_from_slice(text.as_bytes());
    sim.command(peer, CanMulticastCommand::Publish { topic: Topic::named(TOPIC), bytes });
}

/// Who has received a message, as often as it has.
fn receivers(sim: &Sim<Node>, text: &str) -> Vec<SimPeer> {
    let times = |node: &Node| {
        let messages = node.received().iter().filter_map(|receipt| receipt.message.as_ref());
        messages.filter(|message| message.bytes == text).count()
    };
    sim.view().iter().flat_map(|(peer, node)| vec![peer; times(node)]).collect()
}

/// Publishes from some nodes; all get each message once. Says how many are sent for each message and node.
#[track_caller]
fn transmissions(mut sim: Sim<Node>, messages: u64) -> f64 {
    let before = sim.stats().sent;
    let all = sim.alive().to_vec();
    for i in 0..messages {
        let publisher = *sim.workload_rng().choose(&all).unwrap();
        publish(&mut sim, publisher, &format!("{i}"));
        sim.run_for(30 * SECOND);
        assert_eq!(receivers(&sim, &format!("{i}")), all, "message {i}, by {publisher}");
    }
    (sim.stats().sent - before) as f64 / (messages as usize * (all.len() - 1)) as f64
}

/// Where all zones are alike each node receives each message once, by either rule: the paper's claim.
#[test]
fn even_zones_receive_each_message_once() {
    for (dimensions, halvings) in [(1, 5), (2, 2), (2, 6), (3, 6), (4, 8)] {
        for spread in [Spread::Directed, Spread::Once] {
            let sim = world(1, holding(&even(dimensions, halvings)), spread);
            assert_eq!(transmissions(sim, 10), 1.0, "{spread:?}, 2^{halvings} zones, d = {dimensions}");
        }
    }
}

/// Where joins have cut the space by chance all nodes get each message, by the paper's rules some of them several
/// times, by ours once.
#[test]
fn uneven_zones_all_receive_each_message() {
    run_seeds(2, |seed| {
        for (dimensions, uniform) in [(1, false), (2, false), (2, true), (3, false), (4, true)] {
            let peers: Vec<SimPeer> = (0..200).map(SimPeer).collect();
            let network = || Can::converged(&peers, at_rest(dimensions, uniform));
            let [directed, once] = [Spread::Directed, Spread::Once]
                .map(|spread| transmissions(world(seed, network(), spread), 10));
            println!(
                "d = {dimensions}, uniform {uniform}: {directed:.2} by the paper's rules, {once:.2} by ours"
            );
            assert_eq!(once, 1.0);
            assert!((1.0..6.0).contains(&directed), "{directed} transmissions a node");
        }
    });
}

/// Of those who share a zone one has it from outside, and hands it to the others.
#[test]
fn those_who_share_a_zone_all_receive_each_message() {
    let peers: Vec<SimPeer> = (0..200).map(SimPeer).collect();
    let network = || Can::converged(&peers, CanConfig { zone_peers: 3, ..at_rest(2, true) });
    assert_eq!(transmissions(world(1, network(), Spread::Once), 10), 1.0);
    let directed = transmissions(world(1, network(), Spread::Directed), 10);
    assert!((1.0..6.0).contains(&directed), "{directed} transmissions a node");
}

/// Messages of one publisher come in the order in which they were published, however fast they follow each other.
#[test]
fn messages_of_one_publisher_stay_in_order() {
    let peers: Vec<SimPeer> = (0..200).map(SimPeer).collect();
    let mut sim = world(3, Can::converged(&peers, at_rest(3, false)), Spread::Once);
    for i in 0..100 {
        publish(&mut sim, SimPeer(i % 4), &format!("{i}"));
        sim.run_for(MS);
    }
    sim.run_for(30 * SECOND);
    for (peer, node) in sim.view().iter() {
        let mut last: BTreeMap<SimPeer, u32> = BTreeMap::new();
        let messages = node.received().iter().filter_map(|receipt| receipt.message.as_ref());
        for message in messages {
            let number: u32 = std::str::from_utf8(&message.bytes).unwrap().parse().unwrap();
            let before = last.insert(message.publisher, number);
            assert!(before.is_none_or(|before| before < number), "{peer}: {number} after {before:?}");
        }
        assert_eq!(last.into_values().collect::<Vec<_>>(), [96, 97, 98, 99], "{peer}");
    }
}

/// Half of the nodes leave within ten minutes and others come: of those who are there from before a message is
/// published until it should have come, nearly all receive it, once. (A node that has died leaves its zone's neighbours
/// without messages that come through it until it is noticed: up to an update, 15 s, and three silences.)
#[test]
fn most_messages_arrive_under_churn() {
    run_seeds(1, |seed| {
        for spread in [Spread::Directed, Spread::Once] {
            let peers: Vec<SimPeer> = (0..100).map(SimPeer).collect();
            let can = CanConfig { dimensions: 3, ..CanConfig::default() };
            let mut sim = world(seed, Can::converged(&peers, can), spread);
            sim.population(move |birth| {
                let seeds = birth.some(3);
                Recorder::new(CanMulticast::new(Can::with(birth.peer, seeds, can), config(spread)))
            });
            let session = Session::Exponential { median: 600 * SECOND };
            sim.inject(churn(&mut Rng::stream(seed, 77), 100, 100, session, 1200 * SECOND));
            let mut subscribed: BTreeSet<SimPeer> = sim.alive().iter().copied().collect();
            let (mut expected, mut received) = (0, 0);
            for i in 0..240 {
                for peer in sim.alive().to_vec() {
                    if subscribed.insert(peer) {
                        let topic = Topic::named(TOPIC);
                        sim.command(peer, CanMulticastCommand::Subscribe { topic });
                    }
                }
                let joined = |sim: &Sim<Node>| -> BTreeSet<SimPeer> {
                    let joined = sim.view().iter().filter(|(_, node)| node.machine().can().is_joined());
                    joined.map(|(peer, _)| peer).collect()
                };
                let before: Vec<SimPeer> = joined(&sim).into_iter().collect();
                let publisher = *sim.workload_rng().choose(&before).unwrap();
                publish(&mut sim, publisher, &format!("{i}"));
                sim.run_for(5 * SECOND);
                let after = joined(&sim);
                let got = receivers(&sim, &format!("{i}"));
                let once: BTreeSet<SimPeer> = got.iter().copied().collect();
                assert_eq!(once.len(), got.len(), "somebody received message {i} twice");
                let there = before.iter().filter(|peer| after.contains(peer));
                expected += there.clone().count();
                received += there.filter(|peer| once.contains(peer)).count();
            }
            let share = f64::from(received as u32) / f64::from(expected as u32);
            println!("seed {seed}, {spread:?}: {share:.4} of {expected} messages received");
            assert!(share > 0.9, "{share} received");
        }
    });
}

// ---- one node

/// A node among 64, and a neighbour of it.
fn script(config: CanMulticastConfig) -> (Script<CanMulticast<SimPeer>>, SimPeer) {
    let peers: Vec<SimPeer> = (0..64).map(SimPeer).collect();
    let can = Can::converged(&peers, at_rest(2, false)).swap_remove(7);
    let neighbour = can.table().neighbours().next().unwrap().0;
    let mut script = Script::new(CanMulticast::new(can, config));
    script.command(CanMulticastCommand::Subscribe { topic: Topic::named(TOPIC) });
    script.items();
    (script, neighbour)
}

fn flood(sequence: u64, bytes: &[u8]) -> Flood<SimPeer> {
    let origin = even(2, 6)[0];
    let bytes = Bytes::copy_from_slice(bytes);
    let (topic, publisher) = (Topic::named(TOPIC), SimPeer(9));
    Flood { topic, publisher, sequence, origin, way: Some((1, true)), bytes }
}

#[test]
fn strangers_and_nonsense_reach_nobody() {
    let (mut script, neighbour) = script(CanMulticastConfig { max_bytes: 10, ..config(Spread::Directed) });
    for (from, flood) in [
        (SimPeer(1000), flood(1, b"forged")),
        (neighbour, flood(2, &[0; 11])),
        (neighbour, Flood { way: Some((2, true)), ..flood(3, b"") }),
        (neighbour, Flood { way: Some((255, false)), ..flood(4, b"") }),
        (neighbour, Flood { origin: even(3, 6)[0], ..flood(5, b"") }),
    ] {
        script.message(from, CanMulticastMsg::Flood(flood));
    }
    assert!(script.items().is_empty() && script.sent().is_empty());
    script.message(neighbour, CanMulticastMsg::Flood(flood(6, b"true")));
    assert_eq!(script.items().len(), 1);
}

#[test]
fn a_message_comes_once_however_often_it_is_sent() {
    for spread in [Spread::Directed, Spread::Once] {
        let (mut script, neighbour) = script(config(spread));
        for sequence in [1, 2, 1, 3, 2, 1] {
            script.message(neighbour, CanMulticastMsg::Flood(flood(sequence, b"")));
        }
        assert_eq!(script.items().len(), 3);
        let mut sent: Vec<(SimPeer, u64)> = script
            .sent()
            .into_iter()
            .filter_map(|(to, msg)| match msg {
                CanMulticastMsg::Flood(flood) => Some((to, flood.sequence)),
                CanMulticastMsg::Can(_) => None,
            })
            .collect();
        let all = sent.len();
        sent.sort_unstable();
        sent.dedup();
        assert_eq!(sent.len(), all, "to nobody twice");
    }
}

/// A neighbour that sends more than its share is not passed on, and others are as before; so is it itself, later.
#[test]
fn a_neighbour_floods_no_faster_than_it_may() {
    let rate = Rate { every: SECOND / 10, burst: 20 };
    let config = CanMulticastConfig { rate, window: 50, ..config(Spread::Once) };
    let (mut script, neighbour) = script(config);
    let other = script.machine().can().table().neighbours().nth(1).unwrap().0;
    (0..1000).for_each(|i| script.message(neighbour, CanMulticastMsg::Flood(flood(i, b""))));
    assert_eq!(script.items().len(), 20);
    script.message(other, CanMulticastMsg::Flood(flood(1000, b"")));
    assert_eq!(script.items().len(), 1);
    script.advance(SECOND);
    (2000..3000).for_each(|i| script.message(neighbour, CanMulticastMsg::Flood(flood(i, b""))));
    assert_eq!(script.items().len(), 10);
    for _ in 0..1000 {
        let publish = CanMulticastCommand::Publish { topic: Topic::named(TOPIC), bytes: Bytes::new() };
        script.command(publish);
    }
    assert_eq!(script.items().len(), 20, "neither does its own user");
    let busy = |outcome: &CanMulticastOutcome<SimPeer>| {
        matches!(outcome, CanMulticastOutcome::Published(Err(PubSubError::Busy)))
    };
    assert_eq!(script.outcomes().iter().filter(|(_, outcome)| busy(outcome)).count(), 980);
    assert_eq!(script.machine().seen.len(), 50);
}

#[test]
fn who_has_not_joined_waits_for_it_and_publishes_nothing() {
    let can = Can::join(SimPeer(0), [SimPeer(1)]);
    let mut script = Script::new(CanMulticast::new(can, CanMulticastConfig::default()));
    let topic = Topic::named(TOPIC);
    script.command(CanMulticastCommand::Subscribe { topic });
    script.command(CanMulticastCommand::Publish { topic, bytes: Bytes::new() });
    assert!(script.items().is_empty());
    let outcomes = script.outcomes();
    assert!(matches!(outcomes[..], [(_, CanMulticastOutcome::Published(Err(PubSubError::NotJoined)))]));
    script.command(CanMulticastCommand::Unsubscribe { topic });
    assert_eq!(script.outcomes().len(), 2);
    assert!(!script.machine().is_member(topic));
}

proptest! {
    /// However joins have cut the space, each zone but the origin has exactly one that sends to it, a neighbour, and
    /// whoever goes back from one to the next comes to the origin.
    #[test]
    fn each_zone_has_one_last_before_it(dimensions in 1u8..=4, seed: u64, nodes in 2usize..60) {
        let zones = grown(&mut Rng::new(seed), dimensions, nodes);
        let origin = zones[0];
        let before = |to: &Zone| {
            let sends = |from: &&Zone| {
                spread::is_last_before(&origin, to, &[Claim { zone: **from, version: 0 }])
            };
            zones.iter().filter(sends).copied().collect::<Vec<Zone>>()
        };
        prop_assert_eq!(before(&origin), []);
        for zone in &zones[1..] {
            let mut at = *zone;
            for _ in 0..nodes {
                if at == origin {
                    break;
                }
                let last = before(&at);
                prop_assert_eq!(last.len(), 1);
                prop_assert!(last[0].is_neighbour(&at));
                prop_assert!(spread::crossing(&origin, &last[0], &at, Ways::ALL).is_some());
                at = last[0];
            }
            prop_assert_eq!(at, origin);
        }
    }
}
