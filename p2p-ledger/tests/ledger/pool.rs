//! What waits for a block, and what is made of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use p2p_core::Worker;
use p2p_ledger::{
    Act, Age, Block, Board, BoardError, Chain, ChainRules, Checks, CoinError, Encode, Footprint, Header,
    HeaderChain, HeaderRules, Lock, MemoryStore, Miner, Notice, OutPoint, Part, Place, Pool, PoolError,
    PoolRules, PublicKey, Solo, State, Transaction, Tx, Verifier, View, Witness, template, transactions_root,
};

use crate::support::{
    CHAIN, MATURITY, NOW, Node, Pow, SUBSIDY, block, branch, follow, genesis, keypair, pay, spend,
};

type CoinPool = Pool<p2p_ledger::Coins>;

fn pool() -> CoinPool {
    Pool::new(PoolRules::default())
}

/// A chain on which person 1 has so many coins, in one transaction.
fn funded(coins: u32) -> (Node, Vec<OutPoint>) {
    let (mut node, coin) = Node::funded();
    let outputs: Vec<_> = (0..coins).map(|_| pay(1, SUBSIDY / u64::from(coins))).collect();
    let split = spend(1, coin, outputs);
    let points = (0..coins).map(|index| split.out_point(index)).collect();
    node.mine(0, &[split]);
    (node, points)
}

/// A payment of a whole coin to person 2, but for the fee.
fn paying(node: &Node, coin: OutPoint, fee: u64) -> Transaction {
    let value = node.coins()[&coin].output.value;
    spend(1, coin, [pay(2, value - fee)])
}

#[test]
fn of_two_payments_of_one_coin_the_first_stays_unless_the_other_pays_more() {
    let (mut node, coins) = funded(1);
    let mut pool = pool();
    let first = paying(&node, coins[0], 300);
    let child = spend(2, first.out_point(0), [pay(3, SUBSIDY - 400)]);
    assert_eq!(pool.add(&mut node.0, first.clone(), 0), Ok(vec![]));
    assert_eq!(pool.add(&mut node.0, child.clone(), 0), Ok(vec![]));
    assert_eq!(pool.add(&mut node.0, first.clone(), 0), Err(PoolError::Known));
    // The first's fee and its child's, and the relay of 200 bytes or so.
    for fee in [0, 300, 301, 400, 401, 500] {
        let other = spend(1, coins[0], [pay(3, SUBSIDY - fee)]);
        assert!(matches!(pool.add(&mut node.0, other, 0), Err(PoolError::Underpaid { .. })), "{fee}");
    }
    assert_eq!(pool.len(), 2);
    let other = spend(1, coins[0], [pay(3, SUBSIDY - 700)]);
    let mut replaced = pool.add(&mut node.0, other.clone(), 0).unwrap();
    replaced.sort();
    let mut expected = vec![first.id(), child.id()];
    expected.sort();
    assert_eq!(replaced, expected);
    assert_eq!((pool.len(), pool.fee(&other.id())), (1, Some(700)));
}

#[test]
fn what_depends_on_what_it_would_replace_is_refused() {
    let (mut node, coins) = funded(1);
    let mut pool = pool();
    let first = paying(&node, coins[0], 10);
    pool.add(&mut node.0, first.clone(), 0).unwrap();
    let mut knot = Transaction::new(CHAIN, [coins[0], first.out_point(0)], [pay(3, 100)]);
    knot.sign(0, &keypair(1));
    knot.sign(1, &keypair(2));
    assert_eq!(pool.add(&mut node.0, knot, 0), Err(PoolError::SelfConflict));
}

