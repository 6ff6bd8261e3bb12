//! A download: its pieces, its sources, and which source is asked for which piece.

use bytes::Bytes;
use p2p_core::{Cx, OpId};

use super::job::{FolderError, ShareOutput, SharingJob};
use super::msg::{Refusal, SharingMsg, Transfer};
use super::request::{
    Download, DownloadError, Downloaded, Progress, SharingItem, SourceReport, SourceStanding,
};
use super::worker::is_plain_name;
use super::{Asker, JobOf, Sharer, Sharing, SharingOutcome, SharingTimer};
use crate::search::{ContentHash, Hit, SearchCommand, SearchOutcome};

/// How many hits count.
const MOST_SOURCES: usize = 64;
/// How many pieces a file has at most.
const MOST_PIECES: u64 = 1 << 16;
/// How often progress is told at most.
const STEPS: u64 = 256;
/// How long a source rests that has failed, for each failure in a row.
const REST: std::time::Duration = std::time::Duration::from_millis(500);

/// A download under way.
#[derive(Debug)]
pub(super) struct Fetch<P> {
    number: u64,
    name: String,
    size: u64,
    hashes: Vec<ContentHash>,
    piece: u64,
    pieces: Vec<Piece>,
    /// All pieces before this one are whole.
    first: usize,
    sources: Vec<Source<P>>,
    /// Sources are tried one by one: there is no hash that all have, or somebody has lied.
    alone: bool,
    phase: Phase,
    /// Parts that are being written.
    writing: usize,
    /// Bytes that have come, and how many had when that was told last.
    bytes: u64,
    told: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Opening,
    Fetching,
    Finishing,
}

/// A piece of the file: so many of its bytes have come, from its beginning.
#[derive(Clone, Copy, Debug, Default)]
struct Piece {
    have: u64,
    asked: bool,
}

#[derive(Debug)]
struct Source<P> {
    hit: Hit<P>,
    /// Over what it is asked, if it was reached, and whether it was asked anything there.
    peer: Option<P>,
    open: bool,
    /// Over what it was asked last.
    named: Option<P>,
    state: State,
    /// Failures in a row.
    failures: u8,
    /// Bytes it has given, and those of the present attempt.
    bytes: u64,
    lately: u64,
    standing: SourceStanding,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Not in use, or no more.
    Fresh,
    /// The searching machine brings about that it can be asked.
    Reaching(OpId),
    Idle,
    Asked(Question),
    /// It is left in peace for a while.
    Resting,
    Gone,
}

/// A piece that a source was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Question {
    id: u32,
    piece: usize,
    /// The byte that comes next, and what that was when the timer was set.
    at: u64,
    seen: u64,
}

/// What a peer sends of a file.
pub(super) struct Part {
    pub at: u64,
    pub end: u64,
    pub size: u64,
    pub hash: Option<ContentHash>,
    pub data: Bytes,
}

impl<P> Fetch<P> {
    /// Where a piece begins and ends.
    fn bounds(&self, piece: usize) -> (u64, u64) {
        let start = piece as u64 * self.piece;
        (start, start.saturating_add(self.piece).min(self.size))
    }

    fn is_whole(&self, piece: usize) -> bool {
        let (start, end) = self.bounds(piece);
        self.pieces.get(piece).is_some_and(|piece| piece.have == end - start)
    }

    /// The first piece that lacks something and that nobody is asked for.
    fn next_piece(&self) -> Option<usize> {
        (self.first..self.pieces.len()).find(|piece| !self.pieces[*piece].asked && !self.is_whole(*piece))
    }

    fn active(&self) -> usize {
        self.sources.iter().filter(|source| !matches!(source.state, State::Fresh | State::Gone)).count()
    }

    /// Forgets what has come.
    fn begin_anew(&mut self) {
        self.pieces.iter_mut().for_each(|piece| *piece = Piece::default());
        self.sources.iter_mut().for_each(|source| source.lately = 0);
        (self.first, self.bytes, self.told) = (0, 0, 0);
    }
}

