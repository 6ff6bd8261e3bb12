//! What an attacker may try with blocks and branches of them: to poison, to withhold, to undo.

use p2p_ledger::{
    BlockError, ChainRules, CoinError, Encode, Header, HeaderRules, Part, Refused, Tx, Witness,
};

use super::state;
use crate::support::{Light, NOW, Node, SUBSIDY, block, branch, genesis, pay, spend};

/// CVE-2012-2459, and every other body that the header does not commit to.
#[test]
fn a_mutated_body_does_not_poison_the_block() {
    let (mut node, coin) = Node::funded();
    let good = block(node.0.tip_header(), 0, SUBSIDY, &[spend(1, coin, [pay(2, SUBSIDY)])]);
    let mut repeated = good.clone();
    repeated.transactions.extend_from_within(1..);
    let mut emptied = good.clone();
    emptied.transactions.truncate(1);
    let mut malleated = good.clone();
    malleated.transactions[1].inputs[0].witness = Witness(vec![Part::Signature([7; 64])]);
    assert_eq!(malleated.transactions[1].id(), good.transactions[1].id(), "the ids are the same");
    let mut swapped = good.clone();
    swapped.transactions.swap(0, 1);
    for mutated in [repeated, emptied, malleated, swapped] {
        assert_eq!(node.accept(&mutated), Err(BlockError::Mutated(good.header.id())));
    }
    assert_eq!(node.accept(&good).unwrap().connected, [good.header.id()]);
}

#[test]
fn bodies_that_wait_are_bounded_and_the_farthest_go_first() {
    let blocks = branch(&genesis(), 1, 40);
    let bytes = blocks[0].to_bytes().len() - blocks[0].header.to_bytes().len();
    let rules = ChainRules { waiting_bytes: 10 * bytes, ..ChainRules::default() };
    let mut node = Node::with(HeaderRules::default(), rules);
    let headers: Vec<Light> = blocks.iter().map(|block| block.header.clone()).collect();
    node.0.accept_headers(&headers, NOW).unwrap();
    // All but the first, from the far end.
    for block in blocks[1..].iter().rev() {
        node.accept(block).unwrap();
        assert!(node.0.waiting() <= 10);
    }
    assert_eq!(node.accept(&blocks[30]), Err(BlockError::Full));
    node.accept(&blocks[0]).unwrap();
    assert_eq!(node.0.tip().height, 11, "the nearest ten were kept, and the first need not wait");
    while node.0.tip().height < 40 {
        for id in node.0.wanted(5) {
            let block = blocks.iter().find(|block| block.header.id() == id).unwrap();
            node.accept(block).unwrap();
        }
    }
}

/// The best headers' bodies are withheld. Another branch has more work than the tip too: who has it gives its bodies.
#[test]
fn a_better_branch_is_taken_though_the_bodies_of_the_best_are_withheld() {
    let mut node = Node::new();
    node.accept_branch(&branch(&genesis(), 1, 3));
    let (withheld, honest) = (branch(&genesis(), 2, 9), branch(&genesis(), 3, 6));
    let headers = |blocks: &[crate::support::CoinBlock]| -> Vec<Light> {
        blocks.iter().map(|block| block.header.clone()).collect()
    };
    node.0.accept_headers(&headers(&withheld), NOW).unwrap();
    node.0.accept_headers(&headers(&honest), NOW).unwrap();
    let end = honest[5].header.id();
    assert_eq!(node.0.wanted(1), [withheld[0].header.id()]);
    assert_eq!(node.0.wanted_to(&honest[1].header.id(), 9), [], "no more work than the tip");
    while let [wanted, ..] = node.0.wanted_to(&end, 3)[..] {
        let block = honest.iter().find(|block| block.header.id() == wanted).unwrap();
        node.accept(block).unwrap();
    }
    assert_eq!(node.0.tip().id, end);
    let beside = branch(&genesis(), 4, 5);
    node.0.accept_headers(&headers(&beside), NOW).unwrap();
    assert_eq!(node.accept(&beside[0]), Err(BlockError::Unworthy(beside[0].header.id())));
}

