//! Both workers do the same; and a file survives what a disk does to it.

use p2p_core::sim::{SimFile, run_seeds};
use p2p_core::{JobError, Key, Keypair, Rng, SimPeer, Worker};

use super::*;
use crate::custom::Custom;
use crate::record::Signed;

type Job = StoreJob<SimPeer>;

/// A job among few slots, so that they meet.
fn job(rng: &mut Rng, known: &[Slot<SimPeer>]) -> Job {
    let some = |rng: &mut Rng| {
        let nothing = Slot { key: Key::ZERO, kind: RecordKind::Immutable };
        rng.choose(known).copied().unwrap_or(nothing)
    };
    match rng.below(10) {
        0..=5 => {
            let record = record(rng);
            let by = match rng.below(3) {
                0 => Writer::Replica,
                1 => Writer::Publisher { expected: None },
                _ => Writer::Publisher { expected: Some(rng.below(4)) },
            };
            Job::Write { slot: record.slot(), record, by, own: rng.chance(0.2), account: rng.below(3) }
        }
        6 => Job::Read((0..rng.below(4)).map(|_| some(rng)).collect()),
        7 => Job::Disown(some(rng)),
        8 => Job::Remove(some(rng), Version { expires: 1000 + rng.below(8), ..Version::default() }),
        _ => Job::Scan { after: rng.chance(0.5).then(|| some(rng)), most: usize::MAX },
    }
}

fn record(rng: &mut Rng) -> Record<SimPeer> {
    let expires = 1000 + rng.below(8);
    match rng.below(7) {
        2 => {
            let (key, secret) = (Key::of(&[rng.below(2) as u8]), [rng.below(2) as u8; 32]);
            Record::Removable { key, value: vec![1; rng.index(3)].into(), owner: Key::of(&secret), expires }
        }
        3 => {
            let (key, secret) = (Key::of(&[rng.below(2) as u8]), [rng.below(2) as u8; 32]);
            Record::Removed { key, secret, value: Key::of(&vec![1; rng.index(3)]), expires }
        }
        0 => {
            let publisher = Keypair::from_seed(&[rng.below(3) as u8; 32]);
            let value = vec![rng.below(2) as u8; rng.index(300)];
            Record::Mutable(Signed::new(&publisher, "", rng.below(5), expires, value).expect("it fits"))
        }
        1 => {
            let (key, peer) = (Key::of(&[rng.below(2) as u8]), SimPeer(rng.below(4) as u32));
            Record::Provider { key, peer, expires }
        }
        4 => {
            let [namespace, key] = [0, 1].map(|_| Key::of(&[rng.below(2) as u8]));
            let (sequence, value) = (rng.below(4), vec![rng.below(2) as u8; rng.index(300)].into());
            Record::Custom(Custom { namespace, key, sequence, value, expires })
        }
        _ => Record::Immutable { value: vec![7; rng.index(30) * 300].into(), expires },
    }
}

fn batch(rng: &mut Rng, known: &mut Vec<Slot<SimPeer>>) -> Vec<Job> {
    let jobs = (0..1 + rng.below(20)).map(|_| {
        let job = job(rng, known);
        if let Job::Write { slot, .. } = &job {
            known.push(*slot);
        }
        job
    });
    jobs.collect()
}

/// What came of some jobs, pages sorted: each worker has an order of its own.
fn said(done: Vec<StoreDone<SimPeer>>) -> Vec<String> {
    let one = |done| match done {
        StoreDone::Scanned(Ok(mut page)) => {
            page.sort_by_key(|entry| entry.slot);
            format!("{page:?}")
        }
        other => format!("{other:?}"),
    };
    done.into_iter().map(one).collect()
}

/// All that a worker has, a few at a time.
fn contents(worker: &mut impl Worker<Job>) -> Vec<(StoreEntry<SimPeer>, Vec<Record<SimPeer>>)> {
    let (mut contents, mut after) = (Vec::new(), None);
    loop {
        let StoreDone::Scanned(Ok(page)) = worker.run(vec![Job::Scan { after, most: 3 }]).remove(0) else {
            panic!("no page")
        };
        for entry in &page {
            let read = worker.run(vec![Job::Read(vec![entry.slot])]).remove(0);
            let StoreDone::Read(Ok(records)) = read else { panic!("{read:?}") };
            contents.push((*entry, records));
        }
        match page.last() {
            Some(last) if page.len() == 3 => after = Some(last.slot),
            _ => break,
        }
    }
    contents.sort_by_key(|(entry, _)| entry.slot);
    contents
}

