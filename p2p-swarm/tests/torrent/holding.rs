//! Torrents that are paused while they cross, and go on.

use super::*;
use p2p_swarm::torrent::{Pause, Resume, TorrentStage};

const PIECES: usize = 100;
const ID: TorrentId = TorrentId::first();

/// What has come and what has gone.
fn moved(swarm: &Swarm, peer: SimPeer) -> (u64, u64) {
    let status = swarm.status(peer).unwrap();
    (status.downloaded, status.uploaded)
}

fn pause(swarm: &mut Swarm, peer: SimPeer) {
    tell(swarm, peer, SessionCommand::Pause(Pause { torrent: ID }));
}

fn resume(swarm: &mut Swarm, peer: SimPeer) {
    tell(swarm, peer, SessionCommand::Resume(Resume { torrent: ID }));
}

fn tell(swarm: &mut Swarm, peer: SimPeer, command: SessionCommand) {
    swarm.sim.command(peer, command);
    assert!(swarm.sim.run_to_outcome(Time::MAX));
    let ended = swarm.sim.take_outcomes().pop().unwrap();
    assert_eq!((ended.peer, ended.outcome), (peer, SessionOutcome::Known(true)));
}

#[test]
fn a_paused_leecher_moves_no_byte_while_others_finish_and_then_gets_the_rest_once() {
    run_seeds(3, |seed| {
        let leecher = SimPeer(1);
        let mut swarm = Swarm::new(seed, 4, 200_000, PIECES * PIECE as usize, Format::Hybrid);
        swarm.begin(1, 3);
        swarm.sim.run_for(Duration::from_secs(8));
        pause(&mut swarm, leecher);
        let before = moved(&swarm, leecher);
        let status = swarm.status(leecher).unwrap();
        assert!(before.0 > 0 && before.1 > 0 && status.pieces < PIECES as u32, "{before:?}");
        // The others are done without it, and have nothing to do with it.
        swarm.finish(2, Duration::from_secs(200));
        swarm.sim.run_for(Duration::from_secs(600));
        assert_eq!(moved(&swarm, leecher), before);
        let status = swarm.status(leecher).unwrap();
        assert_eq!((status.stage, status.peers.len()), (TorrentStage::Paused, 0));
        resume(&mut swarm, leecher);
        let resumed = swarm.sim.now();
        swarm.finish(1, Duration::from_secs(120));
        let (downloaded, _) = moved(&swarm, leecher);
        let took = swarm.sim.now() - resumed;
        println!("seed {seed}: {downloaded} bytes of {}, the rest in {took:?}", swarm.content.len());
        // What was on its way when it was paused is not counted; what came is not asked for again.
        assert!(downloaded <= (swarm.content.len() + 2 * PIECE as usize) as u64, "{downloaded}");
        swarm.sim.trace()
    });
}

#[test]
fn a_paused_seed_serves_nobody_until_it_goes_on() {
    let mut swarm = Swarm::new(5, 3, 200_000, PIECES * PIECE as usize, Format::V2);
    swarm.begin(1, 3);
    swarm.sim.run_for(Duration::from_secs(5));
    pause(&mut swarm, SEED);
    let before = moved(&swarm, SEED);
    // What it alone has they cannot get; they try to reach it all the while.
    swarm.sim.run_for(Duration::from_secs(300));
    assert_eq!(moved(&swarm, SEED), before);
    let there: Vec<u32> = (1..3).map(|peer| swarm.status(SimPeer(peer)).unwrap().pieces).collect();
    swarm.sim.run_for(Duration::from_secs(300));
    let later: Vec<u32> = (1..3).map(|peer| swarm.status(SimPeer(peer)).unwrap().pieces).collect();
    assert!(there == later && there.iter().all(|pieces| *pieces < PIECES as u32), "{there:?}, {later:?}");
    resume(&mut swarm, SEED);
    swarm.finish(2, Duration::from_secs(300));
}
