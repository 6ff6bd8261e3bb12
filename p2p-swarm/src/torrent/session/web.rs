//! Web seeds (BEP 19): what is missing comes from servers, too.
//!
//! A web seed is somebody who has everything, takes no part in chokes, and sends a stretch of blocks at a time. What is to be
//! fetched is handed to whoever asked by [`Fetching`](crate::torrent::Fetching), and comes back by [`Fetched`]; from there on
//! its blocks go the way of all blocks, so a server that lies is found out as a peer is, and asked for nothing more.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use p2p_core::{Cx, OpId, Time};

use super::{Session, SessionEvent, SessionItem, SessionOutcome, Stage, Torrent, TorrentId};
use crate::torrent::address::{Addressed, Carrier};
use crate::torrent::command::{Fetched, ToFetch};
use crate::torrent::http::HttpError;
use crate::torrent::metainfo::Info;
use crate::torrent::url::{Scheme, Url};
use crate::torrent::web::{WebError, WebRange, WebSeedStatus, file_url};
use crate::torrent::wire::Block;

/// Web seeds of one torrent; more are passed over. 16.
const MAX_WEB_SEEDS: usize = 16;
/// Ranges that are fetched at a time, of as many files: a stretch ends before there are more. 16.
const MAX_RANGES: usize = 16;
/// Ranges of one block; who would be asked for more is dropped. 256.
const MAX_SCATTERED: usize = 256;
/// How long a stretch may take. 3 minutes.
const PATIENCE: Duration = Duration::from_secs(180);
/// Where they are among peers.
const NOWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
/// Bytes that are fetched at a time, at first, and at most. 1 MiB, 4 MiB.
const FIRST: u64 = 1 << 20;
const MOST: u64 = 4 << 20;
/// At the least 256 KiB.
const LEAST: u64 = 256 << 10;
/// What comes sooner is followed by more, what comes later by less. 2 s, 10 s.
const SOON: Duration = Duration::from_secs(2);
const LATE: Duration = Duration::from_secs(10);
/// How long one rests that failed once; doubled with each failure. 5 s.
const REST: Duration = Duration::from_secs(5);
/// How long at most. 10 minutes.
const LONGEST_REST: Duration = Duration::from_secs(600);

/// A server that has a torrent's files.
#[derive(Debug)]
pub(super) struct WebSeed<P> {
    status: WebSeedStatus,
    /// Who it is among those that send blocks; nothing is ever sent there.
    peer: P,
    /// The number of what is being fetched from it.
    fetching: Option<u64>,
    /// The piece with which the last stretch ended.
    last: Option<u32>,
    /// Bytes to ask for next.
    most: u64,
    failures: u32,
    not_before: Time,
}

/// What is being fetched.
#[derive(Debug)]
pub(super) struct Fetch {
    torrent: u64,
    seed: usize,
    blocks: Vec<Block>,
    /// Those of them that came from others meanwhile, which are not this one's any more.
    elsewhere: BTreeSet<Block>,
    /// Where each range stands in the stretch; what is in none of them is zeros.
    places: Vec<(usize, u64)>,
    since: Time,
}

impl<P> WebSeed<P> {
    pub(super) fn new(url: String, peer: P) -> WebSeed<P> {
        let status = WebSeedStatus { url, downloaded: 0, failed: None, dropped: false };
        WebSeed { status, peer, fetching: None, last: None, most: FIRST, failures: 0, not_before: Time::ZERO }
    }

    /// Whether it may be asked for something.
    fn is_idle(&self, now: Time) -> bool {
        self.fetching.is_none() && !self.status.dropped && now >= self.not_before
    }

    pub(super) fn status(&self) -> &WebSeedStatus {
        &self.status
    }

    /// A stretch has come, after so long.
    fn came(&mut self, bytes: u64, took: Duration) {
        self.status.downloaded += bytes;
        self.status.failed = None;
        self.failures = 0;
        if took < SOON {
            self.most = (self.most * 2).min(MOST);
        } else if took > LATE {
            self.most = (self.most / 2).max(LEAST);
        }
    }

