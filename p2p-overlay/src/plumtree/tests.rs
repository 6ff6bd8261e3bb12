//! One node at a time, over neighbours that stay as they are.

use std::collections::BTreeMap;

use p2p_core::{MAX_WAITING, Rng, Script, SimPeer, Wire};

use super::streams::Source;
use super::*;
use crate::membership::Parting;
use crate::pubsub::{Message, PubSubError, Topic};

/// A membership whose neighbours are given; who is expelled or cannot be reached is gone.
struct Fixed(Vec<SimPeer>);

impl Fixed {
    fn lose(&mut self, cx: &mut Cx<'_, Self>, peer: SimPeer, why: Parting) {
        self.0.retain(|active| *active != peer);
        cx.emit(Neighbour::Down(peer, why));
    }
}

impl Protocol for Fixed {
    type Peer = SimPeer;
    type Msg = ();
    type Timer = ();
    type Command = MembershipCommand<SimPeer>;
    type Item = ();
    type Outcome = ();
    type Event = Neighbour<SimPeer>;
    type Job = NoJob;

    fn on_message(&mut self, _: &mut Cx<'_, Self>, _: SimPeer, (): ()) {}
    fn on_command(&mut self, cx: &mut Cx<'_, Self>, op: OpId, command: MembershipCommand<SimPeer>) {
        if let MembershipCommand::Expel(peer) = command {
            self.lose(cx, peer, Parting::Slow);
        }
        cx.finish(op, ());
    }
    fn on_link(&mut self, cx: &mut Cx<'_, Self>, peer: SimPeer, _: Link) {
        self.lose(cx, peer, Parting::Silent);
    }
}

impl Membership for Fixed {
    fn me(&self) -> SimPeer {
        SimPeer(0)
    }
    fn active(&self) -> &[SimPeer] {
        &self.0
    }
    fn is_joined(&self) -> bool {
        true
    }
}

type Node = Script<Plumtree<Fixed>>;
type Msg = PlumtreeMsg<SimPeer, ()>;

const SECOND: Duration = Duration::from_secs(1);
const OTHER: Source<SimPeer> = Source { publisher: SimPeer(9), life: 7 };

fn topic() -> Topic {
    Topic::named("weather")
}

fn node(config: PlumtreeConfig) -> Node {
    let mut script = Script::new(Plumtree::new(Fixed((1..=3).map(SimPeer).collect()), config));
    script.command(PlumtreeCommand::Subscribe { topic: topic() });
    assert!(matches!(script.items()[..], [(_, Delivery::Joined)]));
    script
}

fn push(number: u64) -> Msg {
    let bytes = number.to_string().into();
    Msg::Push(Push { source: OTHER, number, topic: topic(), hops: 3, mark: 0, bytes })
}

fn announce(from: u64, to: u64) -> Vec<Announced<SimPeer>> {
    vec![Announced { source: OTHER, from, to, hops: 3 }]
}

/// What its subscriber has received since the last look.
fn received(script: &mut Node) -> Vec<u64> {
    let items = script.items();
    let messages = items.iter().filter_map(|(_, item)| match item {
        Delivery::Message(Message { bytes, .. }) => Some(bytes),
        Delivery::Joined => None,
    });
    messages.map(|bytes| std::str::from_utf8(bytes).unwrap().parse().unwrap()).collect()
}

fn publish(script: &mut Node, len: usize) -> OpId {
    script.command(PlumtreeCommand::Publish { topic: topic(), bytes: vec![7; len].into() })
}

/// The pushes among what was sent, by whom they go to, with their marks.
fn pushes(sent: &[(SimPeer, Msg)]) -> Vec<(u32, u64, u32)> {
    let pushes = sent.iter().filter_map(|(to, msg)| match msg {
        Msg::Push(push) => Some((to.0, push.number, push.mark)),
        _ => None,
    });
    pushes.collect()
}

/// A message of 900 bytes, with a mark.
fn marked(number: u64, mark: u32) -> Msg {
    Msg::Push(Push { source: OTHER, number, topic: topic(), hops: 0, mark, bytes: vec![0; 900].into() })
}

/// The marks of a peer that were answered since the last look.
fn took(script: &mut Node, peer: u32) -> Vec<u32> {
    let took = script.sent().into_iter().filter_map(|(to, msg)| match msg {
        Msg::Took(mark) if to.0 == peer => Some(mark),
        _ => None,
    });
    took.collect()
}

fn eager(script: &Node) -> Vec<u32> {
    script.machine().eager().map(|peer| peer.0).collect()
}

#[test]
fn a_message_goes_on_and_who_sends_it_again_leaves_the_tree() {
    let mut script = node(PlumtreeConfig::default());
    script.message(SimPeer(1), push(5));
    assert_eq!(received(&mut script), [5]);
    assert_eq!(pushes(&script.sent()), [(2, 5, 0), (3, 5, 0)]);
    script.message(SimPeer(2), push(5));
    assert!(matches!(script.sent()[..], [(SimPeer(2), Msg::Prune)]));
    script.message(SimPeer(3), Msg::Prune);
    assert_eq!(eager(&script), [1]);
    assert!(received(&mut script).is_empty());
    // From now on the others only hear of messages, of several at once.
    script.message(SimPeer(1), push(6));
    script.message(SimPeer(1), push(7));
    assert!(script.sent().is_empty());
    script.advance(PlumtreeConfig::default().announce);
    let sent = script.sent();
    assert_eq!(sent.len(), 2);
    for (_, msg) in sent {
        let Msg::Announce(list) = msg else { panic!("{msg:?}") };
        assert!(matches!(list[..], [Announced { source: OTHER, from: 6, to: 7, hops: 4 }]));
    }
}

#[test]
fn what_was_announced_and_does_not_come_is_asked_for_one_after_the_other() {
    let mut script = node(PlumtreeConfig::default());
    script.message(SimPeer(1), push(1));
    script.message(SimPeer(2), push(1));
    script.sent();
    for peer in [SimPeer(2), SimPeer(3)] {
        script.message(peer, Msg::Announce(announce(2, 4)));
    }
    script.advance(PlumtreeConfig::default().graft / 4);
    assert!(script.sent().iter().all(|(_, msg)| !matches!(msg, Msg::Graft(_))), "it waits a little");
    script.advance(2 * SECOND);
    let grafts: Vec<_> = script.sent().into_iter().filter(|(_, msg)| matches!(msg, Msg::Graft(_))).collect();
    assert!(grafts.len() >= 2 && grafts[0].0 == SimPeer(2) && grafts[1].0 == SimPeer(3));
    let Msg::Graft(wants) = &grafts[0].1 else { unreachable!() };
    assert_eq!(wants[0].ranges, [(2, 4), (5, streams::MAX_NUMBER)]);
    assert_eq!(eager(&script), [1, 2, 3]);
    for number in 2..=4 {
        script.message(SimPeer(2), push(number));
    }
    assert_eq!(received(&mut script), [1, 2, 3, 4]);
    script.sent();
    script.advance(10 * SECOND);
    assert!(script.sent().iter().all(|(_, msg)| !matches!(msg, Msg::Graft(_))), "nothing is missing");
}

#[test]
fn a_slow_tree_is_no_broken_one() {
    let mut script = node(PlumtreeConfig::default());
    script.message(SimPeer(1), push(0));
    script.message(SimPeer(2), Msg::Announce(announce(1, 100)));
    for number in 1..=100 {
        script.advance(Duration::from_millis(100));
        script.message(SimPeer(1), push(number));
    }
    assert_eq!(script.machine().counts().grafts, 0);
}

#[test]
fn a_gap_shows_by_what_comes_after_it_which_waits_for_it() {
    let mut script = node(PlumtreeConfig::default());
    for number in [1, 3, 4] {
        script.message(SimPeer(1), push(number));
    }
    assert_eq!(received(&mut script), [1]);
    script.sent();
    script.advance(SECOND * 6 / 10);
    let graft = script.sent().into_iter().find_map(|(to, msg)| match msg {
        Msg::Graft(wants) => Some((to, wants[0].ranges.clone())),
        _ => None,
    });
    assert_eq!(graft, Some((SimPeer(1), vec![(2, 2), (5, streams::MAX_NUMBER)])));
    script.message(SimPeer(1), push(2));
    assert_eq!(received(&mut script), [2, 3, 4]);
    // What nobody has any more holds nothing up for ever.
    script.message(SimPeer(1), push(6));
    script.advance(2 * SECOND);
    assert_eq!(received(&mut script), [6]);
    script.message(SimPeer(1), push(5));
    assert_eq!(received(&mut script), [5]);
}

#[test]
fn who_grafts_gets_what_is_missing_and_all_that_follows() {
    let mut script = node(PlumtreeConfig::default());
    script.message(SimPeer(2), Msg::Prune);
    (1..=5).for_each(|number| script.message(SimPeer(1), push(number)));
    script.sent();
    let want = Missing { source: OTHER, ranges: vec![(2, 2), (4, streams::MAX_NUMBER)] };
    script.message(SimPeer(2), Msg::Graft(vec![want.clone()]));
    assert_eq!(pushes(&script.sent()), [(2, 2, 0), (2, 4, 0), (2, 5, 0)]);
    script.message(SimPeer(1), push(6));
    assert!(pushes(&script.sent()).contains(&(2, 6, 0)));
    script.message(SimPeer(8), Msg::Graft(vec![want]));
    assert!(script.sent().is_empty(), "strangers get nothing");
}

#[test]
fn recent_messages_are_for_those_who_know_their_source() {
    let mut script = node(PlumtreeConfig::default());
    script.message(SimPeer(1), Msg::Recent(announce(1, 4)));
    script.advance(5 * SECOND);
    assert!(script.sent().is_empty(), "they were published before it was there");
    script.message(SimPeer(1), push(5));
    script.message(SimPeer(2), Msg::Recent(announce(1, 7)));
    script.advance(SECOND);
    let graft = script.sent().into_iter().find_map(|(to, msg)| match msg {
        Msg::Graft(wants) => Some((to, wants[0].ranges.clone())),
        _ => None,
    });
    assert_eq!(graft, Some((SimPeer(2), vec![(6, 7), (8, streams::MAX_NUMBER)])));
}

#[test]
fn publishing_is_done_when_a_neighbour_has_the_message() {
    let mut script = node(PlumtreeConfig::default());
    let op = publish(&mut script, 10);
    let sent = pushes(&script.sent());
    assert_eq!(sent, [(1, 0, 1), (2, 0, 1), (3, 0, 1)]);
    assert!(script.outcomes().is_empty());
    script.message(SimPeer(2), Msg::Took(1));
    assert_eq!(script.outcomes(), [(op, PlumtreeOutcome::Published(Ok(())))]);
    script.message(SimPeer(3), Msg::Took(1));
    script.message(SimPeer(3), Msg::Took(99));
    assert!(script.outcomes().is_empty());
    assert_eq!(script.items().len(), 1, "its own subscriber has it too");
}

#[test]
fn publishing_is_done_though_the_only_one_who_was_sent_the_message_is_gone() {
    let mut script = node(PlumtreeConfig::default());
    [2, 3].iter().for_each(|lazy| script.message(SimPeer(*lazy), Msg::Prune));
    let op = publish(&mut script, 10);
    assert_eq!(pushes(&script.sent()), [(1, 0, 1)]);
    // It passes the message on, so that nobody asks for what was announced, and is gone before it has said so.
    script.advance(SECOND);
    script.sent();
    script.link(SimPeer(1), Link::Down(p2p_core::Down::Closed));
    assert_eq!(pushes(&script.sent()), [(2, 0, 1)]);
    assert!(script.outcomes().is_empty());
    script.message(SimPeer(2), Msg::Took(1));
    assert_eq!(script.outcomes(), [(op, PlumtreeOutcome::Published(Ok(())))]);
}

#[test]
fn what_is_too_long_or_too_much_is_refused() {
    let config = PlumtreeConfig { max_bytes: 10, capacity: 2, ..PlumtreeConfig::default() };
    let mut script = node(config);
    publish(&mut script, 11);
    let error = PubSubError::TooLarge { size: 11, max: 10 };
    assert!(matches!(script.outcomes()[..], [(_, PlumtreeOutcome::Published(Err(said)))] if said == error));
    (0..3).for_each(|_| _ = publish(&mut script, 10));
    let busy = PlumtreeOutcome::Published(Err(PubSubError::Busy));
    assert!(matches!(script.outcomes()[..], [(_, outcome)] if outcome == busy));
    script.sent();
    let bytes = vec![0; 11].into();
    script.message(
        SimPeer(1),
        Msg::Push(Push { source: OTHER, number: 1, topic: topic(), hops: 0, mark: 0, bytes }),
    );
    assert!(script.sent().is_empty());
}

/// A window's worth goes to a neighbour that says nothing; the publisher waits for a while, then no more, and the
/// others get everything; in the end the neighbour is dropped, by name.
#[test]
fn who_takes_nothing_in_is_waited_for_and_then_dropped() {
    let config = PlumtreeConfig { window: 10 << 10, queue: 20 << 10, ..PlumtreeConfig::default() };
    let mut script = node(config);
    let mut sent = Vec::new();
    let mut to_slow = 0;
    let mut done = 0;
    let mut answer = |script: &mut Node| {
        let mut slow = 0;
        loop {
            let out = script.sent();
            if out.is_empty() {
                return slow;
            }
            for (to, msg) in out {
                let mark = match &msg {
                    Msg::Push(push) => push.mark,
                    Msg::Mark(mark) => *mark,
                    _ => 0,
                };
                if to == SimPeer(3) {
                    slow += usize::from(matches!(msg, Msg::Push(_)));
                } else {
                    if let Msg::Push(push) = &msg {
                        sent.push((to, push.number));
                    }
                    if mark != 0 {
                        script.message(to, Msg::Took(mark));
                    }
                }
            }
        }
    };
    for _ in 0..100 {
        publish(&mut script, 900);
        to_slow += answer(&mut script);
        done += script.outcomes().len();
    }
    assert!(to_slow <= 10, "{to_slow} messages of 1,028 bytes in a window of 10 KiB");
    assert!(done < 20, "the publisher is held up: {done}");
    for _ in 0..20 {
        script.advance(SECOND / 10);
        to_slow += answer(&mut script);
        done += script.outcomes().len();
    }
    assert_eq!((done, to_slow <= 10), (100, true), "nobody is waited for any longer");
    assert!(script.events().is_empty());
    script.advance(10 * SECOND);
    assert_eq!(script.events(), [Neighbour::Down(SimPeer(3), Parting::Slow)]);
    for peer in [1, 2].map(SimPeer) {
        let numbers: Vec<u64> =
            sent.iter().filter(|(to, _)| *to == peer).map(|(_, number)| *number).collect();
        assert_eq!(numbers, (0..100).collect::<Vec<_>>());
    }
}

#[test]
fn marks_are_answered_when_those_further_down_keep_up() {
    let config = PlumtreeConfig { window: 2000, ..PlumtreeConfig::default() };
    let mut script = node(config);
    script.message(SimPeer(3), Msg::Prune);
    script.message(SimPeer(1), marked(0, 1));
    assert_eq!(took(&mut script, 1), [1]);
    script.message(SimPeer(1), marked(1, 2));
    script.message(SimPeer(1), marked(2, 3));
    assert_eq!(took(&mut script, 1), [0; 0], "a message waits for node 2");
    script.message(SimPeer(2), Msg::Took(1));
    assert_eq!(took(&mut script, 1), [2], "another waits");
    script.message(SimPeer(2), Msg::Took(2));
    assert_eq!(took(&mut script, 1), [3]);
    // What waits for node 2 was not sent by it: of two who send each other much neither waits for the other.
    (3..6).for_each(|number| script.message(SimPeer(1), marked(number, 4)));
    let theirs = Source { publisher: SimPeer(8), life: 7 };
    let bytes = vec![0; 10].into();
    let push = Push { source: theirs, number: 1, topic: topic(), hops: 0, mark: 9, bytes };
    script.message(SimPeer(2), Msg::Push(push));
    assert_eq!(took(&mut script, 2), [9]);
}

/// Two subscribers, of whom one reads. Its neighbour is held up for a while, then no more, and the other subscriber
/// gets everything; the one that does not read gets what it has room for, and is told that it lost the rest.
#[test]
fn a_subscriber_that_does_not_read_is_waited_for_and_then_cut_off() {
    let config = PlumtreeConfig { backlog: 1 << 20, ..PlumtreeConfig::default() };
    let mut script = node(config);
    let slow = script.command(PlumtreeCommand::Subscribe { topic: topic() });
    let items = script.items();
    let [(joined, Delivery::Joined)] = items[..] else { panic!("{items:?}") };
    assert_eq!(joined, slow);
    [2, 3].into_iter().for_each(|peer| script.message(SimPeer(peer), Msg::Prune));
    let (mut number, mut waiting, mut most) = (0, 0, 0);
    let (mut to_slow, mut to_other) = (0, Vec::new());
    while script.outcomes().is_empty() {
        script.message(SimPeer(1), marked(number, number as u32 + 1));
        number += 1;
        let mut read = BTreeMap::<OpId, usize>::new();
        for (op, item) in script.items() {
            let Delivery::Message(_) = item else { panic!("{item:?}") };
            *read.entry(op).or_default() += 1;
        }
        to_slow += read.remove(&slow).unwrap_or(0);
        for (other, items) in read {
            to_other.push(other);
            script.read(other, items);
        }
        waiting = if took(&mut script, 1).is_empty() { waiting + 1 } else { 0 };
        most = most.max(waiting);
        if waiting == 10 {
            script.advance(SECOND / 2);
            script.advance(SECOND / 4);
        }
    }
    // The first thing that waits for it to be read is that it has joined.
    assert_eq!(to_slow, MAX_WAITING - 1);
    assert_eq!(to_other.len() as u64, number);
    assert_eq!(most, 10, "it is waited for once");
    let backlog = (1 << 20) / (900 + 128);
    assert_eq!(number as usize, to_slow + backlog + 1);
    script.message(SimPeer(1), marked(number, 1));
    assert!(script.items().iter().all(|(op, _)| *op != slow));
}

#[test]
fn a_subscriber_that_reads_again_gets_all_in_order() {
    let mut script = node(PlumtreeConfig::default());
    let mut came = Vec::new();
    for number in 0..3000 {
        script.message(SimPeer(1), push(number));
        came.extend(received(&mut script));
    }
    assert_eq!(came.len(), MAX_WAITING - 1);
    script.message(SimPeer(1), Msg::Mark(1));
    assert_eq!(took(&mut script, 1), [0; 0]);
    let subscriber = script.machine().readers.of(&topic())[0];
    script.read(subscriber, 1000);
    came.extend(received(&mut script));
    assert_eq!((came.len(), took(&mut script, 1)), (MAX_WAITING - 1 + 1000, vec![]));
    script.read(subscriber, 1000);
    came.extend(received(&mut script));
    assert_eq!((came, took(&mut script, 1)), ((0..3000).collect(), vec![1]));
}

/// A node of a small backlog, behind a gap that has just closed: many times the backlog has waited for that.
fn node_behind_a_gap() -> Node {
    let mut script = node(PlumtreeConfig { backlog: 4 << 10, ..PlumtreeConfig::default() });
    (0..3000).filter(|number| *number != 1).for_each(|number| script.message(SimPeer(1), push(number)));
    script.message(SimPeer(1), Msg::Mark(1));
    assert_eq!(received(&mut script), [0]);
    assert_eq!(took(&mut script, 1), [1], "whoever has what is missing may have to wait for the same window");
    script.message(SimPeer(1), push(1));
    script.message(SimPeer(1), Msg::Mark(2));
    script
}

#[test]
fn what_has_waited_for_its_order_comes_as_it_is_read() {
    let mut script = node_behind_a_gap();
    let mut came = received(&mut script);
    assert_eq!(came.len(), MAX_WAITING - 2, "it has had one, and was told that it has joined");
    let subscriber = script.machine().readers.of(&topic())[0];
    while came.len() < 2999 {
        assert_eq!(took(&mut script, 1), [0; 0], "it is waited for");
        script.read(subscriber, 500);
        let more = received(&mut script);
        assert!(!more.is_empty());
        came.extend(more);
    }
    assert_eq!((came, took(&mut script, 1)), ((1..3000).collect(), vec![2]));
    assert!(script.outcomes().is_empty());
}

/// Those who held what had come too early are gone before it was its turn: that keeps nobody from what comes later.
#[test]
fn who_subscribes_after_others_gave_up_waiting_receives_what_comes() {
    let mut script = node(PlumtreeConfig::default());
    [0, 2, 3].into_iter().for_each(|number| script.message(SimPeer(1), push(number)));
    assert_eq!(received(&mut script), [0]);
    script.command(PlumtreeCommand::Unsubscribe { topic: topic() });
    script.message(SimPeer(1), push(1));
    script.command(PlumtreeCommand::Subscribe { topic: topic() });
    (4..8).for_each(|number| script.message(SimPeer(1), push(number)));
    assert_eq!(received(&mut script), [4, 5, 6, 7]);
}

#[test]
fn who_reads_nothing_of_what_has_waited_is_cut_off() {
    let mut script = node_behind_a_gap();
    script.advance(SECOND / 4);
    assert!(script.outcomes().is_empty());
    script.advance(SECOND / 2);
    let ended = script.outcomes();
    assert!(matches!(ended[..], [(_, PlumtreeOutcome::Ended(Err(PubSubError::Lagged)))]), "{ended:?}");
    assert!(took(&mut script, 1).contains(&2));
}

#[test]
fn nobody_else_numbers_this_nodes_messages() {
    let mut script = node(PlumtreeConfig::default());
    publish(&mut script, 3);
    let Msg::Push(own) = script.sent().remove(0).1 else { panic!("a push") };
    script.items();
    script.message(SimPeer(1), Msg::Push(Push { number: 1, mark: 0, ..own }));
    assert!(script.items().is_empty());
    assert!(pushes(&script.sent()).is_empty());
}

/// Anything from anybody: nothing panics, nothing comes twice, and what it sends can be sent.
#[test]
fn nothing_comes_twice_whatever_is_said() {
    for seed in 0..20 {
        let mut rng = Rng::new(seed);
        let config = PlumtreeConfig {
            window: 300 + rng.index(3000),
            queue: rng.index(3000),
            keep_bytes: rng.index(3000),
            max_sources: 16,
            ..PlumtreeConfig::default()
        };
        let mut script = node(config);
        for _ in 0..1500 {
            let from = SimPeer(rng.below(5) as u32);
            let number = if rng.chance(0.05) { rng.next_u64() } else { rng.below(60) };
            let source = Source { publisher: SimPeer(rng.below(4) as u32), life: rng.below(2) };
            let mark = rng.below(20) as u32;
            let end = if rng.chance(0.2) { rng.next_u64() } else { number.saturating_add(rng.below(9)) };
            let hops = rng.below(30) as u16;
            let list = || vec![Announced { source, from: number, to: end, hops }; 3];
            let msg = match rng.below(9) {
                0..=2 => {
                    let bytes = format!("{source:?} {number}").into();
                    Msg::Push(Push { source, number, topic: topic(), hops: u16::MAX, mark, bytes })
                }
                3 => Msg::Announce(list()),
                4 => Msg::Recent(list()),
                5 => Msg::Graft(vec![Missing { source, ranges: vec![(number, end); 3] }; 2]),
                6 => [Msg::Prune, Msg::Mark(mark)][rng.index(2)].clone(),
                7 => Msg::Took(mark),
                _ => {
                    publish(&mut script, 20);
                    script.advance(rng.duration(Duration::ZERO, SECOND));
                    continue;
                }
            };
            script.message(from, msg);
            for (_, msg) in script.sent() {
                assert!(msg.to_bytes().len() <= Msg::MAX_BYTES);
            }
        }
        let mut seen = std::collections::BTreeSet::new();
        for (_, item) in script.items() {
            if let Delivery::Message(message) = item
                && message.publisher != SimPeer(0)
            {
                assert!(seen.insert(message.bytes.clone()), "{message:?} came twice");
            }
        }
        assert!(!seen.is_empty());
    }
}
