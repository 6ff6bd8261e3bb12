//! The machine: what a node has, and how inputs are told apart.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;

use p2p_core::{Cx, JobId, Key, Keyed, Link, NoJob, OpId, Pending, Protocol, Time, Up};
use p2p_overlay::{Overlay, Pastry, Replicas};

use super::PastConfig;
use super::ask::{PastCommand, PastOutcome, Wanting};
use super::certificate::MAX_COPIES;
use super::keep::{Diverting, Keeping};
use super::msg::{PastMsg, PastRefusal};
use super::repair::Repair;
use super::root::{Inserted, Spreading};
use super::store::{Kept, PastDone, PastJob};

pub(super) type Msg<P> = PastMsg<P, <Pastry<P> as Protocol>::Msg>;

/// A node of PAST.
///
/// It is a [`Protocol`] whose jobs a worker does, such as [`PastMemory`](super::PastMemory). Its users hold a
/// [`Past`](super::Past): see there for an example.
pub struct PastNode<P: Keyed> {
    pub(super) pastry: Pastry<P>,
    pub(super) config: PastConfig,
    /// At most [`PastConfig::max_files`], those being written included.
    pub(super) files: BTreeMap<Key, Held<P>>,
    pub(super) writing: BTreeSet<Key>,
    /// What those take that are here or being written, in bytes.
    pub(super) used: u64,
    /// Whether the node knows what was here when it started.
    pub(super) scanned: bool,
    /// What is free at each leaf, as it has said.
    pub(super) spaces: BTreeMap<P, u64>,
    /// What this node has said last.
    pub(super) told: Option<u64>,
    /// Questions to peers.
    pub(super) asked: Pending<P, Question<P>>,
    /// When [`PastTimer::Late`] fires.
    late: Option<Time>,
    pub(super) jobs: BTreeMap<JobId, JobFor<P>>,
    /// Lookups, and what each is for.
    pub(super) finds: BTreeMap<OpId, OpId>,
    /// What users want: at most [`PastConfig::calls`].
    pub(super) wanting: BTreeMap<OpId, Wanting<P>>,
    /// The tickets of inserts.
    pub(super) tickets: BTreeMap<u32, OpId>,
    /// Files on their way from this node, their root, to the others: at most [`PastConfig::calls`].
    pub(super) spreading: BTreeMap<u32, Spreading<P>>,
    /// Numbers tickets and files on their way.
    next: u32,
    pub(super) repair: Repair<P>,
    /// What this node says to itself.
    pub(super) loopback: VecDeque<Msg<P>>,
}

/// A file that this node has something of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Held<P> {
    pub(super) size: u64,
    /// The beginning of its content's hash.
    pub(super) tag: u64,
    /// How many should keep it.
    pub(super) replicas: u8,
    pub(super) place: Place<P>,
}

/// Where the content of such a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place<P> {
    /// Here: the node is one of those nearest to it, or was.
    Here,
    /// Here, in the place of this one, which has a pointer.
    For(P),
    /// There: this is the pointer.
    At(P),
}

/// The timers of a node of PAST.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PastTimer<T> {
    /// Pastry's own.
    Overlay(T),
    /// A peer is late.
    Late,
    /// Leaves have changed a while ago.
    Settled,
    /// Time to look who should have this node's files.
    Repair,
    /// Time to go on with what a user wants.
    Again(OpId),
}

/// What a question to a peer was for.
#[derive(Clone, Debug)]
pub(super) enum Question<P> {
    /// To have a file kept.
    Insert(OpId),
    /// To keep it, of those that this node is the root of.
    Spread(u32),
    /// To keep it in this node's place.
    Divert(Box<Diverting<P>>),
    Fetch(OpId),
    Reclaim(OpId),
    /// To let a diverted replica go: whoever asked for that.
    ReclaimAt(P, u32, Key),
    /// Whether it has these files.
    Offer(Vec<Key>),
    /// Whether it still has one that this node has a pointer for.
    Whether(Key),
    /// To keep a copy.
    Copy(Key),
}

/// What a job is for.
#[derive(Clone, Debug)]
pub(super) enum JobFor<P> {
    Scan,
    Keep(Keeping<P>),
    /// To have others keep it, as its root, or in this node's place.
    Spread(Box<Inserted<P>>),
    Divert(Box<Diverting<P>>),
    Fetch {
        from: P,
        id: u32,
    },
    Reclaim {
        from: P,
        id: u32,
        file: Key,
    },
    Drop(Key),
    Copy {
        to: P,
        file: Key,
    },
}

