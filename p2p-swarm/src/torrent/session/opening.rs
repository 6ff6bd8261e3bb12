//! What is there of a torrent when it is taken on.
//!
//! A worker looks which pieces are there by what it has written down of them, and which may be; those are hashed a slice at
//! a time, by as many workers as there are.
//!
//! A file that is there, and that this torrent is not known to have begun, may be anything of its name. If it is the torrent's
//! in part, by whatever program, it is gone on with; if nothing of it is right it is somebody's, and is not written over.

use std::collections::{BTreeSet, VecDeque};
use std::ops::Range;

use p2p_core::Cx;

use super::{Session, SessionEvent, Stage, TorrentId};
use crate::bits::Bits;
use crate::job::StoreError;
use crate::torrent::address::Addressed;
use crate::torrent::job::Tag;
use crate::torrent::metainfo::{Info, TorrentFile};
use crate::torrent::picker::Picker;
use crate::worker::SLICE;

/// Slices of one torrent that are hashed at a time: two for each of eight workers. 16.
const AT_ONCE: usize = 16;

/// What is known so far.
#[derive(Debug, Default)]
pub(super) struct Opening {
    have: Bits,
    /// Slices that nobody hashes yet.
    left: VecDeque<Range<u32>>,
    /// Where those begin that are being hashed.
    out: BTreeSet<u32>,
    /// Whether a worker looks, and nothing has failed since.
    begun: bool,
    /// Files that may be something else.
    strange: Vec<u32>,
}

impl Opening {
    /// A worker looks.
    pub(super) fn begun() -> Opening {
        Opening { begun: true, ..Opening::default() }
    }

    pub(super) fn is_begun(&self) -> bool {
        self.begun
    }

    /// A file that was there and is not the torrent's: it has pieces of its own, and none of them is right; or it has none, and
    /// nothing of any file is.
    fn something_else<'a>(&self, info: &'a Info) -> Option<&'a TorrentFile> {
        let has = |piece: u32| self.have.contains(piece.into());
        let is_one = |number: &u32| {
            let file = *number as usize;
            let of_it =
                |piece: u32| info.spans(piece, 0, info.piece_len(piece)).all(|span| span.file == file);
            let mut pieces = info.files().get(file).map_or(0..0, |file| info.pieces_of(file));
            match pieces.clone().any(of_it) {
                true => !pieces.any(has),
                false => self.have.count() == 0,
            }
        };
        self.strange.iter().find(|file| is_one(file)).and_then(|file| info.files().get(*file as usize))
    }
}

/// Runs of pieces, of so many at the most.
fn slices(pieces: &Bits, most: u32) -> VecDeque<Range<u32>> {
    let mut slices: VecDeque<Range<u32>> = VecDeque::new();
    for piece in pieces.iter().map(|piece| piece as u32) {
        match slices.back_mut() {
            Some(last) if last.end == piece && last.end - last.start < most => last.end += 1,
            _ => slices.push_back(piece..piece + 1),
        }
    }
    slices
}

impl<P: Addressed> Session<P> {
    /// A worker has looked what is there.
    pub(super) fn opened(
        &mut self,
        cx: &mut Cx<'_, Self>,
        number: u64,
        have: Bits,
        check: &Bits,
        strange: Vec<u32>,
    ) {
        let Some(torrent) = self.torrents.get_mut(&number) else { return };
        let (Stage::Opening(opening), Some(info)) = (&mut torrent.stage, &torrent.info) else { return };
        let most = (SLICE / u64::from(info.piece_length())).max(1) as u32;
        *opening = Opening { have, left: slices(check, most), out: BTreeSet::new(), begun: true, strange };
        // Who has hashed something writes down what came of it.
        torrent.fresh |= check.count() > 0;
        self.check_on(cx, number);
    }

