//! BitTorrent with libtorrent (driven by `drive.py`) and aria2, over plaintext TCP on 127.0.0.1: what we make they
//! read, what they seed we get, and the other way round.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use p2p_core::net::tcp::{self, Running, TcpPeer};
use p2p_core::{Limits, Rng};
use p2p_swarm::Files;
use p2p_swarm::torrent::{
    Add, CreateOptions, FileTorrents, Format, Kind, Magnet, Metainfo, PeerCodec, Session, SessionConfig,
    Source, Status, TorrentId, Wait,
};
use serde_json::{Value, json};
use tokio::time::timeout;

/// libtorrent in a process of its own.
struct Libtorrent {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Libtorrent {
    fn start() -> Libtorrent {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("drive.py");
        let child = Command::new("python3").arg(script).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut child = child.expect("python3 is missing: run interop/setup");
        let (stdin, stdout) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        Libtorrent { child, stdin, stdout }
    }

    fn ask(&mut self, command: Value) -> Value {
        writeln!(self.stdin, "{command}").unwrap();
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        assert!(
            !line.is_empty(),
            "libtorrent is missing, or its script has failed: run interop/setup ({command})"
        );
        serde_json::from_str(&line).unwrap()
    }

    /// Waits until it has everything, on a thread that may wait.
    async fn done(mut self) -> Libtorrent {
        tokio::task::spawn_blocking(move || {
            let answer = self.ask(json!({ "do": "wait", "seconds": 30 }));
            assert_eq!(answer["done"], true, "{answer:#}");
            self
        })
        .await
        .unwrap()
    }
}

impl Drop for Libtorrent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A folder of its own that goes with the test.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Folder {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("p2p-bt-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.at(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, bytes).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn content(len: usize) -> Vec<u8> {
    let mut content = vec![0; len];
    Rng::new(len as u64 + 1).fill(&mut content);
    content
}

const PIECE: usize = 32 << 10;

/// A folder of files: empty, of one byte, exact and odd.
const MANY: [(&str, usize); 8] = [
    ("a-empty", 0),
    ("b-byte", 1),
    ("c-piece", PIECE),
    ("d/one-less", 3 * PIECE - 1),
    ("d/e/one-more", 20 * PIECE + 1),
    ("d/e/zero", 0),
    ("f-block", 16 << 10),
    ("z-last", 7 * PIECE + 12345),
];

/// Makes a torrent of such content in `seed`.
fn torrent(folder: &Folder, format: Format, files: &[(&str, usize)]) -> Metainfo {
    let name = match files {
        [(name, len)] => {
            folder.write(&format!("seed/{name}"), &content(*len));
            (*name).to_owned()
        }
        files => {
            files.iter().for_each(|(name, len)| _ = folder.write(&format!("seed/t/{name}"), &content(*len)));
            "t".to_owned()
        }
    };
    let options = CreateOptions { format, piece_length: Some(PIECE as u32), ..CreateOptions::default() };
    let metainfo = Metainfo::create(&mut Files, &folder.at("seed").join(name), &options).unwrap();
    std::fs::write(folder.at("t.torrent"), metainfo.encode()).unwrap();
    metainfo
}

fn same(folder: &Folder, metainfo: &Metainfo, to: &str) {
    for file in metainfo.info().files().iter().filter(|file| file.kind == Kind::File) {
        let (theirs, ours) = (folder.at("seed").join(&file.path), folder.at(to).join(&file.path));
        assert!(std::fs::read(theirs).unwrap() == std::fs::read(&ours).unwrap(), "{}", ours.display());
    }
    assert!(!folder.at(to).join(metainfo.info().name()).join(".pad").exists(), "pad files are not made");
}

async fn session() -> Running<Session<TcpPeer>> {
    let listen = Some("127.0.0.1:0".parse().unwrap());
    let machine =
        |local: Option<SocketAddr>| Session::new(SessionConfig::default(), local.map(|addr| addr.port()));
    let worker = [FileTorrents::new(Files)];
    tcp::spawn_at(machine, |_| PeerCodec::default(), listen, Limits::default(), worker).await.unwrap()
}

async fn add(
    session: &Running<Session<TcpPeer>>,
    torrent: Source,
    folder: PathBuf,
    peers: Vec<SocketAddr>,
) -> TorrentId {
    session.handle().ask(Add { torrent, folder, peers }).await.unwrap().unwrap()
}

async fn wait(session: &Running<Session<TcpPeer>>, torrent: TorrentId) {
    let handle = session.handle();
    let done = timeout(Duration::from_secs(30), handle.ask(Wait { torrent, progress: None })).await;
    let Ok(done) = done else { panic!("{:#?}", handle.ask(Status { torrent }).await) };
    done.unwrap().unwrap();
}

fn at(port: &Value) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port["port"].as_u64().unwrap() as u16))
}

