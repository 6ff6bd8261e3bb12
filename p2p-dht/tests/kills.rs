//! What was acknowledged survives `kill -9`.
//!
//! A process writes batch after batch into a [`RedbStore`] and says when one is done; it is killed at any moment. Then the
//! file holds what all batches leave that were said to be done, and of the one after them all or nothing: the same jobs
//! done in memory say what that is. Twenty kills, or `P2P_KILLS`.
//!
//! The process is this test program itself: it has no harness, and writes if it is told where.
#![allow(missing_docs, reason = "a test")]
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test fails by panicking, and may talk")]
#![allow(clippy::disallowed_types, reason = "a process is killed at any moment")]

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use p2p_core::{Key, Keypair, Rng, SimPeer, Worker};
use p2p_dht::{MemoryStore, Record, RedbStore, Signed, StoreDone, StoreEntry, StoreJob, Writer};

const FILE: &str = "P2P_DHT_TEST_WRITE_TO";
const FROM: &str = "P2P_DHT_TEST_WRITE_FROM";

type Job = StoreJob<SimPeer>;

fn main() {
    if let Ok(file) = std::env::var(FILE) {
        return write(Path::new(&file), std::env::var(FROM).unwrap().parse().unwrap());
    }
    what_was_acknowledged_survives_kill_9();
    println!("test what_was_acknowledged_survives_kill_9 ... ok");
}

/// The jobs of a batch, by its number alone.
fn batch(number: u64) -> Vec<Job> {
    let rng = &mut Rng::stream(number, 9);
    let until = 2_000_000_000;
    // Now and then a large one, which takes long to sync.
    let jobs = if rng.chance(0.1) { 300 } else { 1 + rng.below(30) };
    let job = |_| {
        let publisher = Keypair::from_seed(&[rng.below(20) as u8; 32]);
        let record = match rng.below(10) {
            0..=4 => {
                let mut value = vec![0; rng.index(4000)];
                rng.fill(&mut value);
                Record::Immutable { value: value.into(), expires: until + rng.below(100) }
            }
            5..=7 => Record::Mutable(Signed::new(&publisher, "", number, until, number.to_string()).unwrap()),
            8 => {
                let key = Signed::key_of(&publisher.id(), b"");
                return Job::Disown(p2p_dht::Slot { key, kind: p2p_dht::RecordKind::Mutable });
            }
            _ => Record::Provider {
                key: Key::of(b"film"),
                peer: SimPeer(rng.below(50) as u32),
                expires: until,
            },
        };
        let slot = record.slot();
        match rng.below(8) {
            0 => Job::Remove(slot, record.version()),
            chance => Job::Write { record, slot, by: Writer::Replica, own: chance == 1, account: chance },
        }
    };
    (0..jobs).map(job).collect()
}

/// Writes until it is killed, or the test is gone.
fn write(file: &Path, from: u64) {
    let mut store = RedbStore::open(file).unwrap();
    #[allow(clippy::disallowed_methods, reason = "notices the end of the test beside the work")]
    std::thread::spawn(|| {
        let _ = std::io::stdin().read(&mut [0]);
        std::process::exit(0);
    });
    for number in from.. {
        let done = store.run(batch(number));
        let failed = done.iter().find(|done| match done {
            StoreDone::Written(written) => written.is_err(),
            StoreDone::Removed(removed) => removed.is_err(),
            StoreDone::Read(_) | StoreDone::Scanned(_) => true,
        });
        assert!(failed.is_none(), "{failed:?}");
        println!("{number}");
    }
}

/// All that a worker has.
fn contents(store: &mut impl Worker<Job>) -> Vec<(StoreEntry<SimPeer>, Vec<Record<SimPeer>>)> {
    let scan = Job::Scan { after: None, most: usize::MAX };
    let StoreDone::Scanned(Ok(mut entries)) = store.run(vec![scan]).remove(0) else { panic!("no page") };
    entries.sort_by_key(|entry| entry.slot);
    let reads = entries.iter().map(|entry| Job::Read(vec![entry.slot])).collect();
    let records = store.run(reads).into_iter().map(|done| match done {
        StoreDone::Read(Ok(records)) => records,
        other => panic!("{other:?}"),
    });
    entries.into_iter().zip(records).collect()
}

fn what_was_acknowledged_survives_kill_9() {
    let kills: u64 = std::env::var("P2P_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(20);
    let file = std::env::temp_dir().join(format!("p2p-dht-kills-{}.redb", std::process::id()));
    let mut memory = MemoryStore::default();
    // The next batch that nobody has acknowledged, and that has not been done in memory.
    let (mut next, mut applied) = (0, 0);
    let mut rng = Rng::stream(kills, 1);
    for kill in 1..=kills {
        let mut child = start(&file, next);
        let mut lines = BufReader::new(child.0.stdout.take().unwrap()).lines();
        for _ in 0..rng.below(20) {
            next = said(lines.next(), next).expect("it writes until it is killed");
        }
        let until = Instant::now() + Duration::from_micros(rng.below(5000));
        while Instant::now() < until {
            std::hint::spin_loop();
        }
        child.0.kill().unwrap();
        child.0.wait().unwrap();
        // What it has said by then counts.
        while let Some(after) = said(lines.next(), next) {
            next = after;
        }
        (applied..next).for_each(|number| drop(memory.run(batch(number))));
        let mut store = RedbStore::open(&file).unwrap();
        let there = contents(&mut store);
        if there != contents(&mut memory) {
            memory.run(batch(next));
            assert!(there == contents(&mut memory), "kill {kill}: batches up to {next} were acknowledged");
            next += 1;
        }
        applied = next;
    }
    assert!(next >= kills, "only {next} batches were written");
    println!("{next} batches, {} records at the end", contents(&mut memory).len());
    std::fs::remove_file(file).unwrap();
}

/// A process that is killed by SIGKILL when dropped.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(file: &Path, from: u64) -> Killed {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.env(FILE, file).env(FROM, from.to_string()).stdin(Stdio::piped()).stdout(Stdio::piped());
    Killed(command.spawn().unwrap())
}

/// The number of the batch after the one that a line says is done.
fn said(line: Option<std::io::Result<String>>, expected: u64) -> Option<u64> {
    let line = line?.ok().filter(|line| !line.is_empty())?;
    assert_eq!(line, expected.to_string());
    Some(expected + 1)
}
