//! A disk on which nothing is kept, for swarms of thousands.
//!
//! Where nobody lies a piece that is here is what it is everywhere. So the content is there once; a disk says only whether
//! its file is there, and that what is written agrees.

use std::ffi::OsString;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;

use crate::storage::{FileKind, Stamp, Storage};

/// The one file that there is.
pub(super) const NAME: &str = "content";

/// Reads are of the content, which clones share. Other files than that can be written, and are gone.
#[derive(Clone, Debug)]
pub struct Mirror {
    content: Bytes,
    there: bool,
}

/// An open file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MirrorFile {
    /// The content.
    Content,
    /// Another: nothing is in it.
    Other,
}

impl Mirror {
    /// A disk that has all of it, or nothing.
    pub(super) fn new(content: Bytes, there: bool) -> Mirror {
        Mirror { content, there }
    }

    fn has(&self, path: &Path) -> io::Result<()> {
        let has = self.there && path == Path::new(NAME);
        if has { Ok(()) } else { Err(ErrorKind::NotFound.into()) }
    }

    fn part(&self, at: u64, len: usize) -> io::Result<&[u8]> {
        let part = self.content.get(at as usize..).and_then(|rest| rest.get(..len));
        part.ok_or_else(|| ErrorKind::UnexpectedEof.into())
    }
}

impl Storage for Mirror {
    type File = MirrorFile;

    fn open(&mut self, path: &Path) -> io::Result<MirrorFile> {
        self.has(path).map(|()| MirrorFile::Content)
    }

    fn create(&mut self, path: &Path) -> io::Result<MirrorFile> {
        if path != Path::new(NAME) {
            return Ok(MirrorFile::Other);
        }
        self.there = true;
        Ok(MirrorFile::Content)
    }

    fn len(&mut self, file: &mut MirrorFile) -> io::Result<u64> {
        Ok(match file {
            MirrorFile::Content => self.content.len() as u64,
            MirrorFile::Other => 0,
        })
    }

    fn resize(&mut self, _: &mut MirrorFile, _: u64) -> io::Result<()> {
        Ok(())
    }

    fn read_at(
        &mut self,
        file: &mut MirrorFile,
        at: u64,
        len: usize,
        buffer: &mut Vec<u8>,
    ) -> io::Result<()> {
        buffer.clear();
        match file {
            MirrorFile::Content => buffer.extend_from_slice(self.part(at, len)?),
            MirrorFile::Other => return Err(ErrorKind::UnexpectedEof.into()),
        }
        Ok(())
    }

    fn write_at(&mut self, file: &mut MirrorFile, at: u64, bytes: &[u8]) -> io::Result<()> {
        match file {
            MirrorFile::Content if self.part(at, bytes.len())? != bytes => Err(ErrorKind::InvalidData.into()),
            MirrorFile::Content | MirrorFile::Other => Ok(()),
        }
    }

    fn stamp(&mut self, path: &Path) -> io::Result<Stamp> {
        self.has(path)?;
        Ok(Stamp { len: self.content.len() as u64, modified: Duration::ZERO })
    }

    fn sync(&mut self, _: &mut MirrorFile) -> io::Result<()> {
        Ok(())
    }

    fn rename(&mut self, _: &Path, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn remove(&mut self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn kind(&mut self, path: &Path) -> io::Result<FileKind> {
        self.has(path).map(|()| FileKind::File)
    }

    fn list(&mut self, _: &Path) -> io::Result<Vec<OsString>> {
        Ok(if self.there { vec![NAME.into()] } else { Vec::new() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mirror_takes_what_is_true_and_nothing_else() {
        let mut disk = Mirror::new(Bytes::from_static(b"abcdef"), false);
        let path = Path::new(NAME);
        assert_eq!(disk.kind(path).unwrap_err().kind(), ErrorKind::NotFound);
        let mut file = disk.create(path).unwrap();
        disk.write_at(&mut file, 2, b"cd").unwrap();
        assert_eq!(disk.write_at(&mut file, 2, b"cx").unwrap_err().kind(), ErrorKind::InvalidData);
        assert_eq!(disk.write_at(&mut file, 5, b"fg").unwrap_err().kind(), ErrorKind::UnexpectedEof);
        let mut buffer = vec![1];
        disk.read_at(&mut file, 1, 3, &mut buffer).unwrap();
        assert_eq!(buffer, b"bcd");
        let mut other = disk.create(Path::new("record")).unwrap();
        disk.write_at(&mut other, 0, b"anything").unwrap();
        assert!(disk.open(Path::new("record")).is_err(), "it is gone");
    }
}
