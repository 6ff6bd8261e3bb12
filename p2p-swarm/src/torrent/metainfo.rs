//! What a torrent says: BEP 3, BEP 47's pad files, BEP 52's trees, and hybrids of the two.
//!
//! A [`Metainfo`] is a `.torrent` file; its [`Info`] is what the info-hash covers, and all that peers exchange by BEP 9.
//! Its bytes are kept as they came, since they, and not an encoding of what was understood, are what is hashed.
//!
//! - `parse` reads, and refuses with a reason what could do harm or is not whole; `names` are the paths;
//! - `create` hashes files and writes; `layout` says which bytes of which files a piece has.

mod create;
mod layout;
mod names;
mod parse;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use p2p_dht::bencode::{self, Value};

use super::merkle::Node;

pub use create::{CreateError, CreateOptions, Format};
pub(crate) use layout::Expected;
pub(crate) use names::{NEW, RESUME};
pub use parse::MetainfoError;

/// The longest `info` dictionary that is taken, in bytes, from a file or from peers. 16 MiB.
pub const MAX_INFO: usize = 16 << 20;
/// The longest `.torrent` file that is taken, in bytes. 64 MiB: piece layers may be long.
pub const MAX_METAINFO: usize = 64 << 20;
/// The most pieces that a torrent may have. 2^21, as in libtorrent: a bitfield of 256 KiB.
pub const MAX_PIECES: u32 = 1 << 21;
/// The longest piece, in bytes. 256 MiB.
pub const MAX_PIECE_LENGTH: u32 = 256 << 20;

/// The names of a torrent in its swarms: SHA-1 of `info` (BEP 3), SHA-256 of it (BEP 52), or both for a hybrid.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InfoHashes {
    /// The first version's.
    pub v1: Option<[u8; 20]>,
    /// The second version's.
    pub v2: Option<[u8; 32]>,
}

/// What a swarm is called in handshakes and by trackers: a v1 info-hash, or a v2 info-hash cut to 20 bytes.
pub type SwarmId = [u8; 20];

impl InfoHashes {
    /// The swarms that it is shared in: a hybrid in two, the first version's first.
    pub fn swarms(&self) -> impl Iterator<Item = SwarmId> {
        let cut = self.v2.and_then(|hash| hash.first_chunk().copied());
        self.v1.into_iter().chain(cut)
    }
}

impl fmt::Display for InfoHashes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hex = |bytes: &[u8]| data_encoding::HEXLOWER.encode(bytes);
        match (self.v1, self.v2) {
            (Some(v1), Some(v2)) => write!(f, "{} {}", hex(&v1), hex(&v2)),
            (Some(v1), None) => f.write_str(&hex(&v1)),
            (None, Some(v2)) => f.write_str(&hex(&v2)),
            (None, None) => f.write_str("none"),
        }
    }
}

impl fmt::Debug for InfoHashes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "InfoHashes({self})")
    }
}

/// One file of a torrent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TorrentFile {
    /// Where it lies in the folder that is downloaded to: its parts with `/` between them, the torrent's name first.
    pub path: String,
    /// Its size in bytes.
    pub length: u64,
    /// Where it begins in the torrent's pieces, put one after the other.
    pub offset: u64,
    /// What it is.
    pub kind: Kind,
    /// The root of its tree, if it has one (BEP 52).
    pub root: Option<[u8; 32]>,
}

impl TorrentFile {
    pub(crate) fn end(&self) -> u64 {
        self.offset + self.length
    }
}

/// What a file in a torrent is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A file.
    File,
    /// Zeros that let the next file begin with a piece (BEP 47): never written, nor asked for where that can be.
    Pad,
    /// A symbolic link (BEP 47): it has no bytes, and is not made.
    Symlink,
}

/// What a torrent's info-hash covers.
#[derive(Clone, PartialEq, Eq)]
pub struct Info {
    raw: Bytes,
    hashes: InfoHashes,
    name: String,
    private: bool,
    piece_length: u32,
    piece_count: u32,
    /// SHA-1 of each piece, if it has the first version.
    pieces: Bytes,
    files: Vec<TorrentFile>,
}

impl Info {
    /// The bytes that are hashed, and that peers exchange.
    pub fn raw(&self) -> &Bytes {
        &self.raw
    }

    /// Its names.
    pub fn hashes(&self) -> InfoHashes {
        self.hashes
    }

