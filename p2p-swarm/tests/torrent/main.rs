//! BitTorrent swarms in the simulator: crowds, free riders, liars, links, rates; and content in order.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod disks;
mod rates;
mod streaming;
mod super_seeding;

use std::net::SocketAddr;
use std::time::Duration;

use p2p_core::sim::{Bandwidth, DiskModel, Encoding, Latency, Liar, Network, Sim, run_seeds};
use p2p_core::{Rng, SimPeer, Time};
use p2p_swarm::MemoryFiles;
use p2p_swarm::torrent::{
    Add, Addressed, CreateOptions, Format, Magnet, MemoryTorrents, Metainfo, PeerMsg, RateLimits, Session,
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
        Swarm::with(seed, peers, up, len, format, move |_| Liar::honest(session(up)))
    }

    /// Peers of which some are made otherwise.
    fn with(
        seed: u64,
        peers: usize,
        up: u64,
        len: usize,
        format: Format,
        mut make: impl FnMut(SimPeer) -> Liar<Session<SimPeer>> + 'static,
    ) -> Swarm {
        let disks: Vec<MemoryFiles> = (0..peers).map(|_| MemoryFiles::default()).collect();
        let content = content(len);
        disks[0].put("t", content.clone());
        let options = CreateOptions { format, piece_length: Some(PIECE), ..CreateOptions::default() };
        let metainfo = Metainfo::create(&mut disks[0].clone(), "t".as_ref(), &options).unwrap();
        let of_workers = disks.clone();
        let worker = move |peer: SimPeer| MemoryTorrents::new(of_workers[peer.index()].clone());
        let mut sim = World::with_workers(seed, network(up), DiskModel::default(), worker);
        sim.population(move |birth| make(birth.peer));
        (0..peers).for_each(|_| _ = sim.join());
        Swarm { sim, disks, metainfo, content }
    }

    /// A peer takes the torrent on, and is told of these.
    fn add(&mut self, peer: SimPeer, torrent: Source, told: impl IntoIterator<Item = SimPeer>) {
        let peers: Vec<SocketAddr> = told.into_iter().map(|peer| peer.addr()).collect();
        self.sim.command(peer, SessionCommand::Add(Add { peers, ..Add::new(torrent, "") }));
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
    let rates = RateLimits { up: Some(up * 9 / 10), down: None };
    let config = SessionConfig { rates, slots: 4, ..SessionConfig::default() };
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

/// How many peers a crowd has at full size: set by the environment, for the second tier.
fn peers(few: usize) -> usize {
    std::env::var("P2P_SWARM_PEERS").ok().and_then(|peers| peers.parse().ok()).unwrap_or(few)
}

/// How long the last of a crowd takes that comes at once.
fn crowd(seed: u64, leechers: usize) -> f64 {
    let mut swarm = Swarm::new(seed, leechers + 1, 200_000, 32 * PIECE as usize, Format::V1);
    swarm.begin(20);
    let began = seconds(swarm.sim.now().since(Time::ZERO));
    let done = swarm.finish(leechers, Duration::from_secs(3000));
    done.iter().map(|(_, at)| seconds(*at)).fold(0.0, f64::max) - began
}

/// FIGURES, Swarm: completion time grows as log n, not n.
#[test]
fn a_flash_crowd_takes_log_n_and_not_n() {
    let (few, many) = (8_usize, peers(64));
    let (short, long) = (crowd(1, few), crowd(1, many));
    println!("{few} leechers: {short:.1} s, {many} leechers: {long:.1} s");
    // Each doubling of the crowd is one more round in which pieces are passed on: from 8 to n there are log2(n / 8). The
    // first 8 need log2(8) rounds, and the time to get it all besides; twice what that gives is room enough.
    let rounds = f64::from(many.next_power_of_two().ilog2()) / f64::from(few.ilog2());
    assert!(long < short * rounds * 2.0, "{few} leechers: {short} s, {many} leechers: {long} s");
    // One after the other the seed alone would need n times 1 MiB at 180 kB/s.
    let alone = many as f64 * 32.0 * f64::from(PIECE) / 180_000.0;
    assert!(long < alone / 4.0, "{long} s, the seed alone {alone} s");
}

/// FIGURES, Swarm: rarest first; no piece gets rare while the seed is up, and nearly every leecher has what another lacks
/// (Legout et al. 2006: the entropy, which is 1 if all have at all times).
#[test]
fn pieces_spread_evenly_and_none_is_rare() {
    let (count, pieces) = (30, 512);
    let mut swarm = led(3, count, 1_000_000, 100_000, pieces, None);
    swarm.begin(15);
    let id = TorrentId::first();
    let (mut wants, mut pairs, mut rarest) = (0, 0, u16::MAX);
    // From when each piece was sent once, and so may be rare, until somebody is done.
    loop {
        swarm.sim.run_for(Duration::from_secs(1));
        let copies = swarm.sim.node(SEED).unwrap().machine().availability(id);
        let leechers: Vec<_> = (1..=count as u32)
            .map(|peer| swarm.sim.node(SimPeer(peer)).unwrap().machine().status(id).unwrap())
            .collect();
        if leechers.iter().any(|status| status.pieces == pieces as u32) {
            break;
        }
        if copies.contains(&0) && pairs == 0 {
            continue;
        }
        rarest = rarest.min(*copies.iter().min().unwrap());
        let leechers =
            leechers.iter().flat_map(|status| &status.peers).filter(|peer| peer.addr != SEED.addr());
        for peer in leechers {
            pairs += 1;
            wants += usize::from(peer.interesting);
        }
    }
    let entropy = wants as f64 / pairs as f64;
    println!("entropy {entropy:.3} over {pairs} pairs; copies of the rarest piece: {rarest}");
    assert!(pairs > 1000 && entropy >= 0.9, "{entropy} over {pairs} pairs");
    assert!(rarest >= 1);
    swarm.finish(count, Duration::from_secs(1000));
}

/// A swarm whose seed sends so much faster than the others that what they get depends on what they give each other.
fn led(seed: u64, leechers: usize, fast: u64, up: u64, pieces: usize, rider: Option<SimPeer>) -> Swarm {
    let make = move |peer| {
        let config = SessionConfig { slots: 0, ..SessionConfig::default() };
        Liar::honest(match peer {
            SEED => session(fast),
            peer if Some(peer) == rider => Session::new(config, Some(6881)),
            _ => session(up),
        })
    };
    let mut swarm = Swarm::with(seed, leechers + 1, up, pieces * PIECE as usize, Format::V1, make);
    swarm.sim.set_bandwidth(SEED, Bandwidth { up: fast, down: fast, queue: 16 << 20 });
    swarm
}

/// Who has got how much from other leechers in 200 s, twenty rounds of chokes: the contributors, and one that gives nothing.
fn trade(seed: u64) -> (Vec<u64>, u64) {
    let count = 16;
    let rider = SimPeer(count);
    let mut swarm = led(seed, count as usize, 300_000, 50_000, 600, Some(rider));
    swarm.begin(16);
    swarm.sim.run_for(Duration::from_secs(200));
    let traded = |peer: SimPeer| -> u64 {
        let status = swarm.sim.node(peer).unwrap().machine().status(TorrentId::first()).unwrap();
        assert!(status.pieces < 600, "all are leechers still");
        status.peers.iter().filter(|other| other.addr != SEED.addr()).map(|other| other.downloaded).sum()
    };
    ((1..count).map(|peer| traded(SimPeer(peer))).collect(), traded(rider))
}

/// FIGURES, Swarm: tit-for-tat. Who gives nothing gets less of the other leechers than any that gives; the seed aside,
/// which gives to all alike. To whom optimistic unchokes go is chance, so this holds of three swarms together, and in each
/// of them it gets less than nine tenths of what the contributor in the middle does.
#[test]
fn a_free_rider_gets_least_of_those_who_trade() {
    let (mut all, mut rider) = (vec![0; 15], 0);
    for seed in 1..=3 {
        let (mut contributors, given) = trade(seed);
        all.iter_mut().zip(&contributors).for_each(|(all, traded)| *all += traded);
        rider += given;
        contributors.sort_unstable();
        let (least, middle, most) = (contributors[0], contributors[7], contributors[14]);
        println!(
            "seed {seed}: contributors {least} to {most} bytes, {middle} in the middle, the free rider {given}"
        );
        assert!(given * 10 < middle * 9, "seed {seed}");
    }
    let least = all.into_iter().min().unwrap();
    println!("together: contributors {least} bytes at the least, the free rider {rider}");
    assert!(rider < least);
}

/// Poisons what a peer sends: one bit of each block.
fn poisoner(up: u64) -> Liar<Session<SimPeer>> {
    Liar::new(session(up), |_: &mut Rng, to, msg| match msg {
        PeerMsg::Piece { piece, begin, data } => {
            let mut data = data.to_vec();
            data[0] ^= 1;
            vec![(to, PeerMsg::Piece { piece, begin, data: data.into() })]
        }
        honest => vec![(to, honest)],
    })
}

#[test]
fn poison_is_traced_to_who_sent_it_and_the_others_are_left_alone() {
    for format in [Format::V1, Format::V2] {
        run_seeds(3, |seed| {
            // Two that have everything, too, and send it wrong.
            let liars = [SimPeer(8), SimPeer(9)];
            let mut swarm = Swarm::with(seed, 10, 200_000, 40 * PIECE as usize, format, move |peer| {
                if liars.contains(&peer) { poisoner(200_000) } else { Liar::honest(session(200_000)) }
            });
            for liar in liars {
                swarm.disks[liar.index()].put("t", swarm.content.clone());
            }
            // Events are kept from now on.
            swarm.sim.take_events();
            swarm.begin(9);
            // The liars themselves are done at once.
            swarm.finish(9, Duration::from_secs(1000));
            let events = swarm.sim.take_events();
            let lied: Vec<SocketAddr> = events
                .into_iter()
                .filter_map(|(_, event)| match event {
                    SessionEvent::Lied(_, addr) => Some(addr),
                    _ => None,
                })
                .collect();
            assert!(!lied.is_empty());
            let hosts = liars.map(|liar| liar.addr().ip());
            assert!(lied.iter().all(|addr| hosts.contains(&addr.ip())), "{lied:?}");
            swarm.sim.trace()
        });
    }
}

/// FIGURES, Swarm: the last hundredth takes less than three hundredths of the time.
#[test]
fn the_endgame_leaves_no_tail() {
    let mut swarm = Swarm::new(9, 9, 400_000, 400 * PIECE as usize, Format::V1);
    swarm.begin(9);
    let leecher = SimPeer(1);
    let (mut most, mut whole) = (None, None);
    for step in 0..20_000 {
        swarm.sim.run_for(Duration::from_millis(50));
        let status = swarm.sim.node(leecher).unwrap().machine().status(TorrentId::first()).unwrap();
        let now = step as f64 * 0.05;
        if status.pieces >= 396 && most.is_none() {
            most = Some(now);
        }
        if status.pieces == 400 {
            whole = Some(now);
            break;
        }
    }
    let (most, whole) = (most.unwrap(), whole.unwrap());
    println!(
        "99% after {most:.2} s, all after {whole:.2} s: the tail is {:.1}%",
        (whole - most) / whole * 100.0
    );
    assert!((whole - most) / whole < 0.03);
}

#[test]
fn whoever_comes_back_goes_on_from_what_was_there() {
    let mut swarm = Swarm::new(11, 2, 400_000, 64 * PIECE as usize, Format::Hybrid);
    swarm.begin(0);
    swarm.sim.run_for(Duration::from_secs(3));
    let leecher = SimPeer(1);
    let before = swarm.sim.node(leecher).unwrap().machine().status(TorrentId::first()).unwrap();
    assert!(before.pieces > 5 && before.pieces < 60, "{}", before.pieces);
    swarm.sim.crash(leecher);
    swarm.disks[1].crash(&mut Rng::new(1));
    swarm.sim.restart(leecher);
    swarm.add(leecher, Source::Metainfo(swarm.metainfo.clone()), [SEED]);
    swarm.wait(leecher);
    swarm.finish(1, Duration::from_secs(100));
}

/// BEP 11: each is told of one other alone, and in the end all know the seed.
#[test]
fn who_knows_one_peer_hears_of_the_others() {
    let mut swarm = Swarm::new(13, 5, 200_000, 64 * PIECE as usize, Format::V1);
    let torrent = Source::Metainfo(swarm.metainfo.clone());
    swarm.add(SEED, torrent.clone(), []);
    swarm.wait(SEED);
    swarm.finish(1, Duration::from_secs(10));
    for peer in 1..5 {
        swarm.add(SimPeer(peer), torrent.clone(), [SimPeer(peer - 1)]);
        swarm.wait(SimPeer(peer));
    }
    swarm.sim.run_for(Duration::from_secs(8));
    for peer in 1..5 {
        let status = swarm.sim.node(SimPeer(peer)).unwrap().machine().status(TorrentId::first()).unwrap();
        let known: Vec<SocketAddr> = status.peers.iter().map(|peer| peer.addr).collect();
        assert!(known.contains(&SEED.addr()), "{peer} knows {known:?}");
    }
    swarm.finish(4, Duration::from_secs(200));
}
