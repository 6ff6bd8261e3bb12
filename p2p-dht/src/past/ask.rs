//! What users ask: inserts, reads and reclaims, each of which begins with a lookup of the nodes nearest to the file.

use bytes::Bytes;
use p2p_core::{Cx, Key, Keyed, OpId, Protocol, Request};
use p2p_overlay::{Find, Looked, LookupError, MAX_REPLICAS};

use super::certificate::{Certificate, Reclaim};
use super::msg::{Fetched, PastMsg, PastRefusal};
use super::node::{PastNode, PastTimer, Question};
use super::{FetchError, File, InsertError};

/// How often the nodes that should keep a file are looked up, where some of those found have died or were not.
const ROUNDS: u8 = 4;

/// A command to [`PastNode`]: see the typed requests, [`Insert`], [`Fetch`] and [`ReclaimFile`].
#[derive(Clone, Debug)]
pub enum PastCommand {
    /// See [`Insert`].
    Insert(Insert),
    /// See [`Fetch`].
    Fetch(Fetch),
    /// See [`ReclaimFile`].
    Reclaim(ReclaimFile),
}

/// How a command ended.
#[derive(Clone, Debug)]
pub enum PastOutcome {
    /// Of [`Insert`].
    Inserted(Result<Receipts, InsertError>),
    /// Of [`Fetch`].
    Fetched(Result<File, FetchError>),
    /// Of [`ReclaimFile`].
    Reclaimed(Result<usize, FetchError>),
}

/// Has a file kept under the id that its certificate says, without file diversion: [`Past::insert`](super::Past::insert) does
/// that.
#[derive(Clone, Debug)]
pub struct Insert {
    /// What the owner has signed.
    pub certificate: Certificate,
    /// The content.
    pub content: Bytes,
}

/// The file with this id.
#[derive(Clone, Copy, Debug)]
pub struct Fetch(pub Key);

/// Gives back the room of a file; says how many had it.
#[derive(Clone, Debug)]
pub struct ReclaimFile(pub Reclaim);

/// Who keeps a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipts {
    /// How many nodes keep it, or have another keep it: all that should, which are fewer than k in a network of fewer nodes.
    pub copies: usize,
    /// How many of them have another keep it.
    pub diverted: usize,
}

/// What a user waits for.
#[derive(Debug)]
pub(super) enum Wanting<P> {
    Insert(Inserting<P>),
    Fetch(Fetching<P>),
    Reclaim(Reclaiming),
}

#[derive(Debug)]
pub(super) struct Inserting<P> {
    insert: Insert,
    ticket: u32,
    rounds_left: u8,
    /// The nodes that should keep it, as the root says, and those that do.
    nearest: Vec<P>,
    receipts: Vec<(P, bool)>,
    refusal: Option<PastRefusal>,
}

#[derive(Debug)]
pub(super) struct Fetching<P> {
    file: Key,
    /// Whom to ask, the next last, and who was.
    left: Vec<P>,
    asked: Vec<P>,
    answered: usize,
    silent: usize,
}

#[derive(Debug)]
pub(super) struct Reclaiming {
    reclaim: Reclaim,
    waiting: usize,
    freed: usize,
}

impl<P: Keyed> PastNode<P> {
    pub(super) fn begin(&mut self, cx: &mut Cx<'_, Self>, op: OpId, command: PastCommand) {
        let busy = self.wanting.len() >= self.config.calls;
        let wanting = match command {
            PastCommand::Insert(_) if busy => {
                return cx.finish(op, PastOutcome::Inserted(Err(InsertError::Busy)));
            }
            PastCommand::Fetch(_) if busy => {
                return cx.finish(op, PastOutcome::Fetched(Err(FetchError::Busy)));
            }
            PastCommand::Reclaim(_) if busy => {
                return cx.finish(op, PastOutcome::Reclaimed(Err(FetchError::Busy)));
            }
            PastCommand::Insert(insert) => {
                let ticket = self.number();
                self.tickets.insert(ticket, op);
                let (nearest, receipts) = (Vec::new(), Vec::new());
                let rounds_left = ROUNDS;
                Wanting::Insert(Inserting { insert, ticket, rounds_left, nearest, receipts, refusal: None })
            }
            PastCommand::Fetch(Fetch(file)) => {
                let (left, asked) = (Vec::new(), Vec::new());
                Wanting::Fetch(Fetching { file, left, asked, answered: 0, silent: 0 })
            }
            PastCommand::Reclaim(ReclaimFile(reclaim)) => {
                Wanting::Reclaim(Reclaiming { reclaim, waiting: 0, freed: 0 })
            }
        };
        self.wanting.insert(op, wanting);
        self.locate(cx, op);
    }

