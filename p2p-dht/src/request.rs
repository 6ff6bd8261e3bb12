//! What a user asks of the machine, and what comes back.
//!
//! Most users have [`Dht`](crate::Dht); these are for those who want to know more, such as how many copies there are.

mod error;

use std::time::Duration;

use bytes::Bytes;
use p2p_core::{Key, NoJob, Request};
use p2p_overlay::{Find, Looked, Overlay};

use crate::client::Client;
use crate::custom::Custom;
use crate::record::{RecordKind, Signed, Slot};
use crate::replicated::{Refusal, Replicated, Wanted};

pub use error::{GetError, Newest, PutError, WithdrawError};

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
    /// See [`PutAt`].
    PutAt {
        /// The key.
        key: Key,
        /// The value.
        value: Bytes,
        /// The hash of the secret that removes it.
        owner: Key,
    },
    /// See [`Remove`].
    Remove {
        /// The key.
        key: Key,
        /// The secret.
        secret: [u8; 32],
        /// The value's hash.
        value: Key,
    },
    /// See [`PutCustom`].
    PutCustom {
        /// Whose rules it follows.
        namespace: Key,
        /// The key.
        key: Key,
        /// Its sequence number.
        sequence: u64,
        /// The value.
        value: Bytes,
        /// The sequence number that it replaces.
        expected: Option<u64>,
    },
    /// See [`ProvideAll`].
    ProvideAll {
        /// The keys of what this node has.
        keys: Vec<Key>,
    },
    /// See [`Withdraw`].
    Withdraw {
        /// What is not published any more.
        slot: Withdrawn<P>,
    },
    /// See [`Get`], [`GetSigned`], [`GetProviders`], [`GetAt`] and [`GetCustom`].
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
    /// See [`With`].
    With {
        /// A put or a get; to others nothing is added.
        command: Box<DhtCommand<P>>,
        /// How it is carried out.
        options: Options,
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
    /// Of [`GetAt`].
    Values(Result<Vec<Bytes>, GetError>),
    /// Of [`ProvideAll`].
    Swept(Result<Swept, PutError>),
    /// Of [`Withdraw`].
    Withdrawn(Result<(), WithdrawError>),
    /// Of [`Get`].
    Value(Result<Bytes, GetError>),
    /// Of [`GetSigned`].
    Signed(Result<Signed, GetError>),
    /// Of [`GetCustom`].
    Custom(Result<Custom, GetError>),
    /// Of [`GetProviders`].
    Providers(Result<Vec<P>, GetError>),
    /// Of [`Find`].
    Found(Looked<P>),
    /// Of [`With`].
    Reported(Box<DhtOutcome<P>>, Report<P>),
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

/// Stores a value under its hash, for [`DhtConfig::lifetime`](crate::DhtConfig), and goes on publishing it until
/// [`Withdraw`]: also after a restart, once it has ended well. With a quorum or a deadline of its own ([`Options`]) it ends
/// before that is written down.
#[derive(Clone, Debug)]
pub struct Put(pub Bytes);

/// Stores a signed value. If `expected` is given and there is one already, it must have that sequence number
/// (compare-and-swap). It is published again until it ends; only a new signature makes it last longer.
///
/// Compare-and-swap tells a writer that there is something newer than it has read. It is no lock, and a history of swaps is
/// not linearisable: as long as the replicas stay the same and the quorums overlap, of two writers who swap the same value
/// at most one is told that it has; but if both have signed different values with one sequence number, replicas settle on
/// either, perhaps on the other one. Writers that share a key should not share sequence numbers: let each take those that
/// leave its own remainder. While nodes come and go, a swap may be acknowledged by replicas that have not heard of the last.
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

/// Stores a value of at most [`MAX_REMOVABLE`](crate::MAX_REMOVABLE) bytes under any key, beside those of others, for
/// [`DhtConfig::lifetime`](crate::DhtConfig). It is not published again by itself: put it again to make it last. Up to
/// [`DhtConfig::max_providers`](crate::DhtConfig) values of one key are kept, and not all of them of one publisher.
///
/// Whoever knows the secret whose hash is the `owner` may [`Remove`] it, and nobody else (OpenDHT: `put` and `rm`). No put
/// takes the place of another: different values lie beside one another, those with one owner too.
///
/// ```
/// use p2p_core::sim::{DiskModel, Network, Sim};
/// use p2p_core::{Key, SimPeer};
/// use p2p_dht::{DhtConfig, GetAt, MemoryStore, PutAt, Remove, Replicated};
/// use p2p_overlay::Kademlia;
///
/// type Node = Replicated<Kademlia<SimPeer>>;
/// let mut sim = Sim::<Node, MemoryStore<SimPeer>>::with_workers(
///     1, Network::default(), DiskModel::default(), |_| MemoryStore::default(),
/// );
/// let first = sim.spawn(|birth| Node::new(Kademlia::create(birth.peer), DhtConfig::default()));
/// for _ in 0..9 {
///     sim.spawn(|birth| Node::new(Kademlia::join(birth.peer, [first]), DhtConfig::default()));
/// }
/// sim.run_for(std::time::Duration::from_secs(30));
///
/// let (node, key, secret) = (sim.handle(SimPeer(3)), Key::of(b"guests"), [7; 32]);
/// sim.block_on(async move {
///     node.ask(PutAt { key, value: "ada".into(), owner: Key::of(&secret) }).await.unwrap().unwrap();
///     assert_eq!(node.ask(GetAt(key)).await.unwrap().unwrap(), ["ada"]);
///     node.ask(Remove { key, secret, value: Key::of(b"ada") }).await.unwrap().unwrap();
///     assert!(node.ask(GetAt(key)).await.unwrap().is_err());
/// });
/// ```
#[derive(Clone, Debug)]
pub struct PutAt {
    /// The key.
    pub key: Key,
    /// The value.
    pub value: Bytes,
    /// The hash of the secret, [`Key::of`] its 32 bytes. The secret should be good, 32 random bytes, and each value have its own:
    /// one that has removed a value is known, and removes all others that have it.
    pub owner: Key,
}

/// All values under a key that were [put there](PutAt) and not removed, in no particular order. Who put them is not known:
/// anybody may put anything.
#[derive(Clone, Copy, Debug)]
pub struct GetAt(pub Key);

/// Removes a value that was put under a key with this secret, for those who read it from now on: what a quorum of
/// replicas know. The secret is known then, and of no more use.
#[derive(Clone, Copy, Debug)]
pub struct Remove {
    /// The key.
    pub key: Key,
    /// The secret.
    pub secret: [u8; 32],
    /// The hash of the value, [`Key::of`] its bytes.
    pub value: Key,
}

/// Stores a record of an application's own in the place of the one with the sequence number `expected`, if that is given, and goes
/// on publishing it: see [`Validator`](crate::Validator), and an example there.
#[derive(Clone, Debug)]
pub struct PutCustom {
    /// Whose rules it follows.
    pub namespace: Key,
    /// The key.
    pub key: Key,
    /// Of two the one with the higher number counts.
    pub sequence: u64,
    /// The value.
    pub value: Bytes,
    /// The sequence number that it replaces.
    pub expected: Option<u64>,
}

/// The newest valid record of an application's own under a key, of a quorum of the nodes that keep it.
#[derive(Clone, Copy, Debug)]
pub struct GetCustom {
    /// Whose rules it follows.
    pub namespace: Key,
    /// The key.
    pub key: Key,
}

/// Says of many keys that this node has what they name, as [`Provide`] does of one, and goes on saying so. It takes some
/// lookups for each node of the network, not one for each key; where copies lie at salted keys (CAN, Tapestry), it takes them
/// all.
///
/// To say it again the node keeps a record of each: [`DhtConfig::max_records`](crate::DhtConfig) bounds them, with what it keeps
/// for others. By default that is fewer than 65,536; what is more fails with [`PutError::Full`].
#[derive(Clone, Debug)]
pub struct ProvideAll(pub Vec<Key>);

/// What came of [`ProvideAll`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Swept {
    /// Of how many keys it is known.
    pub stored: usize,
    /// Of how many it is not.
    pub failed: usize,
    /// Why not, of the first of them.
    pub failures: Vec<(Key, PutError)>,
    /// How many lookups it took.
    pub lookups: u32,
}

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

    /// No longer publishes what a namespace has under a key.
    pub fn custom(namespace: Key, key: Key) -> Withdraw<P> {
        Withdraw(Withdrawn::Record(Slot { key, kind: RecordKind::Custom(namespace) }))
    }

    /// No longer says that this node has what a key names.
    pub fn provider(key: Key) -> Withdraw<P> {
        Withdraw(Withdrawn::Provider(key))
    }
}

