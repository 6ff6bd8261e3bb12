//! A chain of blocks and the state that they lead to.
//!
//! Headers come first ([`HeaderChain`]); of the best branch of headers the bodies are wanted, and when all of a branch are
//! here and it has more work than what the state stands at, the chain goes over to it (Nakamoto 2008, §5). Of two with
//! as much work the one stays whose bodies were complete first.
//!
//! - **All or nothing.** Going over undoes blocks back to where the branches part, and does those of the other: in one
//!   [`View`]. If one of them is invalid the view is thrown away and nothing has happened; else its changes, the bodies,
//!   what undoes them, and the new tip go into the store as one batch.
//! - **Nothing that is sent can make a good block bad.** A header commits to every byte of its body, witnesses too. A body
//!   that it does not commit to is refused and says nothing of the header (CVE-2012-2459); only of a body that it does
//!   commit to can it turn out that the block is invalid, and that is then so for everybody.
//! - **Nothing is kept for nothing.** A body is taken only if its header has as much work as the tip, or is part of a branch
//!   that has more; those that wait for others are bounded in bytes, the least useful going first. Only those without which
//!   the chain could not go over to the best branch of headers never go: what there is no room for waits in the store, or a
//!   branch that is longer than the room would never be taken.

mod filters;
mod outcome;
mod prune;
mod rows;
mod waiting;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use crate::block::Block;
use crate::codec::{Decode, Encode};
use crate::consensus::{Consensus, Past};
use crate::headers::{Entry, GENESIS, HeaderChain, HeaderSync, Refused, SyncError, SyncStep, Tip};
use crate::id::BlockId;
use crate::signature::{Checks, Verifier};
use crate::state::{Place, State};
use crate::store::{Batch, Store, StoreError, Undo, View};

pub use outcome::{BlockError, InvalidBlock, Outcome};

use rows::{BODY, Body, HEADER, TIP, UNDO, WAITS, header_key, key};
use waiting::Waiting;

/// How much a chain takes and keeps.
#[derive(Clone, Copy, Debug)]
pub struct ChainRules {
    /// The largest block, in bytes: a rule of the chain, the same for all its nodes. 1 MiB.
    pub block_bytes: usize,
    /// How many bytes of bodies may wait for others in memory. 64 MiB.
    pub waiting_bytes: usize,
    /// How many of the last blocks' bodies are kept, at least; no fewer than may be undone
    /// ([`HeaderRules::finality`](crate::HeaderRules::finality)). `None`: all of them are.
    pub keep: Option<u64>,
}

impl Default for ChainRules {
    fn default() -> Self {
        ChainRules { block_bytes: 1 << 20, waiting_bytes: 64 << 20, keep: None }
    }
}

/// The blocks and the state that they lead to.
///
/// Whoever owns it decides on what thread it works: checking a block is slow, so a node does it in a
/// [`Worker`](p2p_core::Worker) of its own. It has no clock; `now` is the Unix time in seconds.
#[derive(Debug)]
pub struct Chain<C: Consensus, S: State, D> {
    headers: HeaderChain<C>,
    state: S,
    store: D,
    verifier: Verifier,
    rules: ChainRules,
    tip: u32,
    waiting: BTreeMap<u32, Waiting>,
    /// Whose bodies are in the store.
    stored: BTreeSet<u32>,
    /// Up to which height they are gone again.
    pruned: u64,
    arrivals: u64,
}

type Found<S> = Outcome<<S as State>::Error>;

/// The blocks that were undone and done; or which one is invalid, and why.
type Switched<S> = Result<(Vec<BlockId>, Vec<BlockId>), (u32, InvalidBlock<<S as State>::Error>)>;

/// A block of a chain with this consensus and state.
pub type BlockOf<C, S> = Block<<C as Consensus>::Header, <S as State>::Tx>;

impl<C: Consensus, S: State, D: Store> Chain<C, S, D> {
    /// A chain of the first header alone, whose body is empty and does nothing, over an empty store.
    ///
    /// # Panics
    /// If the rules keep fewer blocks than may be undone.
    pub fn new(
        mut headers: HeaderChain<C>,
        state: S,
        store: D,
        verifier: Verifier,
        rules: ChainRules,
    ) -> Self {
        prune::check(&rules, &headers);
        headers.stand_at(GENESIS);
        let (waiting, stored) = (BTreeMap::new(), BTreeSet::from([GENESIS]));
        Chain {
            headers,
            state,
            store,
            verifier,
            rules,
            tip: GENESIS,
            waiting,
            stored,
            pruned: 0,
            arrivals: 0,
        }
    }

