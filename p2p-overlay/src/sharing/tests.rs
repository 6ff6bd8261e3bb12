use bytes::Bytes;
use futures::StreamExt;
use p2p_core::sim::{DiskModel, Encoding, Network, Sim};
use p2p_core::{Down, Rng, Script, SimPeer};

use super::*;
use crate::gnutella::{Gnutella, GnutellaConfig};
use crate::search::{ContentHash, Item, Query, Scope, Search};

type Node = Sharing<Gnutella<SimPeer>>;
type World = Sim<Node, ShareWorker<MemoryFolder>>;

const NAME: &str = "Blue Monday.mp3";

fn noise(seed: u64, len: usize) -> Bytes {
    let mut bytes = vec![0; len];
    Rng::new(seed).fill(&mut bytes);
    bytes.into()
}

fn item(content: &[u8]) -> Item {
    hashes_of(content).into_iter().fold(Item::new(NAME, content.len() as u64), Item::hash)
}

/// Six servents. The last `given.len()` say that they have `content`, and have what is given.
fn world(content: &Bytes, given: &[Bytes], config: SharingConfig) -> (World, Vec<MemoryFolder>) {
    let folders: Vec<MemoryFolder> = (0..6).map(|_| MemoryFolder::default()).collect();
    let theirs = folders.clone();
    let worker = move |peer: SimPeer| ShareWorker::new(theirs[peer.0 as usize].clone());
    let network = Network { encoding: Encoding::RoundTrip, ..Network::default() };
    let mut sim = World::with_workers(7, network, DiskModel::default(), worker);
    for (i, folder) in folders.iter().enumerate() {
        sim.spawn(|birth| {
            let seed = birth.alive.first().and_then(SimPeer::contact);
            let mut gnutella = Gnutella::new(birth.peer.contact(), seed, GnutellaConfig::default());
            if let Some(has) = (i + given.len()).checked_sub(6).and_then(|at| given.get(at)) {
                folder.put(NAME, has.clone());
                gnutella.library_mut().insert(item(content)).unwrap();
            }
            Sharing::new(gnutella, config)
        });
    }
    sim.run_for(Duration::from_secs(60));
    (sim, folders)
}

type Got = Result<Downloaded<SimPeer>, DownloadError<SimPeer>>;

/// Node 1 searches until it has found as many, and fetches.
fn fetch(sim: &mut World, sources: u32, mut then: impl FnMut(&mut World)) -> Got {
    let here = sim.handle(SimPeer(1));
    let scope = Scope { hits: sources, ..Scope::default() };
    let hits: Vec<_> = sim.block_on(async move { here.search(Query::text("monday"), scope).collect().await });
    assert_eq!(hits.len(), sources as usize);
    let fetching = sim.handle(SimPeer(1)).fetch(Download { hits, name: None });
    then(sim);
    sim.block_on(fetching)
}

#[test]
fn all_sources_of_a_content_give_a_part_of_it() {
    let song = noise(1, 3_000_000);
    let (mut sim, folders) = world(&song, &vec![song.clone(); 3], SharingConfig::default());
    let got = fetch(&mut sim, 3, |_| {}).unwrap();
    assert_eq!(folders[1].get(NAME).unwrap(), song);
    assert!(got.sources.len() == 3 && got.sources.iter().all(|source| source.bytes > 0), "{got:?}");
    assert_eq!(got.sources.iter().map(|source| source.bytes).sum::<u64>(), got.size, "nothing twice");
    let again = fetch(&mut sim, 3, |_| {});
    assert_eq!(again, Err(DownloadError::Folder(FolderError::Exists(NAME.into()))));
}

#[test]
fn a_source_that_dies_is_replaced() {
    let song = noise(2, 20_000_000);
    let (mut sim, folders) = world(&song, &vec![song.clone(); 3], SharingConfig::default());
    let got = fetch(&mut sim, 3, |sim| {
        sim.run_for(Duration::from_millis(500));
        sim.crash(SimPeer(4));
    });
    let got = got.unwrap();
    assert_eq!(folders[1].get(NAME).unwrap(), song);
    let dead = got.sources.iter().find(|source| source.peer == Some(SimPeer(4))).unwrap();
    assert!(dead.bytes > 0 && dead.bytes < got.size / 3, "{got:?}");
}

