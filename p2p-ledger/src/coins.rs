//! Coins: Bitcoin's state machine (Nakamoto 2008, §2, §5, §6).
//!
//! The state is the set of outputs that are not spent (UTXO), and how much there is of all. A transaction uses outputs
//! up and makes new ones; what it leaves over is its fee. The first of a block makes at most so much as the schedule
//! allows, and the fees. So what there is changes by exactly what a block's first transaction makes, less the fees:
//! that is checked at every block against a sum that is kept, and a block that breaks it is none.
//!
//! What is refused, beside what is plain: spending twice, also within one transaction or block; sums that overflow; new
//! coins before they are [`maturity`](Coins::maturity) blocks old, since a reorganisation may take them away for good; a
//! transaction for another chain; and a second coinbase with the first's id, for its height is in it.

use std::collections::BTreeSet;

use crate::codec::{Decode, Encode, InvalidEncoding, Reader};
use crate::id::TxId;
use crate::lock::{Age, Lock, LockError, LockTime, NoPredicate, Opening, Predicate};
use crate::signature::Checks;
use crate::state::{Footprint, Place, State};
use crate::store::{MemoryStore, View};
use crate::transaction::{MAX_INPUTS, MAX_MEMO, MAX_OUTPUTS, OutPoint, Output, Transaction, Tx};

/// The most that there can be of all coins together.
pub const MAX_SUPPLY: u64 = 1 << 62;

/// The rules of a currency.
#[derive(Clone, Debug)]
pub struct Coins<P = NoPredicate> {
    /// The chain's number, which every transaction has to name.
    pub chain: u32,
    /// How much a block makes at first.
    pub subsidy: u64,
    /// After how many blocks it makes half of that, and so on; 0: never.
    pub halving: u64,
    /// How many blocks new coins wait until they can be spent. 100, as in Bitcoin.
    pub maturity: u64,
    /// What the application's own locks mean.
    pub predicate: P,
}

impl Coins {
    /// A currency of this number, that makes so much a block, half of it after every 210,000.
    pub fn new(chain: u32, subsidy: u64) -> Coins {
        Coins { chain, subsidy, halving: 210_000, maturity: 100, predicate: NoPredicate }
    }
}

/// An output that is not spent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Coin {
    /// The output.
    pub output: Output,
    /// The height of its block.
    pub height: u64,
    /// The median time past of the block before that one.
    pub median_time: u64,
    /// Whether it is new, and waits for maturity.
    pub is_new: bool,
}

/// Why a transaction of coins is invalid.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CoinError {
    /// It is for another chain.
    #[error("a transaction for chain {found}; this is chain {expected}")]
    Chain {
        /// This chain.
        expected: u32,
        /// The transaction's.
        found: u32,
    },
    /// It has too many inputs or outputs, none, or too long a memo.
    #[error("a transaction must have outputs, inputs unless it is the block's first, and no more than fit")]
    Shape,
    /// The block's first transaction is not a coinbase of its height, or another one is.
    #[error("a block's first transaction, and no other, is the coinbase of its height")]
    Coinbase,
    /// The same output twice in one transaction.
    #[error("the output {0:?} is spent twice by one transaction")]
    SpentTwice(OutPoint),
    /// There is no such output, or it is spent.
    #[error("there is no output {0:?} to spend")]
    Missing(OutPoint),
    /// There is one of this name.
    #[error("there is an output {0:?} already")]
    Exists(OutPoint),
    /// New coins are too young.
    #[error("the new coins {coin:?} can be spent from height {from} on")]
    Immature {
        /// Which.
        coin: OutPoint,
        /// From which height on.
        from: u64,
    },
    /// The transaction or an input waits for longer.
    #[error("the transaction may not be in a block yet")]
    Early,
    /// The values add up to more than there can be.
    #[error("the values add up to more than there can be")]
    Overflow,
    /// More comes out than goes in.
    #[error("{outputs} come out where {inputs} go in")]
    Overspent {
        /// How much goes in.
        inputs: u64,
        /// How much comes out.
        outputs: u64,
    },
    /// The coinbase takes more than it may.
    #[error("the coinbase takes {found} where {allowed} are allowed")]
    Reward {
        /// How much it may take.
        allowed: u64,
        /// How much it takes.
        found: u64,
    },
    /// A lock stays shut, or is none.
    #[error("{0}")]
    Lock(#[from] LockError),
}

