//! Pushes.

use super::*;

fn wish(name: &str, to: u32) -> Wish {
    Wish { nonce: 5, name: name.into(), to: place(to), word: None }
}

fn push(source: u32, to: u32) -> KazaaMsg {
    KazaaMsg::Push { source: place(source).id, wish: wish("song", to) }
}

#[test]
fn a_push_reaches_its_source_and_nobody_is_sent_to_a_third() {
    let mut node = hub(1, 0);
    share(&mut node, 1, &["song"]);
    node.message(SimPeer(7), push(1, 7));
    assert_eq!(node.sent(), [(SimPeer(1), KazaaMsg::Dial(wish("song", 7)))]);
    for wrong in [push(1, 99), push(2, 7)] {
        node.message(SimPeer(7), wrong);
        assert_eq!(node.sent(), [(SimPeer(7), KazaaMsg::Unreached { nonce: 5 })]);
    }
}

#[test]
fn a_source_connects_when_its_super_node_says_so_and_seldom() {
    let mut node = ordinary();
    node.message(SimPeer(9), KazaaMsg::Dial(wish("a song", 7)));
    node.message(SimPeer(101), KazaaMsg::Dial(wish("another", 7)));
    assert_eq!(node.sent(), []);
    (0..20).for_each(|i| node.message(SimPeer(101), KazaaMsg::Dial(wish("a song", 7 + i))));
    let given: Vec<_> = node.sent();
    assert_eq!(given, (7..12).map(|to| (SimPeer(to), KazaaMsg::Give { nonce: 5 })).collect::<Vec<_>>());
    assert_eq!(node.events().last(), Some(&KazaaEvent::Sends { to: SimPeer(11), name: "a song".into() }));
}

/// A super-node has an ordinary node connect to a host where nobody has asked for that, ten times a second for half a
/// minute: how often it does. `named` is said to be there; the super-node signs itself.
fn dials_to_a_victim(keys: bool, named: u32, push_each: Rate) -> usize {
    let mut node = ordinary_of(keys, KazaaConfig { push_each, ..KazaaConfig::default() });
    let (hostile, source) = (simulated_keypair(SimPeer(101)), simulated_keypair(ME).id());
    let to = Contact::new(place(named).id, place(7).addr);
    for nonce in 0..300 {
        let unsigned = Wish { nonce, to, ..wish("a song", 7) };
        let word = Word::wishing(&hostile, &source, &unsigned, Duration::from_millis(100 * nonce));
        node.message(SimPeer(101), KazaaMsg::Dial(Wish { word: Some(word), ..unsigned }));
        node.advance(Duration::from_millis(100));
    }
    node.sent().iter().filter(|(to, _)| *to == SimPeer(7)).count()
}

#[test]
fn a_super_node_that_lies_turns_its_own_on_a_victim_seldom() {
    let (each, open) = (KazaaConfig::default().push_each, KazaaConfig::default().push);
    let forged = dials_to_a_victim(true, 7, each);
    let [signed, unsigned] =
        [(true, 101), (false, 7)].map(|(keys, named)| dials_to_a_victim(keys, named, each));
    let open = dials_to_a_victim(false, 7, open);
    println!(
        "dials of one node to a victim in half a minute: {forged} in its name, {signed} in another's, {unsigned} without \
         keys, {open} without a limit of each host"
    );
    assert_eq!(forged, 0);
    assert!(signed <= 3 + 3 && unsigned <= 3 + 3 && open >= 30, "{signed}, {unsigned}, {open}");
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
    let [(SimPeer(102), KazaaMsg::Push { wish: Wish { nonce, .. }, .. })] = &sent[..] else {
        panic!("{sent:?}")
    };
    node.message(SimPeer(51), KazaaMsg::Give { nonce: *nonce });
    node.message(SimPeer(50), KazaaMsg::Give { nonce: nonce.wrapping_add(1) });
    assert_eq!(node.outcomes(), []);
    node.message(SimPeer(50), KazaaMsg::Give { nonce: *nonce });
    assert_eq!(node.outcomes(), [(reach, SearchOutcome::Reached(Ok(SimPeer(50))))]);
    let forged = Hit { reference: vec![7; 9].into(), ..hit.clone() };
    let reach = node.command(SearchCommand::Reach(forged));
    assert_eq!(node.outcomes(), [(reach, SearchOutcome::Reached(Err(SearchError::BadHit)))]);
}
