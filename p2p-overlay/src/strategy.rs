//! How to search a network without structure: by flooding, by rings that grow, or by walkers.
//!
//! Lv, Cao, Cohen, Li and Shenker, *Search and Replication in Unstructured Peer-to-Peer Networks* (ICS 2002). A
//! [`Seeker`] is one node of any [`Graph`], which says who its neighbours are and what it holds. What is found where
//! depends on how many copies there are too: [`Replication`] has the three allocations of Cohen and Shenker
//! (*Replication Strategies in Unstructured Peer-to-Peer Networks*, SIGCOMM 2002).
//!
//! - **Flooding** (§4): everybody passes the question on to all neighbours but the one it came from, until it has gone
//!   so many hops. Whoever holds what is asked for answers the asker, and does not pass the question on.
//! - **Expanding ring** (§4.1): floods of growing radius, until one of them finds enough.
//! - **Walkers** (§4.2): each goes to one neighbour after the other, at random, and asks back after every few steps
//!   whether to go on. Nobody on the way keeps anything for a walker: it goes with its question.
//!
//! In this order: [`Graph`], [`Seeker`] and its messages, and how inputs are told apart. Then `flood`, `walk` and
//! `replication`.

mod flood;
mod replication;
mod walk;

use std::collections::BTreeMap;
use std::fmt::{self, Debug};
use std::time::Duration;

use p2p_core::{Cx, NoJob, OpId, Peer, Protocol, Request, Time, Wire};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::recent::Recent;
use crate::search::{Cost, End, MAX_HITS, Reach, Scope, SearchError, Searched};

pub use replication::Replication;

/// One node's view of an unstructured network.
pub trait Graph: Send + 'static {
    /// Peers' names.
    type Peer: Peer + Serialize + DeserializeOwned;
    /// What is asked for.
    type Query: Clone + Debug + Serialize + DeserializeOwned + Send + 'static;

    /// Whom the node is connected to.
    fn neighbours(&self) -> &[Self::Peer];
    /// Whether it has what is asked for.
    fn holds(&self, query: &Self::Query) -> bool;
}

/// How a node searches. The paper's simulations count steps; the times are ours.
#[derive(Clone, Copy, Debug)]
pub struct SeekerConfig {
    /// How long a message may take from one node to the next: a flood of radius r is over after r + 1 of them. 500 ms.
    pub hop: Duration,
    /// How many questions a node remembers, so as not to pass them on twice. 1024.
    pub seen: usize,
    /// The widest flood that a node passes on. 16.
    pub max_ttl: u8,
    /// How many searches of its users a node has under way at once. 64.
    pub capacity: usize,
}

impl Default for SeekerConfig {
    fn default() -> SeekerConfig {
        SeekerConfig { hop: Duration::from_millis(500), seen: 1024, max_ttl: 16, capacity: 64 }
    }
}

/// What this node has done for the searches of all; an experiment adds them up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SeekerTally {
    /// Questions passed on: floods and steps of walkers.
    pub probes: u64,
    /// Walkers asking back, and being sent on.
    pub checks: u64,
    /// Answers to askers.
    pub answers: u64,
    /// Questions that came for the first time.
    pub reached: u64,
    /// Questions that had come before.
    pub duplicates: u64,
}

/// A node that searches by any strategy. It remembers at most [`SeekerConfig::seen`] questions and has at most
/// [`SeekerConfig::capacity`] of its own.
///
/// ```
/// use p2p_core::SimPeer;
/// use p2p_core::sim::{Network, Sim};
/// use p2p_overlay::{Graph, Reach, Scope, Seek, Seeker, SeekerConfig};
///
/// /// A node between two others; number 5 has everything.
/// struct Ring([SimPeer; 2], bool);
/// impl Graph for Ring {
///     type Peer = SimPeer;
///     type Query = u32;
///     fn neighbours(&self) -> &[SimPeer] { &self.0 }
///     fn holds(&self, _: &u32) -> bool { self.1 }
/// }
///
/// let mut sim = Sim::<Seeker<Ring>>::new(1, Network::default());
/// for i in 0..10 {
///     let ring = Ring([SimPeer((i + 1) % 10), SimPeer((i + 9) % 10)], i == 5);
///     sim.spawn(|birth| Seeker::new(birth.peer, ring, SeekerConfig::default()));
/// }
/// let node = sim.handle(SimPeer(1));
/// let scope = |ttl| Scope { reach: Reach::Ttl(ttl), hits: 1, ..Scope::default() };
/// let (near, far) = sim.block_on(async move {
///     (node.ask(Seek { query: 7, scope: scope(3) }).await, node.ask(Seek { query: 7, scope: scope(4) }).await)
/// });
/// assert_eq!(near.unwrap().unwrap().holders, []);
/// assert_eq!(far.unwrap().unwrap().holders, [SimPeer(5)]);
/// ```
pub struct Seeker<G: Graph> {
    me: G::Peer,
    graph: G,
    config: SeekerConfig,
    /// At most [`SeekerConfig::capacity`].
    searches: BTreeMap<OpId, Ongoing<G>>,
    /// Which search the newest question of each number is for.
    questions: BTreeMap<u32, OpId>,
    /// The number of the next question.
    next: u32,
    /// Questions that have come, by asker and number.
    seen: Recent<(G::Peer, u32), ()>,
    tally: SeekerTally,
}