const FORMATS: [(Format, &str); 3] = [(Format::V1, "v1"), (Format::V2, "v2"), (Format::Hybrid, "hybrid")];

#[test]
fn libtorrent_reads_what_we_make_and_finds_the_same_hashes() {
    let mut libtorrent = Libtorrent::start();
    for (format, version) in FORMATS {
        for files in [
            &MANY[..],
            &[("one", 1)],
            &[("exact", 4 * PIECE)],
            &[("odd", 5 * PIECE + 77)],
            &[("block", 16384)],
        ] {
            let folder = Folder::new();
            let metainfo = torrent(&folder, format, files);
            let info = metainfo.info();
            let said = libtorrent.ask(json!({ "do": "describe", "path": folder.at("t.torrent") }));
            let hex = |hash: Option<&[u8]>| {
                hash.map(|hash| hash.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
            };
            assert_eq!(
                said["v1"],
                json!(hex(info.hashes().v1.as_ref().map(|hash| &hash[..]))),
                "{version} {files:?}"
            );
            assert_eq!(
                said["v2"],
                json!(hex(info.hashes().v2.as_ref().map(|hash| &hash[..]))),
                "{version} {files:?}"
            );
            assert_eq!(said["pieces"], info.piece_count(), "{version} {files:?}");
            let ours: Vec<Value> = info
                .files()
                .iter()
                .filter(|file| file.kind == Kind::File)
                .map(|file| json!({ "path": file.path, "size": file.length }))
                .collect();
            assert_eq!(said["files"], json!(ours), "{version} {files:?}");
            // And what it makes of the same content has the same pieces and trees: its info differs in nothing but
            // whether it bothers to pad.
            let path = folder.at("seed").join(info.name());
            let made = libtorrent.ask(json!({
                "do": "create", "path": path, "folder": folder.at("seed"), "version": version, "piece_length": PIECE,
            }));
            let made: Vec<u8> = (0..made["torrent"].as_str().unwrap().len() / 2)
                .map(|i| {
                    u8::from_str_radix(&made["torrent"].as_str().unwrap()[2 * i..2 * i + 2], 16).unwrap()
                })
                .collect();
            let theirs = Metainfo::parse(&made).unwrap();
            let roots = |metainfo: &Metainfo| -> Vec<_> {
                metainfo
                    .info()
                    .files()
                    .iter()
                    .filter(|f| f.kind == Kind::File)
                    .map(|f| (f.path.clone(), f.root))
                    .collect()
            };
            let sorted = |metainfo: &Metainfo| {
                let mut roots = roots(metainfo);
                roots.sort();
                roots
            };
            assert_eq!(sorted(&theirs), sorted(&metainfo), "{version} {files:?}");
        }
    }
}

#[tokio::test]
async fn we_get_what_libtorrent_seeds() {
    for (format, version) in FORMATS {
        for link in [false, true] {
            let folder = Folder::new();
            let metainfo = torrent(&folder, format, &MANY);
            let mut libtorrent = Libtorrent::start();
            let (torrent, seed) = (folder.at("t.torrent"), folder.at("seed"));
            let port =
                libtorrent.ask(json!({ "do": "add", "torrent": torrent, "folder": seed, "seed": true }));
            let session = session().await;
            let source = match link {
                true => Source::Magnet(Magnet::from(&metainfo)),
                false => Source::Metainfo(metainfo.clone()),
            };
            let id = add(&session, source, folder.at("get"), vec![at(&port)]).await;
            println!("{version}, link: {link}");
            wait(&session, id).await;
            same(&folder, &metainfo, "get");
            session.shutdown().await;
        }
    }
}

#[tokio::test]
async fn libtorrent_gets_what_we_seed() {
    for (format, version) in FORMATS {
        for link in [false, true] {
            let folder = Folder::new();
            let metainfo = torrent(&folder, format, &MANY);
            let session = session().await;
            let id = add(&session, Source::Metainfo(metainfo.clone()), folder.at("seed"), vec![]).await;
            wait(&session, id).await;
            let mut libtorrent = Libtorrent::start();
            let get = folder.at("get");
            println!("{version}, link: {link}");
            libtorrent.ask(match link {
                true => json!({ "do": "add", "magnet": Magnet::from(&metainfo).to_string(), "folder": get }),
                false => json!({ "do": "add", "torrent": folder.at("t.torrent"), "folder": get }),
            });
            libtorrent.ask(json!({ "do": "connect", "port": session.local_addr().unwrap().port() }));
            libtorrent.done().await;
            same(&folder, &metainfo, "get");
            session.shutdown().await;
        }
    }
}

fn aria2(folder: &Folder, arguments: &[&str]) -> Child {
    let mut command = Command::new("aria2c");
    command.args([
        "--interface=127.0.0.1",
        "--disable-ipv6=true",
        "--enable-dht=false",
        "--bt-enable-lpd=false",
    ]);
    command.args([
        "--enable-peer-exchange=false",
        "--file-allocation=none",
        "--quiet=true",
        "--seed-ratio=0.0",
    ]);
    command.args(arguments).arg(folder.at("t.torrent")).stdout(Stdio::null());
    command.spawn().expect("aria2c is missing: run interop/setup")
}

struct Kill(Child);

impl Drop for Kill {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A port of TCP that is free now.
fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Waits until a program listens: nothing else says that it does.
async fn listens(addr: SocketAddr) {
    let listening = async {
        while tokio::net::TcpStream::connect(addr).await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(Duration::from_secs(20), listening).await.expect("aria2 does not listen");
}

#[tokio::test]
async fn we_get_what_aria2_seeds() {
    let folder = Folder::new();
    let metainfo = torrent(&folder, Format::V1, &MANY);
    let port = free_port();
    let dir = format!("--dir={}", folder.at("seed").display());
    let listen = format!("--listen-port={port}");
    let _aria2 = Kill(aria2(&folder, &[&dir, &listen, "--check-integrity=true", "--seed-time=10"]));
    let session = session().await;
    let addr = SocketAddr::from(([127, 0, 0, 1], port));
    listens(addr).await;
    let id = add(&session, Source::Metainfo(metainfo.clone()), folder.at("get"), vec![addr]).await;
    wait(&session, id).await;
    same(&folder, &metainfo, "get");
    session.shutdown().await;
}

#[tokio::test]
async fn aria2_gets_what_we_seed() {
    let folder = Folder::new();
    let metainfo = torrent(&folder, Format::V1, &MANY);
    let port = free_port();
    let dir = format!("--dir={}", folder.at("get").display());
    let listen = format!("--listen-port={port}");
    let mut aria2 = Kill(aria2(&folder, &[&dir, &listen, "--seed-time=0"]));
    let session = session().await;
    let addr = SocketAddr::from(([127, 0, 0, 1], port));
    listens(addr).await;
    // There is no tracker to tell it of us: we connect to it.
    add(&session, Source::Metainfo(metainfo.clone()), folder.at("seed"), vec![addr]).await;
    let left = tokio::task::spawn_blocking(move || aria2.0.wait().unwrap());
    let status = timeout(Duration::from_secs(30), left).await.expect("aria2 has not ended").unwrap();
    assert!(status.success(), "{status}");
    same(&folder, &metainfo, "get");
    session.shutdown().await;
}
