//! An eclipse of one torrent, and what each defence is worth.
//!
//! Ids are only claimed on Mainline. So an adversary claims some next to a torrent's infohash: its nodes are asked before
//! all others, name none but each other, acknowledge whatever is announced, and know of no peers. Honest nodes
//! announce that they have the torrent, and others look for them.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use p2p_core::sim::{Encoding, Latency, Liar, Network, Sim};
use p2p_core::{Key, Rng, SimPeer};

use super::{
    Endpoint, KrpcBody, KrpcMsg, Mainline, MainlineCommand, MainlineConfig, MainlineOutcome, Node, Response,
    SavedTable, StoreLimits,
};
use crate::measure::Tally;

/// The eclipse of a torrent.
#[derive(Clone, Copy, Debug)]
pub struct Eclipse {
    /// How many honest nodes. 1,000; at most 16,384.
    pub nodes: u32,
    /// How many of an adversary's. 1,000.
    pub identities: u32,
    /// How many honest nodes announce, and how many look. 30.
    pub announces: u32,
    /// Whether ids that are not bound to addresses count for nothing: [`MainlineConfig::enforce_ids`]. Yes.
    pub enforce_ids: bool,
    /// Whether lookups go on until they have come as far as around other keys: [`MainlineConfig::cover`]. Yes.
    pub cover: bool,
    /// The seed of everything. 1.
    pub seed: u64,
}

impl Default for Eclipse {
    fn default() -> Eclipse {
        Eclipse { nodes: 1000, identities: 1000, announces: 30, enforce_ids: true, cover: true, seed: 1 }
    }
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct Eclipsed {
    /// The announcements; right are those that some node has acknowledged.
    pub announces: Tally,
    /// Searches for peers; right are those that found the one that announced itself.
    pub finds: Tally,
}

type World = Sim<Liar<Mainline<SimPeer>>>;

const TORRENT: Key<20> = Key::new([0x5a; 20]);
/// How many random ids a node looks up before, so that it has seen what the network is like.
const WARM_UP: u32 = 15;

impl Eclipse {
    /// Has nodes join, announces and looks.
    pub fn run(&self) -> Eclipsed {
        let mut sim = self.build();
        let mut eclipsed = Eclipsed::default();
        // What is sent without anybody asking, in a minute.
        let before = sim.stats();
        sim.run_for(Duration::from_secs(60));
        let quiet = (sim.stats().sent - before.sent, sim.stats().bytes - before.bytes);
        let honest = |sim: &mut World| SimPeer(sim.workload_rng().below(self.nodes.into()) as u32);
        for i in 0..self.announces {
            let (seeder, leecher) = (honest(&mut sim), honest(&mut sim));
            for peer in [seeder, leecher] {
                for _ in 0..WARM_UP {
                    let target = sim.workload_rng().key();
                    ask(&mut sim, peer, MainlineCommand::FindNode { target }, &mut Tally::default());
                }
            }
            let port = 1000 + i as u16;
            let announce = MainlineCommand::Announce { info_hash: TORRENT, port: Some(port) };
            let stored = match ask(&mut sim, seeder, announce, &mut eclipsed.announces) {
                Some(MainlineOutcome::Stored(stored)) => stored.is_ok_and(|stored| stored.nodes > 0),
                _ => false,
            };
            eclipsed.announces.right += u32::from(stored);
            let find = MainlineCommand::GetPeers { info_hash: TORRENT };
            let found = match ask(&mut sim, leecher, find, &mut eclipsed.finds) {
                Some(MainlineOutcome::Peers(Ok(peers))) => {
                    peers.contains(&SocketAddr::new(seeder.addr().ip(), port))
                }
                _ => false,
            };
            eclipsed.finds.right += u32::from(found);
        }
        for tally in [&mut eclipsed.announces, &mut eclipsed.finds] {
            let minutes = tally.took_ms.mean() * tally.took_ms.len() as f64 / 60_000.0;
            tally.messages = tally.messages.saturating_sub((quiet.0 as f64 * minutes) as u64);
            tally.bytes = tally.bytes.saturating_sub((quiet.1 as f64 * minutes) as u64);
        }
        eclipsed
    }

    /// The network, after all have joined.
    fn build(&self) -> World {
        let latency = Latency::Constant(Duration::from_millis(50));
        let network = Network { latency, encoding: Encoding::Measure, ..Network::default() };
        let mut sim = World::new(self.seed, network);
        let Eclipse { nodes, identities, enforce_ids, cover, .. } = *self;
        sim.population(move |birth| {
            let bootstrap = birth.some(3).iter().map(Endpoint::addr).collect();
            let config = MainlineConfig { bootstrap, enforce_ids, cover, ..MainlineConfig::default() };
            if birth.peer.0 < nodes {
                let external = Some(birth.peer.addr().ip());
                return Liar::honest(Mainline::new(MainlineConfig { external, ..config }));
            }
            let saved =
                SavedTable { ids: [Some(accomplice(nodes, birth.peer.0).id), None], nodes: Vec::new() };
            // So that it keeps that id: at home any is allowed.
            let external = Some(Ipv4Addr::LOCALHOST.into());
            let store = StoreLimits { torrents: 0, ..StoreLimits::default() };
            let node = Mainline::new(MainlineConfig { external, saved: Some(saved), store, ..config });
            let me = accomplice(nodes, birth.peer.0).id;
            Liar::new(node, move |rng, to, msg| vec![(to, mislead(rng, me, msg, nodes, identities))])
        });
        for _ in 0..nodes + identities {
            sim.join();
            sim.run_for(Duration::from_millis(20));
        }
        sim.run_for(Duration::from_secs(60));
        sim
    }
}

/// An adversary's node: all but the last three bytes of its id are the torrent's.
fn accomplice(nodes: u32, number: u32) -> Node {
    let mut id = *TORRENT.as_bytes();
    id[17..].copy_from_slice(&(number - nodes).wrapping_mul(2_654_435_761).to_be_bytes()[..3]);
    Node { id: Key::new(id), addr: SimPeer(number).addr() }
}

/// What an adversary's node sends instead of a message.
fn mislead(rng: &mut Rng, me: Key<20>, msg: KrpcMsg, nodes: u32, identities: u32) -> KrpcMsg {
    let mut named =
        || Some((0..8).map(|_| accomplice(nodes, nodes + rng.below(identities.into()) as u32)).collect());
    let body = match msg.body {
        KrpcBody::Response(response) => KrpcBody::Response(Box::new(Response {
            nodes: response.nodes.is_some().then(&mut named).flatten(),
            values: Vec::new(),
            ..*response
        })),
        // That it keeps nothing.
        KrpcBody::Error { .. } => KrpcBody::Response(Box::new(Response::new(me))),
        query @ KrpcBody::Query { .. } => query,
    };
    KrpcMsg { body, ..msg }
}

/// Asks a node, and waits for what comes of it.
fn ask(
    sim: &mut World,
    peer: SimPeer,
    command: MainlineCommand,
    tally: &mut Tally,
) -> Option<MainlineOutcome> {
    let (before, began) = (sim.stats(), sim.now());
    let op = sim.command(peer, command);
    let mut ended = None;
    while ended.is_none() && sim.run_to_outcome(began + Duration::from_secs(120)) {
        ended = sim.take_outcomes().into_iter().find(|ended| ended.op == op);
    }
    tally.asked += 1;
    tally.sent(before, sim.stats());
    tally.took_ms.add((sim.now() - began).as_millis() as u64);
    ended.map(|ended| ended.outcome)
}
