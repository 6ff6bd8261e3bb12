//! What trackers are told, and what they tell.
//!
//! The session decides what is to be announced, and when; whoever has asked it by [`Announcing`] does it and
//! says what came of it, by [`Announced`].

use std::time::Duration;

use p2p_core::{Cx, OpId, Time};

use super::{Session, SessionItem, SessionOutcome, SessionTimer, Stage, Torrent};
use crate::torrent::address::Addressed;
use crate::torrent::candidates::Origin;
use crate::torrent::command::{Announced, ToAnnounce};
use crate::torrent::metainfo::SwarmId;
use crate::torrent::tiers::Due;
use crate::torrent::tracker::{Announce, AnnounceReply, Event, TrackerError};

/// Announces that wait for an answer at a time. 64.
const AT_ONCE: usize = 64;
/// How long one may take. 3 minutes: who asks gives up before.
const PATIENCE: Duration = Duration::from_secs(180);
/// Goodbyes that wait for their turn; more are not said. 10,000.
const MAX_GOODBYES: usize = 10_000;
/// How many peers are asked for. 50 (BEP 3).
const WANT: u32 = 50;
/// How many bytes are said to be missing while that is not known: not none, which only seeds say.
const UNKNOWN: u64 = 16 << 10;
/// How long a session that stops waits for trackers to hear it. 3 s.
const GOODBYE: Duration = Duration::from_secs(3);

/// An announce that waits for an answer.
#[derive(Debug)]
pub(super) struct Open {
    torrent: u64,
    swarm: SwarmId,
    url: String,
    goodbye: bool,
    /// What is told to the same tracker next: were both on their way at once the first could come last.
    then: Option<ToAnnounce>,
    since: Time,
}

impl<P: Addressed> Torrent<P> {
    /// Bytes that are missing of all files.
    fn left(&self) -> u64 {
        let (Some(info), Some(picker)) = (&self.info, self.picker()) else { return UNKNOWN };
        match picker.have().is_full() {
            true => 0,
            false => {
                let missing =
                    (0..info.piece_count()).filter(|piece| !picker.have().contains((*piece).into()));
                missing.map(|piece| u64::from(info.piece_len(piece))).sum()
            }
        }
    }
}

impl<P: Addressed> Session<P> {
    /// Somebody announces for this session from now on; who did before does so no more.
    pub(super) fn announcer(&mut self, cx: &mut Cx<'_, Self>, op: OpId) {
        if let Some(before) = self.announcer.replace(op) {
            cx.finish(before, SessionOutcome::Stopped);
        }
        self.forget_announces();
        if self.key == 0 {
            self.key = cx.rng().next_u64() as u32;
        }
        let numbers: Vec<u64> = self.torrents.keys().copied().collect();
        numbers.into_iter().for_each(|number| self.announce(cx, number));
    }

    /// Nobody announces any more.
    pub(super) fn forget_announces(&mut self) {
        for open in std::mem::take(&mut self.announces).into_values().filter(|open| !open.goodbye) {
            let torrent = self.torrents.get_mut(&open.torrent);
            let tiers = torrent.and_then(|torrent| torrent.tiers.get_mut(&open.swarm));
            tiers.into_iter().for_each(|tiers| tiers.forget());
        }
        self.goodbyes.clear();
    }

    /// Has a torrent's swarms announced, as far as that is due.
    pub(super) fn announce(&mut self, cx: &mut Cx<'_, Self>, number: u64) {
        let now = cx.now();
        let Some(torrent) = self.torrents.get_mut(&number).filter(|_| self.announcer.is_some()) else {
            return;
        };
        // What is there is not known yet, or nothing more will be.
        if torrent.tiers.is_empty() || matches!(torrent.stage, Stage::Opening | Stage::Failed(_)) {
            return;
        }
        let done = torrent.picker().is_some_and(|picker| picker.have().is_full());
        let swarms: Vec<SwarmId> = torrent.tiers.keys().copied().collect();
        for swarm in swarms {
            if self.announces.len() >= AT_ONCE {
                return;
            }
            // It was removed and is back: a tracker that heard of the end last would forget it.
            if self.is_leaving(&swarm) {
                continue;
            }
            let torrent = self.torrents.get_mut(&number);
            let due = torrent.and_then(|torrent| torrent.tiers.get_mut(&swarm)?.due(now, done));
            if let Some(due) = due {
                let announce = self.wording(number, swarm, &due);
                self.hand_out(cx, number, announce);
            }
        }
    }

    /// Whether a tracker is still to hear, or just hears, that this session has left a swarm.
    fn is_leaving(&self, swarm: &SwarmId) -> bool {
        let ends = |open: &Open| open.swarm == *swarm && (open.goodbye || open.then.is_some());
        self.announces.values().any(ends)
            || self.goodbyes.iter().any(|(_, wanted)| wanted.announce.swarm == *swarm)
    }

