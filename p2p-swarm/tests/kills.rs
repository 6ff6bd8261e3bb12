//! A download that is killed again and again ends as if it had not been, and hardly anything is fetched twice.
//!
//! A process gets a torrent from this one, and is killed with `kill -9` at random moments of the download: twice, or
//! `P2P_TORRENT_KILLS`, of which each has 32 MiB of its own. Then it is left alone. What the seed has sent says how much
//! was fetched twice: at most a fiftieth.
//!
//! The process is this test program itself: it has no harness, and downloads if it is told from where.
#![allow(missing_docs, reason = "a test")]
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test fails by panicking, and may talk")]

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use p2p_core::net::tcp::{self, Running, TcpPeer};
use p2p_core::{Limits, Rng};
use p2p_swarm::Files;
use p2p_swarm::torrent::{
    Add, CreateOptions, FileTorrents, Metainfo, PeerCodec, RateLimits, Session, SessionConfig, Source,
    Status, TorrentId, Wait,
};
use tokio::time::timeout;

const FOLDER: &str = "P2P_SWARM_TEST_FOLDER";
const FROM: &str = "P2P_SWARM_TEST_FROM";
/// Bytes of the download for each kill.
const EACH: usize = 32 << 20;
/// Bytes per second that the seed sends: slowly enough that there are moments.
const RATE: u64 = 8 << 20;

fn main() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    if let Ok(folder) = std::env::var(FOLDER) {
        return runtime.block_on(get(Path::new(&folder), std::env::var(FROM).unwrap().parse().unwrap()));
    }
    runtime.block_on(a_download_that_is_killed_goes_on_where_it_was());
    println!("test a_download_that_is_killed_goes_on_where_it_was ... ok");
}

async fn session(up: Option<u64>) -> Running<Session<TcpPeer>> {
    let config = SessionConfig { rates: RateLimits { up, down: None }, ..SessionConfig::default() };
    let machine = move |local: Option<SocketAddr>| Session::new(config, local.map(|addr| addr.port()));
    let listen = Some("127.0.0.1:0".parse().unwrap());
    let workers = [FileTorrents::new(Files)];
    tcp::spawn_at(machine, |_| PeerCodec::default(), listen, Limits::default(), workers).await.unwrap()
}

/// Gets what the torrent in a folder stands for, until it is there or the process is killed.
async fn get(folder: &Path, from: SocketAddr) {
    let metainfo = Metainfo::parse(&std::fs::read(folder.join("t.torrent")).unwrap()).unwrap();
    let session = session(None).await;
    let add = Add { peers: vec![from], ..Add::new(Source::Metainfo(metainfo), folder.join("get")) };
    let torrent = session.handle().ask(add).await.unwrap().unwrap();
    session.handle().ask(Wait { torrent, progress: None }).await.unwrap().unwrap();
    session.shutdown().await;
}

/// A folder that goes with the test, and a process that does.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

struct Getting(Child);

impl Drop for Getting {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn uploaded(seed: &Running<Session<TcpPeer>>, torrent: TorrentId) -> u64 {
    seed.handle().ask(Status { torrent }).await.unwrap().unwrap().uploaded
}

async fn a_download_that_is_killed_goes_on_where_it_was() {
    let kills = std::env::var("P2P_TORRENT_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(2);
    let folder = Folder(std::env::temp_dir().join(format!("p2p-torrent-kills-{}", std::process::id())));
    let mut content = vec![0; kills * EACH + 12_345];
    let mut rng = Rng::new(kills as u64);
    rng.fill(&mut content);
    std::fs::create_dir_all(folder.0.join("seed")).unwrap();
    std::fs::write(folder.0.join("seed/t"), &content).unwrap();
    let options = CreateOptions { piece_length: Some(64 << 10), ..CreateOptions::default() };
    let metainfo = Metainfo::create(&mut Files, &folder.0.join("seed/t"), &options).unwrap();
    std::fs::write(folder.0.join("t.torrent"), metainfo.encode()).unwrap();
    let seed = session(Some(RATE)).await;
    let add = Add::new(Source::Metainfo(metainfo), folder.0.join("seed"));
    let torrent = seed.handle().ask(add).await.unwrap().unwrap();
    seed.handle().ask(Wait { torrent, progress: None }).await.unwrap().unwrap();
    let start = || {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.env(FOLDER, &folder.0).env(FROM, seed.local_addr().unwrap().to_string());
        Getting(command.stdin(Stdio::null()).spawn().unwrap())
    };
    // Five times as long as all of it takes at the seed's rate, and a minute to begin.
    let patience = Duration::from_secs(60 + 5 * content.len() as u64 / RATE);
    // Where in the download each is killed.
    let mut moments: Vec<u64> = (0..kills).map(|_| rng.below(content.len() as u64 * 95 / 100)).collect();
    moments.sort_unstable();
    for moment in moments {
        let mut getting = start();
        let come = async {
            while uploaded(&seed, torrent).await <= moment {
                assert!(getting.0.try_wait().unwrap().is_none(), "it has ended before its time");
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        timeout(patience, come).await.expect("it is stuck before the moment has come");
    }
    let mut getting = start();
    let end = async {
        loop {
            match getting.0.try_wait().unwrap() {
                Some(status) => return status,
                None => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    };
    let status = timeout(patience, end).await.expect("it does not end");
    assert!(status.success(), "{status}");
    assert!(std::fs::read(folder.0.join("get/t")).unwrap() == content, "it is byte for byte the same");
    let sent = uploaded(&seed, torrent).await;
    let twice = sent.saturating_sub(content.len() as u64) as f64 / content.len() as f64;
    println!("{kills} kills, {} bytes, {sent} sent: {:.2} % twice", content.len(), twice * 100.0);
    assert!(twice <= 0.02, "{sent} of {}", content.len());
    seed.shutdown().await;
}
