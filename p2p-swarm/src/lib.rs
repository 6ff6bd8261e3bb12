//! Files and folders under their BLAKE3 root.
mod command;
mod discovery;
mod download;
mod job;
mod manifest;
mod msg;
mod provider;
mod runs;
mod serve;
mod storage;
mod store;
mod swarm;
mod ticket;
mod tree;
mod worker;

pub use command::{
    AddProviders, Fetch, FetchError, FetchItem, Fetched, PeerReport, Progress, Share, Shared, Standing, SwarmCommand,
    SwarmEvent, SwarmOutcome, Unshare,
};
pub use discovery::{Discovery, DiscoveryError};
pub use job::{StoreError, SwarmDone, SwarmJob, Target};
pub use manifest::{Entry, MAX_MANIFEST, MAX_NAME, Manifest, ManifestError};
pub use msg::{Part, Refusal, SwarmMsg};
pub use storage::{FileKind, Files, MemoryFiles, Storage};
pub use store::{ContentError, ContentStore, Fetching, Received, Store};
pub use swarm::{Swarm, SwarmConfig, SwarmTimer};
pub use ticket::{Kind, MAX_CONTACTS, ParseTicketError, Ticket};
pub use tree::{GROUP, NotProved, Outboard, TreeBuilder, group_count, verify};
pub use worker::{FileWorker, MemoryWorker, StoreWorker};
