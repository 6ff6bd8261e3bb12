//! Blocks: asked for, put together, taken in, announced and served.

use std::sync::Arc;

use bytes::Bytes;
use p2p_core::Cx;
use p2p_overlay::Membership;

use super::bodies::MOST_OF_ONE;
use super::job::{BlockDone, Form, LedgerJob, PartOf, Progress, Read, Refusal};
use super::msg::LedgerMsg;
use super::{JobFor, LedgerEvent, LedgerNode, MOST_HELD, MOST_JOBS, WINDOW_BYTES, now};
use crate::block::MAX_TRANSACTIONS;
use crate::consensus::Consensus;
use crate::headers::Tip;
use crate::id::BlockId;
use crate::ledger::{Change, LedgerError};
use crate::light::LightMsg;
use crate::state::State;

impl<M: Membership, C: Consensus, S: State> LedgerNode<M, C, S> {
    // ---- asking

    /// Asks for bodies, as far as windows allow.
    pub(super) fn fetch(&mut self, cx: &mut Cx<'_, Self>) {
        let (at, timeout) = (cx.now(), self.config.block_timeout);
        let Some(standing) = &self.standing else { return };
        let next = standing.tip.height + 1;
        let window = (WINDOW_BYTES / standing.block_bytes.max(1)).clamp(1, self.config.window);
        let peers = &mut self.peers;
        while let Some(question) = self.bodies.next(at, timeout, window, |peer| peers.contains_key(&peer)) {
            // Of old blocks nothing waits in the pool.
            let compact = question.height == next && !question.whole;
            if let Some(state) = peers.get_mut(&question.of) {
                state.compacts += usize::from(compact);
            }
            cx.send(question.of, LedgerMsg::GetBlock { id: question.id, compact });
        }
    }

    /// Looks for bodies that are wanted, if there may be more of them.
    pub(super) fn look_for_more(&mut self, cx: &mut Cx<'_, Self>) {
        let Some(tip) = self.standing.as_ref().map(|standing| standing.tip) else { return };
        let better = |best: Tip| best.work > tip.work;
        let ends: Vec<(M::Peer, BlockId)> = self
            .peers
            .iter()
            .filter(|(peer, state)| !state.looking && self.bodies.is_low(**peer))
            .filter_map(|(peer, state)| Some((*peer, state.best.filter(|best| better(*best))?.id)))
            .collect();
        for (from, end) in ends {
            let job = LedgerJob::Wanted { end, most: MOST_OF_ONE };
            if self.start_for(cx, from, job, JobFor::Wanted { from })
                && let Some(state) = self.peers.get_mut(&from)
            {
                state.looking = true;
            }
        }
    }

    pub(super) fn wanted_found(&mut self, cx: &mut Cx<'_, Self>, from: M::Peer, wanted: Vec<(u64, BlockId)>) {
        let Some(state) = self.peers.get_mut(&from) else { return };
        state.looking = false;
        self.want(from, wanted);
        self.fetch(cx);
    }

    /// These bodies are wanted, and this neighbour has shown that it has them, unless it keeps none so old.
    pub(super) fn want(&mut self, from: M::Peer, wanted: Vec<(u64, BlockId)>) {
        let pruned = self.peers.get(&from).map_or(0, |state| state.pruned);
        let there = wanted.into_iter().filter(|(height, _)| *height > pruned);
        there.for_each(|(height, id)| self.bodies.want(height, id, from));
    }

    /// A neighbour keeps no bodies up to a height.
    pub(super) fn on_pruned(&mut self, cx: &mut Cx<'_, Self>, from: M::Peer, height: u64) {
        if let Some(state) = self.peers.get_mut(&from) {
            state.pruned = height;
        }
        self.bodies.take_back(from, height);
        self.fetch(cx);
    }

    // ---- what comes

    pub(super) fn on_block(&mut self, cx: &mut Cx<'_, Self>, from: M::Peer, id: BlockId, block: Bytes) {
        if !self.bodies.may_come(&id, from) {
            // Another was faster.
            return self.annoy(cx, from, 2);
        }
        if let Some(state) = self.peers.get_mut(&from) {
            state.partial = state.partial.take().filter(|(partial, _)| partial.id() != id);
        }
        let is_asked = self.bodies.is_asked(&id, from);
        if block.is_empty() {
            if is_asked {
                self.bodies.again(&id, false);
            }
            self.annoy(cx, from, 5);
            return self.fetch(cx);
        }
        let job = LedgerJob::Accept { id, block, now: now(cx) };
        match self.start_for(cx, from, job, JobFor::Accept { from, id }) {
            true => self.bodies.came(&id, from),
            false if is_asked => self.bodies.again(&id, true),
            false => {}
        }
    }

    pub(super) fn on_compact(&mut self, cx: &mut Cx<'_, Self>, from: M::Peer, compact: Bytes) {
        let Some(state) = self.peers.get_mut(&from) else { return };
        let was_asked = state.compacts > 0;
        state.compacts = state.compacts.saturating_sub(1);
        if !was_asked && !self.pushers.contains(&from) {
            // It may not have heard yet that it need not any more.
            return self.annoy(cx, from, 2);
        }
        let job = LedgerJob::Compact { compact, now: now(cx) };
        self.start_for(cx, from, job, JobFor::Compact { from });
    }

