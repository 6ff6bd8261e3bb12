//! A light client: the headers alone, and what full nodes say about the blocks, which is not believed unseen.
//!
//! Nakamoto (2008, §8): who has the headers can be shown that a payment is in a block, and cannot be shown one that is in none.
//! What he can be denied is to hear of it; so several servers are asked, and one honest one among them is enough.
//!
//! - **Headers** come from every server and are checked here ([`HeaderChain`]): the chain is the one with the most work that any
//!   of them shows. A long one with too little work so far is followed by itself, as a full node does it, each server's.
//! - **Filters** say which blocks may be about something (BIP 157, BIP 158). So whoever looks for his keys asks for filters, the
//!   same as everybody, and then for whole blocks: no server learns the keys. Every server names the hashes of all filters. Where
//!   they agree the next filter header is believed; where they do not, the block itself is fetched and its filter made anew: so who
//!   has lied is known for certain, and is never asked again (`dispute`). One that comes late is compared from the first block on;
//!   if what was believed turns out to be a lie it is undone, and so is what users have skipped by it ([`Scanned::Gone`](crate::Scanned::Gone)).
//! - **Proofs** are checked against the headers. A server that says that there is none is not believed: then the whole block is
//!   looked at.
//! - **Transactions** are given to all servers, a few at a time.
//!
//! Nobody is waited for who is late: who does not answer, or takes its time with every answer before it comes to the end of its
//! headers or of the hashes of its filters. It is waited for again once it has caught up.
//!
//! All servers together can keep the newest blocks to themselves, or agree on a lie about filters for as long as no honest one
//! is asked; and most of them, on one about a block that no honest one gives: for good if none has it any more, and as long as
//! those that have it say that they have no room. They can not show a transaction that is in no block with work.
//!
//! What a client holds is bounded, but for its headers (some 200 bytes each, as [`HeaderRules`](crate::HeaderRules) allows them)
//! and a filter header for each block of the chain: 16 servers, of each 6 open questions and 8 filter headers that were overruled, and 2,000 filter headers that are not
//! believed yet, and while its headers are followed by themselves some 18,000 of those; 64 questions of users; 1,024 servers that
//! have lied. It has no jobs: headers, filters and blocks are looked at as they come, one answer at a time, and no answer comes
//! that was not asked for. Nothing is kept on a disk: it begins with the first header each time.
//!
//! In this order: [`LightNode`], then `msg` (what is said), `servers` (who is asked, late, or has lied), `headers`, `belief` (filter
//! headers), `dispute` (who lies about them), `tasks` (what users want), `request`.

mod belief;
mod dispute;
mod headers;
mod msg;
mod request;
mod servers;
mod tasks;

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use p2p_core::{Cx, Link, NoJob, OpId, Protocol, Time};
use p2p_overlay::Membership;
use ruint::aliases::U256;

use crate::consensus::Consensus;
use crate::headers::{GENESIS, HeaderChain, HeaderSync, Tip};
use crate::ledger::Change;
use crate::node::LedgerMsg;
use crate::state::State;

use belief::Belief;
use dispute::Dispute;
use servers::{Open, Server};
use tasks::Task;

pub use msg::{FILTER_BYTES, LightAnswer, LightAsk, LightMsg, MAX_FILTER_HASHES, MAX_FILTERS};
pub use request::{Enlist, LightCommand, LightOutcome, Prove, Scan};

