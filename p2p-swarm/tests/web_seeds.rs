//! Web seeds over real HTTP: servers that send ranges, that send something else, that know no ranges.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use p2p_core::net::tcp::{self, Running, TcpPeer};
use p2p_core::{Events, Limits, NoWorker, Rng};
use p2p_swarm::MemoryFiles;
use p2p_swarm::torrent::http::{HttpClient, HttpCodec, Resolve};
use p2p_swarm::torrent::{
    Add, CreateOptions, Format, MemoryTorrents, Metainfo, PeerCodec, Session, SessionConfig, SessionEvent,
    Source, Status, TorrentId, TorrentStatus, Wait, WebError, WebSeedStatus, WebSeeds,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::timeout;

struct System;

#[async_trait]
impl Resolve for System {
    async fn resolve(&self, host: &str, port: u16) -> std::io::Result<Vec<SocketAddr>> {
        Ok(tokio::net::lookup_host((host, port)).await?.collect())
    }
}

/// What a server does.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Manner {
    Honest,
    /// One byte of each answer is not what it was.
    Lies,
    /// It sends the whole file, whatever is asked for.
    Whole,
    /// It sends its clients to another path first.
    Moves,
    /// It has nothing.
    Missing,
    /// It closes the connection in the middle of its first answer.
    Breaks,
}

struct Server {
    url: String,
    requests: Arc<AtomicUsize>,
}

/// Serves files by their paths.
async fn server(files: Vec<(String, Vec<u8>)>, manner: Manner) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let requests = Arc::new(AtomicUsize::new(0));
    let (files, count) = (Arc::new(files), requests.clone());
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let (files, count) = (files.clone(), count.clone());
            tokio::spawn(async move {
                let mut asked = Vec::new();
                while !asked.ends_with(b"\r\n\r\n") {
                    if stream.read_buf(&mut asked).await.unwrap() == 0 {
                        return;
                    }
                }
                let first = count.fetch_add(1, Ordering::Relaxed) == 0;
                let mut answer = answer(&String::from_utf8(asked).unwrap(), &files, manner);
                if manner == Manner::Breaks && first {
                    answer.truncate(answer.len() / 2);
                }
                let _ = stream.write_all(&answer).await;
                let _ = stream.shutdown().await;
            });
        }
    });
    Server { url, requests }
}

fn answer(asked: &str, files: &[(String, Vec<u8>)], manner: Manner) -> Vec<u8> {
    let path = asked.split(' ').nth(1).unwrap();
    let found = files.iter().find(|(name, _)| path.strip_prefix("/moved").unwrap_or(path) == name);
    let Some((_, file)) = found.filter(|_| manner != Manner::Missing) else {
        return b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_vec();
    };
    if manner == Manner::Moves && !path.starts_with("/moved") {
        return format!("HTTP/1.1 302 Found\r\nLocation: /moved{path}\r\nContent-Length: 0\r\n\r\n")
            .into_bytes();
    }
    let range = asked.lines().find_map(|line| line.strip_prefix("Range: bytes=")).unwrap();
    let (first, last) = range.split_once('-').unwrap();
    let (first, last): (usize, usize) = (first.parse().unwrap(), last.parse().unwrap());
    let (head, mut body) = match manner {
        Manner::Whole => ("HTTP/1.1 200 OK".to_owned(), file.clone()),
        _ => {
            let head =
                format!("HTTP/1.1 206 Partial Content\r\nContent-Range: bytes {first}-{last}/{}", file.len());
            (head, file[first..=last].to_vec())
        }
    };
    let head = format!("{head}\r\nContent-Length: {}\r\n\r\n", body.len());
    if manner == Manner::Lies {
        body[0] ^= 1;
    }
    [head.into_bytes(), body].concat()
}

struct Torrent {
    files: MemoryFiles,
    metainfo: Metainfo,
    served: Vec<(String, Vec<u8>)>,
}

/// A torrent of files, and what a server has of it.
fn torrent(format: Format, names: &[(&str, usize)]) -> Torrent {
    let mut files = MemoryFiles::default();
    let mut served = Vec::new();
    for (i, (name, length)) in names.iter().enumerate() {
        let mut bytes = vec![0; *length];
        Rng::new(i as u64).fill(&mut bytes);
        files.put(*name, bytes.clone());
        served.push((format!("/pub/{}", name.replace(' ', "%20")), bytes));
    }
    let root = names[0].0.split('/').next().unwrap();
    let options = CreateOptions { format, piece_length: Some(64 << 10), ..CreateOptions::default() };
    let metainfo = Metainfo::create(&mut files, root.as_ref(), &options).unwrap();
    Torrent { files, metainfo, served }
}

/// A session that gets a torrent from web seeds alone.
struct Getting {
    session: Running<Session<TcpPeer>>,
    _http: Running<HttpClient>,
    events: Events<SessionEvent>,
    torrent: TorrentId,
    files: MemoryFiles,
}

