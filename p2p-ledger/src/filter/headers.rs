//! Filter headers: what somebody says of them, and what is believed.
//!
//! A filter's header commits to all filters before it, so whoever differs in one differs in all that follow: the first block of
//! which two say something else is where one of them lies. Who was overruled there, since nothing settles it, is compared from the
//! next block on by hashes alone, for his headers are others.

use std::collections::{BTreeMap, VecDeque};

use p2p_core::Key;

use super::Filter;
use crate::consensus::Consensus;
use crate::headers::HeaderChain;
use crate::id::BlockId;

/// Of how many blocks it is remembered what somebody has said that was overruled.
const MOST_CLAIMS: usize = 8;

/// The filter headers that are believed, from a block on.
#[derive(Debug)]
pub(crate) struct FilterHeaders {
    /// The height of the first.
    base: u64,
    /// Of each block its name, and its filter's header; of the first block at least.
    all: Vec<(BlockId, Key)>,
}

impl FilterHeaders {
    /// That of a block, from which on others follow.
    pub(crate) fn new(height: u64, id: BlockId, header: Key) -> FilterHeaders {
        FilterHeaders { base: height, all: vec![(id, header)] }
    }

    /// The height of the first block.
    #[cfg(feature = "bitcoin")]
    pub(crate) fn base(&self) -> u64 {
        self.base
    }

    /// The height of the last block.
    pub(crate) fn height(&self) -> u64 {
        self.base + self.all.len() as u64 - 1
    }

    /// The last block.
    pub(crate) fn last(&self) -> BlockId {
        self.all.last().map_or(BlockId::NONE, |(id, _)| *id)
    }

    /// A block's name, and its filter's header.
    pub(crate) fn at(&self, height: u64) -> Option<(BlockId, Key)> {
        self.all.get(usize::try_from(height.checked_sub(self.base)?).ok()?).copied()
    }

    /// The next block's.
    pub(crate) fn push(&mut self, id: BlockId, header: Key) {
        self.all.push((id, header));
    }

    /// Takes the last block out, if it is above a height and not the first.
    pub(crate) fn pop_above(&mut self, height: u64) -> Option<BlockId> {
        let is_above = self.height() > height && self.all.len() > 1;
        self.all.pop_if(|_| is_above).map(|(id, _)| id)
    }
}

/// What somebody says of filters.
#[derive(Debug)]
pub(crate) struct Said {
    /// Up to which height it says what is believed.
    agreed: u64,
    /// The filter headers of the blocks after that, as long as none of them is believed.
    more: VecDeque<Key>,
    /// A block on the branch that those are for.
    on: Option<BlockId>,
    /// It says this of the block after `agreed`, where something else is believed.
    against: Option<Key>,
    /// The first block of which it said something else, and nothing settled it: from there up to `agreed` it need not have said what
    /// is believed.
    overruled: Option<u64>,
    /// What it said of such blocks; of the highest of them, which are the likeliest to be still there.
    claims: BTreeMap<u64, Key>,
}

impl Said {
    /// It says what is believed up to this height, and nothing yet of what follows.
    pub(crate) fn from(height: u64) -> Said {
        let (more, claims) = (VecDeque::new(), BTreeMap::new());
        Said { agreed: height, more, on: None, against: None, overruled: None, claims }
    }

    /// What is believed begins at this height now, where it says the same, unless it was overruled before.
    #[cfg(feature = "bitcoin")]
    pub(crate) fn begin_at(&mut self, height: u64) {
        let overruled = self.overruled.filter(|from| *from <= height).map(|_| height);
        *self = Said { overruled, ..Said::from(height) };
    }

    /// What it says of the block at a height, as far as it has said something.
    pub(crate) fn of(&self, height: u64, believed: &FilterHeaders) -> Option<Key> {
        match height.checked_sub(self.agreed + 1) {
            None if self.overruled.is_some_and(|from| from <= height) => self.claims.get(&height).copied(),
            None => believed.at(height).map(|(_, header)| header),
            Some(0) if self.against.is_some() => self.against,
            Some(above) => self.more.get(above as usize).copied(),
        }
    }

    /// Up to which height it says what is believed, or was overruled.
    pub(crate) fn agreed(&self) -> u64 {
        self.agreed
    }

    /// Up to which height it has said something.
    pub(crate) fn height(&self) -> u64 {
        self.agreed + self.more.len() as u64
    }

    /// Whether it has said the same up to this height, or was overruled.
    pub(crate) fn agrees_to(&self, height: u64) -> bool {
        self.agreed >= height
    }

    /// Whether it has itself said what is believed of this block.
    pub(crate) fn stands_by(&self, height: u64) -> bool {
        self.agrees_to(height) && self.overruled.is_none_or(|from| height < from)
    }

    pub(crate) fn is_overruled(&self) -> bool {
        self.overruled.is_some()
    }

    /// The next block, if it says something else of it than is believed.
    pub(crate) fn doubts(&self) -> Option<u64> {
        self.against.map(|_| self.agreed + 1)
    }

    /// The blocks of which it is remembered what it said before it was overruled.
    pub(crate) fn claimed(&self) -> impl Iterator<Item = u64> {
        self.claims.keys().copied()
    }

    /// Whether it is to be asked for more, up to this height.
    pub(crate) fn is_due(&self, height: u64) -> bool {
        self.more.is_empty() && self.against.is_none() && height > self.agreed
    }

    /// It says these hashes of the filters after `agreed`, on the branch of this block. Whoever takes them in has seen that they
    /// follow what it has said before.
    pub(crate) fn hear(&mut self, hashes: &[Key], on: BlockId, believed: &FilterHeaders) {
        let Some((_, mut header)) = believed.at(self.agreed) else { return };
        self.on = Some(on);
        for hash in hashes {
            header = Filter::header_of(hash, &header);
            match believed.at(self.agreed + 1) {
                None => self.more.push_back(header),
                Some((_, believed)) if believed == header => self.agreed += 1,
                Some(_) => {
                    self.against = Some(header);
                    return;
                }
            }
        }
    }

    /// The chain has gone over to another branch, or what was believed was a lie.
    pub(crate) fn keep_to<C: Consensus>(&mut self, height: u64, chain: &HeaderChain<C>) {
        let is_off = self.on.is_some_and(|on| !chain.is_on_chain(&on));
        if self.agreed > height || is_off {
            (self.more, self.on, self.against) = (VecDeque::new(), None, None);
        }
        self.agreed = self.agreed.min(height);
        self.overruled = self.overruled.filter(|from| *from <= height);
        self.claims.retain(|at, _| *at <= height);
    }

    /// The next one is believed.
    pub(crate) fn settle(&mut self, height: u64, header: Key) {
        if self.agreed + 1 != height {
            return;
        }
        match self.more.pop_front() {
            Some(said) if said == header => self.agreed = height,
            None => {}
            other => (self.more, self.against) = (VecDeque::new(), other),
        }
    }

    /// If it says something else of this block: that is gone by.
    pub(crate) fn overrule(&mut self, height: u64) {
        if self.agreed + 1 == height
            && let Some(said) = self.against.take()
        {
            self.agreed = height;
            self.overruled.get_or_insert(height);
            self.claims.insert(height, said);
            if self.claims.len() > MOST_CLAIMS {
                self.claims.pop_first();
            }
        }
    }

    /// What it says of this block is no matter any more: it is asked again.
    pub(crate) fn ask_again(&mut self, height: u64) {
        if self.agreed + 1 == height {
            self.against = None;
        }
    }
}
