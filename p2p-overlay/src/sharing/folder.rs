//! A folder of the system's files: what is shared, and where downloads go.
#![expect(clippy::disallowed_methods, reason = "files belong to workers")]

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::worker::{Folder, Hashing, is_plain_name};
use crate::search::Item;

/// How much of a file is read at a time when it is hashed.
const CHUNK: usize = 1 << 20;

/// A folder of the system's: the files that lie in it are shared, those in folders within it are not. Symbolic links
/// are not followed. A download is a file `.p2p-<process>-<number>.part` until it is whole and right.
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

    fn create(&mut self, number: u64) -> io::Result<DiskFile> {
        fs::create_dir_all(&self.target)?;
        let path = self.target.join(format!(".p2p-{}-{number}.part", std::process::id()));
        // What is left of a process that had this number before.
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path)?;
        Ok(DiskFile { file, path })
    }

    fn write_at(&mut self, file: &mut DiskFile, at: u64, data: &[u8]) -> io::Result<()> {
        file.file.seek(SeekFrom::Start(at))?;
        file.file.write_all(data)
    }

    fn read_at(&mut self, file: &mut DiskFile, at: u64, len: usize) -> io::Result<Vec<u8>> {
        read_at(&mut file.file, at, len)
    }

    fn keep(&mut self, file: DiskFile, name: &str) -> io::Result<()> {
        file.file.sync_all()?;
        // A hard link does not replace what is there, as a new name would.
        fs::hard_link(&file.path, self.target.join(name))?;
        fs::remove_file(&file.path)
    }

    fn remove(&mut self, file: DiskFile) -> io::Result<()> {
        fs::remove_file(file.path)
    }
}
