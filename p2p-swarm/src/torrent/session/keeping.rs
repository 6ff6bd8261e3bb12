//! What comes back from the worker: what is right, and who lied.

use p2p_core::{Cx, JobError, OpId};

use super::pausing::Again;
use super::tick::EVERY;
use super::{Session, SessionEvent, SessionOutcome, SessionTimer, Stage, TorrentId};
use crate::job::StoreError;
use crate::torrent::address::Addressed;
use crate::torrent::job::{Output, Tag, TorrentDone, TorrentJob, Work};
use crate::torrent::merkle::BLOCK;
use crate::torrent::picker::{Picker, Wrong};
use crate::torrent::wire::{Block, PeerMsg};

impl<P: Addressed> Session<P> {
    pub(super) fn worked(&mut self, cx: &mut Cx<'_, Self>, done: TorrentDone) {
        let TorrentDone { torrent: number, tag, result } = done;
        match tag {
            Tag::Serve(read) => return self.was_served(cx, number, read, result),
            Tag::Read(op) => return self.came_of_reading(cx, number, op, result),
            _ => {}
        }
        if let (Tag::Block(_), Some(torrent)) = (tag, self.torrents.get_mut(&number)) {
            torrent.writing = torrent.writing.saturating_sub(1);
        }
        let written = result.is_ok();
        match (tag, result) {
            (Tag::Open, Ok(Output::Opened { have, check, strange })) => {
                self.opened(cx, number, have, &check, strange);
            }
            (Tag::Check { from, .. }, Ok(Output::Checked(right))) => self.checked(cx, number, from, &right),
            (Tag::Sync, Ok(Output::Synced)) => self.synced(cx, number),
            (Tag::Block(block), Ok(Output::Verified)) => self.verified(cx, number, block.piece),
            (Tag::Block(block), Ok(Output::Wrong)) => self.wrong(cx, number, block.piece),
            (Tag::Trace(piece), Ok(Output::Digests(digests))) => self.traced(cx, number, piece, digests),
            (Tag::Try, Ok(_)) => self.works_again(cx, number, tag),
            (Tag::Move, Ok(_)) => self.moved(cx, number, Ok(())),
            (Tag::Close, Ok(_)) => self.closed(cx, number),
            (_, Ok(_)) => {}
            // More has come than the worker can take in: it is asked for again, though not at once.
            (Tag::Block(block), Err(StoreError::Job(JobError::QueueFull))) => {
                if let Some(torrent) = self.torrents.get_mut(&number) {
                    torrent.starved = true;
                    torrent.running().into_iter().for_each(|picker| picker.lost(block));
                }
            }
            (Tag::Try, Err(StoreError::Io { .. } | StoreError::Job(JobError::QueueFull))) => {}
            (tag, Err(StoreError::Job(JobError::QueueFull))) => self.postpone(cx, number, tag),
            (Tag::Block(block), Err(error)) => {
                if let Some(picker) = self.torrents.get_mut(&number).and_then(|torrent| torrent.running()) {
                    picker.lost(block);
                }
                self.trouble(cx, number, error, Again::Write);
            }
            (Tag::Trace(piece), Err(error)) => {
                // When it can be read it is hashed.
                self.postponed.push((number, tag));
                let length = self.length_of(number, piece);
                self.trouble(cx, number, error, Again::Read(Block { piece, begin: 0, length }));
            }
            (Tag::Move, Err(error)) => self.moved(cx, number, Err(error)),
            // Nobody needs it any more.
            (Tag::Close, Err(_)) => self.closed(cx, number),
            (_, Err(error)) => self.trouble(cx, number, error, Again::Look),
        }
        if let Tag::Block(_) = tag {
            if written {
                self.works_again(cx, number, tag);
            }
            self.fill_waiting(cx, number);
        }
    }

    /// A block was read for a peer, or could not be.
    fn was_served(
        &mut self,
        cx: &mut Cx<'_, Self>,
        number: u64,
        read: u64,
        result: Result<Output, StoreError>,
    ) {
        let (data, failed) = match result {
            Ok(Output::Read(data)) => (Some(data), None),
            // A queue that is full for a moment is nothing to pause for; what cannot be read is.
            Ok(_) | Err(StoreError::Job(_)) => (None, None),
            Err(error) => (None, Some(error)),
        };
        let block = self.served(cx, read, data);
        if let Some(error) = failed {
            self.unread(cx, number, error, block);
        }
    }

