//! A download, from its beginning to its end.

use p2p_core::{Cx, OpId};

use super::fetch::{Fetch, Phase, Piece, Source, State};
use super::job::{FolderError, ShareOutput, SharingJob};
use super::msg::{SharingMsg, Transfer};
use super::request::{Download, DownloadError, Downloaded, SourceReport, SourceStanding};
use super::worker::is_plain_name;
use super::{JobOf, Sharer, Sharing, SharingOutcome, SharingTimer};

/// How many hits count.
const MOST_SOURCES: usize = 64;
/// How many pieces a file has at most.
const MOST_PIECES: u64 = 1 << 16;

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
            // Without a hash nothing shows what a file is: of the same name and size it may be the same.
            let alike = first_only && hit.item.name == first.name;
            hit.item.size == first.size && (same || alike || index == 1)
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
            resumed: 0,
            bytes: 0,
            told: 0,
        };
        let (content, size) = (fetch.hashes.iter().min().copied(), fetch.size);
        self.downloads.insert(op, fetch);
        let job = cx.start(SharingJob::Open { number: self.number, name, content, size });
        self.jobs.insert(job, JobOf::Open(op));
    }

    pub(super) fn on_open(
        &mut self,
        cx: &mut Cx<'_, Self>,
        op: OpId,
        done: Result<ShareOutput, FolderError>,
    ) {
        let Some(fetch) = self.downloads.get_mut(&op) else { return };
        match done {
            Ok(ShareOutput::Opened(there)) => fetch.go_on(&there),
            Ok(_) => {}
            Err(error) => return self.fail(cx, op, error.into()),
        }
        fetch.phase = Phase::Fetching;
        self.drive(cx, op);
    }

    /// Does what is next: reaches sources, asks those who are idle, ends it.
    pub(super) fn drive(&mut self, cx: &mut Cx<'_, Self>, op: OpId) {
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
    pub(super) fn finish_download(&mut self, cx: &mut Cx<'_, Self>, op: OpId) {
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
                let downloaded = Downloaded { name, size, hashes, resumed: fetch.resumed, sources };
                self.drop_download(cx, op, None);
                cx.finish(op, SharingOutcome::Download(Ok(downloaded)));
            }
            Ok(ShareOutput::Differs) => {
                let gave: Vec<usize> =
                    (0..fetch.sources.len()).filter(|i| fetch.sources[*i].lately > 0).collect();
                fetch.phase = Phase::Fetching;
                // From now on each gives all of it, so that the liar shows. What was there before nobody here has given.
                fetch.alone = true;
                let all = fetch.resumed == 0;
                fetch.begin_anew();
                if let ([only], true) = (&gave[..], all) {
                    let only = *only;
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

    pub(super) fn fail(&mut self, cx: &mut Cx<'_, Self>, op: OpId, error: DownloadError<S::Peer>) {
        // Whoever searches again, or is started again, goes on with what has come.
        let keep = matches!(error, DownloadError::NoSource { .. });
        self.drop_download(cx, op, Some(keep));
        cx.finish(op, SharingOutcome::Download(Err(error)));
    }

    /// Forgets a download. If it is not whole, what is there of it is kept for another, or not.
    pub(super) fn drop_download(&mut self, cx: &mut Cx<'_, Self>, op: OpId, keep: Option<bool>) {
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
        if let Some(keep) = keep {
            let job = cx.start(SharingJob::Drop { number: fetch.number, keep });
            self.jobs.insert(job, JobOf::Drop);
        }
    }
}
