//! A session on the network, and all that finds peers for it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use async_trait::async_trait;
use clap::ValueEnum;
use futures::StreamExt;
use p2p_core::net::both::{self, Listen, Running};
use p2p_core::net::tcp;
use p2p_core::net::udp::{self, Group};
use p2p_core::{Limits, NoWorker};
use p2p_dht::mainline::{KrpcCodec, Mainline, MainlineConfig, Secret};
use p2p_examples::{Failure, say};
use p2p_swarm::Files;
use p2p_swarm::torrent::http::{HttpClient, HttpCodec, Resolve};
use p2p_swarm::torrent::tracker::{TrackerClient, UdpClient, UdpCodec};
use p2p_swarm::torrent::{
    Carriers, Client, DhtSource, Encryption, FileTorrents, LSD_GROUP, Lsd, LsdCodec, LsdSource, Mse,
    RateLimits, SessionConfig, SessionEvent, Source, Stop, WebSeeds, client, find_peers,
};
use p2p_swarm::utp::{StreamPeer, UtpCodec, UtpConfig};

/// How a program is on the network.
#[derive(clap::Args)]
pub(crate) struct Net {
    /// Where to listen.
    #[arg(long, default_value = "0.0.0.0:0")]
    listen: SocketAddr,
    /// A peer, as host and port.
    #[arg(long)]
    pub(crate) peer: Vec<String>,
    /// A tracker, as http://HOST:PORT/announce or udp://HOST:PORT, beside those that the torrent or the link names. This
    /// program asks none over HTTPS.
    #[arg(long)]
    pub(crate) tracker: Vec<String>,
    /// Where the content lies on the web, as http://HOST/PATH, beside what the torrent or the link names. This program
    /// asks nobody over HTTPS.
    #[arg(long, value_name = "URL")]
    web_seed: Vec<String>,
    /// Peers are found in the Mainline DHT, too, and find this one; those of private torrents never.
    #[arg(long)]
    dht: bool,
    /// A node of the DHT that is there, by name or address; repeat for more.
    #[arg(long, value_name = "HOST:PORT", requires = "dht")]
    bootstrap: Vec<String>,
    /// Peers are found in the local network, too, and find this one: whoever listens there learns what is shared.
    #[arg(long)]
    lsd: bool,
    /// Whether connections are encrypted (MSE).
    #[arg(long, value_enum, default_value_t = Encrypts::Preferred)]
    encryption: Encrypts,
    /// Whether connections are made and accepted over uTP (at the same port, of UDP), which gives way to all else.
    #[arg(long, value_enum, default_value_t = UsesUtp::Too)]
    utp: UsesUtp,
    /// How much to send in a second at most, to all peers together: KiB, or with a unit, as 500B, 200K or 1.5M.
    #[arg(long, value_name = "RATE", value_parser = rate)]
    max_up: Option<u64>,
    /// How much to get in a second at most, likewise.
    #[arg(long, value_name = "RATE", value_parser = rate)]
    max_down: Option<u64>,
}

/// Bytes per second: a number of KiB, or of what stands behind it.
fn rate(text: &str) -> Result<u64, String> {
    let number = text.trim_end_matches(|unit: char| unit.is_ascii_alphabetic());
    let unit: u64 = match &text[number.len()..] {
        "B" => 1,
        "" | "K" | "k" | "KiB" => 1 << 10,
        "M" | "MiB" => 1 << 20,
        "G" | "GiB" => 1 << 30,
        other => return Err(format!("{other:?} is no unit: expected B, K, M or G")),
    };
    let bytes = number.parse().map(|number: f64| number * unit as f64).ok().filter(|bytes| *bytes >= 0.0);
    let bytes = bytes.filter(|bytes| *bytes < u64::MAX as f64);
    bytes
        .map(|bytes| bytes as u64)
        .ok_or_else(|| format!("expected a number before the unit, not {number:?}"))
}

#[derive(Clone, Copy, ValueEnum)]
enum Encrypts {
    /// None is, and who encrypts is refused.
    Off,
    /// They are where the other end can, and in the clear where it cannot.
    Preferred,
    /// All are.
    Required,
}

