//! Whole networks.

use super::*;

/// Ultrapeers first, then leaves; everybody has a song of its own, and one of a hundred that many have.
fn world(seed: u64, ultrapeers: u32, leaves: u32, config: Gnutella06Config) -> Sim<Gnutella06<SimPeer>> {
    let network = Network { encoding: Encoding::RoundTrip, ..Network::default() };
    let mut sim = Sim::new(seed, network);
    for peer in 0..ultrapeers + leaves {
        let role = if peer < ultrapeers { Role::Ultrapeer } else { Role::Leaf };
        sim.spawn(|birth| {
            let seed = birth.alive.first().and_then(SimPeer::contact);
            let mut servent = Gnutella06::new(birth.peer.contact(), seed, role, config);
            for name in [format!("song{peer}"), format!("tune{}", peer % 100)] {
                servent.library_mut().insert(Item::new(name, 1000)).unwrap();
            }
            servent
        });
    }
    sim.run_for(Duration::from_secs(300));
    sim
}

fn tally(sim: &Sim<Gnutella06<SimPeer>>, peers: std::ops::Range<u32>) -> Gnutella06Tally {
    let each = peers.filter_map(|peer| sim.node(SimPeer(peer))).map(Gnutella06::tally);
    each.fold(Gnutella06Tally::default(), |sum, node| Gnutella06Tally {
        queries: sum.queries + node.queries,
        to_leaves: sum.to_leaves + node.to_leaves,
        leaves_spared: sum.leaves_spared + node.leaves_spared,
        last_hops: sum.last_hops + node.last_hops,
        last_hops_spared: sum.last_hops_spared + node.last_hops_spared,
        reached: sum.reached + node.reached,
        duplicates: sum.duplicates + node.duplicates,
        hits: sum.hits + node.hits,
        dropped: sum.dropped + node.dropped,
        dials: sum.dials + node.dials,
        changes: sum.changes + node.changes,
    })
}

fn find(sim: &mut Sim<Gnutella06<SimPeer>>, from: u32, words: &str, hits: u32) -> BTreeSet<String> {
    let handle = sim.handle(SimPeer(from));
    let scope = Scope { hits, deadline: Duration::from_secs(90), ..Scope::default() };
    let query = Query::text(words);
    sim.block_on(async move { handle.search(query, scope).map(|hit| hit.item.name).collect().await })
}

/// Two ultrapeers with room for ten leaves each, and forty eligible leaves: as many are promoted as are needed, and then
/// nobody changes any more.
#[test]
fn a_crowd_promotes_its_own_and_settles() {
    let promotion = PromotionConfig {
        uptime: Duration::from_secs(60),
        smoothing: Duration::from_secs(30),
        stay: Duration::from_secs(120),
        chance: 100,
        ..PromotionConfig::default()
    };
    let config = Gnutella06Config { leaves: 10, hubs: 2, degree: 8, wanted: 5, promotion, ..config() };
    let mut sim = world(3, 2, 40, config);
    sim.run_for(Duration::from_secs(1500));
    let roles = |sim: &Sim<Gnutella06<SimPeer>>| {
        let all = (0..42).filter_map(|peer| sim.node(SimPeer(peer)));
        all.map(Gnutella06::role).collect::<Vec<Role>>()
    };
    let before = (roles(&sim), tally(&sim, 0..42).changes);
    sim.run_for(Duration::from_secs(1500));
    let after = (roles(&sim), tally(&sim, 0..42).changes);
    let ultrapeers = after.0.iter().filter(|role| **role == Role::Ultrapeer).count();
    println!("{ultrapeers} ultrapeers after {} changes, {} later", before.1, after.1);
    assert!((5..=25).contains(&ultrapeers), "{ultrapeers}");
    assert!(after.1 - before.1 <= 4, "roles flap: {} changes", after.1 - before.1);
    let homeless = (0..42)
        .filter_map(|peer| sim.node(SimPeer(peer)))
        .filter(|node| node.role() == Role::Leaf && node.ultrapeers().next().is_none());
    assert_eq!(homeless.count(), 0);
}

