//! Filter headers: what every server says of them, and what is believed.
//!
//! A filter's header commits to all filters before it, so a server that differs in one differs in all that follow: the first
//! block of which two servers say something else settles it, since a block of ours has one filter only. If nobody gives that
//! block, since all honest servers have pruned it perhaps, what is believed of it already stays, or else what most say is
//! believed. The others are overruled, and compared from the next block on by hashes alone, for their headers are others. They
//! may be right: where somebody gives a later block of which they say something else it is settled. But nobody waits for that,
//! since they may lie about every block that is gone; nor for longer than for anything else until a block comes.

use std::collections::VecDeque;

use p2p_core::{Cx, Key};
use p2p_overlay::Membership;

use super::servers::{Server, What};
use super::tasks::Task;
use super::{LightAsk, LightNode, MAX_FILTER_HASHES};
use crate::consensus::Consensus;
use crate::filter::Filter;
use crate::header::Header;
use crate::headers::{HeaderChain, Tip};
use crate::id::BlockId;
use crate::ledger::Change;
use crate::state::State;

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
    /// Once it said something else of a block that nobody gave: up to `agreed` it need not have said what is believed.
    overruled: bool,
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
    fn truncate(&mut self, height: u64) {
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
    fn of(&self, height: u64, belief: &Belief) -> Option<Key> {
        match height.checked_sub(self.agreed + 1) {
            None if self.overruled => None,
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
        self.agrees_to(height) && !self.overruled
    }

    pub(super) fn is_overruled(&self) -> bool {
        self.overruled
    }

    /// The chain has gone over to another branch, or what was believed was a lie.
    fn keep_to<C: Consensus>(&mut self, height: u64, chain: &HeaderChain<C>) {
        let is_off = self.on.is_some_and(|on| !chain.is_on_chain(&on));
        if self.agreed > height || is_off {
            (self.more, self.on, self.against) = (VecDeque::new(), None, None);
        }
        self.agreed = self.agreed.min(height);
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
    fn overrule(&mut self, height: u64) {
        if self.agreed + 1 == height && self.against.take().is_some() {
            (self.agreed, self.overruled) = (height, true);
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

    /// Whether a block is asked for of which those say different things that are waited for.
    fn is_held_up(&self) -> bool {
        let mut disputed = self.tasks.values().filter_map(Task::disputed);
        disputed.any(|height| self.differ(height, self.timely()))
    }

    /// What some of the servers say of a block.
    fn said_of<'a>(&self, height: u64, servers: impl Iterator<Item = (M::Peer, &'a Server)>) -> Vec<Key> {
        servers.filter_map(|(_, server)| server.said.of(height, &self.belief)).collect()
    }

    /// The first block of which one of these says something else than is believed.
    fn doubted<'a>(servers: impl Iterator<Item = (M::Peer, &'a Server)>) -> Option<u64> {
        let doubting = servers.filter(|(_, server)| server.said.against.is_some());
        doubting.map(|(_, server)| server.said.agreed + 1).min()
    }

    /// Believes what all servers say that are waited for and have the block, and where these say nothing yet what the others do;
    /// if they do not say the same, the block is asked for.
    pub(super) fn believe(&mut self, cx: &mut Cx<'_, Self>) {
        let index = self.chain.index();
        if let Some(last) = self.belief.believed.last().and_then(|(id, _)| index.find(id)) {
            self.belief.truncate(index.entry(index.fork(last)).height);
        }
        if !self.servers.is_empty() && self.servers.values().all(|server| server.said.overruled) {
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

    fn settle(&mut self, height: u64, id: BlockId, header: Key) {
        self.belief.push(id, header);
        self.servers.values_mut().for_each(|server| server.said.settle(height, header));
    }

    /// Asks for a block of which somebody says something else who is not waited for.
    pub(super) fn hear_the_others(&mut self, cx: &mut Cx<'_, Self>) {
        if let Some(height) = Self::doubted(self.live()) {
            self.doubt(cx, height);
        }
    }

    /// Asks for a block, now and then, and nobody waits for it.
    fn doubt(&mut self, cx: &mut Cx<'_, Self>, height: u64) {
        if self.doubts_again <= cx.now() && !self.tasks.values().any(|task| task.disputed().is_some()) {
            self.doubts_again = cx.now() + self.config.poll;
            self.dispute(cx, height);
        }
    }

    /// Nobody gives a block of which servers say different things.
    pub(super) fn undecided(&mut self, height: u64) {
        if !self.is_disputed(height) {
            return;
        }
        let said = self.said_of(height, self.live());
        let most = said.iter().rev().max_by_key(|one| said.iter().filter(|other| other == one).count());
        if let (Some(id), Some(header)) = (self.chain.at(height).map(Header::id), most.copied())
            && self.belief.height() + 1 == height
        {
            self.settle(height, id, header);
        }
        self.servers.values_mut().for_each(|server| server.said.overrule(height));
    }

    /// Whether those that answer still say different things of a block, or something else than is believed.
    pub(super) fn is_disputed(&self, height: u64) -> bool {
        self.differ(height, self.live())
    }

    fn differ<'a>(&self, height: u64, servers: impl Iterator<Item = (M::Peer, &'a Server)>) -> bool {
        let said = self.said_of(height, servers).into_iter();
        let mut all = said.chain(self.belief.at(height).map(|(_, header)| header));
        all.next().is_some_and(|first| all.any(|other| other != first))
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
        if previous != before && !server.said.overruled {
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

    /// What the filter header of a block is, now that the block is here.
    pub(super) fn truth(&mut self, cx: &mut Cx<'_, Self>, height: u64, header: Key) {
        let other = |server: &Server| server.said.of(height, &self.belief).is_some_and(|said| said != header);
        let liars = self.servers.iter().filter(|(_, server)| other(server));
        for peer in liars.map(|(peer, _)| *peer).collect::<Vec<_>>() {
            self.lied(cx, peer, "it names a filter that is not the block's");
        }
        if self.belief.at(height).is_some_and(|(_, believed)| believed != header) {
            self.belief.truncate(height - 1);
        }
        for server in self.servers.values_mut().filter(|server| server.said.agreed + 1 == height) {
            server.said.against = None;
        }
    }
}
