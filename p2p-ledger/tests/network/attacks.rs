//! What adversaries among the neighbours can do, and what comes of it.

use std::time::Duration;

use p2p_core::{Key, SimPeer, Worker};
use p2p_ledger::{
    Block, BlockId, CompactBlock, Consensus, Encode, Header, HeaderRules, LedgerConfig, LedgerMsg,
    MAX_HEADERS, OutPoint, PoolRules, Transaction, Tx, TxId, WtxId,
};
use ruint::aliases::U256;

use super::support::{
    CHAIN, CoinBlock, Light, Lone, MATURITY, Never, Pow, SUBSIDY, block, books, branch, genesis, headers,
    list, pay, sent_block, spend,
};

/// A chain on which person 1 has coins to spend, and the first of them.
fn funded() -> (Vec<CoinBlock>, OutPoint) {
    let blocks = branch(&genesis(), 1, MATURITY as usize + 4);
    let coin = blocks[0].transactions[0].out_point(0);
    (blocks, coin)
}

fn gets_block(msgs: &[LedgerMsg<Never>], block: &CoinBlock) -> bool {
    msgs.iter().any(|msg| matches!(msg, LedgerMsg::GetBlock { id, .. } if *id == block.header.id()))
}

fn transactions(lone: &mut Lone, from: u32, transactions: &[Transaction]) {
    lone.says(from, LedgerMsg::Have(transactions.iter().map(Tx::wtxid).collect()));
    lone.says(from, LedgerMsg::Transactions(list(transactions)));
}

/// Ten thousand transactions that depend on nothing that exists: a hundred are kept, and what is good still comes in. Then
/// what it depends on comes, and so does what waited for it.
#[test]
fn a_flood_of_orphans_takes_no_room() {
    let (blocks, coin) = funded();
    let mut lone = Lone::at(&blocks);
    let orphan = |n: u32| {
        let nothing = OutPoint { id: TxId(Key::of(&n.to_le_bytes())), index: 0 };
        spend(2, nothing, [pay(2, 5)])
    };
    for n in 0..100 {
        let some: Vec<Transaction> = (100 * n..100 * (n + 1)).map(orphan).collect();
        transactions(&mut lone, 1, &some);
        assert!(lone.books.orphans() <= 100 && lone.books.pool().is_empty());
    }
    lone.sent();
    let next = WtxId(Key::of(b"one more"));
    lone.says(1, LedgerMsg::Have(vec![next]));
    assert_eq!(lone.sent_to(1), [LedgerMsg::Want(vec![next])], "an honest one may be at another block");
    let parent = spend(1, coin, [pay(2, SUBSIDY - 10)]);
    let child = spend(2, parent.out_point(0), [pay(3, SUBSIDY - 20)]);
    transactions(&mut lone, 2, std::slice::from_ref(&child));
    assert!(lone.books.pool().is_empty(), "it waits");
    transactions(&mut lone, 3, std::slice::from_ref(&parent));
    assert_eq!(lone.books.pool().len(), 2);
    assert_eq!(lone.banned(), []);
}

/// All the headers that there is room for at a height are somebody's who has no bodies: this node's own block goes on.
#[test]
fn a_miner_is_not_shut_out_by_headers_without_bodies() {
    let mut lone = Lone::new();
    for miner in 0..64 {
        lone.announces(1, &[block(&genesis(), miner, &[])]);
    }
    let own = block(&genesis(), 99, &[]);
    lone.announces(2, std::slice::from_ref(&own));
    assert_eq!(lone.books.chain().headers().place(&own.header.id()), None, "there is no room");
    lone.mined(own.clone());
    assert_eq!(lone.tip().id, own.header.id());
    assert_eq!(lone.banned(), []);
}

#[test]
fn transactions_that_nobody_asked_for_make_a_stranger_of_their_sender() {
    let (blocks, _) = funded();
    let mut lone = Lone::at(&blocks);
    let spam = |n: u32| spend(2, OutPoint { id: TxId(Key::of(&n.to_le_bytes())), index: 0 }, [pay(2, 5)]);
    for n in 0..200 {
        lone.says(1, LedgerMsg::Transactions(list(&[spam(n)])));
    }
    assert_eq!(lone.books.orphans(), 0);
    lone.sent();
    lone.says(1, LedgerMsg::Have(vec![WtxId(Key::of(b"one more"))]));
    assert_eq!(lone.sent(), [], "it is no neighbour any more");
    assert_eq!(lone.banned(), [], "but not banned: it has proved nothing");
}

