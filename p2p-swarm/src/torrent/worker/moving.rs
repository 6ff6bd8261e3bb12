//! A torrent's files go to another folder.
//!
//! Nothing is written over there, and either all of them go or none: if one cannot be moved, those that were go back. Between
//! file systems, where there is no renaming, a file is copied, and removed when its copy is safe. Folders that are left empty
//! stay.
//!
//! If the process ends meanwhile each file is whole, in the one folder or in the other: a copy has its name only when it is
//! safe. Until then it is what a record that is being written is, which the next takes the place of.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use super::{Torrent, record};
use crate::job::StoreError;
use crate::storage::{Stamp, Storage};
use crate::torrent::metainfo::Kind;
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
        let there: Vec<usize> = (0..self.info.files().len())
            .filter(|file| {
                self.info.files()[*file].kind == Kind::File && storage.kind(&self.path(*file)).is_ok()
            })
            .collect();
        let new = |file: usize| to.join(&self.info.files()[file].path);
        let copies = |folder: &Path| record::unfinished(&record::path(folder, &self.info));
        for path in there.iter().map(|file| new(*file)) {
            match storage.kind(&path) {
                Ok(_) => return Err(StoreError::Exists(path)),
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(at(&path)(error)),
            }
        }
        self.files.clear();
        let before: Vec<Option<Stamp>> =
            there.iter().map(|file| storage.stamp(&self.path(*file)).ok()).collect();
        for (done, file) in there.iter().enumerate() {
            if let Err(error) = move_file(storage, &self.path(*file), &new(*file), &copies(&to)) {
                for back in &there[..done] {
                    // What cannot go back is missing here, and found to be.
                    let _ = move_file(storage, &new(*back), &self.path(*back), &copies(&self.folder));
                }
                return Err(at(&new(*file))(error));
            }
        }
        // What speaks of files that were copied is not believed, and written anew.
        let record = record::path(&self.folder, &self.info);
        if storage.rename(&record, &record::path(&to, &self.info)).is_err() {
            let _ = storage.remove(&record);
            self.record = None;
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
