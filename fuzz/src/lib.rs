//! What the fuzz targets do, one function each: given any bytes it must return, in bounded memory.
//!
//! Kept apart from the targets so that the stable toolchain can run it over the corpora (`tests/corpora.rs`).
#![forbid(unsafe_code)]

mod files;
mod ledger;
mod node;
mod spki;
mod utp;

use std::collections::BTreeMap;

// `Keypair` for the file that `spki` takes in, which looks for it here.
use p2p_core::foreign::{Codec, PacketCodec, TcpPeer};
use p2p_core::{Contact, Key, Keypair, PeerId, Wire};
use p2p_dht::archive::Version;
use p2p_dht::bencode::{self, Kind, Value};
use p2p_dht::cfs::Directory;
use p2p_dht::mainline::{KrpcMsg, Secret};
use p2p_dht::past::PastMsg;
use p2p_dht::{DhtMsg, Record};
use p2p_ledger::LedgerMsg;
use p2p_overlay::{
    CanMsg, CanMulticastMsg, ChordMsg, ContentHash, FreenetMsg, Gnutella06Codec, Gnutella06Msg,
    GnutellaCodec, GnutellaMsg, HttpCodec, HyParViewMsg, KademliaMsg, KazaaMsg, MAX_PART, NapsterCodec,
    NapsterFilesCodec, NapsterMsg, ObjectMsg, PastryMsg, Payload, PlumtreeMsg, Presence, RealityMsg,
    RoutedMsg, ScribeMsg, SeekerMsg, SharingMsg, SkypeMsg, SwimMsg, TableReader, TapestryMsg, Transfer,
    Wanted,
};
use p2p_swarm::torrent::http::HttpCodec as TrackerCodec;
use p2p_swarm::torrent::tracker::{AnnounceReply, UdpCodec};
use p2p_swarm::torrent::{Encryption, Info, LsdCodec, Magnet, Metainfo, Mse, PeerCodec, PeerMsg, Url};
use p2p_swarm::{GROUP, Manifest, SwarmMsg, Ticket, group_count, verify};
use serde::{Deserialize, Serialize};

pub use files::{host_cache, key_file};
pub use ledger::{bitcoin, block, filter, inclusion, ledger, name_move, notice, transaction};
pub use node::streams;
pub use spki::spki;
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

/// `Wire` of what the nodes of Chord say to each other.
pub fn routed(bytes: &[u8]) {
    decoded::<RoutedMsg<Contact, ChordMsg<Contact>>>(bytes);
}

/// `Wire` of what the nodes of Kademlia say to each other.
pub fn kademlia(bytes: &[u8]) {
    decoded::<RoutedMsg<Contact, KademliaMsg<Contact>>>(bytes);
}

/// `Wire` of what the nodes of Pastry say to each other.
pub fn pastry(bytes: &[u8]) {
    decoded::<RoutedMsg<Contact, PastryMsg<Contact>>>(bytes);
}

/// `Wire` of what the nodes of Tapestry say to each other.
pub fn tapestry(bytes: &[u8]) {
    decoded::<RoutedMsg<Contact, TapestryMsg<Contact>>>(bytes);
}

/// `Wire` of what they say of objects.
pub fn objects(bytes: &[u8]) {
    decoded::<ObjectMsg<Contact>>(bytes);
}

/// `Wire` of what the nodes of CAN say to each other, in one reality or in several.
pub fn can(bytes: &[u8]) {
    decoded::<RoutedMsg<Contact, CanMsg<Contact>>>(bytes);
    decoded::<RoutedMsg<Contact, RealityMsg<Contact>>>(bytes);
}

/// `Wire` of what they say when messages flood a CAN.
pub fn can_multicast(bytes: &[u8]) {
    decoded::<CanMulticastMsg<Contact>>(bytes);
}

/// `Wire` of what the nodes of Scribe say to each other.
pub fn scribe(bytes: &[u8]) {
    decoded::<ScribeMsg<Contact, RoutedMsg<Contact, ChordMsg<Contact>>>>(bytes);
}

/// `Wire` of what nodes that flood and walk say to each other.
pub fn seeker(bytes: &[u8]) {
    decoded::<SeekerMsg<Contact, u32>>(bytes);
}

