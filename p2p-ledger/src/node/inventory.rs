//! Transactions on their way: who has which, who has been asked for which, and what is to be announced.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use bytes::Bytes;
use p2p_core::{Cx, Peer, Time};
use p2p_overlay::Membership;

use super::job::{AddDone, LedgerJob};
use super::msg::{LedgerMsg, MAX_INVENTORY};
use super::recent::Recent;
use super::{JobFor, LedgerNode, LedgerTimer, now};
use crate::consensus::Consensus;
use crate::id::WtxId;
use crate::state::State;

/// How many transactions are asked for at once, and how many of one neighbour.
const MOST_ASKED: usize = 5_000;
const MOST_OF_ONE: usize = 1_000;
/// How many neighbours are remembered to have one that another was asked for.
const MOST_OTHERS: usize = 3;
/// How many wait to be announced to a neighbour.
const MOST_QUEUED: usize = 5_000;

/// Transactions on their way here.
#[derive(Debug)]
pub(super) struct Inventory<P> {
    asked: BTreeMap<WtxId, Asked<P>>,
    of_one: BTreeMap<P, usize>,
    /// What was refused as the chain stands.
    refused: Recent<WtxId>,
}

#[derive(Debug)]
struct Asked<P> {
    of: P,
    until: Time,
    others: Vec<P>,
}

impl<P: Peer> Inventory<P> {
    pub(super) fn new() -> Inventory<P> {
        Inventory { asked: BTreeMap::new(), of_one: BTreeMap::new(), refused: Recent::new(1 << 14) }
    }

    /// The chain has gone on: what was refused may be taken now.
    pub(super) fn chain_has_changed(&mut self) {
        self.refused.clear();
    }

    fn count(&mut self, peer: P, by: isize) {
        let count = self.of_one.entry(peer).or_default();
        *count = count.saturating_add_signed(by);
        if *count == 0 {
            self.of_one.remove(&peer);
        }
    }

    /// Whether to ask a peer for what it has announced and the pool lacks.
    fn is_worth_asking(&mut self, id: WtxId, of: P, until: Time) -> bool {
        if self.refused.contains(&id) {
            return false;
        }
        let room = self.asked.len() < MOST_ASKED && self.of_one.get(&of).is_none_or(|of| *of < MOST_OF_ONE);
        match self.asked.entry(id) {
            Entry::Occupied(mut asked) => {
                let others = &mut asked.get_mut().others;
                if others.len() < MOST_OTHERS && !others.contains(&of) {
                    others.push(of);
                }
                return false;
            }
            Entry::Vacant(free) if room => drop(free.insert(Asked { of, until, others: Vec::new() })),
            Entry::Vacant(_) => return false,
        }
        self.count(of, 1);
        true
    }

    /// One has come; whether this peer had been asked for it.
    fn came(&mut self, id: &WtxId, from: P) -> bool {
        let asked = self.asked.get(id).is_some_and(|asked| asked.of == from);
        if asked {
            self.asked.remove(id);
            self.count(from, -1);
        }
        asked
    }

    /// Takes out questions; who else may be asked for each.
    fn take(&mut self, which: impl Fn(&Asked<P>) -> bool) -> Vec<(WtxId, Vec<P>)> {
        let those = self.asked.iter().filter(|(_, asked)| which(asked)).map(|(id, _)| *id);
        let mut taken = Vec::new();
        for id in those.collect::<Vec<_>>() {
            if let Some(asked) = self.asked.remove(&id) {
                self.count(asked.of, -1);
                taken.push((id, asked.others));
            }
        }
        taken
    }
}

impl<M: Membership, C: Consensus, S: State> LedgerNode<M, C, S> {
    pub(super) fn on_have(&mut self, cx: &mut Cx<'_, Self>, from: M::Peer, ids: Vec<WtxId>) {
        if ids.len() > MAX_INVENTORY {
            return self.ban(cx, from, "it announces more transactions at once than may be");
        }
        let Some(peer) = self.peers.get_mut(&from) else { return };
        for id in &ids {
            peer.knows.insert(*id);
        }
        // Who is behind cannot judge them.
        if !self.is_behind() {
            let is_full = ids.len() == MAX_INVENTORY;
            self.start_for(cx, from, LedgerJob::Lacking { ids }, JobFor::Lacking { from, is_full });
        }
    }

    /// Asks for what a neighbour has announced and the pool lacks.
    pub(super) fn ask_for_lacking(
        &mut self,
        cx: &mut Cx<'_, Self>,
        from: M::Peer,
        is_full: bool,
        ids: Vec<WtxId>,
    ) {
        let until = cx.now() + self.config.transaction_timeout;
        let Some(peer) = self.peers.get_mut(&from) else { return };
        let wanted = ids.into_iter().filter(|id| self.inventory.is_worth_asking(*id, from, until));
        let wanted: Vec<WtxId> = wanted.collect();
        peer.has_more |= is_full && !wanted.is_empty();
        if !wanted.is_empty() {
            cx.send(from, LedgerMsg::Want(wanted));
        }
    }

    pub(super) fn on_want(&mut self, cx: &mut Cx<'_, Self>, from: M::Peer, ids: Vec<WtxId>) {
        if ids.len() > MAX_INVENTORY {
            return self.ban(cx, from, "it asks for more transactions at once than may be");
        }
        self.start_for(cx, from, LedgerJob::Waiting { ids }, JobFor::Waiting { from });
    }

