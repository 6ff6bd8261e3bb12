//! Headers in a file: 80 bytes each, as they travel, from the one after the first on.
//!
//! What is read is checked as if a node had sent it. What is no header, or follows none, is cut off and fetched again: so it is
//! no matter how much of what was written last is there after a crash. What is refused only for now stays, until the chain has gone
//! on from before it: by a clock that was set back, all headers may be too new.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

use p2p_core::Handle;
use p2p_core::net::tcp::TcpPeer;
use p2p_examples::Failure;
use p2p_ledger::bitcoin::{BitcoinClient, BitcoinHeaders, HeadersAfter};
use p2p_ledger::{BitcoinHeader, BlockId, Decode, Encode, Header, Refused};

/// How long a header is.
const LEN: u64 = 80;
/// How many are checked at a time.
const SOME: usize = 2_000;

/// A file of headers, which nobody else writes.
pub(crate) struct Kept {
    file: File,
    first: BlockId,
    /// How many of its headers are the chain's.
    height: u64,
}

impl Kept {
    /// Takes the headers of a file into a chain that has the first alone; `now` is the Unix time in seconds.
    pub(crate) fn open(path: &Path, chain: &mut BitcoinHeaders, now: u64) -> Result<Kept, Failure> {
        let failed = |error: std::io::Error| format!("{}: {error}", path.display());
        let opened = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
        let mut file = opened.map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(format!("{}: another process keeps headers there", path.display()).into());
            }
            Err(TryLockError::Error(error)) => return Err(failed(error).into()),
        }
        let first = chain.tip().id;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(failed)?;
        let read = bytes.chunks(LEN as usize).map_while(|bytes| BitcoinHeader::from_bytes(bytes).ok());
        let headers: Vec<BitcoinHeader> = read.collect();
        let refused = headers.chunks(SOME).try_for_each(|some| chain.restore(some, now).map(drop)).err();
        // The chain need not end where the file does, nor be all the file's.
        let is_on_chain = |header: &&BitcoinHeader| chain.is_on_chain(&header.id());
        let height = headers.iter().take_while(is_on_chain).count() as u64;
        if !matches!(refused, Some(Refused::Fault(fault)) if fault.passes()) {
            file.set_len(height * LEN).map_err(failed)?;
        }
        Ok(Kept { file, first, height })
    }

    /// How many there are.
    pub(crate) fn height(&self) -> u64 {
        self.height
    }

    /// Brings the file to where the chain is now.
    pub(crate) async fn catch_up(&mut self, client: &Handle<BitcoinClient<TcpPeer>>) -> Result<(), Failure> {
        loop {
            let known = self.locator()?;
            let ids = known.iter().map(|(_, id)| *id).collect();
            let headers = client.ask(HeadersAfter(ids)).await?;
            let Some(first) = headers.first().map(Header::previous) else { return Ok(()) };
            self.height = known.iter().find(|(_, id)| *id == first).map_or(0, |(height, _)| *height);
            self.file.set_len(self.height * LEN)?;
            self.file.seek(SeekFrom::End(0))?;
            self.file.write_all(&headers.iter().flat_map(Encode::to_bytes).collect::<Vec<u8>>())?;
            self.height += headers.len() as u64;
        }
    }

    /// Some of the headers, from the last back to the first, ever farther apart.
    fn locator(&mut self) -> Result<Vec<(u64, BlockId)>, Failure> {
        let (mut height, mut step, mut ids) = (self.height, 1, Vec::new());
        loop {
            ids.push((height, self.id_at(height)?));
            if height == 0 {
                return Ok(ids);
            }
            if ids.len() >= 10 {
                step *= 2;
            }
            height = height.saturating_sub(step);
        }
    }

    fn id_at(&mut self, height: u64) -> Result<BlockId, Failure> {
        let Some(before) = height.checked_sub(1) else { return Ok(self.first) };
        let mut bytes = [0; LEN as usize];
        self.file.seek(SeekFrom::Start(before * LEN))?;
        self.file.read_exact(&mut bytes)?;
        Ok(BitcoinHeader::from_bytes(&bytes)?.id())
    }
}
