//! A node's host cache, filled by its connections and kept in a file if it is given one.
//!
//! An address that this node has dialled is proved by the handshake there. That somebody has connected from an
//! address shows less: it may not take connections, and whoever has many addresses could fill the cache by
//! connecting from each. So that counts as told by the peer itself, and displaces nothing that is proved.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::{Contact, HostCache, Learnt};

/// How often the file is written, if anything has changed.
pub(super) const SAVE_EVERY: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
pub(super) struct Hosts {
    cache: Mutex<HostCache>,
    file: Option<PathBuf>,
    changed: AtomicBool,
    /// One write at a time.
    writing: Mutex<()>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Hosts {
    /// With what the file holds; empty if there is none yet.
    pub(super) fn load(file: PathBuf) -> std::io::Result<Hosts> {
        let mut cache = HostCache::default();
        match cache.load(&file) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        Ok(Hosts { cache: Mutex::new(cache), file: Some(file), ..Hosts::default() })
    }

    pub(super) fn note(&self, contact: Contact, learnt: Learnt, now: Duration) {
        lock(&self.cache).note(contact, learnt, now);
        self.changed.store(true, Ordering::Release);
    }

    /// A dial has failed.
    pub(super) fn failed(&self, contact: Contact) {
        lock(&self.cache).failed(contact);
        self.changed.store(true, Ordering::Release);
    }

    pub(super) fn best(&self) -> Vec<Contact> {
        lock(&self.cache).best()
    }

    /// Writes the file if there is one and it is not up to date.
    pub(super) async fn save(self: &Arc<Self>) {
        if self.file.is_none() || !self.changed.swap(false, Ordering::Acquire) {
            return;
        }
        let hosts = self.clone();
        let write = move || {
            let _one = lock(&hosts.writing);
            let cache = lock(&hosts.cache).clone();
            if let Some(file) = &hosts.file
                && let Err(error) = cache.save(file)
            {
                hosts.changed.store(true, Ordering::Release);
                tracing::warn!(file = %file.display(), %error, "the host cache could not be saved");
            }
        };
        let _ = tokio::task::spawn_blocking(write).await;
    }
}
