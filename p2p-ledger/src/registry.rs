//! Names that are owned: each by one key at a time, who may give it away or say what it stands for.
//!
//! Whoever sees somebody claim a name on its way could claim it first. So a name is claimed in two steps, as in Namecoin:
//! first a [`Move::Commit`] to its hash with a secret, and when that is [`delay`](Registry::delay) blocks deep, a
//! [`Move::Claim`] that shows both. Who sees the name then comes too late.
//!
//! Every move is signed with the chain's number; those with a name, with a number that counts its moves, so that none can
//! be repeated. There are no fees: blocks bound how much there is.

use p2p_core::{Key, Keypair};

use crate::codec::{Decode, Encode, InvalidEncoding, Reader, put_blob};
use crate::id::{Kind, PublicKey, TxId, WtxId};
use crate::signature::{Checks, message};
use crate::state::{Footprint, Place, State};
use crate::store::View;
use crate::transaction::Tx;

/// The longest name, in bytes.
pub const MAX_NAME: usize = 64;

const WHAT: &[u8; 16] = b"p2p-ledger names";

/// A registry on a chain of this number.
#[derive(Clone, Copy, Debug)]
pub struct Registry {
    /// The chain's number, which every move has to name.
    pub chain: u32,
    /// How many blocks are between a commitment and its claim. 12, as in Namecoin.
    pub delay: u64,
}

/// A move, signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameMove {
    /// The chain that it is for.
    pub chain: u32,
    /// By whom.
    pub by: PublicKey,
    /// What is done.
    pub step: Move,
    /// The signature.
    pub signature: [u8; 64],
}

/// What is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Move {
    /// Says that a name will be claimed, and not which.
    Commit(Key),
    /// Claims the name that was committed to, by the same key and with this secret.
    Claim {
        /// The name.
        name: Vec<u8>,
        /// The secret.
        secret: [u8; 32],
    },
    /// Says what a name stands for. The owner's to do.
    Set {
        /// The name.
        name: Vec<u8>,
        /// How many moves the name has had.
        number: u64,
        /// The hash of what it stands for.
        value: Key,
    },
    /// Gives a name away. The owner's to do.
    Transfer {
        /// The name.
        name: Vec<u8>,
        /// How many moves the name has had.
        number: u64,
        /// To whom.
        to: PublicKey,
    },
}

/// A name as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Name {
    /// Whose it is.
    pub owner: PublicKey,
    /// How many moves it has had.
    pub moves: u64,
    /// The hash of what it stands for; zero at first.
    pub value: Key,
}

/// Why a move is invalid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// It is for another chain.
    #[error("a move for chain {found}; this is chain {expected}")]
    Chain {
        /// This chain.
        expected: u32,
        /// The move's.
        found: u32,
    },
    /// A name has 1 to [`MAX_NAME`] bytes.
    #[error("a name of {0} bytes; it must have 1 to {MAX_NAME}")]
    Length(usize),
    /// There is such a commitment.
    #[error("there is such a commitment already")]
    Committed,
    /// Nobody has committed to this, or not this key.
    #[error("this key has not committed to this name with this secret")]
    NotCommitted,
    /// The commitment is too young.
    #[error("the commitment is good from height {from} on")]
    TooSoon {
        /// From which height on it may be claimed.
        from: u64,
    },
    /// The name is taken.
    #[error("the name is taken")]
    Taken,
    /// There is no such name.
    #[error("there is no such name")]
    Missing,
    /// Only the owner may do this.
    #[error("only the name's owner may do this")]
    NotOwner,
    /// The name's next move has another number.
    #[error("the name's next move is number {expected}, not {found}")]
    Number {
        /// The next one's.
        expected: u64,
        /// This one's.
        found: u64,
    },
}

impl Registry {
    /// The commitment to a name.
    pub fn commitment(by: &PublicKey, name: &[u8], secret: &[u8; 32]) -> Key {
        Kind::Commitment.hash(&[&by.0, secret, name].concat())
    }

    /// A signed move.
    pub fn sign(&self, by: &Keypair, step: Move) -> NameMove {
        let unsigned = NameMove { chain: self.chain, by: by.id().into(), step, signature: [0; 64] };
        NameMove { signature: by.sign(&message(WHAT, &unsigned.id().0)), ..unsigned }
    }

    /// A name as it is.
    pub fn name(&self, view: &View<'_>, name: &[u8]) -> Option<Name> {
        view.read(&name_key(name))
    }

    /// The name, if its owner moves and this is the next move.
    fn owned(&self, view: &View<'_>, by: &PublicKey, name: &[u8], found: u64) -> Result<Name, NameError> {
        let there = self.name(view, name).ok_or(NameError::Missing)?;
        if there.owner != *by {
            return Err(NameError::NotOwner);
        }
        let expected = there.moves;
        (found == expected).then_some(there).ok_or(NameError::Number { expected, found })
    }
}

impl State for Registry {
    type Tx = NameMove;
    type Error = NameError;

