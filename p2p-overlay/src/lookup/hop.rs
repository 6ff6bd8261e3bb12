//! Recursive lookups: each node passes the question on.

use p2p_core::{Cx, Key, Keyed, Time};
use serde::{Deserialize, Serialize};

use super::{AVOIDED, LookupMsg, Lookups, Question, replica_peers};
use crate::routed::{Routed, RoutedMsg};
use crate::structured::{LookupError, Maintenance, Mode, Next};
use crate::trail::Trail;

/// A question on its way from node to node.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Task<P> {
    /// The asker's number for the lookup.
    pub(super) ticket: u64,
    /// The asker.
    pub(super) origin: P,
    pub(super) key: Key,
    /// How many peers are wanted in the answer.
    pub(super) replicas: u8,
    /// How often it was passed on.
    pub(super) hops: u16,
    /// How many peers were silent on the way.
    pub(super) timeouts: u16,
    /// The sender takes the receiver for the root.
    pub(super) claimed: bool,
    /// The answer goes back along the path.
    pub(super) back: bool,
    /// How often it was held.
    pub(super) waits: u16,
    /// Whom it leaves out, and how it goes around dead ends. At most [`AVOIDED`].
    pub(super) trail: Trail<P>,
}

/// A question that waits until it can be told who is responsible.
#[derive(Clone, Debug)]
pub(super) struct Held<P> {
    pub(super) again: Time,
    /// Who has passed it on to this node; itself, if it asks.
    from: P,
    task: Task<P>,
}

/// Of the answers that go back through a node at once one in so many may be one peer's; and so it is of the questions that
/// it has passed on, and of those that it holds, once half of their room is taken. It takes as many that ask for what never
/// comes to keep others out, and then only from having that done for them.
const SHARE: usize = 8;

/// Where the answer to a lookup that was passed on goes back to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Relay<P> {
    ticket: u64,
    to: P,
    pub(super) until: Time,
}

impl<P: Keyed> Lookups<P> {
    /// A question comes in from another node.
    pub(super) fn on_forward<M: Maintenance<Peer = P>>(
        &mut self,
        cx: &mut Cx<'_, Routed<M>>,
        table: &mut M,
        from: P,
        hop: u32,
        mut task: Task<P>,
    ) {
        let busy = !self.may_pass_on(from) || task.back && !self.may_relay(from);
        if busy || !table.is_joined() {
            return; // The sender will find somebody else.
        }
        cx.send(from, RoutedMsg::Lookup(LookupMsg::Accepted { hop }));
        task.hops = task.hops.saturating_add(1);
        task.trail.truncate(AVOIDED);
        if task.hops > self.config.max_hops {
            return cx.send(task.origin, RoutedMsg::Lookup(LookupMsg::Lost { ticket: task.ticket }));
        }
        if task.back {
            let until = cx.now() + self.config.timeout;
            self.relays.push(Relay { ticket: task.ticket, to: from, until });
        }
        self.route(cx, table, from, task);
    }

    /// Passes a question that has come from a peer on, answers it, or gives it up.
    pub(super) fn route<M: Maintenance<Peer = P>>(
        &mut self,
        cx: &mut Cx<'_, Routed<M>>,
        table: &mut M,
        from: P,
        mut task: Task<P>,
    ) {
        let mut next = table.next(&task.key, &task.trail.avoid, task.claimed);
        if next == Next::Nowhere {
            let detour = table.detour(&task.key, &task.trail.avoid);
            next = task.trail.around(table.me(), detour, AVOIDED).map_or(next, Next::Toward);
        }
        match next {
            Next::Mine => self.answer(cx, table, task),
            Next::Root(peer) => self.pass_on(cx, peer, from, task, true),
            Next::Toward(peer) => self.pass_on(cx, peer, from, task, false),
            Next::Later => self.hold(cx, table.me(), from, task),
            Next::Nowhere if task.origin != table.me() => {
                cx.send(task.origin, RoutedMsg::Lookup(LookupMsg::Lost { ticket: task.ticket }));
            }
            Next::Nowhere => {
                let Some(index) = self.find_begun(task.ticket) else { return };
                self.begun[index].timeouts += u32::from(task.timeouts);
                match table.is_joined() {
                    true => self.got_nowhere(cx, table, index),
                    false => self.end(index, Err(LookupError::NotJoined)),
                }
            }
        }
    }

