mod pongs;
mod pushing;
mod worlds;

use std::collections::BTreeSet;

use bytes::Bytes;
use futures::StreamExt;
use p2p_core::sim::{Encoding, Network, Sim, run_seeds};
use p2p_core::{Script, SimPeer};

use super::*;
use crate::place::of_address;
use crate::search::{ContentHash, End, Fetch, Hit, Item, Query, Reach, Scope, Search};

type Node = Script<Gnutella<SimPeer>>;

const ME: SimPeer = SimPeer(0);

fn at(peer: u32) -> Contact {
    SimPeer(peer).contact().unwrap()
}

/// A servent with so many neighbours, who have all come by themselves.
fn node(neighbours: u32) -> Node {
    let mut node = Script::new(Gnutella::new(ME.contact(), [], GnutellaConfig::default()));
    for peer in 1..=neighbours {
        node.message(SimPeer(peer), GnutellaMsg::Connect);
    }
    node.sent();
    node
}

fn sharing(neighbours: u32, name: &str) -> Node {
    let mut node = Gnutella::new(ME.contact(), [], GnutellaConfig::default());
    node.library_mut().insert(Item::new(name, 9)).unwrap();
    let mut node = Script::new(node);
    (1..=neighbours).for_each(|peer| node.message(SimPeer(peer), GnutellaMsg::Connect));
    node.sent();
    node
}

fn guid(number: u16) -> Guid {
    let mut guid = [7; 16];
    guid[..2].copy_from_slice(&number.to_be_bytes());
    Guid(guid)
}

fn say(node: &mut Node, from: u32, id: u16, ttl: u8, hops: u8, payload: Payload) {
    let descriptor = Descriptor { id: guid(id), ttl, hops, payload };
    node.message(SimPeer(from), GnutellaMsg::Descriptor(descriptor));
}

/// The descriptors sent since the last look.
fn said(node: &mut Node) -> Vec<(u32, Descriptor)> {
    let sent = node.sent().into_iter().filter_map(|(to, msg)| match msg {
        GnutellaMsg::Descriptor(descriptor) => Some((to.0, descriptor)),
        _ => None,
    });
    sent.collect()
}

fn query(words: &str) -> Payload {
    Payload::Query { min_speed: 0, criteria: words.to_owned().into(), extension: Bytes::new() }
}

fn hit(servent: Guid, contact: Contact, names: &[&str]) -> Payload {
    let shared = |(index, name): (usize, &&str)| Shared {
        index: index as u32,
        size: 1,
        name: (*name).to_owned().into(),
        extension: Bytes::new(),
    };
    let results = names.iter().enumerate().map(shared).collect();
    Payload::QueryHit(QueryHit { contact, speed: 1, results, extension: Bytes::new(), servent })
}

fn ping() -> Payload {
    Payload::Ping { extension: Bytes::new() }
}

fn pong(contact: Contact) -> Payload {
    Payload::Pong(Pong { contact, files: 0, kilobytes: 0, extension: Bytes::new() })
}

// ---- queries

#[test]
fn a_query_is_passed_on_once_and_not_back() {
    let mut node = node(3);
    say(&mut node, 1, 5, 4, 2, query("song"));
    let sent = said(&mut node);
    let passed: Vec<_> = sent.iter().map(|(to, descriptor)| (*to, descriptor.ttl, descriptor.hops)).collect();
    assert_eq!(passed, [(2, 3, 3), (3, 3, 3)]);
    say(&mut node, 2, 5, 4, 2, query("song"));
    assert_eq!(said(&mut node), []);
    say(&mut node, 1, 6, 1, 2, query("song"));
    assert_eq!(said(&mut node), [], "it has gone as far as it may");
}

#[test]
fn who_goes_and_comes_again_has_what_it_had_left() {
    let mut node = node(2);
    let mut passed = |again: &[GnutellaMsg], id: u16| {
        again.iter().for_each(|msg| node.message(SimPeer(1), msg.clone()));
        (id..id + 40).for_each(|id| say(&mut node, 1, id, 4, 0, query("song")));
        said(&mut node).into_iter().filter(|(to, _)| *to == 2).count()
    };
    assert_eq!(passed(&[], 0), 20, "as many at once");
    assert_eq!(passed(&[GnutellaMsg::Connect], 100), 0);
    assert_eq!(passed(&[GnutellaMsg::Refuse, GnutellaMsg::Connect], 200), 0);
}

#[test]
fn hops_and_ttl_that_are_too_high_are_cut() {
    let mut node = node(2);
    say(&mut node, 1, 5, 255, 3, query("song"));
    assert_eq!(said(&mut node)[0].1.ttl, 3, "four more in all");
    say(&mut node, 1, 6, 1, 7, query("song"));
    assert_eq!((said(&mut node).len(), node.machine().tally().dropped), (0, 1));
}

