//! The network between simulated nodes: how long a message takes, and what may become of it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::SimPeer;
use super::arrivals::Outbound;
use super::fault::Cut;
use super::latency::Latency;
use crate::rng::mix;
use crate::time::nanos;
use crate::{Lane, Rng};

/// What the network is like. The default delivers everything after 50 ms.
#[derive(Clone, Debug)]
pub struct Network {
    /// How long a message is on the way. Constant, 50 ms.
    pub latency: Latency,
    /// Added to every message, uniform from zero up to this. Messages of an ordered lane still arrive in order.
    /// Zero.
    pub jitter: Duration,
    /// Which messages get lost. In the ordered lanes too: that is what a connection that breaks does. None.
    pub loss: Loss,
    /// The share of datagrams that arrive twice. 0.
    pub duplicate: f64,
    /// The share of datagrams that are held back by up to [`Network::reorder_by`], so that others overtake them. 0.
    pub reorder: f64,
    /// The longest that a reordered datagram is held back. 100 ms.
    pub reorder_by: Duration,
    /// Every node's line; `None` if lines are infinitely fast. `None`.
    pub bandwidth: Option<Bandwidth>,
    /// If set, nodes hear of connections that come and go ([`Protocol::on_link`](crate::Protocol::on_link)):
    /// a peer that cannot be reached is noticed after this long. `None`: they hear nothing, as over UDP.
    pub links: Option<Duration>,
    /// What is done with the encoding of each message. [`Encoding::Ignore`].
    pub encoding: Encoding,
}

impl Default for Network {
    fn default() -> Network {
        Network {
            latency: Latency::Constant(Duration::from_millis(50)),
            jitter: Duration::ZERO,
            loss: Loss::None,
            duplicate: 0.0,
            reorder: 0.0,
            reorder_by: Duration::from_millis(100),
            bandwidth: None,
            links: None,
            encoding: Encoding::Ignore,
        }
    }
}

/// Which messages get lost.
#[derive(Clone, Copy, Debug)]
pub enum Loss {
    /// None.
    None,
    /// Each with this probability.
    Uniform(f64),
    /// In bursts (Gilbert 1960, Elliott 1963): each sender's line is good or bad, and changes with each message.
    GilbertElliott {
        /// Probability that a good line turns bad.
        to_bad: f64,
        /// Probability that a bad line turns good.
        to_good: f64,
        /// Loss while good.
        good: f64,
        /// Loss while bad.
        bad: f64,
    },
}

/// A node's line to the network.
#[derive(Clone, Copy, Debug)]
pub struct Bandwidth {
    /// Bytes per second out.
    pub up: u64,
    /// Bytes per second in.
    pub down: u64,
    /// How many bytes wait for the line, each way; what would go over it is lost.
    pub queue: u64,
}

/// What the simulator does with the encoding of each message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// Nothing: fastest. Messages have no size.
    Ignore,
    /// Counts its bytes.
    Measure,
    /// Encodes and decodes each message, so that what arrives has been bytes; fails if it does not come back.
    RoundTrip,
}

/// What happens to one message.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It arrives at this time, and perhaps at another time again.
    Arrives(u64, Option<u64>),
    /// It is lost in the network.
    Lost,
    /// It is not let through by a partition.
    Cut,
    /// The sender's queue is full.
    Overflow,
}

/// The network's state.
#[derive(Debug)]
pub(super) struct Net {
    pub config: Network,
    pub cuts: Vec<Cut>,
    /// Directed links that hold messages back, until when.
    pub clogs: BTreeMap<(u32, u32), u64>,
    /// Whose line has another capacity than [`Network::bandwidth`].
    pub lines: BTreeMap<u32, Bandwidth>,
    rng: Rng,
    geography: u64,
    bad_lines: BTreeSet<u32>,
    /// When each sender's uplink is free.
    uplinks: BTreeMap<u32, u64>,
    downlinks: BTreeMap<u32, u64>,
}

impl Net {
    pub(super) fn new(config: Network, seed: u64, rng: Rng) -> Net {
        Net {
            config,
            cuts: Vec::new(),
            clogs: BTreeMap::new(),
            lines: BTreeMap::new(),
            rng,
            geography: mix(seed),
            bad_lines: BTreeSet::new(),
            uplinks: BTreeMap::new(),
            downlinks: BTreeMap::new(),
        }
    }

    /// The time a message needs from one node to another, without jitter.
    pub(super) fn latency(&mut self, from: SimPeer, to: SimPeer) -> u64 {
        self.config.latency.draw(self.geography, &mut self.rng, from, to)
    }

    /// Decides what becomes of a message of `bytes`.
    #[inline]
    pub(super) fn send(
        &mut self,
        now: u64,
        from: SimPeer,
        outbound: &mut Outbound,
        to: SimPeer,
        lane: Lane,
        bytes: usize,
    ) -> Fate {
        if self.cuts.iter().any(|cut| cut.separates(from, to)) {
            return Fate::Cut;
        }
        let Some(departs) = self.depart(now, from, bytes) else { return Fate::Overflow };
        if self.is_lost(from) {
            return Fate::Lost;
        }
        let mut at = departs.saturating_add(self.latency(from, to));
        if !self.config.jitter.is_zero() {
            at += self.rng.below(nanos(self.config.jitter));
        }
        if let Some(&until) = self.clogs.get(&(from.0, to.0)) {
            at = at.max(until);
        }
        if lane == Lane::Datagram {
            if self.rng.chance(self.config.reorder) {
                at += self.rng.below(nanos(self.config.reorder_by));
            }
            let again = self.rng.chance(self.config.duplicate).then(|| self.latency(from, to));
            return Fate::Arrives(at, again.map(|more| at + more));
        }
        if lane == Lane::Ordered && self.may_overtake() {
            at = outbound.next(now, to, at);
        }
        Fate::Arrives(at, None)
    }

