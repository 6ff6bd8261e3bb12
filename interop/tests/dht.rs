//! The DHT alone: libtorrent finds what we seed, and we what it seeds, by links that name nobody. One node of ours is all that
//! anybody is told of.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "what is waited for has a bound; it has files"
)]

mod support;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use p2p_core::net::tcp::{self, Running, TcpPeer};
use p2p_core::net::udp;
use p2p_core::{Key, Limits, NoWorker};
use p2p_dht::mainline::{GetPeers, KrpcCodec, Mainline, MainlineConfig};
use p2p_swarm::Files;
use p2p_swarm::torrent::{
    DhtSource, FileTorrents, Magnet, Metainfo, PeerCodec, Session, SessionConfig, Source,
};
use serde_json::json;
use support::{FORMATS, Folder, Libtorrent, MANY, add, same, torrent, wait};

type Node = Running<Mainline<SocketAddr>>;

fn here() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

async fn node(bootstrap: Vec<SocketAddr>) -> Node {
    let machine = Mainline::new(MainlineConfig { bootstrap, ..MainlineConfig::live() });
    udp::spawn(machine, KrpcCodec, here(), Limits::default(), [] as [NoWorker; 0]).await.unwrap()
}

/// A session of ours that finds peers in the DHT alone.
struct Ours {
    session: Running<Session<TcpPeer>>,
    _node: Node,
}

async fn ours(first: SocketAddr) -> Ours {
    let node = node(vec![first]).await;
    let dht_port = node.local_addr().map(|addr| addr.port());
    let config = SessionConfig { dht_port, ..SessionConfig::default() };
    let machine = |local: Option<SocketAddr>| Session::new(config, local.map(|addr| addr.port()));
    let (codec, worker) = (|_| PeerCodec::default(), [FileTorrents::new(Files)]);
    let session = tcp::spawn_at(machine, codec, Some(here()), Limits::default(), worker).await.unwrap();
    let (dht, handle) = (DhtSource::new(node.handle()), session.handle());
    tokio::spawn(async move { dht.serve(&handle).await });
    Ours { session, _node: node }
}

/// Waits until the DHT names a peer of the swarm that a link is about to a node that has no part in it.
async fn announced(first: SocketAddr, metainfo: &Metainfo, mut ask: impl FnMut()) {
    let node = node(vec![first]).await;
    let swarm = metainfo.info().hashes().swarms().next().unwrap();
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        ask();
        if node.handle().ask(GetPeers(Key::new(swarm))).await.unwrap().is_ok() {
            return;
        }
        assert!(Instant::now() < end, "nobody has announced it");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn link(metainfo: &Metainfo) -> Magnet {
    let link = Magnet::from(metainfo);
    assert!(link.trackers.is_empty() && link.peers.is_empty());
    link
}

#[tokio::test(flavor = "multi_thread")]
async fn libtorrent_finds_what_we_seed_in_the_dht_alone() {
    let first = node(Vec::new()).await;
    let at = first.local_addr().unwrap();
    for (format, version) in FORMATS {
        println!("{version}");
        let folder = Folder::new();
        let metainfo = torrent(&folder, format, &MANY);
        let ours = ours(at).await;
        let id = add(&ours.session, Source::Metainfo(metainfo.clone()), folder.at("seed"), vec![]).await;
        wait(&ours.session, id).await;
        announced(at, &metainfo, || ()).await;
        let mut theirs = Libtorrent::start();
        theirs.ask(json!({ "do": "start", "dht": at.to_string() }));
        let (magnet, to) = (link(&metainfo).to_string(), folder.at("theirs"));
        theirs.ask(json!({ "do": "add", "magnet": magnet, "folder": to }));
        let _theirs = theirs.done().await;
        same(&folder, &metainfo, "theirs");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn we_find_what_libtorrent_seeds_in_the_dht_alone() {
    let first = node(Vec::new()).await;
    let at = first.local_addr().unwrap();
    for (format, version) in FORMATS {
        println!("{version}");
        let folder = Folder::new();
        let metainfo = torrent(&folder, format, &MANY);
        let mut theirs = Libtorrent::start();
        theirs.ask(json!({ "do": "start", "dht": at.to_string() }));
        let (file, seed) = (folder.at("t.torrent"), folder.at("seed"));
        theirs.ask(json!({ "do": "add", "torrent": file, "folder": seed, "seed": true }));
        announced(at, &metainfo, || _ = theirs.ask(json!({ "do": "announce" }))).await;
        let ours = ours(at).await;
        let id = add(&ours.session, Source::Magnet(link(&metainfo)), folder.at("get"), vec![]).await;
        wait(&ours.session, id).await;
        same(&folder, &metainfo, "get");
    }
}