    /// Keeps a question that cannot be answered or passed on right now.
    fn hold<M: Maintenance<Peer = P>>(&mut self, cx: &mut Cx<'_, Routed<M>>, me: P, from: P, task: Task<P>) {
        let theirs = self.held.iter().filter(|held| held.from == from).count();
        let has_room = from == me || self.held.len() < self.config.capacity / 4 || theirs < self.share();
        if has_room && self.held.len() < self.config.capacity / 2 {
            self.held.push(Held { again: cx.now() + self.config.hop_timeout, from, task });
        }
    }

    /// Routes anew what has been held for long enough: who was silent may have answered since. A question is not held
    /// for longer than its asker waits.
    pub(super) fn route_held<M: Maintenance<Peer = P>>(&mut self, cx: &mut Cx<'_, Routed<M>>, table: &mut M) {
        let most = (self.config.timeout.as_nanos() / self.config.hop_timeout.as_nanos().max(1)) as u64;
        while let Some(at) = self.held.iter().position(|held| held.again <= cx.now()) {
            let Held { from, mut task, .. } = self.held.swap_remove(at);
            task.waits = task.waits.saturating_add(1);
            task.trail.avoid.clear();
            if u64::from(task.waits) < most {
                self.route(cx, table, from, task);
            }
        }
    }

    pub(super) fn pass_on<M: Maintenance<Peer = P>>(
        &mut self,
        cx: &mut Cx<'_, Routed<M>>,
        peer: P,
        from: P,
        task: Task<P>,
        claimed: bool,
    ) {
        let deadline = cx.now() + self.config.hop_timeout;
        // What is kept says how the question came to this node, should it have to be routed again.
        let passed = Task { claimed, ..task.clone() };
        if let Ok(hop) = self.asked.insert(peer, deadline, Question::Hop(from, task)) {
            let task = passed;
            cx.send(peer, RoutedMsg::Lookup(LookupMsg::Forward { hop, task }));
        }
    }

    /// This node is the root.
    fn answer<M: Maintenance<Peer = P>>(&mut self, cx: &mut Cx<'_, Routed<M>>, table: &mut M, task: Task<P>) {
        let peers = replica_peers(table, &task.key, task.replicas);
        let Task { ticket, hops, timeouts, .. } = task;
        if task.origin == table.me() {
            if let Some(index) = self.find_begun(ticket) {
                self.found(cx, table, index, (peers, hops, timeouts));
            }
            return;
        }
        let to = match task.back {
            true => self.take_relay(ticket),
            false => Some(task.origin),
        };
        if let Some(to) = to {
            cx.send(to, RoutedMsg::Lookup(LookupMsg::Found { ticket, peers, hops, timeouts }));
        }
    }

    /// An answer comes in: for this node, or to be passed back.
    pub(super) fn on_found<M: Maintenance<Peer = P>>(
        &mut self,
        cx: &mut Cx<'_, Routed<M>>,
        table: &mut M,
        from: P,
        ticket: u64,
        (peers, hops, timeouts): (Vec<P>, u16, u16),
    ) {
        if let Some(index) = self.find_begun(ticket) {
            // Straight from the root: nobody can name another as the root but by routing the question wrongly.
            let back = self.begun[index].mode == Mode::Recursive;
            if peers.first().is_some_and(|root| back || *root == from) {
                self.found(cx, table, index, (peers, hops, timeouts));
            }
        } else if let Some(to) = self.take_relay(ticket) {
            cx.send(to, RoutedMsg::Lookup(LookupMsg::Found { ticket, peers, hops, timeouts }));
        }
    }

    /// How much of a kind one peer may have at once.
    fn share(&self) -> usize {
        self.config.capacity.div_ceil(SHARE)
    }

    /// Whether one more question of a peer's may be passed on. Half of the questions are for this node's own lookups.
    fn may_pass_on(&self, from: P) -> bool {
        let asked = self.asked.len();
        let is_theirs =
            |(_, asked): &(P, &Question<P>)| matches!(asked, Question::Hop(peer, _) if *peer == from);
        let theirs = || self.asked.iter().filter(is_theirs).count();
        asked < self.config.capacity / 2 && (asked < self.config.capacity / 4 || theirs() < self.share())
    }

    /// Whether one more answer may go back to a peer through this node.
    fn may_relay(&self, to: P) -> bool {
        let theirs = self.relays.iter().filter(|relay| relay.to == to).count();
        self.relays.len() < self.config.capacity && theirs < self.share()
    }

    fn take_relay(&mut self, ticket: u64) -> Option<P> {
        let at = self.relays.iter().position(|relay| relay.ticket == ticket)?;
        Some(self.relays.swap_remove(at).to)
    }
}
