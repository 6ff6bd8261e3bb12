//! A slow, obvious ledger to compare the real one with: it keeps every block, and for each question goes through all of
//! them from the first.

use std::collections::BTreeMap;

use p2p_ledger::{BlockId, Coin, Header, OutPoint, Output, Transaction};

use super::support::{self, CHAIN, CoinBlock, MATURITY, Node, SUBSIDY, block, genesis, keypair, pay};

/// Chooses a number below another.
pub(crate) type Choose<'a> = &'a mut dyn FnMut(u64) -> u64;

#[derive(Default)]
pub(crate) struct Model {
    /// In the order in which they came. All have the same work.
    blocks: Vec<CoinBlock>,
    tip: Option<BlockId>,
}

impl Model {
    /// Both take in a block on one of those before, mostly valid, that is made by these choices; then they agree.
    pub(crate) fn step(&mut self, choose: Choose<'_>, node: &mut Node) {
        let block = self.next(choose);
        if self.blocks.contains(&block) {
            return;
        }
        self.accept(&block);
        // The real one refuses what is not worth its room until its headers are the best: the model's order of arrival is that of
        // whole branches then.
        for block in self.branch(Some(block.header.id())) {
            let _: support::Result = node.accept(block);
        }
        let branch = self.branch(self.tip);
        assert_eq!(node.0.tip().height, branch.len() as u64);
        assert_eq!(Some(node.0.tip().id), self.tip.or(Some(genesis().id())));
        let real: BTreeMap<OutPoint, Output> =
            node.coins().into_iter().map(|(at, Coin { output, .. })| (at, output)).collect();
        assert_eq!(Some(real), Model::coins(&branch));
        node.check_supply();
    }

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

    /// A block on one of those that there are.
    fn next(&self, choose: Choose<'_>) -> CoinBlock {
        let on = match choose(10) < 7 || self.blocks.is_empty() {
            true => self.tip,
            false => Some(self.blocks[choose(self.blocks.len() as u64) as usize].header.id()),
        };
        let branch = self.branch(on);
        let parent = branch.last().map_or(genesis(), |block| block.header.clone());
        let mut coins: Vec<(OutPoint, Output)> =
            Model::coins(&branch).unwrap_or_default().into_iter().collect();
        let mut transactions: Vec<Transaction> = Vec::new();
        let mut fees = 0;
        for _ in 0..choose(4) {
            if coins.is_empty() {
                break;
            }
            let count = (1 + choose(2)).min(coins.len() as u64);
            // Now and then one is used twice.
            let chosen: Vec<(OutPoint, Output)> = match choose(20) == 19 {
                true => vec![coins[choose(coins.len() as u64) as usize].clone()],
                false => (0..count).map(|_| coins.remove(choose(coins.len() as u64) as usize)).collect(),
            };
            let value: u64 = chosen.iter().map(|(_, output)| output.value).sum();
            let fee = choose(value.min(20) + 1);
            let first = choose(value - fee + 1);
            let outputs = [first, value - fee - first].map(|value| pay(1 + choose(3) as u8, value));
            let mut transaction = Transaction::new(CHAIN, chosen.iter().map(|(at, _)| *at), outputs);
            for (i, (_, output)) in chosen.iter().enumerate() {
                let owner = (1..4).find(|seed| pay(*seed, output.value) == *output).unwrap_or(0);
                transaction.sign(i, &keypair(owner));
            }
            fees += fee;
            coins.extend((0..).map(|i| transaction.out_point(i)).zip(transaction.outputs.clone()));
            transactions.push(transaction);
        }
        // Now and then a miner takes too much.
        let takes = SUBSIDY + fees + u64::from(choose(20) == 19);
        block(&parent, 1 + choose(3) as u8, takes, &transactions)
    }
}
