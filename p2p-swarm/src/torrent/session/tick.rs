//! Once a second: rates, chokes, and what is late.

use std::time::Duration;

use p2p_core::Cx;

use super::gathering::HASH_BUDGET;
use super::{Session, SessionItem, SessionTimer, Stage};
use crate::torrent::address::Addressed;
use crate::torrent::choker::{self, Candidate};
use crate::torrent::wire::PeerMsg;

/// How often. 1 s.
pub(super) const EVERY: Duration = Duration::from_secs(1);
/// How often what has come is made safe. 60 s.
pub(super) const SAVE: Duration = Duration::from_secs(60);
/// Ticks between two rounds of chokes. 10 (Cohen 2003).
const ROUND: u64 = 10;
/// Rounds between two optimistic unchokes. 3 (Cohen 2003).
const OPTIMISTIC: u64 = 3;
/// How long nothing was said before a sign of life is sent. 100 s: peers expect one every two minutes.
const QUIET: Duration = Duration::from_secs(100);

impl<P: Addressed> Session<P> {
    pub(super) fn tick(&mut self, cx: &mut Cx<'_, Self>) {
        self.hand_out_postponed(cx);
        if self.torrents.is_empty() {
            return;
        }
        cx.set_timer(EVERY, SessionTimer::Tick);
        self.ticks += 1;
        self.hash_budget = HASH_BUDGET;
        self.send_nameless_away(cx, false);
        self.look_after(cx);
        self.overdue(cx);
        self.overdue_fetches(cx);
        let numbers: Vec<u64> = self.torrents.keys().copied().collect();
        for number in numbers {
            self.progress(cx, number);
            self.readers_go_on(cx, number);
            self.offer(cx, number);
            self.save(cx, number);
            self.try_again(cx, number);
            if self.torrents.get_mut(&number).is_some_and(|torrent| std::mem::take(&mut torrent.starved)) {
                self.fill_all(cx, number);
            }
            // Not all in the same second.
            if (self.ticks + number).is_multiple_of(ROUND) {
                self.round(cx, number);
            }
            self.gather_all(cx, number);
            self.tell_who(cx, number);
            self.dial(cx, number);
            self.fetch(cx, number);
            self.announce(cx, number);
        }
    }

    /// Measures each connection, and does what time has made due.
    fn look_after(&mut self, cx: &mut Cx<'_, Self>) {
        let now = cx.now();
        let (mut silent, mut late, mut useless) = (Vec::new(), Vec::new(), Vec::new());
        for (peer, conn) in &mut self.conns {
            conn.down.measure(EVERY);
            conn.up.measure(EVERY);
            conn.pipeline.measure(conn.down.per_second());
            if Self::is_silent(conn, now) {
                silent.push(*peer);
            } else if conn.is_late(now, self.config.request_timeout) {
                conn.pipeline.stalled();
                late.push(*peer);
            } else if conn.name.is_some() && now - conn.told > QUIET {
                conn.told = now;
                cx.send(*peer, PeerMsg::KeepAlive);
            }
            // Two that want nothing have nothing to do with each other.
            if conn.wants_nothing() && self.torrents.get(&conn.torrent).is_some_and(|torrent| torrent.done) {
                useless.push(*peer);
            }
        }
        silent.into_iter().for_each(|peer| self.hang_up_on(cx, peer));
        useless.into_iter().for_each(|peer| self.part(cx, peer));
        late.into_iter().for_each(|peer| self.late(cx, peer));
    }

    fn progress(&mut self, cx: &mut Cx<'_, Self>, number: u64) {
        let now = cx.now();
        let Some(torrent) = self.torrents.get_mut(&number) else { return };
        torrent.down.measure(EVERY);
        torrent.up.measure(EVERY);
        let due =
            |waiting: &&mut super::Waiting| waiting.progress.is_some_and(|every| now - waiting.told >= every);
        let due: Vec<_> = torrent.waiting.iter_mut().filter(due).map(|w| (w.told = now, w.op).1).collect();
        if !due.is_empty() {
            let status = torrent.status(&self.conns);
            due.into_iter().for_each(|op| cx.item(op, SessionItem::Status(status.clone())));
        }
    }

    /// Decides to whom to send from now on.
    fn round(&mut self, cx: &mut Cx<'_, Self>, number: u64) {
        let (now, slots, snubbed) = (cx.now(), self.config.slots, self.config.snubbed);
        let round = self.ticks / ROUND;
        let draw = round.is_multiple_of(OPTIMISTIC);
        let Some(torrent) = self.torrents.get_mut(&number) else { return };
        if !torrent.serves() {
            return;
        }
        let Stage::Running(picker) = &torrent.stage else { return };
        let candidate = |peer: &P| {
            let conn = self.conns.get(peer).filter(|conn| conn.interested)?;
            let owes = !conn.chokes && !conn.asked.is_empty();
            Some(Candidate {
                peer: *peer,
                gives: conn.down.per_second(),
                snubs: owes && now - conn.progress > snubbed,
                unchoked: conn.unchoked,
                newcomer: conn.newcomer,
            })
        };
        let candidates: Vec<Candidate<P>> = torrent.peers.iter().filter_map(candidate).collect();
        let chosen = match picker.is_done() {
            true => choker::seeding(&candidates, slots, round, cx.rng()),
            false => choker::leeching(&candidates, slots, &mut torrent.optimistic, draw, cx.rng()),
        };
        let peers: Vec<P> = torrent.peers.iter().copied().collect();
        for peer in peers {
            if draw && let Some(conn) = self.conns.get_mut(&peer) {
                conn.newcomer = false;
            }
            match chosen.contains(&peer) {
                true => self.unchoke(cx, peer),
                false => self.choke(cx, peer),
            }
        }
    }
}
