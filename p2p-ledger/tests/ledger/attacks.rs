//! What an attacker may try, one test each. What needs a network is not here yet.

use p2p_core::{Key, Keypair, Rng};
use p2p_ledger::{
    Age, BlockError, BlockHeader, ChainRules, CoinError, Compact, Encode, Fault, Header, HeaderChain,
    HeaderRules, InvalidBlock, Lock, LockTime, MerkleProof, OutPoint, Output, Part, ProofOfWork, PublicKey,
    Refused, Retarget, Transaction, Tx, TxId, Witness, Work, transactions_root,
};

use crate::support::{
    CHAIN, Light, MATURITY, NOW, Node, Pow, SUBSIDY, block, branch, follow, genesis, keypair, light, pay,
    spend, whole,
};

fn state(error: CoinError) -> InvalidBlock<CoinError> {
    InvalidBlock::State(error)
}

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
fn a_malleated_witness_changes_neither_the_id_nor_what_is_signed() {
    let (mut node, coin) = Node::funded();
    let good = spend(1, coin, [pay(2, SUBSIDY)]);
    let witness = |parts| {
        let mut altered = good.clone();
        altered.inputs[0].witness = Witness(parts);
        assert_eq!((altered.id(), altered.wtxid() == good.wtxid()), (good.id(), false));
        altered
    };
    let Part::Signature(signature) = good.inputs[0].witness.0[0].clone() else { panic!("one signature") };
    let mut flipped = signature;
    flipped[63] ^= 0x80;
    let refused = node.refusal(&[witness(vec![Part::Signature(flipped)])]);
    assert_eq!(refused, InvalidBlock::Signature);
    let padded = witness(vec![Part::Signature(signature), Part::Choice(0)]);
    assert!(matches!(node.refusal(&[padded]), InvalidBlock::State(CoinError::Lock(_))));
    // Who pays signs another one with the same id; it is as good, and one of them counts.
    node.mine(0, &[good]);
    assert_eq!(node.balance(2), SUBSIDY);
}

