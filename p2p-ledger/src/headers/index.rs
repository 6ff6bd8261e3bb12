//! Where headers are: a list in the order in which they came, names to find them by, and the best chain by height.

use std::collections::BTreeMap;

use ruint::aliases::U256;

use super::Tip;
use crate::header::Header;
use crate::id::BlockId;

/// The first header, which is its own parent.
pub(crate) const GENESIS: u32 = 0;

/// A header that is kept.
#[derive(Clone, Debug)]
pub(crate) struct Entry<H> {
    pub(crate) header: H,
    pub(crate) id: BlockId,
    pub(crate) parent: u32,
    pub(crate) height: u64,
    /// In it and all before it, but for the first.
    pub(crate) work: U256,
    pub(crate) invalid: bool,
}

impl<H> Entry<H> {
    pub(crate) fn place(&self) -> Tip {
        Tip { id: self.id, height: self.height, work: self.work }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Index<H> {
    /// Parents before children.
    entries: Vec<Entry<H>>,
    by_id: BTreeMap<BlockId, u32>,
    /// The best chain, by height.
    best: Vec<u32>,
    /// How many of each height there are.
    counts: Vec<usize>,
}

impl<H: Header> Index<H> {
    pub(crate) fn new(first: H) -> Index<H> {
        let id = first.id();
        let entry = Entry { header: first, id, parent: GENESIS, height: 0, work: U256::ZERO, invalid: false };
        let by_id = BTreeMap::from([(id, GENESIS)]);
        Index { entries: vec![entry], by_id, best: vec![GENESIS], counts: vec![1] }
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn find(&self, id: &BlockId) -> Option<u32> {
        self.by_id.get(id).copied()
    }

    pub(crate) fn entry(&self, at: u32) -> &Entry<H> {
        &self.entries[at as usize]
    }

    pub(crate) fn tip_at(&self) -> u32 {
        self.best[self.best.len() - 1]
    }

    pub(crate) fn tip(&self) -> &Entry<H> {
        self.entry(self.tip_at())
    }

    /// The best chain's at a height.
    pub(crate) fn best_at(&self, height: u64) -> Option<u32> {
        self.best.get(height as usize).copied()
    }

    pub(crate) fn count_at(&self, height: u64) -> usize {
        self.counts.get(height as usize).copied().unwrap_or(0)
    }

    /// Where the way back from here meets the best chain.
    pub(crate) fn fork(&self, mut at: u32) -> u32 {
        while !self.is_best(at) {
            at = self.entry(at).parent;
        }
        at
    }

    fn is_best(&self, at: u32) -> bool {
        self.best.get(self.entry(at).height as usize) == Some(&at)
    }

    /// The header at a height on the way back from here.
    pub(crate) fn ancestor(&self, mut at: u32, height: u64) -> Option<&Entry<H>> {
        if height > self.entry(at).height {
            return None;
        }
        while self.entry(at).height > height {
            if self.is_best(at) {
                return self.best.get(height as usize).map(|at| self.entry(*at));
            }
            at = self.entry(at).parent;
        }
        Some(self.entry(at))
    }

    /// Adds entries that follow each other, the first of them `base`, unless one is there; says how many.
    pub(crate) fn extend(&mut self, base: u32, branch: Vec<Entry<H>>) -> usize {
        let (mut parent, added) = (base, branch.len());
        for entry in branch {
            let at = self.entries.len() as u32;
            match self.counts.get_mut(entry.height as usize) {
                Some(count) => *count += 1,
                None => self.counts.push(1),
            }
            self.by_id.insert(entry.id, at);
            self.entries.push(Entry { parent, ..entry });
            parent = at;
        }
        if self.entry(parent).work > self.tip().work {
            self.lead_to(parent);
        }
        added
    }

    /// Makes this the end of the best chain.
    pub(crate) fn lead_to(&mut self, end: u32) {
        let fork = self.fork(end);
        let (mut at, mut way) = (end, Vec::new());
        while at != fork {
            way.push(at);
            at = self.entry(at).parent;
        }
        self.best.truncate(self.entry(fork).height as usize + 1);
        self.best.extend(way.into_iter().rev());
    }

    /// Marks this and all that follow it. Of the others the best is the best, of two the one that came first.
    pub(crate) fn invalidate(&mut self, at: u32) {
        self.entries[at as usize].invalid = true;
        for i in at as usize + 1..self.entries.len() {
            self.entries[i].invalid |= self.entries[self.entries[i].parent as usize].invalid;
        }
        let valid = (GENESIS..self.entries.len() as u32).filter(|at| !self.entry(*at).invalid);
        let best =
            valid.reduce(|best, at| if self.entry(at).work > self.entry(best).work { at } else { best });
        self.lead_to(best.unwrap_or(GENESIS));
    }
}
