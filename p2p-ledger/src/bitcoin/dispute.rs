//! A block of which nodes name several filters is fetched, and then it is known whose is a lie, as far as a block shows that (BIP
//! 157, "Client Operation").
//!
//! All that are heard are asked for the block, and for the filter that they have named. A block does not hold all that its filter
//! does: of what it spends of other blocks the scripts are there. So a filter is a lie if it has not all scripts that the block pays
//! to, or more items than it may have, or, of a block that spends nothing of others, if it is not the one that follows from it; who
//! names it has lied. Where several are left what is believed already stays, or else what most nodes say is believed; where as many
//! say one thing as another, the lot decides. The others are overruled, and whoever scans looks at that block itself: so nobody can
//! hide in it what it pays. Who is overruled more than 8 times is not heard any more.

use std::collections::{BTreeMap, BTreeSet};

use p2p_core::{Cx, Key, Time};
use p2p_overlay::Place;

use super::BitcoinClient;
use super::codec::{BitcoinMsg, FilterRange, Inventory};
use super::transaction::{BitcoinBlock, BitcoinTransaction};
use crate::filter::Filter;
use crate::header::Header;
use crate::id::{BlockId, TxId};

/// How often a node may be overruled.
const MOST_OVERRULED: u32 = 8;
/// What outputs begin with that nobody can spend.
const RETURN: u8 = 0x6a;

/// A block of which nodes name several filters.
#[derive(Debug)]
pub(super) struct Dispute {
    height: u64,
    id: BlockId,
    /// Until when everybody has to show what it has named.
    until: Time,
    block: Option<BitcoinBlock>,
    /// Who was asked, and the filter that it has shown.
    shown: BTreeMap<usize, Option<Filter>>,
}

impl<P: Place> BitcoinClient<P> {
    pub(super) fn dispute(&mut self, cx: &Cx<'_, Self>, height: u64) {
        let Some(id) = self.chain.at(height).map(Header::id) else { return };
        let until = cx.now() + self.config.timeout;
        self.filters.dispute = Some(Dispute { height, id, until, block: None, shown: BTreeMap::new() });
    }

    /// Asks for what is needed to settle it; whether it is over.
    pub(super) fn settle_dispute(&mut self, cx: &mut Cx<'_, Self>) -> bool {
        let Some(dispute) = self.filters.dispute.take() else { return false };
        let named = self.named(dispute.height);
        let believed = self.filters.headers.at(dispute.height).map(|(_, header)| header);
        let said: BTreeSet<Key> = named.iter().map(|(_, header)| *header).chain(believed).collect();
        if !self.chain.is_on_chain(&dispute.id) || said.len() < 2 {
            return true;
        }
        let dispute = self.ask_disputed(cx, dispute, &named);
        let has_shown = |at: &usize| dispute.shown.get(at).is_some_and(Option::is_some);
        let silent: Vec<usize> = named.iter().map(|(at, _)| *at).filter(|at| !has_shown(at)).collect();
        match dispute.block {
            Some(block) if silent.is_empty() => {
                self.judge(cx, dispute.height, &block, &dispute.shown, &named);
            }
            _ if dispute.until <= cx.now() => {
                silent.into_iter().for_each(|at| self.nodes[at].is_mute = true);
            }
            block => {
                self.filters.dispute = Some(Dispute { block, ..dispute });
                return false;
            }
        }
        true
    }

    /// What those that are heard say of a block's filter header.
    fn named(&self, height: u64) -> Vec<(usize, Key)> {
        let headers = &self.filters.headers;
        self.heard().filter_map(|(at, node)| Some((at, node.said.of(height, headers)?))).collect()
    }

    fn ask_disputed(
        &mut self,
        cx: &mut Cx<'_, Self>,
        mut dispute: Dispute,
        named: &[(usize, Key)],
    ) -> Dispute {
        for (at, _) in named {
            let Some(link) = self.nodes[*at].link.as_ref().filter(|_| !dispute.shown.contains_key(at)) else {
                continue;
            };
            let start = u32::try_from(dispute.height).unwrap_or(u32::MAX);
            let block = Inventory { kind: Inventory::BLOCK, hash: dispute.id.0 };
            cx.send(link.peer, BitcoinMsg::GetCFilters(FilterRange { start, stop: dispute.id }));
            cx.send(link.peer, BitcoinMsg::GetData(vec![block]));
            dispute.shown.insert(*at, None);
            dispute.until = cx.now() + self.config.timeout;
        }
        dispute
    }

    /// Whether this is the block that a dispute is about, and is still to come.
    pub(super) fn is_disputed(&self, id: &BlockId) -> bool {
        self.filters.dispute.as_ref().is_some_and(|dispute| dispute.id == *id && dispute.block.is_none())
    }

