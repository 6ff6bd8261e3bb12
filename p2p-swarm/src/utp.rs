//! uTP: connections over UDP that give way to all others (BEP 29, with LEDBAT, RFC 6817).
//!
//! In the order of a byte's way out: [`Streams`] runs a machine whose peers are connections, and makes bytes of what it
//! says; the `mux` has all connections of one socket, as many as others may be `opening`; a [`Connection`] `send`s packets, as many at a time as `ledbat`
//! lets, which goes by how long they queue (`delay`) and by what is lost (`rtt`); at the other end `receive` puts them in
//! order. A [`Packet`] is the bytes.
//!
//! What holds:
//!
//! - **What comes out is what went in**, in order and once, or the connection ends.
//! - **What the other end can make grow is bounded**: see [`ConnectionConfig`] and [`UtpConfig`].
//! - **Nobody is sent more than they sent** before they have shown that they are there.

mod connection;
mod delay;
mod ledbat;
mod mux;
mod opening;
mod packet;
mod receive;
mod rtt;
mod send;
mod streams;

pub use connection::{Connection, ConnectionConfig, End, Status};
pub use mux::UtpConfig;
pub use packet::{HEADER, Kind, Packet, UtpCodec};
pub use streams::{StreamPeer, Streams, StreamsTimer};

#[cfg(test)]
mod tests;
