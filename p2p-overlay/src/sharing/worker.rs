//! Whoever does the jobs: reads what is shared, writes what is fetched, and hashes it.
//!
//! A download that is known by a hash outlives its program: with each part that is written goes a note, of where it is
//! and what it hashes to. Whoever fetches the same content next reads these parts again, and takes those that are what
//! was written. So it does not matter what a crash has left out.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, ErrorKind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use p2p_core::Worker;
use sha1::{Digest, Sha1};

use super::job::{FolderError, ShareOutput, SharingJob};
use super::msg::MAX_PART;
use crate::search::{ContentHash, MAX_NAME};

/// How much is hashed at a time, in bytes.
const CHUNK: usize = 1 << 20;

/// Files with plain names, all in one place; and downloads, which have numbers until they are whole.
pub trait Folder: Send + 'static {
    /// An open download.
    type File: Send;

    /// Reads a part of a shared file: fewer bytes only at its end.
    ///
    /// # Errors
    /// What the system says.
    fn read(&mut self, name: &str, at: u64, len: usize) -> io::Result<Vec<u8>>;
    /// Whether a download may get this name: there is nothing that has it.
    ///
    /// # Errors
    /// What the system says.
    fn is_free(&mut self, name: &str) -> io::Result<bool>;
    /// Begins a download, or, of a content that is known, goes on with what is left of it, unless somebody else does so
    /// right now. What was noted about it.
    ///
    /// # Errors
    /// What the system says.
    fn open(&mut self, number: u64, content: Option<&ContentHash>) -> io::Result<(Self::File, Vec<Written>)>;
    /// Writes a part of a download.
    ///
    /// # Errors
    /// What the system says.
    fn write_at(&mut self, file: &mut Self::File, at: u64, data: &[u8]) -> io::Result<()>;
    /// Notes what was written, for whoever goes on with it.
    ///
    /// # Errors
    /// What the system says.
    fn note(&mut self, file: &mut Self::File, written: Written) -> io::Result<()>;
    /// Forgets what was noted: the content was not right.
    ///
    /// # Errors
    /// What the system says.
    fn forget(&mut self, file: &mut Self::File) -> io::Result<()>;
    /// Reads a part of a download: fewer bytes only at its end.
    ///
    /// # Errors
    /// What the system says.
    fn read_at(&mut self, file: &mut Self::File, at: u64, len: usize) -> io::Result<Vec<u8>>;
    /// Makes a download safe and gives it a name, if that is free.
    ///
    /// # Errors
    /// What the system says; `AlreadyExists` if the name is not free.
    fn keep(&mut self, file: Self::File, name: &str) -> io::Result<()>;
    /// Ends a download that is not whole, and keeps it for whoever goes on with it.
    ///
    /// # Errors
    /// What the system says.
    fn leave(&mut self, file: Self::File) -> io::Result<()>;
    /// Removes a download.
    ///
    /// # Errors
    /// What the system says.
    fn remove(&mut self, file: Self::File) -> io::Result<()>;
}

/// A part of a download that was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// Its first byte.
    pub at: u64,
    /// Its bytes; at most [`MAX_PART`].
    pub len: u32,
    /// The BLAKE3 hash of them.
    pub hash: [u8; 32],
}

/// Does the jobs of a [`Sharing`](super::Sharing) in a [`Folder`]. A node may have several, each on its thread. A name
/// that a peer has made up never leads out of the folder: see [`is_plain_name`].
pub struct ShareWorker<F: Folder> {
    folder: F,
    /// The downloads that are open, as many as the machine has, and what each is to be called.
    open: BTreeMap<u64, Open<F::File>>,
}

/// A download that is open.
struct Open<F> {
    file: F,
    name: String,
    /// Whether others can go on with it: its content is known.
    outlives: bool,
}

impl<F: Folder> ShareWorker<F> {
    /// A worker in this folder.
    pub fn new(folder: F) -> ShareWorker<F> {
        ShareWorker { folder, open: BTreeMap::new() }
    }

