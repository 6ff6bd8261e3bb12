//! Asking: two machines, one for each wire, and who takes a URL to the right one.

mod http;
mod udp;

use std::io;
use std::net::SocketAddr;

use async_trait::async_trait;
use p2p_core::{AskError, Handle};

use super::announce::parse_scrape;
use super::http::{escape, gunzip};
use super::{Announce, AnnounceReply, Event, Scheme, ScrapeReply, TrackerError, TrackerUrl};
use crate::torrent::command::ToAnnounce;
use crate::torrent::metainfo::SwarmId;
use crate::torrent::source::{Found, PeerSource, SourceKind};

pub use http::{HttpClient, HttpGet, HttpReply};
pub use udp::{UdpAsk, UdpClient, UdpQuestion, UdpReply};

/// How often an answer may send a client elsewhere. 3.
const MAX_MOVES: usize = 3;
/// How many more addresses are tried, of all hosts together, where one cannot be reached. 2.
const MAX_OTHERS: usize = 2;

/// Finds the addresses of a host.
#[async_trait]
pub trait Resolve: Send + Sync {
    /// The addresses that a name stands for, with this port.
    ///
    /// # Errors
    /// The system finds none.
    async fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>>;
}

/// Asks trackers by their URLs, over whichever of the machines each is for.
///
/// ```no_run
/// # async fn example(session: p2p_core::Handle<p2p_swarm::torrent::Session<p2p_core::foreign::TcpPeer>>) -> std::io::Result<()> {
/// use std::net::SocketAddr;
///
/// use p2p_core::net::{tcp, udp};
/// use p2p_core::{Limits, NoWorker};
/// use p2p_swarm::torrent::find_peers;
/// use p2p_swarm::torrent::tracker::{HttpClient, HttpCodec, Resolve, TrackerClient, UdpClient, UdpCodec};
///
/// struct System;
///
/// #[async_trait::async_trait]
/// impl Resolve for System {
///     async fn resolve(&self, host: &str, port: u16) -> std::io::Result<Vec<SocketAddr>> {
///         Ok(tokio::net::lookup_host((host, port)).await?.collect())
///     }
/// }
///
/// let limits = Limits::default();
/// let http = tcp::spawn(HttpClient::default(), |_| HttpCodec::client(), None, limits.clone(), [NoWorker]).await?;
/// let udp = udp::spawn(UdpClient::default(), UdpCodec::client(), "0.0.0.0:0".parse().unwrap(), limits, [NoWorker]).await?;
/// let client = TrackerClient::new(http.handle(), Some(udp.handle()), None, System);
/// find_peers(&session, &client).await;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct TrackerClient<R> {
    http: Handle<HttpClient>,
    /// By IPv4, and by IPv6.
    udp: [Option<Handle<UdpClient>>; 2],
    resolve: R,
}

fn ended(error: AskError) -> TrackerError {
    match error {
        AskError::Busy => TrackerError::Busy,
        _ => TrackerError::Stopped,
    }
}

impl<R: Resolve> TrackerClient<R> {
    /// Asks over these machines: over HTTP, over UDP by IPv4, and by IPv6.
    pub fn new(
        http: Handle<HttpClient>,
        udp4: Option<Handle<UdpClient>>,
        udp6: Option<Handle<UdpClient>>,
        resolve: R,
    ) -> TrackerClient<R> {
        TrackerClient { http, udp: [udp4, udp6], resolve }
    }

    /// Announces a peer.
    ///
    /// # Errors
    /// The tracker does not answer, or says no.
    pub async fn announce(&self, url: &str, announce: &Announce) -> Result<AnnounceReply, TrackerError> {
        let url: TrackerUrl = url.parse()?;
        match url.scheme {
            Scheme::Http => {
                let (tracker, body) = self.get(url.clone(), &query(&url, announce)).await?;
                Ok(credible(tracker, AnnounceReply::parse(&body)?))
            }
            Scheme::Udp => {
                let ask = UdpAsk::Announce(announce.clone(), url.path.clone());
                match self.ask(&url, ask).await? {
                    (tracker, UdpReply::Announced(reply)) => Ok(credible(tracker, reply)),
                    (_, UdpReply::Scraped(_)) => Err(TrackerError::Malformed("it tells of swarms".into())),
                }
            }
        }
    }

