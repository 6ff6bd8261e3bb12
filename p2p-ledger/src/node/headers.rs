//! Headers: who shows which chain.

use bytes::Bytes;
use p2p_core::Cx;
use p2p_overlay::Membership;
use std::time::Duration;

use super::job::{HeadersDone, LedgerJob, Refusal};
use super::msg::{LedgerMsg, MAX_ANNOUNCED, MAX_HEADERS, MAX_LOCATOR};
use super::{JobFor, LedgerNode, now};
use crate::consensus::Consensus;
use crate::headers::SyncStep;
use crate::id::BlockId;
use crate::state::State;

/// How long a chain with too little work is left alone.
const POOR: Duration = Duration::from_secs(600);
/// How long one neighbour's headers are followed while another waits. Whenever that was too short the next turn is twice as long,
/// up to a bound, so that a slow link gets there too.
pub(super) const TURN: Duration = Duration::from_secs(600);
const MOST_TURN: Duration = TURN.saturating_mul(32);

impl<M: Membership, C: Consensus, S: State> LedgerNode<M, C, S> {
    /// Asks a neighbour for the headers after what is known here, or after this one.
    pub(super) fn ask_headers(&mut self, cx: &mut Cx<'_, Self>, peer: M::Peer, after: Option<BlockId>) {
        let until = cx.now() + self.config.headers_timeout;
        let is_followed = self.is_followed(peer);
        let Some(standing) = &self.standing else { return };
        let Some(state) = self.peers.get_mut(&peer) else { return };
        // While a peer's headers are followed by themselves, only what is asked for that is answered.
        if state.asked.is_some() || (after.is_none() && is_followed) {
            state.again = true;
            return;
        }
        self.questions = self.questions.wrapping_add(1);
        state.asked = Some((self.questions, until));
        let locator = after.map_or_else(|| standing.locator.clone(), |after| vec![after]);
        cx.send(peer, LedgerMsg::GetHeaders { id: self.questions, locator });
    }

    pub(super) fn on_get_headers(
        &mut self,
        cx: &mut Cx<'_, Self>,
        from: M::Peer,
        question: u32,
        locator: Vec<BlockId>,
    ) {
        if locator.len() > MAX_LOCATOR {
            return self.ban(cx, from, "it names more blocks than it takes to find where chains part");
        }
        self.start_for(cx, from, LedgerJob::After { locator }, JobFor::After { from, question });
    }

    pub(super) fn on_headers(
        &mut self,
        cx: &mut Cx<'_, Self>,
        from: M::Peer,
        answers: Option<u32>,
        headers: Bytes,
    ) {
        let Some(state) = self.peers.get_mut(&from) else { return };
        let answered = answers.is_some();
        if answered {
            match state.asked {
                Some((question, _)) if answers == Some(question) => (state.asked, state.silent) = (None, 0),
                // Too late.
                _ => return,
            }
        }
        let now = now(cx);
        if answered && self.is_followed(from) {
            if !self.start_for(
                cx,
                from,
                LedgerJob::Sync { begin: false, headers, now },
                JobFor::Sync { from },
            ) {
                self.end_sync(cx);
            }
            return;
        }
        let what = JobFor::Headers { from, answered, headers: headers.clone() };
        self.start_for(cx, from, LedgerJob::Headers { headers, now }, what);
    }

    pub(super) fn headers_done(
        &mut self,
        cx: &mut Cx<'_, Self>,
        from: M::Peer,
        answered: bool,
        headers: Bytes,
        done: HeadersDone,
    ) {
        self.stands_at(cx, done.standing);
        if let Some(Refusal::Misbehaved(why)) = &done.refused {
            return self.ban(cx, from, why);
        }
        if !answered && done.count > MAX_ANNOUNCED {
            return self.ban(cx, from, "it announces more headers at once than may be");
        }
        let Some(state) = self.peers.get_mut(&from) else { return };
        if let Some(shown) = done.shown.filter(|shown| state.best.is_none_or(|best| shown.work >= best.work))
        {
            state.best = Some(shown);
        }
        self.want(from, done.wanted);
        let Some(state) = self.peers.get_mut(&from) else { return };
        let there_are_more = answered && done.count == MAX_HEADERS;
        match done.refused {
            None if there_are_more => self.ask_headers(cx, from, done.shown.map(|shown| shown.id)),
            None if std::mem::take(&mut state.again) => self.ask_headers(cx, from, None),
            Some(Refusal::Unconnected) if !answered => self.ask_headers(cx, from, None),
            Some(Refusal::LowWork) if there_are_more => self.begin_sync(cx, from, headers),
            Some(Refusal::Unconnected) => self.annoy(cx, from, 20),
            Some(Refusal::LowWork) if !answered => self.annoy(cx, from, 10),
            None | Some(_) => {}
        }
        self.fetch(cx);
    }

    /// Whether a neighbour's headers are followed by themselves.
    pub(super) fn is_followed(&self, peer: M::Peer) -> bool {
        self.syncing.is_some_and(|(followed, _)| followed == peer)
    }

    /// Follows headers by themselves that are too little work so far.
    fn begin_sync(&mut self, cx: &mut Cx<'_, Self>, from: M::Peer, headers: Bytes) {
        let is_poor = self.peers.get(&from).is_none_or(|state| state.poor_until > cx.now());
        if is_poor || self.syncing.is_some_and(|(_, until)| until > cx.now()) {
            return;
        }
        if let Some((before, _)) = self.syncing {
            self.end_sync(cx);
            self.leave_alone(cx, before);
            self.turn = (2 * self.turn).min(MOST_TURN);
        }
        let job = LedgerJob::Sync { begin: true, headers, now: now(cx) };
        if self.start_for(cx, from, job, JobFor::Sync { from }) {
            self.syncing = Some((from, cx.now() + self.turn));
            if let Some(state) = self.peers.get_mut(&from) {
                // The answer to another question would be taken for its next headers.
                state.asked = None;
            }
        }
    }

    pub(super) fn end_sync(&mut self, cx: &mut Cx<'_, Self>) {
        self.syncing = None;
        self.start(cx, LedgerJob::EndSync, JobFor::EndSync);
    }

    /// A neighbour's headers are not followed again for a while.
    fn leave_alone(&mut self, cx: &Cx<'_, Self>, peer: M::Peer) {
        if let Some(state) = self.peers.get_mut(&peer) {
            state.poor_until = cx.now() + POOR;
        }
    }

    pub(super) fn synced(&mut self, cx: &mut Cx<'_, Self>, from: M::Peer, step: Result<SyncStep, Refusal>) {
        if !self.is_followed(from) {
            return;
        }
        match step {
            Ok(SyncStep::After(id)) => self.ask_headers(cx, from, Some(id)),
            Ok(SyncStep::Done) => {
                (self.syncing, self.turn) = (None, TURN);
                self.ask_headers(cx, from, None);
            }
            Err(refusal) => {
                self.end_sync(cx);
                self.leave_alone(cx, from);
                if let Refusal::Misbehaved(why) = refusal {
                    self.ban(cx, from, &why);
                }
            }
        }
    }
}