    fn apply(
        &self,
        view: &mut View<'_>,
        place: &Place,
        done: &NameMove,
        checks: &mut Checks,
    ) -> Result<u64, NameError> {
        let NameMove { chain, by, step, signature } = done;
        if *chain != self.chain {
            return Err(NameError::Chain { expected: self.chain, found: *chain });
        }
        match step {
            Move::Commit(commitment) => {
                let key = commitment_key(by, commitment);
                if view.get(&key).is_some() {
                    return Err(NameError::Committed);
                }
                view.put(key, place.height.to_le_bytes().to_vec());
            }
            Move::Claim { name, secret } => {
                if !(1..=MAX_NAME).contains(&name.len()) {
                    return Err(NameError::Length(name.len()));
                }
                let key = commitment_key(by, &Registry::commitment(by, name, secret));
                let height = view.get(&key).and_then(|bytes| bytes.try_into().ok()).map(u64::from_le_bytes);
                let from = height.ok_or(NameError::NotCommitted)?.saturating_add(self.delay);
                if place.height < from {
                    return Err(NameError::TooSoon { from });
                }
                if self.name(view, name).is_some() {
                    return Err(NameError::Taken);
                }
                view.remove(key);
                view.put(name_key(name), Name { owner: *by, moves: 0, value: Key::ZERO }.to_bytes());
            }
            Move::Set { name, number, value } => {
                let there = self.owned(view, by, name, *number)?;
                view.put(name_key(name), Name { value: *value, moves: number + 1, ..there }.to_bytes());
            }
            Move::Transfer { name, number, to } => {
                let there = self.owned(view, by, name, *number)?;
                view.put(name_key(name), Name { owner: *to, moves: number + 1, ..there }.to_bytes());
            }
        }
        checks.add(*by, message(WHAT, &done.id().0), *signature);
        Ok(0)
    }

    fn footprint(&self, done: &NameMove) -> Footprint {
        // The number's length is fixed and no key of the state begins so: no two names share a slot.
        let slot = |name: &[u8], number: u64| [b"m", name, &number.to_le_bytes()[..]].concat();
        let (uses, makes) = match &done.step {
            Move::Commit(commitment) => {
                let key = commitment_key(&done.by, commitment);
                (vec![[&key[..], b"made"].concat()], vec![key])
            }
            Move::Claim { name, secret } => {
                let key = commitment_key(&done.by, &Registry::commitment(&done.by, name, secret));
                (vec![key, name_key(name)], vec![slot(name, 0)])
            }
            Move::Set { name, number, .. } | Move::Transfer { name, number, .. } => {
                (vec![slot(name, *number)], vec![slot(name, number.saturating_add(1))])
            }
        };
        Footprint { uses, makes, ..Footprint::default() }
    }
}

impl Tx for NameMove {
    fn id(&self) -> TxId {
        let mut bytes = Vec::with_capacity(192);
        self.encode_unsigned(&mut bytes);
        TxId(Kind::Transaction.hash(&bytes))
    }

    fn wtxid(&self) -> WtxId {
        WtxId(Kind::Witnessed.hash(&self.to_bytes()))
    }

    /// Whom it is by, and the name; in a transfer, to whom it goes.
    fn about(&self) -> Vec<Vec<u8>> {
        let by = self.by.to_bytes();
        match &self.step {
            Move::Commit(_) => vec![by],
            Move::Claim { name, .. } | Move::Set { name, .. } => vec![by, name.clone()],
            Move::Transfer { name, to, .. } => vec![by, name.clone(), to.to_bytes()],
        }
    }
}

impl NameMove {
    fn encode_unsigned(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.chain.to_le_bytes());
        self.by.encode(out);
        match &self.step {
            Move::Commit(commitment) => {
                out.push(0);
                commitment.encode(out);
            }
            Move::Claim { name, secret } => {
                out.push(1);
                put_blob(out, name);
                out.extend_from_slice(secret);
            }
            Move::Set { name, number, value } => {
                out.push(2);
                put_blob(out, name);
                out.extend_from_slice(&number.to_le_bytes());
                value.encode(out);
            }
            Move::Transfer { name, number, to } => {
                out.push(3);
                put_blob(out, name);
                out.extend_from_slice(&number.to_le_bytes());
                to.encode(out);
            }
        }
    }
}

impl Encode for NameMove {
    fn encode(&self, out: &mut Vec<u8>) {
        self.encode_unsigned(out);
        out.extend_from_slice(&self.signature);
    }
}

impl Decode for NameMove {
    fn decode(input: &mut Reader<'_>) -> Result<NameMove, InvalidEncoding> {
        let (chain, by) = (input.u32()?, PublicKey::decode(input)?);
        let step = match input.u8()? {
            0 => Move::Commit(Key::decode(input)?),
            1 => Move::Claim { name: input.blob(MAX_NAME)?, secret: input.array()? },
            2 => Move::Set { name: input.blob(MAX_NAME)?, number: input.u64()?, value: Key::decode(input)? },
            3 => Move::Transfer {
                name: input.blob(MAX_NAME)?,
                number: input.u64()?,
                to: PublicKey::decode(input)?,
            },
            tag => return Err(InvalidEncoding::Unknown { what: "move", tag }),
        };
        Ok(NameMove { chain, by, step, signature: input.array()? })
    }
}

fn name_key(name: &[u8]) -> Vec<u8> {
    [b"n", name].concat()
}

fn commitment_key(by: &PublicKey, commitment: &Key) -> Vec<u8> {
    [b"c", by.0.as_slice(), commitment.as_bytes()].concat()
}

impl Encode for Name {
    fn encode(&self, out: &mut Vec<u8>) {
        self.owner.encode(out);
        out.extend_from_slice(&self.moves.to_le_bytes());
        self.value.encode(out);
    }
}

impl Decode for Name {
    fn decode(input: &mut Reader<'_>) -> Result<Name, InvalidEncoding> {
        Ok(Name { owner: PublicKey::decode(input)?, moves: input.u64()?, value: Key::decode(input)? })
    }
}

#[cfg(test)]
mod tests;
