//! A node of the network: the machine that keeps a chain together with others.
//!
//! Nakamoto (2008, §5) has every node tell all others of new transactions and blocks. Here each tells its neighbours, whom a
//! [`Membership`] gives it, of what it has checked itself; so nobody is made to pass on what is worth nothing, and of
//! whatever comes it is known who has sent it. (A tree of broadcasts below, a [`PubSub`](p2p_overlay::PubSub), would carry
//! what nobody has looked at, in the name of whoever is said to have published it: there is nobody to blame then.)
//!
//! - **Headers first.** Neighbours show each other headers ([`Chain::after`](crate::Chain::after)), and only those whose
//!   bodies they have. What follows nothing known is not kept, but asked about. A chain with too little work is not kept
//!   either; one that is too long to tell is followed through a [`HeaderSync`](crate::HeaderSync), one at a time, in turns.
//! - **Bodies** of a branch with more work come from all neighbours that have shown it, a window from each; one that is late
//!   is asked of another (`bodies`).
//! - **New blocks** come to three neighbours' choice as compact blocks unasked, to others as headers (BIP 152, BIP 130).
//! - **Transactions** are announced by their names once they are in the pool, and asked for by whoever has them not.
//! - **Light clients** are strangers who ask for headers, filters, proofs and blocks, and are answered in turn
//!   ([`LightNode`](crate::LightNode)).
//! - **What gets lost** is noticed: now and then one neighbour is asked what it has, headers and what waits there.
//! - **Blame.** Who provably breaks the rules is banned for a day: a header without work, a body that is not its header's, a
//!   block that is invalid, bytes that cannot be read, more than may be asked for at once; a light client, too, who gives what
//!   cannot be read, or bad signatures time and again. Who is merely of no use, slow,
//!   silent, or sends what nobody asked for, is a neighbour no more after a while, and not banned.
//!
//! Everything that reads or changes the chain is a [`Job`](p2p_core::Job): the [`Keeper`] has the chain and the pool, checks
//! signatures and waits for the disk, in order. The machine never waits.
//!
//! What a node holds is bounded: the chain and the pool by their rules, of each neighbour one block in parts, 15,000 names of
//! transactions, 64 jobs with 6 MiB; of each of 256 light clients 8 questions with 128 KiB; 1,024 bodies that are wanted, 5,000 transactions that were asked for, 100 that wait for others,
//! 1,024 who are banned.
//!
//! In this order: [`LedgerNode`], its configuration, and how inputs are told apart. Then `msg` (what nodes say), `job` and
//! `keeper` (what is done elsewhere, with `orphans`), `neighbours` (who comes, goes and is to blame), `headers`, `blocks` over
//! `bodies` and `compact`, `inventory` (transactions), `clients` and `serve` (what light clients ask), `request` and `users` (what
//! users ask).

mod blocks;
mod bodies;
mod clients;
mod compact;
mod headers;
mod inventory;
mod job;
mod keeper;
mod msg;
mod neighbours;
mod orphans;
mod recent;
mod request;
mod serve;
mod users;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use p2p_core::{Cx, JobId, Link, NoJob, OpId, Protocol, Time, Up};
use p2p_overlay::{Membership, MembershipCommand, Neighbour};

use crate::consensus::Consensus;
use crate::headers::Tip;
use crate::ledger::Change;
use crate::state::State;

use bodies::Bodies;
use clients::Clients;
use inventory::Inventory;
use job::Refusal;
use neighbours::PeerState;

pub use compact::{CompactBlock, Contradiction, Partial, ShortId};
pub use job::{
    AddDone, BlockDone, Form, HeadersDone, LedgerDone, LedgerJob, Look, Offence, Progress, Read,
    Refusal as JobRefusal, ServeDone, Standing,
};
pub use keeper::Keeper;
pub use msg::{LedgerMsg, MAX_ANNOUNCED, MAX_BLOCK, MAX_HEADERS, MAX_INVENTORY, MAX_LOCATOR};
pub use request::{
    BlockAt, HeaderAt, Inspect, LedgerCommand, LedgerOutcome, Mined, Status, Submit, Template, inspect,
};

