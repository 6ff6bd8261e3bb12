//! Over a hash table that is a map.

use std::task::{Context, Waker};

use async_trait::async_trait;
use futures::TryStreamExt;
use p2p_core::{Rng, SimPeer};
use p2p_overlay::{Find, Found, Looked};
use proptest::prelude::*;

use super::*;
use crate::testing::{Table, run};

/// So many nodes, each of which has what begins with its number.
struct Roots(u8);

fn root(key: &Key, nodes: u8) -> SimPeer {
    SimPeer(u32::from(key.as_bytes()[0] % nodes))
}

#[async_trait]
impl Lookup<SimPeer> for Roots {
    async fn lookup(&self, find: Find) -> Looked<SimPeer> {
        Ok(Found { peers: vec![root(&find.key, self.0)], hops: 1, timeouts: 0, implausible: None })
    }
}

fn archive(code: Code, nodes: u8) -> (Arc<Table>, Archive<SimPeer>) {
    let table = Arc::new(Table::default());
    let config = ArchiveConfig { code, ..ArchiveConfig::default() };
    (table.clone(), Archive::new(table, Arc::new(Roots(nodes)), config))
}

const SMALL: Code = Code { enough: 4, fragments: 8, length: 144 };

fn store(archive: &Archive<SimPeer>, object: &[u8], piece: usize) -> Content {
    let pieces: Vec<Result<Bytes, ArchiveError>> =
        object.chunks(piece).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
    run(archive.store(stream::iter(pieces))).unwrap()
}

fn read(archive: &Archive<SimPeer>, content: &Content) -> Result<Vec<u8>, ArchiveError> {
    Ok(run(archive.read(content).try_collect::<Vec<Bytes>>())?.concat())
}

fn object(len: usize) -> Vec<u8> {
    let mut object = vec![0; len];
    Rng::new(len as u64).fill(&mut object);
    object
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// Also where the names of the fragments are objects in turn.
    #[test]
    fn what_was_stored_is_read(
        len in prop_oneof![0..3000usize, 32_000..34_000usize, 200_000..200_600usize],
        piece in 1..5000usize,
    ) {
        let object = object(len);
        let (_, archive) = archive(SMALL, 200);
        let content = store(&archive, &object, piece);
        prop_assert_eq!(content.size(), len as u64);
        prop_assert!(content.check().is_ok());
        prop_assert!(read(&archive, &content).unwrap() == object);
    }

    #[test]
    fn any_bytes_are_a_head_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        if let Ok(version) = Version::from_bytes(&bytes) {
            let _ = version.content.check();
        }
    }
}

/// As a segment's fragments lie in the head: of an object of one segment.
fn fragments(content: &Content) -> Vec<Key> {
    content.names.chunks(32).skip(1).map(|name| Key::new(name.try_into().unwrap())).collect()
}

#[test]
fn an_object_bears_the_loss_of_all_fragments_but_enough() {
    let object = object(500);
    let (table, archive) = archive(SMALL, 200);
    let content = store(&archive, &object, 100);
    let names = fragments(&content);
    assert_eq!(names.len(), 8);
    for (gone, name) in names.iter().enumerate().take(4) {
        // What is not the fragment counts as gone.
        let forged = table.0.lock().unwrap().values.insert(*name, "forged".into());
        assert!(forged.is_some());
        assert!(read(&archive, &content).unwrap() == object, "{gone}");
    }
    table.0.lock().unwrap().values.remove(&names[7]);
    let lost = read(&archive, &content);
    assert!(matches!(lost, Err(ArchiveError::Lost { found: 3, needed: 4 })), "{lost:?}");
}

#[test]
fn fragments_of_a_segment_lie_at_nodes_of_their_own() {
    let (_, archive) = archive(Code { enough: 16, fragments: 64, length: 260 }, 100);
    let content = store(&archive, &object(4000), 100);
    let mut roots: Vec<SimPeer> = fragments(&content).iter().map(|name| root(name, 100)).collect();
    roots.sort_unstable();
    roots.dedup();
    assert_eq!(roots.len(), 64);
    // Where there are fewer nodes, all of them.
    let (_, few) = archive_of_few();
    let content = store(&few, &object(4000), 100);
    let mut roots: Vec<SimPeer> = fragments(&content).iter().map(|name| root(name, 20)).collect();
    roots.sort_unstable();
    roots.dedup();
    assert!(roots.len() >= 18, "{}", roots.len());
}

