//! What trackers and other sources of peers are told, and what they tell.
//!
//! The session decides what is to be announced, and when; whoever has asked it by [`Announcing`] does it and
//! says what came of it, by [`Announced`]. What is heard besides is [`Heard`].

use std::net::SocketAddr;
use std::time::Duration;

use p2p_core::{Cx, OpId, Time};

use super::{Session, SessionItem, SessionOutcome, SessionTimer, Stage, Torrent};
use crate::torrent::address::Addressed;
use crate::torrent::candidates::Origin;
use crate::torrent::command::{Announced, Heard, ToAnnounce};
use crate::torrent::metainfo::SwarmId;
use crate::torrent::source::SourceKind;
use crate::torrent::tiers::Due;
use crate::torrent::tracker::{Announce, AnnounceReply, Event, MAX_PEERS, TrackerError};

/// Kinds of sources. 8.
const MAX_SOURCES: usize = 8;
/// Announces to one kind that wait for an answer at a time. 64.
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
    source: SourceKind,
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
    /// Somebody announces for this session from now on; who did before, at sources of this kind, does so no more. Trackers
    /// are the same, whoever asks them; another source of the same kind has heard of nothing yet.
    pub(super) fn announcer(&mut self, cx: &mut Cx<'_, Self>, op: OpId, kind: SourceKind) {
        if self.announcers.len() >= MAX_SOURCES && !self.announcers.contains_key(&kind) {
            return cx.finish(op, SessionOutcome::Stopped);
        }
        if let Some(before) = self.announcers.insert(kind, op) {
            cx.finish(before, SessionOutcome::Stopped);
        }
        self.forget_announces(kind);
        if self.key == 0 {
            self.key = cx.rng().next_u64() as u32;
        }
        for torrent in self.torrents.values_mut() {
            torrent.forget_sources(|of| of == kind && of != SourceKind::Trackers);
            torrent.find_sources(&self.announcers, cx.rng());
        }
        let numbers: Vec<u64> = self.torrents.keys().copied().collect();
        numbers.into_iter().for_each(|number| self.announce(cx, number));
    }

    /// An asker is gone: if it announced nobody does any more.
    pub(super) fn announcer_gone(&mut self, cx: &mut Cx<'_, Self>, op: OpId) {
        let kind = self.announcers.iter().find(|(_, announcer)| **announcer == op).map(|(kind, _)| *kind);
        if let Some(kind) = kind {
            self.announcers.remove(&kind);
            self.forget_announces(kind);
            self.try_to_stop(cx);
        }
    }

    /// What one kind was asked to announce is to be announced again.
    fn forget_announces(&mut self, kind: SourceKind) {
        let all = std::mem::take(&mut self.announces).into_iter();
        let (forgotten, others): (Vec<_>, Vec<_>) = all.partition(|(_, open)| open.source == kind);
        self.announces.extend(others);
        for (_, open) in forgotten.into_iter().filter(|(_, open)| !open.goodbye) {
            let torrent = self.torrents.get_mut(&open.torrent);
            let tiers = torrent.and_then(|torrent| torrent.tiers.get_mut(&(open.swarm, kind)));
            tiers.into_iter().for_each(|tiers| tiers.forget());
        }
        self.goodbyes.retain(|(_, wanted)| wanted.source != kind);
    }

    /// What a torrent is has become known. Open sources begin anew: of a private torrent none is asked any more, and of
    /// another they have not been told who is here. What they were asked before counts for nothing.
    pub(super) fn forget_open_sources(&mut self, number: u64) {
        let Some(torrent) = self.torrents.get_mut(&number) else { return };
        torrent.forget_sources(|of| of != SourceKind::Trackers);
        self.announces.retain(|_, open| open.torrent != number || open.source == SourceKind::Trackers);
    }

    /// Has a torrent's swarms announced, as far as that is due.
    pub(super) fn announce(&mut self, cx: &mut Cx<'_, Self>, number: u64) {
        let now = cx.now();
        let Some(torrent) = self.torrents.get(&number).filter(|_| !self.announcers.is_empty()) else {
            return;
        };
        // What is there is not known yet, or nothing more will be.
        let quiet = torrent.held || matches!(torrent.stage, Stage::Opening(_) | Stage::Failed(_));
        if torrent.tiers.is_empty() || quiet {
            return;
        }
        let done = torrent.picker().is_some_and(|picker| picker.have().is_full());
        let due = torrent.tiers.iter().filter(|(_, tiers)| tiers.is_due(now)).map(|(place, _)| *place);
        let due: Vec<(SwarmId, SourceKind)> = due.collect();
        for (swarm, kind) in due {
            // It was removed, or paused, and is back: a tracker that heard of the end last would forget it.
            if !self.announcers.contains_key(&kind)
                || self.under_way(kind) >= AT_ONCE
                || self.is_leaving(&swarm, kind)
            {
                continue;
            }
            let torrent = self.torrents.get_mut(&number);
            let due = torrent.and_then(|torrent| torrent.tiers.get_mut(&(swarm, kind))?.due(now, done));
            if let Some(due) = due {
                let announce = self.wording(number, swarm, kind, &due);
                self.hand_out(cx, number, announce);
            }
        }
    }

    /// How many announces to one kind wait for an answer.
    fn under_way(&self, kind: SourceKind) -> usize {
        self.announces.values().filter(|open| open.source == kind).count()
    }

    /// Whether a source is still to hear, or just hears, that this session has left a swarm.
    fn is_leaving(&self, swarm: &SwarmId, kind: SourceKind) -> bool {
        let ends = |open: &Open| {
            (open.swarm, open.source) == (*swarm, kind) && (open.goodbye || open.then.is_some())
        };
        self.announces.values().any(ends)
            || self
                .goodbyes
                .iter()
                .any(|(_, wanted)| (wanted.announce.swarm, wanted.source) == (*swarm, kind))
    }

    fn wording(&self, number: u64, swarm: SwarmId, source: SourceKind, due: &Due) -> ToAnnounce {
        let torrent = self.torrents.get(&number);
        // What may turn out to be private is sought in the open, but nobody is told who seeks.
        let may_tell =
            source == SourceKind::Trackers || torrent.is_some_and(|torrent| torrent.info.is_some());
        let announce = Announce {
            swarm,
            peer: self.name,
            port: self.listens.filter(|_| may_tell).unwrap_or_default(),
            uploaded: torrent.map_or(0, |torrent| torrent.uploaded),
            downloaded: torrent.map_or(0, |torrent| torrent.downloaded),
            left: torrent.map_or(UNKNOWN, Torrent::left),
            event: due.event,
            key: self.key,
            want: Some(if due.event == Event::Stopped { 0 } else { WANT }),
            tracker_id: due.tracker_id.clone(),
        };
        ToAnnounce { number: 0, source, url: due.url.clone(), announce }
    }

    fn hand_out(&mut self, cx: &mut Cx<'_, Self>, torrent: u64, mut wanted: ToAnnounce) {
        let Some(announcer) = self.announcers.get(&wanted.source).copied() else { return };
        self.next_announce += 1;
        wanted.number = self.next_announce;
        let ToAnnounce { source, ref url, ref announce, .. } = wanted;
        let (swarm, goodbye) = (announce.swarm, announce.event == Event::Stopped);
        let open = Open { torrent, swarm, source, url: url.clone(), goodbye, then: None, since: cx.now() };
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
        let same = |(_, wanted): &(u64, ToAnnounce)| wanted.source == open.source;
        let next = || self.goodbyes.iter().position(same).and_then(|at| self.goodbyes.remove(at));
        if let Some((torrent, wanted)) = open.then.map(|then| (open.torrent, then)).or_else(next) {
            self.hand_out(cx, torrent, wanted);
        }
        if let Ok(AnnounceReply { external: Some(ip), .. }) = &result {
            self.here.seen(*ip);
        }
        if !open.goodbye
            && let Some(torrent) = self.torrents.get_mut(&open.torrent)
            && let Some(tiers) = torrent.tiers.get_mut(&(open.swarm, open.source))
        {
            match &result {
                Ok(reply) => {
                    tiers.answered(now, Ok(reply), cx.rng());
                    self.hear(cx, open.torrent, open.source, &reply.peers);
                }
                Err(why) => tiers.answered(now, Err(why.clone()), cx.rng()),
            }
            // If it has failed there may be another tracker.
            self.announce(cx, open.torrent);
        }
        self.try_to_stop(cx);
        true
    }

    /// A source names peers of a swarm unasked, or before its answer.
    pub(super) fn heard_from(&mut self, cx: &mut Cx<'_, Self>, heard: Heard) -> bool {
        let Some(number) = self.swarms.get(&heard.swarm).copied() else { return false };
        self.hear(cx, number, heard.source, &heard.peers);
        true
    }

    /// A source has named peers. Of a private torrent only trackers may (BEP 27).
    fn hear(&mut self, cx: &mut Cx<'_, Self>, number: u64, source: SourceKind, peers: &[SocketAddr]) {
        let Some(torrent) = self.torrents.get_mut(&number) else { return };
        let origin = match source {
            SourceKind::Trackers => Origin::Tracker,
            SourceKind::Open(_) if torrent.private() => return,
            SourceKind::Open(_) => Origin::Open,
        };
        peers.iter().take(MAX_PEERS).for_each(|addr| torrent.candidates.hear(*addr, origin));
        self.dial(cx, number);
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

    /// A torrent goes, or rests: those are told that know of it.
    pub(super) fn say_goodbye(&mut self, cx: &mut Cx<'_, Self>, number: u64) {
        let Some(torrent) = self.torrents.get_mut(&number) else { return };
        let due = torrent
            .tiers
            .iter_mut()
            .flat_map(|(place, tiers)| tiers.stop().into_iter().map(|due| (*place, due)));
        let due: Vec<((SwarmId, SourceKind), Due)> = due.collect();
        for ((swarm, kind), due) in &due {
            if !self.announcers.contains_key(kind) {
                continue;
            }
            let wanted = self.wording(number, *swarm, *kind, due);
            let same = |open: &Open| {
                (open.torrent, open.swarm, open.source) == (number, *swarm, *kind)
                    && open.url == due.url
                    && !open.goodbye
            };
            match kind {
                // It may take long to find anybody, and nobody there mistakes the order.
                SourceKind::Open(_) => self.announces.retain(|_, open| !same(open)),
                SourceKind::Trackers => {
                    if let Some(open) = self.announces.values_mut().find(|open| same(open)) {
                        open.then = Some(wanted);
                        continue;
                    }
                }
            }
            if self.under_way(*kind) < AT_ONCE {
                self.hand_out(cx, number, wanted);
            } else if self.goodbyes.len() < MAX_GOODBYES {
                self.goodbyes.push_back((number, wanted));
            }
        }
    }

    /// All torrents go; that is over when all trackers have heard it, or after a while.
    pub(super) fn stop(&mut self, cx: &mut Cx<'_, Self>, op: OpId) {
        let numbers: Vec<u64> = self.torrents.keys().copied().collect();
        numbers.into_iter().for_each(|number| _ = self.remove(cx, number, None));
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