/// Headers that begin far back and end with less work than the chain has: none is kept, however many come.
#[test]
fn a_flood_of_low_work_headers_takes_no_room() {
    let mut lone = Lone::at(&branch(&genesis(), 1, 300));
    let before = lone.books.chain().headers().len();
    let low = branch(&genesis(), 2, 100);
    for _ in 0..20 {
        lone.advance(10);
        let polled = lone.sent().into_iter().find_map(|(peer, msg)| match msg {
            LedgerMsg::GetHeaders { id, .. } => Some((peer.0, id)),
            _ => None,
        });
        let Some((peer, question)) = polled else { continue };
        lone.says(peer, LedgerMsg::Headers { answers: Some(question), headers: headers(&low) });
        assert_eq!(lone.books.chain().headers().len(), before);
    }
    // Announced they are a nuisance.
    for some in low.chunks(8) {
        lone.announces(1, some);
    }
    assert_eq!(lone.books.chain().headers().len(), before);
    assert_eq!(lone.books.chain().tip().height, 300);
}

/// A new node that knows how much work its chain must have: a peer who sends full messages of easy headers is followed by
/// itself, keeps nothing here, and is found out when it has no more.
#[test]
fn a_new_node_that_is_sent_easy_headers_keeps_none_of_them() {
    let minimum_work = U256::from(2 * 5_000);
    let mut lone = Lone::with(HeaderRules { minimum_work, ..HeaderRules::default() });
    let easy = branch(&genesis(), 2, MAX_HEADERS + 500);
    let mut question = lone.question(1);
    lone.says(1, LedgerMsg::Headers { answers: Some(question), headers: headers(&easy[..MAX_HEADERS]) });
    question = lone.question(1);
    lone.says(1, LedgerMsg::Headers { answers: Some(question), headers: headers(&easy[MAX_HEADERS..]) });
    assert_eq!(lone.sent_to(1), [], "it has shown all that it has");
    assert_eq!(lone.books.chain().headers().len(), 1);
    assert_eq!(lone.banned(), []);
}

/// Who is followed by itself announces a block of another branch just then: what is asked next is what follows its headers,
/// for the answer to anything else would be taken for those.
#[test]
fn an_announcement_does_not_get_in_between_headers_that_are_followed_by_themselves() {
    let minimum_work = U256::from(2 * 9_000);
    let mut lone = Lone::with(HeaderRules { minimum_work, ..HeaderRules::default() });
    let chain = branch(&genesis(), 2, 2 * MAX_HEADERS);
    let unknown = &branch(&chain[10].header, 3, 2)[1..];
    let (first, second) = chain.split_at(MAX_HEADERS);
    let question = lone.question(1);
    lone.says(1, LedgerMsg::Headers { answers: Some(question), headers: headers(first) });
    let question = lone.question(1);
    let announced = LedgerMsg::Headers { answers: None, headers: headers(unknown) };
    lone.script.message(SimPeer(1), announced);
    lone.says(1, LedgerMsg::Headers { answers: Some(question), headers: headers(second) });
    let asked: Vec<_> = lone.sent_to(1);
    let locator = vec![second[MAX_HEADERS - 1].header.id()];
    assert!(
        matches!(&asked[..], [LedgerMsg::GetHeaders { locator: asked, .. }] if *asked == locator),
        "{asked:?}"
    );
}

#[test]
fn who_never_answers_is_no_neighbour_for_long() {
    let mut lone = Lone::new();
    lone.advance(600);
    lone.sent();
    for peer in 1..=4 {
        lone.says(peer, LedgerMsg::GetBlock { id: genesis().id(), compact: false });
    }
    assert_eq!(lone.sent(), []);
    assert_eq!(lone.banned(), [], "silence proves nothing");
}

