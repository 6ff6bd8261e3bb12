//! Super-seeding (BEP 16): what a slow seed sends until all of it is among its peers.

use super::*;
use p2p_swarm::torrent::TorrentConfig;

const PIECES: usize = 100;

/// How many times over a seed has sent everything when its ten leechers have all of it among them, and how long that took.
fn spread(seed: u64, super_seeding: bool) -> (f64, f64) {
    let count = 10;
    let mut swarm = Swarm::new(seed, count + 1, 100_000, PIECES * PIECE as usize, Format::V1);
    let torrent = Source::Metainfo(swarm.metainfo.clone());
    let config = TorrentConfig { super_seeding, ..TorrentConfig::default() };
    swarm.sim.command(SEED, SessionCommand::Add(Add { config, ..Add::new(torrent.clone(), "") }));
    swarm.wait(SEED);
    swarm.finish(1, Duration::from_secs(10));
    for peer in 1..=count as u32 {
        let others = (0..=count as u32).filter(|other| *other != peer).map(SimPeer);
        swarm.add(SimPeer(peer), torrent.clone(), others);
        swarm.wait(SimPeer(peer));
    }
    let began = swarm.sim.now();
    let sent = loop {
        swarm.sim.run_for(Duration::from_millis(500));
        let copies: Vec<Vec<u8>> = swarm.disks[1..].iter().filter_map(|disk| disk.read("t")).collect();
        let piece = PIECE as usize;
        let is_there = |at: usize| {
            let right = &swarm.content[at * piece..(at + 1) * piece];
            copies.iter().any(|copy| copy.get(at * piece..(at + 1) * piece) == Some(right))
        };
        if (0..PIECES).all(is_there) {
            break swarm.status(SEED).unwrap().uploaded;
        }
    };
    let took = (swarm.sim.now() - began).as_secs_f64();
    swarm.finish(count, Duration::from_secs(600));
    (sent as f64 / swarm.content.len() as f64, took)
}

#[test]
fn a_super_seed_sends_little_more_than_one_copy_until_all_is_among_its_peers() {
    for seed in 1..=3 {
        let ((once, took), (more, alone)) = (spread(seed, true), spread(seed, false));
        println!("seed {seed}: {once:.3} copies in {took:.1} s; as others seed {more:.3} in {alone:.1} s");
        assert!(once <= 1.05, "{once} copies");
        assert!(more > once, "{more} copies");
    }
}

#[test]
fn one_leecher_alone_gets_it_all_from_a_super_seed() {
    let mut swarm = Swarm::new(1, 2, 1_000_000, PIECES * PIECE as usize, Format::V2);
    let torrent = Source::Metainfo(swarm.metainfo.clone());
    let config = TorrentConfig { super_seeding: true, ..TorrentConfig::default() };
    swarm.sim.command(SEED, SessionCommand::Add(Add { config, ..Add::new(torrent.clone(), "") }));
    swarm.wait(SEED);
    swarm.finish(1, Duration::from_secs(10));
    swarm.add(SimPeer(1), torrent, [SEED]);
    swarm.wait(SimPeer(1));
    swarm.finish(1, Duration::from_secs(60));
}
