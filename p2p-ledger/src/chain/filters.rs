//! The filters of blocks: made when a block is done, and read for light clients (BIP 157, BIP 158).
//!
//! Who serves light clients has every filter at hand: what a block is about follows from its body, and bodies are large. So a
//! block's filter goes into the store with the block, and its hash and header beside it, since those are asked for by the
//! thousand.

use p2p_core::Key;

use super::rows::{FILTER, FILTER_HEADER, key};
use super::{Chain, lost};
use crate::codec::{Encode, Reader};
use crate::consensus::Consensus;
use crate::filter::Filter;
use crate::headers::{GENESIS, Tip};
use crate::id::BlockId;
use crate::state::State;
use crate::store::{Batch, Store, StoreError};

impl<C: Consensus, S: State, D: Store> Chain<C, S, D> {
    /// The hashes of the filters of the blocks from a height on up to this block, and the filter header of the block before
    /// them; `None` if they are not there, or more than `most`.
    ///
    /// # Errors
    /// The storage failed.
    pub fn filter_hashes(
        &self,
        from: u64,
        to: &BlockId,
        most: usize,
    ) -> Result<Option<(Key, Vec<Key>)>, StoreError> {
        let Some((before, way)) = self.filtered(from, to, most) else { return Ok(None) };
        let (_, previous) = self.filter_row(before)?;
        let hashes = way.iter().map(|at| self.filter_row(*at).map(|(hash, _)| hash));
        Ok(Some((previous, hashes.collect::<Result<_, _>>()?)))
    }

    /// The first of the filters of the blocks from a height on up to this block, as they travel: at least one, and not many
    /// more than `bytes` of them; `None` if they are not there, or more than `most`.
    ///
    /// # Errors
    /// The storage failed.
    pub fn filters(
        &self,
        from: u64,
        to: &BlockId,
        most: usize,
        bytes: usize,
    ) -> Result<Option<Vec<Vec<u8>>>, StoreError> {
        let Some((_, way)) = self.filtered(from, to, most) else { return Ok(None) };
        let (mut filters, mut read) = (Vec::new(), 0);
        for at in way {
            let id = self.headers.index().entry(at).id;
            let filter = self.store.get(&key(FILTER, id))?.ok_or_else(|| lost("filter", id))?;
            read += filter.len();
            filters.push(filter);
            if read >= bytes {
                break;
            }
        }
        Ok(Some(filters))
    }

    /// The block before these, and these: none of them the first of all.
    fn filtered(&self, from: u64, to: &BlockId, most: usize) -> Option<(u32, Vec<u32>)> {
        let index = self.headers.index();
        let end = index.find(to).filter(|at| self.stored.contains(at))?;
        let Tip { height, .. } = index.entry(end).place();
        let fits = from >= 1 && from <= height && height - from < most as u64;
        let before = fits.then(|| index.ancestor_at(end, from - 1))??;
        Some((before, index.branch(from, end).collect()))
    }

    /// The hash of a block's filter, and its header.
    fn filter_row(&self, at: u32) -> Result<(Key, Key), StoreError> {
        let id = self.headers.index().entry(at).id;
        if at == GENESIS {
            let filter = Filter::of::<S::Tx>(&id, &[]);
            return Ok((filter.hash(), filter.header(&Key::ZERO)));
        }
        let row = self.store.get(&key(FILTER_HEADER, id))?;
        let read = |row: Vec<u8>| {
            let mut input = Reader::new(&row);
            Some((Key::new(input.array().ok()?), Key::new(input.array().ok()?)))
        };
        row.and_then(read).ok_or_else(|| lost("filter", id))
    }

    /// Makes the filter of a block that is done, after the one that had this filter header; its own header is the next's.
    pub(super) fn make_filter(
        &self,
        batch: &mut Batch,
        at: u32,
        transactions: &[S::Tx],
        previous: Option<Key>,
    ) -> Result<Key, StoreError> {
        let entry = self.headers.index().entry(at);
        let previous = previous.map_or_else(|| Ok(self.filter_row(entry.parent)?.1), Ok)?;
        let filter = Filter::of(&entry.id, transactions);
        let (hash, header) = (filter.hash(), filter.header(&previous));
        batch.insert(key(FILTER, entry.id), Some(filter.as_bytes().to_vec()));
        batch.insert(key(FILTER_HEADER, entry.id), Some([hash.to_bytes(), header.to_bytes()].concat()));
        Ok(header)
    }
}
