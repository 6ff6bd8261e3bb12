//! PAST: whole files on the nodes next to their ids, in a network that may be filled to the brim.
//!
//! Rowstron & Druschel, *Storage management and caching in PAST, a large-scale, persistent peer-to-peer storage utility*
//! (SOSP 2001), whose sections are cited. A file's id is a hash of its owner, its name and a salt; the k nodes of
//! [`Pastry`](p2p_overlay::Pastry) that are nearest to it keep a replica each. Nodes and files have very different sizes, so
//! that some nodes are full while others are not; against that (§3):
//!
//! - a node that would fill too much of what it has free takes no replica (t_pri), and has another of its leaf set keep it in
//!   its place (*replica diversion*), which is stricter still (t_div);
//! - where that does not help, the owner tries with another salt, and so elsewhere (*file diversion*), up to three times.
//!
//! It is a machine of its own over Pastry, and not [`Replicated`](crate::Replicated): what it decides it decides by leaf sets
//! and free room, of which a hash table over any overlay knows nothing.
//!
//! Where it differs from the paper:
//!
//! - receipts (§2.1) come straight from each node that keeps a replica, over a connection that proves who that is, and not
//!   signed by way of the root; one for a diverted replica comes from the node that it was diverted by, which has a pointer;
//! - salts are 0, 1, 2 and 3 and not random, so that [`Past::find`] finds by name;
//! - the node that would be next has no pointer to a diverted replica (§3.3.2): when the one that has dies, whoever keeps the
//!   replica offers it to those who are nearest then;
//! - what a failed try has left is reclaimed by the owner, whose signature says that he may, and not by the root;
//! - a file has at most [`MAX_FILE`] bytes, as it goes in one message;
//! - there are no smartcards, so no quotas, and no cache on the way to a file.
//!
//! In this order: [`Past`], what an application holds, and how a node is configured. Then `certificate`, `msg`, `store` (the
//! jobs), `node` (the machine), `root` and `keep` (what nodes do for owners), `ask` (what users ask), `repair`; and `measure`,
//! the paper's experiment.

mod ask;
mod certificate;
mod keep;
pub mod measure;
mod msg;
mod node;
mod repair;
mod root;
mod store;

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use p2p_core::{AskError, Handle, Key, Keyed, Keypair, PeerId};
use p2p_overlay::LookupError;

pub use ask::{Fetch, Insert, PastCommand, PastOutcome, Receipts, ReclaimFile};
pub use certificate::{Certificate, InvalidFile, MAX_COPIES, MAX_FILE, MAX_FILE_NAME, Reclaim};
pub use msg::{Fetched, PastMsg, PastRefusal, Verdict};
pub use node::{PastNode, PastTimer};
pub use store::{KeepError, Kept, PastDone, PastJob, PastMemory};

/// How a node of PAST behaves.
#[derive(Clone, Copy, Debug)]
pub struct PastConfig {
    /// How many nodes keep a file, k (§2). 5; 1 to [`MAX_COPIES`], and not more than half of Pastry's leaves and one.
    pub replicas: u8,
    /// A file that takes more than this of what a node has free the node does not keep, t_pri (§3.3.1). 0.1.
    pub primary: f64,
    /// The same for a replica diverted to it, t_div: less, so that room is left for what is its own. 0.05.
    pub diverted: f64,
    /// How many bytes of files a node keeps. 1 GiB.
    pub capacity: u64,
    /// How many files. 65,536.
    pub max_files: usize,
    /// How long a peer has to keep or to give a file. 4 s.
    pub timeout: Duration,
    /// How long after a change among its leaves a node looks who should have its files, on average. 5 s.
    pub settle: Duration,
    /// How often it does so in any case. 10 min. Zero: never, for experiments on a network at rest.
    pub repair: Duration,
    /// How many inserts and the like of its users, and as many of others, a node has under way at once. 1024.
    pub calls: usize,
}

impl Default for PastConfig {
    fn default() -> PastConfig {
        PastConfig {
            replicas: 5,
            primary: 0.1,
            diverted: 0.05,
            capacity: 1 << 30,
            max_files: 65_536,
            timeout: Duration::from_secs(4),
            settle: Duration::from_secs(5),
            repair: Duration::from_secs(600),
            calls: 1024,
        }
    }
}

/// A store of files, as an application sees it.
///
/// ```
/// use p2p_core::sim::{DiskModel, Network, Sim};
/// use p2p_core::{Keypair, SimPeer};
/// use p2p_dht::past::{Past, PastConfig, PastMemory, PastNode};
/// use p2p_overlay::Pastry;
/// use std::time::Duration;
///
/// let mut sim = Sim::<PastNode<SimPeer>, PastMemory>::with_workers(
///     1, Network::default(), DiskModel::default(), |_| PastMemory::default(),
/// );
/// let config = PastConfig::default();
/// let first = sim.spawn(|birth| PastNode::new(Pastry::create(birth.peer), config));
/// for _ in 0..9 {
///     sim.spawn(|birth| PastNode::new(Pastry::join(birth.peer, [first]), config));
/// }
/// sim.run_for(Duration::from_secs(60));
///
/// let here = Past::new(sim.handle(SimPeer(3)), config);
/// let there = Past::new(sim.handle(SimPeer(7)), config);
/// let file = sim.block_on(async move {
///     let ada = Keypair::from_seed(&[7; 32]);
///     let now = 1_700_000_000_000;
///     let inserted = here.insert(&ada, "song.txt", "la la", now).await.unwrap();
///     assert_eq!((inserted.salt, inserted.receipts.copies), (0, 5));
///     there.find(ada.id(), "song.txt").await.unwrap()
/// });
/// assert_eq!(file.content, "la la");
/// ```
pub struct Past<P: Keyed> {
    node: Handle<PastNode<P>>,
    config: PastConfig,
    tries: u32,
}