/// Gnutella's bytes on a connection that was made, or accepted, by the first bit; and what it is over QUIC. What is
/// decoded is encoded to what decodes to the same.
pub fn gnutella(bytes: &[u8]) {
    decoded::<GnutellaMsg>(bytes);
    let Some((first, rest)) = bytes.split_first() else { return };
    let addr = std::net::SocketAddr::from(([192, 0, 2, 1], 6346));
    let name = |dialled: bool| match dialled {
        true => TcpPeer::Dialled { addr, number: 0 },
        false => TcpPeer::Accepted { addr, number: 0 },
    };
    let dialled = first & 1 == 1;
    let (mut codec, mut other) = (GnutellaCodec::new(name(dialled)), GnutellaCodec::new(name(!dialled)));
    let mut again = GnutellaCodec::new(name(dialled));
    let mut input = bytes::BytesMut::from(rest);
    while let Ok(Some(message)) = codec.decode(&mut input, &mut bytes::BytesMut::new()) {
        let mut output = bytes::BytesMut::new();
        other.encode(message.clone(), &mut output);
        assert_eq!(again.decode(&mut output, &mut bytes::BytesMut::new()), Ok(Some(message)));
    }
}

/// The same of version 0.6; and the query tables among it are read.
pub fn gnutella06(bytes: &[u8]) {
    decoded::<Gnutella06Msg>(bytes);
    let Some((first, rest)) = bytes.split_first() else { return };
    let addr = std::net::SocketAddr::from(([192, 0, 2, 1], 6346));
    let mut codec = Gnutella06Codec::new(match first & 1 {
        1 => TcpPeer::Dialled { addr, number: 0 },
        _ => TcpPeer::Accepted { addr, number: 0 },
    });
    let mut input = bytes::BytesMut::from(rest);
    let mut reader = TableReader::default();
    while let Ok(Some(message)) = codec.decode(&mut input, &mut bytes::BytesMut::new()) {
        if let Gnutella06Msg::Descriptor(descriptor) = &message {
            let mut output = bytes::BytesMut::new();
            descriptor.encode(&mut output);
            assert_eq!(p2p_overlay::Descriptor::decode(&mut output).as_ref(), Ok(&Some(descriptor.clone())));
            if let Payload::Route(update) = &descriptor.payload {
                let _: Result<bool, _> = reader.apply(update);
            }
        }
        codec.encode(message, &mut bytes::BytesMut::new());
    }
}

/// A `.torrent` file, and an `info` dictionary by itself.
pub fn metainfo(bytes: &[u8]) {
    if let Ok(metainfo) = Metainfo::parse(bytes) {
        assert_eq!(Metainfo::parse(&metainfo.encode()), Ok(metainfo));
    }
    if let Ok(info) = Info::parse(bytes.to_vec().into()) {
        assert!(
            info.size() > 0 && info.files().iter().all(|file| !file.path.split('/').any(|part| part == ".."))
        );
    }
}

/// A magnet link.
pub fn magnet(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(magnet) = text.parse::<Magnet>() {
        assert_eq!(magnet.to_string().parse(), Ok(magnet));
    }
}

/// Everything a peer says over TCP, and in the simulator. What is understood is sent on and understood again.
pub fn peer_wire(bytes: &[u8]) {
    decoded::<PeerMsg>(bytes);
    let (mut from, mut to) = (PeerCodec::default(), PeerCodec::default());
    let (mut input, mut nothing) = (bytes::BytesMut::from(bytes), bytes::BytesMut::new());
    while let Ok(Some(message)) = from.decode(&mut input, &mut nothing) {
        let mut again = bytes::BytesMut::new();
        to.encode(message, &mut again);
    }
}

/// An extension message, after a handshake that has agreed on them.
pub fn extension(bytes: &[u8]) {
    let mut input = bytes::BytesMut::from(&b"\x13BitTorrent protocol"[..]);
    input.extend_from_slice(&[0; 48]);
    input.extend_from_slice(&(bytes.len() as u32 + 1).to_be_bytes());
    input.extend_from_slice(&[20]);
    input.extend_from_slice(bytes);
    let mut codec = PeerCodec::default();
    while let Ok(Some(message)) = codec.decode(&mut input, &mut bytes::BytesMut::new()) {
        codec.encode(message, &mut bytes::BytesMut::new());
    }
}