#[test]
fn a_file_keeps_what_memory_would() {
    run_seeds(10, |seed| {
        let mut rng = Rng::stream(seed, 5);
        let mut memory = MemoryStore::default();
        let mut file = RedbStore::on(SimFile::default()).expect("a new file");
        let mut known = Vec::new();
        for _ in 0..30 {
            let mut batch = batch(&mut rng, &mut known);
            // Where a page begins says nothing to the other worker.
            let orders = |job: &Job| matches!(job, Job::Scan { after: Some(_), .. });
            batch.retain(|job| !orders(job));
            assert_eq!(said(memory.run(batch.clone())), said(file.run(batch)));
        }
        let contents = contents(&mut file);
        assert!(contents.len() > 10, "only {} records", contents.len());
        assert_eq!(contents, self::contents(&mut memory));
    });
}

/// Power fails between any two sectors, and of those not synced any may be missing: what was reported is there, and the
/// batch of which nobody was told is there as a whole or not at all.
#[test]
fn power_failures_lose_nothing_that_was_reported() {
    run_seeds(6, |seed| {
        let mut rng = Rng::stream(seed, 6);
        let mut memory = MemoryStore::default();
        let mut file = RedbStore::on(SimFile::default()).expect("a new file");
        let mut known = Vec::new();
        let (mut kept, mut lost) = (0, 0);
        for _ in 0..40 {
            for _ in 0..rng.below(3) {
                let batch = batch(&mut rng, &mut known);
                memory.run(batch.clone());
                file.run(batch);
            }
            let batch = batch(&mut rng, &mut known);
            file.crash(batch.clone(), &mut rng);
            let there = contents(&mut file);
            if there != contents(&mut memory) {
                memory.run(batch);
                assert_eq!(there, contents(&mut memory), "neither without the last batch nor with all of it");
                kept += 1;
            } else {
                lost += 1;
            }
        }
        assert!(kept > 0 && lost > 0, "{kept} batches were kept, {lost} lost");
    });
}

/// What comes of records that one after the other are written by publishers: the version that is there then.
fn published(records: impl IntoIterator<Item = Record<SimPeer>>) -> Vec<Result<Version, WriteError>> {
    let mut store = MemoryStore::default();
    let by = Writer::Publisher { expected: None };
    let write = |record: Record<SimPeer>| {
        let job = Job::Write { slot: record.slot(), record, by, own: false, account: 0 };
        match store.run(vec![job]).remove(0) {
            StoreDone::Written(written) => written.map(|entry| entry.version),
            other => panic!("{other:?}"),
        }
    };
    records.into_iter().map(write).collect()
}

/// Else whoever has kept the older one could store it again when the newer has ended.
#[test]
fn nothing_ends_before_what_it_replaces() {
    let publisher = Keypair::from_seed(&[1; 32]);
    let signed = |sequence, expires| {
        Record::<SimPeer>::Mutable(Signed::new(&publisher, "", sequence, expires, "value").expect("it fits"))
    };
    let records = [signed(1, 100), signed(2, 99), signed(2, 100), signed(4, 200), signed(3, 150)];
    let versions = records.clone().map(|record| record.version());
    let said = published(records.clone());
    assert_eq!(
        said,
        [
            Ok(versions[0]),
            Err(WriteError::EndsBefore),
            Ok(versions[2]),
            Ok(versions[3]),
            Err(WriteError::Conflict(4))
        ]
    );
    // What another replica has taken all take: they agree.
    let mut store = MemoryStore::default();
    for record in &records[..2] {
        let (slot, by) = (record.slot(), Writer::Replica);
        let job = Job::Write { slot, record: record.clone(), by, own: false, account: 0 };
        assert!(is_written(&store.run(vec![job])[0]));
    }
    let (key, secret) = (Key::of(b"guests"), [1; 32]);
    let put = Record::Removable { key, value: "ada".into(), owner: Key::of(&secret), expires: 100 };
    let removal = |expires| Record::Removed { key, secret, value: Key::of(b"ada"), expires };
    let said = published([put, removal(99), removal(100), removal(99)]);
    assert_eq!(said[1], Err(WriteError::EndsBefore));
    assert_eq!((said[2], said[3]), (Ok(removal(100).version()), Ok(removal(100).version())));
}