/// How one call is carried out, where that is not as [`DhtConfig`](crate::DhtConfig) says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// The call ends as soon as so many nodes have the record, or have said what they have; a put goes on at the others. More
    /// than there are replicas are as many as there are.
    /// `None`: the configured quorum is needed, and a put or a search for providers ends when all have answered. A value
    /// under its hash ends a get by itself.
    pub quorum: Option<u8>,
    /// The call ends after so long, with what there is by then; a put goes on. `None`: when whoever does not answer has
    /// been given up.
    pub deadline: Option<Duration>,
    /// Who has something put through this node, if that is not the node itself: it lasts as long as this says, and is not
    /// published again. Of puts alone; what only a node itself can say ([`Provide`]) is this node's all the same.
    pub client: Option<Client>,
}

/// A put or a get with [`Options`], and with a [`Report`] of how it went.
///
/// ```
/// use p2p_core::SimPeer;
/// use p2p_core::sim::{DiskModel, Network, Sim};
/// use p2p_dht::{DhtConfig, MemoryStore, Options, Put, Replicated, Said, With};
/// use p2p_overlay::Kademlia;
/// use std::time::Duration;
///
/// type Node = Replicated<Kademlia<SimPeer>>;
/// let mut sim = Sim::<Node, MemoryStore<SimPeer>>::with_workers(
///     1, Network::default(), DiskModel::default(), |_| MemoryStore::default(),
/// );
/// let first = sim.spawn(|birth| Node::new(Kademlia::create(birth.peer), DhtConfig::default()));
/// for _ in 0..9 {
///     sim.spawn(|birth| Node::new(Kademlia::join(birth.peer, [first]), DhtConfig::default()));
/// }
/// sim.run_for(Duration::from_secs(30));
///
/// let node = sim.handle(SimPeer(3));
/// let options = Options { quorum: Some(2), deadline: Some(Duration::from_secs(1)), ..Options::default() };
/// let call = With { request: Put("a value".into()), options };
/// let answer = sim.block_on(async move { node.ask(call).await.unwrap() });
/// assert_eq!(answer.result.unwrap().copies, 2);
/// assert_eq!(answer.report.peers.iter().filter(|(_, said)| *said == Said::Has).count(), 2);
/// assert!(answer.report.took < Duration::from_secs(1));
/// ```
#[derive(Clone, Copy, Debug)]
pub struct With<R> {
    /// What is asked: [`Put`], [`Publish`], [`Provide`], [`Get`], [`GetSigned`], [`GetProviders`], [`PutAt`],
    /// [`GetAt`], [`Remove`], [`PutCustom`] or [`GetCustom`].
    pub request: R,
    /// How.
    pub options: Options,
}

