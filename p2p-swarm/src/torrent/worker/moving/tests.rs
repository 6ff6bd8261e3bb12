use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::super::tests::{
    Disk, LEN, bits, has_record, look, open, run, strange, torrent, write, write_half,
};
use super::super::{Output, TorrentWorker};
use super::*;
use crate::bits::Bits;
use crate::torrent::job::Work;
use crate::torrent::merkle::BLOCK;
use crate::torrent::wire::Block;
use crate::torrent::{Format, Metainfo};

/// A torrent of four files in the folder `1`, of which the third is not there; the worker of it, and the content.
fn three_of_four(disk: &Disk) -> (TorrentWorker<Disk>, Metainfo, Vec<u8>) {
    let (metainfo, content) = torrent(4, LEN, BLOCK, Format::V2);
    let mut worker = TorrentWorker::new(disk.clone());
    open(&mut worker, 1, &metainfo).unwrap();
    write(&mut worker, &content, &[0, 11, 39]);
    (worker, metainfo, content)
}

fn names(disk: &Disk) -> Vec<String> {
    let names = disk.files.names().into_iter().map(|name| name.display().to_string());
    names.filter(|name| !name.ends_with("resume")).collect()
}

fn move_to(worker: &mut TorrentWorker<Disk>, to: &str) -> Result<Output, StoreError> {
    run(worker, 1, Work::Move { to: to.into() })
}

/// A block is there.
fn reads(worker: &mut TorrentWorker<Disk>, content: &[u8], piece: u32) {
    let read = run(worker, 1, Work::Read(Block { piece, begin: 0, length: BLOCK })).unwrap();
    let right = &content[(piece * BLOCK) as usize..][..BLOCK as usize];
    assert!(matches!(read, Output::Read(data) if data == right), "piece {piece}");
}

#[test]
fn what_is_there_moves_and_is_gone_on_with() {
    for crosses in [false, true] {
        let renaming_fails = crosses.then_some(("x".into(), ErrorKind::CrossesDevices));
        let disk = Disk { renaming_fails, ..Disk::default() };
        let (mut worker, metainfo, content) = three_of_four(&disk);
        assert!(matches!(move_to(&mut worker, "x/y"), Ok(Output::Moved)));
        assert_eq!(names(&disk), ["x/y/t/000", "x/y/t/001", "x/y/t/003"]);
        assert_eq!(disk.open_files(), 0);
        [0, 11, 39].into_iter().for_each(|piece| reads(&mut worker, &content, piece));
        write(&mut worker, &content, &[20, 1]);
        run(&mut worker, 1, Work::Close { have: Some(bits(40, [0, 1, 11, 20, 39])) }).unwrap();
        // Nothing is lost in a crash, and what is written down is believed there.
        disk.files.crash(&mut p2p_core::Rng::new(1));
        let mut worker = TorrentWorker::new(disk.clone());
        let (info, layers) = (metainfo.info().clone(), metainfo.layers().clone());
        let opened = run(&mut worker, 1, Work::Open { info, layers, folder: "x/y".into(), trust: true });
        let Ok(Output::Opened { have, check, .. }) = opened else { panic!("{opened:?}") };
        assert_eq!((have, check), (bits(40, [0, 1, 11, 20, 39]), Bits::new(40)));
    }
}

#[test]
fn what_was_written_down_moves_along() {
    let disk = Disk::default();
    let (mut worker, metainfo, _) = three_of_four(&disk);
    run(&mut worker, 1, Work::Sync { have: bits(40, [0, 11, 39]) }).unwrap();
    assert!(has_record(&disk));
    move_to(&mut worker, "2").unwrap();
    drop(worker);
    let (have, check) = look(&mut TorrentWorker::new(disk.clone()), 2, &metainfo, true).unwrap();
    assert_eq!((have, check.count()), (bits(40, [0, 11, 39]), 0));
    assert!(!disk.files.names().iter().any(|name| name.starts_with("1")));
}

#[test]
fn nothing_is_written_over_and_what_cannot_all_go_stays() {
    let before = ["1/t/000", "1/t/001", "1/t/003"];
    // Something else lies where the last would go.
    let disk = Disk::default();
    let (mut worker, _, content) = three_of_four(&disk);
    disk.files.put("x/t/003", *b"mine");
    let refused = move_to(&mut worker, "x");
    assert!(matches!(&refused, Err(StoreError::Exists(path)) if path == Path::new("x/t/003")), "{refused:?}");
    assert_eq!(names(&disk), [&before[..], &["x/t/003"]].concat());
    assert_eq!(disk.files.read("x/t/003").unwrap(), b"mine");
    reads(&mut worker, &content, 39);
    // The last cannot be moved.
    let renaming_fails = Some((PathBuf::from("x/t/003"), ErrorKind::PermissionDenied));
    let disk = Disk { renaming_fails, ..Disk::default() };
    let (mut worker, _, content) = three_of_four(&disk);
    let failed = move_to(&mut worker, "x");
    assert!(
        matches!(&failed, Err(StoreError::Io { path, .. }) if path == Path::new("x/t/003")),
        "{failed:?}"
    );
    assert_eq!(names(&disk), before);
    assert!(!disk.files.names().iter().any(|name| name.starts_with("x")), "nothing is left there");
    [0, 11, 39].into_iter().for_each(|piece| reads(&mut worker, &content, piece));
    assert!(matches!(move_to(&mut worker, "1"), Ok(Output::Moved)), "where it is it may go");
}

