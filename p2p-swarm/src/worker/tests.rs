//! Workers by hand, on real files: what a killed process leaves, what slices do.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use p2p_core::Key;

use super::*;
use crate::bits::Bits;
use crate::job::{Blob, Tag, Target};
use crate::runs::{RUN, run_count};

/// A folder that goes when the test ends.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Folder {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name =
            format!("p2p-swarm-worker-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    fn file(&self, name: &str, len: usize) -> (PathBuf, Vec<u8>) {
        let mut content = vec![0; len];
        p2p_core::Rng::new(len as u64).fill(&mut content);
        let path = self.0.join(name);
        std::fs::write(&path, &content).unwrap();
        (path, content)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn work<S: Storage>(worker: &mut StoreWorker<S>, work: Work) -> Result<Output, StoreError> {
    let job = SwarmJob { tag: Tag::Fetch(1), lane: None, work };
    worker.run(vec![job]).pop().unwrap().result
}

/// Imports a file; also says in how many slices.
fn import<S: Storage>(worker: &mut StoreWorker<S>, path: &Path) -> (Result<Vec<Blob>, StoreError>, usize) {
    let mut import = Box::new(Import::new(path.into()));
    for slices in 1.. {
        match work(worker, Work::Import(import)) {
            Ok(Output::Importing(rest)) => import = rest,
            Ok(Output::Imported(blobs)) => return (Ok(blobs), slices),
            Ok(other) => panic!("{other:?}"),
            Err(error) => return (Err(error), slices),
        }
    }
    unreachable!("an import ends")
}

/// A run of a file with its proof, as a provider reads it.
fn run_of<S: Storage>(worker: &mut StoreWorker<S>, blob: &Blob, run: u64) -> Work {
    let Blob { source, outboard } = blob.clone();
    match work(worker, Work::Read { source, outboard, run }) {
        Ok(Output::Read { size, data, proof }) => Work::Write { fetch: 1, run, size, data, proof },
        other => panic!("{other:?}"),
    }
}

fn opened(output: Result<Output, StoreError>) -> Option<(u64, Bits)> {
    match output {
        Ok(Output::Opened(there)) => there,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_a_killed_process_wrote_is_there_for_the_next() {
    let folder = Folder::new();
    let (path, content) = folder.file("song", 5 * RUN + 9);
    let mut provider = FileWorker::new(Files);
    let blob = import(&mut provider, &path).0.unwrap().pop().unwrap();
    let open =
        || Work::Open { fetch: 1, root: Key::of(&content), target: Target::File(folder.0.join("copy")) };

    let mut killed = FileWorker::new(Files);
    assert_eq!(opened(work(&mut killed, open())), None);
    for run in [5, 1, 3] {
        let write = run_of(&mut provider, &blob, run);
        assert!(matches!(work(&mut killed, write), Ok(Output::Written)));
    }
    drop(killed);

    let mut next = FileWorker::new(Files);
    let (size, there) = opened(work(&mut next, open())).unwrap();
    assert_eq!((size, there.iter().collect::<Vec<_>>()), (content.len() as u64, vec![1, 3, 5]));
    for run in (0..run_count(size)).filter(|run| !there.contains(*run)) {
        let write = run_of(&mut provider, &blob, run);
        assert!(matches!(work(&mut next, write), Ok(Output::Written)));
    }
    assert!(matches!(work(&mut next, Work::Finish { fetch: 1 }), Ok(Output::Finished(_))));
    assert_eq!(std::fs::read(folder.0.join("copy")).unwrap(), content);
}

#[test]
fn the_partial_file_of_another_blob_is_not_taken_for_this_one() {
    let folder = Folder::new();
    let (first, _) = folder.file("first", 3 * RUN);
    let (second, content) = folder.file("second", 3 * RUN + 1);
    let mut worker = FileWorker::new(Files);
    let first = import(&mut worker, &first).0.unwrap().pop().unwrap();
    let second = import(&mut worker, &second).0.unwrap().pop().unwrap();
    for (blob, runs) in [(&first, vec![2, 0]), (&second, vec![3, 1, 2, 0])] {
        let target = Target::File(folder.0.join("copy"));
        let open = Work::Open { fetch: 1, root: blob.outboard.root(), target };
        assert_eq!(opened(work(&mut worker, open)), None);
        for run in runs {
            let write = run_of(&mut worker, blob, run);
            assert!(matches!(work(&mut worker, write), Ok(Output::Written)));
        }
    }
    assert!(matches!(work(&mut worker, Work::Finish { fetch: 1 }), Ok(Output::Finished(_))));
    assert_eq!(std::fs::read(folder.0.join("copy")).unwrap(), content);
}

#[test]
fn until_the_last_run_has_come_no_other_is_believed() {
    let folder = Folder::new();
    let (path, content) = folder.file("song", 3 * RUN);
    let mut worker = FileWorker::new(Files);
    let blob = import(&mut worker, &path).0.unwrap().pop().unwrap();
    let target = Target::File(folder.0.join("copy"));
    work(&mut worker, Work::Open { fetch: 1, root: Key::of(&content), target }).unwrap();
    let early = run_of(&mut worker, &blob, 0);
    assert!(matches!(work(&mut worker, early), Ok(Output::NotProved)));
    assert!(matches!(work(&mut worker, Work::Finish { fetch: 1 }), Err(StoreError::NotOpen)));
}

#[test]
fn a_long_import_goes_in_slices_and_a_change_between_them_is_noticed() {
    let files = MemoryFiles::default();
    files.put("long", vec![3; 2 * SLICE as usize + 1]);
    let mut worker = MemoryWorker::new(files.clone());
    let (blobs, slices) = import(&mut worker, Path::new("long"));
    assert_eq!(slices, 3);
    assert_eq!(blobs.unwrap()[0].outboard.root(), Key::of(&files.read("long").unwrap()));

    let Ok(Output::Importing(rest)) = work(&mut worker, Work::Import(Box::new(Import::new("long".into()))))
    else {
        panic!("it goes in slices")
    };
    files.put("long", vec![3; 10]);
    let changed = work(&mut worker, Work::Import(rest)).unwrap_err();
    assert_eq!(changed, StoreError::Changed("long".into()));
}

#[test]
fn a_made_up_record_does_no_harm() {
    // Whoever can write the record can make groups seem good that are not the blob's: the end notices.
    let files = MemoryFiles::default();
    let (content, other) = (vec![1; 2 * RUN], vec![2; 2 * RUN]);
    files.put("true", content.clone());
    files.put("false", other.clone());
    let mut worker = MemoryWorker::new(files.clone());
    let blob = import(&mut worker, Path::new("false")).0.unwrap().pop().unwrap();
    let fetch_other = Work::Open { fetch: 1, root: Key::of(&other), target: Target::File("copy".into()) };
    opened(work(&mut worker, fetch_other));
    for run in [1, 0] {
        let write = run_of(&mut worker, &blob, run);
        work(&mut worker, write).unwrap();
    }
    let mut record = files.read("copy.p2p-groups").unwrap();
    record[16..48].copy_from_slice(Key::of(&content).as_bytes());
    let check = blake3::hash(&record[..56]);
    record[56..88].copy_from_slice(check.as_bytes());
    files.put("copy.p2p-groups", record);

    let open = || Work::Open { fetch: 1, root: Key::of(&content), target: Target::File("copy".into()) };
    assert!(opened(work(&mut worker, open())).unwrap().1.is_full());
    assert!(matches!(work(&mut worker, Work::Finish { fetch: 1 }), Err(StoreError::Changed(_))));
    assert_eq!(files.read("copy"), None);
    assert_eq!(opened(work(&mut worker, open())), None, "the next fetch starts anew");
}

#[test]
fn a_shared_run_is_read_as_it_was_or_not_at_all() {
    let files = MemoryFiles::default();
    files.put("song", vec![1; 2 * RUN]);
    let mut worker = MemoryWorker::new(files.clone());
    let Blob { source, outboard } = import(&mut worker, Path::new("song")).0.unwrap().pop().unwrap();
    let mut read =
        |run| work(&mut worker, Work::Read { source: source.clone(), outboard: Arc::clone(&outboard), run });
    files.put("song", vec![1; RUN + 5]);
    assert!(matches!(read(0), Ok(Output::Read { .. })));
    assert!(matches!(read(1), Err(StoreError::Changed(_))), "it has become shorter");
}