impl<P: Keyed> PastNode<P> {
    /// A node that keeps files for others.
    pub fn new(pastry: Pastry<P>, config: PastConfig) -> PastNode<P> {
        let config = PastConfig { replicas: config.replicas.clamp(1, MAX_COPIES), ..config };
        PastNode {
            pastry,
            config,
            files: BTreeMap::new(),
            writing: BTreeSet::new(),
            used: 0,
            scanned: false,
            spaces: BTreeMap::new(),
            told: None,
            asked: Pending::with_capacity(4 * config.calls),
            late: None,
            jobs: BTreeMap::new(),
            finds: BTreeMap::new(),
            wanting: BTreeMap::new(),
            tickets: BTreeMap::new(),
            spreading: BTreeMap::new(),
            next: 0,
            repair: Repair::default(),
            loopback: VecDeque::new(),
        }
    }

    /// The overlay.
    pub fn pastry(&self) -> &Pastry<P> {
        &self.pastry
    }

    /// How many bytes of files it keeps, or is writing.
    pub fn used(&self) -> u64 {
        self.used
    }

    /// How many bytes of files it may keep.
    pub fn capacity(&self) -> u64 {
        self.config.capacity
    }

    /// The files that it keeps itself, and whether each was diverted to it.
    pub fn held(&self) -> impl Iterator<Item = (Key, bool)> {
        self.files.iter().filter_map(|(file, held)| match held.place {
            Place::Here => Some((*file, false)),
            Place::For(_) => Some((*file, true)),
            Place::At(_) => None,
        })
    }

    /// The files that it has pointers for, and to whom.
    pub fn pointers(&self) -> impl Iterator<Item = (Key, P)> {
        self.files.iter().filter_map(|(file, held)| match held.place {
            Place::At(peer) => Some((*file, peer)),
            Place::Here | Place::For(_) => None,
        })
    }

    pub(super) fn free(&self) -> u64 {
        self.config.capacity.saturating_sub(self.used)
    }

    pub(super) fn me(&self) -> P {
        self.pastry.me()
    }

    pub(super) fn is_leaf(&self, peer: P) -> bool {
        self.pastry.table().leaves().any(|leaf| leaf == peer)
    }

    /// The nodes that should keep a file, as far as this one knows, the root first.
    pub(super) fn nearest(&self, file: &Key, n: usize) -> Vec<P> {
        match self.pastry.replicas(file, n) {
            Replicas::Peers(peers) => peers,
            Replicas::Keys(_) => Vec::new(),
        }
    }

    pub(super) fn number(&mut self) -> u32 {
        self.next = self.next.wrapping_add(1);
        self.next
    }

    // ---- messages between nodes, and from this node to itself

    pub(super) fn tell(&mut self, cx: &mut Cx<'_, Self>, to: P, msg: Msg<P>) {
        match to == self.me() {
            true => self.loopback.push_back(msg),
            false => cx.send(to, msg),
        }
    }

    /// Asks a peer; where too much is asked already, it counts as silent. Says under which number.
    pub(super) fn ask(
        &mut self,
        cx: &mut Cx<'_, Self>,
        peer: P,
        what: Question<P>,
        msg: impl FnOnce(u32) -> Msg<P>,
    ) -> Option<u32> {
        // The root and whoever diverts wait for others.
        let patience = match what {
            Question::Insert(_) => 4,
            Question::Spread(_) | Question::Copy(_) => 3,
            _ => 1,
        };
        match self.asked.insert(peer, cx.now() + patience * self.config.timeout, what) {
            Ok(id) => {
                self.tell(cx, peer, msg(id));
                Some(id)
            }
            Err(what) => {
                self.on_silence(cx, peer, what);
                None
            }
        }
    }

    pub(super) fn start(&mut self, cx: &mut Cx<'_, Self>, job: PastJob, what: JobFor<P>) {
        let id = cx.start(job);
        self.jobs.insert(id, what);
    }

    pub(super) fn is_busy(&self) -> bool {
        self.jobs.len() >= self.config.calls
    }

