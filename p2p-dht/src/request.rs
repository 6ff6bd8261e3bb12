//! What a user asks of the machine, and what comes back.
//!
//! Most users have [`Dht`](crate::Dht); these are for those who want to know more, such as how many copies there are.

use bytes::Bytes;
use p2p_core::{AskError, JobError, Key, NoJob, Request};
use p2p_overlay::{Find, Looked, LookupError, Overlay};

use crate::record::{InvalidRecord, RecordKind, Signed, Slot};
use crate::replicated::{Refusal, Replicated, Wanted};

/// A command to [`Replicated`]: see the typed requests, [`Put`], [`Publish`], [`Provide`], [`Withdraw`], [`Get`],
/// [`GetSigned`] and [`GetProviders`].
#[derive(Clone, Debug)]
pub enum DhtCommand<P> {
    /// See [`Put`].
    Put {
        /// The value.
        value: Bytes,
    },
    /// See [`Publish`].
    Publish {
        /// The signed value.
        signed: Signed,
        /// The sequence number that it replaces.
        expected: Option<u64>,
    },
    /// See [`Provide`].
    Provide {
        /// The key of what this node has.
        key: Key,
    },
    /// See [`Withdraw`].
    Withdraw {
        /// What is not published any more.
        slot: Withdrawn<P>,
    },
    /// See [`Get`], [`GetSigned`] and [`GetProviders`].
    Get {
        /// The key.
        key: Key,
        /// What of it.
        wanted: Wanted,
    },
    /// See [`Find`].
    Find {
        /// The lookup.
        find: Find,
    },
}

/// What is not published any more: a record, or that this node provides something.
#[derive(Clone, Copy, Debug)]
pub enum Withdrawn<P> {
    /// This record.
    Record(Slot<P>),
    /// That this node has what the key names.
    Provider(Key),
}

/// What comes on the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DhtItem<P> {
    /// A provider was found.
    Provider(P),
}

/// How a command ended.
#[derive(Clone, Debug)]
pub enum DhtOutcome<P> {
    /// Of all that stores.
    Stored(Result<Stored, PutError>),
    /// Of [`Withdraw`].
    Withdrawn(Result<(), WithdrawError>),
    /// Of [`Get`].
    Value(Result<Bytes, GetError>),
    /// Of [`GetSigned`].
    Signed(Result<Signed, GetError>),
    /// Of [`GetProviders`].
    Providers(Result<Vec<P>, GetError>),
    /// Of [`Find`].
    Found(Looked<P>),
}

/// A record is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Under this key.
    pub key: Key,
    /// At how many nodes, each of which has synced it.
    pub copies: usize,
    /// Why others that should have it have not.
    pub refusals: Vec<Refusal>,
}

