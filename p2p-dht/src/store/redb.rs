//! A worker that keeps records in a file, by `redb`.
//!
//! A batch of jobs is one transaction: all of it is there after a crash, or none, and it is reported when it has been
//! synced. What the records are is up to other people, and so may be when this process dies; commits are in two phases,
//! so that nobody can make half of one pass for whole (redb's design, "2-phase commit"), and save the allocator's state, so
//! that a file that was not closed need not be walked through when it is opened.
//!
//! Two tables: what there is to know of each record, small enough to be looked through at the start, and the records.
//!
//! A disk that fails makes jobs fail, never a panic: the file is opened anew for the next batch, and reads go on as long
//! as they can, where a full disk takes no more writes.

use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::ops::Bound;
use std::path::{Path, PathBuf};

use ::redb::{
    Builder, Database, DatabaseError, ReadableDatabase, ReadableTable, StorageBackend, TableDefinition,
    TableError,
};
use p2p_core::sim::SimFile;
use p2p_core::{Job, JobError, Keyed, Rng, Wire, Worker};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{StoreDone, StoreEntry, StoreJob};
use crate::record::{Record, RecordKind, Slot};

/// A slot in order: its key, which kind of record, and, of a provider, the peer's own key, or the hash of a secret.
type Place = [u8; 65];

const ENTRIES: TableDefinition<'_, &Place, &[u8]> = TableDefinition::new("entries 1");
const RECORDS: TableDefinition<'_, &Place, &[u8]> = TableDefinition::new("records 1");

/// How much of the file is kept in memory: what is read often, and what a batch changes. 16 MiB.
const CACHE: usize = 16 << 20;

/// Keeps records in a file: what it has reported as written is there after `kill -9`, and after power has failed if the
/// disk keeps its promise to have synced.
///
/// ```
/// use p2p_core::{SimPeer, Worker};
/// use p2p_dht::{Record, RedbStore, StoreDone, StoreJob, Writer};
///
/// let path = std::env::temp_dir().join(format!("p2p-doc-{}.redb", std::process::id()));
/// let record: Record<SimPeer> = Record::Immutable { value: "hello".into(), expires: 2_000_000_000 };
/// let slot = record.slot();
/// {
///     let mut store = RedbStore::open(&path).unwrap();
///     let write = StoreJob::Write { record: record.clone(), slot, by: Writer::Replica, own: false, account: 0 };
///     assert!(matches!(&store.run(vec![write])[0], StoreDone::Written(Ok(entry)) if entry.slot == slot));
/// }
/// let mut store = RedbStore::<SimPeer>::open(&path).unwrap();
/// let done = store.run(vec![StoreJob::Read(vec![slot])]);
/// assert!(matches!(&done[0], StoreDone::Read(Ok(records)) if *records == [record]));
/// # std::fs::remove_file(path).unwrap();
/// ```
pub struct RedbStore<P> {
    /// Opens the file, again if need be.
    open: Box<dyn FnMut() -> Result<Database, DatabaseError> + Send>,
    /// Not after it has failed.
    database: Option<Database>,
    /// In a simulation: the file.
    simulated: Option<SimFile>,
    peer: PhantomData<fn() -> P>,
}

/// Why there is no store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process has the file open, or another store of this one.
    #[error("{path} is in use: another node works with this folder; stop it, or name another")]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// It cannot be opened or made.
    #[error("{path} cannot be opened as a store of records: {why}")]
    Failed {
        /// The file.
        path: PathBuf,
        /// Why not.
        why: ::redb::Error,
    },
}

