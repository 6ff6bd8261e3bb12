//! A tracker over HTTP (BEP 3, 7, 23, 24, 48).

use std::collections::BTreeMap;
use std::time::Duration;

use p2p_core::foreign::TcpPeer;
use p2p_core::{Cx, Link, NoJob, OpId, Protocol, Time};
use p2p_dht::bencode;

use super::{CountPeers, SWEEP, Shared};
use crate::torrent::http::HttpMsg;
use crate::torrent::metainfo::SwarmId;
use crate::torrent::tracker::{Announce, AnnounceReply, Event, MAX_SCRAPE, TrackerCounts};
use crate::torrent::wire::PeerName;

/// How long a connection may last on which nothing is asked. 10 s.
const PATIENCE: Duration = Duration::from_secs(10);
/// Connections on which nothing was asked yet; the oldest makes room. 1,000.
const MAX_SILENT: usize = 1000;

/// The machine of a tracker that answers over HTTP; see [`Tracker`](super::Tracker).
#[derive(Debug)]
pub struct HttpTracker {
    swarms: Shared,
    silent: BTreeMap<TcpPeer, Time>,
}

/// The timers of a tracker over HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum HttpTrackerTimer {
    /// Peers may have fallen silent.
    Sweep,
    /// Connections may have been silent for too long.
    Silent,
}

/// A query's parameters, decoded.
struct Query(Vec<(String, Vec<u8>)>);

impl Query {
    fn parse(text: &str) -> Query {
        let decode = |text: &str| {
            let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
            while let [first, after @ ..] = rest {
                rest = after;
                let digits = rest.first_chunk::<2>().filter(|_| *first == b'%');
                match digits.and_then(|digits| data_encoding::HEXLOWER_PERMISSIVE.decode(digits).ok()) {
                    Some(byte) => {
                        bytes.extend(byte);
                        rest = &rest[2..];
                    }
                    None => bytes.push(*first),
                }
            }
            bytes
        };
        let pairs = text.split('&').filter_map(|pair| pair.split_once('='));
        Query(pairs.map(|(key, value)| (key.into(), decode(value))).collect())
    }

    fn all(&self, key: &str) -> impl Iterator<Item = &[u8]> {
        self.0.iter().filter(move |(name, _)| name == key).map(|(_, value)| value.as_slice())
    }

    fn bytes<const N: usize>(&self, key: &str) -> Option<[u8; N]> {
        self.all(key).next()?.try_into().ok()
    }

    fn number<T: std::str::FromStr>(&self, key: &str) -> Option<T> {
        std::str::from_utf8(self.all(key).next()?).ok()?.parse().ok()
    }

    /// What is announced.
    fn announce(&self) -> Result<Announce, &'static str> {
        Ok(Announce {
            swarm: self.bytes("info_hash").ok_or("expected info_hash, 20 bytes")?,
            peer: PeerName(self.bytes("peer_id").ok_or("expected peer_id, 20 bytes")?),
            port: self.number("port").ok_or("expected port, a number up to 65535")?,
            uploaded: self.number("uploaded").unwrap_or_default(),
            downloaded: self.number("downloaded").unwrap_or_default(),
            left: self.number("left").ok_or("expected left, the bytes that are missing")?,
            event: match self.all("event").next() {
                Some(b"started") => Event::Started,
                Some(b"completed") => Event::Completed,
                Some(b"stopped") => Event::Stopped,
                _ => Event::Regular,
            },
            key: 0,
            want: self.number("numwant"),
            tracker_id: None,
        })
    }
}

fn failure(why: &str) -> Vec<u8> {
    bencode::dict(|d| d.bytes("failure reason", why))
}

impl HttpTracker {
    pub(super) fn new(swarms: Shared) -> HttpTracker {
        HttpTracker { swarms, silent: BTreeMap::new() }
    }

