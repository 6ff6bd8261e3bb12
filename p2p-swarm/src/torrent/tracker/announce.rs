//! What is asked of a tracker, and what it answers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use p2p_dht::bencode::{self, Kind, Value};

use crate::torrent::address::{put_compact, v4, v6};
use crate::torrent::http::HttpError;
use crate::torrent::metainfo::SwarmId;
use crate::torrent::url::ParseUrlError;
use crate::torrent::wire::PeerName;

/// Of the peers in one answer so many are taken. 1,000: as many as a torrent remembers.
pub const MAX_PEERS: usize = 1000;
/// The longest text of a tracker that is kept, in characters.
const MAX_TEXT: usize = 300;
/// The longest name that a tracker may give this client, in bytes.
const MAX_ID: usize = 256;
/// Longest time between two announces that a tracker may ask for. A day.
pub(super) const MAX_INTERVAL: Duration = Duration::from_secs(24 * 3600);

/// What a peer tells a tracker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announce {
    /// The swarm.
    pub swarm: SwarmId,
    /// Who it is, as it calls itself to peers.
    pub peer: PeerName,
    /// The port that it listens at.
    pub port: u16,
    /// Bytes that it has sent since it began.
    pub uploaded: u64,
    /// Bytes that have come.
    pub downloaded: u64,
    /// Bytes that it lacks.
    pub left: u64,
    /// Why it announces itself.
    pub event: Event,
    /// A number by which it is known though its address changes.
    pub key: u32,
    /// How many peers it would like to hear of; `None`: as the tracker thinks best.
    pub want: Option<u32>,
    /// What the tracker called it before (BEP 3's `trackerid`).
    pub tracker_id: Option<Vec<u8>>,
}

/// Why a peer announces itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Event {
    /// Time has passed.
    #[default]
    Regular,
    /// It has begun.
    Started,
    /// It has got everything, and had not when it began.
    Completed,
    /// It goes.
    Stopped,
}

/// What a tracker answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AnnounceReply {
    /// When to announce again.
    pub interval: Duration,
    /// Not before then, whatever happens.
    pub min_interval: Option<Duration>,
    /// Where peers listen.
    pub peers: Vec<SocketAddr>,
    /// What they call themselves, in the same order; none, if not all of them are told.
    pub names: Vec<PeerName>,
    /// How many of the swarm have everything.
    pub seeders: Option<u32>,
    /// How many have not.
    pub leechers: Option<u32>,
    /// What its user should know.
    pub warning: Option<String>,
    /// What the tracker calls this client.
    pub tracker_id: Option<Vec<u8>>,
    /// Where the tracker sees it (BEP 24).
    pub external: Option<IpAddr>,
}

/// How a swarm stands (BEP 48).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scraped {
    /// How many have everything.
    pub seeders: u32,
    /// How many have not.
    pub leechers: u32,
    /// How often it was completed.
    pub completed: u32,
}

/// Swarms, and how each stands; those that the tracker does not know are not there.
pub type ScrapeReply = Vec<(SwarmId, Scraped)>;

/// Why a tracker gave no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TrackerError {
    /// The URL is none of a tracker.
    #[error("expected http://HOST/announce, https://HOST/announce or udp://HOST:PORT, not {0:?}")]
    Url(String),
    /// The host's name stands for no address that can be asked.
    #[error("{host} was not found: {why}")]
    Resolve {
        /// The name.
        host: String,
        /// What the system says.
        why: String,
    },
    /// There is no connection to it.
    #[error("the tracker cannot be reached")]
    Unreachable,
    /// It does not answer.
    #[error("the tracker does not answer")]
    TimedOut,
    /// It is asked over TLS, and the machine that asks has none.
    #[error("the tracker is asked over TLS: expected a machine made by HttpClient::secured")]
    NoTls,
    /// It says no, and why.
    #[error("the tracker refuses: {0}")]
    Refused(String),
    /// An HTTP status that is no success.
    #[error("the tracker answers with HTTP status {0}, expected 200")]
    Status(u16),
    /// Its answer is none.
    #[error("the tracker's answer is malformed: {0}")]
    Malformed(String),
    /// It has no scrape.
    #[error("the tracker tells nothing about swarms: its URL does not end in announce")]
    NoScrape,
    /// The machine that asks has stopped.
    #[error("the machine that asks trackers has stopped: keep it as long as its client")]
    Stopped,
    /// Another source of peers than a tracker finds nobody, and says why.
    #[error("{0}")]
    Source(String),
    /// More is asked at once than may be.
    #[error("too much is asked of trackers already: ask again later")]
    Busy,
}

