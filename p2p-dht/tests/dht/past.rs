//! PAST on nodes that come, go and are full.

use std::collections::{BTreeMap, BTreeSet};

use p2p_core::sim::{DiskModel, Latency, Loss, Network, Sim};
use p2p_core::{Key, Keyed, Keypair, Rng, SimPeer};
use p2p_dht::past::{
    Certificate, FetchError, Insert, InsertError, Past, PastConfig, PastMemory, PastNode, PastRefusal,
    Reclaim,
};
use p2p_overlay::Pastry;

use crate::world::{Quick, SECOND};

type World = Sim<PastNode<SimPeer>, PastMemory>;

fn config() -> PastConfig {
    PastConfig { timeout: 2 * SECOND, settle: SECOND, repair: 60 * SECOND, ..PastConfig::default() }
}

/// Nodes that have joined one another and settled, each with this much room.
fn world(seed: u64, nodes: u32, network: Network, room: fn(SimPeer) -> u64) -> World {
    let mut sim = World::with_workers(seed, network, DiskModel::default(), |_| PastMemory::default());
    sim.population(move |birth| {
        let seeds = (0..3).filter_map(|_| birth.rng.choose(birth.alive).copied()).collect();
        let config = PastConfig { capacity: room(birth.peer), ..config() };
        PastNode::new(Pastry::quick(birth.peer, seeds), config)
    });
    for _ in 0..nodes {
        sim.join();
        sim.run_for(SECOND / 4);
    }
    sim.run_for(30 * SECOND);
    sim
}

fn past(sim: &mut World, peer: SimPeer) -> Past<SimPeer> {
    Past::new(sim.handle(peer), config())
}

/// When owners insert, in milliseconds.
const NOW: u64 = 1_700_000_000_000;

fn ada() -> Keypair {
    Keypair::from_seed(&[7; 32])
}

/// What nodes have of a file.
#[derive(Debug, Default)]
struct Where {
    /// They keep it themselves, as one of the nearest or in the place of one.
    kept: BTreeSet<SimPeer>,
    instead: BTreeSet<SimPeer>,
    /// They have a pointer to who does.
    pointers: BTreeMap<SimPeer, SimPeer>,
}

fn whereabouts(sim: &World, file: Key) -> Where {
    let mut found = Where::default();
    for (peer, node) in sim.view().iter() {
        for (_, diverted) in node.held().filter(|(held, _)| *held == file) {
            found.kept.insert(peer);
            if diverted {
                found.instead.insert(peer);
            }
        }
        found.pointers.extend(node.pointers().filter(|(held, _)| *held == file).map(|(_, at)| (peer, at)));
    }
    found
}

/// The nodes that are nearest to a key, by a look at all.
fn nearest(sim: &World, file: &Key, n: usize) -> Vec<SimPeer> {
    let mut peers = sim.alive().to_vec();
    peers.sort_unstable_by_key(|peer| peer.key().ring_gap(file));
    peers.truncate(n);
    peers
}

/// Whether each of the five nearest has the file or a pointer to one that has, no two to the same, and nobody else keeps it.
fn is_in_its_place(sim: &World, file: Key) -> Result<(), String> {
    let Where { kept, instead, pointers } = whereabouts(sim, file);
    let nearest = nearest(sim, &file, 5);
    let at: BTreeSet<SimPeer> =
        nearest.iter().filter_map(|peer| kept.get(peer).or(pointers.get(peer)).copied()).collect();
    match at == kept && kept.len() == 5 {
        true => Ok(()),
        false => {
            Err(format!("kept by {kept:?}, {instead:?} instead, pointers {pointers:?}, nearest {nearest:?}"))
        }
    }
}

#[test]
fn a_file_lies_on_the_five_nodes_nearest_to_it() {
    let mut sim = world(1, 40, Network::default(), |_| 1 << 20);
    let [here, there] = [SimPeer(3), SimPeer(33)].map(|peer| past(&mut sim, peer));
    for i in 0..20 {
        let (name, content) = (format!("song {i}"), vec![i; 10_000]);
        let inserted =
            sim.block_on(async { here.insert(&ada(), &name, content.clone(), NOW).await }).unwrap();
        assert_eq!((inserted.salt, inserted.receipts.copies, inserted.receipts.diverted), (0, 5, 0));
        let found = whereabouts(&sim, inserted.file);
        assert!(found.kept.iter().eq(nearest(&sim, &inserted.file, 5).iter().collect::<BTreeSet<_>>()));
        let file = sim.block_on(async { there.find(ada().id(), &name).await }).unwrap();
        assert_eq!(file.content, content);
    }
    let (again, other) = sim.block_on(async {
        let again = here.insert(&ada(), "song 0", vec![0; 10_000], NOW).await;
        (again, here.insert(&ada(), "song 0", vec![1; 10_000], NOW).await)
    });
    assert_eq!(again.unwrap().receipts.copies, 5, "the same once more");
    assert_eq!(other, Err(InsertError::Exists));
}