    fn answer(&mut self, cx: &mut Cx<'_, Self>, from: TcpPeer, target: &str) -> (u16, Vec<u8>) {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let query = Query::parse(query);
        match path {
            "/announce" => {
                let now = self.swarms.now(cx);
                // Who does not say otherwise gets the short form (BEP 23).
                let compact = query.number("compact") != Some(0);
                let named = query.number("no_peer_id") != Some(1);
                let announce = query.announce();
                let reply = announce.and_then(|announce| {
                    let mut swarms = self.swarms.lock();
                    swarms.announce(now, from.addr().ip(), &announce, |_| true, usize::MAX, cx.rng())
                });
                let reply = reply.map(|reply| match named {
                    true => reply,
                    false => AnnounceReply { names: Vec::new(), ..reply },
                });
                (200, reply.map_or_else(failure, |reply| reply.encode(compact)))
            }
            "/scrape" => (200, self.scrape(&query)),
            _ => (404, b"a tracker: /announce and /scrape".to_vec()),
        }
    }

    fn scrape(&self, query: &Query) -> Vec<u8> {
        let asked = query.all("info_hash").take(MAX_SCRAPE);
        let asked: Vec<SwarmId> = asked.filter_map(|swarm| swarm.try_into().ok()).collect();
        if asked.is_empty() {
            return failure("expected info_hash, 20 bytes: not all is told at once");
        }
        let swarms = self.swarms.lock();
        bencode::dict(|d| {
            d.dict("files", |files| {
                let mut asked = asked;
                asked.sort_unstable();
                asked.dedup();
                for (id, stands) in asked.iter().filter_map(|id| Some((id, swarms.scrape(id)?))) {
                    files.dict(id, |d| {
                        d.int("complete", stands.seeders.into());
                        d.int("downloaded", stands.completed.into());
                        d.int("incomplete", stands.leechers.into());
                    });
                }
            });
        })
    }
}

impl Protocol for HttpTracker {
    type Peer = TcpPeer;
    type Msg = HttpMsg;
    type Timer = HttpTrackerTimer;
    type Command = CountPeers;
    type Item = ();
    type Outcome = TrackerCounts;
    type Event = ();
    type Job = NoJob;

    fn on_start(&mut self, cx: &mut Cx<'_, Self>) {
        self.swarms.start(cx);
        cx.set_timer(SWEEP, HttpTrackerTimer::Sweep);
        cx.set_timer(PATIENCE, HttpTrackerTimer::Silent);
    }

    fn on_message(&mut self, cx: &mut Cx<'_, Self>, from: TcpPeer, msg: HttpMsg) {
        self.silent.remove(&from);
        if let HttpMsg::Get { target, .. } = msg {
            let (status, body) = self.answer(cx, from, &target);
            cx.send(from, HttpMsg::Answer { status, body });
        }
    }

    fn on_timer(&mut self, cx: &mut Cx<'_, Self>, timer: HttpTrackerTimer) {
        match timer {
            HttpTrackerTimer::Sweep => {
                let now = self.swarms.now(cx);
                self.swarms.lock().sweep(now);
                cx.set_timer(SWEEP, timer);
            }
            HttpTrackerTimer::Silent => {
                let now = cx.now();
                let late = self.silent.iter().filter(|(_, since)| now - **since >= PATIENCE);
                let late: Vec<TcpPeer> = late.map(|(peer, _)| *peer).collect();
                for peer in late {
                    self.silent.remove(&peer);
                    cx.send(peer, HttpMsg::Close);
                }
                cx.set_timer(PATIENCE, timer);
            }
        }
    }

    fn on_command(&mut self, cx: &mut Cx<'_, Self>, op: OpId, _: CountPeers) {
        let counts = self.swarms.lock().counts();
        cx.finish(op, counts);
    }

    fn on_link(&mut self, cx: &mut Cx<'_, Self>, peer: TcpPeer, link: Link) {
        match link {
            Link::Up => {
                if self.silent.len() >= MAX_SILENT {
                    let oldest = self.silent.iter().min_by_key(|(_, since)| **since).map(|(peer, _)| *peer);
                    if let Some(oldest) = oldest {
                        self.silent.remove(&oldest);
                        cx.send(oldest, HttpMsg::Close);
                    }
                }
                self.silent.insert(peer, cx.now());
            }
            Link::Down(_) => _ = self.silent.remove(&peer),
        }
    }
}
