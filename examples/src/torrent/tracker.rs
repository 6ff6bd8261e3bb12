//! `torrent tracker`: tells peers of each other, over HTTP and over UDP.

use std::net::SocketAddr;
use std::time::Duration;

use p2p_core::net::tcp::{self, Running};
use p2p_core::net::udp;
use p2p_core::{Limits, NoWorker};
use p2p_dht::mainline::Secret;
use p2p_examples::{Failure, say};
use p2p_swarm::torrent::http::HttpCodec;
use p2p_swarm::torrent::tracker::{CountPeers, HttpTracker, Tracker, TrackerConfig, UdpCodec, UdpTracker};

#[derive(clap::Args)]
pub(crate) struct Track {
    /// Where to listen.
    #[arg(long, default_value = "0.0.0.0:6969")]
    listen: SocketAddr,
    /// Seconds between two announces of a peer.
    #[arg(long, default_value_t = 1800)]
    interval: u64,
}

impl Track {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let Track { listen, interval } = self;
        let interval = Duration::from_secs(interval.clamp(60, 86_400));
        let config = TrackerConfig { interval, ..TrackerConfig::default() };
        // Where the system chooses the port of one it may be taken for the other: then it chooses again.
        let mut attempts = if listen.port() == 0 { 10 } else { 1 };
        let (http, udp) = loop {
            attempts -= 1;
            match serve(config.clone(), listen).await {
                Ok(both) => break both,
                Err(_) if attempts > 0 => {}
                Err(error) => return Err(format!("cannot listen at {listen}: {error}").into()),
            }
        };
        http.local_addr().iter().for_each(|addr| say("listening", addr));
        tokio::signal::ctrl_c().await?;
        let counts = http.handle().ask(CountPeers).await?;
        println!("{} peers of {} torrents", counts.peers, counts.swarms);
        http.shutdown().await;
        udp.shutdown().await;
        Ok(())
    }
}

/// Both machines of a tracker, at one port.
async fn serve(
    config: TrackerConfig,
    listen: SocketAddr,
) -> std::io::Result<(Running<HttpTracker>, Running<UdpTracker>)> {
    let Tracker { http, udp } = Tracker::new(config, Secret::generate());
    let limits = Limits::default();
    let http = tcp::spawn(http, |_| HttpCodec::server(), Some(listen), limits.clone(), [NoWorker]).await?;
    let addr = http.local_addr().unwrap_or(listen);
    let udp = udp::spawn(udp, UdpCodec::server(), addr, limits, [NoWorker]).await?;
    Ok((http, udp))
}
