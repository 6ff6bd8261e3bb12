//! Whom to let in before the handshake, which is what costs.
//!
//! A QUIC packet's source address can be forged until the sender has answered a Retry (RFC 9000 §8.1.2). So each
//! IP address and each subnet (/24, /48) has two allowances, one for packets that may be forged and one for
//! validated addresses: a flood under somebody's name uses up the first, then that somebody is asked to
//! validate and enters by the second. Allowances are kept by the generic cell rate algorithm: one number each. The
//! tables are bounded by [`Limits::rate_entries`]; when they are full of busy entries, strangers must validate.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use super::stats::{Refusal, Refusals};
use crate::peers::Subnet;
use crate::{Limits, Time};

/// How many seconds' worth of its rate a source may use at once.
const BURST_SECONDS: u64 = 4;
/// How often a full table is searched for what can go.
const SWEEP: Duration = Duration::from_millis(100);

/// What to do with a first packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Accept,
    /// Have the address validated.
    Retry,
    Refuse(Refusal),
}

/// An IP address, or a subnet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Source {
    Address(IpAddr),
    Subnet(Subnet),
}

/// When each allowance of a source will be full again, in nanoseconds: possibly forged, validated.
type Allowances = [u64; 2];

/// Counts handshakes and connections by where they come from.
#[derive(Debug)]
pub(super) struct Gate {
    limits: Limits,
    state: Mutex<State>,
    refused: Notify,
}

#[derive(Debug, Default)]
struct State {
    rates: BTreeMap<Source, Allowances>,
    swept: Time,
    connections: BTreeMap<Source, usize>,
    in_all: usize,
    handshakes: usize,
    refusals: Refusals,
}

