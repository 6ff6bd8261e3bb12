//! One session by hand: what strangers say does no harm, and who lies is named.

use super::*;
use crate::storage::MemoryFiles;
use crate::torrent::wire::{Block, Features, Handshake, HashRange, MetadataMsg, any_message};
use crate::torrent::worker::MemoryTorrents;
use crate::torrent::{CreateOptions, Format, Metainfo};
use p2p_core::{Script, SimPeer, Worker};
use proptest::prelude::*;

const PIECES: u32 = 12;

struct Alone {
    script: Script<Session<SimPeer>>,
    worker: MemoryTorrents,
    metainfo: Metainfo,
}

impl Alone {
    /// A session with one torrent, of which the first `have` pieces are there.
    fn new(format: Format, have: u32, link: bool) -> Alone {
        let mut files = MemoryFiles::default();
        let content: Vec<u8> = (0..PIECES * 16384).map(|at| (at / 5) as u8).collect();
        files.put("t", content.clone());
        let options = CreateOptions { format, piece_length: Some(16384), ..CreateOptions::default() };
        let metainfo = Metainfo::create(&mut files, "t".as_ref(), &options).unwrap();
        files.put("t", content[..(have * 16384) as usize].to_vec());
        let config = SessionConfig { requests_per_peer: 4, ..SessionConfig::default() };
        let mut alone = Alone {
            script: Script::new(Session::new(config, Some(1))),
            worker: MemoryTorrents::new(files),
            metainfo,
        };
        let torrent = match link {
            true => Source::Magnet(Magnet::from(&alone.metainfo)),
            false => Source::Metainfo(alone.metainfo.clone()),
        };
        alone.script.command(SessionCommand::Add(Add { torrent, folder: "".into(), peers: Vec::new() }));
        alone.work();
        alone
    }

    /// The worker does what there is to do.
    fn work(&mut self) {
        loop {
            let (ids, jobs): (Vec<_>, Vec<_>) = self.script.jobs().into_iter().unzip();
            if ids.is_empty() {
                return;
            }
            for (id, done) in ids.into_iter().zip(self.worker.run(jobs)) {
                self.script.done(id, done);
            }
        }
    }

    fn greet(&mut self, peer: SimPeer) {
        let swarm = self.metainfo.info().hashes().swarms().next().unwrap();
        let features = Features { extended: true, fast: true, ..Features::default() };
        let hello = Handshake { swarm, peer: PeerName([peer.0 as u8; 20]), features };
        self.script.message(peer, PeerMsg::Handshake(hello));
    }

    fn say(&mut self, peer: SimPeer, msg: PeerMsg) -> Vec<PeerMsg> {
        self.script.message(peer, msg);
        self.work();
        self.script.sent().into_iter().filter(|(to, _)| *to == peer).map(|(_, msg)| msg).collect()
    }
}

