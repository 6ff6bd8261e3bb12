//! Boards and names on a chain of named signers.

use p2p_core::Key;
use p2p_ledger::{
    Act, Block, BlockHeader, BlockId, Board, Chain, ChainRules, Encode, Endorsement, Fault, Header,
    HeaderChain, HeaderRules, InvalidBlock, MemoryStore, Move, NameMove, Notice, ProofOfAuthority, Refused,
    Registry, State, Verifier, transactions_root,
};

use crate::support::keypair;

type Endorsed = BlockHeader<Endorsement>;

const SIGNERS: u8 = 5;

fn rules() -> ProofOfAuthority {
    ProofOfAuthority::new((0..SIGNERS).map(|seed| keypair(seed).id().into()), 10)
}

fn genesis() -> Endorsed {
    let seal = Endorsement { signer: 0, signature: [0; 64] };
    BlockHeader { height: 0, previous: BlockId::NONE, root: Key::ZERO, time: 1_000, seal }
}

fn follow(parent: &Endorsed, signer: u16, root: Key) -> Endorsed {
    let mut header = BlockHeader {
        height: parent.height + 1,
        previous: parent.id(),
        root,
        time: parent.time + 10,
        seal: parent.seal,
    };
    rules().sign(&mut header, signer, &keypair(signer as u8));
    header
}

fn headers() -> HeaderChain<ProofOfAuthority> {
    HeaderChain::new(rules(), genesis(), HeaderRules::default())
}

const NOW: u64 = 1_000_000;

#[test]
fn signers_in_turn_make_the_heavier_chain() {
    let mut chain = headers();
    let (mut in_turn, mut others) = (genesis(), genesis());
    for height in 1..=20u64 {
        let turn = rules().in_turn(height);
        others = follow(&others, (turn + 2) % u16::from(SIGNERS), Key::ZERO);
        chain.accept(std::slice::from_ref(&others), NOW).unwrap();
        in_turn = follow(&in_turn, turn, Key::ZERO);
        chain.accept(std::slice::from_ref(&in_turn), NOW).unwrap();
        assert_eq!(chain.tip().id, in_turn.id());
    }
}

/// Two of five sign as often as they may: after two headers they have to wait.
#[test]
fn a_minority_of_the_signers_stands_still() {
    let mut chain = headers();
    let mut last = genesis();
    for signer in [3, 4] {
        last = follow(&last, signer, Key::ZERO);
        chain.accept(std::slice::from_ref(&last), NOW).unwrap();
    }
    for (signer, at) in [(3, 1), (4, 2)] {
        let soon = follow(&last, signer, Key::ZERO);
        let fault = Fault::TooSoon { signer, last: at, next: at + 3 };
        assert_eq!(chain.accept(&[soon], NOW), Err(Refused::Fault(fault)));
    }
    let third = follow(&last, 0, Key::ZERO);
    let again = follow(&third, 3, Key::ZERO);
    assert_eq!(chain.accept(&[third, again], NOW), Ok(2));
}

/// At its turn it signs as many headers as it likes, which costs it nothing, and shows no body: the others go on without it.
#[test]
fn one_signer_cannot_fill_a_height() {
    let mut ledger = Ledger::new(Board { chain: 3 });
    let crowd = (0..100u8).filter(|i| {
        let header = follow(&genesis(), rules().in_turn(1), Key::of(&[*i]));
        ledger.0.accept_headers(&[header], NOW).is_ok()
    });
    assert_eq!(crowd.count(), 2);
    for (height, signer) in [(1, 2), (2, 3), (3, 4)] {
        let header = follow(ledger.0.tip_header(), signer, transactions_root::<Notice>(&[]));
        ledger.0.accept(Block { header, transactions: vec![] }, NOW).unwrap();
        assert_eq!((ledger.0.tip().height, ledger.0.tip_header().seal.signer), (height, signer));
    }
}

#[test]
fn what_no_authority_has_signed_or_too_early_is_refused() {
    let mut chain = headers();
    let good = follow(&genesis(), 1, Key::ZERO);
    let mut altered = good.clone();
    altered.time += 1;
    assert_eq!(chain.accept(&[altered], NOW), Err(Refused::Fault(Fault::Signature(1))));
    let mut unknown = good.clone();
    unknown.seal.signer = 5;
    assert_eq!(chain.accept(&[unknown], NOW), Err(Refused::Fault(Fault::UnknownSigner(5))));
    let mut hasty = BlockHeader { time: genesis().time + 9, ..good.clone() };
    rules().sign(&mut hasty, 1, &keypair(1));
    let early = Fault::TooOld { earliest: 1_010, found: 1_009 };
    assert_eq!(chain.accept(&[hasty], NOW), Err(Refused::Fault(early)));
    let mut wrong = BlockHeader { height: 2, ..good.clone() };
    rules().sign(&mut wrong, 1, &keypair(1));
    let height = Fault::Height { expected: 1, found: 2 };
    assert_eq!(chain.accept(&[wrong], NOW), Err(Refused::Fault(height)));
    assert_eq!(chain.accept(&[good], NOW), Ok(1));
}

struct Ledger<S: State>(Chain<ProofOfAuthority, S, MemoryStore>);

impl<S: State> Ledger<S> {
    fn new(state: S) -> Ledger<S> {
        let verifier = Verifier::new([3; 32]);
        Ledger(Chain::new(headers(), state, MemoryStore::default(), verifier, ChainRules::default()))
    }

