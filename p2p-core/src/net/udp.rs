//! Runs a [`Protocol`] over plain UDP: the peers are addresses, and every packet a message.
//!
//! Nothing is proved: an address can be forged, and a protocol that needs proof (KRPC's tokens) brings its own.
//! Packets come and go many at a call, where the system can do that (by `quinn-udp`); it fragments none. An address of
//! IPv4 is one, though the socket be one of IPv6 that takes both. A machine may take part in a [`Group`] of multicast:
//! what is sent to its address reaches everybody in it.

mod batch;

use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::task::{Context, Poll, ready};

use quinn::udp::{Transmit, UdpSocketState};
use socket2::{Domain, Socket, Type};
use tokio::io::Interest;
use tokio::net::UdpSocket;

use super::plain::{self, Came, Network};
pub use super::plain::{Malformed, Running};
use super::quic::bind_udp;
pub use crate::foreign::PacketCodec;
use crate::{Limits, Protocol, Worker};
use batch::{Arrivals, Departures, Run};

/// Binds a socket and runs a machine on it, with workers for its jobs if it has any. Must be called in a tokio
/// runtime.
///
/// # Errors
/// The address cannot be bound, or there is no thread for a worker.
pub async fn spawn<P, C, W>(
    machine: P,
    codec: C,
    bind: SocketAddr,
    limits: Limits,
    workers: impl IntoIterator<Item = W>,
) -> io::Result<Running<P>>
where
    P: Protocol<Peer = SocketAddr, Msg = C::Msg>,
    C: PacketCodec,
    W: Worker<P::Job> + 'static,
{
    start(machine, codec, bind_udp(bind)?, limits, workers)
}

/// A group of multicast, by IPv4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Group {
    /// Its address and port. Several programs of one host may be in it.
    pub addr: SocketAddrV4,
    /// The address of the interface by which it is reached; unspecified: whichever the system takes.
    pub interface: Ipv4Addr,
}

/// As [`spawn`], of a machine that hears what is sent to a group, from this host too, and sends to it by way of its
/// interface, no further than that network.
///
/// # Errors
/// The system has no multicast there, or there is no thread for a worker.
pub async fn spawn_in<P, C, W>(
    group: Group,
    machine: P,
    codec: C,
    limits: Limits,
    workers: impl IntoIterator<Item = W>,
) -> io::Result<Running<P>>
where
    P: Protocol<Peer = SocketAddr, Msg = C::Msg>,
    C: PacketCodec,
    W: Worker<P::Job> + 'static,
{
    start(machine, codec, join(group)?, limits, workers)
}

fn join(Group { addr, interface }: Group) -> io::Result<std::net::UdpSocket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(socket2::Protocol::UDP))?;
    socket.set_reuse_address(true)?;
    // On Unix a socket at the group's own address gets nothing that was sent to anybody else; elsewhere there is none.
    let bound = if cfg!(unix) { *addr.ip() } else { Ipv4Addr::UNSPECIFIED };
    socket.bind(&SocketAddrV4::new(bound, addr.port()).into())?;
    socket.join_multicast_v4(addr.ip(), &interface)?;
    socket.set_multicast_if_v4(&interface)?;
    socket.set_multicast_loop_v4(true)?;
    Ok(socket.into())
}

fn start<P, C, W>(
    machine: P,
    codec: C,
    socket: std::net::UdpSocket,
    limits: Limits,
    workers: impl IntoIterator<Item = W>,
) -> io::Result<Running<P>>
where
    P: Protocol<Peer = SocketAddr, Msg = C::Msg>,
    C: PacketCodec,
    W: Worker<P::Job> + 'static,
{
    let packets = Packets::new(codec, socket)?;
    let local = Some(packets.local_addr()?);
    plain::spawn("udp", machine, packets, local, limits, workers)
}

