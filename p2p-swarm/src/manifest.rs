//! A folder as a blob: the list of its files.
//!
//! The encoding is canonical and written by hand, because its hash is the folder's name.
//!
//! Names come from strangers and become paths, so decoding is strict: relative, `/` between the parts, no part empty,
//! `.` or `..`, no backslash, colon or control character, no file where another name wants a folder, none of the
//! endings that partial files have. What passes lies inside the folder it is fetched to. Names that differ
//! by case alone pass: a file system that takes them for one refuses the second.

use std::collections::BTreeSet;

use p2p_core::Key;

/// The longest manifest, in bytes. 16 MiB: some 200,000 files.
pub const MAX_MANIFEST: u64 = 16 << 20;
/// The longest name, in bytes. 1,024; each of its parts has at most 255.
pub const MAX_NAME: usize = 1024;

const MAGIC: &[u8] = b"p2p-folder/1";

/// One file of a folder.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// Where it lies in the folder: its parts with `/` between them.
    pub name: String,
    /// Its size in bytes.
    pub size: u64,
    /// Its root.
    pub root: Key,
}

/// The files of a folder.
///
/// Encoded it is the 12 bytes `p2p-folder/1`, then for each file, in ascending order of the names' bytes, the name's
/// length (2 bytes, big-endian), the name (UTF-8), the file's size (8 bytes, big-endian) and its root (32 bytes). One
/// folder has one encoding: empty folders, permissions and times are not part of it.
///
/// ```
/// use p2p_core::Key;
/// use p2p_swarm::{Entry, Manifest};
///
/// let song = Entry { name: "live/song.ogg".into(), size: 3, root: Key::of(b"abc") };
/// let folder = Manifest::new(vec![song]).unwrap();
/// assert_eq!(Manifest::decode(&folder.encode()).unwrap(), folder);
/// let escape = Entry { name: "../song.ogg".into(), size: 3, root: Key::of(b"abc") };
/// assert!(Manifest::new(vec![escape]).is_err());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    entries: Vec<Entry>,
}

/// Why a list of files is not a folder.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// The blob is something else, a plain file perhaps.
    #[error("the blob is not a folder: it does not begin with p2p-folder/1")]
    NotAFolder,
    /// It ends before its last file does.
    #[error("the folder's list ends too early")]
    Truncated,
    /// More than a manifest may have.
    #[error("the folder's list is longer than {MAX_MANIFEST} bytes")]
    TooLong,
    /// A name that could lead out of the folder, or nowhere.
    #[error("{name:?} cannot be the name of a file in a folder: {why}")]
    Name {
        /// The name, cut short.
        name: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Names out of order, or one name twice.
    #[error("the folder's list is not in order at {0:?}")]
    Order(String),
    /// A file's name is another file's folder.
    #[error("{0:?} is both a file and a folder")]
    Conflict(String),
}

impl Manifest {
    /// The folder of these files, in any order.
    ///
    /// # Errors
    /// See [`ManifestError`].
    pub fn new(mut entries: Vec<Entry>) -> Result<Manifest, ManifestError> {
        entries.sort_unstable();
        let manifest = Manifest { entries };
        manifest.check()?;
        Ok(manifest)
    }

    /// The files, in order of their names.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The bytes of all files together.
    pub fn size(&self) -> u64 {
        self.entries.iter().fold(0, |sum, entry| sum.saturating_add(entry.size))
    }

    /// The encoding.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        for entry in &self.entries {
            out.extend_from_slice(&(entry.name.len() as u16).to_be_bytes());
            out.extend_from_slice(entry.name.as_bytes());
            out.extend_from_slice(&entry.size.to_be_bytes());
            out.extend_from_slice(entry.root.as_bytes());
        }
        out
    }

    /// The folder that these bytes encode.
    ///
    /// # Errors
    /// They do not, or not in the canonical way, or a name could do harm.
    pub fn decode(bytes: &[u8]) -> Result<Manifest, ManifestError> {
        if bytes.len() as u64 > MAX_MANIFEST {
            return Err(ManifestError::TooLong);
        }
        let mut rest = bytes.strip_prefix(MAGIC).ok_or(ManifestError::NotAFolder)?;
        let mut entries = Vec::new();
        while !rest.is_empty() {
            let (len, after) = rest.split_first_chunk().ok_or(ManifestError::Truncated)?;
            let (name, after) =
                after.split_at_checked(u16::from_be_bytes(*len).into()).ok_or(ManifestError::Truncated)?;
            let (size, after) = after.split_first_chunk().ok_or(ManifestError::Truncated)?;
            let (root, after) = after.split_first_chunk().ok_or(ManifestError::Truncated)?;
            let name = std::str::from_utf8(name)
                .map_err(|_| refuse(&String::from_utf8_lossy(name), "it is not UTF-8"))?;
            entries.push(Entry { name: name.into(), size: u64::from_be_bytes(*size), root: Key::new(*root) });
            rest = after;
        }
        let manifest = Manifest { entries };
        manifest.check()?;
        Ok(manifest)
    }

    fn check(&self) -> Result<(), ManifestError> {
        for entry in &self.entries {
            check_name(&entry.name)?;
        }
        if let Some(pair) = self.entries.windows(2).find(|pair| pair[0].name >= pair[1].name) {
            return Err(ManifestError::Order(pair[1].name.clone()));
        }
        let bytes = self.entries.iter().map(|entry| 42 + entry.name.len() as u64).sum::<u64>();
        if bytes + MAGIC.len() as u64 > MAX_MANIFEST {
            return Err(ManifestError::TooLong);
        }
        let files: BTreeSet<&str> = self.entries.iter().map(|entry| entry.name.as_str()).collect();
        for entry in &self.entries {
            let folders = entry.name.match_indices('/').map(|(at, _)| &entry.name[..at]);
            if let Some(folder) = folders.into_iter().find(|folder| files.contains(folder)) {
                return Err(ManifestError::Conflict(folder.into()));
            }
        }
        Ok(())
    }
}

