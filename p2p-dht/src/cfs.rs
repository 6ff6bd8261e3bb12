//! CFS: a file system of blocks in a hash table.
//!
//! Dabek, Kaashoek, Karger, Morris & Stoica, *Wide-area cooperative storage with CFS* (SOSP 2001), whose sections are
//! cited. A publisher puts the blocks of files under their hashes, blocks that name those, and so on up to one *root
//! block*, which is signed, and is found under the publisher's key (§3.2, after SFSRO). Everybody reads, and takes nothing
//! on trust: each block is what its name says, and the root is what the publisher has signed.
//!
//! What is below is a [`Dht`], which replicates and repairs. Of the paper's DHash layer:
//! - **virtual servers** (§4.3) are [`VirtualChord`](p2p_overlay::VirtualChord)'s;
//! - **quotas** (§4.6), which the paper sets per address, are those of
//!   [`DhtConfig::allocation`](crate::DhtConfig::allocation), per subnet or key of whoever stores: they are enforced where blocks are
//!   kept, by the nodes that keep them, and shrink as a node fills up;
//! - **expiry** (§4.7): blocks end, unless the node that has put them says them again, as
//!   [`Replicated`](crate::Replicated) does; the root ends when its signature says. Nothing is deleted.
//!
//! In this order: [`Cfs`], which reads and writes, and [`Volume`], a root; in `tree` the blocks of one file, in `write` and
//! `read` how they go and come, in `directory` what names them.

mod directory;
mod read;
mod tree;
mod write;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::{self, BoxStream};

use bytes::{Bytes, BytesMut};
use p2p_core::{DecodeError, Key, Keypair, Peer, PeerId, Wire};
use serde::{Deserialize, Serialize};

use crate::dht::Dht;
use crate::record::{InvalidRecord, MAX_SALT, Signed};
use crate::request::{GetError, PutError};

pub use directory::{Directory, Entry, InvalidName, MAX_DIRECTORY, MAX_NAME};
pub use tree::{BLOCK, Blocks, FANOUT};

/// How files are read and written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CfsConfig {
    /// How many blocks are on their way into the hash table at once. 16; at least 1.
    pub parallel: usize,
    /// How many blocks are asked for at once, in the order of the file: the one that is read, and those that will be next
    /// (§7.1 measures windows of 8, 40 and 104 KByte; with the second, it is as quick as a TCP connection). 5, which are
    /// 40 KiB; at least 1.
    pub prefetch: usize,
}

impl Default for CfsConfig {
    fn default() -> CfsConfig {
        CfsConfig { parallel: 16, prefetch: 5 }
    }
}

/// A file system in a hash table, as whoever writes and reads it sees it.
///
/// ```
/// use std::sync::Arc;
/// use std::time::Duration;
/// use futures::{StreamExt, TryStreamExt, stream};
/// use p2p_core::sim::{DiskModel, Network, Sim};
/// use p2p_core::{Keypair, SimPeer};
/// use p2p_dht::cfs::{Cfs, CfsConfig, CfsError, Entry, Volume};
/// use p2p_dht::{DhtConfig, MemoryStore, Replicated};
/// use p2p_overlay::Chord;
///
/// type Node = Replicated<Chord<SimPeer>>;
/// let mut sim = Sim::<Node, MemoryStore<SimPeer>>::with_workers(
///     1, Network::default(), DiskModel::default(), |_| MemoryStore::default(),
/// );
/// let first = sim.spawn(|birth| Node::new(Chord::create(birth.peer), DhtConfig::default()));
/// let second = sim.spawn(|birth| Node::new(Chord::join(birth.peer, [first]), DhtConfig::default()));
/// sim.run_for(Duration::from_secs(300));
///
/// let tomorrow = sim.wall().as_secs() + 24 * 3600;
/// let (here, there) = (Arc::new(sim.handle(first)), Arc::new(sim.handle(second)));
/// let read = sim.block_on(async move {
///     let cfs = Cfs::<SimPeer>::new(here, CfsConfig::default());
///     let keypair = Keypair::from_seed(&[7; 32]);
///     let song = cfs.write(stream::iter([Ok::<_, std::io::Error>("la la".into())])).await?;
///     let volume = Volume::empty(keypair.id(), "music");
///     let changed = cfs.change(&volume.root, [("ada/song.txt", Some(Entry::File(song)))]).await?;
///     cfs.commit(&keypair, &volume, changed, tomorrow).await?;
///
///     // Somewhere else.
///     let cfs = Cfs::<SimPeer>::new(there, CfsConfig::default());
///     let volume = cfs.open(keypair.id(), "music").await?;
///     let file = cfs.file(&volume.root, "ada/song.txt").await?;
///     cfs.read(file, ..).try_collect::<Vec<_>>().await
/// });
/// assert_eq!(read.unwrap().concat(), b"la la");
/// ```
pub struct Cfs<P: Peer> {
    dht: Arc<dyn Dht<P>>,
    config: CfsConfig,
}

impl<P: Peer> Clone for Cfs<P> {
    fn clone(&self) -> Self {
        Cfs { dht: self.dht.clone(), config: self.config }
    }
}

