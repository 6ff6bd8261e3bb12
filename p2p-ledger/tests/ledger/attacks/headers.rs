//! What an attacker may try with headers: to have them counted without work, or kept without worth.

use p2p_core::Key;
use p2p_ledger::{
    BlockError, BlockHeader, ChainRules, Compact, Fault, Header, HeaderChain, HeaderRules, ProofOfWork,
    Refused, Retarget, Work,
};
use ruint::aliases::U256;

use crate::support::{Light, NOW, Node, Pow, SUBSIDY, block, branch, follow, genesis, light};

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
            let bits = rules.next_bits(&p2p_ledger::Past::new(height - 1, &at), time);
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
    assert!(easiest_after(Retarget::Bitcoin { blocks }) >= U256::from(16));
    assert!(easiest_after(Retarget::Window { blocks }) < U256::from(2));
    assert!(easiest_after(Retarget::Asert { half_life: 288 * 600 }) < U256::from(2));
}

/// Who has found a header stamps it as late as the others take it, so that those after it are easy, which he finds alone.
#[test]
fn a_time_ahead_of_ours_makes_little_easy() {
    let seal = Work { bits: Compact(0x2001_0000), nonce: 0 };
    for spacing in [1, 10, 600] {
        let rules: Pow = ProofOfWork::new(Compact(0x207f_ffff), spacing);
        let quick = rules.clone().retargeted(Retarget::Asert { half_life: 10 * spacing });
        for rules in [rules, quick] {
            let first = BlockHeader { seal, ..genesis() };
            let now = first.time + spacing;
            let mut chain = HeaderChain::new(rules.clone(), first.clone(), HeaderRules::default());
            let mut stamped = |time| {
                let mut next = BlockHeader { time, ..follow(&rules, &first, Key::ZERO) };
                assert!(rules.mine(&mut next, 0, 1 << 20));
                chain.accept(std::slice::from_ref(&next), now).map(|_| next)
            };
            let Err(Refused::Fault(Fault::TooNew { latest, .. })) = stamped(u64::MAX) else {
                panic!("a time at the end of all times is taken, {spacing} s apart");
            };
            let next = stamped(latest).unwrap();
            let at = |height: u64| [&first, &next].get(height as usize).copied();
            let easy = rules.next_bits(&p2p_ledger::Past::new(1, &at), latest + spacing);
            let times = easy.target().unwrap() / seal.bits.target().unwrap();
            assert!(times < U256::from(2), "{times} times as easy, {spacing} s apart");
        }
    }
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

/// Somebody has made all headers that there is room for at a height, and shows no bodies. Whoever makes a block there goes on with
/// it, and the next block brings it to the others.
#[test]
fn headers_without_bodies_do_not_shut_out_a_block() {
    let [mut node, mut other] = std::array::from_fn(|_| {
        let rules = HeaderRules { siblings: 4, ..HeaderRules::default() };
        Node::with(rules, ChainRules::default())
    });
    for i in 0..4u8 {
        let header = follow(&Pow::regtest(), &genesis(), Key::of(&[i]));
        node.0.accept_headers(std::slice::from_ref(&header), NOW).unwrap();
        other.0.accept_headers(&[header], NOW).unwrap();
    }
    let own = block(&genesis(), 1, SUBSIDY, &[]);
    assert_eq!(other.accept(&own), Err(BlockError::Header(Refused::Crowded { height: 1 })));
    assert_eq!(node.0.accept_own(own.clone(), NOW).unwrap().connected, [own.header.id()]);
    let next = node.mine(1, &[]);
    other.accept_branch(&[own, next.clone()]);
    assert_eq!((node.0.tip().id, other.0.tip().id), (next.header.id(), next.header.id()));
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
