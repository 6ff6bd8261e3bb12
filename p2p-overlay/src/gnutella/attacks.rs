//! What honest servents lose to three attacks, with the defences and without: a flood of queries, forged pongs, and
//! hits for everything.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use futures::StreamExt;
use p2p_core::SimPeer;
use p2p_core::sim::{Liar, Rewrite, Sim};

use super::*;
use crate::search::attacks::{ANY, Flood, slow_lines};
use crate::search::{Fetch, Hit, Item, Query, Reach, Scope, Search};

type World = Sim<Liar<Gnutella<SimPeer>>>;

const HONEST: u32 = 40;
const ATTACKERS: u32 = 3;

fn config(defended: bool) -> GnutellaConfig {
    let config = GnutellaConfig { capacity: 100_000, ..GnutellaConfig::default() };
    match defended {
        true => config,
        false => GnutellaConfig {
            descriptors: ANY,
            queries: ANY,
            answers: ANY,
            hearsay: ANY,
            hits_per_query: u16::MAX,
            hits_per_source: u16::MAX,
            ..config
        },
    }
}

/// Servents on lines of 240 kbit/s, each with a song of its own; the attackers have joined with the rest, and do what
/// `lie` makes of what they say from the moment that the world has settled.
fn world(defended: bool, lie: impl Fn() -> Rewrite<Gnutella<SimPeer>>) -> World {
    let begun = Arc::new(AtomicBool::new(false));
    let mut sim = World::new(1, slow_lines());
    for peer in 0..HONEST + ATTACKERS {
        let seed = (peer > 0).then(|| SimPeer(0).contact()).flatten();
        let mut servent = Gnutella::new(SimPeer(peer).contact(), seed, config(defended));
        servent.library_mut().insert(Item::new(format!("song {peer}"), 1000)).unwrap();
        let (begun, mut lie) = (begun.clone(), lie());
        sim.spawn(|_| match peer < HONEST {
            true => Liar::honest(servent),
            false => Liar::new(servent, move |rng, to, msg| match begun.load(Ordering::Relaxed) {
                true => lie(rng, to, msg),
                false => vec![(to, msg)],
            }),
        });
    }
    sim.run_for(Duration::from_secs(300));
    begun.store(true, Ordering::Relaxed);
    sim
}

fn honest() -> Rewrite<Gnutella<SimPeer>> {
    Box::new(|_, to, msg| vec![(to, msg)])
}

fn tally(sim: &World) -> GnutellaTally {
    let each = (0..HONEST).filter_map(|peer| sim.node(SimPeer(peer))).map(|node| node.machine().tally());
    each.fold(GnutellaTally::default(), |sum, node| GnutellaTally {
        queries: sum.queries + node.queries,
        hearsay: sum.hearsay + node.hearsay,
        ..sum
    })
}

/// The share of what honest servents look for that is found while attackers flood, and the queries that each passes on.
fn under_a_flood(defended: bool, attackers: u32) -> (f64, u64) {
    let mut sim = world(defended, honest);
    let before = tally(&sim).queries;
    let attackers = HONEST..HONEST + attackers;
    let flood = Flood { askers: 0..HONEST, singers: 0..HONEST, attackers, reach: Reach::Auto };
    (flood.run(&mut sim), (tally(&sim).queries - before) / u64::from(HONEST))
}

#[test]
fn a_flood_of_queries_is_stopped_by_the_neighbours() {
    let quiet = under_a_flood(true, 0);
    let (defended, open) = (under_a_flood(true, ATTACKERS), under_a_flood(false, ATTACKERS));
    println!("found, and queries passed on by each: quiet {quiet:?}, defended {defended:?}, open {open:?}");
    assert!(quiet.0 > 0.95, "{quiet:?}");
    assert!(defended.0 > open.0 + 0.3, "defended {defended:?}, open {open:?}");
    assert!(defended.1 < open.1, "defended {defended:?}, open {open:?}");
}

/// Every pong of the attackers becomes twenty, of servents that do not exist: how many there are in ten minutes, and
/// how many servents honest ones dial by hearsay. (How few a servent dials for one such neighbour is a test of its
/// own.)
#[test]
fn forged_pongs_cause_few_dials() {
    let forged = Arc::new(AtomicU64::new(0));
    let lie = || -> Rewrite<Gnutella<SimPeer>> {
        let forged = forged.clone();
        Box::new(move |rng, to, msg| match &msg {
            GnutellaMsg::Descriptor(descriptor @ Descriptor { payload: Payload::Pong(pong), .. }) => {
                forged.fetch_add(20, Ordering::Relaxed);
                let forged = (0..20).map(|_| {
                    let contact = SimPeer(10_000 + rng.below(1_000_000) as u32).contact().unwrap();
                    let payload = Payload::Pong(Pong { contact, ..pong.clone() });
                    (to, GnutellaMsg::Descriptor(Descriptor { payload, hops: 1, ..descriptor.clone() }))
                });
                forged.collect()
            }
            _ => vec![(to, msg)],
        })
    };
    let mut sim = world(true, lie);
    // A third is gone: those that stay look for neighbours.
    (0..13).for_each(|peer| sim.crash(SimPeer(peer)));
    let before = tally(&sim).hearsay;
    sim.run_for(Duration::from_secs(600));
    let (dials, forged) = (tally(&sim).hearsay - before, forged.load(Ordering::Relaxed));
    println!("{dials} dials for {forged} forged pongs");
    assert!(forged > 1000 && dials < 5 * u64::from(HONEST) && dials * 20 < forged, "{dials} for {forged}");
}

/// The attackers answer everything with a thousand results: how many of two hundred hits are honest.
fn honest_hits_among_spam(defended: bool) -> (usize, usize) {
    let lie = || -> Rewrite<Gnutella<SimPeer>> {
        Box::new(|_, to, msg| match &msg {
            GnutellaMsg::Descriptor(descriptor @ Descriptor { payload: Payload::QueryHit(hit), .. })
                if descriptor.hops == 0 =>
            {
                let forged = (0..20u32).map(|part| {
                    let shared = |i| Shared {
                        index: 50 * part + i,
                        size: 1,
                        name: format!("song {part} {i}").into(),
                        extension: Default::default(),
                    };
                    let payload =
                        Payload::QueryHit(QueryHit { results: (0..50).map(shared).collect(), ..hit.clone() });
                    (to, GnutellaMsg::Descriptor(Descriptor { payload, ..descriptor.clone() }))
                });
                forged.collect()
            }
            _ => vec![(to, msg)],
        })
    };
    let mut sim = world(defended, lie);
    // A neighbour of an attacker asks: it hears the attacker first.
    let attacker = sim.node(SimPeer(HONEST)).unwrap().machine();
    let asker = attacker.neighbours().find(|peer| peer.0 < HONEST).unwrap();
    let handle = sim.handle(asker);
    let hits: Vec<Hit<SimPeer>> = sim.block_on(async move {
        let scope = Scope { hits: 200, deadline: Duration::from_secs(5), reach: Reach::Auto };
        handle.search(Query::text("song"), scope).collect().await
    });
    let honest = hits.iter().filter(|hit| matches!(hit.fetch, Fetch::Direct(peer) if peer.0 < HONEST));
    (honest.count(), hits.len())
}

#[test]
fn spam_leaves_room_for_honest_hits() {
    let (defended, open) = (honest_hits_among_spam(true), honest_hits_among_spam(false));
    println!("honest hits, of all: defended {defended:?}, open {open:?}");
    assert!(defended.0 >= 20, "defended {defended:?}");
    assert!(open.0 < defended.0, "open {open:?}, defended {defended:?}");
}
