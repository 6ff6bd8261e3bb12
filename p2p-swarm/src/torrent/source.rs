//! Where peers are found: trackers, the DHT, the local network, or whatever an application brings.
//!
//! A session says when a swarm is to be announced, and where; a [`PeerSource`] does it, and [`find_peers`] carries both
//! ways. All sources are treated as trackers are: each hears of a start and of an end, is asked again when it says, and
//! rests if it fails. They differ in one thing, their [`SourceKind`].

use std::future::pending;
use std::net::SocketAddr;
use std::pin::pin;

use async_trait::async_trait;
use futures::StreamExt;
use futures::future::{Either, select};
use p2p_core::Handle;

use super::command::{Announced, Announcing, Heard, TakesCommands, ToAnnounce};
use super::metainfo::SwarmId;
use super::tracker::{AnnounceReply, TrackerError};

/// What kind of source it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SourceKind {
    /// The trackers that a torrent names, in their tiers: the only ones that private torrents have (BEP 27).
    Trackers,
    /// A place of this name at which anybody announces, and where others hear of it.
    Open(&'static str),
}

/// Takes the peers of a swarm that a source has heard of, at most 1,000 at a time.
pub type Found<'a> = dyn Fn(SwarmId, Vec<SocketAddr>) + Send + Sync + 'a;

/// Somewhere to announce swarms, and to hear of their peers.
///
/// Here a list of one's own is a source beside the others; it ends the session's search at once:
///
/// ```
/// use std::net::SocketAddr;
/// use std::time::Duration;
///
/// use p2p_core::SimPeer;
/// use p2p_core::sim::{DiskModel, Network, Sim};
/// use p2p_swarm::MemoryFiles;
/// use p2p_swarm::torrent::tracker::{AnnounceReply, TrackerError};
/// use p2p_swarm::torrent::{
///     Add, Addressed, CreateOptions, Found, MemoryTorrents, Metainfo, PeerSource, Session, SessionConfig, Source,
///     SourceKind, ToAnnounce, Wait, find_peers,
/// };
///
/// struct Friends(Vec<SocketAddr>);
///
/// #[async_trait::async_trait]
/// impl PeerSource for Friends {
///     fn kind(&self) -> SourceKind {
///         SourceKind::Open("friends")
///     }
///     async fn announce(&self, _: &ToAnnounce, _: &Found<'_>) -> Result<AnnounceReply, TrackerError> {
///         let interval = Duration::from_secs(3600);
///         Ok(AnnounceReply { interval, peers: self.0.clone(), ..AnnounceReply::default() })
///     }
/// }
///
/// let mut files = [MemoryFiles::default(), MemoryFiles::default()];
/// files[0].put("song", vec![7; 1_000_000]);
/// let metainfo = Metainfo::create(&mut files[0], "song".as_ref(), &CreateOptions::default()).unwrap();
/// let disks = files.clone();
/// let mut sim = Sim::<Session<SimPeer>, MemoryTorrents>::with_workers(
///     1, Network::default(), DiskModel::default(), move |peer| MemoryTorrents::new(disks[peer.index()].clone()));
/// let peers = [(); 2].map(|()| sim.spawn(|_| Session::new(SessionConfig::default(), Some(6881))));
/// let [seed, leecher] = peers.map(|peer| sim.handle(peer));
/// let friends = Friends(vec![peers[0].addr()]);
/// sim.block_on(async move {
///     let add = || Add::new(Source::Metainfo(metainfo.clone()), "");
///     seed.ask(add()).await.unwrap().unwrap();
///     let torrent = leecher.ask(add()).await.unwrap().unwrap();
///     let finding = find_peers(&leecher, &friends);
///     let done = leecher.ask(Wait { torrent, progress: None });
///     futures::future::select(std::pin::pin!(finding), done).await;
/// });
/// assert_eq!(files[1].read("song"), files[0].read("song"));
/// ```
#[async_trait]
pub trait PeerSource: Send + Sync {
    /// Which it is.
    fn kind(&self) -> SourceKind;

    /// Tells of a swarm what is to be told, and finds peers of it: those of the reply, and before that whom `found` is
    /// told of. The reply's interval says when to ask again, after a minute at the least. At an open source an end may come
    /// while the start is still on its way, whose reply counts for nothing then.
    ///
    /// # Errors
    /// There is no answer: it is asked again after half a minute, and later each time.
    async fn announce(&self, wanted: &ToAnnounce, found: &Found<'_>) -> Result<AnnounceReply, TrackerError>;

    /// Tells `found` of the peers that are heard of unasked. It may end when there will be no more; this one hears of none.
    async fn listen(&self, found: &Found<'_>) {
        let _ = found;
        pending::<()>().await;
    }
}

/// Announces whatever a session wants announced at a source, and tells it who is found, until the session ends.
pub async fn find_peers<M: TakesCommands>(session: &Handle<M>, source: &dyn PeerSource) {
    let kind = source.kind();
    // It is done as soon as it is told: nobody waits.
    let found = |swarm, peers| drop(session.ask(Heard { source: kind, swarm, peers }));
    let found = &found;
    let announcing = session.ask(Announcing(kind)).for_each_concurrent(None, |wanted| async move {
        let result = source.announce(&wanted, found).await;
        // If it has ended nobody needs to know.
        let _ = session.ask(Announced { number: wanted.number, result }).await;
    });
    if let Either::Right(((), announcing)) = select(pin!(announcing), source.listen(found)).await {
        announcing.await;
    }
}
