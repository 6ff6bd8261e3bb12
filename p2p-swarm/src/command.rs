//! What a swarm can be asked, and what it says.

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use p2p_core::{Key, Peer, Request};

use crate::Swarm;
use crate::job::{StoreError, Target};
use crate::ticket::Kind;

/// Hash a file, or a folder with all that is in it, and serve it from where it lies.
#[derive(Clone, Debug)]
pub struct Share {
    /// The file or folder.
    pub path: PathBuf,
}

/// Something that is shared now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shared {
    /// Its root: by this it is announced and fetched.
    pub root: Key,
    /// What it is.
    pub kind: Kind,
    /// Its bytes; of a folder, those of its files.
    pub size: u64,
    /// How many files.
    pub files: usize,
}

/// Serve something no more. What was shared twice must be unshared twice.
#[derive(Clone, Copy, Debug)]
pub struct Unshare {
    /// Its root.
    pub root: Key,
}

/// Fetch a blob. When it is there it is served, too.
///
/// While the fetch goes on, a file has two others beside its place, ending in `.p2p-part` and `.p2p-groups`. They
/// stay if it is cancelled or the machine crashes, and the next fetch of the blob to that place goes on from what is
/// good in them. If the blob is there already, whole, nothing is fetched.
#[derive(Clone, Debug)]
pub struct Fetch<P> {
    /// The blob.
    pub root: Key,
    /// Where to.
    pub to: Target,
    /// Who may have it; more can be [added](AddProviders).
    pub providers: Vec<P>,
    /// How often to say how far it is; `None`: not at all. Whoever sets it must read the items.
    pub progress: Option<Duration>,
}

/// More peers who may have a blob, for whatever fetches of it are under way. The reply is how many fetches those are.
#[derive(Clone, Debug)]
pub struct AddProviders<P> {
    /// The blob.
    pub root: Key,
    /// The peers.
    pub providers: Vec<P>,
}

/// What a fetch says on the way.
#[derive(Clone, Debug, PartialEq)]
pub enum FetchItem<P> {
    /// How far it is.
    Progress(Progress<P>),
    /// This peer sent what the root does not prove. It is asked for nothing more.
    Lied(P),
    /// This peer's answer is late; what it owes is asked of others too. Said once for each.
    Slow(P),
    /// There is nobody left to ask: [add some](AddProviders), or it ends soon.
    Starving,
}

/// How far a fetch is.
#[derive(Clone, Debug, PartialEq)]
pub struct Progress<P> {
    /// Bytes that are there and verified.
    pub bytes: u64,
    /// Of how many, once that is proved.
    pub total: Option<u64>,
    /// Bytes per second from each provider, of late.
    pub rates: Vec<(P, u64)>,
}

/// A blob that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched<P> {
    /// Its size in bytes.
    pub size: u64,
    /// How many of them were there already.
    pub resumed: u64,
    /// Who did what.
    pub peers: Vec<PeerReport<P>>,
    /// The blob itself, if it was fetched into memory.
    pub content: Option<Bytes>,
}

/// What one peer did in a fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerReport<P> {
    /// Who.
    pub peer: P,
    /// How it stands.
    pub standing: Standing,
    /// Bytes from it that were verified and kept.
    pub bytes: u64,
    /// Bytes from it that were not needed, because somebody else was faster, or were not true.
    pub wasted: u64,
}

/// How a provider stands in a fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// It sends, or has yet to.
    Good,
    /// It sends, but others were asked for some of what it was asked for.
    Slow,
    /// It does not have the blob.
    Without,
    /// It cannot be reached, or does not answer.
    Gone,
    /// It sent what is not true.
    Liar,
}

