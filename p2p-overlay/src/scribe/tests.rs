//! One node at a time: what others may do to it.

use std::collections::BTreeSet;

use bytes::Bytes;
use p2p_core::{Down, Key, Rng, Script, SimPeer};
use proptest::prelude::*;

use super::tree::{MAX_PATH, Seen};
use super::*;
use crate::can::{Can, CanConfig};
use crate::chord::{Chord, ChordConfig};
use crate::pubsub::{Message, PubSubError};
use crate::structured::Overlay;

type Node = Scribe<Chord<SimPeer>>;

const SECOND: Duration = Duration::from_secs(1);
const STRANGER: SimPeer = SimPeer(1000);

/// Node 0 of a ring of 64 that stays as it is.
fn node(config: ScribeConfig) -> Script<Node> {
    let peers: Vec<SimPeer> = (0..64).map(SimPeer).collect();
    let at_rest = ChordConfig { stabilize: Duration::ZERO, ..ChordConfig::default() };
    let overlay = Chord::converged(&peers, at_rest).remove(0);
    Script::new(Scribe::new(overlay, config))
}

/// Topics whose root it is, or is not.
fn topics(script: &Script<Node>, own: bool) -> impl Iterator<Item = Topic> {
    let overlay = script.machine().overlay().clone();
    let all = (0..).map(|i: u32| Topic(Key::of(&i.to_be_bytes())));
    all.filter(move |topic| (overlay.next(&topic.0, &[]) == Next::Mine) == own)
}

/// A subscriber, its parent, and who is above that.
fn member(config: ScribeConfig) -> (Script<Node>, Topic, SimPeer, Path<SimPeer>) {
    let mut script = node(config);
    let topic = topics(&script, false).next().unwrap();
    script.command(ScribeCommand::Subscribe { topic });
    let (parent, ticket) = asked(&mut script);
    let path = path(&[70, 71, parent.0]);
    script.message(parent, ScribeMsg::Accepted { topic, ticket, path: path.clone() });
    assert_eq!(script.machine().parent(topic), Some(parent));
    assert!(matches!(script.items()[..], [(_, Delivery::Joined)]));
    script.sent();
    (script, topic, parent, path)
}

fn path(peers: &[u32]) -> Path<SimPeer> {
    Path { rooted: true, peers: peers.iter().copied().map(SimPeer).collect() }
}

/// Whom it asks for a parent, and with which ticket.
fn asked(script: &mut Script<Node>) -> (SimPeer, u64) {
    let joins = script.sent().into_iter().filter_map(|(to, msg)| match msg {
        ScribeMsg::Join(join) if join.child == SimPeer(0) => Some((to, join.ticket)),
        _ => None,
    });
    joins.last().expect("it looks for a parent")
}

fn join(topic: Topic, child: SimPeer) -> Join<SimPeer> {
    Join { topic, child, ticket: 1, hops: 0, claimed: false, down: false, trail: Trail::new(Vec::new()) }
}

fn multicast(topic: Topic, sequence: u64, bytes: &[u8]) -> Msg<Chord<SimPeer>> {
    let bytes = Bytes::copy_from_slice(bytes);
    ScribeMsg::Multicast { topic, publisher: SimPeer(9), sequence, bytes }
}

fn children(script: &Script<Node>, topic: Topic) -> Vec<SimPeer> {
    script.machine().children(topic).collect()
}

#[test]
fn a_message_that_does_not_come_from_the_parent_goes_nowhere() {
    let (mut script, topic, parent, _) = member(ScribeConfig::default());
    script.message(STRANGER, ScribeMsg::Join(join(topic, STRANGER)));
    script.sent();
    script.message(STRANGER, multicast(topic, 1, b"forged"));
    assert!(script.items().is_empty() && script.sent().is_empty());
    script.message(parent, multicast(topic, 1, b"true"));
    assert!(
        matches!(&script.items()[..], [(_, Delivery::Message(Message { bytes, .. }))] if bytes == "true")
    );
    assert!(matches!(script.sent()[..], [(STRANGER, ScribeMsg::Multicast { .. })]));
}

#[test]
fn a_message_comes_once_however_often_it_is_sent() {
    let (mut script, topic, parent, _) = member(ScribeConfig::default());
    for sequence in [1, 2, 1, 3, 2, 1] {
        script.message(parent, multicast(topic, sequence, &[sequence as u8]));
    }
    assert_eq!(script.items().len(), 3);
}

