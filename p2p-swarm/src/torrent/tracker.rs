//! Trackers: who else is in a swarm, from a server that keeps count.
//!
//! - `announce` is what is asked and answered, and its bencoded form (BEP 3, 7, 23, 24, 48); [`Url`](super::Url) where.
//! - [`http`](super::http) and `udp` (BEP 15, 41) are the two wires: codecs, for `p2p_core::net::tcp` and
//!   `p2p_core::net::udp`.
//! - [`HttpClient`](super::http::HttpClient) and [`UdpClient`] are machines that ask; a [`TrackerClient`] takes a URL to the one that it is for. It is
//!   the [`PeerSource`](super::PeerSource) of what a [`Session`](super::Session) wants announced; when that is due, and to
//!   which of several trackers, the session decides (BEP 12).
//!
//! - A [`Tracker`] answers, over both wires: `swarms` is what it knows.
//!
//! What a tracker sends is bounded: [`MAX_BODY`](super::http::MAX_BODY) bytes, [`MAX_PEERS`] peers.

mod announce;
mod client;
mod server;
mod swarms;
mod udp;

pub use announce::{Announce, AnnounceReply, Event, MAX_PEERS, ScrapeReply, Scraped, TrackerError};
pub use client::{TrackerClient, UdpAsk, UdpClient, UdpQuestion, UdpReply};
pub use server::{CountPeers, HttpTracker, HttpTrackerTimer, Tracker, UdpTracker};
pub use swarms::{TrackerConfig, TrackerCounts};
pub use udp::{MAX_SCRAPE, UdpCodec, UdpMsg};
