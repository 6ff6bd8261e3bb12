//! What a node's tasks share.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tracing::Instrument;

use super::clock::Clock;
use super::deadlines::{Deadlines, Within};
use super::error::{OpenError, ServeError};
use super::hosts::{Hosts, SAVE_EVERY};
use super::pool::{Found, Link, Pool};
use super::serve::{self, Inbox, Load, Service, Taker};
use super::stats::{Counters, Drop as Dropped, ProtocolCounters, Stats};
use super::stream::{RecvStream, SendStream};
use super::transport::{Connection, DialError, Transport};
use crate::{Contact, Learnt, Limits, PeerId};

/// How many peers' opinions on our address are kept.
const VOTES: usize = 32;

/// How far a node is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    Running,
    /// What has begun comes to its end.
    Draining,
    Closed,
}

/// One node's insides.
#[derive(Debug)]
pub(super) struct Shared {
    pub transport: Arc<dyn Transport>,
    pub limits: Limits,
    pub clock: Clock,
    pub pool: Pool,
    pub load: Load,
    pub deadlines: Deadlines,
    /// Bytes of messages that have begun to come.
    pub unfinished: AtomicUsize,
    pub counters: Counters,
    pub phase: watch::Sender<Phase>,
    pub hosts: Arc<Hosts>,
    /// The tasks that run machines.
    pub machines: Mutex<Vec<JoinHandle<()>>>,
    services: RwLock<BTreeMap<String, Arc<Service>>>,
    /// Counters of every name this program has used.
    named: RwLock<BTreeMap<String, Arc<ProtocolCounters>>>,
    votes: Mutex<Vec<(PeerId, SocketAddr)>>,
}

impl Shared {
    pub(super) fn new(transport: Arc<dyn Transport>, limits: Limits, hosts: Hosts) -> Arc<Shared> {
        let clock = Clock::start();
        let pool = Pool::new(transport.id(), clock, limits.idle_timeout);
        let counters = Counters::default();
        Arc::new(Shared {
            transport,
            limits,
            clock,
            pool,
            load: Load::default(),
            deadlines: Deadlines::default(),
            unfinished: AtomicUsize::new(0),
            counters,
            phase: watch::Sender::new(Phase::Running),
            hosts: Arc::new(hosts),
            machines: Mutex::default(),
            services: RwLock::default(),
            named: RwLock::default(),
            votes: Mutex::default(),
        })
    }

    pub(super) fn draining(&self) -> bool {
        self.pool.is_shut()
    }

