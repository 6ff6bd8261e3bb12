//! A chain that keeps its last bodies alone.

use p2p_core::Key;
use p2p_ledger::{
    Block, BlockError, Chain, ChainRules, Coins, Compact, Consensus, Fault, Header, HeaderChain, HeaderRules,
    Inclusion, MemoryStore, Past, Refused, Store, Tx, Verifier,
};
use ruint::aliases::U256;

use crate::support::{
    CHAIN, CoinBlock, Light, MATURITY, NOW, Node, Pow, SUBSIDY, block, branch, genesis, pay, spend,
};

const KEEP: u64 = 6;

fn header_rules() -> HeaderRules {
    HeaderRules { finality: Some(KEEP), ..HeaderRules::default() }
}

fn rules() -> ChainRules {
    ChainRules { keep: Some(KEEP), ..ChainRules::default() }
}

fn reopened(store: MemoryStore, rules: ChainRules) -> Node {
    let coins = Coins { halving: 0, maturity: MATURITY, ..Coins::new(CHAIN, SUBSIDY) };
    let headers = HeaderChain::new(Pow::regtest(), genesis(), header_rules());
    Node(Chain::open(headers, coins, store, Verifier::new([9; 32]), rules).unwrap())
}

/// How many rows of this kind there are: `b` for bodies, `u` for what undoes blocks.
fn rows(node: &Node, kind: u8) -> usize {
    let mut count = 0;
    node.0.store().scan(&[0, kind], &mut |_, _| count += 1).unwrap();
    count
}

#[test]
fn headers_filters_and_the_last_blocks_stay_and_old_bodies_go() {
    let mut node = Node::with(header_rules(), rules());
    let mut all = node.accept_branch(&branch(&genesis(), 1, 20)).len() as u64;
    let coin = {
        let block = node.0.block(&node.0.at(all).unwrap()).unwrap().unwrap();
        block.transactions[0].out_point(0)
    };
    for _ in 0..MATURITY {
        node.mine(2, &[]);
        all += 1;
    }
    let payment = spend(1, coin, [pay(3, SUBSIDY)]);
    let paying = node.mine(2, std::slice::from_ref(&payment));
    all += 1;
    assert_eq!((node.0.tip().height, node.0.pruned()), (all, all - KEEP));
    assert_eq!((rows(&node, b'b'), rows(&node, b'u')), (KEEP as usize, KEEP as usize));
    for height in 1..=all {
        let id = node.0.at(height).unwrap();
        assert_eq!(node.0.block(&id).unwrap().is_some(), height > all - KEEP, "the body at {height}");
        assert!(node.0.has_body(&id), "it is not wanted again");
    }
    assert_eq!(node.0.after(&[genesis().id()], 100).len() as u64, all);
    let tip = node.0.tip().id;
    assert_eq!(node.0.filters(1, &tip, 100, 1 << 20).unwrap().unwrap().len() as u64, all);
    assert_eq!(node.0.filter_hashes(1, &tip, 100).unwrap().unwrap().1.len() as u64, all);
    let shown = Inclusion::of(&node.0.block(&tip).unwrap().unwrap(), payment.id()).unwrap();
    assert!(shown.holds() && shown.header == paying.header);
    node.check_supply();

    // It is the same after it was closed, and goes on.
    let mut again = reopened(node.0.store().clone(), rules());
    assert_eq!(
        (again.0.tip(), again.0.pruned(), again.coins()),
        (node.0.tip(), node.0.pruned(), node.coins())
    );
    again.mine(2, &[]);
    assert_eq!((again.0.pruned(), rows(&again, b'b')), (all + 1 - KEEP, KEEP as usize));
    again.check_supply();
}

#[test]
fn what_can_be_undone_is_there_and_what_is_gone_is_final() {
    let mut node = Node::with(header_rules(), rules());
    let blocks = branch(&genesis(), 1, 30);
    node.accept_branch(&blocks);
    // As deep as may be.
    let fork = &blocks[(30 - KEEP) as usize - 1].header;
    let other = branch(fork, 2, KEEP as usize + 2);
    let done = node.accept_branch(&other);
    let done = done.into_iter().flatten().find(|outcome| !outcome.disconnected.is_empty()).unwrap();
    assert_eq!(done.disconnected.len() as u64, KEEP);
    assert_eq!(node.0.tip().id, other[other.len() - 1].header.id());
    node.check_supply();
    let mut again = reopened(node.0.store().clone(), rules());
    again.check_supply();
    // Deeper it would need what is gone.
    let height = again.0.tip().height - KEEP - 1;
    let below = again.0.headers().at(height).unwrap().clone();
    let late = branch(&below, 3, KEEP as usize + 4);
    let refused = again.0.accept(late[0].clone(), NOW).unwrap_err();
    assert!(matches!(refused, BlockError::Header(Refused::Final { .. })), "{refused}");
    // Bodies beside the chain go with their height.
    for _ in 0..=KEEP {
        again.mine(1, &[]);
    }
    assert_eq!((rows(&again, b'b'), rows(&again, b'u')), (KEEP as usize, KEEP as usize));
}

