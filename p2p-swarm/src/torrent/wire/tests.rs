//! What is sent is what arrives, however it is cut; what is no message is named, and takes no room.

use super::*;
use proptest::prelude::*;
use std::net::SocketAddr;

fn handshake() -> PeerMsg {
    let features = Features { extended: true, fast: true, ..Features::default() };
    PeerMsg::Handshake(Handshake { swarm: [1; 20], peer: PeerName([2; 20]), features })
}

fn everything() -> PeerMsg {
    PeerMsg::Extended(ExtendedHandshake {
        metadata: Some(true),
        pex: Some(true),
        ..ExtendedHandshake::default()
    })
}

/// Two ends, each of which knows the other's numbers.
fn pair() -> (PeerCodec, PeerCodec) {
    let (mut a, mut b) = (PeerCodec::default(), PeerCodec::default());
    for msg in [handshake(), everything()] {
        assert_eq!(carry(&mut a, &mut b, msg.clone(), usize::MAX), Ok(vec![msg.clone()]));
        assert_eq!(carry(&mut b, &mut a, msg.clone(), usize::MAX), Ok(vec![msg]));
    }
    (a, b)
}

/// Sends a message in parts of so many bytes.
fn carry(
    from: &mut PeerCodec,
    to: &mut PeerCodec,
    msg: PeerMsg,
    cut: usize,
) -> Result<Vec<PeerMsg>, Malformed> {
    let (mut bytes, mut input, mut output) = (BytesMut::new(), BytesMut::new(), BytesMut::new());
    from.encode(msg, &mut bytes);
    let mut came = Vec::new();
    for part in bytes.chunks(cut.clamp(1, 1 << 20)) {
        input.extend_from_slice(part);
        while let Some(msg) = to.decode(&mut input, &mut output)? {
            came.push(msg);
        }
    }
    assert!(input.is_empty() && output.is_empty());
    Ok(came)
}

fn block() -> impl Strategy<Value = Block> {
    any::<[u32; 3]>().prop_map(|[piece, begin, length]| Block { piece, begin, length })
}

fn range() -> impl Strategy<Value = HashRange> {
    (any::<[u8; 32]>(), any::<[u32; 4]>()).prop_map(|(root, [base, index, length, proof])| HashRange {
        root,
        base,
        index,
        length,
        proof,
    })
}

fn bytes(most: usize) -> impl Strategy<Value = Bytes> {
    prop::collection::vec(any::<u8>(), 0..most).prop_map(Bytes::from)
}

fn address() -> impl Strategy<Value = SocketAddr> {
    prop_oneof![
        any::<([u8; 4], u16)>().prop_map(SocketAddr::from),
        any::<([u8; 16], u16)>().prop_map(SocketAddr::from),
    ]
}

/// In the order in which they stand in a message: version 4 first.
fn addresses() -> impl Strategy<Value = Vec<SocketAddr>> {
    prop::collection::vec(address(), 0..20).prop_map(|mut all| {
        all.sort_by_key(SocketAddr::is_ipv6);
        all
    })
}

/// Any message.
pub(in crate::torrent) fn message() -> BoxedStrategy<PeerMsg> {
    let extended =
        (any::<[Option<bool>; 2]>(), any::<Option<u32>>(), 1u16.., any::<Option<u32>>(), ".{0,10}");
    let plain = prop_oneof![
        Just(PeerMsg::KeepAlive),
        Just(PeerMsg::Choke),
        Just(PeerMsg::Unchoke),
        Just(PeerMsg::Interested),
        Just(PeerMsg::NotInterested),
        Just(PeerMsg::HaveAll),
        Just(PeerMsg::HaveNone),
        any::<u32>().prop_map(PeerMsg::Have),
        any::<u32>().prop_map(PeerMsg::Suggest),
        any::<u32>().prop_map(PeerMsg::AllowedFast),
        any::<u16>().prop_map(PeerMsg::Port),
    ];
    let blocks = prop_oneof![
        bytes(300).prop_map(PeerMsg::Bitfield),
        block().prop_map(PeerMsg::Request),
        (any::<[u32; 2]>(), bytes(300)).prop_map(|([piece, begin], data)| PeerMsg::Piece {
            piece,
            begin,
            data
        }),
        block().prop_map(PeerMsg::Cancel),
        block().prop_map(PeerMsg::Reject),
        range().prop_map(PeerMsg::HashRequest),
        (range(), prop::collection::vec(any::<[u8; 32]>(), 0..20)).prop_map(|(r, h)| PeerMsg::Hashes(r, h)),
        range().prop_map(PeerMsg::HashReject),
    ];
    let more = prop_oneof![
        extended.prop_map(|([metadata, pex], metadata_size, port, request_queue, client)| {
            PeerMsg::Extended(ExtendedHandshake {
                // Neither is switched off, since what follows is to arrive.
                metadata: metadata.map(|_| true),
                pex: pex.map(|_| true),
                metadata_size,
                port: Some(port),
                request_queue,
                client: Some(client),
                upload_only: (port % 3 > 0).then_some(port % 2 == 0),
                encrypts: port % 3 == 0,
            })
        }),
        any::<u32>().prop_map(|piece| PeerMsg::Metadata(MetadataMsg::Request(piece))),
        any::<u32>().prop_map(|piece| PeerMsg::Metadata(MetadataMsg::Reject(piece))),
        (any::<[u32; 2]>(), bytes(300))
            .prop_map(|([piece, total], data)| PeerMsg::Metadata(MetadataMsg::Data { piece, total, data })),
        (addresses(), addresses(), any::<[bool; 2]>()).prop_map(|(added, dropped, [seed, reachable])| {
            let added = added
                .into_iter()
                .map(|addr| PexPeer { addr, seed, reachable, encrypts: seed != reachable, utp: seed })
                .collect();
            PeerMsg::Pex(PexMsg { added, dropped })
        }),
    ];
    prop_oneof![plain, blocks, more].boxed()
}

