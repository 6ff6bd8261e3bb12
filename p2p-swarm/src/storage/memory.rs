//! Files in memory that lose in a crash what was not synced.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use p2p_core::Rng;

use super::{FileKind, Stamp, Storage};

/// The least that reaches a disk whole: a write that was under way in a crash is torn at a multiple of it.
const SECTOR: usize = 512;

/// Files in memory, for simulations and tests. Clones are the same files.
///
/// ```
/// use p2p_core::Rng;
/// use p2p_swarm::{MemoryFiles, Storage};
/// use std::path::Path;
///
/// let mut files = MemoryFiles::default();
/// let mut file = files.create(Path::new("song")).unwrap();
/// files.write_at(&mut file, 0, b"abc").unwrap();
/// files.sync(&mut file).unwrap();
/// files.write_at(&mut file, 0, b"xyz").unwrap();
/// files.crash(&mut Rng::new(1));
/// let kept = files.read("song").unwrap();
/// assert!(kept == b"abc" || kept == b"xyz");
/// ```
#[derive(Clone, Debug, Default)]
pub struct MemoryFiles(Arc<Mutex<Disk>>);

#[derive(Debug, Default)]
struct Disk {
    names: BTreeMap<PathBuf, usize>,
    files: Vec<Contents>,
    /// How many changes there were.
    changes: u64,
}

impl Disk {
    /// A file is changed.
    fn change(&mut self, file: usize) -> &mut Contents {
        self.changes += 1;
        let contents = &mut self.files[file];
        contents.changed = self.changes;
        contents
    }
}

#[derive(Debug, Default)]
struct Contents {
    now: Vec<u8>,
    synced: Vec<u8>,
    /// What was written since the last sync: where, and how much.
    unsynced: Vec<(usize, Vec<u8>)>,
    /// The last change, now and at the last sync.
    changed: u64,
    changed_synced: u64,
}

impl MemoryFiles {
    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a file there, synced.
    pub fn put(&self, path: impl Into<PathBuf>, bytes: impl Into<Vec<u8>>) {
        let bytes = bytes.into();
        let mut disk = self.disk();
        let file = disk.files.len();
        disk.changes += 1;
        let (changed, unsynced) = (disk.changes, Vec::new());
        let (now, synced) = (bytes.clone(), bytes);
        disk.files.push(Contents { now, synced, unsynced, changed, changed_synced: changed });
        disk.names.insert(path.into(), file);
    }

    /// A file's bytes, if it is there.
    pub fn read(&self, path: impl AsRef<Path>) -> Option<Vec<u8>> {
        let disk = self.disk();
        disk.names.get(path.as_ref()).map(|file| disk.files[*file].now.clone())
    }

    /// What is left of a file at the worst if power fails now.
    pub fn synced(&self, path: impl AsRef<Path>) -> Option<Vec<u8>> {
        let disk = self.disk();
        disk.names.get(path.as_ref()).map(|file| disk.files[*file].synced.clone())
    }

    /// The names of all files, in order.
    pub fn names(&self) -> Vec<PathBuf> {
        self.disk().names.keys().cloned().collect()
    }

    /// Power fails: each write that was not synced is there, or not, or in part; and so is, whatever became of the writes, that
    /// the file was changed.
    pub fn crash(&self, rng: &mut Rng) {
        for file in &mut self.disk().files {
            for (at, bytes) in file.unsynced.drain(..) {
                let keep = match rng.below(3) {
                    0 => 0,
                    1 => bytes.len(),
                    _ => rng.index(bytes.len().div_ceil(SECTOR)) * SECTOR,
                };
                let end = file.synced.len().min(at + keep);
                let kept = end.saturating_sub(at);
                if kept > 0 {
                    file.synced[at..end].copy_from_slice(&bytes[..kept]);
                }
            }
            file.now.clone_from(&file.synced);
            if rng.below(2) == 0 {
                file.changed = file.changed_synced;
            }
            file.changed_synced = file.changed;
        }
    }
}

fn not_found() -> io::Error {
    ErrorKind::NotFound.into()
}

impl Storage for MemoryFiles {
    type File = usize;

    fn open(&mut self, path: &Path) -> io::Result<usize> {
        self.disk().names.get(path).copied().ok_or_else(not_found)
    }

    fn create(&mut self, path: &Path) -> io::Result<usize> {
        if !self.disk().names.contains_key(path) {
            self.put(path, Vec::new());
        }
        self.open(path)
    }

    fn len(&mut self, file: &mut usize) -> io::Result<u64> {
        Ok(self.disk().files[*file].now.len() as u64)
    }

    fn resize(&mut self, file: &mut usize, len: u64) -> io::Result<()> {
        let mut disk = self.disk();
        let file = disk.change(*file);
        file.now.resize(len as usize, 0);
        file.synced.resize(len as usize, 0);
        Ok(())
    }

    fn read_at(&mut self, file: &mut usize, at: u64, len: usize, buffer: &mut Vec<u8>) -> io::Result<()> {
        let file = &self.disk().files[*file];
        let bytes = file.now.get(at as usize..).and_then(|rest| rest.get(..len));
        buffer.clear();
        buffer.extend_from_slice(bytes.ok_or(ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write_at(&mut self, file: &mut usize, at: u64, bytes: &[u8]) -> io::Result<()> {
        let mut disk = self.disk();
        let file = disk.change(*file);
        let (at, end) = (at as usize, at as usize + bytes.len());
        if file.now.len() < end {
            file.now.resize(end, 0);
            file.synced.resize(end, 0);
        }
        file.now[at..end].copy_from_slice(bytes);
        file.unsynced.push((at, bytes.to_vec()));
        Ok(())
    }

    fn stamp(&mut self, path: &Path) -> io::Result<Stamp> {
        let disk = self.disk();
        let file = &disk.files[*disk.names.get(path).ok_or_else(not_found)?];
        Ok(Stamp { len: file.now.len() as u64, modified: Duration::from_nanos(file.changed) })
    }

    fn sync(&mut self, file: &mut usize) -> io::Result<()> {
        let file = &mut self.disk().files[*file];
        file.changed_synced = file.changed;
        for (at, bytes) in file.unsynced.drain(..) {
            let end = file.synced.len().min(at + bytes.len());
            if at < end {
                file.synced[at..end].copy_from_slice(&bytes[..end - at]);
            }
        }
        Ok(())
    }

    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let mut disk = self.disk();
        let file = disk.names.remove(from).ok_or_else(not_found)?;
        disk.names.insert(to.into(), file);
        Ok(())
    }

    fn remove(&mut self, path: &Path) -> io::Result<()> {
        self.disk().names.remove(path).map(|_| ()).ok_or_else(not_found)
    }

    fn kind(&mut self, path: &Path) -> io::Result<FileKind> {
        let disk = self.disk();
        let inside = |name: &PathBuf| name != path && name.starts_with(path);
        match disk.names.contains_key(path) {
            true => Ok(FileKind::File),
            false if disk.names.keys().any(inside) => Ok(FileKind::Folder),
            false => Err(not_found()),
        }
    }

    fn list(&mut self, path: &Path) -> io::Result<Vec<OsString>> {
        let disk = self.disk();
        let inside = disk.names.keys().filter_map(|name| name.strip_prefix(path).ok()?.iter().next());
        let mut names: Vec<OsString> = inside.map(ToOwned::to_owned).collect();
        names.dedup();
        Ok(names)
    }
}
