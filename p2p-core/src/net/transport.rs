//! What carries connections: QUIC, or an in-process network in tests.
//!
//! A [`Transport`] dials and accepts; a [`Connection`] has proved its peer's key and carries streams and
//! datagrams. Both are object-safe, so that a node takes whichever it is given. The streams are concrete types
//! ([`SendStream`], [`RecvStream`]): a call per connection or per stream may cost an allocation, a read may not.

use std::fmt::Debug;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use super::stats::Refusals;
use super::stream::{RecvStream, SendStream};
use crate::{Contact, PeerId};

/// Dials and accepts connections for one identity.
#[async_trait]
pub trait Transport: Debug + Send + Sync + 'static {
    /// Whom it proves to be.
    fn id(&self) -> PeerId;

    /// Where it is bound, with the port that the system chose.
    fn local_addr(&self) -> SocketAddr;

    /// Connects to a peer that proves to be `to.id`.
    ///
    /// # Errors
    /// See [`DialError`].
    async fn dial(&self, to: Contact) -> Result<Arc<dyn Connection>, DialError>;

    /// The next connection that somebody made; `None` once closed. Must be called by one task only.
    async fn accept(&self) -> Option<Arc<dyn Connection>>;

    /// Closes every connection and accepts no more; resolves when the peers have been told.
    async fn close(&self);

    /// Handshakes refused so far, by reason.
    fn refusals(&self) -> Refusals {
        Refusals::default()
    }

    /// Resolves at the next refusal.
    async fn refused(&self) {
        std::future::pending::<()>().await;
    }
}

/// A connection to one peer that has proved its key.
#[async_trait]
pub trait Connection: Debug + Send + Sync + 'static {
    /// Whose key it proved.
    fn peer(&self) -> PeerId;

    /// Where it is.
    fn remote_addr(&self) -> SocketAddr;

    /// Opens a stream both ways; waits while the peer allows no more. The peer learns of it with the first write.
    async fn open_bi(&self) -> Result<(SendStream, RecvStream), Lost>;

    /// Opens a stream both ways if that takes no waiting, which is cheaper; `None` means that [`Connection::open_bi`] may
    /// have to wait.
    fn open_bi_now(&self) -> Option<Result<(SendStream, RecvStream), Lost>> {
        None
    }

    /// Opens a stream to the peer only.
    async fn open_uni(&self) -> Result<SendStream, Lost>;

    /// The next stream both ways that the peer opened.
    async fn accept_bi(&self) -> Result<(SendStream, RecvStream), Lost>;

    /// The next stream to us only.
    async fn accept_uni(&self) -> Result<RecvStream, Lost>;

    /// Sends a datagram, which may be lost; older ones that still wait are dropped for it.
    ///
    /// # Errors
    /// It is longer than [`Connection::max_datagram`], or the connection is lost.
    fn send_datagram(&self, bytes: Bytes) -> Result<(), DatagramError>;

    /// The next datagram.
    async fn recv_datagram(&self) -> Result<Bytes, Lost>;

    /// The longest datagram that can be sent now, in bytes.
    fn max_datagram(&self) -> usize;

    /// Closes it; what was on the way may be lost.
    fn close(&self, reason: CloseReason);

    /// Resolves when it is lost.
    async fn closed(&self) -> Lost;

    /// How it was lost, as soon as it is; `None` while it lives.
    fn lost(&self) -> Option<Lost>;

    /// A number that changes whenever data of a stream or a datagram moves, either way.
    fn activity(&self) -> u64;

    /// The transport's estimate of the round-trip time; `None` if it has none.
    fn rtt(&self) -> Option<Duration>;

    /// Bytes sent and received on the wire.
    fn bytes(&self) -> (u64, u64);
}

/// Why one end closed a connection, as told to the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseReason {
    /// Nobody had used it for a while.
    Idle,
    /// The two peers have another connection.
    Settled,
    /// The node is shutting down.
    Shutdown,
    /// The other end sent what is no message.
    Misbehaved,
    /// The node has too many connections.
    TooMany,
}

impl CloseReason {
    /// Its number on the wire.
    pub const fn code(self) -> u32 {
        match self {
            CloseReason::Idle => 1,
            CloseReason::Settled => 2,
            CloseReason::Shutdown => 3,
            CloseReason::Misbehaved => 4,
            CloseReason::TooMany => 5,
        }
    }

    /// The reason with this number; `None` if there is none.
    pub fn from_code(code: u64) -> Option<CloseReason> {
        use CloseReason::{Idle, Misbehaved, Settled, Shutdown, TooMany};
        [Idle, Settled, Shutdown, Misbehaved, TooMany].into_iter().find(|r| u64::from(r.code()) == code)
    }
}

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Lost {
    /// This end closed it.
    #[error("closed by this end")]
    Here,
    /// The peer closed it, and said why if it speaks our language.
    #[error("closed by the peer ({0:?})")]
    There(Option<CloseReason>),
    /// The peer was silent for too long.
    #[error("the peer was silent for too long")]
    TimedOut,
    /// The peer knows nothing of it: it has restarted.
    #[error("the peer has lost the connection: it has restarted")]
    Reset,
    /// The peer broke the transport's rules.
    #[error("the peer broke the transport's rules")]
    Broken,
}

impl Lost {
    /// Whether the peer closed it knowing that nothing was under way: what we had just sent was not seen.
    pub(super) fn unseen(self) -> bool {
        matches!(self, Lost::There(Some(CloseReason::Idle | CloseReason::Settled)))
    }
}

/// Why there is no connection.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DialError {
    /// The world: nobody answered in time.
    #[error("nobody answered at {0}")]
    TimedOut(SocketAddr),
    /// The world: whoever is there refused, or speaks of another network.
    #[error("refused at {addr}: {why}")]
    Refused {
        /// Where.
        addr: SocketAddr,
        /// What was said.
        why: String,
    },
    /// The peer: somebody else is there.
    #[error("{found} is there, not {expected}")]
    WrongKey {
        /// Who was dialled.
        expected: PeerId,
        /// Who answered.
        found: PeerId,
    },
    /// The caller: this node itself was dialled, or an address that cannot be.
    #[error("not a peer to dial: {0}")]
    Invalid(String),
    /// The caller: the node has as many connections as its limits allow.
    #[error("this node has as many connections as its limits allow")]
    TooMany,
    /// The caller: the node is shut down.
    #[error("this node is shut down")]
    Shutdown,
}

/// Why a datagram was not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DatagramError {
    /// The caller: it does not fit a packet.
    #[error("a datagram of {len} bytes; at most {max} fit a packet on this path")]
    TooLong {
        /// Its bytes, with the protocol's name.
        len: usize,
        /// What fits.
        max: usize,
    },
    /// The world: the connection is lost.
    #[error(transparent)]
    Lost(#[from] Lost),
}
