//! Local service discovery over real multicast, on the loopback interface alone.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::time::Duration;

use p2p_core::net::tcp::{self, Running, TcpPeer};
use p2p_core::net::udp::{self, Group};
use p2p_core::{Limits, NoWorker};
use p2p_swarm::MemoryFiles;
use p2p_swarm::torrent::{
    Add, CreateOptions, Lsd, LsdCodec, LsdSource, MemoryTorrents, Metainfo, PeerCodec, Session,
    SessionConfig, Source, Status, TorrentId, Wait, find_peers,
};
use tokio::time::timeout;

struct Neighbour {
    session: Running<Session<TcpPeer>>,
    _lsd: Running<Lsd>,
    torrent: TorrentId,
}

/// A session with a torrent, which looks for peers in the local network alone.
async fn neighbour(files: &MemoryFiles, metainfo: &Metainfo, group: SocketAddrV4) -> Neighbour {
    let machine = |local: Option<SocketAddr>| {
        Session::<TcpPeer>::new(SessionConfig::default(), local.map(|addr| addr.port()))
    };
    let (here, worker) = ("127.0.0.1:0".parse().unwrap(), [MemoryTorrents::new(files.clone())]);
    let codec = |_| PeerCodec::default();
    let session = tcp::spawn_at(machine, codec, Some(here), Limits::default(), worker).await.unwrap();
    let joined = Group { addr: group, interface: Ipv4Addr::LOCALHOST };
    let lsd = udp::spawn_in(joined, Lsd::new(group), LsdCodec, Limits::default(), [NoWorker]).await;
    let lsd = lsd.expect("this machine has no multicast on its loopback interface");
    let (source, handle) = (LsdSource::new(lsd.handle()), session.handle());
    tokio::spawn(async move { find_peers(&handle, &source).await });
    let add = Add::new(Source::Metainfo(metainfo.clone()), "");
    let torrent = session.handle().ask(add).await.unwrap().unwrap();
    Neighbour { session, _lsd: lsd, torrent }
}

#[tokio::test]
async fn who_comes_is_heard_by_who_is_there() {
    let mut files = [(); 3].map(|()| MemoryFiles::default());
    let song: Vec<u8> = (0..500_000_u32).map(|at| (at / 3) as u8).collect();
    files[0].put("t", song.clone());
    let metainfo = Metainfo::create(&mut files[0], "t".as_ref(), &CreateOptions::default()).unwrap();
    // A port that nobody has, so that nobody else is there.
    let port = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let group = SocketAddrV4::new(Ipv4Addr::new(239, 255, 82, 71), port);
    let mut there = Vec::new();
    for files in &files {
        let neighbour = neighbour(files, &metainfo, group).await;
        let handle = neighbour.session.handle();
        let wait = handle.ask(Wait { torrent: neighbour.torrent, progress: None });
        // A packet that is lost is said again after a minute.
        let Ok(done) = timeout(Duration::from_secs(90), wait).await else {
            panic!("{:#?}", handle.ask(Status { torrent: neighbour.torrent }).await)
        };
        done.unwrap().unwrap();
        there.push(neighbour);
    }
    assert!(files.iter().all(|files| files.read("t").as_deref() == Some(&song[..])));
}