/// The root would send it to sixteen, and those without room to leaves of theirs.
#[test]
fn what_its_owner_has_not_signed_is_not_passed_on() {
    let mut sim = world(3, 40, Network::default(), |peer| if peer.index() % 3 == 0 { 1000 } else { 1 << 20 });
    let here = sim.handle(SimPeer(3));
    let certificate = Certificate::new(&ada(), "song", 0, 16, NOW, &[1; 100_000]).unwrap();
    let file = certificate.file();
    let insert = Insert { certificate, content: vec![2; 100_000].into() };
    let before = sim.stats().bytes;
    let refused = sim.block_on(async { here.ask(insert).await }).unwrap();
    let why = Some(PastRefusal::Invalid);
    assert!(
        matches!(refused, Err(InsertError::Receipts { got: 0, refusal, .. }) if refusal == why),
        "{refused:?}"
    );
    let left = whereabouts(&sim, file);
    assert!(left.kept.is_empty() && left.pointers.is_empty(), "{left:?}");
    let sent = sim.stats().bytes - before;
    assert!(sent < 5 * 100_000, "four rounds to the root, {sent} bytes");
}

/// §3.3: a third of the nodes have no room for it.
#[test]
fn a_node_without_room_has_another_leaf_keep_its_replica() {
    let mut sim = world(2, 40, Network::default(), |peer| if peer.index() % 3 == 0 { 1000 } else { 1 << 20 });
    let [here, there] = [SimPeer(3), SimPeer(33)].map(|peer| past(&mut sim, peer));
    let mut all_diverted = 0;
    for i in 0..20 {
        let (name, content) = (format!("song {i}"), vec![i; 5000]);
        let inserted =
            sim.block_on(async { here.insert(&ada(), &name, content.clone(), NOW).await }).unwrap();
        is_in_its_place(&sim, inserted.file).unwrap();
        let small = nearest(&sim, &inserted.file, 5).iter().filter(|peer| peer.index() % 3 == 0).count();
        assert_eq!(inserted.receipts.diverted, small);
        all_diverted += small;
        // By way of a pointer as well: whoever keeps it itself dies.
        let file = inserted.file;
        assert_eq!(sim.block_on(async { there.get(file).await }).unwrap().content, content);
        if i % 2 == 0 {
            assert_eq!(sim.block_on(async { there.reclaim(&ada(), file, NOW).await }), Ok(5));
            sim.run_for(SECOND);
            let left = whereabouts(&sim, file);
            assert!(left.kept.is_empty() && left.pointers.is_empty(), "{left:?}");
            let gone = sim.block_on(async { here.get(file).await });
            assert!(matches!(gone, Err(FetchError::NotFound { .. })), "{gone:?}");
        }
    }
    assert!(all_diverted > 10, "{all_diverted}");
}

/// §3.4: on one half of the ring nobody has room.
#[test]
fn a_file_goes_elsewhere_if_its_nodes_and_their_leaves_are_full() {
    fn is_small(key: &Key) -> bool {
        key.bit(0)
    }
    let mut sim = world(3, 80, Network::default(), |peer| if is_small(&peer.key()) { 1000 } else { 1 << 20 });
    let here = past(&mut sim, SimPeer(3));
    let mut diverted = 0;
    for i in 0..40 {
        let name = format!("song {i}");
        let inserted = sim.block_on(async { here.insert(&ada(), &name, vec![i; 5000], NOW).await });
        // All five, and all their leaves, are in the half without room.
        let surely_full = |key: &Key| nearest(&sim, key, 21).iter().all(|peer| is_small(&peer.key()));
        let ids: Vec<Key> =
            (0..4).map(|salt| p2p_dht::past::Certificate::file_id(&ada().id(), &name, salt)).collect();
        let first = ids.iter().position(|id| !surely_full(id));
        match inserted {
            Ok(inserted) => {
                assert!(
                    first.is_some_and(|first| inserted.salt as usize >= first),
                    "{inserted:?}, {first:?}"
                );
                diverted += inserted.salt;
                is_in_its_place(&sim, inserted.file).unwrap();
                let file = sim.block_on(async { here.find(ada().id(), &name).await }).unwrap();
                assert_eq!(file.content, vec![i; 5000]);
            }
            Err(error) => {
                assert_eq!(error, InsertError::Full);
                assert!(ids.iter().all(is_small), "there was room under another salt");
            }
        }
    }
    assert!(diverted > 10, "{diverted}");
}

