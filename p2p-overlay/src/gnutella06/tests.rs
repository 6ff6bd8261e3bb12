mod pushing;
mod worlds;

use std::collections::BTreeSet;

use bytes::Bytes;
use futures::StreamExt;
use p2p_core::sim::{Encoding, Network, Sim};
use p2p_core::{Script, SimPeer};

use super::*;
use crate::gnutella::{Descriptor, GnutellaConfig, Payload, Pong, QueryHit, Shared};
use crate::measure::sharing::Sharing;
use crate::search::{End, Item, Query, Scope, Search, SearchError};

type Node = Script<Gnutella06<SimPeer>>;

const ME: SimPeer = SimPeer(0);

/// Small tables, so that worlds are quick.
fn config() -> Gnutella06Config {
    Gnutella06Config { table_bits: 12, ..Gnutella06Config::default() }
}

fn servent(role: Role) -> Gnutella06<SimPeer> {
    Gnutella06::new(ME.contact(), [], role, config())
}

fn hello(role: Role) -> Hello {
    let ultrapeer = role == Role::Ultrapeer;
    Hello {
        ultrapeer: Some(ultrapeer),
        last_hop: ultrapeer,
        query_routing: true,
        degree: Some(32),
        max_ttl: Some(3),
        ..Hello::default()
    }
}

/// An ultrapeer with leaves 1, 2, ... and ultrapeers 101, 102, ...
fn hub(leaves: u32, ultrapeers: u32) -> Node {
    hub_of(servent(Role::Ultrapeer), leaves, ultrapeers)
}

fn hub_of(servent: Gnutella06<SimPeer>, leaves: u32, ultrapeers: u32) -> Node {
    let mut node = Script::new(servent);
    for (count, base, role) in [(leaves, 0, Role::Leaf), (ultrapeers, 100, Role::Ultrapeer)] {
        for peer in (1..=count).map(|i| SimPeer(base + i)) {
            node.message(peer, Gnutella06Msg::Connect(hello(role)));
            node.message(peer, Gnutella06Msg::Agree(hello(role)));
        }
    }
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
    node.message(SimPeer(from), Gnutella06Msg::Descriptor(descriptor));
}

/// The descriptors sent since the last look, but for pings and tables.
fn said(node: &mut Node) -> Vec<(u32, Descriptor)> {
    let sent = node.sent().into_iter().filter_map(|(to, msg)| match msg {
        Gnutella06Msg::Descriptor(Descriptor {
            payload: Payload::Ping { .. } | Payload::Route(_), ..
        }) => None,
        Gnutella06Msg::Descriptor(descriptor) => Some((to.0, descriptor)),
        _ => None,
    });
    sent.collect()
}

fn to(sent: &[(u32, Descriptor)]) -> Vec<(u32, u8)> {
    sent.iter().map(|(to, descriptor)| (*to, descriptor.ttl)).collect()
}

fn query(words: &str) -> Payload {
    Payload::Query { min_speed: 0, criteria: words.to_owned().into(), extension: Bytes::new() }
}

fn hit(from: u32, count: usize) -> Payload {
    let shared = |index: usize| Shared {
        index: index as u32,
        size: 1,
        name: "a song".into(),
        extension: Bytes::new(),
    };
    let contact = SimPeer(from).contact().unwrap();
    let results = (0..count).map(shared).collect();
    Payload::QueryHit(QueryHit {
        contact,
        speed: 1,
        results,
        extension: Bytes::new(),
        servent: guid(from as u16),
    })
}

/// A neighbour tells that it has something of this name.
fn tells(node: &mut Node, from: u32, name: &str) {
    let mut table = QueryTable::new(12);
    table.insert(&Item::new(name, 1));
    for update in updates(None, &table) {
        say(node, from, 60_000, 1, 0, Payload::Route(update));
    }
}

// ---- tables

