//! What users want of the servers: one question after the other, each to somebody else than before, until it is answered.

use bytes::Bytes;
use p2p_core::{Cx, OpId, Time};
use p2p_overlay::Membership;

use super::servers::What;
use super::{LightAnswer, LightAsk, LightCommand, LightNode, LightOutcome, MAX_FILTERS, Prove, Scan, short};
use crate::codec::{Blob, Decode, Encode, decoded_list};
use crate::consensus::Consensus;
use crate::filter::Filter;
use crate::header::Header;
use crate::id::{BlockId, TxId};
use crate::inclusion::{Inclusion, InclusionOf};
use crate::ledger::{LedgerError, Mark, Scanned};
use crate::state::State;
use crate::transaction::Tx;

/// How many tasks there are, and how many questions of them one server has open.
const MOST: usize = 64;
const MOST_OF_ONE: usize = 2;

/// Something that is wanted.
#[derive(Debug)]
pub(super) struct Task<P> {
    goal: Goal,
    /// The block that was asked for last, or the last of those.
    on: BlockId,
    /// Who was asked in vain; who was told.
    tried: Vec<P>,
    /// How many questions are open.
    open: usize,
    /// Until when something has to come of it.
    until: Time,
}

#[derive(Debug)]
enum Goal {
    Tip(OpId),
    Header(OpId, u64),
    Block(OpId, u64),
    Scan {
        op: OpId,
        scan: Scan,
        /// How far it has come.
        at: Mark,
        /// The block after that may be it.
        found: bool,
    },
    Prove {
        op: OpId,
        prove: Prove,
        /// Somebody says that there is no proof: only the block shows it.
        whole: bool,
    },
    /// It goes on for those who were not told yet, when the user has its answer.
    Submit {
        op: Option<OpId>,
        id: TxId,
        transaction: Bytes,
        refused: Option<String>,
    },
}

impl<P> Task<P> {
    pub(super) fn op(&self) -> Option<OpId> {
        match self.goal {
            Goal::Tip(op)
            | Goal::Header(op, _)
            | Goal::Block(op, _)
            | Goal::Scan { op, .. }
            | Goal::Prove { op, .. } => Some(op),
            Goal::Submit { op, .. } => op,
        }
    }
}

impl<M: Membership, C: Consensus, S: State> LightNode<M, C, S> {
    // ---- from beginning to end

    pub(super) fn begin(&mut self, cx: &mut Cx<'_, Self>, op: OpId, command: LightCommand<M::Peer, S>) {
        let goal = match command {
            LightCommand::Tip => Goal::Tip(op),
            LightCommand::Header(height) => Goal::Header(op, height),
            LightCommand::Block(height) => Goal::Block(op, height),
            LightCommand::Scan(scan) => Goal::Scan { op, at: scan.after, scan, found: false },
            LightCommand::Prove(prove) => Goal::Prove { op, prove, whole: false },
            LightCommand::Submit(transaction) => {
                let (id, transaction) = (transaction.id(), transaction.to_bytes().into());
                Goal::Submit { op: Some(op), id, transaction, refused: None }
            }
            LightCommand::Enlist(peer) => {
                let is_asked = self.enlist(peer);
                self.poll(cx);
                return cx.finish(op, LightOutcome::Enlisted(is_asked));
            }
        };
        if self.tasks.len() >= MOST {
            // Of those that nobody waits for.
            let told = self.tasks.iter().find(|(_, task)| task.op().is_none());
            let told = told.map(|(id, _)| *id);
            told.map(|id| self.tasks.remove(&id));
        }
        match self.tasks.len() < MOST {
            true => {
                let until = cx.now() + self.config.patience;
                self.begun += 1;
                let task = Task { goal, on: BlockId::NONE, tried: Vec::new(), open: 0, until };
                self.tasks.insert(self.begun, task);
            }
            false => fail(cx, goal, LedgerError::Refused(format!("more than {MOST} questions are open"))),
        }
    }

    fn finish(&mut self, cx: &mut Cx<'_, Self>, id: u64, outcome: LightOutcome<C, S>) {
        if let Some(op) = self.tasks.remove(&id).and_then(|task| task.op()) {
            cx.finish(op, outcome);
        }
    }

