//! Blocks out of order, files that cannot be read, and how many are open.

use std::ffi::OsString;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::*;
use crate::bits::Bits;
use crate::storage::{FileKind, Stamp};
use crate::torrent::job::Tag;
use crate::torrent::{CreateOptions, Format, Metainfo};
use p2p_core::Rng;

/// A disk that counts the files that are open, and may not be able to read them, or to do other things.
#[derive(Clone, Default)]
pub(super) struct Disk {
    pub(super) files: MemoryFiles,
    pub(super) open: Arc<()>,
    pub(super) reading_fails: Option<ErrorKind>,
    /// Of files that go there or come from there, and how.
    pub(super) renaming_fails: Option<(PathBuf, ErrorKind)>,
    pub(super) syncing_fails: Arc<AtomicBool>,
    /// So many more changes are made, and then none.
    pub(super) changes: Option<Arc<AtomicU64>>,
    /// How many bytes were read.
    pub(super) read: Arc<AtomicU64>,
}

impl Disk {
    pub(super) fn open_files(&self) -> usize {
        Arc::strong_count(&self.open) - 2
    }

    fn change(&self) -> io::Result<()> {
        let Some(left) = &self.changes else { return Ok(()) };
        let one_less = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        one_less.map(|_| ()).map_err(|_| ErrorKind::Interrupted.into())
    }
}

impl Storage for Disk {
    type File = (usize, Arc<()>);

    fn open(&mut self, path: &Path) -> io::Result<Self::File> {
        Ok((self.files.open(path)?, self.open.clone()))
    }
    fn create(&mut self, path: &Path) -> io::Result<Self::File> {
        self.change()?;
        Ok((self.files.create(path)?, self.open.clone()))
    }
    fn len(&mut self, file: &mut Self::File) -> io::Result<u64> {
        self.files.len(&mut file.0)
    }
    fn resize(&mut self, file: &mut Self::File, len: u64) -> io::Result<()> {
        self.change()?;
        self.files.resize(&mut file.0, len)
    }
    fn read_at(
        &mut self,
        file: &mut Self::File,
        at: u64,
        len: usize,
        buffer: &mut Vec<u8>,
    ) -> io::Result<()> {
        match self.reading_fails {
            Some(kind) => Err(kind.into()),
            None => {
                self.read.fetch_add(len as u64, Ordering::Relaxed);
                self.files.read_at(&mut file.0, at, len, buffer)
            }
        }
    }
    fn write_at(&mut self, file: &mut Self::File, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.change()?;
        self.files.write_at(&mut file.0, at, bytes)
    }
    fn stamp(&mut self, path: &Path) -> io::Result<Stamp> {
        self.files.stamp(path)
    }
    fn sync(&mut self, file: &mut Self::File) -> io::Result<()> {
        self.change()?;
        match self.syncing_fails.load(Ordering::Relaxed) {
            true => Err(ErrorKind::StorageFull.into()),
            false => self.files.sync(&mut file.0),
        }
    }
    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        self.change()?;
        match &self.renaming_fails {
            Some((place, kind)) if to.starts_with(place) != from.starts_with(place) => Err((*kind).into()),
            _ => self.files.rename(from, to),
        }
    }
    fn remove(&mut self, path: &Path) -> io::Result<()> {
        self.change()?;
        self.files.remove(path)
    }
    fn kind(&mut self, path: &Path) -> io::Result<FileKind> {
        self.files.kind(path)
    }
    fn list(&mut self, path: &Path) -> io::Result<Vec<OsString>> {
        self.files.list(path)
    }
}

fn content(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at / 7) as u8).collect()
}

/// A torrent of files of this length each.
pub(super) fn torrent(files: usize, len: usize, piece_length: u32, format: Format) -> (Metainfo, Vec<u8>) {
    let mut disk = MemoryFiles::default();
    let content = content(files * len);
    for (i, part) in content.chunks(len).enumerate() {
        disk.put(format!("t/{i:03}"), part);
    }
    let options = CreateOptions { format, piece_length: Some(piece_length), ..CreateOptions::default() };
    (Metainfo::create(&mut disk, "t".as_ref(), &options).unwrap(), content)
}

