//! Pushes.

use super::*;

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
