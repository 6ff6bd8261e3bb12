//! What an output is locked by, and what opens it.
//!
//! Nakamoto (2008, §2) locks a coin by a key; Bitcoin made that a program. Here it is a small tree of conditions, each of
//! which can be read off: a key, m of n keys, the preimage of a hash, a time, an age, an application's own predicate, all
//! of several, any of several. A hashed time lock, say, is
//!
//! ```
//! use p2p_ledger::{Kind, Lock, LockTime, PublicKey};
//!
//! let (alice, bob) = (PublicKey([1; 32]), PublicKey([2; 32]));
//! let paid = Lock::All(vec![Lock::Key(bob), Lock::Hash(Kind::Preimage.hash(b"secret"))]);
//! let back = Lock::All(vec![Lock::Key(alice), Lock::After(LockTime::Height(1_000))]);
//! assert!(Lock::Any(vec![paid, back]).check().is_ok());
//! ```
//!
//! A lock knows no chain: time is that which the transaction itself says it waits for, as BIP 65 and BIP 112 have it, and
//! the chain holds the transaction to it. So whether a witness opens a lock never changes, and may be remembered. A
//! witness has no part that is not looked at, and no choice of how to write one: nobody can alter it on its way,
//! except who could have signed it anew.

use p2p_core::Key;

use crate::codec::{Decode, Encode, InvalidEncoding, Reader, put_blob, put_count, put_list};
use crate::id::{Kind, PublicKey, TxId};
use crate::signature::Checks;
use crate::transaction::Transaction;

/// The most keys of one m-of-n lock.
pub const MAX_KEYS: usize = 16;
/// The longest preimage, in bytes.
pub const MAX_PREIMAGE: usize = 64;
/// The longest predicate, and what is given to one, in bytes.
pub const MAX_PREDICATE: usize = 1024;
/// How many conditions a lock has, all told.
pub const MAX_CONDITIONS: usize = 16;
/// How deep `All` and `Any` lie in one another.
pub const MAX_DEPTH: usize = 4;
/// The most parts of a witness: more than the largest lock needs.
const MAX_PARTS: usize = 256;

/// Since when a transaction may be in a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockTime {
    /// From the block of this height on; 0 for always.
    Height(u64),
    /// In blocks above one whose median time past is this or later, in seconds since the Unix epoch.
    Time(u64),
}

impl LockTime {
    /// No wait.
    pub const NONE: LockTime = LockTime::Height(0);

    /// Whether waiting for this is also waiting for `other`. A height is never compared to a time.
    pub const fn reaches(self, other: LockTime) -> bool {
        match (self, other) {
            (LockTime::Height(this), LockTime::Height(other))
            | (LockTime::Time(this), LockTime::Time(other)) => this >= other,
            (LockTime::Height(_), LockTime::Time(_)) | (LockTime::Time(_), LockTime::Height(_)) => false,
        }
    }
}

/// How old a coin must be to be spent (BIP 68).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Age {
    /// So many blocks above its own; 0 for none.
    Blocks(u32),
    /// So many seconds, from the median time past of the block before its own to that of the block before the spending
    /// one.
    Seconds(u32),
}

impl Age {
    /// No age.
    pub const NONE: Age = Age::Blocks(0);

    /// Whether what is this old is also as old as `other`.
    pub const fn reaches(self, other: Age) -> bool {
        match (self, other) {
            (Age::Blocks(this), Age::Blocks(other)) | (Age::Seconds(this), Age::Seconds(other)) => {
                this >= other
            }
            (Age::Blocks(_), Age::Seconds(_)) | (Age::Seconds(_), Age::Blocks(_)) => false,
        }
    }
}

/// What an output is locked by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lock {
    /// A signature by this key.
    Key(PublicKey),
    /// Signatures by so many of these keys, which are in ascending order.
    Keys {
        /// How many, at least 1.
        needed: u8,
        /// Of whom, at most [`MAX_KEYS`].
        keys: Vec<PublicKey>,
    },
    /// At most [`MAX_PREIMAGE`] bytes whose hash as [`Kind::Preimage`] this is. Whoever sees them on their way can use them:
    /// lock by a key as well.
    Hash(Key),
    /// The transaction waits for this, or longer.
    After(LockTime),
    /// The input waits for this age, or a greater one.
    Aged(Age),
    /// What the application says of these bytes, at most [`MAX_PREDICATE`].
    Predicate(Vec<u8>),
    /// All of these.
    All(Vec<Lock>),
    /// One of these.
    Any(Vec<Lock>),
}

