//! The blocks of one file: data, blocks of their names, blocks of the names of those, up to one.

use p2p_core::Key;
use serde::{Deserialize, Serialize};

/// The bytes of a data block, but for the last of a file (§6: 8 KByte).
pub const BLOCK: usize = 8 << 10;
/// How many names an indirect block has, but for the last of its level: it is as long as a data block.
pub const FANOUT: usize = BLOCK / 32;

/// A file, by the name of the one block that leads to all of it, and its length, which says how many levels there are and
/// how long each block is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Blocks {
    /// The block at the top: of a file of one block, that.
    pub top: Key,
    /// The file's bytes.
    pub size: u64,
}

/// One of a file's blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) key: Key,
    /// Of its first byte in the file.
    pub(super) start: u64,
    /// How many bytes of the file it leads to.
    pub(super) covers: u64,
    /// 0 of data.
    height: u32,
}

impl Blocks {
    /// A file without content: no block is needed for it.
    pub const EMPTY: Blocks = Blocks { top: Key::ZERO, size: 0 };

    /// How many levels of names there are above the data.
    pub(super) fn height(&self) -> u32 {
        (0..).find(|height| span(*height) >= self.size).unwrap_or(u32::MAX)
    }

    pub(super) fn top(&self) -> Node {
        Node { key: self.top, start: 0, covers: self.size, height: self.height() }
    }
}

/// How many bytes of a file a block leads to at most.
fn span(height: u32) -> u64 {
    (FANOUT as u64).saturating_pow(height).saturating_mul(BLOCK as u64)
}

impl Node {
    /// How long it is, in bytes.
    pub(super) fn len(&self) -> usize {
        match self.height {
            0 => self.covers as usize,
            height => 32 * self.covers.div_ceil(span(height - 1)) as usize,
        }
    }

    /// What it names, if these are its bytes.
    pub(super) fn children(&self, bytes: &[u8]) -> Vec<Node> {
        let span = span(self.height.saturating_sub(1));
        let child = |(i, name): (usize, &[u8])| {
            let before = i as u64 * span;
            let key = Key::new(name.try_into().ok()?);
            let covers = span.min(self.covers.checked_sub(before)?);
            Some(Node { key, start: self.start + before, covers, height: self.height - 1 })
        };
        bytes.chunks(32).enumerate().filter_map(child).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_level_is_added_when_the_last_is_full() {
        let height = |size| Blocks { top: Key::ZERO, size }.height();
        let block = BLOCK as u64;
        assert_eq!([0, 1, block].map(height), [0; 3]);
        assert_eq!([block + 1, 256 * block].map(height), [1; 2]);
        assert_eq!([256 * block + 1, 65_536 * block].map(height), [2; 2]);
        assert!(height(u64::MAX) < 8);
    }

    proptest! {
        /// Whatever the size: the children of a block lead to what it does, without a gap.
        #[test]
        fn children_cover_what_their_block_covers(size in 1u64.., at in 0usize..256) {
            let mut node = Blocks { top: Key::ZERO, size }.top();
            while node.height > 0 {
                let len = node.len();
                prop_assert!((32..=BLOCK).contains(&len), "{len}");
                let children = node.children(&vec![0; len]);
                prop_assert_eq!(children.len(), len / 32);
                let mut next = node.start;
                for child in &children {
                    prop_assert_eq!(child.start, next);
                    prop_assert!(child.covers > 0);
                    next += child.covers;
                }
                prop_assert_eq!(next, node.start + node.covers);
                node = children[at % children.len()];
            }
            prop_assert!((1..=BLOCK).contains(&node.len()));
        }
    }
}