/// A search of this node's user.
struct Ongoing<G: Graph> {
    query: G::Query,
    scope: Scope,
    /// The number of its newest question.
    question: u32,
    manner: Manner,
    deadline: Time,
    holders: Vec<G::Peer>,
    cost: Cost,
}

/// How a search goes on.
#[derive(Clone, Copy, Debug)]
enum Manner {
    /// The next radius, if this one does not find enough.
    Flood { radius: u8, step: u8, last: u8 },
    /// How many walkers are still under way, or have not said otherwise.
    Walk { walking: u16 },
}

/// What nodes say to each other.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum SeekerMsg<P, Q> {
    /// From neighbour to neighbour: who has this? Answered by [`SeekerMsg::Found`], straight to the asker.
    Flood {
        /// Who asks.
        origin: P,
        /// The asker's number for the question.
        question: u32,
        /// How many hops it has left, the one to the receiver not counted.
        ttl: u8,
        /// What is asked for.
        query: Q,
    },
    /// To the asker: the sender has it.
    Found {
        /// The number of the question.
        question: u32,
    },
    /// A walker, from neighbour to neighbour, or from the asker to where it has asked back: to go on from there.
    Walk(Walker<P, Q>),
    /// A walker asks back: to the asker from where it stands. Answered by [`SeekerMsg::Walk`], or not at all if it is
    /// to end there.
    Check {
        /// The walker.
        walker: Walker<P, Q>,
        /// Whether the sender has what is asked for.
        found: bool,
    },
}

/// A walker and its question.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Walker<P, Q> {
    origin: P,
    question: u32,
    /// It asks back when it has made so many steps since it last did.
    check_every: u16,
    /// Steps made since.
    steps: u16,
    /// And how many of them led to nodes where no walker of the search had been.
    fresh: u16,
    /// Steps that it may make altogether.
    left: u32,
    query: Q,
}

impl<P: Serialize + DeserializeOwned, Q: Serialize + DeserializeOwned> Wire for SeekerMsg<P, Q> {}

/// Searches. [`Reach::Auto`] is 32 walkers that ask back after every four steps, as the paper ends with (§4.2).
#[derive(Clone, Copy, Debug)]
pub struct Seek<Q> {
    /// What is asked for.
    pub query: Q,
    /// How far to search.
    pub scope: Scope,
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sought<P> {
    /// Who has it, in the order in which they answered, each once.
    pub holders: Vec<P>,
    /// How the search ended, and what it has cost. The cost is [whole](Cost::whole) if walkers have all come back.
    pub searched: Searched,
}

impl<G: Graph> Request<Seeker<G>> for Seek<G::Query> {
    type Item = G::Peer;
    type Reply = Result<Sought<G::Peer>, SearchError>;

    fn command(self) -> Seek<G::Query> {
        self
    }
    fn item(holder: G::Peer) -> Option<G::Peer> {
        Some(holder)
    }
    fn reply(outcome: Self::Reply) -> Option<Self::Reply> {
        Some(outcome)
    }
}

impl<G: Graph> Seeker<G> {
    /// A node of this name, with this view.
    pub fn new(me: G::Peer, graph: G, config: SeekerConfig) -> Seeker<G> {
        Seeker {
            me,
            graph,
            config,
            searches: BTreeMap::new(),
            questions: BTreeMap::new(),
            next: 0,
            seen: Recent::new(config.seen),
            tally: SeekerTally::default(),
        }
    }

    /// Its view.
    pub fn graph(&self) -> &G {
        &self.graph
    }

    /// Its view, to be changed: neighbours come and go.
    pub fn graph_mut(&mut self) -> &mut G {
        &mut self.graph
    }

    /// What it has done.
    pub fn tally(&self) -> SeekerTally {
        self.tally
    }

    /// A new number for a search's next question.
    fn ask_anew(&mut self, op: OpId) -> u32 {
        let question = self.next;
        self.next = self.next.wrapping_add(1);
        if let Some(search) = self.searches.get_mut(&op) {
            self.questions.remove(&search.question);
            search.question = question;
        }
        self.questions.insert(question, op);
        self.seen.insert((self.me, question), ());
        question
    }

