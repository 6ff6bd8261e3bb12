//! A blob that is not all there yet, and how it survives a crash.
//!
//! Beside `song.ogg` to be lie `song.ogg.p2p-part`, which has the blob's bytes where they belong, and
//! `song.ogg.p2p-groups`, its *record*: a header of 512 bytes (the 16 bytes `p2p-groups/1`, zeros to fill; the root;
//! the size, 8 bytes big-endian; BLAKE3 of all that; zeros) and then, for each group, the chaining value that its bytes
//! were verified to have, or zeros.
//!
//! After a crash either file may have any mixture of old and new sectors, whatever was synced first, and no order of
//! syncs would tell a torn sector from a whole one. So nothing is believed: **a group is there if its bytes, hashed
//! again, give the value in the record.** The record only ever gets values that the root had proved, and a bit of it
//! that did not get through can no more match the bytes than a hash can be forged. Syncing (every 64 MiB, and every
//! second) is not for truth, then, but so that little is fetched twice; and at the end the root is computed from all
//! the values once more, so that a record from elsewhere cannot do harm either. Hashing goes at gigabytes in the
//! second; it is the only time that data is read back.

use std::path::PathBuf;
use std::sync::Arc;

use blake3::hazmat::ChainingValue;
use bytes::Bytes;
use p2p_core::Key;

use super::{CHUNK, SLICE, at};
use crate::bits::Bits;
use crate::job::{Blob, Output, Source, StoreError, Target};
use crate::manifest::{GROUPS, PART};
use crate::runs::{RUN, bytes_of, groups_of, run_count};
use crate::storage::{FileKind, Storage};
use crate::tree::{Outboard, TreeBuilder, group_count, hash_groups, verify};

const MAGIC: [u8; 16] = *b"p2p-groups/1\0\0\0\0";
/// Where the values begin: a multiple of a sector, so that a run's values lie in one.
const HEADER: usize = 512;
/// The value of a group that is not there. No bytes are known that have it.
const ABSENT: ChainingValue = [0; 32];

/// One fetch's files, and the values of the groups that are there: 2 MiB for a GiB.
pub(super) struct Partial<S: Storage> {
    root: Key,
    place: Place<S::File>,
    size: Option<u64>,
    groups: Vec<ChainingValue>,
    /// What is still to be hashed of what was there: from which run on, and those that were good.
    checking: Option<(u64, Bits)>,
    dirty: bool,
}

enum Place<F> {
    /// There is a file already where the target is to be. Perhaps it is the blob.
    There {
        file: F,
        builder: TreeBuilder,
        names: Names,
    },
    File {
        names: Names,
        data: F,
        values: F,
    },
    Memory {
        max: u64,
        bytes: Vec<u8>,
    },
}

/// What a blob's files are called.
struct Names {
    target: PathBuf,
    part: PathBuf,
    record: PathBuf,
}

impl Names {
    fn new(target: PathBuf) -> Names {
        let beside = |ending| {
            let mut name = target.clone().into_os_string();
            name.push(ending);
            PathBuf::from(name)
        };
        Names { part: beside(PART), record: beside(GROUPS), target }
    }
}

impl<S: Storage> Partial<S> {
    /// Opens what is there of a target.
    pub(super) fn open(storage: &mut S, root: Key, target: Target) -> Result<Partial<S>, StoreError> {
        let empty =
            |place| Partial { root, place, size: None, groups: Vec::new(), checking: None, dirty: false };
        let names = match target {
            Target::Memory { max } => return Ok(empty(Place::Memory { max, bytes: Vec::new() })),
            Target::File(target) => Names::new(target),
        };
        match storage.kind(&names.target) {
            Ok(FileKind::File) => {
                let file = storage.open(&names.target).map_err(at(&names.target))?;
                return Ok(empty(Place::There { file, builder: TreeBuilder::default(), names }));
            }
            Ok(FileKind::Folder | FileKind::Symlink | FileKind::Special) => {
                return Err(StoreError::Exists(names.target));
            }
            Err(_) => {}
        }
        let data = storage.create(&names.part).map_err(at(&names.part))?;
        let mut values = storage.create(&names.record).map_err(at(&names.record))?;
        let (mut groups, mut checking) = (Vec::new(), None);
        let size = read_header(storage, &mut values, &root);
        if let Some(size) = size {
            groups = read_values(storage, &mut values, group_count(size)).map_err(at(&names.record))?;
            checking = Some((0, Bits::new(run_count(size))));
        }
        let place = Place::File { names, data, values };
        Ok(Partial { root, place, size, groups, checking, dirty: false })
    }

