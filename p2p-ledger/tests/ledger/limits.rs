//! A chain that is short of memory, whose store fails, or whose state machine writes more than ours do.

use std::cell::Cell;

use p2p_core::{Key, Rng};
use p2p_ledger::{
    Batch, Block, BlockError, Chain, ChainRules, Checks, Decode, Encode, Footprint, Header, HeaderChain,
    HeaderRules, InvalidBlock, InvalidEncoding, MAX_TRANSACTIONS, MemoryStore, Place, Pool, PoolRules,
    Reader, State, Store, StoreError, Tx, TxId, Verifier, View, WtxId, template, transactions_root,
};

use crate::support::{CoinBlock, Light, NOW, Node, Pow, SUBSIDY, block, branch, follow, genesis};

thread_local! {
    static WORDS: Cell<isize> = const { Cell::new(0) };
}

/// A number, and how many of them there are in memory.
#[derive(Debug, PartialEq)]
struct Word(u32);

impl Word {
    fn new(number: u32) -> Word {
        WORDS.with(|words| words.set(words.get() + 1));
        Word(number)
    }
}

impl Clone for Word {
    fn clone(&self) -> Word {
        Word::new(self.0)
    }
}

impl Drop for Word {
    fn drop(&mut self) {
        WORDS.with(|words| words.set(words.get() - 1));
    }
}

impl Encode for Word {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0.to_le_bytes());
    }
}

impl Decode for Word {
    fn decode(input: &mut Reader<'_>) -> Result<Word, InvalidEncoding> {
        input.u32().map(Word::new)
    }
}

impl Tx for Word {
    fn id(&self) -> TxId {
        TxId(Key::of(&self.0.to_le_bytes()))
    }

    fn wtxid(&self) -> WtxId {
        WtxId(Key::of(&self.0.to_le_bytes()))
    }

    fn about(&self) -> Vec<Vec<u8>> {
        vec![self.to_bytes()]
    }
}

/// Writes every word down, under keys and in values of this length.
struct Words {
    key: usize,
    value: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[error("never")]
struct Never;

impl State for Words {
    type Tx = Word;
    type Error = Never;

    fn apply(&self, view: &mut View<'_>, _: &Place, word: &Word, _: &mut Checks) -> Result<u64, Never> {
        let mut key = vec![1; self.key];
        key[..4].copy_from_slice(&(word.0 % 3 + 1).to_le_bytes());
        view.put(key, vec![word.0 as u8; self.value]);
        Ok(0)
    }