#[test]
fn a_leaf_is_asked_only_what_it_might_have() {
    let mut node = hub(3, 1);
    tells(&mut node, 1, "blue monday");
    tells(&mut node, 2, "ruby tuesday");
    say(&mut node, 101, 5, 1, 2, query("monday"));
    assert_eq!(to(&said(&mut node)), [(1, 1)]);
    let tally = node.machine().tally();
    assert_eq!((tally.to_leaves, tally.leaves_spared), (1, 2));
}

#[test]
fn the_last_hop_goes_to_whose_tables_might_match_and_to_whom_nothing_is_known_of() {
    let mut node = hub(0, 4);
    tells(&mut node, 102, "blue monday");
    tells(&mut node, 103, "ruby tuesday");
    say(&mut node, 101, 5, 2, 1, query("monday"));
    assert_eq!(to(&said(&mut node)), [(102, 1), (104, 1)]);
    say(&mut node, 101, 6, 3, 1, query("monday"));
    assert_eq!(to(&said(&mut node)), [(102, 2), (103, 2), (104, 2)], "they pass it on");
}

#[test]
fn a_query_that_goes_further_than_before_is_passed_on_again_and_not_answered_again() {
    let mut node = hub(1, 3);
    tells(&mut node, 1, "blue monday");
    say(&mut node, 101, 5, 1, 2, query("monday"));
    assert_eq!(to(&said(&mut node)), [(1, 1)]);
    say(&mut node, 102, 5, 3, 1, query("monday"));
    assert_eq!(to(&said(&mut node)), [(101, 2), (103, 2)]);
    say(&mut node, 103, 5, 3, 1, query("monday"));
    assert_eq!((said(&mut node), node.machine().tally().duplicates), (vec![], 1));
}

#[test]
fn who_asks_for_everything_gets_nothing() {
    let mut node = hub(1, 1);
    let mut table = QueryTable::new(8);
    (0..200).for_each(|slot| table.put(slot, true));
    for update in updates(None, &table) {
        say(&mut node, 1, 60_000, 1, 0, Payload::Route(update));
    }
    say(&mut node, 101, 5, 1, 2, query("monday"));
    assert_eq!(said(&mut node), []);
    node.advance(Duration::from_secs(10));
    assert_eq!(node.machine().table.set(), 0, "and its ultrapeer does not ask for it");
}

#[test]
fn an_ultrapeer_tells_what_its_leaves_have() {
    let mut node = hub(1, 2);
    tells(&mut node, 1, "blue monday");
    node.advance(Duration::from_secs(10));
    let mut told = BTreeSet::new();
    let mut reader = TableReader::default();
    // What it was told at first.
    updates(None, &QueryTable::new(12)).iter().for_each(|update| assert!(reader.apply(update).is_ok()));
    for (to, msg) in node.sent() {
        if let Gnutella06Msg::Descriptor(Descriptor { payload: Payload::Route(update), .. }) = msg {
            told.insert(to.0);
            if to.0 == 101 {
                reader.apply(&update).unwrap();
            }
        }
    }
    assert_eq!(told, BTreeSet::from([101, 102]), "ultrapeers, not leaves");
    assert!(reader.table().unwrap().may_match(&Asked::new(&Query::text("monday"))));
}

#[test]
fn a_table_that_cannot_be_is_the_end() {
    let mut node = hub(1, 1);
    let update = RouteUpdate::Reset { slots: 77, infinity: 7 };
    say(&mut node, 1, 5, 1, 0, Payload::Route(update));
    assert!(matches!(said(&mut node)[..], [(1, Descriptor { payload: Payload::Bye { .. }, .. })]));
    assert_eq!(node.machine().leaves().count(), 0);
}

// ---- searches

#[test]
fn who_changes_its_table_without_end_is_sent_away() {
    let mut node = hub(1, 1);
    // It has connected, too.
    (0..19).for_each(|_| tells(&mut node, 1, "blue monday"));
    assert_eq!(node.machine().leaves().count(), 1);
    tells(&mut node, 1, "ruby tuesday");
    assert_eq!(node.machine().leaves().count(), 0);
    for _ in 0..20 {
        tells(&mut node, 101, "blue monday");
        node.advance(Duration::from_secs(2));
        say(&mut node, 101, 7, 1, 0, Payload::Ping { extension: Bytes::new() });
    }
    assert_eq!(node.machine().ultrapeers().count(), 1, "now and then it may");
}

