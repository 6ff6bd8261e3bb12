//! What other nodes ask of this one: to keep records, and to give them.

use std::collections::BTreeSet;

use p2p_core::{Cx, JobError, Key, NoJob};
use p2p_overlay::{Next, Overlay, Replicas};

use super::put::Put;
use super::{DhtMsg, JobFor, PAGE, Question, Refusal, Replicated, Wanted};
use crate::client::{account_of, copier_of};
use crate::record::{InvalidRecord, MAX_VALUE, Record, RecordKind, Slot, Version};
use crate::store::{StoreDone, StoreEntry, StoreJob, WriteError, Writer};

/// How much two clocks may differ, in seconds.
pub(super) const SKEW: u64 = 600;

impl<O: Overlay<Job = NoJob>> Replicated<O> {
    // ---- keeping

    pub(super) fn on_store(
        &mut self,
        cx: &mut Cx<'_, Self>,
        from: O::Peer,
        id: u32,
        record: Record<O::Peer>,
        expected: Option<u64>,
        copy: bool,
    ) {
        let (slot, version, size) = (record.slot(), record.version(), record.size());
        if let Err(refusal) = self.may_keep(cx, from, &slot, &record, version, copy) {
            return self.tell(cx, from, DhtMsg::Stored { id, result: Err(refusal) });
        }
        if let Some(held) = self.index.get(&slot)
            // Whether a swap is made the worker knows.
            && (if copy { held.version >= version } else { held.version == version && expected.is_none() })
        {
            self.repair.has_come(&slot, held.version);
            return self.tell(cx, from, DhtMsg::Stored { id, result: Ok(()) });
        }
        let account = self.account(from, id, &slot.key, copy);
        let account = self.index.payer(&slot, size, account, &self.config);
        let refusal = match self.is_busy_for(from) {
            true => Refusal::Busy,
            false if !self.make_room(cx, &slot, size, account) => Refusal::Full,
            false if !self.index.is_turn(size, account, cx.wall().as_secs(), record.expires()) => {
                Refusal::Full
            }
            false => {
                self.index.begin(slot, size, account);
                let by = if copy { Writer::Replica } else { Writer::Publisher { expected } };
                let write = StoreJob::Write { record, slot, by, own: false, account };
                return self.start(cx, write, JobFor::Store { from, id, slot, size, account });
            }
        };
        self.tell(cx, from, DhtMsg::Stored { id, result: Err(refusal) });
    }

    /// A provider has not looked up who keeps this key: it takes those who kept the one before.
    pub(super) fn on_provide(
        &mut self,
        cx: &mut Cx<'_, Self>,
        from: O::Peer,
        id: u32,
        key: Key,
        expires: u64,
    ) {
        let me = self.overlay.me();
        let is_keeper = match self.overlay.replicas(&key, self.config.replicas.into()) {
            Replicas::Peers(peers) => peers.contains(&me),
            Replicas::Keys(_) => false,
        };
        match is_keeper {
            true => self.on_store(cx, from, id, Record::Provider { key, peer: from, expires }, None, false),
            false => {
                let result = Err(Refusal::NotResponsible);
                self.tell(cx, from, DhtMsg::Stored { id, result });
            }
        }
    }

    /// Whose room a record takes that a peer sends: that of the client for whom this node puts it; what this node publishes
    /// itself takes nobody's; what a neighbour copies takes its share of copies.
    fn account(&self, from: O::Peer, id: u32, key: &Key, copy: bool) -> u64 {
        if from == self.overlay.me() {
            let Some(Question::Store(put)) = self.asked.get(id, from) else { return 0 };
            let client = self.puts.get(put).and_then(Put::client);
            return client.map_or(0, |client| client.account);
        }
        match copy {
            true => self.copier(from, key),
            false => account_of(from),
        }
    }

    /// Whose room a copy takes that a peer sends. Over salted keys anybody may be a replica, and is taken for a publisher.
    pub(super) fn copier(&self, from: O::Peer, key: &Key) -> u64 {
        match !self.is_salted() && self.is_near(from, key) {
            true => copier_of(from),
            false => account_of(from),
        }
    }

