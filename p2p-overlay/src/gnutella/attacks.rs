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
            lies: u8::MAX,
            hits_per_query: u16::MAX,
            hits_per_source: u16::MAX,
            ..config
        },
    }
}

/// Servents on lines of 240 kbit/s, each with a song of its own, who say what `truth` makes of it; the attackers have
/// joined with the rest, and say what `lie` makes of it from the moment that the world has settled.
fn world(
    config: GnutellaConfig,
    truth: impl Fn() -> Rewrite<Gnutella<SimPeer>>,
    lie: impl Fn() -> Rewrite<Gnutella<SimPeer>>,
) -> World {
    let begun = Arc::new(AtomicBool::new(false));
    let mut sim = World::new(1, slow_lines());
    for peer in 0..HONEST + ATTACKERS {
        let seed = (peer > 0).then(|| SimPeer(0).contact()).flatten();
        let mut servent = Gnutella::new(SimPeer(peer).contact(), seed, config);
        servent.library_mut().insert(Item::new(format!("song {peer}"), 1000)).unwrap();
        let (begun, truth, mut lie) = (begun.clone(), truth(), lie());
        sim.spawn(|_| match peer < HONEST {
            true => Liar::new(servent, truth),
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

/// The queries that honest servents have passed on.
fn queries(sim: &World) -> u64 {
    let each = (0..HONEST).filter_map(|peer| sim.node(SimPeer(peer)));
    each.map(|node| node.machine().tally().queries).sum()
}

/// The share of what honest servents look for that is found while attackers flood, and the queries that each passes on.
fn under_a_flood(defended: bool, attackers: u32) -> (f64, u64) {
    let mut sim = world(config(defended), honest, honest);
    let before = queries(&sim);
    let attackers = HONEST..HONEST + attackers;
    let flood = Flood { askers: 0..HONEST, singers: 0..HONEST, attackers, reach: Reach::Auto };
    (flood.run(&mut sim), (queries(&sim) - before) / u64::from(HONEST))
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

/// Every pong of the attackers becomes twenty, which name hosts of a victim's network, where nobody answers: how often
/// honest servents dial there in ten minutes, for how many pongs. (How few one servent dials for one such neighbour is a
/// test of its own.)
fn dials_to_a_victim(defended: bool) -> (u64, u64) {
    // 10.0.39.0/24.
    const VICTIM: std::ops::Range<u32> = 9984..10_240;
    let [forged, dialled] = [(); 2].map(|()| Arc::new(AtomicU64::new(0)));
    let lie = || -> Rewrite<Gnutella<SimPeer>> {
        let forged = forged.clone();
        Box::new(move |rng, to, msg| match &msg {
            GnutellaMsg::Descriptor(descriptor @ Descriptor { payload: Payload::Pong(pong), .. }) => {
                forged.fetch_add(20, Ordering::Relaxed);
                let forged = (0..20).map(|_| {
                    let host = VICTIM.start + rng.below(VICTIM.len() as u64) as u32;
                    let contact = SimPeer(host).contact().unwrap();
                    let payload = Payload::Pong(Pong { contact, ..pong.clone() });
                    (to, GnutellaMsg::Descriptor(Descriptor { payload, hops: 1, ..descriptor.clone() }))
                });
                forged.collect()
            }
            _ => vec![(to, msg)],
        })
    };
    let counted = || -> Rewrite<Gnutella<SimPeer>> {
        let dialled = dialled.clone();
        Box::new(move |_, to, msg| {
            let dials = msg == GnutellaMsg::Connect && VICTIM.contains(&to.0);
            dialled.fetch_add(u64::from(dials), Ordering::Relaxed);
            vec![(to, msg)]
        })
    };
    // More neighbours than they find: they never cease to look.
    let config = GnutellaConfig { wanted: 25, most: 25, ..config(defended) };
    let mut sim = world(config, counted, lie);
    sim.run_for(Duration::from_secs(600));
    (dialled.load(Ordering::Relaxed), forged.load(Ordering::Relaxed))
}

#[test]
fn forged_pongs_turn_few_on_a_victim() {
    let (defended, open) = (dials_to_a_victim(true), dials_to_a_victim(false));
    println!("dials to a victim, for how many forged pongs: defended {defended:?}, open {open:?}");
    // Each four at once, and one every five seconds.
    assert!(defended.1 > 1000 && defended.0 <= u64::from(HONEST) * (4 + 600 / 5), "{defended:?}");
    assert!(defended.0 * 2 < open.0, "defended {defended:?}, open {open:?}");
}

/// The attackers answer everything with a thousand results, each fifty under another name: how many of two hundred hits are
/// honest.
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
                    let contact = SimPeer(5000 + part).contact().unwrap();
                    let results = (0..50).map(shared).collect();
                    let payload = Payload::QueryHit(QueryHit { contact, results, ..hit.clone() });
                    (to, GnutellaMsg::Descriptor(Descriptor { payload, ..descriptor.clone() }))
                });
                forged.collect()
            }
            _ => vec![(to, msg)],
        })
    };
    let mut sim = world(config(defended), honest, lie);
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