    fn append(&mut self, transactions: Vec<S::Tx>) -> Result<Block<Endorsed, S::Tx>, InvalidBlock<S::Error>> {
        let turn = rules().in_turn(self.0.tip().height + 1);
        let header = follow(self.0.tip_header(), turn, transactions_root(&transactions));
        let block = Block { header, transactions };
        let outcome = self.0.accept(block.clone(), NOW).unwrap();
        outcome.invalid.into_iter().next().map_or(Ok(block), |(_, why)| Err(why))
    }
}

/// Producer, carrier and refinery post about one cargo; an outsider who has the headers alone is shown one of the posts.
#[test]
fn a_board_is_audited_by_whoever_has_its_headers() {
    let board = Board { chain: 3 };
    let (producer, carrier, refinery) = (keypair(11), keypair(12), keypair(13));
    let topic = Board::topic(&producer.id().into(), b"cargo 17");
    let post =
        |by, number, text: &[u8]| board.notice(by, topic, number, Act::Post { content: Key::of(text) });
    let admit =
        |number, who: &p2p_core::Keypair| board.notice(&producer, topic, number, Act::Admit(who.id().into()));
    let mut ledger = Ledger::new(board);
    ledger.append(vec![board.open(&producer, b"cargo 17"), admit(1, &carrier), admit(2, &refinery)]).unwrap();
    ledger.append(vec![post(&producer, 3, b"1,000 barrels of light crude")]).unwrap();
    let loaded: Notice = post(&carrier, 0, b"loaded, 1,000 barrels");
    let block = ledger.append(vec![loaded.clone(), post(&refinery, 0, b"delivered, 998 barrels")]).unwrap();
    let mut forged: Notice = post(&carrier, 1, b"loaded, 900 barrels");
    forged.signature[5] ^= 1;
    assert_eq!(ledger.append(vec![forged]).unwrap_err(), InvalidBlock::Signature);

    let proof = block.proof(0).unwrap();
    let mut outsider = headers();
    let shown: Vec<Endorsed> = (1..=3).map(|height| ledger.0.headers().at(height).unwrap().clone()).collect();
    outsider.accept(&shown, NOW).unwrap();
    let root = outsider.header(&block.header.id()).unwrap().root;
    assert!(proof.shows(&root, &p2p_ledger::Tx::leaf(&loaded)));
    let view = ledger.0.view();
    let posts: Vec<_> = (0..).map_while(|number| board.post(&view, &topic, number)).collect();
    assert_eq!(posts.iter().map(|post| post.height).collect::<Vec<_>>(), [2, 3, 3]);
    assert_eq!(posts[1].content, Key::of(b"loaded, 1,000 barrels"));
}

#[test]
fn a_name_is_claimed_over_blocks_and_a_reorganisation_gives_it_back() {
    let registry = Registry { chain: 3, delay: 2 };
    let ada = keypair(21);
    let commitment = Registry::commitment(&ada.id().into(), b"ada", &[1; 32]);
    let claim: NameMove = registry.sign(&ada, Move::Claim { name: b"ada".to_vec(), secret: [1; 32] });
    let mut ledger = Ledger::new(registry);
    ledger.append(vec![registry.sign(&ada, Move::Commit(commitment))]).unwrap();
    let fork = ledger.0.tip_header().clone();
    ledger.append(vec![]).unwrap();
    let before: Vec<(Vec<u8>, Vec<u8>)> = state(&ledger.0);
    ledger.append(vec![claim]).unwrap();
    assert!(registry.name(&ledger.0.view(), b"ada").is_some());
    // The signer of height 2 is silent in another branch, which becomes the heavier one at last.
    let mut branch = vec![follow(&fork, 4, transactions_root::<NameMove>(&[]))];
    for height in 3..=6u64 {
        let parent = branch.last().unwrap().clone();
        branch.push(follow(&parent, rules().in_turn(height), transactions_root::<NameMove>(&[])));
    }
    assert!(branch[1].seal.signer != 4 && branch[2].seal.signer == 4, "signer 4 has to wait");
    branch.truncate(2);
    for signer in [0, 1, 2] {
        let parent = branch.last().unwrap().clone();
        branch.push(follow(&parent, signer, transactions_root::<NameMove>(&[])));
    }
    ledger.0.accept_headers(&branch, NOW).unwrap();
    for header in branch {
        ledger.0.accept(Block { header, transactions: vec![] }, NOW).unwrap();
    }
    assert_eq!(ledger.0.tip().height, 6);
    assert_eq!(registry.name(&ledger.0.view(), b"ada"), None);
    assert_eq!(state(&ledger.0), before, "every key as it was");
}

/// Everything that is the state machine's.
fn state<S: State>(chain: &Chain<ProofOfAuthority, S, MemoryStore>) -> Vec<(Vec<u8>, Vec<u8>)> {
    let all = chain.store().iter().filter(|(key, _)| key[0] != 0);
    all.map(|(key, value)| (key.to_vec(), value.to_vec())).collect()
}

#[test]
fn a_block_of_a_board_has_one_encoding() {
    let board = Board { chain: 3 };
    let mut ledger = Ledger::new(board);
    let block = ledger.append(vec![board.open(&keypair(1), b"topic")]).unwrap();
    let bytes = block.to_bytes();
    let read: Block<Endorsed, Notice> = p2p_ledger::Decode::from_bytes(&bytes).unwrap();
    assert_eq!(read, block);
}
