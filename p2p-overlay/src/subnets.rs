//! How many peers of one subnet a routing table takes.
//!
//! An id costs nothing, and an address next to nothing more within a subnet that is rented already. So whoever has one
//! machine can have as many ids as all others together, and would be in every table as often (Marcus, Heilman &
//! Goldberg, *Low-resource eclipse attacks on Ethereum's peer-to-peer network*, 2018, whose countermeasure this is).
//! What the bound is for, and where an overlay cannot have it without breaking, its configuration says.

use p2p_core::{Keyed, Subnet};

/// How many peers of one [`Subnet`] a routing table takes. By default what Ethereum's discovery takes of a /24.
///
/// Peers whose address says nothing of who is behind it ([`Keyed::subnet`] is `None`: loopback, private networks) are
/// not counted. Where many honest nodes share a subnet, behind one address translator or in one data centre, most of
/// them will be in few tables: they can ask, but are seldom asked.
///
/// ```
/// use p2p_overlay::{KademliaConfig, SubnetLimits};
///
/// let config = KademliaConfig { subnets: Some(SubnetLimits::default()), ..KademliaConfig::default() };
/// assert_eq!(config.subnets, Some(SubnetLimits { table: 10, group: 2 }));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubnetLimits {
    /// In the whole table. 10.
    pub table: usize,
    /// In one bucket or row of it, or among the neighbours. 2.
    pub group: usize,
}

impl Default for SubnetLimits {
    fn default() -> SubnetLimits {
        SubnetLimits { table: 10, group: 2 }
    }
}

impl SubnetLimits {
    /// Whether a peer may be among the others of a table, and of its bucket or row. It may be one of them itself, and
    /// any may be named more than once.
    pub(crate) fn admit<P: Keyed>(
        &self,
        peer: P,
        table: impl IntoIterator<Item = P>,
        group: impl IntoIterator<Item = P>,
    ) -> bool {
        peer.subnet().is_none_or(|subnet| {
            fewer(self.group, peer, subnet, group) && fewer(self.table, peer, subnet, table)
        })
    }
}

/// Whether fewer than `most` others are in a subnet.
fn fewer<P: Keyed>(most: usize, peer: P, subnet: Subnet, others: impl IntoIterator<Item = P>) -> bool {
    let mut same: Vec<P> = Vec::new();
    for other in others {
        if same.len() >= most {
            break;
        }
        if other != peer && other.subnet() == Some(subnet) && !same.contains(&other) {
            same.push(other);
        }
    }
    same.len() < most
}

#[cfg(test)]
mod tests {
    use p2p_core::{Contact, PeerId, SimPeer};

    use super::*;

    const LIMITS: SubnetLimits = SubnetLimits { table: 3, group: 2 };

    #[test]
    fn a_table_and_a_group_of_it_take_so_many_of_a_subnet() {
        // The numbers below 256 are in one subnet, the others each in its own.
        let peer = |&number: &u32| match number {
            ..256 => SimPeer(SimPeer::FIRST_IN_SHARED_SUBNET.0 + number),
            _ => SimPeer(number),
        };
        let peers = |numbers: &[u32]| numbers.iter().map(peer).collect::<Vec<_>>();
        let admit = |table: &[u32], group: &[u32]| LIMITS.admit(peer(&7), peers(table), peers(group));
        assert!(admit(&[1, 300, 301, 302, 303], &[300, 301, 302]));
        assert!(admit(&[1, 1, 1, 1, 2, 7], &[1, 1, 7]), "each counts once, and the peer itself does not");
        assert!(!admit(&[1, 2, 300], &[1, 2]), "two in the group");
        assert!(!admit(&[1, 300, 2, 3], &[]), "three in the table");
    }

    #[test]
    fn one_site_may_have_as_many_as_it_likes() {
        let at = |ip: &str, host: u8| {
            Contact::new(PeerId::from_bytes([host; 32]), format!("{ip}{host}:1").parse().unwrap())
        };
        for (ip, admitted) in [
            ("127.0.0.", true),
            ("10.0.0.", true),
            ("192.168.1.", true),
            ("169.254.0.", true),
            ("192.0.2.", false),
        ] {
            let others: Vec<Contact> = (1..=3).map(|host| at(ip, host)).collect();
            assert_eq!(LIMITS.admit(at(ip, 9), others.clone(), others), admitted, "{ip}");
        }
    }
}
