//! Files that a program reads at its start. They are its own, but may have been damaged.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use p2p_core::{HostCache, Keypair};

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