/// The same node takes a chain with enough work, which it sees twice, and then its bodies.
#[test]
fn a_new_node_follows_a_long_chain_with_enough_work() {
    let minimum_work = U256::from(2 * 2_500);
    let mut lone = Lone::with(HeaderRules { minimum_work, ..HeaderRules::default() });
    let chain = branch(&genesis(), 2, MAX_HEADERS + 600);
    let mut waiting = lone.sent_to(1);
    while let Some(msg) = waiting.pop() {
        match msg {
            LedgerMsg::GetHeaders { id, locator } => {
                let from = chain.iter().rposition(|block| locator.contains(&block.header.id()));
                let rest = &chain[from.map_or(0, |at| at + 1)..];
                let rest = headers(&rest[..rest.len().min(MAX_HEADERS)]);
                lone.says(1, LedgerMsg::Headers { answers: Some(id), headers: rest });
            }
            LedgerMsg::GetBlock { id, .. } => {
                let block = chain.iter().find(|block| block.header.id() == id).unwrap();
                lone.says(1, sent_block(block));
            }
            _ => {}
        }
        waiting.extend(lone.sent_to(1));
        if waiting.is_empty() {
            lone.advance(1);
            waiting.extend(lone.sent_to(1));
        }
        if lone.tip().height == chain.len() as u64 {
            break;
        }
    }
    assert_eq!(lone.tip().height, chain.len() as u64);
    assert_eq!(lone.banned(), []);
}

/// So many headers, in about as little time as they can be made in.
fn crowded(length: usize, root: &[u8]) -> Vec<CoinBlock> {
    let mut parent = genesis();
    let follow = |_| {
        let is_later = parent.height < 12 || parent.height.is_multiple_of(5);
        let (height, time) = (parent.height + 1, parent.time + u64::from(is_later));
        let mut header =
            Light { height, previous: parent.id(), root: Key::of(root), time, seal: parent.seal };
        assert!(Pow::regtest().mine(&mut header, 0, 1 << 20));
        parent = header.clone();
        Block { header, transactions: Vec::new() }
    };
    (0..length).map(follow).collect()
}

/// It sends as many as go into one message, just in time, of a chain that gets nowhere soon. Another, who has a chain with enough
/// work, has its turn after ten minutes.
#[test]
fn who_shows_a_chain_without_end_does_not_keep_others_waiting() {
    let minimum_work = U256::from(2 * 22_000);
    let rules = HeaderRules { minimum_work, ..HeaderRules::default() };
    let headers_timeout = Duration::from_secs(100);
    let config = LedgerConfig { headers_timeout, ..LedgerConfig::default() };
    let mut lone = Lone::configured(books(rules, PoolRules::default()), config);
    let (endless, good) = (crowded(21_000, b"endless"), crowded(22_100, b"good"));
    let answer = |chain: &[CoinBlock], locator: &[BlockId]| {
        let from = chain.iter().rposition(|block| locator.contains(&block.header.id()));
        let rest = &chain[from.map_or(0, |at| at + 1)..];
        headers(&rest[..rest.len().min(MAX_HEADERS)])
    };
    let mut late = Vec::new();
    for second in 0..900 {
        for (peer, msg) in lone.sent() {
            let LedgerMsg::GetHeaders { id, locator } = msg else { continue };
            match peer.0 {
                1 if second > 0 => late.push((second + 95, id, locator)),
                1 => {
                    let headers = answer(&endless, &locator);
                    lone.says(1, LedgerMsg::Headers { answers: Some(id), headers });
                }
                // It comes when the other is followed already.
                2 if second > 5 => {
                    let headers = answer(&good, &locator);
                    lone.says(2, LedgerMsg::Headers { answers: Some(id), headers });
                }
                peer => lone.says(peer, LedgerMsg::Headers { answers: Some(id), headers: headers(&[]) }),
            }
        }
        let now: Vec<(u32, u32, Vec<BlockId>)> = late.extract_if(.., |(at, ..)| *at <= second).collect();
        for (_, id, locator) in now {
            lone.says(1, LedgerMsg::Headers { answers: Some(id), headers: answer(&endless, &locator) });
        }
        lone.advance(1);
    }
    assert_eq!(lone.banned(), []);
    assert!(lone.books.chain().headers().tip().height >= 22_000);
}

/// A peer shows the headers of a better branch, and keeps the bodies for itself. Another has them; and while nobody has,
/// the node follows those who give theirs.
#[test]
fn a_withheld_body_holds_nobody_up() {
    let chain = branch(&genesis(), 1, 20);
    let (base, better) = (&chain[..10], branch(&chain[9].header, 2, 8));
    let mut lone = Lone::at(base);
    lone.announces(1, &better[..8]);
    let asked = lone.sent_to(1);
    assert!(better[..3].iter().all(|block| gets_block(&asked, block)), "it is asked for the first");

    // Meanwhile there is a block on the other branch, from somebody who gives it.
    lone.announces(2, &chain[10..11]);
    assert!(gets_block(&lone.sent_to(2), &chain[10]));
    lone.says(2, sent_block(&chain[10]));
    assert_eq!(lone.tip().height, 11);

    // It is late; and somebody else has them.
    lone.announces(3, &better[..8]);
    for _ in 0..12 {
        for msg in lone.sent_to(3) {
            if let LedgerMsg::GetBlock { id, .. } = msg {
                let block = better.iter().find(|block| block.header.id() == id).unwrap();
                lone.says(3, sent_block(block));
            }
        }
        lone.advance(1);
    }
    assert_eq!(lone.tip().height, 18);
    assert_eq!(lone.banned(), [], "silence proves nothing");
}