    /// A chain as it is in a store, or of the first header alone, if that is empty. What is there has been checked before it was
    /// written, and is not checked again. `headers` has the first header and no other.
    ///
    /// # Errors
    /// The storage failed, or it holds another chain.
    ///
    /// # Panics
    /// As [`Chain::new`].
    pub fn open(
        headers: HeaderChain<C>,
        state: S,
        store: D,
        verifier: Verifier,
        rules: ChainRules,
    ) -> Result<Self, StoreError> {
        let mut chain = Chain::new(headers, state, store, verifier, rules);
        chain.load()?;
        Ok(chain)
    }

    /// As if it had been closed and opened again: what waits is forgotten, and so are headers without bodies.
    ///
    /// # Errors
    /// As [`Chain::open`]; the chain stands at its beginning then.
    pub fn reopen(&mut self) -> Result<(), StoreError> {
        self.headers.forget_all();
        self.headers.stand_at(GENESIS);
        self.waiting.clear();
        (self.tip, self.stored) = (GENESIS, BTreeSet::from([GENESIS]));
        self.load()
    }

    fn load(&mut self) -> Result<(), StoreError> {
        self.load_pruned()?;
        let chain = self;
        let mut found = Ok(());
        chain.store.scan(&[0, HEADER], &mut |_, bytes| {
            let restored =
                C::Header::from_bytes(bytes).ok().and_then(|header| chain.headers.put_back(header));
            match restored {
                Some(at) => drop(chain.stored.insert(at)),
                None => found = Err(StoreError("it holds another chain".into())),
            }
        })?;
        found?;
        if let Some(bytes) = chain.store.get(&key(TIP, BlockId::NONE))? {
            let id = p2p_core::Key::from_bytes(&bytes).ok().map(BlockId);
            let at = id.and_then(|id| chain.headers.index().find(&id));
            chain.tip = at.ok_or_else(|| StoreError("its tip is lost".into()))?;
            chain.headers.prefer(chain.tip);
            chain.headers.stand_at(chain.tip);
            // What undoes those is gone, whatever the rules were when it was written.
            chain.headers.finalise(chain.tip, chain.pruned);
            // Of a store that was written before there were filters this is all that says so.
            chain.filter_hashes(chain.tip().height.max(1), &chain.tip().id, 1)?;
        }
        // Those that waited are fetched again: their headers are not in the store.
        let mut waited = Vec::new();
        chain.store.scan(&[0, WAITS], &mut |marker, _| waited.push(marker[2..].to_vec()))?;
        if !waited.is_empty() {
            let both = |id: Vec<u8>| [BODY, WAITS].map(|what| ([&[0, what], &id[..]].concat(), None));
            chain.store.commit(waited.into_iter().flat_map(both).collect())?;
        }
        Ok(())
    }

    /// The headers, which may be ahead of the state.
    pub fn headers(&self) -> &HeaderChain<C> {
        &self.headers
    }

    /// What the chain is about.
    pub fn state(&self) -> &S {
        &self.state
    }

    /// Where the state is kept.
    pub fn store(&self) -> &D {
        &self.store
    }

    /// Where the state is kept, to be flushed.
    pub fn store_mut(&mut self) -> &mut D {
        &mut self.store
    }