#[derive(Clone, Copy, ValueEnum)]
enum UsesUtp {
    /// Connections are TCP's.
    Off,
    /// Connections of both kinds are accepted; uTP is tried first, and then TCP.
    Too,
    /// Connections are uTP's.
    Only,
}

impl Net {
    /// What is to be got, and who may have it.
    pub(crate) async fn wanted(&self, what: &str) -> Result<(Source, Vec<SocketAddr>), Failure> {
        let torrent = self.with_places(crate::source(what)?);
        let private = matches!(&torrent, Source::Metainfo(metainfo) if metainfo.info().private());
        if private && !self.peer.is_empty() {
            return Err("the torrent is private, so its trackers alone name peers: leave --peer out".into());
        }
        let mut peers = resolve(&self.peer).await?;
        if let Source::Magnet(magnet) = &torrent {
            peers.extend(resolve(&magnet.peers).await?);
        }
        let others = !private && self.finds_others();
        if peers.is_empty() && places_of(&torrent) == 0 && !others {
            return Err("there is nobody to get it from: name a peer, --peer HOST:PORT, a tracker, --tracker URL, or a node \
                 of the DHT, --dht --bootstrap HOST:PORT, or look in the local network, --lsd"
                .into());
        }
        Ok((torrent, peers))
    }

    /// Whether peers may be found that nobody has named.
    fn finds_others(&self) -> bool {
        self.lsd || !self.bootstrap.is_empty()
    }

    /// Adds trackers to those that a torrent has, each a tier of its own, and web seeds.
    pub(crate) fn with_places(&self, torrent: Source) -> Source {
        match torrent {
            Source::Metainfo(mut metainfo) => {
                metainfo.trackers.extend(self.tracker.iter().map(|url| vec![url.clone()]));
                metainfo.web_seeds.extend(self.web_seed.iter().cloned());
                Source::Metainfo(metainfo)
            }
            Source::Magnet(mut magnet) => {
                magnet.trackers.extend(self.tracker.iter().cloned());
                magnet.web_seeds.extend(self.web_seed.iter().cloned());
                Source::Magnet(magnet)
            }
        }
    }

    /// The other version of IP, where it listens at every address of one.
    fn other_version(&self) -> Option<IpAddr> {
        let other: IpAddr = match self.listen.ip() {
            IpAddr::V4(_) => Ipv6Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => Ipv4Addr::UNSPECIFIED.into(),
        };
        Some(other).filter(|_| self.listen.ip().is_unspecified())
    }

    /// At every address of IPv6 it listens at those of IPv4, too.
    fn is_both(&self) -> bool {
        self.listen.ip().is_unspecified() && self.listen.is_ipv6()
    }

    async fn session(&self, dht_port: Option<u16>) -> Result<Running<Client>, Failure> {
        let here = Some(self.listen);
        let (carriers, listen) = match self.utp {
            UsesUtp::Off => (Carriers::Tcp, Listen { tcp: here, udp: None }),
            UsesUtp::Too => (Carriers::Both, Listen { tcp: here, udp: here }),
            UsesUtp::Only => (Carriers::Utp, Listen { tcp: None, udp: here }),
        };
        let rates = RateLimits { up: self.max_up, down: self.max_down };
        let config = SessionConfig { carriers, rates, dht_port, ..SessionConfig::default() };
        let encryption = match self.encryption {
            Encrypts::Off => Encryption::Off,
            Encrypts::Preferred => Encryption::Preferred,
            Encrypts::Required => Encryption::Required,
        };
        let mse = Mse::new(encryption, &Secret::generate());
        let codecs = mse.clone();
        let machine = |local: Option<SocketAddr>| {
            client(config, UtpConfig::default(), local.map(|addr| addr.port()), mse)
        };
        let codec = move |peer| codecs.codec(StreamPeer::Tcp(peer));
        Ok(both::spawn_at(machine, codec, UtpCodec, listen, Limits::default(), workers()).await?)
    }

