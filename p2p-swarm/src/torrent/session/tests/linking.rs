//! What a link leaves out comes from strangers.

use super::holding::ID;
use super::*;
use crate::torrent::gather::PATIENCE;
use crate::torrent::{Heard, InfoHashes, SourceKind};

/// A peer says that the metadata is so long.
fn claims(alone: &mut Alone, peer: SimPeer, size: u32) -> Vec<PeerMsg> {
    let extended =
        ExtendedHandshake { metadata: Some(true), metadata_size: Some(size), ..ExtendedHandshake::default() };
    alone.say(peer, PeerMsg::Extended(extended))
}

fn asks_for_metadata(said: &[PeerMsg]) -> bool {
    said.iter().any(|msg| matches!(msg, PeerMsg::Metadata(MetadataMsg::Request(_))))
}

#[test]
fn who_says_that_metadata_is_long_keeps_nobody_else_from_being_asked() {
    let mut alone = Alone::new(Format::V1, 0, true);
    [A, B].into_iter().for_each(|peer| alone.greet(peer));
    assert!(asks_for_metadata(&claims(&mut alone, A, 16 << 20)));
    let raw = alone.metainfo.info().raw().clone();
    assert!(!asks_for_metadata(&claims(&mut alone, B, raw.len() as u32)));
    // A sends a piece now and then: in this way it would take hours.
    let mut waited = Duration::ZERO;
    let asked = std::iter::from_fn(|| {
        alone.script.advance(Duration::from_secs(1));
        waited += Duration::from_secs(1);
        if waited.as_secs().is_multiple_of(9) {
            let (piece, data) = ((waited.as_secs() / 9 - 1) as u32, vec![7; BLOCK as usize].into());
            alone.script.message(A, PeerMsg::Metadata(MetadataMsg::Data { piece, total: 16 << 20, data }));
        }
        Some(
            alone
                .script
                .sent()
                .into_iter()
                .filter(|(to, _)| *to == B)
                .map(|(_, msg)| msg)
                .collect::<Vec<_>>(),
        )
    });
    let asked = asked.take(60).any(|said| asks_for_metadata(&said));
    assert!(asked && waited <= PATIENCE + Duration::from_secs(2), "{waited:?}");
}

#[test]
fn who_says_that_metadata_is_short_has_its_say_until_it_is_asked() {
    let mut alone = Alone::new(Format::V1, 0, true);
    [A, B].into_iter().for_each(|peer| alone.greet(peer));
    let size = 40 * BLOCK;
    claims(&mut alone, A, size);
    claims(&mut alone, B, 1);
    // A is slow, though honest; B says nothing, and is asked once.
    let mut asked = BTreeMap::from([(A, 1), (B, 0)]);
    let mut piece = 0;
    for second in 0..120 {
        alone.script.advance(Duration::from_secs(1));
        let data = MetadataMsg::Data { piece, total: size, data: vec![1; BLOCK as usize].into() };
        alone.script.message(A, PeerMsg::Metadata(data));
        piece += 1;
        if alone.script.events().iter().any(|event| matches!(event, SessionEvent::Lied(..))) {
            // All of it has come, whatever it is.
            assert_eq!((asked[&A], asked[&B]), (2, 1));
            return;
        }
        for (to, msg) in alone.script.sent() {
            if msg == PeerMsg::Metadata(MetadataMsg::Request(0)) {
                *asked.entry(to).or_default() += 1;
                piece = 0;
            }
        }
        assert!(second < 100, "{asked:?}");
    }
}

impl Alone {
    fn greet_in(&mut self, peer: SimPeer, swarm: SwarmId) {
        let features = Features { extended: true, fast: true, ..Features::default() };
        let hello = Handshake { swarm, peer: PeerName([peer.0 as u8; 20]), features };
        self.script.message(peer, PeerMsg::Handshake(hello));
    }
}

