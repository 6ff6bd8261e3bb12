//! Scans: whoever looks for scripts fetches the filters of all blocks, which tell nobody what he looks for, and then the blocks that
//! they point at.

use p2p_core::{Cx, OpId};
use p2p_overlay::Place;

use super::BitcoinClient;
use super::codec::{BitcoinMsg, FilterRange, NODE_COMPACT_FILTERS};
use super::nodes::Node;
use super::request::{BitcoinError, BitcoinOutcome};
use super::tasks::{Fetch, PAUSE, Parts, Want};
use super::transaction::BitcoinBlock;
use crate::filter::Filter;
use crate::header::Header;
use crate::id::BlockId;
use crate::ledger::{Mark, Scanned};

/// How many filters are asked for at a time: of the main network's blocks some 2 MB. BIP 157 allows 1,000.
const MOST_FILTERS: u64 = 100;

impl<P: Place> BitcoinClient<P> {
    /// The height of the lowest block that somebody scans from.
    pub(super) fn scanned_from(&self) -> Option<u64> {
        let from = self.tasks.values().filter_map(|task| match task.want {
            Want::Scan { after, .. } => Some(after.height),
            Want::Synced | Want::Prove(_) | Want::Matching(_) => None,
        });
        from.min()
    }

    /// Asks for the next filters, or for the block that one has pointed at; or ends it.
    pub(super) fn scan_on(&mut self, cx: &mut Cx<'_, Self>, op: OpId) {
        let now = cx.now();
        let Some(task) = self.tasks.get(&op) else { return };
        let Want::Scan { after, at, found } = task.want else { return };
        let is_late = task.until <= now || self.nodes.iter().all(Node::is_hopeless);
        let is_due = task.next <= now;
        let serve_none = self.serve_no_filters();
        if is_late || serve_none && self.is_synced() {
            let why = if serve_none { BitcoinError::NoFilters } else { BitcoinError::NoNode };
            return self.fail(cx, op, why);
        }
        match self.stands(after).filter(|_| self.is_synced()) {
            Some(true) if is_due && self.knows_filters() => {}
            Some(false) => return self.end_scan(cx, op, Scanned::Gone),
            Some(true) | None => return,
        }
        let (at, found) = if self.stands(at) == Some(true) { (at, found) } else { (after, false) };
        self.set_scan(op, at, found);
        let end = self.filters.headers.height();
        if at.height >= end {
            let mark = self.mark(end);
            return self.end_scan(cx, op, Scanned::End(mark));
        }
        let last = if found { at.height + 1 } else { end.min(at.height + MOST_FILTERS) };
        let Some(block) = self.chain.at(last).map(Header::id) else { return };
        let Some(node) = self.drawn(cx, op, last, found) else { return };
        let until = now + self.config.timeout;
        let Some(link) = &mut self.nodes[node].link else { return };
        match found {
            true => self.fetch_whole(cx, op, node, block),
            false => {
                link.fetch = Some(Fetch { op, block, until, parts: Parts::Filters });
                let start = u32::try_from(at.height + 1).unwrap_or(u32::MAX);
                cx.send(link.peer, BitcoinMsg::GetCFilters(FilterRange { start, stop: block }));
            }
        }
    }

    /// Whether nodes have greeted, and none of them serves filters.
    fn serve_no_filters(&self) -> bool {
        let mut ready = self.nodes.iter().filter(|node| node.is_ready()).peekable();
        ready.peek().is_some() && ready.all(|node| node.services() & NODE_COMPACT_FILTERS == 0)
    }

    /// Whether a scan can go on from here; `None` if that is not known yet.
    fn stands(&self, mark: Mark) -> Option<bool> {
        if mark == Mark::START {
            return Some(true);
        }
        if self.chain.at(mark.height).map(Header::id) != Some(mark.id) {
            return Some(false);
        }
        let (_, header) = self.filters.headers.at(mark.height)?;
        Some(mark.filters == Mark::START.filters || mark.filters == header)
    }

    fn mark(&self, height: u64) -> Mark {
        match self.filters.headers.at(height) {
            Some((id, filters)) if height > 0 => Mark { height, id, filters },
            _ => Mark::START,
        }
    }

