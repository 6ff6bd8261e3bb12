//! Files that are wanted more than others, or not at all, or not any more.

use super::*;
use p2p_swarm::torrent::{
    Priority, Resume, SetPriorities, TorrentConfig, TorrentError, TorrentStage, TorrentStatus,
};

const LEECHER: SimPeer = SimPeer(1);
const ID: TorrentId = TorrentId::first();
/// Files, and how many pieces each has.
const FILES: [(&str, usize); 3] = [("t/a", 20), ("t/b", 20), ("t/c", 60)];

struct Selecting(measure::Swarm<MemoryFiles>);

impl Selecting {
    /// A seed, and one that has everything still to get; it is paused.
    fn new() -> Selecting {
        let disks = vec![MemoryFiles::default(), MemoryFiles::default()];
        FILES.iter().for_each(|(name, pieces)| disks[0].put(*name, content(pieces * PIECE as usize)));
        let options = CreateOptions { piece_length: Some(PIECE), ..CreateOptions::default() };
        let metainfo = Metainfo::create(&mut disks[0].clone(), "t".as_ref(), &options).unwrap();
        let make = |_| Liar::honest(session(200_000, SLOTS));
        let mut swarm = measure::Swarm::new(1, network(200_000), disks, metainfo, make);
        let torrent = Source::Metainfo(swarm.metainfo.clone());
        swarm.add(SEED, torrent.clone(), []);
        swarm.config = TorrentConfig { paused: true, ..TorrentConfig::default() };
        swarm.add(LEECHER, torrent, [SEED]);
        swarm.sim.run_for(Duration::from_secs(2));
        swarm.sim.take_outcomes();
        Selecting(swarm)
    }

    fn tell(&mut self, command: SessionCommand) -> SessionOutcome {
        self.0.sim.command(LEECHER, command);
        assert!(self.0.sim.run_to_outcome(Time::MAX));
        self.0.sim.take_outcomes().pop().unwrap().outcome
    }

    fn want(&mut self, files: &[(u32, Priority)]) {
        let done =
            self.tell(SessionCommand::SetPriorities(SetPriorities { torrent: ID, files: files.to_vec() }));
        assert_eq!(done, SessionOutcome::Done(Ok(())));
    }

    fn status(&self) -> TorrentStatus {
        self.0.status(LEECHER).unwrap()
    }

    /// How many pieces of each file are there.
    fn there(&self) -> [usize; 3] {
        let mut there = [0; 3];
        for piece in self.0.session(LEECHER).unwrap().pieces(ID) {
            there[match piece {
                0..20 => 0,
                20..40 => 1,
                _ => 2,
            }] += 1;
        }
        there
    }

    /// Runs until all that is wanted is there; how long that took.
    fn finish(&mut self) -> Duration {
        let begun = self.0.sim.now();
        self.0.sim.command(LEECHER, SessionCommand::Wait(Wait { torrent: ID, progress: None }));
        assert!(self.0.sim.run_to_outcome(begun + Duration::from_secs(100)), "{:?}", self.there());
        assert_eq!(self.0.sim.take_outcomes().pop().unwrap().outcome, SessionOutcome::Done(Ok(())));
        self.0.sim.now() - begun
    }
}

#[test]
fn files_come_as_they_are_wanted_and_what_is_not_wanted_does_not_come() {
    use Priority::{High, Low, Normal, Skip};
    let mut swarm = Selecting::new();
    swarm.want(&[(0, Low), (1, High), (2, Skip)]);
    assert_eq!(swarm.tell(SessionCommand::Resume(Resume { torrent: ID })), SessionOutcome::Known(true));
    while swarm.there()[0] == 0 {
        swarm.0.sim.run_for(Duration::from_millis(50));
    }
    // What was asked for last of the one may come after the first of the other.
    assert!(swarm.there()[1] >= 19, "{:?}", swarm.there());
    swarm.finish();
    let status = swarm.status();
    assert_eq!((status.stage, status.wanted, swarm.there()), (TorrentStage::Seeding, 40, [20, 20, 0]));
    let disk = swarm.0.disks[1].clone();
    assert_eq!(disk.read("t/c"), None, "not even its name");

    // The third is wanted after all, and then it is not.
    swarm.want(&[(2, Normal)]);
    assert_eq!((swarm.status().stage, swarm.status().wanted), (TorrentStage::Downloading, 100));
    swarm.0.sim.run_for(Duration::from_secs(4));
    swarm.want(&[(2, Skip)]);
    let took = swarm.finish();
    assert!(took < Duration::from_secs(1), "{took:?}");
    let there = swarm.there()[2];
    assert!(there > 5 && there < 50, "{there} pieces of it are there");
    swarm.0.sim.run_for(Duration::from_secs(30));
    assert_eq!((swarm.there()[2], swarm.status().stage), (there, TorrentStage::Seeding));
    swarm.want(&[(2, Low)]);
    swarm.finish();
    for (name, _) in FILES {
        assert!(disk.read(name) == swarm.0.disks[0].read(name), "{name}");
    }
    // What was on its way when it was taken back came in vain, and nothing else.
    let status = swarm.status();
    let all = 100 * u64::from(PIECE);
    assert!(status.downloaded + status.wasted <= all + 8 * u64::from(PIECE), "{status:?}");
}

#[test]
fn where_one_of_the_files_is_not_there_nothing_is_changed() {
    let mut swarm = Selecting::new();
    let files = vec![(0, Priority::Skip), (3, Priority::High)];
    let done = swarm.tell(SessionCommand::SetPriorities(SetPriorities { torrent: ID, files }));
    assert_eq!(done, SessionOutcome::Done(Err(TorrentError::NoFile)));
    assert_eq!(swarm.status().wanted, 100);
}
