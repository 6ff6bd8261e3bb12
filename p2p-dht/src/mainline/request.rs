//! What a user asks of a node, and what comes back.

use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;
use p2p_core::{AskError, Key, PeerId, Request};

use super::item::{InvalidItem, MutableItem};
use super::krpc::{Node, PutItem, Samples};
use super::saved::SavedTable;
use super::{Endpoint, Mainline};

/// A command to [`Mainline`]: see the typed requests.
#[derive(Clone, Debug)]
pub enum MainlineCommand {
    /// See [`FindNode`].
    FindNode {
        /// Near where.
        target: Key<20>,
    },
    /// See [`GetPeers`].
    GetPeers {
        /// The torrent.
        info_hash: Key<20>,
    },
    /// See [`Announce`].
    Announce {
        /// The torrent.
        info_hash: Key<20>,
        /// Where this node's BitTorrent client listens.
        port: Option<u16>,
    },
    /// See [`PutImmutable`] and [`PutMutable`].
    Put {
        /// What.
        item: PutItem,
    },
    /// See [`GetImmutable`].
    GetImmutable {
        /// The value's hash.
        target: Key<20>,
    },
    /// See [`GetMutable`].
    GetMutable {
        /// Who has signed it.
        publisher: PeerId,
        /// Which of its values.
        salt: Bytes,
    },
    /// See [`Unpublish`].
    Unpublish {
        /// The torrent, or where the item is kept.
        target: Key<20>,
    },
    /// See [`KnowNode`].
    KnowNode {
        /// Where it is.
        addr: SocketAddr,
    },
    /// See [`SampleInfohashes`].
    Sample {
        /// Whom to ask.
        node: SocketAddr,
        /// Near where it should name nodes.
        target: Key<20>,
    },
    /// See [`Status`].
    Status,
    /// See [`Save`].
    Save,
}

/// What comes on the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MainlineItem {
    /// A peer of a torrent.
    Peer(SocketAddr),
    /// A signed value that is newer than the last.
    Version(MutableItem),
}

/// How a command ended.
#[derive(Clone, Debug)]
pub enum MainlineOutcome {
    /// Of [`FindNode`].
    Nodes(Result<Vec<Node>, MainlineError>),
    /// Of [`GetPeers`].
    Peers(Result<Vec<SocketAddr>, MainlineError>),
    /// Of all that stores.
    Stored(Result<StoredAt, MainlineError>),
    /// Of [`GetImmutable`].
    Immutable(Result<Bytes, MainlineError>),
    /// Of [`GetMutable`].
    Mutable(Result<MutableItem, MainlineError>),
    /// Of [`SampleInfohashes`].
    Samples(Result<Samples, MainlineError>),
    /// Of [`Status`].
    Status(Box<StatusReport>),
    /// Of [`Save`].
    Saved(SavedTable),
    /// Of what has no answer.
    Done,
}

/// Something is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredAt {
    /// Where it is found.
    pub target: Key<20>,
    /// At how many nodes.
    pub nodes: usize,
    /// Why others have refused it.
    pub refused: Vec<Refused>,
}

/// Why a node has refused to store something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// See BEP 5 and 44.
    pub code: i64,
    /// In its words.
    pub text: String,
}

/// Why something did not work.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MainlineError {
    /// No node would keep it: the caller's mistake.
    #[error(transparent)]
    Invalid(#[from] InvalidItem),
    /// Nobody is there.
    #[error("no node has answered: name some that are there (MainlineConfig::bootstrap)")]
    NotJoined,
    /// The one node that was asked did not answer, or does not know such questions.
    #[error("the node gave no answer to this")]
    NoAnswer,
    /// Nobody has it.
    #[error("not found: {answered} nodes do not have it")]
    NotFound {
        /// How many have answered.
        answered: usize,
    },
    /// Nobody keeps it.
    #[error("no node has stored it; refused: {refused:?}")]
    NotStored {
        /// Why not.
        refused: Vec<Refused>,
    },
    /// Another value is there: read it, and sign anew with a higher number.
    #[error("there is another value (sequence number {sequence:?}): read it and sign with a higher number")]
    Conflict {
        /// The highest number that is known to be there.
        sequence: Option<i64>,
        /// At how many nodes this one is stored all the same.
        nodes: usize,
    },
    /// This node publishes as much as it may.
    #[error("this node publishes too much already: raise MainlineConfig::published")]
    Full,
    /// This node has too much under way.
    #[error("too much is under way at once: wait for some to end")]
    Busy,
    /// No answer from the machine itself.
    #[error(transparent)]
    Ask(#[from] AskError),
}

/// What a node knows of itself. What there are two of is of IPv4's network and of IPv6's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StatusReport {
    /// Its ids.
    pub ids: [Option<Key<20>>; 2],
    /// Nodes in its routing tables.
    pub nodes: [usize; 2],
    /// Its address, as others see it.
    pub external: [Option<IpAddr>; 2],
    /// How many nodes there seem to be.
    pub estimate: [Option<u64>; 2],
    /// Torrents of which it keeps peers for others.
    pub torrents: usize,
    /// Items that it keeps for others.
    pub items: usize,
    /// What it publishes itself.
    pub published: usize,
    /// Where its BitTorrent client is said to listen: see [`MainlineConfig::port`](super::MainlineConfig::port).
    pub port: Option<u16>,
}

/// The nodes closest to an id.
#[derive(Clone, Copy, Debug)]
pub struct FindNode(pub Key<20>);

/// Who has a torrent: its infohash's peers, as they come and then all of them.
#[derive(Clone, Copy, Debug)]
pub struct GetPeers(pub Key<20>);

