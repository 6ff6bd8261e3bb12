//! Looks at a crowd until everybody is done.

use std::collections::BTreeMap;
use std::time::Duration;

use p2p_core::{SimPeer, Time};

use super::report::{CrowdReport, Leecher, Rarity};
use super::{Crowd, Mirror, Swarm};
use crate::torrent::address::{Addressed, Carrier};
use crate::torrent::{Remove, SessionCommand, SessionOutcome, TorrentId};

/// How often is looked who has nearly everything. A tenth of a second.
const LOOK: Duration = Duration::from_millis(100);
/// After so many of these is looked who has what and wants what. 10: a second.
const LOOKS: u64 = 10;
/// Two that were connected for less say nothing about pieces (Legout et al. 2006, §IV.A.1). 10 s.
const PAIR: u32 = 10;

/// How many looks one leecher was connected to another, and how often it wanted something of it.
#[derive(Clone, Copy, Debug, Default)]
struct Pair {
    together: u32,
    interested: u32,
}

pub(super) struct Watch<'a> {
    crowd: &'a Crowd,
    swarm: Swarm<Mirror>,
    began: Time,
    /// Leechers that are not done.
    left: Vec<SimPeer>,
    /// When each leecher was first seen to have nearly everything.
    nearly: BTreeMap<SimPeer, Time>,
    /// Leechers that are done, and not gone.
    stay: Vec<SimPeer>,
    pairs: BTreeMap<(SimPeer, SimPeer), Pair>,
    report: CrowdReport,
}

impl<'a> Watch<'a> {
    /// Of a crowd that has just come.
    pub(super) fn new(crowd: &'a Crowd, swarm: Swarm<Mirror>) -> Watch<'a> {
        let leechers = (0..crowd.peers - crowd.seeds)
            .map(|leecher| Leecher { uplink: crowd.uplink(leecher), ..Leecher::default() });
        Watch {
            began: swarm.sim.now(),
            swarm,
            left: (crowd.seeds..crowd.peers).map(SimPeer).collect(),
            nearly: BTreeMap::new(),
            stay: Vec::new(),
            pairs: BTreeMap::new(),
            report: CrowdReport { leechers: leechers.collect(), ..CrowdReport::default() },
            crowd,
        }
    }

    pub(super) fn run(mut self) -> CrowdReport {
        let end = self.began + self.crowd.within;
        let mut looks = 0;
        let mut next = self.began + LOOK;
        while !self.left.is_empty() && self.swarm.sim.now() < end {
            if self.swarm.sim.run_to_outcome(next) {
                self.outcomes();
                continue;
            }
            next += LOOK;
            looks += 1;
            self.look_who_is_nearly_done();
            if looks % LOOKS == 0 {
                self.look_at_pieces();
                self.look_at_pairs();
            }
        }
        for peer in std::mem::take(&mut self.left) {
            self.note(peer, false);
        }
        let shares = self.pairs.values().filter(|pair| pair.together >= PAIR);
        self.report.interest =
            shares.map(|pair| f64::from(pair.interested) / f64::from(pair.together)).collect();
        self.report.interest.sort_by(f64::total_cmp);
        self.report.stats = self.swarm.sim.stats();
        self.report.trace = self.swarm.sim.trace();
        self.report
    }

    fn since(&self) -> Duration {
        self.swarm.sim.now() - self.began
    }

    fn outcomes(&mut self) {
        for ended in self.swarm.sim.take_outcomes() {
            if ended.outcome != SessionOutcome::Done(Ok(())) {
                continue;
            }
            self.left.retain(|peer| *peer != ended.peer);
            self.note(ended.peer, true);
            match self.crowd.stay {
                true => self.stay.push(ended.peer),
                false => {
                    let remove = Remove { torrent: TorrentId::first() };
                    self.swarm.sim.command(ended.peer, SessionCommand::Remove(remove));
                }
            }
        }
    }

    /// Writes down how a leecher stands.
    fn note(&mut self, peer: SimPeer, done: bool) {
        let (took, nearly) = (self.since(), self.nearly.get(&peer).copied());
        let Some(status) = self.swarm.status(peer) else { return };
        let is_seed = |addr| SimPeer::dial(Carrier::Tcp, addr, 0).0 < self.crowd.seeds;
        let seeds = status.peers.iter().filter(|peer| is_seed(peer.addr));
        let from_seeds = seeds.map(|peer| peer.downloaded).sum();
        let leecher = &mut self.report.leechers[peer.index() - self.crowd.seeds as usize];
        leecher.done = done;
        leecher.took = took;
        // Who was not seen so had the rest within a look.
        leecher.tail = done.then(|| nearly.map_or(Duration::ZERO, |at| self.swarm.sim.now() - at));
        leecher.gave = status.uploaded;
        leecher.from_seeds = from_seeds;
        leecher.from_others = status.downloaded - from_seeds;
    }

    fn look_who_is_nearly_done(&mut self) {
        let (now, enough) = (self.swarm.sim.now(), self.crowd.pieces - self.crowd.pieces / 100);
        for peer in
            self.left.iter().filter(|peer| !self.nearly.contains_key(peer)).copied().collect::<Vec<_>>()
        {
            if self.pieces(peer).count() >= enough as usize {
                self.nearly.insert(peer, now);
            }
        }
    }

    fn pieces(&self, peer: SimPeer) -> impl Iterator<Item = u32> {
        self.swarm.session(peer).into_iter().flat_map(|session| session.pieces(TorrentId::first()))
    }

    fn look_at_pieces(&mut self) {
        let mut copies = vec![0; self.crowd.pieces as usize];
        let peers = self.left.iter().chain(&self.stay);
        let peers =
            peers.map(|peer| self.pieces(*peer).for_each(|piece| copies[piece as usize] += 1)).count();
        let seeds = (0..self.crowd.seeds).filter_map(|seed| self.swarm.status(SimPeer(seed)));
        let rarity = Rarity {
            at: self.since(),
            peers: peers as u32,
            rare: copies.iter().filter(|copies| **copies == 0).count() as u32,
            seeded: seeds.map(|status| status.uploaded).sum(),
            least: copies.iter().min().copied().unwrap_or(0),
            mean: f64::from(copies.iter().sum::<u32>()) / copies.len().max(1) as f64,
            most: copies.iter().max().copied().unwrap_or(0),
        };
        if self.report.spread.is_none() && rarity.rare == 0 {
            self.report.spread = Some(rarity.at);
        }
        self.report.rarity.push(rarity);
    }

    /// Whether leechers want something of each other, in the steady state.
    fn look_at_pairs(&mut self) {
        if self.report.spread.is_none() {
            return;
        }
        for peer in &self.left {
            let Some(status) = self.swarm.status(*peer) else { continue };
            for other in status.peers.iter().filter(|other| other.pieces < self.crowd.pieces) {
                let of = SimPeer::dial(Carrier::Tcp, other.addr, 0);
                let pair = self.pairs.entry((*peer, of)).or_default();
                pair.together += 1;
                pair.interested += u32::from(other.interesting);
            }
        }
    }
}
