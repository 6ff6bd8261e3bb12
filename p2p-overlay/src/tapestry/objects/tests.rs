use std::time::Duration;

use p2p_core::sim::{Encoding, Latency, Network, Session, Sim, churn, run_seeds};
use p2p_core::{Key, Keyed, Rng, Script, SimPeer, Time};
use proptest::prelude::*;

use super::errand::{Errand, Task};
use super::pointers::{Pointer, Pointers};
use super::*;
use crate::measure::Simulated;
use crate::structured::salted;
use crate::tapestry::TapestryConfig;

const SECOND: Duration = Duration::from_secs(1);

/// Nothing is published again while a test runs.
fn once() -> ObjectConfig {
    let day = 24 * 3600 * SECOND;
    ObjectConfig { republish: day, lifetime: 2 * day, ..ObjectConfig::default() }
}

/// A network that joins, leaves and looks after itself, quickly.
fn world(seed: u64, nodes: u32, objects: ObjectConfig) -> Sim<TapestryObjects<SimPeer>> {
    let config = TapestryConfig { upkeep: 2 * SECOND, probe: 4 * SECOND, ..TapestryConfig::default() };
    let network = Network {
        latency: Latency::Uniform(Duration::from_millis(10), Duration::from_millis(80)),
        encoding: Encoding::RoundTrip,
        ..Network::default()
    };
    let mut sim = Sim::<TapestryObjects<SimPeer>>::new(seed, network);
    sim.population(move |birth| {
        let seeds = birth.some(4);
        TapestryObjects::new(Tapestry::with(birth.peer, seeds, config), objects)
    });
    let peers: Vec<SimPeer> = (0..nodes).map(SimPeer).collect();
    for node in Tapestry::converged(&peers, config) {
        sim.spawn(|_| TapestryObjects::new(node, objects));
    }
    sim
}

/// An object for each node, published there.
fn publish_one_each(sim: &mut Sim<TapestryObjects<SimPeer>>) -> Vec<(Key, SimPeer)> {
    let peers = sim.alive().to_vec();
    let objects: Vec<(Key, SimPeer)> =
        peers.into_iter().map(|peer| (Key::of(&peer.0.to_le_bytes()), peer)).collect();
    for (object, peer) in &objects {
        sim.command(*peer, ObjectCommand::Publish(*object));
    }
    sim.run_for(5 * SECOND);
    let ended = sim.take_outcomes();
    assert!(ended.iter().all(|ended| matches!(ended.outcome, ObjectOutcome::Published(Ok(4)))));
    objects
}

/// Each of an object's roots, by a look at all nodes, has a pointer to it.
fn roots_know(sim: &Sim<TapestryObjects<SimPeer>>, objects: &[(Key, SimPeer)]) {
    let mut nodes: Vec<(Key, SimPeer)> = sim.alive().iter().map(|peer| (peer.key(), *peer)).collect();
    nodes.sort_unstable();
    for (object, server) in objects.iter().filter(|(_, server)| sim.node(*server).is_some()) {
        for root in 0..once().roots {
            let at = Tapestry::owners(&nodes, &salted(object, root), 1)[0];
            let pointer = sim.node(at).unwrap().pointers.find(object, root, *server);
            assert!(pointer.is_some(), "{at} is a root of {object}, which {server} has, and does not know");
        }
    }
}

/// What became of looking for an object from a node.
fn locate(
    sim: &mut Sim<TapestryObjects<SimPeer>>,
    from: SimPeer,
    object: Key,
) -> Result<SimPeer, LocateError> {
    let handle = sim.handle(from);
    let located = sim.block_on(async move { handle.locate(object).await });
    located.map(|located| located.server)
}

/// Nodes die and others take their place; nothing is published a second time: the pointers have moved with the roots.
#[test]
fn pointers_follow_their_roots() {
    run_seeds(10, |seed| {
        let mut sim = world(seed, 40, once());
        let objects = publish_one_each(&mut sim);
        roots_know(&sim, &objects);
        let session = Session::Exponential { median: 120 * SECOND };
        sim.inject(churn(&mut Rng::stream(seed, 77), 40, 40, session, 120 * SECOND));
        sim.run_for(240 * SECOND);
        roots_know(&sim, &objects);
        sim.trace()
    });
}