/// On a slow link it comes after another was asked, who keeps it for himself.
#[test]
fn a_body_that_comes_late_is_taken() {
    let blocks = branch(&genesis(), 1, 11);
    let mut lone = Lone::at(&blocks[..10]);
    lone.announces(1, &blocks[10..]);
    assert!(gets_block(&lone.sent_to(1), &blocks[10]));
    lone.announces(2, &blocks[10..]);
    lone.advance(12);
    assert!(gets_block(&lone.sent_to(2), &blocks[10]));
    lone.says(1, sent_block(&blocks[10]));
    assert_eq!(lone.tip().height, 11);
}

/// Asks peer 1 for new blocks unasked, which it does of its first three neighbours anyway, and takes one from it.
fn sends_compact(lone: &mut Lone, compact: &CompactBlock<Light, Transaction>) {
    lone.says(1, LedgerMsg::Compact(compact.to_bytes().into()));
}

/// What waits here has the short name of what is in the block, as if somebody had found two such: the block that is put
/// together is another one. The whole block is asked for, and nobody is to blame.
#[test]
fn transactions_with_one_short_name_cost_a_round_and_nothing_else() {
    let (blocks, coin) = funded();
    let mut lone = Lone::at(&blocks);
    let (waits, mined) = (spend(1, coin, [pay(2, SUBSIDY - 50)]), spend(1, coin, [pay(3, SUBSIDY - 60)]));
    transactions(&mut lone, 2, std::slice::from_ref(&waits));
    let tip = &blocks[blocks.len() - 1].header;
    let new = block(tip, 1, std::slice::from_ref(&mined));
    // The short name of what waits in the place of the other's.
    let waiting = [new.transactions[0].clone(), waits];
    let alike = Block { header: new.header.clone(), transactions: waiting.to_vec() };
    sends_compact(&mut lone, &CompactBlock { ..CompactBlock::of(&alike, 5) });
    assert!(gets_block(&lone.sent_to(1), &new), "the whole block");
    lone.says(1, sent_block(&new));
    assert_eq!(lone.tip().id, new.header.id());
    assert_eq!(lone.banned(), []);
    assert!(lone.books.pool().is_empty(), "what conflicts with it is gone");
}

/// It comes twice, asked for and unasked, and in between one of its transactions. What lacks was asked for after the first.
#[test]
fn a_compact_block_that_comes_twice_is_put_together_once() {
    let mut lone = Lone::new();
    let blocks = branch(&genesis(), 1, MATURITY as usize + 6);
    blocks.iter().for_each(|block| lone.mined(block.clone()));
    let coins = [0, 1].map(|at: usize| blocks[at].transactions[0].out_point(0));
    let mined = coins.map(|coin| spend(1, coin, [pay(3, SUBSIDY - 60)]));
    let new = block(&blocks[blocks.len() - 1].header, 1, &mined);
    let id = new.header.id();
    lone.sent();
    sends_compact(&mut lone, &CompactBlock::of(&new, 5));
    assert_eq!(lone.sent_to(1), [LedgerMsg::GetMissing { id, at: vec![1, 2] }]);
    transactions(&mut lone, 2, &mined[..1]);
    assert_eq!(lone.books.pool().len(), 1);
    lone.sent();
    sends_compact(&mut lone, &CompactBlock::of(&new, 6));
    assert_eq!(lone.sent_to(1), []);
    lone.says(1, LedgerMsg::Missing { id, transactions: list(&new.transactions[1..]) });
    assert_eq!(lone.tip().id, id);
    assert_eq!(lone.banned(), []);
}

