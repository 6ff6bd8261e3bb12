//! Requests and inserts on their way (§3.2, §3.3): where they go next, and what becomes of them.

use std::collections::BTreeSet;

use p2p_core::{Cx, Key, Keyed, OpId};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Freenet, FreenetBlock, FreenetMsg, FreenetTimer};

/// What is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    Request,
    Insert,
}

/// Who waits for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asker<P> {
    Peer(P),
    User(OpId),
}

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The next node was asked.
    Asked,
    /// It has passed the request on.
    Working,
    /// Nothing is there: the block to be inserted may come.
    Accepted,
    /// The block was sent on.
    Sent,
}

/// A request or insert that goes through this node.
#[derive(Debug)]
pub(super) struct Pending<P> {
    what: What,
    key: Key,
    asker: Asker<P>,
    stage: Stage,
    /// Who was asked last; `None` at the end of an insert.
    next: Option<P>,
    /// With how many hops to live.
    htl: u16,
    /// Who has been asked: no more than it has had hops.
    tried: BTreeSet<P>,
}

impl<P: Keyed + Serialize + DeserializeOwned> Freenet<P> {
    pub(super) fn on_request(
        &mut self,
        cx: &mut Cx<'_, Self>,
        from: P,
        what: What,
        id: u64,
        htl: u16,
        key: Key,
    ) {
        let htl = htl.min(self.config.max_htl);
        let left = htl.saturating_sub(1);
        let its = self.pending.values().filter(|pending| pending.asker == Asker::Peer(from)).count();
        let full = self.pending.len() >= self.config.pending || its >= self.config.pending.div_ceil(4);
        let limited = !self.may(cx, from) || full;
        if limited {
            self.tally.limited += 1;
            return cx.send(from, FreenetMsg::Failed { id, htl: left });
        }
        if !self.seen.insert(id, ()) {
            self.tally.circles += 1;
            return cx.send(from, FreenetMsg::Failed { id, htl: left });
        }
        if let Some(block) = self.store.get(&key).cloned() {
            self.tally.served += 1;
            return cx.send(from, FreenetMsg::Data { id, source: self.me, block });
        }
        let past_last = htl == 1 && cx.rng().chance(self.config.past_last);
        let left = if past_last { 1 } else { left };
        self.await_answer(id, what, key, Asker::Peer(from));
        match (left, what) {
            (0, What::Request) => self.fail(cx, id, 0),
            (0, What::Insert) => self.accept(cx, id),
            _ => {
                self.go_on(cx, id, left);
                if self.pending.get(&id).is_some_and(|pending| pending.stage == Stage::Asked) {
                    cx.send(from, FreenetMsg::Working { id });
                }
            }
        }
    }

    /// Whether a neighbour may send one more.
    fn may(&mut self, cx: &mut Cx<'_, Self>, from: P) -> bool {
        let rate = self.config.requests;
        self.neighbours.get_mut(&from).is_some_and(|bucket| bucket.take(cx.now(), rate))
    }

    /// Whether somebody has said something, or is one of those through whom this node has joined: more than hearsay.
    fn knows(&self, peer: &P) -> bool {
        self.neighbours.get(peer).is_some() || self.seeds.contains(peer)
    }

    fn await_answer(&mut self, id: u64, what: What, key: Key, asker: Asker<P>) {
        let (stage, tried) = (Stage::Asked, BTreeSet::new());
        self.pending.insert(id, Pending { what, key, asker, stage, next: None, htl: 0, tried });
    }

    /// Begins a request or insert of a user; its number.
    pub(super) fn begin(&mut self, cx: &mut Cx<'_, Self>, op: OpId, what: What, key: Key, htl: u16) {
        let id = cx.rng().next_u64();
        self.seen.insert(id, ());
        if let Some(user) = self.users.get_mut(&op) {
            user.id = id;
        }
        self.await_answer(id, what, key, Asker::User(op));
        self.go_on(cx, id, htl.clamp(1, self.config.max_htl));
    }

    /// The next best node is asked, with so many hops to live; if there is none, who has asked tries another.
    fn go_on(&mut self, cx: &mut Cx<'_, Self>, id: u64, htl: u16) {
        if self.routes.len() == 0 {
            self.seeds.iter().for_each(|seed| self.routes.insert(seed.key(), *seed, true));
        }
        let Some(pending) = self.pending.get_mut(&id) else { return };
        let asker = pending.asker;
        let mut dial = |peer: P| {
            let known = self.neighbours.get(&peer).is_some() || self.seeds.contains(&peer);
            known || self.hearsay.take(cx.now(), self.config.hearsay)
        };
        let next = (htl > 0).then(|| {
            self.routes.nearest(pending.key).find(|(_, peer)| {
                let other = *peer != self.me && asker != Asker::Peer(*peer);
                other && !pending.tried.contains(peer) && dial(*peer)
            })
        });
        let Some((key, peer)) = next.flatten() else {
            // An insert at its last hop that nobody else can take ends here.
            let last = pending.what == What::Insert && htl == 1 && pending.tried.is_empty();
            return match last && matches!(asker, Asker::Peer(_)) {
                true => self.accept(cx, id),
                false => self.fail(cx, id, htl),
            };
        };
        pending.tried.insert(peer);
        (pending.next, pending.htl, pending.stage) = (Some(peer), htl, Stage::Asked);
        let msg = match pending.what {
            What::Request => FreenetMsg::Request { id, htl, key: pending.key },
            What::Insert => FreenetMsg::Insert { id, htl, key: pending.key },
        };
        self.routes.touch(&key);
        self.tally.sent += 1;
        self.charge(&msg);
        cx.send(peer, msg);
        cx.set_timer(self.config.hop, FreenetTimer::Pending(id));
    }

