//! A torrent that its user has paused, until it is resumed.
//!
//! It takes part in no swarm meanwhile: its connections are closed and nobody is dialled or let in, web seeds are asked for
//! nothing, and trackers and other sources hear that it stops, as when it is removed. What was asked for is to be asked for
//! again, and what has come stays: pieces that were begun are gone on with. It is made safe and written down, behind whatever
//! is still to be written, so that it is as good as removed if the process ends.
//!
//! Whom it was connected to it remembers without a grudge: those are the first that it dials when it goes on.

use p2p_core::{Cx, Time};

use super::{Session, SessionEvent, Stage, TorrentId};
use crate::torrent::address::Addressed;
use crate::torrent::job::Tag;

impl<P: Addressed> Session<P> {
    /// Pauses a torrent; whether there is such a one.
    pub(super) fn pause(&mut self, cx: &mut Cx<'_, Self>, number: u64) -> bool {
        let now = cx.now();
        let Some(torrent) = self.torrents.get_mut(&number) else { return false };
        if torrent.held || matches!(torrent.stage, Stage::Failed(_)) {
            return true;
        }
        torrent.held = true;
        if !torrent.syncing && torrent.picker().is_some() {
            (torrent.fresh, torrent.saved) = (false, now);
            torrent.sync(cx, Tag::Save);
        }
        self.forget_fetches(|of| of == number);
        self.say_goodbye(cx, number);
        self.hang_up(cx, number);
        self.line.retain(|_, of| *of != number);
        cx.emit(SessionEvent::Paused(TorrentId(number), None));
        true
    }

    /// Lets a torrent go on; whether there is such a one.
    pub(super) fn resume(&mut self, cx: &mut Cx<'_, Self>, number: u64) -> bool {
        let Some(torrent) = self.torrents.get_mut(&number) else { return false };
        if let Some(paused) = &mut torrent.paused {
            paused.try_at(Time::ZERO);
        }
        if !std::mem::take(&mut torrent.held) {
            return true;
        }
        if torrent.paused.is_none() && !matches!(torrent.stage, Stage::Failed(_)) {
            cx.emit(SessionEvent::Resumed(TorrentId(number)));
        }
        self.dial(cx, number);
        self.fetch(cx, number);
        self.announce(cx, number);
        true
    }
}
