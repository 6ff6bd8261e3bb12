//! Copies move when nodes come and go.
//!
//! Every node compares what it keeps with the other nodes that should keep it, now and then all of it, and soon after
//! its neighbours have changed what that concerns. What both should keep, it sums up (see `summary`): where that differs,
//! and of what only the other should keep, it offers its copies by name; what the other lacks it sends. A copy that all
//! who should have it have confirmed, and that this node should not have any more, is dropped.
//!
//! Who should have it the overlay says; where copies lie at salted keys, it takes lookups: see `roots`. There nobody knows
//! what another should have beside itself, and all copies are offered by name.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use p2p_core::{Cx, Key, Keyed, NoJob, Peer, Time};
use p2p_overlay::{Overlay, Replicas};

use super::index::Held;
use super::roots::{Roots, Survey, Surveyed};
use super::summary::{Group, Shared};
use super::{DhtMsg, DhtTimer, JobFor, OFFERED, Offered, Question, Refusal, Replicated, Verdict};
use crate::record::{Record, Slot, Version};
use crate::store::StoreJob;

/// How many records are looked at before the machine turns to other things.
pub(super) const SLICE: usize = 1024;
/// How many batches are under way at once.
const WINDOW: usize = 4;
/// How often records are looked at once more for one peer at the most.
const TRIES: u8 = 3;
/// How many times as long as for one change of neighbours is waited for the last of many.
const PATIENCE: u32 = 8;

/// What a copy takes beside its value, in bytes, about.
const ENVELOPE: u64 = 64;

/// Copies for each peer.
type Plan<P> = BTreeMap<P, Vec<Offered<P>>>;

/// What is under way: one slice of records, in batches for each peer.
#[derive(Clone, Debug)]
pub(super) struct Repair<P> {
    /// Batches that wait: of at most [`SLICE`] records for each of the replicas.
    queue: VecDeque<Batch<P>>,
    /// At most [`WINDOW`] of them.
    open: BTreeMap<u64, Batch<P>>,
    next: u64,
    pass: Option<Pass<P>>,
    /// How many passes over all records there have been.
    passes: u64,
    pub(super) shared: Shared<P>,
    /// With whom this node is to sum up at the end of the pass, and with whom once more in the next: no more of them than
    /// replicas of what is kept.
    due: BTreeSet<P>,
    pub(super) again: BTreeSet<P>,
    /// How often records were looked at once more for each since neighbours changed, or the last pass over all began.
    tries: BTreeMap<P, u8>,
    /// The peers' keys, in part.
    names: BTreeMap<P, u64>,
    /// What comes before the batches, where copies lie at salted keys.
    pub(super) survey: Survey<P>,
    pub(super) roots: Roots<P>,
    /// A change of neighbours waits for them to settle, since then.
    settling: Option<Time>,
    /// Copies that are to be sent, and for which batch: of at most [`WINDOW`] batches.
    outgoing: VecDeque<(u64, P, Slot<P>)>,
    /// When all that has been sent would have been, at the rate that is allowed.
    sent_by: Time,
    /// Copies that others are to send: whoever offers them too need not. At most
    /// [`DhtConfig::capacity`](super::DhtConfig), and an eighth of that from one peer. What has not come in time stays noted
    /// until the next pass over all, so that nobody waits for it once more.
    coming: BTreeMap<Slot<P>, Coming<P>>,
}

/// A copy that a peer has offered, and is to send.
#[derive(Clone, Copy, Debug)]
struct Coming<P> {
    from: P,
    version: Version,
    /// Until when it is waited for.
    until: Time,
}

/// One run over all records, around from wherever the one before was.
#[derive(Clone, Copy, Debug)]
struct Pass<P> {
    /// The last record looked at.
    after: Option<Slot<P>>,
    /// How many are still to be looked at.
    left: usize,
    /// Those that all replicas have confirmed, too.
    all: bool,
}

/// Some copies for one peer; if there are none, a sum.
#[derive(Clone, Debug)]
struct Batch<P> {
    to: P,
    copies: Vec<Offered<P>>,
    /// How many of them are being sent.
    sending: usize,
}

impl<P> Default for Repair<P> {
    fn default() -> Self {
        Repair {
            queue: VecDeque::new(),
            open: BTreeMap::new(),
            next: 0,
            pass: None,
            passes: 0,
            shared: Shared::default(),
            due: BTreeSet::new(),
            again: BTreeSet::new(),
            tries: BTreeMap::new(),
            names: BTreeMap::new(),
            survey: Survey::default(),
            roots: Roots::default(),
            settling: None,
            outgoing: VecDeque::new(),
            sent_by: Time::ZERO,
            coming: BTreeMap::new(),
        }
    }
}

