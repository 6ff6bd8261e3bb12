//! Directories: names, and the files and directories that they stand for.

use std::collections::BTreeMap;

use p2p_core::{DecodeError, Wire};
use serde::{Deserialize, Serialize};

use super::CfsError;
use super::tree::Blocks;

/// The longest name of an entry, in bytes.
pub const MAX_NAME: usize = 255;
/// The longest directory, in bytes: 1 MiB, which are some 20,000 entries.
pub const MAX_DIRECTORY: usize = 1 << 20;

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Entry {
    /// A file.
    File(Blocks),
    /// A [`Directory`].
    Directory(Blocks),
}

/// Names in order, and what they stand for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Directory {
    entries: BTreeMap<String, Entry>,
}

/// As it is stored: sorted, each name once.
#[derive(Serialize, Deserialize)]
struct Stored(Vec<(String, Entry)>);

impl Wire for Stored {
    const MAX_BYTES: usize = MAX_DIRECTORY;
}

/// A name that cannot be one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} cannot be a name: it has 1 to 255 bytes, no / and no NUL, and is not . or ..; each is there once, in order"
)]
pub struct InvalidName(pub String);

/// Whether a name can be one, here and in a folder.
pub(super) fn check(name: &str) -> Result<(), InvalidName> {
    let valid =
        (1..=MAX_NAME).contains(&name.len()) && !name.contains(['/', '\0']) && name != "." && name != "..";
    valid.then_some(()).ok_or_else(|| InvalidName(name.into()))
}

impl Directory {
    /// What a name stands for.
    pub fn get(&self, name: &str) -> Option<Entry> {
        self.entries.get(name).copied()
    }

    /// Names and what they stand for, sorted.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, Entry)> {
        self.entries.iter().map(|(name, entry)| (name.as_str(), *entry))
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// A name stands for something else from now on.
    ///
    /// # Errors
    /// It cannot be one.
    pub fn insert(&mut self, name: &str, entry: Entry) -> Result<(), InvalidName> {
        check(name)?;
        self.entries.insert(name.into(), entry);
        Ok(())
    }

    /// A name stands for nothing from now on.
    pub fn remove(&mut self, name: &str) {
        self.entries.remove(name);
    }

    /// As it is stored.
    ///
    /// # Errors
    /// It would be longer than [`MAX_DIRECTORY`].
    pub fn encode(&self) -> Result<Vec<u8>, CfsError> {
        let entries = self.entries.iter().map(|(name, entry)| (name.clone(), *entry)).collect();
        let bytes = Stored(entries).to_bytes();
        match bytes.len() {
            len if len > MAX_DIRECTORY => Err(DecodeError::TooLong { len, max: MAX_DIRECTORY }.into()),
            _ => Ok(bytes),
        }
    }

    /// What was stored.
    ///
    /// # Errors
    /// It is no directory, or a name in it cannot be one.
    pub fn decode(bytes: &[u8]) -> Result<Directory, CfsError> {
        let Stored(stored) = Stored::from_bytes(bytes)?;
        let mut entries = BTreeMap::new();
        for (name, entry) in stored {
            check(&name)?;
            if entries.last_key_value().is_some_and(|(last, _)| *last >= name) {
                return Err(InvalidName(name).into());
            }
            entries.insert(name, entry);
        }
        Ok(Directory { entries })
    }
}