/// An encrypted handshake: bytes alone, at either end; or two ends that mean well, in whose way the bytes are.
pub fn mse(bytes: &[u8]) {
    let Some((first, rest)) = bytes.split_first() else { return };
    let addr = std::net::SocketAddr::from(([192, 0, 2, 1], 6881));
    let mse = Mse::new(Encryption::Preferred, &Secret::new([1; 32]));
    let mut here = mse.codec(TcpPeer::Dialled { addr, number: 0 });
    let mut there = mse.codec(TcpPeer::Accepted { addr, number: 0 });
    let (mut to_there, mut to_here) = (bytes::BytesMut::new(), bytes::BytesMut::new());
    here.encode(PeerMsg::Encrypt([0; 20]), &mut to_there);
    if first & 1 == 1 {
        let codec = if first & 2 == 2 { &mut here } else { &mut there };
        let mut input = bytes::BytesMut::from(rest);
        while let Ok(Some(_)) = codec.decode(&mut input, &mut to_here) {}
        return;
    }
    let mut bends = rest.iter();
    for _ in 0..8 {
        let bend = |wire: &mut bytes::BytesMut, bends: &mut std::slice::Iter<'_, u8>| {
            wire.iter_mut().for_each(|byte| *byte ^= bends.next().copied().unwrap_or_default());
        };
        bend(&mut to_there, &mut bends);
        if there.decode(&mut to_there, &mut to_here).is_err() {
            return;
        }
        bend(&mut to_here, &mut bends);
        if here.decode(&mut to_here, &mut to_there).is_err() {
            return;
        }
    }
}

/// What a tracker says over HTTP, what it is asked, and where it is.
pub fn tracker_http(bytes: &[u8]) {
    if let Ok(reply) = AnnounceReply::parse(bytes) {
        for compact in [false, true] {
            let again = AnnounceReply::parse(&reply.encode(compact)).expect("what was written is an answer");
            assert_eq!((again.peers.len(), again.interval), (reply.peers.len(), reply.interval));
        }
    }
    for mut codec in [TrackerCodec::client(), TrackerCodec::server()] {
        let mut input = bytes::BytesMut::from(bytes);
        while let Ok(Some(msg)) = codec.decode(&mut input, &mut bytes::BytesMut::new()) {
            TrackerCodec::client().encode(msg, &mut bytes::BytesMut::new());
        }
    }
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Ok(url) = text.parse::<Url>()
    {
        assert_eq!(url.to_string().parse(), Ok(url));
    }
}

/// What a tracker says over UDP, by IPv4 and IPv6, and what it is asked.
pub fn tracker_udp(bytes: &[u8]) {
    for from in ["192.0.2.1:1", "[2001:db8::1]:1"] {
        let from = from.parse().expect("it is an address");
        for (mut codec, mut other) in
            [(UdpCodec::client(), UdpCodec::server()), (UdpCodec::server(), UdpCodec::client())]
        {
            if let Ok(msg) = codec.decode(from, bytes) {
                let mut packet = Vec::new();
                other.encode(from, msg.clone(), &mut packet);
                assert_eq!(codec.decode(from, &packet), Ok(msg));
            }
        }
    }
}

/// What is said in the local network.
pub fn lsd(bytes: &[u8]) {
    let from = std::net::SocketAddr::from(([192, 0, 2, 1], 6771));
    if let Ok(msg) = LsdCodec.decode(from, bytes) {
        let mut packet = Vec::new();
        LsdCodec.encode(from, msg.clone(), &mut packet);
        let again = LsdCodec.decode(from, &packet).expect("what was written is understood");
        assert_eq!((again.port, again.swarms), (msg.port, msg.swarms));
    }
}

/// Napster's bytes at a server, at a client that another has dialled, or over QUIC.
pub fn napster(bytes: &[u8]) {
    decoded::<NapsterMsg>(bytes);
    let Some((first, rest)) = bytes.split_first() else { return };
    let peer = TcpPeer::Accepted { addr: std::net::SocketAddr::from(([192, 0, 2, 1], 6699)), number: 0 };
    let mut codec = if first & 1 == 1 { NapsterCodec::client(peer) } else { NapsterCodec::server(peer) };
    let mut input = bytes::BytesMut::from(rest);
    while let Ok(Some(message)) = codec.decode(&mut input, &mut bytes::BytesMut::new()) {
        codec.encode(message, &mut bytes::BytesMut::new());
    }
}

fn asks(start: u64) -> Transfer {
    let wanted = Wanted { hash: None, index: 1, name: "a song.mp3".into(), size: 6 };
    Transfer::Get { id: 1, wanted, start, end: 6 }
}

/// Decodes all it can; parts are as long as they say, and no longer than one may be.
fn transfers<M>(codec: &mut impl Codec<Msg = SharingMsg<M>>, bytes: &[u8]) {
    let mut input = bytes::BytesMut::from(bytes);
    while let Ok(Some(message)) = codec.decode(&mut input, &mut bytes::BytesMut::new()) {
        if let SharingMsg::Transfer(Transfer::Part { at, end, size, data, .. }) = &message {
            assert!(
                !data.is_empty() && data.len() <= MAX_PART && at + data.len() as u64 <= *end && end <= size
            );
        }
        codec.encode(message, &mut bytes::BytesMut::new());
    }
}

