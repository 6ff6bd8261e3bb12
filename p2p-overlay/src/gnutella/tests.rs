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
fn one_query_does_not_bring_hits_without_end() {
    let mut node = node(2);
    say(&mut node, 1, 5, 4, 0, query("song"));
    said(&mut node);
    for number in 0..40 {
        say(&mut node, 2, 5, 4, 0, hit(guid(100 + number), at(9), &["song"; 10]));
    }
    assert_eq!(said(&mut node).len(), 25, "256 results");
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

// ---- pushes

/// A hit that the servent gives for a query of neighbour 1.
fn offered(node: &mut Node) -> QueryHit {
    say(node, 1, 5, 1, 0, query("song"));
    match said(node).remove(0).1.payload {
        Payload::QueryHit(hit) => hit,
        other => panic!("{other:?}"),
    }
}

fn push(servent: Guid, index: u32, contact: Contact) -> Payload {
    Payload::Push { servent, index, contact, extension: Bytes::new() }
}

#[test]
fn a_push_makes_the_servent_connect_a_few_times() {
    let mut node = sharing(1, "a song");
    let hit = offered(&mut node);
    for id in 10..15 {
        say(&mut node, 1, id, 3, 0, push(hit.servent, 0, at(9)));
    }
    let give = GnutellaMsg::Give { index: 0, servent: hit.servent, name: "a song".into() };
    assert_eq!(node.sent(), [(SimPeer(9), give.clone()), (SimPeer(9), give)]);
}

#[test]
fn who_has_not_seen_a_hit_pushes_nobody() {
    let mut node = sharing(2, "a song");
    let hit = offered(&mut node);
    let mut forged = hit.servent;
    forged.0[12] ^= 1;
    say(&mut node, 1, 10, 3, 0, push(forged, 0, at(9)));
    say(&mut node, 1, 11, 3, 0, push(hit.servent, 7, at(9)));
    say(&mut node, 1, 12, 3, 0, push(hit.servent, 0, of_address("0.0.0.0:80".parse().unwrap())));
    assert_eq!((node.sent(), node.machine().tally().dropped), (vec![], 3));
}

#[test]
fn a_push_goes_back_the_way_that_the_hit_has_come() {
    let mut node = node(3);
    say(&mut node, 1, 5, 4, 0, query("song"));
    say(&mut node, 3, 5, 4, 1, hit(guid(90), at(9), &["a song"]));
    said(&mut node);
    say(&mut node, 1, 10, 4, 0, push(guid(90), 0, at(1)));
    assert!(matches!(said(&mut node)[..], [(3, Descriptor { ttl: 3, hops: 1, .. })]));
    say(&mut node, 1, 10, 4, 0, push(guid(90), 0, at(1)));
    say(&mut node, 1, 11, 4, 0, push(guid(91), 0, at(1)));
    assert_eq!(said(&mut node), [], "once, and only where a hit came from");
}

#[test]
fn a_file_that_nobody_has_asked_for_is_refused() {
    let mut node = node(1);
    node.message(SimPeer(9), GnutellaMsg::Give { index: 0, servent: guid(9), name: "virus".into() });
    assert_eq!(node.sent(), [(SimPeer(9), GnutellaMsg::Refuse)]);
}

// ---- pings and pongs

#[test]
fn a_ping_is_passed_on_only_while_few_are_known() {
    let mut node = node(2);
    say(&mut node, 1, 5, 4, 0, ping());
    let sent = said(&mut node);
    let to: Vec<u32> = sent.iter().map(|(to, _)| *to).collect();
    assert_eq!(to, [1, 2], "its own pong, and the ping");
    for host in 0..12 {
        say(&mut node, 2, 5, 4, 1, pong(at(50 + host)));
    }
    assert_eq!(said(&mut node).iter().filter(|(to, _)| *to == 1).count(), 12, "back by the ping's way");
    say(&mut node, 1, 6, 4, 0, ping());
    let sent = said(&mut node);
    assert!(sent.iter().all(|(to, _)| *to == 1) && sent.len() == 11, "{sent:?}");
}

#[test]
fn a_pong_that_nobody_has_asked_for_is_dropped() {
    let mut node = node(2);
    say(&mut node, 1, 5, 4, 0, pong(at(9)));
    assert!(node.machine().hosts().is_empty());
    say(&mut node, 2, 6, 4, 0, ping());
    say(&mut node, 1, 6, 4, 0, pong(at(9)));
    assert_eq!(node.machine().hosts().len(), 1);
}

#[test]
fn a_full_servent_tells_a_guest_whom_it_knows_and_says_goodbye() {
    let mut node = node(8);
    say(&mut node, 1, 4, 2, 0, ping());
    say(&mut node, 2, 4, 2, 0, pong(at(50)));
    node.message(SimPeer(20), GnutellaMsg::Connect);
    assert!(matches!(node.sent().pop(), Some((SimPeer(20), GnutellaMsg::Accept))));
    assert_eq!(node.machine().neighbours().count(), 8);
    say(&mut node, 20, 5, 7, 0, query("song"));
    assert_eq!(said(&mut node), [], "a guest's questions go nowhere");
    say(&mut node, 20, 6, 7, 0, ping());
    let sent = said(&mut node);
    let kinds: Vec<_> =
        sent.iter().map(|(to, sent)| (*to, matches!(sent.payload, Payload::Bye { .. }))).collect();
    assert_eq!(kinds, [(20, false), (20, false), (20, true)], "itself, the host it knows, goodbye");
    for guest in 21..=25 {
        node.message(SimPeer(guest), GnutellaMsg::Connect);
    }
    let refused = node.sent().into_iter().filter(|(_, msg)| *msg == GnutellaMsg::Refuse);
    assert_eq!(refused.map(|(to, _)| to).collect::<Vec<_>>(), [SimPeer(25)]);
}

#[test]
fn who_names_many_that_are_not_there_is_not_believed() {
    let mut node = node(1);
    say(&mut node, 1, 5, 4, 0, ping());
    node.advance(Duration::from_secs(10));
    let own = said(&mut node).into_iter().find(|(_, sent)| matches!(sent.payload, Payload::Ping { .. }));
    let id = own.unwrap().1.id;
    let name = |node: &mut Node, host: u32| {
        let descriptor = Descriptor { id, ttl: 3, hops: 1, payload: pong(at(host)) };
        node.message(SimPeer(1), GnutellaMsg::Descriptor(descriptor));
    };
    (100..103).for_each(|host| name(&mut node, host));
    node.advance(Duration::from_secs(10));
    let dialled =
        |node: &mut Node| node.sent().into_iter().filter(|(_, msg)| *msg == GnutellaMsg::Connect).count();
    assert_eq!(dialled(&mut node), 3);
    node.advance(Duration::from_secs(10));
    let known = node.machine().hosts().len();
    (200..210).for_each(|host| name(&mut node, host));
    assert_eq!(node.machine().hosts().len(), known);
}

#[test]
fn a_neighbour_that_is_silent_is_given_up() {
    let mut node = node(2);
    for second in 0..5 {
        node.advance(Duration::from_secs(10));
        say(&mut node, 1, 50 + second, 1, 0, ping());
    }
    assert_eq!(node.machine().neighbours().collect::<Vec<_>>(), [SimPeer(1)]);
}

#[test]
fn a_neighbour_that_floods_is_cut_to_its_rate() {
    let mut node = node(2);
    for id in 0..1000 {
        say(&mut node, 1, id, 4, 1, query("song"));
    }
    assert_eq!(said(&mut node).len(), 20, "an eighth of 160");
    for id in 2000..3000 {
        say(&mut node, 2, id, 4, 0, query("song"));
    }
    assert_eq!(said(&mut node).len(), 20, "another's share is its own, and few queries are");
    assert_eq!(node.machine().tally().reached, 160 + 20);
}

#[test]
fn strangers_are_not_listened_to() {
    let mut node = node(1);
    say(&mut node, 9, 5, 4, 0, query("song"));
    say(&mut node, 9, 6, 4, 0, ping());
    assert_eq!(said(&mut node), []);
}

// ---- worlds

fn world(seed: u64, nodes: u32) -> Sim<Gnutella<SimPeer>> {
    let network = Network { encoding: Encoding::RoundTrip, ..Network::default() };
    let mut sim = Sim::new(seed, network);
    for _ in 0..nodes {
        sim.spawn(|birth| {
            let seed = birth.alive.first().and_then(SimPeer::contact);
            let mut servent = Gnutella::new(birth.peer.contact(), seed, GnutellaConfig::default());
            servent.library_mut().insert(Item::new(format!("song {}", birth.peer.0), 1000)).unwrap();
            servent
        });
    }
    sim
}

/// Whom a walk over all edges reaches.
fn component(sim: &Sim<Gnutella<SimPeer>>, from: SimPeer) -> usize {
    let (mut seen, mut next) = (BTreeSet::from([from]), vec![from]);
    while let Some(peer) = next.pop() {
        let more = sim.node(peer).into_iter().flat_map(Gnutella::neighbours);
        next.extend(more.filter(|peer| seen.insert(*peer)));
    }
    seen.len()
}

#[test]
fn servents_that_know_one_become_one_network() {
    run_seeds(2, |seed| {
        let mut sim = world(seed, 60);
        sim.run_for(Duration::from_secs(300));
        assert_eq!(component(&sim, SimPeer(30)), 60);
        let degrees: Vec<usize> =
            (0..60).map(|i| sim.node(SimPeer(i)).map_or(0, |servent| servent.neighbours().count())).collect();
        assert!(degrees.iter().all(|degree| (1..=8).contains(degree)), "{degrees:?}");
        // Neighbourhood is mutual, but for guests who are about to hear that they are.
        let one_sided = |sim: &Sim<Gnutella<SimPeer>>| {
            let of = |peer| sim.node(peer).into_iter().flat_map(Gnutella::neighbours);
            let pairs = (0..60).map(SimPeer).flat_map(|peer| of(peer).map(move |other| (peer, other)));
            let alone = pairs.filter(|(peer, other)| !of(*other).any(|back| back == *peer));
            alone.collect::<BTreeSet<(SimPeer, SimPeer)>>()
        };
        let before = one_sided(&sim);
        sim.run_for(Duration::from_millis(300));
        assert_eq!(before.intersection(&one_sided(&sim)).count(), 0);
        let handle = sim.handle(SimPeer(59));
        let found = sim.block_on(async move {
            let hits = handle.search(Query::text("song"), Scope { hits: 100, ..Scope::default() });
            hits.map(|hit| hit.item.name).collect::<BTreeSet<String>>().await
        });
        assert_eq!(found.len(), 59, "everybody else's, within seven hops");
        sim.trace()
    });
}

#[test]
fn a_network_outlives_a_third_of_its_servents() {
    let mut sim = world(3, 60);
    sim.run_for(Duration::from_secs(300));
    (0..20).for_each(|peer| sim.crash(SimPeer(peer)));
    sim.run_for(Duration::from_secs(300));
    assert_eq!(component(&sim, SimPeer(30)), 40);
}

#[test]
fn a_source_that_accepts_no_connection_is_reached_by_a_push() {
    let mut sim = world(4, 20);
    let hidden = sim.spawn(|_| {
        let mut servent = Gnutella::new(None, SimPeer(3).contact(), GnutellaConfig::default());
        servent.library_mut().insert(Item::new("rare", 5)).unwrap();
        servent
    });
    sim.run_for(Duration::from_secs(120));
    let handle = sim.handle(SimPeer(11));
    let (hit, reached) = sim.block_on(async move {
        let mut hits = handle.search(Query::text("rare"), Scope { hits: 1, ..Scope::default() });
        let hit = hits.next().await.unwrap();
        let reached = handle.reach(&hit).await;
        (hit, reached)
    });
    assert_eq!((hit.fetch, reached), (Fetch::Push, Ok(hidden)));
    let direct = sim.handle(SimPeer(11));
    let reached = sim.block_on(async move {
        let mut hits = direct.search(Query::text("song 5"), Scope { hits: 1, ..Scope::default() });
        let hit = hits.next().await.unwrap();
        direct.reach(&hit).await
    });
    assert_eq!(reached, Ok(SimPeer(5)));
}

/// A neighbour answers each ping with twenty addresses where nobody is, 1,200 in ten minutes.
#[test]
fn forged_pongs_turn_a_servent_on_nobody() {
    let config = GnutellaConfig { wanted: 6, ..GnutellaConfig::default() };
    let mut node = Script::new(Gnutella::<SimPeer>::new(ME.contact(), [], config));
    node.message(SimPeer(1), GnutellaMsg::Connect);
    let (mut dials, mut forged) = (0, 0);
    for _ in 0..60 {
        for (to, msg) in node.sent() {
            match msg {
                GnutellaMsg::Connect => dials += u32::from(to != SimPeer(1)),
                GnutellaMsg::Descriptor(Descriptor { id, payload: Payload::Ping { .. }, .. }) => {
                    for _ in 0..20 {
                        // Each in a subnet of its own.
                        forged += 1;
                        let descriptor =
                            Descriptor { id, ttl: 1, hops: 1, payload: pong(at(1000 + 300 * forged)) };
                        node.message(SimPeer(1), GnutellaMsg::Descriptor(descriptor));
                    }
                }
                _ => {}
            }
        }
        node.advance(Duration::from_secs(10));
    }
    assert!(forged >= 1180 && (3..=8).contains(&dials), "{dials} dials for {forged} pongs");
}