#[test]
fn what_is_too_long_is_not_passed_on() {
    let (mut script, topic, parent, _) = member(ScribeConfig { max_bytes: 10, ..ScribeConfig::default() });
    script.message(parent, multicast(topic, 1, &[0; 11]));
    script.message(SimPeer(5), ScribeMsg::Publish { id: 1, topic, sequence: 1, bytes: vec![0; 11].into() });
    assert!(script.items().is_empty() && script.sent().is_empty());
    let publish = ScribeCommand::Publish { topic, bytes: vec![0; 11].into() };
    script.command(publish);
    let error = PubSubError::TooLarge { size: 11, max: 10 };
    assert!(matches!(script.outcomes()[..], [(_, ScribeOutcome::Published(Err(said)))] if said == error));
}

#[test]
fn strangers_are_no_parents() {
    let (mut script, topic, parent, above) = member(ScribeConfig::default());
    let other = topics(&script, false).nth(1).unwrap();
    for topic in [topic, other] {
        let path = path(&[STRANGER.0]);
        let forged = [
            ScribeMsg::Heartbeat { topic, path: path.clone() },
            ScribeMsg::Accepted { topic, ticket: 7, path },
            ScribeMsg::Gone { topic },
            ScribeMsg::Refused { topic, ticket: 7 },
        ];
        forged.into_iter().for_each(|msg| script.message(STRANGER, msg));
    }
    assert_eq!(script.machine().parent(topic), Some(parent));
    assert_eq!(script.machine().topics().collect::<Vec<_>>(), [topic]);
    let said = script.sent();
    assert!(
        said.iter().all(|(to, msg)| *to == STRANGER && matches!(msg, ScribeMsg::Leave { .. })),
        "{said:?}"
    );
    script.message(parent, ScribeMsg::Heartbeat { topic, path: above });
    assert!(script.sent().is_empty());
}

#[test]
fn nobody_has_more_children_than_the_bounds_say() {
    let config = ScribeConfig { max_children: 8, max_entries: 20, max_topics: 5, ..ScribeConfig::default() };
    let mut script = node(config);
    let topics: Vec<Topic> = topics(&script, true).take(10).collect();
    for child in (1000..3000).map(SimPeer) {
        for topic in &topics {
            script.message(child, ScribeMsg::Join(join(*topic, child)));
        }
    }
    let counts: Vec<usize> = topics.iter().map(|topic| children(&script, *topic).len()).collect();
    assert!(counts.iter().all(|count| *count <= 8), "{counts:?}");
    assert_eq!(counts.iter().sum::<usize>(), 20);
    assert!(script.machine().topics().len() <= 5);
    // Whoever found no room is told so, or is sent to somebody who may have some.
    let answered = script.sent().into_iter().filter(|(_, msg)| {
        matches!(msg, ScribeMsg::Accepted { .. } | ScribeMsg::Refused { .. } | ScribeMsg::Join(_))
    });
    assert!(answered.count() >= 2000 * topics.len());
    // They never say that they are still there.
    script.advance(200 * SECOND);
    assert_eq!(script.machine().topics().len(), 0);
}

/// Half of the trees are for the node's own users.
#[test]
fn others_leave_a_nodes_users_half_of_the_trees() {
    let config = ScribeConfig { max_topics: 16, ..ScribeConfig::default() };
    let mut script = node(config);
    let topics: Vec<Topic> = topics(&script, false).take(60).collect();
    for (i, topic) in topics[..36].iter().enumerate() {
        let child = SimPeer(1000 + i as u32 % 2);
        script.message(child, ScribeMsg::Join(join(*topic, child)));
    }
    assert_eq!(script.machine().topics().len(), 8);
    for topic in &topics[36..45] {
        script.command(ScribeCommand::Subscribe { topic: *topic });
    }
    let ended = script.outcomes();
    assert_eq!(script.machine().topics().len(), 16);
    assert!(matches!(ended[..], [(_, ScribeOutcome::Ended(Err(PubSubError::TooManyTopics)))]), "{ended:?}");
}