    fn give_up(&mut self, cx: &mut Cx<'_, Self>, id: u64) {
        let why = match self.live().next() {
            None => "no server answers",
            Some(_) => {
                "no server gives what was asked for, or they do not agree and none gives the block that settles it"
            }
        };
        match self.tasks.remove(&id).map(|task| task.goal) {
            Some(Goal::Submit { op: Some(op), refused: Some(why), .. }) => {
                cx.finish(op, LightOutcome::Submitted(Err(LedgerError::Refused(why))));
            }
            Some(goal) => fail(cx, goal, LedgerError::Remote(why.into())),
            None => {}
        }
    }

    /// Something has come of it.
    fn gets_on(&mut self, cx: &Cx<'_, Self>, id: u64) {
        let until = cx.now() + self.config.patience;
        if let Some(task) = self.tasks.get_mut(&id) {
            (task.until, task.tried) = (until, Vec::new());
        }
    }

    /// Servers show more than was known: what is waited for may yet come.
    pub(super) fn be_patient(&mut self, now: Time) {
        self.tasks.values_mut().for_each(|task| task.until = now + self.config.patience);
    }

    // ---- what is asked next

    /// Asks for what it lacks, or ends it.
    pub(super) fn step(&mut self, cx: &mut Cx<'_, Self>, id: u64) {
        let Some(task) = self.tasks.get(&id) else { return };
        if task.open > 0 && !matches!(task.goal, Goal::Submit { .. }) {
            return;
        }
        if task.open == 0 && task.until <= cx.now() {
            return self.give_up(cx, id);
        }
        if !self.is_ready() {
            return;
        }
        match &task.goal {
            Goal::Tip(_) => {
                let tip = self.tip();
                self.finish(cx, id, LightOutcome::Tip(Ok(tip)));
            }
            Goal::Header(_, height) => {
                let header =
                    self.belief.at(*height).and_then(|(block, _)| self.chain.header(&block).cloned());
                self.finish(cx, id, LightOutcome::Header(Ok(header)));
            }
            Goal::Block(_, height) => {
                let height = *height;
                match self.belief.at(height) {
                    Some((block, _)) if height > 0 => {
                        self.ask_some(cx, id, height, block, LightAsk::Block(block));
                    }
                    _ => self.finish(cx, id, LightOutcome::Block(Ok(None))),
                }
            }
            Goal::Scan { .. } => self.scan_on(cx, id),
            Goal::Prove { prove, whole, .. } => {
                let (Prove { height, transaction }, whole) = (*prove, *whole);
                let Some((block, _)) = self.belief.at(height).filter(|_| height > 0) else {
                    return self.finish(cx, id, LightOutcome::Proved(Ok(None)));
                };
                let ask = if whole { LightAsk::Block(block) } else { LightAsk::Proof { block, transaction } };
                self.ask_some(cx, id, height, block, ask);
            }
            Goal::Submit { transaction, .. } => {
                let transaction = transaction.clone();
                self.tell_all(cx, id, &transaction);
            }
        }
    }

    /// Gives a transaction to those who were not told yet and have not too much open; ends it when all have answered.
    fn tell_all(&mut self, cx: &mut Cx<'_, Self>, id: u64, transaction: &Bytes) {
        let Some(task) = self.tasks.get(&id) else { return };
        let rest = self.live().map(|(peer, _)| peer).filter(|peer| !task.tried.contains(peer));
        let rest: Vec<M::Peer> = rest.collect();
        if rest.is_empty() && task.open == 0 {
            return self.give_up(cx, id);
        }
        for peer in rest.into_iter().filter(|peer| self.has_room(*peer)).collect::<Vec<_>>() {
            if let Some(task) = self.tasks.get_mut(&id) {
                task.tried.push(peer);
                task.open += 1;
            }
            self.ask(cx, peer, LightAsk::Submit(transaction.clone()), What::Task(id));
        }
    }

    /// Whether a server may be asked something more for users.
    fn has_room(&self, peer: M::Peer) -> bool {
        self.open_of(peer, |what| matches!(what, What::Task(_))) < MOST_OF_ONE
    }

    /// Whether a scan can go on from here.
    fn stands(&self, mark: Mark) -> bool {
        mark == Mark::START || self.belief.at(mark.height) == Some((mark.id, mark.filters))
    }

    fn mark(&self, height: u64) -> Mark {
        match self.belief.at(height) {
            Some((id, filters)) if height > 0 => Mark { height, id, filters },
            _ => Mark::START,
        }
    }