fn archive_of_few() -> (Arc<Table>, Archive<SimPeer>) {
    archive(Code { enough: 16, fragments: 64, length: 260 }, 20)
}

#[test]
fn a_repair_makes_what_is_gone_again() {
    let object = object(50_000);
    let (table, archive) = archive(SMALL, 200);
    let content = store(&archive, &object, 1000);
    let all = table.0.lock().unwrap().values.clone();
    let whole = run(archive.repair(&content)).unwrap();
    // 87 segments of the object, 25,056 bytes of names: two levels.
    assert_eq!(whole, Repaired { segments: 87 + 44, ..Repaired::default() });
    assert_eq!(
        table.0.lock().unwrap().puts,
        2 * 8 * (87 + 44),
        "what is there is put again, too, so that it stays"
    );
    // One fragment in sixteen, chosen by chance: no segment loses more than four of eight here.
    let mut rng = Rng::new(5);
    let mut keys: Vec<Key> = all.keys().copied().collect();
    rng.shuffle(&mut keys);
    for key in &keys[..keys.len() / 16] {
        table.0.lock().unwrap().values.remove(key);
    }
    let repaired = run(archive.repair(&content)).unwrap();
    assert_eq!((repaired.missing, repaired.restored, repaired.lost), (keys.len() / 16, keys.len() / 16, 0));
    assert!(table.0.lock().unwrap().values == all);
    assert!(read(&archive, &content).unwrap() == object);
}

/// Fragments that are what names them, and are of no segment.
#[test]
fn a_segment_is_what_its_hash_says() {
    let (table, archive) = archive(SMALL, 200);
    let content = store(&archive, &object(500), 100);
    let other = Code::fragment(7, 0, &[1; 126]);
    let mut names = content.names.to_vec();
    names[32 * 8..].copy_from_slice(Key::of(&other).as_bytes());
    table.0.lock().unwrap().values.insert(Key::of(&other), other);
    let forged = Content { names: names.into(), ..content.clone() };
    assert_eq!(read(&archive, &forged).unwrap(), object(500), "it is not asked for");
    table.0.lock().unwrap().values.remove(&fragments(&content)[0]);
    for gone in &fragments(&content)[4..7] {
        table.0.lock().unwrap().values.remove(gone);
    }
    assert_eq!(fragments(&content).len(), 8);
    let read = read(&archive, &forged);
    assert!(matches!(read, Err(ArchiveError::Segment)), "{read:?}");
    let repaired = run(archive.repair(&forged)).unwrap();
    assert_eq!((repaired.lost, repaired.restored), (1, 0));
}

/// Wherever it is: the next one is not refused.
#[test]
fn a_commit_that_is_interrupted_does_not_hold_up_the_next() {
    let mut numbers = Vec::new();
    for polls in 1.. {
        let (_, archive) = archive(SMALL, 200);
        let owner = Keypair::from_seed(&[1; 32]);
        let content = store(&archive, b"text", 100);
        let mut interrupted = Box::pin(archive.commit(&owner, "notes", None, content.clone(), 100));
        let mut cx = Context::from_waker(Waker::noop());
        if (0..polls).any(|_| interrupted.as_mut().poll(&mut cx).is_ready()) {
            break;
        }
        drop(interrupted);
        let next = run(async {
            let before = archive.newest(owner.id(), "notes").await.ok();
            archive.commit(&owner, "notes", before.as_ref(), content, 100).await
        });
        numbers.push(next.unwrap().number);
    }
    numbers.dedup();
    assert_eq!(numbers, [1, 2], "interrupted before a head was put, and after");
}

