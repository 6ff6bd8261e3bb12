//! Our node of the Mainline DHT with nodes of the `mainline` crate and with libtorrent's: each joins through the other,
//! announces and finds peers, puts and gets items. Everything is on 127.0.0.1.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::disallowed_types, reason = "what is waited for has a bound")]

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use futures::StreamExt;
use mainline::async_dht::AsyncDht;
use mainline::{Dht, Id, SigningKey, Testnet};
use p2p_core::net::udp::{self, Running};
use p2p_core::{Key, Keypair, Limits, NoWorker};
use p2p_dht::bencode;
use p2p_dht::mainline::{
    Announce, FindNode, GetImmutable, GetMutable, GetPeers, KrpcCodec, Mainline, MainlineConfig, MutableItem,
    PutImmutable, PutMutable,
};
use tokio::time::timeout;

type Node = Running<Mainline<SocketAddr>>;

const PATIENCE: Duration = Duration::from_secs(60);

async fn node(bootstrap: Vec<SocketAddr>) -> Node {
    let machine = Mainline::new(MainlineConfig { bootstrap, ..MainlineConfig::live() });
    let here = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    udp::spawn(machine, KrpcCodec, here, Limits::default(), [] as [NoWorker; 0]).await.unwrap()
}

/// Waits until a node knows somebody.
async fn joined(node: &Node) {
    let known =
        async || node.handle().ask(FindNode(Key::ZERO)).await.unwrap().is_ok_and(|nodes| !nodes.is_empty());
    eventually("a node joins", async || known().await.then_some(())).await;
}

/// Tries until there is something. Each attempt waits for packets.
async fn eventually<T>(what: &str, attempt: impl AsyncFn() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = attempt().await {
            return found;
        }
        assert!(Instant::now() < end, "{what}: not within {PATIENCE:?}");
    }
}

async fn patient<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("{what}: not within {PATIENCE:?}"))
}

fn key(byte: u8) -> Key<20> {
    Key::new([byte; 20])
}