/// It is cleared little by little, and never lacks what it needs.
#[test]
fn a_chain_that_was_kept_whole_can_be_pruned_later() {
    let mut node = Node::with(header_rules(), ChainRules::default());
    node.accept_branch(&branch(&genesis(), 1, 1_200));
    assert_eq!((node.0.pruned(), rows(&node, b'b')), (0, 1_200));
    let mut later = reopened(node.0.store().clone(), rules());
    later.mine(2, &[]);
    assert_eq!((later.0.pruned(), rows(&later, b'b')), (1_000, 201));
    later.mine(2, &[]);
    assert_eq!((later.0.pruned(), rows(&later, b'b')), (1_202 - KEEP, KEEP as usize));
    later.check_supply();
    // And what is gone does not come back.
    let mut whole = reopened(later.0.store().clone(), ChainRules::default());
    whole.mine(2, &[]);
    assert_eq!((whole.0.pruned(), rows(&whole, b'b')), (1_202 - KEEP, KEEP as usize + 1));
}

/// Laxer rules do not bring back what a deep branch would need.
#[test]
fn what_is_gone_is_final_whatever_the_rules_say_later() {
    let mut node = Node::with(header_rules(), rules());
    let blocks = branch(&genesis(), 1, 30);
    node.accept_branch(&blocks);
    let coins = || Coins { halving: 0, maturity: MATURITY, ..Coins::new(CHAIN, SUBSIDY) };
    let lax = || HeaderChain::new(Pow::regtest(), genesis(), HeaderRules::default());
    let (store, verifier) = (node.0.store().clone(), Verifier::new([9; 32]));
    let mut again = Node(Chain::open(lax(), coins(), store, verifier, ChainRules::default()).unwrap());
    let pruned = again.0.pruned();
    assert_eq!(pruned, 30 - KEEP);
    let deep = branch(&blocks[pruned as usize - 2].header, 2, 10);
    let refused = again.0.accept_headers(&[deep[0].header.clone()], NOW).unwrap_err();
    assert_eq!(refused, Refused::Final { height: pruned });
    // What is not gone is as the rules now have it.
    for _ in 0..20 {
        again.mine(1, &[]);
    }
    let other = branch(&blocks[pruned as usize - 1].header, 2, 30);
    again.accept_branch(&other);
    assert_eq!(again.0.tip().id, other[29].header.id());
    again.check_supply();
}

/// Proof of work where every header says itself how much of it there is.
#[derive(Clone, Debug)]
struct AnyWork(Pow);

impl Consensus for AnyWork {
    type Header = Light;

    fn check_seal(&self, header: &Light) -> Result<(), Fault> {
        self.0.check_seal(header)
    }
    fn check(&self, _: &Light, _: &Past<'_, Light>, _: u64) -> Result<(), Fault> {
        Ok(())
    }
    fn reach(&self) -> u64 {
        0
    }
    fn work(&self, header: &Light) -> U256 {
        self.0.work(header)
    }
    fn draft(&self, past: &Past<'_, Light>, root: Key, time: u64) -> Light {
        self.0.draft(past, root, time)
    }
}

/// A block after this one with so much work as these bits say.
fn with_work(parent: &Light, bits: u32) -> CoinBlock {
    let Block { mut header, transactions } = block(parent, 3, SUBSIDY, &[]);
    header.seal.bits = Compact(bits);
    assert!(Pow::regtest().mine(&mut header, 0, 1 << 20));
    Block { header, transactions }
}

/// A shorter branch with more work takes the end back; what has been final, and is gone, does not become less.
#[test]
fn what_is_final_stays_so_when_the_chain_becomes_shorter() {
    let coins = Coins { halving: 0, maturity: MATURITY, ..Coins::new(CHAIN, SUBSIDY) };
    let headers = HeaderChain::new(AnyWork(Pow::regtest()), genesis(), header_rules());
    let mut chain = Chain::new(headers, coins, MemoryStore::default(), Verifier::new([9; 32]), rules());
    let blocks = branch(&genesis(), 1, 20);
    for block in &blocks {
        chain.accept(block.clone(), NOW).unwrap();
    }
    let pruned = 20 - KEEP;
    assert_eq!(chain.pruned(), pruned);
    let short = with_work(&blocks[14].header, 0x2000_ffff);
    let done = chain.accept(short.clone(), NOW).unwrap();
    assert_eq!((done.disconnected.len(), chain.tip().height), (5, 16));
    // Six blocks below this end, but undo data begins above 14.
    let late = with_work(&blocks[11].header, 0x2000_3fff);
    let refused = chain.accept(late, NOW).unwrap_err();
    assert!(
        matches!(refused, BlockError::Header(Refused::Final { height }) if height == pruned),
        "{refused}"
    );
    assert_eq!(chain.tip().id, short.header.id());
    // It goes on from there.
    let next = with_work(&short.header, 0x207f_ffff);
    chain.accept(next.clone(), NOW).unwrap();
    assert_eq!(chain.tip().id, next.header.id());
}

#[test]
#[should_panic(expected = "may be undone")]
fn no_fewer_blocks_are_kept_than_may_be_undone() {
    Node::with(HeaderRules::default(), rules());
}
