//! `mainline`: BitTorrent's DHT, with programs of any make on the other side.
//!
//! ```sh
//! cargo run --bin mainline -- node --listen 0.0.0.0:6881 --bootstrap HOST:PORT --data me   # prints: address: …
//! cargo run --bin mainline -- peers --bootstrap HOST:PORT INFOHASH                         # prints: peer: …
//! cargo run --bin mainline -- announce --bootstrap HOST:PORT --port 51413 INFOHASH         # prints: stored: …
//! cargo run --bin mainline -- put --bootstrap HOST:PORT 'a value'                          # prints: target: …
//! cargo run --bin mainline -- get --bootstrap HOST:PORT TARGET
//! cargo run --bin mainline -- put --bootstrap HOST:PORT --data me --name greeting 'hello'  # prints: name: …/greeting
//! cargo run --bin mainline -- get --bootstrap HOST:PORT NAME
//! ```
//!
//! There is no default bootstrap host. All but `node` are gone soon: they ask, and answer nobody (BEP 43).

#![expect(clippy::print_stdout, reason = "a program talks on the terminal")]
#![expect(clippy::disallowed_types, reason = "a program has a clock")]

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use clap::{Parser, Subcommand};
use futures::StreamExt;
use p2p_core::net::udp::{self, Running};
use p2p_core::{Key, Keypair, Limits, NoWorker, PeerId};
use p2p_dht::bencode::{self, Value};
use p2p_dht::mainline::{
    Announce, GetImmutable, GetMutable, GetPeers, KrpcCodec, Mainline, MainlineConfig, MainlineEvent,
    MutableItem, PutImmutable, PutMutable, Save, SavedTable, Status,
};
use p2p_examples::{Failure, exit, say};

/// BitTorrent's DHT: who has a torrent, and small values.
#[derive(Parser)]
#[command(version)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Takes part, until it is interrupted.
    Node {
        #[command(flatten)]
        part: Part,
        /// Answers nobody: for hosts that others cannot reach.
        #[arg(long)]
        read_only: bool,
    },
    /// Says that this host has a torrent. Others forget it within the hour.
    Announce {
        #[command(flatten)]
        part: Part,
        /// Where the BitTorrent client listens.
        #[arg(long)]
        port: u16,
        /// 40 hexadecimal digits.
        info_hash: Key<20>,
    },
    /// Prints who has a torrent, as they are found.
    Peers {
        #[command(flatten)]
        part: Part,
        /// 40 hexadecimal digits.
        info_hash: Key<20>,
    },
    /// Stores a value of at most 996 bytes. Others forget it within hours.
    Put {
        #[command(flatten)]
        part: Part,
        /// Store it under this name, signed with the identity in `--data`: to be replaced by the next of that name.
        #[arg(long, requires = "data")]
        name: Option<String>,
        /// The value.
        value: String,
    },
    /// Prints a value.
    Get {
        #[command(flatten)]
        part: Part,
        /// What `put` has printed.
        target: String,
    },
}

/// How a program takes part.
#[derive(Clone, Debug, clap::Args)]
struct Part {
    /// Where to listen; an IPv6 address for IPv6's network, `[::]:PORT` for both.
    #[arg(long, value_name = "ADDR", default_value = "0.0.0.0:0")]
    listen: SocketAddr,
    /// A node that is there, by name or address; repeat for more.
    #[arg(long, value_name = "HOST:PORT")]
    bootstrap: Vec<String>,
    /// Where the routing table and the identity are kept.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
}

impl Part {
    async fn spawn(&self, read_only: bool) -> Result<Running<Mainline<SocketAddr>>, Failure> {
        let is_both = self.listen.ip().is_unspecified() && self.listen.is_ipv6();
        let mut bootstrap = Vec::new();
        for host in &self.bootstrap {
            bootstrap.extend(host.to_socket_addrs().map_err(|error| format!("{host}: {error}"))?);
        }
        let saved =
            match self.table() {
                None => None,
                Some(path) => match std::fs::read(&path) {
                    Ok(bytes) => Some(SavedTable::from_bytes(&bytes).ok_or_else(|| {
                        format!("{} is not a saved routing table: remove it", path.display())
                    })?),
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
                    Err(error) => return Err(format!("{}: {error}", path.display()).into()),
                },
            };
        if bootstrap.is_empty() && saved.is_none() && read_only {
            return Err("name a node that is there: --bootstrap HOST:PORT".into());
        }
        let machine = Mainline::new(MainlineConfig {
            ipv4: self.listen.is_ipv4() || is_both,
            ipv6: self.listen.is_ipv6(),
            bootstrap,
            saved,
            read_only,
            ..MainlineConfig::live()
        });
        let none: [NoWorker; 0] = [];
        let running = udp::spawn(machine, KrpcCodec, self.listen, Limits::default(), none).await;
        Ok(running.map_err(|error| format!("cannot listen at {}: {error}", self.listen))?)
    }

