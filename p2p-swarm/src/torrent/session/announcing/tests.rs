use super::*;
use crate::storage::MemoryFiles;
use crate::torrent::command::{
    Add, AddPeers, Announcing, Pause, Remove, Resume, SessionCommand, Source, TorrentId,
};
use crate::torrent::session::tests::work;
use crate::torrent::worker::MemoryTorrents;
use crate::torrent::{
    CreateOptions, ExtendedHandshake, Features, Format, Handshake, Magnet, MetadataMsg, Metainfo, PeerMsg,
    PeerName, PexMsg, PexPeer, SessionConfig,
};
use p2p_core::{Script, SimPeer};

mod open;

const PIECE: usize = 16384;
const PIECES: usize = 3;

fn content() -> Vec<u8> {
    (0..PIECES * PIECE).map(|at| (at / 7) as u8).collect()
}

struct Tracked {
    script: Script<Session<SimPeer>>,
    worker: MemoryTorrents,
    metainfo: Metainfo,
    announcer: OpId,
    /// Who announces in the open, if anybody does.
    dht: Option<OpId>,
}

impl Tracked {
    /// A session with one torrent, of which some pieces are there, and somebody who announces for it.
    fn new(trackers: &[&str], have: usize, format: Format, private: bool) -> Tracked {
        let mut files = MemoryFiles::default();
        files.put("t", content());
        let trackers = trackers.iter().map(|url| vec![(*url).into()]).collect();
        let piece_length = Some(PIECE as u32);
        let options = CreateOptions { format, piece_length, private, trackers, ..CreateOptions::default() };
        let metainfo = Metainfo::create(&mut files, "t".as_ref(), &options).unwrap();
        files.put("t", content()[..have * PIECE].to_vec());
        let mut script = Script::new(Session::new(SessionConfig::default(), Some(7000)));
        let announcer = script.command(SessionCommand::Announcing(Announcing(SourceKind::Trackers)));
        let worker = MemoryTorrents::new(files);
        let mut tracked = Tracked { script, worker, metainfo, announcer, dht: None };
        let torrent = Source::Metainfo(tracked.metainfo.clone());
        let peers = vec![SimPeer(50).addr()];
        tracked.script.command(SessionCommand::Add(Add { peers, ..Add::new(torrent, "") }));
        assert_eq!(tracked.wanted(), [], "what is there is not known yet");
        tracked.work();
        tracked
    }

    fn work(&mut self) {
        work(&mut self.script, &mut self.worker);
    }

    /// What is to be announced.
    fn wanted(&mut self) -> Vec<ToAnnounce> {
        let items = self.script.items().into_iter();
        let wanted = items.map(|(op, item)| match item {
            SessionItem::Announce(wanted) if op == self.announcer || Some(op) == self.dht => wanted,
            other => panic!("{other:?}"),
        });
        wanted.collect()
    }

    fn one(&mut self) -> ToAnnounce {
        let mut wanted = self.wanted();
        assert_eq!(wanted.len(), 1, "{wanted:?}");
        wanted.remove(0)
    }

    fn answer(&mut self, wanted: &ToAnnounce, peers: &[SimPeer]) {
        let peers = peers.iter().map(Addressed::addr).collect();
        let interval = Duration::from_secs(1800);
        let result = Ok(AnnounceReply { interval, peers, ..AnnounceReply::default() });
        self.script.command(SessionCommand::Announced(Announced { number: wanted.number, result }));
    }

    fn fail(&mut self, wanted: &ToAnnounce) {
        let result = Err(TrackerError::TimedOut);
        self.script.command(SessionCommand::Announced(Announced { number: wanted.number, result }));
    }

    /// Its torrent is known by a link from now on, whose metadata this peer sends.
    fn by_link(&mut self) {
        let torrent = Source::Magnet(Magnet::from(&self.metainfo));
        self.script.command(SessionCommand::Add(Add::new(torrent, "")));
    }

    fn sends_metadata(&mut self, peer: SimPeer) {
        let swarm = self.metainfo.info().hashes().swarms().next().unwrap();
        let features = Features { extended: true, ..Features::default() };
        let data = self.metainfo.info().raw().clone();
        let total = data.len() as u32;
        let extended = ExtendedHandshake {
            metadata: Some(true),
            metadata_size: Some(total),
            ..ExtendedHandshake::default()
        };
        for msg in [
            PeerMsg::Handshake(Handshake { swarm, peer: PeerName([9; 20]), features }),
            PeerMsg::Extended(extended),
            PeerMsg::Metadata(MetadataMsg::Data { piece: 0, total, data }),
        ] {
            self.script.message(peer, msg);
        }
        self.work();
    }