impl<P: Peer> Repair<P> {
    /// This copy is there; if an older one than was offered has come, the offer is still to be kept.
    pub(super) fn has_come(&mut self, slot: &Slot<P>, version: Version) {
        if self.coming.get(slot).is_some_and(|coming| coming.version <= version) {
            self.coming.remove(slot);
        }
    }
}

impl<O: Overlay<Job = NoJob>> Replicated<O> {
    // ---- when

    pub(super) fn begin_repairs(&mut self, cx: &mut Cx<'_, Self>) {
        let period = self.config.repair;
        let after = cx.rng().duration(period / 2, period * 3 / 2);
        cx.set_timer(after, DhtTimer::Repair);
    }

    pub(super) fn repair_all(&mut self, cx: &mut Cx<'_, Self>) {
        self.begin_repairs(cx);
        let now = cx.now();
        self.repair.coming.retain(|_, coming| coming.until > now);
        self.repair.roots.expire(now);
        // What the last such pass has not come across is over.
        self.repair.shared.forget(self.repair.passes, now, self.config.settle);
        self.repair.passes += 1;
        self.repair.names.clear();
        self.repair.tries.clear();
        self.begin_pass(cx, true);
    }

    /// The overlay says that neighbours are not the same any more.
    pub(super) fn neighbours_changed(&mut self, cx: &mut Cx<'_, Self>) {
        self.repair.tries.clear();
        self.on_neighbours_changed(cx);
    }

    /// Some time from now sums up with a peer again: a few times, for what it refuses it may go on refusing.
    pub(super) fn sum_once_more(&mut self, cx: &mut Cx<'_, Self>, peer: O::Peer) {
        if self.may_try(peer) {
            self.repair.again.insert(peer);
            self.on_neighbours_changed(cx);
        }
    }

    /// Some time from now looks at all records again, of which a peer expects some of others, or has not taken some: a few
    /// times, for it may go on so.
    fn look_once_more(&mut self, cx: &mut Cx<'_, Self>, peer: O::Peer) {
        if self.may_try(peer) {
            self.on_neighbours_changed(cx);
        }
    }

    fn may_try(&mut self, peer: O::Peer) -> bool {
        let tries = self.repair.tries.entry(peer).or_default();
        *tries = tries.saturating_add(1);
        *tries <= TRIES
    }

    pub(super) fn on_neighbours_changed(&mut self, cx: &mut Cx<'_, Self>) {
        // As long as one change follows the other nobody knows what to move; but some networks never rest.
        let settle = self.config.settle;
        let since = *self.repair.settling.get_or_insert(cx.now());
        if cx.now() - since <= PATIENCE * settle {
            let after = cx.rng().duration(settle / 2, settle * 3 / 2);
            cx.set_timer(after, DhtTimer::Settled);
        }
    }

    pub(super) fn repair_changed(&mut self, cx: &mut Cx<'_, Self>) {
        self.repair.settling = None;
        self.begin_pass(cx, false);
    }

    fn begin_pass(&mut self, cx: &mut Cx<'_, Self>, all: bool) {
        let before = self.repair.pass;
        let all = all || before.is_some_and(|pass| pass.all && pass.left > 0);
        let after = before.and_then(|pass| pass.after);
        self.repair.pass = Some(Pass { after, left: self.index.iter().len(), all });
        self.go_on(cx);
    }

    // ---- what

    /// Opens as many batches as may be open; when there are none left, it is time for the next slice of records.
    pub(super) fn go_on(&mut self, cx: &mut Cx<'_, Self>) {
        while self.repair.open.len() < WINDOW
            && let Some(batch) = self.repair.queue.pop_front()
        {
            self.offer(cx, batch);
        }
        let more = self.repair.pass.is_some_and(|pass| pass.left > 0);
        if more && self.repair.open.is_empty() && self.repair.survey.is_over() {
            cx.set_timer(Duration::ZERO, DhtTimer::Slice);
        }
    }

