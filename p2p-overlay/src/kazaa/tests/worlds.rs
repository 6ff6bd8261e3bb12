//! Whole networks.

use super::*;
use crate::promotion::PromotionConfig;

/// Super-nodes first, then ordinary nodes, each fifth of which accepts no connections; everybody has a song of its own,
/// and one of ten tunes whose hash is that of its number.
fn world(seed: u64, supers: u32, ordinary: u32, config: KazaaConfig) -> Sim<Kazaa<SimPeer>> {
    let network = Network { encoding: Encoding::RoundTrip, ..Network::default() };
    let mut sim = Sim::new(seed, network);
    for peer in 0..supers + ordinary {
        let role = if peer < supers { Role::Ultrapeer } else { Role::Leaf };
        sim.spawn(|birth| node(birth.peer, birth.alive.first().copied(), role, config));
    }
    // Who comes later knows two: one may be gone before it has answered.
    sim.population(move |birth| {
        let mut seeds = birth.alive.to_vec();
        birth.rng.shuffle(&mut seeds);
        node(birth.peer, seeds.into_iter().take(2), Role::Leaf, config)
    });
    sim.run_for(Duration::from_secs(180));
    sim
}

fn node(
    peer: SimPeer,
    seeds: impl IntoIterator<Item = SimPeer>,
    role: Role,
    config: KazaaConfig,
) -> Kazaa<SimPeer> {
    let listen = peer.contact().filter(|_| role == Role::Ultrapeer || peer.0 % 5 != 4);
    let mut node = Kazaa::new(listen, seeds.into_iter().filter_map(|seed| seed.contact()), role, config);
    node.library_mut().insert(Item::new(format!("song{}", peer.0), 1000)).unwrap();
    let tune = ContentHash::Blake3([(peer.0 % 10) as u8; 32]);
    node.library_mut().insert(Item::new(format!("tune by {}", peer.0), 1000).hash(tune)).unwrap();
    node
}

fn small() -> KazaaConfig {
    KazaaConfig { wanted: 4, degree: 8, ..KazaaConfig::default() }
}

fn find(sim: &mut Sim<Kazaa<SimPeer>>, from: u32, query: Query, hits: u32) -> Vec<Hit<SimPeer>> {
    let handle = sim.handle(SimPeer(from));
    let scope = Scope { hits, deadline: Duration::from_secs(90), ..Scope::default() };
    sim.block_on(async move { handle.search(query, scope).collect().await })
}

#[test]
fn everybody_is_found_by_word_and_all_sources_of_a_content_by_hash() {
    run_seeds(1, |seed| {
        let mut sim = world(seed, 8, 40, small());
        for from in [3, 20] {
            for what in [5, 12, 33, 47] {
                let found = find(&mut sim, from, Query::text(&format!("song{what}")), 1);
                assert_eq!(found.len(), 1, "{from} looks for {what}");
            }
        }
        // Of 48 those whose number ends in 7: but for the asker, if it is one.
        let sources = find(&mut sim, 20, Query::content(ContentHash::Blake3([7; 32])), 50);
        assert_eq!(sources.len(), 5, "7, 17, 27, 37 and 47: {sources:?}");
        sim.run_for(Duration::from_secs(300));
        let banned: u64 = sim.view().iter().map(|(_, node)| node.tally().banned).sum();
        assert_eq!(banned, 0, "nobody honest");
        sim.trace()
    });
}

#[test]
fn sources_are_reached_whether_they_accept_connections_or_not() {
    let mut sim = world(1, 4, 20, small());
    for (what, push) in [(12, false), (14, true), (1, false)] {
        let hit = find(&mut sim, 10, Query::text(&format!("song{what}")), 1).pop().unwrap();
        assert_eq!(hit.fetch == Fetch::Push, push, "{what}");
        let handle = sim.handle(SimPeer(10));
        assert_eq!(sim.block_on(async move { handle.reach(&hit).await }), Ok(SimPeer(what)));
    }
    let hit = find(&mut sim, 14, Query::text("song19"), 1).pop().unwrap();
    let handle = sim.handle(SimPeer(14));
    let reached = sim.block_on(async move { handle.reach(&hit).await });
    assert_eq!(reached, Err(SearchError::Unreachable), "two that accept none do not meet");
}