    /// It does not go on from here.
    fn fail(&mut self, cx: &mut Cx<'_, Self>, id: u64, htl: u16) {
        let Some(pending) = self.end(cx, id) else { return };
        match pending.asker {
            Asker::Peer(peer) => cx.send(peer, FreenetMsg::Failed { id, htl }),
            Asker::User(op) => self.user_failed(cx, op),
        }
    }

    pub(super) fn end(&mut self, cx: &mut Cx<'_, Self>, id: u64) -> Option<Pending<P>> {
        cx.clear_timer(FreenetTimer::Pending(id));
        self.pending.remove(&id)
    }

    /// The request that an answer is about, if it comes from who was asked.
    fn answered(&mut self, id: u64, from: P) -> Option<&mut Pending<P>> {
        let pending = self.pending.get_mut(&id)?;
        let waits = matches!(pending.stage, Stage::Asked | Stage::Working);
        (pending.next == Some(from) && waits).then_some(pending)
    }

    pub(super) fn on_working(&mut self, cx: &mut Cx<'_, Self>, from: P, id: u64) {
        let hop = self.config.hop;
        let Some(pending) = self.answered(id, from) else { return };
        if pending.stage == Stage::Asked {
            pending.stage = Stage::Working;
            cx.set_timer(hop * (u32::from(pending.htl) + 1), FreenetTimer::Pending(id));
        }
    }

    pub(super) fn on_failed(&mut self, cx: &mut Cx<'_, Self>, from: P, id: u64, htl: u16) {
        let Some(pending) = self.answered(id, from) else { return };
        // Going there has cost a hop, whatever it says.
        let left = htl.min(pending.htl - 1);
        if left == 0 { self.fail(cx, id, 0) } else { self.go_on(cx, id, left) }
    }

    /// Who was asked has said nothing for too long.
    pub(super) fn on_silence(&mut self, cx: &mut Cx<'_, Self>, id: u64) {
        let Some(pending) = self.pending.get(&id) else { return };
        match (pending.stage, pending.next) {
            (Stage::Asked, Some(peer)) => {
                self.tally.silent += 1;
                self.routes.forget(peer);
                self.lead_elsewhere(cx, id);
            }
            // It has passed the request on, and the hops are used up somewhere.
            (Stage::Working, _) => self.fail(cx, id, 0),
            (Stage::Asked, None) | (Stage::Accepted, _) => drop(self.end(cx, id)),
            (Stage::Sent, _) => self.insert_over(cx, id, false),
        }
    }

    /// The next node was of no use, and has cost one hop.
    fn lead_elsewhere(&mut self, cx: &mut Cx<'_, Self>, id: u64) {
        let Some(left) = self.pending.get(&id).map(|pending| pending.htl - 1) else { return };
        if left == 0 { self.fail(cx, id, 0) } else { self.go_on(cx, id, left) }
    }

    /// The connection to somebody is gone: what waits for its answer goes elsewhere.
    pub(super) fn lost(&mut self, cx: &mut Cx<'_, Self>, peer: P) {
        self.routes.forget(peer);
        let waits = |pending: &Pending<P>| pending.next == Some(peer) && pending.stage != Stage::Accepted;
        let lost = self.pending.iter().filter(|(_, pending)| waits(pending));
        let lost: Vec<(u64, Stage)> = lost.map(|(id, pending)| (*id, pending.stage)).collect();
        for (id, stage) in lost {
            self.tally.silent += 1;
            match stage {
                Stage::Sent => self.insert_over(cx, id, false),
                Stage::Asked | Stage::Working | Stage::Accepted => self.lead_elsewhere(cx, id),
            }
        }
    }

    pub(super) fn on_data(
        &mut self,
        cx: &mut Cx<'_, Self>,
        from: P,
        id: u64,
        source: P,
        block: FreenetBlock,
    ) {
        let Some(key) = self.answered(id, from).map(|pending| pending.key) else { return };
        if !block.belongs(&key) {
            self.tally.forged += 1;
            self.routes.forget(from);
            return self.lead_elsewhere(cx, id);
        }
        let Some(pending) = self.end(cx, id) else { return };
        let source = self.keep(cx, key, source, &block);
        match pending.asker {
            Asker::Peer(peer) => cx.send(peer, FreenetMsg::Data { id, source, block }),
            Asker::User(op) => self.user_found(cx, op, &block),
        }
    }

