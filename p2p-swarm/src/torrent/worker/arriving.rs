//! A piece that is not whole: what is hashed of it so far.

use std::collections::BTreeMap;

use bytes::Bytes;
use sha1::{Digest, Sha1};

use super::super::merkle::{BLOCK, Node, leaf, root};
use super::super::metainfo::Expected;
use crate::bits::Bits;

/// Blocks of one piece that wait for those in front of them; more are read back when the piece is whole. 64: 1 MiB.
const MAX_EARLY: usize = 64;

/// What is known of a piece that is not whole.
pub(super) struct Arriving {
    /// Of the blocks below `next`, if the torrent has the first version.
    pub(super) sha1: Option<Sha1>,
    pub(super) next: u32,
    /// Blocks that came before those in front of them.
    pub(super) early: BTreeMap<u32, Bytes>,
    /// Of the blocks that came, if it has the second.
    leaves: BTreeMap<u32, Node>,
    pub(super) came: Bits,
}

impl Arriving {
    pub(super) fn new(expected: &Expected, blocks: u32) -> Arriving {
        Arriving {
            sha1: expected.v1.map(|_| Sha1::new()),
            next: 0,
            early: BTreeMap::new(),
            leaves: BTreeMap::new(),
            came: Bits::new(blocks.into()),
        }
    }

    /// A block has come.
    pub(super) fn add(&mut self, expected: &Expected, block: u32, data: Bytes) {
        if !self.came.insert(block.into()) {
            return;
        }
        if expected.v2.is_some() {
            self.leaves.insert(block, leaf(&data));
        }
        let Some(sha1) = &mut self.sha1 else { return };
        if block != self.next {
            if self.early.len() < MAX_EARLY {
                self.early.insert(block, data);
            }
            return;
        }
        sha1.update(&data);
        self.next += 1;
        while let Some(data) = self.early.remove(&self.next) {
            sha1.update(&data);
            self.next += 1;
        }
    }

    /// Blocks that stand behind those before, of which only the piece's last may be a short one.
    pub(super) fn follow(&mut self, expected: &Expected, blocks: &[u8]) {
        let each = blocks.chunks(BLOCK as usize);
        let next = self.next;
        self.next += each.len() as u32;
        if expected.v2.is_some() {
            self.leaves.extend((next..).zip(each.map(leaf)));
        }
        if let Some(sha1) = &mut self.sha1 {
            sha1.update(blocks);
        }
    }

    /// Whether a whole piece is what it must be.
    pub(super) fn proves(self, expected: &Expected) -> bool {
        let v1 = match (self.sha1, expected.v1) {
            (Some(mut sha1), Some((hash, zeros))) => {
                let mut zeros = zeros as usize;
                while zeros > 0 {
                    let now = zeros.min(BLOCK as usize);
                    sha1.update(&[0; BLOCK as usize][..now]);
                    zeros -= now;
                }
                sha1.finalize()[..] == hash[..]
            }
            (_, hash) => hash.is_none(),
        };
        let v2 = expected
            .v2
            .is_none_or(|(node, width)| root(self.leaves.into_values().collect(), 0, width) == node);
        v1 && v2
    }
}