    /// Its torrent goes, and its tracker has heard it.
    fn leave(&mut self) {
        let started = self.one();
        self.answer(&started, &[]);
        self.script.command(SessionCommand::Remove(Remove { torrent: TorrentId::first() }));
        self.work();
        let stopped = self.one();
        assert_eq!(stopped.announce.event, Event::Stopped);
        self.answer(&stopped, &[]);
    }

    fn dialled(&mut self) -> Vec<SimPeer> {
        let sent = self.script.sent().into_iter();
        sent.filter(|(_, msg)| matches!(msg, PeerMsg::Handshake(_))).map(|(peer, _)| peer).collect()
    }

    /// A peer that has everything sends all of it.
    fn get_it_all(&mut self, peer: SimPeer) {
        let swarm = self.metainfo.info().hashes().swarms().next().unwrap();
        let features = Features { fast: true, ..Features::default() };
        let hello = Handshake { swarm, peer: PeerName([9; 20]), features };
        for msg in [PeerMsg::Handshake(hello), PeerMsg::HaveAll, PeerMsg::Unchoke] {
            self.script.message(peer, msg);
        }
        for _ in 0..PIECES {
            for (_, msg) in self.script.sent() {
                if let PeerMsg::Request(block) = msg {
                    let at = block.piece as usize * PIECE + block.begin as usize;
                    let data = content()[at..at + block.length as usize].to_vec().into();
                    self.script
                        .message(peer, PeerMsg::Piece { piece: block.piece, begin: block.begin, data });
                }
            }
            self.work();
        }
    }
}

#[test]
fn a_download_is_announced_from_its_start_to_its_end() {
    let mut tracked = Tracked::new(&["udp://a:1"], 1, Format::V1, false);
    assert_eq!(tracked.dialled(), [SimPeer(50)], "the user has named it");
    let started = tracked.one();
    let Announce { event, left, port, downloaded, want, .. } = started.announce;
    assert_eq!((event, left, port), (Event::Started, 2 * PIECE as u64, 7000));
    assert_eq!((downloaded, want), (0, Some(50)));
    tracked.answer(&started, &[SimPeer(1), SimPeer(2)]);
    assert_eq!(tracked.dialled(), [SimPeer(1), SimPeer(2)]);
    tracked.get_it_all(SimPeer(1));
    let completed = tracked.one().announce;
    assert_eq!((completed.event, completed.left), (Event::Completed, 0));
    assert_eq!((completed.downloaded, completed.key), (2 * PIECE as u64, started.announce.key));
    // The answer is lost; what it was about is said again.
    tracked.script.advance(PATIENCE + Duration::from_secs(1));
    tracked.script.advance(Duration::from_secs(60));
    let again = tracked.one();
    assert_eq!(again.announce.event, Event::Completed);
    tracked.answer(&again, &[]);
    tracked.script.advance(Duration::from_secs(1790));
    assert_eq!(tracked.wanted(), []);
    tracked.script.advance(Duration::from_secs(11));
    let regular = tracked.one();
    assert_eq!(regular.announce.event, Event::Regular);
    tracked.answer(&regular, &[]);

    let stop = tracked.script.command(SessionCommand::Stop);
    let stopped = tracked.one();
    assert_eq!((stopped.announce.event, stopped.announce.want), (Event::Stopped, Some(0)));
    let outcomes = |tracked: &mut Tracked| -> Vec<OpId> {
        tracked.script.outcomes().into_iter().map(|(op, _)| op).collect()
    };
    assert!(!outcomes(&mut tracked).contains(&stop), "the tracker has not heard it");
    tracked.answer(&stopped, &[]);
    assert!(outcomes(&mut tracked).contains(&stop));
    let silent = tracked.script.command(SessionCommand::Stop);
    assert!(outcomes(&mut tracked).contains(&silent), "there is nobody to tell");
}