    /// It did not come.
    fn failed(&mut self, now: Time, why: WebError) {
        self.status.dropped = why.is_lasting();
        self.not_before = now + REST.saturating_mul(1 << self.failures.min(16)).min(LONGEST_REST);
        self.failures += 1;
        self.most = LEAST;
        self.status.failed = Some(why);
    }
}

impl Fetch {
    /// The blocks that are still waited for.
    fn awaited(&self) -> impl Iterator<Item = Block> {
        self.blocks.iter().copied().filter(|block| !self.elsewhere.contains(block))
    }

    /// The stretch of all that has come, if it is as long as it was to be.
    fn stretch(&self, info: &Info, parts: &[Bytes]) -> Result<Bytes, WebError> {
        let (Some(first), Some(last)) = (self.blocks.first(), self.blocks.last()) else {
            return Ok(Bytes::new());
        };
        let lengths = parts.iter().map(|part| part.len() as u64);
        if !lengths.eq(self.places.iter().map(|(_, length)| *length)) {
            return Err(WebError::Length);
        }
        // Most stretches lie in one file.
        let length = info.place_of(last) + u64::from(last.length) - info.place_of(first);
        if let ([part], [(0, whole)]) = (parts, &self.places[..])
            && *whole == length
        {
            return Ok(part.clone());
        }
        let mut stretch = vec![0; length as usize];
        for (part, (at, _)) in parts.iter().zip(&self.places) {
            stretch[*at..][..part.len()].copy_from_slice(part);
        }
        Ok(stretch.into())
    }
}

/// Which stretches of which files the first of some blocks lie in that come one after the other, where in all of them each
/// stands, and how many blocks these are: as many as lie in [`MAX_RANGES`], or the first if that lies in no more than
/// [`MAX_SCATTERED`]; otherwise none.
fn ranges(info: &Info, url: &str, blocks: &[Block]) -> (Vec<WebRange>, Vec<(usize, u64)>, usize) {
    let start = blocks.first().map_or(0, |first| info.place_of(first));
    let (mut ranges, mut places) = (Vec::<WebRange>::new(), Vec::<(usize, u64)>::new());
    let mut file = None;
    for (at, block) in blocks.iter().enumerate() {
        let place = (info.place_of(block) - start) as usize;
        let spans: Vec<_> = info.spans(block.piece, block.begin, block.length).collect();
        let goes_on = usize::from(spans.first().is_some_and(|span| file == Some(span.file)));
        let most = if at == 0 { MAX_SCATTERED } else { MAX_RANGES };
        if ranges.len() + spans.len() - goes_on > most {
            return (ranges, places, at);
        }
        for span in spans {
            let length = span.len as u64;
            match (ranges.last_mut(), places.last_mut()) {
                (Some(range), Some((_, whole)))
                    if file == Some(span.file) && range.from + range.length == span.at =>
                {
                    range.length += length;
                    *whole += length;
                }
                _ => {
                    file = Some(span.file);
                    ranges.push(WebRange { url: file_url(url, info, span.file), from: span.at, length });
                    places.push((place + span.within, length));
                }
            }
        }
    }
    (ranges, places, blocks.len())
}

impl<P: Addressed> Session<P> {
    /// A torrent's web seeds: those whose URLs can be asked.
    pub(super) fn web_seeds(&mut self, urls: Vec<String>) -> Vec<WebSeed<P>> {
        let seed = |url| {
            self.next_dial += 1;
            WebSeed::new(url, P::dial(Carrier::Tcp, NOWHERE, self.next_dial))
        };
        let can = |url: &String| url.parse::<Url>().is_ok_and(|url| url.scheme != Scheme::Udp);
        let mut seen = BTreeSet::new();
        let urls = urls.into_iter().filter(can).filter(|url| seen.insert(url.clone()));
        urls.take(MAX_WEB_SEEDS).map(seed).collect()
    }