impl<P: Keyed + Serialize + DeserializeOwned> RedbStore<P> {
    /// Opens a file of records, or makes it. One store at a time has it.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn open(path: impl AsRef<Path>) -> Result<RedbStore<P>, StoreError> {
        let path = path.as_ref().to_path_buf();
        let new = !path.exists();
        let file = path.clone();
        let opened = RedbStore::opened_by(move || Builder::new().set_cache_size(CACHE).create(&file));
        let failed = |why: ::redb::Error| StoreError::Failed { path: path.clone(), why };
        let store = opened.map_err(|error| match error {
            DatabaseError::DatabaseAlreadyOpen => StoreError::InUse { path: path.clone() },
            other => failed(other.into()),
        })?;
        if new {
            sync_folder(&path).map_err(|error| failed(::redb::Error::Io(error)))?;
        }
        Ok(store)
    }

    /// On a file of a simulation, which crashes in the midst of writing.
    ///
    /// # Errors
    /// See [`StoreError::Failed`].
    pub fn on(file: SimFile) -> Result<RedbStore<P>, StoreError> {
        let again = file.clone();
        let open = move || Builder::new().set_cache_size(CACHE).create_with_backend(Simulated(again.clone()));
        let failed =
            |why: DatabaseError| StoreError::Failed { path: "a simulated file".into(), why: why.into() };
        let store = RedbStore::opened_by(open).map_err(failed)?;
        Ok(RedbStore { simulated: Some(file), ..store })
    }

    pub(super) fn opened_by(
        mut open: impl FnMut() -> Result<Database, DatabaseError> + Send + 'static,
    ) -> Result<RedbStore<P>, DatabaseError> {
        let database = Some(open()?);
        Ok(RedbStore { open: Box::new(open), database, simulated: None, peer: PhantomData })
    }

    fn database(&mut self) -> Result<&mut Database, ::redb::Error> {
        if self.database.is_none() {
            self.database = Some((self.open)()?);
        }
        self.database.as_mut().ok_or(::redb::Error::DatabaseClosed)
    }

    /// Does all jobs in one transaction, and syncs it.
    fn commit(&mut self, batch: &[StoreJob<P>]) -> Result<Vec<StoreDone<P>>, ::redb::Error> {
        let mut transaction = self.database()?.begin_write()?;
        transaction.set_quick_repair(true);
        let done = {
            let mut entries = transaction.open_table(ENTRIES)?;
            let mut records = transaction.open_table(RECORDS)?;
            let mut done = Vec::with_capacity(batch.len());
            for job in batch {
                done.push(match job {
                    StoreJob::Write { record, slot, by, own, account } => {
                        let place = place(slot);
                        let before = entry(&entries, &place)?;
                        let after = StoreEntry::after_write(record, *slot, *own, *account, *by, before);
                        if let Ok((entry, is_new)) = after {
                            if is_new {
                                records.insert(&place, record.to_bytes().as_slice())?;
                            }
                            if before != Some(entry) {
                                entries.insert(&place, entry.to_bytes().as_slice())?;
                            }
                        }
                        StoreDone::Written(after.map(|(entry, _)| entry))
                    }
                    StoreJob::Disown(slot) => {
                        let place = place(slot);
                        let there = entry(&entries, &place)?.map(|entry| StoreEntry { own: false, ..entry });
                        if let Some(entry) = there {
                            entries.insert(&place, entry.to_bytes().as_slice())?;
                        }
                        StoreDone::Removed(Ok(there))
                    }
                    StoreJob::Remove(slot, version) => {
                        let place = place(slot);
                        let there = entry(&entries, &place)?.filter(|entry| entry.version != *version);
                        if there.is_none() {
                            entries.remove(&place)?;
                            records.remove(&place)?;
                        }
                        StoreDone::Removed(Ok(there))
                    }
                    StoreJob::Read(slots) => read(&records, slots)?,
                    StoreJob::Scan { after, most } => scan(&entries, *after, *most)?,
                });
            }
            done
        };
        transaction.commit()?;
        Ok(done)
    }

    /// Does jobs that write nothing.
    fn look(&mut self, batch: &[StoreJob<P>]) -> Result<Vec<StoreDone<P>>, ::redb::Error> {
        let transaction = self.database()?.begin_read()?;
        // In a new file there are no tables yet.
        let (entries, records) = match (transaction.open_table(ENTRIES), transaction.open_table(RECORDS)) {
            (Ok(entries), Ok(records)) => (entries, records),
            (Err(TableError::TableDoesNotExist(_)), _) => return Ok(batch.iter().map(nothing).collect()),
            (Err(error), _) | (_, Err(error)) => return Err(error.into()),
        };
        let one = |job: &StoreJob<P>| match job {
            StoreJob::Read(slots) => read(&records, slots),
            StoreJob::Scan { after, most } => scan(&entries, *after, *most),
            StoreJob::Write { .. } | StoreJob::Disown(_) | StoreJob::Remove(..) => Ok(failed(job)),
        };
        batch.iter().map(one).collect()
    }
}

impl<P: Keyed + Serialize + DeserializeOwned> Worker<StoreJob<P>> for RedbStore<P> {
    fn run(&mut self, batch: Vec<StoreJob<P>>) -> Vec<StoreDone<P>> {
        let writes = |job: &StoreJob<P>| !matches!(job, StoreJob::Read(_) | StoreJob::Scan { .. });
        if batch.iter().any(writes) {
            if let Ok(done) = self.commit(&batch) {
                return done;
            }
            // After a failure redb takes a file for lost until it is opened again.
            self.database = None;
        }
        match self.look(&batch) {
            Ok(done) => done,
            Err(_) => {
                self.database = None;
                batch.iter().map(failed).collect()
            }
        }
    }