    /// A future's output, if it comes within the time of a request.
    pub(super) fn in_time<F: Future + Unpin>(&self, future: F) -> Within<'_, F> {
        self.deadlines.within(self.limits.request_timeout, future)
    }

    // ---- connections

    /// Accepts until the transport is closed.
    pub(super) async fn accept(self: Arc<Self>) {
        while let Some(conn) = self.transport.accept().await {
            self.counters.accepted.fetch_add(1, Ordering::Relaxed);
            let _ = conn.send_datagram(observation(conn.remote_addr()));
            self.adopt(conn, false);
        }
    }

    /// Saves the host cache now and then, while the node lives.
    pub(super) async fn save_hosts(self: Arc<Self>) {
        let mut phase = self.phase.subscribe();
        while timeout(SAVE_EVERY, phase.wait_for(|phase| *phase == Phase::Closed)).await.is_err() {
            self.hosts.save().await;
        }
    }

    /// Closes what nobody uses, every second, while the node lives.
    pub(super) async fn sweep(self: Arc<Self>) {
        let mut phase = self.phase.subscribe();
        let every = (self.limits.idle_timeout / 4).clamp(Duration::from_millis(10), Duration::from_secs(1));
        while timeout(every, phase.wait_for(|phase| *phase == Phase::Closed)).await.is_err() {
            self.pool.sweep();
        }
    }

    /// The one to use for the peer from now on.
    fn adopt(self: &Arc<Self>, conn: Arc<dyn Connection>, dialled: bool) -> Arc<Link> {
        let (link, current) = self.pool.adopt(conn, dialled);
        tracing::debug!(peer = ?link.peer, dialled, "connected");
        let learnt = if dialled { Learnt::Proved } else { Learnt::Told };
        self.hosts.note(link.peer, learnt, self.clock.wall());
        let span = tracing::debug_span!(parent: None, "connection", peer = ?link.peer, dialled);
        serve::attend(self, &link, &span);
        self.counters.changes.tell();
        current
    }

    /// The connection to a peer, made if there is none.
    pub(super) async fn link(self: &Arc<Self>, to: Contact) -> Result<Arc<Link>, DialError> {
        let receiver = match self.pool.get(to)? {
            Found::Link(link) => return Ok(link),
            Found::Dialling(receiver) => receiver,
            Found::Dial(receiver) => {
                // A task of its own: others may wait for it when this caller is gone.
                let shared = self.clone();
                let dial = async move {
                    let outcome = shared.transport.dial(to).await.map(|conn| {
                        shared.counters.dialled.fetch_add(1, Ordering::Relaxed);
                        shared.adopt(conn, true)
                    });
                    if let Err(error) = &outcome {
                        tracing::debug!(peer = ?to, %error, "a dial failed");
                        shared.counters.drop(Dropped::Unreachable);
                        shared.hosts.failed(to);
                    }
                    shared.pool.dialled(to, &outcome);
                };
                tokio::spawn(dial.instrument(tracing::debug_span!(parent: None, "dial", ?to)));
                receiver
            }
        };
        receiver.await.unwrap_or(Err(DialError::Shutdown))
    }

    pub(super) fn count_bytes(&self, link: &Link) {
        let (sent, received) = link.conn.bytes();
        self.counters.bytes_sent.fetch_add(sent, Ordering::Relaxed);
        self.counters.bytes_received.fetch_add(received, Ordering::Relaxed);
    }

    /// Has every peer acknowledge all that was sent to it: an empty stream that has arrived shows that.
    pub(super) async fn flush(&self) {
        let flushed = self.pool.all().into_iter().map(|link| async move {
            let mut stream = link.conn.open_uni().await.ok()?;
            stream.write(&[0]).await.ok()?;
            stream.finish().ok()?;
            stream.stopped().await.ok()
        });
        futures::future::join_all(flushed).await;
    }

    // ---- protocols

    pub(super) fn service(&self, name: &str) -> Option<Arc<Service>> {
        self.services.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    pub(super) fn register(&self, name: &str, taker: Taker) -> Result<Arc<Service>, ServeError> {
        if name.is_empty() || name.len() > 255 {
            return Err(ServeError::Name(name.into()));
        }
        if self.draining() {
            return Err(ServeError::Shutdown);
        }
        let counters = self.counters_of(name);
        let mut services = self.services.write().unwrap_or_else(PoisonError::into_inner);
        if services.contains_key(name) {
            return Err(ServeError::Taken(name.into()));
        }
        let service = Arc::new(Service { taker, counters });
        services.insert(name.into(), service.clone());
        Ok(service)
    }

    pub(super) fn withdraw(&self, name: &str) {
        let mut services = self.services.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(service) = services.remove(name) {
            service.end();
        }
    }

    /// Withdraws the name if it is still this service's.
    pub(super) fn vacate(&self, name: &str, service: &Arc<Service>) {
        let mut services = self.services.write().unwrap_or_else(PoisonError::into_inner);
        if services.get(name).is_some_and(|current| Arc::ptr_eq(current, service)) {
            services.remove(name);
        }
        service.end();
    }

    /// Every running machine.
    pub(super) fn inboxes(&self) -> Vec<Arc<dyn Inbox>> {
        let services = self.services.read().unwrap_or_else(PoisonError::into_inner);
        let machine = |service: &Arc<Service>| match &service.taker {
            Taker::Machine(inbox) => Some(inbox.clone()),
            Taker::Requests(_) | Taker::Streams(_) | Taker::Datagrams(_) => None,
        };
        services.values().filter_map(machine).collect()
    }

    pub(super) fn counters_of(&self, name: &str) -> Arc<ProtocolCounters> {
        let mut named = self.named.write().unwrap_or_else(PoisonError::into_inner);
        let counters = || Arc::new(ProtocolCounters::new(&self.counters.changes));
        named.entry(name.into()).or_insert_with(counters).clone()
    }

    /// Counts a request or stream of ours.
    pub(super) fn count_sent(&self, name: &str) {
        if let Some(counters) = self.named.read().unwrap_or_else(PoisonError::into_inner).get(name) {
            return counters.sent();
        }
        self.counters_of(name).sent();
    }

    pub(super) fn refuse(&self, why: Dropped, code: u32, mut send: SendStream, mut recv: RecvStream) {
        self.counters.drop(why);
        send.reset(code);
        recv.stop(code);
    }

    // ---- what the node knows of itself

    /// A peer tells where it sees us.
    pub(super) fn observed(&self, link: &Link, address: &[u8]) {
        let Some(addr) = parse_observation(address) else { return };
        let mut votes = self.votes.lock().unwrap_or_else(PoisonError::into_inner);
        votes.retain(|(peer, _)| *peer != link.peer.id);
        if votes.len() >= VOTES {
            votes.remove(0);
        }
        votes.push((link.peer.id, addr));
    }

    /// Where this node can be dialled: where it is bound; if that says nothing, what at least two peers agree on;
    /// else this machine itself.
    pub(super) fn addr(&self) -> SocketAddr {
        let local = self.transport.local_addr();
        if !local.ip().is_unspecified() {
            return local;
        }
        let votes = self.votes.lock().unwrap_or_else(PoisonError::into_inner);
        let mut counted: BTreeMap<SocketAddr, usize> = BTreeMap::new();
        for (_, addr) in votes.iter() {
            *counted.entry(*addr).or_default() += 1;
        }
        let agreed = counted.into_iter().max_by_key(|(_, votes)| *votes).filter(|(_, votes)| *votes >= 2);
        let here = if local.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() };
        agreed.map_or(SocketAddr::new(here, local.port()), |(addr, _)| addr)
    }

    pub(super) fn stats(&self) -> Stats {
        let load = |count: &std::sync::atomic::AtomicU64| count.load(Ordering::Relaxed);
        let named = self.named.read().unwrap_or_else(PoisonError::into_inner);
        let live = self.pool.all();
        let bytes = live.iter().map(|link| link.conn.bytes());
        let (sent, received) = bytes.fold((0, 0), |(s, r), (sent, received)| (s + sent, r + received));
        Stats {
            connections: live.len(),
            requests: self.load.handlers(),
            request_bytes: self.load.bytes(),
            unfinished_bytes: self.unfinished.load(Ordering::Relaxed),
            dialled: load(&self.counters.dialled),
            accepted: load(&self.counters.accepted),
            bytes_sent: sent + load(&self.counters.bytes_sent),
            bytes_received: received + load(&self.counters.bytes_received),
            protocols: named.iter().map(|(name, counters)| (name.clone(), counters.snapshot())).collect(),
            drops: self.counters.drops(),
            refusals: self.transport.refusals(),
        }
    }
}