    /// Hands Pastry an input, and takes in what it says.
    pub(super) fn below(
        &mut self,
        cx: &mut Cx<'_, Self>,
        input: impl FnOnce(&mut Pastry<P>, &mut Cx<'_, Pastry<P>>),
    ) {
        let pastry = &mut self.pastry;
        let ups =
            cx.nest(PastMsg::Overlay, PastTimer::Overlay, |job: NoJob| match job {}, |cx| input(pastry, cx));
        for up in ups {
            match up {
                Up::Finished(find, looked) => match self.finds.remove(&find) {
                    Some(op) => self.located(cx, op, looked),
                    None => self.found(cx, find, looked),
                },
                Up::Event(_) => self.leaves_changed(cx),
                Up::Item(_, ()) => {}
            }
        }
    }

    fn on_peer(&mut self, cx: &mut Cx<'_, Self>, from: P, msg: Msg<P>) {
        match msg {
            PastMsg::Overlay(msg) => self.below(cx, |pastry, cx| pastry.on_message(cx, from, msg)),
            PastMsg::Insert { id, ticket, certificate, content } => {
                self.on_insert(cx, from, id, ticket, certificate, content);
            }
            PastMsg::Inserted { id, result } => match self.asked.answer(id, from) {
                Some(Question::Insert(op)) => self.inserted(cx, op, result),
                Some(other) => self.on_silence(cx, from, other),
                None => {}
            },
            PastMsg::Store { id, certificate, content, client } => {
                self.on_store(cx, from, id, certificate, content, client);
            }
            PastMsg::Stored { id, result } => match self.asked.answer(id, from) {
                Some(Question::Spread(number)) => self.spread(cx, number, result),
                Some(Question::Divert(diverting)) => self.diverted(cx, from, *diverting, result),
                Some(Question::Copy(file)) => self.copied(cx, from, file, result),
                Some(other) => self.on_silence(cx, from, other),
                None => {}
            },
            PastMsg::Receipt { ticket, file, content, diverted } => {
                self.on_receipt(cx, from, ticket, (file, content), diverted);
            }
            PastMsg::Divert { id, certificate, content } => {
                self.on_divert(cx, from, id, certificate, content);
            }
            PastMsg::Space { free } => {
                if self.is_leaf(from) {
                    self.spaces.insert(from, free);
                }
            }
            PastMsg::Fetch { id, file } => self.on_fetch(cx, from, id, file),
            PastMsg::Fetched { id, found } => match self.asked.answer(id, from) {
                Some(Question::Fetch(op)) => self.fetched(cx, op, found),
                Some(other) => self.on_silence(cx, from, other),
                None => {}
            },
            PastMsg::Reclaim { id, reclaim } => self.on_reclaim(cx, from, id, reclaim),
            PastMsg::Reclaimed { id, freed } => match self.asked.answer(id, from) {
                Some(Question::Reclaim(op)) => self.reclaimed(cx, op, freed),
                Some(Question::ReclaimAt(to, id, file)) => self.reclaimed_at(cx, from, (to, id), file, freed),
                Some(other) => self.on_silence(cx, from, other),
                None => {}
            },
            PastMsg::Offer { id, files } => self.on_offer(cx, from, id, &files),
            PastMsg::Wanted { id, verdicts } => match self.asked.answer(id, from) {
                Some(Question::Offer(files)) => self.wanted(cx, from, &files, &verdicts),
                Some(Question::Whether(file)) => self.is_whether(from, &file, verdicts.first().copied()),
                Some(other) => self.on_silence(cx, from, other),
                None => {}
            },
        }
    }

    pub(super) fn on_silence(&mut self, cx: &mut Cx<'_, Self>, peer: P, question: Question<P>) {
        let silent = Err(PastRefusal::Silent);
        match question {
            Question::Insert(op) => self.inserted(cx, op, silent),
            Question::Spread(number) => self.spread(cx, number, silent),
            Question::Divert(diverting) => self.diverted(cx, peer, *diverting, silent),
            Question::Fetch(op) => self.fetch_silent(cx, op),
            Question::Reclaim(op) => self.reclaimed(cx, op, false),
            Question::ReclaimAt(to, id, _) => self.tell(cx, to, PastMsg::Reclaimed { id, freed: false }),
            Question::Whether(_) => {}
            Question::Offer(_) => self.wanted(cx, peer, &[], &[]),
            Question::Copy(file) => self.copied(cx, peer, file, silent),
        }
    }

    fn job_done(&mut self, cx: &mut Cx<'_, Self>, what: JobFor<P>, done: PastDone) {
        match (what, done) {
            (JobFor::Scan, PastDone::Scanned(Ok(kept))) => {
                self.scanned = true;
                for Kept { file, size, tag, replicas } in kept {
                    if !self.files.contains_key(&file) && !self.writing.contains(&file) {
                        self.used += size;
                        self.files.insert(file, Held { size, tag, replicas, place: Place::Here });
                    }
                }
            }
            (JobFor::Keep(keeping), PastDone::Kept(result)) => self.written(cx, keeping, result),
            (JobFor::Spread(inserted), PastDone::Checked(genuine)) => self.spread_out(cx, *inserted, genuine),
            (JobFor::Divert(diverting), PastDone::Checked(genuine)) => {
                self.divert_if(cx, *diverting, genuine);
            }
            (JobFor::Fetch { from, id }, PastDone::Read(read)) => {
                self.read(cx, from, id, read.ok().flatten());
            }
            (JobFor::Copy { to, file }, PastDone::Read(read)) => self.copy(cx, to, file, read.ok().flatten()),
            (JobFor::Reclaim { from, id, file }, PastDone::Reclaimed(freed)) => {
                let freed = freed == Ok(true);
                if freed {
                    self.forget(&file);
                }
                self.tell(cx, from, PastMsg::Reclaimed { id, freed });
            }
            // Where it fails it is still there: the next scan finds it.
            (JobFor::Drop(file), PastDone::Dropped(_)) => drop(self.writing.remove(&file)),
            // Nobody else's answer comes here; a scan that failed is tried again with the next repair.
            _ => {}
        }
    }

    /// A file is gone.
    pub(super) fn forget(&mut self, file: &Key) {
        if let Some(held) = self.files.remove(file)
            && !matches!(held.place, Place::At(_))
        {
            self.used -= held.size;
        }
    }

    /// Tells the leaves what is free, if that is not what they know.
    pub(super) fn tell_space(&mut self, cx: &mut Cx<'_, Self>, anew: bool) {
        let free = self.free();
        let known = self.told.is_some_and(|told| told.abs_diff(free) <= told / 20);
        if known && !anew {
            return;
        }
        self.told = Some(free);
        let leaves: Vec<P> = self.pastry.table().leaves().collect();
        for leaf in leaves {
            cx.send(leaf, PastMsg::Space { free });
        }
    }

    fn leaves_changed(&mut self, cx: &mut Cx<'_, Self>) {
        let leaves: BTreeSet<P> = self.pastry.table().leaves().collect();
        self.spaces.retain(|peer, _| leaves.contains(peer));
        self.tell_space(cx, true);
        self.settle_later(cx);
    }

    /// What every input ends with.
    fn settle(&mut self, cx: &mut Cx<'_, Self>) {
        while let Some(msg) = self.loopback.pop_front() {
            let me = self.me();
            self.on_peer(cx, me, msg);
        }
        self.tell_space(cx, false);
        match self.asked.next_deadline() {
            next if next == self.late => return,
            Some(at) => cx.set_timer(at - cx.now(), PastTimer::Late),
            None => cx.clear_timer(PastTimer::Late),
        }
        self.late = self.asked.next_deadline();
    }
}

impl<P: Keyed> Protocol for PastNode<P> {
    type Peer = P;
    type Msg = Msg<P>;
    type Timer = PastTimer<<Pastry<P> as Protocol>::Timer>;
    type Command = PastCommand;
    type Item = ();
    type Outcome = PastOutcome;
    type Event = ();
    type Job = PastJob;

