//! A transaction of coins (Nakamoto 2008, §2, §9): what earlier outputs held goes to new ones.
//!
//! Its id does not cover the witnesses, so that whoever passes it on cannot give it another one; signatures cover the id
//! and with it everything else: what is spent, who gets what, when, and on which chain. A block commits to both ids.

use p2p_core::{Key, Keypair};

use crate::codec::{Decode, Encode, InvalidEncoding, Reader, put_blob, put_list};
use crate::id::{Kind, TxId, WtxId};
use crate::lock::{Age, Lock, LockTime, Part, Witness};
use crate::signature::spend_message;

/// The most inputs of a transaction.
pub const MAX_INPUTS: usize = 2_000;
/// The most outputs of a transaction.
pub const MAX_OUTPUTS: usize = 2_000;
/// The longest memo, in bytes.
pub const MAX_MEMO: usize = 128;

/// What a block holds.
pub trait Tx: Encode + Decode + Clone + std::fmt::Debug + PartialEq + Send + Sync + 'static {
    /// Its name, whatever its witnesses are.
    fn id(&self) -> TxId;
    /// Its name with its witnesses.
    fn wtxid(&self) -> WtxId;
    /// What it is about: what somebody may look for who has not seen it, as block filters have it
    /// ([`Filter`](crate::Filter)). It follows from the transaction alone.
    fn about(&self) -> Vec<Vec<u8>>;
    /// What the Merkle tree has for it: both ids, so that a block's header settles every byte of the block.
    fn leaf(&self) -> Key {
        let mut both = [0; 64];
        both[..32].copy_from_slice(self.id().0.as_bytes());
        both[32..].copy_from_slice(self.wtxid().0.as_bytes());
        Kind::Leaf.hash(&both)
    }
}

/// Coins that change their owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transaction {
    /// The chain that it is for: it is worth nothing on another.
    pub chain: u32,
    /// When it may be in a block. Of a coinbase, the height of its block: no two are the same (BIP 34).
    pub lock_time: LockTime,
    /// What it spends; nothing, if it is a coinbase.
    pub inputs: Vec<Input>,
    /// Who gets it. What is over is the fee.
    pub outputs: Vec<Output>,
    /// At most [`MAX_MEMO`] bytes that mean nothing here.
    pub memo: Vec<u8>,
}

/// An output of an earlier transaction, and what opens it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Input {
    /// Which.
    pub previous: OutPoint,
    /// How old it must be.
    pub age: Age,
    /// What opens its lock.
    pub witness: Witness,
}

/// Names an output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OutPoint {
    /// The transaction's.
    pub id: TxId,
    /// Which, from 0.
    pub index: u32,
}

/// An amount, and what it is locked by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// How much, in the smallest unit.
    pub value: u64,
    /// Who may spend it.
    pub lock: Lock,
}

impl Transaction {
    /// A transaction that spends these outputs; sign it with [`sign`](Transaction::sign).
    ///
    /// ```
    /// use p2p_core::{Key, Keypair};
    /// use p2p_ledger::{Lock, OutPoint, Output, Transaction, Tx, TxId};
    ///
    /// let (alice, bob) = (Keypair::generate(), Keypair::generate());
    /// let coin = OutPoint { id: TxId(Key::of(b"an earlier transaction")), index: 0 };
    /// let payment = Output { value: 100, lock: Lock::Key(bob.id().into()) };
    /// let mut transaction = Transaction::new(1, [coin], [payment]);
    /// let (id, unsigned) = (transaction.id(), transaction.wtxid());
    /// transaction.sign(0, &alice);
    /// assert_eq!(transaction.id(), id);
    /// assert_ne!(transaction.wtxid(), unsigned);
    /// ```
    pub fn new(
        chain: u32,
        coins: impl IntoIterator<Item = OutPoint>,
        outputs: impl IntoIterator<Item = Output>,
    ) -> Transaction {
        let input = |previous| Input { previous, age: Age::NONE, witness: Witness::default() };
        Transaction {
            chain,
            lock_time: LockTime::NONE,
            inputs: coins.into_iter().map(input).collect(),
            outputs: outputs.into_iter().collect(),
            memo: Vec::new(),
        }
    }

    /// The transaction that makes a block's new coins.
    pub fn coinbase(chain: u32, height: u64, outputs: impl IntoIterator<Item = Output>) -> Transaction {
        let lock_time = LockTime::Height(height);
        Transaction { lock_time, ..Transaction::new(chain, [], outputs) }
    }

