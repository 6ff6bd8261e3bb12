//! The lookup driver that every structured overlay shares.
//!
//! An overlay's [`Maintenance`] says who is nearer to a key; this drives the question there, in three manners
//! (Dabek et al., *Designing a DHT for low latency and high throughput*, NSDI 2004, §4.1):
//!
//! - *recursive* ([`hop`]): each node passes the question on and waits for the next one to accept it. Who does not
//!   within [`LookupConfig::hop_timeout`] is left out, and the next best is tried. The answer goes back along the
//!   path, or (*semi-recursive*) straight from the root to the asker;
//! - *iterative* ([`shortlist`]): the asker asks nodes itself, several at a time.
//!
//! Where nobody can say right now who is responsible ([`Next::Later`]) the question is held, by the node that has it or by
//! the asker, and put again [`LookupConfig::hop_timeout`] later.
//!
//! A lookup ends when the root itself says so: that it is alive is part of the answer. Where no node can say so
//! (Kademlia) an iterative lookup ends when the [closest](converge) nodes have all answered. The asker tries again when
//! a question was lost with the node that had it, and may doubt the [answer](density).

mod converge;
mod density;
mod hop;
mod mislead;
mod msg;
mod shortlist;

use p2p_core::{Cx, Key, Keyed, OpId, Pending, Time, prefetch};
use std::sync::Arc;
use std::time::Duration;

use crate::routed::{Routed, RoutedMsg, RoutedTimer};
use crate::structured::{Find, Found, Looked, LookupError, MAX_REPLICAS, Maintenance, Mode, Next, Replicas};
use crate::trail::Trail;
use converge::Closest;
use density::Suspect;
use hop::{Held, Relay, Task};
use shortlist::Shortlist;

pub(crate) use density::part;
pub use mislead::mislead;
pub use msg::{Hint, LookupMsg};

/// How lookups behave.
#[derive(Clone, Copy, Debug)]
pub struct LookupConfig {
    /// How lookups travel that do not say how. Semi-recursively.
    pub mode: Mode,
    /// How long a peer has to accept or answer a question. 500 ms (Chord, ToN 2003, §VI-E).
    pub hop_timeout: Duration,
    /// How long the asker waits for the whole answer before it asks again. 10 s.
    pub timeout: Duration,
    /// How often a lookup is tried in all. 3.
    pub tries: u8,
    /// How long the asker waits before it tries again when it hears that a question got nowhere: where a dead root has
    /// to be replaced first. None.
    pub pause: Duration,
    /// A question that was passed on this often is dropped: it is going in circles. 512.
    pub max_hops: u16,
    /// The nodes that a user's lookup has found are compared with the asker's neighbours: they must stand as densely, or
    /// the lookup is tried otherwise, and in the end [`Found::implausible`] says what is wrong. This is the share of
    /// lookups in which chance may raise a false alarm; 0.001 is reasonable. Such a lookup asks for 16 peers at least.
    /// For Chord, Kademlia and Pastry; of the others distances do not tell how dense nodes are. `None`: no check.
    pub density_check: Option<f64>,
    /// How many questions wait at a node at once, own and others'. One more is not accepted. Half of them may be others',
    /// and once a quarter are, no more than an eighth of all may be one peer's; so it is of those that it holds because it
    /// cannot answer yet. Of the answers that go back through it, of which there are as many at most, no more than an
    /// eighth go to one peer. 1024.
    pub capacity: usize,
}

impl Default for LookupConfig {
    fn default() -> LookupConfig {
        LookupConfig {
            mode: Mode::SemiRecursive,
            hop_timeout: Duration::from_millis(500),
            timeout: Duration::from_secs(10),
            tries: 3,
            pause: Duration::ZERO,
            max_hops: 512,
            density_check: None,
            capacity: 1024,
        }
    }
}

