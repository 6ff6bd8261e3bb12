//! The tree over a block's transactions, and proofs that one is in it.
//!
//! Nakamoto (2008, §7, §8) takes Merkle's tree (1980) so that a block can be cut down to its header, and a client that
//! has the headers alone can be shown a payment. Bitcoin's own has two holes, and this one neither:
//!
//! - Where a level has an odd number of nodes Bitcoin pairs the last with itself, so that a list with its end repeated has
//!   the same root (CVE-2012-2459). Here a last one without a partner goes up as it is, as in RFC 6962 §2.1.
//! - There a node of 64 bytes can be taken for a transaction (CVE-2017-12842). Here leaves and nodes are hashed under
//!   tags of their own.
//!
//! The root commits to the number of leaves too, so a proof shows the place of its leaf, and what is the last one.

use p2p_core::Key;

use crate::codec::{Decode, Encode, InvalidEncoding, Reader, put_list};
use crate::id::Kind;

/// The root of the tree over these leaves.
pub fn merkle_root(leaves: &[Key]) -> Key {
    let mut level = leaves.to_vec();
    while level.len() > 1 {
        let pairs = level.len() / 2;
        for i in 0..pairs {
            level[i] = node(&level[2 * i], &level[2 * i + 1]);
        }
        if level.len() % 2 == 1 {
            level[pairs] = level[level.len() - 1];
        }
        level.truncate(level.len().div_ceil(2));
    }
    root(leaves.len() as u64, level.first().unwrap_or(&Key::ZERO))
}

/// Shows that a leaf is in a tree, and where: the siblings on the way up, lowest first.
///
/// ```
/// use p2p_core::Key;
/// use p2p_ledger::{MerkleProof, merkle_root};
///
/// let leaves: Vec<Key> = (0..5u8).map(|i| Key::of(&[i])).collect();
/// let proof = MerkleProof::new(&leaves, 3).unwrap();
/// assert!(proof.shows(&merkle_root(&leaves), &leaves[3]));
/// assert!(!proof.shows(&merkle_root(&leaves), &leaves[2]));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MerkleProof {
    /// Where the leaf is, from 0.
    pub index: u32,
    /// How many leaves there are.
    pub count: u32,
    /// The siblings.
    pub siblings: Vec<Key>,
}

impl MerkleProof {
    /// The proof of the leaf at a place; `None` if there is none there.
    pub fn new(leaves: &[Key], index: usize) -> Option<MerkleProof> {
        let (count, place) = (u32::try_from(leaves.len()).ok()?, u32::try_from(index).ok()?);
        if index >= leaves.len() {
            return None;
        }
        let (mut level, mut at, mut siblings) = (leaves.to_vec(), index, Vec::new());
        while level.len() > 1 {
            siblings.extend(level.get(at ^ 1).copied());
            let pairs = level.chunks(2).map(|pair| match pair {
                [left, right] => node(left, right),
                alone => alone[0],
            });
            level = pairs.collect();
            at /= 2;
        }
        Some(MerkleProof { index: place, count, siblings })
    }

    /// Whether it shows that a tree with this root has this leaf.
    pub fn shows(&self, tree: &Key, leaf: &Key) -> bool {
        if self.index >= self.count {
            return false;
        }
        let (mut top, mut at, mut count) = (*leaf, self.index, self.count);
        let mut siblings = self.siblings.iter();
        while count > 1 {
            if at ^ 1 < count {
                let Some(sibling) = siblings.next() else { return false };
                top = match at % 2 {
                    0 => node(&top, sibling),
                    _ => node(sibling, &top),
                };
            }
            (at, count) = (at / 2, count.div_ceil(2));
        }
        siblings.next().is_none() && root(u64::from(self.count), &top) == *tree
    }
}

impl Encode for MerkleProof {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.index.to_le_bytes());
        out.extend_from_slice(&self.count.to_le_bytes());
        put_list(out, &self.siblings);
    }
}

impl Decode for MerkleProof {
    fn decode(input: &mut Reader<'_>) -> Result<MerkleProof, InvalidEncoding> {
        // A tree of 2^32 leaves has 32 levels.
        Ok(MerkleProof { index: input.u32()?, count: input.u32()?, siblings: input.list(32)? })
    }
}

fn node(left: &Key, right: &Key) -> Key {
    let mut both = [0; 64];
    both[..32].copy_from_slice(left.as_bytes());
    both[32..].copy_from_slice(right.as_bytes());
    Kind::Node.hash(&both)
}

fn root(count: u64, top: &Key) -> Key {
    let mut both = [0; 40];
    both[..8].copy_from_slice(&count.to_le_bytes());
    both[8..].copy_from_slice(top.as_bytes());
    Kind::Root.hash(&both)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn leaves(count: usize) -> Vec<Key> {
        (0..count).map(|i| Key::of(&i.to_le_bytes())).collect()
    }

    /// As RFC 6962 §2.1 defines it: the left side has as many leaves as the largest power of two below the number.
    fn top(leaves: &[Key]) -> Key {
        if leaves.len() == 1 {
            return leaves[0];
        }
        let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
        node(&top(left), &top(right))
    }

    #[test]
    fn the_tree_has_the_shape_that_rfc_6962_gives_it() {
        for count in 1..70 {
            assert_eq!(merkle_root(&leaves(count)), root(count as u64, &top(&leaves(count))));
        }
    }

    /// CVE-2012-2459.
    #[test]
    fn a_list_with_its_end_repeated_has_another_root() {
        for count in 1..20 {
            let list = leaves(count);
            for repeated in 1..=count {
                let longer = [&list[..], &list[count - repeated..]].concat();
                assert_ne!(merkle_root(&list), merkle_root(&longer));
            }
        }
    }

    #[test]
    fn an_inner_node_is_no_leaf() {
        let list = leaves(4);
        let inner = [node(&list[0], &list[1]), node(&list[2], &list[3])];
        assert_ne!(merkle_root(&list), merkle_root(&inner));
        let proof = MerkleProof { index: 0, count: 4, siblings: vec![inner[1]] };
        assert!(!proof.shows(&merkle_root(&list), &inner[0]));
    }

    proptest! {
        #[test]
        fn every_leaf_is_proved_at_its_place_and_nowhere_else(count in 1usize..40, index in 0usize..40, other in 0u32..50) {
            let list = leaves(count);
            let tree = merkle_root(&list);
            let proof = MerkleProof::new(&list, index);
            prop_assert_eq!(proof.is_some(), index < count);
            if let Some(proof) = proof {
                prop_assert!(proof.shows(&tree, &list[index]));
                prop_assert_eq!(MerkleProof::from_bytes(&proof.to_bytes()), Ok(proof.clone()));
                let elsewhere = MerkleProof { index: other, ..proof.clone() };
                prop_assert_eq!(elsewhere.shows(&tree, &list[index]), other == proof.index);
                let longer = MerkleProof { count: proof.count + 1, ..proof.clone() };
                prop_assert!(!longer.shows(&tree, &list[index]));
                let mut more = proof;
                more.siblings.push(Key::ZERO);
                prop_assert!(!more.shows(&tree, &list[index]));
            }
        }
    }
}
