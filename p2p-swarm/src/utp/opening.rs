//! How many connections others may open, which is what costs: whatever comes first on one may be the start of an encrypted
//! handshake, and each of those takes as long as megabytes of what follows it.
//!
//! Who asks for a connection may do so in another's name, and costs little. So only who has shown that it heard the answer is
//! counted: a flood in a host's name takes nothing from it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use p2p_core::{Subnet, Time};

use super::mux::host;
use crate::bucket::Bucket;

/// So many times as many as one host a subnet may open: a /24 of IPv4, a /48 of IPv6. 4.
const OF_SUBNET: f64 = 4.0;
/// And all together. 16.
const OF_ALL: f64 = 16.0;
/// Bursts of so many seconds' worth pass. 4.
const BURST: f64 = 4.0;
/// Hosts and subnets that are remembered; at so many those that may open as many as ever are forgotten. The others are fewer,
/// unless a host may open more than 32 in a second: all together can have opened no more in the time of a burst. 8,192.
const MAX_SOURCES: usize = 8192;

/// What a host is counted by, and its subnet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Source {
    /// An address of IPv4, or a /64 of IPv6.
    Host(IpAddr),
    Subnet(Subnet),
}

/// How many connections each host, each subnet and all may still open.
#[derive(Debug)]
pub(super) struct Opening {
    of_host: f64,
    sources: BTreeMap<Source, Bucket>,
    all: Bucket,
}

impl Opening {
    /// Each host may open so many in a second.
    pub(super) fn new(of_host: u32) -> Opening {
        let of_host = f64::from(of_host);
        let all = of_host * OF_ALL;
        Opening { of_host, sources: BTreeMap::new(), all: Bucket::new(all, all * BURST, Time::ZERO) }
    }

    /// Whether a host may open one, which counts then.
    pub(super) fn may(&mut self, ip: IpAddr, now: Time) -> bool {
        if ip.to_canonical().is_loopback() {
            return true;
        }
        let network = *host(ip.to_canonical()).start();
        let sources = [
            (Source::Host(network), self.of_host),
            (Source::Subnet(Subnet::of(ip)), self.of_host * OF_SUBNET),
        ];
        let sources_may = sources
            .iter()
            .all(|(source, _)| self.sources.get_mut(source).is_none_or(|bucket| bucket.wait(now).is_zero()));
        // Who may open none takes nothing from others.
        if !sources_may || !self.all.take(1.0, now) {
            return false;
        }
        if self.sources.len() >= MAX_SOURCES {
            self.sources.retain(|_, bucket| !bucket.is_full(now));
        }
        for (source, rate) in sources {
            let bucket = || Bucket::new(rate, rate * BURST, now);
            self.sources.entry(source).or_insert_with(bucket).spend(1.0);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn v4(n: u16) -> IpAddr {
        let [high, low] = n.to_be_bytes();
        IpAddr::from([198, 51, high, low])
    }

    /// How many of so many attempts pass.
    fn pass(opening: &mut Opening, now: Time, ips: impl Iterator<Item = IpAddr>) -> usize {
        ips.filter(|ip| opening.may(*ip, now)).count()
    }

    #[test]
    fn a_host_and_its_subnet_and_all_open_so_many() {
        let mut opening = Opening::new(16);
        let now = Time::ZERO + Duration::from_secs(1);
        let again = |ip: IpAddr, times| std::iter::repeat_n(ip, times);
        assert_eq!(pass(&mut opening, now, again(v4(1), 1000)), 64, "a host");
        assert_eq!(pass(&mut opening, now, (2..250).flat_map(|n| again(v4(n), 100))), 256 - 64, "its subnet");
        assert_eq!(pass(&mut opening, now, (256..60_000).map(v4)), 1024 - 256, "all");
        let second = now + Duration::from_secs(1);
        assert_eq!(pass(&mut opening, second, again(v4(1), 1000)), 16);
        assert_eq!(pass(&mut opening, second, (256..60_000).map(v4)), 256 - 16);
        let six = |n: u16| IpAddr::from([0x2001, 0xdb8, 0, 1, n, n, n, n]);
        let later = now + Duration::from_secs(100);
        assert_eq!(pass(&mut opening, later, (0..1000).map(six)), 64, "a /64 is a host");
        assert_eq!(pass(&mut opening, later, again(IpAddr::from([127, 0, 0, 1]), 5000)), 5000);
    }

    #[test]
    fn who_has_come_is_not_remembered_for_long() {
        let mut opening = Opening::new(16);
        let mut most = 0;
        for second in 0..600 {
            let now = Time::ZERO + Duration::from_secs(second);
            let first = second as u16 * 100;
            pass(&mut opening, now, (first..first + 100).map(v4));
            most = most.max(opening.sources.len());
        }
        assert!((4000..=MAX_SOURCES + 1).contains(&most), "{most}");
    }
}
