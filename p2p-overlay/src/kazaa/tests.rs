use std::collections::{BTreeMap, BTreeSet};

use futures::StreamExt;
use p2p_core::sim::{Encoding, Network, Sim, run_seeds};
use p2p_core::{Key, Script, SimPeer};

use super::msg::digest;
use super::word::Word;
use super::*;
use crate::place::simulated_keypair;
use crate::search::{
    ContentHash, End, Fetch, Hit, Item, Query, Reach, Scope, Search, SearchError, SearchItem,
};

type Node = Script<Kazaa<SimPeer>>;

const ME: SimPeer = SimPeer(0);

fn place(peer: u32) -> Contact {
    SimPeer(peer).contact().unwrap()
}

fn known(peer: u32) -> Known {
    Known { contact: place(peer), load: 100, age: 10 }
}

fn room() -> Places {
    Places { load: 100, ordinary: 50, supers: 20 }
}

/// A super-node with ordinary nodes 1, 2, ... and super-nodes 101, 102, ...
fn hub(ordinary: u32, supers: u32) -> Node {
    hub_of(ordinary, supers, KazaaConfig::default())
}

fn hub_of(ordinary: u32, supers: u32, config: KazaaConfig) -> Node {
    let mut node = Script::new(Kazaa::new(ME.contact(), [], Role::Ultrapeer, config));
    for (count, base, as_super) in [(ordinary, 0, false), (supers, 100, true)] {
        for peer in (1..=count).map(|i| base + i) {
            let listen = Some(place(peer));
            node.message(SimPeer(peer), KazaaMsg::Join { as_super, listen, digest: None });
        }
    }
    node.sent();
    node
}

/// An ordinary node that shares a song, whose super-node is 101.
fn ordinary() -> Node {
    let mut kazaa = Kazaa::new(ME.contact(), [place(101)], Role::Leaf, KazaaConfig::default());
    kazaa.library_mut().insert(Item::new("a song", 9)).unwrap();
    let mut node = Script::new(kazaa);
    answer_probes(&mut node, |_| Some(room()));
    node.message(SimPeer(101), KazaaMsg::Welcome { room: room(), entrusted: false, known: Vec::new() });
    node.sent();
    node
}

/// Answers the probes that were sent, and lets the node choose. Who is joined then.
fn answer_probes(node: &mut Node, answer: impl Fn(u32) -> Option<Places>) -> Vec<u32> {
    for (to, msg) in node.sent() {
        if let (KazaaMsg::Probe { nonce }, Some(room)) = (msg, answer(to.0)) {
            node.message(to, KazaaMsg::Room { nonce, room, neighbour: false });
        }
    }
    node.advance(Duration::from_secs(1));
    let joins = node.sent().into_iter().filter(|(_, msg)| matches!(msg, KazaaMsg::Join { .. }));
    joins.map(|(to, _)| to.0).collect()
}

/// An ordinary node that knows these and has none yet.
fn newcomer(knows: impl IntoIterator<Item = u32>) -> Node {
    Script::new(Kazaa::new(ME.contact(), knows.into_iter().map(place), Role::Leaf, KazaaConfig::default()))
}

fn share(node: &mut Node, from: u32, names: &[&str]) {
    let items = names.iter().map(|name| Item::new(*name, 7).into()).collect();
    node.message(SimPeer(from), KazaaMsg::Share(items));
}

fn ask(id: u64, words: &str, wanted: u16, ttl: u8) -> KazaaMsg {
    KazaaMsg::Ask { id, query: Query::text(words), wanted, ttl }
}

fn query(id: u64, origin: u32, words: &str, ttl: u8) -> KazaaMsg {
    KazaaMsg::Query { id, origin: place(origin), query: Query::text(words), ttl }
}

fn results(id: u64, via: u32, names: &[&str]) -> KazaaMsg {
    let source = |name: &&str| {
        let owner = place(1000 + via);
        Source { id: owner.id, listen: Some(owner), item: Item::new(*name, 1), word: None }
    };
    KazaaMsg::Results { id, via: place(via), hits: names.iter().map(source).collect() }
}

/// The results sent since the last look: to whom, and the names.
fn given(node: &mut Node) -> Vec<(u32, Vec<String>)> {
    let sent = node.sent().into_iter().filter_map(|(to, msg)| match msg {
        KazaaMsg::Results { hits, .. } => Some((to.0, hits.into_iter().map(|hit| hit.item.name).collect())),
        _ => None,
    });
    sent.collect()
}

fn names(of: &[&str]) -> Vec<String> {
    of.iter().map(|name| (*name).to_owned()).collect()
}

// ---- who is connected