#[test]
fn a_child_that_somebody_else_has_named_must_speak_for_itself() {
    let mut script = node(ScribeConfig::default());
    let topic = topics(&script, true).next().unwrap();
    let (named, real) = (SimPeer(80), SimPeer(81));
    script.message(STRANGER, ScribeMsg::Join(join(topic, named)));
    script.message(STRANGER, ScribeMsg::Join(join(topic, real)));
    script.message(real, ScribeMsg::Refresh { topic });
    script.advance(12 * SECOND);
    assert_eq!(children(&script, topic), [real]);
    script.sent();
    script.message(named, ScribeMsg::Refresh { topic });
    assert!(matches!(script.sent()[..], [(to, ScribeMsg::Gone { .. })] if to == named));
}

#[test]
fn who_is_above_a_node_is_not_taken_for_its_child() {
    let (mut script, topic, parent, _) = member(ScribeConfig::default());
    for above in [SimPeer(70), parent] {
        script.message(above, ScribeMsg::Join(join(topic, above)));
        let sent = script.sent();
        let passed_on =
            matches!(&sent[..], [(to, ScribeMsg::Join(join))] if *to != above && join.child == above);
        assert!(passed_on, "{sent:?}");
    }
    assert!(children(&script, topic).is_empty());
}

#[test]
fn who_finds_itself_above_itself_looks_for_another_parent() {
    let long: Vec<u32> = (100..100 + MAX_PATH as u32).collect();
    for above in [vec![70, 0, 71], long] {
        let (mut script, topic, parent, _) = member(ScribeConfig::default());
        let peers: Vec<u32> = above.into_iter().chain([parent.0]).collect();
        script.message(parent, ScribeMsg::Heartbeat { topic, path: path(&peers) });
        assert_eq!(script.machine().parent(topic), None);
        let sent = script.sent();
        assert!(matches!(sent[0], (to, ScribeMsg::Leave { .. }) if to == parent), "{sent:?}");
        assert!(matches!(&sent[1], (to, ScribeMsg::Join(_)) if *to != parent), "{sent:?}");
        assert_eq!(sent.len(), 2);
    }
}

#[test]
fn a_join_that_goes_in_circles_is_dropped() {
    let mut script = node(ScribeConfig::default());
    let topic = topics(&script, false).next().unwrap();
    script.message(STRANGER, ScribeMsg::Join(Join { hops: MAX_HOPS, ..join(topic, STRANGER) }));
    script.message(STRANGER, ScribeMsg::Join(Join { hops: u16::MAX, ..join(topic, STRANGER) }));
    assert!(script.sent().is_empty() && script.machine().topics().len() == 0);
}

/// It is not the root, and whoever says that all others are silent does not make it one.
#[test]
fn nobody_is_talked_into_being_the_root() {
    let (mut script, topic, parent, _) = member(ScribeConfig::default());
    let everybody: Vec<SimPeer> = (1..64).map(SimPeer).collect();
    let predecessor = script.machine().overlay().table().predecessor().unwrap();
    for avoid in [vec![predecessor], everybody] {
        let forged = Join { claimed: true, trail: Trail::new(avoid), ..join(topic, STRANGER) };
        script.message(STRANGER, ScribeMsg::Join(forged.clone()));
        script.message(STRANGER, ScribeMsg::Join(Join { child: SimPeer(0), ..forged }));
        assert_eq!(script.machine().parent(topic), Some(parent));
    }
}

#[test]
fn only_a_parent_pushes_newcomers_down() {
    let (mut script, topic, parent, _) = member(ScribeConfig::default());
    let newcomer = SimPeer(90);
    script.message(STRANGER, ScribeMsg::Join(Join { down: true, ..join(topic, newcomer) }));
    assert!(children(&script, topic).is_empty());
    script.message(parent, ScribeMsg::Join(Join { down: true, ..join(topic, newcomer) }));
    assert_eq!(children(&script, topic), [newcomer]);
}

#[test]
fn a_silent_parent_is_left_and_not_asked_first() {
    let config = ScribeConfig::default();
    let (mut script, topic, parent, above) = member(config);
    script.advance(config.patience() - SECOND);
    script.message(parent, multicast(topic, 1, b"a sign of life"));
    script.advance(config.patience() - SECOND);
    assert_eq!(script.machine().parent(topic), Some(parent));
    script.message(parent, ScribeMsg::Heartbeat { topic, path: above });
    script.sent();
    script.advance(config.patience() + config.heartbeat);
    assert_eq!(script.machine().parent(topic), None);
    let joins: Vec<SimPeer> = script
        .sent()
        .into_iter()
        .filter(|(_, msg)| matches!(msg, ScribeMsg::Join(_)))
        .map(|(to, _)| to)
        .collect();
    assert!(!joins.is_empty() && joins[0] != parent, "{joins:?}");
}

