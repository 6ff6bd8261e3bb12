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
//! connections: what it shares is pushed to who asks for it. Each system has one function in `networks`,
//! which starts a member; what is done with it is the same for all.

#![expect(clippy::print_stdout, reason = "a program talks on the terminal")]

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};
use futures::StreamExt;
use p2p_core::{Contact, Peer};
use p2p_examples::{Failure, exit, say};
use p2p_overlay::{
    ContentHash, Download, DownloadError, Downloaded, Fetch, Fetcher, Hit, Item, NapsterLinks, Query, Scope,
    SearchError, is_plain_name, items_in, of_address,
};
use tokio::time::Instant;

mod networks;

use networks::{Member, UPKEEP, freenet, gnutella04, gnutella06, index, kazaa, names, napster, skype};

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
