//! A chain that goes on where it was: what its store holds is all that it needs.

use p2p_core::Key;
use p2p_ledger::{
    BlockHeader, Cached, Chain, ChainRules, Coins, Header, HeaderChain, HeaderRules, MemoryStore, StoreError,
    Verifier,
};

use crate::support::{CHAIN, Light, MATURITY, NOW, Node, Pow, SUBSIDY, block, branch, genesis, pay, spend};

fn reopened(store: MemoryStore, first: Light) -> Result<Node, StoreError> {
    let coins = Coins { halving: 0, maturity: MATURITY, ..Coins::new(CHAIN, SUBSIDY) };
    let headers = HeaderChain::new(Pow::regtest(), first, HeaderRules::default());
    Chain::open(headers, coins, store, Verifier::new([9; 32]), ChainRules::default()).map(Node)
}

#[test]
fn a_chain_goes_on_where_it_was_and_can_still_go_back() {
    let (mut node, coin) = Node::funded();
    let fork = node.0.tip_header().clone();
    let payment = node.mine(0, &[spend(1, coin, [pay(2, SUBSIDY)])]);
    let mut again = reopened(node.0.store().clone(), genesis()).unwrap();
    assert_eq!((again.0.tip(), again.coins()), (node.0.tip(), node.coins()));
    assert_eq!(again.0.block(&payment.header.id()).unwrap(), Some(payment.clone()));
    let other = branch(&fork, 4, 2);
    let outcome = again.accept_branch(&other)[1].clone().unwrap();
    assert_eq!(outcome.disconnected, [payment.header.id()]);
    assert_eq!((again.balance(1), again.balance(2)), (SUBSIDY, 0));
    // And from there back to the first branch, whose body is in the store.
    let mut third = reopened(again.0.store().clone(), genesis()).unwrap();
    let longer = branch(&payment.header, 5, 2);
    let outcome = third.accept_branch(&longer)[1].clone().unwrap();
    assert_eq!(outcome.connected.first(), Some(&payment.header.id()));
    assert_eq!((third.balance(1), third.balance(2)), (0, SUBSIDY));
    third.check_supply();
}

/// Headers are read in an order that has nothing to do with which came first.
#[test]
fn of_two_branches_with_as_much_work_the_tip_is_still_the_tip() {
    for miner in 1..6 {
        let mut node = Node::new();
        let first = block(&genesis(), miner, SUBSIDY, &[]);
        let rest = branch(&genesis(), 9, 2);
        node.accept(&first).unwrap();
        node.accept_branch(&rest);
        // Back on the first branch, and the other has as much work.
        let more = branch(&first.header, miner, 2);
        node.accept_branch(&more);
        let third = block(&rest[1].header, 9, SUBSIDY, &[]);
        node.accept(&third).unwrap();
        let again = reopened(node.0.store().clone(), genesis()).unwrap();
        assert_eq!((again.0.tip(), again.0.headers().tip()), (node.0.tip(), node.0.tip()));
    }
}

/// A process that dies between two flushes goes on from an earlier block, and comes to the same end.
#[test]
fn what_was_not_flushed_is_fetched_again() {
    let (mut source, coin) = Node::funded();
    let fork = source.0.tip_header().clone();
    source.mine(1, &[spend(1, coin, [pay(2, SUBSIDY)])]);
    source.accept_branch(&branch(&fork, 4, 30));
    let heights = 1..=source.0.tip().height;
    let blocks: Vec<_> = heights
        .map(|height| source.0.block(&source.0.headers().at(height).unwrap().id()).unwrap().unwrap())
        .collect();
    let coins = || Coins { halving: 0, maturity: MATURITY, ..Coins::new(CHAIN, SUBSIDY) };
    let headers = || HeaderChain::new(Pow::regtest(), genesis(), HeaderRules::default());
    let cached = Cached::new(MemoryStore::default(), 8_000);
    let verifier = Verifier::new([9; 32]);
    let mut chain = Chain::new(headers(), coins(), cached, verifier.clone(), ChainRules::default());
    let mut behind = std::collections::BTreeSet::new();
    for block in &blocks {
        chain.accept(block.clone(), NOW).unwrap();
        let mut dead = reopened(chain.store().behind().clone(), genesis()).unwrap();
        dead.check_supply();
        behind.insert(chain.tip().height - dead.0.tip().height);
        let missing = &blocks[dead.0.tip().height as usize..chain.tip().height as usize];
        dead.accept_branch(missing);
        assert_eq!(dead.0.tip(), chain.tip());
    }
    assert!(behind.len() > 2 && behind.last().unwrap() < &20, "{behind:?}");
    chain.store_mut().flush().unwrap();
    let whole = reopened(chain.store().behind().clone(), genesis()).unwrap();
    assert_eq!((whole.0.tip(), whole.coins()), (source.0.tip(), source.coins()));
}

#[test]
fn a_store_of_another_chain_is_refused() {
    let (node, _) = Node::funded();
    let other = BlockHeader { root: Key::of(b"another"), ..genesis() };
    let refused = reopened(node.0.store().clone(), other).map(|_| ()).unwrap_err();
    assert!(refused.to_string().contains("another chain"), "{refused}");
    assert_eq!(reopened(MemoryStore::default(), genesis()).unwrap().0.tip().id, genesis().id());
}
