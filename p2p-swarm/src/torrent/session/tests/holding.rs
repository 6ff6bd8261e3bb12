//! A torrent that its user pauses and resumes, and limits that change meanwhile.

use super::*;
use crate::torrent::{Pause, Resume, SetRates};

pub(super) const ID: TorrentId = TorrentId(1);

impl Alone {
    /// Tells the session something, and what came of it.
    pub(super) fn asks(&mut self, command: SessionCommand) -> SessionOutcome {
        let op = self.script.command(command);
        let mut outcomes = self.script.outcomes();
        assert_eq!(outcomes.last().map(|(of, _)| *of), Some(op));
        outcomes.pop().unwrap().1
    }

    fn pauses(&mut self) -> SessionOutcome {
        self.asks(SessionCommand::Pause(Pause { torrent: ID }))
    }

    fn resumes(&mut self) -> SessionOutcome {
        self.asks(SessionCommand::Resume(Resume { torrent: ID }))
    }

    fn limits(&mut self, torrent: Option<TorrentId>, down: Option<u64>) {
        let rates = RateLimits { up: None, down };
        let done = self.asks(SessionCommand::SetRates(SetRates { torrent, rates }));
        assert_eq!(done, SessionOutcome::Known(true));
    }

    /// A peer connects, has everything and gives it: what it is asked for.
    pub(super) fn gives_all(&mut self, peer: SimPeer) -> Vec<Block> {
        self.greet(peer);
        self.say(peer, PeerMsg::HaveAll);
        requests(&self.say(peer, PeerMsg::Unchoke))
    }

    /// How many bytes it was asked for and has not sent.
    fn owes(&self, peer: SimPeer) -> u32 {
        self.conn(peer).asked.iter().map(|(block, _)| block.length).sum()
    }
}

#[test]
fn a_paused_torrent_has_no_peers_and_goes_on_from_where_it_was() {
    let mut alone = Alone::with_pieces(2 * BLOCK, Format::V1, 2, false);
    alone.work();
    alone.dial(A);
    alone.gives_all(A);
    // The first half of a piece is there, and more was asked for.
    let (first, _) = *alone.conn(A).asked.front().unwrap();
    alone.say(A, answer(2 * BLOCK, first));
    let owed: Vec<Block> = alone.conn(A).asked.iter().map(|(block, _)| *block).collect();
    alone.script.events();

    assert_eq!(alone.pauses(), SessionOutcome::Known(true));
    assert_eq!(alone.pauses(), SessionOutcome::Known(true), "again, which is the same");
    assert_eq!(alone.script.events(), [SessionEvent::Paused(ID, None)]);
    assert_eq!(alone.script.sent(), [(A, PeerMsg::Goodbye)]);
    alone.work();
    let status = alone.script.machine().status(ID).unwrap();
    assert_eq!((status.stage, status.trouble, status.peers.len()), (TorrentStage::Paused, None, 0));
    // What was on its way comes to nothing, nobody is dialled, and who connects is sent away.
    assert_eq!(alone.say(A, answer(2 * BLOCK, owed[0])), []);
    let peers = vec![SimPeer(9).addr()];
    alone.asks(SessionCommand::AddPeers(AddPeers { torrent: ID, peers }));
    alone.script.advance(Duration::from_secs(300));
    assert_eq!(alone.script.sent(), []);
    alone.greet(B);
    assert_eq!(alone.script.sent(), [(B, PeerMsg::Goodbye)]);
    assert_eq!(alone.script.machine().status(ID).unwrap().downloaded, u64::from(BLOCK));
    alone.work();

    assert_eq!(alone.resumes(), SessionOutcome::Known(true));
    assert_eq!(alone.resumes(), SessionOutcome::Known(true));
    assert_eq!(alone.script.events(), [SessionEvent::Resumed(ID)]);
    assert_eq!(alone.stage(), TorrentStage::Downloading);
    assert_eq!(alone.script.jobs().len(), 0, "nothing is looked at again");
    let said = alone.script.sent();
    assert!(said.iter().any(|(to, msg)| *to == A && is_hello(msg)), "it did nothing wrong: {said:?}");
    let mut left = alone.gives_all(A);
    assert!(!left.contains(&first), "that is there");
    while let Some(block) = left.pop() {
        left.extend(requests(&alone.say(A, answer(2 * BLOCK, block))));
    }
    let status = alone.script.machine().status(ID).unwrap();
    let missing = u64::from((PIECES - 2) * BLOCK);
    assert_eq!((status.stage, status.downloaded), (TorrentStage::Seeding, missing), "each block once");
}

