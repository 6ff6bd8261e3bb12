//! Making a torrent of a file or a folder: one pass over its bytes, whatever the version.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use p2p_dht::bencode::{self, DictWriter};
use sha1::Sha1;
use sha2::Digest;

use super::{Info, Metainfo, MetainfoError, PieceLayers};
use crate::storage::{FileKind, Storage};
use crate::torrent::merkle::{BLOCK, Node, leaf, root};

/// Which version a torrent is made in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// The first alone: every client knows it.
    V1,
    /// The second alone: a tree for each file.
    V2,
    /// Both in one, which is two swarms.
    #[default]
    Hybrid,
}

/// How a torrent is made.
#[derive(Clone, Debug, Default)]
pub struct CreateOptions {
    /// The version. Hybrid.
    pub format: Format,
    /// Bytes in a piece: a power of two, 16 KiB or more. `None`: so many that there are some 1,500 pieces, from 16 KiB
    /// to 16 MiB.
    pub piece_length: Option<u32>,
    /// Whether peers may only be found by its trackers (BEP 27). No.
    pub private: bool,
    /// Trackers, in tiers (BEP 12). None.
    pub trackers: Vec<Vec<String>>,
    /// Where the content lies on the web (BEP 19). Nowhere.
    pub web_seeds: Vec<String>,
    /// What is to be said about it. Nothing.
    pub comment: Option<String>,
    /// When, in seconds since the Unix epoch. Not said: then the same content gives the same file.
    pub creation_date: Option<i64>,
}

/// Why no torrent was made.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    /// The file system failed.
    #[error("{}: {error}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// It is neither a file nor a folder, or its name is not UTF-8.
    #[error("{} cannot be in a torrent: it must be a file or a folder with a name in UTF-8, and no link", .0.display())]
    Special(PathBuf),
    /// The length of a piece is not one that the version allows.
    #[error("a piece of {0} bytes: it must be a power of two from 16384 to 2^28")]
    PieceLength(u32),
    /// What would come out is no torrent that anybody takes: an empty one, or one with impossible names.
    #[error(transparent)]
    Metainfo(#[from] MetainfoError),
}

/// A file to be hashed.
struct Source {
    path: PathBuf,
    /// Its place below the torrent's name; empty for a single file.
    parts: Vec<String>,
    length: u64,
}

/// What hashing has given.
struct Hashed {
    pieces: Vec<u8>,
    roots: Vec<Option<Node>>,
    layers: PieceLayers,
}

impl Metainfo {
    /// Hashes a file, or a folder with all that is in it, and makes a torrent of it. It reads everything: call it where
    /// waiting does no harm.
    ///
    /// # Errors
    /// See [`CreateError`].
    pub fn create<S: Storage>(
        storage: &mut S,
        path: &Path,
        options: &CreateOptions,
    ) -> Result<Metainfo, CreateError> {
        let special = || CreateError::Special(path.into());
        let name = path.file_name().and_then(|name| name.to_str()).ok_or_else(special)?;
        let mut files = Vec::new();
        collect(storage, path, Vec::new(), &mut files)?;
        // The order of BEP 52's tree, so that a hybrid has one for both.
        files.sort_by(|a, b| a.parts.cmp(&b.parts));
        let total: u64 = files.iter().map(|file| file.length).sum();
        let piece_length = options.piece_length.unwrap_or_else(|| fitting(total));
        if !piece_length.is_power_of_two() || !(BLOCK..=super::MAX_PIECE_LENGTH).contains(&piece_length) {
            return Err(CreateError::PieceLength(piece_length));
        }
        let hashed = hash(storage, &files, piece_length, options.format)?;
        let raw = encode(name, &files, piece_length, options, &hashed);
        let info = Info::parse(Bytes::from(raw))?;
        Ok(Metainfo {
            trackers: options.trackers.clone(),
            web_seeds: options.web_seeds.clone(),
            comment: options.comment.clone(),
            created_by: Some(concat!("p2p-swarm/", env!("CARGO_PKG_VERSION")).into()),
            creation_date: options.creation_date,
            ..Metainfo::bare(Arc::new(info), hashed.layers)
        })
    }
}

/// A length of piece that gives some 1,000 to 2,000 of them.
fn fitting(total: u64) -> u32 {
    (total / 1500).next_power_of_two().clamp(BLOCK.into(), 16 << 20) as u32
}

fn collect<S: Storage>(
    storage: &mut S,
    path: &Path,
    parts: Vec<String>,
    files: &mut Vec<Source>,
) -> Result<(), CreateError> {
    let failed = |error| CreateError::Io { path: path.into(), error };
    match storage.kind(path).map_err(failed)? {
        FileKind::File => {
            let mut file = storage.open(path).map_err(failed)?;
            let length = storage.len(&mut file).map_err(failed)?;
            files.push(Source { path: path.into(), parts, length });
        }
        FileKind::Folder => {
            for name in storage.list(path).map_err(failed)? {
                let below = path.join(&name);
                let name = name.into_string().map_err(|_| CreateError::Special(below.clone()))?;
                let parts = [parts.as_slice(), &[name]].concat();
                collect(storage, &below, parts, files)?;
            }
        }
        FileKind::Symlink | FileKind::Special => return Err(CreateError::Special(path.into())),
    }
    Ok(())
}