/// What comes of [`With`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer<T, P> {
    /// What comes of the request itself.
    pub result: T,
    /// How it went.
    pub report: Report<P>,
}

/// How a put or a get went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report<P> {
    /// Whom it has asked, in this order, and what they have said by its end. One is asked again in some cases.
    pub peers: Vec<(P, Said)>,
    /// How many lookups it took to find them.
    pub lookups: u32,
    /// Of all lookups the most hops.
    pub hops: u32,
    /// How many peers were silent on the way of lookups.
    pub timeouts: u32,
    /// How long it took.
    pub took: Duration,
}

/// What a peer said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    /// It has the record, or, asked for what it has, something.
    Has,
    /// It has nothing.
    Lacks,
    /// It does not keep the record, for this reason.
    Refuses(Refusal),
    /// It did not answer in time.
    Silent,
    /// It might still have answered when the call ended.
    Nothing,
}

/// What [`With`] can be put around.
trait Reported {}
impl Reported for Put {}
impl Reported for Publish {}
impl Reported for Provide {}
impl Reported for Get {}
impl Reported for GetSigned {}
impl Reported for GetProviders {}
impl Reported for PutAt {}
impl Reported for GetAt {}
impl Reported for Remove {}
impl Reported for PutCustom {}
impl Reported for GetCustom {}

impl<O: Overlay<Job = NoJob>, R: Reported + Request<Replicated<O>>> Request<Replicated<O>> for With<R> {
    type Item = R::Item;
    type Reply = Answer<R::Reply, O::Peer>;

    fn command(self) -> DhtCommand<O::Peer> {
        DhtCommand::With { command: Box::new(self.request.command()), options: self.options }
    }
    fn item(item: DhtItem<O::Peer>) -> Option<R::Item> {
        R::item(item)
    }
    fn reply(outcome: DhtOutcome<O::Peer>) -> Option<Answer<R::Reply, O::Peer>> {
        match outcome {
            DhtOutcome::Reported(outcome, report) => Some(Answer { result: R::reply(*outcome)?, report }),
            _ => None,
        }
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
request!(PutAt, Result<Stored, PutError>, Stored, |this| DhtCommand::PutAt {
    key: this.key,
    value: this.value,
    owner: this.owner
});
request!(Remove, Result<Stored, PutError>, Stored, |this| DhtCommand::Remove {
    key: this.key,
    secret: this.secret,
    value: this.value
});
request!(GetAt, Result<Vec<Bytes>, GetError>, Values, |this| DhtCommand::Get {
    key: this.0,
    wanted: Wanted::Values
});
request!(PutCustom, Result<Stored, PutError>, Stored, |this| {
    let PutCustom { namespace, key, sequence, value, expected } = this;
    DhtCommand::PutCustom { namespace, key, sequence, value, expected }
});
request!(GetCustom, Result<Custom, GetError>, Custom, |this| DhtCommand::Get {
    key: this.key,
    wanted: Wanted::Custom(this.namespace)
});
request!(ProvideAll, Result<Swept, PutError>, Swept, |this| DhtCommand::ProvideAll { keys: this.0 });
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
