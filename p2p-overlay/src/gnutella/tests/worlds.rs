//! Whole networks.

use super::*;

fn world(seed: u64, nodes: u32) -> Sim<Gnutella<SimPeer>> {
    let network = Network { encoding: Encoding::RoundTrip, ..Network::default() };
    let mut sim = Sim::new(seed, network);
    for _ in 0..nodes {
        sim.spawn(|birth| {
            let seed = birth.alive.first().and_then(SimPeer::contact);
            let mut servent = Gnutella::new(birth.peer.contact(), seed, GnutellaConfig::default());
            servent.library_mut().insert(Item::new(format!("song {}", birth.peer.0), 1000)).unwrap();
            servent
        });
    }
    sim
}

/// Whom a walk over all edges reaches.
fn component(sim: &Sim<Gnutella<SimPeer>>, from: SimPeer) -> usize {
    let (mut seen, mut next) = (BTreeSet::from([from]), vec![from]);
    while let Some(peer) = next.pop() {
        let more = sim.node(peer).into_iter().flat_map(Gnutella::neighbours);
        next.extend(more.filter(|peer| seen.insert(*peer)));
    }
    seen.len()
}

#[test]
fn servents_that_know_one_become_one_network() {
    run_seeds(2, |seed| {
        let mut sim = world(seed, 60);
        sim.run_for(Duration::from_secs(300));
        assert_eq!(component(&sim, SimPeer(30)), 60);
        let degrees: Vec<usize> =
            (0..60).map(|i| sim.node(SimPeer(i)).map_or(0, |servent| servent.neighbours().count())).collect();
        assert!(degrees.iter().all(|degree| (1..=8).contains(degree)), "{degrees:?}");
        // Neighbourhood is mutual, but for guests who are about to hear that they are.
        let one_sided = |sim: &Sim<Gnutella<SimPeer>>| {
            let of = |peer| sim.node(peer).into_iter().flat_map(Gnutella::neighbours);
            let pairs = (0..60).map(SimPeer).flat_map(|peer| of(peer).map(move |other| (peer, other)));
            let alone = pairs.filter(|(peer, other)| !of(*other).any(|back| back == *peer));
            alone.collect::<BTreeSet<(SimPeer, SimPeer)>>()
        };
        let before = one_sided(&sim);
        sim.run_for(Duration::from_millis(300));
        assert_eq!(before.intersection(&one_sided(&sim)).count(), 0);
        let handle = sim.handle(SimPeer(59));
        let found = sim.block_on(async move {
            let hits = handle.search(Query::text("song"), Scope { hits: 100, ..Scope::default() });
            hits.map(|hit| hit.item.name).collect::<BTreeSet<String>>().await
        });
        assert_eq!(found.len(), 59, "everybody else's, within seven hops");
        sim.trace()
    });
}

#[test]
fn a_network_outlives_a_third_of_its_servents() {
    let mut sim = world(3, 60);
    sim.run_for(Duration::from_secs(300));
    (0..20).for_each(|peer| sim.crash(SimPeer(peer)));
    sim.run_for(Duration::from_secs(300));
    assert_eq!(component(&sim, SimPeer(30)), 40);
}

#[test]
fn a_source_that_accepts_no_connection_is_reached_by_a_push() {
    let mut sim = world(4, 20);
    let hidden = sim.spawn(|_| {
        let mut servent = Gnutella::new(None, SimPeer(3).contact(), GnutellaConfig::default());
        servent.library_mut().insert(Item::new("rare", 5)).unwrap();
        servent
    });
    sim.run_for(Duration::from_secs(120));
    let handle = sim.handle(SimPeer(11));
    let (hit, reached) = sim.block_on(async move {
        let mut hits = handle.search(Query::text("rare"), Scope { hits: 1, ..Scope::default() });
        let hit = hits.next().await.unwrap();
        let reached = handle.reach(&hit).await;
        (hit, reached)
    });
    assert_eq!((hit.fetch, reached), (Fetch::Push, Ok(hidden)));
    let direct = sim.handle(SimPeer(11));
    let reached = sim.block_on(async move {
        let mut hits = direct.search(Query::text("song 5"), Scope { hits: 1, ..Scope::default() });
        let hit = hits.next().await.unwrap();
        direct.reach(&hit).await
    });
    assert_eq!(reached, Ok(SimPeer(5)));
}

/// A neighbour answers each ping with twenty addresses where nobody is, 1,200 in ten minutes.
#[test]
fn forged_pongs_turn_a_servent_on_nobody() {
    let config = GnutellaConfig { wanted: 6, ..GnutellaConfig::default() };
    let mut node = Script::new(Gnutella::<SimPeer>::new(ME.contact(), [], config));
    node.message(SimPeer(1), GnutellaMsg::Connect);
    let (mut dials, mut forged) = (0, 0);
    for _ in 0..60 {
        for (to, msg) in node.sent() {
            match msg {
                GnutellaMsg::Connect => dials += u32::from(to != SimPeer(1)),
                GnutellaMsg::Descriptor(Descriptor { id, payload: Payload::Ping { .. }, .. }) => {
                    for _ in 0..20 {
                        // Each in a subnet of its own.
                        forged += 1;
                        let descriptor =
                            Descriptor { id, ttl: 1, hops: 1, payload: pong(at(1000 + 300 * forged)) };
                        node.message(SimPeer(1), GnutellaMsg::Descriptor(descriptor));
                    }
                }
                _ => {}
            }
        }
        node.advance(Duration::from_secs(10));
    }
    assert!(forged >= 1180 && (3..=8).contains(&dials), "{dials} dials for {forged} pongs");
}
