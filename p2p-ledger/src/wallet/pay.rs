//! Payments: which coins are spent, and what comes back.
//!
//! A payment of exactly what some coins are worth needs no change, which costs a fee now and one when it is spent, and tells
//! others which output is whose. So sums of coins are tried first (branch and bound, Erhardt 2016); else the smallest coin
//! that is enough alone, or the largest coins until it is. Change goes to a fresh key, and stands at no particular place.

use super::{Owned, Wallet};
use crate::codec::Encode;
use crate::lock::{Part, Witness};
use crate::transaction::{MAX_INPUTS, OutPoint, Output, Transaction};

use super::address::Address;

/// How many sums are tried.
const TRIES: usize = 20_000;

/// Why there is no payment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PayError {
    /// It is for another chain.
    #[error("the address is for chain {found}; this wallet is for chain {expected}")]
    Chain {
        /// The wallet's.
        expected: u32,
        /// The address's.
        found: u32,
    },
    /// Nothing is to be paid.
    #[error("nothing is to be paid")]
    Nothing,
    /// There is not enough that can be spent now.
    #[error("{needed} are needed with the fee, and {ready} can be spent now")]
    TooLittle {
        /// How much is needed.
        needed: u64,
        /// How much can be spent.
        ready: u64,
    },
    /// It would take more coins than fit into a transaction.
    #[error("it takes more than {MAX_INPUTS} coins: pay less at a time")]
    TooManyCoins,
}

impl Wallet {
    /// A signed payment, for a fee of so much for each 1,000 bytes. It counts as made: what it spends is not spent again
    /// unless it is [abandoned](Wallet::abandon). It is the caller's to [submit](crate::Ledger::submit).
    ///
    /// # Errors
    /// See [`PayError`]. Nothing has changed then.
    pub fn pay(&mut self, to: Address, value: u64, rate: u64) -> Result<Transaction, PayError> {
        if to.chain != self.chain {
            return Err(PayError::Chain { expected: self.chain, found: to.chain });
        }
        if value == 0 {
            return Err(PayError::Nothing);
        }
        let payment = Output { value, lock: to.lock() };
        let price = |bytes: usize| (bytes as u64).saturating_mul(rate).div_ceil(1_000);
        let fee = |inputs: usize, outputs: usize| price(size(&payment, inputs, outputs));
        // What another input costs is part of what a coin is worth. Each is rounded up, and the rest is as long as it is where the
        // inputs' count is longest: so together they are never too little.
        let one = size(&payment, 1, 1) - size(&payment, 0, 1);
        let (rest, input) = (price(size(&payment, MAX_INPUTS, 1) - MAX_INPUTS * one), price(one));
        let slack = fee(0, 2) - fee(0, 1) + input;
        let chosen = self.choose(value.saturating_add(rest), input, slack)?;
        let sum: u64 = chosen.iter().map(|(_, coin)| coin.value).sum();
        let with_change = value.saturating_add(fee(chosen.len(), 2));
        let mut outputs = vec![payment];
        // Change that would cost more than it is worth is left to the miner.
        if sum > with_change.saturating_add(input) {
            let back = self.receive();
            outputs.push(Output { value: sum - with_change, lock: back.lock() });
        }
        outputs.sort_by_key(|output| output.lock.to_bytes());
        let mut transaction = Transaction::new(self.chain, chosen.iter().map(|(at, _)| *at), outputs);
        for (input, (_, coin)) in chosen.iter().enumerate() {
            transaction.sign(input, &self.keypair(coin.key));
        }
        self.note(&transaction);
        Ok(transaction)
    }