#[test]
fn the_nearest_and_emptiest_is_chosen() {
    for (loads, nearest) in [([900, 0, 900], 102), ([0, 900, 900], 101)] {
        let mut node = newcomer(101..=103);
        let load = |peer: u32| Places { load: loads[(peer - 101) as usize], ..room() };
        let probes: Vec<_> = node.sent();
        // All as far away: who is fuller comes later, whatever chance says.
        node.advance(Duration::from_millis(40));
        for (to, msg) in probes {
            let KazaaMsg::Probe { nonce } = msg else { panic!("{msg:?}") };
            node.message(to, KazaaMsg::Room { nonce, room: load(to.0), neighbour: false });
        }
        node.advance(Duration::from_secs(1));
        let joined = node.sent().into_iter().find(|(_, msg)| matches!(msg, KazaaMsg::Join { .. }));
        assert_eq!(joined.map(|(to, _)| to.0), Some(nearest));
    }
    // Half a second more outweighs whatever it says of itself.
    let mut node = newcomer([101, 102]);
    let mut probes = node.sent();
    probes.sort_by_key(|(to, _)| *to);
    for ((to, msg), (wait, load)) in probes.into_iter().zip([(50, 1000), (450, 0)]) {
        let KazaaMsg::Probe { nonce } = msg else { panic!("{msg:?}") };
        node.advance(Duration::from_millis(wait));
        node.message(to, KazaaMsg::Room { nonce, room: Places { load, ..room() }, neighbour: false });
    }
    node.advance(Duration::from_secs(1));
    assert!(node.sent().iter().any(|(to, msg)| to.0 == 101 && matches!(msg, KazaaMsg::Join { .. })));
}

#[test]
fn who_is_full_or_silent_is_not_joined() {
    let mut node = newcomer(101..=103);
    let joined = answer_probes(&mut node, |peer| match peer {
        101 => Some(Places { ordinary: 0, ..room() }),
        102 => Some(room()),
        _ => None,
    });
    assert_eq!(joined, [102]);
}

#[test]
fn an_ordinary_node_uploads_what_it_shares_and_what_changes() {
    let mut kazaa = Kazaa::new(ME.contact(), [place(101)], Role::Leaf, KazaaConfig::default());
    for i in 0..600 {
        kazaa.library_mut().insert(Item::new(format!("song {i}"), 9)).unwrap();
    }
    let mut node = Script::new(kazaa);
    assert_eq!(answer_probes(&mut node, |_| Some(room())), [101]);
    node.message(SimPeer(101), KazaaMsg::Welcome { room: room(), entrusted: false, known: Vec::new() });
    let shared = node.sent().into_iter().filter_map(|(_, msg)| match msg {
        KazaaMsg::Share(items) => Some(items.len()),
        _ => None,
    });
    let shared: Vec<usize> = shared.collect();
    assert_eq!((shared.iter().sum::<usize>(), shared.iter().max()), (500, Some(&32)));
    node.command(SearchCommand::Unpublish("song 7".into()));
    node.command(SearchCommand::Publish(Item::new("another", 1)));
    let [(_, KazaaMsg::Unshare(gone)), (_, KazaaMsg::Share(new))] = &node.sent()[..] else { panic!() };
    assert_eq!((&gone[..], &new[0].item.name[..]), ("song 7", "another"));
}

#[test]
fn a_super_node_takes_as_many_as_it_has_room_for_and_names_others() {
    let config = KazaaConfig { leaves: 2, degree: 1, ..KazaaConfig::default() };
    let mut node = hub_of(2, 1, config);
    for (peer, as_super) in [(9, false), (109, true)] {
        node.message(SimPeer(peer), KazaaMsg::Join { as_super, listen: Some(place(peer)), digest: None });
        let sent = node.sent();
        let [(to, KazaaMsg::Refuse { known })] = &sent[..] else { panic!("{sent:?}") };
        assert_eq!(
            (to.0, known.iter().map(|known| known.contact).collect::<Vec<_>>()),
            (peer, vec![place(101)])
        );
    }
    assert_eq!((node.machine().ordinary_nodes().count(), node.machine().super_nodes().count()), (2, 1));
}

#[test]
fn who_forgets_its_neighbour_is_joined_anew() {
    let mut node = ordinary();
    node.advance(Duration::from_secs(10));
    let Some(nonce) = node.sent().into_iter().find_map(|(_, msg)| match msg {
        KazaaMsg::Probe { nonce } => Some(nonce),
        _ => None,
    }) else {
        panic!("no probe")
    };
    node.message(SimPeer(101), KazaaMsg::Room { nonce, room: room(), neighbour: false });
    assert_eq!(node.machine().parent(), None);
    node.advance(Duration::from_secs(60));
    assert!(node.sent().iter().any(|(_, msg)| matches!(msg, KazaaMsg::Probe { .. })), "it looks for one");
}

#[test]
fn refresh_lists_name_whom_their_sender_has_met_and_nobody_else() {
    let mut node = hub(0, 2);
    let listen = Some(place(103));
    node.message(SimPeer(101), KazaaMsg::Bye { known: vec![known(200)] });
    node.message(SimPeer(103), KazaaMsg::Join { as_super: true, listen, digest: None });
    let welcome = node.sent().into_iter().find_map(|(_, msg)| match msg {
        KazaaMsg::Welcome { known, .. } => Some(known),
        _ => None,
    });
    let named: BTreeSet<SimPeer> =
        welcome.unwrap().iter().map(|known| SimPeer::at(known.contact, 0)).collect();
    assert_eq!(named, BTreeSet::from([SimPeer(101), SimPeer(102)]), "not 200, who is hearsay");
}

