//! Files that a program reads at its start. They are its own, but may have been damaged.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use p2p_core::{HostCache, Key, Keypair, Worker};
use p2p_overlay::{
    ContentHash, DiskFolder, NamesFile, NoteName, ShareOutput, ShareWorker, SharingJob, is_user_name,
};

/// A private file with these bytes, removed when dropped.
struct File(PathBuf);

impl File {
    fn new(name: &str, bytes: &[u8]) -> File {
        let path = std::env::temp_dir().join(format!("p2p-fuzz-{name}-{}", std::process::id()));
        let mut options = OpenOptions::new();
        let file = options.write(true).create(true).truncate(true).mode(0o600).open(&path);
        file.and_then(|mut file| file.write_all(bytes)).expect("a file for temporary use");
        File(path)
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// A host cache's file: never more than there is room for, and what was loaded is saved and loaded alike.
pub fn host_cache(bytes: &[u8]) {
    let file = File::new("hosts", bytes);
    let mut cache = HostCache::new(50, 8);
    if cache.load(&file.0).is_ok() {
        assert!(cache.len() <= 50);
        cache.save(&file.0).expect("a file for temporary use");
        let mut again = HostCache::new(50, 8);
        again.load(&file.0).expect("what was saved is a host cache");
        assert_eq!(again, cache);
    }
}

/// A key file.
pub fn key_file(bytes: &[u8]) {
    let file = File::new("key", bytes);
    if let Ok(keypair) = Keypair::load(&file.0) {
        let text = String::from_utf8(bytes.to_vec()).expect("a key file is text");
        let _ = std::fs::remove_file(&file.0);
        keypair.save(&file.0).expect("a file for temporary use");
        let saved = std::fs::read_to_string(&file.0).expect("a file for temporary use");
        assert_eq!(saved.trim_end(), text.trim_end().to_ascii_lowercase());
    }
}

/// A login server's names: what was read is read again, and one more behind it.
pub fn names(bytes: &[u8]) {
    let file = File::new("names", bytes);
    let Ok((mut open, names)) = NamesFile::open(&file.0) else { return };
    assert!(names.iter().all(|(name, _)| is_user_name(name)));
    let last = ("ada".to_owned(), Keypair::from_seed(&[1; 32]).id());
    let noted = open.run(vec![NoteName { name: last.0.clone(), key: last.1 }]);
    assert_eq!(noted, [Ok(())]);
    drop(open);
    let (_, again) = NamesFile::open(&file.0).expect("what was written is read");
    assert_eq!(again, [names, vec![last]].concat());
}

/// How many bytes the file has that is being fetched.
const SIZE: u64 = 200;
/// A note's bytes, without and with the hash of what it is about.
const PLACE: usize = 12;
const NOTE: usize = PLACE + 32;

/// What is left of a download: so many bytes as the first says, and notes about them. In every other note, by a bit of
/// it, the hash is made right here, or next to none would be. What is taken for what was written lies within both, and
/// is found again.
pub fn notes(bytes: &[u8]) {
    let Some((&length, rest)) = bytes.split_first() else { return };
    let (part, notes) = rest.split_at(rest.len().min(length.into()));
    let mut notes = notes.to_vec();
    for note in notes.chunks_exact_mut(NOTE).filter(|note| note[PLACE] & 1 == 0) {
        let at = u64::from_le_bytes(*note.first_chunk().expect("8 bytes"));
        let len = note[8..PLACE].iter().rev().fold(0, |len, byte| len << 8 | usize::from(*byte));
        let start = usize::try_from(at).unwrap_or(usize::MAX).min(part.len());
        let about = &part[start..start.saturating_add(len).min(part.len())];
        note[PLACE..].copy_from_slice(Key::of(about).as_bytes());
    }
    let folder = std::env::temp_dir().join(format!("p2p-fuzz-notes-{}", std::process::id()));
    let content = Some(ContentHash::Blake3([7; 32]));
    let open = || {
        let mut worker = ShareWorker::new(DiskFolder::new(None, &folder));
        let open = SharingJob::Open { number: 1, name: "a song".into(), content, size: SIZE };
        let done = worker.run(vec![open, SharingJob::Drop { number: 1, keep: true }]);
        match &done[..] {
            [Ok(ShareOutput::Opened(there)), Ok(ShareOutput::Done)] => there.clone(),
            _ => panic!("a folder for temporary use: {done:?}"),
        }
    };
    assert_eq!(open(), [], "there was nothing");
    for (end, content) in [(".part", part), (".notes", &notes)] {
        let files = fs::read_dir(&folder).expect("a folder for temporary use");
        let mut paths = files.map(|file| file.expect("a folder for temporary use").path());
        let path = paths.find(|path| path.to_str().is_some_and(|path| path.ends_with(end)));
        fs::write(path.expect("it is made when a download begins"), content)
            .expect("a file for temporary use");
    }
    let there = open();
    let most = SIZE.min(part.len() as u64);
    assert!(there.iter().all(|(start, end)| start <= end && *end <= most), "{there:?}");
    assert!(there.windows(2).all(|two| two[0].1 <= two[1].0), "{there:?}");
    assert_eq!(open(), there);
    fs::remove_dir_all(&folder).expect("a folder for temporary use");
}