    /// Coins that are worth `needed` without what it costs to spend each: exactly, or up to `slack` more, or else more.
    fn choose(&self, needed: u64, input: u64, slack: u64) -> Result<Vec<(OutPoint, Owned)>, PayError> {
        let spendable = self.coins.iter().filter(|(_, coin)| coin.height.is_some() && self.is_ready(coin));
        let mut coins: Vec<(OutPoint, Owned)> =
            spendable.filter(|(_, coin)| coin.value > input).map(|(at, coin)| (*at, *coin)).collect();
        // Own change may be spent at once, if nothing else is left.
        let worth =
            |coins: &[(OutPoint, Owned)]| coins.iter().map(|(_, coin)| coin.value - input).sum::<u64>();
        if worth(&coins) < needed {
            let change = self.coins.iter().filter(|(_, coin)| coin.height.is_none() && !coin.spent);
            coins.extend(change.filter(|(_, coin)| coin.value > input).map(|(at, coin)| (*at, *coin)));
        }
        if worth(&coins) < needed {
            let ready = coins.iter().map(|(_, coin)| coin.value).sum();
            let inputs = input.saturating_mul(coins.len() as u64);
            return Err(PayError::TooLittle { needed: needed.saturating_add(inputs), ready });
        }
        coins.sort_by_key(|(at, coin)| (std::cmp::Reverse(coin.value), *at));
        let values: Vec<u64> = coins.iter().map(|(_, coin)| coin.value - input).collect();
        if let Some(exact) = exact(&values, needed, slack) {
            return Ok(exact.into_iter().map(|i| coins[i]).collect());
        }
        if let Some(alone) = values.iter().rposition(|value| *value >= needed) {
            return Ok(vec![coins[alone]]);
        }
        let mut left = needed;
        let enough = values.iter().position(|value| {
            left = left.saturating_sub(*value);
            left == 0
        });
        coins.truncate(enough.map_or(coins.len(), |last| last + 1));
        if coins.len() > MAX_INPUTS {
            return Err(PayError::TooManyCoins);
        }
        Ok(coins)
    }
}

/// Which of these, the largest first, sum up to `needed`, or up to `slack` more: of sums that are tried the least.
fn exact(values: &[u64], needed: u64, slack: u64) -> Option<Vec<usize>> {
    let mut rest = vec![0u64; values.len() + 1];
    for i in (0..values.len()).rev() {
        rest[i] = rest[i + 1].saturating_add(values[i]);
    }
    let most = needed.saturating_add(slack);
    let (mut chosen, mut sum, mut next) = (Vec::<usize>::new(), 0u64, 0usize);
    let mut best: Option<(u64, Vec<usize>)> = None;
    for _ in 0..TRIES {
        if sum >= needed && best.as_ref().is_none_or(|(least, _)| sum < *least) {
            best = Some((sum, chosen.clone()));
        }
        let hopeless = sum >= needed || next >= values.len() || sum.saturating_add(rest[next]) < needed;
        if hopeless {
            // The last that was chosen is left out instead.
            let Some(last) = chosen.pop() else { break };
            sum -= values[last];
            next = last + 1;
        } else {
            let with = sum.saturating_add(values[next]);
            if with <= most && chosen.len() < MAX_INPUTS {
                chosen.push(next);
                sum = with;
            }
            next += 1;
        }
    }
    best.map(|(_, chosen)| chosen)
}

/// How many bytes a payment with so many inputs and outputs has.
fn size(payment: &Output, inputs: usize, outputs: usize) -> usize {
    let nothing = OutPoint { id: crate::TxId(p2p_core::Key::ZERO), index: 0 };
    let outputs = std::iter::repeat_n(payment.clone(), outputs);
    let mut transaction = Transaction::new(0, std::iter::repeat_n(nothing, inputs), outputs);
    for input in &mut transaction.inputs {
        input.witness = Witness(vec![Part::Signature([0; 64])]);
    }
    transaction.to_bytes().len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Beside all subsets.
        #[test]
        fn the_least_sum_that_is_enough_is_found(
            mut values in proptest::collection::vec(1u64..60, 1..9), needed in 1u64..200, slack in 0u64..9,
        ) {
            values.sort_unstable_by(|one, other| other.cmp(one));
            let sums = (0u32..1 << values.len()).map(|set| {
                values.iter().enumerate().filter(|(i, _)| set >> i & 1 == 1).map(|(_, value)| value).sum::<u64>()
            });
            let least = sums.filter(|sum| (needed..=needed + slack).contains(sum)).min();
            let found = exact(&values, needed, slack).map(|chosen| chosen.iter().map(|i| values[*i]).sum::<u64>());
            prop_assert_eq!(found, least);
        }
    }
}
