//! `torrent`: BitTorrent with whoever speaks it.
//!
//! ```sh
//! cargo run --release --bin torrent -- create album/ -o album.torrent
//! cargo run --release --bin torrent -- seed album.torrent .                  # prints: magnet: …
//! cargo run --release --bin torrent -- get 'magnet:?…' copy/                 # on another machine
//! cargo run --release --bin torrent -- tracker --listen 0.0.0.0:6969         # prints: listening: …
//! ```
//!
//! Peers are found in the link, by `--peer`, from trackers (HTTP and UDP: the torrent's, the link's, or `--tracker URL`), and
//! from other peers; there is no DHT yet.

#![expect(clippy::print_stdout, reason = "a program talks on the terminal")]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use async_trait::async_trait;
use clap::{Parser, Subcommand, ValueEnum};
use futures::StreamExt;
use indicatif::{ProgressBar, ProgressStyle};
use p2p_core::net::both::{self, Listen, Running};
use p2p_core::net::{tcp, udp};
use p2p_core::{Limits, NoWorker};
use p2p_dht::mainline::Secret;
use p2p_examples::{Failure, exit, say};
use p2p_swarm::Files;
use p2p_swarm::torrent::tracker::{
    CountPeers, HttpClient, HttpCodec, HttpTracker, Resolve, Tracker, TrackerClient, TrackerConfig,
    UdpClient, UdpCodec, UdpTracker,
};
use p2p_swarm::torrent::{
    Add, Carrier, Carriers, Client, CreateOptions, Encryption, FileTorrents, Format, Kind, Magnet, Metainfo,
    Mse, SessionConfig, SessionEvent, Source, Status, Stop, TorrentStatus, Wait, client,
};
use p2p_swarm::utp::{StreamPeer, UtpCodec, UtpConfig};

/// Makes torrents, seeds them, and gets what they stand for.
#[derive(Parser)]
#[command(version)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Makes a torrent of a file or a folder.
    Create {
        /// The file or folder.
        path: PathBuf,
        /// Where the torrent goes.
        #[arg(short, long)]
        output: PathBuf,
        /// Which version: the first, the second, or both in one.
        #[arg(long, value_enum, default_value_t = Version::Hybrid)]
        version: Version,
        /// Bytes in a piece, a power of two; if not given, so many that there are some 1,500 pieces.
        #[arg(long)]
        piece_length: Option<u32>,
        /// A tracker; several are tiers.
        #[arg(long)]
        tracker: Vec<String>,
        /// Peers may be found by its trackers only.
        #[arg(long)]
        private: bool,
        /// What is to be said about it.
        #[arg(long)]
        comment: Option<String>,
    },
    /// Prints what a torrent or a link says.
    Info {
        /// A `.torrent` file or a magnet link.
        what: String,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Hashes what is there of a torrent's content. Fails if some is missing or wrong.
    Check {
        /// The `.torrent` file.
        torrent: PathBuf,
        /// The folder that its file, or its folder, lies in.
        folder: PathBuf,
    },
    /// Serves a torrent's content until it is interrupted.
    Seed {
        /// The `.torrent` file.
        torrent: PathBuf,
        /// The folder that its file, or its folder, lies in.
        folder: PathBuf,
        #[command(flatten)]
        net: Net,
    },
    /// Gets what a torrent or a link stands for. What is there already is not fetched again.
    Get {
        /// A `.torrent` file or a magnet link.
        what: String,
        /// The folder that it goes to.
        folder: PathBuf,
        #[command(flatten)]
        net: Net,
        /// Goes on seeding when all is there, until it is interrupted.
        #[arg(long)]
        seed: bool,
    },
    /// Tells peers of each other, over HTTP and over UDP at the same port, until it is interrupted.
    Tracker {
        /// Where to listen.
        #[arg(long, default_value = "0.0.0.0:6969")]
        listen: SocketAddr,
        /// Seconds between two announces of a peer.
        #[arg(long, default_value_t = 1800)]
        interval: u64,
    },
}

#[derive(Clone, Copy, ValueEnum)]
enum Version {
    V1,
    V2,
    Hybrid,
}

#[derive(Clone, Copy, ValueEnum)]
enum Encrypts {
    /// None is, and who encrypts is refused.
    Off,
    /// They are where the other end can, and in the clear where it cannot.
    Preferred,
    /// All are.
    Required,
}