/// A table may answer with another head of the same owner, or the owner sign two of one number.
#[test]
fn a_head_is_the_one_that_was_asked_for() {
    let (table, archive) = archive(SMALL, 200);
    let owner = Keypair::from_seed(&[1; 32]);
    let [notes, diary] = [b"notes".as_slice(), b"diary"].map(|object| store(&archive, object, 100));
    let [notes, diary] = run(async {
        let notes = archive.commit(&owner, "notes", None, notes, 100).await?;
        let diary = archive.commit(&owner, "diary", None, diary, 100).await?;
        Ok::<_, ArchiveError>([notes, diary])
    })
    .unwrap();
    let key = |object, place| Signed::key_of(&owner.id(), &salt(object, NEWEST, place));
    let newest = || run(archive.newest(owner.id(), "notes"));
    // Under the other's salt, but for one.
    for place in 1..8 {
        let other = table.0.lock().unwrap().signed.get(&key("diary", place)).cloned().unwrap();
        table.0.lock().unwrap().signed.insert(key("notes", place), other);
    }
    assert_eq!(newest().unwrap(), notes);
    let other = table.0.lock().unwrap().signed.get(&key("diary", 0)).cloned().unwrap();
    let own = table.0.lock().unwrap().signed.insert(key("notes", 0), other);
    assert!(matches!(newest(), Err(ArchiveError::Head)));
    // Two of one number: three heads of one, five of the other.
    table.0.lock().unwrap().signed.insert(key("notes", 0), own.unwrap());
    for few in [notes.clone(), diary.clone()] {
        let many = if few == notes { &diary } else { &notes };
        for place in 0..8 {
            let version = if place < 3 { &few } else { many };
            let value = version.to_bytes();
            let signed = Signed::new(&owner, salt("notes", NEWEST, place), 1, 100, value).unwrap();
            table.0.lock().unwrap().signed.insert(key("notes", place), signed);
        }
        assert_eq!(newest().unwrap(), *many);
    }
}

#[test]
fn each_version_stays_and_the_newest_is_found_by_any_of_its_heads() {
    let (table, archive) = archive(SMALL, 200);
    let owner = Keypair::from_seed(&[1; 32]);
    let [first, second] = [b"first".as_slice(), b"second"].map(|object| store(&archive, object, 100));
    run(async {
        let first = archive.commit(&owner, "notes", None, first, 100).await?;
        let second = archive.commit(&owner, "notes", Some(&first), second, 50).await?;
        assert_eq!((first.number, second.number, second.expires), (1, 2, 100));
        assert_ne!(first.name(), second.name());
        let late = archive.commit(&owner, "notes", Some(&first), first.content.clone(), 50).await;
        assert!(matches!(late, Err(ArchiveError::Put(PutError::Conflict { .. }))), "{late:?}");
        assert_eq!(archive.newest(owner.id(), "notes").await?, second);
        // Of its eight places one is left.
        for place in 0..7 {
            let key = Signed::key_of(&owner.id(), &salt("notes", NEWEST, place));
            table.0.lock().unwrap().signed.remove(&key);
        }
        assert_eq!(archive.newest(owner.id(), "notes").await?, second);
        assert_eq!(archive.version(owner.id(), "notes", 1).await?, first);
        assert!(archive.version(owner.id(), "notes", 3).await.is_err());
        Ok::<(), ArchiveError>(())
    })
    .unwrap();
}

/// Another device of the same owner has signed another version of that number: whatever else fails, and first, the commit says so.
#[test]
fn a_version_beside_anothers_of_one_number_is_a_conflict_whatever_else_fails() {
    let (table, archive) = archive(SMALL, 200);
    let owner = Keypair::from_seed(&[1; 32]);
    let [first, second] = [b"first".as_slice(), b"second"].map(|object| store(&archive, object, 100));
    let first = run(archive.commit(&owner, "notes", None, first, 100)).unwrap();
    // Its head has come to one place so far.
    let rival = Version { number: 2, ..first.clone() };
    let head = Signed::new(&owner, salt("notes", NEWEST, 7), 2, 100, rival.to_bytes()).unwrap();
    table.0.lock().unwrap().signed.insert(head.key(), head);
    table.0.lock().unwrap().busy = 1;
    let commit = run(archive.commit(&owner, "notes", Some(&first), second.clone(), 100));
    let conflict = matches!(commit, Err(ArchiveError::Put(PutError::Conflict { sequence: 2 })));
    assert!(conflict, "{commit:?}");
    // Where nobody else has, one failure of eight is none.
    let (table, archive) = self::archive(SMALL, 200);
    table.0.lock().unwrap().busy = 1;
    assert!(run(archive.commit(&owner, "notes", Some(&first), second, 100)).is_ok());
}
