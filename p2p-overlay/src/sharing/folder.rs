//! A folder of the system's files: what is shared, and where downloads go.
#![expect(clippy::disallowed_methods, reason = "files belong to workers")]

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::worker::{Folder, Hashing, Written, is_plain_name};
use crate::search::{ContentHash, Item};

/// How much of a file is read at a time when it is hashed.
const CHUNK: usize = 1 << 20;

/// A folder of the system's: the files that lie in it are shared, those in folders within it are not. Symbolic links
/// are not followed.
///
/// A download is a file `.p2p-<hash>.part` until it is whole and right, and beside it a file of notes: both stay if the
/// program is killed, and whoever fetches this content next goes on with them. Who wants what somebody else fetches right
/// now, or what has no hash, has a file `.p2p-<process>-<number>.part`, which nobody goes on with.
#[derive(Clone, Debug)]
pub struct DiskFolder {
    shared: Option<PathBuf>,
    target: PathBuf,
}

/// A download that is open.
#[derive(Debug)]
pub struct DiskFile {
    file: File,
    path: PathBuf,
    /// Where it is noted what was written.
    notes: Option<(File, PathBuf)>,
}

/// Bytes of a note: where the part is, how long, and its hash.
const NOTE: usize = 8 + 4 + 32;

fn to_note(written: Written) -> [u8; NOTE] {
    let mut note = [0; NOTE];
    note[..8].copy_from_slice(&written.at.to_le_bytes());
    note[8..12].copy_from_slice(&written.len.to_le_bytes());
    note[12..].copy_from_slice(&written.hash);
    note
}

fn of_note(note: &[u8]) -> Option<Written> {
    let (at, rest) = note.split_first_chunk()?;
    let (len, rest) = rest.split_first_chunk()?;
    let hash = rest.try_into().ok()?;
    Some(Written { at: u64::from_le_bytes(*at), len: u32::from_le_bytes(*len), hash })
}

impl DiskFolder {
    /// Shares what lies in `shared`, if it is a folder at all, and puts downloads in `target`.
    pub fn new(shared: Option<PathBuf>, target: impl Into<PathBuf>) -> DiskFolder {
        DiskFolder { shared, target: target.into() }
    }
}

/// The items in a folder, hashed: all that a node shares of it. It reads every file, and takes its time.
///
/// # Errors
/// The folder or a file in it cannot be read.
pub fn items_in(folder: &Path) -> io::Result<Vec<Item>> {
    let mut items = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        if !entry.file_type()?.is_file() || !is_plain_name(&name) {
            continue;
        }
        let (mut hashing, mut size) = (Hashing::default(), 0);
        let mut file = File::open(entry.path())?;
        let mut buffer = vec![0; CHUNK];
        loop {
            let read = file.read(&mut buffer)?;
            if read == 0 {
                break;
            }
            hashing.update(&buffer[..read]);
            size += read as u64;
        }
        items.push(hashing.finish().into_iter().fold(Item::new(name, size), Item::hash));
    }
    items.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(items)
}

fn read_at(file: &mut File, at: u64, len: usize) -> io::Result<Vec<u8>> {
    file.seek(SeekFrom::Start(at))?;
    let mut data = Vec::with_capacity(len);
    file.take(len as u64).read_to_end(&mut data)?;
    Ok(data)
}

/// What nobody is at, of all files with this name.
fn locked(path: &Path) -> io::Result<Option<File>> {
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

impl DiskFolder {
    /// What is left of a content, and what was noted about it; `None` if somebody is at it.
    fn resume(&self, content: &ContentHash) -> io::Result<Option<(DiskFile, Vec<Written>)>> {
        let name = content.to_string().trim_start_matches("urn:").replace(':', "-");
        let path = self.target.join(format!(".p2p-{name}.part"));
        let Some(file) = locked(&path)? else { return Ok(None) };
        let beside = self.target.join(format!(".p2p-{name}.notes"));
        let mut notes = OpenOptions::new().read(true).append(true).create(true).open(&beside)?;
        let mut bytes = Vec::new();
        notes.read_to_end(&mut bytes)?;
        // The last one may be half written.
        notes.set_len((bytes.len() / NOTE * NOTE) as u64)?;
        let written = bytes.chunks_exact(NOTE).filter_map(of_note).collect();
        Ok(Some((DiskFile { file, path, notes: Some((notes, beside)) }, written)))
    }
}

impl Folder for DiskFolder {
    type File = DiskFile;

    fn read(&mut self, name: &str, at: u64, len: usize) -> io::Result<Vec<u8>> {
        let path = self.shared.as_ref().ok_or(ErrorKind::NotFound)?.join(name);
        if !fs::symlink_metadata(&path)?.is_file() {
            return Err(ErrorKind::NotFound.into());
        }
        read_at(&mut File::open(path)?, at, len)
    }

    fn is_free(&mut self, name: &str) -> io::Result<bool> {
        match fs::symlink_metadata(self.target.join(name)) {
            Ok(_) => Ok(false),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(true),
            Err(error) => Err(error),
        }
    }

    fn open(&mut self, number: u64, content: Option<&ContentHash>) -> io::Result<(DiskFile, Vec<Written>)> {
        fs::create_dir_all(&self.target)?;
        if let Some(content) = content
            && let Some(left) = self.resume(content)?
        {
            return Ok(left);
        }
        let path = self.target.join(format!(".p2p-{}-{number}.part", std::process::id()));
        // What is left of a process that had this number before.
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path)?;
        Ok((DiskFile { file, path, notes: None }, Vec::new()))
    }

    fn write_at(&mut self, file: &mut DiskFile, at: u64, data: &[u8]) -> io::Result<()> {
        file.file.seek(SeekFrom::Start(at))?;
        file.file.write_all(data)
    }

    /// Behind what it is about, so that a program that is killed leaves none of what is not there.
    fn note(&mut self, file: &mut DiskFile, written: Written) -> io::Result<()> {
        match &mut file.notes {
            Some((notes, _)) => notes.write_all(&to_note(written)),
            None => Ok(()),
        }
    }

    fn forget(&mut self, file: &mut DiskFile) -> io::Result<()> {
        file.notes.as_ref().map_or(Ok(()), |(notes, _)| notes.set_len(0))
    }

    fn read_at(&mut self, file: &mut DiskFile, at: u64, len: usize) -> io::Result<Vec<u8>> {
        read_at(&mut file.file, at, len)
    }

    fn keep(&mut self, file: DiskFile, name: &str) -> io::Result<()> {
        file.file.sync_all()?;
        // A hard link does not replace what is there, as a new name would.
        fs::hard_link(&file.path, self.target.join(name))?;
        self.remove(file)
    }

    fn leave(&mut self, file: DiskFile) -> io::Result<()> {
        match file.notes {
            Some(_) => Ok(()),
            None => self.remove(file),
        }
    }

    fn remove(&mut self, file: DiskFile) -> io::Result<()> {
        // Notes about nothing are of no use, and do no harm.
        fs::remove_file(&file.path)?;
        file.notes.map_or(Ok(()), |(_, path)| fs::remove_file(path))
    }
}