fn id(key: Key<20>) -> Id {
    Id::from_bytes(key.as_bytes()).unwrap()
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

/// The first peers that a node of theirs finds.
async fn their_peers(dht: &AsyncDht, torrent: Key<20>) -> Option<Vec<SocketAddr>> {
    let peers = timeout(Duration::from_secs(10), dht.get_peers(id(torrent)).next()).await.ok()??;
    Some(peers.into_iter().map(SocketAddr::from).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_mainline_crates_nodes_and_ours_are_one_network() {
    let testnet = tokio::task::spawn_blocking(|| Testnet::builder(10).build().unwrap()).await.unwrap();
    let bootstrap: Vec<SocketAddr> = testnet.bootstrap.iter().map(|addr| addr.parse().unwrap()).collect();
    let ours = node(bootstrap).await;
    joined(&ours).await;
    // One of theirs that knows nobody but ours.
    let ours_at = ours.local_addr().unwrap();
    let theirs =
        Dht::builder().bootstrap(&[ours_at]).bind_address(Ipv4Addr::LOCALHOST).server_mode().build().unwrap();
    let theirs = theirs.as_async();
    assert!(patient("theirs joins through ours", theirs.bootstrapped()).await);
    let found = patient("theirs finds nodes", theirs.find_node(id(key(9)))).await;
    assert!(found.len() >= 8, "{} nodes", found.len());

    // Peers.
    let stored = ours.handle().ask(Announce { info_hash: key(1), port: Some(1001) }).await.unwrap().unwrap();
    assert!(stored.nodes >= 8, "{stored:?}");
    assert_eq!(their_peers(&theirs, key(1)).await, Some(vec![loopback(1001)]));
    patient("theirs announces", theirs.announce_peer(id(key(2)), Some(1002))).await.unwrap();
    assert_eq!(ours.handle().ask(GetPeers(key(2))).await.unwrap().unwrap(), [loopback(1002)]);

    // Values under their hash.
    let stored = ours.handle().ask(PutImmutable(bencode::bytes("of ours").into())).await.unwrap().unwrap();
    let value = patient("theirs gets", theirs.get_immutable(id(stored.target))).await;
    assert_eq!(value.as_deref(), Some(b"of ours".as_slice()));
    let target = patient("theirs puts", theirs.put_immutable(b"of theirs")).await.unwrap();
    let target = Key::new(*target.as_bytes());
    assert_eq!(ours.handle().ask(GetImmutable(target)).await.unwrap().unwrap(), bencode::bytes("of theirs"));

    // Signed values, which each side replaces in turn.
    let keypair = Keypair::from_seed(&[7; 32]);
    let public = keypair.id();
    let sign = |sequence: i64, value: &str| {
        MutableItem::new(&keypair, "salt", sequence, bencode::bytes(value)).unwrap()
    };
    let first = PutMutable { item: sign(1, "one"), cas: None };
    ours.handle().ask(first).await.unwrap().unwrap();
    let read = patient("theirs reads", theirs.get_mutable_most_recent(public.as_bytes(), Some(b"salt")))
        .await
        .unwrap();
    assert_eq!((read.seq(), read.value()), (1, b"one".as_slice()));
    let item = mainline::MutableItem::new(SigningKey::from_bytes(&[7; 32]), b"two", 2, Some(b"salt"));
    patient("theirs replaces", theirs.put_mutable(item, Some(1))).await.unwrap();
    let read = GetMutable { publisher: public, salt: "salt".into() };
    let read = ours.handle().ask(read).await.unwrap().unwrap();
    assert_eq!((read.sequence(), read.bytes()), (2, Some(b"two".as_slice())));
    let outdated = PutMutable { item: sign(3, "three"), cas: Some(1) };
    assert!(ours.handle().ask(outdated).await.unwrap().is_err(), "they keep the second");
    let third = PutMutable { item: sign(3, "three"), cas: Some(2) };
    ours.handle().ask(third).await.unwrap().unwrap();
    let read = patient("theirs reads", theirs.get_mutable_most_recent(public.as_bytes(), Some(b"salt")))
        .await
        .unwrap();
    assert_eq!((read.seq(), read.value()), (3, b"three".as_slice()));
    ours.shutdown().await;
}

/// A process with a libtorrent session; ended when dropped.
struct Libtorrent {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    addr: SocketAddr,
}

impl Libtorrent {
    fn start(bootstrap: Option<SocketAddr>) -> Libtorrent {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/libtorrent_dht.py");
        let mut command = Command::new("python3");
        command.arg(script).args(bootstrap.map(|addr| addr.to_string()));
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut child = child.expect("python3 is missing: run interop/setup");
        let (input, output) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        let mut session = Libtorrent { child, input, output, addr: loopback(0) };
        session.addr = loopback(session.reads("port").parse().unwrap());
        session
    }

    /// What follows a word in the next line.
    fn reads(&mut self, word: &str) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        let said = line.trim_end().strip_prefix(word);
        said.expect("libtorrent is missing, or its script has failed: run interop/setup").trim().to_owned()
    }

    fn asked(&mut self, question: &str, word: &str) -> String {
        writeln!(self.input, "{question}").unwrap();
        self.reads(word)
    }

    /// Puts something until at least one node has taken it: what libtorrent says first of what it has put.
    fn puts(&mut self, question: &str) -> String {
        let end = Instant::now() + PATIENCE;
        loop {
            let said = self.asked(question, "put");
            let (what, stored) = said.split_once(' ').unwrap();
            if stored != "0" {
                return what.to_owned();
            }
            assert!(Instant::now() < end, "{question}: nobody takes it");
        }
    }
}

impl Drop for Libtorrent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn libtorrents_nodes_and_ours_are_one_network() {
    // Ours is the first; two of theirs join through it, and another of ours through one of theirs.
    let first = node(Vec::new()).await;
    let mut a = Libtorrent::start(first.local_addr());
    let mut b = Libtorrent::start(first.local_addr());
    let ours = node(vec![a.addr]).await;
    joined(&ours).await;
    joined(&first).await;

    // Peers.
    let torrent = key(0x21);
    a.asked(&format!("announce {torrent} 2001"), "announced");
    let found =
        eventually("ours finds", async || ours.handle().ask(GetPeers(torrent)).await.unwrap().ok()).await;
    assert_eq!(found, [loopback(2001)]);
    let torrent = key(0x42);
    let stored = ours.handle().ask(Announce { info_hash: torrent, port: Some(2002) }).await.unwrap().unwrap();
    assert!(stored.nodes >= 2, "{stored:?}");
    assert_eq!(b.asked(&format!("peers {torrent}"), "peers"), loopback(2002).to_string());

    // Values under their hash.
    let target: Key<20> = a.puts("put_immutable of-theirs").parse().unwrap();
    assert_eq!(ours.handle().ask(GetImmutable(target)).await.unwrap().unwrap(), bencode::bytes("of-theirs"));
    let stored = ours.handle().ask(PutImmutable(bencode::bytes("of-ours").into())).await.unwrap().unwrap();
    assert_eq!(b.asked(&format!("get_immutable {}", stored.target), "value"), "of-ours");

    // Signed values, which each side replaces in turn.
    let (seed, keypair) = ([7; 32], Keypair::from_seed(&[7; 32]));
    let (seed, public) = (hex(&seed), hex(keypair.id().as_bytes()));
    let read = || GetMutable { publisher: keypair.id(), salt: "salt".into() };
    assert_eq!(a.puts(&format!("put_mutable {seed} {public} one salt")), "1");
    let found = ours.handle().ask(read()).await.unwrap().unwrap();
    assert_eq!((found.sequence(), found.bytes()), (1, Some(b"one".as_slice())));
    let second = MutableItem::new(&keypair, "salt", 2, bencode::bytes("two")).unwrap();
    ours.handle().ask(PutMutable { item: second, cas: Some(1) }).await.unwrap().unwrap();
    assert_eq!(b.asked(&format!("get_mutable {public} salt"), "value"), "2 two");
    assert_eq!(a.puts(&format!("put_mutable {seed} {public} three salt")), "3");
    let found = first.handle().ask(read()).await.unwrap().unwrap();
    assert_eq!((found.sequence(), found.bytes()), (3, Some(b"three".as_slice())));
    let outdated = MutableItem::new(&keypair, "salt", 4, bencode::bytes("four")).unwrap();
    assert!(ours.handle().ask(PutMutable { item: outdated, cas: Some(2) }).await.unwrap().is_err());
    ours.shutdown().await;
    first.shutdown().await;
}
