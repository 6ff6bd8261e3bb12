//! From where an address can be asked. A torrent, or an answer, could have us ask for anything what nobody but us can.

use std::net::{IpAddr, Ipv4Addr};

/// From where: each from fewer places than the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::torrent) enum Reach {
    /// This machine.
    Machine,
    /// This network: private, link-local and shared addresses (RFC 1918, 3927, 4193, 6598).
    Network,
    /// Everywhere.
    World,
}

impl Reach {
    /// That of an address; `None` if nobody has it for itself.
    pub(in crate::torrent) fn of(ip: IpAddr) -> Option<Reach> {
        let ip = ip.to_canonical();
        let (nobody, network) = match ip {
            IpAddr::V4(ip) => (ip.octets()[0] == 0 || ip.is_broadcast(), is_near(ip)),
            IpAddr::V6(ip) => (false, ip.is_unicast_link_local() || ip.is_unique_local()),
        };
        match ip {
            _ if nobody || ip.is_unspecified() || ip.is_multicast() => None,
            _ if ip.is_loopback() => Some(Reach::Machine),
            _ if network => Some(Reach::Network),
            _ => Some(Reach::World),
        }
    }
}

fn is_near(ip: Ipv4Addr) -> bool {
    let shared = matches!(ip.octets(), [100, 64..=127, ..]);
    ip.is_private() || ip.is_link_local() || shared
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_of_the_machine_the_network_or_the_world() {
        for (reach, ips) in [
            (Some(Reach::Machine), &["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"][..]),
            (
                Some(Reach::Network),
                &[
                    "10.0.0.1",
                    "172.31.0.1",
                    "192.168.1.1",
                    "169.254.169.254",
                    "100.100.100.200",
                    "fe80::1",
                    "fd00::1",
                ],
            ),
            (
                Some(Reach::World),
                &["192.0.2.1", "172.32.0.1", "100.128.0.1", "2001:db8::1", "::ffff:192.0.2.1"],
            ),
            (
                None,
                &["0.0.0.0", "0.1.2.3", "::", "224.0.0.1", "ff02::1", "255.255.255.255", "::ffff:0.0.0.0"],
            ),
        ] {
            ips.iter().for_each(|ip| assert_eq!(Reach::of(ip.parse().unwrap()), reach, "{ip}"));
        }
    }
}
