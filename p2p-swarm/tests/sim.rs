//! Swarms in the simulator: providers that die, lie and dawdle, fetchers that crash.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use p2p_core::sim::{
    Bandwidth, Cut, DiskModel, Encoding, Fault, FaultMix, Latency, Liar, Loss, Network, Sim, random_faults,
    run_seeds,
};
use p2p_core::{Key, PeerId, Rng, SimPeer, Time};
use p2p_dht::{Dht, GetError, PutError, Signed};
use p2p_swarm::{
    ContentError, ContentStore, Entry, Fetch, FetchError, FetchItem, Fetched, Manifest, MemoryFiles,
    MemoryWorker, Share, Standing, Store, StoreError, Swarm, SwarmCommand, SwarmConfig, SwarmMsg,
    SwarmOutcome, Target, Ticket,
};

type World = Sim<Liar<Swarm<SimPeer>>, MemoryWorker>;

const RUN: usize = 256 << 10;
const FETCHER: SimPeer = SimPeer(0);

fn content(len: usize) -> Vec<u8> {
    let mut content = vec![0; len];
    Rng::new(len as u64).fill(&mut content);
    content
}

/// Lines of 10 MB/s, 10 to 30 ms long.
fn network() -> Network {
    Network {
        latency: Latency::Uniform(Duration::from_millis(10), Duration::from_millis(30)),
        bandwidth: Some(Bandwidth { up: 10_000_000, down: 10_000_000, queue: 16 << 20 }),
        links: Some(Duration::from_secs(1)),
        encoding: Encoding::Measure,
        ..Network::default()
    }
}

/// The first node fetches; the others have the content under `blob`.
fn world(seed: u64, nodes: usize, network: Network, content: &[u8]) -> (World, Vec<MemoryFiles>, Key) {
    let disks: Vec<MemoryFiles> = (0..nodes).map(|_| MemoryFiles::default()).collect();
    let of_workers = disks.clone();
    let worker = move |peer: SimPeer| MemoryWorker::new(of_workers[peer.index()].clone());
    let mut sim = World::with_workers(seed, network, DiskModel::default(), worker);
    sim.population(|_| Liar::honest(Swarm::default()));
    for disk in &disks {
        sim.join();
        disk.put("blob", content);
    }
    for peer in 1..nodes {
        share(&mut sim, SimPeer(peer as u32));
    }
    (sim, disks, Key::of(content))
}

fn share(sim: &mut World, peer: SimPeer) {
    sim.command(peer, SwarmCommand::Share(Share { path: "blob".into() }));
    assert!(sim.run_to_outcome(Time::MAX));
    for ended in sim.take_outcomes() {
        assert!(matches!(ended.outcome, SwarmOutcome::Shared(Ok(_))), "{:?}", ended.outcome);
    }
}

fn liar(birth_of: SimPeer, sim: &mut World) {
    let lie = |_: &mut Rng, to, msg| match msg {
        SwarmMsg::Data { id, size, proof, bytes } => {
            let mut bytes = bytes.to_vec();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            vec![(to, SwarmMsg::Data { id, size, proof, bytes: bytes.into() })]
        }
        honest => vec![(to, honest)],
    };
    *sim.node_mut(birth_of).unwrap() = Liar::new(Swarm::default(), lie);
    share(sim, birth_of);
}

fn begin(sim: &mut World, root: Key, providers: impl IntoIterator<Item = u32>) {
    let providers = providers.into_iter().map(SimPeer).collect();
    let to = Target::File("copy".into());
    sim.command(FETCHER, SwarmCommand::Fetch(Fetch { root, to, providers, progress: None }));
}

fn fetched(sim: &mut World) -> Result<Fetched<SimPeer>, FetchError<SimPeer>> {
    assert!(sim.run_to_outcome(sim.now() + Duration::from_secs(600)), "no outcome in ten minutes");
    match sim.take_outcomes().pop().unwrap().outcome {
        SwarmOutcome::Fetched(fetched) => fetched,
        other => panic!("{other:?}"),
    }
}

fn standing(fetched: &Fetched<SimPeer>, peer: u32) -> Standing {
    fetched.peers.iter().find(|report| report.peer == SimPeer(peer)).unwrap().standing
}

