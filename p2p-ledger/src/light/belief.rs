//! Filter headers: what every server says of them, and what is believed.
//!
//! A filter's header commits to all filters before it, so a server that differs in one differs in all that follow: the first
//! block of which two servers say something else settles it (`dispute`), since a block of ours has one filter only. If nobody
//! gives that block, since all honest servers have pruned it perhaps, some are overruled. They are compared from the next block
//! on by hashes alone, for their headers are others, and nobody waits for them, since they may lie about every block that is gone.
//! But they may be right: what they said is remembered, and once somebody gives the block, or a later one of which they say
//! something else, it is settled.

use std::collections::{BTreeMap, VecDeque};

use p2p_core::{Cx, Key};
use p2p_overlay::Membership;

use super::servers::{Server, What};
use super::{LightAsk, LightNode, MAX_FILTER_HASHES};
use crate::consensus::Consensus;
use crate::filter::Filter;
use crate::header::Header;
use crate::headers::{HeaderChain, Tip};
use crate::id::BlockId;
use crate::ledger::Change;
use crate::state::State;

/// Of how many blocks it is remembered what a server has said that was overruled.
const MOST_CLAIMS: usize = 8;

/// The filter headers that are believed.
#[derive(Debug)]
pub(super) struct Belief {
    /// Of each block of the chain, by its height: its name, and its filter's header. The first block's is known.
    believed: Vec<(BlockId, Key)>,
    /// What has changed since users were told.
    disconnected: Vec<BlockId>,
    connected: Vec<BlockId>,
}

/// What a server says of filters.
#[derive(Debug, Default)]
pub(super) struct Said {
    /// Up to which height it says what is believed.
    agreed: u64,
    /// The filter headers of the blocks after that, as long as none of them is believed.
    more: VecDeque<Key>,
    /// A block on the branch that those are for.
    on: Option<BlockId>,
    /// It says this of the block after `agreed`, where something else is believed.
    against: Option<Key>,
    /// The first block that nobody gave and of which it said something else: from there up to `agreed` it need not have said what
    /// is believed.
    overruled: Option<u64>,
    /// What it said of such blocks; of the highest of them, which are the likeliest to be still there.
    claims: BTreeMap<u64, Key>,
}

impl Belief {
    /// The first block's, which is empty.
    pub(super) fn new<C: Consensus, S: State>(chain: &HeaderChain<C>) -> Belief {
        let id = chain.at(0).map_or(BlockId::NONE, Header::id);
        let header = Filter::of::<S::Tx>(&id, &[]).header(&Key::ZERO);
        Belief { believed: vec![(id, header)], disconnected: Vec::new(), connected: Vec::new() }
    }

    /// The height of the last block whose filter header is believed.
    pub(super) fn height(&self) -> u64 {
        self.believed.len() as u64 - 1
    }

    /// A block's name, and its filter's header.
    pub(super) fn at(&self, height: u64) -> Option<(BlockId, Key)> {
        self.believed.get(usize::try_from(height).ok()?).copied()
    }

    pub(super) fn tip<C: Consensus>(&self, chain: &HeaderChain<C>) -> Tip {
        let last = self.believed.last().and_then(|(id, _)| chain.place(id));
        last.unwrap_or_else(|| chain.tip())
    }

    fn push(&mut self, id: BlockId, header: Key) {
        self.believed.push((id, header));
        self.connected.push(id);
    }

    /// Believes nothing above a height any more.
    pub(super) fn truncate(&mut self, height: u64) {
        while self.height() > height
            && let Some((id, _)) = self.believed.pop()
        {
            if self.connected.pop().is_none() {
                self.disconnected.push(id);
            }
        }
    }

    /// What users are to be told.
    pub(super) fn take_change<C: Consensus>(&mut self, chain: &HeaderChain<C>) -> Option<Change> {
        if self.connected.is_empty() && self.disconnected.is_empty() {
            return None;
        }
        let (disconnected, connected) =
            (std::mem::take(&mut self.disconnected), std::mem::take(&mut self.connected));
        Some(Change { tip: self.tip(chain), disconnected, connected })
    }
}

impl Said {
    /// What it says of the block at a height, as far as it has said something.
    pub(super) fn of(&self, height: u64, belief: &Belief) -> Option<Key> {
        match height.checked_sub(self.agreed + 1) {
            None if self.overruled.is_some_and(|from| from <= height) => self.claims.get(&height).copied(),
            None => belief.at(height).map(|(_, header)| header),
            Some(0) if self.against.is_some() => self.against,
            Some(above) => self.more.get(above as usize).copied(),
        }
    }

    /// Up to which height it has said something.
    pub(super) fn height(&self) -> u64 {
        self.agreed + self.more.len() as u64
    }

    /// Whether it has said the same up to this height, or was overruled.
    fn agrees_to(&self, height: u64) -> bool {
        self.agreed >= height
    }

    /// Whether it has itself said what is believed of this block.
    pub(super) fn stands_by(&self, height: u64) -> bool {
        self.agrees_to(height) && self.overruled.is_none_or(|from| height < from)
    }

    pub(super) fn is_overruled(&self) -> bool {
        self.overruled.is_some()
    }

    /// The next block, if it says something else of it than is believed.
    pub(super) fn doubts(&self) -> Option<u64> {
        self.against.map(|_| self.agreed + 1)
    }

    /// The blocks of which it is remembered what it said before it was overruled.
    pub(super) fn claimed(&self) -> impl Iterator<Item = u64> {
        self.claims.keys().copied()
    }