#[test]
fn one_neighbour_is_exchanged_every_minute() {
    let config = KazaaConfig { wanted: 3, silence: Duration::from_secs(600), ..KazaaConfig::default() };
    let mut node = hub_of(0, 3, config);
    node.message(SimPeer(101), KazaaMsg::Welcome { room: room(), entrusted: false, known: vec![known(104)] });
    node.sent();
    node.advance(Duration::from_secs(50));
    assert!(!node.sent().iter().any(|(_, msg)| matches!(msg, KazaaMsg::Bye { .. })));
    node.advance(Duration::from_secs(20));
    let sent = node.sent();
    let byes = sent.iter().filter(|(_, msg)| matches!(msg, KazaaMsg::Bye { .. }));
    assert_eq!(byes.count(), 1);
    let probed = |peer| sent.iter().any(|(to, msg)| to.0 == peer && matches!(msg, KazaaMsg::Probe { .. }));
    assert!(probed(104), "another comes in its place");
}

// ---- the index

#[test]
fn the_index_knows_what_is_shared_while_its_owner_is_there() {
    let mut node = hub_of(3, 0, KazaaConfig { items_each: 2, ..KazaaConfig::default() });
    share(&mut node, 1, &["one song", "two songs", "three"]);
    share(&mut node, 2, &["another song"]);
    share(&mut node, 9, &["a stranger's song"]);
    assert_eq!([1, 2, 9].map(|peer| node.machine().indexed(&SimPeer(peer))), [2, 1, 0]);
    node.message(SimPeer(3), ask(1, "song", 9, 0));
    assert_eq!(given(&mut node), [(3, names(&["one song", "another song"]))]);
    node.message(SimPeer(1), ask(2, "song", 9, 0));
    assert_eq!(given(&mut node), [(1, names(&["another song"]))], "nobody is told of their own");
    node.message(SimPeer(2), KazaaMsg::Unshare("another song".into()));
    node.link(SimPeer(1), Link::Down(Down::Closed));
    node.message(SimPeer(3), ask(3, "song", 9, 0));
    assert_eq!(given(&mut node), [(3, vec![])]);
    assert_eq!(node.machine().index.items.len(), 0);
}

#[test]
fn who_says_nothing_any_more_is_forgotten_with_all_it_shares() {
    let mut node = hub(2, 0);
    share(&mut node, 1, &["song"]);
    share(&mut node, 2, &["song"]);
    for second in 0..50u64 {
        node.advance(Duration::from_secs(1));
        node.message(SimPeer(2), KazaaMsg::Probe { nonce: second });
    }
    assert_eq!([1, 2].map(|peer| node.machine().indexed(&SimPeer(peer))), [0, 1]);
}

#[test]
fn what_was_handed_over_is_found_when_its_owner_comes_and_only_if_it_is_the_owners() {
    let song = Item::new("song", 1);
    for (forged, entrusted) in [(false, true), (true, false)] {
        let mut node = hub(1, 1);
        let items = vec![if forged { Item::new("song of another", 1) } else { song.clone() }.into()];
        node.message(SimPeer(101), KazaaMsg::Entrust { who: place(7).id, items: items.clone() });
        node.message(SimPeer(1), KazaaMsg::Entrust { who: place(8).id, items });
        node.message(SimPeer(1), ask(1, "song", 9, 0));
        assert_eq!(given(&mut node), [(1, vec![])], "not before");
        for (peer, has) in [(7, entrusted), (8, false)] {
            let own = Some(digest(vec![song.clone().into()]));
            node.message(SimPeer(peer), KazaaMsg::Join { as_super: false, listen: None, digest: own });
            let sent = node.sent();
            let [(_, KazaaMsg::Welcome { entrusted, .. })] = &sent[..] else { panic!("{sent:?}") };
            assert_eq!((*entrusted, node.machine().indexed(&SimPeer(peer))), (has, usize::from(has)));
        }
    }
}

#[test]
fn what_nobody_comes_for_is_forgotten() {
    let mut node = hub(0, 1);
    node.message(
        SimPeer(101),
        KazaaMsg::Entrust { who: place(7).id, items: vec![Item::new("song", 1).into()] },
    );
    let own: Key = digest(vec![Item::new("song", 1).into()]);
    node.advance(Duration::from_secs(80));
    node.message(SimPeer(7), KazaaMsg::Join { as_super: false, listen: None, digest: Some(own) });
    assert_eq!(node.machine().indexed(&SimPeer(7)), 0);
}

// ---- questions

#[test]
fn a_question_is_answered_from_the_index_first_and_passed_on_if_that_is_not_enough() {
    let mut node = hub(2, 3);
    share(&mut node, 2, &["one song", "two songs: a song"]);
    node.message(SimPeer(1), ask(1, "song", 1, 1));
    let sent = node.sent();
    assert!(
        matches!(&sent[..], [(SimPeer(1), KazaaMsg::Results { hits, .. })] if hits.len() == 1),
        "{sent:?}"
    );
    node.message(SimPeer(1), ask(2, "song", 5, 1));
    let asked: Vec<u32> =
        node.sent().iter().filter(|(_, msg)| *msg == query(2, 0, "song", 0)).map(|(to, _)| to.0).collect();
    assert_eq!(asked, [101, 102, 103]);
    node.message(SimPeer(1), ask(3, "song", 5, 0));
    assert!(!node.sent().iter().any(|(_, msg)| matches!(msg, KazaaMsg::Query { .. })), "no further");
}

