//! `search`: files found by what they are called or made of, and fetched from those who have them.
//!
//! ```sh
//! cargo run --bin search -- node --system gnutella06 --share music          # prints: contact: 127.0.0.1:…
//! cargo run --bin search -- node --system gnutella06 --share more --join ADDR
//! cargo run --bin search -- find --system gnutella06 --join ADDR blue monday
//! cargo run --bin search -- get --system gnutella06 --join ADDR --out here blue monday   # or urn:sha1:…
//! cargo run --bin search -- index                                           # a server for --system napster
//! cargo run --bin search -- index --system skype --data names               # or for --system skype, with --login ADDR
//! ```
//!
//! Napster and both Gnutellas speak their own bytes over TCP, KaZaA, Skype's design and Freenet run over QUIC. Several servers of Napster
//! that know one `--password` are one index: `index --password P --link ADDR`. A node with `--firewalled` accepts no
//! connections: what it shares is pushed to who asks for it. Each system has one function below, which
//! starts a [`Member`]; what is done with it is the same for all.

#![expect(clippy::print_stdout, reason = "a program talks on the terminal")]

use std::fmt::Display;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};
use futures::StreamExt;
use futures::future::BoxFuture;
use p2p_core::foreign::{Codec, TcpPeer};
use p2p_core::net::{Node, tcp};
use p2p_core::{Contact, Limits, NoWorker, Peer};
use p2p_examples::{
    Failure, FreenetFiles, SkypeFiles, exit, identity, login_server, name_of, patiently, say,
};
use p2p_overlay::{
    ContentHash, DiskFolder, Download, DownloadError, Downloaded, Fetch, Fetcher, Gnutella, Gnutella06,
    Gnutella06Codec, Gnutella06Config, GnutellaCodec, GnutellaConfig, Hit, HttpCodec, Item, Kazaa,
    KazaaConfig, Napster, NapsterCodec, NapsterConfig, NapsterFilesCodec, NapsterLinks, Query, Rate, Role,
    Scope, Search, SearchError, ShareWorker, Sharer, Sharing, SharingConfig, SharingMsg, SkypeUser,
    is_plain_name, is_user_name, items_in, of_address,
};
use tokio::time::Instant;

/// Finds files by what they are called or made of, and fetches them from those who have them.
#[derive(Parser)]
#[command(version)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Keeps Napster's index, or Skype's names.
    Index {
        /// Which network: napster or skype.
        #[arg(long, value_enum, default_value_t = System::Napster)]
        system: System,
        /// Where Skype's names are kept, and the server's identity; they go with it otherwise.
        #[arg(long, value_name = "DIR")]
        data: Option<PathBuf>,
        /// Where to listen.
        #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:0")]
        listen: SocketAddr,
        /// What this server is called among linked ones; by default a name that no other has.
        #[arg(long, requires = "password")]
        name: Option<String>,
        /// What all linked servers know, and nobody else. Without it no other server is linked.
        #[arg(long)]
        password: Option<String>,
        /// Other servers to link to.
        #[arg(long, value_name = "ADDR", requires = "password")]
        link: Vec<SocketAddr>,
    },
    /// Shares a folder until it is interrupted, and takes part in searches of others.
    Node(Part),
    /// Prints who has what.
    Find {
        #[command(flatten)]
        part: Part,
        #[command(flatten)]
        wanted: Wanted,
    },
    /// Fetches the first content that is found, from all who have it.
    Get {
        #[command(flatten)]
        part: Part,
        #[command(flatten)]
        wanted: Wanted,
        /// The folder that it goes to.
        #[arg(long, value_name = "DIR", default_value = ".")]
        out: PathBuf,
        /// What it is to be called; by default as its source calls it.
        #[arg(long)]
        name: Option<String>,
    },
}

/// How to take part.
#[derive(Clone, Debug, clap::Args)]
struct Part {
    /// Which network.
    #[arg(long, value_enum, default_value_t = System::Gnutella06)]
    system: System,
    /// The folder whose files are shared; those in folders within it are not.
    #[arg(long, value_name = "DIR")]
    share: Option<PathBuf>,
    /// Where to listen.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Members to join through, as they have printed where they are; of Napster, servers.
    #[arg(long, value_name = "CONTACT")]
    join: Vec<String>,
    /// Accept no connections.
    #[arg(long)]
    firewalled: bool,
    /// Be a leaf, where there are any: an ordinary node that others speak for.
    #[arg(long)]
    leaf: bool,
    /// What this user is called, where users have names; by default a name that nobody else has.
    #[arg(long)]
    nick: Option<String>,
    /// What else this user is found by, in Skype.
    #[arg(long, value_name = "TEXT")]
    profile: Option<String>,
    /// Skype's login server.
    #[arg(long, value_name = "CONTACT")]
    login: Option<Contact>,
    /// Where the identity is kept, in KaZaA and Skype; a new one every time otherwise.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Print one JSON object a line.
    #[arg(long)]
    json: bool,
}

