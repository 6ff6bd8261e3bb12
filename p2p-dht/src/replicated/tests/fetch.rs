//! Values on their way through a node: how long it caches them, and for whom it passes questions on.

use bytes::Bytes;
use p2p_overlay::Next;

use super::offers::{among, offer};
use super::*;

/// A node of forty that caches, and a value that it has nothing to do with.
fn on_the_way() -> (Bench, Bytes) {
    let node = among(40);
    let me = SimPeer(0);
    let is_far = |value: &Bytes| match node.replicas(&Key::of(value), 16) {
        Replicas::Peers(peers) => {
            !peers.contains(&me) && !matches!(node.next(&Key::of(value), &[]), Next::Mine)
        }
        Replicas::Keys(_) => false,
    };
    let value = (0..1000).map(|i| Bytes::from(format!("value {i}"))).find(is_far).expect("one of a thousand");
    let config = DhtConfig { cache_bytes: 10_000, capacity: 80, ..DhtConfig::default() };
    let mut bench = Bench::over(node, config);
    bench.work();
    bench.script.sent();
    (bench, value)
}

/// What a peer is told that asks for a value, and the questions that are passed on meanwhile.
fn fetch(bench: &mut Bench, from: u32, key: Key) -> (Option<Option<Fetched>>, Vec<(SimPeer, u32)>) {
    bench.next += 1;
    bench.script.message(SimPeer(from), DhtMsg::Fetch { id: bench.next, key, hops: 9 });
    bench.work();
    said(bench, from)
}

fn said(bench: &mut Bench, to: u32) -> (Option<Option<Fetched>>, Vec<(SimPeer, u32)>) {
    let (mut answer, mut passed) = (None, Vec::new());
    for (peer, msg) in bench.script.sent() {
        match msg {
            DhtMsg::Fetched { id, found } if peer == SimPeer(to) && id == bench.next => answer = Some(found),
            DhtMsg::Fetch { id, hops: 8, .. } => passed.push((peer, id)),
            _ => {}
        }
    }
    (answer, passed)
}

/// A peer asks, the question is passed on, and this is the answer: what is said to the peer.
fn pass(bench: &mut Bench, from: u32, key: Key, found: Option<Fetched>) -> Option<Fetched> {
    let (answer, passed) = fetch(bench, from, key);
    assert_eq!((answer, passed.len()), (None, 1), "it is not here");
    bench.script.message(passed[0].0, DhtMsg::Fetched { id: passed[0].1, found });
    said(bench, from).0.expect("an answer")
}

#[test]
fn what_comes_back_is_cached_and_passed_on_for_half_as_long() {
    let (mut bench, value) = on_the_way();
    let key = Key::of(&value);
    let found = |cache_s| Some(Fetched { value: value.clone(), expires: 5000, cache_s });
    assert_eq!(pass(&mut bench, 1, key, found(400)), found(200));
    assert_eq!(fetch(&mut bench, 2, key), (Some(found(200)), vec![]), "from the cache");
    bench.script.advance(300 * SECOND);
    assert_eq!(fetch(&mut bench, 2, key), (Some(found(50)), vec![]), "of what is left half");
    bench.script.advance(100 * SECOND);
    // However long somebody says: no longer than from one who keeps it.
    assert_eq!(pass(&mut bench, 1, key, found(u32::MAX)), found(300));
    bench.script.advance(600 * SECOND);
    assert_eq!(pass(&mut bench, 1, key, None), None, "it has left the cache");
}

#[test]
fn a_cached_value_ends_with_its_record() {
    let (mut bench, value) = on_the_way();
    let key = Key::of(&value);
    let found = Some(Fetched { value, expires: 100, cache_s: 600 });
    assert!(pass(&mut bench, 1, key, found.clone()).is_some());
    bench.script.advance(99 * SECOND);
    assert!(matches!(fetch(&mut bench, 2, key), (Some(Some(_)), _)));
    bench.script.advance(SECOND);
    assert_eq!(pass(&mut bench, 2, key, found), None, "what has ended is not passed on either");
}

#[test]
fn a_cached_value_is_no_replica() {
    let (mut bench, value) = on_the_way();
    let key = Key::of(&value);
    let record = Record::Immutable { value: value.clone(), expires: 5000 };
    assert!(pass(&mut bench, 1, key, Some(Fetched { value, expires: 5000, cache_s: 600 })).is_some());
    assert!(bench.kept().is_empty());
    // Neither has it what is offered, nor does it give it to whoever asks what it keeps.
    assert_eq!(offer(&mut bench, 1, &[(record.slot(), record.version())]), [Verdict::Refuses]);
    bench.script.message(PEER, DhtMsg::Load { id: 77, key, wanted: Wanted::Immutable });
    bench.work();
    let loaded = bench.script.sent().into_iter().find_map(|(_, msg)| match msg {
        DhtMsg::Loaded { id: 77, records } => Some(records),
        _ => None,
    });
    assert_eq!(loaded, Some(vec![]));
}

