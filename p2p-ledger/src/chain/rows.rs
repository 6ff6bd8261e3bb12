//! How a chain lies in its store.

use crate::codec::{Decode, Encode, InvalidEncoding, Reader, put_list};
use crate::id::BlockId;
use crate::transaction::Tx;

/// Keys of the chain's own begin with a zero byte; those of a state machine never do.
pub(super) const BODY: u8 = b'b';
pub(super) const UNDO: u8 = b'u';
/// Marks a body that is there before its block is.
pub(super) const WAITS: u8 = b'w';
pub(super) const TIP: u8 = b't';
pub(super) const HEADER: u8 = b'h';
pub(super) const FILTER: u8 = b'f';
/// Up to which height bodies are gone.
pub(super) const PRUNED: u8 = b'p';
/// The hash of a filter, and its header.
pub(super) const FILTER_HEADER: u8 = b'g';

/// In order of their heights, so that parents come first.
pub(super) fn header_key(height: u64, id: BlockId) -> Vec<u8> {
    let mut key = vec![0, HEADER];
    key.extend_from_slice(&height.to_be_bytes());
    id.0.encode(&mut key);
    key
}

pub(super) fn key(what: u8, id: BlockId) -> Vec<u8> {
    let mut key = vec![0, what];
    id.0.encode(&mut key);
    key
}

/// The transactions of a block, as they are stored.
pub(super) struct Body<T>(pub(super) Vec<T>);

impl<T: Tx> Body<T> {
    pub(super) fn encoded(transactions: &[T]) -> Vec<u8> {
        let mut out = Vec::new();
        put_list(&mut out, transactions);
        out
    }
}

impl<T: Tx> Encode for Body<T> {
    fn encode(&self, out: &mut Vec<u8>) {
        put_list(out, &self.0);
    }
}

impl<T: Tx> Decode for Body<T> {
    fn decode(input: &mut Reader<'_>) -> Result<Body<T>, InvalidEncoding> {
        input.list(crate::block::MAX_TRANSACTIONS).map(Body)
    }
}