/// A node that keeps a chain of consensus `C` and state machine `S`, with the neighbours that the membership `M` gives it.
///
/// It is a [`Protocol`] whose jobs a [`Keeper`] does. Its users hold a [`Handle`](p2p_core::Handle), which is a
/// [`Ledger`](crate::Ledger):
///
/// ```
/// use std::time::Duration;
///
/// use p2p_core::sim::{DiskModel, Network, Sim};
/// use p2p_core::{Key, Keypair, SimPeer};
/// use p2p_ledger::*;
/// use p2p_overlay::HyParView;
///
/// type Pow = ProofOfWork<BlockHeader<Work>>;
/// type Node = LedgerNode<HyParView<SimPeer>, Pow, Coins>;
///
/// // A currency on a chain where one hash of two is work enough.
/// fn keeper() -> Keeper<Pow, Coins, MemoryStore> {
///     let rules = Pow::regtest();
///     let seal = Work { bits: rules.limit, nonce: 0 };
///     let first = BlockHeader { height: 0, previous: BlockId::NONE, root: Key::ZERO, time: 1_000, seal };
///     let headers = HeaderChain::new(rules, first, HeaderRules::default());
///     let store = MemoryStore::default();
///     let chain = Chain::new(headers, Coins::new(1, 50), store, Verifier::new([7; 32]), ChainRules::default());
///     Keeper::new(chain, Pool::new(PoolRules::default()))
/// }
///
/// let mut sim = Sim::<Node, _>::with_workers(1, Network::default(), DiskModel::default(), |_| keeper());
/// let first = sim.spawn(|birth| Node::new(HyParView::create(birth.peer), LedgerConfig::default()));
/// for _ in 0..4 {
///     sim.spawn(|birth| Node::new(HyParView::join(birth.peer, [first]), LedgerConfig::default()));
/// }
/// sim.run_for(Duration::from_secs(10));
///
/// // One of them mines; the others hear of it.
/// let (miner, other) = (sim.handle(SimPeer(3)), sim.handle(SimPeer(1)));
/// let to = Lock::Key(Keypair::generate().id().into()).to_bytes();
/// let mined = sim.block_on(async move {
///     let mut block = miner.ask(Template(to)).await??;
///     assert!(Pow::regtest().mine(&mut block.header, 0, 1_000));
///     miner.ask(Mined(block)).await?
/// });
/// sim.run_for(Duration::from_secs(1));
/// assert_eq!(sim.block_on(async move { other.tip().await }), mined);
/// assert_eq!(mined.unwrap().height, 1);
/// ```
pub struct LedgerNode<M: Membership, C: Consensus, S: State> {
    membership: M,
    config: LedgerConfig,
    /// Where the chain stands, as the keeper said last; `None` before it has said anything.
    standing: Option<Standing>,
    peers: BTreeMap<M::Peer, PeerState<C, S>>,
    /// Who is banned, until when.
    banned: BTreeMap<M::Peer, Time>,
    /// What each job is for, and how many bytes of a neighbour's it holds.
    jobs: BTreeMap<JobId, (JobFor<M::Peer>, usize)>,
    /// The number of the last question.
    questions: u32,
    bodies: Bodies<M::Peer>,
    inventory: Inventory<M::Peer>,
    /// Light clients.
    clients: Clients<M::Peer>,
    /// Whose headers are followed by themselves, and until when others wait for their turn.
    syncing: Option<(M::Peer, Time)>,
    /// How long a turn is.
    turn: Duration,
    /// Who sends new blocks unasked, at this node's wish; the one that was first with a block lately is the last.
    pushers: Vec<M::Peer>,
    /// Transactions are to be announced.
    announcing: bool,
}

