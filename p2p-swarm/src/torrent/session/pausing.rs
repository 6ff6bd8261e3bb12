//! A torrent whose files cannot be written or read: it pauses, and goes on when they can be.
//!
//! Nothing of it is lost, and nobody has to do anything but make room. After a while what has failed is tried again, after
//! longer each time, also if it pauses again soon: one block is asked for where blocks could not be written, of each peer in
//! turn, and what has the torrent is served meanwhile; one block is read where one could not be. Where files could not be
//! made safe nobody knows what is there of them: then it is looked at anew, as when the torrent was taken on.

use std::collections::VecDeque;
use std::time::Duration;

use p2p_core::{Cx, Time};

use super::moving::Moving;
use super::opening::Opening;
use super::{Session, SessionEvent, Stage, Torrent, TorrentId};
use crate::job::StoreError;
use crate::torrent::address::Addressed;
use crate::torrent::command::TorrentError;
use crate::torrent::job::{Tag, Work};
use crate::torrent::wire::{Block, PeerMsg};

/// How long it is left alone at first, and at most; the time doubles with each attempt. 5 s, 60 s.
const REST: Duration = Duration::from_secs(5);
const LONGEST_REST: Duration = Duration::from_secs(60);
/// How long it must go well before the time is short again. 60 s.
const WELL: Duration = Duration::from_secs(60);

/// What shows that it can go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Again {
    /// A block that comes can be written.
    Write,
    /// This block can be read.
    Read(Block),
    /// What is there can be looked at.
    Look,
}

/// A torrent that is paused.
#[derive(Debug)]
pub(super) struct Paused<P> {
    why: StoreError,
    again: Again,
    rest: Duration,
    /// When it is tried again.
    at: Time,
    /// The block that it is tried with, where one is asked for.
    block: Option<Block>,
    /// Whom it was asked of last.
    last: Option<P>,
}

impl<P: Copy> Paused<P> {
    pub(super) fn why(&self) -> TorrentError {
        self.why.clone().into()
    }

    /// Whether nothing is read for peers, either.
    pub(super) fn serves(&self) -> bool {
        self.again == Again::Write
    }

    /// Whether one block may be asked for, to see whether it can be written.
    pub(super) fn tries(&self, now: Time) -> bool {
        self.again == Again::Write && self.block.is_none() && now >= self.at
    }

    /// This is the block.
    pub(super) fn asked(&mut self, block: Block, now: Time) {
        self.block = Some(block);
        self.wait(now);
    }

    /// It is asked of this peer.
    pub(super) fn asked_of(&mut self, peer: P) {
        self.last = Some(peer);
    }

    pub(super) fn last(&self) -> Option<P> {
        self.last
    }

    /// A peer does not send these: if what it is tried with is one of them another is asked at once.
    pub(super) fn released(&mut self, asked: &VecDeque<(Block, Time)>) {
        if asked.iter().any(|(block, _)| self.block == Some(*block)) {
            self.block = None;
            self.at = Time::ZERO;
        }
    }

    /// It is tried again then.
    pub(super) fn try_at(&mut self, at: Time) {
        self.at = at;
    }

    fn wait(&mut self, now: Time) {
        self.at = now + self.rest;
        self.rest = (self.rest * 2).min(LONGEST_REST);
    }
}

impl<P: Addressed> Session<P> {
    /// A job of a torrent has failed. It pauses, if it is the file system that failed; otherwise it ends.
    pub(super) fn trouble(&mut self, cx: &mut Cx<'_, Self>, number: u64, why: StoreError, again: Again) {
        let again = match why {
            StoreError::Io { .. } => again,
            StoreError::Unsynced { .. } => Again::Look,
            _ => return self.give_up(cx, number, why.into()),
        };
        let now = cx.now();
        let Some(torrent) = self.torrents.get_mut(&number) else { return };
        if let Stage::Failed(_) = torrent.stage {
            return;
        }
        match &mut torrent.paused {
            // What was under way when it paused fails, too; and to look anew is more than to try.
            Some(paused) if paused.again == again || paused.again == Again::Look => paused.why = why,
            paused => {
                let first = paused.is_none();
                let went_on = torrent.rested.filter(|(_, since)| now - *since < WELL);
                let rest = went_on.map_or(REST, |(rest, _)| rest);
                let mut new = Paused { why: why.clone(), again, rest, at: now, block: None, last: None };
                new.wait(now);
                *paused = Some(new);
                if first {
                    cx.emit(SessionEvent::Paused(TorrentId(number), Some(why.into())));
                }
            }
        }
        self.rest(cx, number, again);
    }