/// Says that this host has a torrent, and goes on saying so until [`Unpublish`]. Its peers come as they are found on the
/// way.
#[derive(Clone, Copy, Debug)]
pub struct Announce {
    /// The torrent's infohash; of a v2 torrent its first 20 bytes.
    pub info_hash: Key<20>,
    /// Where this host's BitTorrent client listens; `None` for the port that this node's packets come from.
    pub port: Option<u16>,
}

/// Stores a bencoded value of at most [`MAX_ITEM`](super::MAX_ITEM) bytes under its hash, and again every hour until
/// [`Unpublish`].
#[derive(Clone, Debug)]
pub struct PutImmutable(pub Bytes);

/// Stores a signed value, and again every hour until [`Unpublish`] or until there is a newer one.
#[derive(Clone, Debug)]
pub struct PutMutable {
    /// The value.
    pub item: MutableItem,
    /// Only if what it replaces has this sequence number (compare-and-swap). Each node that keeps one compares by
    /// itself: two writers at once may both succeed at some. A packet that the network has doubled is compared twice, and may
    /// be told of a conflict with itself. A conflict leaves what is published as it was.
    pub cas: Option<i64>,
}

/// The value with this hash, as it is encoded.
#[derive(Clone, Copy, Debug)]
pub struct GetImmutable(pub Key<20>);

/// The newest value that a publisher has signed, of all nodes that should have it; newer ones come as they are found.
#[derive(Clone, Debug)]
pub struct GetMutable {
    /// Who has signed it.
    pub publisher: PeerId,
    /// Which of its values.
    pub salt: Bytes,
}

/// Publishes something no more; others forget it when its time is up.
#[derive(Clone, Copy, Debug)]
pub struct Unpublish(pub Key<20>);

/// Gets to know a node: a BitTorrent peer has told its port (BEP 5's `PORT`).
#[derive(Clone, Copy, Debug)]
pub struct KnowNode(pub SocketAddr);

/// Some of the torrents that one node knows peers of (BEP 51).
#[derive(Clone, Copy, Debug)]
pub struct SampleInfohashes {
    /// Whom to ask.
    pub node: SocketAddr,
    /// Near where it should name nodes.
    pub target: Key<20>,
}

/// What the node knows of itself.
#[derive(Clone, Copy, Debug)]
pub struct Status;

/// The routing table, to go on from at the next start: see [`MainlineConfig::saved`](super::MainlineConfig::saved).
#[derive(Clone, Copy, Debug)]
pub struct Save;

/// What all requests have in common but their command, their items and their outcome.
macro_rules! request {
    ($request:ty, $item:ty, $reply:ty, |$this:ident| $command:expr, |$found:ident| $some:expr, $outcome:pat => $value:expr) => {
        impl<P: Endpoint> Request<Mainline<P>> for $request {
            type Item = $item;
            type Reply = $reply;

            fn command(self) -> MainlineCommand {
                let $this = self;
                $command
            }
            fn item($found: MainlineItem) -> Option<$item> {
                $some
            }
            fn reply(outcome: MainlineOutcome) -> Option<$reply> {
                match outcome {
                    $outcome => Some($value),
                    _ => None,
                }
            }
        }
    };
}

type Reply<T> = Result<T, MainlineError>;

request!(FindNode, (), Reply<Vec<Node>>, |this| MainlineCommand::FindNode { target: this.0 }, |_item| None,
    MainlineOutcome::Nodes(result) => result);
request!(GetPeers, SocketAddr, Reply<Vec<SocketAddr>>, |this| MainlineCommand::GetPeers { info_hash: this.0 },
    |item| match item {
        MainlineItem::Peer(peer) => Some(peer),
        MainlineItem::Version(_) => None,
    },
    MainlineOutcome::Peers(result) => result);
request!(Announce, SocketAddr, Reply<StoredAt>,
    |this| MainlineCommand::Announce { info_hash: this.info_hash, port: this.port },
    |item| match item {
        MainlineItem::Peer(peer) => Some(peer),
        MainlineItem::Version(_) => None,
    },
    MainlineOutcome::Stored(result) => result);
request!(PutImmutable, (), Reply<StoredAt>, |this| MainlineCommand::Put { item: PutItem::Immutable(this.0) },
    |_item| None,
    MainlineOutcome::Stored(result) => result);
request!(PutMutable, (), Reply<StoredAt>,
    |this| MainlineCommand::Put { item: PutItem::Mutable { item: this.item, cas: this.cas } }, |_item| None,
    MainlineOutcome::Stored(result) => result);
request!(GetImmutable, (), Reply<Bytes>, |this| MainlineCommand::GetImmutable { target: this.0 }, |_item| None,
    MainlineOutcome::Immutable(result) => result);
request!(GetMutable, MutableItem, Reply<MutableItem>,
    |this| MainlineCommand::GetMutable { publisher: this.publisher, salt: this.salt },
    |item| match item {
        MainlineItem::Version(item) => Some(item),
        MainlineItem::Peer(_) => None,
    },
    MainlineOutcome::Mutable(result) => result);
request!(Unpublish, (), (), |this| MainlineCommand::Unpublish { target: this.0 }, |_item| None,
    MainlineOutcome::Done => ());
request!(KnowNode, (), (), |this| MainlineCommand::KnowNode { addr: this.0 }, |_item| None,
    MainlineOutcome::Done => ());
request!(SampleInfohashes, (), Reply<Samples>,
    |this| MainlineCommand::Sample { node: this.node, target: this.target }, |_item| None,
    MainlineOutcome::Samples(result) => result);
request!(Status, (), Box<StatusReport>, |_this| MainlineCommand::Status, |_item| None,
    MainlineOutcome::Status(report) => report);
request!(Save, (), SavedTable, |_this| MainlineCommand::Save, |_item| None,
    MainlineOutcome::Saved(saved) => saved);