/// A socket, what has come and what waits to go.
pub(super) struct Packets<C> {
    socket: UdpSocket,
    system: UdpSocketState,
    codec: C,
    /// Whether it is a socket of IPv6.
    six: bool,
    arrivals: Arrivals,
    departures: Departures,
}

impl<C: PacketCodec> Packets<C> {
    pub(super) fn new(codec: C, socket: std::net::UdpSocket) -> io::Result<Packets<C>> {
        let system = UdpSocketState::new((&socket).into())?;
        socket.set_nonblocking(true)?;
        let socket = UdpSocket::from_std(socket)?;
        let six = socket.local_addr()?.is_ipv6();
        let (arrivals, departures) = (Arrivals::default(), Departures::default());
        Ok(Packets { socket, system, codec, six, arrivals, departures })
    }

    pub(super) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Sends what waits, until the socket is full.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let most = self.system.max_gso_segments();
        while let Some(Run { to, length, packets, bytes }) = self.departures.run(most) {
            let transmit = Transmit {
                destination: to,
                ecn: None,
                contents: bytes,
                segment_size: (packets > 1).then_some(length),
                src_ip: None,
            };
            let send = || self.system.send((&self.socket).into(), &transmit);
            match self.socket.try_io(Interest::WRITABLE, send) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    match ready!(self.socket.poll_send_ready(cx)) {
                        Ok(()) => {}
                        // The runtime ends.
                        Err(_) => return Poll::Pending,
                    }
                }
                // What cannot be sent is lost.
                Ok(()) | Err(_) => self.departures.sent(packets),
            }
        }
        Poll::Ready(())
    }
}

/// An address of IPv4 as one; one of IPv6 keeps its scope, without which nobody answers a neighbour of a link.
fn canonical(from: SocketAddr) -> SocketAddr {
    match from.ip().to_canonical() {
        four @ IpAddr::V4(_) => SocketAddr::new(four, from.port()),
        IpAddr::V6(_) => from,
    }
}

impl<C: PacketCodec> Network for Packets<C> {
    type Peer = SocketAddr;
    type Msg = C::Msg;

    fn send(&mut self, to: SocketAddr, msg: C::Msg) {
        let codec = &mut self.codec;
        let as_taken = match to.ip() {
            IpAddr::V4(ip) if self.six => SocketAddr::new(ip.to_ipv6_mapped().into(), to.port()),
            _ => to,
        };
        self.departures.push(as_taken, |bytes| codec.encode(to, msg, bytes));
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Came<SocketAddr, C::Msg>> {
        // What does not go now goes when the socket has room.
        let _ = self.poll_flush(cx);
        loop {
            while let Some((from, packet)) = self.arrivals.next() {
                let from = canonical(from);
                match self.codec.decode(from, packet) {
                    Ok(msg) => return Poll::Ready(Came::Message(from, msg)),
                    Err(error) => tracing::debug!(%from, %error, "dropped a packet"),
                }
            }
            if ready!(self.socket.poll_recv_ready(cx)).is_err() {
                return Poll::Pending;
            }
            let (socket, system) = (&self.socket, &self.system);
            let received = self.arrivals.fill(|places, filled| {
                socket.try_io(Interest::READABLE, || system.recv(socket.into(), places, filled))
            });
            // An error is a peer's port that is closed, told by ICMP: nothing to do.
            drop(received);
        }
    }

    async fn finish(mut self) {
        poll_fn(|cx| self.poll_flush(cx)).await;
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv6Addr, SocketAddrV6};

    use super::*;

    #[test]
    fn an_address_of_ipv4_is_one_and_a_neighbour_of_a_link_keeps_its_scope() {
        let mapped = "[::ffff:192.0.2.1]:6881".parse().unwrap();
        assert_eq!(canonical(mapped), "192.0.2.1:6881".parse().unwrap());
        let neighbour = SocketAddrV6::new(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1), 6881, 0, 3).into();
        assert_eq!(canonical(neighbour), neighbour);
    }
}
