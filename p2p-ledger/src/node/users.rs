//! What this node's users ask goes to the keeper, and its answers back to them.

use p2p_core::{Cx, JobError, OpId};
use p2p_overlay::Membership;

use super::job::{LedgerDone, LedgerJob};
use super::request::{LedgerCommand, LedgerOutcome};
use super::{Asked, JobFor, LedgerNode, now};
use crate::consensus::Consensus;
use crate::ledger::LedgerError;
use crate::state::State;

impl<M: Membership, C: Consensus, S: State> LedgerNode<M, C, S> {
    /// A job is done that was for a user.
    pub(super) fn answered(&mut self, cx: &mut Cx<'_, Self>, op: OpId, asked: Asked, done: LedgerDone<C, S>) {
        let failed = |why: JobError| LedgerError::Job(why);
        let outcome = match (asked, done) {
            (Asked::Submit, LedgerDone::Submitted(result, admitted)) => {
                self.announce_transactions(cx, admitted, None);
                LedgerOutcome::Submitted(result)
            }
            (Asked::Submit, LedgerDone::Failed(why)) => LedgerOutcome::Submitted(Err(failed(why))),
            (Asked::Status, LedgerDone::Standing(standing)) => LedgerOutcome::Status(Ok(standing)),
            (Asked::Status, LedgerDone::Failed(why)) => LedgerOutcome::Status(Err(failed(why))),
            (Asked::Block, LedgerDone::ReadAt(result)) => LedgerOutcome::Block(result),
            (Asked::Block, LedgerDone::Failed(why)) => LedgerOutcome::Block(Err(failed(why))),
            (Asked::Header, LedgerDone::HeaderAt(header)) => LedgerOutcome::Header(Ok(header)),
            (Asked::Header, LedgerDone::Failed(why)) => LedgerOutcome::Header(Err(failed(why))),
            (Asked::Inspect, LedgerDone::Nothing) => LedgerOutcome::Inspected(Ok(())),
            (Asked::Inspect, LedgerDone::Failed(why)) => LedgerOutcome::Inspected(Err(failed(why))),
            (Asked::Template, LedgerDone::Template(result)) => LedgerOutcome::Template(result),
            (Asked::Template, LedgerDone::Failed(why)) => LedgerOutcome::Template(Err(failed(why))),
            (Asked::Mined, LedgerDone::Block(done)) => LedgerOutcome::Mined(self.mined(cx, *done)),
            (Asked::Mined, LedgerDone::Failed(why)) => LedgerOutcome::Mined(Err(failed(why))),
            // A keeper that answers another question than it was asked.
            (..) => return,
        };
        cx.finish(op, outcome);
    }

    pub(super) fn run(&mut self, cx: &mut Cx<'_, Self>, op: OpId, command: LedgerCommand<C, S>) {
        let time = now(cx);
        let (job, asked) = match command {
            LedgerCommand::Submit(transaction) => {
                (LedgerJob::Submit { transaction, now: time }, Asked::Submit)
            }
            LedgerCommand::Status => (LedgerJob::Stand { now: time }, Asked::Status),
            LedgerCommand::BlockAt(height) => (LedgerJob::ReadAt { height }, Asked::Block),
            LedgerCommand::HeaderAt(height) => (LedgerJob::HeaderAt { height }, Asked::Header),
            LedgerCommand::Inspect(look) => (LedgerJob::Inspect(look), Asked::Inspect),
            LedgerCommand::Template(to) => (LedgerJob::Template { to, now: time }, Asked::Template),
            LedgerCommand::Mined(block) => (LedgerJob::Mined { block, now: time }, Asked::Mined),
        };
        self.start(cx, job, JobFor::User(op, asked));
    }
}