#[test]
fn one_dies_one_lies_one_dawdles_and_messages_get_lost() {
    let content = content(96 * RUN + 123);
    run_seeds(5, |seed| {
        let lossy = Network { loss: Loss::Uniform(0.005), ..network() };
        let (mut sim, disks, root) = world(seed, 6, lossy, &content);
        liar(SimPeer(1), &mut sim);
        sim.set_bandwidth(SimPeer(3), Bandwidth { up: 20_000, down: 10_000_000, queue: 16 << 20 });
        begin(&mut sim, root, 1..6);
        sim.run_for(Duration::from_millis(300));
        assert_eq!(disks[0].read("copy"), None, "it is in the middle");
        sim.crash(SimPeer(2));
        let fetched = fetched(&mut sim).unwrap();
        assert_eq!(disks[0].read("copy").as_deref(), Some(content.as_slice()));
        assert_eq!(disks[0].names(), [Path::new("blob"), Path::new("copy")], "nothing else is left");
        assert_eq!(standing(&fetched, 1), Standing::Liar, "{fetched:?}");
        assert_ne!(standing(&fetched, 3), Standing::Good, "{fetched:?}");
        for honest in [4, 5] {
            assert!(matches!(standing(&fetched, honest), Standing::Good | Standing::Slow), "{fetched:?}");
        }
        assert_eq!(fetched.peers.iter().map(|report| report.bytes).sum::<u64>(), content.len() as u64);
        (sim.trace(), fetched)
    });
}

#[test]
fn the_load_is_spread_by_what_each_can_carry() {
    let content = content(64 * RUN);
    let wide = Bandwidth { up: 100_000_000, down: 100_000_000, queue: 64 << 20 };
    let (mut sim, _, root) = world(1, 4, network(), &content);
    sim.set_bandwidth(FETCHER, wide);
    sim.set_bandwidth(SimPeer(3), Bandwidth { up: 2_000_000, ..wide });
    begin(&mut sim, root, 1..4);
    let before = sim.now();
    let fetched = fetched(&mut sim).unwrap();
    let took = (sim.now() - before).as_secs_f64();
    let bytes: Vec<u64> = fetched.peers.iter().map(|report| report.bytes).collect();
    assert!(bytes[0] > 2 * bytes[2] && bytes[1] > 2 * bytes[2], "{bytes:?}");
    // 16.8 MB by lines of 10, 10 and 2 MB/s is 0.76 s at best.
    assert!(took < 2.0, "{took} s");
}

/// The runs of which both the bytes and the record are on the disk.
fn good_runs(content: &[u8], part: Option<&[u8]>, record: Option<&[u8]>) -> u64 {
    let (Some(part), Some(record)) = (part, record) else { return 0 };
    if !record.starts_with(b"p2p-groups/1") {
        return 0;
    }
    let good = content.chunks(RUN).enumerate().filter(|(run, bytes)| {
        let groups = bytes.len().div_ceil(16 << 10);
        let values = record.get(512 + run * 512..).and_then(|rest| rest.get(..32 * groups));
        let there = values.is_some_and(|values| values.chunks(32).all(|value| value != [0; 32]));
        there && part.get(run * RUN..run * RUN + bytes.len()) == Some(bytes)
    });
    good.map(|(_, bytes)| bytes.len() as u64).sum()
}

