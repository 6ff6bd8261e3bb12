//! What an attacker may try with coins: to spend twice, to make some, and to change what others have signed.

use p2p_core::Keypair;
use p2p_ledger::{Age, CoinError, Header, InvalidBlock, LockTime, Transaction, Tx};

use super::state;
use crate::support::{CHAIN, MATURITY, Node, SUBSIDY, block, keypair, pay, spend, whole};

#[test]
fn a_coin_is_spent_once_in_a_chain() {
    let (mut node, coin) = Node::funded();
    node.mine(0, &[spend(1, coin, [pay(2, SUBSIDY)])]);
    let again = spend(1, coin, [pay(3, SUBSIDY)]);
    assert_eq!(node.refusal(&[again]), state(CoinError::Missing(coin)));
    assert_eq!((node.balance(1), node.balance(2), node.balance(3)), (0, SUBSIDY, 0));
}

#[test]
fn a_coin_is_spent_once_in_a_block() {
    let (mut node, coin) = Node::funded();
    let (one, other) = (spend(1, coin, [pay(2, SUBSIDY)]), spend(1, coin, [pay(3, SUBSIDY)]));
    assert_eq!(node.refusal(&[one, other]), state(CoinError::Missing(coin)));
}

/// CVE-2018-17144.
#[test]
fn a_coin_is_spent_once_in_a_transaction() {
    let (mut node, coin) = Node::funded();
    let mut twice = Transaction::new(CHAIN, [coin, coin], [pay(2, 2 * SUBSIDY)]);
    (0..2).for_each(|input| twice.sign(input, &keypair(1)));
    assert_eq!(node.refusal(&[twice]), state(CoinError::SpentTwice(coin)));
}

#[test]
fn a_payment_that_a_reorganisation_takes_back_leaves_the_other_one() {
    let (mut node, coin) = Node::funded();
    let fork = node.0.tip_header().clone();
    let paid = node.mine(0, &[spend(1, coin, [pay(2, SUBSIDY)])]);
    assert_eq!((node.balance(1), node.balance(2)), (0, SUBSIDY));
    let cheat = block(&fork, 5, SUBSIDY, &[spend(1, coin, [pay(1, SUBSIDY)])]);
    let longer = block(&cheat.header, 5, SUBSIDY, &[]);
    let outcomes = node.accept_branch(&[cheat.clone(), longer.clone()]);
    let outcome = outcomes[1].clone().unwrap();
    assert_eq!(outcome.disconnected, [paid.header.id()]);
    assert_eq!(outcome.connected, [cheat.header.id(), longer.header.id()]);
    assert_eq!((node.balance(1), node.balance(2)), (SUBSIDY, 0), "one of the two, never both");
    node.check_supply();
    let again = spend(1, coin, [pay(2, SUBSIDY)]);
    assert_eq!(node.refusal(&[again]), state(CoinError::Missing(coin)));
}

/// CVE-2010-5139.
#[test]
fn values_that_overflow_make_no_coins() {
    let (mut node, coin) = Node::funded();
    let half = (u64::MAX / 2) + 1;
    let overflowing = spend(1, coin, [pay(2, half), pay(2, half)]);
    assert_eq!(node.refusal(&[overflowing]), state(CoinError::Overflow));
    let more = spend(1, coin, [pay(2, SUBSIDY + 1)]);
    let overspent = CoinError::Overspent { inputs: SUBSIDY, outputs: SUBSIDY + 1 };
    assert_eq!(node.refusal(&[more]), state(overspent));
}

#[test]
fn a_miner_takes_no_more_than_subsidy_and_fees() {
    let (mut node, coin) = Node::funded();
    let with_fee = spend(1, coin, [pay(2, SUBSIDY - 10)]);
    let greedy = block(node.0.tip_header(), 3, SUBSIDY + 11, std::slice::from_ref(&with_fee));
    let outcome = node.accept(&greedy).unwrap();
    let reward = CoinError::Reward { allowed: SUBSIDY + 10, found: SUBSIDY + 11 };
    assert_eq!(outcome.invalid, [(greedy.header.id(), state(reward))]);
    let honest = block(node.0.tip_header(), 3, SUBSIDY + 10, &[with_fee]);
    assert_eq!(node.accept(&honest).unwrap().connected, [honest.header.id()]);
    node.check_supply();
}

/// BIP 30, BIP 34: two coinbases with one id would make the first's coins unspendable.
#[test]
fn no_two_coinbases_are_the_same() {
    let mut node = Node::new();
    let first = node.mine(1, &[]);
    let copied = whole(node.0.tip_header(), first.transactions.clone());
    let outcome = node.accept(&copied).unwrap();
    assert_eq!(outcome.invalid, [(copied.header.id(), state(CoinError::Coinbase))]);
    let second = Transaction::coinbase(CHAIN, 2, [pay(1, SUBSIDY)]);
    assert_ne!(second.id(), first.transactions[0].id());
    let two = whole(node.0.tip_header(), vec![second.clone(), second.clone()]);
    assert_eq!(node.accept(&two).unwrap().invalid, [(two.header.id(), state(CoinError::Coinbase))]);
    let none = whole(node.0.tip_header(), vec![]);
    assert_eq!(node.accept(&none).unwrap().invalid, [(none.header.id(), state(CoinError::Coinbase))]);
}

#[test]
fn new_coins_cannot_be_spent_before_they_are_mature() {
    let mut node = Node::new();
    let coin = node.mine(1, &[]).transactions[0].out_point(0);
    let spending = spend(1, coin, [pay(2, SUBSIDY)]);
    for _ in 1..MATURITY {
        let immature = CoinError::Immature { coin, from: 1 + MATURITY };
        assert_eq!(node.refusal(std::slice::from_ref(&spending)), state(immature));
        node.mine(0, &[]);
    }
    node.mine(0, &[spending]);
    assert_eq!(node.balance(2), SUBSIDY);
}

#[test]
fn a_coinbase_cannot_be_spent_by_a_stranger() {
    let (mut node, coin) = Node::funded();
    let mut stolen = Transaction::new(CHAIN, [coin], [pay(2, SUBSIDY)]);
    stolen.sign(0, &Keypair::from_seed(&[2; 32]));
    assert_eq!(node.refusal(&[stolen]), InvalidBlock::Signature);
}

#[test]
fn locks_by_time_and_age_hold_as_long_as_they_say() {
    let (mut node, coin) = Node::funded();
    let height = node.0.tip().height + 3;
    let mut late = Transaction::new(CHAIN, [coin], [pay(2, SUBSIDY)]);
    late.lock_time = LockTime::Height(height);
    late.sign(0, &keypair(1));
    for _ in 0..2 {
        assert_eq!(node.refusal(std::slice::from_ref(&late)), state(CoinError::Early));
        node.mine(0, &[]);
    }
    let made = node.mine(0, &[late]).transactions[1].out_point(0);
    let mut aged = Transaction::new(CHAIN, [made], [pay(3, SUBSIDY)]);
    aged.inputs[0].age = Age::Seconds(1_000);
    aged.sign(0, &keypair(2));
    let since = node.coins()[&made].median_time;
    let mut waited = 0;
    while node.0.next_place().median_time < since + 1_000 {
        assert_eq!(node.refusal(std::slice::from_ref(&aged)), state(CoinError::Early));
        node.mine(0, &[]);
        waited += 1;
    }
    assert!(waited >= 1);
    node.mine(0, &[aged]);
    assert_eq!(node.balance(3), SUBSIDY);
}