    fn footprint(&self, word: &Word) -> Footprint {
        Footprint { uses: vec![word.to_bytes()], ..Footprint::default() }
    }
}

type WordBlock = Block<Light, Word>;

fn words_after(parent: &Light, words: impl IntoIterator<Item = u32>) -> WordBlock {
    let transactions: Vec<Word> = words.into_iter().map(Word::new).collect();
    let header = follow(&Pow::regtest(), parent, transactions_root(&transactions));
    Block { header, transactions }
}

fn chain_of<D: Store>(words: Words, store: D, rules: ChainRules) -> Chain<Pow, Words, D> {
    let headers = HeaderChain::new(Pow::regtest(), genesis(), HeaderRules::default());
    Chain::new(headers, words, store, Verifier::new([9; 32]), rules)
}

const SHORT: Words = Words { key: 4, value: 1 };

fn headers_of(blocks: &[CoinBlock]) -> Vec<Light> {
    blocks.iter().map(|block| block.header.clone()).collect()
}

/// Blocks of one size, and a node with room for ten of their bodies.
fn short_of_memory(parent: &Light, length: usize) -> (Vec<CoinBlock>, Node) {
    let blocks = branch(parent, 2, length);
    let bytes = blocks[0].to_bytes().len() - blocks[0].header.to_bytes().len();
    let rules = ChainRules { waiting_bytes: 10 * bytes, ..ChainRules::default() };
    (blocks, Node::with(HeaderRules::default(), rules))
}

/// None of its blocks before the last has more work than the tip, so all have to be here before the first can be done.
#[test]
fn a_branch_with_more_bodies_than_may_wait_in_memory_is_taken() {
    for backwards in [false, true] {
        let (mut other, mut node) = short_of_memory(&genesis(), 21);
        let ours = branch(&genesis(), 1, 20);
        node.accept_branch(&ours);
        let end = other[20].header.id();
        node.0.accept_headers(&headers_of(&other), NOW).unwrap();
        if backwards {
            other.reverse();
        }
        for _ in 0..5 {
            for block in &other {
                if node.0.wanted(100).contains(&block.header.id()) {
                    let _: Result<_, BlockError> = node.accept(block);
                }
            }
        }
        assert_eq!((node.0.tip().id, node.0.waiting()), (end, 0));
        node.check_supply();
        // Nothing is left of what waited in the store, and the bodies are where they belong.
        assert!(node.0.store().iter().all(|(key, _)| !key.starts_with(&[0, b'w'])));
        other.iter().for_each(|block| assert_eq!(node.0.block(&block.header.id()), Ok(Some(block.clone()))));
    }
}

#[test]
fn what_waited_in_the_store_is_gone_when_the_chain_is_opened_again_or_its_branch_given_up() {
    let (mut other, mut node) = short_of_memory(&genesis(), 20);
    node.accept_branch(&branch(&genesis(), 1, 20));
    other.push(block(&other[19].header, 2, SUBSIDY + 1, &[]));
    let bodies = |store: &MemoryStore| store.iter().filter(|(key, _)| key.starts_with(&[0, b'b'])).count();
    node.0.accept_headers(&headers_of(&other), NOW).unwrap();
    for block in &other[..19] {
        let _: Result<_, BlockError> = node.accept(block);
    }
    assert_eq!((bodies(node.0.store()), node.0.waiting()), (20 + 9, 19));
    let headers = HeaderChain::new(Pow::regtest(), genesis(), HeaderRules::default());
    let coins = p2p_ledger::Coins::new(crate::support::CHAIN, SUBSIDY);
    let verifier = Verifier::new([9; 32]);
    let opened =
        Chain::open(headers, coins, node.0.store().clone(), verifier, ChainRules::default()).unwrap();
    assert_eq!((opened.tip(), bodies(opened.store())), (node.0.tip(), 20));
    // The last block is bad; those before it are no better than ours and wait on.
    let tip = node.0.tip();
    node.accept(&other[19]).unwrap();
    assert_eq!(node.accept(&other[20]).unwrap().invalid.len(), 1);
    assert_eq!(node.0.tip(), tip);
    let bad = block(&genesis(), 3, SUBSIDY + 1, &[]);
    let after = [vec![bad.clone()], branch(&bad.header, 3, 21)].concat();
    node.0.accept_headers(&headers_of(&after), NOW).unwrap();
    let last: Vec<_> = after.iter().map(|block| node.accept(block)).filter_map(Result::ok).collect();
    assert!(last.iter().any(|outcome| outcome.invalid.first().is_some_and(|(id, _)| *id == bad.header.id())));
    assert_eq!((node.0.tip(), bodies(node.0.store())), (tip, 20), "nothing of either branch is left");
}

/// Trees of blocks, some of them bad, whose bodies come in any order to nodes with next to no room. Who is given what it
/// asks for comes to the heaviest branch that is good.
#[test]
fn however_little_room_there_is_the_best_good_branch_is_taken() {
    for seed in 0..60 {
        let mut rng = Rng::new(seed);
        let (mut made, mut good) = (vec![genesis()], vec![true]);
        let mut blocks: Vec<CoinBlock> = Vec::new();
        for _ in 0..40 {
            // Rather on one of the last, so that there are long branches.
            let parent = if rng.chance(0.7) {
                made.len() - 1 - rng.index(made.len().min(4))
            } else {
                rng.index(made.len())
            };
            let bad = rng.chance(0.1);
            let next = block(&made[parent], rng.below(200) as u8, SUBSIDY + u64::from(bad), &[]);
            good.push(good[parent] && !bad);
            made.push(next.header.clone());
            blocks.push(next);
        }
        let siblings = if rng.chance(0.5) { 64 } else { 1 + rng.index(3) };
        let rules = ChainRules { waiting_bytes: rng.index(800), ..ChainRules::default() };
        let mut node = Node::with(HeaderRules { siblings, ..HeaderRules::default() }, rules);
        for block in &blocks {
            let _: Result<_, _> = node.0.accept_headers(std::slice::from_ref(&block.header), NOW);
        }
        for _ in 0..60 {
            let _: Result<_, BlockError> = node.accept(&blocks[rng.index(blocks.len())]);
        }
        for _ in 0..200 {
            let [wanted, ..] = node.0.wanted(1)[..] else { break };
            let block = blocks.iter().find(|block| block.header.id() == wanted).unwrap();
            node.accept(block).unwrap();
        }
        let best = made.iter().zip(&good).filter(|(_, good)| **good).map(|(header, _)| header.height).max();
        assert_eq!(node.0.tip().work, node.0.headers().tip().work, "seed {seed}");
        assert!(siblings < 64 || Some(node.0.tip().height) == best, "seed {seed}");
        node.check_supply();
    }
}

#[test]
fn bodies_that_wait_are_not_kept_decoded() {
    let mut chain = chain_of(SHORT, MemoryStore::default(), ChainRules::default());
    let first = words_after(&genesis(), 0..10);
    let second = words_after(&first.header, 10..1_000);
    chain.accept_headers(std::slice::from_ref(&first.header), NOW).unwrap();
    let before = WORDS.with(Cell::get);
    let count = second.transactions.len() as isize;
    chain.accept(second, NOW).unwrap();
    assert_eq!((chain.waiting(), WORDS.with(Cell::get)), (1, before - count));
    assert_eq!(chain.accept(first, NOW).unwrap().connected.len(), 2);
}

/// Undo data is this node's own: whatever a state machine writes can be taken back.
#[test]
fn a_state_machine_with_long_keys_and_values_can_be_reorganised() {
    let long = Words { key: 300, value: 70_000 };
    let mut chain = chain_of(long, MemoryStore::default(), ChainRules::default());
    let ours = words_after(&genesis(), 0..3);
    let more = words_after(&ours.header, 3..9);
    chain.accept(ours, NOW).unwrap();
    chain.accept(more, NOW).unwrap();
    let mut parent = genesis();
    let mut last = Ok(Default::default());
    let other: Vec<WordBlock> = (0..3)
        .map(|number| {
            let block = words_after(&parent, [number]);
            parent = block.header.clone();
            block
        })
        .collect();
    let headers: Vec<Light> = other.iter().map(|block| block.header.clone()).collect();
    chain.accept_headers(&headers, NOW).unwrap();
    for block in other {
        last = chain.accept(block, NOW);
    }
    assert_eq!(last.unwrap().disconnected.len(), 2);
}

#[test]
fn a_block_that_nobody_could_read_is_not_made_and_not_taken() {
    let mut chain = chain_of(SHORT, MemoryStore::default(), ChainRules::default());
    let most = MAX_TRANSACTIONS as u32;
    let mut pool: Pool<Words> = Pool::new(PoolRules::default());
    (0..=most).for_each(|number| drop(pool.add(&mut chain, Word::new(number), 0).unwrap()));
    let made = template(&chain, &pool, &[], genesis().time + 600).unwrap();
    assert_eq!(made.transactions.len(), MAX_TRANSACTIONS - 1);
    let too_many = words_after(&genesis(), 0..=most);
    let (id, count) = (too_many.header.id(), u64::from(most) + 1);
    let outcome = chain.accept(too_many, NOW).unwrap();
    let why = InvalidEncoding::TooMany { count, most: MAX_TRANSACTIONS };
    assert_eq!((outcome.connected, outcome.invalid), (vec![], vec![(id, InvalidBlock::Encoding(why))]));
    let full = words_after(&genesis(), 0..most);
    assert_eq!(chain.accept(full, NOW).unwrap().connected.len(), 1);
}

/// A store that fails when it is told to.
#[derive(Default)]
struct Failing {
    store: MemoryStore,
    fails: bool,
}

impl Store for Failing {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.store.get(key)
    }

