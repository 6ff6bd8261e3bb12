//! Light clients: who asks, and in which order they are answered.
//!
//! They are strangers, who need not be neighbours and give nothing for what they get. So what is done for them is bounded for
//! each and for all: the keeper has few of their questions at a time, and those wait in one line in which everybody stands
//! once. Whoever is not answered is told so.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;
use std::time::Duration;

use p2p_core::{Cx, Peer, Time};
use p2p_overlay::Membership;

use super::job::{LedgerJob, Offence, ServeDone};
use super::msg::{LedgerMsg, MAX_LOCATOR};
use super::{JobFor, LedgerNode, now};
use crate::consensus::Consensus;
use crate::light::{LightAnswer, LightAsk, LightMsg};
use crate::state::State;

/// How many there are. For another the one goes that has been silent for longest of those that wait for nothing; if there is none,
/// one that has the most questions waiting.
const MOST: usize = 256;
/// How many questions of one wait, and how many bytes they have.
const MOST_OF_ONE: usize = 8;
const MOST_BYTES: usize = 128 << 10;
/// How many the keeper has at a time; of one client no more than one transaction.
const MOST_OPEN: usize = 4;
/// How many transactions with bad signatures one may give.
const MOST_UNSIGNED: u32 = 10;
/// For how long whoever has asked something is told of new blocks.
const STAYS: Duration = Duration::from_secs(60);

/// Who has asked something lately.
#[derive(Debug)]
pub(super) struct Clients<P> {
    all: BTreeMap<P, Client>,
    /// Whose turn it was last.
    last: Option<P>,
    open: usize,
    /// Whose transactions the keeper has.
    submitting: BTreeSet<P>,
}

#[derive(Debug)]
struct Client {
    seen: Time,
    waiting: VecDeque<(u32, LightAsk)>,
    /// How many transactions with bad signatures it has given.
    unsigned: u32,
}

impl<P: Peer> Clients<P> {
    pub(super) fn new() -> Clients<P> {
        Clients { all: BTreeMap::new(), last: None, open: 0, submitting: BTreeSet::new() }
    }

    /// Has a question wait. Returns those that have no room now, of whoever has to go among them.
    #[must_use]
    fn add(&mut self, from: P, id: u32, ask: LightAsk, now: Time) -> Vec<(P, u32)> {
        if matches!(&ask, LightAsk::Headers(locator) if locator.len() > MAX_LOCATOR) {
            return vec![(from, id)];
        }
        let mut left = Vec::new();
        if !self.all.contains_key(&from) && self.all.len() >= MOST {
            let waits = |client: &Client| client.waiting.len();
            let order = |client: &Client| (waits(client) > 0, Reverse(waits(client)), client.seen);
            let out = self.all.iter().min_by_key(|(_, client)| order(client)).map(|(peer, _)| *peer);
            if let Some((out, client)) = out.and_then(|out| self.all.remove_entry(&out)) {
                left.extend(client.waiting.into_iter().map(|(id, _)| (out, id)));
            }
        }
        let new = || Client { seen: now, waiting: VecDeque::new(), unsigned: 0 };
        let client = self.all.entry(from).or_insert_with(new);
        client.seen = now;
        let held: usize = client.waiting.iter().map(|(_, ask)| ask.bytes()).sum();
        match client.waiting.len() < MOST_OF_ONE && held + ask.bytes() <= MOST_BYTES {
            true => client.waiting.push_back((id, ask)),
            false => left.push((from, id)),
        }
        left
    }