#[derive(Clone, Copy, ValueEnum)]
enum UsesUtp {
    /// Connections are TCP's.
    Off,
    /// Connections of both kinds are accepted; uTP is tried first, and then TCP.
    Too,
    /// Connections are uTP's.
    Only,
}

#[derive(clap::Args)]
struct Net {
    /// Where to listen.
    #[arg(long, default_value = "0.0.0.0:0")]
    listen: SocketAddr,
    /// A peer, as host and port.
    #[arg(long)]
    peer: Vec<String>,
    /// A tracker, as http://HOST:PORT/announce or udp://HOST:PORT, beside those that the torrent or the link names.
    #[arg(long)]
    tracker: Vec<String>,
    /// Whether connections are encrypted (MSE).
    #[arg(long, value_enum, default_value_t = Encrypts::Preferred)]
    encryption: Encrypts,
    /// Whether connections are made and accepted over uTP (at the same port, of UDP), which gives way to all else.
    #[arg(long, value_enum, default_value_t = UsesUtp::Too)]
    utp: UsesUtp,
    /// Bytes per second to send at most.
    #[arg(long)]
    upload_rate: Option<u64>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let done = match Args::parse().command {
        Command::Create { path, output, version, piece_length, tracker, private, comment } => {
            let options = CreateOptions {
                format: match version {
                    Version::V1 => Format::V1,
                    Version::V2 => Format::V2,
                    Version::Hybrid => Format::Hybrid,
                },
                piece_length,
                private,
                trackers: tracker.into_iter().map(|url| vec![url]).collect(),
                comment,
                creation_date: None,
            };
            create(path, output, options).await
        }
        Command::Info { what, json } => info(&what, json),
        Command::Check { torrent, folder } => check(torrent, folder).await,
        Command::Seed { torrent, folder, net } => seed(torrent, folder, &net).await,
        Command::Get { what, folder, net, seed } => get(&what, folder, &net, seed).await,
        Command::Tracker { listen, interval } => tracker(listen, interval).await,
    };
    exit("torrent", done)
}

fn read(path: &PathBuf) -> Result<Metainfo, Failure> {
    let bytes = std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(Metainfo::parse(&bytes)?)
}

/// A link, or a file.
fn source(what: &str) -> Result<Source, Failure> {
    Ok(match what.get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case("magnet:")) {
        true => Source::Magnet(what.parse()?),
        false => Source::Metainfo(read(&what.into())?),
    })
}

/// Finds hosts as the system does.
struct System {
    /// Whether addresses of IPv6 come first, or those of IPv4: a tracker tells others of the address that it is asked
    /// from, and somebody should listen there. `None`: either will do.
    six: Option<bool>,
}

#[async_trait]
impl Resolve for System {
    async fn resolve(&self, host: &str, port: u16) -> std::io::Result<Vec<SocketAddr>> {
        let mut found: Vec<SocketAddr> = tokio::net::lookup_host((host, port)).await?.collect();
        // Otherwise they stay as the system has sorted them.
        found.sort_by_key(|addr| self.six.is_some_and(|six| addr.is_ipv6() != six));
        Ok(found)
    }
}

/// A session that trackers hear of.
struct Online {
    session: Running<Client>,
    http: Running<HttpClient>,
    udp: Vec<Running<UdpClient>>,
}

impl Online {
    async fn start(net: &Net) -> Result<Online, Failure> {
        let encryption = match net.encryption {
            Encrypts::Off => Encryption::Off,
            Encrypts::Preferred => Encryption::Preferred,
            Encrypts::Required => Encryption::Required,
        };
        let session = session(Some(net.listen), encryption, net.upload_rate, net.utp).await?;
        let limits = Limits::default();
        let codec = |_| HttpCodec::client();
        let http = tcp::spawn(HttpClient::default(), codec, None, limits.clone(), [NoWorker]).await?;
        // Over UDP it asks from where it listens; where that is every address, from those of the other version, too.
        // Over HTTP it asks from wherever the system likes.
        let here = net.listen.ip();
        let other: IpAddr = match here {
            IpAddr::V4(_) => Ipv6Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => Ipv4Addr::UNSPECIFIED.into(),
        };
        let also = Some(other).filter(|_| here.is_unspecified());
        let mut udp = Vec::new();
        for ip in [Some(here), also].into_iter().flatten() {
            let bound = SocketAddr::new(ip, 0);
            match udp::spawn(UdpClient::default(), UdpCodec::client(), bound, limits.clone(), [NoWorker])
                .await
            {
                Ok(client) => udp.push(client),
                // Without that version there are no trackers by it.
                Err(_) if ip != here => {}
                Err(error) => return Err(error.into()),
            }
        }
        let by = |six: bool| {
            let client =
                udp.iter().find(|client| client.local_addr().is_some_and(|addr| addr.is_ipv6() == six));
            client.map(|client| client.handle())
        };
        // At every address of IPv6 it listens at those of IPv4, too.
        let both = here.is_unspecified() && here.is_ipv6();
        let system = System { six: (!both).then(|| here.is_ipv6()) };
        let client = TrackerClient::new(http.handle(), by(false), by(true), system);
        let handle = session.handle();
        tokio::spawn(async move { client.serve(handle).await });
        Ok(Online { session, http, udp })
    }

