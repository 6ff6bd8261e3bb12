//! What users want: one node after the other is asked, until one has answered.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use p2p_core::{Cx, OpId, Time};
use p2p_overlay::Place;

use super::BitcoinClient;
use super::bloom::Bloom;
use super::codec::{BitcoinMsg, Inventory, MAX_HEADERS, NODE_BLOOM};
use super::merkle::MerkleBlock;
use super::nodes::Node;
use super::request::{
    BitcoinCommand, BitcoinError, BitcoinOutcome, BitcoinStatus, HeaderAt, HeadersAfter, Matching, Prove,
    Proved, Scan,
};
use super::transaction::{BitcoinBlock, BitcoinTransaction};
use crate::header::Header;
use crate::id::{BlockId, TxId, put_reversed};
use crate::ledger::Mark;

/// How many tasks there are.
const MOST: usize = 64;
/// How many of all other transactions a filter has. Fewer would tell more.
const ODDS: f64 = 0.001;
/// How soon all nodes are asked again that were asked in vain.
pub(super) const PAUSE: Duration = Duration::from_secs(5);

/// Something that is wanted.
#[derive(Debug)]
pub(super) struct Task {
    pub(super) want: Want,
    /// What is looked for in a block, or by its filter.
    pub(super) items: Arc<BTreeSet<Vec<u8>>>,
    /// Until when somebody has to answer.
    pub(super) until: Time,
    /// When somebody is asked.
    pub(super) next: Time,
    /// Who was asked in vain.
    pub(super) tried: Vec<SocketAddr>,
    /// By no filter: nobody wants one, or one has not found it, and only the whole block shows that it is not there.
    whole: bool,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Want {
    Synced,
    Prove(Prove),
    Matching(BlockId),
    Scan {
        after: Mark,
        /// How far it has come.
        at: Mark,
        /// The block after that may be it.
        found: bool,
    },
}

impl Task {
    /// Something has come of it: more may come until then.
    pub(super) fn gets_on(&mut self, until: Time) {
        self.until = until;
        self.tried.clear();
    }
}

/// What a node was asked for.
#[derive(Debug)]
pub(super) struct Fetch {
    pub(super) op: OpId,
    /// The block, or the last of those whose filters were asked for.
    pub(super) block: BlockId,
    pub(super) until: Time,
    pub(super) parts: Parts,
}

/// What of blocks a node was asked for.
#[derive(Debug)]
pub(super) enum Parts {
    Whole,
    /// What a Bloom filter finds, and what has come of it.
    Filtered(Filtered),
    /// The filters of some blocks, which come one by one.
    Filters,
}

#[derive(Debug, Default)]
pub(super) struct Filtered {
    tree: Option<MerkleBlock>,
    /// What is still to come of what it shows.
    due: BTreeSet<TxId>,
    came: Vec<BitcoinTransaction>,
}

impl Fetch {
    pub(super) fn until(&self) -> Time {
        self.until
    }

    fn filtered(&mut self) -> Option<&mut Filtered> {
        match &mut self.parts {
            Parts::Filtered(filtered) => Some(filtered),
            Parts::Whole | Parts::Filters => None,
        }
    }
}

impl<P: Place> BitcoinClient<P> {
    pub(super) fn begin(&mut self, cx: &mut Cx<'_, Self>, op: OpId, command: BitcoinCommand) {
        let (want, items) = match command {
            BitcoinCommand::Status => {
                let nodes = self.nodes.iter().filter(|node| node.is_ready()).count();
                let status = BitcoinStatus { tip: self.chain.tip(), nodes, is_synced: self.is_synced() };
                return cx.finish(op, BitcoinOutcome::Status(status));
            }
            BitcoinCommand::Header(HeaderAt(height)) => {
                return cx.finish(op, BitcoinOutcome::Header(self.chain.at(height).copied()));
            }
            BitcoinCommand::Headers(HeadersAfter(known)) => {
                let headers = self.chain.after(&known, MAX_HEADERS);
                return cx.finish(op, BitcoinOutcome::Headers(headers));
            }
            BitcoinCommand::Synced => (Want::Synced, BTreeSet::new()),
            BitcoinCommand::Prove(prove) => {
                let mut id = Vec::with_capacity(32);
                put_reversed(&mut id, &prove.transaction.0);
                (Want::Prove(prove), BTreeSet::from([id]))
            }
            BitcoinCommand::Matching(Matching { block, items }) => {
                (Want::Matching(block), items.into_iter().collect())
            }
            BitcoinCommand::Scan(Scan { after, scripts }) => {
                (Want::Scan { after, at: after, found: false }, scripts.into_iter().collect())
            }
        };
        let (items, until, whole) = (Arc::new(items), cx.now() + self.config.patience, !self.config.filters);
        self.tasks.insert(op, Task { want, items, until, next: Time::ZERO, tried: Vec::new(), whole });
        if self.tasks.len() > MOST {
            self.fail(cx, op, BitcoinError::Busy);
        }
    }

