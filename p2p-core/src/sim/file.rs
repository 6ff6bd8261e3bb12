//! A file whose disk loses power: what was not synced is lost, in whole, in part, or not at all.
//!
//! Between two syncs a disk may write in any order, and a write of several sectors may be torn between them; one sector
//! is written as a whole, or not. So after a crash each sector that was written since the last sync holds what was
//! written there last, or before that, or what was synced.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::Rng;

/// What is written as a whole, or not: 512 bytes.
pub const SECTOR: usize = 512;

/// A file in memory, with a disk that fails and a power supply that does too. Copies of it are the same file.
///
/// ```
/// use p2p_core::Rng;
/// use p2p_core::sim::SimFile;
///
/// let file = SimFile::default();
/// file.write(0, b"synced").unwrap();
/// file.sync().unwrap();
/// file.write(0, b"merely").unwrap();
/// file.crash(&mut Rng::new(1));
/// let mut there = [0; 6];
/// file.read(0, &mut there).unwrap();
/// assert!(&there == b"synced" || &there == b"merely");
/// ```
#[derive(Clone, Default)]
pub struct SimFile(Arc<Mutex<Contents>>);

#[derive(Default)]
struct Contents {
    now: Vec<u8>,
    synced: Vec<u8>,
    /// What has been done since, in order.
    since: Vec<Change>,
    /// After so many more changes and syncs, all fail.
    fails_after: Option<u64>,
}

enum Change {
    /// At most a sector of it, so that none is torn.
    Write(usize, Vec<u8>),
    Length(usize),
}

impl Change {
    fn make(&self, bytes: &mut Vec<u8>) {
        match self {
            Change::Length(len) => bytes.resize(*len, 0),
            Change::Write(at, data) => {
                let end = at + data.len();
                if bytes.len() < end {
                    bytes.resize(end, 0);
                }
                bytes[*at..end].copy_from_slice(data);
            }
        }
    }
}

impl Contents {
    fn step(&mut self) -> io::Result<()> {
        match &mut self.fails_after {
            Some(0) => Err(io::Error::other("the simulated disk has failed")),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn change(&mut self, change: Change) {
        change.make(&mut self.now);
        self.since.push(change);
    }
}

impl SimFile {
    fn contents(&self) -> MutexGuard<'_, Contents> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long it is, in bytes.
    #[expect(clippy::len_without_is_empty, reason = "a file, not a collection")]
    pub fn len(&self) -> usize {
        self.contents().now.len()
    }

    /// Reads what is there now, synced or not.
    ///
    /// # Errors
    /// The file is shorter.
    pub fn read(&self, at: usize, out: &mut [u8]) -> io::Result<()> {
        let contents = self.contents();
        let there = at.checked_add(out.len()).and_then(|end| contents.now.get(at..end));
        let there = there.ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(there);
        Ok(())
    }

    /// Writes, making the file longer if need be.
    ///
    /// # Errors
    /// The disk has failed.
    pub fn write(&self, at: usize, data: &[u8]) -> io::Result<()> {
        let mut contents = self.contents();
        let (mut at, mut rest) = (at, data);
        while !rest.is_empty() {
            contents.step()?;
            let (sector, more) = rest.split_at(rest.len().min(SECTOR - at % SECTOR));
            contents.change(Change::Write(at, sector.to_vec()));
            (at, rest) = (at + sector.len(), more);
        }
        Ok(())
    }

    /// Makes the file longer, by zeros, or shorter.
    ///
    /// # Errors
    /// The disk has failed.
    pub fn set_len(&self, len: usize) -> io::Result<()> {
        let mut contents = self.contents();
        contents.step()?;
        contents.change(Change::Length(len));
        Ok(())
    }

    /// What has been written until now survives a crash from now on.
    ///
    /// # Errors
    /// The disk has failed.
    pub fn sync(&self) -> io::Result<()> {
        let mut contents = self.contents();
        contents.step()?;
        contents.since.clear();
        contents.synced = contents.now.clone();
        Ok(())
    }

    /// After so many sectors written, syncs and changes of length no more of them succeed, as on a full disk, or on one
    /// whose power is about to fail. What is there can still be read.
    pub fn fail_after(&self, changes: u64) {
        self.contents().fails_after = Some(changes);
    }

    /// The disk works.
    pub fn mend(&self) {
        self.contents().fails_after = None;
    }

    /// Power fails, and comes back: of what was not synced each sector is there or not, by lot. The disk works again.
    pub fn crash(&self, rng: &mut Rng) {
        let mut contents = self.contents();
        let Contents { now, synced, since, fails_after } = &mut *contents;
        *fails_after = None;
        // Sometimes nearly all was on its way, sometimes hardly anything.
        let share = rng.unit();
        since.drain(..).filter(|_| rng.chance(share)).for_each(|change| change.make(synced));
        now.clone_from(synced);
    }
}

impl fmt::Debug for SimFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let contents = self.contents();
        write!(f, "SimFile({} bytes, {} changes not synced)", contents.now.len(), contents.since.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(file: &SimFile) -> Vec<u8> {
        let mut bytes = vec![0; file.len()];
        file.read(0, &mut bytes).expect("all of it");
        bytes
    }

    #[test]
    fn a_long_write_is_torn_between_sectors_and_nowhere_else() {
        let mut torn = 0;
        for seed in 0..100 {
            let file = SimFile::default();
            file.set_len(8 * SECTOR).expect("it works");
            file.sync().expect("it works");
            file.write(0, &[1; 8 * SECTOR]).expect("it works");
            file.crash(&mut Rng::new(seed));
            let bytes = bytes(&file);
            let sectors: Vec<u8> = bytes.chunks(SECTOR).map(|sector| sector[0]).collect();
            assert!(bytes.chunks(SECTOR).all(|sector| sector.iter().all(|byte| *byte == sector[0])));
            torn += u32::from(sectors.contains(&0) && sectors.contains(&1));
        }
        assert!((50..100).contains(&torn), "{torn} of 100 writes were torn");
    }

    #[test]
    fn what_is_synced_stays() {
        let file = SimFile::default();
        file.write(700, b"synced").expect("it works");
        file.sync().expect("it works");
        let before = bytes(&file);
        file.write(0, &[9; 600]).expect("it works");
        file.crash(&mut Rng::new(1));
        assert_eq!(bytes(&file)[600..], before[600..]);
    }

    #[test]
    fn a_disk_that_fails_does_so_until_it_is_mended() {
        let file = SimFile::default();
        file.fail_after(2);
        assert!(file.write(0, &[1; 5 * SECTOR]).is_err(), "after two sectors");
        assert_eq!(file.len(), 2 * SECTOR);
        assert!(file.sync().is_err() && file.set_len(0).is_err() && file.read(0, &mut [0]).is_ok());
        file.mend();
        assert!(file.sync().is_ok());
        assert_eq!(bytes(&file), [1; 2 * SECTOR]);
    }
}
