//! The sources of a download: which is reached, which is asked for which piece, and what comes or does not.

use std::time::Duration;

use p2p_core::{Cx, OpId};

use super::fetch::{Part, Phase, Question, State};
use super::job::SharingJob;
use super::msg::{Refusal, SharingMsg, Transfer};
use super::request::{Progress, SharingItem, SourceStanding};
use super::{Asker, JobOf, Sharer, Sharing, SharingTimer};
use crate::search::{ContentHash, SearchCommand, SearchOutcome};

/// How often progress is told at most.
const STEPS: u64 = 256;
/// How long a source rests that has failed, for each failure in a row.
const REST: Duration = Duration::from_millis(500);

impl<S: Sharer> Sharing<S> {
    /// Brings new sources in, as long as there are pieces for them.
    pub(super) fn reach_sources(&mut self, cx: &mut Cx<'_, Self>, op: OpId) {
        loop {
            let Some(fetch) = self.downloads.get_mut(&op) else { return };
            let most = if fetch.alone { 1 } else { self.config.sources };
            if fetch.phase != Phase::Fetching || fetch.active() >= most || fetch.next_piece().is_none() {
                return;
            }
            // Who has failed least.
            let fresh = fetch.sources.iter().enumerate().filter(|(_, source)| source.state == State::Fresh);
            // One that gives all of it goes on, before others begin.
            let order = fresh.map(|(i, source)| (source.lately == 0, source.failures, i));
            let Some((.., i)) = order.min() else { return };
            let source = &mut fetch.sources[i];
            // Until the searching machine has given it a number.
            source.state = State::Resting;
            let command = S::command(SearchCommand::Reach(source.hit.clone()));
            let below = self.ask_below(cx, Asker::Source(op, i), command);
            if self.asked.contains_key(&below)
                && let Some(fetch) = self.downloads.get_mut(&op)
            {
                fetch.sources[i].state = State::Reaching(below);
            }
        }
    }

    /// The searching machine says whom to ask.
    pub(super) fn on_reached(
        &mut self,
        cx: &mut Cx<'_, Self>,
        op: OpId,
        i: usize,
        outcome: Option<SearchOutcome<S::Peer>>,
    ) {
        let Some(fetch) = self.downloads.get_mut(&op) else { return };
        let Some(source) = fetch.sources.get_mut(i) else { return };
        match outcome {
            Some(SearchOutcome::Reached(Ok(peer))) => {
                (source.peer, source.named, source.open) = (Some(peer), Some(peer), false);
                source.state = State::Idle;
                self.ask_source(cx, op, i);
            }
            _ => self.fails(cx, op, i),
        }
    }

    /// Asks an idle source for the next piece, if there is one.
    pub(super) fn ask_source(&mut self, cx: &mut Cx<'_, Self>, op: OpId, i: usize) {
        let Some(fetch) = self.downloads.get_mut(&op) else { return };
        let Some(piece) = fetch.next_piece() else { return };
        let (start, end) = fetch.bounds(piece);
        let at = start + fetch.pieces[piece].have;
        let Some(source) = fetch.sources.get_mut(i).filter(|source| source.state == State::Idle) else {
            return;
        };
        let (Some(peer), Some(wanted)) = (source.peer, S::wanted(&source.hit)) else { return };
        self.question = self.question.wrapping_add(1);
        let id = self.question;
        source.state = State::Asked(Question { id, piece, at, seen: at });
        source.open = true;
        fetch.pieces[piece].asked = true;
        self.questions.insert(id, (op, i));
        cx.send(peer, SharingMsg::Transfer(Transfer::Get { id, wanted, start: at, end }));
        cx.set_timer(self.config.patience, SharingTimer::Source(op, i));
    }

    /// The source that was asked this, if it was this peer.
    fn asked(&mut self, from: S::Peer, id: u32) -> Option<(OpId, usize, Question)> {
        let (op, i) = self.questions.get(&id).copied()?;
        let source = self.downloads.get(&op)?.sources.get(i).filter(|source| source.peer == Some(from))?;
        match source.state {
            State::Asked(question) if question.id == id => Some((op, i, question)),
            _ => None,
        }
    }

