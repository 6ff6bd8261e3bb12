//! The work that leaves the session: everything that reads, hashes or writes.
//!
//! The jobs of one torrent go to one worker, which owns its files and what is hashed of pieces that are not whole yet: so
//! there are no locks, and each block is hashed as it comes and written once. But what is there when a torrent is opened is
//! hashed by all workers, and nobody writes meanwhile.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use p2p_core::{Job, JobError, OpId};

use super::metainfo::{Info, PieceLayers};
use super::wire::Block;
use crate::bits::Bits;
use crate::job::StoreError;

/// A [`Session`](super::Session)'s job, for a [`TorrentWorker`](super::TorrentWorker).
#[derive(Debug)]
pub struct TorrentJob {
    pub(crate) torrent: u64,
    pub(crate) tag: Tag,
    pub(crate) work: Work,
}

/// What came of a [`TorrentJob`].
#[derive(Debug)]
pub struct TorrentDone {
    pub(crate) torrent: u64,
    pub(crate) tag: Tag,
    pub(crate) result: Result<Output, StoreError>,
}

/// What a job is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tag {
    /// A torrent's files: to open them,
    Open,
    /// to hash pieces that may be there,
    Check {
        /// from this one
        from: u32,
        /// to the one before this,
        until: u32,
    },
    /// to make what was written safe, since all is there,
    Sync,
    /// or as is done now and then,
    Save,
    /// to move them,
    Move,
    /// to close them.
    Close,
    /// A block that came.
    Block(Block),
    /// A piece that was wrong, or is right after it was wrong.
    Trace(u32),
    /// An answer to a peer, by its number.
    Serve(u64),
    /// A chunk of a file that somebody reads.
    Read(OpId),
    /// A block that could not be read, and perhaps can be now.
    Try,
}

/// What is to be done.
#[derive(Debug)]
pub(crate) enum Work {
    /// Open a torrent's files, or what is there of them; whether what was written down of them is believed.
    Open { info: Arc<Info>, layers: Arc<PieceLayers>, folder: PathBuf, trust: bool },
    /// Hash pieces that may be there.
    Check { info: Arc<Info>, layers: Arc<PieceLayers>, folder: PathBuf, pieces: Range<u32> },
    /// Hash a block and write it.
    Write { piece: u32, begin: u32, data: Bytes },
    /// Hash each block of a piece, to tell who has sent which.
    Digests { piece: u32 },
    /// Read a block.
    Read(Block),
    /// Make what was written survive a crash, and write down that these pieces are there.
    Sync { have: Bits },
    /// Sync what is there and move it to another folder.
    Move { to: PathBuf },
    /// Nobody wants it now: sync what is there, write it down if it is known, and close.
    Close { have: Option<Bits> },
}

/// What was done.
#[derive(Debug)]
pub(crate) enum Output {
    /// The pieces that are known to be there, and those that are to be hashed; and the files that are there though nothing
    /// says that this torrent has begun them.
    Opened {
        have: Bits,
        check: Bits,
        strange: Vec<u32>,
    },
    /// Those of the pieces that are right.
    Checked(Vec<u32>),
    /// The block is written; its piece is not whole yet.
    Written,
    /// It was the last: the piece is right.
    Verified,
    /// It was the last: the piece is wrong.
    Wrong,
    Digests(Vec<[u8; 32]>),
    Read(Bytes),
    Synced,
    Moved,
    Closed,
}

impl Job for TorrentJob {
    type Done = TorrentDone;

    fn lane(&self) -> Option<u64> {
        match self.work {
            Work::Check { .. } => None,
            _ => Some(self.torrent),
        }
    }

    fn failed(&self, why: JobError) -> TorrentDone {
        TorrentDone { torrent: self.torrent, tag: self.tag, result: Err(why.into()) }
    }
}
