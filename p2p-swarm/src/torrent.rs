//! BitTorrent: torrents, the peers' wire, and a client that is one machine.
//!
//! - [`Metainfo`] is a `.torrent` file, of the first version (BEP 3), the second (BEP 52), or both; [`Magnet`] a link.
//! - [`PeerMsg`] is what peers say to each other, and [`PeerCodec`] its bytes over TCP.
//! - [`Session`] is the client: it takes [`Add`], [`AddPeers`], [`Wait`], [`Read`], [`SetRates`], [`SetPriorities`], [`Pause`],
//!   [`Resume`], [`Move`], [`Status`], [`Stats`] and [`Remove`] as typed requests, and [`TorrentWorker`]s do its jobs on a
//!   [`Storage`](crate::Storage). Live it runs on `p2p_core::net::tcp`; a [`Client`], which has it run over uTP, too, on
//!   `p2p_core::net::both`.
//! - [`SessionConfig`] says how all are treated, and [`TorrentConfig`] how one is: its rates, which pieces come first, whether it
//!   is super-seeded.
//! - [`Mse`] encrypts its connections.
//! - A [`PeerSource`] finds peers for it: [`tracker`] has what speaks with trackers, [`DhtSource`] asks the Mainline DHT,
//!   [`LsdSource`] the local network. [`WebSeeds`] fetch from servers, over [`http`].
//! - [`measure`] has whole swarms of sessions in the simulator, and says how they do.
//!
//! What holds:
//!
//! - **A piece is passed on only when it is right**: SHA-1, the tree's root, or for a hybrid both. Each block is hashed as
//!   it comes, written once, and not read back but to resume, to tell who lied, or for SHA-1 if more of a piece came before
//!   what stands in front of it than may wait.
//! - **Who sends what is not true is named and asked for nothing more**, nor is anybody at the same address, or /64 of IPv6;
//!   who had an honest part in a wrong piece is not.
//! - **No file is written over that is not the torrent's**: see [`Add::folder`].
//! - **What a peer can make grow is bounded**: see [`Session`] and [`SessionConfig`].
//!
//! What was found right, synced and not touched since is not hashed again; after a crash the rest is, by all workers.

mod address;
mod candidates;
mod choker;
mod client;
mod command;
mod dht;
mod gather;
pub mod http;
mod job;
mod lsd;
mod magnet;
pub mod measure;
mod merkle;
mod metainfo;
mod mse;
mod peer;
mod picker;
mod priority;
mod rarity;
mod session;
mod source;
mod status;
mod throttle;
mod tiers;
pub mod tracker;
mod url;
mod web;
mod wire;
mod worker;

pub use address::{Addressed, Carrier};
pub use client::{Client, client};
pub use command::{
    Add, AddPeers, Announced, Announcing, Fetched, Fetching, Heard, Move, Pause, Read, Remove, Resume,
    SessionCommand, SessionEvent, SessionItem, SessionOutcome, SetPriorities, SetRates, Source, Stats,
    Status, Stop, TakesCommands, ToAnnounce, ToFetch, TorrentConfig, TorrentError, TorrentId, Wait,
};
pub use dht::DhtSource;
pub use job::{TorrentDone, TorrentJob};
pub use lsd::{
    LSD_GROUP, Lsd, LsdAnnounce, LsdCodec, LsdCommand, LsdForget, LsdHeard, LsdMsg, LsdSource, MAX_LSD_SWARMS,
};
pub use magnet::{MAX_MAGNET, Magnet, ParseMagnetError};
pub use merkle::BLOCK;
pub use metainfo::{
    CreateError, CreateOptions, Format, Info, InfoHashes, Kind, MAX_INFO, MAX_METAINFO, MAX_PIECE_LENGTH,
    MAX_PIECES, Metainfo, MetainfoError, SwarmId, TorrentFile,
};
pub use mse::{Encryption, Mse};
pub use picker::{Order, Priority};
pub use session::{Carriers, Session, SessionConfig, SessionTimer};
pub use source::{Found, PeerSource, SourceKind, find_peers};
pub use status::{PeerStatus, SessionStats, TorrentStage, TorrentStatus};
pub use throttle::RateLimits;
pub use tiers::TrackerStatus;
pub use url::{ParseUrlError, Scheme, Url};
pub use web::{WebError, WebRange, WebSeedStatus, WebSeeds};
pub use wire::{
    Block, ExtendedHandshake, Features, Handshake, HashRange, MAX_MESSAGE, MAX_PEX, MetadataMsg, PeerCodec,
    PeerMsg, PeerName, PexMsg, PexPeer,
};
pub use worker::{FileTorrents, MemoryTorrents, TorrentWorker};