/// The pieces that are there of a torrent.
pub(super) fn open<S: Storage>(
    worker: &mut TorrentWorker<S>,
    number: u64,
    metainfo: &Metainfo,
) -> Result<Bits, StoreError> {
    let (mut have, check) = look(worker, number, metainfo, true)?;
    let (info, layers) = (metainfo.info().clone(), metainfo.layers().clone());
    for piece in check.iter().map(|piece| piece as u32) {
        let (info, layers, folder) = (info.clone(), layers.clone(), number.to_string().into());
        let check = Work::Check { info, layers, folder, pieces: piece..piece + 1 };
        let Output::Checked(right) = run(worker, number, check)? else { panic!() };
        right.into_iter().for_each(|piece| _ = have.insert(piece.into()));
    }
    Ok(have)
}

/// Those that are believed to be there, and those that are to be hashed.
pub(super) fn look<S: Storage>(
    worker: &mut TorrentWorker<S>,
    number: u64,
    metainfo: &Metainfo,
    trust: bool,
) -> Result<(Bits, Bits), StoreError> {
    let folder = PathBuf::from(number.to_string());
    let work = Work::Open { info: metainfo.info().clone(), layers: metainfo.layers().clone(), folder, trust };
    match run(worker, number, work)? {
        Output::Opened { have, check, .. } => Ok((have, check)),
        other => panic!("{other:?}"),
    }
}

pub(super) fn run<S: Storage>(
    worker: &mut TorrentWorker<S>,
    torrent: u64,
    work: Work,
) -> Result<Output, StoreError> {
    worker.run(vec![TorrentJob { torrent, tag: Tag::Open, work }]).pop().unwrap().result
}

#[test]
fn few_blocks_wait_for_those_in_front_and_the_piece_is_right_all_the_same() {
    const BLOCKS: u32 = 256;
    for format in [Format::V1, Format::Hybrid] {
        for lie in [false, true] {
            let (metainfo, mut content) = torrent(1, (BLOCKS * BLOCK) as usize, BLOCKS * BLOCK, format);
            content[5_000_000 % (BLOCKS * BLOCK) as usize] ^= u8::from(lie);
            let mut worker = MemoryTorrents::new(MemoryFiles::default());
            open(&mut worker, 1, &metainfo).unwrap();
            for block in (0..BLOCKS).rev() {
                let data = content[(block * BLOCK) as usize..][..BLOCK as usize].to_vec();
                let write = Work::Write { piece: 0, begin: block * BLOCK, data: data.into() };
                let done = run(&mut worker, 1, write).unwrap();
                let waiting: usize =
                    worker.torrents[&1].arriving.values().map(|piece| piece.early.len()).sum();
                assert!(waiting <= 64, "{waiting} wait");
                match (block, lie) {
                    (0, false) => assert!(matches!(done, Output::Verified), "{done:?}"),
                    (0, true) => assert!(matches!(done, Output::Wrong), "{done:?}"),
                    _ => assert!(matches!(done, Output::Written), "{done:?}"),
                }
            }
        }
    }
}

#[test]
fn what_cannot_be_read_is_not_taken_for_missing() {
    let (metainfo, content) = torrent(1, 40_000, 16384, Format::V1);
    for (kind, missing) in [(ErrorKind::UnexpectedEof, true), (ErrorKind::PermissionDenied, false)] {
        let disk = Disk { reading_fails: Some(kind), ..Disk::default() };
        disk.files.put("1/t/000", content.clone());
        let done = open(&mut TorrentWorker::new(disk), 1, &metainfo);
        match missing {
            true => assert!(matches!(&done, Ok(have) if have.count() == 0), "{done:?}"),
            false => assert!(matches!(done, Err(StoreError::Io { .. })), "{done:?}"),
        }
    }
    // The first of two files is not there: what is in the other counts.
    let (metainfo, content) = torrent(2, 40_000, 16384, Format::V2);
    let disk = Disk::default();
    disk.files.put("1/t/001", &content[40_000..]);
    let done = open(&mut TorrentWorker::new(disk), 1, &metainfo);
    assert!(matches!(&done, Ok(have) if have.count() == 3), "{done:?}");
}

