//! `tour`: real QUIC nodes in one process find each other, store values, share a file and survive deaths.
//!
//! ```sh
//! cargo run --release --bin tour
//! cargo run --release --bin tour -- --nodes 32 --file some.iso
//! ```
//!
//! It exits with status 0 only if every step checked out.

#![expect(clippy::print_stdout, reason = "a program talks on the terminal")]
#![expect(clippy::disallowed_types, clippy::disallowed_methods, reason = "a program has a clock, and files")]

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use futures::StreamExt;
use futures::future::join_all;
use indicatif::{ProgressBar, ProgressStyle};
use p2p_core::net::Node;
use p2p_core::{Contact, Handle, Key, Keyed, Rng};
use p2p_dht::{Dht, DhtConfig, MemoryStore, Put, Replicated};
use p2p_examples::{Failure, exit};
use p2p_overlay::{Find, Kademlia, KademliaConfig};
use p2p_swarm::{ContentStore, FetchItem, FileWorker, Files, Kind, Store, Swarm, Ticket};
use tokio::time::timeout;

/// Takes real QUIC nodes through every layer there is, on loopback, and checks each step.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// The file to share; 256 MiB of noise otherwise.
    #[arg(long)]
    file: Option<PathBuf>,
    /// How many nodes.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u16).range(4..=256))]
    nodes: u16,
}

/// A node, what it keeps for others, and what it shares.
struct Member {
    node: Node,
    dht: Handle<Replicated<Kademlia<Contact>>>,
    store: Store<Contact>,
}

type Outcome<T = String> = Result<T, Failure>;

/// How long any step may take.
const PATIENCE: Duration = Duration::from_secs(120);
/// The most nodes that die: one fewer than keep each value.
const DEATHS: usize = 7;

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    let mut report = Report::default();
    let done = tour(&args, &mut report).await;
    report.print();
    exit("tour", done)
}

async fn tour(args: &Args, report: &mut Report) -> Outcome<()> {
    let folder = Folder::new()?;
    let mut members = report.step("boot", boot(args.nodes)).await?;
    report.step("join", settle(&members)).await?;
    report.step("lookup", look_up(&members)).await?;
    let keys = report.step("put", put(&members)).await?;
    report.step("get", get(&members, &keys)).await?;
    let (path, root) = report.step("share", share(&members, &folder, args.file.clone())).await?;
    report.step("fetch", fetch(&members, &folder, &path, root)).await?;
    let deaths = (usize::from(args.nodes) / 4).min(DEATHS);
    members.drain(..deaths).for_each(drop);
    report.step("deaths", settle(&members)).await?;
    report.step("get again", get(&members, &keys)).await?;
    join_all(members.iter().map(|member| member.node.shutdown())).await;
    Ok(())
}

/// Starts the nodes; each knows the first one.
async fn boot(nodes: u16) -> Outcome<(Vec<Member>, String)> {
    let config = KademliaConfig { upkeep: Duration::from_secs(1), ..KademliaConfig::default() };
    let keeping = DhtConfig { settle: Duration::from_secs(1), ..DhtConfig::default() };
    let mut members: Vec<Member> = Vec::new();
    for _ in 0..nodes {
        let node = Node::builder().bind("127.0.0.1:0").await?;
        let first = members.first().map(|first| first.node.contact());
        let overlay = Kademlia::with(node.contact(), first, config);
        let machine = Replicated::new(overlay, keeping);
        let dht = node.spawn_with_workers("dht/1", machine, [MemoryStore::default()])?;
        let swarm = node.spawn_with_workers("swarm/1", Swarm::default(), [FileWorker::new(Files)])?;
        let store = Store::new(swarm).with_dht(std::sync::Arc::new(dht.clone()));
        members.push(Member { node, dht, store });
    }
    let at = members[0].node.contact().addr;
    Ok((members, format!("{nodes} nodes, each with its own key and UDP port, the first at {at}")))
}

/// The nodes closest to a key, by a look at all nodes.
fn closest(members: &[Member], key: &Key, n: usize) -> Vec<Contact> {
    let mut contacts: Vec<Contact> = members.iter().map(|member| member.node.contact()).collect();
    contacts.sort_by_key(|contact| contact.key().xor(key));
    contacts.truncate(n);
    contacts
}