#[test]
fn two_links_to_the_two_swarms_of_a_hybrid_are_one_torrent() {
    let link = |metainfo: &Metainfo, hashes| {
        Add::new(Source::Magnet(Magnet { hashes, ..Magnet::from(metainfo) }), "")
    };
    let mut alone = Alone::with(SessionConfig::default(), BLOCK, Format::Hybrid, 0, |metainfo| {
        link(metainfo, InfoHashes { v2: None, ..metainfo.info().hashes() })
    });
    let hashes = alone.metainfo.info().hashes();
    let [first, second] = hashes.swarms().collect::<Vec<_>>().try_into().unwrap();
    let other = link(&alone.metainfo, InfoHashes { v1: None, ..hashes });
    let SessionOutcome::Added(Ok(id)) = alone.asks(SessionCommand::Add(other)) else { panic!() };
    let wait = alone.script.command(SessionCommand::Wait(Wait { torrent: ID, progress: None }));
    alone.greet(B);
    alone.greet_in(A, second);
    alone.tell_metadata(A);
    // What the second link stands for is known; of the first its user hears that it is the same.
    let twice = SessionOutcome::Done(Err(TorrentError::Twice));
    assert_eq!(alone.script.outcomes(), [(wait, twice)]);
    assert_eq!(alone.stage(), TorrentStage::Failed);
    let status = alone.script.machine().status(id).unwrap();
    assert_eq!((status.stage, status.hashes), (TorrentStage::Hashes, hashes));
    assert!(!alone.script.machine().conns.contains_key(&B));
    // Both swarms are the second's, also when the first is removed.
    for peer in [3, 5] {
        alone.greet_in(SimPeer(peer), first);
        alone.greet_in(SimPeer(peer + 1), second);
        for peer in [peer, peer + 1] {
            assert_eq!(alone.conn(SimPeer(peer)).torrent, id.0);
        }
        alone.script.command(SessionCommand::Remove(Remove { torrent: ID }));
    }
}

#[test]
fn of_a_private_torrent_whom_others_than_trackers_told_of_is_left_when_that_is_known() {
    let mut files = MemoryFiles::default();
    files.put("t", content());
    let options = CreateOptions { private: true, ..CreateOptions::default() };
    let metainfo = Metainfo::create(&mut files, "t".as_ref(), &options).unwrap();
    let mut script = Script::new(Session::<TcpPeer>::new(SessionConfig::default(), Some(1)));
    script.command(SessionCommand::Add(Add::new(Source::Magnet(Magnet::from(&metainfo)), "")));
    let swarm = metainfo.info().hashes().swarms().next().unwrap();
    let names = |script: &mut Script<Session<TcpPeer>>, source, addr: &str| {
        let peers = vec![addr.parse().unwrap()];
        script.command(SessionCommand::Heard(Heard { source, swarm, peers }));
    };
    names(&mut script, SourceKind::Open("elsewhere"), "192.0.2.1:1");
    names(&mut script, SourceKind::Trackers, "192.0.2.2:1");
    let dialled: Vec<TcpPeer> = script.sent().into_iter().map(|(peer, _)| peer).collect();
    let accepted = accepted("192.0.2.3", 9);
    let [stranger, tracked] = dialled[..] else { panic!("{dialled:?}") };
    for (n, peer) in [stranger, tracked, accepted].into_iter().enumerate() {
        let features = Features { extended: true, ..Features::default() };
        let hello = Handshake { swarm, peer: PeerName([n as u8; 20]), features };
        script.message(peer, PeerMsg::Handshake(hello));
    }
    let data = metainfo.info().raw().clone();
    let total = data.len() as u32;
    let extended = ExtendedHandshake {
        metadata: Some(true),
        metadata_size: Some(total),
        ..ExtendedHandshake::default()
    };
    script.message(stranger, PeerMsg::Extended(extended));
    script.message(stranger, PeerMsg::Metadata(MetadataMsg::Data { piece: 0, total, data }));
    let conns: Vec<TcpPeer> = script.machine().conns.keys().copied().collect();
    assert_eq!(conns.len(), 2);
    assert!(conns.contains(&tracked) && conns.contains(&accepted), "{conns:?}");
    script.sent();
    script.advance(Duration::from_secs(60));
    assert!(!script.sent().iter().any(|(to, _)| to.addr() == stranger.addr()), "nor is it called again");
}

#[test]
fn of_many_who_lied_the_last_are_remembered() {
    let mut alone = Alone::new(Format::V1, 0, true);
    // Whoever comes later has the lower address.
    for n in (1..=MAX_BANNED as u32 + 1).rev() {
        let liar = SimPeer(n);
        alone.greet(liar);
        claims(&mut alone, liar, 1);
        let lie = MetadataMsg::Data { piece: 0, total: 1, data: vec![7].into() };
        assert_eq!(alone.say(liar, PeerMsg::Metadata(lie)), [PeerMsg::Goodbye], "{n}");
        alone.script.advance(Duration::from_millis(1));
    }
    let mut lets_in = |n: u32| {
        alone.greet(SimPeer(n));
        alone.script.machine().conns.contains_key(&SimPeer(n))
    };
    assert!(!lets_in(1) && !lets_in(MAX_BANNED as u32));
    assert!(lets_in(MAX_BANNED as u32 + 1), "that was long ago");
}
