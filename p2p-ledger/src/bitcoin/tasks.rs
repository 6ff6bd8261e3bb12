//! What users want: one node after the other is asked, until one has answered.

use std::net::SocketAddr;

use p2p_core::{Cx, OpId, Time};
use p2p_overlay::Place;

use super::BitcoinClient;
use super::bloom::Bloom;
use super::codec::{BitcoinMsg, Inventory, NODE_BLOOM};
use super::merkle::MerkleBlock;
use super::request::{
    BitcoinCommand, BitcoinError, BitcoinOutcome, BitcoinStatus, HeaderAt, Matching, Prove, Proved,
};
use super::transaction::{BitcoinBlock, BitcoinTransaction};
use crate::header::Header;
use crate::id::{BlockId, TxId, put_reversed};

/// How many tasks there are.
const MOST: usize = 64;
/// How many of all other transactions a filter has. Fewer would tell more.
const ODDS: f64 = 0.001;

/// Something that is wanted.
#[derive(Debug)]
pub(super) struct Task {
    want: Want,
    /// Until when somebody has to answer.
    until: Time,
    /// Who was asked in vain.
    tried: Vec<SocketAddr>,
    /// By no filter: nobody wants one, or one has not found it, and only the whole block shows that it is not there.
    whole: bool,
}

#[derive(Debug)]
enum Want {
    Synced,
    Prove(Prove),
    Matching(Matching),
}

/// What a node was asked for.
#[derive(Debug)]
pub(super) struct Fetch {
    op: OpId,
    block: BlockId,
    until: Time,
    /// By a filter, what has come of it.
    filtered: Option<Filtered>,
}

#[derive(Debug, Default)]
struct Filtered {
    tree: Option<MerkleBlock>,
    /// What is still to come of what it shows.
    due: Vec<TxId>,
    came: Vec<BitcoinTransaction>,
}

impl Fetch {
    pub(super) fn op(&self) -> OpId {
        self.op
    }

    pub(super) fn until(&self) -> Time {
        self.until
    }
}

impl<P: Place> BitcoinClient<P> {
    pub(super) fn begin(&mut self, cx: &mut Cx<'_, Self>, op: OpId, command: BitcoinCommand) {
        let want = match command {
            BitcoinCommand::Status => {
                let nodes = self.nodes.iter().filter(|node| node.is_ready()).count();
                let status = BitcoinStatus { tip: self.chain.tip(), nodes, is_synced: self.is_synced() };
                return cx.finish(op, BitcoinOutcome::Status(status));
            }
            BitcoinCommand::Header(HeaderAt(height)) => {
                return cx.finish(op, BitcoinOutcome::Header(self.chain.at(height).copied()));
            }
            BitcoinCommand::Synced => Want::Synced,
            BitcoinCommand::Prove(prove) => Want::Prove(prove),
            BitcoinCommand::Matching(matching) => Want::Matching(matching),
        };
        let until = cx.now() + self.config.patience;
        self.tasks.insert(op, Task { want, until, tried: Vec::new(), whole: !self.config.filters });
        if self.tasks.len() > MOST {
            self.fail(cx, op, BitcoinError::Busy);
        }
    }