#[test]
fn a_liar_is_found_out_and_replaced() {
    let (song, lie) = (noise(3, 1_000_000), noise(4, 1_000_000));
    let (mut sim, folders) =
        world(&song, &[song.clone(), lie.clone(), song.clone()], SharingConfig::default());
    let got = fetch(&mut sim, 3, |_| {}).unwrap();
    assert_eq!(folders[1].get(NAME).unwrap(), song);
    let liars = got.sources.iter().filter(|source| source.standing == SourceStanding::Liar);
    assert!(liars.map(|source| source.peer).all(|peer| peer == Some(SimPeer(4))), "{got:?}");
    // Where nobody else has it, the error says who it was.
    let (mut sim, folders) = world(&song, &[lie], SharingConfig::default());
    assert_eq!(fetch(&mut sim, 1, |_| {}), Err(DownloadError::Lies { peers: vec![SimPeer(5)] }));
    assert_eq!(folders[1].get(NAME), None);
}

#[test]
fn a_file_without_bytes_is_one_too() {
    let (mut sim, folders) = world(&Bytes::new(), &[Bytes::new()], SharingConfig::default());
    assert_eq!(fetch(&mut sim, 1, |_| {}).unwrap().size, 0);
    assert_eq!(folders[1].get(NAME).unwrap(), "");
}

#[test]
fn a_run_is_repeated_exactly() {
    let run = || {
        let song = noise(5, 1_000_000);
        let (mut sim, _) = world(&song, &vec![song.clone(); 2], SharingConfig::default());
        fetch(&mut sim, 2, |_| {}).unwrap();
        sim.trace()
    };
    assert_eq!(run(), run());
}

// ---- one machine

const FILE: u64 = 1_000_000;

fn node(config: SharingConfig) -> Script<Node> {
    let mut gnutella = Gnutella::new(SimPeer(0).contact(), [], GnutellaConfig::default());
    gnutella.library_mut().insert(Item::new(NAME, FILE).hash(ContentHash::Sha1([7; 20]))).unwrap();
    Script::new(Sharing::new(gnutella, config))
}

fn get(node: &mut Script<Node>, from: u32, start: u64, end: u64) {
    let wanted = Wanted { hash: Some(ContentHash::Sha1([7; 20])), index: 0, name: String::new(), size: FILE };
    let msg = SharingMsg::Transfer(Transfer::Get { id: from, wanted, start, end });
    node.message(SimPeer(from), msg);
}

/// Does the jobs, and says what was sent about files.
fn transfers(node: &mut Script<Node>) -> Vec<(u32, Transfer)> {
    loop {
        let jobs = node.jobs();
        if jobs.is_empty() {
            break;
        }
        for (id, job) in jobs {
            let done = match job {
                SharingJob::Read { len, .. } => ShareOutput::Read(vec![1; len].into()),
                _ => ShareOutput::Done,
            };
            node.done(id, Ok(done));
        }
    }
    let sent = node.sent().into_iter();
    sent.filter_map(|(to, msg)| match msg {
        SharingMsg::Transfer(transfer) => Some((to.0, transfer)),
        SharingMsg::Search(_) => None,
    })
    .collect()
}