/// What to look for.
#[derive(Clone, Debug, clap::Args)]
struct Wanted {
    /// Words of the name, or one hash: urn:sha1:… or urn:blake3:…
    #[arg(required = true)]
    words: Vec<String>,
    /// How many hits are enough.
    #[arg(long, default_value_t = 50)]
    hits: u32,
    /// How long to look for more once something is found, in seconds.
    #[arg(long, default_value_t = 3)]
    wait: u64,
    /// How long to try until something is found and fetched, in seconds.
    #[arg(long, default_value_t = 60)]
    patience: u64,
}

impl Wanted {
    fn query(&self) -> Query {
        match &self.words[..] {
            [word] if word.parse::<ContentHash>().is_ok() => {
                word.parse().map_or_else(|_| Query::text(word), Query::content)
            }
            words => Query::text(&words.join(" ")),
        }
    }

    fn scope(&self) -> Scope {
        Scope { hits: self.hits, deadline: Duration::from_secs(self.wait.max(1)), ..Scope::default() }
    }

    fn until(&self) -> Instant {
        Instant::now() + Duration::from_secs(self.patience)
    }
}

/// The networks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum System {
    /// An index server: `search index`.
    Napster,
    /// Everybody asks everybody.
    Gnutella04,
    /// Ultrapeers speak for leaves.
    Gnutella06,
    /// Super-nodes index what their ordinary nodes share, over QUIC.
    Kazaa,
    /// Users, found through super-nodes, who are called and asked for files, over QUIC; what super-nodes relay they
    /// cannot read. A file is found by its user's name or profile, and words of its own.
    Skype,
    /// Blocks on routes by keys, over QUIC: a file is found by all words of its name, and need no longer be where it
    /// was shared.
    Freenet,
}

/// A running member of a network.
struct Member<P: Peer> {
    search: Arc<dyn Fetcher<P>>,
    /// Where others reach it, if they do.
    contact: Option<String>,
    /// Ends it.
    stop: BoxFuture<'static, ()>,
}

#[tokio::main]
async fn main() -> ExitCode {
    exit("search", run(Args::parse().command).await)
}

async fn run(command: Command) -> Result<(), Failure> {
    let (part, out) = match &command {
        Command::Index { system: System::Skype, data, listen, .. } => {
            return names(*listen, data.as_deref()).await;
        }
        Command::Index { system, listen, name, password, link, .. } => {
            if *system != System::Napster {
                return Err("only napster and skype have a server".into());
            }
            let servers = link.iter().copied().map(of_address).collect();
            let name = name.clone().unwrap_or_else(|| format!("server{}", std::process::id()));
            let links = NapsterLinks { name, password: password.clone().unwrap_or_default(), servers };
            return index(*listen, links).await;
        }
        Command::Node(part) | Command::Find { part, .. } => (part.clone(), PathBuf::from(".")),
        Command::Get { part, out, .. } => (part.clone(), out.clone()),
    };
    let items = shared(part.share.clone()).await?;
    match part.system {
        System::Napster => act(napster(&part, items, &out).await?, command).await,
        System::Gnutella04 => act(gnutella04(&part, items, &out).await?, command).await,
        System::Gnutella06 => act(gnutella06(&part, items, &out).await?, command).await,
        System::Kazaa => act(kazaa(&part, items, &out).await?, command).await,
        System::Skype => act(skype(&part, items, &out).await?, command).await,
        System::Freenet => act(freenet(&part, items, &out).await?, command).await,
    }
}

/// Hashes what is to be shared.
async fn shared(folder: Option<PathBuf>) -> Result<Vec<Item>, Failure> {
    let Some(folder) = folder else { return Ok(Vec::new()) };
    let path = folder.clone();
    let items = tokio::task::spawn_blocking(move || items_in(&path)).await?;
    items.map_err(|error| format!("cannot share {}: {error}", folder.display()).into())
}

/// Whom to join through.
fn doors<T: FromStr<Err: Display>>(part: &Part) -> Result<Vec<T>, Failure> {
    let parsed = part.join.iter().map(|door| {
        door.parse().map_err(|error| format!("cannot join through {door:?} in this network: {error}").into())
    });
    parsed.collect()
}

