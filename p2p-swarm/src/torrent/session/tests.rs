//! One session by hand: what strangers say does no harm, and who lies is named.

use std::time::Duration;

use super::super::job::Work;
use super::super::status::TorrentStage;
use super::*;
use crate::storage::MemoryFiles;
use crate::torrent::wire::{Block, Features, Handshake, HashRange, MetadataMsg, any_message};
use crate::torrent::worker::MemoryTorrents;
use crate::torrent::{CreateOptions, ExtendedHandshake, Format, Metainfo, RateLimits, Read, TorrentConfig};
use p2p_core::foreign::TcpPeer;
use p2p_core::{Script, SimPeer, Worker};
use proptest::prelude::*;

/// Has a worker do what a session wants done, until there is nothing more.
pub(super) fn work<P: Addressed>(script: &mut Script<Session<P>>, worker: &mut MemoryTorrents) {
    loop {
        let (ids, jobs): (Vec<_>, Vec<_>) = script.jobs().into_iter().unzip();
        if ids.is_empty() {
            return;
        }
        for (id, done) in ids.into_iter().zip(worker.run(jobs)) {
            script.done(id, done);
        }
    }
}

const PIECES: u32 = 12;
const BLOCK: u32 = 16384;

fn content() -> Vec<u8> {
    (0..PIECES * 16384).map(|at| (at / 5) as u8).collect()
}

/// The answer to a request, if all pieces before have this length.
fn answer(length: u32, block: Block) -> PeerMsg {
    let at = (block.piece * length + block.begin) as usize;
    let data = content()[at..at + block.length as usize].to_vec().into();
    PeerMsg::Piece { piece: block.piece, begin: block.begin, data }
}

struct Alone {
    script: Script<Session<SimPeer>>,
    worker: MemoryTorrents,
    disk: MemoryFiles,
    metainfo: Metainfo,
}

impl Alone {
    /// A session with one torrent, of which the first `have` pieces are there.
    fn new(format: Format, have: u32, link: bool) -> Alone {
        let mut alone = Alone::with_pieces(16384, format, have, link);
        alone.work();
        alone
    }

    /// As [`Alone::new`], with pieces of this length, and a worker that has not begun.
    fn with_pieces(length: u32, format: Format, have: u32, link: bool) -> Alone {
        Alone::with(SessionConfig::default(), length, format, have, |metainfo| match link {
            true => Add::new(Source::Magnet(Magnet::from(metainfo)), ""),
            false => Add::new(Source::Metainfo(metainfo.clone()), ""),
        })
    }

    /// As [`Alone::with_pieces`], of a torrent that is added as is said.
    fn with(
        config: SessionConfig,
        length: u32,
        format: Format,
        have: u32,
        add: impl FnOnce(&Metainfo) -> Add,
    ) -> Alone {
        let mut files = MemoryFiles::default();
        let content = content();
        files.put("t", content.clone());
        let options = CreateOptions { format, piece_length: Some(length), ..CreateOptions::default() };
        let metainfo = Metainfo::create(&mut files, "t".as_ref(), &options).unwrap();
        files.put("t", content[..(have * 16384) as usize].to_vec());
        let config = SessionConfig { requests_per_peer: 4, ..config };
        let mut alone = Alone {
            script: Script::new(Session::new(config, Some(1))),
            worker: MemoryTorrents::new(files.clone()),
            disk: files,
            metainfo,
        };
        let add = add(&alone.metainfo);
        alone.script.command(SessionCommand::Add(add));
        alone
    }

