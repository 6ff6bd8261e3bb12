use p2p_core::Keypair;

use super::*;
use crate::transaction::{OutPoint, Tx};

struct Password;

impl Predicate for Password {
    fn is_known(&self, predicate: &[u8]) -> bool {
        predicate.starts_with(b"password")
    }

    fn holds(&self, predicate: &[u8], argument: &[u8], transaction: &Transaction, input: usize) -> bool {
        predicate.ends_with(argument) && transaction.inputs[input].previous.index == 7
    }
}

fn keypair(seed: u8) -> Keypair {
    Keypair::from_seed(&[seed; 32])
}

fn key(seed: u8) -> PublicKey {
    keypair(seed).id().into()
}

fn spending() -> Transaction {
    Transaction::new(1, [OutPoint { id: TxId(Key::ZERO), index: 7 }], [])
}

/// Whether this opens the lock, its signatures included.
fn opens(lock: &Lock, mut transaction: Transaction, witness: Vec<Part>) -> Result<bool, LockError> {
    transaction.inputs[0].witness = Witness(witness);
    let opening = Opening { transaction: &transaction, id: transaction.id(), input: 0, predicate: &Password };
    let mut checks = Checks::default();
    lock.open(opening, &mut checks)?;
    Ok(checks.verify_each())
}

#[test]
fn a_key_opens_with_its_own_signature_and_no_other() {
    let (lock, tx) = (Lock::Key(key(1)), spending());
    assert_eq!(opens(&lock, tx.clone(), vec![tx.signature(&keypair(1))]), Ok(true));
    assert_eq!(opens(&lock, tx.clone(), vec![tx.signature(&keypair(2))]), Ok(false));
    assert_eq!(opens(&lock, tx.clone(), vec![]), Err(LockError::Missing("a signature")));
    let twice = vec![tx.signature(&keypair(1)); 2];
    assert_eq!(opens(&lock, tx, twice), Err(LockError::Superfluous));
}

#[test]
fn m_of_n_keys_need_m_signatures_each_by_another_key() {
    let mut keys: Vec<(PublicKey, Keypair)> = (1..=3).map(|seed| (key(seed), keypair(seed))).collect();
    keys.sort_by_key(|(key, _)| *key);
    let lock = Lock::Keys { needed: 2, keys: keys.iter().map(|(key, _)| *key).collect() };
    let tx = spending();
    let sign = |i: usize| tx.signature(&keys[i].1);
    let open = |witness| opens(&lock, tx.clone(), witness);
    assert_eq!(open(vec![Part::Signers(0b101), sign(0), sign(2)]), Ok(true));
    assert_eq!(open(vec![Part::Signers(0b110), sign(1), sign(2)]), Ok(true));
    assert_eq!(open(vec![Part::Signers(0b110), sign(2), sign(1)]), Ok(false), "in the order of the keys");
    assert_eq!(open(vec![Part::Signers(0b011), sign(0), sign(0)]), Ok(false), "one signature twice");
    assert!(open(vec![Part::Signers(0b001), sign(0)]).is_err(), "too few");
    assert!(open(vec![Part::Signers(0b111), sign(0), sign(1), sign(2)]).is_err(), "more than are needed");
    assert!(open(vec![Part::Signers(0b1001), sign(0), sign(0)]).is_err(), "a signer that there is not");
}

#[test]
fn a_list_of_keys_with_one_of_them_twice_is_no_lock() {
    let twice = Lock::Keys { needed: 2, keys: vec![key(1), key(1)] };
    assert_eq!(twice.check(), Err(LockError::Malformed));
    assert!(Lock::from_bytes(&twice.to_bytes()).is_err());
    for needed in [0, 2] {
        assert_eq!(Lock::Keys { needed, keys: vec![key(1)] }.check(), Err(LockError::Malformed));
    }
}

#[test]
fn a_hashed_time_lock_goes_either_way_and_not_early() {
    let paid = Lock::All(vec![Lock::Key(key(2)), Lock::Hash(Kind::Preimage.hash(b"secret"))]);
    let back = Lock::All(vec![Lock::Key(key(1)), Lock::After(LockTime::Height(100))]);
    let lock = Lock::Any(vec![paid, back]);
    let tx = spending();
    let preimage = |bytes: &[u8]| Part::Preimage(bytes.to_vec());
    let open = |witness| opens(&lock, tx.clone(), witness);
    assert_eq!(open(vec![Part::Choice(0), tx.signature(&keypair(2)), preimage(b"secret")]), Ok(true));
    assert_eq!(open(vec![Part::Choice(0), tx.signature(&keypair(1)), preimage(b"secret")]), Ok(false));
    assert_eq!(
        open(vec![Part::Choice(0), tx.signature(&keypair(2)), preimage(b"guess")]),
        Err(LockError::Preimage)
    );
    let early = open(vec![Part::Choice(1), tx.signature(&keypair(1))]);
    assert!(matches!(early, Err(LockError::Early { .. })), "{early:?}");
    let late = Transaction { lock_time: LockTime::Height(100), ..spending() };
    let witness = vec![Part::Choice(1), late.signature(&keypair(1))];
    assert_eq!(opens(&lock, late.clone(), witness.clone()), Ok(true));
    let by_time = Transaction { lock_time: LockTime::Time(100), ..late };
    assert!(opens(&lock, by_time, witness).is_err(), "a time is not a height");
    assert!(open(vec![Part::Choice(2)]).is_err());
}

#[test]
fn an_application_has_the_last_word_on_its_own_locks() {
    let lock = Lock::Predicate(b"password: swordfish".to_vec());
    let argument = |bytes: &[u8]| vec![Part::Argument(bytes.to_vec())];
    assert_eq!(opens(&lock, spending(), argument(b"swordfish")), Ok(true));
    assert_eq!(opens(&lock, spending(), argument(b"herring")), Err(LockError::Predicate));
    assert!(lock.is_known(&Password) && !lock.is_known(&NoPredicate));
    assert!(!Lock::All(vec![Lock::Key(key(1)), Lock::Predicate(b"other".to_vec())]).is_known(&Password));
}

#[test]
fn an_age_is_reached_in_its_own_unit_alone() {
    let lock = Lock::Aged(Age::Blocks(10));
    let aged = |age| {
        let mut tx = spending();
        tx.inputs[0].age = age;
        opens(&lock, tx, vec![])
    };
    assert_eq!(aged(Age::Blocks(10)), Ok(true));
    assert!(aged(Age::Blocks(9)).is_err() && aged(Age::Seconds(1_000_000)).is_err());
}

#[test]
fn a_lock_that_is_too_deep_or_too_large_is_none() {
    let mut deep = Lock::Key(key(1));
    for depth in 0..MAX_DEPTH + 2 {
        assert_eq!(deep.check().is_ok(), depth <= MAX_DEPTH);
        assert_eq!(Lock::from_bytes(&deep.to_bytes()).is_ok(), depth <= MAX_DEPTH);
        deep = Lock::All(vec![deep, Lock::Hash(Key::ZERO)]);
    }
    let wide = |width| Lock::Any(vec![Lock::Hash(Key::ZERO); width]);
    assert!(wide(MAX_CONDITIONS - 1).check().is_ok() && wide(MAX_CONDITIONS).check().is_err());
    assert!(wide(1).check().is_err(), "of one there is no choice");
}
