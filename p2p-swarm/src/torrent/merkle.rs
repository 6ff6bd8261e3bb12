//! The SHA-256 trees of BEP 52: over each file's blocks of 16 KiB, two by two.
//!
//! Leaves beyond the file's end are zeros, not hashes of zeros; so what stands beyond the end in a higher layer is the
//! root of a subtree of such leaves ([`pad`]). A *layer* is named by how many levels it lies above the leaves. The piece
//! layer has one hash for each piece.

use sha2::{Digest, Sha256};

/// A node of a tree.
pub(crate) type Node = [u8; 32];

/// Bytes in a block, which is what a leaf stands for and what peers ask each other for.
pub const BLOCK: u32 = 16 << 10;

/// The leaf of a block.
pub(crate) fn leaf(block: &[u8]) -> Node {
    Sha256::digest(block).into()
}

fn parent(left: &Node, right: &Node) -> Node {
    Sha256::new().chain_update(left).chain_update(right).finalize().into()
}

/// The root of a subtree of this height that lies beyond the file's end.
pub(crate) fn pad(height: u32) -> Node {
    (0..height).fold([0; 32], |node, _| parent(&node, &node))
}

/// The layer above this one, whose nodes are `height` levels above the leaves.
fn above(mut nodes: Vec<Node>, height: u32) -> Vec<Node> {
    if nodes.len() % 2 == 1 {
        nodes.push(pad(height));
    }
    nodes.chunks_exact(2).map(|pair| parent(&pair[0], &pair[1])).collect()
}

/// The root above nodes that are `height` levels above the leaves, in a subtree that has room for `width` of them: a
/// power of two, and no less than there are.
pub(crate) fn root(mut nodes: Vec<Node>, height: u32, width: usize) -> Node {
    for level in 0..width.trailing_zeros() {
        nodes = above(nodes, height + level);
    }
    nodes.first().copied().unwrap_or_else(|| pad(height + width.trailing_zeros()))
}

/// How many levels the root of a file of so many blocks lies above its leaves.
pub(crate) fn height(blocks: u64) -> u32 {
    blocks.max(1).next_power_of_two().trailing_zeros()
}

/// What a hash request asks for, within one file's tree: `length` nodes from `index` on in the layer `base`, and the
/// uncles that `proof` more layers have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Range {
    pub base: u32,
    pub index: u32,
    pub length: u32,
    pub proof: u32,
}

impl Range {
    /// How many uncles there are: the first `log2(length) - 1` layers need none, for the nodes give them.
    pub(crate) fn uncles(&self) -> u32 {
        (self.proof + 1).saturating_sub(self.length.trailing_zeros())
    }

    /// Whether it is one that BEP 52 allows, in a tree of this height.
    pub(crate) fn is_valid(&self, height: u32) -> bool {
        let Range { base, index, length, proof } = *self;
        let width = 1u64 << height.saturating_sub(base).min(63);
        (2..=512).contains(&length)
            && length.is_power_of_two()
            && index.is_multiple_of(length)
            && base < height
            && u64::from(index) + u64::from(length) <= width
            && proof < height - base
    }
}

/// What answers a request for part of `layer`, which is `range.base` levels above the leaves of a tree of this height:
/// the nodes and then the uncles, upwards. `None` if the request is not valid, or begins beyond the file's end.
pub(crate) fn answer(layer: &[Node], height: u32, range: Range) -> Option<Vec<Node>> {
    if !range.is_valid(height) || range.index as usize >= layer.len() {
        return None;
    }
    let beyond = pad(range.base);
    let nodes = (range.index..range.index + range.length).map(|i| layer.get(i as usize).unwrap_or(&beyond));
    let mut hashes: Vec<Node> = nodes.copied().collect();
    let (mut level, mut nodes) = (range.base, layer.to_vec());
    let own = range.base + range.length.trailing_zeros();
    for _ in 0..range.proof {
        nodes = above(nodes, level);
        level += 1;
        if level >= own {
            let at = (range.index >> (level - range.base)) ^ 1;
            hashes.push(nodes.get(at as usize).copied().unwrap_or_else(|| pad(level)));
        }
    }
    Some(hashes)
}

/// Whether an answer to a request, with all uncles up to the root, is part of the tree of this root and height.
pub(crate) fn proves(tree: &Node, height: u32, range: Range, hashes: &[Node]) -> bool {
    let length = range.length as usize;
    if !range.is_valid(height) || hashes.len() != length + range.uncles() as usize {
        return false;
    }
    let (nodes, uncles) = hashes.split_at(length);
    let mut node = root(nodes.to_vec(), range.base, length);
    let mut at = range.index >> range.length.trailing_zeros();
    for uncle in uncles {
        node = if at.is_multiple_of(2) { parent(&node, uncle) } else { parent(uncle, &node) };
        at >>= 1;
    }
    range.base + range.length.trailing_zeros() + uncles.len() as u32 == height && node == *tree
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn nodes(count: usize) -> Vec<Node> {
        (0..count).map(|i| leaf(&i.to_be_bytes())).collect()
    }

    #[test]
    fn leaves_beyond_the_end_are_zeros_and_not_hashes_of_zeros() {
        let leaves = nodes(3);
        let right = parent(&leaves[2], &[0; 32]);
        assert_eq!(root(leaves.clone(), 0, 4), parent(&parent(&leaves[0], &leaves[1]), &right));
        let beyond = parent(&pad(1), &pad(1));
        assert_eq!(root(leaves.clone(), 0, 8), parent(&root(leaves, 0, 4), &beyond));
        assert_eq!(pad(2), beyond);
    }

    proptest! {
        #[test]
        fn a_layer_has_the_root_of_the_leaves_below_it(count in 1usize..70, level in 0u32..4) {
            let leaves = nodes(count);
            let wide = count.next_power_of_two().max(1 << level);
            let layer: Vec<Node> = leaves.chunks(1 << level).map(|c| root(c.to_vec(), 0, 1 << level)).collect();
            prop_assert_eq!(root(layer, level, wide >> level), root(leaves, 0, wide));
        }

        #[test]
        fn an_answer_proves_what_it_says_and_nothing_else(
            count in 2usize..70, base in 0u32..3, log in 1u32..5, at in any::<u32>(), flip in any::<prop::sample::Index>(),
        ) {
            let leaves = nodes(count);
            let height = height(count as u64);
            let tree = root(leaves.clone(), 0, 1 << height);
            let layer: Vec<Node> = leaves.chunks(1 << base).map(|c| root(c.to_vec(), 0, 1 << base)).collect();
            prop_assume!(base + log <= height);
            let length = 1 << log;
            let index = at % (1 << (height - base - log)) * length;
            let range = Range { base, index, length, proof: height - base - 1 };
            let Some(mut hashes) = answer(&layer, height, range) else {
                prop_assert!(index as usize >= layer.len());
                return Ok(());
            };
            prop_assert!(proves(&tree, height, range, &hashes));
            let flipped = flip.index(hashes.len());
            hashes[flipped][7] ^= 1;
            prop_assert!(!proves(&tree, height, range, &hashes));
        }
    }
}