    /// Has some of what may be there hashed; if there is nothing more the torrent begins.
    fn check_on(&mut self, cx: &mut Cx<'_, Self>, number: u64) {
        let Some(torrent) = self.torrents.get_mut(&number) else { return };
        let Stage::Opening(opening) = &mut torrent.stage else { return };
        let mut begun = Vec::new();
        while opening.out.len() < AT_ONCE
            && let Some(slice) = opening.left.pop_front()
        {
            opening.out.insert(slice.start);
            begun.push(slice);
        }
        let done = opening.out.is_empty().then(|| std::mem::take(opening));
        begun.into_iter().for_each(|slice| torrent.check(cx, slice));
        let (Some(opening), Some(info)) = (done, &torrent.info) else { return };
        match opening.something_else(info) {
            Some(file) => {
                let path = torrent.folder.join(&file.path);
                self.give_up(cx, number, StoreError::Exists(path).into());
            }
            None => self.begin(cx, number, opening.have),
        }
    }

    /// The slice that begins there was hashed: these of its pieces are right.
    pub(super) fn checked(&mut self, cx: &mut Cx<'_, Self>, number: u64, from: u32, right: &[u32]) {
        let torrent = self.torrents.get_mut(&number);
        // Others were to be hashed before it paused, and nobody waits for them.
        if let Some(Stage::Opening(opening)) = torrent.map(|torrent| &mut torrent.stage)
            && opening.out.remove(&from)
        {
            right.iter().for_each(|piece| _ = opening.have.insert((*piece).into()));
            self.check_on(cx, number);
        }
    }

    /// What is there is known.
    fn begin(&mut self, cx: &mut Cx<'_, Self>, number: u64, have: Bits) {
        let Some(torrent) = self.torrents.get_mut(&number) else { return };
        let Some(info) = torrent.info.clone() else { return };
        let priorities = torrent.piece_priorities(&info);
        let picker = Picker::new(&info, have.clone(), priorities, torrent.order, cx.rng());
        torrent.stage = Stage::Running(Box::new(picker));
        torrent.saved = cx.now();
        self.go_on(cx, number);
        let Some(torrent) = self.torrents.get_mut(&number) else { return };
        if have.is_full() {
            torrent.tiers.values_mut().for_each(|tiers| tiers.had_all(cx.now()));
        }
        cx.emit(SessionEvent::Checked(TorrentId(number), have.count() as u32));
        // Who was asked for metadata is here already.
        let one_by_one = torrent.is_super_seeding();
        let peers: Vec<P> = torrent.peers.iter().copied().collect();
        let have: Vec<u32> =
            if one_by_one { Vec::new() } else { have.iter().map(|piece| piece as u32).collect() };
        for peer in peers {
            self.tell_of(cx, peer, &have);
            self.catch_up(cx, peer);
        }
        self.finish(cx, number);
        self.move_on(cx, number);
        self.readers_go_on(cx, number);
        self.hurry(cx, number);
        self.dial(cx, number);
        self.fetch(cx, number);
        self.announce(cx, number);
    }

    /// Now and then what has come is made safe and written down, so that little of it is hashed again after a crash.
    pub(super) fn save(&mut self, cx: &mut Cx<'_, Self>, number: u64) {
        let now = cx.now();
        let Some(torrent) = self.torrents.get_mut(&number) else { return };
        if torrent.fresh
            && !torrent.syncing
            && now - torrent.saved >= super::tick::SAVE
            && torrent.picker().is_some()
        {
            torrent.fresh = false;
            torrent.saved = now;
            torrent.sync(cx, Tag::Save);
        }
    }
}

#[cfg(test)]
mod tests {
    use p2p_core::{Job, Script, SimPeer, Worker};

    use super::*;
    use crate::storage::{MemoryFiles, Storage};
    use crate::torrent::command::{Add, SessionCommand, Source, TorrentError};
    use crate::torrent::status::TorrentStage;
    use crate::torrent::worker::MemoryTorrents;
    use crate::torrent::{CreateOptions, Format, Metainfo, SessionConfig};

    #[test]
    fn slices_are_runs_of_what_is_to_be_hashed() {
        let mut pieces = Bits::new(20);
        (0..20).filter(|piece| ![3, 4, 11].contains(piece)).for_each(|piece| _ = pieces.insert(piece));
        assert_eq!(slices(&pieces, 4), [0..3, 5..9, 9..11, 12..16, 16..20]);
        assert!(slices(&Bits::new(5), 4).is_empty());
    }