    /// Looks up who should keep the file.
    pub(super) fn locate(&mut self, cx: &mut Cx<'_, Self>, op: OpId) {
        let Some(wanting) = self.wanting.get_mut(&op) else { return };
        let (file, n) = match wanting {
            Wanting::Insert(inserting) => {
                inserting.rounds_left = inserting.rounds_left.saturating_sub(1);
                (inserting.insert.certificate.file(), inserting.insert.certificate.replicas())
            }
            // It may still be where it was before nodes came in between.
            Wanting::Fetch(fetching) => (fetching.file, (2 * self.config.replicas).min(MAX_REPLICAS)),
            Wanting::Reclaim(reclaiming) => {
                (reclaiming.reclaim.file(), (2 * self.config.replicas).min(MAX_REPLICAS))
            }
        };
        let find = cx.op();
        self.finds.insert(find, op);
        self.below(cx, |pastry, cx| pastry.on_command(cx, find, Find::key(file).replicas(n)));
    }

    pub(super) fn located(&mut self, cx: &mut Cx<'_, Self>, op: OpId, looked: Looked<P>) {
        let found = match looked {
            Ok(found) => found.peers,
            Err(error) => return self.nobody_found(cx, op, error),
        };
        match self.wanting.get_mut(&op) {
            None => {}
            Some(Wanting::Insert(inserting)) => {
                let root = found[0];
                // Those of earlier rounds may be of others.
                inserting.receipts.clear();
                inserting.nearest = found;
                let (ticket, Insert { certificate, content }) = (inserting.ticket, inserting.insert.clone());
                self.ask(cx, root, Question::Insert(op), |id| PastMsg::Insert {
                    id,
                    ticket,
                    certificate,
                    content,
                });
            }
            Some(Wanting::Fetch(fetching)) => {
                fetching.left = found;
                fetching.left.reverse();
                self.fetch_on(cx, op);
            }
            Some(Wanting::Reclaim(reclaiming)) => {
                reclaiming.waiting = found.len();
                let reclaim = reclaiming.reclaim.clone();
                for peer in found {
                    let reclaim = reclaim.clone();
                    self.ask(cx, peer, Question::Reclaim(op), |id| PastMsg::Reclaim { id, reclaim });
                }
            }
        }
    }

    fn nobody_found(&mut self, cx: &mut Cx<'_, Self>, op: OpId, error: LookupError) {
        let outcome = match self.wanting.get(&op) {
            None => return,
            Some(Wanting::Insert(_)) => PastOutcome::Inserted(Err(error.into())),
            Some(Wanting::Fetch(_)) => PastOutcome::Fetched(Err(error.into())),
            Some(Wanting::Reclaim(_)) => PastOutcome::Reclaimed(Err(error.into())),
        };
        self.end(cx, op, outcome);
    }

    fn end(&mut self, cx: &mut Cx<'_, Self>, op: OpId, outcome: PastOutcome) {
        if let Some(Wanting::Insert(Inserting { ticket, .. })) = self.wanting.remove(&op) {
            self.tickets.remove(&ticket);
        }
        cx.finish(op, outcome);
    }

    /// Whoever asked is gone.
    pub(super) fn give_up(&mut self, cx: &mut Cx<'_, Self>, op: OpId) {
        if let Some(Wanting::Insert(Inserting { ticket, .. })) = self.wanting.remove(&op) {
            self.tickets.remove(&ticket);
        }
        let theirs = self.finds.iter().filter(|(_, of)| **of == op).map(|(find, _)| *find);
        for find in theirs.collect::<Vec<OpId>>() {
            self.finds.remove(&find);
            self.below(cx, |pastry, cx| pastry.on_cancel(cx, find));
        }
    }

    // ---- inserts

    /// Who should keep a file says that it does: nobody else's word counts, nor one of another file or content.
    pub(super) fn on_receipt(
        &mut self,
        cx: &mut Cx<'_, Self>,
        from: P,
        ticket: u32,
        of: (Key, Key),
        diverted: bool,
    ) {
        let Some(op) = self.tickets.get(&ticket).copied() else { return };
        let Some(Wanting::Insert(inserting)) = self.wanting.get_mut(&op) else { return };
        let certificate = &inserting.insert.certificate;
        if of != (certificate.file(), certificate.content()) {
            return;
        }
        let known = inserting.receipts.iter().any(|(peer, _)| *peer == from);
        if known || !inserting.nearest.contains(&from) {
            return;
        }
        inserting.receipts.push((from, diverted));
        let copies = inserting.receipts.len();
        if copies == inserting.nearest.len() {
            let diverted = inserting.receipts.iter().filter(|(_, diverted)| *diverted).count();
            self.end(cx, op, PastOutcome::Inserted(Ok(Receipts { copies, diverted })));
        }
    }