/// A light client of nodes that are [`LedgerNode<M, C, S>`](crate::LedgerNode)s. It takes no part in their membership.
///
/// Its users hold a [`Handle`](p2p_core::Handle), which is a [`Ledger`](crate::Ledger): what is asked waits until the servers
/// have shown what they have, or are late.
///
/// ```
/// use p2p_core::sim::{DiskModel, Network, Sim};
/// use p2p_core::{Key, Keypair, SimPeer};
/// use p2p_ledger::measure::{Party, ToFull, ToLight};
/// use p2p_ledger::*;
/// use p2p_overlay::HyParView;
///
/// type Pow = ProofOfWork<BlockHeader<Work>>;
/// type World = Party<HyParView<SimPeer>, Pow, Coins>;
///
/// // A currency on a chain where one hash of two is work enough.
/// fn headers() -> HeaderChain<Pow> {
///     let seal = Work { bits: Pow::regtest().limit, nonce: 0 };
///     let first = BlockHeader { height: 0, previous: BlockId::NONE, root: Key::ZERO, time: 1_000, seal };
///     HeaderChain::new(Pow::regtest(), first, HeaderRules::default())
/// }
///
/// let mut sim = Sim::<World, _>::with_workers(1, Network::default(), DiskModel::default(), |_| {
///     let (coins, verifier) = (Coins::new(1, 50), Verifier::new([7; 32]));
///     let chain = Chain::new(headers(), coins, MemoryStore::default(), verifier, ChainRules::default());
///     Keeper::new(chain, Pool::new(PoolRules::default()))
/// });
/// let full = sim.spawn(|birth| {
///     Party::full(LedgerNode::new(HyParView::create(birth.peer), LedgerConfig::default()))
/// });
/// let light = sim.spawn(|_| Party::light(LightNode::new([full], headers(), LightConfig::default())));
///
/// // The full node mines a block, which pays somebody. The light client hears of it, and is shown that it does.
/// let node = sim.handle(full);
/// let to = Lock::Key(Keypair::generate().id().into()).to_bytes();
/// let mined = sim.block_on(async move {
///     let mut block = node.ask(ToFull(Template(to))).await??;
///     assert!(Pow::regtest().mine(&mut block.header, 0, 1_000));
///     let paid = block.transactions[0].id();
///     node.ask(ToFull(Mined(block))).await?.map(|_| paid)
/// });
/// sim.run_for(std::time::Duration::from_secs(15));
/// let (client, transaction) = (sim.handle(light), mined.unwrap());
/// let shown = sim.block_on(async move { client.ask(ToLight(Prove { height: 1, transaction })).await? });
/// assert!(shown.unwrap().unwrap().holds());
/// ```
pub struct LightNode<M: Membership, C: Consensus, S: State> {
    config: LightConfig,
    chain: HeaderChain<C>,
    belief: Belief,
    servers: BTreeMap<M::Peer, Server>,
    /// Servers that have lied, and how.
    liars: BTreeMap<M::Peer, Arc<str>>,
    /// Servers whose headers are followed by themselves.
    syncing: BTreeMap<M::Peer, HeaderSync<C>>,
    /// The most work that the chain has had, and the greatest height up to which filters were believed.
    grown: (U256, u64),
    open: BTreeMap<u32, Open<M::Peer>>,
    /// The number of the last question to a server.
    asked: u32,
    tasks: BTreeMap<u64, Task<M::Peer>>,
    /// The number of the last task.
    begun: u64,
    /// A block that is asked for, since servers say different things of it.
    dispute: Option<Dispute<M::Peer>>,
    /// When it is looked again at what those say who are not waited for, and the height of the block of theirs that was asked for
    /// last.
    doubts_again: Time,
    doubted_last: u64,
    of: PhantomData<fn() -> S>,
}

/// How a light client behaves.
#[derive(Clone, Copy, Debug)]
pub struct LightConfig {
    /// How long a server has to answer before another is asked. 10 s.
    pub timeout: Duration,
    /// How often each server is asked what it has, beside what it says unasked. 10 s.
    pub poll: Duration,
    /// How long a user's question waits while nothing comes of it, and neither the chain grows nor what is believed of filters. A server whose answers about headers and filters are half as
    /// long late, each by what is over a fifth of `timeout`, or take five times as long in all, is not waited for until it has
    /// shown all that it has. Nor is a block for longer than half, once all were asked, of which servers say different things. 60 s.
    pub patience: Duration,
    /// The longest block of the chain, in bytes, which is its [`ChainRules::block_bytes`](crate::ChainRules::block_bytes): a server is
    /// asked for no more blocks at once than a link holds, of 1 MiB three. 1 MiB.
    pub block_bytes: usize,
}

impl Default for LightConfig {
    fn default() -> LightConfig {
        LightConfig {
            timeout: Duration::from_secs(10),
            poll: Duration::from_secs(10),
            patience: Duration::from_secs(60),
            block_bytes: 1 << 20,
        }
    }
}

/// What a light client says unasked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LightEvent<P> {
    /// The chain has changed, as far as its filters are believed.
    Changed(Arc<Change>),
    /// A server has provably lied, in this way, and is not asked any more.
    Lied(P, Arc<str>),
}

/// How often deadlines are looked at.
const TICK: Duration = Duration::from_millis(500);

