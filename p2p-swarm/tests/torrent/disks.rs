//! Disks that are full for a while, or cannot be read or synced: torrents wait, lose nothing, and go on.

use super::*;
use std::ffi::OsString;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use p2p_swarm::torrent::{TorrentStage, TorrentStatus};
use p2p_swarm::{FileKind, Stamp, Storage};

/// What is wrong with a disk.
#[derive(Default)]
struct Faults {
    full: AtomicBool,
    unreadable: AtomicBool,
    not_syncing: AtomicBool,
}

/// A disk that fails when it is told to.
#[derive(Clone, Default)]
struct Failing(MemoryFiles, Arc<Faults>);

fn unless(fault: &AtomicBool, kind: ErrorKind) -> io::Result<()> {
    if fault.load(Ordering::Relaxed) { Err(kind.into()) } else { Ok(()) }
}

impl Storage for Failing {
    type File = usize;

    fn open(&mut self, path: &Path) -> io::Result<usize> {
        self.0.open(path)
    }
    fn create(&mut self, path: &Path) -> io::Result<usize> {
        self.0.create(path)
    }
    fn len(&mut self, file: &mut usize) -> io::Result<u64> {
        self.0.len(file)
    }
    fn resize(&mut self, file: &mut usize, len: u64) -> io::Result<()> {
        self.0.resize(file, len)
    }
    fn read_at(&mut self, file: &mut usize, at: u64, len: usize, buffer: &mut Vec<u8>) -> io::Result<()> {
        unless(&self.1.unreadable, ErrorKind::PermissionDenied)?;
        self.0.read_at(file, at, len, buffer)
    }
    fn write_at(&mut self, file: &mut usize, at: u64, bytes: &[u8]) -> io::Result<()> {
        unless(&self.1.full, ErrorKind::StorageFull)?;
        self.0.write_at(file, at, bytes)
    }
    fn stamp(&mut self, path: &Path) -> io::Result<Stamp> {
        self.0.stamp(path)
    }
    fn sync(&mut self, file: &mut usize) -> io::Result<()> {
        unless(&self.1.not_syncing, ErrorKind::StorageFull)?;
        self.0.sync(file)
    }
    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.rename(from, to)
    }
    fn remove(&mut self, path: &Path) -> io::Result<()> {
        self.0.remove(path)
    }
    fn kind(&mut self, path: &Path) -> io::Result<FileKind> {
        self.0.kind(path)
    }
    fn list(&mut self, path: &Path) -> io::Result<Vec<OsString>> {
        self.0.list(path)
    }
}

const LEECHER: SimPeer = SimPeer(1);
/// Another that has nothing.
const OTHER: SimPeer = SimPeer(2);
const PIECES: usize = 100;

struct Disks {
    swarm: measure::Swarm<Failing>,
    content: Vec<u8>,
}

impl Disks {
    /// Three with lines of 100 kB/s, so that all crosses in half a minute; the first has everything.
    fn new() -> Disks {
        let disks = vec![Failing::default(), Failing::default(), Failing::default()];
        let content = content(PIECES * PIECE as usize);
        disks[0].0.put("t", content.clone());
        let options = CreateOptions { piece_length: Some(PIECE), ..CreateOptions::default() };
        let metainfo = Metainfo::create(&mut disks[0].0.clone(), "t".as_ref(), &options).unwrap();
        let make = |_| Liar::honest(session(100_000, SLOTS));
        let mut swarm = measure::Swarm::new(7, network(100_000), disks, metainfo, make);
        swarm.sim.take_events();
        Disks { swarm, content }
    }

    fn add(&mut self, peer: SimPeer, told: &[SimPeer]) {
        let torrent = Source::Metainfo(self.swarm.metainfo.clone());
        self.swarm.add(peer, torrent, told.iter().copied());
    }

    fn set(&mut self, peer: SimPeer, fault: impl Fn(&Faults) -> &AtomicBool, to: bool) {
        fault(&self.swarm.disks[peer.index()].1).store(to, Ordering::Relaxed);
    }

    fn run(&mut self, seconds: u64) {
        self.swarm.sim.run_for(Duration::from_secs(seconds));
    }

    fn status(&self, peer: SimPeer) -> TorrentStatus {
        self.swarm.status(peer).unwrap()
    }

    /// It has paused for this reason.
    fn is_paused(&self, peer: SimPeer, why: &str) {
        let status = self.status(peer);
        assert_eq!(status.stage, TorrentStage::Paused);
        let said = status.trouble.unwrap().to_string();
        assert!(said.contains(why) && said.starts_with("t: "), "{said}");
    }