#[test]
fn a_crashed_fetcher_resumes_and_fetches_only_what_was_lost() {
    let content = content(40 * RUN + 77);
    run_seeds(10, |seed| {
        let (mut sim, disks, root) = world(seed, 3, network(), &content);
        let config = SwarmConfig { sync_every: Duration::from_millis(150), ..SwarmConfig::default() };
        sim.population(move |_| Liar::honest(Swarm::new(config.clone())));
        sim.crash(FETCHER);
        sim.restart(FETCHER);
        let mut chance = Rng::new(seed);
        let mut resumed = 0;
        for _ in 0..3 {
            begin(&mut sim, root, 1..3);
            sim.run_for(chance.duration(Duration::from_millis(100), Duration::from_millis(600)));
            let _ = sim.take_outcomes();
            if disks[0].read("copy").is_some() {
                break;
            }
            let (part, record) = (disks[0].synced("copy.p2p-part"), disks[0].synced("copy.p2p-groups"));
            let safe = good_runs(&content, part.as_deref(), record.as_deref());
            sim.crash(FETCHER);
            disks[0].crash(&mut chance);
            let (part, record) = (disks[0].read("copy.p2p-part"), disks[0].read("copy.p2p-groups"));
            resumed = good_runs(&content, part.as_deref(), record.as_deref());
            assert!(resumed >= safe, "what was synced is there: {safe} bytes, and {resumed} survived");
            sim.restart(FETCHER);
        }
        if disks[0].read("copy").is_none() {
            begin(&mut sim, root, 1..3);
            let fetched = fetched(&mut sim).unwrap();
            assert_eq!(fetched.resumed, resumed, "all that survived, and no more");
            let sent: u64 = fetched.peers.iter().map(|report| report.bytes).sum();
            assert_eq!(sent, content.len() as u64 - fetched.resumed);
        }
        assert_eq!(disks[0].read("copy").as_deref(), Some(content.as_slice()));
        (sim.trace(), resumed)
    });
}

#[test]
fn a_killed_process_loses_nothing_that_was_written() {
    // Without a power failure what was written is there, synced or not.
    let content = content(40 * RUN);
    let (mut sim, disks, root) = world(3, 3, network(), &content);
    begin(&mut sim, root, 1..3);
    sim.run_for(Duration::from_millis(700));
    sim.crash(FETCHER);
    let (part, record) = (disks[0].read("copy.p2p-part").unwrap(), disks[0].read("copy.p2p-groups").unwrap());
    let there = good_runs(&content, Some(&part), Some(&record));
    assert!(there > 0);
    sim.restart(FETCHER);
    begin(&mut sim, root, 1..3);
    let fetched = fetched(&mut sim).unwrap();
    assert_eq!(fetched.resumed, there);
    assert_eq!(disks[0].read("copy").unwrap(), content);
}

#[test]
fn damage_to_a_partial_file_is_noticed_and_mended() {
    let content = content(40 * RUN);
    let (mut sim, disks, root) = world(5, 2, network(), &content);
    begin(&mut sim, root, [1]);
    sim.run_for(Duration::from_millis(600));
    sim.crash(FETCHER);
    let mut part = disks[0].read("copy.p2p-part").unwrap();
    let record = disks[0].read("copy.p2p-groups").unwrap();
    let there = good_runs(&content, Some(&part), Some(&record));
    let hit = (0..40).find(|run| record[512 + run * 512..][..32] != [0; 32]).unwrap();
    part[hit * RUN + 5] ^= 1;
    disks[0].put("copy.p2p-part", part);
    sim.restart(FETCHER);
    begin(&mut sim, root, [1]);
    assert_eq!(fetched(&mut sim).unwrap().resumed, there - RUN as u64);
    assert_eq!(disks[0].read("copy").unwrap(), content);
}

#[test]
fn random_faults_do_not_keep_a_blob_from_who_wants_it() {
    let content = content(24 * RUN + 1);
    run_seeds(10, |seed| {
        let (mut sim, disks, root) = world(seed, 6, network(), &content);
        liar(SimPeer(5), &mut sim);
        let victims: Vec<SimPeer> = (0..5).map(SimPeer).collect();
        let mix = FaultMix { crashes: 0, pauses: 2, cuts: 2, clogs: 3, drifts: 2 };
        let mut schedule = random_faults(sim.workload_rng(), &victims, Duration::from_secs(3), mix);
        schedule.push((Duration::from_millis(500), Fault::Crash(SimPeer(2))));
        schedule.push((Duration::from_secs(4), Fault::Heal));
        sim.inject(schedule);
        begin(&mut sim, root, 1..6);
        let outcome = loop {
            match fetched(&mut sim) {
                // Everybody seemed gone: a user would try again.
                Err(FetchError::NoProvider { .. }) => begin(&mut sim, root, 1..6),
                outcome => break outcome.unwrap(),
            }
        };
        assert_eq!(disks[0].read("copy").as_deref(), Some(content.as_slice()));
        (sim.trace(), outcome)
    });
}

