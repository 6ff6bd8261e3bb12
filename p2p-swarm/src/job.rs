//! The work that leaves the machine: everything that reads, hashes or writes.
//!
//! A job says what for ([`Tag`]) and what ([`Work`]); it comes back with the same tag. Long work is done in slices, so
//! that a worker which hashes a large file still answers between two of them: an unfinished job comes back as what
//! is left to do, and the machine hands it out again. Jobs of one fetch go to one worker, which holds its files open
//! and knows which groups are there; reads and imports go to any.

use std::path::PathBuf;
use std::sync::Arc;

use blake3::hazmat::ChainingValue;
use bytes::Bytes;
use p2p_core::{Job, JobError, Key, OpId};

use crate::bits::Bits;
use crate::manifest::ManifestError;
use crate::tree::Outboard;
use crate::worker::Import;

/// A [`Swarm`](crate::Swarm)'s job, for a [`StoreWorker`](crate::StoreWorker).
#[derive(Debug)]
pub struct SwarmJob {
    pub(crate) tag: Tag,
    /// Jobs on one target share a lane, so that what is cancelled is closed before the target is opened again.
    pub(crate) lane: Option<u64>,
    pub(crate) work: Work,
}

/// What came of a [`SwarmJob`].
#[derive(Debug)]
pub struct SwarmDone {
    pub(crate) tag: Tag,
    pub(crate) result: Result<Output, StoreError>,
}

/// What a job is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tag {
    /// A command to share.
    Import(OpId),
    /// An answer to a peer, by its number.
    Serve(u64),
    /// A fetch, by its number.
    Fetch(u64),
    /// A run that a fetch has been sent.
    Write { fetch: u64, run: u64 },
}

/// What is to be done.
#[derive(Debug)]
pub(crate) enum Work {
    /// Hash on.
    Import(Box<Import>),
    /// Read a run of a shared blob and make its proof.
    Read { source: Source, outboard: Arc<Outboard>, run: u64 },
    /// Open the target of a fetch, or what is there of it.
    Open { fetch: u64, root: Key, target: Target },
    /// Hash on what was there.
    Check { fetch: u64 },
    /// Verify a run and write it. The first that a new target gets is the blob's last, which proves `size`.
    Write { fetch: u64, run: u64, size: u64, data: Bytes, proof: Vec<ChainingValue> },
    /// Make what was written survive a crash.
    Sync { fetch: u64 },
    /// Everything is there: sync, and put it in its place.
    Finish { fetch: u64 },
    /// Nobody wants it now: sync what is there, for another time, and close.
    Close { fetch: u64 },
}

/// What was done.
#[derive(Debug)]
pub(crate) enum Output {
    Importing(Box<Import>),
    /// The blobs, the one that was asked for last.
    Imported(Vec<Blob>),
    Read {
        size: u64,
        data: Bytes,
        proof: Vec<ChainingValue>,
    },
    /// The target is being hashed.
    Checking,
    /// The size, if it is known, and the runs that are there.
    Opened(Option<(u64, Bits)>),
    /// The run is verified and written, though not synced.
    Written,
    /// The run is not what the root says.
    NotProved,
    Synced,
    Finished(Blob),
    Closed,
}

/// Something that can be served.
#[derive(Clone, Debug)]
pub(crate) struct Blob {
    pub source: Source,
    pub outboard: Arc<Outboard>,
}

/// Where a blob's bytes are.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    File(PathBuf),
    Memory(Bytes),
}

/// Where a fetched blob goes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// To a file, with its folders. While it is not complete its name is longer: see [`Fetch`](crate::Fetch).
    File(PathBuf),
    /// Into memory, if it has no more than this many bytes.
    Memory {
        /// The most, in bytes.
        max: u64,
    },
}

/// What went wrong where the bytes are kept. It is never a remote peer's fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The file system failed.
    #[error("{}: {what}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        what: String,
    },
    /// What was written to a file may be lost if the machine fails, or may be already: how much of it is not known.
    #[error("{}: what was written there could not be made safe: {what}", path.display())]
    Unsynced {
        /// The file.
        path: PathBuf,
        /// What the system said.
        what: String,
    },
    /// Symbolic links are not followed, and nothing that has one is shared: what it stands for may change, or lie
    /// outside the folder.
    #[error("{} is a symbolic link: share what it points to, or remove it", .0.display())]
    Symlink(PathBuf),
    /// Neither a file nor a folder.
    #[error("{} is neither a file nor a folder", .0.display())]
    Special(PathBuf),
    /// A folder whose list cannot be made, or a list that is none.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// A file changed while it was hashed, or after it was shared: it is shared no more.
    #[error("{} has changed since it was shared: share it again", .0.display())]
    Changed(PathBuf),
    /// Something else is where a fetched file is to go.
    #[error("{} exists and is something else: move it away, or fetch to another place", .0.display())]
    Exists(PathBuf),
    /// The blob is longer than what was to be taken into memory.
    #[error("the blob has {size} bytes, more than the {max} that were to be taken")]
    TooLong {
        /// Its size.
        size: u64,
        /// The most.
        max: u64,
    },
    /// The machine asked a worker for what it does not hold, after a panic perhaps.
    #[error("the worker does not hold this fetch: start it again")]
    NotOpen,
    /// The job was not done.
    #[error(transparent)]
    Job(#[from] JobError),
}

impl Job for SwarmJob {
    type Done = SwarmDone;

    fn lane(&self) -> Option<u64> {
        self.lane
    }

    fn failed(&self, why: JobError) -> SwarmDone {
        SwarmDone { tag: self.tag, result: Err(why.into()) }
    }
}