    pub(super) fn look_at_a_slice(&mut self, cx: &mut Cx<'_, Self>) {
        if !self.repair.survey.is_over() {
            return self.survey(cx);
        }
        let Some(pass) = self.repair.pass.filter(|_| self.repair.open.is_empty()) else { return };
        let now = cx.wall().as_secs();
        let (salted, replicas) = (self.is_salted(), usize::from(self.config.replicas));
        let most = if salted { SLICE / replicas } else { SLICE };
        let slice = self.index.around(pass.after, most.min(pass.left));
        let after = slice.last().copied().or(pass.after);
        let left = if slice.is_empty() { 0 } else { pass.left - slice.len() };
        self.repair.pass = Some(Pass { after, left, ..pass });
        if salted {
            return self.begin_survey(cx, slice, pass.all);
        }
        let mut plan = Plan::new();
        for slot in slice {
            let peers = self.find_place(&slot);
            let Some(held) = self.index.get_mut(&slot).filter(|held| held.expires > now) else { continue };
            let standing = held.standing;
            let known = held.confirmed == standing;
            if peers.is_empty() || known && !pass.all {
                continue;
            }
            if held.mine {
                held.confirmed = standing;
                self.repair.due.extend(peers);
                continue;
            }
            // What this node has published, and need not keep otherwise, it stores again before long.
            if known && held.own {
                continue;
            }
            held.compare(standing, peers.len(), peers.len() >= replicas);
            let offered = Offered { slot, version: held.version, nth: 0 };
            peers.into_iter().for_each(|peer| plan.entry(peer).or_default().push(offered));
        }
        if left == 0 {
            let again = self.repair.again.iter().copied();
            let due: BTreeSet<O::Peer> =
                std::mem::take(&mut self.repair.due).into_iter().chain(again).collect();
            let sums = due.into_iter().map(|to| Batch { to, copies: Vec::new(), sending: 0 });
            self.repair.queue.extend(sums);
        }
        self.offer_all(cx, plan);
    }

    /// Notes who should have a record, as it is now; says who else. It costs a look at the overlay's tables.
    pub(super) fn find_place(&mut self, slot: &Slot<O::Peer>) -> Vec<O::Peer> {
        let (peers, mine) = self.keepers(&slot.key);
        let Some(held) = self.index.get_mut(slot).filter(|_| !peers.is_empty()) else { return peers };
        let standing = fingerprint(&peers, &mut self.repair.names);
        (held.standing, held.mine) = (standing, mine);
        if mine {
            let pass = self.repair.passes;
            let new = || Group { peers: peers.clone(), pass };
            self.repair.shared.groups.entry(standing).or_insert_with(new).pass = pass;
            self.index.is_needed(slot);
        }
        peers
    }

    /// The roots of some records are known: it is time to compare.
    pub(super) fn compare_surveyed(&mut self, cx: &mut Cx<'_, Self>, records: Vec<Surveyed<O::Peer>>) {
        let me = self.overlay.me();
        let mut plan = Plan::new();
        for Surveyed { slots, standing, mut roots, incomplete, .. } in records {
            let enough = roots.len() >= self.config.replicas.into();
            let surplus = enough && roots.iter().all(|(root, _)| *root != me);
            roots.retain(|(root, _)| *root != me);
            for slot in slots {
                let Some(held) = self.index.get_mut(&slot) else { continue };
                held.compare(standing, roots.len() + usize::from(incomplete), surplus);
                for (peer, nth) in &roots {
                    let offered = Offered { slot, version: held.version, nth: *nth };
                    plan.entry(*peer).or_default().push(offered);
                }
            }
        }
        self.offer_all(cx, plan);
    }

    fn offer_all(&mut self, cx: &mut Cx<'_, Self>, plan: Plan<O::Peer>) {
        for (to, copies) in plan {
            let batches = copies.chunks(OFFERED);
            self.repair.queue.extend(batches.map(|copies| Batch { to, copies: copies.to_vec(), sending: 0 }));
        }
        self.go_on(cx);
    }

    /// Offers some of its copies to one peer.
    pub(super) fn offer_copies(&mut self, to: O::Peer, slots: &[Slot<O::Peer>]) {
        for slots in slots.chunks(OFFERED) {
            let held = slots.iter().filter_map(|slot| Some((slot, self.index.get(slot)?)));
            let offered = |(slot, held): (&Slot<O::Peer>, &Held)| Offered {
                slot: *slot,
                version: held.version,
                nth: 0,
            };
            let copies = held.map(offered).collect();
            self.repair.queue.push_back(Batch { to, copies, sending: 0 });
        }
    }

    /// The nodes that should have a record beside this one, and whether it should too. Nobody, where this node cannot
    /// tell.
    fn keepers(&self, key: &Key) -> (Vec<O::Peer>, bool) {
        let replicas = self.overlay.replicas(key, self.config.replicas.into());
        let Replicas::Peers(mut peers) = replicas else { return (Vec::new(), false) };
        if !self.overlay.is_joined() {
            return (Vec::new(), false);
        }
        let before = peers.len();
        peers.retain(|peer| *peer != self.overlay.me());
        let mine = peers.len() < before;
        (peers, mine)
    }

