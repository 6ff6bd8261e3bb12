use p2p_core::{Rng, Script, SimPeer};

use super::*;
use crate::can::{Can, CanConfig};
use crate::chord::{Chord, ChordConfig};
use crate::pastry::{Pastry, PastryConfig};
use crate::structured::Overlay;

fn task(ticket: u64, origin: SimPeer, key: Key) -> Task<SimPeer> {
    Task {
        ticket,
        origin,
        key,
        replicas: 1,
        hops: 0,
        timeouts: 0,
        waits: 0,
        claimed: false,
        back: false,
        trail: Trail::new(Vec::new()),
    }
}

/// A node of a ring at rest, which is to pass questions on.
struct Passing {
    script: Script<Chord<SimPeer>>,
    rng: Rng,
    ticket: u64,
    /// Whoever it passes a question on to says nothing.
    silent: bool,
}

impl Passing {
    fn new() -> Passing {
        let peers: Vec<SimPeer> = (0..64).map(SimPeer).collect();
        let config = ChordConfig { stabilize: Duration::ZERO, ..ChordConfig::default() };
        let script = Script::new(Chord::converged(&peers, config).swap_remove(0));
        Passing { script, rng: Rng::new(1), ticket: 0, silent: false }
    }

    /// Whether it accepts one from that peer, the answer to which goes `back` through it or does not. Whoever it passes
    /// it on to accepts it, unless all are silent, and says no more.
    fn accepts(&mut self, from: u32, back: bool) -> bool {
        let (from, script, rng) = (SimPeer(from), &mut self.script, &mut self.rng);
        let others = |key: &Key| script.machine().next(key, &[]) != Next::Mine;
        let key = std::iter::repeat_with(|| rng.key()).find(others).unwrap();
        self.ticket += 1;
        let (hop, task) = (self.ticket as u32, Task { back, ..task(self.ticket, from, key) });
        script.message(from, RoutedMsg::Lookup(LookupMsg::Forward { hop, task }));
        let mut accepted = false;
        for (to, msg) in script.sent() {
            match msg {
                RoutedMsg::Lookup(LookupMsg::Accepted { .. }) => accepted = true,
                RoutedMsg::Lookup(LookupMsg::Forward { hop, .. }) if !self.silent => {
                    script.message(to, RoutedMsg::Lookup(LookupMsg::Accepted { hop }));
                }
                _ => {}
            }
        }
        accepted
    }
}

/// Whoever sends questions whose answers never come back must not fill the list of relays for good. While it is full,
/// what is answered straight is passed on as ever.
#[test]
fn relays_whose_answer_never_comes_are_forgotten() {
    let mut node = Passing::new();
    let taken = (0..3000).filter(|i| node.accepts(1 + i % 60, true)).count();
    assert_eq!(taken, 1024);
    assert!(!node.accepts(61, true) && node.accepts(61, false));
    node.script.advance(LookupConfig::default().timeout);
    assert!(node.accepts(61, true), "the list is still full after the answers were due");
}

#[test]
fn no_peer_takes_more_than_its_share_of_the_relays() {
    let mut node = Passing::new();
    assert_eq!((0..3000).filter(|_| node.accepts(1, true)).count(), 1024 / 8);
    assert!(node.accepts(1, false), "this needs no relay");
    assert_eq!((0..3000).filter(|_| node.accepts(2, true)).count(), 1024 / 8);
}

/// Half of the questions that may wait for an answer are for others; once half of those are taken, an eighth of all for one
/// peer.
#[test]
fn no_peer_takes_more_than_its_share_of_the_questions() {
    let mut node = Passing { silent: true, ..Passing::new() };
    let taken = [1, 2, 3, 4].map(|peer| (0..600).filter(|_| node.accepts(peer, false)).count());
    assert_eq!(taken, [1024 / 4, 1024 / 8, 1024 / 8, 0]);
    assert!(!node.accepts(5, false));
    node.script.advance(LookupConfig::default().hop_timeout * 20);
    assert!(node.accepts(5, false), "nothing waits for ever");
}