    /// The worker does what there is to do.
    fn work(&mut self) {
        work(&mut self.script, &mut self.worker);
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

mod holding;
mod linking;
mod moving;
mod pausing;
mod telling;

const A: SimPeer = SimPeer(1);
const B: SimPeer = SimPeer(2);

impl Alone {
    fn conn(&self, peer: SimPeer) -> &Conn {
        &self.script.machine().conns[&peer]
    }

    fn stage(&self) -> TorrentStage {
        self.script.machine().status(TorrentId(1)).unwrap().stage
    }

    /// Has the session dial a peer.
    fn dial(&mut self, peer: SimPeer) {
        let peers = vec![peer.addr()];
        self.script.command(SessionCommand::AddPeers(AddPeers { torrent: TorrentId(1), peers }));
        assert!(self.script.sent().iter().any(|(to, msg)| *to == peer && is_hello(msg)));
    }

    /// A peer sends the metadata that a link leaves out.
    fn tell_metadata(&mut self, peer: SimPeer) {
        let data = self.metainfo.info().raw().clone();
        let total = data.len() as u32;
        let extended = ExtendedHandshake {
            metadata: Some(true),
            metadata_size: Some(total),
            ..ExtendedHandshake::default()
        };
        self.say(peer, PeerMsg::Extended(extended));
        self.say(peer, PeerMsg::Metadata(MetadataMsg::Data { piece: 0, total, data }));
    }
}

fn is_hello(msg: &PeerMsg) -> bool {
    matches!(msg, PeerMsg::Handshake(_))
}

fn requests(said: &[PeerMsg]) -> Vec<Block> {
    said.iter()
        .filter_map(|msg| if let PeerMsg::Request(block) = msg { Some(*block) } else { None })
        .collect()
}

#[test]
fn what_a_peer_has_is_kept_once_and_said_again_a_few_times_only() {
    for link in [true, false] {
        let mut alone = Alone::new(Format::V1, 0, link);
        alone.greet(A);
        for msg in [PeerMsg::Have(1), PeerMsg::Bitfield(vec![0; 2].into()), PeerMsg::HaveAll] {
            alone.say(A, msg);
        }
        assert_eq!(alone.conn(A).early.len(), usize::from(link), "the last says it all");
        for time in 3..=8 {
            assert!(!alone.say(A, PeerMsg::HaveNone).contains(&PeerMsg::Goodbye), "{time}");
        }
        assert!(alone.say(A, PeerMsg::HaveAll).contains(&PeerMsg::Goodbye));
    }
}

#[test]
fn who_unchokes_again_and_sends_nothing_is_late_all_the_same() {
    let mut alone = Alone::new(Format::V1, 0, false);
    alone.greet(A);
    alone.say(A, PeerMsg::HaveAll);
    let asked = requests(&alone.say(A, PeerMsg::Unchoke));
    assert_eq!(asked.len(), 8);
    alone.script.advance(Duration::from_secs(15));
    alone.say(A, PeerMsg::Unchoke);
    alone.script.advance(Duration::from_secs(7));
    let said = alone.script.sent();
    assert!(asked.iter().all(|block| said.contains(&(A, PeerMsg::Cancel(*block)))), "{said:?}");
    assert_eq!(alone.conn(A).asked.len(), 1, "one is enough to see whether it lives");
}

#[test]
fn who_sends_a_block_now_and_then_does_not_keep_the_others() {
    let mut alone = Alone::new(Format::V1, 0, false);
    alone.greet(A);
    alone.say(A, PeerMsg::HaveAll);
    let first = requests(&alone.say(A, PeerMsg::Unchoke));
    for _ in 0..7 {
        alone.script.advance(Duration::from_secs(19));
        let (last, _) = *alone.conn(A).asked.back().unwrap();
        alone.say(A, answer(16384, last));
    }
    let longest = SessionConfig::default().request_timeout * 6;
    let now = Time::ZERO + Duration::from_secs(7 * 19);
    let owed = &alone.conn(A).asked;
    assert!(owed.iter().all(|(_, at)| now - *at <= longest), "{first:?} {owed:?}");
}

#[test]
fn a_piece_that_one_peer_alone_is_asked_for_is_free_when_that_one_chokes_or_has_none() {
    for gives_up in [PeerMsg::Choke, PeerMsg::HaveNone] {
        let mut alone = Alone::with_pieces(32768, Format::V1, 0, false);
        alone.work();
        [A, B].into_iter().for_each(|peer| alone.greet(peer));
        let one = ExtendedHandshake { request_queue: Some(1), ..ExtendedHandshake::default() };
        let bad = |begin: u32| PeerMsg::Piece { piece: 0, begin, data: vec![7; 16384].into() };
        let block = |piece: u32, begin: u32| Block { piece, begin, length: 16384 };
        // B sends the first half, and does not want to send the other; A sends that.
        alone.say(B, PeerMsg::Extended(one));
        alone.say(B, PeerMsg::Have(0));
        assert_eq!(requests(&alone.say(B, PeerMsg::Unchoke)), [block(0, 0)]);
        assert_eq!(requests(&alone.say(B, bad(0))), [block(0, 16384)]);
        alone.say(B, PeerMsg::Choke);
        alone.say(B, PeerMsg::Reject(block(0, 16384)));
        alone.say(A, PeerMsg::Have(0));
        assert_eq!(requests(&alone.say(A, PeerMsg::Unchoke)), [block(0, 16384)]);
        // B has enough to do with another piece when it is chosen for this one.
        alone.say(B, PeerMsg::Have(1));
        assert_eq!(requests(&alone.say(B, PeerMsg::Unchoke)), [block(1, 0)]);
        alone.script.message(A, bad(16384));
        alone.script.message(A, PeerMsg::Choke);
        alone.work();
        assert_eq!(requests(&alone.say(A, PeerMsg::Unchoke)), [], "it is B's");
        alone.script.message(B, gives_up.clone());
        let said = alone.say(A, PeerMsg::KeepAlive);
        assert_eq!(requests(&said), [block(0, 0), block(0, 16384)], "{gives_up:?}");
    }
}

#[test]
fn what_a_peer_gets_is_seen_though_it_was_dialled_before_the_pieces_were_known() {
    let mut alone = Alone::new(Format::V1, 0, true);
    alone.dial(B);
    alone.greet(A);
    alone.tell_metadata(A);
    assert_eq!(alone.stage(), TorrentStage::Downloading);
    alone.greet(B);
    assert!(alone.say(B, PeerMsg::Have(3)).contains(&PeerMsg::Interested));
}

#[test]
fn two_that_have_everything_do_not_call_each_other_again() {
    for other_parts in [false, true] {
        let mut alone = Alone::new(Format::V1, PIECES, false);
        alone.dial(A);
        alone.greet(A);
        alone.say(A, PeerMsg::HaveAll);
        if other_parts {
            alone.say(A, PeerMsg::Goodbye);
        }
        alone.script.advance(Duration::from_secs(500));
        let said = alone.script.sent();
        assert!(!said.iter().any(|(_, msg)| is_hello(msg)), "{said:?}");
        alone.script.advance(Duration::from_secs(120));
        assert!(
            alone.script.sent().iter().any(|(_, msg)| is_hello(msg)),
            "it may have come to want something"
        );
    }
}

/// BEP 21.
#[test]
fn who_wants_nothing_says_so_and_is_left_by_who_has_everything() {
    let mut alone = Alone::new(Format::V1, PIECES - 1, false);
    let wants_nothing = |said: Vec<PeerMsg>| {
        let said = said.into_iter().filter_map(|msg| match msg {
            PeerMsg::Extended(extended) => extended.upload_only,
            _ => None,
        });
        said.collect::<Vec<_>>()
    };
    alone.script.sent();
    alone.greet(A);
    assert_eq!(wants_nothing(alone.say(A, PeerMsg::Have(PIECES - 1))), [false]);
    let asked = requests(&alone.say(A, PeerMsg::Unchoke));
    assert_eq!(wants_nothing(alone.say(A, answer(BLOCK, asked[0]))), [true]);
    for (said, left) in [(Some(false), false), (None, false), (Some(true), true)] {
        let extended = ExtendedHandshake { upload_only: said, ..ExtendedHandshake::default() };
        alone.say(A, PeerMsg::Extended(extended));
        // What is said of other things is not said of this.
        alone.say(A, PeerMsg::Extended(ExtendedHandshake::default()));
        alone.script.advance(Duration::from_secs(1));
        assert_eq!(alone.script.sent().contains(&(A, PeerMsg::Goodbye)), left, "{said:?}");
    }
}

#[test]
fn a_full_queue_of_jobs_puts_off_and_ends_nothing() {
    let mut alone = Alone::with_pieces(16384, Format::V1, 0, false);
    let mut refused: BTreeMap<&str, u32> = BTreeMap::new();
    let mut finished = false;
    for _ in 0..60 {
        for (id, job) in alone.script.jobs() {
            let (kind, times) = match job.work {
                Work::Open { .. } => ("open", 1),
                Work::Check { .. } => ("check", 1),
                // All that may be asked for at first.
                Work::Write { .. } => ("write", 8),
                Work::Digests { .. } => ("digests", 1),
                Work::Sync { .. } => ("sync", 1),
                Work::Close { .. } => ("close", 1),
                Work::Move { .. } => ("move", 1),
                Work::Read(_) => ("read", 0),
            };
            let before = refused.entry(kind).or_default();
            if *before < times {
                *before += 1;
                let failed = p2p_core::Job::failed(&job, p2p_core::JobError::QueueFull);
                alone.script.done(id, failed);
            } else {
                finished |= kind == "close";
                alone.worker.run(vec![job]).into_iter().for_each(|done| alone.script.done(id, done));
            }
        }
        for (to, msg) in alone.script.sent() {
            if let PeerMsg::Request(block) = msg {
                alone.script.message(to, answer(16384, block));
            }
        }
        if alone.script.machine().torrents.is_empty() {
            alone.script.advance(Duration::from_secs(1));
            continue;
        }
        match alone.stage() {
            TorrentStage::Downloading if !alone.script.machine().conns.contains_key(&A) => {
                alone.greet(A);
                [PeerMsg::HaveAll, PeerMsg::Unchoke].into_iter().for_each(|msg| alone.script.message(A, msg));
                continue;
            }
            TorrentStage::Seeding if alone.script.machine().torrents[&1].done => {
                alone.script.command(SessionCommand::Remove(Remove { torrent: TorrentId(1) }));
            }
            TorrentStage::Failed => panic!("{:?}", alone.script.events()),
            _ => {}
        }
        alone.script.advance(Duration::from_secs(1));
    }
    assert!(finished, "{refused:?}");
    assert_eq!((refused["open"], refused["write"], refused["sync"], refused["close"]), (1, 8, 1, 1));
    assert_eq!(alone.script.timers().count(), 0, "nothing is left to do");
}

#[test]
fn to_say_again_what_is_known_moves_nothing() {
    let mut alone = Alone::new(Format::V1, 0, false);
    [A, B].into_iter().for_each(|peer| alone.greet(peer));
    let first = Block { piece: 0, begin: 0, length: BLOCK };
    alone.say(B, PeerMsg::Have(0));
    assert_eq!(requests(&alone.say(B, PeerMsg::Unchoke)), [first]);
    // There is no room for the block: it is asked for again when a second is over, and not before.
    alone.script.message(B, answer(BLOCK, first));
    let [(id, job)] = alone.script.jobs().try_into().unwrap_or_else(|jobs| panic!("{jobs:?}"));
    alone.script.done(id, p2p_core::Job::failed(&job, p2p_core::JobError::QueueFull));
    for (peer, msg) in [(A, PeerMsg::Choke), (B, PeerMsg::Unchoke), (A, PeerMsg::Choke)] {
        alone.script.message(peer, msg.clone());
        assert_eq!(alone.script.sent(), [], "{msg:?}");
    }
    alone.script.advance(Duration::from_secs(1));
    assert!(alone.script.sent().contains(&(B, PeerMsg::Request(first))));
    // Who says again that it wants something does not come before those who have said it once.
    let mut alone = Alone::with(
        SessionConfig { slots: 1, ..SessionConfig::default() },
        BLOCK,
        Format::V1,
        PIECES,
        |metainfo| Add::new(Source::Metainfo(metainfo.clone()), ""),
    );
    alone.work();
    [A, B].into_iter().for_each(|peer| alone.greet(peer));
    assert!(alone.say(A, PeerMsg::Interested).contains(&PeerMsg::Unchoke));
    assert_eq!(alone.say(B, PeerMsg::Interested), []);
    alone.say(A, PeerMsg::NotInterested);
    assert_eq!(alone.say(B, PeerMsg::Interested), []);
    assert_eq!(alone.say(A, PeerMsg::Interested), []);
}

#[test]
fn a_hybrid_link_goes_on_with_the_first_version_when_nobody_speaks_the_second() {
    let mut alone = Alone::new(Format::Hybrid, 0, true);
    alone.greet(A);
    alone.tell_metadata(A);
    assert_eq!(alone.stage(), TorrentStage::Hashes);
    alone.script.advance(Duration::from_secs(25));
    assert_eq!(alone.stage(), TorrentStage::Hashes, "somebody may still come");
    alone.script.advance(Duration::from_secs(8));
    alone.work();
    assert_eq!(alone.stage(), TorrentStage::Downloading);
    alone.say(A, PeerMsg::HaveAll);
    let asked = requests(&alone.say(A, PeerMsg::Unchoke))[0];
    assert!(alone.say(A, answer(16384, asked)).contains(&PeerMsg::Have(asked.piece)), "SHA-1 proves it");
}

#[test]
fn who_sends_what_nobody_asked_for_is_left_and_holds_up_nobody_for_long() {
    let rates = RateLimits { up: None, down: Some(10_000) };
    let config = SessionConfig { rates, ..SessionConfig::default() };
    let whole = |metainfo: &Metainfo| Add::new(Source::Metainfo(metainfo.clone()), "");
    let mut alone = Alone::with(config, 16384, Format::V1, 0, whole);
    alone.work();
    let swarm = alone.metainfo.info().hashes().swarms().next().unwrap();
    let hello = Handshake { swarm, peer: PeerName([1; 20]), features: Features::default() };
    alone.say(A, PeerMsg::Handshake(hello));
    alone.greet(B);
    alone.script.sent();
    let unasked = |at: u32| answer(16384, Block { piece: at % PIECES, begin: 0, length: 16384 });
    for at in 0..64 {
        assert_eq!(alone.say(A, unasked(at)), [], "{at}");
    }
    assert_eq!(alone.say(A, unasked(64)), [PeerMsg::Goodbye]);
    // At this rate they would take 107 s.
    alone.say(B, PeerMsg::HaveAll);
    assert_eq!(requests(&alone.say(B, PeerMsg::Unchoke)), []);
    alone.script.advance(Duration::from_secs(6));
    assert!(alone.script.sent().iter().any(|(to, msg)| *to == B && matches!(msg, PeerMsg::Request(_))));
}

/// BEP 6: whoever does not know it says nothing of it, and whoever does sends what it was asked for.
#[test]
fn who_breaks_the_rules_of_the_fast_extension_is_left() {
    let mut alone = Alone::new(Format::V1, 3, false);
    let swarm = alone.metainfo.info().hashes().swarms().next().unwrap();
    let block = Block { piece: 0, begin: 0, length: BLOCK };
    for msg in [
        PeerMsg::HaveAll,
        PeerMsg::HaveNone,
        PeerMsg::Suggest(0),
        PeerMsg::AllowedFast(0),
        PeerMsg::Reject(block),
        answer(BLOCK, Block { piece: 5, ..block }),
    ] {
        let says = |alone: &mut Alone, fast| {
            let features = Features { fast, ..Features::default() };
            let hello = Handshake { swarm, peer: PeerName([1; 20]), features };
            alone.say(A, PeerMsg::Handshake(hello));
            let left = alone.say(A, msg.clone()).contains(&PeerMsg::Goodbye);
            alone.say(A, PeerMsg::Goodbye);
            left
        };
        assert_eq!(
            (says(&mut alone, true), says(&mut alone, false)),
            (!msg.is_fast(), msg.is_fast()),
            "{msg:?}"
        );
    }
}

#[test]
fn what_is_not_wanted_is_not_waited_for() {
    let mut alone = Alone::with(SessionConfig::default(), 16384, Format::V1, 3, |metainfo| {
        let select = vec![1..=1];
        Add::new(Source::Magnet(Magnet { select, ..Magnet::from(metainfo) }), "")
    });
    alone.greet(A);
    alone.tell_metadata(A);
    assert_eq!(alone.stage(), TorrentStage::Seeding, "there is no second file");
    alone.script.outcomes();
    for (range, done) in [
        (0..3 * 16384, Ok(())),
        (0..3 * 16384 + 1, Err(TorrentError::NotWanted)),
        (5 * 16384..6 * 16384, Err(TorrentError::NotWanted)),
    ] {
        let read = Read { torrent: TorrentId(1), file: 0, range };
        let op = alone.script.command(SessionCommand::Read(read));
        alone.work();
        assert_eq!(alone.script.outcomes(), [(op, SessionOutcome::Done(done))]);
    }
}

impl Alone {
    /// A super-seed with everything, and two that want all of it; the pieces that each was told of.
    fn super_seed() -> (Alone, [BTreeSet<u32>; 2]) {
        let config = TorrentConfig { super_seeding: true, ..TorrentConfig::default() };
        let mut alone = Alone::with(SessionConfig::default(), 16384, Format::V1, PIECES, |metainfo| Add {
            config,
            ..Add::new(Source::Metainfo(metainfo.clone()), "")
        });
        alone.work();
        for peer in [A, B] {
            alone.greet(peer);
            alone.say(peer, PeerMsg::Interested);
        }
        alone.script.advance(Duration::from_secs(1));
        let told = [A, B].map(|peer| alone.conn(peer).told_of.clone());
        assert!(told.iter().all(|told| told.len() == 2) && told[0].is_disjoint(&told[1]), "{told:?}");
        (alone, told)
    }
}

#[test]
fn who_asks_a_super_seed_now_and_then_and_has_nothing_keeps_no_piece_from_others() {
    let (mut alone, [of_a, of_b]) = Alone::super_seed();
    let block = Block { piece: *of_a.first().unwrap(), begin: 0, length: 16384 };
    for _ in 0..3 {
        alone.script.advance(Duration::from_secs(30));
        // It is heard of, too.
        alone.say(B, PeerMsg::KeepAlive);
        let answer = alone.say(A, PeerMsg::Request(block));
        assert!(answer.iter().any(|msg| matches!(msg, PeerMsg::Piece { .. })), "{answer:?}");
    }
    let told = &alone.conn(B).told_of;
    assert!(told.is_superset(&of_a) && told.is_superset(&of_b), "{told:?}");
}

#[test]
fn two_that_cannot_reach_each_other_do_not_wait_long_for_more_of_a_super_seed() {
    let (mut alone, told) = Alone::super_seed();
    for (peer, told) in [A, B].into_iter().zip(told) {
        told.into_iter().for_each(|piece| _ = alone.say(peer, PeerMsg::Have(piece)));
    }
    assert!([A, B].iter().all(|peer| alone.conn(*peer).told_of.len() == 2), "the other may take them");
    alone.script.advance(Duration::from_secs(7));
    assert!([A, B].iter().all(|peer| alone.conn(*peer).told_of.len() == 4));
}

/// A session that peers connect to, with one torrent that has everything.
fn listening() -> (Script<Session<TcpPeer>>, SwarmId) {
    let mut files = MemoryFiles::default();
    files.put("t", content());
    let metainfo = Metainfo::create(&mut files, "t".as_ref(), &CreateOptions::default()).unwrap();
    let swarm = metainfo.info().hashes().swarms().next().unwrap();
    let mut worker = MemoryTorrents::new(files);
    let mut script = Script::new(Session::new(SessionConfig::default(), Some(1)));
    let torrent = Source::Metainfo(metainfo);
    script.command(SessionCommand::Add(Add::new(torrent, "")));
    work(&mut script, &mut worker);
    (script, swarm)
}

fn accepted(host: &str, number: u64) -> TcpPeer {
    TcpPeer::Accepted { addr: SocketAddr::new(host.parse().unwrap(), 5000 + number as u16), number }
}

#[test]
fn who_connects_and_says_nothing_is_sent_away() {
    let (mut script, swarm) = listening();
    let (silent, gone, greeter) =
        (accepted("192.0.2.1", 1), accepted("192.0.2.2", 2), accepted("192.0.2.3", 3));
    [silent, gone, greeter].into_iter().for_each(|peer| script.link(peer, Link::Up));
    script.link(gone, Link::Down(p2p_core::Down::Closed));
    let hello = Handshake { swarm, peer: PeerName([3; 20]), features: Features::default() };
    script.message(greeter, PeerMsg::Handshake(hello));
    script.sent();
    script.advance(Duration::from_secs(19));
    assert_eq!(script.sent(), []);
    script.advance(Duration::from_secs(3));
    assert_eq!(script.sent(), [(silent, PeerMsg::Goodbye)]);
    // However many they are, no more are remembered than may be connected; and who has no torrents has no guests.
    for number in 10..1000 {
        script.link(accepted("192.0.2.1", number), Link::Up);
    }
    let away = script.sent().into_iter().filter(|(_, msg)| *msg == PeerMsg::Goodbye).count();
    assert_eq!(away, 990 - SessionConfig::default().connections);
    script.command(SessionCommand::Remove(Remove { torrent: TorrentId(1) }));
    script.link(accepted("192.0.2.1", 1001), Link::Up);
    let away = script.sent().into_iter().filter(|(_, msg)| *msg == PeerMsg::Goodbye).count();
    assert_eq!(away, SessionConfig::default().connections + 2, "the greeter, too");
}

#[test]
fn one_host_has_a_few_connections_to_a_torrent() {
    // A host with IPv6 has as many addresses as it likes.
    for (host, let_in) in [("192.0.2.1", 4), ("127.0.0.1", 6), ("2001:db8::#", 4), ("2001:db8:0:#::1", 6)] {
        let (mut script, swarm) = listening();
        for number in 1..=6 {
            let peer = accepted(&host.replace('#', &number.to_string()), number);
            script.link(peer, Link::Up);
            let hello =
                Handshake { swarm, peer: PeerName([number as u8; 20]), features: Features::default() };
            script.message(peer, PeerMsg::Handshake(hello));
        }
        assert_eq!(script.machine().conns.len(), let_in, "{host}");
    }
}

#[test]
fn a_second_connection_that_goes_says_nothing_against_the_address() {
    for name in [PeerName([1; 20]), PeerName([255; 20])] {
        let (mut script, swarm) = listening();
        let peers = vec!["192.0.2.1:7".parse().unwrap()];
        script.command(SessionCommand::AddPeers(AddPeers { torrent: TorrentId(1), peers }));
        let (dialled, _) = script.sent()[0];
        let hello = || PeerMsg::Handshake(Handshake { swarm, peer: name, features: Features::default() });
        // It has made a connection, too, and says where it listens.
        let from_there = accepted("192.0.2.1", 1);
        script.message(from_there, hello());
        let extended = ExtendedHandshake { port: Some(7), ..ExtendedHandshake::default() };
        script.message(from_there, PeerMsg::Extended(extended));
        script.message(dialled, hello());
        assert_eq!(script.machine().conns.len(), 1);
        script.sent();
        script.advance(Duration::from_secs(60));
        assert!(!script.sent().iter().any(|(_, msg)| is_hello(msg)), "{name:?}");
    }
}