    /// A chunk was read for whoever reads a file, or could not be.
    fn came_of_reading(
        &mut self,
        cx: &mut Cx<'_, Self>,
        number: u64,
        op: OpId,
        result: Result<Output, StoreError>,
    ) {
        match result {
            Ok(Output::Read(data)) => self.was_read(cx, op, data),
            Ok(_) | Err(StoreError::Job(_)) => _ = self.was_not_read(op),
            Err(error) => {
                let block = self.was_not_read(op);
                self.unread(cx, number, error, block);
            }
        }
    }

    /// A block could not be read that somebody waits for, or does not any more. What could not be made safe when its file
    /// was opened is everybody's trouble.
    fn unread(&mut self, cx: &mut Cx<'_, Self>, number: u64, error: StoreError, block: Option<Block>) {
        match (block, &error) {
            (Some(block), _) => self.trouble(cx, number, error, Again::Read(block)),
            (None, StoreError::Unsynced { .. }) => self.trouble(cx, number, error, Again::Look),
            (None, _) => {}
        }
    }

    fn length_of(&self, number: u64, piece: u32) -> u32 {
        let info = self.torrents.get(&number).and_then(|torrent| torrent.info.as_ref());
        info.map_or(0, |info| info.piece_len(piece).min(BLOCK))
    }

    /// The worker has no room for a job: it gets it in a second.
    fn postpone(&mut self, cx: &mut Cx<'_, Self>, number: u64, tag: Tag) {
        // What was closed last has nothing else to wait for.
        if self.torrents.is_empty() && self.postponed.is_empty() {
            cx.set_timer(EVERY, SessionTimer::Tick);
        }
        self.postponed.push((number, tag));
    }

    /// Hands out again what was postponed, as far as it is still to be done.
    pub(super) fn hand_out_postponed(&mut self, cx: &mut Cx<'_, Self>) {
        for (number, tag) in std::mem::take(&mut self.postponed) {
            if tag == Tag::Close {
                cx.start(TorrentJob { torrent: number, tag, work: Work::Close { have: None } });
            }
            let Some(torrent) = self.torrents.get_mut(&number) else { continue };
            match (tag, &torrent.stage) {
                (Tag::Open, Stage::Opening(_)) => torrent.open(cx),
                (Tag::Check { from, until }, Stage::Opening(_)) => torrent.check(cx, from..until),
                (Tag::Sync | Tag::Save, Stage::Running(_)) => torrent.sync(cx, tag),
                (Tag::Move, _) => self.move_on(cx, number),
                (Tag::Trace(piece), Stage::Running(_)) if torrent.serves() => {
                    torrent.start(cx, tag, Work::Digests { piece });
                }
                // What cannot be read yet is read later.
                (Tag::Trace(_), Stage::Running(_)) => self.postponed.push((number, tag)),
                _ => {}
            }
        }
    }

    /// Peers that nothing was asked of since too much was unwritten get their turn.
    fn fill_waiting(&mut self, cx: &mut Cx<'_, Self>, number: u64) {
        let unwritten = self.config.unwritten;
        if self.torrents.get(&number).is_some_and(|torrent| torrent.writing + 1 == unwritten) {
            self.fill_all(cx, number);
        }
    }

    /// If all that is wanted is there it is made safe; then it is done.
    pub(super) fn finish(&mut self, cx: &mut Cx<'_, Self>, number: u64) {
        let Some(torrent) = self.torrents.get_mut(&number) else { return };
        if torrent.picker().is_some_and(Picker::is_done) && !torrent.done && !torrent.syncing {
            torrent.syncing = true;
            torrent.sync(cx, Tag::Sync);
        }
    }