#[test]
fn what_neighbours_answer_goes_to_the_asker_until_it_is_enough() {
    let mut node = hub(2, 3);
    node.message(SimPeer(1), ask(1, "song", 3, 1));
    node.sent();
    node.message(SimPeer(101), results(1, 101, &["song 1", "song 2"]));
    node.message(SimPeer(9), results(1, 9, &["song 3"]));
    node.message(SimPeer(102), results(7, 102, &["song 4"]));
    node.message(SimPeer(102), results(1, 102, &["song 5", "song 6"]));
    node.message(SimPeer(103), results(1, 103, &["song 7"]));
    assert_eq!(given(&mut node), [(1, names(&["song 1", "song 2"])), (1, names(&["song 5"]))]);
    assert_eq!(node.machine().tally().dropped, 2, "a stranger's, and what nobody has asked for");
}

#[test]
fn a_question_goes_as_far_as_it_says_and_is_answered_once() {
    let mut node = hub(1, 3);
    share(&mut node, 1, &["song"]);
    node.message(SimPeer(101), query(1, 101, "song", 1));
    let sent = node.sent();
    let passed: Vec<u32> =
        sent.iter().filter(|(_, msg)| *msg == query(1, 101, "song", 0)).map(|(to, _)| to.0).collect();
    assert_eq!(passed, [102, 103]);
    assert!(matches!(&sent[0], (SimPeer(101), KazaaMsg::Results { id: 1, .. })), "straight to whoever asks");
    node.message(SimPeer(102), query(1, 101, "song", 0));
    assert_eq!((node.sent(), node.machine().tally().duplicates), (vec![], 1));
    node.message(SimPeer(102), query(1, 101, "song", 2));
    let passed = node.sent();
    assert_eq!(passed.len(), 2, "further than before, and answered no second time: {passed:?}");
    node.message(SimPeer(102), query(2, 102, "song", u8::MAX));
    assert!(node.sent().iter().any(|(_, msg)| *msg == query(2, 102, "song", 2)), "no further than anybody's");
}

#[test]
fn who_asks_through_others_is_offered_hits_and_gets_them_if_it_has_asked() {
    let mut node = hub(1, 2);
    share(&mut node, 1, &["song"]);
    node.message(SimPeer(101), query(1, 200, "song", 0));
    assert_eq!(node.sent(), [(SimPeer(200), KazaaMsg::Offer { id: 1, hits: 1 })]);
    node.message(SimPeer(201), query(1, 201, "song", 0));
    assert_eq!(node.sent(), [], "it was not offered any");
    node.message(SimPeer(200), query(1, 200, "song", 0));
    assert_eq!(given(&mut node), [(200, names(&["song"]))]);
    node.message(SimPeer(200), query(1, 200, "song", 0));
    assert_eq!(node.sent(), [], "once");

    // The other side.
    let mut node = hub(1, 2);
    node.message(SimPeer(1), ask(1, "song", 3, 2));
    node.sent();
    node.message(SimPeer(200), KazaaMsg::Offer { id: 7, hits: 3 });
    node.message(SimPeer(200), KazaaMsg::Offer { id: 1, hits: 3 });
    assert_eq!(node.sent(), [(SimPeer(200), query(1, 0, "song", 0))], "only what was asked for");
    node.message(SimPeer(200), results(1, 200, &["song"]));
    assert_eq!(given(&mut node), [(1, names(&["song"]))]);
}

#[test]
fn an_ordinary_node_answers_nobody_and_passes_nothing_on() {
    let mut node = ordinary();
    node.message(SimPeer(101), query(1, 101, "song", 3));
    node.message(SimPeer(7), query(2, 7, "song", 3));
    assert_eq!(node.sent(), []);
    node.message(SimPeer(7), ask(3, "song", 3, 3));
    assert!(matches!(node.sent()[..], [(SimPeer(7), KazaaMsg::Refuse { .. })]));
}

#[test]
fn a_flood_of_questions_leaves_ordinary_nodes_their_share() {
    let mut node = hub(1, 40);
    share(&mut node, 1, &["song"]);
    let mut answered = 0;
    for i in 0..10_000u64 {
        node.message(SimPeer(101 + (i % 40) as u32), query(i, 101 + (i % 40) as u32, "song", 0));
        answered += given(&mut node).len();
    }
    assert_eq!(answered, 400, "what all super-nodes together may ask at once");
    node.message(SimPeer(1), ask(1_000_000, "nothing", 1, 0));
    assert_eq!(given(&mut node), [(1, vec![])]);
}

#[test]
fn no_source_fills_an_answer_alone() {
    let mut node = hub(3, 1);
    let many: Vec<String> = (0..100).map(|i| format!("song {i}")).collect();
    for some in many.chunks(BATCH) {
        share(&mut node, 1, &some.iter().map(String::as_str).collect::<Vec<_>>());
    }
    share(&mut node, 2, &["another song"]);
    node.message(SimPeer(3), ask(1, "song", 200, 0));
    let all: Vec<String> = given(&mut node).into_iter().flat_map(|(_, names)| names).collect();
    assert_eq!((all.len(), all.last().map(String::as_str)), (33, Some("another song")));
}

