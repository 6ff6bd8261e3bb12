//! How blocks and transactions go from one to the next.

use p2p_core::SimPeer;
use p2p_ledger::{CompactBlock, Encode, Header, LedgerCommand, LedgerError, LedgerMsg, LedgerOutcome, Tx};

use super::support::{
    Lone, MATURITY, SUBSIDY, block, branch, genesis, headers, list, long_books, pay, pruned_books,
    sent_block, spend,
};

/// A node with some blocks, all of whose neighbours have shown that they have them too.
fn among_equals() -> (Lone, Vec<super::support::CoinBlock>) {
    let blocks = branch(&genesis(), 1, MATURITY as usize + 4);
    let mut lone = Lone::at(&blocks);
    for peer in 1..=4 {
        lone.announces(peer, &blocks[blocks.len() - 1..]);
    }
    lone.sent();
    (lone, blocks)
}

#[test]
fn a_new_block_goes_as_it_is_wanted_to_those_who_have_it_not() {
    let (mut lone, blocks) = among_equals();
    let new = block(&blocks[blocks.len() - 1].header, 1, &[]);
    lone.says(1, LedgerMsg::Push(true));
    lone.announces(3, std::slice::from_ref(&new));
    lone.sent();
    lone.mined(new.clone());
    let sent = lone.sent();
    let compact = |msg: &LedgerMsg<_>| matches!(msg, LedgerMsg::Compact(_));
    assert!(sent.iter().any(|(to, msg)| *to == SimPeer(1) && compact(msg)), "it wants them unasked");
    let header = LedgerMsg::Headers { answers: None, headers: headers(&[new]) };
    assert!(sent.contains(&(SimPeer(2), header)), "it does not");
    assert!(sent.iter().all(|(to, _)| *to != SimPeer(3)), "it has it");
}

/// Everything that is in the block waits here already: no question is asked.
#[test]
fn a_compact_block_of_what_waits_takes_no_question() {
    let (mut lone, blocks) = among_equals();
    let coin = blocks[0].transactions[0].out_point(0);
    let payment = spend(1, coin, [pay(2, SUBSIDY - 10)]);
    lone.script.command(LedgerCommand::Submit(payment.clone()));
    lone.advance(1);
    lone.sent();
    let new = block(&blocks[blocks.len() - 1].header, 1, &[payment]);
    lone.says(2, LedgerMsg::Compact(CompactBlock::of(&new, 1).to_bytes().into()));
    assert_eq!(lone.tip().id, new.header.id());
    assert!(lone.sent().iter().all(|(to, _)| *to != SimPeer(2)));
}

#[test]
fn a_transaction_is_announced_once_it_is_in_the_pool_to_those_who_have_not_announced_it() {
    let (mut lone, blocks) = among_equals();
    let payment = spend(1, blocks[0].transactions[0].out_point(0), [pay(2, SUBSIDY - 10)]);
    let id = payment.wtxid();
    lone.says(1, LedgerMsg::Have(vec![id]));
    assert_eq!(lone.sent(), [(SimPeer(1), LedgerMsg::Want(vec![id]))]);
    lone.says(2, LedgerMsg::Have(vec![id]));
    assert_eq!(lone.sent(), [], "it is asked of one");
    lone.says(1, LedgerMsg::Transactions(list(&[payment])));
    lone.advance(1);
    let have = LedgerMsg::Have(vec![id]);
    assert_eq!(lone.sent(), [(SimPeer(3), have.clone()), (SimPeer(4), have)]);
}

#[test]
fn a_transaction_that_one_does_not_send_is_asked_of_another() {
    let (mut lone, blocks) = among_equals();
    let payment = spend(1, blocks[0].transactions[0].out_point(0), [pay(2, SUBSIDY - 10)]);
    let id = payment.wtxid();
    lone.says(1, LedgerMsg::Have(vec![id]));
    lone.says(2, LedgerMsg::Have(vec![id]));
    lone.sent();
    lone.advance(11);
    assert!(lone.sent().contains(&(SimPeer(2), LedgerMsg::Want(vec![id]))));
    lone.says(2, LedgerMsg::Transactions(list(&[payment])));
    assert_eq!(lone.books.pool().len(), 1);
}

/// A block that follows what is not known: what lies between is asked for.
#[test]
fn missing_ancestors_are_fetched() {
    let (mut lone, blocks) = among_equals();
    let ahead = branch(&blocks[blocks.len() - 1].header, 2, 5);
    lone.announces(2, &ahead[4..]);
    let question = lone.question(2);
    lone.says(2, LedgerMsg::Headers { answers: Some(question), headers: headers(&ahead) });
    // What is asked for comes in any order.
    loop {
        let asked = lone.sent_to(2).into_iter().filter_map(|msg| match msg {
            LedgerMsg::GetBlock { id, .. } => ahead.iter().find(|block| block.header.id() == id),
            _ => None,
        });
        let asked: Vec<_> = asked.collect();
        if asked.is_empty() {
            break;
        }
        asked.iter().rev().for_each(|block| lone.says(2, sent_block(block)));
    }
    assert_eq!(lone.tip().id, ahead[4].header.id());
    assert_eq!(lone.banned(), []);
}

