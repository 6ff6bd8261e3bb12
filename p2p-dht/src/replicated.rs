//! The machine: records on the nodes that an overlay makes responsible for their keys.
//!
//! A publisher looks up the r nodes responsible for a key and stores the record at each; they copy it to one another
//! whenever they change (DHash, Dabek et al. SOSP 2001, §4.2; Kademlia §2.5). Nothing here knows which overlay it is.
//!
//! In this order: [`Replicated`] and its configuration, and how inputs are told apart. Then `msg`, `serve` (what others
//! ask), `put` and `get` (what the user asks) with `call` (what he wants to know of it), `sweep` (much at once) and `fetch`
//! (what many want, from a `cache` on the way), `repair` (copies move when nodes come and go) with `summary` (whether two
//! nodes have the same) and `roots` (whose copies they are, where they lie at salted keys), `keep` (own records are published again, ended ones forgotten), over the
//! `index` of what this node has.

mod cache;
mod call;
mod config;
mod fetch;
mod get;
mod index;
mod keep;
mod msg;
mod put;
mod repair;
mod roots;
mod serve;
mod summary;
mod sweep;

use std::collections::{BTreeMap, VecDeque};
use std::fmt;

use p2p_core::{Cx, JobId, Key, Link, NoJob, OpId, Pending, Protocol, Time, Up};
use p2p_overlay::{Find, Looked, Overlay, Replicas};

use crate::custom::{Custom, Validator, Validators};
use crate::record::{Record, Slot, Version};
use crate::request::{DhtCommand, DhtItem, DhtOutcome, Said};
use crate::store::{StoreDone, StoreEntry, StoreJob};

use call::Call;
use fetch::Passing;
use get::Get;
use index::Index;
use put::Put;
use repair::Repair;
use serve::SKEW;
use sweep::Sweep;

pub use config::{Allocation, DhtConfig};
pub use fetch::Fetched;
pub use msg::{DhtMsg, OFFERED, Offered, Refusal, Verdict, Wanted};
pub use summary::{PARTS, Part, Sum};

/// A node of a distributed hash table over the overlay `O`.
///
/// It is a [`Protocol`] whose jobs a worker does, such as [`MemoryStore`](crate::MemoryStore). Its users hold a
/// [`Handle`](p2p_core::Handle), which is a [`Dht`](crate::Dht):
///
/// ```
/// use p2p_core::SimPeer;
/// use p2p_core::sim::{DiskModel, Network, Sim};
/// use p2p_dht::{Dht, DhtConfig, MemoryStore, Replicated};
/// use p2p_overlay::Kademlia;
/// use std::time::Duration;
///
/// type Node = Replicated<Kademlia<SimPeer>>;
/// let mut sim = Sim::<Node, MemoryStore<SimPeer>>::with_workers(
///     1, Network::default(), DiskModel::default(), |_| MemoryStore::default(),
/// );
/// let first = sim.spawn(|birth| Node::new(Kademlia::create(birth.peer), DhtConfig::default()));
/// for _ in 0..9 {
///     sim.spawn(|birth| Node::new(Kademlia::join(birth.peer, [first]), DhtConfig::default()));
/// }
/// sim.run_for(Duration::from_secs(30));
///
/// let (here, there) = (sim.handle(SimPeer(3)), sim.handle(SimPeer(7)));
/// let value = sim.block_on(async move {
///     let key = here.put("a value".into()).await.unwrap();
///     there.get(key).await.unwrap()
/// });
/// assert_eq!(value, "a value");
/// ```
pub struct Replicated<O: Overlay> {
    overlay: O,
    config: DhtConfig,
    /// What says which records of applications' own may be kept, given and believed.
    validators: Validators,
    index: Index<O::Peer>,
    /// What this node has put for its clients, as if it kept that.
    clients: Index<O::Peer>,
    /// Whether the index has all that was there when the node started.
    scanned: bool,
    /// Up to where it has.
    scanned_to: Option<Slot<O::Peer>>,
    /// Questions to peers.
    asked: Pending<O::Peer, Question<O::Peer>>,
    /// When [`DhtTimer::Late`] fires.
    late: Option<Time>,
    /// Lookups, and the put, the get or the user's own lookup that each is for.
    finds: BTreeMap<OpId, OpId>,
    puts: BTreeMap<OpId, Put<O::Peer>>,
    gets: BTreeMap<OpId, Get<O::Peer>>,
    /// What others want of those further on, and what came of that.
    passing: Passing<O::Peer>,
    /// Puts and gets of whose ways their users want to know.
    calls: BTreeMap<OpId, Call<O::Peer>>,
    /// Records on their way together, the puts that are a part of that, and those with one that has ended.
    sweeps: BTreeMap<OpId, Sweep<O::Peer>>,
    swept: BTreeMap<OpId, OpId>,
    sweeping: VecDeque<OpId>,
    jobs: BTreeMap<JobId, JobFor<O::Peer>>,
    repair: Repair<O::Peer>,
    /// When what this node has published is published again.
    republished: BTreeMap<Slot<O::Peer>, Time>,
    /// What this node says to itself: it may be a replica too.
    loopback: VecDeque<Msg<O>>,
}