impl<S: Sharer> Sharing<S> {
    pub(super) fn begin_download(&mut self, cx: &mut Cx<'_, Self>, op: OpId, download: Download<S::Peer>) {
        let refused = |cx: &mut Cx<'_, Self>, error| cx.finish(op, SharingOutcome::Download(Err(error)));
        let Download { mut hits, name } = download;
        let Some(first) = hits.first().map(|hit| hit.item.clone()) else {
            return refused(cx, DownloadError::BadHit);
        };
        let name = name.unwrap_or_else(|| first.name.clone());
        hits.truncate(MOST_SOURCES);
        let first_only = first.hashes.is_empty();
        let mut index = 0;
        hits.retain(|hit| {
            index += 1;
            let same = hit.item.hashes.iter().any(|hash| first.hashes.contains(hash));
            hit.item.size == first.size && (same || first_only || index == 1)
        });
        if !is_plain_name(&name) || hits.iter().any(|hit| S::wanted(hit).is_none()) {
            return refused(cx, DownloadError::BadHit);
        }
        if first.size > self.config.most {
            return refused(cx, DownloadError::TooLong { size: first.size, max: self.config.most });
        }
        if self.downloads.len() >= self.config.downloads {
            return refused(cx, DownloadError::Busy);
        }
        self.number += 1;
        let piece = self.config.piece.max(first.size.div_ceil(MOST_PIECES));
        let sources = hits.into_iter().map(|hit| Source {
            hit,
            peer: None,
            open: false,
            named: None,
            state: State::Fresh,
            failures: 0,
            bytes: 0,
            lately: 0,
            standing: SourceStanding::Good,
        });
        let fetch = Fetch {
            number: self.number,
            name: name.clone(),
            size: first.size,
            alone: first_only,
            hashes: first.hashes,
            piece,
            pieces: vec![Piece::default(); first.size.div_ceil(piece) as usize],
            first: 0,
            sources: sources.collect(),
            phase: Phase::Opening,
            writing: 0,
            bytes: 0,
            told: 0,
        };
        self.downloads.insert(op, fetch);
        let job = cx.start(SharingJob::Open { number: self.number, name });
        self.jobs.insert(job, JobOf::Open(op));
    }

    pub(super) fn on_open(
        &mut self,
        cx: &mut Cx<'_, Self>,
        op: OpId,
        done: Result<ShareOutput, FolderError>,
    ) {
        let Some(fetch) = self.downloads.get_mut(&op) else { return };
        if let Err(error) = done {
            return self.fail(cx, op, error.into());
        }
        fetch.phase = Phase::Fetching;
        self.drive(cx, op);
    }

    /// Does what is next: reaches sources, asks those who are idle, ends it.
    fn drive(&mut self, cx: &mut Cx<'_, Self>, op: OpId) {
        let Some(fetch) = self.downloads.get(&op).filter(|fetch| fetch.phase == Phase::Fetching) else {
            return;
        };
        // No byte is asked for twice.
        if fetch.bytes == fetch.size {
            return self.finish_download(cx, op);
        }
        let idle = |source: &Source<S::Peer>| source.state == State::Idle;
        let idle: Vec<usize> = (0..fetch.sources.len()).filter(|i| idle(&fetch.sources[*i])).collect();
        for source in idle {
            self.ask_source(cx, op, source);
        }
        self.reach_sources(cx, op);
        let Some(fetch) = self.downloads.get(&op).filter(|fetch| fetch.phase == Phase::Fetching) else {
            return;
        };
        if fetch.sources.iter().all(|source| source.state == State::Gone) {
            let liars = fetch.sources.iter().filter(|source| source.standing == SourceStanding::Liar);
            let peers: Vec<S::Peer> = liars.filter_map(|source| source.named).collect();
            let error = match peers.is_empty() {
                true => DownloadError::NoSource { bytes: fetch.bytes, size: fetch.size },
                false => DownloadError::Lies { peers },
            };
            self.fail(cx, op, error);
        }
    }

