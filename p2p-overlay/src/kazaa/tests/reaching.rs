//! Pushes.

use super::*;

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
