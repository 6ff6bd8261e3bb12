//! The live world: peers on real networks.
//!
//! A [`Node`] is one QUIC endpoint with an identity. Its connections prove the peer's ed25519 key by TLS 1.3 raw
//! public keys (RFC 7250); one connection per peer carries every protocol the two share. An application
//! [serves](Node::serve) and [asks](Node::request) with plain `async` functions, or [spawns](Node::spawn) a
//! [`Protocol`](crate::Protocol) machine, the same that runs in the [simulator](crate::sim).
//!
//! In the order of a byte's way in: the `gate` decides whom to let in before any handshake, `tls` proves keys,
//! [`Transport`] and [`Connection`] carry streams (by [`QuicTransport`], or a [`MemoryNetwork`] in tests), the
//! `pool` keeps one connection per peer, `serve` hands streams out by protocol name, and the `driver` runs machines,
//! each behind a `port` for what comes, as far as there is `room`, and an `outbox` per peer for what goes. `hosts`
//! remembers where peers were.
//!
//! Spans: `dial`, `handshake`, `connection` and `protocol` at debug, `outbox` at trace. What is routine is told at
//! debug at the most; a machine that panics is an error, a host cache that cannot be saved a warning.
//! QUIC travels inside other protocols too, as a relayed connection does: [`QuicTransport::carried`].
//! Foreign networks have drivers of their own: [`udp`] and [`tcp`], and [`both`] for those that have one port for both.
#![allow(clippy::disallowed_types, reason = "the live world has clocks and threads of its own")]

pub mod both;
mod carried;
mod clock;
mod deadlines;
mod driver;
mod error;
mod frame;
mod gate;
mod hosts;
mod memory;
mod node;
mod outbox;
mod plain;
mod pool;
mod port;
mod quic;
mod room;
mod runner;
mod serve;
mod shared;
mod stats;
mod stream;
pub mod tcp;
mod timers;
mod tls;
mod transport;
pub mod udp;
mod unfinished;
mod worker;

pub use carried::Carrier;
pub use error::{OpenError, RequestError, SendError, ServeError};
pub use memory::MemoryNetwork;
pub use node::{Node, NodeBuilder};
pub use quic::{QuicTransport, bind_udp, transport_config};
pub use serve::{Incoming, Refused};
pub use stats::{Drop, ProtocolStats, Refusal, Refusals, Stats};
pub use stream::{RecvStream, SendStream, StreamError, code};
pub use transport::{CloseReason, Connection, DatagramError, DialError, Lost, Transport};
