//! One torrent of a session: how far it is, and what is known of it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::ops::{Range, RangeInclusive};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use p2p_core::{Cx, OpId, Rng, Time};

use super::super::address::{Addressed, Carrier};
use super::super::candidates::{Candidates, Origin};
use super::super::command::TorrentError;
use super::super::gather::{Hashes, Metadata};
use super::super::job::{Tag, TorrentJob, Work};
use super::super::metainfo::{Info, InfoHashes, PieceLayers, SwarmId};
use super::super::peer::Conn;
use super::super::picker::{Order, Picker, Priority};
use super::super::source::SourceKind;
use super::super::status::{PeerStatus, TorrentStage, TorrentStatus};
use super::super::throttle::{RateLimits, Throttle};
use super::super::tiers::Tiers;
use super::Session;
use super::moving::Moving;
use super::opening::Opening;
use super::pausing::Paused;
use super::web::WebSeed;
use crate::rate::Rate;

/// One torrent.
#[derive(Debug)]
pub(super) struct Torrent<P> {
    pub(super) number: u64,
    pub(super) hashes: InfoHashes,
    pub(super) name: Option<String>,
    pub(super) folder: PathBuf,
    /// If its files are to go elsewhere.
    pub(super) moving: Option<Moving>,
    /// Which files are wanted by its link; all, if none are named.
    pub(super) select: Vec<RangeInclusive<u32>>,
    /// How much files are wanted of which the user has said so.
    pub(super) priorities: BTreeMap<u32, Priority>,
    pub(super) info: Option<Arc<Info>>,
    pub(super) layers: Arc<PieceLayers>,
    pub(super) stage: Stage<P>,
    /// The connections that have said who they are.
    pub(super) peers: BTreeSet<P>,
    /// Connections that have not.
    pub(super) strangers: usize,
    pub(super) candidates: Candidates,
    /// Where it is announced, for each of its swarms.
    pub(super) tiers: BTreeMap<(SwarmId, SourceKind), Tiers>,
    /// Its trackers, for a swarm that is not known yet.
    pub(super) trackers: Vec<Vec<String>>,
    /// Servers that have its files (BEP 19).
    pub(super) web: Vec<WebSeed<P>>,
    pub(super) optimistic: Option<P>,
    pub(super) waiting: Vec<Waiting>,
    /// Blocks that have come and are not written.
    pub(super) writing: usize,
    /// The worker had no room for some; they are asked for again.
    pub(super) starved: bool,
    pub(super) syncing: bool,
    /// Whether its user has paused it.
    pub(super) held: bool,
    /// If its files failed: until they can be used again.
    pub(super) paused: Option<Paused<P>>,
    /// How long it would have rested next when it went on last, and when that was.
    pub(super) rested: Option<(Duration, Time)>,
    /// Whether something is there that is not written down, and when that was done last.
    pub(super) fresh: bool,
    pub(super) saved: Time,
    /// Whether what was written down is believed.
    pub(super) trust: bool,
    pub(super) done: bool,
    pub(super) order: Order,
    /// Whether its pieces are to be given out one by one.
    pub(super) super_seeding: bool,
    pub(super) up_limit: Throttle,
    pub(super) down_limit: Throttle,
    pub(super) down: Rate,
    pub(super) up: Rate,
    pub(super) downloaded: u64,
    pub(super) uploaded: u64,
    pub(super) wasted: u64,
}

/// Somebody who waits for a torrent.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) op: OpId,
    pub(super) progress: Option<Duration>,
    pub(super) told: Time,
}

/// What is being done for a torrent.
#[derive(Debug)]
pub(super) enum Stage<P> {
    Metadata(Metadata<P>),
    Hashes(Hashes<P>),
    Opening(Opening),
    Running(Box<Picker<P>>),
    Failed(TorrentError),
}

impl<P: Addressed> Torrent<P> {
    pub(super) fn running(&mut self) -> Option<&mut Picker<P>> {
        match &mut self.stage {
            Stage::Running(picker) => Some(picker),
            Stage::Metadata(_) | Stage::Hashes(_) | Stage::Opening(_) | Stage::Failed(_) => None,
        }
    }

    pub(super) fn picker(&self) -> Option<&Picker<P>> {
        match &self.stage {
            Stage::Running(picker) => Some(picker),
            Stage::Metadata(_) | Stage::Hashes(_) | Stage::Opening(_) | Stage::Failed(_) => None,
        }
    }

    pub(super) fn pieces(&self) -> u64 {
        self.info.as_ref().map_or(0, |info| info.piece_count().into())
    }

    pub(super) fn start(&self, cx: &mut Cx<'_, Session<P>>, tag: Tag, work: Work) {
        cx.start(TorrentJob { torrent: self.number, tag, work });
    }

    /// Whether peers may be found by its trackers only (BEP 27); not known while there is no metadata.
    pub(super) fn private(&self) -> bool {
        self.info.as_ref().is_some_and(|info| info.private())
    }

    /// Each of its swarms has the same sources, and is announced by itself: at trackers if it names some, elsewhere if it
    /// is not private, and somebody speaks with such a source.
    pub(super) fn find_sources(&mut self, announcers: &BTreeMap<SourceKind, OpId>, rng: &mut Rng) {
        for swarm in self.hashes.swarms() {
            if !self.trackers.is_empty() {
                let trackers = self.tiers.entry((swarm, SourceKind::Trackers));
                trackers.or_insert_with(|| Tiers::new(&self.trackers, rng));
            }
            for kind in announcers.keys() {
                if let SourceKind::Open(name) = kind
                    && !self.private()
                {
                    self.tiers.entry((swarm, *kind)).or_insert_with(|| Tiers::of_source(name, rng));
                }
            }
        }
    }