    /// A compact block lacks transactions.
    pub(super) fn lacks(&mut self, cx: &mut Cx<'_, Self>, from: M::Peer, partial: Box<PartOf<C, S>>) {
        let id = partial.id();
        let until = self.bodies.until(from, cx.now(), self.config.block_timeout);
        let height = self.standing.as_ref().map_or(0, |standing| standing.tip.height + 1);
        let Some(state) = self.peers.get_mut(&from) else { return };
        self.bodies.want(height, id, from);
        // It may come twice, asked for and unasked, or another at once. But each time all that waits is gone through for it.
        let open = state.partial.as_ref().map(|(open, _)| open.id());
        if open == Some(id) {
            // The answer that is on its way is to what lacks there.
            return self.annoy(cx, from, 5);
        }
        // Whoever else was asked may keep it for himself.
        if !self.bodies.may_come(&id, from) {
            return self.annoy(cx, from, 2);
        }
        let at = partial.missing();
        if let Some((before, _)) = state.partial.replace((partial, until))
            && before.id() != id
        {
            self.bodies.again(&before.id(), true);
        }
        self.bodies.ask(&id, from, until);
        cx.send(from, LedgerMsg::GetMissing { id, at });
        if open.is_some() {
            self.annoy(cx, from, 5);
        }
    }

    pub(super) fn on_missing(
        &mut self,
        cx: &mut Cx<'_, Self>,
        from: M::Peer,
        id: BlockId,
        transactions: Bytes,
    ) {
        let Some(state) = self.peers.get_mut(&from) else { return };
        let Some((partial, until)) = state.partial.take() else { return };
        if partial.id() != id {
            state.partial = Some((partial, until));
            return;
        }
        let job = LedgerJob::Complete { partial, transactions, now: now(cx) };
        match self.start_for(cx, from, job, JobFor::Complete { from, id }) {
            true => self.bodies.came(&id, from),
            false if self.bodies.is_asked(&id, from) => self.bodies.again(&id, true),
            false => {}
        }
    }

    /// The keeper has looked at a block that a peer has sent, whole or in parts.
    pub(super) fn block_done(
        &mut self,
        cx: &mut Cx<'_, Self>,
        from: M::Peer,
        id: Option<BlockId>,
        done: BlockDone,
        in_parts: bool,
    ) {
        if let (Some(place), Some(state)) = (done.place, self.peers.get_mut(&from))
            && state.best.is_none_or(|best| place.work >= best.work)
        {
            state.best = Some(place);
        }
        let refused = done.refused.clone();
        self.take_in(cx, Some(from), done);
        // Short names that collide are nobody's fault. The whole block shows what the truth is.
        let collided = in_parts && matches!(refused, Some(Refusal::Mutated));
        if !collided {
            id.iter().for_each(|id| self.bodies.done(id));
        }
        match refused {
            None | Some(Refusal::Later) => {}
            Some(Refusal::Misbehaved(why)) => {
                // Somebody else may have it, if it is wanted still.
                self.ban(cx, from, &why);
                self.look_for_more(cx);
            }
            Some(Refusal::Mutated) if collided => {
                let height = self.standing.as_ref().map_or(0, |standing| standing.tip.height + 1);
                if let Some(id) = id {
                    self.bodies.want(height, id, from);
                    // Another may have been asked meanwhile.
                    if self.bodies.is_free_for(&id, from) {
                        self.bodies.ask(&id, from, cx.now());
                        self.bodies.again(&id, true);
                    }
                }
                self.annoy(cx, from, 10);
            }
            Some(Refusal::Mutated) => {
                self.ban(cx, from, "a body that is not its header's");
                self.look_for_more(cx);
            }
            Some(Refusal::Unconnected) => self.ask_headers(cx, from, None),
            Some(Refusal::LowWork) => self.annoy(cx, from, 10),
        }
        self.fetch(cx);
    }

    /// What a user has mined.
    pub(super) fn mined(&mut self, cx: &mut Cx<'_, Self>, done: BlockDone) -> Result<Tip, LedgerError> {
        let invalid = done.invalid.first().map(|(_, why)| why.clone());
        let refused = done.refused.as_ref().map(|refused| match refused {
            Refusal::Misbehaved(why) => why.clone(),
            Refusal::LowWork => "its chain has too little work".into(),
            Refusal::Unconnected => "the block before it is not known".into(),
            Refusal::Mutated => "its header does not commit to its body".into(),
            Refusal::Later => {
                "it has less work than the tip, its time is too far ahead, or the storage failed".into()
            }
        });
        self.take_in(cx, None, done);
        match (invalid.or(refused), self.tip()) {
            (None, Some(tip)) => Ok(tip),
            (why, _) => Err(LedgerError::Block(why.unwrap_or_default())),
        }
    }