    fn scan_on(&mut self, cx: &mut Cx<'_, Self>, id: u64) {
        let Some(Task { goal: Goal::Scan { scan, at, found, .. }, .. }) = self.tasks.get(&id) else { return };
        let (after, nothing) = (scan.after, scan.about.is_empty());
        let (at, found) = if self.stands(*at) { (*at, *found) } else { (after, false) };
        if !self.stands(after) {
            return self.finish(cx, id, LightOutcome::Scanned(Ok(Scanned::Gone)));
        }
        self.set_scan(id, at, found);
        let tip = self.belief.height();
        let Some((next, _)) = self.belief.at(at.height + 1).filter(|_| !nothing) else {
            let end = self.mark(tip);
            return self.finish(cx, id, LightOutcome::Scanned(Ok(Scanned::End(end))));
        };
        if found {
            return self.ask_some(cx, id, at.height + 1, next, LightAsk::Block(next));
        }
        let last = tip.min(at.height + MAX_FILTERS as u64);
        if let Some((to, _)) = self.belief.at(last) {
            self.ask_some(cx, id, last, to, LightAsk::Filters { from: at.height + 1, to });
        }
    }

    fn set_scan(&mut self, id: u64, to: Mark, is_found: bool) {
        if let Some(Task { goal: Goal::Scan { at, found, .. }, .. }) = self.tasks.get_mut(&id) {
            (*at, *found) = (to, is_found);
        }
    }

    /// Asks one of those who have the blocks up to a height, whichever, but nobody twice.
    fn ask_some(&mut self, cx: &mut Cx<'_, Self>, id: u64, height: u64, on: BlockId, ask: LightAsk) {
        let Some(task) = self.tasks.get(&id) else { return };
        let all = self.live().filter(|(_, server)| self.reach(server) >= height).map(|(peer, _)| peer);
        let all: Vec<M::Peer> = all.collect();
        let rest: Vec<M::Peer> = all.iter().copied().filter(|peer| !task.tried.contains(peer)).collect();
        if rest.is_empty() && !all.is_empty() {
            return self.give_up(cx, id);
        }
        let free = rest.into_iter().filter(|peer| self.has_room(*peer) && self.fits(*peer, &ask));
        let Some(peer) = cx.rng().choose(&free.collect::<Vec<_>>()).copied() else { return };
        if let Some(task) = self.tasks.get_mut(&id) {
            (task.open, task.on) = (1, on);
        }
        self.ask(cx, peer, ask, What::Task(id));
    }

    // ---- what comes

    /// What a server has answered; `None`, if it has not.
    pub(super) fn task_answered(
        &mut self,
        cx: &mut Cx<'_, Self>,
        id: u64,
        of: M::Peer,
        answer: Option<LightAnswer>,
    ) {
        let Some(task) = self.tasks.get_mut(&id) else { return };
        task.open -= 1;
        let is_on_chain = self.chain.is_on_chain(&task.on);
        match (&mut task.goal, answer) {
            (Goal::Submit { op, id: transaction, .. }, Some(LightAnswer::Submitted(None))) => {
                if let Some(op) = op.take() {
                    cx.finish(op, LightOutcome::Submitted(Ok(*transaction)));
                }
            }
            (Goal::Submit { refused, .. }, Some(LightAnswer::Submitted(Some(why)))) => {
                refused.get_or_insert_with(|| short(&why));
            }
            (Goal::Submit { .. }, None | Some(LightAnswer::Missing)) => {}
            (Goal::Prove { whole, .. }, Some(LightAnswer::Missing)) if !*whole => *whole = true,
            (_, None | Some(LightAnswer::Missing)) => task.tried.push(of),
            // It was asked for what is not of the chain any more.
            (_, Some(_)) if !is_on_chain => {}
            (Goal::Scan { found: false, .. }, Some(LightAnswer::Filters(filters))) => {
                self.filters_came(cx, id, of, &filters);
            }
            (Goal::Prove { prove, whole: false, .. }, Some(LightAnswer::Proof(proof))) => {
                let transaction = prove.transaction;
                self.proof_came(cx, id, of, transaction, &proof);
            }
            (
                Goal::Block(..) | Goal::Scan { found: true, .. } | Goal::Prove { whole: true, .. },
                Some(LightAnswer::Block(block)),
            ) => {
                self.block_came(cx, id, of, &block);
            }
            (_, Some(_)) => self.strayed(cx, of),
        }
    }