    /// Brings new sources in, as long as there are pieces for them.
    fn reach_sources(&mut self, cx: &mut Cx<'_, Self>, op: OpId) {
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
    fn ask_source(&mut self, cx: &mut Cx<'_, Self>, op: OpId, i: usize) {
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

    fn rest(&mut self, cx: &mut Cx<'_, Self>, op: OpId, i: usize, wait: std::time::Duration) {
        if let Some(source) = self.downloads.get_mut(&op).and_then(|fetch| fetch.sources.get_mut(i)) {
            source.state = State::Resting;
            cx.set_timer(wait, SharingTimer::Source(op, i));
        }
    }

    /// Nothing more is wanted on a source's connection.
    fn part_with(&mut self, cx: &mut Cx<'_, Self>, op: OpId, i: usize) {
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
    fn give_up(&mut self, cx: &mut Cx<'_, Self>, op: OpId, i: usize) {
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

    // ---- the end

    pub(super) fn on_written(
        &mut self,
        cx: &mut Cx<'_, Self>,
        op: OpId,
        done: Result<ShareOutput, FolderError>,
    ) {
        let Some(fetch) = self.downloads.get_mut(&op) else { return };
        fetch.writing = fetch.writing.saturating_sub(1);
        match done {
            Err(error) => self.fail(cx, op, error.into()),
            Ok(_) => self.drive(cx, op),
        }
    }

    /// All has come: once it is written it is compared with its hashes.
    fn finish_download(&mut self, cx: &mut Cx<'_, Self>, op: OpId) {
        let Some(fetch) = self.downloads.get_mut(&op).filter(|fetch| fetch.writing == 0) else { return };
        fetch.phase = Phase::Finishing;
        let (number, size, hashes) = (fetch.number, fetch.size, fetch.hashes.clone());
        let job = cx.start(SharingJob::Finish { number, size, hashes });
        self.jobs.insert(job, JobOf::Finish(op));
    }

    pub(super) fn on_finished(
        &mut self,
        cx: &mut Cx<'_, Self>,
        op: OpId,
        done: Result<ShareOutput, FolderError>,
    ) {
        let Some(fetch) = self.downloads.get_mut(&op) else { return };
        match done {
            Ok(ShareOutput::Kept(hashes)) => {
                let sources = fetch.sources.iter().filter(|source| source.named.is_some());
                let sources = sources.map(|source| SourceReport {
                    peer: source.named,
                    bytes: source.bytes,
                    standing: source.standing,
                });
                let (name, size, sources) = (fetch.name.clone(), fetch.size, sources.collect());
                let downloaded = Downloaded { name, size, hashes, sources };
                self.drop_download(cx, op, false);
                cx.finish(op, SharingOutcome::Download(Ok(downloaded)));
            }
            Ok(ShareOutput::Differs) => {
                let gave: Vec<usize> =
                    (0..fetch.sources.len()).filter(|i| fetch.sources[*i].lately > 0).collect();
                fetch.phase = Phase::Fetching;
                // From now on each gives all of it, so that the liar shows.
                fetch.alone = true;
                fetch.begin_anew();
                if let [only] = gave[..] {
                    fetch.sources[only].standing = SourceStanding::Liar;
                    return self.give_up(cx, op, only);
                }
                let idle = fetch.sources.iter().enumerate().filter(|(_, source)| source.state == State::Idle);
                // All but the first are reached anew when it is their turn.
                for i in idle.map(|(i, _)| i).skip(1).collect::<Vec<usize>>() {
                    self.part_with(cx, op, i);
                    if let Some(fetch) = self.downloads.get_mut(&op) {
                        fetch.sources[i].state = State::Fresh;
                    }
                }
                self.drive(cx, op);
            }
            Ok(_) => self.fail(cx, op, FolderError::NotOpen.into()),
            Err(error) => self.fail(cx, op, error.into()),
        }
    }

    fn fail(&mut self, cx: &mut Cx<'_, Self>, op: OpId, error: DownloadError<S::Peer>) {
        self.drop_download(cx, op, true);
        cx.finish(op, SharingOutcome::Download(Err(error)));
    }

    /// Forgets a download, and what is there of it if it is not whole.
    pub(super) fn drop_download(&mut self, cx: &mut Cx<'_, Self>, op: OpId, remove: bool) {
        let Some(fetch) = self.downloads.remove(&op) else { return };
        for (i, source) in fetch.sources.iter().enumerate() {
            cx.clear_timer(SharingTimer::Source(op, i));
            let id = match source.state {
                State::Asked(question) => Some(question.id),
                State::Reaching(below) => {
                    self.cancel_below(cx, below);
                    None
                }
                State::Fresh | State::Idle | State::Resting | State::Gone => None,
            };
            if let Some(id) = id {
                self.questions.remove(&id);
            }
            if let Some(peer) = source.peer.filter(|_| source.open) {
                cx.send(peer, SharingMsg::Transfer(Transfer::End { id }));
            }
        }
        if remove {
            let job = cx.start(SharingJob::Drop { number: fetch.number });
            self.jobs.insert(job, JobOf::Drop);
        }
    }
}