    /// Whether what could not be written is here all the same, or something newer: by an earlier write.
    fn has_before(&self, slot: &Slot<O::Peer>, error: &WriteError) -> bool {
        let is_one_value = !matches!(slot.kind, RecordKind::Mutable | RecordKind::Custom(_));
        let is_outdated = !matches!(error, WriteError::Failed(_));
        self.index.get(slot).is_some_and(|held| held.own) && (is_one_value || is_outdated)
    }

    /// Notes what the worker says is there.
    pub(super) fn kept(&mut self, entry: &StoreEntry<O::Peer>) {
        self.index.put(entry);
        if self.index.get(&entry.slot).is_some_and(|held| held.standing == 0) {
            self.find_place(&entry.slot);
        }
    }

    /// Whether this node is among those that keep a key, or near enough to become one. Where it cannot tell, it is.
    pub(super) fn is_responsible(&self, key: &Key) -> bool {
        self.is_near(self.overlay.me(), key)
    }

    /// Whether a peer is, likewise. Who else is the root of a salted key, cannot be told.
    fn is_near(&self, peer: O::Peer, key: &Key) -> bool {
        let is_mine = |key| self.overlay.next(key, &[]) == Next::Mine;
        match self.overlay.replicas(key, 2 * usize::from(self.config.replicas)) {
            Replicas::Peers(peers) => peers.is_empty() || peers.contains(&peer),
            Replicas::Keys(_) if peer != self.overlay.me() || !self.overlay.is_joined() => true,
            Replicas::Keys(keys) => keys.iter().any(is_mine),
        }
    }

    /// What can be said about a record without looking at its signature.
    fn may_keep(
        &self,
        cx: &Cx<'_, Self>,
        from: O::Peer,
        slot: &Slot<O::Peer>,
        record: &Record<O::Peer>,
        version: Version,
        copy: bool,
    ) -> Result<(), Refusal> {
        let claimed = match record {
            Record::Provider { peer, .. } if *peer != from => !copy || !self.is_near(from, &slot.key),
            _ => false,
        };
        if !self.is_responsible(&slot.key) {
            return Err(Refusal::NotResponsible);
        }
        if record.size() > MAX_VALUE + 256 || claimed {
            return Err(Refusal::Invalid);
        }
        if !self.may_last(cx, slot, &version) {
            return Err(Refusal::Lifetime);
        }
        self.validators.check(record).map_err(|invalid| match invalid {
            InvalidRecord::Namespace => Refusal::Namespace,
            InvalidRecord::Rejected(why) => Refusal::Rejected(why),
            _ => Refusal::Invalid,
        })
    }

    /// Whether a record has not ended, and does not last longer than records may.
    pub(super) fn may_last(&self, cx: &Cx<'_, Self>, slot: &Slot<O::Peer>, version: &Version) -> bool {
        let (now, Version { sequence, expires, .. }) = (cx.wall().as_secs(), *version);
        // What is not signed can be copied by anybody, with another end: it may not be far.
        let longest = match slot.kind {
            RecordKind::Provider(_) | RecordKind::Removable(_) | RecordKind::Custom(_) => {
                self.config.lifetime
            }
            RecordKind::Immutable | RecordKind::Mutable => self.config.max_lifetime,
        };
        // A removal lasts longer than what it removes: see `DhtCommand::Remove`.
        let skews = match slot.kind {
            RecordKind::Removable(_) if sequence > 0 => 3,
            _ => 1,
        };
        let latest = now.saturating_add(longest.as_secs()).saturating_add(skews * SKEW);
        now < expires && expires <= latest
    }

    // ---- giving

    pub(super) fn on_load(
        &mut self,
        cx: &mut Cx<'_, Self>,
        from: O::Peer,
        id: u32,
        key: Key,
        wanted: Wanted,
    ) {
        if !self.scanned || self.is_busy_for(from) {
            return; // It cannot tell: that is not the same as having nothing.
        }
        let slots = self.index.of(key, wanted, self.config.max_providers);
        match slots.is_empty() {
            true => self.tell(cx, from, DhtMsg::Loaded { id, records: Vec::new() }),
            false => self.start(cx, StoreJob::Read(slots), JobFor::Load { from, id }),
        }
    }