    /// Does for a task what can be done now.
    pub(super) fn step(&mut self, cx: &mut Cx<'_, Self>, op: OpId) {
        let Some(task) = self.tasks.get(&op) else { return };
        let (block, items) = match &task.want {
            Want::Synced if self.is_synced() => {
                self.tasks.remove(&op);
                return cx.finish(op, BitcoinOutcome::Synced(Ok(self.chain.tip())));
            }
            Want::Synced => {
                return if task.until <= cx.now() {
                    self.fail(cx, op, BitcoinError::NoNode)
                };
            }
            Want::Prove(Prove { block, transaction }) => {
                let mut id = Vec::with_capacity(32);
                put_reversed(&mut id, &transaction.0);
                (*block, vec![id])
            }
            Want::Matching(Matching { block, items }) => (*block, items.clone()),
        };
        if self.fetching(op) {
            return;
        }
        if !self.chain.is_on_chain(&block) {
            // It may yet come.
            return match self.is_synced() {
                true => self.fail(cx, op, BitcoinError::NotOnChain(block)),
                false if task.until <= cx.now() => self.fail(cx, op, BitcoinError::NoNode),
                false => {}
            };
        }
        let free = |filters: bool| {
            self.nodes.iter().position(|node| {
                let idle = node.ready().is_some_and(|link| link.fetch.is_none());
                let able = !filters || node.services() & NODE_BLOOM != 0;
                idle && able && !task.tried.contains(&node.addr)
            })
        };
        let free = free(!task.whole).or_else(|| free(false));
        let all_tried = self.nodes.iter().all(|node| node.lied.is_some() || task.tried.contains(&node.addr));
        match free {
            Some(free) => self.fetch(cx, op, free, block, &items),
            None if all_tried || task.until <= cx.now() => self.fail(cx, op, BitcoinError::NoNode),
            None => {}
        }
    }

    fn fetching(&self, op: OpId) -> bool {
        let of = |fetch: &Fetch| fetch.op == op;
        self.nodes.iter().any(|node| node.ready().is_some_and(|link| link.fetch.as_ref().is_some_and(of)))
    }

    fn fail(&mut self, cx: &mut Cx<'_, Self>, op: OpId, why: BitcoinError) {
        let Some(task) = self.tasks.remove(&op) else { return };
        cx.finish(
            op,
            match task.want {
                Want::Synced => BitcoinOutcome::Synced(Err(why)),
                Want::Prove(_) => BitcoinOutcome::Proved(Err(why)),
                Want::Matching(_) => BitcoinOutcome::Matched(Err(why)),
            },
        );
    }

    /// Asks a node for a block, or for what is in it about some items.
    fn fetch(&mut self, cx: &mut Cx<'_, Self>, op: OpId, at: usize, block: BlockId, items: &[Vec<u8>]) {
        let filters = self.nodes[at].services() & NODE_BLOOM != 0;
        let whole = !filters || self.tasks.get(&op).is_none_or(|task| task.whole);
        let until = cx.now() + self.config.timeout;
        let Some(link) = &mut self.nodes[at].link else { return };
        let (kind, filtered) = match whole {
            true => (Inventory::WITNESS_BLOCK, None),
            false => (Inventory::FILTERED_BLOCK, Some(Filtered::default())),
        };
        if filtered.is_some() {
            let tweak = cx.rng().next_u64() as u32;
            cx.send(link.peer, BitcoinMsg::FilterLoad(Bloom::new(items, ODDS, tweak)));
        }
        link.fetch = Some(Fetch { op, block, until, filtered });
        cx.send(link.peer, BitcoinMsg::GetData(vec![Inventory { kind, hash: block.0 }]));
    }

    /// A node could not be asked, or has not what it was asked for.
    pub(super) fn in_vain(&mut self, op: OpId, at: usize) {
        if let Some(task) = self.tasks.get_mut(&op) {
            task.tried.push(self.nodes[at].addr);
        }
    }

    pub(super) fn missing(&mut self, at: usize) {
        let fetch = self.nodes[at].link.as_mut().and_then(|link| link.fetch.take());
        if let Some(fetch) = fetch {
            self.in_vain(fetch.op, at);
        }
    }

    // ---- answers

    pub(super) fn block_came(&mut self, cx: &mut Cx<'_, Self>, at: usize, block: BitcoinBlock) {
        let Some(link) = &mut self.nodes[at].link else { return };
        let id = block.header.id();
        let Some(fetch) = link.fetch.take_if(|fetch| fetch.block == id && fetch.filtered.is_none()) else {
            return;
        };
        if !block.is_whole() {
            return self.lied(cx, at, "the transactions of a block are not those that its header commits to");
        }
        let BitcoinBlock { header, transactions } = block;
        let ids: Vec<TxId> = transactions.iter().map(BitcoinTransaction::id).collect();
        self.found(cx, (fetch.op, true), transactions, |id| MerkleBlock::new(header, &ids, |one| one == id));
    }

