//! Whoever does a session's jobs: hashes what comes, and writes it where it belongs.
//!
//! A block is written as soon as it comes, and hashed while it is in the processor's cache: for the second version it is
//! a leaf by itself; for the first the blocks of a piece are hashed in order, and those that come early wait in memory.
//! So nothing is read back but to resume, to tell who has lied, and where more came early than may wait.
//!
//! - `arriving`: a piece that is not whole;
//! - `looking`: what is there when a torrent is opened, and that it was begun;
//! - `moving`: its files go to another folder;
//! - `record`: what is written down of that, so that it need not be hashed each time.

mod arriving;
mod looking;
mod moving;
mod record;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use p2p_core::Worker;
use sha1::Digest;

use super::job::{Output, TorrentDone, TorrentJob, Work};
use super::merkle::BLOCK;
use super::metainfo::{Info, PieceLayers};
use super::wire::Block;
use crate::bits::Bits;
use crate::job::StoreError;
use crate::storage::{Files, MemoryFiles, Stamp, Storage};
use crate::worker::{at, changed};

use arriving::Arriving;
use record::Record;

/// Files of one torrent that are open at a time. 64.
const MAX_OPEN: usize = 64;
/// Files of all torrents that are; those that are hashed to see what is there aside. 256.
const MAX_OPEN_ALL: usize = 256;

/// Does the jobs of a [`Session`](super::Session). A session may have several, each on its thread: the jobs of one torrent
/// go to one.
pub struct TorrentWorker<S: Storage> {
    storage: S,
    /// As many as the session has.
    torrents: BTreeMap<u64, Torrent<S>>,
    buffer: Vec<u8>,
    /// Files that are open.
    open: usize,
    jobs: u64,
    /// Where records lay of torrents of which a file could not be made safe: one for each such torrent. To try again says
    /// nothing, since the system may have dropped what it could not write; so none is believed any more, or written but to say
    /// that the torrent was begun.
    doubtful: BTreeSet<PathBuf>,
}

/// Works on the system's files.
pub type FileTorrents = TorrentWorker<Files>;
/// Works in memory: for simulations.
pub type MemoryTorrents = TorrentWorker<MemoryFiles>;

/// A torrent whose files are open.
struct Torrent<S: Storage> {
    info: Arc<Info>,
    layers: Arc<PieceLayers>,
    folder: PathBuf,
    /// The files that are open, and whether for writing.
    files: BTreeMap<usize, (S::File, bool)>,
    /// The last job that it had.
    used: u64,
    /// What went wrong when its files were closed to make room for another's: its next job says so.
    failed: Option<StoreError>,
    /// What was last written down of what is there, as far as it is believed.
    record: Option<Record>,
    /// How each file was when it was opened, or when what was written to it was last written down.
    stamps: Vec<Option<Stamp>>,
    /// Files that were written to since.
    written: BTreeSet<usize>,
    /// Pieces that have come and were found right.
    proved: Bits,
    /// Pieces that are not whole: at most as many as the session has begun.
    arriving: BTreeMap<u32, Arriving>,
}

impl<S: Storage> TorrentWorker<S> {
    /// A worker on this storage.
    pub fn new(storage: S) -> TorrentWorker<S> {
        let (torrents, doubtful) = (BTreeMap::new(), BTreeSet::new());
        TorrentWorker { storage, torrents, buffer: Vec::new(), open: 0, jobs: 0, doubtful }
    }

    fn one(&mut self, number: u64, work: Work) -> Result<Output, StoreError> {
        if let Work::Check { info, layers, folder, pieces } = work {
            // Whichever worker has time does that: it opens the files for itself.
            return Torrent::new(info, layers, folder, 0).check(&mut self.storage, pieces, &mut self.buffer);
        }
        self.make_room(number);
        let before = self.files_of(number);
        let closes = matches!(work, Work::Close { .. });
        let done = self.work(number, work);
        if let Err(error) = &done {
            self.distrust(number, error);
        }
        if closes {
            self.torrents.remove(&number);
        }
        self.open = self.open - before + self.files_of(number);
        done
    }

    /// Something went wrong: what is written down of the torrent may not be so any more.
    fn distrust(&mut self, number: u64, error: &StoreError) {
        let Some(torrent) = self.torrents.get_mut(&number) else { return };
        match error {
            StoreError::Unsynced { .. } => {
                self.doubtful.insert(record::path(&torrent.folder, &torrent.info));
            }
            StoreError::Changed(_) => {}
            _ => return,
        }
        torrent.forget(&mut self.storage);
    }

