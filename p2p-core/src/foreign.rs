//! Foreign protocols over TCP and UDP: what a connection is called, and how bytes become messages.
//!
//! A codec is as pure as a machine: bytes in, messages out, and the other way round. So it stands here, where crates
//! that know no network have it too; `net::tcp` and `net::udp` run it.

use std::net::SocketAddr;

use bytes::BytesMut;

/// A TCP connection's name. It is never used again for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TcpPeer {
    /// One that this end makes, at the first message to it.
    Dialled {
        /// Where to.
        addr: SocketAddr,
        /// The machine's own number, to have several to one address, or to dial anew.
        number: u64,
    },
    /// One that the other end made.
    Accepted {
        /// Where from.
        addr: SocketAddr,
        /// The driver's number.
        number: u64,
    },
}

impl TcpPeer {
    /// The other end's address.
    pub fn addr(&self) -> SocketAddr {
        match self {
            TcpPeer::Dialled { addr, .. } | TcpPeer::Accepted { addr, .. } => *addr,
        }
    }
}

/// A peer of a machine that has TCP and UDP at one port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BothPeer {
    /// A TCP connection.
    Tcp(TcpPeer),
    /// Where packets come from, and go to.
    Udp(SocketAddr),
}

/// What it says and hears: of each kind of peer one kind alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BothMsg<S, D> {
    /// Over a TCP connection.
    Stream(S),
    /// As a packet.
    Packet(D),
}

/// What follows a message that was encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum After {
    /// More may follow.
    Open,
    /// The connection is closed when it has been sent.
    Close,
}

/// How the bytes of one connection become messages, and the other way round.
pub trait Codec: Send + 'static {
    /// What travels.
    type Msg: Send + 'static;

    /// Appends what is sent before any message, when the connection is made. Nothing.
    fn begin(&mut self, output: &mut BytesMut) {
        let _ = output;
    }

    /// Takes the next message from the front of `input`; `None` while it is not all there, and then it is called
    /// again with more. It must not let `input` grow without bound: what is too long is malformed. What it
    /// appends to `output` is sent at once: an encryption handshake's part that is no message.
    ///
    /// # Errors
    /// The bytes are no message; the connection is closed.
    fn decode(&mut self, input: &mut BytesMut, output: &mut BytesMut)
    -> Result<Option<Self::Msg>, Malformed>;

    /// Appends a message's bytes.
    fn encode(&mut self, msg: Self::Msg, output: &mut BytesMut) -> After;
}

/// A message that may begin a connection over TLS.
pub trait Securing {
    /// The name that the other end has to prove; `None`: the connection is in the clear.
    fn server_name(&self) -> Option<&str>;
}

/// How a protocol's messages become packets of UDP.
pub trait PacketCodec: Send + 'static {
    /// What travels.
    type Msg: Send + 'static;

    /// The message in a packet. A packet that is none is dropped.
    ///
    /// # Errors
    /// The bytes are no message.
    fn decode(&mut self, from: SocketAddr, packet: &[u8]) -> Result<Self::Msg, Malformed>;

    /// Appends a message's bytes.
    fn encode(&mut self, to: SocketAddr, msg: Self::Msg, packet: &mut Vec<u8>);
}

/// Bytes that are no message. Always the sender's fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("malformed: {0}")]
pub struct Malformed(pub String);