/// A root that cannot say yet that it is the root lives, and is asked again when it may.
#[test]
fn who_says_later_is_asked_again_and_does_not_pass_for_dead() {
    let peers: Vec<SimPeer> = (0..64).map(SimPeer).collect();
    let config = PastryConfig { upkeep: Duration::ZERO, ..PastryConfig::default() };
    let mut script = Script::new(Pastry::converged(&peers, config).swap_remove(0));
    let mut rng = Rng::new(1);
    let keys = std::iter::repeat_with(|| rng.key());
    let with_root = |key| match script.machine().next(&key, &[]) {
        Next::Root(root) => Some((key, root)),
        _ => None,
    };
    let (key, root) = keys.filter_map(with_root).next().unwrap();
    script.command(Find::key(key).mode(Mode::iterative(3)));
    let hop_timeout = LookupConfig::default().hop_timeout;
    let asked = |script: &mut Script<Pastry<SimPeer>>| match script.sent()[..] {
        [(to, RoutedMsg::Lookup(LookupMsg::Ask { id, claimed: true, .. }))] if to == root => id,
        ref other => panic!("{other:?}"),
    };
    for _ in 0..3 {
        let id = asked(&mut script);
        script.message(root, RoutedMsg::Lookup(LookupMsg::Answer { id, hint: Hint::Later }));
        script.advance(hop_timeout - Duration::from_millis(1));
        assert!(script.sent().is_empty());
        script.advance(Duration::from_millis(1));
    }
    let id = asked(&mut script);
    script.message(root, RoutedMsg::Lookup(LookupMsg::Answer { id, hint: Hint::Mine(vec![root]) }));
    let outcomes = script.outcomes();
    let [(_, Ok(found))] = &outcomes[..] else { panic!("{outcomes:?}") };
    assert_eq!((found.root(), found.timeouts), (root, 0));
}

/// Others take this node for the root, and it is not: it is not for them to say.
#[test]
fn nobody_is_talked_into_being_the_root_of_its_own_lookup() {
    let peers: Vec<SimPeer> = (0..64).map(SimPeer).collect();
    let config = PastryConfig { upkeep: Duration::ZERO, ..PastryConfig::default() };
    let mut script = Script::new(Pastry::converged(&peers, config).swap_remove(0));
    let mut rng = Rng::new(1);
    let away = |key: &Key| matches!(script.machine().next(key, &[]), Next::Toward(_));
    let key = std::iter::repeat_with(|| rng.key()).find(away).unwrap();
    script.command(Find::key(key).mode(Mode::iterative(1)));
    let sent = script.sent();
    let [(first, RoutedMsg::Lookup(LookupMsg::Ask { id, .. }))] = sent[..] else { panic!("{sent:?}") };
    let hint = Hint::Root(vec![SimPeer(0)]);
    script.message(first, RoutedMsg::Lookup(LookupMsg::Answer { id, hint }));
    assert!(script.outcomes().is_empty(), "it knows who is nearer");
    assert!(matches!(script.sent()[..], [(_, RoutedMsg::Lookup(LookupMsg::Ask { .. })), ..]));
}

/// A question in a dead end takes a detour, until it has met more dead ends than it can remember.
#[test]
fn who_cannot_remember_more_dead_ends_is_lost() {
    let peers: Vec<SimPeer> = (0..256).map(SimPeer).collect();
    let config = CanConfig { update: Duration::ZERO, ..CanConfig::default() };
    let mut script = Script::new(Can::converged(&peers, config).swap_remove(0));
    let mut rng = Rng::new(1);
    // A key for which everybody nearer has been silent, and others are left.
    let (key, mut avoid) = std::iter::repeat_with(|| rng.key())
        .find_map(|key| {
            let mut avoid = Vec::new();
            while let Next::Toward(peer) = script.machine().next(&key, &avoid) {
                avoid.push(peer);
            }
            let is_dead_end = script.machine().next(&key, &avoid) == Next::Nowhere;
            (is_dead_end && script.machine().table().detour(&key, &avoid).is_some()).then_some((key, avoid))
        })
        .unwrap();
    let mut goes_on = |avoid: &[SimPeer]| {
        let origin = SimPeer(999);
        let task = Task { trail: Trail::new(avoid.to_vec()), ..task(1, origin, key) };
        script.message(SimPeer(1), RoutedMsg::Lookup(LookupMsg::Forward { hop: 1, task }));
        let sent = script.sent();
        let lost = sent.iter().any(|(to, msg)| {
            *to == origin && matches!(msg, RoutedMsg::Lookup(LookupMsg::Lost { ticket: 1 }))
        });
        let forwarded =
            sent.iter().any(|(_, msg)| matches!(msg, RoutedMsg::Lookup(LookupMsg::Forward { .. })));
        assert!(lost != forwarded);
        forwarded
    };
    assert!(avoid.len() < AVOIDED && goes_on(&avoid));
    avoid.extend((1000..).map(SimPeer).take(AVOIDED - avoid.len()));
    assert!(!goes_on(&avoid));
}
