//! Relays and their tickets.

use super::*;

/// A super-node, and a ticket of its for the users of peers 1 and 2.
fn relay() -> (Script<Node>, Ticket) {
    let mut relay = Script::new(node(SimPeer(9), [], Role::Ultrapeer, true));
    relay.message(SimPeer(1), SkypeMsg::Lease { call: 5, ends: [key(1).id(), key(2).id()] });
    let sent = relay.sent();
    let Some((SimPeer(1), SkypeMsg::Leased { call: 5, ticket: Some(ticket) })) = sent.last() else {
        panic!("{sent:?}")
    };
    let ticket = ticket.clone();
    (relay, ticket)
}

fn join(relay: &mut Script<Node>, peer: u32, by: u32, ticket: &Ticket) -> Vec<SimPeer> {
    relay.message(SimPeer(peer), SkypeMsg::Join(Box::new(RelayJoin::new(&key(by), ticket.clone()))));
    let joined = relay.sent().into_iter().filter(|(_, msg)| matches!(msg, SkypeMsg::Joined { .. }));
    joined.map(|(to, _)| to).collect()
}

/// How many of the frames from a peer are passed on to another.
fn frames(relay: &mut Script<Node>, from: u32, to: u32, ticket: u64, count: usize, len: usize) -> usize {
    for _ in 0..count {
        relay.message(SimPeer(from), SkypeMsg::Frame { ticket, bytes: vec![0; len].into() });
    }
    let sent = relay.sent();
    sent.iter().filter(|(peer, msg)| peer.0 == to && matches!(msg, SkypeMsg::Frame { .. })).count()
}

#[test]
fn without_a_ticket_nothing_is_relayed() {
    let (mut relay, ticket) = relay();
    assert_eq!(frames(&mut relay, 1, 2, ticket.id(), 1, 100), 0, "nobody has come");
    assert_eq!(join(&mut relay, 3, 3, &ticket), [], "it is not hers");
    assert_eq!(join(&mut relay, 1, 1, &ticket), []);
    assert_eq!(frames(&mut relay, 1, 2, ticket.id(), 1, 100), 0, "the other is not there");
    assert_eq!(join(&mut relay, 2, 2, &ticket), [SimPeer(1), SimPeer(2)]);
    assert_eq!(frames(&mut relay, 1, 2, ticket.id(), 1, 100), 1);
    assert_eq!(frames(&mut relay, 2, 1, ticket.id(), 1, 100), 1);
    assert_eq!(frames(&mut relay, 3, 2, ticket.id(), 1, 100), 0, "a third");
    assert_eq!(frames(&mut relay, 1, 2, ticket.id() ^ 1, 1, 100), 0, "another number");
    let own = Ticket::new(&key(3), 77, ticket.ends(), u32::MAX, u64::MAX, u64::MAX);
    assert_eq!(join(&mut relay, 1, 1, &own), [], "not of this relay's making");
    relay.message(SimPeer(2), SkypeMsg::Part { ticket: ticket.id() });
    assert_eq!(frames(&mut relay, 1, 2, ticket.id(), 1, 100), 0, "it is over");
    assert_eq!(join(&mut relay, 1, 1, &ticket), []);
    assert_eq!(join(&mut relay, 2, 2, &ticket), [], "and the ticket is spent");
}

#[test]
fn a_relay_keeps_to_its_ticket() {
    let (mut relay, ticket) = relay();
    join(&mut relay, 1, 1, &ticket);
    join(&mut relay, 2, 2, &ticket);
    let SkypeConfig { relay_rate, relay_total, relay_time, .. } = config();
    // Two seconds' worth at once, then what the rate says; the other end has as much.
    let at_once = 2 * relay_rate as usize / 1000;
    assert_eq!(frames(&mut relay, 1, 2, ticket.id(), 200, 1000), at_once);
    assert_eq!(frames(&mut relay, 2, 1, ticket.id(), 200, 1000), at_once);
    relay.advance(SECOND);
    assert_eq!(frames(&mut relay, 1, 2, ticket.id(), 200, 1000), relay_rate as usize / 1000);
    assert_eq!(frames(&mut relay, 1, 2, ticket.id(), 1, MAX_FRAME + 1), 0);
    assert_eq!(ticket.total(), relay_total);
    relay.advance(relay_time);
    assert_eq!(frames(&mut relay, 1, 2, ticket.id(), 1, 1000), 0, "its time is over");
    assert_eq!(join(&mut relay, 1, 1, &ticket), [], "for good");
    let short = Ticket::new(&key(9), 78, ticket.ends(), 1_000_000, 2500, 10_000);
    join(&mut relay, 1, 1, &short);
    join(&mut relay, 2, 2, &short);
    assert_eq!(
        frames(&mut relay, 1, 2, 78, 1, 1000) + frames(&mut relay, 2, 1, 78, 5, 1000),
        2,
        "both together"
    );
}