    /// Ends it, and tells the trackers.
    async fn stop(self) {
        let _ = self.session.handle().ask(Stop).await;
        self.session.shutdown().await;
        self.http.shutdown().await;
        for client in self.udp {
            client.shutdown().await;
        }
    }
}

/// Adds trackers to those that a torrent has, each a tier of its own.
fn with_trackers(torrent: Source, trackers: &[String]) -> Source {
    match torrent {
        Source::Metainfo(mut metainfo) => {
            metainfo.trackers.extend(trackers.iter().map(|url| vec![url.clone()]));
            Source::Metainfo(metainfo)
        }
        Source::Magnet(mut magnet) => {
            magnet.trackers.extend(trackers.iter().cloned());
            Source::Magnet(magnet)
        }
    }
}

fn trackers_of(torrent: &Source) -> usize {
    match torrent {
        Source::Metainfo(metainfo) => metainfo.trackers.iter().flatten().count(),
        Source::Magnet(magnet) => magnet.trackers.len(),
    }
}

async fn session(
    listen: Option<SocketAddr>,
    encryption: Encryption,
    upload_rate: Option<u64>,
    utp: UsesUtp,
) -> Result<Running<Client>, Failure> {
    let (carriers, listen) = match utp {
        UsesUtp::Off => (Carriers::Tcp, Listen { tcp: listen, udp: None }),
        UsesUtp::Too => (Carriers::Both, Listen { tcp: listen, udp: listen }),
        UsesUtp::Only => (Carriers::Utp, Listen { tcp: None, udp: listen }),
    };
    let config = SessionConfig { carriers, upload_rate, ..SessionConfig::default() };
    let mse = Mse::new(encryption, &Secret::generate());
    let codecs = mse.clone();
    let machine =
        |local: Option<SocketAddr>| client(config, UtpConfig::default(), local.map(|addr| addr.port()), mse);
    let codec = move |peer| codecs.codec(StreamPeer::Tcp(peer));
    let workers = [FileTorrents::new(Files), FileTorrents::new(Files)];
    Ok(both::spawn_at(machine, codec, UtpCodec, listen, Limits::default(), workers).await?)
}

async fn resolve(peers: &[String]) -> Result<Vec<SocketAddr>, Failure> {
    let mut found = Vec::new();
    for peer in peers {
        let addrs = tokio::net::lookup_host(peer).await.map_err(|error| format!("{peer}: {error}"))?;
        found.extend(addrs);
    }
    Ok(found)
}

