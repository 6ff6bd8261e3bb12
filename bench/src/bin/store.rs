//! Records that `RedbStore` keeps durably, beside the same bytes put into redb itself by their key alone.
//!
//! What a store does more: a second table, so that a node that starts need not read values; commits in two phases that
//! save the allocator's state, so that a file that was not closed opens at once; and of two copies it keeps the newer.
//! `cargo run --release -p bench --bin store [records] [bytes] [folder]`: 100,000 values of 200 bytes, the folder `/tmp`.
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::disallowed_types,
    reason = "a program that measures, prints, and may fail loudly"
)]

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use p2p_core::{SimPeer, Worker};
use p2p_dht::{MemoryStore, Record, RedbStore, Slot, StoreDone, StoreJob, Writer};
use redb::{Database, TableDefinition};

const RAW: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("raw");

fn main() {
    let mut args = std::env::args().skip(1);
    let records: usize = args.next().map_or(100_000, |n| n.parse().unwrap());
    let bytes: usize = args.next().map_or(200, |n| n.parse().unwrap());
    let folder = PathBuf::from(args.next().unwrap_or_else(|| "/tmp".into()));
    println!("{records} values of {bytes} bytes, in {}", folder.display());
    for batch in [1, 256, 10_000] {
        // Single commits take long.
        let records = if batch == 1 { records.min(2000) } else { records };
        let values: Vec<Vec<u8>> = (0..records).map(|i| value(i, bytes)).collect();
        let raw = raw(&folder, &values, batch);
        let (store, opened, scanned, read) = store(&folder, &values, batch);
        let memory = write(&mut MemoryStore::default(), &jobs(&values), batch);
        let rate = |took: Duration| records as f64 / took.as_secs_f64();
        println!(
            "batches of {batch}: RedbStore {:.0} puts/s, redb {:.0}, MemoryStore {:.0}; not closed and opened in \
             {opened:?}, scanned in {scanned:?}, {:.0} reads/s",
            rate(store),
            rate(raw),
            rate(memory),
            rate(read),
        );
    }
}

fn value(i: usize, bytes: usize) -> Vec<u8> {
    let mut value = i.to_be_bytes().to_vec();
    value.resize(bytes.max(8), i as u8);
    value
}

fn jobs(values: &[Vec<u8>]) -> Vec<(Slot<SimPeer>, StoreJob<SimPeer>)> {
    let job = |value: &Vec<u8>| {
        let record = Record::Immutable { value: value.clone().into(), expires: 2_000_000_000 };
        let slot = record.slot();
        (slot, StoreJob::Write { record, slot, by: Writer::Replica, own: false, account: 0 })
    };
    values.iter().map(job).collect()
}

fn write(
    store: &mut impl Worker<StoreJob<SimPeer>>,
    jobs: &[(Slot<SimPeer>, StoreJob<SimPeer>)],
    batch: usize,
) -> Duration {
    let batches: Vec<Vec<_>> =
        jobs.chunks(batch).map(|jobs| jobs.iter().map(|(_, job)| job.clone()).collect()).collect();
    let began = Instant::now();
    for batch in batches {
        let done = store.run(batch);
        assert!(done.iter().all(|done| matches!(done, StoreDone::Written(Ok(_)))));
    }
    began.elapsed()
}

/// How long it takes to write, to open the file again that was not closed, to look through it, and to read all.
fn store(folder: &Path, values: &[Vec<u8>], batch: usize) -> (Duration, Duration, Duration, Duration) {
    let path = folder.join(format!("p2p-bench-store-{}.redb", std::process::id()));
    let jobs = jobs(values);
    let mut store = RedbStore::open(&path).unwrap();
    let took = write(&mut store, &jobs, batch);
    // As a process leaves it that is killed.
    let left = path.with_extension("left");
    std::fs::copy(&path, &left).unwrap();
    drop(store);
    let began = Instant::now();
    let mut store = RedbStore::<SimPeer>::open(&left).unwrap();
    let opened = began.elapsed();
    let (began, mut after, mut there) = (Instant::now(), None, 0);
    loop {
        let StoreDone::Scanned(Ok(page)) = store.run(vec![StoreJob::Scan { after, most: 1024 }]).remove(0)
        else {
            panic!("no page")
        };
        there += page.len();
        match page.last() {
            Some(last) if page.len() == 1024 => after = Some(last.slot),
            _ => break,
        }
    }
    let scanned = began.elapsed();
    assert_eq!(there, values.len());
    let began = Instant::now();
    for batch in jobs.chunks(batch) {
        let reads = batch.iter().map(|(slot, _)| StoreJob::Read(vec![*slot])).collect();
        let done = store.run(reads);
        assert!(done.iter().all(|done| matches!(done, StoreDone::Read(Ok(records)) if records.len() == 1)));
    }
    let read = began.elapsed();
    drop(store);
    [path, left].iter().for_each(|path| std::fs::remove_file(path).unwrap());
    (took, opened, scanned, read)
}

fn raw(folder: &Path, values: &[Vec<u8>], batch: usize) -> Duration {
    let path = folder.join(format!("p2p-bench-raw-{}.redb", std::process::id()));
    let database = Database::create(&path).unwrap();
    let keyed: Vec<_> = values.iter().map(|value| (p2p_core::Key::<32>::of(value), value)).collect();
    let began = Instant::now();
    for batch in keyed.chunks(batch) {
        let transaction = database.begin_write().unwrap();
        let mut table = transaction.open_table(RAW).unwrap();
        for (key, value) in batch {
            table.insert(key.as_bytes().as_slice(), value.as_slice()).unwrap();
        }
        drop(table);
        transaction.commit().unwrap();
    }
    let took = began.elapsed();
    drop(database);
    std::fs::remove_file(path).unwrap();
    took
}