#[test]
fn what_has_come_of_a_paused_torrent_survives_a_crash_and_is_not_hashed_again() {
    let mut alone = Alone::new(Format::V2, 0, false);
    let disk = alone.disk.clone();
    let asked = alone.gives_all(A);
    // They are being written when it is paused.
    asked.iter().for_each(|block| alone.script.message(A, answer(BLOCK, *block)));
    alone.pauses();
    alone.work();
    disk.crash(&mut p2p_core::Rng::new(1));
    let mut worker = MemoryTorrents::new(disk);
    let mut script = Script::new(Session::<SimPeer>::new(SessionConfig::default(), None));
    let torrent = Source::Metainfo(alone.metainfo.clone());
    script.command(SessionCommand::Add(Add::new(torrent, "")));
    let [(id, job)] = script.jobs().try_into().unwrap_or_else(|_| panic!("one job at first"));
    worker.run(vec![job]).into_iter().for_each(|done| script.done(id, done));
    let checks = script.jobs().into_iter().filter(|(_, job)| matches!(job.work, Work::Check { .. }));
    assert_eq!(checks.count(), 0);
    assert_eq!(script.machine().status(ID).unwrap().pieces as usize, asked.len());
}

#[test]
fn a_torrent_that_begins_paused_is_looked_at_and_that_is_all() {
    let config = TorrentConfig { paused: true, ..TorrentConfig::default() };
    let mut alone = Alone::with(SessionConfig::default(), BLOCK, Format::V1, 3, |metainfo| Add {
        config,
        peers: vec![A.addr()],
        ..Add::new(Source::Metainfo(metainfo.clone()), "")
    });
    alone.work();
    alone.script.advance(Duration::from_secs(60));
    assert_eq!(alone.script.sent(), []);
    let status = alone.script.machine().status(ID).unwrap();
    assert_eq!((status.stage, status.pieces), (TorrentStage::Paused, 3));
    alone.resumes();
    assert!(alone.script.sent().iter().any(|(to, msg)| *to == A && is_hello(msg)));
}

#[test]
fn who_resumes_what_has_failed_has_it_tried_at_once() {
    let mut alone = Alone::new(Format::V1, 0, false);
    alone.gives_all(A);
    alone.pause(A);
    let is_in_trouble = |alone: &Alone| alone.script.machine().status(ID).unwrap().trouble.is_some();
    alone.script.events();
    alone.pauses();
    alone.script.advance(Duration::from_secs(100));
    assert!(is_in_trouble(&alone) && alone.script.sent() == [(A, PeerMsg::Goodbye)]);
    alone.resumes();
    assert!(is_in_trouble(&alone), "it goes on when it can");
    assert_eq!(alone.script.events(), [SessionEvent::Paused(ID, None)]);
    let asked = alone.gives_all(A);
    assert_eq!(asked.len(), 1, "one block shows whether it can");
    alone.say(A, answer(BLOCK, asked[0]));
    assert!(alone.script.events().contains(&SessionEvent::Resumed(ID)) && !is_in_trouble(&alone));
}