#[test]
fn each_way_to_fail_has_its_name() {
    let content = content(3 * RUN);
    let (mut sim, disks, root) = world(1, 3, network(), &content);
    // Nobody has it.
    begin(&mut sim, Key::of(b"something else"), 1..3);
    let Err(FetchError::NoProvider { peers }) = fetched(&mut sim) else { panic!() };
    assert!(peers.iter().all(|report| report.standing == Standing::Without));
    // Nobody is there.
    sim.inject(vec![(Duration::ZERO, Fault::Cut(Cut::between([FETCHER], [SimPeer(2)])))]);
    begin(&mut sim, root, [2]);
    let Err(FetchError::NoProvider { peers }) = fetched(&mut sim) else { panic!() };
    assert_eq!(peers[0].standing, Standing::Gone);
    sim.inject(vec![(Duration::ZERO, Fault::Heal)]);
    // All lie.
    liar(SimPeer(1), &mut sim);
    begin(&mut sim, root, [1]);
    assert!(matches!(fetched(&mut sim), Err(FetchError::AllLied { peers }) if peers.len() == 1));
    // Something else is there.
    disks[0].put("copy", b"mine".to_vec());
    begin(&mut sim, root, [2]);
    assert_eq!(fetched(&mut sim), Err(FetchError::Store(StoreError::Exists("copy".into()))));
    assert_eq!(disks[0].read("copy").unwrap(), b"mine");
    // The blob is there.
    disks[0].put("copy", content.clone());
    begin(&mut sim, root, [2]);
    let there = fetched(&mut sim).unwrap();
    assert_eq!((there.size, there.resumed), (content.len() as u64, content.len() as u64));
    // Too long for memory.
    let to = Target::Memory { max: 1000 };
    let fetch = Fetch { root, to, providers: vec![SimPeer(2)], progress: None };
    sim.command(FETCHER, SwarmCommand::Fetch(fetch));
    let too_long = StoreError::TooLong { size: content.len() as u64, max: 1000 };
    assert_eq!(fetched(&mut sim), Err(FetchError::Store(too_long)));
}

#[test]
fn a_file_that_has_changed_makes_no_liar_of_its_owner() {
    let content = content(12 * RUN);
    let (mut sim, disks, root) = world(1, 3, network(), &content);
    let _ = sim.take_events();
    let mut other = content.clone();
    for run in 0..12 {
        other[run * RUN + 9] ^= 1;
    }
    disks[1].put("blob", other);
    begin(&mut sim, root, 1..3);
    let fetched = fetched(&mut sim).unwrap();
    assert_eq!(standing(&fetched, 1), Standing::Without);
    assert_eq!(standing(&fetched, 2), Standing::Good);
    assert_eq!(sim.take_events().len(), 1, "its owner is told");
}

/// A hash table by which everybody has everything; a store keeps nothing else in it.
struct Everybody(Vec<SimPeer>);

#[async_trait]
impl Dht<SimPeer> for Everybody {
    async fn put(&self, _: Bytes) -> Result<Key, PutError> {
        Err(PutError::Busy)
    }
    async fn get(&self, _: Key) -> Result<Bytes, GetError> {
        Err(GetError::Busy)
    }
    async fn publish(&self, _: Signed, _: Option<u64>) -> Result<Key, PutError> {
        Err(PutError::Busy)
    }
    async fn latest(&self, _: PeerId, _: &[u8]) -> Result<Signed, GetError> {
        Err(GetError::Busy)
    }
    async fn provide(&self, _: Key) -> Result<(), PutError> {
        Ok(())
    }
    async fn providers(&self, _: Key) -> Result<Vec<SimPeer>, GetError> {
        Ok(self.0.clone())
    }
}

