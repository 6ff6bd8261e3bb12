//! The machine: a client with any number of torrents, for every connection of its listener.
//!
//! - `announcing`: what trackers and other sources are told, and what they tell;
//! - `crowding`: who gives way where there are as many connections as there may be;
//! - `links`: whom to connect to, handshakes, who else is there (BEP 11), and who goes;
//! - `exchange`: what is had, wanted and asked for, both ways;
//! - `gathering`: metadata and hashes for links, and for peers that have only a link;
//! - `holding`: what its user has paused;
//! - `limiting`: how fast blocks are asked for and read, and whose turn it is;
//! - `keeping`: what comes back from the worker: what is right, and who lied;
//! - `moving`: files that go to another folder;
//! - `opening`: what is there of a torrent when it is taken on;
//! - `places`: where files lie, each torrent's apart;
//! - `pausing`: what becomes of a torrent whose files cannot be written or read;
//! - `reading`: files that are read while they come;
//! - `selecting`: which files are wanted, and how much;
//! - `super_seeding`: pieces that are given out one by one;
//! - `tick`: once a second rates, chokes, and what is late;
//! - `torrent`: what is known of one;
//! - `web`: what comes from web seeds.

mod announcing;
mod config;
mod crowding;
mod exchange;
mod gathering;
mod holding;
mod keeping;
mod limiting;
mod links;
mod moving;
mod opening;
mod pausing;
mod places;
mod reading;
mod selecting;
mod super_seeding;
mod tick;
mod torrent;
mod web;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;

use p2p_core::{Cx, JobId, Link, OpId, Protocol, Time};

use super::address::Addressed;
use super::candidates::Candidates;
use super::command::{
    Add, AddPeers, Announcing, Pause, Remove, Resume, SessionCommand, SessionEvent, SessionItem,
    SessionOutcome, Source, Status, ToAnnounce, TorrentError, TorrentId, Wait,
};
use super::gather::Metadata;
use super::job::{Tag, TorrentDone, TorrentJob};
use super::magnet::Magnet;
use super::metainfo::{InfoHashes, SwarmId};
use super::mse::{Encryption, Mse};
use super::peer::Conn;
use super::picker::Wrong;
use super::source::SourceKind;
use super::status::{SessionStats, TorrentStatus};
use super::throttle::{RateLimits, Throttle};
use super::wire::{Block, PeerMsg, PeerName};
use crate::rate::Rate;
use crate::serve::Serving;

use places::Closing;
use torrent::{Stage, Torrent, Waiting};

pub use config::{Carriers, SessionConfig};

/// Torrents of one session. 10,000.
const MAX_TORRENTS: usize = 10_000;
/// Addresses whose connections are refused, since somebody there lied; the oldest is forgotten. 1,000.
const MAX_BANNED: usize = 1000;