    /// A node of the DHT, beside the session.
    async fn node(&self) -> Result<Option<Running<Mainline<SocketAddr>>>, Failure> {
        if !self.dht {
            return Ok(None);
        }
        let machine = Mainline::new(MainlineConfig {
            ipv4: self.listen.is_ipv4() || self.is_both(),
            ipv6: self.listen.is_ipv6(),
            bootstrap: resolve(&self.bootstrap).await?,
            ..MainlineConfig::live()
        });
        let here = SocketAddr::new(self.listen.ip(), 0);
        let node = udp::spawn(machine, KrpcCodec, here, Limits::default(), [NoWorker]).await?;
        Ok(Some(node))
    }

    /// What announces in the local network.
    async fn neighbourhood(&self) -> Result<Option<Running<Lsd>>, Failure> {
        if !self.lsd {
            return Ok(None);
        }
        let interface = match self.listen.ip() {
            IpAddr::V4(ip) => ip,
            _ if self.is_both() => Ipv4Addr::UNSPECIFIED,
            IpAddr::V6(_) => return Err("--lsd speaks IPv4: --listen there, or at [::]".into()),
        };
        let group = Group { addr: LSD_GROUP, interface };
        let lsd = udp::spawn_in(group, Lsd::default(), LsdCodec, Limits::default(), [NoWorker]).await;
        Ok(Some(lsd.map_err(|error| format!("there is no multicast at {interface}: {error}"))?))
    }
}

/// As many as there are processors, so that what is there is hashed by all of them; two at the least.
pub(crate) fn workers() -> Vec<FileTorrents> {
    let many = std::thread::available_parallelism().map_or(2, |many| many.get().max(2));
    (0..many).map(|_| FileTorrents::new(Files)).collect()
}

/// How many trackers and web seeds it names; for a link web seeds are no beginning.
fn places_of(torrent: &Source) -> usize {
    match torrent {
        Source::Metainfo(metainfo) => metainfo.trackers.iter().flatten().count() + metainfo.web_seeds.len(),
        Source::Magnet(magnet) => magnet.trackers.len(),
    }
}

/// Tells the user of what only a user can mend.
fn tell(event: &SessionEvent) {
    match event {
        SessionEvent::Paused(_, Some(why)) => say("paused", format!("{why}: it goes on when that is mended")),
        SessionEvent::Resumed(_) => say("resumed", "it goes on"),
        SessionEvent::Metadata(..)
        | SessionEvent::Checked(..)
        | SessionEvent::Done(_)
        | SessionEvent::Lied(..)
        | SessionEvent::WebSeedDropped(..)
        | SessionEvent::DhtNode(_)
        | SessionEvent::Paused(_, None)
        | SessionEvent::Failed(..) => {}
    }
}

/// Finds hosts as the system does.
struct System {
    /// Whether addresses of IPv6 come first, or those of IPv4: a tracker tells others of the address that it is asked
    /// from, and somebody should listen there. `None`: either will do.
    six: Option<bool>,
}

#[async_trait]
impl Resolve for System {
    async fn resolve(&self, host: &str, port: u16) -> std::io::Result<Vec<SocketAddr>> {
        let mut found: Vec<SocketAddr> = tokio::net::lookup_host((host, port)).await?.collect();
        // Otherwise they stay as the system has sorted them.
        found.sort_by_key(|addr| self.six.is_some_and(|six| addr.is_ipv6() != six));
        Ok(found)
    }
}

/// The addresses of hosts with a port.
pub(crate) async fn resolve(hosts: &[String]) -> Result<Vec<SocketAddr>, Failure> {
    let mut found = Vec::new();
    for host in hosts {
        let addrs = tokio::net::lookup_host(host).await.map_err(|error| format!("{host}: {error}"))?;
        found.extend(addrs);
    }
    Ok(found)
}

/// A session that trackers hear of, and whoever else is to.
pub(crate) struct Online {
    pub(crate) session: Running<Client>,
    trackers: Trackers,
    node: Option<Running<Mainline<SocketAddr>>>,
    lsd: Option<Running<Lsd>>,
}

/// What asks trackers and web seeds.
struct Trackers {
    http: Running<HttpClient>,
    udp: Vec<Running<UdpClient>>,
}

