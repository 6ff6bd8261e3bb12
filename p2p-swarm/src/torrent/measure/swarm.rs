//! Sessions in the simulator that share one torrent: what experiments and tests begin with.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use p2p_core::sim::{Bandwidth, DiskModel, Encoding, Latency, Liar, Network, Sim};
use p2p_core::{SimPeer, Time};

use crate::storage::Storage;
use crate::torrent::address::Addressed;
use crate::torrent::{
    Add, Metainfo, RateLimits, Session, SessionCommand, SessionConfig, SessionOutcome, Source, TorrentConfig,
    TorrentId, TorrentStatus, TorrentWorker, Wait,
};

/// Peers, each with a disk and a line of its own.
pub struct Swarm<S: Storage> {
    /// The world.
    pub sim: Sim<Liar<Session<SimPeer>>, TorrentWorker<S>>,
    /// What each keeps its files on.
    pub disks: Vec<S>,
    /// The torrent, whose file lies at the root of the disks.
    pub metainfo: Metainfo,
    /// How each treats it.
    pub config: TorrentConfig,
}

/// Lines that send this many bytes a second and take in ten times as many, 20 to 60 ms long.
pub fn network(up: u64) -> Network {
    Network {
        latency: Latency::Uniform(Duration::from_millis(20), Duration::from_millis(60)),
        bandwidth: Some(Bandwidth { up, down: up * 10, queue: 16 << 20 }),
        links: Some(Duration::from_secs(1)),
        encoding: Encoding::Measure,
        ..Network::default()
    }
}

/// A session that sends to so many at a time, a tenth less than a line of `up` bytes a second carries, so that nothing waits
/// in the line.
pub fn session(up: u64, slots: usize) -> Session<SimPeer> {
    let rates = RateLimits { up: Some(up * 9 / 10), down: None };
    Session::new(SessionConfig { rates, slots, ..SessionConfig::default() }, Some(6881))
}

impl<S: Storage + Clone> Swarm<S> {
    /// A peer for each disk, made by `make`; nobody has taken the torrent on.
    pub fn new(
        seed: u64,
        network: Network,
        disks: Vec<S>,
        metainfo: Metainfo,
        mut make: impl FnMut(SimPeer) -> Liar<Session<SimPeer>> + 'static,
    ) -> Swarm<S> {
        let of_workers = disks.clone();
        let worker = move |peer: SimPeer| TorrentWorker::new(of_workers[peer.index()].clone());
        let mut sim = Sim::with_workers(seed, network, DiskModel::default(), worker);
        sim.population(move |birth| make(birth.peer));
        disks.iter().for_each(|_| _ = sim.join());
        Swarm { sim, disks, metainfo, config: TorrentConfig::default() }
    }

    /// A peer takes a torrent on, and is told of others.
    pub fn add(&mut self, peer: SimPeer, torrent: Source, told: impl IntoIterator<Item = SimPeer>) {
        let peers: Vec<SocketAddr> = told.into_iter().map(|peer| peer.addr()).collect();
        self.sim
            .command(peer, SessionCommand::Add(Add { peers, config: self.config, ..Add::new(torrent, "") }));
    }

    /// The first peers, who have everything, take the torrent on. When they have looked at what they have all others do, at
    /// once: each is told of the seeds and of some of its like by chance, as a tracker tells. From now on it is an outcome
    /// of the simulation when somebody is done.
    ///
    /// # Panics
    /// If the seeds never get there.
    pub fn begin(&mut self, seeds: u32, acquaintances: usize) {
        let count = self.disks.len() as u32;
        (0..seeds).for_each(|seed| self.take_on(SimPeer(seed), Vec::new()));
        let mut looking = seeds;
        while looking > 0 {
            assert!(self.sim.run_to_outcome(Time::MAX), "{looking} seeds have not what they should");
            let outcomes = self.sim.take_outcomes();
            let done = outcomes.iter().filter(|ended| ended.outcome == SessionOutcome::Done(Ok(())));
            looking -= done.count() as u32;
        }
        let leechers: Vec<SimPeer> = (seeds..count).map(SimPeer).collect();
        for leecher in &leechers {
            let mut told: Vec<SimPeer> = (0..seeds).map(SimPeer).collect();
            let rng = self.sim.workload_rng();
            told.extend(
                (0..acquaintances).filter_map(|_| rng.choose(&leechers)).filter(|peer| *peer != leecher),
            );
            self.take_on(*leecher, told);
        }
        self.sim.take_outcomes();
    }

    fn take_on(&mut self, peer: SimPeer, told: Vec<SimPeer>) {
        self.add(peer, Source::Metainfo(self.metainfo.clone()), told);
        let wait = Wait { torrent: TorrentId::first(), progress: None };
        self.sim.command(peer, SessionCommand::Wait(wait));
    }

    /// A peer's session; `None` if it is dead.
    pub fn session(&self, peer: SimPeer) -> Option<&Session<SimPeer>> {
        self.sim.node(peer).map(Liar::machine)
    }

    /// How a peer's first torrent stands; `None` if it has none.
    pub fn status(&self, peer: SimPeer) -> Option<TorrentStatus> {
        self.session(peer)?.status(TorrentId::first())
    }
}

impl<S: Storage> fmt::Debug for Swarm<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Swarm")
            .field("sim", &self.sim)
            .field("peers", &self.disks.len())
            .finish_non_exhaustive()
    }
}
