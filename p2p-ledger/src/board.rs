//! A public bulletin board: topics to which named writers append, and from which nothing is taken away.
//!
//! What is posted is the hash of something that is kept elsewhere, so the ledger shows who said what and when, in which
//! order, and nothing of what it was. A topic belongs to whoever opened it: its owner names writers and removes them.
//!
//! Everything is signed with a number that counts the signer's own notices in the topic, so that a notice cannot be
//! repeated, and with the chain's number. There are no fees: who may write is known, and how much is bounded by the
//! blocks; opening a topic costs nothing but room in one.

use p2p_core::{Key, Keypair};

use crate::codec::{Decode, Encode, InvalidEncoding, Reader};
use crate::id::{Kind, PublicKey, TxId, WtxId};
use crate::signature::{Checks, message};
use crate::state::{Footprint, Place, State};
use crate::store::View;
use crate::transaction::Tx;

const WHAT: &[u8; 16] = b"p2p-ledger board";

/// Boards on a chain of this number.
#[derive(Clone, Copy, Debug)]
pub struct Board {
    /// The chain's number, which every notice has to name.
    pub chain: u32,
}

/// Something done to a topic, signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// The chain that it is for.
    pub chain: u32,
    /// The topic.
    pub topic: Key,
    /// How many notices the signer has had in this topic before.
    pub number: u64,
    /// By whom.
    pub by: PublicKey,
    /// What is done.
    pub act: Act,
    /// The signature.
    pub signature: [u8; 64],
}

/// What is done to a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// Opens it; the name is hashed with the opener's key ([`Board::topic`]), so that nobody opens another's. The opener
    /// may write.
    Open {
        /// The hash of its name, as [`Kind::Topic`].
        name: Key,
    },
    /// Lets somebody write. The owner's to do.
    Admit(PublicKey),
    /// Lets somebody write no more. The owner's to do.
    Remove(PublicKey),
    /// Appends the hash of something. A writer's to do.
    Post {
        /// The hash.
        content: Key,
    },
}

/// A topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Topic {
    /// Who opened it.
    pub owner: PublicKey,
    /// How many posts it has.
    pub posts: u64,
}

/// A post.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Post {
    /// The hash of what was posted.
    pub content: Key,
    /// By whom.
    pub by: PublicKey,
    /// The height of its block.
    pub height: u64,
}

/// Why a notice is invalid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BoardError {
    /// It is for another chain.
    #[error("a notice for chain {found}; this is chain {expected}")]
    Chain {
        /// This chain.
        expected: u32,
        /// The notice's.
        found: u32,
    },
    /// The topic's name and who opens it do not make its key.
    #[error("the topic is not the opener's")]
    Name,
    /// There is such a topic.
    #[error("there is such a topic")]
    Exists,
    /// There is no such topic.
    #[error("there is no such topic")]
    Missing,
    /// The signer's next notice has another number.
    #[error("the signer's next notice is number {expected}, not {found}")]
    Number {
        /// The next one's.
        expected: u64,
        /// This one's.
        found: u64,
    },
    /// Only the owner may do this.
    #[error("only the topic's owner may do this")]
    NotOwner,
    /// Only a writer may do this.
    #[error("only a writer of the topic may do this")]
    NotWriter,
}

impl Board {
    /// The key of the topic that this owner opens under a name.
    pub fn topic(owner: &PublicKey, name: &[u8]) -> Key {
        Board::topic_of(owner, &Kind::Topic.hash(name))
    }

    fn topic_of(owner: &PublicKey, name: &Key) -> Key {
        Kind::Topic.hash(&[owner.0.as_slice(), name.as_bytes()].concat())
    }

    /// A notice that opens a topic.
    pub fn open(&self, owner: &Keypair, name: &[u8]) -> Notice {
        let topic = Board::topic(&owner.id().into(), name);
        self.notice(owner, topic, 0, Act::Open { name: Kind::Topic.hash(name) })
    }