impl<M: Membership, C: Consensus, S: State> LightNode<M, C, S> {
    /// A client that begins with the first header of `chain`, or with what else is in it, and asks these servers: at most 16,
    /// and 4 of one [subnet](p2p_core::Keyed::subnet), lest one attacker be all of them.
    pub fn new(
        servers: impl IntoIterator<Item = M::Peer>,
        mut chain: HeaderChain<C>,
        config: LightConfig,
    ) -> LightNode<M, C, S> {
        // Nothing is final before servers are agreed: or it would be what the first to answer shows.
        chain.stand_at(GENESIS);
        let mut node = LightNode {
            config,
            belief: Belief::new::<C, S>(&chain),
            chain,
            servers: BTreeMap::new(),
            liars: BTreeMap::new(),
            syncing: BTreeMap::new(),
            grown: (U256::ZERO, 0),
            open: BTreeMap::new(),
            asked: 0,
            tasks: BTreeMap::new(),
            begun: 0,
            dispute: None,
            doubts_again: Time::ZERO,
            doubted_last: 0,
            of: PhantomData,
        };
        for server in servers {
            node.enlist(server);
        }
        node
    }

    /// Where the chain ends, as far as its filters are believed.
    pub fn tip(&self) -> Tip {
        self.belief.tip(&self.chain)
    }

    /// The headers.
    pub fn headers(&self) -> &HeaderChain<C> {
        &self.chain
    }

    /// Who has lied, and how.
    pub fn liars(&self) -> impl Iterator<Item = (M::Peer, &str)> {
        self.liars.iter().map(|(peer, how)| (*peer, &**how))
    }

    /// Does all that can be done now.
    fn go_on(&mut self, cx: &mut Cx<'_, Self>) {
        self.believe(cx);
        let (work, height) = (self.chain.tip().work, self.belief.height());
        let grown = (self.grown.0.max(work), self.grown.1.max(height));
        if std::mem::replace(&mut self.grown, grown) != grown {
            self.be_patient(cx.now());
        }
        self.hear_the_others(cx);
        self.settle_dispute(cx);
        self.ask_filter_hashes(cx);
        if self.is_ready()
            && let Some(change) = self.belief.take_change(&self.chain)
        {
            if let Some(at) = self.chain.index().find(&change.tip.id) {
                self.chain.stand_at(at);
            }
            cx.emit(LightEvent::Changed(Arc::new(change)));
        }
        for task in self.tasks.keys().copied().collect::<Vec<_>>() {
            self.step(cx, task);
        }
    }
}

impl<M: Membership, C: Consensus, S: State> Protocol for LightNode<M, C, S> {
    type Peer = M::Peer;
    type Msg = LedgerMsg<M::Msg>;
    type Timer = ();
    type Command = LightCommand<M::Peer, S>;
    type Item = ();
    type Outcome = LightOutcome<C, S>;
    type Event = LightEvent<M::Peer>;
    type Job = NoJob;

    fn on_start(&mut self, cx: &mut Cx<'_, Self>) {
        self.on_timer(cx, ());
    }

    fn on_message(&mut self, cx: &mut Cx<'_, Self>, from: M::Peer, msg: Self::Msg) {
        match msg {
            LedgerMsg::Light(LightMsg::Answer(id, answer)) => {
                if self.open.get(&id).is_none_or(|open| open.of != from) {
                    return;
                }
                let Some(open) = self.open.remove(&id) else { return };
                self.answered(cx, open, answer);
            }
            LedgerMsg::Light(LightMsg::New(headers)) => self.announced(cx, from, &headers),
            // Others take this for a full node.
            _ => return,
        }
        self.go_on(cx);
    }

    fn on_timer(&mut self, cx: &mut Cx<'_, Self>, (): ()) {
        cx.set_timer(TICK, ());
        self.see_who_is_late(cx);
        self.poll(cx);
        self.go_on(cx);
    }

    fn on_command(&mut self, cx: &mut Cx<'_, Self>, op: OpId, command: Self::Command) {
        self.begin(cx, op, command);
        self.go_on(cx);
    }

    fn on_cancel(&mut self, _: &mut Cx<'_, Self>, op: OpId) {
        self.tasks.retain(|_, task| task.op() != Some(op));
    }

    fn on_link(&mut self, cx: &mut Cx<'_, Self>, peer: M::Peer, link: Link) {
        if let Link::Down(_) = link {
            self.silent(cx, peer);
            self.go_on(cx);
        }
    }
}

impl<M: Membership, C: Consensus, S: State> fmt::Debug for LightNode<M, C, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LightNode({} servers, {:?})", self.servers.len(), self.tip())
    }
}

/// So much of a text that somebody else has written.
fn short(text: &str) -> String {
    text.chars().take(200).collect()
}