    /// A part comes.
    pub(super) fn on_part(&mut self, cx: &mut Cx<'_, Self>, from: S::Peer, id: u32, part: Part) {
        let Some((op, i, question)) = self.asked(from, id) else { return };
        let Some(fetch) = self.downloads.get_mut(&op) else { return };
        let (start, end) = fetch.bounds(question.piece);
        let other = part.hash.is_some_and(|hash| {
            let same_kind = |known: &&ContentHash| {
                matches!(
                    (known, hash),
                    (ContentHash::Sha1(_), ContentHash::Sha1(_))
                        | (ContentHash::Blake3(_), ContentHash::Blake3(_))
                )
            };
            fetch.hashes.iter().find(same_kind).is_some_and(|known| *known != hash)
        });
        if part.size != fetch.size || part.at != question.at || part.data.is_empty() || other {
            // It has another file, or another way to answer: nothing that comes of it is of use.
            self.part_with(cx, op, i);
            return self.give_up(cx, op, i);
        }
        let mut data = part.data;
        data.truncate((end - part.at).min(usize::MAX as u64) as usize);
        let (at, len) = (part.at, data.len() as u64);
        let next = at + len;
        fetch.pieces[question.piece].have = next - start;
        fetch.writing += 1;
        fetch.bytes += len;
        while fetch.is_whole(fetch.first) {
            fetch.first += 1;
        }
        let source = &mut fetch.sources[i];
        source.bytes += len;
        source.lately += len;
        source.failures = 0;
        source.state = State::Asked(Question { at: next, ..question });
        let (bytes, size) = (fetch.bytes, fetch.size);
        if bytes == size || bytes - fetch.told > size / STEPS {
            fetch.told = bytes;
            let sources =
                fetch.sources.iter().filter(|source| matches!(source.state, State::Asked(_))).count();
            cx.item(op, SharingItem::Progress(Progress { bytes, size, sources }));
        }
        let job = cx.start(SharingJob::Write { number: fetch.number, at, data });
        self.jobs.insert(job, JobOf::Write(op));
        self.credit(from, len);
        if next == end || next >= part.end {
            self.answered(op, i);
            if part.end > end {
                // It knows no ranges and sends on: the next piece is asked for anew.
                self.part_with(cx, op, i);
                self.rest(cx, op, i, REST);
            }
            self.drive(cx, op);
        }
    }

    /// A source has answered, or will not: it is idle again.
    fn answered(&mut self, op: OpId, i: usize) {
        let Some(fetch) = self.downloads.get_mut(&op) else { return };
        let Some(source) = fetch.sources.get_mut(i) else { return };
        if let State::Asked(question) = source.state {
            self.questions.remove(&question.id);
            fetch.pieces[question.piece].asked = false;
            source.state = State::Idle;
        }
    }

    /// A source says no.
    pub(super) fn on_no(&mut self, cx: &mut Cx<'_, Self>, from: S::Peer, id: u32, why: Refusal) {
        let Some((op, i, _)) = self.asked(from, id) else { return };
        match why {
            Refusal::Busy { seconds } => {
                self.answered(op, i);
                let Some(fetch) = self.downloads.get_mut(&op) else { return };
                let source = &mut fetch.sources[i];
                source.failures = source.failures.saturating_add(1);
                // Who is busy for so long is as good as gone; where there is no other, that is the source's affair.
                if source.failures > self.config.tries.saturating_mul(4) {
                    return self.give_up(cx, op, i);
                }
                self.rest(cx, op, i, Refusal::wait(seconds));
                self.drive(cx, op);
            }
            Refusal::Missing | Refusal::Range { .. } => self.give_up(cx, op, i),
        }
    }

