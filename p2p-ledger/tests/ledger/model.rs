//! A slow, obvious ledger to compare the real one with: it keeps every block, and for each question goes through all of
//! them from the first.

use std::collections::{BTreeMap, BTreeSet};

use p2p_core::Rng;
use p2p_ledger::{BlockId, Coin, Header, OutPoint, Output, Transaction};
use proptest::prelude::*;

use crate::support::{CHAIN, CoinBlock, MATURITY, Node, SUBSIDY, block, genesis, keypair, pay};

#[derive(Default)]
struct Model {
    /// In the order in which they came. All have the same work.
    blocks: Vec<CoinBlock>,
    tip: Option<BlockId>,
}

impl Model {
    fn branch(&self, end: Option<BlockId>) -> Vec<&CoinBlock> {
        let find = |id: BlockId| self.blocks.iter().find(|block| block.header.id() == id);
        let mut branch: Vec<&CoinBlock> =
            std::iter::successors(end.and_then(find), |block| find(block.header.previous)).collect();
        branch.reverse();
        branch
    }

    /// The coins after a branch; `None` if it is not valid.
    fn coins(branch: &[&CoinBlock]) -> Option<BTreeMap<OutPoint, Output>> {
        let mut coins: BTreeMap<OutPoint, (Output, Option<u64>)> = BTreeMap::new();
        for (block, height) in branch.iter().zip(1u64..) {
            let mut fees = 0;
            for transaction in &block.transactions[1..] {
                let mut value = 0;
                for input in &transaction.inputs {
                    let (output, new) = coins.remove(&input.previous)?;
                    if new.is_some_and(|made| height < made + MATURITY) {
                        return None;
                    }
                    value += output.value;
                }
                let out: u64 = transaction.outputs.iter().map(|output| output.value).sum();
                fees += value.checked_sub(out)?;
                for (output, index) in transaction.outputs.iter().zip(0..) {
                    coins.insert(transaction.out_point(index), (output.clone(), None));
                }
            }
            let coinbase = &block.transactions[0];
            if coinbase.outputs[0].value > SUBSIDY + fees {
                return None;
            }
            coins.insert(coinbase.out_point(0), (coinbase.outputs[0].clone(), Some(height)));
        }
        Some(coins.into_iter().map(|(at, (output, _))| (at, output)).collect())
    }

    fn accept(&mut self, block: &CoinBlock) {
        self.blocks.push(block.clone());
        let branch = self.branch(Some(block.header.id()));
        if Model::coins(&branch).is_some() && branch.len() > self.branch(self.tip).len() {
            self.tip = Some(block.header.id());
        }
    }
}

/// A block on a random one of those that the model has, mostly valid.
fn next(rng: &mut Rng, model: &Model) -> CoinBlock {
    let on = match rng.chance(0.7) {
        true => model.tip,
        false => rng.choose(&model.blocks).map(|block| block.header.id()),
    };
    let branch = model.branch(on);
    let parent = branch.last().map_or(genesis(), |block| block.header.clone());
    let mut coins: Vec<(OutPoint, Output)> = Model::coins(&branch).unwrap_or_default().into_iter().collect();
    let mut transactions: Vec<Transaction> = Vec::new();
    let mut fees = 0;
    for _ in 0..rng.below(4) {
        if coins.is_empty() {
            break;
        }
        let count = 1 + rng.index(2.min(coins.len()));
        // Now and then one is used twice.
        let at = rng.index(coins.len());
        let chosen: Vec<(OutPoint, Output)> = match rng.chance(0.05) {
            true => vec![coins[at].clone()],
            false => (0..count.min(coins.len())).map(|_| coins.remove(rng.index(coins.len()))).collect(),
        };
        let value: u64 = chosen.iter().map(|(_, output)| output.value).sum();
        let fee = rng.below(value.min(20) + 1);
        let first = rng.below(value - fee + 1);
        let to = |rng: &mut Rng, value| pay(1 + rng.below(3) as u8, value);
        let outputs = [to(rng, first), to(rng, value - fee - first)];
        let mut transaction = Transaction::new(CHAIN, chosen.iter().map(|(at, _)| *at), outputs);
        for (i, (_, output)) in chosen.iter().enumerate() {
            let owner = (1..4).find(|seed| pay(*seed, output.value) == *output).unwrap();
            transaction.sign(i, &keypair(owner));
        }
        fees += fee;
        coins.extend((0..).map(|i| transaction.out_point(i)).zip(transaction.outputs.clone()));
        transactions.push(transaction);
    }
    // Now and then a miner takes too much.
    let takes = SUBSIDY + fees + u64::from(rng.chance(0.05));
    block(&parent, 1 + rng.below(3) as u8, takes, &transactions)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(
        std::env::var("P2P_CASES").map_or(12, |cases| cases.parse().unwrap())
    ))]

    #[test]
    fn the_chain_agrees_with_the_model_after_every_block(seed: u64) {
        let (mut rng, mut model, mut node) = (Rng::new(seed), Model::default(), Node::new());
        let mut known = BTreeSet::new();
        for _ in 0..40 {
            let block = next(&mut rng, &model);
            if !known.insert(block.header.id()) {
                continue;
            }
            // The real one refuses what is not worth its room until its headers are the best: the model's order of
            // arrival is that of whole branches then.
            model.accept(&block);
            for block in model.branch(Some(block.header.id())) {
                let _: crate::support::Result = node.accept(block);
            }
            let branch = model.branch(model.tip);
            prop_assert_eq!(node.0.tip().height, branch.len() as u64);
            prop_assert_eq!(Some(node.0.tip().id), model.tip.or(Some(genesis().id())));
            let coins = node.coins();
            let real: BTreeMap<OutPoint, Output> =
                coins.into_iter().map(|(at, Coin { output, .. })| (at, output)).collect();
            prop_assert_eq!(real, Model::coins(&branch).unwrap());
            node.check_supply();
        }
    }
}
