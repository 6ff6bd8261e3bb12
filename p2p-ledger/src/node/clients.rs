//! Light clients: who asks, and in which order they are answered.
//!
//! They are strangers, who need not be neighbours and give nothing for what they get. So what is done for them is bounded for
//! each and for all: the keeper has few of their questions at a time, and those wait in one line in which everybody stands
//! once.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::time::Duration;

use p2p_core::{Cx, Peer, Time};
use p2p_overlay::Membership;

use super::job::LedgerJob;
use super::msg::{LedgerMsg, MAX_LOCATOR};
use super::{JobFor, LedgerNode, now};
use crate::consensus::Consensus;
use crate::id::WtxId;
use crate::light::{LightAnswer, LightAsk, LightMsg};
use crate::state::State;

/// How many there are. For another the one goes that has been silent for longest, unless it waits for an answer.
const MOST: usize = 256;
/// How many questions of one wait, and how many bytes they have.
const MOST_OF_ONE: usize = 8;
const MOST_BYTES: usize = 128 << 10;
/// How many the keeper has at a time.
const MOST_OPEN: usize = 4;
/// For how long whoever has asked something is told of new blocks.
const STAYS: Duration = Duration::from_secs(60);

/// Who has asked something lately.
#[derive(Debug)]
pub(super) struct Clients<P> {
    all: BTreeMap<P, Client>,
    /// Whose turn it was last.
    last: Option<P>,
    open: usize,
}

#[derive(Debug)]
struct Client {
    seen: Time,
    waiting: VecDeque<(u32, LightAsk)>,
}

impl<P: Peer> Clients<P> {
    pub(super) fn new() -> Clients<P> {
        Clients { all: BTreeMap::new(), last: None, open: 0 }
    }

    /// Has a question wait, unless there is no room for it.
    fn add(&mut self, from: P, id: u32, ask: LightAsk, now: Time) {
        if let LightAsk::Headers(locator) = &ask
            && locator.len() > MAX_LOCATOR
        {
            return;
        }
        if !self.all.contains_key(&from) && self.all.len() >= MOST {
            let idle = self.all.iter().filter(|(_, client)| client.waiting.is_empty());
            let Some(first) = idle.min_by_key(|(_, client)| client.seen).map(|(peer, _)| *peer) else {
                return;
            };
            self.all.remove(&first);
        }
        let client = self.all.entry(from).or_insert_with(|| Client { seen: now, waiting: VecDeque::new() });
        client.seen = now;
        let held: usize = client.waiting.iter().map(|(_, ask)| ask.bytes()).sum();
        if client.waiting.len() < MOST_OF_ONE && held + ask.bytes() <= MOST_BYTES {
            client.waiting.push_back((id, ask));
        }
    }

    /// The next question that may go to the keeper.
    fn next(&mut self) -> Option<(P, u32, LightAsk)> {
        if self.open >= MOST_OPEN {
            return None;
        }
        let waits = |entry: &(&P, &mut Client)| !entry.1.waiting.is_empty();
        let after = self.last.map_or(Bound::Unbounded, Bound::Excluded);
        let mut turn = self.all.range_mut((after, Bound::Unbounded)).find(waits);
        if turn.is_none() {
            turn = self.all.iter_mut().find(waits);
        }
        let (peer, client) = turn?;
        let (id, ask) = client.waiting.pop_front()?;
        (self.last, self.open) = (Some(*peer), self.open + 1);
        Some((*peer, id, ask))
    }

    pub(super) fn forget(&mut self, peer: P) {
        self.all.remove(&peer);
    }

    /// Those who are told of new blocks.
    pub(super) fn told(&mut self, now: Time) -> impl Iterator<Item = P> {
        self.all.retain(|_, client| !client.waiting.is_empty() || now.since(client.seen) < STAYS);
        self.all.keys().copied()
    }
}

impl<M: Membership, C: Consensus, S: State> LedgerNode<M, C, S> {
    pub(super) fn on_light(&mut self, cx: &mut Cx<'_, Self>, from: M::Peer, msg: LightMsg) {
        // Nobody answers a node.
        let LightMsg::Ask(id, ask) = msg else { return };
        if self.banned.get(&from).is_some_and(|until| *until > cx.now()) {
            return;
        }
        self.clients.add(from, id, ask, cx.now());
        self.serve(cx);
    }

    fn serve(&mut self, cx: &mut Cx<'_, Self>) {
        while let Some((to, id, ask)) = self.clients.next() {
            let job = LedgerJob::Serve { ask, now: now(cx) };
            self.start(cx, job, JobFor::Serve { to, id });
        }
    }

    /// The keeper has done with a question.
    pub(super) fn served(
        &mut self,
        cx: &mut Cx<'_, Self>,
        to: M::Peer,
        id: u32,
        answer: Option<(LightAnswer, Vec<WtxId>)>,
    ) {
        self.clients.open -= 1;
        if let Some((answer, admitted)) = answer {
            cx.send(to, LedgerMsg::Light(LightMsg::Answer(id, answer)));
            self.announce_transactions(cx, admitted, None);
        }
        self.serve(cx);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::BlockId;
    use p2p_core::SimPeer;

    fn ask(clients: &mut Clients<SimPeer>, from: u32, id: u32) {
        clients.add(SimPeer(from), id, LightAsk::Block(BlockId::NONE), Time::ZERO);
    }

    #[test]
    fn who_asks_much_does_not_keep_others_waiting() {
        let mut clients = Clients::new();
        (0..100).for_each(|id| ask(&mut clients, 1, id));
        ask(&mut clients, 2, 7);
        let mut turns = Vec::new();
        while let Some((peer, id, _)) = clients.next() {
            turns.push((peer.0, id));
        }
        assert_eq!(turns, [(1, 0), (2, 7), (1, 1), (1, 2)]);
        for _ in 0..4 {
            clients.open -= 1;
        }
        let left = std::iter::from_fn(|| {
            clients.open = 0;
            clients.next()
        });
        assert_eq!(left.count(), MOST_OF_ONE - 3, "no more of one wait");
    }

    #[test]
    fn there_are_so_many_and_whoever_has_been_silent_goes_first() {
        let mut clients = Clients::new();
        ask(&mut clients, 0, 1);
        clients.next();
        for peer in 1..1_000 {
            ask(&mut clients, peer, 1);
        }
        assert_eq!(clients.all.len(), MOST);
        assert!(!clients.all.contains_key(&SimPeer(0)), "it has its answer");
        assert!(clients.all.contains_key(&SimPeer(1)), "it waits for one");
        let long = LightAsk::Submit(vec![0; MOST_BYTES + 1].into());
        clients.all.clear();
        clients.add(SimPeer(1), 1, long, Time::ZERO);
        assert!(clients.all[&SimPeer(1)].waiting.is_empty());
    }

    #[test]
    fn who_has_asked_lately_is_told_of_new_blocks() {
        let mut clients = Clients::new();
        ask(&mut clients, 1, 1);
        clients.next();
        assert!(clients.told(Time::ZERO + STAYS / 2).eq([SimPeer(1)]));
        assert_eq!(clients.told(Time::ZERO + STAYS).count(), 0);
    }
}
