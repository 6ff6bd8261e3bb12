//! The system's files.
#![allow(clippy::disallowed_methods, reason = "files belong to workers")]

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::time::UNIX_EPOCH;

use super::{FileKind, Stamp, Storage};

/// The system's files, by `std`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Files;

/// The folder that a path lies in.
fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    }
}

impl Storage for Files {
    type File = File;

    fn open(&mut self, path: &Path) -> io::Result<File> {
        File::open(path)
    }

    fn create(&mut self, path: &Path) -> io::Result<File> {
        fs::create_dir_all(folder(path))?;
        OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)
    }

    fn len(&mut self, file: &mut File) -> io::Result<u64> {
        Ok(file.metadata()?.len())
    }

    fn resize(&mut self, file: &mut File, len: u64) -> io::Result<()> {
        file.set_len(len)
    }

    fn read_at(&mut self, file: &mut File, at: u64, len: usize, buffer: &mut Vec<u8>) -> io::Result<()> {
        file.seek(SeekFrom::Start(at))?;
        // Not `read_exact`: it would need zeros to read over.
        buffer.clear();
        buffer.reserve_exact(len);
        match file.take(len as u64).read_to_end(buffer)? == len {
            true => Ok(()),
            false => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    fn write_at(&mut self, file: &mut File, at: u64, bytes: &[u8]) -> io::Result<()> {
        file.seek(SeekFrom::Start(at))?;
        file.write_all(bytes)
    }

    fn stamp(&mut self, path: &Path) -> io::Result<Stamp> {
        let found = fs::symlink_metadata(path)?;
        let modified = found.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
        Ok(Stamp { len: found.len(), modified })
    }

    fn sync(&mut self, file: &mut File) -> io::Result<()> {
        file.sync_data()
    }

    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        fs::create_dir_all(folder(to))?;
        fs::rename(from, to)?;
        // The new name is safe when the folder is. Where folders cannot be opened, renaming is safe by itself.
        match File::open(folder(to)) {
            Ok(folder) => folder.sync_all(),
            Err(_) => Ok(()),
        }
    }

    fn remove(&mut self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn kind(&mut self, path: &Path) -> io::Result<FileKind> {
        let kind = fs::symlink_metadata(path)?.file_type();
        Ok(match (kind.is_symlink(), kind.is_dir(), kind.is_file()) {
            (true, _, _) => FileKind::Symlink,
            (_, true, _) => FileKind::Folder,
            (_, _, true) => FileKind::File,
            _ => FileKind::Special,
        })
    }

    fn list(&mut self, path: &Path) -> io::Result<Vec<OsString>> {
        fs::read_dir(path)?.map(|entry| Ok(entry?.file_name())).collect()
    }
}