    /// It has all, and nothing else.
    fn has_all(&self, peer: SimPeer) {
        let status = self.status(peer);
        assert_eq!((status.stage, status.trouble), (TorrentStage::Seeding, None), "{peer:?}");
        assert!(self.swarm.disks[peer.index()].0.read("t").unwrap() == self.content);
    }

    /// How often it has paused, and gone on.
    fn pauses(&mut self, of: SimPeer) -> (usize, usize) {
        let (mut paused, mut resumed) = (0, 0);
        for (_, event) in self.swarm.sim.take_events().into_iter().filter(|(peer, _)| *peer == of) {
            match event {
                SessionEvent::Paused(..) => paused += 1,
                SessionEvent::Resumed(_) => resumed += 1,
                SessionEvent::Failed(_, why) => panic!("{why}"),
                _ => {}
            }
        }
        (paused, resumed)
    }
}

#[test]
fn without_room_a_download_waits_and_serves_what_it_has() {
    let mut disks = Disks::new();
    disks.add(SEED, &[]);
    disks.add(LEECHER, &[SEED]);
    disks.run(20);
    disks.set(LEECHER, |faults| &faults.full, true);
    disks.run(5);
    disks.is_paused(LEECHER, "no storage space");
    let before = disks.status(LEECHER);
    assert!((20..80).contains(&before.pieces), "{} pieces", before.pieces);
    // The seed is gone for one who comes now; this one is not.
    disks.add(OTHER, &[LEECHER]);
    disks.run(115);
    let after = disks.status(LEECHER);
    assert_eq!((after.stage, after.pieces), (TorrentStage::Paused, before.pieces));
    assert!(after.uploaded > 0, "it serves what it has");
    let asked = after.downloaded - before.downloaded;
    assert!(asked <= 10 * 16384, "{asked} bytes came in vain in two minutes");
    assert_eq!(disks.pauses(LEECHER), (1, 0));
    // What is there could not be written down, and nothing is left of that but that it was begun.
    let names = disks.swarm.disks[LEECHER.index()].0.names();
    assert!(names.len() == 2 && names[0].extension() == Some("resume".as_ref()), "{names:?}");
    assert_eq!(names[1], Path::new("t"));

    disks.set(LEECHER, |faults| &faults.full, false);
    disks.run(200);
    assert_eq!(disks.pauses(LEECHER), (0, 1));
    disks.has_all(LEECHER);
    disks.has_all(OTHER);
    let status = disks.status(LEECHER);
    assert!(status.downloaded <= disks.content.len() as u64 * 105 / 100, "{}", status.downloaded);
}

#[test]
fn what_cannot_be_read_is_served_when_it_can_be() {
    let mut disks = Disks::new();
    // Nobody knows yet what is there.
    disks.set(SEED, |faults| &faults.unreadable, true);
    disks.add(SEED, &[]);
    disks.add(LEECHER, &[SEED]);
    disks.run(10);
    disks.is_paused(SEED, "permission denied");
    disks.set(SEED, |faults| &faults.unreadable, false);
    disks.run(20);
    let before = disks.status(LEECHER).pieces;
    assert!((10..90).contains(&before), "{before} pieces");
    // And then it is, and some of it was sent.
    disks.set(SEED, |faults| &faults.unreadable, true);
    disks.run(30);
    disks.is_paused(SEED, "permission denied");
    let then = disks.status(LEECHER).pieces;
    assert!(then < PIECES as u32);
    disks.run(60);
    assert_eq!(disks.status(LEECHER).pieces, then, "nothing comes");
    disks.set(SEED, |faults| &faults.unreadable, false);
    disks.run(150);
    assert_eq!(disks.pauses(SEED), (2, 2));
    disks.has_all(LEECHER);
}

#[test]
fn what_cannot_be_made_safe_is_not_done_until_it_is() {
    let mut disks = Disks::new();
    disks.add(SEED, &[]);
    disks.add(LEECHER, &[SEED]);
    disks.run(5);
    disks.set(LEECHER, |faults| &faults.not_syncing, true);
    disks.run(100);
    disks.is_paused(LEECHER, "no storage space");
    disks.set(LEECHER, |faults| &faults.not_syncing, false);
    disks.run(100);
    disks.has_all(LEECHER);
    let (paused, resumed) = disks.pauses(LEECHER);
    assert!(paused > 0 && paused == resumed, "{paused}, {resumed}");
}
