//! The work that leaves the machine: everything that reads, writes or hashes files.

use bytes::Bytes;
use p2p_core::{Job, JobError};

use crate::search::ContentHash;

/// A [`Sharing`](super::Sharing)'s job, for a [`ShareWorker`](super::ShareWorker).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SharingJob {
    /// Read a part of a shared file.
    Read {
        /// Its name.
        name: String,
        /// From this byte.
        at: u64,
        /// So many.
        len: usize,
    },
    /// Begin to fetch a file, or go on where an earlier attempt at the same content has ended.
    Open {
        /// The download's number.
        number: u64,
        /// What it is to be called.
        name: String,
        /// Its content, if it is known: what is left of it is looked for by this.
        content: Option<ContentHash>,
        /// Its bytes.
        size: u64,
    },
    /// Write what has come of it.
    Write {
        /// The download's number.
        number: u64,
        /// At this byte.
        at: u64,
        /// The bytes.
        data: Bytes,
    },
    /// All is there: compare it with its hashes, and give it its name if they are right.
    Finish {
        /// The download's number.
        number: u64,
        /// Its bytes.
        size: u64,
        /// What it has to hash to.
        hashes: Vec<ContentHash>,
    },
    /// It is not fetched any more.
    Drop {
        /// The download's number.
        number: u64,
        /// Whether what is there is kept for whoever wants this content next; it is removed otherwise.
        keep: bool,
    },
}

/// What was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ShareOutput {
    /// The bytes that were read.
    Read(Bytes),
    /// Opened: these parts of it are there and are what was written once, each from its first byte to before its last,
    /// in order.
    Opened(Vec<(u64, u64)>),
    /// Written or dropped.
    Done,
    /// The file has its name, and these hashes.
    Kept(Vec<ContentHash>),
    /// It hashes to something else.
    Differs,
}

/// What went wrong where the files are. It is never a remote peer's fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FolderError {
    /// A name that could lead out of the folder, or is no name.
    #[error("{0:?} is no name of a file in this folder")]
    BadName(String),
    /// There is a file of this name already.
    #[error("{0:?} is there already: move it away, or choose another name")]
    Exists(String),
    /// The download is not open: the worker was started anew, perhaps.
    #[error("the worker does not hold this download: start it again")]
    NotOpen,
    /// The system failed.
    #[error("{0}")]
    Io(String),
    /// The job was not done.
    #[error(transparent)]
    Job(#[from] JobError),
}

impl Job for SharingJob {
    type Done = Result<ShareOutput, FolderError>;

    /// The jobs of one download go to one worker, in order.
    fn lane(&self) -> Option<u64> {
        match self {
            SharingJob::Read { .. } => None,
            SharingJob::Open { number, .. }
            | SharingJob::Write { number, .. }
            | SharingJob::Finish { number, .. }
            | SharingJob::Drop { number, .. } => Some(*number),
        }
    }

    fn failed(&self, why: JobError) -> Self::Done {
        Err(why.into())
    }
}