    /// Nothing more is asked for, and what was is not waited for; where nothing can be read nobody may ask, either.
    fn rest(&mut self, cx: &mut Cx<'_, Self>, number: u64, again: Again) {
        self.forget_fetches(|of| of == number);
        let Some(torrent) = self.torrents.get_mut(&number) else { return };
        if again == Again::Look {
            torrent.stage = Stage::Opening(Opening::default());
            (torrent.syncing, torrent.done) = (false, false);
            return self.hang_up(cx, number);
        }
        torrent.paused.iter_mut().for_each(|paused| paused.block = None);
        let peers: Vec<P> = torrent.peers.iter().copied().collect();
        for peer in peers {
            for (block, _) in self.release(peer, |_| false) {
                cx.send(peer, PeerMsg::Cancel(block));
            }
            if again != Again::Write {
                self.choke(cx, peer);
            }
        }
    }

    /// A block was written, or read: if it is what a paused torrent was tried with, it goes on.
    pub(super) fn works_again(&mut self, cx: &mut Cx<'_, Self>, number: u64, tag: Tag) {
        let Some(torrent) = self.torrents.get_mut(&number) else { return };
        let tried = torrent.paused.as_ref().is_some_and(|paused| match tag {
            Tag::Block(block) => paused.block == Some(block),
            Tag::Try => matches!(paused.again, Again::Read(_)),
            _ => false,
        });
        if tried {
            self.go_on(cx, number);
            self.fill_all(cx, number);
            self.fetch(cx, number);
        }
    }

    /// It is not paused any more.
    pub(super) fn go_on(&mut self, cx: &mut Cx<'_, Self>, number: u64) {
        let Some(torrent) = self.torrents.get_mut(&number) else { return };
        if let Some(paused) = torrent.paused.take() {
            torrent.rested = Some((paused.rest, cx.now()));
            if !torrent.held {
                cx.emit(SessionEvent::Resumed(TorrentId(number)));
            }
        }
    }

    /// Tries again what has failed, if it is time.
    pub(super) fn try_again(&mut self, cx: &mut Cx<'_, Self>, number: u64) {
        let now = cx.now();
        // What is to go elsewhere is looked at also while its user has paused it.
        let tries = |torrent: &&mut Torrent<P>| !torrent.held || torrent.moving.is_some();
        let Some(torrent) = self.torrents.get_mut(&number).filter(tries) else { return };
        // Nor is it looked at where its files were while they go elsewhere.
        let looked_at = torrent.is_looked_at() || torrent.moving.as_ref().is_some_and(Moving::is_begun);
        // Whatever a peer is asked for, or is written, is what it is tried with.
        let asks = |peer| self.conns.get(peer).is_some_and(|conn| !conn.asked.is_empty());
        let out = torrent.writing > 0 || torrent.peers.iter().any(asks);
        let Some(paused) = torrent.paused.as_mut().filter(|paused| now >= paused.at) else { return };
        match paused.again {
            Again::Write if out => {}
            Again::Write => {
                paused.block = None;
                self.fill_all(cx, number);
                self.fetch(cx, number);
            }
            Again::Read(block) => {
                paused.wait(now);
                torrent.start(cx, Tag::Try, Work::Read(block));
            }
            // It is being looked at as long as something is hashed.
            Again::Look if looked_at => {}
            Again::Look => {
                paused.wait(now);
                torrent.open(cx);
            }
        }
    }
}
