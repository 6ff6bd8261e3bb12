//! What a node has counted.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering, fence};

use tokio::sync::Notify;
use tokio::sync::futures::Notified;

/// Why a handshake or connection was not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Refusal {
    /// The address was asked to validate itself first; an honest peer comes back at once.
    Unvalidated,
    /// Too many handshakes in progress.
    Handshakes,
    /// Too many connections in all.
    Connections,
    /// Too many handshakes a second from the address.
    AddressRate,
    /// Too many handshakes a second from the subnet.
    SubnetRate,
    /// Too many connections from the address.
    AddressConnections,
    /// Too many connections from the subnet.
    SubnetConnections,
    /// The handshake failed: no key, a wrong signature, another network.
    Failed,
    /// The handshake was not finished in time.
    TimedOut,
}

/// Refusals, counted by reason.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Refusals(BTreeMap<Refusal, u64>);

impl Refusals {
    pub(super) fn count(&mut self, refusal: Refusal) {
        *self.0.entry(refusal).or_default() += 1;
    }

    /// How many for this reason.
    pub fn of(&self, refusal: Refusal) -> u64 {
        self.0.get(&refusal).copied().unwrap_or(0)
    }

    /// Every reason that has occurred.
    pub fn iter(&self) -> impl Iterator<Item = (Refusal, u64)> + '_ {
        self.0.iter().map(|(refusal, count)| (*refusal, *count))
    }
}

/// What one node has counted, at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stats {
    /// Connections now.
    pub connections: usize,
    /// Requests and streams being handled now.
    pub requests: usize,
    /// Request bodies being received or handled now, in bytes.
    pub request_bytes: usize,
    /// What has come of messages that are not all there, in bytes now.
    pub unfinished_bytes: usize,
    /// Connections this node has made since it started.
    pub dialled: u64,
    /// Connections others have made to it.
    pub accepted: u64,
    /// Bytes sent on the wire, over all connections there were.
    pub bytes_sent: u64,
    /// Bytes received from the wire.
    pub bytes_received: u64,
    /// By protocol name: what was sent and received. Requests and streams count as messages.
    pub protocols: BTreeMap<String, ProtocolStats>,
    /// What was dropped, by reason.
    pub drops: BTreeMap<Drop, u64>,
    /// Handshakes and connections not let in, by reason.
    pub refusals: Refusals,
}

/// What one protocol has sent and received.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ProtocolStats {
    /// Messages sent.
    pub sent: u64,
    /// Messages received.
    pub received: u64,
}

/// Why something was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Drop {
    /// It was for a protocol that is not served here.
    NotServed,
    /// Too much was being handled.
    Busy,
    /// It was longer than allowed.
    TooLong,
    /// It was no message of its protocol.
    Undecodable,
    /// What waited for a peer went over its bound.
    Overflow,
    /// A datagram came faster than its protocol takes messages in.
    DatagramOverrun,
    /// A stream or message took too long to come.
    TimedOut,
    /// The peer could not be reached.
    Unreachable,
    /// Messages that had begun to come went over their bound.
    Unfinished,
}

const DROPS: [Drop; 9] = [
    Drop::NotServed,
    Drop::Busy,
    Drop::TooLong,
    Drop::Undecodable,
    Drop::Overflow,
    Drop::DatagramOverrun,
    Drop::TimedOut,
    Drop::Unreachable,
    Drop::Unfinished,
];

/// Who waits for a count to change. Mostly nobody does, and a change costs one load more.
#[derive(Debug, Default)]
pub(super) struct Changes {
    waiting: AtomicUsize,
    changed: Notify,
}

impl Changes {
    /// Has changes told while the guard lives.
    pub(super) fn wait(&self) -> Waiting<'_> {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        // With the one in `tell`: the counts that are read from here on are as they were told, or the teller sees us.
        fence(Ordering::SeqCst);
        Waiting(self)
    }

    /// Tells that something has changed, whatever the order of that write. A fence and a load: a write here would
    /// have all of a node's threads pass one cache line around.
    pub(super) fn tell(&self) {
        fence(Ordering::SeqCst);
        self.told();
    }

    /// As `tell`, cheaper, after a write that was `SeqCst` itself: in one order with `wait`, so that either this sees
    /// the waiter, or the waiter sees what was written.
    pub(super) fn told(&self) {
        if self.waiting.load(Ordering::SeqCst) > 0 {
            self.changed.notify_waiters();
        }
    }

    /// Adds one.
    fn add(&self, count: &AtomicU64) {
        count.fetch_add(1, Ordering::SeqCst);
        self.told();
    }
}

/// Somebody who waits for changes.
#[derive(Debug)]
pub(super) struct Waiting<'a>(&'a Changes);

impl Waiting<'_> {
    /// The next change.
    pub(super) fn changed(&self) -> Notified<'_> {
        self.0.changed.notified()
    }
}

impl std::ops::Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}

/// The counters behind [`Stats`].
#[derive(Default)]
pub(super) struct Counters {
    pub changes: Arc<Changes>,
    drops: [AtomicU64; DROPS.len()],
    pub dialled: AtomicU64,
    pub accepted: AtomicU64,
    pub bytes_sent: AtomicU64,
    pub bytes_received: AtomicU64,
}

impl Counters {
    pub(super) fn drop(&self, why: Drop) {
        self.changes.add(&self.drops[why as usize]);
    }

    pub(super) fn drops(&self) -> BTreeMap<Drop, u64> {
        let counted = DROPS.iter().map(|&why| (why, self.drops[why as usize].load(Ordering::SeqCst)));
        counted.filter(|(_, count)| *count > 0).collect()
    }
}

impl fmt::Debug for Counters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Counters({:?})", self.drops())
    }
}

/// One protocol's counters.
#[derive(Debug)]
pub(super) struct ProtocolCounters {
    changes: Arc<Changes>,
    sent: AtomicU64,
    received: AtomicU64,
}

impl ProtocolCounters {
    pub(super) fn new(changes: &Arc<Changes>) -> ProtocolCounters {
        ProtocolCounters { changes: changes.clone(), sent: AtomicU64::new(0), received: AtomicU64::new(0) }
    }

    pub(super) fn sent(&self) {
        self.changes.add(&self.sent);
    }

    pub(super) fn received(&self) {
        self.changes.add(&self.received);
    }

    pub(super) fn snapshot(&self) -> ProtocolStats {
        let [sent, received] = [&self.sent, &self.received].map(|count| count.load(Ordering::SeqCst));
        ProtocolStats { sent, received }
    }
}