#[test]
fn what_does_not_fit_leaves_nothing() {
    let mut sim = world(4, 20, Network::default(), |_| 10_000);
    let here = past(&mut sim, SimPeer(3));
    let inserted = sim.block_on(async { here.insert(&ada(), "song", vec![0; 2000], NOW).await });
    assert_eq!(inserted, Err(InsertError::Full));
    let inserted = sim.block_on(async { here.insert(&ada(), "song", vec![0; 900], NOW).await });
    assert_eq!(inserted.unwrap().receipts.copies, 5);
    assert_eq!(sim.view().iter().map(|(_, node)| node.used()).sum::<u64>(), 5 * 900);
}

/// A reclaim frees what was inserted until then: not what is inserted later, whoever says it again, and not what an earlier
/// insert has left where a later one of the same file fails.
#[test]
fn a_reclaim_frees_nothing_of_another_insert() {
    let mut sim = world(5, 20, Network::default(), |_| 1 << 20);
    let here = past(&mut sim, SimPeer(3));
    sim.block_on(async {
        let first = here.insert(&ada(), "song", vec![1; 100], NOW).await.unwrap();
        let again = here.insert(&ada(), "song", vec![1; 100], NOW + 5).await.unwrap();
        assert_eq!((again.file, again.receipts.copies), (first.file, 5), "the same once more");
        // Which a later try says if it fails.
        let failed = Reclaim::new(&ada(), first.file, NOW + 5..=NOW + 5);
        let early = here.reclaim(&ada(), first.file, NOW - 1).await;
        assert_eq!(early, Ok(0), "it was not inserted yet");
        assert!(!failed.frees(&here.get(first.file).await.unwrap().certificate));
        assert_eq!(here.reclaim(&ada(), first.file, NOW).await, Ok(5));
        here.insert(&ada(), "song", vec![2; 100], NOW + 10).await.unwrap();
        assert_eq!(here.reclaim(&ada(), first.file, NOW).await, Ok(0), "said again");
        assert_eq!(here.get(first.file).await.unwrap().content, vec![2; 100]);
    });
}

/// Nodes die, up to four at once, and others join, and a fifth of them have no room: no file is lost, and each is on the right
/// nodes, and on no others, when all is quiet.
#[test]
fn files_survive_while_fewer_nodes_fail_than_keep_them() {
    p2p_core::sim::run_seeds(2, |seed| {
        let network = Network {
            latency: Latency::Uniform(SECOND / 100, SECOND / 10),
            loss: Loss::Uniform(0.01),
            ..Network::default()
        };
        let mut sim = world(seed, 30, network, |peer| if peer.index() % 5 == 0 { 1000 } else { 1 << 20 });
        let mut rng = Rng::stream(seed, 5);
        let mut files: BTreeMap<Key, Vec<u8>> = BTreeMap::new();
        for round in 0..5u8 {
            for i in 0..8 {
                let through = *rng.choose(sim.alive()).unwrap();
                let past = past(&mut sim, through);
                let content = vec![16 * round + i; 3000];
                let name = format!("song {i} of round {round}");
                if let Ok(inserted) =
                    sim.block_on(async { past.insert(&ada(), &name, content.clone(), NOW).await })
                {
                    files.insert(inserted.file, content);
                }
            }
            for _ in 0..4 {
                let victim = *rng.choose(sim.alive()).unwrap();
                sim.crash(victim);
            }
            for _ in 0..4 {
                sim.join();
            }
            sim.run_for(120 * SECOND);
        }
        assert!(files.len() > 30, "{}", files.len());
        sim.run_for(300 * SECOND);
        for (file, content) in files {
            let reader = *rng.choose(sim.alive()).unwrap();
            let past = past(&mut sim, reader);
            let got = sim.block_on(async { past.get(file).await });
            assert!(got.is_ok_and(|got| got.content == content), "{:?}", whereabouts(&sim, file));
            is_in_its_place(&sim, file).unwrap();
        }
        sim.trace()
    });
}
