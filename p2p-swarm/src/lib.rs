//! Files and folders under their BLAKE3 root: shared from where they lie, fetched from several providers at once, each
//! 256 KiB proved against the root before it is kept.
//!
//! A *blob* is a sequence of bytes, and its BLAKE3 hash is its *root*, its name and the proof of it. A folder is a
//! blob, too: its [`Manifest`] lists its files. Applications use a [`ContentStore`]:
//!
//! - [`ContentStore::share`] hashes a file or folder and serves it; a [`Ticket`] names it, and perhaps who has it;
//! - [`ContentStore::fetch`] gets it from the ticket's contacts and whoever the [`Dht`](p2p_dht::Dht) finds.
//!
//! Below is one machine, the [`Swarm`], that every peer runs, as provider and fetcher alike; it takes [`Share`],
//! [`Unshare`], [`Fetch`] and [`AddProviders`] as typed requests. Its jobs (hashing, reading, writing) are done by
//! [`StoreWorker`]s on a [`Storage`]: the system's [`Files`], or in simulations [`MemoryFiles`] that lose in a crash
//! what was not synced.
//!
//! What holds:
//!
//! - **Nothing unproved is kept or served.** Data is [verified](verify) when it comes, before it is written, and what
//!   is read for others is verified before it is sent. A size is believed once the blob's last group has proved it.
//! - **Who sends what is not true is named**, as [`FetchItem::Lied`] and in the report at the end, and asked for
//!   nothing more. Who is slow is named, too, and what it owes is asked of others; who is gone is replaced.
//! - **After a crash nothing is believed that was not hashed again**: a group is there if its bytes give the value in
//!   the record beside the file, so neither lost nor torn writes can do harm. Syncing, every 64 MiB and every second,
//!   bounds what is fetched twice.
//! - **A peer can ask only for a run of 256 KiB**, of a blob that is shared; peers take turns; what waits of each is
//!   bounded.
//!
//! While a blob is being fetched it is not served yet; it is as soon as it is there. Empty folders, permissions
//! and times are not part of a folder; symbolic links are refused, by name.
#![cfg_attr(not(test), warn(clippy::unwrap_used))]

mod bits;
mod bucket;
mod command;
mod download;
mod job;
mod manifest;
mod msg;
mod provider;
mod rate;
mod runs;
mod serve;
mod storage;
mod store;
mod swarm;
mod ticket;
pub mod torrent;
mod tree;
pub mod utp;
mod worker;

pub use command::{
    AddProviders, Fetch, FetchError, FetchItem, Fetched, PeerReport, Progress, Share, Shared, Standing,
    SwarmCommand, SwarmEvent, SwarmOutcome, Unshare,
};
pub use job::{StoreError, SwarmDone, SwarmJob, Target};
pub use manifest::{Entry, MAX_MANIFEST, MAX_NAME, Manifest, ManifestError};
pub use msg::{Part, QuestionId, Refusal, SwarmMsg};
pub use storage::{FileKind, Files, MemoryFiles, Stamp, Storage};
pub use store::{ContentError, ContentStore, Fetching, Received, Store};
pub use swarm::{Swarm, SwarmConfig, SwarmTimer};
pub use ticket::{Kind, MAX_CONTACTS, ParseTicketError, Ticket};
pub use tree::{GROUP, NotProved, Outboard, TreeBuilder, group_count, verify};
pub use worker::{FileWorker, MemoryWorker, StoreWorker};