    /// A source has said nothing for too long, or has rested.
    pub(super) fn on_silence(&mut self, cx: &mut Cx<'_, Self>, op: OpId, i: usize) {
        let Some(fetch) = self.downloads.get_mut(&op) else { return };
        let waits = fetch.sources.iter().any(|source| matches!(source.state, State::Idle | State::Fresh));
        let Some(source) = fetch.sources.get_mut(i) else { return };
        match source.state {
            State::Resting => {
                source.state = if source.peer.is_some() { State::Idle } else { State::Fresh };
                self.drive(cx, op);
            }
            // It is slow, and nobody is faster.
            State::Asked(question) if question.at > question.seen && !waits => {
                source.state = State::Asked(Question { seen: question.at, ..question });
                cx.set_timer(self.config.patience, SharingTimer::Source(op, i));
            }
            State::Asked(_) => {
                self.part_with(cx, op, i);
                self.fails(cx, op, i);
            }
            State::Fresh | State::Reaching(_) | State::Idle | State::Gone => {}
        }
    }

    /// A connection is gone, with whatever was asked on it.
    pub(super) fn source_gone(&mut self, cx: &mut Cx<'_, Self>, peer: S::Peer) {
        let all = self.downloads.iter().flat_map(|(op, fetch)| {
            let theirs = fetch.sources.iter().enumerate().filter(|(_, source)| source.peer == Some(peer));
            theirs.map(|(i, _)| (*op, i))
        });
        for (op, i) in all.collect::<Vec<(OpId, usize)>>() {
            if let Some(source) = self.downloads.get_mut(&op).and_then(|fetch| fetch.sources.get_mut(i)) {
                (source.peer, source.open) = (None, false);
            }
            self.fails(cx, op, i);
        }
    }

    /// Whoever was asked gives no more of it.
    pub(super) fn on_broken_off(&mut self, cx: &mut Cx<'_, Self>, from: S::Peer, id: u32) {
        if let Some((op, i, _)) = self.asked(from, id) {
            self.fails(cx, op, i);
        }
    }

    /// A source has failed: it is reached anew after a while, or given up.
    fn fails(&mut self, cx: &mut Cx<'_, Self>, op: OpId, i: usize) {
        self.answered(op, i);
        let tries = self.config.tries;
        let Some(source) = self.downloads.get_mut(&op).and_then(|fetch| fetch.sources.get_mut(i)) else {
            return;
        };
        if source.state == State::Gone {
            return;
        }
        source.failures = source.failures.saturating_add(1);
        (source.peer, source.open) = (None, false);
        if source.failures >= tries {
            return self.give_up(cx, op, i);
        }
        let wait = REST * u32::from(source.failures);
        self.rest(cx, op, i, wait);
        self.drive(cx, op);
    }

    fn rest(&mut self, cx: &mut Cx<'_, Self>, op: OpId, i: usize, wait: Duration) {
        if let Some(source) = self.downloads.get_mut(&op).and_then(|fetch| fetch.sources.get_mut(i)) {
            source.state = State::Resting;
            cx.set_timer(wait, SharingTimer::Source(op, i));
        }
    }

    /// Nothing more is wanted on a source's connection.
    pub(super) fn part_with(&mut self, cx: &mut Cx<'_, Self>, op: OpId, i: usize) {
        let Some(source) = self.downloads.get_mut(&op).and_then(|fetch| fetch.sources.get_mut(i)) else {
            return;
        };
        let id = match source.state {
            State::Asked(question) => Some(question.id),
            _ => None,
        };
        if let Some(peer) = source.peer.take().filter(|_| source.open) {
            source.open = false;
            cx.send(peer, SharingMsg::Transfer(Transfer::End { id }));
        }
    }

    /// A source is of no use any more.
    pub(super) fn give_up(&mut self, cx: &mut Cx<'_, Self>, op: OpId, i: usize) {
        self.answered(op, i);
        cx.clear_timer(SharingTimer::Source(op, i));
        let Some(fetch) = self.downloads.get_mut(&op) else { return };
        let source = &mut fetch.sources[i];
        if source.standing == SourceStanding::Good {
            source.standing = SourceStanding::Gone;
        }
        source.state = State::Gone;
        let anew = fetch.alone && source.lately > 0;
        self.tally.given_up += 1;
        // Alone, one source gives all of it.
        if anew {
            fetch.begin_anew();
        }
        self.drive(cx, op);
    }
}