impl<P: Peer> fmt::Debug for Cfs<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cfs").field("config", &self.config).finish_non_exhaustive()
    }
}

/// A root, as its publisher has signed it: all below it stays as it is, whatever is signed later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    /// Whose it is.
    pub publisher: PeerId,
    /// Tells the publisher's volumes apart; at most [`MAX_VOLUME`] bytes.
    pub name: String,
    /// The higher, the newer; 0 of one that was never signed.
    pub sequence: u64,
    /// When it ends, in seconds since the Unix epoch, unless it is signed again.
    pub expires: u64,
    /// The [`Directory`] at the top.
    pub root: Blocks,
}

/// The longest name of a volume, in bytes.
pub const MAX_VOLUME: usize = MAX_SALT - SALT.len();
const SALT: &[u8] = b"cfs/";

impl Volume {
    /// One that has nothing in it yet, and is nowhere but here.
    pub fn empty(publisher: PeerId, name: &str) -> Volume {
        Volume { publisher, name: name.into(), sequence: 0, expires: 0, root: Blocks::EMPTY }
    }
}

/// What is signed.
#[derive(Serialize, Deserialize)]
struct Root {
    directory: Blocks,
}

impl Wire for Root {
    const MAX_BYTES: usize = 64;
}

fn salt(volume: &str) -> Vec<u8> {
    [SALT, volume.as_bytes()].concat()
}

impl<P: Peer> Cfs<P> {
    /// Reads and writes through this hash table.
    pub fn new(dht: Arc<dyn Dht<P>>, config: CfsConfig) -> Cfs<P> {
        Cfs { dht, config }
    }

    // ---- roots

    /// The newest root that a publisher has signed.
    ///
    /// # Errors
    /// It is not found, or is no root.
    pub async fn open(&self, publisher: PeerId, name: &str) -> Result<Volume, CfsError> {
        let signed = self.dht.latest(publisher, &salt(name)).await?;
        if signed.publisher() != publisher || signed.salt() != salt(name) || !signed.is_genuine() {
            return Err(CfsError::Forged { key: Signed::key_of(&publisher, &salt(name)) });
        }
        let Root { directory } = Root::from_bytes(signed.value())?;
        let (sequence, expires) = (signed.sequence(), signed.expires());
        Ok(Volume { publisher, name: name.into(), sequence, expires, root: directory })
    }

    /// Signs a root that takes the place of `before`, which is what was [opened](Cfs::open), or [empty](Volume::empty):
    /// until `expires`, in seconds since the Unix epoch, or until that one would have ended if that is later.
    ///
    /// # Errors
    /// [`PutError::Conflict`] if somebody else with this key has signed another one meanwhile; otherwise as any put.
    pub async fn commit(
        &self,
        keypair: &Keypair,
        before: &Volume,
        root: Blocks,
        expires: u64,
    ) -> Result<Volume, CfsError> {
        let (sequence, expires) = (before.sequence + 1, expires.max(before.expires));
        let value = Root { directory: root }.to_bytes();
        let signed = Signed::new(keypair, salt(&before.name), sequence, expires, value)?;
        self.dht.publish(signed, (before.sequence > 0).then_some(before.sequence)).await?;
        Ok(Volume { publisher: keypair.id(), name: before.name.clone(), sequence, expires, root })
    }

    // ---- directories

    /// What is in a directory.
    ///
    /// # Errors
    /// It is not there, or is no directory.
    pub async fn list(&self, directory: Blocks) -> Result<Directory, CfsError> {
        if directory.size == 0 {
            return Ok(Directory::default());
        }
        if directory.size > MAX_DIRECTORY as u64 {
            return Err(DecodeError::TooLong { len: directory.size as usize, max: MAX_DIRECTORY }.into());
        }
        let mut bytes = BytesMut::new();
        let mut blocks = self.read(directory, ..);
        while let Some(block) = blocks.next().await {
            bytes.extend_from_slice(&block?);
        }
        Directory::decode(&bytes)
    }

    /// What a path leads to; an empty one to the directory itself.
    ///
    /// # Errors
    /// [`CfsError::NoSuchPath`], or a block on the way could not be had.
    pub async fn find(&self, root: &Blocks, path: &str) -> Result<Entry, CfsError> {
        let mut entry = Entry::Directory(*root);
        for name in path.split('/').filter(|name| !name.is_empty()) {
            let missing = || CfsError::NoSuchPath { path: path.into() };
            let Entry::Directory(directory) = entry else { return Err(missing()) };
            entry = self.list(directory).await?.get(name).ok_or_else(missing)?;
        }
        Ok(entry)
    }

    /// The file that a path leads to.
    ///
    /// # Errors
    /// As [`Cfs::find`]; and [`CfsError::NoSuchPath`] of a directory.
    pub async fn file(&self, root: &Blocks, path: &str) -> Result<Blocks, CfsError> {
        match self.find(root, path).await? {
            Entry::File(file) => Ok(file),
            Entry::Directory(_) => Err(CfsError::NoSuchPath { path: path.into() }),
        }
    }