proptest! {
    #[test]
    fn what_is_sent_arrives_however_it_is_cut(msgs in prop::collection::vec(message(), 1..8), cut in 1usize..100) {
        let (mut a, mut b) = pair();
        for msg in msgs {
            prop_assert_eq!(carry(&mut a, &mut b, msg.clone(), cut), Ok(vec![msg.clone()]));
            prop_assert_eq!(PeerMsg::from_bytes(&msg.to_bytes()), Ok(msg), "and in the simulator");
        }
    }

    #[test]
    fn any_bytes_are_messages_or_named(bytes in prop::collection::vec(any::<u8>(), 0..400), kind in 0u8..30) {
        let (_, mut codec) = pair();
        let (mut input, mut output) = (BytesMut::new(), BytesMut::new());
        input.put_u32(1 + bytes.len() as u32);
        input.put_u8(kind);
        input.put_slice(&bytes);
        while let Ok(Some(_)) = codec.decode(&mut input, &mut output) {}
        let mut input = BytesMut::from(&bytes[..]);
        while let Ok(Some(_)) = codec.decode(&mut input, &mut output) {}
    }
}

fn decode(codec: &mut PeerCodec, bytes: &[u8]) -> Result<Option<PeerMsg>, Malformed> {
    codec.decode(&mut BytesMut::from(bytes), &mut BytesMut::new())
}

#[test]
fn a_stranger_is_known_by_its_first_byte() {
    assert!(decode(&mut PeerCodec::default(), b"G").is_err());
    assert!(decode(&mut PeerCodec::default(), b"\x13BitTorrent protocox").is_err());
    assert_eq!(decode(&mut PeerCodec::default(), b"\x13BitTorrent protocol"), Ok(None));
}

#[test]
fn what_is_unknown_is_passed_over() {
    let (_, mut codec) = pair();
    let unknown = b"\0\0\0\x03\x63ab\0\0\0\x05\x14\x63d1:\0\0\0\x01\x01";
    assert_eq!(decode(&mut codec, unknown), Ok(Some(PeerMsg::Unchoke)));
}

#[test]
fn what_is_too_long_is_refused_before_it_has_come() {
    let (_, mut codec) = pair();
    assert!(decode(&mut codec, b"\xff\xff\xff\xff").is_err());
    assert!(decode(&mut codec, &(MAX_MESSAGE as u32 + 1).to_be_bytes()).is_err());
    let mut long = BytesMut::new();
    codec.encode(PeerMsg::Piece { piece: 0, begin: 0, data: vec![0; BLOCK as usize + 1].into() }, &mut long);
    assert!(decode(&mut codec, &long).is_err(), "a block is never longer than was asked for");
}

#[test]
fn who_has_not_asked_for_extension_messages_gets_none() {
    let mut codec = PeerCodec::default();
    let mut bytes = BytesMut::new();
    codec.encode(PeerMsg::Metadata(MetadataMsg::Request(0)), &mut bytes);
    assert!(bytes.is_empty());
    // Number 0 switches one off that was on.
    let (mut a, mut b) = pair();
    let off = ExtendedHandshake { metadata: Some(false), ..ExtendedHandshake::default() };
    carry(&mut a, &mut b, PeerMsg::Extended(off), 9).unwrap();
    b.encode(PeerMsg::Metadata(MetadataMsg::Request(0)), &mut bytes);
    assert!(bytes.is_empty());
    b.encode(PeerMsg::Pex(PexMsg::default()), &mut bytes);
    assert!(!bytes.is_empty(), "the other is as it was");
}

#[test]
fn the_bytes_are_those_of_the_specifications() {
    let mut codec = PeerCodec { greeted: true, ..PeerCodec::default() };
    // BEP 9 and 10: this peer numbers ut_metadata 3.
    let hello = b"\x14\0d1:md11:ut_metadatai3ee13:metadata_sizei31235ee";
    let came = decode(&mut codec, &[&(hello.len() as u32).to_be_bytes(), &hello[..]].concat()).unwrap();
    let Some(PeerMsg::Extended(extended)) = came else { panic!("{came:?}") };
    assert_eq!((extended.metadata, extended.metadata_size), (Some(true), Some(31235)));
    let mut bytes = BytesMut::new();
    codec.encode(PeerMsg::Metadata(MetadataMsg::Request(0)), &mut bytes);
    assert_eq!(
        &bytes[4..],
        b"\x14\x03d8:msg_typei0e5:piecei0ee",
        "BEP 9's example, under the receiver's number"
    );
    // BEP 11: one that has everything and speaks uTP.
    let pex = b"d5:added6:\xc0\0\x02\x01\x1a\xe17:added.f1:\x06e";
    let came = decode(&mut codec, &[&[0, 0, 0, 2 + pex.len() as u8, 20, 1], &pex[..]].concat()).unwrap();
    let Some(PeerMsg::Pex(msg)) = came else { panic!("{came:?}") };
    assert_eq!((msg.added[0].seed, msg.added[0].utp, msg.added[0].encrypts), (true, true, false));
    assert_eq!(msg.encode(), pex);
    let features = Features { extended: true, dht: true, fast: true, v2: true };
    assert_eq!(features.bits(), [0, 0, 0, 0, 0, 0x10, 0, 0x15]);
}