/// A secret's hash is public: what somebody else puts with it takes no other value's place, however late it ends, and a removal
/// is that of one value.
#[test]
fn values_of_one_owner_lie_beside_one_another() {
    let (key, owner) = (Key::of(b"guests"), Key::of(&[1; 32]));
    let put = |value: &'static str, expires| Record::<SimPeer>::Removable {
        key,
        value: value.into(),
        owner,
        expires,
    };
    let removal = Record::Removed { key, secret: [1; 32], value: Key::of(b"bob"), expires: 200 };
    let slots = [put("ada", 100), put("bob", 200), put("ada", 200), removal].map(|record| record.slot());
    assert_ne!(slots[0], slots[1]);
    assert_eq!((slots[2], slots[3]), (slots[0], slots[1]));
    // The same value again is there, and lasts.
    let said = published([put("ada", 100), put("ada", 99), put("ada", 101)]);
    assert_eq!(said[1], Ok(put("ada", 100).version()));
    assert_eq!(said[2], Ok(put("ada", 101).version()));
}

fn value(i: u8) -> Record<SimPeer> {
    Record::Immutable { value: vec![i; 3000].into(), expires: 1000 }
}

fn write(i: u8) -> Job {
    let record = value(i);
    Job::Write { slot: record.slot(), record, by: Writer::Replica, own: false, account: 0 }
}

fn read(of: impl IntoIterator<Item = u8>) -> Job {
    Job::Read(of.into_iter().map(|i| value(i).slot()).collect())
}

fn is_written(done: &StoreDone<SimPeer>) -> bool {
    matches!(done, StoreDone::Written(Ok(_)))
}

fn is_refused(done: &StoreDone<SimPeer>) -> bool {
    matches!(done, StoreDone::Written(Err(WriteError::Failed(JobError::Storage))))
}

#[test]
fn a_disk_that_fails_is_a_job_that_fails_and_once_it_works_so_does_the_store() {
    for changes in [0, 1, 3, 20] {
        let disk = SimFile::default();
        let mut file = RedbStore::on(disk.clone()).expect("a new file");
        assert!(is_written(&file.run(vec![write(1)])[0]));
        disk.fail_after(changes);
        let done = file.run(vec![write(2), read([1]), write(3)]);
        assert!(is_refused(&done[0]) && is_refused(&done[2]), "{done:?}");
        assert!(is_refused(&file.run(vec![write(2)])[0]), "still");
        disk.mend();
        assert!(is_written(&file.run(vec![write(2)])[0]), "it works again");
        let done = file.run(vec![read(1..4)]).remove(0);
        let there = [value(1), value(2)];
        assert!(matches!(&done, StoreDone::Read(Ok(records)) if *records == there), "{done:?}");
    }
}

/// A file that cannot become longer.
#[derive(Clone, Debug)]
struct Full(SimFile, std::sync::Arc<std::sync::atomic::AtomicBool>);

