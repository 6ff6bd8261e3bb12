//! A thousand nodes, packets that get lost, nodes that come and go.

use std::time::Duration;

use p2p_core::sim::{Encoding, Loss, Network, Session, Sim, churn, run_seeds};
use p2p_core::{Key, Keypair, SimPeer};
use p2p_dht::mainline::{
    Announce, Endpoint, FindNode, GetMutable, GetPeers, Mainline, MainlineConfig, MainlineError, MutableItem,
    PutMutable, SavedTable, Status, StoreLimits, is_secure_id,
};
use p2p_dht::{Dht, bencode};

const SECOND: Duration = Duration::from_secs(1);

type World = Sim<Mainline<SimPeer>>;

/// Nodes that know three others when they come, and their own address if `knows_itself`.
fn world(seed: u64, nodes: u32, network: Network, knows_itself: bool) -> World {
    let mut sim = World::new(seed, network);
    sim.population(move |birth| {
        let bootstrap = (0..3).filter_map(|_| birth.rng.choose(birth.alive)).map(Endpoint::addr).collect();
        let external = knows_itself.then(|| birth.peer.addr().ip());
        Mainline::new(MainlineConfig { bootstrap, external, ..MainlineConfig::default() })
    });
    for _ in 0..nodes {
        sim.join();
        sim.run_for(SECOND / 20);
    }
    sim.run_for(60 * SECOND);
    sim
}

fn torrent(n: u8) -> Key<20> {
    Key::new([n.wrapping_mul(37); 20])
}

/// What was announced is found, with one packet in twenty lost and half of the nodes replaced between.
#[test]
fn a_thousand_nodes_find_what_was_announced_under_loss_and_churn() {
    let network = Network { loss: Loss::Uniform(0.05), ..Network::default() };
    let mut sim = world(1, 1000, network, true);
    for n in 0..20 {
        let seeder = sim.handle(SimPeer(u32::from(n) * 40 + 1));
        let announced = Announce { info_hash: torrent(n), port: Some(1000 + u16::from(n)) };
        let stored = sim.block_on(async move { seeder.ask(announced).await.unwrap() }).unwrap();
        assert!((6..=32).contains(&stored.nodes), "{} of the nearest keep it", stored.nodes);
    }
    // In 20 minutes half of the sessions end; who has announced stays.
    let session = Session::Exponential { median: 20 * 60 * SECOND };
    let mut rng = p2p_core::Rng::new(2);
    let mut schedule = churn(&mut rng, 1000, 1000, session, 20 * 60 * SECOND);
    let is_seeder = |peer: SimPeer| peer.0 % 40 == 1 && peer.0 < 800;
    schedule.retain(|(_, fault)| !matches!(fault, p2p_core::sim::Fault::Crash(peer) if is_seeder(*peer)));
    sim.inject(schedule);
    sim.run_for(20 * 60 * SECOND);
    let (mut found, mut asked) = (0, 0);
    for n in 0..20 {
        let alive = sim.alive().to_vec();
        let leecher = *rng.choose(&alive).unwrap();
        let seeder =
            std::net::SocketAddr::new(SimPeer(u32::from(n) * 40 + 1).addr().ip(), 1000 + u16::from(n));
        let handle = sim.handle(leecher);
        let peers = sim.block_on(async move { handle.ask(GetPeers(torrent(n))).await.unwrap() });
        asked += 1;
        found += usize::from(peers.is_ok_and(|peers| peers.contains(&seeder)));
    }
    assert!(found >= 19, "{found} of {asked}");
}

/// Nobody is told its address: all learn it from each other, and then have ids that are bound to it.
#[test]
fn nodes_learn_their_addresses_from_each_other() {
    run_seeds(2, |seed| {
        let mut sim = world(seed, 60, Network::default(), false);
        sim.run_for(300 * SECOND);
        let bound = sim
            .view()
            .iter()
            .filter(|(peer, node)| node.id(false).is_some_and(|id| is_secure_id(&id, peer.addr().ip())))
            .count();
        assert_eq!(bound, 60);
        // What it saw while the others came is long forgotten after so many lookups.
        let handle = sim.handle(SimPeer(7));
        let targets: Vec<Key<20>> = (0..20).map(|_| sim.workload_rng().key()).collect();
        let status = sim.block_on(async move {
            for target in targets {
                handle.ask(FindNode(target)).await.unwrap().unwrap();
            }
            handle.ask(Status).await.unwrap()
        });
        assert_eq!(status.external[0], Some(SimPeer(7).addr().ip()));
        let estimate = status.estimate[0].unwrap();
        assert!((35..100).contains(&estimate), "{estimate} of 60");
        sim.trace()
    });
}