    /// Whether it makes new coins.
    pub fn is_coinbase(&self) -> bool {
        self.inputs.is_empty()
    }

    /// Opens the lock of an input that needs one signature. Sign when all else is done: it covers everything but the
    /// witnesses.
    ///
    /// # Panics
    /// If there is no such input.
    pub fn sign(&mut self, input: usize, keypair: &Keypair) {
        let signature = self.signature(keypair);
        self.inputs[input].witness = Witness(vec![signature]);
    }

    /// A key's signature of this transaction, for a witness with several parts. It is the same for all inputs.
    pub fn signature(&self, keypair: &Keypair) -> Part {
        Part::Signature(keypair.sign(&spend_message(self.id())))
    }

    /// The output of this number, as others name it.
    pub fn out_point(&self, index: u32) -> OutPoint {
        OutPoint { id: self.id(), index }
    }

    fn encode_without_witnesses(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.chain.to_le_bytes());
        self.lock_time.encode(out);
        crate::codec::put_count(out, self.inputs.len());
        for input in &self.inputs {
            input.previous.encode(out);
            input.age.encode(out);
        }
        put_list(out, &self.outputs);
        put_blob(out, &self.memo);
    }
}

impl Tx for Transaction {
    fn id(&self) -> TxId {
        let mut bytes = Vec::with_capacity(256);
        self.encode_without_witnesses(&mut bytes);
        TxId(Kind::Transaction.hash(&bytes))
    }

    fn wtxid(&self) -> WtxId {
        let mut bytes = Vec::with_capacity(256);
        self.encode(&mut bytes);
        WtxId(Kind::Witnessed.hash(&bytes))
    }

    /// The locks of its outputs, and which outputs it spends.
    fn about(&self) -> Vec<Vec<u8>> {
        let locks = self.outputs.iter().map(|output| output.lock.to_bytes());
        locks.chain(self.inputs.iter().map(|input| input.previous.to_bytes())).collect()
    }
}

impl Encode for Transaction {
    /// What the id covers, then the witnesses, as many as there are inputs.
    fn encode(&self, out: &mut Vec<u8>) {
        self.encode_without_witnesses(out);
        self.inputs.iter().for_each(|input| input.witness.encode(out));
    }
}

impl Decode for Transaction {
    fn decode(input: &mut Reader<'_>) -> Result<Transaction, InvalidEncoding> {
        let chain = input.u32()?;
        let lock_time = LockTime::decode(input)?;
        let count = input.count(MAX_INPUTS)?;
        let spent = |input: &mut Reader<'_>| {
            let (previous, age) = (OutPoint::decode(input)?, Age::decode(input)?);
            Ok(Input { previous, age, witness: Witness::default() })
        };
        let mut inputs = (0..count).map(|_| spent(input)).collect::<Result<Vec<_>, _>>()?;
        let outputs = input.list(MAX_OUTPUTS)?;
        let memo = input.blob(MAX_MEMO)?;
        for spent in &mut inputs {
            spent.witness = Witness::decode(input)?;
        }
        Ok(Transaction { chain, lock_time, inputs, outputs, memo })
    }
}

impl Encode for OutPoint {
    fn encode(&self, out: &mut Vec<u8>) {
        self.id.0.encode(out);
        out.extend_from_slice(&self.index.to_le_bytes());
    }
}

impl Decode for OutPoint {
    fn decode(input: &mut Reader<'_>) -> Result<OutPoint, InvalidEncoding> {
        Ok(OutPoint { id: TxId(Key::decode(input)?), index: input.u32()? })
    }
}

impl Encode for Output {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.value.to_le_bytes());
        self.lock.encode(out);
    }
}

