//! Pings and pongs, and who is no neighbour any more.

use super::*;

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

/// Were it always the same few, nobody would hear of the others, who have room.
#[test]
fn all_who_are_known_are_named_in_turn() {
    let mut node = node(3);
    for (neighbour, id) in [(2, 5), (3, 6)] {
        say(&mut node, 1, id, 4, 0, ping());
        for host in 0..10 {
            say(&mut node, neighbour, id, 4, 1, pong(at(u32::from(id) * 100 + host)));
        }
    }
    said(&mut node);
    let mut named = BTreeSet::new();
    for id in 10..30 {
        say(&mut node, 1, id, 4, 0, ping());
        let others = said(&mut node).into_iter().filter(|(_, sent)| sent.hops > 0);
        let others = others.filter_map(|(_, sent)| match sent.payload {
            Payload::Pong(pong) => Some(pong.contact),
            _ => None,
        });
        let others: Vec<Contact> = others.collect();
        assert_eq!(others.len(), 10);
        named.extend(others.iter().map(|contact| contact.id));
    }
    assert_eq!(named.len(), 20);
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