impl Getting {
    async fn start(torrent: &Torrent, web_seeds: Vec<String>) -> Getting {
        let files = MemoryFiles::default();
        let worker = [MemoryTorrents::new(files.clone())];
        let machine = Session::<TcpPeer>::new(SessionConfig::default(), None);
        let codec = |_| PeerCodec::default();
        let session = tcp::spawn(machine, codec, None, Limits::default(), worker).await.unwrap();
        let events = session.handle().events();
        let codec = |_| HttpCodec::client();
        let http =
            tcp::spawn(HttpClient::default(), codec, None, Limits::default(), [NoWorker]).await.unwrap();
        let (seeds, handle) = (WebSeeds::new(http.handle(), System), session.handle());
        tokio::spawn(async move { seeds.serve(&handle).await });
        let mut metainfo = torrent.metainfo.clone();
        metainfo.web_seeds = web_seeds;
        let add = Add::new(Source::Metainfo(metainfo), "");
        let torrent = session.handle().ask(add).await.unwrap().unwrap();
        Getting { session, _http: http, events, torrent, files }
    }

    async fn status(&self) -> TorrentStatus {
        self.session.handle().ask(Status { torrent: self.torrent }).await.unwrap().unwrap()
    }

    /// Waits until all is there.
    async fn done(&self) -> TorrentStatus {
        let wait = self.session.handle().ask(Wait { torrent: self.torrent, progress: None });
        let Ok(done) = timeout(SOON, wait).await else { panic!("{:#?}", self.status().await) };
        done.unwrap().unwrap();
        self.status().await
    }

    /// Waits until a web seed is asked for nothing more.
    async fn dropped(&mut self) -> WebSeedStatus {
        let dropped = async {
            loop {
                if let SessionEvent::WebSeedDropped(_, seed) = self.events.next().await.unwrap() {
                    return seed;
                }
            }
        };
        timeout(SOON, dropped).await.expect("it goes on")
    }
}

const SOON: Duration = Duration::from_secs(30);

#[tokio::test]
async fn one_file_or_many_come_from_the_web_alone() {
    let many = [("t/a b", 300_000), ("t/c", 1), ("t/d/e", 200_000), ("t/f", 0)];
    for format in [Format::V1, Format::V2, Format::Hybrid] {
        for (names, manner) in
            [(&[("one", 6_000_000)][..], Manner::Honest), (&many, Manner::Honest), (&many, Manner::Moves)]
        {
            let torrent = torrent(format, names);
            let server = server(torrent.served.clone(), manner).await;
            let getting = Getting::start(&torrent, vec![format!("{}/pub/", server.url)]).await;
            getting.done().await;
            for (name, _) in names {
                assert!(getting.files.read(name) == torrent.files.read(name), "{format:?} {manner:?} {name}");
            }
            let requests = server.requests.load(Ordering::Relaxed);
            assert!(requests <= 8, "few stretches, and not a request for each piece: {requests}");
        }
    }
}

#[tokio::test]
async fn a_server_that_lies_knows_no_ranges_or_has_nothing_is_dropped_and_the_others_serve() {
    let torrent = torrent(Format::Hybrid, &[("one", 3_000_000)]);
    for (manner, why) in [
        (Manner::Lies, WebError::Lied),
        (Manner::Whole, WebError::NoRange),
        (Manner::Missing, WebError::Status(404)),
    ] {
        let bad = server(torrent.served.clone(), manner).await;
        let bad = format!("{}/pub/one", bad.url);
        let mut getting = Getting::start(&torrent, vec![bad.clone()]).await;
        let seed = getting.dropped().await;
        assert_eq!((seed.dropped, seed.failed), (true, Some(why)), "{manner:?}");
        let status = getting.status().await;
        assert!(status.pieces < status.wanted, "{manner:?}");
        let good = server(torrent.served.clone(), Manner::Honest).await;
        let getting = Getting::start(&torrent, vec![bad, format!("{}/pub/", good.url)]).await;
        let status = getting.done().await;
        assert!(getting.files.read("one") == torrent.files.read("one"), "{manner:?}");
        assert!(!status.web_seeds[1].dropped, "{manner:?}");
    }
}

#[tokio::test]
async fn a_file_that_is_asked_for_whole_may_come_whole_and_what_is_cut_short_is_asked_for_again() {
    let small = torrent(Format::V1, &[("one", 500_000)]);
    let whole = server(small.served.clone(), Manner::Whole).await;
    let getting = Getting::start(&small, vec![format!("{}/pub/one", whole.url)]).await;
    getting.done().await;
    assert!(getting.files.read("one") == small.files.read("one"));
    let broken = server(small.served.clone(), Manner::Breaks).await;
    let getting = Getting::start(&small, vec![format!("{}/pub/one", broken.url)]).await;
    let status = getting.done().await;
    assert!(getting.files.read("one") == small.files.read("one"));
    // What was begun in vain comes piece by piece.
    assert!(broken.requests.load(Ordering::Relaxed) > 1 && !status.web_seeds[0].dropped, "{status:?}");
}
