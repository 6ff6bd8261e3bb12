//! Reading: level by level, each a stream of names made of the one above, so that what is next is asked for while what came
//! is read (§6).

use std::ops::{Bound, RangeBounds};

use futures::stream::{self, StreamExt, TryStreamExt};
use p2p_core::Peer;

use super::tree::{Blocks, Node};
use super::{Cfs, Reading};

/// How many indirect blocks of a level are asked for at once: the next while the names in one are used.
const NAMES_AHEAD: usize = 2;

impl<P: Peer> Cfs<P> {
    /// These bytes of a file, in order, each block verified: up to [`CfsConfig::prefetch`](super::CfsConfig) blocks are
    /// asked for before they are wanted. It ends with the first error.
    pub fn read(&self, file: Blocks, range: impl RangeBounds<u64>) -> Reading {
        let start = match range.start_bound() {
            Bound::Included(start) => *start,
            Bound::Excluded(before) => before.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(last) => last.saturating_add(1),
            Bound::Excluded(end) => *end,
            Bound::Unbounded => u64::MAX,
        };
        let end = end.min(file.size);
        if start >= end {
            return stream::empty().boxed();
        }
        let wanted = move |node: &Node| node.start < end && node.start + node.covers > start;
        let top = file.top();
        let mut nodes = stream::iter([Ok(top)]).boxed();
        for _ in 0..file.height() {
            let cfs = self.clone();
            let names = nodes.map_ok(move |node: Node| {
                let cfs = cfs.clone();
                async move { Ok(node.children(&cfs.block(node.key, node.len()).await?)) }
            });
            let children = names.try_buffered(NAMES_AHEAD).map_ok(move |nodes: Vec<Node>| {
                stream::iter(nodes.into_iter().filter(move |node| wanted(node)).map(Ok))
            });
            nodes = children.try_flatten().boxed();
        }
        let cfs = self.clone();
        let data = nodes.map_ok(move |node: Node| {
            let cfs = cfs.clone();
            async move {
                let block = cfs.block(node.key, node.len()).await?;
                let from = start.saturating_sub(node.start) as usize;
                let to = (end - node.start).min(node.covers) as usize;
                Ok(block.slice(from..to))
            }
        });
        data.try_buffered(self.config.prefetch.max(1)).boxed()
    }
}