/// A BitTorrent client.
///
/// What it keeps in memory: of each torrent its metadata, at most 64 trackers, and some thirteen bytes for each piece, and for each connection a
/// bit for each piece; at most `connections` of them. Of what peers say nothing else grows but requests, at most
/// `requests_per_peer` of each, addresses, 1,000 for each torrent, blocks that are not yet written, and of each piece that is
/// begun and has the first version's hash up to 1 MiB of blocks that came before those in front of them.
///
/// ```
/// use p2p_core::SimPeer;
/// use p2p_core::sim::{DiskModel, Network, Sim};
/// use p2p_swarm::MemoryFiles;
/// use p2p_swarm::torrent::{Add, CreateOptions, MemoryTorrents, Metainfo, Session, SessionConfig, Source, Wait};
///
/// let mut files = [MemoryFiles::default(), MemoryFiles::default()];
/// files[0].put("song", vec![7; 1_000_000]);
/// let metainfo = Metainfo::create(&mut files[0], "song".as_ref(), &CreateOptions::default()).unwrap();
///
/// let disks = files.clone();
/// let mut sim = Sim::<Session<SimPeer>, MemoryTorrents>::with_workers(
///     1, Network::default(), DiskModel::default(), move |peer| MemoryTorrents::new(disks[peer.index()].clone()));
/// let peers = [(); 2].map(|()| sim.spawn(|_| Session::new(SessionConfig::default(), Some(6881))));
/// let [seed, leecher] = peers.map(|peer| sim.handle(peer));
/// sim.block_on(async move {
///     let torrent = Source::Metainfo(metainfo);
///     seed.ask(Add::new(torrent.clone(), "")).await.unwrap().unwrap();
///     let id = leecher.ask(Add { peers: vec!["10.0.0.0:6881".parse().unwrap()], ..Add::new(torrent, "") });
///     let id = id.await.unwrap().unwrap();
///     leecher.ask(Wait { torrent: id, progress: None }).await.unwrap().unwrap();
/// });
/// assert_eq!(files[1].read("song"), files[0].read("song"));
/// ```
#[derive(Debug)]
pub struct Session<P> {
    config: SessionConfig,
    name: PeerName,
    /// What encrypts its connections, if anything does.
    mse: Option<Mse>,
    /// The port that peers are told to reach it at, and where others see it.
    listens: Option<u16>,
    here: crowding::Here,
    torrents: BTreeMap<u64, Torrent<P>>,
    swarms: BTreeMap<SwarmId, u64>,
    conns: BTreeMap<P, Conn>,
    /// Connections that others have made, on which nobody has said yet who they are; no more than there may be others.
    nameless: BTreeMap<P, Time>,
    serving: Serving<P, Block>,
    up: Throttle,
    down: Throttle,
    /// Who is good for more, where that is limited, and for which torrent: connections, and web seeds.
    line: BTreeMap<P, u64>,
    last_fed: Option<P>,
    /// Where somebody lied, and when.
    banned: BTreeMap<SocketAddr, Time>,
    /// Pieces that are right after they were wrong, until their blocks were hashed; by torrent and piece.
    suspects: BTreeMap<(u64, u32), Vec<Wrong<P>>>,
    /// Hashes that may be computed for peers until the next tick.
    hash_budget: usize,
    /// Who reads files; at most 64.
    readers: BTreeMap<OpId, reading::Reader>,
    /// Jobs that the worker had no room for, until the next tick: one of a kind for each torrent, and for each piece.
    postponed: Vec<(u64, Tag)>,
    /// Whoever speaks with each kind of source for this session; at most eight.
    announcers: BTreeMap<SourceKind, OpId>,
    /// What they were asked to announce; at most 64 of each.
    announces: BTreeMap<u64, announcing::Open>,
    /// Whoever asks web seeds for this session.
    fetcher: Option<OpId>,
    /// What that one was asked for; one for each web seed, of which a torrent has sixteen at most.
    fetches: BTreeMap<u64, web::Fetch>,
    next_fetch: u64,
    /// Files that are in use still, by the torrent whose they were; as many as the worker is to close.
    closing: BTreeMap<u64, Closing>,
    /// Ends that trackers are still to be told of, by torrent.
    goodbyes: VecDeque<(u64, ToAnnounce)>,
    /// Who waits until they were.
    stopping: Vec<OpId>,
    /// Bytes of blocks that came, and that went, of torrents that were removed.
    of_removed: (u64, u64),
    /// What trackers know it by though its address changes.
    key: u32,
    next_announce: u64,
    next_torrent: u64,
    next_dial: u64,
    ticks: u64,
}

/// The timers of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SessionTimer {
    /// A second is over.
    Tick,
    /// There is something to be sent, and it may be now.
    Upload,
    /// There is somebody to be asked for something, and it may come now.
    Download,
    /// Trackers that have not heard of the end by now will not.
    Stop,
}

impl<P: Addressed> Session<P> {
    /// A session without torrents, whose listener has this port, if it has any.
    pub fn new(config: SessionConfig, listens: Option<u16>) -> Session<P> {
        Session {
            serving: Serving::new(config.reads.max(1), config.requests_per_peer.max(1)),
            up: Throttle::new(config.rates.up),
            down: Throttle::new(config.rates.down),
            line: BTreeMap::new(),
            last_fed: None,
            config,
            name: PeerName([0; 20]),
            mse: None,
            listens,
            here: crowding::Here::new(listens),
            torrents: BTreeMap::new(),
            swarms: BTreeMap::new(),
            conns: BTreeMap::new(),
            nameless: BTreeMap::new(),
            banned: BTreeMap::new(),
            suspects: BTreeMap::new(),
            hash_budget: gathering::HASH_BUDGET,
            readers: BTreeMap::new(),
            postponed: Vec::new(),
            announcers: BTreeMap::new(),
            announces: BTreeMap::new(),
            fetcher: None,
            fetches: BTreeMap::new(),
            next_fetch: 0,
            closing: BTreeMap::new(),
            goodbyes: VecDeque::new(),
            stopping: Vec::new(),
            of_removed: (0, 0),
            key: 0,
            next_announce: 0,
            next_torrent: 0,
            next_dial: 0,
            ticks: 0,
        }
    }