/// How a node of a ledger behaves.
#[derive(Clone, Copy, Debug)]
pub struct LedgerConfig {
    /// How many bodies a neighbour is asked for at once at most, up to 32: 16. But no more than have room on a link, were all as
    /// long as [they may be](crate::ChainRules::block_bytes): of 1 MiB three.
    pub window: usize,
    /// How long a neighbour has to send a body before another is asked: 10 s. For one that is late it is doubled, up to two
    /// minutes, until it is in time again; what comes late is taken nevertheless, if nobody else was faster.
    pub block_timeout: Duration,
    /// How long a neighbour has to send headers. 10 s.
    pub headers_timeout: Duration,
    /// How long a neighbour has to send transactions. 10 s.
    pub transaction_timeout: Duration,
    /// How long transactions are gathered before they are announced. 200 ms.
    pub announce: Duration,
    /// How often one neighbour, another each time, is asked what it has that this node has not: headers, and a thousand of the
    /// transactions that wait there. 10 s.
    pub poll: Duration,
    /// How long somebody is banned for who provably broke the rules. 24 h.
    pub ban: Duration,
    /// From how many neighbours new blocks are wanted unasked. 3, as BIP 152 says.
    pub pushers: usize,
}

impl Default for LedgerConfig {
    fn default() -> LedgerConfig {
        LedgerConfig {
            window: 16,
            block_timeout: Duration::from_secs(10),
            headers_timeout: Duration::from_secs(10),
            transaction_timeout: Duration::from_secs(10),
            announce: Duration::from_millis(200),
            poll: Duration::from_secs(10),
            ban: Duration::from_secs(24 * 3600),
            pushers: 3,
        }
    }
}

/// The timers of a node of a ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LedgerTimer<T> {
    /// The membership's own.
    Membership(T),
    /// Time to see who is late.
    Tick,
    /// Time to announce transactions.
    Announce,
    /// Time to ask a neighbour what it has.
    Poll,
}

/// What a node of a ledger says unasked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LedgerEvent<P> {
    /// The chain has changed.
    Changed(Arc<Change>),
    /// A neighbour has come or gone.
    Neighbour(Neighbour<P>),
    /// A peer is banned, for this reason.
    Banned(P, Arc<str>),
    /// The storage failed, for this reason. The node goes on, and tries again.
    Failed(Arc<str>),
}

/// What a job is for.
#[derive(Clone, Debug)]
enum JobFor<P> {
    Stand,
    Headers { from: P, answered: bool, headers: bytes::Bytes },
    Sync { from: P },
    EndSync,
    After { from: P, question: u32 },
    Wanted { from: P },
    Accept { from: P, id: crate::BlockId },
    Compact { from: P },
    Complete { from: P, id: crate::BlockId },
    Read { from: P, id: crate::BlockId },
    Add { from: P },
    Lacking { from: P, is_full: bool },
    Waiting { from: P },
    Pool { to: P },
    Serve { to: P, id: u32, is_submit: bool },
    User(OpId, Asked),
}

/// What a user has asked.
#[derive(Clone, Copy, Debug)]
enum Asked {
    Submit,
    Status,
    Block,
    Header,
    Inspect,
    Template,
    Mined,
}

impl<P: Copy> JobFor<P> {
    /// Whose job it is.
    fn peer(&self) -> Option<P> {
        match self {
            JobFor::Headers { from, .. }
            | JobFor::Sync { from }
            | JobFor::After { from, .. }
            | JobFor::Wanted { from }
            | JobFor::Accept { from, .. }
            | JobFor::Compact { from }
            | JobFor::Complete { from, .. }
            | JobFor::Read { from, .. }
            | JobFor::Add { from }
            | JobFor::Lacking { from, .. }
            | JobFor::Waiting { from }
            | JobFor::Pool { to: from } => Some(*from),
            JobFor::Stand | JobFor::EndSync | JobFor::Serve { .. } | JobFor::User(..) => None,
        }
    }
}