#[test]
fn a_limit_that_comes_takes_back_what_was_asked_for_beyond_it_and_one_that_goes_asks_for_all() {
    for torrent in [None, Some(ID)] {
        let mut alone = Alone::new(Format::V1, 0, false);
        alone.gives_all(A);
        let asked: Vec<Block> = alone.conn(A).asked.iter().map(|(block, _)| *block).collect();
        assert_eq!(asked.len(), 8);
        // Two blocks in a second.
        let limit = Some(2 * u64::from(BLOCK));
        alone.limits(torrent, limit);
        let said = alone.script.sent();
        let back = asked.iter().filter(|block| said.contains(&(A, PeerMsg::Cancel(**block))));
        assert!(back.eq(&asked[2..]), "{said:?}");
        let again = said.iter().filter(|(_, msg)| matches!(msg, PeerMsg::Request(_))).count();
        assert_eq!((again, alone.owes(A)), (1, 3 * BLOCK), "a quarter of a second's worth, and a block");
        alone.script.advance(Duration::from_secs(1));
        assert_eq!(alone.owes(A), 5 * BLOCK);
        let (status, stats) = (alone.script.machine().status(ID).unwrap(), alone.script.machine().stats());
        let expected = if torrent.is_some() { [limit, None] } else { [None, limit] };
        assert_eq!([status.rates.down, stats.rates.down], expected);
        // It is lifted.
        alone.limits(torrent, None);
        assert_eq!(alone.owes(A), 8 * BLOCK);
    }
}

#[test]
fn of_what_is_not_there_nothing_is_paused_limited_or_removed() {
    let mut alone = Alone::new(Format::V1, 0, false);
    let torrent = TorrentId(2);
    let rates = RateLimits::default();
    for command in [
        SessionCommand::Pause(Pause { torrent }),
        SessionCommand::Resume(Resume { torrent }),
        SessionCommand::Remove(Remove { torrent }),
        SessionCommand::SetRates(SetRates { torrent: Some(torrent), rates }),
    ] {
        assert_eq!(alone.asks(command), SessionOutcome::Known(false));
    }
}

#[test]
fn what_a_session_has_moved_it_knows_though_the_torrent_is_removed() {
    let mut alone = Alone::new(Format::V1, 3, false);
    let asked = alone.gives_all(A);
    alone.say(A, answer(BLOCK, asked[0]));
    alone.say(A, PeerMsg::Interested);
    alone.say(A, PeerMsg::Request(Block { piece: 1, begin: 0, length: BLOCK }));
    let before = alone.script.machine().stats();
    assert_eq!((before.torrents, before.peers), (vec![ID], 1));
    assert_eq!((before.downloaded, before.uploaded), (BLOCK.into(), BLOCK.into()));
    alone.script.command(SessionCommand::Remove(Remove { torrent: ID }));
    let SessionOutcome::Stats(after) = alone.asks(SessionCommand::Stats) else { panic!() };
    assert_eq!((after.torrents, after.peers), (vec![], 0));
    assert_eq!((after.downloaded, after.uploaded), (BLOCK.into(), BLOCK.into()));
}

#[test]
fn what_was_begun_is_gone_on_with_though_nothing_of_it_is_right_yet() {
    let mut alone = Alone::with_pieces(2 * BLOCK, Format::V1, 0, false);
    alone.work();
    let asked = alone.gives_all(A);
    // A half of a piece is written, and the process ends.
    alone.say(A, answer(2 * BLOCK, asked[0]));
    let (torrent, mut files) = (Source::Metainfo(alone.metainfo.clone()), alone.disk.clone());
    let adds = |files: &MemoryFiles| {
        let mut script = Script::new(Session::<SimPeer>::new(SessionConfig::default(), None));
        script.command(SessionCommand::Add(Add::new(torrent.clone(), "")));
        work(&mut script, &mut MemoryTorrents::new(files.clone()));
        script.machine().status(ID).unwrap().stage
    };
    assert_eq!(adds(&files), TorrentStage::Downloading);
    // As it would be with nothing that says whose it is.
    let record = files.names().into_iter().find(|name| *name != std::path::Path::new("t")).unwrap();
    crate::storage::Storage::remove(&mut files, &record).unwrap();
    assert_eq!(adds(&files), TorrentStage::Failed);
}
