//! A torrent's files go to another folder.
//!
//! Nothing is written over there, now or by what is still to come, and either all of them go or none: if one cannot be moved,
//! those that were go back. Between file systems, where there is no renaming, a file is copied, and removed when its copy is
//! safe. Folders that are left empty stay.
//!
//! If the process ends meanwhile each file is whole, in the one folder or in the other, and known in both for the torrent's own:
//! before the first goes it is written down there that it was begun. A copy has its name only when it is safe. Until then it is
//! what a record that is being written is, which the next takes the place of.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use super::Torrent;
use super::record::{self, Record};
use crate::job::StoreError;
use crate::storage::{Stamp, Storage};
use crate::torrent::metainfo::{Kind, TorrentFile};
use crate::worker::at;

/// Bytes that are copied at a time. 1 MiB.
const CHUNK: u64 = 1 << 20;

impl<S: Storage> Torrent<S> {
    /// Moves what is there; what has come so far is synced first.
    pub(super) fn move_to(&mut self, storage: &mut S, to: PathBuf) -> Result<(), StoreError> {
        if to == self.folder {
            return Ok(());
        }
        self.sync(storage)?;
        let known = Record::load(storage, &to, &self.info).is_some();
        let there = self.leaving(storage, &to, known)?;
        let begun = Record::begun(&self.info);
        let claimed = !there.is_empty() && begun.save(storage, &to, &self.info).is_ok();
        let new = |file: usize| to.join(&self.info.files()[file].path);
        let copies = |folder: &Path| record::unfinished(&record::path(folder, &self.info));
        self.files.clear();
        let before: Vec<Option<Stamp>> =
            there.iter().map(|file| storage.stamp(&self.path(*file)).ok()).collect();
        for (done, file) in there.iter().enumerate() {
            if let Err(error) = move_file(storage, &self.path(*file), &new(*file), &copies(&to)) {
                let mut left = false;
                for back in &there[..done] {
                    // What cannot go back is missing here, and found to be.
                    left |=
                        move_file(storage, &new(*back), &self.path(*back), &copies(&self.folder)).is_err();
                }
                if claimed && !known && !left {
                    let _ = storage.remove(&record::path(&to, &self.info));
                }
                return Err(at(&new(*file))(error));
            }
        }
        // What speaks of files that were copied is not believed, and written anew.
        let record = record::path(&self.folder, &self.info);
        if storage.rename(&record, &record::path(&to, &self.info)).is_err() {
            let _ = storage.remove(&record);
            self.record = claimed.then_some(begun);
        }
        self.folder = to;
        for (file, before) in there.into_iter().zip(before) {
            // What others have changed since it was hashed is not what it was.
            if self.stamps[file] == before {
                self.stamps[file] = storage.stamp(&self.path(file)).ok();
            }
        }
        Ok(())
    }

    /// The files that are there, and go. Nothing may lie in their place, nor in that of those that have not come yet; unless it
    /// is known there for the torrent's own, as what a move that was cut short has left.
    fn leaving(&self, storage: &mut S, to: &Path, known: bool) -> Result<Vec<usize>, StoreError> {
        let mut leaving = Vec::new();
        for (file, TorrentFile { path, kind, .. }) in self.info.files().iter().enumerate() {
            if *kind != Kind::File {
                continue;
            }
            let goes = storage.kind(&self.path(file)).is_ok();
            let new = to.join(path);
            if self.find(storage, file, &new)?.is_some() && (goes || !known) {
                return Err(StoreError::Exists(new));
            }
            if goes {
                leaving.push(file);
            }
        }
        Ok(leaving)
    }
}

/// Moves a file to where there is none. If it fails it is where it was.
fn move_file<S: Storage>(storage: &mut S, from: &Path, to: &Path, copy: &Path) -> io::Result<()> {
    match storage.rename(from, to) {
        Err(error) if error.kind() == ErrorKind::CrossesDevices => {}
        renamed => return renamed,
    }
    if let Err(error) = write_copy(storage, from, copy).and_then(|()| storage.rename(copy, to)) {
        let _ = storage.remove(copy);
        return Err(error);
    }
    storage.remove(from).inspect_err(|_| _ = storage.remove(to))
}

/// Copies a file over whatever is there, safely.
fn write_copy<S: Storage>(storage: &mut S, from: &Path, copy: &Path) -> io::Result<()> {
    let (mut old, mut new) = (storage.open(from)?, storage.create(copy)?);
    let length = storage.len(&mut old)?;
    storage.resize(&mut new, length)?;
    let mut buffer = Vec::new();
    for at in (0..length).step_by(CHUNK as usize) {
        storage.read_at(&mut old, at, CHUNK.min(length - at) as usize, &mut buffer)?;
        storage.write_at(&mut new, at, &buffer)?;
    }
    storage.sync(&mut new)
}

#[cfg(test)]
mod tests;