/// A leaf asks; its ultrapeer probes a third of its neighbours, of those who might have it, then asks one at a time, until
/// enough has come.
#[test]
fn a_leafs_search_is_guided() {
    let mut node = hub(2, 6);
    for peer in 101..=104 {
        tells(&mut node, peer, "a song");
    }
    say(&mut node, 1, 5, 3, 0, query("song"));
    let probe = said(&mut node);
    assert_eq!(probe.len(), 2);
    assert!(probe.iter().all(|(to, query)| (101..=104).contains(to) && query.ttl == 1 && query.hops == 1));
    node.advance(Duration::from_millis(2400));
    let next = said(&mut node);
    assert_eq!(next.len(), 1, "one at a time");
    assert_eq!(next[0].1.ttl, 3, "nothing has come: as far as it goes");
    assert!(probe.iter().all(|(to, _)| *to != next[0].0));
    node.advance(Duration::from_millis(2400));
    assert_eq!(said(&mut node), [], "three hops take longer");
    for (by, count) in [(next[0].0, 30), (probe[0].0, 20)] {
        say(&mut node, by, 5, 4, 2, hit(50 + by, count));
        assert_eq!(to(&said(&mut node))[0].0, 1, "back to the leaf");
    }
    node.advance(Duration::from_secs(30));
    assert_eq!(said(&mut node), [], "enough");
}

#[test]
fn queries_of_ultrapeers_do_not_displace_those_that_are_guided_here() {
    let config = Gnutella06Config { routes: 8, ..config() };
    let mut node = hub_of(Gnutella06::new(ME.contact(), [], Role::Ultrapeer, config), 1, 3);
    say(&mut node, 1, 500, 3, 0, query("song"));
    (0..20).for_each(|other| say(&mut node, 101, other, 3, 1, query("tune")));
    said(&mut node);
    say(&mut node, 102, 500, 4, 2, hit(50, 1));
    assert_eq!(to(&said(&mut node))[0].0, 1);
}

/// It has whatever anybody asks for, two hundred times, each under another's name.
#[test]
fn who_makes_hits_up_neither_ends_a_search_nor_takes_the_room_of_others() {
    let mut node = hub(1, 6);
    say(&mut node, 1, 5, 3, 0, query("song"));
    node.advance(Duration::from_millis(2400));
    let asked = said(&mut node)[0].0;
    (0..20).for_each(|i| say(&mut node, asked, 5, 4, 2, hit(1000 + i, 10)));
    assert_eq!(said(&mut node).len(), 7, "64 are passed on, and the rest of the last");
    node.advance(Duration::from_millis(3 * 2400));
    let next = said(&mut node);
    assert_eq!(next.len(), 1, "others are asked");
    say(&mut node, next[0].0, 5, 4, 2, hit(50, 1));
    assert_eq!(to(&said(&mut node))[0].0, 1, "and heard");
}

#[test]
fn a_leaf_says_when_it_has_enough() {
    for (hits, goes_on) in [(u16::MAX, 0), (50, 0), (3, 1)] {
        let mut node = hub(2, 6);
        say(&mut node, 1, 5, 3, 0, query("song"));
        say(&mut node, 2, 5, 1, 0, Payload::Status { hits: u16::MAX });
        say(&mut node, 1, 5, 1, 0, Payload::Status { hits });
        said(&mut node);
        node.advance(Duration::from_millis(2400));
        assert_eq!(said(&mut node).len(), goes_on, "{hits} hits");
    }
}

