//! What peers say to each other to move a file: a range of it is asked for, and comes in parts.

use std::time::Duration;

use bytes::Bytes;
use p2p_core::{Lane, Wire, payload};
use serde::{Deserialize, Serialize};

use crate::search::ContentHash;

/// The longest part of a file in one message, in bytes. 64 KiB.
pub const MAX_PART: usize = 64 << 10;

/// A message of [`Sharing`](super::Sharing).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SharingMsg<M> {
    /// Of the searching machine.
    Search(M),
    /// About a file.
    Transfer(Transfer),
}

/// About a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Transfer {
    /// To who has a file. Answered by [`Transfer::Part`] until the end of the range, or by [`Transfer::No`].
    Get {
        /// The asker's number, which answers repeat.
        id: u32,
        /// Which file.
        wanted: Wanted,
        /// From this byte,
        start: u64,
        /// to before this one, or the file's end.
        end: u64,
    },
    /// To who has asked: a part of the file.
    Part {
        /// The question's.
        id: u32,
        /// Its first byte's place in the file.
        at: u64,
        /// Where the answer ends, of which this is a part.
        end: u64,
        /// The bytes of the whole file.
        size: u64,
        /// A hash of the whole file, with the first part, if one is known.
        hash: Option<ContentHash>,
        /// The bytes; no more than [`MAX_PART`], and not none.
        #[serde(with = "payload")]
        data: Bytes,
    },
    /// To who has asked: no.
    No {
        /// The question's.
        id: u32,
        /// Why not.
        why: Refusal,
    },
    /// Nothing more comes, or is wanted, of this question, if there is one under way. A connection that is there for
    /// files alone ends.
    End {
        /// The question's.
        id: Option<u32>,
    },
}

/// Which file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wanted {
    /// The one with this content, if it is said. It goes before the others.
    pub hash: Option<ContentHash>,
    /// The source's number for it, in networks that have numbers.
    pub index: u32,
    /// Its name there.
    pub name: String,
    /// Its bytes, as far as the asker knows.
    pub size: u64,
}

/// Why a range of a file does not come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Refusal {
    /// Too many others want something.
    Busy {
        /// Ask again after so many seconds.
        seconds: u16,
    },
    /// There is no such file.
    Missing,
    /// It has no such range.
    Range {
        /// Its bytes.
        size: u64,
    },
}

impl Refusal {
    /// How long to wait, of what a peer says: one second to a minute.
    pub(super) fn wait(seconds: u16) -> Duration {
        Duration::from_secs(u64::from(seconds.clamp(1, 60)))
    }
}

impl<M: Wire> Wire for SharingMsg<M> {
    /// The searching machine's longest, or a part.
    const MAX_BYTES: usize = {
        let part = MAX_PART + (1 << 10);
        let search = M::MAX_BYTES + 8;
        if search > part { search } else { part }
    };
    const VERSION: u8 = M::VERSION;

    fn lane(&self) -> Lane {
        match self {
            SharingMsg::Search(msg) => msg.lane(),
            SharingMsg::Transfer(_) => Lane::Ordered,
        }
    }
}
