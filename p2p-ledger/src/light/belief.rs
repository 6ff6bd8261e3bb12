//! Filter headers: what every server says of them, and what is believed.
//!
//! A filter's header commits to all filters before it, so a server that differs in one differs in all that follow: the first
//! block of which two servers say something else settles it (`dispute`), since a block of ours has one filter only. If nobody
//! gives that block, since all honest servers have pruned it perhaps, some are overruled. They are compared from the next block
//! on by hashes alone, for their headers are others, and nobody waits for them, since they may lie about every block that is gone.
//! But they may be right: what they said is remembered, and once somebody gives the block, or a later one of which they say
//! something else, it is settled.

use p2p_core::{Cx, Key};
use p2p_overlay::Membership;

use super::servers::{Server, What};
use super::{LightAsk, LightNode, MAX_FILTER_HASHES};
use crate::consensus::Consensus;
use crate::filter::{Filter, FilterHeaders, Said};
use crate::header::Header;
use crate::headers::{HeaderChain, Tip};
use crate::id::BlockId;
use crate::ledger::Change;
use crate::state::State;

/// The filter headers that are believed, and what users are to be told of that.
#[derive(Debug)]
pub(super) struct Belief {
    /// Of each block of the chain. The first block's is known.
    headers: FilterHeaders,
    /// What has changed since users were told.
    disconnected: Vec<BlockId>,
    connected: Vec<BlockId>,
}

impl Belief {
    /// The first block's, which is empty.
    pub(super) fn new<C: Consensus, S: State>(chain: &HeaderChain<C>) -> Belief {
        let id = chain.at(0).map_or(BlockId::NONE, Header::id);
        let header = Filter::of::<S::Tx>(&id, &[]).header(&Key::ZERO);
        let headers = FilterHeaders::new(0, id, header);
        Belief { headers, disconnected: Vec::new(), connected: Vec::new() }
    }

    /// The headers alone.
    pub(super) fn headers(&self) -> &FilterHeaders {
        &self.headers
    }

    /// The height of the last block whose filter header is believed.
    pub(super) fn height(&self) -> u64 {
        self.headers.height()
    }

    /// A block's name, and its filter's header.
    pub(super) fn at(&self, height: u64) -> Option<(BlockId, Key)> {
        self.headers.at(height)
    }

    pub(super) fn tip<C: Consensus>(&self, chain: &HeaderChain<C>) -> Tip {
        chain.place(&self.headers.last()).unwrap_or_else(|| chain.tip())
    }

    fn push(&mut self, id: BlockId, header: Key) {
        self.headers.push(id, header);
        self.connected.push(id);
    }

    /// Believes nothing above a height any more.
    pub(super) fn truncate(&mut self, height: u64) {
        while let Some(id) = self.headers.pop_above(height) {
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
        if let Some(last) = index.find(&self.belief.headers.last()) {
            self.belief.truncate(index.entry(index.fork(last)).height);
        }
        if !self.servers.is_empty() && self.servers.values().all(|server| server.said.is_overruled()) {
            // Nobody is left who has said what is believed.
            self.belief.truncate(0);
            self.servers.values_mut().for_each(|server| server.said = Said::from(0));
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
            let is_asked = self.open_of(*peer, |what| matches!(what, What::FilterHashes { .. })) > 0;
            !is_asked && server.said.is_due(self.reach(server))
        });
        let due = due.filter_map(|(peer, server)| {
            let from = server.said.agreed() + 1;
            let to = self.reach(server).min(server.said.agreed() + MAX_FILTER_HASHES as u64);
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
        if !self.chain.is_on_chain(&to) || server.said.agreed() + 1 != from {
            return;
        }
        if hashes.len() as u64 != place.height + 1 - from {
            return self.strayed(cx, of);
        }
        if previous != before && !server.said.is_overruled() {
            return self.lied(cx, of, "it says something else of filters than before");
        }
        server.withholds = false;
        server.said.hear(hashes, to, &self.belief.headers);
    }
}
