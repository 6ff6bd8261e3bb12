//! Where a node keeps its files: jobs, and a worker that does them in memory.

use std::collections::BTreeMap;

use bytes::Bytes;
use p2p_core::{Job, JobError, Key, Worker};

use super::certificate::{Certificate, Reclaim};

/// What a node of PAST asks of its worker.
#[derive(Clone, Debug)]
pub enum PastJob {
    /// Check a file and keep it, if nothing is under its id yet.
    Keep {
        /// What the owner has signed.
        certificate: Certificate,
        /// The content.
        content: Bytes,
    },
    /// Check a file that others are to keep.
    Check {
        /// What the owner has signed.
        certificate: Certificate,
        /// The content.
        content: Bytes,
    },
    /// Read a file.
    Read(Key),
    /// Let a file go that others keep.
    Drop(Key),
    /// Let a file go, if its owner has signed this.
    Reclaim(Reclaim),
    /// Say what is there: asked once, at the start.
    Scan,
}

/// What comes back.
#[derive(Clone, Debug)]
pub enum PastDone {
    /// Of [`PastJob::Keep`].
    Kept(Result<(), KeepError>),
    /// Of [`PastJob::Check`]: whether its owner has signed it.
    Checked(Result<bool, JobError>),
    /// Of a read: the file, if it is there.
    Read(Result<Option<(Certificate, Bytes)>, JobError>),
    /// Of [`PastJob::Drop`].
    Dropped(Result<(), JobError>),
    /// Of a reclaim: whether it was there, and is gone.
    Reclaimed(Result<bool, JobError>),
    /// Of a scan.
    Scanned(Result<Vec<Kept>, JobError>),
}

/// A file that is kept, without its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Its id.
    pub file: Key,
    /// Its bytes.
    pub size: u64,
    /// The beginning of its content's hash.
    pub tag: u64,
    /// How many should keep it.
    pub replicas: u8,
}

impl Kept {
    /// What there is to know of a file.
    pub fn of(certificate: &Certificate) -> Kept {
        let tag = beginning(&certificate.content());
        Kept { file: certificate.file(), size: certificate.size(), tag, replicas: certificate.replicas() }
    }
}

/// Why a file was not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeepError {
    /// The owner has not signed it, or not this content.
    Forged,
    /// The storage failed.
    Failed(JobError),
}

fn beginning(key: &Key) -> u64 {
    key.as_bytes()[..8].iter().fold(0, |first, byte| first << 8 | u64::from(*byte))
}

impl Job for PastJob {
    type Done = PastDone;

    /// Jobs of one file are done in order.
    fn lane(&self) -> Option<u64> {
        let file = match self {
            PastJob::Keep { certificate, .. } => certificate.file(),
            PastJob::Check { .. } => return None,
            PastJob::Read(file) | PastJob::Drop(file) => *file,
            PastJob::Reclaim(reclaim) => reclaim.file(),
            PastJob::Scan => return Some(0),
        };
        Some(beginning(&file))
    }

    fn failed(&self, why: JobError) -> PastDone {
        match self {
            PastJob::Keep { .. } => PastDone::Kept(Err(KeepError::Failed(why))),
            PastJob::Check { .. } => PastDone::Checked(Err(why)),
            PastJob::Read(_) => PastDone::Read(Err(why)),
            PastJob::Drop(_) => PastDone::Dropped(Err(why)),
            PastJob::Reclaim(_) => PastDone::Reclaimed(Err(why)),
            PastJob::Scan => PastDone::Scanned(Err(why)),
        }
    }
}

/// Keeps files in memory: they are gone with the process.
///
/// ```
/// use p2p_core::{Keypair, Worker};
/// use p2p_dht::past::{Certificate, PastDone, PastJob, PastMemory};
///
/// let ada = Keypair::generate();
/// let certificate = Certificate::new(&ada, "song", 0, 5, 0, b"la la").unwrap();
/// let (file, content) = (certificate.file(), "la la".into());
/// let mut store = PastMemory::default();
/// let done = store.run(vec![PastJob::Keep { certificate, content }, PastJob::Read(file)]);
/// assert!(matches!(&done[1], PastDone::Read(Ok(Some((_, content)))) if content == "la la"));
/// ```
#[derive(Clone, Debug, Default)]
pub struct PastMemory {
    files: BTreeMap<Key, (Certificate, Bytes)>,
}

impl Worker<PastJob> for PastMemory {
    fn run(&mut self, batch: Vec<PastJob>) -> Vec<PastDone> {
        let one = |job| match job {
            PastJob::Keep { certificate, content } => {
                PastDone::Kept(match certificate.is_genuine(&content) {
                    true => {
                        // A slice of a message would keep all of that in memory.
                        let content = Bytes::copy_from_slice(&content);
                        self.files.entry(certificate.file()).or_insert((certificate, content));
                        Ok(())
                    }
                    false => Err(KeepError::Forged),
                })
            }
            PastJob::Check { certificate, content } => {
                PastDone::Checked(Ok(certificate.is_genuine(&content)))
            }
            PastJob::Read(file) => PastDone::Read(Ok(self.files.get(&file).cloned())),
            PastJob::Drop(file) => {
                self.files.remove(&file);
                PastDone::Dropped(Ok(()))
            }
            PastJob::Reclaim(reclaim) => {
                let frees = |(certificate, _): &(Certificate, Bytes)| reclaim.frees(certificate);
                let freed = self.files.get(&reclaim.file()).is_some_and(frees);
                if freed {
                    self.files.remove(&reclaim.file());
                }
                PastDone::Reclaimed(Ok(freed))
            }
            PastJob::Scan => PastDone::Scanned(Ok(self
                .files
                .values()
                .map(|(certificate, _)| Kept::of(certificate))
                .collect())),
        };
        batch.into_iter().map(one).collect()
    }
}