/// All four neighbours have it: each brings its share.
#[test]
fn a_long_chain_comes_from_all_who_have_it() {
    let blocks = branch(&genesis(), 1, 64);
    let mut lone = Lone::new();
    let mut brought = [0; 4];
    for _ in 0..200 {
        for (peer, msg) in lone.sent() {
            match msg {
                LedgerMsg::GetHeaders { id, .. } => {
                    lone.says(peer.0, LedgerMsg::Headers { answers: Some(id), headers: headers(&blocks) });
                }
                LedgerMsg::GetBlock { id, .. } => {
                    brought[peer.0 as usize - 1] += 1;
                    let block = blocks.iter().find(|block| block.header.id() == id).unwrap();
                    lone.says(peer.0, sent_block(block));
                }
                _ => {}
            }
        }
    }
    assert_eq!((lone.tip().height, brought.iter().sum::<u32>()), (64, 64));
    assert!(brought.iter().all(|blocks| *blocks >= 10), "{brought:?}");
}

/// Whoever keeps the last bodies alone says so: the others are asked of those who have them, and nobody is to blame.
#[test]
fn old_bodies_are_asked_of_those_who_keep_them() {
    let blocks = branch(&genesis(), 1, 40);
    let mut lone = Lone::new();
    let questions: Vec<(u32, u32)> = (lone.sent().into_iter())
        .filter_map(|(peer, msg)| match msg {
            LedgerMsg::GetHeaders { id, .. } if peer.0 <= 2 => Some((peer.0, id)),
            _ => None,
        })
        .collect();
    lone.says(1, LedgerMsg::Pruned(30));
    for (peer, question) in questions {
        lone.says(peer, LedgerMsg::Headers { answers: Some(question), headers: headers(&blocks) });
    }
    let mut asked = 0;
    for _ in 0..200 {
        for (peer, msg) in lone.sent() {
            let LedgerMsg::GetBlock { id, .. } = msg else { continue };
            let block = blocks.iter().find(|block| block.header.id() == id).unwrap();
            // It has gone on since it has said so.
            if peer.0 == 1 && block.header.height <= 32 {
                assert!(
                    block.header.height > 30,
                    "{} is asked of one who has not got it",
                    block.header.height
                );
                lone.says(1, LedgerMsg::Pruned(32));
            } else {
                asked += u32::from(peer.0 == 1);
                lone.says(peer.0, sent_block(block));
            }
        }
    }
    assert_eq!(lone.tip().height, 40);
    assert!(asked > 0, "the last are asked of both");
    assert_eq!(lone.banned(), []);
}

/// A link holds 4 MiB: what is asked for has room there, however long it is, and leaves some.
#[test]
fn no_more_is_asked_for_at_once_than_a_link_holds() {
    let blocks = branch(&genesis(), 1, 40);
    for (block_bytes, window) in [(100_000, 16), (1 << 20, 3), (3 << 19, 2), (3 << 20, 1)] {
        let mut lone = Lone::keeping(long_books(block_bytes));
        let question = lone.question(1);
        lone.says(1, LedgerMsg::Headers { answers: Some(question), headers: headers(&blocks) });
        let asked = lone.sent_to(1).iter().filter(|msg| matches!(msg, LedgerMsg::GetBlock { .. })).count();
        assert_eq!(asked, window, "of {block_bytes} bytes");
        assert!(asked * block_bytes <= 3 << 20);
    }
}

#[test]
fn who_keeps_the_last_bodies_alone_says_so() {
    let blocks = branch(&genesis(), 1, 40);
    let mut lone = Lone::keeping(pruned_books(10));
    blocks.iter().for_each(|block| lone.mined(block.clone()));
    lone.sent();
    lone.says(1, LedgerMsg::GetBlock { id: blocks[35].header.id(), compact: false });
    assert_eq!(lone.sent_to(1), [sent_block(&blocks[35])]);
    lone.says(1, LedgerMsg::GetBlock { id: blocks[5].header.id(), compact: false });
    assert_eq!(lone.sent_to(1), [LedgerMsg::Pruned(30)]);
    lone.script.command(LedgerCommand::BlockAt(5));
    lone.advance(1);
    let outcome = lone.script.outcomes().pop().unwrap().1;
    assert!(matches!(outcome, LedgerOutcome::Block(Err(LedgerError::Pruned { height: 5 }))), "{outcome:?}");
}