    /// Asks how swarms stand: at most [`MAX_SCRAPE`](super::MAX_SCRAPE) of them, the others are passed over.
    ///
    /// # Errors
    /// The tracker does not answer, or does not tell.
    pub async fn scrape(&self, url: &str, swarms: &[SwarmId]) -> Result<ScrapeReply, TrackerError> {
        let url = url.parse::<TrackerUrl>()?.scrape().ok_or(TrackerError::NoScrape)?;
        let swarms = &swarms[..swarms.len().min(super::MAX_SCRAPE)];
        match url.scheme {
            Scheme::Http => {
                let mut query = String::new();
                for swarm in swarms {
                    query.push_str(if query.is_empty() { joint(&url) } else { "&" });
                    query.push_str("info_hash=");
                    escape(swarm, &mut query);
                }
                parse_scrape(&self.get(url, &query).await?.1)
            }
            Scheme::Udp => match self.ask(&url, UdpAsk::Scrape(swarms.to_vec())).await?.1 {
                UdpReply::Scraped(stand) => Ok(swarms.iter().copied().zip(stand).collect()),
                UdpReply::Announced(_) => Err(TrackerError::Malformed("it tells of peers".into())),
            },
        }
    }

    async fn addresses(&self, url: &TrackerUrl) -> Result<Vec<SocketAddr>, TrackerError> {
        let wrong = |why: String| TrackerError::Resolve { host: url.host.clone(), why };
        let found = self.resolve.resolve(&url.host, url.port).await;
        let mut found = found.map_err(|error| wrong(error.to_string()))?;
        found.retain(|addr| may_be_asked(url, addr));
        match found.is_empty() {
            true => Err(wrong(
                "it has no address that may be asked: expected one that is somewhere, and of this machine over HTTP \
                 nothing but /announce… and /scrape…"
                    .into(),
            )),
            false => Ok(found),
        }
    }

    /// The answer, and where it is from.
    async fn ask(&self, url: &TrackerUrl, ask: UdpAsk) -> Result<(SocketAddr, UdpReply), TrackerError> {
        let found = self.addresses(url).await?;
        let by = |addr: &SocketAddr| self.udp[usize::from(addr.is_ipv6())].as_ref();
        let Some((tracker, udp)) = found.iter().find_map(|addr| Some((*addr, by(addr)?))) else {
            return Err(TrackerError::Unreachable);
        };
        Ok((tracker, udp.ask(UdpQuestion { tracker, ask }).await.map_err(ended)??))
    }

    /// The body of an answer, wherever it may be, and where it is from.
    async fn get(&self, mut url: TrackerUrl, query: &str) -> Result<(SocketAddr, Vec<u8>), TrackerError> {
        let mut query = query.to_owned();
        let mut others = MAX_OTHERS;
        for _ in 0..=MAX_MOVES {
            let found = self.addresses(&url).await?;
            let path = if url.path.is_empty() { "/" } else { &url.path };
            let (host, target) = (url.authority(), format!("{path}{query}"));
            let mut at = 0;
            let (addr, reply) = loop {
                let get = HttpGet { addr: found[at], host: host.clone(), target: target.clone() };
                match self.http.ask(get).await.map_err(ended)? {
                    Err(TrackerError::Unreachable) if others > 0 && at + 1 < found.len() => {
                        (others, at) = (others - 1, at + 1);
                    }
                    reply => break (found[at], reply?),
                }
            };
            let HttpReply { status, gzip, location, body } = reply;
            match (status, location) {
                (200, _) if gzip => {
                    let body = gunzip(&body);
                    return Ok((addr, body.ok_or_else(|| TrackerError::Malformed("it is not gzip".into()))?));
                }
                (200, _) => return Ok((addr, body)),
                (301 | 302 | 303 | 307 | 308, Some(location)) => {
                    // It has the whole query in it.
                    url = location.parse()?;
                    query.clear();
                    if url.scheme != Scheme::Http {
                        return Err(TrackerError::Url(location));
                    }
                }
                // Some say no with a status and why in the body.
                (status, _) => {
                    return match AnnounceReply::parse(&body) {
                        Err(refused @ TrackerError::Refused(_)) => Err(refused),
                        _ => Err(TrackerError::Status(status)),
                    };
                }
            }
        }
        Err(TrackerError::Status(302))
    }
}

#[async_trait]
impl<R: Resolve> PeerSource for TrackerClient<R> {
    fn kind(&self) -> SourceKind {
        SourceKind::Trackers
    }