#[test]
fn what_matches_is_answered_with_the_querys_own_identifier() {
    let mut node = sharing(1, "A Song.mp3");
    say(&mut node, 1, 5, 1, 2, query("song"));
    let sent = said(&mut node);
    let [(1, Descriptor { id, ttl: 3, hops: 0, payload: Payload::QueryHit(hit) })] = &sent[..] else {
        panic!("{sent:?}")
    };
    assert_eq!((*id, hit.contact, &hit.results[0].name[..]), (guid(5), at(0), &b"A Song.mp3"[..]));
    say(&mut node, 1, 6, 1, 2, query("other song"));
    assert_eq!(said(&mut node), []);
}

#[test]
fn long_results_are_split() {
    let mut servent = Gnutella::new(ME.contact(), [], GnutellaConfig::default());
    for i in 0..30 {
        servent.library_mut().insert(Item::new(format!("song {i} {}", "x".repeat(200)), 9)).unwrap();
    }
    let mut node = Script::new(servent);
    node.message(SimPeer(1), GnutellaMsg::Connect);
    node.sent();
    say(&mut node, 1, 5, 1, 0, query("song"));
    let sent = said(&mut node);
    assert!(sent.len() >= 3 && sent.iter().all(|(_, hit)| hit.wire_size() < 2048), "§3.2.4.2");
    let results = sent.iter().map(|(_, hit)| match &hit.payload {
        Payload::QueryHit(hit) => hit.results.len(),
        _ => 0,
    });
    assert_eq!(results.sum::<usize>(), 30);
}

#[test]
fn a_hash_is_asked_for_by_its_urn() {
    let hash = ContentHash::Sha1([3; 20]);
    let mut servent = Gnutella::new(ME.contact(), [], GnutellaConfig::default());
    servent.library_mut().insert(Item::new("A Song", 9).hash(hash)).unwrap();
    let mut node = Script::new(servent);
    node.message(SimPeer(1), GnutellaMsg::Connect);
    node.sent();
    let extension: Bytes = format!("{hash}\0").into();
    say(&mut node, 1, 5, 1, 0, Payload::Query { min_speed: 0, criteria: Bytes::new(), extension });
    let sent = said(&mut node);
    let Payload::QueryHit(hit) = &sent[0].1.payload else { panic!() };
    assert_eq!(hit.results[0].extension, hash.to_string());
}

// ---- hits

#[test]
fn a_hit_goes_back_the_way_that_the_query_has_come() {
    let mut node = node(3);
    say(&mut node, 1, 5, 4, 0, query("song"));
    said(&mut node);
    say(&mut node, 3, 5, 2, 1, hit(guid(90), at(9), &["a song"]));
    let sent = said(&mut node);
    assert!(matches!(sent[..], [(1, Descriptor { ttl: 1, hops: 2, .. })]), "{sent:?}");
    say(&mut node, 3, 6, 2, 1, hit(guid(90), at(9), &["a song"]));
    say(&mut node, 1, 5, 2, 1, hit(guid(90), at(9), &["a song"]));
    assert_eq!(said(&mut node), [], "nobody has asked that, and nobody answers their own question");
}

#[test]
fn one_query_does_not_bring_hits_without_end_and_no_neighbour_takes_anothers_room() {
    let mut node = node(3);
    say(&mut node, 1, 5, 4, 0, query("song"));
    said(&mut node);
    for number in 0..40 {
        say(&mut node, 2, 5, 4, 0, hit(guid(100 + number), at(9), &["song"; 10]));
    }
    assert_eq!(said(&mut node).len(), 7, "64 results, and the rest of the last");
    say(&mut node, 3, 5, 4, 0, hit(guid(90), at(8), &["song"; 10]));
    assert_eq!(said(&mut node).len(), 1);
}

fn search(node: &mut Node, words: &str, scope: Scope) -> OpId {
    node.command(GnutellaCommand::Search(SearchCommand::Search(Query::text(words), scope)))
}

fn hits(node: &mut Node) -> Vec<Hit<SimPeer>> {
    let hit = |(_, found)| if let SearchItem::Hit(hit) = found { Some(hit) } else { None };
    node.items().into_iter().filter_map(hit).collect()
}