/// How often deadlines are looked at.
const TICK: Duration = Duration::from_millis(500);
/// How many jobs one neighbour may have open, and how many bytes of its they may hold: two of the largest blocks.
const MOST_JOBS: usize = 64;
const MOST_HELD: usize = 2 * MAX_BLOCK;
/// How many bytes of bodies a neighbour is asked for at once, or a light client's server.
pub(crate) const WINDOW_BYTES: usize = MAX_BLOCK;
/// How far behind the best header a node has better things to do than transactions.
const BEHIND: u64 = 10;

/// The Unix time in seconds.
fn now<P: Protocol>(cx: &Cx<'_, P>) -> u64 {
    cx.wall().as_secs()
}

impl<M: Membership, C: Consensus, S: State> LedgerNode<M, C, S> {
    /// A node whose neighbours this membership finds.
    pub fn new(membership: M, config: LedgerConfig) -> LedgerNode<M, C, S> {
        let window = config.window.clamp(1, MOST_JOBS / 2);
        LedgerNode {
            membership,
            config: LedgerConfig { window, ..config },
            standing: None,
            peers: BTreeMap::new(),
            banned: BTreeMap::new(),
            jobs: BTreeMap::new(),
            questions: 0,
            bodies: Bodies::new(),
            inventory: Inventory::new(),
            clients: Clients::new(),
            syncing: None,
            turn: headers::TURN,
            pushers: Vec::new(),
            announcing: false,
        }
    }

    /// The membership.
    pub fn membership(&self) -> &M {
        &self.membership
    }

    /// The block that the state stands at, as the keeper said last; `None` before it has said anything.
    pub fn tip(&self) -> Option<Tip> {
        self.standing.as_ref().map(|standing| standing.tip)
    }

    /// Who is banned.
    pub fn banned(&self) -> impl Iterator<Item = M::Peer> {
        self.banned.keys().copied()
    }

    /// How many bodies are wanted: at most 1,024.
    pub fn wanted(&self) -> usize {
        self.bodies.len()
    }

    /// Whether it has headers far beyond what its state stands at.
    fn is_behind(&self) -> bool {
        self.standing.as_ref().is_none_or(|now| now.best.height > now.tip.height + BEHIND)
    }

    /// Hands the membership an input, and takes in what it says.
    fn below(&mut self, cx: &mut Cx<'_, Self>, input: impl FnOnce(&mut M, &mut Cx<'_, M>)) {
        let membership = &mut self.membership;
        let ups = cx.nest(
            LedgerMsg::Membership,
            LedgerTimer::Membership,
            |job: NoJob| match job {},
            |cx| input(membership, cx),
        );
        for up in ups {
            if let Up::Event(event) = up {
                match event {
                    Neighbour::Up(peer) => self.on_up(cx, peer),
                    Neighbour::Down(peer, _) => self.on_down(cx, peer),
                }
                cx.emit(LedgerEvent::Neighbour(event));
            }
        }
    }

    fn tell_membership(&mut self, cx: &mut Cx<'_, Self>, command: MembershipCommand<M::Peer>) {
        let op = cx.op();
        self.below(cx, |membership, cx| membership.on_command(cx, op, command));
    }

    // ---- jobs

    fn start(&mut self, cx: &mut Cx<'_, Self>, job: LedgerJob<C, S>, what: JobFor<M::Peer>) {
        let id = cx.start(job);
        self.jobs.insert(id, (what, 0));
    }

    /// Has something done for a neighbour, unless that has too much open: then it is as if it had not asked.
    fn start_for(
        &mut self,
        cx: &mut Cx<'_, Self>,
        peer: M::Peer,
        job: LedgerJob<C, S>,
        what: JobFor<M::Peer>,
    ) -> bool {
        let bytes = job.bytes();
        let (jobs, held) = self.burden(peer);
        if !self.peers.contains_key(&peer) || jobs >= MOST_JOBS || held + bytes > MOST_HELD {
            return false;
        }
        let id = cx.start(job);
        self.jobs.insert(id, (what, bytes));
        true
    }

    /// How many jobs a peer has open, and how many bytes of its those hold, and what it has asked for after them. It may have
    /// gone and come back meanwhile.
    fn burden(&self, peer: M::Peer) -> (usize, usize) {
        let of = self.jobs.values().filter(|(what, _)| what.peer() == Some(peer));
        let (jobs, held) = of.fold((0, 0), |(jobs, held), (_, bytes)| (jobs + 1, held + bytes));
        let reads = self.peers.get(&peer).into_iter().flat_map(|state| &state.reads);
        (jobs, held + reads.map(|(_, form)| form.bytes()).sum::<usize>())
    }

    /// Whether a block is being read for it.
    fn is_read_for(&self, peer: M::Peer) -> bool {
        self.jobs.values().any(|(what, _)| matches!(what, JobFor::Read { from, .. } if *from == peer))
    }

    fn stand(&mut self, cx: &mut Cx<'_, Self>) {
        let job = LedgerJob::Stand { now: now(cx) };
        self.start(cx, job, JobFor::Stand);
    }
}