#[test]
fn what_is_unpublished_is_not_found() {
    let mut sim = world(1, 30, once());
    let objects = publish_one_each(&mut sim);
    let (object, server) = objects[7];
    let (there, second) = (sim.handle(server), sim.handle(SimPeer(12)));
    assert_eq!(locate(&mut sim, SimPeer(3), object), Ok(server));
    sim.block_on(async move {
        second.publish(object).await.unwrap();
        there.unpublish(object).await.unwrap();
    });
    sim.run_for(5 * SECOND);
    assert_eq!(locate(&mut sim, SimPeer(3), object), Ok(SimPeer(12)), "another has it still");
    assert_eq!(locate(&mut sim, SimPeer(3), Key::of(b"nothing")), Err(LocateError::NotFound));
    let mut nodes: Vec<(Key, SimPeer)> = sim.alive().iter().map(|peer| (peer.key(), *peer)).collect();
    nodes.sort_unstable();
    for root in 0..once().roots {
        let at = Tapestry::owners(&nodes, &salted(&object, root), 1)[0];
        assert_eq!(sim.node(at).unwrap().pointers.find(&object, root, server), None, "at root {root}");
    }
}

/// Who dies publishes nothing again: its pointers end, and until then they mislead nobody for long.
#[test]
fn pointers_to_the_dead_end() {
    let config = ObjectConfig { republish: 60 * SECOND, lifetime: 180 * SECOND, ..ObjectConfig::default() };
    let mut sim = world(1, 30, config);
    let objects = publish_one_each(&mut sim);
    let (object, server) = objects[7];
    sim.crash(server);
    assert_eq!(locate(&mut sim, SimPeer(3), object), Err(LocateError::NotFound));
    sim.run_for(400 * SECOND);
    let knows =
        |object: &Key| sim.view().iter().filter(|(_, node)| !node.pointers.of(object).is_empty()).count();
    assert_eq!(knows(&object), 0);
    assert!(knows(&objects[8].0) >= 4, "whoever lives has published again");
}

#[test]
fn a_node_that_has_not_joined_says_so() {
    let mut sim = Sim::<TapestryObjects<SimPeer>>::new(1, Network::default());
    let lost = Tapestry::join(SimPeer(0), [SimPeer(99)]);
    let lost = sim.spawn(|_| TapestryObjects::new(lost, ObjectConfig::default()));
    let handle = sim.handle(lost);
    let published = sim.block_on(async move { handle.publish(Key::of(b"x")).await });
    assert_eq!(published, Err(PublishError::NoRoot));
    assert_eq!(locate(&mut sim, lost, Key::of(b"y")), Err(LocateError::NoRoot));
}

/// A node among 64 whose neighbours are known, and somebody who is not one of them.
fn node() -> (Script<TapestryObjects<SimPeer>>, SimPeer) {
    let peers: Vec<SimPeer> = (0..64).map(SimPeer).collect();
    let config = TapestryConfig { upkeep: Duration::ZERO, ..TapestryConfig::default() };
    let node = Tapestry::converged(&peers, config).remove(0);
    (Script::new(TapestryObjects::new(node, ObjectConfig::default())), SimPeer(100))
}

fn errand(object: Key, task: Task<SimPeer>) -> ObjectMsg<SimPeer> {
    ObjectMsg::Pass { id: 1, errand: Errand { object, root: 0, hops: 0, avoid: Vec::new(), task } }
}

fn publish(server: SimPeer, lifetime_ms: u32) -> Task<SimPeer> {
    Task::Publish { server, ticket: None, lifetime_ms, way: 0 }
}

/// A neighbour that takes no errands is dead, and what points its way is looked at soon, though nobody says anything.
#[test]
fn whoever_takes_no_errands_has_ways_looked_at_again() {
    let hour = 3600 * SECOND;
    let peers: Vec<SimPeer> = (0..64).map(SimPeer).collect();
    let config = TapestryConfig { upkeep: hour, probe: hour, ..TapestryConfig::default() };
    let node = Tapestry::converged(&peers, config).remove(0);
    let mut script = Script::new(TapestryObjects::new(node, ObjectConfig::default()));
    for i in 0..100u32 {
        script.message(SimPeer(1), errand(Key::of(&i.to_be_bytes()), publish(SimPeer(1), 1_000_000)));
    }
    let neighbours =
        |script: &Script<TapestryObjects<SimPeer>>| script.machine().overlay().table().neighbours().count();
    let is_due = |script: &Script<TapestryObjects<SimPeer>>| {
        script.timers().any(|timer| *timer == ObjectTimer::Reroute)
    };
    let before = neighbours(&script);
    assert!(!is_due(&script));
    script.advance(SECOND);
    assert!(neighbours(&script) < before && is_due(&script));
}