    fn files_of(&self, number: u64) -> usize {
        self.torrents.get(&number).map_or(0, |torrent| torrent.files.len())
    }

    /// Closes files of the torrents that had nothing to do for longest, until this one can open as many as it may.
    fn make_room(&mut self, number: u64) {
        self.jobs += 1;
        if let Some(torrent) = self.torrents.get_mut(&number) {
            torrent.used = self.jobs;
        }
        while self.open - self.files_of(number) > MAX_OPEN_ALL - MAX_OPEN {
            let others =
                self.torrents.iter_mut().filter(|(of, torrent)| **of != number && !torrent.files.is_empty());
            let Some((of, oldest)) = others.min_by_key(|(_, torrent)| torrent.used) else { return };
            let (of, synced) = (*of, oldest.sync(&mut self.storage));
            self.open -= oldest.files.len();
            oldest.files.clear();
            if let Err(error) = synced {
                oldest.failed = Some(error.clone());
                self.distrust(of, &error);
            }
        }
    }

    fn work(&mut self, number: u64, work: Work) -> Result<Output, StoreError> {
        let TorrentWorker { storage, torrents, buffer, doubtful, .. } = self;
        if let Work::Open { info, layers, folder, trust } = work {
            // If one of this number is open, what was written could not be made safe, or the machine that had it has died.
            if let Some(before) = torrents.get_mut(&number) {
                before.sync(storage)?;
                torrents.remove(&number);
            }
            let doubtful = doubtful.contains(&record::path(&folder, &info));
            let torrent = torrents.entry(number).or_insert(Torrent::new(info, layers, folder, self.jobs));
            return torrent.look(storage, trust, doubtful);
        }
        let torrent = torrents.get_mut(&number).ok_or(StoreError::NotOpen)?;
        if let Some(error) = torrent.failed.take() {
            return Err(error);
        }
        match work {
            Work::Open { .. } | Work::Check { .. } => Err(StoreError::NotOpen),
            Work::Write { piece, begin, data } => {
                torrent.begin(storage);
                torrent.write(storage, piece, begin, data, buffer)
            }
            Work::Digests { piece } => {
                let blocks = (0..torrent.info.block_count(piece)).map(|block| block * BLOCK);
                let len = torrent.info.piece_len(piece);
                let mut digests = Vec::new();
                for begin in blocks {
                    torrent.read(storage, Block { piece, begin, length: BLOCK.min(len - begin) }, buffer)?;
                    digests.push(blake3::hash(buffer).into());
                }
                Ok(Output::Digests(digests))
            }
            Work::Read(block) => {
                let mut data = Vec::new();
                torrent.read(storage, block, &mut data)?;
                Ok(Output::Read(data.into()))
            }
            Work::Sync { have } => {
                torrent.sync(storage)?;
                torrent.remember(storage, have, doubtful);
                Ok(Output::Synced)
            }
            Work::Move { to } => {
                let before = record::path(&torrent.folder, &torrent.info);
                torrent.move_to(storage, to)?;
                if doubtful.contains(&before) {
                    doubtful.insert(record::path(&torrent.folder, &torrent.info));
                }
                Ok(Output::Moved)
            }
            Work::Close { have } => {
                torrent.sync(storage)?;
                have.into_iter().for_each(|have| torrent.remember(storage, have, doubtful));
                Ok(Output::Closed)
            }
        }
    }
}

impl<S: Storage> Torrent<S> {
    fn new(info: Arc<Info>, layers: Arc<PieceLayers>, folder: PathBuf, used: u64) -> Torrent<S> {
        Torrent {
            info,
            layers,
            folder,
            files: BTreeMap::new(),
            used,
            failed: None,
            record: None,
            stamps: Vec::new(),
            written: BTreeSet::new(),
            proved: Bits::default(),
            arriving: BTreeMap::new(),
        }
    }

    fn path(&self, file: usize) -> PathBuf {
        self.folder.join(&self.info.files()[file].path)
    }

