//! The headers' chain: of all that connect to the first, the branch with the most work.
//!
//! Nakamoto (2008, §5): "nodes always consider the longest chain to be the correct one"; the longest is that with the most
//! work, and of two with as much the one that was seen first. A light client (§8) needs nothing else, and a full node
//! begins here: a header costs its sender work before it costs anybody memory, and a body is asked for only once
//! a chain of headers deserves it.
//!
//! What keeps others from filling the memory:
//!
//! - A header that does not connect is refused, not kept: there are no orphans. Whoever sent it is asked for what lies
//!   between ([`locator`](HeaderChain::locator)).
//! - A branch is kept only if it ends within [`margin`](HeaderRules::margin) blocks' work of the best, and has the minimum.
//!   So a flood of easy headers that begin far back is refused before any of them is kept. A caller passes as many
//!   at once as it is willing to hold; a chain that is longer than that comes through a [`HeaderSync`].
//! - Of each height so many headers are kept, [`siblings`](HeaderRules::siblings), or two of each
//!   [author](Consensus::author); more only as part of a branch that is better than the best, or with a block of this node's own.
//!   When its block is found invalid what is too much is forgotten.
//!
//! A header is never refused for ever because of what it came with: only its own bytes and those before it count.

mod crowd;
mod follow;
mod index;
mod sync;

use std::collections::BTreeMap;

use ruint::aliases::U256;

use crate::consensus::{Consensus, Fault, Past};
use crate::header::Header;
use crate::id::BlockId;
use crate::ledger::Change;

use crowd::{Crowd, MOST_OF_ONE_AUTHOR};
pub(crate) use follow::{Followed, follow};
pub(crate) use index::{Entry, GENESIS};
pub use sync::{HeaderSync, SyncError, SyncStep};

/// What is kept of headers, and what is refused.
#[derive(Clone, Debug)]
pub struct HeaderRules {
    /// Headers that must be at certain heights.
    pub checkpoints: BTreeMap<u64, BlockId>,
    /// Branches that leave the chain more than so many blocks below its end are refused: what is deeper is final. Of a
    /// [`Chain`](crate::Chain) that end is where the state stands, for headers alone make nothing final; of a
    /// [`LightNode`](crate::LightNode) it is where its servers were last agreed; of headers alone the end of the best. What
    /// was final stays so. `None`: nothing is, as in the paper.
    pub finality: Option<u64>,
    /// The least work of a chain. Until it is reached, headers have to come in one call that reaches it, or through a
    /// [`HeaderSync`]; or be [restored](HeaderChain::restore). None.
    pub minimum_work: U256,
    /// How many blocks' work of the present kind a branch may be behind the best chain. 144, as in Bitcoin Core.
    pub margin: u64,
    /// How many headers of one height are kept, where they have no [author](Consensus::author). 64.
    pub siblings: usize,
}

impl Default for HeaderRules {
    fn default() -> Self {
        let checkpoints = BTreeMap::new();
        HeaderRules { checkpoints, finality: None, minimum_work: U256::ZERO, margin: 144, siblings: 64 }
    }
}

/// A place in a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tip {
    /// The header's name.
    pub id: BlockId,
    /// How many are before it.
    pub height: u64,
    /// The work in all of them, but for the first.
    pub work: U256,
}

/// Why headers are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// It does not count.
    #[error(transparent)]
    Fault(#[from] Fault),
    /// The one before it is not known: ask for what lies between.
    #[error("nothing is known of {0}, which it follows")]
    Unconnected(BlockId),
    /// This one is invalid, and all that follow it.
    #[error("{0} is invalid, or follows a block that is")]
    Invalid(BlockId),
    /// The branch has too little work to be kept.
    #[error("a branch of {found} work; {needed} are needed")]
    LowWork {
        /// How much it would need.
        needed: U256,
        /// How much it has.
        found: U256,
    },
    /// It leaves the chain below what is final, or where a checkpoint is.
    #[error("at height {height} the chain is final")]
    Final {
        /// Where.
        height: u64,
    },
    /// There are too many headers of this height already.
    #[error("there are too many headers of height {height}")]
    Crowded {
        /// Which.
        height: u64,
    },
}

impl Refused {
    /// Whether whoever sent this has provably broken the rules, and not merely sent something old, early or unknown.
    pub fn is_misbehaviour(&self) -> bool {
        match self {
            Refused::Fault(fault) => !fault.passes(),
            Refused::Invalid(_) => true,
            Refused::Unconnected(_)
            | Refused::LowWork { .. }
            | Refused::Final { .. }
            | Refused::Crowded { .. } => false,
        }
    }
}