#[test]
fn only_the_server_can_have_a_pointer_forgotten() {
    let (mut script, stranger) = node();
    let object = Key::of(b"x");
    script.message(SimPeer(1), errand(object, publish(SimPeer(1), 1_000_000)));
    script.message(stranger, errand(object, Task::Unpublish { server: SimPeer(1) }));
    assert_eq!(script.machine().pointers(), 1);
    let asked = script.sent().into_iter().find_map(|(to, msg)| match msg {
        ObjectMsg::Check { id, .. } => Some((to, id)),
        _ => None,
    });
    let Some((SimPeer(1), id)) = asked else { panic!("{asked:?}") };
    script.message(SimPeer(1), ObjectMsg::Taken { id });
    script.advance(SECOND);
    assert_eq!(script.machine().pointers(), 1, "the server has it still");
    script.message(SimPeer(1), errand(object, Task::Unpublish { server: SimPeer(1) }));
    assert_eq!(script.machine().pointers(), 0);
}

#[test]
fn a_pointer_lasts_no_longer_than_this_node_allows() {
    let (mut script, stranger) = node();
    script.message(stranger, errand(Key::of(b"x"), publish(stranger, u32::MAX)));
    assert_eq!(script.machine().pointers(), 1);
    script.advance(ObjectConfig::default().lifetime + ObjectConfig::default().republish);
    assert_eq!(script.machine().pointers(), 0);
}

/// What strangers make up does not hide an object: it is not kept where somebody has said that it is here, nor does it
/// come before that; and it does not end what is here.
#[test]
fn what_strangers_make_up_hides_no_object() {
    let (mut script, stranger) = node();
    let object = Key::of(b"x");
    let invented = SimPeer(200);
    script.message(stranger, errand(object, publish(invented, 1_000_000)));
    assert_eq!(script.machine().pointers(), 1, "the first is believed");
    // The server itself, and then another through somebody else: it is asked first.
    script.message(SimPeer(1), errand(object, publish(SimPeer(1), 1_000_000)));
    script.message(SimPeer(3), errand(object, publish(SimPeer(2), 1_000_000)));
    let asked = script.sent().into_iter().find_map(|(to, msg)| match msg {
        ObjectMsg::Check { id, .. } => Some((to, id)),
        _ => None,
    });
    let Some((SimPeer(2), id)) = asked else { panic!("{asked:?}") };
    assert_eq!(script.machine().pointers(), 2);
    script.message(SimPeer(2), ObjectMsg::Taken { id });
    assert_eq!(script.machine().pointers(), 3);
    for i in 0..100 {
        script.message(stranger, errand(object, publish(SimPeer(1000 + i), 1_000_000)));
    }
    script.message(stranger, errand(object, publish(SimPeer(1), 1)));
    script.advance(5 * SECOND);
    assert_eq!(script.machine().pointers(), 3);
    let now = Time::ZERO;
    let order = |avoid: &[SimPeer]| script.machine().pointers.nearest(&object, now, avoid);
    let [first, second] = [order(&[]), order(&[SimPeer(1)])];
    assert_eq!((first, second), (Some(SimPeer(1)), Some(SimPeer(2))));
    assert_eq!(order(&[SimPeer(1), SimPeer(2)]), Some(invented), "whom nobody has asked comes last");
}

