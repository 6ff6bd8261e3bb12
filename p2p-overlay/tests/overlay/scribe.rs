//! Scribe in worlds: everyone gets each message once at rest; after crashes, churn and cuts there is one tree again.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test may fail, and what was measured is worth seeing"
)]

mod repair;
mod world;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use p2p_core::sim::{Network, Sim, run_seeds};
use p2p_core::{Keyed, Rng, SimPeer};
use p2p_overlay::measure::Recorder;
use p2p_overlay::{
    Chord, ChordConfig, MAX_MESSAGE, Message, PubSub, PubSubError, Scribe, ScribeCommand, ScribeConfig,
    ScribeOutcome, Topic,
};

use world::{World, topic, world};

const SECOND: Duration = Duration::from_secs(1);
const MS: Duration = Duration::from_millis(1);

/// A ring that mends in seconds.
fn chord() -> ChordConfig {
    ChordConfig { stabilize: 5 * SECOND, ..ChordConfig::default() }
}

fn ring(seed: u64, nodes: u32, scribe: ScribeConfig) -> World<Chord<SimPeer>> {
    world(seed, nodes, chord(), scribe)
}

#[test]
fn everyone_gets_each_message_once_and_in_order() {
    run_seeds(2, |seed| {
        let mut world = ring(seed, 400, ScribeConfig::default());
        let mut rng = Rng::stream(seed, 7);
        for i in 0..80 {
            for _ in 0..1 + rng.index(60) {
                world.subscribe(topic(i), SimPeer(rng.below(400) as u32));
            }
        }
        world.sim.run_for(20 * SECOND);
        world.check();
        // Members and others publish, several messages at once.
        let mut published: Vec<(Topic, String)> = Vec::new();
        for i in 0..80 {
            for publisher in [rng.below(400) as u32, rng.below(400) as u32] {
                for _ in 0..3 {
                    let text = world.publish(topic(i), SimPeer(publisher));
                    published.push((topic(i), text));
                    world.sim.run_for(MS);
                }
            }
        }
        world.sim.run_for(10 * SECOND);
        for (topic, text) in &published {
            let receivers = world.receivers(*topic, text);
            assert_eq!(receivers, world.members(*topic).into_iter().collect::<Vec<_>>(), "{text:?}");
        }
        for (peer, node) in world.sim.view().iter() {
            let mut last: BTreeMap<(Topic, SimPeer), u32> = BTreeMap::new();
            for receipt in node.received() {
                let Some(message) = &receipt.message else { continue };
                let text = String::from_utf8(message.bytes.to_vec()).unwrap();
                let number: u32 = text.rsplit(' ').next().unwrap().parse().unwrap();
                let before = last.insert((receipt.topic, message.publisher), number);
                assert!(before.is_none_or(|before| before < number), "{peer}: {number} after {before:?}");
            }
        }
        world.sim.trace()
    });
}

#[test]
fn unsubscribing_leaves_nothing_behind() {
    run_seeds(5, |seed| {
        let mut world = ring(seed, 100, ScribeConfig::default());
        let mut rng = Rng::stream(seed, 7);
        for i in 0..20 {
            (0..30).for_each(|_| world.subscribe(topic(i), SimPeer(rng.below(100) as u32)));
        }
        // Some leave before they are in.
        world.sim.run_for(200 * MS);
        let mut all: Vec<(Topic, SimPeer)> = world.subscribed.keys().copied().collect();
        rng.shuffle(&mut all);
        for (topic, peer) in all {
            world.unsubscribe(topic, peer);
            world.sim.run_for(20 * MS);
        }
        world.sim.run_for(10 * SECOND);
        for (peer, node) in world.sim.view().iter() {
            assert_eq!(node.machine().topics().count(), 0, "{peer} still has topics");
        }
        world.sim.trace()
    });
}

/// Where connections tell that a peer is gone nobody has to wait for silence.
#[test]
fn a_lost_connection_is_noticed_at_once() {
    let mut world = ring(1, 100, ScribeConfig::default());
    world.sim.network_mut().links = Some(SECOND);
    world.subscribe_all(topic(0));
    world.sim.run_for(20 * SECOND);
    let victims: Vec<SimPeer> = world.forwarders(topic(0)).into_iter().step_by(3).collect();
    victims.iter().for_each(|peer| world.sim.crash(*peer));
    let root = world.root(topic(0));
    world.sim.crash(root);
    let took = world.recovers_in(topic(0), 12 * SECOND);
    println!("after {took:?} all is well");
}

#[test]
fn a_newcomer_that_becomes_the_root_takes_the_tree_over() {
    let mut world = ring(3, 30, ScribeConfig::default());
    // A topic of which the root is yet to come.
    let owner =
        |topic: &Topic| (0..40).map(SimPeer).min_by_key(|peer| topic.0.distance(&peer.key())).unwrap();
    let topic = (0..).map(topic).find(|topic| owner(topic).0 >= 35).unwrap();
    world.subscribe_all(topic);
    world.sim.run_for(20 * SECOND);
    let old = world.root(topic);
    for _ in 30..40 {
        assert!(world.reaches_all(topic, SECOND));
        world.sim.join();
        // While it joins, and afterwards.
        for _ in 0..20 {
            assert!(world.reaches_all(topic, SECOND), "a newcomer has broken the tree");
        }
    }
    assert_eq!(world.root(topic), owner(&topic));
    assert_eq!(world.sim.node(old).unwrap().machine().parent(topic), Some(owner(&topic)));
    world.check();
}

