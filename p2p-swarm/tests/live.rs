//! Real nodes, real files: QUIC on loopback.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures::StreamExt;
use p2p_core::net::Node;
use p2p_core::sim::Liar;
use p2p_core::{Contact, Handle, Job, Rng, Worker};
use p2p_swarm::{
    ContentError, ContentStore, FetchItem, FileWorker, Files, Kind, Share, Standing, Store, StoreError,
    Swarm, SwarmCommand, SwarmJob, SwarmMsg, Ticket,
};
use tokio::sync::RwLock;

const NAME: &str = "swarm/1";

/// A folder that goes when the test ends.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Folder {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("p2p-swarm-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    fn file(&self, name: &str, len: usize) -> PathBuf {
        let mut content = vec![0; len];
        Rng::new(len as u64).fill(&mut content);
        let path = self.0.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

async fn node() -> Node {
    Node::builder().bind("127.0.0.1:0").await.unwrap()
}

fn spawn(node: &Node) -> Handle<Swarm<Contact>> {
    let workers = [FileWorker::new(Files), FileWorker::new(Files)];
    node.spawn_with_workers(NAME, Swarm::default(), workers).unwrap()
}

async fn patient<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), future).await.expect("this test's step takes far too long")
}

/// Reads nothing while it is held.
struct Held(FileWorker, Arc<RwLock<()>>);

impl Worker<SwarmJob> for Held {
    fn run(&mut self, batch: Vec<SwarmJob>) -> Vec<<SwarmJob as Job>::Done> {
        let _turn = self.1.blocking_read();
        self.0.run(batch)
    }
}

/// Lets an honest machine share a file while its messages are forged.
struct ShareIt(Share);

impl p2p_core::Request<Liar<Swarm<Contact>>> for ShareIt {
    type Item = ();
    type Reply = ();
    fn command(self) -> SwarmCommand<Contact> {
        SwarmCommand::Share(self.0)
    }
    fn item(_: FetchItem<Contact>) -> Option<()> {
        None
    }
    fn reply(_: p2p_swarm::SwarmOutcome<Contact>) -> Option<()> {
        Some(())
    }
}

#[tokio::test]
async fn a_file_comes_from_two_and_the_liar_is_named() {
    let folder = Folder::new();
    let path = folder.file("song.ogg", 6_000_001);
    let (honest, liar, fetcher) = (node().await, node().await, node().await);
    let turn = Arc::new(RwLock::new(()));
    let worker = Held(FileWorker::new(Files), turn.clone());
    let store = Store::new(honest.spawn_with_workers(NAME, Swarm::default(), [worker]).unwrap());
    let shared = patient(store.share(&path)).await.unwrap();

    let forge = |_: &mut Rng, to, msg| match msg {
        SwarmMsg::Data { id, size, mut proof, bytes } => {
            if let Some(value) = proof.last_mut() {
                value[0] ^= 1;
            }
            vec![(to, SwarmMsg::Data { id, size, proof, bytes })]
        }
        other => vec![(to, other)],
    };
    let machine = Liar::new(Swarm::default(), forge);
    let forger = liar.spawn_with_workers(NAME, machine, [FileWorker::new(Files)]).unwrap();
    patient(forger.ask(ShareIt(Share { path: path.clone() }))).await.unwrap();

    let store = Store::new(spawn(&fetcher));
    let ticket = Ticket::new(shared.root, shared.kind).with([liar.contact(), honest.contact()]);
    let ticket: Ticket = ticket.to_string().parse().unwrap();
    let copy = folder.0.join("new/copy.ogg");
    // Whoever is honest has sent nothing when the liar has lied.
    let mut held = Some(turn.write().await);
    let mut fetching = store.fetch(&ticket, &copy);
    let mut lied = Vec::new();
    while let Some(item) = patient(fetching.next()).await {
        if let FetchItem::Lied(peer) = item {
            lied.push(peer);
            held = None;
        }
    }
    drop(held);
    let received = patient(fetching).await.unwrap();
    assert_eq!(std::fs::read(&copy).unwrap(), std::fs::read(&path).unwrap());
    assert_eq!(lied, [liar.contact()]);
    let of = |peer: Contact| *received.peers.iter().find(|report| report.peer == peer).unwrap();
    assert_eq!((of(liar.contact()).standing, of(liar.contact()).bytes), (Standing::Liar, 0));
    assert_eq!(of(honest.contact()).bytes, 6_000_001);
    let left: Vec<_> = std::fs::read_dir(copy.parent().unwrap()).unwrap().collect();
    assert_eq!(left.len(), 1, "nothing is left beside it");

    // The fetcher provides now.
    let second = node().await;
    let store = Store::new(spawn(&second));
    honest.shutdown().await;
    let ticket = Ticket::new(shared.root, Kind::File).with([fetcher.contact()]);
    let received = patient(store.fetch(&ticket, &folder.0.join("third.ogg"))).await.unwrap();
    assert_eq!(received.size, 6_000_001);
}

#[tokio::test]
async fn a_folder_comes_with_its_empty_files_and_resumes() {
    let folder = Folder::new();
    folder.file("album/01.ogg", 700_000);
    folder.file("album/live/deep/02.ogg", 20_000);
    folder.file("album/live/empty", 0);
    let (provider, fetcher) = (node().await, node().await);
    let shared = patient(Store::new(spawn(&provider)).share(&folder.0.join("album"))).await.unwrap();
    assert_eq!((shared.kind, shared.files, shared.size), (Kind::Folder, 3, 720_000));

    // A file of it is there already.
    let copy = folder.0.join("copy");
    std::fs::create_dir(&copy).unwrap();
    std::fs::copy(folder.0.join("album/01.ogg"), copy.join("01.ogg")).unwrap();
    let store = Store::new(spawn(&fetcher));
    let ticket = Ticket::new(shared.root, shared.kind).with([provider.contact()]);
    let received = patient(store.fetch(&ticket, &copy)).await.unwrap();
    assert_eq!((received.files, received.size, received.resumed), (3, 720_000, 700_000));
    for name in ["01.ogg", "live/deep/02.ogg", "live/empty"] {
        let (ours, theirs) =
            (std::fs::read(copy.join(name)), std::fs::read(folder.0.join("album").join(name)));
        assert_eq!(ours.unwrap(), theirs.unwrap(), "{name}");
    }
}

#[cfg(unix)]
#[tokio::test]
async fn symbolic_links_are_refused_by_name() {
    let folder = Folder::new();
    folder.file("album/01.ogg", 10);
    let link = folder.0.join("album/link");
    std::os::unix::fs::symlink("/etc/passwd", &link).unwrap();
    let node = node().await;
    let store = Store::new(spawn(&node));
    let refused = patient(store.share(&folder.0.join("album"))).await;
    assert_eq!(refused, Err(ContentError::Store(StoreError::Symlink(link.clone()))));
    assert_eq!(patient(store.share(&link)).await, Err(ContentError::Store(StoreError::Symlink(link))));
    let missing = patient(store.share(Path::new("/no/such/file"))).await;
    assert!(matches!(missing, Err(ContentError::Store(StoreError::Io { .. }))), "{missing:?}");
}