const BATCH: usize = super::msg::BATCH;

// ---- searches of users

fn search(words: &str, hits: u32, reach: Reach) -> SearchCommand<SimPeer> {
    SearchCommand::Search(Query::text(words), Scope { hits, reach, ..Scope::default() })
}

fn asked(node: &mut Node) -> Vec<(u32, u64)> {
    let sent = node.sent().into_iter().filter_map(|(to, msg)| match msg {
        KazaaMsg::Ask { id, .. } => Some((to.0, id)),
        _ => None,
    });
    sent.collect()
}

#[test]
fn a_search_that_finds_too_little_goes_to_other_super_nodes() {
    let mut node = ordinary();
    node.message(
        SimPeer(101),
        KazaaMsg::Welcome { room: room(), entrusted: false, known: vec![known(102), known(103)] },
    );
    let op = node.command(search("tune", 3, Reach::Auto));
    let first = asked(&mut node);
    let id = first[0].1;
    assert_eq!(first, [(101, id)]);
    node.message(SimPeer(101), results(id, 101, &["tune 1", "tune 1"]));
    let mut others = Vec::new();
    for _ in 0..2 {
        node.advance(Duration::from_secs(3));
        others.extend(asked(&mut node));
    }
    others.sort_unstable();
    assert_eq!(others, [(102, id), (103, id)]);
    node.message(SimPeer(102), results(id, 102, &["tune 2"]));
    node.message(SimPeer(104), results(id, 104, &["tune 3"]));
    node.advance(Duration::from_secs(3));
    let outcomes = node.outcomes();
    let [(ended, SearchOutcome::Searched(Ok(searched)))] = &outcomes[..] else { panic!("{outcomes:?}") };
    assert_eq!((*ended, searched.end, searched.cost.peers), (op, End::Exhausted, 3));
    assert_eq!(
        (node.items().len(), searched.cost.messages),
        (2, 5),
        "each once, and from nobody who was not asked"
    );
}

#[test]
fn who_is_no_super_node_any_more_is_passed_over_at_once() {
    let mut node = ordinary();
    node.message(
        SimPeer(101),
        KazaaMsg::Welcome { room: room(), entrusted: false, known: vec![known(102), known(103)] },
    );
    node.command(search("tune", 3, Reach::Auto));
    node.advance(Duration::from_secs(3));
    let (second, _) = asked(&mut node)[1];
    node.message(SimPeer(second), KazaaMsg::Refuse { known: Vec::new() });
    assert_eq!(asked(&mut node).len(), 1);
}

#[test]
fn a_search_with_a_radius_asks_nobody_else() {
    let mut node = ordinary();
    node.message(SimPeer(101), KazaaMsg::Welcome { room: room(), entrusted: false, known: vec![known(102)] });
    node.command(search("tune", 3, Reach::Ttl(2)));
    assert_eq!(asked(&mut node).len(), 1);
    node.advance(Duration::from_secs(19));
    assert_eq!(asked(&mut node), []);
    node.advance(Duration::from_secs(1));
    let outcomes = node.outcomes();
    assert!(
        matches!(&outcomes[..], [(_, SearchOutcome::Searched(Ok(searched)))] if searched.end == End::Deadline)
    );
}

#[test]
fn what_cannot_be_searched_is_refused_with_a_reason() {
    let mut node = ordinary();
    node.command(search("song", 1, Reach::Walk { walkers: 1, check_every: 1, steps: 1 }));
    node.command(search("!", 1, Reach::Auto));
    let mut alone = Script::new(Kazaa::<SimPeer>::new(None, [], Role::Leaf, KazaaConfig::default()));
    alone.command(search("song", 1, Reach::Auto));
    let errors = node.outcomes().into_iter().chain(alone.outcomes()).map(|(_, outcome)| match outcome {
        SearchOutcome::Searched(Err(error)) => error,
        other => panic!("{other:?}"),
    });
    let wanted = [SearchError::Unsupported, SearchError::BadQuery, SearchError::NotConnected];
    assert_eq!(errors.collect::<Vec<_>>(), wanted);
}

// ---- false answers

#[test]
fn who_has_what_cannot_be_there_is_banned() {
    let mut node = hub(1, 1);
    let decoy = |node: &mut Node| loop {
        node.message(SimPeer(101), KazaaMsg::Probe { nonce: 1 });
        node.advance(Duration::from_secs(10));
        let decoy = node.sent().into_iter().find_map(|(_, msg)| match msg {
            KazaaMsg::Query { id, ttl: 0, .. } => Some(id),
            _ => None,
        });
        if let Some(id) = decoy {
            return id;
        }
    };
    let id = decoy(&mut node);
    node.message(SimPeer(101), results(id, 101, &[]));
    assert_eq!(node.machine().super_nodes().count(), 1, "nothing is an honest answer");
    let id = decoy(&mut node);
    node.message(SimPeer(101), results(id, 101, &["whatever you want"]));
    assert_eq!((node.machine().super_nodes().count(), node.machine().tally().banned), (0, 1));
    node.sent();
    node.message(SimPeer(101), KazaaMsg::Join { as_super: true, listen: Some(place(101)), digest: None });
    assert!(matches!(node.sent()[..], [(SimPeer(101), KazaaMsg::Refuse { .. })]));
}

