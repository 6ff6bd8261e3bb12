//! A distributed hash table over any structured overlay.
//!
//! [`Replicated<O>`] is a machine over the overlay `O`: it keeps records on the nodes that the overlay makes
//! responsible for their keys, and moves the copies when nodes come and go. There are five kinds of [`Record`]:
//! values under their hash, values [`Signed`] by a publisher who may replace them, who provides what, values under any
//! key, which whoever knows a secret may remove, and records of which an application's [`Validator`] says what may stand.
//! Applications hold a [`Dht`], which does not say what is under it.
//!
//! What was acknowledged is at so many nodes, each of which has synced it ([`Stored::copies`]); it stays while fewer
//! of them fail before the others have noticed and copied it.
//!
//! Beside it, [`mainline`] is the DHT of BitTorrent, with its real bytes, under the same [`Dht`]. [`bencode`] is how
//! BitTorrent writes things down.
//!
//! Above it are storage systems: [`cfs`], a file system of blocks; [`past`], whole files where there is room; [`archive`],
//! versions as fragments of which some are enough.

pub mod archive;
pub mod bencode;
pub mod cfs;
mod client;
mod custom;
mod dht;
mod fair;
pub mod mainline;
pub mod measure;
pub mod past;
mod record;
mod replicated;
mod request;
mod store;
#[cfg(test)]
mod testing;

pub use client::{Client, Gateway};
pub use custom::{Custom, Rejection, Validator};
pub use dht::Dht;
pub use record::{
    InvalidRecord, MAX_REMOVABLE, MAX_SALT, MAX_VALUE, Record, RecordKind, Signed, Slot, Version,
};
pub use replicated::{
    Allocation, DhtConfig, DhtMsg, DhtTimer, Fetched, OFFERED, Offered, PARTS, Part, Refusal, Replicated,
    Sum, Verdict, Wanted,
};
pub use request::{
    Answer, DhtCommand, DhtItem, DhtOutcome, Get, GetAt, GetCustom, GetError, GetProviders, GetSigned,
    Newest, Options, Provide, ProvideAll, Publish, Put, PutAt, PutCustom, PutError, Remove, Report, Said,
    Stored, Swept, With, Withdraw, WithdrawError, Withdrawn,
};
pub use store::{MemoryStore, StoreDone, StoreEntry, StoreJob, WriteError, Writer};
#[cfg(feature = "redb")]
pub use store::{RedbStore, StoreError};
