//! `tour`: real QUIC nodes in one process find each other, look keys up, move a file and survive deaths.
//!
//! ```sh
//! cargo run --release --bin tour
//! cargo run --release --bin tour -- --nodes 32 --file some.iso
//! ```
//!
//! It exits with status 0 only if every step checked out.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program talks on the terminal")]
#![expect(clippy::disallowed_types, reason = "a program has a clock")]

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use bytes::Bytes;
use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use p2p_core::net::{Node, RecvStream, SendStream};
use p2p_core::{Contact, Handle, Key, Keyed};
use p2p_overlay::{Chord, ChordConfig, Find, Lookup, LookupConfig};
use tokio::io::AsyncReadExt;
use tokio::sync::mpsc;
use tokio::time::timeout;

/// Takes real QUIC nodes through every layer there is, on loopback, and checks each step.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// The file to move; 256 MiB of noise otherwise.
    #[arg(long)]
    file: Option<PathBuf>,
    /// How many nodes.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u16).range(4..=256))]
    nodes: u16,
}

/// A node and its place in the ring.
struct Member {
    node: Node,
    chord: Handle<Chord<Contact>>,
}

type Outcome<T = String> = Result<T, Box<dyn Error + Send + Sync>>;

/// How long any step may take.
const PATIENCE: Duration = Duration::from_secs(120);

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    let mut report = Report::default();
    match tour(&args, &mut report).await {
        Ok(()) => {
            report.print();
            ExitCode::SUCCESS
        }
        Err(error) => {
            report.print();
            eprintln!("tour: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn tour(args: &Args, report: &mut Report) -> Outcome<()> {
    let mut ring = report.step("boot", boot(args.nodes)).await?;
    report.step("join", settle(&ring)).await?;
    report.step("lookup", look_up(&ring)).await?;
    report.step("file", move_file(&ring, args.file.clone())).await?;
    let dead = usize::from(args.nodes) / 4;
    ring.drain(..dead).for_each(drop);
    report.step("deaths", settle(&ring)).await?;
    report.step("lookup again", look_up(&ring)).await?;
    futures::future::join_all(ring.iter().map(|member| member.node.shutdown())).await;
    Ok(())
}

/// Starts the nodes; each runs Chord and knows the first one.
async fn boot(nodes: u16) -> Outcome<(Vec<Member>, String)> {
    let lookup = LookupConfig { timeout: Duration::from_secs(3), ..LookupConfig::default() };
    let stabilize = Duration::from_millis(200);
    let config = ChordConfig { stabilize, fingers: 4, lookup, ..ChordConfig::default() };
    let mut ring: Vec<Member> = Vec::new();
    for _ in 0..nodes {
        let node = Node::builder().bind("127.0.0.1:0").await?;
        let first = ring.first().map(|first| first.node.contact());
        let chord = node.spawn("chord/1", Chord::with(node.contact(), first, config))?;
        ring.push(Member { node, chord });
    }
    let said = format!(
        "{nodes} nodes, each with its own key and UDP port, the first at {}",
        ring[0].node.contact().addr
    );
    Ok((ring, said))
}

/// Who owns a key, by a look at all nodes.
fn owner(ring: &[Member], key: &Key) -> Option<Contact> {
    ring.iter().map(|member| member.node.contact()).min_by_key(|contact| key.distance(&contact.key()))
}

/// Waits until every node knows its true neighbours: it finds that the key after its own is its successor's, and that
/// its predecessor's key is not its own.
async fn settle(ring: &[Member]) -> Outcome<((), String)> {
    let bar = bar(ring.len() as u64, "{msg:>14} {bar:30} {pos}/{len} nodes");
    bar.set_message("settling");
    let mut asked = 0;
    for member in ring {
        let me = member.node.contact().key();
        let keys = ring.iter().map(|other| other.node.contact().key());
        let before = keys.filter(|key| *key != me).min_by_key(|key| key.distance(&me)).unwrap_or(me);
        let after = me.wrapping_add(&Key::power_of_two(0));
        for key in [before, after] {
            loop {
                asked += 1;
                let found = member.chord.lookup(Find::key(key)).await;
                if found.is_ok_and(|found| Some(found.root()) == owner(ring, &key)) {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(((), format!("a ring of {} after {asked} questions", ring.len())))
}

/// Every node looks keys up; all answers must be the true owners.
async fn look_up(ring: &[Member]) -> Outcome<((), String)> {
    let (mut hops, mut asked) = (0, 0u32);
    for (i, member) in ring.iter().enumerate() {
        for j in 0..8 {
            let key = Key::of(format!("song {i}.{j}").as_bytes());
            let found = member.chord.lookup(Find::key(key)).await?;
            if Some(found.root()) != owner(ring, &key) {
                return Err(
                    format!("node {i} was told that {:?} owns {key:?}: it does not", found.root()).into()
                );
            }
            hops += found.hops;
            asked += 1;
        }
    }
    Ok(((), format!("{asked} lookups, all right, {:.1} hops each", f64::from(hops) / f64::from(asked))))
}

/// One node sends another a file over a stream of its own; the receiver's BLAKE3 must be the sender's.
async fn move_file(ring: &[Member], file: Option<PathBuf>) -> Outcome<((), String)> {
    let (from, to) = (&ring[0].node, &ring[ring.len() - 1].node);
    let (done, mut hashes) = mpsc::channel(1);
    to.serve_streams("file/1", move |_, send, recv| {
        let done = done.clone();
        async move {
            let _ = done.send(receive(send, recv).await).await;
        }
    })?;
    let size = match &file {
        Some(path) => {
            tokio::fs::metadata(path).await.map_err(|error| format!("{}: {error}", path.display()))?.len()
        }
        None => 256 << 20,
    };
    let bar = bar(size, "{msg:>14} {bar:30} {bytes}/{total_bytes} at {bytes_per_sec}");
    bar.set_message("moving");
    let (mut send, mut recv) = from.open(to.contact(), "file/1").await?;
    let clock = Instant::now();
    let mut hasher = blake3::Hasher::new();
    let mut source = Source::open(file).await?;
    while let Some(chunk) = source.next().await? {
        hasher.update(&chunk);
        bar.inc(chunk.len() as u64);
        send.write_chunk(chunk).await?;
    }
    send.finish()?;
    let theirs = recv.read_to_end(32).await?;
    let seconds = clock.elapsed().as_secs_f64();
    bar.finish_and_clear();
    let received = hashes.recv().await.ok_or("the receiver is gone")??;
    let hash = hasher.finalize();
    if received != hash || theirs != hash.as_bytes()[..] {
        return Err("the file did not arrive as it was sent".into());
    }
    let rate = size as f64 / 1e6 / seconds;
    Ok(((), format!("{:.0} MB, byte for byte, {rate:.0} MB/s", size as f64 / 1e6)))
}

/// Takes a file in, and answers with its hash.
async fn receive(mut send: SendStream, mut recv: RecvStream) -> Outcome<blake3::Hash> {
    let mut hasher = blake3::Hasher::new();
    while let Some(chunk) = recv.read_chunk(1 << 20).await? {
        hasher.update(&chunk);
    }
    let hash = hasher.finalize();
    send.write(hash.as_bytes()).await?;
    send.finish()?;
    Ok(hash)
}

/// What is sent: a file, or noise.
enum Source {
    File(tokio::fs::File),
    Noise { rng: p2p_core::Rng, left: u64 },
}

impl Source {
    async fn open(file: Option<PathBuf>) -> Outcome<Source> {
        match file {
            Some(path) => Ok(Source::File(tokio::fs::File::open(path).await?)),
            None => Ok(Source::Noise { rng: p2p_core::Rng::new(7), left: 256 << 20 }),
        }
    }

    async fn next(&mut self) -> Outcome<Option<Bytes>> {
        const CHUNK: usize = 256 << 10;
        let mut chunk = vec![0; CHUNK];
        match self {
            Source::File(file) => {
                let n = file.read(&mut chunk).await?;
                chunk.truncate(n);
            }
            Source::Noise { rng, left } => {
                let n = CHUNK.min(usize::try_from(*left)?);
                chunk.truncate(n);
                rng.fill(&mut chunk);
                *left -= n as u64;
            }
        }
        Ok((!chunk.is_empty()).then(|| chunk.into()))
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