#[test]
fn what_is_not_valid_in_the_next_block_is_refused_and_bars_nothing_else() {
    let (mut node, coins) = funded(1);
    let mut pool = pool();
    let good = paying(&node, coins[0], 10);
    let mut malleated = good.clone();
    malleated.inputs[0].witness = Witness(vec![Part::Signature([1; 64])]);
    assert_eq!(malleated.id(), good.id());
    assert_eq!(pool.add(&mut node.0, malleated, 0), Err(PoolError::Signature));
    let elsewhere = Transaction { chain: CHAIN + 1, ..good.clone() };
    let chain = CoinError::Chain { expected: CHAIN, found: CHAIN + 1 };
    assert_eq!(pool.add(&mut node.0, elsewhere, 0), Err(PoolError::Invalid(chain)));
    let coinbase = Transaction::coinbase(CHAIN, 9, [pay(1, 1)]);
    assert_eq!(pool.add(&mut node.0, coinbase, 0), Err(PoolError::Invalid(CoinError::Coinbase)));
    let orphan = spend(2, OutPoint { index: 7, ..coins[0] }, [pay(3, 1)]);
    assert!(matches!(pool.add(&mut node.0, orphan, 0), Err(PoolError::Invalid(CoinError::Missing(_)))));
    let mut late = Transaction::new(CHAIN, [coins[0]], [pay(2, 5)]);
    late.inputs[0].age = Age::Blocks(50);
    late.sign(0, &keypair(1));
    assert_eq!(pool.add(&mut node.0, late, 0), Err(PoolError::Invalid(CoinError::Early)));
    assert_eq!(pool.add(&mut node.0, good, 0), Ok(vec![]));
}

#[test]
fn no_more_than_a_family_depends_on_each_other() {
    let (mut node, coins) = funded(1);
    let mut line = pool();
    let mut last = paying(&node, coins[0], 0);
    for i in 1..=26u64 {
        let added = line.add(&mut node.0, last.clone(), 0);
        assert_eq!(added, if i <= 25 { Ok(vec![]) } else { Err(PoolError::Dependence) }, "{i} in a row");
        last = spend(2, last.out_point(0), [pay(2, last.outputs[0].value)]);
    }
    let mut star = pool();
    let centre = spend(1, coins[0], (0..30).map(|_| pay(2, 10)));
    star.add(&mut node.0, centre.clone(), 0).unwrap();
    for index in 0..26 {
        let added = star.add(&mut node.0, spend(2, centre.out_point(index), [pay(3, 10)]), 0);
        assert_eq!(added, if index < 24 { Ok(vec![]) } else { Err(PoolError::Dependence) }, "{index} around");
    }
}

/// What waits is applied anew after blocks that may have changed what it depends on, and what was in a block comes back when that
/// is undone; their signatures are good already.
#[test]
fn signatures_of_what_waits_are_checked_once() {
    let board = Board { chain: CHAIN };
    let headers = HeaderChain::new(Pow::regtest(), genesis(), HeaderRules::default());
    let (store, verifier) = (MemoryStore::default(), Verifier::new([9; 32]).remembering(0));
    let mut chain = Chain::new(headers, board, store, verifier, ChainRules::default());
    let mut pool = Pool::new(PoolRules::default());
    for topic in 0..10u8 {
        pool.add(&mut chain, board.open(&keypair(1), &[topic]), 0).unwrap();
    }
    let checked = chain.verifier().checked();
    assert_eq!(checked, 10);
    let other: Vec<Notice> = vec![board.open(&keypair(2), b"another")];
    let header = follow(&Pow::regtest(), &genesis(), transactions_root(&other));
    let outcome = chain.accept(Block { header, transactions: other }, NOW).unwrap();
    let checked = chain.verifier().checked();
    assert_eq!((checked, outcome.connected.len()), (11, 1));
    pool.follow(&mut chain, &outcome, 0).unwrap();
    assert_eq!((pool.len(), chain.verifier().checked()), (10, 11));
    let mut parent = genesis();
    let longer = [(); 2].map(|()| {
        parent = follow(&Pow::regtest(), &parent, transactions_root::<Notice>(&[]));
        chain.accept(Block { header: parent.clone(), transactions: Vec::new() }, NOW).unwrap()
    });
    assert_eq!((longer[1].disconnected.len(), longer[1].connected.len()), (1, 2));
    pool.follow(&mut chain, &longer[1], 0).unwrap();
    assert_eq!((pool.len(), chain.verifier().checked()), (11, 11));
}

