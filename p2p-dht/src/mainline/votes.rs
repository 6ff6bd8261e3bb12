//! This node's own address, as others see it (BEP 42). One of them can lie, so several must agree, none of whom shares a
//! subnet with another.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use p2p_core::Subnet;

use super::id::is_local;

/// Nodes that must agree.
const ENOUGH: usize = 5;
/// Addresses that are remembered.
const MOST: usize = 16;

/// See the module's text.
#[derive(Clone, Debug, Default)]
pub(super) struct Votes(BTreeMap<IpAddr, BTreeSet<Subnet>>);

impl Votes {
    /// A node has said where it sees this one. The address, if enough agree; counting begins anew then.
    pub(super) fn count(&mut self, from: SocketAddr, ip: IpAddr) -> Option<IpAddr> {
        let ip = ip.to_canonical();
        if is_local(ip) || ip.is_unspecified() || ip.is_multicast() || is_local(from.ip()) {
            return None;
        }
        if self.0.len() >= MOST && !self.0.contains_key(&ip) {
            self.0.clear();
        }
        let voters = self.0.entry(ip).or_default();
        voters.insert(Subnet::of(from.ip()));
        let agreed = voters.len() >= ENOUGH;
        agreed.then(|| {
            self.0.clear();
            ip
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_subnets_must_agree() {
        let mut votes = Votes::default();
        let here: IpAddr = "203.0.113.9".parse().unwrap();
        let from = |subnet: u8, host: u8| SocketAddr::from(([198, 51, subnet, host], 6881));
        assert!((0..100).all(|host| votes.count(from(1, host), here).is_none()), "one subnet is one voter");
        assert!((2..5).all(|subnet| votes.count(from(subnet, 1), here).is_none()));
        assert_eq!(votes.count(from(9, 1), "192.168.1.1".parse().unwrap()), None);
        assert_eq!(votes.count(from(5, 1), here), Some(here));
        assert_eq!(votes.count(from(6, 1), here), None, "and then anew");
    }
}
