//! The hash tree over a blob, by which every group of it is proved alone.
//!
//! BLAKE3 (O'Connor, Aumasson, Neves, Wilcox-O'Hearn, 2020, §2.1) is a Merkle tree over chunks of 1 KiB, so a blob's
//! hash proves any part of it, given the hashes beside the way up; Bao does that. We cut the tree off above *chunk
//! groups* of 16 chunks: a group is sent whole, and what is kept per blob is 4 MiB in a GiB.
//!
//! - The **root** of a blob is its plain BLAKE3 hash, also if it is shorter than a group.
//! - An [`Outboard`] holds the tree above the groups.
//! - A **proof** of a run of groups is the siblings on the way up, level by level, at each the left one first. It is
//!   whole each time: at most 100 values of 32 bytes, 1/600 of a run of 256 KiB in a blob of a TiB. A verifier that
//!   remembered the parents it knows would save that, and would depend on the order in which runs come.
//! - A blob's **size** is proved by its last group and by nothing else: runs before it have the same proof in blobs of
//!   other sizes. Whoever does not know the size asks for the last group first. See [`verify`].

use std::ops::Range;

use blake3::Hasher;
use blake3::hazmat::{ChainingValue, HasherExt, Mode, merge_subtrees_non_root, merge_subtrees_root};
use p2p_core::Key;

/// A chunk group: 16 KiB, the least that is sent and verified.
pub const GROUP: usize = 16 << 10;

/// How many groups a blob of this size has: an empty blob has one, which is empty.
pub const fn group_count(size: u64) -> u64 {
    match size.div_ceil(GROUP as u64) {
        0 => 1,
        groups => groups,
    }
}

/// The bytes of a run of groups.
pub(crate) fn span(size: u64, groups: &Range<u64>) -> Range<u64> {
    let at = |group: u64| group.saturating_mul(GROUP as u64).min(size);
    at(groups.start)..at(groups.end)
}

/// The tree over a blob above its groups, *level by level*: level 0 has one 32-byte chaining value for each group, in
/// order, and level `l + 1` the parents of the pairs of level `l`; a last one without a partner is taken up as it is,
/// as BLAKE3's tree has it. The top level is the root alone. So node `i` of level `l` stands for the groups from `i
/// << l` on, and is found without a search.
///
/// ```
/// use p2p_core::Key;
/// use p2p_swarm::{GROUP, TreeBuilder, verify};
///
/// let blob = vec![7; 5 * GROUP + 1];
/// let mut builder = TreeBuilder::default();
/// builder.update(&blob);
/// let outboard = builder.finish();
/// assert_eq!(outboard.root(), Key::of(&blob));
///
/// let proof = outboard.proof(2..4).unwrap();
/// let run = &blob[2 * GROUP..4 * GROUP];
/// assert!(verify(&outboard.root(), blob.len() as u64, 2..4, run, &proof).is_ok());
/// assert!(verify(&outboard.root(), blob.len() as u64, 1..3, run, &proof).is_err());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outboard {
    size: u64,
    nodes: Vec<ChainingValue>,
}

impl Outboard {
    /// The tree over groups with these chaining values (of a single group: its root).
    pub(crate) fn from_groups(size: u64, groups: Vec<ChainingValue>) -> Outboard {
        debug_assert_eq!(groups.len() as u64, group_count(size), "one value for each group");
        let mut nodes = groups;
        nodes.reserve_exact(nodes.len() + 64);
        let mut level = 0..nodes.len();
        while level.len() > 1 {
            let next = level.end;
            for i in level.clone().step_by(2) {
                let node = match nodes.get(i + 1) {
                    Some(right) if i + 1 < level.end => merge(&nodes[i], right, level.len() == 2),
                    _ => nodes[i],
                };
                nodes.push(node);
            }
            level = next..nodes.len();
        }
        Outboard { size, nodes }
    }

    /// The blob's size in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The blob's root.
    pub fn root(&self) -> Key {
        Key::new(self.nodes.last().copied().unwrap_or_default())
    }

    /// The chaining values of a run of groups; none of those that the blob does not have.
    pub(crate) fn groups(&self, groups: Range<u64>) -> &[ChainingValue] {
        let count = group_count(self.size);
        let (start, end) = (groups.start.min(count), groups.end.min(count));
        self.nodes.get(start as usize..end as usize).unwrap_or_default()
    }

    /// What proves a run of groups; `None` if the run is empty or goes beyond the blob.
    pub fn proof(&self, groups: Range<u64>) -> Option<Vec<ChainingValue>> {
        let mut proof = Vec::new();
        let mut base = 0;
        climb(group_count(self.size), groups, |step| match step {
            Step::Sibling(i) => proof.push(self.nodes[base + i as usize]),
            Step::Up { count } => base += count as usize,
        })?;
        Some(proof)
    }
}

/// What is met on the way from a run of groups up to the root.
enum Step {
    /// A sibling is needed: its place in the level.
    Sibling(u64),
    /// The level, of so many nodes, is done.
    Up { count: u64 },
}

