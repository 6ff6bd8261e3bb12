//! What an attacker may try, one test each. What takes a network of nodes to try is among the tests of those.

mod branches;
mod coins;
mod headers;
mod signatures;

use p2p_ledger::{CoinError, InvalidBlock};

fn state(error: CoinError) -> InvalidBlock<CoinError> {
    InvalidBlock::State(error)
}
