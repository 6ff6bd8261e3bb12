//! What applications see: files and folders go in under a root, and come out of a ticket.

mod fetching;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use p2p_core::{AskError, Handle, Peer};
use p2p_dht::{Dht, PutError};

use crate::command::{FetchError, PeerReport, Share, Shared};
use crate::job::StoreError;
use crate::manifest::ManifestError;
use crate::swarm::Swarm;
use crate::ticket::Ticket;

pub use fetching::Fetching;

/// Shares and fetches files and folders, whatever is below it.
#[async_trait]
pub trait ContentStore<P>: Send + Sync {
    /// Shares a file, or a folder with all that is in it, from where it lies, and announces it.
    ///
    /// # Errors
    /// [`ContentError::Store`] if it cannot be read or has what cannot be shared (symbolic links, names that are not
    /// UTF-8); [`ContentError::Announce`] if it is shared but could not be announced.
    async fn share(&self, path: &Path) -> Result<Shared, ContentError<P>>;
    /// Fetches what a ticket stands for, from its contacts and whoever else is found. A file becomes `to`, a folder
    /// becomes a folder `to`; what is there of it already, whole or in part, is used.
    fn fetch(&self, ticket: &Ticket<P>, to: &Path) -> Fetching<P>;
}

/// Something that was fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received<P> {
    /// Its bytes.
    pub size: u64,
    /// How many of them were there already.
    pub resumed: u64,
    /// How many files.
    pub files: usize,
    /// Who did what, over all files.
    pub peers: Vec<PeerReport<P>>,
}

/// Why something was not shared or fetched.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ContentError<P> {
    /// A blob was not fetched.
    #[error(transparent)]
    Fetch(#[from] FetchError<P>),
    /// What was to be shared cannot be.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The ticket says folder, and the blob is none. Whoever made it is to blame.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// A file of a folder has another size than the folder's list says. Whoever made the list is to blame.
    #[error("{name:?} has {found} bytes; the folder's list says {listed}")]
    Size {
        /// The file's name in the folder.
        name: String,
        /// Its size in the list.
        listed: u64,
        /// Its size.
        found: u64,
    },
    /// It is shared, but not announced.
    #[error(transparent)]
    Announce(#[from] PutError),
    /// The swarm's node says nothing.
    #[error(transparent)]
    Ask(#[from] AskError),
}

/// A [`ContentStore`] on a running [`Swarm`].
///
/// ```
/// use p2p_core::SimPeer;
/// use p2p_core::sim::{DiskModel, Network, Sim};
/// use p2p_swarm::{ContentStore, MemoryFiles, MemoryWorker, Store, Swarm, Ticket};
/// use std::path::Path;
///
/// let files = MemoryFiles::default();
/// files.put("album/01.ogg", vec![1; 300_000]);
/// files.put("album/live/02.ogg", vec![2; 5]);
/// let disk = files.clone();
/// let mut sim = Sim::<Swarm<SimPeer>, MemoryWorker>::with_workers(
///     1, Network::default(), DiskModel::default(), move |_| MemoryWorker::new(disk.clone()));
/// let peers = [(); 2].map(|()| sim.spawn(|_| Swarm::default()));
/// let [a, b] = peers.map(|peer| Store::new(sim.handle(peer)));
///
/// let received = sim.block_on(async move {
///     let shared = a.share(Path::new("album")).await?;
///     let ticket = Ticket::new(shared.root, shared.kind).with([peers[0]]);
///     b.fetch(&ticket, Path::new("copy")).await
/// });
/// assert_eq!(received.unwrap().files, 2);
/// assert_eq!(files.read("copy/live/02.ogg").unwrap(), [2; 5]);
/// ```
#[derive(Clone)]
pub struct Store<P: Peer> {
    swarm: Handle<Swarm<P>>,
    dht: Option<Arc<dyn Dht<P>>>,
}

impl<P: Peer> Store<P> {
    /// A store that knows of no providers but those in tickets.
    pub fn new(swarm: Handle<Swarm<P>>) -> Store<P> {
        Store { swarm, dht: None }
    }

    /// Announces what it shares, and finds who has what it fetches, in this hash table.
    #[must_use]
    pub fn with_dht(self, dht: Arc<dyn Dht<P>>) -> Store<P> {
        Store { dht: Some(dht), ..self }
    }
}

impl<P: Peer> std::fmt::Debug for Store<P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("dht", &self.dht.is_some()).finish_non_exhaustive()
    }
}

#[async_trait]
impl<P: Peer + Sync> ContentStore<P> for Store<P> {
    async fn share(&self, path: &Path) -> Result<Shared, ContentError<P>> {
        let shared = self.swarm.ask(Share { path: path.into() }).await??;
        if let Some(dht) = &self.dht {
            dht.provide(shared.root).await?;
        }
        Ok(shared)
    }

    fn fetch(&self, ticket: &Ticket<P>, to: &Path) -> Fetching<P> {
        Fetching::new(self.swarm.clone(), self.dht.clone(), ticket.clone(), PathBuf::from(to))
    }
}
