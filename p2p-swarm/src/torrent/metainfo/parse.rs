//! Reading: a `.torrent` file, and the `info` that peers send.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use p2p_dht::bencode::{Flaw, Kind as Shape, Malformed, Value};
use sha1::Sha1;
use sha2::{Digest, Sha256};

use super::names::{check_all, join};
use super::{
    Info, InfoHashes, Kind, MAX_INFO, MAX_METAINFO, MAX_PIECE_LENGTH, MAX_PIECES, Metainfo, PieceLayers,
    TorrentFile,
};
use crate::torrent::merkle::{BLOCK, Node, height, root};

/// Why bytes are no torrent that is taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MetainfoError {
    /// They are not bencoded.
    #[error("not a torrent: {0}")]
    Bencode(#[from] Malformed),
    /// There is too much of it.
    #[error("{what} has {bytes} bytes, more than the {most} that are taken")]
    TooLong {
        /// Which part.
        what: &'static str,
        /// How long it is.
        bytes: usize,
        /// How long it may be.
        most: usize,
    },
    /// A field is missing, or not what it must be.
    #[error("{field:?} in the torrent: expected {expected}")]
    Field {
        /// Its key.
        field: &'static str,
        /// What should be there.
        expected: &'static str,
    },
    /// A later version than there was when this was written.
    #[error("the torrent has meta version {0}: a newer program may know it, this one knows 1 and 2")]
    Version(i64),
    /// A file's name could do harm, or names contradict each other.
    #[error("{path:?} cannot be a file of a torrent: {why}")]
    Path {
        /// The name, cut short.
        path: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The hashes of a file's pieces are not those of its tree.
    #[error("the piece layer of {path:?} {why}")]
    Layer {
        /// The file.
        path: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A hybrid's two lists of files are not one.
    #[error("the torrent's two versions differ at {path:?}: {why}")]
    Hybrid {
        /// The file.
        path: String,
        /// How they differ.
        why: &'static str,
    },
    /// The bytes do not have the hash by which they were asked for.
    #[error("the info dictionary has another hash than it was asked for by")]
    Hash,
}

use MetainfoError as Error;

fn field(field: &'static str, expected: &'static str) -> Error {
    Error::Field { field, expected }
}

/// The value that these bytes are. Some programs wrote keys in any order; then what is hashed is still the bytes.
fn read(bytes: &[u8]) -> Result<(Value<'_>, bool), Error> {
    match Value::decode(bytes) {
        Err(Malformed { flaw: Flaw::KeyOrder, .. }) => Ok((Value::decode_unsorted(bytes)?, false)),
        value => Ok((value?, true)),
    }
}

impl Metainfo {
    /// Reads a `.torrent` file.
    ///
    /// # Errors
    /// It is none, is not whole, or could do harm: see [`MetainfoError`].
    pub fn parse(bytes: &[u8]) -> Result<Metainfo, MetainfoError> {
        if bytes.len() > MAX_METAINFO {
            return Err(Error::TooLong { what: "the torrent", bytes: bytes.len(), most: MAX_METAINFO });
        }
        // Some editors end every file with a line's end.
        let (value, _) = read(bytes.trim_ascii_end())?;
        if value.kind() != Shape::Dict {
            return Err(field("info", "a dictionary that has it"));
        }
        let raw = value.get("info").ok_or(field("info", "a dictionary"))?.raw();
        let info = Info::parse(Bytes::copy_from_slice(raw))?;
        let layers = match info.hashes.v2 {
            Some(_) => layers(&info, value.get("piece layers"))?,
            None => PieceLayers::new(),
        };
        let text = |key: &str| Some(String::from_utf8_lossy(value.get(key)?.as_bytes()?).into_owned());
        Ok(Metainfo {
            info: Arc::new(info),
            layers: Arc::new(layers),
            trackers: trackers(&value),
            web_seeds: urls(value.get("url-list")),
            comment: text("comment"),
            created_by: text("created by"),
            creation_date: value.get("creation date").and_then(|date| date.as_int()),
        })
    }

    /// What a torrent whose `info` came from peers is, without what only its file says.
    pub(crate) fn bare(info: Arc<Info>, layers: PieceLayers) -> Metainfo {
        Metainfo {
            info,
            layers: Arc::new(layers),
            trackers: Vec::new(),
            web_seeds: Vec::new(),
            comment: None,
            created_by: None,
            creation_date: None,
        }
    }
}

/// Strings of a list, or one string. What is none, or empty, is passed over.
fn urls(value: Option<Value<'_>>) -> Vec<String> {
    let one = value.filter(|value| value.kind() == Shape::Bytes);
    let all = one.into_iter().chain(value.into_iter().flat_map(|value| value.items()));
    let mut urls: Vec<String> = Vec::new();
    for url in all.filter_map(|url| url.as_str()).filter(|url| !url.is_empty()) {
        if !urls.iter().any(|known| known == url) && urls.len() < 256 {
            urls.push(url.into());
        }
    }
    urls
}

fn trackers(value: &Value<'_>) -> Vec<Vec<String>> {
    let tiers = value.get("announce-list").into_iter().flat_map(|tiers| tiers.items()).take(64);
    let tiers: Vec<Vec<String>> =
        tiers.map(|tier| urls(Some(tier))).filter(|tier| !tier.is_empty()).collect();
    match tiers.is_empty() {
        true => urls(value.get("announce")).into_iter().map(|url| vec![url]).collect(),
        false => tiers,
    }
}

/// The piece layers, each checked against its file's root (BEP 52: without them a torrent is not valid).
fn layers(info: &Info, value: Option<Value<'_>>) -> Result<PieceLayers, Error> {
    let entries = value.into_iter().flat_map(|layers| layers.entries());
    let given: BTreeMap<&[u8], Value<'_>> = entries.collect();
    let mut layers = PieceLayers::new();
    for (file, root) in info.layered() {
        let wrong = |why| Error::Layer { path: file.path.clone(), why };
        let nodes = given.get(root.as_slice()).ok_or(wrong("is missing"))?;
        let nodes = nodes.as_bytes().ok_or(wrong("is not a string"))?;
        let (nodes, rest) = nodes.as_chunks::<32>();
        if !rest.is_empty() || nodes.len() != info.pieces_of(file).len() {
            return Err(wrong("has not one hash for each piece"));
        }
        if !info.is_layer(file, nodes) {
            return Err(wrong("does not have the root that the file has"));
        }
        layers.insert(root, nodes.into());
    }
    Ok(layers)
}

impl Info {
    /// Whether these are the hashes of a file's pieces.
    pub(crate) fn is_layer(&self, file: &TorrentFile, nodes: &[Node]) -> bool {
        let level = self.piece_level();
        let width = 1 << (height(file.length.div_ceil(BLOCK.into())) - level);
        nodes.len() <= width && file.root == Some(root(nodes.to_vec(), level, width))
    }

    /// How many levels a piece's hash lies above its blocks'.
    pub(crate) fn piece_level(&self) -> u32 {
        (self.piece_length / BLOCK).max(1).trailing_zeros()
    }

    /// Reads the dictionary that an info-hash covers.
    ///
    /// # Errors
    /// As [`Metainfo::parse`].
    pub fn parse(raw: Bytes) -> Result<Info, MetainfoError> {
        if raw.len() > MAX_INFO {
            return Err(Error::TooLong { what: "the info dictionary", bytes: raw.len(), most: MAX_INFO });
        }
        let (value, sorted) = read(&raw)?;
        if value.kind() != Shape::Dict {
            return Err(field("info", "a dictionary"));
        }
        let v2 = match value.get("meta version").map(|version| version.as_int()) {
            None | Some(Some(1)) => false,
            Some(Some(2)) => true,
            Some(Some(version)) => return Err(Error::Version(version)),
            Some(None) => return Err(field("meta version", "an integer")),
        };
        if v2 && !sorted {
            return Err(Malformed { at: 0, flaw: Flaw::KeyOrder }.into());
        }
        let v1 = value.get("pieces").is_some() || !v2;
        let name = value.get("name.utf-8").or(value.get("name")).and_then(|name| name.as_bytes());
        let name = String::from_utf8_lossy(name.ok_or(field("name", "a string"))?).into_owned();
        join([name.as_str()])?;
        let piece_length = value.get("piece length").and_then(|length| length.as_int());
        let piece_length = piece_length.and_then(|length| u32::try_from(length).ok());
        let piece_length = piece_length.filter(|length| (1..=MAX_PIECE_LENGTH).contains(length));
        let piece_length = piece_length.ok_or(field("piece length", "an integer from 1 to 2^28"))?;
        if v2 && (!piece_length.is_power_of_two() || piece_length < BLOCK) {
            return Err(field(
                "piece length",
                "a power of two, 16384 or more, in a torrent of the second version",
            ));
        }
        let hashes = InfoHashes {
            v1: v1.then(|| Sha1::digest(&raw).into()),
            v2: v2.then(|| Sha256::digest(&raw).into()),
        };
        let mut info = Info {
            hashes,
            private: value.get("private").and_then(|private| private.as_int()) == Some(1),
            piece_length,
            piece_count: 0,
            pieces: Bytes::new(),
            files: Vec::new(),
            name,
            raw: raw.clone(),
        };
        match (v1, v2) {
            (true, false) => info.files = listed(&value, &info.name)?,
            (false, _) => info.files = tree(&value, &info.name, piece_length)?,
            (true, true) => {
                let (listed, tree) = (listed(&value, &info.name)?, tree(&value, &info.name, piece_length)?);
                info.files = merged(listed, &tree)?;
            }
        }
        check_all(&info.files)?;
        if info.size() == 0 {
            return Err(field("length", "files that have at least a byte"));
        }
        let pieces = info.end().div_ceil(piece_length.into());
        info.piece_count = u32::try_from(pieces)
            .ok()
            .filter(|pieces| *pieces <= MAX_PIECES)
            .ok_or(field("piece length", "one so long that there are no more than 2^21 pieces"))?;
        if v1 {
            let pieces = value.get("pieces").and_then(|pieces| pieces.as_bytes());
            let pieces = pieces.ok_or(field("pieces", "a string"))?;
            if pieces.len() != info.piece_count as usize * 20 {
                return Err(field("pieces", "20 bytes for each piece"));
            }
            info.pieces = raw.slice_ref(pieces);
        }
        Ok(info)
    }
}

fn length(value: &Value<'_>) -> Result<u64, Error> {
    let length = value.get("length").and_then(|length| length.as_int());
    // Less than 2^62, so that sums of two cannot overflow.
    let length = length.filter(|length| (0..1 << 62).contains(length));
    length.map(|length| length as u64).ok_or(field("length", "an integer, zero or more"))
}

fn kind(value: &Value<'_>) -> Kind {
    let attributes = value.get("attr").and_then(|attr| attr.as_bytes()).unwrap_or_default();
    match (attributes.contains(&b'p'), attributes.contains(&b'l')) {
        (true, _) => Kind::Pad,
        (false, true) => Kind::Symlink,
        (false, false) => Kind::File,
    }
}

/// Where the next file begins: no sum of lengths is beyond what a file may have.
fn advance(offset: u64, length: u64) -> Result<u64, Error> {
    let end = offset.saturating_add(length);
    Some(end)
        .filter(|end| *end < 1 << 62)
        .ok_or(field("length", "files that have less than 2^62 bytes in all"))
}

/// The first version's files.
fn listed(value: &Value<'_>, name: &str) -> Result<Vec<TorrentFile>, Error> {
    let Some(list) = value.get("files") else {
        let length = length(value)?;
        return Ok(vec![TorrentFile { path: name.into(), length, offset: 0, kind: Kind::File, root: None }]);
    };
    let mut files = Vec::new();
    let mut offset = 0;
    for file in list.items() {
        let mut kind = kind(&file);
        let last = file.get("path").and_then(|parts| parts.items().last()?.as_bytes());
        // What BitComet called them before there was BEP 47.
        if last.is_some_and(|last| last.starts_with(b"_____padding_file_")) {
            kind = Kind::Pad;
        }
        let length = match kind {
            Kind::Symlink => 0,
            Kind::File | Kind::Pad => length(&file)?,
        };
        let parts = file.get("path.utf-8").or(file.get("path"));
        let path = match (parts, kind) {
            // BEP 47: a pad file needs no path, nor is it ever made.
            (_, Kind::Pad) => format!("{name}/.pad/{length}"),
            (None, _) => return Err(field("path", "a list of strings")),
            (Some(parts), _) => {
                let mut path = vec![name.to_owned()];
                for part in parts.items() {
                    let part = part.as_bytes().ok_or(field("path", "a list of strings"))?;
                    path.push(String::from_utf8_lossy(part).into_owned());
                }
                if path.len() == 1 {
                    return Err(field("path", "at least one string"));
                }
                join(path.iter().map(String::as_str))?
            }
        };
        files.push(TorrentFile { path, length, offset, kind, root: None });
        offset = advance(offset, length)?;
    }
    match files.is_empty() {
        true => Err(field("files", "at least one file")),
        false => Ok(files),
    }
}

/// What a node of the tree says of the file that it is.
fn file_at<'a>(node: &Value<'a>) -> Option<Value<'a>> {
    node.get("").filter(|leaf| leaf.get("length").is_some())
}

