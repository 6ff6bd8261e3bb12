//! Over a hash table that is a map, and may lie.

use futures::TryStreamExt;
use p2p_core::SimPeer;
use proptest::prelude::*;

use super::*;
use crate::testing::{Table, run};

fn cfs() -> (Arc<Table>, Cfs<SimPeer>) {
    let table = Arc::new(Table::default());
    (table.clone(), Cfs::new(table, CfsConfig::default()))
}

fn pieces(
    content: &[u8],
    piece: usize,
) -> impl futures::Stream<Item = Result<Bytes, CfsError>> + Send + use<> {
    let pieces: Vec<_> = content.chunks(piece).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
    stream::iter(pieces)
}

/// No two blocks alike.
fn content(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i ^ i >> 8 ^ i >> 13 ^ i >> 16) as u8).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn what_was_written_is_read_in_part_and_as_a_whole(
        blocks in prop_oneof![0..3usize, 255..258usize, 511..514usize],
        odd in 0..BLOCK,
        piece in 1..40_000usize,
        range in (0..5_000_000u64, 0..100_000u64),
    ) {
        let content = content(blocks * BLOCK + odd);
        let (_, cfs) = cfs();
        let file = run(cfs.write(pieces(&content, piece))).unwrap();
        prop_assert_eq!(file.size, content.len() as u64);
        let all = run(cfs.read(file, ..).try_collect::<Vec<_>>()).unwrap();
        prop_assert!(all.concat() == content);
        let (from, to) = (range.0 % (file.size + 1), range.0 % (file.size + 1) + range.1);
        let part = run(cfs.read(file, from..to).try_collect::<Vec<_>>()).unwrap();
        prop_assert!(part.concat() == content[from as usize..(to as usize).min(content.len())]);
    }

    #[test]
    fn any_bytes_are_a_directory_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(directory) = Directory::decode(&bytes) {
            prop_assert_eq!(Directory::decode(&directory.encode().unwrap()).unwrap(), directory);
        }
    }
}

#[test]
fn a_part_costs_its_own_blocks_and_those_on_the_way() {
    let (table, cfs) = cfs();
    let content = content(300 * BLOCK);
    let file = run(cfs.write(pieces(&content, 65_536))).unwrap();
    let at = 270 * BLOCK as u64 + 5;
    run(cfs.read(file, at..at + 10).try_collect::<Vec<_>>()).unwrap();
    assert_eq!(table.0.lock().unwrap().gets, 3, "two levels of names, and one block");
}

#[test]
fn as_many_blocks_are_on_their_way_as_may_be() {
    let (table, cfs) = cfs();
    let file = run(cfs.write(pieces(&content(100 * BLOCK), 1 << 20))).unwrap();
    let most = |table: &Table| std::mem::take(&mut table.0.lock().unwrap().most);
    assert_eq!(most(&table), 16);
    run(cfs.read(file, ..).try_collect::<Vec<_>>()).unwrap();
    assert_eq!(most(&table), 5);
}

#[test]
fn a_block_that_is_not_what_names_it_is_refused() {
    let (table, cfs) = cfs();
    let file = run(cfs.write(pieces(&content(20 * BLOCK), 65_536))).unwrap();
    let keys: Vec<Key> = table.0.lock().unwrap().values.keys().copied().collect();
    for key in keys {
        let good = table.0.lock().unwrap().values.get(&key).cloned().unwrap();
        let mut bad = good.to_vec();
        bad[7] ^= 1;
        table.0.lock().unwrap().values.insert(key, bad.into());
        let read = run(cfs.read(file, ..).try_collect::<Vec<_>>());
        assert!(matches!(read, Err(CfsError::Forged { key: forged }) if forged == key), "{read:?}");
        table.0.lock().unwrap().values.insert(key, good);
    }
    // A length that is not the file's.
    for size in [file.size - 1, file.size + 1, 256 * file.size, u64::MAX] {
        let read = run(cfs.read(Blocks { size, ..file }, ..).try_collect::<Vec<_>>());
        assert!(matches!(read, Err(CfsError::Forged { .. } | CfsError::Get(_))), "{size}");
    }
}

