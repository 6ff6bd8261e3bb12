//! Who owns coins in tests, and how they pay.

use p2p_core::Keypair;
use p2p_ledger::{Lock, OutPoint, Output, Transaction};

/// The number of every test chain.
pub(crate) const CHAIN: u32 = 7;
/// What a block makes.
pub(crate) const SUBSIDY: u64 = 1_000;
/// How many blocks new coins wait.
pub(crate) const MATURITY: u64 = 3;

/// Somebody with a key.
pub(crate) fn keypair(seed: u8) -> Keypair {
    Keypair::from_seed(&[seed; 32])
}

/// An output for somebody.
pub(crate) fn pay(seed: u8, value: u64) -> Output {
    Output { value, lock: Lock::Key(keypair(seed).id().into()) }
}

/// A signed transaction that spends one coin of somebody's.
pub(crate) fn spend(owner: u8, coin: OutPoint, outputs: impl IntoIterator<Item = Output>) -> Transaction {
    let mut transaction = Transaction::new(CHAIN, [coin], outputs);
    transaction.sign(0, &keypair(owner));
    transaction
}