    /// Somebody fetches for this session from now on; who did before does so no more.
    pub(super) fn fetcher(&mut self, cx: &mut Cx<'_, Self>, op: OpId) {
        if let Some(before) = self.fetcher.replace(op) {
            cx.finish(before, SessionOutcome::Stopped);
        }
        self.forget_fetches(|_| true);
        let numbers: Vec<u64> = self.torrents.keys().copied().collect();
        numbers.into_iter().for_each(|number| self.fetch(cx, number));
    }

    /// An asker is gone: if it fetched nobody does any more.
    pub(super) fn fetcher_gone(&mut self, op: OpId) {
        if self.fetcher == Some(op) {
            self.fetcher = None;
            self.forget_fetches(|_| true);
        }
    }

    /// What some torrents' web seeds were asked for is to be asked for again.
    pub(super) fn forget_fetches(&mut self, of: impl Fn(u64) -> bool) {
        let all = std::mem::take(&mut self.fetches).into_iter();
        let (forgotten, others): (Vec<_>, Vec<_>) = all.partition(|(_, fetch)| of(fetch.torrent));
        self.fetches.extend(others);
        for (_, fetch) in forgotten {
            let Some(torrent) = self.torrents.get_mut(&fetch.torrent) else { continue };
            torrent.web.get_mut(fetch.seed).into_iter().for_each(|seed| seed.fetching = None);
            if let Some(picker) = torrent.running() {
                fetch.awaited().for_each(|block| picker.unasked(block));
            }
        }
    }

    /// Gives up what takes too long.
    pub(super) fn overdue_fetches(&mut self, cx: &mut Cx<'_, Self>) {
        let now = cx.now();
        let late = self.fetches.iter().filter(|(_, fetch)| now - fetch.since > PATIENCE);
        let late: Vec<u64> = late.map(|(number, _)| *number).collect();
        for number in late {
            self.fetched(cx, Fetched { number, result: Err(HttpError::TimedOut.into()) });
        }
    }

    /// A block has come from somebody: web seeds that were asked for it are not waited for any more.
    pub(super) fn came_elsewhere(&mut self, number: u64, from: P, block: Block) {
        let Some(torrent) = self.torrents.get(&number) else { return };
        for fetch in self.fetches.values_mut().filter(|fetch| fetch.torrent == number) {
            let other = torrent.web.get(fetch.seed).is_some_and(|seed| seed.peer != from);
            if other && fetch.blocks.contains(&block) {
                fetch.elsewhere.insert(block);
            }
        }
    }

    /// Asks each of a torrent's web seeds that is idle for what comes next.
    pub(super) fn fetch(&mut self, cx: &mut Cx<'_, Self>, number: u64) {
        let limited = self.is_limited(number);
        let may = |torrent: &&Torrent<P>| self.fetcher.is_some() && !torrent.held;
        let Some(torrent) = self.torrents.get(&number).filter(may) else { return };
        let idle = torrent.web.iter().filter(|seed| seed.is_idle(cx.now()));
        let idle: Vec<P> = idle.map(|seed| seed.peer).collect();
        for seed in idle {
            match limited {
                true => self.stand_in_line(cx, seed, number),
                false => _ = self.fetch_from(cx, number, seed),
            }
        }
    }