#[test]
fn files_of_all_torrents_that_are_open_are_bounded_and_those_closed_are_safe() {
    let disk = Disk::default();
    let mut worker = TorrentWorker::new(disk.clone());
    let (metainfo, content) = torrent(80, BLOCK as usize, BLOCK, Format::V1);
    for number in 1..=6 {
        open(&mut worker, number, &metainfo).unwrap();
        for piece in 0..80 {
            let data = content[(piece * BLOCK) as usize..][..BLOCK as usize].to_vec();
            run(&mut worker, number, Work::Write { piece, begin: 0, data: data.into() }).unwrap();
            assert!(disk.open_files() <= 256, "{} of torrent {number}", disk.open_files());
        }
    }
    assert_eq!(worker.open, disk.open_files());
    for piece in 0..80_u32 {
        let path = format!("1/t/{piece:03}");
        let expected = &content[(piece * BLOCK) as usize..][..BLOCK as usize];
        assert!(disk.files.synced(&path).unwrap() == expected, "{path}");
        // It opens them again.
        let block = Block { piece, begin: 0, length: BLOCK };
        let read = run(&mut worker, 1, Work::Read(block)).unwrap();
        assert!(matches!(read, Output::Read(data) if data == expected));
        assert!(disk.open_files() <= 256);
    }
    (1..=6).for_each(|number| assert!(run(&mut worker, number, Work::Close { have: None }).is_ok()));
    assert_eq!((worker.open, disk.open_files()), (0, 0));
}

/// A torrent of four files, of which the pieces that `which` names are written, and what the worker says is there.
pub(super) fn write(worker: &mut TorrentWorker<Disk>, content: &[u8], which: &[u32]) {
    for piece in which {
        let data = content[(*piece * BLOCK) as usize..].chunks(BLOCK as usize).next().unwrap().to_vec();
        let done = run(worker, 1, Work::Write { piece: *piece, begin: 0, data: data.into() });
        assert!(matches!(done, Ok(Output::Verified)), "{done:?}");
    }
}

/// A block of a torrent of pieces of two is written, and is not the last of its piece, or is.
pub(super) fn write_half(worker: &mut TorrentWorker<Disk>, content: &[u8], block: u32) {
    let data = content[(block * BLOCK) as usize..][..BLOCK as usize].to_vec();
    let write = Work::Write { piece: block / 2, begin: block % 2 * BLOCK, data: data.into() };
    let done = run(worker, 1, write);
    assert!(matches!(done, Ok(Output::Written | Output::Verified)), "{done:?}");
}

/// The files in a folder that a new worker does not know for the torrent's own.
pub(super) fn strange(disk: &Disk, folder: &str, metainfo: &Metainfo) -> Vec<u32> {
    let (info, layers) = (metainfo.info().clone(), metainfo.layers().clone());
    let work = Work::Open { info, layers, folder: folder.into(), trust: true };
    match run(&mut TorrentWorker::new(disk.clone()), 1, work) {
        Ok(Output::Opened { strange, .. }) => strange,
        other => panic!("{other:?}"),
    }
}

pub(super) fn bits(len: u64, pieces: impl IntoIterator<Item = u32>) -> Bits {
    let mut bits = Bits::new(len);
    pieces.into_iter().for_each(|piece| _ = bits.insert(piece.into()));
    bits
}

pub(super) const LEN: usize = 10 * BLOCK as usize;