/// How many peers a [`Hint`] has at most.
const HINTS: usize = 8;
/// How many silent peers a question remembers.
const AVOIDED: usize = 64;

/// Who wants a lookup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    User(OpId),
    Upkeep(u32),
}

/// The lookups that a node has begun, or passes on. All its lists hold at most [`LookupConfig::capacity`] entries.
#[derive(Clone, Debug)]
pub(crate) struct Lookups<P> {
    /// Shared where many nodes are configured alike.
    config: Arc<LookupConfig>,
    /// Begun here.
    begun: Vec<Begun<P>>,
    /// Questions to other peers.
    asked: Pending<P, Question<P>>,
    /// Where answers go back to.
    relays: Vec<Relay<P>>,
    /// Questions that wait until it can be told who is responsible.
    held: Vec<Held<P>>,
    /// Ended, to be handed over.
    ended: Vec<(Purpose, Looked<P>)>,
    armed: Option<Time>,
}

#[derive(Clone, Debug)]
struct Begun<P> {
    /// Random, so that nobody who has not seen the question can answer it.
    ticket: u64,
    purpose: Purpose,
    /// With as many peers as it asks for.
    find: Find,
    /// How many of them are wanted.
    wanted: u8,
    mode: Mode,
    /// How many disjoint paths it follows, where it is iterative and converges.
    paths: u8,
    via: Option<P>,
    deadline: Time,
    tries_left: u8,
    timeouts: u32,
    asking: Asking<P>,
    /// An answer that has come, and is not believed.
    suspect: Option<Box<Suspect<P>>>,
}

/// Whom an iterative lookup knows and has asked.
#[derive(Clone, Debug)]
enum Asking<P> {
    Nobody,
    /// Nobody until then: this node cannot say right now who is responsible.
    Later(Time),
    /// Until the root answers.
    Root(Box<Shortlist<P>>),
    /// Until the closest have answered.
    Closest(Box<Closest<P>>),
}

#[derive(Clone, Debug)]
enum Question<P> {
    /// Whether it accepts a question that is passed on, and from whom that has come.
    Hop(P, Task<P>),
    /// What it knows: of the iterative lookup with this ticket.
    Ask(u64),
}

impl<P: Keyed> Lookups<P> {
    pub(crate) fn new(config: Arc<LookupConfig>) -> Lookups<P> {
        let asked = Pending::with_capacity(config.capacity);
        let (begun, relays, held, ended) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Lookups { config, begun, asked, relays, held, ended, armed: None }
    }

    pub(crate) fn warm(&self) {
        self.asked.warm();
        prefetch(&self.begun[..]);
        prefetch(&self.relays[..]);
    }

    /// An answer to be handed over.
    pub(crate) fn ended(&mut self) -> Option<(Purpose, Looked<P>)> {
        self.ended.pop()
    }

    /// Begins a lookup, at `via` if that is given.
    pub(crate) fn begin<M: Maintenance<Peer = P>>(
        &mut self,
        cx: &mut Cx<'_, Routed<M>>,
        table: &mut M,
        purpose: Purpose,
        find: Find,
        via: Option<P>,
    ) {
        if self.begun.len() >= self.config.capacity {
            self.ended.push((purpose, Err(LookupError::Busy)));
            return;
        }
        table.looked_up(cx.now(), &find.key);
        let find = find.replicas(find.replicas);
        let tries_left = self.config.tries;
        let lookup = Begun {
            ticket: 0,
            purpose,
            find: find.replicas(self.sample(purpose, find.replicas)),
            wanted: find.replicas,
            mode: find.mode.unwrap_or(self.config.mode),
            paths: table.paths(),
            via,
            deadline: Time::MAX,
            tries_left,
            timeouts: 0,
            asking: Asking::Nobody,
            suspect: None,
        };
        self.begun.push(lookup);
        self.try_again(cx, table, self.begun.len() - 1);
        self.arm(cx);
    }

