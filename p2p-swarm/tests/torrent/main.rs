//! BitTorrent swarms in the simulator: the papers' figures, liars, links, rates, pauses, files
//! that are wanted more than others; and content in order.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod disks;
mod figures;
mod holding;
mod rates;
mod selecting;
mod streaming;
mod super_seeding;

use std::net::SocketAddr;
use std::ops::{Deref, DerefMut};
use std::time::Duration;

use p2p_core::sim::{Liar, run_seeds};
use p2p_core::{Rng, SimPeer, Time};
use p2p_swarm::MemoryFiles;
use p2p_swarm::torrent::measure::{self, network, session};
use p2p_swarm::torrent::{
    Add, Addressed, CreateOptions, Format, Magnet, Metainfo, PeerMsg, RateLimits, Session, SessionCommand,
    SessionConfig, SessionEvent, SessionOutcome, Source, TorrentId, Wait,
};

const SEED: SimPeer = SimPeer(0);
const PIECE: u32 = 32 << 10;
/// Peers that each sends to at a time.
const SLOTS: usize = 4;

fn content(len: usize) -> Vec<u8> {
    let mut content = vec![0; len];
    Rng::new(len as u64).fill(&mut content);
    content
}

/// A swarm of peers with lines of one kind: the first has everything, the others nothing yet.
struct Swarm {
    swarm: measure::Swarm<MemoryFiles>,
    content: Vec<u8>,
}

impl Deref for Swarm {
    type Target = measure::Swarm<MemoryFiles>;

    fn deref(&self) -> &Self::Target {
        &self.swarm
    }
}

impl DerefMut for Swarm {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.swarm
    }
}

impl Swarm {
    /// Peers that send no faster than their lines carry.
    fn new(seed: u64, peers: usize, up: u64, len: usize, format: Format) -> Swarm {
        Swarm::with(seed, peers, up, len, format, move |_| Liar::honest(session(up, SLOTS)))
    }

    /// Peers of which some are made otherwise.
    fn with(
        seed: u64,
        peers: usize,
        up: u64,
        len: usize,
        format: Format,
        make: impl FnMut(SimPeer) -> Liar<Session<SimPeer>> + 'static,
    ) -> Swarm {
        let disks: Vec<MemoryFiles> = (0..peers).map(|_| MemoryFiles::default()).collect();
        let content = content(len);
        disks[0].put("t", content.clone());
        let options = CreateOptions { format, piece_length: Some(PIECE), ..CreateOptions::default() };
        let metainfo = Metainfo::create(&mut disks[0].clone(), "t".as_ref(), &options).unwrap();
        Swarm { swarm: measure::Swarm::new(seed, network(up), disks, metainfo, make), content }
    }

    fn add(&mut self, peer: SimPeer, torrent: Source, told: impl IntoIterator<Item = SimPeer>) {
        self.swarm.add(peer, torrent, told);
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

    /// Runs until so many are done.
    fn finish(&mut self, many: usize, within: Duration) {
        let until = self.sim.now() + within;
        let mut done = 0;
        while done < many {
            assert!(self.sim.run_to_outcome(until), "{done} of {many} are done after {within:?}");
            for ended in self.sim.take_outcomes() {
                assert_eq!(ended.outcome, SessionOutcome::Done(Ok(())), "{:?}", ended.peer);
                assert!(
                    self.disks[ended.peer.index()].read("t").unwrap() == self.content,
                    "{:?}",
                    ended.peer
                );
                done += 1;
            }
        }
    }
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

/// Poisons what a peer sends: one bit of each block.
fn poisoner(up: u64) -> Liar<Session<SimPeer>> {
    Liar::new(session(up, SLOTS), |_: &mut Rng, to, msg| match msg {
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
                if liars.contains(&peer) { poisoner(200_000) } else { Liar::honest(session(200_000, SLOTS)) }
            });
            for liar in liars {
                swarm.disks[liar.index()].put("t", swarm.content.clone());
            }
            // Events are kept from now on.
            swarm.sim.take_events();
            swarm.begin(1, 9);
            // The liars themselves are done at once; the others by no more than twice what they would take without them.
            let begun = swarm.sim.now();
            swarm.finish(9, Duration::from_secs(1000));
            let took = swarm.sim.now() - begun;
            let mut honest = Swarm::new(seed, 8, 200_000, 40 * PIECE as usize, format);
            honest.begin(1, 7);
            let begun = honest.sim.now();
            honest.finish(7, Duration::from_secs(1000));
            let without = honest.sim.now() - begun;
            assert!(took < without * 2, "{took:?}, {without:?} without liars");
            let events = swarm.sim.take_events();
            let lied: Vec<SocketAddr> = events
                .into_iter()
                .filter_map(|(_, event)| match event {
                    SessionEvent::Lied(_, addr) => Some(addr),
                    _ => None,
                })
                .collect();
            let hosts = liars.map(|liar| liar.addr().ip());
            assert!(lied.iter().all(|addr| hosts.contains(&addr.ip())), "{lied:?}");
            assert!(hosts.iter().all(|host| lied.iter().any(|addr| addr.ip() == *host)), "{lied:?}");
            swarm.sim.trace()
        });
    }
}

#[test]
fn whoever_comes_back_goes_on_from_what_was_there() {
    let mut swarm = Swarm::new(11, 2, 400_000, 64 * PIECE as usize, Format::Hybrid);
    swarm.begin(1, 0);
    swarm.sim.run_for(Duration::from_secs(3));
    let leecher = SimPeer(1);
    let before = swarm.status(leecher).unwrap();
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
        let status = swarm.status(SimPeer(peer)).unwrap();
        let known: Vec<SocketAddr> = status.peers.iter().map(|peer| peer.addr).collect();
        assert!(known.contains(&SEED.addr()), "{peer} knows {known:?}");
    }
    swarm.finish(4, Duration::from_secs(200));
}