// ---- the networks

/// How often those who wait at their screens want neighbours looked after.
const UPKEEP: Duration = Duration::from_secs(1);

/// Napster's server.
async fn index(listen: SocketAddr, links: NapsterLinks) -> Result<(), Failure> {
    let config = NapsterConfig { relink: 2 * UPKEEP, relay_timeout: 2 * UPKEEP, ..NapsterConfig::default() };
    let server = Napster::<TcpPeer>::linked(links, config);
    let running =
        tcp::spawn(server, NapsterCodec::server, Some(listen), Limits::default(), [NoWorker; 0]).await;
    let running = running.map_err(|error| format!("cannot listen at {listen}: {error}"))?;
    if let Some(addr) = running.local_addr() {
        say("contact", addr);
    }
    tokio::signal::ctrl_c().await?;
    running.shutdown().await;
    Ok(())
}

async fn napster(part: &Part, items: Vec<Item>, out: &Path) -> Result<Member<TcpPeer>, Failure> {
    if part.join.is_empty() {
        return Err("name a server: --join ADDR, as `search index` has printed it".into());
    }
    let nick = part.nick.clone().unwrap_or_else(|| format!("user{}", std::process::id()));
    let config = NapsterConfig { login: 2 * UPKEEP, ..NapsterConfig::default() };
    // One connection brings a file to its end.
    let sharing = SharingConfig { piece: u64::MAX, ..SharingConfig::default() };
    let servers: Vec<Contact> = doors(part)?.into_iter().map(of_address).collect();
    let (name, codec) = (nick.clone(), move |peer| NapsterFilesCodec::new(peer, nick.clone()));
    let machine = move |listen: Option<SocketAddr>| {
        Sharing::new(Napster::client(name, listen.map(of_address), servers, config), sharing)
    };
    member(part, items, machine, codec, out).await
}

async fn gnutella04(part: &Part, items: Vec<Item>, out: &Path) -> Result<Member<TcpPeer>, Failure> {
    // Those who wait do not want to be guests for long.
    let hearsay = Rate { every: UPKEEP, burst: 10 };
    let config = GnutellaConfig { upkeep: UPKEEP, most: 16, hearsay, ..GnutellaConfig::default() };
    let seeds: Vec<Contact> = doors(part)?.into_iter().map(of_address).collect();
    let machine = move |listen: Option<SocketAddr>| {
        Sharing::new(Gnutella::new(listen.map(of_address), seeds, config), SharingConfig::default())
    };
    member(part, items, machine, |peer| HttpCodec::new(peer, GnutellaCodec::new(peer)), out).await
}

async fn gnutella06(part: &Part, items: Vec<Item>, out: &Path) -> Result<Member<TcpPeer>, Failure> {
    let config = Gnutella06Config { upkeep: UPKEEP, hop_wait: UPKEEP / 4, ..Gnutella06Config::default() };
    let role = if part.leaf || part.firewalled { Role::Leaf } else { Role::Ultrapeer };
    let seeds: Vec<Contact> = doors(part)?.into_iter().map(of_address).collect();
    let machine = move |listen: Option<SocketAddr>| {
        Sharing::new(Gnutella06::new(listen.map(of_address), seeds, role, config), SharingConfig::default())
    };
    member(part, items, machine, |peer| HttpCodec::new(peer, Gnutella06Codec::new(peer)), out).await
}

async fn kazaa(part: &Part, items: Vec<Item>, out: &Path) -> Result<Member<Contact>, Failure> {
    let limits = match part.firewalled {
        true => Limits { handshakes_at_once: 0, ..Limits::default() },
        false => Limits::default(),
    };
    let keypair = identity(part.data.as_deref())?;
    let builder = Node::builder().network("kazaa").identity(keypair.clone()).limits(limits);
    let node = builder.bind(part.listen).await;
    let node = node.map_err(|error| format!("cannot listen at {}: {error}", part.listen))?;
    let listen = (!part.firewalled).then(|| node.contact());
    let role = if part.leaf || part.firewalled { Role::Leaf } else { Role::Ultrapeer };
    let (probe_wait, wait) = (UPKEEP / 4, UPKEEP / 2);
    let config = KazaaConfig { upkeep: UPKEEP, probe_wait, wait, ..KazaaConfig::default() };
    let config = KazaaConfig { dial_timeout: 3 * UPKEEP, silence: 5 * UPKEEP, ..config };
    let hearsay = Rate { every: UPKEEP / 4, burst: 10 };
    let machine = Kazaa::new(listen, doors::<Contact>(part)?, role, KazaaConfig { hearsay, ..config });
    let machine = machine.with_key(keypair);
    let sharing = Sharing::new(machine, SharingConfig::default());
    let folder = DiskFolder::new(part.share.clone(), out);
    let workers = [ShareWorker::new(folder.clone()), ShareWorker::new(folder)];
    let search = node.spawn_with_workers("kazaa/1", sharing, workers)?;
    share(&search, items).await?;
    let stop = Box::pin(async move { node.shutdown().await });
    Ok(Member { search: Arc::new(search), contact: listen.map(|contact| contact.to_string()), stop })
}