/// Files over Gnutella's connections: as one who is asked, or who has asked, by the first bit; and what it is over
/// QUIC.
pub fn http(bytes: &[u8]) {
    decoded::<SharingMsg<GnutellaMsg>>(bytes);
    let Some((first, rest)) = bytes.split_first() else { return };
    let addr = std::net::SocketAddr::from(([192, 0, 2, 1], 6346));
    let peer = match first & 1 {
        1 => TcpPeer::Dialled { addr, number: 0 },
        _ => TcpPeer::Accepted { addr, number: 0 },
    };
    let mut codec = HttpCodec::new(peer, GnutellaCodec::new(peer));
    if first & 1 == 1 {
        codec.encode(SharingMsg::Transfer(asks(0)), &mut bytes::BytesMut::new());
    }
    transfers(&mut codec, rest);
}

/// Files between Napster's clients: as one who is dialled, who has asked, or who pushes.
pub fn napster_files(bytes: &[u8]) {
    let Some((first, rest)) = bytes.split_first() else { return };
    let addr = std::net::SocketAddr::from(([192, 0, 2, 1], 6699));
    let peer = match first % 3 {
        0 => TcpPeer::Accepted { addr, number: 0 },
        _ => TcpPeer::Dialled { addr, number: 0 },
    };
    let mut codec = NapsterFilesCodec::new(peer, "bob");
    let said = match first % 3 {
        1 => Some(SharingMsg::Transfer(asks(2))),
        2 => Some(SharingMsg::Search(NapsterMsg::Send { nick: "ada".into(), name: "x".into(), size: 6 })),
        _ => None,
    };
    if let Some(said) = said {
        codec.encode(said, &mut bytes::BytesMut::new());
    }
    transfers(&mut codec, rest);
}

/// `Wire` of what the nodes of KaZaA say to each other.
pub fn kazaa(bytes: &[u8]) {
    decoded::<KazaaMsg>(bytes);
}

/// `Wire` of what the nodes of Freenet say to each other; and the data in it may be checked.
pub fn freenet(bytes: &[u8]) {
    decoded::<FreenetMsg<Contact>>(bytes);
    if let Ok(FreenetMsg::<Contact>::Data { block, .. }) = FreenetMsg::from_bytes(bytes) {
        let key = block.key();
        let keyword = !matches!(block, p2p_overlay::FreenetBlock::Content(_));
        assert!(keyword || block.data().len() > p2p_overlay::MAX_BLOCK || block.belongs(&key));
    }
}

/// `Wire` of what Skype's nodes and login server say to each other; and a presence in it may be checked.
pub fn skype(bytes: &[u8]) {
    decoded::<SkypeMsg>(bytes);
    decoded::<Presence>(bytes);
    if let Ok(SkypeMsg::Register(presence)) = SkypeMsg::from_bytes(bytes) {
        let (server, wall) = (PeerId::from_bytes([1; 32]), std::time::Duration::from_secs(1000));
        let _: bool = presence.is_genuine(&server, wall, wall);
    }
}

/// A content hash's text form.
pub fn urn(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(hash) = text.parse::<ContentHash>() {
        assert!(hash.to_string().eq_ignore_ascii_case(text));
    }
}

/// `Wire` of what the nodes of Plumtree over HyParView say to each other.
pub fn gossip(bytes: &[u8]) {
    decoded::<PlumtreeMsg<Contact, HyParViewMsg<Contact>>>(bytes);
}

/// `Wire` of what the members of a SWIM group say to each other.
pub fn swim(bytes: &[u8]) {
    decoded::<SwimMsg<Contact>>(bytes);
}

/// `Wire` of what the nodes of a ledger say to each other.
pub fn ledger_msg(bytes: &[u8]) {
    decoded::<LedgerMsg<HyParViewMsg<Contact>>>(bytes);
}

/// `Wire` of what the nodes of a hash table say to each other; and what is a record may be checked.
pub fn dht(bytes: &[u8]) {
    decoded::<DhtMsg<Contact, RoutedMsg<Contact, ChordMsg<Contact>>>>(bytes);
    if let Ok(DhtMsg::<Contact, ()>::Store { record, .. }) = DhtMsg::from_bytes(bytes) {
        let _: (Result<(), _>, _, _) = (Record::check(&record), record.slot(), record.version());
    }
}