impl<P: Predicate> Coins<P> {
    /// How much a block of this height may make.
    pub fn reward(&self, height: u64) -> u64 {
        let halvings = height.checked_div(self.halving).unwrap_or(0);
        u32::try_from(halvings).ok().and_then(|halvings| self.subsidy.checked_shr(halvings)).unwrap_or(0)
    }

    /// An output that is not spent.
    pub fn coin(&self, view: &View<'_>, at: &OutPoint) -> Option<Coin> {
        view.read(&coin_key(at))
    }

    /// How much there is of all coins together.
    pub fn supply(&self, view: &View<'_>) -> u64 {
        view.read(SUPPLY).map_or(0, |Amount(amount)| amount)
    }

    /// All outputs that are not spent.
    pub fn all(store: &MemoryStore) -> impl Iterator<Item = (OutPoint, Coin)> {
        let coins = store.iter().filter_map(|(key, value)| Some((key.strip_prefix(b"o")?, value)));
        coins.filter_map(|(at, coin)| Some((OutPoint::from_bytes(at).ok()?, Coin::from_bytes(coin).ok()?)))
    }

    /// What can be said of a transaction alone; the sum of its outputs.
    fn check(&self, transaction: &Transaction) -> Result<u64, CoinError> {
        if transaction.chain != self.chain {
            return Err(CoinError::Chain { expected: self.chain, found: transaction.chain });
        }
        let Transaction { inputs, outputs, memo, .. } = transaction;
        if outputs.is_empty()
            || outputs.len() > MAX_OUTPUTS
            || inputs.len() > MAX_INPUTS
            || memo.len() > MAX_MEMO
        {
            return Err(CoinError::Shape);
        }
        for Output { lock, .. } in outputs {
            lock.check()?;
            lock.is_known(&self.predicate).then_some(()).ok_or(LockError::UnknownPredicate)?;
        }
        if inputs.len() > 1 {
            let mut spent = BTreeSet::new();
            if let Some(input) = inputs.iter().find(|input| !spent.insert(input.previous)) {
                return Err(CoinError::SpentTwice(input.previous));
            }
        }
        sum(outputs.iter().map(|output| output.value))
    }

    fn spend(
        &self,
        view: &mut View<'_>,
        place: &Place,
        opening: Opening<'_>,
        checks: &mut Checks,
    ) -> Result<u64, CoinError> {
        let input = &opening.transaction.inputs[opening.input];
        let at = input.previous;
        let coin = self.coin(view, &at).ok_or(CoinError::Missing(at))?;
        let from = coin.height.saturating_add(self.maturity);
        if coin.is_new && place.height < from {
            return Err(CoinError::Immature { coin: at, from });
        }
        let old_enough = match input.age {
            Age::Blocks(blocks) => place.height >= coin.height.saturating_add(u64::from(blocks)),
            Age::Seconds(seconds) => place.median_time >= coin.median_time.saturating_add(u64::from(seconds)),
        };
        if !old_enough {
            return Err(CoinError::Early);
        }
        coin.output.lock.open(opening, checks)?;
        view.remove(coin_key(&at));
        Ok(coin.output.value)
    }

    fn make(
        &self,
        view: &mut View<'_>,
        place: &Place,
        transaction: &Transaction,
        id: TxId,
    ) -> Result<(), CoinError> {
        for (index, output) in (0..).zip(&transaction.outputs) {
            let at = OutPoint { id, index };
            let Place { height, median_time } = *place;
            let coin =
                Coin { output: output.clone(), height, median_time, is_new: transaction.is_coinbase() };
            if view.put(coin_key(&at), coin.to_bytes()) {
                return Err(CoinError::Exists(at));
            }
        }
        Ok(())
    }
}

impl<P: Predicate> State for Coins<P> {
    type Tx = Transaction;
    type Error = CoinError;

    fn apply(
        &self,
        view: &mut View<'_>,
        place: &Place,
        transaction: &Transaction,
        checks: &mut Checks,
    ) -> Result<u64, CoinError> {
        if transaction.is_coinbase() {
            return Err(CoinError::Coinbase);
        }
        let outputs = self.check(transaction)?;
        let in_time = match transaction.lock_time {
            LockTime::Height(height) => place.height >= height,
            LockTime::Time(time) => place.median_time >= time,
        };
        if !in_time {
            return Err(CoinError::Early);
        }
        let id = transaction.id();
        let mut inputs = 0u64;
        for input in 0..transaction.inputs.len() {
            let opening = Opening { transaction, id, input, predicate: &self.predicate };
            let value = self.spend(view, place, opening, checks)?;
            inputs = inputs.checked_add(value).ok_or(CoinError::Overflow)?;
        }
        let fee = inputs.checked_sub(outputs).ok_or(CoinError::Overspent { inputs, outputs })?;
        self.make(view, place, transaction, id)?;
        Ok(fee)
    }