/// All headers that are kept, and which of them are the chain.
///
/// ```
/// use p2p_core::Key;
/// use p2p_ledger::{BlockHeader, BlockId, Header, HeaderChain, HeaderRules, ProofOfWork, Work};
///
/// let rules: ProofOfWork<BlockHeader<Work>> = ProofOfWork::regtest();
/// let seal = Work { bits: rules.limit, nonce: 0 };
/// let first = BlockHeader { height: 0, previous: BlockId::NONE, root: Key::ZERO, time: 1_000, seal };
/// let mut next = BlockHeader { height: 1, previous: first.id(), time: 1_600, ..first.clone() };
/// assert!(rules.mine(&mut next, 0, 1_000));
///
/// let mut chain = HeaderChain::new(rules, first, HeaderRules::default());
/// assert_eq!(chain.accept(&[next.clone()], 1_700), Ok(1));
/// assert_eq!((chain.tip().height, chain.tip().id), (1, next.id()));
/// ```
#[derive(Clone, Debug)]
pub struct HeaderChain<C: Consensus> {
    consensus: C,
    rules: HeaderRules,
    index: index::Index<C::Header>,
    crowd: Crowd,
    /// Where the state stands, if there is one.
    stands: Option<u32>,
}

impl<C: Consensus> HeaderChain<C> {
    /// A chain that begins with this header, which is not checked.
    pub fn new(consensus: C, first: C::Header, rules: HeaderRules) -> HeaderChain<C> {
        let (index, crowd) = (index::Index::new(first), Crowd::default());
        HeaderChain { consensus, rules, index, crowd, stands: None }
    }

    /// What makes a header count here.
    pub fn consensus(&self) -> &C {
        &self.consensus
    }

    /// Takes in headers that follow each other; says how many were new. Those that are known already are passed over.
    ///
    /// # Errors
    /// Why the first that was not taken in was not. Those before it were, if they are enough to be kept.
    pub fn accept(&mut self, headers: &[C::Header], now: u64) -> Result<usize, Refused> {
        self.take(headers, now, true)
    }

    /// Takes in headers that its user has kept, in as many calls as it likes: they are checked as others are, but nobody fills
    /// the memory with them, so they need not have the least work yet.
    ///
    /// # Errors
    /// Why the first that was not taken in was not. Those before it were.
    pub fn restore(&mut self, headers: &[C::Header], now: u64) -> Result<usize, Refused> {
        self.take(headers, now, false)
    }

    /// Takes in the header of a block of this node's own, which is worth its room however many others there are.
    pub(crate) fn accept_own(&mut self, header: &C::Header, now: u64) -> Result<usize, Refused> {
        let header = std::slice::from_ref(header);
        match self.take(header, now, true) {
            Err(Refused::Crowded { .. }) => self.take(header, now, false),
            taken => taken,
        }
    }

    /// The same, of headers that are known to be worth their room if `weigh` is false.
    fn take(&mut self, headers: &[C::Header], now: u64, weigh: bool) -> Result<usize, Refused> {
        let known = headers.iter().take_while(|header| self.index.find(&header.id()).is_some()).count();
        let new = &headers[known..];
        let Some(first) = new.first() else { return Ok(0) };
        let base = self.index.find(&first.previous()).ok_or(Refused::Unconnected(first.previous()))?;
        if self.index.entry(base).invalid {
            return Err(Refused::Invalid(first.previous()));
        }
        self.check_fork(base)?;
        let mut branch: Vec<Entry<C::Header>> = Vec::new();
        let fault =
            new.iter().enumerate().find_map(|(i, _)| self.check(base, &mut branch, &new[..=i], now).err());
        let worth = if weigh { self.is_worth_it(base, &branch) } else { Ok(()) };
        let added = match worth {
            Ok(()) => self.extend(base, branch),
            Err(refused) => return Err(fault.unwrap_or(refused)),
        };
        fault.map_or(Ok(added), Err)
    }