    fn wording(&self, number: u64, swarm: SwarmId, due: &Due) -> ToAnnounce {
        let torrent = self.torrents.get(&number);
        let announce = Announce {
            swarm,
            peer: self.name,
            port: self.listens.unwrap_or_default(),
            uploaded: torrent.map_or(0, |torrent| torrent.uploaded),
            downloaded: torrent.map_or(0, |torrent| torrent.downloaded),
            left: torrent.map_or(UNKNOWN, Torrent::left),
            event: due.event,
            key: self.key,
            want: Some(if due.event == Event::Stopped { 0 } else { WANT }),
            tracker_id: due.tracker_id.clone(),
        };
        ToAnnounce { number: 0, url: due.url.clone(), announce }
    }

    fn hand_out(&mut self, cx: &mut Cx<'_, Self>, torrent: u64, mut wanted: ToAnnounce) {
        let Some(announcer) = self.announcer else { return };
        self.next_announce += 1;
        wanted.number = self.next_announce;
        let (swarm, goodbye) = (wanted.announce.swarm, wanted.announce.event == Event::Stopped);
        let open = Open { torrent, swarm, url: wanted.url.clone(), goodbye, then: None, since: cx.now() };
        self.announces.insert(wanted.number, open);
        cx.item(announcer, SessionItem::Announce(wanted));
    }

    /// An announce has come to an end.
    pub(super) fn announced(
        &mut self,
        cx: &mut Cx<'_, Self>,
        Announced { number, result }: Announced,
    ) -> bool {
        let now = cx.now();
        let Some(open) = self.announces.remove(&number) else { return false };
        if let Some((torrent, wanted)) =
            open.then.map(|then| (open.torrent, then)).or_else(|| self.goodbyes.pop_front())
        {
            self.hand_out(cx, torrent, wanted);
        }
        if !open.goodbye
            && let Some(torrent) = self.torrents.get_mut(&open.torrent)
            && let Some(tiers) = torrent.tiers.get_mut(&open.swarm)
        {
            match &result {
                Ok(reply) => {
                    tiers.answered(now, Ok(reply), cx.rng());
                    reply.peers.iter().for_each(|addr| torrent.candidates.hear(*addr, Origin::Tracker));
                    self.dial(cx, open.torrent);
                }
                Err(why) => tiers.answered(now, Err(why.clone()), cx.rng()),
            }
            // If it has failed there may be another tracker.
            self.announce(cx, open.torrent);
        }
        self.try_to_stop(cx);
        true
    }

    /// Gives up announces that take too long.
    pub(super) fn overdue(&mut self, cx: &mut Cx<'_, Self>) {
        let now = cx.now();
        let late = self.announces.iter().filter(|(_, open)| now - open.since > PATIENCE);
        let late: Vec<u64> = late.map(|(number, _)| *number).collect();
        for number in late {
            let result: Result<AnnounceReply, TrackerError> = Err(TrackerError::TimedOut);
            self.announced(cx, Announced { number, result });
        }
    }

    /// A torrent goes: its trackers are told.
    pub(super) fn say_goodbye(&mut self, cx: &mut Cx<'_, Self>, number: u64) {
        let Some(torrent) = self.torrents.get_mut(&number) else { return };
        let due = torrent.tiers.iter_mut().map(|(swarm, tiers)| (*swarm, tiers.stop()));
        let due: Vec<(SwarmId, Vec<Due>)> = due.collect();
        if self.announcer.is_none() {
            return;
        }
        for (swarm, due) in due.iter().flat_map(|(swarm, due)| due.iter().map(move |due| (*swarm, due))) {
            let wanted = self.wording(number, swarm, due);
            let same = |open: &&mut Open| {
                (open.torrent, open.swarm, &open.url) == (number, swarm, &due.url) && !open.goodbye
            };
            if let Some(open) = self.announces.values_mut().find(same) {
                open.then = Some(wanted);
            } else if self.announces.len() < AT_ONCE {
                self.hand_out(cx, number, wanted);
            } else if self.goodbyes.len() < MAX_GOODBYES {
                self.goodbyes.push_back((number, wanted));
            }
        }
    }

    /// All torrents go; that is over when all trackers have heard it, or after a while.
    pub(super) fn stop(&mut self, cx: &mut Cx<'_, Self>, op: OpId) {
        let numbers: Vec<u64> = self.torrents.keys().copied().collect();
        numbers.into_iter().for_each(|number| _ = self.remove(cx, number));
        self.stopping.push(op);
        cx.set_timer(GOODBYE, SessionTimer::Stop);
        self.try_to_stop(cx);
    }

    fn try_to_stop(&mut self, cx: &mut Cx<'_, Self>) {
        if self.announces.is_empty() && self.goodbyes.is_empty() {
            self.stopped(cx);
        }
    }

    /// Whoever waits for the end waits no longer.
    pub(super) fn stopped(&mut self, cx: &mut Cx<'_, Self>) {
        if !self.stopping.is_empty() {
            cx.clear_timer(SessionTimer::Stop);
            self.stopping.drain(..).for_each(|op| cx.finish(op, SessionOutcome::Stopped));
        }
    }
}

#[cfg(test)]
mod tests;
