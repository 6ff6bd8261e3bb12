//! What a node lets others cost it.
//!
//! Everything a remote peer can make grow has its bound here, in one place and with a default, so that a program
//! without any configuration is safe and one with special needs changes one number. What happens at a bound is
//! told by name: in an error, as [`Down::Overflow`](crate::Down::Overflow), or as a count in the node's statistics.

use std::time::Duration;

/// The bounds of one node.
///
/// What it can hold at most of what others send, in bytes, beside what its own handlers and machines keep:
///
/// - received by QUIC, and not read: [`connections`](Limits::connections) times
///   [`connection_window`](Limits::connection_window) and [`datagram_bytes`](Limits::datagram_bytes). That is 17 GiB by
///   default, a sixteenth of it from one address; it takes as many peers, each with a window full of what nobody here
///   reads;
/// - read: [`requests_bytes_in_all`](Limits::requests_bytes_in_all) and
///   [`unfinished_bytes`](Limits::unfinished_bytes), twice [`inbox_bytes`](Limits::inbox_bytes) per protocol, and up to
///   another `connection_window` per connection with the streams of messages whose readers wait for room.
///
/// And what it can hold at most of what others do not take: [`queue_bytes_per_peer`](Limits::queue_bytes_per_peer)
/// for each link of each protocol, and a `connection_window` and `datagram_bytes` per connection that QUIC has sent.
///
/// Whoever has little memory lowers `connections`, or both windows: if `connection_window` is not a few times
/// `stream_window`, one stream that is not read holds up all others of its connection.
///
/// Change what you need:
///
/// ```
/// use p2p_core::Limits;
///
/// let limits = Limits { connections: 100, ..Limits::default() };
/// assert!(limits.request_bytes > 0);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Longest body of a request and of a reply, in bytes. 4 MiB.
    pub request_bytes: usize,
    /// Request bodies being received or handled, in bytes over all peers, the second half shared as below. 64 MiB.
    pub requests_bytes_in_all: usize,
    /// Requests and streams being handled at once, over all peers; more are refused as busy. Above half of it each
    /// connection may have an equal share only, by [`Limits::connections`], so that nobody is kept out. 4,096.
    pub requests_at_once: usize,
    /// Requests and streams both ways that one peer may have open to us. 1,024.
    pub streams_per_connection: u32,
    /// Streams of messages that one peer may have open to us: one per protocol, and one per bulk message. 64.
    pub message_streams_per_connection: u32,
    /// What one connection may have sent us without our having read it, in bytes; also what we may have sent it without
    /// its having acknowledged it. 16 MiB.
    pub connection_window: u32,
    /// What one stream may have sent us without our having read it, in bytes. 4 MiB.
    pub stream_window: u32,
    /// Connections in all, both ways. 1,024.
    pub connections: usize,
    /// Connections from one IP address. 64.
    pub connections_per_address: usize,
    /// Connections from one subnet: a /24 of IPv4, a /48 of IPv6. 256.
    pub connections_per_subnet: usize,
    /// Handshakes in progress that others began; above half of it addresses must be validated first. 256.
    pub handshakes_at_once: usize,
    /// Handshakes per second from one IP address, on the average; bursts of four seconds' worth pass. 16.
    pub handshakes_per_address: u32,
    /// Handshakes per second from one subnet, on the average; bursts of four seconds' worth pass. 64.
    pub handshakes_per_subnet: u32,
    /// Addresses and subnets whose rate is remembered. 8,192.
    pub rate_entries: usize,
    /// Whether loopback addresses count as addresses and subnets too; they are one machine's own. No.
    pub count_loopback: bool,
    /// What waits to be sent to one peer by one protocol, in bytes; above it the link goes down. 4 MiB.
    pub queue_bytes_per_peer: usize,
    /// Peers one protocol has links to. Above it the one that was idle longest has to go, and if none is idle no other
    /// is let in: its streams are refused as busy. A datagram, or a bulk message that is all there before its stream is
    /// refused, is lost then without its sender's being told; see [`Lane::Bulk`](crate::Lane::Bulk). 2,048.
    pub links_per_protocol: usize,
    /// What one connection may have sent of messages that are not all there yet, in bytes; above it the stream is given
    /// up. No protocol's longest message may be longer. 8 MiB.
    pub unfinished_bytes_per_connection: usize,
    /// The same over all connections, the second half in equal shares as with [`Limits::requests_at_once`]. 64 MiB.
    pub unfinished_bytes: usize,
    /// Messages received and not yet taken in by one protocol; its peers wait above that. 1,024.
    pub inbox_messages: usize,
    /// The same in bytes as they came, or one message that is longer. Peers wait in one line, each once however many
    /// streams it has; datagrams are dropped. What a machine sends to its own node has as much again. 16 MiB.
    pub inbox_bytes: usize,
    /// Jobs of one protocol that wait or are being done. 4,096.
    pub jobs: usize,
    /// Jobs a worker is given at once. 256.
    pub jobs_per_batch: usize,
    /// Datagrams received and not yet read, in bytes per connection. 1 MiB.
    pub datagram_bytes: usize,
    /// How long a request may take, from its call to its reply; also how long a message may take to come, once it
    /// has begun. 30 s.
    pub request_timeout: Duration,
    /// How long a dial may take, with its handshake. 10 s.
    pub dial_timeout: Duration,
    /// How long a connection may be without any use before it is closed. 60 s.
    pub idle_timeout: Duration,
    /// How long a peer may be silent, though it is asked for a sign of life, before it counts as dead. 20 s.
    pub silence_timeout: Duration,
    /// How long shutting down may take; and how long a TCP connection that is to be closed waits for the other end to
    /// take in more of what is left. 5 s.
    pub shutdown_deadline: Duration,
    /// Largest UDP payload tried by path-MTU discovery, in bytes. 6,500: on links that carry it (loopback, jumbo
    /// frames) it halves the cost of a byte; ten such packets still fit one segmentation offload of 64 KiB.
    pub udp_payload: u16,
}

#[cfg(feature = "net")]
impl Limits {
    /// Whether a connection may use as much as `here` when `in_all` of `most` is used. The first half goes to whoever
    /// comes first; of the second each connection may have as much as if all had the same, so that a flood by some
    /// keeps nobody else out.
    pub(crate) fn fair(&self, here: usize, in_all: usize, most: usize) -> bool {
        in_all <= most / 2 || (in_all <= most && here <= (most / self.connections.max(1)).max(1))
    }
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            request_bytes: 4 << 20,
            requests_bytes_in_all: 64 << 20,
            requests_at_once: 4096,
            streams_per_connection: 1024,
            message_streams_per_connection: 64,
            connection_window: 16 << 20,
            stream_window: 4 << 20,
            connections: 1024,
            connections_per_address: 64,
            connections_per_subnet: 256,
            handshakes_at_once: 256,
            handshakes_per_address: 16,
            handshakes_per_subnet: 64,
            rate_entries: 8192,
            count_loopback: false,
            queue_bytes_per_peer: 4 << 20,
            links_per_protocol: 2048,
            unfinished_bytes_per_connection: 8 << 20,
            unfinished_bytes: 64 << 20,
            inbox_messages: 1024,
            inbox_bytes: 16 << 20,
            jobs: 4096,
            jobs_per_batch: 256,
            datagram_bytes: 1 << 20,
            request_timeout: Duration::from_secs(30),
            dial_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(60),
            silence_timeout: Duration::from_secs(20),
            shutdown_deadline: Duration::from_secs(5),
            udp_payload: 6500,
        }
    }
}