/// Skype's login server.
async fn names(listen: SocketAddr, data: Option<&Path>) -> Result<(), Failure> {
    let keypair = identity(data)?;
    let node = SkypeFiles::bind(&keypair, true, listen).await;
    let node = node.map_err(|error| format!("cannot listen at {listen}: {error}"))?;
    login_server(&node, keypair, data)?;
    say("contact", node.contact());
    tokio::signal::ctrl_c().await?;
    node.shutdown().await;
    Ok(())
}

async fn skype(part: &Part, items: Vec<Item>, out: &Path) -> Result<Member<Contact>, Failure> {
    let login = part
        .login
        .ok_or("name the login server: --login ADDR, as `search index --system skype` has printed it")?;
    let (keypair, open) = (identity(part.data.as_deref())?, !part.firewalled);
    let name = part.nick.clone().unwrap_or_else(|| name_of(&keypair));
    if !is_user_name(&name) {
        return Err(format!("{name:?} is no user name: small letters, digits, .-_, a letter first").into());
    }
    let node = SkypeFiles::bind(&keypair, open, part.listen).await;
    let node = node.map_err(|error| format!("cannot listen at {}: {error}", part.listen))?;
    let contact = node.contact();
    let role = if part.leaf || !open { Role::Leaf } else { Role::Ultrapeer };
    let profile = part.profile.clone().unwrap_or_default();
    let user = SkypeUser { keypair, name, profile, server: login.id, login, contact, open };
    let folder = DiskFolder::new(part.share.clone(), out);
    let files = SkypeFiles::start(node, user, doors(part)?, role, items, folder)?;
    let search = Arc::new(files.clone());
    Ok(Member { search, contact: open.then(|| contact.to_string()), stop: Box::pin(files.stop()) })
}

async fn freenet(part: &Part, items: Vec<Item>, out: &Path) -> Result<Member<Contact>, Failure> {
    let node = Node::builder().bind(part.listen).await;
    let node = node.map_err(|error| format!("cannot listen at {}: {error}", part.listen))?;
    let contact = node.contact().to_string();
    let files = FreenetFiles::start(node, doors(part)?, out.to_owned())?;
    let (given, folder) = (files.clone(), part.share.clone().unwrap_or_default());
    // Nobody takes them before it has found somebody.
    tokio::spawn(async move {
        for item in items {
            let name = item.name.clone();
            let shared = patiently(|| async {
                let content = tokio::fs::read(folder.join(&item.name)).await?;
                given.share(item.clone(), content).await
            });
            match shared.await {
                Ok(()) => say("shared", name),
                Err(error) => say("not shared", format_args!("{name}: {error}")),
            }
        }
    });
    let search = Arc::new(files.clone());
    Ok(Member { search, contact: Some(contact), stop: Box::pin(files.stop()) })
}

async fn share<P: Peer>(search: &dyn Search<P>, items: Vec<Item>) -> Result<(), Failure> {
    for item in items {
        let name = item.name.clone();
        search.publish(item).await.map_err(|error| format!("cannot share {name:?}: {error}"))?;
    }
    Ok(())
}

/// Runs a machine over TCP, and shares these items.
async fn member<S, C>(
    part: &Part,
    items: Vec<Item>,
    machine: impl FnOnce(Option<SocketAddr>) -> Sharing<S> + Send,
    codec: impl Fn(TcpPeer) -> C + Send + 'static,
    out: &Path,
) -> Result<Member<TcpPeer>, Failure>
where
    S: Sharer<Peer = TcpPeer>,
    C: Codec<Msg = SharingMsg<S::Msg>>,
{
    let listen = (!part.firewalled).then_some(part.listen);
    let folder = DiskFolder::new(part.share.clone(), out);
    let workers = [ShareWorker::new(folder.clone()), ShareWorker::new(folder)];
    let running = tcp::spawn_at(machine, codec, listen, Limits::default(), workers).await;
    let running = running.map_err(|error| format!("cannot listen at {}: {error}", part.listen))?;
    let search = running.handle();
    share(&search, items).await?;
    Ok(Member {
        search: Arc::new(search),
        contact: running.local_addr().map(|addr| addr.to_string()),
        stop: Box::pin(running.shutdown()),
    })
}