impl<M: Membership, C: Consensus, S: State> Protocol for LedgerNode<M, C, S> {
    type Peer = M::Peer;
    type Msg = LedgerMsg<M::Msg>;
    type Timer = LedgerTimer<M::Timer>;
    type Command = LedgerCommand<C, S>;
    type Item = ();
    type Outcome = LedgerOutcome<C, S>;
    type Event = LedgerEvent<M::Peer>;
    type Job = LedgerJob<C, S>;

    fn warm(&self) {
        self.membership.warm();
    }

    fn on_start(&mut self, cx: &mut Cx<'_, Self>) {
        self.stand(cx);
        for peer in self.membership.active().to_vec() {
            self.on_up(cx, peer);
        }
        self.below(cx, |membership, cx| membership.on_start(cx));
        cx.set_timer(TICK, LedgerTimer::Tick);
        let poll = cx.rng().duration(self.config.poll / 2, self.config.poll);
        cx.set_timer(poll, LedgerTimer::Poll);
    }

    fn on_message(&mut self, cx: &mut Cx<'_, Self>, from: M::Peer, msg: Self::Msg) {
        if let LedgerMsg::Membership(msg) = msg {
            return self.below(cx, |membership, cx| membership.on_message(cx, from, msg));
        }
        if let LedgerMsg::Light(msg) = msg {
            return self.on_light(cx, from, msg);
        }
        // Others are strangers, or have just become neighbours or ceased to be: they ask again.
        if !self.peers.contains_key(&from) {
            return;
        }
        match msg {
            LedgerMsg::Membership(_) | LedgerMsg::Light(_) => {}
            LedgerMsg::GetHeaders { id, locator } => self.on_get_headers(cx, from, id, locator),
            LedgerMsg::Headers { answers, headers } => self.on_headers(cx, from, answers, headers),
            LedgerMsg::Push(wanted) => self.on_push(from, wanted),
            LedgerMsg::Compact(compact) => self.on_compact(cx, from, compact),
            LedgerMsg::GetBlock { id, compact } => self.on_get_block(cx, from, id, compact),
            LedgerMsg::Block { id, block } => self.on_block(cx, from, id, block),
            LedgerMsg::GetMissing { id, at } => self.on_get_missing(cx, from, id, at),
            LedgerMsg::Missing { id, transactions } => self.on_missing(cx, from, id, transactions),
            LedgerMsg::Pruned(height) => self.on_pruned(cx, from, height),
            LedgerMsg::Have(ids) => self.on_have(cx, from, ids),
            LedgerMsg::Want(ids) => self.on_want(cx, from, ids),
            LedgerMsg::Transactions(transactions) => self.on_transactions(cx, from, transactions),
            LedgerMsg::GetPool { from: first } => self.on_get_pool(cx, from, first),
        }
    }

    fn on_timer(&mut self, cx: &mut Cx<'_, Self>, timer: Self::Timer) {
        match timer {
            LedgerTimer::Membership(timer) => self.below(cx, |membership, cx| membership.on_timer(cx, timer)),
            LedgerTimer::Tick => self.tick(cx),
            LedgerTimer::Announce => self.announce_now(cx),
            LedgerTimer::Poll => self.poll(cx),
        }
    }