    /// The block has come, whole.
    pub(super) fn disputed_block_came(&mut self, block: &BitcoinBlock) {
        if let Some(dispute) = &mut self.filters.dispute {
            dispute.block = Some(block.clone());
        }
    }

    /// A filter has come: of the block, perhaps.
    pub(super) fn disputed_filter_came(
        &mut self,
        cx: &mut Cx<'_, Self>,
        at: usize,
        id: BlockId,
        bytes: &[u8],
    ) {
        let Some(dispute) = self.filters.dispute.as_mut().filter(|dispute| dispute.id == id) else { return };
        let headers = &self.filters.headers;
        let named = self.nodes[at].said.of(dispute.height, headers);
        let before = dispute.height.checked_sub(1).and_then(|before| headers.at(before));
        let (Some(None), Some(named), Some((_, before))) = (dispute.shown.get(&at), named, before) else {
            return;
        };
        let filter = Filter::from_bytes(bytes.to_vec()).ok();
        match filter.filter(|filter| filter.header(&before) == named) {
            Some(filter) => _ = dispute.shown.insert(at, Some(filter)),
            None => self.lied(cx, at, "it gives another filter than it has named"),
        }
    }

    /// A connection has ended: what its node has named it does not show.
    pub(super) fn leaves_dispute(&mut self, at: usize) {
        let shown = self.filters.dispute.as_ref().and_then(|dispute| dispute.shown.get(&at));
        self.nodes[at].is_mute |= matches!(shown, Some(None));
    }

    /// The block is here, and all filters that were named.
    fn judge(
        &mut self,
        cx: &mut Cx<'_, Self>,
        height: u64,
        block: &BitcoinBlock,
        shown: &BTreeMap<usize, Option<Filter>>,
        named: &[(usize, Key)],
    ) {
        let allowed = Allowed::by(block);
        let is_allowed = |at: &usize| matches!(shown.get(at), Some(Some(filter)) if allowed.allows(filter));
        let (honest, liars): (Vec<_>, Vec<_>) = named.iter().copied().partition(|(at, _)| is_allowed(at));
        for (at, _) in liars {
            self.lied(cx, at, "it names a filter that is not the block's");
        }
        let mut votes: BTreeMap<Key, usize> = BTreeMap::new();
        honest.iter().for_each(|(_, header)| *votes.entry(*header).or_default() += 1);
        match self.filters.headers.at(height) {
            Some((_, believed)) if votes.contains_key(&believed) => {}
            Some(_) => {
                // All say anew what follows, and nothing of it is believed.
                self.disbelieve_above(height - 1);
                self.nodes.iter_mut().for_each(|node| node.said.ask_again(height));
                return;
            }
            None => {
                let most = votes.values().max();
                let winners = votes.iter().filter(|(_, count)| Some(*count) == most);
                let winners: Vec<Key> = winners.map(|(header, _)| *header).collect();
                let Some(winner) = cx.rng().choose(&winners).copied() else { return };
                self.settle(height, block.header.id(), winner);
            }
        }
        if votes.len() > 1 {
            self.filters.doubtful.insert(height);
        }
        for node in &mut self.nodes {
            if node.said.doubts() == Some(height) {
                node.said.overrule(height);
                node.overruled += 1;
                node.is_mute |= node.overruled > MOST_OVERRULED;
            }
        }
    }
}

/// What a block says of its filter.
struct Allowed<'a> {
    key: [u8; 16],
    /// What it pays to: all of it is in the filter.
    scripts: BTreeSet<&'a [u8]>,
    /// How many outputs of other blocks it spends, whose scripts are in the filter as well.
    unseen: usize,
}

impl<'a> Allowed<'a> {
    fn by(block: &'a BitcoinBlock) -> Allowed<'a> {
        let ids: BTreeSet<TxId> = block.transactions.iter().map(BitcoinTransaction::id).collect();
        let outputs = block.transactions.iter().flat_map(|one| &one.outputs);
        let scripts = outputs.map(|output| &output.script[..]);
        let scripts = scripts.filter(|script| script.first().is_some_and(|first| *first != RETURN));
        let spending = block.transactions.iter().filter(|one| !one.is_coinbase());
        let spent = spending.flat_map(|one| &one.inputs).map(|input| input.previous.id);
        let unseen = spent.filter(|id| !ids.contains(id)).count();
        Allowed { key: Filter::key(&block.header.id()), scripts: scripts.collect(), unseen }
    }

    /// Whether a filter may be the block's.
    fn allows(&self, filter: &Filter) -> bool {
        let scripts = self.scripts.iter().copied();
        if self.unseen == 0 {
            return *filter == Filter::new(&self.key, scripts);
        }
        let fewest = self.scripts.len();
        (fewest..=fewest + self.unseen).contains(&filter.len()) && filter.has_all(&self.key, scripts)
    }
}
