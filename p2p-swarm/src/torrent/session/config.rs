//! How a session behaves.

use std::time::Duration;

use crate::torrent::throttle::RateLimits;

/// Over what a session makes connections; it takes those that come over any.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Carriers {
    /// TCP.
    #[default]
    Tcp,
    /// uTP, and where nobody answers TCP. The machine is in [`Streams`](crate::utp::Streams).
    Both,
    /// uTP alone. The machine is in [`Streams`](crate::utp::Streams).
    Utp,
}

/// How a session behaves.
#[derive(Clone, Debug)]
pub struct SessionConfig {
    /// Over what connections are made. TCP.
    pub carriers: Carriers,
    /// Peers of one torrent that are connected, at most. 50.
    pub peers: usize,
    /// Peers of all torrents, at most; above it nobody is let in. 200.
    pub connections: usize,
    /// Peers of one torrent that are sent something at a time; one of them is drawn at random. 8.
    pub slots: usize,
    /// How fast blocks of all torrents together come and go. As fast as they can.
    pub rates: RateLimits,
    /// Blocks of one torrent that have come and are not yet written, at most; above it nothing is asked for. 1,024: 16
    /// MiB.
    pub unwritten: usize,
    /// Blocks being read for peers at once. 64.
    pub reads: usize,
    /// Requests of one peer that wait, as it is told; more are refused. 200: what waits to be sent to it then fits what a
    /// driver lets wait for one peer ([`Limits::queue_bytes_per_peer`](p2p_core::Limits), 4 MiB).
    pub requests_per_peer: usize,
    /// How long a peer may leave all requests unanswered before they are put to others; six times as long it may any one
    /// of them. 20 s.
    pub request_timeout: Duration,
    /// How long a peer may send nothing that was asked of it before it is unchoked by chance alone. 60 s (Cohen 2003).
    pub snubbed: Duration,
    /// The port of UDP at which this host's node of the Mainline DHT listens: peers are told it (BEP 5). None.
    pub dht_port: Option<u16>,
    /// What peers are told this program is.
    pub client: String,
}

impl Default for SessionConfig {
    fn default() -> SessionConfig {
        SessionConfig {
            carriers: Carriers::Tcp,
            peers: 50,
            connections: 200,
            slots: 8,
            rates: RateLimits::default(),
            unwritten: 1024,
            reads: 64,
            requests_per_peer: 200,
            request_timeout: Duration::from_secs(20),
            snubbed: Duration::from_secs(60),
            dht_port: None,
            client: concat!("p2p-swarm ", env!("CARGO_PKG_VERSION")).into(),
        }
    }
}