    /// As [`Session::new`], of connections whose [codecs](Mse::codec) encrypt.
    pub fn encrypted(config: SessionConfig, listens: Option<u16>, mse: Mse) -> Session<P> {
        Session { mse: Some(mse), ..Session::new(config, listens) }
    }

    /// Takes note of a torrent's swarms.
    fn learn_swarms(&mut self, hashes: &InfoHashes, number: u64) {
        for swarm in hashes.swarms() {
            self.swarms.insert(swarm, number);
            self.mse.iter().for_each(|mse| mse.add(swarm));
        }
    }

    /// How connections are made.
    fn encryption(&self) -> Encryption {
        self.mse.as_ref().map_or(Encryption::Off, Mse::policy)
    }

    /// How a torrent stands.
    pub fn status(&self, torrent: TorrentId) -> Option<TorrentStatus> {
        self.torrents.get(&torrent.0).map(|torrent| torrent.status(&self.conns))
    }

    /// How it stands.
    pub fn stats(&self) -> SessionStats {
        let sum = |of: fn(&Torrent<P>) -> u64| self.torrents.values().map(of).sum::<u64>();
        let (downloaded, uploaded) = self.of_removed;
        SessionStats {
            torrents: self.torrents.keys().copied().map(TorrentId).collect(),
            peers: self.torrents.values().map(|torrent| torrent.peers.len()).sum(),
            rates: RateLimits { up: self.up.rate(), down: self.down.rate() },
            downloaded: downloaded + sum(|torrent| torrent.downloaded),
            uploaded: uploaded + sum(|torrent| torrent.uploaded),
            down: sum(|torrent| torrent.down.per_second()),
            up: sum(|torrent| torrent.up.per_second()),
        }
    }

    /// For each piece of a torrent how many of the peers that are connected have it.
    pub fn availability(&self, torrent: TorrentId) -> Vec<u16> {
        let torrent = self.torrents.get(&torrent.0);
        let picker = torrent.and_then(|torrent| Some((torrent.pieces() as u32, torrent.picker()?)));
        picker
            .map_or_else(Vec::new, |(pieces, picker)| (0..pieces).map(|piece| picker.copies(piece)).collect())
    }

    /// The pieces of a torrent that are here, in order.
    pub fn pieces(&self, torrent: TorrentId) -> impl Iterator<Item = u32> {
        let picker = self.torrents.get(&torrent.0).and_then(Torrent::picker);
        picker.into_iter().flat_map(|picker| picker.have().iter().map(|piece| piece as u32))
    }

    fn add(&mut self, cx: &mut Cx<'_, Self>, add: Add) -> Result<TorrentId, TorrentError> {
        let Add { torrent, folder, peers, config } = add;
        let hashes = match &torrent {
            Source::Metainfo(metainfo) => metainfo.info().hashes(),
            Source::Magnet(magnet) => magnet.hashes,
        };
        if hashes.swarms().any(|swarm| self.swarms.contains_key(&swarm)) {
            return Err(TorrentError::Twice);
        }
        if self.torrents.len() >= MAX_TORRENTS {
            return Err(TorrentError::Full);
        }
        if let Source::Metainfo(metainfo) = &torrent
            && let Some(path) = self.taken(None, metainfo.info(), &folder)
        {
            return Err(TorrentError::Taken(path));
        }
        self.next_torrent += 1;
        let number = self.next_torrent;
        let mut new = Torrent {
            number,
            hashes,
            name: None,
            folder,
            moving: None,
            select: Vec::new(),
            priorities: BTreeMap::new(),
            info: None,
            layers: Arc::default(),
            stage: Stage::Metadata(Metadata::default()),
            peers: BTreeSet::new(),
            strangers: 0,
            candidates: Candidates::default(),
            tiers: BTreeMap::new(),
            trackers: Vec::new(),
            web: Vec::new(),
            optimistic: None,
            waiting: Vec::new(),
            writing: 0,
            starved: false,
            syncing: false,
            held: config.paused,
            paused: None,
            rested: None,
            fresh: false,
            saved: cx.now(),
            trust: !config.recheck,
            done: false,
            order: config.order,
            super_seeding: config.super_seeding,
            up_limit: Throttle::new(config.rates.up),
            down_limit: Throttle::new(config.rates.down),
            down: Rate::default(),
            up: Rate::default(),
            downloaded: 0,
            uploaded: 0,
            wasted: 0,
        };
        match torrent {
            Source::Metainfo(metainfo) => {
                new.name = Some(metainfo.info().name().into());
                new.info = Some(metainfo.info().clone());
                new.layers = metainfo.layers().clone();
                new.trackers = metainfo.trackers;
                new.web = self.web_seeds(metainfo.web_seeds);
                new.open(cx);
            }
            Source::Magnet(Magnet { name, select, trackers, web_seeds, .. }) => {
                new.name = name;
                new.select = select;
                new.web = self.web_seeds(web_seeds);
                new.trackers = trackers.into_iter().map(|url| vec![url]).collect();
            }
        }
        new.find_sources(&self.announcers, cx.rng());
        new.name_peers(peers);
        self.learn_swarms(&hashes, number);
        self.torrents.insert(number, new);
        if self.torrents.len() == 1 {
            cx.set_timer(tick::EVERY, SessionTimer::Tick);
        }
        self.dial(cx, number);
        self.announce(cx, number);
        Ok(TorrentId(number))
    }

