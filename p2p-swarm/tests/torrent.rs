//! BitTorrent swarms in the simulator: crowds, free riders, liars, links.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::SocketAddr;
use std::time::Duration;

use p2p_core::sim::{Bandwidth, DiskModel, Encoding, Latency, Liar, Network, Sim, run_seeds};
use p2p_core::{Rng, SimPeer, Time};
use p2p_swarm::MemoryFiles;
use p2p_swarm::torrent::{
    Add, Addressed, CreateOptions, Format, Magnet, MemoryTorrents, Metainfo, PeerMsg, Session,
    SessionCommand, SessionConfig, SessionEvent, SessionOutcome, Source, TorrentId, Wait,
};

type World = Sim<Liar<Session<SimPeer>>, MemoryTorrents>;

const SEED: SimPeer = SimPeer(0);
const PIECE: u32 = 32 << 10;

fn content(len: usize) -> Vec<u8> {
    let mut content = vec![0; len];
    Rng::new(len as u64).fill(&mut content);
    content
}

/// Lines that take in ten times what they give, 20 to 60 ms long.
fn network(up: u64) -> Network {
    Network {
        latency: Latency::Uniform(Duration::from_millis(20), Duration::from_millis(60)),
        bandwidth: Some(Bandwidth { up, down: up * 10, queue: 16 << 20 }),
        links: Some(Duration::from_secs(1)),
        encoding: Encoding::Measure,
        ..Network::default()
    }
}

/// A swarm: the first has everything, the others nothing yet.
struct Swarm {
    sim: World,
    disks: Vec<MemoryFiles>,
    metainfo: Metainfo,
    content: Vec<u8>,
}

impl Swarm {
    /// Peers that send no faster than their lines carry.
    fn new(seed: u64, peers: usize, up: u64, len: usize, format: Format) -> Swarm {
        let disks: Vec<MemoryFiles> = (0..peers).map(|_| MemoryFiles::default()).collect();
        let content = content(len);
        disks[0].put("t", content.clone());
        let options = CreateOptions { format, piece_length: Some(PIECE), ..CreateOptions::default() };
        let metainfo = Metainfo::create(&mut disks[0].clone(), "t".as_ref(), &options).unwrap();
        let of_workers = disks.clone();
        let worker = move |peer: SimPeer| MemoryTorrents::new(of_workers[peer.index()].clone());
        let mut sim = World::with_workers(seed, network(up), DiskModel::default(), worker);
        sim.population(move |_| Liar::honest(session(up)));
        (0..peers).for_each(|_| _ = sim.join());
        Swarm { sim, disks, metainfo, content }
    }

    /// A peer takes the torrent on, and is told of these.
    fn add(&mut self, peer: SimPeer, torrent: Source, told: impl IntoIterator<Item = SimPeer>) {
        let peers: Vec<SocketAddr> = told.into_iter().map(|peer| peer.addr()).collect();
        self.sim.command(peer, SessionCommand::Add(Add { torrent, folder: "".into(), peers }));
    }

    fn wait(&mut self, peer: SimPeer) {
        let torrent = self.id(peer);
        self.sim.command(peer, SessionCommand::Wait(Wait { torrent, progress: None }));
    }

    fn id(&mut self, peer: SimPeer) -> TorrentId {
        assert!(self.sim.run_to_outcome(Time::MAX));
        match self.sim.take_outcomes().pop().map(|ended| (ended.peer, ended.outcome)) {
            Some((by, SessionOutcome::Added(Ok(id)))) if by == peer => id,
            other => panic!("{other:?}"),
        }
    }

    /// The whole swarm begins: each is told of the seed and of some others.
    fn begin(&mut self, acquaintances: usize) {
        let torrent = Source::Metainfo(self.metainfo.clone());
        self.add(SEED, torrent.clone(), []);
        self.wait(SEED);
        // The seed has hashed what it has before anybody asks.
        assert!(self.sim.run_to_outcome(Time::MAX));
        self.sim.take_outcomes();
        let count = self.disks.len() as u32;
        let mut rng = Rng::new(7);
        for peer in 1..count {
            let others: Vec<SimPeer> =
                (0..acquaintances).map(|_| SimPeer(rng.below(count.into()) as u32)).collect();
            let told = others.into_iter().chain([SEED]).filter(|other| other.0 != peer);
            self.add(SimPeer(peer), torrent.clone(), told.collect::<Vec<_>>());
            self.wait(SimPeer(peer));
        }
    }

    /// Runs until so many are done, and says when each was.
    fn finish(&mut self, many: usize, within: Duration) -> Vec<(SimPeer, Duration)> {
        let until = self.sim.now() + within;
        let mut done = Vec::new();
        while done.len() < many {
            assert!(self.sim.run_to_outcome(until), "{} of {many} are done after {within:?}", done.len());
            for ended in self.sim.take_outcomes() {
                assert_eq!(ended.outcome, SessionOutcome::Done(Ok(())), "{:?}", ended.peer);
                assert!(
                    self.disks[ended.peer.index()].read("t").unwrap() == self.content,
                    "{:?}",
                    ended.peer
                );
                done.push((ended.peer, ended.at.since(Time::ZERO)));
            }
        }
        done
    }
}

fn session(up: u64) -> Session<SimPeer> {
    // A little less than the line carries, so that what is sent does not wait in it.
    let config = SessionConfig { upload_rate: Some(up * 9 / 10), slots: 4, ..SessionConfig::default() };
    Session::new(config, Some(6881))
}

fn seconds(of: Duration) -> f64 {
    of.as_secs_f64()
}

#[test]
fn every_version_crosses_and_links_are_enough() {
    for format in [Format::V1, Format::V2, Format::Hybrid] {
        for link in [false, true] {
            run_seeds(2, |seed| {
                let mut swarm = Swarm::new(seed, 2, 10_000_000, 20 * PIECE as usize + 5, format);
                swarm.add(SEED, Source::Metainfo(swarm.metainfo.clone()), []);
                swarm.wait(SEED);
                swarm.finish(1, Duration::from_secs(10));
                let torrent = match link {
                    true => Source::Magnet(Magnet::from(&swarm.metainfo)),
                    false => Source::Metainfo(swarm.metainfo.clone()),
                };
                swarm.add(SimPeer(1), torrent, [SEED]);
                swarm.wait(SimPeer(1));
                swarm.finish(1, Duration::from_secs(30));
                swarm.sim.trace()
            });
        }
    }
}

/// How long a crowd takes that comes at once, and the slowest of it.
fn crowd(seed: u64, leechers: usize) -> (f64, f64) {
    let mut swarm = Swarm::new(seed, leechers + 1, 200_000, 64 * PIECE as usize, Format::V1);
    swarm.begin(20);
    let began = seconds(swarm.sim.now().since(Time::ZERO));
    let done = swarm.finish(leechers, Duration::from_secs(3000));
    let times: Vec<f64> = done.iter().map(|(_, at)| seconds(*at) - began).collect();
    (times.iter().sum::<f64>() / times.len() as f64, times.last().copied().unwrap())
}

#[test]
fn a_flash_crowd_takes_log_n_and_not_n() {
    let (_, few) = crowd(1, 8);
    let (_, many) = crowd(1, 64);
    // One after the other from the seed alone, 64 would take 64 times 2 MiB at 180 kB/s: 746 s. Eight times as many take
    // three more rounds of doubling; n would be eight times as long.
    println!("8 leechers: {few:.1} s, 64 leechers: {many:.1} s");
    assert!(many < few * 3.0, "8 leechers: {few} s, 64 leechers: {many} s");
}
