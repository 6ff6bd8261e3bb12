use proptest::prelude::*;

use super::*;
use p2p_core::Rng;

/// A CAN grown by random joins: each picks a point and halves the zone that holds it.
fn grown(rng: &mut Rng, dimensions: u8, nodes: usize) -> Vec<Zone> {
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