/// Two ultrapeers with six leaves each, where one is enough: one retires, and three seconds later its leaves are the
/// other's, with what they share.
#[test]
fn who_retires_hands_over_its_leaves() {
    let promotion = PromotionConfig {
        stay: Duration::from_secs(240),
        smoothing: Duration::from_secs(30),
        chance: 200,
        ..PromotionConfig::default()
    };
    let config = Gnutella06Config { hubs: 1, leaves: 100, promotion, ..config() };
    let mut sim = Sim::<Gnutella06<SimPeer>>::new(5, Network::default());
    for peer in 0..14 {
        let role = if peer < 2 { Role::Ultrapeer } else { Role::Leaf };
        let door = if peer == 1 { 0 } else { peer % 2 };
        let door = SimPeer(door).contact().filter(|_| peer > 0);
        sim.spawn(|birth| {
            let mut servent = Gnutella06::new(birth.peer.contact(), door, role, config);
            servent.library_mut().insert(Item::new(format!("song{peer}"), 1000)).unwrap();
            servent
        });
    }
    sim.run_for(Duration::from_secs(180));
    let leaves = |sim: &Sim<Gnutella06<SimPeer>>, hub: u32| {
        let hub = sim.node(SimPeer(hub)).filter(|hub| hub.role() == Role::Ultrapeer);
        hub.map(|hub| hub.leaves().filter(|leaf| leaf.0 >= 2).count())
    };
    assert_eq!([0, 1].map(|hub| leaves(&sim, hub)), [Some(6); 2]);
    while leaves(&sim, 0).is_some() && leaves(&sim, 1).is_some() {
        assert!(sim.now().as_secs_f64() < 3600.0, "nobody retires");
        sim.run_for(Duration::from_secs(1));
    }
    sim.run_for(Duration::from_secs(3));
    assert_eq!(leaves(&sim, 0).or(leaves(&sim, 1)), Some(12), "three seconds later");
    for peer in 2..14 {
        let song = format!("song{}", if peer < 13 { peer + 1 } else { 2 });
        assert_eq!(find(&mut sim, peer, &song, 1), BTreeSet::from([song.clone()]));
    }
}

#[test]
fn leaves_of_a_dead_ultrapeer_find_others() {
    let mut sim = world(4, 8, 40, config());
    (0..2).for_each(|peer| sim.crash(SimPeer(peer)));
    sim.run_for(Duration::from_secs(300));
    for peer in 8..48 {
        let hubs = sim.node(SimPeer(peer)).map_or(0, |leaf| leaf.ultrapeers().count());
        assert_eq!(hubs, 3, "leaf {peer}");
    }
    assert_eq!(find(&mut sim, 30, "song17", 1), BTreeSet::from(["song17".to_owned()]));
}

/// The same workload on both versions: 0.6 finds at least as much, for fewer messages, and leaves have hardly anything to
/// do. Tables save at least 80% of what would be sent to leaves and on last hops.
#[test]
fn more_is_found_for_less_than_with_version_04() {
    let sharing = Sharing { nodes: 300, searches: 40, hits: 5, ..Sharing::default() };
    let old = sharing.gnutella(GnutellaConfig::default()).run();
    let new = sharing.gnutella06(config()).run();
    for report in [&old, &new] {
        let (messages, success, load) = (report.messages(), report.success(), report.load());
        println!("{messages:.0} messages, {success:.2} found, load {load:.2?}, {:.2} saved", report.saved());
    }
    assert!(new.success() >= old.success() && new.messages() < old.messages());
    assert!(new.load()[1] < old.load()[0] / 2.0 && new.saved() >= 0.8);
}

/// All know the same one, come at once, and find each other: the first few must not fill one another up, nor all who are
/// late ask the same few again and again.
#[test]
fn a_network_that_knows_one_seed_is_one_network() {
    for (nodes, degree, least) in [(30, 6, 2), (80, 32, 22)] {
        let mut sim = Sim::<Gnutella06<SimPeer>>::new(5, Network::default());
        for i in 0..nodes {
            let seed = SimPeer(0).contact().filter(|_| i > 0);
            let config = Gnutella06Config { degree, ..config() };
            sim.spawn(|birth| Gnutella06::new(birth.peer.contact(), seed, Role::Ultrapeer, config));
        }
        sim.run_for(Duration::from_secs(240));
        let of = |peer: SimPeer| sim.node(peer).map(|node| node.ultrapeers().collect::<Vec<SimPeer>>());
        let (mut there, mut next) = (BTreeSet::from([SimPeer(0)]), vec![SimPeer(0)]);
        while let Some(peer) = next.pop() {
            next.extend(of(peer).unwrap().into_iter().filter(|other| there.insert(*other)));
        }
        assert_eq!(there.len(), nodes as usize, "of degree {degree}");
        let fewest = there.iter().map(|peer| of(*peer).unwrap().len()).min();
        assert!(fewest >= Some(least), "{fewest:?} of {least}");
    }
}