    /// What has become of the chain by a block.
    fn take_in(&mut self, cx: &mut Cx<'_, Self>, from: Option<M::Peer>, done: BlockDone) {
        if let Some(why) = done.failure {
            cx.emit(LedgerEvent::Failed(Arc::from(why)));
        }
        if !done.invalid.is_empty() {
            self.bodies.forget_idle();
        }
        for (id, why) in done.invalid {
            if let Some(giver) = self.bodies.settle(&id).or(from.filter(|_| done.id == Some(id))) {
                self.ban(cx, giver, &format!("a block that is invalid: {why}"));
            }
        }
        if let Some(progress) = done.progress {
            if let Some(from) = from {
                self.was_first(cx, from);
            }
            self.progress(cx, progress);
        }
        self.announce_transactions(cx, done.admitted, from);
    }

    fn progress(&mut self, cx: &mut Cx<'_, Self>, progress: Progress) {
        let Progress { standing, fork, disconnected, connected, compact, headers } = progress;
        let tip = standing.tip;
        self.stands_at(cx, standing);
        for id in &connected {
            self.bodies.settle(id);
        }
        self.inventory.chain_has_changed();
        for (name, state) in &mut self.peers {
            if state.best.is_some_and(|best| best.work >= tip.work) {
                continue;
            }
            let knows_all_before = connected.len() == 1 && state.has(&fork);
            let msg = match knows_all_before && state.wants_push && !compact.is_empty() {
                true => LedgerMsg::Compact(compact.clone()),
                false => LedgerMsg::Headers { answers: None, headers: headers.clone() },
            };
            state.told = Some(tip.id);
            cx.send(*name, msg);
        }
        for client in self.clients.told(cx.now()) {
            cx.send(client, LedgerMsg::Light(LightMsg::New(headers.clone())));
        }
        cx.emit(LedgerEvent::Changed(Arc::new(Change { tip, disconnected, connected })));
        self.look_for_more(cx);
    }

    /// A neighbour was first with a block: it may be so with the next.
    fn was_first(&mut self, cx: &mut Cx<'_, Self>, peer: M::Peer) {
        let Some(at) = self.pushers.iter().position(|pusher| *pusher == peer) else {
            if !self.peers.contains_key(&peer) || self.config.pushers == 0 {
                return;
            }
            if self.pushers.len() >= self.config.pushers {
                cx.send(self.pushers.remove(0), LedgerMsg::Push(false));
            }
            self.pushers.push(peer);
            return cx.send(peer, LedgerMsg::Push(true));
        };
        let peer = self.pushers.remove(at);
        self.pushers.push(peer);
    }

    // ---- what others ask

    pub(super) fn on_push(&mut self, from: M::Peer, wanted: bool) {
        if let Some(state) = self.peers.get_mut(&from) {
            state.wants_push = wanted;
        }
    }

    pub(super) fn on_get_block(&mut self, cx: &mut Cx<'_, Self>, from: M::Peer, id: BlockId, compact: bool) {
        let form = if compact { Form::Compact } else { Form::Whole };
        self.read_for(cx, from, id, form);
    }

    pub(super) fn on_get_missing(&mut self, cx: &mut Cx<'_, Self>, from: M::Peer, id: BlockId, at: Vec<u32>) {
        if at.len() > MAX_TRANSACTIONS || !at.windows(2).all(|two| two[0] < two[1]) {
            return self.ban(cx, from, "it asks for transactions out of order, or for one twice");
        }
        self.read_for(cx, from, id, Form::Some(at));
    }

    /// Reads for a neighbour, one block after the other: of more at once there is not room on its link.
    fn read_for(&mut self, cx: &mut Cx<'_, Self>, from: M::Peer, id: BlockId, form: Form) {
        if !self.is_read_for(from) {
            self.start_for(cx, from, LedgerJob::Read { id, form }, JobFor::Read { from, id });
            return;
        }
        let (jobs, held) = self.burden(from);
        if let Some(state) = self.peers.get_mut(&from)
            && jobs + state.reads.len() < MOST_JOBS
            && held + form.bytes() <= MOST_HELD
        {
            state.reads.push_back((id, form));
        }
    }

    /// What it has asked for next.
    pub(super) fn read_next(&mut self, cx: &mut Cx<'_, Self>, from: M::Peer) {
        while !self.is_read_for(from)
            && let Some((id, form)) = self.peers.get_mut(&from).and_then(|state| state.reads.pop_front())
        {
            self.read_for(cx, from, id, form);
        }
    }

    pub(super) fn send_read(&mut self, cx: &mut Cx<'_, Self>, from: M::Peer, id: BlockId, read: Read) {
        match read {
            Read::Whole(block) => cx.send(from, LedgerMsg::Block { id, block }),
            Read::Compact(compact) => cx.send(from, LedgerMsg::Compact(compact)),
            Read::Some(transactions) => cx.send(from, LedgerMsg::Missing { id, transactions }),
            Read::Pruned(height) => cx.send(from, LedgerMsg::Pruned(height)),
            Read::OutOfRange => self.ban(cx, from, "it asks for transactions that the block has not"),
        }
    }
}
