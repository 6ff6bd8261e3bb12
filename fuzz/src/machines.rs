//! Nodes that somebody tells something: some of what is said only the machines look into. What a pong says of room and a
//! goodbye of others, whether a hit is its source's word, and whether a ring, a presence or a ticket is who it says it is.

use std::time::Duration;

use p2p_core::foreign::TcpPeer;
use p2p_core::{Contact, Keypair, Script};
use p2p_overlay::{
    CallOffer, Certificate, Descriptor, Gnutella06, Gnutella06Config, Gnutella06Msg, Guid, Kazaa,
    KazaaConfig, KazaaMsg, Payload, Places, Query, Role, Scope, SearchCommand, Skype, SkypeConfig, SkypeMsg,
    SkypeUser, of_address,
};

/// Who has this number, whose node is at an address of its own.
pub(crate) fn keypair(number: u8) -> Keypair {
    Keypair::from_seed(&[number; 32])
}

fn contact(number: u8) -> Contact {
    Contact::new(keypair(number).id(), ([192, 0, 2, number], 6346).into())
}

/// An ultrapeer of Gnutella 0.6.
pub(crate) struct Ultrapeer {
    node: Script<Gnutella06<TcpPeer>>,
    /// The latest ping that it has sent.
    ping: Guid,
}

impl Ultrapeer {
    pub(crate) fn new() -> Ultrapeer {
        let config = Gnutella06Config { table_bits: 12, ..Gnutella06Config::default() };
        let listen = of_address(([192, 0, 2, 9], 6346).into());
        let machine = Gnutella06::new(Some(listen), [], Role::Ultrapeer, config);
        Ultrapeer { node: Script::new(machine), ping: Guid([0; 16]) }
    }

    /// A pong answers what it has asked: nobody could guess the number.
    pub(crate) fn hears(&mut self, from: TcpPeer, mut msg: Gnutella06Msg) {
        if let Gnutella06Msg::Descriptor(Descriptor { id, payload: Payload::Pong(_), .. }) = &mut msg {
            *id = self.ping;
        }
        self.node.message(from, msg);
        for (_, said) in self.node.sent() {
            if let Gnutella06Msg::Descriptor(Descriptor { id, payload: Payload::Ping { .. }, .. }) = said {
                self.ping = id;
            }
        }
    }
}

/// A node of KaZaA is told something by its super-node. Results are of what it has asked for: what is called as the first
/// of them.
pub(crate) fn kazaa_hears(mut msg: KazaaMsg) {
    let (me, hub) = (contact(1), contact(2));
    let machine = Kazaa::new(Some(me), [hub], Role::Leaf, KazaaConfig::default()).with_key(keypair(1));
    let mut node: Script<Kazaa<Contact>> = Script::new(machine);
    let room = Places { load: 0, ordinary: 9, supers: 9 };
    for (to, said) in node.sent() {
        if let KazaaMsg::Probe { nonce } = said {
            node.message(to, KazaaMsg::Room { nonce, room, neighbour: false });
        }
    }
    node.advance(Duration::from_secs(1));
    node.message(hub, KazaaMsg::Welcome { room, entrusted: false, known: Vec::new() });
    assert_eq!(node.machine().parent(), Some(hub), "it has a super-node");
    if let KazaaMsg::Results { id, hits, .. } = &mut msg {
        let words = hits.first().map_or("", |hit| hit.item.name.as_str());
        node.command(SearchCommand::Search(Query::text(words), Scope::default()));
        for (_, said) in node.sent() {
            if let KazaaMsg::Ask { id: asked, .. } = said {
                *id = asked;
            }
        }
    }
    let tally = node.machine().tally();
    let count = if let KazaaMsg::Results { hits, .. } = &msg { hits.len() } else { 0 };
    node.message(hub, msg);
    let handed = node.items().len();
    let disbelieved = node.machine().tally().disbelieved - tally.disbelieved;
    assert!(handed as u64 + disbelieved <= count as u64, "what is handed on has come, and was believed");
}

/// A super-node of Skype's design, whose user is logged in, or the login server, is told something by whoever would say
/// it: another super-node, or the caller.
pub(crate) fn skype_hears(msg: SkypeMsg) {
    let (server, me, other) = (keypair(0), contact(1), contact(2));
    let (login, name) = (contact(0), "ada".to_owned());
    let certificate = Certificate::new(&server, &*name, me.id, 1 << 20);
    let (keypair, profile) = (keypair(1), String::new());
    let user = SkypeUser { keypair, name, profile, server: server.id(), login, contact: me, open: true };
    let machine = match msg {
        SkypeMsg::Login(_) => Skype::login_server(server, [], SkypeConfig::default()),
        _ => Skype::node(user, [], Role::Ultrapeer, SkypeConfig::default()),
    };
    let mut node: Script<Skype<Contact>> = Script::new(machine);
    node.message(login, SkypeMsg::Certified(certificate));
    node.message(other, SkypeMsg::Attach { contact: other, super_node: true });
    let from = match &msg {
        SkypeMsg::Ring(ring) if *ring.offer() == CallOffer::Direct => ring.caller().whereabouts().contact,
        SkypeMsg::Certified(_) => login,
        _ => other,
    };
    node.message(from, msg);
}