    /// What this node's tables say of a record's place: never zero, and the same as long as nothing changes.
    fn standing(&self, key: &Key) -> u64 {
        match self.keys(key) {
            Some(keys) => self.own_standing(&keys),
            None => fingerprint(&self.keepers(key).0, &mut BTreeMap::new()),
        }
    }

    // ---- a batch

    fn offer(&mut self, cx: &mut Cx<'_, Self>, batch: Batch<O::Peer>) {
        let id = self.repair.next;
        self.repair.next += 1;
        let (to, copies) = (batch.to, batch.copies.clone());
        let asked = match copies.is_empty() {
            true => self.ask_for_sum(cx, to, id),
            false => self.ask(cx, to, Question::Offer(id), |id| DhtMsg::Offer { id, copies }),
        };
        if asked {
            self.repair.open.insert(id, batch);
        }
    }

    /// Another replica names what it has. Anybody can offer anything, and send nothing: that may cost a copy that comes
    /// twice, but nobody else is refused for it, nor waits for it more than once.
    pub(super) fn on_offer(
        &mut self,
        cx: &mut Cx<'_, Self>,
        from: O::Peer,
        id: u32,
        copies: &[Offered<O::Peer>],
    ) {
        let (now, until) = (cx.now(), cx.now() + self.config.timeout);
        let salted = self.is_salted();
        let mut of_sender = self.repair.coming.values().filter(|coming| coming.from == from).count();
        let verdict = |Offered { slot, version, nth }: &Offered<O::Peer>| {
            // The offerer remembers who is a root until it is told otherwise.
            if salted && !self.is_nth_root(&slot.key, *nth) {
                return Verdict::Refuses;
            }
            if self.index.get(slot).is_some_and(|held| held.version >= *version) {
                return Verdict::Has;
            }
            let before = self.repair.coming.get(slot);
            if before.is_some_and(|coming| coming.until > now && coming.version >= *version) {
                return Verdict::Expects;
            }
            let ends = self.may_last(cx, slot, version);
            if !ends || !self.is_responsible(&slot.key) {
                return Verdict::Refuses;
            }
            let account = self.index.payer(slot, 0, self.copier(from, &slot.key), &self.config);
            if !self.index.has_room(slot, 0, account, &self.config) && self.index.spare().is_none() {
                return Verdict::Refuses;
            }
            let crowded =
                self.repair.coming.len() >= self.config.capacity || of_sender >= self.config.capacity / 8;
            if before.is_none() && !crowded {
                self.repair.coming.insert(*slot, Coming { from, version: *version, until });
                of_sender += 1;
            }
            Verdict::Wants
        };
        let verdicts = copies.iter().take(OFFERED).map(verdict).collect();
        self.tell(cx, from, DhtMsg::Compared { id, verdicts });
    }

    /// The other says what it lacks.
    pub(super) fn compared(&mut self, cx: &mut Cx<'_, Self>, id: u64, from: O::Peer, verdicts: &[Verdict]) {
        let Some(batch) = self.repair.open.get_mut(&id) else { return };
        let copies = std::mem::take(&mut batch.copies);
        let with = |wanted| {
            let pairs = copies.iter().zip(verdicts).filter(move |(_, verdict)| **verdict == wanted);
            pairs.map(|(copy, _)| *copy).collect::<Vec<_>>()
        };
        let (has, wants, refuses) = (with(Verdict::Has), with(Verdict::Wants), with(Verdict::Refuses));
        batch.sending = wants.len();
        if verdicts.contains(&Verdict::Expects) {
            // Whoever is sending it may fail: these are looked at again.
            match self.repair.shared.groups.values().any(|group| group.peers.contains(&from)) {
                true => self.sum_once_more(cx, from),
                false => self.look_once_more(cx, from),
            }
        }
        has.iter().for_each(|has| self.confirm(cx, &has.slot, has.version));
        for refused in &refuses {
            let keys = self.keys(&refused.slot.key).unwrap_or_default();
            self.repair.roots.forget(&keys, from);
        }
        self.repair.outgoing.extend(wants.iter().map(|wanted| (id, from, wanted.slot)));
        self.send_copies(cx);
        if wants.is_empty() {
            self.end_batch(cx, id);
        }
    }