    fn warm(&self) {
        self.pastry.warm();
    }

    fn on_start(&mut self, cx: &mut Cx<'_, Self>) {
        self.start(cx, PastJob::Scan, JobFor::Scan);
        self.below(cx, |pastry, cx| pastry.on_start(cx));
        self.tell_space(cx, true);
        self.repair_later(cx);
        self.settle(cx);
    }

    fn on_message(&mut self, cx: &mut Cx<'_, Self>, from: P, msg: Msg<P>) {
        self.on_peer(cx, from, msg);
        self.settle(cx);
    }

    fn on_timer(&mut self, cx: &mut Cx<'_, Self>, timer: Self::Timer) {
        match timer {
            PastTimer::Overlay(timer) => self.below(cx, |pastry, cx| pastry.on_timer(cx, timer)),
            PastTimer::Late => {
                self.late = None;
                while let Some((peer, question)) = self.asked.expire(cx.now()) {
                    self.on_silence(cx, peer, question);
                }
            }
            PastTimer::Settled => self.begin_repair(cx),
            PastTimer::Repair => {
                self.repair_later(cx);
                self.begin_repair(cx);
            }
            PastTimer::Again(op) => self.locate(cx, op),
        }
        self.settle(cx);
    }

    fn on_command(&mut self, cx: &mut Cx<'_, Self>, op: OpId, command: PastCommand) {
        self.begin(cx, op, command);
        self.settle(cx);
    }

    fn on_cancel(&mut self, cx: &mut Cx<'_, Self>, op: OpId) {
        self.give_up(cx, op);
    }

    fn on_link(&mut self, cx: &mut Cx<'_, Self>, peer: P, link: Link) {
        if let Link::Down(_) = link {
            while let Some(question) = self.asked.give_up(peer) {
                self.on_silence(cx, peer, question);
            }
        }
        self.below(cx, |pastry, cx| pastry.on_link(cx, peer, link));
        self.settle(cx);
    }

    fn on_job(&mut self, cx: &mut Cx<'_, Self>, id: JobId, done: PastDone) {
        if let Some(what) = self.jobs.remove(&id) {
            self.job_done(cx, what, done);
            self.settle(cx);
        }
    }
}

impl<P: Keyed> fmt::Debug for PastNode<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PastNode({} files, {} of {} bytes)", self.files.len(), self.used, self.config.capacity)
    }
}