    fn table(&self) -> Option<PathBuf> {
        Some(self.data.as_ref()?.join("mainline"))
    }

    /// Keeps the routing table, in one step.
    async fn save(&self, node: &Running<Mainline<SocketAddr>>) -> Result<(), Failure> {
        let (Some(path), Some(data)) = (self.table(), &self.data) else { return Ok(()) };
        let saved = node.handle().ask(Save).await?;
        let draft = path.with_extension("new");
        std::fs::create_dir_all(data)
            .and_then(|()| std::fs::write(&draft, saved.to_bytes()))
            .and_then(|()| std::fs::rename(&draft, &path))
            .map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(())
    }
}

/// How often a node's routing table is kept.
const SAVE_EVERY: Duration = Duration::from_secs(5 * 60);

#[tokio::main]
async fn main() -> ExitCode {
    exit("mainline", run(Args::parse().command).await)
}

async fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Node { part, read_only } => node(&part, read_only).await,
        Command::Announce { part, port, info_hash } => {
            let node = part.spawn(true).await?;
            let stored = node.handle().ask(Announce { info_hash, port: Some(port) }).await??;
            say("stored", stored.nodes);
            Ok(())
        }
        Command::Peers { part, info_hash } => {
            let node = part.spawn(true).await?;
            let mut asked = node.handle().ask(GetPeers(info_hash));
            while let Some(peer) = asked.next().await {
                say("peer", peer);
            }
            asked.await??;
            Ok(())
        }
        Command::Put { part, name, value } => {
            let node = part.spawn(true).await?;
            let value = bencode::bytes(value);
            let Some(name) = name else {
                let stored = node.handle().ask(PutImmutable(value.into())).await??;
                say("target", stored.target);
                return Ok(());
            };
            let data = part.data.as_ref().ok_or("--name needs --data")?;
            std::fs::create_dir_all(data)?;
            let keypair = Keypair::load_or_create(data.join("key"))?;
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_millis();
            let item = MutableItem::new(&keypair, name.clone(), i64::try_from(now)?, value)?;
            let stored = node.handle().ask(PutMutable { item, cas: None }).await??;
            say("target", stored.target);
            say("name", format!("{}/{name}", keypair.id()));
            Ok(())
        }
        Command::Get { part, target } => {
            let node = part.spawn(true).await?;
            let encoded = match target.split_once('/') {
                Some((publisher, name)) => {
                    let publisher: PeerId = publisher.parse()?;
                    let salt = name.to_owned().into();
                    node.handle().ask(GetMutable { publisher, salt }).await??.encoded().clone()
                }
                None => node.handle().ask(GetImmutable(target.parse::<Key<20>>()?)).await??,
            };
            // A value that is no string is shown as it is encoded.
            let bytes = Value::decode(&encoded).ok().and_then(|value| value.as_bytes());
            println!("{}", String::from_utf8_lossy(bytes.unwrap_or(&encoded)));
            Ok(())
        }
    }
}

async fn node(part: &Part, read_only: bool) -> Result<(), Failure> {
    let node = part.spawn(read_only).await?;
    let mut events = node.handle().events();
    if let Some(addr) = node.local_addr() {
        say("address", addr);
    }
    let mut joined = [false; 2];
    // It may have joined before its events were listened to.
    introduce(&node, &mut joined).await?;
    let mut kept = tokio::time::interval(SAVE_EVERY);
    kept.tick().await;
    loop {
        tokio::select! {
            event = events.next() => match event {
                Some(MainlineEvent::Joined { .. }) => introduce(&node, &mut joined).await?,
                Some(MainlineEvent::Address { ip, id }) => {
                    say("external", ip);
                    say("id", id);
                }
                None => return Err("the node has stopped".into()),
            },
            _ = kept.tick() => part.save(&node).await?,
            _ = tokio::signal::ctrl_c() => break,
        }
    }
    part.save(&node).await?;
    node.shutdown().await;
    Ok(())
}

/// Says of each network, once, that the node has joined it, and as whom.
async fn introduce(node: &Running<Mainline<SocketAddr>>, joined: &mut [bool; 2]) -> Result<(), Failure> {
    let status = node.handle().ask(Status).await?;
    for (network, name) in ["IPv4", "IPv6"].into_iter().enumerate() {
        if let Some(id) = status.ids[network].filter(|_| status.nodes[network] > 0 && !joined[network]) {
            joined[network] = true;
            say("joined", name);
            say("id", id);
        }
    }
    Ok(())
}
