//! Trackers over real sockets: our clients at our tracker, and what strangers send it.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::SocketAddr;
use std::time::Duration;

use async_trait::async_trait;
use p2p_core::net::tcp::{self, Running, TcpPeer};
use p2p_core::net::udp;
use p2p_core::{Limits, NoWorker};
use p2p_dht::mainline::Secret;
use p2p_swarm::MemoryFiles;
use p2p_swarm::torrent::http::{HttpClient, HttpCodec, Resolve};
use p2p_swarm::torrent::tracker::{
    Announce, CountPeers, Event, HttpTracker, Scraped, Tracker, TrackerClient, TrackerConfig, TrackerCounts,
    TrackerError, UdpClient, UdpCodec, UdpTracker,
};
use p2p_swarm::torrent::{
    Add, CreateOptions, Magnet, MemoryTorrents, Metainfo, PeerCodec, PeerName, Session, SessionConfig,
    Source, Status, Stop, Wait, find_peers,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::time::timeout;

const SOON: Duration = Duration::from_secs(20);

fn here() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

struct System;

#[async_trait]
impl Resolve for System {
    async fn resolve(&self, host: &str, port: u16) -> std::io::Result<Vec<SocketAddr>> {
        Ok(tokio::net::lookup_host((host, port)).await?.collect())
    }
}

/// A tracker on one port, which is free for both wires now and then only.
async fn tracker() -> (Running<HttpTracker>, Running<UdpTracker>, SocketAddr) {
    loop {
        let Tracker { http, udp } = Tracker::new(TrackerConfig::default(), Secret::new([1; 32]));
        let limits = Limits::default();
        let codec = |_| HttpCodec::server();
        let http = tcp::spawn(http, codec, Some(here()), limits.clone(), [NoWorker]).await.unwrap();
        let addr = http.local_addr().unwrap();
        if let Ok(udp) = udp::spawn(udp, UdpCodec::server(), addr, limits, [NoWorker]).await {
            return (http, udp, addr);
        }
    }
}

struct Client {
    ask: TrackerClient<System>,
    _http: Running<HttpClient>,
    _udp: Running<UdpClient>,
}

async fn client() -> Client {
    let limits = Limits::default();
    let codec = |_| HttpCodec::client();
    let http = tcp::spawn(HttpClient::default(), codec, None, limits.clone(), [NoWorker]).await.unwrap();
    let udp = udp::spawn(UdpClient::default(), UdpCodec::client(), here(), limits, [NoWorker]).await.unwrap();
    Client {
        ask: TrackerClient::new(http.handle(), Some(udp.handle()), None, System),
        _http: http,
        _udp: udp,
    }
}

fn announce(port: u16, left: u64, event: Event) -> Announce {
    let (swarm, peer) = (*b"\0\xff swarm & %20 =?#\r\n", PeerName(*b"-XX0000-abcdefghijkl"));
    let (uploaded, downloaded, key) = (1, 2, 3);
    Announce { swarm, peer, port, uploaded, downloaded, left, event, key, want: None, tracker_id: None }
}

#[tokio::test]
async fn who_announces_hears_of_others_over_both_wires() {
    let (_http, udp, addr) = tracker().await;
    let client = client().await;
    let [by_http, by_udp] = [format!("http://{addr}/announce"), format!("udp://{addr}")];
    let peer = |port| SocketAddr::new(addr.ip(), port);
    let first = client.ask.announce(&by_http, &announce(1, 0, Event::Started)).await.unwrap();
    assert_eq!((first.seeders, first.peers.len()), (Some(1), 0));
    assert_eq!(first.external, Some(addr.ip()));
    let second = client.ask.announce(&by_udp, &announce(2, 5, Event::Started)).await.unwrap();
    assert_eq!((second.peers, second.leechers), (vec![peer(1)], Some(1)));
    assert_eq!(second.interval, Duration::from_secs(1800));
    let third = client.ask.announce(&by_http, &announce(3, 5, Event::Started)).await.unwrap();
    assert_eq!(third.peers.len(), 2);
    client.ask.announce(&by_udp, &announce(2, 0, Event::Completed)).await.unwrap();
    for url in [&by_http, &by_udp] {
        let swarm = announce(0, 0, Event::Regular).swarm;
        let stands = client.ask.scrape(url, &[swarm]).await.unwrap();
        assert_eq!(stands, [(swarm, Scraped { seeders: 2, leechers: 1, completed: 1 })], "{url}");
    }
    for port in 1..=3 {
        let url = if port == 2 { &by_udp } else { &by_http };
        client.ask.announce(url, &announce(port, 0, Event::Stopped)).await.unwrap();
    }
    assert_eq!(udp.handle().ask(CountPeers).await.unwrap().peers, 0);
}

#[tokio::test]
async fn a_link_and_a_tracker_are_enough() {
    let (http, _udp, addr) = tracker().await;
    for url in [format!("http://{addr}/announce"), format!("udp://{addr}")] {
        let mut files = [MemoryFiles::default(), MemoryFiles::default()];
        files[0].put("t", (0..500_000_u32).map(|at| (at / 3) as u8).collect::<Vec<u8>>());
        // The first tracker is nobody: the second is asked.
        let dead = TcpListener::bind(here()).await.unwrap().local_addr().unwrap();
        let trackers = vec![vec![format!("http://{dead}/announce")], vec![url.clone()]];
        let options = CreateOptions { trackers, ..CreateOptions::default() };
        let metainfo = Metainfo::create(&mut files[0], "t".as_ref(), &options).unwrap();
        let torrents = [Source::Metainfo(metainfo.clone()), Source::Magnet(Magnet::from(&metainfo))];
        let mut running = Vec::new();
        for (torrent, files) in torrents.into_iter().zip(&files) {
            let machine = |local: Option<SocketAddr>| {
                Session::<TcpPeer>::new(SessionConfig::default(), local.map(|addr| addr.port()))
            };
            let (codec, worker) = (|_| PeerCodec::default(), [MemoryTorrents::new(files.clone())]);
            let session =
                tcp::spawn_at(machine, codec, Some(here()), Limits::default(), worker).await.unwrap();
            let (client, handle) = (client().await, session.handle());
            tokio::spawn(async move {
                let client = client;
                find_peers(&handle, &client.ask).await;
            });
            let add = Add::new(torrent, "");
            let torrent = session.handle().ask(add).await.unwrap().unwrap();
            running.push((session, torrent));
        }
        for (session, torrent) in &running {
            let wait = session.handle().ask(Wait { torrent: *torrent, progress: None });
            let Ok(done) = timeout(SOON, wait).await else {
                panic!("{:#?}", session.handle().ask(Status { torrent: *torrent }).await)
            };
            done.unwrap().unwrap();
        }
        assert_eq!(files[0].read("t"), files[1].read("t"), "{url}");
        // Two swarms: it is a hybrid.
        assert_eq!(http.handle().ask(CountPeers).await.unwrap(), TrackerCounts { swarms: 2, peers: 4 });
        for (session, _) in running {
            session.handle().ask(Stop).await.unwrap();
            session.shutdown().await;
        }
        assert_eq!(http.handle().ask(CountPeers).await.unwrap().peers, 0, "they have said that they go");
    }
}

/// A tracker that answers each connection with these bytes, and closes it.
async fn says(answers: Vec<Vec<u8>>) -> SocketAddr {
    let listener = TcpListener::bind(here()).await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        for answer in answers {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut asked = vec![0; 4096];
            let _ = stream.read(&mut asked).await;
            let _ = stream.write_all(&answer).await;
        }
    });
    addr
}

