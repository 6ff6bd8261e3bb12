//! Blocks out of order, files that cannot be read, and how many are open.

use std::ffi::OsString;
use std::io;
use std::path::Path;

use super::*;
use crate::torrent::job::Tag;
use crate::torrent::{CreateOptions, Format, Metainfo};

/// A disk that counts the files that are open, and may not be able to read them.
#[derive(Clone, Default)]
struct Disk {
    files: MemoryFiles,
    open: Arc<()>,
    reading_fails: Option<ErrorKind>,
}

impl Disk {
    fn open_files(&self) -> usize {
        Arc::strong_count(&self.open) - 2
    }
}

impl Storage for Disk {
    type File = (usize, Arc<()>);

    fn open(&mut self, path: &Path) -> io::Result<Self::File> {
        Ok((self.files.open(path)?, self.open.clone()))
    }
    fn create(&mut self, path: &Path) -> io::Result<Self::File> {
        Ok((self.files.create(path)?, self.open.clone()))
    }
    fn len(&mut self, file: &mut Self::File) -> io::Result<u64> {
        self.files.len(&mut file.0)
    }
    fn resize(&mut self, file: &mut Self::File, len: u64) -> io::Result<()> {
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
            None => self.files.read_at(&mut file.0, at, len, buffer),
        }
    }
    fn write_at(&mut self, file: &mut Self::File, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.files.write_at(&mut file.0, at, bytes)
    }
    fn sync(&mut self, file: &mut Self::File) -> io::Result<()> {
        self.files.sync(&mut file.0)
    }
    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        self.files.rename(from, to)
    }
    fn remove(&mut self, path: &Path) -> io::Result<()> {
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
fn torrent(files: usize, len: usize, piece_length: u32, format: Format) -> (Metainfo, Vec<u8>) {
    let mut disk = MemoryFiles::default();
    let content = content(files * len);
    for (i, part) in content.chunks(len).enumerate() {
        disk.put(format!("t/{i:03}"), part);
    }
    let options = CreateOptions { format, piece_length: Some(piece_length), ..CreateOptions::default() };
    (Metainfo::create(&mut disk, "t".as_ref(), &options).unwrap(), content)
}

fn open<S: Storage>(
    worker: &mut TorrentWorker<S>,
    number: u64,
    metainfo: &Metainfo,
) -> Result<Output, StoreError> {
    let folder = PathBuf::from(number.to_string());
    let work = Work::Open { info: metainfo.info().clone(), layers: metainfo.layers().clone(), folder };
    run(worker, number, work)
}

fn run<S: Storage>(worker: &mut TorrentWorker<S>, torrent: u64, work: Work) -> Result<Output, StoreError> {
    worker.run(vec![TorrentJob { torrent, tag: Tag::Check, work }]).pop().unwrap().result
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
            true => assert!(matches!(&done, Ok(Output::Opened(have)) if have.count() == 0), "{done:?}"),
            false => assert!(matches!(done, Err(StoreError::Io { .. })), "{done:?}"),
        }
    }
    // The first of two files is not there: what is in the other counts.
    let (metainfo, content) = torrent(2, 40_000, 16384, Format::V2);
    let disk = Disk::default();
    disk.files.put("1/t/001", &content[40_000..]);
    let done = open(&mut TorrentWorker::new(disk), 1, &metainfo);
    assert!(matches!(&done, Ok(Output::Opened(have)) if have.count() == 3), "{done:?}");
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
    (1..=6).for_each(|number| assert!(run(&mut worker, number, Work::Close).is_ok()));
    assert_eq!((worker.open, disk.open_files()), (0, 0));
}
