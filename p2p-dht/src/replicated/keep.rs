//! What a node has published it publishes again, before it ends and in case all who kept it are gone; and what has
//! ended is forgotten.

use std::time::Duration;

use p2p_core::{Cx, JobError, NoJob, OpId, Time};
use p2p_overlay::Overlay;

use super::{DhtTimer, JobFor, Replicated};
use crate::custom::Custom;
use crate::record::{Record, RecordKind, Slot};
use crate::request::{DhtOutcome, WithdrawError, Withdrawn};
use crate::store::{StoreEntry, StoreJob, Writer};

/// How often a node looks whether something has ended or is to be published again.
const PERIOD: Duration = Duration::from_secs(30);
/// How many records are published again each time.
const AT_ONCE: usize = 64;

impl<O: Overlay<Job = NoJob>> Replicated<O> {
    pub(super) fn keep_later(&mut self, cx: &mut Cx<'_, Self>) {
        let after = cx.rng().duration(PERIOD / 2, PERIOD * 3 / 2);
        cx.set_timer(after, DhtTimer::Keep);
    }

    pub(super) fn keep(&mut self, cx: &mut Cx<'_, Self>) {
        self.keep_later(cx);
        if !self.scanned && !self.jobs.values().any(|job| matches!(job, JobFor::Scan)) {
            self.scan(cx);
        }
        let wall = cx.wall().as_secs();
        self.clients.forget_ended(wall);
        let ended = self.index.iter().filter(|(_, held)| held.expires <= wall).map(|(slot, _)| *slot);
        for slot in ended.collect::<Vec<_>>() {
            // What this node still publishes gets a new end, if that can be.
            match self.republished.remove(&slot) {
                Some(_) if slot.kind != RecordKind::Mutable => drop(self.republished.insert(slot, cx.now())),
                _ => self.forget(cx, slot),
            }
        }
        let now = cx.now();
        let mut due: Vec<(Time, Slot<O::Peer>)> =
            self.republished.iter().filter(|(_, at)| **at <= now).map(|(slot, at)| (*at, *slot)).collect();
        due.sort_unstable();
        let (provided, due): (Vec<_>, Vec<_>) =
            due.into_iter().partition(|(_, slot)| matches!(slot.kind, RecordKind::Provider(_)));
        if !provided.is_empty() {
            self.provide_again(cx);
        }
        for (_, slot) in due.into_iter().take(AT_ONCE) {
            self.published(cx, slot);
            self.start(cx, StoreJob::Read(vec![slot]), JobFor::Republish);
        }
    }

    /// Keeps what this node has published, to publish it again.
    pub(super) fn keep_own(
        &mut self,
        cx: &mut Cx<'_, Self>,
        op: OpId,
        record: Record<O::Peer>,
        slot: Slot<O::Peer>,
    ) {
        let size = record.size();
        self.index.begin(slot, size, 0);
        self.published(cx, slot);
        let write = StoreJob::Write { record, slot, by: Writer::Replica, own: true, account: 0 };
        self.start(cx, write, JobFor::Own { op, slot, size });
    }

    /// Notes that a record was published now, and when that is due again.
    pub(super) fn published(&mut self, cx: &mut Cx<'_, Self>, slot: Slot<O::Peer>) {
        let period = self.config.republish;
        let after = cx.rng().duration(period / 2, period * 3 / 2);
        self.republished.insert(slot, cx.now() + after);
    }

    /// Publishes a record again: with a new end, unless that is signed.
    pub(super) fn republish(&mut self, cx: &mut Cx<'_, Self>, record: Record<O::Peer>) {
        if !self.republished.contains_key(&record.slot()) {
            return; // Withdrawn meanwhile.
        }
        let expires = self.until(cx, self.config.lifetime);
        let record = match record {
            Record::Immutable { value, .. } => Record::Immutable { value, expires },
            Record::Provider { key, peer, .. } => Record::Provider { key, peer, expires },
            Record::Mutable(signed) => Record::Mutable(signed),
            Record::Custom(custom) => Record::Custom(Custom { expires, ..custom }),
            // Nobody says these again by itself: what somebody else has removed would come back.
            Record::Removable { .. } | Record::Removed { .. } => return,
        };
        let op = cx.op();
        self.begin_put(cx, op, record, None, true);
    }

    /// Publishes a record no more: what is kept of it ends when its time is up. Where that cannot be written down it
    /// goes on, for so it would after a restart.
    pub(super) fn withdraw(&mut self, cx: &mut Cx<'_, Self>, op: OpId, what: Withdrawn<O::Peer>) {
        if self.is_busy() {
            return cx.finish(op, DhtOutcome::Withdrawn(Err(WithdrawError::Busy)));
        }
        let slot = match what {
            Withdrawn::Record(slot) => slot,
            Withdrawn::Provider(key) => Slot { key, kind: RecordKind::Provider(self.overlay.me()) },
        };
        self.republished.remove(&slot);
        // Where the index has none, one may be on its way to the worker.
        self.index.begin(slot, 0, 0);
        self.start(cx, StoreJob::Disown(slot), JobFor::Disown { op, slot });
    }

    pub(super) fn withdrawn(
        &mut self,
        cx: &mut Cx<'_, Self>,
        op: OpId,
        slot: Slot<O::Peer>,
        there: Result<Option<StoreEntry<O::Peer>>, JobError>,
    ) {
        self.index.end(&slot, 0, 0);
        let result = match there {
            Ok(there) => {
                self.index.set(&slot, there);
                Ok(())
            }
            Err(why) => {
                if self.index.get(&slot).is_some_and(|held| held.own) {
                    self.published(cx, slot);
                }
                Err(WithdrawError::Storage(why))
            }
        };
        cx.finish(op, DhtOutcome::Withdrawn(result));
    }

    /// Whether there is room for a record of this publisher, after copies have gone that this node need not have.
    pub(super) fn make_room(
        &mut self,
        cx: &mut Cx<'_, Self>,
        slot: &Slot<O::Peer>,
        size: usize,
        account: u64,
    ) -> bool {
        for _ in 0..AT_ONCE {
            if self.index.has_room(slot, size, account, &self.config) {
                return true;
            }
            let Some(spare) = self.index.spare() else { return false };
            self.forget(cx, spare);
        }
        false
    }

    /// Lets go of a record: at another time, if the worker is about to say what is there.
    pub(super) fn forget(&mut self, cx: &mut Cx<'_, Self>, slot: Slot<O::Peer>) {
        if !self.scanned || self.index.is_changing(&slot) {
            return;
        }
        if let Some(entry) = self.index.remove(&slot) {
            self.start(cx, StoreJob::Remove(slot, entry.version), JobFor::Remove(entry));
        }
    }
}