#[test]
fn who_was_silent_is_asked_again_where_others_have_no_room() {
    let mut script = node(ScribeConfig::default());
    let topic = topics(&script, false).next().unwrap();
    script.command(ScribeCommand::Subscribe { topic });
    let (silent, ticket) = asked(&mut script);
    script.advance(3 * SECOND);
    let (other, _) = asked(&mut script);
    assert_ne!(other, silent);
    script.message(other, ScribeMsg::Refused { topic, ticket });
    script.advance(6 * SECOND);
    assert_eq!(asked(&mut script).0, silent);
}

#[test]
fn a_link_that_is_down_is_a_parent_or_a_child_lost() {
    let (mut script, topic, parent, _) = member(ScribeConfig::default());
    script.message(STRANGER, ScribeMsg::Join(join(topic, STRANGER)));
    script.link(STRANGER, Link::Down(Down::Idle));
    script.link(parent, Link::Down(Down::Idle));
    assert_eq!((script.machine().parent(topic), children(&script, topic)), (Some(parent), vec![STRANGER]));
    script.link(STRANGER, Link::Down(Down::Overflow));
    script.link(parent, Link::Down(Down::TimedOut));
    assert_eq!((script.machine().parent(topic), children(&script, topic)), (None, vec![]));
}

#[test]
fn as_much_is_under_way_as_the_capacity_says() {
    let mut script = node(ScribeConfig { capacity: 3, ..ScribeConfig::default() });
    let topic = topics(&script, false).next().unwrap();
    let ops: Vec<OpId> =
        (0..3).map(|_| script.command(ScribeCommand::Publish { topic, bytes: "x".into() })).collect();
    assert!(script.outcomes().is_empty());
    script.command(ScribeCommand::Publish { topic, bytes: "x".into() });
    script.command(ScribeCommand::Anycast { topic, bytes: "x".into() });
    let busy = script.outcomes();
    assert!(
        matches!(
            busy[..],
            [
                (_, ScribeOutcome::Published(Err(PubSubError::Busy))),
                (_, ScribeOutcome::Anycast(Err(AnycastError::Send(PubSubError::Busy)))),
            ]
        ),
        "{busy:?}"
    );
    script.cancel(ops[0]);
    script.command(ScribeCommand::Publish { topic, bytes: "x".into() });
    assert!(script.outcomes().is_empty(), "one was taken back");
}

#[test]
fn who_is_no_root_takes_no_message() {
    let mut script = node(ScribeConfig::default());
    let [own, other] = [true, false].map(|own| topics(&script, own).next().unwrap());
    for (topic, taken) in [(own, true), (other, false)] {
        let publish = ScribeMsg::Publish { id: 4, topic, sequence: 1, bytes: "x".into() };
        script.message(SimPeer(5), publish);
        let sent = script.sent();
        let said =
            matches!(sent[..], [(SimPeer(5), ScribeMsg::Published { id: 4, taken: said })] if said == taken);
        assert!(said, "{sent:?}");
    }
    assert_eq!(script.machine().topics().len(), 0, "nobody has subscribed");
}

/// A node of a CAN at rest, a topic for which it is a dead end once those that are nearer are left out, and these.
fn dead_end() -> (Script<Scribe<Can<SimPeer>>>, Topic, Vec<SimPeer>) {
    let peers: Vec<SimPeer> = (0..256).map(SimPeer).collect();
    let at_rest = CanConfig { update: Duration::ZERO, ..CanConfig::default() };
    let overlay = Can::converged(&peers, at_rest).remove(0);
    let topics = (0..).map(|i: u32| Topic(Key::of(&i.to_be_bytes())));
    let with_nearer = topics.map(|topic| {
        let mut nearer = Vec::new();
        while let Next::Toward(peer) = overlay.next(&topic.0, &nearer) {
            nearer.push(peer);
        }
        (topic, nearer)
    });
    let is_dead_end = |(topic, nearer): &(Topic, Vec<SimPeer>)| {
        !nearer.is_empty()
            && overlay.next(&topic.0, nearer) == Next::Nowhere
            && overlay.detour(&topic.0, nearer).is_some()
    };
    let (topic, nearer) = with_nearer.into_iter().find(is_dead_end).unwrap();
    (Script::new(Scribe::new(overlay, ScribeConfig::default())), topic, nearer)
}

