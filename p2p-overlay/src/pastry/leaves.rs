//! The leaf set: the nodes next to this one, on either side (§2.1).

use p2p_core::{Key, Keyed, prefetch};
use serde::{Deserialize, Serialize};

use crate::spot::{self, Clockwise};

/// A peer and how far it is clockwise.
pub(super) type Spot<P> = spot::Spot<P, Clockwise>;

/// One of the two directions around the ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Side {
    /// Clockwise: larger keys.
    Ahead,
    /// Counterclockwise.
    Behind,
}

impl Side {
    /// The other one.
    pub(super) fn other(self) -> Side {
        match self {
            Side::Ahead => Side::Behind,
            Side::Behind => Side::Ahead,
        }
    }
}

/// The nearest peers on either side, at most `half` of each. In a small network both sides hold the same peers.
#[derive(Clone, Debug)]
pub(super) struct Leaves<P> {
    key: Key,
    half: usize,
    /// The nearest first.
    ahead: Vec<Spot<P>>,
    behind: Vec<Spot<P>>,
}

impl<P: Keyed> Leaves<P> {
    pub(super) fn new(key: Key, half: usize) -> Leaves<P> {
        Leaves { key, half, ahead: Vec::new(), behind: Vec::new() }
    }

    /// With these peers, the nearest first on each side.
    pub(super) fn with(self, ahead: Vec<Spot<P>>, behind: Vec<Spot<P>>) -> Leaves<P> {
        Leaves { ahead, behind, ..self }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ahead.is_empty()
    }

    fn side(&self, side: Side) -> &[Spot<P>] {
        match side {
            Side::Ahead => &self.ahead,
            Side::Behind => &self.behind,
        }
    }

    /// Who is next to this node on a side.
    pub(super) fn first(&self, side: Side) -> Option<P> {
        self.side(side).first().map(|spot| spot.peer)
    }

    /// Who is furthest on a side.
    pub(super) fn last(&self, side: Side) -> Option<P> {
        self.side(side).last().map(|spot| spot.peer)
    }

