mod asking;
mod reaching;
mod signing;
mod worlds;

use std::collections::{BTreeMap, BTreeSet};

use futures::StreamExt;
use p2p_core::sim::{Encoding, Network, Sim, run_seeds};
use p2p_core::{Key, Script, SimPeer};

use super::msg::digest;
use super::word::Word;
use super::*;
use crate::bucket::Rate;
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
    ordinary_of(false, KazaaConfig::default())
}

fn ordinary_of(keys: bool, config: KazaaConfig) -> Node {
    let mut kazaa = Kazaa::new(ME.contact(), [place(101)], Role::Leaf, config);
    kazaa.library_mut().insert(Item::new("a song", 9)).unwrap();
    let mut node = Script::new(match keys {
        true => kazaa.with_key(simulated_keypair(ME)),
        false => kazaa,
    });
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

/// Of somebody who has come later it would never hear, if that one is next to its neighbours and has enough.
#[test]
fn who_knows_nobody_but_its_neighbours_asks_one_for_its_list_every_minute() {
    let config = KazaaConfig { wanted: 3, silence: Duration::from_secs(600), ..KazaaConfig::default() };
    let mut node = hub_of(0, 3, config);
    node.advance(Duration::from_secs(70));
    let sent = node.sent();
    assert!(!sent.iter().any(|(_, msg)| matches!(msg, KazaaMsg::Bye { .. })), "nobody to exchange one for");
    let joins = sent.into_iter().filter(|(_, msg)| matches!(msg, KazaaMsg::Join { as_super: true, .. }));
    let asked: Vec<SimPeer> = joins.map(|(to, _)| to).collect();
    assert!(matches!(asked[..], [SimPeer(101..=103)]), "{asked:?}");
    node.message(asked[0], KazaaMsg::Welcome { room: room(), entrusted: false, known: vec![known(104)] });
    assert!(node.machine().known().any(|contact| contact == place(104)));
    assert_eq!(node.machine().super_nodes().count(), 3);

    // The other side.
    let mut node = hub_of(0, 3, config);
    node.events();
    node.message(SimPeer(101), KazaaMsg::Join { as_super: true, listen: Some(place(101)), digest: None });
    let sent = node.sent();
    let [(SimPeer(101), KazaaMsg::Welcome { known, .. })] = &sent[..] else { panic!("{sent:?}") };
    let mut named: Vec<Contact> = known.iter().map(|known| known.contact).collect();
    named.sort_by_key(|contact| contact.id);
    assert_eq!(named, [place(102), place(103)]);
    assert!(node.events().is_empty(), "it is a neighbour, as before");
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