#[test]
fn nothing_may_lie_where_what_has_not_come_yet_will() {
    let disk = Disk::default();
    let (mut worker, metainfo, content) = three_of_four(&disk);
    disk.files.put("x/t/002", *b"mine");
    let refused = move_to(&mut worker, "x");
    assert!(matches!(&refused, Err(StoreError::Exists(path)) if path == Path::new("x/t/002")), "{refused:?}");
    write(&mut worker, &content, &[20]);
    assert_eq!(disk.files.read("x/t/002").unwrap(), b"mine");
    // Unless it is written down that it is the torrent's, and it can be.
    for (length, goes) in [(LEN, true), (LEN + 1, false)] {
        let disk = Disk::default();
        let (mut worker, ..) = three_of_four(&disk);
        let begun = Record::begun(metainfo.info());
        begun.save(&mut disk.clone(), Path::new("x"), metainfo.info()).unwrap();
        disk.files.put("x/t/002", vec![7; length]);
        assert_eq!(move_to(&mut worker, "x").is_ok(), goes, "{length} bytes");
    }
}

#[test]
fn what_is_not_right_yet_is_known_where_it_was_moved_to_and_nowhere_else() {
    for crosses in [false, true] {
        let renaming_fails = crosses.then_some(("x".into(), ErrorKind::CrossesDevices));
        let disk = Disk { renaming_fails, ..Disk::default() };
        let (metainfo, content) = torrent(1, LEN, 2 * BLOCK, Format::V2);
        let mut worker = TorrentWorker::new(disk.clone());
        open(&mut worker, 1, &metainfo).unwrap();
        write_half(&mut worker, &content, 0);
        assert!(matches!(move_to(&mut worker, "x"), Ok(Output::Moved)));
        run(&mut worker, 1, Work::Close { have: None }).unwrap();
        assert!(strange(&disk, "x", &metainfo).is_empty(), "{crosses}");
        assert!(!disk.files.names().iter().any(|name| name.starts_with("1")));
    }
}

#[test]
fn whenever_the_process_ends_each_file_is_whole_in_one_folder_or_the_other() {
    for crosses in [false, true] {
        let mut ends = 0;
        loop {
            let mut disk = Disk { changes: Some(Arc::new(u64::MAX.into())), ..Disk::default() };
            disk.renaming_fails = crosses.then_some(("x".into(), ErrorKind::CrossesDevices));
            let (mut worker, metainfo, _) = three_of_four(&disk);
            run(&mut worker, 1, Work::Sync { have: bits(40, [0, 11, 39]) }).unwrap();
            let before: Vec<_> = names(&disk).iter().map(|name| disk.files.read(name)).collect();
            disk.changes.iter().for_each(|left| left.store(ends, Ordering::Relaxed));
            let moved = move_to(&mut worker, "x");
            drop(worker);
            disk.files.crash(&mut p2p_core::Rng::new(ends));
            for (name, content) in ["t/000", "t/001", "t/003"].into_iter().zip(&before) {
                let places = ["1", "x"].map(|folder| disk.files.read(Path::new(folder).join(name)));
                let [old, new] = places.each_ref().map(|place| place.as_ref() == content.as_ref());
                assert!(old || new, "{name} is lost after {ends} changes");
                assert!(
                    places.iter().flatten().all(|place| Some(place) == content.as_ref()),
                    "{name}, {ends}"
                );
            }
            for folder in ["1", "x"] {
                assert!(strange(&disk, folder, &metainfo).is_empty(), "{folder}, {ends}");
            }
            if moved.is_ok() {
                break;
            }
            // Whoever goes on in the old folder moves what is left.
            disk.changes = None;
            let mut worker = TorrentWorker::new(disk.clone());
            open(&mut worker, 1, &metainfo).unwrap();
            let again = move_to(&mut worker, "x");
            // While it is copied a file is there twice.
            let twice = crosses && matches!(again, Err(StoreError::Exists(_)));
            assert!(twice || matches!(again, Ok(Output::Moved)), "{again:?} after {ends} changes");
            ends += 1;
        }
        assert!(ends >= if crosses { 15 } else { 3 }, "{ends} changes");
    }
}