    /// What the file, or the folder, is called.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether peers may only be found by its trackers (BEP 27).
    pub fn private(&self) -> bool {
        self.private
    }

    /// Bytes in each piece but the last, and but the last of each file in a torrent of the second version.
    pub fn piece_length(&self) -> u32 {
        self.piece_length
    }

    /// How many pieces there are.
    pub fn piece_count(&self) -> u32 {
        self.piece_count
    }

    /// The files, in the order of their bytes.
    pub fn files(&self) -> &[TorrentFile] {
        &self.files
    }

    /// The bytes of all files, without pad files.
    pub fn size(&self) -> u64 {
        self.files.iter().filter(|file| file.kind == Kind::File).map(|file| file.length).sum()
    }

    /// Of the files whose pieces have hashes beyond `info` (BEP 52's piece layers): the roots.
    pub(crate) fn layered(&self) -> impl Iterator<Item = (&TorrentFile, Node)> {
        let long = move |file: &&TorrentFile| file.length > u64::from(self.piece_length);
        self.files.iter().filter(long).filter_map(|file| Some((file, file.root?)))
    }
}

impl fmt::Debug for Info {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Info").field("hashes", &self.hashes).field("name", &self.name).finish_non_exhaustive()
    }
}

/// The hashes of the pieces of a torrent's longer files, by the roots of the files' trees (BEP 52).
pub(crate) type PieceLayers = BTreeMap<Node, Arc<[Node]>>;

/// A `.torrent` file.
///
/// ```
/// use p2p_swarm::torrent::{CreateOptions, Format, Metainfo};
/// use p2p_swarm::MemoryFiles;
///
/// let mut files = MemoryFiles::default();
/// files.put("album/01.ogg", vec![1; 300_000]);
/// files.put("album/live/02.ogg", vec![2; 5]);
/// let options = CreateOptions { format: Format::Hybrid, ..CreateOptions::default() };
/// let metainfo = Metainfo::create(&mut files, "album".as_ref(), &options).unwrap();
///
/// let again = Metainfo::parse(&metainfo.encode()).unwrap();
/// assert_eq!(again.info().hashes(), metainfo.info().hashes());
/// assert_eq!(again.info().files()[0].path, "album/01.ogg");
/// assert_eq!(again.info().size(), 300_005);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metainfo {
    info: Arc<Info>,
    layers: Arc<PieceLayers>,
    /// Trackers, in tiers: within one any, the next when none answers (BEP 12).
    pub trackers: Vec<Vec<String>>,
    /// Where the content lies on the web (BEP 19).
    pub web_seeds: Vec<String>,
    /// What its maker wants to say.
    pub comment: Option<String>,
    /// The program that made it.
    pub created_by: Option<String>,
    /// When, in seconds since the Unix epoch.
    pub creation_date: Option<i64>,
}

impl Metainfo {
    /// What is hashed.
    pub fn info(&self) -> &Arc<Info> {
        &self.info
    }

    pub(crate) fn layers(&self) -> &Arc<PieceLayers> {
        &self.layers
    }

    /// The bytes of the `.torrent` file.
    pub fn encode(&self) -> Vec<u8> {
        bencode::dict(|d| {
            let mut trackers = self.trackers.iter().flatten();
            if let Some(first) = trackers.next() {
                d.bytes("announce", first);
            }
            if trackers.next().is_some() {
                d.list("announce-list", |tiers| {
                    for tier in &self.trackers {
                        tiers.list(|urls| tier.iter().for_each(|url| urls.bytes(url)));
                    }
                });
            }
            if let Some(comment) = &self.comment {
                d.bytes("comment", comment);
            }
            if let Some(created_by) = &self.created_by {
                d.bytes("created by", created_by);
            }
            if let Some(date) = self.creation_date {
                d.int("creation date", date);
            }
            // It was read before, perhaps with its keys in another order.
            if let Ok(info) = Value::decode_unsorted(&self.info.raw) {
                d.value("info", info);
            }
            if self.info.hashes.v2.is_some() {
                d.dict("piece layers", |layers| {
                    for (root, nodes) in self.layers.iter() {
                        layers.bytes(root, nodes.as_flattened());
                    }
                });
            }
            if !self.web_seeds.is_empty() {
                d.list("url-list", |urls| self.web_seeds.iter().for_each(|url| urls.bytes(url)));
            }
        })
    }
}

#[cfg(test)]
mod tests;