/// Why a blob was not fetched. The partial file stays.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FetchError<P> {
    /// Nobody who was asked has it, or could be reached.
    #[error("no provider is left: of {} peers none has it or answers", .peers.len())]
    NoProvider {
        /// Who was asked, and what became of them.
        peers: Vec<PeerReport<P>>,
    },
    /// Whoever had something to say lied.
    #[error("all providers lied, {} of them", .peers.len())]
    AllLied {
        /// Who.
        peers: Vec<PeerReport<P>>,
    },
    /// The storage failed, or does not take it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// This node fetches to that place already, or fetches too much at once.
    #[error("a fetch to that place is under way, or there are too many: wait for one to end")]
    Busy,
}

/// A command to a [`Swarm`].
#[derive(Clone, Debug)]
pub enum SwarmCommand<P> {
    /// See [`Share`].
    Share(Share),
    /// See [`Unshare`].
    Unshare(Unshare),
    /// See [`Fetch`].
    Fetch(Fetch<P>),
    /// See [`AddProviders`].
    AddProviders(AddProviders<P>),
}

/// How a command to a [`Swarm`] ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SwarmOutcome<P> {
    /// Of [`Share`].
    Shared(Result<Shared, StoreError>),
    /// Of [`Unshare`]: whether it was shared.
    Unshared(bool),
    /// Of [`Fetch`].
    Fetched(Result<Fetched<P>, FetchError<P>>),
    /// Of [`AddProviders`].
    Added(usize),
}

/// What a [`Swarm`] says unasked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SwarmEvent {
    /// A shared blob cannot be read, or is not what it was: it is shared no more.
    Lost {
        /// Its root.
        root: Key,
        /// Why.
        why: StoreError,
    },
}

impl<P: Peer> Request<Swarm<P>> for Share {
    type Item = ();
    type Reply = Result<Shared, StoreError>;

    fn command(self) -> SwarmCommand<P> {
        SwarmCommand::Share(self)
    }
    fn item(_: FetchItem<P>) -> Option<()> {
        None
    }
    fn reply(outcome: SwarmOutcome<P>) -> Option<Self::Reply> {
        match outcome {
            SwarmOutcome::Shared(shared) => Some(shared),
            SwarmOutcome::Unshared(_) | SwarmOutcome::Fetched(_) | SwarmOutcome::Added(_) => None,
        }
    }
}

impl<P: Peer> Request<Swarm<P>> for Unshare {
    type Item = ();
    type Reply = bool;

    fn command(self) -> SwarmCommand<P> {
        SwarmCommand::Unshare(self)
    }
    fn item(_: FetchItem<P>) -> Option<()> {
        None
    }
    fn reply(outcome: SwarmOutcome<P>) -> Option<bool> {
        match outcome {
            SwarmOutcome::Unshared(was) => Some(was),
            SwarmOutcome::Shared(_) | SwarmOutcome::Fetched(_) | SwarmOutcome::Added(_) => None,
        }
    }
}

impl<P: Peer> Request<Swarm<P>> for Fetch<P> {
    type Item = FetchItem<P>;
    type Reply = Result<Fetched<P>, FetchError<P>>;

    fn command(self) -> SwarmCommand<P> {
        SwarmCommand::Fetch(self)
    }
    fn item(item: FetchItem<P>) -> Option<FetchItem<P>> {
        Some(item)
    }
    fn reply(outcome: SwarmOutcome<P>) -> Option<Self::Reply> {
        match outcome {
            SwarmOutcome::Fetched(fetched) => Some(fetched),
            SwarmOutcome::Shared(_) | SwarmOutcome::Unshared(_) | SwarmOutcome::Added(_) => None,
        }
    }
}

impl<P: Peer> Request<Swarm<P>> for AddProviders<P> {
    type Item = ();
    type Reply = usize;

    fn command(self) -> SwarmCommand<P> {
        SwarmCommand::AddProviders(self)
    }
    fn item(_: FetchItem<P>) -> Option<()> {
        None
    }
    fn reply(outcome: SwarmOutcome<P>) -> Option<usize> {
        match outcome {
            SwarmOutcome::Added(fetches) => Some(fetches),
            SwarmOutcome::Shared(_) | SwarmOutcome::Unshared(_) | SwarmOutcome::Fetched(_) => None,
        }
    }
}
