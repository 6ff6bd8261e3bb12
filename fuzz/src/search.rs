//! What the nodes of the overlays say to each other that search, in messages and in foreign bytes, and about files.

use p2p_core::foreign::{Codec, TcpPeer};
use p2p_core::{Contact, PeerId, Wire};
use p2p_overlay::{
    ContentHash, Descriptor, FreenetMsg, Gnutella06Codec, Gnutella06Msg, GnutellaCodec, GnutellaMsg,
    HttpCodec, KazaaMsg, KazaaWord, MAX_PART, NapsterCodec, NapsterFilesCodec, NapsterMsg, Payload, Presence,
    SharingMsg, ShelfMsg, SkypeMsg, TableReader, Transfer, Wanted,
};
use serde::{Deserialize, Serialize};

use crate::decoded;
use crate::machines::{Ultrapeer, kazaa_hears, skype_hears};

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

/// The same of version 0.6; the query tables among it are read, and an ultrapeer is told all of it.
pub fn gnutella06(bytes: &[u8]) {
    decoded::<Gnutella06Msg>(bytes);
    let Some((first, rest)) = bytes.split_first() else { return };
    let addr = std::net::SocketAddr::from(([192, 0, 2, 1], 6346));
    let peer = match first & 1 {
        1 => TcpPeer::Dialled { addr, number: 0 },
        _ => TcpPeer::Accepted { addr, number: 0 },
    };
    let (mut codec, mut ultrapeer) = (Gnutella06Codec::new(peer), Ultrapeer::new());
    let mut input = bytes::BytesMut::from(rest);
    let mut reader = TableReader::default();
    while let Ok(Some(message)) = codec.decode(&mut input, &mut bytes::BytesMut::new()) {
        if let Gnutella06Msg::Descriptor(descriptor) = &message {
            let mut output = bytes::BytesMut::new();
            descriptor.encode(&mut output);
            assert_eq!(Descriptor::decode(&mut output).as_ref(), Ok(&Some(descriptor.clone())));
            if let Payload::Route(update) = &descriptor.payload {
                let _: Result<bool, _> = reader.apply(update);
            }
        }
        codec.encode(message.clone(), &mut bytes::BytesMut::new());
        ultrapeer.hears(peer, message);
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

/// What another type has within, by itself.
#[derive(Serialize, Deserialize)]
struct Only<T>(T);

impl<T: Serialize + for<'a> Deserialize<'a>> Wire for Only<T> {}

/// `Wire` of what the nodes of KaZaA say to each other, files among it, and of a source's word; one of them is told it.
pub fn kazaa(bytes: &[u8]) {
    decoded::<SharingMsg<KazaaMsg>>(bytes);
    decoded::<Only<KazaaWord>>(bytes);
    decoded::<KazaaMsg>(bytes);
    if let Ok(msg) = KazaaMsg::from_bytes(bytes) {
        kazaa_hears(msg);
    }
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

/// `Wire` of what Skype's nodes and login server say to each other, and of files, when they have come to each other; what
/// is signed may be checked, and a node is told it.
pub fn skype(bytes: &[u8]) {
    decoded::<SharingMsg<ShelfMsg>>(bytes);
    decoded::<Presence>(bytes);
    decoded::<SkypeMsg>(bytes);
    let Ok(msg) = SkypeMsg::from_bytes(bytes) else { return };
    let (server, wall) = (PeerId::from_bytes([1; 32]), std::time::Duration::from_secs(1000));
    match &msg {
        SkypeMsg::Certified(certificate) => _ = certificate.is_genuine(&server, wall),
        SkypeMsg::Register(presence) => _ = presence.is_genuine(&server, wall, wall),
        _ => {}
    }
    skype_hears(msg);
}

/// A content hash's text form.
pub fn urn(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(hash) = text.parse::<ContentHash>() {
        assert!(hash.to_string().eq_ignore_ascii_case(text));
    }
}