/// One in so many of the jobs that may be under way at once may be for one peer: it takes as many that ask without end to keep
/// others from storing and reading.
const SHARE: usize = 8;

/// How many records the worker names at a time, at the start.
const PAGE: usize = 1024;

type Msg<O> = DhtMsg<<O as Protocol>::Peer, <O as Protocol>::Msg>;

/// The timers of a node of the hash table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DhtTimer<T> {
    /// The overlay's own.
    Overlay(T),
    /// A peer is late.
    Late,
    /// Time to compare records with the other replicas.
    Repair,
    /// Neighbours have changed a while ago.
    Settled,
    /// Time to look at the next records of a repair.
    Slice,
    /// More copies may be sent.
    Paced,
    /// Time to publish own records again, and to forget those that have ended.
    Keep,
    /// Time to go on with a put, or a get.
    Again(OpId),
    /// Time to go on with many records.
    Sweep(OpId),
    /// A call has taken as long as its user wants to wait.
    Deadline(OpId),
}

/// What a question to a peer was for.
#[derive(Clone, Copy, Debug)]
enum Question<P> {
    /// To store the record of this put.
    Store(OpId),
    /// To load what this get wants.
    Load(OpId),
    /// To give what this get wants, or to ask on for it.
    Fetch(OpId),
    /// The same, for a peer that has asked this node under this number.
    Pass { to: P, id: u32, key: Key },
    /// To compare the copies of this batch.
    Offer(u64),
    /// To compare all that is shared with the peer.
    Sum(u64),
    /// To copy this record of this batch.
    Copy(u64, Slot<P>),
}

/// What a job is for.
#[derive(Clone, Debug)]
enum JobFor<P> {
    /// A peer wants this stored.
    Store { from: P, id: u32, slot: Slot<P>, size: usize, account: u64 },
    /// A peer wants to know what is there.
    Load { from: P, id: u32 },
    /// A peer wants a value, for itself or for another.
    Fetch { from: P, id: u32 },
    /// To have what this node publishes itself, with this put.
    Own { op: OpId, slot: Slot<P>, size: usize },
    /// To publish it again.
    Republish,
    /// To copy what a peer wants of a batch.
    Copy { batch: u64, to: P },
    /// To know what was there when the node started.
    Scan,
    /// To be rid of this copy.
    Remove(StoreEntry<P>),
    /// Not to publish it any more.
    Disown { op: OpId, slot: Slot<P> },
}

