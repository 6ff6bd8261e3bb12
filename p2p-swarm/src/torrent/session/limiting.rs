//! What may be asked for and read now, where rates are limited (see [`RateLimits`](crate::torrent::RateLimits)).
//!
//! Of what goes all peers take turns as they do without a limit. Of what comes a peer of a limited torrent, or session,
//! stands in a line as long as it is good for more; so does a web seed. Each that has its turn is asked for a block, a web
//! seed for as much as may come at once. When a limit gets lower what was asked for beyond it is taken back.

use std::time::Duration;

use p2p_core::Cx;

use super::{Session, SessionTimer};
use crate::serve::next_of;
use crate::torrent::address::Addressed;
use crate::torrent::command::SetRates;
use crate::torrent::merkle::BLOCK;
use crate::torrent::peer::Conn;
use crate::torrent::throttle::RateLimits;
use crate::torrent::wire::{Block, PeerMsg};

impl<P: Addressed> Session<P> {
    /// Other limits hold, for a torrent or for all together; whether there is such a torrent.
    pub(super) fn set_rates(&mut self, cx: &mut Cx<'_, Self>, SetRates { torrent, rates }: SetRates) -> bool {
        let now = cx.now();
        let of = torrent.map(|torrent| torrent.0);
        let RateLimits { up, down } = rates;
        let (up_limit, down_limit) = match of {
            None => (&mut self.up, &mut self.down),
            Some(number) => match self.torrents.get_mut(&number) {
                None => return false,
                Some(torrent) => (&mut torrent.up_limit, &mut torrent.down_limit),
            },
        };
        up_limit.set(up, now);
        down_limit.set(down, now);
        let numbers: Vec<u64> =
            self.torrents.keys().copied().filter(|number| of.is_none_or(|of| of == *number)).collect();
        if let Some(rate) = down {
            self.ask_for_less(cx, of, rate);
        }
        for number in numbers {
            self.fill_all(cx, number);
            self.fetch(cx, number);
        }
        self.feed(cx);
        self.serve(cx);
        true
    }

    /// Takes back what peers of a torrent, or of all, were asked for and would not send in a second, if all have as much of the rate.
    fn ask_for_less(&mut self, cx: &mut Cx<'_, Self>, of: Option<u64>, rate: u64) {
        let owes = |(_, conn): &(&P, &Conn)| of.is_none_or(|of| of == conn.torrent) && !conn.asked.is_empty();
        let owing: Vec<P> = self.conns.iter().filter(owes).map(|(peer, _)| *peer).collect();
        let each = (rate / u64::from(BLOCK) / (owing.len() as u64).max(1)).max(1);
        for peer in owing {
            let mut kept = 0;
            let keeps = |_: &Block| {
                kept += 1;
                kept <= each
            };
            for (block, _) in self.release(peer, keeps) {
                cx.send(peer, PeerMsg::Cancel(block));
            }
        }
    }

    pub(super) fn is_limited(&self, number: u64) -> bool {
        self.down.is_limited()
            || self.torrents.get(&number).is_some_and(|torrent| torrent.down_limit.is_limited())
    }

    /// A peer, or a web seed, is good for more.
    pub(super) fn stand_in_line(&mut self, cx: &mut Cx<'_, Self>, peer: P, number: u64) {
        self.line.insert(peer, number);
        self.feed(cx);
    }

    /// Asks those who stand in line, as far as the rates allow.
    pub(super) fn feed(&mut self, cx: &mut Cx<'_, Self>) {
        let now = cx.now();
        loop {
            let mut wait = self.down.wait(now);
            let free = wait.is_zero();
            let next = free.then(|| {
                next_of(&self.line, self.last_fed, |peer| {
                    let torrent = self.line.get(&peer).and_then(|number| self.torrents.get_mut(number));
                    let its = torrent.map_or(Duration::ZERO, |torrent| torrent.down_limit.wait(now));
                    wait = sooner(wait, its);
                    its.is_zero()
                })
            });
            let Some(peer) = next.flatten() else {
                if !self.line.is_empty() {
                    set_timer(cx, wait, SessionTimer::Download);
                }
                return;
            };
            self.last_fed = Some(peer);
            let asked = match self.line.get(&peer) {
                Some(number) if !self.conns.contains_key(&peer) => self.fetch_from(cx, *number, peer),
                _ => self.ask(cx, peer),
            };
            if !asked {
                self.line.remove(&peer);
            }
        }
    }

    /// The block that is to be read next for a peer, if one may be now.
    pub(super) fn next_read(&mut self, cx: &mut Cx<'_, Self>) -> Option<(u64, P, Block)> {
        let now = cx.now();
        let mut wait = self.up.wait(now);
        let next = match wait.is_zero() {
            false => None,
            true => self.serving.turn_of(|peer| {
                let torrent = self.conns.get(&peer).and_then(|conn| self.torrents.get_mut(&conn.torrent));
                let its = torrent.map_or(Duration::ZERO, |torrent| torrent.up_limit.wait(now));
                wait = sooner(wait, its);
                its.is_zero()
            }),
        };
        if next.is_none() && self.serving.is_waiting() {
            set_timer(cx, wait, SessionTimer::Upload);
        }
        next
    }

    pub(super) fn spend_down(&mut self, number: u64, bytes: u64) {
        self.down.spend(bytes);
        self.torrents.get_mut(&number).into_iter().for_each(|torrent| torrent.down_limit.spend(bytes));
    }

    /// What came was not asked for, or not any more.
    pub(super) fn spend_unasked(&mut self, number: u64, bytes: u64) {
        self.down.spend_unasked(bytes);
        let torrent = self.torrents.get_mut(&number);
        torrent.into_iter().for_each(|torrent| torrent.down_limit.spend_unasked(bytes));
    }

    /// What was asked for is not to come.
    pub(super) fn give_back_down(&mut self, number: u64, bytes: u64) {
        self.down.give_back(bytes);
        self.torrents.get_mut(&number).into_iter().for_each(|torrent| torrent.down_limit.give_back(bytes));
    }

    pub(super) fn spend_up(&mut self, number: u64, bytes: u64) {
        self.up.spend(bytes);
        self.torrents.get_mut(&number).into_iter().for_each(|torrent| torrent.up_limit.spend(bytes));
    }

    /// What was read is not sent.
    pub(super) fn give_back_up(&mut self, number: u64, bytes: u64) {
        self.up.give_back(bytes);
        self.torrents.get_mut(&number).into_iter().for_each(|torrent| torrent.up_limit.give_back(bytes));
    }
}

/// The shorter of two times that are not none.
fn sooner(one: Duration, other: Duration) -> Duration {
    match one.is_zero() || other.is_zero() {
        true => one.max(other),
        false => one.min(other),
    }
}

/// If there is a time, and it ever comes.
fn set_timer<P: Addressed>(cx: &mut Cx<'_, Session<P>>, wait: Duration, timer: SessionTimer) {
    if !wait.is_zero() && wait != Duration::MAX {
        cx.set_timer(wait, timer);
    }
}
