//! An archive: versions of objects as fragments, of which some are enough.
//!
//! In the manner of OceanStore (Kubiatowicz et al., *OceanStore: an architecture for global-scale persistent storage*, ASPLOS
//! 2000, §4.5; Weatherspoon & Kubiatowicz, *Erasure coding vs. replication*, IPTPS 2002). An object is cut into segments, and each
//! segment is coded into n fragments of which any m give it back. With m = n/4 that costs the room of four replicas; while half
//! of all nodes fail four replicas of a block are all lost once in sixteen times, and 13 of 16 fragments once in a hundred.
//!
//! A fragment lies in a [`Dht`] under its own hash, so whoever has one knows whether it is whole. The names of an object's fragments
//! are an object in turn, coded as well, and so on until they fit into the *head*, a small record that the owner signs: so
//! the names on the way from the head are the Merkle path of a fragment, with the hash of its segment, and the hash of the head is the name of a version.
//! Each version has a head of its own, at several places; a version stays readable when there is a newer one.
//!
//! The redundancy is here: the hash table below should keep one copy of a record, not eight
//! ([`DhtConfig::replicas`](crate::DhtConfig::replicas), [`write_quorum`](crate::DhtConfig::write_quorum)). So that a node's death
//! costs a segment one fragment, each fragment is put where the others are not: it has a number that changes its hash, and a
//! [`Lookup`] says whose that is. In a network of fewer than n nodes some have several.
//!
//! What is in the table ends there: fragments with its [`lifetime`](crate::DhtConfig::lifetime), unless the node that has put them
//! says them again. Whoever wants to keep an object has somebody [repair](Archive::repair) it within each lifetime, which puts
//! all of its fragments again, and its owner [renew](Archive::renew) its heads.
//!
//! In this order: [`Archive`], which stores, reads and [repairs](Archive::repair), and [`Version`], a head; in `code` a
//! segment's fragments, in `store`, `read` and `repair` how they go and come.

mod code;
mod read;
mod repair;
mod store;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::{self, StreamExt};
use p2p_core::{DecodeError, Key, Keypair, Peer, PeerId, Wire};
use p2p_overlay::Lookup;
use serde::{Deserialize, Serialize};

use crate::dht::Dht;
use crate::record::{InvalidRecord, Signed};
use crate::request::{GetError, PutError};

pub use code::{Code, InvalidCode, MAX_FRAGMENT, MAX_FRAGMENTS};
pub use read::Restoring;
pub use repair::Repaired;

/// How objects are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArchiveConfig {
    /// How segments become fragments: 16 of 64 bear the loss of half of all nodes.
    pub code: Code,
    /// At how many places a head lies. 8; 1 to 32.
    pub heads: u8,
    /// How many fragments are on their way at once. 32; at least 1.
    pub parallel: usize,
}

impl Default for ArchiveConfig {
    fn default() -> ArchiveConfig {
        ArchiveConfig { code: Code::default(), heads: 8, parallel: 32 }
    }
}

/// Versions of objects in a hash table.
///
/// ```
/// use std::sync::Arc;
/// use std::time::Duration;
/// use async_trait::async_trait;
/// use futures::{TryStreamExt, stream};
/// use p2p_core::sim::{DiskModel, Network, Sim};
/// use p2p_core::{Handle, Keypair, SimPeer};
/// use p2p_dht::archive::{Archive, ArchiveConfig, ArchiveError, Code};
/// use p2p_dht::{DhtConfig, MemoryStore, Replicated};
/// use p2p_overlay::{Find, Kademlia, Looked, Lookup};
///
/// type Node = Replicated<Kademlia<SimPeer>>;
/// struct Below(Handle<Node>);
///
/// #[async_trait]
/// impl Lookup<SimPeer> for Below {
///     async fn lookup(&self, find: Find) -> Looked<SimPeer> {
///         self.0.ask(find).await?
///     }
/// }
///
/// // The fragments are the redundancy: one copy of each.
/// let table = DhtConfig { replicas: 1, write_quorum: 1, read_quorum: 1, ..DhtConfig::default() };
/// let mut sim = Sim::<Node, MemoryStore<SimPeer>>::with_workers(
///     1, Network::default(), DiskModel::default(), |_| MemoryStore::default(),
/// );
/// let first = sim.spawn(|birth| Node::new(Kademlia::create(birth.peer), table));
/// for _ in 0..19 {
///     sim.spawn(|birth| Node::new(Kademlia::join(birth.peer, [first]), table));
/// }
/// sim.run_for(Duration::from_secs(60));
///
/// let tomorrow = sim.wall().as_secs() + 24 * 3600;
/// let code = Code { enough: 4, fragments: 16, length: 1024 };
/// let config = ArchiveConfig { code, ..ArchiveConfig::default() };
/// let [here, there] = [SimPeer(3), SimPeer(7)].map(|peer| {
///     Archive::new(Arc::new(sim.handle(peer)), Arc::new(Below(sim.handle(peer))), config)
/// });
/// let read = sim.block_on(async move {
///     let ada = Keypair::from_seed(&[7; 32]);
///     let diary = here.store(stream::iter([Ok::<_, std::io::Error>("nothing new".into())])).await?;
///     here.commit(&ada, "diary", None, diary, tomorrow).await?;
///     let newest = there.newest(ada.id(), "diary").await?;
///     there.read(newest.content()).try_collect::<Vec<_>>().await
/// });
/// assert_eq!(read.unwrap().concat(), b"nothing new");
/// ```
pub struct Archive<P: Peer> {
    dht: Arc<dyn Dht<P>>,
    lookup: Arc<dyn Lookup<P>>,
    config: ArchiveConfig,
}

