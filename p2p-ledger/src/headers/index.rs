//! Where headers are: a list in the order in which they came, names to find them by, and the best chain by height.

use std::collections::{BTreeMap, BTreeSet};

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
    /// Those that none follows, by their work.
    heads: BTreeSet<(U256, u32)>,
    /// The best chain goes through this one, whatever the others' work.
    last_final: u32,
}

impl<H: Header> Index<H> {
    pub(crate) fn new(first: H) -> Index<H> {
        let id = first.id();
        let entry = Entry { header: first, id, parent: GENESIS, height: 0, work: U256::ZERO, invalid: false };
        let by_id = BTreeMap::from([(id, GENESIS)]);
        let heads = BTreeSet::from([(U256::ZERO, GENESIS)]);
        Index { entries: vec![entry], by_id, best: vec![GENESIS], heads, last_final: GENESIS }
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

    /// The entry at this place, if it has not been forgotten.
    pub(crate) fn get(&self, at: u32) -> Option<&Entry<H>> {
        self.entries.get(at as usize)
    }

    pub(crate) fn tip_at(&self) -> u32 {
        self.best[self.best.len() - 1]
    }

    pub(crate) fn tip(&self) -> &Entry<H> {
        self.entry(self.tip_at())
    }

    pub(crate) fn last_final(&self) -> &Entry<H> {
        self.entry(self.last_final)
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

    /// Where the ways back from these two meet.
    pub(crate) fn meet(&self, mut one: u32, mut other: u32) -> &Entry<H> {
        let (fork, other_fork) = (self.fork(one), self.fork(other));
        if fork != other_fork {
            let (fork, other_fork) = (self.entry(fork), self.entry(other_fork));
            return if fork.height < other_fork.height { fork } else { other_fork };
        }
        while one != other {
            match self.entry(one).height >= self.entry(other).height {
                true => one = self.entry(one).parent,
                false => other = self.entry(other).parent,
            }
        }
        self.entry(one)
    }

    /// The branch that ends here, from a height on, the lowest first.
    pub(crate) fn branch(&self, from: u64, end: u32) -> impl Iterator<Item = u32> {
        let fork = self.fork(end);
        let back = std::iter::successors(Some(end), |at| Some(self.entry(*at).parent));
        let mut beside: Vec<u32> = back.take_while(|at| *at != fork).collect();
        beside.reverse();
        let on =
            (from..=self.entry(fork).height).filter_map(|height| self.best.get(height as usize).copied());
        on.chain(beside.into_iter().filter(move |at| self.entry(*at).height >= from))
    }

    /// The ends of the branches that have more work.
    pub(crate) fn heavier(&self, work: U256) -> impl Iterator<Item = u32> {
        self.heads.range((work, u32::MAX)..).map(|(_, at)| *at)
    }

    /// The header at a height on the way back from here.
    pub(crate) fn ancestor(&self, at: u32, height: u64) -> Option<&Entry<H>> {
        self.ancestor_at(at, height).map(|at| self.entry(at))
    }

    pub(crate) fn ancestor_at(&self, mut at: u32, height: u64) -> Option<u32> {
        if height > self.entry(at).height {
            return None;
        }
        while self.entry(at).height > height {
            if self.is_best(at) {
                return self.best.get(height as usize).copied();
            }
            at = self.entry(at).parent;
        }
        Some(at)
    }

    /// Adds entries that follow each other, the first of them `base`, unless one is there; says how many.
    pub(crate) fn extend(&mut self, base: u32, branch: Vec<Entry<H>>) -> usize {
        let (mut parent, added) = (base, branch.len());
        for entry in branch {
            let at = self.entries.len() as u32;
            self.by_id.insert(entry.id, at);
            self.heads.remove(&(self.entry(parent).work, parent));
            self.heads.insert((entry.work, at));
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
        self.choose();
    }

    /// The one that came last.
    pub(crate) fn last(&self) -> Option<&Entry<H>> {
        self.entries.last()
    }

    /// Forgets the one that came last, which is marked: its place will be another's.
    pub(crate) fn forget_last(&mut self) {
        if let Some(last) = self.entries.pop() {
            self.by_id.remove(&last.id);
        }
    }

    /// From now on the best chain goes through this one.
    pub(crate) fn finalise(&mut self, at: u32) {
        self.last_final = at;
        if !self.is_best(at) {
            self.choose();
        }
    }

    /// Looks for the best anew, among those that are valid and follow what is final.
    fn choose(&mut self) {
        let (first, count) = (self.last_final, self.entries.len() as u32);
        let mut open = vec![false; self.entries.len()];
        self.heads.clear();
        let mut best = first;
        // Parents come before their children.
        for at in first..count {
            let Entry { parent, work, invalid, .. } = self.entries[at as usize];
            if at != first && (invalid || !open[parent as usize]) {
                continue;
            }
            open[at as usize] = true;
            self.heads.remove(&(self.entry(parent).work, parent));
            self.heads.insert((work, at));
            if work > self.entry(best).work {
                best = at;
            }
        }
        self.lead_to(best);
    }
}