#[test]
fn what_is_forged_is_neither_passed_on_nor_cached() {
    let (mut bench, value) = on_the_way();
    let key = Key::of(&value);
    let forged = Some(Fetched { value: "forged".into(), expires: 5000, cache_s: 600 });
    assert_eq!(pass(&mut bench, 1, key, forged), None);
    let good = Some(Fetched { value, expires: 5000, cache_s: 600 });
    assert!(pass(&mut bench, 1, key, good).is_some(), "it was not cached");
}

/// Of one peer an eighth of all questions are passed on at a time, and then those of others; who is silent is waited for as long
/// as for any answer.
#[test]
fn so_many_questions_are_passed_on_at_a_time() {
    let (mut bench, value) = on_the_way();
    let key = Key::of(&value);
    let passed = |bench: &mut Bench, from: u32| match fetch(bench, from, key) {
        (None, passed) => passed.len() == 1,
        (answer, _) => {
            assert_eq!(answer, Some(None));
            false
        }
    };
    assert_eq!((0..30).filter(|_| passed(&mut bench, 1)).count(), 10);
    let others = (2..20).map(|from| (0..10).filter(|_| passed(&mut bench, from)).count()).sum::<usize>();
    assert_eq!(others, 70);
    bench.script.advance(5 * SECOND);
    assert!(passed(&mut bench, 1), "there is room again");
}

#[test]
fn a_node_without_a_cache_passes_nothing_on_but_gives_what_it_keeps() {
    let mut bench = Bench::over(among(40), DhtConfig::default());
    bench.work();
    let (_, value) = on_the_way();
    assert_eq!(fetch(&mut bench, 1, Key::of(&value)), (Some(None), vec![]));
    let mut bench = Bench::started();
    bench.store(1000);
    bench.work();
    bench.script.sent();
    let (answer, _) = fetch(&mut bench, 1, Key::of(b"value"));
    assert_eq!(answer, Some(Some(Fetched { value: "value".into(), expires: 1000, cache_s: 600 })));
}

/// A get goes along the way, and by lookups where that leads nowhere.
#[test]
fn a_get_that_gets_nothing_on_the_way_is_looked_up() {
    let (mut bench, value) = on_the_way();
    let key = Key::of(&value);
    let begin = |bench: &mut Bench| {
        bench.script.command(DhtCommand::Get { key, wanted: Wanted::Immutable });
        let sent = bench.script.sent();
        let asked = sent.iter().find_map(|(to, msg)| match msg {
            DhtMsg::Fetch { id, key: wanted, .. } if *wanted == key => Some((*to, *id)),
            _ => None,
        });
        let looks_up = sent.iter().any(|(_, msg)| matches!(msg, DhtMsg::Overlay(RoutedMsg::Lookup(_))));
        (asked, looks_up)
    };
    let (asked, looks_up) = begin(&mut bench);
    let (to, id) = asked.expect("somebody is asked");
    assert!(!looks_up);
    let forged = Some(Fetched { value: "forged".into(), expires: 5000, cache_s: 600 });
    bench.script.message(to, DhtMsg::Fetched { id, found: forged });
    let looks_up = |(_, msg): &(_, _)| matches!(msg, DhtMsg::Overlay(RoutedMsg::Lookup(_)));
    assert!(bench.script.sent().iter().any(looks_up), "it was not what it should be");
    // Silence is no answer either.
    assert!(begin(&mut bench).0.is_some());
    bench.script.advance(5 * SECOND);
    assert!(bench.script.sent().iter().any(looks_up));
    // And what comes is the value.
    let (Some((to, id)), _) = begin(&mut bench) else { panic!("nobody is asked") };
    bench.script.outcomes();
    bench.script.message(
        to,
        DhtMsg::Fetched { id, found: Some(Fetched { value: value.clone(), expires: 5000, cache_s: 9 }) },
    );
    let got = bench.script.outcomes().pop().map(|(_, outcome)| outcome);
    assert!(matches!(&got, Some(DhtOutcome::Value(Ok(got))) if *got == value), "{got:?}");
    // From now on it is here.
    bench.script.command(DhtCommand::Get { key, wanted: Wanted::Immutable });
    assert!(matches!(bench.script.outcomes().pop(), Some((_, DhtOutcome::Value(Ok(_))))));
}
