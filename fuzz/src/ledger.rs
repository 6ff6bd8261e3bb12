//! What `p2p-ledger` is sent: each value has one encoding, and what a chain is told, in whatever order, leaves it sound.

use p2p_core::foreign::Codec;
use p2p_core::{Contact, Key, Keypair};
use p2p_ledger::bitcoin::{BitcoinMsg, BitcoinNetwork};
use p2p_ledger::{
    BitcoinHeader, Block, BlockHeader, BlockId, Chain, ChainRules, Coins, CompactBlock, Contradiction,
    Decode, Endorsement, Filter, Header, HeaderChain, HeaderRules, LedgerMsg, Lock, MemoryStore, MerkleProof,
    NameMove, Notice, OutPoint, Output, Partial, ProofOfWork, Transaction, Tx, Verifier, Work,
    transactions_root,
};
use p2p_overlay::HyParViewMsg;
use sha2::{Digest, Sha256};

/// A value of these bytes has no other encoding.
fn decoded<T: Decode>(bytes: &[u8]) -> Option<T> {
    let value = T::from_bytes(bytes).ok()?;
    assert!(value.to_bytes() == bytes, "two encodings of one value");
    Some(value)
}

/// `Wire` of what the nodes of a ledger say to each other.
pub fn ledger_msg(bytes: &[u8]) {
    crate::decoded::<LedgerMsg<HyParViewMsg<Contact>>>(bytes);
}

/// A transaction of coins.
pub fn transaction(bytes: &[u8]) {
    if let Some(transaction) = decoded::<Transaction>(bytes) {
        let _: (Key, bool) = (transaction.leaf(), transaction.is_coinbase());
        assert!(transaction.outputs.iter().all(|output| output.lock.check().is_ok()));
    }
}

/// A block, whole or compact, and headers of every format.
pub fn block(bytes: &[u8]) {
    decoded::<BlockHeader<Work>>(bytes);
    decoded::<BlockHeader<Endorsement>>(bytes);
    decoded::<BitcoinHeader>(bytes);
    if let Some(compact) = decoded::<CompactBlock<BlockHeader<Work>, Transaction>>(bytes) {
        let (lacking, all) = (compact.short.len(), compact.short.len() + compact.prefilled.len());
        let partial = Partial::new(compact, std::iter::empty(), |_| None);
        assert!(partial.missing().len() == lacking);
        match partial.complete(Vec::new()) {
            Ok(block) => assert!(lacking == 0 && block.transactions.len() == all),
            Err(Contradiction) => assert!(lacking > 0),
        }
    }
    if let Some(block) = decoded::<Block<BlockHeader<Work>, Transaction>>(bytes) {
        let whole = block.is_whole();
        assert!(
            block.transactions.is_empty()
                || block.proof(0).is_some_and(|proof| {
                    proof.shows(&block.header.root, &block.transactions[0].leaf()) == whole
                })
        );
    }
}

/// A block's filter: whatever is asked of one that is sound is answered.
pub fn filter(bytes: &[u8]) {
    if let Ok(filter) = Filter::from_bytes(bytes.to_vec()) {
        assert!(filter.as_bytes() == bytes);
        filter.has_any(&[0; 16], [&b"an item"[..], b"another"]);
    }
}