#[test]
fn a_block_takes_what_pays_most_with_what_it_depends_on() {
    let (mut node, coins) = funded(4);
    let mut pool = pool();
    let value = SUBSIDY / 4;
    let fees = [20, 0, 50, 10];
    let payments: Vec<Transaction> = (0..4).map(|i| spend(1, coins[i], [pay(2, value - fees[i])])).collect();
    for payment in &payments {
        pool.add(&mut node.0, payment.clone(), 0).unwrap();
    }
    // It pays for its parent, which pays nothing.
    let child = spend(2, payments[1].out_point(0), [pay(3, value - 80)]);
    pool.add(&mut node.0, child.clone(), 0).unwrap();
    let chosen = |bytes: usize| {
        let (chosen, fees) = pool.select(&node.0, bytes).unwrap();
        (chosen.iter().map(Tx::id).collect::<Vec<_>>(), fees)
    };
    let size = payments[0].to_bytes().len();
    let ids = |of: &[&Transaction]| of.iter().map(|one| one.id()).collect::<Vec<_>>();
    let all = [&payments[2], &payments[1], &child, &payments[0], &payments[3]];
    assert_eq!(chosen(100 * size), (ids(&all), 160));
    assert_eq!(chosen(3 * size), (ids(&all[..3]), 130));
    assert_eq!(chosen(2 * size), (ids(&[&payments[2], &payments[0]]), 70), "the pair no longer fits");
    assert_eq!(chosen(size - 1), (vec![], 0));
}

#[test]
fn a_full_pool_keeps_what_pays_most() {
    let (mut node, coins) = funded(20);
    let size = paying(&node, coins[0], 0).to_bytes().len();
    let mut pool: CoinPool = Pool::new(PoolRules { bytes: 10 * size, ..PoolRules::default() });
    for (i, coin) in coins[..10].iter().enumerate() {
        let payment = paying(&node, *coin, 10 + i as u64);
        pool.add(&mut node.0, payment, 0).unwrap();
    }
    let (cheap, dear) = (paying(&node, coins[10], 10), paying(&node, coins[10], 12));
    assert_eq!(pool.add(&mut node.0, cheap, 0), Err(PoolError::Full), "no more than the least");
    assert_eq!(pool.add(&mut node.0, dear, 0), Ok(vec![]));
    assert!(pool.bytes() <= 10 * size && pool.len() == 10);
    let least = pool.iter().map(|one| pool.fee(&one.id()).unwrap()).min();
    assert_eq!(least, Some(11));
}

#[test]
fn what_waits_too_long_goes_with_what_depends_on_it() {
    let (mut node, coins) = funded(2);
    let mut pool: CoinPool = Pool::new(PoolRules { expiry: 100, ..PoolRules::default() });
    let (old, new) = (paying(&node, coins[0], 1), paying(&node, coins[1], 1));
    let child = spend(2, old.out_point(0), [pay(3, 5)]);
    pool.add(&mut node.0, old, 1_000).unwrap();
    pool.add(&mut node.0, child, 1_090).unwrap();
    pool.add(&mut node.0, new.clone(), 1_090).unwrap();
    assert_eq!(pool.expire(1_100), []);
    assert_eq!(pool.expire(1_101).len(), 2);
    assert_eq!(pool.iter().map(Tx::id).collect::<Vec<_>>(), [new.id()]);
}

