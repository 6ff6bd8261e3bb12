//! What is there of a torrent when it is opened.
//!
//! What its [record](super::record) says, where the files are as they were then; the other pieces of files that are there
//! are hashed, by all workers.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::Torrent;
use super::arriving::Arriving;
use super::record::{self, Record};
use crate::bits::Bits;
use crate::job::StoreError;
use crate::storage::{FileKind, Stamp, Storage};
use crate::torrent::job::Output;
use crate::torrent::merkle::BLOCK;
use crate::torrent::metainfo::Kind;
use crate::torrent::wire::Block;
use crate::worker::at;

/// Bytes that are read and hashed at a time. 256 KiB.
const CHUNK: u32 = 16 * BLOCK;

impl<S: Storage> Torrent<S> {
    /// Looks what is there, and makes the empty files that are not. What is in doubt was begun, though no record says so.
    pub(super) fn look(
        &mut self,
        storage: &mut S,
        trust: bool,
        doubtful: bool,
    ) -> Result<Output, StoreError> {
        let mut stamps = Vec::new();
        for (i, file) in self.info.files().iter().enumerate() {
            if file.kind != Kind::File {
                stamps.push(None);
                continue;
            }
            let path = self.path(i);
            stamps.push(match self.find(storage, i, &path)? {
                None if file.length == 0 => {
                    storage.create(&path).map_err(at(&path))?;
                    Some(storage.stamp(&path).map_err(at(&path))?)
                }
                there => there,
            });
        }
        let record = Record::load(storage, &self.folder, &self.info);
        let known = doubtful || record.is_some();
        let there = |stamp: &Option<Stamp>| stamp.is_some_and(|stamp| stamp.len > 0);
        let strange = (0..).zip(&stamps).filter(|(_, stamp)| !known && there(stamp)).map(|(file, _)| file);
        let strange = strange.collect();
        self.record = record.filter(|_| trust && !doubtful);
        let (have, check) = self.believe(&stamps);
        // Of the rest nobody knows whether what was hashed is synced.
        self.record.iter_mut().for_each(|record| record.have.clone_from(&have));
        self.stamps = stamps;
        self.proved = Bits::new(self.info.piece_count().into());
        Ok(Output::Opened { have, check, strange })
    }

    /// How a file is that should lie there, if it does. What is none, or is longer than it should be, is something else.
    pub(super) fn find(
        &self,
        storage: &mut S,
        file: usize,
        path: &Path,
    ) -> Result<Option<Stamp>, StoreError> {
        match storage.kind(path) {
            Ok(FileKind::File) => {}
            Ok(FileKind::Folder | FileKind::Symlink | FileKind::Special) => {
                return Err(StoreError::Exists(path.into()));
            }
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(at(path)(error)),
        }
        let stamp = storage.stamp(path).map_err(at(path))?;
        match stamp.len > self.info.files()[file].length {
            true => Err(StoreError::Exists(path.into())),
            false => Ok(Some(stamp)),
        }
    }

    /// Which pieces are there by the record, and which are to be hashed: those of which all files are there, and not all as
    /// they were.
    fn believe(&self, stamps: &[Option<Stamp>]) -> (Bits, Bits) {
        let pieces = self.info.piece_count();
        let (mut have, mut check) = (Bits::new(pieces.into()), Bits::new(pieces.into()));
        for piece in 0..pieces {
            let spans = || self.info.spans(piece, 0, self.info.piece_len(piece));
            let unchanged = |record: &&Record| {
                spans().all(|span| {
                    let reaches = |stamp: Stamp| stamp.len >= span.at + span.len as u64;
                    stamps[span.file].is_some_and(reaches) && record.files[span.file] == stamps[span.file]
                })
            };
            match self.record.as_ref().filter(unchanged) {
                Some(record) if record.have.contains(piece.into()) => have.insert(piece.into()),
                Some(_) => false,
                None => spans().all(|span| stamps[span.file].is_some()) && check.insert(piece.into()),
            };
        }
        (have, check)
    }

