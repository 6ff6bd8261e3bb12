//! Where peers of foreign networks are: what a peer of each world is as an address, and the other way round.

use std::net::{Ipv4Addr, SocketAddr};

use p2p_core::foreign::TcpPeer;
use p2p_core::{Contact, Keypair, Peer, PeerId, SimPeer};

/// A peer that can be told to others as a [`Contact`], and dialled by one. Messages of foreign networks carry
/// addresses, and a machine's peers are names, or connections: this is the way between them.
pub trait Place: Peer {
    /// Where others reach it; `None` if that does not follow from its name, as with a connection that it has made.
    fn contact(&self) -> Option<Contact>;
    /// Whom to send to, to reach who is there. `number` tells several connections to one address apart; it is new each
    /// time.
    fn at(contact: Contact, number: u64) -> Self;
    /// Whether it can be true that this peer is reached there: it is the same host, or has the same key.
    fn may_be(&self, contact: &Contact) -> bool;
    /// Whose account what it gives and takes goes to: the same for all connections of one host, or all that one key
    /// proves.
    fn account(&self) -> PeerId;
    /// The key that signs for whoever is called so. An id is a key, but where peers are simulated.
    fn signer(id: PeerId) -> PeerId {
        id
    }
}

impl Place for Contact {
    fn contact(&self) -> Option<Contact> {
        Some(*self)
    }
    fn at(contact: Contact, _: u64) -> Contact {
        contact
    }
    fn may_be(&self, contact: &Contact) -> bool {
        self.id == contact.id
    }
    fn account(&self) -> PeerId {
        self.id
    }
}

/// Number n stands at the n-th address of 10.0.0.0/8, so that its descriptors can be bytes too.
impl Place for SimPeer {
    fn contact(&self) -> Option<Contact> {
        Some(foreign(Ipv4Addr::from_bits((10 << 24) + self.0), 6346))
    }
    fn at(contact: Contact, _: u64) -> SimPeer {
        match contact.addr {
            SocketAddr::V4(addr) => SimPeer(addr.ip().to_bits().wrapping_sub(10 << 24)),
            SocketAddr::V6(_) => SimPeer(u32::MAX),
        }
    }
    fn may_be(&self, contact: &Contact) -> bool {
        SimPeer::at(*contact, 0) == *self
    }
    fn account(&self) -> PeerId {
        foreign(Ipv4Addr::from_bits(self.0), 0).id
    }
    fn signer(id: PeerId) -> PeerId {
        Keypair::from_seed(id.as_bytes()).id()
    }
}

/// The keys of a simulated peer, whose ids are none: anybody can make them up, so that a simulation decides itself who
/// forges what.
pub fn simulated_keypair(peer: SimPeer) -> Keypair {
    let id = peer.contact().map_or([0; 32], |contact| *contact.id.as_bytes());
    Keypair::from_seed(&id)
}

impl Place for TcpPeer {
    fn contact(&self) -> Option<Contact> {
        match self {
            TcpPeer::Dialled { addr, .. } => Some(of_address(*addr)),
            TcpPeer::Accepted { .. } => None,
        }
    }
    fn at(contact: Contact, number: u64) -> TcpPeer {
        TcpPeer::Dialled { addr: contact.addr, number }
    }
    fn may_be(&self, contact: &Contact) -> bool {
        self.addr().ip().to_canonical() == contact.addr.ip().to_canonical()
    }
    fn account(&self) -> PeerId {
        of_address(SocketAddr::new(self.addr().ip().to_canonical(), 0)).id
    }
}

/// The contact of somebody who has an address and no key: to join through it, or to say where one is oneself.
pub fn of_address(addr: SocketAddr) -> Contact {
    match addr {
        SocketAddr::V4(addr) => foreign(*addr.ip(), addr.port()),
        SocketAddr::V6(v6) => match v6.ip().to_ipv4_mapped() {
            Some(ip) => foreign(ip, v6.port()),
            None => {
                let mut id = [0xff; 32];
                id[..16].copy_from_slice(&v6.ip().octets());
                id[16..18].copy_from_slice(&v6.port().to_be_bytes());
                Contact::new(PeerId::from_bytes(id), addr)
            }
        },
    }
}

/// A contact of a network whose peers have no keys: who it is, is where it is.
pub(crate) fn foreign(ip: Ipv4Addr, port: u16) -> Contact {
    let mut id = [0; 32];
    id[..4].copy_from_slice(&ip.octets());
    id[4..6].copy_from_slice(&port.to_be_bytes());
    Contact::new(PeerId::from_bytes(id), SocketAddr::from((ip, port)))
}

/// Whether somebody can be there, as far as the address itself says.
pub(crate) fn is_somewhere(contact: &Contact) -> bool {
    let broadcast = matches!(contact.addr, SocketAddr::V4(addr) if addr.ip().is_broadcast());
    let ip = contact.addr.ip();
    contact.addr.port() != 0 && !ip.is_unspecified() && !ip.is_multicast() && !broadcast
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_simulated_peer_is_found_where_it_says() {
        for peer in [SimPeer(0), SimPeer(255), SimPeer(100_000)] {
            let contact = peer.contact().unwrap();
            assert!(is_somewhere(&contact) && peer.may_be(&contact) && !SimPeer(7).may_be(&contact));
            assert_eq!(SimPeer::at(contact, 0), peer);
            assert_eq!(SimPeer::signer(contact.id), simulated_keypair(peer).id());
        }
    }

    #[test]
    fn an_address_is_one_contact_however_it_is_written() {
        let of = |text: &str| of_address(text.parse().unwrap());
        assert_eq!(of("192.0.2.1:80"), of("[::ffff:192.0.2.1]:80"));
        assert_ne!(of("192.0.2.1:80"), of("192.0.2.1:81"));
        assert_ne!(of("[2001:db8::1]:80"), of("[2001:db8::2]:80"));
        assert_eq!(of("192.0.2.1:80").addr, "192.0.2.1:80".parse().unwrap());
    }

    #[test]
    fn nowhere_is_not_dialled() {
        for nowhere in
            ["0.0.0.0:80", "192.0.2.1:0", "224.0.0.1:80", "255.255.255.255:80", "[::]:1", "[ff02::1]:1"]
        {
            assert!(!is_somewhere(&of_address(nowhere.parse().unwrap())), "{nowhere}");
        }
    }
}