    /// Every leaf once.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Spot<P>> {
        let behind = self.behind.iter().filter(|spot| !self.ahead.contains(spot));
        self.ahead.iter().chain(behind)
    }

    pub(super) fn peers(&self) -> impl Iterator<Item = P> {
        self.iter().map(|spot| spot.peer)
    }

    pub(super) fn holds(&self, peer: P) -> bool {
        self.ahead.iter().chain(&self.behind).any(|spot| spot.peer == peer)
    }

    /// Where a peer would stand on a side; `None` if it would not.
    fn place(&self, side: Side, spot: &Spot<P>) -> Option<usize> {
        let at = self.side(side).partition_point(|other| match side {
            Side::Ahead => other.is_before(spot, &self.key),
            Side::Behind => spot.is_before(other, &self.key),
        });
        (at < self.half).then_some(at)
    }

    /// Whether a peer that is no leaf would be one.
    pub(super) fn wants(&self, spot: &Spot<P>) -> bool {
        self.place(Side::Ahead, spot).or(self.place(Side::Behind, spot)).is_some()
    }

    /// Takes a peer in, if it is near enough. Says whether anything has changed.
    pub(super) fn insert(&mut self, spot: Spot<P>) -> bool {
        if self.holds(spot.peer) {
            return false;
        }
        let mut changed = false;
        for side in [Side::Ahead, Side::Behind] {
            let Some(at) = self.place(side, &spot) else { continue };
            let half = self.half;
            let list = match side {
                Side::Ahead => &mut self.ahead,
                Side::Behind => &mut self.behind,
            };
            list.insert(at, spot);
            list.truncate(half);
            changed = true;
        }
        changed
    }

    /// Whether fewer are known on a side than are kept.
    pub(super) fn is_short(&self, side: Side) -> bool {
        self.side(side).len() < self.half
    }

    /// A leaf names its own. Where it is the last on a side that is short, and those who follow it are known on the
    /// other side, they follow here too: the network is small. Says whether anything has changed.
    pub(super) fn follow(&mut self, leaf: P, named: &[P]) -> bool {
        let mut changed = false;
        for side in [Side::Ahead, Side::Behind] {
            if self.last(side) != Some(leaf) {
                continue;
            }
            let at = leaf.key();
            let mut named: Vec<(Key, P)> = named.iter().map(|peer| (peer.key(), *peer)).collect();
            named.sort_unstable_by_key(|(key, _)| match side {
                Side::Ahead => at.distance(key),
                Side::Behind => key.distance(&at),
            });
            for (key, peer) in named {
                let other = self.side(side.other()).iter().find(|spot| spot.peer == peer).copied();
                let Some(spot) = other.filter(|_| self.is_short(side) && key != self.key) else { break };
                let list = match side {
                    Side::Ahead => &mut self.ahead,
                    Side::Behind => &mut self.behind,
                };
                if !list.contains(&spot) {
                    list.push(spot);
                    changed = true;
                }
            }
        }
        changed
    }

    /// Leaves a peer out. A side on which nobody is left begins anew with the furthest of the other, which leads all
    /// the way around. Says whether anything has changed.
    pub(super) fn remove(&mut self, peer: P) -> bool {
        let before = self.ahead.len() + self.behind.len();
        self.ahead.retain(|spot| spot.peer != peer);
        self.behind.retain(|spot| spot.peer != peer);
        let changed = self.ahead.len() + self.behind.len() < before;
        match (self.ahead.last().copied(), self.behind.last().copied()) {
            (None, Some(furthest)) => self.ahead.push(furthest),
            (Some(furthest), None) => self.behind.push(furthest),
            _ => {}
        }
        changed
    }

    /// Whether both sides together lead around the whole ring.
    fn close_the_ring(&self) -> bool {
        match (self.ahead.last(), self.behind.last()) {
            (Some(ahead), Some(behind)) => !ahead.is_before(behind, &self.key),
            _ => true,
        }
    }

    /// How many they are, and how far the last on either side is. `None` if they are the whole ring.
    pub(super) fn span(&self) -> Option<(usize, [Key; 2])> {
        let (ahead, behind) = (self.ahead.last()?, self.behind.last()?);
        let behind = behind.distance(&self.key).distance(&Key::ZERO);
        let leaves = self.ahead.len() + self.behind.len();
        (!self.close_the_ring()).then(|| (leaves, [ahead.distance(&self.key), behind]))
    }

    /// Whether what is at this distance, clockwise, lies among the leaves: then the nearest of them is the nearest of
    /// all.
    pub(super) fn cover(&self, point: &Key) -> bool {
        let upto = |spot: &Spot<P>| spot.order_to(point, &self.key).is_ge();
        let from = |spot: &Spot<P>| spot.order_to(point, &self.key).is_le();
        self.ahead.last().is_none_or(upto) || self.behind.last().is_none_or(from) || self.close_the_ring()
    }

    /// The leaves, and this node, as near to a point as can be told for sure: those to whom it is further than to the
    /// end of the leaf set are left out. The nearest first.
    pub(super) fn nearest_to(&self, me: P, point: &Key) -> Vec<P> {
        let own = Spot::at(&Key::ZERO, me);
        let mut near: Vec<&Spot<P>> = self.iter().chain([&own]).collect();
        near.sort_unstable_by(|a, b| a.order_around(b, point, &self.key));
        if !self.close_the_ring() {
            let ends = [self.ahead.last(), self.behind.last()];
            let end = ends.into_iter().flatten().min_by(|a, b| a.order_around(b, point, &self.key));
            let sure = near.partition_point(|spot| {
                end.is_some_and(|end| spot.order_around(end, point, &self.key).is_le())
            });
            near.truncate(if self.cover(point) { sure } else { 0 });
        }
        near.into_iter().map(|spot| spot.peer).collect()
    }

    pub(super) fn warm(&self) {
        prefetch(&self.ahead[..]);
        prefetch(&self.behind[..]);
    }
}