    /// Asks a web seed for what comes next, if it is idle and there is something.
    pub(super) fn fetch_from(&mut self, cx: &mut Cx<'_, Self>, number: u64, peer: P) -> bool {
        let (now, unwritten, burst) = (cx.now(), self.config.unwritten, self.down.burst());
        let (Some(fetcher), Some(torrent)) = (self.fetcher, self.torrents.get_mut(&number)) else {
            return false;
        };
        let (Stage::Running(picker), Some(info)) = (&mut torrent.stage, &torrent.info) else { return false };
        let mut seeds = torrent.web.iter_mut().enumerate();
        let found = seeds.find(|(_, seed)| seed.peer == peer && seed.is_idle(now));
        let Some((at, seed)) = found.filter(|_| torrent.writing < unwritten) else { return false };
        let most = match &torrent.paused {
            None => seed.most.min(burst).min(torrent.down_limit.burst()),
            // One block, to see whether it can be written.
            Some(paused) if paused.tries(now) => 1,
            Some(_) => return false,
        };
        let mut blocks = picker.stretch(peer, seed.last, most);
        let (ranges, places, count) = ranges(info, &seed.status.url, &blocks);
        let scattered = count < blocks.len().min(1);
        blocks.drain(count..).for_each(|block| picker.unasked(block));
        if scattered {
            seed.failed(now, WebError::Scattered);
            cx.emit(SessionEvent::WebSeedDropped(TorrentId(number), seed.status.clone()));
        }
        let Some(last) = blocks.last() else { return false };
        torrent.paused.iter_mut().for_each(|paused| paused.asked(*last, now));
        seed.last = Some(last.piece);
        self.next_fetch += 1;
        seed.fetching = Some(self.next_fetch);
        let bytes = blocks.iter().map(|block| u64::from(block.length)).sum();
        let elsewhere = BTreeSet::new();
        let fetch = Fetch { torrent: number, seed: at, blocks, elsewhere, places, since: now };
        self.fetches.insert(self.next_fetch, fetch);
        cx.item(fetcher, SessionItem::Fetch(ToFetch { number: self.next_fetch, ranges }));
        self.spend_down(number, bytes);
        true
    }

    /// What was fetched has come, or has not.
    pub(super) fn fetched(&mut self, cx: &mut Cx<'_, Self>, Fetched { number, result }: Fetched) -> bool {
        let now = cx.now();
        let Some(fetch) = self.fetches.remove(&number) else { return false };
        let number = fetch.torrent;
        let Some(torrent) = self.torrents.get_mut(&number) else { return true };
        let (Some(seed), Some(info)) = (torrent.web.get_mut(fetch.seed), &torrent.info) else { return true };
        seed.fetching = None;
        match result.and_then(|parts| fetch.stretch(info, &parts)) {
            Ok(stretch) => {
                seed.came(stretch.len() as u64, now - fetch.since);
                let (peer, info) = (seed.peer, info.clone());
                let start = fetch.blocks.first().map_or(0, |first| info.place_of(first));
                let again: u64 = fetch.elsewhere.iter().map(|block| u64::from(block.length)).sum();
                torrent.downloaded += again;
                torrent.wasted += again;
                for block in fetch.awaited() {
                    let at = (info.place_of(&block) - start) as usize;
                    self.take_in(cx, number, peer, block, stretch.slice(at..at + block.length as usize));
                }
            }
            Err(why) => {
                // Of several files some may have come.
                let nothing_came = fetch.places.len() == 1 && why.is_without_bytes();
                seed.failed(now, why);
                let dropped = seed.status.dropped.then(|| seed.status.clone());
                if let Some(picker) = torrent.running() {
                    fetch.awaited().for_each(|block| picker.unasked(block));
                }
                if nothing_came {
                    let bytes = fetch.blocks.iter().map(|block| u64::from(block.length)).sum();
                    self.give_back_down(number, bytes);
                }
                self.fill_all(cx, number);
                dropped
                    .into_iter()
                    .for_each(|seed| cx.emit(SessionEvent::WebSeedDropped(TorrentId(number), seed)));
            }
        }
        self.fetch(cx, number);
        true
    }

    /// If it is a web seed that has sent what is not true it is asked for nothing more.
    pub(super) fn drop_web_seed(&mut self, cx: &mut Cx<'_, Self>, number: u64, liar: P) -> bool {
        let Some(torrent) = self.torrents.get_mut(&number) else { return false };
        let Some(seed) = torrent.web.iter_mut().find(|seed| seed.peer == liar) else { return false };
        if !std::mem::replace(&mut seed.status.dropped, true) {
            seed.status.failed = Some(WebError::Lied);
            cx.emit(SessionEvent::WebSeedDropped(TorrentId(number), seed.status.clone()));
            let fetch = seed.fetching.take().and_then(|fetch| self.fetches.remove(&fetch));
            if let (Some(fetch), Some(picker)) = (fetch, torrent.running()) {
                fetch.awaited().for_each(|block| picker.unasked(block));
            }
        }
        true
    }
}

#[cfg(test)]
mod tests;