    #[test]
    fn all_slices_are_hashed_at_once_by_whichever_workers_have_time() {
        let mut files = MemoryFiles::default();
        for name in ["a", "b", "c"] {
            files.put(format!("t/{name}"), vec![name.as_bytes()[0]; 32_768]);
        }
        let options =
            CreateOptions { format: Format::V2, piece_length: Some(16_384), ..CreateOptions::default() };
        let metainfo = Metainfo::create(&mut files, "t".as_ref(), &options).unwrap();
        // Without the second file these are two runs.
        files.remove("t/b".as_ref()).unwrap();
        let mut worker = MemoryTorrents::new(files);
        let mut script = Script::<Session<SimPeer>>::new(Session::new(SessionConfig::default(), None));
        script.command(SessionCommand::Add(Add::new(Source::Metainfo(metainfo), "")));
        let mut slices = 0;
        for round in 0..2 {
            // The last that was handed out is the first to be done.
            for (id, job) in script.jobs().into_iter().rev() {
                assert_eq!(job.lane().is_none(), round == 1);
                slices += round;
                worker.run(vec![job]).into_iter().for_each(|done| script.done(id, done));
            }
        }
        let status = script.machine().status(TorrentId::first()).unwrap();
        assert_eq!((slices, status.stage, status.pieces), (2, TorrentStage::Downloading, 4));
    }

    /// What becomes of a torrent of three files in whose place these lie.
    fn takes(files: &MemoryFiles) -> (TorrentStage, Option<TorrentError>) {
        let mut disk = MemoryFiles::default();
        for (name, byte, length) in [("a", 1, 40_000), ("b", 2, 40_000), ("c", 3, 100)] {
            disk.put(format!("t/{name}"), vec![byte; length]);
        }
        let options = CreateOptions { piece_length: Some(16_384), ..CreateOptions::default() };
        let options = CreateOptions { format: Format::V1, ..options };
        let metainfo = Metainfo::create(&mut disk, "t".as_ref(), &options).unwrap();
        let mut script = Script::<Session<SimPeer>>::new(Session::new(SessionConfig::default(), None));
        script.command(SessionCommand::Add(Add::new(Source::Metainfo(metainfo), "")));
        crate::torrent::session::tests::work(&mut script, &mut MemoryTorrents::new(files.clone()));
        let status = script.machine().status(TorrentId::first()).unwrap();
        (status.stage, status.trouble)
    }

    #[test]
    fn a_file_of_which_nothing_is_right_is_somebodys() {
        let something_else =
            |path: &str| (TorrentStage::Failed, Some(StoreError::Exists(path.into()).into()));
        let goes_on = || (TorrentStage::Downloading, None);
        let full = |byte: u8, length: usize| Some(vec![byte; length]);
        let half = Some([vec![1; 20_000], vec![9; 20_000]].concat());
        for (there, becomes) in [
            ([full(9, 30_000), None, None], something_else("t/a")),
            ([full(1, 40_000), full(9, 40_000), None], something_else("t/b")),
            // It has no piece of its own, and nothing else says whose it is.
            ([None, None, full(9, 100)], something_else("t/c")),
            ([full(1, 40_000), None, full(9, 100)], goes_on()),
            ([full(1, 16_384), None, None], goes_on()),
            ([half, None, None], goes_on()),
            ([full(1, 40_000), full(2, 10_000), None], goes_on()),
            ([full(1, 0), None, None], goes_on()),
            ([None, None, None], goes_on()),
        ] {
            let files = MemoryFiles::default();
            let names = ["t/a", "t/b", "t/c"];
            for (name, bytes) in names.into_iter().zip(&there) {
                bytes.iter().for_each(|bytes| files.put(name, bytes.clone()));
            }
            assert_eq!(takes(&files), becomes);
            assert_eq!(names.map(|name| files.read(name)), there, "nothing is written");
        }
    }
}