    async fn announce(&self, wanted: &ToAnnounce, _: &Found<'_>) -> Result<AnnounceReply, TrackerError> {
        self.announce(&wanted.url, &wanted.announce).await
    }
}

/// Whether a tracker may be asked there. A torrent, or an answer, could have us ask this machine's own services for
/// anything; who asks nowhere asks this machine, too.
fn may_be_asked(url: &TrackerUrl, addr: &SocketAddr) -> bool {
    let ip = addr.ip().to_canonical();
    let path = url.path.split('?').next().unwrap_or_default();
    let tracker = (path.starts_with("/announce") || path.starts_with("/scrape"))
        // No way out of there.
        && !path.contains("..")
        && !path.contains('%');
    !ip.is_unspecified() && (url.scheme == Scheme::Udp || tracker || !ip.is_loopback())
}

/// An answer without what cannot be true: of this machine itself nobody far away knows.
fn credible(tracker: SocketAddr, mut reply: AnnounceReply) -> AnnounceReply {
    if !tracker.ip().to_canonical().is_loopback() {
        reply.peers.retain(|peer| !peer.ip().to_canonical().is_loopback());
    }
    reply
}

/// What stands between a URL and what is added to it.
fn joint(url: &TrackerUrl) -> &'static str {
    if url.path.contains('?') { "&" } else { "?" }
}

fn query(url: &TrackerUrl, announce: &Announce) -> String {
    let Announce { swarm, peer, port, uploaded, downloaded, left, event, key, want, tracker_id } = announce;
    let mut query = format!("{}info_hash=", joint(url));
    escape(swarm, &mut query);
    query.push_str("&peer_id=");
    escape(&peer.0, &mut query);
    query.push_str(&format!("&port={port}&uploaded={uploaded}&downloaded={downloaded}&left={left}"));
    query.push_str(&format!("&key={key:08x}&compact=1&no_peer_id=1"));
    match event {
        Event::Regular => {}
        Event::Started => query.push_str("&event=started"),
        Event::Completed => query.push_str("&event=completed"),
        Event::Stopped => query.push_str("&event=stopped"),
    }
    if let Some(want) = want {
        query.push_str(&format!("&numwant={want}"));
    }
    if let Some(id) = tracker_id {
        query.push_str("&trackerid=");
        escape(id, &mut query);
    }
    query
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_this_machine_trackers_alone_are_asked() {
        for (url, addr, may) in [
            ("http://a/announce?x=/..", "127.0.0.1:1", true),
            ("http://a/announce.php", "[::1]:1", true),
            ("http://a/scrape", "127.0.0.2:1", true),
            ("http://a/shutdown", "192.0.2.1:1", true),
            ("http://a/key/announce", "192.0.2.1:1", true),
            ("udp://a:1/x", "127.0.0.1:1", true),
            ("http://a/shutdown", "127.0.0.1:1", false),
            ("http://a/shutdown/announce", "127.0.0.1:1", false),
            ("http://a/announce/../shutdown", "127.0.0.1:1", false),
            ("http://a/announce/%2e%2e/shutdown", "127.0.0.1:1", false),
            ("http://a/?/announce", "[::1]:1", false),
            ("http://a/shutdown", "[::ffff:127.0.0.1]:1", false),
            ("http://a/announce", "0.0.0.0:1", false),
            ("http://a/announce", "[::]:1", false),
            ("http://a/announce", "[::ffff:0.0.0.0]:1", false),
            ("udp://a:1", "0.0.0.0:1", false),
        ] {
            assert_eq!(may_be_asked(&url.parse().unwrap(), &addr.parse().unwrap()), may, "{url} at {addr}");
        }
    }

    #[test]
    fn a_tracker_far_away_names_nobody_on_this_machine() {
        let far: SocketAddr = "192.0.2.1:1".parse().unwrap();
        let here: Vec<SocketAddr> =
            ["127.0.0.1:1", "[::1]:1", "[::ffff:127.0.0.1]:1"].map(|addr| addr.parse().unwrap()).into();
        let peers: Vec<SocketAddr> = here.iter().copied().chain([far]).collect();
        let reply = AnnounceReply { peers: peers.clone(), ..AnnounceReply::default() };
        assert_eq!(credible(far, reply.clone()).peers, [far]);
        here.iter().for_each(|tracker| assert_eq!(credible(*tracker, reply.clone()).peers, peers));
    }
}
