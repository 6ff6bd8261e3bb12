//! Asking: two machines, one for each wire, and who takes a URL to the right one.

mod udp;

use std::net::SocketAddr;

use async_trait::async_trait;
use p2p_core::{AskError, Handle};

use super::announce::parse_scrape;
use super::{Announce, AnnounceReply, Event, ScrapeReply, TrackerError};
use crate::torrent::command::ToAnnounce;
use crate::torrent::http::{Fetch, HttpClient, Reach, Resolve, escape, gunzip};
use crate::torrent::metainfo::SwarmId;
use crate::torrent::source::{Found, PeerSource, SourceKind};
use crate::torrent::url::{Scheme, Url};

pub use udp::{UdpAsk, UdpClient, UdpQuestion, UdpReply};

/// Asks trackers by their URLs, over whichever of the machines each is for.
///
/// ```no_run
/// # async fn example(session: p2p_core::Handle<p2p_swarm::torrent::Session<p2p_core::foreign::TcpPeer>>) -> std::io::Result<()> {
/// use std::net::SocketAddr;
///
/// use p2p_core::net::{tcp, udp};
/// use p2p_core::{Limits, NoWorker};
/// use p2p_swarm::torrent::find_peers;
/// use p2p_swarm::torrent::http::{HttpClient, HttpCodec, Resolve};
/// use p2p_swarm::torrent::tracker::{TrackerClient, UdpClient, UdpCodec};
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
    web: Fetch<R>,
    /// By IPv4, and by IPv6.
    udp: [Option<Handle<UdpClient>>; 2],
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
        TrackerClient { web: Fetch::new(http, resolve), udp: [udp4, udp6] }
    }

    /// Announces a peer.
    ///
    /// # Errors
    /// The tracker does not answer, or says no.
    pub async fn announce(&self, url: &str, announce: &Announce) -> Result<AnnounceReply, TrackerError> {
        let url: Url = url.parse()?;
        match url.scheme {
            Scheme::Http | Scheme::Https => {
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
        let url = url.parse::<Url>()?.scrape().ok_or(TrackerError::NoScrape)?;
        let swarms = &swarms[..swarms.len().min(super::MAX_SCRAPE)];
        match url.scheme {
            Scheme::Http | Scheme::Https => {
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

    /// The answer, and where it is from.
    async fn ask(&self, url: &Url, ask: UdpAsk) -> Result<(SocketAddr, UdpReply), TrackerError> {
        let found = self.web.addresses(url, None, &may_be_asked).await?;
        let by = |addr: &SocketAddr| self.udp[usize::from(addr.is_ipv6())].as_ref();
        let Some((tracker, udp)) = found.iter().find_map(|addr| Some((*addr, by(addr)?))) else {
            return Err(TrackerError::Unreachable);
        };
        Ok((tracker, udp.ask(UdpQuestion { tracker, ask }).await.map_err(ended)??))
    }

    /// The body of an answer, and where it is from.
    async fn get(&self, mut url: Url, query: &str) -> Result<(SocketAddr, Vec<u8>), TrackerError> {
        if url.path.is_empty() {
            url.path.push('/');
        }
        url.path.push_str(query);
        let (addr, reply) = self.web.get(url, None, &may_be_asked).await?;
        match reply.status {
            200 if reply.gzip => {
                let body = gunzip(&reply.body);
                Ok((addr, body.ok_or_else(|| TrackerError::Malformed("it is not gzip".into()))?))
            }
            200 => Ok((addr, reply.body)),
            // Some say no with a status and why in the body.
            status => match AnnounceReply::parse(&reply.body) {
                Err(refused @ TrackerError::Refused(_)) => Err(refused),
                _ => Err(TrackerError::Status(status)),
            },
        }
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

/// Whether a tracker may be asked there. A torrent, or an answer, could have us ask this machine's and its neighbours' own
/// services for anything.
fn may_be_asked(url: &Url, addr: &SocketAddr) -> bool {
    let path = url.path.split('?').next().unwrap_or_default();
    let tracker = (path.starts_with("/announce") || path.starts_with("/scrape"))
        // No way out of there.
        && !path.contains("..")
        && !path.contains('%');
    match Reach::of(addr.ip()) {
        Some(Reach::World) => true,
        Some(Reach::Machine | Reach::Network) => url.scheme == Scheme::Udp || tracker,
        None => false,
    }
}

/// An answer without what cannot be true: of this machine itself nobody far away knows.
fn credible(tracker: SocketAddr, mut reply: AnnounceReply) -> AnnounceReply {
    if !tracker.ip().to_canonical().is_loopback() {
        let before = reply.peers.len();
        reply.peers.retain(|peer| !peer.ip().to_canonical().is_loopback());
        if reply.peers.len() < before {
            reply.names.clear();
        }
    }
    reply
}

/// What stands between a URL and what is added to it.
fn joint(url: &Url) -> &'static str {
    if url.path.contains('?') { "&" } else { "?" }
}

fn query(url: &Url, announce: &Announce) -> String {
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
    fn of_what_is_near_trackers_alone_are_asked() {
        for (url, addr, may) in [
            ("http://a/announce?x=/..", "127.0.0.1:1", true),
            ("http://a/announce.php", "[::1]:1", true),
            ("http://a/scrape", "127.0.0.2:1", true),
            ("http://a/shutdown", "192.0.2.1:1", true),
            ("http://a/key/announce", "192.0.2.1:1", true),
            ("udp://a:1/x", "127.0.0.1:1", true),
            ("http://a/shutdown", "127.0.0.1:1", false),
            ("http://a/announce", "192.168.1.1:1", true),
            ("http://a/apply?x=/announce", "192.168.1.1:1", false),
            ("http://a/latest/meta-data", "169.254.169.254:1", false),
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
