//! Bytes against a real node's, and clients among nodes that lie, leave and disagree.

mod filters;
mod wire;
mod worlds;

use super::merkle::root_of;
use super::*;
use crate::header::{BitcoinHeader, Header, WorkHeader};
use crate::headers::HeaderRules;
use crate::id::{BlockId, TxId};
use crate::transaction::OutPoint;
use p2p_core::Key;

/// A transaction that pays so much to this key's hash.
fn paying(to: [u8; 20], value: u64, spends: OutPoint) -> BitcoinTransaction {
    let script = [&[0x76, 0xa9, 0x14][..], &to, &[0x88, 0xac]].concat();
    BitcoinTransaction {
        version: 2,
        inputs: vec![BitcoinInput { previous: spends, script: vec![1, 7], sequence: u32::MAX }],
        outputs: vec![BitcoinOutput { value, script }],
        lock_time: 0,
    }
}

/// What its miner takes: of each block another one.
fn coinbase(height: u64, miner: u8) -> BitcoinTransaction {
    let nothing = OutPoint { id: TxId(Key::ZERO), index: u32::MAX };
    let mut transaction = paying([miner; 20], 50, nothing);
    transaction.inputs[0].script = [&[8][..], &height.to_le_bytes()].concat();
    transaction
}

/// A block of a regression-test network after this header.
fn block(
    parent: &BitcoinHeader,
    height: u64,
    miner: u8,
    transactions: &[BitcoinTransaction],
) -> BitcoinBlock {
    let transactions = [&[coinbase(height, miner)], transactions].concat();
    let ids: Vec<Key> = transactions.iter().map(|one| one.id().0).collect();
    let rules = BitcoinNetwork::regtest().rules;
    let root = root_of(&ids).unwrap();
    let mut header = BitcoinHeader::draft(height, parent.id(), root, u64::from(parent.time) + 1, rules.limit);
    assert!(rules.mine(&mut header, 0, 1 << 20));
    BitcoinBlock { header, transactions }
}

/// So many blocks, each with a coinbase alone.
fn blocks(count: usize, miner: u8) -> Vec<BitcoinBlock> {
    let mut all: Vec<BitcoinBlock> = Vec::new();
    for height in 1..=count as u64 {
        let parent = all.last().map_or(BitcoinNetwork::regtest().first, |block| block.header);
        all.push(block(&parent, height, miner, &[]));
    }
    all
}