/// A message whose numbers mean something now and then.
fn tame(msg: PeerMsg) -> PeerMsg {
    let block = |Block { piece, begin, length }: Block| Block {
        piece: piece % (PIECES + 1),
        begin: begin % 2 * 16384,
        length: if length % 4 == 0 { length } else { 16384 },
    };
    match msg {
        PeerMsg::Have(piece) => PeerMsg::Have(piece % (PIECES + 1)),
        PeerMsg::Request(asked) => PeerMsg::Request(block(asked)),
        PeerMsg::Cancel(asked) => PeerMsg::Cancel(block(asked)),
        PeerMsg::Reject(asked) => PeerMsg::Reject(block(asked)),
        PeerMsg::Piece { piece, begin, .. } => {
            PeerMsg::Piece { piece: piece % PIECES, begin: begin % 2 * 16384, data: vec![7; 16384].into() }
        }
        PeerMsg::Metadata(MetadataMsg::Request(piece)) => PeerMsg::Metadata(MetadataMsg::Request(piece % 3)),
        PeerMsg::Bitfield(bits) if bits.len() % 2 == 0 => PeerMsg::Bitfield(vec![0xff, 0xf0].into()),
        other => other,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn whatever_strangers_say_does_no_harm(
        said in prop::collection::vec((0u32..4, any_message(), 0u8..12), 0..80), format in 0..3, link in any::<bool>(),
    ) {
        let format = [Format::V1, Format::V2, Format::Hybrid][format as usize];
        let mut alone = Alone::new(format, 3, link);
        for (peer, msg, also) in said {
            let peer = SimPeer(peer);
            match also {
                0 => alone.greet(peer),
                1 => alone.script.advance(Duration::from_secs(11)),
                2 => alone.script.link(peer, Link::Down(p2p_core::Down::Closed)),
                _ => {}
            }
            alone.greet_once(peer);
            alone.say(peer, tame(msg));
        }
        alone.script.advance(Duration::from_secs(300));
        // Those, and whom they told of: no more than may be dialled at a time, and all of them silent.
        prop_assert!(alone.script.machine().conns.len() <= 4 + 8);
    }
}

impl Alone {
    /// As somebody who is not connected does first.
    fn greet_once(&mut self, peer: SimPeer) {
        if !self.script.machine().conns.contains_key(&peer) {
            self.greet(peer);
        }
    }
}

#[test]
fn what_was_not_offered_is_not_asked_for_by_anybody_honest() {
    let peer = SimPeer(1);
    for (piece, begin, length) in
        [(11, 0, 16384), (0, 0, 16385), (0, 16384, 1), (0, 0, 0), (u32::MAX, 0, 1), (0, u32::MAX, 1)]
    {
        let mut alone = Alone::new(Format::V1, 3, false);
        alone.greet(peer);
        alone.say(peer, PeerMsg::Interested);
        let answer = alone.say(peer, PeerMsg::Request(Block { piece, begin, length }));
        assert_eq!(answer, [PeerMsg::Goodbye], "{piece} {begin} {length}");
    }
}

#[test]
fn who_asks_for_more_than_may_wait_is_refused_and_who_is_choked_gets_nothing() {
    let peer = SimPeer(1);
    let mut alone = Alone::new(Format::V1, 3, false);
    alone.greet(peer);
    let block = Block { piece: 0, begin: 0, length: 16384 };
    assert!(alone.say(peer, PeerMsg::Request(block)).contains(&PeerMsg::Reject(block)));
    assert_eq!(alone.say(peer, PeerMsg::Interested), [PeerMsg::Unchoke]);
    let answer = alone.say(peer, PeerMsg::Request(block));
    assert!(matches!(answer[..], [PeerMsg::Piece { piece: 0, begin: 0, .. }]), "{answer:?}");
}

#[test]
fn metadata_that_is_not_what_the_link_stands_for_is_a_lie() {
    let peer = SimPeer(1);
    let mut alone = Alone::new(Format::V1, 0, true);
    let raw = alone.metainfo.info().raw().clone();
    let events = |alone: &mut Alone, data: bytes::Bytes| {
        alone.greet(peer);
        let extended = crate::torrent::ExtendedHandshake {
            metadata: Some(true),
            metadata_size: Some(data.len() as u32),
            ..crate::torrent::ExtendedHandshake::default()
        };
        let asked = alone.say(peer, PeerMsg::Extended(extended));
        assert!(asked.contains(&PeerMsg::Metadata(MetadataMsg::Request(0))), "{asked:?}");
        let total = data.len() as u32;
        alone.say(peer, PeerMsg::Metadata(MetadataMsg::Data { piece: 0, total, data }));
        alone.script.events()
    };
    let mut lie = raw.to_vec();
    lie[20] ^= 1;
    let said = events(&mut alone, lie.into());
    assert!(matches!(said[..], [SessionEvent::Lied(..)]), "{said:?}");
    let mut alone = Alone::new(Format::V1, 0, true);
    let said = events(&mut alone, raw);
    assert!(said.iter().any(
        |event| matches!(event, SessionEvent::Metadata(_, found) if found.info() == alone.metainfo.info())
    ));
}

#[test]
fn hashes_are_given_to_who_asks_for_them_rightly() {
    let peer = SimPeer(1);
    let mut alone = Alone::new(Format::V2, 3, false);
    alone.greet(peer);
    let root = alone.metainfo.info().files()[0].root.unwrap();
    let good = HashRange { root, base: 0, index: 0, length: 16, proof: 3 };
    let Some(PeerMsg::Hashes(range, hashes)) = alone.say(peer, PeerMsg::HashRequest(good)).pop() else {
        panic!()
    };
    assert_eq!((range, hashes.len()), (good, 16));
    for bad in [
        HashRange { root: [7; 32], ..good },
        HashRange { length: 3, ..good },
        HashRange { length: 1 << 31, ..good },
        HashRange { index: 16, ..good },
        HashRange { base: 9, ..good },
        HashRange { proof: u32::MAX, ..good },
    ] {
        assert_eq!(alone.say(peer, PeerMsg::HashRequest(bad)).pop(), Some(PeerMsg::HashReject(bad)));
    }
}