#[test]
fn hits_of_one_source_are_counted_and_its_repetitions_are_none() {
    let mut node = node(1);
    search(&mut node, "song", Scope::default());
    let id = said(&mut node)[0].1.id;
    let names: Vec<String> = (0..60).map(|i| format!("song {i}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    for _ in 0..2 {
        let payload = hit(guid(90), at(9), &names);
        let descriptor = Descriptor { id, ttl: 1, hops: 0, payload };
        node.message(SimPeer(1), GnutellaMsg::Descriptor(descriptor));
    }
    assert_eq!(hits(&mut node).len(), 32);
    node.advance(Duration::from_secs(20));
    let outcomes = node.outcomes();
    let GnutellaOutcome::Search(SearchOutcome::Searched(Ok(searched))) = outcomes[0].1 else { panic!() };
    assert_eq!((searched.end, searched.cost.messages, searched.cost.duplicates), (End::Deadline, 3, 1));
    assert!(!searched.cost.whole && searched.cost.bytes > 3 * super::descriptor::HEADER as u64);
}

/// Whoever says another name each time is not more than one neighbour.
#[test]
fn no_neighbour_fills_a_search_alone() {
    for (neighbours, most) in [(4, 100), (1, 200)] {
        let mut node = node(neighbours);
        search(&mut node, "song", Scope { hits: 200, ..Scope::default() });
        let id = said(&mut node)[0].1.id;
        let comes = |node: &mut Node, from: u32, source: u32| {
            let payload = hit(guid(90), at(source), &["song"; 1]);
            let descriptor = Descriptor { id, ttl: 1, hops: 0, payload };
            node.message(SimPeer(from), GnutellaMsg::Descriptor(descriptor));
        };
        (0..200).for_each(|source| comes(&mut node, 1, 1000 + source));
        assert_eq!(hits(&mut node).len(), most, "of {neighbours} neighbours");
        if neighbours > 1 {
            comes(&mut node, 2, 9);
            assert_eq!(hits(&mut node).len(), 1);
        }
    }
}

#[test]
fn queries_of_others_do_not_displace_its_own() {
    let config = GnutellaConfig { routes: 8, ..GnutellaConfig::default() };
    let mut node = Script::new(Gnutella::new(ME.contact(), [], config));
    (1..=2).for_each(|peer| node.message(SimPeer(peer), GnutellaMsg::Connect));
    node.sent();
    search(&mut node, "song", Scope::default());
    let id = said(&mut node)[0].1.id;
    (0..20).for_each(|other| say(&mut node, 1, other, 4, 1, query("tune")));
    let descriptor = Descriptor { id, ttl: 1, hops: 0, payload: hit(guid(90), at(9), &["song"]) };
    node.message(SimPeer(2), GnutellaMsg::Descriptor(descriptor));
    assert_eq!(hits(&mut node).len(), 1);
}

#[test]
fn a_search_ends_when_enough_has_come() {
    let mut node = node(1);
    let op = search(&mut node, "song", Scope { hits: 2, ..Scope::default() });
    let id = said(&mut node)[0].1.id;
    let descriptor = Descriptor { id, ttl: 1, hops: 0, payload: hit(guid(90), at(9), &["a", "b", "c"]) };
    node.message(SimPeer(1), GnutellaMsg::Descriptor(descriptor));
    assert_eq!(hits(&mut node).len(), 2);
    assert_eq!(node.outcomes()[0].0, op);
    assert!(!node.timers().any(|timer| matches!(timer, GnutellaTimer::Search(_))));
}

#[test]
fn what_cannot_be_searched_is_refused_with_a_reason() {
    let mut node = node(1);
    let walk = Reach::Walk { walkers: 1, check_every: 1, steps: 1 };
    search(&mut node, "song", Scope { reach: walk, ..Scope::default() });
    search(&mut node, "!", Scope::default());
    let mut alone = Script::new(Gnutella::<SimPeer>::new(None, [], GnutellaConfig::default()));
    search(&mut alone, "song", Scope::default());
    let why = |node: &mut Node| {
        let error = |(_, outcome)| match outcome {
            GnutellaOutcome::Search(SearchOutcome::Searched(Err(error))) => error,
            other => panic!("{other:?}"),
        };
        node.outcomes().into_iter().map(error).collect::<Vec<_>>()
    };
    assert_eq!(why(&mut node), [SearchError::Unsupported, SearchError::BadQuery]);
    assert_eq!(why(&mut alone), [SearchError::NotConnected]);
}

#[test]
fn rings_grow() {
    let mut node = node(1);
    let reach = Reach::Ring { first: 1, step: 3, last: 9 };
    search(&mut node, "song", Scope { reach, deadline: Duration::from_secs(60), ..Scope::default() });
    let mut radii = Vec::new();
    for _ in 0..13 {
        let queries =
            said(&mut node).into_iter().filter(|(_, sent)| matches!(sent.payload, Payload::Query { .. }));
        radii.extend(queries.map(|(_, query)| query.ttl));
        node.advance(Duration::from_secs(1));
    }
    assert_eq!(radii, [1, 4, 7]);
    assert_eq!(node.outcomes().len(), 1);
}
