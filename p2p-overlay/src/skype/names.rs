//! The names of a login server as a file, which is only ever added to.
//!
//! A line has a name, its key, and a check that depends on all lines before it. So a line that was changed, moved or
//! taken out is recognised. What is behind the last line's end was being written when the program ended, was never
//! acknowledged, and is cut off.
#![expect(clippy::disallowed_methods, reason = "files belong to workers")]

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::path::Path;

use p2p_core::{Job, JobError, PeerId, Worker};

use super::certificate::is_user_name;

/// The job of a [`LoginServer`](super::LoginServer): to write down that a name is a key's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoteName {
    /// The name.
    pub name: String,
    /// The key.
    pub key: PeerId,
}

impl Job for NoteName {
    type Done = Result<(), NamesError>;

    fn lane(&self) -> Option<u64> {
        Some(0)
    }

    fn failed(&self, why: JobError) -> Self::Done {
        Err(why.into())
    }
}

/// Why names cannot be read or written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NamesError {
    /// A line is not what was written.
    #[error("line {line} of the names is not what was written: put back a copy of the file, or cut it there")]
    Damaged {
        /// Which; the first is 1.
        line: usize,
    },
    /// Another server writes there.
    #[error("another login server has this file of names: stop it, or choose another file")]
    InUse,
    /// The system failed.
    #[error("{0}")]
    Io(String),
    /// The job was not done.
    #[error(transparent)]
    Job(#[from] JobError),
}

impl From<std::io::Error> for NamesError {
    fn from(error: std::io::Error) -> NamesError {
        NamesError::Io(error.to_string())
    }
}

/// A file of names, which no other program has. What it has acknowledged is safe whatever happens to the program, and
/// to the machine as far as its disk keeps what was synced.
#[derive(Debug)]
pub struct NamesFile {
    file: File,
    /// Its bytes,
    len: u64,
    /// and the last line's check.
    check: Check,
}

type Check = [u8; 8];

fn check(before: &Check, name: &str, key: &PeerId) -> Check {
    let mut hasher = blake3::Hasher::new_derive_key("p2p-overlay skype names");
    hasher.update(before).update(key.as_bytes()).update(name.as_bytes());
    let mut check = Check::default();
    hasher.finalize_xof().fill(&mut check);
    check
}

fn line(name: &str, key: &PeerId, check: &Check) -> String {
    format!("{name} {key} {:016x}\n", u64::from_be_bytes(*check))
}

impl NamesFile {
    /// Opens a file, or makes an empty one, and reads the names that are in it.
    ///
    /// # Errors
    /// [`NamesError::Damaged`], [`NamesError::InUse`], or what the system says.
    pub fn open(path: impl AsRef<Path>) -> Result<(NamesFile, Vec<(String, PeerId)>), NamesError> {
        let path = path.as_ref();
        let mut file = OpenOptions::new().read(true).append(true).create(true).open(path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(NamesError::InUse),
            Err(TryLockError::Error(error)) => return Err(error.into()),
        }
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
        let mut names = Vec::new();
        let mut last = Check::default();
        for (i, written) in bytes[..whole].split_inclusive(|byte| *byte == b'\n').enumerate() {
            let damaged = NamesError::Damaged { line: i + 1 };
            let mut words = std::str::from_utf8(written).ok().into_iter().flat_map(|text| text.split(' '));
            let (Some(name), Some(key)) = (words.next(), words.next().and_then(|key| key.parse().ok()))
            else {
                return Err(damaged);
            };
            last = check(&last, name, &key);
            if !is_user_name(name) || line(name, &key, &last).as_bytes() != written {
                return Err(damaged);
            }
            names.push((name.to_owned(), key));
        }
        file.set_len(whole as u64)?;
        file.sync_all()?;
        // That it is there at all has to last too.
        if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            File::open(parent)?.sync_all()?;
        }
        Ok((NamesFile { file, len: whole as u64, check: last }, names))
    }

    /// Writes lines, all or none.
    fn append(&mut self, lines: &str) -> std::io::Result<()> {
        let written = self.file.write_all(lines.as_bytes()).and_then(|()| self.file.sync_data());
        match written {
            Ok(()) => self.len += lines.len() as u64,
            // What is there of it would be taken for damage.
            Err(_) => self.file.set_len(self.len)?,
        }
        written
    }
}

impl Worker<NoteName> for NamesFile {
    fn run(&mut self, batch: Vec<NoteName>) -> Vec<Result<(), NamesError>> {
        let mut last = self.check;
        let mut lines = String::new();
        for NoteName { name, key } in &batch {
            last = check(&last, name, key);
            lines.push_str(&line(name, key, &last));
        }
        let written = self.append(&lines).map_err(NamesError::from);
        if written.is_ok() {
            self.check = last;
        }
        vec![written; batch.len()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use p2p_core::Keypair;
    use std::path::PathBuf;

    fn note(number: u8) -> NoteName {
        NoteName { name: format!("user{number}"), key: Keypair::from_seed(&[number; 32]).id() }
    }

    /// A file of its own for each test.
    fn file(test: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("p2p-names-{}-{test}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        path
    }

    fn names(path: &Path) -> Result<Vec<(String, PeerId)>, NamesError> {
        NamesFile::open(path).map(|(_, names)| names)
    }

    #[test]
    fn names_come_back_in_order_and_only_one_program_has_them() {
        let path = file("order");
        for batch in [vec![1, 2], vec![], vec![3]] {
            let (mut open, _) = NamesFile::open(&path).unwrap();
            let notes: Vec<NoteName> = batch.iter().copied().map(note).collect();
            assert_eq!(open.run(notes), vec![Ok(()); batch.len()]);
            assert_eq!(names(&path), Err(NamesError::InUse));
        }
        let expected: Vec<(String, PeerId)> = [1, 2, 3].map(note).map(|note| (note.name, note.key)).into();
        assert_eq!(names(&path), Ok(expected));
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn what_was_half_written_is_cut_off_and_what_is_damaged_is_said() {
        let path = file("torn");
        let (mut open, _) = NamesFile::open(&path).unwrap();
        open.run(vec![note(1), note(2), note(3)]);
        drop(open);
        let whole = std::fs::read(&path).unwrap();
        let ends: Vec<usize> = (0..whole.len()).filter(|at| whole[*at] == b'\n').map(|at| at + 1).collect();
        // Cut anywhere, the lines before are there, and more can be written behind them.
        for cut in (0..whole.len()).step_by(7) {
            std::fs::write(&path, &whole[..cut]).unwrap();
            let (mut open, there) = NamesFile::open(&path).unwrap();
            assert_eq!(there.len(), ends.iter().filter(|end| **end <= cut).count(), "cut at {cut}");
            open.run(vec![note(9)]);
            drop(open);
            assert_eq!(names(&path).unwrap().last().unwrap().0, "user9", "cut at {cut}");
        }
        // A bit that is turned over anywhere but in the last line's end, which then looks half written.
        for at in (0..whole.len() - 1).step_by(3) {
            let mut damaged = whole.clone();
            damaged[at] ^= 4;
            std::fs::write(&path, &damaged).unwrap();
            assert!(matches!(names(&path), Err(NamesError::Damaged { .. })), "at {at}");
        }
        // A line that was taken out.
        std::fs::write(&path, [&whole[..ends[0]], &whole[ends[1]..]].concat()).unwrap();
        assert_eq!(names(&path), Err(NamesError::Damaged { line: 2 }));
        std::fs::remove_file(path).unwrap();
    }
}