    /// The state as it is.
    pub fn view(&self) -> View<'_> {
        View::new(&self.store)
    }

    /// What checks signatures, and remembers those that a pool has checked already.
    pub fn verifier(&mut self) -> &mut Verifier {
        &mut self.verifier
    }

    /// Something that others cannot know, of the verifier's secret: the same for the same question.
    pub(crate) fn secret(&self, what: &[u8], of: &[u8]) -> [u8; 32] {
        self.verifier.secret(&[what, of].concat())
    }

    /// What bounds blocks.
    pub fn rules(&self) -> &ChainRules {
        &self.rules
    }

    /// The block that the state stands at.
    pub fn tip(&self) -> Tip {
        self.headers.index().entry(self.tip).place()
    }

    /// The header of the block that the state stands at.
    pub fn tip_header(&self) -> &C::Header {
        &self.headers.index().entry(self.tip).header
    }

    /// Where the next block will be.
    pub fn next_place(&self) -> Place {
        self.place_after(self.tip)
    }

    /// Asks something of the headers up to the block that the state stands at.
    pub fn with_past<T>(&self, ask: impl FnOnce(&Past<'_, C::Header>) -> T) -> T {
        self.headers.with_past(self.tip, ask)
    }

    /// Takes in headers; see [`HeaderChain::accept`]. The state changes when their bodies come.
    ///
    /// # Errors
    /// Why one was refused.
    pub fn accept_headers(&mut self, headers: &[C::Header], now: u64) -> Result<usize, Refused> {
        self.headers.accept(headers, now)
    }

    /// Takes in what a peer has sent whose headers are followed by themselves; see [`HeaderSync::accept`].
    ///
    /// # Errors
    /// It is not followed any more.
    pub fn sync_headers(
        &mut self,
        sync: &mut HeaderSync<C>,
        headers: &[C::Header],
        now: u64,
    ) -> Result<SyncStep, SyncError> {
        sync.accept(&mut self.headers, headers, now)
    }

    /// The block at a height, on the way to where the state stands.
    pub fn at(&self, height: u64) -> Option<BlockId> {
        self.headers.index().ancestor(self.tip, height).map(|entry| entry.id)
    }

    /// Whether the state has come through this block.
    pub fn is_on_chain(&self, id: &BlockId) -> bool {
        let index = self.headers.index();
        index.find(id).is_some_and(|at| index.ancestor_at(self.tip, index.entry(at).height) == Some(at))
    }

    /// Whether the body of a block is here, done or waiting.
    pub fn has_body(&self, id: &BlockId) -> bool {
        let at = self.headers.index().find(id);
        at.is_some_and(|at| self.stored.contains(&at) || self.waiting.contains_key(&at))
    }

    /// The headers after the first of these that the state has come through, or after the first of all, up to where it
    /// stands: whoever is sent these can be sent their bodies.
    pub fn after(&self, locator: &[BlockId], most: usize) -> Vec<C::Header> {
        let index = self.headers.index();
        let from = locator.iter().find(|id| self.is_on_chain(id)).and_then(|id| index.find(id));
        let from = index.entry(from.unwrap_or(GENESIS)).height;
        let to = self.tip().height.min(from.saturating_add(most as u64));
        let way = (from + 1..=to).filter_map(|height| index.ancestor(self.tip, height));
        way.map(|entry| entry.header.clone()).collect()
    }

    /// The blocks whose bodies are wanted: on the best branch of headers, if it has more work than the tip; the lowest
    /// first.
    pub fn wanted(&self, most: usize) -> Vec<BlockId> {
        self.wanted_to(&self.headers.tip().id, most)
    }

    /// The same of the branch that ends with this header: none, if it has no more work than the tip. Headers may have been
    /// sent by somebody who has no bodies; so ask everybody for those of the branch that is theirs.
    pub fn wanted_to(&self, end: &BlockId, most: usize) -> Vec<BlockId> {
        let index = self.headers.index();
        let worthy = |end: &u32| {
            let entry = index.entry(*end);
            !entry.invalid && entry.work > self.tip().work && self.headers.check_final(*end).is_ok()
        };
        let Some(end) = index.find(end).filter(worthy) else { return Vec::new() };
        let branch = index.branch(index.meet(end, self.tip).height + 1, end);
        let lacking = branch.filter(|at| !self.stored.contains(at) && !self.waiting.contains_key(at));
        lacking.take(most).map(|at| index.entry(at).id).collect()
    }

    /// Whether the chain can do something with the body of this header: it has as much work as the tip, or is part of a
    /// branch that has more.
    fn is_of_use(&self, at: u32) -> bool {
        let (index, tip) = (self.headers.index(), self.tip().work);
        let Entry { height, work, .. } = *index.entry(at);
        work >= tip || index.heavier(tip).any(|end| index.ancestor_at(end, height) == Some(at))
    }

    /// Takes in a block, header and body, and goes over to the better branch if this completes one.
    ///
    /// # Errors
    /// Why it was not taken in. That it is invalid is not an error but an [`Outcome`]: another may be that came before.
    pub fn accept(&mut self, block: BlockOf<C, S>, now: u64) -> Result<Found<S>, BlockError> {
        self.headers.accept(std::slice::from_ref(&block.header), now)?;
        let id = crate::header::Header::id(&block.header);
        let Some(at) = self.headers.index().find(&id) else { return Err(BlockError::Unworthy(id)) };
        let entry = self.headers.index().entry(at);
        if entry.invalid {
            return Err(BlockError::Header(Refused::Invalid(id)));
        }
        if self.stored.contains(&at) {
            return Ok(Outcome::default());
        }
        if self.waiting.contains_key(&at) {
            // It may have been the storage that failed before.
            return self.advance();
        }
        self.headers.check_final(at)?;
        if !self.is_of_use(at) {
            return Err(BlockError::Unworthy(id));
        }
        if !block.is_whole() {
            return Err(BlockError::Mutated(id));
        }
        let body = Body::encoded(&block.transactions);
        let (found, most) = (block.header.to_bytes().len() + body.len(), self.rules.block_bytes);
        let why = match Body::<S::Tx>::from_bytes(&body) {
            _ if found > most => Some(InvalidBlock::TooLarge { found, most }),
            Err(why) => Some(InvalidBlock::Encoding(why)),
            Ok(_) => None,
        };
        if let Some(why) = why {
            self.give_up(at);
            return Ok(Outcome { invalid: vec![(id, why)], ..Outcome::default() });
        }
        drop(block);
        let body = self.room_for(at, body)?;
        self.waiting.insert(at, Waiting { body, complete: None });
        self.settle();
        self.advance()
    }

    /// The same of a block that this node itself has made: it is taken in however many headers of its height others have made,
    /// whose bodies may never come.
    ///
    /// # Errors
    /// As [`Chain::accept`].
    pub fn accept_own(&mut self, block: BlockOf<C, S>, now: u64) -> Result<Found<S>, BlockError> {
        self.headers.accept_own(&block.header, now)?;
        self.accept(block, now)
    }

    /// Goes over to the best complete branch, as long as there is a better one than where the state stands.
    fn advance(&mut self) -> Result<Found<S>, BlockError> {
        let mut found = Outcome::default();
        loop {
            let index = self.headers.index();
            let complete = self.waiting.iter().filter_map(|(at, one)| Some((*at, one.complete?)));
            let better = complete.filter(|(at, _)| index.entry(*at).work > self.tip().work);
            let best = better.max_by_key(|(at, since)| (index.entry(*at).work, Reverse(*since)));
            let Some((best, _)) = best else { return Ok(found) };
            match self.switch(best) {
                // Who has sent what is invalid is to be known nevertheless.
                Err(failure) if !found.invalid.is_empty() => {
                    found.failure = Some(failure);
                    return Ok(found);
                }
                Err(failure) => return Err(failure.into()),
                Ok(Ok((disconnected, connected))) => {
                    found.disconnected.extend(disconnected);
                    found.connected.extend(connected);
                }
                Ok(Err((at, why))) => {
                    found.invalid.push((self.headers.index().entry(at).id, why));
                    self.give_up(at);
                }
            }
        }
    }

    /// Gives up a block for ever, and all that follow it.
    fn give_up(&mut self, at: u32) {
        let index = self.headers.index();
        let there = self.waiting.iter().filter(|(_, one)| one.body.is_none());
        let there: Vec<(u32, BlockId)> = there.map(|(at, _)| (*at, index.entry(*at).id)).collect();
        self.headers.invalidate(at);
        // The last of them may have been forgotten, and their places will be those of others.
        let index = self.headers.index();
        let stays = |at: u32| index.get(at).is_some_and(|entry| !entry.invalid);
        self.waiting.retain(|at, _| stays(*at));
        let going = there.into_iter().filter(|(at, _)| !stays(*at));
        let batch: Batch =
            going.flat_map(|(_, id)| [BODY, WAITS].map(|what| (key(what, id), None))).collect();
        if !batch.is_empty() {
            // If this fails they lie there until the chain is opened the next time.
            let _ = self.store.commit(batch);
        }
    }

    /// Goes over to this block; or says which one on the way is invalid, and why.
    fn switch(&mut self, to: u32) -> Result<Switched<S>, StoreError> {
        let (down, up) = self.way(to);
        let index = self.headers.index();
        let mut view = View::new(&self.store);
        let mut batch = Batch::new();
        for at in &down {
            let key = key(UNDO, index.entry(*at).id);
            let undo = self.store.get(&key)?.and_then(|bytes| Undo::from_bytes(&bytes).ok());
            view.undo(undo.ok_or_else(|| lost("undo data", index.entry(*at).id))?);
        }
        let mut filter = None;
        for at in &up {
            let transactions = self.body(*at)?;
            let mut checks = Checks::default();
            let place = self.place_after(index.entry(*at).parent);
            let done = self.state.apply_block(&mut view, &place, &transactions, &mut checks);
            if let Some(failure) = view.failure() {
                return Err(failure);
            }
            if let Err(why) = done {
                return Ok(Err((*at, InvalidBlock::State(why))));
            }
            if !self.verifier.verify(&checks) {
                return Ok(Err((*at, InvalidBlock::Signature)));
            }
            let id = index.entry(*at).id;
            if let Some(one) = self.waiting.get(at) {
                match &one.body {
                    Some(body) => batch.insert(key(BODY, id), Some(body.clone())),
                    None => batch.insert(key(WAITS, id), None),
                };
                let entry = index.entry(*at);
                batch.insert(header_key(entry.height, id), Some(entry.header.to_bytes()));
            }
            batch.insert(key(UNDO, id), Some(view.take_undo().to_bytes()));
            filter = Some(self.make_filter(&mut batch, *at, &transactions, filter)?);
        }
        batch.insert(key(TIP, BlockId::NONE), Some(index.entry(to).id.0.to_bytes()));
        batch.append(&mut view.into_changes());
        let pruned = self.prune(&mut batch, self.tip().height - down.len() as u64, index.entry(to).height)?;
        let names = |way: &[u32]| way.iter().map(|at| index.entry(*at).id).collect();
        let switched = (names(&down), names(&up));
        self.store.commit(batch)?;
        for at in &up {
            self.waiting.remove(at);
            self.stored.insert(*at);
        }
        (self.tip, self.pruned) = (to, pruned);
        self.headers.stand_at(to);
        Ok(Ok(switched))
    }

    /// The blocks to be undone, the last one first, and to be done, the first one first, to get there.
    fn way(&self, to: u32) -> (Vec<u32>, Vec<u32>) {
        let index = self.headers.index();
        let (mut from, mut at, mut down, mut up) = (self.tip, to, Vec::new(), Vec::new());
        while from != at {
            if index.entry(from).height >= index.entry(at).height {
                down.push(from);
                from = index.entry(from).parent;
            } else {
                up.push(at);
                at = index.entry(at).parent;
            }
        }
        up.reverse();
        (down, up)
    }

    fn place_after(&self, at: u32) -> Place {
        let median_time = self.headers.with_past(at, |past| past.median_time());
        Place { height: self.headers.index().entry(at).height + 1, median_time }
    }

    /// A block that is or has been on the chain; `None` if there is no such, or it is not kept any more.
    ///
    /// # Errors
    /// The storage failed.
    pub fn block(&self, id: &BlockId) -> Result<Option<BlockOf<C, S>>, StoreError> {
        let at = self.headers.index().find(id).filter(|at| self.stored.contains(at));
        let Some(at) = at else { return Ok(None) };
        let Entry { header, height, .. } = self.headers.index().entry(at);
        if (1..=self.pruned).contains(height) {
            return Ok(None);
        }
        let header = header.clone();
        Ok(Some(Block { header, transactions: self.body(at)? }))
    }

    fn body(&self, at: u32) -> Result<Vec<S::Tx>, StoreError> {
        if at == GENESIS {
            return Ok(Vec::new());
        }
        let id = self.headers.index().entry(at).id;
        let read;
        let bytes = match self.waiting.get(&at).and_then(|one| one.body.as_ref()) {
            Some(bytes) => Some(bytes),
            None => {
                read = self.store.get(&key(BODY, id))?;
                read.as_ref()
            }
        };
        let body = bytes.and_then(|bytes| Body::from_bytes(bytes).ok());
        body.map(|body| body.0).ok_or_else(|| lost("body", id))
    }

    /// How many bodies wait for others, or for their branch to be the better one.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }
}

/// What was written with a block is not there any more.
fn lost(what: &str, id: BlockId) -> StoreError {
    StoreError(format!("the {what} of block {id} is not there: have the chain fetched anew"))
}