impl Gate {
    pub(super) fn new(limits: Limits) -> Arc<Gate> {
        Arc::new(Gate { limits, state: Mutex::default(), refused: Notify::new() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn refusals(&self) -> Refusals {
        self.state().refusals.clone()
    }

    pub(super) fn count(&self, refusal: Refusal) {
        self.state().refusals.count(refusal);
        self.refused.notify_waiters();
    }

    /// The next refusal.
    pub(super) fn refused(&self) -> Notified<'_> {
        self.refused.notified()
    }

    /// What to do with a first packet from `ip`. `validated` says that the address is not forged.
    pub(super) fn judge(&self, now: Time, ip: IpAddr, validated: bool) -> Verdict {
        let verdict = self.verdict(&mut self.state(), now, ip.to_canonical(), validated);
        match verdict {
            Verdict::Refuse(refusal) => self.count(refusal),
            Verdict::Retry => self.count(Refusal::Unvalidated),
            Verdict::Accept => {}
        }
        verdict
    }

    fn verdict(&self, state: &mut State, now: Time, ip: IpAddr, validated: bool) -> Verdict {
        let limits = &self.limits;
        if state.handshakes >= limits.handshakes_at_once {
            return Verdict::Refuse(Refusal::Handshakes);
        }
        if state.in_all >= limits.connections {
            return Verdict::Refuse(Refusal::Connections);
        }
        if !validated && 2 * state.handshakes >= limits.handshakes_at_once {
            return Verdict::Retry;
        }
        if ip.is_loopback() && !limits.count_loopback {
            return Verdict::Accept;
        }
        if let Some(why) = self.crowded(state, ip) {
            return Verdict::Refuse(why);
        }
        let sources = [
            (Source::Address(ip), limits.handshakes_per_address),
            (Source::Subnet(Subnet::of(ip)), limits.handshakes_per_subnet),
        ];
        for (source, rate) in sources {
            if !state.allow(source, rate, usize::from(validated), now, limits.rate_entries) {
                return match (validated, source) {
                    (false, _) => Verdict::Retry,
                    (true, Source::Address(_)) => Verdict::Refuse(Refusal::AddressRate),
                    (true, Source::Subnet(_)) => Verdict::Refuse(Refusal::SubnetRate),
                };
            }
        }
        Verdict::Accept
    }

    /// Notes a handshake in progress, until the pass is dropped.
    pub(super) fn handshake(self: &Arc<Self>) -> HandshakePass {
        self.state().handshakes += 1;
        HandshakePass(self.clone())
    }

    /// Why another connection from `ip` would be one too many.
    fn crowded(&self, state: &State, ip: IpAddr) -> Option<Refusal> {
        let limits = &self.limits;
        if state.in_all >= limits.connections {
            return Some(Refusal::Connections);
        }
        if ip.is_loopback() && !limits.count_loopback {
            return None;
        }
        let open = |source| state.connections.get(&source).copied().unwrap_or(0);
        if open(Source::Address(ip)) >= limits.connections_per_address {
            return Some(Refusal::AddressConnections);
        }
        (open(Source::Subnet(Subnet::of(ip))) >= limits.connections_per_subnet)
            .then_some(Refusal::SubnetConnections)
    }

    /// Notes a connection from `ip` whose handshake is done, until the pass is dropped; `None` if there are too many by
    /// now: handshakes run side by side, and all may have been judged before the first was done.
    pub(super) fn accepted(self: &Arc<Self>, ip: IpAddr) -> Option<ConnectionPass> {
        self.enter(ip.to_canonical(), |state, ip| self.crowded(state, ip))
    }

    /// Notes a connection that this node makes; only how many there are in all is bounded.
    pub(super) fn dialled(self: &Arc<Self>, ip: IpAddr) -> Option<ConnectionPass> {
        let most = self.limits.connections;
        self.enter(ip.to_canonical(), |state, _| (state.in_all >= most).then_some(Refusal::Connections))
    }

    fn enter(
        self: &Arc<Self>,
        ip: IpAddr,
        crowded: impl FnOnce(&State, IpAddr) -> Option<Refusal>,
    ) -> Option<ConnectionPass> {
        let mut state = self.state();
        if let Some(why) = crowded(&state, ip) {
            drop(state);
            self.count(why);
            return None;
        }
        state.in_all += 1;
        for source in [Source::Address(ip), Source::Subnet(Subnet::of(ip))] {
            *state.connections.entry(source).or_default() += 1;
        }
        Some(ConnectionPass { gate: self.clone(), ip })
    }
}

impl State {
    fn allow(&mut self, source: Source, rate: u32, which: usize, now: Time, most: usize) -> bool {
        let now = now.as_nanos();
        if !self.rates.contains_key(&source) && self.rates.len() >= most {
            if Time::from_nanos(now).since(self.swept) < SWEEP {
                return false;
            }
            self.swept = Time::from_nanos(now);
            self.rates.retain(|_, full_at| full_at.iter().any(|&at| at > now));
            if self.rates.len() >= most {
                return false;
            }
        }
        let full_at = &mut self.rates.entry(source).or_default()[which];
        let step = 1_000_000_000 / u64::from(rate.max(1));
        let next = (*full_at).max(now).saturating_add(step);
        let allowed = next <= now.saturating_add(BURST_SECONDS * 1_000_000_000);
        if allowed {
            *full_at = next;
        }
        allowed
    }
}

/// One handshake in progress.
#[derive(Debug)]
pub(super) struct HandshakePass(Arc<Gate>);

impl Drop for HandshakePass {
    fn drop(&mut self) {
        self.0.state().handshakes -= 1;
    }
}

/// One connection.
#[derive(Debug)]
pub(super) struct ConnectionPass {
    gate: Arc<Gate>,
    ip: IpAddr,
}

impl Drop for ConnectionPass {
    fn drop(&mut self) {
        let mut state = self.gate.state();
        state.in_all -= 1;
        for source in [Source::Address(self.ip), Source::Subnet(Subnet::of(self.ip))] {
            if let Some(open) = state.connections.get_mut(&source) {
                *open -= 1;
                if *open == 0 {
                    state.connections.remove(&source);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn gate(change: impl FnOnce(&mut Limits)) -> Arc<Gate> {
        let mut limits = Limits { handshakes_per_address: 1, ..Limits::default() };
        change(&mut limits);
        Gate::new(limits)
    }

    fn at(seconds: u64) -> Time {
        Time::from_nanos(seconds * 1_000_000_000)
    }

    #[test]
    fn a_forged_flood_does_not_lock_its_victim_out() {
        let gate = gate(|_| {});
        let victim = "192.0.2.1".parse().unwrap();
        for _ in 0..4 {
            assert_eq!(gate.judge(at(1), victim, false), Verdict::Accept);
        }
        assert_eq!(gate.judge(at(1), victim, false), Verdict::Retry);
        assert_eq!(gate.judge(at(1), victim, true), Verdict::Accept);
        for _ in 0..3 {
            gate.judge(at(1), victim, true);
        }
        assert_eq!(gate.judge(at(1), victim, true), Verdict::Refuse(Refusal::AddressRate));
        assert_eq!(gate.judge(at(2), victim, true), Verdict::Accept, "a second later there is one more");
        assert_eq!(gate.refusals().of(Refusal::AddressRate), 1);
    }

    #[test]
    fn a_subnet_shares_its_rate() {
        let gate = gate(|limits| limits.handshakes_per_subnet = 2);
        let accepted = |prefix: &str| {
            let judge = |host| gate.judge(at(1), format!("{prefix}{host}").parse().unwrap(), true);
            (1..=100).filter(|&host| judge(host) == Verdict::Accept).count()
        };
        assert_eq!(accepted("192.0.2."), 8);
        assert_eq!(accepted("2001:db8:1::"), 8);
        assert_eq!(accepted("::ffff:192.0.2."), 0, "the same subnet in IPv6 clothes");
    }

    #[test]
    fn the_table_is_bounded_and_makes_room() {
        let gate = gate(|limits| limits.rate_entries = 100);
        let flood = |seconds, net: u32| {
            (0..1000u32)
                .map(|i| gate.judge(at(seconds), Ipv4Addr::from_bits(net + (i << 8)).into(), true))
                .filter(|verdict| *verdict == Verdict::Accept)
                .count()
        };
        assert_eq!(flood(1, 0x0a00_0000), 50);
        assert!(gate.state().rates.len() <= 100);
        assert_eq!(flood(10, 0x0b00_0000), 50);
        assert!(gate.state().rates.len() <= 100);
    }

    #[test]
    fn connections_are_counted_until_they_go() {
        let gate = gate(|limits| limits.connections_per_address = 1);
        let ip = "192.0.2.1".parse().unwrap();
        let pass = gate.accepted(ip).unwrap();
        assert_eq!(gate.judge(at(1), ip, true), Verdict::Refuse(Refusal::AddressConnections));
        drop(pass);
        assert_eq!(gate.judge(at(1), ip, true), Verdict::Accept);
        assert!(gate.state().connections.is_empty());
    }

    #[test]
    fn handshakes_side_by_side_do_not_overshoot() {
        let gate = gate(|limits| limits.connections_per_address = 2);
        let ip = "192.0.2.1".parse().unwrap();
        for _ in 0..3 {
            assert_eq!(gate.judge(at(1), ip, true), Verdict::Accept);
        }
        let passes: Vec<_> = (0..3).map(|_| gate.accepted(ip)).collect();
        assert!(passes[0].is_some() && passes[1].is_some() && passes[2].is_none());
        assert_eq!(gate.refusals().of(Refusal::AddressConnections), 1);
        assert!(gate.dialled(ip).is_some(), "our own dials are not the address's doing");
    }
}