    /// The chain has gone over to another branch, or what was believed was a lie.
    fn keep_to<C: Consensus>(&mut self, height: u64, chain: &HeaderChain<C>) {
        let is_off = self.on.is_some_and(|on| !chain.is_on_chain(&on));
        if self.agreed > height || is_off {
            (self.more, self.on, self.against) = (VecDeque::new(), None, None);
        }
        self.agreed = self.agreed.min(height);
        self.overruled = self.overruled.filter(|from| *from <= height);
        self.claims.retain(|at, _| *at <= height);
    }

    /// The next one is believed.
    fn settle(&mut self, height: u64, header: Key) {
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
    pub(super) fn overrule(&mut self, height: u64) {
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
    pub(super) fn ask_again(&mut self, height: u64) {
        if self.agreed + 1 == height {
            self.against = None;
        }
    }
}

impl<M: Membership, C: Consensus, S: State> LightNode<M, C, S> {
    /// Up to which height the chain is a server's, too.
    pub(super) fn reach(&self, server: &Server) -> u64 {
        let index = self.chain.index();
        let shown = server.shown.and_then(|id| index.find(&id));
        shown.map_or(0, |at| index.entry(index.fork(at)).height)
    }

    /// Whether the servers that answer in time have shown all that they have, and agree.
    pub(super) fn is_ready(&self) -> bool {
        let has_said = |server: &Server| server.is_done && server.said.agrees_to(self.reach(server));
        self.timely().next().is_some()
            && self.timely().all(|(_, server)| has_said(server))
            && !self.is_held_up()
    }

    /// Believes what all servers say that are waited for and have the block, and where these say nothing yet what the others do;
    /// if they do not say the same, the block is asked for.
    pub(super) fn believe(&mut self, cx: &mut Cx<'_, Self>) {
        let index = self.chain.index();
        if let Some(last) = self.belief.believed.last().and_then(|(id, _)| index.find(id)) {
            self.belief.truncate(index.entry(index.fork(last)).height);
        }
        if !self.servers.is_empty() && self.servers.values().all(|server| server.said.is_overruled()) {
            // Nobody is left who has said what is believed.
            self.belief.truncate(0);
            self.servers.values_mut().for_each(|server| server.said = Said::default());
        }
        let (height, chain) = (self.belief.height(), &self.chain);
        self.servers.values_mut().for_each(|server| server.said.keep_to(height, chain));
        while !self.is_held_up() {
            if let Some(height) = Self::doubted(self.timely()) {
                return self.dispute(cx, height);
            }
            // Somebody has not even shown what it has.
            if self.timely().any(|(_, server)| !server.is_done) {
                return;
            }
            let next = self.belief.height() + 1;
            let Some(id) = self.chain.at(next).map(Header::id) else { return };
            // Somebody has not answered yet.
            if self.timely().any(|(_, server)| self.reach(server) >= next && server.said.height() < next) {
                return;
            }
            let mut said = self.said_of(next, self.timely());
            let is_waited_for = !said.is_empty();
            if !is_waited_for {
                said = self.said_of(next, self.live());
            }
            let Some(first) = said.first().copied() else { return };
            if said.iter().any(|other| *other != first) {
                return match is_waited_for {
                    true => self.dispute(cx, next),
                    false => self.doubt(cx, next),
                };
            }
            self.settle(next, id, first);
        }
    }

    pub(super) fn settle(&mut self, height: u64, id: BlockId, header: Key) {
        self.belief.push(id, header);
        self.servers.values_mut().for_each(|server| server.said.settle(height, header));
    }

    /// Asks every server for what it has not said.
    pub(super) fn ask_filter_hashes(&mut self, cx: &mut Cx<'_, Self>) {
        let due = self.live().filter(|(peer, server)| {
            let Said { more, against, .. } = &server.said;
            let is_asked = self.open_of(*peer, |what| matches!(what, What::FilterHashes { .. })) > 0;
            !is_asked && more.is_empty() && against.is_none() && self.reach(server) > server.said.agreed
        });
        let due = due.filter_map(|(peer, server)| {
            let from = server.said.agreed + 1;
            let to = self.reach(server).min(server.said.agreed + MAX_FILTER_HASHES as u64);
            Some((peer, from, self.chain.at(to)?.id()))
        });
        for (peer, from, to) in due.collect::<Vec<_>>() {
            self.ask(cx, peer, LightAsk::FilterHashes { from, to }, What::FilterHashes { from, to });
        }
    }

    pub(super) fn filter_hashes_came(
        &mut self,
        cx: &mut Cx<'_, Self>,
        of: M::Peer,
        (from, to): (u64, BlockId),
        previous: Key,
        hashes: &[Key],
    ) {
        let Some(server) = self.servers.get_mut(&of) else { return };
        let (Some(place), Some((_, before))) = (self.chain.place(&to), self.belief.at(from - 1)) else {
            return;
        };
        // The chain has gone another way since.
        if !self.chain.is_on_chain(&to) || server.said.agreed + 1 != from {
            return;
        }
        if hashes.len() as u64 != place.height + 1 - from {
            return self.strayed(cx, of);
        }
        if previous != before && !server.said.is_overruled() {
            return self.lied(cx, of, "it says something else of filters than before");
        }
        (server.said.on, server.withholds) = (Some(to), false);
        let mut header = before;
        for hash in hashes {
            header = Filter::header_of(hash, &header);
            match self.belief.at(server.said.agreed + 1) {
                None => server.said.more.push_back(header),
                Some((_, believed)) if believed == header => server.said.agreed += 1,
                Some(_) => {
                    server.said.against = Some(header);
                    break;
                }
            }
        }
    }
}