/// The second version's files, without recursion: bencoding bounds how deep they stand.
fn tree(value: &Value<'_>, name: &str, piece_length: u32) -> Result<Vec<TorrentFile>, Error> {
    let tree = value.get("file tree").filter(|tree| tree.kind() == Shape::Dict);
    let tree = tree.ok_or(field("file tree", "a dictionary"))?;
    if file_at(&tree).is_some() {
        return Err(field("file tree", "files that have names"));
    }
    let mut top = tree.entries();
    // A single file has no folder around it.
    let single = match (top.next(), top.next()) {
        (Some((key, node)), None) => key == name.as_bytes() && file_at(&node).is_some(),
        _ => false,
    };
    let mut files = Vec::new();
    let mut offset = 0_u64;
    let mut open = vec![tree.entries()];
    let mut path: Vec<String> = if single { Vec::new() } else { vec![name.into()] };
    let above = path.len();
    while let Some(entries) = open.last_mut() {
        let Some((key, node)) = entries.next() else {
            open.pop();
            path.truncate((above + open.len()).saturating_sub(1));
            continue;
        };
        if node.kind() != Shape::Dict {
            return Err(field("file tree", "dictionaries all the way down"));
        }
        path.push(String::from_utf8_lossy(key).into_owned());
        let Some(leaf) = file_at(&node) else {
            join(path.iter().map(String::as_str))?;
            open.push(node.entries());
            continue;
        };
        if node.entries().count() > 1 {
            return Err(field("file tree", "a file or a folder, not both"));
        }
        let length = length(&leaf)?;
        let joined = join(path.iter().map(String::as_str))?;
        path.pop();
        let root = leaf.get("pieces root").and_then(|root| root.as_array::<32>().copied());
        let kind = kind(&leaf);
        if length > 0 && root.is_none_or(|root| root == [0; 32]) {
            return Err(field("pieces root", "32 bytes, not all zero, for every file that is not empty"));
        }
        let root = root.filter(|_| length > 0);
        if length > 0 {
            offset = advance(offset.div_ceil(piece_length.into()) * u64::from(piece_length), 0)?;
        }
        files.push(TorrentFile { path: joined, length, offset, kind, root });
        offset = advance(offset, length)?;
    }
    Ok(files)
}

/// A hybrid's files: the first version's list, which has the pad files, with the second version's roots.
fn merged(mut listed: Vec<TorrentFile>, tree: &[TorrentFile]) -> Result<Vec<TorrentFile>, Error> {
    let differ = |file: &TorrentFile, why| Error::Hybrid { path: file.path.clone(), why };
    let mut roots = tree.iter();
    for file in listed.iter_mut().filter(|file| file.kind != Kind::Pad) {
        let Some(twin) = roots.next() else { return Err(differ(file, "it is in the first alone")) };
        if (&twin.path, twin.length) != (&file.path, file.length) {
            return Err(differ(file, "another file stands there in the second"));
        }
        if file.length > 0 && twin.offset != file.offset {
            return Err(differ(file, "it does not begin with a piece"));
        }
        file.root = twin.root;
    }
    match roots.next() {
        Some(twin) => Err(differ(twin, "it is in the second alone")),
        None => Ok(listed),
    }
}