    fn filters_came(&mut self, cx: &mut Cx<'_, Self>, id: u64, of: M::Peer, bytes: &Bytes) {
        let Some(Task { goal: Goal::Scan { scan, at, .. }, on, .. }) = self.tasks.get(&id) else { return };
        let (mut at, on) = (*at, *on);
        if !self.stands(at) {
            return;
        }
        let filters = match decoded_list::<Blob>(bytes, MAX_FILTERS) {
            Ok(filters) if !filters.is_empty() => filters,
            _ => return self.strayed(cx, of),
        };
        let mut found = false;
        for Blob(bytes) in filters {
            if at.id == on {
                return self.strayed(cx, of);
            }
            let next = at.height + 1;
            let (Some((block, header)), Some((_, before))) =
                (self.belief.at(next), self.belief.at(at.height))
            else {
                return;
            };
            let filter = Filter::from_bytes(bytes).ok().filter(|filter| filter.header(&before) == header);
            let Some(filter) = filter else {
                // Who has not said what is believed may have another, and it may be the right one.
                let has_named_it = self.servers.get(&of).is_some_and(|server| server.said.stands_by(next));
                return match has_named_it {
                    true => self.lied(cx, of, "it gives another filter than it has named"),
                    false => self.in_vain(id, of),
                };
            };
            if filter.has_any(&Filter::key(&block), scan.about.iter().map(Vec::as_slice)) {
                found = true;
                break;
            }
            at = Mark { height: next, id: block, filters: header };
        }
        self.set_scan(id, at, found);
        self.gets_on(cx, id);
    }

    fn in_vain(&mut self, id: u64, of: M::Peer) {
        if let Some(task) = self.tasks.get_mut(&id) {
            task.tried.push(of);
        }
    }

    fn proof_came(&mut self, cx: &mut Cx<'_, Self>, id: u64, of: M::Peer, transaction: TxId, bytes: &Bytes) {
        let Some(on) = self.tasks.get(&id).map(|task| task.on) else { return };
        match InclusionOf::<C, S>::from_bytes(bytes) {
            Ok(shown)
                if shown.header.id() == on && shown.transaction.id() == transaction && shown.holds() =>
            {
                self.finish(cx, id, LightOutcome::Proved(Ok(Some(shown))));
            }
            _ => self.lied(cx, of, "its proof shows nothing"),
        }
    }

    fn block_came(&mut self, cx: &mut Cx<'_, Self>, id: u64, of: M::Peer, bytes: &Bytes) {
        let Some(on) = self.tasks.get(&id).map(|task| task.on) else { return };
        let Some((height, block)) = self.look_at(cx, of, on, bytes) else { return };
        let at = self.mark(height);
        match self.tasks.get(&id).map(|task| &task.goal) {
            Some(Goal::Block(..)) => self.finish(cx, id, LightOutcome::Block(Ok(Some(block)))),
            Some(Goal::Prove { prove, .. }) => {
                let shown = Inclusion::of(&block, prove.transaction);
                self.finish(cx, id, LightOutcome::Proved(Ok(shown)));
            }
            // If not, it was skipped to by a lie.
            Some(Goal::Scan { at: before, .. }) if at.id == on && self.stands(*before) => {
                self.finish(cx, id, LightOutcome::Scanned(Ok(Scanned::Found(at, Box::new(block)))));
            }
            Some(_) | None => {}
        }
    }
}

/// Ends a task without what was wanted.
fn fail<M: Membership, C: Consensus, S: State>(
    cx: &mut Cx<'_, LightNode<M, C, S>>,
    goal: Goal,
    why: LedgerError,
) {
    match goal {
        Goal::Submit { op: None, .. } => {}
        Goal::Tip(op) => cx.finish(op, LightOutcome::Tip(Err(why))),
        Goal::Header(op, _) => cx.finish(op, LightOutcome::Header(Err(why))),
        Goal::Block(op, _) => cx.finish(op, LightOutcome::Block(Err(why))),
        Goal::Scan { op, .. } => cx.finish(op, LightOutcome::Scanned(Err(why))),
        Goal::Prove { op, .. } => cx.finish(op, LightOutcome::Proved(Err(why))),
        Goal::Submit { op: Some(op), .. } => cx.finish(op, LightOutcome::Submitted(Err(why))),
    }
}