    pub(super) fn tree_came(&mut self, cx: &mut Cx<'_, Self>, at: usize, tree: MerkleBlock) {
        let Some(link) = &mut self.nodes[at].link else { return };
        let id = tree.header.id();
        let Some(fetch) = link.fetch.as_mut().filter(|fetch| fetch.block == id) else { return };
        let Some(filtered) = fetch.filtered.as_mut().filter(|filtered| filtered.tree.is_none()) else {
            return;
        };
        match tree.shown() {
            Ok(shown) => (filtered.tree, filtered.due) = (Some(tree), shown),
            Err(broken) => return self.lied(cx, at, &broken.to_string()),
        }
        self.filtered(cx, at);
    }

    pub(super) fn transaction_came(&mut self, cx: &mut Cx<'_, Self>, at: usize, one: BitcoinTransaction) {
        let Some(link) = &mut self.nodes[at].link else { return };
        let Some(filtered) = link.fetch.as_mut().and_then(|fetch| fetch.filtered.as_mut()) else { return };
        let id = one.id();
        if let Some(due) = filtered.due.iter().position(|due| *due == id) {
            filtered.due.remove(due);
            filtered.came.push(one);
            self.filtered(cx, at);
        }
    }

    /// Whether all that a tree shows has come.
    fn filtered(&mut self, cx: &mut Cx<'_, Self>, at: usize) {
        let is_whole = |fetch: &mut Fetch| {
            fetch.filtered.as_ref().is_some_and(|filtered| filtered.tree.is_some() && filtered.due.is_empty())
        };
        let fetch = self.nodes[at].link.as_mut().and_then(|link| link.fetch.take_if(is_whole));
        if let Some(Fetch { op, filtered: Some(Filtered { tree, came, .. }), .. }) = fetch {
            self.found(cx, (op, false), came, |_| tree);
        }
    }

    /// These are the transactions of the block that may be meant, all that it has or what a filter has; and what shows that
    /// one of them is in it.
    fn found(
        &mut self,
        cx: &mut Cx<'_, Self>,
        (op, all): (OpId, bool),
        transactions: Vec<BitcoinTransaction>,
        proof: impl FnOnce(&TxId) -> Option<MerkleBlock>,
    ) {
        let Some(task) = self.tasks.get_mut(&op) else { return };
        let (block, outcome) = match &task.want {
            Want::Synced => return,
            Want::Matching(Matching { block, items }) => {
                let about = transactions.into_iter().filter(|one| one.is_about(items)).collect();
                (*block, BitcoinOutcome::Matched(Ok(about)))
            }
            Want::Prove(Prove { block, transaction: id }) => {
                let found = transactions.into_iter().find(|one| one.id() == *id);
                if found.is_none() && !all {
                    // Whoever was asked may have kept it to himself.
                    (task.whole, task.tried) = (true, Vec::new());
                    return;
                }
                let place = self.chain.place(block);
                let proved = found.zip(proof(id)).zip(place).map(|((transaction, proof), place)| Proved {
                    transaction,
                    height: place.height,
                    confirmations: self.chain.tip().height.saturating_sub(place.height) + 1,
                    proof,
                });
                (*block, BitcoinOutcome::Proved(Ok(proved)))
            }
        };
        match self.chain.is_on_chain(&block) {
            true => {
                self.tasks.remove(&op);
                cx.finish(op, outcome);
            }
            // It was undone meanwhile.
            false => self.fail(cx, op, BitcoinError::NotOnChain(block)),
        }
    }
}
