//! What `p2p-ledger` is sent: each value has one encoding, and what a chain is told, in whatever order, leaves it sound.

use p2p_core::foreign::Codec;
use p2p_core::{Contact, Key};
use p2p_ledger::bitcoin::{BitcoinMsg, BitcoinNetwork};
use p2p_ledger::{
    BitcoinHeader, Block, BlockHeader, CompactBlock, Contradiction, Decode, Endorsement, Filter, Inclusion,
    LedgerMsg, MerkleProof, NameMove, Notice, Partial, Transaction, Tx, Work,
};
use p2p_overlay::HyParViewMsg;
use sha2::{Digest, Sha256};

#[path = "../../p2p-ledger/tests/support/model.rs"]
mod model;
#[path = "../../p2p-ledger/tests/ledger/support.rs"]
#[allow(
    dead_code,
    unused_imports,
    clippy::unwrap_used,
    reason = "helpers of tests, of which a part is needed here"
)]
mod support;

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

/// A proof that a transaction is in a block, alone and with both.
pub fn inclusion(bytes: &[u8]) {
    if let Some(shown) = decoded::<Inclusion<BlockHeader<Work>, Transaction>>(bytes) {
        let _: bool = shown.holds();
    }
    if let Some(proof) = decoded::<MerkleProof>(bytes) {
        assert!(!proof.shows(&Key::ZERO, &Key::ZERO), "nobody knows what has the hash zero");
    }
}

/// Blocks on ones of those before, with payments: every byte chooses something. After each the chain agrees with the model that its
/// own tests compare it with.
pub fn ledger(bytes: &[u8]) {
    let (mut model, mut node) = (model::Model::default(), support::Node::new());
    let steps = bytes.len().div_ceil(8).min(24);
    let mut bytes = bytes.iter();
    let mut choose = |below: u64| bytes.next().map_or(0, |byte| u64::from(*byte) % below);
    (0..steps).for_each(|_| model.step(&mut choose, &mut node));
}
