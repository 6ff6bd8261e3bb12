//! CFS on nodes that die and have bounds.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use p2p_core::sim::{DiskModel, Network, Sim};
use p2p_core::{Key, Keypair, Rng, SimPeer};
use p2p_dht::cfs::{BLOCK, Blocks, Cfs, CfsConfig, CfsError, Entry, Volume};
use p2p_dht::{DhtConfig, Get, MemoryStore, Put, PutError, Refusal, Replicated};
use p2p_overlay::{Chord, ChordConfig, VirtualChord};

use crate::world::{Quick, SECOND, World, config, world};

/// In seconds.
const WEEK: u64 = 7 * 24 * 3600;

fn content(len: usize, seed: u64) -> Vec<u8> {
    let mut content = vec![0; len];
    Rng::new(seed).fill(&mut content);
    content
}

async fn write(cfs: &Cfs<SimPeer>, content: &[u8]) -> Result<Blocks, CfsError> {
    let pieces: Vec<_> =
        content.chunks(50_000).map(|piece| Ok::<_, CfsError>(Bytes::copy_from_slice(piece))).collect();
    cfs.write(stream::iter(pieces)).await
}

/// A volume is written through one node, which dies with three others; it is read through another, and changed by who has the
/// key, wherever that is.
fn a_volume_outlives_the_node_it_was_written_through<O: Quick>() {
    let mut sim = world::<O>(3, 24, Network::default(), config());
    let keypair = Keypair::from_seed(&[5; 32]);
    let song = content(40 * BLOCK + 17, 1);
    let cfs =
        |sim: &mut World<O>, peer| Cfs::<SimPeer>::new(Arc::new(sim.handle(peer)), CfsConfig::default());

    let here = cfs(&mut sim, SimPeer(2));
    let (volume, text) = (Volume::empty(keypair.id(), "music"), song.clone());
    let until = sim.wall().as_secs() + WEEK;
    sim.block_on(async {
        let file = write(&here, &text).await?;
        let root = here.change(&volume.root, [("ada/song", Some(Entry::File(file)))]).await?;
        here.commit(&keypair, &volume, root, until).await
    })
    .unwrap();
    // One less than keep each block.
    (1..5).for_each(|peer| sim.crash(SimPeer(peer)));
    sim.run_for(20 * SECOND);

    let there = cfs(&mut sim, SimPeer(11));
    let read = sim.block_on(async {
        let volume = there.open(keypair.id(), "music").await?;
        let file = there.file(&volume.root, "ada/song").await?;
        let read = there.read(file, ..).try_collect::<Vec<Bytes>>().await?.concat();
        let root = there.change(&volume.root, [("bob/song", Some(Entry::File(file)))]).await?;
        let changed = there.commit(&keypair, &volume, root, until).await?;
        assert_eq!(changed.sequence, 2);
        Ok::<_, CfsError>(read)
    });
    assert!(read.unwrap() == song);
    let elsewhere = cfs(&mut sim, SimPeer(20));
    let names = sim.block_on(async {
        let volume = elsewhere.open(keypair.id(), "music").await?;
        Ok::<_, CfsError>(
            elsewhere.list(volume.root).await?.iter().map(|(name, _)| name.to_owned()).collect::<Vec<_>>(),
        )
    });
    assert_eq!(names.unwrap(), ["ada", "bob"]);
}

over_each_overlay!(a_volume_outlives_the_node_it_was_written_through);

