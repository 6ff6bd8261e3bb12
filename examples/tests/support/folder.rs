//! Folders of a test's own, and files of noise.

use std::fs::{self, File};
use std::io::{BufReader, Read, Write};
use std::ops::Deref;
use std::path::{Path, PathBuf};

use p2p_core::Rng;

/// How much is read or written at a time.
const CHUNK: usize = 1 << 20;

/// A folder that goes when the test ends.
pub struct Folder(PathBuf);

impl Folder {
    /// One for this name, which no other has of the tests in this file.
    pub fn new(name: &str) -> Folder {
        let unique = format!("p2p-{}-{}-{name}", env!("CARGO_CRATE_NAME"), std::process::id());
        let path = std::env::temp_dir().join(unique);
        fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    /// A folder within it.
    pub fn within(&self, name: &str) -> PathBuf {
        let path = self.join(name);
        fs::create_dir_all(&path).unwrap();
        path
    }

    /// What has this name in it, as programs are told of it.
    pub fn text(&self, name: &str) -> String {
        self.join(name).to_str().unwrap().to_owned()
    }

    /// A file of noise, whose bytes depend on their number alone.
    pub fn noise(&self, name: &str, size: usize) -> PathBuf {
        let path = self.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let (mut file, mut rng) = (File::create(&path).unwrap(), Rng::new(size as u64));
        let mut noise = vec![0; CHUNK.min(size)];
        for at in (0..size).step_by(CHUNK) {
            rng.fill(&mut noise);
            file.write_all(&noise[..noise.len().min(size - at)]).unwrap();
        }
        path
    }
}

impl Deref for Folder {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Whether two files have the same bytes.
pub fn same(a: impl AsRef<Path>, b: impl AsRef<Path>) -> bool {
    let open = |path: &Path| BufReader::with_capacity(CHUNK, File::open(path).unwrap());
    let (mut a, mut b) = (open(a.as_ref()), open(b.as_ref()));
    let (mut of_a, mut of_b) = (vec![0; CHUNK], vec![0; CHUNK]);
    loop {
        let n = a.read(&mut of_a).unwrap();
        if n == 0 {
            return b.read(&mut of_b).unwrap() == 0;
        }
        if b.read_exact(&mut of_b[..n]).is_err() || of_a[..n] != of_b[..n] {
            return false;
        }
    }
}