    /// The chain grows, or a node shows more: what is waited for may yet come.
    pub(super) fn be_patient(&mut self, now: Time) {
        self.tasks.values_mut().for_each(|task| task.until = now + self.config.patience);
    }

    /// Does for a task what can be done now.
    pub(super) fn step(&mut self, cx: &mut Cx<'_, Self>, op: OpId) {
        if self.fetching(op) {
            return;
        }
        let (now, synced) = (cx.now(), self.is_synced());
        let Some(task) = self.tasks.get_mut(&op) else { return };
        let block = match task.want {
            Want::Prove(Prove { block, .. }) | Want::Matching(block) => self.chain.place(&block),
            Want::Synced if synced => {
                self.tasks.remove(&op);
                return cx.finish(op, BitcoinOutcome::Synced(Ok(self.chain.tip())));
            }
            Want::Synced => None,
            Want::Scan { .. } => return self.scan_on(cx, op),
        };
        let is_late = task.until <= now || self.nodes.iter().all(Node::is_hopeless);
        match (block.filter(|block| self.chain.is_on_chain(&block.id)), task.want) {
            (None, Want::Prove(Prove { block, .. }) | Want::Matching(block)) if synced => {
                self.fail(cx, op, BitcoinError::NotOnChain(block));
            }
            _ if is_late => {
                let has_shown_all = |node: &Node<P>| node.ready().is_some_and(|link| link.is_done);
                let is_low = !self.chain.has_enough_work() && self.nodes.iter().any(has_shown_all);
                self.fail(cx, op, if is_low { BitcoinError::LowWork } else { BitcoinError::NoNode });
            }
            (Some(block), _) if task.next <= now => {
                let (items, whole) = (task.items.clone(), task.whole);
                match self.best_for(op, block.height) {
                    Some(at) => self.fetch(cx, op, at, block.id, &items, whole),
                    None => self.pause(cx, op),
                }
            }
            // It may yet come.
            _ => {}
        }
    }

    /// Who is asked next: who takes filters, if they are wanted; who has shown the block; who has not kept others back.
    fn best_for(&self, op: OpId, height: u64) -> Option<usize> {
        let task = self.tasks.get(&op)?;
        let free = self.nodes.iter().enumerate().filter_map(|(at, node)| {
            let link =
                node.ready().filter(|link| link.fetch.is_none() && !task.tried.contains(&node.addr))?;
            let unable = !task.whole && node.services() & NODE_BLOOM == 0;
            Some(((unable, link.height < height, node.withheld), at))
        });
        free.min().map(|(_, at)| at)
    }

    /// If all nodes were asked in vain they are asked again, but not at once.
    fn pause(&mut self, cx: &mut Cx<'_, Self>, op: OpId) {
        let Some(task) = self.tasks.get_mut(&op) else { return };
        let mut honest = self.nodes.iter().filter(|node| node.lied.is_none());
        if honest.all(|node| task.tried.contains(&node.addr)) {
            task.tried.clear();
            task.next = cx.now() + PAUSE;
        }
    }

    fn fetching(&self, op: OpId) -> bool {
        let of = |fetch: &Fetch| fetch.op == op;
        self.nodes.iter().any(|node| node.ready().is_some_and(|link| link.fetch.as_ref().is_some_and(of)))
    }

    pub(super) fn fail(&mut self, cx: &mut Cx<'_, Self>, op: OpId, why: BitcoinError) {
        let Some(task) = self.tasks.remove(&op) else { return };
        cx.finish(
            op,
            match task.want {
                Want::Synced => BitcoinOutcome::Synced(Err(why)),
                Want::Prove(_) => BitcoinOutcome::Proved(Err(why)),
                Want::Matching(_) => BitcoinOutcome::Matched(Err(why)),
                Want::Scan { .. } => BitcoinOutcome::Scanned(Err(why)),
            },
        );
    }

    /// Asks a node for a block, or for what is in it about some items.
    fn fetch(
        &mut self,
        cx: &mut Cx<'_, Self>,
        op: OpId,
        at: usize,
        block: BlockId,
        items: &BTreeSet<Vec<u8>>,
        whole: bool,
    ) {
        if whole || self.nodes[at].services() & NODE_BLOOM == 0 {
            return self.fetch_whole(cx, op, at, block);
        }
        let until = cx.now() + self.config.timeout;
        let Some(link) = &mut self.nodes[at].link else { return };
        let tweak = cx.rng().next_u64() as u32;
        cx.send(link.peer, BitcoinMsg::FilterLoad(Bloom::new(items, ODDS, tweak)));
        link.fetch = Some(Fetch { op, block, until, parts: Parts::Filtered(Filtered::default()) });
        let wanted = Inventory { kind: Inventory::FILTERED_BLOCK, hash: block.0 };
        cx.send(link.peer, BitcoinMsg::GetData(vec![wanted]));
    }