impl From<HttpError> for TrackerError {
    fn from(error: HttpError) -> TrackerError {
        match error {
            HttpError::Url(error) | HttpError::Location(error) => error.into(),
            HttpError::Resolve { host, why } => TrackerError::Resolve { host, why },
            HttpError::Unreachable => TrackerError::Unreachable,
            HttpError::TimedOut => TrackerError::TimedOut,
            HttpError::NoTls => TrackerError::NoTls,
            HttpError::Malformed(why) => TrackerError::Malformed(why),
            HttpError::Moved => TrackerError::Status(302),
            HttpError::Stopped => TrackerError::Stopped,
            HttpError::Busy => TrackerError::Busy,
        }
    }
}

impl From<ParseUrlError> for TrackerError {
    fn from(ParseUrlError(url): ParseUrlError) -> TrackerError {
        TrackerError::Url(url)
    }
}

fn malformed(what: impl Into<String>) -> TrackerError {
    TrackerError::Malformed(what.into())
}

pub(super) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).chars().filter(|c| !c.is_control()).take(MAX_TEXT).collect()
}

/// The dictionary that an answer is, unless it says no. Some trackers do not sort their keys.
fn read(body: &[u8]) -> Result<Value<'_>, TrackerError> {
    let value = Value::decode_unsorted(body.trim_ascii_end());
    let value = value.map_err(|error| malformed(error.to_string()))?;
    if value.kind() != Kind::Dict {
        return Err(malformed("expected a dictionary"));
    }
    // BEP 48 writes it with an underscore.
    let failure = value.get("failure reason").or_else(|| value.get("failure_reason"));
    match failure.and_then(|reason| reason.as_bytes()) {
        Some(reason) => Err(TrackerError::Refused(text(reason))),
        None => Ok(value),
    }
}

fn seconds(value: &Value<'_>, key: &str) -> Option<Duration> {
    let seconds = value.get(key)?.as_int()?;
    Some(Duration::from_secs(u64::try_from(seconds).unwrap_or_default()).min(MAX_INTERVAL))
}

fn count(value: &Value<'_>, key: &str) -> Option<u32> {
    u32::try_from(value.get(key)?.as_int()?).ok()
}

/// Peers in either form, a string of addresses (BEP 23) or a list of dictionaries (BEP 3); and their names, of those that have
/// some.
fn peers(value: Value<'_>) -> (Vec<SocketAddr>, Vec<PeerName>) {
    let one = |peer: Value<'_>| {
        // A host's name instead of its address is passed over.
        let ip: IpAddr = peer.get("ip")?.as_str()?.parse().ok()?;
        let name = peer.get("peer id").and_then(|name| Some(PeerName(name.as_bytes()?.try_into().ok()?)));
        Some((SocketAddr::new(ip, u16::try_from(peer.get("port")?.as_int()?).ok()?), name))
    };
    match value.as_bytes() {
        Some(bytes) => (bytes.as_chunks().0.iter().take(MAX_PEERS).map(v4).collect(), Vec::new()),
        None => {
            let (peers, names): (Vec<_>, Vec<_>) = value.items().take(MAX_PEERS).filter_map(one).unzip();
            (peers, names.into_iter().flatten().collect())
        }
    }
}

