//! Bitcoin's Merkle tree, and the part of it that shows some transactions (BIP 37), the same as Bitcoin Core's
//! `gettxoutproof` gives.
//!
//! Where a row has an odd number of nodes the last one is its own neighbour. So the same root stands for several lists, those
//! that repeat their last part; a tree with two equal neighbours is none here (CVE-2012-2459).

use p2p_core::Key;

use crate::codec::{Decode, Encode, InvalidEncoding, Reader, put_compact_size};
use crate::header::BitcoinHeader;
use crate::id::{TxId, put_reversed, reversed, twice};

/// The most transactions that fit into a block: four million units of weight, 240 for the smallest.
const MOST: u32 = 4_000_000 / 240;

fn parent(left: &Key, right: &Key) -> Key {
    let mut both = Vec::with_capacity(64);
    put_reversed(&mut both, left);
    put_reversed(&mut both, right);
    twice(&both)
}

/// The root over these transactions; `None` for none, and where two neighbours are the same.
pub(super) fn root_of(ids: &[Key]) -> Option<Key> {
    let mut row = ids.to_vec();
    while row.len() > 1 {
        let repeats = row.as_chunks::<2>().0.iter().any(|[left, right]| left == right);
        if repeats {
            return None;
        }
        row = row.chunks(2).map(|pair| parent(&pair[0], pair.last().unwrap_or(&pair[0]))).collect();
    }
    row.pop()
}

/// A header, and the part of its Merkle tree that shows that some transactions are in the block: what `merkleblock` carries.
///
/// It can be handed to anybody. Whether the header is on the chain he has to know himself. A transaction of exactly 64 bytes
/// can be passed off as a node of the tree (CVE-2017-12842): who made such a block can show a transaction that is not in it,
/// one level below; so a large payment is better looked for in the whole block, as [`Prove`](super::Prove) does where
/// filters are not used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MerkleBlock {
    /// The header.
    pub header: BitcoinHeader,
    /// How many transactions the block has.
    count: u32,
    /// The tree's nodes that are given, depth first.
    hashes: Vec<Key>,
    /// Of each node that is visited whether there is one below it, or it is one, that is shown.
    flags: Vec<bool>,
}

impl MerkleBlock {
    /// What shows these transactions of a block: `ids` are all of it. `None` if it has none, or too many.
    pub fn new(header: BitcoinHeader, ids: &[TxId], shown: impl Fn(&TxId) -> bool) -> Option<MerkleBlock> {
        let count = u32::try_from(ids.len()).ok().filter(|count| (1..=MOST).contains(count))?;
        let mut rows = vec![ids.iter().map(|id| (id.0, shown(id))).collect::<Vec<(Key, bool)>>()];
        while let Some(row) = rows.last().filter(|row| row.len() > 1) {
            let above = |pair: &[(Key, bool)]| {
                let (left, right) = (pair[0], *pair.last().unwrap_or(&pair[0]));
                (parent(&left.0, &right.0), left.1 || right.1)
            };
            let row = row.chunks(2).map(above).collect();
            rows.push(row);
        }
        let mut tree = MerkleBlock { header, count, hashes: Vec::new(), flags: Vec::new() };
        tree.grow(&rows, rows.len() - 1, 0);
        Some(tree)
    }

    fn grow(&mut self, rows: &[Vec<(Key, bool)>], height: usize, at: usize) {
        let (hash, shown) = rows[height][at];
        self.flags.push(shown);
        if height == 0 || !shown {
            return self.hashes.push(hash);
        }
        self.grow(rows, height - 1, 2 * at);
        if 2 * at + 1 < rows[height - 1].len() {
            self.grow(rows, height - 1, 2 * at + 1);
        }
    }

    /// The transactions that it shows to be in the block with this header, in their order.
    ///
    /// # Errors
    /// It shows nothing: it is no tree, or not the header's.
    pub fn shown(&self) -> Result<Vec<TxId>, BrokenProof> {
        let width = |height: u32| u64::from(self.count).div_ceil(1 << height);
        let height = (0..).find(|height| width(*height) == 1).unwrap_or(0);
        let mut walk =
            Walk { hashes: self.hashes.iter(), flags: self.flags.iter(), width: &width, shown: Vec::new() };
        let root = walk.root(height, 0)?;
        // Whole bytes were sent: what fills the last one up is not set.
        let fills = walk.flags.len() < 8 && walk.flags.all(|flag| !flag);
        match walk.hashes.len() == 0 && fills && root == self.header.root {
            true => Ok(walk.shown),
            false => Err(BrokenProof),
        }
    }
}

/// What is no part of a Merkle tree, or of another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the Merkle proof does not lead to the header's root")]
pub struct BrokenProof;

/// Goes through the part of a tree that was given.
struct Walk<'a, W> {
    hashes: std::slice::Iter<'a, Key>,
    flags: std::slice::Iter<'a, bool>,
    width: &'a W,
    shown: Vec<TxId>,
}

impl<W: Fn(u32) -> u64> Walk<'_, W> {
    /// The hash of the node at a height, which of its row it is.
    fn root(&mut self, height: u32, at: u64) -> Result<Key, BrokenProof> {
        let shown = *self.flags.next().ok_or(BrokenProof)?;
        if height == 0 || !shown {
            let hash = *self.hashes.next().ok_or(BrokenProof)?;
            if shown {
                self.shown.push(TxId(hash));
            }
            return Ok(hash);
        }
        let left = self.root(height - 1, 2 * at)?;
        if 2 * at + 1 >= (self.width)(height - 1) {
            return Ok(parent(&left, &left));
        }
        let right = self.root(height - 1, 2 * at + 1)?;
        match left == right {
            true => Err(BrokenProof),
            false => Ok(parent(&left, &right)),
        }
    }
}

impl Encode for MerkleBlock {
    fn encode(&self, out: &mut Vec<u8>) {
        self.header.encode(out);
        out.extend_from_slice(&self.count.to_le_bytes());
        put_compact_size(out, self.hashes.len());
        self.hashes.iter().for_each(|hash| put_reversed(out, hash));
        put_compact_size(out, self.flags.len().div_ceil(8));
        let byte = |bits: &[bool]| bits.iter().enumerate().map(|(i, bit)| u8::from(*bit) << i).sum::<u8>();
        out.extend(self.flags.chunks(8).map(byte));
    }
}

impl Decode for MerkleBlock {
    fn decode(input: &mut Reader<'_>) -> Result<MerkleBlock, InvalidEncoding> {
        let (header, count) = (BitcoinHeader::decode(input)?, input.u32()?);
        if count == 0 || count > MOST {
            return Err(InvalidEncoding::TooMany { count: count.into(), most: MOST as usize });
        }
        let hashes = input.compact_size(count as usize)?;
        let hashes = (0..hashes).map(|_| reversed(input)).collect::<Result<Vec<Key>, _>>()?;
        // A tree has at most two nodes for each leaf, and a few where rows are odd.
        let flags = input.compact_size(count as usize / 4 + 8)?;
        let flags = input.bytes(flags)?.iter().flat_map(|byte| (0..8).map(move |bit| byte >> bit & 1 == 1));
        Ok(MerkleBlock { header, count, hashes, flags: flags.collect() })
    }
}