/// Why a record is not stored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PutError {
    /// It cannot be: the caller's mistake.
    #[error(transparent)]
    Invalid(#[from] InvalidRecord),
    /// Nobody who could keep it was found.
    #[error(transparent)]
    Lookup(#[from] LookupError),
    /// Too few nodes have it. Those that do keep it.
    #[error("{copies} of the {needed} copies needed are stored; refused: {refusals:?}")]
    Quorum {
        /// How many have it.
        copies: usize,
        /// How many should.
        needed: usize,
        /// Why the others have not.
        refusals: Vec<Refusal>,
    },
    /// Another value with this sequence number is there: read it, and sign anew with a higher one.
    #[error("there is a value with sequence number {sequence}: read it and sign with a higher one")]
    Conflict {
        /// The highest found.
        sequence: u64,
    },
    /// This node has too much under way.
    #[error("too many puts and gets at once: wait for some to end")]
    Busy,
    /// This node has no room for what it publishes.
    #[error("no room for another record at this node: raise DhtConfig::max_records or max_bytes")]
    Full,
    /// No answer from the machine itself.
    #[error(transparent)]
    Ask(#[from] AskError),
}

/// Why a record is still published.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WithdrawError {
    /// This node has too much under way.
    #[error("too many puts and gets at once: wait for some to end")]
    Busy,
    /// It cannot be written down.
    #[error("it is still published: {0}")]
    Storage(JobError),
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GetError {
    /// Nobody who could have it was found.
    #[error(transparent)]
    Lookup(#[from] LookupError),
    /// Nobody who should have it has it.
    #[error("not found: {answered} nodes do not have it, {silent} did not answer")]
    NotFound {
        /// How many answered.
        answered: usize,
        /// How many did not.
        silent: usize,
    },
    /// Too few have answered to know that this is the newest.
    #[error("{answered} of the {needed} answers needed; {silent} nodes were silent")]
    Partial {
        /// How many answered.
        answered: usize,
        /// How many should.
        needed: usize,
        /// How many did not.
        silent: usize,
        /// The newest of what they gave.
        newest: Option<Box<Signed>>,
    },
    /// This node has too much under way.
    #[error("too many puts and gets at once: wait for some to end")]
    Busy,
    /// No answer from the machine itself.
    #[error(transparent)]
    Ask(#[from] AskError),
}

/// Stores a value under its hash, for [`DhtConfig::lifetime`](crate::DhtConfig), and goes on publishing it until
/// [`Withdraw`].
#[derive(Clone, Debug)]
pub struct Put(pub Bytes);

/// Stores a signed value. If `expected` is given and there is one already, it must have that sequence number
/// (compare-and-swap). It is published again until it ends; only a new signature makes it last longer.
#[derive(Clone, Debug)]
pub struct Publish {
    /// The signed value.
    pub signed: Signed,
    /// The sequence number that it replaces.
    pub expected: Option<u64>,
}

/// Says that this node has what a key names, and goes on saying so until [`Withdraw`].
#[derive(Clone, Copy, Debug)]
pub struct Provide(pub Key);

/// Publishes something no more: it ends when its time is up. Done when the node would know so after a restart.
#[derive(Clone, Copy, Debug)]
pub struct Withdraw<P>(pub Withdrawn<P>);

/// The value with this hash.
#[derive(Clone, Copy, Debug)]
pub struct Get(pub Key);

/// The newest signed value under this key ([`Signed::key_of`]), of a quorum of the nodes that keep it.
#[derive(Clone, Copy, Debug)]
pub struct GetSigned(pub Key);

/// Who provides what a key names. Providers come as items as they are found.
#[derive(Clone, Copy, Debug)]
pub struct GetProviders(pub Key);

impl<P> Withdraw<P> {
    /// No longer publishes a value under its hash.
    pub fn value(key: Key) -> Withdraw<P> {
        Withdraw(Withdrawn::Record(Slot { key, kind: RecordKind::Immutable }))
    }

    /// No longer publishes a signed value.
    pub fn signed(key: Key) -> Withdraw<P> {
        Withdraw(Withdrawn::Record(Slot { key, kind: RecordKind::Mutable }))
    }

    /// No longer says that this node has what a key names.
    pub fn provider(key: Key) -> Withdraw<P> {
        Withdraw(Withdrawn::Provider(key))
    }
}

/// What all requests have in common but their command, their items and their outcome.
macro_rules! request {
    ($request:ty, $reply:ty, $outcome:ident, |$this:ident| $command:expr) => {
        impl<O: Overlay<Job = NoJob>> Request<Replicated<O>> for $request {
            type Item = O::Peer;
            type Reply = $reply;

            fn command(self) -> DhtCommand<O::Peer> {
                let $this = self;
                $command
            }
            fn item(DhtItem::Provider(peer): DhtItem<O::Peer>) -> Option<O::Peer> {
                Some(peer)
            }
            fn reply(outcome: DhtOutcome<O::Peer>) -> Option<$reply> {
                match outcome {
                    DhtOutcome::$outcome(result) => Some(result),
                    _ => None,
                }
            }
        }
    };
}

request!(Put, Result<Stored, PutError>, Stored, |this| DhtCommand::Put { value: this.0 });
request!(Publish, Result<Stored, PutError>, Stored, |this| DhtCommand::Publish {
    signed: this.signed,
    expected: this.expected
});
request!(Provide, Result<Stored, PutError>, Stored, |this| DhtCommand::Provide { key: this.0 });
request!(Get, Result<Bytes, GetError>, Value, |this| DhtCommand::Get { key: this.0, wanted: Wanted::Immutable });
request!(GetSigned, Result<Signed, GetError>, Signed, |this| DhtCommand::Get {
    key: this.0,
    wanted: Wanted::Mutable
});
request!(GetProviders, Result<Vec<O::Peer>, GetError>, Providers, |this| DhtCommand::Get {
    key: this.0,
    wanted: Wanted::Providers
});

/// Who is responsible for a key, as the overlay below says.
impl<O: Overlay<Job = NoJob>> Request<Replicated<O>> for Find {
    type Item = ();
    type Reply = Looked<O::Peer>;

    fn command(self) -> DhtCommand<O::Peer> {
        DhtCommand::Find { find: self }
    }
    fn item(_: DhtItem<O::Peer>) -> Option<()> {
        None
    }
    fn reply(outcome: DhtOutcome<O::Peer>) -> Option<Looked<O::Peer>> {
        match outcome {
            DhtOutcome::Found(looked) => Some(looked),
            _ => None,
        }
    }
}

impl<O: Overlay<Job = NoJob>> Request<Replicated<O>> for Withdraw<O::Peer> {
    type Item = ();
    type Reply = Result<(), WithdrawError>;

    fn command(self) -> DhtCommand<O::Peer> {
        DhtCommand::Withdraw { slot: self.0 }
    }
    fn item(_: DhtItem<O::Peer>) -> Option<()> {
        None
    }
    fn reply(outcome: DhtOutcome<O::Peer>) -> Option<Result<(), WithdrawError>> {
        match outcome {
            DhtOutcome::Withdrawn(result) => Some(result),
            _ => None,
        }
    }
}
