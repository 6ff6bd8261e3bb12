//! A peer's name together with where to dial it.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::identity::{ParsePeerIdError, PeerId};
use crate::{Key, Keyed, Subnet};

/// A [`PeerId`] and a hint where to dial it. Equal, ordered and hashed by the id alone: the address is where
/// the peer was heard of, the id is who it is. The text form is `p2p://<id>@<ip:port>`.
///
/// ```
/// use p2p_core::{Contact, Keypair};
///
/// let contact = Contact::new(Keypair::from_seed(&[1; 32]).id(), "127.0.0.1:4001".parse().unwrap());
/// let text = contact.to_string();
/// assert!(text.starts_with("p2p://") && text.ends_with("@127.0.0.1:4001"));
/// assert_eq!(text.parse::<Contact>().unwrap(), contact);
/// ```
#[derive(Clone, Copy)]
pub struct Contact {
    /// Who it is.
    pub id: PeerId,
    /// Where it was heard of.
    pub addr: SocketAddr,
}

impl Contact {
    /// The peer `id`, to be dialled at `addr`.
    pub const fn new(id: PeerId, addr: SocketAddr) -> Contact {
        Contact { id, addr }
    }
}

impl Keyed for Contact {
    fn key(&self) -> Key {
        self.id.key()
    }

    /// Of addresses that are rented. Loopback is one machine's own, as for [`Limits`](crate::Limits); private, unique
    /// local and link-local addresses are one site's own: a home or a laboratory is not an attack.
    fn subnet(&self) -> Option<Subnet> {
        let ip = self.addr.ip().to_canonical();
        let is_own = match ip {
            IpAddr::V4(ip) => {
                ip.is_loopback() || ip.is_private() || ip.is_link_local() || ip.is_unspecified()
            }
            IpAddr::V6(ip) => {
                ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local() || ip.is_unspecified()
            }
        };
        (!is_own).then(|| Subnet::of(ip))
    }
}

impl PartialEq for Contact {
    fn eq(&self, other: &Contact) -> bool {
        self.id == other.id
    }
}

impl Eq for Contact {}

impl PartialOrd for Contact {
    fn partial_cmp(&self, other: &Contact) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Contact {
    fn cmp(&self, other: &Contact) -> std::cmp::Ordering {
        self.id.cmp(&other.id)
    }
}

impl Hash for Contact {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.id.hash(state);
    }
}

impl fmt::Display for Contact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "p2p://{}@{}", self.id, self.addr)
    }
}

impl fmt::Debug for Contact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}@{}", self.id, self.addr)
    }
}

/// A text that is not a [`Contact`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseContactError {
    /// It has another shape.
    #[error("a contact looks like p2p://<id>@<ip:port>; {0:?} does not")]
    Shape(String),
    /// The part before the `@`.
    #[error(transparent)]
    Id(#[from] ParsePeerIdError),
    /// The part after the `@`.
    #[error(
        "a contact's address is an IP address and a port, like 127.0.0.1:4001 or [::1]:4001; {0:?} is not"
    )]
    Address(String),
}

impl FromStr for Contact {
    type Err = ParseContactError;

    fn from_str(text: &str) -> Result<Contact, ParseContactError> {
        let short = |text: &str| text.chars().take(120).collect();
        let (id, addr) = text
            .strip_prefix("p2p://")
            .and_then(|rest| rest.split_once('@'))
            .ok_or_else(|| ParseContactError::Shape(short(text)))?;
        let addr = addr.parse().map_err(|_| ParseContactError::Address(short(addr)))?;
        Ok(Contact { id: id.parse()?, addr })
    }
}

/// The address on the wire: the variant's tag leaves room for kinds to come.
#[derive(Serialize, Deserialize)]
enum WireAddr {
    V4([u8; 4], [u8; 2]),
    V6([u8; 16], [u8; 2]),
}

impl Serialize for Contact {
    /// 39 bytes for IPv4, 51 for IPv6; the text form where the format is for people.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            return serializer.collect_str(self);
        }
        let port = self.addr.port().to_be_bytes();
        let addr = match self.addr.ip() {
            IpAddr::V4(ip) => WireAddr::V4(ip.octets(), port),
            IpAddr::V6(ip) => WireAddr::V6(ip.octets(), port),
        };
        (self.id, addr).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Contact {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Contact, D::Error> {
        if deserializer.is_human_readable() {
            return String::deserialize(deserializer)?.parse().map_err(de::Error::custom);
        }
        let (id, addr) = <(PeerId, WireAddr)>::deserialize(deserializer)?;
        let addr = match addr {
            WireAddr::V4(ip, port) => SocketAddr::new(ip.into(), u16::from_be_bytes(port)),
            WireAddr::V6(ip, port) => SocketAddr::new(ip.into(), u16::from_be_bytes(port)),
        };
        Ok(Contact { id, addr })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_address_does_not_make_another_peer() {
        let at = |addr: &str| Contact::new(PeerId::from_bytes([1; 32]), addr.parse().unwrap());
        assert_eq!(at("127.0.0.1:1"), at("[::1]:2"));
    }

    #[test]
    fn only_rented_addresses_are_of_a_subnet() {
        let subnet = |addr: &str| Contact::new(PeerId::from_bytes([1; 32]), addr.parse().unwrap()).subnet();
        assert_eq!(subnet("192.0.2.1:1"), subnet("[::ffff:192.0.2.7]:2"));
        assert!(subnet("192.0.2.1:1").is_some() && subnet("[2001:db8::1]:1").is_some());
        for own in ["127.0.0.1:1", "[::1]:1", "10.1.2.3:1", "192.168.0.9:1", "169.254.1.1:1", "[fd00::1]:1"] {
            assert_eq!(subnet(own), None, "{own}");
        }
    }

    #[test]
    fn a_wrong_text_is_told_what_is_wrong() {
        let id = PeerId::from_bytes([1; 32]);
        let error = |text: &str| text.parse::<Contact>().unwrap_err();
        assert!(matches!(error("127.0.0.1:1"), ParseContactError::Shape(_)));
        assert!(matches!(error("p2p://abc@127.0.0.1:1"), ParseContactError::Id(_)));
        assert!(matches!(error(&format!("p2p://{id}@localhost:1")), ParseContactError::Address(_)));
    }

    proptest! {
        #[test]
        fn text_and_bytes_come_back(id: [u8; 32], addr: SocketAddr) {
            let contact = Contact::new(PeerId::from_bytes(id), SocketAddr::new(addr.ip(), addr.port()));
            let same = |other: Contact| other.id == contact.id && other.addr == contact.addr;
            prop_assert!(same(contact.to_string().parse().unwrap()));
            let bytes = postcard::to_allocvec(&contact).unwrap();
            prop_assert_eq!(bytes.len(), if addr.is_ipv4() { 39 } else { 51 });
            prop_assert!(same(postcard::from_bytes(&bytes).unwrap()));
        }
    }
}
