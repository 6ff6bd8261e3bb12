//! What peers are told of pieces that are here.

use super::*;
use crate::bits::Bits;
use crate::torrent::job::{Output, Tag, TorrentDone};
use p2p_core::Limits;
use p2p_core::foreign::Codec;
use p2p_dht::bencode::{self, Value};

/// A link whose files turn out to be there, of so many pieces: what a peer is told that has sent its metadata.
fn told(pieces: usize) -> Vec<PeerMsg> {
    let info = bencode::dict(|d| {
        d.int("length", pieces as i64 * 16384);
        d.bytes("name", "t");
        d.int("piece length", 16384);
        d.bytes("pieces", vec![7; 20 * pieces]);
    });
    let torrent = bencode::dict(|d| d.value("info", Value::decode(&info).unwrap()));
    let metainfo = Metainfo::parse(&torrent).unwrap();
    let mut script = Script::new(Session::<SimPeer>::new(SessionConfig::default(), None));
    script.command(SessionCommand::Add(Add::new(Source::Magnet(Magnet::from(&metainfo)), "")));
    let swarm = metainfo.info().hashes().swarms().next().unwrap();
    let features = Features { extended: true, ..Features::default() };
    script.message(A, PeerMsg::Handshake(Handshake { swarm, peer: PeerName([1; 20]), features }));
    let total = info.len() as u32;
    let (metadata, metadata_size) = (Some(true), Some(total));
    let extended = ExtendedHandshake { metadata, metadata_size, ..ExtendedHandshake::default() };
    script.message(A, PeerMsg::Extended(extended));
    for (piece, data) in (0..).zip(info.chunks(16384)) {
        let data = data.to_vec().into();
        script.message(A, PeerMsg::Metadata(MetadataMsg::Data { piece, total, data }));
    }
    let [(id, job)] = script.jobs().try_into().unwrap_or_else(|jobs| panic!("{jobs:?}"));
    script.sent();
    let (have, check) = (Bits::full(pieces as u64), Bits::new(pieces as u64));
    let result = Ok(Output::Opened { have, check, strange: Vec::new() });
    script.done(id, TorrentDone { torrent: job.torrent, tag: Tag::Open, result });
    script.sent().into_iter().filter(|(to, _)| *to == A).map(|(_, msg)| msg).collect()
}

#[test]
fn pieces_are_told_one_by_one_as_long_as_that_fits_what_may_wait_for_a_peer() {
    let length = |said: &[PeerMsg]| {
        let (mut codec, mut bytes) = (crate::torrent::PeerCodec::default(), bytes::BytesMut::new());
        said.iter().for_each(|msg| _ = codec.encode(msg.clone(), &mut bytes));
        bytes.len()
    };
    let few = told(1000);
    assert_eq!(few, (0..1000).map(PeerMsg::Have).collect::<Vec<_>>());
    let many = told(500_000);
    assert!(length(&many) < Limits::default().queue_bytes_per_peer);
    assert_eq!(many, [PeerMsg::Goodbye]);
}