impl AnnounceReply {
    /// Reads what came over HTTP.
    ///
    /// # Errors
    /// It is no answer, or says no.
    pub fn parse(body: &[u8]) -> Result<AnnounceReply, TrackerError> {
        let value = read(body)?;
        let (mut found, mut names) = value.get("peers").map(peers).unwrap_or_default();
        let six = value.get("peers6").and_then(|six| six.as_bytes()).unwrap_or_default();
        found.extend(six.as_chunks().0.iter().map(v6));
        found.truncate(MAX_PEERS);
        if names.len() != found.len() {
            names.clear();
        }
        let external = value.get("external ip").and_then(|ip| ip.as_bytes());
        Ok(AnnounceReply {
            interval: seconds(&value, "interval").ok_or_else(|| malformed("it has no interval"))?,
            min_interval: seconds(&value, "min interval"),
            peers: found,
            names,
            seeders: count(&value, "complete"),
            leechers: count(&value, "incomplete"),
            warning: value.get("warning message").and_then(|warning| warning.as_bytes()).map(text),
            tracker_id: value
                .get("tracker id")
                .and_then(|id| id.as_bytes())
                .filter(|id| id.len() <= MAX_ID)
                .map(Into::into),
            external: external.and_then(|ip| match *ip {
                [a, b, c, d] => Some(Ipv4Addr::new(a, b, c, d).into()),
                _ => Some(Ipv6Addr::from(<[u8; 16]>::try_from(ip).ok()?).into()),
            }),
        })
    }

    /// What is sent over HTTP: peers as strings of addresses if `compact`, or else as dictionaries, with their names if there are
    /// any.
    pub fn encode(&self, compact: bool) -> Vec<u8> {
        bencode::dict(|d| {
            if let Some(seeders) = self.seeders {
                d.int("complete", seeders.into());
            }
            match self.external {
                Some(IpAddr::V4(ip)) => d.bytes("external ip", ip.octets()),
                Some(IpAddr::V6(ip)) => d.bytes("external ip", ip.octets()),
                None => {}
            }
            if let Some(leechers) = self.leechers {
                d.int("incomplete", leechers.into());
            }
            d.int("interval", self.interval.as_secs() as i64);
            if let Some(min) = self.min_interval {
                d.int("min interval", min.as_secs() as i64);
            }
            if compact {
                let (mut four, mut six) = (Vec::new(), Vec::new());
                for peer in &self.peers {
                    put_compact(if peer.is_ipv4() { &mut four } else { &mut six }, peer);
                }
                d.bytes("peers", four);
                if !six.is_empty() {
                    d.bytes("peers6", six);
                }
            } else {
                d.list("peers", |list| {
                    for (at, peer) in self.peers.iter().enumerate() {
                        list.dict(|d| {
                            d.bytes("ip", peer.ip().to_string());
                            if let Some(PeerName(name)) = self.names.get(at) {
                                d.bytes("peer id", name);
                            }
                            d.int("port", peer.port().into());
                        });
                    }
                });
            }
            if let Some(id) = &self.tracker_id {
                d.bytes("tracker id", id);
            }
            if let Some(warning) = &self.warning {
                d.bytes("warning message", warning);
            }
        })
    }
}

