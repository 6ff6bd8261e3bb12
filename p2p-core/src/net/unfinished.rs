//! What has come of messages that are not all there yet.
//!
//! A message is decoded when its last byte is there, and until then somebody has to keep the others. A peer may begin
//! as many as it may open streams and finish none, so what it has here is bounded per connection, and over all
//! connections, [fairly](crate::Limits::fair).

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::pool::{Link, Use};
use super::shared::Shared;

/// More has begun than may.
#[derive(Debug)]
pub(super) struct TooMuch;

/// One message that has begun. While it has not come to its end the link is in use.
#[derive(Debug)]
pub(super) struct Unfinished<'a> {
    shared: &'a Shared,
    link: &'a Arc<Link>,
    hold: Option<Use>,
    bytes: usize,
}

impl<'a> Unfinished<'a> {
    /// None yet.
    pub(super) fn new(shared: &'a Shared, link: &'a Arc<Link>) -> Unfinished<'a> {
        Unfinished { shared, link, hold: None, bytes: 0 }
    }

    /// Now it is so many bytes long; 0 if there is none.
    pub(super) fn is(&mut self, bytes: usize) -> Result<(), TooMuch> {
        if bytes <= self.bytes {
            self.give_back(self.bytes - bytes);
        } else {
            let by = bytes - self.bytes;
            self.bytes = bytes;
            let here = self.link.unfinished.fetch_add(by, Ordering::Relaxed) + by;
            let all = self.shared.unfinished.fetch_add(by, Ordering::Relaxed) + by;
            self.shared.counters.changes.tell();
            let limits = &self.shared.limits;
            if here > limits.unfinished_bytes_per_connection
                || !limits.fair(here, all, limits.unfinished_bytes)
            {
                return Err(TooMuch);
            }
        }
        if bytes == 0 {
            self.hold = None;
        } else if self.hold.is_none() {
            self.hold = Some(Use::new(self.link.clone()));
        }
        Ok(())
    }

    fn give_back(&mut self, bytes: usize) {
        self.bytes -= bytes;
        self.link.unfinished.fetch_sub(bytes, Ordering::Relaxed);
        self.shared.unfinished.fetch_sub(bytes, Ordering::Relaxed);
        self.shared.counters.changes.tell();
    }
}

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        self.give_back(self.bytes);
    }
}