#[test]
fn the_pool_follows_the_chain_through_a_reorganisation() {
    let (mut node, coins) = funded(3);
    let mut pool = pool();
    let fork = node.0.tip_header().clone();
    let payments: Vec<Transaction> = coins.iter().map(|coin| paying(&node, *coin, 5)).collect();
    let child = spend(2, payments[0].out_point(0), [pay(3, 100)]);
    for one in payments.iter().chain([&child]) {
        pool.add(&mut node.0, one.clone(), 0).unwrap();
    }
    let mined = block(&fork, 0, SUBSIDY, &payments[..2]);
    let outcome = node.accept(&mined).unwrap();
    pool.follow(&mut node.0, &outcome, 1).unwrap();
    let waiting = |pool: &CoinPool| pool.iter().map(Tx::id).collect::<Vec<_>>();
    assert_eq!(waiting(&pool), [payments[2].id(), child.id()], "what is in a block waits no more");
    // Another branch, in which the second coin goes elsewhere.
    let cheat = spend(1, coins[1], [pay(4, 50)]);
    let other = block(&fork, 6, SUBSIDY, std::slice::from_ref(&cheat));
    let longer = block(&other.header, 6, SUBSIDY, &[]);
    let outcomes = node.accept_branch(&[other, longer]);
    pool.follow(&mut node.0, outcomes[1].as_ref().unwrap(), 2).unwrap();
    let mut back = waiting(&pool);
    let mut expected = vec![payments[0].id(), payments[2].id(), child.id()];
    back.sort();
    expected.sort();
    assert_eq!(back, expected, "the first payment is back, its child after it, the second is void");
    let (chosen, fees) = pool.select(&node.0, 100_000).unwrap();
    assert_eq!((chosen.len(), fees > 10), (3, true));
    node.mine(0, &chosen);
    node.check_supply();
}

#[test]
fn a_payment_that_was_new_coins_of_a_lost_branch_does_not_come_back() {
    let mut node = Node::new();
    let lost = branch(&genesis(), 1, MATURITY as usize + 1);
    node.accept_branch(&lost);
    let mut pool = pool();
    let payment = spend(1, lost[0].transactions[0].out_point(0), [pay(2, SUBSIDY)]);
    pool.add(&mut node.0, payment, 0).unwrap();
    let outcomes = node.accept_branch(&branch(&genesis(), 2, MATURITY as usize + 2));
    pool.follow(&mut node.0, outcomes.last().unwrap().as_ref().unwrap(), 1).unwrap();
    assert!(pool.is_empty());
}

#[test]
fn a_mined_template_is_the_next_block_and_pays_its_fees() {
    let (mut node, coins) = funded(10);
    let mut pool = pool();
    for coin in &coins {
        let payment = paying(&node, *coin, 7);
        pool.add(&mut node.0, payment, 0).unwrap();
    }
    let to = Lock::Key(keypair(9).id().into()).to_bytes();
    let now = node.0.tip_header().time + 1_000;
    let (mut miner, mut solo) =
        (Miner(Pow::regtest()), Solo::new(template(&node.0, &pool, &to, now).unwrap(), 4));
    let stale = miner.run(vec![
        solo.next_range(),
        solo.next_range(),
        solo.next_range(),
        solo.next_range(),
        solo.next_range(),
    ]);
    // Meanwhile somebody else has mined.
    let others = node.mine(0, &[]);
    let next = template(&node.0, &pool, &to, now).unwrap();
    assert_eq!((next.header.previous, next.header.height), (others.header.id(), others.header.height + 1));
    solo.renew(next);
    assert!(stale.into_iter().all(|done| solo.done(done).is_none()), "of the old block");
    let found: Block<_, Transaction> = loop {
        let done = miner.run(vec![solo.next_range()]).remove(0);
        if let Some(block) = solo.done(done) {
            break block;
        }
    };
    assert_eq!(found.transactions.len(), 11);
    let outcome = node.accept(&found).unwrap();
    assert_eq!(outcome.connected, [found.header.id()]);
    pool.follow(&mut node.0, &outcome, now).unwrap();
    assert!(pool.is_empty());
    assert_eq!(node.balance(9), SUBSIDY + 70);
    node.check_supply();
}