    fn may_overtake(&self) -> bool {
        !self.config.latency.is_steady() || !self.config.jitter.is_zero() || !self.clogs.is_empty()
    }

    fn is_lost(&mut self, from: SimPeer) -> bool {
        let p = match self.config.loss {
            Loss::None => return false,
            Loss::Uniform(p) => p,
            Loss::GilbertElliott { to_bad, to_good, good, bad } => {
                let was_bad = self.bad_lines.contains(&from.0);
                let is_bad = match was_bad {
                    true => !self.rng.chance(to_good),
                    false => self.rng.chance(to_bad),
                };
                match is_bad {
                    true => self.bad_lines.insert(from.0),
                    false => self.bad_lines.remove(&from.0),
                };
                if is_bad { bad } else { good }
            }
        };
        self.rng.chance(p)
    }

    fn line(&self, peer: SimPeer) -> Option<Bandwidth> {
        self.lines.get(&peer.0).copied().or(self.config.bandwidth)
    }

    /// When the last byte has left the sender; `None` if its queue is full.
    fn depart(&mut self, now: u64, from: SimPeer, bytes: usize) -> Option<u64> {
        let Some(line) = self.line(from) else { return Some(now) };
        queue(self.uplinks.entry(from.0).or_default(), now, line.up, line.queue, bytes)
    }

    /// When the last byte of a message whose first has come is in; `None` if the receiver's queue is full.
    /// Returns `now` where lines are infinitely fast.
    pub(super) fn receive(&mut self, now: u64, to: SimPeer, bytes: usize) -> Option<u64> {
        let Some(line) = self.line(to) else { return Some(now) };
        queue(self.downlinks.entry(to.0).or_default(), now, line.down, line.queue, bytes)
    }

    pub(super) fn has_lines(&self) -> bool {
        self.config.bandwidth.is_some() || !self.lines.is_empty()
    }
}

/// Puts `bytes` on a line that is busy until `free`.
fn queue(free: &mut u64, now: u64, rate: u64, bound: u64, bytes: usize) -> Option<u64> {
    let rate = rate.max(1);
    let start = now.max(*free);
    let waiting = u128::from(start - now) * u128::from(rate) / 1_000_000_000;
    if waiting > 0 && waiting + bytes as u128 > u128::from(bound) {
        return None;
    }
    let busy = bytes as u128 * 1_000_000_000 / u128::from(rate);
    *free = start.saturating_add(u64::try_from(busy).unwrap_or(u64::MAX));
    Some(*free)
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: SimPeer = SimPeer(0);
    const B: SimPeer = SimPeer(1);
    const MS: u64 = 1_000_000;

    fn net(config: Network) -> Net {
        Net::new(config, 1, Rng::new(1))
    }

    fn arrival(fate: Fate) -> u64 {
        let Fate::Arrives(at, _) = fate else { panic!("{fate:?}") };
        at
    }

    #[test]
    fn a_message_costs_its_size_at_both_ends() {
        let line = Bandwidth { up: 1_000_000, down: 500_000, queue: 3000 };
        let mut out = Outbound::default();
        let mut net = net(Network { bandwidth: Some(line), ..Network::default() });
        let mut at = |net: &mut Net| arrival(net.send(0, A, &mut out, B, Lane::Ordered, 1000));
        assert_eq!((at(&mut net), at(&mut net), at(&mut net)), (51 * MS, 52 * MS, 53 * MS));
        assert_eq!(
            net.send(0, A, &mut out, B, Lane::Ordered, 1000),
            Fate::Overflow,
            "3,000 bytes wait already"
        );
        assert_eq!(net.receive(51 * MS, B, 1000), Some(53 * MS), "in at half the speed");
    }

    #[test]
    fn ordered_messages_never_overtake() {
        let mean = Duration::from_millis(50);
        let mut out = Outbound::default();
        let mut net = net(Network { latency: Latency::Exponential(mean), ..Network::default() });
        let mut arrivals = [0; 5];
        for i in 0..5000 {
            let to = (i % 5) as usize;
            let at = arrival(net.send(i * MS / 5, A, &mut out, SimPeer(1 + to as u32), Lane::Ordered, 0));
            assert!(at >= arrivals[to], "{i}");
            arrivals[to] = at;
        }
        let bulk: Vec<u64> =
            (0..1000).map(|i| arrival(net.send(i * MS, A, &mut out, B, Lane::Bulk, 0))).collect();
        assert!(!bulk.is_sorted(), "streams of their own do");
    }

    #[test]
    fn bursts_lose_what_the_chain_says() {
        // Stationary share of bad messages: to_bad / (to_bad + to_good) = 1/5, so the loss is .2·.5 = .1.
        let loss = Loss::GilbertElliott { to_bad: 0.05, to_good: 0.2, good: 0.0, bad: 0.5 };
        let mut out = Outbound::default();
        let mut net = net(Network { loss, ..Network::default() });
        let lost =
            (0..50_000).filter(|_| net.send(0, A, &mut out, B, Lane::Ordered, 0) == Fate::Lost).count();
        assert!((4600..5400).contains(&lost), "{lost} of 50,000");
    }
}