#[test]
fn who_gives_what_does_not_match_is_banned_and_the_rest_of_it_kept() {
    let mut node = hub(1, 2);
    node.message(SimPeer(1), ask(1, "song", 9, 1));
    node.sent();
    node.message(SimPeer(101), results(1, 101, &["song", "buy this"]));
    assert_eq!(given(&mut node), [(1, names(&["song"]))]);
    assert_eq!(node.machine().super_nodes().collect::<Vec<_>>(), [SimPeer(102)]);
}

// ---- pushes

fn push(source: u32, listen: u32) -> KazaaMsg {
    KazaaMsg::Push { nonce: 5, source: place(source).id, name: "song".into(), listen: place(listen) }
}

#[test]
fn a_push_reaches_its_source_and_nobody_is_sent_to_a_third() {
    let mut node = hub(1, 0);
    share(&mut node, 1, &["song"]);
    node.message(SimPeer(7), push(1, 7));
    let dial = KazaaMsg::Dial { nonce: 5, to: place(7), name: "song".into() };
    assert_eq!(node.sent(), [(SimPeer(1), dial)]);
    for wrong in [push(1, 99), push(2, 7)] {
        node.message(SimPeer(7), wrong);
        assert_eq!(node.sent(), [(SimPeer(7), KazaaMsg::Unreached { nonce: 5 })]);
    }
}

#[test]
fn a_source_connects_when_its_super_node_says_so_and_seldom() {
    let mut node = ordinary();
    let dial = |name: &str| KazaaMsg::Dial { nonce: 5, to: place(7), name: name.into() };
    node.message(SimPeer(9), dial("a song"));
    node.message(SimPeer(101), dial("another"));
    assert_eq!(node.sent(), []);
    (0..20).for_each(|_| node.message(SimPeer(101), dial("a song")));
    assert_eq!(node.sent(), vec![(SimPeer(7), KazaaMsg::Give { nonce: 5 }); 5]);
    assert_eq!(node.events().last(), Some(&KazaaEvent::Sends { to: SimPeer(7), name: "a song".into() }));
}

#[test]
fn only_the_source_that_was_asked_is_taken_for_it() {
    let mut node = ordinary();
    let op = node.command(search("tune", 1, Reach::Auto));
    let (_, id) = asked(&mut node)[0];
    let hits = vec![Source { id: place(50).id, listen: None, item: Item::new("tune", 1), word: None }];
    node.message(SimPeer(101), KazaaMsg::Results { id, via: place(102), hits });
    let items = node.items();
    let [(_, SearchItem::Hit(hit))] = &items[..] else { panic!("{items:?} of {op:?}") };
    assert_eq!(hit.fetch, Fetch::Push);
    node.outcomes();
    let reach = node.command(SearchCommand::Reach(hit.clone()));
    let sent = node.sent();
    let [(SimPeer(102), KazaaMsg::Push { nonce, .. })] = &sent[..] else { panic!("{sent:?}") };
    node.message(SimPeer(51), KazaaMsg::Give { nonce: *nonce });
    node.message(SimPeer(50), KazaaMsg::Give { nonce: nonce.wrapping_add(1) });
    assert_eq!(node.outcomes(), []);
    node.message(SimPeer(50), KazaaMsg::Give { nonce: *nonce });
    assert_eq!(node.outcomes(), [(reach, SearchOutcome::Reached(Ok(SimPeer(50))))]);
    let forged = Hit { reference: vec![7; 9].into(), ..hit.clone() };
    let reach = node.command(SearchCommand::Reach(forged));
    assert_eq!(node.outcomes(), [(reach, SearchOutcome::Reached(Err(SearchError::BadHit)))]);
}

// ---- worlds

/// Super-nodes first, then ordinary nodes, each fifth of which accepts no connections; everybody has a song of its own,
/// and one of ten tunes whose hash is that of its number.
fn world(seed: u64, supers: u32, ordinary: u32, config: KazaaConfig) -> Sim<Kazaa<SimPeer>> {
    let network = Network { encoding: Encoding::RoundTrip, ..Network::default() };
    let mut sim = Sim::new(seed, network);
    for peer in 0..supers + ordinary {
        let role = if peer < supers { Role::Ultrapeer } else { Role::Leaf };
        sim.spawn(|birth| node(birth.peer, birth.alive.first().copied(), role, config));
    }
    sim.population(move |birth| node(birth.peer, birth.rng.choose(birth.alive).copied(), Role::Leaf, config));
    sim.run_for(Duration::from_secs(180));
    sim
}

fn node(peer: SimPeer, seed: Option<SimPeer>, role: Role, config: KazaaConfig) -> Kazaa<SimPeer> {
    let listen = peer.contact().filter(|_| role == Role::Ultrapeer || peer.0 % 5 != 4);
    let mut node = Kazaa::new(listen, seed.and_then(|seed| seed.contact()), role, config);
    node.library_mut().insert(Item::new(format!("song{}", peer.0), 1000)).unwrap();
    let tune = ContentHash::Blake3([(peer.0 % 10) as u8; 32]);
    node.library_mut().insert(Item::new(format!("tune by {}", peer.0), 1000).hash(tune)).unwrap();
    node
}

