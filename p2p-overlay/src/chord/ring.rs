//! Places on the ring, as one node sees them.

use std::cmp::Ordering;

use p2p_core::{Key, Keyed};

/// A peer and how far it is, clockwise, from the node that keeps it.
///
/// Of the distance it has the first eight bytes: a table is a third as large so, and a large network is as fast as the
/// tables are small. Where these are equal the peer's key decides, which costs a hash, and hardly ever happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Spot<P> {
    /// The beginning of the clockwise distance from the keeper.
    head: [u8; 8],
    /// Who stands there.
    pub(super) peer: P,
}

impl<P: Keyed> Spot<P> {
    /// Where a peer stands, seen from `keeper`.
    pub(super) fn new(keeper: &Key, peer: P) -> Spot<P> {
        Spot::at(&keeper.distance(&peer.key()), peer)
    }

    /// Where a peer stands whose distance is known.
    pub(super) fn at(offset: &Key, peer: P) -> Spot<P> {
        Spot { head: head(offset), peer }
    }

    /// The whole distance from the keeper.
    fn offset(&self, keeper: &Key) -> Key {
        keeper.distance(&self.peer.key())
    }

    /// Which of two is nearer to the keeper.
    #[inline]
    pub(super) fn order(&self, other: &Spot<P>, keeper: &Key) -> Ordering {
        match self.head.cmp(&other.head) {
            Ordering::Equal if self.peer == other.peer => Ordering::Equal,
            Ordering::Equal => self.offset(keeper).cmp(&other.offset(keeper)),
            decided => decided,
        }
    }

    /// Whether it is nearer to the keeper than another.
    #[inline]
    pub(super) fn is_before(&self, other: &Spot<P>, keeper: &Key) -> bool {
        self.order(other, keeper).is_lt()
    }

    /// Whether it is nearer to the keeper, at it, or further than this distance.
    #[inline]
    pub(super) fn order_to(&self, offset: &Key, keeper: &Key) -> Ordering {
        self.head.cmp(&head(offset)).then_with(|| self.offset(keeper).cmp(offset))
    }

    pub(super) fn warm(&self) -> u64 {
        u64::from_ne_bytes(self.head)
    }

    /// Whether it is the keeper itself.
    pub(super) fn is_keeper(&self, keeper: &Key) -> bool {
        self.order_to(&Key::ZERO, keeper).is_eq()
    }

    /// The largest e with 2^e not above the distance; `None` for the keeper itself.
    pub(super) fn ilog2(&self, keeper: &Key) -> Option<usize> {
        match u64::from_be_bytes(self.head).checked_ilog2() {
            Some(exponent) => Some(Key::<32>::BITS - 64 + exponent as usize),
            None => self.offset(keeper).ilog2(),
        }
    }
}

#[inline]
fn head(offset: &Key) -> [u8; 8] {
    let [a, b, c, d, e, f, g, h, ..] = *offset.as_bytes();
    [a, b, c, d, e, f, g, h]
}

/// Puts a list of peers together, the nearest first: `first`, then those that follow it in `then` for as long as
/// they go on clockwise. Where `known` has a peer already, its key is not computed again.
pub(super) fn list<P: Keyed>(
    keeper: &Key,
    first: Spot<P>,
    then: &[P],
    known: &[Spot<P>],
    most: usize,
) -> Vec<Spot<P>> {
    let mut list = Vec::with_capacity(most.min(then.len() + 1));
    list.push(first);
    let mut last = first;
    let then = follow(keeper, then, known).take_while(|spot| {
        // Otherwise the list has come around to this node, or is not one.
        std::mem::replace(&mut last, *spot).is_before(spot, keeper)
    });
    list.extend(then.take(most - 1));
    list
}

/// Those before `last`, the nearest first, for as long as they go on counterclockwise.
pub(super) fn list_before<P: Keyed>(
    keeper: &Key,
    last: Spot<P>,
    then: &[P],
    known: &[Spot<P>],
    most: usize,
) -> Vec<Spot<P>> {
    let mut last = last;
    let then = follow(keeper, then, known).take_while(|spot| {
        !spot.is_keeper(keeper) && spot.is_before(&std::mem::replace(&mut last, *spot), keeper)
    });
    then.take(most).collect()
}

fn follow<'a, P: Keyed>(
    keeper: &'a Key,
    peers: &'a [P],
    known: &'a [Spot<P>],
) -> impl Iterator<Item = Spot<P>> + 'a {
    peers.iter().map(|&peer| {
        let spot = known.iter().find(|spot| spot.peer == peer).copied();
        spot.unwrap_or_else(|| Spot::new(keeper, peer))
    })
}