    /// Keeps a block and who has it (§3.2); who is said to have it from now on.
    fn keep(&mut self, cx: &mut Cx<'_, Self>, key: Key, source: P, block: &FreenetBlock) -> P {
        self.store.insert(key, block.clone());
        if source != self.me {
            let heard = self.knows(&source);
            self.routes.insert(key, source, heard);
        }
        if cx.rng().chance(self.config.claims) { self.me } else { source }
    }

    /// An insert has gone as far as it should, and nothing was there.
    fn accept(&mut self, cx: &mut Cx<'_, Self>, id: u64) {
        let wait = self.config.hop * (u32::from(self.config.max_htl) + 1);
        let Some(pending) = self.pending.get_mut(&id) else { return };
        pending.stage = Stage::Accepted;
        match pending.asker {
            Asker::Peer(peer) => {
                cx.send(peer, FreenetMsg::Accept { id });
                cx.set_timer(wait, FreenetTimer::Pending(id));
            }
            Asker::User(op) => {
                let next = pending.next;
                let Some(block) = self.user_inserts(op) else { return drop(self.end(cx, id)) };
                self.send_on(cx, id, next, self.me, block);
            }
        }
    }

    pub(super) fn on_accept(&mut self, cx: &mut Cx<'_, Self>, from: P, id: u64) {
        if self.answered(id, from).is_some_and(|pending| pending.what == What::Insert) {
            self.accept(cx, id);
        }
    }

    pub(super) fn on_send(
        &mut self,
        cx: &mut Cx<'_, Self>,
        from: P,
        id: u64,
        source: P,
        block: FreenetBlock,
    ) {
        let Some(pending) = self.pending.get(&id) else { return };
        if pending.asker != Asker::Peer(from) || pending.stage != Stage::Accepted {
            return;
        }
        let (key, next) = (pending.key, pending.next);
        if !block.belongs(&key) {
            self.end(cx, id);
            self.tally.forged += 1;
            return;
        }
        let source = self.keep(cx, key, source, &block);
        self.send_on(cx, id, next, source, block);
    }

    /// Sends a block that is inserted on its way, and waits until it has come to its end.
    fn send_on(&mut self, cx: &mut Cx<'_, Self>, id: u64, next: Option<P>, source: P, block: FreenetBlock) {
        let (Some(pending), Some(next)) = (self.pending.get_mut(&id), next) else {
            return self.insert_over(cx, id, true);
        };
        pending.stage = Stage::Sent;
        cx.set_timer(self.config.hop * (u32::from(pending.htl) + 1), FreenetTimer::Pending(id));
        cx.send(next, FreenetMsg::Send { id, source, block });
    }

    /// Those behind keep the block.
    pub(super) fn on_stored(&mut self, cx: &mut Cx<'_, Self>, from: P, id: u64) {
        let sent = |pending: &Pending<P>| pending.next == Some(from) && pending.stage == Stage::Sent;
        if self.pending.get(&id).is_some_and(sent) {
            self.insert_over(cx, id, true);
        }
    }

    /// An insert is over. Who has had the block to pass on keeps it, whatever has become of those behind; whose user has
    /// begun it knows of nobody then.
    fn insert_over(&mut self, cx: &mut Cx<'_, Self>, id: u64, by_others: bool) {
        let Some(pending) = self.end(cx, id) else { return };
        match pending.asker {
            Asker::Peer(peer) => cx.send(peer, FreenetMsg::Stored { id }),
            Asker::User(op) => self.user_stored(cx, op, by_others),
        }
    }

    /// Notes a newcomer, and tells somebody at random. Nobody is dialled for it but whom this node knows.
    pub(super) fn on_announce(&mut self, cx: &mut Cx<'_, Self>, from: P, node: P, htl: u16) {
        if !self.may(cx, from) || node == self.me {
            self.tally.limited += u64::from(node != self.me);
            return;
        }
        let heard = self.knows(&node);
        self.routes.insert(node.key(), node, heard);
        let htl = htl.min(self.config.announce).saturating_sub(1);
        if htl > 0 {
            let others = self.routes.iter().map(|(_, peer)| peer);
            let others: Vec<P> = others
                .filter(|peer| ![from, node, self.me].contains(peer))
                .filter(|peer| self.knows(peer))
                .collect();
            if let Some(next) = cx.rng().choose(&others) {
                cx.send(*next, FreenetMsg::Announce { node, htl });
            }
        }
    }

    /// Counts a message of a user's request, sent or received.
    pub(super) fn charge(&mut self, msg: &FreenetMsg<P>) {
        let pending = msg.id().and_then(|id| self.pending.get(&id));
        if let Some(Asker::User(op)) = pending.map(|pending| pending.asker)
            && let Some(user) = self.users.get_mut(&op)
        {
            user.charge(msg);
        }
    }
}