/// Waits until every node finds the eight nodes closest to itself.
async fn settle(members: &[Member]) -> Outcome<((), String)> {
    let bar = bar(members.len() as u64, "{msg:>14} {bar:30} {pos}/{len} nodes");
    bar.set_message("settling");
    let mut asked = 0;
    for member in members {
        let key = member.node.contact().key();
        loop {
            asked += 1;
            let found = member.dht.ask(Find::key(key).replicas(8)).await?;
            if found.is_ok_and(|found| found.peers == closest(members, &key, 8)) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(((), format!("a network of {} after {asked} questions", members.len())))
}

/// Every node looks keys up; all answers must be the closest nodes.
async fn look_up(members: &[Member]) -> Outcome<((), String)> {
    let (mut hops, mut asked) = (0, 0u32);
    for (i, member) in members.iter().enumerate() {
        for j in 0..8 {
            let key = Key::of(format!("song {i}.{j}").as_bytes());
            let found = member.dht.ask(Find::key(key)).await??;
            if found.peers != closest(members, &key, 1) {
                return Err(format!("node {i} was told that {:?} is closest to {key:?}", found.root()).into());
            }
            hops += found.hops;
            asked += 1;
        }
    }
    Ok(((), format!("{asked} lookups, all right, {:.1} hops each", f64::from(hops) / f64::from(asked))))
}

fn value(i: usize) -> String {
    format!("what node {i} has to say")
}

/// Every node stores a value.
async fn put(members: &[Member]) -> Outcome<(Vec<Key>, String)> {
    let puts = members.iter().enumerate().map(|(i, member)| member.dht.ask(Put(value(i).into())));
    let (mut keys, mut fewest) = (Vec::new(), usize::MAX);
    for stored in join_all(puts).await {
        let stored = stored??;
        fewest = fewest.min(stored.copies);
        keys.push(stored.key);
    }
    let said = format!("{} values, each at {fewest} nodes or more", keys.len());
    Ok((keys, said))
}

/// Every value is read, by a node other than the one that stored it.
async fn get(members: &[Member], keys: &[Key]) -> Outcome<((), String)> {
    for (i, key) in keys.iter().enumerate() {
        let reader = &members[(i + members.len() / 2) % members.len()];
        if reader.dht.get(*key).await? != value(i) {
            return Err(format!("value {i} is not what was stored").into());
        }
    }
    Ok(((), format!("{} values, all as they were stored", keys.len())))
}

/// A folder of the tour's own, which goes with it.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Outcome<Folder> {
        let path = std::env::temp_dir().join(format!("p2p-tour-{}", std::process::id()));
        std::fs::create_dir_all(&path)?;
        Ok(Folder(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Three nodes share the same file and make it known.
async fn share(
    members: &[Member],
    folder: &Folder,
    file: Option<PathBuf>,
) -> Outcome<((PathBuf, Key), String)> {
    let path = match file {
        Some(path) => path,
        None => noise(folder.0.join("noise"))?,
    };
    let shared = join_all(members[..3].iter().map(|member| member.store.share(&path))).await;
    let mut size = 0;
    let mut root = Key::ZERO;
    for shared in shared {
        let shared = shared?;
        (root, size) = (shared.root, shared.size);
    }
    if root != hash(&path)? {
        return Err("the file's root is not its BLAKE3 hash".into());
    }
    Ok(((path, root), format!("{:.0} MB at three nodes, under {root:?}", size as f64 / 1e6)))
}

/// The last node fetches it, knowing nothing but its hash.
async fn fetch(members: &[Member], folder: &Folder, path: &Path, root: Key) -> Outcome<((), String)> {
    let Some(last) = members.last() else { return Err("nobody is left".into()) };
    let out = folder.0.join("copy");
    let bar = bar(0, "{msg:>14} {bar:30} {bytes}/{total_bytes} at {bytes_per_sec}");
    bar.set_message("fetching");
    let clock = Instant::now();
    let mut fetching = last.store.fetch(&Ticket::new(root, Kind::File), &out);
    while let Some(item) = fetching.next().await {
        if let FetchItem::Progress(progress) = item {
            bar.set_length(progress.total.unwrap_or_default());
            bar.set_position(progress.bytes);
        }
    }
    let received = fetching.await?;
    let seconds = clock.elapsed().as_secs_f64();
    bar.finish_and_clear();
    if hash(&out)? != root || std::fs::metadata(path)?.len() != received.size {
        return Err("the file did not arrive as it was shared".into());
    }
    let from = received.peers.iter().filter(|peer| peer.bytes > 0).count();
    let megabytes = received.size as f64 / 1e6;
    Ok(((), format!("{megabytes:.0} MB from {from} nodes, byte for byte, {:.0} MB/s", megabytes / seconds)))
}

fn noise(path: PathBuf) -> Outcome<PathBuf> {
    let mut file = std::fs::File::create(&path)?;
    let mut rng = Rng::new(7);
    let mut chunk = vec![0; 1 << 20];
    for _ in 0..256 {
        rng.fill(&mut chunk);
        file.write_all(&chunk)?;
    }
    Ok(path)
}

/// A file's BLAKE3 hash, by the plain library.
fn hash(path: &Path) -> Outcome<Key> {
    let mut file = std::fs::File::open(path)?;
    let mut hasher = blake3::Hasher::new();
    let mut chunk = vec![0; 1 << 20];
    loop {
        match file.read(&mut chunk)? {
            0 => return Ok(Key::new(*hasher.finalize().as_bytes())),
            n => drop(hasher.update(&chunk[..n])),
        }
    }
}

fn bar(len: u64, template: &str) -> ProgressBar {
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(len).with_style(style)
}

/// What happened, a row a step.
#[derive(Default)]
struct Report(Vec<(&'static str, f64, String)>);

impl Report {
    async fn step<T>(
        &mut self,
        name: &'static str,
        work: impl Future<Output = Outcome<(T, String)>>,
    ) -> Outcome<T> {
        let clock = Instant::now();
        let done = timeout(PATIENCE, work).await;
        let done = done.unwrap_or_else(|_| Err(format!("not done within {} s", PATIENCE.as_secs()).into()));
        let (value, said) = match done {
            Ok((value, said)) => (Ok(value), said),
            Err(error) => (Err(format!("{name}: {error}").into()), format!("FAILED: {error}")),
        };
        self.0.push((name, clock.elapsed().as_secs_f64(), said));
        value
    }

    fn print(&self) {
        for (name, seconds, said) in &self.0 {
            println!("{name:<14}{seconds:>7.2} s  {said}");
        }
    }
}