    /// What sources of some kinds were told is forgotten.
    pub(super) fn forget_sources(&mut self, of: impl Fn(SourceKind) -> bool) {
        self.tiers.retain(|(_, kind), _| !of(*kind));
    }

    /// The user names peers. A private torrent has none but those of its trackers.
    pub(super) fn name_peers(&mut self, peers: Vec<SocketAddr>) {
        if !self.private() {
            peers.into_iter().for_each(|addr| self.candidates.hear(addr, Origin::User));
        }
    }

    /// It is connected to somebody who listens there, and is remembered if it may be dialled again.
    pub(super) fn meet(&mut self, addr: SocketAddr, carrier: Carrier) {
        self.candidates.connected(addr, !self.private());
        if carrier == Carrier::Utp {
            self.candidates.speaks_utp(&addr);
        }
    }

    /// Those who wait for it to be done or moved, and wait no longer.
    pub(super) fn askers(&mut self) -> Vec<OpId> {
        let moving = self.moving.take().and_then(|moving| moving.asker());
        self.waiting.drain(..).map(|waiting| waiting.op).chain(moving).collect()
    }

    /// Has the worker look what is there.
    pub(super) fn open(&mut self, cx: &mut Cx<'_, Session<P>>) {
        let Some(info) = self.info.clone() else { return };
        self.stage = Stage::Opening(Opening::begun());
        let (layers, folder) = (self.layers.clone(), self.folder.clone());
        self.start(cx, Tag::Open, Work::Open { info, layers, folder, trust: self.trust });
    }

    /// Whether peers are told of its pieces one by one.
    pub(super) fn is_super_seeding(&self) -> bool {
        self.super_seeding && self.picker().is_some_and(|picker| picker.have().is_full())
    }

    /// Whether a worker looks what is there.
    pub(super) fn is_looked_at(&self) -> bool {
        matches!(&self.stage, Stage::Opening(opening) if opening.is_begun())
    }

    /// Whether what peers ask for may be read.
    pub(super) fn serves(&self) -> bool {
        self.paused.as_ref().is_none_or(Paused::serves)
    }

    /// Has a worker hash some pieces.
    pub(super) fn check(&self, cx: &mut Cx<'_, Session<P>>, pieces: Range<u32>) {
        let Some(info) = self.info.clone() else { return };
        let tag = Tag::Check { from: pieces.start, until: pieces.end };
        let (layers, folder) = (self.layers.clone(), self.folder.clone());
        self.start(cx, tag, Work::Check { info, layers, folder, pieces });
    }

    /// Has the worker make safe what is there.
    pub(super) fn sync(&self, cx: &mut Cx<'_, Session<P>>, tag: Tag) {
        if let Some(have) = self.picker().map(|picker| picker.have().clone()) {
            self.start(cx, tag, Work::Sync { have });
        }
    }

    /// Has the worker close what is open.
    pub(super) fn close(&self, cx: &mut Cx<'_, Session<P>>) {
        let have = self.picker().map(|picker| picker.have().clone());
        self.start(cx, Tag::Close, Work::Close { have });
    }

    pub(super) fn status(&self, conns: &BTreeMap<P, Conn>) -> TorrentStatus {
        let picker = self.picker();
        let peer = |peer: &P| {
            let conn = conns.get(peer)?;
            Some(PeerStatus {
                addr: conn.listens.unwrap_or_else(|| peer.addr()),
                carrier: peer.carrier(),
                client: conn.client.clone(),
                downloaded: conn.downloaded,
                uploaded: conn.uploaded,
                pieces: conn.have.count() as u32,
                interesting: conn.interesting,
                chokes: conn.chokes,
                choked: conn.unchoked.is_none(),
            })
        };
        TorrentStatus {
            hashes: self.hashes,
            name: self.name.clone(),
            folder: self.folder.clone(),
            stage: match &self.stage {
                Stage::Failed(_) => TorrentStage::Failed,
                _ if self.held || self.paused.is_some() => TorrentStage::Paused,
                Stage::Metadata(_) => TorrentStage::Metadata,
                Stage::Hashes(_) => TorrentStage::Hashes,
                Stage::Opening(_) => TorrentStage::Checking,
                Stage::Running(picker) if picker.is_done() => TorrentStage::Seeding,
                Stage::Running(_) => TorrentStage::Downloading,
            },
            trouble: match &self.stage {
                Stage::Failed(why) => Some(why.clone()),
                _ => self.paused.as_ref().map(Paused::why),
            },
            rates: RateLimits { up: self.up_limit.rate(), down: self.down_limit.rate() },
            pieces: picker.map_or(0, |picker| picker.have().count() as u32),
            wanted: picker.map_or(0, Picker::wanted),
            size: self.info.as_ref().map(|info| info.size()),
            downloaded: self.downloaded,
            uploaded: self.uploaded,
            wasted: self.wasted,
            down: self.down.per_second(),
            up: self.up.per_second(),
            peers: self.peers.iter().filter_map(peer).collect(),
            trackers: self.tiers.values().flat_map(Tiers::status).cloned().collect(),
            web_seeds: self.web.iter().map(|seed| seed.status().clone()).collect(),
        }
    }
}