    fn one(&mut self, job: SharingJob) -> Result<ShareOutput, FolderError> {
        match job {
            SharingJob::Read { name, at, len } => {
                plain(&name)?;
                let data = self.folder.read(&name, at, len.min(MAX_PART)).map_err(failed)?;
                Ok(ShareOutput::Read(data.into()))
            }
            SharingJob::Open { number, name, content, size } => {
                plain(&name)?;
                if !self.folder.is_free(&name).map_err(failed)? {
                    return Err(FolderError::Exists(name));
                }
                let (mut file, noted) = self.folder.open(number, content.as_ref()).map_err(failed)?;
                let there = self.verified(&mut file, noted, size)?;
                self.open.insert(number, Open { file, name, outlives: content.is_some() });
                Ok(ShareOutput::Opened(there))
            }
            SharingJob::Write { number, at, data } => {
                let Open { file, outlives, .. } = self.open.get_mut(&number).ok_or(FolderError::NotOpen)?;
                self.folder.write_at(file, at, &data).map_err(failed)?;
                if let (true, Ok(len)) = (*outlives, u32::try_from(data.len())) {
                    let hash = *blake3::hash(&data).as_bytes();
                    self.folder.note(file, Written { at, len, hash }).map_err(failed)?;
                }
                Ok(ShareOutput::Done)
            }
            SharingJob::Finish { number, size, hashes } => {
                let right = self.hash(number, size)?;
                let Some(right) = right.filter(|right| hashes.iter().all(|hash| right.contains(hash))) else {
                    let open = self.open.get_mut(&number).ok_or(FolderError::NotOpen)?;
                    self.folder.forget(&mut open.file).map_err(failed)?;
                    return Ok(ShareOutput::Differs);
                };
                let Open { file, name, .. } = self.open.remove(&number).ok_or(FolderError::NotOpen)?;
                self.folder.keep(file, &name).map_err(|error| match error.kind() {
                    ErrorKind::AlreadyExists => FolderError::Exists(name),
                    _ => failed(error),
                })?;
                Ok(ShareOutput::Kept(right))
            }
            SharingJob::Drop { number, keep } => {
                if let Some(Open { file, outlives, .. }) = self.open.remove(&number) {
                    match keep && outlives {
                        true => self.folder.leave(file).map_err(failed)?,
                        false => self.folder.remove(file).map_err(failed)?,
                    }
                }
                Ok(ShareOutput::Done)
            }
        }
    }

    /// Of what was noted, the parts that are what was written, put together.
    fn verified(
        &mut self,
        file: &mut F::File,
        noted: Vec<Written>,
        size: u64,
    ) -> Result<Vec<(u64, u64)>, FolderError> {
        // The latest of those at one place counts, and each byte is read once.
        let noted: BTreeMap<u64, Written> = noted.into_iter().map(|written| (written.at, written)).collect();
        let mut there: Vec<(u64, u64)> = Vec::new();
        for Written { at, len, hash } in noted.into_values() {
            let end = at.saturating_add(len.into());
            let before = there.last().map_or(0, |(_, end)| *end);
            if end > size || len as usize > MAX_PART || at < before {
                continue;
            }
            let data = self.folder.read_at(file, at, len as usize).map_err(failed)?;
            if data.len() != len as usize || *blake3::hash(&data).as_bytes() != hash {
                continue;
            }
            match there.last_mut().filter(|(_, before)| *before == at) {
                Some((_, before)) => *before = end,
                None => there.push((at, end)),
            }
        }
        Ok(there)
    }

    /// The hashes of a download; `None` if it is not as long as that.
    fn hash(&mut self, number: u64, size: u64) -> Result<Option<Vec<ContentHash>>, FolderError> {
        let Open { file, .. } = self.open.get_mut(&number).ok_or(FolderError::NotOpen)?;
        let mut hashing = Hashing::default();
        let mut at = 0;
        while at < size {
            let data = self.folder.read_at(file, at, CHUNK).map_err(failed)?;
            if data.is_empty() {
                return Ok(None);
            }
            hashing.update(&data);
            at += data.len() as u64;
        }
        Ok(Some(hashing.finish().to_vec()))
    }
}

impl<F: Folder> Worker<SharingJob> for ShareWorker<F> {
    fn run(&mut self, batch: Vec<SharingJob>) -> Vec<Result<ShareOutput, FolderError>> {
        batch.into_iter().map(|job| self.one(job)).collect()
    }
}

impl<F: Folder> fmt::Debug for ShareWorker<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShareWorker").field("open", &self.open.len()).finish_non_exhaustive()
    }
}

fn failed(error: io::Error) -> FolderError {
    FolderError::Io(error.to_string())
}

fn plain(name: &str) -> Result<(), FolderError> {
    if is_plain_name(name) { Ok(()) } else { Err(FolderError::BadName(name.to_owned())) }
}

/// Whether a name is one of a file, and nothing else: it has no part of a path, does not begin with a dot, and no
/// character that a system takes for something else.
///
/// ```
/// use p2p_overlay::is_plain_name;
///
/// assert!(is_plain_name("Blue Monday.mp3"));
/// for hostile in ["", "..", "../x", "a/b", "a\\b", "C:x", ".profile", "a\0b", "a\nb"] {
///     assert!(!is_plain_name(hostile), "{hostile:?}");
/// }
/// ```
pub fn is_plain_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= MAX_NAME
        && !name.starts_with('.')
        && !name.contains(['/', '\\', ':'])
        && !name.chars().any(char::is_control)
}