#[test]
fn a_range_comes_in_parts_and_what_is_not_there_does_not() {
    let mut node = node(SharingConfig::default());
    get(&mut node, 1, 100, 100_000);
    let sent = transfers(&mut node);
    let parts: Vec<(u64, u64, usize, bool)> = sent
        .iter()
        .map(|(_, transfer)| match transfer {
            Transfer::Part { at, end, size: FILE, hash, data, .. } => (*at, *end, data.len(), hash.is_some()),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(parts, [(100, 100_000, 65_536, true), (65_636, 100_000, 34_364, false)]);
    get(&mut node, 1, FILE, FILE + 5);
    assert_eq!(transfers(&mut node), [(1, Transfer::No { id: 1, why: Refusal::Range { size: FILE } })]);
    let wanted = Wanted { hash: None, index: 0, name: "another".into(), size: 0 };
    node.message(SimPeer(1), SharingMsg::Transfer(Transfer::Get { id: 9, wanted, start: 0, end: 1 }));
    assert_eq!(transfers(&mut node), [(1, Transfer::No { id: 9, why: Refusal::Missing })]);
}

/// One slot and two places to wait: the third who waits is turned away, unless it has given more than another.
#[test]
fn who_has_given_something_is_served_before_who_has_not() {
    let config = SharingConfig { slots: 1, queue: 2, ..SharingConfig::default() };
    let mut node = node(config);
    // Peer 9 has given this node something: a part of a file that it has asked for.
    let reference = {
        let mut bytes = vec![0; 16];
        bytes.extend_from_slice(&0u32.to_be_bytes());
        bytes.into()
    };
    let other = Item::new("other", 10);
    let fetch = crate::search::Fetch::Direct(SimPeer(9));
    let hits = vec![crate::search::Hit { item: other, fetch, reference }];
    node.command(SharingCommand::Download(Download { hits, name: None }));
    let [(9, Transfer::Get { id, .. })] = transfers(&mut node)[..] else { panic!("asked") };
    let part = Transfer::Part { id, at: 0, end: 10, size: 10, hash: None, data: vec![0; 10].into() };
    // Nobody else answers for it.
    node.message(SimPeer(8), SharingMsg::Transfer(part.clone()));
    assert_eq!(node.machine().received_from(SimPeer(8)), 0);
    node.message(SimPeer(9), SharingMsg::Transfer(part));
    assert_eq!(node.machine().received_from(SimPeer(9)), 10);
    transfers(&mut node);

    // The first is served at once, two wait, the fourth is turned away.
    for peer in 1..=4 {
        get(&mut node, peer, 0, 10);
    }
    let busy = |id| Transfer::No { id, why: Refusal::Busy { seconds: 5 } };
    let said: Vec<(SimPeer, SharingMsg<_>)> = node.sent();
    assert!(matches!(&said[..], [(SimPeer(4), SharingMsg::Transfer(no))] if *no == busy(4)), "{said:?}");
    // Who has given something takes the place of the last of the others, and is served next.
    get(&mut node, 9, 0, 10);
    let order: Vec<(u32, bool)> = transfers(&mut node)
        .into_iter()
        .map(|(to, transfer)| (to, matches!(transfer, Transfer::Part { .. })))
        .collect();
    assert_eq!(order, [(3, false), (1, true), (9, true), (2, true)]);
}

#[test]
fn who_waits_too_long_is_told_to_come_again() {
    let config = SharingConfig { slots: 1, ..SharingConfig::default() };
    let mut node = node(config);
    get(&mut node, 1, 0, 10);
    get(&mut node, 2, 0, 10);
    node.advance(config.queue_wait);
    let said = node.sent();
    let no = Transfer::No { id: 2, why: Refusal::Busy { seconds: 5 } };
    assert!(matches!(&said[..], [(SimPeer(2), SharingMsg::Transfer(said))] if *said == no), "{said:?}");
}

/// One that goes away makes room for the next.
#[test]
fn an_upload_ends_with_its_connection() {
    let mut node = node(SharingConfig { slots: 1, ..SharingConfig::default() });
    get(&mut node, 1, 0, 10);
    get(&mut node, 2, 0, 10);
    node.link(SimPeer(1), Link::Down(Down::Closed));
    let sent = transfers(&mut node);
    assert!(matches!(sent[..], [(2, Transfer::Part { .. })]), "{sent:?}");
}

#[test]
fn names_that_lead_elsewhere_are_refused() {
    let (mut sim, _) = world(&Bytes::new(), &[], SharingConfig::default());
    let item = Item::new("../../etc/passwd", 5).hash(ContentHash::Sha1([1; 20]));
    let fetch = crate::search::Fetch::Direct(SimPeer(2));
    let hit = crate::search::Hit { item, fetch, reference: vec![0; 20].into() };
    let here = sim.handle(SimPeer(1));
    let bad = Download { hits: vec![hit.clone()], name: None };
    assert_eq!(sim.block_on(here.fetch(bad)), Err(DownloadError::BadHit));
    // A folder refuses it too, whoever asks.
    let mut worker = ShareWorker::new(MemoryFolder::default());
    let jobs = vec![
        SharingJob::Read { name: "a/b".into(), at: 0, len: 1 },
        SharingJob::Open { number: 1, name: "..".into(), content: None, size: 1 },
    ];
    let done = p2p_core::Worker::run(&mut worker, jobs);
    assert!(done.iter().all(|done| matches!(done, Err(FolderError::BadName(_)))), "{done:?}");
}

/// The folder on disk does what the one in memory does.
#[test]
fn a_folder_on_disk_keeps_what_is_right() {
    let root = std::env::temp_dir().join(format!("p2p-sharing-{}", std::process::id()));
    let (shared, target) = (root.join("shared"), root.join("target"));
    std::fs::create_dir_all(&shared).unwrap();
    let song = noise(6, 200_000);
    std::fs::write(shared.join(NAME), &song).unwrap();
    std::fs::write(shared.join(".hidden"), b"x").unwrap();
    assert_eq!(items_in(&shared).unwrap(), [item(&song)]);
    let mut worker = ShareWorker::new(DiskFolder::new(Some(shared), &target));
    let mut one = |job| p2p_core::Worker::run(&mut worker, vec![job]).remove(0);
    let read = one(SharingJob::Read { name: NAME.into(), at: 150_000, len: MAX_PART }).unwrap();
    assert_eq!(read, ShareOutput::Read(song.slice(150_000..)));
    for (number, content) in [(1, &song), (2, &noise(7, 200_000)), (3, &song)] {
        let name = format!("{number}.mp3");
        one(SharingJob::Open { number, name, content: None, size: 200_000 }).unwrap();
        for at in (0..content.len()).step_by(70_000).rev() {
            let data = content.slice(at..content.len().min(at + 70_000));
            one(SharingJob::Write { number, at: at as u64, data }).unwrap();
        }
    }
    let finish = |number| SharingJob::Finish { number, size: 200_000, hashes: item(&song).hashes };
    assert_eq!(one(finish(1)), Ok(ShareOutput::Kept(item(&song).hashes)));
    assert_eq!(one(finish(2)), Ok(ShareOutput::Differs));
    // Somebody else takes the name in the meantime.
    std::fs::write(target.join("3.mp3"), b"mine").unwrap();
    assert_eq!(one(finish(3)), Err(FolderError::Exists("3.mp3".into())));
    assert_eq!(one(SharingJob::Drop { number: 2, keep: false }), Ok(ShareOutput::Done));
    assert_eq!(std::fs::read(target.join("1.mp3")).unwrap(), song);
    assert_eq!(std::fs::read(target.join("3.mp3")).unwrap(), b"mine");
    std::fs::remove_dir_all(root).unwrap();
}

/// A program that is killed leaves its parts and notes; what a crash has damaged is recognised, whatever the notes say.
#[test]
fn a_download_goes_on_with_what_is_there_and_right() {
    let target = std::env::temp_dir().join(format!("p2p-resume-{}", std::process::id()));
    let song = noise(8, 260_000);
    let content = item(&song).hashes.iter().min().copied();
    let hidden = |suffix: &str| {
        let files = std::fs::read_dir(&target).unwrap().map(|entry| entry.unwrap().path());
        files.filter(|path| path.to_str().unwrap().ends_with(suffix)).collect::<Vec<_>>()
    };
    let worker = || ShareWorker::new(DiskFolder::new(None, &target));
    let one = |worker: &mut ShareWorker<DiskFolder>, job| p2p_core::Worker::run(worker, vec![job]).remove(0);
    let open = |worker: &mut _, number, size| {
        one(worker, SharingJob::Open { number, name: NAME.into(), content, size })
    };
    let write = |worker: &mut _, number, start: usize, end: usize| {
        let data = song.slice(start..end);
        one(worker, SharingJob::Write { number, at: start as u64, data }).unwrap();
    };
    let mut first = worker();
    assert_eq!(open(&mut first, 1, 260_000), Ok(ShareOutput::Opened(vec![])));
    for (start, end) in [(0, 60_000), (60_000, 120_000), (130_000, 190_000), (190_000, 250_000)] {
        write(&mut first, 1, start, end);
    }
    // Somebody else who wants it at the same time does not touch it.
    let mut second = worker();
    assert_eq!(open(&mut second, 2, 260_000), Ok(ShareOutput::Opened(vec![])));
    assert_eq!(hidden(".part").len(), 2);
    one(&mut second, SharingJob::Drop { number: 2, keep: true }).unwrap();
    assert_eq!(hidden(".part").len(), 1);
    drop(first);
    let mut part = std::fs::read(&hidden(".part")[0]).unwrap();
    part[200_000] ^= 1;
    std::fs::write(&hidden(".part")[0], part).unwrap();
    let mut notes = std::fs::read(&hidden(".notes")[0]).unwrap();
    notes.extend([7; 13]);
    std::fs::write(&hidden(".notes")[0], notes).unwrap();
    let mut third = worker();
    let there = vec![(0, 120_000), (130_000, 190_000)];
    assert_eq!(open(&mut third, 1, 260_000), Ok(ShareOutput::Opened(there)));
    for (start, end) in [(120_000, 130_000), (190_000, 255_000)] {
        write(&mut third, 1, start, end);
    }
    // It ends without a source, and begins again.
    one(&mut third, SharingJob::Drop { number: 1, keep: true }).unwrap();
    assert_eq!(open(&mut third, 2, 260_000), Ok(ShareOutput::Opened(vec![(0, 255_000)])));
    write(&mut third, 2, 255_000, 260_000);
    let finish = SharingJob::Finish { number: 2, size: 260_000, hashes: item(&song).hashes };
    assert_eq!(one(&mut third, finish), Ok(ShareOutput::Kept(item(&song).hashes)));
    assert_eq!(std::fs::read(target.join(NAME)).unwrap(), song);
    assert_eq!((hidden(".part").len(), hidden(".notes").len()), (0, 0), "nothing is left");
    std::fs::remove_dir_all(target).unwrap();
}

/// The only source dies; another, with the same content, has to give only what is missing.
#[test]
fn who_searches_again_goes_on_with_what_has_come() {
    let song = noise(9, 20_000_000);
    let (mut sim, folders) = world(&song, &[song.clone(), Bytes::new()], SharingConfig::default());
    let got = fetch(&mut sim, 2, |sim| {
        sim.run_for(Duration::from_millis(700));
        sim.crash(SimPeer(4));
        // From now on the other really has what it says that it has.
    });
    let Err(DownloadError::NoSource { bytes, size }) = got else { panic!("{got:?}") };
    assert!(0 < bytes && bytes < size, "{bytes} of {size}");
    folders[5].put(NAME, song.clone());
    sim.run_for(Duration::from_secs(120));
    let got = fetch(&mut sim, 1, |_| {}).unwrap();
    assert_eq!(folders[1].get(NAME).unwrap(), song);
    assert_eq!(got.resumed, bytes);
    let fetched: u64 = got.sources.iter().map(|source| source.bytes).sum();
    assert_eq!(got.resumed + fetched, size, "nothing is fetched twice");
}

/// What an earlier attempt has left is wrong, though it is what was written then: nobody of now is blamed for it.
#[test]
fn who_gives_what_is_right_is_not_blamed_for_what_was_there() {
    let mut node = node(SharingConfig::default());
    let item = Item::new("short", 10).hash(ContentHash::Sha1([9; 20]));
    node.command(SharingCommand::Download(Download { hits: vec![hit_of(9, &item)], name: None }));
    let job = |node: &mut Script<Node>, output| {
        let (id, _) = node.jobs().pop().unwrap();
        node.done(id, Ok(output));
    };
    job(&mut node, ShareOutput::Opened(vec![(0, 4)]));
    let [(9, Transfer::Get { id, start: 4, end: 10, .. })] = transfers(&mut node)[..] else {
        panic!("the rest is asked for")
    };
    let part = Transfer::Part { id, at: 4, end: 10, size: 10, hash: None, data: vec![0; 6].into() };
    node.message(SimPeer(9), SharingMsg::Transfer(part));
    job(&mut node, ShareOutput::Done);
    job(&mut node, ShareOutput::Differs);
    let sent = transfers(&mut node);
    let [(9, Transfer::Get { id, start: 0, end: 10, .. })] = sent[..] else {
        panic!("all of it is asked for: {sent:?}")
    };
    let part = Transfer::Part { id, at: 0, end: 10, size: 10, hash: None, data: vec![1; 10].into() };
    node.message(SimPeer(9), SharingMsg::Transfer(part));
    job(&mut node, ShareOutput::Done);
    job(&mut node, ShareOutput::Kept(vec![]));
    let outcomes = node.outcomes();
    let [(_, SharingOutcome::Download(Ok(downloaded)))] = &outcomes[..] else { panic!("not fetched") };
    assert_eq!((downloaded.resumed, downloaded.sources[0].standing), (0, SourceStanding::Good));
}

fn hit_of(peer: u32, item: &Item) -> crate::search::Hit<SimPeer> {
    let fetch = crate::search::Fetch::Direct(SimPeer(peer));
    crate::search::Hit { item: item.clone(), fetch, reference: vec![0; 20].into() }
}

/// It may have said nothing, or something else than was asked for.
#[test]
fn a_source_that_does_not_do_its_part_is_replaced() {
    let config = SharingConfig::default();
    let mut node = node(config);
    let item = Item::new("short", 10).hash(ContentHash::Sha1([9; 20]));
    let hits = vec![hit_of(9, &item), hit_of(8, &item), hit_of(7, &item)];
    node.command(SharingCommand::Download(Download { hits, name: None }));
    let [(9, Transfer::Get { id, start: 0, end: 10, .. })] = transfers(&mut node)[..] else {
        panic!("asked")
    };
    node.advance(config.patience);
    let sent = transfers(&mut node);
    let [(9, Transfer::End { id: Some(ended) }), (8, Transfer::Get { id: next, .. })] = sent[..] else {
        panic!("{sent:?}")
    };
    assert_eq!(ended, id);
    let part = Transfer::Part { id: next, at: 0, end: 10, size: 11, hash: None, data: vec![0; 10].into() };
    node.message(SimPeer(8), SharingMsg::Transfer(part));
    let sent = transfers(&mut node);
    let [(8, Transfer::End { .. }), (7, Transfer::Get { id: next, .. })] = sent[..] else {
        panic!("{sent:?}")
    };
    node.message(
        SimPeer(7),
        SharingMsg::Transfer(Transfer::No { id: next, why: Refusal::Busy { seconds: 2 } }),
    );
    node.advance(Duration::from_secs(1));
    assert!(
        !transfers(&mut node).iter().any(|(to, _)| *to == 7),
        "it is left in peace for as long as it says"
    );
    assert_eq!(node.machine().tally().given_up, 1);
}

#[test]
fn without_a_hash_another_file_of_the_same_size_is_not_fetched_instead() {
    let mut node = node(SharingConfig::default());
    let hits = [NAME, "Ruby Tuesday.mp3", NAME];
    let hits = hits.iter().zip(4..).map(|(name, peer)| hit_of(peer, &Item::new(*name, FILE))).collect();
    let op = node.command(SharingCommand::Download(Download { hits, name: None }));
    let sources = &node.machine().downloads[&op].sources;
    let hits: Vec<_> = sources.iter().map(|source| source.hit.clone()).collect();
    assert_eq!(hits, [4, 6].map(|peer| hit_of(peer, &Item::new(NAME, FILE))));
}

#[test]
fn what_is_too_long_or_too_much_is_refused() {
    let config = SharingConfig { downloads: 1, most: 10, ..SharingConfig::default() };
    let mut node = node(config);
    let refusal = |node: &mut Script<Node>, size: u64| {
        let hits = vec![hit_of(9, &Item::new("file", size))];
        node.command(SharingCommand::Download(Download { hits, name: None }));
        node.outcomes().into_iter().find_map(|(_, outcome)| match outcome {
            SharingOutcome::Download(Err(error)) => Some(error),
            _ => None,
        })
    };
    assert_eq!(refusal(&mut node, 11), Some(DownloadError::TooLong { size: 11, max: 10 }));
    assert_eq!(refusal(&mut node, 10), None);
    assert_eq!(refusal(&mut node, 10), Some(DownloadError::Busy));
    let none = Download { hits: Vec::new(), name: None };
    node.command(SharingCommand::Download(none));
    assert!(matches!(node.outcomes()[..], [(_, SharingOutcome::Download(Err(DownloadError::BadHit)))]));
}

#[test]
fn the_searching_machine_is_asked_through_it() {
    let (mut sim, _) = world(&Bytes::new(), &[], SharingConfig::default());
    let here = sim.handle(SimPeer(1));
    sim.block_on(async move {
        here.ask(Below(crate::gnutella::Listen(None))).await.unwrap();
        here.publish(Item::new("a song", 1)).await.unwrap();
        assert!(here.unpublish("a song").await.unwrap());
    });
    assert!(sim.node(SimPeer(1)).unwrap().search().library().is_empty());
}