    /// Starts one of the lookups begun here once more, or ends it if it has been tried often enough.
    fn try_again<M: Maintenance<Peer = P>>(
        &mut self,
        cx: &mut Cx<'_, Routed<M>>,
        table: &mut M,
        index: usize,
    ) {
        let timeout = self.config.timeout;
        let lookup = &mut self.begun[index];
        let Some(tries_left) = lookup.tries_left.checked_sub(1) else {
            let timeouts = lookup.timeouts;
            let doubted = lookup.doubted();
            return self.end(index, doubted.ok_or(LookupError::NoAnswer { timeouts }));
        };
        lookup.tries_left = tries_left;
        lookup.ticket = cx.rng().next_u64();
        lookup.deadline = cx.now() + timeout;
        self.set_out(cx, table, index);
    }

    fn set_out<M: Maintenance<Peer = P>>(&mut self, cx: &mut Cx<'_, Routed<M>>, table: &mut M, index: usize) {
        let lookup = &self.begun[index];
        let (ticket, find, via) = (lookup.ticket, lookup.find, lookup.via);
        match lookup.mode {
            mode @ (Mode::Recursive | Mode::SemiRecursive) => {
                let task = Task {
                    ticket,
                    origin: table.me(),
                    key: find.key,
                    replicas: find.replicas,
                    hops: 0,
                    timeouts: 0,
                    waits: 0,
                    claimed: false,
                    back: mode == Mode::Recursive,
                    trail: Trail::new(Vec::new()),
                };
                match via {
                    Some(first) if first != table.me() => self.pass_on(cx, first, table.me(), task, false),
                    _ => self.route(cx, table, table.me(), task),
                }
            }
            Mode::Iterative { parallel } => match M::CONVERGES {
                true => self.begin_converging(cx, table, index, parallel),
                false => self.begin_iterative(cx, table, index, parallel),
            },
        }
    }

    /// One of the lookups begun here got nowhere: it is tried again, after a pause.
    fn got_nowhere<M: Maintenance<Peer = P>>(
        &mut self,
        cx: &mut Cx<'_, Routed<M>>,
        table: &mut M,
        index: usize,
    ) {
        if self.config.pause.is_zero() || self.begun[index].tries_left == 0 {
            return self.try_again(cx, table, index);
        }
        let lookup = &mut self.begun[index];
        // Answers to what was asked so far come too late.
        lookup.ticket = cx.rng().next_u64();
        lookup.asking = Asking::Nobody;
        lookup.deadline = cx.now() + self.config.pause;
    }

    /// Ends one of the lookups begun here.
    fn end(&mut self, index: usize, looked: Looked<P>) {
        let lookup = self.begun.swap_remove(index);
        let looked = looked.map(|mut found| {
            found.peers.truncate(lookup.wanted.into());
            found
        });
        self.ended.push((lookup.purpose, looked));
    }

    fn find_begun(&self, ticket: u64) -> Option<usize> {
        self.begun.iter().position(|lookup| lookup.ticket == ticket)
    }

    /// A root has answered one of the lookups begun here, or all those that had to.
    fn found<M: Maintenance<Peer = P>>(
        &mut self,
        cx: &mut Cx<'_, Routed<M>>,
        table: &mut M,
        index: usize,
        (named, hops, timeouts): (Vec<P>, u16, u16),
    ) {
        let lookup = &self.begun[index];
        let mut peers: Vec<P> = Vec::new();
        for peer in named {
            if peers.len() < lookup.find.replicas.into() && !peers.contains(&peer) {
                peers.push(peer);
            }
        }
        let timeouts = lookup.timeouts + u32::from(timeouts);
        let found = Found { peers, hops: u32::from(hops), timeouts, implausible: None };
        if let Some(found) = self.examine(cx, table, index, found) {
            self.end(index, Ok(found));
        }
    }