/// How many zeros follow a file of a hybrid, so that the next begins with a piece.
fn padding(files: &[Source], at: usize, piece_length: u32) -> u64 {
    let length = u64::from(piece_length);
    let more = files[at + 1..].iter().any(|file| file.length > 0);
    match more {
        true => files[at].length.next_multiple_of(length) - files[at].length,
        false => 0,
    }
}

fn hash<S: Storage>(
    storage: &mut S,
    files: &[Source],
    piece_length: u32,
    format: Format,
) -> Result<Hashed, CreateError> {
    let mut hashed = Hashed { pieces: Vec::new(), roots: Vec::new(), layers: PieceLayers::new() };
    let mut sha1 = Sha1::new();
    // How much of a piece `sha1` has.
    let mut within = 0;
    let mut feed = |mut data: &[u8], pieces: &mut Vec<u8>, last: bool| {
        while !data.is_empty() {
            let (now, rest) = data.split_at(data.len().min(piece_length as usize - within));
            sha1.update(now);
            within += now.len();
            data = rest;
            if within == piece_length as usize {
                pieces.extend_from_slice(&sha1.finalize_reset());
                within = 0;
            }
        }
        if last && within > 0 {
            pieces.extend_from_slice(&sha1.finalize_reset());
        }
    };
    let mut buffer = Vec::new();
    for (i, source) in files.iter().enumerate() {
        let failed = |error| CreateError::Io { path: source.path.clone(), error };
        let mut file = storage.open(&source.path).map_err(failed)?;
        let mut leaves = Vec::new();
        let mut at = 0;
        while at < source.length {
            let len = (source.length - at).min(1 << 20) as usize;
            storage.read_at(&mut file, at, len, &mut buffer).map_err(failed)?;
            if format != Format::V2 {
                feed(&buffer, &mut hashed.pieces, false);
            }
            if format != Format::V1 {
                leaves.extend(buffer.chunks(BLOCK as usize).map(leaf));
            }
            at += len as u64;
        }
        if format == Format::Hybrid {
            let mut zeros = padding(files, i, piece_length);
            while zeros > 0 {
                let now = zeros.min(1 << 16);
                feed(&vec![0; now as usize], &mut hashed.pieces, false);
                zeros -= now;
            }
        }
        hashed.roots.push((!leaves.is_empty()).then(|| tree(leaves, piece_length, &mut hashed.layers)));
    }
    feed(&[], &mut hashed.pieces, true);
    Ok(hashed)
}

/// The root of a file's blocks; if it has more than one piece their hashes go to the layers.
fn tree(leaves: Vec<Node>, piece_length: u32, layers: &mut PieceLayers) -> Node {
    let per_piece = (piece_length / BLOCK) as usize;
    if leaves.len() <= per_piece {
        let width = leaves.len().next_power_of_two();
        return root(leaves, 0, width);
    }
    let layer: Vec<Node> = leaves.chunks(per_piece).map(|piece| root(piece.to_vec(), 0, per_piece)).collect();
    let root = root(layer.clone(), per_piece.trailing_zeros(), layer.len().next_power_of_two());
    layers.insert(root, layer.into());
    root
}

fn encode(
    name: &str,
    files: &[Source],
    piece_length: u32,
    options: &CreateOptions,
    hashed: &Hashed,
) -> Vec<u8> {
    let single = matches!(files, [file] if file.parts.is_empty());
    bencode::dict(|d| {
        if options.format != Format::V1 {
            d.int("meta version", 2);
            d.dict("file tree", |top| match single {
                true => top.dict(name, |node| node.dict("", |leaf| describe(leaf, files, hashed, 0))),
                false => folder(top, files, hashed, 0..files.len(), 0),
            });
        }
        if options.format != Format::V2 {
            match single {
                true => d.int("length", files[0].length as i64),
                false => d.list("files", |list| {
                    for (i, file) in files.iter().enumerate() {
                        list.dict(|d| {
                            d.int("length", file.length as i64);
                            d.list("path", |path| file.parts.iter().for_each(|part| path.bytes(part)));
                        });
                        let zeros = match options.format {
                            Format::Hybrid => padding(files, i, piece_length),
                            Format::V1 | Format::V2 => 0,
                        };
                        if zeros > 0 {
                            list.dict(|d| {
                                d.bytes("attr", "p");
                                d.int("length", zeros as i64);
                                d.list("path", |path| {
                                    path.bytes(".pad");
                                    path.bytes(zeros.to_string());
                                });
                            });
                        }
                    }
                }),
            }
            d.bytes("pieces", &hashed.pieces);
        }
        d.bytes("name", name);
        d.int("piece length", piece_length.into());
        if options.private {
            d.int("private", 1);
        }
    })
}

fn describe(leaf: &mut DictWriter<'_>, files: &[Source], hashed: &Hashed, at: usize) {
    leaf.int("length", files[at].length as i64);
    if let Some(root) = hashed.roots[at] {
        leaf.bytes("pieces root", root);
    }
}

/// The files of one folder, which stand together because they are sorted.
fn folder(
    d: &mut DictWriter<'_>,
    files: &[Source],
    hashed: &Hashed,
    within: std::ops::Range<usize>,
    depth: usize,
) {
    let mut at = within.start;
    while at < within.end {
        let part = &files[at].parts[depth];
        let same = files[at..within.end].iter().take_while(|file| &file.parts[depth] == part).count();
        d.dict(part, |node| match files[at].parts.len() == depth + 1 {
            true => node.dict("", |leaf| describe(leaf, files, hashed, at)),
            false => folder(node, files, hashed, at..at + same, depth + 1),
        });
        at += same;
    }
}