/// After every 200 steps: no index has an item of anybody who has been gone for longer than it takes to notice.
#[test]
fn under_churn_no_index_keeps_who_is_gone_and_everybody_finds_a_super_node() {
    run_seeds(1, |seed| {
        let config = small();
        let mut sim = world(seed, 8, 40, config);
        let mut gone: BTreeMap<SimPeer, Time> = BTreeMap::new();
        let most = config.silence + config.upkeep + Duration::from_secs(1);
        sim.check_world(200, move |view| {
            let owners = (0..80).map(SimPeer).filter(|peer| view.get(*peer).is_none());
            let dead: BTreeSet<SimPeer> = owners.collect();
            gone.retain(|peer, _| dead.contains(peer));
            for peer in dead {
                let since = *gone.entry(peer).or_insert(view.now);
                let known = view.iter().find(|(_, node)| node.indexed(&peer) > 0);
                if let Some((keeper, _)) = known.filter(|_| view.now.since(since) > most) {
                    return Err(format!("{keeper} has items of {peer}, gone since {since}"));
                }
            }
            Ok(())
        });
        for round in 0..6 {
            let leaver = 8 + sim.workload_rng().below(40) as u32;
            sim.crash(SimPeer(leaver));
            sim.run_for(Duration::from_secs(20));
            if round % 2 == 0 {
                sim.restart(SimPeer(leaver));
            }
        }
        // A third of the super-nodes at once.
        (0..3).for_each(|peer| sim.crash(SimPeer(peer)));
        sim.run_for(Duration::from_secs(120));
        let alive: Vec<u32> = sim.alive().iter().map(|peer| peer.0).collect();
        for peer in alive.iter().filter(|peer| **peer >= 8) {
            let parent = sim.node(SimPeer(*peer)).and_then(Kazaa::parent);
            let parent = parent.and_then(|parent| sim.node(parent));
            assert!(parent.is_some_and(|parent| parent.indexed(&SimPeer(*peer)) == 2), "{peer}");
        }
        for (at, what) in alive.iter().enumerate().step_by(5) {
            let from = alive[(at + 3) % alive.len()];
            assert_eq!(
                find(&mut sim, from, Query::text(&format!("song{what}")), 1).len(),
                1,
                "{from} for {what}"
            );
        }
        sim.trace()
    });
}

/// Two super-nodes with room for ten each, and forty eligible nodes: as many are promoted as are needed, then nobody
/// changes any more.
#[test]
fn a_crowd_promotes_its_own_and_settles() {
    let promotion = PromotionConfig {
        uptime: Duration::from_secs(60),
        smoothing: Duration::from_secs(30),
        stay: Duration::from_secs(120),
        chance: 100,
        ..PromotionConfig::default()
    };
    let mut sim = world(3, 2, 40, KazaaConfig { leaves: 10, promotion, ..small() });
    sim.run_for(Duration::from_secs(1200));
    let changes =
        |sim: &Sim<Kazaa<SimPeer>>| -> u64 { sim.view().iter().map(|(_, node)| node.tally().changes).sum() };
    let before = changes(&sim);
    sim.run_for(Duration::from_secs(1200));
    let supers = sim.view().iter().filter(|(_, node)| node.role() == Role::Ultrapeer).count();
    println!("{supers} super-nodes after {before} changes, {} later", changes(&sim) - before);
    assert!((4..=20).contains(&supers), "{supers}");
    assert!(changes(&sim) - before <= 4, "roles flap");
    let homeless =
        sim.view().iter().filter(|(_, node)| node.role() == Role::Leaf && node.parent().is_none()).count();
    assert_eq!(homeless, 0);
}

/// Two super-nodes where one is enough: one retires, and its ordinary nodes are found at the other, which need not ask
/// them again.
#[test]
fn who_retires_hands_over_its_own_with_what_they_share() {
    let promotion = PromotionConfig {
        stay: Duration::from_secs(240),
        smoothing: Duration::from_secs(30),
        chance: 200,
        ..PromotionConfig::default()
    };
    let mut sim = world(5, 2, 12, KazaaConfig { promotion, ..small() });
    let roles = |sim: &Sim<Kazaa<SimPeer>>| -> Vec<SimPeer> {
        sim.view().iter().filter(|(_, node)| node.role() == Role::Ultrapeer).map(|(peer, _)| peer).collect()
    };
    assert_eq!(roles(&sim).len(), 2);
    while roles(&sim).len() == 2 {
        assert!(sim.now().as_secs_f64() < 3600.0, "nobody retires");
        sim.run_for(Duration::from_secs(1));
    }
    sim.run_for(Duration::from_secs(3));
    let left = sim.node(roles(&sim)[0]).unwrap();
    let here = (2..14).filter(|peer| left.indexed(&SimPeer(*peer)) == 2).count();
    assert_eq!(here, 12, "three seconds later");
}