#[test]
fn a_signature_is_for_one_transaction_and_one_chain() {
    let (mut node, coin) = Node::funded();
    let mut elsewhere = Transaction::new(CHAIN + 1, [coin], [pay(2, SUBSIDY)]);
    elsewhere.sign(0, &keypair(1));
    let expected = CoinError::Chain { expected: CHAIN, found: CHAIN + 1 };
    assert_eq!(node.refusal(std::slice::from_ref(&elsewhere)), state(expected));
    let replayed = Transaction { chain: CHAIN, ..elsewhere };
    assert_eq!(node.refusal(&[replayed]), InvalidBlock::Signature);
    let mut redirected = spend(1, coin, [pay(2, SUBSIDY)]);
    redirected.outputs = vec![pay(3, SUBSIDY)];
    assert_eq!(node.refusal(&[redirected]), InvalidBlock::Signature);
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

/// A key with a part of small order, whose signatures are good with the cofactor and not without: a block with them is
/// judged alike with one signature and with many.
#[test]
fn torsion_key_signatures_split_no_chain() {
    use curve25519_dalek::constants::{ED25519_BASEPOINT_POINT, EIGHT_TORSION};
    use curve25519_dalek::scalar::Scalar;
    use sha2::Digest;
    let mut rng = Rng::new(3);
    let mut scalar = || {
        let mut wide = [0; 64];
        rng.fill(&mut wide);
        Scalar::from_bytes_mod_order_wide(&wide)
    };
    let (secret, nonce) = (scalar(), scalar());
    let key = (ED25519_BASEPOINT_POINT * secret + EIGHT_TORSION[1]).compress().0;
    let commitment = (ED25519_BASEPOINT_POINT * nonce + EIGHT_TORSION[3]).compress().0;
    let sign = |id: TxId| {
        let message = [b"p2p-ledger spend".as_slice(), id.0.as_bytes()].concat();
        let hash =
            sha2::Sha512::new().chain_update(commitment).chain_update(key).chain_update(message).finalize();
        let answer = nonce + Scalar::from_bytes_mod_order_wide(&hash.into()) * secret;
        let mut signature = [0; 64];
        signature[..32].copy_from_slice(&commitment);
        signature[32..].copy_from_slice(answer.as_bytes());
        Witness(vec![Part::Signature(signature)])
    };
    for others in [0, 5] {
        let (mut node, coin) = Node::funded();
        let lock = Lock::Key(PublicKey(key));
        let share = Output { value: SUBSIDY / 10, lock: lock.clone() };
        let outputs: Vec<Output> = std::iter::repeat_n(share, 1 + others).collect();
        let made = node.mine(0, &[spend(1, coin, outputs)]);
        let spends: Vec<Transaction> = (0..=others as u32)
            .map(|index| {
                let coin = made.transactions[1].out_point(index);
                let mut spending = Transaction::new(CHAIN, [coin], [pay(2, SUBSIDY / 10)]);
                spending.inputs[0].witness = sign(spending.id());
                spending
            })
            .collect();
        node.mine(0, &spends);
        assert_eq!(node.balance(2), (1 + others as u64) * (SUBSIDY / 10));
    }
}

/// Who has all the work lets the last header of each window run ahead in time and holds the others back. By Bitcoin's rule
/// that makes the work easy; measured over every interval it does not, nor does ASERT know windows at all.
#[test]
fn a_time_warp_works_on_bitcoins_windows_alone() {
    let blocks = 32;
    let easiest_after = |retarget: Retarget| {
        let limit = Compact(0x207f_ffff);
        let rules: Pow = ProofOfWork::new(limit, 600).retargeted(retarget);
        // Hard enough that there is room to make it easier, and easy enough to be met in a test.
        let seal = Work { bits: Compact(0x2001_0000), nonce: 0 };
        let first = BlockHeader { seal, ..genesis() };
        let mut chain = HeaderChain::new(rules.clone(), first.clone(), HeaderRules::default());
        let mut last = first;
        let mut honest = last.time;
        let mut easiest = last.seal.bits.target().unwrap();
        for height in 1..=6 * blocks {
            honest += 600;
            let time = match height % blocks == blocks - 1 {
                true => honest + 3_600,
                // As early as the median lets it.
                false => chain.median_time(&last.id()).unwrap() + 1,
            };
            let before: Vec<Light> = (0..height).map(|height| chain.at(height).unwrap().clone()).collect();
            let at = |height: u64| before.get(height as usize);
            let bits = rules.next_bits(&p2p_ledger::Past::new(height - 1, &at));
            let mut next = BlockHeader {
                height,
                previous: last.id(),
                root: Key::ZERO,
                time,
                seal: Work { bits, nonce: 0 },
            };
            assert!(rules.mine(&mut next, 0, 1 << 20));
            chain.accept(&[next.clone()], honest).unwrap();
            easiest = easiest.max(bits.target().unwrap());
            last = next;
        }
        easiest / seal.bits.target().unwrap()
    };
    assert!(easiest_after(Retarget::Bitcoin { blocks }) >= ruint::aliases::U256::from(16));
    assert!(easiest_after(Retarget::Window { blocks }) < ruint::aliases::U256::from(2));
    assert!(easiest_after(Retarget::Asert { half_life: 288 * 600 }) < ruint::aliases::U256::from(2));
}

#[test]
fn a_flood_of_headers_with_little_work_is_not_kept() {
    let rules = HeaderRules { margin: 10, ..HeaderRules::default() };
    let mut chain = HeaderChain::new(Pow::regtest(), genesis(), rules);
    let mut honest = genesis();
    for _ in 0..100 {
        honest = follow(&Pow::regtest(), &honest, Key::ZERO);
        chain.accept(std::slice::from_ref(&honest), NOW).unwrap();
    }
    let (kept, tip) = (chain.len(), chain.tip());
    let mut flood = vec![genesis()];
    for i in 0..80u8 {
        flood.push(follow(&Pow::regtest(), flood.last().unwrap(), Key::of(&[i])));
    }
    assert!(matches!(chain.accept(&flood[1..], NOW), Err(Refused::LowWork { .. })));
    for header in &flood[1..] {
        assert!(chain.accept(std::slice::from_ref(header), NOW).is_err());
    }
    assert_eq!((chain.len(), chain.tip()), (kept, tip));
    // Where the work is near enough, the number of one height is bounded.
    let parent = chain.at(95).unwrap().clone();
    let crowd = (0..200u8).filter(|i| {
        let sibling = follow(&Pow::regtest(), &parent, Key::of(&[*i, 1]));
        chain.accept(&[sibling], NOW).is_ok()
    });
    assert_eq!(crowd.count(), 63, "and the chain's own");
}

#[test]
fn orphans_are_refused_and_cost_nothing() {
    let mut node = Node::new();
    let far = branch(&follow(&Pow::regtest(), &genesis(), Key::of(b"unknown")), 1, 50);
    for orphan in &far {
        let refused = Refused::Unconnected(orphan.header.previous);
        assert!(!refused.is_misbehaviour());
        assert_eq!(node.accept(orphan), Err(BlockError::Header(refused)));
    }
    assert_eq!((node.0.headers().len(), node.0.waiting()), (1, 0));
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

/// Each bad block has the best header until its body is looked at. Of them no more are remembered than of good ones.
#[test]
fn invalid_headers_fill_no_memory() {
    let rules = HeaderRules { siblings: 4, ..HeaderRules::default() };
    let mut node = Node::with(rules, ChainRules::default());
    node.accept_branch(&branch(&genesis(), 1, 3));
    let (kept, tip) = (node.0.headers().len(), node.0.tip());
    for greed in 1..50 {
        let bad = block(node.0.tip_header(), 2, SUBSIDY + greed, &[]);
        let after = branch(&bad.header, 2, 3);
        let headers: Vec<Light> = [std::slice::from_ref(&bad), &after[..]]
            .concat()
            .iter()
            .map(|block| block.header.clone())
            .collect();
        node.0.accept_headers(&headers, NOW).unwrap();
        let _: Result<_, BlockError> = node.accept(&after[1]);
        assert_eq!(node.accept(&bad).unwrap().invalid.len(), 1);
        assert!(node.0.headers().len() <= kept + 4 * 4, "{} headers", node.0.headers().len());
        assert_eq!((node.0.tip(), node.0.headers().tip(), node.0.waiting()), (tip, tip, 0));
    }
    // Places of what was forgotten are taken by what comes.
    let next = branch(node.0.tip_header(), 1, 5);
    let outcomes = node.accept_branch(&next);
    assert!(
        outcomes
            .iter()
            .zip(&next)
            .all(|(outcome, block)| outcome.as_ref().unwrap().connected == [block.header.id()])
    );
    assert_eq!(node.0.headers().tip(), node.0.tip());
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
fn a_checkpoint_holds_against_more_work() {
    let ours = branch(&genesis(), 1, 10);
    let checkpoints = [(5, ours[4].header.id())].into();
    let rules = HeaderRules { checkpoints, ..HeaderRules::default() };
    let mut chain = HeaderChain::new(Pow::regtest(), genesis(), rules);
    let other: Vec<Light> = branch(&genesis(), 2, 20).into_iter().map(|block| block.header).collect();
    assert_eq!(chain.accept(&other, NOW), Err(Refused::Final { height: 5 }));
    let ours: Vec<Light> = ours.into_iter().map(|block| block.header).collect();
    chain.accept(&ours, NOW).unwrap();
    assert_eq!(chain.accept(&other[..4], NOW), Ok(0), "what came before the checkpoint is known");
    let late = follow(&Pow::regtest(), &ours[3], Key::of(b"late"));
    assert_eq!(chain.accept(&[late], NOW), Err(Refused::Final { height: 5 }));
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
fn a_header_from_the_future_is_refused_for_now_alone() {
    let (mut chain, next) = (light(), follow(&Pow::regtest(), &genesis(), Key::ZERO));
    let early = next.time - 2 * 3_600 - 1;
    let refused = chain.accept(std::slice::from_ref(&next), early).unwrap_err();
    assert!(matches!(refused, Refused::Fault(Fault::TooNew { .. })) && !refused.is_misbehaviour());
    assert_eq!(chain.accept(&[next], early + 1), Ok(1));
}

#[test]
fn a_proof_shows_a_payment_to_whoever_has_the_header_and_nothing_else() {
    let (mut node, coin) = Node::funded();
    let payment = spend(1, coin, [pay(2, SUBSIDY)]);
    let mined = node.mine(0, std::slice::from_ref(&payment));
    let proof = mined.proof(1).unwrap();
    let header = node.0.headers().header(&mined.header.id()).unwrap();
    assert!(proof.shows(&header.root, &payment.leaf()));
    let forged = spend(1, OutPoint { id: TxId(Key::of(b"none")), index: 0 }, [pay(2, SUBSIDY)]);
    assert!(!proof.shows(&header.root, &forged.leaf()));
    let other_count = MerkleProof { count: 3, ..proof };
    assert!(!other_count.shows(&header.root, &payment.leaf()));
    assert_eq!(header.root, transactions_root(&mined.transactions));
}

#[test]
fn a_coinbase_cannot_be_spent_by_a_stranger() {
    let (mut node, coin) = Node::funded();
    let mut stolen = Transaction::new(CHAIN, [coin], [pay(2, SUBSIDY)]);
    stolen.sign(0, &Keypair::from_seed(&[2; 32]));
    assert_eq!(node.refusal(&[stolen]), InvalidBlock::Signature);
}