async fn create(path: PathBuf, output: PathBuf, options: CreateOptions) -> Result<(), Failure> {
    let path = std::fs::canonicalize(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let made = tokio::task::spawn_blocking(move || Metainfo::create(&mut Files, &path, &options)).await?;
    let metainfo = made?;
    std::fs::write(&output, metainfo.encode())?;
    say("info-hash", metainfo.info().hashes());
    say("magnet", Magnet::from(&metainfo));
    Ok(())
}

fn info(what: &str, json: bool) -> Result<(), Failure> {
    let metainfo = match source(what)? {
        Source::Magnet(magnet) => {
            match json {
                true => println!(
                    "{}",
                    serde_json::json!({
                        "info_hash": magnet.hashes.to_string(), "name": magnet.name, "trackers": magnet.trackers,
                        "peers": magnet.peers,
                    })
                ),
                false => {
                    say("info-hash", magnet.hashes);
                    magnet.name.iter().for_each(|name| say("name", name));
                    magnet.trackers.iter().for_each(|tracker| say("tracker", tracker.escape_debug()));
                    magnet.peers.iter().for_each(|peer| say("peer", peer));
                }
            }
            return Ok(());
        }
        Source::Metainfo(metainfo) => metainfo,
    };
    let info = metainfo.info();
    let files = || info.files().iter().filter(|file| file.kind == Kind::File);
    if json {
        let files: Vec<_> =
            files().map(|f| serde_json::json!({ "path": f.path, "length": f.length })).collect();
        let said = serde_json::json!({
            "info_hash": info.hashes().to_string(), "name": info.name(), "size": info.size(),
            "piece_length": info.piece_length(), "pieces": info.piece_count(), "private": info.private(),
            "trackers": metainfo.trackers, "files": files,
        });
        println!("{said}");
        return Ok(());
    }
    say("info-hash", info.hashes());
    say("name", info.name());
    say("size", info.size());
    say("pieces", format!("{} of {} bytes", info.piece_count(), info.piece_length()));
    metainfo.trackers.iter().flatten().for_each(|tracker| say("tracker", tracker.escape_debug()));
    metainfo.comment.iter().for_each(|comment| say("comment", comment));
    files().for_each(|file| println!("  {} {}", file.length, file.path));
    Ok(())
}

async fn check(torrent: PathBuf, folder: PathBuf) -> Result<(), Failure> {
    let metainfo = read(&torrent)?;
    let session = session(None, Encryption::Off, None, UsesUtp::Off).await?;
    let mut events = session.handle().events();
    let pieces = metainfo.info().piece_count();
    session.handle().ask(Add { torrent: Source::Metainfo(metainfo), folder, peers: Vec::new() }).await??;
    while let Some(event) = events.next().await {
        match event {
            SessionEvent::Checked(_, good) => {
                println!("{good} of {pieces} pieces are there and right");
                session.shutdown().await;
                return if good == pieces { Ok(()) } else { Err("the content is not whole".into()) };
            }
            SessionEvent::Failed(_, why) => return Err(why.into()),
            SessionEvent::Metadata(..) | SessionEvent::Done(_) | SessionEvent::Lied(..) => {}
        }
    }
    Err("the session has ended".into())
}

async fn seed(torrent: PathBuf, folder: PathBuf, net: &Net) -> Result<(), Failure> {
    let metainfo = read(&torrent)?;
    let peers = resolve(&net.peer).await?;
    let online = Online::start(net).await?;
    let session = &online.session;
    let mut events = session.handle().events();
    let torrent = with_trackers(Source::Metainfo(metainfo.clone()), &net.tracker);
    let id = session.handle().ask(Add { torrent, folder, peers }).await??;
    while let Some(event) = events.next().await {
        match event {
            SessionEvent::Checked(_, good) if good < metainfo.info().piece_count() => {
                say("pieces", format!("{good} of {} are there", metainfo.info().piece_count()));
                break;
            }
            SessionEvent::Done(_) => break,
            SessionEvent::Failed(_, why) => return Err(why.into()),
            SessionEvent::Checked(..) | SessionEvent::Metadata(..) | SessionEvent::Lied(..) => {}
        }
    }
    let local = session.local_addr();
    local.iter().for_each(|addr| say("listening", addr));
    let reachable = local.filter(|addr| !addr.ip().is_unspecified());
    let mut link = Magnet::from(&metainfo);
    // Of a private torrent trackers alone tell who has it.
    link.peers.extend(reachable.filter(|_| !metainfo.info().private()).map(|addr| addr.to_string()));
    link.trackers.extend(net.tracker.iter().cloned());
    say("magnet", link);
    tokio::signal::ctrl_c().await?;
    if let Some(status) = session.handle().ask(Status { torrent: id }).await? {
        report(&status);
    }
    online.stop().await;
    Ok(())
}

async fn get(what: &str, folder: PathBuf, net: &Net, seed: bool) -> Result<(), Failure> {
    let torrent = with_trackers(source(what)?, &net.tracker);
    let private = matches!(&torrent, Source::Metainfo(metainfo) if metainfo.info().private());
    if private && !net.peer.is_empty() {
        return Err("the torrent is private, so its trackers alone name peers: leave --peer out".into());
    }
    let mut peers = resolve(&net.peer).await?;
    if let Source::Magnet(magnet) = &torrent {
        peers.extend(resolve(&magnet.peers).await?);
    }
    if peers.is_empty() && trackers_of(&torrent) == 0 {
        return Err(
            "there is nobody to get it from: name a peer, --peer HOST:PORT, or a tracker, --tracker URL"
                .into(),
        );
    }
    let online = Online::start(net).await?;
    // However it ends the trackers hear of it.
    let done = tokio::select! {
        biased;
        interrupted = tokio::signal::ctrl_c() => Err(match interrupted {
            Ok(()) => "it was interrupted: what has come stays, and is not fetched again".into(),
            Err(error) => error.into(),
        }),
        done = download(&online.session, Add { torrent, folder, peers }) => done,
    };
    let done = match done {
        Ok(()) if seed => tokio::signal::ctrl_c().await.map_err(Failure::from),
        done => done,
    };
    online.stop().await;
    done
}

async fn download(session: &Running<Client>, add: Add) -> Result<(), Failure> {
    let id = session.handle().ask(add).await??;
    let mut waiting = session.handle().ask(Wait { torrent: id, progress: Some(Duration::from_millis(500)) });
    let bar = bar();
    while let Some(status) = waiting.next().await {
        let size = status.size.unwrap_or_default();
        bar.set_length(size);
        bar.set_position(size * u64::from(status.pieces) / u64::from(status.wanted.max(1)));
        bar.set_message(format!("{} peers, {}/s down, {}/s up", status.peers.len(), status.down, status.up));
    }
    waiting.await??;
    bar.finish_and_clear();
    if let Some(status) = session.handle().ask(Status { torrent: id }).await? {
        report(&status);
    }
    Ok(())
}

/// Both machines of a tracker, at one port.
async fn serve(
    config: TrackerConfig,
    listen: SocketAddr,
) -> std::io::Result<(Running<HttpTracker>, Running<UdpTracker>)> {
    let Tracker { http, udp } = Tracker::new(config, Secret::generate());
    let limits = Limits::default();
    let http = tcp::spawn(http, |_| HttpCodec::server(), Some(listen), limits.clone(), [NoWorker]).await?;
    let addr = http.local_addr().unwrap_or(listen);
    let udp = udp::spawn(udp, UdpCodec::server(), addr, limits, [NoWorker]).await?;
    Ok((http, udp))
}

async fn tracker(listen: SocketAddr, interval: u64) -> Result<(), Failure> {
    let interval = Duration::from_secs(interval.clamp(60, 86_400));
    let config = TrackerConfig { interval, ..TrackerConfig::default() };
    // Where the system chooses the port of one it may be taken for the other: then it chooses again.
    let mut attempts = if listen.port() == 0 { 10 } else { 1 };
    let (http, udp) = loop {
        attempts -= 1;
        match serve(config.clone(), listen).await {
            Ok(both) => break both,
            Err(_) if attempts > 0 => {}
            Err(error) => return Err(format!("cannot listen at {listen}: {error}").into()),
        }
    };
    http.local_addr().iter().for_each(|addr| say("listening", addr));
    tokio::signal::ctrl_c().await?;
    let counts = http.handle().ask(CountPeers).await?;
    println!("{} peers of {} torrents", counts.peers, counts.swarms);
    http.shutdown().await;
    udp.shutdown().await;
    Ok(())
}

fn bar() -> ProgressBar {
    let bar = ProgressBar::new(0);
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {bytes}/{total_bytes} {eta} {msg}") {
        bar.set_style(style);
    }
    bar
}

fn report(status: &TorrentStatus) {
    let TorrentStatus { pieces, wanted, downloaded, uploaded, wasted, .. } = status;
    println!(
        "{pieces} of {wanted} pieces; {downloaded} bytes came, {wasted} of them in vain, {uploaded} went"
    );
    for peer in &status.peers {
        let client = peer.client.as_deref().unwrap_or("?");
        let carrier = match peer.carrier {
            Carrier::Tcp => "TCP",
            Carrier::Utp => "uTP",
        };
        println!("  {} ({client}, {carrier}): {} down, {} up", peer.addr, peer.downloaded, peer.uploaded);
    }
    for tracker in &status.trackers {
        let url = tracker.url.escape_debug();
        match &tracker.said {
            Some(Ok(reply)) => {
                let warning = reply.warning.iter().map(|warning| format!("; it warns: {warning}"));
                println!("  {url}: {} peers{}", tracker.peers, warning.collect::<String>());
            }
            Some(Err(why)) => println!("  {url}: {why}"),
            None => {}
        }
    }
}