#[test]
fn who_had_everything_completes_nothing_and_a_hybrid_is_announced_in_both_its_swarms() {
    let mut tracked = Tracked::new(&["udp://a:1"], PIECES, Format::Hybrid, false);
    let wanted = tracked.wanted();
    let mut swarms: Vec<SwarmId> = wanted.iter().map(|wanted| wanted.announce.swarm).collect();
    swarms.sort_unstable();
    let mut both: Vec<SwarmId> = tracked.metainfo.info().hashes().swarms().collect();
    both.sort_unstable();
    assert_eq!(swarms, both);
    assert!(wanted.iter().all(|wanted| wanted.announce.left == 0));
    wanted.iter().for_each(|wanted| tracked.answer(wanted, &[]));
    tracked.script.advance(Duration::from_secs(1799));
    assert_eq!(tracked.wanted(), []);
    tracked.script.command(SessionCommand::Remove(Remove { torrent: TorrentId::first() }));
    let gone = tracked.wanted();
    assert!(gone.len() == 2 && gone.iter().all(|wanted| wanted.announce.event == Event::Stopped));
}

#[test]
fn the_next_tracker_is_asked_when_one_fails_and_a_session_that_stops_does_not_wait_for_long() {
    let mut tracked = Tracked::new(&["udp://a:1", "udp://b:1"], 1, Format::V1, false);
    let first = tracked.one();
    assert_eq!(first.url, "udp://a:1");
    tracked.fail(&first);
    let second = tracked.one();
    assert_eq!((second.url.as_str(), second.announce.event), ("udp://b:1", Event::Started));
    tracked.answer(&second, &[]);
    let status = tracked.script.machine().status(TorrentId::first()).unwrap().trackers;
    assert_eq!(status[0].said, Some(Err(TrackerError::TimedOut)));
    assert!(matches!(status[1].said, Some(Ok(_))));
    let stop = tracked.script.command(SessionCommand::Stop);
    assert_eq!(tracked.one().url, "udp://b:1", "the other knows nothing of it");
    tracked.script.outcomes();
    tracked.script.advance(GOODBYE);
    assert_eq!(tracked.script.outcomes().pop(), Some((stop, SessionOutcome::Stopped)));
}

#[test]
fn the_announcer_may_go_and_another_goes_on() {
    let mut tracked = Tracked::new(&["udp://a:1"], 1, Format::V1, false);
    let started = tracked.one();
    tracked.script.cancel(tracked.announcer);
    tracked.answer(&started, &[SimPeer(1)]);
    tracked.script.advance(Duration::from_secs(600));
    assert_eq!(tracked.wanted(), []);
    tracked.announcer = tracked.script.command(SessionCommand::Announcing(Announcing(SourceKind::Trackers)));
    assert_eq!(tracked.one().announce.event, Event::Started);
    let before = tracked.announcer;
    tracked.announcer = tracked.script.command(SessionCommand::Announcing(Announcing(SourceKind::Trackers)));
    assert!(tracked.script.outcomes().contains(&(before, SessionOutcome::Stopped)), "one does it");
    assert_eq!(tracked.one().announce.event, Event::Started);
}

/// BEP 27.
#[test]
fn a_private_torrent_has_the_peers_that_its_trackers_name_and_no_others() {
    let mut tracked = Tracked::new(&["udp://a:1"], 1, Format::V1, true);
    let peers = vec![SimPeer(51).addr()];
    tracked.script.command(SessionCommand::AddPeers(AddPeers { torrent: TorrentId::first(), peers }));
    let started = tracked.one();
    tracked.answer(&started, &[SimPeer(1)]);
    assert_eq!(tracked.dialled(), [SimPeer(1)]);
    let swarm = tracked.metainfo.info().hashes().swarms().next().unwrap();
    let features = Features { extended: true, ..Features::default() };
    tracked
        .script
        .message(SimPeer(1), PeerMsg::Handshake(Handshake { swarm, peer: PeerName([9; 20]), features }));
    let offered = tracked.script.sent().into_iter().find_map(|(_, msg)| match msg {
        PeerMsg::Extended(extended) => Some(extended.pex),
        _ => None,
    });
    assert_eq!(offered, Some(None), "it does not want to hear of others");
    let extended = ExtendedHandshake { pex: Some(true), ..ExtendedHandshake::default() };
    tracked.script.message(SimPeer(1), PeerMsg::Extended(extended));
    let added =
        vec![PexPeer { addr: SimPeer(2).addr(), seed: true, reachable: true, encrypts: false, utp: false }];
    tracked.script.message(SimPeer(1), PeerMsg::Pex(PexMsg { added, dropped: Vec::new() }));
    tracked.script.advance(Duration::from_secs(120));
    let sent = tracked.script.sent();
    assert!(
        !sent.iter().any(|(peer, msg)| *peer == SimPeer(2) || matches!(msg, PeerMsg::Pex(_))),
        "{sent:?}"
    );
}

