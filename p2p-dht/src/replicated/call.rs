//! A call that its user wants to know more about: see [`With`](crate::With).
//!
//! Puts and gets go their way as ever. Beside them it is written down whom they ask and what comes of it; when one ends,
//! its outcome goes out with that. It may end early, by the quorum or the deadline that the user has set.

use std::time::Duration;

use p2p_core::{Cx, NoJob, OpId, Time};
use p2p_overlay::{Looked, Overlay};

use super::{DhtTimer, Replicated};
use crate::client::Client;
use crate::request::{DhtCommand, DhtOutcome, Options, Report, Said};

/// What is known of a call under way. Whom it asks is bounded as for puts and gets.
#[derive(Clone, Debug)]
pub(super) struct Call<P> {
    options: Options,
    began: Time,
    report: Report<P>,
}

impl<O: Overlay<Job = NoJob>> Replicated<O> {
    pub(super) fn begin_call(
        &mut self,
        cx: &mut Cx<'_, Self>,
        op: OpId,
        command: DhtCommand<O::Peer>,
        options: Options,
    ) {
        match &command {
            DhtCommand::Put { .. }
            | DhtCommand::Publish { .. }
            | DhtCommand::Provide { .. }
            | DhtCommand::PutAt { .. }
            | DhtCommand::Remove { .. }
            | DhtCommand::PutCustom { .. }
            | DhtCommand::Get { .. } => {
                let report =
                    Report { peers: Vec::new(), lookups: 0, hops: 0, timeouts: 0, took: Duration::ZERO };
                self.calls.insert(op, Call { options, began: cx.now(), report });
                if let Some(deadline) = options.deadline {
                    cx.set_timer(deadline, DhtTimer::Deadline(op));
                }
            }
            // There is nothing to be told of these.
            DhtCommand::ProvideAll { .. }
            | DhtCommand::Withdraw { .. }
            | DhtCommand::Find { .. }
            | DhtCommand::With { .. } => {}
        }
        self.run(cx, op, command);
    }

    /// Ends a call, with the report if one is wanted.
    pub(super) fn end_call(&mut self, cx: &mut Cx<'_, Self>, op: OpId, outcome: DhtOutcome<O::Peer>) {
        if let Some(sweep) = self.swept.remove(&op) {
            return self.sweep_told(sweep, op, outcome);
        }
        let Some(Call { options, began, report }) = self.calls.remove(&op) else {
            return cx.finish(op, outcome);
        };
        if options.deadline.is_some() {
            cx.clear_timer(DhtTimer::Deadline(op));
        }
        let took = cx.now() - began;
        cx.finish(op, DhtOutcome::Reported(Box::new(outcome), Report { took, ..report }));
    }

    pub(super) fn quorum_of(&self, op: OpId, default: u8) -> usize {
        let asked = self.calls.get(&op).and_then(|call| call.options.quorum);
        asked.unwrap_or(default).clamp(1, self.config.replicas).into()
    }

    /// Who has something put through this node.
    pub(super) fn client_of(&self, op: OpId) -> Option<Client> {
        self.calls.get(&op)?.options.client
    }

    /// How long what is put lasts.
    pub(super) fn lifetime_of(&self, op: OpId) -> Duration {
        self.client_of(op).map_or(self.config.lifetime, |client| client.lifetime)
    }

    /// Whether the user wants to hear as soon as a quorum there is.
    pub(super) fn ends_early(&self, op: OpId) -> bool {
        self.calls.get(&op).is_some_and(|call| call.options.quorum.is_some())
    }

    pub(super) fn note_lookups(&mut self, op: OpId, count: usize) {
        if let Some(call) = self.calls.get_mut(&op) {
            call.report.lookups += count as u32;
        }
    }

    pub(super) fn note_looked(&mut self, op: OpId, looked: &Looked<O::Peer>) {
        if let (Some(call), Ok(found)) = (self.calls.get_mut(&op), looked) {
            call.report.hops = call.report.hops.max(found.hops);
            call.report.timeouts = call.report.timeouts.saturating_add(found.timeouts);
        }
    }

    pub(super) fn note_asked(&mut self, op: OpId, peer: O::Peer) {
        if let Some(call) = self.calls.get_mut(&op) {
            call.report.peers.push((peer, Said::Nothing));
        }
    }

    pub(super) fn note_said(&mut self, op: OpId, peer: O::Peer, said: Said) {
        let Some(call) = self.calls.get_mut(&op) else { return };
        if let Some((_, nothing)) = call.report.peers.iter_mut().rev().find(|(asked, _)| *asked == peer) {
            *nothing = said;
        }
    }
}