    /// Takes a lookup back.
    pub(crate) fn cancel<M: Maintenance<Peer = P>>(&mut self, cx: &mut Cx<'_, Routed<M>>, op: OpId) {
        self.begun.retain(|lookup| lookup.purpose != Purpose::User(op));
        self.arm(cx);
    }

    pub(crate) fn on_message<M: Maintenance<Peer = P>>(
        &mut self,
        cx: &mut Cx<'_, Routed<M>>,
        table: &mut M,
        from: P,
        msg: LookupMsg<P>,
    ) {
        match msg {
            LookupMsg::Forward { hop, task } => self.on_forward(cx, table, from, hop, task),
            LookupMsg::Accepted { hop } => {
                // An answer to something else is none.
                if let Some(ask @ Question::Ask(_)) = self.asked.answer(hop, from) {
                    self.on_silence(cx, table, from, ask);
                }
            }
            LookupMsg::Found { ticket, peers, hops, timeouts } => {
                self.on_found(cx, table, from, ticket, (peers, hops, timeouts));
            }
            LookupMsg::Lost { ticket } => {
                if let Some(index) = self.find_begun(ticket) {
                    self.got_nowhere(cx, table, index);
                }
            }
            LookupMsg::Ask { id, key, replicas, claimed, mut avoid } => {
                if table.is_joined() {
                    avoid.truncate(AVOIDED);
                    let wanted = usize::from(replicas.min(MAX_REPLICAS));
                    let hint = match M::CONVERGES {
                        true => Hint::Toward(table.candidates(&key, wanted, &avoid)),
                        false => hint(table, &key, replicas, claimed, &avoid),
                    };
                    cx.send(from, RoutedMsg::Lookup(LookupMsg::Answer { id, hint }));
                }
            }
            LookupMsg::Answer { id, hint } => match self.asked.answer(id, from) {
                Some(Question::Ask(ticket)) => self.on_answer(cx, table, from, ticket, hint),
                Some(hop @ Question::Hop(..)) => self.on_silence(cx, table, from, hop),
                None => {}
            },
        }
        self.arm(cx);
    }

    /// A node says what it knows.
    fn on_answer<M: Maintenance<Peer = P>>(
        &mut self,
        cx: &mut Cx<'_, Routed<M>>,
        table: &mut M,
        from: P,
        ticket: u64,
        hint: Hint<P>,
    ) {
        let Some(index) = self.find_begun(ticket) else { return };
        match (&self.begun[index].asking, hint) {
            (Asking::Nobody | Asking::Later(_), _) => {}
            (Asking::Root(_), hint) => self.on_hint(cx, table, from, index, hint),
            (Asking::Closest(_), Hint::Later) => self.on_closer(cx, table, from, index, &[]),
            (Asking::Closest(_), Hint::Toward(peers) | Hint::Mine(peers) | Hint::Root(peers)) => {
                self.on_closer(cx, table, from, index, &peers);
            }
        }
    }

    /// Somebody is late.
    pub(crate) fn on_timer<M: Maintenance<Peer = P>>(&mut self, cx: &mut Cx<'_, Routed<M>>, table: &mut M) {
        self.armed = None;
        let now = cx.now();
        while let Some((peer, question)) = self.asked.expire(now) {
            self.on_silence(cx, table, peer, question);
        }
        for index in (0..self.begun.len()).rev() {
            match &mut self.begun[index].asking {
                Asking::Nobody => {}
                Asking::Later(until) if *until > now => {}
                Asking::Later(_) => self.set_out(cx, table, index),
                Asking::Root(list) => {
                    list.wake(now);
                    self.ask_more(cx, table, index);
                }
                Asking::Closest(_) => self.ask_closer(cx, table, index),
            }
        }
        while let Some(index) = self.begun.iter().position(|lookup| lookup.deadline <= now) {
            self.try_again(cx, table, index);
        }
        self.relays.retain(|relay| relay.until > now);
        self.route_held(cx, table);
        self.arm(cx);
    }