/// What Bitcoin's nodes say: what was understood is understood again, and the proofs in it are looked at.
pub fn bitcoin(bytes: &[u8]) {
    let network = BitcoinNetwork::regtest();
    let mut input = bytes::BytesMut::new();
    // A message's checksum is made here, or next to none would be read.
    if let Some((name, payload)) = bytes.split_first_chunk::<12>() {
        input.extend_from_slice(&network.magic);
        input.extend_from_slice(name);
        input.extend_from_slice(&(payload.len() as u32).to_le_bytes());
        input.extend_from_slice(&Sha256::digest(Sha256::digest(payload))[..4]);
        input.extend_from_slice(payload);
    }
    let nothing = &mut bytes::BytesMut::new();
    while let Ok(Some(msg)) = network.codec().decode(&mut input, nothing) {
        match &msg {
            BitcoinMsg::MerkleBlock(tree) => drop(tree.shown()),
            BitcoinMsg::Block(block) => drop(block.is_whole()),
            BitcoinMsg::Tx(transaction) => drop(transaction.is_about(&[vec![1], vec![2; 20]].into())),
            BitcoinMsg::FilterLoad(filter) => drop(filter.has(b"item")),
            BitcoinMsg::CFilter(_, bytes) => self::filter(bytes),
            _ => {}
        }
        let mut output = bytes::BytesMut::new();
        network.codec().encode(msg.clone(), &mut output);
        if !matches!(msg, BitcoinMsg::Other) {
            assert_eq!(network.codec().decode(&mut output, nothing), Ok(Some(msg)));
        }
    }
}

/// A notice on a board.
pub fn notice(bytes: &[u8]) {
    decoded::<Notice>(bytes);
}

/// A move of a registry.
pub fn name_move(bytes: &[u8]) {
    decoded::<NameMove>(bytes);
}

/// A proof that a transaction is in a block.
pub fn inclusion(bytes: &[u8]) {
    if let Some(proof) = decoded::<MerkleProof>(bytes) {
        assert!(!proof.shows(&Key::ZERO, &Key::ZERO), "nobody knows what has the hash zero");
    }
}

type Format = BlockHeader<Work>;

/// Blocks on random ones of those before, with random payments: every byte chooses something. Whatever comes, what there is
/// adds up to what has been made, and the tip has the most work of all that are valid.
pub fn ledger(bytes: &[u8]) {
    let rules: ProofOfWork<Format> = ProofOfWork::regtest();
    let seal = Work { bits: rules.limit, nonce: 0 };
    let first = BlockHeader { height: 0, previous: BlockId::NONE, root: Key::ZERO, time: 1_000, seal };
    let headers = HeaderChain::new(rules.clone(), first.clone(), HeaderRules::default());
    let coins = Coins { maturity: 1, ..Coins::new(1, 100) };
    let verifier = Verifier::new([1; 32]);
    let mut chain = Chain::new(headers, coins, MemoryStore::default(), verifier, ChainRules::default());
    let owner = Keypair::from_seed(&[1; 32]);
    let pay = |value| Output { value, lock: Lock::Key(owner.id().into()) };
    let (mut made, mut points): (Vec<Format>, Vec<OutPoint>) = (vec![first], Vec::new());
    for choice in bytes.chunks_exact(4).take(24) {
        let parent = made[usize::from(choice[0]) % made.len()].clone();
        let coinbase = Transaction::coinbase(1, parent.height + 1, [pay(100 + u64::from(choice[1] / 250))]);
        let mut transactions = vec![coinbase];
        if choice[1] % 2 == 1 && !points.is_empty() {
            let point = points[usize::from(choice[2]) % points.len()];
            let mut payment = Transaction::new(1, [point], [pay(u64::from(choice[3])), pay(3)]);
            payment.sign(0, &owner);
            transactions.push(payment);
        }
        points.extend(transactions.iter().map(|one| one.out_point(0)));
        let mut header = BlockHeader {
            height: parent.height + 1,
            previous: parent.id(),
            root: transactions_root(&transactions),
            time: parent.time + 600,
            seal,
        };
        assert!(rules.mine(&mut header, 0, 1 << 20));
        made.push(header.clone());
        let _: Result<_, _> = chain.accept(Block { header, transactions }, u64::MAX / 2);
        let sum: u64 =
            Coins::<p2p_ledger::NoPredicate>::all(chain.store()).map(|(_, coin)| coin.output.value).sum();
        assert_eq!(sum, chain.state().supply(&chain.view()));
        assert!(chain.tip().work <= chain.headers().tip().work);
    }
}
