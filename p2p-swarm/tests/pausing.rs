//! A torrent is paused, resumed and limited while it crosses between two sessions over TCP.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::SocketAddr;
use std::time::Duration;

use futures::StreamExt;
use p2p_core::net::tcp::{self, Running, TcpPeer};
use p2p_core::{Handle, Limits, Rng};
use p2p_swarm::MemoryFiles;
use p2p_swarm::torrent::{
    Add, CreateOptions, MemoryTorrents, Metainfo, Pause, PeerCodec, RateLimits, Resume, Session,
    SessionConfig, SessionEvent, SetRates, Source, Status, TorrentId, TorrentStage, TorrentStatus, Wait,
};
use tokio::time::{Instant, timeout};

const ID: TorrentId = TorrentId::first();
const LENGTH: usize = 8 << 20;
const PATIENCE: Duration = Duration::from_secs(60);

struct Peer {
    running: Running<Session<TcpPeer>>,
    disk: MemoryFiles,
}

impl Peer {
    async fn new(disk: MemoryFiles) -> Peer {
        let here = Some("127.0.0.1:0".parse().unwrap());
        let machine =
            |local: Option<SocketAddr>| Session::new(SessionConfig::default(), local.map(|addr| addr.port()));
        let worker = [MemoryTorrents::new(disk.clone())];
        let running =
            tcp::spawn_at(machine, |_| PeerCodec::default(), here, Limits::default(), worker).await.unwrap();
        Peer { running, disk }
    }

    fn handle(&self) -> Handle<Session<TcpPeer>> {
        self.running.handle()
    }

    async fn add(&self, metainfo: &Metainfo, peers: Vec<SocketAddr>) {
        let add = Add { peers, ..Add::new(Source::Metainfo(metainfo.clone()), "") };
        assert_eq!(self.handle().ask(add).await.unwrap(), Ok(ID));
    }

    async fn is_done(&self) {
        let done = timeout(PATIENCE, self.handle().ask(Wait { torrent: ID, progress: None })).await;
        done.expect("it takes far too long").unwrap().unwrap();
    }

    async fn status(&self) -> TorrentStatus {
        self.handle().ask(Status { torrent: ID }).await.unwrap().unwrap()
    }

    async fn limit(&self, up: Option<u64>) {
        let rates = RateLimits { up, down: None };
        assert!(self.handle().ask(SetRates { torrent: None, rates }).await.unwrap());
    }
}

/// One that has everything and sends so much in a second, and one that has nothing and knows it.
async fn pair(up: u64) -> (Peer, Peer) {
    let mut disk = MemoryFiles::default();
    let mut content = vec![0; LENGTH];
    Rng::new(3).fill(&mut content);
    disk.put("t", content);
    let options = CreateOptions { piece_length: Some(64 << 10), ..CreateOptions::default() };
    let metainfo = Metainfo::create(&mut disk, "t".as_ref(), &options).unwrap();
    let seed = Peer::new(disk).await;
    seed.limit(Some(up)).await;
    seed.add(&metainfo, vec![]).await;
    seed.is_done().await;
    let leecher = Peer::new(MemoryFiles::default()).await;
    leecher.add(&metainfo, vec![seed.running.local_addr().unwrap()]).await;
    (seed, leecher)
}

/// How the first torrent stands once this is so.
async fn until(peer: &Peer, is_so: impl Fn(&TorrentStatus) -> bool) -> TorrentStatus {
    let becomes_so = async {
        loop {
            let status = peer.status().await;
            if is_so(&status) {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, becomes_so).await.expect("it is never so")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_torrent_stands_still_and_then_gets_the_rest() {
    // All of it would take eight seconds.
    let (seed, leecher) = pair(1 << 20).await;
    let mut events = leecher.handle().events();
    until(&leecher, |status| status.pieces > 3).await;
    assert!(leecher.handle().ask(Pause { torrent: ID }).await.unwrap());
    let paused = leecher.status().await;
    assert_eq!((paused.stage, paused.peers.len()), (TorrentStage::Paused, 0));
    assert!(paused.pieces < paused.wanted, "{} pieces", paused.pieces);
    until(&seed, |status| status.peers.is_empty()).await;
    seed.limit(None).await;
    // It has time enough for all that is left, were it not paused. What had come was still being written.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let still = leecher.status().await;
    assert_eq!((still.stage, still.downloaded), (TorrentStage::Paused, paused.downloaded));
    assert!(leecher.handle().ask(Resume { torrent: ID }).await.unwrap());
    leecher.is_done().await;
    assert!(leecher.disk.read("t") == seed.disk.read("t"), "every byte is the same");
    let downloaded = leecher.status().await.downloaded;
    assert_eq!(downloaded, LENGTH as u64, "no block came twice");
    let mut said = Vec::new();
    while said.last() != Some(&SessionEvent::Done(ID)) {
        said.extend(timeout(PATIENCE, events.next()).await.unwrap());
    }
    let paused = said.iter().position(|event| *event == SessionEvent::Paused(ID, None)).unwrap();
    assert!(said[paused..].contains(&SessionEvent::Resumed(ID)), "{said:?}");
    leecher.running.shutdown().await;
    seed.running.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_that_is_raised_or_lifted_while_a_torrent_crosses_holds_from_then_on() {
    let (seed, leecher) = pair(0).await;
    until(&seed, |status| status.peers.iter().any(|peer| !peer.choked)).await;
    until(&leecher, |status| status.peers.iter().any(|peer| !peer.chokes)).await;
    assert_eq!((seed.status().await.uploaded, leecher.status().await.downloaded), (0, 0));
    let rate = 1 << 20;
    let begun = Instant::now();
    seed.limit(Some(rate)).await;
    until(&leecher, |status| status.downloaded >= 2 << 20).await;
    let took = begun.elapsed();
    // But for a quarter of a second's worth and a block.
    assert!(took >= Duration::from_millis(1700), "{took:?}");
    seed.limit(None).await;
    leecher.is_done().await;
    assert!(leecher.disk.read("t") == seed.disk.read("t"), "every byte is the same");
    leecher.running.shutdown().await;
    seed.running.shutdown().await;
}