#[test]
fn an_invalid_block_in_a_better_branch_gives_up_what_follows_and_no_more() {
    let (mut node, coin) = Node::funded();
    let tip = node.0.tip();
    let good = block(node.0.tip_header(), 1, SUBSIDY, &[]);
    let bad = block(&good.header, 1, SUBSIDY + 1, &[]);
    let after = branch(&bad.header, 1, 3);
    let all = [vec![good.clone(), bad.clone()], after.clone()].concat();
    let outcomes = node.accept_branch(&all);
    let why = state(CoinError::Reward { allowed: SUBSIDY, found: SUBSIDY + 1 });
    assert_eq!(outcomes[1].clone().unwrap().invalid, [(bad.header.id(), why)]);
    assert_eq!(outcomes[2], Err(BlockError::Header(Refused::Invalid(after[0].header.id()))));
    assert_eq!((node.0.tip().id, node.0.tip().height), (good.header.id(), tip.height + 1));
    // The same when all bodies are here before the first of them.
    let mut late = Node::new();
    let headers: Vec<Light> = all.iter().map(|block| block.header.clone()).collect();
    let before: Vec<_> = (1..=tip.height).map(|h| node.0.headers().at(h).unwrap().id()).collect();
    let mut blocks: Vec<_> = before.iter().map(|id| node.0.block(id).unwrap().unwrap()).collect();
    blocks.extend(all);
    late.0.accept_headers(&blocks.iter().map(|b| b.header.clone()).collect::<Vec<_>>(), NOW).unwrap();
    assert_eq!(late.0.headers().tip().height, tip.height + headers.len() as u64);
    blocks.iter().rev().for_each(|block| drop(late.accept(block).unwrap()));
    assert_eq!(late.0.tip(), node.0.tip());
    assert_eq!(late.0.headers().tip(), late.0.tip(), "the headers are given up too");
    assert_eq!(late.coins(), node.coins());
    assert!(late.coins().contains_key(&coin));
}

#[test]
fn of_two_branches_with_as_much_work_the_first_stays() {
    let mut node = Node::new();
    let (first, second) = (branch(&genesis(), 1, 2), branch(&genesis(), 2, 2));
    node.accept_branch(&first);
    node.accept_branch(&second);
    assert_eq!(node.0.tip().id, first[1].header.id());
    let third = block(&second[1].header, 2, SUBSIDY, &[]);
    assert_eq!(node.accept(&third).unwrap().connected, []);
    // Now that its headers are the best the other branch deserves its first body, which was refused before.
    assert_eq!(node.0.wanted(10), [second[0].header.id()]);
    let outcome = node.accept(&second[0]).unwrap();
    assert_eq!((outcome.disconnected.len(), outcome.connected.len()), (2, 3));
}

#[test]
fn a_deep_reorganisation_is_one_step_and_leads_where_the_other_node_is() {
    let (mut ours, coin) = Node::funded();
    let fork = ours.0.tip_header().clone();
    let mut coin_now = coin;
    for i in 0..60u8 {
        let owner = if i == 0 { 1 } else { 2 };
        let moved = spend(owner, coin_now, [pay(2, SUBSIDY)]);
        coin_now = moved.out_point(0);
        ours.mine(3, &[moved]);
    }
    let other = branch(&fork, 4, 61);
    let outcomes = ours.accept_branch(&other);
    let outcome = outcomes.last().unwrap().clone().unwrap();
    assert_eq!((outcome.disconnected.len(), outcome.connected.len()), (60, 61));
    assert_eq!((ours.balance(1), ours.balance(2), ours.balance(3)), (SUBSIDY, 0, 0));
    ours.check_supply();
}

#[test]
fn what_is_final_is_not_reorganised() {
    let rules = HeaderRules { finality: Some(5), ..HeaderRules::default() };
    let mut node = Node::with(rules, ChainRules::default());
    let ours = branch(&genesis(), 1, 10);
    ours.iter().for_each(|block| drop(node.accept(block).unwrap()));
    let longer: Vec<Light> = branch(&ours[3].header, 2, 20).into_iter().map(|block| block.header).collect();
    assert_eq!(node.0.accept_headers(&longer, NOW), Err(Refused::Final { height: 5 }));
    let shallow: Vec<Light> = branch(&ours[4].header, 2, 20).into_iter().map(|block| block.header).collect();
    assert_eq!(node.0.accept_headers(&shallow, NOW), Ok(20));
}

/// Headers cost less than blocks: who shows six and never their bodies must not make them final.
#[test]
fn headers_without_bodies_make_nothing_final() {
    let rules = HeaderRules { finality: Some(5), ..HeaderRules::default() };
    let mut node = Node::with(rules, ChainRules::default());
    let ours = branch(&genesis(), 1, 16);
    ours[..10].iter().for_each(|block| drop(node.accept(block).unwrap()));
    let withheld = branch(&ours[7].header, 2, 12);
    let headers: Vec<Light> = withheld.iter().map(|block| block.header.clone()).collect();
    node.0.accept_headers(&headers, NOW).unwrap();
    for block in &ours[10..] {
        assert_eq!(node.accept(block).unwrap().connected, [block.header.id()]);
    }
    // What the state has left behind it is final, whatever comes now, and however much work it has.
    assert_eq!(node.0.headers().tip(), node.0.tip());
    assert_eq!(node.0.wanted(100), []);
    let refused = Err(BlockError::Header(Refused::Final { height: 11 }));
    withheld.iter().for_each(|block| assert_eq!(node.accept(block), refused));
    let bad = block(node.0.tip_header(), 1, SUBSIDY + 1, &[]);
    assert_eq!(node.accept(&bad).unwrap().invalid.len(), 1);
    assert_eq!(node.0.headers().tip(), node.0.tip(), "nor is it fallen back on");
    let next = block(node.0.tip_header(), 1, SUBSIDY, &[]);
    assert_eq!(node.accept(&next).unwrap().connected.len(), 1);
}