    fn crash(&mut self, batch: Vec<StoreJob<P>>, rng: &mut Rng) {
        let Some(file) = self.simulated.clone() else {
            // It is the process that ends: what has been handed to the system stays.
            if !batch.is_empty() && rng.chance(0.5) {
                self.run(batch);
            }
            return;
        };
        if !batch.is_empty() {
            // Before the first sector is written, or after the last sync, or anywhere in between.
            let until = 1 << rng.below(10);
            file.fail_after(rng.below(until));
            self.run(batch);
        }
        // What it would write to close the file does not come about.
        file.fail_after(0);
        self.database = None;
        file.crash(rng);
    }
}

fn failed<P: Keyed>(job: &StoreJob<P>) -> StoreDone<P> {
    job.failed(JobError::Storage)
}

/// What a job that writes nothing finds in a new file.
fn nothing<P: Keyed>(job: &StoreJob<P>) -> StoreDone<P> {
    match job {
        StoreJob::Read(_) => StoreDone::Read(Ok(Vec::new())),
        StoreJob::Scan { .. } => StoreDone::Scanned(Ok(Vec::new())),
        StoreJob::Write { .. } | StoreJob::Disown(_) | StoreJob::Remove(..) => failed(job),
    }
}

fn place<P: Keyed>(slot: &Slot<P>) -> Place {
    let mut place = [0; 65];
    place[..32].copy_from_slice(slot.key.as_bytes());
    place[32] = match &slot.kind {
        RecordKind::Immutable => 0,
        RecordKind::Mutable => 1,
        RecordKind::Provider(peer) => {
            // Not what the peer is made of: a contact that has moved is still the same peer.
            place[33..].copy_from_slice(peer.key().as_bytes());
            2
        }
        RecordKind::Removable(owner) => {
            place[33..].copy_from_slice(owner.as_bytes());
            3
        }
        RecordKind::Custom(namespace) => {
            place[33..].copy_from_slice(namespace.as_bytes());
            4
        }
    };
    place
}

/// What is known of a record. A row that cannot be read, after the disk has forgotten a bit, is none, here and below: the
/// record comes back from other replicas.
fn entry<P: Keyed + Serialize + DeserializeOwned>(
    entries: &impl ReadableTable<&'static Place, &'static [u8]>,
    place: &Place,
) -> Result<Option<StoreEntry<P>>, ::redb::Error> {
    let there = entries.get(place)?;
    Ok(there.and_then(|bytes| StoreEntry::from_bytes(bytes.value()).ok()))
}

fn read<P: Keyed + Serialize + DeserializeOwned>(
    records: &impl ReadableTable<&'static Place, &'static [u8]>,
    slots: &[Slot<P>],
) -> Result<StoreDone<P>, ::redb::Error> {
    let mut there = Vec::new();
    for slot in slots {
        let bytes = records.get(&place(slot))?;
        there.extend(bytes.and_then(|bytes| Record::from_bytes(bytes.value()).ok()));
    }
    Ok(StoreDone::Read(Ok(there)))
}

fn scan<P: Keyed + Serialize + DeserializeOwned>(
    entries: &impl ReadableTable<&'static Place, &'static [u8]>,
    after: Option<Slot<P>>,
    most: usize,
) -> Result<StoreDone<P>, ::redb::Error> {
    let after = after.map(|slot| place(&slot));
    let from = after.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
    let mut page = Vec::new();
    for pair in entries.range::<&Place>((from, Bound::Unbounded))? {
        if page.len() == most {
            break;
        }
        page.extend(StoreEntry::from_bytes(pair?.1.value()));
    }
    Ok(StoreDone::Scanned(Ok(page)))
}

/// A file that has just been made is in its folder after a crash, too.
#[expect(clippy::disallowed_methods, reason = "files belong to workers")]
fn sync_folder(path: &Path) -> io::Result<()> {
    match path.parent().filter(|folder| cfg!(unix) && !folder.as_os_str().is_empty()) {
        Some(folder) => std::fs::File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

/// A simulated file, as redb wants it.
#[derive(Debug)]
struct Simulated(SimFile);

impl StorageBackend for Simulated {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.len() as u64)
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read(offset as usize, out)
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len as usize)
    }
    fn sync_data(&self) -> io::Result<()> {
        self.0.sync()
    }
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write(offset as usize, data)
    }
}

impl<P> fmt::Debug for RedbStore<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let open = if self.database.is_some() { "open" } else { "failed" };
        write!(f, "RedbStore({open})")
    }
}