    /// The root has done what it can. If all keep it who should, the last receipts may be on their way.
    pub(super) fn inserted(&mut self, cx: &mut Cx<'_, Self>, op: OpId, result: Result<(), PastRefusal>) {
        let Some(Wanting::Insert(inserting)) = self.wanting.get_mut(&op) else { return };
        inserting.refusal = result.err();
        let error = match result {
            Err(PastRefusal::Full) => InsertError::Full,
            Err(PastRefusal::Exists) => InsertError::Exists,
            Ok(()) if inserting.rounds_left > 0 => {
                return cx.set_timer(self.config.timeout, PastTimer::Again(op));
            }
            // Nodes have come or gone, and do not agree yet.
            Err(_) if inserting.rounds_left > 0 => {
                inserting.receipts.clear();
                return cx.set_timer(self.config.settle, PastTimer::Again(op));
            }
            _ => {
                let (got, needed) = (inserting.receipts.len(), inserting.nearest.len());
                InsertError::Receipts { got, needed, refusal: inserting.refusal }
            }
        };
        self.end(cx, op, PastOutcome::Inserted(Err(error)));
    }

    // ---- reads

    /// Asks the next, or says that nobody has it.
    fn fetch_on(&mut self, cx: &mut Cx<'_, Self>, op: OpId) {
        let Some(Wanting::Fetch(fetching)) = self.wanting.get_mut(&op) else { return };
        while let Some(peer) = fetching.left.pop() {
            if !fetching.asked.contains(&peer) {
                fetching.asked.push(peer);
                let file = fetching.file;
                self.ask(cx, peer, Question::Fetch(op), |id| PastMsg::Fetch { id, file });
                return;
            }
        }
        let Fetching { answered, silent, .. } = *fetching;
        self.end(cx, op, PastOutcome::Fetched(Err(FetchError::NotFound { answered, silent })));
    }

    pub(super) fn fetched(&mut self, cx: &mut Cx<'_, Self>, op: OpId, found: Fetched<P>) {
        let Some(Wanting::Fetch(fetching)) = self.wanting.get_mut(&op) else { return };
        fetching.answered += 1;
        match found {
            Fetched::File { certificate, content }
                if certificate.file() == fetching.file && certificate.is_genuine(&content) =>
            {
                return self.end(cx, op, PastOutcome::Fetched(Ok(File { certificate, content })));
            }
            // As many as there are leaves, at most: who goes on naming others is not followed for ever.
            Fetched::At(peer) if fetching.asked.len() < usize::from(MAX_REPLICAS) => fetching.left.push(peer),
            Fetched::File { .. } | Fetched::At(_) | Fetched::Nothing => {}
        }
        self.fetch_on(cx, op);
    }

    pub(super) fn fetch_silent(&mut self, cx: &mut Cx<'_, Self>, op: OpId) {
        if let Some(Wanting::Fetch(fetching)) = self.wanting.get_mut(&op) {
            fetching.silent += 1;
        }
        self.fetch_on(cx, op);
    }

    // ---- reclaims

    pub(super) fn reclaimed(&mut self, cx: &mut Cx<'_, Self>, op: OpId, freed: bool) {
        let Some(Wanting::Reclaim(reclaiming)) = self.wanting.get_mut(&op) else { return };
        reclaiming.waiting -= 1;
        reclaiming.freed += usize::from(freed);
        if reclaiming.waiting == 0 {
            let freed = reclaiming.freed;
            self.end(cx, op, PastOutcome::Reclaimed(Ok(freed)));
        }
    }
}

/// What all requests have in common but their command and their outcome.
macro_rules! request {
    ($request:ty, $reply:ty, $command:ident, $outcome:ident) => {
        impl<P: Keyed> Request<PastNode<P>> for $request {
            type Item = ();
            type Reply = $reply;

            fn command(self) -> <PastNode<P> as Protocol>::Command {
                PastCommand::$command(self)
            }
            fn item((): ()) -> Option<()> {
                None
            }
            fn reply(outcome: PastOutcome) -> Option<$reply> {
                match outcome {
                    PastOutcome::$outcome(result) => Some(result),
                    _ => None,
                }
            }
        }
    };
}

request!(Insert, Result<Receipts, InsertError>, Insert, Inserted);
request!(Fetch, Result<File, FetchError>, Fetch, Fetched);
request!(ReclaimFile, Result<usize, FetchError>, Reclaim, Reclaimed);