/// SOSP 2001, §7.2.3: with six replicas, and half of all servers gone at once, about p^6 of the blocks are lost, 1.6% for
/// p = 1/2; all others are read.
#[test]
fn blocks_are_lost_where_all_six_replicas_are() {
    const NODES: u32 = 200;
    const BLOCKS: usize = 1000;
    let peers: Vec<SimPeer> = (0..NODES).map(SimPeer).collect();
    // Eight of sixteen successors are gone on average, and hardly ever all.
    let chord = ChordConfig { stabilize: 5 * SECOND, ..ChordConfig::default() };
    let config = DhtConfig { replicas: 6, write_quorum: 6, timeout: SECOND, ..DhtConfig::default() };
    let mut sim = Sim::<Replicated<Chord<SimPeer>>, MemoryStore<SimPeer>>::with_workers(
        7,
        Network::default(),
        DiskModel::default(),
        |_| MemoryStore::default(),
    );
    for node in Chord::converged(&peers, chord) {
        sim.spawn(|_| Replicated::new(node, config));
    }
    sim.run_for(10 * SECOND);
    // Through one node, which has a copy of its own of each, and dies.
    let here = sim.handle(SimPeer(0));
    let keys: Vec<Key> = sim.block_on(async {
        let put = |i: usize| {
            let put = Put(content(64, i as u64).into());
            let here = &here;
            async move {
                let stored = here.ask(put).await.unwrap().unwrap();
                assert_eq!(stored.copies, 6);
                stored.key
            }
        };
        stream::iter(0..BLOCKS).map(put).buffered(32).collect().await
    });
    let mut holders: BTreeMap<Key, BTreeSet<SimPeer>> = BTreeMap::new();
    for (peer, node) in sim.view().iter().filter(|(peer, _)| *peer != SimPeer(0)) {
        for (slot, _) in node.held() {
            holders.entry(slot.key).or_default().insert(peer);
        }
    }
    // Any half, the publisher in it. Of all keys between two nodes the replicas are the same, so one half says little.
    let mut rng = Rng::new(1);
    let mut others = peers[1..].to_vec();
    let mut half = || {
        rng.shuffle(&mut others);
        let half: BTreeSet<SimPeer> =
            others[1..NODES as usize / 2].iter().copied().chain([SimPeer(0)]).collect();
        let lost = keys.iter().filter(|key| holders.get(key).is_none_or(|holders| holders.is_subset(&half)));
        (half.clone(), lost.copied().collect::<BTreeSet<Key>>())
    };
    let halves: Vec<_> = (0..400).map(|_| half()).collect();
    let lost = halves.iter().map(|(_, lost)| lost.len()).sum::<usize>() as f64 / (400 * BLOCKS) as f64;
    // Of 199 nodes without the publisher 99: C(193, 99 - 6) / C(199, 99) = 1.44%.
    assert!((0.012..0.018).contains(&lost), "{lost} of the blocks are lost");

    let (half, lost) = halves.iter().find(|(_, lost)| lost.len() > 5).unwrap();
    half.iter().for_each(|victim| sim.crash(*victim));
    sim.run_for(60 * SECOND);
    let reader = sim.handle(*sim.alive().first().unwrap());
    let read: Vec<(Key, bool)> = sim.block_on(async {
        let get = |key: &Key| {
            let (reader, key) = (&reader, *key);
            async move { (key, reader.ask(Get(key)).await.unwrap().is_ok()) }
        };
        stream::iter(&keys).map(get).buffered(32).collect().await
    });
    for (key, read) in read {
        assert_eq!(read, !lost.contains(&key), "{key}");
    }
}

/// §4.6: whoever stores too much is refused, and others find room. The quota is that of the nodes that keep blocks.
#[test]
fn a_publisher_that_takes_too_much_is_refused_and_another_is_not() {
    let config = DhtConfig {
        max_bytes: 100 * BLOCK as u64,
        allocation: p2p_dht::Allocation::Threshold(1),
        ..config()
    };
    let mut sim = world::<Chord<SimPeer>>(5, 8, Network::default(), config);
    let [greedy, modest] = [SimPeer(1), SimPeer(6)]
        .map(|peer| Cfs::<SimPeer>::new(Arc::new(sim.handle(peer)), CfsConfig::default()));
    // Each of eight nodes keeps five eighths of all blocks, and gives a stranger half of its room.
    let written = sim.block_on(async { write(&greedy, &content(95 * BLOCK, 1)).await });
    let refused = |refusals: &[Refusal]| refusals.contains(&Refusal::Full);
    assert!(
        matches!(&written, Err(CfsError::Put(PutError::Quorum { refusals, .. })) if refused(refusals)),
        "{written:?}"
    );
    let song = content(20 * BLOCK, 2);
    let read = sim.block_on(async {
        let file = write(&modest, &song).await?;
        Ok::<_, CfsError>(greedy.read(file, ..).try_collect::<Vec<Bytes>>().await?.concat())
    });
    assert!(read.unwrap() == song);
}

/// §4.3: a host that runs several Chord nodes is one place to keep blocks.
#[test]
fn blocks_lie_on_virtual_servers() {
    type Node = Replicated<VirtualChord<SimPeer>>;
    let mut sim =
        Sim::<Node, MemoryStore<SimPeer>>::with_workers(1, Network::default(), DiskModel::default(), |_| {
            MemoryStore::default()
        });
    let chord = ChordConfig { stabilize: SECOND, fingers: 2, ..ChordConfig::default() };
    for i in 0..10 {
        let seeds = (i > 0).then_some(SimPeer(0));
        sim.spawn(|birth| Node::new(VirtualChord::with(birth.peer, 1 + i % 4, seeds, chord), config()));
        sim.run_for(5 * SECOND);
    }
    sim.run_for(60 * SECOND);
    let [here, there] = [SimPeer(3), SimPeer(8)]
        .map(|peer| Cfs::<SimPeer>::new(Arc::new(sim.handle(peer)), CfsConfig::default()));
    let song = content(30 * BLOCK, 2);
    let read = sim.block_on(async {
        let file = write(&here, &song).await?;
        Ok::<_, CfsError>(there.read(file, ..).try_collect::<Vec<Bytes>>().await?.concat())
    });
    assert!(read.unwrap() == song);
}