#[test]
fn a_link_is_announced_before_its_length_is_known() {
    let mut tracked = Tracked::new(&["udp://a:1"], 0, Format::V1, false);
    tracked.leave();
    tracked.by_link();
    let announce = tracked.one().announce;
    assert_eq!((announce.event, announce.left), (Event::Started, UNKNOWN));
}

#[test]
fn a_link_whose_content_is_there_completes_nothing() {
    let mut tracked = Tracked::new(&["udp://a:1"], PIECES, Format::V1, false);
    tracked.leave();
    tracked.by_link();
    let started = tracked.one();
    tracked.answer(&started, &[SimPeer(1)]);
    tracked.sends_metadata(SimPeer(1));
    let regular = tracked.one();
    assert_eq!((regular.announce.event, regular.announce.left), (Event::Regular, 0));
    tracked.answer(&regular, &[]);
    tracked.script.advance(Duration::from_secs(60));
    assert_eq!(tracked.wanted(), []);
}

#[test]
fn who_leaves_and_comes_back_is_announced_when_the_tracker_has_heard_of_the_end() {
    let mut tracked = Tracked::new(&["udp://a:1"], 1, Format::V1, false);
    let started = tracked.one();
    tracked.script.command(SessionCommand::Remove(Remove { torrent: TorrentId::first() }));
    tracked.work();
    let torrent = Source::Metainfo(tracked.metainfo.clone());
    tracked.script.command(SessionCommand::Add(Add::new(torrent, "")));
    tracked.work();
    tracked.script.advance(Duration::from_secs(5));
    assert_eq!(tracked.wanted(), [], "the end is still to be told");
    tracked.answer(&started, &[]);
    let stopped = tracked.one();
    assert_eq!(stopped.announce.event, Event::Stopped);
    tracked.script.advance(Duration::from_secs(5));
    assert_eq!(tracked.wanted(), [], "it is on its way");
    tracked.answer(&stopped, &[]);
    tracked.script.advance(Duration::from_secs(1));
    assert_eq!(tracked.one().announce.event, Event::Started);
}

#[test]
fn a_paused_torrent_has_stopped_and_starts_again_when_it_goes_on() {
    let mut tracked = Tracked::new(&["udp://a:1"], 1, Format::V1, false);
    let started = tracked.one();
    tracked.answer(&started, &[]);
    let torrent = TorrentId::first();
    tracked.script.command(SessionCommand::Pause(Pause { torrent }));
    let stopped = tracked.one();
    assert_eq!((stopped.announce.event, stopped.announce.left), (Event::Stopped, 2 * PIECE as u64));
    tracked.script.command(SessionCommand::Resume(Resume { torrent }));
    assert_eq!(tracked.wanted(), [], "the tracker might hear of the end last");
    tracked.script.command(SessionCommand::Pause(Pause { torrent }));
    assert_eq!(tracked.wanted(), [], "it knows of nothing that would end");
    tracked.answer(&stopped, &[SimPeer(7)]);
    tracked.dialled();
    tracked.script.advance(Duration::from_secs(3600));
    assert_eq!((tracked.wanted(), tracked.dialled()), (vec![], vec![]));
    tracked.script.command(SessionCommand::Resume(Resume { torrent }));
    assert_eq!(tracked.one().announce.event, Event::Started);
}

#[test]
fn an_end_is_told_after_what_is_on_its_way() {
    let mut tracked = Tracked::new(&["udp://a:1"], 1, Format::V1, false);
    let started = tracked.one();
    let stop = tracked.script.command(SessionCommand::Stop);
    assert_eq!(tracked.wanted(), [], "the tracker might hear of the start last");
    tracked.answer(&started, &[SimPeer(1)]);
    let stopped = tracked.one();
    assert_eq!(stopped.announce.event, Event::Stopped);
    assert!(!tracked.dialled().contains(&SimPeer(1)));
    tracked.answer(&stopped, &[]);
    assert_eq!(
        tracked.script.outcomes().pop().map(|(_, outcome)| outcome),
        Some(SessionOutcome::Known(true))
    );
    assert!(tracked.script.machine().stopping.is_empty(), "{stop:?} is over");
}
