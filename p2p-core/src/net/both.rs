//! Runs a [`Protocol`] over TCP and UDP at one port: each of its peers is a connection, or an address that packets come
//! from and go to.
//!
//! BitTorrent's clients have both at the port that they tell others: connections over TCP, and over UDP connections of
//! their own making (uTP).

use std::io;
use std::net::SocketAddr;
use std::task::{Context, Poll};

use tokio::net::TcpListener;

pub use super::plain::Running;
use super::plain::{self, Came, Network};
use super::quic::bind_udp;
use super::tcp::Connections;
use super::udp::Packets;
use crate::foreign::{BothMsg, BothPeer, Codec, PacketCodec, TcpPeer};
use crate::{Limits, Protocol, Worker};

/// So often a port is chosen anew that is free for one and not for the other. 16.
const ATTEMPTS: usize = 16;

/// Where a machine listens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Listen {
    /// Where connections are accepted; `None`: nowhere, though it makes them.
    pub tcp: Option<SocketAddr>,
    /// Where packets are; `None`: nowhere, and none is sent. If its port is 0 it is that of TCP.
    pub udp: Option<SocketAddr>,
}

/// Runs a machine, with workers for its jobs if it has any. `machine` makes it of the address that it has got, with the
/// port that the system chose; `codec` makes each TCP connection its codec, `packets` is that of UDP. Must be called in
/// a tokio runtime.
///
/// # Errors
/// An address cannot be bound, or there is no thread for a worker.
pub async fn spawn_at<P, C, K, W>(
    machine: impl FnOnce(Option<SocketAddr>) -> P,
    codec: impl Fn(TcpPeer) -> C + Send + 'static,
    packets: K,
    listen: Listen,
    limits: Limits,
    workers: impl IntoIterator<Item = W>,
) -> io::Result<Running<P>>
where
    P: Protocol<Peer = BothPeer, Msg = BothMsg<C::Msg, K::Msg>>,
    C: Codec,
    K: PacketCodec,
    W: Worker<P::Job> + 'static,
{
    let (listener, packets) = bind(packets, listen).await?;
    let local = match (&listener, &packets) {
        (Some(listener), _) => Some(listener.local_addr()?),
        (None, Some(packets)) => Some(packets.local_addr()?),
        (None, None) => None,
    };
    let network = Both { connections: Connections::new(codec, listener, &limits), packets, turn: false };
    plain::spawn("both", machine(local), network, local, limits, workers)
}

async fn bind<K: PacketCodec>(
    codec: K,
    listen: Listen,
) -> io::Result<(Option<TcpListener>, Option<Packets<K>>)> {
    let mut attempts = ATTEMPTS;
    let (listener, socket) = loop {
        attempts -= 1;
        let listener = match listen.tcp {
            Some(addr) => Some(TcpListener::bind(addr).await?),
            None => None,
        };
        let chosen = listener.as_ref().map(TcpListener::local_addr).transpose()?.map(|addr| addr.port());
        let Some(mut addr) = listen.udp else { break (listener, None) };
        if addr.port() == 0 {
            addr.set_port(chosen.unwrap_or(0));
        }
        match bind_udp(addr) {
            Ok(socket) => break (listener, Some(socket)),
            Err(_) if attempts > 0 && listen.tcp.is_some_and(|addr| addr.port() == 0) => {}
            Err(error) => return Err(error),
        }
    };
    Ok((listener, socket.map(|socket| Packets::new(codec, socket)).transpose()?))
}

struct Both<C: Codec, F, K> {
    connections: Connections<C, F>,
    packets: Option<Packets<K>>,
    /// Whether packets are looked at first.
    turn: bool,
}

impl<C, F, K> Network for Both<C, F, K>
where
    C: Codec,
    F: Fn(TcpPeer) -> C + Send + 'static,
    K: PacketCodec,
{
    type Peer = BothPeer;
    type Msg = BothMsg<C::Msg, K::Msg>;

    fn send(&mut self, to: BothPeer, msg: Self::Msg) {
        match (to, msg) {
            (BothPeer::Tcp(to), BothMsg::Stream(msg)) => self.connections.send(to, msg),
            (BothPeer::Udp(to), BothMsg::Packet(msg)) => {
                if let Some(packets) = &mut self.packets {
                    packets.send(to, msg);
                }
            }
            // Neither has a way to the other.
            (BothPeer::Tcp(_), BothMsg::Packet(_)) | (BothPeer::Udp(_), BothMsg::Stream(_)) => {}
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Came<BothPeer, Self::Msg>> {
        self.turn = !self.turn;
        for of_packets in [self.turn, !self.turn] {
            let came = match (of_packets, &mut self.packets) {
                (true, Some(packets)) => packets.poll(cx).map(|came| match came {
                    Came::Message(from, msg) => Came::Message(BothPeer::Udp(from), BothMsg::Packet(msg)),
                    Came::Link(peer, link) => Came::Link(BothPeer::Udp(peer), link),
                }),
                (true, None) => Poll::Pending,
                (false, _) => self.connections.poll(cx).map(|came| match came {
                    Came::Message(from, msg) => Came::Message(BothPeer::Tcp(from), BothMsg::Stream(msg)),
                    Came::Link(peer, link) => Came::Link(BothPeer::Tcp(peer), link),
                }),
            };
            if came.is_ready() {
                return came;
            }
        }
        Poll::Pending
    }

    async fn finish(self) {
        if let Some(packets) = self.packets {
            packets.finish().await;
        }
        self.connections.finish().await;
    }
}
