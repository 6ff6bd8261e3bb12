//! Where the bytes are kept: the file system, or a memory that fails like one.
//!
//! The workers above are the same for both, so that what a crash does is tried on the code that runs live.

mod files;
mod memory;

use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::time::Duration;

pub use files::Files;
pub use memory::MemoryFiles;

/// A file system, as far as sharing needs one. What is written is safe only after [`Storage::sync`]; renaming is safe
/// when it returns.
pub trait Storage: Send + 'static {
    /// An open file.
    type File: Send;

    /// Opens an existing file for reading.
    ///
    /// # Errors
    /// What the system says.
    fn open(&mut self, path: &Path) -> io::Result<Self::File>;
    /// Opens a file for reading and writing; it and its folders are made if they are not there.
    ///
    /// # Errors
    /// What the system says.
    fn create(&mut self, path: &Path) -> io::Result<Self::File>;
    /// A file's length.
    ///
    /// # Errors
    /// What the system says.
    fn len(&mut self, file: &mut Self::File) -> io::Result<u64>;
    /// Cuts a file, or makes it longer by zeros.
    ///
    /// # Errors
    /// What the system says.
    fn resize(&mut self, file: &mut Self::File, len: u64) -> io::Result<()>;
    /// Puts this many bytes from a place in the file in the buffer, in place of what it has.
    ///
    /// # Errors
    /// What the system says; `UnexpectedEof` if the file is too short.
    fn read_at(&mut self, file: &mut Self::File, at: u64, len: usize, buffer: &mut Vec<u8>)
    -> io::Result<()>;
    /// Writes all bytes at a place in the file.
    ///
    /// # Errors
    /// What the system says.
    fn write_at(&mut self, file: &mut Self::File, at: u64, bytes: &[u8]) -> io::Result<()>;
    /// How long a file is and when it was last changed; links are not followed.
    ///
    /// # Errors
    /// What the system says; `NotFound` if nothing is there.
    fn stamp(&mut self, path: &Path) -> io::Result<Stamp>;
    /// Returns when everything written to the file would survive a crash.
    ///
    /// # Errors
    /// What the system says.
    fn sync(&mut self, file: &mut Self::File) -> io::Result<()>;
    /// Gives a file another name, in place of what had it; its folders are made if they are not there.
    ///
    /// # Errors
    /// What the system says; `CrossesDevices` if it would be on another file system.
    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    ///
    /// # Errors
    /// What the system says.
    fn remove(&mut self, path: &Path) -> io::Result<()>;
    /// What is there; links are not followed.
    ///
    /// # Errors
    /// What the system says; `NotFound` if nothing is.
    fn kind(&mut self, path: &Path) -> io::Result<FileKind>;
    /// The names in a folder, in any order.
    ///
    /// # Errors
    /// What the system says.
    fn list(&mut self, path: &Path) -> io::Result<Vec<OsString>>;
}

/// By what it is seen that a file was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Its length.
    pub len: u64,
    /// When it was last changed: since 1970, or by another clock that does not go back.
    pub modified: Duration,
}

/// What a path stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// A file.
    File,
    /// A folder.
    Folder,
    /// A symbolic link, whatever it points to.
    Symlink,
    /// A device, a socket, a pipe.
    Special,
}
