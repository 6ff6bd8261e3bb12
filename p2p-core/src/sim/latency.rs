//! How long a message is on the way between two nodes.

use std::time::Duration;

use super::SimPeer;
use crate::Rng;
use crate::rng::mix;
use crate::time::nanos;

/// How long a message is on the way.
#[derive(Clone, Copy, Debug)]
pub enum Latency {
    /// Always this long.
    Constant(Duration),
    /// Anew for each message, uniform between the two.
    Uniform(Duration, Duration),
    /// Anew for each message, exponential with this mean.
    Exponential(Duration),
    /// Nodes lie at random in a unit square: the distance between them times this, which is one edge's worth.
    Plane(Duration),
    /// Nodes lie at random in networks of two levels.
    TransitStub(TransitStub),
}

/// An internetwork (Zegura, Calvert & Bhattacharjee, *How to model an internetwork*, INFOCOM 1996): stub networks, in which
/// nodes lie, hang on transit nodes, which are all linked. By default 10 transit nodes, each with 10 stub networks.
///
/// ```
/// use p2p_core::sim::{Latency, Network, TransitStub};
///
/// let network = Network { latency: Latency::TransitStub(TransitStub::default()), ..Network::default() };
/// ```
#[derive(Clone, Copy, Debug)]
pub struct TransitStub {
    /// How many transit nodes there are. 10; at least 1.
    pub transits: u32,
    /// How many stub networks hang on each. 10; at least 1.
    pub stubs: u32,
    /// The delay between two transit nodes. 100 ms.
    pub between: Duration,
    /// The delay between a transit node and one of its stub networks. 10 ms.
    pub access: Duration,
    /// The delay within a stub network. 1 ms.
    pub within: Duration,
}

impl Default for TransitStub {
    fn default() -> TransitStub {
        let ms = Duration::from_millis;
        TransitStub { transits: 10, stubs: 10, between: ms(100), access: ms(10), within: ms(1) }
    }
}

impl Latency {
    /// The nanoseconds that a message needs, where nodes lie as `geography` says.
    pub(super) fn draw(&self, geography: u64, rng: &mut Rng, from: SimPeer, to: SimPeer) -> u64 {
        let place = |peer: SimPeer| mix(geography ^ mix(u64::from(peer.0)));
        match self {
            Latency::Constant(time) => nanos(*time),
            Latency::Uniform(min, max) => nanos(rng.duration(*min, *max)),
            Latency::Exponential(mean) => (nanos(*mean) as f64 * rng.exponential()) as u64,
            Latency::Plane(edge) => {
                let unit = |bits: u64| bits as f64 / f64::from(u32::MAX);
                let [(ax, ay), (bx, by)] =
                    [from, to].map(place).map(|hash| (unit(hash >> 32), unit(hash & 0xffff_ffff)));
                (nanos(*edge) as f64 * libm::hypot(ax - bx, ay - by)) as u64
            }
            Latency::TransitStub(net) => {
                let [a, b] = [from, to].map(place).map(|hash| net.place(hash));
                nanos(net.delay(a, b))
            }
        }
    }

    /// Whether it is always the same between the same two nodes.
    pub(super) fn is_steady(&self) -> bool {
        matches!(self, Latency::Constant(_) | Latency::Plane(_) | Latency::TransitStub(_))
    }
}

impl TransitStub {
    /// In which stub network of which transit node a node lies.
    fn place(&self, hash: u64) -> (u64, u64) {
        let (transits, stubs) = (u64::from(self.transits.max(1)), u64::from(self.stubs.max(1)));
        (hash % transits, hash / transits % stubs)
    }

    fn delay(&self, a: (u64, u64), b: (u64, u64)) -> Duration {
        let out = 2 * (self.within + self.access);
        match (a.0 == b.0, a.1 == b.1) {
            (true, true) => self.within,
            (true, false) => out,
            (false, _) => out + self.between,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn draw(latency: Latency, from: u32, to: u32) -> u64 {
        latency.draw(7, &mut Rng::new(1), SimPeer(from), SimPeer(to))
    }

    #[test]
    fn the_plane_is_symmetric_and_steady() {
        let plane = Latency::Plane(Duration::from_millis(100));
        let there = draw(plane, 0, 1);
        assert_eq!((there, there), (draw(plane, 1, 0), draw(plane, 0, 1)));
        assert!(there > 0 && there < 142 * MS);
    }

    /// Of two nodes one in a hundred has the other in its own network, and nine in a hundred at its own transit node.
    #[test]
    fn near_nodes_are_a_hundred_times_nearer() {
        let net = Latency::TransitStub(TransitStub::default());
        let mut counts = [0; 3];
        for (from, to) in (0..300).flat_map(|from| (0..from).map(move |to| (from, to))) {
            let delay = draw(net, from, to);
            assert_eq!(delay, draw(net, to, from));
            let which = [MS, 22 * MS, 122 * MS].iter().position(|known| *known == delay);
            counts[which.expect("one of three")] += 1;
        }
        let share = counts.map(|count| f64::from(count) / 44_850.0);
        let expected = [0.01, 0.09, 0.9];
        assert!(
            share.iter().zip(expected).all(|(share, expected)| (share / expected - 1.0).abs() < 0.2),
            "{share:?}"
        );
    }
}