/// The first bytes of a stream or datagram: a length byte and the protocol's name.
pub(super) fn header(name: &str, body: usize) -> Result<Vec<u8>, OpenError> {
    let len = u8::try_from(name.len()).ok().filter(|len| *len > 0);
    let len = len.ok_or_else(|| OpenError::Name(name.into()))?;
    let mut header = Vec::with_capacity(1 + name.len() + body);
    header.push(len);
    header.extend_from_slice(name.as_bytes());
    Ok(header)
}

/// The datagram that tells a peer where it is seen: no name, 16 bytes of IPv6 (or mapped IPv4), 2 of port.
fn observation(addr: SocketAddr) -> Bytes {
    let ip = match addr.ip() {
        std::net::IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        std::net::IpAddr::V6(ip) => ip,
    };
    [&[0], &ip.octets()[..], &addr.port().to_be_bytes()].concat().into()
}

fn parse_observation(bytes: &[u8]) -> Option<SocketAddr> {
    let (ip, port) = bytes.split_at_checked(16)?;
    let ip = Ipv6Addr::from(<[u8; 16]>::try_from(ip).ok()?).to_canonical();
    let port = u16::from_be_bytes(port.try_into().ok()?);
    (port != 0 && !ip.is_unspecified() && !ip.is_multicast()).then(|| SocketAddr::new(ip, port))
}
