//! A session whose worker fails as it is told to: whom a paused torrent asks, and when.

use super::*;
use crate::job::StoreError;
use crate::torrent::job::TorrentDone;
use crate::torrent::{Priority, SetPriorities};

fn full() -> StoreError {
    StoreError::Io { path: "t".into(), what: "full".into() }
}

fn no_writes(work: &Work) -> Option<StoreError> {
    matches!(work, Work::Write { .. }).then(full)
}

fn no_reads(work: &Work) -> Option<StoreError> {
    matches!(work, Work::Read(_)).then(full)
}

impl Alone {
    /// The worker does what there is to do, but for what fails.
    pub(super) fn work_but(&mut self, fails: impl Fn(&Work) -> Option<StoreError>) {
        loop {
            let jobs = self.script.jobs();
            if jobs.is_empty() {
                return;
            }
            for (id, job) in jobs {
                let done = match fails(&job.work) {
                    Some(error) => TorrentDone { torrent: job.torrent, tag: job.tag, result: Err(error) },
                    None => self.worker.run(vec![job]).pop().unwrap(),
                };
                self.script.done(id, done);
            }
        }
    }

    /// A peer has everything and gives it.
    fn gives(&mut self, peer: SimPeer) {
        self.greet(peer);
        self.say(peer, PeerMsg::HaveAll);
        self.say(peer, PeerMsg::Unchoke);
    }

    /// A peer sends a block that it was asked for, which cannot be written.
    pub(super) fn pause(&mut self, peer: SimPeer) {
        let (block, _) = *self.conn(peer).asked.back().unwrap();
        self.script.message(peer, answer(16384, block));
        self.work_but(no_writes);
        assert_eq!(self.stage(), TorrentStage::Paused);
        self.script.sent();
    }

    /// In how many seconds who is asked for what; it is one peer, and one block.
    fn next_try(&mut self) -> (u64, SimPeer, Block) {
        for second in 1..100 {
            self.script.advance(Duration::from_secs(1));
            self.work();
            let said = self.script.sent();
            let asked: Vec<(SimPeer, Block)> = said
                .into_iter()
                .filter_map(
                    |(to, msg)| if let PeerMsg::Request(block) = msg { Some((to, block)) } else { None },
                )
                .collect();
            match asked[..] {
                [] => {}
                [(peer, block)] => return (second, peer, block),
                _ => panic!("{asked:?}"),
            }
        }
        panic!("nobody is asked");
    }
}

#[test]
fn a_paused_torrent_asks_each_peer_in_turn_and_one_at_a_time() {
    let mut alone = Alone::new(Format::V1, 0, false);
    [A, B].into_iter().for_each(|peer| alone.gives(peer));
    alone.pause(A);
    let timeout = SessionConfig::default().request_timeout.as_secs();
    let (after, first, mut asked) = alone.next_try();
    assert_eq!((after, first), (5, A));
    // Neither says anything: each is waited for as long as anybody is, and then it is the other's turn at once.
    for expected in [B, A, B] {
        let (after, peer, block) = alone.next_try();
        assert_eq!(peer, expected);
        assert!((timeout..=timeout + 2).contains(&after), "{after} s");
        asked = block;
    }
    alone.say(B, answer(16384, asked));
    assert_eq!(alone.stage(), TorrentStage::Downloading);
}

#[test]
fn what_pauses_again_soon_rests_for_longer() {
    let mut alone = Alone::new(Format::V1, 0, false);
    alone.gives(A);
    alone.pause(A);
    let mut rests = Vec::new();
    for _ in 0..3 {
        let (after, _, block) = alone.next_try();
        rests.push(after);
        alone.say(A, answer(16384, block));
        assert_eq!(alone.stage(), TorrentStage::Downloading);
        alone.pause(A);
    }
    assert!(rests[0] == 5 && rests[1] >= 10 && rests[2] >= 2 * rests[1].min(30), "{rests:?}");
    let (_, _, block) = alone.next_try();
    alone.say(A, answer(16384, block));
    // A minute later it is as if nothing had been.
    alone.script.advance(Duration::from_secs(61));
    alone.pause(A);
    assert_eq!(alone.next_try().0, 5);
}

#[test]
fn who_wants_no_more_than_is_there_has_nothing_to_wait_for() {
    let mut alone = Alone::new(Format::V1, 3, false);
    alone.gives(A);
    alone.pause(A);
    alone.script.events();
    let (torrent, files) = (TorrentId(1), vec![(0, Priority::Skip)]);
    alone.script.command(SessionCommand::SetPriorities(SetPriorities { torrent, files }));
    alone.work();
    let status = alone.script.machine().status(torrent).unwrap();
    assert_eq!((status.stage, status.trouble), (TorrentStage::Seeding, None));
    assert_eq!(alone.script.events(), [SessionEvent::Resumed(torrent), SessionEvent::Done(torrent)]);
}

#[test]
fn what_fails_while_it_is_paused_has_failed() {
    let mut alone = Alone::with_pieces(16384, Format::V1, 12, false);
    alone.work_but(|work| matches!(work, Work::Open { .. }).then(full));
    assert_eq!(alone.stage(), TorrentStage::Paused);
    alone.script.advance(Duration::from_secs(6));
    let exists = StoreError::Exists("t".into());
    alone.work_but(|work| matches!(work, Work::Open { .. }).then(|| exists.clone()));
    for _ in 0..100 {
        alone.script.advance(Duration::from_secs(1));
        alone.work();
    }
    let status = alone.script.machine().status(TorrentId(1)).unwrap();
    assert_eq!((status.stage, status.trouble), (TorrentStage::Failed, Some(exists.into())));
}

/// A seed that could not read a block, and tries to: the try comes to this.
fn tried(with: StoreError) -> Alone {
    let mut alone = Alone::new(Format::V1, 12, false);
    alone.greet(A);
    alone.say(A, PeerMsg::HaveNone);
    alone.say(A, PeerMsg::Interested);
    alone.script.message(A, PeerMsg::Request(Block { piece: 0, begin: 0, length: 16384 }));
    alone.work_but(no_reads);
    assert_eq!(alone.stage(), TorrentStage::Paused);
    alone.script.advance(Duration::from_secs(6));
    alone.work_but(|work| matches!(work, Work::Read(_)).then(|| with.clone()));
    alone
}

#[test]
fn a_try_that_says_more_than_that_it_is_too_early_is_heard() {
    let changed = StoreError::Changed("t".into());
    assert_eq!(tried(changed).stage(), TorrentStage::Failed);
    let mut unsynced = tried(StoreError::Unsynced { path: "t".into(), what: "lost".into() });
    let status = unsynced.script.machine().status(TorrentId(1)).unwrap();
    assert_eq!(status.stage, TorrentStage::Paused);
    assert!(status.trouble.unwrap().to_string().contains("lost"));
    // It is looked at anew.
    unsynced.script.advance(Duration::from_secs(6));
    let opens = |(_, job): &(_, TorrentJob)| matches!(job.work, Work::Open { .. });
    assert!(unsynced.script.jobs().iter().any(opens));
}