    /// Checks the last of `new`, whose others are in `branch`, and adds it there.
    fn check(
        &self,
        base: u32,
        branch: &mut Vec<Entry<C::Header>>,
        new: &[C::Header],
        now: u64,
    ) -> Result<(), Refused> {
        let Some(header) = new.last() else { return Ok(()) };
        let before = branch.last().unwrap_or(self.index.entry(base));
        if header.previous() != before.id {
            return Err(Refused::Unconnected(header.previous()));
        }
        self.consensus.check_seal(header)?;
        let (height, from) = (before.height + 1, self.index.entry(base).height);
        let at = |height: u64| match height.checked_sub(from + 1) {
            Some(i) => new.get(i as usize),
            None => self.index.ancestor(base, height).map(|entry| &entry.header),
        };
        self.consensus.check(header, &Past::new(before.height, &at), now)?;
        let id = header.id();
        if self.rules.checkpoints.get(&height).is_some_and(|checkpoint| *checkpoint != id) {
            return Err(Refused::Final { height });
        }
        let work = before.work.saturating_add(self.consensus.work(header));
        branch.push(Entry { header: header.clone(), id, parent: GENESIS, height, work, invalid: false });
        Ok(())
    }

    /// Whether a branch may leave the best chain where this one does.
    fn check_fork(&self, base: u32) -> Result<(), Refused> {
        let (fork, tip) = (self.index.entry(self.index.fork(base)).height, self.tip().height);
        let height = self.rules.checkpoints.range(..=tip).next_back().map_or(0, |(height, _)| *height);
        (fork >= height).then_some(()).ok_or(Refused::Final { height })?;
        self.check_final(base)
    }

    /// Whether what is final is before this header.
    pub(crate) fn check_final(&self, at: u32) -> Result<(), Refused> {
        let end = self.stands.unwrap_or(self.index.tip_at());
        let deep = self.rules.finality.map_or(0, |depth| self.index.entry(end).height.saturating_sub(depth));
        let height = deep.max(self.index.last_final().height);
        if height == 0 {
            return Ok(());
        }
        (self.index.meet(at, end).height >= height).then_some(()).ok_or(Refused::Final { height })
    }

    /// How deep a block has to be to be final.
    pub(crate) fn finality(&self) -> Option<u64> {
        self.rules.finality
    }

    /// Says where the state stands now. Branches that leave the way there too deep are given up, whatever their work. What has
    /// been final stays so, though a shorter branch with more work may have taken the end back.
    pub(crate) fn stand_at(&mut self, at: u32) {
        self.stands = Some(at);
        let Some(depth) = self.rules.finality else { return };
        self.finalise(at, self.index.entry(at).height.saturating_sub(depth));
    }

    /// Makes what is on the way to this header final up to a height, whatever the rules say; never less than was before.
    pub(crate) fn finalise(&mut self, at: u32, height: u64) {
        if height > self.index.last_final().height
            && let Some(last) = self.index.ancestor_at(at, height)
        {
            self.index.finalise(last);
        }
    }

    /// Whether a branch is good enough to be kept.
    fn is_worth_it(&self, base: u32, branch: &[Entry<C::Header>]) -> Result<(), Refused> {
        let (tip, end) = (self.index.tip(), branch.last().unwrap_or(self.index.entry(base)));
        let one = self.consensus.work(&tip.header);
        let behind = tip.work.saturating_sub(one.saturating_mul(U256::from(self.rules.margin)));
        let needed = behind.max(self.rules.minimum_work);
        if end.work < needed {
            return Err(Refused::LowWork { needed, found: end.work });
        }
        if end.work <= tip.work {
            let full = |entry: &&Entry<C::Header>| {
                let (count, most) = self.siblings(entry);
                count >= most
            };
            if let Some(Entry { height, .. }) = branch.iter().find(full) {
                return Err(Refused::Crowded { height: *height });
            }
        }
        Ok(())
    }

    /// How many headers like this one are kept, and how many may be.
    fn siblings(&self, entry: &Entry<C::Header>) -> (usize, usize) {
        let author = self.consensus.author(&entry.header);
        let most = author.map_or(self.rules.siblings, |_| MOST_OF_ONE_AUTHOR);
        (self.crowd.count(entry.height, author), most)
    }

    fn extend(&mut self, base: u32, branch: Vec<Entry<C::Header>>) -> usize {
        for entry in &branch {
            self.crowd.add(entry.height, self.consensus.author(&entry.header));
        }
        self.index.extend(base, branch)
    }

    /// The end of the chain.
    pub fn tip(&self) -> Tip {
        self.index.tip().place()
    }

    /// Where a header is, on the chain or beside it.
    pub fn place(&self, id: &BlockId) -> Option<Tip> {
        self.index.find(id).map(|at| self.index.entry(at).place())
    }