    /// Writes the directories that differ from those below `root` by these changes; gives the new one at the top. Each
    /// path gets an entry, and the directories that lead to it, or loses the one that it has, if it has one. Nothing is put in
    /// the place of what has to be removed first.
    ///
    /// # Errors
    /// [`CfsError::FileInTheWay`], [`CfsError::NotEmpty`]; a name cannot be one, or a directory is too long; or a block could not be had or put.
    pub async fn change<'a>(
        &self,
        root: &Blocks,
        changes: impl IntoIterator<Item = (&'a str, Option<Entry>)>,
    ) -> Result<Blocks, CfsError> {
        let change = |(path, entry): (&'a str, _)| {
            let path = path.trim_matches('/');
            path.split('/').try_for_each(directory::check)?;
            Ok(Change { path, rest: path, entry })
        };
        self.changed(*root, changes.into_iter().map(change).collect::<Result<_, CfsError>>()?).await
    }

    fn changed<'a>(
        &'a self,
        directory: Blocks,
        changes: Vec<Change<'a>>,
    ) -> BoxFuture<'a, Result<Blocks, CfsError>> {
        Box::pin(async move {
            let mut entries = self.list(directory).await?;
            let mut below: BTreeMap<&str, Vec<Change<'_>>> = BTreeMap::new();
            for Change { path, rest, entry } in changes {
                match (rest.split_once('/'), entry) {
                    (Some((name, rest)), entry) => {
                        below.entry(name).or_default().push(Change { path, rest, entry });
                    }
                    (None, Some(entry)) => match (entries.get(rest), entry) {
                        (Some(Entry::Directory(there)), Entry::File(_)) if there.size > 0 => {
                            return Err(CfsError::NotEmpty { path: path.into() });
                        }
                        _ => entries.insert(rest, entry)?,
                    },
                    (None, None) => entries.remove(rest),
                }
            }
            for (name, changes) in below {
                let put = changes.iter().find(|change| change.entry.is_some());
                let before = match (entries.get(name), put) {
                    (Some(Entry::Directory(directory)), _) => directory,
                    (Some(Entry::File(_)), Some(Change { path, .. })) => {
                        return Err(CfsError::FileInTheWay { path: (*path).into() });
                    }
                    (None, Some(_)) => Blocks::EMPTY,
                    // What is to be removed is not there.
                    (Some(Entry::File(_)) | None, None) => continue,
                };
                entries.insert(name, Entry::Directory(self.changed(before, changes).await?))?;
            }
            if entries.is_empty() {
                return Ok(Blocks::EMPTY);
            }
            let bytes = stream::iter([Ok::<_, CfsError>(Bytes::from(entries.encode()?))]);
            self.write(bytes).await
        })
    }

    /// The block with this name, which has so many bytes.
    async fn block(&self, key: Key, len: usize) -> Result<Bytes, CfsError> {
        let block = self.dht.get(key).await?;
        match block.len() == len && Key::of(&block) == key {
            true => Ok(block),
            false => Err(CfsError::Forged { key }),
        }
    }
}

/// A change of what a path leads to.
#[derive(Clone, Copy)]
struct Change<'a> {
    path: &'a str,
    /// Its end, as seen from a directory on the way.
    rest: &'a str,
    entry: Option<Entry>,
}

/// The blocks of a file in their order, as they come.
pub type Reading = BoxStream<'static, Result<Bytes, CfsError>>;

/// Why something could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum CfsError {
    /// A block or a root could not be put.
    #[error(transparent)]
    Put(#[from] PutError),
    /// A block or a root could not be had.
    #[error(transparent)]
    Get(#[from] GetError),
    /// What came is not what the name says: the hash table does not check, or whoever named a block of this file has lied
    /// about its length.
    #[error("the block {key} is not what names it")]
    Forged {
        /// What was asked for.
        key: Key,
    },
    /// What should be a root or a directory is none. Whoever has published it is to blame.
    #[error("not a directory: {0}")]
    Encoding(#[from] DecodeError),
    /// A directory has a name that cannot be one, or would get it.
    #[error(transparent)]
    Name(#[from] InvalidName),
    /// Nothing is there, or something of another kind.
    #[error("{path:?} leads nowhere, or not to a file")]
    NoSuchPath {
        /// What was looked for.
        path: String,
    },
    /// A path would lead through a file.
    #[error("{path:?} leads through a file: remove that first, or choose another path")]
    FileInTheWay {
        /// What was to be put.
        path: String,
    },
    /// A file would take the place of a directory, and of all that is in it.
    #[error("{path:?} is a directory that is not empty: remove it first, or choose another path")]
    NotEmpty {
        /// What was to be put.
        path: String,
    },
    /// The root cannot be signed: the name of the volume is too long.
    #[error(transparent)]
    Root(#[from] InvalidRecord),
    /// What was to be written could not be read.
    #[error("what was to be written could not be read: {0}")]
    Source(#[source] Box<dyn std::error::Error + Send + Sync>),
}

#[cfg(test)]
mod tests;