    fn synced(&mut self, cx: &mut Cx<'_, Self>, number: u64) {
        let Some(torrent) = self.torrents.get_mut(&number).filter(|torrent| torrent.syncing) else { return };
        torrent.syncing = false;
        // More may be wanted by now.
        torrent.done = torrent.picker().is_some_and(Picker::is_done);
        if !torrent.done {
            return;
        }
        let now = cx.now();
        if torrent.picker().is_some_and(|picker| picker.have().is_full()) {
            torrent.tiers.values_mut().for_each(|tiers| tiers.completed(now));
        }
        for waiting in torrent.waiting.drain(..) {
            cx.finish(waiting.op, SessionOutcome::Done(Ok(())));
        }
        // If anything could not be written it is not wanted any more.
        if torrent.serves() {
            self.go_on(cx, number);
        }
        cx.emit(SessionEvent::Done(TorrentId(number)));
        self.say_what_is_wanted(cx, number);
        self.announce(cx, number);
    }

    /// A piece is right.
    fn verified(&mut self, cx: &mut Cx<'_, Self>, number: u64, piece: u32) {
        let Some(torrent) = self.torrents.get_mut(&number) else { return };
        let Some(picker) = torrent.running() else { return };
        let wanted = picker.wants(piece);
        let wrong = picker.verified(piece);
        torrent.fresh = true;
        if let Some(wrong) = wrong {
            // Its blocks say now who lied before.
            self.suspects.insert((number, piece), wrong);
            torrent.start(cx, Tag::Trace(piece), Work::Digests { piece });
        }
        let peers: Vec<P> = torrent.peers.iter().copied().collect();
        for peer in peers {
            let Some(conn) = self.conns.get_mut(&peer) else { continue };
            cx.send(peer, PeerMsg::Have(piece));
            conn.told = cx.now();
            if wanted && conn.have.contains(piece.into()) {
                conn.wanted = conn.wanted.saturating_sub(1);
                self.interest(cx, peer);
            }
        }
        self.readers_go_on(cx, number);
        self.finish(cx, number);
    }

    /// A piece is wrong. If one peer alone has sent it, that one has lied; otherwise each block is hashed, to be compared
    /// with the right one later, and the next attempt is one peer's alone.
    fn wrong(&mut self, cx: &mut Cx<'_, Self>, number: u64, piece: u32) {
        let Some(torrent) = self.torrents.get_mut(&number) else { return };
        let length = torrent.info.as_ref().map_or(0, |info| info.piece_len(piece));
        torrent.wasted += u64::from(length);
        let Some(picker) = torrent.running() else { return };
        let senders = picker.senders(piece);
        let alone = senders.first().filter(|first| senders.iter().all(|peer| peer == *first));
        match alone.copied() {
            Some(liar) => {
                picker.retry(piece, None, None);
                self.ban(cx, number, liar);
                self.fill_all(cx, number);
            }
            None => torrent.start(cx, Tag::Trace(piece), Work::Digests { piece }),
        }
    }

    /// Each block of a piece was hashed.
    fn traced(&mut self, cx: &mut Cx<'_, Self>, number: u64, piece: u32, digests: Vec<[u8; 32]>) {
        if let Some(wrong) = self.suspects.remove(&(number, piece)) {
            let mut liars = Vec::new();
            for Wrong { senders, digests: theirs } in wrong {
                let differ =
                    senders.iter().zip(theirs).zip(&digests).filter(|((_, theirs), right)| theirs != *right);
                liars.extend(differ.map(|((peer, _), _)| *peer));
            }
            liars.sort_unstable();
            liars.dedup();
            return liars.into_iter().for_each(|liar| self.ban(cx, number, liar));
        }
        let Some(torrent) = self.torrents.get_mut(&number) else { return };
        let peers: Vec<P> = torrent.peers.iter().copied().collect();
        let Some(picker) = torrent.running() else { return };
        let senders = picker.senders(piece);
        let can = |peer: &P| {
            self.conns.get(peer).is_some_and(|conn| !conn.chokes && conn.have.contains(piece.into()))
        };
        // Somebody who had no part in it, if there is anybody: that one is likely to be honest.
        let (others, same): (Vec<P>, Vec<P>) =
            peers.into_iter().filter(can).partition(|peer| !senders.contains(peer));
        let alone = cx.rng().choose(if others.is_empty() { &same } else { &others }).copied();
        picker.retry(piece, Some(Wrong { senders, digests }), alone);
        self.fill_all(cx, number);
    }
}
