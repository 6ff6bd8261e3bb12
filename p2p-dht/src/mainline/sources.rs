//! What one source may cost this node, and what this node may be made to send to an address that has proved nothing.
//!
//! Whoever forges a sender's address has its answer sent there. An answer may be a dozen times as long as its question
//! (an item), and must go to strangers: the first that a lookup says to a node is the question. So an address that has not
//! answered this node lately has a budget, in bytes beyond three times what it sent: a few answers in full, then little.
//! What does not fit is left out of the answer.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use p2p_core::{Key, Subnet, Time};
use p2p_overlay::Rate;

use super::id::is_local;

/// Sources that are remembered at once.
const MOST: usize = 4096;
/// Among how many rates all others are scattered, by their subnets: whoever forges addresses to use up what strangers have,
/// has to send so many times as much, and what all of them are sent stays bounded.
const OTHERS: usize = 4096;
/// An answer to an address that has proved nothing is at most so many times as long as its question, beyond the budget.
pub(super) const FACTOR: usize = 3;

/// How much one source may ask.
#[derive(Clone, Copy, Debug, Default)]
struct Source {
    /// When its queries, its writes and its bytes are all there again.
    queries: Time,
    writes: Time,
    bytes: Time,
}

impl Source {
    /// Whether it may do everything again.
    fn is_whole(&self, now: Time) -> bool {
        self.queries.max(self.writes).max(self.bytes) <= now
    }
}

/// See the module's text.
#[derive(Clone, Debug, Default)]
pub(super) struct Sources {
    known: BTreeMap<SocketAddr, Source>,
    /// All for which there is no room, each with the others that [`scattered`] names alike: no more than [`OTHERS`].
    others: BTreeMap<usize, Source>,
}

impl Sources {
    /// Whether a source may ask one more question.
    pub(super) fn may_ask(&mut self, now: Time, from: SocketAddr) -> bool {
        take(&mut self.source(now, from).queries, now, QUERIES, 1)
    }

    /// Whether a source may write something. What one source can displace of what others have written is so bounded.
    pub(super) fn may_write(&mut self, now: Time, from: SocketAddr) -> bool {
        take(&mut self.source(now, from).writes, now, WRITES, 1)
    }

    /// Whether so many bytes beyond what is always sent may go to an address that has proved nothing.
    pub(super) fn may_send(&mut self, now: Time, to: SocketAddr, bytes: usize) -> bool {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        take(&mut self.source(now, to).bytes, now, BYTES, bytes)
    }

    fn source(&mut self, now: Time, from: SocketAddr) -> &mut Source {
        let name = host_of(from);
        if !self.known.contains_key(&name) && self.known.len() >= MOST {
            self.expire(now);
            if self.known.len() >= MOST {
                return self.others.entry(scattered(from)).or_default();
            }
        }
        self.known.entry(name).or_default()
    }

    /// Forgets those that may do everything again.
    pub(super) fn expire(&mut self, now: Time) {
        self.known.retain(|_, source| !source.is_whole(now));
        self.others.retain(|_, source| !source.is_whole(now));
    }
}

/// Takes tokens out of a bucket, if they are there: it is full again at a certain time.
fn take(full: &mut Time, now: Time, rate: Rate, tokens: u32) -> bool {
    let later = (*full).max(now) + rate.every.saturating_mul(tokens);
    let passes = later.since(now) <= rate.every.saturating_mul(rate.burst.max(1));
    if passes {
        *full = later;
    }
    passes
}

/// Who counts as one: an IPv4 address, a /64 of IPv6. In a private network each socket, since they are one machine's.
pub(super) fn host_of(from: SocketAddr) -> SocketAddr {
    let ip = from.ip().to_canonical();
    let whole = match ip {
        IpAddr::V4(_) => ip,
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & !0 << 64).into(),
    };
    match is_local(ip) {
        true => SocketAddr::new(ip, from.port()),
        false => SocketAddr::new(whole, 0),
    }
}