    pub(super) fn fetch_whole(&mut self, cx: &mut Cx<'_, Self>, op: OpId, at: usize, block: BlockId) {
        let until = cx.now() + self.config.timeout;
        let Some(link) = &mut self.nodes[at].link else { return };
        link.fetch = Some(Fetch { op, block, until, parts: Parts::Whole });
        let wanted = Inventory { kind: Inventory::BLOCK, hash: block.0 };
        cx.send(link.peer, BitcoinMsg::GetData(vec![wanted]));
    }

    /// A node could not be asked, or has not what it was asked for.
    pub(super) fn in_vain(&mut self, fetch: &Fetch, at: usize) {
        let node = &mut self.nodes[at];
        node.withheld = node.withheld.saturating_add(1);
        if let Some(task) = self.tasks.get_mut(&fetch.op) {
            task.tried.push(node.addr);
        }
    }

    pub(super) fn missing(&mut self, at: usize, all: &[Inventory]) {
        let named = |fetch: &mut Fetch| all.iter().any(|one| one.hash == fetch.block.0);
        let fetch = self.nodes[at].link.as_mut().and_then(|link| link.fetch.take_if(named));
        if let Some(fetch) = fetch {
            self.in_vain(&fetch, at);
        }
    }

    // ---- answers

    pub(super) fn block_came(&mut self, cx: &mut Cx<'_, Self>, at: usize, block: BitcoinBlock) {
        let Some(link) = &mut self.nodes[at].link else { return };
        let id = block.header.id();
        let is_asked = |fetch: &mut Fetch| fetch.block == id && matches!(fetch.parts, Parts::Whole);
        let (fetch, disputed) = (link.fetch.take_if(is_asked), self.is_disputed(&id));
        if fetch.is_none() && !disputed {
            return;
        }
        if !block.is_whole() {
            return self.lied(cx, at, "the transactions of a block are not those that its header commits to");
        }
        if disputed {
            self.disputed_block_came(&block);
        }
        let Some(Fetch { op, .. }) = fetch else { return };
        self.nodes[at].withheld = 0;
        if self.tasks.get(&op).is_some_and(|task| matches!(task.want, Want::Scan { .. })) {
            return self.scanned_block_came(cx, op, block);
        }
        let BitcoinBlock { header, transactions } = block;
        let ids: Vec<TxId> = transactions.iter().map(BitcoinTransaction::id).collect();
        self.found(cx, (op, true), transactions, |id| MerkleBlock::new(header, &ids, |one| one == id));
    }

    pub(super) fn tree_came(&mut self, cx: &mut Cx<'_, Self>, at: usize, tree: MerkleBlock) {
        let Some(link) = &mut self.nodes[at].link else { return };
        let id = tree.header.id();
        let Some(fetch) = link.fetch.as_mut().filter(|fetch| fetch.block == id) else { return };
        let Some(filtered) = fetch.filtered().filter(|filtered| filtered.tree.is_none()) else {
            return;
        };
        match tree.shown() {
            Ok(shown) => (filtered.tree, filtered.due) = (Some(tree), shown.into_iter().collect()),
            Err(broken) => return self.lied(cx, at, &broken.to_string()),
        }
        self.filtered(cx, at);
    }

    pub(super) fn transaction_came(&mut self, cx: &mut Cx<'_, Self>, at: usize, one: BitcoinTransaction) {
        let Some(link) = &mut self.nodes[at].link else { return };
        let Some(filtered) = link.fetch.as_mut().and_then(Fetch::filtered) else { return };
        if filtered.due.remove(&one.id()) {
            filtered.came.push(one);
            self.filtered(cx, at);
        }
    }

    /// Whether all that a tree shows has come.
    fn filtered(&mut self, cx: &mut Cx<'_, Self>, at: usize) {
        let is_whole = |fetch: &mut Fetch| {
            fetch.filtered().is_some_and(|filtered| filtered.tree.is_some() && filtered.due.is_empty())
        };
        let fetch = self.nodes[at].link.as_mut().and_then(|link| link.fetch.take_if(is_whole));
        if let Some(Fetch { op, parts: Parts::Filtered(Filtered { tree, came, .. }), .. }) = fetch {
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
        let (block, outcome) = match task.want {
            Want::Synced | Want::Scan { .. } => return,
            Want::Matching(block) => {
                let about = transactions.into_iter().filter(|one| one.is_about(&task.items)).collect();
                (block, BitcoinOutcome::Matched(Ok(about)))
            }
            Want::Prove(Prove { block, transaction: id }) => {
                let found = transactions.into_iter().find(|one| one.id() == id);
                if found.is_none() && !all {
                    // Whoever was asked may have kept it to himself.
                    (task.whole, task.tried) = (true, Vec::new());
                    return;
                }
                let place = self.chain.place(&block);
                let proved = found.zip(proof(&id)).zip(place).map(|((transaction, proof), place)| Proved {
                    transaction,
                    height: place.height,
                    confirmations: self.chain.tip().height.saturating_sub(place.height) + 1,
                    proof,
                });
                (block, BitcoinOutcome::Proved(Ok(proved)))
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