/// The last quarter of the room is for those who say themselves what they have; and what is not kept nobody is told of.
#[test]
fn hearsay_fills_no_more_than_three_quarters() {
    let peers: Vec<SimPeer> = (0..64).map(SimPeer).collect();
    let config = TapestryConfig { upkeep: Duration::ZERO, ..TapestryConfig::default() };
    let overlay = Tapestry::converged(&peers, config).remove(0);
    let objects = ObjectConfig { pointers: 8, ..ObjectConfig::default() };
    let mut script = Script::new(TapestryObjects::new(overlay, objects));
    let me = SimPeer(0).key();
    // Objects whose root this node is.
    let mut own = (0..)
        .map(|i: u32| Key::of(&i.to_be_bytes()))
        .filter(|object| Tapestry::owners(&peers_by_key(&peers), &salted(object, 0), 1)[0].key() == me);
    let mut told = |from: SimPeer, server: SimPeer| {
        let object = own.next().unwrap();
        let task = Task::Publish { server, ticket: Some(5), lifetime_ms: 1_000_000, way: 0 };
        script.message(from, errand(object, task));
        let said = script
            .sent()
            .into_iter()
            .any(|(to, msg)| to == server && matches!(msg, ObjectMsg::Published { ticket: 5, root: 0 }));
        (script.machine().pointers(), said)
    };
    for i in 1..=6 {
        assert_eq!(told(SimPeer(3), SimPeer(100 + i)), (i as usize, true));
    }
    assert_eq!(told(SimPeer(3), SimPeer(200)), (6, false), "it is asked first");
    assert_eq!(told(SimPeer(1), SimPeer(1)), (7, true));
    assert_eq!(told(SimPeer(2), SimPeer(2)), (8, true));
    assert_eq!(told(SimPeer(4), SimPeer(4)), (8, false), "there is no room");
}

fn peers_by_key(peers: &[SimPeer]) -> Vec<(Key, SimPeer)> {
    let mut nodes: Vec<(Key, SimPeer)> = peers.iter().map(|peer| (peer.key(), *peer)).collect();
    nodes.sort_unstable();
    nodes
}

/// A peer that claims to have the object is believed when it is asked, not before: the asker hears from it itself.
#[test]
fn whoever_should_have_an_object_is_asked() {
    let (mut script, asker) = node();
    let object = Key::of(b"x");
    script.message(SimPeer(1), errand(object, publish(SimPeer(1), 1_000_000)));
    script.sent();
    script.message(asker, errand(object, Task::Locate { origin: asker, ticket: 9 }));
    let sought = script.sent().into_iter().find_map(|(to, msg)| match msg {
        ObjectMsg::Seek { id, origin, ticket: 9, .. } if origin == asker => Some((to, id)),
        _ => None,
    });
    let Some((SimPeer(1), id)) = sought else { panic!("{sought:?}") };
    script.message(SimPeer(2), ObjectMsg::Gone { id });
    assert_eq!(script.machine().pointers(), 1, "another cannot say that it is gone");
    script.message(SimPeer(1), ObjectMsg::Gone { id });
    assert_eq!(script.machine().pointers(), 0);
    let on = script.sent().into_iter().any(|(to, msg)| match msg {
        ObjectMsg::Pass { errand, .. } => errand.avoid == [SimPeer(1)],
        ObjectMsg::Missing { ticket } => to == asker && ticket == 9,
        _ => false,
    });
    assert!(on, "the question goes on to the root");
}

proptest! {
    /// Whatever is published: no more than there is room for, and of one root's the nearest.
    #[test]
    fn pointers_are_bounded(
        all in prop::collection::vec((0u8..4, 0u8..2, 0u32..40, 0u32..1000, 1u64..100, any::<bool>()), 1..400),
        capacity in 1usize..80,
    ) {
        let mut pointers = Pointers::with_capacity(capacity);
        let key = |object: u8| Key::of(&[object]);
        for (object, root, server, way, until, proved) in all {
            let until = Time::ZERO + Duration::from_secs(until);
            let server = SimPeer(server);
            pointers.keep(key(object), Pointer { root, server, until, way, next: None, proved });
            prop_assert!(pointers.len() <= capacity);
            let count: usize = (0..4).map(|object| pointers.of(&key(object)).len()).sum();
            prop_assert_eq!(count, pointers.len());
            for root in 0..2 {
                let of_root = pointers.of(&key(object)).iter().filter(|pointer| pointer.root == root);
                prop_assert!(of_root.count() <= 16);
            }
        }
        let now = Time::ZERO + Duration::from_secs(50);
        pointers.expire(now);
        for object in (0..4).map(key) {
            let alive = pointers.of(&object);
            prop_assert!(alive.iter().all(|pointer| pointer.until > now));
            let nearest = alive.iter().min_by_key(|pointer| (!pointer.proved, pointer.way, pointer.server));
            prop_assert_eq!(pointers.nearest(&object, now, &[]), nearest.map(|pointer| pointer.server));
        }
        let kept = (0..4).map(|object| pointers.of(&key(object)).len()).sum::<usize>();
        prop_assert_eq!(pointers.len(), kept);
    }
}