    /// Reads what others want, as fast as it may be sent; each record is then on its way, or one less to wait for.
    pub(super) fn send_copies(&mut self, cx: &mut Cx<'_, Self>) {
        let (now, rate) = (cx.now(), self.config.repair_rate.max(1));
        while let Some((batch, to, slot)) = self.repair.outgoing.front().copied() {
            // What has been sent in a second may be sent at once.
            let early = self.repair.sent_by.since(now);
            if early >= Duration::from_secs(1) {
                return cx.set_timer(early - Duration::from_millis(900), DhtTimer::Paced);
            }
            self.repair.outgoing.pop_front();
            let size = self.index.get(&slot).map_or(0, |held| held.size as u64);
            let takes = Duration::from_micros((size + ENVELOPE).saturating_mul(1_000_000) / rate);
            self.repair.sent_by = self.repair.sent_by.max(now) + takes;
            self.start(cx, StoreJob::Read(vec![slot]), JobFor::Copy { batch, to });
        }
    }

    /// A record that the other wants has been read.
    pub(super) fn copy(
        &mut self,
        cx: &mut Cx<'_, Self>,
        batch: u64,
        to: O::Peer,
        records: Vec<Record<O::Peer>>,
    ) {
        let valid = |record: &Record<O::Peer>| self.validators.check(record).is_ok();
        let Some(record) = records.into_iter().next().filter(valid) else { return self.one_less(cx, batch) };
        let slot = record.slot();
        let store = |id| DhtMsg::Store { id, record, expected: None, copy: true };
        if !self.ask(cx, to, Question::Copy(batch, slot), store) {
            self.one_less(cx, batch);
        }
    }

    pub(super) fn copied(
        &mut self,
        cx: &mut Cx<'_, Self>,
        batch: u64,
        slot: Slot<O::Peer>,
        result: Result<(), Refusal>,
    ) {
        if let (Ok(()), Some(held)) = (result, self.index.get(&slot)) {
            let version = held.version;
            self.confirm(cx, &slot, version);
        }
        self.one_less(cx, batch);
    }

    /// A peer does not answer offers: it gets no more of them in this slice.
    pub(super) fn offer_ignored(&mut self, cx: &mut Cx<'_, Self>, id: u64, peer: O::Peer) {
        self.repair.queue.retain(|batch| batch.to != peer);
        let outgoing = self.repair.outgoing.drain(..);
        let (lost, others): (VecDeque<_>, _) = outgoing.partition(|(_, to, _)| *to == peer);
        self.repair.outgoing = others;
        self.repair.again.remove(&peer);
        if self.repair.roots.forget_peer(peer) {
            // What it should have had is somebody else's now, perhaps; or it is found again, and as silent.
            self.look_once_more(cx, peer);
        }
        self.end_batch(cx, id);
        // Batches that it has answered before wait for these.
        lost.into_iter().for_each(|(batch, ..)| self.one_less(cx, batch));
    }

    /// One of a batch's copies is done with.
    pub(super) fn one_less(&mut self, cx: &mut Cx<'_, Self>, id: u64) {
        if let Some(batch) = self.repair.open.get_mut(&id) {
            batch.sending = batch.sending.saturating_sub(1);
            if batch.sending == 0 {
                self.end_batch(cx, id);
            }
        }
    }

    pub(super) fn end_batch(&mut self, cx: &mut Cx<'_, Self>, id: u64) {
        self.repair.open.remove(&id);
        self.go_on(cx);
    }

    /// One more replica has this copy.
    fn confirm(&mut self, cx: &mut Cx<'_, Self>, slot: &Slot<O::Peer>, version: Version) {
        if !self.index.confirm(slot, version, self.config.write_quorum.into()) {
            return;
        }
        let Some(held) = self.index.get(slot) else { return };
        // A copy too many is dropped if all who should have it have confirmed it, and still are those who should.
        let (drop, compared) = (held.surplus && !held.own, held.comparing);
        if drop && self.standing(&slot.key) == compared {
            self.forget(cx, *slot);
        }
    }
}

/// Tells one set of peers from another; never zero. `names` remembers the peers' keys.
fn fingerprint<P: Keyed>(peers: &[P], names: &mut BTreeMap<P, u64>) -> u64 {
    let name = |peer: &P| {
        *names.entry(*peer).or_insert_with(|| {
            peer.key().as_bytes()[..8].iter().fold(0, |name, byte| name << 8 | u64::from(*byte))
        })
    };
    peers.iter().map(name).fold(peers.len() as u64, u64::wrapping_add) | 1
}