/// Which of the rates a source has for which there is no room.
fn scattered(from: SocketAddr) -> usize {
    let name = Key::<32>::of(format!("{:?}", Subnet::of(from.ip().to_canonical())).as_bytes());
    let [first, second, ..] = *name.as_bytes();
    usize::from(u16::from_be_bytes([first, second])) % OTHERS
}

/// Queries per source: 20 a second, 100 at once after a pause.
const QUERIES: Rate = Rate { every: Duration::from_millis(50), burst: 100 };
/// Writes per source: one in two seconds, 64 at once.
const WRITES: Rate = Rate { every: Duration::from_secs(2), burst: 64 };
/// Bytes to an address that has proved nothing: 32 a second, 4 KiB at once.
const BYTES: Rate = Rate { every: Duration::from_micros(31_250), burst: 4096 };

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_source_has_a_rate_of_its_own_whatever_its_port() {
        let mut sources = Sources::default();
        let asks = |sources: &mut Sources, from: &str, seconds: u64| {
            let now = Time::ZERO + Duration::from_secs(seconds);
            (0..500).filter(|_| sources.may_ask(now, addr(from))).count()
        };
        assert_eq!(asks(&mut sources, "203.0.113.1:1", 0), 100);
        assert_eq!(asks(&mut sources, "203.0.113.1:2", 0), 0);
        assert_eq!(asks(&mut sources, "203.0.113.2:1", 0), 100);
        assert_eq!(asks(&mut sources, "203.0.113.1:1", 1), 20);
        assert_eq!(asks(&mut sources, "[2001:db8::1]:1", 1), 100);
        assert_eq!(asks(&mut sources, "[2001:db8::2]:1", 1), 0);
        assert_eq!(asks(&mut sources, "127.0.0.1:1", 1) + asks(&mut sources, "127.0.0.1:2", 1), 200);
    }

    #[test]
    fn a_flood_of_sources_shares_a_rate_by_subnets_and_takes_no_more_memory() {
        let mut sources = Sources::default();
        let from = |n: u32| SocketAddr::from((std::net::Ipv4Addr::from_bits(0x1000_0000 + n), 1));
        let passed = (0..20_000).filter(|n| sources.may_ask(Time::ZERO, from(*n))).count();
        // The others are of 63 subnets.
        let subnets = 20_000usize.div_ceil(256) - MOST / 256;
        assert!((MOST + 100 * subnets / 2..=MOST + 100 * subnets).contains(&passed), "{passed}");
        assert_eq!(sources.known.len(), MOST);
        assert!(sources.others.len() <= subnets);
        let later = Time::ZERO + Duration::from_secs(60);
        assert!(sources.may_ask(later, from(99_999)));
        assert_eq!(
            (sources.known.len(), sources.others.len()),
            (1, 0),
            "whoever may do everything again is forgotten"
        );
    }

    /// A sample of torrents is some 475 bytes beyond what is always sent.
    #[test]
    fn forged_addresses_do_not_cut_what_strangers_are_sent() {
        let mut sources = Sources::default();
        let from = |n: u32| SocketAddr::from((std::net::Ipv4Addr::from_bits(0x1000_0000 + (n << 8)), 1));
        let forged = MOST as u32 + 2000;
        (0..forged).for_each(|n| {
            sources.may_send(Time::ZERO, from(n), 475);
        });
        let strangers = forged..forged + 1000;
        let served = strangers
            .filter(|n| sources.may_ask(Time::ZERO, from(*n)) && sources.may_send(Time::ZERO, from(*n), 475));
        let served = served.count();
        assert!(served > 950, "{served} of 1000");
        // And what goes to addresses that have proved nothing is bounded.
        let sent = (0..200_000).filter(|n| sources.may_send(Time::ZERO, from(20_000 + n), 475)).count();
        assert!(sent <= OTHERS * 4096 / 475, "{sent}");
        assert!(sources.others.len() <= OTHERS, "and what is remembered of them");
    }
}