impl ::redb::StorageBackend for Full {
    fn len(&self) -> std::io::Result<u64> {
        Ok(self.0.len() as u64)
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> std::io::Result<()> {
        self.0.read(offset as usize, out)
    }
    fn set_len(&self, len: u64) -> std::io::Result<()> {
        match self.1.load(std::sync::atomic::Ordering::Relaxed) && len as usize > self.0.len() {
            true => Err(std::io::ErrorKind::StorageFull.into()),
            false => self.0.set_len(len as usize),
        }
    }
    fn sync_data(&self) -> std::io::Result<()> {
        self.0.sync()
    }
    fn write(&self, offset: u64, data: &[u8]) -> std::io::Result<()> {
        self.0.write(offset as usize, data)
    }
}

#[test]
fn a_full_disk_takes_no_more_and_is_read_all_the_same() {
    let full = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let disk = Full(SimFile::default(), full.clone());
    let open = move || ::redb::Builder::new().create_with_backend(disk.clone());
    let mut file = RedbStore::<SimPeer>::opened_by(open).expect("a new file");
    let is_full = |on: bool| full.store(on, std::sync::atomic::Ordering::Relaxed);
    is_full(true);
    let taken = (0..200).take_while(|i| is_written(&file.run(vec![write(*i), write(*i)])[0])).count() as u8;
    assert!((1..200).contains(&taken), "{taken} were written into a file that does not grow");
    for _ in 0..2 {
        let done = file.run(vec![write(201), read([0, taken - 1, 201])]);
        assert!(is_refused(&done[0]), "{done:?}");
        let there = [value(0), value(taken - 1)];
        assert!(matches!(&done[1], StoreDone::Read(Ok(records)) if *records == there), "{done:?}");
    }
    is_full(false);
    assert!(is_written(&file.run(vec![write(201)])[0]), "there is room again");
}

#[test]
fn a_file_in_use_and_a_file_of_something_else_are_refused_by_name() {
    let folder = std::env::temp_dir().join(format!("p2p-dht-store-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let path = folder.join("records.redb");
    let open = || RedbStore::<SimPeer>::open(&path);
    let first = open().expect("a new file");
    let error = open().expect_err("in use");
    assert!(matches!(error, StoreError::InUse { .. }), "{error}");
    assert!(error.to_string().contains("records.redb is in use"), "{error}");
    drop(first);
    drop(open().expect("free again"));
    std::fs::write(&path, "nonsense that is long enough to be looked at ".repeat(200)).expect("written");
    let error = open().expect_err("no store of records");
    assert!(matches!(error, StoreError::Failed { .. }), "{error}");
    std::fs::remove_dir_all(folder).expect("removed");
}

#[test]
fn a_contact_that_has_moved_is_the_same_provider() {
    use p2p_core::Contact;
    let at = |port| Contact::new(Keypair::from_seed(&[1; 32]).id(), ([127, 0, 0, 1], port).into());
    let key = Key::of(b"a film");
    let write = |port, expires| {
        let record = Record::Provider { key, peer: at(port), expires };
        StoreJob::Write { slot: record.slot(), record, by: Writer::Replica, own: false, account: 0 }
    };
    let mut file = RedbStore::on(SimFile::default()).expect("a new file");
    file.run(vec![write(1, 1000), write(2, 1001)]);
    let scanned = file.run(vec![StoreJob::Scan { after: None, most: 9 }]).remove(0);
    let StoreDone::Scanned(Ok(page)) = scanned else { panic!("{scanned:?}") };
    let [entry] = page[..] else { panic!("{page:?}") };
    assert!(matches!(entry.slot.kind, RecordKind::Provider(peer) if peer.addr.port() == 2), "{entry:?}");
}

/// What stands at a replica is over and done with for those who swap what was there before, whoever brought it.
#[test]
fn no_replica_says_yes_to_two_swaps_of_one_number() {
    let swap = |expected| Writer::Publisher { expected: Some(expected) };
    let publisher = Keypair::from_seed(&[1; 32]);
    let write = |sequence: u64, by: Writer, before: Option<StoreEntry<SimPeer>>| {
        let record =
            Record::Mutable(Signed::new(&publisher, "", sequence, 2000, vec![sequence as u8]).unwrap());
        StoreEntry::after_write(&record, record.slot(), false, 0, by, before).map(|(entry, _)| Some(entry))
    };
    let first = write(1, Writer::Publisher { expected: None }, None).unwrap();
    let six = write(6, swap(1), first).unwrap();
    assert!(write(6, swap(1), six).is_ok(), "the same swap again");
    assert_eq!(write(7, swap(1), six), Err(WriteError::Conflict(6)));
    // The other one has won elsewhere, and its copy comes before its writer does.
    let seven = write(7, Writer::Replica, six).unwrap();
    assert_eq!(write(7, swap(1), seven), Err(WriteError::Conflict(7)));
    assert!(write(7, swap(6), seven).is_ok(), "that is what it has replaced here");
    // Where the first has never been, a copy of the second says nothing against it.
    let copied = write(7, Writer::Replica, first).unwrap();
    assert!(write(7, swap(1), copied).is_ok());
    assert_eq!(write(6, swap(1), copied), Err(WriteError::Conflict(7)));
    // Nor where both have taken the same number.
    let other = Record::Mutable(Signed::new(&publisher, "", 6, 2000, vec![0]).unwrap());
    let (there, _) = StoreEntry::after_write(&other, other.slot(), false, 0, Writer::Replica, six).unwrap();
    let late = StoreEntry::after_write(&other, other.slot(), false, 0, swap(1), Some(there));
    assert_eq!(late, Err(WriteError::Conflict(6)));
}