#[test]
fn what_is_unchanged_is_not_read_and_what_was_touched_is_hashed_again() {
    // Four files of ten pieces each.
    let (metainfo, content) = torrent(4, LEN, BLOCK, Format::Hybrid);
    let disk = Disk::default();
    let mut worker = TorrentWorker::new(disk.clone());
    open(&mut worker, 1, &metainfo).unwrap();
    let written: Vec<u32> = (0..40).filter(|piece| ![5, 17, 39].contains(piece)).collect();
    write(&mut worker, &content, &written);
    let have = bits(40, written);
    run(&mut worker, 1, Work::Close { have: Some(have.clone()) }).unwrap();
    let reads = |disk: &Disk, trust| {
        let before = disk.read.load(Ordering::Relaxed);
        let mut worker = TorrentWorker::new(disk.clone());
        let (_, check) = look(&mut worker, 1, &metainfo, trust).unwrap();
        let found = open(&mut TorrentWorker::new(disk.clone()), 1, &metainfo).unwrap();
        (found, check, (disk.read.load(Ordering::Relaxed) - before) / u64::from(BLOCK))
    };
    assert_eq!(reads(&disk, true), (have.clone(), Bits::new(40), 0), "but for the record, which is short");
    assert_eq!(reads(&disk, false).1, Bits::full(40), "unless that is asked for");
    // The second file is touched though nothing is changed, the third is gone, and the fourth has another byte.
    disk.files.put("1/t/001", &content[LEN..2 * LEN]);
    disk.files.clone().remove(Path::new("1/t/002")).unwrap();
    let mut fourth = content[3 * LEN..].to_vec();
    fourth[7] ^= 1;
    disk.files.put("1/t/003", fourth);
    let (found, check, _) = reads(&disk, true);
    assert_eq!(check, bits(40, (10..20).chain(30..40)));
    let right = (0..20).filter(|piece| *piece != 5).chain(31..40);
    assert_eq!(found, bits(40, right));
    // A record that cannot be read is none.
    let name = disk.files.names().into_iter().find(|name| name.extension().is_some()).unwrap();
    disk.files.put(name, *b"d4:info");
    assert_eq!(reads(&disk, true).1.count(), 30);
}

#[test]
fn after_a_crash_nothing_is_taken_for_there_that_is_not() {
    for seed in 0..50 {
        let mut rng = Rng::new(seed);
        let (metainfo, content) = torrent(2, LEN, BLOCK, Format::V1);
        let disk = Disk::default();
        let mut worker = TorrentWorker::new(disk.clone());
        open(&mut worker, 1, &metainfo).unwrap();
        let mut pieces: Vec<u32> = (0..20).collect();
        rng.shuffle(&mut pieces);
        let (before, later) = pieces.split_at(rng.index(20));
        write(&mut worker, &content, before);
        let synced = bits(20, before.iter().copied());
        run(&mut worker, 1, Work::Sync { have: synced.clone() }).unwrap();
        write(&mut worker, &content, later);
        disk.files.crash(&mut rng);
        let found = open(&mut TorrentWorker::new(disk.clone()), 1, &metainfo).unwrap();
        assert!(synced.iter().all(|piece| found.contains(piece)), "seed {seed}: what was synced is there");
        are_right(&disk, &content, &found);
    }
}

/// Pieces that are said to be there are, in files of ten.
fn are_right(disk: &Disk, content: &[u8], found: &Bits) {
    for piece in found.iter().map(|piece| piece as usize) {
        let of = disk.files.read(format!("1/t/{:03}", piece / 10)).unwrap();
        let at = piece % 10 * BLOCK as usize;
        let right = &content[piece * BLOCK as usize..][..BLOCK as usize];
        assert!(of.get(at..at + BLOCK as usize) == Some(right), "piece {piece}");
    }
}

/// What a new worker believes to be there.
fn believed(disk: &Disk, metainfo: &Metainfo) -> Bits {
    look(&mut TorrentWorker::new(disk.clone()), 1, metainfo, true).unwrap().0
}

/// Whether it is written down that a torrent was begun, and nothing else.
fn is_begun(disk: &Disk, metainfo: &Metainfo) -> bool {
    let record = Record::load(&mut disk.clone(), Path::new("1"), metainfo.info());
    record == Some(Record::begun(metainfo.info()))
}

pub(super) fn has_record(disk: &Disk) -> bool {
    disk.files.names().iter().any(|name| name.extension().is_some_and(|end| end == "resume"))
}

