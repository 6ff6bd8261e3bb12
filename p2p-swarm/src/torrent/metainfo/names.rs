//! Names that strangers chose, and that become paths.
//!
//! A part that could lead out of the folder, or nowhere, is refused and not made into something else: two programs that
//! mend a name differently would not find each other's files.

use std::collections::BTreeSet;

use super::parse::MetainfoError;
use super::{Kind, TorrentFile};
use crate::manifest::{GROUPS, PART};

/// How the name of the file ends in which it is written down what is there of a torrent, after a dot and its hash in hex;
/// and that of the file which takes its place.
pub(crate) const RESUME: &str = ".resume";
pub(crate) const NEW: &str = ".new";

/// The longest path, in bytes. 4,096.
const MAX_PATH: usize = 4096;

/// What is wrong with one part of a path, if anything is.
fn check_part(part: &str) -> Result<(), &'static str> {
    match part {
        "" => Err("a part of it is empty"),
        "." | ".." => Err("a part of it leads elsewhere"),
        _ if part.len() > 255 => Err("a part of it is longer than 255 bytes"),
        _ if part.contains(['/', '\\']) => Err("a part of it has a slash or a backslash"),
        _ if part.chars().any(char::is_control) => Err("a part of it has a control character"),
        _ if part.as_bytes().get(1) == Some(&b':') => Err("a part of it begins like a drive"),
        _ if part.ends_with(PART) || part.ends_with(GROUPS) => {
            Err("it ends like a file that is only partly there")
        }
        _ if is_record(part) => Err("what is there of a torrent is written down in a file of this name"),
        _ => Ok(()),
    }
}

/// Whether it is the name of a torrent's record, in the eyes of a file system that may not tell cases apart.
fn is_record(part: &str) -> bool {
    let part = part.to_ascii_lowercase();
    let hash = part.strip_suffix(RESUME).or(part.strip_suffix(NEW)).and_then(|part| part.strip_prefix('.'));
    hash.is_some_and(|hash| [40, 64].contains(&hash.len()) && hash.bytes().all(|b| b.is_ascii_hexdigit()))
}

fn refuse(path: &str, why: &'static str) -> MetainfoError {
    MetainfoError::Path { path: path.chars().take(80).collect(), why }
}

/// The path of these parts.
pub(super) fn join<'a>(parts: impl IntoIterator<Item = &'a str>) -> Result<String, MetainfoError> {
    let mut path = String::new();
    for part in parts {
        if !path.is_empty() {
            path.push('/');
        }
        path.push_str(part);
        check_part(part).map_err(|why| refuse(&path, why))?;
        if path.len() > MAX_PATH {
            return Err(refuse(&path, "it is too long"));
        }
    }
    match path.is_empty() {
        true => Err(refuse(&path, "it is empty")),
        false => Ok(path),
    }
}

/// Whether each path is there once, and none is another's folder.
pub(super) fn check_all(files: &[TorrentFile]) -> Result<(), MetainfoError> {
    let mut seen = BTreeSet::new();
    let real = || files.iter().filter(|file| file.kind != Kind::Pad);
    for file in real() {
        if !seen.insert(file.path.as_str()) {
            return Err(refuse(&file.path, "two files have this name"));
        }
    }
    for file in real() {
        let mut folders = file.path.match_indices('/').map(|(at, _)| &file.path[..at]);
        if folders.any(|folder| seen.contains(folder)) {
            return Err(refuse(&file.path, "a part of it is another file"));
        }
    }
    Ok(())
}