/// Every packet goes through its bytes, some late, some never: values and names are what they were.
#[test]
fn values_are_put_replaced_and_read_through_the_trait() {
    run_seeds(3, |seed| {
        let network = Network {
            loss: Loss::Uniform(0.05),
            reorder: 0.2,
            encoding: Encoding::RoundTrip,
            ..Network::default()
        };
        let mut sim = world(seed, 60, network, true);
        let (a, b) = (sim.handle(SimPeer(3)), sim.handle(SimPeer(44)));
        let keypair = Keypair::from_seed(&[9; 32]);
        let sign = |sequence: i64, value: &str| {
            MutableItem::new(&keypair, "profile", sequence, bencode::bytes(value)).unwrap()
        };
        let (one, two, three) = (sign(1, "one"), sign(2, "two"), sign(3, "three"));
        let publisher = keypair.id();
        sim.block_on(async move {
            let (a, b): (&dyn Dht<SimPeer, 20, MutableItem>, &dyn Dht<SimPeer, 20, MutableItem>) = (&a, &b);
            let key = a.put("a value".into()).await.unwrap();
            assert_eq!(b.get(key).await.unwrap(), "a value");
            a.publish(one, None).await.unwrap();
            b.publish(two.clone(), Some(1)).await.unwrap();
            let late = a.publish(three.clone(), Some(1)).await.unwrap_err();
            assert!(matches!(late, p2p_dht::PutError::Conflict { sequence: 2 }), "{late}");
            assert_eq!(a.latest(publisher, b"profile").await.unwrap(), two);
            a.publish(three.clone(), Some(2)).await.unwrap();
            assert_eq!(b.latest(publisher, b"profile").await.unwrap(), three);
            a.provide(torrent(1)).await.unwrap();
            assert_eq!(b.providers(torrent(1)).await.unwrap(), [SimPeer(3)]);
        });
        sim.trace()
    });
}

#[test]
fn a_node_that_is_alone_says_so() {
    let mut sim = World::new(1, Network::default());
    let alone = sim.spawn(|_| Mainline::new(MainlineConfig::default()));
    let handle = sim.handle(alone);
    let keypair = Keypair::from_seed(&[9; 32]);
    let item = MutableItem::new(&keypair, "", 1, bencode::bytes("x")).unwrap();
    let outcomes = sim.block_on(async move {
        let put = handle.ask(PutMutable { item, cas: None }).await.unwrap().map(|_| ());
        let get =
            handle.ask(GetMutable { publisher: keypair.id(), salt: "".into() }).await.unwrap().map(|_| ());
        let peers = handle.ask(GetPeers(torrent(1))).await.unwrap().map(|_| ());
        [put, get, peers]
    });
    assert_eq!(outcomes, [const { Err(MainlineError::NotJoined) }; 3]);
}

/// Ids that nobody checks, and twenty nodes of an adversary nearer to a key than anybody else: they answer, and keep nothing.
/// A lookup for the eight nearest would end among them; this one goes on until it is as far away as the eighth nearest to
/// any other key is.
#[test]
fn what_is_announced_at_a_besieged_key_is_found_all_the_same() {
    const HONEST: u32 = 300;
    let target = torrent(3);
    let mut sim = World::new(5, Network::default());
    sim.population(move |birth| {
        let bootstrap = (0..3).filter_map(|_| birth.rng.choose(birth.alive)).map(Endpoint::addr).collect();
        let external = Some(birth.peer.addr().ip());
        let config = MainlineConfig { bootstrap, external, enforce_ids: false, ..MainlineConfig::default() };
        if birth.peer.0 < HONEST {
            return Mainline::new(config);
        }
        // All but the last three bytes are the key's.
        let mut id = *target.as_bytes();
        birth.rng.fill(&mut id[17..]);
        let saved = SavedTable { ids: [Some(Key::new(id)), None], nodes: Vec::new() };
        let store = StoreLimits { torrents: 0, ..StoreLimits::default() };
        // So that it keeps that id: at home any is allowed.
        let external = Some(std::net::Ipv4Addr::LOCALHOST.into());
        Mainline::new(MainlineConfig { external, saved: Some(saved), store, ..config })
    });
    for _ in 0..HONEST + 20 {
        sim.join();
        sim.run_for(SECOND / 20);
    }
    sim.run_for(60 * SECOND);
    let mut nearest: Vec<(Key<20>, SimPeer)> =
        sim.view().iter().filter_map(|(peer, node)| Some((node.id(false)?.xor(&target), peer))).collect();
    nearest.sort_unstable();
    let adversaries = nearest.iter().take_while(|(_, peer)| peer.0 >= HONEST).count();
    assert!(adversaries >= 8, "{adversaries} of the nearest are the adversary's");
    let (seeder, leecher) = (sim.handle(SimPeer(11)), sim.handle(SimPeer(222)));
    // Both have seen what the network is like elsewhere.
    let targets: Vec<Key<20>> = (0..30).map(|_| sim.workload_rng().key()).collect();
    let found = sim.block_on(async move {
        for target in targets {
            seeder.ask(FindNode(target)).await.unwrap().unwrap();
            leecher.ask(FindNode(target)).await.unwrap().unwrap();
        }
        seeder.ask(Announce { info_hash: target, port: Some(7) }).await.unwrap().unwrap();
        leecher.ask(GetPeers(target)).await.unwrap()
    });
    assert_eq!(found, Ok(vec![std::net::SocketAddr::new(SimPeer(11).addr().ip(), 7)]));
}
