//! Over a hash table that is a map.

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

const SMALL: Code = Code { enough: 4, fragments: 8, length: 128 };

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
    content.names.chunks(32).map(|name| Key::new(name.try_into().unwrap())).collect()
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
    let (_, archive) = archive(Code { enough: 16, fragments: 64, length: 256 }, 100);
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
    archive(Code { enough: 16, fragments: 64, length: 256 }, 20)
}

#[test]
fn a_repair_makes_what_is_gone_again() {
    let object = object(50_000);
    let (table, archive) = archive(SMALL, 200);
    let content = store(&archive, &object, 1000);
    let all = table.0.lock().unwrap().values.clone();
    let whole = run(archive.repair(&content)).unwrap();
    // 98 segments of the object, 25,088 bytes of names: two levels.
    assert_eq!(whole, Repaired { segments: 98 + 49, ..Repaired::default() });
    // A quarter of all fragments, chosen by chance: no segment loses more than four of eight here.
    let mut rng = Rng::new(4);
    let mut keys: Vec<Key> = all.keys().copied().collect();
    rng.shuffle(&mut keys);
    for key in &keys[..keys.len() / 8] {
        table.0.lock().unwrap().values.remove(key);
    }
    let repaired = run(archive.repair(&content)).unwrap();
    assert_eq!((repaired.missing, repaired.restored, repaired.lost), (keys.len() / 8, keys.len() / 8, 0));
    assert!(table.0.lock().unwrap().values == all);
    assert!(read(&archive, &content).unwrap() == object);
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
