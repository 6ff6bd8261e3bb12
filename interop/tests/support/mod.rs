//! What tests with BitTorrent's programs share.
#![allow(dead_code, unreachable_pub, reason = "each test file uses some of it")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

pub mod tracker;

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use p2p_core::net::both::{self, Listen};
use p2p_core::net::tcp::{self, Running, TcpPeer};
use p2p_core::{Limits, Rng};
use p2p_dht::mainline::Secret;
use p2p_swarm::Files;
use p2p_swarm::torrent::{
    Add, Carriers, Client, CreateOptions, Encryption, FileTorrents, Format, Kind, Metainfo, Mse, Session,
    SessionConfig, Source, Status, TakesCommands, TorrentId, Wait, client,
};
use p2p_swarm::utp::{StreamPeer, UtpCodec, UtpConfig};
use serde_json::{Value, json};
use tokio::time::timeout;

/// libtorrent in a process of its own.
pub struct Libtorrent {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Libtorrent {
    pub fn start() -> Libtorrent {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("drive.py");
        let child = Command::new("python3").arg(script).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut child = child.expect("python3 is missing: run interop/setup");
        let (stdin, stdout) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        Libtorrent { child, stdin, stdout }
    }

    pub fn ask(&mut self, command: Value) -> Value {
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
    pub async fn done(mut self) -> Libtorrent {
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
pub struct Folder(pub PathBuf);

impl Folder {
    pub fn new() -> Folder {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("p2p-bt-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    pub fn at(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
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

pub fn content(len: usize) -> Vec<u8> {
    let mut content = vec![0; len];
    Rng::new(len as u64 + 1).fill(&mut content);
    content
}

pub const PIECE: usize = 32 << 10;

/// A folder of files: empty, of one byte, exact and odd.
pub const MANY: [(&str, usize); 8] = [
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
pub fn torrent(folder: &Folder, format: Format, files: &[(&str, usize)]) -> Metainfo {
    tracked(folder, format, files, &[])
}

/// As [`torrent`], with trackers.
pub fn tracked(folder: &Folder, format: Format, files: &[(&str, usize)], trackers: &[String]) -> Metainfo {
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
    let trackers = trackers.iter().map(|url| vec![url.clone()]).collect();
    let piece_length = Some(PIECE as u32);
    let options = CreateOptions { format, piece_length, trackers, ..CreateOptions::default() };
    let metainfo = Metainfo::create(&mut Files, &folder.at("seed").join(name), &options).unwrap();
    std::fs::write(folder.at("t.torrent"), metainfo.encode()).unwrap();
    metainfo
}

/// The first file that is not there, or is another.
fn differs(folder: &Folder, metainfo: &Metainfo, to: &str) -> Option<PathBuf> {
    let files = metainfo.info().files().iter().filter(|file| file.kind == Kind::File);
    let pairs = files.map(|file| (folder.at("seed").join(&file.path), folder.at(to).join(&file.path)));
    let is_other = |(theirs, ours): &(PathBuf, PathBuf)| {
        !std::fs::read(ours).is_ok_and(|ours| ours == std::fs::read(theirs).unwrap())
    };
    pairs.into_iter().find(is_other).map(|(_, ours)| ours)
}

/// Waits until all is there, and the same: of programs that do not say when it is.
pub async fn comes(folder: &Folder, metainfo: &Metainfo, to: &str) {
    let all = async {
        while differs(folder, metainfo, to).is_some() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let came = timeout(Duration::from_secs(60), all).await;
    assert!(came.is_ok(), "{:?} has not come", differs(folder, metainfo, to));
}

pub fn same(folder: &Folder, metainfo: &Metainfo, to: &str) {
    assert_eq!(differs(folder, metainfo, to), None, "this is not there, or another");
    assert!(!folder.at(to).join(metainfo.info().name()).join(".pad").exists(), "pad files are not made");
}

pub async fn session() -> Running<Session<TcpPeer>> {
    session_with(Encryption::Off).await
}

pub async fn session_with(encryption: Encryption) -> Running<Session<TcpPeer>> {
    let listen = Some("127.0.0.1:0".parse().unwrap());
    let mse = Mse::new(encryption, &Secret::generate());
    let codecs = mse.clone();
    let machine = |local: Option<SocketAddr>| {
        Session::encrypted(SessionConfig::default(), local.map(|addr| addr.port()), mse)
    };
    let worker = [FileTorrents::new(Files)];
    tcp::spawn_at(machine, move |peer| codecs.codec(peer), listen, Limits::default(), worker).await.unwrap()
}

/// A client over uTP alone, or over TCP as well.
pub async fn client_with(carriers: Carriers, encryption: Encryption) -> Running<Client> {
    let here: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let mse = Mse::new(encryption, &Secret::generate());
    let codecs = mse.clone();
    let config = SessionConfig { carriers, ..SessionConfig::default() };
    let machine =
        |local: Option<SocketAddr>| client(config, UtpConfig::default(), local.map(|addr| addr.port()), mse);
    let codec = move |peer| codecs.codec(StreamPeer::Tcp(peer));
    let listen = Listen { tcp: (carriers != Carriers::Utp).then_some(here), udp: Some(here) };
    let worker = [FileTorrents::new(Files)];
    both::spawn_at(machine, codec, UtpCodec, listen, Limits::default(), worker).await.unwrap()
}

pub async fn add<M: TakesCommands>(
    session: &Running<M>,
    torrent: Source,
    folder: PathBuf,
    peers: Vec<SocketAddr>,
) -> TorrentId {
    session.handle().ask(Add { peers, ..Add::new(torrent, folder) }).await.unwrap().unwrap()
}

pub async fn wait<M: TakesCommands>(session: &Running<M>, torrent: TorrentId) {
    let handle = session.handle();
    let done = timeout(Duration::from_secs(30), handle.ask(Wait { torrent, progress: None })).await;
    let Ok(done) = done else { panic!("{:#?}", handle.ask(Status { torrent }).await) };
    done.unwrap().unwrap();
}

pub fn at(port: &Value) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port["port"].as_u64().unwrap() as u16))
}

pub const FORMATS: [(Format, &str); 3] = [(Format::V1, "v1"), (Format::V2, "v2"), (Format::Hybrid, "hybrid")];

pub fn aria2(folder: &Folder, arguments: &[&str]) -> Child {
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

/// Transmission's daemon, which takes on `t.torrent` with its files in `to`. It speaks IPv4 on loopback, and dials nobody
/// there by itself.
pub fn transmission(folder: &Folder, to: &str, port: u16, encryption: Encryption, utp: bool) -> Kill {
    let home = folder.at(&format!("transmission-{port}"));
    let watched = home.join("watched");
    std::fs::create_dir_all(&watched).unwrap();
    let settings = json!({
        "bind-address-ipv4": "127.0.0.1", "bind-address-ipv6": "::1", "peer-port": port,
        "peer-port-random-on-start": false, "port-forwarding-enabled": false, "rpc-enabled": false,
        "dht-enabled": false, "lpd-enabled": false, "utp-enabled": utp,
        "encryption": match encryption {
            Encryption::Off => 0,
            Encryption::Preferred => 1,
            Encryption::Required => 2,
        },
        "download-dir": folder.at(to), "watch-dir": &watched, "watch-dir-enabled": true,
    });
    std::fs::write(home.join("settings.json"), settings.to_string()).unwrap();
    std::fs::copy(folder.at("t.torrent"), watched.join("t.torrent")).unwrap();
    let mut command = Command::new("transmission-daemon");
    command.args(["--foreground", "--log-error", "--config-dir"]).arg(&home);
    let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    Kill(child.expect("transmission-daemon is missing: run interop/setup"))
}

/// rTorrent, which takes on `t.torrent` with its files in `to`. It takes no torrent that names no tracker.
pub fn rtorrent(folder: &Folder, to: &str, port: u16) -> Kill {
    std::fs::create_dir_all(folder.at(to)).unwrap();
    let settings = format!(
        "system.daemon.set = true\nnetwork.bind_address.set = 127.0.0.1\n\
         network.port_range.set = {port}-{port}\nnetwork.port_random.set = no\ndht.mode.set = disable\n\
         directory.default.set = {}\nschedule2 = load,0,0,\"load.start={}\"\n",
        folder.at(to).display(),
        folder.at("t.torrent").display(),
    );
    let settings = folder.write("rtorrent.rc", settings.as_bytes());
    let mut command = Command::new("rtorrent");
    command.args(["-n", "-o", &format!("import={}", settings.display())]);
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    Kill(child.expect("rtorrent is missing: run interop/setup"))
}

pub struct Kill(pub Child);

impl Drop for Kill {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A port of TCP that is free now.
pub fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Waits until a program listens: nothing else says that it does.
pub async fn listens(addr: SocketAddr) {
    let listening = async {
        while tokio::net::TcpStream::connect(addr).await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(Duration::from_secs(20), listening).await.expect("it does not listen");
}

/// Waits until a program ends, and well.
pub async fn ends_well(mut program: Kill) {
    let ended = async {
        loop {
            match program.0.try_wait().unwrap() {
                Some(status) => return status,
                None => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    };
    let status = timeout(Duration::from_secs(60), ended).await.expect("it has not ended");
    assert!(status.success(), "{status}");
}
