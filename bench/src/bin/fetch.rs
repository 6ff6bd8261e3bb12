//! A blob that `p2p-swarm` fetches from one provider, beside the same bytes on one stream of `Node`, and with the
//! feature `rivals` beside the same blob fetched by iroh-blobs with its file store.
//!
//! Both ends on loopback and in one process, files in a folder that should lie in memory. A fetch reads, proves, sends,
//! verifies and writes; the stream only sends. What iroh-blobs has fetched lies in its store; ours in the file that was
//! asked for.
//! `cargo run --release -p bench [--features rivals] --bin fetch [rounds] [folder]`, the folder `/dev/shm` unless said.
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::disallowed_types,
    reason = "a program that measures, prints, and may fail loudly"
)]

use std::path::{Path, PathBuf};
use std::time::Instant;

use bench::node::Ours;
use bench::{BULK, Rounds, Side, cpu, order};
use futures::future::BoxFuture;
use p2p_core::net::Node;
use p2p_core::{Contact, Handle, Key, Limits};
use p2p_swarm::{Fetch, FileWorker, Files, Share, Swarm, Target};

/// Moves the blob once.
trait Mover {
    fn name(&self) -> &'static str;
    fn go(&self, round: usize) -> BoxFuture<'_, ()>;
    /// Removes what was fetched.
    fn clear(&self, round: usize) -> BoxFuture<'_, ()>;
}

struct Fetching {
    provider: Node,
    fetcher: Handle<Swarm<Contact>>,
    root: Key,
    folder: PathBuf,
    /// They run while these live.
    _nodes: (Node, Handle<Swarm<Contact>>),
}

fn swarm(node: &Node) -> Handle<Swarm<Contact>> {
    let workers = [FileWorker::new(Files), FileWorker::new(Files)];
    node.spawn_with_workers("swarm/1", Swarm::default(), workers).unwrap()
}

impl Fetching {
    async fn start(folder: &Path) -> Fetching {
        let node = async || Node::builder().bind("127.0.0.1:0").await.unwrap();
        let (provider, fetches) = (node().await, node().await);
        let (provides, fetcher) = (swarm(&provider), swarm(&fetches));
        let root = provides.ask(Share { path: folder.join("blob") }).await.unwrap().unwrap().root;
        Fetching { provider, fetcher, root, folder: folder.into(), _nodes: (fetches, provides) }
    }
}

impl Mover for Fetching {
    fn name(&self) -> &'static str {
        "p2p-swarm"
    }

    fn go(&self, round: usize) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let to = Target::File(self.folder.join(format!("copy-{round}")));
            let providers = vec![self.provider.contact()];
            let fetch = Fetch { root: self.root, to, providers, progress: None };
            assert_eq!(self.fetcher.ask(fetch).await.unwrap().unwrap().size, BULK as u64);
        })
    }

    fn clear(&self, round: usize) -> BoxFuture<'_, ()> {
        Box::pin(async move { std::fs::remove_file(self.folder.join(format!("copy-{round}"))).unwrap() })
    }
}

struct Stream(Ours);

impl Mover for Stream {
    fn name(&self) -> &'static str {
        "a stream of Node"
    }

    fn go(&self, _: usize) -> BoxFuture<'_, ()> {
        self.0.bulk()
    }

    fn clear(&self, _: usize) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }
}

#[cfg(feature = "rivals")]
struct Blobs {
    provider: iroh::EndpointAddr,
    fetcher: iroh::Endpoint,
    /// A new one for each round.
    store: tokio::sync::Mutex<Option<iroh_blobs::store::fs::FsStore>>,
    hash: iroh_blobs::Hash,
    folder: PathBuf,
    _router: iroh::protocol::Router,
}

#[cfg(feature = "rivals")]
impl Blobs {
    async fn start(folder: &Path) -> Blobs {
        use iroh_blobs::{ALPN, BlobsProtocol, store::fs::FsStore};
        let (server, fetcher) = (bench::iroh::endpoint(ALPN).await, bench::iroh::endpoint(ALPN).await);
        let store = FsStore::load(folder.join("iroh")).await.unwrap();
        let hash = store.blobs().add_path(folder.join("blob")).await.unwrap().hash;
        let provider = bench::iroh::address(&server);
        let router =
            iroh::protocol::Router::builder(server).accept(ALPN, BlobsProtocol::new(&store, None)).spawn();
        let store = tokio::sync::Mutex::default();
        Blobs { provider, fetcher, store, hash, folder: folder.into(), _router: router }
    }
}

#[cfg(feature = "rivals")]
impl Mover for Blobs {
    fn name(&self) -> &'static str {
        "iroh-blobs"
    }

    fn go(&self, round: usize) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let place = self.folder.join(format!("iroh-{round}"));
            let store = iroh_blobs::store::fs::FsStore::load(place).await.unwrap();
            let connection = self.fetcher.connect(self.provider.clone(), iroh_blobs::ALPN).await.unwrap();
            store.remote().fetch(connection, iroh_blobs::HashAndFormat::raw(self.hash)).await.unwrap();
            *self.store.lock().await = Some(store);
        })
    }

    fn clear(&self, round: usize) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let store = self.store.lock().await.take().unwrap();
            assert!(store.blobs().has(self.hash).await.unwrap());
            store.shutdown().await.unwrap();
            std::fs::remove_dir_all(self.folder.join(format!("iroh-{round}"))).unwrap();
        })
    }
}

#[tokio::main]
async fn main() {
    let rounds = std::env::args().nth(1).and_then(|rounds| rounds.parse().ok()).unwrap_or(5);
    let folder = std::env::args().nth(2).unwrap_or_else(|| "/dev/shm".into());
    let folder = PathBuf::from(folder).join(format!("p2p-bench-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let mut content = vec![0; BULK];
    p2p_core::Rng::new(1).fill(&mut content);
    std::fs::write(folder.join("blob"), content).unwrap();

    let movers: Vec<Box<dyn Mover>> = vec![
        Box::new(Fetching::start(&folder).await),
        Box::new(Stream(Ours::start("Node", &Limits::default()).await)),
        #[cfg(feature = "rivals")]
        Box::new(Blobs::start(&folder).await),
    ];
    let (mut rates, mut costs) = (Rounds::default(), Rounds::default());
    for round in 0..=rounds {
        let (mut rate, mut cost) = (vec![0.0; movers.len()], vec![0.0; movers.len()]);
        for number in order(round, movers.len()) {
            let (start, used) = (Instant::now(), cpu());
            movers[number].go(round).await;
            rate[number] = BULK as f64 / 1e6 / start.elapsed().as_secs_f64();
            cost[number] = cpu() - used;
            movers[number].clear(round).await;
        }
        if round > 0 {
            rates.add(&rate);
            costs.add(&cost);
        }
    }
    println!(
        "1 GiB: MB/s, seconds of processor at both ends, ratio of ours to this; medians (least to most)"
    );
    for (number, mover) in movers.iter().enumerate() {
        let (rate, cost) = (rates.column(number), costs.column(number));
        println!("| {} | {rate} | {cost:.1} | {:.3} |", mover.name(), rates.ratio(0, number));
    }
    std::fs::remove_dir_all(folder).unwrap();
}