    /// A peer cannot answer any more.
    pub(crate) fn on_link_down<M: Maintenance<Peer = P>>(
        &mut self,
        cx: &mut Cx<'_, Routed<M>>,
        table: &mut M,
        peer: P,
    ) {
        while let Some(question) = self.asked.give_up(peer) {
            self.on_silence(cx, table, peer, question);
        }
        self.arm(cx);
    }

    fn on_silence<M: Maintenance<Peer = P>>(
        &mut self,
        cx: &mut Cx<'_, Routed<M>>,
        table: &mut M,
        peer: P,
        question: Question<P>,
    ) {
        table.silent(cx.now(), peer);
        match question {
            Question::Hop(from, mut task) => {
                task.timeouts = task.timeouts.saturating_add(1);
                task.trail.avoid(peer, AVOIDED);
                self.route(cx, table, from, task);
            }
            Question::Ask(ticket) => {
                let Some(index) = self.find_begun(ticket) else { return };
                self.begun[index].timeouts += 1;
                match self.begun[index].asking {
                    Asking::Nobody | Asking::Later(_) => {}
                    Asking::Root(_) => self.on_silent_hint(cx, table, peer, index),
                    Asking::Closest(_) => self.on_silent_closest(cx, table, peer, index),
                }
            }
        }
    }

    /// Sets the timer to when the next one is late, or a relay is to be forgotten, or clears it.
    fn arm<M: Maintenance<Peer = P>>(&mut self, cx: &mut Cx<'_, Routed<M>>) {
        let now = cx.now();
        let deadlines = self.begun.iter().map(|lookup| lookup.deadline);
        let late = self.begun.iter().filter_map(|lookup| match &lookup.asking {
            Asking::Nobody => None,
            Asking::Later(until) => Some(*until),
            Asking::Root(list) => list.next_held(),
            Asking::Closest(closest) => closest.next_late(now),
        });
        let relays = self.relays.iter().map(|relay| relay.until);
        let held = self.held.iter().map(|held| held.again);
        let next = deadlines.chain(late).chain(self.asked.next_deadline()).chain(relays).chain(held).min();
        match next {
            _ if next == self.armed => return,
            Some(at) => cx.set_timer(at - cx.now(), RoutedTimer::Lookups),
            None => cx.clear_timer(RoutedTimer::Lookups),
        }
        self.armed = next;
    }
}

/// The peers that a root gives: itself, and those after it. Before it there may be one that it takes for alive and the
/// asker knows to be dead.
fn replica_peers<M: Maintenance>(table: &M, key: &Key, replicas: u8) -> Vec<M::Peer> {
    let wanted = usize::from(replicas.clamp(1, MAX_REPLICAS));
    let Replicas::Peers(mut peers) = table.replicas(key, wanted, true) else { return vec![table.me()] };
    match peers.iter().position(|peer| *peer == table.me()) {
        Some(at) => peers.split_off(at),
        None => vec![table.me()],
    }
}

/// What this node knows about a key, the peers in `avoid` left out.
fn hint<M: Maintenance>(
    table: &M,
    key: &Key,
    replicas: u8,
    claimed: bool,
    avoid: &[M::Peer],
) -> Hint<M::Peer> {
    match table.next(key, avoid, claimed) {
        Next::Mine => Hint::Mine(replica_peers(table, key, replicas)),
        Next::Later => Hint::Later,
        Next::Root(first) => {
            let mut left_out = avoid.to_vec();
            left_out.push(first);
            while left_out.len() < avoid.len() + HINTS
                && let Next::Root(next) = table.next(key, &left_out, claimed)
            {
                left_out.push(next);
            }
            Hint::Root(left_out.split_off(avoid.len()))
        }
        Next::Toward(_) | Next::Nowhere => Hint::Toward(table.candidates(key, HINTS, avoid)),
    }
}

#[cfg(test)]
mod tests;