/// What opens a lock: its parts in the order in which the lock needs them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Witness(pub Vec<Part>);

/// A part of a [`Witness`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// For [`Lock::Key`]; and for [`Lock::Keys`] as many as are needed, in the order of the keys.
    Signature([u8; 64]),
    /// For [`Lock::Keys`], before the signatures: whose they are, a bit for each key, the first key's the lowest.
    Signers(u16),
    /// For [`Lock::Hash`].
    Preimage(Vec<u8>),
    /// For [`Lock::Predicate`].
    Argument(Vec<u8>),
    /// For [`Lock::Any`]: which one, from 0.
    Choice(u8),
}

/// Decides what an application's own locks mean. It sees nothing but the transaction, so that its answer never changes.
pub trait Predicate: Send + 'static {
    /// Whether these bytes are a predicate that can be fulfilled at all: an output with another is refused.
    fn is_known(&self, predicate: &[u8]) -> bool;

    /// Whether an input of a transaction, with this argument, fulfils it.
    fn holds(&self, predicate: &[u8], argument: &[u8], transaction: &Transaction, input: usize) -> bool;
}

/// An application without locks of its own.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoPredicate;

impl Predicate for NoPredicate {
    fn is_known(&self, _: &[u8]) -> bool {
        false
    }

    fn holds(&self, _: &[u8], _: &[u8], _: &Transaction, _: usize) -> bool {
        false
    }
}

/// Why a lock stays shut, or is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LockError {
    /// It has too many conditions, lies too deep, has no keys or not in order, or a bound is exceeded.
    #[error("the lock is not well formed")]
    Malformed,
    /// The application does not know its predicate.
    #[error("the lock has a predicate that nobody here knows")]
    UnknownPredicate,
    /// The witness has another part where the lock needs this one, or none.
    #[error("the witness lacks {0}")]
    Missing(&'static str),
    /// The witness has parts that the lock does not ask for.
    #[error("the witness has parts that nobody asks for")]
    Superfluous,
    /// The preimage has another hash.
    #[error("the preimage has another hash")]
    Preimage,
    /// The transaction does not wait for the time that the lock names.
    #[error("the lock waits for {needed:?}, the transaction for {found:?}")]
    Early {
        /// What the lock waits for.
        needed: LockTime,
        /// What the transaction does.
        found: LockTime,
    },
    /// The input does not wait for the age that the lock names.
    #[error("the lock waits for {needed:?}, the input for {found:?}")]
    Young {
        /// What the lock waits for.
        needed: Age,
        /// What the input does.
        found: Age,
    },
    /// The predicate does not hold.
    #[error("the predicate does not hold")]
    Predicate,
}

/// The input that is to open a lock.
#[derive(Clone, Copy)]
pub(crate) struct Opening<'a> {
    pub(crate) transaction: &'a Transaction,
    pub(crate) id: TxId,
    pub(crate) input: usize,
    pub(crate) predicate: &'a dyn Predicate,
}

impl Lock {
    /// Whether it is well formed.
    ///
    /// # Errors
    /// [`LockError::Malformed`] if it is not.
    pub fn check(&self) -> Result<(), LockError> {
        let mut conditions = 0;
        self.check_within(MAX_DEPTH, &mut conditions)
    }

    fn check_within(&self, depth: usize, conditions: &mut usize) -> Result<(), LockError> {
        *conditions += 1;
        let fits = match self {
            Lock::Key(_) | Lock::Hash(_) | Lock::After(_) | Lock::Aged(_) => true,
            Lock::Keys { needed, keys } => {
                let ordered = keys.windows(2).all(|pair| pair[0] < pair[1]);
                ordered && keys.len() <= MAX_KEYS && (1..=keys.len()).contains(&usize::from(*needed))
            }
            Lock::Predicate(bytes) => bytes.len() <= MAX_PREDICATE,
            Lock::All(locks) | Lock::Any(locks) => {
                if depth == 0 || locks.len() > MAX_CONDITIONS {
                    return Err(LockError::Malformed);
                }
                locks.iter().try_for_each(|lock| lock.check_within(depth - 1, conditions))?;
                locks.len() >= 2
            }
        };
        (fits && *conditions <= MAX_CONDITIONS).then_some(()).ok_or(LockError::Malformed)
    }