    fn wait(&mut self, cx: &mut Cx<'_, Self>, op: OpId, Wait { torrent, progress }: Wait) {
        let outcome = match self.torrents.get_mut(&torrent.0) {
            None => Err(TorrentError::Unknown),
            Some(Torrent { stage: Stage::Failed(why), .. }) => Err(why.clone()),
            Some(torrent) if torrent.done => Ok(()),
            Some(torrent) => return torrent.waiting.push(Waiting { op, progress, told: cx.now() }),
        };
        cx.finish(op, SessionOutcome::Done(outcome));
    }

    /// A torrent is worked on no more: nobody is connected for it any longer.
    fn give_up(&mut self, cx: &mut Cx<'_, Self>, number: u64, why: TorrentError) {
        let Some(torrent) = self.torrents.get_mut(&number) else { return };
        if let Stage::Failed(_) = torrent.stage {
            return;
        }
        torrent.stage = Stage::Failed(why.clone());
        torrent.paused = None;
        // What was written may be lost: nothing is written down of it.
        torrent.close(cx);
        self.closing.insert(number, Closing::of(torrent));
        for op in torrent.askers() {
            cx.finish(op, SessionOutcome::Done(Err(why.clone())));
        }
        self.stop_readers(cx, number, &why);
        self.forget_fetches(|of| of == number);
        self.say_goodbye(cx, number);
        self.hang_up(cx, number);
        cx.emit(SessionEvent::Failed(TorrentId(number), why));
    }

    /// Whether there was such a torrent. Whoever asks for that hears of it when its files are closed.
    fn remove(&mut self, cx: &mut Cx<'_, Self>, number: u64, asker: Option<OpId>) -> bool {
        self.stop_readers(cx, number, &TorrentError::Unknown);
        self.forget_fetches(|of| of == number);
        self.say_goodbye(cx, number);
        self.hang_up(cx, number);
        let Some(mut torrent) = self.torrents.remove(&number) else { return false };
        torrent.close(cx);
        // What has failed may be being closed already.
        self.closing.entry(number).or_insert_with(|| Closing::of(&torrent)).asker = asker;
        for op in torrent.askers() {
            cx.finish(op, SessionOutcome::Done(Err(TorrentError::Unknown)));
        }
        self.of_removed.0 += torrent.downloaded;
        self.of_removed.1 += torrent.uploaded;
        let mse = &self.mse;
        self.swarms.retain(|swarm, of| {
            if *of == number {
                mse.iter().for_each(|mse| mse.remove(swarm));
            }
            *of != number
        });
        self.suspects.retain(|(of, _), _| *of != number);
        self.postponed.retain(|(of, tag)| *of != number || *tag == Tag::Close);
        self.line.retain(|_, of| *of != number);
        if self.torrents.is_empty() {
            self.send_nameless_away(cx, true);
            if self.postponed.is_empty() {
                cx.clear_timer(SessionTimer::Tick);
            }
        }
        true
    }

    /// A connection and its torrent.
    fn pair(&mut self, peer: P) -> Option<(&mut Torrent<P>, &mut Conn)> {
        let conn = self.conns.get_mut(&peer)?;
        let torrent = self.torrents.get_mut(&conn.torrent)?;
        Some((torrent, conn))
    }
}

impl<P: Addressed> Protocol for Session<P> {
    type Peer = P;
    type Msg = PeerMsg;
    type Timer = SessionTimer;
    type Command = SessionCommand;
    type Item = SessionItem;
    type Outcome = SessionOutcome;
    type Event = SessionEvent;
    type Job = TorrentJob;

    fn on_start(&mut self, cx: &mut Cx<'_, Self>) {
        // The manner of Azureus: two letters for the program, four digits for its version.
        self.name.0[..8].copy_from_slice(b"-P20010-");
        for byte in &mut self.name.0[8..] {
            *byte = b"0123456789abcdefghijklmnopqrstuv"[cx.rng().index(32)];
        }
    }

