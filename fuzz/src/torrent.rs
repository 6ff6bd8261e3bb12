//! BitTorrent: what is shared, what peers say, and what trackers do.

use p2p_core::foreign::{Codec, PacketCodec, TcpPeer};
use p2p_dht::mainline::Secret;
use p2p_swarm::torrent::http::HttpCodec;
use p2p_swarm::torrent::tracker::{AnnounceReply, UdpCodec};
use p2p_swarm::torrent::{
    Encryption, ExtendedHandshake, Features, Handshake, Info, LsdCodec, Magnet, Metainfo, Mse, PeerCodec,
    PeerMsg, PeerName, Url,
};

use crate::decoded;

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

/// A codec of a connection whose other end has said that it wants to hear everything.
fn speaker() -> PeerCodec {
    let (mut speaker, mut other, mut said) =
        (PeerCodec::default(), PeerCodec::default(), bytes::BytesMut::new());
    let features = Features { extended: true, ..Features::default() };
    let hello = Handshake { swarm: [0; 20], peer: PeerName([0; 20]), features };
    let wants = ExtendedHandshake { metadata: Some(true), pex: Some(true), ..ExtendedHandshake::default() };
    for msg in [PeerMsg::Handshake(hello), PeerMsg::Extended(wants)] {
        other.encode(msg, &mut said);
    }
    while let Ok(Some(_)) = speaker.decode(&mut said, &mut bytes::BytesMut::new()) {}
    speaker
}

/// What is understood of a connection's bytes is sent on, and understood as the same.
fn sent_on(bytes: &[u8]) {
    let (mut from, mut to, mut listener) = (PeerCodec::default(), speaker(), PeerCodec::default());
    let (mut input, mut nothing) = (bytes::BytesMut::from(bytes), bytes::BytesMut::new());
    while let Ok(Some(message)) = from.decode(&mut input, &mut nothing) {
        let mut again = bytes::BytesMut::new();
        to.encode(message.clone(), &mut again);
        assert_eq!(listener.decode(&mut again, &mut nothing), Ok(Some(message)));
        assert!(again.is_empty());
    }
}

/// Everything a peer says over TCP, and in the simulator. What is understood is sent on and understood again.
pub fn peer_wire(bytes: &[u8]) {
    decoded::<PeerMsg>(bytes);
    sent_on(bytes);
}

/// An extension message, after a handshake that has agreed on them.
pub fn extension(bytes: &[u8]) {
    let mut input = bytes::BytesMut::from(&b"\x13BitTorrent protocol"[..]);
    input.extend_from_slice(&[0; 48]);
    input.extend_from_slice(&(bytes.len() as u32 + 1).to_be_bytes());
    input.extend_from_slice(&[20]);
    input.extend_from_slice(bytes);
    sent_on(&input);
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
    for mut codec in [HttpCodec::client(), HttpCodec::server()] {
        let mut input = bytes::BytesMut::from(bytes);
        while let Ok(Some(msg)) = codec.decode(&mut input, &mut bytes::BytesMut::new()) {
            HttpCodec::client().encode(msg, &mut bytes::BytesMut::new());
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