impl Online {
    /// As JSON nothing is said but by whoever has this started.
    pub(crate) async fn start(net: &Net, json: bool) -> Result<Online, Failure> {
        let node = net.node().await?;
        let addr = node.as_ref().and_then(Running::local_addr).filter(|_| !json);
        addr.iter().for_each(|addr| say("dht", addr));
        let dht_port = node.as_ref().and_then(Running::local_addr).map(|addr| addr.port());
        let session = net.session(dht_port).await?;
        if !json {
            let events = session.handle().events();
            tokio::spawn(events.for_each(|event| async move { tell(&event) }));
        }
        let trackers = Trackers::start(net).await?;
        let (client, handle) = (trackers.client(net), session.handle());
        tokio::spawn(async move { find_peers(&handle, &client).await });
        let (web_seeds, handle) = (trackers.web_seeds(), session.handle());
        tokio::spawn(async move { web_seeds.serve(&handle).await });
        if let Some(node) = &node {
            let (dht, handle) = (DhtSource::new(node.handle()), session.handle());
            tokio::spawn(async move { dht.serve(&handle).await });
        }
        let lsd = net.neighbourhood().await?;
        if let Some(lsd) = &lsd {
            let (source, handle) = (LsdSource::new(lsd.handle()), session.handle());
            tokio::spawn(async move { find_peers(&handle, &source).await });
        }
        Ok(Online { session, trackers, node, lsd })
    }

    /// Ends it, and tells the trackers.
    pub(crate) async fn stop(self) {
        let _ = self.session.handle().ask(Stop).await;
        self.session.shutdown().await;
        self.trackers.http.shutdown().await;
        for client in self.trackers.udp {
            client.shutdown().await;
        }
        if let Some(node) = self.node {
            node.shutdown().await;
        }
        if let Some(lsd) = self.lsd {
            lsd.shutdown().await;
        }
    }
}

impl Trackers {
    async fn start(net: &Net) -> Result<Trackers, Failure> {
        let limits = Limits::default();
        let codec = |_| HttpCodec::client();
        let http = tcp::spawn(HttpClient::default(), codec, None, limits.clone(), [NoWorker]).await?;
        // Over UDP it asks from where it listens; where that is every address, from those of the other version, too.
        // Over HTTP it asks from wherever the system likes.
        let here = net.listen.ip();
        let mut udp = Vec::new();
        for ip in [Some(here), net.other_version()].into_iter().flatten() {
            let bound = SocketAddr::new(ip, 0);
            let client =
                udp::spawn(UdpClient::default(), UdpCodec::client(), bound, limits.clone(), [NoWorker]);
            match client.await {
                Ok(client) => udp.push(client),
                // Without that version there are no trackers by it.
                Err(_) if ip != here => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Trackers { http, udp })
    }

    /// Files on the web are asked for in the same way.
    fn web_seeds(&self) -> WebSeeds<System> {
        WebSeeds::new(self.http.handle(), System { six: None })
    }

    fn client(&self, net: &Net) -> TrackerClient<System> {
        let by = |six: bool| {
            let is_of =
                |client: &&Running<UdpClient>| client.local_addr().is_some_and(|addr| addr.is_ipv6() == six);
            self.udp.iter().find(is_of).map(Running::handle)
        };
        let system = System { six: (!net.is_both()).then(|| net.listen.is_ipv6()) };
        TrackerClient::new(self.http.handle(), by(false), by(true), system)
    }
}

#[cfg(test)]
mod tests {
    use super::rate;

    #[test]
    fn a_rate_is_a_number_and_a_unit() {
        for (text, bytes) in [("0", 0), ("200", 204_800), ("1B", 1), ("1.5M", 1_572_864), ("2GiB", 1 << 31)] {
            assert_eq!(rate(text), Ok(bytes), "{text}");
        }
        for wrong in ["", "K", "-1", "1T", "1 M", "infK", "NaN", "1e99G"] {
            assert!(rate(wrong).is_err(), "{wrong:?}");
        }
    }
}
