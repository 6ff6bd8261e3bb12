//! The Mainline DHT as a source of peers (BEP 5): a torrent without trackers, or whose trackers are gone, is found all the
//! same.

use std::net::SocketAddr;
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use futures::future::join;
use p2p_core::{Handle, Key, Request};
use p2p_dht::mainline::{Announce, Endpoint, GetPeers, KnowNode, Mainline, MainlineError, Unpublish};

use super::command::{SessionEvent, TakesCommands, ToAnnounce};
use super::metainfo::SwarmId;
use super::source::{Found, PeerSource, SourceKind, find_peers};
use super::tracker::{AnnounceReply, Event, TrackerError};

/// When to look again while something is missing and nobody is found, but perhaps this client itself. A minute.
const ALONE: Duration = Duration::from_secs(60);
/// When to look again while something is missing. 5 minutes.
const MISSING: Duration = Duration::from_secs(5 * 60);
/// When to look again when nothing is. 15 minutes.
const WHOLE: Duration = Duration::from_secs(15 * 60);

/// A node of the Mainline DHT, asked for peers.
///
/// Each swarm is announced there once, and kept so by the node, until the session leaves it; of a torrent that is known
/// by a link alone nobody is told before it is known not to be private. A session whose
/// [`dht_port`](super::SessionConfig::dht_port) is the node's tells its peers of the node, and the node gets to know
/// theirs (BEP 5's `PORT`).
///
/// ```no_run
/// # async fn example(session: p2p_core::Handle<p2p_swarm::torrent::Session<p2p_core::foreign::TcpPeer>>) -> std::io::Result<()> {
/// use p2p_core::{Limits, NoWorker};
/// use p2p_core::net::udp;
/// use p2p_dht::mainline::{KrpcCodec, Mainline, MainlineConfig};
/// use p2p_swarm::torrent::DhtSource;
///
/// let bootstrap = vec!["192.0.2.1:6881".parse().unwrap()];
/// let machine = Mainline::new(MainlineConfig { bootstrap, ..MainlineConfig::live() });
/// let here = "0.0.0.0:6881".parse().unwrap();
/// let node = udp::spawn(machine, KrpcCodec, here, Limits::default(), [NoWorker]).await?;
/// DhtSource::new(node.handle()).serve(&session).await;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct DhtSource<E: Endpoint = SocketAddr> {
    node: Handle<Mainline<E>>,
}

impl<E: Endpoint> DhtSource<E> {
    /// Asks this node.
    pub fn new(node: Handle<Mainline<E>>) -> DhtSource<E> {
        DhtSource { node }
    }

    /// Finds peers for a session, and lets the node know those of its peers, until the session ends.
    pub async fn serve<M: TakesCommands>(&self, session: &Handle<M>) {
        let mut events = session.events();
        let nodes = async {
            while let Some(event) = events.next().await {
                if let SessionEvent::DhtNode(addr) = event {
                    let _ = self.node.ask(KnowNode(addr)).await;
                }
            }
        };
        join(find_peers(session, self), nodes).await;
    }

    /// Passes on who is found as they come; in the end who they are.
    async fn gather<R, T>(
        &self,
        request: R,
        swarm: SwarmId,
        found: &Found<'_>,
    ) -> Result<Vec<SocketAddr>, MainlineError>
    where
        R: Request<Mainline<E>, Item = SocketAddr, Reply = Result<T, MainlineError>>,
    {
        let mut asked = self.node.ask(request);
        let mut peers = Vec::new();
        while let Some(peer) = asked.next().await {
            found(swarm, vec![peer]);
            peers.push(peer);
        }
        match asked.await? {
            Ok(_) | Err(MainlineError::NotFound { .. }) => Ok(peers),
            Err(error) => Err(error),
        }
    }
}

#[async_trait]
impl<E: Endpoint> PeerSource for DhtSource<E> {
    fn kind(&self) -> SourceKind {
        SourceKind::Open("dht")
    }

    async fn announce(&self, wanted: &ToAnnounce, found: &Found<'_>) -> Result<AnnounceReply, TrackerError> {
        let announce = &wanted.announce;
        let (swarm, info_hash) = (announce.swarm, Key::new(announce.swarm));
        let peers = match (announce.event, announce.port) {
            (Event::Stopped, _) => {
                let _ = self.node.ask(Unpublish(info_hash)).await;
                return Ok(AnnounceReply::default());
            }
            // The node goes on saying so by itself.
            (Event::Started, port @ 1..) => {
                self.gather(Announce { info_hash, port: Some(port) }, swarm, found).await
            }
            _ => self.gather(GetPeers(info_hash), swarm, found).await,
        };
        let peers = peers.map_err(|error| TrackerError::Source(error.to_string()))?;
        let interval = match (announce.left, peers.len()) {
            (0, _) => WHOLE,
            (_, 0 | 1) => ALONE,
            _ => MISSING,
        };
        Ok(AnnounceReply { interval, peers, ..AnnounceReply::default() })
    }
}