#[test]
fn a_template_is_no_larger_than_a_block_may_be() {
    let (mut big, coins) = funded(20);
    let rules = ChainRules { block_bytes: 2_000, ..ChainRules::default() };
    let mut node = Node::with(HeaderRules::default(), rules);
    let blocks: Vec<_> = (1..=big.0.tip().height)
        .map(|height| big.0.block(&big.0.headers().at(height).unwrap().id()).unwrap().unwrap())
        .collect();
    node.accept_branch(&blocks);
    assert_eq!(node.0.tip(), big.0.tip());
    let mut pool = pool();
    for coin in &coins {
        let payment = paying(&node, *coin, 7);
        pool.add(&mut node.0, payment, 0).unwrap();
    }
    let to = Lock::Key(keypair(9).id().into()).to_bytes();
    let mut block = template(&node.0, &pool, &to, node.0.tip_header().time + 600).unwrap();
    assert!(block.to_bytes().len() <= 2_000 && block.to_bytes().len() > 1_700);
    assert!(Pow::regtest().mine(&mut block.header, 0, 1 << 20));
    assert_eq!(node.accept(&block).unwrap().connected.len(), 1);
    let too_large = crate::support::block(
        node.0.tip_header(),
        0,
        SUBSIDY,
        &[spend(1, coins[0], (0..100).map(|_| pay(2, 0)))],
    );
    assert_eq!(node.accept(&too_large).unwrap().invalid.len(), 1);
    big.mine(0, &[]);
}

/// The same pool over another state machine, which has no fees.
#[test]
fn notices_of_a_board_wait_in_the_order_of_their_writers() {
    let board = Board { chain: 3 };
    let headers = HeaderChain::new(Pow::regtest(), genesis(), HeaderRules::default());
    let verifier = Verifier::new([3; 32]);
    let mut chain = Chain::new(headers, board, MemoryStore::default(), verifier, ChainRules::default());
    let mut pool: Pool<Board> = Pool::new(PoolRules::default());
    let (owner, writer) = (keypair(1), keypair(2));
    let open = board.open(&owner, b"news");
    let topic = open.topic;
    let post = |number| -> Notice {
        board.notice(&writer, topic, number, Act::Post { content: p2p_core::Key::of(&[number as u8]) })
    };
    let admit = board.notice(&owner, topic, 1, Act::Admit(writer.id().into()));
    assert!(pool.add(&mut chain, post(0), 0).is_err(), "nobody has opened it");
    for notice in [open, admit, post(0), post(1)] {
        assert_eq!(pool.add(&mut chain, notice, 0), Ok(vec![]));
    }
    let other = board.notice(&writer, topic, 1, Act::Post { content: p2p_core::Key::of(b"other") });
    assert!(matches!(pool.add(&mut chain, other, 0), Err(PoolError::Underpaid { .. })));
    let mut block = template(&chain, &pool, &[], chain.tip_header().time + 600).unwrap();
    assert_eq!(block.transactions.len(), 4);
    assert!(Pow::regtest().mine(&mut block.header, 0, 1 << 20));
    let outcome = chain.accept(block, crate::support::NOW).unwrap();
    pool.follow(&mut chain, &outcome, 0).unwrap();
    assert!(pool.is_empty());
    assert_eq!(board.read(&chain.view(), &topic).unwrap().posts, 2);
}

/// What removes a writer shares nothing with what he has posted.
#[test]
fn what_a_block_has_made_invalid_waits_no_more() {
    let board = Board { chain: 3 };
    let headers = HeaderChain::new(Pow::regtest(), genesis(), HeaderRules::default());
    let verifier = Verifier::new([3; 32]);
    let mut chain = Chain::new(headers, board, MemoryStore::default(), verifier, ChainRules::default());
    let mut pool: Pool<Board> = Pool::new(PoolRules::default());
    let (owner, writer) = (keypair(1), keypair(2));
    let open = board.open(&owner, b"news");
    let topic = open.topic;
    let owners = |number, act| board.notice(&owner, topic, number, act);
    let content = p2p_core::Key::of(b"post");
    let next = |chain: &mut Chain<Pow, Board, MemoryStore>, notices: Vec<Notice>| {
        let root = p2p_ledger::transactions_root(&notices);
        let header = crate::support::follow(&Pow::regtest(), chain.tip_header(), root);
        chain.accept(Block { header, transactions: notices }, crate::support::NOW).unwrap()
    };
    next(&mut chain, vec![open, owners(1, Act::Admit(writer.id().into()))]);
    let (post, stays) =
        (board.notice(&writer, topic, 0, Act::Post { content }), owners(3, Act::Post { content }));
    pool.add(&mut chain, post, 7).unwrap();
    let remove = owners(2, Act::Remove(writer.id().into()));
    pool.add(&mut chain, remove.clone(), 7).unwrap();
    pool.add(&mut chain, stays.clone(), 7).unwrap();
    let outcome = next(&mut chain, vec![remove]);
    pool.follow(&mut chain, &outcome, 8).unwrap();
    assert_eq!(pool.iter().map(Tx::id).collect::<Vec<_>>(), [stays.id()]);
    let late = 7 + PoolRules::default().expiry;
    assert_eq!((pool.expire(late).len(), pool.expire(late + 1).len()), (0, 1), "it has waited since it came");
}