    /// A signed notice.
    pub fn notice(&self, by: &Keypair, topic: Key, number: u64, act: Act) -> Notice {
        let signature = [0; 64];
        let unsigned = Notice { chain: self.chain, topic, number, by: by.id().into(), act, signature };
        Notice { signature: by.sign(&message(WHAT, &unsigned.id().0)), ..unsigned }
    }

    /// A topic as it is.
    pub fn read(&self, view: &View<'_>, topic: &Key) -> Option<Topic> {
        view.read(&key(b't', topic, &[]))
    }

    /// A post, by its number from 0.
    pub fn post(&self, view: &View<'_>, topic: &Key, number: u64) -> Option<Post> {
        view.read(&key(b'p', topic, &number.to_be_bytes()))
    }

    /// Whether somebody may write.
    pub fn may_write(&self, view: &View<'_>, topic: &Key, who: &PublicKey) -> bool {
        view.get(&key(b'w', topic, &who.0)).is_some()
    }

    /// The number of somebody's next notice in a topic.
    pub fn next_number(&self, view: &View<'_>, topic: &Key, who: &PublicKey) -> u64 {
        view.read(&key(b'n', topic, &who.0)).map_or(0, |Number(number)| number)
    }
}

impl State for Board {
    type Tx = Notice;
    type Error = BoardError;

    fn apply(
        &self,
        view: &mut View<'_>,
        place: &Place,
        notice: &Notice,
        checks: &mut Checks,
    ) -> Result<u64, BoardError> {
        let Notice { chain, topic, number: found, by, act, signature } = notice;
        if *chain != self.chain {
            return Err(BoardError::Chain { expected: self.chain, found: *chain });
        }
        let expected = self.next_number(view, topic, by);
        if *found != expected {
            return Err(BoardError::Number { expected, found: *found });
        }
        let there = self.read(view, topic);
        let owned = || {
            let there = there.ok_or(BoardError::Missing)?;
            (there.owner == *by).then_some(()).ok_or(BoardError::NotOwner)
        };
        match act {
            Act::Open { name } => {
                if Board::topic_of(by, name) != *topic {
                    return Err(BoardError::Name);
                }
                if there.is_some() {
                    return Err(BoardError::Exists);
                }
                view.put(key(b't', topic, &[]), Topic { owner: *by, posts: 0 }.to_bytes());
                view.put(key(b'w', topic, &by.0), Vec::new());
            }
            Act::Admit(who) => {
                owned()?;
                view.put(key(b'w', topic, &who.0), Vec::new());
            }
            Act::Remove(who) => {
                owned()?;
                view.remove(key(b'w', topic, &who.0));
            }
            Act::Post { content } => {
                let there = there.ok_or(BoardError::Missing)?;
                if !self.may_write(view, topic, by) {
                    return Err(BoardError::NotWriter);
                }
                let post = Post { content: *content, by: *by, height: place.height };
                view.put(key(b'p', topic, &there.posts.to_be_bytes()), post.to_bytes());
                let longer = Topic { posts: there.posts + 1, ..there };
                view.put(key(b't', topic, &[]), longer.to_bytes());
            }
        }
        view.put(key(b'n', topic, &by.0), Number(expected + 1).to_bytes());
        checks.add(*by, message(WHAT, &notice.id().0), *signature);
        Ok(0)
    }

    /// A signer's notices in a topic follow each other. Those of several signers do not exclude each other: one that was
    /// admitted in the same pool is found to be a writer or not when it is applied. Who is removed has no part in the notice that
    /// removes him, but his posts read what it changes.
    fn footprint(&self, notice: &Notice) -> Footprint {
        let slot = |number: u64| {
            let mut slot = key(b'n', &notice.topic, &notice.by.0);
            slot.extend_from_slice(&number.to_le_bytes());
            slot
        };
        let mut makes = vec![slot(notice.number.saturating_add(1))];
        let uses = match notice.act {
            Act::Open { .. } => vec![key(b't', &notice.topic, &[])],
            Act::Admit(_) | Act::Remove(_) | Act::Post { .. } => vec![slot(notice.number)],
        };
        if let Act::Admit(who) = notice.act {
            let mut first = key(b'n', &notice.topic, &who.0);
            first.extend_from_slice(&0u64.to_le_bytes());
            makes.push(first);
        }
        let may_write = |who: &PublicKey| vec![key(b'w', &notice.topic, &who.0)];
        let (reads, changes) = match &notice.act {
            Act::Post { .. } => (may_write(&notice.by), Vec::new()),
            Act::Remove(who) => (Vec::new(), may_write(who)),
            Act::Open { .. } | Act::Admit(_) => Default::default(),
        };
        Footprint { uses, makes, reads, changes }
    }
}

