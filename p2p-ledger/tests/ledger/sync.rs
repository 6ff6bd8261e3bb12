//! Headers from a peer that may be making them up.

use p2p_core::Key;
use p2p_ledger::{
    BlockHeader, Fault, Header, HeaderChain, HeaderRules, HeaderSync, Past, ProofOfWork, Refused, Retarget,
    SyncError, SyncStep, Work,
};
use ruint::aliases::U256;

use crate::support::{Light, NOW, Pow, follow, genesis};

/// So many headers' work is the least that a chain must have.
const MINIMUM: u64 = 250;

fn chain() -> HeaderChain<Pow> {
    let minimum_work = U256::from(2 * MINIMUM);
    HeaderChain::new(Pow::regtest(), genesis(), HeaderRules { minimum_work, ..HeaderRules::default() })
}

fn sync(chain: &HeaderChain<Pow>, secret: u8) -> HeaderSync<Pow> {
    let mut sync = HeaderSync::new(chain, &genesis().id(), [secret; 32]);
    (sync.period, sync.ahead) = (4, 64);
    sync
}

fn headers(count: usize, root: &[u8]) -> Vec<Light> {
    let mut headers = vec![genesis()];
    for _ in 0..count {
        headers.push(follow(&Pow::regtest(), headers.last().unwrap(), Key::of(root)));
    }
    headers
}

/// What a peer with this chain answers, forty at a time.
fn answer(headers: &[Light], step: SyncStep) -> &[Light] {
    let SyncStep::After(id) = step else { panic!("nothing is asked") };
    let from = headers.iter().position(|header| header.id() == id).unwrap() + 1;
    &headers[from..headers.len().min(from + 40)]
}

#[test]
fn a_long_chain_is_kept_once_it_has_been_seen_to_have_the_work() {
    let (mut chain, peer) = (chain(), headers(300, b"honest"));
    assert!(matches!(chain.accept(&peer[1..100], NOW), Err(Refused::LowWork { .. })), "not piece by piece");
    let mut sync = sync(&chain, 1);
    let (mut step, mut most_before) = (sync.step(), 0);
    let mut passes = 0;
    while step != SyncStep::Done {
        passes += usize::from(step == SyncStep::After(genesis().id()));
        if passes < 2 {
            most_before = most_before.max(chain.len());
        }
        step = sync.accept(&mut chain, answer(&peer, step), NOW).unwrap();
    }
    assert_eq!((most_before, chain.tip().height), (1, MINIMUM));
    assert_eq!(chain.accept(&peer, NOW), Ok(300 - MINIMUM as usize));
    assert_eq!(chain.tip().id, peer[300].id());
}

#[test]
fn a_chain_that_never_gets_there_is_forgotten() {
    let (mut chain, peer) = (chain(), headers(240, b"low"));
    let mut sync = sync(&chain, 1);
    let mut step = sync.step();
    let refused = loop {
        match sync.accept(&mut chain, answer(&peer, step), NOW) {
            Ok(next) => step = next,
            Err(refused) => break refused,
        }
    };
    let (needed, found) = (U256::from(2 * MINIMUM), U256::from(480));
    assert_eq!(refused, SyncError::LowWork { needed, found });
    assert_eq!(chain.len(), 1);
}

/// As when it was found invalid meanwhile.
#[test]
fn a_start_that_was_forgotten_ends_it() {
    let (mut before, peer) = (chain(), headers(300, b"honest"));
    before.accept(&peer[1..=MINIMUM as usize], NOW).unwrap();
    let mut sync = HeaderSync::new(&before, &peer[5].id(), [1; 32]);
    let refused = sync.accept(&mut chain(), &peer[6..10], NOW);
    assert_eq!(refused, Err(SyncError::Refused(Refused::Unconnected(peer[5].id()))));
}