/// All that waits is gone through each time that it comes, and what it lacks never does.
#[test]
fn who_sends_one_compact_block_without_end_is_no_neighbour_for_long() {
    let (blocks, coin) = funded();
    let mut lone = Lone::at(&blocks);
    let mined = spend(1, coin, [pay(3, SUBSIDY - 60)]);
    let new = block(&blocks[blocks.len() - 1].header, 1, &[mined]);
    let is_heard = |lone: &mut Lone, name: &[u8]| {
        lone.sent();
        lone.says(1, LedgerMsg::Have(vec![WtxId(Key::of(name))]));
        !lone.sent().is_empty()
    };
    (0..21).for_each(|nonce| sends_compact(&mut lone, &CompactBlock::of(&new, nonce)));
    assert!(is_heard(&mut lone, b"as often as it may"));
    sends_compact(&mut lone, &CompactBlock::of(&new, 21));
    assert!(!is_heard(&mut lone, b"once more"));
    assert_eq!(lone.banned(), [], "it has proved nothing");
}

/// Who is first with a compact block keeps what it lacks for himself. The next who has it is asked at once.
#[test]
fn who_is_first_with_a_compact_block_and_keeps_the_rest_holds_nobody_up() {
    let (blocks, coin) = funded();
    let mut lone = Lone::at(&blocks);
    let mined = spend(1, coin, [pay(3, SUBSIDY - 60)]);
    let new = block(&blocks[blocks.len() - 1].header, 1, &[mined]);
    let id = new.header.id();
    sends_compact(&mut lone, &CompactBlock::of(&new, 5));
    assert_eq!(lone.sent_to(1), [LedgerMsg::GetMissing { id, at: vec![1] }]);
    lone.says(2, LedgerMsg::Compact(CompactBlock::of(&new, 6).to_bytes().into()));
    assert_eq!(lone.sent_to(2), [LedgerMsg::GetMissing { id, at: vec![1] }]);
    lone.says(2, LedgerMsg::Missing { id, transactions: list(&new.transactions[1..]) });
    assert_eq!(lone.tip().id, id);
    // And who is late with it is not to blame.
    lone.says(1, LedgerMsg::Missing { id, transactions: list(&new.transactions[1..]) });
    assert_eq!((lone.tip().id, lone.banned()), (id, Vec::new()));
}

/// A peer that sends other transactions than its short names say contradicts itself; the block comes from another.
#[test]
fn a_peer_that_lies_in_compact_blocks_is_banned_and_the_block_comes_from_another() {
    let (blocks, coin) = funded();
    let mut lone = Lone::at(&blocks);
    let mined = spend(1, coin, [pay(3, SUBSIDY - 60)]);
    let new = block(&blocks[blocks.len() - 1].header, 1, &[mined]);
    let id = new.header.id();
    sends_compact(&mut lone, &CompactBlock::of(&new, 5));
    assert_eq!(lone.sent_to(1), [LedgerMsg::GetMissing { id, at: vec![1] }]);
    let lie = Transaction::coinbase(CHAIN, 1, [pay(4, 1)]);
    lone.says(1, LedgerMsg::Missing { id, transactions: list(&[lie]) });
    assert_eq!(lone.banned().len(), 1);
    assert!(lone.script.machine().banned().eq([SimPeer(1)]));
    assert!(lone.tip().id != id);

    lone.says(2, LedgerMsg::Compact(CompactBlock::of(&new, 6).to_bytes().into()));
    assert_eq!(lone.sent_to(2), [LedgerMsg::GetMissing { id, at: vec![1] }]);
    lone.says(2, LedgerMsg::Missing { id, transactions: list(&new.transactions[1..]) });
    assert_eq!(lone.tip().id, id);
    assert_eq!(lone.banned(), []);
}

/// A compact block of which neither the parts nor the whole are what the header commits to.
#[test]
fn a_body_that_is_not_its_headers_gets_its_sender_banned_and_does_not_poison_the_block() {
    let (blocks, coin) = funded();
    let mut lone = Lone::at(&blocks);
    let mined = spend(1, coin, [pay(3, SUBSIDY - 60)]);
    let new = block(&blocks[blocks.len() - 1].header, 1, &[mined]);
    let mut other = new.clone();
    other.transactions[1] = spend(1, coin, [pay(4, SUBSIDY - 60)]);
    sends_compact(&mut lone, &CompactBlock::of(&other, 5));
    let id = new.header.id();
    lone.says(1, LedgerMsg::Missing { id, transactions: list(&other.transactions[1..]) });
    assert_eq!(lone.banned(), [], "so far it may be a collision");
    assert!(gets_block(&lone.sent_to(1), &new));
    lone.says(1, sent_block(&other));
    assert_eq!(lone.banned(), [(1, "a body that is not its header's".to_owned())]);

    lone.announces(2, std::slice::from_ref(&new));
    assert!(gets_block(&lone.sent_to(2), &new));
    lone.says(2, sent_block(&new));
    assert_eq!(lone.tip().id, id);
}