impl<P: Peer> Clone for Archive<P> {
    fn clone(&self) -> Self {
        Archive { dht: self.dht.clone(), lookup: self.lookup.clone(), config: self.config }
    }
}

impl<P: Peer> fmt::Debug for Archive<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Archive").field("config", &self.config).finish_non_exhaustive()
    }
}

/// What an object is at one time, however many levels of names there are above it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// 1, 2, and so on; 0 of an object that is nowhere but here.
    pub number: u64,
    /// When its fragments need no longer be kept, in seconds since the Unix epoch.
    pub expires: u64,
    content: Content,
}

/// Where the fragments of something are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Content {
    code: Code,
    size: u64,
    /// Of the segments and their fragments at the top level, those of one after those of the other: at most [`HEAD`] bytes.
    names: Bytes,
}

/// How many bytes of names there are in a head at most: more are an object in turn.
const HEAD: u64 = 16 << 10;

impl Wire for Version {
    const MAX_BYTES: usize = HEAD as usize + 256;
}

impl Content {
    /// How many bytes it has.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// How it is coded.
    pub fn code(&self) -> Code {
        self.code
    }

    /// The bytes of each level: of the object, of the names of its fragments, and so on. The last is in the head.
    fn levels(&self) -> Vec<u64> {
        let mut levels = vec![self.size];
        loop {
            let names = self.code.names(levels.last().copied().unwrap_or_default());
            levels.push(names);
            if names <= HEAD {
                return levels;
            }
        }
    }

    /// Whether it can be what it says.
    fn check(&self) -> Result<(), ArchiveError> {
        self.code.check()?;
        match self.levels().last() {
            Some(names) if *names == self.names.len() as u64 => Ok(()),
            _ => Err(ArchiveError::Head),
        }
    }
}

impl Version {
    /// The hash of the head: what names this version, and all of it.
    pub fn name(&self) -> Key {
        Key::of(&self.to_bytes())
    }

    /// Whether it can be what it says: a head that was found is.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(&self) -> Result<(), ArchiveError> {
        self.content.check()
    }

    /// What it is made of.
    pub fn content(&self) -> &Content {
        &self.content
    }
}

/// Heads lie at keys of their own: one for each place, for the newest version and for each.
fn salt(object: &str, number: u64, place: u8) -> Vec<u8> {
    let object = Key::of(object.as_bytes());
    [b"archive/".as_slice(), object.as_bytes(), &number.to_be_bytes(), &[place]].concat()
}

/// In the place of a number: whichever is newest.
const NEWEST: u64 = 0;

impl<P: Peer> Archive<P> {
    /// Stores and reads through this hash table, and looks up there who keeps what.
    pub fn new(dht: Arc<dyn Dht<P>>, lookup: Arc<dyn Lookup<P>>, config: ArchiveConfig) -> Archive<P> {
        let heads = config.heads.clamp(1, 32);
        Archive { dht, lookup, config: ArchiveConfig { heads, ..config } }
    }

    /// The newest version of an owner's object: of the heads that are found those with the highest number, and if an owner has
    /// signed two so, the one with more heads.
    ///
    /// # Errors
    /// None is found.
    pub async fn newest(&self, owner: PeerId, object: &str) -> Result<Version, ArchiveError> {
        self.head(owner, object, NEWEST).await
    }

    /// A version of an owner's object.
    ///
    /// # Errors
    /// No head of it is found.
    pub async fn version(&self, owner: PeerId, object: &str, number: u64) -> Result<Version, ArchiveError> {
        self.head(owner, object, number.max(1)).await
    }