#[test]
fn after_a_crash_what_a_process_before_has_left_unsynced_is_not_taken_for_there() {
    for seed in 0..20 {
        let mut rng = Rng::new(seed);
        let (metainfo, content) = torrent(2, LEN, BLOCK, Format::V1);
        let disk = Disk::default();
        let mut killed = TorrentWorker::new(disk.clone());
        open(&mut killed, 1, &metainfo).unwrap();
        write(&mut killed, &content, &(0..20).collect::<Vec<_>>());
        drop(killed);
        let mut worker = TorrentWorker::new(disk.clone());
        let have = open(&mut worker, 1, &metainfo).unwrap();
        assert!(have.is_full());
        run(&mut worker, 1, Work::Sync { have }).unwrap();
        disk.files.crash(&mut rng);
        assert!(believed(&disk, &metainfo).is_full(), "seed {seed}");
        are_right(&disk, &content, &Bits::full(20));
    }
}

#[test]
fn what_others_change_meanwhile_is_hashed_again() {
    let (metainfo, content) = torrent(3, LEN, BLOCK, Format::V1);
    let disk = Disk::default();
    for file in 0..2 {
        disk.files.put(format!("1/t/{file:03}"), &content[file * LEN..][..LEN]);
    }
    let mut worker = TorrentWorker::new(disk.clone());
    assert_eq!(open(&mut worker, 1, &metainfo).unwrap(), bits(30, 0..20));
    write(&mut worker, &content, &[20, 21]);
    let mut first = content[..LEN].to_vec();
    first[7] ^= 1;
    disk.files.put("1/t/000", first);
    run(&mut worker, 1, Work::Close { have: Some(bits(30, 0..22)) }).unwrap();
    assert_eq!(believed(&disk, &metainfo), bits(30, 10..22));
    let found = open(&mut TorrentWorker::new(disk.clone()), 1, &metainfo).unwrap();
    assert_eq!(found, bits(30, 1..22));
}

#[test]
fn a_record_is_not_believed_of_what_cannot_be_there() {
    let (metainfo, content) = torrent(2, LEN, BLOCK, Format::V1);
    let disk = Disk::default();
    // The first file ends within its sixth piece, and the second is not there.
    disk.files.put("1/t/000", &content[..5 * BLOCK as usize + 1]);
    let mut worker = TorrentWorker::new(disk.clone());
    let (_, check) = look(&mut worker, 1, &metainfo, true).unwrap();
    assert_eq!(check, bits(20, 0..10));
    let stamps = worker.torrents[&1].stamps.clone();
    let record = Record { have: Bits::full(20), files: stamps };
    record.save(&mut disk.clone(), Path::new("1"), metainfo.info()).unwrap();
    assert_eq!(believed(&disk, &metainfo), bits(20, 0..5));
}

#[test]
fn what_has_changed_is_not_believed_any_more() {
    let (metainfo, content) = torrent(1, LEN, BLOCK, Format::V1);
    let disk = Disk::default();
    let mut worker = TorrentWorker::new(disk.clone());
    open(&mut worker, 1, &metainfo).unwrap();
    write(&mut worker, &content, &[0, 1, 9]);
    run(&mut worker, 1, Work::Sync { have: bits(10, [0, 1, 9]) }).unwrap();
    assert!(has_record(&disk));
    let mut file = disk.files.clone().open(Path::new("1/t/000")).unwrap();
    disk.files.clone().resize(&mut file, 9 * u64::from(BLOCK)).unwrap();
    let read = run(&mut worker, 1, Work::Read(Block { piece: 9, begin: 0, length: BLOCK }));
    assert!(matches!(read, Err(StoreError::Changed(_))), "{read:?}");
    assert!(is_begun(&disk, &metainfo));
}

