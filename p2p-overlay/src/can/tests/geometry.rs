//! Zones on the torus: how they are cut, who abuts whom, how far it is.

use p2p_core::{Key, Rng, SimPeer, Wire};
use proptest::prelude::*;

use super::super::zones::{gaps, merge, volume};
use super::super::*;

#[test]
fn a_zone_travels_in_a_few_bytes() {
    let mut zone = Space::new(2).whole();
    (0..18).for_each(|_| zone = zone.split().unwrap().1);
    let msg = CanMsg::Reassign {
        claim: Claim { zone, version: 36 },
        neighbours: vec![(SimPeer(1), Claim { zone, version: 0 })],
    };
    let bytes = msg.to_bytes();
    let CanMsg::<SimPeer>::Reassign { claim, neighbours } = CanMsg::from_bytes(&bytes).unwrap() else {
        panic!()
    };
    assert_eq!((claim.zone, neighbours[0].1.zone), (zone, zone));
    // Version, kind, dimensions, halvings; then a path that is too long, or dimensions that are too many.
    assert_eq!(bytes[2..5], [2, 18, 3]);
    for (at, byte) in [(2, 9), (3, 65), (3, 8)] {
        let mut forged = bytes.clone();
        forged[at] = byte;
        assert!(CanMsg::<SimPeer>::from_bytes(&forged).is_err(), "byte {at} is {byte}");
    }
}

/// A CAN grown by random joins: each picks a point and halves the zone that holds it.
pub(in crate::can) fn grown(rng: &mut Rng, dimensions: u8, nodes: usize) -> Vec<Zone> {
    let space = Space::new(dimensions);
    let mut zones = vec![space.whole()];
    while zones.len() < nodes {
        let point = space.point(&rng.key());
        let at = zones.iter().position(|zone| zone.contains(&point)).unwrap();
        let (lower, upper) = zones.swap_remove(at).split().unwrap();
        zones.extend([lower, upper]);
    }
    zones
}

/// Greedy routing over the true neighbours: the hops to the owner.
fn route(zones: &[Zone], neighbours: &[Vec<usize>], mut at: usize, point: &Point) -> usize {
    let mut hops = 0;
    while !zones[at].contains(point) {
        at = *neighbours[at].iter().min_by_key(|&&n| zones[n].distance(point)).unwrap();
        hops += 1;
        assert!(hops < zones.len(), "greedy routing went in circles");
    }
    hops
}

#[test]
fn zones_tile_the_torus_and_neighbours_are_symmetric() {
    for dimensions in 1..=4 {
        let mut rng = Rng::new(dimensions.into());
        let zones = grown(&mut rng, dimensions, 200);
        let volume: f64 = zones.iter().map(|zone| 0.5f64.powi(zone.halvings().into())).sum();
        assert_eq!(volume, 1.0);
        for _ in 0..200 {
            let point = Space::new(dimensions).point(&rng.key());
            assert_eq!(zones.iter().filter(|zone| zone.contains(&point)).count(), 1);
        }
        for a in &zones {
            assert!(zones.iter().all(|b| a.is_neighbour(b) == b.is_neighbour(a)));
            assert!(!a.is_neighbour(a));
        }
    }
}

/// §2: a space cut into n equal zones has paths of (d/4)·n^(1/d) hops on average, and 2d neighbours each.
#[test]
fn paths_grow_with_the_dth_root() {
    for (dimensions, nodes, root) in [(2u8, 1024usize, 32.0), (3, 512, 8.0)] {
        let space = Space::new(dimensions);
        let mut zones = vec![space.whole()];
        while zones.len() < nodes {
            zones = zones.iter().flat_map(|zone| <[Zone; 2]>::from(zone.split().unwrap())).collect();
        }
        let near = |a: &Zone| (0..zones.len()).filter(|&b| a.is_neighbour(&zones[b])).collect::<Vec<_>>();
        let neighbours: Vec<Vec<usize>> = zones.iter().map(near).collect();
        assert!(neighbours.iter().all(|near| near.len() == 2 * usize::from(dimensions)));
        let mut rng = Rng::new(7);
        let lookups = 4000;
        let total: usize = (0..lookups)
            .map(|_| route(&zones, &neighbours, rng.index(nodes), &space.point(&rng.key())))
            .sum();
        let expected = f64::from(dimensions) / 4.0 * root;
        let mean = total as f64 / f64::from(lookups);
        assert!((mean / expected - 1.0).abs() < 0.05, "{mean} hops, {expected} expected");
    }
}

proptest! {
    /// Whatever is cut out of a zone, the rest and the hole are as large as the whole, and put together they are it.
    #[test]
    fn the_rest_and_the_hole_make_the_whole(
        dimensions in 1u8..=4, key: [u8; 32], depth in 0usize..40, more in 0usize..20
    ) {
        let space = Space::new(dimensions);
        let point = space.point(&Key::new(key));
        let down = |zone: Zone, steps| (0..steps).fold(zone, |zone: Zone, _| {
            let Some((lower, upper)) = zone.split() else { return zone };
            if lower.contains(&point) { lower } else { upper }
        });
        let whole = down(space.whole(), depth);
        let hole = down(whole, more);
        prop_assert!(whole.covers(&hole) && hole.overlaps(&whole));
        let claim = Claim { zone: whole, version: 5 };
        let mut claims: Vec<Claim> = claim.without(&hole).collect();
        prop_assert!(claims.iter().all(|part| !part.zone.overlaps(&hole)));
        claims.push(Claim { zone: hole, version: 5 });
        prop_assert_eq!(volume(&claims), whole.volume());
        merge(&mut claims);
        prop_assert_eq!(claims, [claim]);
    }

    /// Of a network without one node the neighbours of that one miss its zone, and nothing else; all others miss
    /// nothing.
    #[test]
    fn gaps_are_where_somebody_is_missing(
        dimensions in 1u8..=3, seed: u64, nodes in 2usize..40, missing: prop::sample::Index
    ) {
        let mut zones = grown(&mut Rng::new(seed), dimensions, nodes);
        let hole = zones.swap_remove(missing.index(nodes));
        for zone in &zones {
            let others: Vec<Zone> = zones.iter().filter(|other| *other != zone).copied().collect();
            let near: Vec<Zone> = others.iter().filter(|other| other.is_neighbour(zone)).copied().collect();
            let missed = gaps(&[Claim { zone: *zone, version: 0 }], &near);
            prop_assert_eq!(missed.is_empty(), !hole.is_neighbour(zone));
            let least = zone.halvings().min(hole.halvings());
            prop_assert!(missed.iter().all(|gap| gap.overlaps(&hole) && gap.halvings() >= least));
        }
    }

    #[test]
    fn a_split_is_undone_by_the_parent(dimensions in 1u8..=8, key: [u8; 32], turns in 1usize..100) {
        let space = Space::new(dimensions);
        let point = space.point(&Key::new(key));
        let mut zone = space.whole();
        for _ in 0..turns.min(32 * usize::from(dimensions)) {
            let (lower, upper) = zone.split().unwrap();
            prop_assert!(lower.contains(&point) != upper.contains(&point));
            // In one dimension the halves of the whole ring are both before and after each other.
            prop_assert_eq!(lower.sibling(), Some(upper));
            prop_assert_eq!(upper.sibling(), Some(lower));
            prop_assert_eq!(lower.parent(), Some((zone, false)));
            prop_assert_eq!(upper.parent(), Some((zone, true)));
            prop_assert!(lower.is_neighbour(&upper));
            zone = if lower.contains(&point) { lower } else { upper };
        }
        prop_assert_eq!(zone.distance(&point), 0);
    }
}