    /// Hashes some pieces.
    pub(super) fn check(
        mut self,
        storage: &mut S,
        pieces: Range<u32>,
        buffer: &mut Vec<u8>,
    ) -> Result<Output, StoreError> {
        let mut right = Vec::new();
        for piece in pieces {
            if self.is_right(storage, piece, buffer)? {
                right.push(piece);
            }
        }
        Ok(Output::Checked(right))
    }

    /// Whether a piece is there and right. A file that is too short, or not there, does not have it; of one that cannot
    /// be read nobody knows, and to fetch it again would write over what may be good.
    fn is_right(&mut self, storage: &mut S, piece: u32, buffer: &mut Vec<u8>) -> Result<bool, StoreError> {
        let Some(expected) = self.info.clone().expected(piece, &self.layers) else { return Ok(false) };
        let len = self.info.piece_len(piece);
        let mut arriving = Arriving::new(&expected, self.info.block_count(piece));
        for begin in (0..len).step_by(CHUNK as usize) {
            let length = CHUNK.min(len - begin);
            match self.read(storage, Block { piece, begin, length }, buffer) {
                Err(StoreError::Changed(_)) => return Ok(false),
                read => read?,
            }
            arriving.follow(&expected, buffer);
        }
        Ok(arriving.proves(&expected))
    }

    /// Before anything is written it is written down that the torrent has begun its files, and nothing else of them: so they
    /// are known for its own, whenever the process ends. Where that cannot be it is written all the same; but where there was
    /// no room there may be some when the next block comes.
    pub(super) fn begin(&mut self, storage: &mut S) {
        if self.record.is_some() {
            return;
        }
        let begun = Record::begun(&self.info);
        match begun.save(storage, &self.folder, &self.info) {
            Err(error) if matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded) => {}
            Ok(()) | Err(_) => self.record = Some(begun),
        }
    }

    /// Nothing that is written down of what is there is believed any more, but that it was begun.
    pub(super) fn forget(&mut self, storage: &mut S) {
        let begun = Record::begun(&self.info);
        self.record = match begun.save(storage, &self.folder, &self.info) {
            Ok(()) => Some(begun),
            Err(_) => {
                // If that cannot be removed either, how the files are must tell.
                let _ = storage.remove(&record::path(&self.folder, &self.info));
                None
            }
        };
    }

    /// Writes down what is there: these pieces, and those that have come while that was said. What has come is synced; what
    /// was hashed may never have been, by whoever wrote it, and is now. That nothing can be written down, in a folder that is
    /// not to be written to perhaps, is no harm: then it is hashed again.
    pub(super) fn remember(&mut self, storage: &mut S, mut have: Bits, doubtful: &mut BTreeSet<PathBuf>) {
        self.proved.iter().for_each(|piece| _ = have.insert(piece));
        let path = record::path(&self.folder, &self.info);
        if have.count() == 0 || doubtful.contains(&path) {
            return;
        }
        for file in self.hashed(&have) {
            let Ok(mut handle) = storage.open(&self.path(file)) else { return };
            if storage.sync(&mut handle).is_err() {
                doubtful.insert(path);
                return;
            }
        }
        // Of the other files it is known only how they were before they were hashed.
        for file in std::mem::take(&mut self.written) {
            let stamp = storage.stamp(&self.path(file)).ok();
            self.stamps.get_mut(file).into_iter().for_each(|before| *before = stamp);
        }
        let record = Record { have, files: self.stamps.clone() };
        if self.record.as_ref() != Some(&record) && record.save(storage, &self.folder, &self.info).is_ok() {
            self.record = Some(record);
        }
    }

    /// The files that have pieces which are not written down yet, and to which nothing was written.
    fn hashed(&self, have: &Bits) -> BTreeSet<usize> {
        let known = |piece: &u64| self.record.as_ref().is_some_and(|record| record.have.contains(*piece));
        let new = have.iter().filter(|piece| !known(piece)).map(|piece| piece as u32);
        let files =
            new.flat_map(|piece| self.info.spans(piece, 0, self.info.piece_len(piece)).map(|span| span.file));
        files.filter(|file| !self.written.contains(file)).collect()
    }
}