/// Each of thirty has eight of 256; the newest are guided, of as many as it may ask.
#[test]
fn a_leaf_that_asks_for_much_has_its_share_and_leaves_the_others_theirs() {
    let mut node = hub(2, 6);
    for id in 0..100 {
        say(&mut node, 1, id, 3, 0, query("song"));
        node.advance(Duration::from_millis(10));
    }
    let guided = |node: &Node| node.machine().guided.keys().copied().collect::<Vec<Guid>>();
    assert_eq!(guided(&node), (12..20).map(guid).collect::<Vec<_>>(), "twenty at once, the last eight");
    assert_eq!(node.machine().tally().dropped, 80 + 12);
    say(&mut node, 2, 200, 3, 0, query("song"));
    assert_eq!(guided(&node).len(), 9);
    node.link(SimPeer(1), Link::Down(Down::Closed));
    assert_eq!(guided(&node), [guid(200)], "nobody waits for the others any more");
}

/// An ultrapeer's users have as many as there may be, however much its leaves ask.
#[test]
fn leaves_leave_an_ultrapeers_own_users_their_searches() {
    let config = Gnutella06Config { guided: 1, capacity: 2, ..config() };
    let mut node = hub_of(Gnutella06::new(ME.contact(), [], Role::Ultrapeer, config), 2, 6);
    for leaf in [1, 2] {
        say(&mut node, leaf, leaf as u16, 3, 0, query("song"));
    }
    let search = || SearchCommand::Search(Query::text("tune"), Scope::default());
    let ops: Vec<OpId> = (0..3).map(|_| node.command(search())).collect();
    let busy = SearchOutcome::Searched(Err(SearchError::Busy));
    assert_eq!(node.outcomes(), [(ops[2], busy)]);
    said(&mut node);
    node.advance(Duration::from_millis(2400));
    assert_eq!(said(&mut node).len(), 4, "two leaves' and two users' are guided");
}

#[test]
fn an_ultrapeer_that_asks_for_much_has_its_share_passed_on() {
    let mut node = hub(1, 4);
    tells(&mut node, 1, "a song");
    for id in 0..1000 {
        say(&mut node, 101, id, 3, 1, query("song"));
    }
    let sent = said(&mut node);
    let (leaves, others): (Vec<_>, Vec<_>) = sent.iter().partition(|(to, _)| *to == 1);
    assert_eq!((leaves.len(), others.len()), (100, 20 * 3), "its share is twenty at once");
    for id in 2000..3000 {
        say(&mut node, 102, id, 3, 0, query("song"));
    }
    let passed = said(&mut node).iter().filter(|(to, _)| *to > 100).count();
    assert_eq!(passed, 20 * 3, "another's share is its own");
}

#[test]
fn who_goes_and_comes_again_has_what_it_had_left() {
    let mut node = hub(0, 2);
    let comes = [Gnutella06Msg::Connect, Gnutella06Msg::Agree].map(|msg| msg(hello(Role::Ultrapeer)));
    let goes = Gnutella06Msg::Refuse(Vec::new());
    let mut passed = |again: &[Gnutella06Msg], id: u16| {
        again.iter().for_each(|msg| node.message(SimPeer(101), msg.clone()));
        (id..id + 30).for_each(|id| say(&mut node, 101, id, 3, 0, query("song")));
        said(&mut node).len()
    };
    assert_eq!(passed(&[], 0), 20, "as many at once");
    assert_eq!(passed(&comes, 100), 0);
    assert_eq!(passed(&[&[goes], &comes[..]].concat(), 200), 0);
    let connects = (0..200).map(|_| comes[0].clone()).collect::<Vec<_>>();
    connects.into_iter().for_each(|connect| node.message(SimPeer(102), connect));
    let welcomes = node.sent().into_iter().filter(|(_, msg)| matches!(msg, Gnutella06Msg::Welcome(_)));
    assert_eq!(welcomes.count(), 19, "each connection may bring a query table, and draws one");
}

#[test]
fn a_leaf_passes_nothing_on() {
    let mut node = leaf(2);
    say(&mut node, 101, 5, 4, 2, query("song"));
    say(&mut node, 101, 6, 4, 2, query("other"));
    let sent = said(&mut node);
    assert!(matches!(sent[..], [(101, Descriptor { payload: Payload::QueryHit(_), .. })]), "{sent:?}");
}

