//! Whoever does a swarm's jobs: reads, hashes and writes.

mod import;
mod partial;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::Path;

use bytes::Bytes;
use p2p_core::Worker;

use crate::job::{Output, Source, StoreError, SwarmDone, SwarmJob, Work};
use crate::runs::{bytes_of, groups_of};
use crate::storage::{Files, MemoryFiles, Storage};
use crate::tree::{Outboard, group_count, hash_groups};

pub(crate) use import::Import;
use partial::Partial;

/// How much is hashed before other jobs get their turn, in bytes: some 10 ms.
pub(crate) const SLICE: u64 = 32 << 20;
/// How much is read at a time.
const CHUNK: usize = 1 << 20;

/// Does the jobs of a [`Swarm`](crate::Swarm). A node may have several, each on its thread: reads and imports go to any
/// of them, the jobs of one fetch to one.
///
/// What it says to have written is verified, and lost in a crash unless synced; nobody takes it for more (see
/// [`Fetch`](crate::Fetch)).
pub struct StoreWorker<S: Storage> {
    storage: S,
    /// The fetches whose files are open, by number: as many as the machine has.
    partials: BTreeMap<u64, Partial<S>>,
    buffer: Vec<u8>,
}

/// Works on the system's files.
pub type FileWorker = StoreWorker<Files>;
/// Works in memory: for simulations.
pub type MemoryWorker = StoreWorker<MemoryFiles>;

impl<S: Storage> StoreWorker<S> {
    /// A worker on this storage.
    pub fn new(storage: S) -> StoreWorker<S> {
        StoreWorker { storage, partials: BTreeMap::new(), buffer: Vec::new() }
    }

    fn one(&mut self, work: Work) -> Result<Output, StoreError> {
        match work {
            Work::Import(mut import) => match import.advance(&mut self.storage, &mut self.buffer)? {
                Some(blobs) => Ok(Output::Imported(blobs)),
                None => Ok(Output::Importing(import)),
            },
            Work::Read { source, outboard, run } => self.read(&source, &outboard, run),
            Work::Open { fetch, root, target } => {
                // If one of this number is open, the machine that had it has died.
                self.partials.remove(&fetch);
                let partial = Partial::open(&mut self.storage, root, target)?;
                self.partials.insert(fetch, partial);
                self.check(fetch)
            }
            Work::Check { fetch } => self.check(fetch),
            Work::Write { fetch, run, size, data, proof } => {
                let partial = self.partials.get_mut(&fetch).ok_or(StoreError::NotOpen)?;
                partial.write(&mut self.storage, run, size, &data, &proof)
            }
            Work::Sync { fetch } => {
                let partial = self.partials.get_mut(&fetch).ok_or(StoreError::NotOpen)?;
                partial.sync(&mut self.storage)?;
                Ok(Output::Synced)
            }
            Work::Finish { fetch } => {
                let partial = self.partials.remove(&fetch).ok_or(StoreError::NotOpen)?;
                Ok(Output::Finished(partial.finish(&mut self.storage)?))
            }
            Work::Close { fetch } => {
                if let Some(mut partial) = self.partials.remove(&fetch) {
                    partial.sync(&mut self.storage)?;
                }
                Ok(Output::Closed)
            }
        }
    }

    fn check(&mut self, fetch: u64) -> Result<Output, StoreError> {
        let partial = self.partials.get_mut(&fetch).ok_or(StoreError::NotOpen)?;
        let output = partial.check(&mut self.storage, &mut self.buffer)?;
        if let Output::Finished(_) = output {
            self.partials.remove(&fetch);
        }
        Ok(output)
    }

    /// Reads a run and its proof. A file that has changed must not make a liar of its owner, so what is read is
    /// hashed before it is sent.
    fn read(&mut self, source: &Source, outboard: &Outboard, run: u64) -> Result<Output, StoreError> {
        let size = outboard.size();
        let (groups, bytes) = (groups_of(size, run), bytes_of(size, run));
        let data = match source {
            Source::Memory(all) => all.slice(bytes.start as usize..bytes.end as usize),
            Source::File(path) => {
                let len = (bytes.end - bytes.start) as usize;
                let mut data = Vec::new();
                let mut file = self.storage.open(path).map_err(at(path))?;
                self.storage.read_at(&mut file, bytes.start, len, &mut data).map_err(changed(path))?;
                if hash_groups(group_count(size), groups.start, &data) != outboard.groups(groups.clone()) {
                    return Err(StoreError::Changed(path.clone()));
                }
                Bytes::from(data)
            }
        };
        // The machine asks for runs that the blob has.
        let proof = outboard.proof(groups).unwrap_or_default();
        Ok(Output::Read { size, data, proof })
    }
}

impl<S: Storage> Worker<SwarmJob> for StoreWorker<S> {
    fn run(&mut self, batch: Vec<SwarmJob>) -> Vec<SwarmDone> {
        batch.into_iter().map(|job| SwarmDone { tag: job.tag, result: self.one(job.work) }).collect()
    }
}

impl<S: Storage> fmt::Debug for StoreWorker<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreWorker").field("fetches", &self.partials.len()).finish_non_exhaustive()
    }
}

/// Says where an error happened.
pub(crate) fn at(path: &Path) -> impl Fn(io::Error) -> StoreError {
    move |error| StoreError::Io { path: path.into(), what: error.to_string() }
}

/// As [`at`], of a file that has been seen longer.
pub(crate) fn changed(path: &Path) -> impl Fn(io::Error) -> StoreError {
    move |error| match error.kind() {
        io::ErrorKind::UnexpectedEof => StoreError::Changed(path.into()),
        _ => at(path)(error),
    }
}

#[cfg(test)]
mod tests;
