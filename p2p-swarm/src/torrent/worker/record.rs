//! What was there when it was last synced, so that it need not be hashed each time.
//!
//! Beside a torrent's file, or folder, lies a file that says which pieces were found right, and of each file how long it was
//! and when it was last changed. It is written when all that it speaks of is synced, and takes the place of the one before
//! at once. A file that is not as it was then is hashed again. That it is there says that the torrent has begun its files, also
//! if it speaks of none.
//!
//! What comes later is written to other pieces than those that the record has. So these are there whatever a crash leaves of
//! what came later, and also where it undoes that the file was seen to change.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use data_encoding::HEXLOWER;
use p2p_dht::bencode::{self, Value};

use crate::bits::Bits;
use crate::storage::{Stamp, Storage};
use crate::torrent::metainfo::{Info, NEW, RESUME};

/// The longest record that is read: some 100 bytes for each of 100,000 files and a bit for each piece take less. 16 MiB.
const MAX_RECORD: u64 = 16 << 20;

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Record {
    /// The pieces that were found right.
    pub(super) have: Bits,
    /// How each file was; `None` if it was not there, or is a pad.
    pub(super) files: Vec<Option<Stamp>>,
}

/// What the torrent is known by.
fn name(info: &Info) -> Vec<u8> {
    let hashes = info.hashes();
    let (v1, v2) = (hashes.v1.as_ref().map(|v1| &v1[..]), hashes.v2.as_ref().map(|v2| &v2[..]));
    v2.or(v1).unwrap_or_default().to_vec()
}

/// Where a torrent's record lies.
pub(super) fn path(folder: &Path, info: &Info) -> PathBuf {
    folder.join(format!(".{}{RESUME}", HEXLOWER.encode(&name(info))))
}

/// What is to take the place of a record, while it is not safe.
pub(super) fn unfinished(record: &Path) -> PathBuf {
    record.with_extension(&NEW[1..])
}

/// Writes a file, so that it survives a crash.
fn write<S: Storage>(storage: &mut S, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = storage.create(path)?;
    storage.resize(&mut file, bytes.len() as u64)?;
    storage.write_at(&mut file, 0, bytes)?;
    storage.sync(&mut file)
}

impl Record {
    /// That a torrent has begun its files, and nothing of what is there of them.
    pub(super) fn begun(info: &Info) -> Record {
        Record { have: Bits::new(info.piece_count().into()), files: vec![None; info.files().len()] }
    }

    /// A dictionary: `files`, a list with a list of length, seconds and nanoseconds for each, empty for one that was not
    /// there; `info`, the torrent's hash; `pieces`, a bitfield as peers send it.
    fn encode(&self, info: &Info) -> Vec<u8> {
        bencode::dict(|d| {
            d.list("files", |files| {
                for file in &self.files {
                    files.list(|stamp| {
                        if let Some(Stamp { len, modified }) = file {
                            stamp.int(*len as i64);
                            stamp.int(modified.as_secs() as i64);
                            stamp.int(modified.subsec_nanos().into());
                        }
                    });
                }
            });
            d.bytes("info", name(info));
            d.bytes("pieces", self.have.to_bitfield());
        })
    }

    fn decode(bytes: &[u8], info: &Info) -> Option<Record> {
        let record = Value::decode(bytes).ok()?;
        if record.get("info")?.as_bytes()? != name(info) {
            return None;
        }
        let stamp = |file: Value<'_>| {
            let numbers: Option<Vec<u64>> =
                file.items().map(|number| u64::try_from(number.as_int()?).ok()).collect();
            match numbers?[..] {
                [] => Some(None),
                [len, seconds, nanos] if nanos < 1_000_000_000 => {
                    Some(Some(Stamp { len, modified: Duration::new(seconds, nanos as u32) }))
                }
                _ => None,
            }
        };
        let files: Vec<Option<Stamp>> = record.get("files")?.items().map(stamp).collect::<Option<_>>()?;
        let have = Bits::from_bitfield(record.get("pieces")?.as_bytes()?, info.piece_count().into())?;
        (files.len() == info.files().len()).then_some(Record { have, files })
    }

    /// What is written down of a torrent; nothing if that cannot be read, or is of another.
    pub(super) fn load<S: Storage>(storage: &mut S, folder: &Path, info: &Info) -> Option<Record> {
        let mut file = storage.open(&path(folder, info)).ok()?;
        let length = storage.len(&mut file).ok().filter(|length| *length <= MAX_RECORD)?;
        let mut bytes = Vec::new();
        storage.read_at(&mut file, 0, length as usize, &mut bytes).ok()?;
        Record::decode(&bytes, info)
    }

    /// Writes it down, in place of what was. If that fails nothing new is left.
    pub(super) fn save<S: Storage>(&self, storage: &mut S, folder: &Path, info: &Info) -> io::Result<()> {
        let path = path(folder, info);
        let new = unfinished(&path);
        let saved = write(storage, &new, &self.encode(info)).and_then(|()| storage.rename(&new, &path));
        if saved.is_err() {
            let _ = storage.remove(&new);
        }
        saved
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::MemoryFiles;
    use crate::torrent::{CreateOptions, Metainfo};

    #[test]
    fn a_record_is_read_as_it_was_written_and_of_no_other_torrent() {
        let mut files = MemoryFiles::default();
        let mut make = |len: usize| {
            files.put("t/a", vec![1; len]);
            files.put("t/b", Vec::new());
            let options = CreateOptions { piece_length: Some(16384), ..CreateOptions::default() };
            Metainfo::create(&mut files, "t".as_ref(), &options).unwrap().info().clone()
        };
        let (info, other) = (make(100_000), make(100_001));
        let mut have = Bits::new(7);
        [0, 3, 6].iter().for_each(|piece| _ = have.insert(*piece));
        let stamp = Stamp { len: 100_000, modified: Duration::new(1 << 40, 999_999_999) };
        let record = Record { have, files: vec![Some(stamp), None] };
        let mut disk = MemoryFiles::default();
        assert_eq!(Record::load(&mut disk, "x".as_ref(), &info), None);
        record.save(&mut disk, "x".as_ref(), &info).unwrap();
        assert_eq!(Record::load(&mut disk, "x".as_ref(), &info).as_ref(), Some(&record));
        assert_eq!(disk.names(), [path("x".as_ref(), &info)], "and nothing else is left");
        let bytes = record.encode(&info);
        assert_eq!(Record::decode(&bytes, &other), None);
        for at in 0..bytes.len() {
            assert_eq!(Record::decode(&bytes[..at], &info), None);
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            // It is none, or another: nothing panics.
            assert_ne!(Record::decode(&damaged, &info).as_ref(), Some(&record), "byte {at}");
        }
    }
}