    /// Hashes on what is there.
    pub(super) fn check(&mut self, storage: &mut S, buffer: &mut Vec<u8>) -> Result<Output, StoreError> {
        match &mut self.place {
            Place::There { file, builder, names } => {
                if !hash_on(storage, file, builder, buffer).map_err(at(&names.target))? {
                    return Ok(Output::Checking);
                }
                let outboard = std::mem::take(builder).finish();
                if outboard.root() != self.root {
                    return Err(StoreError::Exists(names.target.clone()));
                }
                // A crash between the last two steps of an earlier fetch leaves its record.
                if storage.kind(&names.record).is_ok() {
                    storage.remove(&names.record).map_err(at(&names.record))?;
                }
                let source = Source::File(names.target.clone());
                Ok(Output::Finished(Blob { source, outboard: Arc::new(outboard) }))
            }
            Place::File { data, .. } => {
                let Some((next, present)) = &mut self.checking else { return Ok(Output::Opened(None)) };
                let size = self.size.unwrap_or_default();
                let mut budget = SLICE;
                while *next < run_count(size) {
                    if budget == 0 {
                        return Ok(Output::Checking);
                    }
                    let run = *next;
                    *next += 1;
                    let (groups, bytes) = (groups_of(size, run), bytes_of(size, run));
                    let values = &mut self.groups[groups.start as usize..groups.end as usize];
                    if values.contains(&ABSENT) {
                        values.fill(ABSENT);
                        continue;
                    }
                    // A file that is too short, or cannot be read there, does not have this run.
                    let read = storage.read_at(data, bytes.start, (bytes.end - bytes.start) as usize, buffer);
                    if read.is_ok() && hash_groups(group_count(size), groups.start, buffer) == values {
                        present.insert(run);
                    } else {
                        values.fill(ABSENT);
                    }
                    budget = budget.saturating_sub(RUN as u64);
                }
                let present = std::mem::take(present);
                self.checking = None;
                Ok(Output::Opened(Some((size, present))))
            }
            Place::Memory { .. } => Ok(Output::Opened(None)),
        }
    }

    /// Verifies a run and writes it.
    pub(super) fn write(
        &mut self,
        storage: &mut S,
        run: u64,
        size: u64,
        data: &[u8],
        proof: &[ChainingValue],
    ) -> Result<Output, StoreError> {
        let last = run + 1 == run_count(size);
        if self.size.map_or(!last, |known| known != size) {
            return Ok(Output::NotProved);
        }
        let groups = groups_of(size, run);
        let Ok(values) = verify(&self.root, size, groups.clone(), data, proof) else {
            return Ok(Output::NotProved);
        };
        if self.size.is_none() {
            self.begin(storage, size)?;
        }
        let start = bytes_of(size, run).start;
        self.groups[groups.start as usize..groups.end as usize].copy_from_slice(&values);
        match &mut self.place {
            Place::File { names, data: file, values: kept } => {
                storage.write_at(file, start, data).map_err(at(&names.part))?;
                let place = HEADER as u64 + groups.start * ABSENT.len() as u64;
                storage.write_at(kept, place, values.as_flattened()).map_err(at(&names.record))?;
            }
            Place::There { .. } => return Err(StoreError::NotOpen),
            Place::Memory { bytes, .. } => bytes[start as usize..][..data.len()].copy_from_slice(data),
        }
        self.dirty = true;
        Ok(Output::Written)
    }

