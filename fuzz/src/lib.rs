//! What the fuzz targets do, one function each: given any bytes it must return, in bounded memory.
//!
//! Kept apart from the targets so that the stable toolchain can run it over the corpora (`tests/corpora.rs`).
#![forbid(unsafe_code)]

mod files;
mod ledger;
mod machines;
mod node;
mod overlay;
mod search;
mod spki;
mod storage;
mod swarm;
mod torrent;
mod utp;

use std::collections::BTreeMap;

// `Keypair` for the file that `spki` takes in, which looks for it here.
use p2p_core::{Contact, Key, Keypair, PeerId, Wire};
use serde::{Deserialize, Serialize};

pub use files::{host_cache, key_file, names, notes};
pub use ledger::{bitcoin, block, filter, inclusion, ledger, ledger_msg, name_move, notice, transaction};
pub use node::streams;
pub use overlay::{
    can, can_multicast, gossip, kademlia, objects, pastry, routed, scribe, seeker, swim, tapestry,
};
pub use search::{freenet, gnutella, gnutella06, http, kazaa, napster, napster_files, skype, urn};
pub use spki::spki;
pub use storage::{archive, bencode, cfs, dht, krpc, past};
pub use swarm::{manifest, proof, swarm, ticket};
pub use torrent::{extension, lsd, magnet, metainfo, mse, peer_wire, tracker_http, tracker_udp};
pub use utp::utp;

/// A target and its name.
pub type Target = (&'static str, fn(&[u8]));

/// Every target, by the name of its corpus.
pub const TARGETS: &[Target] = &[
    ("wire", wire),
    ("routed", routed),
    ("kademlia", kademlia),
    ("pastry", pastry),
    ("tapestry", tapestry),
    ("objects", objects),
    ("can", can),
    ("can_multicast", can_multicast),
    ("scribe", scribe),
    ("seeker", seeker),
    ("gnutella", gnutella),
    ("gnutella06", gnutella06),
    ("napster", napster),
    ("http", http),
    ("napster_files", napster_files),
    ("kazaa", kazaa),
    ("freenet", freenet),
    ("skype", skype),
    ("urn", urn),
    ("gossip", gossip),
    ("swim", swim),
    ("dht", dht),
    ("ledger_msg", ledger_msg),
    ("cfs", cfs),
    ("past", past),
    ("archive", archive),
    ("bencode", bencode),
    ("krpc", krpc),
    ("bitcoin", bitcoin),
    ("swarm", swarm),
    ("manifest", manifest),
    ("metainfo", metainfo),
    ("magnet", magnet),
    ("peer_wire", peer_wire),
    ("extension", extension),
    ("mse", mse),
    ("tracker_http", tracker_http),
    ("tracker_udp", tracker_udp),
    ("utp", utp),
    ("lsd", lsd),
    ("ticket", ticket),
    ("proof", proof),
    ("contact", contact),
    ("peer_id", peer_id),
    ("spki", spki),
    ("host_cache", host_cache),
    ("key_file", key_file),
    ("names", names),
    ("notes", notes),
    ("streams", streams),
    ("transaction", transaction),
    ("block", block),
    ("filter", filter),
    ("notice", notice),
    ("name_move", name_move),
    ("inclusion", inclusion),
    ("ledger", ledger),
];

/// A message of every shape that serde knows.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Sample {
    Unit,
    Text(String),
    Character(char, Option<Box<Sample>>),
    Keys(Vec<Key>),
    Nested { map: BTreeMap<u32, Option<bytes::Bytes>>, signed: (i8, i64, i128), float: f32 },
    Peers([Option<Contact>; 2]),
}

impl Wire for Sample {}

/// Decodes a message; what it gives is encoded to the same message.
fn decoded<M: Wire>(bytes: &[u8]) {
    if let Ok(message) = M::from_bytes(bytes) {
        let again = message.to_bytes();
        assert_eq!(again.len(), message.wire_len());
        assert!(again.len() <= bytes.len(), "an encoding is never longer than what it came from");
        let second = M::from_bytes(&again).expect("what was encoded is a message");
        assert_eq!(second.to_bytes(), again);
    }
}

/// `Wire` of a type with every shape.
pub fn wire(bytes: &[u8]) {
    decoded::<Sample>(bytes);
}

/// A contact's text form.
pub fn contact(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match text.parse::<Contact>() {
        Ok(contact) => {
            let again: Contact = contact.to_string().parse().expect("what was printed is a contact");
            assert_eq!((again.id, again.addr.to_string()), (contact.id, contact.addr.to_string()));
        }
        Err(error) => assert!(error.to_string().len() < 2000, "an error quotes no more than a line"),
    }
}

/// A peer id's text form.
pub fn peer_id(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match text.parse::<PeerId>() {
        Ok(id) => assert_eq!(id.to_string(), text.to_ascii_lowercase()),
        Err(error) => assert!(error.to_string().len() < 2000, "an error quotes no more than a line"),
    }
}