#[test]
fn a_file_of_which_nothing_is_right_yet_is_known_though_another_has_changed() {
    let (metainfo, content) = torrent(2, LEN, 2 * BLOCK, Format::V2);
    let disk = Disk::default();
    let mut worker = TorrentWorker::new(disk.clone());
    open(&mut worker, 1, &metainfo).unwrap();
    // All of the first, and half a piece of the second.
    (0..11).for_each(|block| write_half(&mut worker, &content, block));
    run(&mut worker, 1, Work::Sync { have: bits(10, 0..5) }).unwrap();
    let mut file = disk.files.clone().open(Path::new("1/t/000")).unwrap();
    disk.files.clone().resize(&mut file, 5 * u64::from(BLOCK)).unwrap();
    let read = run(&mut worker, 1, Work::Read(Block { piece: 4, begin: 0, length: BLOCK }));
    assert!(matches!(read, Err(StoreError::Changed(_))), "{read:?}");
    run(&mut worker, 1, Work::Close { have: None }).unwrap();
    assert!(strange(&disk, "1", &metainfo).is_empty());
}

#[test]
fn a_folder_that_takes_no_record_takes_a_download() {
    let (metainfo, content) = torrent(1, LEN, BLOCK, Format::V2);
    for kind in [ErrorKind::PermissionDenied, ErrorKind::StorageFull] {
        let record = record::path(Path::new("1"), metainfo.info());
        let disk = Disk { renaming_fails: Some((record, kind)), ..Disk::default() };
        let mut worker = TorrentWorker::new(disk.clone());
        open(&mut worker, 1, &metainfo).unwrap();
        write(&mut worker, &content, &[0]);
        assert_eq!(disk.files.names(), [Path::new("1/t/000")]);
        // What was full has room.
        worker.storage.renaming_fails = None;
        write(&mut worker, &content, &[1]);
        assert_eq!(is_begun(&disk, &metainfo), kind == ErrorKind::StorageFull);
    }
}

#[test]
fn once_a_file_could_not_be_made_safe_nothing_is_written_down_of_it() {
    let (metainfo, content) = torrent(1, LEN, BLOCK, Format::V1);
    let disk = Disk::default();
    let mut worker = TorrentWorker::new(disk.clone());
    for number in [1, 2] {
        open(&mut worker, number, &metainfo).unwrap();
    }
    write(&mut worker, &content, &[0]);
    run(&mut worker, 1, Work::Sync { have: bits(10, [0]) }).unwrap();
    assert!(has_record(&disk));
    write(&mut worker, &content, &[1]);
    disk.syncing_fails.store(true, Ordering::Relaxed);
    let synced = run(&mut worker, 1, Work::Sync { have: bits(10, [0, 1]) });
    assert!(matches!(synced, Err(StoreError::Unsynced { .. })), "{synced:?}");
    assert!(!has_record(&disk));
    // Though the system says that all is well now, and whoever takes it on again.
    disk.syncing_fails.store(false, Ordering::Relaxed);
    let have = open(&mut worker, 1, &metainfo).unwrap();
    run(&mut worker, 1, Work::Close { have: Some(have.clone()) }).unwrap();
    open(&mut worker, 1, &metainfo).unwrap();
    run(&mut worker, 1, Work::Sync { have }).unwrap();
    assert!(!has_record(&disk));
    // Another torrent is another.
    let data = content[..BLOCK as usize].to_vec().into();
    run(&mut worker, 2, Work::Write { piece: 0, begin: 0, data }).unwrap();
    run(&mut worker, 2, Work::Sync { have: bits(10, [0]) }).unwrap();
    assert!(has_record(&disk));
    // But that it was begun is, which says nothing of what is there.
    write(&mut worker, &content, &[2]);
    run(&mut worker, 1, Work::Sync { have: bits(10, [0, 2]) }).unwrap();
    assert!(is_begun(&disk, &metainfo));
}

#[test]
fn what_was_proved_and_not_told_yet_is_written_down() {
    let (metainfo, content) = torrent(1, LEN, BLOCK, Format::V2);
    let disk = Disk::default();
    let mut worker = TorrentWorker::new(disk.clone());
    open(&mut worker, 1, &metainfo).unwrap();
    write(&mut worker, &content, &[3, 4, 7]);
    run(&mut worker, 1, Work::Close { have: Some(bits(10, [3])) }).unwrap();
    assert_eq!(believed(&disk, &metainfo), bits(10, [3, 4, 7]));
}