impl<P: Copy> JobFor<P> {
    /// The peer that waits for it.
    fn asked_by(&self) -> Option<P> {
        match self {
            JobFor::Store { from, .. } | JobFor::Load { from, .. } | JobFor::Fetch { from, .. } => {
                Some(*from)
            }
            JobFor::Own { .. }
            | JobFor::Republish
            | JobFor::Copy { .. }
            | JobFor::Scan
            | JobFor::Remove(_)
            | JobFor::Disown { .. } => None,
        }
    }
}

impl<O: Overlay<Job = NoJob>> Replicated<O> {
    /// A node that keeps records for others in this overlay.
    pub fn new(overlay: O, config: DhtConfig) -> Replicated<O> {
        let config = DhtConfig {
            replicas: config.replicas.clamp(1, 16),
            write_quorum: config.write_quorum.max(1),
            read_quorum: config.read_quorum.max(1),
            max_providers: config.max_providers.min(64),
            ..config
        };
        Replicated {
            overlay,
            config,
            validators: Validators::default(),
            index: Index::new(&config),
            clients: Index::new(&config),
            scanned: false,
            scanned_to: None,
            asked: Pending::with_capacity(5 * config.capacity),
            late: None,
            finds: BTreeMap::new(),
            puts: BTreeMap::new(),
            gets: BTreeMap::new(),
            passing: Passing::new(config.cache_bytes),
            calls: BTreeMap::new(),
            sweeps: BTreeMap::new(),
            swept: BTreeMap::new(),
            sweeping: VecDeque::new(),
            jobs: BTreeMap::new(),
            repair: Repair::default(),
            republished: BTreeMap::new(),
            loopback: VecDeque::new(),
        }
    }

    /// Keeps records of an application's own too, of this namespace: those that this lets through.
    pub fn with_validator(mut self, namespace: Key, validator: impl Validator + 'static) -> Replicated<O> {
        self.validators.insert(namespace, validator);
        self
    }

    /// The overlay.
    pub fn overlay(&self) -> &O {
        &self.overlay
    }

    /// What this node keeps, sorted by key, with which copy of each.
    pub fn held(&self) -> impl ExactSizeIterator<Item = (&Slot<O::Peer>, Version)> {
        self.index.iter().map(|(slot, held)| (slot, held.version))
    }

    fn run(&mut self, cx: &mut Cx<'_, Self>, op: OpId, command: DhtCommand<O::Peer>) {
        match command {
            DhtCommand::Put { value } => self.put_value(cx, op, value),
            DhtCommand::Publish { signed, expected } => {
                self.begin_put(cx, op, Record::Mutable(signed), expected, false);
            }
            DhtCommand::Provide { key } => self.provide(cx, op, key),
            DhtCommand::PutAt { key, value, owner } => {
                let expires = self.until(cx, self.lifetime_of(op));
                self.begin_put(cx, op, Record::Removable { key, value, owner, expires }, None, false);
            }
            DhtCommand::Remove { key, secret, value } => {
                // It lasts longer than what it removes, which may end so much later than this clock says: those who keep
                // it may be ahead of this node, and whoever put it ahead of them.
                let expires = self.until(cx, self.config.lifetime).saturating_add(2 * SKEW);
                self.begin_put(cx, op, Record::Removed { key, secret, value, expires }, None, false);
            }
            DhtCommand::PutCustom { namespace, key, sequence, value, expected } => {
                let expires = self.until(cx, self.lifetime_of(op));
                let record = Record::Custom(Custom { namespace, key, sequence, value, expires });
                self.begin_put(cx, op, record, expected, false);
            }
            DhtCommand::ProvideAll { keys } => self.begin_sweep(cx, op, keys, false),
            DhtCommand::Withdraw { slot } => self.withdraw(cx, op, slot),
            DhtCommand::Get { key, wanted } => self.begin_get(cx, op, key, wanted),
            DhtCommand::Find { find } => self.look_up(cx, op, vec![find]),
            DhtCommand::With { command, options } => self.begin_call(cx, op, *command, options),
        }
    }