    fn on_command(&mut self, cx: &mut Cx<'_, Self>, op: OpId, command: Self::Command) {
        self.run(cx, op, command);
    }

    fn on_link(&mut self, cx: &mut Cx<'_, Self>, peer: M::Peer, link: Link) {
        if let Link::Down(_) = link {
            self.clients.forget(peer);
        }
        self.below(cx, |membership, cx| membership.on_link(cx, peer, link));
    }

    fn on_job(&mut self, cx: &mut Cx<'_, Self>, id: JobId, done: LedgerDone<C, S>) {
        let Some((what, _)) = self.jobs.remove(&id) else { return };
        match (what, done) {
            (JobFor::User(op, asked), done) => self.answered(cx, op, asked, done),
            (JobFor::Stand, LedgerDone::Standing(standing)) => self.stands_at(cx, standing),
            (JobFor::Stand, LedgerDone::Failed(_)) if self.standing.is_none() => self.stand(cx),
            (JobFor::Headers { from, answered, headers }, LedgerDone::Headers(done)) => {
                self.headers_done(cx, from, answered, headers, done);
            }
            (JobFor::Sync { from }, LedgerDone::Synced(step, standing)) => {
                self.stands_at(cx, standing);
                self.synced(cx, from, step);
            }
            (JobFor::Sync { from }, _) => self.synced(cx, from, Err(Refusal::Later)),
            (JobFor::After { from, question }, LedgerDone::After(headers)) => {
                cx.send(from, LedgerMsg::Headers { answers: Some(question), headers });
            }
            (JobFor::Wanted { from }, LedgerDone::Wanted(wanted)) => self.wanted_found(cx, from, wanted),
            (JobFor::Wanted { from }, _) => self.wanted_found(cx, from, Vec::new()),
            (JobFor::Accept { from, id }, LedgerDone::Block(done)) => {
                self.block_done(cx, from, Some(id), *done, false);
            }
            (JobFor::Accept { id, .. } | JobFor::Complete { id, .. }, LedgerDone::Failed(_)) => {
                self.bodies.again(&id, true);
            }
            (JobFor::Compact { from }, LedgerDone::Block(done)) => {
                self.block_done(cx, from, done.id, *done, true);
            }
            (JobFor::Compact { from }, LedgerDone::Partial(partial)) => self.lacks(cx, from, partial),
            (JobFor::Complete { from, id }, LedgerDone::Block(done)) => {
                self.block_done(cx, from, Some(id), *done, true);
            }
            (JobFor::Read { from, id }, done) => {
                if let LedgerDone::Read(read) = done {
                    self.send_read(cx, from, id, read);
                }
                self.read_next(cx, from);
            }
            (JobFor::Add { from }, LedgerDone::Added(done)) => self.added(cx, from, done),
            (JobFor::Lacking { from, is_full }, LedgerDone::Lacking(ids)) => {
                self.ask_for_lacking(cx, from, is_full, ids);
            }
            (JobFor::Waiting { from }, LedgerDone::Waiting(transactions)) => {
                cx.send(from, LedgerMsg::Transactions(transactions));
            }
            (JobFor::Serve { to, id, is_submit }, LedgerDone::Served(done)) => {
                self.served(cx, to, id, is_submit, Some(done));
            }
            (JobFor::Serve { to, id, is_submit }, _) => self.served(cx, to, id, is_submit, None),
            (JobFor::Pool { to }, LedgerDone::Pool(ids)) => self.tell_pool(cx, to, ids),
            // What failed is tried again when it is missed.
            (_, _) => {}
        }
    }
}

impl<M: Membership, C: Consensus, S: State> fmt::Debug for LedgerNode<M, C, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LedgerNode({} neighbours, {:?})", self.peers.len(), self.tip())
    }
}