/// A member at a dead end asks those that are nearer, then one that is not, who is told not to send the join back. If it
/// does, with no way on from there, yet another is asked.
#[test]
fn a_member_at_a_dead_end_asks_whoever_may_know_a_way_around() {
    let (mut script, topic, nearer) = dead_end();
    script.command(ScribeCommand::Subscribe { topic });
    let mut joins = Vec::new();
    for _ in 0..=nearer.len() {
        joins.extend(script.sent());
        script.advance(20 * SECOND);
    }
    let mut joins = joins.into_iter().filter_map(|(to, msg)| match msg {
        ScribeMsg::Join(join) => Some((to, join)),
        _ => None,
    });
    let asked: Vec<SimPeer> = joins.by_ref().take(nearer.len()).map(|(to, _)| to).collect();
    assert_eq!(asked, nearer);
    let (around, mut join) = joins.next().unwrap();
    assert!(!nearer.contains(&around) && join.trail.avoid.contains(&SimPeer(0)));
    script.sent();
    assert_eq!(join.trail.around(around, None, AVOIDED), Some(SimPeer(0)), "it comes back");
    script.message(around, ScribeMsg::Join(join));
    let sent = script.sent();
    let [(other, ScribeMsg::Join(join))] = &sent[..] else { panic!("{sent:?}") };
    assert!(*other != around && !nearer.contains(other) && join.child == SimPeer(0));
}

/// It is no place in a tree: it takes nobody for its child.
#[test]
fn a_dead_end_passes_a_join_on() {
    let (mut script, topic, nearer) = dead_end();
    let forged = Join { trail: Trail::new(nearer.clone()), ..join(topic, STRANGER) };
    script.message(STRANGER, ScribeMsg::Join(forged));
    let sent = script.sent();
    let [(to, ScribeMsg::Join(join))] = &sent[..] else { panic!("{sent:?}") };
    assert!(!nearer.contains(to) && join.child == STRANGER && join.trail.avoid.contains(&SimPeer(0)));
    assert_eq!(script.machine().topics().len(), 0);
}

fn anycast(topic: Topic) -> Visit<SimPeer> {
    Visit {
        topic,
        origin: SimPeer(30),
        ticket: 3,
        hops: 0,
        claimed: false,
        trail: Trail::new(Vec::new()),
        visited: Vec::new(),
        to_visit: Vec::new(),
        bytes: "work".into(),
    }
}

#[test]
fn an_anycast_ends_however_long_its_lists_are() {
    let (mut script, topic, ..) = member(ScribeConfig::default());
    let many: Vec<SimPeer> = (2000..12_000).map(SimPeer).collect();
    script.message(STRANGER, ScribeMsg::Anycast(Visit { visited: many.clone(), ..anycast(topic) }));
    script.message(STRANGER, ScribeMsg::Anycast(Visit { to_visit: many, ..anycast(topic) }));
    script.message(STRANGER, ScribeMsg::Anycast(Visit { visited: vec![SimPeer(0)], ..anycast(topic) }));
    let sent = script.sent();
    assert!(matches!(sent[0], (SimPeer(30), ScribeMsg::NotTaken { .. })), "{sent:?}");
    let ScribeMsg::Anycast(visit) = &sent[1].1 else { panic!("{sent:?}") };
    assert!(visit.to_visit.len() < 65 && visit.visited == [SimPeer(0)]);
    assert_eq!(sent.len(), 2, "it had been here");
}

#[test]
fn an_anycast_is_taken_as_often_as_was_offered() {
    let (mut script, topic, parent, _) = member(ScribeConfig::default());
    script.command(ScribeCommand::Offer { topic, times: 2 });
    script.sent();
    (0..3).for_each(|_| script.message(STRANGER, ScribeMsg::Anycast(anycast(topic))));
    let sent = script.sent();
    assert!(
        matches!(
            &sent[..],
            [
                (SimPeer(30), ScribeMsg::Taken { ticket: 3 }),
                (SimPeer(30), ScribeMsg::Taken { ticket: 3 }),
                (to, ScribeMsg::Anycast(_)),
            ] if *to == parent
        ),
        "{sent:?}"
    );
    assert_eq!(script.items().len(), 2);
    assert!(matches!(script.outcomes()[..], [(_, ScribeOutcome::Ended(Ok(())))]));
}

