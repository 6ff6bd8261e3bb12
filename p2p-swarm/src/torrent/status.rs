//! How a session and its torrents stand, for whoever asks.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::address::Carrier;
use super::command::{TorrentError, TorrentId};
use super::metainfo::InfoHashes;
use super::throttle::RateLimits;
use super::tiers::TrackerStatus;
use super::web::WebSeedStatus;

/// How a session stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionStats {
    /// Its torrents, in the order in which they were added.
    pub torrents: Vec<TorrentId>,
    /// Peers of all of them that are connected.
    pub peers: usize,
    /// How fast blocks of all of them may come and go.
    pub rates: RateLimits,
    /// Bytes of blocks that came, of torrents that were removed as well.
    pub downloaded: u64,
    /// Bytes of blocks that were sent, likewise.
    pub uploaded: u64,
    /// Bytes per second that come, of late.
    pub down: u64,
    /// Bytes per second that go.
    pub up: u64,
}

/// How a torrent stands.
#[derive(Clone, Debug, PartialEq)]
pub struct TorrentStatus {
    /// Its names.
    pub hashes: InfoHashes,
    /// What it is called, if that is known.
    pub name: Option<String>,
    /// The folder that its file, or its folder, lies in.
    pub folder: PathBuf,
    /// What is being done.
    pub stage: TorrentStage,
    /// Why it is not worked on, if it failed, or if it is paused and nobody has asked for that.
    pub trouble: Option<TorrentError>,
    /// How fast its blocks may come and go.
    pub rates: RateLimits,
    /// How many pieces are there.
    pub pieces: u32,
    /// Of how many that are wanted.
    pub wanted: u32,
    /// Bytes that are wanted, if that is known.
    pub size: Option<u64>,
    /// Bytes of blocks that came.
    pub downloaded: u64,
    /// Bytes of blocks that were sent.
    pub uploaded: u64,
    /// Bytes of blocks that came and were not needed, or not right.
    pub wasted: u64,
    /// Bytes per second that come, of late.
    pub down: u64,
    /// Bytes per second that go.
    pub up: u64,
    /// Peers that are connected.
    pub peers: Vec<PeerStatus>,
    /// Its trackers, as they are asked, and other sources of peers; those of a hybrid for each of its two swarms.
    pub trackers: Vec<TrackerStatus>,
    /// Its web seeds.
    pub web_seeds: Vec<WebSeedStatus>,
}

/// What is being done for a torrent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TorrentStage {
    /// Its metadata is being asked for.
    Metadata,
    /// Hashes of its pieces are being asked for.
    Hashes,
    /// What is there is being hashed.
    Checking,
    /// Blocks are asked for.
    Downloading,
    /// All that is wanted is there.
    Seeding,
    /// Nothing: it was [paused](super::Pause). Or its files could not be written or read, and it is tried again.
    Paused,
    /// Nothing, since it failed.
    Failed,
}

/// A peer that is connected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerStatus {
    /// Its address.
    pub addr: SocketAddr,
    /// What carries the connection.
    pub carrier: Carrier,
    /// What program it says it is.
    pub client: Option<String>,
    /// Bytes of blocks that came from it.
    pub downloaded: u64,
    /// Bytes of blocks that it was sent.
    pub uploaded: u64,
    /// How many pieces it has.
    pub pieces: u32,
    /// Whether it has something that is wanted.
    pub interesting: bool,
    /// Whether it sends us nothing.
    pub chokes: bool,
    /// Whether it is sent nothing.
    pub choked: bool,
}