    pub(super) fn on_transactions(&mut self, cx: &mut Cx<'_, Self>, from: M::Peer, transactions: Bytes) {
        if !self.inventory.of_one.contains_key(&from) {
            // It may be too late.
            return self.annoy(cx, from, 2);
        }
        let job = LedgerJob::Add { transactions, now: now(cx) };
        self.start_for(cx, from, job, JobFor::Add { from });
    }

    pub(super) fn added(&mut self, cx: &mut Cx<'_, Self>, from: M::Peer, done: AddDone) {
        if let Some(why) = done.malformed {
            return self.ban(cx, from, &format!("transactions that cannot be read: {why}"));
        }
        let unasked = done.given.iter().filter(|id| !self.inventory.came(id, from)).count();
        for id in &done.refused {
            self.inventory.refused.insert(*id);
        }
        let is_good = !done.admitted.is_empty();
        self.announce_transactions(cx, done.admitted, Some(from));
        let has_come = is_good && !self.inventory.of_one.contains_key(&from);
        if let Some(peer) = self.peers.get_mut(&from).filter(|_| has_come)
            && std::mem::take(&mut peer.has_more)
        {
            self.ask_pool(cx, from);
        }
        // An honest peer may be at another block, or have another pool: what it takes in is not for us then.
        self.annoy(cx, from, (unasked + done.unsigned) as u32);
    }

    /// Tells the neighbours of what has come into the pool, a little later.
    pub(super) fn announce_transactions(
        &mut self,
        cx: &mut Cx<'_, Self>,
        ids: Vec<WtxId>,
        except: Option<M::Peer>,
    ) {
        let mut any = false;
        for (_, peer) in self.peers.iter_mut().filter(|(name, _)| Some(**name) != except) {
            let new = ids.iter().filter(|id| !peer.knows.contains(id)).copied();
            peer.announce.extend(new.take(MOST_QUEUED.saturating_sub(peer.announce.len())));
            any |= !peer.announce.is_empty();
        }
        if any && !self.announcing {
            self.announcing = true;
            cx.set_timer(self.config.announce, LedgerTimer::Announce);
        }
    }

    pub(super) fn announce_now(&mut self, cx: &mut Cx<'_, Self>) {
        self.announcing = false;
        for (name, peer) in &mut self.peers {
            let ids: Vec<WtxId> = std::mem::take(&mut peer.announce);
            let new: Vec<WtxId> = ids.into_iter().filter(|id| peer.knows.insert(*id)).collect();
            for some in new.chunks(MAX_INVENTORY) {
                cx.send(*name, LedgerMsg::Have(some.to_vec()));
            }
        }
    }

    /// Asks a neighbour what waits there, unless this node could not judge it: from a name by lot on, for it does not say all.
    pub(super) fn ask_pool(&mut self, cx: &mut Cx<'_, Self>, peer: M::Peer) {
        if !self.is_behind() {
            let from = WtxId(cx.rng().key());
            cx.send(peer, LedgerMsg::GetPool { from });
        }
    }

    pub(super) fn on_get_pool(&mut self, cx: &mut Cx<'_, Self>, to: M::Peer, from: WtxId) {
        self.start_for(cx, to, LedgerJob::Pool { from }, JobFor::Pool { to });
    }

    /// Names what waits here, even what this neighbour has been told before: that may have been lost.
    pub(super) fn tell_pool(&mut self, cx: &mut Cx<'_, Self>, to: M::Peer, ids: Vec<WtxId>) {
        let Some(peer) = self.peers.get_mut(&to) else { return };
        for id in &ids {
            peer.knows.insert(*id);
        }
        if !ids.is_empty() {
            cx.send(to, LedgerMsg::Have(ids));
        }
    }

    /// Asks others for what has not come in time.
    pub(super) fn ask_others_for_transactions(&mut self, cx: &mut Cx<'_, Self>) {
        let at = cx.now();
        let late = self.inventory.take(|asked| asked.until <= at);
        self.ask_again(cx, late);
    }

    pub(super) fn forget_questions_to(&mut self, cx: &mut Cx<'_, Self>, peer: M::Peer) {
        let open = self.inventory.take(|asked| asked.of == peer);
        self.ask_again(cx, open);
    }

    fn ask_again(&mut self, cx: &mut Cx<'_, Self>, open: Vec<(WtxId, Vec<M::Peer>)>) {
        let until = cx.now() + self.config.transaction_timeout;
        let mut questions: BTreeMap<M::Peer, Vec<WtxId>> = BTreeMap::new();
        for (id, others) in open {
            let mut others = others.into_iter().filter(|other| self.peers.contains_key(other));
            let Some(of) = others.next() else { continue };
            if self.inventory.is_worth_asking(id, of, until) {
                questions.entry(of).or_default().push(id);
            }
            for other in others {
                self.inventory.is_worth_asking(id, other, until);
            }
        }
        for (of, ids) in questions {
            for some in ids.chunks(MAX_INVENTORY) {
                cx.send(of, LedgerMsg::Want(some.to_vec()));
            }
        }
    }
}
