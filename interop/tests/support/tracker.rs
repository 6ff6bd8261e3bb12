//! Trackers of ours, and who asks them for us.

use std::net::SocketAddr;

use async_trait::async_trait;
use p2p_core::net::tcp::{self, Running};
use p2p_core::net::udp;
use p2p_core::{Limits, NoWorker};
use p2p_dht::mainline::Secret;
use p2p_swarm::torrent::http::{HttpClient, HttpCodec, Resolve};
use p2p_swarm::torrent::tracker::{
    CountPeers, HttpTracker, Tracker, TrackerClient, TrackerConfig, UdpClient, UdpCodec, UdpTracker,
};

/// Finds hosts as the system does.
pub struct System;

#[async_trait]
impl Resolve for System {
    async fn resolve(&self, host: &str, port: u16) -> std::io::Result<Vec<SocketAddr>> {
        Ok(tokio::net::lookup_host((host, port)).await?.collect())
    }
}

/// A tracker of ours.
pub struct Ours {
    http: Running<HttpTracker>,
    _udp: Running<UdpTracker>,
    pub addr: SocketAddr,
}

impl Ours {
    pub async fn start() -> Ours {
        loop {
            let Tracker { http, udp } = Tracker::new(TrackerConfig::default(), Secret::generate());
            let (here, limits) = ("127.0.0.1:0".parse().unwrap(), Limits::default());
            let codec = |_| HttpCodec::server();
            let http = tcp::spawn(http, codec, Some(here), limits.clone(), [NoWorker]).await.unwrap();
            let addr = http.local_addr().unwrap();
            // The port may be taken for the other wire: then another is chosen.
            if let Ok(udp) = udp::spawn(udp, UdpCodec::server(), addr, limits, [NoWorker]).await {
                return Ours { http, _udp: udp, addr };
            }
        }
    }

    pub async fn peers(&self) -> usize {
        self.http.handle().ask(CountPeers).await.unwrap().peers
    }
}

/// By what it announces over HTTP, and over UDP.
pub fn urls(addr: SocketAddr) -> [String; 2] {
    [format!("http://{addr}/announce"), format!("udp://{addr}/announce")]
}

/// What asks trackers for us.
pub struct Client {
    pub ask: TrackerClient<System>,
    _http: Running<HttpClient>,
    _udp: Running<UdpClient>,
}

pub async fn client() -> Client {
    let (here, limits) = ("127.0.0.1:0".parse().unwrap(), Limits::default());
    let codec = |_| HttpCodec::client();
    let http = tcp::spawn(HttpClient::default(), codec, None, limits.clone(), [NoWorker]).await.unwrap();
    let udp = udp::spawn(UdpClient::default(), UdpCodec::client(), here, limits, [NoWorker]).await.unwrap();
    Client {
        ask: TrackerClient::new(http.handle(), Some(udp.handle()), None, System),
        _http: http,
        _udp: udp,
    }
}