    /// Hands the overlay an input, and takes in the lookups that have ended.
    fn below(&mut self, cx: &mut Cx<'_, Self>, input: impl FnOnce(&mut O, &mut Cx<'_, O>)) {
        let overlay = &mut self.overlay;
        let ups =
            cx.nest(DhtMsg::Overlay, DhtTimer::Overlay, |job: NoJob| match job {}, |cx| input(overlay, cx));
        for up in ups {
            match up {
                Up::Finished(find, looked) => match self.finds.remove(&find) {
                    Some(op) => self.on_looked(cx, op, looked),
                    None => self.root_found(cx, find, looked),
                },
                Up::Event(_) => self.neighbours_changed(cx),
                Up::Item(_, ()) => {}
            }
        }
    }

    /// Where copies of a record may lie, if that is at salted keys: the first r different roots of these keep it.
    fn keys(&self, key: &Key) -> Option<Vec<Key>> {
        match self.overlay.replicas(key, 2 * usize::from(self.config.replicas)) {
            Replicas::Peers(_) => None,
            Replicas::Keys(keys) => Some(keys),
        }
    }

    /// The lookups that say where `n` copies of a key's record belong, after `tried` of them have found `found`
    /// different nodes: of salted keys some may have the same root, and then it takes more of them.
    fn finds(&self, key: Key, n: u8, tried: usize, found: usize) -> Vec<Find> {
        match self.keys(&key) {
            None if tried > 0 => Vec::new(),
            None => vec![Find::key(key).replicas(n)],
            Some(keys) => {
                let missing = usize::from(self.config.replicas).saturating_sub(found);
                keys.into_iter().skip(tried).take(missing).map(Find::key).collect()
            }
        }
    }

    /// Looks up for an operation; each answer comes back to it.
    fn look_up(&mut self, cx: &mut Cx<'_, Self>, op: OpId, finds: Vec<Find>) {
        self.note_lookups(op, finds.len());
        for find in finds {
            let id = cx.op();
            self.finds.insert(id, op);
            self.below(cx, |overlay, cx| overlay.on_command(cx, id, find));
        }
    }

    fn on_looked(&mut self, cx: &mut Cx<'_, Self>, op: OpId, looked: Looked<O::Peer>) {
        self.note_looked(op, &looked);
        if self.puts.contains_key(&op) {
            self.put_located(cx, op, looked);
        } else if self.gets.contains_key(&op) {
            self.get_located(cx, op, looked);
        } else {
            // The user's own: puts and gets take theirs back when they end.
            cx.finish(op, DhtOutcome::Found(looked));
        }
    }

    /// Takes the lookups of an operation back.
    fn forget_finds(&mut self, cx: &mut Cx<'_, Self>, op: OpId) {
        let theirs = self.finds.iter().filter(|(_, of)| **of == op).map(|(find, _)| *find);
        for find in theirs.collect::<Vec<OpId>>() {
            self.finds.remove(&find);
            self.below(cx, |overlay, cx| overlay.on_cancel(cx, find));
        }
    }

    // ---- messages between nodes, and from this node to itself

    fn tell(&mut self, cx: &mut Cx<'_, Self>, to: O::Peer, msg: Msg<O>) {
        match to == self.overlay.me() {
            true => self.loopback.push_back(msg),
            false => cx.send(to, msg),
        }
    }

    /// Asks a peer; where too much is asked already, it counts as silent.
    fn ask(
        &mut self,
        cx: &mut Cx<'_, Self>,
        peer: O::Peer,
        what: Question<O::Peer>,
        msg: impl FnOnce(u32) -> Msg<O>,
    ) -> bool {
        let deadline = cx.now() + self.config.timeout;
        let Ok(id) = self.asked.insert(peer, deadline, what) else { return false };
        self.tell(cx, peer, msg(id));
        true
    }

    fn on_peer(&mut self, cx: &mut Cx<'_, Self>, from: O::Peer, msg: Msg<O>) {
        match msg {
            DhtMsg::Overlay(msg) => self.below(cx, |overlay, cx| overlay.on_message(cx, from, msg)),
            DhtMsg::Store { id, record, expected, copy } => {
                self.on_store(cx, from, id, record, expected, copy);
            }
            DhtMsg::Provide { id, key, expires } => self.on_provide(cx, from, id, key, expires),
            DhtMsg::Stored { id, result } => match self.asked.answer(id, from) {
                Some(Question::Store(op)) => self.put_answered(cx, op, from, result),
                Some(Question::Copy(batch, slot)) => self.copied(cx, batch, slot, result),
                // An answer to something else is none.
                Some(other) => self.on_silence(cx, from, other),
                None => {}
            },
            DhtMsg::Load { id, key, wanted } => self.on_load(cx, from, id, key, wanted),
            DhtMsg::Loaded { id, records } => match self.asked.answer(id, from) {
                Some(Question::Load(op)) => self.get_answered(cx, op, from, records),
                Some(other) => self.on_silence(cx, from, other),
                None => {}
            },
            DhtMsg::Fetch { id, key, hops } => self.on_fetch(cx, from, id, key, hops),
            DhtMsg::Fetched { id, found } => {
                if let Some(question) = self.asked.answer(id, from) {
                    self.on_fetched(cx, from, question, found);
                }
            }
            DhtMsg::Offer { id, copies } => self.on_offer(cx, from, id, &copies),
            DhtMsg::Compared { id, verdicts } => match self.asked.answer(id, from) {
                Some(Question::Offer(batch)) => self.compared(cx, batch, from, &verdicts),
                Some(other) => self.on_silence(cx, from, other),
                None => {}
            },
            DhtMsg::Sum { id, sum } => self.on_sum(cx, from, id, sum),
            DhtMsg::Summed { id, parts } => match self.asked.answer(id, from) {
                Some(Question::Sum(batch)) => self.summed(cx, batch, from, &parts),
                Some(other) => self.on_silence(cx, from, other),
                None => {}
            },
        }
    }

    fn on_silence(&mut self, cx: &mut Cx<'_, Self>, peer: O::Peer, question: Question<O::Peer>) {
        match question {
            Question::Store(op) => self.put_answered(cx, op, peer, Err(Refusal::Silent)),
            Question::Load(op) => self.get_silent(cx, op, peer),
            Question::Fetch(op) => {
                self.note_said(op, peer, Said::Silent);
                self.fetch_ended(cx, op, None);
            }
            Question::Pass { to, id, .. } => self.pass_back(cx, to, id, None),
            Question::Offer(batch) | Question::Sum(batch) => self.offer_ignored(cx, batch, peer),
            Question::Copy(batch, _) => self.one_less(cx, batch),
        }
    }

    /// What every input ends with.
    fn settle(&mut self, cx: &mut Cx<'_, Self>) {
        loop {
            while let Some(msg) = self.loopback.pop_front() {
                let me = self.overlay.me();
                self.on_peer(cx, me, msg);
            }
            let Some(op) = self.sweeping.pop_front() else { break };
            self.sweep_on(cx, op);
        }
        match self.asked.next_deadline() {
            next if next == self.late => return,
            Some(at) => cx.set_timer(at - cx.now(), DhtTimer::Late),
            None => cx.clear_timer(DhtTimer::Late),
        }
        self.late = self.asked.next_deadline();
    }

    // ---- jobs

    fn start(&mut self, cx: &mut Cx<'_, Self>, job: StoreJob<O::Peer>, what: JobFor<O::Peer>) {
        let id = cx.start(job);
        self.jobs.insert(id, what);
    }

    /// Asks what was there when the node started, a page at a time.
    fn scan(&mut self, cx: &mut Cx<'_, Self>) {
        let after = self.scanned_to;
        self.start(cx, StoreJob::Scan { after, most: PAGE }, JobFor::Scan);
    }

    fn is_busy(&self) -> bool {
        self.jobs.len() >= self.config.capacity
    }

    /// Whether too much is under way for one more thing that a peer asks: in all, or of what it has asked.
    fn is_busy_for(&self, peer: O::Peer) -> bool {
        let share = (self.config.capacity / SHARE).max(1);
        let theirs = || self.jobs.values().filter(|job| job.asked_by() == Some(peer)).count();
        let is_half_taken = self.jobs.len() >= self.config.capacity / 2;
        self.is_busy() || is_half_taken && peer != self.overlay.me() && theirs() >= share
    }
}