#[test]
fn an_answer_to_another_anycast_is_none() {
    let mut script = node(ScribeConfig::default());
    let topic = topics(&script, false).next().unwrap();
    script.command(ScribeCommand::Anycast { topic, bytes: "work".into() });
    script.message(STRANGER, ScribeMsg::Taken { ticket: 3 });
    assert!(script.outcomes().is_empty());
    script.advance(10 * SECOND);
    assert!(matches!(script.outcomes()[..], [(_, ScribeOutcome::Anycast(Err(AnycastError::NoAnswer)))]));
}

proptest! {
    /// What is remembered is no more than the window, and within it nothing is new twice.
    #[test]
    fn nothing_within_the_window_is_new_twice(
        window in 1usize..20,
        ids in prop::collection::vec((0u32..4, 0u64..12), 0..200),
    ) {
        let mut seen = Seen::new(window);
        let mut last: Vec<(SimPeer, u64)> = Vec::new();
        for (publisher, sequence) in ids {
            let id = (SimPeer(publisher), sequence);
            let is_new = seen.insert(id.0, id.1);
            prop_assert_eq!(is_new, !last.contains(&id));
            if is_new {
                last.push(id);
                last.drain(..last.len().saturating_sub(window));
            }
        }
    }

    /// Whatever strangers say, in whatever order: the bounds hold, and a parent is only who was asked.
    #[test]
    fn strangers_do_no_harm(seed in any::<u64>()) {
        let config = ScribeConfig { max_children: 4, max_entries: 12, max_topics: 6, ..ScribeConfig::default() };
        let mut script = node(config);
        let all: Vec<Topic> = topics(&script, true).take(4).chain(topics(&script, false).take(4)).collect();
        script.command(ScribeCommand::Subscribe { topic: all[6] });
        let mut rng = Rng::new(seed);
        for _ in 0..400 {
            let topic = all[rng.index(all.len())];
            let from = SimPeer(64 + rng.below(20) as u32);
            let some = |rng: &mut Rng| SimPeer(rng.below(90) as u32);
            let path = Path { rooted: rng.chance(0.5), peers: (0..rng.below(4)).map(|_| some(&mut rng)).collect() };
            let (ticket, sequence, bytes) = (rng.below(3), rng.below(9), Bytes::from_static(b"x"));
            let msg = match rng.below(11) {
                0..=3 => ScribeMsg::Join(Join {
                    topic,
                    child: if rng.chance(0.5) { from } else { some(&mut rng) },
                    ticket,
                    hops: rng.below(200) as u16,
                    claimed: rng.chance(0.3),
                    down: rng.chance(0.2),
                    trail: Trail::new((0..rng.below(20)).map(|_| some(&mut rng)).collect()),
                }),
                4 => ScribeMsg::Accepted { topic, ticket, path },
                5 => ScribeMsg::Heartbeat { topic, path },
                6 => ScribeMsg::Refresh { topic },
                7 => ScribeMsg::Leave { topic },
                8 => ScribeMsg::Publish { id: 1, topic, sequence, bytes },
                9 => ScribeMsg::Multicast { topic, publisher: from, sequence, bytes },
                _ => ScribeMsg::Anycast(Visit { origin: from, hops: rng.below(200) as u16, ..anycast(topic) }),
            };
            script.message(from, msg);
            if rng.chance(0.1) {
                script.advance(SECOND);
            }
            let machine = script.machine();
            prop_assert!(machine.topics().len() <= 6);
            let counts: Vec<usize> = machine.topics().map(|topic| machine.children(topic).count()).collect();
            prop_assert!(counts.iter().all(|count| *count <= 4) && counts.iter().sum::<usize>() <= 12, "{counts:?}");
            prop_assert!(machine.topics().all(|topic| machine.parent(topic).is_none()));
            prop_assert!(script.sent().len() < 30, "much is sent for one message");
        }
        // They go away, and leave nothing behind.
        script.advance(300 * SECOND);
        let left: BTreeSet<Topic> = script.machine().topics().collect();
        prop_assert_eq!(left, BTreeSet::from([all[6]]));
    }
}