    fn on_message(&mut self, cx: &mut Cx<'_, Self>, from: P, msg: PeerMsg) {
        let now = cx.now();
        match (self.conns.get_mut(&from), msg) {
            (_, PeerMsg::Handshake(handshake)) => self.greeted(cx, from, handshake),
            (Some(conn), msg) if conn.name.is_some() => {
                conn.heard = now;
                self.heard(cx, from, msg);
            }
            // Who does not say what it is about is nobody.
            (Some(_), _) => self.hang_up_on(cx, from),
            (None, _) => {}
        }
    }

    fn on_timer(&mut self, cx: &mut Cx<'_, Self>, timer: SessionTimer) {
        match timer {
            SessionTimer::Tick => self.tick(cx),
            SessionTimer::Upload => self.serve(cx),
            SessionTimer::Download => self.feed(cx),
            SessionTimer::Stop => self.stopped(cx),
        }
    }

    fn on_command(&mut self, cx: &mut Cx<'_, Self>, op: OpId, command: SessionCommand) {
        let outcome = match command {
            SessionCommand::Add(add) => SessionOutcome::Added(self.add(cx, add)),
            SessionCommand::AddPeers(AddPeers { torrent, peers }) => {
                let known = self.torrents.get_mut(&torrent.0);
                let known = known.map(|torrent| torrent.name_peers(peers));
                self.dial(cx, torrent.0);
                SessionOutcome::Known(known.is_some())
            }
            SessionCommand::Wait(wait) => return self.wait(cx, op, wait),
            SessionCommand::Read(read) => return self.read(cx, op, read),
            SessionCommand::SetRates(rates) => SessionOutcome::Known(self.set_rates(cx, rates)),
            SessionCommand::SetPriorities(priorities) => {
                SessionOutcome::Done(self.set_priorities(cx, priorities))
            }
            SessionCommand::Pause(Pause { torrent }) => SessionOutcome::Known(self.pause(cx, torrent.0)),
            SessionCommand::Resume(Resume { torrent }) => SessionOutcome::Known(self.resume(cx, torrent.0)),
            SessionCommand::Move(to) => return self.move_files(cx, op, to),
            SessionCommand::Remove(Remove { torrent }) => match self.remove(cx, torrent.0, Some(op)) {
                true => return,
                false => SessionOutcome::Known(false),
            },
            SessionCommand::Announcing(Announcing(kind)) => return self.announcer(cx, op, kind),
            SessionCommand::Announced(announced) => SessionOutcome::Known(self.announced(cx, announced)),
            SessionCommand::Fetching => return self.fetcher(cx, op),
            SessionCommand::Fetched(fetched) => SessionOutcome::Known(self.fetched(cx, fetched)),
            SessionCommand::Heard(heard) => SessionOutcome::Known(self.heard_from(cx, heard)),
            SessionCommand::Stop => return self.stop(cx, op),
            SessionCommand::Status(Status { torrent }) => {
                SessionOutcome::Status(self.status(torrent).map(Box::new))
            }
            SessionCommand::Stats => SessionOutcome::Stats(self.stats()),
        };
        cx.finish(op, outcome);
    }

    fn on_cancel(&mut self, cx: &mut Cx<'_, Self>, op: OpId) {
        self.stopping.retain(|stopping| *stopping != op);
        self.closing.values_mut().for_each(|closing| closing.forget(op));
        self.announcer_gone(cx, op);
        self.fetcher_gone(op);
        self.reader_gone(cx, op);
        for torrent in self.torrents.values_mut() {
            torrent.waiting.retain(|waiting| waiting.op != op);
            torrent.moving.iter_mut().for_each(|moving| moving.forget(op));
        }
    }

    fn on_read(&mut self, cx: &mut Cx<'_, Self>, op: OpId, items: usize) {
        self.has_read(cx, op, items);
    }

    fn on_link(&mut self, cx: &mut Cx<'_, Self>, peer: P, link: Link) {
        match link {
            Link::Up if peer.dialled() == Some(false) => self.accepted(cx, peer),
            Link::Up => {
                if let Some(conn) = self.conns.get_mut(&peer) {
                    conn.reached = true;
                }
            }
            Link::Down(_) => {
                self.nameless.remove(&peer);
                self.gone(cx, peer);
            }
        }
    }

    fn on_job(&mut self, cx: &mut Cx<'_, Self>, _: JobId, done: TorrentDone) {
        self.worked(cx, done);
    }
}

#[cfg(test)]
mod tests;