/// A leaf that has a song, and so many ultrapeers.
fn leaf(hubs: u32) -> Node {
    let seeds = (101..=100 + hubs).map(|peer| SimPeer(peer).contact().unwrap());
    let mut servent = Gnutella06::new(ME.contact(), seeds, Role::Leaf, config());
    servent.library_mut().insert(Item::new("a song", 9)).unwrap();
    let mut node = Script::new(servent);
    for peer in (101..=100 + hubs).map(SimPeer) {
        node.message(peer, Gnutella06Msg::Welcome(hello(Role::Ultrapeer)));
    }
    node.sent();
    node
}

#[test]
fn a_leafs_user_asks_all_its_ultrapeers_and_stops_them() {
    let mut node = leaf(3);
    let scope = Scope { hits: 2, ..Scope::default() };
    let op = node.command(SearchCommand::Search(Query::text("song"), scope));
    let sent = said(&mut node);
    assert_eq!(to(&sent), [(101, 3), (102, 3), (103, 3)]);
    let id = sent[0].1.id;
    for from in [50, 50, 51] {
        let descriptor = Descriptor { id, ttl: 1, hops: 0, payload: hit(from, 1) };
        node.message(SimPeer(101), Gnutella06Msg::Descriptor(descriptor));
    }
    let outcomes = node.outcomes();
    let SearchOutcome::Searched(Ok(searched)) = &outcomes[0].1 else { panic!("{outcomes:?}") };
    assert_eq!((outcomes[0].0, searched.end, searched.cost.duplicates), (op, End::Enough, 1));
    let stop = Payload::Status { hits: u16::MAX };
    assert_eq!(said(&mut node).iter().filter(|(_, sent)| sent.payload == stop).count(), 3);
}

/// Two leaves that might have it and a third of the ultrapeers at first, then all the others; and one who passes it back.
#[test]
fn an_ultrapeers_user_is_told_what_it_has_asked() {
    let mut node = hub(3, 6);
    for peer in [1, 2].into_iter().chain(101..=106) {
        tells(&mut node, peer, "a song");
    }
    let scope = Scope { deadline: Duration::from_secs(60), ..Scope::default() };
    node.command(SearchCommand::Search(Query::text("song"), scope));
    let mut sent = said(&mut node);
    assert_eq!(sent.len(), 2 + 2);
    let back = Descriptor { ttl: 1, hops: 2, ..sent[3].1.clone() };
    node.message(SimPeer(101), Gnutella06Msg::Descriptor(back));
    // Three hops each.
    for _ in 0..4 {
        node.advance(Duration::from_secs(8));
        sent.extend(said(&mut node));
    }
    let outcomes = node.outcomes();
    let [(_, SearchOutcome::Searched(Ok(searched)))] = &outcomes[..] else { panic!("{outcomes:?}") };
    assert_eq!((searched.end, sent.len()), (End::Exhausted, 8), "{sent:?}");
    let cost = searched.cost;
    assert_eq!((cost.messages, cost.peers, cost.duplicates), (9, 8, 1));
    assert_eq!(cost.bytes, 9 * sent[0].1.wire_size() as u64);
}

#[test]
fn what_cannot_be_searched_is_refused_with_a_reason() {
    let mut node = leaf(1);
    let scope = Scope { reach: crate::search::Reach::Ttl(2), ..Scope::default() };
    node.command(SearchCommand::Search(Query::text("song"), scope));
    node.command(SearchCommand::Search(Query::text("!"), Scope::default()));
    let mut alone = Script::new(servent(Role::Leaf));
    alone.command(SearchCommand::Search(Query::text("song"), Scope::default()));
    let errors = node.outcomes().into_iter().chain(alone.outcomes()).map(|(_, outcome)| match outcome {
        SearchOutcome::Searched(Err(error)) => error,
        other => panic!("{other:?}"),
    });
    let wanted = [SearchError::Unsupported, SearchError::BadQuery, SearchError::NotConnected];
    assert_eq!(errors.collect::<Vec<_>>(), wanted);
}

// ---- who is connected

