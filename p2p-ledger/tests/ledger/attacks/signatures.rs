//! What an attacker may try with signatures, and with what is signed.

use p2p_core::{Key, Rng};
use p2p_ledger::{
    CoinError, Header, InvalidBlock, Lock, MerkleProof, OutPoint, Output, Part, PublicKey, Transaction, Tx,
    TxId, Witness, transactions_root,
};

use super::state;
use crate::support::{CHAIN, Node, SUBSIDY, keypair, pay, spend};

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
