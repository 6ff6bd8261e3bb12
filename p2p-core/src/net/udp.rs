//! Runs a [`Protocol`] over plain UDP: the peers are addresses, and every packet a message.
//!
//! Nothing is proved: an address can be forged, and a protocol that needs proof (KRPC's tokens) brings its own.
//!
//! A machine may take part in a [`Group`] of multicast: what is sent to its address reaches everybody in it.

use std::future::{Future, poll_fn};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::pin::pin;
use std::task::Poll;

use socket2::{Domain, Socket, Type};
use tokio::io::ReadBuf;
use tokio::net::UdpSocket;
use tokio::sync::watch;

use super::clock::Clock;
use super::plain::Alarm;
pub use super::plain::{Malformed, Running};
use super::runner::{Input, Runner};
use super::worker::Crew;
pub use crate::foreign::PacketCodec;
use crate::{Limits, Protocol, Worker};

/// The largest packet there can be, in bytes.
const MAX_PACKET: usize = 65_535;
/// Messages of one input that wait while the socket is full; more are lost, as packets may be.
const WAITING: usize = 1024;

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
) -> std::io::Result<Running<P>>
where
    P: Protocol<Peer = SocketAddr>,
    C: PacketCodec<Msg = P::Msg>,
    W: Worker<P::Job> + 'static,
{
    start(machine, codec, UdpSocket::bind(bind).await?, limits, workers)
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
) -> std::io::Result<Running<P>>
where
    P: Protocol<Peer = SocketAddr>,
    C: PacketCodec<Msg = P::Msg>,
    W: Worker<P::Job> + 'static,
{
    start(machine, codec, join(group)?, limits, workers)
}

fn join(Group { addr, interface }: Group) -> std::io::Result<UdpSocket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(socket2::Protocol::UDP))?;
    socket.set_reuse_address(true)?;
    // On Unix a socket at the group's own address gets nothing that was sent to anybody else; elsewhere there is none.
    let bound = if cfg!(unix) { *addr.ip() } else { Ipv4Addr::UNSPECIFIED };
    socket.bind(&SocketAddrV4::new(bound, addr.port()).into())?;
    socket.join_multicast_v4(addr.ip(), &interface)?;
    socket.set_multicast_if_v4(&interface)?;
    socket.set_multicast_loop_v4(true)?;
    socket.set_nonblocking(true)?;
    UdpSocket::from_std(socket.into())
}

fn start<P, C, W>(
    machine: P,
    codec: C,
    socket: UdpSocket,
    limits: Limits,
    workers: impl IntoIterator<Item = W>,
) -> std::io::Result<Running<P>>
where
    P: Protocol<Peer = SocketAddr>,
    C: PacketCodec<Msg = P::Msg>,
    W: Worker<P::Job> + 'static,
{
    let local = Some(socket.local_addr()?);
    let crew = Crew::start("udp", workers, limits.jobs, limits.jobs_per_batch)?;
    let (runner, handle) = Runner::new(machine, Clock::start(), crew);
    let (stop, stopped) = watch::channel(false);
    let task = tokio::spawn(run(runner, codec, socket, stopped));
    Ok(Running { handle, local, stop, task, limits })
}

enum Next<P: Protocol> {
    Input(Input<P>),
    Packet(usize, SocketAddr),
    Writable,
}

async fn run<P, C>(mut runner: Runner<P>, mut codec: C, socket: UdpSocket, mut stopped: watch::Receiver<bool>)
where
    P: Protocol<Peer = SocketAddr>,
    C: PacketCodec<Msg = P::Msg>,
{
    let _alarm = Alarm("udp");
    let mut stopped = pin!(async move {
        let _ = stopped.wait_for(|stopped| *stopped).await;
    });
    let mut buffer = vec![0; MAX_PACKET];
    let mut packet = Vec::new();
    let mut out = Vec::new();
    let mut waiting: std::collections::VecDeque<(SocketAddr, P::Msg)> = std::collections::VecDeque::new();
    let mut network_first = false;
    runner.feed(Input::Start, &mut out);
    loop {
        waiting.extend(out.drain(..).take(WAITING.saturating_sub(waiting.len())));
        network_first = !network_first;
        let something_waits = !waiting.is_empty();
        let next = poll_fn(|cx| {
            if stopped.as_mut().poll(cx).is_ready() {
                return Poll::Ready(None);
            }
            if something_waits && socket.poll_send_ready(cx).is_ready() {
                return Poll::Ready(Some(Next::Writable));
            }
            for network in [network_first, !network_first] {
                if network {
                    let mut filled = ReadBuf::new(&mut buffer);
                    // An error is a peer's port that is closed, told by ICMP: nothing to do.
                    if let Poll::Ready(Ok(from)) = socket.poll_recv_from(cx, &mut filled) {
                        return Poll::Ready(Some(Next::Packet(filled.filled().len(), from)));
                    }
                } else if let Poll::Ready(input) = runner.poll(cx) {
                    return Poll::Ready(Some(Next::Input(input)));
                }
            }
            Poll::Pending
        });
        let input = match next.await {
            None => break,
            Some(Next::Input(input)) => input,
            Some(Next::Packet(len, from)) => match codec.decode(from, &buffer[..len]) {
                Ok(msg) => Input::Message(from, msg),
                Err(error) => {
                    tracing::debug!(%from, %error, "dropped a packet");
                    continue;
                }
            },
            Some(Next::Writable) => {
                if let Some((to, msg)) = waiting.pop_front() {
                    packet.clear();
                    codec.encode(to, msg, &mut packet);
                    // What cannot be sent is lost.
                    let _ = socket.try_send_to(&packet, to);
                }
                continue;
            }
        };
        runner.feed(input, &mut out);
    }
    runner.finish().await;
}