impl Tx for Notice {
    fn id(&self) -> TxId {
        let mut bytes = Vec::with_capacity(160);
        self.encode_unsigned(&mut bytes);
        TxId(Kind::Transaction.hash(&bytes))
    }

    fn wtxid(&self) -> WtxId {
        WtxId(Kind::Witnessed.hash(&self.to_bytes()))
    }

    /// The topic, and whom it is by.
    fn about(&self) -> Vec<Vec<u8>> {
        vec![self.topic.to_bytes(), self.by.to_bytes()]
    }
}

impl Notice {
    fn encode_unsigned(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.chain.to_le_bytes());
        self.topic.encode(out);
        out.extend_from_slice(&self.number.to_le_bytes());
        self.by.encode(out);
        let (tag, key) = match &self.act {
            Act::Open { name } => (0, name.as_bytes()),
            Act::Admit(who) => (1, &who.0),
            Act::Remove(who) => (2, &who.0),
            Act::Post { content } => (3, content.as_bytes()),
        };
        out.push(tag);
        out.extend_from_slice(key);
    }
}

impl Encode for Notice {
    fn encode(&self, out: &mut Vec<u8>) {
        self.encode_unsigned(out);
        out.extend_from_slice(&self.signature);
    }
}

impl Decode for Notice {
    fn decode(input: &mut Reader<'_>) -> Result<Notice, InvalidEncoding> {
        let (chain, topic, number, by) =
            (input.u32()?, Key::decode(input)?, input.u64()?, PublicKey::decode(input)?);
        let (tag, key) = (input.u8()?, input.array()?);
        let act = match tag {
            0 => Act::Open { name: Key::new(key) },
            1 => Act::Admit(PublicKey(key)),
            2 => Act::Remove(PublicKey(key)),
            3 => Act::Post { content: Key::new(key) },
            tag => return Err(InvalidEncoding::Unknown { what: "act", tag }),
        };
        Ok(Notice { chain, topic, number, by, act, signature: input.array()? })
    }
}

fn key(what: u8, topic: &Key, more: &[u8]) -> Vec<u8> {
    [&[what], topic.as_bytes().as_slice(), more].concat()
}

struct Number(u64);

impl Encode for Number {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0.to_le_bytes());
    }
}

impl Decode for Number {
    fn decode(input: &mut Reader<'_>) -> Result<Number, InvalidEncoding> {
        input.u64().map(Number)
    }
}

impl Encode for Topic {
    fn encode(&self, out: &mut Vec<u8>) {
        self.owner.encode(out);
        out.extend_from_slice(&self.posts.to_le_bytes());
    }
}

impl Decode for Topic {
    fn decode(input: &mut Reader<'_>) -> Result<Topic, InvalidEncoding> {
        Ok(Topic { owner: PublicKey::decode(input)?, posts: input.u64()? })
    }
}

impl Encode for Post {
    fn encode(&self, out: &mut Vec<u8>) {
        self.content.encode(out);
        self.by.encode(out);
        out.extend_from_slice(&self.height.to_le_bytes());
    }
}

impl Decode for Post {
    fn decode(input: &mut Reader<'_>) -> Result<Post, InvalidEncoding> {
        Ok(Post { content: Key::decode(input)?, by: PublicKey::decode(input)?, height: input.u64()? })
    }
}

#[cfg(test)]
mod tests;