#[tokio::test]
async fn trackers_that_misbehave_are_named_and_harmless() {
    let client = client().await;
    let ask = async |answers: &[&str]| {
        let addr = says(answers.iter().map(|answer| answer.as_bytes().to_vec()).collect()).await;
        let announce = announce(1, 1, Event::Started);
        let url = format!("http://{addr}/announce");
        let reply = client.ask.announce(&url, &announce);
        timeout(SOON, reply).await.expect("it ends")
    };
    // Without a length it ends with the connection.
    assert!(ask(&["HTTP/1.0 200 OK\r\n\r\nd8:intervali60ee"]).await.is_ok());
    let refused = Err(TrackerError::Refused("no".into()));
    assert_eq!(ask(&["HTTP/1.1 403 No\r\n\r\nd14:failure reason2:noe"]).await, refused);
    assert_eq!(ask(&["HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n"]).await, Err(TrackerError::Status(500)));
    for wrong in [
        "",
        "hello\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nd8:intervali60ee",
        "HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\nd8:intervali60ee",
        "HTTP/1.1 200 OK\r\n\r\nd8:intervali60e",
        "HTTP/1.1 302 Found\r\nLocation: udp://127.0.0.1:1\r\n\r\n",
    ] {
        let said = ask(&[wrong]).await;
        let expected = match said {
            Err(TrackerError::Unreachable) => wrong.is_empty(),
            Err(TrackerError::Url(_)) => wrong.contains("302"),
            Err(TrackerError::Malformed(_)) => true,
            _ => false,
        };
        assert!(expected, "{wrong:?}: {said:?}");
    }
    // Elsewhere on this machine nothing is asked that is no tracker's.
    let elsewhere = says(vec![b"HTTP/1.1 200 OK\r\n\r\nd8:intervali60ee".to_vec()]).await;
    let moved = |to: String| format!("HTTP/1.1 301 Moved\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n");
    for path in ["/shutdown?now", "/shutdown/announce"] {
        let said = ask(&[&moved(format!("http://{elsewhere}{path}"))]).await;
        assert!(matches!(said, Err(TrackerError::Resolve { .. })), "{path}: {said:?}");
    }
    assert!(ask(&[&moved(format!("http://{elsewhere}/announce?now"))]).await.is_ok());
}