    fn scan(&self, prefix: &[u8], each: &mut dyn FnMut(&[u8], &[u8])) -> Result<(), StoreError> {
        self.store.scan(prefix, each)
    }

    fn commit(&mut self, batch: Batch) -> Result<(), StoreError> {
        match self.fails {
            true => Err(StoreError("the disk is full".into())),
            false => self.store.commit(batch),
        }
    }
}

#[test]
fn a_block_that_could_not_be_written_is_tried_again() {
    let mut chain = chain_of(SHORT, Failing::default(), ChainRules::default());
    let next = words_after(&genesis(), 0..3);
    chain.store_mut().fails = true;
    assert!(matches!(chain.accept(next.clone(), NOW), Err(BlockError::Store(_))));
    assert_eq!(chain.tip().height, 0);
    chain.store_mut().fails = false;
    assert_eq!(chain.accept(next.clone(), NOW).unwrap().connected, [next.header.id()]);
    // As is one that could not even wait.
    let rules = ChainRules { waiting_bytes: 0, ..ChainRules::default() };
    let mut chain = chain_of(SHORT, Failing::default(), rules);
    chain.accept(next, NOW).unwrap();
    let other = words_after(&genesis(), 6..9);
    let longer = words_after(&other.header, 0..2);
    chain.accept_headers(&[other.header.clone(), longer.header.clone()], NOW).unwrap();
    chain.store_mut().fails = true;
    assert!(matches!(chain.accept(other.clone(), NOW), Err(BlockError::Store(_))));
    assert_eq!((chain.waiting(), chain.wanted(2).len()), (0, 2));
    chain.store_mut().fails = false;
    chain.accept(other, NOW).unwrap();
    assert_eq!(chain.waiting(), 1);
    assert_eq!(chain.accept(longer, NOW).unwrap().connected.len(), 2);
}

/// Whoever has sent what is invalid is to be known, though the next best branch cannot be written.
#[test]
fn what_is_invalid_is_said_though_the_storage_fails_then() {
    let headers = HeaderChain::new(Pow::regtest(), genesis(), HeaderRules::default());
    let (coins, verifier) = (p2p_ledger::Coins::new(crate::support::CHAIN, SUBSIDY), Verifier::new([9; 32]));
    let mut chain = Chain::new(headers, coins, Failing::default(), verifier, ChainRules::default());
    let good = block(&genesis(), 1, SUBSIDY, &[]);
    let bad = block(&good.header, 1, SUBSIDY + 1, &[]);
    chain.accept_headers(&headers_of(&[good.clone(), bad.clone()]), NOW).unwrap();
    chain.store_mut().fails = true;
    chain.accept(bad.clone(), NOW).unwrap();
    let outcome = chain.accept(good.clone(), NOW).unwrap();
    assert_eq!((outcome.invalid[0].0, outcome.connected.len()), (bad.header.id(), 0));
    assert!(outcome.failure.is_some());
    chain.store_mut().fails = false;
    let next = block(&good.header, 1, SUBSIDY, &[]);
    assert_eq!(chain.accept(next, NOW).unwrap().connected.len(), 2);
}
