//! Lists of peers on the ring, as one node sees them.

use p2p_core::{Key, Keyed};

use super::Spot;

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
