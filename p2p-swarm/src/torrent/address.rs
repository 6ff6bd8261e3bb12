//! Peers of a network that knows them by where they are.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use p2p_core::foreign::TcpPeer;
use p2p_core::{Peer, SimPeer};

use crate::utp::StreamPeer;

/// What carries a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carrier {
    /// TCP.
    Tcp,
    /// uTP (BEP 29).
    Utp,
}

/// A peer that is told to others, and dialled, by an address: a connection, or in the simulator a node.
pub trait Addressed: Peer {
    /// Whom to send to, to reach who listens there. `number` tells connections to one address apart; it is new each time.
    /// Where there is no choice of what carries it `carrier` says nothing.
    fn dial(carrier: Carrier, addr: SocketAddr, number: u64) -> Self;
    /// What carries it.
    fn carrier(&self) -> Carrier {
        Carrier::Tcp
    }
    /// The other end's address; its port need not be where it listens.
    fn addr(&self) -> SocketAddr;
    /// Whether this end has made the connection; `None` where there are no two ends to it.
    fn dialled(&self) -> Option<bool>;
}

impl Addressed for TcpPeer {
    fn dial(_: Carrier, addr: SocketAddr, number: u64) -> TcpPeer {
        TcpPeer::Dialled { addr, number }
    }
    fn addr(&self) -> SocketAddr {
        TcpPeer::addr(self)
    }
    fn dialled(&self) -> Option<bool> {
        Some(matches!(self, TcpPeer::Dialled { .. }))
    }
}

impl Addressed for StreamPeer {
    fn dial(carrier: Carrier, addr: SocketAddr, number: u64) -> StreamPeer {
        let dialled = TcpPeer::Dialled { addr, number };
        match carrier {
            Carrier::Tcp => StreamPeer::Tcp(dialled),
            Carrier::Utp => StreamPeer::Utp(dialled),
        }
    }
    fn carrier(&self) -> Carrier {
        match self {
            StreamPeer::Tcp(_) => Carrier::Tcp,
            StreamPeer::Utp(_) => Carrier::Utp,
        }
    }
    fn addr(&self) -> SocketAddr {
        let (StreamPeer::Tcp(peer) | StreamPeer::Utp(peer)) = self;
        peer.addr()
    }
    fn dialled(&self) -> Option<bool> {
        let (StreamPeer::Tcp(peer) | StreamPeer::Utp(peer)) = self;
        peer.dialled()
    }
}

/// Number n listens at the n-th address of 10.0.0.0/8.
impl Addressed for SimPeer {
    fn dial(_: Carrier, addr: SocketAddr, _: u64) -> SimPeer {
        match addr {
            SocketAddr::V4(addr) => SimPeer(addr.ip().to_bits().wrapping_sub(10 << 24)),
            SocketAddr::V6(_) => SimPeer(u32::MAX),
        }
    }
    fn addr(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::from_bits((10_u32 << 24).wrapping_add(self.0)), 6881))
    }
    fn dialled(&self) -> Option<bool> {
        None
    }
}

/// Whether somebody can listen there, as far as the address itself says.
pub(crate) fn is_somewhere(addr: &SocketAddr) -> bool {
    let broadcast = matches!(addr, SocketAddr::V4(addr) if addr.ip().is_broadcast());
    addr.port() != 0 && !addr.ip().is_unspecified() && !addr.ip().is_multicast() && !broadcast
}

/// Whose room an address takes: a /64 is one host's as easily as one address of IPv4 is.
pub(crate) fn account(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(ip) if !ip.is_loopback() => {
            let [a, b, c, d, ..] = ip.segments();
            IpAddr::from([a, b, c, d, 0, 0, 0, 0])
        }
        whole => whole,
    }
}

/// An address of IPv4 in compact form (BEP 23): four bytes and a port.
pub(crate) fn v4(bytes: &[u8; 6]) -> SocketAddr {
    let [a, b, c, d, high, low] = *bytes;
    SocketAddr::from((Ipv4Addr::new(a, b, c, d), u16::from_be_bytes([high, low])))
}

/// An address of IPv6 in compact form (BEP 7): sixteen bytes and a port.
pub(crate) fn v6(bytes: &[u8; 18]) -> SocketAddr {
    let mut ip = [0; 16];
    ip.copy_from_slice(&bytes[..16]);
    SocketAddr::from((Ipv6Addr::from(ip), u16::from_be_bytes([bytes[16], bytes[17]])))
}

/// Appends an address in compact form.
pub(crate) fn put_compact(list: &mut Vec<u8>, addr: &SocketAddr) {
    match addr.ip() {
        IpAddr::V4(ip) => list.extend_from_slice(&ip.octets()),
        IpAddr::V6(ip) => list.extend_from_slice(&ip.octets()),
    }
    list.extend_from_slice(&addr.port().to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_simulated_peer_is_found_where_it_is() {
        for peer in [SimPeer(0), SimPeer(255), SimPeer(100_000)] {
            assert!(is_somewhere(&peer.addr()));
            assert_eq!(SimPeer::dial(Carrier::Tcp, peer.addr(), 7), peer);
        }
    }

    #[test]
    fn a_host_is_an_address_of_ipv4_or_a_64_of_ipv6() {
        for (ip, host) in [
            ("192.0.2.1", "192.0.2.1"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
            ("::1", "::1"),
        ] {
            assert_eq!(account(ip.parse().unwrap()), host.parse::<IpAddr>().unwrap(), "{ip}");
        }
    }

    #[test]
    fn nowhere_is_not_dialled() {
        for nowhere in
            ["0.0.0.0:80", "192.0.2.1:0", "224.0.0.1:80", "255.255.255.255:80", "[::]:1", "[ff02::1]:1"]
        {
            assert!(!is_somewhere(&nowhere.parse().unwrap()), "{nowhere}");
        }
    }
}