#[test]
fn a_leaf_and_a_full_ultrapeer_name_others() {
    let mut node = leaf(2);
    node.message(SimPeer(9), Gnutella06Msg::Connect(hello(Role::Leaf)));
    let Some((SimPeer(9), Gnutella06Msg::Refuse(tries))) = node.sent().pop() else { panic!() };
    let named: BTreeSet<SimPeer> = tries.iter().map(|contact| SimPeer::at(*contact, 0)).collect();
    assert_eq!(named, BTreeSet::from([SimPeer(101), SimPeer(102)]));
    let mut node = hub(30, 1);
    node.message(SimPeer(99), Gnutella06Msg::Connect(hello(Role::Leaf)));
    assert!(matches!(&node.sent()[..], [(SimPeer(99), Gnutella06Msg::Refuse(tries))] if tries.len() == 1));
    assert_eq!(node.machine().leaves().count(), 30);
}

#[test]
fn who_is_sent_away_goes_where_it_is_told() {
    let mut node = leaf(3);
    let other = SimPeer(77).contact().unwrap();
    let reason = codec::farewell("retired", &[other]);
    say(&mut node, 101, 5, 1, 0, Payload::Bye { reason });
    assert!(matches!(&node.sent()[..], [(SimPeer(77), Gnutella06Msg::Connect(_))]));
}

/// Nobody can connect to it, so that it retires after a minute: its leaves go where there is room, the most first.
#[test]
fn who_retires_names_its_leaves_those_who_have_room() {
    let mut node = hub_of(Gnutella06::new(None, [], Role::Ultrapeer, config()), 3, 3);
    let mut told = Vec::new();
    for _ in 0..120 {
        node.advance(Duration::from_secs(1));
        for (peer, msg) in node.sent() {
            let Gnutella06Msg::Descriptor(Descriptor { id, payload, .. }) = msg else { continue };
            match payload {
                Payload::Ping { .. } => {
                    let leaves = if peer.0 == 101 { 0 } else { 104 - peer.0 as u8 };
                    let extension = Room { leaves, ultrapeers: 0 }.write();
                    let contact = peer.contact().unwrap();
                    let pong = Payload::Pong(Pong { contact, files: 0, kilobytes: 0, extension });
                    let descriptor = Descriptor { id, ttl: 1, hops: 0, payload: pong };
                    node.message(peer, Gnutella06Msg::Descriptor(descriptor));
                }
                Payload::Bye { reason } => told.push((peer.0, codec::named_in(&reason))),
                _ => {}
            }
        }
    }
    let first = |peer| told.iter().find(|(to, _)| *to == peer).and_then(|(_, tries)| tries.first().copied());
    // 102 has room for two, 103 for one.
    let wanted = [102, 102, 103].map(|peer| SimPeer(peer).contact());
    assert_eq!([1, 2, 3].map(first), wanted, "{told:?}");
}

#[test]
fn an_ultrapeer_that_comes_back_and_is_not_needed_is_a_leaf() {
    for (minutes, role) in [(5, Role::Ultrapeer), (15, Role::Leaf)] {
        let seed = SimPeer(101).contact();
        let servent = Gnutella06::new(ME.contact(), seed, Role::Ultrapeer, config());
        let mut node = Script::new(servent);
        // It is refused until then.
        for second in 0.. {
            node.advance(Duration::from_secs(1));
            if !node.sent().iter().any(|(_, msg)| matches!(msg, Gnutella06Msg::Connect(_))) {
                continue;
            }
            if second > 60 * minutes {
                break;
            }
            node.message(SimPeer(101), Gnutella06Msg::Refuse(Vec::new()));
        }
        let welcome = Hello { needed: Some(false), ..hello(Role::Ultrapeer) };
        node.message(SimPeer(101), Gnutella06Msg::Welcome(welcome));
        assert_eq!(node.machine().role(), role, "after {minutes} minutes");
        let agreed = node.sent().into_iter().find_map(|(_, msg)| match msg {
            Gnutella06Msg::Agree(hello) => hello.ultrapeer,
            _ => None,
        });
        assert_eq!(agreed, Some(role == Role::Ultrapeer));
    }
}