    /// Whether the application knows every predicate in it.
    pub(crate) fn is_known(&self, predicate: &dyn Predicate) -> bool {
        match self {
            Lock::Predicate(bytes) => predicate.is_known(bytes),
            Lock::All(locks) | Lock::Any(locks) => locks.iter().all(|lock| lock.is_known(predicate)),
            Lock::Key(_) | Lock::Keys { .. } | Lock::Hash(_) | Lock::After(_) | Lock::Aged(_) => true,
        }
    }

    /// Whether the witness of an input opens it, but for its signatures, which are added to `checks`.
    pub(crate) fn open(&self, opening: Opening<'_>, checks: &mut Checks) -> Result<(), LockError> {
        let Some(input) = opening.transaction.inputs.get(opening.input) else {
            return Err(LockError::Missing("an input"));
        };
        let mut parts = input.witness.0.iter();
        self.open_with(opening, &mut parts, checks)?;
        parts.next().is_none().then_some(()).ok_or(LockError::Superfluous)
    }

    fn open_with(
        &self,
        opening: Opening<'_>,
        parts: &mut std::slice::Iter<'_, Part>,
        checks: &mut Checks,
    ) -> Result<(), LockError> {
        let Opening { transaction, id, input, predicate } = opening;
        match self {
            Lock::Key(key) => checks.spend(*key, id, signature(parts)?),
            Lock::Keys { needed, keys } => {
                let Some(Part::Signers(signers)) = parts.next() else {
                    return Err(LockError::Missing("who has signed"));
                };
                let known = u32::from(*signers) >> keys.len() == 0;
                if !known || signers.count_ones() != u32::from(*needed) {
                    return Err(LockError::Missing("as many signers as are needed"));
                }
                for (_, key) in keys.iter().enumerate().filter(|(i, _)| signers >> i & 1 == 1) {
                    checks.spend(*key, id, signature(parts)?);
                }
            }
            Lock::Hash(hash) => {
                let Some(Part::Preimage(preimage)) = parts.next() else {
                    return Err(LockError::Missing("a preimage"));
                };
                if preimage.len() > MAX_PREIMAGE || Kind::Preimage.hash(preimage) != *hash {
                    return Err(LockError::Preimage);
                }
            }
            Lock::After(needed) => {
                let found = transaction.lock_time;
                if !found.reaches(*needed) {
                    return Err(LockError::Early { needed: *needed, found });
                }
            }
            Lock::Aged(needed) => {
                let found = transaction.inputs[input].age;
                if !found.reaches(*needed) {
                    return Err(LockError::Young { needed: *needed, found });
                }
            }
            Lock::Predicate(bytes) => {
                let Some(Part::Argument(argument)) = parts.next() else {
                    return Err(LockError::Missing("an argument"));
                };
                let fits = argument.len() <= MAX_PREDICATE;
                if !fits || !predicate.holds(bytes, argument, transaction, input) {
                    return Err(LockError::Predicate);
                }
            }
            Lock::All(locks) => {
                locks.iter().try_for_each(|lock| lock.open_with(opening, parts, checks))?;
            }
            Lock::Any(locks) => {
                let Some(Part::Choice(choice)) = parts.next() else {
                    return Err(LockError::Missing("a choice"));
                };
                let lock =
                    locks.get(usize::from(*choice)).ok_or(LockError::Missing("a choice that there is"))?;
                lock.open_with(opening, parts, checks)?;
            }
        }
        Ok(())
    }

    fn decode_within(input: &mut Reader<'_>, depth: usize) -> Result<Lock, InvalidEncoding> {
        let nested = |input: &mut Reader<'_>| {
            let within = depth.checked_sub(1).ok_or(InvalidEncoding::NotCanonical("lock"))?;
            let count = input.count(MAX_CONDITIONS)?;
            (0..count).map(|_| Lock::decode_within(input, within)).collect::<Result<Vec<_>, _>>()
        };
        Ok(match input.u8()? {
            0 => Lock::Key(PublicKey::decode(input)?),
            1 => Lock::Keys { needed: input.u8()?, keys: input.list(MAX_KEYS)? },
            2 => Lock::Hash(Key::decode(input)?),
            3 => Lock::After(LockTime::decode(input)?),
            4 => Lock::Aged(Age::decode(input)?),
            5 => Lock::Predicate(input.blob(MAX_PREDICATE)?),
            6 => Lock::All(nested(input)?),
            7 => Lock::Any(nested(input)?),
            tag => return Err(InvalidEncoding::Unknown { what: "lock", tag }),
        })
    }
}