/// Reads what came over HTTP about swarms.
pub(super) fn parse_scrape(body: &[u8]) -> Result<ScrapeReply, TrackerError> {
    let value = read(body)?;
    let files = value.get("files").ok_or_else(|| malformed("it has no files"))?;
    let one = |(swarm, value): (&[u8], Value<'_>)| {
        let number = |key| count(&value, key).unwrap_or_default();
        let (seeders, leechers, completed) = (number("complete"), number("incomplete"), number("downloaded"));
        Some((swarm.try_into().ok()?, Scraped { seeders, leechers, completed }))
    };
    Ok(files.entries().take(MAX_PEERS).filter_map(one).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn addr(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn both_forms_of_peers_are_read() {
        let compact = b"d8:intervali1800e5:peers12:\xc0\x00\x02\x01\x1a\xe1\xc0\x00\x02\x02\x1a\xe26:peers618:\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01\x1a\xe1e";
        let reply = AnnounceReply::parse(compact).unwrap();
        assert_eq!(reply.peers, [addr("192.0.2.1:6881"), addr("192.0.2.2:6882"), addr("[2001:db8::1]:6881")]);
        assert_eq!(reply.interval, Duration::from_secs(1800));
        // With its keys in disorder, a name, and a port that is none.
        let list = b"d5:peersld2:ip9:192.0.2.17:peer id20:aaaaaaaaaaaaaaaaaaaa4:porti6881eed2:ip7:example4:porti1eed2:ip3:::14:porti-1eee8:intervali1ee\n";
        let reply = AnnounceReply::parse(list).unwrap();
        assert_eq!((reply.peers, reply.names), (vec![addr("192.0.2.1:6881")], vec![PeerName([b'a'; 20])]));
    }

    #[test]
    fn what_a_tracker_says_is_heard() {
        let no = AnnounceReply::parse(b"d14:failure reason9:not today8:intervali1ee");
        assert_eq!(no, Err(TrackerError::Refused("not today".into())));
        let said = b"d8:completei3e11:external ip4:\xc0\x00\x02\x0910:incompletei4e8:intervali60e12:min intervali30e10:tracker id1:x15:warning message6:bewaree";
        let cut = AnnounceReply::parse(&said[..said.len() - 1]);
        assert!(matches!(cut, Err(TrackerError::Malformed(_))), "it is cut short");
        let reply = AnnounceReply::parse(said).unwrap();
        assert_eq!((reply.seeders, reply.leechers), (Some(3), Some(4)));
        assert_eq!(reply.min_interval, Some(Duration::from_secs(30)));
        assert_eq!(reply.external, Some("192.0.2.9".parse().unwrap()));
        assert_eq!(
            (reply.warning.as_deref(), reply.tracker_id.as_deref()),
            (Some("beware"), Some(&b"x"[..]))
        );
        let long = format!("d14:failure reason1000:{}e", "x".repeat(1000));
        let Err(TrackerError::Refused(why)) = AnnounceReply::parse(long.as_bytes()) else { panic!() };
        assert_eq!(why.len(), MAX_TEXT);
        let forever = AnnounceReply::parse(b"d8:intervali9223372036854775807ee").unwrap();
        assert_eq!(forever.interval, Duration::from_secs(86400), "it cannot silence a client for longer");
    }

    #[test]
    fn scrapes_are_read() {
        let body = b"d5:filesd20:aaaaaaaaaaaaaaaaaaaad8:completei5e10:downloadedi50e10:incompletei10ee3:bade1:xi1eee";
        assert!(matches!(parse_scrape(body), Err(TrackerError::Malformed(_))));
        let body =
            b"d5:filesd20:aaaaaaaaaaaaaaaaaaaad8:completei5e10:downloadedi50e10:incompletei10ee3:baddeee";
        let scraped = Scraped { seeders: 5, leechers: 10, completed: 50 };
        assert_eq!(parse_scrape(body), Ok(vec![(*b"aaaaaaaaaaaaaaaaaaaa", scraped)]));
        assert_eq!(parse_scrape(b"d14:failure_reason1:xe"), Err(TrackerError::Refused("x".into())));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            peers in prop::collection::vec(any::<([u8; 4], u16)>(), 0..20), six in prop::collection::vec(any::<([u8; 16], u16)>(), 0..20),
            named in any::<bool>(), seeders in any::<Option<u32>>(), seconds in 0u64..80_000, external in any::<Option<[u8; 4]>>(),
        ) {
            let four = peers.into_iter().map(SocketAddr::from);
            let peers: Vec<SocketAddr> = four.chain(six.into_iter().map(SocketAddr::from)).collect();
            let names = (0..peers.len()).filter(|_| named).map(|n| PeerName([n as u8; 20])).collect();
            let reply = AnnounceReply {
                interval: Duration::from_secs(seconds), peers, names, seeders, external: external.map(IpAddr::from),
                ..AnnounceReply::default()
            };
            let compact = AnnounceReply::parse(&reply.encode(true)).unwrap();
            prop_assert_eq!(compact, AnnounceReply { names: Vec::new(), ..reply.clone() });
            prop_assert_eq!(AnnounceReply::parse(&reply.encode(false)), Ok(reply));
        }
    }
}