impl<O: Overlay<Job = NoJob>> Protocol for Replicated<O> {
    type Peer = O::Peer;
    type Msg = Msg<O>;
    type Timer = DhtTimer<O::Timer>;
    type Command = DhtCommand<O::Peer>;
    type Item = DhtItem<O::Peer>;
    type Outcome = DhtOutcome<O::Peer>;
    type Event = ();
    type Job = StoreJob<O::Peer>;

    fn warm(&self) {
        self.overlay.warm();
        self.asked.warm();
    }

    fn on_start(&mut self, cx: &mut Cx<'_, Self>) {
        self.scan(cx);
        self.begin_repairs(cx);
        self.keep_later(cx);
        self.below(cx, |overlay, cx| overlay.on_start(cx));
        self.settle(cx);
    }

    fn on_message(&mut self, cx: &mut Cx<'_, Self>, from: O::Peer, msg: Msg<O>) {
        self.on_peer(cx, from, msg);
        self.settle(cx);
    }

    fn on_timer(&mut self, cx: &mut Cx<'_, Self>, timer: DhtTimer<O::Timer>) {
        match timer {
            DhtTimer::Overlay(timer) => self.below(cx, |overlay, cx| overlay.on_timer(cx, timer)),
            DhtTimer::Late => {
                self.late = None;
                while let Some((peer, question)) = self.asked.expire(cx.now()) {
                    self.on_silence(cx, peer, question);
                }
            }
            DhtTimer::Repair => self.repair_all(cx),
            DhtTimer::Settled => self.repair_changed(cx),
            DhtTimer::Slice => self.look_at_a_slice(cx),
            DhtTimer::Paced => self.send_copies(cx),
            DhtTimer::Keep => self.keep(cx),
            DhtTimer::Again(op) => {
                self.next_round(cx, op);
                self.next_look(cx, op);
            }
            DhtTimer::Sweep(op) => self.sweep_on(cx, op),
            DhtTimer::Deadline(op) => {
                self.conclude_put(cx, op);
                self.get_overdue(cx, op);
            }
        }
        self.settle(cx);
    }