fn small() -> KazaaConfig {
    KazaaConfig { wanted: 4, degree: 8, ..KazaaConfig::default() }
}

fn find(sim: &mut Sim<Kazaa<SimPeer>>, from: u32, query: Query, hits: u32) -> Vec<Hit<SimPeer>> {
    let handle = sim.handle(SimPeer(from));
    let scope = Scope { hits, deadline: Duration::from_secs(90), ..Scope::default() };
    sim.block_on(async move { handle.search(query, scope).collect().await })
}

#[test]
fn everybody_is_found_by_word_and_all_sources_of_a_content_by_hash() {
    run_seeds(1, |seed| {
        let mut sim = world(seed, 8, 40, small());
        for from in [3, 20] {
            for what in [5, 12, 33, 47] {
                let found = find(&mut sim, from, Query::text(&format!("song{what}")), 1);
                assert_eq!(found.len(), 1, "{from} looks for {what}");
            }
        }
        // Of 48 those whose number ends in 7: but for the asker, if it is one.
        let sources = find(&mut sim, 20, Query::content(ContentHash::Blake3([7; 32])), 50);
        assert_eq!(sources.len(), 5, "7, 17, 27, 37 and 47: {sources:?}");
        sim.run_for(Duration::from_secs(300));
        let banned: u64 = sim.view().iter().map(|(_, node)| node.tally().banned).sum();
        assert_eq!(banned, 0, "nobody honest");
        sim.trace()
    });
}

#[test]
fn sources_are_reached_whether_they_accept_connections_or_not() {
    let mut sim = world(1, 4, 20, small());
    for (what, push) in [(12, false), (14, true), (1, false)] {
        let hit = find(&mut sim, 10, Query::text(&format!("song{what}")), 1).pop().unwrap();
        assert_eq!(hit.fetch == Fetch::Push, push, "{what}");
        let handle = sim.handle(SimPeer(10));
        assert_eq!(sim.block_on(async move { handle.reach(&hit).await }), Ok(SimPeer(what)));
    }
    let hit = find(&mut sim, 14, Query::text("song19"), 1).pop().unwrap();
    let handle = sim.handle(SimPeer(14));
    let reached = sim.block_on(async move { handle.reach(&hit).await });
    assert_eq!(reached, Err(SearchError::Unreachable), "two that accept none do not meet");
}

/// After every 200 steps: no index has an item of anybody who has been gone for longer than it takes to notice.
#[test]
fn under_churn_no_index_keeps_who_is_gone_and_everybody_finds_a_super_node() {
    run_seeds(1, |seed| {
        let config = small();
        let mut sim = world(seed, 8, 40, config);
        let mut gone: BTreeMap<SimPeer, Time> = BTreeMap::new();
        let most = config.silence + config.upkeep + Duration::from_secs(1);
        sim.check_world(200, move |view| {
            let owners = (0..80).map(SimPeer).filter(|peer| view.get(*peer).is_none());
            let dead: BTreeSet<SimPeer> = owners.collect();
            gone.retain(|peer, _| dead.contains(peer));
            for peer in dead {
                let since = *gone.entry(peer).or_insert(view.now);
                let known = view.iter().find(|(_, node)| node.indexed(&peer) > 0);
                if let Some((keeper, _)) = known.filter(|_| view.now.since(since) > most) {
                    return Err(format!("{keeper} has items of {peer}, gone since {since}"));
                }
            }
            Ok(())
        });
        for round in 0..6 {
            let leaver = 8 + sim.workload_rng().below(40) as u32;
            sim.crash(SimPeer(leaver));
            sim.run_for(Duration::from_secs(20));
            if round % 2 == 0 {
                sim.restart(SimPeer(leaver));
            }
        }
        // A third of the super-nodes at once.
        (0..3).for_each(|peer| sim.crash(SimPeer(peer)));
        sim.run_for(Duration::from_secs(120));
        let alive: Vec<u32> = sim.alive().iter().map(|peer| peer.0).collect();
        for peer in alive.iter().filter(|peer| **peer >= 8) {
            let parent = sim.node(SimPeer(*peer)).and_then(Kazaa::parent);
            let parent = parent.and_then(|parent| sim.node(parent));
            assert!(parent.is_some_and(|parent| parent.indexed(&SimPeer(*peer)) == 2), "{peer}");
        }
        for what in alive.iter().step_by(5) {
            let from = alive[(*what as usize + 3) % alive.len()];
            let from = if from == *what { alive[0] } else { from };
            assert_eq!(
                find(&mut sim, from, Query::text(&format!("song{what}")), 1).len(),
                1,
                "{from} for {what}"
            );
        }
        sim.trace()
    });
}