/// Finds nobody first, and then who is asked for.
struct Twice(SocketAddr);

#[async_trait]
impl Resolve for Twice {
    async fn resolve(&self, _: &str, port: u16) -> std::io::Result<Vec<SocketAddr>> {
        Ok(vec![self.0, SocketAddr::new(here().ip(), port)])
    }
}

#[tokio::test]
async fn where_one_address_cannot_be_reached_the_next_is_tried() {
    let (_http, _udp, addr) = tracker().await;
    let dead = TcpListener::bind(here()).await.unwrap().local_addr().unwrap();
    let codec = |_| HttpCodec::client();
    let http = tcp::spawn(HttpClient::default(), codec, None, Limits::default(), [NoWorker]).await.unwrap();
    let client = TrackerClient::new(http.handle(), None, None, Twice(dead));
    let url = format!("http://tracker.example:{}/announce", addr.port());
    let started = announce(1, 0, Event::Started);
    let reply = timeout(SOON, client.announce(&url, &started)).await.unwrap().unwrap();
    assert_eq!(reply.seeders, Some(1));
}

#[tokio::test]
async fn a_tracker_answers_strangers_with_no_more_than_they_send() {
    let (_http, _udp, addr) = tracker().await;
    let socket = UdpSocket::bind(here()).await.unwrap();
    socket.connect(addr).await.unwrap();
    let mut packet = [0; 98];
    packet[11] = 1;
    for stranger in [&packet[..], &[0; 1], &[255; 1500]] {
        socket.send(stranger).await.unwrap();
    }
    // None of them was answered: the first answer is that to what a client begins with.
    socket.send(&[0, 0, 4, 0x17, 0x27, 0x10, 0x19, 0x80, 0, 0, 0, 0, 0, 0, 0, 9]).await.unwrap();
    let mut answer = [0; 2000];
    let length = timeout(SOON, socket.recv(&mut answer)).await.unwrap().unwrap();
    assert_eq!((length, &answer[..8]), (16, &[0, 0, 0, 0, 0, 0, 0, 9][..]));

    for (asked, status) in [
        ("GET /announce?info_hash=short HTTP/1.1\r\n\r\n", "200"),
        ("GET /scrape HTTP/1.1\r\n\r\n", "200"),
        ("GET / HTTP/1.1\r\n\r\n", "404"),
        ("GET /announce?%&%=&=%zz&info_hash=%C3%28 HTTP/1.0\r\n\r\n", "200"),
    ] {
        let mut stream = TcpStream::connect(addr).await.unwrap();
        stream.write_all(asked.as_bytes()).await.unwrap();
        let mut answer = String::new();
        timeout(SOON, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
        assert!(status != "200" || answer.contains("failure reason"), "{answer}");
    }
    // BEP 23: in the short form, unless it is said otherwise.
    for (compact, peers) in [("", "5:peers0:"), ("&compact=1", "5:peers0:"), ("&compact=0", "5:peersle")] {
        let (swarm, name) = ("x".repeat(20), "y".repeat(20));
        let asked = format!("/announce?info_hash={swarm}&peer_id={name}&port=1&left=1{compact}");
        let mut stream = TcpStream::connect(addr).await.unwrap();
        stream.write_all(format!("GET {asked} HTTP/1.0\r\n\r\n").as_bytes()).await.unwrap();
        let mut answer = String::new();
        timeout(SOON, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
        assert!(answer.contains(peers), "{compact}: {answer}");
    }
    // BEP 3: in the long form with the name of each, unless it is said otherwise.
    for (named, peer) in [
        ("", "d2:ip9:127.0.0.17:peer id20:yyyyyyyyyyyyyyyyyyyy4:porti1ee"),
        ("&no_peer_id=1", "d2:ip9:127.0.0.14:porti1ee"),
    ] {
        let (swarm, name) = ("x".repeat(20), "z".repeat(20));
        let asked = format!("/announce?info_hash={swarm}&peer_id={name}&port=2&left=1&compact=0{named}");
        let mut stream = TcpStream::connect(addr).await.unwrap();
        stream.write_all(format!("GET {asked} HTTP/1.0\r\n\r\n").as_bytes()).await.unwrap();
        let mut answer = String::new();
        timeout(SOON, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
        assert!(answer.contains(peer), "{named}: {answer}");
    }
    let mut stream = TcpStream::connect(addr).await.unwrap();
    stream.write_all(b"POST / HTTP/1.1\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let _ = timeout(SOON, stream.read_to_end(&mut answer)).await.unwrap();
    assert!(answer.is_empty());
}