// ---- what is done with any of them

async fn act<P: Peer + Sync>(member: Member<P>, command: Command) -> Result<(), Failure> {
    let done = match &command {
        Command::Index { .. } => Ok(()),
        Command::Node(_) => {
            say("contact", member.contact.as_deref().unwrap_or("none"));
            tokio::signal::ctrl_c().await.map_err(Failure::from)
        }
        Command::Find { part, wanted } => {
            let mut told = |hit: &Hit<P>| show(hit, part.json);
            find(&*member.search, wanted, wanted.until(), &mut told).await.map(drop)
        }
        Command::Get { part, wanted, out, name } => {
            get(&*member.search, wanted, out, name.as_deref(), part.json).await
        }
    };
    member.stop.await;
    done
}

/// Prints a hit.
fn show<P: Peer>(hit: &Hit<P>, json: bool) {
    let Item { name, size, hashes, .. } = &hit.item;
    let urn = hashes.first().map(ContentHash::to_string);
    let source = match hit.fetch {
        Fetch::Direct(peer) | Fetch::Relay(peer) => format!("{peer:?}"),
        Fetch::Push => "push".into(),
        Fetch::Ask => String::from_utf8_lossy(&hit.reference).lines().next().unwrap_or_default().into(),
    };
    if json {
        let said = serde_json::json!({ "hit": name, "size": size, "urn": urn, "source": source });
        return println!("{said}");
    }
    say("hit", format_args!("{name}\t{size}\t{}\t{source}", urn.as_deref().unwrap_or("-")));
}

/// Searches until something is found, and tells each hit as it comes.
async fn find<P: Peer + Sync>(
    search: &dyn Fetcher<P>,
    wanted: &Wanted,
    until: Instant,
    told: &mut (dyn FnMut(&Hit<P>) + Send),
) -> Result<Vec<Hit<P>>, Failure> {
    loop {
        let mut found = search.search(wanted.query(), wanted.scope());
        let mut hits = Vec::new();
        while let Some(hit) = found.next().await {
            told(&hit);
            hits.push(hit);
        }
        match found.await {
            _ if !hits.is_empty() => return Ok(hits),
            Err(error @ (SearchError::BadQuery | SearchError::Unsupported)) => return Err(error.into()),
            Ok(_) if Instant::now() >= until => return Err("nothing was found".into()),
            Err(error) if Instant::now() >= until => return Err(error.into()),
            // It has only just come: nobody knows it, or what others have.
            Ok(_) | Err(_) => tokio::time::sleep(UPKEEP / 4).await,
        }
    }
}

/// Fetches the first content that is found, and searches again while those who have it are gone.
async fn get<P: Peer + Sync>(
    search: &dyn Fetcher<P>,
    wanted: &Wanted,
    out: &Path,
    name: Option<&str>,
    json: bool,
) -> Result<(), Failure> {
    let until = wanted.until();
    loop {
        let hits = find(search, wanted, until, &mut |_| {}).await?;
        // What its source calls it need not be a name here.
        let name = match (name, hits.first()) {
            (None, Some(hit)) if !is_plain_name(&hit.item.name) => Some("download".to_owned()),
            (name, _) => name.map(ToOwned::to_owned),
        };
        match search.fetch(Download { hits, name }).await {
            Ok(downloaded) => {
                report(&downloaded, out, json);
                return Ok(());
            }
            Err(DownloadError::NoSource { .. }) if Instant::now() < until => {}
            Err(error) => return Err(error.to_string().into()),
        }
    }
}

/// Says what was fetched.
fn report<P: Peer>(downloaded: &Downloaded<P>, out: &Path, json: bool) {
    let Downloaded { name, size, hashes, resumed, sources } = downloaded;
    let path = out.join(name);
    let received: u64 = sources.iter().map(|source| source.bytes).sum();
    let sources = sources.iter().filter(|source| source.bytes > 0).count();
    let urns: Vec<String> = hashes.iter().map(ContentHash::to_string).collect();
    if json {
        let said = serde_json::json!({ "file": path, "size": size, "urns": urns, "resumed": resumed, "received": received, "sources": sources });
        return println!("{said}");
    }
    if *resumed > 0 {
        say("resumed", resumed);
    }
    say("sources", sources);
    say("size", size);
    urns.iter().for_each(|urn| say("hash", urn));
    say("file", path.display());
}