/// Two super-nodes with room for ten each, and forty eligible nodes: as many are promoted as are needed, then nobody
/// changes any more.
#[test]
fn a_crowd_promotes_its_own_and_settles() {
    let promotion = PromotionConfig {
        uptime: Duration::from_secs(60),
        smoothing: Duration::from_secs(30),
        stay: Duration::from_secs(120),
        chance: 100,
        ..PromotionConfig::default()
    };
    let mut sim = world(3, 2, 40, KazaaConfig { leaves: 10, promotion, ..small() });
    sim.run_for(Duration::from_secs(1200));
    let changes =
        |sim: &Sim<Kazaa<SimPeer>>| -> u64 { sim.view().iter().map(|(_, node)| node.tally().changes).sum() };
    let before = changes(&sim);
    sim.run_for(Duration::from_secs(1200));
    let supers = sim.view().iter().filter(|(_, node)| node.role() == Role::Ultrapeer).count();
    println!("{supers} super-nodes after {before} changes, {} later", changes(&sim) - before);
    assert!((4..=20).contains(&supers), "{supers}");
    assert!(changes(&sim) - before <= 4, "roles flap");
    let homeless =
        sim.view().iter().filter(|(_, node)| node.role() == Role::Leaf && node.parent().is_none()).count();
    assert_eq!(homeless, 0);
}

/// Two super-nodes where one is enough: one retires, and its ordinary nodes are found at the other, which need not ask
/// them again.
#[test]
fn who_retires_hands_over_its_own_with_what_they_share() {
    let promotion = PromotionConfig {
        stay: Duration::from_secs(240),
        smoothing: Duration::from_secs(30),
        chance: 200,
        ..PromotionConfig::default()
    };
    let mut sim = world(5, 2, 12, KazaaConfig { promotion, ..small() });
    let roles = |sim: &Sim<Kazaa<SimPeer>>| -> Vec<SimPeer> {
        sim.view().iter().filter(|(_, node)| node.role() == Role::Ultrapeer).map(|(peer, _)| peer).collect()
    };
    assert_eq!(roles(&sim).len(), 2);
    while roles(&sim).len() == 2 {
        assert!(sim.now().as_secs_f64() < 3600.0, "nobody retires");
        sim.run_for(Duration::from_secs(1));
    }
    sim.run_for(Duration::from_secs(3));
    let left = sim.node(roles(&sim)[0]).unwrap();
    let here = (2..14).filter(|peer| left.indexed(&SimPeer(*peer)) == 2).count();
    assert_eq!(here, 12, "three seconds later");
}

// ---- sources that sign

/// What an ordinary node 1 with keys says of its song, to a super-node; `by` signs.
fn signed_by(by: u32, name: &str, wall: Duration) -> Shared {
    let item = Item::new(name, 7);
    let word = Word::new(&simulated_keypair(SimPeer(by)), Some(&place(1)), &item, wall);
    Shared { item, word: Some(word) }
}

#[test]
fn a_super_node_takes_what_its_own_have_signed() {
    let kazaa = Kazaa::new(ME.contact(), [], Role::Ultrapeer, KazaaConfig::default());
    let mut node = Script::new(kazaa.with_key(simulated_keypair(ME)));
    let wall = Duration::ZERO;
    node.message(SimPeer(1), KazaaMsg::Join { as_super: false, listen: Some(place(1)), digest: None });
    let shared = vec![
        signed_by(1, "song", wall),
        signed_by(2, "song of another", wall),
        Shared::from(Item::new("song of nobody", 7)),
    ];
    node.message(SimPeer(1), KazaaMsg::Share(shared));
    assert_eq!((node.machine().indexed(&SimPeer(1)), node.machine().tally().disbelieved), (1, 2));
    node.sent();
    // It hands the word on, so that others can look too.
    node.message(SimPeer(9), ask(1, "song", 9, 0));
    let sent = node.sent();
    let [(_, KazaaMsg::Results { hits, .. })] = &sent[..] else { panic!("{sent:?}") };
    assert_eq!(hits[0].word, signed_by(1, "song", wall).word);
}

#[test]
fn who_hands_on_a_forged_hit_is_not_listened_to() {
    let kazaa = Kazaa::new(ME.contact(), [place(101)], Role::Leaf, KazaaConfig::default());
    let mut node = Script::new(kazaa.with_key(simulated_keypair(ME)));
    answer_probes(&mut node, |_| Some(room()));
    node.message(SimPeer(101), KazaaMsg::Welcome { room: room(), entrusted: false, known: Vec::new() });
    node.sent();
    node.command(search("song", 9, Reach::Auto));
    let (_, id) = asked(&mut node)[0];
    let wall = Duration::ZERO;
    let hit = |by, name| {
        let Shared { item, word } = signed_by(by, name, wall);
        Source { id: place(1).id, listen: Some(place(1)), item, word }
    };
    let hits = vec![hit(1, "song"), hit(2, "another song"), hit(1, "a third song")];
    node.message(SimPeer(101), KazaaMsg::Results { id, via: place(101), hits });
    let names: Vec<String> = node
        .items()
        .into_iter()
        .filter_map(|(_, item)| match item {
            SearchItem::Hit(hit) => Some(hit.item.name),
            SearchItem::End(_) => None,
        })
        .collect();
    assert_eq!(names, ["song"], "nothing behind the forged one is looked at");
    assert_eq!(node.machine().tally().banned, 1);
    assert_eq!(node.machine().parent(), None);
}