    /// A node, by lot, that is free and was not asked in vain: for the filters up to a height one that stands by these, for a block one
    /// that has shown it. If all were asked in vain they are asked again, but not at once.
    fn drawn(&mut self, cx: &mut Cx<'_, Self>, op: OpId, height: u64, block: bool) -> Option<usize> {
        let able: Vec<usize> = match block {
            true => {
                let has_shown = |node: &&Node<P>| node.is_ready() && self.reach(node) >= height;
                let numbered = self.nodes.iter().enumerate();
                numbered.filter(|(_, node)| has_shown(node)).map(|(at, _)| at).collect()
            }
            false => self.heard().filter(|(_, node)| node.said.stands_by(height)).map(|(at, _)| at).collect(),
        };
        let task = self.tasks.get_mut(&op)?;
        let rest = able.iter().copied().filter(|at| !task.tried.contains(&self.nodes[*at].addr));
        let rest: Vec<usize> = rest.collect();
        if rest.is_empty() && !able.is_empty() {
            task.tried.clear();
            task.next = cx.now() + PAUSE;
        }
        let is_free = |at: &usize| self.nodes[*at].ready().is_some_and(|link| link.fetch.is_none());
        let free: Vec<usize> = rest.into_iter().filter(is_free).collect();
        cx.rng().choose(&free).copied()
    }

    fn set_scan(&mut self, op: OpId, to: Mark, is_found: bool) {
        if let Some(Want::Scan { at, found, .. }) = self.tasks.get_mut(&op).map(|task| &mut task.want) {
            (*at, *found) = (to, is_found);
        }
    }

    fn end_scan(&mut self, cx: &mut Cx<'_, Self>, op: OpId, scanned: Scanned<BitcoinBlock>) {
        self.tasks.remove(&op);
        cx.finish(op, BitcoinOutcome::Scanned(Ok(scanned)));
    }

    // ---- what comes

    pub(super) fn filter_came(&mut self, cx: &mut Cx<'_, Self>, at: usize, id: BlockId, bytes: Vec<u8>) {
        let is_last = |fetch: &mut Fetch| matches!(fetch.parts, Parts::Filters) && fetch.block == id;
        let Some(link) = &mut self.nodes[at].link else { return };
        let Some(Fetch { op, parts: Parts::Filters, .. }) = link.fetch else { return };
        link.fetch.take_if(is_last);
        let Some(task) = self.tasks.get_mut(&op) else { return };
        let Want::Scan { at: mark, found: false, .. } = task.want else { return };
        let headers = &self.filters.headers;
        let (before, next) = (headers.at(mark.height), headers.at(mark.height + 1));
        // It came too late, of an earlier answer perhaps, or what was believed has changed.
        let Some((_, header)) = next.filter(|(next, _)| *next == id) else { return };
        let filter = Filter::from_bytes(bytes).ok();
        let filter =
            filter.filter(|filter| before.is_some_and(|(_, before)| filter.header(&before) == header));
        let Some(filter) = filter else {
            return self.lied(cx, at, "it gives another filter than it has named");
        };
        let found = self.filters.doubtful.contains(&(mark.height + 1))
            || filter.has_any(&Filter::key(&id), task.items.iter().map(Vec::as_slice));
        task.gets_on(cx.now() + self.config.patience);
        if let Some(fetch) = &mut link.fetch {
            fetch.until = cx.now() + self.config.timeout;
        }
        if found {
            link.fetch = None;
        }
        let next = Mark { height: mark.height + 1, id, filters: header };
        self.set_scan(op, if found { mark } else { next }, found);
    }

    /// The block that a filter has pointed at.
    pub(super) fn scanned_block_came(&mut self, cx: &mut Cx<'_, Self>, op: OpId, block: BitcoinBlock) {
        let Some(Want::Scan { at, found: true, .. }) = self.tasks.get(&op).map(|task| task.want) else {
            return;
        };
        let found = self.mark(at.height + 1);
        // If not, the chain has gone another way meanwhile.
        if found.id == block.header.id() && self.stands(at) == Some(true) {
            self.end_scan(cx, op, Scanned::Found(found, Box::new(block)));
        }
    }
}
