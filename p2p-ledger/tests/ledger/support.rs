//! Chains with next to no work, for tests.

use std::collections::BTreeMap;

use p2p_core::Key;
use p2p_ledger::{
    Block, BlockError, BlockHeader, BlockId, Chain, ChainRules, Coin, CoinError, Coins, Header, HeaderChain,
    HeaderRules, InvalidBlock, Lock, MemoryStore, OutPoint, Outcome, ProofOfWork, Transaction, Verifier,
    Work, transactions_root,
};

#[path = "../support/people.rs"]
mod people;

pub(crate) use people::{CHAIN, MATURITY, SUBSIDY, keypair, pay, spend};

pub(crate) type Light = BlockHeader<Work>;
pub(crate) type CoinBlock = Block<Light, Transaction>;
pub(crate) type Pow = ProofOfWork<Light>;

/// Later than every header of a test.
pub(crate) const NOW: u64 = u64::MAX - 10_000;

/// The first header of every test chain.
pub(crate) fn genesis() -> Light {
    let seal = Work { bits: Pow::regtest().limit, nonce: 0 };
    BlockHeader { height: 0, previous: BlockId::NONE, root: Key::ZERO, time: 1_000_000, seal }
}

/// A header after another one, with work in it.
pub(crate) fn follow(rules: &Pow, parent: &Light, root: Key) -> Light {
    let mut header = BlockHeader {
        height: parent.height + 1,
        previous: parent.id(),
        root,
        time: parent.time + 600,
        seal: parent.seal,
    };
    assert!(rules.mine(&mut header, 0, 1 << 20));
    header
}

/// A chain of headers alone, with one hash of two good enough.
pub(crate) fn light() -> HeaderChain<Pow> {
    HeaderChain::new(Pow::regtest(), genesis(), HeaderRules::default())
}

/// A node with the whole chain.
pub(crate) struct Node(pub(crate) Chain<Pow, Coins, MemoryStore>);

pub(crate) type Result = std::result::Result<Outcome<CoinError>, BlockError>;

impl Node {
    pub(crate) fn new() -> Node {
        Node::with(HeaderRules::default(), ChainRules::default())
    }

    pub(crate) fn with(headers: HeaderRules, rules: ChainRules) -> Node {
        let coins = Coins { halving: 0, maturity: MATURITY, ..Coins::new(CHAIN, SUBSIDY) };
        let headers = HeaderChain::new(Pow::regtest(), genesis(), headers);
        Node(Chain::new(headers, coins, MemoryStore::default(), Verifier::new([9; 32]), rules))
    }

    pub(crate) fn accept(&mut self, block: &CoinBlock) -> Result {
        self.0.accept(block.clone(), NOW)
    }

    /// Gives it all headers and then all bodies of a branch, as a peer would that has been asked for them.
    pub(crate) fn accept_branch(&mut self, blocks: &[CoinBlock]) -> Vec<Result> {
        let headers: Vec<Light> = blocks.iter().map(|block| block.header.clone()).collect();
        self.0.accept_headers(&headers, NOW).unwrap();
        blocks.iter().map(|block| self.accept(block)).collect()
    }

    /// Mines these transactions on the tip, for `miner`, and takes the block in.
    pub(crate) fn mine(&mut self, miner: u8, transactions: &[Transaction]) -> CoinBlock {
        let block = block(self.0.tip_header(), miner, SUBSIDY, transactions);
        let outcome = self.accept(&block).unwrap();
        assert_eq!(outcome.invalid, [], "mined by ourselves");
        block
    }

    /// A chain on which person 1 has a coin that can be spent.
    pub(crate) fn funded() -> (Node, OutPoint) {
        let mut node = Node::new();
        let first = node.mine(1, &[]);
        (0..MATURITY).for_each(|_| drop(node.mine(0, &[])));
        (node, first.transactions[0].out_point(0))
    }

    /// All coins.
    pub(crate) fn coins(&self) -> BTreeMap<OutPoint, Coin> {
        Coins::<p2p_ledger::NoPredicate>::all(self.0.store()).collect()
    }

    /// How much somebody has.
    pub(crate) fn balance(&self, seed: u8) -> u64 {
        let lock = Lock::Key(keypair(seed).id().into());
        self.coins().values().filter(|coin| coin.output.lock == lock).map(|coin| coin.output.value).sum()
    }

    /// That what there is adds up to what has been made.
    pub(crate) fn check_supply(&self) {
        let sum: u64 = self.coins().values().map(|coin| coin.output.value).sum();
        assert_eq!(sum, self.0.state().supply(&self.0.view()));
    }

    /// Why the block with these transactions is invalid on the tip. The chain is then as before.
    pub(crate) fn refusal(&mut self, transactions: &[Transaction]) -> InvalidBlock<CoinError> {
        let (tip, coins) = (self.0.tip(), self.coins());
        let block = block(self.0.tip_header(), 0, SUBSIDY, transactions);
        let outcome = self.accept(&block).unwrap();
        assert_eq!((self.0.tip(), self.coins()), (tip, coins), "all or nothing");
        let [(id, why)] = &outcome.invalid[..] else { panic!("{outcome:?}") };
        assert_eq!(*id, block.header.id());
        why.clone()
    }
}

/// A block after this header, with what its miner takes.
pub(crate) fn block(parent: &Light, miner: u8, takes: u64, transactions: &[Transaction]) -> CoinBlock {
    let coinbase = Transaction::coinbase(CHAIN, parent.height + 1, [pay(miner, takes)]);
    whole(parent, [&[coinbase], transactions].concat())
}

/// A block after this header, of just these transactions.
pub(crate) fn whole(parent: &Light, transactions: Vec<Transaction>) -> CoinBlock {
    let header = follow(&Pow::regtest(), parent, transactions_root(&transactions));
    Block { header, transactions }
}

/// A branch of blocks without payments after this header.
pub(crate) fn branch(parent: &Light, miner: u8, length: usize) -> Vec<CoinBlock> {
    let mut blocks: Vec<CoinBlock> = Vec::new();
    for _ in 0..length {
        let parent = blocks.last().map_or(parent, |block| &block.header);
        blocks.push(block(parent, miner, SUBSIDY, &[]));
    }
    blocks
}
