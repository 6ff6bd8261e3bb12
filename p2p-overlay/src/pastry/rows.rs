//! The routing table, and how near its entries are: row i holds peers that share the first i digits with this node and
//! differ in the next, one for each other value of that digit (§2.1). Of several that fit a place the one with the
//! shortest round-trip time is kept (§2.5).

use std::time::Duration;

use p2p_core::{Key, Keyed, Proximity, prefetch};

use crate::subnets::SubnetLimits;

/// How many bits of the keys are routed by (§2.1).
const BITS: usize = 128;
/// How many of the nearest peers are remembered, |M| (§2.1).
const NEIGHBOURS: usize = 32;

/// A peer and how near it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Near<P> {
    pub(super) peer: P,
    pub(super) proximity: Proximity,
}

/// The routing table: at most 2^b − 1 peers in each of 128/b rows.
#[derive(Clone, Debug)]
pub(super) struct Rows<P> {
    key: Key,
    /// Of a digit, b.
    bits: usize,
    subnets: Option<SubnetLimits>,
    /// Row after row, down to the last that is not empty.
    places: Vec<Option<Near<P>>>,
}

impl<P: Keyed> Rows<P> {
    pub(super) fn new(key: Key, bits: usize, subnets: Option<SubnetLimits>) -> Rows<P> {
        Rows { key, bits, subnets, places: Vec::new() }
    }

    fn width(&self) -> usize {
        1 << self.bits
    }

    /// How many rows there are, down to the last that is not empty.
    pub(super) fn len(&self) -> usize {
        self.places.len() / self.width()
    }

    /// How many digits a key shares with this node.
    pub(super) fn shared(&self, key: &Key) -> usize {
        self.key.common_prefix(key) / self.bits
    }

    /// The place of a key; `None` for this node's own, and beyond the bits that are routed by.
    fn place(&self, key: &Key) -> Option<usize> {
        let row = self.shared(key);
        (row < BITS / self.bits).then(|| row * self.width() + usize::from(key.digit(row, self.bits)))
    }

    /// Whoever shares one digit more with a key than this node.
    pub(super) fn toward(&self, key: &Key) -> Option<P> {
        Some(self.places.get(self.place(key)?)?.as_ref()?.peer)
    }

    /// The entries of a row.
    pub(super) fn row(&self, row: usize) -> impl Iterator<Item = P> {
        let row = self.places.chunks(self.width()).nth(row).unwrap_or_default();
        row.iter().flatten().map(|near| near.peer)
    }

    /// The entries of this row and all below.
    pub(super) fn rows_from(&self, row: usize) -> impl Iterator<Item = P> {
        self.places.iter().skip(row * self.width()).flatten().map(|near| near.peer)
    }

    pub(super) fn holds(&self, peer: P) -> bool {
        self.places.iter().flatten().any(|near| near.peer == peer)
    }

    /// Whether the place of a key is free.
    pub(super) fn misses(&self, key: &Key) -> bool {
        self.place(key).is_some_and(|place| self.places.get(place).is_none_or(Option::is_none))
    }

    /// Whether there are few enough of a peer's subnet, beside whoever has its place.
    fn fits(&self, place: usize, peer: P) -> bool {
        self.subnets.is_none_or(|limits| {
            let others = self.places.iter().enumerate().filter(|(at, _)| *at != place);
            let others = others.filter_map(|(at, near)| near.map(|near| (at / self.width(), near.peer)));
            let row = others.clone().filter(|(row, _)| *row == place / self.width());
            limits.admit(peer, others.map(|(_, peer)| peer), row.map(|(_, peer)| peer))
        })
    }

    /// Takes a peer in, where nobody is or somebody further away, and its round trip, if that was measured.
    pub(super) fn offer(&mut self, key: &Key, peer: P, rtt: Option<Duration>) {
        let Some(place) = self.place(key).filter(|place| self.fits(*place, peer)) else { return };
        if self.places.len() <= place {
            let rows = place / self.width() + 1;
            self.places.reserve_exact(rows * self.width() - self.places.len());
            self.places.resize(rows * self.width(), None);
        }
        let proximity = rtt.map_or(Proximity::UNKNOWN, Proximity::of);
        match &mut self.places[place] {
            Some(held) if held.peer == peer => {
                if let Some(rtt) = rtt {
                    held.proximity.sample(rtt);
                }
            }
            Some(held) if proximity >= held.proximity => {}
            place => *place = Some(Near { peer, proximity }),
        }
    }

    /// Leaves a peer out; says in which row it was.
    pub(super) fn remove(&mut self, peer: P) -> Option<usize> {
        let at = self.places.iter().position(|near| near.is_some_and(|near| near.peer == peer))?;
        self.places[at] = None;
        let row = at / self.width();
        let last = self.places.iter().rposition(Option::is_some).map_or(0, |last| last / self.width() + 1);
        self.places.truncate(last * self.width());
        Some(row)
    }

    pub(super) fn warm(&self) {
        prefetch(&self.places[..]);
    }
}

/// The neighbourhood set: the nearest peers whatever their keys (§2.1). At most 32.
#[derive(Clone, Debug)]
pub(super) struct Neighbours<P>(Vec<Near<P>>);

impl<P: Keyed> Neighbours<P> {
    pub(super) fn new() -> Neighbours<P> {
        Neighbours(Vec::new())
    }

    /// The nearest first.
    pub(super) fn peers(&self) -> impl ExactSizeIterator<Item = P> {
        self.0.iter().map(|near| near.peer)
    }

    /// Takes a peer in whose round trip was measured, if it is near enough.
    pub(super) fn offer(&mut self, peer: P, rtt: Duration) {
        let known = self.0.iter().position(|near| near.peer == peer).map(|at| self.0.remove(at));
        let mut proximity = known.map_or(Proximity::UNKNOWN, |near| near.proximity);
        proximity.sample(rtt);
        let at = self.0.partition_point(|other| other.proximity <= proximity);
        self.0.insert(at, Near { peer, proximity });
        self.0.truncate(NEIGHBOURS);
    }

    pub(super) fn remove(&mut self, peer: P) {
        self.0.retain(|near| near.peer != peer);
    }
}