    /// A file for reading, or for both.
    fn file(&mut self, storage: &mut S, file: usize, writing: bool) -> Result<&mut S::File, StoreError> {
        let usable = self.files.get(&file).is_some_and(|(_, writable)| *writable || !writing);
        if !usable {
            let path = self.path(file);
            let handle = match writing {
                true => {
                    let mut handle = storage.create(&path).map_err(at(&path))?;
                    let length = self.info.files()[file].length;
                    if storage.len(&mut handle).map_err(at(&path))? < length {
                        storage.resize(&mut handle, length).map_err(at(&path))?;
                    }
                    handle
                }
                false => storage.open(&path).map_err(|error| match error.kind() {
                    ErrorKind::NotFound => StoreError::Changed(path),
                    _ => at(&path)(error),
                })?,
            };
            if self.files.len() >= MAX_OPEN
                && let Some((first, (mut handle, writable))) = self.files.pop_first()
                && writable
                && let Err(error) = storage.sync(&mut handle)
            {
                self.files.insert(first, (handle, writable));
                return Err(unsynced(&self.path(first))(error));
            }
            self.files.insert(file, (handle, writing));
        }
        self.files.get_mut(&file).map(|(handle, _)| handle).ok_or(StoreError::NotOpen)
    }

    fn write(
        &mut self,
        storage: &mut S,
        piece: u32,
        begin: u32,
        data: Bytes,
        buffer: &mut Vec<u8>,
    ) -> Result<Output, StoreError> {
        let expected = self.info.expected(piece, &self.layers).ok_or(StoreError::NotOpen)?;
        let info = self.info.clone();
        for span in info.spans(piece, begin, data.len() as u32) {
            let path = self.path(span.file);
            self.written.insert(span.file);
            let file = self.file(storage, span.file, true)?;
            storage.write_at(file, span.at, &data[span.within..][..span.len]).map_err(at(&path))?;
        }
        let blocks = info.block_count(piece);
        let arriving = self.arriving.entry(piece).or_insert_with(|| Arriving::new(&expected, blocks));
        arriving.add(&expected, begin / BLOCK, data);
        if !arriving.came.is_full() {
            return Ok(Output::Written);
        }
        let Some(mut arriving) = self.arriving.remove(&piece) else { return Ok(Output::Wrong) };
        while let Some(sha1) = arriving.sha1.as_mut().filter(|_| arriving.next < blocks) {
            // It came when there was no room for it to wait.
            let length = BLOCK.min(info.piece_len(piece) - arriving.next * BLOCK);
            let block = Block { piece, begin: arriving.next * BLOCK, length };
            if let Err(error) = self.read(storage, block, buffer) {
                // When the last comes again it is tried again.
                arriving.came.remove((begin / BLOCK).into());
                self.arriving.insert(piece, arriving);
                return Err(error);
            }
            sha1.update(&*buffer);
            arriving.next += 1;
        }
        match arriving.proves(&expected) {
            true => {
                self.proved.insert(piece.into());
                Ok(Output::Verified)
            }
            false => Ok(Output::Wrong),
        }
    }

    fn read(&mut self, storage: &mut S, block: Block, buffer: &mut Vec<u8>) -> Result<(), StoreError> {
        let Block { piece, begin, length } = block;
        let info = self.info.clone();
        let mut spans = info.spans(piece, begin, length);
        let first = spans.next();
        // Most blocks lie in one file.
        if let Some(span) = first.filter(|span| span.len == length as usize) {
            let path = self.path(span.file);
            let file = self.file(storage, span.file, false)?;
            return storage.read_at(file, span.at, span.len, buffer).map_err(changed(&path));
        }
        let mut whole = vec![0; length as usize];
        for span in first.into_iter().chain(spans) {
            let path = self.path(span.file);
            let file = self.file(storage, span.file, false)?;
            storage.read_at(file, span.at, span.len, buffer).map_err(changed(&path))?;
            whole[span.within..][..span.len].copy_from_slice(buffer);
        }
        *buffer = whole;
        Ok(())
    }

    fn sync(&mut self, storage: &mut S) -> Result<(), StoreError> {
        for (i, (file, _)) in self.files.iter_mut().filter(|(_, (_, writable))| *writable) {
            let path = self.folder.join(&self.info.files()[*i].path);
            storage.sync(file).map_err(unsynced(&path))?;
        }
        Ok(())
    }
}

/// Says which file it is that could not be made safe.
fn unsynced(path: &Path) -> impl Fn(io::Error) -> StoreError {
    move |error| StoreError::Unsynced { path: path.into(), what: error.to_string() }
}

impl<S: Storage> Worker<TorrentJob> for TorrentWorker<S> {
    fn run(&mut self, batch: Vec<TorrentJob>) -> Vec<TorrentDone> {
        let done =
            |TorrentJob { torrent, tag, work }| TorrentDone { torrent, tag, result: self.one(torrent, work) };
        batch.into_iter().map(done).collect()
    }
}

impl<S: Storage> fmt::Debug for TorrentWorker<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TorrentWorker").field("torrents", &self.torrents.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