    async fn head(&self, owner: PeerId, object: &str, number: u64) -> Result<Version, ArchiveError> {
        let mut heads = stream::iter(0..self.config.heads)
            .map(|place| async move {
                let salt = salt(object, number, place);
                (self.dht.latest(owner, &salt).await, salt)
            })
            .buffer_unordered(self.config.heads.into());
        let mut found: BTreeMap<(u64, Key), (usize, Version)> = BTreeMap::new();
        let mut last = ArchiveError::Head;
        while let Some((head, salt)) = heads.next().await {
            let version = head.map_err(ArchiveError::from).and_then(|signed| {
                let version = Version::from_bytes(signed.value())?;
                version.check()?;
                let is_it = signed.publisher() == owner && signed.salt() == salt && signed.is_genuine();
                let is_it = is_it && (number == NEWEST || number == version.number);
                is_it.then_some(version).ok_or(ArchiveError::Head)
            });
            match version {
                Ok(version) => {
                    found.entry((version.number, version.name())).or_insert((0, version)).0 += 1;
                }
                Err(error) => last = error,
            }
        }
        let newest = found.into_iter().max_by_key(|((number, _), (heads, _))| (*number, *heads));
        newest.map(|(_, (_, version))| version).ok_or(last)
    }

    /// Puts the heads of a version that are gone in their places again, which only its owner can. Anybody can
    /// [repair](Archive::repair) the fragments.
    ///
    /// # Errors
    /// None is found, or too few places took one.
    pub async fn renew(&self, owner: &Keypair, object: &str, number: u64) -> Result<(), ArchiveError> {
        let version = self.version(owner.id(), object, number).await?;
        self.sign(owner, object, version.number, &version).await?;
        match self.newest(owner.id(), object).await {
            Ok(newest) if newest == version => self.sign(owner, object, NEWEST, &version).await,
            _ => Ok(()),
        }
    }

    /// Signs a content as the version after `before`, the [newest](Archive::newest) if there is any, until `expires`, in
    /// seconds since the Unix epoch, or until that one ends if that is later. Done when more than half of the places have it.
    ///
    /// # Errors
    /// Too few have; [`PutError::Conflict`] if somebody else with this key has signed one meanwhile.
    pub async fn commit(
        &self,
        owner: &Keypair,
        object: &str,
        before: Option<&Version>,
        content: Content,
        expires: u64,
    ) -> Result<Version, ArchiveError> {
        let number = before.map_or(0, |before| before.number) + 1;
        let expires = expires.max(before.map_or(0, |before| before.expires));
        let version = Version { number, expires, content };
        // Its own heads last: if this is interrupted, the next commit finds which number is taken.
        for at in [NEWEST, number] {
            self.sign(owner, object, at, &version).await?;
        }
        Ok(version)
    }

    async fn sign(
        &self,
        owner: &Keypair,
        object: &str,
        at: u64,
        version: &Version,
    ) -> Result<(), ArchiveError> {
        let heads = (0..self.config.heads).map(|place| {
            Signed::new(owner, salt(object, at, place), version.number, version.expires, version.to_bytes())
        });
        let heads = heads.collect::<Result<Vec<Signed>, InvalidRecord>>()?;
        let puts = heads.into_iter().map(|head| self.dht.publish(head, None));
        let done: Vec<Result<Key, PutError>> =
            stream::iter(puts).buffer_unordered(self.config.heads.into()).collect().await;
        let there = done.iter().filter(|done| done.is_ok()).count();
        let mut failed: Vec<PutError> = done.into_iter().filter_map(Result::err).collect();
        // One that has conflicts says more than the others.
        failed.sort_by_key(|error| !matches!(error, PutError::Conflict { .. }));
        match failed.into_iter().next() {
            Some(conflict @ PutError::Conflict { .. }) => Err(conflict.into()),
            Some(error) if 2 * there <= usize::from(self.config.heads) => Err(error.into()),
            _ => Ok(()),
        }
    }
}

/// Why something could not be stored or read.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// A fragment or a head could not be put.
    #[error(transparent)]
    Put(#[from] PutError),
    /// No head could be had.
    #[error(transparent)]
    Get(#[from] GetError),
    /// What should be a head is none. Whoever has signed it is to blame.
    #[error("not a head: {0}")]
    Encoding(#[from] DecodeError),
    /// The same.
    #[error("not a head: its names are not those of its size, or it is another version's")]
    Head,
    /// Nothing can be coded so.
    #[error(transparent)]
    Code(#[from] InvalidCode),
    /// The head cannot be signed.
    #[error(transparent)]
    Signed(#[from] InvalidRecord),
    /// Too many fragments of a segment are gone.
    #[error("{found} fragments of a segment are found, {needed} are needed")]
    Lost {
        /// How many there are.
        found: usize,
        /// How many it takes.
        needed: usize,
    },
    /// The fragments of a segment are what names them, but do not give the segment: whoever has stored it is to blame.
    #[error("the fragments of a segment do not give what its hash says: it was stored so")]
    Segment,
    /// What was to be stored could not be read.
    #[error("what was to be stored could not be read: {0}")]
    Source(#[source] Box<dyn std::error::Error + Send + Sync>),
}

#[cfg(test)]
mod tests;