fn signature(parts: &mut std::slice::Iter<'_, Part>) -> Result<[u8; 64], LockError> {
    match parts.next() {
        Some(Part::Signature(signature)) => Ok(*signature),
        _ => Err(LockError::Missing("a signature")),
    }
}

impl Encode for Lock {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Lock::Key(key) => {
                out.push(0);
                key.encode(out);
            }
            Lock::Keys { needed, keys } => {
                out.extend_from_slice(&[1, *needed]);
                put_list(out, keys);
            }
            Lock::Hash(hash) => {
                out.push(2);
                hash.encode(out);
            }
            Lock::After(time) => {
                out.push(3);
                time.encode(out);
            }
            Lock::Aged(age) => {
                out.push(4);
                age.encode(out);
            }
            Lock::Predicate(bytes) => {
                out.push(5);
                put_blob(out, bytes);
            }
            Lock::All(locks) => {
                out.push(6);
                put_list(out, locks);
            }
            Lock::Any(locks) => {
                out.push(7);
                put_list(out, locks);
            }
        }
    }
}

impl Decode for Lock {
    fn decode(input: &mut Reader<'_>) -> Result<Lock, InvalidEncoding> {
        let lock = Lock::decode_within(input, MAX_DEPTH)?;
        lock.check().map_err(|_| InvalidEncoding::NotCanonical("lock"))?;
        Ok(lock)
    }
}

impl Encode for LockTime {
    fn encode(&self, out: &mut Vec<u8>) {
        let (tag, number) = match self {
            LockTime::Height(height) => (0, height),
            LockTime::Time(time) => (1, time),
        };
        out.push(tag);
        out.extend_from_slice(&number.to_le_bytes());
    }
}

impl Decode for LockTime {
    fn decode(input: &mut Reader<'_>) -> Result<LockTime, InvalidEncoding> {
        match input.u8()? {
            0 => input.u64().map(LockTime::Height),
            1 => input.u64().map(LockTime::Time),
            tag => Err(InvalidEncoding::Unknown { what: "lock time", tag }),
        }
    }
}

impl Encode for Age {
    fn encode(&self, out: &mut Vec<u8>) {
        let (tag, number) = match self {
            Age::Blocks(blocks) => (0, blocks),
            Age::Seconds(seconds) => (1, seconds),
        };
        out.push(tag);
        out.extend_from_slice(&number.to_le_bytes());
    }
}

impl Decode for Age {
    fn decode(input: &mut Reader<'_>) -> Result<Age, InvalidEncoding> {
        match input.u8()? {
            0 => input.u32().map(Age::Blocks),
            1 => input.u32().map(Age::Seconds),
            tag => Err(InvalidEncoding::Unknown { what: "age", tag }),
        }
    }
}

impl Encode for Witness {
    fn encode(&self, out: &mut Vec<u8>) {
        put_count(out, self.0.len());
        for part in &self.0 {
            match part {
                Part::Signature(signature) => {
                    out.push(0);
                    out.extend_from_slice(signature);
                }
                Part::Signers(signers) => {
                    out.push(1);
                    out.extend_from_slice(&signers.to_le_bytes());
                }
                Part::Preimage(bytes) => {
                    out.push(2);
                    put_blob(out, bytes);
                }
                Part::Argument(bytes) => {
                    out.push(3);
                    put_blob(out, bytes);
                }
                Part::Choice(choice) => out.extend_from_slice(&[4, *choice]),
            }
        }
    }
}

impl Decode for Witness {
    fn decode(input: &mut Reader<'_>) -> Result<Witness, InvalidEncoding> {
        let count = input.count(MAX_PARTS)?;
        let part = |_| match input.u8()? {
            0 => input.array().map(Part::Signature),
            1 => input.u16().map(Part::Signers),
            2 => input.blob(MAX_PREIMAGE).map(Part::Preimage),
            3 => input.blob(MAX_PREDICATE).map(Part::Argument),
            4 => input.u8().map(Part::Choice),
            tag => Err(InvalidEncoding::Unknown { what: "part of a witness", tag }),
        };
        (0..count).map(part).collect::<Result<_, _>>().map(Witness)
    }
}

#[cfg(test)]
mod tests;