/// Goes from a run of groups up to the root; `None` if there is no such run.
fn climb(groups: u64, run: Range<u64>, mut step: impl FnMut(Step)) -> Option<()> {
    if run.start >= run.end || run.end > groups {
        return None;
    }
    let (mut count, mut run) = (groups, run);
    while count > 1 {
        if run.start % 2 == 1 {
            step(Step::Sibling(run.start - 1));
        }
        if run.end % 2 == 1 && run.end < count {
            step(Step::Sibling(run.end));
        }
        step(Step::Up { count });
        count = count.div_ceil(2);
        run = run.start / 2..run.end.div_ceil(2);
    }
    Some(())
}

/// Data that the root does not prove, with the proof that came with it: whoever sent it lies or is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the root does not prove these bytes")]
pub struct NotProved;

/// Verifies a run of groups of a blob of `size` bytes; gives the groups' chaining values.
///
/// If the run contains the blob's last group, this proves the size as well (the way up to the last group is to the
/// right wherever there is a choice, so it ends at the last group of the true tree); otherwise `size` must be known
/// already.
///
/// # Errors
/// The bytes, their number, the proof or the size are not what the root says.
pub fn verify(
    root: &Key,
    size: u64,
    groups: Range<u64>,
    data: &[u8],
    proof: &[ChainingValue],
) -> Result<Vec<ChainingValue>, NotProved> {
    let count = group_count(size);
    let span = span(size, &groups);
    if groups.start >= groups.end || groups.end > count || data.len() as u64 != span.end - span.start {
        return Err(NotProved);
    }
    let leaves = hash_groups(count, groups.start, data);
    let mut proof = proof.iter();
    let (mut count, mut first) = (count, groups.start);
    let mut level = leaves.clone();
    while count > 1 {
        if first % 2 == 1 {
            level.insert(0, *proof.next().ok_or(NotProved)?);
            first -= 1;
        }
        let end = first + level.len() as u64;
        if end % 2 == 1 && end < count {
            level.push(*proof.next().ok_or(NotProved)?);
        }
        let pairs = level.chunks(2).map(|pair| match pair {
            [left, right] => merge(left, right, count == 2),
            alone => alone[0],
        });
        level = pairs.collect();
        count = count.div_ceil(2);
        first /= 2;
    }
    match (level.as_slice(), proof.next()) {
        ([top], None) if top == root.as_bytes() => Ok(leaves),
        _ => Err(NotProved),
    }
}

/// The chaining values of groups that follow each other, from number `first` of `count`; the root, of a single group.
pub(crate) fn hash_groups(count: u64, first: u64, data: &[u8]) -> Vec<ChainingValue> {
    if count == 1 {
        return vec![*blake3::hash(data).as_bytes()];
    }
    data.chunks(GROUP).zip(first..).map(|(group, i)| hash_group(i, group)).collect()
}

/// The chaining value of one group, which is neither empty nor alone.
fn hash_group(index: u64, group: &[u8]) -> ChainingValue {
    Hasher::new().set_input_offset(index * GROUP as u64).update(group).finalize_non_root()
}

fn merge(left: &ChainingValue, right: &ChainingValue, top: bool) -> ChainingValue {
    match top {
        true => *merge_subtrees_root(left, right, Mode::Hash).as_bytes(),
        false => merge_subtrees_non_root(left, right, Mode::Hash),
    }
}

/// Hashes a blob as it comes, in pieces of any size.
#[derive(Clone, Debug, Default)]
pub struct TreeBuilder {
    groups: Vec<ChainingValue>,
    /// Up to one group: the last one so far, which may be the only one.
    rest: Vec<u8>,
}

impl TreeBuilder {
    /// Takes in what comes next.
    pub fn update(&mut self, mut bytes: &[u8]) {
        while self.rest.len() + bytes.len() > GROUP {
            let next = self.groups.len() as u64;
            if self.rest.is_empty() {
                let (group, after) = bytes.split_at(GROUP);
                self.groups.push(hash_group(next, group));
                bytes = after;
            } else {
                let (head, after) = bytes.split_at(GROUP - self.rest.len());
                self.rest.extend_from_slice(head);
                self.groups.push(hash_group(next, &self.rest));
                self.rest.clear();
                bytes = after;
            }
        }
        self.rest.extend_from_slice(bytes);
    }

    /// How many bytes it has taken in.
    pub fn len(&self) -> u64 {
        self.groups.len() as u64 * GROUP as u64 + self.rest.len() as u64
    }

    /// Whether it has taken in nothing.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The tree over all of it.
    pub fn finish(mut self) -> Outboard {
        let (size, last) = (self.len(), self.groups.len() as u64);
        let count = group_count(size);
        self.groups.extend(hash_groups(count, last, &self.rest));
        Outboard::from_groups(size, self.groups)
    }
}

#[cfg(test)]
mod tests;