    /// The next question that may go to the keeper.
    fn next(&mut self) -> Option<(P, u32, LightAsk)> {
        if self.open >= MOST_OPEN {
            return None;
        }
        let submitting = &self.submitting;
        let waits = |entry: &(&P, &mut Client)| match entry.1.waiting.front() {
            Some((_, LightAsk::Submit(_))) => !submitting.contains(entry.0),
            first => first.is_some(),
        };
        let after = self.last.map_or(Bound::Unbounded, Bound::Excluded);
        let mut turn = self.all.range_mut((after, Bound::Unbounded)).find(waits);
        if turn.is_none() {
            turn = self.all.iter_mut().find(waits);
        }
        let (peer, client) = turn?;
        let (peer, (id, ask)) = (*peer, client.waiting.pop_front()?);
        if matches!(ask, LightAsk::Submit(_)) {
            self.submitting.insert(peer);
        }
        (self.last, self.open) = (Some(peer), self.open + 1);
        Some((peer, id, ask))
    }

    /// The keeper has done with a question.
    fn done(&mut self, of: P, was_submit: bool) {
        self.open -= 1;
        if was_submit {
            self.submitting.remove(&of);
        }
    }

    /// A transaction had a bad signature; whether that was one too many.
    fn is_too_much(&mut self, of: P) -> bool {
        let Some(client) = self.all.get_mut(&of) else { return false };
        client.unsigned += 1;
        client.unsigned > MOST_UNSIGNED
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
        for (peer, id) in self.clients.add(from, id, ask, cx.now()) {
            cx.send(peer, LedgerMsg::Light(LightMsg::Answer(id, LightAnswer::Missing)));
        }
        self.serve(cx);
    }

    fn serve(&mut self, cx: &mut Cx<'_, Self>) {
        while let Some((to, id, ask)) = self.clients.next() {
            let is_submit = matches!(ask, LightAsk::Submit(_));
            let job = LedgerJob::Serve { ask, now: now(cx) };
            self.start(cx, job, JobFor::Serve { to, id, is_submit });
        }
    }

    /// The keeper has done with a question.
    pub(super) fn served(
        &mut self,
        cx: &mut Cx<'_, Self>,
        to: M::Peer,
        id: u32,
        is_submit: bool,
        done: Option<ServeDone>,
    ) {
        self.clients.done(to, is_submit);
        if let Some(ServeDone { answer, admitted, offence }) = done {
            cx.send(to, LedgerMsg::Light(LightMsg::Answer(id, answer)));
            self.announce_transactions(cx, admitted, None);
            match offence {
                Some(Offence::Malformed) => self.ban_client(cx, to, "a transaction that cannot be read"),
                Some(Offence::Unsigned) if self.clients.is_too_much(to) => {
                    self.ban_client(cx, to, "transactions with bad signatures, time and again");
                }
                Some(Offence::Unsigned) | None => {}
            }
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
        drop(clients.add(SimPeer(from), id, LightAsk::Block(BlockId::NONE), Time::ZERO));
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
        assert!(clients.all.contains_key(&SimPeer(999)), "a newcomer has its place");
        // Who has most waiting goes first, and is told so.
        (2..5).for_each(|id| ask(&mut clients, 999, id));
        let left = clients.add(SimPeer(1_000), 7, LightAsk::Block(BlockId::NONE), Time::ZERO);
        assert_eq!(left, [1, 2, 3, 4].map(|id| (SimPeer(999), id)));
        let long = LightAsk::Submit(vec![0; MOST_BYTES + 1].into());
        clients.all.clear();
        assert_eq!(clients.add(SimPeer(1), 1, long, Time::ZERO), [(SimPeer(1), 1)]);
        assert!(clients.all[&SimPeer(1)].waiting.is_empty());
    }

    #[test]
    fn the_keeper_has_one_transaction_of_a_client_at_a_time() {
        let mut clients = Clients::new();
        for (peer, id) in [(1, 0), (1, 1), (2, 2)] {
            assert_eq!(clients.add(SimPeer(peer), id, LightAsk::Submit(vec![0].into()), Time::ZERO), []);
        }
        let mut turns = std::iter::from_fn(|| clients.next().map(|(_, id, _)| id));
        assert_eq!(turns.by_ref().collect::<Vec<_>>(), [0, 2]);
        clients.done(SimPeer(1), true);
        assert_eq!(clients.next().map(|(_, id, _)| id), Some(1));
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