/// A directory of CFS: what is accepted is written to the same directory.
pub fn cfs(bytes: &[u8]) {
    if let Ok(directory) = Directory::decode(bytes) {
        let again = directory.encode().expect("it is no longer than it was");
        assert_eq!(Directory::decode(&again).expect("what was encoded is a directory"), directory);
    }
}

/// `Wire` of what the nodes of PAST say to each other.
pub fn past(bytes: &[u8]) {
    decoded::<PastMsg<Contact, RoutedMsg<Contact, PastryMsg<Contact>>>>(bytes);
    if let Ok(PastMsg::<Contact, ()>::Store { certificate, content, .. }) = PastMsg::from_bytes(bytes) {
        let _ = (certificate.is_genuine(&content), certificate.file());
    }
}

/// A head of an archive.
pub fn archive(bytes: &[u8]) {
    decoded::<Version>(bytes);
    if let Ok(version) = Version::from_bytes(bytes) {
        let _ = (version.check().is_ok(), version.name());
    }
}

/// Bencode: what is accepted is written to the same bytes, and every value in it stands where it says.
pub fn bencode(bytes: &[u8]) {
    fn written(value: Value<'_>, l: &mut bencode::ListWriter<'_>) {
        match value.kind() {
            Kind::Int => l.int(value.as_int().expect("it is one")),
            Kind::Bytes => l.bytes(value.as_bytes().expect("it is one")),
            Kind::List => l.list(|l| value.items().for_each(|item| written(item, l))),
            Kind::Dict => l.dict(|d| value.entries().for_each(|(key, value)| d.value(key, value))),
        }
    }
    if let Ok(value) = Value::decode_prefix(bytes) {
        assert!(bytes.starts_with(value.raw()));
        let again = bencode::list(|l| written(value, l));
        assert_eq!(&again[1..again.len() - 1], value.raw());
    }
    if let Ok(value) = Value::decode_unsorted(bytes) {
        assert_eq!(value.raw(), bytes);
        let inside: usize = value.items().map(|item| item.raw().len()).sum();
        assert!(inside <= bytes.len());
    }
}

/// KRPC: what is read is written and read alike.
pub fn krpc(bytes: &[u8]) {
    if let Ok(msg) = KrpcMsg::decode(bytes) {
        let again = msg.to_bytes();
        let second = KrpcMsg::decode(&again).expect("what was written is a message");
        assert_eq!(second.to_bytes(), again);
    }
}

/// `Wire` of what the peers of a swarm say to each other.
pub fn swarm(bytes: &[u8]) {
    decoded::<SwarmMsg>(bytes);
}

/// The list of a folder's files: what is accepted leads nowhere out of the folder.
pub fn manifest(bytes: &[u8]) {
    let Ok(manifest) = Manifest::decode(bytes) else { return };
    assert_eq!(manifest.encode(), bytes, "one folder has one list");
    for entry in manifest.entries() {
        let inside = std::path::Path::new(&entry.name).components();
        assert!(
            inside.into_iter().all(|part| matches!(part, std::path::Component::Normal(_))),
            "{:?}",
            entry.name
        );
    }
}

/// A ticket's text form.
pub fn ticket(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match text.parse::<Ticket>() {
        Ok(ticket) => {
            let again: Ticket = ticket.to_string().parse().expect("what was printed is a ticket");
            assert_eq!(again.to_string(), ticket.to_string());
        }
        Err(error) => assert!(error.to_string().len() < 2000, "an error quotes no more than a line"),
    }
}

/// A proof that bytes belong to a blob: the root, the size and the groups are what a peer says, the rest is cut into
/// hashes and data.
pub fn proof(bytes: &[u8]) {
    let Some((header, rest)) = bytes.split_first_chunk::<52>() else { return };
    let (root, numbers) = header.split_at(32);
    let number =
        |at: usize| numbers[at..at + 8].iter().fold(0u64, |number, byte| number << 8 | u64::from(*byte));
    let (size, from) = (number(0), number(8));
    let groups = from..from.saturating_add(u64::from(numbers[16] % 4));
    let (hashes, data) = rest.split_at(rest.len().min(usize::from(numbers[17]) * 32));
    let hashes: Vec<[u8; 32]> = hashes.chunks_exact(32).filter_map(|hash| hash.try_into().ok()).collect();
    let root = Key::new(root.try_into().expect("32 bytes"));
    if verify(&root, size, groups.clone(), data, &hashes).is_ok() {
        assert!(
            groups.end <= group_count(size)
                && data.len() as u64 <= (groups.end - groups.start) * GROUP as u64
        );
    }
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