/// Meanwhile somebody else has brought the chain farther.
#[test]
fn a_tip_that_moves_between_the_two_times_makes_nobody_a_cheat() {
    let (mut chain, peer, other) = (chain(), headers(300, b"honest"), headers(320, b"other"));
    let mut sync = sync(&chain, 1);
    let (mut step, mut passes) = (sync.step(), 0);
    while step != SyncStep::Done {
        if step == SyncStep::After(genesis().id()) {
            passes += 1;
            if passes == 2 {
                chain.accept(&other[1..], NOW).unwrap();
            }
        }
        step = sync.accept(&mut chain, answer(&peer, step), NOW).unwrap();
    }
    assert_eq!((passes, chain.tip().id), (2, other[320].id()));
    assert!(chain.place(&peer[MINIMUM as usize].id()).is_some());
}

/// The second time the peer shows another chain, as good as the first. Of 16 bits that have to be right before one of its
/// headers is kept, half are wrong.
#[test]
fn who_shows_another_chain_the_second_time_is_found_out() {
    let (first, second) = (headers(300, b"first"), headers(300, b"second"));
    for secret in 1..20 {
        let mut chain = chain();
        let mut sync = sync(&chain, secret);
        let mut step = sync.step();
        let (mut peer, mut begun) = (&first, false);
        let refused = loop {
            if step == SyncStep::After(genesis().id()) {
                peer = if begun { &second } else { &first };
                begun = true;
            }
            match sync.accept(&mut chain, answer(peer, step), NOW) {
                Ok(next) => step = next,
                Err(refused) => break refused,
            }
        };
        assert_eq!((refused, chain.len()), (SyncError::Changed, 1), "secret {secret}");
    }
}

#[test]
fn the_first_time_already_checks_every_rule() {
    let mut wrong = headers(30, b"wrong");
    let last = wrong.len() - 1;
    // No later than the median of the eleven before it.
    wrong[last].time = wrong[last - 6].time;
    assert!(Pow::regtest().mine(&mut wrong[last], 0, 1 << 20));
    let mut chain = chain();
    let refused = sync(&chain, 1).accept(&mut chain, &wrong[1..], NOW).unwrap_err();
    let (earliest, found) = (wrong[last].time + 1, wrong[last].time);
    assert_eq!(refused, SyncError::Refused(Refused::Fault(Fault::TooOld { earliest, found })));
}

/// Windows are longer than what is held otherwise: the same chain is followed header by header and through a sync.
#[test]
fn windows_are_checked_from_what_is_held() {
    let blocks = 20;
    let retargets = [
        Retarget::Window { blocks },
        Retarget::Bitcoin { blocks },
        Retarget::Testnet { blocks },
        Retarget::Testnet4 { blocks },
    ];
    for retarget in retargets {
        let rules: Pow = ProofOfWork::new(genesis().seal.bits, 600).retargeted(retarget);
        let minimum_work = U256::from(400);
        let header_rules = HeaderRules { minimum_work, ..HeaderRules::default() };
        let mut chain = HeaderChain::new(rules.clone(), genesis(), header_rules);
        // Twice as fast as it should be, so that the work doubles with each window.
        let mut peer = vec![genesis()];
        for height in 1..=100u64 {
            let parent = peer.last().unwrap().clone();
            let at = |height: u64| peer.get(height as usize);
            let bits = rules.next_bits(&Past::new(height - 1, &at), parent.time + 300);
            let mut next = BlockHeader {
                height,
                previous: parent.id(),
                root: Key::ZERO,
                time: parent.time + 300,
                seal: Work { bits, nonce: 0 },
            };
            assert!(rules.mine(&mut next, 0, 1 << 20));
            peer.push(next);
        }
        assert_ne!(peer[100].seal.bits, peer[0].seal.bits);
        let mut sync = HeaderSync::new(&chain, &genesis().id(), [1; 32]);
        (sync.period, sync.ahead) = (4, 8);
        let mut step = sync.step();
        while step != SyncStep::Done {
            step = sync.accept(&mut chain, answer(&peer, step), NOW).unwrap();
        }
        assert!(chain.tip().work >= minimum_work);
        chain.accept(&peer, NOW).unwrap();
        assert_eq!(chain.tip().id, peer[100].id());
    }
}