    /// Notes that a question has come; whether for the first time.
    fn is_new(&mut self, origin: G::Peer, question: u32) -> bool {
        let new = self.seen.insert((origin, question), ());
        match new {
            true => self.tally.reached += 1,
            false => self.tally.duplicates += 1,
        }
        new
    }

    /// Somebody has what a search is for.
    fn found(&mut self, cx: &mut Cx<'_, Self>, op: OpId, holder: G::Peer) {
        let Some(search) = self.searches.get_mut(&op) else { return };
        if search.holders.contains(&holder) {
            search.cost.duplicates += 1;
            return;
        }
        search.holders.push(holder);
        cx.item(op, holder);
        if search.holders.len() >= search.scope.hits.min(MAX_HITS) as usize {
            self.end(cx, op, End::Enough);
        }
    }

    fn end(&mut self, cx: &mut Cx<'_, Self>, op: OpId, end: End) {
        let Some(mut search) = self.forget(cx, op) else { return };
        search.cost.whole = matches!(search.manner, Manner::Walk { walking: 0 });
        let searched = Searched { end, cost: search.cost };
        cx.finish(op, Ok(Sought { holders: search.holders, searched }));
    }

    fn forget(&mut self, cx: &mut Cx<'_, Self>, op: OpId) -> Option<Ongoing<G>> {
        let search = self.searches.remove(&op)?;
        self.questions.remove(&search.question);
        cx.clear_timer(op);
        Some(search)
    }

    /// The search that a message of this number is about.
    fn search_of(&mut self, question: u32) -> Option<(OpId, &mut Ongoing<G>)> {
        let op = *self.questions.get(&question)?;
        Some((op, self.searches.get_mut(&op)?))
    }
}

impl<G: Graph> Protocol for Seeker<G> {
    type Peer = G::Peer;
    type Msg = SeekerMsg<G::Peer, G::Query>;
    /// One for each search, for its next ring or its end.
    type Timer = OpId;
    type Command = Seek<G::Query>;
    type Item = G::Peer;
    type Outcome = Result<Sought<G::Peer>, SearchError>;
    type Event = ();
    type Job = NoJob;

    fn on_message(&mut self, cx: &mut Cx<'_, Self>, from: G::Peer, msg: Self::Msg) {
        match msg {
            SeekerMsg::Flood { origin, question, ttl, query } => {
                self.on_flood(cx, from, origin, question, ttl, query);
            }
            SeekerMsg::Found { question } => {
                let bytes = self.size(&SeekerMsg::Found { question });
                if let Some((op, search)) = self.search_of(question) {
                    search.cost.messages += 1;
                    search.cost.bytes += bytes;
                    self.found(cx, op, from);
                }
            }
            SeekerMsg::Walk(walker) => self.on_walk(cx, from, walker),
            SeekerMsg::Check { walker, found } => self.on_check(cx, from, walker, found),
        }
    }

    fn on_timer(&mut self, cx: &mut Cx<'_, Self>, op: OpId) {
        self.widen(cx, op);
    }

    fn on_command(&mut self, cx: &mut Cx<'_, Self>, op: OpId, command: Self::Command) {
        let Seek { query, scope } = command;
        if self.searches.len() >= self.config.capacity {
            return cx.finish(op, Err(SearchError::Busy));
        }
        if self.graph.neighbours().is_empty() {
            return cx.finish(op, Err(SearchError::NotConnected));
        }
        let manner = match scope.reach {
            Reach::Auto => Manner::Walk { walking: 32 },
            Reach::Ttl(ttl) => Manner::Flood { radius: ttl, step: 0, last: ttl },
            Reach::Ring { first, step, last } => Manner::Flood { radius: first, step, last },
            Reach::Walk { walkers, .. } => Manner::Walk { walking: walkers },
        };
        let deadline = cx.now() + scope.deadline;
        let question = self.next;
        let (holders, cost) = (Vec::new(), Cost::default());
        let search = Ongoing { query, scope, question, manner, deadline, holders, cost };
        self.searches.insert(op, search);
        match manner {
            Manner::Flood { .. } => self.flood(cx, op),
            Manner::Walk { .. } => self.send_walkers(cx, op),
        }
    }

    fn on_cancel(&mut self, cx: &mut Cx<'_, Self>, op: OpId) {
        self.forget(cx, op);
    }
}

impl<G: Graph> Seeker<G> {
    /// How long a message is on the wire.
    fn size(&self, msg: &SeekerMsg<G::Peer, G::Query>) -> u64 {
        msg.wire_len() as u64
    }
}

impl<G: Graph> Debug for Seeker<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Seeker({:?}, {} searches)", self.me, self.searches.len())
    }
}

#[cfg(test)]
mod tests;