/// All hashes of a content, as it goes by.
#[derive(Default)]
pub(super) struct Hashing {
    blake3: blake3::Hasher,
    sha1: Sha1,
}

impl Hashing {
    pub(super) fn update(&mut self, bytes: &[u8]) {
        self.blake3.update(bytes);
        self.sha1.update(bytes);
    }

    pub(super) fn finish(self) -> [ContentHash; 2] {
        [
            ContentHash::Sha1(self.sha1.finalize().into()),
            ContentHash::Blake3(*self.blake3.finalize().as_bytes()),
        ]
    }
}

/// The hashes of a content that is in memory.
pub fn hashes_of(content: &[u8]) -> [ContentHash; 2] {
    let mut hashing = Hashing::default();
    hashing.update(content);
    hashing.finish()
}

/// Files in memory, for simulations and tests. Clones are the same files.
#[derive(Clone, Debug, Default)]
pub struct MemoryFolder {
    files: Arc<Mutex<BTreeMap<String, Bytes>>>,
    /// Downloads that were left.
    left: Arc<Mutex<BTreeMap<ContentHash, MemoryFile>>>,
}

/// A download in memory.
#[derive(Clone, Debug, Default)]
pub struct MemoryFile {
    content: Option<ContentHash>,
    bytes: Vec<u8>,
    noted: Vec<Written>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl MemoryFolder {
    fn files(&self) -> MutexGuard<'_, BTreeMap<String, Bytes>> {
        lock(&self.files)
    }

    /// Puts a file there.
    pub fn put(&self, name: impl Into<String>, bytes: impl Into<Bytes>) {
        self.files().insert(name.into(), bytes.into());
    }

    /// A file's bytes, if it is there.
    pub fn get(&self, name: &str) -> Option<Bytes> {
        self.files().get(name).cloned()
    }
}

fn part(bytes: &[u8], at: u64, len: usize) -> Vec<u8> {
    let start = usize::try_from(at).unwrap_or(usize::MAX).min(bytes.len());
    bytes[start..start.saturating_add(len).min(bytes.len())].to_vec()
}

impl Folder for MemoryFolder {
    type File = MemoryFile;

    fn read(&mut self, name: &str, at: u64, len: usize) -> io::Result<Vec<u8>> {
        let file = self.get(name).ok_or(ErrorKind::NotFound)?;
        Ok(part(&file, at, len))
    }

    fn is_free(&mut self, name: &str) -> io::Result<bool> {
        Ok(!self.files().contains_key(name))
    }

    fn open(&mut self, _: u64, content: Option<&ContentHash>) -> io::Result<(MemoryFile, Vec<Written>)> {
        let left = content.and_then(|content| lock(&self.left).remove(content));
        let file = left.unwrap_or(MemoryFile { content: content.copied(), ..MemoryFile::default() });
        let noted = file.noted.clone();
        Ok((file, noted))
    }

    fn write_at(&mut self, file: &mut MemoryFile, at: u64, data: &[u8]) -> io::Result<()> {
        let file = &mut file.bytes;
        let at = usize::try_from(at).map_err(|_| ErrorKind::FileTooLarge)?;
        let end = at.checked_add(data.len()).ok_or(ErrorKind::FileTooLarge)?;
        if file.len() < end {
            file.resize(end, 0);
        }
        file[at..end].copy_from_slice(data);
        Ok(())
    }

    fn note(&mut self, file: &mut MemoryFile, written: Written) -> io::Result<()> {
        file.noted.push(written);
        Ok(())
    }

    fn forget(&mut self, file: &mut MemoryFile) -> io::Result<()> {
        file.noted.clear();
        Ok(())
    }

    fn read_at(&mut self, file: &mut MemoryFile, at: u64, len: usize) -> io::Result<Vec<u8>> {
        Ok(part(&file.bytes, at, len))
    }

    fn keep(&mut self, file: MemoryFile, name: &str) -> io::Result<()> {
        if !self.is_free(name)? {
            return Err(ErrorKind::AlreadyExists.into());
        }
        self.put(name, file.bytes);
        Ok(())
    }

    fn leave(&mut self, file: MemoryFile) -> io::Result<()> {
        if let Some(content) = file.content {
            lock(&self.left).insert(content, file);
        }
        Ok(())
    }

    fn remove(&mut self, _: MemoryFile) -> io::Result<()> {
        Ok(())
    }
}