    fn on_command(&mut self, cx: &mut Cx<'_, Self>, op: OpId, command: DhtCommand<O::Peer>) {
        self.run(cx, op, command);
        self.settle(cx);
    }

    fn on_cancel(&mut self, cx: &mut Cx<'_, Self>, op: OpId) {
        self.puts.remove(&op);
        self.gets.remove(&op);
        if self.calls.remove(&op).is_some() {
            cx.clear_timer(DhtTimer::Deadline(op));
        }
        self.forget_finds(cx, op);
        self.forget_sweep(cx, op);
    }

    fn on_link(&mut self, cx: &mut Cx<'_, Self>, peer: O::Peer, link: Link) {
        if let Link::Down(_) = link {
            while let Some(question) = self.asked.give_up(peer) {
                self.on_silence(cx, peer, question);
            }
        }
        self.below(cx, |overlay, cx| overlay.on_link(cx, peer, link));
        self.settle(cx);
    }

    fn on_job(&mut self, cx: &mut Cx<'_, Self>, id: JobId, done: StoreDone<O::Peer>) {
        if let Some(what) = self.jobs.remove(&id) {
            self.job_done(cx, what, done);
            self.settle(cx);
        }
    }
}

impl<O: Overlay> fmt::Debug for Replicated<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Replicated({} records)", self.index.iter().len())
    }
}

#[cfg(test)]
mod tests;