    /// The size is proved: makes room.
    fn begin(&mut self, storage: &mut S, size: u64) -> Result<(), StoreError> {
        match &mut self.place {
            Place::File { names, data, values } => {
                storage.resize(data, size).map_err(at(&names.part))?;
                // What another blob's record says of its groups must not be taken for this one's.
                storage.resize(values, 0).map_err(at(&names.record))?;
                storage.write_at(values, 0, &header(&self.root, size)).map_err(at(&names.record))?;
            }
            Place::There { .. } => return Err(StoreError::NotOpen),
            Place::Memory { max, .. } if size > *max => return Err(StoreError::TooLong { size, max: *max }),
            Place::Memory { bytes, .. } => bytes.resize(size as usize, 0),
        }
        self.groups = vec![ABSENT; group_count(size) as usize];
        self.size = Some(size);
        Ok(())
    }

    /// Makes what was written survive a crash.
    pub(super) fn sync(&mut self, storage: &mut S) -> Result<(), StoreError> {
        if let Place::File { names, data, values } = &mut self.place
            && self.dirty
        {
            storage.sync(data).map_err(at(&names.part))?;
            storage.sync(values).map_err(at(&names.record))?;
        }
        self.dirty = false;
        Ok(())
    }

    /// Puts the blob, which is all there, in its place.
    pub(super) fn finish(mut self, storage: &mut S) -> Result<Blob, StoreError> {
        let size = self.size.ok_or(StoreError::NotOpen)?;
        let outboard = Outboard::from_groups(size, std::mem::take(&mut self.groups));
        self.sync(storage)?;
        let proved = outboard.root() == self.root;
        let source = match self.place {
            Place::File { names, .. } if !proved => {
                // Somebody made the record up: the next fetch starts anew.
                storage.remove(&names.record).map_err(at(&names.record))?;
                return Err(StoreError::Changed(names.part));
            }
            Place::File { names, .. } => {
                storage.rename(&names.part, &names.target).map_err(at(&names.target))?;
                storage.remove(&names.record).map_err(at(&names.record))?;
                Source::File(names.target)
            }
            Place::Memory { bytes, .. } => Source::Memory(Bytes::from(bytes)),
            Place::There { .. } => return Err(StoreError::NotOpen),
        };
        Ok(Blob { source, outboard: Arc::new(outboard) })
    }
}

/// Hashes a file on for a slice; says whether that is all of it.
fn hash_on<S: Storage>(
    storage: &mut S,
    file: &mut S::File,
    builder: &mut TreeBuilder,
    buffer: &mut Vec<u8>,
) -> std::io::Result<bool> {
    let size = storage.len(file)?;
    let end = size.min(builder.len() + SLICE);
    while builder.len() < end {
        let len = (end - builder.len()).min(CHUNK as u64) as usize;
        storage.read_at(file, builder.len(), len, buffer)?;
        builder.update(buffer);
    }
    Ok(builder.len() >= size)
}

fn header(root: &Key, size: u64) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    header[..16].copy_from_slice(&MAGIC);
    header[16..48].copy_from_slice(root.as_bytes());
    header[48..56].copy_from_slice(&size.to_be_bytes());
    let check = blake3::hash(&header[..56]);
    header[56..88].copy_from_slice(check.as_bytes());
    header
}

/// The size that a record of this root's blob states.
fn read_header<S: Storage>(storage: &mut S, values: &mut S::File, root: &Key) -> Option<u64> {
    let mut found = Vec::new();
    storage.read_at(values, 0, HEADER, &mut found).ok()?;
    let size = u64::from_be_bytes(*found.get(48..)?.first_chunk()?);
    (found == header(root, size)).then_some(size)
}

/// The values in a record, which may have lost its end.
fn read_values<S: Storage>(
    storage: &mut S,
    values: &mut S::File,
    count: u64,
) -> std::io::Result<Vec<ChainingValue>> {
    let there = storage.len(values)?.saturating_sub(HEADER as u64) / ABSENT.len() as u64;
    let (mut bytes, len) = (Vec::new(), there.min(count) as usize * ABSENT.len());
    storage.read_at(values, HEADER as u64, len, &mut bytes)?;
    let mut groups = bytes.as_chunks().0.to_vec();
    groups.resize(count as usize, ABSENT);
    Ok(groups)
}