fn refuse(name: &str, why: &'static str) -> ManifestError {
    ManifestError::Name { name: name.chars().take(80).collect(), why }
}

fn check_name(name: &str) -> Result<(), ManifestError> {
    let forbidden = |c: char| c.is_control() || c == '\\' || c == ':';
    let why = if name.len() > MAX_NAME {
        "it is too long"
    } else if name.chars().any(forbidden) {
        "it has a backslash, a colon or a control character"
    } else if name.ends_with(PART) || name.ends_with(GROUPS) {
        "it ends like a file that is only partly there"
    } else if name.split('/').any(|part| part.is_empty() || part.len() > 255 || part == "." || part == "..") {
        "a part of it is empty, too long, or leads elsewhere"
    } else {
        return Ok(());
    };
    Err(refuse(name, why))
}

/// How the name of a file ends while it is being fetched.
pub(crate) const PART: &str = ".p2p-part";
/// How the name of the record of its groups ends.
pub(crate) const GROUPS: &str = ".p2p-groups";

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entry(name: &str) -> Entry {
        Entry { name: name.into(), size: 1, root: Key::of(name.as_bytes()) }
    }

    fn raw(names: &[&[u8]]) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        for name in names {
            out.extend_from_slice(&(name.len() as u16).to_be_bytes());
            out.extend_from_slice(name);
            out.extend_from_slice(&[0; 40]);
        }
        out
    }

    #[test]
    fn hostile_names_are_refused() {
        let long = "x".repeat(256);
        let names = [
            "",
            "/",
            "/etc/passwd",
            "a/",
            "a//b",
            ".",
            "..",
            "../a",
            "a/../b",
            "a/.",
            "a\\b",
            "C:x",
            "a\0b",
            "a\nb",
            &long,
            "a.p2p-part",
            "a.p2p-groups",
        ];
        for name in names {
            let refused = Manifest::decode(&raw(&[name.as_bytes()]));
            assert!(matches!(refused, Err(ManifestError::Name { .. })), "{name:?}: {refused:?}");
        }
        assert!(matches!(Manifest::decode(&raw(&[b"\xff"])), Err(ManifestError::Name { .. })));
    }

    #[test]
    fn only_one_encoding_is_taken() {
        let decode = |names: &[&[u8]]| Manifest::decode(&raw(names)).map(|_| ());
        assert_eq!(decode(&[b"a", b"b"]), Ok(()));
        assert_eq!(decode(&[b"b", b"a"]), Err(ManifestError::Order("a".into())));
        assert_eq!(decode(&[b"a", b"a"]), Err(ManifestError::Order("a".into())));
        assert_eq!(decode(&[b"a", b"a-b", b"a/b"]), Err(ManifestError::Conflict("a".into())));
        assert_eq!(Manifest::decode(b"ID3"), Err(ManifestError::NotAFolder));
        assert_eq!(Manifest::decode(&raw(&[b"a"])[..20]), Err(ManifestError::Truncated));
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(names in prop::collection::btree_set("[a-c]{1,3}(/[d-e]{1,2}){0,2}", 0..30)) {
            let entries: Vec<Entry> = names.iter().map(|name| entry(name)).collect();
            if let Ok(manifest) = Manifest::new(entries) {
                prop_assert_eq!(Manifest::decode(&manifest.encode()), Ok(manifest));
            }
        }

        #[test]
        fn any_bytes_decode_to_their_own_encoding_or_not_at_all(tail in prop::collection::vec(any::<u8>(), 0..300)) {
            let bytes = [MAGIC, &tail].concat();
            if let Ok(manifest) = Manifest::decode(&bytes) {
                prop_assert_eq!(manifest.encode(), bytes);
            }
        }
    }
}
