//! What is there of a torrent when it is opened.
//!
//! What its [record](super::record) says, where the files are as they were then; the other pieces of files that are there
//! are hashed, by all workers.

use std::io::ErrorKind;
use std::ops::Range;

use super::Torrent;
use super::arriving::Arriving;
use super::record::Record;
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
    /// Looks what is there, and makes the empty files that are not.
    pub(super) fn look(&mut self, storage: &mut S, trust: bool) -> Result<Output, StoreError> {
        let mut stamps = Vec::new();
        for (i, file) in self.info.files().iter().enumerate() {
            let path = self.path(i);
            let there = match file.kind {
                Kind::File => storage.kind(&path).map(Some),
                _ => Ok(None),
            };
            stamps.push(match there {
                Ok(None) => None,
                Ok(Some(FileKind::File)) => {
                    let stamp = storage.stamp(&path).map_err(at(&path))?;
                    // What is longer than it should be is something else.
                    if stamp.len > file.length {
                        return Err(StoreError::Exists(path));
                    }
                    Some(stamp)
                }
                Ok(Some(FileKind::Folder | FileKind::Symlink | FileKind::Special)) => {
                    return Err(StoreError::Exists(path));
                }
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(at(&path)(error)),
                Err(_) if file.length == 0 => {
                    storage.create(&path).map_err(at(&path))?;
                    Some(storage.stamp(&path).map_err(at(&path))?)
                }
                Err(_) => None,
            });
        }
        self.record = if trust { Record::load(storage, &self.folder, &self.info) } else { None };
        let (have, check) = self.believe(&stamps);
        Ok(Output::Opened { have, check })
    }

    /// Which pieces are there by the record, and which are to be hashed: those of which all files are there, and not all as
    /// they were.
    fn believe(&self, stamps: &[Option<Stamp>]) -> (Bits, Bits) {
        let pieces = self.info.piece_count();
        let (mut have, mut check) = (Bits::new(pieces.into()), Bits::new(pieces.into()));
        for piece in 0..pieces {
            let files = || self.info.spans(piece, 0, self.info.piece_len(piece)).map(|span| span.file);
            let unchanged = |record: &&Record| files().all(|file| record.files[file] == stamps[file]);
            match self.record.as_ref().filter(unchanged) {
                Some(record) if record.have.contains(piece.into()) => have.insert(piece.into()),
                Some(_) => false,
                None => files().all(|file| stamps[file].is_some()) && check.insert(piece.into()),
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

    /// Writes down what is there, all of it synced. That it cannot be, in a folder that is not to be written to perhaps, is
    /// no harm: then it is hashed again.
    pub(super) fn remember(&mut self, storage: &mut S, have: Bits) {
        let stamp = |(i, file): (usize, &crate::torrent::TorrentFile)| match file.kind {
            Kind::File => storage.stamp(&self.path(i)).ok(),
            _ => None,
        };
        let files = self.info.files().iter().enumerate().map(stamp).collect();
        let record = Record { have, files };
        if record.have.count() > 0
            && self.record.as_ref() != Some(&record)
            && record.save(storage, &self.folder, &self.info).is_ok()
        {
            self.record = Some(record);
        }
    }
}