#[test]
fn a_block_that_is_invalid_gets_its_sender_banned_whenever_it_turns_out() {
    let (blocks, coin) = funded();
    let tip = &blocks[blocks.len() - 1].header;
    let thief = spend(2, coin, [pay(2, SUBSIDY)]);
    let stolen = block(tip, 1, &[thief]);
    let after = block(&stolen.header, 1, &[]);
    let mut lone = Lone::at(&blocks);
    // The second one comes first, and waits.
    lone.announces(1, &[stolen.clone(), after.clone()]);
    lone.announces(2, &[stolen.clone(), after.clone()]);
    lone.says(1, sent_block(&after));
    lone.sent();
    lone.says(1, sent_block(&stolen));
    lone.says(2, sent_block(&stolen));
    let banned: Vec<u32> = lone.banned().into_iter().map(|(peer, _)| peer).collect();
    assert_eq!(banned.len(), 1, "who sent it, and not who only has its header");
    assert_eq!(lone.tip().height, tip.height);
    assert_eq!(lone.books.chain().state().supply(&lone.books.chain().view()), tip.height * SUBSIDY);
}

/// Nothing is looked at while the disk is slow: of what a neighbour sends meanwhile so much is held, and no more.
#[test]
fn a_neighbour_has_so_much_looked_at_at_once_and_no_more() {
    let (blocks, _) = funded();
    let mut lone = Lone::at(&blocks);
    let large = bytes::Bytes::from(vec![0; 1 << 20]);
    for _ in 0..100 {
        lone.script.message(SimPeer(1), LedgerMsg::Headers { answers: None, headers: large.clone() });
    }
    assert_eq!(lone.script.jobs().len(), 6, "of one MiB each");
    for _ in 0..100 {
        let id = blocks[0].header.id();
        lone.script.message(SimPeer(2), LedgerMsg::GetBlock { id, compact: false });
    }
    let mut jobs = lone.script.jobs();
    assert_eq!(jobs.len(), 1, "blocks are read one after the other");
    let (id, job) = jobs.remove(0);
    let done = lone.books.run(vec![job]).remove(0);
    lone.script.done(id, done);
    lone.says(3, LedgerMsg::Push(true));
    let read = lone.sent_to(2).into_iter().filter(|msg| matches!(msg, LedgerMsg::Block { .. }));
    assert_eq!(read.count(), 64);
}

/// What no honest node sends, whatever it believes.
#[test]
fn what_is_no_message_gets_its_sender_banned() {
    let (blocks, _) = funded();
    let tip = &blocks[blocks.len() - 1].header;
    let id = tip.id();
    let unworked = {
        let mut block = block(tip, 1, &[]);
        while Pow::regtest().check_seal(&block.header).is_ok() {
            block.header.seal.nonce += 1;
        }
        block
    };
    let garbage = || bytes::Bytes::from_static(b"\xff\xff\xff garbage");
    let many = branch(tip, 1, 9);
    type Attack = (&'static str, LedgerMsg<Never>);
    let attacks: [Attack; 8] = [
        ("headers that cannot be read", LedgerMsg::Headers { answers: None, headers: garbage() }),
        ("a header without work", LedgerMsg::Headers { answers: None, headers: headers(&[unworked]) }),
        ("more headers than are announced", LedgerMsg::Headers { answers: None, headers: headers(&many) }),
        ("a compact block that cannot be read", LedgerMsg::Compact(garbage())),
        ("a locator too long", LedgerMsg::GetHeaders { id: 1, locator: vec![id; 102] }),
        ("transactions that the block has not", LedgerMsg::GetMissing { id, at: vec![1] }),
        ("one transaction twice", LedgerMsg::GetMissing { id, at: vec![0, 0] }),
        ("too many names", LedgerMsg::Have(vec![WtxId(Key::ZERO); 1_001])),
    ];
    for (what, attack) in attacks {
        let mut lone = Lone::at(&blocks);
        lone.says(1, attack);
        assert!(lone.script.machine().banned().eq([SimPeer(1)]), "{what}");
        lone.sent();
        lone.says(1, LedgerMsg::GetBlock { id, compact: false });
        assert_eq!(lone.sent(), [], "{what}: it is not answered any more");
    }
}