/// How often a file is inserted under another salt (§3.4).
pub const RETRIES: u32 = 3;

/// A file that is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inserted {
    /// Under this id.
    pub file: Key,
    /// How often it was diverted.
    pub salt: u32,
    /// By whom.
    pub receipts: Receipts,
}

/// A file, as its owner has signed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// What the owner has signed.
    pub certificate: Certificate,
    /// The content, of which the certificate has the hash.
    pub content: Bytes,
}

impl<P: Keyed> Clone for Past<P> {
    fn clone(&self) -> Self {
        Past { node: self.node.clone(), config: self.config, tries: self.tries }
    }
}

impl<P: Keyed> fmt::Debug for Past<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Past").field("config", &self.config).finish_non_exhaustive()
    }
}

impl<P: Keyed> Past<P> {
    /// Stores and finds files through a node. All of a network should agree on [`PastConfig::replicas`].
    pub fn new(node: Handle<PastNode<P>>, config: PastConfig) -> Past<P> {
        Past { node, config, tries: 1 + RETRIES }
    }

    /// Without file diversion: for experiments.
    #[must_use]
    pub fn without_file_diversion(self) -> Past<P> {
        Past { tries: 1, ..self }
    }

    /// Keeps a file: done when each of the k nodes nearest to it has, or has had another keep it. A file stays as it is;
    /// inserted again with the same content it is mended, with another it is [`InsertError::Exists`].
    ///
    /// `now` is signed, in milliseconds since the Unix epoch: so a [reclaim](Past::reclaim) from before does not free it, and
    /// where this one fails, what an earlier one has left stays.
    ///
    /// # Errors
    /// [`InsertError::Full`] when there is no room under any of four salts. See [`InsertError`].
    pub async fn insert(
        &self,
        owner: &Keypair,
        name: &str,
        content: impl Into<Bytes>,
        now: u64,
    ) -> Result<Inserted, InsertError> {
        let content = content.into();
        let mut full = InsertError::Full;
        for salt in 0..self.tries {
            let certificate = Certificate::new(owner, name, salt, self.config.replicas, now, &content)?;
            let file = certificate.file();
            match self.node.ask(Insert { certificate, content: content.clone() }).await? {
                Ok(receipts) => return Ok(Inserted { file, salt, receipts }),
                // What was kept by this try goes: this is the next salt's, or nobody's.
                Err(error @ (InsertError::Full | InsertError::Receipts { .. })) => {
                    self.node.ask(ReclaimFile(Reclaim::new(owner, file, now..=now))).await?.ok();
                    full = error;
                }
                Err(other) => return Err(other),
            }
        }
        Err(full)
    }

    /// The file with this id.
    ///
    /// # Errors
    /// See [`FetchError`].
    pub async fn get(&self, file: Key) -> Result<File, FetchError> {
        self.node.ask(Fetch(file)).await?
    }

    /// The file of an owner with this name, under whichever salt it is.
    ///
    /// # Errors
    /// See [`FetchError`].
    pub async fn find(&self, owner: PeerId, name: &str) -> Result<File, FetchError> {
        let mut last = FetchError::NotFound { answered: 0, silent: 0 };
        for salt in 0..=RETRIES {
            match self.get(Certificate::file_id(&owner, name, salt)).await {
                Err(error @ FetchError::NotFound { .. }) => last = error,
                result => return result,
            }
        }
        Err(last)
    }

    /// Gives the room of a file back (§2.1): from then on nobody need keep it, and whoever is away at the time may. Says how
    /// many nodes had it. `now`, in milliseconds since the Unix epoch: what is inserted later is not freed, by whoever says this
    /// again.
    ///
    /// # Errors
    /// See [`FetchError`].
    pub async fn reclaim(&self, owner: &Keypair, file: Key, now: u64) -> Result<usize, FetchError> {
        self.node.ask(ReclaimFile(Reclaim::new(owner, file, 0..=now))).await?
    }
}

/// Why a file is not kept.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InsertError {
    /// It cannot be: the caller's mistake.
    #[error(transparent)]
    Invalid(#[from] InvalidFile),
    /// One of the nodes that should keep it has no room, and found nobody else among its leaves who has.
    #[error("no room for it: the nodes that should keep it, and those next to them, are too full")]
    Full,
    /// The owner has another file of this name.
    #[error("there is another file of this owner and name: choose another name, or reclaim it first")]
    Exists,
    /// Too few nodes have said that they keep it.
    #[error("{got} of {needed} receipts came; the last refusal: {refusal:?}")]
    Receipts {
        /// How many have.
        got: usize,
        /// How many should.
        needed: usize,
        /// Why the others have not, as far as that is known.
        refusal: Option<PastRefusal>,
    },
    /// Nobody who could keep it was found.
    #[error(transparent)]
    Lookup(#[from] LookupError),
    /// This node has too much under way.
    #[error("too many inserts and lookups at once: wait for some to end")]
    Busy,
    /// No answer from the machine itself.
    #[error(transparent)]
    Ask(#[from] AskError),
}

/// Why there is no file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// Nobody who should have it has it.
    #[error("not found: {answered} nodes do not have it, {silent} did not answer")]
    NotFound {
        /// How many answered.
        answered: usize,
        /// How many did not.
        silent: usize,
    },
    /// Nobody who could have it was found.
    #[error(transparent)]
    Lookup(#[from] LookupError),
    /// This node has too much under way.
    #[error("too many inserts and lookups at once: wait for some to end")]
    Busy,
    /// No answer from the machine itself.
    #[error(transparent)]
    Ask(#[from] AskError),
}

#[cfg(test)]
mod tests;