impl Decode for Output {
    fn decode(input: &mut Reader<'_>) -> Result<Output, InvalidEncoding> {
        Ok(Output { value: input.u64()?, lock: Lock::decode(input)? })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::id::PublicKey;
    use proptest::prelude::*;

    pub(crate) fn lock() -> impl Strategy<Value = Lock> {
        let keys = proptest::collection::btree_set(any::<[u8; 32]>(), 1..5);
        let keys = keys.prop_flat_map(|keys| {
            let keys: Vec<PublicKey> = keys.into_iter().map(PublicKey).collect();
            (1..=keys.len() as u8).prop_map(move |needed| Lock::Keys { needed, keys: keys.clone() })
        });
        let leaf = prop_oneof![
            any::<[u8; 32]>().prop_map(|key| Lock::Key(PublicKey(key))),
            keys,
            any::<[u8; 32]>().prop_map(|hash| Lock::Hash(Key::new(hash))),
            any::<u64>().prop_map(|height| Lock::After(LockTime::Height(height))),
            any::<u64>().prop_map(|time| Lock::After(LockTime::Time(time))),
            any::<u32>().prop_map(|blocks| Lock::Aged(Age::Blocks(blocks))),
            any::<u32>().prop_map(|seconds| Lock::Aged(Age::Seconds(seconds))),
            any::<[u8; 5]>().prop_map(|bytes| Lock::Predicate(bytes.to_vec())),
        ];
        leaf.prop_recursive(2, 8, 3, |lock| {
            prop_oneof![
                proptest::collection::vec(lock.clone(), 2..4).prop_map(Lock::All),
                proptest::collection::vec(lock, 2..4).prop_map(Lock::Any),
            ]
        })
    }

    fn part() -> impl Strategy<Value = Part> {
        prop_oneof![
            any::<[[u8; 32]; 2]>().prop_map(|halves| {
                let mut signature = [0; 64];
                signature[..32].copy_from_slice(&halves[0]);
                signature[32..].copy_from_slice(&halves[1]);
                Part::Signature(signature)
            }),
            any::<u16>().prop_map(Part::Signers),
            any::<[u8; 9]>().prop_map(|bytes| Part::Preimage(bytes.to_vec())),
            any::<[u8; 3]>().prop_map(|bytes| Part::Argument(bytes.to_vec())),
            any::<u8>().prop_map(Part::Choice),
        ]
    }

    pub(crate) fn transaction() -> impl Strategy<Value = Transaction> {
        let witness = proptest::collection::vec(part(), 0..4).prop_map(Witness);
        let input =
            (any::<[u8; 32]>(), any::<u32>(), any::<u32>(), witness).prop_map(|(id, index, age, witness)| {
                Input { previous: OutPoint { id: TxId(Key::new(id)), index }, age: Age::Blocks(age), witness }
            });
        let output = (any::<u64>(), lock()).prop_map(|(value, lock)| Output { value, lock });
        let memo = proptest::collection::vec(any::<u8>(), 0..9);
        let lists = (proptest::collection::vec(input, 0..4), proptest::collection::vec(output, 0..4), memo);
        (any::<u32>(), any::<u64>(), lists).prop_map(|(chain, height, (inputs, outputs, memo))| Transaction {
            chain,
            lock_time: LockTime::Height(height),
            inputs,
            outputs,
            memo,
        })
    }

    proptest! {
        #[test]
        fn a_transaction_comes_back(transaction in transaction()) {
            let bytes = transaction.to_bytes();
            prop_assert_eq!(&Transaction::from_bytes(&bytes).unwrap(), &transaction);
            let longer = [&bytes[..], &[0]].concat();
            prop_assert_eq!(Transaction::from_bytes(&longer), Err(InvalidEncoding::Trailing { left: 1 }));
            prop_assert!(Transaction::from_bytes(&bytes[..bytes.len() - 1]).is_err());
        }

        /// No two spellings: what is read is written as it was.
        #[test]
        fn bytes_that_are_a_transaction_are_its_encoding(transaction in transaction(), at: prop::sample::Index, byte: u8) {
            let mut bytes = transaction.to_bytes();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            if let Ok(read) = Transaction::from_bytes(&bytes) {
                prop_assert_eq!(read.to_bytes(), bytes);
            }
        }

        #[test]
        fn garbage_is_refused_without_a_panic(bytes: Vec<u8>) {
            let _: Result<Transaction, InvalidEncoding> = Transaction::from_bytes(&bytes);
        }

        #[test]
        fn the_id_covers_all_but_the_witnesses(transaction in transaction(), other in transaction()) {
            let mut stripped = transaction.clone();
            stripped.inputs.iter_mut().for_each(|input| input.witness = Witness::default());
            prop_assert_eq!(stripped.id(), transaction.id());
            prop_assert_eq!(stripped == transaction, stripped.wtxid() == transaction.wtxid());
            let mut changed = transaction.clone();
            changed.memo = other.memo.clone();
            changed.outputs = other.outputs.clone();
            prop_assert_eq!(changed == transaction, changed.id() == transaction.id());
        }
    }
}