    // ---- the worker is back

    pub(super) fn job_done(
        &mut self,
        cx: &mut Cx<'_, Self>,
        what: JobFor<O::Peer>,
        done: StoreDone<O::Peer>,
    ) {
        match (what, done) {
            (JobFor::Store { from, id, slot, size, account }, StoreDone::Written(written)) => {
                self.index.end(&slot, size, account);
                let result = match written {
                    Ok(entry) => {
                        self.repair.has_come(&slot, entry.version);
                        self.kept(&entry);
                        Ok(())
                    }
                    Err(WriteError::Invalid) => Err(Refusal::Invalid),
                    Err(WriteError::EndsBefore) => Err(Refusal::Lifetime),
                    Err(WriteError::Conflict(sequence)) => Err(Refusal::Conflict(sequence)),
                    Err(WriteError::Failed(_)) => Err(Refusal::Failed),
                };
                self.tell(cx, from, DhtMsg::Stored { id, result });
            }
            (JobFor::Own { op, slot, size }, StoreDone::Written(written)) => {
                self.index.end(&slot, size, 0);
                let unkept = match written {
                    Ok(entry) => {
                        self.kept(&entry);
                        None
                    }
                    // The copy from before is, and is tried again, if that is the same.
                    Err(error) if self.has_before(&slot, &error) => None,
                    // What is not here cannot be published again.
                    Err(error) => {
                        if !self.index.get(&slot).is_some_and(|held| held.own) {
                            self.republished.remove(&slot);
                        }
                        Some(match error {
                            WriteError::Failed(why) => why,
                            WriteError::Invalid | WriteError::Conflict(_) | WriteError::EndsBefore => {
                                JobError::Storage
                            }
                        })
                    }
                };
                self.own_kept(cx, op, unkept);
            }
            (JobFor::Load { from, id }, StoreDone::Read(Ok(mut records))) => {
                let now = cx.wall().as_secs();
                records.retain(|record| record.expires() > now && self.validators.check(record).is_ok());
                self.tell(cx, from, DhtMsg::Loaded { id, records });
            }
            (JobFor::Fetch { from, id }, StoreDone::Read(records)) => {
                self.give_fetched(cx, from, id, records.unwrap_or_default());
            }
            (JobFor::Republish, StoreDone::Read(records)) => {
                records.into_iter().flatten().for_each(|record| self.republish(cx, record));
            }
            (JobFor::Copy { batch, to }, StoreDone::Read(records)) => match records {
                Ok(records) => self.copy(cx, batch, to, records),
                Err(_) => self.one_less(cx, batch),
            },
            (JobFor::Scan, StoreDone::Scanned(Ok(entries))) => {
                let last = entries.last().map(|entry| entry.slot);
                self.scanned = entries.len() < PAGE;
                let withdrawn = self.jobs.values().filter_map(|job| match job {
                    JobFor::Disown { slot, .. } => Some(*slot),
                    _ => None,
                });
                let withdrawn: BTreeSet<Slot<O::Peer>> = withdrawn.collect();
                for entry in entries {
                    let slot = entry.slot;
                    // What was written or withdrawn since is newer.
                    if self.index.get(&slot).is_none() {
                        self.kept(&entry);
                    }
                    if self.index.get(&slot).is_some_and(|held| held.own) && !withdrawn.contains(&slot) {
                        self.published(cx, slot);
                    }
                }
                if !self.scanned {
                    self.scanned_to = last;
                    self.scan(cx);
                }
            }
            (JobFor::Remove(removed), StoreDone::Removed(there)) => match there {
                Ok(there) => self.index.set(&removed.slot, there),
                // It is still there, and goes another time.
                Err(_) if self.index.get(&removed.slot).is_none() => self.index.put(&removed),
                Err(_) => {}
            },
            (JobFor::Disown { op, slot }, StoreDone::Removed(there)) => self.withdrawn(cx, op, slot, there),
            // Nobody else's answer comes here.
            _ => {}
        }
    }
}
