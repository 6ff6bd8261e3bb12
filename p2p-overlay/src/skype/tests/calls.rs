//! Rings that come through super-nodes.

use super::*;

const CLIENT: u32 = 1;

fn presence(peer: u32, server: u32) -> Presence {
    let certificate = Certificate::new(&key(server), name(peer), key(peer).id(), 1000);
    let contact = SimPeer(peer).contact().unwrap();
    let whereabouts =
        Whereabouts { contact, open: true, through: Vec::new(), online: true, profile: String::new() };
    Presence::new(&key(peer), certificate, whereabouts, 1, 20)
}

fn ring(caller: Presence, by: u32, to: u32, call: u64) -> Ring {
    Ring::new(&key(by), call, caller, key(to).id(), Duration::ZERO, CallOffer::Reverse)
}

/// A super-node whose client is peer 1.
fn hub() -> Script<Node> {
    let mut hub = Script::new(node(SimPeer(9), [], Role::Ultrapeer, true));
    let contact = SimPeer(CLIENT).contact().unwrap();
    hub.message(SimPeer(CLIENT), SkypeMsg::Attach { contact, super_node: false });
    hub.message(SimPeer(CLIENT), SkypeMsg::Register(Box::new(presence(CLIENT, 0))));
    hub.sent();
    hub
}

/// How many of these rings come to the client, if whoever calls has them forwarded.
fn passed(hub: &mut Script<Node>, rings: impl IntoIterator<Item = Ring>) -> usize {
    for ring in rings {
        let caller = SimPeer::at(ring.caller().whereabouts().contact, 0);
        hub.message(caller, SkypeMsg::Forward { to: name(CLIENT), ring: Box::new(ring) });
    }
    let sent = hub.sent();
    sent.iter().filter(|(to, msg)| to.0 == CLIENT && matches!(msg, SkypeMsg::Ring(_))).count()
}

#[test]
fn a_super_node_passes_on_what_is_true_and_for_its_client() {
    let mut hub = hub();
    assert_eq!(passed(&mut hub, [ring(presence(2, 0), 2, CLIENT, 5)]), 1);
    assert_eq!(passed(&mut hub, [ring(presence(2, 0), 2, 3, 6)]), 0, "for another");
    assert_eq!(passed(&mut hub, [ring(presence(2, 0), 4, CLIENT, 7)]), 0, "another has signed it");
    assert_eq!(passed(&mut hub, [ring(presence(4, 5), 4, CLIENT, 8)]), 0, "nobody has certified the name");
    let again = Box::new(ring(presence(2, 0), 2, CLIENT, 9));
    hub.message(SimPeer(100), SkypeMsg::Forward { to: name(CLIENT), ring: again });
    assert!(hub.sent().is_empty(), "whoever has heard it cannot send it on");
}

#[test]
fn rings_leave_a_client_room_to_hear_more() {
    let mut hub = hub();
    let rings = |count: u64| (0..count).map(|call| ring(presence(2, 0), 2, CLIENT, call));
    assert_eq!(passed(&mut hub, rings(60)), 20, "as many at once");
    hub.advance(SECOND);
    assert_eq!(passed(&mut hub, rings(60)), 2);
}