#[test]
fn a_change_leaves_what_was_opened_before_as_it_was() {
    let (_, cfs) = cfs();
    let keypair = Keypair::from_seed(&[1; 32]);
    let file = |text: &'static str| {
        let cfs = cfs.clone();
        async move { cfs.write(pieces(text.as_bytes(), 9)).await.map(Entry::File) }
    };
    run(async {
        let empty = Volume::empty(keypair.id(), "home");
        let [ada, bob] = [file("ada").await?, file("bob").await?];
        let changes = [("notes/ada", Some(ada)), ("notes/bob", Some(bob)), ("/readme/", Some(bob))];
        let first = cfs.commit(&keypair, &empty, cfs.change(&empty.root, changes).await?, 10).await?;
        let opened = cfs.open(keypair.id(), "home").await?;
        assert_eq!(opened, first);

        let changes = [("notes/ada", None), ("readme", Some(ada))];
        let second = cfs.commit(&keypair, &opened, cfs.change(&opened.root, changes).await?, 5).await?;
        assert_eq!(
            (second.sequence, second.expires),
            (2, 10),
            "it does not end before the one that it replaces"
        );
        assert_eq!(cfs.find(&first.root, "notes/ada").await?, ada);
        assert_eq!(cfs.find(&second.root, "readme").await?, ada);
        for path in ["notes/ada", "notes/ada/more", "readme/more", "nothing"] {
            let found = cfs.find(&second.root, path).await;
            assert!(matches!(found, Err(CfsError::NoSuchPath { .. })), "{path}: {found:?}");
        }
        assert!(cfs.file(&second.root, "notes").await.is_err(), "a directory is no file");
        // Whoever writes from what is old is told.
        let late = cfs.commit(&keypair, &opened, opened.root, 20).await;
        assert!(matches!(late, Err(CfsError::Put(PutError::Conflict { sequence: 2 }))), "{late:?}");
        // The last entry takes its directory's content with it.
        let emptied = cfs.change(&second.root, [("notes/bob", None), ("readme", None)]).await?;
        assert!(cfs.list(emptied).await?.iter().all(|(name, _)| name == "notes"));
        Ok::<(), CfsError>(())
    })
    .unwrap();
}

#[test]
fn a_change_takes_nothing_that_it_does_not_name() {
    let (_, cfs) = cfs();
    let entry = Entry::File(Blocks { top: Key::of(b"x"), size: 1 });
    let file = Some(entry);
    run(async {
        let root = cfs.change(&Blocks::EMPTY, [("a", file), ("d/e/f", file)]).await?;
        for path in ["a/b", "n/b", "d/n/b", "d/e/f/g", "n"] {
            assert_eq!(cfs.change(&root, [(path, None)]).await?, root, "{path} is not there");
        }
        for path in ["a/b", "d/e/f/g/h"] {
            let refused = cfs.change(&root, [("d/e/x", None), (path, file)]).await;
            assert!(
                matches!(&refused, Err(CfsError::FileInTheWay { path: of }) if of == path),
                "{refused:?}"
            );
        }
        for path in ["d", "d/e"] {
            let refused = cfs.change(&root, [(path, file)]).await;
            assert!(matches!(&refused, Err(CfsError::NotEmpty { path: of }) if of == path), "{refused:?}");
        }
        // What is removed first, or is empty, is not in the way.
        let changed = cfs.change(&root, [("a", None), ("a/b", file), ("d", None), ("d", file)]).await?;
        assert_eq!(cfs.find(&changed, "a/b").await?, entry);
        assert_eq!(cfs.find(&changed, "d").await?, entry);
        let emptied = cfs.change(&root, [("d/e/f", None)]).await?;
        cfs.change(&emptied, [("d/e", file)]).await?;
        Ok::<(), CfsError>(())
    })
    .unwrap();
}

#[test]
fn names_that_would_lead_elsewhere_are_refused() {
    let (_, cfs) = cfs();
    for path in ["", "a//b", "..", "a/../b", "a/.", "nul\0", &"x".repeat(MAX_NAME + 1)] {
        let changed = run(cfs.change(&Blocks::EMPTY, [(path, Some(Entry::File(Blocks::EMPTY)))]));
        assert!(matches!(changed, Err(CfsError::Name(_))), "{path:?}: {changed:?}");
    }
    // Nor are they believed.
    let mut directory = Directory::default();
    directory.insert("xx", Entry::File(Blocks::EMPTY)).unwrap();
    let bytes = directory.encode().unwrap();
    let forged: Vec<u8> = String::from_utf8_lossy(&bytes).replace("xx", "..").into_bytes();
    assert!(matches!(Directory::decode(&forged), Err(CfsError::Name(_))));
}

#[test]
fn what_cannot_be_read_is_not_written() {
    let (_, cfs) = cfs();
    let file =
        stream::iter([Ok(Bytes::from_static(b"half")), Err(std::io::Error::other("the disk is gone"))]);
    let written = run(cfs.write(file));
    assert!(
        matches!(&written, Err(CfsError::Source(why)) if why.to_string() == "the disk is gone"),
        "{written:?}"
    );
}