/// A board that counts how many notices were applied.
#[derive(Clone)]
struct Counting(Board, Arc<AtomicUsize>);

impl State for Counting {
    type Tx = Notice;
    type Error = BoardError;

    fn apply(
        &self,
        view: &mut View<'_>,
        place: &Place,
        notice: &Notice,
        checks: &mut Checks,
    ) -> Result<u64, BoardError> {
        self.1.fetch_add(1, Ordering::Relaxed);
        self.0.apply(view, place, notice, checks)
    }

    fn footprint(&self, notice: &Notice) -> Footprint {
        self.0.footprint(notice)
    }
}

/// Twenty writers' posts wait, and one of them may write no more: nobody else's are looked at again.
#[test]
fn after_a_block_that_alone_is_looked_at_which_it_may_have_made_invalid() {
    let (board, applied) = (Board { chain: CHAIN }, Arc::new(AtomicUsize::new(0)));
    let headers = HeaderChain::new(Pow::regtest(), genesis(), HeaderRules::default());
    let (store, verifier) = (MemoryStore::default(), Verifier::new([9; 32]));
    let counting = Counting(board, applied.clone());
    let mut chain = Chain::new(headers, counting, store, verifier, ChainRules::default());
    let mut pool: Pool<Counting> = Pool::new(PoolRules::default());
    let owner = keypair(1);
    let open = board.open(&owner, b"news");
    let topic = open.topic;
    let owners = |number: u64, act| board.notice(&owner, topic, number, act);
    type Counted = Chain<Pow, Counting, MemoryStore>;
    let follow_up = |pool: &mut Pool<Counting>, chain: &mut Counted, notices: Vec<Notice>| {
        let header = follow(&Pow::regtest(), chain.tip_header(), transactions_root(&notices));
        let outcome = chain.accept(Block { header, transactions: notices }, NOW).unwrap();
        assert_eq!(outcome.connected.len(), 1);
        applied.store(0, Ordering::Relaxed);
        pool.follow(chain, &outcome, 0).unwrap();
        applied.load(Ordering::Relaxed)
    };
    let writers: Vec<_> = (2..22).map(keypair).collect();
    let admitted = (1..).zip(&writers).map(|(number, writer)| owners(number, Act::Admit(writer.id().into())));
    let opening: Vec<Notice> = std::iter::once(open).chain(admitted).collect();
    follow_up(&mut pool, &mut chain, opening);
    for writer in &writers {
        for number in 0..2 {
            let content = p2p_core::Key::of(&[number as u8]);
            pool.add(&mut chain, board.notice(writer, topic, number, Act::Post { content }), 0).unwrap();
        }
    }
    let content = p2p_core::Key::of(b"the owner's");
    assert_eq!(follow_up(&mut pool, &mut chain, vec![owners(21, Act::Post { content })]), 0);
    assert_eq!(pool.len(), 40);
    let removed = owners(22, Act::Remove(writers[7].id().into()));
    assert_eq!(follow_up(&mut pool, &mut chain, vec![removed]), 2);
    assert_eq!(pool.len(), 38);
    let gone: PublicKey = writers[7].id().into();
    assert!(pool.iter().all(|notice| notice.by != gone));
}