    /// A header, on the chain or beside it.
    pub fn header(&self, id: &BlockId) -> Option<&C::Header> {
        self.index.find(id).map(|at| &self.index.entry(at).header)
    }

    /// The chain's header at a height.
    pub fn at(&self, height: u64) -> Option<&C::Header> {
        self.index.ancestor(self.index.tip_at(), height).map(|entry| &entry.header)
    }

    /// Whether a header is on the chain.
    pub fn is_on_chain(&self, id: &BlockId) -> bool {
        self.index.find(id).is_some_and(|at| self.index.fork(at) == at)
    }

    /// How many headers are kept, those beside the chain among them.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Never: there is a first.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// The median time past at a header: that of it and the ten before it.
    pub fn median_time(&self, id: &BlockId) -> Option<u64> {
        let at = self.index.find(id)?;
        Some(self.with_past(at, |past| past.median_time()))
    }

    /// Asks something of a header and all before it.
    pub(crate) fn with_past<T>(&self, at: u32, ask: impl FnOnce(&Past<'_, C::Header>) -> T) -> T {
        let header = |height| self.index.ancestor(at, height).map(|entry| &entry.header);
        ask(&Past::new(self.index.entry(at).height, &header))
    }

    /// The chain's headers from the last few back to the first, ever farther apart: by these somebody else finds where his
    /// chain leaves ours.
    pub fn locator(&self) -> Vec<BlockId> {
        let (mut height, mut step, mut ids) = (self.tip().height, 1, Vec::new());
        loop {
            ids.extend(self.index.ancestor(self.index.tip_at(), height).map(|entry| entry.id));
            if height == 0 {
                return ids;
            }
            if ids.len() >= 10 {
                step *= 2;
            }
            height = height.saturating_sub(step);
        }
    }

    /// The chain's headers after the first of these that is on it; from the beginning, if none is.
    pub fn after(&self, locator: &[BlockId], most: usize) -> Vec<C::Header> {
        let place = locator.iter().filter(|id| self.is_on_chain(id)).find_map(|id| self.place(id));
        let from = place.map_or(0, |place| place.height) + 1;
        (from..).map_while(|height| self.at(height)).take(most).cloned().collect()
    }

    /// Whether it has the least work that it must have.
    pub(crate) fn has_enough_work(&self) -> bool {
        self.tip().work >= self.rules.minimum_work
    }

    /// What has become of the chain since it ended there.
    pub fn since(&self, before: &Tip) -> Change {
        let back = std::iter::successors(Some(before.id), |id| self.header(id).map(Header::previous));
        let disconnected: Vec<BlockId> = back.take_while(|id| !self.is_on_chain(id)).collect();
        let fork = before.height - disconnected.len() as u64;
        let connected = (fork + 1..).map_while(|height| self.at(height)).map(Header::id).collect();
        Change { tip: self.tip(), disconnected, connected }
    }

    /// Gives up a header and all that follow it: its block has been found invalid. What is too much of it is forgotten.
    pub(crate) fn invalidate(&mut self, at: u32) {
        self.index.invalidate(at);
        // The last that came are forgotten: their places are free.
        while let Some(last) = self.index.last().filter(|last| last.invalid)
            && let (count, most) = self.siblings(last)
            && count > most
        {
            self.crowd.remove(last.height, self.consensus.author(&last.header));
            self.index.forget_last();
        }
    }

    /// Takes in a header that has been checked before; `None` if it follows none that is here.
    pub(crate) fn put_back(&mut self, header: C::Header) -> Option<u32> {
        let base = self.index.find(&header.previous())?;
        let before = self.index.entry(base);
        let work = before.work.saturating_add(self.consensus.work(&header));
        let (id, height) = (header.id(), before.height + 1);
        self.extend(base, vec![Entry { header, id, parent: base, height, work, invalid: false }]);
        self.index.find(&id)
    }

    /// Forgets all but the first.
    pub(crate) fn forget_all(&mut self) {
        self.index = index::Index::new(self.index.entry(GENESIS).header.clone());
        self.crowd = Crowd::default();
        self.stands = None;
    }

    /// Makes this the best of those with as much work.
    pub(crate) fn prefer(&mut self, at: u32) {
        if self.index.entry(at).work == self.index.tip().work {
            self.index.lead_to(at);
        }
    }

    pub(crate) fn index(&self) -> &index::Index<C::Header> {
        &self.index
    }
}