fn stores(disks: &[MemoryFiles]) -> (Sim<Swarm<SimPeer>, MemoryWorker>, Vec<Store<SimPeer>>) {
    let of_workers = disks.to_vec();
    let worker = move |peer: SimPeer| MemoryWorker::new(of_workers[peer.index()].clone());
    let mut sim = Sim::with_workers(7, network(), DiskModel::default(), worker);
    let peers: Vec<SimPeer> = disks.iter().map(|_| sim.spawn(|_| Swarm::default())).collect();
    let everybody = Arc::new(Everybody(peers.clone()));
    let stores = peers.iter().map(|peer| Store::new(sim.handle(*peer)).with_dht(everybody.clone()));
    let stores = stores.collect();
    (sim, stores)
}

#[test]
fn a_folder_is_found_and_fetched_as_it_is() {
    let disks = [MemoryFiles::default(), MemoryFiles::default()];
    let files = [("a/empty", 0), ("a/b/c/deep", 70_000), ("big", 5 * RUN + 1), ("same", 70_000), ("z", 1)];
    for (name, len) in files {
        disks[0].put(Path::new("folder").join(name), content(len));
    }
    let (mut sim, stores) = stores(&disks);
    let (shared, received, items) = sim.block_on(async {
        let shared = stores[0].share(Path::new("folder")).await.unwrap();
        let ticket = Ticket::new(shared.root, shared.kind);
        let mut fetching = stores[1].fetch(&ticket, Path::new("copy"));
        let mut items = Vec::new();
        while let Some(item) = fetching.next().await {
            items.push(item);
        }
        (shared, fetching.await.unwrap(), items)
    });
    assert_eq!((shared.files, received.files), (5, 5));
    assert_eq!(shared.size, received.size);
    for (name, len) in files {
        assert_eq!(disks[1].read(Path::new("copy").join(name)).unwrap(), content(len), "{name}");
    }
    assert_eq!(disks[1].names().len(), 5);
    let progress = |item: &FetchItem<SimPeer>| match item {
        FetchItem::Progress(progress) => Some(progress.bytes),
        FetchItem::Lied(_) | FetchItem::Slow(_) | FetchItem::Starving => None,
    };
    let told: Vec<u64> = items.iter().filter_map(progress).collect();
    assert!(told.is_sorted() && told.last().is_some_and(|bytes| *bytes <= shared.size), "{told:?}");

    // And again: everything is there.
    let again = sim.block_on(async {
        let ticket = Ticket::new(shared.root, shared.kind);
        stores[1].fetch(&ticket, Path::new("copy")).await.unwrap()
    });
    assert_eq!(again.resumed, again.size);
}

#[test]
fn a_folder_that_lies_about_a_size_is_refused() {
    let disks = [MemoryFiles::default(), MemoryFiles::default()];
    disks[0].put("file", content(1000));
    let entry = Entry { name: "file".into(), size: 999, root: Key::of(&content(1000)) };
    let manifest = Manifest::new(vec![entry]).unwrap().encode();
    disks[0].put("list", manifest);
    let (mut sim, stores) = stores(&disks);
    let refused = sim.block_on(async {
        stores[0].share(Path::new("file")).await.unwrap();
        let list = stores[0].share(Path::new("list")).await.unwrap();
        let ticket = Ticket::new(list.root, p2p_swarm::Kind::Folder);
        stores[1].fetch(&ticket, Path::new("copy")).await
    });
    assert!(matches!(refused, Err(ContentError::Size { listed: 999, found: 1000, .. })), "{refused:?}");
}

#[test]
fn a_dropped_fetch_leaves_what_it_has_for_the_next() {
    let disks = [MemoryFiles::default(), MemoryFiles::default()];
    let content = content(40 * RUN);
    disks[0].put("file", content.clone());
    let (mut sim, stores) = stores(&disks);
    let handle = sim.handle(SimPeer(1));
    let received = sim.block_on(async {
        let shared = stores[0].share(Path::new("file")).await.unwrap();
        let ticket = Ticket::new(shared.root, shared.kind);
        let fetching = stores[1].fetch(&ticket, Path::new("copy"));
        assert!(
            handle.timeout(Duration::from_millis(700), fetching).await.is_err(),
            "it is dropped in the middle"
        );
        stores[1].fetch(&ticket, Path::new("copy")).await.unwrap()
    });
    assert!(received.resumed > 0 && received.resumed < received.size, "{received:?}");
    assert_eq!(disks[1].read("copy").unwrap(), content);
}