/// A node of a full tree is somewhere below; nobody has more children than it may.
#[test]
fn full_nodes_push_newcomers_down() {
    let config = ScribeConfig { max_children: 3, ..ScribeConfig::default() };
    let mut world = ring(5, 200, config);
    world.sim.check_each_step(|_, node: &Recorder<Scribe<Chord<SimPeer>>>| {
        let most = node.machine().topics().map(|topic| node.machine().children(topic).count()).max();
        if most > Some(3) { Err(format!("{most:?} children")) } else { Ok(()) }
    });
    world.subscribe_all(topic(0));
    world.sim.run_for(120 * SECOND);
    world.check();
    assert!(world.reaches_all(topic(0), 5 * SECOND));
}

#[test]
fn an_anycast_is_taken_once_while_somebody_offers_to() {
    let mut world = ring(1, 100, ScribeConfig::default());
    for i in 0..40 {
        world.subscribe(topic(0), SimPeer(i));
    }
    for i in [5, 50] {
        world.sim.command(SimPeer(i), ScribeCommand::Offer { topic: topic(0), times: 2 });
    }
    world.sim.run_for(20 * SECOND);
    let mut taken: Vec<SimPeer> = Vec::new();
    for i in 0..6 {
        let anycast = ScribeCommand::Anycast { topic: topic(0), bytes: format!("work {i}").into() };
        let op = world.sim.command(SimPeer(60 + i), anycast);
        world.sim.run_for(20 * SECOND);
        let outcomes = world.sim.take_outcomes();
        let outcome = outcomes.into_iter().find(|ended| ended.op == op).unwrap().outcome;
        let ScribeOutcome::Anycast(result) = outcome else { panic!("{outcome:?}") };
        match result {
            Ok(by) => {
                assert_eq!(world.receivers(topic(0), &format!("work {i}")), [by]);
                taken.push(by);
            }
            Err(error) => assert!(i >= 4, "{error}"),
        }
    }
    taken.sort_unstable();
    assert_eq!(taken, [SimPeer(5), SimPeer(5), SimPeer(50), SimPeer(50)]);
}

type Plain = Scribe<Chord<SimPeer>>;

/// What applications see.
fn nodes(nodes: u32) -> (Sim<Plain>, Vec<Arc<dyn PubSub<SimPeer>>>) {
    let mut sim = Sim::new(1, Network::default());
    let peers: Vec<SimPeer> = (0..nodes).map(SimPeer).collect();
    for overlay in Chord::converged(&peers, ChordConfig::default()) {
        sim.spawn(|_| Scribe::new(overlay, ScribeConfig::default()));
    }
    let handles = peers.iter().map(|peer| Arc::new(sim.handle(*peer)) as Arc<dyn PubSub<SimPeer>>);
    let handles = handles.collect();
    (sim, handles)
}

fn topics_left(sim: &Sim<Plain>) -> usize {
    sim.view().iter().map(|(_, scribe)| scribe.topics().count()).sum()
}

#[test]
fn a_subscription_ends_when_it_is_dropped_or_its_node_unsubscribes() {
    let (mut sim, nodes) = nodes(20);
    sim.block_on(async {
        let mut first = nodes[3].subscribe(topic(0)).await.unwrap();
        let mut second = nodes[3].subscribe(topic(0)).await.unwrap();
        nodes[9].publish(topic(0), "one".into()).await.unwrap();
        let one = Some(Ok(Message { publisher: SimPeer(9), bytes: "one".into() }));
        assert_eq!((first.next().await, second.next().await), (one.clone(), one));
        drop(first);
        nodes[9].publish(topic(0), "two".into()).await.unwrap();
        assert_eq!(second.next().await.unwrap().unwrap().bytes, "two");
        nodes[3].unsubscribe(topic(0)).await.unwrap();
        assert_eq!(second.next().await, None);
    });
    sim.run_for(5 * SECOND);
    assert_eq!(topics_left(&sim), 0);
}

#[test]
fn who_reads_too_slowly_is_told_so() {
    let (mut sim, nodes) = nodes(20);
    let mut slow = sim.block_on(nodes[3].subscribe(topic(0))).unwrap();
    for i in 0..2 * p2p_core::MAX_WAITING {
        sim.block_on(nodes[9].publish(topic(0), format!("{i}").into())).unwrap();
    }
    let (read, last) = sim.block_on(async {
        let mut read = 0;
        loop {
            match slow.next().await {
                Some(Ok(message)) => assert_eq!(message.bytes, format!("{read}")),
                last => break (read, last),
            }
            read += 1;
        }
    });
    assert_eq!(last, Some(Err(PubSubError::Lagged)), "after {read} messages");
    assert!(read >= p2p_core::MAX_WAITING, "{read} messages were kept");
    sim.run_for(5 * SECOND);
    assert_eq!(topics_left(&sim), 0);
}

#[test]
fn what_cannot_be_published_is_said_why() {
    let (mut sim, nodes) = nodes(2);
    let long = vec![0; MAX_MESSAGE + 1];
    let error = PubSubError::TooLarge { size: MAX_MESSAGE + 1, max: MAX_MESSAGE };
    assert_eq!(sim.block_on(nodes[0].publish(topic(0), long.into())), Err(error));
    let longest = vec![7; MAX_MESSAGE];
    let mut there = sim.block_on(nodes[1].subscribe(topic(0))).unwrap();
    assert_eq!(sim.block_on(nodes[0].publish(topic(0), longest.clone().into())), Ok(()));
    assert_eq!(sim.block_on(there.next()).unwrap().unwrap().bytes, longest);
    let alone = sim.spawn(|_| Scribe::new(Chord::join(SimPeer(2), [SimPeer(99)]), ScribeConfig::default()));
    let alone = sim.handle(alone);
    assert_eq!(sim.block_on(alone.publish(topic(0), "x".into())), Err(PubSubError::NotJoined));
}