    fn apply_block(
        &self,
        view: &mut View<'_>,
        place: &Place,
        transactions: &[Transaction],
        checks: &mut Checks,
    ) -> Result<(), CoinError> {
        let (coinbase, others) = transactions.split_first().ok_or(CoinError::Coinbase)?;
        if !coinbase.is_coinbase() || coinbase.lock_time != LockTime::Height(place.height) {
            return Err(CoinError::Coinbase);
        }
        let found = self.check(coinbase)?;
        let mut fees = 0u64;
        for transaction in others {
            let fee = self.apply(view, place, transaction, checks)?;
            fees = fees.checked_add(fee).ok_or(CoinError::Overflow)?;
        }
        let allowed = self.reward(place.height).checked_add(fees).ok_or(CoinError::Overflow)?;
        if found > allowed {
            return Err(CoinError::Reward { allowed, found });
        }
        self.make(view, place, coinbase, coinbase.id())?;
        // Fees that nobody takes are gone.
        let after = self.supply(view).checked_add(found).and_then(|sum| sum.checked_sub(fees));
        let after = after.filter(|sum| *sum <= MAX_SUPPLY).ok_or(CoinError::Overflow)?;
        view.put(SUPPLY.to_vec(), Amount(after).to_bytes());
        Ok(())
    }

    fn footprint(&self, transaction: &Transaction) -> Footprint {
        let id = transaction.id();
        let made = (0..transaction.outputs.len() as u32).map(|index| coin_key(&OutPoint { id, index }));
        let used = transaction.inputs.iter().map(|input| coin_key(&input.previous));
        Footprint { uses: used.collect(), makes: made.collect(), ..Footprint::default() }
    }

    /// `to` is the encoding of the [`Lock`] that the new coins and the fees are locked by, and may be followed by up to
    /// [`MAX_MEMO`] bytes of a memo.
    fn first(&self, place: &Place, fees: u64, to: &[u8]) -> Option<Transaction> {
        let mut input = Reader::new(to);
        let lock = Lock::decode(&mut input).ok()?;
        let memo = input.bytes(input.left()).ok().filter(|memo| memo.len() <= MAX_MEMO)?.to_vec();
        let value = self.reward(place.height).checked_add(fees)?;
        let outputs = [Output { value, lock }];
        Some(Transaction { memo, ..Transaction::coinbase(self.chain, place.height, outputs) })
    }
}

fn sum(mut values: impl Iterator<Item = u64>) -> Result<u64, CoinError> {
    let sum = values.try_fold(0u64, u64::checked_add);
    sum.filter(|sum| *sum <= MAX_SUPPLY).ok_or(CoinError::Overflow)
}

const SUPPLY: &[u8] = b"coins";

fn coin_key(at: &OutPoint) -> Vec<u8> {
    let mut key = Vec::with_capacity(37);
    key.push(b'o');
    at.encode(&mut key);
    key
}

struct Amount(u64);

impl Encode for Amount {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0.to_le_bytes());
    }
}

impl Decode for Amount {
    fn decode(input: &mut Reader<'_>) -> Result<Amount, InvalidEncoding> {
        input.u64().map(Amount)
    }
}

impl Encode for Coin {
    fn encode(&self, out: &mut Vec<u8>) {
        self.output.encode(out);
        out.extend_from_slice(&self.height.to_le_bytes());
        out.extend_from_slice(&self.median_time.to_le_bytes());
        out.push(u8::from(self.is_new));
    }
}

impl Decode for Coin {
    fn decode(input: &mut Reader<'_>) -> Result<Coin, InvalidEncoding> {
        let output = Output::decode(input)?;
        let (height, median_time) = (input.u64()?, input.u64()?);
        let is_new = match input.u8()? {
            0 => false,
            1 => true,
            tag => return Err(InvalidEncoding::Unknown { what: "coin", tag }),
        };
        Ok(Coin { output, height, median_time, is_new })
    }
}
