//! A chain in a file, by `redb`.
//!
//! A batch is one transaction: all of it is there after a crash, or none. What values are is up to other people, and so may
//! be when this process dies, so commits are in two phases (redb's design, "2-phase commit"): nobody can make half of
//! one pass for whole. They save the allocator's state, too, so that a file that was not closed need not be walked through
//! when it is opened.

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use ::redb::{Builder, Database, ReadableDatabase, TableDefinition, TableError};

use super::{Batch, Store, StoreError};

const VALUES: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("ledger 1");

/// How much of the file is kept in memory: 64 MiB.
const CACHE: usize = 64 << 20;

/// Keeps a chain in a file: a block that has been reported as connected is there after `kill -9`, and after power has
/// failed if the disk keeps its promise to have synced.
///
/// ```
/// use p2p_ledger::{Batch, RedbStore, Store};
///
/// let path = std::env::temp_dir().join(format!("p2p-ledger-doc-{}.redb", std::process::id()));
/// {
///     let mut store = RedbStore::open(&path).unwrap();
///     store.commit(Batch::from([(b"key".to_vec(), Some(b"value".to_vec()))])).unwrap();
/// }
/// let store = RedbStore::open(&path).unwrap();
/// assert_eq!(store.get(b"key").unwrap(), Some(b"value".to_vec()));
/// # std::fs::remove_file(path).unwrap();
/// ```
#[derive(Debug)]
pub struct RedbStore(Database);

impl RedbStore {
    /// Opens a file, or makes it. One store at a time has it.
    ///
    /// # Errors
    /// Another has it open, or it cannot be opened or made.
    pub fn open(path: impl AsRef<Path>) -> Result<RedbStore, StoreError> {
        let path = path.as_ref();
        let failed = |error: &dyn std::fmt::Display| StoreError(format!("{}: {error}", path.display()));
        if !path.exists() {
            make(path).map_err(|error| failed(&error))?;
        }
        let opened = Builder::new().set_cache_size(CACHE).create(path);
        opened.map(RedbStore).map_err(|error| failed(&error))
    }

    fn write(&mut self, batch: Batch) -> Result<(), ::redb::Error> {
        let mut transaction = self.0.begin_write()?;
        transaction.set_quick_repair(true);
        {
            let mut table = transaction.open_table(VALUES)?;
            for (key, value) in batch {
                match value {
                    Some(value) => drop(table.insert(key.as_slice(), value.as_slice())?),
                    None => drop(table.remove(key.as_slice())?),
                }
            }
        }
        Ok(transaction.commit()?)
    }

    /// Asks something of the table; `None` if there is none yet.
    fn ask<T>(
        &self,
        ask: impl FnOnce(::redb::ReadOnlyTable<&'static [u8], &'static [u8]>) -> Result<T, ::redb::Error>,
    ) -> Result<Option<T>, StoreError> {
        let asked = || match self.0.begin_read()?.open_table(VALUES) {
            Ok(table) => ask(table).map(Some),
            Err(TableError::TableDoesNotExist(_)) => Ok(None),
            Err(error) => Err(error.into()),
        };
        asked().map_err(|error: ::redb::Error| StoreError(error.to_string()))
    }
}

impl Store for RedbStore {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let value = self.ask(|table| Ok(table.get(key)?.map(|value| value.value().to_vec())))?;
        Ok(value.flatten())
    }

    fn scan(&self, prefix: &[u8], each: &mut dyn FnMut(&[u8], &[u8])) -> Result<(), StoreError> {
        let all = self.ask(|table| {
            for entry in table.range(prefix..)? {
                let (key, value) = entry?;
                if !key.value().starts_with(prefix) {
                    break;
                }
                each(key.value(), value.value());
            }
            Ok(())
        });
        all.map(|_| ())
    }

    fn commit(&mut self, batch: Batch) -> Result<(), StoreError> {
        self.write(batch).map_err(|error| StoreError(error.to_string()))
    }
}

/// Makes an empty file. Who dies half way leaves a file that cannot be opened, so it is made under another name, which nobody
/// else has, and has its own once it is whole.
#[allow(clippy::disallowed_methods, reason = "a store has a file")]
fn make(path: &Path) -> Result<(), ::redb::Error> {
    static MADE: AtomicU32 = AtomicU32::new(0);
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".new-{}-{}", std::process::id(), MADE.fetch_add(1, Ordering::Relaxed)));
    let new = Path::new(&name);
    let made = Builder::new().create(new).map_err(::redb::Error::from).and_then(|database| {
        drop(database);
        std::fs::File::open(new)?.sync_all()?;
        // Of two who make it at once one is the first, and the other must not take its place.
        match std::fs::hard_link(new, path) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => std::fs::rename(new, path)?,
            _ => {}
        }
        Ok(())
    });
    let _ = std::fs::remove_file(new);
    made?;
    Ok(sync_folder(path)?)
}

/// That the file is there is written in its folder.
#[cfg(unix)]
#[allow(clippy::disallowed_methods, reason = "a store has a file")]
fn sync_folder(path: &Path) -> std::io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::File::open(folder)?.sync_all()
}

#[cfg(not(unix))]
fn sync_folder(_: &Path) -> std::io::Result<()> {
    Ok(())
}
