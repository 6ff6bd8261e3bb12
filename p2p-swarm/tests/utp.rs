//! BitTorrent over uTP, between clients on loopback. How fast it is is printed: of 3 MB, or `P2P_UTP_MIB`.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use futures::StreamExt;
use p2p_core::net::both::{self, Listen, Running};
use p2p_core::net::tcp;
use p2p_core::{Handle, Limits, Rng};
use p2p_dht::mainline::Secret;
use p2p_swarm::Files;
use p2p_swarm::torrent::{
    Add, Carrier, Carriers, Client, CreateOptions, Encryption, FileTorrents, Metainfo, Mse, PeerCodec,
    Session, SessionConfig, Source, Status, TakesCommands, TorrentId, TorrentStatus, Wait, client,
};
use p2p_swarm::utp::{StreamPeer, UtpCodec, UtpConfig};
use tokio::time::timeout;

/// Bytes of the content.
fn length() -> usize {
    let mib: Option<usize> = std::env::var("P2P_UTP_MIB").ok().and_then(|mib| mib.parse().ok());
    mib.map_or(3_000_000, |mib| mib << 20)
}

/// A folder of its own with a torrent and its content; it goes with the test.
struct Folder {
    path: PathBuf,
    metainfo: Metainfo,
}

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("p2p-utp-{name}-{}", std::process::id()));
        std::fs::create_dir_all(path.join("seed")).unwrap();
        let mut content = vec![0; length()];
        Rng::new(5).fill(&mut content);
        std::fs::write(path.join("seed/t"), content).unwrap();
        let metainfo = Metainfo::create(&mut Files, &path.join("seed/t"), &CreateOptions::default()).unwrap();
        Folder { path, metainfo }
    }

    async fn add<M: TakesCommands>(&self, to: &Handle<M>, at: &str, peers: &[SocketAddr]) -> TorrentId {
        let torrent = Source::Metainfo(self.metainfo.clone());
        let add = Add { peers: peers.to_vec(), ..Add::new(torrent, self.path.join(at)) };
        to.ask(add).await.unwrap().unwrap()
    }

    /// Waits until all is there, and says how the torrent stands: a peer may have gone that is needed no more.
    async fn get<M: TakesCommands>(&self, at: &Handle<M>, torrent: TorrentId, name: &str) -> TorrentStatus {
        let patience = Duration::from_secs(60 + length() as u64 / 1_000_000);
        let done = timeout(patience, at.ask(Wait { torrent, progress: None })).await;
        done.expect("it takes far too long").unwrap().unwrap();
        let (theirs, ours) = (self.path.join("seed/t"), self.path.join(name).join("t"));
        assert!(std::fs::read(theirs).unwrap() == std::fs::read(ours).unwrap(), "every byte is the same");
        at.ask(Status { torrent }).await.unwrap().unwrap()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

fn loopback() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

async fn start(carriers: Carriers, encryption: Encryption) -> Running<Client> {
    let mse = Mse::new(encryption, &Secret::generate());
    let codecs = mse.clone();
    let config = SessionConfig { carriers, ..SessionConfig::default() };
    let tcp = (carriers != Carriers::Utp).then(loopback);
    both::spawn_at(
        move |local| client(config, UtpConfig::default(), local.map(|addr| addr.port()), mse),
        move |peer| codecs.codec(StreamPeer::Tcp(peer)),
        UtpCodec,
        Listen { tcp, udp: Some(loopback()) },
        Limits::default(),
        [FileTorrents::new(Files)],
    )
    .await
    .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_torrent_crosses_over_utp_and_over_tcp_in_the_clear_and_encrypted() {
    for (carriers, carrier, encryption) in [
        (Carriers::Tcp, Carrier::Tcp, Encryption::Off),
        (Carriers::Utp, Carrier::Utp, Encryption::Off),
        (Carriers::Tcp, Carrier::Tcp, Encryption::Required),
        (Carriers::Utp, Carrier::Utp, Encryption::Required),
    ] {
        let folder = Folder::new(&format!("{carrier:?}-{encryption:?}"));
        let (seed, get) = (start(carriers, encryption).await, start(carriers, encryption).await);
        let at = seed.local_addr().unwrap();
        let id = folder.add(&seed.handle(), "seed", &[]).await;
        folder.get(&seed.handle(), id, "seed").await;
        let begun = tokio::time::Instant::now();
        let id = folder.add(&get.handle(), "get", &[at]).await;
        let status = folder.get(&get.handle(), id, "get").await;
        let rate = length() as f64 / 1e6 / begun.elapsed().as_secs_f64();
        println!("{carrier:?}, encryption {encryption:?}: {rate:.0} MB/s");
        assert_eq!(status.downloaded, length() as u64);
        assert!(status.peers.iter().all(|peer| (peer.addr, peer.carrier) == (at, carrier)));
        get.shutdown().await;
        seed.shutdown().await;
    }
}

#[tokio::test]
async fn who_has_no_utp_is_reached_over_tcp() {
    let folder = Folder::new("tcp");
    let machine =
        |local: Option<SocketAddr>| Session::new(SessionConfig::default(), local.map(|addr| addr.port()));
    let worker = [FileTorrents::new(Files)];
    let seed = tcp::spawn_at(machine, |_| PeerCodec::default(), Some(loopback()), Limits::default(), worker);
    let seed = seed.await.unwrap();
    let id = folder.add(&seed.handle(), "seed", &[]).await;
    folder.get(&seed.handle(), id, "seed").await;
    let get = start(Carriers::Both, Encryption::Off).await;
    let id = folder.add(&get.handle(), "get", &[seed.local_addr().unwrap()]).await;
    let status = folder.get(&get.handle(), id, "get").await;
    // Nobody listens by UDP.
    assert_eq!(status.downloaded, length() as u64);
    assert!(status.peers.iter().all(|peer| peer.carrier == Carrier::Tcp));
    get.shutdown().await;
    seed.shutdown().await;
}

/// Of two that have nothing and do not know each other each has a connection to a third, by uTP and by TCP. It names them to
/// each other (BEP 11), and both speak uTP: that is what connects them.
#[tokio::test]
async fn who_is_named_as_a_speaker_of_utp_is_met_over_it() {
    let folder = Folder::new("pex");
    let hub = start(Carriers::Both, Encryption::Off).await;
    let at = hub.local_addr().unwrap();
    folder.add(&hub.handle(), "hub", &[]).await;
    let (a, b) = (start(Carriers::Both, Encryption::Off).await, start(Carriers::Both, Encryption::Off).await);
    folder.add(&a.handle(), "a", &[at]).await;
    let torrent = folder.add(&b.handle(), "b", &[at]).await;
    let other = a.local_addr().unwrap();
    // There is nobody to get it from: it says how far it is for ever.
    let mut waiting = b.handle().ask(Wait { torrent, progress: Some(Duration::from_millis(100)) });
    let met = async {
        while let Some(status) = waiting.next().await {
            if let Some(peer) = status.peers.into_iter().find(|peer| peer.addr == other) {
                return Some(peer.carrier);
            }
        }
        None
    };
    let carrier = timeout(Duration::from_secs(30), met).await.expect("nobody is named");
    assert_eq!(carrier, Some(Carrier::Utp));
}
